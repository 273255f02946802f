//! A private Postgres: own data folder, own socket folder, own port, gone when dropped.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::guard::{Ending, Guard};

/// The superuser that every private server has.
pub const ADMIN: &str = "admin";
/// Its password.
pub const ADMIN_PASSWORD: &str = "admin-password-9c1f";

/// How a private server is set up.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Major version; None takes `POSTERN_PG_BIN`, else the newest that is installed.
    pub version: Option<u32>,
    /// Serve TLS with a certificate for `localhost` and 127.0.0.1 from an own CA.
    pub tls: bool,
    /// How passwords are asked for over TCP: `scram-sha-256`, `md5`, `password`, `trust`, or `cert`.
    pub auth: String,
    /// Lines for pg_hba.conf that come before our own.
    pub hba: Vec<String>,
    /// Further settings.
    pub settings: Vec<(String, String)>,
    /// The address that it listens on.
    pub address: Ipv4Addr,
    /// Its port; None takes a free one.
    pub port: Option<u16>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            version: None,
            tls: false,
            auth: "scram-sha-256".into(),
            hba: Vec::new(),
            settings: Vec::new(),
            address: Ipv4Addr::LOCALHOST,
            port: None,
        }
    }
}

/// A running private Postgres.
#[derive(Debug)]
pub struct Server {
    guard: Mutex<Guard>,
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    ca: Option<String>,
}

/// A database of its own on a server; it is dropped with the server.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
}

impl Server {
    /// Starts a server and waits until it takes connections.
    pub fn start(options: &ServerOptions) -> Result<Self> {
        // Between finding a free port and its use somebody else may take it.
        let mut last = anyhow!("no attempt");
        for _ in 0..5 {
            match Self::attempt(options) {
                Ok(server) => return Ok(server),
                Err(error) if error.to_string().contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The server that the tests of this process share; each takes a [`Server::database`] of its own.
    pub fn shared() -> Result<&'static Server> {
        static SHARED: OnceLock<std::result::Result<Server, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(&ServerOptions::default()).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    fn attempt(options: &ServerOptions) -> Result<Self> {
        let bin = binaries(options.version)?;
        let folder = crate::temporary_folder("pg")?;
        let owner = Owner::new()?;
        owner.give(&folder)?;
        let data = folder.join("data");
        let password_file = folder.join("password");
        fs::write(&password_file, ADMIN_PASSWORD)?;
        owner.give(&password_file)?;

        let mut initdb = owner.command(&bin.join("initdb"));
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "-U", ADMIN]);
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(&password_file).current_dir(&folder);
        if options.auth == "md5" {
            // This also makes initdb store the superuser's password so.
            initdb.arg("--auth-host=md5");
        }
        let initdb = initdb.output().context("start initdb")?;
        ensure!(initdb.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&initdb.stderr));

        let port = options.port.map_or_else(crate::free_port, Ok)?;
        let mut conf = String::new();
        for (name, value) in [
            ("listen_addresses", options.address.to_string().as_str()),
            ("fsync", "off"),
            // Statistics that come at some moment change plans, and with them the order of rows: tests ask for them.
            ("autovacuum", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("max_connections", "200"),
            ("shared_buffers", "32MB"),
            ("max_prepared_transactions", "4"),
            ("logging_collector", "off"),
        ] {
            writeln!(conf, "{name} = '{value}'")?;
        }
        writeln!(conf, "port = {port}\nunix_socket_directories = '{}'", folder.display())?;
        if options.auth == "md5" {
            writeln!(conf, "password_encryption = md5")?;
        }
        let ca = options.tls.then(|| certificates(&data, &owner, None)).transpose()?;
        if ca.is_some() {
            writeln!(
                conf,
                "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'"
            )?;
        }
        for (name, value) in &options.settings {
            writeln!(conf, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        let path = data.join("postgresql.conf");
        fs::write(&path, fs::read_to_string(&path)? + &conf)?;

        let mut hba = options.hba.join("\n");
        // The harness itself comes in by the socket.
        write!(hba, "\nlocal all,replication all trust\nhost all all 127.0.0.1/32 {0}\n", options.auth)?;
        fs::write(data.join("pg_hba.conf"), hba)?;

        let guard = spawn(&owner, &bin, &folder, port)?;
        Ok(Self { guard: Mutex::new(guard), folder, bin, port, ca })
    }

    /// Starts a replica that only reads, with these settings.
    pub fn replica(&self, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = crate::temporary_folder("pg")?;
        let owner = Owner::new()?;
        owner.give(&folder)?;
        let data = folder.join("data");
        let mut copy = owner.command(&self.bin.join("pg_basebackup"));
        copy.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "-U", ADMIN, "-D"]).arg(&data);
        copy.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string()]).current_dir(&folder);
        let copied = copy.output().context("start pg_basebackup")?;
        ensure!(copied.status.success(), "pg_basebackup failed:\n{}", String::from_utf8_lossy(&copied.stderr));
        let port = crate::free_port()?;
        let path = data.join("postgresql.auto.conf");
        let mut conf = fs::read_to_string(&path)?;
        writeln!(conf, "port = {port}\nunix_socket_directories = '{}'", folder.display())?;
        for (name, value) in settings {
            writeln!(conf, "{name} = '{value}'")?;
        }
        fs::write(&path, conf)?;
        let guard = spawn(&owner, &self.bin, &folder, port)?;
        Ok(Self { guard: Mutex::new(guard), folder, bin: self.bin.clone(), port, ca: self.ca.clone() })
    }

    /// Its first process gets a signal (`KILL`; `INT` is a fast shutdown, `QUIT` an immediate one) and it is waited for;
    /// the data stays for [`Server::start_again`].
    pub fn halt(&self, signal: &str) -> Result<()> {
        fs::write(self.folder.join("keep"), "")?;
        let mut guard = self.guard.lock().map_err(|_| anyhow!("poisoned"))?;
        guard.process()?.signal(signal)?;
        guard.wait()
    }

    /// Starts it on the data and port that it had.
    pub fn start_again(&self) -> Result<()> {
        let mut guard = self.guard.lock().map_err(|_| anyhow!("poisoned"))?;
        let owner = Owner::new()?;
        let until = Instant::now() + Duration::from_secs(30);
        *guard = loop {
            match spawn(&owner, &self.bin, &self.folder, self.port) {
                Ok(guard) => break guard,
                // Processes of the one that was killed may still be about to see it.
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        fs::remove_file(self.folder.join("keep"))?;
        Ok(())
    }

    /// Its certificate is another one, of a new CA, good from now for so long; new connections get it. The CA as PEM.
    pub fn renew_certificate(&self, good_for: Duration) -> Result<String> {
        let ca = certificates(&self.folder.join("data"), &Owner::new()?, Some(good_for))?;
        self.psql("postgres", "SELECT pg_reload_conf()")?;
        Ok(ca)
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of its programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The CA of its certificate (PEM), if it serves TLS.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its major version.
    pub fn version(&self) -> Result<u32> {
        Ok(self.psql("postgres", "SHOW server_version_num")?.trim().parse::<u32>()? / 10_000)
    }

    /// Runs SQL by `psql` as the superuser, ending at the first error; what it prints (unaligned, tuples only).
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        self.psql_as(ADMIN, database, sql)
    }

    /// Runs SQL by `psql` as a user.
    pub fn psql_as(&self, user: &str, database: &str, sql: &str) -> Result<String> {
        use std::io::Write as _;
        let mut child = self
            .program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-f", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin of psql")?;
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output()?;
        _ = writer.join();
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// One of the server's client programs, set up to come in by the socket.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.client_program(name));
        clean_environment(&mut command);
        command.env("PGHOST", &self.folder).env("PGPORT", self.port.to_string());
        command
    }

    /// Where a client program is: the server's own, or an installed one where the server came without.
    pub fn client_program(&self, name: &str) -> PathBuf {
        let own = self.bin.join(name);
        if own.exists() { own } else { newest_installed().map_or(own, |bin| bin.join(name)) }
    }

    /// A new empty database.
    pub fn database(&self) -> Result<Database> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(Database { name })
    }

    /// A new database with what `sql` makes in it, as the superuser.
    pub fn database_with(&self, sql: &str) -> Result<Database> {
        let database = self.database()?;
        self.psql(&database.name, sql)?;
        Ok(database)
    }

    /// A client straight to the server (by its socket); must be called within a tokio runtime.
    pub async fn client(&self, user: &str, database: &str) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::Config::new()
            .host_path(&self.folder)
            .port(self.port)
            .user(user)
            .dbname(database)
            .connect(tokio_postgres::NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Stops the server now and removes its folder.
    pub fn stop(&self) -> Result<()> {
        self.guard.lock().map_err(|_| anyhow!("poisoned"))?.stop()?;
        Ok(())
    }
}

/// Starts the server's program on a data folder, and waits until it takes connections.
fn spawn(owner: &Owner, bin: &Path, folder: &Path, port: u16) -> Result<Guard> {
    let mut command = owner.prefix();
    let data = folder.join("data").display().to_string();
    command.extend([bin.join("postgres").display().to_string(), "-D".into(), data]);
    let log = folder.join("log");
    let ending = Ending { signal: "QUIT", folder: Some(folder), patience: Duration::from_secs(10) };
    let mut guard = Guard::spawn(&command, &[], &log, &ending)?;
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    // A replica is ready for connections that only read.
    let ready_lines = ["database system is ready to accept connections", "ready to accept read-only connections"];
    guard.wait_until("Postgres", Duration::from_secs(60), || {
        fs::read_to_string(&log).is_ok_and(|log| ready_lines.iter().any(|line| log.contains(line)))
            && UnixStream::connect(&socket).is_ok()
    })?;
    Ok(guard)
}

/// Takes what libpq reads from the environment away, so that a developer's own settings change nothing.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("PSQLRC", "/dev/null").env("PGPASSFILE", "/nonexistent").env("PGSERVICEFILE", "/dev/null");
}

/// The folder with `postgres` and `initdb` of a major version, fetched if it is not installed, or of the newest that is
/// installed.
pub fn binaries(version: Option<u32>) -> Result<PathBuf> {
    let Some(version) = version else {
        return match std::env::var_os("POSTERN_PG_BIN") {
            Some(folder) => Ok(folder.into()),
            None => newest_installed(),
        };
    };
    let output = Command::new(crate::workspace().join(".ci/postgres")).arg(version.to_string()).output()?;
    ensure!(output.status.success(), "Postgres {version}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn newest_installed() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let bin = entry.path().join("bin");
        if let Some(major) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && bin.join("initdb").exists()
        {
            found.push((major, bin));
        }
    }
    let (_, bin) = found
        .into_iter()
        .max()
        .context("Postgres is not installed: run `make setup`, or set POSTERN_PG_BIN to the folder of initdb")?;
    Ok(bin)
}

/// Whom the server runs as: ourselves, or `postgres` if we are root, which Postgres refuses to be.
pub(crate) struct Owner {
    ids: Option<(u32, u32)>,
}

impl Owner {
    pub(crate) fn new() -> Result<Self> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Self { ids: None });
        }
        let users = fs::read_to_string("/etc/passwd")?;
        for line in users.lines() {
            let mut fields = line.split(':');
            if fields.next() == Some("postgres") {
                let uid = fields.nth(1).context("uid")?.parse()?;
                let gid = fields.next().context("gid")?.parse()?;
                return Ok(Self { ids: Some((uid, gid)) });
            }
        }
        bail!("Postgres does not run as root, and there is no user `postgres`")
    }

    pub(crate) fn prefix(&self) -> Vec<String> {
        match self.ids {
            None => Vec::new(),
            Some((uid, gid)) => ["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={gid}")]
                .into_iter()
                .chain(["--clear-groups".to_owned()])
                .collect(),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut prefix = self.prefix().into_iter();
        match prefix.next() {
            None => Command::new(program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(prefix).arg(program);
                command
            }
        }
    }

    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

/// A CA, and a certificate of it for `localhost` (and so long), in the data folder; the CA as PEM.
fn certificates(data: &Path, owner: &Owner, good_for: Option<Duration>) -> Result<String> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Postern test CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    if let Some(good_for) = good_for {
        leaf.not_after = (SystemTime::now() + good_for).into();
    }
    let leaf_pem = leaf.signed_by(&key, &issuer)?.pem();

    for (name, text) in [("ca.crt", &ca_pem), ("server.crt", &leaf_pem), ("server.key", &key.serialize_pem())] {
        let path = data.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        owner.give(&path)?;
    }
    Ok(ca_pem)
}
