//! pgbench as the client: scripts, and what comes of them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::figure::Contender;
use crate::stand::{Stand, Upstream};

/// How pgbench sends statements (`-M`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// With the values in the text: another text each time.
    Simple,
    /// Parse, Bind, Execute each time.
    Extended,
    /// Parse once, then Bind, Execute.
    Prepared,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
            Protocol::Prepared => "prepared",
        }
    }
}

/// A run of pgbench.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// pgbench's script: a line each for a command or a statement.
    pub(crate) script: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) clients: u32,
    /// A connection of its own for each transaction.
    pub(crate) reconnect: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Transactions.
    pub(crate) count: f64,
    /// Transactions a second; without the time of connecting, unless each connects.
    pub(crate) rate: f64,
}

impl Run {
    pub(crate) fn new(script: &'static str, protocol: Protocol, clients: u32) -> Self {
        Self { script, protocol, clients, reconnect: false }
    }

    /// How many statements a transaction has.
    pub(crate) fn statements(&self) -> f64 {
        self.script.lines().filter(|line| !line.starts_with('\\')).count() as f64
    }

    /// Runs through a contender.
    pub(crate) fn run(&self, stand: &Stand, contender: Contender, upstream: Upstream, seconds: u32) -> Result<Outcome> {
        let script = match contender {
            Contender::Postern => self.script.to_owned(),
            Contender::Direct | Contender::PgBouncer => masked(stand, self.script)?,
        };
        let file = Script::write(&script)?;
        let mut pgbench = stand.client("pgbench", contender, upstream);
        pgbench.args(["--no-vacuum", "--protocol", self.protocol.name(), "--file"]).arg(&file.0);
        pgbench.args(["--client", &self.clients.to_string(), "--jobs", &self.clients.min(2).to_string()]);
        pgbench.args(["--time", &seconds.to_string()]);
        if self.reconnect {
            pgbench.arg("--connect");
        }
        let output = pgbench.output().context("start pgbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        let after = |prefix: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(prefix));
            let word = line.and_then(|line| line.split([' ', '/']).next()).with_context(|| text.to_string())?;
            Ok(word.parse()?)
        };
        Ok(Outcome { count: after("number of transactions actually processed: ")?, rate: after("tps = ")? })
    }
}

/// The script with each statement as the gate sends it.
fn masked(stand: &Stand, script: &str) -> Result<String> {
    let names: Vec<&str> =
        script.lines().filter_map(|line| line.strip_prefix("\\set ")?.split_whitespace().next()).collect();
    let mut lines = Vec::new();
    for line in script.lines() {
        if line.starts_with('\\') {
            lines.push(line.to_owned());
            continue;
        }
        let mut sql = line.trim_end_matches(';').to_owned();
        for (at, name) in names.iter().enumerate() {
            sql = sql.replace(&format!(":{name}"), &format!("${}", at + 1));
        }
        let mut sql = stand.masked(&sql)?;
        for (at, name) in names.iter().enumerate() {
            sql = sql.replace(&format!("${}", at + 1), &format!(":{name}"));
        }
        lines.push(sql + ";");
    }
    Ok(lines.join("\n"))
}

/// A script's file, removed when dropped.
struct Script(PathBuf);

impl Script {
    fn write(text: &str) -> Result<Self> {
        let folder = postern_e2e::temporary_folder("script")?;
        let file = Self(folder.join("script.sql"));
        fs::write(&file.0, text)?;
        Ok(file)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        _ = self.0.parent().map(fs::remove_dir_all);
    }
}
