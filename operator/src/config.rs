//! The command line and the environment: as typed ([`Cli`]), then as meant ([`Job`]).

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admission::Sidecars;
use crate::preflight::Preflight;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "postern-operator",
    version,
    about = "Postern inside of a cluster: webhooks, broker and controllers.",
    after_help = "Every option can also be set by the environment variable shown with it. The cluster is the one that the \
                  pod runs in, or that KUBECONFIG names.",
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve webhooks and broker, and run the controllers
    Run(Box<RunArgs>),
    /// Before the chart is uninstalled: end the operator, and take its finalizer from all policies and identities
    Uninstall(UninstallArgs),
    /// Ask until a replica of the operator is ready
    Ready(ReadyArgs),
    /// Before an upgrade: say what this version would touch, or not take; exit code 1 if something would work no more
    Preflight(PreflightArgs),
}

#[derive(Debug, Args)]
struct PreflightArgs {
    /// Image of the sidecars that this version gives to pods; without it pods are not looked at
    #[arg(long, value_name = "IMAGE", env = "POSTERN_SIDECAR_IMAGE")]
    sidecar_image: Option<String>,
    /// Whether the operator evicts pods whose sidecars are outdated, where their policy has restartOnChange
    #[arg(
        long,
        value_name = "BOOL",
        env = "POSTERN_RESTART_WORKLOADS",
        default_value_t = false,
        action = clap::ArgAction::Set
    )]
    restart_workloads: bool,
    /// How it is told
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Output,
}

/// For whom something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
struct ReadyArgs {
    /// Where probes are served
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// How long to ask, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    /// Namespace of the operator
    #[arg(long, value_name = "NAME", env = "POSTERN_NAMESPACE")]
    namespace: String,
    /// Name of its Deployment
    #[arg(long, value_name = "NAME", env = "POSTERN_NAME", default_value = "postern")]
    name: String,
}

/// What is to be done.
#[derive(Debug)]
pub enum Job {
    /// Run until SIGTERM.
    Run(Box<Config>),
    /// What comes before the chart is uninstalled, for the operator of this namespace and name.
    Uninstall {
        /// Namespace of the operator.
        namespace: String,
        /// Name of its Deployment.
        name: String,
    },
    /// Ask until a replica is ready.
    Ready {
        /// Where probes are served.
        address: String,
        /// How long to ask.
        patience: Duration,
    },
    /// Say what an upgrade would touch.
    Preflight(Preflight),
}

impl Job {
    /// How it logs: the format, and what.
    pub fn log(&self) -> (LogFormat, tracing::Level) {
        match self {
            Job::Run(config) => (config.log_format, config.log),
            Job::Uninstall { .. } | Job::Ready { .. } => (LogFormat::Text, tracing::Level::INFO),
            Job::Preflight(_) => (LogFormat::Text, tracing::Level::WARN),
        }
    }
}

impl From<Cli> for Job {
    fn from(cli: Cli) -> Self {
        match cli.command {
            Command::Run(arguments) => Job::Run(Box::new(Config::from(*arguments))),
            Command::Uninstall(UninstallArgs { namespace, name }) => Job::Uninstall { namespace, name },
            Command::Ready(ReadyArgs { address, patience }) => {
                Job::Ready { address, patience: Duration::from_secs(patience) }
            }
            Command::Preflight(PreflightArgs { sidecar_image, restart_workloads, output }) => {
                Job::Preflight(Preflight { image: sidecar_image, restarts: restart_workloads, output })
            }
        }
    }
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Namespace of the operator
    #[arg(long, value_name = "NAME", env = "POSTERN_NAMESPACE")]
    namespace: String,
    /// Name of this pod
    #[arg(long, value_name = "NAME", env = "POSTERN_POD_NAME")]
    pod_name: String,
    /// What the names of its objects begin with: the Deployment's name
    #[arg(long, value_name = "NAME", env = "POSTERN_NAME", default_value = "postern")]
    name: String,
    /// Its service account [default: --name]
    #[arg(long, value_name = "NAME", env = "POSTERN_SERVICE_ACCOUNT")]
    service_account: Option<String>,

    /// Where the API server reaches the webhooks
    #[arg(
        long,
        value_name = "ADDR",
        env = "POSTERN_WEBHOOK_LISTEN",
        default_value = "0.0.0.0:9443",
        help_heading = "Network"
    )]
    webhook_listen: SocketAddr,
    /// Another name or address by which the API server reaches the webhooks, where the operator runs outside of the cluster
    #[arg(long, value_name = "HOST", env = "POSTERN_WEBHOOK_HOST", help_heading = "Network")]
    webhook_host: Option<String>,
    /// Where sidecars reach the broker
    #[arg(
        long,
        value_name = "ADDR",
        env = "POSTERN_BROKER_LISTEN",
        default_value = "0.0.0.0:8443",
        help_heading = "Network"
    )]
    broker_listen: SocketAddr,
    /// Where metrics and probes are served: /metrics /livez /readyz
    #[arg(
        long,
        value_name = "ADDR",
        env = "POSTERN_ADMIN_LISTEN",
        default_value = "0.0.0.0:9090",
        help_heading = "Network"
    )]
    admin_listen: SocketAddr,
    /// How sidecars reach the broker [default: the Service's name, with port 8443]
    #[arg(long, value_name = "URL", env = "POSTERN_BROKER_URL", help_heading = "Network")]
    broker_url: Option<String>,
    /// Give a lease only to who asks from an address of its pod; false where addresses are translated on the way
    #[arg(
        long,
        value_name = "BOOL",
        env = "POSTERN_VERIFY_SOURCE_ADDRESS",
        default_value_t = true,
        action = clap::ArgAction::Set,
        help_heading = "Network"
    )]
    verify_source_address: bool,

    /// Image of the sidecar, best with its digest
    #[arg(long, value_name = "IMAGE", env = "POSTERN_SIDECAR_IMAGE", help_heading = "Sidecars")]
    sidecar_image: String,
    /// When nodes fetch it: Always, IfNotPresent or Never [default: Kubernetes']
    #[arg(long, value_name = "POLICY", env = "POSTERN_SIDECAR_IMAGE_PULL_POLICY", help_heading = "Sidecars")]
    sidecar_image_pull_policy: Option<String>,

    /// Evict pods whose sidecars are outdated, where their policy has restartOnChange
    #[arg(
        long,
        value_name = "BOOL",
        env = "POSTERN_RESTART_WORKLOADS",
        default_value_t = false,
        action = clap::ArgAction::Set,
        help_heading = "Sidecars"
    )]
    restart_workloads: bool,

    /// Where the sidecars' audit goes: stdout, file:PATH or otlp:URL
    #[arg(
        long,
        value_name = "TARGET",
        env = "POSTERN_AUDIT_SINK",
        default_value = "stdout",
        help_heading = "Operation"
    )]
    audit_sink: String,
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
    /// What is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "POSTERN_LOG", default_value = "info", help_heading = "Operation")]
    log: tracing::Level,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// An object per line.
    Json,
}

/// What is meant.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the operator.
    pub namespace: String,
    /// This replica.
    pub pod_name: String,
    /// What the names of its objects begin with.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Where the API server reaches the webhooks.
    pub webhook_listen: SocketAddr,
    /// Another name of theirs.
    pub webhook_host: Option<String>,
    /// Where sidecars reach the broker.
    pub broker_listen: SocketAddr,
    /// Where metrics and probes are served.
    pub admin_listen: SocketAddr,
    /// Whether a lease is given only to who asks from an address of its pod.
    pub verify_source_address: bool,
    /// What is the same for all sidecars.
    pub sidecars: Sidecars,
    /// Whether pods are evicted whose sidecars are outdated.
    pub restart_workloads: bool,
    /// Where the sidecars' audit goes.
    pub audit_sink: String,
    /// Format of the log.
    pub log_format: LogFormat,
    /// What is logged.
    pub log: tracing::Level,
}

impl From<RunArgs> for Config {
    fn from(arguments: RunArgs) -> Self {
        let RunArgs {
            namespace,
            pod_name,
            name,
            service_account,
            webhook_listen,
            webhook_host,
            broker_listen,
            admin_listen,
            broker_url,
            verify_source_address,
            sidecar_image,
            sidecar_image_pull_policy,
            restart_workloads,
            audit_sink,
            log_format,
            log,
        } = arguments;
        let broker = broker_url.unwrap_or_else(|| format!("https://{name}-broker.{namespace}.svc:8443"));
        Self {
            sidecars: Sidecars { image: sidecar_image, image_pull_policy: sidecar_image_pull_policy, broker },
            service_account: service_account.unwrap_or_else(|| name.clone()),
            namespace,
            pod_name,
            name,
            webhook_listen,
            webhook_host,
            broker_listen,
            admin_listen,
            verify_source_address,
            restart_workloads,
            audit_sink,
            log_format,
            log,
        }
    }
}

impl Config {
    /// The name by which sidecars reach the broker.
    pub fn broker_host(&self) -> Option<&str> {
        let authority = self.sidecars.broker.strip_prefix("https://")?.split('/').next()?;
        Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
    }
}
