//! The command line and the environment: as typed ([`Cli`]), then as meant ([`Config`]). After this no strings are left
//! to interpret, and no option has a default that hides elsewhere.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use postern_crds::lease::Resource;
use postern_crds::{Credentials, Database, TlsMode};
use zeroize::Zeroizing;

use crate::audit::Target;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "postern-sidecar",
    version,
    about = "A gate in front of Postgres: each identity sees its own, masked view of the database.",
    after_help = "Every option can also be set by the environment variable shown with it; lists are separated by commas.",
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients
    #[command(after_help = RUN_EXAMPLE)]
    Run(Box<RunArgs>),
    /// Check policies, and explain what they do to statements
    #[command(after_help = CHECK_EXAMPLE)]
    Check(Box<CheckArgs>),
    /// Suggest a first policy, from the audit of mode Audit
    #[command(after_help = SUGGEST_EXAMPLE)]
    Suggest(Box<SuggestArgs>),
}

const RUN_EXAMPLE: &str = "\
Example:
  postern-sidecar run --policy policy.yaml --identity identities.yaml --as nightly-report \\
      --secrets-dir secrets --listen 127.0.0.1:6432 --admin 127.0.0.1:9090
  psql 'host=127.0.0.1 port=6432 dbname=shop'

Policy and identity files are watched: a valid change applies to the next statement, an invalid one is reported and
the last good one stays in force. SIGTERM drains, SIGHUP opens the audit file anew.

In a cluster policy, identity and secrets come as a lease from the broker, which the pod's token stands for; nothing is
served without one. Outside of it, in CI, on a laptop or a virtual machine, the token is one of an issuer that the
operator was installed with:
  postern-sidecar run --operator https://postern.example.com --operator-ca ca.pem --resource postern:shop/orders \\
      --token-command 'gcloud auth print-identity-token --audiences=postern/shop'
  psql 'host=127.0.0.1 port=6432 dbname=shop'";

const CHECK_EXAMPLE: &str = "\
Examples:
  postern-sidecar check --policy policy.yaml --identity identities.yaml
      finds mistakes that can be seen without a database
  postern-sidecar check … --secrets-dir secrets --database --write-schema schema.json
      also compares the policy with its database, and writes what it saw for checks without one (CI)
  postern-sidecar check … --schema schema.json --as nightly-report --sql 'SELECT * FROM customers'
      shows the decision, the rule, the reason, and the statement that the server would get

Exit codes: 0 nothing wrong, and every statement allowed; 1 mistakes, or a statement refused (or, with --strict,
warnings); 2 the command line is wrong, or a file or the database can't be read.";

const SUGGEST_EXAMPLE: &str = "\
Examples:
  postern-sidecar suggest --audit /var/log/postern.jsonl > policy.yaml
      the rules that this traffic needs and no more, and masks for columns that look personal or secret by their names
  postern-sidecar suggest --audit a.jsonl,b.jsonl --policy in-force.yaml \\
      --database 'host=pg.shop.svc dbname=shop user=auditor' --sample > policy.yaml
      also looks at all columns of the relations and at some of their values, and decides each statement of the audit
      under the policy: the comments say which of them would still be refused
  zcat old.jsonl.gz | postern-sidecar suggest --audit -

The audit is one that a policy in `mode: Audit` wrote. Statements that the server refused to the role need nothing.
The policy goes to standard output, with a comment for each part that says why it is there; what was read, to standard
error. No value of the audit or of a sample is shown.

Exit codes: 0 the policy was written; 2 the command line is wrong, or a file or the database can't be read.";

#[derive(Debug, Args)]
struct PolicyArgs {
    /// Files (or folders) with DatabaseAccessPolicy objects
    #[arg(long, value_name = "FILE", env = "POSTERN_POLICY", value_delimiter = ',', required = true)]
    policy: Vec<PathBuf>,
    /// Files (or folders) with NonHumanIdentity objects
    #[arg(long, value_name = "FILE", env = "POSTERN_IDENTITY", value_delimiter = ',', required = true)]
    identity: Vec<PathBuf>,
    /// Which policy, if the files hold several: NAME or NAMESPACE/NAME
    #[arg(long, value_name = "NAME", env = "POSTERN_POLICY_NAME")]
    policy_name: Option<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    lease: LeaseArgs,

    /// Where clients connect: HOST:PORT, or unix:PATH (a folder: the socket gets the name libpq looks for)
    #[arg(
        long,
        value_name = "ADDR",
        env = "POSTERN_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:6432",
        help_heading = "Clients"
    )]
    listen: Vec<String>,
    /// Write PGHOST, PGPORT and the like to this file as soon as clients are served; it is removed at the end
    #[arg(long, value_name = "FILE", env = "POSTERN_ENV_FILE", help_heading = "Clients")]
    env_file: Option<PathBuf>,
    /// Certificate chain (PEM) to offer clients TLS; optional for them
    #[arg(long, value_name = "FILE", env = "POSTERN_TLS_CERT", requires = "tls_key", help_heading = "Clients")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", env = "POSTERN_TLS_KEY", requires = "tls_cert", help_heading = "Clients")]
    tls_key: Option<PathBuf>,
    /// Most sessions at a time
    #[arg(
        long,
        value_name = "N",
        env = "POSTERN_MAX_CONNECTIONS",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        help_heading = "Clients"
    )]
    max_connections: u32,
    /// How long running statements may go on after SIGTERM
    #[arg(long, value_name = "TIME", env = "POSTERN_DRAIN_TIMEOUT", default_value = "25s", value_parser = duration, help_heading = "Clients")]
    drain_timeout: Duration,

    /// Where metrics and probes are served: /metrics /startup /live /ready /state
    #[arg(long, value_name = "ADDR", env = "POSTERN_ADMIN", help_heading = "Operation")]
    admin: Option<String>,
    /// Where the audit goes: stdout, or file:PATH
    #[arg(
        long,
        value_name = "TARGET",
        env = "POSTERN_AUDIT",
        default_value = "stdout",
        conflicts_with = "broker",
        help_heading = "Operation"
    )]
    audit: String,
    /// Format of the log on standard error
    #[arg(
        long,
        value_name = "FORMAT",
        env = "POSTERN_LOG_FORMAT",
        value_enum,
        default_value = "text",
        help_heading = "Operation"
    )]
    log_format: LogFormat,
    /// What is logged: a level, or a filter such as info,postern_sidecar::catalog=debug
    #[arg(long, value_name = "FILTER", env = "POSTERN_LOG", default_value = "info", help_heading = "Operation")]
    log: String,
    /// How often the catalog is read again; DDL that passes through, and unknown names, make it read at once
    #[arg(long, value_name = "TIME", env = "POSTERN_CATALOG_REFRESH", default_value = "60s", value_parser = duration, help_heading = "Operation")]
    catalog_refresh: Duration,

    /// Threads that serve sessions [default: half as many as there are processors, at least 1 and at most 4]
    #[arg(
        long,
        value_name = "N",
        env = "POSTERN_WORKERS",
        value_parser = clap::value_parser!(u16).range(1..=256),
        help_heading = "Resources"
    )]
    workers: Option<u16>,
    /// Memory that statements being parsed may use together; more of them wait
    #[arg(long, value_name = "SIZE", env = "POSTERN_PARSE_MEMORY", default_value = "256Mi", value_parser = size, help_heading = "Resources")]
    parse_memory: u64,
    /// Memory for decisions that are remembered
    #[arg(long, value_name = "SIZE", env = "POSTERN_CACHE_MEMORY", default_value = "16Mi", value_parser = size, help_heading = "Resources")]
    cache_memory: u64,
}

/// The policy comes from files.
#[derive(Debug, Args)]
#[group(id = "files", multiple = true, conflicts_with = "broker")]
struct FileArgs {
    /// Files (or folders) with DatabaseAccessPolicy objects
    #[arg(
        long,
        value_name = "FILE",
        env = "POSTERN_POLICY",
        value_delimiter = ',',
        required_unless_present = "broker"
    )]
    policy: Vec<PathBuf>,
    /// Files (or folders) with NonHumanIdentity objects
    #[arg(
        long,
        value_name = "FILE",
        env = "POSTERN_IDENTITY",
        value_delimiter = ',',
        required_unless_present = "broker"
    )]
    identity: Vec<PathBuf>,
    /// Which policy, if the files hold several: NAME or NAMESPACE/NAME
    #[arg(long, value_name = "NAME", env = "POSTERN_POLICY_NAME")]
    policy_name: Option<String>,
    /// The identity that every client has: NAME or NAMESPACE/NAME
    #[arg(long = "as", value_name = "NAME", env = "POSTERN_AS", required_unless_present = "broker")]
    identity_name: Option<String>,
    /// Folder with secrets as Kubernetes mounts them: DIR/SECRET/KEY
    #[arg(long, value_name = "DIR", env = "POSTERN_SECRETS_DIR", required_unless_present = "broker")]
    secrets_dir: Option<PathBuf>,
}

/// The policy comes as a lease.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lease, in place of files")]
struct LeaseArgs {
    /// The operator's broker, which gives the lease: https://HOST:PORT
    #[arg(long, value_name = "URL", env = "POSTERN_BROKER", visible_alias = "operator", requires_all = ["resource", "token"])]
    broker: Option<String>,
    /// The policy to ask for: postern:NAMESPACE/NAME
    #[arg(long, value_name = "POLICY", env = "POSTERN_RESOURCE", requires = "broker")]
    resource: Option<String>,
    /// File with the token that says who this is; read again at each renewal
    #[arg(long, value_name = "FILE", env = "POSTERN_TOKEN_FILE", group = "token", requires = "broker")]
    token_file: Option<PathBuf>,
    /// Command that prints the token, such as the one of a cloud; given to sh, at each renewal again
    #[arg(long, value_name = "COMMAND", env = "POSTERN_TOKEN_COMMAND", group = "token", requires = "broker")]
    token_command: Option<String>,
    /// Folder for the audit until the broker has it; each sidecar needs its own
    /// [default: NAMESPACE.NAME in $XDG_STATE_HOME/postern, or else in ~/.local/state/postern]
    #[arg(long, value_name = "DIR", env = "POSTERN_SPOOL", requires = "broker")]
    spool: Option<PathBuf>,
    /// Size of the spool's volume; at four fifths of it statements wait, and are then refused
    #[arg(long, value_name = "SIZE", env = "POSTERN_SPOOL_SIZE", default_value = "64Mi", value_parser = size)]
    spool_size: u64,
    /// Certificates (PEM) to verify the broker with at first; later those of the lease
    #[arg(long, value_name = "PEM", env = "POSTERN_BROKER_CA", requires = "broker", hide_env_values = true)]
    broker_ca: Option<String>,
    /// File with certificates (PEM) to verify the broker with, beside those of the lease [default: this machine's]
    #[arg(
        long,
        value_name = "FILE",
        env = "POSTERN_BROKER_CA_FILE",
        visible_alias = "operator-ca",
        requires = "broker",
        conflicts_with = "broker_ca"
    )]
    broker_ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    policies: PolicyArgs,
    /// One identity: NAME or NAMESPACE/NAME [default: each of the files]
    #[arg(long = "as", value_name = "NAME", env = "POSTERN_AS")]
    identity_name: Option<String>,
    /// Folder with secrets as Kubernetes mounts them: DIR/SECRET/KEY
    #[arg(long, value_name = "DIR", env = "POSTERN_SECRETS_DIR")]
    secrets_dir: Option<PathBuf>,

    /// Compare with this database: a URL or key=value pairs; alone, with the policy's own (needs --secrets-dir)
    #[arg(
        long,
        value_name = "DSN",
        env = "POSTERN_DATABASE",
        num_args = 0..=1,
        default_missing_value = "",
        hide_env_values = true,
        conflicts_with = "schema",
        help_heading = "Database"
    )]
    database: Option<String>,
    /// Compare with a schema file, as --write-schema wrote it
    #[arg(long, value_name = "FILE", env = "POSTERN_SCHEMA", help_heading = "Database")]
    schema: Option<PathBuf>,
    /// Write the schema of --database to a file
    #[arg(long, value_name = "FILE", env = "POSTERN_WRITE_SCHEMA", requires = "database", help_heading = "Database")]
    write_schema: Option<PathBuf>,

    /// Explain these statements
    #[arg(long, value_name = "TEXT", env = "POSTERN_SQL", conflicts_with = "file", help_heading = "Statements")]
    sql: Option<String>,
    /// Explain the statements of a file; - is standard input
    #[arg(long, value_name = "FILE", env = "POSTERN_FILE", help_heading = "Statements")]
    file: Option<PathBuf>,

    /// How to show the result
    #[arg(long, value_name = "FORMAT", env = "POSTERN_OUTPUT", value_enum, default_value = "text")]
    output: Output,
    /// Warnings fail too
    #[arg(long, env = "POSTERN_STRICT")]
    strict: bool,
}

#[derive(Debug, Args)]
struct SuggestArgs {
    /// Files of audit events, in any order; - is standard input
    #[arg(long, value_name = "FILE", env = "POSTERN_AUDIT", value_delimiter = ',', num_args = 1.., required = true)]
    audit: Vec<String>,
    /// Files (or folders) with the policies that were in force: how the database is reached and what is recorded is taken from them
    #[arg(long, value_name = "FILE", env = "POSTERN_POLICY", value_delimiter = ',')]
    policy: Vec<PathBuf>,
    /// Look at this database: a URL or key=value pairs
    #[arg(long, value_name = "DSN", env = "POSTERN_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Read some values of each column, too, to see what it holds
    #[arg(long, env = "POSTERN_SAMPLE", requires = "database")]
    sample: bool,
    /// Write the policy to a file in place of standard output
    #[arg(long, value_name = "FILE", env = "POSTERN_WRITE")]
    write: Option<PathBuf>,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For machines: one JSON object per line
    Json,
}

/// Format of what `check` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// What is to be done.
#[derive(Debug)]
pub enum Config {
    /// Serve.
    Run(Run),
    /// Check.
    Check(Check),
    /// Suggest a policy.
    Suggest(Suggest),
}

/// Where policies and identities come from, and which are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Files and folders, policies and identities in one pool: their `kind` tells them apart.
    pub paths: Vec<PathBuf>,
    /// The policy meant; None if the files hold one only.
    pub policy: Option<ObjectName>,
}

/// The name of an object as typed: with or without a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The namespace, if typed.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// Whether an object is meant by it.
    pub fn means(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace.as_deref().is_none_or(|typed| typed == namespace)
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Where policy, identity and secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From files.
    Files(FileOptions),
    /// As a lease.
    Lease(LeaseOptions),
}

/// Where the files are, and what of them is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Policies and identities.
    pub sources: Sources,
    /// The identity that clients have.
    pub identity: ObjectName,
    /// Where secrets are.
    pub secrets_dir: PathBuf,
}

/// How to come by a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Who gives it.
    pub broker: BrokerAddress,
    /// The policy to ask for.
    pub resource: Resource,
    /// Where the token comes from that says who this is.
    pub token: TokenSource,
    /// What the broker is verified with.
    pub roots: BrokerRoots,
}

/// Where a token comes from; it is got again at each renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, which somebody keeps fresh.
    File(PathBuf),
    /// What a command prints.
    Command(String),
}

/// Certificates that the broker is verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerRoots {
    /// These (PEM), until a lease brings others.
    AtFirst(String),
    /// Those of a file (PEM), and those that leases bring.
    File(PathBuf),
    /// Those of this machine, and those that leases bring.
    Machine,
}

/// Where the broker is; written as its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// DNS name, or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl BrokerAddress {
    /// Host and port, as in a URL.
    pub fn authority(&self) -> String {
        let Self { host, port } = self;
        // The colons of an IPv6 address stand in brackets.
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn parse(url: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new("broker", format!("'{url}' is not https://HOST:PORT"));
        let authority = url.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, 443),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '?', '#', '@', '[', ']']) || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where policy, identity and secrets come from.
    pub origin: Origin,
    /// Where clients connect.
    pub listen: Vec<ListenAddress>,
    /// Where to write how clients connect.
    pub env_file: Option<PathBuf>,
    /// Certificate chain and key to offer clients TLS.
    pub tls: Option<TlsFiles>,
    /// Most sessions at a time.
    pub max_connections: usize,
    /// How long statements may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Where metrics and probes are served.
    pub admin: Option<SocketAddr>,
    /// Where the audit goes.
    pub audit: Target,
    /// Format of the log.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: String,
    /// How often the catalog is read again.
    pub catalog_refresh: Duration,
    /// Threads that serve sessions.
    pub workers: usize,
    /// Memory for statements being parsed.
    pub parse_memory: u64,
    /// Memory for decisions that are remembered.
    pub cache_memory: u64,
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// What to check.
#[derive(Debug)]
pub struct Check {
    /// Policies and identities.
    pub sources: Sources,
    /// One identity; None is each.
    pub identity: Option<ObjectName>,
    /// Where secrets are.
    pub secrets_dir: Option<PathBuf>,
    /// Where the catalog comes from.
    pub catalog: CatalogSource,
    /// Where to write the catalog.
    pub write_schema: Option<PathBuf>,
    /// What to explain.
    pub statements: Option<Statements>,
    /// Format.
    pub output: Output,
    /// Whether warnings fail.
    pub strict: bool,
}

/// What to suggest a policy from.
#[derive(Debug)]
pub struct Suggest {
    /// Files of audit events.
    pub audit: Vec<Source>,
    /// Files (or folders) with the policies that were in force.
    pub policies: Vec<PathBuf>,
    /// The database.
    pub database: Option<Box<Dsn>>,
    /// Whether to read values.
    pub sample: bool,
    /// Where the policy goes; None is standard output.
    pub write: Option<PathBuf>,
}

/// Where something is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Stdin => f.write_str("standard input"),
        }
    }
}

/// Where `check` has the catalog from.
#[derive(Debug)]
pub enum CatalogSource {
    /// Nowhere: only what can be seen without a database is checked.
    None,
    /// The policy's own database, with the credentials of its secret.
    PolicyDatabase,
    /// A database of its own.
    Dsn(Box<Dsn>),
    /// A schema file.
    File(PathBuf),
}

/// A database to read the catalog from, and the log-in for it.
pub struct Dsn {
    /// Where it is; it names no Secrets.
    pub database: Database,
    /// User.
    pub user: String,
    /// Password.
    pub password: Zeroizing<String>,
    /// CA bundle.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Dsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dsn").field("database", &self.database).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Statements to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statements {
    /// Typed.
    Text(String),
    /// In a file.
    File(PathBuf),
    /// From standard input.
    Stdin,
}

/// What is wrong with an option.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{option}: {message}")]
pub struct ConfigError {
    option: &'static str,
    message: String,
}

impl ConfigError {
    fn new(option: &'static str, message: impl Into<String>) -> Self {
        Self { option, message: message.into() }
    }
}

impl TryFrom<Cli> for Config {
    type Error = ConfigError;

    fn try_from(Cli { command }: Cli) -> Result<Self, ConfigError> {
        match command {
            Command::Run(args) => Ok(Config::Run(Run::try_from(*args)?)),
            Command::Check(args) => Ok(Config::Check(Check::try_from(*args)?)),
            Command::Suggest(args) => Ok(Config::Suggest(Suggest::try_from(*args)?)),
        }
    }
}

impl TryFrom<RunArgs> for Run {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, ConfigError> {
        let RunArgs {
            files,
            lease,
            listen,
            env_file,
            tls_cert,
            tls_key,
            max_connections,
            drain_timeout,
            admin,
            audit,
            log_format,
            log,
            catalog_refresh,
            workers,
            parse_memory,
            cache_memory,
        } = args;
        if catalog_refresh < Duration::from_secs(1) {
            return Err(ConfigError::new("catalog-refresh", "must be at least 1s"));
        }
        if parse_memory < 1 << 20 {
            return Err(ConfigError::new("parse-memory", "must be at least 1Mi"));
        }
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (origin, audit) = match lease.into_options()? {
            Some((options, spool)) => (Origin::Lease(options), spool),
            None => (Origin::Files(files.try_into()?), target(&audit)?),
        };
        Ok(Run {
            origin,
            listen: listen.iter().map(|address| listen_address(address)).collect::<Result<_, _>>()?,
            env_file,
            tls: tls_cert.zip(tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
            max_connections: max_connections as usize,
            drain_timeout,
            admin: admin.map(|address| socket_address("admin", &address)).transpose()?,
            audit,
            log_format,
            log,
            catalog_refresh,
            workers: workers.map_or((processors / 2).clamp(1, 4), usize::from),
            parse_memory,
            cache_memory,
        })
    }
}

impl TryFrom<FileArgs> for FileOptions {
    type Error = ConfigError;

    fn try_from(args: FileArgs) -> Result<Self, ConfigError> {
        let FileArgs { policy, identity, policy_name, identity_name, secrets_dir } = args;
        let missing = |option| ConfigError::new(option, "is missing");
        Ok(FileOptions {
            sources: PolicyArgs { policy, identity, policy_name }.try_into()?,
            identity: object_name("as", &identity_name.ok_or_else(|| missing("as"))?)?,
            secrets_dir: secrets_dir.ok_or_else(|| missing("secrets-dir"))?,
        })
    }
}

impl LeaseArgs {
    /// How to come by the lease, and where the audit goes then; None without a broker.
    fn into_options(self) -> Result<Option<(LeaseOptions, Target)>, ConfigError> {
        let LeaseArgs { broker, resource, token_file, token_command, spool, spool_size, broker_ca, broker_ca_file } =
            self;
        let Some(broker) = broker else { return Ok(None) };
        let missing = |option| ConfigError::new(option, "is missing");
        let resource = resource.ok_or_else(|| missing("resource"))?;
        if spool_size < 4 << 20 {
            return Err(ConfigError::new("spool-size", "must be at least 4Mi"));
        }
        let resource: Resource = resource.parse().map_err(|error: String| ConfigError::new("resource", error))?;
        let token = match (token_file, token_command) {
            (Some(file), _) => TokenSource::File(file),
            (None, Some(command)) => TokenSource::Command(command),
            (None, None) => return Err(missing("token-file")),
        };
        let roots = match (broker_ca, broker_ca_file) {
            (Some(pem), _) => BrokerRoots::AtFirst(pem),
            (None, Some(file)) => BrokerRoots::File(file),
            (None, None) => BrokerRoots::Machine,
        };
        let folder = match spool.or_else(|| own_spool(&resource)) {
            Some(folder) => folder,
            None => return Err(ConfigError::new("spool", "is missing, and there is no $HOME to have it in")),
        };
        let options = LeaseOptions { broker: BrokerAddress::parse(&broker)?, resource, token, roots };
        Ok(Some((options, Target::Spool { folder, limit: spool_size / 5 * 4 })))
    }
}

/// Where the audit waits if nothing is said (XDG Base Directory Specification: state of a program, kept over restarts).
fn own_spool(resource: &Resource) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("postern").join(format!("{}.{}", resource.namespace, resource.name)))
}

impl TryFrom<CheckArgs> for Check {
    type Error = ConfigError;

    fn try_from(args: CheckArgs) -> Result<Self, ConfigError> {
        let CheckArgs {
            policies,
            identity_name,
            secrets_dir,
            database,
            schema,
            write_schema,
            sql,
            file,
            output,
            strict,
        } = args;
        let catalog = match (database, schema) {
            (None, None) => CatalogSource::None,
            (_, Some(path)) => CatalogSource::File(path),
            (Some(dsn), None) if dsn.is_empty() => {
                if secrets_dir.is_none() {
                    return Err(ConfigError::new("database", "the policy's own database needs --secrets-dir, too"));
                }
                CatalogSource::PolicyDatabase
            }
            (Some(dsn), None) => CatalogSource::Dsn(Box::new(parse_dsn(&dsn)?)),
        };
        let statements = match (sql, file) {
            (Some(text), _) => Some(Statements::Text(text)),
            (None, Some(path)) if path == Path::new("-") => Some(Statements::Stdin),
            (None, Some(path)) => Some(Statements::File(path)),
            (None, None) => None,
        };
        if let (Some(_), CatalogSource::None) = (&statements, &catalog) {
            let message = "what a statement does depends on the tables: give --schema or --database, too";
            return Err(ConfigError::new("sql", message));
        }
        Ok(Check {
            sources: policies.try_into()?,
            identity: identity_name.map(|name| object_name("as", &name)).transpose()?,
            secrets_dir,
            catalog,
            write_schema,
            statements,
            output,
            strict,
        })
    }
}

impl TryFrom<SuggestArgs> for Suggest {
    type Error = ConfigError;

    fn try_from(args: SuggestArgs) -> Result<Self, ConfigError> {
        let SuggestArgs { audit, policy, database, sample, write } = args;
        let source = |typed: &String| match typed.as_str() {
            "-" => Source::Stdin,
            // As `run` takes it; the variable may be one for both.
            typed => Source::File(typed.strip_prefix("file:").unwrap_or(typed).into()),
        };
        let audit: Vec<Source> = audit.iter().map(source).collect();
        if audit.iter().filter(|source| **source == Source::Stdin).count() > 1 {
            return Err(ConfigError::new("audit", "standard input can be read once"));
        }
        let database = database.map(|dsn| parse_dsn(&dsn).map(Box::new)).transpose()?;
        Ok(Suggest { audit, policies: policy, database, sample, write })
    }
}

impl TryFrom<PolicyArgs> for Sources {
    type Error = ConfigError;

    fn try_from(args: PolicyArgs) -> Result<Self, ConfigError> {
        let PolicyArgs { policy, identity, policy_name } = args;
        let mut paths = policy;
        for path in identity {
            // One file may hold both; read twice, its objects would be there twice.
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let policy = policy_name.map(|name| object_name("policy-name", &name)).transpose()?;
        Ok(Sources { paths, policy })
    }
}

fn object_name(option: &'static str, typed: &str) -> Result<ObjectName, ConfigError> {
    let (namespace, name) = match typed.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, typed),
    };
    if name.is_empty() || name.contains('/') || namespace.as_deref() == Some("") {
        return Err(ConfigError::new(option, format!("'{typed}' is not NAME or NAMESPACE/NAME")));
    }
    Ok(ObjectName { namespace, name: name.to_owned() })
}

fn listen_address(typed: &str) -> Result<ListenAddress, ConfigError> {
    match typed.strip_prefix("unix:") {
        Some("") => Err(ConfigError::new("listen", "unix: needs a path, such as unix:/run/postern")),
        Some(path) => Ok(ListenAddress::Unix(PathBuf::from(path))),
        None => Ok(ListenAddress::Tcp(socket_address("listen", typed)?)),
    }
}

fn socket_address(option: &'static str, typed: &str) -> Result<SocketAddr, ConfigError> {
    let wrong = |why: String| ConfigError::new(option, format!("'{typed}' is not HOST:PORT ({why})"));
    let mut found = typed.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("the host has no address".to_owned()))
}

fn target(typed: &str) -> Result<Target, ConfigError> {
    match typed.strip_prefix("file:") {
        _ if typed == "stdout" => Ok(Target::Stdout),
        Some(path) if !path.is_empty() => Ok(Target::File(PathBuf::from(path))),
        _ => Err(ConfigError::new("audit", format!("'{typed}' is neither stdout nor file:PATH"))),
    }
}

/// A time such as `500ms`, `30s`, `10m`, `1h`.
fn duration(typed: &str) -> Result<Duration, String> {
    let wrong = || format!("'{typed}' is not a time such as 500ms, 30s, 10m or 1h");
    let digits = typed.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = typed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or_else(wrong);
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => Err(wrong()),
    }
}

/// A size such as `1048576`, `512Ki`, `16Mi`, `1Gi`.
fn size(typed: &str) -> Result<u64, String> {
    let wrong = || format!("'{typed}' is not a size such as 512Ki, 16Mi or 1Gi");
    let digits = typed.find(|c: char| !c.is_ascii_digit()).unwrap_or(typed.len());
    let (number, unit) = typed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let each = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(each).ok_or_else(wrong)
}

/// Reads a URL (`postgres://user:password@host:port/name?sslmode=…`) or `key=value` pairs, as libpq does; of its keys
/// only those that say where the database is.
fn parse_dsn(dsn: &str) -> Result<Dsn, ConfigError> {
    let wrong = |why: String| ConfigError::new("database", why);
    let pairs = match dsn.strip_prefix("postgres://").or_else(|| dsn.strip_prefix("postgresql://")) {
        Some(rest) => url_pairs(rest),
        None => key_value_pairs(dsn),
    }
    .map_err(|why| wrong(format!("not a URL or key=value pairs: {why}")))?;

    let mut database = Database {
        host: "localhost".to_owned(),
        port: 5432,
        name: String::new(),
        tls: TlsMode::Disable,
        ca_secret: None,
        credentials: Credentials::Secret(String::new()),
    };
    let mut user = String::new();
    // A password on a command line can be seen by every process; libpq's variable is the better place.
    let mut password = Zeroizing::new(std::env::var("PGPASSWORD").unwrap_or_default());
    let mut ca_file = None;
    for (key, value) in pairs {
        match key.as_str() {
            "host" | "hostaddr" => database.host = value,
            "port" => {
                database.port = value.parse().map_err(|_| wrong(format!("'{value}' is not a port")))?;
            }
            "dbname" => database.name = value,
            "user" => user = value,
            "password" => password = Zeroizing::new(value),
            "sslrootcert" => ca_file = Some(PathBuf::from(value)),
            "sslmode" => {
                database.tls = match value.as_str() {
                    "disable" | "allow" | "prefer" => TlsMode::Disable,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    "verify-full" => TlsMode::VerifyFull,
                    _ => return Err(wrong(format!("'{value}' is not an sslmode"))),
                };
            }
            "application_name" | "connect_timeout" => {}
            _ => return Err(wrong(format!("the key '{key}' is not known here"))),
        }
    }
    if user.is_empty() {
        return Err(wrong("it names no user".to_owned()));
    }
    if database.name.is_empty() {
        database.name.clone_from(&user);
    }
    Ok(Dsn { database, user, password, ca_file })
}

type Pairs = Vec<(String, String)>;

fn url_pairs(rest: &str) -> Result<Pairs, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (host, ""),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut pairs = Vec::new();
    for (key, value) in [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", name)] {
        if !value.is_empty() {
            pairs.push((key.to_owned(), percent_decoded(value)?));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("'{pair}' has no ="))?;
        pairs.push((percent_decoded(key)?, percent_decoded(value)?));
    }
    Ok(pairs)
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let wrong = || "a % is not followed by two hexadecimal digits of UTF-8".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
            let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn key_value_pairs(text: &str) -> Result<Pairs, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("a key has no =")?;
        let key = key.trim().to_owned();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err("a key is not one word".to_owned());
        }
        let mut value = String::new();
        let mut characters = after.trim_start().chars();
        let quoted = characters.as_str().starts_with('\'');
        if quoted {
            characters.next();
        }
        loop {
            match characters.next() {
                Some('\\') => value.push(characters.next().ok_or("it ends in a backslash")?),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err("a quote is not closed".to_owned()),
                None => break,
            }
        }
        pairs.push((key, value));
        rest = characters.as_str().trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    fn config(line: &str) -> Result<Config, String> {
        let words = std::iter::once("postern-sidecar").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        Config::try_from(cli).map_err(|error| error.to_string())
    }

    const RUN: &str = "run --policy p.yaml --identity i.yaml --as nightly --secrets-dir s";

    fn run(rest: &str) -> Result<Run, String> {
        match config(&format!("{RUN} {rest}"))? {
            Config::Run(run) => Ok(run),
            Config::Check(_) | Config::Suggest(_) => panic!("not run"),
        }
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_variable_of_its_name() {
        use clap::CommandFactory as _;
        for command in Cli::command().get_subcommands() {
            for option in command.get_arguments() {
                let Some(long) = option.get_long() else { continue };
                let wanted = format!("POSTERN_{}", long.to_uppercase().replace('-', "_"));
                let variable = option.get_env().and_then(std::ffi::OsStr::to_str);
                assert_eq!(variable, Some(wanted.as_str()), "{} --{long}", command.get_name());
            }
        }
    }

    #[test]
    fn what_is_typed_becomes_what_is_meant() {
        let run = run("--listen 127.0.0.1:1 --listen unix:/run/x --admin [::1]:9 --audit file:/a --drain-timeout 2m")
            .unwrap();
        assert_eq!(run.listen[0].to_string(), "127.0.0.1:1");
        assert_eq!(run.listen[1], ListenAddress::Unix("/run/x".into()));
        assert_eq!(run.admin.unwrap().to_string(), "[::1]:9");
        assert_eq!(run.audit, Target::File("/a".into()));
        assert_eq!(run.drain_timeout, Duration::from_secs(120));
        let Origin::Files(files) = run.origin else { panic!("not from files") };
        assert_eq!(files.sources.paths, [PathBuf::from("p.yaml"), "i.yaml".into()]);
        assert_eq!(files.identity, ObjectName { namespace: None, name: "nightly".into() });
    }

    const LEASED: &str = "run --broker https://b.svc:8443 --resource postern:shop/orders --token-file t --spool s \
                          --broker-ca PEM";

    #[test]
    fn a_lease_stands_in_place_of_files() {
        let Config::Run(leased) = config(LEASED).unwrap() else { panic!("not run") };
        let Origin::Lease(lease) = leased.origin else { panic!("not a lease") };
        assert_eq!((lease.broker.to_string().as_str(), lease.broker.port), ("https://b.svc:8443", 8443));
        assert_eq!(lease.resource.to_string(), "postern:shop/orders");
        // Four fifths of the volume.
        assert_eq!(leased.audit, Target::Spool { folder: "s".into(), limit: (64 << 20) / 5 * 4 });
        for other in ["--policy p", "--identity i", "--as x", "--secrets-dir s", "--policy-name x", "--audit stdout"] {
            assert!(config(&format!("{LEASED} {other}")).unwrap_err().contains("cannot be used with"), "{other}");
        }
        assert!(config("run --broker https://b").unwrap_err().contains("--resource"));
        assert!(config("run --broker https://b --resource postern:a/b").unwrap_err().contains("--token-command"));
        assert!(run("--spool s").unwrap_err().contains("--broker"));
        assert!(config("run").unwrap_err().contains("--policy"));
    }

    #[test]
    fn outside_of_a_cluster_a_token_is_a_file_or_a_command_and_the_broker_is_verified_by_a_file_or_as_the_machine_does()
    {
        let leased = |rest: &str| {
            let config = config(&format!("run --operator https://p.example --resource postern:shop/orders {rest}"))?;
            let Config::Run(Run { origin: Origin::Lease(lease), audit, .. }) = config else { panic!("not a lease") };
            Ok::<_, String>((lease, audit))
        };
        let (lease, _) = leased("--token-file t --operator-ca ca.pem --spool s").unwrap();
        assert_eq!(lease.token, TokenSource::File("t".into()));
        assert_eq!(lease.roots, BrokerRoots::File("ca.pem".into()));
        let (lease, audit) = leased("--token-command print-token").unwrap();
        assert_eq!(lease.token, TokenSource::Command("print-token".into()));
        assert_eq!(lease.roots, BrokerRoots::Machine);
        let Target::Spool { folder, .. } = audit else { panic!("no spool") };
        assert!(folder.is_absolute() && folder.ends_with("postern/shop.orders"), "{folder:?}");
        for wrong in ["", "--token-file t --token-command c", "--token-file t --broker-ca PEM --broker-ca-file f"] {
            assert!(leased(wrong).is_err(), "{wrong}");
        }
        assert!(run("--token-command c").unwrap_err().contains("--broker"));
    }

    #[test]
    fn the_broker_is_reached_by_tls_only() {
        for (url, host, port) in [("https://b", "b", 443), ("https://[::1]:8443/", "::1", 8443)] {
            assert_eq!(BrokerAddress::parse(url), Ok(BrokerAddress { host: host.into(), port }));
        }
        for wrong in ["http://b:1", "b:1", "https://", "https://b:x", "https://b:0", "https://b/path", "https://u@b"] {
            assert!(BrokerAddress::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_its_option() {
        for (rest, start) in [
            ("--listen nowhere", "--listen: 'nowhere' is not HOST:PORT"),
            ("--listen unix:", "--listen: unix: needs a path"),
            ("--audit syslog", "--audit: 'syslog' is neither stdout nor file:PATH"),
            ("--catalog-refresh 10ms", "--catalog-refresh: must be at least 1s"),
            ("--drain-timeout 5x", "error: invalid value '5x' for '--drain-timeout <TIME>': '5x' is not a time"),
            ("--max-connections 0", "error: invalid value '0' for '--max-connections <N>'"),
            ("--tls-cert c", "error: the following required arguments were not provided:\n  --tls-key"),
        ] {
            let error = run(rest).unwrap_err();
            assert!(error.starts_with(start), "{rest}: {error}");
        }
    }

    #[test]
    fn one_file_given_for_policies_and_identities_is_read_once() {
        let Config::Run(run) = config("run --policy a --identity a --as x --secrets-dir s").unwrap() else { panic!() };
        let Origin::Files(files) = run.origin else { panic!("not from files") };
        assert_eq!(files.sources.paths, [PathBuf::from("a")]);
    }

    #[test]
    fn statements_are_explained_against_a_catalog_only() {
        let check = "check --policy p --identity i --sql SELECT";
        assert!(config(check).unwrap_err().starts_with("--sql: what a statement does depends on the tables"));
        assert!(config(&format!("{check} --schema s")).is_ok());
        assert!(config(&format!("{check} --database")).unwrap_err().contains("--secrets-dir"));
        assert!(config(&format!("{check} --database --secrets-dir s")).is_ok());
    }

    #[test]
    fn audits_are_files_and_once_standard_input() {
        let Config::Suggest(suggest) =
            config("suggest --audit a,file:/b --audit - --database user=x --sample").unwrap()
        else {
            panic!("not suggest")
        };
        assert_eq!(suggest.audit, [Source::File("a".into()), Source::File("/b".into()), Source::Stdin]);
        assert!(suggest.sample && suggest.database.is_some());
        assert!(
            config("suggest --audit - --audit -").unwrap_err().starts_with("--audit: standard input can be read once")
        );
        assert!(config("suggest --audit a --sample").unwrap_err().contains("--database"));
        assert!(config("suggest").is_err());
    }

    #[test]
    fn a_database_is_read_from_a_url_or_from_pairs() {
        let dsn = parse_dsn("postgres://me%40x:p%3Aw@[::1]:6000/shop?sslmode=verify-full&sslrootcert=/ca").unwrap();
        assert_eq!((dsn.user.as_str(), dsn.password.as_str()), ("me@x", "p:w"));
        assert_eq!((dsn.database.host.as_str(), dsn.database.port, dsn.database.name.as_str()), ("::1", 6000, "shop"));
        assert_eq!((dsn.database.tls, dsn.ca_file), (TlsMode::VerifyFull, Some("/ca".into())));
        let dsn = parse_dsn(r"host=/run user = 'a \'b' port=1").unwrap();
        assert_eq!((dsn.user.as_str(), dsn.database.host.as_str(), dsn.database.port), ("a 'b", "/run", 1));
        assert_eq!(dsn.database.name, "a 'b");
        for wrong in ["", "user", "user='a", "user=a port=x", "user=a x=y", "postgres://h/d", "user=a sslmode=x"] {
            assert!(parse_dsn(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{:?}", parse_dsn("user=a password=hush").unwrap()).contains("hush"));
    }

    #[test]
    fn times_and_sizes_need_their_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "5", "s", "-1s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("16Mi"), Ok(16 << 20));
        assert_eq!(size("7"), Ok(7));
        assert!(size("1M").is_err() && size("").is_err() && size("99999999999Gi").is_err());
    }
}
