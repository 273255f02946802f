//! `kubectl postern`, see [`postern_operator::plugin`].

use std::process::ExitCode;

use clap::Parser as _;
use postern_operator::plugin::{self, Plugin};

fn main() -> ExitCode {
    // One provider of cryptography; kube would look for it.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: a provider of cryptography is installed already");
        return ExitCode::from(2);
    }
    let asked = Plugin::parse();
    let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(plugin::run(asked)),
        Err(error) => Err(error.into()),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
