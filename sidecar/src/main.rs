//! The command `postern-sidecar`.

use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::Parser as _;
use postern_sidecar::check::{self, Verdict};
use postern_sidecar::config::{Cli, Config, LogFormat, Run};
use postern_sidecar::serve::{self, Served};
use postern_sidecar::suggest;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The command line is wrong, or what it names can't be read.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Before anything can use TLS: there is one provider in this process, and it is this one.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail(&"the TLS provider could not be installed");
    }
    let config = match Config::try_from(Cli::parse()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}\n\nFor more information, try '--help'.");
            return ExitCode::from(USAGE);
        }
    };
    // Sessions have threads of their own; this one runs what watches and answers probes.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match config {
        Config::Check(check) => match runtime.block_on(check::run(check)) {
            Ok(Verdict::Clean) => ExitCode::SUCCESS,
            Ok(Verdict::Wrong) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(USAGE)
            }
        },
        Config::Suggest(suggest) => match runtime.block_on(suggest::run(suggest)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(USAGE)
            }
        },
        Config::Run(run) => {
            if let Err(error) = start_log(&run) {
                eprintln!("error: --log: {error}");
                return ExitCode::from(USAGE);
            }
            match runtime.block_on(serve::run(run)) {
                Ok(Served::ToTheEnd) => ExitCode::SUCCESS,
                Ok(Served::UntilAnother) => {
                    runtime.shutdown_background();
                    fail(&format_args!("failed to start again: {}", start_again()))
                }
                Err(error) => fail(&format_args!("{error:#}")),
            }
        }
    }
}

/// This program again, in place of this one: quicker than what restarts containers, and with no delay that grows. Returns
/// only if that fails.
fn start_again() -> io::Error {
    Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec()
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// The log goes to standard error: standard output may be the audit's.
fn start_log(run: &Run) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter: Targets = run.log.parse()?;
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match run.log_format {
        LogFormat::Text => registry.with(log.with_ansi(io::stderr().is_terminal()).with_target(false)).try_init()?,
        LogFormat::Json => registry.with(log.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}
