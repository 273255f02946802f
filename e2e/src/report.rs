//! What measuring programs share: numbers, tables, and pages that hold them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How pictures look, on light and on dark pages.
pub const STYLE: &str = "
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600; font-size: 15px }
.note { fill: #59636e; font-size: 12px }
.back { fill: #ffffff }
.bar { fill: #3b7dd8 }
.missed { fill: #c2662d }
.line { stroke: #1f2328; stroke-width: 1.5 }
.goal { stroke: #59636e; stroke-dasharray: 2 2 }
.direct { stroke: #59636e; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .note { fill: #9198a1 }
  .back { fill: #0d1117 }
  .bar { fill: #5e9df5 }
  .missed { fill: #e08a4f }
  .line { stroke: #e6edf3 }
  .goal, .direct { stroke: #9198a1 }
}
";

/// A number with as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "—".to_owned(),
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let (thousands, rest) = digits.split_at(digits.len() - 3);
            format!("{thousands},{rest}")
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The lines of a table for a terminal; the first `words` columns stand to the left, numbers to the right.
pub fn aligned<const N: usize>(lines: &[[String; N]], words: usize) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
            shown += &if at < words { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        text += shown.trim_end();
        text += "\n";
    }
    text
}

/// Puts a text between two lines of a page.
pub fn replace_between(page: &Path, [begin, end]: [&str; 2], text: &str) -> Result<()> {
    let whole = fs::read_to_string(page)?;
    let marks = || format!("{} has no marks for the tables", page.display());
    let (before, rest) = whole.split_once(begin).with_context(marks)?;
    let (_, after) = rest.split_once(end).with_context(marks)?;
    Ok(fs::write(page, [before, begin, text, end, after].concat())?)
}

/// What this runs on, and how busy that was before.
pub fn machine() -> Result<Value> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let kernel = Command::new("uname").arg("-r").output()?;
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(json!({
        "cpu": model,
        "cores": std::thread::available_parallelism()?.get(),
        "kernel": String::from_utf8_lossy(&kernel.stdout).trim(),
        "load": load.split(' ').next(),
    }))
}

#[cfg(test)]
mod tests {
    use super::{aligned, number};

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let shown = [0.914, 3.0, 12.34, 123.4, 12_345.6, f64::NAN].map(number);
        assert_eq!(shown, ["0.91", "3.00", "12.3", "123", "12,346", "—"]);
    }

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        let lines = [["é", "1.00"], ["long", "9"]].map(|line| line.map(str::to_owned));
        assert_eq!(aligned(&lines, 1), "  é     1.00\n  long     9\n");
    }
}
