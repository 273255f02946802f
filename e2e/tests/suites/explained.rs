//! Files in which differences are explained: lines that say where (`file: statement`), and below them, indented, why. A reason that
//! begins with `By chance:` is of differences that do not come in each run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The explained differences of a part of a suite.
pub(crate) struct Explained {
    path: PathBuf,
    /// With whether they come in each run.
    entries: BTreeMap<Place, bool>,
}

/// Where something differs: the file of the suite, and the statement in one line.
pub(crate) type Place = (String, String);

impl Explained {
    /// Reads `name` in the folder of suites.
    pub(crate) fn read(name: &str) -> Self {
        let path = postern_e2e::workspace().join("e2e/suites").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut entries = BTreeMap::new();
        let mut unexplained = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            if line.starts_with("    ") {
                let always = !line.trim_start().starts_with("By chance:");
                entries.extend(unexplained.drain(..).map(|place| (place, always)));
            } else {
                let (file, statement) = line.split_once(": ").unwrap_or_else(|| panic!("no place: {line}"));
                unexplained.push((file.to_owned(), statement.to_owned()));
            }
        }
        assert!(unexplained.is_empty(), "{}: not explained: {unexplained:?}", path.display());
        Self { path, entries }
    }

    /// Whether each of these differences is explained.
    pub(crate) fn all(&self, differences: &BTreeMap<Place, String>) -> bool {
        differences.keys().all(|place| self.entries.contains_key(place))
    }

    /// What is wrong about these differences, when these files of the suite were run: those that nothing explains, and
    /// explanations of what no longer differs.
    pub(crate) fn wrong(&self, ran: &BTreeSet<String>, differences: &BTreeMap<Place, String>) -> String {
        let mut wrong = String::new();
        for (place, shown) in differences.iter().filter(|(place, _)| !self.entries.contains_key(*place)) {
            writeln!(wrong, "{}: {}\n{shown}", place.0, place.1).unwrap();
        }
        let expected = self.entries.iter().filter(|(place, always)| **always && ran.contains(&place.0));
        for ((file, statement), _) in expected {
            if !differences.contains_key(&(file.clone(), statement.clone())) {
                writeln!(wrong, "{}: nothing differs any more at {file}: {statement}", self.path.display()).unwrap();
            }
        }
        wrong
    }
}

/// A statement in one line, cut.
pub(crate) fn one_line(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
