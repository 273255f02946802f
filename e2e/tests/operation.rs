//! Operating a sidecar: files that change, an audit that fills its disk, probes, metrics, the drain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postern_e2e::gate::{Gate, GateOptions, http_get, policy, sidecar};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{self, Wire, error, rows};
use serde_json::Value;

const RULES: &str = "rules: [{name: reads, to: {groups: [apps]}, allow: [Select], relations: [public.t]}]";

fn connect(gate: &Gate, database: &str) -> Wire {
    Wire::connect(gate.port(), "anyone", "", database).unwrap()
}

fn sqlstate(wire: &mut Wire, sql: &str) -> Option<String> {
    error(&wire.simple(sql).unwrap()).and_then(wire::Message::sqlstate)
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn state(gate: &Gate) -> Value {
    serde_json::from_str(&http_get(gate.admin_port(), "/ready").unwrap().1).unwrap()
}

#[test]
fn a_valid_change_of_the_policy_reaches_open_sessions_and_an_invalid_one_reaches_nobody() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int); CREATE TABLE u (a int)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, RULES)).unwrap();
    let mut wire = connect(&gate, &database.name);
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    assert_eq!(sqlstate(&mut wire, "TABLE u").as_deref(), Some("42501"));

    gate.write_policy(&policy(server, &database.name, &RULES.replace("public.t", "public.u"))).unwrap();
    wait_until("the change", || sqlstate(&mut wire, "TABLE u").is_none());
    assert_eq!(sqlstate(&mut wire, "TABLE t").as_deref(), Some("42501"));

    gate.write_policy(&policy(server, &database.name, &RULES.replace("allow:", "alow:"))).unwrap();
    wait_until("the report", || state(&gate)["rejected_change"].as_str().is_some_and(|why| why.contains("alow")));
    assert_eq!(sqlstate(&mut wire, "TABLE u"), None);
    assert!(gate.metrics().unwrap().contains("postern_policy_reload_total{result=\"rejected\"} 1\n"));

    // Another database is no change that open sessions could follow.
    gate.write_policy(&policy(server, "another", RULES)).unwrap();
    wait_until("the report", || state(&gate)["rejected_change"].as_str().is_some_and(|why| why.contains("restart")));
    assert_eq!(sqlstate(&mut wire, "TABLE u"), None);

    gate.write_policy(&policy(server, &database.name, RULES)).unwrap();
    wait_until("the change", || sqlstate(&mut wire, "TABLE t").is_none());
    assert!(state(&gate)["rejected_change"].is_null());
}

#[test]
fn a_changed_secret_is_used_by_new_sessions() {
    let server = Server::shared().unwrap();
    let database = server
        .database_with("CREATE ROLE rotating LOGIN PASSWORD 'one' IN ROLE pg_read_all_data; CREATE TABLE t (a int)")
        .unwrap();
    let mut options = GateOptions::new(server, &database.name, "rotating", RULES);
    options.secrets =
        vec![("db".into(), "username".into(), "rotating".into()), ("db".into(), "password".into(), "one\n".into())];
    let gate = Gate::start(&options).unwrap();
    assert_eq!(sqlstate(&mut connect(&gate, &database.name), "TABLE t"), None);

    server.psql(&database.name, "ALTER ROLE rotating PASSWORD 'two'").unwrap();
    assert!(Wire::connect(gate.port(), "anyone", "", &database.name).is_err());
    fs::write(gate.folder().join("secrets/db/password"), "two\n").unwrap();
    wait_until("the new password", || Wire::connect(gate.port(), "anyone", "", &database.name).is_ok());
    let told = format!("{}{:?}{}", gate.log(), gate.audit().unwrap(), gate.metrics().unwrap());
    assert!(!told.contains("\"two\"") && !told.contains(ADMIN_PASSWORD));
}

#[test]
fn events_tell_a_sessions_story_in_order_and_say_what_the_policy_lets_them() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 3)").unwrap();
    let spec = format!("{RULES}\nrecording: {{statements: Normalized, parameters: Hash}}");
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, &spec)).unwrap();
    let mut wire = connect(&gate, &database.name);
    assert_eq!(rows(&wire.simple("SELECT a FROM t WHERE a > 1 AND 'secret-literal' <> ''").unwrap()).len(), 2);
    assert_eq!(sqlstate(&mut wire, "DELETE FROM t").as_deref(), Some("42501"));
    wire.extended_with(
        "SELECT a FROM t WHERE a = $1::int AND $2::text <> ''",
        &[Some(b"1"), Some(b"secret-value")],
        wire::Format::Text,
    )
    .unwrap();
    drop(wire);
    wait_until("the end of the session", || {
        gate.audit().unwrap().last().is_some_and(|event| event["event"] == "session_end")
    });
    let events = gate.audit().unwrap();
    let session = &events[0]["session"];
    for (at, event) in events.iter().enumerate() {
        assert_eq!((&event["session"], event["sequence"].as_u64()), (session, Some(at as u64 + 1)), "{event:#}");
    }
    assert_eq!((&events[0]["event"], &events[0]["identity"]), (&"session_start".into(), &"test/app".into()));
    let statements: Vec<&Value> = events.iter().filter(|event| event["event"] == "statement").collect();
    assert_eq!(statements[0]["decision"], "allow");
    assert_eq!((&statements[0]["rule"], &statements[0]["verbs"][0]), (&"reads".into(), &"Select".into()));
    assert_eq!(statements[0]["relations"][0], "public.t");
    let end = events.iter().find(|event| event["event"] == "statement_end").unwrap();
    assert_eq!((&end["statement"], &end["rows"]), (&statements[0]["statement"], &2.into()));
    assert_eq!((&statements[1]["decision"], &statements[1]["reason"]), (&"deny".into(), &"no_rule".into()));
    let last = statements.last().unwrap();
    assert!(last["parameters"][1]["hash"].as_str().is_some_and(|hash| hash.len() == 32), "{last:#}");
    assert_eq!(events.last().unwrap()["rows"], 3);
    let text = format!("{events:?}");
    assert!(!text.contains("secret-literal") && !text.contains("secret-value"));
}

#[test]
fn a_session_that_is_refused_at_its_start_is_in_the_audit() {
    let server = Server::shared().unwrap();
    let database = server.database_with("").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, RULES)).unwrap();
    assert!(Wire::connect(gate.port(), "anyone", "", "another").is_err());
    wait_until("the event", || !gate.audit().unwrap().is_empty());
    let events = gate.audit().unwrap();
    let event = &events[0];
    assert_eq!((events.len(), &event["event"], &event["identity"]), (1, &"session_refused".into(), &"test/app".into()));
    let told = (&event["sqlstate"], &event["error"]);
    assert_eq!(told, (&"3D000".into(), &r#"database "another" is not available here"#.into()));
}

#[test]
fn a_rotated_audit_is_followed_and_a_full_one_refuses_statements_until_there_is_room() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, RULES)).unwrap();
    let mut wire = connect(&gate, &database.name);
    let path = gate.folder().join("audit.jsonl");

    fs::rename(&path, gate.folder().join("audit.1")).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    assert_eq!(gate.audit().unwrap()[0]["event"], "statement");

    // A disk that is full, as a file that takes nothing.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let begun = Instant::now();
    assert_eq!(sqlstate(&mut wire, "TABLE t").as_deref(), Some("53100"));
    assert!(begun.elapsed() >= Duration::from_secs(4), "it was not waited for");
    assert!(gate.metrics().unwrap().contains("postern_audit_refusals_total 1\n"));

    fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    assert!(gate.audit().unwrap().iter().any(|event| event["event"] == "statement" && event["decision"] == "allow"));
}

/// `ulimit -f` lets a file grow to a size and no further: a line is cut in the middle, as on a full disk.
#[test]
fn lines_are_whole_when_the_disk_fills_in_the_middle_of_one() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, RULES)).unwrap();
    let folder = gate.folder();
    let file = |name: &str| folder.join(name).display().to_string();
    let port = postern_e2e::free_port().unwrap();
    let mut second = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 8; exec \"$@\"")
        .arg("sh")
        .arg(sidecar().unwrap())
        .args(["run", "--policy", &file("policy.yaml"), "--identity", &file("identities.yaml"), "--as", "app"])
        .args(["--secrets-dir", &file("secrets"), "--listen", &format!("127.0.0.1:{port}")])
        .args(["--audit", &format!("file:{}", file("small.jsonl")), "--drain-timeout", "1s"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the gate", || Wire::connect(port, "anyone", "", &database.name).is_ok());
    let mut wire = Wire::connect(port, "anyone", "", &database.name).unwrap();
    let mut refused = None;
    for _ in 0..100 {
        refused = sqlstate(&mut wire, "TABLE t");
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused.as_deref(), Some("53100"));
    let text = fs::read_to_string(folder.join("small.jsonl")).unwrap();
    assert!(text.len() > 2048 && text.ends_with('\n'));
    for line in text.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn a_drain_lets_statements_finish_and_ends_sessions_with_57p01() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let options = GateOptions::new(server, &database.name, ADMIN, RULES).arguments(["--drain-timeout", "5s"]);
    let gate = Gate::start(&options).unwrap();
    let mut idle = connect(&gate, &database.name);
    let mut busy = connect(&gate, &database.name);
    busy.send(&wire::query(
        "SELECT count(*), pg_catalog.sum(length(repeat('x', 1000))) FROM generate_series(1, 3000000)",
    ))
    .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // The folder goes as the gate stops.
    let mut audit = fs::File::open(gate.folder().join("audit.jsonl")).unwrap();
    let (status, messages, ended) = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| gate.stop().unwrap());
        let ended = idle.until(b'E').unwrap();
        let messages = busy.until_ready().unwrap();
        (stopped.join().unwrap(), messages, ended)
    });
    assert_eq!(ended.last().unwrap().sqlstate().as_deref(), Some("57P01"));
    assert!(error(&messages).is_none(), "{messages:?}");
    assert_eq!(status, Some(0));
    let mut text = String::new();
    audit.read_to_string(&mut text).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let reasons: Vec<_> = events.filter(|e| e["event"] == "session_end").map(|e| e["reason"].clone()).collect();
    assert_eq!(reasons, ["drained", "drained"]);
}

#[test]
fn what_runs_past_the_drain_is_ended() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let options = GateOptions::new(server, &database.name, ADMIN, RULES).arguments(["--drain-timeout", "300ms"]);
    let gate = Gate::start(&options).unwrap();
    let mut busy = connect(&gate, &database.name);
    busy.simple("BEGIN").unwrap();
    assert_eq!(gate.stop().unwrap(), Some(0));
    assert_eq!(busy.until(b'E').unwrap().last().unwrap().sqlstate().as_deref(), Some("57P01"));
}

#[test]
fn metrics_count_what_was_decided_and_delivered() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 3)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, RULES)).unwrap();
    let mut wire = connect(&gate, &database.name);
    wire.simple("TABLE t").unwrap();
    wire.simple("TABLE t").unwrap();
    wire.simple("DELETE FROM t").unwrap();
    let metrics = gate.metrics().unwrap();
    for line in [
        "postern_statements_total{decision=\"allow\",policy=\"test/test\",verb=\"Select\"} 2",
        "postern_statements_total{decision=\"deny\",policy=\"test/test\",verb=\"Delete\"} 1",
        "postern_denials_total{reason=\"no_rule\"} 1",
        "postern_rows_delivered_total 6",
        "postern_decision_cache_hits_total 1",
        "postern_sessions 1",
        "postern_sessions_total 1",
        "postern_upstream_reachable 1",
        "postern_bind_problems 0",
        "postern_audit_queue_bytes 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

#[test]
fn a_sidecar_waits_for_its_database_and_says_so() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, RULES)).unwrap();
    // A second one, whose database's port nobody listens on yet.
    let folder = gate.folder();
    let file = |name: &str| folder.join(name).display().to_string();
    let (port, admin, nowhere) =
        (postern_e2e::free_port().unwrap(), postern_e2e::free_port().unwrap(), postern_e2e::free_port().unwrap());
    let text = fs::read_to_string(folder.join("policy.yaml")).unwrap();
    let elsewhere = text.replace(&format!("port: {}", server.port()), &format!("port: {nowhere}"));
    fs::write(folder.join("elsewhere.yaml"), elsewhere).unwrap();
    let mut second = Command::new(sidecar().unwrap())
        .args(["run", "--policy", &file("elsewhere.yaml"), "--identity", &file("identities.yaml"), "--as", "app"])
        .args(["--secrets-dir", &file("secrets"), "--listen", &format!("127.0.0.1:{port}")])
        .args(["--admin", &format!("127.0.0.1:{admin}"), "--audit", &format!("file:{}", file("second.jsonl"))])
        .stderr(fs::File::create(folder.join("second.log")).unwrap())
        .spawn()
        .unwrap();
    wait_until("the probe", || http_get(admin, "/startup").is_ok_and(|(status, _)| status == 503));
    assert_eq!(http_get(admin, "/live").unwrap().0, 200);
    wait_until("the log line", || fs::read_to_string(folder.join("second.log")).unwrap().contains("can't be reached"));
    second.kill().unwrap();
    second.wait().unwrap();
}
