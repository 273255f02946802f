//! Every kind of mask on every type that it fits, on a real server: it raises for no value, has the column's exact type,
//! and gives the same under whatever settings a client may choose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod binding;

use std::collections::BTreeMap;

use binding::Client;
use postern_crds::MaskKind;
use postern_e2e::postgres::{ADMIN, Server};
use postern_sidecar::catalog::Catalog;
use postern_sidecar::catalog::load::load;
use postern_sidecar::decide::expression::{instantiate, to_sql};
use postern_sidecar::decide::mask::{self, HashKey};
use tokio_postgres::SimpleQueryMessage;

trait Value {
    async fn value(&self, sql: &str) -> Option<String>;
}

impl Value for Client {
    async fn value(&self, sql: &str) -> Option<String> {
        let messages = self.0.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }
}

/// What stands around the types: enums, domains, collations, and a schema full of traps.
const SETUP: &str = r#"
    CREATE EXTENSION citext;
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
    CREATE DOMAIN short AS varchar(10);
    CREATE DOMAIN shorter AS short;
    CREATE DOMAIN price AS numeric(6,2);
    CREATE DOMAIN counted AS bigint;
    CREATE DOMAIN born AS date;
    CREATE DOMAIN checked AS text CHECK (VALUE LIKE '%@%');
    CREATE DOMAIN present AS text NOT NULL;
    CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE COLLATION german (provider = icu, locale = 'de');
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.length(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1000000';
    CREATE FUNCTION evil."left"(text, int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE FUNCTION evil.repeat(text, int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE FUNCTION evil.lt(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
    CREATE OPERATOR evil.<= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.lt);
    CREATE OPERATOR evil.< (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.lt);
    CREATE DOMAIN evil.int4 AS pg_catalog.text;
    CREATE DOMAIN evil.text AS pg_catalog.int4;
    CREATE DOMAIN evil.numeric AS pg_catalog.int4;
    CREATE DOMAIN evil.date AS pg_catalog.text;
"#;

/// What a client may set, and what would change the meaning of careless SQL.
const HOSTILE: &str =
    "SET TimeZone = 'Pacific/Kiritimati'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard';
    SET bytea_output = 'escape'; SET extra_float_digits = -10; SET search_path = evil, public, pg_catalog;
    SET timezone_abbreviations = 'India'; SET array_nulls = off; SET quote_all_identifiers = on";

/// Types with values at their edges, as SQL.
fn types() -> Vec<(&'static str, Vec<&'static str>)> {
    let texts = vec![
        "''",
        "' '",
        "'a'",
        "'abcd'",
        "'abcde'",
        "'4111111111111111'",
        "'jane.doe@example.com'",
        "'@'",
        "'a@'",
        "'@b.c'",
        "'a@b@c.d'",
        "'x@y.z (call 555)'",
        "'ab@4111111111111111'",
        "'äöü€'",
        "'日本語テキスト'",
        "E'e\\u0301e\\u0301e\\u0301'",
        "'👩‍👩‍👧‍👦👩‍👩‍👧‍👦'",
        "E'line\\nbreak'",
        "E'tab\\t'",
        "'it''s'",
        "'back\\slash'",
        "'ends with blanks   '",
    ];
    let fitting =
        |length: usize| texts.iter().copied().filter(|it| it.chars().count() <= length + 2).collect::<Vec<_>>();
    let mut long = texts.clone();
    long.extend(["repeat('x', 400) || '@example.com'", "repeat('ä', 300000)", "repeat('a@', 5000)"]);
    let dates = vec![
        "'2024-02-29'",
        "'1969-07-20'",
        "'0044-03-15 BC'",
        "'4713-11-24 BC'",
        "'4714-11-24 BC'",
        "'5874897-12-31'",
        "'294276-12-31'",
        "'infinity'",
        "'-infinity'",
        "'0001-01-01'",
        "'2000-12-31'",
    ];
    let moments = vec![
        "'2024-02-29 23:59:59.999999'",
        "'4714-11-24 00:00:00 BC'",
        "'294276-12-31 23:59:59.999999'",
        "'infinity'",
        "'-infinity'",
        "'1969-12-31 23:59:59'",
        "'0001-01-01 00:00:00'",
        "'2024-03-31 02:30:00'",
    ];
    vec![
        ("text", long.clone()),
        ("varchar", long),
        ("varchar(20)", fitting(20)),
        ("varchar(5)", fitting(5)),
        ("varchar(80)", texts.clone()),
        ("char(4)", fitting(4)),
        ("char(70)", texts.clone()),
        ("char", fitting(1)),
        ("name", texts.clone()),
        ("citext", texts.clone()),
        ("short", fitting(10)),
        ("shorter", fitting(10)),
        ("checked", vec!["'a@b.c'", "'@'"]),
        ("present", texts.clone()),
        ("text COLLATE anycase", texts.clone()),
        ("varchar(70) COLLATE german", texts.clone()),
        ("bytea", vec!["''", "'\\x00ff'", "'\\x61626364'"]),
        ("int2", vec!["-32768", "-32767", "-1", "0", "1", "99", "100", "-100", "-101", "32767"]),
        ("int4", vec!["-2147483648", "-2147483647", "-1", "0", "1", "99", "100", "-100", "-101", "2147483647"]),
        ("int8", vec!["-9223372036854775808", "-1", "0", "1", "100", "-100", "9223372036854775807"]),
        ("counted", vec!["-9223372036854775808", "0", "9223372036854775807"]),
        (
            "numeric",
            vec![
                "0",
                "-0.0",
                "1",
                "99.99",
                "-0.01",
                "100",
                "-100",
                "-100.000000000000000000001",
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "1e131071",
                "-1e131071",
                "1e-16383",
                "-1e-16383",
                "9999999999999999999999999999.9999999999",
            ],
        ),
        ("numeric(10,2)", vec!["99999999.99", "-99999999.99", "0.01", "-0.01", "100", "-100", "'NaN'", "12345678.90"]),
        ("numeric(4)", vec!["9999", "-9999", "0", "'NaN'"]),
        ("numeric(3,3)", vec!["0.999", "-0.999", "0"]),
        ("numeric(3,-2)", vec!["99900", "-99900", "0"]),
        ("price", vec!["9999.99", "-9999.99", "0"]),
        (
            "float4",
            vec![
                "0",
                "'-0'",
                "1.5",
                "-1.5",
                "3.4028235e38",
                "-3.4028235e38",
                "1e-45",
                "-1e-45",
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
            ],
        ),
        (
            "float8",
            vec![
                "0",
                "'-0'",
                "1.5",
                "-1.5",
                "1.7976931348623157e308",
                "-1.7976931348623157e308",
                "5e-324",
                "-5e-324",
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "1e300",
                "99.999999999999",
                "-100",
            ],
        ),
        ("bool", vec!["true", "false"]),
        ("date", dates.clone()),
        ("born", dates),
        ("timestamp", moments.clone()),
        ("timestamp(0)", moments.iter().copied().filter(|it| !it.contains("294276")).collect()),
        (
            "timestamptz",
            moments
                .iter()
                .copied()
                .filter(|it| !it.contains("4714") && !it.contains("294276"))
                .chain(["'4714-11-24 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'", "'2024-01-01 00:30:00+14'"])
                .collect(),
        ),
        ("time", vec!["'00:00:00'", "'24:00:00'"]),
        ("timetz", vec!["'00:00:00+15:59'"]),
        ("interval", vec!["'1 year -3 days 04:05:06'", "'-178000000 years'"]),
        ("interval day to second(0)", vec!["'-3 days 04:05:06'"]),
        ("uuid", vec!["'00000000-0000-0000-0000-000000000001'"]),
        ("json", vec!["'{}'", "'\"\\u0000\"'", "'null'"]),
        ("jsonb", vec!["'{\"a\": 1e400}'", "'null'"]),
        ("inet", vec!["'::1/128'"]),
        ("cidr", vec!["'10.0.0.0/8'"]),
        ("macaddr", vec!["'08:00:2b:01:02:03'"]),
        ("bit(3)", vec!["B'101'"]),
        ("bit varying(5)", vec!["B''"]),
        ("mood", vec!["'happy'", "'sad'"]),
        ("text[]", vec!["'{}'", "'{a,NULL}'"]),
        ("numeric(5,1)[]", vec!["'{1.5}'"]),
        ("mood[]", vec!["'{sad}'"]),
        ("int4range", vec!["'[1,2)'"]),
        ("\"char\"", vec!["'a'"]),
        ("money", vec!["1"]),
        ("point", vec!["'(0,0)'"]),
        ("xml", vec!["'<a/>'"]),
    ]
}

fn kinds() -> Vec<MaskKind> {
    let fixed = |value: &str| MaskKind::Fixed { value: value.into() };
    let partial = |keep_first, keep_last, with| MaskKind::Partial { keep_first, keep_last, with };
    let mut kinds = vec![
        MaskKind::Nullify,
        MaskKind::Default,
        MaskKind::Redact,
        MaskKind::Hash { key_secret: ("s".into(), "k".into()) },
        MaskKind::Email,
        partial(0, 4, '*'),
        partial(2, 2, '€'),
        partial(1, 0, '\''),
        partial(0, 0, '\\'),
    ];
    kinds
        .extend(["year", "quarter", "month", "week", "day", "hour"].map(|to| MaskKind::TruncateDate { to: to.into() }));
    kinds.extend(
        ["1", "7", "100", "1000000", "0.01", "0.25", "2147483647"].map(|size| MaskKind::Bucket { size: size.into() }),
    );
    kinds.extend(
        [
            "",
            "x",
            "it's \\ €",
            "7",
            "-1.50",
            "true",
            "2020-02-29",
            "2020-02-29 10:00:00",
            "2020-02-29 10:00:00+02",
            "happy",
            "{}",
            "\\x00ff",
            "10.0.0.1",
        ]
        .map(fixed),
    );
    kinds.push(fixed("00000000-0000-0000-0000-00000000000a"));
    kinds
}

fn is_constant(kind: &MaskKind) -> bool {
    matches!(kind, MaskKind::Nullify | MaskKind::Default | MaskKind::Fixed { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_never_raises_keeps_the_type_and_ignores_what_a_client_sets() {
    let server = Server::shared().unwrap();
    let mut types = types();
    if server.version().unwrap() < 15 {
        types.retain(|(kind, _)| *kind != "numeric(3,-2)");
    }
    let mut setup = SETUP.to_owned();
    for (index, (kind, values)) in types.iter().enumerate() {
        setup.push_str(&format!("CREATE TABLE t{index} (id int GENERATED ALWAYS AS IDENTITY, v {kind});"));
        for value in values {
            setup.push_str(&format!("INSERT INTO t{index} (v) VALUES ({value});"));
        }
        if *kind != "present" {
            setup.push_str(&format!("INSERT INTO t{index} (v) VALUES (NULL);"));
        }
    }
    let database = server.database_with(&setup).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let (catalog, _) = load(&mut client).await.unwrap();
    set_key(&client).await;
    let mut known = mask::Expressions::default();
    let mut fits: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut tried = 0;
    for (index, (type_sql, _)) in types.iter().enumerate() {
        let relation = catalog.relation("public", &format!("t{index}")).unwrap();
        let column = relation.column("v").unwrap();
        for kind in kinds() {
            let Ok(bound) = mask::bind(&kind, &catalog, column, "public.t.v", Some(0), &mut known) else { continue };
            let sql = to_sql(&instantiate(&bound.expression, "c")).unwrap();
            assert_eq!(bound.constant, is_constant(&kind), "{kind:?}");
            let what = format!("{kind:?} on {type_sql}: {sql}");
            tried += 1;
            let words = fits.entry(type_sql).or_default();
            if !words.contains(&kind.as_str()) {
                words.push(kind.as_str());
            }
            client.run("RESET ALL").await;
            set_key(&client).await;
            client
                .run(&format!(
                    "DROP TABLE IF EXISTS m; CREATE TEMP TABLE m AS SELECT c.id, {sql} AS m FROM t{index} AS c"
                ))
                .await;
            let exact = "SELECT count(*) FROM pg_attribute a, pg_attribute b WHERE a.attrelid = 'm'::regclass AND a.attname = 'm'
                AND b.attrelid = '{t}'::regclass AND b.attname = 'v'
                AND a.atttypid = b.atttypid AND a.atttypmod = b.atttypmod AND a.attcollation = b.attcollation";
            let count = client.value(&exact.replace("{t}", &format!("t{index}"))).await;
            assert_eq!(count.as_deref(), Some("1"), "the type changed: {what}");
            if !is_constant(&kind) {
                let wrong =
                    format!("SELECT count(*) FROM m JOIN t{index} t USING (id) WHERE (t.v IS NULL) <> (m.m IS NULL)");
                assert_eq!(
                    client.value(&wrong).await.as_deref(),
                    Some("0"),
                    "NULL must stay NULL, and nothing else become it: {what}"
                );
            }
            client.run(HOSTILE).await;
            set_key(&client).await;
            let differ = format!(
                "SELECT pg_catalog.count(*) FROM pg_temp.m JOIN public.t{index} c USING (id) WHERE pg_catalog.record_image_ne(ROW({sql}), ROW(m.m))"
            );
            assert_eq!(client.value(&differ).await.as_deref(), Some("0"), "settings change the mask: {what}");
        }
    }
    assert!(tried > 300, "only {tried} masks fit");
    let has = |kind: &str, words: &str| assert_eq!(fits[kind].join(" "), words, "{kind}");
    has("text", "nullify default redact hash email partial fixed");
    has("varchar(20)", "nullify default redact email partial fixed");
    has("char(70)", "nullify default redact hash email partial fixed");
    has("citext", "nullify default redact hash email partial fixed");
    has("text COLLATE anycase", "nullify default redact hash email partial fixed");
    has("shorter", "nullify default redact email partial fixed");
    has("checked", "nullify");
    has("present", "default redact hash email partial fixed");
    has("int2", "nullify default bucket fixed");
    has("numeric(10,2)", "nullify default bucket fixed");
    // There is no negative scale before Postgres 15.
    if fits.contains_key("numeric(3,-2)") {
        has("numeric(3,-2)", "nullify default");
    }
    has("price", "nullify default bucket fixed");
    has("float8", "nullify default bucket fixed");
    has("date", "nullify default truncateDate fixed");
    has("timestamptz", "nullify default truncateDate fixed");
    has("bytea", "nullify default hash fixed");
    has("mood", "nullify default fixed");
    has("text[]", "nullify default fixed");
    has("money", "nullify");
}

async fn set_key(client: &Client) {
    let key = HashKey { secret: ("s".into(), "k".into()), index: 0 };
    for (name, value) in key.settings(b"Jefe") {
        client.run(&format!("SET {name} = '{value}'")).await;
    }
}

/// Raw value, kind, what the mask shows.
fn examples() -> Vec<(&'static str, &'static str, MaskKind, Option<&'static str>)> {
    let partial = |keep_first, keep_last, with| MaskKind::Partial { keep_first, keep_last, with };
    let bucket = |size: &str| MaskKind::Bucket { size: size.into() };
    let truncate = |to: &str| MaskKind::TruncateDate { to: to.into() };
    let hash = MaskKind::Hash { key_secret: ("s".into(), "k".into()) };
    vec![
        ("text", "'4111111111111111'", partial(0, 4, '*'), Some("************1111")),
        ("text", "'1111'", partial(0, 4, '*'), Some("****")),
        ("text", "'11112'", partial(0, 4, '*'), Some("*1112")),
        ("text", "'abcdef'", partial(2, 2, '€'), Some("ab€€ef")),
        ("text", "'abcd'", partial(2, 2, '€'), Some("€€€€")),
        ("text", "'äöüß'", partial(1, 0, '*'), Some("ä***")),
        ("char(8)", "'abc'", partial(0, 2, '*'), Some("*bc     ")),
        ("char(8)", "'ab'", partial(0, 2, '*'), Some("**      ")),
        ("text", "'日本語'", MaskKind::Redact, Some("***")),
        ("text", "'jane.doe@example.com'", MaskKind::Email, Some("j***@example.com")),
        ("text COLLATE anycase", "'Jane.Doe@Example.com'", MaskKind::Email, Some("J***@Example.com")),
        ("text", "'jane.doe'", MaskKind::Email, Some("********")),
        ("text", "'@b.com'", MaskKind::Email, Some("******")),
        ("text", "'a@b.com, c@d.com'", MaskKind::Email, Some("****************")),
        ("text", "'a@4111'", MaskKind::Email, Some("******")),
        ("text", "E'a@b.com\\n4111'", MaskKind::Email, Some("************")),
        (
            "text",
            "'what do ya want for nothing?'",
            hash.clone(),
            Some("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ),
        (
            "bytea",
            "'what do ya want for nothing?'",
            hash,
            Some("\\x5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ),
        ("int4", "-1", bucket("100"), Some("-100")),
        ("int4", "-100", bucket("100"), Some("-100")),
        ("int4", "-101", bucket("100"), Some("-200")),
        ("int4", "199", bucket("100"), Some("100")),
        ("int4", "-2147483648", bucket("100"), Some("-2147483648")),
        ("numeric(10,2)", "-99999999.99", bucket("100"), Some("-99999999.99")),
        ("numeric(10,2)", "199.99", bucket("100"), Some("100.00")),
        ("numeric", "9999999999999999999999999999.9999999999", bucket("100"), Some("9999999999999999999999999900")),
        ("numeric", "-0.001", bucket("0.25"), Some("-0.25")),
        ("numeric", "'-Infinity'", bucket("7"), Some("-Infinity")),
        ("float8", "-0.5", bucket("1"), Some("-1")),
        ("float8", "'NaN'", bucket("1"), Some("NaN")),
        ("date", "'2024-02-29'", truncate("year"), Some("2024-01-01")),
        ("date", "'0044-03-15 BC'", truncate("month"), Some("0044-03-01 BC")),
        ("date", "'5874897-12-31'", truncate("year"), Some("infinity")),
        ("timestamptz", "'2024-01-01 00:30:00+14'", truncate("day"), Some("2023-12-31 00:00:00+00")),
        ("timestamp", "'2024-02-29 23:59:59'", truncate("hour"), Some("2024-02-29 23:00:00")),
        ("timestamp", "'2024-02-29 23:59:59'", truncate("week"), Some("2024-02-26 00:00:00")),
        ("mood", "'happy'", MaskKind::Default, Some("sad")),
        ("timestamptz", "now()", MaskKind::Default, Some("1970-01-01 00:00:00+00")),
        ("numeric(10,2)", "5", MaskKind::Default, Some("0.00")),
        ("text", "'x'", MaskKind::Nullify, None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_shows_what_it_says() {
    let server = Server::shared().unwrap();
    let mut setup = SETUP.to_owned();
    for (index, (kind, raw, ..)) in examples().iter().enumerate() {
        setup.push_str(&format!("CREATE TABLE t{index} (v {kind}); INSERT INTO t{index} VALUES ({raw});"));
    }
    let database = server.database_with(&setup).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let (catalog, _): (Catalog, _) = load(&mut client).await.unwrap();
    client.run("SET TimeZone = 'UTC'").await;
    set_key(&client).await;
    let mut known = mask::Expressions::default();
    for (index, (type_sql, raw, kind, shown)) in examples().into_iter().enumerate() {
        let column = catalog.relation("public", &format!("t{index}")).unwrap().column("v").unwrap().clone();
        let bound = mask::bind(&kind, &catalog, &column, "public.t.v", Some(0), &mut known).unwrap();
        let sql = to_sql(&instantiate(&bound.expression, "c")).unwrap();
        let value = client.value(&format!("SELECT {sql} FROM t{index} AS c")).await;
        assert_eq!(value.as_deref(), shown, "{kind:?} of {raw}, a {type_sql}: {sql}");
    }
}
