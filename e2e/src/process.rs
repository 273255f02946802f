//! What a running process uses, as the kernel counts it; signals to it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Of a second, in which the kernel tells CPU time to user space; the same on every Linux.
const TICKS: u64 = 100;

/// A shared library that Debian has, installed by the set-up.
pub fn library(name: &str) -> Result<String> {
    let folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut files = folders.flat_map(|folder| [folder.join(name), folder.join("faketime").join(name)]);
    let found = files.find(|file| file.exists());
    Ok(found.with_context(|| format!("{name} is not installed: run `make setup`"))?.display().to_string())
}

/// The environment in which a process has a wall clock that is off by this, such as `+90s`; spans of time stay as they are.
pub fn clock(off: &str) -> Result<Vec<(String, String)>> {
    let library = library("libfaketimeMT.so.1")?;
    let variables = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", off),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

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

    /// Those of them that no file has: its own, where pages of programs are shared by all that run them.
    pub fn anonymous(&self) -> Result<u64> {
        self.status("RssAnon:")
    }

    /// The most bytes of it that were in memory since [`Process::forget_peak`].
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Lets the peak begin anew with what is in memory now.
    pub fn forget_peak(&self) -> Result<()> {
        fs::write(self.folder.join("clear_refs"), "5").context("reset the peak of memory")
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(self.folder.join("fd"))?.count())
    }

    /// Its threads.
    pub fn threads(&self) -> Result<u64> {
        Ok(self.status_line("Threads:")?.parse()?)
    }

    /// Sends it a signal, such as `KILL`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.folder.file_name().context("no process id")?;
        let status = Command::new("/bin/sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name]).arg(id).status()?;
        ensure!(status.success(), "no signal {name} to {id:?}");
        Ok(())
    }

    fn status(&self, field: &str) -> Result<u64> {
        Ok(self.status_line(field)?.trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn status_line(&self, field: &str) -> Result<String> {
        let status = fs::read_to_string(self.folder.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(line.trim().to_owned())
    }
}
