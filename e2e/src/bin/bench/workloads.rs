//! The workloads, and what is to be reached in each.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use postern_e2e::gate::Gate;
use postern_e2e::process::Process;
use postern_e2e::wire::{self, Wire};

use crate::Settings;
use crate::figure::{Better, Contender, Figure, Goal, Kind};
use crate::pgbench::{Protocol, Run};
use crate::stand::{Data, PASSWORD, Stand, USER, Upstream};

/// Runs a contender's turn; the numbers in the order of the kinds.
type Turn = Box<dyn Fn(&Stand, Contender, &Settings) -> Result<Vec<f64>>>;

/// Something to measure.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) data: Data,
    kinds: Vec<Kind>,
    pub(crate) run: Turn,
}

impl Workload {
    /// Its figures, still without numbers.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        self.kinds.iter().map(|kind| Figure::new(&self.name, *kind)).collect()
    }
}

const THROUGHPUT: &str = "Throughput";
const CPU: &str = "CPU of the proxy";
const FIRST_ROW: &str = "First row";
const MEMORY: &str = "Memory of the proxy";
const MASKS: &str = "What masks cost the server";
const CATALOG: &str = "A database of 10,000 relations with 20 columns each";

const MIB: f64 = (1 << 20) as f64;

const KEY_SELECT: &str = "\\set id random(1, 100000)\nSELECT id, name, email, card FROM customers WHERE id = :id;";

const JOIN: &str = "\\set id random(1, 100000)\n\
    SELECT c.name, c.email, c.card, o.id, o.total, i.product, i.quantity FROM customers c \
    JOIN orders o ON o.customer = c.id JOIN items i ON i.parcel = o.id WHERE c.id = :id ORDER BY o.id;";

/// pgbench's own, which is built in and could not be masked for the others.
const TPC_B: &str =
    "\\set aid random(1, 1000000)\n\\set bid random(1, 10)\n\\set tid random(1, 100)\n\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;";

/// All of them, in the order in which they run.
pub(crate) fn all() -> Vec<Workload> {
    let mut workloads = Vec::new();
    for upstream in [Upstream::Plain, Upstream::Tls] {
        for protocol in Protocol::ALL {
            for clients in [1, 8] {
                workloads.push(pgbench(
                    "key select",
                    Data::Customers,
                    Run::new(KEY_SELECT, protocol, clients),
                    upstream,
                ));
            }
        }
    }
    for protocol in Protocol::ALL {
        workloads.push(pgbench("masked join", Data::Customers, Run::new(JOIN, protocol, 8), Upstream::Plain));
    }
    for protocol in [Protocol::Simple, Protocol::Prepared] {
        workloads.push(pgbench("TPC-B", Data::Pgbench, Run::new(TPC_B, protocol, 8), Upstream::Plain));
    }
    for upstream in [Upstream::Plain, Upstream::Tls] {
        workloads.push(connect(upstream));
    }
    for upstream in [Upstream::Plain, Upstream::Tls] {
        workloads.push(rows_out("rows out", "SELECT line FROM bulk", upstream));
        workloads.push(rows_out("COPY out", "COPY bulk TO STDOUT", upstream));
        workloads.push(copy_in(upstream));
    }
    workloads.push(memory(Upstream::Plain));
    workloads.push(memory(Upstream::Tls));
    for (mask, column) in [("partial", "card"), ("email", "email")] {
        workloads.push(mask_cost(&format!("{mask} mask, whole rows"), format!("id, name, city, {column}")));
        workloads.push(mask_cost(&format!("{mask} mask, the column alone"), column.to_owned()));
    }
    workloads.push(index_plan());
    workloads.push(large_catalog());
    workloads
}

fn named(what: &str, upstream: Upstream) -> String {
    match upstream {
        Upstream::Plain => what.to_owned(),
        Upstream::Tls => format!("{what}, upstream TLS"),
    }
}

fn more(section: &'static str, unit: &'static str, goal: Option<Goal>) -> Kind {
    Kind { section, unit, better: Better::More, goal }
}

fn less(section: &'static str, unit: &'static str, goal: Option<Goal>) -> Kind {
    Kind { section, unit, better: Better::Less, goal }
}

/// Transactions a second, and the proxies' CPU for 100,000 statements.
fn pgbench(what: &str, data: Data, run: Run, upstream: Upstream) -> Workload {
    let clients = if run.clients == 1 { "1 client".to_owned() } else { format!("{} clients", run.clients) };
    let cpu = (run.protocol != Protocol::Simple).then_some(Goal::OfPgBouncer(1.4));
    Workload {
        name: named(&format!("{what}, {}, {clients}", run.protocol.name()), upstream),
        contenders: Contender::ALL.to_vec(),
        data,
        kinds: vec![
            more(THROUGHPUT, "transactions/s", Some(Goal::OfPgBouncer(0.9))),
            less(CPU, "s per 100,000 statements", cpu),
        ],
        run: Box::new(move |stand, contender, settings| {
            let (outcome, cpu) =
                with_cpu(stand, contender, upstream, || run.run(stand, contender, upstream, settings.seconds))?;
            Ok(vec![outcome.rate, cpu / outcome.count / run.statements() * 100_000.0])
        }),
    }
}

/// Sessions that connect, ask one thing and end. PgBouncer keeps its connections to the server; the gate gives each
/// client one of its own.
fn connect(upstream: Upstream) -> Workload {
    let run = Run { reconnect: true, ..Run::new("SELECT 1;", Protocol::Simple, 4) };
    Workload {
        name: named("connect, 4 clients", upstream),
        contenders: Contender::ALL.to_vec(),
        data: Data::Customers,
        kinds: vec![more(THROUGHPUT, "sessions/s", None), less(CPU, "s per 100,000 sessions", None)],
        run: Box::new(move |stand, contender, settings| {
            let (outcome, cpu) =
                with_cpu(stand, contender, upstream, || run.run(stand, contender, upstream, settings.seconds))?;
            Ok(vec![outcome.rate, cpu / outcome.count * 100_000.0])
        }),
    }
}

/// Our own client speaks no TLS: there the proxies are held against each other.
fn streaming(upstream: Upstream) -> Vec<Contender> {
    match upstream {
        Upstream::Plain => Contender::ALL.to_vec(),
        Upstream::Tls => Contender::PROXIES.to_vec(),
    }
}

/// A million rows to the client; no mask is on them.
fn rows_out(what: &str, sql: &'static str, upstream: Upstream) -> Workload {
    Workload {
        name: named(what, upstream),
        contenders: streaming(upstream),
        data: Data::Bulk,
        kinds: vec![
            more(THROUGHPUT, "MB/s", Some(Goal::OfPgBouncer(0.95))),
            less(CPU, "s per GB", Some(Goal::Absolute(3.0))),
            less(FIRST_ROW, "ms", None),
            less(MEMORY, "MiB more while it streams", Some(Goal::Absolute(2.0))),
        ],
        run: Box::new(move |stand, contender, _| {
            let mut wire = stand.wire(contender, upstream)?;
            let process = stand.process(contender, upstream)?;
            let before = watch_memory(process.as_ref())?;
            let begun = Instant::now();
            let (drained, cpu) = with_cpu(stand, contender, upstream, || {
                wire.send(&wire::query(sql))?;
                wire.drain()
            })?;
            let seconds = begun.elapsed().as_secs_f64();
            ensure!(drained.rows == 1_000_000, "{} rows came", drained.rows);
            let first = drained.first_row.context("no row")?.duration_since(begun).as_secs_f64();
            let bytes = drained.bytes as f64;
            Ok(vec![bytes / 1e6 / seconds, cpu / bytes * 1e9, first * 1e3, growth(process.as_ref(), before)?])
        }),
    }
}

/// A million rows from the client.
fn copy_in(upstream: Upstream) -> Workload {
    const FRAMES: usize = 25_000;
    // As libpq's clients do: frames of 8 KiB.
    let line = format!("{}\n", ".".repeat(200));
    let chunk = wire::frame(b'd', line.repeat(40).as_bytes());
    Workload {
        name: named("COPY in", upstream),
        contenders: streaming(upstream),
        data: Data::Bulk,
        kinds: vec![
            more(THROUGHPUT, "MB/s", Some(Goal::OfPgBouncer(0.95))),
            less(CPU, "s per GB", Some(Goal::Absolute(3.0))),
            less(MEMORY, "MiB more while it streams", Some(Goal::Absolute(2.0))),
        ],
        run: Box::new(move |stand, contender, _| {
            stand.empty_sink()?;
            let mut wire = stand.wire(contender, upstream)?;
            let process = stand.process(contender, upstream)?;
            let before = watch_memory(process.as_ref())?;
            let begun = Instant::now();
            let (_, cpu) = with_cpu(stand, contender, upstream, || {
                wire.send(&wire::query("COPY sink FROM STDIN"))?;
                wire.until(b'G')?;
                for _ in 0..FRAMES {
                    wire.send(&chunk)?;
                }
                wire.send(&wire::frame(b'c', b""))?;
                wire.drain()
            })?;
            let seconds = begun.elapsed().as_secs_f64();
            let bytes = (chunk.len() * FRAMES) as f64;
            Ok(vec![bytes / 1e6 / seconds, cpu / bytes * 1e9, growth(process.as_ref(), before)?])
        }),
    }
}

/// New proxies: before anyone came, after a first session, which touches what of the program a session needs, and with a
/// hundred more sessions that wait.
fn memory(upstream: Upstream) -> Workload {
    const SESSIONS: usize = 100;
    Workload {
        name: named("idle", upstream),
        contenders: Contender::PROXIES.to_vec(),
        data: Data::Customers,
        kinds: vec![
            less(MEMORY, "MiB", Some(Goal::Absolute(12.0))),
            less(MEMORY, "MiB after a first session", None),
            less(MEMORY, "KiB more for each of 100 sessions", Some(Goal::Absolute(24.0))),
        ],
        run: Box::new(move |stand, contender, _| {
            let proxies = stand.new_proxies(upstream)?;
            let (process, port) = match contender {
                Contender::PgBouncer => (proxies.bouncer.process()?, proxies.bouncer.port()),
                _ => (proxies.gate.process()?, proxies.gate.port()),
            };
            settle();
            let idle = process.resident()?;
            let session = || {
                let mut wire = Wire::connect(port, USER, PASSWORD, stand.database())?;
                let answer = wire.simple("SELECT id, name, email, card FROM customers WHERE id = 7")?;
                ensure!(wire::error(&answer).is_none(), "{answer:?}");
                Ok(wire)
            };
            drop(session()?);
            settle();
            let after_first = process.resident()?;
            let sessions: Vec<Wire> = (0..SESSIONS).map(|_| session()).collect::<Result<_>>()?;
            settle();
            let more = process.resident()?.saturating_sub(after_first);
            drop(sessions);
            Ok(vec![idle as f64 / MIB, after_first as f64 / MIB, more as f64 / 1024.0 / SESSIONS as f64])
        }),
    }
}

/// Lets a process give back what it no longer needs.
fn settle() {
    std::thread::sleep(std::time::Duration::from_secs(2));
}

/// The same rows with and without the mask, straight from the server: what the expression itself costs.
fn mask_cost(name: &str, columns: String) -> Workload {
    Workload {
        name: name.to_owned(),
        contenders: vec![Contender::Direct],
        data: Data::Customers,
        kinds: vec![
            more(MASKS, "of the rows/s without it", Some(Goal::Absolute(0.8))),
            less(MASKS, "ns of the server's CPU for each row", None),
        ],
        run: Box::new(move |stand, contender, _| {
            let open = format!("SELECT {columns} FROM customers");
            let masked = stand.masked(&open)?;
            ensure!(open != masked, "nothing is masked in {open}");
            let mut wire = stand.wire(contender, Upstream::Plain)?;
            let server = Process::new(wire.backend()?);
            let mut read = |sql: &str| -> Result<(f64, f64)> {
                let (begun, cpu, mut rows) = (Instant::now(), server.cpu()?, 0);
                for _ in 0..10 {
                    wire.send(&wire::query(sql))?;
                    rows += wire.drain()?.rows;
                }
                Ok((rows as f64 / begun.elapsed().as_secs_f64(), (server.cpu()? - cpu).as_secs_f64() / rows as f64))
            };
            let ((open_rate, open_cpu), (masked_rate, masked_cpu)) = (read(&open)?, read(&masked)?);
            Ok(vec![masked_rate / open_rate, (masked_cpu - open_cpu) * 1e9])
        }),
    }
}

/// Whether the server still finds a masked row by its key.
fn index_plan() -> Workload {
    Workload {
        name: "masked select by key".to_owned(),
        contenders: vec![Contender::Direct],
        data: Data::Customers,
        kinds: vec![more(MASKS, "plans that are an index scan", Some(Goal::Absolute(1.0)))],
        run: Box::new(|stand, _, _| {
            let masked = stand.masked("SELECT id, name, email, card FROM customers WHERE id = 7")?;
            let plan = stand.server.psql(stand.database(), &format!("EXPLAIN (COSTS off) {masked}"))?;
            let kept = plan.starts_with("Index Scan using customers_pkey") && !plan.contains("Scan on");
            Ok(vec![f64::from(u8::from(kept))])
        }),
    }
}

/// A gate for a database with many relations, an email masked in each.
fn large_catalog() -> Workload {
    const STATEMENTS: u32 = 500;
    Workload {
        name: "large catalog".to_owned(),
        contenders: vec![Contender::Postern],
        data: Data::Customers,
        kinds: vec![
            less(CATALOG, "s from start to ready", None),
            less(CATALOG, "MiB", None),
            less(CATALOG, "MiB at most while it loads", None),
            less(CATALOG, "s until a new table is known", None),
            less(CATALOG, "MiB at most while it loads again", None),
            less(CATALOG, "ms to see that nothing is new", None),
            less(CATALOG, "µs to decide a new statement", None),
        ],
        run: Box::new(|stand, _, _| {
            let (database, options) = stand.large()?;
            let begun = Instant::now();
            let gate = Gate::start(&options)?;
            let ready = begun.elapsed().as_secs_f64();
            let process = gate.process()?;
            let load_peak = process.peak()?;
            settle();
            let resident = process.resident()?;
            let mut wire = Wire::connect(gate.port(), USER, PASSWORD, &database.name)?;

            let decided = decisions(&gate)?;
            for table in 1..=STATEMENTS {
                let sql = format!("SELECT id, email, c3 FROM t{} WHERE c3 = 1", table * 20);
                let answer = wire.simple(&sql)?;
                ensure!(wire::error(&answer).is_none(), "{answer:?}");
            }
            let (time, count) = decisions(&gate)?;
            let decision = (time - decided.0) / (count - decided.1);

            let begun = Instant::now();
            wire.simple("SELECT * FROM no_such_table")?;
            let look = begun.elapsed().as_secs_f64();

            process.forget_peak()?;
            stand.server.psql(&database.name, &format!("SET ROLE {USER}; CREATE TABLE fresh (id int)"))?;
            let begun = Instant::now();
            while wire::error(&wire.simple("SELECT * FROM fresh")?).is_some() {
                ensure!(begun.elapsed().as_secs() < 120, "the new table is not seen");
            }
            let refresh = begun.elapsed().as_secs_f64();
            let refresh_peak = process.peak()?;
            stand.server.psql(&database.name, "DROP TABLE fresh")?;
            let mib = |bytes: u64| bytes as f64 / MIB;
            Ok(vec![ready, mib(resident), mib(load_peak), refresh, mib(refresh_peak), look * 1e3, decision * 1e6])
        }),
    }
}

/// The time that decisions took so far, and how many there were.
fn decisions(gate: &Gate) -> Result<(f64, f64)> {
    let metrics = gate.metrics()?;
    let value = |name: &str| -> Result<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().parse()?)
    };
    Ok((value("postern_decision_seconds_sum ")?, value("postern_decision_seconds_count ")?))
}

/// Runs something, and tells how many seconds of CPU the contender's process took meanwhile; NaN if it has none.
fn with_cpu<T>(
    stand: &Stand,
    contender: Contender,
    upstream: Upstream,
    run: impl FnOnce() -> Result<T>,
) -> Result<(T, f64)> {
    let process = stand.process(contender, upstream)?;
    let cpu = || process.as_ref().map(Process::cpu).transpose();
    let before = cpu()?;
    let outcome = run()?;
    let seconds = before.zip(cpu()?).map_or(f64::NAN, |(before, after)| after.saturating_sub(before).as_secs_f64());
    stand.forget_audit()?;
    Ok((outcome, seconds))
}

/// Begins to watch the peak of memory; the bytes that are in it now.
fn watch_memory(process: Option<&Process>) -> Result<u64> {
    let Some(process) = process else { return Ok(0) };
    process.forget_peak()?;
    process.resident()
}

/// MiB by which memory has grown at most since it is watched; NaN without a process.
fn growth(process: Option<&Process>, before: u64) -> Result<f64> {
    Ok(match process {
        None => f64::NAN,
        Some(process) => process.peak()?.saturating_sub(before) as f64 / MIB,
    })
}
