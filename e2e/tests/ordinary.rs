//! What ordinary programs send works under an ordinary policy, with masks, a hidden column and row filters: each answer
//! is that of a second database that holds only what the policy shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fmt::Write as _;

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{self, Format, Message, Wire};

const SCHEMA: &str = include_str!("../corpus/ordinary.schema.sql");
const STATEMENTS: &str = include_str!("../corpus/ordinary.sql");

const TYPICAL: &str = r#"
mode: Enforce
masks:
- {columns: [public.customers.card_number], mask: {partial: {keepLast: 4}}}
- {columns: ["*.*.email"], mask: {email: {}}}
- {columns: [public.widths.code], mask: {redact: {}}}
- {columns: [public.widths.short], mask: {fixed: {value: xx}}}
- {columns: [public.widths.flags, public.widths.more], mask: {nullify: {}}}
- {columns: [public.widths.active], mask: {default: {}}}
rules:
- name: shop
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Truncate, CopyIn, CopyOut, Temp, Ddl, Lock, Notify]
  relations: ["public.*", "app.*"]
  channels: [news, "job_*"]
  hideColumns: [public.customers.ssn]
  rowFilters:
  - {relation: public.orders, where: "region = 'eu'"}
  - {relation: public.posts, where: "deleted_at IS NULL"}
  - {relation: public.pages, where: "region = 'eu'"}
bulkExport: {action: Allow}
"#;

/// What a program sees of the answer: all but where columns come from and where in the server's code an error was raised.
fn seen(messages: &[Message]) -> Vec<String> {
    let shown = |message: &Message| match message.tag {
        b'T' => format!("columns {:?}", message.column_names()),
        b'E' => format!("error {:?}", message.sqlstate()),
        b'A' => format!("notification {}", message.body[4..].escape_ascii()),
        _ => format!("{message:?}"),
    };
    messages.iter().filter(|message| message.tag != b'N').map(shown).collect()
}

fn differences(extended: bool) -> String {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let twin = server.database_with(SCHEMA).unwrap();
    for line in SCHEMA.lines().filter_map(|line| line.strip_prefix("-- twin: ")) {
        server.psql(&twin.name, line).unwrap();
    }
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, TYPICAL)).unwrap();
    let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &twin.name).unwrap();
    let mut failures = String::new();
    let statements = STATEMENTS.lines().filter(|line| !line.is_empty() && !line.starts_with("--"));
    for sql in statements {
        let is_several = sql.trim_end_matches(';').contains("; ");
        let send = |wire: &mut Wire| match extended && !is_several {
            true => wire.extended(sql, Format::Text).unwrap(),
            false => wire.simple(sql).unwrap(),
        };
        let (expected, got) = (seen(&send(&mut direct)), seen(&send(&mut through)));
        if expected != got {
            writeln!(failures, "{sql}\n  expected {expected:#?}\n  got {got:#?}").unwrap();
        }
    }
    failures
}

#[test]
fn ordinary_statements_see_the_database_that_the_policy_shows() {
    let failures = differences(false);
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn prepared_ordinary_statements_see_the_database_that_the_policy_shows() {
    let failures = differences(true);
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn what_is_not_there_is_missed_in_the_servers_own_words() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE here (a int)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, TYPICAL)).unwrap();
    let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let mut failures = String::new();
    for sql in [
        "SELECT 1 FROM gone",
        "SELECT * FROM here JOIN public.gone USING (a)",
        "INSERT INTO gone VALUES (1)",
        "UPDATE gone SET a = 1",
        "DELETE FROM gone",
        "COPY gone TO STDOUT",
        "COPY gone FROM STDIN",
        "BEGIN; LOCK TABLE gone",
        "TRUNCATE gone",
        "VACUUM gone",
        "ANALYZE public.gone",
        "REINDEX INDEX gone",
        "REINDEX TABLE gone",
        "CREATE INDEX ON gone (a)",
        "ALTER TABLE gone ADD b int",
        "ALTER TABLE here RENAME TO here",
        "ALTER TABLE gone RENAME TO here",
        "ALTER TABLE gone RENAME a TO b",
        "ALTER INDEX gone RENAME TO here",
        "ALTER SEQUENCE gone RESTART",
        "CREATE TABLE made (LIKE gone)",
        "CREATE TABLE made () INHERITS (gone)",
        "CREATE TABLE made PARTITION OF gone DEFAULT",
        "CREATE TABLE made (a int REFERENCES gone)",
        "CREATE VIEW made AS SELECT * FROM gone",
        "COMMENT ON TABLE gone IS 'x'",
        "DROP TABLE gone",
        "DROP VIEW gone",
        "DROP INDEX gone",
        "DROP SEQUENCE gone",
        "DROP MATERIALIZED VIEW gone",
        "DROP TYPE gone",
        "REFRESH MATERIALIZED VIEW gone",
    ] {
        let told = |wire: &mut Wire| {
            let answer = wire.simple(sql).unwrap();
            wire.simple("ROLLBACK").unwrap();
            let fields = answer.iter().find(|message| message.tag == b'E').map(Message::fields);
            fields.map(|fields| ['S', 'C', 'M', 'D', 'H', 'P'].map(|code| fields.get(&code).cloned()))
        };
        let (expected, got) = (told(&mut direct), told(&mut through));
        if expected != got {
            writeln!(failures, "{sql}\n  expected {expected:?}\n  got {got:?}").unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn an_error_has_its_place_in_what_the_client_wrote() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE here (a int, b int)").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, TYPICAL)).unwrap();
    let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let mut statements = vec![
        "SELECT a,  nope FROM   here",
        "UPDATE  here   SET  b = a + nope",
        "INSERT   INTO here   (nope) VALUES (1)",
    ];
    if server.version().unwrap() >= 15 {
        statements.push(
            "merge into here as h using (select 1 as b) as s on (h.a = b and 1 = 1) when matched then update set b = 2",
        );
        statements.push("merge into here as h using (select 1 as c) s on h.a = c when matched and nope then delete");
    }
    for sql in statements {
        for extended in [false, true] {
            let place = |wire: &mut Wire| {
                let answer = if extended { wire.extended(sql, Format::Text) } else { wire.simple(sql) }.unwrap();
                answer.iter().find(|message| message.tag == b'E').map(|error| error.fields().get(&'P').cloned())
            };
            assert_eq!(place(&mut through), place(&mut direct), "{sql}, extended: {extended}");
        }
    }
}

const GUARDED: &str = "\
CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE, ssn text UNIQUE DEFAULT 'RAW', name text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers);
CREATE TABLE plain (id int, note text);
INSERT INTO customers VALUES (1, 'RAW@example.com', 'RAW', 'a'), (2, 'other@example.com', 'x', 'b');
INSERT INTO orders VALUES (1, 1);
CREATE FUNCTION made() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN EXECUTE ''SELECT \"'' || old.ssn || ''\"''; RETURN new; END';
CREATE TRIGGER made AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION made();";

const GUARDS: &str = "\
masks: [{columns: [public.customers.email], mask: {email: {}}}]
rules:
- name: shop
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete]
  relations: [\"public.*\"]
  hideColumns: [public.customers.ssn]";

#[test]
fn an_error_of_a_guarded_table_tells_programs_what_they_read_and_no_value() {
    let server = Server::shared().unwrap();
    let database = server.database_with(GUARDED).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, GUARDS)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    for (sql, code, field, expected) in [
        (
            "INSERT INTO customers (id, email) VALUES (3, 'RAW@example.com')",
            "23505",
            'D',
            Some("Key (email)=(***) already exists."),
        ),
        ("INSERT INTO customers (id) VALUES (3)", "23505", 'D', None),
        // The parser quotes what a trigger makes of the row.
        ("UPDATE customers SET name = 'x' WHERE id = 1", "42703", 'D', None),
        (
            "INSERT INTO orders VALUES (4711, 4711)",
            "23503",
            'D',
            Some("Key (customer_id)=(***) is not present in table \"customers\"."),
        ),
        (
            "DELETE FROM customers WHERE id = 1",
            "23503",
            'D',
            Some("Key (id)=(***) is still referenced from table \"orders\"."),
        ),
        (
            "INSERT INTO customers (id, name) VALUES (3, 'c') ON CONFLICT (name) DO NOTHING",
            "42P10",
            'M',
            Some("there is no unique or exclusion constraint matching the ON CONFLICT specification"),
        ),
        (
            "SELECT (SELECT id FROM customers)",
            "21000",
            'M',
            Some("more than one row returned by a subquery used as an expression"),
        ),
    ] {
        let answer = wire.simple(sql).unwrap();
        let error = answer.iter().find(|message| message.tag == b'E').unwrap();
        let fields = error.fields();
        assert_eq!(fields[&'C'], code, "{sql}: {fields:?}");
        assert_eq!(fields.get(&field).map(String::as_str), expected, "{sql}: {fields:?}");
        assert!(
            !error.body.windows(3).any(|bytes| bytes == b"RAW") && !format!("{fields:?}").contains("4711"),
            "{sql}"
        );
    }
}

#[test]
fn a_count_of_rows_is_given_for_what_the_identity_sees_as_it_is() {
    let server = Server::shared().unwrap();
    let database = server.database_with(GUARDED).unwrap();
    let counted =
        "SELECT relname, pg_stat_get_live_tuples(c.oid) IS NULL, pg_stat_get_dead_tuples(c.oid::regclass) IS NULL,
        pg_stat_get_live_tuples(reltoastrelid) IS NULL
        FROM pg_class c WHERE relname IN ('customers', 'plain') ORDER BY 1";
    let filter = format!("{GUARDS}\n  rowFilters: [{{relation: public.orders, where: id = 1}}]");
    for (policy, plain) in [(GUARDS, "f"), (&*filter, "t")] {
        let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, policy)).unwrap();
        let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
        let answer = wire::rows(&wire.simple(counted).unwrap());
        assert_eq!(answer, [["customers", "t", "t", "t"], ["plain", plain, plain, "t"]]);
        for sql in [
            "SELECT pg_stat_get_live_tuples('customers'::regclass) IS NULL",
            "SELECT n IS NULL FROM pg_stat_get_live_tuples('customers'::regclass) n",
        ] {
            let answer = wire.simple(sql).unwrap();
            assert_eq!(wire::rows(&answer), [["t"]], "{sql}: {answer:?}");
        }
    }
}

#[test]
fn definitions_may_be_prepared_before_what_they_name_is_there() {
    let server = Server::shared().unwrap();
    let database = server.database_with("").unwrap();
    let twin = server.database_with("").unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, TYPICAL)).unwrap();
    let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &twin.name).unwrap();
    let prepared = [
        ("made", "CREATE TYPE mood AS ENUM ('sad')"),
        ("table", "CREATE TABLE later (id serial, m mood DEFAULT 'sad')"),
        ("filled", "CREATE INDEX ON later (m)"),
        ("gone", "DROP TABLE later"),
        ("", "DROP TYPE mood"),
    ];
    let run = |name: &str| [wire::bind("", name, &[], Format::Text), wire::execute("", 0)].concat();
    let all = |once: bool| {
        let mut sent: Vec<u8> = prepared.iter().flat_map(|(name, sql)| wire::parse(name, sql)).collect();
        for (name, _) in prepared {
            sent.extend(run(name));
            sent.extend(if once { Vec::new() } else { wire::sync() });
        }
        sent.extend(wire::sync());
        sent
    };
    let close: Vec<u8> = prepared.iter().flat_map(|(name, _)| wire::close(b'S', name)).collect();
    let close = [close, wire::sync()].concat();
    // As one batch, as several, and where what is named never comes to be.
    let missed = [wire::parse("gone", "DROP TABLE later"), wire::sync(), run("gone"), wire::sync()].concat();
    for (sent, batches) in
        [(all(true), 1), (close.clone(), 1), (all(false), prepared.len() + 1), (close, 1), (missed, 2)]
    {
        let answer = |wire: &mut Wire| {
            wire.send(&sent).unwrap();
            (0..batches).flat_map(|_| wire.until_ready().unwrap()).collect::<Vec<Message>>()
        };
        let (expected, got) = (answer(&mut direct), answer(&mut through));
        let ends = |messages: &[Message]| {
            seen(messages).into_iter().filter(|shown| !shown.starts_with("2")).collect::<Vec<_>>()
        };
        assert_eq!(ends(&got), ends(&expected));
    }
}
