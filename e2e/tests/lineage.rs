//! Bind on a real server's catalog: what views, generated columns, partitions and inheritance children carry, and row
//! filters in which nothing is left to a search path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod binding;

use std::sync::Arc;

use binding::Client;
use postern_crds::{CheckedIdentity, CheckedPolicy};
use postern_e2e::postgres::{ADMIN, Server};
use postern_sidecar::catalog::{Catalog, Relation};
use postern_sidecar::decide::bind::bind;
use postern_sidecar::decide::bound::{BoundPolicy, ColumnView};
use postern_sidecar::decide::expression::{instantiate, to_sql};
use tokio_postgres::SimpleQueryMessage;

trait Shown {
    async fn shown(&self, sql: &str) -> String;
}

impl Shown for Client {
    /// Everything that a query shows, in one text.
    async fn shown(&self, sql: &str) -> String {
        let messages = self.0.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let mut shown = String::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let fields: Vec<&str> = (0..row.len()).map(|index| row.get(index).unwrap_or("NULL")).collect();
                shown.push_str(&fields.join("|"));
                shown.push('\n');
            }
        }
        shown
    }
}

fn policy(server: &Server, spec: &str) -> (Arc<CheckedPolicy>, Arc<CheckedIdentity>) {
    binding::policy(server, spec, "readers")
}

/// How a relation is seen, in a line: `email:partial ssn:- | filter of which rule`.
fn seen(bound: &BoundPolicy, relation: &Relation) -> String {
    let Some(view) = bound.view(relation.oid) else { return "plain".to_owned() };
    if let Some(why) = &view.closed {
        return format!("closed: {why}");
    }
    let mut parts = Vec::new();
    for column in &relation.columns {
        match view.columns.get(&column.number) {
            None => {}
            Some(ColumnView::Hidden) => parts.push(format!("{}:-", column.name)),
            Some(ColumnView::Masked(mask)) => parts.push(format!("{}:{}", column.name, mask.kind.as_str())),
        }
    }
    if let Some(filter) = &view.filter {
        parts.push(format!("where {}", to_sql(&instantiate(&filter.expression, "r")).unwrap()));
    }
    parts.join(" ")
}

/// The relation as the identity sees it.
fn inline_view(bound: &BoundPolicy, relation: &Relation) -> Option<String> {
    let view = bound.view(relation.oid);
    let mut outputs = Vec::new();
    for column in &relation.columns {
        match view.and_then(|view| view.columns.get(&column.number)) {
            None => outputs.push(format!("r.\"{}\"", column.name)),
            Some(ColumnView::Hidden) => {}
            Some(ColumnView::Masked(mask)) => outputs.push(to_sql(&instantiate(&mask.expression, "r")).unwrap()),
        }
    }
    if view.is_some_and(|view| view.closed.is_some()) || outputs.is_empty() {
        return None;
    }
    let mut sql = format!("SELECT {} FROM {} AS r", outputs.join(", "), relation.qualified_name());
    if let Some(filter) = view.and_then(|view| view.filter.as_ref()) {
        sql.push_str(&format!(" WHERE {}", to_sql(&instantiate(&filter.expression, "r")).unwrap()));
    }
    Some(sql)
}

const SHOP: &str = r#"
    CREATE TABLE customers (id int PRIMARY KEY, name text, email varchar(60), ssn text, region text, born date,
        email_copy varchar(60) GENERATED ALWAYS AS (email) STORED, email_low text GENERATED ALWAYS AS (lower(email)) STORED);
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, region text, total numeric(10,2), note text);
    INSERT INTO customers (id, name, email, ssn, region, born) VALUES
        (1, 'Ann', 'markerann@example.com', 'marker-ssn-1', 'eu', '1980-05-17'), (2, 'Bob', 'markerbob@example.com', 'marker-ssn-2', 'us', '1990-11-03');
    INSERT INTO orders VALUES (1, 1, 'eu', 10, 'plain'), (2, 2, 'markerus', 20, 'markerus');
"#;

const MASKED: &str = "masks:
- {columns: [public.customers.email], mask: {partial: {keepLast: 4}}}
- {columns: [public.customers.born], mask: {truncateDate: {to: Year}}}
rules:
- {name: all, to: {groups: [readers]}, allow: [Select], relations: [\"public.*\"], hideColumns: [public.customers.ssn]}
";

#[tokio::test(flavor = "multi_thread")]
async fn views_carry_the_masks_of_what_they_derive_from() {
    let views: &[(&str, &str)] = &[
        ("SELECT id, email FROM customers", "email:partial"),
        ("SELECT * FROM customers", "email:partial ssn:- born:truncateDate email_copy:partial email_low:nullify"),
        ("SELECT email AS contact, ssn AS name FROM customers", "contact:partial name:-"),
        ("SELECT id, upper(email) AS u, name FROM customers", "u:nullify"),
        ("SELECT id, email::text AS t FROM customers", "t:partial"),
        ("SELECT id, email::char(9) AS t FROM customers", "t:nullify"),
        ("SELECT born::text AS t, born + 1 AS next FROM customers", "t:nullify next:nullify"),
        ("SELECT id, ssn || '' AS s FROM customers", "s:nullify"),
        ("SELECT row_to_json(c) AS j, id FROM customers c", "j:nullify"),
        ("SELECT c AS whole FROM customers c", "whole:nullify"),
        ("SELECT (c).email AS e FROM customers c", "e:partial"),
        ("SELECT count(*) AS n, region FROM customers GROUP BY region", "plain"),
        ("SELECT count(*) AS n, max(email) AS m, array_agg(ssn) AS a FROM customers", "m:nullify a:nullify"),
        ("SELECT email FROM customers GROUP BY email", "email:partial"),
        ("SELECT DISTINCT ON (email) id, email FROM customers ORDER BY email, id", "email:partial"),
        ("SELECT x.e FROM (SELECT email AS e FROM customers) x", "e:partial"),
        ("SELECT x.b FROM (SELECT id, email FROM customers) x(a, b)", "b:partial"),
        ("WITH w AS (SELECT id, email AS e FROM customers) SELECT w.e, w2.id FROM w JOIN w w2 USING (id)", "e:partial"),
        ("SELECT o.id, c.email FROM orders o LEFT JOIN customers c ON c.id = o.customer", "email:partial"),
        ("SELECT id, email FROM customers UNION ALL SELECT id, note FROM orders", "email:partial"),
        ("SELECT note AS n FROM orders UNION SELECT email FROM customers UNION SELECT ssn FROM customers", "n:-"),
        ("SELECT id, (SELECT c.email FROM customers c WHERE c.id = o.customer) AS e FROM orders o", "e:nullify"),
        ("SELECT id, EXISTS (SELECT 1 FROM customers c WHERE c.email = o.note) AS e FROM orders o", "e:nullify"),
        ("SELECT id, (SELECT count(*) FROM customers c WHERE c.id = o.customer) AS n FROM orders o", "plain"),
        ("SELECT id, CASE WHEN ssn IS NULL THEN 1 ELSE 2 END AS k FROM customers", "k:nullify"),
        ("SELECT id FROM customers WHERE email LIKE 'a%'", "plain"),
        (
            "SELECT id, row_number() OVER (ORDER BY email) AS n, rank() OVER w AS r FROM customers WINDOW w AS (PARTITION BY ssn)",
            "n:nullify",
        ),
        ("SELECT c.id, u.ch FROM customers c, LATERAL regexp_split_to_table(c.email, '') u(ch)", "ch:nullify"),
        ("SELECT c.id, l.e FROM customers c, LATERAL (SELECT c.email AS e) l", "e:partial"),
        (
            "WITH RECURSIVE t(n, e) AS (SELECT 1, note FROM orders UNION SELECT n + 1, email FROM t JOIN customers ON id = n WHERE n < 5) SELECT * FROM t",
            "e:partial",
        ),
        ("SELECT v.x FROM customers c, LATERAL (VALUES (c.email), ('y')) v(x)", "x:nullify"),
        ("SELECT COALESCE(c.email, 'none') AS e, c.email = 'x' AS b FROM customers c", "e:nullify b:nullify"),
        (
            "SELECT a.email AS one, b.email AS two FROM customers a JOIN customers b ON a.id = b.id",
            "one:partial two:partial",
        ),
        ("SELECT xmlforest(email AS e) AS x, id FROM customers", "x:nullify id:nullify"),
        ("TABLE orders", "plain"),
        ("SELECT email FROM v0", "email:partial"),
        ("SELECT contact || '' AS c, name FROM v2", "c:nullify name:-"),
        ("SELECT e FROM v15 UNION ALL SELECT t FROM v4", "e:partial"),
    ];
    let server = Server::shared().unwrap();
    let mut setup = SHOP.to_owned();
    for (index, (sql, _)) in views.iter().enumerate() {
        setup.push_str(&format!("CREATE VIEW v{index} AS {sql}; CREATE MATERIALIZED VIEW m{index} AS {sql};"));
    }
    let database = server.database_with(&setup).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    let (policy, identity) = policy(server, MASKED);
    let bound = bind(policy, identity, catalog.clone(), 1, None);
    assert_eq!(bound.problems, []);
    for (index, (sql, expected)) in views.iter().enumerate() {
        for prefix in ["v", "m"] {
            let view = catalog.relation("public", &format!("{prefix}{index}")).unwrap();
            assert_eq!(seen(&bound, view), *expected, "{sql}\n{}", view.definition.as_deref().unwrap());
            if let Some(sql) = inline_view(&bound, view) {
                let shown = client.shown(&sql).await;
                for marker in ["markera", "markerb", "marker-ssn", "-05-17"] {
                    assert!(!shown.contains(marker), "{sql}\n{shown}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_calls_what_may_read_a_masked_table_is_closed_unless_a_rule_allows_the_function() {
    let closed = |name: &str| {
        let why = format!(
            "which may read what is masked or filtered (a rule with `functions: [public.{name}]` shows what that returns)"
        );
        format!("closed: it calls public.{name}, {why}")
    };
    let views: &[(&str, String)] = &[
        ("SELECT id, email_of(id) AS e FROM orders", closed("email_of")),
        ("SELECT id FROM orders WHERE email_of(id) LIKE 'm%'", closed("email_of")),
        ("SELECT * FROM rows_of()", closed("rows_of")),
        ("SELECT id, in_standard_sql(id) FROM orders", closed("in_standard_sql")),
        ("SELECT id, calls_it(id) FROM orders", closed("calls_it")),
        ("SELECT id, makes_it(id) FROM orders", closed("makes_it")),
        ("SELECT id, of_view(id) FROM orders", closed("of_view")),
        ("SELECT id @@@ 0 AS e FROM orders", closed("by_operator")),
        ("SELECT gathered(id) AS e FROM orders", closed("step")),
        ("SELECT id FROM v0", format!("closed: it reads public.v0, which is {}", closed("email_of"))),
        (
            "SELECT query_to_xml('TABLE public.customers', true, true, '') AS x",
            "closed: it calls query_to_xml, which runs SQL given as text".into(),
        ),
        ("SELECT id, shout(note) AS s, total_of(id) FROM orders", "plain".into()),
        ("SELECT added(id) AS n, lower(max(note)) FROM orders", "plain".into()),
        ("SELECT id, allowed(id) FROM orders", "plain".into()),
        ("SELECT id, e FROM computed", "e:nullify".into()),
        ("SELECT c.id, shout(c.name) AS s FROM customers c", "plain".into()),
        ("SELECT c.id, shout(c.email) AS s FROM customers c", "s:nullify".into()),
    ];
    let mut setup = SHOP.to_owned();
    setup.push_str(
        "CREATE FUNCTION email_of(i int) RETURNS text LANGUAGE sql AS $$ SELECT email FROM public.customers WHERE id = i $$;
         CREATE FUNCTION allowed(i int) RETURNS text LANGUAGE sql AS $$ SELECT email FROM public.customers WHERE id = i $$;
         CREATE FUNCTION rows_of() RETURNS SETOF customers LANGUAGE sql AS $$ SELECT * FROM public.customers $$;
         CREATE FUNCTION in_standard_sql(i int) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT email FROM customers WHERE id = i; END;
         CREATE FUNCTION calls_it(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN public.email_of(i); END $$;
         CREATE FUNCTION makes_it(i int) RETURNS text LANGUAGE plpgsql AS $$ DECLARE e text; BEGIN EXECUTE 'SELECT email FROM public.cust' || 'omers' INTO e; RETURN e; END $$;
         CREATE FUNCTION by_operator(int, int) RETURNS text LANGUAGE sql AS $$ SELECT public.email_of($1 + $2) $$;
         CREATE OPERATOR @@@ (leftarg = int, rightarg = int, function = by_operator);
         CREATE FUNCTION step(text, int) RETURNS text LANGUAGE sql AS $$ SELECT $1 || public.email_of($2) $$;
         CREATE AGGREGATE gathered(int) (sfunc = step, stype = text, initcond = '');
         CREATE AGGREGATE added(int) (sfunc = int4pl, stype = int);
         CREATE FUNCTION shout(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT upper($1) || '!' $$;
         CREATE FUNCTION total_of(i int) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT total FROM public.orders WHERE id = i); END $$;
         CREATE FUNCTION looks(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN public.email_of($1); END $$;
         CREATE TABLE computed (id int, e text GENERATED ALWAYS AS (looks(id)) STORED);
         INSERT INTO computed VALUES (1);",
    );
    for (index, (sql, _)) in views.iter().enumerate() {
        // One of the functions reads the first view.
        let function =
            "CREATE FUNCTION of_view(i int) RETURNS text LANGUAGE sql AS $$ SELECT e FROM public.v0 WHERE id = i $$;";
        setup.push_str(&format!("CREATE VIEW v{index} AS {sql}; {}", if index == 0 { function } else { "" }));
        setup.push_str(&format!("CREATE MATERIALIZED VIEW m{index} AS {sql};"));
    }
    let server = Server::shared().unwrap();
    let database = server.database_with(&setup).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    let (policy, identity) = policy(server, &MASKED.replace("relations:", "functions: [public.allowed], relations:"));
    let bound = bind(policy, identity, catalog.clone(), 1, None);
    for (index, (sql, expected)) in views.iter().enumerate() {
        for prefix in ["v", "m"] {
            let view = catalog.relation("public", &format!("{prefix}{index}")).unwrap();
            assert_eq!(seen(&bound, view), *expected, "{sql}");
        }
    }
    assert_eq!(seen(&bound, catalog.relation("public", "computed").unwrap()), "e:nullify");
    let unmasked = "rules:\n- {name: all, to: {groups: [readers]}, allow: [Select], relations: [\"public.*\"]}\n";
    let (policy, identity) = binding::policy(server, unmasked, "readers");
    assert!(bind(policy, identity, catalog, 1, None).views.is_empty());
}

const FILTERED: &str = "masks:
- {columns: [public.customers.email], mask: {nullify: {}}}
rules:
- name: all
  to: {groups: [readers]}
  allow: [Select]
  relations: [\"public.*\"]
  rowFilters: [{relation: public.orders, where: \"region = 'eu'\"}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_view_over_a_filtered_relation_is_filtered_or_closed() {
    let filtered = "where r.region OPERATOR(pg_catalog.=) 'eu'";
    let views: &[(&str, &str)] = &[
        ("SELECT * FROM orders", filtered),
        ("SELECT id, region AS r FROM orders WHERE total > 5", "where r.r OPERATOR(pg_catalog.=) 'eu'"),
        ("SELECT id, note FROM orders", "closed: it doesn't show region, by which public.orders is filtered"),
        (
            "SELECT id, upper(region) AS region FROM orders",
            "closed: it doesn't show region, by which public.orders is filtered",
        ),
        ("SELECT count(*) AS n FROM orders", "closed: it reads public.orders, which is filtered, under an aggregate"),
        (
            "SELECT region, sum(total) AS s FROM orders GROUP BY region",
            "closed: it reads public.orders, which is filtered, under a GROUP BY",
        ),
        ("SELECT DISTINCT region FROM orders", "closed: it reads public.orders, which is filtered, under a DISTINCT"),
        ("SELECT * FROM orders LIMIT 1", "closed: it reads public.orders, which is filtered, under a LIMIT"),
        (
            "SELECT *, lag(note) OVER () AS prev FROM orders",
            "closed: it reads public.orders, which is filtered, under a window function",
        ),
        (
            "SELECT * FROM orders UNION ALL SELECT * FROM orders",
            "closed: it reads public.orders, which is filtered, under a set operation",
        ),
        ("SELECT c.name, o.region FROM customers c JOIN orders o ON o.customer = c.id", filtered),
        (
            "SELECT c.name, o.region FROM customers c LEFT JOIN orders o ON o.customer = c.id",
            "closed: it reads public.orders, which is filtered, on the nullable side of an outer join",
        ),
        (
            "SELECT o.note, o.region, c.email FROM orders o LEFT JOIN customers c ON o.customer = c.id",
            "email:nullify where r.region OPERATOR(pg_catalog.=) 'eu'",
        ),
        (
            "SELECT name, (SELECT max(note) FROM orders) AS m FROM customers",
            "closed: it reads public.orders, which is filtered, under an aggregate",
        ),
        (
            "SELECT name FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer = c.id)",
            "closed: it reads public.orders, which is filtered, in a sub-select",
        ),
        (
            "WITH w AS (SELECT * FROM orders) SELECT * FROM w",
            "closed: it reads public.orders, which is filtered, in WITH",
        ),
        ("SELECT x.region, x.note FROM (SELECT o.region, o.note FROM orders o) x", filtered),
        (
            "SELECT a.region, b.note FROM orders a JOIN orders b USING (id)",
            "closed: it doesn't show region, by which public.orders is filtered",
        ),
        (
            "SELECT a.region AS ra, b.region AS rb, b.note FROM orders a JOIN orders b ON true",
            "where r.ra OPERATOR(pg_catalog.=) 'eu' AND r.rb OPERATOR(pg_catalog.=) 'eu'",
        ),
        ("SELECT region, note FROM v0", filtered),
        (
            "SELECT name FROM v4, customers",
            "closed: it reads public.v4, which is closed: it reads public.orders, which is filtered, under an aggregate",
        ),
        ("SELECT o FROM orders o", "closed: it doesn't show region, by which public.orders is filtered"),
        ("SELECT name FROM customers", "plain"),
    ];
    let server = Server::shared().unwrap();
    let mut setup = SHOP.to_owned();
    for (index, (sql, _)) in views.iter().enumerate() {
        setup.push_str(&format!(
            "CREATE VIEW v{index} AS {sql}; CREATE MATERIALIZED VIEW m{index} AS {};",
            sql.replace("v0", "m0").replace("v4", "m4")
        ));
    }
    let database = server.database_with(&setup).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    let (policy, identity) = policy(server, FILTERED);
    let bound = bind(policy, identity, catalog.clone(), 1, None);
    assert_eq!(bound.problems, []);
    for (index, (sql, expected)) in views.iter().enumerate() {
        for prefix in ["v", "m"] {
            let view = catalog.relation("public", &format!("{prefix}{index}")).unwrap();
            assert_eq!(seen(&bound, view), expected.replace("public.v", &format!("public.{prefix}")), "{sql}");
            if let Some(sql) = inline_view(&bound, view) {
                let shown = client.shown(&sql).await;
                assert!(!shown.contains("markerus"), "{sql}\n{shown}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_children_carry_what_parents_do_and_the_reverse() {
    let server = Server::shared().unwrap();
    let database = server
        .database_with(
            "CREATE TABLE people (id int, email text, region text) PARTITION BY LIST (region);
             CREATE TABLE people_eu PARTITION OF people FOR VALUES IN ('eu');
             CREATE TABLE people_us (region text, drop_me int, email text, id int);
             ALTER TABLE people_us DROP COLUMN drop_me;
             ALTER TABLE people ATTACH PARTITION people_us FOR VALUES IN ('us');
             CREATE TABLE base (id int, secret text);
             CREATE TABLE child (extra text) INHERITS (base);
             CREATE TABLE other () INHERITS (base);
             CREATE VIEW over_base AS SELECT secret FROM base;
             CREATE TABLE loner (id int, secret text);",
        )
        .unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    let (policy, identity) = policy(
        server,
        "masks:
- {columns: [public.people.email], mask: {redact: {}}}
- {columns: [public.people_us.email], mask: {nullify: {}}}
- {columns: [public.child.secret, public.child.extra], mask: {redact: {}}}
rules:
- name: all
  to: {groups: [readers]}
  allow: [Select]
  relations: [\"public.*\"]
  rowFilters: [{relation: public.people_eu, where: 'id > 0'}]
",
    );
    let bound = bind(policy, identity, catalog.clone(), 1, None);
    assert_eq!(bound.problems, []);
    let expect = |name: &str, expected: &str| {
        assert_eq!(seen(&bound, catalog.relation("public", name).unwrap()), expected, "{name}");
    };
    expect("people", "email:nullify where r.id OPERATOR(pg_catalog.>) 0");
    expect("people_eu", "email:redact where r.id OPERATOR(pg_catalog.>) 0");
    expect("people_us", "email:nullify");
    expect("base", "secret:redact");
    expect("child", "secret:redact extra:redact");
    expect("other", "plain");
    expect("over_base", "secret:redact");
    expect("loner", "plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_by_a_masked_column_are_closed_and_those_by_others_are_not() {
    let server = Server::shared().unwrap();
    let database = server
        .database_with(
            "CREATE TABLE t (id int, kind text, region text) PARTITION BY LIST (region);
             CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu') PARTITION BY HASH (lower(kind));
             CREATE TABLE t_eu_0 PARTITION OF t_eu FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             CREATE TABLE t_us PARTITION OF t DEFAULT;
             CREATE VIEW places AS SELECT id, tableoid FROM t;
             CREATE VIEW us_places AS SELECT id, tableoid FROM t_us;
             CREATE VIEW of_closed AS SELECT id FROM t_eu_0;",
        )
        .unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    let (policy, identity) = policy(
        server,
        "masks:
- {columns: [public.t.kind], mask: {redact: {}}}
rules:
- {name: all, to: {groups: [readers]}, allow: [Select], relations: [\"public.*\"]}
",
    );
    let bound = bind(policy, identity, catalog.clone(), 1, None);
    assert_eq!(bound.problems, []);
    let closed = "closed: it is a partition of public.t_eu, whose partition key reads what is masked or hidden";
    for (name, expected, place_tells) in [
        ("t", "kind:redact", true),
        ("t_eu", "kind:redact", true),
        ("t_eu_0", closed, false),
        ("t_us", "kind:redact", false),
        ("places", "tableoid:nullify", true),
        ("us_places", "plain", false),
        ("of_closed", &format!("closed: it reads public.t_eu_0, which is {closed}"), false),
    ] {
        let relation = catalog.relation("public", name).unwrap();
        assert_eq!(seen(&bound, relation), expected, "{name}");
        assert_eq!(bound.view(relation.oid).is_some_and(|view| view.place_tells), place_tells, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_was_masked_and_is_gone_closes_the_relation() {
    let server = Server::shared().unwrap();
    let database = server
        .database_with("CREATE TABLE a (id int, email text); CREATE TABLE b (id int, email text); CREATE TABLE c (id int, email text);")
        .unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let spec = "masks:\n- {columns: [\"*.*.email\"], mask: {redact: {}}}\nrules:\n- {name: all, to: {groups: [readers]}, allow: [Select], relations: [\"public.*\"]}\n";
    let (policy_one, identity) = policy(server, spec);
    let catalog = client.catalog().await;
    let first = bind(policy_one.clone(), identity.clone(), catalog.clone(), 1, None);
    let name =
        |catalog: &Catalog, bound: &BoundPolicy, name: &str| seen(bound, catalog.relation("public", name).unwrap());
    assert_eq!(name(&catalog, &first, "a"), "email:redact");

    client.run("ALTER TABLE a RENAME COLUMN email TO mail; ALTER TABLE b ADD COLUMN x int; DROP TABLE c; CREATE TABLE c (id int, mail text);").await;
    let catalog = client.catalog().await;
    let second = bind(policy_one.clone(), identity.clone(), catalog.clone(), 2, Some(&first));
    assert!(name(&catalog, &second, "a").starts_with("closed: its column email"), "{}", name(&catalog, &second, "a"));
    assert!(name(&catalog, &second, "c").starts_with("closed: its column email"), "{}", name(&catalog, &second, "c"));
    assert_eq!(name(&catalog, &second, "b"), "email:redact");
    assert_eq!(second.problems.len(), 2);

    // It stays so, however often it is bound.
    let third = bind(policy_one.clone(), identity.clone(), catalog.clone(), 3, Some(&second));
    assert!(name(&catalog, &third, "a").starts_with("closed"));

    // Until the policy says what holds now, or the column is back.
    let (policy_two, _) = policy(server, &spec.replace("\"*.*.email\"", "\"*.*.email\", \"*.*.mail\""));
    let fourth = bind(policy_two, identity.clone(), catalog.clone(), 4, Some(&third));
    assert_eq!(name(&catalog, &fourth, "a"), "mail:redact");
    client.run("ALTER TABLE a RENAME COLUMN mail TO email").await;
    let catalog = client.catalog().await;
    let fifth = bind(policy_one.clone(), identity.clone(), catalog.clone(), 5, Some(&third));
    assert_eq!(name(&catalog, &fifth, "a"), "email:redact");

    // A relation that is renamed away from under its mask is no way around it either.
    let (literal, _) = policy(server, &spec.replace("\"*.*.email\"", "public.b.email"));
    let before = bind(literal.clone(), identity.clone(), catalog.clone(), 6, None);
    client.run("ALTER TABLE b RENAME TO bb").await;
    let catalog = client.catalog().await;
    let after = bind(literal.clone(), identity.clone(), catalog.clone(), 7, Some(&before));
    assert!(name(&catalog, &after, "bb").starts_with("closed"), "{}", name(&catalog, &after, "bb"));

    // At another database, such as the copy that a name points to now, the same oid is another relation.
    assert!(!catalog.origin.is_empty());
    let elsewhere = Arc::new(Catalog { origin: "another".into(), ..Catalog::clone(&catalog) });
    let after = bind(literal, identity.clone(), elsewhere.clone(), 8, Some(&before));
    assert_eq!(name(&elsewhere, &after, "bb"), "plain");
    let moved = bind(policy_one, identity.clone(), elsewhere.clone(), 9, Some(&third));
    assert!(name(&elsewhere, &moved, "c").starts_with("closed: its column email"), "{}", name(&elsewhere, &moved, "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_exist_is_a_problem_and_closes_its_relation() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SHOP).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    let (policy, identity) = policy(
        server,
        "masks:
- {columns: [public.customers.mail], mask: {redact: {}}}
- {columns: [public.orders.total], mask: {partial: {keepLast: 4}}}
- {columns: [public.nothing.here], mask: {redact: {}}}
rules:
- {name: all, to: {groups: [readers]}, allow: [Select], relations: [\"public.*\"]}
",
    );
    let bound = bind(policy, identity, catalog.clone(), 1, None);
    let problems: Vec<String> = bound.problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
    assert_eq!(
        problems,
        [
            "spec.masks[0].columns: public.customers has no column mail",
            "spec.masks[1].mask: 'partial' can't keep 4 of public.orders.total, a numeric(10,2) column",
            "spec.masks[2].columns: there is no relation public.nothing",
        ]
    );
    assert!(seen(&bound, catalog.relation("public", "customers").unwrap()).starts_with("closed"));
    assert_eq!(seen(&bound, catalog.relation("public", "orders").unwrap()), "total:-");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_means_the_same_whatever_the_client_sets() {
    let filters: &[(&str, Result<&str, &str>)] = &[
        ("region = 'eu'", Ok("r.region OPERATOR(pg_catalog.=) 'eu'")),
        (
            "orders.region = 'eu' AND public.orders.id > 0",
            Ok("r.region OPERATOR(pg_catalog.=) 'eu' AND r.id OPERATOR(pg_catalog.>) 0"),
        ),
        ("id IN (1, 3)", Ok("r.id OPERATOR(pg_catalog.=) ANY(ARRAY[1, 3])")),
        ("region IN ('eu', 'uk')", Ok("r.region OPERATOR(pg_catalog.=) ANY(ARRAY['eu', 'uk']::pg_catalog.text[])")),
        ("total IN (10, 30.5)", Ok("r.total OPERATOR(pg_catalog.=) 10 OR r.total OPERATOR(pg_catalog.=) 30.5")),
        ("id NOT IN (2)", Ok("r.id OPERATOR(pg_catalog.<>) ALL(ARRAY[2])")),
        ("id BETWEEN 1 AND 1", Ok("r.id OPERATOR(pg_catalog.>=) 1 AND r.id OPERATOR(pg_catalog.<=) 1")),
        ("id NOT BETWEEN 2 AND 9", Ok("NOT (r.id OPERATOR(pg_catalog.>=) 2 AND r.id OPERATOR(pg_catalog.<=) 9)")),
        ("region LIKE 'e%'", Ok("r.region OPERATOR(pg_catalog.~~) 'e%'")),
        ("region ILIKE 'E%'", Ok("r.region OPERATOR(pg_catalog.~~*) 'E%'")),
        ("region SIMILAR TO 'e%'", Ok("r.region OPERATOR(pg_catalog.~) pg_catalog.similar_to_escape('e%')")),
        (
            "region IS DISTINCT FROM 'markerus'",
            Ok(
                "CASE WHEN r.region IS NULL THEN 'markerus' IS NOT NULL WHEN 'markerus' IS NULL THEN true ELSE r.region OPERATOR(pg_catalog.<>) 'markerus' END",
            ),
        ),
        ("note IS NOT DISTINCT FROM NULL OR id = 1", Ok("r.note IS NULL OR r.id OPERATOR(pg_catalog.=) 1")),
        (
            "nullif(region, 'markerus') = 'eu'",
            Ok(
                "CASE WHEN r.region OPERATOR(pg_catalog.=) 'markerus' THEN NULL ELSE r.region END OPERATOR(pg_catalog.=) 'eu'",
            ),
        ),
        (
            "CASE region WHEN 'eu' THEN true ELSE false END",
            Ok("CASE WHEN r.region OPERATOR(pg_catalog.=) 'eu' THEN true ELSE false END"),
        ),
        ("lower(region) = 'eu'", Ok("pg_catalog.lower(r.region) OPERATOR(pg_catalog.=) 'eu'")),
        ("mood = 'happy'", Ok("r.mood OPERATOR(pg_catalog.=) 'happy'")),
        ("mood IN ('happy')", Ok("r.mood OPERATOR(pg_catalog.=) ANY(ARRAY['happy']::public.mood[])")),
        ("tag = 'EU'", Ok("r.tag OPERATOR(public.=) 'EU'")),
        ("tags[1] = 'a'", Ok("r.tags[1] OPERATOR(pg_catalog.=) 'a'")),
        ("'a' = ANY (tags)", Ok("'a' OPERATOR(pg_catalog.=) ANY(r.tags)")),
        ("data->>'tenant' = '7'", Ok("r.data OPERATOR(pg_catalog.->>) 'tenant' OPERATOR(pg_catalog.=) '7'")),
        (
            "id = current_setting('app.id')::int",
            Ok("r.id OPERATOR(pg_catalog.=) pg_catalog.current_setting('app.id')::int"),
        ),
        (
            "region = current_user OR id = 1",
            Ok("r.region OPERATOR(pg_catalog.=) current_user OR r.id OPERATOR(pg_catalog.=) 1"),
        ),
        (
            "EXISTS (SELECT * FROM public.customers c WHERE c.id = customer AND c.region = 'eu')",
            Ok(
                "EXISTS (SELECT 1 FROM public.customers postern_filter_0 WHERE postern_filter_0.id OPERATOR(pg_catalog.=) r.customer AND postern_filter_0.region OPERATOR(pg_catalog.=) 'eu')",
            ),
        ),
        (
            "customer IN (SELECT id FROM public.customers WHERE region = 'eu')",
            Ok(
                "r.customer OPERATOR(pg_catalog.=) ANY (SELECT postern_filter_0.id FROM public.customers postern_filter_0 WHERE postern_filter_0.region OPERATOR(pg_catalog.=) 'eu')",
            ),
        ),
        (
            "customer NOT IN (SELECT id FROM public.customers WHERE region = 'us')",
            Ok(
                "NOT r.customer OPERATOR(pg_catalog.=) ANY (SELECT postern_filter_0.id FROM public.customers postern_filter_0 WHERE postern_filter_0.region OPERATOR(pg_catalog.=) 'us')",
            ),
        ),
        (
            "(SELECT c.region FROM public.customers c WHERE c.id = orders.customer) = 'eu'",
            Ok(
                "(SELECT postern_filter_0.region FROM public.customers postern_filter_0 WHERE postern_filter_0.id OPERATOR(pg_catalog.=) r.customer) OPERATOR(pg_catalog.=) 'eu'",
            ),
        ),
        // Times are those of UTC, whatever zone the client sets.
        ("at < '2026-01-02'", Ok("r.at OPERATOR(pg_catalog.<) '2026-01-02+00'")),
        ("at < '2026-01-02 05:30+05:30'", Ok("r.at OPERATOR(pg_catalog.<) '2026-01-02 05:30+05:30'")),
        (
            "at::date = '2026-01-01'",
            Ok("pg_catalog.timezone('00:00:00'::interval, r.at)::pg_catalog.date OPERATOR(pg_catalog.=) '2026-01-01'"),
        ),
        (
            "date_trunc('day', at) = '2026-01-01'",
            Ok(
                "pg_catalog.timezone('00:00:00'::interval, pg_catalog.date_trunc('day', pg_catalog.timezone('00:00:00'::interval, r.at))) OPERATOR(pg_catalog.=) '2026-01-01+00'",
            ),
        ),
        (
            "at + interval '1 day' < '2026-01-03'",
            Ok(
                "pg_catalog.timezone('00:00:00'::interval, pg_catalog.timezone('00:00:00'::interval, r.at) OPERATOR(pg_catalog.+) '1 day'::interval) OPERATOR(pg_catalog.<) '2026-01-03+00'",
            ),
        ),
        (
            "extract(day FROM at) = 1",
            Ok("extract ('day' FROM pg_catalog.timezone('00:00:00'::interval, r.at)) OPERATOR(pg_catalog.=) 1"),
        ),
        (
            "at < '2026-01-02'::date",
            Ok("pg_catalog.timezone('00:00:00'::interval, r.at) OPERATOR(pg_catalog.<) '2026-01-02'::pg_catalog.date"),
        ),
        (
            "to_char(at, 'DD') = '01'",
            Ok("pg_catalog.to_char(pg_catalog.timezone('00:00:00'::interval, r.at), 'DD') OPERATOR(pg_catalog.=) '01'"),
        ),
        (
            "at < CURRENT_DATE AND id = 1",
            Ok(
                "pg_catalog.timezone('00:00:00'::interval, r.at) OPERATOR(pg_catalog.<) pg_catalog.timezone('00:00:00'::interval, pg_catalog.now())::pg_catalog.date AND r.id OPERATOR(pg_catalog.=) 1",
            ),
        ),
        ("at < '01/02/2026'", Err("write the time '01/02/2026' as 'YYYY-MM-DD HH:MM:SS+00'")),
        ("at::date = '01/02/2026'", Err("write the date '01/02/2026' as 'YYYY-MM-DD'")),
        ("to_char(at, 'TMMonth') = 'May'", Err("to_char in it needs a format as a literal, without TM")),
        (
            "at::text LIKE '2026-01-01%'",
            Err("the cast to text depends on settings that the client can change, such as TimeZone: write it for UTC"),
        ),
        (
            "age(at) > interval '1 day'",
            Err("the function age depends on settings that the client can change, such as TimeZone: write it for UTC"),
        ),
        ("public.is_eu(region)", Ok("public.is_eu(r.region)")),
        ("is_eu(region)", Err("there is no built-in function is_eu for its arguments; write its schema")),
        ("public.noisy(region)", Err("the function noisy is volatile")),
        ("random() < 0.5", Err("the function random is volatile")),
        ("pg_read_file('x') = ''", Err("the function pg_read_file is volatile")),
        ("nothing = 1", Err("there is no column nothing")),
        ("customers.region = 'eu'", Err("there is no column customers.region")),
        ("EXISTS (SELECT 1 FROM customers)", Err("write the schema of the relation customers")),
        ("id", Err("it is no condition: its type isn't boolean")),
        ("current_setting('search_path') = ''", Err("the setting search_path can't be read in it")),
        (
            "current_setting('postern.hash_key_0_inner') = ''",
            Err("the setting postern.hash_key_0_inner can't be read in it"),
        ),
        ("region = current_schema", Err("a value of this kind can't stand in it")),
        ("(orders).id = 1", Err("there is no column orders")),
        ("orders.* IS NOT NULL", Err("a whole row can't stand in it")),
        ("(id, region) = (1, 'eu')", Err("rows can't be compared in it: compare their columns")),
    ];
    let server = Server::shared().unwrap();
    let database = server
        .database_with(&format!(
            "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'happy'); {SHOP}
             ALTER TABLE orders ADD mood mood DEFAULT 'happy', ADD tag citext DEFAULT 'eu', ADD tags text[] DEFAULT '{{a}}',
                ADD data jsonb DEFAULT '{{\"tenant\": 7}}', ADD at timestamptz DEFAULT '2026-01-01 20:00+00';
             UPDATE orders SET at = '2026-01-02 05:00+00' WHERE id = 2;
             UPDATE orders SET mood = 'sad', tag = 'us', tags = '{{b}}', data = '{{}}', note = 'markerus' WHERE id = 2;
             CREATE FUNCTION is_eu(text) RETURNS bool LANGUAGE sql STABLE SET search_path = pg_catalog AS $$SELECT $1 = 'eu'$$;
             CREATE FUNCTION noisy(text) RETURNS bool LANGUAGE sql AS $$SELECT $1 = 'eu'$$;
             CREATE SCHEMA evil;
             CREATE FUNCTION evil.yes(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION evil.yes(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'eu'$$;
             CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
             CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.yes);
             CREATE OPERATOR evil.> (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.yes);
             CREATE OPERATOR evil.~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);"
        ))
        .unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let catalog = client.catalog().await;
    client.run("SET search_path = evil, pg_catalog, public; SET app.id = '1'; SET DateStyle = 'German, DMY'").await;
    let orders = catalog.relation("public", "orders").unwrap();
    for (filter, expected) in filters {
        let spec = format!(
            "rules:\n- name: all\n  to: {{groups: [readers]}}\n  allow: [Select]\n  relations: [\"public.*\"]\n  rowFilters:\n  - relation: public.orders\n    where: {}\n",
            serde_json::to_string(filter).unwrap()
        );
        let (policy, identity) = policy(server, &spec);
        let bound = bind(policy, identity, catalog.clone(), 1, None);
        match expected {
            Ok(sql) => {
                assert_eq!(seen(&bound, orders), format!("where {sql}"), "{filter}: {:?}", bound.problems);
                for zone in ["UTC", "Etc/GMT+12", "Pacific/Kiritimati"] {
                    client.run(&format!("SET TimeZone = '{zone}'")).await;
                    let shown = client.shown(&inline_view(&bound, orders).unwrap()).await;
                    assert!(shown.starts_with("1|") && !shown.contains("markerus"), "{filter}\n{shown}");
                }
            }
            Err(why) => {
                assert_eq!(seen(&bound, orders), format!("closed: its row filter can't be bound: {why}"), "{filter}");
                assert_eq!(bound.problems.len(), 1, "{filter}");
                assert_eq!(bound.problems[0].path, "spec.rules[0].rowFilters[0].where");
            }
        }
    }
}
