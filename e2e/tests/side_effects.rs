//! What a statement does or leaves besides its answer tells nothing of masked values and hidden rows, and spares what is guarded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Database, Server};
use postern_e2e::wire::{self, Message, Wire, error};

const SCHEMA: &str = "
CREATE SCHEMA other;
CREATE COLLATION other.c1 (provider = libc, locale = 'C');
CREATE FUNCTION other.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE TABLE plain (id int PRIMARY KEY, v text);
CREATE TABLE free (id int PRIMARY KEY, v text);
CREATE TABLE allowed (id int);
CREATE SEQUENCE own_seq;
CREATE TABLE codes (code text PRIMARY KEY, label text);
INSERT INTO codes SELECT 'c' || i FROM generate_series(1, 5) i;
CREATE TABLE pat (id int PRIMARY KEY, name text, dx text REFERENCES codes ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO pat SELECT i, 'n', 'c' || i FROM generate_series(1, 5) i;
CREATE TABLE grants (tenant int);
INSERT INTO grants VALUES (1);
CREATE TABLE own (id int PRIMARY KEY, name text);
CREATE TABLE rows (id int PRIMARY KEY, tenant int, note text, own int REFERENCES own ON DELETE CASCADE, snap plain,
    name text COLLATE other.c1, g int GENERATED ALWAYS AS (other.twice(id)) STORED, number int DEFAULT nextval('own_seq'));
CREATE INDEX ON rows (note);
INSERT INTO rows (id, tenant, note) SELECT i, i % 2, 'note' || i FROM generate_series(1, 40) i;
CREATE TABLE kept (id int PRIMARY KEY, tenant int, plain int REFERENCES plain);
";

const SPEC: &str = "
masks: [{columns: [public.pat.dx], mask: {nullify: {}}}]
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Ddl, Maintenance]
  relations: ['public.*', 'other.*']
  rowFilters:
  - {relation: public.rows, where: 'tenant IN (SELECT g.tenant FROM public.grants g)'}
  - {relation: public.kept, where: tenant = 1}
";

fn through_a_gate() -> (Database, Gate, Wire) {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    let wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    (database, gate, wire)
}

fn code(answer: &[Message]) -> String {
    error(answer).and_then(|error| error.sqlstate()).unwrap_or_default()
}

#[test]
fn what_is_dropped_takes_nothing_of_what_is_guarded_along() {
    let (_database, _gate, mut wire) = through_a_gate();
    for text in [
        "DROP TABLE plain CASCADE",
        "DROP SCHEMA other CASCADE",
        "DROP SEQUENCE own_seq CASCADE",
        "ALTER TABLE plain DROP CONSTRAINT plain_pkey CASCADE",
        "ALTER TABLE plain DROP COLUMN v",
        "CLUSTER rows USING rows_note_idx",
        "CLUSTER pat USING pat_pkey",
    ] {
        assert_eq!(code(&wire.simple(text).unwrap()), "42501", "{text}");
    }
    for text in ["ALTER TABLE free DROP COLUMN v", "CLUSTER free USING free_pkey", "DROP TABLE free CASCADE"] {
        assert_eq!(code(&wire.simple(text).unwrap()), "", "{text}");
    }
}

#[test]
fn row_level_security_of_the_owner_is_not_dropped_with_what_it_reads() {
    let server = Server::shared().unwrap();
    let schema = format!(
        "{SCHEMA} ALTER TABLE kept ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON kept USING (tenant IN (SELECT id FROM allowed));"
    );
    let database = server.database_with(&schema).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    assert_eq!(code(&wire.simple("DROP TABLE allowed CASCADE").unwrap()), "42501");
}

#[test]
fn a_foreign_key_that_acts_does_not_tell_which_rows_have_a_masked_key() {
    let (_database, _gate, mut wire) = through_a_gate();
    for text in ["DELETE FROM codes WHERE code = 'c2'", "UPDATE codes SET code = 'long' WHERE code = 'c3'"] {
        assert_eq!(code(&wire.simple(text).unwrap()), "42501", "{text}");
    }
    assert_eq!(code(&wire.simple("UPDATE codes SET label = 'x' WHERE code = 'c3'").unwrap()), "");
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM pat").unwrap()), [["5"]]);
}

#[test]
fn plans_and_locks_do_not_tell_what_a_write_or_a_filter_looked_at() {
    let (_database, _gate, mut wire) = through_a_gate();
    // The guard of a write reads the filtered relation.
    assert_eq!(code(&wire.simple("EXPLAIN ANALYZE DELETE FROM own WHERE id = 2").unwrap()), "42501");
    let plan = format!("{:?}", wire.simple("EXPLAIN DELETE FROM own WHERE id = 2").unwrap());
    assert!(plan.contains("Delete") && !plan.contains("cost="), "{plan}");
    assert_eq!(code(&wire.simple("EXPLAIN ANALYZE UPDATE pat SET dx = 'c1' WHERE id = 1").unwrap()), "42501");
    assert_eq!(code(&wire.simple("EXPLAIN ANALYZE UPDATE allowed SET id = 1").unwrap()), "");
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IS NOT NULL";
    for text in ["UPDATE pat SET dx = 'c3' WHERE id = 1", "SELECT * FROM rows WHERE note = 'note2'"] {
        wire.simple("BEGIN").unwrap();
        wire.simple(text).unwrap();
        assert_eq!(wire::rows(&wire.simple(locks).unwrap()), [["0"]], "{text}");
        wire.simple("ROLLBACK").unwrap();
    }
    if Server::shared().unwrap().version().unwrap() >= 16 {
        let scans = "SELECT count(last_seq_scan) + count(last_idx_scan) FROM pg_stat_user_tables";
        assert_eq!(wire::rows(&wire.simple(scans).unwrap()), [["0"]]);
    }
}
