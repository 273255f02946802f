//! The figures that have a goal as a picture: each as a part of what it may be.

use std::fmt::Write as _;

use postern_e2e::report::{STYLE, number};
use postern_e2e::scale::{Figure, Goal};

const WIDTH: f64 = 920.0;
/// Where the bars begin, and how much room they have.
const LEFT: f64 = 560.0;
const ROOM: f64 = 240.0;
const ROW: f64 = 24.0;
const TOP: f64 = 64.0;
/// Larger parts are cut off.
const MOST: f64 = 1.5;

pub(super) fn draw(figures: &[Figure]) -> String {
    let rows: Vec<(&Figure, f64)> = figures.iter().filter_map(|figure| Some((figure, most(figure)?))).collect();
    let end = TOP + rows.len() as f64 * ROW;
    let mut body = String::new();
    for (at, (figure, most)) in rows.iter().enumerate() {
        row(&mut body, figure, figure.value / most, TOP + at as f64 * ROW);
    }
    let (x, height) = (LEFT + ROOM / MOST, end + 20.0);
    let title = "What a large cluster costs the operator";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"head\" x=\"20\" y=\"30\">{title} <tspan class=\"note\">less is better</tspan></text>\n{body}\
         <line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{end:.1}\"/>\n\
         <text class=\"note\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">goal</text>\n</svg>\n",
        TOP - 4.0,
        TOP - 8.0,
    )
}

/// What a figure may be; None where that is nothing, of which there is no part.
fn most(figure: &Figure) -> Option<f64> {
    let (Goal::AtMost(most) | Goal::Below(most)) = figure.goal?;
    Some(most).filter(|most| *most > 0.0)
}

fn row(out: &mut String, figure: &Figure, part: f64, y: f64) {
    let text = y + ROW / 2.0 + 4.5;
    let label = format!("{}: {}", figure.section, figure.name).replace('&', "&amp;").replace('<', "&lt;");
    let class = if figure.reached() == Some(true) { "bar" } else { "missed" };
    let width = part.clamp(0.0, MOST) / MOST * ROOM;
    _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{label}</text>\n\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{text:.1}\">{} {}</text>",
        LEFT - 10.0,
        y + 4.0,
        ROW - 8.0,
        LEFT + ROOM + 12.0,
        number(figure.value),
        figure.unit,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_drawn_as_one() {
        let drawn = |value: f64, goal| {
            draw(&[Figure { section: "s", name: "a < b".into(), unit: "ms", value, goal: Some(goal) }])
        };
        let kept = drawn(10.0, Goal::Below(20.0));
        assert!(kept.contains("class=\"bar\"") && !kept.contains("class=\"missed\"") && kept.contains("a &lt; b"));
        assert!(drawn(20.0, Goal::Below(20.0)).contains("class=\"missed\""));
        assert!(!drawn(0.0, Goal::AtMost(0.0)).contains("a &lt; b"), "there is no part of nothing");
    }
}
