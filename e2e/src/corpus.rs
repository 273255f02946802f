//! Cases in SQL files that a reviewer can read.
//!
//! A case is a block of lines, the first of which says what is expected and what it is:
//!
//! ```sql
//! -- leak works: an alias that looks harmless
//! SELECT card AS name FROM customers;
//! ```
//!
//! A line that ends with `;` ends a message to the server (outside `$$ … $$`), so one line with several statements is
//! one message. The words before the colon:
//! `leak`: without the gate a marker reaches the client; through it, none does.
//! `same`: without the gate the answer depends on a masked value or hidden row; through it, it is what a database that
//! holds the masks would answer.
//! `table`: through it, it is what a database that holds the masks would answer, names and types of columns included.
//! `works`: through the gate it raises the errors that it raises without, and no others.
//! `succeeds`: through the gate it raises no error, whatever it does without.
//! `refused`: through the gate it is refused.
//! `overwrites`: it replaces a masked value, and may.
//! `sinceNN`: it needs this version of Postgres.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name, which is the form of the statements in it.
    pub form: String,
    /// What it is, for messages.
    pub title: String,
    /// The words before the colon.
    pub words: BTreeSet<String>,
    /// What is sent, message by message.
    pub messages: Vec<String>,
}

impl Case {
    /// Whether a word stands before the colon.
    pub fn says(&self, word: &str) -> bool {
        self.words.contains(word)
    }

    /// The version that it needs.
    pub fn since(&self) -> u32 {
        self.words.iter().find_map(|word| word.strip_prefix("since")?.parse().ok()).unwrap_or(0)
    }

    /// Its name: form and title.
    pub fn name(&self) -> String {
        format!("{}: {}", self.form, self.title)
    }
}

/// Every case of a folder, by file name.
pub fn read(folder: &Path) -> Result<Vec<Case>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let form = path.file_stem().context("no name")?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        cases.extend(parse(&form, &text).with_context(|| path.display().to_string())?);
    }
    let names: BTreeSet<String> = cases.iter().map(Case::name).collect();
    ensure!(names.len() == cases.len(), "two cases have one name: {:?}", duplicate(&cases));
    Ok(cases)
}

/// `POSTERN_SAMPLE=n`: of each corpus only every n-th case is run.
pub fn sample() -> Option<usize> {
    std::env::var("POSTERN_SAMPLE").ok()?.parse().ok().filter(|n| *n > 0)
}

fn duplicate(cases: &[Case]) -> Option<String> {
    let mut seen = BTreeSet::new();
    cases.iter().map(Case::name).find(|name| !seen.insert(name.clone()))
}

fn parse(form: &str, text: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let (head, body) = block.split_once('\n').unwrap_or((block, ""));
        let head = head.strip_prefix("-- ").with_context(|| format!("no head: {block}"))?;
        if body.is_empty() || body.lines().all(|line| line.starts_with("--")) {
            continue; // The file's own comment.
        }
        let (words, title) = head.split_once(": ").with_context(|| format!("no words: {head}"))?;
        let mut messages = Vec::new();
        let mut message = String::new();
        for line in body.lines() {
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(line);
            if line.ends_with(';') && message.matches("$$").count().is_multiple_of(2) {
                messages.push(std::mem::take(&mut message));
            }
        }
        ensure!(message.is_empty(), "{title}: does not end with a semicolon");
        cases.push(Case {
            form: form.to_owned(),
            title: title.to_owned(),
            words: words.split(' ').map(str::to_owned).collect(),
            messages,
        });
    }
    Ok(cases)
}
