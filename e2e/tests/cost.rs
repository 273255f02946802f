//! What sessions cost while they are idle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Server, ServerOptions};
use postern_e2e::wire::{Wire, error};

const RULES: &str = "rules: [{name: reads, to: {groups: [apps]}, allow: [Select], relations: [public.t]}]";
const SESSIONS: u64 = 150;

/// Sessions that have read a large result, and are idle.
fn open(gate: &Gate, database: &str, count: u64) -> Vec<Wire> {
    (0..count)
        .map(|_| {
            let mut wire = Wire::connect(gate.port(), "anyone", "", database).unwrap();
            assert!(error(&wire.simple("SELECT repeat('x', 100) FROM t").unwrap()).is_none());
            wire
        })
        .collect()
}

/// An unoptimised build of the gate needs more for each than an optimised one; what this holds is that buffers are
/// given back and nothing of the start-up stays.
#[test]
fn idle_sessions_take_little_memory() {
    for tls in [false, true] {
        let options = ServerOptions { tls, ..ServerOptions::default() };
        let server = Server::start(&options).unwrap();
        let database =
            server.database_with("CREATE TABLE t AS SELECT i FROM generate_series(1, 2000) i; ANALYZE").unwrap();
        let mut options = GateOptions::new(&server, &database.name, ADMIN, RULES);
        if tls {
            options.policy = options.policy.replace("{mode: Disable}", "{mode: Require}");
        }
        let gate = Gate::start(&options).unwrap();
        let process = gate.process().unwrap();
        drop(open(&gate, &database.name, 20));
        std::thread::sleep(Duration::from_millis(500));
        let before = process.resident().unwrap();
        let sessions = open(&gate, &database.name, SESSIONS);
        std::thread::sleep(Duration::from_secs(1));
        let each = process.resident().unwrap().saturating_sub(before) / SESSIONS;
        println!("upstream TLS {tls}: {} KiB for each idle session", each / 1024);
        assert!(each < 48 << 10, "{each} bytes for each idle session");
        drop(sessions);
    }
}
