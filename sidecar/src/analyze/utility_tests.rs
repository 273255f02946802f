#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use postern_crds::files::{Object, read};
use proptest::prelude::*;

use super::*;
use crate::catalog::Index;
use crate::decide::bind::bind;
use crate::decide::testing;
use crate::sql;

const POLICY: &str = r#"
apiVersion: postern.dev/v1alpha1
kind: DatabaseAccessPolicy
metadata: {name: shop, namespace: shop}
spec:
  database:
    host: localhost
    name: shop
    tls: {mode: Disable}
    credentials: {secret: {name: shop}}
  masks:
  - columns: [shop.customers.card, public.accounts.pin]
    mask: {nullify: {}}
  rules:
  - name: reads
    to: {identities: [nightly]}
    allow: [Select, CopyIn]
    relations: [shop.customers, shop.orders, shop.notes]
    hideColumns: [shop.customers.ssn]
    rowFilters: [{relation: shop.orders, where: "region IS NOT NULL"}]
    settings: ["app.*"]
    channels: [events]
    limits: {statementTimeout: 30s}
  - name: exports
    to: {identities: [nightly]}
    allow: [CopyOut]
    relations: [shop.customers, shop.notes]
  - name: migrations
    to: {identities: [nightly]}
    allow: [Select, Ddl, Temp, Truncate, Maintenance]
    relations: ["app.*", shop.notes, shop.orders, public.accounts]
  bulkExport: {action: Allow}
---
apiVersion: postern.dev/v1alpha1
kind: NonHumanIdentity
metadata: {name: nightly, namespace: shop}
spec:
  subjects: [{serviceAccount: {name: nightly}}]
  postgresRole: reporting
"#;

fn bound() -> BoundPolicy {
    let mut catalog = testing::catalog();
    for (schema, oid) in [("pg_catalog", 11), ("shop", 100), ("app", 101), ("public", 102)] {
        catalog.schemas.insert(schema.into(), oid);
    }
    let mut oid = 1000;
    for (name, columns) in [
        ("customers", [("id", "integer"), ("card", "text"), ("ssn", "text")].as_slice()),
        ("orders", [("id", "integer"), ("region", "text")].as_slice()),
        ("notes", [("id", "integer"), ("body", "text")].as_slice()),
        ("other", [("id", "integer")].as_slice()),
        ("accounts", [("id", "integer"), ("pin", "text")].as_slice()),
    ] {
        oid += 1;
        let schema = if name == "accounts" { "public" } else { "shop" };
        let mut relation = testing::table(&catalog, oid, schema, name, columns);
        if matches!(name, "notes" | "accounts") {
            relation.indexes.push(Index {
                name: format!("{name}_pkey").as_str().into(),
                oid: oid + 1000,
                unique: true,
                primary: true,
                valid: true,
                columns: vec![1],
                expressions: None,
                predicate: None,
                reads: Vec::new(),
            });
        }
        catalog.add_relation(relation);
    }
    let (mut policy, mut identity) = (None, None);
    for object in read(POLICY).unwrap() {
        match object {
            Object::Policy(found) => policy = Some(found.compile().unwrap()),
            Object::Identity(found) => identity = Some(found.compile().unwrap()),
        }
    }
    let bound = bind(Arc::new(policy.unwrap()), Arc::new(identity.unwrap()), Arc::new(catalog), 1, None);
    assert!(bound.problems.is_empty(), "{:?}", bound.problems);
    bound
}

fn decide_text(policy: &BoundPolicy, text: &str) -> Arc<Decided> {
    let session = SessionView {
        search_path: Arc::from(["app".to_owned(), "public".to_owned()].as_slice()),
        looked: true,
        ..SessionView::default()
    };
    let measure = sql::measure(text, &sql::ParseLimits::default()).unwrap();
    match analyze(text, measure, policy, &session, &[]) {
        Analysis::Decided(decided) => decided,
        Analysis::Lookup(names) => panic!("{text}: {names:?}"),
    }
}

/// What is sent, with the mask by name, as the cases write it.
fn outcome(decided: &Decided) -> String {
    match (&decided.denial, &decided.rewritten) {
        (Some(denial), _) => format!("! {}", denial.reason.as_str()),
        (None, Some(text)) => text.replace("NULL::pg_catalog.text", "MASK"),
        (None, None) => "=".to_owned(),
    }
}

#[test]
fn utility_statements_are_decided_as_the_table_says() {
    let policy = bound();
    let mut wrong = Vec::new();
    let mut lines = include_str!("utility_cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    while let Some(text) = lines.next() {
        let text = text.strip_prefix("> ").expect(text);
        let wanted = lines.next().unwrap();
        let decided = decide_text(&policy, text);
        let found = outcome(&decided);
        count += 1;
        if found != wanted {
            wrong.push(format!("> {text}\n  wanted {wanted}\n  found  {found} {:?}", decided.denial));
        }
    }
    assert!(count > 100);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// To 15 `1_000` is `1 AS _000`, which is no default.
#[test]
fn the_body_of_a_do_block_is_read_as_the_server_reads_it() {
    let mut policy = bound();
    let text = "DO $$ BEGIN CREATE TABLE app.t (a int4 DEFAULT 1_000); END $$";
    for (server, wanted) in [(150_000, "! forbidden"), (160_000, "=")] {
        Arc::get_mut(&mut policy.catalog).unwrap().server_version = server;
        assert_eq!(outcome(&decide_text(&policy, text)), wanted, "{server}");
    }
}

#[test]
fn what_a_statement_does_to_the_session_is_told() {
    let policy = bound();
    let effect = |text: &str| format!("{:?}", decide_text(&policy, text).statements[0].effect);
    assert_eq!(effect("COMMIT AND CHAIN"), "Commit { chain: true }");
    assert_eq!(effect("SAVEPOINT a"), "Savepoint(\"a\")");
    assert_eq!(
        effect("SET LOCAL search_path TO a, \"B c\""),
        "SearchPath { value: Some([\"a\", \"B c\"]), local: true }"
    );
    assert_eq!(effect("RESET search_path"), "SearchPath { value: None, local: false }");
    assert_eq!(effect("SET application_name = 'x'"), "ApplicationName { value: Some(\"x\"), local: false }");
    assert_eq!(effect("SHOW application_name"), "ShowApplicationName");
    assert_eq!(effect("DISCARD ALL"), "DiscardAll");
    assert_eq!(effect("FETCH ALL IN c"), "Fetch { name: \"c\" }");
    assert_eq!(effect("CLOSE c"), "CloseCursor(Some(\"c\"))");
    assert_eq!(effect("DEALLOCATE p"), "Deallocate(Some(\"p\"))");
    assert_eq!(effect("COPY shop.notes TO STDOUT"), "CopyOut");
    assert_eq!(effect("COPY shop.notes FROM STDIN"), "CopyIn");
    assert_eq!(
        effect("CREATE TABLE t (a int4)"),
        "CatalogChange { names: [(Some(\"app\"), \"t\")], types: [], temporary: false }"
    );
    assert_eq!(
        effect("CREATE TEMP TABLE t (a int4)"),
        "CatalogChange { names: [(Some(\"pg_temp\"), \"t\")], types: [], temporary: true }"
    );
    assert!(effect("DECLARE c CURSOR WITH HOLD FOR SELECT 1").contains("hold: true"));
    assert!(effect("EXPLAIN SELECT 1").starts_with("None"));
}

#[test]
fn a_prepared_statement_is_kept_as_the_client_wrote_it() {
    let policy = bound();
    let decided = decide_text(&policy, "PREPARE p AS SELECT card FROM shop.customers WHERE id = $1");
    let statement = &decided.statements[0];
    let Effect::Prepare { name, inner, decided, .. } = &statement.effect else { panic!("{:?}", statement.effect) };
    assert_eq!((&**name, &**inner), ("p", "SELECT card FROM shop.customers WHERE id = $1"));
    assert!(decided.returns_rows && decided.second_wall);
    assert!(!statement.returns_rows);
}

#[test]
fn what_is_to_be_dropped_and_is_not_there_is_called_as_the_server_calls_it() {
    let policy = bound();
    for (kind, sqlstate) in [
        ("table", "42P01"),
        ("view", "42P01"),
        ("materialized view", "42P01"),
        ("sequence", "42P01"),
        ("index", "42704"),
    ] {
        let decided = decide_text(&policy, &format!("DROP {kind} app.gone"));
        let denial = decided.denial.as_ref().unwrap();
        assert_eq!((&*denial.message, denial.sqlstate), (&*format!("{kind} \"gone\" does not exist"), sqlstate));
    }
}

#[test]
fn export_needs_its_verb_and_the_policys_word() {
    let mut policy = bound();
    let checked = Arc::make_mut(&mut policy.policy);
    checked.bulk_export.action = postern_crds::BulkAction::Deny;
    let denial = decide_text(&policy, "COPY shop.notes TO STDOUT").denial.clone().unwrap();
    assert_eq!(denial.reason, Reason::BulkExport);
    // Who has neither is told of both.
    let told = |policy: &BoundPolicy| {
        let denial = decide_text(policy, "COPY shop.orders TO STDOUT").denial.clone().unwrap();
        (denial.reason, denial.hint.unwrap().starts_with("`bulkExport: {action: Allow}` and a rule for "))
    };
    assert_eq!(told(&policy), (Reason::BulkExport, true));
    Arc::make_mut(&mut policy.policy).bulk_export.action = postern_crds::BulkAction::Allow;
    assert_eq!(told(&policy), (Reason::BulkExport, false));
}

#[test]
fn a_row_by_its_key_is_one_row() {
    let policy = bound();
    let one = |text: &str| decide_text(&policy, text).statements[0].at_most_one_row;
    assert!(one("SELECT body FROM shop.notes WHERE id = $1"));
    assert!(one("SELECT * FROM shop.notes n WHERE body <> 'x' AND 1 = n.id"));
    for many in [
        "SELECT body FROM shop.notes",
        "SELECT body FROM shop.notes WHERE body = 'x'",
        "SELECT body FROM shop.notes WHERE id = 1 OR body = 'x'",
        "SELECT body FROM shop.notes WHERE id = id",
        "SELECT body FROM shop.notes WHERE id > 1",
        "SELECT n.body FROM shop.notes n, shop.customers c WHERE n.id = 1",
        "SELECT body FROM shop.notes WHERE id = 1 UNION ALL SELECT body FROM shop.notes WHERE id = 2",
        "SELECT body FROM shop.notes WHERE id = (SELECT 1)",
    ] {
        assert!(!one(many), "{many}");
    }
}

#[test]
fn no_statement_of_the_parsers_corpus_panics() {
    let policy = bound();
    for text in include_str!("../sql/corpus.sql").split(";\n") {
        decide_any(&policy, text);
    }
}

/// Decides a text that may name anything.
fn decide_any(policy: &BoundPolicy, text: &str) {
    for looked in [false, true] {
        let session = SessionView { looked, ..SessionView::default() };
        if let Ok(measure) = sql::measure(text, &sql::ParseLimits::default())
            && let Analysis::Decided(decided) = analyze(text, measure, policy, &session, &[])
            && let (None, Some(sent)) = (&decided.denial, &decided.rewritten)
        {
            assert_one_meaning(sent);
        }
    }
}

/// What is sent parses, and written out again it is the same text: it is the tree that was decided.
fn assert_one_meaning(sent: &str) {
    let tree = pg_query::parse(sent, 0).unwrap_or_else(|error| panic!("{sent}: {error}"));
    assert_eq!(tree.deparse(pg_query::DeparseOptions::default()).unwrap(), sent);
}

/// Queries that parse: every place of a SELECT with expressions and sub-selects in it.
fn query() -> impl Strategy<Value = String> {
    let table =
        prop::sample::select(vec!["shop.customers c", "shop.orders c", "shop.notes c", "shop.customers AS c (a, b)"]);
    let leaf = prop::sample::select(vec![
        "id",
        "c.id",
        "card",
        "c.card",
        "ssn",
        "region",
        "body",
        "a",
        "c",
        "(c).card",
        "1",
        "'x'",
        "NULL",
        "c.ctid",
        "$1",
        "shop.orders.id",
    ])
    .prop_map(str::to_owned);
    let expression = leaf.prop_recursive(4, 24, 3, move |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            (pair.clone(), prop::sample::select(vec!["=", "<", "||", "+", "AND", "IS DISTINCT FROM", "LIKE"]))
                .prop_map(|((left, right), operator)| format!("({left}) {operator} ({right})")),
            (inner.clone(), prop::sample::select(vec!["upper", "count", "to_jsonb", "max", "card", "coalesce"]))
                .prop_map(|(value, function)| format!("{function}({value})")),
            (inner.clone(), prop::sample::select(vec!["text", "int4", "shop.notes", "regclass"]))
                .prop_map(|(value, of)| format!("({value})::{of}")),
            pair.clone().prop_map(|(when, then)| format!("CASE WHEN {when} THEN {then} END")),
            pair.clone().prop_map(|(value, list)| format!("({value}) IN ({list}, 2)")),
            (pair, table.clone()).prop_map(|((value, condition), table)| format!(
                "(SELECT {value} FROM {table} WHERE {condition} LIMIT 1)"
            )),
            (inner, table.clone()).prop_map(|(value, table)| format!("EXISTS (SELECT {value} FROM {table})")),
        ]
    });
    let rest = prop::sample::select(vec![
        "",
        "GROUP BY c.id",
        "ORDER BY 1",
        "FOR UPDATE OF c",
        "LIMIT 3",
        "UNION ALL SELECT card FROM shop.customers",
    ]);
    let shape = prop::sample::select(vec![
        "SELECT @E FROM shop.customers c WHERE @C @R",
        "SELECT *, @E FROM shop.orders c JOIN shop.notes n USING (id) WHERE @C @R",
        "WITH c AS (SELECT * FROM shop.customers) SELECT @E FROM c WHERE @C",
        "SELECT l.* FROM shop.notes c, LATERAL (SELECT @E AS z FROM shop.customers d WHERE @C) l @R",
        "SELECT DISTINCT ON (@E) id FROM shop.orders c WHERE @C",
        "SELECT sum(id) OVER (PARTITION BY @E) FROM shop.customers c WHERE @C",
        "COPY (SELECT @E FROM shop.customers c WHERE @C) TO STDOUT",
        "EXPLAIN SELECT @E FROM shop.orders c WHERE @C",
    ]);
    (shape, expression.clone(), expression, rest).prop_map(|(shape, value, condition, rest)| {
        shape.replace("@E", &value).replace("@C", &condition).replace("@R", rest)
    })
}

fn soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "SELECT",
        "INSERT INTO",
        "UPDATE",
        "DELETE FROM",
        "MERGE INTO",
        "COPY",
        "TO STDOUT",
        "FROM STDIN",
        "CREATE TABLE",
        "CREATE VIEW v AS",
        "ALTER TABLE",
        "DROP TABLE",
        "EXPLAIN",
        "PREPARE p AS",
        "DECLARE c CURSOR FOR",
        "SET",
        "TO",
        "=",
        "shop.customers",
        "shop.orders",
        "shop.notes",
        "customers",
        "c",
        "AS",
        "id",
        "card",
        "ssn",
        "region",
        "body",
        "*",
        ",",
        "(",
        ")",
        "FROM",
        "WHERE",
        "JOIN",
        "ON",
        "USING",
        "VALUES",
        "1",
        "'x'",
        "NULL",
        "DEFAULT",
        "RETURNING",
        "UNION ALL",
        "WITH x AS (",
        "GROUP BY",
        "ORDER BY",
        "LIMIT",
        "FOR UPDATE",
        "ON CONFLICT DO NOTHING",
        "ADD COLUMN",
        "int4",
        "text",
        "IN",
        "EXISTS (SELECT",
        "CASE WHEN",
        "THEN",
        "END",
        "NOT",
        "AND",
        "OR",
        "IS NULL",
        "::text",
        ".",
        "count(*)",
        "lateral",
        "ONLY",
    ]);
    prop::collection::vec(words, 1..24).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_words_panic_the_analysis(text in soup()) {
        BOUND.with(|policy| decide_any(policy, &text));
    }

    #[test]
    fn what_is_sent_for_any_query_is_the_tree_that_was_decided(text in query()) {
        BOUND.with(|policy| decide_any(policy, &text));
    }
}

thread_local! {
    static BOUND: BoundPolicy = bound();
}

#[test]
fn mode_audit_learns_everything_that_a_text_needs_and_enforce_nothing() {
    let learn = |text: &str, mode: postern_crds::Mode| {
        let mut bound = bound();
        let mut policy = postern_crds::CheckedPolicy::clone(&bound.policy);
        policy.mode = mode;
        policy.rules.clear();
        bound.policy = Arc::new(policy);
        let session =
            SessionView { search_path: Arc::new(["shop".to_owned()]), looked: true, ..SessionView::default() };
        let measure = sql::measure(text, &sql::ParseLimits::default()).unwrap();
        match crate::analyze::analyze(text, measure, &bound, &session, &[]) {
            crate::analyze::Analysis::Decided(decided) => decided,
            crate::analyze::Analysis::Lookup(names) => panic!("{text}: {names:?}"),
        }
    };
    for (text, needs) in [
        (
            "SELECT o.region FROM customers c JOIN orders o ON o.id = c.id",
            r#"{"relations":{"shop.customers":["Select"],"shop.orders":["Select"]},
                "columns":{"shop.customers.id":"integer","shop.orders.id":"integer","shop.orders.region":"text"},
                "compared":["shop.customers.id","shop.orders.id"]}"#,
        ),
        (
            "SELECT region FROM orders GROUP BY region",
            r#"{"relations":{"shop.orders":["Select"]},"columns":{"shop.orders.region":"text"}}"#,
        ),
        (
            "SELECT 1 FROM notes FOR UPDATE; TRUNCATE other",
            r#"{"relations":{"shop.notes":["Select"],"shop.other":["Truncate"]},"row_locks":["shop.notes"]}"#,
        ),
        (
            "SET app.tenant = 1; SET LOCAL work_mem = '8MB'; NOTIFY \"Orders\"",
            r#"{"settings":["app.tenant"],"channels":["\"Orders\""]}"#,
        ),
        ("CREATE TEMP TABLE x (a int)", r#"{"verbs":["Temp"]}"#),
        (
            "COPY notes (body) TO STDOUT",
            r#"{"relations":{"shop.notes":["Select","CopyOut"]},"bulk_export":true,"columns":{"shop.notes.body":"text"}}"#,
        ),
        (
            "SELECT id FROM other; COPY notes TO '/tmp/x'",
            r#"{"relations":{"shop.other":["Select"]},"columns":{"shop.other.id":"integer"}}"#,
        ),
    ] {
        let decided = learn(text, postern_crds::Mode::Audit);
        assert!(decided.denial.is_none() && decided.would_deny.is_some(), "{text}");
        let mut learnt = serde_json::to_value(decided.needs.as_deref().unwrap()).unwrap();
        let beyond = learnt.as_object_mut().unwrap().remove("beyond");
        assert_eq!(learnt, serde_json::from_str::<serde_json::Value>(needs).unwrap(), "{text}");
        assert_eq!(beyond.is_some(), text.contains("/tmp/x"), "{text}: {beyond:?}");
        let enforced = learn(text, postern_crds::Mode::Enforce);
        assert!(enforced.denial.is_some() && enforced.needs.is_none(), "{text}");
        assert_eq!(enforced.denial.as_ref().map(|d| d.reason), decided.would_deny.as_ref().map(|d| d.reason), "{text}");
    }
    // Who the session is does not change in mode Audit either, behind what a rule could allow.
    for text in [
        "SELECT 1 FROM notes; SET ROLE postgres",
        "SELECT 1 FROM notes; SET SESSION AUTHORIZATION postgres",
        "SET LOCAL SESSION AUTHORIZATION 'postgres'",
    ] {
        let decided = learn(text, postern_crds::Mode::Audit);
        assert_eq!(decided.denial.as_ref().map(|denial| denial.reason), Some(Reason::Role), "{text}");
        assert!(decided.would_deny.is_none(), "{text}");
    }
}

#[test]
fn what_the_scanner_cannot_read_is_left_to_the_server_in_mode_audit_only() {
    let text = "SELECT 'secret' AS x, 123abc";
    let denied = sql::measure(text, &sql::ParseLimits::default()).unwrap_err();
    let of = |mode: postern_crds::Mode| {
        let mut bound = bound();
        let mut policy = postern_crds::CheckedPolicy::clone(&bound.policy);
        policy.mode = mode;
        bound.policy = Arc::new(policy);
        match crate::analyze::unreadable(text, denied.clone(), &bound) {
            crate::analyze::Analysis::Decided(decided) => decided,
            crate::analyze::Analysis::Lookup(names) => panic!("{names:?}"),
        }
    };
    let enforced = of(postern_crds::Mode::Enforce);
    assert_eq!(enforced.denial.as_ref().map(|denial| denial.reason), Some(Reason::Syntax));
    let audited = of(postern_crds::Mode::Audit);
    assert!(audited.denial.is_none() && audited.rewritten.is_none());
    assert_eq!(audited.would_deny.as_ref().map(|denial| denial.reason), Some(Reason::Syntax));
    assert!(!audited.normalized.contains("secret"), "{}", audited.normalized);
}
