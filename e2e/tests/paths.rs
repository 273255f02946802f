//! What a bare name means is decided under the `search_path` that the server will have, whatever became of the transaction
//! that set it: a function that no rule has does not run in place of one of its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Database, Server};
use postern_e2e::wire::{self, Format, Wire};

const SCHEMA: &str = "\
CREATE SCHEMA other;
CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS 'SELECT ''open''';
CREATE FUNCTION other.f() RETURNS text LANGUAGE sql AS 'SELECT ''RAW''';";

const SPEC: &str = "\
rules:
- {name: all, to: {groups: [apps]}, allow: [Select, Call, Temp], relations: [public.t], functions: [public.f]}";

/// A message, or several.
enum Sent {
    Query(&'static str),
    /// Statements of one batch, each parsed, bound and executed; `=name` binds and executes what is prepared.
    Batch(&'static [&'static str]),
    Prepare(&'static str, &'static str),
}

use Sent::{Batch, Prepare, Query};

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let run = |name: &str| [wire::bind("", name, &[], Format::Text), wire::execute("", 0)].concat();
        match self {
            Query(sql) => wire::query(sql),
            Prepare(name, sql) => [wire::parse(name, sql), wire::sync()].concat(),
            Batch(statements) => {
                let each = |sql: &&str| match sql.strip_prefix('=') {
                    Some(name) => run(name),
                    None => [wire::parse("", sql), run("")].concat(),
                };
                [statements.iter().flat_map(each).collect(), wire::sync()].concat()
            }
        }
    }
}

/// In the end the path is `other` in each of these, though it may have seemed to be `public`.
const CASES: [&[Sent]; 14] = [
    &[Query("BEGIN; SET LOCAL search_path = public; COMMIT; SELECT f()")],
    &[Query("BEGIN; SET search_path = public; ROLLBACK; SELECT f()")],
    &[Query("BEGIN; SAVEPOINT s; SET search_path = public; ROLLBACK TO s; SELECT f(); COMMIT")],
    &[Query("BEGIN"), Query("SET search_path = public"), Query("ROLLBACK; SELECT f()")],
    &[Query("BEGIN"), Query("SET LOCAL search_path = public"), Query("COMMIT AND CHAIN; SELECT f(); COMMIT")],
    &[Query("BEGIN"), Query("SET search_path = public"), Query("SELECT 1/0"), Query("COMMIT; SELECT f()")],
    &[
        Query("BEGIN"),
        Query("SAVEPOINT s"),
        Query("SET search_path = public"),
        Query("SELECT 1/0; SAVEPOINT s"),
        Query("ROLLBACK TO s; SELECT f(); COMMIT"),
    ],
    &[Query("BEGIN; SET search_path = public"), Query("SELECT 1/0"), Batch(&["COMMIT", "SELECT f()"])],
    &[
        Query("BEGIN; SET search_path = public"),
        Prepare("p", "SELECT f()"),
        Query("SELECT 1/0"),
        Batch(&["COMMIT", "=p"]),
    ],
    &[
        Query("BEGIN; SAVEPOINT s; SET search_path = public"),
        Batch(&["SELECT 1/0", "SAVEPOINT s"]),
        Batch(&["ROLLBACK TO s", "SELECT f()", "COMMIT"]),
    ],
    &[
        Query("BEGIN; SET search_path = public; COMMIT; PREPARE p AS SELECT f()"),
        Query("SET search_path = other; EXECUTE p"),
    ],
    &[Query("BEGIN; SET search_path = public; PREPARE p AS SELECT f()"), Query("ROLLBACK; EXECUTE p")],
    &[Query("BEGIN; SET search_path = public; PREPARE p AS SELECT f()"), Query("ROLLBACK; EXPLAIN ANALYZE EXECUTE p")],
    &[Query("SET search_path = public"), Prepare("p", "SELECT f()"), Batch(&["SET search_path = other", "=p"])],
];

/// All that came back. Messages are sent one by one, or all before an answer is read.
fn answers(wire: &mut Wire, case: &[Sent], at_once: bool) -> String {
    wire.simple("SET search_path = other").unwrap();
    let mut got = Vec::new();
    if at_once {
        wire.send(&case.iter().flat_map(Sent::bytes).collect::<Vec<u8>>()).unwrap();
        case.iter().for_each(|_| got.extend(wire.until_ready().unwrap()));
    } else {
        for sent in case {
            wire.send(&sent.bytes()).unwrap();
            got.extend(wire.until_ready().unwrap());
        }
    }
    format!("{got:?}")
}

fn stage() -> (&'static Server, Database, Gate) {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    (server, database, gate)
}

#[test]
fn a_function_is_decided_by_the_path_that_an_end_of_the_transaction_leaves() {
    let (server, database, gate) = stage();
    for (index, case) in CASES.iter().enumerate() {
        for at_once in [false, true] {
            let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
            let answer = answers(&mut direct, case, at_once);
            // EXPLAIN runs it without showing what it gives.
            assert!(answer.contains("RAW") || answer.contains("QUERY PLAN"), "case {index} tests nothing: {answer}");
            let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
            let answer = answers(&mut through, case, at_once);
            assert!(!answer.contains("RAW") && !answer.contains("QUERY PLAN"), "case {index}, {at_once}: {answer}");
            let refused = ["42501", "0A000", "25P02"].iter().any(|sqlstate| answer.contains(sqlstate));
            assert!(refused, "case {index}, {at_once}: {answer}");
        }
    }
}

#[test]
fn a_function_is_found_by_the_path_that_an_end_of_the_transaction_keeps() {
    let (_server, database, gate) = stage();
    let cases: [&[Sent]; 4] = [
        &[Query("BEGIN; SET search_path = public; COMMIT; SELECT f()")],
        &[Query("BEGIN; SET search_path = public"), Query("COMMIT; SELECT f()")],
        &[Query("BEGIN; SET search_path = public"), Batch(&["COMMIT", "SELECT f()"])],
        &[Query(
            "BEGIN; SET search_path = public; SAVEPOINT s; SET search_path = other; ROLLBACK TO s; SELECT f(); COMMIT",
        )],
    ];
    for (index, case) in cases.iter().enumerate() {
        for at_once in [false, true] {
            let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
            let answer = answers(&mut through, case, at_once);
            assert!(answer.contains("open"), "case {index}, {at_once}: {answer}");
        }
    }
}
