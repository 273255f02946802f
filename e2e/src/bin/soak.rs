//! `make soak`: clients of several kinds against one gate for ten minutes, while faults are brought about at random. At
//! the end the gate must not use more memory, descriptors or connections to the server than after its warm-up, no raw
//! value may have been seen, and no session may have ended that no fault explains.
//!
//! `SOAK_SECONDS` and `SOAK_SEED` (the one that is printed) in the environment change length and course.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_e2e::gate::{Gate, GateOptions, policy};
use postern_e2e::postgres::{ADMIN, Server, ServerOptions, clean_environment};
use postern_e2e::process::Process;
use postern_e2e::random::Random;
use postern_e2e::wire::{self, Format, Message, Wire, error, query};

/// What no client may ever see.
const MARKER: &str = "RAW-CARD";
/// Clients that speak the protocol themselves.
const WIRE_CLIENTS: u64 = 8;
/// How long after a fault of the server is over sessions may still end or be refused by it.
const AFTERMATH: Duration = Duration::from_secs(20);
/// How long sessions may take to work again after a fault, and clients to come to rest, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Memory that may come and go: caches that breathe, pages that the allocator keeps.
const SLACK: u64 = 4 << 20;
/// Threads for work that would hold others up come and go.
const SLACK_OF_THREADS: u64 = 8;

/// A default is shown as it was written: the marker stands in values only.
const SCHEMA: &str = "
    CREATE TABLE t (a int PRIMARY KEY, b text, card text DEFAULT 'RAW-' || 'CARD');
    INSERT INTO t SELECT n, 'b' || n FROM generate_series(1, 5000) n;
    CREATE TABLE notes (id bigserial PRIMARY KEY, note text, card text DEFAULT 'RAW-' || 'CARD');
";

const SPEC: &str = "\
masks: [{columns: ['public.*.card'], mask: {redact: {}}}]
bulkExport: {action: Allow}
recording: {statements: Full, parameters: Hash}
rules:
- {name: all, to: {groups: [apps]}, allow: [Select, Insert, Update, Delete, Truncate, CopyIn, CopyOut, Temp], relations: ['public.*']}";

/// What the gate uses.
struct Usage {
    resident: u64,
    peak: u64,
    descriptors: usize,
    threads: u64,
    /// Connections to the server, the catalog's aside.
    upstream: usize,
}

/// What all threads share.
struct World {
    server: Server,
    gate: Gate,
    database: String,
    over: AtomicBool,
    /// Clients stand still, to be measured against.
    pause: AtomicBool,
    busy: AtomicUsize,
    /// When the server was last hurt.
    hurt: Mutex<Option<Instant>>,
    counts: Mutex<BTreeMap<String, u64>>,
    /// What nothing explains, and how often it was.
    wrong: Mutex<BTreeMap<String, u64>>,
    /// Keys of sessions that are open, for cancel requests.
    keys: Mutex<Vec<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn count(&self, what: &str) {
        *lock(&self.counts).entry(what.to_owned()).or_default() += 1;
    }

    fn wrong(&self, what: String) {
        let mut wrong = lock(&self.wrong);
        if !wrong.contains_key(&what) {
            println!("!! {what}");
        }
        *wrong.entry(what).or_default() += 1;
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether a fault of the server explains that sessions end.
    fn is_hurt(&self) -> bool {
        lock(&self.hurt).is_some_and(|at| at.elapsed() < AFTERMATH)
    }

    fn hurt(&self) {
        *lock(&self.hurt) = Some(Instant::now());
    }

    /// One piece of work after the other until it is over, none while clients are to stand still.
    fn work(&self, mut piece: impl FnMut()) {
        while !self.is_over() {
            if self.pause.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            self.busy.fetch_add(1, Ordering::SeqCst);
            if !self.pause.load(Ordering::SeqCst) {
                piece();
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Connections to the server by name: those of sessions, or the catalog's.
    fn connections(&self, names: &str) -> Result<usize> {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '{names}'");
        Ok(self.server.psql("postgres", &sql)?.trim().parse()?)
    }

    /// Connections to the server, the catalog's aside.
    fn upstream(&self) -> Result<usize> {
        self.connections("postern/test/%")
    }

    /// What the gate uses while nobody is connected.
    fn at_rest(&self) -> Result<Usage> {
        self.pause.store(true, Ordering::SeqCst);
        let until = Instant::now() + PATIENCE;
        let is_at_rest = || -> Result<bool> {
            let is_idle = self.busy.load(Ordering::SeqCst) == 0;
            Ok(is_idle && self.upstream()? == 0 && self.connections("postern/catalog")? == 1)
        };
        while !is_at_rest()? {
            ensure!(Instant::now() < until, "clients or their sessions did not come to an end");
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_secs(3));
        let process = self.gate.process()?;
        let found = Usage {
            resident: process.resident()?,
            peak: process.peak()?,
            descriptors: process.descriptors()?,
            threads: process.threads()?,
            upstream: self.upstream()?,
        };
        self.pause.store(false, Ordering::SeqCst);
        Ok(found)
    }
}

// --- clients ----------------------------------------------------------------------------------------------------------

/// A session of some steps, that ends in one way or another.
fn session(world: &World, random: &mut Random) {
    let mut wire = match Wire::connect(world.gate.port(), "anyone", "", &world.database) {
        Ok(wire) => wire,
        Err(error) => {
            world.count("sessions that were refused");
            if !world.is_hurt() {
                world.wrong(format!("refused, and no fault explains it: {error:#}"));
            }
            std::thread::sleep(Duration::from_millis(200));
            return;
        }
    };
    world.count("sessions");
    let key = wire.received.iter().find(|message| message.tag == b'K').map(|key| key.body.clone());
    if let Some(key) = &key {
        lock(&world.keys).push(key.clone());
    }
    for _ in 0..=random.below(20) {
        let result = step(world, &mut wire, random);
        if let Some(message) = wire.received.iter().find(|message| format!("{message:?}").contains(MARKER)) {
            world.wrong(format!("a raw value was seen: {message:?}"));
        }
        wire.received.clear();
        if let Err(error) = result {
            world.count("sessions that were cut off");
            if !world.is_hurt() {
                world.wrong(format!("cut off, and no fault explains it: {error:#}"));
            }
            break;
        }
        world.count("statements");
    }
    lock(&world.keys).retain(|other| Some(other) != key.as_ref());
    match random.below(4) {
        0 => wire.vanish(),
        1 => {
            // Gone in the middle of rows, or of a COPY.
            let sql = ["SELECT repeat('x', 500), generate_series(1, 1000000)", "COPY notes (note) FROM STDIN"];
            let chosen = *random.pick(&sql);
            if wire.send(&query(chosen)).and_then(|()| wire.read().map(drop)).is_ok() {
                _ = wire.send(&wire::frame(b'd', b"half a row"));
            }
            wire.vanish();
        }
        2 if random.below(5) == 0 => {
            _ = wire.send(&random.bytes(100));
            wire.vanish();
        }
        _ => drop(wire),
    }
}

/// The answer holds no error, or one of those that may be.
fn answered(messages: &[Message], may_be: &[&str]) -> Result<()> {
    let Some(found) = error(messages) else { return Ok(()) };
    let code = found.sqlstate().unwrap_or_default();
    // A cancel of the storm, a plan whose columns changed, a column that is gone for a moment.
    let explained = ["57014", "0A000", "42703", "25P02"].contains(&code.as_str()) || may_be.contains(&code.as_str());
    ensure!(explained, "{:?}", found.fields());
    Ok(())
}

fn step(world: &World, wire: &mut Wire, random: &mut Random) -> Result<()> {
    let n = random.below(5000);
    match random.below(10) {
        0 => answered(&wire.simple(&format!("SELECT a, b, card FROM t WHERE a = {n}"))?, &[]),
        1 => answered(&wire.extended("SELECT * FROM t ORDER BY a LIMIT 50", Format::Binary)?, &[]),
        2 => {
            let sql = "SELECT a, to_jsonb(t) FROM t WHERE a = $1::int";
            answered(&wire.extended_with(sql, &[Some(n.to_string().as_bytes())], Format::Text)?, &[])
        }
        3 => answered(&wire.simple(&format!("BEGIN; INSERT INTO notes (note) VALUES ('{n}'); COMMIT"))?, &[]),
        4 => answered(&wire.simple(&format!("UPDATE t SET b = 'c{n}', card = card WHERE a = {n}"))?, &["40P01"]),
        5 => answered(&wire.copy_in("COPY notes (note) FROM STDIN", format!("{n}\n").repeat(100).as_bytes())?, &[]),
        6 => answered(&wire.simple("COPY (SELECT * FROM t WHERE a < 500) TO STDOUT")?, &[]),
        7 => {
            let messages =
                wire.simple(if n.is_multiple_of(2) { "DROP TABLE t" } else { "SELECT pg_read_file('x')" })?;
            ensure!(error(&messages).is_some(), "what no rule allows was allowed");
            answered(&messages, &["42501"])
        }
        8 => answered(&wire.simple(&format!("CREATE TEMP TABLE IF NOT EXISTS mine AS SELECT {n} AS n"))?, &[]),
        _ => {
            world.count("pipelines");
            let one = [
                wire::parse("", &format!("SELECT b FROM t WHERE a = {n}")),
                wire::bind("", "", &[], Format::Text),
                wire::execute("", 0),
            ];
            wire.send(&[one.concat().repeat(20), wire::sync()].concat())?;
            answered(&wire.until_ready()?, &[])
        }
    }
}

/// A program that comes with Postgres, through the gate.
fn program(world: &World, name: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("timeout");
    command.arg("60").arg(world.server.bin().join(name)).args(arguments);
    clean_environment(&mut command);
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", world.gate.port().to_string())
        .env("PGUSER", "anyone")
        .env("PGDATABASE", &world.database)
        .stdin(Stdio::null());
    let output = command.output().with_context(|| name.to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(!text.contains(MARKER), "a raw value was seen by {name}: {text}");
    if output.status.success() {
        world.count(name);
        return Ok(());
    }
    world.count(&format!("{name}, cut off"));
    ensure!(world.is_hurt() || text.contains("canceling statement"), "{name}: {text}");
    Ok(())
}

fn psql(world: &World) -> Result<()> {
    let sql = "\\d t\nTABLE t LIMIT 3; SELECT count(*), max(card) FROM t; BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; \
               FETCH 10 FROM c; COMMIT;";
    let file = world.gate.folder().join("soak.sql");
    fs::write(&file, sql)?;
    program(world, "psql", &["-X", "-q", "-f", &file.display().to_string()])
}

fn pgbench(world: &World, random: &mut Random) -> Result<()> {
    let mode = *random.pick(&["simple", "extended", "prepared"]);
    program(world, "pgbench", &["-n", "-M", mode, "-c", "4", "-T", "4"])
}

// --- faults -----------------------------------------------------------------------------------------------------------

/// Brings one about; its name.
fn fault(world: &World, random: &mut Random) -> Result<&'static str> {
    let World { server, gate, database, .. } = world;
    match random.below(12) {
        0 => {
            world.hurt();
            let how = *random.pick(&["INT", "QUIT"]);
            server.halt(how)?;
            std::thread::sleep(Duration::from_millis(random.below(2000) as u64));
            server.start_again()?;
            Ok("server restarted")
        }
        1 => {
            let sql = "SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE application_name LIKE 'postern/test/%'";
            let backend = server.psql("postgres", sql)?.trim().parse::<u32>()?;
            if backend > 0 {
                world.hurt();
                // It may have ended since.
                _ = Process::new(backend).signal("KILL");
            }
            Ok("process of the server killed")
        }
        2 => {
            world.hurt();
            let sql =
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'postern/%'";
            server.psql("postgres", sql)?;
            Ok("all sessions ended by the server, the catalog's too")
        }
        3 | 4 => {
            let mask = ["redact: {}", "nullify: {}", "partial: {keepLast: 1}", "default: {}"];
            let mask = *random.pick(&mask);
            gate.write_policy(&policy(server, database, &SPEC.replace("redact: {}", mask)))?;
            Ok("policy swapped")
        }
        5 => {
            gate.write_policy(&String::from_utf8_lossy(&random.bytes(2000)))?;
            Ok("policy replaced by rubbish")
        }
        6 | 7 => {
            let sql = "ALTER TABLE t ADD COLUMN IF NOT EXISTS more int; ALTER TABLE t DROP COLUMN IF EXISTS more;
                       CREATE TABLE IF NOT EXISTS passing (card text); DROP TABLE passing; TRUNCATE notes;";
            server.psql(database, sql)?;
            Ok("catalog changed")
        }
        8 => {
            let audit = gate.folder().join("audit.jsonl");
            fs::rename(&audit, audit.with_extension("1"))?;
            Ok("audit rotated")
        }
        9 => {
            let keys = lock(&world.keys).clone();
            for _ in 0..100 {
                let mut key = random.bytes(8);
                if let Some(known) = keys.get(random.below(keys.len())).filter(|_| random.below(2) == 0) {
                    key.clone_from(known);
                }
                let mut socket = TcpStream::connect(("127.0.0.1", gate.port()))?;
                // The gate may have closed it by then.
                _ = socket.write_all(&wire::cancel_request(&key));
            }
            Ok("cancel storm")
        }
        10 => {
            let silent: Result<Vec<_>, _> = (0..600).map(|_| TcpStream::connect(("127.0.0.1", gate.port()))).collect();
            std::thread::sleep(Duration::from_millis(random.below(1500) as u64));
            drop(silent?);
            Ok("silent crowd")
        }
        _ => {
            for size in [100, 10_000] {
                let mut socket = TcpStream::connect(("127.0.0.1", gate.port()))?;
                _ = socket.write_all(&random.bytes(size));
            }
            Ok("garbage")
        }
    }
}

fn faults(world: &World, seed: u64) {
    let mut random = Random::new(seed);
    while !world.is_over() {
        std::thread::sleep(Duration::from_millis(1000 + random.below(3000) as u64));
        if world.is_over() || world.pause.load(Ordering::SeqCst) {
            continue;
        }
        world.busy.fetch_add(1, Ordering::SeqCst);
        match fault(world, &mut random) {
            Ok(name) => world.count(&format!("fault: {name}")),
            // The server of the fault before is on its way up.
            Err(_) if world.is_hurt() => world.count("faults that came in the aftermath of another"),
            Err(error) => world.wrong(format!("a fault could not be brought about: {error:#}")),
        }
        let until = Instant::now() + PATIENCE;
        let works = || -> Result<()> {
            let mut wire = Wire::connect(world.gate.port(), "anyone", "", &world.database)?;
            let messages = wire.simple("SELECT card FROM t WHERE a = 1")?;
            ensure!(error(&messages).is_none(), "{messages:?}");
            Ok(())
        };
        while let Err(error) = works() {
            if Instant::now() > until {
                world.wrong(format!("after a fault no session works: {error:#}"));
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // What was under way when it was over may still learn of it.
        if world.is_hurt() {
            world.hurt();
        }
        world.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

// --- the run ----------------------------------------------------------------------------------------------------------

fn set_up() -> Result<World> {
    let server = Server::start(&ServerOptions::default())?;
    let database = server.database_with(SCHEMA)?.name;
    let made = server.program("pgbench").args(["-i", "-q", "-U", ADMIN, &database]).output()?;
    ensure!(made.status.success(), "pgbench -i: {}", String::from_utf8_lossy(&made.stderr));
    // A small cache is full soon: what it holds is no growth.
    let arguments = ["--catalog-refresh", "2s", "--cache-memory", "2Mi", "--log", "warn"];
    let gate = Gate::start(&GateOptions::new(&server, &database, ADMIN, SPEC).arguments(arguments))?;
    Ok(World {
        server,
        gate,
        database,
        over: AtomicBool::new(false),
        pause: AtomicBool::new(false),
        busy: AtomicUsize::new(0),
        hurt: Mutex::default(),
        counts: Mutex::default(),
        wrong: Mutex::default(),
        keys: Mutex::default(),
    })
}

/// What the gate used at rest, in one line.
fn line(at: &str, usage: &Usage) -> String {
    let Usage { resident, peak, descriptors, threads, upstream } = usage;
    let (resident, peak) = (resident >> 10, peak >> 10);
    format!("| {at:<12} | {resident:>9} | {peak:>9} | {descriptors:>11} | {threads:>7} | {upstream:>8} |")
}

/// Measures at rest: after the warm-up, at times, and at the end.
fn watch(world: &World, length: Duration, found: &mut Vec<(String, Usage)>) -> Result<()> {
    let began = Instant::now();
    let parts = 5;
    for part in 1..=parts {
        let until = length * part / parts;
        while began.elapsed() < until {
            std::thread::sleep(Duration::from_secs(10).min(until.saturating_sub(began.elapsed())));
            let process = world.gate.process()?;
            let counts = lock(&world.counts);
            let count = |name: &str| counts.get(name).copied().unwrap_or(0);
            println!(
                "{:>4} s  {} sessions, {} statements, {} refused, {} cut off, {} wrong; {} KiB, {} descriptors",
                began.elapsed().as_secs(),
                count("sessions"),
                count("statements"),
                count("sessions that were refused"),
                count("sessions that were cut off"),
                lock(&world.wrong).values().sum::<u64>(),
                process.resident()? >> 10,
                process.descriptors()?,
            );
        }
        let at = if part == 1 { "after warm-up".into() } else { format!("at {} s", began.elapsed().as_secs()) };
        let rest = world.at_rest()?;
        println!("{}", line(&at, &rest));
        found.push((at, rest));
    }
    Ok(())
}

/// Prints what was done and measured, and holds that nothing has grown.
fn report(world: &World, found: &[(String, Usage)]) {
    println!("\n| what                                                       |     times |");
    for (what, count) in &*lock(&world.counts) {
        println!("| {what:<58} | {count:>9} |");
    }
    println!("\n| gate at rest | RSS (KiB) | peak      | descriptors | threads | upstream |");
    for (at, rest) in found {
        println!("{}", line(at, rest));
    }
    let [(_, first), .., (_, last)] = found else { return world.wrong("too little was measured".into()) };
    let grown = last.resident.saturating_sub(first.resident);
    if grown > SLACK {
        world.wrong(format!("memory has grown by {} KiB", grown >> 10));
    }
    if last.descriptors > first.descriptors {
        world.wrong(format!("{} descriptors are left over", last.descriptors - first.descriptors));
    }
    if last.threads > first.threads + SLACK_OF_THREADS {
        world.wrong(format!("{} threads are left over", last.threads - first.threads));
    }
    if last.upstream > 0 {
        world.wrong(format!("{} connections to the server are left over", last.upstream));
    }
}

fn run(length: Duration, seed: u64) -> Result<()> {
    println!("soak: {} s, seed {seed} (SOAK_SECONDS, SOAK_SEED)", length.as_secs());
    let world = set_up()?;
    let mut found = Vec::new();
    std::thread::scope(|scope| {
        let world = &world;
        for number in 0..WIRE_CLIENTS {
            scope.spawn(move || {
                let mut random = Random::new(seed ^ number << 32);
                world.work(|| session(world, &mut random));
            });
        }
        let tell = |result: Result<()>| {
            if let Err(error) = result {
                world.wrong(format!("{error:#}"));
            }
        };
        scope.spawn(move || world.work(|| tell(psql(world))));
        scope.spawn(move || {
            let mut random = Random::new(seed);
            world.work(|| tell(pgbench(world, &mut random)));
        });
        scope.spawn(move || faults(world, seed));
        tell(watch(world, length, &mut found));
        world.over.store(true, Ordering::Relaxed);
    });
    report(&world, &found);
    let log = world.gate.log();
    let status = world.gate.stop()?;
    if status != Some(0) {
        world.wrong(format!("the gate ended with {status:?}"));
    }
    let wrong = lock(&world.wrong);
    if wrong.is_empty() {
        return Ok(());
    }
    let last: Vec<&str> = log.lines().rev().take(20).collect();
    println!("\nthe gate's last words:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    let lines = wrong.iter().map(|(what, times)| format!("{times} times: {what}"));
    Err(anyhow!("{} things went wrong\n{}", wrong.len(), lines.collect::<Vec<_>>().join("\n")))
}

fn number(name: &str, otherwise: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(otherwise), |text| text.parse().with_context(|| format!("{name}={text}")))
}

fn main() -> ExitCode {
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    let asked = number("SOAK_SECONDS", 600).and_then(|length| Ok((length, number("SOAK_SEED", seed)?)));
    match asked.and_then(|(length, seed)| run(Duration::from_secs(length), seed)) {
        Ok(()) => {
            println!("\nno growth, nothing unexplained");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
