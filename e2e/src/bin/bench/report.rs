//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use postern_e2e::report::{aligned, number, replace_between};
use serde_json::{Value, json};

use crate::Settings;
use crate::figure::{Contender, Figure};
use crate::picture;
use crate::stand::Stand;

/// The columns of a table.
const HEAD: [&str; 8] = ["", "unit", "direct", "PgBouncer", "Postern", "Postern / PgBouncer", "to reach", ""];

/// Between these lines of the README stands what the last whole run measured.
const MARKS: [&str; 2] = ["<!-- What follows is written by `make bench`. -->\n", "<!-- Up to here. -->\n"];

type Sections<'a> = Vec<(&'static str, Vec<&'a Figure>)>;

/// Figures by section, in the order in which the sections first came.
fn sections(figures: &[Figure]) -> Sections<'_> {
    let mut sections: Sections<'_> = Vec::new();
    for figure in figures {
        match sections.iter_mut().find(|(section, _)| *section == figure.kind.section) {
            Some((_, rows)) => rows.push(figure),
            None => sections.push((figure.kind.section, vec![figure])),
        }
    }
    sections
}

fn cells(figure: &Figure) -> [String; 8] {
    let of = |contender| figure.median(contender).map_or_else(String::new, number);
    [
        figure.name.clone(),
        figure.kind.unit.to_owned(),
        of(Contender::Direct),
        of(Contender::PgBouncer),
        of(Contender::Postern),
        figure.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        figure.goal(),
        figure.reached().map_or("", |reached| if reached { "✓" } else { "missed" }).to_owned(),
    ]
}

/// Prints the tables.
pub(crate) fn print(figures: &[Figure]) {
    for (section, rows) in sections(figures) {
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(rows.into_iter().map(cells));
        println!("\n{section}\n{}", aligned(&lines, 2).trim_end());
    }
    println!();
}

/// Writes `bench.json`, `bench.svg` and the README's tables.
pub(crate) fn write(
    workspace: &Path,
    machine: Value,
    stand: &Stand,
    settings: &Settings,
    figures: &[Figure],
) -> Result<()> {
    let folder = workspace.join("docs/bench");
    fs::create_dir_all(&folder)?;
    let run = json!({
        "postgres": stand.server.psql("postgres", "SHOW server_version")?.trim(),
        "pgbouncer": postern_e2e::pgbouncer::version()?,
        "postern": env!("CARGO_PKG_VERSION"),
        "machine": machine,
        "seconds": settings.seconds,
        "rounds": settings.rounds,
    });
    let report = json!({"run": run, "figures": figures.iter().map(Figure::to_json).collect::<Vec<_>>()});
    fs::write(folder.join("bench.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    let sections = sections(figures);
    fs::write(folder.join("bench.svg"), picture::draw(&sections))?;

    replace_between(&workspace.join("README.md"), MARKS, &markdown(&run, &sections))
}

/// The tables for a page.
fn markdown(run: &Value, sections: &Sections<'_>) -> String {
    let text = |pointer: &str| run.pointer(pointer).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    let mut out = format!(
        "![Postern's numbers as a multiple of PgBouncer's](docs/bench/bench.svg)\n\n\
         Medians of {} rounds of {} s, Postgres {}, PgBouncer {}, {} cores of {}; other programs ran on that machine meanwhile (load {}). \
         The numbers of every round are in [docs/bench/bench.json](docs/bench/bench.json).\n",
        text("/rounds"),
        text("/seconds"),
        text("/postgres"),
        text("/pgbouncer"),
        text("/machine/cores"),
        text("/machine/cpu"),
        text("/machine/load"),
    );
    for (section, rows) in sections {
        _ = write!(out, "\n**{section}**\n\n| {} |\n|---|---|--:|--:|--:|--:|--:|---|\n", HEAD.join(" | "));
        for figure in rows {
            _ = writeln!(out, "| {} |", cells(figure).join(" | "));
        }
    }
    out + "\n"
}
