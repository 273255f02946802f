//! `make bench`: what a statement, a row and a session cost through the gate, held against PgBouncer and no proxy.
//!
//! The three run on this machine, in turns within each round, so that what else goes on hits them alike. All of them send
//! the same SQL to the server: the two that mask nothing are given what the gate makes of it. Words on the command line
//! choose the workloads whose name holds them all; `BENCH_SECONDS` and `BENCH_ROUNDS` say how long.

mod figure;
mod pgbench;
mod picture;
mod report;
mod stand;
mod workloads;

use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::figure::Figure;
use crate::stand::Stand;
use crate::workloads::Workload;

/// How long things are measured, and which.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Of each measurement.
    pub(crate) seconds: u32,
    /// How often each contender's turn comes.
    pub(crate) rounds: usize,
    /// Words that a workload's name must hold.
    words: Vec<String>,
}

impl Settings {
    fn read() -> Result<Self> {
        let words: Vec<String> = std::env::args().skip(1).map(|word| word.to_lowercase()).collect();
        Ok(Self { seconds: variable("BENCH_SECONDS", 3)?, rounds: variable("BENCH_ROUNDS", 5)?, words })
    }

    fn wants(&self, workload: &Workload) -> bool {
        let name = workload.name.to_lowercase();
        self.words.iter().all(|word| name.contains(word))
    }
}

fn variable<T: FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}: {text:?} is no number")),
        Err(_) => Ok(default),
    }
}

fn main() -> Result<()> {
    let settings = Settings::read()?;
    let start = Instant::now();
    let machine = postern_e2e::report::machine()?;
    println!("… starting Postgres, PgBouncer and the gate");
    let stand = Stand::start()?;
    let workloads: Vec<Workload> = workloads::all().into_iter().filter(|workload| settings.wants(workload)).collect();
    ensure!(!workloads.is_empty(), "no workload is named so; without words all of them run");

    let mut figures = Vec::new();
    for (at, workload) in workloads.iter().enumerate() {
        println!("[{}/{}] {}", at + 1, workloads.len(), workload.name);
        figures.extend(measure(&stand, workload, &settings).with_context(|| workload.name.clone())?);
    }
    report::print(&figures);
    println!("{} workloads in {} s", workloads.len(), start.elapsed().as_secs());
    // Part of it would replace all of it.
    if settings.words.is_empty() {
        report::write(postern_e2e::workspace(), machine, &stand, &settings, &figures)?;
        println!("written to docs/bench and README.md");
    }
    Ok(())
}

/// Each contender's turn in each round; who begins changes from round to round.
fn measure(stand: &Stand, workload: &Workload, settings: &Settings) -> Result<Vec<Figure>> {
    stand.provide(workload.data)?;
    let mut figures = workload.figures();
    for round in 0..settings.rounds {
        let mut turns = workload.contenders.clone();
        let first = round % turns.len();
        turns.rotate_left(first);
        for contender in turns {
            let values = (workload.run)(stand, contender, settings).with_context(|| contender.to_string())?;
            for (figure, value) in figures.iter_mut().zip(values) {
                figure.add(contender, value);
            }
        }
        let shown: Vec<String> = figures.iter().map(|figure| figure.round(round)).collect();
        println!("    round {}/{}: {}", round + 1, settings.rounds, shown.join(" | "));
    }
    Ok(figures)
}
