//! The command line and the environment: as typed ([`Cli`]), then as meant ([`Job`]).

use std::net::SocketAddr;
use std::path::PathBuf;
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
    /// How sidecars outside of the cluster reach the broker: https://HOST:PORT, where TLS has to pass through; may be repeated
    #[arg(
        long,
        value_name = "URL",
        env = "POSTERN_BROKER_EXTERNAL_URL",
        value_delimiter = ',',
        value_parser = external_url,
        help_heading = "Network"
    )]
    broker_external_url: Vec<String>,
    /// Issuers outside of the cluster whose tokens prove identities: a JSON array of {"url", "ca", "allowPrivateAddresses"}
    #[arg(long, value_name = "FILE", env = "POSTERN_ISSUERS", help_heading = "Network")]
    issuers: Option<PathBuf>,
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
    /// How sidecars outside of the cluster reach the broker.
    pub broker_external: Vec<String>,
    /// The list of issuers outside of it.
    pub issuers: Option<PathBuf>,
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
            broker_external_url,
            issuers,
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
            broker_external: broker_external_url,
            issuers,
            verify_source_address,
            restart_workloads,
            audit_sink,
            log_format,
            log,
        }
    }
}

/// A URL of the broker's, without a path.
fn external_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    match host(url) {
        Some(host) if !host.is_empty() && !url.contains(['?', '#', '@', ' ']) && url.matches('/').count() == 2 => {
            Ok(url.to_owned())
        }
        _ => Err("has to be https://HOST:PORT".to_owned()),
    }
}

/// The host of a URL, without the brackets of an IPv6 address.
fn host(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

impl Config {
    /// The names by which sidecars reach the broker, beside its Service's.
    pub fn broker_hosts(&self) -> Vec<String> {
        let urls = [&self.sidecars.broker].into_iter().chain(&self.broker_external);
        urls.filter_map(|url| host(url)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_reached_from_outside_by_a_name_and_https() {
        for (url, wanted) in [
            ("https://postern.acme.example", Some("postern.acme.example")),
            ("https://postern.acme.example:8443/", Some("postern.acme.example")),
            ("https://192.0.2.1:443", Some("192.0.2.1")),
            ("https://[2001:db8::1]:8443", Some("2001:db8::1")),
            ("https://[2001:db8::1]", Some("2001:db8::1")),
            ("http://postern.acme.example", None),
            ("https://postern.acme.example/path", None),
            ("https://user@postern.acme.example", None),
            ("https://:8443", None),
            ("postern.acme.example:8443", None),
        ] {
            let read = external_url(url).ok();
            assert_eq!(read.as_deref().and_then(host), wanted, "{url}");
        }
    }
}
