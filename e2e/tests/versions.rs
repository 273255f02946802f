//! What differs between the versions of Postgres is known: words and numbers that another grammar reads otherwise, functions
//! and relations of the catalog that came or went. Run with each version by `.ci/versions`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pg_query::protobuf::{KeywordKind, Token};
use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_e2e::wire::{Format, Message, Wire, error, rows};
use postern_sidecar::sql::as_server_reads;

/// The keywords of the parser's grammar, with the letter that `pg_get_keywords` has for their kind.
fn keywords_of_the_parser() -> BTreeMap<String, char> {
    let mut keywords = BTreeMap::new();
    for token in (1..2000).filter_map(|number| Token::try_from(number).ok()) {
        // `NULL_P` and the like are called so for C's sake.
        let word = token.as_str_name().to_ascii_lowercase();
        for word in [word.as_str(), word.trim_end_matches("_p")] {
            let Ok(scanned) = pg_query::scan(word) else { continue };
            let [only] = scanned.tokens.as_slice() else { continue };
            let kind = match only.keyword_kind() {
                KeywordKind::NoKeyword => continue,
                KeywordKind::UnreservedKeyword => 'U',
                KeywordKind::ColNameKeyword => 'C',
                KeywordKind::TypeFuncNameKeyword => 'T',
                KeywordKind::ReservedKeyword => 'R',
            };
            keywords.insert(word.to_owned(), kind);
        }
    }
    keywords
}

#[test]
fn a_word_that_is_a_name_to_the_server_is_a_name_to_the_parser() {
    let server = Server::shared().unwrap();
    let version: u32 = server.psql("postgres", "SHOW server_version_num").unwrap().trim().parse().unwrap();
    let ours = keywords_of_the_parser();
    assert!(ours.len() > 480, "{}", ours.len());
    let theirs: BTreeMap<String, char> = server
        .psql("postgres", "SELECT word || ' ' || catcode::text FROM pg_get_keywords()")
        .unwrap()
        .lines()
        .map(|line| (line[..line.len() - 2].to_owned(), line.chars().last().unwrap()))
        .collect();
    for (word, kind) in &theirs {
        // A word without a meaning of its own in the parser's grammar is refused, or a name as well.
        let known = ours.get(word).copied().unwrap_or('U');
        assert!(known == *kind || *kind == 'U', "{word} is {kind} to the server and {known} to the parser");
    }
    for (word, kind) in &ours {
        let name_there = theirs.get(word).is_none_or(|kind| *kind == 'U');
        let call = format!("{word}(");
        let quoted = format!("\"{word}\"(");
        let read = as_server_reads(&call, version).unwrap();
        match name_there && *kind != 'U' {
            true => assert_eq!(read, quoted, "to the server this is a call of a function of that name"),
            false => assert_eq!(read, call),
        }
    }
}

#[test]
fn every_function_and_relation_of_the_catalog_was_reviewed() {
    let server = Server::shared().unwrap();
    let reviewed = include_str!("../../sidecar/src/decide/builtins.txt");
    let reviewed: Vec<&str> = reviewed
        .lines()
        .filter(|line| !line.starts_with(['#', '[']))
        .flat_map(str::split_whitespace)
        .map(|name| name.split('/').next().unwrap())
        .collect();
    // Those that take or give what SQL can't write are called by the server only.
    let functions = server
        .psql(
            "postgres",
            "SELECT DISTINCT CASE WHEN pronamespace = 'information_schema'::regnamespace THEN 'information_schema.' ELSE '' END || proname
             FROM pg_proc WHERE pronamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
               AND NOT 'internal'::regtype = ANY (proargtypes::oid[])
               AND prorettype NOT IN (SELECT oid FROM pg_type WHERE typname IN ('internal', 'trigger', 'event_trigger',
                 'fdw_handler', 'index_am_handler', 'table_am_handler', 'tsm_handler'))",
        )
        .unwrap();
    let unknown: Vec<&str> = functions.lines().filter(|name| !reviewed.contains(name)).collect();
    assert!(functions.lines().count() > 2000 && unknown.is_empty(), "{unknown:?}");

    let database = server.database().unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, "rules: []")).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let relations = server
        .psql(
            &database.name,
            "SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace IN
               ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) ORDER BY 1",
        )
        .unwrap();
    let mut unknown = Vec::new();
    for relation in relations.lines() {
        let answer = wire.simple(&format!("SELECT * FROM {relation} LIMIT 0")).unwrap();
        let Some(refused) = error(&answer) else { continue };
        let message = refused.fields().remove(&'M').unwrap();
        assert!(message.contains("is not open through the gate"), "{relation}: {message}");
        if message.contains("the proxy does not know it") {
            unknown.push(relation.rsplit('.').next().unwrap().to_owned());
        }
    }
    // Options of foreign servers and tables, which may hold secrets, and the views under those of the standard.
    let closed = [
        "_pg_foreign_data_wrappers",
        "_pg_foreign_servers",
        "_pg_foreign_table_columns",
        "_pg_foreign_tables",
        "_pg_user_mappings",
        "foreign_server_options",
        "user_mapping_options",
    ];
    unknown.sort();
    assert_eq!(unknown, closed);
}

/// Columns and functions named by words that were plain names before 16 or 17; the secret ones are masked.
const WORDS: &str = r#"
CREATE TABLE words (id int PRIMARY KEY, "system_user" text, "merge_action" text, plain text,
  derived text GENERATED ALWAYS AS ("system_user" || '!') STORED);
INSERT INTO words VALUES (1, 'raw-secret', 'raw-secret', 'x');
CREATE VIEW seen AS SELECT id, "system_user" AS label, upper("system_user") AS loud FROM words;
CREATE FUNCTION "json_array"(text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_arrayagg"(text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_object"() RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_scalar"(text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_serialize"(text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_exists"(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_query"(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json_value"(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "json"(text) RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
CREATE FUNCTION "merge_action"() RETURNS text LANGUAGE sql AS 'SELECT ''raw-secret''::text';
"#;

const WORDS_POLICY: &str = r#"
masks:
- {columns: [public.words.system_user, public.words.merge_action], mask: {fixed: {value: masked}}}
rules:
- {name: words, to: {groups: [apps]}, allow: [Select, Insert, Update, Delete, CopyOut], relations: ["public.*"]}
bulkExport: {action: Allow}
"#;

const LEAKS: &[&str] = &[
    "SELECT system_user FROM words",
    "SELECT SYSTEM_USER AS a, words.system_user FROM words",
    "SELECT w.* FROM words w WHERE system_user LIKE 'raw%'",
    "SELECT id FROM words ORDER BY system_user",
    "SELECT merge_action FROM words",
    "SELECT derived FROM words",
    "SELECT label, loud FROM seen",
    "UPDATE words SET plain = system_user RETURNING plain",
    "UPDATE words SET plain = 'y' RETURNING system_user",
    "DELETE FROM words RETURNING id, system_user, merge_action",
    "INSERT INTO words (id, plain) SELECT 2, system_user FROM words RETURNING plain",
    "COPY (SELECT system_user FROM words) TO STDOUT",
    "SELECT json_array(plain) FROM words",
    "SELECT json_arrayagg(plain) FROM words",
    "SELECT json_object()",
    "SELECT json_scalar(plain) FROM words",
    "SELECT json_serialize(plain) FROM words",
    "SELECT json_exists(plain, '$') FROM words",
    "SELECT json_query(plain, '$') FROM words",
    "SELECT json_value(plain, '$') FROM words",
    "SELECT json(plain) FROM words",
    "SELECT * FROM json_array('x')",
    "SELECT merge_action()",
    "UPDATE words SET plain = 'y' RETURNING merge_action()",
];

fn holds(messages: &[Message], text: &str) -> bool {
    messages.iter().any(|message| message.body.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn words_of_newer_grammars_leak_nothing_on_older_servers() {
    let server = Server::shared().unwrap();
    let database = server.database_with(WORDS).unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, WORDS_POLICY)).unwrap();
    let mut shown = 0;
    for sql in LEAKS {
        let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
        direct.simple("BEGIN").unwrap();
        shown += usize::from(holds(&direct.simple(sql).unwrap(), "raw-secret"));
        drop(direct);
        for extended in [false, true] {
            let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
            wire.simple("BEGIN").unwrap();
            let answer = if extended { wire.extended(sql, Format::Text) } else { wire.simple(sql) }.unwrap();
            assert!(!holds(&answer, "raw-secret"), "{sql}: {answer:?}");
        }
        // What SQL prepares is kept as text, and decided again under another path.
        let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
        for message in ["BEGIN", &format!("PREPARE p AS {sql}"), "EXECUTE p", "SET search_path = public", "EXECUTE p"] {
            let answer = wire.simple(message).unwrap();
            assert!(!holds(&answer, "raw-secret"), "{message} of {sql}: {answer:?}");
        }
    }
    // Where the words are the grammar's own less is shown without a gate.
    let version = server.version().unwrap();
    assert!(shown >= if version < 16 { 20 } else { 4 }, "{shown}");
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let is_column = rows(&wire.simple("SELECT system_user FROM words").unwrap()) == [["masked"]];
    assert_eq!(is_column, version < 16);
    wire.simple("PREPARE p AS SELECT system_user FROM words").unwrap();
    wire.simple("SET search_path = public").unwrap();
    assert_eq!(rows(&wire.simple("EXECUTE p").unwrap()) == [["masked"]], is_column);
}

#[test]
fn a_number_that_an_older_server_reads_otherwise_is_refused_there() {
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE t (a int); INSERT INTO t VALUES (1000)").unwrap();
    let policy = "rules: [{name: all, to: {groups: [apps]}, allow: [Select], relations: ['*.*']}]";
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, policy)).unwrap();
    let mut wire = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let is_known = server.version().unwrap() >= 16;
    for (sql, value) in [
        ("SELECT 1_000", "1000"),
        ("SELECT 0x1F", "31"),
        ("SELECT 0b11 AS a", "3"),
        ("SELECT 0o17, 0o17", "15"),
        ("SELECT pg_typeof(0x1FFFFFFFFF)", "bigint"),
        ("SELECT a FROM t WHERE a = 1_000", "1000"),
        ("SELECT 1_0.5", "10.5"),
    ] {
        // The second and third time by what was learnt of the first.
        for _ in 0..3 {
            let answer = wire.simple(sql).unwrap();
            match error(&answer) {
                None => assert!(is_known && rows(&answer)[0][0] == value, "{sql}: {answer:?}"),
                Some(refused) => {
                    assert!(!is_known && refused.sqlstate().as_deref() == Some("42601"), "{sql}: {refused:?}");
                }
            }
        }
    }
}

#[test]
fn libpq_18_speaks_3_2_through_the_gate_and_cancels() {
    let server = Server::start(&ServerOptions { version: Some(18), ..ServerOptions::default() }).unwrap();
    let gate = Gate::start(&GateOptions::new(&server, "postgres", ADMIN, "rules: []")).unwrap();
    let library = server.bin().join("../lib");
    for protocol in ["3.0", "3.2"] {
        let mut psql = server
            .program("psql")
            .env("LD_LIBRARY_PATH", &library)
            .args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-c", "SELECT 6 * 7", "-c", "SELECT pg_sleep(30)"])
            .arg(format!(
                "host=127.0.0.1 port={} user=anyone dbname=postgres sslmode=disable \
                 min_protocol_version={protocol} max_protocol_version={protocol}",
                gate.port()
            ))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND state = 'active' AND pid <> pg_backend_pid()";
        while server.psql("postgres", sleeps).unwrap().trim() != "1" {
            assert!(begun.elapsed() < Duration::from_secs(20) && psql.try_wait().unwrap().is_none(), "{protocol}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let interrupt = std::process::Command::new("kill").args(["-INT", &psql.id().to_string()]).status().unwrap();
        assert!(interrupt.success());
        let output = psql.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out.trim(), "42", "{protocol}: {err}");
        assert!(err.contains("57014") && begun.elapsed() < Duration::from_secs(25), "{protocol}: {err}");
    }
}
