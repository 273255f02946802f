#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::Instant;

use postern_crds::{ParameterRecording, StatementRecording, Verb, VerbSet};
use serde_json::Value;

use super::*;
use crate::analyze::{Decided, MaskedUse, Notice, Statement};
use crate::decide::{Denial, Reason};

const FULL: Recording = Recording { statements: StatementRecording::Full, parameters: ParameterRecording::Full };

/// A folder of the test's own, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("postern-audit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn audit(path: &Path, recording: Recording) -> Arc<Audit> {
    Audit::open(&Target::File(path.to_owned()), recording, Metrics::new("shop/shop").unwrap()).unwrap()
}

fn with_patience(sink: Sink, patience: Duration) -> Arc<Audit> {
    let metrics = Metrics::new("shop/shop").unwrap();
    Arc::new(Audit { sink, recording: ArcSwap::from_pointee(FULL), hasher: Hasher::random(), patience, metrics })
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn subject() -> Subject {
    Subject {
        issuer: Some("https://ci.example".into()),
        subject: Some("repo:shop".into()),
        claims: BTreeMap::from([("ref".to_owned(), "refs/heads/main".to_owned())]),
        ..Subject::default()
    }
}

fn start(subject: &Subject) -> SessionStart<'_> {
    SessionStart {
        subject,
        identity: "shop/nightly",
        policy: "shop/shop",
        policy_version: 3,
        mode: "enforce",
        client_address: "127.0.0.1:5",
        tls: false,
        application_name: "psql",
        protocol: "3.0",
        database: "shop",
        postgres_role: "reporting_ro",
        settings: &[],
    }
}

fn decided() -> Decided {
    let statement = Statement {
        verbs: VerbSet::from_iter([Verb::Select]),
        main_verb: Some(Verb::Select),
        rule: Some("reporting-reads".into()),
        relations: vec!["public.customers".into(), "public.customers".into()],
        masked_columns: vec!["public.customers.card_number".into()],
        ..Statement::default()
    };
    Decided {
        denial: None,
        would_deny: None,
        rewritten: Some("SELECT masked".into()),
        statements: [statement].into(),
        policy_version: 3,
        fingerprint: "50fde20626009aba".into(),
        normalized: "SELECT * FROM customers WHERE id = $1".into(),
        asks_types: false,
        needs: None,
        said: Said::default(),
    }
}

fn event<'a>(decided: &'a Decided, text: &'a str, parameters: Parameters<'a>) -> StatementEvent<'a> {
    let kind = StatementKind::Query;
    StatementEvent { kind, decided, text, parameters }
}

async fn session(audit: &Arc<Audit>) -> Result<SessionAudit, AuditFull> {
    audit.session(&start(&Subject::default())).await
}

/// Checks a value by the keywords of JSON Schema that our schema uses; any other keyword is an error, lest it be
/// believed to hold.
fn mismatch(schema: &Value, value: &Value, root: &Value) -> Option<String> {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    let rules = schema.as_object().unwrap();
    for (keyword, rule) in rules {
        let wrong = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => None,
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                mismatch(target, value, root)
            }
            "const" => (rule != value).then(|| format!("is not {rule}")),
            "enum" => (!rule.as_array().unwrap().contains(value)).then(|| format!("is none of {rule}")),
            "oneOf" => {
                let wrong: Vec<_> =
                    rule.as_array().unwrap().iter().filter_map(|each| mismatch(each, value, root)).collect();
                let matches = rule.as_array().unwrap().len() - wrong.len();
                (matches != 1).then(|| format!("matches {matches} of oneOf: {wrong:#?}"))
            }
            "type" => {
                let any = rule
                    .as_array()
                    .map_or_else(|| is(rule.as_str().unwrap()), |all| all.iter().any(|k| is(k.as_str().unwrap())));
                (!any).then(|| format!("is no {rule}"))
            }
            "minimum" => (value.as_f64() < rule.as_f64()).then(|| format!("is below {rule}")),
            "pattern" => {
                let pattern = rule.as_str().unwrap();
                value.as_str().is_some_and(|text| !matches(pattern, text)).then(|| format!("does not match {rule}"))
            }
            "items" => value.as_array().and_then(|all| all.iter().find_map(|each| mismatch(rule, each, root))),
            "required" => rule.as_array().unwrap().iter().find_map(|name| {
                let name = name.as_str().unwrap();
                value.get(name).is_none().then(|| format!("lacks {name}"))
            }),
            "properties" => rule.as_object().unwrap().iter().find_map(|(name, rule)| {
                value.get(name).and_then(|field| mismatch(rule, field, root)).map(|wrong| format!("{name} {wrong}"))
            }),
            "additionalProperties" => value.as_object().and_then(|fields| {
                let known = rules.get("properties").and_then(Value::as_object);
                fields.iter().filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name))).find_map(
                    |(name, field)| match rule {
                        Value::Bool(false) => Some(format!("has an unknown {name}")),
                        rule => mismatch(rule, field, root),
                    },
                )
            }),
            other => panic!("keyword {other}"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

/// The patterns of our schema: classes in brackets, escaped dots, `{n}` and `+`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let mut pattern = pattern.strip_prefix('^').unwrap().strip_suffix('$').unwrap();
    while !pattern.is_empty() {
        let (class, after): (&str, &str) = if pattern.starts_with('[') {
            pattern.split_at(pattern.find(']').unwrap() + 1)
        } else if pattern.starts_with('\\') {
            pattern.split_at(2)
        } else {
            pattern.split_at(1)
        };
        let fits = |c: char| match class {
            "[0-9]" => c.is_ascii_digit(),
            "[0-9a-f]" => c.is_ascii_digit() || ('a'..='f').contains(&c),
            "[0-9A-Z]" => c.is_ascii_digit() || c.is_ascii_uppercase(),
            literal => literal.ends_with(c) && !literal.starts_with('['),
        };
        let (times, after) = if let Some(after) = after.strip_prefix('+') {
            (rest.chars().take_while(|c| fits(*c)).count().max(1), after)
        } else if let Some(after) = after.strip_prefix('{') {
            let (times, after) = after.split_once('}').unwrap();
            (times.parse().unwrap(), after)
        } else {
            (1, after)
        };
        for _ in 0..times {
            match rest.chars().next() {
                Some(c) if fits(c) => rest = &rest[c.len_utf8()..],
                _ => return false,
            }
        }
        pattern = after;
    }
    rest.is_empty()
}

fn assert_valid(events: &[Value]) {
    let schema: Value = serde_json::from_str(include_str!("../../audit.schema.json")).unwrap();
    for event in events {
        if let Some(wrong) = mismatch(&schema, event, &schema) {
            panic!("{event:#}\n{wrong}");
        }
    }
}

#[tokio::test]
async fn every_event_is_as_the_schema_says_in_every_form_of_recording() {
    for statements in [StatementRecording::Full, StatementRecording::Normalized, StatementRecording::Fingerprint] {
        for parameters in [ParameterRecording::Full, ParameterRecording::Hash, ParameterRecording::None] {
            let folder = Folder::new(&format!("schema-{statements:?}-{parameters:?}"));
            let audit = audit(&folder.file(), Recording { statements, parameters });
            let subject = subject();
            let settings = ["app.tenant".to_owned()];
            let session = audit.session(&SessionStart { settings: &settings, ..start(&subject) }).await.unwrap();
            let values = [
                Parameter { binary: false, value: Some(b"41114111".as_slice()) },
                Parameter { binary: true, value: Some(b"\x00\x01") },
                Parameter { binary: false, value: None },
                Parameter { binary: false, value: Some(b"\xff") },
            ];
            let mut decided = decided();
            let id = session.statement(&event(&decided, "SELECT 41114111", Parameters::Values(&values))).await.unwrap();
            let duration = Duration::from_micros(1234);
            let end = StatementEnd { statement: id, rows: 1, bytes: 9, duration, sqlstate: None, limit: None };
            session.statement_end(&end);
            let about = [MaskedUse::Predicate, MaskedUse::Save];
            let notices = about.map(|about| Notice { about, column: "public.t.c".into(), text: "".into() });
            decided.statements = [Statement { notices: notices.into(), ..decided.statements[0].clone() }].into();
            for reason in Reason::ALL {
                decided = decided.clone();
                decided.denial = Some(Denial::new(reason, "no").object("public.t"));
                let event = StatementEvent {
                    kind: StatementKind::Execute,
                    ..event(&decided, "SELECT 41114111", Parameters::Streamed { bytes: 1 << 30 })
                };
                session.statement(&event).await.unwrap();
            }
            decided = decided.clone();
            decided.would_deny = decided.denial.take();
            let needs = r#"{"relations":{"a.b":["Select"]},"verbs":["Temp"],"row_locks":["a.b"],"functions":["a.f"],
                "procedures":["a.p"],"settings":["app.x"],"channels":["c"],"bulk_export":true,"columns":{"a.b.c":"text"},"compared":["a.b.c"],
                "beyond":{"reason":"role","error":"no"}}"#;
            decided.needs = Some(Arc::new(serde_json::from_str(needs).unwrap()));
            session.statement(&event(&decided, "SELECT 41114111", Parameters::Absent)).await.unwrap();
            session.statement_end(&StatementEnd { sqlstate: Some("57014"), limit: Some("rows"), ..end });
            session.session_end(&SessionEnd { statements: 3, rows: 1, bytes: 9, duration, reason: "client_closed" });
            audit.settle();

            let events = lines(&folder.file());
            assert_valid(&events);
            for (at, event) in events.iter().enumerate() {
                assert_eq!(event["sequence"], at + 1);
                assert_eq!(event["session"], session.id());
            }
            let text = std::fs::read_to_string(folder.file()).unwrap();
            let full = (statements, parameters) == (StatementRecording::Full, ParameterRecording::Full);
            if statements != StatementRecording::Full && parameters != ParameterRecording::Full {
                assert!(!text.contains("41114111"), "{text}");
            } else if full {
                assert!(
                    text.contains("SELECT 41114111")
                        && text.contains(r#"{"text":"41114111"},{"hex":"0001"},null,{"hex":"ff"}"#)
                );
            }
            assert_eq!(events[1]["relations"], serde_json::json!(["public.customers"]));
            assert_eq!(events[1]["decision"], "allow");
            assert_eq!(events[2]["ms"], 1.234);
        }
    }
}

#[tokio::test]
async fn an_over_long_text_is_cut_and_says_how_long_it_was() {
    let folder = Folder::new("long");
    let audit = audit(&folder.file(), FULL);
    let session = session(&audit).await.unwrap();
    let decided = decided();
    let text = "é".repeat(1 << 20);
    let value = text.clone().into_bytes();
    let values = [Parameter { binary: false, value: Some(&value) }; 100];
    session.statement(&event(&decided, &text, Parameters::Values(&values))).await.unwrap();
    let events = lines(&folder.file());
    assert_valid(&events);
    assert_eq!(events[1]["text_bytes"], 2 << 20);
    assert_eq!(events[1]["parameters"][99]["bytes"], 2 << 20);
    assert!(std::fs::metadata(folder.file()).unwrap().len() < 1 << 20);
}

#[tokio::test]
async fn a_rotated_file_is_followed_whether_it_was_renamed_removed_or_truncated() {
    let folder = Folder::new("rotate");
    let path = folder.file();
    let audit = audit(&path, FULL);
    session(&audit).await.unwrap();
    std::fs::rename(&path, folder.0.join("old")).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    session(&audit).await.unwrap();
    assert_eq!((lines(&folder.0.join("old")).len(), lines(&path).len()), (1, 1));
    // A reload by hand does not wait for the next look.
    std::fs::remove_file(&path).unwrap();
    audit.reopen();
    session(&audit).await.unwrap();
    assert_eq!(lines(&path).len(), 1);
    // copytruncate
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    session(&audit).await.unwrap();
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test]
async fn a_line_torn_by_a_crash_does_not_swallow_the_next() {
    let folder = Folder::new("torn");
    std::fs::write(folder.file(), "{\"schema\":\"post").unwrap();
    let audit = audit(&folder.file(), FULL);
    session(&audit).await.unwrap();
    let text = std::fs::read_to_string(folder.file()).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(serde_json::from_str::<Value>(text.lines().last().unwrap()).is_ok());
}

#[tokio::test]
async fn a_session_is_refused_after_waiting_while_the_disk_is_full() {
    let audit = with_patience(Sink::File(FileSink::open(Path::new("/dev/full")).unwrap()), Duration::from_millis(200));
    let begun = Instant::now();
    assert_eq!(session(&audit).await.unwrap_err(), AuditFull);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let text = audit.metrics.render().unwrap();
    assert!(text.contains("postern_audit_refusals_total 1\n") && text.contains("postern_audit_events_total 0\n"));
}

#[tokio::test]
async fn ends_go_before_the_next_statement_or_when_the_thread_would_sleep_or_when_they_are_many() {
    let folder = Folder::new("ends");
    let audit = audit(&folder.file(), FULL);
    let session = session(&audit).await.unwrap();
    let decided = decided();
    let statement = event(&decided, "SELECT 1", Parameters::Absent);
    let end = StatementEnd { statement: 1, rows: 1, bytes: 9, duration: Duration::ZERO, sqlstate: None, limit: None };
    let written = || lines(&folder.file()).iter().map(|event| event["sequence"].as_u64().unwrap()).collect::<Vec<_>>();
    session.statement(&statement).await.unwrap();
    session.statement_end(&end);
    assert_eq!(written(), [1, 2]);
    session.statement(&statement).await.unwrap();
    assert_eq!(written(), [1, 2, 3, 4]);
    session.statement_end(&end);
    audit.settle();
    assert_eq!(written(), [1, 2, 3, 4, 5]);
    assert_eq!(audit.waiting(), 0);
    for _ in 0..10_000 {
        session.statement_end(&end);
    }
    assert!(written().len() > 9_000);
    assert!(audit.metrics.render().unwrap().contains("postern_audit_lost_total 0\n"));
}

#[tokio::test]
async fn the_audit_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("mode");
    let _audit = audit(&folder.file(), FULL);
    assert_eq!(std::fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A pipe that is read when the test wants it.
fn pipe() -> (Sink, BufReader<std::io::PipeReader>) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Sink::Stream(StreamSink::spawn(Box::new(writer)).unwrap()), BufReader::new(reader))
}

#[tokio::test]
async fn a_line_for_a_stream_is_in_it_when_its_statement_may_go() {
    let (sink, mut reader) = pipe();
    let audit = with_patience(sink, PATIENCE);
    for _ in 0..100 {
        let session = session(&audit).await.unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["session"], session.id());
    }
}

#[test]
fn a_refused_session_is_an_event_of_its_own() {
    let folder = Folder::new("refused");
    let audit = audit(&folder.file(), FULL);
    let subject = subject();
    for sequence in [1, 1] {
        audit.session_refused(&SessionRefused {
            subject: &subject,
            identity: "shop/nightly",
            policy: "shop/shop",
            client_address: "127.0.0.1:5",
            sqlstate: "3D000",
            error: "there is no such database here",
        });
        audit.settle();
        let events = lines(&folder.file());
        assert_valid(&events);
        assert_eq!(events.last().unwrap()["sequence"], sequence);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_refuses_statements_and_holds_bounded_memory() {
    let (sink, mut reader) = pipe();
    let audit = with_patience(sink, Duration::from_millis(200));
    let first = session(&audit).await.unwrap();
    let end = SessionEnd { statements: 0, rows: 0, bytes: 0, duration: Duration::ZERO, reason: "x" };
    for _ in 0..20_000 {
        first.session_end(&end);
    }
    assert!(audit.waiting() <= BACKLOG);
    assert_eq!(session(&audit).await.unwrap_err(), AuditFull);
    assert!(!audit.metrics.render().unwrap().contains("postern_audit_lost_total 0\n"));
    // Once it is read again it goes on.
    let drained = std::thread::spawn(move || {
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        all
    });
    let mut patience = 50;
    while session(&audit).await.is_err() && patience > 0 {
        patience -= 1;
    }
    audit.flush().await;
    drop((audit, first));
    let all = drained.join().unwrap();
    for line in all.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
    assert!(patience > 0);
}

#[tokio::test]
async fn a_stream_that_broke_refuses_everything_at_once() {
    let (sink, reader) = pipe();
    drop(reader);
    let audit = with_patience(sink, PATIENCE);
    assert_eq!(session(&audit).await.unwrap_err(), AuditFull);
    let begun = Instant::now();
    assert_eq!(session(&audit).await.unwrap_err(), AuditFull);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn lines_of_many_sessions_never_mix() {
    let folder = Folder::new("many");
    let audit = audit(&folder.file(), FULL);
    let mut threads = Vec::new();
    for _ in 0..4 {
        let audit = Arc::clone(&audit);
        threads.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let session = session(&audit).await.unwrap();
                let decided = decided();
                for at in 0..500 {
                    let text = "x".repeat(at * 20);
                    session.statement(&event(&decided, &text, Parameters::Absent)).await.unwrap();
                }
            });
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let events = lines(&folder.file());
    assert_eq!(events.len(), 4 * 501);
}
