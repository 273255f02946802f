//! The target of a write stands in it as it is, hidden columns and all: no name that the client wrote for something else comes to
//! mean one of its columns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{self, Message, Wire, error};

const SCHEMA: &str = "\
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, ssn text, tenant int DEFAULT 1);
INSERT INTO customers VALUES (1, 'n', 'RAWZQX@example.com', 'RAWZQX');
CREATE TABLE plain (id int PRIMARY KEY, v text);
INSERT INTO plain VALUES (1, 'v'), (2, 'w');
CREATE FUNCTION look_up() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN new.ssn := (SELECT r.number FROM registry r WHERE r.id = new.id); RETURN new; END';
CREATE TABLE registry (id int, number text);
INSERT INTO registry VALUES (1, 'RAWZQX1');
CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, mail text DEFAULT 'RAWZQX2', code text GENERATED ALWAYS AS ('RAWZQX3' || id) STORED,
    phone text);
INSERT INTO people VALUES (1, 'n');
CREATE TRIGGER look_up BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION look_up();";

const SPEC: &str = "\
masks:
- {columns: [public.customers.email, public.people.mail, public.people.code, public.people.phone], mask: {nullify: {}}}
rules:
- name: all
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Temp, Ddl]
  relations: [public.customers, public.plain, public.people, 'public.own*']
  hideColumns: [public.customers.ssn, public.people.ssn]";

fn through_a_gate() -> (Gate, Wire) {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    let wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    (gate, wire)
}

fn newer_than_16() -> bool {
    Server::shared().unwrap().version().unwrap() >= 17
}

/// Runs a text and holds that no raw value came, nor was stored where it can be read.
fn tells_nothing(wire: &mut Wire, text: &str) -> Vec<Message> {
    let answer = wire.simple(text).unwrap();
    let told = format!(
        "{:?}{:?}",
        answer,
        wire.simple("SELECT name FROM customers UNION ALL SELECT name FROM people").unwrap()
    );
    let bytes = answer.iter().map(|message| String::from_utf8_lossy(&message.body).to_lowercase()).collect::<String>();
    assert!(!bytes.contains("rawzqx") && !told.to_lowercase().contains("rawzqx"), "{text}: {told}");
    answer
}

#[test]
fn a_name_of_what_stands_beside_it_is_no_hidden_column_of_it() {
    let (_gate, mut wire) = through_a_gate();
    let mut texts = vec![
        "UPDATE customers c SET name = name FROM (VALUES (1)) ssn WHERE c.id = 1 RETURNING lower(ssn::text)",
        "UPDATE customers c SET name = name FROM plain ssn WHERE c.id = 1 RETURNING to_json(ssn)",
        "UPDATE customers c SET name = ssn::text FROM (VALUES (1)) ssn WHERE c.id = 1",
        "UPDATE customers c SET name = name FROM (VALUES (1)) ssn WHERE c.id = 1 AND ssn::text = 'RAWZQX' RETURNING 'raw' || 'zqx'",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT lower(ssn::text) FROM plain AS ssn LIMIT 1)",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (WITH ssn AS (SELECT 1) SELECT lower(ssn::text) FROM ssn)",
        "DELETE FROM customers c USING (VALUES (1)) ssn WHERE c.id = 1 AND ssn::text = 'RAWZQX' RETURNING 'raw' || 'zqx'",
        "INSERT INTO customers AS c (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = c.name
            RETURNING (SELECT to_json(ssn) FROM (VALUES (1)) ssn)",
        // Columns that are not all known may be there or not.
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT lower(ssn) FROM (plain a JOIN plain b USING (id)) AS j LIMIT 1)",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT lower(ssn) FROM (plain a JOIN plain b USING (id)) AS j(x) LIMIT 1)",
    ];
    if newer_than_16() {
        texts.push("MERGE INTO customers c USING (VALUES (1)) ssn ON c.id = 1 WHEN MATCHED THEN UPDATE SET name = name RETURNING to_json(ssn)");
    }
    let database = wire::rows(&wire.simple("SELECT current_database()").unwrap())[0][0].clone();
    let of_four =
        format!("UPDATE customers SET name = name WHERE id = 1 RETURNING to_json({database}.public.customers.*)");
    let of_others = "UPDATE customers SET name = name WHERE id = 1 RETURNING to_json(x.y.z.customers.*)";
    texts.extend([&*of_four, of_others]);
    texts.extend([
        "UPDATE customers SET name = (SELECT ssn FROM unnest(ARRAY[NULL]::plain[]) u) WHERE id = 1 RETURNING name",
        "UPDATE customers SET name = ssn FROM unnest(ARRAY[NULL]::plain[]) u WHERE customers.id = 1 RETURNING ssn || ''",
        "UPDATE customers SET name = (WITH RECURSIVE a AS (SELECT ssn AS z FROM b LIMIT 1), b AS (SELECT 1 AS x) SELECT z FROM a) WHERE id = 1",
        "UPDATE customers SET name = (SELECT ssn FROM plain p JOIN LATERAL unnest(ARRAY[p]) u ON true LIMIT 1) WHERE id = 1",
    ]);
    for text in texts {
        tells_nothing(&mut wire, text);
    }
    // What is certain is found.
    for text in [
        "UPDATE customers c SET name = name FROM plain ssn WHERE c.id = 1 RETURNING to_json(ssn), ssn, (SELECT x FROM (SELECT 1 AS a) x)",
        "UPDATE customers SET name = (SELECT max(name) FROM customers) WHERE id = 1 RETURNING customers, customers.email, to_json(customers)",
        "UPDATE customers c SET name = (SELECT max(c.name) FROM customers c) WHERE c.id = 1 RETURNING c.id, (SELECT email FROM plain AS c LIMIT 1)",
        "DELETE FROM customers c USING customers d WHERE c.id = d.id + 1 AND c.name = d.name RETURNING c.email, d.email, c.*",
        "INSERT INTO customers AS c (id, name) SELECT c.id + 10, c.name FROM customers c ON CONFLICT (id) DO UPDATE SET name = c.name || excluded.name RETURNING c.id, email",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT max(x.id) FROM (plain a JOIN plain b USING (id) AS x) JOIN plain c ON x.id = c.id)",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT max(q.n) FROM (SELECT v AS email, count(*) n FROM plain GROUP BY email) q)",
        "UPDATE customers SET name = name FROM (VALUES (1, 'r')) t (id, r) WHERE customers.id = t.id RETURNING to_json(customers) ->> 'email'",
        "UPDATE customers c SET name = x.email FROM (VALUES ('m')) x (email) WHERE c.id = 1 RETURNING c.email || x.email",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT email FROM (VALUES ('m')) x (email))",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT max(id) FROM plain a JOIN plain b USING (id))",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT max(id) FROM plain a NATURAL JOIN plain b)",
        "UPDATE customers c SET name = name WHERE id = 1 RETURNING (SELECT max(id) FROM plain a NATURAL JOIN customers b)",
    ] {
        assert!(error(&tells_nothing(&mut wire, text)).is_none(), "{text}");
    }
}

/// What the gate knows of the other relation may be old: a name that was a column of it is none of the target's.
#[test]
fn a_column_that_is_gone_meanwhile_is_no_column_of_it() {
    let (_gate, mut wire) = through_a_gate();
    let made = "DROP TABLE IF EXISTS own, own2;
        CREATE TABLE own (id int, ssn text, email text, customers text); INSERT INTO own VALUES (1, 'own', 'own', 'own');
        CREATE TABLE own2 (id int, ssn text, email text); INSERT INTO own2 VALUES (1, 'own', 'own')";
    let mut writes = vec![
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT lower(ssn) FROM own)",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT email || '!' FROM own)",
        "UPDATE customers c SET name = ssn FROM own WHERE c.id = 1 RETURNING c.name",
        "UPDATE customers c SET name = name FROM own WHERE c.id = 1 AND ssn = 'RAWZQX' RETURNING 'raw' || 'zqx'",
        "UPDATE customers c SET (name, tenant) = (SELECT ssn, 1 FROM own) WHERE c.id = 1 RETURNING c.name",
        "INSERT INTO customers AS c (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = c.name RETURNING (SELECT lower(ssn) FROM own)",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT lower(ssn) FROM own JOIN own2 USING (ssn))",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT lower(ssn) FROM own NATURAL JOIN own2)",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT lower(max(ssn)) FROM own ORDER BY max(ssn))",
    ];
    if newer_than_16() {
        writes.push("MERGE INTO customers c USING own ON c.id = 1 WHEN MATCHED THEN UPDATE SET name = name RETURNING lower(ssn)");
    }
    writes.extend([
        "UPDATE customers SET name = (SELECT customers::text FROM own) WHERE id = 1 RETURNING name",
        "DO $$ BEGIN ALTER TABLE own ALTER COLUMN id DROP NOT NULL; UPDATE customers SET name = (SELECT ssn FROM own LIMIT 1) WHERE id = 1; END $$",
    ]);
    let gone =
        "ALTER TABLE own DROP COLUMN ssn, DROP COLUMN email, DROP COLUMN customers; ALTER TABLE own2 DROP COLUMN ssn";
    for write in writes {
        for text in [&*format!("{gone}; {write}"), &*format!("BEGIN; {gone}; {write}; ROLLBACK")] {
            assert!(error(&wire.simple(made).unwrap()).is_none());
            assert!(error(&tells_nothing(&mut wire, &format!("BEGIN; {write}; ROLLBACK"))).is_none(), "{write}");
            tells_nothing(&mut wire, text);
            tells_nothing(&mut wire, "ROLLBACK");
        }
    }
    assert!(error(&wire.simple(made).unwrap()).is_none());
    wire.simple("ALTER TABLE own DROP COLUMN ssn").unwrap();
    // Added in a transaction that ends in the same text.
    for end in ["ROLLBACK", "ROLLBACK TO s"] {
        wire.simple("BEGIN; SAVEPOINT s; ALTER TABLE own ADD ssn text").unwrap();
        tells_nothing(
            &mut wire,
            &format!("{end}; UPDATE customers c SET name = name WHERE c.id = 1 RETURNING (SELECT lower(ssn) FROM own)"),
        );
        wire.simple("ROLLBACK").unwrap();
    }
}

/// ON sees what it joins, TABLESAMPLE nothing beside it, and WHEN NOT MATCHED BY SOURCE no source: the server looks further out.
#[test]
fn what_the_server_does_not_see_there_is_no_column_of_it() {
    let (_gate, mut wire) = through_a_gate();
    let mut texts = vec![
        "UPDATE customers p SET name = 'n' WHERE p.id = 1 RETURNING (SELECT string_agg(chr(r.c), '' ORDER BY r.pos) FROM (VALUES ('a', 'b')) v (email, ssn),
            ((SELECT 1) q JOIN (SELECT pos, c FROM generate_series(1, 9) pos, generate_series(48, 90) c) r ON substr(ssn, r.pos, 1) = chr(r.c)))",
        "UPDATE customers p SET name = 'n' WHERE p.id = 1 RETURNING (SELECT string_agg(chr(r.c), '' ORDER BY r.pos) FROM (VALUES ('a', 'b')) v (email, ssn),
            ((SELECT 1) q JOIN (SELECT pos, c FROM generate_series(1, 9) pos, generate_series(48, 90) c) r ON substr(v.email, r.pos, 1) = chr(r.c)))",
        "UPDATE customers p SET name = 'n' WHERE p.id = 1 RETURNING (SELECT max('raw' || 'zqx') FROM (VALUES ('a')) p (email),
            (plain q LEFT JOIN plain r ON q.id = r.id AND p.email ~ 'RAWZQX') WHERE r.id IS NOT NULL)",
        "UPDATE customers p SET name = 'n' WHERE p.id = 1 RETURNING (SELECT max('raw' || 'zqx') FROM (VALUES ('a')) p (ssn),
            plain TABLESAMPLE SYSTEM ((CASE WHEN p.ssn ~ 'RAWZQX' THEN 100 ELSE 0 END)))",
    ];
    if newer_than_16() {
        texts.extend([
            "MERGE INTO customers c USING (VALUES (9, 'x')) s (id, ssn) ON c.id = s.id WHEN NOT MATCHED BY SOURCE THEN UPDATE SET name = ssn RETURNING c.name",
            "MERGE INTO customers c USING (VALUES (9, 'x')) s (id, ssn) ON c.id = s.id WHEN NOT MATCHED BY SOURCE THEN UPDATE SET name = s.ssn RETURNING c.name",
            "MERGE INTO customers c USING ((VALUES (9, 'x')) a (id, ssn) JOIN (VALUES (9, 'x')) b (i, ssn) USING (ssn)) ON c.id = a.id
                WHEN NOT MATCHED BY SOURCE THEN UPDATE SET name = ssn RETURNING c.name",
            "MERGE INTO customers c USING (VALUES (9)) ssn (id) ON c.id = ssn.id WHEN NOT MATCHED BY SOURCE THEN UPDATE SET name = ssn::text RETURNING c.name",
        ]);
    }
    for text in texts {
        tells_nothing(&mut wire, text);
    }
}

/// In every place of a write where an expression can stand.
#[test]
fn a_subscript_of_what_is_assigned_is_decided_as_any_expression() {
    if Server::shared().unwrap().version().unwrap() < 15 {
        return;
    }
    let (_gate, mut wire) = through_a_gate();
    assert!(
        error(&wire.simple("CREATE TABLE own (id int, a int[]); INSERT INTO own VALUES (2, '{1}')").unwrap()).is_none()
    );
    let subscripts = [
        "(SELECT ascii(ssn) FROM customers WHERE id = 1)",
        "length(pg_read_file('/etc/passwd'))",
        "length(set_config('role', 'none', false))",
    ];
    for subscript in subscripts {
        for text in [
            format!(
                "MERGE INTO own USING (SELECT 1 AS i) s ON own.id = s.i WHEN NOT MATCHED THEN INSERT (id, a[{subscript}]) VALUES (1, 5)"
            ),
            format!(
                "MERGE INTO own USING (SELECT 2 AS i) s ON own.id = s.i WHEN MATCHED THEN UPDATE SET a[{subscript}] = 5"
            ),
            format!("INSERT INTO own (id, a[{subscript}]) VALUES (1, 5)"),
            format!("INSERT INTO own (id) VALUES (1) RETURNING a[{subscript}]"),
            format!("UPDATE own SET a[{subscript}] = 5"),
            format!("UPDATE own SET (id, a[{subscript}]) = (SELECT 1, 5)"),
            format!("UPDATE own SET (id, a[{subscript}]) = ROW(1, 5)"),
        ] {
            let answer = tells_nothing(&mut wire, &text);
            assert!(error(&answer).is_some(), "{text}");
        }
    }
    for text in [
        "MERGE INTO own USING (SELECT 1 AS i) s ON own.id = s.i WHEN NOT MATCHED THEN INSERT (id, a[s.i + abs(-1)]) VALUES (1, 5)",
        "UPDATE own SET a[abs(-2)] = 5",
    ] {
        assert!(error(&tells_nothing(&mut wire, text)).is_none(), "{text}");
    }
}

/// The gate learns of an owner's change later than it is made.
#[test]
fn a_column_that_the_owner_renames_meanwhile_is_not_taken_for_a_row() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, SPEC)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    tells_nothing(&mut wire, "SELECT 1");
    let mut owner = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    assert!(error(&owner.simple("ALTER TABLE customers RENAME email TO mail2").unwrap()).is_none());
    for text in [
        "UPDATE customers c SET name = name FROM (VALUES (1)) mail2 WHERE c.id = 1 RETURNING lower(mail2::text)",
        "UPDATE customers c SET name = name WHERE c.id = 1 RETURNING lower((SELECT mail2 FROM (VALUES (1)) mail2)::text)",
    ] {
        tells_nothing(&mut wire, text);
    }
}

#[test]
fn excluded_is_what_the_client_gave_and_nothing_else() {
    let (_gate, mut wire) = through_a_gate();
    for set in [
        "name = (excluded).ssn",
        "name = excluded.ssn",
        "name = to_jsonb(excluded)::text",
        "name = excluded::text",
        "name = (excluded.*)::text",
        "name = ROW(excluded.*)::text",
        "name = (SELECT e::text FROM (SELECT excluded.*) e)",
        "name = excluded.mail",
        "name = excluded.code || 'x'",
        "name = coalesce(excluded.mail, 'x')",
        "name = (SELECT excluded.mail)",
        "(name, phone) = (excluded.mail, '1')",
        "(name, phone) = (SELECT excluded.code, '1')",
    ] {
        let text = format!(
            "INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET {set} RETURNING name"
        );
        tells_nothing(&mut wire, &text);
        assert!(error(&wire.simple(&text).unwrap()).is_some(), "{set}");
    }
    for text in [
        "INSERT INTO people (id, name, phone) VALUES (1, 'x', '123') ON CONFLICT (id) DO UPDATE SET name = excluded.name, phone = excluded.phone",
        "INSERT INTO people (id, name, phone) VALUES (1, 'x', '124') ON CONFLICT (id) DO UPDATE SET name = excluded.name || excluded.phone",
        "INSERT INTO people (id, name, phone) VALUES (1, 'x', '124') ON CONFLICT (id) DO UPDATE SET (name, phone) = ROW(excluded.name, excluded.phone)",
        "INSERT INTO people (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET mail = excluded.mail",
        "INSERT INTO people (id, mail) SELECT id, v FROM plain WHERE id = 1 ON CONFLICT (id) DO UPDATE SET mail = excluded.mail, name = excluded.mail",
    ] {
        assert!(error(&tells_nothing(&mut wire, text)).is_none(), "{text}: {:?}", wire.simple(text));
    }
    assert_eq!(wire::rows(&wire.simple("SELECT name FROM people").unwrap()), [["v"]]);
}
