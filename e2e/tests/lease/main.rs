//! A sidecar under a lease, as in a pod: with a real API server, the operator's broker and a real database. The pod is
//! there in all but its processes, of which the sidecar runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod ci;
mod outages;
mod outside;
mod roles;
mod shop;

use std::fs;
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::operator::{Operator, SIDECAR_IMAGE};
use postern_e2e::postgres::{ADMIN_PASSWORD, Server, ServerOptions};
use serde_json::{Value, json};

use shop::{PATIENCE, end_of, shop, shop_at, sqlstate, wait_until};

#[test]
fn a_change_of_the_policy_acts_at_once_and_a_revoked_identity_ends_sessions() {
    let Some(shop) = shop("1h") else { return };
    let sidecar = shop.sidecar().started();
    let process = sidecar.guard.process().unwrap();
    let (all, own) = (process.resident().unwrap() >> 10, process.anonymous().unwrap() >> 10);
    println!("idle, it holds {all} KiB, of which {own} KiB are its own and no file's");
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    assert_eq!(sqlstate(&mut wire, "TABLE u").as_deref(), Some("42501"));
    assert!(sidecar.metric("postern_lease_seconds_left").unwrap() > 1000.0);

    let start = Instant::now();
    shop.policy(&["public.t", "public.u"], &shop.database);
    wait_until("the change", || sqlstate(&mut wire, "TABLE u").is_none());
    println!("a changed policy was in force {:?} after kubectl was started", start.elapsed());

    let start = Instant::now();
    shop.namespace.kubectl(&["delete", "nhi", "report", "--wait=false"]).unwrap();
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
    println!("a session of a revoked identity ended {:?} after kubectl was started", start.elapsed());
    let refusal = sidecar.refusal(&shop.database);
    assert!(refusal.contains("there is no right to this database"), "{refusal}");

    // The right comes back, and sessions with it; the process is the same.
    wait_until("the identity's end", || shop.namespace.kubectl(&["get", "nhi", "report"]).is_err());
    shop.identity("1h");
    wait_until("the right", || sidecar.connect(&shop.database).is_ok());
}

#[test]
fn another_database_ends_sessions_and_new_ones_are_there() {
    let Some(shop) = shop("1h") else { return };
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    let other = Server::shared().unwrap().database_with("CREATE TABLE t (b int)").unwrap();
    shop.policy(&["public.t"], &other.name);
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
    wait_until("the other database", || {
        sidecar.connect(&other.name).is_ok_and(|mut wire| sqlstate(&mut wire, "SELECT b FROM t").is_none())
    });
}

#[test]
fn no_event_is_lost_though_the_operator_is_away_and_the_sidecar_is_killed() {
    let Some(mut shop) = shop("1h") else { return };
    let mut first = shop.sidecar().started();
    let mut wire = first.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    // The one before is gone when the next one starts.
    let broker = shop.operator().broker();
    shop.operator = None;
    for number in 0..500 {
        assert_eq!(sqlstate(&mut wire, &format!("SELECT a, {number} FROM t")), None);
    }
    first.guard.process().unwrap().signal("KILL").unwrap();
    wait_until("the sidecar's end", || first.guard.ended());

    shop.operator = Some(Operator::start_again(shop.server, "postern-0", broker, SIDECAR_IMAGE).unwrap());
    let mut second = shop.sidecar().started();
    let mut wire = second.connect(&shop.database).unwrap();
    assert_eq!(sqlstate(&mut wire, "SELECT a, 500 FROM t"), None);
    drop(wire);
    assert_eq!(second.guard.stop().unwrap(), Some(0));

    // All that was answered was recorded; of the second one's events none is left at its end.
    let kept = shop.kept();
    let statements = kept.iter().filter(|event| event["event"] == "statement").count();
    assert!(statements >= 501, "{statements} of 501");
    assert!(kept.iter().all(|event| event["event"] != "gap"));
    let ends = kept.iter().filter(|event| event["event"] == "session_end").count();
    assert!(ends >= 1, "the second session's end");
    assert!(!fs::read_to_string(shop.folder.join("log")).unwrap().contains("\"event\":\"statement\""));
}

#[test]
fn a_spool_stops_statements_at_four_fifths_of_its_volume_until_the_broker_takes_the_audit_again() {
    let Some(shop) = shop("1h") else { return };
    let size: u64 = 4 << 20;
    let sidecar = shop.sidecar_with(&["--spool-size=4Mi"]).started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    // It hangs: as bad as one that is gone, and at the same address when it goes on.
    let operator = shop.operator().process().unwrap();
    operator.signal("STOP").unwrap();
    let long: Vec<_> =
        (0..100).map(|at| format!("a AS a_column_with_a_name_that_takes_room_in_the_spool_{at}")).collect();
    let long = long.join(", ");
    let used = || {
        let segments = fs::read_dir(shop.folder.join("spool")).unwrap().flatten();
        segments.filter_map(|segment| segment.metadata().ok()).map(|segment| segment.len()).sum::<u64>()
    };
    let mut answered = 0;
    let refused = loop {
        match sqlstate(&mut wire, &format!("SELECT {answered}, {long} FROM t")) {
            None => answered += 1,
            Some(code) => break code,
        }
        assert!(answered < 100_000, "nothing stops it, at {} bytes", used());
    };
    println!("{answered} statements were answered; then the spool had {} bytes of {size}", used());
    assert_eq!(refused, "53100");
    assert!(used() <= size / 5 * 4 && used() > size / 2, "{}", used());
    // The session lives on, and is refused as well at its next try.
    assert_eq!(sqlstate(&mut wire, &format!("SELECT -1, {long} FROM t")).as_deref(), Some("53100"));

    operator.signal("CONT").unwrap();
    wait_until("statements", || sqlstate(&mut wire, &format!("SELECT -2, {long} FROM t")).is_none());
    wait_until("the spool's end", || sidecar.metric("postern_audit_unsent") == Some(0.0));
    let kept = shop.kept();
    let texts = kept.iter().filter(|event| event["event"] == "statement").count();
    assert!(texts > answered, "{texts} of {answered} and one more");
    assert!(kept.iter().all(|event| event["event"] != "gap"));
    assert_eq!(sidecar.metric("postern_audit_lost_total"), Some(0.0));
}

#[test]
fn what_the_broker_does_not_take_before_the_end_is_printed() {
    let Some(mut shop) = shop("1h") else { return };
    let mut sidecar = shop.sidecar().started();
    shop.operator = None;
    // Who insists on TLS gets it.
    let mut psql = Server::shared().unwrap().program("psql");
    psql.args(["-X", "-A", "-t", "-w", "-U", "app", "-d", &shop.database, "-c", "SELECT a AS last_words FROM t"]);
    psql.env("PGHOST", "127.0.0.1").env("PGPORT", sidecar.port.to_string()).env("PGSSLMODE", "require");
    let output = psql.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1", "{}", String::from_utf8_lossy(&output.stderr));

    assert_eq!(sidecar.guard.stop().unwrap(), Some(0));
    let log = fs::read_to_string(shop.folder.join("log")).unwrap();
    let events: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["schema"] == "postern.audit/v1")
        .collect();
    let is_there = |kind: &str| events.iter().any(|event| event["event"] == kind);
    assert!(is_there("statement") && is_there("session_end"), "{log}");
    assert!(events.iter().all(|event| event["event"] != "session_start" || event["tls"] == true), "{log}");
    assert!(!log.contains(ADMIN_PASSWORD));
}

#[test]
#[ignore = "waits for the end of the shortest lease, a minute"]
fn without_an_operator_it_serves_to_the_end_of_the_lease_and_says_so_then() {
    let Some(mut shop) = shop("1m") else { return };
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect(&shop.database).unwrap();
    shop.operator = None;
    let start = Instant::now();
    while sidecar.metric("postern_lease_seconds_left").unwrap() > 1.0 {
        assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
        assert!(start.elapsed() < PATIENCE * 3);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(end_of(&mut wire).as_deref(), Some("57P01"));
    let refusal = sidecar.refusal(&shop.database);
    assert!(refusal.contains("lease has expired"), "{refusal}");
}

/// The gate itself is at the pod's loopback, which has IPv4 in any cluster.
#[test]
fn in_a_cluster_without_ipv4_a_sidecar_gets_its_lease_and_reaches_its_database() {
    let Some(shop) = shop_at("[::1]", "1h") else { return };
    let settings = vec![("listen_addresses".to_owned(), "::1".to_owned())];
    let hba = vec!["host all all ::1/128 scram-sha-256".to_owned()];
    let server = Server::start(&ServerOptions { settings, hba, ..ServerOptions::default() }).unwrap();
    server.psql("postgres", "CREATE TABLE t (a int)").unwrap();
    let rules =
        json!([{"name": "reads", "to": {"identities": ["report"]}, "allow": ["Select"], "relations": ["public.t"]}]);
    shop.policy_at(server.port(), "postgres", &json!({"secret": {"name": "db"}}), &json!({"rules": rules}));
    let sidecar = shop.sidecar().started();
    let mut wire = sidecar.connect("postgres").unwrap();
    assert_eq!(sqlstate(&mut wire, "TABLE t"), None);
    wait_until("the audit", || shop.kept().iter().any(|event| event["event"] == "statement"));
}
