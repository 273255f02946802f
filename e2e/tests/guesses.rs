//! A guess at a row outside of the filter is not answered by a parameter whose cast fails: in a plan for all values it fails before any
//! row is looked at, or for no row that is outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{Wire, error};

const SCHEMA: &str = "\
CREATE TABLE items (id int PRIMARY KEY, secret int, amount int, region text);
INSERT INTO items VALUES (1, 42, 7, 'us'), (2, 43, 7, 'eu');
CREATE TABLE plain (id int PRIMARY KEY, amount int);
INSERT INTO plain VALUES (1, 7), (2, 8);";

/// It costs more than a cast.
const FILTER: &str = "length(region) = 2 AND region IN ('at', 'be', 'ch', 'de', 'es', 'eu', 'fr', 'it')";

const SPEC: &str = "\
rules:
- {name: all, to: {groups: [apps]}, allow: [Select, Insert, Update, Delete, Temp], relations: ['public.*'],
   rowFilters: [{relation: public.items, where: \"FILTER\"}]}";

/// Statements with a guess, a parameter, and how many rows they answer where the guess is 43 and the parameter good.
const STATEMENTS: [(&str, usize); 12] = [
    ("SELECT id FROM items WHERE secret = GUESS AND amount = $1::int", 1),
    ("SELECT id FROM items WHERE amount = $1::int AND secret = GUESS", 1),
    ("SELECT id FROM items WHERE secret = GUESS AND (amount = $1::int OR amount = 8)", 1),
    ("SELECT id FROM items WHERE secret = GUESS AND NOT amount = $1::int", 0),
    ("SELECT id FROM items WHERE secret = GUESS AND amount BETWEEN $1::int AND 9", 1),
    ("SELECT id FROM items WHERE secret = GUESS AND amount = ANY (ARRAY[$1::int, 5])", 1),
    ("SELECT i.id FROM items i JOIN plain p ON p.id = i.id AND i.secret = GUESS AND i.amount = $1::int", 1),
    ("SELECT p.id FROM plain p LEFT JOIN items i ON i.secret = GUESS AND i.amount = $1::int", 2),
    ("SELECT p.id FROM plain p WHERE EXISTS (SELECT FROM items i WHERE i.secret = GUESS AND i.amount = $1::int)", 2),
    ("SELECT s.id FROM (SELECT * FROM items) s WHERE s.secret = GUESS AND s.amount = $1::int", 1),
    ("UPDATE items SET region = region WHERE secret = GUESS AND amount = $1::int RETURNING id", 1),
    ("DELETE FROM items WHERE secret = GUESS AND (amount = $1::int) IS TRUE RETURNING id", 1),
];

/// How many rows there are, or the error's code.
fn outcome(wire: &mut Wire, sql: &str) -> Result<usize, String> {
    let messages = wire.simple(sql).unwrap();
    match error(&messages) {
        Some(error) => Err(error.sqlstate().unwrap_or_default()),
        None => Ok(messages.iter().filter(|message| message.tag == b'D').count()),
    }
}

/// Of the statement with this guess, by a plan for all values.
fn answer(wire: &mut Wire, statement: &str, guess: u32, value: &str) -> Result<usize, String> {
    wire.simple("SET plan_cache_mode = force_generic_plan; BEGIN").unwrap();
    let prepared =
        wire.simple(&format!("PREPARE p (text) AS {}", statement.replace("GUESS", &guess.to_string()))).unwrap();
    assert!(error(&prepared).is_none(), "{statement}: {prepared:?}");
    let outcome = outcome(wire, &format!("EXECUTE p ('{value}')"));
    wire.simple("ROLLBACK; DEALLOCATE ALL").unwrap();
    outcome
}

#[test]
fn a_parameter_whose_cast_fails_tells_nothing_of_rows_outside_the_filter() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, &SPEC.replace("FILTER", FILTER))).unwrap();
    let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    let naive =
        format!("SELECT id FROM (SELECT * FROM items WHERE {FILTER}) i WHERE secret = GUESS AND amount = $1::int");
    assert_eq!(answer(&mut direct, &naive, 42, "x"), Err("22P02".to_owned()), "tests nothing: the filter comes first");
    assert_eq!(answer(&mut direct, &naive, 99, "x"), Ok(0), "tests nothing");

    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    for (statement, rows) in STATEMENTS {
        let right = answer(&mut wire, statement, 42, "x");
        assert_eq!(right, answer(&mut wire, statement, 99, "x"), "{statement}");
        assert_eq!(answer(&mut wire, statement, 43, "7"), Ok(rows), "{statement}");
        assert_eq!(answer(&mut wire, statement, 42, "7").ok(), Some(answer(&mut wire, statement, 99, "7").unwrap()));
    }
}

#[test]
fn a_key_by_a_parameter_with_a_cast_keeps_its_index() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, &SPEC.replace("FILTER", FILTER))).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    for statement in [
        "SELECT amount FROM items WHERE id = $1::int",
        "UPDATE items SET amount = 8 WHERE id = $1::int",
        "DELETE FROM items WHERE id = $1::int",
    ] {
        for mode in ["force_generic_plan", "force_custom_plan"] {
            let set = format!("SET plan_cache_mode = {mode}; SET enable_seqscan = off; SET enable_bitmapscan = off");
            wire.simple(&set).unwrap();
            wire.simple(&format!("PREPARE p (text) AS {statement}")).unwrap();
            let plan = format!("{:?}", wire.simple("EXPLAIN EXECUTE p ('2')").unwrap());
            wire.simple("DEALLOCATE ALL").unwrap();
            assert!(plan.contains("Index Scan using items_pkey"), "{statement}, {mode}: {plan}");
            // With a value nothing is left to try first.
            assert_eq!(plan.contains("Result"), mode == "force_generic_plan", "{statement}, {mode}: {plan}");
        }
    }
}
