//! The token that says who this process is, as it is now.
//!
//! **Promise.** It is held in memory only, and shown nowhere: of what can't be a token is told why, and not what it is.
//! **Not covered.** Whether it is good: the broker says so.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::config::TokenSource;

/// Largest token.
const MAX_TOKEN: u64 = 64 << 10;
/// How long a command may take: some ask a person to log in.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubjectError {
    #[error("failed to read the token {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    #[error("failed to run the token command: {0}")]
    Run(#[source] io::Error),
    #[error("the token command failed ({0}); what it said stands above")]
    Failed(ExitStatus),
    #[error("the token command took longer than {} s", PATIENCE.as_secs())]
    Late,
    #[error("{0} gives more than {MAX_TOKEN} bytes, which is no token")]
    Long(&'static str),
    #[error("{0} gives nothing")]
    Empty(&'static str),
    #[error("{0} gives more than one word, which is no token")]
    Words(&'static str),
}

/// The token as it is now: who issues it replaces it before it expires.
pub(super) async fn token(source: &TokenSource) -> Result<Zeroizing<String>, SubjectError> {
    match source {
        TokenSource::File(path) => of_file(path),
        TokenSource::Command(command) => of_command(command, PATIENCE).await,
    }
}

fn of_file(path: &Path) -> Result<Zeroizing<String>, SubjectError> {
    use io::Read as _;
    let failed = |error| SubjectError::File(path.to_owned(), error);
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_TOKEN + 1).read_to_string(&mut text).map_err(failed)?;
    one_word(&text, "the token file")
}

async fn of_command(command: &str, patience: Duration) -> Result<Zeroizing<String>, SubjectError> {
    let child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it has to say to people, such as where to log in.
        .stderr(Stdio::inherit())
        // So that what it started ends with it.
        .process_group(0)
        .spawn()
        .map_err(SubjectError::Run)?;
    let mut group = Group(child);
    let printed = timeout(patience, group.printed()).await.map_err(|_| SubjectError::Late)?;
    one_word(&printed?, "the token command")
}

/// A command with all that it started, none of which outlives this.
struct Group(Child);

impl Group {
    /// What it prints, to its end.
    async fn printed(&mut self) -> Result<Zeroizing<String>, SubjectError> {
        let mut text = Zeroizing::new(String::new());
        if let Some(output) = &mut self.0.stdout {
            output.take(MAX_TOKEN + 1).read_to_string(&mut text).await.map_err(SubjectError::Run)?;
        }
        if text.len() as u64 > MAX_TOKEN {
            return Err(SubjectError::Long("the token command"));
        }
        let status = self.0.wait().await.map_err(SubjectError::Run)?;
        if status.success() { Ok(text) } else { Err(SubjectError::Failed(status)) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // None once its end was waited for: its number may be another's by then.
        let leader = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(leader) = leader {
            // It may have ended just now.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn one_word(text: &str, source: &'static str) -> Result<Zeroizing<String>, SubjectError> {
    if text.len() as u64 > MAX_TOKEN {
        return Err(SubjectError::Long(source));
    }
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(Zeroizing::new(word.to_owned())),
        (None, _) => Err(SubjectError::Empty(source)),
        (Some(_), Some(_)) => Err(SubjectError::Words(source)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_token_is_the_one_word_that_a_command_prints_and_every_other_output_is_told_without_it() {
        let token = of_command("printf 'a.b.c\\n'", LONG).await.unwrap();
        assert_eq!(token.as_str(), "a.b.c");
        for (command, why) in [
            ("true", "nothing"),
            ("echo hush hush", "more than one word"),
            ("echo hush; exit 3", "exit status: 3"),
            ("no-such-program-here 2>/dev/null", "exit status: 127"),
            ("yes hush", "65536 bytes"),
            ("printf '\\377'", "utf-8"),
        ] {
            let error = of_command(command, LONG).await.unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hush"), "{command}: {error}");
        }
    }

    #[tokio::test]
    async fn a_command_that_hangs_ends_with_all_that_it_started() {
        let folder = std::env::temp_dir().join(format!("postern-token-{}", std::process::id()));
        let said = folder.to_string_lossy().into_owned();
        // The sleep would hold the pipe open for as long as it lives.
        let command = format!("sleep 1000 & echo $! > {said}; wait");
        let error = of_command(&command, Duration::from_millis(500)).await.unwrap_err();
        assert!(matches!(error, SubjectError::Late), "{error}");
        let id = std::fs::read_to_string(&folder).unwrap().trim().to_owned();
        std::fs::remove_file(&folder).unwrap();
        let ended = || {
            // A process that nobody has waited for yet is over, too.
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        for _ in 0..600 {
            if ended() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(ended(), "the sleep of the command still runs");
    }

    #[tokio::test]
    async fn a_token_is_read_from_a_file_anew() {
        let path = std::env::temp_dir().join(format!("postern-token-file-{}", std::process::id()));
        let source = TokenSource::File(path.clone());
        assert!(token(&source).await.unwrap_err().to_string().contains("failed to read the token"));
        for text in ["first\n", "second"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(token(&source).await.unwrap().as_str(), text.trim());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
