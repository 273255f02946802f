//! The test suite of a driver, as its makers run it: once straight against a server, once through the gate in mode
//! Enforce with a policy that allows everything. Each test must end the same, but for those that a file explains.
//!
//! `POSTERN_SHOW=1` shows what tests that fail print.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use postern_e2e::gate::{EVERYTHING, Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, Server, ServerOptions, clean_environment};
use serde_json::Value;

use crate::explained::{Explained, Place};

/// A driver whose Go module carries its tests.
struct Driver {
    name: &'static str,
    module: &'static str,
    version: &'static str,
    /// Its packages whose tests use a server, as go names them.
    packages: &'static [&'static str],
    /// What its tests are told in the environment, beside where the server is.
    environment: &'static [(&'static str, &'static str)],
    database: &'static str,
    /// The superuser that its tests expect to be.
    user: &'static str,
    /// What its tests expect to find.
    setup: &'static str,
}

const PQ: Driver = Driver {
    name: "pq",
    module: "github.com/lib/pq",
    version: "v1.12.3",
    packages: &["./..."],
    environment: &[],
    database: "pqgo",
    user: "pqgo",
    setup: "CREATE ROLE pqgossl LOGIN; CREATE ROLE pqgosslcert LOGIN; CREATE ROLE pqgopassword LOGIN PASSWORD 'wordpass'; \
            CREATE ROLE pqgoscram LOGIN PASSWORD 'wordpass'; CREATE ROLE pqgomd5 LOGIN PASSWORD 'wordpass';",
};

const PGX: Driver = Driver {
    name: "pgx",
    module: "github.com/jackc/pgx/v5",
    version: "v5.12.0",
    packages: &[".", "./multitracer", "./pgconn", "./pgtype/...", "./pgxpool", "./stdlib", "./tracelog"],
    environment: &[
        ("PGX_TEST_DATABASE", "host=127.0.0.1 dbname=pgx_test"),
        ("PGX_TEST_TCP_CONN_STRING", "host=127.0.0.1 dbname=pgx_test"),
    ],
    database: "pgx_test",
    user: "pgx",
    setup: "CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE DOMAIN uint64 AS numeric(20,0); \
            CREATE ROLE pgx_md5 SUPERUSER LOGIN PASSWORD 'secret'; CREATE ROLE pgx_pw SUPERUSER LOGIN PASSWORD 'secret'; \
            CREATE ROLE pgx_scram SUPERUSER LOGIN PASSWORD 'secret'; \
            CREATE ROLE \" tricky, ' } \"\" \\ test user \" SUPERUSER LOGIN PASSWORD 'secret';",
};

/// How each test ended: `PASS`, `FAIL` or `SKIP`, by package and name.
type Outcomes = BTreeMap<Place, String>;

/// A package's tests, compiled.
struct Package {
    /// As differences name it.
    name: String,
    folder: PathBuf,
    program: PathBuf,
    tests: Vec<String>,
}

impl Package {
    /// Runs a test by itself: some that fail end the whole program, and would take the others with them.
    fn run(&self, driver: &Driver, test: &str, port: u16) -> Result<Outcomes> {
        let mut command = Command::new("timeout");
        clean_environment(&mut command);
        command.arg("120").arg(&self.program).arg(format!("-test.run=^{test}$")).arg("-test.v");
        command.current_dir(&self.folder).env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
        command.envs(driver.environment.iter().copied());
        command.env("PGUSER", driver.user).env("PGDATABASE", driver.database).env("PGSSLMODE", "disable");
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut outcomes = Outcomes::new();
        for (outcome, rest) in text.lines().filter_map(|line| line.trim_start().strip_prefix("--- ")?.split_once(": "))
        {
            let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
            outcomes.insert((self.name.clone(), name.to_owned()), outcome.to_owned());
        }
        let ended = if output.status.success() { "PASS" } else { "FAIL" };
        outcomes.entry((self.name.clone(), test.to_owned())).or_insert_with(|| ended.to_owned());
        if ended == "FAIL" && std::env::var_os("POSTERN_SHOW").is_some() {
            writeln!(std::io::stderr(), "{} {test}, port {port}:\n{text}", self.name)?;
        }
        Ok(outcomes)
    }
}

impl Driver {
    /// Compiles the tests of each package that has some.
    fn packages(&self, sources: &Path) -> Result<Vec<Package>> {
        let list = ["list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}"];
        let listed = go(sources, &[list.as_slice(), self.packages].concat())?;
        let mut packages = Vec::new();
        for folder in listed.lines().filter(|line| !line.is_empty()).map(PathBuf::from) {
            let inner = folder.strip_prefix(sources).unwrap_or(&folder).display().to_string();
            let program = folder.join("postern.test");
            go(&folder, &["test", "-c", "-o", &program.display().to_string(), "."])?;
            let listed = Command::new(&program).arg("-test.list=.").current_dir(&folder).output()?.stdout;
            let tests =
                String::from_utf8(listed)?.lines().filter(|name| name.starts_with("Test")).map(str::to_owned).collect();
            packages.push(Package {
                name: format!("{} {inner}", self.name).trim_end().to_owned(),
                folder,
                program,
                tests,
            });
        }
        Ok(packages)
    }

    /// The module's sources, where the tests may write.
    fn sources(&self) -> Result<PathBuf> {
        let folder = postern_e2e::cache("suites")?.join(format!("{}-{}", self.name, self.version));
        if folder.join("go.mod").exists() {
            return Ok(folder);
        }
        let at = postern_e2e::temporary_folder("suite")?;
        let wanted = format!("{}@{}", self.module, self.version);
        let output = Command::new("go").args(["mod", "download", "-json", &wanted]).current_dir(&at).output();
        fs::remove_dir_all(&at)?;
        let answer: Value = serde_json::from_slice(&output.context("go")?.stdout)?;
        let module = answer["Dir"].as_str().with_context(|| format!("{wanted} can't be fetched: {answer}"))?;
        let fresh = folder.with_extension(format!("new-{}", std::process::id()));
        let script = "mkdir -p \"$(dirname \"$2\")\" && cp -r \"$1\" \"$2\" && chmod -R u+w \"$2\"";
        let status = Command::new("/bin/sh").args(["-ec", script, "copy", module]).arg(&fresh).status()?;
        ensure!(status.success(), "{wanted} can't be copied");
        // Who comes second finds the first one's.
        if fs::rename(&fresh, &folder).is_err() {
            fs::remove_dir_all(&fresh)?;
        }
        Ok(folder)
    }

    fn server(&self) -> Result<Server> {
        let server = Server::start(&ServerOptions { auth: "trust".into(), ..Default::default() })?;
        if self.user != ADMIN {
            server.psql("postgres", &format!("CREATE ROLE {} SUPERUSER LOGIN", self.user))?;
        }
        server.psql("postgres", &format!("CREATE DATABASE {} OWNER {}", self.database, self.user))?;
        server.psql(self.database, self.setup)?;
        Ok(server)
    }

    /// Runs the suite both ways; what is wrong.
    fn run(&self) -> Result<String> {
        /// Many tests wait for something for a tenth of a second.
        const ATTEMPTS: usize = 3;
        let began = Instant::now();
        let explained = Explained::read(&format!("{}.txt", self.name));
        let packages = self.packages(&self.sources()?)?;
        let (server, guarded) = (self.server()?, self.server()?);
        let spec = format!("mode: Enforce\n{EVERYTHING}");
        let gate = Gate::start(&GateOptions::new(&guarded, self.database, self.user, &spec))?;
        let mut differences = BTreeMap::new();
        let mut counts = BTreeMap::<String, usize>::new();
        for package in &packages {
            for test in &package.tests {
                let attempt = || -> Result<_> {
                    let direct = package.run(self, test, server.port())?;
                    Ok((differing(&direct, &package.run(self, test, gate.port())?), direct))
                };
                let (mut differing, mut direct) = attempt()?;
                for _ in 1..ATTEMPTS {
                    if !explained.all(&differing) {
                        (differing, direct) = attempt()?;
                    }
                }
                differences.append(&mut differing);
                direct.into_values().for_each(|outcome| *counts.entry(outcome).or_default() += 1);
            }
        }
        writeln!(
            std::io::stderr(),
            "\n{} {}: directly {counts:?}; {} end differently through the gate; {:.0} s",
            self.name,
            self.version,
            differences.len(),
            began.elapsed().as_secs_f32()
        )?;
        let ran: BTreeSet<String> = packages.into_iter().map(|package| package.name).collect();
        Ok(explained.wrong(&ran, &differences))
    }
}

/// Tests that ended differently. A part of a test that ran only once is told by its whole.
fn differing(direct: &Outcomes, through: &Outcomes) -> BTreeMap<Place, String> {
    let both = direct.iter().filter_map(|(place, ended)| Some((place, ended, through.get(place)?)));
    let differing = both.filter(|(_, direct, through)| direct != through);
    differing
        .map(|(place, direct, through)| (place.clone(), format!("    directly {direct}, through the gate {through}")))
        .collect()
}

/// Runs go; what it printed.
fn go(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("go").args(arguments).current_dir(folder).output().context("go")?;
    ensure!(output.status.success(), "go {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn has_go() -> bool {
    Command::new("go").arg("version").output().is_ok_and(|output| output.status.success())
}

fn end_as_directly(driver: &Driver) {
    if !has_go() {
        // Shown whether the test passes or not, as `eprintln!` is not.
        let mut shown = std::io::stderr();
        writeln!(shown, "left out: the suite of {}, for there is no go", driver.name).unwrap();
        return;
    }
    let wrong = driver.run().unwrap();
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_tests_of_pq_end_as_directly() {
    end_as_directly(&PQ);
}

#[test]
#[ignore = "long: run by `make test-all`"]
fn the_tests_of_pgx_end_as_directly() {
    end_as_directly(&PGX);
}
