//! The figures as a picture: Postern's numbers as a multiple of PgBouncer's, a bar for each workload.

use std::fmt::Write as _;

use postern_e2e::report::STYLE;

use crate::figure::{Contender, Figure, Goal};

const WIDTH: f64 = 860.0;
/// Where the bars begin, and how much room they have.
const LEFT: f64 = 300.0;
const ROOM: f64 = 470.0;
const ROW: f64 = 22.0;
/// Larger multiples are cut off.
const MOST: f64 = 2.0;

/// A chart of one section.
struct Chart<'a> {
    title: String,
    figures: Vec<&'a Figure>,
}

/// Draws the sections that hold Postern against PgBouncer.
pub(crate) fn draw(sections: &[(&str, Vec<&Figure>)]) -> String {
    let charts: Vec<Chart<'_>> = sections
        .iter()
        .map(|(section, figures)| Chart {
            title: (*section).to_owned(),
            figures: figures
                .iter()
                .copied()
                .filter(|figure| matches!(figure.kind.goal, Some(Goal::OfPgBouncer(_))))
                .collect(),
        })
        .filter(|chart| !chart.figures.is_empty())
        .collect();
    let mut body = String::new();
    let mut y = 30.0;
    for chart in &charts {
        y = chart.draw(&mut body, y) + 36.0;
    }
    let height = y - 10.0;
    let title = "Postern's speed as a multiple of PgBouncer's";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
    )
}

impl Chart<'_> {
    /// Draws from `top` down; where it ends.
    fn draw(&self, out: &mut String, top: f64) -> f64 {
        let better = match self.figures.first().map(|figure| figure.kind.better) {
            Some(crate::figure::Better::Less) => "less is better",
            _ => "more is better",
        };
        let first = top + 30.0;
        let end = first + self.figures.len() as f64 * ROW;
        _ = writeln!(
            out,
            "<text class=\"head\" x=\"20\" y=\"{top}\">{} <tspan class=\"note\">as a multiple of PgBouncer's; {better}</tspan></text>",
            self.title
        );
        for (at, figure) in self.figures.iter().enumerate() {
            row(out, figure, first + at as f64 * ROW);
        }
        let x = place(1.0);
        _ = writeln!(
            out,
            "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{end:.1}\"/>",
            first - 8.0
        );
        _ = writeln!(
            out,
            "<text class=\"note\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">PgBouncer</text>",
            first - 12.0
        );
        end
    }
}

fn row(out: &mut String, figure: &Figure, y: f64) {
    let text = y + ROW / 2.0 + 4.5;
    let label = figure.name.replace('&', "&amp;").replace('<', "&lt;");
    _ = writeln!(out, "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 10.0);
    let Some(ratio) = figure.ratio() else { return };
    let class = if figure.reached() == Some(false) { "missed" } else { "bar" };
    let (top, bottom) = (y + 3.0, y + ROW - 3.0);
    _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
        place(ratio) - LEFT,
        bottom - top
    );
    let mut mark = |class: &str, at: f64| {
        _ = writeln!(out, "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>");
    };
    if let Some(Goal::OfPgBouncer(goal)) = figure.kind.goal {
        mark("goal", place(goal));
    }
    if let (Some(direct), Some(theirs)) = (figure.median(Contender::Direct), figure.median(Contender::PgBouncer)) {
        mark("direct", place(direct / theirs));
    }
    _ = writeln!(out, "<text x=\"{:.1}\" y=\"{text:.1}\">{ratio:.2} ×</text>", LEFT + ROOM + 12.0);
}

/// Where a multiple stands.
fn place(multiple: f64) -> f64 {
    LEFT + multiple.clamp(0.0, MOST) / MOST * ROOM
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::figure::{Better, Contender, Figure, Goal, Kind};

    #[test]
    fn a_missed_goal_is_drawn_as_one() {
        let kind =
            Kind { section: "Throughput", unit: "per s", better: Better::More, goal: Some(Goal::OfPgBouncer(0.9)) };
        let drawn = |own: f64| {
            let mut figure = Figure::new("a < b & c", kind);
            figure.add(Contender::PgBouncer, 100.0);
            figure.add(Contender::Postern, own);
            draw(&[("Throughput", vec![&figure])])
        };
        assert!(drawn(95.0).contains("class=\"bar\"") && !drawn(95.0).contains("class=\"missed\""));
        assert!(drawn(85.0).contains("class=\"missed\"") && drawn(85.0).contains("0.85 ×"));
        assert!(drawn(85.0).contains("a &lt; b &amp; c"));
    }
}
