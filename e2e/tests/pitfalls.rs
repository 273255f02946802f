//! Pitfalls that gates and pools in front of Postgres are known for, each as a test of a real gate in front of a real server.
//! `--list` gives the list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Server, ServerOptions};
use postern_e2e::tap::Tap;
use postern_e2e::wire::{self, Format, Message, SSL_REQUEST, Wire, error, frame, query, rows};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const MIB: usize = 1 << 20;

const SCHEMA: &str = "\
CREATE TABLE t (id int PRIMARY KEY, card text);
INSERT INTO t SELECT n, 'RAW-' || n FROM generate_series(1, 5) n;
CREATE TABLE closed (card text);
INSERT INTO closed VALUES ('RAW-closed');";

const SPEC: &str = "\
masks: [{columns: [public.t.card], mask: {redact: {}}}]
bulkExport: {action: Allow}
rules:
- {name: all, to: {groups: [apps]}, allow: [Select, Insert, Update, CopyIn, CopyOut, Notify, Temp], relations: [public.t], channels: [news]}";

/// The mask of each card in `t`.
const MASKED: &str = "*****";

/// A gate in front of a database.
struct Stage {
    database: String,
    gate: Gate,
}

impl Stage {
    fn new() -> Self {
        Self::on(Server::shared().unwrap(), |options| options)
    }

    fn on(server: &Server, change: impl FnOnce(GateOptions) -> GateOptions) -> Self {
        let database = server.database_with(SCHEMA).unwrap().name;
        let gate = Gate::start(&change(GateOptions::new(server, &database, ADMIN, SPEC))).unwrap();
        Self { database, gate }
    }

    /// The gate reaches the server through a relay.
    fn tapped(server: &Server, tls: bool) -> (Self, Tap) {
        let tap = Tap::start(server.port()).unwrap();
        let stage = Self::on(server, |mut options| {
            let port = |port: u16| format!("port: {port},");
            options.policy = options.policy.replace(&port(server.port()), &port(tap.port()));
            if tls {
                options.policy = options.policy.replace("{mode: Disable}", "{mode: Require}");
            }
            options
        });
        (stage, tap)
    }

    fn start_up(&self) -> [(&str, &str); 2] {
        [("user", "anyone"), ("database", &self.database)]
    }

    fn connect(&self) -> Wire {
        Wire::connect_with(self.gate.port(), "", &self.start_up()).unwrap()
    }

    /// Why sessions ended, from the audit.
    fn ends(&self) -> Vec<String> {
        let events = self.gate.audit().unwrap();
        let ends = events.iter().filter(|event| event["event"] == "session_end");
        ends.map(|event| event["reason"].as_str().unwrap().to_owned()).collect()
    }
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

fn sqlstate(messages: &[Message]) -> String {
    error(messages).and_then(Message::sqlstate).unwrap_or_default()
}

/// What a batch gives, which must hold no raw value.
fn masked(wire: &mut Wire, batch: &[&[u8]]) -> Vec<Message> {
    wire.send(&[batch.concat(), wire::sync()].concat()).unwrap();
    let got = wire.until_ready().unwrap();
    assert!(!format!("{got:?}").contains("RAW"), "{got:?}");
    got
}

/// Parse, Bind and Execute of the statement of this name.
fn run(name: &str, sql: &str) -> Vec<u8> {
    [wire::parse(name, sql), run_again(name)].concat()
}

fn run_again(name: &str) -> Vec<u8> {
    [wire::bind("", name, &[], Format::Text), wire::execute("", 0)].concat()
}

#[test]
fn a_second_parse_in_one_batch_is_decided_as_the_first_is() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    for name in ["", "s"] {
        let first = run(name, "SELECT id FROM t WHERE id = 1");
        // A name that is taken has to be closed first.
        let again = wire::close(b'S', name);
        let got = masked(&mut wire, &[&first, &again, &run(name, "SELECT card FROM t WHERE id = 1")]);
        assert_eq!(rows(&got), [["1"], [MASKED]]);
        masked(&mut wire, &[&again]);
        let got = masked(&mut wire, &[&first, &again, &run(name, "SELECT card FROM closed"), &run("", "SELECT 2")]);
        assert_eq!((rows(&got), sqlstate(&got).as_str()), (vec![vec!["1".to_owned()]], "42501"));
        masked(&mut wire, &[&again]);
    }
    // Parsed without being run, behind one that is: what it would do is decided all the same.
    let got = masked(
        &mut wire,
        &[&run("", "SELECT 1"), &wire::parse("later", "TABLE closed"), &wire::parse("x", "SELECT 1")],
    );
    assert_eq!((tags(&got).as_str(), sqlstate(&got).as_str()), ("12DCEZ", "42501"));
    // And of two statements in the text of one Query.
    let got = wire.simple("SELECT 1; SELECT card FROM closed").unwrap();
    assert_eq!((tags(&got).as_str(), sqlstate(&got).as_str()), ("EZ", "42501"));
}

#[test]
fn table_cursors_and_syntax_that_few_parsers_know_show_the_mask() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    for sql in [
        "TABLE t",
        "TABLE ONLY public.t",
        "(((TABLE t)))",
        "WITH x AS (TABLE t) TABLE x",
        "WITH x AS MATERIALIZED (TABLE t), y AS (UPDATE t SET id = id RETURNING *) SELECT * FROM x, y",
        "SELECT * FROM t *",
        "SELECT (t).* FROM t",
        "SELECT t FROM t",
        "SELECT x.a[1] FROM (SELECT ARRAY(SELECT card FROM t) AS a) x",
        "SELECT U&\"c\\0061rd\" FROM \"t\"",
        "SELECT u.* FROM t AS u (a, b)",
        "SELECT * FROM t TABLESAMPLE SYSTEM (100)",
        "SELECT * FROM (t CROSS JOIN LATERAL (VALUES (card)) v (w)) AS j",
        "SELECT string_agg(card, ',') OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM t",
        "VALUES ((SELECT card FROM t WHERE id = 1))",
        "SELECT row_to_json(t) FROM t ORDER BY id FETCH FIRST 2 ROWS WITH TIES",
        "SELECT card FROM t EXCEPT ALL SELECT 'x' ORDER BY 1",
        "SELECT card FROM t ORDER BY 1 FOR UPDATE",
        "SELECT FROM t WHERE card LIKE 'RAW%'",
        "COPY (TABLE t) TO STDOUT",
        "COPY t TO STDOUT",
        "EXPLAIN (COSTS off) SELECT * FROM t WHERE card = 'x'",
    ] {
        for got in [wire.simple(sql).unwrap(), wire.extended(sql, Format::Binary).unwrap()] {
            assert!(!format!("{got:?}").contains("RAW"), "{sql}: {got:?}");
            assert!(error(&got).is_none(), "{sql}: {got:?}");
        }
    }
    wire.simple("BEGIN").unwrap();
    for declare in [
        "DECLARE c CURSOR FOR TABLE t",
        "DECLARE c BINARY INSENSITIVE SCROLL CURSOR WITH HOLD FOR SELECT card, * FROM t",
        "PREPARE c AS TABLE t",
    ] {
        assert_eq!(sqlstate(&wire.simple(declare).unwrap()), "");
        let (use_it, close) = match declare.starts_with("PREPARE") {
            true => ("EXECUTE c", "DEALLOCATE c"),
            false => ("FETCH FORWARD ALL FROM c", "CLOSE c"),
        };
        let got = wire.simple(use_it).unwrap();
        assert_eq!((rows(&got).len(), format!("{got:?}").contains("RAW")), (5, false), "{declare}: {got:?}");
        wire.simple(close).unwrap();
    }
    assert_eq!(sqlstate(&wire.simple("DECLARE c CURSOR FOR TABLE closed").unwrap()), "42501");
}

#[test]
fn a_name_that_was_closed_and_parsed_again_runs_the_new_statement() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    let (old, new) = (wire::parse("s", "SELECT 'old'"), wire::parse("s", "SELECT card FROM t WHERE id = 1"));
    let close = wire::close(b'S', "s");
    let now = |wire: &mut Wire| rows(&masked(wire, &[&run_again("s")]));
    // In one batch, in two, and by SQL's own name for it.
    masked(&mut wire, &[&old]);
    assert_eq!(rows(&masked(&mut wire, &[&run_again("s"), &close, &new, &run_again("s")])), [["old"], [MASKED]]);
    assert_eq!(now(&mut wire), [[MASKED]]);
    masked(&mut wire, &[&close]);
    masked(&mut wire, &[&old]);
    assert_eq!(now(&mut wire), [["old"]]);
    wire.simple("DEALLOCATE s; PREPARE s AS SELECT 'of SQL'").unwrap();
    assert_eq!(now(&mut wire), [["of SQL"]]);
    wire.simple("DISCARD ALL").unwrap();
    masked(&mut wire, &[&new]);
    assert_eq!(now(&mut wire), [[MASKED]]);
    // The new one is refused, by the gate or by the server: there is none of that name then.
    for sql in ["TABLE closed", "SELECT nothing FROM t"] {
        masked(&mut wire, &[&close]);
        masked(&mut wire, &[&old]);
        masked(&mut wire, &[&close]);
        assert_ne!(sqlstate(&masked(&mut wire, &[&wire::parse("s", sql)])), "");
        assert_eq!(sqlstate(&masked(&mut wire, &[&run_again("s")])), "26000", "{sql}");
    }
    // A Close that is undone by an error before it in the batch: the old one stays.
    masked(&mut wire, &[&old]);
    masked(&mut wire, &[&run("", "SELECT 1/0"), &close, &new]);
    assert_eq!(now(&mut wire), [["old"]]);
    // A name that is taken is not taken over.
    assert_eq!(sqlstate(&masked(&mut wire, &[&new])), "42P05");
    assert_eq!(now(&mut wire), [["old"]]);
}

/// The server's answers are held back until all of the batch has arrived there.
#[test]
fn a_batch_of_500_executes_goes_up_without_waiting_for_any_reply() {
    let (stage, tap) = Stage::tapped(Server::shared().unwrap(), false);
    let mut wire = stage.connect();
    let insert = wire::parse("i", "INSERT INTO t VALUES ($1, $2)");
    let batch = |number: usize| {
        let id = (1000 + number).to_string();
        [wire::bind("", "i", &[Some(id.as_bytes()), Some(b"new")], Format::Text), wire::execute("", 0)].concat()
    };
    masked(&mut wire, &[&insert]);
    let session = tap.sent().len() - 1;
    let before = tap.sent()[session].len();
    tap.hold();
    wire.send(&[(0..500).flat_map(batch).collect(), wire::sync()].concat()).unwrap();
    let mut arrived = String::new();
    wait_until("the whole batch at the server", || {
        let sent = tap.sent().swap_remove(session);
        arrived = frames(&sent[before..]);
        arrived.ends_with('S')
    });
    assert_eq!(arrived.matches("BE").count(), 500, "{arrived}");
    tap.release();
    assert_eq!(tags(&wire.until_ready().unwrap()), "2C".repeat(500) + "Z");
    assert_eq!(rows(&wire.simple("SELECT count(*) FROM t").unwrap()), [["505"]]);
}

/// Types of the messages that are there as a whole.
fn frames(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Some(([tag, length @ ..], _)) = bytes.split_first_chunk::<5>()
        && let Some(after) = bytes.get(1 + u32::from_be_bytes(*length) as usize..)
    {
        tags.push(char::from(*tag));
        bytes = after;
    }
    tags
}

#[test]
fn a_header_that_claims_a_gibibyte_is_given_no_memory() {
    let stage = Stage::new();
    drop(stage.connect());
    let claim = 1u32 << 30;
    let header = |tag: u8| [&[tag][..], &claim.to_be_bytes()].concat();
    let copy = [query("COPY t FROM STDIN"), header(b'd')].concat();
    let process = stage.gate.process().unwrap();
    process.forget_peak().unwrap();
    let before = process.resident().unwrap();
    let claims: Vec<Vec<u8>> = b"QPBDECHSXFdcfp".iter().map(|tag| header(*tag)).chain([copy]).collect();
    let count = claims.len();
    for bytes in claims {
        let mut wire = stage.connect();
        wire.send(&[bytes, b"x\0".repeat(500)].concat()).unwrap();
        wire.vanish();
    }
    // Also where no message has a type yet.
    Wire::open(stage.gate.port()).unwrap().send(&claim.to_be_bytes()).unwrap();
    wait_until("the sessions' ends", || stage.ends().len() == count + 1);
    let grown = process.peak().unwrap().saturating_sub(before) as usize;
    assert!(grown < 8 * MIB, "{} KiB", grown >> 10);
}

#[test]
fn what_a_client_sends_before_it_is_logged_in_is_not_gathered() {
    let (stage, tap) = Stage::tapped(Server::shared().unwrap(), false);
    drop(stage.connect());
    let process = stage.gate.process().unwrap();
    process.forget_peak().unwrap();
    let before = process.resident().unwrap();
    // A start-up without end is refused by its length, whatever follows.
    for length in [64 * MIB as u32, 1 << 30, u32::MAX] {
        let socket = TcpStream::connect(("127.0.0.1", stage.gate.port())).unwrap();
        let mut wire = Wire::over(socket.try_clone().unwrap());
        wire.send(&length.to_be_bytes()).unwrap();
        let sender = sends_until_closed(socket, vec![b'x'; 64 * MIB]);
        assert_eq!(sqlstate(&[wire.read().unwrap()]), "54000");
        drop(wire);
        sender.join().unwrap();
    }
    // 64 MiB behind a good one, while the server still thinks about the login.
    tap.hold();
    let socket = TcpStream::connect(("127.0.0.1", stage.gate.port())).unwrap();
    let mut wire = Wire::over(socket.try_clone().unwrap());
    wire.send(&wire::startup(wire::PROTOCOL_3_0, &stage.start_up())).unwrap();
    let large = vec![b'x'; 64 * MIB];
    let statement = [
        wire::parse("", "SELECT length($1::text)"),
        wire::bind("", "", &[Some(&large)], Format::Text),
        wire::execute("", 0),
        wire::sync(),
    ];
    let sender = sends_until_closed(socket, statement.concat());
    std::thread::sleep(Duration::from_secs(1));
    assert!(!sender.is_finished(), "all of it was taken");
    tap.release();
    wire.until_ready().unwrap();
    assert_eq!(rows(&wire.until_ready().unwrap()), [[large.len().to_string()]]);
    sender.join().unwrap();
    let grown = process.peak().unwrap().saturating_sub(before) as usize;
    assert!(grown < 8 * MIB, "{} KiB", grown >> 10);
}

fn sends_until_closed(mut socket: TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || _ = socket.write_all(&bytes))
}

#[test]
fn plaintext_behind_an_ssl_request_does_not_get_into_the_session() {
    let folder = postern_e2e::temporary_folder("tls").unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).display().to_string()
    };
    let (certificate, key) = (file("crt", made.cert.pem()), file("key", made.signing_key.serialize_pem()));
    let stage = Stage::on(Server::shared().unwrap(), |options| {
        options.arguments(["--tls-cert", &certificate, "--tls-key", &key])
    });
    std::fs::remove_dir_all(&folder).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    // Whoever is on the way between the two puts this in front of what the client says by TLS.
    let injected = query("INSERT INTO t VALUES (666, 'injected')");
    let with_start_up = [wire::startup(wire::PROTOCOL_3_0, &stage.start_up()), injected.clone()].concat();
    for (with_the_request, behind_its_answer, works) in [
        (&[][..], &[][..], true),
        (&injected, &[], false),
        (&with_start_up, &[], false),
        (&[], &injected, false),
        (&[], &with_start_up, false),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", stage.gate.port())).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.write_all(&[&SSL_REQUEST, with_the_request].concat()).unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"S");
        socket.write_all(behind_its_answer).unwrap();
        let session = ClientConnection::new(Arc::clone(&config), ServerName::try_from("localhost").unwrap()).unwrap();
        let session = Wire::over(StreamOwned::new(session, socket)).start("", &stage.start_up());
        assert_eq!(session.is_ok(), works);
        if let Ok(mut wire) = session {
            assert_eq!(rows(&wire.simple("SELECT count(*) FROM t").unwrap()), [["5"]]);
        }
    }
    let began = stage.gate.audit().unwrap().into_iter().filter(|event| event["event"] == "session_start").count();
    assert_eq!((began, rows(&stage.connect().simple("SELECT count(*) FROM t").unwrap())), (1, vec![vec!["5".into()]]));
}

#[test]
fn a_notification_reaches_who_listens_and_nobody_else() {
    let stage = Stage::new();
    let (mut listener, mut other) = (stage.connect(), stage.connect());
    assert_eq!(sqlstate(&listener.simple("LISTEN news").unwrap()), "");
    for round in 0..3 {
        // A session that ends while it listens leaves nothing behind for those that come after it.
        let mut gone = stage.connect();
        gone.simple("LISTEN news").unwrap();
        drop(gone);
        let mut notifier = stage.connect();
        assert_eq!(sqlstate(&notifier.simple(&format!("NOTIFY news, 'of round {round}'")).unwrap()), "");
        assert_eq!(listener.read().unwrap().tag, b'A');
        assert!(format!("{:?}", listener.received.last()).contains(&format!("of round {round}")));
        // It would come before the answer to what is asked after it.
        for wire in [&mut notifier, &mut other, &mut stage.connect()] {
            assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
            assert!(!wire.received.iter().any(|message| message.tag == b'A'));
        }
    }
}

/// A long statement that the client cancels while it runs.
fn is_cancelled(stage: &Stage, server: &Server, wire: &mut Wire) {
    wire.send(&query("SELECT pg_sleep(600)")).unwrap();
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state = 'active' AND query LIKE 'SELECT pg_sleep%'",
        stage.database
    );
    wait_until("the statement", || server.psql("postgres", &running).unwrap().trim() == "1");
    Wire::open(stage.gate.port()).unwrap().send(&wire::cancel_request(wire.key().unwrap())).unwrap();
    assert_eq!(sqlstate(&wire.until_ready().unwrap()), "57014");
}

#[test]
fn a_cancel_goes_to_a_server_with_tls_by_tls() {
    let server = Server::start(&ServerOptions { tls: true, ..ServerOptions::default() }).unwrap();
    let (stage, tap) = Stage::tapped(&server, true);
    let mut wire = stage.connect();
    let before = tap.sent().len();
    is_cancelled(&stage, &server, &mut wire);
    assert_eq!(tags(&wire.simple("SELECT 1").unwrap()), "TDCZ");
    let sent = tap.sent();
    assert!(sent.len() > before, "the cancel took another way");
    for connection in sent {
        // The request for TLS, then TLS: a handshake's record first.
        let (request, rest) = connection.split_at(SSL_REQUEST.len());
        assert_eq!((request, rest[0]), (&SSL_REQUEST[..], 0x16));
    }
}

#[test]
fn flush_and_copy_by_the_extended_protocol_do_not_hang() {
    let stage = Stage::new();
    let mut wire = stage.connect();
    let mut ask = |frames: &[&[u8]], until: u8| {
        wire.send(&frames.concat()).unwrap();
        tags(&wire.until(until).unwrap())
    };
    let (flush, sync) = (wire::flush(), wire::sync());
    let bind = |sql: &str| [wire::parse("", sql), wire::bind("", "", &[], Format::Text)].concat();
    // Each answer comes with the Flush, before there is any Sync; also where the gate itself refuses.
    assert_eq!(ask(&[&wire::parse("s", "SELECT card FROM t ORDER BY id"), &flush], b'1'), "1");
    assert_eq!(ask(&[&wire::describe(b'S', "s"), &flush], b'T'), "tT");
    assert_eq!(ask(&[&wire::bind("p", "s", &[], Format::Text), &wire::execute("p", 2), &flush], b's'), "2DDs");
    assert_eq!(ask(&[&wire::execute("p", 0), &flush], b'C'), "DDDC");
    assert_eq!(ask(&[&flush, &wire::close(b'S', "s"), &flush, &flush], b'3'), "3");
    assert_eq!(ask(&[&bind("TABLE closed"), &flush], b'E'), "E");
    assert_eq!(ask(&[&bind("SELECT 1"), &flush, &sync], b'Z'), "Z");
    // COPY in both directions, a rewritten one and one as it is, the data with or without waiting.
    let (execute, done) = (wire::execute("", 0), frame(b'c', b""));
    let data = |id: u32| frame(b'd', format!("{id}\tnew\n").as_bytes());
    for sql in ["COPY t TO STDOUT", "COPY (SELECT id FROM t) TO STDOUT"] {
        assert_eq!(ask(&[&bind(sql), &execute, &flush], b'C'), "12HdddddcC");
        assert_eq!(ask(&[&sync], b'Z'), "Z");
    }
    assert_eq!(ask(&[&bind("COPY t FROM STDIN"), &execute, &flush], b'G'), "12G");
    assert_eq!(ask(&[&data(10), &flush, &data(11), &done, &flush], b'C'), "C");
    assert_eq!(ask(&[&sync], b'Z'), "Z");
    assert_eq!(ask(&[&bind("COPY t FROM STDIN"), &execute, &data(12), &done, &sync], b'Z'), "12GCZ");
    assert_eq!(ask(&[&bind("COPY t FROM STDIN"), &execute, &frame(b'f', b"no\0"), &sync], b'Z'), "12GEZ");
    assert_eq!(ask(&[&bind("COPY closed FROM STDIN"), &execute, &data(1), &frame(b'c', b""), &sync], b'Z'), "EZ");
    assert_eq!(rows(&wire.simple("SELECT count(*) FROM t").unwrap()), [["8"]]);
}

/// A password's keys cost as much as the server says. Twenty sessions must cost less than the gate's start, which has
/// derived them once.
#[test]
fn the_keys_of_a_password_are_derived_once_and_not_at_each_login() {
    // What a server of version 16 or later stores with `scram_iterations` at a million.
    let verifier = "SCRAM-SHA-256$1000000:c2FsdCBvZiBhIG1pbGxpb24=\
                    $7VvKxTNCjoSdyEDz6IbUJdWtUNLdOJkS4iKlZx6Qzzs=:0sWiFolbdjOEGxlX/7f6C6FTU6G8u9gvWy/4am6tHqo=";
    let server = Server::start(&ServerOptions::default()).unwrap();
    server.psql("postgres", &format!("CREATE ROLE slow LOGIN SUPERUSER PASSWORD '{verifier}'")).unwrap();
    let stage = Stage::on(&server, |options| {
        options.secret("db", "username", "slow").secret("db", "password", "slow-password")
    });
    let process = stage.gate.process().unwrap();
    let start = process.cpu().unwrap();
    for _ in 0..20 {
        assert_eq!(tags(&stage.connect().simple("SELECT 1").unwrap()), "TDCZ");
    }
    let sessions = process.cpu().unwrap() - start;
    assert!(sessions < start, "{sessions:?} for the sessions, {start:?} for the start");
}

#[test]
fn newer_protocols_and_their_options_are_negotiated_and_not_refused() {
    let stage = Stage::new();
    let latest = wire::PROTOCOL_3_0 | 2;
    for (version, option, told) in [
        (wire::PROTOCOL_3_0, None, None),
        (latest, None, None),
        (latest, Some("_pq_.of_the_future"), Some((latest, 1))),
        (wire::PROTOCOL_3_0, Some("_pq_.of_the_future"), Some((wire::PROTOCOL_3_0, 1))),
        // What libpq 18 greases with.
        (wire::PROTOCOL_3_0 | 9999, Some("_pq_.test_protocol_negotiation"), Some((latest, 1))),
    ] {
        let mut wire = Wire::open(stage.gate.port()).unwrap();
        let parameters = stage.start_up().into_iter().chain(option.map(|name| (name, "on"))).collect::<Vec<_>>();
        wire.send(&wire::startup(version, &parameters)).unwrap();
        let got = wire.until_ready().unwrap();
        let negotiated = got.iter().find(|message| message.tag == b'v').map(|message| {
            let number = |at: usize| u32::from_be_bytes(message.body[at..at + 4].try_into().unwrap());
            (number(0), number(4))
        });
        assert_eq!(negotiated, told, "{version:x} {option:?}");
        assert_eq!(rows(&wire.simple("SELECT card FROM t WHERE id = 1").unwrap()), [[MASKED]]);
        // The key of 3.2 is longer, and cancels.
        assert_eq!(wire.key().unwrap().len() - 4, if version > wire::PROTOCOL_3_0 { 32 } else { 4 });
        is_cancelled(&stage, Server::shared().unwrap(), &mut wire);
    }
}
