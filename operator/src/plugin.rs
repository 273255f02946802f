//! `kubectl postern`: what there is of Postern in a namespace, for people.
//!
//! **Promise.** It asks the API server, by the rights of who runs it, and nothing else: there is no port of the operator's
//! for it, and it shows nobody what he could not read himself. What `explain` says is what `postern-sidecar check` says.

mod explain;
mod revoke;
mod sessions;
mod status;
mod table;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

use crate::config::Output;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-postern",
    bin_name = "kubectl postern",
    version,
    about = "What there is of Postern in a namespace: by your own rights, from the API server alone.",
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Plugin {
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(long, short = 'n', value_name = "NAME", global = true)]
    namespace: Option<String>,
    /// Another context of the kubeconfig than the current one
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Policies and identities, and what is wrong with them
    Status(Shown),
    /// Who is connected: pods with a sidecar, their policy and identity, and how many sessions are open
    Sessions(Shown),
    /// What a policy makes of a statement: decision, rule and rewritten text, by `postern-sidecar check`
    #[command(after_help = "\
What a statement does depends on the tables, so give what `check` needs to know of them behind --:
  kubectl postern explain --as nightly-report 'SELECT * FROM customers' -- --schema schema.json
  kubectl postern explain --as nightly-report 'SELECT * FROM customers' -- --database postgresql://me@localhost/shop")]
    Explain(Explain),
    /// The audit as it comes: what identities of the namespace ask, and what becomes of it
    Tail(Tail),
    /// End what an identity or a pod may do: its leases and its sessions
    #[command(after_help = "\
An identity is deleted, and its manifest printed, so that it can be given back:
  kubectl postern revoke nightly-report > nightly-report.yaml
  kubectl apply -f nightly-report.yaml
A pod is deleted; where something makes another one in its place, that one gets a lease of its own:
  kubectl postern revoke --pod nightly-report-5d4f9-x7k2p")]
    Revoke(Revoke),
}

#[derive(Debug, Args)]
struct Shown {
    /// All namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// How it is shown
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
struct Explain {
    /// The statements
    sql: String,
    /// The identity that asks
    #[arg(long = "as", value_name = "IDENTITY")]
    identity: String,
    /// The policy [default: the only one of the namespace]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The program that explains
    #[arg(long, value_name = "FILE", env = "POSTERN_SIDECAR", default_value = "postern-sidecar")]
    sidecar: PathBuf,
    /// Further options of `postern-sidecar check`, such as --schema
    #[arg(last = true)]
    more: Vec<String>,
}

#[derive(Debug, Args)]
struct Tail {
    /// Namespace of the operator, whose log has the audit where `audit.sink` is stdout
    #[arg(long, value_name = "NAME", default_value = "postern-system")]
    operator_namespace: String,
    /// What is shown of before, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    since: u32,
    /// Show what there is, and end
    #[arg(long)]
    no_follow: bool,
    /// Of this identity only
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// How it is shown; json is an event per line
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
struct Revoke {
    /// The identity
    #[arg(required_unless_present = "pod", conflicts_with = "pod")]
    identity: Option<String>,
    /// A pod in place of an identity
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Say whom it would hit, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// The cluster, and where in it.
struct Place {
    client: Client,
    namespace: String,
}

/// Does what was asked.
pub async fn run(asked: Plugin) -> Result<ExitCode> {
    let Plugin { namespace, context, command } = asked;
    let config = match context {
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context), ..KubeConfigOptions::default() };
            Config::from_kubeconfig(&options).await?
        }
        None => Config::infer().await.context("there is no cluster: set KUBECONFIG")?,
    };
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let place = Place { client: Client::try_from(config)?, namespace };
    match command {
        Command::Status(shown) => status::status(&place, &shown).await,
        Command::Sessions(shown) => sessions::sessions(&place, &shown).await,
        Command::Explain(explain) => explain::explain(&place, &explain).await,
        Command::Tail(tail) => tail::tail(&place, &tail).await,
        Command::Revoke(revoke) => revoke::revoke(&place, &revoke).await,
    }
}
