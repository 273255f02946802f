//! Where a partition key reads what is masked, in which partition a row is would tell its value: nothing says so, and the partitioned
//! table itself works as before. What is stored where, and what of it a condition lets in, answers no guess.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Database, Server};
use postern_e2e::wire::{self, Message, Wire, error};

const SCHEMA: &str = "
CREATE TABLE members (id int, kind text, note text NOT NULL, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE members_rawgold PARTITION OF members FOR VALUES IN ('rawgold');
CREATE TABLE members_rawtin PARTITION OF members FOR VALUES IN ('rawtin');
INSERT INTO members SELECT i, CASE WHEN i % 3 = 0 THEN 'rawgold' ELSE 'rawtin' END, 'note ' || i FROM generate_series(1, 20) i;
CREATE VIEW of_members AS SELECT id, tableoid::regclass::text AS place, m.ctid AS at, xmin::text AS made FROM members m;
CREATE VIEW member_ids AS SELECT id FROM members;
CREATE VIEW of_gold AS SELECT id FROM members_rawgold;

CREATE TABLE groups (id int PRIMARY KEY);
CREATE TABLE grouped (of int REFERENCES groups ON DELETE CASCADE ON UPDATE CASCADE, kind text) PARTITION BY LIST (kind);
CREATE TABLE grouped_raw PARTITION OF grouped DEFAULT;
INSERT INTO groups VALUES (1), (2);
INSERT INTO grouped VALUES (1, 'x'), (2, 'y');

CREATE TABLE parts (id int, n int, secret int) PARTITION BY LIST (n);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1) PARTITION BY RANGE ((secret % 10));
CREATE TABLE parts_raw7 PARTITION OF parts_1 FOR VALUES FROM (0) TO (7);
INSERT INTO parts VALUES (1, 0, 1003), (2, 0, 1009), (3, 1, 1005);

CREATE TABLE pairs (id int, n int, secret int, note text) PARTITION BY RANGE (n, secret);
CREATE TABLE pairs_0 PARTITION OF pairs FOR VALUES FROM (0, MINVALUE) TO (0, MAXVALUE);
CREATE TABLE pairs_1 PARTITION OF pairs FOR VALUES FROM (1, MINVALUE) TO (1, 1003);
INSERT INTO pairs SELECT i, 0, 1000 + i, 'note' FROM generate_series(1, 5) i;
CREATE VIEW of_pairs AS SELECT id AS number, n AS m FROM pairs;

CREATE TABLE less (id int PRIMARY KEY, n int, secret int, note text);
INSERT INTO less SELECT i, 2000, 1000 + i, 'note' FROM generate_series(1, 5) i;
CREATE VIEW checked AS SELECT id, n AS m, secret, note FROM less WHERE secret < n WITH CHECK OPTION;
CREATE VIEW over_checked AS SELECT id, m AS o FROM checked;
CREATE VIEW unchecked AS SELECT id, n, note FROM less WHERE secret < n;
CREATE VIEW check_above AS SELECT id, n FROM unchecked WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE VIEW of_note AS SELECT id, n, note FROM less WHERE secret > 0 AND note <> '' WITH CHECK OPTION;

CREATE TABLE counted (id serial PRIMARY KEY, number serial, other int GENERATED ALWAYS AS IDENTITY, note text);
CREATE SEQUENCE of_default;
CREATE TABLE by_default (id int DEFAULT nextval('of_default'), note text);
INSERT INTO counted (note) SELECT 'a' FROM generate_series(1, 5);
INSERT INTO by_default (note) SELECT 'a' FROM generate_series(1, 5);
";

const POLICY: &str = r#"
masks:
- columns: [public.members.kind, public.grouped.kind, "public.parts.secret", public.pairs.secret, public.less.secret, public.counted.number, public.by_default.id]
  mask: {nullify: {}}
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Truncate, CopyOut, Lock, Maintenance, Ddl]
  relations: ["public.*"]
  hideColumns: [public.counted.other]
bulkExport: {action: Allow}
"#;

struct Stage {
    server: &'static Server,
    database: Database,
    _gate: Gate,
    wire: Wire,
}

impl Stage {
    fn new(spec: &str) -> Self {
        let server = Server::shared().unwrap();
        let database = server.database_with(SCHEMA).unwrap();
        let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, spec)).unwrap();
        let wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
        Self { server, database, _gate: gate, wire }
    }

    fn directly(&self) -> Wire {
        Wire::connect(self.server.port(), ADMIN, ADMIN_PASSWORD, &self.database.name).unwrap()
    }

    /// What comes of a statement: the SQLSTATE of an error, or the rows.
    fn outcome(&mut self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let answer = self.wire.simple(sql).unwrap();
        match error(&answer) {
            Some(error) => Err(error.sqlstate().unwrap()),
            None => Ok(wire::rows(&answer)),
        }
    }

    fn refuses(&mut self, statements: &[&str]) {
        for sql in statements {
            assert_eq!(self.outcome(sql), Err("42501".to_owned()), "{sql}");
        }
    }
}

fn text(messages: &[Message]) -> String {
    messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
}

#[test]
fn in_which_partition_a_row_is_is_not_told() {
    let mut stage = Stage::new(POLICY);
    stage.refuses(&[
        "SELECT id, tableoid::regclass FROM members",
        "SELECT m.id, m.tableoid FROM members m",
        "SELECT id, ctid FROM members",
        "SELECT id FROM members WHERE tableoid = 'members_rawgold'::regclass",
        "SELECT id FROM members WHERE ctid = '(0,1)'",
        "SELECT count(*) FROM members GROUP BY tableoid",
        "SELECT (SELECT x.tableoid FROM members x WHERE x.id = y.id) FROM members y",
        "INSERT INTO members VALUES (50, 'rawtin', 'x') RETURNING tableoid",
        "UPDATE members SET note = 'x' WHERE id = 3 RETURNING tableoid",
        "UPDATE members SET note = tableoid::text WHERE id = 3",
        "DELETE FROM members WHERE id = 3 AND tableoid = 'members_rawgold'::regclass",
        "SELECT tableoid FROM parts",
        "SELECT ctid FROM parts_1",
        "COPY (SELECT tableoid FROM members) TO STDOUT",
        "EXPLAIN ANALYZE SELECT * FROM members WHERE id = 3",
        "EXPLAIN ANALYZE SELECT * FROM member_ids WHERE id = 3",
        "EXPLAIN (ANALYZE) UPDATE members SET note = 'x' WHERE id = 3",
    ]);
    // Statistics of each partition would say in which it is.
    let plan = stage.outcome("EXPLAIN SELECT * FROM members WHERE id = 3").unwrap();
    assert!(!format!("{plan:?}").contains("rows="), "{plan:?}");
    assert_eq!(
        stage.outcome("SELECT place, at, made IS NULL FROM of_members WHERE id = 3").unwrap(),
        [["∅", "∅", "f"]]
    );
}

#[test]
fn a_partition_is_closed_by_itself() {
    let mut stage = Stage::new(POLICY);
    stage.refuses(&[
        "SELECT * FROM members_rawgold",
        "SELECT count(*) FROM members_rawgold",
        "TABLE members_rawtin",
        "UPDATE members_rawgold SET note = 'x' WHERE id = 3",
        "DELETE FROM members_rawgold WHERE id = 3",
        "INSERT INTO members_rawgold VALUES (3, 'rawgold', 'x')",
        "COPY members_rawgold TO STDOUT",
        "TRUNCATE members_rawgold",
        "LOCK TABLE members_rawgold IN ACCESS SHARE MODE",
        "ANALYZE members_rawgold",
        "ALTER TABLE members DETACH PARTITION members_rawgold",
        "CREATE TABLE copied (LIKE members_rawgold)",
        "CREATE TABLE probe (id int, kind text, FOREIGN KEY (id, kind) REFERENCES members_rawgold (id, kind))",
        "SELECT * FROM of_gold",
        "SELECT * FROM parts_raw7",
    ]);
    assert_eq!(stage.outcome("SELECT id FROM parts_0 ORDER BY id").unwrap(), [["1"], ["2"]]);
    assert_eq!(stage.outcome("SELECT id, secret FROM parts_1").unwrap(), [["3", "∅"]]);
}

#[test]
fn catalogs_show_neither_bounds_nor_counts_of_a_closed_partition() {
    let mut stage = Stage::new(POLICY);
    let mut direct = stage.directly();
    direct.simple("ANALYZE").unwrap();
    for sql in [
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname LIKE 'members_raw%'",
        "SELECT relpartbound FROM pg_class WHERE relname LIKE 'members_raw%' OR relname = 'parts_raw7'",
        "SELECT pg_get_partition_constraintdef(oid) FROM pg_class WHERE relname LIKE 'members_raw%'",
        "SELECT pg_get_partition_constraintdef('members_rawgold'::regclass)",
        "SELECT pg_table_size(oid) FROM pg_class WHERE relname LIKE 'members_raw%'",
        "SELECT pg_relation_size('members_rawgold'), pg_relation_size('members_rawgold', 'main')",
        "SELECT pg_total_relation_size(c.oid), pg_indexes_size(c.oid) FROM pg_class c WHERE relname LIKE 'members_raw%'",
        "SELECT pg_relation_size(oid) FROM pg_class WHERE relname LIKE 'members_raw%_pkey'",
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname LIKE 'members_raw%'",
    ] {
        let rows = stage.outcome(sql).unwrap_or_else(|code| panic!("{sql}: {code}"));
        assert!(!rows.is_empty() && rows.iter().flatten().all(|cell| cell == "∅"), "{sql}: {rows:?}");
        let directly = wire::rows(&direct.simple(sql).unwrap());
        assert!(directly.iter().flatten().any(|cell| cell != "∅"), "{sql}: {directly:?}");
    }
    assert_eq!(
        stage.outcome("SELECT DISTINCT reltuples, relpages FROM pg_class WHERE relname LIKE 'members_raw%'").unwrap(),
        [["-1", "0"]]
    );
    // What psql asks for `\d`.
    let asked = "SELECT c.oid::pg_catalog.regclass, pg_catalog.pg_get_expr(c.relpartbound, c.oid) \
        FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i WHERE c.oid = i.inhrelid AND i.inhparent = 'members'::regclass \
        ORDER BY pg_catalog.pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', c.oid::pg_catalog.regclass::pg_catalog.text";
    assert_eq!(stage.outcome(asked).unwrap(), [["members_rawgold", "∅"], ["members_rawtin", "∅"]]);
    let bound = "SELECT pg_get_expr(relpartbound, oid), pg_get_partition_constraintdef(oid) IS NULL, pg_table_size(oid) \
        FROM pg_class WHERE relname = 'parts_0'";
    assert_eq!(stage.outcome(bound).unwrap()[0][..2], ["FOR VALUES IN (0)", "f"]);
    assert_eq!(stage.outcome("SELECT pg_get_partkeydef('members'::regclass)").unwrap(), [["LIST (kind)"]]);
}

#[test]
fn errors_and_locks_do_not_name_the_partition_of_a_row() {
    let mut stage = Stage::new(POLICY);
    let mut direct = stage.directly();
    direct.simple("BEGIN; SELECT FROM members WHERE id = 6 FOR UPDATE").unwrap();
    for sql in [
        "UPDATE members SET note = NULL WHERE id = 3",
        "UPDATE members SET id = 9 WHERE id = 3",
        "SELECT id FROM members WHERE id = 6 FOR UPDATE NOWAIT",
    ] {
        let answer = stage.wire.simple(sql).unwrap();
        assert!(error(&answer).is_some(), "{sql}: {answer:?}");
        assert!(!text(&answer).contains("raw"), "{sql}: {}", text(&answer));
    }
    direct.simple("ROLLBACK").unwrap();
    stage.wire.simple("BEGIN; UPDATE members SET note = 'x' WHERE id = 3").unwrap();
    let locks = "SELECT coalesce(relation::regclass::text, locktype), mode FROM pg_locks WHERE pid = pg_backend_pid()";
    let held = format!("{:?}", stage.outcome(locks).unwrap());
    assert!(held.contains("virtualxid") && !held.contains("raw"), "{held}");
    stage.wire.simple("ROLLBACK").unwrap();
}

#[test]
fn a_table_that_is_partitioned_by_a_masked_column_is_read_and_written_as_before() {
    let mut stage = Stage::new(POLICY);
    assert_eq!(stage.outcome("SELECT count(*), count(kind) FROM members").unwrap(), [["20", "0"]]);
    assert_eq!(stage.outcome("SELECT * FROM members WHERE id = 3").unwrap(), [["3", "∅", "note 3"]]);
    for sql in [
        "INSERT INTO members VALUES (100, 'rawtin', 'new')",
        "UPDATE members SET note = 'saved', kind = NULL WHERE id = 3",
        "UPDATE members SET kind = 'rawtin' WHERE id = 100",
        "DELETE FROM members WHERE id = 100",
        "SELECT xmin FROM members WHERE id = 3",
        "SELECT id FROM member_ids WHERE id = 3",
        "SELECT tableoid, ctid FROM less",
        "DELETE FROM groups WHERE id = 1",
        "UPDATE groups SET id = 3 WHERE id = 2",
        "ANALYZE members",
        "VACUUM",
    ] {
        assert!(stage.outcome(sql).is_ok(), "{sql}: {:?}", stage.outcome(sql));
    }
    let stored = stage.directly().simple("SELECT kind, note FROM members WHERE id = 3").unwrap();
    assert_eq!(wire::rows(&stored), [["rawgold", "saved"]]);
    let elsewhere = POLICY.replace("public.members.kind, ", "");
    let mut stage = Stage::new(&elsewhere);
    assert_eq!(stage.outcome("SELECT tableoid::regclass FROM members WHERE id = 3").unwrap(), [["members_rawgold"]]);
    assert_eq!(stage.outcome("SELECT count(*) FROM members_rawgold").unwrap(), [["6"]]);
}

#[test]
fn no_update_asks_a_partition_key_or_a_views_check_about_a_masked_column() {
    let mut stage = Stage::new(POLICY);
    stage.refuses(&[
        "UPDATE pairs SET n = 1 WHERE id = 2",
        "UPDATE pairs SET n = 1 WHERE id = 5",
        "UPDATE pairs SET (n, note) = (SELECT 1, 'x') WHERE id = 2",
        "UPDATE of_pairs SET m = 1 WHERE number = 2",
        // The key of a partition of the row's next place.
        "UPDATE parts SET n = 1 WHERE id = 1",
        "UPDATE parts SET n = 1 WHERE id = 2",
        "UPDATE checked SET m = 1003 WHERE id = 5",
        "UPDATE checked SET m = 1004 WHERE id = 2",
        "UPDATE over_checked SET o = 1004 WHERE id = 2",
        "UPDATE check_above SET n = 1003 WHERE id = 5",
        "UPDATE of_note SET note = 'x' WHERE id = 5",
    ]);
    // Where only the view's own column is masked, and the table is nobody's.
    let of_view = "
masks: [{columns: [public.checked.secret], mask: {nullify: {}}}]
rules: [{name: all, to: {groups: [apps]}, allow: [Select, Update], relations: [public.checked]}]
";
    Stage::new(of_view).refuses(&["UPDATE checked SET m = 1003 WHERE id = 5"]);
    for sql in [
        "UPDATE pairs SET n = n, note = 'x' WHERE id = 2",
        "UPDATE pairs SET n = 0 WHERE id = 2",
        "UPDATE parts SET id = 10 WHERE id = 1",
        "UPDATE checked SET m = m, note = 'x' WHERE id = 2",
        "UPDATE checked SET m = 2000 WHERE id = 2",
        "UPDATE of_note SET n = 3000 WHERE id = 5",
        "INSERT INTO checked VALUES (10, 5, 4, 'x')",
        "INSERT INTO pairs VALUES (10, 1, 4, 'x')",
        "UPDATE less SET n = 3000 WHERE id = 5",
        "UPDATE unchecked SET n = 3000 WHERE id = 5",
    ] {
        assert!(stage.outcome(sql).is_ok(), "{sql}: {:?}", stage.outcome(sql));
    }
}

#[test]
fn a_sequence_of_a_masked_or_hidden_column_tells_no_value() {
    let mut stage = Stage::new(POLICY);
    assert_eq!(stage.outcome("INSERT INTO counted (note) VALUES ('x') RETURNING *").unwrap(), [["6", "∅", "x"]]);
    stage.refuses(&[
        "SELECT currval('counted_number_seq')",
        "SELECT nextval('counted_number_seq')",
        "SELECT currval('counted_other_seq')",
        "SELECT currval(pg_get_serial_sequence('counted', 'number'))",
        "SELECT pg_sequence_last_value('counted_number_seq')",
        "SELECT last_value FROM counted_number_seq",
        "TABLE counted_other_seq",
        "SELECT * FROM of_default",
        "SELECT currval('of_default')",
        "SELECT lastval()",
    ]);
    assert_eq!(stage.outcome("SELECT currval('counted_id_seq')").unwrap(), [["6"]]);
    assert_eq!(stage.outcome("SELECT last_value FROM counted_id_seq").unwrap(), [["6"]]);
    assert_eq!(stage.outcome("SELECT setval('counted_number_seq', 100)").unwrap(), [["100"]]);
    // Who writes nothing there gets no such value.
    let reads = "
masks:
- {columns: [public.counted.number], mask: {nullify: {}}}
rules:
- {name: reads, to: {groups: [apps]}, allow: [Select], relations: ['public.*']}
- {name: writes, to: {groups: [apps]}, allow: [Insert], relations: [public.by_default]}
";
    let mut stage = Stage::new(reads);
    stage.wire.simple("INSERT INTO by_default (note) VALUES ('x')").unwrap();
    assert_eq!(stage.outcome("SELECT lastval()").unwrap(), [["6"]]);
}
