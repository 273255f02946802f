//! The tests' cluster: `cluster with COMMAND…` runs a command beside one, which tests in all its processes find; `cluster hold FOLDER`
//! keeps one, with the product's images and those of samples in it, until it is killed; `cluster archives` builds these images.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use postern_e2e::kubernetes::{Cluster, Image};
use postern_e2e::{built, gate};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().context("usage: cluster with COMMAND…, cluster hold FOLDER, or cluster archives")?;
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
            fs::write(folder.join("folder"), cluster.folder().to_string_lossy().as_bytes())?;
            for image in images()? {
                cluster.load(&image)?;
            }
            // The last, by which it is known to be complete.
            fs::copy(cluster.admin().kubeconfig(), folder.join("kubeconfig"))?;
            bail!("the cluster has ended: {}", cluster.wait()?)
        }
        Some("archives") => {
            for image in images()? {
                println!("{}", image.archive()?.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("no such verb: {}", verb.to_string_lossy()),
    }
}

/// The product's images, of binaries that are not optimised, and what a sample needs.
fn images() -> Result<[Image; 3]> {
    let operator = built::program("postern-operator")?;
    Ok([Image::sidecar(gate::sidecar()?), Image::operator(&operator), Image::postgres()?])
}
