//! What stands around the gate fails: files, the catalog, the clock.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use postern_e2e::gate::{http_get, policy};
use postern_e2e::postgres::{Server, ServerOptions};
use postern_e2e::process::library;
use postern_e2e::wire::{self, Format, Wire, error, rows};
use serde_json::Value;

use super::{FEW, MIB, SPEC, Stage, refusal, soon, told, wait_until};

fn rejected(stage: &Stage<'_>) -> Option<String> {
    let state: Value = serde_json::from_str(&http_get(stage.gate.admin_port(), "/ready").unwrap().1).unwrap();
    state["rejected_change"].as_str().map(str::to_owned)
}

#[test]
fn a_policy_file_replaced_by_rubbish_leaves_the_last_good_policy_in_force() {
    let stage = Stage::new();
    let mut open = stage.connect();
    let path = stage.gate.folder().join("policy.yaml");
    let good = fs::read_to_string(&path).unwrap();
    let half = &good[..good.len() / 2];
    let rubbish: [(&str, Vec<u8>); 8] = [
        ("nothing", Vec::new()),
        ("bytes", (0..=255).collect()),
        ("half of it", half.into()),
        ("another kind", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_vec()),
        ("a mistyped field", good.replace("masks:", "mask:").into()),
        ("an unknown mask", good.replace("redact", "redcat").into()),
        ("five megabytes", "# filler\n".repeat(600_000).into()),
        ("deep nesting", [b"a: ".as_slice(), &b"[".repeat(100_000)].concat()),
    ];
    let rejections = || stage.metric("postern_policy_reload_total{result=\"rejected\"}");
    for (what, bytes) in &rubbish {
        let before = rejections();
        fs::write(path.with_extension("new"), bytes).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        // Two looks, half a second apart, must see the same.
        wait_until(what, || rejections() == before + 1);
        assert!(rejected(&stage).is_some(), "{what}");
        stage.reads(&mut open);
        stage.reads(&mut stage.connect());
    }
    fs::remove_file(&path).unwrap();
    wait_until("the report of a missing file", || rejected(&stage).is_some_and(|why| why.contains("No such file")));
    stage.reads(&mut open);
    assert!(stage.gate.log().contains("a changed policy or identity was rejected; the last good one stays"));
    stage.gate.write_policy(&good.replace("redact: {}", "nullify: {}")).unwrap();
    wait_until("the good one", || rows(&open.simple("SELECT card FROM t WHERE a = 7").unwrap()) == [["∅"]]);
    assert_eq!(rejected(&stage), None);
    stage.gate.write_policy(&good).unwrap();
    wait_until("the first one", || rows(&open.simple("SELECT card FROM t WHERE a = 7").unwrap()) == [["********"]]);
    drop(open);
    stage.is_as_before(48 * MIB);
}

/// Prepares, under the names given.
fn prepare(wire: &mut Wire, statements: &[(&str, &str)]) {
    for (name, sql) in statements {
        wire.send(&[wire::parse(name, sql), wire::sync()].concat()).unwrap();
        let messages = wire.until_ready().unwrap();
        assert!(error(&messages).is_none(), "{sql}: {messages:?}");
    }
}

fn run(wire: &mut Wire, name: &str) -> Vec<wire::Message> {
    let frames =
        [wire::bind("", name, &[], Format::Text), wire::describe(b'P', ""), wire::execute("", 0), wire::sync()];
    wire.send(&frames.concat()).unwrap();
    wire.until_ready().unwrap()
}

/// As with the server: a statement that names its columns goes on. One whose columns were described to the client and are
/// others now fails; where the client has them described each time, it gets the new ones.
#[test]
fn a_column_added_under_a_prepared_statement_is_followed() {
    let stage = Stage::on(Server::shared().unwrap(), |options| options.arguments(["--catalog-refresh", "1s"]));
    let mut wire = stage.connect();
    let star = "SELECT * FROM t WHERE a = 7";
    prepare(&mut wire, &[("named", "SELECT a, card FROM t WHERE a = 7"), ("star", star), ("described", star)]);
    wire.send(&[wire::describe(b'S', "described"), wire::sync()].concat()).unwrap();
    wire.until_ready().unwrap();
    assert_eq!(rows(&run(&mut wire, "named")), [["7", "********"]]);
    for name in ["star", "described"] {
        assert_eq!(rows(&run(&mut wire, name)), [["7", "b7", "********"]]);
    }
    stage.server.psql(&stage.database, "ALTER TABLE t ADD COLUMN added int DEFAULT 1").unwrap();
    wait_until("the column", || error(&wire.simple("SELECT added FROM t LIMIT 1").unwrap()).is_none());
    assert_eq!(rows(&run(&mut wire, "named")), [["7", "********"]]);
    assert_eq!(rows(&run(&mut wire, "star")), [["7", "b7", "********", "1"]]);
    let (code, message) = told(&run(&mut wire, "described"));
    assert_eq!((code.as_str(), message.as_str()), ("0A000", "cached plan must not change result type"));
    prepare(&mut wire, &[("again", star)]);
    assert_eq!(rows(&run(&mut wire, "again")), [["7", "b7", "********", "1"]]);
    drop(wire);
    stage.is_as_before(FEW);
}

/// Until policy and catalog agree again, the relation is closed; at no moment is a raw value shown.
#[test]
fn a_masked_column_renamed_under_a_prepared_statement_closes_the_relation() {
    let stage = Stage::on(Server::shared().unwrap(), |options| options.arguments(["--catalog-refresh", "1s"]));
    let mut wire = stage.connect();
    prepare(&mut wire, &[("star", "SELECT * FROM t WHERE a = 7"), ("other", "SELECT a FROM t WHERE a = 7")]);
    assert_eq!(rows(&run(&mut wire, "star")), [["7", "b7", "********"]]);
    stage.server.psql(&stage.database, "ALTER TABLE t RENAME COLUMN card TO account").unwrap();
    let mut last = (String::new(), String::new());
    wait_until("a refusal", || {
        for name in ["star", "other"] {
            let frames = [wire::bind("", name, &[], Format::Text), wire::execute("", 0), wire::sync()];
            _ = wire.send(&frames.concat());
            // The server replans by name: the gate ends a session that would be shown the column before it knows of this.
            let is_over = wire.until_ready().is_err();
            let messages = std::mem::take(&mut wire.received);
            assert!(!format!("{messages:?}").contains("RAW-CARD"), "{messages:?}");
            if error(&messages).is_some() {
                last = told(&messages);
            }
            if is_over {
                assert_eq!(last.0, "42501", "{messages:?}");
                return true;
            }
        }
        last.0 == "42501"
    });
    drop(wire);
    let mut wire = stage.connect();
    let is_closed = |messages: &[wire::Message]| error(messages).is_some() && told(messages).0 == "42501";
    wait_until("the closed relation", || is_closed(&wire.simple("SELECT a FROM t").unwrap()));
    assert_eq!(told(&wire.simple("SELECT account FROM t").unwrap()).0, "42501");
    assert_ne!(stage.metric("postern_bind_problems"), 0);
    let state = http_get(stage.gate.admin_port(), "/ready").unwrap().1;
    assert!(state.contains("card"), "{state}");
    assert!(stage.gate.log().contains("a part of the policy does not fit the database"));
    let renamed = SPEC.replace("public.t.card", "public.t.account");
    stage.gate.write_policy(&policy(stage.server, &stage.database, &renamed)).unwrap();
    wait_until("the policy that fits", || {
        rows(&wire.simple("SELECT account FROM t WHERE a = 7").unwrap()) == [["********"]]
    });
    stage.server.psql(&stage.database, "ALTER TABLE t RENAME COLUMN account TO card").unwrap();
    stage.gate.write_policy(&policy(stage.server, &stage.database, SPEC)).unwrap();
    wait_until("the first state", || rows(&wire.simple("SELECT card FROM t WHERE a = 7").unwrap()) == [["********"]]);
    drop(wire);
    stage.is_as_before(FEW);
}

/// A session can't start unrecorded either.
#[test]
fn a_full_audit_refuses_new_sessions_until_there_is_room() {
    let stage = Stage::new();
    let path = stage.gate.folder().join("audit.jsonl");
    let away = stage.gate.folder().join("audit.1");
    fs::rename(&path, &away).unwrap();
    symlink("/dev/full", &path).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let began = Instant::now();
    let mut wire = stage.connect();
    let message = wire.until(b'E').unwrap().pop().unwrap().fields();
    assert_eq!((message[&'S'].as_str(), message[&'C'].as_str()), ("FATAL", "53100"));
    assert_eq!(message[&'M'], "the audit log can't be written, so there is no session");
    assert!(wire.read().is_err());
    assert!(began.elapsed() >= Duration::from_secs(4), "after {:?}", began.elapsed());
    assert_eq!(stage.metric("postern_audit_refusals_total"), 1);
    assert!(stage.gate.log().contains("the audit log can't be written"));
    fs::remove_file(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    stage.is_as_before(FEW);
}

/// Only what has to be in people's time goes by the wall clock: the audit's times and certificates' ends.
#[test]
fn a_clock_that_jumps_ends_no_session_and_gives_back_no_budget() {
    let server = Server::start(&ServerOptions { tls: true, ..ServerOptions::default() }).unwrap();
    let clock = std::env::temp_dir().join(format!("postern-clock-{}", std::process::id()));
    fs::write(&clock, "+0").unwrap();
    let ca = server.renew_certificate(Duration::from_secs(30 * 86_400)).unwrap();
    let stage = Stage::on(&server, |mut options| {
        options.policy = options
            .policy
            .replace("host: 127.0.0.1", "host: localhost")
            .replace("tls: {mode: Disable}", "tls: {mode: VerifyFull, caSecret: {name: authority, key: ca.crt}}")
            .replace("relations: ['public.*']}", "relations: ['public.*'], limits: {window: {every: 1h, rows: 60}}}");
        options
            .secret("authority", "ca.crt", &ca)
            .environment("LD_PRELOAD", &library("libfaketimeMT.so.1").unwrap())
            .environment("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
            .arguments(["--catalog-refresh", "1s"])
    });
    let mut wire = stage.connect();
    stage.reads(&mut wire);
    let time = |event: &Value| event["time"].as_str().unwrap().to_owned();
    for jump in ["+2d", "-3d", "+0"] {
        fs::write(&clock, jump).unwrap();
        soon(jump, || stage.reads(&mut wire));
        soon(jump, || stage.reads(&mut stage.connect()));
        std::thread::sleep(Duration::from_millis(1200));
        assert!((0..60).contains(&stage.metric("postern_catalog_age_seconds")), "{jump}");
    }
    let times: Vec<String> = stage.gate.audit().unwrap().iter().map(time).collect();
    assert!(!times.is_sorted(), "the audit tells the wall clock's time: {times:?}");
    // 60 rows an hour: the days that went by on the wall gave none back.
    let (code, message) = told(&wire.simple("SELECT a FROM t").unwrap());
    assert_eq!(code, "54000", "{message}");
    assert!(stage.metric("postern_window_rows_left") < 60);
    drop(wire);

    // By then the server's certificate has ended.
    fs::write(&clock, "+60d").unwrap();
    let refused = refusal(&stage);
    assert!(refused.contains("08001") && refused.contains("certificate expired"), "{refused}");
    fs::write(&clock, "+0").unwrap();
    assert_eq!(refusal(&stage), "it got in");
    fs::remove_file(&clock).unwrap();
}
