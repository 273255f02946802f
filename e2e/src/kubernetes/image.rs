//! Images for the cluster's pods, built without any registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::{Unavailable, Version, programs, unless_unavailable};

/// An image that can be built.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    /// Of its Dockerfile.
    folder: PathBuf,
    archive: PathBuf,
    files: Vec<PathBuf>,
}

impl Image {
    /// What holds a pod's namespaces.
    pub(super) fn pause() -> Result<Self> {
        Self::of_tests("pause", &[programs(Version("pause"), &["pause"])?.join("pause")])
    }

    /// Real Postgres clients: psql, and Python with psycopg; curl and a shell.
    pub fn client() -> Result<Self> {
        Self::of_tests("client", &[])
    }

    /// A Postgres server.
    pub fn postgres() -> Result<Self> {
        let start = crate::workspace().join("e2e/images/postgres/start.sh");
        Self::of_tests("postgres", &[start])
    }

    /// One of `e2e/images`, kept outside the tree.
    fn of_tests(name: &str, files: &[PathBuf]) -> Result<Self> {
        Ok(Self {
            name: format!("localhost/postern-{name}:test"),
            folder: crate::workspace().join("e2e/images").join(name),
            archive: crate::cache("images")?.join(format!("{name}.tar")),
            files: files.to_vec(),
        })
    }

    /// The sidecar's, with this binary in it.
    pub fn sidecar(binary: &Path) -> Self {
        Self::of_product("sidecar", binary)
    }

    /// The operator's, with this binary in it.
    pub fn operator(binary: &Path) -> Self {
        Self::of_product("operator", binary)
    }

    /// The product's own Dockerfile, with a binary that need not be optimised: that would take minutes for each change.
    fn of_product(part: &str, binary: &Path) -> Self {
        Self {
            name: format!("localhost/postern-{part}:{}", env!("CARGO_PKG_VERSION")),
            folder: crate::workspace().join(part),
            archive: crate::workspace().join(format!("target/images/test/postern-{part}.tar")),
            files: vec![binary.into()],
        }
    }

    /// By which pods name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its archive, built if it is not there yet or something in it is another; an error where it can't be built.
    pub fn archive(&self) -> Result<PathBuf> {
        self.build(&self.archive, false)?;
        Ok(self.archive.clone())
    }

    /// Builds it anew, as this archive. None where the machine can't, which is said.
    pub fn build_anew(&self, archive: &Path) -> Result<Option<()>> {
        self.build(archive, true).map_or_else(|error| unless_unavailable(Err(&error)), |()| Ok(Some(())))
    }

    fn build(&self, archive: &Path, anew: bool) -> Result<()> {
        let mut command = Command::new(crate::workspace().join(".ci/image"));
        command.arg(&self.folder).arg(&self.name).arg(archive).args(&self.files);
        if anew {
            command.env("FRESH", "1");
        }
        // It tells how far it is, and what fails.
        match command.stdin(Stdio::null()).stdout(Stdio::null()).status()?.code() {
            Some(0) => Ok(()),
            Some(3) => bail!(Unavailable("images can't be built on this machine".into())),
            _ => bail!("the image {} is not built", self.name),
        }
    }
}
