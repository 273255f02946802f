//! A session against a real server, with decisions that the test scripts: order of messages, pipelines, refusals, limits.
//! What a message sequence gives through the session is compared, message by message, with what it gives directly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_crds::{Limits, TlsMode, Verb};
use postern_e2e::gate::{Gate, GateOptions, policy};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{self, Format, Message, Wire, frame, query};
use postern_sidecar::analyze::{Analysis, Decided, Effect, MaskedUse, Notice, SessionView, Statement};
use postern_sidecar::audit::Said;
use postern_sidecar::audit::{Audit, SessionStart, Subject, Target};
use postern_sidecar::catalog::Catalog;
use postern_sidecar::decide::bound::{BoundPolicy, ColumnView, RelationView};
use postern_sidecar::decide::{Denial, Reason};
use postern_sidecar::listen::{Seat, Socket};
use postern_sidecar::metrics::Metrics;
use postern_sidecar::session::handshake::{self, Accept, Door, Terms};
use postern_sidecar::session::{self, Decide, Drain, InForce, Shared, WindowBudget};
use postern_sidecar::upstream::{Credential, Tls, UpstreamConfig};
use tokio::sync::watch;

/// Decides by marks in the text: `/*deny*/`, `/*rows=3*/`, `/*scrub*/`, `/*wall*/`, `/*as …*/`, `/*deny-from-2*/`.
struct Script {
    bound: std::sync::Mutex<Arc<BoundPolicy>>,
    version: AtomicU64,
}

impl Script {
    fn decided(&self, sql: &str) -> Decided {
        let version = self.version.load(Ordering::Relaxed);
        let denied = sql.contains("/*deny*/") || version >= 2 && sql.contains("/*deny-from-2*/");
        let denial = denied.then(|| Denial::new(Reason::NoRule, "permission denied for the test"));
        let number = |mark: &str| {
            let (_, rest) = sql.split_once(&format!("/*{mark}="))?;
            rest.split_once('*')?.0.parse().ok()
        };
        let mut rewritten = sql.split_once("/*as ").and_then(|(_, rest)| rest.split_once("*/")).map(|(text, _)| text);
        if version >= 2 {
            rewritten = sql
                .split_once("/*as2 ")
                .and_then(|(_, rest)| rest.split_once("*/"))
                .map(|(text, _)| text)
                .or(rewritten);
        }
        let statements = sql
            .split(';')
            .filter(|one| !one.trim().is_empty())
            .map(|one| {
                let text = one.trim().to_lowercase();
                let words: Vec<&str> = text.split_whitespace().collect();
                let name = |at: usize| words.get(at).map(|word| word.trim_matches('(').to_string()).unwrap_or_default();
                let returns = matches!(words[0], "select" | "values" | "show" | "fetch" | "execute" | "table" | "with")
                    || text.contains("returning");
                let writes = matches!(words[0], "insert" | "update" | "delete");
                let effect = match words[0] {
                    "begin" => Effect::Begin,
                    "commit" => Effect::Commit { chain: false },
                    "rollback" if words.get(1) == Some(&"to") => Effect::RollbackTo(name(2)),
                    "rollback" => Effect::Rollback { chain: false },
                    "savepoint" => Effect::Savepoint(name(1)),
                    "fetch" => Effect::Fetch { name: name(words.len() - 1) },
                    "execute" => Effect::Execute { name: name(1) },
                    "deallocate" => Effect::Deallocate(Some(name(1))),
                    "discard" => Effect::DiscardAll,
                    "declare" => Effect::Declare {
                        name: name(1),
                        hold: text.contains("with hold"),
                        decided: Box::new(Statement {
                            returns_rows: true,
                            limits: Limits { rows: number("rows"), ..Limits::default() },
                            ..Statement::default()
                        }),
                    },
                    "prepare" => Effect::Prepare {
                        name: name(1),
                        inner: one.split_once(" as ").unwrap().1.into(),
                        types: Vec::new(),
                        decided: Box::default(),
                    },
                    "copy" if text.contains("stdin") => Effect::CopyIn,
                    "copy" => Effect::CopyOut,
                    "set" if text.contains("application_name") => Effect::ApplicationName {
                        value: Some(one.split('\'').nth(1).unwrap_or_default().to_string()),
                        local: false,
                    },
                    "show" if text.contains("application_name") => Effect::ShowApplicationName,
                    _ => Effect::None,
                };
                Statement {
                    effect,
                    main_verb: returns.then_some(Verb::Select),
                    limits: Limits { rows: number("rows"), bytes: number("bytes"), ..Limits::default() },
                    at_most_one_row: sql.contains("/*one*/"),
                    returns_rows: returns,
                    writes,
                    scrub: sql.contains("/*scrub*/"),
                    second_wall: sql.contains("/*wall*/"),
                    notices: if sql.contains("/*notice*/") {
                        vec![Notice { about: MaskedUse::Predicate, column: "k".into(), text: "mind the mask".into() }]
                    } else {
                        vec![]
                    },
                    ..Statement::default()
                }
            })
            .collect();
        Decided {
            denial,
            would_deny: None,
            rewritten: rewritten.map(Arc::from),
            statements,
            policy_version: version,
            fingerprint: "f".into(),
            normalized: "n".into(),
            asks_types: false,
            needs: None,
            said: Said::default(),
        }
    }
}

impl Decide for Script {
    async fn decide(&self, _: &SessionView, sql: &str, _: &[u32]) -> Analysis {
        Analysis::Decided(Arc::new(self.decided(sql)))
    }

    fn bound(&self) -> InForce {
        InForce::from_inner(self.bound.lock().unwrap().clone())
    }

    async fn look_again(&self) {}
}

struct Fixture {
    server: &'static Server,
    database: String,
    port: u16,
    gate: Arc<Script>,
    drain: watch::Sender<Drain>,
}

impl Fixture {
    /// A server with a table `t(a int primary key, b text)` of 100 rows, and sessions in front of it.
    fn new(more: &str) -> Self {
        let server = Server::shared().unwrap();
        let database = server
            .database_with(&format!(
                "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT i, 'b' || i FROM generate_series(1, 100) i;
                 CREATE TABLE e (a int PRIMARY KEY, b text); {more}"
            ))
            .unwrap()
            .name;
        let text = postern_e2e::gate::policy(server, &database, "rules: []")
            + "---\n"
            + &postern_e2e::gate::identity("test", "test", ADMIN);
        let objects = postern_crds::files::read(&text).unwrap();
        let mut policy = None;
        let mut identity = None;
        for object in objects {
            match object {
                postern_crds::files::Object::Policy(file) => policy = Some(file.compile().unwrap()),
                postern_crds::files::Object::Identity(file) => identity = Some(file.compile().unwrap()),
            }
        }
        let bound = BoundPolicy {
            costly_filters: false,
            row_filters: false,
            version: 1,
            policy: Arc::new(policy.unwrap()),
            identity: Arc::new(identity.unwrap()),
            catalog: Arc::new(Catalog::default()),
            views: Default::default(),
            scrubbed: Default::default(),
            telling_partitions: Default::default(),
            lastval_tells: false,
            problems: Vec::new(),
            restricted: Default::default(),
        };
        let gate = Arc::new(Script { bound: std::sync::Mutex::new(Arc::new(bound)), version: AtomicU64::new(1) });
        let (drain, drained) = watch::channel(Drain::Serving);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let shared = Shared {
            gate: Arc::clone(&gate),
            metrics: Metrics::new("test/test").unwrap(),
            budget: Arc::new(WindowBudget::default()),
        };
        let upstream = Arc::new(UpstreamConfig {
            host: "127.0.0.1".into(),
            port: server.port(),
            database: database.clone(),
            credential: Credential::new(ADMIN, ADMIN_PASSWORD),
            tls: Tls::new(TlsMode::Disable, None).unwrap(),
            timeout: Duration::from_secs(10),
        });
        let name = database.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let folder = postern_e2e::temporary_folder("session").unwrap();
                let recording = shared.gate.bound().policy.recording;
                let audit =
                    Audit::open(&Target::File(folder.join("audit")), recording, Arc::clone(&shared.metrics)).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let door = Door::new(None, 100);
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    socket.set_nodelay(true).unwrap();
                    let (door, shared, audit, drained) = (door.clone(), shared.clone(), audit.clone(), drained.clone());
                    let (upstream, name) = (Arc::clone(&upstream), name.clone());
                    tokio::spawn(async move {
                        let terms = Terms {
                            database: name.clone(),
                            role: ADMIN.into(),
                            application_prefix: "postern/test/test/".into(),
                            statement_timeout: None,
                            settings: Vec::new(),
                            judge: Box::new(|_, _| Ok(Accept::Forward)),
                            upstream,
                        };
                        let ready = match handshake::start(Socket::Tcp(socket), &door, Seat::kept(), || Ok(terms)).await
                        {
                            Ok(Some(ready)) => ready,
                            Ok(None) => return,
                            Err(error) => panic!("{error}"),
                        };
                        let subject = Subject::default();
                        let start = SessionStart {
                            subject: &subject,
                            identity: "test/test",
                            policy: "test/test",
                            policy_version: 1,
                            mode: "enforce",
                            client_address: "test",
                            tls: false,
                            application_name: "",
                            protocol: "3.0",
                            database: &name,
                            postgres_role: ADMIN,
                            settings: &[],
                        };
                        let audit = audit.session(&start).await.unwrap();
                        session::serve(ready, shared.gate.bound().session_keys(), audit, drained, shared.clone()).await;
                    });
                }
            });
        });
        Self { server, database, port, gate, drain }
    }

    fn gate(&self) -> Wire {
        Wire::connect(self.port, "anyone", "", &self.database).unwrap()
    }

    fn direct(&self) -> Wire {
        Wire::connect(self.server.port(), ADMIN, ADMIN_PASSWORD, &self.database).unwrap()
    }

    fn policy(&self, version: u64, change: impl FnOnce(&mut BoundPolicy)) {
        let mut bound = self.gate.bound.lock().unwrap();
        let mut next = BoundPolicy {
            costly_filters: false,
            row_filters: false,
            version,
            policy: bound.policy.clone(),
            identity: bound.identity.clone(),
            catalog: bound.catalog.clone(),
            views: bound.views.clone(),
            scrubbed: bound.scrubbed.clone(),
            telling_partitions: bound.telling_partitions.clone(),
            lastval_tells: bound.lastval_tells,
            problems: Vec::new(),
            restricted: Default::default(),
        };
        change(&mut next);
        *bound = Arc::new(next);
        self.gate.version.store(version, Ordering::Relaxed);
    }

    /// Sends the bytes, at once and then one by one, directly and through the gate; all must answer alike.
    fn same(&self, bytes: &[u8], readies: usize) -> Vec<Message> {
        let expected = answers(self.direct(), bytes, readies, usize::MAX);
        for piece in [usize::MAX, 1, 7] {
            let got = answers(self.gate(), bytes, readies, piece);
            assert_eq!(show(&got), show(&expected), "in pieces of {piece}");
        }
        expected
    }
}

fn answers(mut wire: Wire, bytes: &[u8], readies: usize, piece: usize) -> Vec<Message> {
    for piece in bytes.chunks(piece.min(bytes.len())) {
        wire.send(piece).unwrap();
    }
    let mut all = Vec::new();
    for _ in 0..readies {
        all.extend(wire.until_ready().unwrap());
    }
    all
}

/// Messages as text, without what differs between servers' source lines.
fn show(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| match message.tag {
            b'E' | b'N' => {
                let mut fields = message.fields();
                fields.retain(|code, _| !"FLR".contains(*code));
                format!("{} {fields:?}", char::from(message.tag))
            }
            _ => format!("{message:?}"),
        })
        .collect()
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

fn all(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

fn run(sql: &str) -> Vec<u8> {
    all(&[wire::parse("", sql), wire::bind("", "", &[], Format::Text), wire::describe(b'P', ""), wire::execute("", 0)])
}

fn code(messages: &[Message]) -> String {
    messages.iter().find_map(|message| if message.tag == b'E' { message.sqlstate() } else { None }).unwrap_or_default()
}

#[test]
fn plain_traffic_is_the_servers_own() {
    let f = Fixture::new("");
    f.same(&query("SELECT a, b FROM t ORDER BY a"), 1);
    f.same(&query(""), 1);
    f.same(&query("SELECT 1; SELECT 2; SELECT nope; SELECT 3"), 1);
    f.same(&all(&[query("SELECT 1"), query("SELECT 1/0"), query("SELECT 2")]), 3);
    f.same(&all(&[run("SELECT 1"), wire::sync()]), 1);
    f.same(&all(&[run("SELECT 1/0"), run("SELECT 2"), wire::sync(), run("SELECT 3"), wire::sync()]), 2);
    f.same(&all(&[run(""), wire::sync()]), 1);
    // Named ones, described, limited, suspended, closed.
    f.same(
        &all(&[
            wire::parse("s", "SELECT a FROM t ORDER BY a"),
            wire::describe(b'S', "s"),
            wire::bind("p", "s", &[], Format::Binary),
            wire::execute("p", 3),
            wire::execute("p", 3),
            wire::flush(),
            wire::close(b'P', "p"),
            wire::execute("p", 3),
            wire::sync(),
            wire::bind("", "s", &[], Format::Text),
            wire::execute("", 0),
            wire::close(b'S', "s"),
            wire::bind("", "s", &[], Format::Text),
            wire::sync(),
        ]),
        2,
    );
    f.same(&all(&[query("BEGIN"), query("SELECT 1/0"), query("SELECT 1"), query("COMMIT")]), 4);
    f.same(
        &all(&[query(
            "BEGIN; DECLARE c CURSOR FOR SELECT a FROM t ORDER BY a; FETCH 2 FROM c; FETCH 3 FROM c; COMMIT",
        )]),
        1,
    );
    f.same(&all(&[query("PREPARE p as SELECT 7"), query("EXECUTE p"), query("DEALLOCATE p"), query("DISCARD ALL")]), 4);
    // A Query in the midst of a batch, after an error of it: skipped up to Sync.
    f.same(&all(&[run("SELECT 1/0"), query("SELECT 5"), wire::sync(), query("SELECT 6")]), 2);
    f.same(&all(&[run("SELECT 1"), query("SELECT 5"), wire::sync(), query("SELECT 6")]), 3);
}

#[test]
fn copies_go_both_ways() {
    let f = Fixture::new("");
    f.same(&query("COPY t TO STDOUT"), 1);
    f.same(&all(&[run("COPY t TO STDOUT"), wire::sync()]), 1);
    // The client needn't wait until it is asked.
    let data = |text: &str| frame(b'd', text.as_bytes());
    let done = frame(b'c', b"");
    let mut wire = f.gate();
    wire.send(&all(&[
        query("COPY e FROM STDIN"),
        data("1\tx\n"),
        data("2\ty\n"),
        done.clone(),
        query("SELECT count(*) FROM e"),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "GCZ");
    assert_eq!(wire::rows(&wire.until_ready().unwrap()), [["2"]]);
    // An error in the midst: what the client still sends is ignored.
    f.same(
        &all(&[
            query("COPY e FROM STDIN"),
            data("x\ty\n"),
            data("3\ty\n"),
            done.clone(),
            query("SELECT count(*) FROM e"),
        ]),
        2,
    );
    f.same(&all(&[query("COPY e FROM STDIN"), frame(b'f', b"no more\0"), query("SELECT 1")]), 2);
    // Extended: the Sync that libpq sends at once is ignored, the one after the data counts.
    let mut wire = f.gate();
    wire.send(&all(&[run("COPY e FROM STDIN"), wire::sync()])).unwrap();
    assert_eq!(tags(&wire.until(b'G').unwrap()), "12nG");
    wire.send(&all(&[data("5\tz\n"), done.clone(), wire::sync()])).unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "CZ");
    wire.send(&all(&[run("COPY e FROM STDIN"), wire::sync()])).unwrap();
    wire.until(b'G').unwrap();
    wire.send(&all(&[data("x\n"), data("7\tz\n"), done, wire::sync()])).unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "EZ");
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["3"]]);
    // Extended and all at once: two copies in one batch, one whose Sync comes too early, one that the client gives up.
    let one = |text: &str| all(&[run("COPY e FROM STDIN"), data(text), frame(b'c', b"")]);
    f.same(&all(&[one("10\tz\n"), one("11\tz\n"), wire::sync(), query("DELETE FROM e WHERE a >= 10")]), 2);
    f.same(
        &all(&[
            run("COPY e FROM STDIN"),
            wire::sync(),
            data("12\tz\n"),
            frame(b'c', b""),
            wire::sync(),
            query("DELETE FROM e WHERE a >= 10"),
        ]),
        2,
    );
    f.same(&all(&[run("COPY e FROM STDIN"), frame(b'f', b"no more\0"), wire::sync(), query("SELECT 1")]), 2);
    // A refused COPY: its data has no effect.
    let mut wire = f.gate();
    wire.send(&all(&[query("COPY e FROM STDIN /*deny*/"), data("9\tz\n"), frame(b'c', b""), query("SELECT 1")]))
        .unwrap();
    assert_eq!(code(&wire.until_ready().unwrap()), "42501");
    assert_eq!(tags(&wire.until_ready().unwrap()), "TDCZ");
}

#[test]
fn a_refusal_is_an_error_of_the_servers_in_every_place() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    let got = wire.simple("SELECT 1 /*deny*/").unwrap();
    assert_eq!(tags(&got), "EZ");
    assert_eq!(got[0].fields()[&'M'], "permission denied for the test");
    assert_eq!(got[0].fields()[&'C'], "42501");
    assert!(got[0].fields()[&'D'].contains("no_rule"), "{got:?}");
    // In a block it aborts the transaction; what follows gets the server's own error.
    wire.simple("BEGIN").unwrap();
    let got = wire.simple("SELECT 1 /*deny*/").unwrap();
    assert_eq!(got[1].body, b"E");
    assert_eq!(code(&wire.simple("SELECT 1").unwrap()), "25P02");
    assert_eq!(code(&wire.simple("SELECT 1 /*deny*/").unwrap()), "25P02");
    assert_eq!(tags(&wire.simple("COMMIT").unwrap()), "CZ");
    // In a pipeline: what came before is undone, what comes after is skipped, the next batch is well.
    wire.send(&all(&[
        run("INSERT INTO e VALUES (1, 'x')"),
        run("INSERT INTO e VALUES (2, 'x') /*deny*/"),
        run("INSERT INTO e VALUES (3, 'x')"),
        wire::sync(),
        run("SELECT count(*) FROM e"),
        wire::sync(),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "12nCEZ");
    assert_eq!(wire::rows(&wire.until_ready().unwrap()), [["0"]]);
    // Refused Parse keeps the unnamed statement that there is.
    wire.send(&all(&[
        wire::parse("", "SELECT 41"),
        wire::sync(),
        wire::parse("x", "SELECT 2 /*deny*/"),
        wire::sync(),
        wire::bind("", "", &[], Format::Text),
        wire::execute("", 0),
        wire::sync(),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "1Z");
    assert_eq!(tags(&wire.until_ready().unwrap()), "EZ");
    assert_eq!(wire::rows(&wire.until_ready().unwrap()), [["41"]]);
    // The whole text of a Query is decided before any of it runs.
    assert_eq!(code(&wire.simple("INSERT INTO e VALUES (9, 'x'); SELECT 1 /*deny*/").unwrap()), "42501");
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["0"]]);
    // FunctionCall.
    wire.send(&frame(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "EZ");
    // Text that is none.
    wire.send(&frame(b'Q', b"SELECT '\xff'\0")).unwrap();
    assert_eq!(code(&wire.until_ready().unwrap()), "22021");
    assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
}

#[test]
fn a_long_pipeline_streams() {
    let f = Fixture::new("");
    let mut batch = wire::parse("i", "INSERT INTO e VALUES ($1, $2)");
    for number in 0..500 {
        let number = number.to_string();
        batch.extend(wire::bind("", "i", &[Some(number.as_bytes()), Some(b"text")], Format::Text));
        batch.extend(wire::execute("", 0));
    }
    batch.extend(wire::sync());
    let mut wire = f.gate();
    wire.send(&batch).unwrap();
    let got = wire.until_ready().unwrap();
    assert_eq!(got.len(), 1 + 1000 + 1);
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["500"]]);
}

#[test]
fn large_values_stream_both_ways() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    let large = vec![b'x'; 20 << 20];
    let got = wire.extended_with("INSERT INTO e VALUES (1, $1)", &[Some(&large)], Format::Text).unwrap();
    assert_eq!(code(&got), "");
    let got = wire.simple("SELECT b FROM e").unwrap();
    assert_eq!(got[1].cells().unwrap()[0].as_ref().unwrap().len(), large.len());
}

#[test]
fn a_limit_stops_the_rows_and_the_statement_and_no_other() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    // More than fits: 3 rows, then the error.
    for sql in ["SELECT a FROM t /*rows=3*/", "SELECT generate_series(1, 100000000) /*rows=3*/"] {
        for _ in 0..5 {
            let got = wire.simple(sql).unwrap();
            assert_eq!(tags(&got), "TDDDEZ", "{got:?}");
            assert_eq!(code(&got), "54000");
            assert_eq!(got.last().unwrap().body, b"I");
            let got = wire.extended(sql, Format::Text).unwrap();
            assert_eq!(tags(&got), "12TDDDEZ");
            // Whatever was pipelined after it is not hit by the cancel.
            wire.send(&all(&[
                query(sql),
                query("SELECT pg_sleep(0.01)"),
                query("SELECT 2"),
                run(sql),
                wire::sync(),
                run("SELECT pg_sleep(0.01)"),
                wire::sync(),
            ]))
            .unwrap();
            assert_eq!(tags(&wire.until_ready().unwrap()), "TDDDEZ");
            assert_eq!(tags(&wire.until_ready().unwrap()), "TDCZ");
            assert_eq!(tags(&wire.until_ready().unwrap()), "TDCZ");
            assert_eq!(tags(&wire.until_ready().unwrap()), "12TDDDEZ");
            assert_eq!(tags(&wire.until_ready().unwrap()), "12TDCZ");
        }
    }
    // Within the limit nothing differs.
    assert_eq!(tags(&wire.simple("SELECT 1 /*rows=1*/").unwrap()), "TDCZ");
    // In a block the transaction is aborted, whether the cancel came in time or not.
    for sql in ["SELECT a FROM t /*rows=3*/", "SELECT generate_series(1, 100000000) /*rows=3*/"] {
        wire.simple("BEGIN").unwrap();
        let got = wire.simple(sql).unwrap();
        assert_eq!((tags(&got).as_str(), got.last().unwrap().body.as_slice()), ("TDDDEZ", b"E".as_slice()));
        wire.simple("ROLLBACK").unwrap();
        wire.simple("BEGIN").unwrap();
        let got = wire.extended(sql, Format::Text).unwrap();
        assert_eq!((tags(&got).as_str(), got.last().unwrap().body.as_slice()), ("12TDDDEZ", b"E".as_slice()));
        wire.simple("ROLLBACK").unwrap();
    }
    // COPY TO counts too.
    let got = wire.simple("COPY t TO STDOUT /*rows=3*/").unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("HdddEZ", "54000"));
    // In the same batch, without a Sync in between.
    wire.send(&all(&[
        run("INSERT INTO e VALUES (1, 'x')"),
        run("SELECT a FROM t /*rows=3*/"),
        run("INSERT INTO e VALUES (2, 'x')"),
        wire::sync(),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "12nC12TDDDEZ");
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["0"]]);
}

#[test]
fn a_limit_counts_over_the_life_of_a_portal_or_cursor() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    wire.simple("BEGIN").unwrap();
    wire.send(&all(&[
        wire::parse("", "SELECT a FROM t /*rows=5*/"),
        wire::bind("p", "", &[], Format::Text),
        wire::execute("p", 2),
        wire::execute("p", 2),
        wire::execute("p", 2),
        wire::sync(),
    ]))
    .unwrap();
    let got = wire.until_ready().unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("12DDsDDsDEZ", "54000"));
    wire.simple("ROLLBACK").unwrap();
    wire.simple("BEGIN").unwrap();
    wire.simple("DECLARE c CURSOR FOR SELECT a FROM t /*rows=5*/").unwrap();
    assert_eq!(tags(&wire.simple("FETCH 3 FROM c").unwrap()), "TDDDCZ");
    let got = wire.simple("FETCH 3 FROM c").unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("TDDEZ", "54000"));
    wire.simple("ROLLBACK").unwrap();
}

#[test]
fn a_write_over_its_limit_is_not_committed() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    let sql = "INSERT INTO e SELECT a, b FROM t RETURNING a /*rows=3*/";
    let got = wire.simple(sql).unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("TDDDEZ", "54000"));
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["0"]]);
    let got = wire.extended(sql, Format::Text).unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("12TDDDEZ", "54000"));
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["0"]]);
    // Within it: committed, and the client sees a Query's replies.
    let got = wire.simple("INSERT INTO e VALUES (1, 'x'), (2, 'x') RETURNING a /*rows=3*/").unwrap();
    assert_eq!(tags(&got), "TDDCZ");
    let got = wire.extended("INSERT INTO e VALUES (3, 'x') RETURNING a /*rows=3*/", Format::Text).unwrap();
    assert_eq!(tags(&got), "12TDCZ");
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM e").unwrap()), [["3"]]);
    // An error of its own.
    let got = wire.simple("INSERT INTO e VALUES (3, 'x') RETURNING a /*rows=3*/").unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("TEZ", "23505"));
    assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
}

#[test]
fn a_changed_policy_reaches_what_is_prepared_and_open() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    let batch = |frames: &[Vec<u8>]| all(&[frames.concat(), wire::sync()]);
    wire.send(&batch(&[
        wire::parse("same", "SELECT 1"),
        wire::parse("anew", "SELECT 1 AS x /*as2 SELECT 2 AS x*/"),
        wire::parse("other", "SELECT 1 AS x /*as2 SELECT 2 AS y*/"),
        wire::describe(b'S', "other"),
        wire::parse("gone", "SELECT 1 /*deny-from-2*/"),
    ]))
    .unwrap();
    wire.until_ready().unwrap();
    wire.simple("BEGIN").unwrap();
    wire.send(&batch(&[
        wire::parse("", "SELECT a FROM t /*deny-from-2*/"),
        wire::bind("open", "", &[], Format::Text),
        wire::execute("open", 2),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "12DDsZ");
    f.policy(2, |_| {});
    wire.send(&batch(&[wire::execute("open", 2)])).unwrap();
    assert_eq!(code(&wire.until_ready().unwrap()), "42501");
    wire.simple("ROLLBACK").unwrap();
    for (name, expected) in [("same", "1"), ("anew", "2")] {
        for _ in 0..2 {
            wire.send(&batch(&[wire::bind("", name, &[], Format::Text), wire::execute("", 0)])).unwrap();
            let got = wire.until_ready().unwrap();
            assert_eq!((tags(&got).as_str(), wire::rows(&got)), ("2DCZ", vec![vec![expected.to_string()]]));
        }
    }
    for (name, expected) in [("gone", "42501"), ("other", "0A000")] {
        wire.send(&batch(&[wire::bind("", name, &[], Format::Text), wire::execute("", 0)])).unwrap();
        let got = wire.until_ready().unwrap();
        assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("EZ", expected));
    }
}

#[test]
fn a_raw_column_that_should_be_masked_ends_the_session_before_its_rows() {
    let f = Fixture::new("");
    let oid: u32 = f.server.psql(&f.database, "SELECT 't'::regclass::oid").unwrap().trim().parse().unwrap();
    let mut view = RelationView::default();
    view.columns.insert(2, ColumnView::Hidden);
    f.policy(1, |bound| {
        bound.views.insert(oid, Arc::new(view));
    });
    let mut wire = f.gate();
    assert_eq!(tags(&wire.simple("SELECT a FROM t WHERE a < 3 /*wall*/").unwrap()), "TDDCZ");
    assert_eq!(tags(&wire.simple("SELECT upper(b) FROM t WHERE a = 1 /*wall*/").unwrap()), "TDCZ");
    // Described or not: the proxy describes what the client doesn't.
    wire.send(&all(&[
        wire::parse("", "SELECT a FROM t WHERE a = 1 /*wall*/"),
        wire::bind("", "", &[], Format::Text),
        wire::execute("", 0),
        wire::sync(),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "12DCZ");
    for bytes in [
        query("SELECT b FROM t /*wall*/"),
        all(&[
            wire::parse("", "SELECT b FROM t /*wall*/"),
            wire::bind("", "", &[], Format::Text),
            wire::execute("", 0),
            wire::sync(),
        ]),
    ] {
        let mut wire = f.gate();
        wire.send(&bytes).unwrap();
        let mut got = Vec::new();
        while let Ok(message) = wire.read() {
            got.push(message);
        }
        assert_eq!(code(&got), "42501");
        assert!(!tags(&got).contains('D'), "{got:?}");
    }
}

#[test]
fn errors_are_scrubbed_to_the_end_of_the_transaction() {
    let f = Fixture::new(
        "CREATE TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b text);
         CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'RAW'; RAISE EXCEPTION 'RAW' USING HINT = 'RAW'; END $$",
    );
    let mut wire = f.gate();
    let raw = |got: &[Message]| show(got).concat().contains("RAW");
    for sql in [
        "INSERT INTO t VALUES (1, 'RAW') /*scrub*/",
        "SELECT ('RAW' || b)::int FROM t /*scrub*/",
        "SELECT f() /*scrub*/",
    ] {
        let got = wire.simple(sql).unwrap();
        assert!(tags(&got).contains('E') && !raw(&got), "{got:?}");
    }
    assert_eq!(code(&wire.simple("INSERT INTO t VALUES (1, 'RAW') /*scrub*/").unwrap()), "23505");
    // Outside it nothing is.
    assert!(raw(&wire.simple("SELECT f()").unwrap()));
    wire.simple("BEGIN").unwrap();
    wire.simple("INSERT INTO d VALUES (4711, 'x'), (4711, 'x') /*scrub*/").unwrap();
    let got = wire.simple("COMMIT").unwrap();
    assert_eq!(code(&got), "23505");
    assert!(!show(&got).concat().contains("4711"), "{got:?}");
    assert!(raw(&wire.simple("SELECT f()").unwrap()));
}

#[test]
fn application_name_is_the_clients_own_and_notices_come_once() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    let got =
        wire.simple("SET application_name = 'mine' /*as SET application_name = 'postern/test/test/mine'*/").unwrap();
    let status: Vec<_> = got.iter().filter(|message| message.tag == b'S').collect();
    assert_eq!(status.len(), 1, "{got:?}");
    assert_eq!(status[0].body, b"application_name\0mine\0");
    assert_eq!(wire::rows(&wire.simple("SHOW application_name").unwrap()), [["mine"]]);
    assert_eq!(
        wire::rows(&wire.simple("SELECT current_setting('application_name')").unwrap()),
        [["postern/test/test/mine"]]
    );
    assert_eq!(tags(&wire.simple("SELECT 1 /*notice*/").unwrap()), "TDNCZ");
    assert_eq!(tags(&wire.simple("SELECT 1 /*notice*/").unwrap()), "TDCZ");
}

#[test]
fn a_drain_lets_running_statements_finish() {
    let f = Fixture::new("");
    let mut idle = f.gate();
    let mut busy = f.gate();
    let mut block = f.gate();
    block.simple("BEGIN").unwrap();
    busy.send(&query("SELECT pg_sleep(0.5)")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    f.drain.send(Drain::Draining).unwrap();
    assert_eq!(idle.read().unwrap().sqlstate().as_deref(), Some("57P01"));
    assert_eq!(tags(&busy.until_ready().unwrap()), "TDCZ");
    assert_eq!(busy.read().unwrap().sqlstate().as_deref(), Some("57P01"));
    assert_eq!(tags(&block.simple("SELECT 1").unwrap()), "TDCZ");
    f.drain.send(Drain::Now).unwrap();
    assert_eq!(block.read().unwrap().sqlstate().as_deref(), Some("57P01"));
}

#[test]
fn who_goes_away_leaves_nothing_running() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    wire.send(&query("SELECT pg_sleep(60) /*gone*/")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let running = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60) /*gone*/%' AND state = 'active'";
        f.server.psql(&f.database, sql).unwrap().trim().to_string()
    };
    assert_eq!(running(), "1");
    drop(wire);
    for _ in 0..50 {
        if running() == "0" {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it still runs");
}

#[test]
fn nonsense_ends_the_session_with_an_error() {
    let f = Fixture::new("");
    for (bytes, expected) in
        [(frame(b'!', b""), "08P01"), (frame(b'p', b"x\0"), "08P01"), (vec![b'Q', 0, 0, 0, 1], "08P01")]
    {
        let mut wire = f.gate();
        wire.send(&bytes).unwrap();
        assert_eq!(wire.read().unwrap().sqlstate().as_deref(), Some(expected));
        assert!(wire.read().is_err());
    }
}

/// The real gate, with a policy that masks, in front of a table `customers` and one `orders`.
fn real(limits: &str) -> (Gate, String) {
    let server = Server::shared().unwrap();
    let database = server
        .database_with(
            "CREATE TABLE customers (id int PRIMARY KEY, email text, card text);
             INSERT INTO customers SELECT i, 'RAW' || i || '@example.org', '4111RAW' || i FROM generate_series(1, 100) i;
             CREATE TABLE orders (id int PRIMARY KEY, customer int);
             INSERT INTO orders SELECT i, i FROM generate_series(1, 100) i;",
        )
        .unwrap()
        .name;
    let gate = Gate::start(&GateOptions::new(server, &database, ADMIN, &spec(limits, "card"))).unwrap();
    (gate, database)
}

fn spec(limits: &str, masked: &str) -> String {
    let limits = if limits.is_empty() { String::new() } else { format!("  limits: {{{limits}}}\n") };
    format!(
        "masks:
- columns: [public.customers.{masked}]
  mask: {{redact: {{}}}}
rules:
- name: all
  to: {{groups: [apps]}}
  allow: [Select, Insert, Update, Delete, Temp, Ddl, CopyOut, CopyIn]
  relations: ['public.*', 'made.*']
{limits}bulkExport: {{action: Allow}}
"
    )
}

fn connect(gate: &Gate, database: &str) -> Wire {
    Wire::connect(gate.port(), "anyone", "", database).unwrap()
}

#[test]
fn relations_made_by_the_session_are_seen_and_forgotten_as_the_server_does() {
    let (gate, database) = real("");
    let mut wire = connect(&gate, &database);
    // In the midst of a batch, without its implicit transaction being ended: the error at its end undoes all of it.
    wire.send(&all(&[
        run("CREATE TABLE made (a int, b text)"),
        run("INSERT INTO made VALUES (1, 'x')"),
        run("SELECT b FROM made"),
        run("SELECT 1/0"),
        wire::sync(),
        run("SELECT b FROM made"),
        wire::sync(),
    ]))
    .unwrap();
    let got = wire.until_ready().unwrap();
    assert_eq!((tags(&got).as_str(), code(&got).as_str()), ("12nC12nC12TDC1EZ", "22012"), "{got:?}");
    assert_eq!(code(&wire.until_ready().unwrap()), "42P01");
    // A temporary table hides one that is masked, to the end of its life and no longer.
    assert!(show(&wire.simple("SELECT card FROM customers WHERE id = 1").unwrap()).concat().contains("*****"));
    wire.simple("BEGIN").unwrap();
    assert_eq!(code(&wire.simple("CREATE TEMP TABLE customers (card text) ON COMMIT DROP").unwrap()), "");
    wire.simple("INSERT INTO customers VALUES ('mine')").unwrap();
    assert_eq!(wire::rows(&wire.simple("SELECT card FROM customers").unwrap()), [["mine"]]);
    assert_eq!(code(&wire.simple("COMMIT").unwrap()), "");
    let got = wire.simple("SELECT card FROM customers WHERE id = 1").unwrap();
    assert!(!show(&got).concat().contains("RAW") && tags(&got) == "TDCZ", "{got:?}");
    // Pipelined: what each statement means is what the server will take it for.
    wire.send(&all(&[
        query("BEGIN"),
        query("CREATE TEMP TABLE customers (card text)"),
        query("INSERT INTO customers VALUES ('mine')"),
        query("SELECT card FROM customers"),
        query("ROLLBACK"),
        query("SELECT card FROM customers WHERE id = 1"),
    ]))
    .unwrap();
    let mut got = Vec::new();
    for _ in 0..6 {
        got.push(wire.until_ready().unwrap());
    }
    assert_eq!(wire::rows(&got[3]), [["mine"]]);
    assert_eq!(tags(&got[5]), "TDCZ");
    assert!(!show(&got[5]).concat().contains("RAW"));
    // A search_path that fails to be set, with what relies on it already on its way.
    wire.send(&all(&[
        query("CREATE SCHEMA made"),
        query("CREATE TABLE made.customers (card text)"),
        query("BEGIN; SET search_path = made; SELECT 1/0"),
        query("ROLLBACK"),
        query("SELECT card FROM customers WHERE card LIKE '%1%' LIMIT 1"),
    ]))
    .unwrap();
    for _ in 0..4 {
        wire.until_ready().unwrap();
    }
    assert!(!show(&wire.until_ready().unwrap()).concat().contains("RAW"));
}

#[test]
fn no_client_reads_the_key_of_a_hash_even_where_everything_passes() {
    let server = Server::shared().unwrap();
    let database = server
        .database_with(
            "CREATE TABLE people (id int PRIMARY KEY, email text); INSERT INTO people VALUES (1, 'RAW@x.org')",
        )
        .unwrap()
        .name;
    let spec = |mode: &str| {
        format!(
            "mode: {mode}\nmasks:\n- columns: [public.people.email]\n  mask: {{hash: {{keySecret: {{name: hash, key: k}}}}}}\n\
             rules:\n- name: all\n  to: {{groups: [apps]}}\n  allow: [Select, Update]\n  relations: ['public.*']\n"
        )
    };
    let options = GateOptions::new(server, &database, ADMIN, &spec("Enforce")).secret("hash", "k", "0123456789abcdef");
    let gate = Gate::start(&options).unwrap();
    let mut open = connect(&gate, &database);
    let got = wire::rows(&open.simple("SELECT email FROM people").unwrap());
    assert!(!got[0][0].contains("RAW"), "{got:?}");
    // A guess at what is stored is refused as it runs, with a reason; the column's own hash is a save.
    let refused = open.simple("UPDATE people SET email = 'guess' WHERE id = 1 RETURNING email").unwrap();
    let fields = wire::error(&refused).unwrap().fields();
    assert_eq!(
        (fields[&'C'].as_str(), fields[&'D'].as_str()),
        ("42501", "Reason: masked_write. Object: public.people.")
    );
    assert!(!format!("{fields:?}").contains("postern masked write"), "{fields:?}");
    assert!(gate.metrics().unwrap().contains("postern_denials_total{reason=\"masked_write\"} 1"));
    assert_eq!(code(&open.simple(&format!("UPDATE people SET email = '{}' WHERE id = 1", got[0][0])).unwrap()), "");
    let show = "SHOW postern.hash_key_0_inner";
    assert_eq!(code(&open.simple(show).unwrap()), "42501");
    gate.write_policy(&policy(server, &database, &spec("Audit"))).unwrap();
    let applied = || gate.metrics().unwrap().contains("postern_policy_reload_total{result=\"applied\"} 1");
    for _ in 0..100 {
        if applied() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    open.send(&query(show)).unwrap();
    assert_eq!(open.read().unwrap().sqlstate().as_deref(), Some("57P01"));
    assert!(open.read().is_err());
    let mut fresh = connect(&gate, &database);
    assert_eq!(code(&fresh.simple(show).unwrap()), "42704");
}

#[test]
fn what_stands_after_a_limit_in_one_message_does_not_happen() {
    let (gate, database) = real("rows: 10");
    let mut wire = connect(&gate, &database);
    let count = "SELECT count(*) FROM orders WHERE customer = 7000";
    for sql in [
        "SELECT id FROM customers WHERE id <= 11; INSERT INTO orders VALUES (7000, 7000)",
        "INSERT INTO orders VALUES (7000, 7000); SELECT id FROM customers WHERE id <= 11",
        "INSERT INTO orders SELECT 7000 + i, 7000 FROM generate_series(1, 11) i RETURNING id; SELECT 1",
        "BEGIN; UPDATE orders SET customer = 7000 RETURNING id; COMMIT",
        "BEGIN; INSERT INTO orders VALUES (7000, 7000); SELECT id FROM customers; COMMIT",
    ] {
        assert_eq!(code(&wire.simple(sql).unwrap()), "54000", "{sql}");
        wire.simple("ROLLBACK").unwrap();
        assert_eq!(wire::rows(&wire.simple(count).unwrap()), [["0"]], "{sql}");
    }
    // Within the limit the client reads what the server says of one message.
    let mut direct = Wire::connect(Server::shared().unwrap().port(), ADMIN, ADMIN_PASSWORD, &database).unwrap();
    for sql in [
        "INSERT INTO orders VALUES (8000, 7000); SELECT id FROM orders WHERE id <= 5; DELETE FROM orders WHERE id = 8000",
        "BEGIN; UPDATE orders SET customer = customer WHERE id <= 3 RETURNING id; COMMIT",
        "INSERT INTO orders VALUES (8000, 7000); SELECT id FROM orders WHERE id <= 5; SELECT 1/0; SELECT 2",
        "INSERT INTO orders VALUES (8000, 7000); SELECT id FROM orders WHERE id <= 5; SELECT nothing FROM orders",
        "CREATE TEMP TABLE s AS SELECT id FROM orders WHERE id <= 5; SELECT * FROM s; DROP TABLE s",
    ] {
        let without_position = |messages: Vec<Message>| {
            messages
                .into_iter()
                .map(|message| match message.sqlstate() {
                    Some(code) => code,
                    None => format!("{} {:?}", char::from(message.tag), message.body),
                })
                .collect::<Vec<_>>()
        };
        // Descriptions differ in the table's OIDs only where they are those of a view.
        let strip = |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with('T')).collect::<Vec<_>>();
        let got = strip(without_position(wire.simple(sql).unwrap()));
        assert_eq!(got, strip(without_position(direct.simple(sql).unwrap())), "{sql}");
    }
    // The data of a COPY in the midst of it.
    wire.send(&all(&[
        query("INSERT INTO orders VALUES (8000, 1); SELECT id FROM orders WHERE id <= 5; COPY orders FROM STDIN; SELECT 1"),
        frame(b'd', b"8001\t1\n"),
        frame(b'c', b""),
        query("DELETE FROM orders WHERE id >= 8000"),
    ]))
    .unwrap();
    assert_eq!(tags(&wire.until_ready().unwrap()), "CTDDDDDCGCTDCZ");
    assert_eq!(tags(&wire.until_ready().unwrap()), "CZ");
    drop(wire);
    std::thread::sleep(Duration::from_millis(300));
    let events = gate.audit().unwrap();
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    let refused = events.iter().filter(|event| event["decision"] == "deny").count();
    assert_eq!(count("statement_end") + refused, count("statement"), "each statement has one end");
}

#[test]
fn names_that_a_message_would_have_set_after_a_limit_are_as_they_were() {
    let (gate, database) = real("rows: 10");
    let mut wire = connect(&gate, &database);
    for sql in [
        "PREPARE s AS SELECT id FROM orders",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders; COMMIT",
        "PREPARE gone AS SELECT 1",
    ] {
        assert_eq!(code(&wire.simple(sql).unwrap()), "", "{sql}");
    }
    // The statement of the limit is over before it is cancelled.
    let text = "SELECT id FROM orders LIMIT 11; DEALLOCATE s; PREPARE s AS SELECT 1; CLOSE c;
        DECLARE c CURSOR WITH HOLD FOR SELECT 1 WHERE false; DEALLOCATE gone; UPDATE orders SET id = id WHERE false";
    assert_eq!(code(&wire.simple(text).unwrap()), "54000");
    for sql in ["EXECUTE s", "FETCH ALL FROM c"] {
        let replies = wire.simple(sql).unwrap();
        assert_eq!((code(&replies), wire::rows(&replies).len()), ("54000".into(), 10), "{sql}");
    }
    assert_eq!(wire::rows(&wire.simple("EXECUTE gone").unwrap()), [["1"]]);
}

#[test]
fn limits_hold_for_what_went_into_a_temporary_table() {
    let (gate, database) = real("rows: 10");
    let mut wire = connect(&gate, &database);
    wire.simple("CREATE TEMP TABLE s AS SELECT * FROM customers").unwrap();
    let got = wire.simple("SELECT * FROM s").unwrap();
    assert_eq!((wire::rows(&got).len(), code(&got).as_str()), (10, "54000"));
    let got = wire.simple("CREATE TEMP TABLE u AS SELECT * FROM customers; SELECT * FROM u").unwrap();
    assert_eq!((wire::rows(&got).len(), code(&got).as_str()), (10, "54000"));
    assert_eq!(wire::rows(&wire.simple("SELECT count(*) FROM s").unwrap()), [["100"]]);
}

#[test]
fn who_may_not_call_what_a_domains_check_calls_makes_no_value_of_it_by_a_parameter() {
    let server = Server::shared().unwrap();
    let domain = "CREATE FUNCTION even(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 % 2 = 0';
        CREATE DOMAIN half AS int CHECK (even(VALUE));";
    let database = server.database_with(domain).unwrap().name;
    let oid = server.psql(&database, "SELECT 'half'::regtype::oid").unwrap().trim().parse().unwrap();
    let gate = Gate::start(&GateOptions::new(server, &database, ADMIN, &spec("", "card"))).unwrap();
    let ask = |value: &[u8]| {
        let mut wire = connect(&gate, &database);
        wire.send(&wire::parse_typed("", "SELECT $1", &[oid])).unwrap();
        wire.send(&[wire::bind("", "", &[Some(value)], Format::Text), wire::execute("", 0), wire::sync()].concat())
            .unwrap();
        code(&wire.until_ready().unwrap())
    };
    assert_eq!((ask(b"2").as_str(), ask(b"3").as_str()), ("42501", "42501"));
    gate.write_policy(&policy(
        server,
        &database,
        &spec("", "card").replace("  relations", "  functions: [public.even]\n  relations"),
    ))
    .unwrap();
    for _ in 0..300 {
        if ask(b"2").is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((ask(b"2").as_str(), ask(b"3").as_str()), ("", "23514"));
}

#[test]
fn a_reported_application_name_is_the_one_in_force_not_one_on_its_way() {
    let (gate, database) = real("");
    let mut wire = connect(&gate, &database);
    wire.send(&all(&[query("SET application_name = 'one'"), query("SET application_name = 'two'")])).unwrap();
    for name in ["one", "two"] {
        let got = wire.until_ready().unwrap();
        let reported = got.iter().find(|message| message.tag == b'S').unwrap();
        assert_eq!(reported.body, format!("application_name\0{name}\0").as_bytes());
    }
    let long = "n".repeat(63);
    let got = wire.simple(&format!("SET application_name = '{long}'")).unwrap();
    assert!(got.iter().any(|message| message.body == format!("application_name\0{long}\0").as_bytes()), "{got:?}");
}

#[test]
fn a_policy_file_that_changes_reaches_sessions_that_are_open() {
    let (gate, database) = real("");
    let mut wire = connect(&gate, &database);
    let server = Server::shared().unwrap();
    let batch = |frames: &[Vec<u8>]| all(&[frames.concat(), wire::sync()]);
    wire.send(&batch(&[wire::parse("s", "SELECT email, card FROM customers WHERE id = 7"), wire::describe(b'S', "s")]))
        .unwrap();
    wire.until_ready().unwrap();
    wire.simple("PREPARE p AS SELECT email, card FROM customers WHERE id = 7").unwrap();
    wire.simple("BEGIN").unwrap();
    wire.simple("DECLARE c CURSOR WITH HOLD FOR SELECT email FROM customers").unwrap();
    wire.simple("COMMIT").unwrap();
    assert!(show(&wire.simple("FETCH 1 FROM c").unwrap()).concat().contains("RAW"));
    gate.write_policy(&policy(server, &database, &spec("", "email"))).unwrap();
    let bound = || {
        gate.metrics()
            .unwrap()
            .lines()
            .any(|line| line.starts_with("postern_policy_reload_total{result=\"applied\"} 1"))
    };
    for _ in 0..100 {
        if bound() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    wire.send(&batch(&[wire::bind("", "s", &[], Format::Text), wire::execute("", 0)])).unwrap();
    let got = wire.until_ready().unwrap();
    let text = show(&got).concat();
    assert!(!text.contains("RAW7@") && text.contains("4111RAW7"), "{got:?}");
    // What SQL prepared is prepared again as well; an open cursor ends.
    let text = show(&wire.simple("EXECUTE p").unwrap()).concat();
    assert!(!text.contains("RAW7@") && text.contains("4111RAW7"), "{text}");
    assert_eq!(code(&wire.simple("FETCH 1 FROM c").unwrap()), "42501");
    assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
}

/// The catalog's own period, by default half a minute, is not waited for.
#[test]
fn what_another_session_closed_and_opened_again_is_open_at_once() {
    let (gate, database) = real("");
    let server = Server::shared().unwrap();
    let mut wire = connect(&gate, &database);
    let read = "SELECT email FROM customers WHERE id = 1";
    assert_eq!(code(&wire.simple(read).unwrap()), "");
    server.psql(&database, "ALTER TABLE customers RENAME card TO pan").unwrap();
    // A name that is not known makes the gate look.
    wire.simple("SELECT 1 FROM nowhere").unwrap();
    assert_eq!(code(&wire.simple(read).unwrap()), "42501");
    server.psql(&database, "ALTER TABLE customers RENAME pan TO card").unwrap();
    assert_eq!(code(&wire.simple(read).unwrap()), "");
}

#[test]
fn a_window_is_one_budget_for_all_sessions() {
    let (gate, database) = real("window: {every: 1h, rows: 50}");
    let mut left = 50;
    for from in [1, 21] {
        let mut wire = connect(&gate, &database);
        let got = wire.simple(&format!("SELECT id FROM orders WHERE id BETWEEN {from} AND {}", from + 19)).unwrap();
        left -= wire::rows(&got).len();
    }
    assert_eq!(left, 10);
    let mut wire = connect(&gate, &database);
    let got = wire.simple("SELECT id FROM orders").unwrap();
    assert_eq!((wire::rows(&got).len(), code(&got).as_str()), (10, "54000"));
    let got = wire.simple("SELECT id FROM orders WHERE id = 1").unwrap();
    assert_eq!((wire::rows(&got).len(), code(&got).as_str()), (0, "54000"));
    assert!(gate.metrics().unwrap().contains("postern_window_rows_left 0"));
    // What gives no rows goes on.
    assert_eq!(code(&wire.simple("INSERT INTO orders VALUES (1000, 1)").unwrap()), "");
}

#[test]
fn every_event_of_a_statement_is_recorded_before_and_after() {
    let (gate, database) = real("rows: 5");
    let mut wire = connect(&gate, &database);
    wire.simple("SELECT id FROM orders").unwrap();
    wire.extended_with("SELECT id FROM orders WHERE id = $1", &[Some(b"3")], Format::Text).unwrap();
    wire.simple("DELETE FROM nowhere").unwrap();
    // A function call by its own message is refused, and recorded as any refusal.
    wire.send(&frame(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])).unwrap();
    wire.until_ready().unwrap();
    drop(wire);
    std::thread::sleep(Duration::from_millis(500));
    let events = gate.audit().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds,
        [
            "session_start",
            "statement",
            "statement_end",
            "statement",
            "statement_end",
            "statement",
            "statement",
            "session_end"
        ],
        "{events:#?}"
    );
    assert_eq!((&events[2]["limit"], &events[2]["rows"]), (&"rows".into(), &5.into()));
    assert_eq!(events[3]["parameters"][0]["hash"].as_str().unwrap().len(), 32);
    assert_eq!((&events[5]["decision"], &events[5]["reason"]), (&"deny".into(), &"unknown_relation".into()));
    assert_eq!((&events[6]["decision"], &events[6]["reason"]), (&"deny".into(), &"protocol".into()));
    assert_eq!((&events[7]["statements"], &events[7]["rows"]), (&4.into(), &6.into()));
}

#[test]
fn what_a_client_makes_the_proxy_hold_is_bounded() {
    let f = Fixture::new("");
    // Replies due.
    let mut wire = f.gate();
    wire.send(&wire::sync().repeat(30_000)).unwrap();
    for _ in 0..30_000 {
        assert_eq!(wire.read().unwrap().tag, b'Z');
    }
    // Replies due within one batch, none of which the server flushes by itself.
    let mut wire = f.gate();
    let one = all(&[wire::bind("", "s", &[], Format::Text), wire::execute("", 0)]);
    wire.send(&all(&[wire::parse("s", "SELECT 1"), one.repeat(10_000), wire::sync()])).unwrap();
    assert_eq!(wire.until_ready().unwrap().len(), 1 + 3 * 10_000 + 1);
    // Names.
    let mut wire = f.gate();
    let mut batch = Vec::new();
    for number in 0..10_001 {
        batch.extend(wire::parse(&format!("s{number}"), "SELECT 1"));
    }
    batch.extend(wire::sync());
    wire.send(&batch).unwrap();
    assert_eq!(code(&wire.until_ready().unwrap()), "54000");
    assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
}

#[test]
fn a_slow_reader_stalls_nobody_else() {
    let f = Fixture::new("");
    let mut slow = f.gate();
    slow.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut other = f.gate();
    for _ in 0..100 {
        assert_eq!(tags(&other.simple("SELECT 1").unwrap()), "TDCZ");
    }
    let waits = "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'SELECT repeat%' AND state = 'active'";
    assert_eq!(f.server.psql(&f.database, waits).unwrap().trim(), "ClientWrite");
    assert_eq!(slow.until_ready().unwrap().len(), 200_000 + 3);
}

#[test]
fn a_cancel_reaches_the_statement_and_the_session_goes_on() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    wire.send(&query("SELECT pg_sleep(60)")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    Wire::open(f.port).unwrap().send(&wire::cancel_request(wire.key().unwrap())).unwrap();
    assert_eq!(code(&wire.until_ready().unwrap()), "57014");
    assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
}

#[test]
fn a_server_that_ends_a_session_is_heard_by_its_client() {
    let f = Fixture::new("");
    let mut wire = f.gate();
    let pid = wire::rows(&wire.simple("SELECT pg_backend_pid()").unwrap())[0][0].clone();
    wire.send(&query("SELECT pg_sleep(60)")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    f.server.psql(&f.database, &format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert_eq!(wire.until(b'E').unwrap().last().unwrap().sqlstate().as_deref(), Some("57P01"));
    assert!(wire.read().is_err());
    let mut idle = f.gate();
    let pid = wire::rows(&idle.simple("SELECT pg_backend_pid()").unwrap())[0][0].clone();
    f.server.psql(&f.database, &format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert_eq!(idle.read().unwrap().sqlstate().as_deref(), Some("57P01"));
    assert!(idle.read().is_err());
}
