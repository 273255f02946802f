//! An inline view is as good as the table: it locks, keeps the index and is described as the table would be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Database, Server};
use postern_e2e::wire::{self, Message, Wire};

const SCHEMA: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, card text, email text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, region text, note text);
CREATE INDEX ON orders (customer);
INSERT INTO customers SELECT i, 'name ' || i, '411111111111' || i, i || '@example.com' FROM generate_series(1, 5) i;
INSERT INTO orders SELECT i, 1 + i % 5, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, 'note ' || i FROM generate_series(1, 1000) i;
ANALYZE;
";

const POLICY: &str = r#"
masks:
- columns: [public.customers.card]
  mask: {partial: {keepLast: 4}}
- columns: [public.customers.email]
  mask: {email: {}}
  onPredicate: Refuse
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete]
  relations: ["public.*"]
  rowFilters: [{relation: public.orders, where: "region = 'eu'"}]
"#;

struct Stage {
    server: &'static Server,
    database: Database,
    gate: Gate,
}

impl Stage {
    fn new() -> Self {
        let server = Server::shared().unwrap();
        let database = server.database_with(SCHEMA).unwrap();
        let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, POLICY)).unwrap();
        Self { server, database, gate }
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.gate.port(), ADMIN, ADMIN_PASSWORD, &self.database.name).unwrap()
    }

    fn directly(&self) -> Wire {
        Wire::connect(self.server.port(), ADMIN, ADMIN_PASSWORD, &self.database.name).unwrap()
    }
}

/// The first column of all rows.
fn first(messages: &[Message]) -> Vec<String> {
    assert!(messages.iter().all(|message| message.tag != b'E'), "{messages:?}");
    wire::rows(messages).into_iter().map(|row| row[0].clone()).collect()
}

#[test]
fn a_locking_clause_locks_the_rows_that_it_would_lock_on_the_table() {
    let stage = Stage::new();
    let (mut one, mut other, mut direct) = (stage.connect(), stage.connect(), stage.directly());
    one.simple("BEGIN").unwrap();
    let next = "SELECT c.id, c.card FROM customers c JOIN orders o ON o.customer = c.id WHERE o.id < 20 ORDER BY c.id LIMIT 1 FOR UPDATE OF c SKIP LOCKED";
    assert_eq!(first(&one.simple(next).unwrap()), ["1"]);
    other.simple("BEGIN").unwrap();
    assert_eq!(first(&other.simple(next).unwrap()), ["2"]);
    let free = "SELECT id FROM customers ORDER BY id FOR UPDATE SKIP LOCKED";
    assert_eq!(first(&direct.simple(free).unwrap()), ["3", "4", "5"]);
    // The orders are read, not locked.
    assert_eq!(
        first(&direct.simple("SELECT id FROM orders WHERE id < 3 ORDER BY id FOR UPDATE SKIP LOCKED").unwrap()),
        ["1", "2"]
    );
    one.simple("ROLLBACK").unwrap();
    assert_eq!(first(&direct.simple(free).unwrap()), ["1", "3", "4", "5"]);
    // Of a filtered relation only what is inside.
    other.simple("ROLLBACK").unwrap();
    one.simple("BEGIN").unwrap();
    assert_eq!(first(&one.simple("SELECT id FROM orders WHERE id < 5 ORDER BY id FOR UPDATE").unwrap()), ["2", "4"]);
    assert_eq!(
        first(&direct.simple("SELECT id FROM orders WHERE id < 5 ORDER BY id FOR UPDATE SKIP LOCKED").unwrap()),
        ["1", "3"]
    );
}

#[test]
fn keyed_reads_and_writes_keep_their_index_behind_masks_and_filters() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    for (statement, condition) in [
        ("SELECT * FROM customers WHERE id = 3", "Index Cond: (id = 3)"),
        ("SELECT * FROM orders WHERE id = 4", "Index Cond: (id = 4)"),
        ("SELECT * FROM orders WHERE customer = 2 AND note LIKE '%4'", "Index Cond: (customer = 2)"),
        ("UPDATE orders SET note = 'x' WHERE id = 4 AND upper(note) <> 'Y'", "Index Cond: (id = 4)"),
        ("DELETE FROM orders WHERE id = 4", "Index Cond: (id = 4)"),
        ("UPDATE customers SET card = 'x' WHERE id = 3", "Index Cond: (id = 3)"),
    ] {
        wire.simple("SET enable_seqscan = off").unwrap();
        let plan = first(&wire.simple(&format!("EXPLAIN (COSTS OFF) {statement}")).unwrap()).join("\n");
        assert!(plan.contains(condition), "{statement}\n{plan}");
    }
}

#[test]
fn an_unmasked_column_is_described_as_the_tables_and_a_masked_one_is_not() {
    let stage = Stage::new();
    let described = |wire: &mut Wire, sql: &str| -> Vec<(String, u32, i16)> {
        let messages = wire.simple(sql).unwrap();
        let description = messages.iter().find(|message| message.tag == b'T').unwrap();
        description.columns().into_iter().map(|column| (column.name, column.relation, column.attribute)).collect()
    };
    let sql = "SELECT id, name, card, email FROM customers WHERE id = 1";
    let plain = described(&mut stage.directly(), sql);
    let masked = described(&mut stage.connect(), sql);
    assert!(plain.iter().all(|(_, table, _)| *table != 0));
    assert_eq!(masked[..2], plain[..2]);
    assert_eq!(masked[2..], [("card".to_owned(), 0, 0), ("email".to_owned(), 0, 0)]);
}

#[test]
fn a_predicate_on_a_mask_is_told_or_refused_as_the_mask_says() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    let notices = |messages: &[Message]| messages.iter().filter(|message| message.tag == b'N').count();
    // Once in a session.
    let told = "SELECT id FROM customers WHERE card = '4111'";
    assert_eq!(notices(&wire.simple(told).unwrap()), 1);
    assert_eq!(notices(&wire.simple(told).unwrap()), 0);
    for refused in [
        "SELECT id FROM customers WHERE email = 'x'",
        "SELECT id FROM customers ORDER BY email",
        "SELECT a.id FROM customers a JOIN customers b USING (email)",
    ] {
        let messages = wire.simple(refused).unwrap();
        assert_eq!(messages.iter().find_map(Message::sqlstate).as_deref(), Some("42501"), "{refused}");
    }
    assert_eq!(
        wire::rows(&wire.simple("SELECT email FROM customers WHERE id = 1").unwrap())[0][0],
        "*@example.com".replace('*', "1***")
    );
}

#[test]
fn a_client_without_a_locale_speaks_utf8_all_the_same() {
    let stage = Stage::new();
    let parameters = [("user", ADMIN), ("database", stage.database.name.as_str()), ("client_encoding", "SQL_ASCII")];
    let mut wire = Wire::connect_with(stage.gate.port(), ADMIN_PASSWORD, &parameters).unwrap();
    assert_eq!(first(&wire.simple("SHOW client_encoding").unwrap()), ["UTF8"]);
    assert_eq!(first(&wire.simple("SELECT 'ä'").unwrap()), ["ä"]);
}

/// As GraphQL and REST servers compute fields: by a function that takes a row.
#[test]
fn a_function_of_a_row_gets_the_row_that_is_seen() {
    let server = Server::shared().unwrap();
    let schema = "
        CREATE TABLE people (id int PRIMARY KEY, name text, gone int, card text, ssn text, age int);
        ALTER TABLE people DROP COLUMN gone;
        INSERT INTO people VALUES (1, 'Ada', 'CARDZQX81-1', 'SSNZQX82-1', 30), (2, 'Bob', 'CARDZQX81-2', 'SSNZQX82-2', 99);
        CREATE TABLE plain (id int);
        INSERT INTO plain VALUES (1), (2);
        CREATE FUNCTION label(p people) RETURNS text LANGUAGE sql STABLE AS
            $$SELECT concat_ws('/', p.id, p.name, p.card, p.ssn, p.age)$$;
        CREATE FUNCTION label(p plain) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'plain ' || p.id$$;
        CREATE FUNCTION raw(p people) RETURNS SETOF people LANGUAGE sql STABLE AS $$SELECT p.*$$;";
    let database = server.database_with(schema).unwrap();
    let policy = "
masks:
- {columns: [public.people.card], mask: {partial: {keepLast: 2}}}
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Call]
  relations: ['public.*']
  functions: ['public.*']
  hideColumns: [public.people.ssn]
  rowFilters: [{relation: public.people, where: age < 90}]";
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, policy)).unwrap();
    let mut wire = Wire::connect(gate.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let ada = "1/Ada/*********-1/30";
    for (sql, expected) in [
        ("SELECT label(p) FROM people p", vec![ada]),
        ("SELECT label(people) FROM people", vec![ada]),
        ("SELECT label(people.*) FROM public.people", vec![ada]),
        ("SELECT p.label FROM people p", vec![ada]),
        ("SELECT public.label(p) FROM people p WHERE public.label(p) LIKE '%Ada%'", vec![ada]),
        ("SELECT label(p) FROM people p (a, b, c)", vec![ada]),
        ("SELECT label(x) FROM plain x WHERE id = 1", vec!["plain 1"]),
        (
            "SELECT coalesce(label(p), 'none') FROM plain x LEFT JOIN people p ON p.id = x.id ORDER BY x.id",
            vec![ada, ""],
        ),
        ("SELECT json_build_object('l', label(p))::text FROM people p", vec!["{\"l\" : \"1/Ada/*********-1/30\"}"]),
        ("SELECT (SELECT label(p)) FROM people p", vec![ada]),
        ("SELECT r.card FROM people p, LATERAL raw(p) r", vec!["*********-1"]),
        (
            "UPDATE people p SET name = 'Eve' WHERE id = 1 AND label(p) = '1/Ada/*********-1/30' RETURNING label(p)",
            vec!["1/Eve/*********-1/30"],
        ),
        ("UPDATE people p SET name = 'Ada' WHERE p.label LIKE '1/Eve%' AND id = 1 RETURNING p.label", vec![ada]),
        ("INSERT INTO people (id, name, age) VALUES (3, 'Cyd', 5) RETURNING label(people)", vec!["3/Cyd/5"]),
        ("DELETE FROM people WHERE id = 3 RETURNING label(people)", vec!["3/Cyd/5"]),
    ] {
        assert_eq!(first(&wire.simple(sql).unwrap()), expected, "{sql}");
    }
}
