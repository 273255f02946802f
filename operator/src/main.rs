//! `postern-operator`, see [`postern_operator`].

use std::process::ExitCode;

use clap::Parser as _;
use postern_operator::config::{Cli, Job, LogFormat};
use postern_operator::{preflight, ready, run, uninstall};

fn main() -> ExitCode {
    let job = Job::from(Cli::parse());
    let (format, level) = job.log();
    // Who runs a preflight has to tell what is in the way from what could not be looked at.
    let failed = if matches!(job, Job::Preflight(_)) { ExitCode::from(2) } else { ExitCode::FAILURE };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    // One provider of cryptography; kube would look for it.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::error!("a provider of cryptography is installed already");
        return ExitCode::FAILURE;
    }
    let ended = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            match job {
                Job::Run(config) => run::run(*config).await.map(|()| true),
                Job::Ready { address, patience } => ready::wait(&address, patience).await.map(|()| true),
                Job::Uninstall { namespace, name } => uninstall::uninstall(&namespace, &name).await.map(|()| true),
                Job::Preflight(asked) => preflight::preflight(&asked).await,
            }
        }),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error:#}");
            failed
        }
    }
}
