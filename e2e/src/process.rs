//! What a running process uses, as the kernel counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Of a second, in which the kernel tells CPU time to user space; the same on every Linux.
const TICKS: u64 = 100;

/// A process, seen through `/proc`.
#[derive(Clone, Debug)]
pub struct Process {
    folder: PathBuf,
}

impl Process {
    /// The process with this id.
    pub fn new(id: u32) -> Self {
        Self { folder: PathBuf::from(format!("/proc/{id}")) }
    }

    /// The child of `parent` that runs another program than a shell.
    pub fn child_of(parent: u32) -> Result<Self> {
        for entry in fs::read_dir("/proc")?.flatten() {
            let process = Self { folder: entry.path() };
            let Ok(line) = fs::read_to_string(process.folder.join("cmdline")) else { continue };
            let shell = line.split('\0').next().is_some_and(|program| program.is_empty() || program.ends_with("/sh"));
            // Behind the name come the state and the parent.
            if !shell && process.stat().is_ok_and(|stat| stat.get(1).is_some_and(|id| *id == parent.to_string())) {
                return Ok(process);
            }
        }
        anyhow::bail!("process {parent} has no child")
    }

    /// The fields of `stat` behind the program's name.
    fn stat(&self) -> Result<Vec<String>> {
        let stat = fs::read_to_string(self.folder.join("stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        Ok(fields.split(' ').map(str::to_owned).collect())
    }

    /// CPU time of all its threads so far, their system calls included.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.stat()?;
        let ticks = |at: usize| -> Result<u64> { Ok(stat.get(at).context("short stat")?.parse()?) };
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS))
    }

    /// Bytes of it that are in memory now.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most bytes of it that were in memory since [`Process::forget_peak`].
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Lets the peak begin anew with what is in memory now.
    pub fn forget_peak(&self) -> Result<()> {
        fs::write(self.folder.join("clear_refs"), "5").context("reset the peak of memory")
    }

    fn status(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(self.folder.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}
