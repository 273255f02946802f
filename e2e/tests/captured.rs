//! What a client makes is not taken for what the code of the database's owner means: triggers, checks and filters find names
//! by the session's `search_path`, temporary relations first, and see raw values and all rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Database, Server};
use postern_e2e::wire::{self, Message, Wire};

const SCHEMA: &str = "\
CREATE SCHEMA scratch;
CREATE TABLE tenants (id int PRIMARY KEY, open boolean NOT NULL);
INSERT INTO tenants VALUES (1, true), (2, false);
CREATE FUNCTION is_open(tenant int) RETURNS boolean LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN (SELECT open FROM tenants WHERE id = tenant); END';
CREATE TABLE notes (id int PRIMARY KEY, tenant int, body text);
INSERT INTO notes VALUES (1, 1, 'seen'), (2, 2, 'HIDDENZQX');

CREATE TABLE log (id int, email text);
CREATE TABLE blocked (email text);
CREATE TABLE pinned (id int, email text);
CREATE TABLE apart (email text);
CREATE SCHEMA jobs;
CREATE TABLE jobs.mail (id int, email text);
CREATE TABLE mail (id int, email text);
CREATE TABLE every (id int);
CREATE TABLE customers (id int PRIMARY KEY, email text, note text);
INSERT INTO customers VALUES (1, 'RAWZQX@example.com', 'n');
CREATE FUNCTION is_blocked(mail text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM blocked WHERE email = $1)';
ALTER TABLE customers ADD CHECK (NOT is_blocked(email));
CREATE FUNCTION write_log() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO log VALUES (old.id, old.email); RETURN new; END';
CREATE FUNCTION write_pinned() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp
    AS 'BEGIN INSERT INTO pinned VALUES (old.id, old.email); RETURN new; END';
CREATE FUNCTION write_by_name() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp
    AS 'BEGIN EXECUTE ''INSERT INTO '' || ''pin'' || ''ned VALUES ($1, $2)'' USING old.id, old.email; RETURN new; END';
CREATE TRIGGER log AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION write_log();
CREATE TRIGGER pinned AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION write_pinned();
CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION write_by_name();
CREATE TABLE summed (id int, email text);
CREATE FUNCTION add_up(state text, email text) RETURNS text LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO summed VALUES (1, email); RETURN state; END';
CREATE AGGREGATE adds(text) (SFUNC = add_up, STYPE = text);
CREATE FUNCTION sum_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM adds(old.email); RETURN new; END';
CREATE TRIGGER summed AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION sum_up();
CREATE TABLE noted (id int, email text);
CREATE FUNCTION \"write-it\"(email text) RETURNS void LANGUAGE sql AS 'INSERT INTO -- where changes go.
    noted VALUES (1, email)';
CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM \"write-it\"(old.email); RETURN new; END';
CREATE TRIGGER noted AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION note_it();
CREATE FUNCTION add_job(every int[]) RETURNS void LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO jobs.mail AS mail (id) SELECT one FROM unnest(every) AS one; UPDATE jobs.mail SET email = mail.email; END';
CREATE FUNCTION add_jobs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM add_job(ARRAY[old.id]); RETURN new; END';
CREATE TRIGGER jobs AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION add_jobs();
CREATE FUNCTION unused() RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT''; DELETE FROM apart; END';";

const SPEC: &str = "\
masks:
- {columns: [public.customers.email], mask: {email: {}}}
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Temp, Ddl]
  relations: [public.customers, public.notes, \"scratch.*\"]
  rowFilters:
  - {relation: public.notes, where: public.is_open(tenant)}";

/// Names that code finds by the search_path, made in every way.
const CAPTURING: &[&str] = &[
    "CREATE TEMP TABLE log (id int, email text)",
    "CREATE TABLE pg_temp.log (id int, email text)",
    "CREATE TEMP TABLE \"log\" AS SELECT 1 AS id, 'x' AS email",
    "SELECT 1 AS id, 'x' AS email INTO TEMP log",
    "CREATE TEMP VIEW log AS SELECT 1 AS id, 'x' AS email",
    "CREATE TEMP TABLE mine (id int, email text); ALTER TABLE mine RENAME TO log",
    "BEGIN; UPDATE customers SET note = 'x'; CREATE TEMP TABLE log (id int, email text); COMMIT",
    "DO 'BEGIN CREATE TEMP TABLE log (id int, email text); END'",
    "PREPARE p AS SELECT 1; CREATE TEMP TABLE log AS EXECUTE p",
    "CREATE TABLE scratch.log (id int, email text)",
    "CREATE TABLE scratch.mine (id int, email text); ALTER TABLE scratch.mine RENAME TO log",
    "SET search_path = scratch, public; CREATE TABLE log (id int, email text)",
    "CREATE SEQUENCE scratch.log",
    "CREATE TYPE scratch.log AS (id int, email text)",
    "CREATE TYPE scratch.one AS ENUM ('a'); ALTER TYPE scratch.one RENAME TO log",
    "CREATE DOMAIN scratch.log AS text",
    "CREATE TEMP TABLE summed (id int, email text)",
    "CREATE TEMP TABLE noted (id int, email text)",
    "CREATE TEMP TABLE blocked AS SELECT 'RAWZQX@example.com' AS email",
    "CREATE TEMP TABLE tenants AS SELECT 2 AS id, true AS open",
    "CREATE TABLE scratch.tenants AS SELECT 2 AS id, true AS open",
];

/// Names that no code finds so.
const HARMLESS: &[&str] = &[
    "CREATE TEMP TABLE pinned (id int, email text)",
    "CREATE TEMP TABLE apart (email text)",
    "CREATE TEMP TABLE customers AS SELECT * FROM public.customers",
    "CREATE TABLE scratch.customers AS SELECT * FROM public.customers",
    "CREATE TEMP TABLE old_log (id int)",
    "CREATE TEMP TABLE mail (id int)",
    "CREATE TABLE scratch.every (id int)",
    "CREATE TABLE scratch.notes (id int)",
];

fn stage(schema: &str) -> (Database, Gate) {
    let server = Server::shared().unwrap();
    let database = server.database_with(&format!("{SCHEMA}\n{schema}")).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    (database, gate)
}

fn connect(gate: &Gate, database: &Database) -> Wire {
    Wire::connect(gate.port(), "anyone", "", &database.name).unwrap()
}

fn sqlstates(messages: &[Message]) -> Vec<String> {
    messages.iter().filter_map(Message::sqlstate).collect()
}

#[test]
fn a_new_relation_is_not_found_by_the_code_of_the_owner() {
    let (database, gate) = stage("");
    for sql in CAPTURING {
        let mut wire = connect(&gate, &database);
        assert_eq!(sqlstates(&wire.simple(sql).unwrap()), ["42501"], "{sql}");
        wire.simple("ROLLBACK").unwrap();
        for probe in [
            "UPDATE customers SET note = 'y' WHERE id = 1",
            "TABLE notes",
            "TABLE log",
            "TABLE summed",
            "TABLE noted",
            "TABLE scratch.log",
        ] {
            let answer = wire.simple(probe).unwrap();
            let leaked = |message: &Message| message.body.windows(3).any(|bytes| bytes == b"ZQX");
            assert!(!answer.iter().any(leaked), "{sql}; {probe}: {answer:?}");
        }
    }
    for sql in HARMLESS {
        assert_eq!(sqlstates(&connect(&gate, &database).simple(sql).unwrap()), [""; 0], "{sql}");
    }
}

#[test]
fn code_that_names_what_is_not_in_it_may_mean_any_relation() {
    let by_escape = "CREATE OR REPLACE FUNCTION write_by_name() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO U&\"\\0070inned\" VALUES (old.id, old.email); RETURN new; END'";
    for code in ["ALTER FUNCTION write_by_name() RESET search_path", by_escape] {
        let (database, gate) = stage(code);
        let answer = connect(&gate, &database).simple("CREATE TEMP TABLE apart (email text)").unwrap();
        assert_eq!(sqlstates(&answer), ["42501"], "{code}");
    }
    let (database, gate) = stage("ALTER FUNCTION write_by_name() RESET search_path");
    let answer = connect(&gate, &database).simple("CREATE TEMP TABLE nothing_else_is_called_so (email text)").unwrap();
    assert_eq!(sqlstates(&answer), [""; 0]);
}

#[test]
fn a_filter_that_the_search_path_turns_closes_its_relation() {
    let two = "CREATE SCHEMA other; CREATE TABLE other.tenants AS SELECT 2 AS id, true AS open;";
    for (schema, open) in [
        ("", true),
        (two, false),
        (&*format!("{two} ALTER FUNCTION is_open(int) SET search_path = public, pg_temp"), true),
        (
            "CREATE OR REPLACE FUNCTION is_open(tenant int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'DECLARE r boolean; BEGIN EXECUTE ''SELECT open FROM tenants WHERE id = $1'' INTO r USING tenant; RETURN r; END'",
            false,
        ),
    ] {
        let (database, gate) = stage(schema);
        let mut wire = connect(&gate, &database);
        let answer = wire.simple("SELECT id FROM notes").unwrap();
        assert_eq!(sqlstates(&answer).is_empty(), open, "{schema}: {answer:?}");
        let answer = wire.simple("SET search_path = other, public; SELECT id FROM notes WHERE id = 2").unwrap();
        assert!(wire::rows(&answer).is_empty(), "{schema}: {answer:?}");
    }
}

#[test]
fn who_sees_everything_may_call_relations_as_it_likes() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, postern_e2e::gate::EVERYTHING)).unwrap();
    for sql in CAPTURING {
        assert!(!sqlstates(&connect(&gate, &database).simple(sql).unwrap()).contains(&"42501".into()), "{sql}");
    }
}
