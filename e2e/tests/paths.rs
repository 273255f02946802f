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

/// As migration tools and REST servers send them. What the values say is decided as they are bound.
#[test]
fn set_config_by_parameters_is_decided_by_their_values() {
    let server = Server::shared().unwrap();
    let schema = "CREATE SCHEMA other; CREATE TABLE public.t AS SELECT 'public' AS v; CREATE TABLE other.t AS SELECT 'other' AS v;
        CREATE ROLE reads_less;";
    let database = server.database_with(schema).unwrap();
    let spec =
        "rules: [{name: all, to: {groups: [apps]}, allow: [Select, Temp], relations: ['*.*'], settings: ['app.*']}]";
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, spec)).unwrap();
    let mut wire = Wire::connect(gate.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let set = "SELECT set_config('search_path', $1, false)";
    let both = "SELECT set_config($1, $2, false), set_config($3, $4, false)";
    let mut answer = |sql: &str, values: &[&str], format: Format| {
        let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_bytes())).collect();
        let answer = wire.extended_with(sql, &values, format).unwrap();
        match wire::error(&answer) {
            Some(error) => error.sqlstate().unwrap(),
            None => wire::rows(&answer).into_iter().flatten().collect::<Vec<_>>().join(","),
        }
    };
    for (sql, values, expected) in [
        (set, &["other, public"] as &[&str], "other, public"),
        ("SELECT v FROM t", &[], "other"),
        (set, &["public"], "public"),
        ("SELECT v FROM t", &[], "public"),
        (set, &["\"unended"], "22023"),
        ("SELECT set_config($1, $2, true)", &["search_path", "other"], "other"),
        // LOCAL to a transaction of its own.
        ("SELECT v FROM t", &[], "public"),
        (both, &["app.tenant", "it's 7", "app.user", "a\\b"], "it's 7,a\\b"),
        ("SELECT current_setting('app.tenant')", &[], "it's 7"),
        (both, &["app.tenant", "8", "other.setting", "9"], "42501"),
        (both, &["app.tenant", "8", "role", "reads_less"], "42501"),
        (both, &["APP.tenant", "8", "session_authorization", "reads_less"], "42501"),
        (both, &["app.tenant", "8", "standard_conforming_strings", "off"], "22023"),
        ("SELECT set_config($1, $2, $3::text::bool)", &["app.tenant", "8", "true"], "8"),
        ("SELECT set_config($1::text, $2::varchar, false)", &["app.tenant", "10"], "10"),
        ("SELECT set_config($1::int::text, $2, false)", &["1", "10"], "42501"),
        // Not by itself.
        ("SELECT set_config($1, v, false) FROM t", &["app.tenant"], "42501"),
        ("SELECT set_config($1, $2, false) FROM t", &["role", "reads_less"], "42501"),
        ("SELECT (SELECT set_config($1, $2, false))", &["role", "reads_less"], "42501"),
        ("SELECT current_setting('app.tenant')", &[], "10"),
        ("SHOW search_path", &[], "public"),
        ("SELECT current_user", &[], ADMIN),
    ] {
        assert_eq!(answer(sql, values, Format::Text), expected, "{sql} {values:?}");
    }
    let prepared = "PREPARE p (text, text) AS SELECT set_config($1, $2, false)";
    assert_eq!(wire.simple(prepared).as_deref().ok().and_then(wire::error).unwrap().sqlstate().unwrap(), "42501");
    // What was prepared by the protocol is not run by SQL.
    wire.send(&[wire::parse("s", "SELECT set_config($1, $2, false)"), wire::sync()].concat()).unwrap();
    wire.until_ready().unwrap();
    let run = wire.simple("EXECUTE s ('role', 'reads_less')").unwrap();
    assert!(wire::error(&run).is_some(), "{run:?}");
    // In one batch what comes after is decided under the new path.
    let batch = [
        wire::parse("", set),
        wire::bind("", "", &[Some(b"other")], Format::Text),
        wire::execute("", 0),
        wire::parse("", "SELECT v FROM t"),
        wire::bind("", "", &[], Format::Text),
        wire::execute("", 0),
        wire::sync(),
    ];
    wire.send(&batch.concat()).unwrap();
    let rows = wire::rows(&wire.until_ready().unwrap());
    assert_eq!(rows, [["other"], ["other"]]);
}

/// By the wrong path a function of the same name as a built-in one is left as written, and is not the one that was decided.
#[test]
fn the_path_that_is_followed_is_the_servers_whatever_a_value_is_cast_to_and_however_a_portal_is_run() {
    let server = Server::shared().unwrap();
    let schema = "CREATE SCHEMA z; CREATE TABLE z.t AS SELECT 'z' AS v; CREATE TABLE public.t AS SELECT 'public' AS v;
        CREATE FUNCTION public.abs(text) RETURNS text LANGUAGE sql AS $$SELECT 'RAW'$$;";
    let database = server.database_with(schema).unwrap();
    let spec = "rules: [{name: all, to: {groups: [apps]}, allow: [Select, Temp], relations: ['*.*']}]";
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, spec)).unwrap();
    let connect = || Wire::connect(gate.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let told = |wire: &mut Wire| {
        let answer = wire.simple("SELECT abs('5')").unwrap();
        assert!(!wire::rows(&answer).iter().flatten().any(|cell| cell == "RAW"), "{answer:?}");
    };
    for sql in [
        "SELECT set_config('search_path', 'public_zz'::varchar(6), false)",
        "SELECT set_config('search_path', '2200'::regnamespace::text, false)",
        "SELECT set_config('default_transaction_isolation', 'serializable_x'::varchar(12), false)",
    ] {
        let mut wire = connect();
        wire.simple("SET search_path = z").unwrap();
        wire.simple(sql).unwrap();
        told(&mut wire);
    }
    for (sql, values) in [
        ("SELECT set_config('search_path', $1::varchar(6), false)", &["public_zz"] as &[&str]),
        ("SELECT set_config($1, $2::varchar(6), $3)", &["search_path", "public_zz", "f"]),
        ("SELECT $1::regnamespace, set_config('search_path', $1::text, false)", &["2200"]),
        ("SELECT $1::jsonb, set_config('search_path', $1::text, false)", &["\"\\u0070ublic\""]),
    ] {
        let mut wire = connect();
        wire.simple("SET search_path = z").unwrap();
        let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_bytes())).collect();
        wire.extended_with(sql, &values, Format::Text).unwrap();
        told(&mut wire);
    }
    let prepare = |value: &[u8]| {
        let set = "SELECT set_config('search_path', $1, false)";
        [wire::parse("a", set), wire::bind("p", "a", &[Some(value)], Format::Text)].concat()
    };
    // Run again it sets nothing.
    let mut wire = connect();
    wire.simple("BEGIN; SET search_path = public").unwrap();
    wire.send(&[prepare(b"z"), wire::execute("p", 0), wire::sync()].concat()).unwrap();
    wire.until_ready().unwrap();
    wire.simple("SET search_path = public").unwrap();
    wire.send(&[wire::execute("p", 0), wire::sync()].concat()).unwrap();
    wire.until_ready().unwrap();
    told(&mut wire);
    // Run for one row it has set.
    let mut wire = connect();
    wire.simple("SET search_path = z").unwrap();
    wire.send(&[prepare(b"public"), wire::execute("p", 1), wire::sync()].concat()).unwrap();
    let answer = wire.until_ready().unwrap();
    assert_eq!(wire::rows(&answer), [["public"]]);
    told(&mut wire);
}
