//! `postern-operator`, see [`postern_operator`].

use std::process::ExitCode;

use clap::Parser as _;
use postern_operator::config::{Cli, Job, LogFormat};
use postern_operator::{ready, run, uninstall};

fn main() -> ExitCode {
    let job = Job::from(Cli::parse());
    let (format, level) = job.log();
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
                Job::Run(config) => run::run(*config).await,
                Job::Ready { address, patience } => ready::wait(&address, patience).await,
                Job::Uninstall { namespace, name } => uninstall::uninstall(&namespace, &name).await,
            }
        }),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
