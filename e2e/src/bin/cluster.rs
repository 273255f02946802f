//! The tests' cluster: `cluster with COMMAND…` runs a command beside one, by which tests in all its processes find it; `cluster hold FOLDER`
//! keeps one until it is killed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use postern_e2e::kubernetes::Cluster;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().context("usage: cluster with COMMAND…, or cluster hold FOLDER")?;
    match verb.to_str() {
        Some("with") => {
            let mut command = Command::new(arguments.next().context("no command")?);
            command.args(arguments);
            // Where there can be none, tests say what they leave out.
            let cluster = Cluster::start()?;
            if let Some(cluster) = &cluster {
                let (variable, value) = cluster.variable();
                command.env(variable, value);
            }
            let status = command.status()?;
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Some("hold") => {
            let folder = PathBuf::from(arguments.next().context("no folder")?);
            let Some(mut cluster) = Cluster::start()? else { return Ok(ExitCode::from(3)) };
            fs::copy(cluster.admin().kubeconfig(), folder.join("kubeconfig"))?;
            fs::write(folder.join("folder"), cluster.folder().to_string_lossy().as_bytes())?;
            bail!("the cluster has ended: {}", cluster.wait()?)
        }
        _ => bail!("no such verb: {}", verb.to_string_lossy()),
    }
}
