//! The catalog against a real server: what is loaded, and that names mean what they mean to the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod binding;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use binding::Client;
use postern_crds::TlsMode;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_e2e::process::Process;
use postern_sidecar::catalog::connect::ToServer;
use postern_sidecar::catalog::load::{Rows, fingerprint, load, load_again};
use postern_sidecar::catalog::names::{self, Choice, Resolution};
use postern_sidecar::catalog::overlay::{decode_overlay, overlay_query};
use postern_sidecar::catalog::refresh::{CatalogKeeper, Connect, KeeperOptions};
use postern_sidecar::catalog::snapshot;
use postern_sidecar::catalog::{Catalog, Oid, Relation, RelationKind};
use postern_sidecar::upstream::{Credential, Tls, UpstreamConfig};

async fn loaded(sql: &str) -> (Catalog, Client) {
    let server = Server::shared().unwrap();
    let database = server.database_with(sql).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let (catalog, _) = load(&mut client).await.unwrap();
    (catalog, client)
}

fn find<'a>(catalog: &'a Catalog, name: &str) -> &'a Relation {
    catalog.relation("public", name).unwrap_or_else(|| panic!("no public.{name}"))
}

const SHOP: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN positive AS numeric(10,2) CHECK (VALUE > 0);
    CREATE DOMAIN small_positive AS positive NOT NULL;
    CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE customers (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      "Name" varchar(40) NOT NULL,
      email text UNIQUE,
      nick text COLLATE anycase,
      price positive DEFAULT 1,
      feeling mood[],
      lower_email text GENERATED ALWAYS AS (lower(email)) STORED,
      CONSTRAINT named CHECK ("Name" <> '' OR email IS NOT NULL),
      CONSTRAINT whole CHECK (customers IS NOT NULL));
    CREATE UNIQUE INDEX nick_c ON customers (nick COLLATE "C");
    CREATE UNIQUE INDEX part ON customers (price) WHERE email IS NOT NULL;
    CREATE INDEX expr ON customers (upper(email), id) INCLUDE (nick);
    ALTER TABLE customers DROP COLUMN feeling;
    ALTER TABLE customers ADD COLUMN feeling mood[];
    CREATE TABLE orders (id serial PRIMARY KEY, customer bigint REFERENCES customers ON DELETE CASCADE);
    CREATE VIEW names AS SELECT "Name", upper(email) AS loud FROM customers WHERE id > 0;
    CREATE VIEW rows AS SELECT customers, id FROM customers;
    CREATE VIEW over AS SELECT n."Name" FROM names n JOIN orders o ON true;
    CREATE MATERIALIZED VIEW held AS SELECT id FROM customers;
    CREATE TABLE events (at timestamptz, what text) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE base (a int PRIMARY KEY);
    CREATE TABLE child () INHERITS (base);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touches BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE FUNCTION pair(a int, OUT x int, OUT y text) LANGUAGE sql BEGIN ATOMIC SELECT a, a::text; END;
    CREATE PROCEDURE proc(a int, OUT b int) LANGUAGE plpgsql AS 'BEGIN b := a; END';
    CREATE FUNCTION many(VARIADIC a int[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION opt(a int, b int DEFAULT 1, c int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE RULE quiet AS ON INSERT TO base DO ALSO NOTHING;
    ALTER TABLE base ENABLE ROW LEVEL SECURITY;
    CREATE SEQUENCE loose;
"#;

#[tokio::test]
async fn a_shop_is_loaded_whole() {
    let (catalog, _client) = loaded(SHOP).await;
    let customers = find(&catalog, "customers");
    let types: Vec<(i16, &str, &str)> =
        customers.columns.iter().map(|column| (column.number, &*column.name, &*column.type_sql)).collect();
    assert_eq!(
        types,
        [
            (1, "id", "bigint"),
            (2, "Name", "character varying(40)"),
            (3, "email", "text"),
            (4, "nick", "text"),
            (5, "price", "public.positive"),
            (7, "lower_email", "text"),
            (8, "feeling", "public.mood[]"),
        ]
    );
    assert_eq!(customers.column("id").unwrap().identity, Some('a'));
    assert_eq!(customers.column("price").unwrap().default.as_deref(), Some("1"));
    assert_eq!(customers.column("lower_email").unwrap().generated.as_deref(), Some("lower(email)"));
    assert_eq!(customers.column("lower_email").unwrap().default, None);
    assert!(customers.column("Name").unwrap().not_null);
    let check = |name: &str| customers.checks.iter().find(|check| &*check.name == name).unwrap();
    assert_eq!(check("named").columns, [2, 3]);
    assert_eq!(check("whole").columns, [1, 2, 3, 4, 5, 7, 8], "a whole row reads every column");
    let index = |name: &str| customers.indexes.iter().find(|index| &*index.name == name).unwrap();
    assert!(index("customers_pkey").primary && index("customers_pkey").valid);
    assert!(!index("nick_c").valid, "unique under C is not unique under the column's own equality");
    assert_eq!(index("part").predicate.as_deref(), Some("(email IS NOT NULL)"));
    assert_eq!(index("expr").columns, [0, 1]);
    assert!(index("expr").reads.contains(&3));
    let keys: Vec<&[i16]> = names::unique_key_columns(customers).collect();
    assert_eq!(keys, [&[3_i16] as &[i16], &[1]]);
    assert!(names::at_most_one(customers, &[1, 2].into()) && !names::at_most_one(customers, &[2, 4, 5].into()));
    assert!(!names::at_most_one(find(&catalog, "base"), &[1].into()), "children's rows are in no index of the parent");

    let orders = find(&catalog, "orders");
    assert_eq!(orders.foreign_keys[0].references, customers.oid);
    assert_eq!((&*orders.foreign_keys[0].columns, orders.foreign_keys[0].on_delete), (&[2_i16] as &[i16], 'c'));
    let to: Vec<Oid> = catalog.foreign_keys_to(customers.oid).map(|(from, _)| from.oid).collect();
    assert_eq!(to, [orders.oid]);
    let sequence = find(&catalog, "orders_id_seq");
    assert_eq!((sequence.kind, sequence.owned_by), (RelationKind::Sequence, Some((orders.oid, 1))));
    assert_eq!(find(&catalog, "customers_id_seq").owned_by, Some((customers.oid, 1)));
    assert_eq!(find(&catalog, "loose").owned_by, None);

    let view = find(&catalog, "names");
    assert!(view.definition.as_deref().unwrap().contains("public.customers"));
    assert_eq!(view.depends_on, [(customers.oid, 1), (customers.oid, 2), (customers.oid, 3)]);
    assert!(find(&catalog, "rows").depends_on.contains(&(customers.oid, 0)), "a whole row is seen");
    let over: Vec<&str> = catalog.views_over(customers.oid).iter().map(|oid| &*catalog.relations[oid].name).collect();
    for name in ["names", "rows", "held", "over"] {
        assert!(over.contains(&name), "{name} in {over:?}");
    }

    let (events, part) = (find(&catalog, "events"), find(&catalog, "events_1"));
    assert_eq!(events.kind, RelationKind::PartitionedTable);
    assert_eq!((catalog.ancestors(part.oid), catalog.descendants(events.oid)), (vec![events.oid], vec![part.oid]));
    assert_eq!((events.partition_key.as_slice(), part.partition_key.as_slice()), (&[1_i16] as &[i16], &[] as &[i16]));
    let base = find(&catalog, "base");
    assert!(base.has_rules && base.row_security && !view.has_rules);
    assert_eq!(find(&catalog, "child").parents, [base.oid]);

    let trigger = &customers.triggers[0];
    let function = catalog.function(trigger.function).unwrap();
    assert!(function.security_definer && function.body.as_deref() == Some("BEGIN RETURN NEW; END"));
    let path = ["public".to_owned()];
    let one = |name: &str, count| catalog.function_candidates(&path, None, name, count).len();
    assert_eq!((one("opt", 0), one("opt", 1), one("opt", 3), one("opt", 4)), (0, 1, 1, 0));
    assert_eq!((one("many", 0), one("many", 1), one("many", 5)), (0, 1, 1));
    assert_eq!((one("proc", 1), one("proc", 2)), (0, 1), "CALL gives the OUT arguments, too");
    let pair = catalog.function_candidates(&path, None, "pair", 1)[0];
    assert_eq!(pair.out_columns.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["x", "y"]);
    assert!(pair.body.as_deref().unwrap().contains("SELECT"), "a body in standard SQL is deparsed");

    let domain = catalog.type_named("public", "small_positive").unwrap();
    assert!(domain.not_null && domain.has_checks && catalog.base_type(domain.oid) == names::types::NUMERIC);
    let mood = catalog.type_named("public", "mood").unwrap();
    assert_eq!(mood.labels.iter().map(|label| &**label).collect::<Vec<_>>(), ["sad", "happy"]);
    assert!(!catalog.collations["anycase"][0].deterministic);
    assert!(catalog.roles[ADMIN] && catalog.extensions.contains("plpgsql"));
}

#[tokio::test]
async fn what_views_call_and_are_checked_by_and_what_partition_keys_read_is_loaded() {
    let (catalog, _client) = loaded(
        "CREATE TABLE t (id int, note text, kind text);
         CREATE FUNCTION one(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION two(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION three(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1';
         CREATE FUNCTION four(i int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT one(i); END;
         CREATE OPERATOR ### (leftarg = int, rightarg = int, function = two);
         CREATE AGGREGATE all_of(int) (sfunc = three, stype = int);
         CREATE VIEW v AS SELECT id ### 1 AS a, lower(note) AS b, id FROM t WHERE four(id) > 0 WITH CHECK OPTION;
         CREATE MATERIALIZED VIEW m AS SELECT all_of(id) FROM t;
         CREATE VIEW w AS SELECT lower(note) FROM t;
         CREATE TABLE p (id int, kind text, \"Odd \"\"name\" text, other text) PARTITION BY RANGE (id, lower(kind), (\"Odd \"\"name\" || 'x'));",
    )
    .await;
    let called = |view: &str| {
        let names = find(&catalog, view).calls.iter().map(|oid| &*catalog.function(*oid).unwrap().name);
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(called("v").into_iter().collect::<Vec<_>>(), ["four", "one", "two"]);
    assert_eq!(called("m").into_iter().collect::<Vec<_>>(), ["all_of", "three"]);
    assert!(called("w").is_empty() && find(&catalog, "v").check_option && !find(&catalog, "w").check_option);
    assert_eq!(find(&catalog, "p").partition_key, [1, 2, 3]);
}

#[tokio::test]
async fn the_newest_relation_is_read_as_any_other() {
    let sql = "CREATE TABLE newest (a int, b int, CHECK (newest IS NOT NULL));
               CREATE INDEX whole ON newest ((newest IS NULL))";
    let (catalog, _client) = loaded(sql).await;
    let newest = find(&catalog, "newest");
    assert_eq!((&*newest.checks[0].columns, &*newest.indexes[0].reads), (&[1_i16, 2] as &[i16], &[1_i16, 2] as &[i16]));
}

#[tokio::test]
async fn a_role_without_any_right_reads_the_same_catalog() {
    let (mut catalog, mut client) = loaded(SHOP).await;
    for sql in ["CREATE ROLE reads_nothing LOGIN", "REVOKE ALL ON SCHEMA public FROM PUBLIC"] {
        client.rows(sql, &mut |_| Ok(())).await.unwrap();
    }
    let database = answers(&mut client, "SELECT current_database()").await[0][0].clone().unwrap();
    let mut other = Client(Server::shared().unwrap().client("reads_nothing", &database).await.unwrap());
    let (mut seen, _) = load(&mut other).await.unwrap();
    catalog.roles.clear();
    seen.roles.clear();
    assert!(seen == catalog);
}

#[tokio::test]
async fn a_relation_that_a_migration_holds_does_not_hold_up_what_is_new_beside_it() {
    let (known, mut client) = loaded(
        "CREATE TABLE held (id serial, n int CHECK (n > 0), twice int GENERATED ALWAYS AS (n * 2) STORED);
         CREATE INDEX held_even ON held (abs(n)) WHERE n % 2 = 0;
         CREATE VIEW of_held AS SELECT n FROM held;
         CREATE VIEW of_view AS SELECT n FROM of_held;",
    )
    .await;
    let database = answers(&mut client, "SELECT current_database()").await[0][0].clone().unwrap();
    let mut migration = Client(Server::shared().unwrap().client(ADMIN, &database).await.unwrap());
    let change = "BEGIN; ALTER TABLE held ADD extra text DEFAULT 'x', ADD CHECK (n < 100)";
    migration.rows(change, &mut |_| Ok(())).await.unwrap();
    client.rows("CREATE TABLE made_meanwhile (id int)", &mut |_| Ok(())).await.unwrap();
    // One that takes longer fails: waiting for the lock ends with an error.
    let (catalog, print) = load_again(&mut client, &known).await.unwrap();
    assert!(print.is_none(), "the next check must load again");
    assert_eq!(find(&catalog, "made_meanwhile").columns.len(), 1);
    for name in ["held", "of_held", "of_view"] {
        assert_eq!(find(&catalog, name), find(&known, name), "{name}");
    }
    migration.rows("COMMIT", &mut |_| Ok(())).await.unwrap();
    let (catalog, print) = load_again(&mut client, &catalog).await.unwrap();
    assert!(print.is_some());
    let held = find(&catalog, "held");
    assert_eq!((held.columns.len(), held.checks.len()), (4, 2));
    assert_eq!(held.column("id").unwrap().default.as_deref(), Some("nextval('public.held_id_seq'::regclass)"));
}

#[tokio::test]
async fn what_newer_servers_have_is_loaded_too() {
    let version = Server::shared().unwrap().version().unwrap();
    if version < 18 {
        eprintln!("needs Postgres 18, this is {version}");
        return;
    }
    let (catalog, mut client) = loaded(
        "CREATE EXTENSION btree_gist;
         CREATE TABLE t (a int NOT NULL, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int CHECK (c > 0) NOT ENFORCED);
         CREATE TABLE u (id int, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS));",
    )
    .await;
    let table = find(&catalog, "t");
    assert_eq!(table.column("b").unwrap().generated.as_deref(), Some("(a * 2)"));
    assert!(table.column("a").unwrap().not_null && table.checks.len() == 1);
    assert_eq!(names::unique_key_columns(find(&catalog, "u")).count(), 0, "a key without overlaps is no plain key");
    client.rows("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE", &mut |_| Ok(())).await.unwrap();
    let again = overlay(&mut client, &[(None, "t")]).await;
    assert_eq!(again[0].columns, table.columns);
}

#[tokio::test]
async fn each_change_that_the_snapshot_holds_changes_the_fingerprint_and_nothing_else_does() {
    // Roles are of the whole server, so this one is not shared.
    let server = Server::start(&ServerOptions::default()).unwrap();
    let database = server.database_with(SHOP).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let mut last = fingerprint(&mut client).await.unwrap();
    for (sql, changes) in [
        ("INSERT INTO base VALUES (1)", false),
        ("ANALYZE", false),
        ("CREATE TEMP TABLE scratch (a int, b text DEFAULT 'x', CHECK (a > 0), UNIQUE (b))", false),
        ("DROP TABLE scratch", false),
        ("ALTER TABLE orders RENAME COLUMN customer TO buyer", true),
        ("ALTER TABLE orders ALTER buyer SET NOT NULL", true),
        ("ALTER TABLE orders ALTER buyer SET DEFAULT 7", true),
        ("ALTER TABLE orders DROP COLUMN buyer", true),
        ("ALTER SEQUENCE loose OWNED BY orders.id", true),
        ("ALTER TABLE base DISABLE ROW LEVEL SECURITY", true),
        ("ALTER TYPE mood ADD VALUE 'fine'", true),
        ("CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'", true),
        ("DROP TRIGGER touches ON customers", true),
        ("CREATE OR REPLACE VIEW names AS SELECT \"Name\", lower(email) AS loud FROM customers", true),
        ("DROP INDEX expr", true),
        ("CREATE SCHEMA other", true),
        ("ALTER TABLE child NO INHERIT base", true),
        ("CREATE DOMAIN d AS int", true),
        ("ALTER DOMAIN d ADD CHECK (VALUE > 1)", true),
        ("CREATE ROLE fingerprinted", true),
        ("ALTER ROLE fingerprinted SUPERUSER", true),
        ("DROP ROLE fingerprinted", true),
        ("CREATE EXTENSION IF NOT EXISTS plpgsql", false),
    ] {
        client.rows(sql, &mut |_| Ok(())).await.unwrap();
        let now = fingerprint(&mut client).await.unwrap();
        assert_eq!(now != last, changes, "{sql}");
        last = now;
    }
}

/// Makes the server itself say which function or operator it chooses: in the tree of a view.
const CHOOSER: &str = r"
    CREATE FUNCTION chosen(expression text, tag text, OUT choice oid, OUT result oid) LANGUAGE plpgsql AS $$
    BEGIN
      BEGIN
        EXECUTE 'CREATE VIEW chosen_view AS SELECT ' || expression || ' AS x';
        SELECT substring(ev_action::text FROM '\{' || tag || ' (\d+)')::oid INTO choice
          FROM pg_rewrite WHERE ev_class = 'chosen_view'::regclass;
        SELECT atttypid INTO result FROM pg_attribute WHERE attrelid = 'chosen_view'::regclass AND attnum = 1;
        RAISE EXCEPTION USING ERRCODE = 'PX001';
      EXCEPTION WHEN SQLSTATE 'PX001' THEN RETURN;
                WHEN OTHERS THEN RETURN;
      END;
    END $$;
    CREATE TYPE mood AS ENUM ('sad');
    CREATE DOMAIN positive AS int;
    CREATE TABLE pair (a int, b text);
";

const TYPES: &[&str] = &[
    "unknown",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float8",
    "text",
    "varchar",
    "bpchar",
    "name",
    "bool",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "bytea",
    "jsonb",
    "json",
    "inet",
    "oid",
    "regclass",
    "int4[]",
    "text[]",
    "int4range",
    "int4multirange",
    "point",
    "bit",
    "money",
    "tsvector",
    "public.mood",
    "public.positive",
    "public.pair",
    "public.mood[]",
];

fn operand(kind: &str) -> String {
    if kind == "unknown" { "NULL".into() } else { format!("(NULL::{kind})") }
}

fn type_oid(catalog: &Catalog, kind: &str) -> Oid {
    let (element, array) = kind.strip_suffix("[]").map_or((kind, false), |element| (element, true));
    let (schema, name) = element.split_once('.').unwrap_or(("pg_catalog", element));
    let found = catalog.type_named(schema, name).unwrap_or_else(|| panic!("no type {kind}"));
    if array { found.array } else { found.oid }
}

#[derive(Default)]
struct Score {
    same: usize,
    both_fail: usize,
    cautious: usize,
    fails_there: usize,
    wrong: Vec<String>,
    typed: usize,
    untyped: usize,
}

impl Score {
    /// A certain answer must be the server's; an uncertain one must contain it.
    fn add(&mut self, what: String, server: Option<Oid>, ours: &[Oid]) {
        match (server, ours) {
            (Some(oid), [only]) if oid == *only => self.same += 1,
            (Some(oid), several) if several.len() > 1 && several.contains(&oid) => self.cautious += 1,
            (Some(_), _) => self.wrong.push(format!("{what}: the server chooses {server:?}, we {ours:?}")),
            (None, []) => self.both_fail += 1,
            (None, _) => self.fails_there += 1,
        }
    }

    /// A result's type is the server's, or not known.
    fn add_type(&mut self, what: String, server: Oid, ours: Option<Oid>) {
        match ours {
            Some(oid) if oid == server => self.typed += 1,
            None => self.untyped += 1,
            Some(oid) => self.wrong.push(format!("{what}: its type is {server}, not {oid}")),
        }
    }

    fn check(&self, least_certain: f64) {
        eprintln!("results typed {}, not typed {}", self.typed, self.untyped);
        eprintln!(
            "same {}, both fail {}, uncertain {}, fails only there {}, wrong {}",
            self.same,
            self.both_fail,
            self.cautious,
            self.fails_there,
            self.wrong.len()
        );
        assert!(self.wrong.is_empty(), "{}", self.wrong.iter().take(30).cloned().collect::<Vec<_>>().join("\n"));
        let chosen = (self.same + self.cautious) as f64;
        assert!(self.same as f64 >= least_certain * chosen, "too often uncertain");
    }
}

async fn answers(client: &mut Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    client
        .rows(sql, &mut |fields| {
            rows.push(fields.iter().map(|field| field.map(str::to_owned)).collect());
            Ok(())
        })
        .await
        .unwrap();
    rows
}

#[tokio::test]
async fn an_operator_is_the_one_that_the_server_chooses() {
    let (catalog, mut client) = loaded(CHOOSER).await;
    let path = ["public".to_owned()];
    let oids: BTreeMap<(String, String, Oid, Oid), Oid> = answers(
        &mut client,
        "SELECT n.nspname, oprname, oprleft, oprright, o.oid FROM pg_operator o JOIN pg_namespace n ON n.oid = oprnamespace",
    )
    .await
    .into_iter()
    .map(|row| {
        let text = |index: usize| row[index].clone().unwrap();
        ((text(0), text(1), text(2).parse().unwrap(), text(3).parse().unwrap()), text(4).parse().unwrap())
    })
    .collect();
    let mut score = Score::default();
    for name in ["=", "<>", "<", "+", "-", "*", "/", "||", "~~", "~", "->", "->>", "@>", "&&", "@@", "^", "%"] {
        let values: Vec<String> = TYPES
            .iter()
            .flat_map(|left| TYPES.iter().map(move |right| (left, right)))
            .map(|(left, right)| format!("('{left}','{right}','{} {name} {}')", operand(left), operand(right)))
            .collect();
        let sql =
            format!("SELECT l, r, c.* FROM (VALUES {}) v (l, r, e), chosen(e, 'OPEXPR :opno') c", values.join(","));
        for row in answers(&mut client, &sql).await {
            let (left, right) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
            let server: Option<Oid> = row[2].as_deref().map(|oid| oid.parse().unwrap()).filter(|oid| *oid != 0);
            let choice = catalog.operator(
                &path,
                None,
                name,
                Some(Some(type_oid(&catalog, left))),
                Some(type_oid(&catalog, right)),
            );
            let ours: Vec<Oid> = choice
                .all()
                .iter()
                .map(|op| oids[&(op.schema.to_string(), op.name.to_string(), op.left, op.right)])
                .collect();
            score.add(format!("{left} {name} {right}"), server, &ours);
            if let (Some(result), Choice::One(operator)) = (row[3].as_deref(), &choice)
                && server.is_some()
            {
                let operands = [left, right].map(|kind| Some(type_oid(&catalog, kind)));
                let typed = catalog.result_type(&[operator.left, operator.right], operator.result, &operands);
                score.add_type(format!("{left} {name} {right}"), result.parse().unwrap(), typed);
            }
            // What isn't known can only widen the answer.
            for (left, right) in
                [(None, Some(type_oid(&catalog, right))), (Some(type_oid(&catalog, left)), None), (None, None)]
            {
                let choice = catalog.operator(&path, None, name, Some(left), right);
                let wide = |op: &&postern_sidecar::catalog::Operator| {
                    Some(oids[&(op.schema.to_string(), op.name.to_string(), op.left, op.right)]) == server
                };
                assert!(
                    server.is_none() || choice.all().iter().any(wide),
                    "{left:?} {name} {right:?} lacks {server:?}"
                );
            }
        }
    }
    score.check(0.97);
}

#[tokio::test]
async fn a_function_is_the_one_that_the_server_chooses() {
    let (catalog, mut client) = loaded(&format!(
        "{CHOOSER}
         CREATE FUNCTION lower(int) RETURNS text LANGUAGE sql AS 'SELECT 1::text';
         CREATE FUNCTION f(a anyelement, b anyelement) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION f(a text, b text) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION g(a anycompatible, b anycompatible) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION g(a anyarray, b anyelement) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION h(a int8, b int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION h(VARIADIC a numeric[]) RETURNS int LANGUAGE sql AS 'SELECT 1';"
    ))
    .await;
    let path = ["public".to_owned()];
    let mut score = Score::default();
    let ones = [
        "lower",
        "upper",
        "length",
        "abs",
        "round",
        "text",
        "int4",
        "date",
        "to_jsonb",
        "array_length",
        "md5",
        "sum",
        "max",
        "count",
        "h",
        "numeric",
        "bpchar",
        "name",
        "char_length",
        "isempty",
        "sqrt",
        "unnest",
        "quote_literal",
    ];
    let twos = [
        "substring",
        "left",
        "round",
        "concat",
        "to_char",
        "date_trunc",
        "age",
        "mod",
        "power",
        "f",
        "g",
        "h",
        "position",
        "strpos",
        "array_append",
        "array_cat",
        "range_merge",
        "greatest_not_there",
        "date_part",
        "json_build_object",
        "format",
        "timezone",
        "overlaps",
        "to_timestamp",
        "pow",
        "log",
    ];
    let mut calls = Vec::new();
    for name in ones {
        calls.extend(TYPES.iter().map(|kind| (name, vec![*kind])));
    }
    for name in twos {
        for left in TYPES {
            calls.extend(TYPES.iter().map(|right| (name, vec![*left, *right])));
        }
    }
    for chunk in calls.chunks(2000) {
        let values: Vec<String> = chunk
            .iter()
            .enumerate()
            .map(|(index, (name, kinds))| {
                let arguments: Vec<String> = kinds.iter().map(|kind| operand(kind)).collect();
                format!("({index},'\"{name}\"({})')", arguments.join(","))
            })
            .collect();
        let sql = format!(
            "SELECT i, c.* FROM (VALUES {}) v (i, e), chosen(e, '(?:FUNCEXPR :funcid|AGGREF :aggfnoid)') c",
            values.join(",")
        );
        for row in answers(&mut client, &sql).await {
            let (name, kinds) = &chunk[row[0].as_deref().unwrap().parse::<usize>().unwrap()];
            let server: Option<Oid> = row[1].as_deref().map(|oid| oid.parse().unwrap()).filter(|oid| *oid != 0);
            let arguments: Vec<Option<Oid>> = kinds.iter().map(|kind| Some(type_oid(&catalog, kind))).collect();
            if catalog.is_cast_call(&path, None, name, &arguments)
                && matches!(catalog.resolve_function(&path, None, name, &arguments), Choice::None)
            {
                continue;
            }
            let choice = catalog.resolve_function(&path, None, name, &arguments);
            let ours: Vec<Oid> = choice.all().iter().map(|found| found.oid).collect();
            score.add(format!("{name}{kinds:?}"), server, &ours);
            if let (Some(result), Choice::One(function)) = (row[2].as_deref(), &choice)
                && server.is_some()
            {
                let typed = catalog.result_type(&function.arguments, function.result, &arguments);
                score.add_type(format!("{name}{kinds:?}"), result.parse().unwrap(), typed);
            }
            let candidates = catalog.function_candidates(&path, None, name, arguments.len());
            for unknown in 0..arguments.len() {
                let mut arguments = arguments.clone();
                arguments[unknown] = None;
                let choice = catalog.resolve_function(&path, None, name, &arguments);
                let has =
                    |all: &[&postern_sidecar::catalog::Function]| all.iter().any(|found| Some(found.oid) == server);
                assert!(
                    server.is_none() || (has(choice.all()) && has(&candidates)),
                    "{name}{kinds:?} without the type of argument {unknown} lacks {server:?}"
                );
            }
        }
    }
    score.check(0.97);
}

async fn overlay(client: &mut Client, names: &[(Option<&str>, &str)]) -> Vec<Relation> {
    let names: Vec<(Option<String>, String)> =
        names.iter().map(|(schema, name)| (schema.map(str::to_owned), (*name).to_owned())).collect();
    decode_overlay(&answers(client, &overlay_query(&names)).await).unwrap()
}

#[tokio::test]
async fn the_overlay_says_of_a_relation_what_the_next_load_says() {
    let (_, mut client) = loaded("").await;
    let all = ["customers", "orders", "names", "rows", "held", "over", "events", "events_1", "base", "child", "loose"];
    let wanted: Vec<(Option<&str>, &str)> = all.iter().map(|name| (Some("public"), *name)).collect();
    for sql in ["BEGIN", SHOP, "SET search_path = ''"] {
        client.rows(sql, &mut |_| Ok(())).await.unwrap();
    }
    let found = overlay(&mut client, &wanted).await;
    client.rows("COMMIT", &mut |_| Ok(())).await.unwrap();
    let (catalog, _) = load(&mut client).await.unwrap();
    assert!(overlay(&mut client, &wanted).await.is_empty(), "what is committed is for the snapshot to tell");
    assert_eq!(found.len(), all.len());
    for mut relation in found {
        let mut loaded = find(&catalog, &relation.name).clone();
        loaded.definition = None;
        loaded.partition_key.clear();
        for list in [&mut relation, &mut loaded] {
            list.depends_on.retain(|(_, number)| *number != 0);
            list.depends_on.sort_unstable();
            list.indexes.sort_by(|a, b| a.name.cmp(&b.name));
            list.checks.sort_by(|a, b| a.name.cmp(&b.name));
            list.children.sort_unstable();
            for index in &mut list.indexes {
                index.reads.sort_unstable();
                index.reads.dedup();
            }
        }
        assert_eq!(relation, loaded);
    }
}

#[tokio::test]
async fn the_overlay_sees_what_only_the_session_sees_under_a_hostile_search_path() {
    let (catalog, mut client) = loaded(
        &format!(
            "{SHOP}
         CREATE SCHEMA trap;
         CREATE FUNCTION trap.boom(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'captured'; END$$;
         CREATE FUNCTION trap.boom(name, name) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'captured'; END$$;
         CREATE FUNCTION trap.boom(text, text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'captured'; END$$;
         CREATE FUNCTION trap.boom(\"char\", \"char\") RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'captured'; END$$;
         CREATE FUNCTION trap.boom(int2, int2) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'captured'; END$$;
         CREATE FUNCTION trap.boom(int4, int4) RETURNS bool LANGUAGE plpgsql AS $$BEGIN RAISE 'captured'; END$$;
         DO $$ DECLARE t text; o text; BEGIN
           FOREACH t IN ARRAY ARRAY['oid','name','text','\"char\"','int2','int4'] LOOP
             FOREACH o IN ARRAY ARRAY['=','<>','>','>='] LOOP
               EXECUTE format('CREATE OPERATOR trap.%s (FUNCTION = trap.boom, LEFTARG = %s, RIGHTARG = %s)', o, t, t);
             END LOOP; END LOOP; END $$;
         CREATE FUNCTION trap.format_type(oid, int) RETURNS text LANGUAGE sql AS $$SELECT 'captured'$$;
         CREATE VIEW trap.pg_class AS SELECT 1 AS captured;
         CREATE TYPE trap.text AS (captured int);
         CREATE TYPE trap.oid AS (captured int);"
        )
        .replace("\\\"", "\""),
    )
    .await;
    for sql in [
        "CREATE ROLE nobody_special",
        "GRANT ALL ON SCHEMA trap, public TO nobody_special",
        "BEGIN",
        "SAVEPOINT a",
        "ALTER TABLE orders RENAME COLUMN customer TO buyer",
        "RELEASE a",
        "SAVEPOINT b",
        "ALTER TABLE base RENAME COLUMN a TO b",
        "ROLLBACK TO b",
        "SET LOCAL ROLE nobody_special",
        "SET LOCAL search_path = trap, pg_catalog, public, pg_temp",
        "SET LOCAL standard_conforming_strings = off",
        "CREATE TEMP TABLE customers (id int4 PRIMARY KEY, made pg_catalog.text, word public.mood, CHECK (id IS NOT NULL))",
        "CREATE TABLE public.fresh (a pg_catalog.numeric(5,1)[])",
    ] {
        client.rows(sql, &mut |_| Ok(())).await.unwrap();
    }
    let found = overlay(
        &mut client,
        &[(None, "customers"), (Some("public"), "fresh"), (None, "orders"), (None, "base"), (None, "\\'")],
    )
    .await;
    let names: Vec<(String, bool)> =
        found.iter().map(|found| (format!("{}.{}", found.schema, found.name), found.temporary)).collect();
    assert_eq!(
        names.iter().cloned().collect::<BTreeMap<_, _>>(),
        BTreeMap::from([
            ("pg_temp.customers".to_owned(), true),
            ("public.fresh".to_owned(), false),
            ("public.orders".to_owned(), false),
        ]),
        "what the transaction has neither made nor changed is left to the snapshot"
    );
    let temporary = found.iter().find(|found| found.temporary).unwrap();
    let types: Vec<&str> = temporary.columns.iter().map(|column| &*column.type_sql).collect();
    assert_eq!(types, ["integer", "pg_catalog.text", "public.mood"]);
    assert!(names::at_most_one(temporary, &[1].into()));
    assert_eq!(&*found.iter().find(|found| &*found.name == "fresh").unwrap().columns[0].type_sql, "numeric(5,1)[]");

    // With the overlay the name means the temporary table, without it the one in public.
    let made: Vec<Arc<Relation>> = found.into_iter().map(Arc::new).collect();
    let path = ["public".to_owned()];
    let Resolution::Found(relation) = catalog.resolve_relation(&path, &made, None, "customers") else { panic!() };
    assert_eq!(&*relation.schema, "pg_temp");
    let Resolution::Found(relation) = catalog.resolve_relation(&path, &[], None, "customers") else { panic!() };
    assert_eq!(&*relation.schema, "public");
    // A schema that is listed keeps its place.
    let path = ["public".to_owned(), "pg_temp".to_owned()];
    let Resolution::Found(relation) = catalog.resolve_relation(&path, &made, None, "customers") else { panic!() };
    assert_eq!(&*relation.schema, "public");
    client.rows("ROLLBACK", &mut |_| Ok(())).await.unwrap();
    assert!(overlay(&mut client, &[(Some("pg_temp"), "customers"), (Some("public"), "fresh")]).await.is_empty());
    client.rows("DROP OWNED BY nobody_special; DROP ROLE nobody_special", &mut |_| Ok(())).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_file_holds_the_catalog_and_is_the_same_for_a_copy_of_the_database() {
    let (catalog, _client) = loaded(SHOP).await;
    let text = snapshot::write(&catalog).unwrap();
    let read = snapshot::read(&text).unwrap();
    assert_eq!(snapshot::write(&read).unwrap(), text, "what was read is written the same");
    assert_eq!(read.relations.len(), catalog.relations.len());
    assert_eq!(find(&read, "customers").columns.len(), find(&catalog, "customers").columns.len());
    assert_eq!(find(&read, "names").depends_on[0].0, find(&read, "customers").oid);
    assert_eq!(&*read.function(find(&read, "customers").triggers[0].function).unwrap().name, "touch");

    let (copy, _client) = loaded(&format!("CREATE TABLE moves_the_oids (); DROP TABLE moves_the_oids; {SHOP}")).await;
    assert_ne!(find(&copy, "customers").oid, find(&catalog, "customers").oid);
    assert_eq!(snapshot::write(&copy).unwrap(), text);

    assert!(snapshot::read(&text.replace("schema/v1", "schema/v9")).unwrap_err().to_string().contains("schema/v9"));
    let line = text.lines().find(|line| line.contains("\"name\": \"email\"")).unwrap();
    assert!(line.trim().starts_with('{') && line.contains("\"type_sql\": \"text\""), "a column a line: {line}");
}

/// The proxy's own connection to a database of this server.
fn connector(
    server: &'static Server,
    database: &str,
) -> ToServer<impl Fn() -> Arc<UpstreamConfig> + Send + Sync + use<>> {
    let config = Arc::new(UpstreamConfig {
        host: server.socket_folder().display().to_string(),
        port: server.port(),
        database: database.to_owned(),
        credential: Credential::new(ADMIN, ADMIN_PASSWORD),
        tls: Tls::new(TlsMode::Disable, None).unwrap(),
        timeout: Duration::from_secs(5),
    });
    ToServer(move || config.clone())
}

#[tokio::test]
async fn the_keeper_sees_changes_and_survives_its_connection() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SHOP).unwrap();
    let options = KeeperOptions {
        period: Duration::from_millis(400),
        least_gap: Duration::from_millis(100),
        ..KeeperOptions::default()
    };
    let keeper = CatalogKeeper::start(connector(server, &database.name), options);
    assert_eq!(keeper.ready().await.version, 1);

    // Many who ask at once share one check.
    server.psql(&database.name, "CREATE TABLE late ()").unwrap();
    let asked = Instant::now();
    let all: Vec<_> = (0..50)
        .map(|_| {
            let keeper = keeper.clone();
            tokio::spawn(async move { keeper.look_again().await.relation("public", "late").is_some() })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap());
    }
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert_eq!(keeper.current().version, 2);

    // What was not there is found as soon as another has made it.
    assert!(keeper.look_again().await.relation("public", "missing").is_none());
    server.psql(&database.name, "CREATE TABLE missing ()").unwrap();
    assert!(keeper.look_again().await.relation("public", "missing").is_some());

    // DDL is looked for at once.
    server.psql(&database.name, "CREATE TABLE made ()").unwrap();
    assert!(keeper.changed().await.relation("public", "made").is_some());

    // The period finds the rest; a lost connection is made again.
    server
        .psql(
            "postgres",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", database.name),
        )
        .unwrap();
    server.psql(&database.name, "CREATE TABLE by_itself ()").unwrap();
    let mut snapshots = keeper.subscribe();
    let found = snapshots.wait_for(|catalog| catalog.relation("public", "by_itself").is_some());
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap().unwrap();
    assert!(keeper.status().age.unwrap() < Duration::from_secs(10));

    // What can't be read leaves the last snapshot in place, and says so.
    let version = keeper.current().version;
    server
        .psql(
            "postgres",
            &format!(
                "ALTER DATABASE {0} ALLOW_CONNECTIONS false; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}'",
                database.name
            ),
        )
        .unwrap();
    let mut failed = false;
    for _ in 0..100 {
        failed = keeper.status().failure.is_some();
        if failed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(failed && keeper.current().version == version);
    server.psql("postgres", &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", database.name)).unwrap();
    for _ in 0..200 {
        if keeper.status().failure.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(keeper.status().failure.is_none());
}

#[tokio::test]
#[ignore = "a measurement: makes 10,000 tables of 20 columns; run it by name, in release for the times"]
async fn ten_thousand_relations_load_in_seconds_and_in_megabytes() {
    let server = Server::shared().unwrap();
    for (name, tables) in [("small", 20), ("large", 10_000)] {
        let database = server.database().unwrap();
        let columns: Vec<String> = (2..=20).map(|n| format!("column_number_{n} text")).collect();
        for first in (1..=tables).step_by(500) {
            let last = (first + 499).min(tables);
            let sql = format!(
                "DO $$BEGIN FOR i IN {first}..{last} LOOP \
                 EXECUTE format('CREATE TABLE table_number_%s (id bigint PRIMARY KEY, {})', i); END LOOP; END$$",
                columns.join(", ")
            );
            server.psql(&database.name, &sql).unwrap();
        }
        let mut connection = connector(server, &database.name).connect().await.unwrap();
        let process = Process::new(std::process::id());
        let before = process.resident().unwrap();
        let started = Instant::now();
        let (catalog, print) = load(&mut connection).await.unwrap();
        let took = started.elapsed();
        let held = process.resident().unwrap().saturating_sub(before);
        let started = Instant::now();
        assert_eq!(fingerprint(&mut connection).await.unwrap(), print);
        eprintln!(
            "{name}: {} relations, {} columns: loaded in {took:?}, {} KiB more held, a check takes {:?}",
            catalog.relations.len(),
            catalog.relations.values().map(|relation| relation.columns.len()).sum::<usize>(),
            held / 1024,
            started.elapsed()
        );
        assert!(took < Duration::from_secs(30) && held < 128 << 20);
    }
}
