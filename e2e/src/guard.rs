//! A child process that does not outlive us.
//!
//! **Promise.** Whatever ends this process (a panic, `SIGKILL`, a test runner's time limit), the child is stopped and
//! its folder removed. A small shell stands between: it holds the other end of a pipe of ours and acts when that
//! closes. (`PR_SET_PDEATHSIG` would not do: it follows the *thread* that started the child, and tests have one each.)

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;

/// `$1` signal, `$2` folder to remove (empty for none; one with a file `keep` stays), `$3` how many tenths of a second the
/// child may take to end, the rest is the command. The shell itself ignores the terminal's signals, so ^C reaches us first and the pipe closes.
const WATCH: &str = r#"
signal=$1 folder=$2 patience=$3; shift 3
trap '' INT TERM HUP
exec 3<&0
(trap - INT TERM HUP; exec "$@") 3<&- </dev/null & child=$!
# The pipe ends when we do; the child may end before.
(cat <&3 >/dev/null; kill -s "$signal" "$child" 2>/dev/null
 while [ "$patience" -gt 0 ] && kill -0 "$child" 2>/dev/null; do sleep 0.1; patience=$((patience - 1)); done
 kill -s KILL "$child" 2>/dev/null) & watch=$!
exec 3<&-
wait "$child"; status=$?
kill -s KILL "$watch" 2>/dev/null
[ -z "$folder" ] || [ -e "$folder/keep" ] || rm -rf "$folder"
exit "$status"
"#;

/// A running child, stopped when dropped.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
    /// Open from the start: the file's name is gone when the folder is.
    log: File,
}

/// How the child is ended and what is removed after it.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Name of the signal, such as `QUIT`.
    pub signal: &'a str,
    /// Removed afterwards.
    pub folder: Option<&'a Path>,
    /// How long it may take before it is killed.
    pub patience: Duration,
}

impl Guard {
    /// Starts `command`, its output going to `log`.
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(
        command: &[S],
        environment: &[(String, String)],
        log: &Path,
        ending: &Ending<'_>,
    ) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", WATCH, "guard", ending.signal])
            .arg(ending.folder.unwrap_or(Path::new("")))
            .arg((ending.patience.as_millis() / 100).to_string())
            .args(command)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Away from the terminal's group: its ^C must not reach child and shell before us.
            .process_group(0);
        let mut shell = shell.spawn().context("start /bin/sh")?;
        let pipe = shell.stdin.take();
        let log = File::open(log).with_context(|| format!("open {}", log.display()))?;
        Ok(Self { shell, pipe, log })
    }

    /// Whether the child has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }

    /// The child, once it runs its program.
    pub fn process(&self) -> Result<Process> {
        Process::child_of(self.shell.id())
    }

    /// What the child has written so far.
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        let mut file = &self.log;
        _ = file.seek(SeekFrom::Start(0));
        _ = file.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until `ready` holds; an error if the child ends first or the time is over.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            if ready() {
                return Ok(());
            }
            if self.ended() {
                bail!("{what} ended at start:\n{}", self.log());
            }
            if Instant::now() > until {
                bail!("{what} is not ready after {limit:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the child to end.
    pub fn wait(&mut self) -> Result<()> {
        self.shell.wait()?;
        Ok(())
    }

    /// Asks the child to end and waits for it; its exit status.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.pipe = None;
        Ok(self.shell.wait()?.code())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        _ = self.shell.wait();
    }
}
