//! `docs/faults.md` against the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of the functions marked as tests in a file, ignored ones included, and of those that run on several API servers.
fn tests(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let mut names = BTreeSet::new();
    let (mut marked, mut listed) = (false, false);
    for line in text.lines() {
        if line.starts_with("on_both! {") || line == "}" {
            listed = line != "}";
        } else if let Some((name, _)) = line.split_once(" => ").filter(|_| listed) {
            names.insert(name.trim().to_owned());
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ")
            && std::mem::take(&mut marked)
        {
            names.insert(name[..name.find('(').unwrap()].to_owned());
        }
    }
    names
}

/// The last cell of each row: `file::test`, in backquotes.
fn named_in_the_table() -> Vec<(String, String)> {
    let text = fs::read_to_string(postern_e2e::workspace().join("docs/faults.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    rows.flat_map(|row| {
        let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap();
        let names: Vec<_> = cell.split('`').filter_map(|name| name.split_once("::")).collect();
        assert!(!names.is_empty(), "no test in {row}");
        names.into_iter().map(|(file, test)| (file.to_owned(), test.to_owned()))
    })
    .collect()
}

#[test]
fn every_row_of_the_table_names_a_test_and_every_fault_has_a_row() {
    let folder = postern_e2e::workspace().join("e2e/tests");
    let named = named_in_the_table();
    for (file, test) in &named {
        let path = folder.join(format!("{file}.rs"));
        assert!(tests(&path).contains(test), "docs/faults.md names {file}::{test}, which is not there");
    }
    for file in ["clients", "crowds", "garbage", "servers", "surroundings"] {
        for test in tests(&folder.join(format!("faults/{file}.rs"))) {
            let row = (format!("faults/{file}"), test);
            assert!(named.contains(&row), "docs/faults.md has no row for {row:?}");
        }
    }
}
