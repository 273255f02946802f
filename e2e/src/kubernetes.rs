//! A real Kubernetes for the tests, built from its Go modules.
//!
//! An [`ApiServer`] is one by itself: with the store and the controllers that belong to it, without nodes, in each version that is
//! supported. It is for what talks to the API only: definitions, webhooks, controllers; nothing in it runs pods. A [`Cluster`] has a node
//! that does, of images built here. What a machine can't run is left out there, which is said and counted.

mod access;
mod api_server;
mod certificates;
mod cluster;
mod image;
mod namespace;
pub mod operator;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub use access::Access;
pub use api_server::ApiServer;
pub use certificates::Authority;
pub use cluster::{Befalls, Cluster};
pub use image::Image;
pub use namespace::Namespace;

/// A version of Kubernetes: the name of its folder in `e2e/kubernetes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub &'static str);

/// The oldest that Postern supports.
pub const OLDEST: Version = Version("1.33");
/// The newest.
pub const NEWEST: Version = Version("1.37");
/// The one that runs pods: the last for which Debian's containerd is new enough.
const POD_VERSION: Version = Version("1.35");

/// Helm, built if it is not there yet; None where it can't be, which is said.
pub fn helm() -> Result<Option<PathBuf>> {
    unless_unavailable(programs(Version("helm"), &["helm"]).as_ref()).map(|folder| folder.map(|it| it.join("helm")))
}

/// Why this machine can't run a part of Kubernetes.
#[derive(Debug)]
struct Unavailable(String);

impl std::error::Error for Unavailable {}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder with these programs of a version, or with all, built if they are not there yet; [`Unavailable`] where they can't be built.
fn programs(version: Version, names: &[&str]) -> Result<PathBuf> {
    let script = crate::workspace().join("e2e/kubernetes/build");
    let output = Command::new(script).arg(version.0).args(names).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout)?.trim().into()),
        Some(3) => bail!(Unavailable(said.trim().to_owned())),
        _ => bail!("Kubernetes {}: {said}", version.0),
    }
}

/// Tells how far it is; not by `eprintln!`, which a test that passes does not show.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}

/// What was started; None where the machine can't: then it is said that the test is left out and why, and counted in the
/// file that `POSTERN_LEFT_OUT` names.
fn unless_unavailable<T>(started: Result<T, &anyhow::Error>) -> Result<Option<T>> {
    let error = match started {
        Ok(started) => return Ok(Some(started)),
        Err(error) => error,
    };
    let Some(Unavailable(why)) = error.downcast_ref() else { bail!("{error:#}") };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    say(&format!("left out: {test}, for {why}"))?;
    if let Some(path) = std::env::var_os("POSTERN_LEFT_OUT") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).context("POSTERN_LEFT_OUT")?;
        writeln!(file, "{test}: {why}")?;
    }
    Ok(None)
}
