//! Faults: of the server, of clients, of what surrounds the gate. Each test brings one about on a real server and a real
//! gate, holds what the client is told and what the operator can see, and then that nothing of it is left: the next
//! session works, no connection to the server and no descriptor stays, and memory was bounded all the while.
//!
//! `docs/faults.md` has a row for each; a test here holds that rows and tests are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod clients;
mod crowds;
mod garbage;
mod servers;
mod surroundings;
mod table;

use std::time::{Duration, Instant};

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Server};
use postern_e2e::process::Process;
use postern_e2e::wire::{Message, Wire, error, rows};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Faults of clients must not cost the gate more memory than this; what one session streams takes far less.
const FEW: u64 = 8 * MIB;

/// Nothing takes as long, on a machine however busy; what takes longer hangs.
const SOON: Duration = Duration::from_secs(90);

const SCHEMA: &str = "CREATE TABLE t (a int, b text, card text DEFAULT 'RAW-CARD'); INSERT INTO t SELECT n, 'b' || n FROM generate_series(1, 100) n;";

const SPEC: &str = "\
masks: [{columns: [public.t.card], mask: {redact: {}}}]
bulkExport: {action: Allow}
rules:
- {name: all, to: {groups: [apps]}, allow: [Select, Insert, Update, Delete, CopyIn, CopyOut, Temp], relations: ['public.*']}";

/// A gate before a database, both as they were before the fault.
#[derive(Debug)]
struct Stage<'a> {
    server: &'a Server,
    database: String,
    gate: Gate,
    process: Process,
    /// Bytes in memory, and open descriptors.
    before: (u64, usize),
}

impl Stage<'static> {
    /// On the shared server.
    fn new() -> Self {
        Self::on(Server::shared().unwrap(), |options| options)
    }
}

impl<'a> Stage<'a> {
    fn on(server: &'a Server, change: impl FnOnce(GateOptions) -> GateOptions) -> Self {
        let database = server.database_with(SCHEMA).unwrap().name;
        let gate = Gate::start(&change(GateOptions::new(server, &database, ADMIN, SPEC))).unwrap();
        let process = gate.process().unwrap();
        let mut stage = Self { server, database, gate, process, before: (0, 0) };
        // What a gate keeps from its first sessions on is no growth.
        for mut wire in [stage.connect(), stage.connect()] {
            stage.reads(&mut wire);
        }
        wait_until("the first sessions' end", || stage.upstream() == 0);
        stage.process.forget_peak().unwrap();
        stage.before = (stage.process.resident().unwrap(), stage.descriptors());
        stage
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.gate.port(), "anyone", "", &self.database).unwrap()
    }

    fn descriptors(&self) -> usize {
        self.process.descriptors().unwrap()
    }

    /// A session that works, masks and all.
    fn reads(&self, wire: &mut Wire) {
        assert_eq!(rows(&wire.simple("SELECT a, card FROM t WHERE a = 7").unwrap()), [["7", "********"]]);
    }

    /// The gate's connections to the server, the one for the catalog aside.
    fn upstream(&self) -> usize {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'postern/test/%'",
            self.database
        );
        self.server.psql("postgres", &sql).unwrap().trim().parse().unwrap()
    }

    /// Waits until the server's process that serves a session waits for a lock.
    fn wait_for_lock(&self, process: &str) {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process} AND wait_event_type = 'Lock'");
        wait_until("the wait for a lock", || self.server.psql("postgres", &sql).unwrap().trim() == "1");
    }

    fn metric(&self, name: &str) -> i64 {
        let metrics = self.gate.metrics().unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
    }

    /// Reasons why sessions ended, from the audit.
    fn ends(&self) -> Vec<String> {
        let events = self.gate.audit().unwrap();
        let ends = events.iter().filter(|event| event["event"] == "session_end");
        ends.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    }

    fn last_event(&self, kind: &str) -> Value {
        self.gate.audit().unwrap().into_iter().rfind(|event| event["event"] == kind).unwrap()
    }

    /// The fault is over: the next session works, nothing is left of it, and the gate never took more memory than this
    /// above what it had.
    fn is_as_before(&self, most: u64) {
        wait_until("a session that works", || {
            Wire::connect(self.gate.port(), "anyone", "", &self.database).is_ok_and(|mut wire| {
                self.reads(&mut wire);
                true
            })
        });
        wait_until("the end of all connections to the server", || self.upstream() == 0);
        wait_until("the end of all sessions", || self.metric("postern_sessions") == 0);
        // The catalog's connection may be between two.
        wait_until("the end of descriptors that are left over", || self.descriptors() == self.before.1);
        let grown = self.process.peak().unwrap().saturating_sub(self.before.0);
        assert!(grown <= most, "{} KiB more memory at the peak, {} may be", grown >> 10, most >> 10);
        assert_eq!(self.metric("postern_upstream_connections"), 0);
    }
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `work` gives, which must come soon.
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    assert!(began.elapsed() <= SOON, "{what} took {:?}", began.elapsed());
    done
}

/// SQLSTATE and message of the first error.
fn told(messages: &[Message]) -> (String, String) {
    let fields = error(messages).unwrap_or_else(|| panic!("no error among {messages:?}")).fields();
    (fields[&'C'].clone(), fields[&'M'].clone())
}

/// SQLSTATE and message of the error by which the connection ends.
fn ends_with(wire: &mut Wire) -> (String, String) {
    let messages = wire.until(b'E').unwrap();
    assert!(wire.read().is_err(), "it goes on");
    told(&messages[messages.len() - 1..])
}

/// What a client that can't get in is told: SQLSTATE and message.
fn refusal(stage: &Stage<'_>) -> String {
    match Wire::connect(stage.gate.port(), "anyone", "", &stage.database) {
        Ok(_) => "it got in".into(),
        Err(error) => error.to_string(),
    }
}
