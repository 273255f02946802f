//! Programs in other languages: installed from their registries once, then run against a server.
//!
//! A folder's lock file says how. The folder is copied to a cache outside the tree, one for each content of the lock
//! file, and its dependencies are fetched there, once; what is compiled is compiled there. Test processes that come at
//! the same time wait for one another.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::guard::{Ending, Guard};
use crate::postgres::clean_environment;

/// How a program of one kind is installed, built and run: shell commands in the copy of its folder, `$1` its name.
struct Kind {
    /// The file that pins the dependencies; the kind is known by it.
    lock: &'static str,
    /// What has to be on this machine.
    tools: &'static [&'static str],
    /// Once for each content of the lock file.
    install: &'static str,
    /// Before each run.
    build: &'static str,
    run: &'static str,
}

const KINDS: [Kind; 6] = [
    Kind {
        lock: "requirements.txt",
        tools: &["python3"],
        install: "python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check -r requirements.txt",
        build: "",
        run: "exec venv/bin/python -W ignore \"$1.py\"",
    },
    Kind {
        lock: "package-lock.json",
        tools: &["node", "npm"],
        install: "npm ci --silent --no-audit --no-fund",
        build: "",
        run: "exec node \"$1.js\"",
    },
    Kind { lock: "go.sum", tools: &["go"], install: "go mod download", build: "", run: "exec go run \"./$1\"" },
    Kind {
        lock: "pom.xml",
        tools: &["java", "javac", "mvn"],
        install: "mvn -q -B dependency:copy-dependencies -DoutputDirectory=jars",
        build: "javac -cp 'jars/*' -d classes *.java",
        run: "exec java -cp 'classes:jars/*' \"$1\"",
    },
    Kind {
        lock: "Cargo.lock",
        tools: &["cargo"],
        install: "cargo fetch --locked && if [ -e install.sh ]; then . ./install.sh; fi",
        build: "CARGO_TARGET_DIR=target cargo build --locked --quiet --bin \"$1\"",
        run: "exec \"target/debug/$1\"",
    },
    // The programs of Postgres itself, which come with the server.
    Kind { lock: "postgres.sh", tools: &["psql"], install: "", build: "", run: "exec sh \"$1.sh\"" },
];

/// A program that is ready to run.
#[derive(Debug)]
pub struct Program {
    folder: PathBuf,
    name: String,
    run: &'static str,
}

/// Whether a program can be run here.
#[derive(Debug)]
pub enum Prepared {
    /// It can.
    Ready(Program),
    /// A tool that it needs is not on this machine.
    Without(&'static str),
}

/// Installs what the program `name` in the folder `source` needs, and builds it.
pub fn prepare(source: &Path, name: &str) -> Result<Prepared> {
    let kind = KINDS
        .iter()
        .find(|kind| source.join(kind.lock).exists())
        .with_context(|| format!("{} has no lock file of a known kind", source.display()))?;
    if let Some(tool) = kind.tools.iter().find(|tool| !on_path(tool)) {
        return Ok(Prepared::Without(tool));
    }
    let mut hasher = DefaultHasher::new();
    (fs::read(source.join(kind.lock))?, kind.install).hash(&mut hasher);
    let title = source.file_name().context("no folder")?.to_string_lossy();
    let folder = crate::cache("clients")?.join(format!("{title}-{:016x}", hasher.finish()));
    fs::create_dir_all(&folder)?;
    // Until the end of this function, whatever that is.
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    copy(source, &folder)?;
    let installed = folder.join(".installed");
    if !installed.exists() {
        shell(kind.install, &folder, name).with_context(|| {
            format!("{title}: its dependencies can't be installed in {} (is its registry reachable?)", folder.display())
        })?;
        File::create(installed)?;
    }
    shell(kind.build, &folder, name)?;
    Ok(Prepared::Ready(Program { folder, name: name.into(), run: kind.run }))
}

/// Where a program connects to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// User.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// Database.
    pub database: &'a str,
}

impl Program {
    /// Runs it and returns what it printed. `bin` has the Postgres programs that it may call.
    pub fn run(&self, target: Target<'_>, bin: &Path) -> Result<String> {
        // A program that hangs is ended; it must not take the whole run with it.
        let mut command = Command::new("timeout");
        clean_environment(&mut command);
        let path = std::env::var("PATH").unwrap_or_default();
        let output = command
            .args(["--kill-after=5", "240", "sh", "-ec", self.run, "sh", &self.name])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", target.port.to_string())
            .env("PGUSER", target.user)
            .env("PGPASSWORD", target.password)
            .env("PGDATABASE", target.database)
            .env("PGSSLMODE", "disable")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .context("start `timeout`")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{} ended with {}:\n{out}\n{err}", self.name, output.status);
        Ok(out.into_owned())
    }
}

impl Program {
    /// Starts one that serves.
    pub fn spawn(&self, environment: &[(String, String)], log: &Path, ending: &Ending<'_>) -> Result<Guard> {
        let script = format!("cd \"$2\"; {}", self.run);
        let folder = self.folder.display().to_string();
        Guard::spawn(&["sh", "-ec", &script, "sh", &self.name, &folder], environment, log, ending)
    }
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// Copies what differs: a program of another process may run from the same folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
            continue;
        }
        let content = fs::read(entry.path())?;
        if fs::read(&target).ok().as_ref() != Some(&content) {
            fs::write(target, content)?;
        }
    }
    Ok(())
}

fn shell(script: &str, folder: &Path, name: &str) -> Result<()> {
    let output = Command::new("sh").args(["-ec", script, "sh", name]).current_dir(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!("failed: {script}\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
