//! Clients fail, or ask for more than can be.

use std::time::Duration;

use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD};
use postern_e2e::wire::{self, Format, Wire, query, rows};

use super::{FEW, MIB, Stage, error, soon, told, wait_until};

#[test]
fn a_client_gone_mid_copy_in_stores_nothing() {
    let stage = Stage::new();
    let row = wire::frame(b'd', b"1\tsome text\n");
    // Between two messages, and in the middle of one; by simple and extended protocol.
    for cut in [0, 4, 9] {
        for extended in [false, true] {
            let mut client = stage.connect();
            let sql = "COPY t (a, b) FROM STDIN";
            if extended {
                let begin = [wire::parse("", sql), wire::bind("", "", &[], Format::Text), wire::execute("", 0)];
                client.send(&[begin.concat(), wire::flush()].concat()).unwrap();
            } else {
                client.send(&query(sql)).unwrap();
            }
            client.until(b'G').unwrap();
            client.send(&[row.repeat(1000), row[..cut].to_vec()].concat()).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            client.vanish();
        }
    }
    wait_until("the ends", || stage.ends().iter().filter(|reason| *reason == "client_gone").count() == 6);
    stage.is_as_before(FEW);
    assert_eq!(stage.server.psql(&stage.database, "SELECT count(*) FROM t").unwrap().trim(), "100");
}

#[test]
fn a_client_gone_mid_result_or_mid_copy_out_leaves_nothing_running() {
    let stage = Stage::new();
    // A function in FROM would be gone through whole, into files, before its first row.
    let many = "SELECT generate_series(1, 100000000), repeat('x', 1000)";
    for sql in [many.to_owned(), format!("COPY ({many}) TO STDOUT")] {
        let mut client = stage.connect();
        client.send(&query(&sql)).unwrap();
        for _ in 0..100 {
            client.read().unwrap();
        }
        client.vanish();
        wait_until("the statement's end", || stage.upstream() == 0);
    }
    stage.is_as_before(FEW);
}

/// 200 MB for a client that doesn't read: they stay with the server.
#[test]
fn a_slow_reader_costs_the_gate_no_memory() {
    let stage = Stage::new();
    let mut slow = stage.connect();
    slow.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)")).unwrap();
    let ask = format!(
        "SELECT wait_event FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'SELECT repeat%'",
        stage.database
    );
    wait_until("the server's wait", || stage.server.psql("postgres", &ask).unwrap().trim() == "ClientWrite");
    stage.reads(&mut stage.connect());
    assert_eq!(slow.until_ready().unwrap().len(), 200_000 + 3);
    drop(slow);
    stage.is_as_before(2 * MIB);
}

/// 64 MB for a server that doesn't read: they stay with the client.
#[test]
fn a_slow_server_costs_the_gate_no_memory() {
    let stage = Stage::new();
    stage
        .server
        .psql(
            &stage.database,
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
             CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .unwrap();
    wait_until("the catalog with the trigger", || {
        let mut wire = stage.connect();
        error(&wire.copy_in("COPY t (a, b) FROM STDIN", b"").unwrap()).is_none()
    });
    stage.process.forget_peak().unwrap();
    let mut lock = Wire::connect(stage.server.port(), ADMIN, ADMIN_PASSWORD, &stage.database).unwrap();
    lock.simple("SELECT pg_advisory_lock(4711)").unwrap();
    let mut wire = stage.connect();
    wire.send(&query("COPY t (a, b) FROM STDIN")).unwrap();
    wire.until(b'G').unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let data = wire::frame(b'd', "1\tsome text\n".repeat(1000).as_bytes());
            for _ in 0..(64 * MIB as usize / data.len()) {
                wire.send(&data).unwrap();
            }
            wire.send(&wire::frame(b'c', b"")).unwrap();
            wire.until_ready().unwrap()
        });
        std::thread::sleep(Duration::from_secs(1));
        assert!(!sender.is_finished());
        stage.reads(&mut stage.connect());
        lock.simple("SELECT pg_advisory_unlock(4711)").unwrap();
        assert!(error(&sender.join().unwrap()).is_none());
    });
    drop(wire);
    // The catalog with the trigger is in it.
    stage.is_as_before(4 * MIB);
}

#[test]
fn a_statement_over_16_mib_is_refused_and_the_session_goes_on() {
    let stage = Stage::new();
    let mut client = stage.connect();
    for mib in [16, 100] {
        let sql = format!("SELECT length('{}')", "x".repeat(mib << 20));
        let extended =
            [wire::parse("", &sql), wire::bind("", "", &[], Format::Text), wire::execute("", 0), wire::sync()];
        for bytes in [query(&sql), extended.concat()] {
            client.send(&bytes).unwrap();
            let messages = soon("the refusal", || client.until_ready().unwrap());
            let (code, message) = told(&messages);
            assert_eq!((code.as_str(), message.as_str()), ("54000", "a statement may be 16 MiB long at most"));
            assert!(error(&messages).unwrap().fields()[&'H'].contains("COPY"));
            stage.reads(&mut client);
        }
    }
    let denied = stage.last_event("statement");
    assert_ne!(denied["decision"], "deny", "the last one was a read");
    assert!(stage.gate.metrics().unwrap().contains("postern_denials_total{reason=\"bounds\"} 4\n"));
    // As parameters and by COPY there is no such bound.
    let value = "y".repeat(40 << 20);
    let answer = client.extended_with("SELECT length($1::text)", &[Some(value.as_bytes())], Format::Text).unwrap();
    assert_eq!(rows(&answer), [[value.len().to_string()]]);
    drop(client);
    stage.is_as_before(FEW);
}

/// Just under the bound, in one literal: the whole text is held once or twice, and no more.
#[test]
fn a_statement_of_15_mib_passes() {
    let stage = Stage::new();
    let mut client = stage.connect();
    let sql = format!("SELECT length('{}') FROM t WHERE a = 1", "x".repeat(15 << 20));
    let answer = soon("the answer", || client.simple(&sql).unwrap());
    assert_eq!(rows(&answer), [[(15 << 20).to_string()]]);
    drop(client);
    stage.is_as_before(256 * MIB);
}

/// Either it works, or it is refused as the server itself would: with 54001, and the session goes on.
#[test]
fn an_expression_10_000_deep_works_or_is_refused_within_memory() {
    let n = 10_000;
    let stage = Stage::new();
    let mut client = stage.connect();
    for (what, sql) in [
        ("parentheses", format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n))),
        ("terms", format!("SELECT 1{}", "+1".repeat(n))),
        ("conditions", format!("SELECT a FROM t WHERE a = 1{}", " OR a = 1 AND b <> ''".repeat(n))),
        ("NOT", format!("SELECT {}true", "NOT ".repeat(n))),
        ("functions", format!("SELECT {}1{}", "abs(".repeat(n), ")".repeat(n))),
        ("arrays", format!("SELECT {}1{}", "ARRAY[".repeat(n), "]".repeat(n))),
        ("CASE", format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n))),
        ("casts", format!("SELECT 1{}", "::int".repeat(n))),
        ("sub-selects", format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n))),
        ("derived tables", format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(n), ") x".repeat(n))),
        ("UNION", format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n))),
        ("joins", format!("SELECT 1 FROM t{}", " CROSS JOIN t t1".repeat(n))),
    ] {
        let answer = soon(what, || client.simple(&sql).unwrap());
        if error(&answer).is_some() {
            let (code, message) = told(&answer);
            assert!(matches!(code.as_str(), "54001" | "54000"), "{what}: {code} {message}");
        }
        stage.reads(&mut client);
    }
    drop(client);
    // What the parser may take of all sessions together (`--parse-memory`), and its trees.
    stage.is_as_before(320 * MIB);
}

/// A peer that vanished without a word is noticed by keepalive, on both sides: within two minutes when nothing is under
/// way. What was sent and isn't confirmed is given up by the system, as with any client and server of Postgres.
#[test]
fn a_half_open_connection_is_probed_on_both_sides() {
    let stage = Stage::new();
    let mut client = stage.connect();
    stage.reads(&mut client);
    // The client's connection, seen from the gate; the session's to the server, and the catalog's. One on which something
    // is under way is not among them.
    let mut timers = (Vec::new(), Vec::new());
    wait_until("the timers", || {
        timers = keepalive_timers(stage.gate.port(), stage.server.port());
        timers.0.len() == 1 && timers.1.len() >= 2
    });
    for left in timers.0.iter().chain(&timers.1) {
        assert!(*left <= 60.0, "a probe in {left} s: {timers:?}");
    }
    drop(client);
    stage.is_as_before(FEW);
}

/// In how many seconds probes are due: on connections that were accepted at one port, and on those made to the other
/// by who listens at the first.
fn keepalive_timers(accepted: u16, made: u16) -> (Vec<f64>, Vec<f64>) {
    let mut timers = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string("/proc/net/tcp").unwrap().lines().skip(1) {
        // slot local remote state queues timer:when …
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |end: &str| u16::from_str_radix(end.rsplit(':').next().unwrap(), 16).unwrap();
        let (timer, when) = fields[5].split_once(':').unwrap();
        let left = f64::from(u32::from_str_radix(when, 16).unwrap()) / 100.0;
        if fields[3] != "01" || timer != "02" {
            continue;
        }
        if port(fields[1]) == accepted {
            timers.0.push(left);
        } else if port(fields[2]) == made {
            timers.1.push(left);
        }
    }
    timers
}
