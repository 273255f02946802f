//! PostgreSQL's own regression suite. psql runs each file straight against a server, which is written down; then its
//! messages go, statement by statement, to two servers directly and to a third through the gate.
//!
//! What differs between the two direct ones (times, process ids, chance) can't be compared exactly, and is compared by
//! the kinds of its messages. What the gate refuses is not run on the direct servers either, so that all three go on in
//! the same state; after a refused change of the user all is skipped until the next one. Outside a transaction, the superuser then runs it on a connection of his own, so that what the
//! gate can't allow (functions, roles, files) is there for the statements that follow.
//!
//! `POSTERN_FILES=a,b` runs those files; `POSTERN_SHOW=1` shows what is refused and what differs as it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use postern_e2e::gate::{EVERYTHING, Gate, GateOptions};
use postern_e2e::oids::Oids;
use postern_e2e::postgres::{ADMIN, Server, ServerOptions, clean_environment};
use postern_e2e::replay::{self, Recorder, Turn};
use postern_e2e::wire::{self, Message, Wire};
use serde_json::{Value, json};

use crate::explained::{Explained, Place, one_line};

const MAJOR: u32 = 15;
const DATABASE: &str = "regression";
/// A schema whose comment changes when the gate is to look at the catalog.
const TICK: &str = "postern_tick";
/// Fails whatever the database holds, as a refused statement does.
const FAILING: &str = "SELECT no.thing";

/// What `make test` runs: files that need no other.
const SAMPLE: [&str; 8] = ["boolean", "int4", "text", "strings", "numerology", "select_distinct", "union", "limit"];

/// Files that have not been gone through in mode Enforce yet, statement by statement.
const AUDIT_ONLY: [&str; 19] = [
    "collate.icu.utf8",
    "collate.linux.utf8",
    "partition_join",
    "partition_prune",
    "reloptions",
    "hash_part",
    "indexing",
    "partition_aggregate",
    "partition_info",
    "tuplesort",
    "explain",
    "memoize",
    "stats",
    "compression",
    "compression_pglz",
    "event_trigger",
    "oidjoins",
    "fast_default",
    "foreign_key",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Audit,
    Enforce,
}

impl Mode {
    /// The reasons for which the gate may refuse under a policy that allows everything that a policy can.
    fn reasons(self) -> &'static [&'static str] {
        match self {
            Mode::Audit => &["role", "protocol", "bounds", "setting"],
            Mode::Enforce => {
                &["forbidden", "function", "system_relation", "role", "protocol", "bounds", "setting", "unsupported"]
            }
        }
    }
}

/// The suite's folder, fetched if need be; None where this system has no package of it.
fn suite() -> Result<Option<PathBuf>> {
    let folder = postern_e2e::cache("suites")?.join(format!("postgres-{MAJOR}"));
    let script = postern_e2e::workspace().join("e2e/suites/postgres/fetch.sh");
    let status = Command::new("/bin/sh").arg(script).arg(&folder).arg(MAJOR.to_string()).status()?;
    if status.code() == Some(3) {
        writeln!(
            std::io::stderr(),
            "left out: PostgreSQL's own tests, for this system has no package of version {MAJOR}"
        )?;
        return Ok(None);
    }
    ensure!(status.success(), "PostgreSQL's regression suite can't be fetched");
    Ok(Some(folder))
}

/// The files in the order of the suite's schedule.
fn schedule(suite: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(suite.join("regress/parallel_schedule"))?;
    let tests = text.lines().filter_map(|line| line.strip_prefix("test:")).flat_map(str::split_whitespace);
    Ok(tests.filter(|test| *test != "test_setup").map(str::to_owned).collect())
}

/// A server with the suite's files in its folder, which servers read and write as another user than us.
fn home(suite: &Path) -> Result<Server> {
    let server = Server::start(&options())?;
    let folder = server.socket_folder();
    let copied = Command::new("cp").arg("-r").arg(suite.join("regress")).arg(suite.join("lib")).arg(folder).status()?;
    ensure!(copied.success(), "the suite can't be copied");
    for library in ["autoinc.so", "refint.so"] {
        fs::copy(server.bin().join("../lib").join(library), folder.join("lib").join(library))?;
    }
    let results = folder.join("regress/results");
    fs::create_dir_all(&results)?;
    for folder in [&folder.join("regress"), &results] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    }
    set_up(&server, folder)?;
    Ok(server)
}

fn options() -> ServerOptions {
    ServerOptions { version: Some(MAJOR), auth: "trust".into(), ..Default::default() }
}

/// Makes the database as pg_regress does, and what `test_setup` makes in it.
fn set_up(server: &Server, home: &Path) -> Result<()> {
    server.psql("postgres", &format!("CREATE DATABASE {DATABASE} TEMPLATE template0"))?;
    for (setting, value) in [
        ("lc_messages", "C"),
        ("lc_monetary", "C"),
        ("lc_numeric", "C"),
        ("lc_time", "C"),
        ("bytea_output", "hex"),
        ("timezone_abbreviations", "Default"),
    ] {
        server.psql("postgres", &format!("ALTER DATABASE {DATABASE} SET {setting} TO '{value}'"))?;
    }
    psql(server.bin(), server.port(), home, "test_setup")?;
    server.psql(DATABASE, &format!("CREATE SCHEMA {TICK}"))?;
    Ok(())
}

/// Runs a file as pg_regress does, by TCP.
fn psql(bin: &Path, port: u16, home: &Path, file: &str) -> Result<()> {
    let folder = home.join("regress");
    let script = fs::File::open(folder.join(format!("sql/{file}.sql")))?;
    let output = fs::File::create(folder.join(format!("results/{file}.out")))?;
    let mut command = Command::new("timeout");
    clean_environment(&mut command);
    let status = command
        .arg("300")
        .arg(bin.join("psql"))
        .args(["-X", "-a", "-q", "-d", DATABASE, "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"])
        .current_dir(&folder)
        .envs([("PGHOST", "127.0.0.1"), ("PGUSER", ADMIN), ("PGSSLMODE", "disable"), ("PGGSSENCMODE", "disable")])
        .envs([("PGTZ", "America/Los_Angeles"), ("PGDATESTYLE", "Postgres, MDY"), ("LC_ALL", "C.UTF-8")])
        .env("PGPORT", port.to_string())
        .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
        .env("PGAPPNAME", format!("pg_regress/{file}"))
        .env("PG_ABS_SRCDIR", &folder)
        .env("PG_ABS_BUILDDIR", &folder)
        .env("PG_LIBDIR", home.join("lib"))
        .env("PG_DLSUFFIX", ".so")
        .stdin(script)
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    // psql says 2 where the script ends without a connection, as some files mean to.
    ensure!(matches!(status.code(), Some(0 | 2)), "psql with {file}: {status}");
    Ok(())
}

/// A server, and the session on it that a file is played to.
struct Side {
    server: Server,
    /// Where the session connects to: the server, or the gate in front of it.
    port: u16,
    session: Option<Wire>,
    /// The superuser's own connection, straight to the server.
    beside: Wire,
}

/// What came of a turn.
#[derive(Clone, PartialEq)]
struct Answer {
    messages: Vec<Message>,
    /// Whether the session ended with it.
    closed: bool,
}

impl Answer {
    /// The reason for which the gate refused, with what it said.
    fn refusal(&self) -> Option<(String, String)> {
        let fields = self.messages.iter().find(|message| message.tag == b'E')?.fields();
        let reason = fields.get(&'D')?.strip_prefix("Reason: ")?.split('.').next()?;
        Some((reason.to_owned(), fields.get(&'M').cloned().unwrap_or_default()))
    }

    /// The kinds of its messages, repetitions taken together.
    fn shape(&self) -> (Vec<String>, bool) {
        let kind = |message: &Message| format!("{}{}", char::from(message.tag), message.sqlstate().unwrap_or_default());
        let mut kinds: Vec<String> = self.messages.iter().map(kind).collect();
        kinds.dedup();
        (kinds, self.closed)
    }

    /// Whether it is the direct answer; `less` where an error that the gate itself raised may say less than the server's.
    fn is(&self, direct: &Answer, less: bool, oids: &mut Oids) -> bool {
        let says_less = |own: &Message, other: &Message| {
            own.tag == b'E' && other.tag == b'E' && {
                let other = other.fields();
                own.fields().iter().all(|(code, text)| other.get(code) == Some(text))
            }
        };
        let own: Vec<Message> = self
            .messages
            .iter()
            .zip(&direct.messages)
            .map(|(own, other)| if less && says_less(own, other) { other } else { own }.clone())
            .collect();
        self.closed == direct.closed
            && self.messages.len() == direct.messages.len()
            && oids.same(&direct.messages, &own)
    }

    /// Status of the transaction afterwards.
    fn status(&self) -> Option<u8> {
        self.messages.last().filter(|message| message.tag == b'Z')?.body.first().copied()
    }
}

fn superuser(server: &Server) -> Result<Wire> {
    Wire::connect_unix(server.socket_folder(), server.port(), &[("user", ADMIN), ("database", DATABASE)])
}

impl Side {
    fn new(server: Server, port: u16) -> Result<Self> {
        let beside = superuser(&server)?;
        Ok(Self { server, port, session: None, beside })
    }

    /// Ends the session, and waits until the server is through with it.
    fn end(&mut self) -> Result<()> {
        const REGRESS: &str = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%pg_regress/%'";
        self.session = None;
        let until = Instant::now() + Duration::from_secs(20);
        while !wire::rows(&self.beside.simple(REGRESS)?).is_empty() {
            ensure!(Instant::now() < until, "a session does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Begins a session; whether it came to be.
    fn begin(&mut self, parameters: &[(String, String)]) -> bool {
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.session = Wire::connect_with(self.port, "", &parameters).ok();
        self.session.is_some()
    }

    fn play(&mut self, turn: &Turn) -> Answer {
        let Some(wire) = &mut self.session else { return Answer { messages: Vec::new(), closed: true } };
        wire.received.clear();
        let closed = turn.play(wire).is_err();
        let messages = replay::comparable(&wire.received);
        if closed {
            self.session = None;
        }
        Answer { messages, closed }
    }

    /// Runs a turn as the superuser, beside the session.
    fn play_beside(&mut self, search_path: &str, turn: &Turn) -> Result<()> {
        self.beside.simple(&format!("SELECT set_config('search_path', $path${search_path}$path$, false)"))?;
        if turn.play(&mut self.beside).is_err() {
            self.beside = superuser(&self.server)?;
        }
        self.beside.simple("ROLLBACK")?;
        self.beside.received.clear();
        Ok(())
    }
}

/// What came of a file, or of several.
#[derive(Default)]
struct Tally {
    statements: usize,
    refused: BTreeMap<String, usize>,
    /// Statements of a user that the session was refused to become, and such as name what has another name on each server.
    skipped: usize,
    /// Statements whose answer differs without the gate, too.
    unsteady: usize,
    differences: BTreeMap<Place, String>,
}

/// A mode's three servers.
struct Run {
    mode: Mode,
    direct: [Side; 2],
    through: Side,
    gate: Gate,
    /// Servers number objects each in its own way: one more where another connection was the first to need a temporary schema.
    oids: Oids,
}

impl Run {
    fn start(mode: Mode, home: &Path) -> Result<Self> {
        let server = || -> Result<Server> {
            let server = Server::start(&options())?;
            set_up(&server, home)?;
            Ok(server)
        };
        let (one, two, three) = (server()?, server()?, server()?);
        let spec = format!("mode: {mode:?}\n{EVERYTHING}");
        let gate = Gate::start(&GateOptions::new(&three, DATABASE, ADMIN, &spec))?;
        let (port, other) = (one.port(), two.port());
        let direct = [Side::new(one, port)?, Side::new(two, other)?];
        let through = Side::new(three, gate.port())?;
        Ok(Self { mode, direct, through, gate, oids: Oids::default() })
    }

    fn sides(&mut self) -> [&mut Side; 3] {
        let [one, two] = &mut self.direct;
        [one, two, &mut self.through]
    }

    fn file(&mut self, file: &str, sessions: &[Vec<Value>]) -> Result<Tally> {
        let mut tally = Tally::default();
        for session in sessions {
            let recorded = session[0]["startup"].as_object().context("no startup")?;
            // The identity's role is the gate's to choose, whatever user a client names: so it is the same for all.
            let parameters = recorded.iter().filter(|(name, _)| *name != "user");
            let mut parameters: Vec<(String, String)> =
                parameters.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
            parameters.extend([("user".to_owned(), ADMIN.to_owned()), ("role".to_owned(), ADMIN.to_owned())]);
            for side in self.sides() {
                side.end()?;
            }
            if !self.through.begin(&parameters) {
                *tally.refused.entry("session".to_owned()).or_default() += 1;
                continue;
            }
            self.direct.iter_mut().for_each(|side| _ = side.begin(&parameters));
            let mut is_the_user = true;
            for turn in replay::turns(session) {
                if names_what_is_elsewhere(&turn) {
                    tally.skipped += 1;
                } else if is_the_user || changes_user(&turn) {
                    is_the_user = self.turn(file, &turn, &mut tally)?.as_deref() != Some("role");
                } else {
                    tally.skipped += 1;
                }
            }
        }
        Ok(tally)
    }

    /// Plays a turn on all sides; the reason, where the gate refuses.
    fn turn(&mut self, file: &str, turn: &Turn, tally: &mut Tally) -> Result<Option<String>> {
        let (mode, sql) = (self.mode, turn.sql().join("; "));
        let differs = |tally: &mut Tally, what: String| {
            if std::env::var_os("POSTERN_SHOW").is_some() {
                _ = writeln!(std::io::stderr(), "{mode:?} {file}: {sql}\n{what}");
            }
            tally.differences.entry((file.to_owned(), one_line(&sql))).or_insert(what);
        };
        tally.statements += 1;
        let got = self.through.play(turn);
        let Some((reason, said)) = got.refusal() else {
            let [one, two] = self.direct.each_mut().map(|side| side.play(turn));
            let same = if one == two {
                got.is(&one, mode == Mode::Enforce, &mut self.oids)
            } else {
                tally.unsteady += 1;
                [one.shape(), two.shape()].contains(&got.shape())
            };
            if !same {
                differs(tally, format!("    direct:{}\n    gate:{}", shown(&one, &got), shown(&got, &one)));
            }
            return Ok(None);
        };
        if std::env::var_os("POSTERN_SHOW").is_some() {
            writeln!(std::io::stderr(), "{:?} {file}: refused: {reason}: {said}: {}", self.mode, one_line(&sql))?;
        }
        if !self.mode.reasons().contains(&reason.as_str()) {
            differs(tally, format!("    refused: {reason}: {said}"));
        }
        let failing = Turn { head: vec![json!({"query": FAILING})], copies: Vec::new() };
        let [one, _] = self.direct.each_mut().map(|side| side.play(&failing));
        if one.status() != got.status() {
            differs(tally, format!("    after it direct: {:?}, gate: {:?}", one.status(), got.status()));
        }
        let lasts = !matches!(reason.as_str(), "role" | "setting");
        if self.mode == Mode::Enforce && lasts && got.status() == Some(b'I') {
            self.beside(turn)?;
        }
        *tally.refused.entry(reason.clone()).or_default() += 1;
        Ok(Some(reason))
    }

    /// Has the superuser run a turn on each server, and the gate take note.
    fn beside(&mut self, turn: &Turn) -> Result<()> {
        let ask = Turn { head: vec![json!({"query": "SHOW search_path"})], copies: Vec::new() };
        let path = self.direct[0].play(&ask);
        let path = wire::rows(&path.messages).concat().concat();
        for side in self.sides() {
            side.play_beside(&path, turn)?;
        }
        let tick = format!("COMMENT ON SCHEMA {TICK} IS 'something changed'");
        for side in &mut self.direct {
            side.beside.simple(&tick)?;
        }
        // DDL through the gate makes it look at the catalog before it decides the next statement.
        let mut ticking = Wire::connect(self.gate.port(), "tick", "", DATABASE)?;
        ticking.simple(&tick)?;
        ticking.simple("SELECT 1")?;
        Ok(())
    }
}

/// Whether a turn is about who the session's user is.
fn changes_user(turn: &Turn) -> bool {
    let sql = turn.sql().join(";").to_lowercase();
    let words: Vec<&str> = sql.split_whitespace().filter(|word| !matches!(*word, "local" | "session")).collect();
    matches!(words.as_slice(), ["set" | "reset", what, ..] if what.starts_with("role") || what.starts_with("authorization"))
        || sql.trim_start().starts_with("discard all")
}

/// Whether a turn names what has another name on each server: the OID of a user's object, as psql's `\d` does, or the schema
/// of a session's temporary relations.
fn names_what_is_elsewhere(turn: &Turn) -> bool {
    let is_oid = |word: &str| word.parse::<u32>().is_ok_and(|oid| oid >= 16_384);
    turn.sql().iter().any(|sql| {
        let names_oid = sql.contains("pg_catalog.") && sql.split('\'').skip(1).step_by(2).any(is_oid);
        names_oid || sql.split("pg_temp_").skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    })
}

/// The messages of an answer from where it differs from another on.
fn shown(answer: &Answer, other: &Answer) -> String {
    let at = answer.messages.iter().zip(&other.messages).take_while(|(a, b)| a == b).count();
    let mut text: String = answer.messages[at..].iter().map(|message| format!("\n      {message:?}")).collect();
    if text.len() > 1200 {
        text.truncate((0..1200).rev().find(|at| text.is_char_boundary(*at)).unwrap());
        text.push('…');
    }
    if answer.closed {
        text.push_str("\n      closed");
    }
    text
}

/// Runs these files in these modes; what is wrong.
fn run(suite: &Path, files: &[String], modes: &[Mode]) -> Result<String> {
    let home = home(suite)?;
    let recorder = Recorder::start(home.port())?;
    let mut recorded = BTreeMap::new();
    for file in files {
        psql(home.bin(), recorder.port(), home.socket_folder(), file)?;
        recorded.insert(file, recorder.take()?);
    }
    let mut wrong = String::new();
    let mut err = std::io::stderr();
    for &mode in modes {
        let mut run = Run::start(mode, home.socket_folder())?;
        let mut differences = BTreeMap::new();
        writeln!(
            err,
            "\n{:<24}{:>11}{:>9}{:>9}{:>9}{:>8}{:>8}",
            format!("{mode:?}: file"),
            "statements",
            "refused",
            "skipped",
            "unsteady",
            "differ",
            "s"
        )?;
        let mut reasons = BTreeMap::<String, usize>::new();
        let mut total = [0; 4];
        for file in files {
            let began = Instant::now();
            let mut tally = run.file(file, &recorded[file]).with_context(|| format!("{mode:?}: {file}"))?;
            let refused: usize = tally.refused.values().sum();
            let Tally { statements, skipped, unsteady, .. } = tally;
            let differ = tally.differences.len();
            let took = began.elapsed().as_secs_f32();
            writeln!(err, "{file:<24}{statements:>11}{refused:>9}{skipped:>9}{unsteady:>9}{differ:>8}{took:>8.1}")?;
            for (sum, count) in total.iter_mut().zip([statements, refused, skipped, unsteady]) {
                *sum += count;
            }
            differences.append(&mut tally.differences);
            tally.refused.into_iter().for_each(|(reason, count)| *reasons.entry(reason).or_default() += count);
        }
        let [statements, refused, skipped, unsteady] = total;
        let differ = differences.len();
        writeln!(err, "{:<24}{statements:>11}{refused:>9}{skipped:>9}{unsteady:>9}{differ:>8}", "all")?;
        writeln!(err, "refused by reason: {reasons:?}")?;
        let ran: BTreeSet<String> = files.iter().cloned().collect();
        let explained = Explained::read(&format!("postgres/{}.txt", format!("{mode:?}").to_lowercase()));
        let unexplained = explained.wrong(&ran, &differences);
        if !unexplained.is_empty() {
            writeln!(wrong, "{mode:?}:\n{unexplained}")?;
        }
    }
    Ok(wrong)
}

#[test]
fn a_sample_of_postgres_own_tests_answers_as_directly() {
    answers_as_directly(&[Mode::Audit, Mode::Enforce], Some(&SAMPLE));
}

#[test]
#[ignore = "long: run by `make test-all`"]
fn all_of_postgres_own_tests_answer_as_directly_in_mode_audit() {
    answers_as_directly(&[Mode::Audit], None);
}

#[test]
#[ignore = "long: run by `make test-all`"]
fn all_of_postgres_own_tests_answer_as_directly_in_mode_enforce() {
    answers_as_directly(&[Mode::Enforce], None);
}

/// Runs the files that `POSTERN_FILES` names, or these, or all.
fn answers_as_directly(modes: &[Mode], files: Option<&[&str]>) {
    let Some(suite) = suite().unwrap() else { return };
    let all = schedule(&suite).unwrap();
    let files: Vec<String> = match (std::env::var("POSTERN_FILES"), files) {
        (Ok(files), _) => files.split(',').map(str::to_owned).collect(),
        (Err(_), Some(files)) => files.iter().map(|file| (*file).to_owned()).collect(),
        (Err(_), None) => {
            let enforced = modes.contains(&Mode::Enforce);
            all.iter().filter(|file| !(enforced && AUDIT_ONLY.contains(&file.as_str()))).cloned().collect()
        }
    };
    eprintln!("PostgreSQL's own tests: {} of {} files, the others left out", files.len(), all.len());
    let wrong = run(&suite, &files, modes).unwrap();
    assert!(wrong.is_empty(), "{wrong}");
}
