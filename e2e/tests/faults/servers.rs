//! The database fails.

use std::fs::File;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use postern_e2e::gate::http_get;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_e2e::process::Process;
use postern_e2e::wire::{self, Wire, error, query, rows};

use super::{FEW, Stage, ends_with, refusal, soon, told, wait_until};

/// One that keeps what it has said is stored, also when it is killed.
fn server() -> Server {
    let settings = vec![("synchronous_commit".into(), "on".into())];
    Server::start(&ServerOptions { settings, ..ServerOptions::default() }).unwrap()
}

/// Kills the process that serves this session, as the kernel does that runs out of memory; the server then restarts.
fn kill(server: &Server, backend: &str) {
    Process::new(backend.parse().unwrap()).signal("KILL").unwrap();
    wait_until("the server", || server.psql("postgres", "SELECT 1").is_ok());
}

fn backend(wire: &mut Wire) -> String {
    rows(&wire.simple("SELECT pg_backend_pid()").unwrap())[0][0].clone()
}

#[test]
fn a_server_killed_while_a_statement_runs_is_told_as_08006() {
    let server = server();
    let stage = Stage::on(&server, |options| options);
    let mut lock = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &stage.database).unwrap();
    lock.simple("BEGIN; LOCK TABLE t").unwrap();
    let mut wire = stage.connect();
    let process = backend(&mut wire);
    wire.send(&query("SELECT a FROM t")).unwrap();
    stage.wait_for_lock(&process);
    kill(&server, &process);
    let end = soon("the error", || ends_with(&mut wire));
    assert_eq!(end, ("08006".into(), "the database closed the connection".into()));
    wait_until("the end in the audit", || stage.ends().last().is_some_and(|reason| reason == "server_closed"));
    assert_eq!(stage.last_event("statement_end")["sqlstate"], "08006");
    stage.is_as_before(FEW);
}

/// In the middle of a row no message can be put: then the connection ends without one.
#[test]
fn a_server_killed_mid_result_or_mid_copy_out_ends_the_connection() {
    let server = server();
    let stage = Stage::on(&server, |options| options);
    let many = "SELECT n, repeat('x', 1000) FROM generate_series(1, 1000000) n";
    for sql in [many.to_owned(), format!("COPY ({many}) TO STDOUT")] {
        let mut wire = stage.connect();
        let process = backend(&mut wire);
        wire.send(&query(&sql)).unwrap();
        for _ in 0..1000 {
            assert_ne!(wire.read().unwrap().tag, b'E');
        }
        kill(&server, &process);
        soon("the end", || while wire.read().is_ok() {});
        let last = wire.received.last().unwrap();
        assert!(matches!(last.tag, b'D' | b'd') || last.sqlstate().as_deref() == Some("08006"), "{sql}: {last:?}");
        assert!(wire.received.iter().all(|message| message.tag != b'C' || message.body.starts_with(b"SELECT 1\0")));
        wait_until("the end in the audit", || stage.ends().last().is_some_and(|reason| reason == "server_closed"));
        assert_eq!(stage.last_event("statement_end")["sqlstate"], "08006");
        // It ends all of its sessions, and takes none until it has recovered.
        wait_until("the server", || server.psql(&stage.database, "SELECT 1").is_ok());
    }
    stage.is_as_before(FEW);
}

#[test]
fn a_server_killed_mid_copy_in_is_told_as_08006_and_nothing_is_stored() {
    let server = server();
    let stage = Stage::on(&server, |options| options);
    let mut wire = stage.connect();
    let process = backend(&mut wire);
    wire.send(&query("COPY t (a, b) FROM STDIN")).unwrap();
    wire.until(b'G').unwrap();
    let data = wire::frame(b'd', "1\tsome text\n".repeat(5000).as_bytes());
    wire.send(&data).unwrap();
    kill(&server, &process);
    // It goes on sending, as clients do that look for an answer at the end only.
    for _ in 0..50 {
        if wire.send(&data).is_err() {
            break;
        }
    }
    let end = soon("the error", || ends_with(&mut wire));
    assert_eq!(end, ("08006".into(), "the database closed the connection".into()));
    assert_eq!(server.psql(&stage.database, "SELECT count(*) FROM t").unwrap().trim(), "100");
    stage.is_as_before(FEW);
}

#[test]
fn a_restarted_server_ends_sessions_by_its_own_words_and_is_found_again() {
    let server = server();
    let stage = Stage::on(&server, |options| options);
    let mut idle = stage.connect();
    let mut block = stage.connect();
    block.simple("BEGIN; INSERT INTO t (a) VALUES (1000)").unwrap();
    server.halt("INT").unwrap();
    for wire in [&mut idle, &mut block] {
        let (code, message) = soon("the error", || ends_with(wire));
        assert_eq!((code.as_str(), message.contains("administrator command")), ("57P01", true), "{message}");
    }
    let refused = soon("the refusal", || refusal(&stage));
    assert!(refused.contains("08001") && refused.contains("the database can't be reached"), "{refused}");
    wait_until("the metric", || stage.metric("postern_upstream_reachable") == 0);
    let (status, body) = http_get(stage.gate.admin_port(), "/ready").unwrap();
    assert!(status == 200 && body.contains("\"upstream_reachable\": false"), "{status} {body}");
    wait_until("the log line", || stage.gate.log().contains("no connection to the database"));

    server.start_again().unwrap();
    let mut wire = stage.connect();
    stage.reads(&mut wire);
    assert_eq!(stage.metric("postern_upstream_reachable"), 1);
    assert_eq!(server.psql(&stage.database, "SELECT count(*) FROM t WHERE a = 1000").unwrap().trim(), "0");
    // The catalog is read again, too.
    server.psql(&stage.database, "CREATE TABLE made_since AS SELECT 1 AS one").unwrap();
    wait_until("the new table", || error(&wire.simple("TABLE made_since").unwrap()).is_none());
    drop(wire);
    stage.is_as_before(FEW);
}

/// A server that is on its way up says so itself.
#[test]
fn a_server_that_takes_no_sessions_is_quoted() {
    let server = Server::start(&ServerOptions {
        settings: vec![("max_connections".into(), "8".into()), ("superuser_reserved_connections".into(), "0".into())],
        ..ServerOptions::default()
    })
    .unwrap();
    let stage = Stage::on(&server, |options| options);
    let mut held = Vec::new();
    let refused = loop {
        match Wire::connect(stage.gate.port(), "anyone", "", &stage.database) {
            Ok(wire) => held.push(wire),
            Err(error) => break error.to_string(),
        }
        assert!(held.len() < 8);
    };
    assert!(refused.contains("53300") && refused.contains("too many clients already"), "{refused}");
    drop(held);
    stage.is_as_before(FEW);
}

/// Names by a file that a test can change, in the process that has this in its environment.
struct Names {
    file: std::path::PathBuf,
    changes: std::cell::Cell<u64>,
}

impl Names {
    fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("postern-hosts-{name}-{}", std::process::id()));
        Self { file, changes: std::cell::Cell::new(0) }
    }

    fn set(&self, lines: &str) {
        std::fs::write(&self.file, lines).unwrap();
        // It looks at whole seconds of the file's time.
        self.changes.set(self.changes.get() + 2);
        let time = SystemTime::now() + Duration::from_secs(self.changes.get());
        File::options().write(true).open(&self.file).unwrap().set_modified(time).unwrap();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.file);
    }
}

#[test]
fn a_name_with_another_address_is_followed_by_new_sessions_and_by_the_catalog() {
    let first = server();
    let second = Server::start(&ServerOptions {
        address: Ipv4Addr::new(127, 0, 0, 2),
        port: Some(first.port()),
        ..ServerOptions::default()
    })
    .unwrap();
    let names = Names::new("failover");
    names.set("127.0.0.1 database.test\n");
    let library = postern_e2e::process::library("libnss_wrapper.so").unwrap();
    let stage = Stage::on(&first, |mut options| {
        options.policy = options.policy.replace("host: 127.0.0.1", "host: database.test");
        options
            .environment("LD_PRELOAD", &library)
            .environment("NSS_WRAPPER_HOSTS", names.file.to_str().unwrap())
            .arguments(["--catalog-refresh", "1s"])
    });
    // Other oids, another order of columns, and a table that the first one lacks.
    second.psql("postgres", &format!("CREATE DATABASE {}", stage.database)).unwrap();
    second
        .psql(
            &stage.database,
            "CREATE TABLE of_the_second (one int);
             CREATE TABLE t (card text DEFAULT 'RAW-CARD', b text, a int);
             INSERT INTO t (a, b) SELECT n, 'second' FROM generate_series(1, 100) n;",
        )
        .unwrap();
    let whose = |wire: &mut Wire| rows(&wire.simple("SELECT b FROM t WHERE a = 7").unwrap())[0][0].clone();
    let mut old = stage.connect();
    assert_eq!(whose(&mut old), "b7");

    names.set("127.0.0.2 database.test\n");
    let mut new = stage.connect();
    assert_eq!((whose(&mut new).as_str(), whose(&mut old).as_str()), ("second", "b7"));
    stage.reads(&mut new);
    wait_until("the second server's catalog", || error(&new.simple("TABLE of_the_second").unwrap()).is_none());
    let seen = new.simple("SELECT * FROM t WHERE a = 7").unwrap();
    assert_eq!(rows(&seen), [["********", "second", "7"]]);
    drop((old, new));

    // The first address of a name is dead: the next one is tried.
    names.set("127.0.0.1 database.test\n127.0.0.2 database.test\n");
    first.halt("QUIT").unwrap();
    let mut wire = soon("the next address", || stage.connect());
    assert_eq!(whose(&mut wire), "second");
    drop(wire);

    names.set("127.0.0.3 another.test\n");
    let refused = refusal(&stage);
    assert!(refused.contains("08001") && refused.contains("can't be resolved"), "{refused}");
    names.set("127.0.0.1 database.test\n");
    first.start_again().unwrap();
    stage.is_as_before(FEW);
}

#[test]
fn a_certificate_that_expires_or_has_another_ca_refuses_new_sessions_until_it_is_good() {
    let server = Server::start(&ServerOptions { tls: true, ..ServerOptions::default() }).unwrap();
    let stage = Stage::on(&server, |mut options| {
        options.policy = options
            .policy
            .replace("host: 127.0.0.1", "host: localhost")
            .replace("tls: {mode: Disable}", "tls: {mode: VerifyFull, caSecret: {name: authority, key: ca.crt}}");
        options.secret("authority", "ca.crt", server.ca().unwrap())
    });
    let trust = |ca: &str| std::fs::write(stage.gate.folder().join("secrets/authority/ca.crt"), ca).unwrap();
    let mut open = stage.connect();

    let ca = server.renew_certificate(Duration::from_secs(3600)).unwrap();
    wait_until("the server's new certificate", || refusal(&stage).contains("invalid peer certificate"));
    let refused = refusal(&stage);
    assert!(refused.contains("08001") && refused.contains("TLS with the database failed"), "{refused}");
    trust(&ca);
    wait_until("the new CA", || refusal(&stage) == "it got in");

    trust(&server.renew_certificate(Duration::from_secs(2)).unwrap());
    wait_until("the certificate's end", || refusal(&stage).contains("certificate expired"));
    assert!(refusal(&stage).contains("08001"));
    // Who is in stays in.
    stage.reads(&mut open);
    drop(open);
    trust(&server.renew_certificate(Duration::from_secs(3600)).unwrap());
    wait_until("a good certificate", || refusal(&stage) == "it got in");
    stage.is_as_before(FEW);
}

/// A statement that the server fails by itself is no fault of the connection.
#[test]
fn a_session_that_the_server_cancels_goes_on() {
    let stage = Stage::new();
    let mut lock = Wire::connect(stage.server.port(), ADMIN, ADMIN_PASSWORD, &stage.database).unwrap();
    lock.simple("BEGIN; LOCK TABLE t").unwrap();
    let mut wire = stage.connect();
    let process = backend(&mut wire);
    wire.send(&query("SELECT a FROM t")).unwrap();
    stage.wait_for_lock(&process);
    stage.server.psql("postgres", &format!("SELECT pg_cancel_backend({process})")).unwrap();
    assert_eq!(told(&wire.until_ready().unwrap()).0, "57014");
    lock.simple("ROLLBACK").unwrap();
    stage.reads(&mut wire);
    drop(wire);
    stage.is_as_before(FEW);
}
