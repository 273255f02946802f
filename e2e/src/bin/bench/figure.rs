//! What was measured: numbers of each contender by round, their medians, and the goal.

use std::collections::BTreeMap;
use std::fmt;

use postern_e2e::report::number;
use serde_json::{Value, json};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// Postgres without a proxy.
    Direct,
    /// Debian's, with a session pool.
    PgBouncer,
    /// The gate, with a masking policy, audit to a file, and metrics.
    Postern,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::PgBouncer, Self::Postern];
    pub(crate) const PROXIES: [Self; 2] = [Self::PgBouncer, Self::Postern];
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Contender::Direct => "direct",
            Contender::PgBouncer => "PgBouncer",
            Contender::Postern => "Postern",
        })
    }
}

/// Which numbers are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// So many times PgBouncer's number.
    OfPgBouncer(f64),
    /// The number itself.
    Absolute(f64),
}

/// A kind of number, as a workload yields it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The table that it stands in.
    pub(crate) section: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) goal: Option<Goal>,
}

/// One row of a table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    rounds: BTreeMap<Contender, Vec<f64>>,
}

impl Figure {
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, rounds: BTreeMap::new() }
    }

    /// Takes a number; NaN is "can't be measured here".
    pub(crate) fn add(&mut self, contender: Contender, value: f64) {
        if value.is_finite() {
            self.rounds.entry(contender).or_default().push(value);
        }
    }

    pub(crate) fn median(&self, contender: Contender) -> Option<f64> {
        median(self.rounds.get(&contender)?.clone())
    }

    /// Postern's numbers by PgBouncer's: the median of the rounds, as what disturbs a round disturbs both.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (own, theirs) = (self.rounds.get(&Contender::Postern)?, self.rounds.get(&Contender::PgBouncer)?);
        median(own.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(own, theirs)| own / theirs).collect())
    }

    /// Whether the goal is reached; None without a goal, or without numbers.
    pub(crate) fn reached(&self) -> Option<bool> {
        let (value, goal) = match self.kind.goal? {
            Goal::OfPgBouncer(goal) => (self.ratio()?, goal),
            Goal::Absolute(goal) => (self.median(Contender::Postern).or_else(|| self.median(Contender::Direct))?, goal),
        };
        Some(match self.kind.better {
            Better::More => value >= goal,
            Better::Less => value <= goal,
        })
    }

    /// The goal in words.
    pub(crate) fn goal(&self) -> String {
        let sign = match self.kind.better {
            Better::More => '≥',
            Better::Less => '≤',
        };
        match self.kind.goal {
            None => String::new(),
            Some(Goal::OfPgBouncer(goal)) => format!("{sign} {goal} ×"),
            Some(Goal::Absolute(goal)) => format!("{sign} {goal}"),
        }
    }

    /// One round's numbers, for those who wait.
    pub(crate) fn round(&self, round: usize) -> String {
        let numbers: Vec<String> = self
            .rounds
            .iter()
            .map(|(contender, rounds)| {
                format!("{contender} {}", number(rounds.get(round).copied().unwrap_or(f64::NAN)))
            })
            .collect();
        format!("{} {}", numbers.join(", "), self.kind.unit)
    }

    pub(crate) fn to_json(&self) -> Value {
        let contenders: serde_json::Map<String, Value> = self
            .rounds
            .iter()
            .map(|(contender, rounds)| {
                let name = contender.to_string().to_lowercase();
                (name, json!({"median": self.median(*contender), "rounds": rounds}))
            })
            .collect();
        json!({
            "section": self.kind.section,
            "name": self.name,
            "unit": self.kind.unit,
            "better": if self.kind.better == Better::More { "more" } else { "less" },
            "measured": contenders,
            "ratio": self.ratio(),
            "goal": self.kind.goal.map(|_| self.goal()),
            "reached": self.reached(),
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::{Better, Contender, Figure, Goal, Kind};

    #[test]
    fn the_ratio_is_taken_within_each_round() {
        let kind = Kind { section: "", unit: "", better: Better::More, goal: Some(Goal::OfPgBouncer(0.9)) };
        let mut figure = Figure::new("", kind);
        // The second round was disturbed: by medians alone Postern would seem to be 0.5 times as fast.
        for (theirs, own) in [(100.0, 95.0), (50.0, 46.0), (100.0, 50.0), (100.0, 50.0), (40.0, 39.0)] {
            figure.add(Contender::PgBouncer, theirs);
            figure.add(Contender::Postern, own);
        }
        assert_eq!(figure.ratio(), Some(0.92));
        assert_eq!(figure.reached(), Some(true));
        assert_eq!(figure.median(Contender::PgBouncer), Some(100.0));
    }
}
