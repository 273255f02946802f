//! `make bench-cluster`: what a large cluster costs the operator, held against goals; writes `docs/bench/cluster.json`, the
//! picture beside it, and the table of `docs/scale.md`.

mod picture;

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use anyhow::Result;
use postern_e2e::report::{aligned, machine, number, replace_between};
use postern_e2e::scale::{Figure, Sizes, measure};
use postern_e2e::workspace;
use serde_json::{Value, json};

/// The columns of the table.
const HEAD: [&str; 5] = ["", "unit", "measured", "to reach", ""];
/// Between these lines of the page stands what the last run measured.
const MARKS: [&str; 2] = ["<!-- What follows is written by `make bench-cluster`. -->\n", "<!-- Up to here. -->\n"];

fn main() -> Result<()> {
    let (start, machine) = (Instant::now(), machine()?);
    let say = |what: &str| println!("[{:>4} s] {what}", start.elapsed().as_secs());
    let Some(figures) = measure(&Sizes::WHOLE, say)? else { return Ok(()) };
    for (section, rows) in sections(&figures) {
        let lines: Vec<_> = [HEAD.map(str::to_owned)].into_iter().chain(rows.into_iter().map(cells)).collect();
        println!("\n{section}\n{}", aligned(&lines, 2).trim_end());
    }
    let folder = workspace().join("docs/bench");
    let all: Vec<Value> = figures.iter().map(Figure::to_json).collect();
    let report = json!({"postern": env!("CARGO_PKG_VERSION"), "machine": machine, "figures": all});
    fs::write(folder.join("cluster.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(folder.join("cluster.svg"), picture::draw(&figures))?;
    replace_between(&workspace().join("docs/scale.md"), MARKS, &markdown(&machine, &figures))?;
    println!("\n{} s; written to docs/bench and docs/scale.md", start.elapsed().as_secs());
    Ok(())
}

/// Figures by section, in their order.
fn sections(figures: &[Figure]) -> Vec<(&'static str, Vec<&Figure>)> {
    let mut sections: Vec<(&'static str, Vec<&Figure>)> = Vec::new();
    for figure in figures {
        match sections.last_mut() {
            Some((section, rows)) if *section == figure.section => rows.push(figure),
            _ => sections.push((figure.section, vec![figure])),
        }
    }
    sections
}

fn cells(figure: &Figure) -> [String; 5] {
    let reached = figure.reached().map_or("", |reached| if reached { "✓" } else { "missed" });
    [figure.name.clone(), figure.unit.to_owned(), number(figure.value), figure.goal(), reached.to_owned()]
}

fn markdown(machine: &Value, figures: &[Figure]) -> String {
    let text = |name: &str| machine.get(name).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    let mut out = format!(
        "![What was measured, as a part of what it may be](bench/cluster.svg)\n\n\
         {} cores of {}, on which API server, store, operator and all clients ran, and other programs meanwhile (load before: {}).\n\n| {} |\n|---|---|--:|--:|---|\n",
        text("cores"),
        text("cpu"),
        text("load"),
        HEAD.join(" | "),
    );
    for (section, rows) in sections(figures) {
        _ = writeln!(out, "| **{section}** | | | | |");
        for figure in rows {
            _ = writeln!(out, "| {} |", cells(figure).join(" | "));
        }
    }
    out + "\n"
}
