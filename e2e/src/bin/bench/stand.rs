//! What is measured: a server, and before it PgBouncer and the gate, each with and without TLS to the server.

use std::cell::{OnceCell, RefCell};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::pgbouncer::PgBouncer;
use postern_e2e::postgres::{Database, Server, ServerOptions, clean_environment};
use postern_e2e::process::Process;
use postern_e2e::wire::Wire;

use crate::figure::Contender;

/// The role that everything runs as.
pub(crate) const USER: &str = "app";
/// Its password.
pub(crate) const PASSWORD: &str = "app-password-5b7e";

/// Of pgbench's own tables.
const SCALE: &str = "10";
const SCHEMA: &str = include_str!("schema.sql");
const BULK: &str = include_str!("bulk.sql");

const LARGE: &str = include_str!("large.sql");

const POLICY: &str = "\
masks:
- columns: [public.customers.card]
  mask: {partial: {keepLast: 4}}
- columns: [public.customers.email]
  mask: {email: {}}
- columns: [public.pgbench_accounts.filler]
  mask: {nullify: {}}
rules:
- name: bench
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, CopyIn, CopyOut]
  relations: [\"public.*\"]
bulkExport: {action: Allow}
";

const LARGE_POLICY: &str = "\
masks:
- columns: [\"*.*.email\"]
  mask: {email: {}}
rules:
- name: bench
  to: {groups: [apps]}
  allow: [Select]
  relations: [\"public.*\"]
";

/// What a workload needs besides the customers, their orders and the items of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Customers,
    /// pgbench's own tables.
    Pgbench,
    /// A million rows of 200 bytes, and a place for them.
    Bulk,
}

/// How the proxies speak with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Plain,
    Tls,
}

/// The proxies with one kind of connection to the server.
pub(crate) struct Proxies {
    pub(crate) bouncer: PgBouncer,
    pub(crate) gate: Gate,
}

/// Everything that runs.
pub(crate) struct Stand {
    pub(crate) server: Server,
    database: Database,
    provided: RefCell<Vec<Data>>,
    large: OnceCell<Database>,
    plain: Proxies,
    tls: Proxies,
}

impl Stand {
    pub(crate) fn start() -> Result<Self> {
        let settings = [("max_connections", "400"), ("shared_buffers", "512MB"), ("max_wal_size", "8GB")];
        let server = Server::start(&ServerOptions {
            tls: true,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..ServerOptions::default()
        })?;
        server.psql("postgres", &format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"))?;
        let database = server.database()?;
        server.psql(&database.name, &format!("ALTER SCHEMA public OWNER TO {USER}; SET ROLE {USER}; {SCHEMA}"))?;
        server.psql(&database.name, "VACUUM ANALYZE; CHECKPOINT")?;
        let proxies = |upstream| Proxies::start(&server, &database, upstream);
        let (plain, tls) = (proxies(Upstream::Plain)?, proxies(Upstream::Tls)?);
        Ok(Self { server, database, provided: RefCell::default(), large: OnceCell::new(), plain, tls })
    }

    /// Makes what a workload needs, if it is not there.
    pub(crate) fn provide(&self, data: Data) -> Result<()> {
        let mut provided = self.provided.borrow_mut();
        if provided.contains(&data) {
            return Ok(());
        }
        match data {
            Data::Customers => return Ok(()),
            Data::Bulk => _ = self.server.psql(&self.database.name, &format!("SET ROLE {USER}; {BULK}"))?,
            Data::Pgbench => {
                let mut pgbench = self.server.program("pgbench");
                pgbench.args(["--initialize", "--quiet", "--scale", SCALE, "--username", USER, &self.database.name]);
                let output = pgbench.output()?;
                ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        self.server.psql(&self.database.name, "VACUUM ANALYZE; CHECKPOINT")?;
        for proxies in [&self.plain, &self.tls] {
            // It hears of new tables when somebody asks for one.
            Wire::connect(proxies.gate.port(), USER, "", &self.database.name)?.simple("SELECT FROM no_such_table")?;
        }
        provided.push(data);
        Ok(())
    }

    /// The name of the database.
    pub(crate) fn database(&self) -> &str {
        &self.database.name
    }

    /// Takes away what was copied in.
    pub(crate) fn empty_sink(&self) -> Result<()> {
        self.server.psql(&self.database.name, "TRUNCATE sink")?;
        Ok(())
    }

    /// New proxies, that have served nobody.
    pub(crate) fn new_proxies(&self, upstream: Upstream) -> Result<Proxies> {
        Proxies::start(&self.server, &self.database, upstream)
    }

    /// A database with many relations, and what a gate for it is started with.
    pub(crate) fn large(&self) -> Result<(&Database, GateOptions)> {
        if self.large.get().is_none() {
            let database = self.server.database()?;
            self.server
                .psql(&database.name, &format!("ALTER SCHEMA public OWNER TO {USER}; SET ROLE {USER}; {LARGE}"))?;
            self.server
                .psql(&database.name, "VACUUM ANALYZE pg_class, pg_attribute, pg_type, pg_depend; CHECKPOINT")?;
            _ = self.large.set(database);
        }
        let database = self.large.get().context("it was just made")?;
        Ok((database, gate_options(&self.server, database, LARGE_POLICY)))
    }

    fn proxies(&self, upstream: Upstream) -> &Proxies {
        match upstream {
            Upstream::Plain => &self.plain,
            Upstream::Tls => &self.tls,
        }
    }

    /// Where a contender listens.
    pub(crate) fn port(&self, contender: Contender, upstream: Upstream) -> u16 {
        match contender {
            Contender::Direct => self.server.port(),
            Contender::PgBouncer => self.proxies(upstream).bouncer.port(),
            Contender::Postern => self.proxies(upstream).gate.port(),
        }
    }

    /// A contender's own process, if it has one.
    pub(crate) fn process(&self, contender: Contender, upstream: Upstream) -> Result<Option<Process>> {
        match contender {
            Contender::Direct => Ok(None),
            Contender::PgBouncer => self.proxies(upstream).bouncer.process().map(Some),
            Contender::Postern => self.proxies(upstream).gate.process().map(Some),
        }
    }

    /// A program of Postgres' that comes in by a contender.
    pub(crate) fn client(&self, program: &str, contender: Contender, upstream: Upstream) -> Command {
        let mut command = Command::new(self.server.bin().join(program));
        clean_environment(&mut command);
        // The way to the proxies is always plain; without one it is the client that speaks TLS.
        let mode = if contender == Contender::Direct && upstream == Upstream::Tls { "require" } else { "disable" };
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port(contender, upstream).to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGDATABASE", &self.database.name)
            .env("PGSSLMODE", mode)
            .env("PGGSSENCMODE", "disable");
        command
    }

    /// A connection by a contender that speaks no TLS with the client.
    pub(crate) fn wire(&self, contender: Contender, upstream: Upstream) -> Result<Wire> {
        Wire::connect(self.port(contender, upstream), USER, PASSWORD, &self.database.name)
    }

    /// What the gate sends to the server for a statement.
    pub(crate) fn masked(&self, sql: &str) -> Result<String> {
        let report = self.plain.gate.explain(sql)?;
        let decision = report.pointer("/statements/0/decisions/0").context("nothing was decided")?;
        let text = |field: &str| decision.get(field).and_then(|value| value.as_str());
        ensure!(text("decision") == Some("allow"), "{sql}: {decision}");
        Ok(text("rewritten").unwrap_or(sql).to_owned())
    }

    /// Empties the audit logs, that they don't fill the disk.
    pub(crate) fn forget_audit(&self) -> Result<()> {
        for proxies in [&self.plain, &self.tls] {
            let log = std::fs::OpenOptions::new().write(true).open(proxies.gate.folder().join("audit.jsonl"))?;
            log.set_len(0)?;
        }
        Ok(())
    }
}

impl Proxies {
    fn start(server: &Server, database: &Database, upstream: Upstream) -> Result<Self> {
        let tls = upstream == Upstream::Tls;
        let bouncer = PgBouncer::start(server, &database.name, USER, PASSWORD, tls)?;
        let mut options = gate_options(server, database, POLICY);
        if tls {
            options.policy =
                options.policy.replace("{mode: Disable}", "{mode: VerifyCa, caSecret: {name: ca, key: ca.crt}}");
            options = options.secret("ca", "ca.crt", server.ca().context("the server has no CA")?);
        }
        Ok(Self { bouncer, gate: Gate::start(&options)? })
    }
}

fn gate_options(server: &Server, database: &Database, policy: &str) -> GateOptions {
    let mut options = GateOptions::new(server, &database.name, USER, policy);
    options.secrets = [("username", USER), ("password", PASSWORD)]
        .map(|(key, value)| ("db".to_owned(), key.to_owned(), value.to_owned()))
        .to_vec();
    options
}
