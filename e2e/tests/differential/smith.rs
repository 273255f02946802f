//! Statements of SQLsmith: it makes them of whatever the server has, every function, operator and type. Most of its joins are
//! over nothing and most of its conditions never hold, but they have forms that nobody would write.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use postern_e2e::postgres::{Server, clean_environment};

use super::generate::{Case, Step};

/// So many, the same for the same seed. It looks at the database, and runs none of them.
pub(crate) fn cases(database: &str, seed: u64, count: u64) -> Result<Vec<Case>> {
    let server = Server::shared()?;
    let target = format!("host={} port={} dbname={database} user=app", server.socket_folder().display(), server.port());
    let mut command = Command::new("sqlsmith");
    clean_environment(&mut command);
    let output = command
        .args(["--dry-run", "--exclude-catalog", &format!("--target={target}")])
        .args([format!("--seed={seed}"), format!("--max-queries={count}")])
        .output()
        .context("sqlsmith: run `make setup`")?;
    ensure!(output.status.success(), "sqlsmith: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let cases: Vec<Case> = text.split_terminator(";\n").enumerate().map(|(number, sql)| case(number, sql)).collect();
    ensure!(cases.len() as u64 >= count, "sqlsmith made {} statements only", cases.len());
    Ok(cases)
}

fn case(number: usize, sql: &str) -> Case {
    Case { kind: "sqlsmith", is_extended: number % 2 == 1, steps: vec![Step::new(sql.to_owned().into())] }
}
