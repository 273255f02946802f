//! What was measured, and the goals that are to be reached.

use serde_json::{Value, json};

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it belongs to.
    pub section: &'static str,
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: &'static str,
    /// The number.
    pub value: f64,
    /// What is to be reached.
    pub goal: Option<Goal>,
}

impl Figure {
    /// Whether the goal is reached; None without one.
    pub fn reached(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(most) => self.value <= most,
            Goal::Below(bound) => self.value < bound,
        })
    }

    /// The goal in words.
    pub fn goal(&self) -> String {
        match self.goal {
            Some(Goal::AtMost(most)) => format!("≤ {most}"),
            Some(Goal::Below(bound)) => format!("< {bound}"),
            None => String::new(),
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "section": self.section, "name": self.name, "unit": self.unit, "value": self.value,
            "goal": self.goal.map(|_| self.goal()), "reached": self.reached(),
        })
    }
}

/// The value that this part of the sorted ones does not exceed.
pub(super) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal, quantile};

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let all: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([quantile(&all, 0.5), quantile(&all, 0.99), quantile(&all, 1.0)], [100.0, 198.0, 200.0]);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_number_that_was_not_had_reaches_no_goal() {
        let figure =
            |value, goal| Figure { section: "", name: String::new(), unit: "", value, goal: Some(goal) }.reached();
        assert_eq!(figure(f64::NAN, Goal::AtMost(1.0)), Some(false));
        assert_eq!((figure(2.0, Goal::Below(2.0)), figure(2.0, Goal::AtMost(2.0))), (Some(false), Some(true)));
    }
}
