//! Programs of this workspace, built as the running one was.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The binary of a package, which is built first.
pub fn program(package: &str) -> Result<PathBuf> {
    // …/target/<profile>/deps/<test>, or …/target/<profile>/<program>
    let program = std::env::current_exe()?;
    let profile = program
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "debug" || name == "release"))
        .context("this program is not in a target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", package]).current_dir(crate::workspace());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    ensure!(cargo.status().context("start cargo")?.success(), "{package} does not build");
    Ok(profile.join(package))
}
