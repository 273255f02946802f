//! Two-phase commit: what an identity prepares is there for it in every session, and for no other identity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Server};
use postern_e2e::wire::{self, Wire, error};

const SCHEMA: &str = "\
CREATE TABLE orders (id int PRIMARY KEY, region text NOT NULL DEFAULT 'eu');
INSERT INTO orders VALUES (1, 'eu'), (2, 'us');";

const SPEC: &str = "\
rules:
- {name: all, to: {groups: [apps]}, allow: [Select, Insert, Ddl, Lock], relations: ['public.*'],
   rowFilters: [{relation: public.orders, where: \"region = 'eu'\"}]}";

/// Rows, or the SQLSTATE.
fn answer(wire: &mut Wire, sql: &str) -> String {
    let got = wire.simple(sql).unwrap();
    if let Some(error) = error(&got) {
        return error.sqlstate().unwrap_or_default();
    }
    let tag = got
        .iter()
        .rfind(|message| message.tag == b'C')
        .map(|message| String::from_utf8_lossy(&message.body).into_owned());
    let rows = wire::rows(&got);
    if rows.is_empty() { tag.unwrap_or_default().trim_end_matches('\0').to_owned() } else { rows.concat().join(" ") }
}

#[test]
fn what_is_prepared_is_its_identitys_alone() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let options = GateOptions::new(server, &database.name, ADMIN, SPEC);
    let gate = Gate::start(&options).unwrap();
    let other = Gate::start(&GateOptions {
        identities: options.identities.replace("name: app", "name: another"),
        identity: "another".into(),
        ..options.clone()
    })
    .unwrap();
    let connect = |gate: &Gate| Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let (mut first, mut second, mut stranger) = (connect(&gate), connect(&gate), connect(&other));

    assert_eq!(
        answer(&mut first, "BEGIN; INSERT INTO orders VALUES (3); PREPARE TRANSACTION 'it''s'"),
        "PREPARE TRANSACTION"
    );
    let gids = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
    assert_eq!(answer(&mut second, gids), "it's");
    assert_eq!(answer(&mut stranger, gids), "SELECT 0");
    for end in ["COMMIT PREPARED 'it''s'", "ROLLBACK PREPARED 'it''s'"] {
        assert_eq!(answer(&mut stranger, end), "42704");
    }
    assert_eq!(answer(&mut second, "COMMIT PREPARED 'it''s'"), "COMMIT PREPARED");
    assert_eq!(answer(&mut first, "SELECT id FROM orders ORDER BY id"), "1 3");

    assert_eq!(
        answer(&mut first, "BEGIN; INSERT INTO orders VALUES (4); PREPARE TRANSACTION 'b'"),
        "PREPARE TRANSACTION"
    );
    assert_eq!(answer(&mut first, "ROLLBACK PREPARED 'b'"), "ROLLBACK PREPARED");
    assert_eq!(answer(&mut first, "BEGIN; INSERT INTO orders VALUES (5, 'us'); PREPARE TRANSACTION 'c'"), "42501");
    assert_eq!(answer(&mut first, "ROLLBACK; BEGIN"), "BEGIN");
    assert_eq!(answer(&mut first, "SELECT 1/0"), "22012");
    assert_eq!(answer(&mut first, "PREPARE TRANSACTION 'd'"), "ROLLBACK");
    assert_eq!(answer(&mut first, "SELECT id FROM orders ORDER BY id"), "1 3");
}

#[test]
fn what_a_prepared_transaction_made_is_known_once_it_is_committed() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    assert_eq!(answer(&mut wire, "BEGIN"), "BEGIN");
    assert_eq!(answer(&mut wire, "CREATE TABLE made (a int)"), "CREATE TABLE");
    assert_eq!(answer(&mut wire, "PREPARE TRANSACTION 'made'"), "PREPARE TRANSACTION");
    assert_eq!(answer(&mut wire, "SELECT a FROM made"), "42P01");
    assert_eq!(answer(&mut wire, "COMMIT PREPARED 'made'"), "COMMIT PREPARED");
    assert_eq!(answer(&mut wire, "SELECT a FROM made"), "SELECT 0");
}

#[test]
fn to_prepare_a_transaction_needs_the_right_to_lock() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let spec = SPEC.replace(", Lock", "");
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, &spec)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    assert_eq!(answer(&mut wire, "BEGIN; INSERT INTO orders VALUES (3); PREPARE TRANSACTION 'a'"), "42501");
    assert_eq!(answer(&mut wire, "ROLLBACK PREPARED 'a'"), "42501");
}
