//! Random statements, the same for the same seed: through the gate they are answered as by a database that holds the
//! masks, and databases that differ in hidden values only can't be told apart.
//!
//! `POSTERN_SEED` gives other statements, `POSTERN_NUMBER` runs some of them (`40-60`), or one and shows what came. A
//! failure names both, and shows the smallest form of the statement that still fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod generate;
mod granted;
mod smith;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::Result;
use generate::{Case, Step};
use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::leak::Needles;
use postern_e2e::postgres::Server;
use postern_e2e::wire::{self, Format, Message, Wire};

const SCHEMA: &str = include_str!("../../corpus/differential/schema.sql");
const TWIN: &str = include_str!("../../corpus/differential/twin.sql");
const OTHER: &str = include_str!("../../corpus/differential/other.sql");
const POLICY: &str = include_str!("../../corpus/differential/policy.yaml");

/// The time that making a failure smaller may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time that making the example of a refusal smaller may take.
const PATIENCE_WITH_EXAMPLES: Duration = Duration::from_millis(500);

/// A database with the schema, and with a gate in front of it or none.
struct Side {
    database: String,
    gate: Option<Gate>,
    wire: Option<Wire>,
}

impl Side {
    fn new(change: &str, is_gated: bool) -> Result<Self> {
        let mut side = Self::original(change)?;
        if is_gated {
            side.guard("app", POLICY)?;
        }
        Ok(side)
    }

    /// A database without a gate.
    fn original(change: &str) -> Result<Self> {
        // The tests share the server, and run at the same time.
        static ROLE: Once = Once::new();
        let server = Server::shared()?;
        ROLE.call_once(|| server.psql("postgres", "CREATE ROLE app LOGIN").map(drop).unwrap());
        let database = server.database()?.name;
        server.psql(
            &database,
            &format!(
                "ALTER SCHEMA public OWNER TO app; GRANT TEMPORARY ON DATABASE {database} TO app;
                 ALTER DATABASE {database} SET timezone = 'UTC';
                 SET ROLE app; {SCHEMA} {change}"
            ),
        )?;
        let side = Self { database, gate: None, wire: None };
        side.tidy()?;
        Ok(side)
    }

    /// Puts a gate in front of it, which logs in as this role.
    fn guard(&mut self, role: &str, policy: &str) -> Result<()> {
        let options = GateOptions::new(Server::shared()?, &self.database, role, policy);
        self.gate = Some(Gate::start(&options.secret("mask-key", "key", "a key of the tests"))?);
        Ok(())
    }

    /// Makes the layout of rows the same, whatever was changed. Plans go by the sizes of tables, which nobody hides, and
    /// what is rolled back leaves as much as its values are long.
    fn tidy(&self) -> Result<()> {
        Server::shared()?.psql(&self.database, "VACUUM FULL").map(drop)
    }

    fn connect(&self) -> Result<Wire> {
        let mut wire = match &self.gate {
            Some(gate) => Wire::connect(gate.port(), "app", "", &self.database)?,
            None => {
                let server = Server::shared()?;
                let parameters = [("user", "app"), ("database", self.database.as_str())];
                Wire::connect_unix(server.socket_folder(), server.port(), &parameters)?
            }
        };
        wire.simple("SET statement_timeout = '10s'")?;
        Ok(wire)
    }

    /// Runs a case in a transaction of its own, up to the first error.
    fn run(&mut self, case: &Case) -> Answers {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect()?,
        };
        wire.received.clear();
        wire.simple("BEGIN")?;
        let mut answers = Vec::new();
        for step in &case.steps {
            let text = step.sql.text();
            let answer = if case.is_extended || !step.parameters.is_empty() {
                let types: Vec<u32> = step.parameters.iter().map(|(oid, _)| *oid).collect();
                let values: Vec<Option<&[u8]>> =
                    step.parameters.iter().map(|(_, value)| Some(value.as_bytes())).collect();
                let frames = [
                    wire::parse_typed("", &text, &types),
                    wire::bind("", "", &values, Format::Text),
                    wire::describe(b'P', ""),
                    wire::execute("", 0),
                    wire::sync(),
                ];
                wire.send(&frames.concat())?;
                wire.until_ready()?
            } else {
                wire.simple(&text)?
            };
            let failed = wire::error(&answer).is_some();
            answers.push(answer);
            if failed {
                break;
            }
        }
        wire.simple("ROLLBACK")?;
        wire.simple("DEALLOCATE ALL")?;
        self.wire = Some(wire);
        Ok(answers)
    }
}

/// What came of each statement of a case.
type Answers = Result<Vec<Vec<Message>>>;

/// What two sides made of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same rows.
    Same,
    /// The same error: its SQLSTATE and message.
    SameError(String, String),
    /// The gate refuses what the other side answers.
    Refused(String),
    /// Another answer, as from a database that holds the same too, or none in time.
    Unsteady,
    /// Another answer.
    Different(String),
    /// A hidden value, or no answer at all.
    Wrong(String),
}

impl Verdict {
    /// Whether it is of the same kind.
    fn is_like(&self, other: &Verdict) -> bool {
        match (self, other) {
            (Verdict::Refused(a), Verdict::Refused(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// A statement's answer as far as both sides must agree.
type Essence = fn(&Step, &[Message]) -> Vec<String>;

/// Names of columns, rows (in their order, where there is one), counts and SQLSTATEs.
fn rows(step: &Step, messages: &[Message]) -> Vec<String> {
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    for message in messages {
        match message.tag {
            b'T' => all.push(message.column_names().join(", ")),
            b'D' | b'd' if !step.is_plan => rows.push(format!("{message:?}")),
            b'C' if !step.is_plan => all.push(format!("{message:?}")),
            b'E' => all.push(format!("error {}", message.sqlstate().unwrap_or_default())),
            _ => {}
        }
    }
    if !step.is_ordered {
        rows.sort();
    }
    all.extend(rows);
    all
}

/// Everything, but for the numbers of tables and types, which differ between databases.
fn everything(_: &Step, messages: &[Message]) -> Vec<String> {
    let own = |oid: u32| if oid < 16_384 { oid } else { 0 };
    let one = |message: &Message| match message.tag {
        b'T' => {
            let column = |c: &wire::Column| format!("{} {} {} {}", c.name, own(c.type_oid), c.modifier, c.attribute);
            message.columns().iter().map(column).collect::<Vec<_>>().join(", ")
        }
        _ => format!("{message:?}"),
    };
    messages.iter().map(one).collect()
}

struct Comparison {
    first: Side,
    second: Side,
    needles: Needles,
    essence: Essence,
    /// Whether the first side has no gate, so that what the second refuses is told by it.
    is_twin: bool,
    /// A copy of the first: what is answered differently by it depends on no hidden value.
    control: Option<Side>,
}

impl Comparison {
    /// A database that holds the masks, and the gate in front of the original.
    fn with_twin() -> Result<Self> {
        let (twin, gated) = (Side::new(TWIN, false)?, Side::new("", true)?);
        let server = Server::shared()?;
        let codes = wire::rows(&gated.connect()?.simple("SELECT id, code FROM customers")?);
        for row in codes {
            server.psql(&twin.database, &format!("UPDATE customers SET code = '{}' WHERE id = {}", row[1], row[0]))?;
        }
        let digests = server.psql(
            &gated.database,
            "WITH v AS (SELECT unnest(ARRAY[card, ssn, note, secret, code, label, email, salary::text, balance::text, birth::text]) v FROM customers
                        UNION SELECT item FROM orders WHERE region <> 'eu' UNION SELECT item FROM parcels)
             SELECT md5(v) FROM v UNION SELECT encode(sha256(convert_to(v, 'UTF8')), 'hex') FROM v",
        )?;
        let digests: Vec<String> = digests.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Self {
            first: twin,
            second: gated,
            needles: Needles::new(&digests),
            essence: rows,
            is_twin: true,
            control: None,
        })
    }

    /// Two originals with different hidden values, each behind a gate.
    fn of_originals() -> Result<Self> {
        let (first, second) = (Side::new("", true)?, Side::new(OTHER, true)?);
        Ok(Self { first, second, needles: Needles::new(&[]), essence: everything, is_twin: false, control: None })
    }

    /// The same, for statements that may depend on the time, on chance or on the database's name.
    fn with_control() -> Result<Self> {
        Ok(Self { control: Some(Side::new("", true)?), ..Self::of_originals()? })
    }

    fn run(&mut self, case: &Case) -> Verdict {
        let mut verdict = Verdict::Unsteady;
        // A twin holds the same rows, in whatever order. Of originals plans are compared too, and chance makes a difference
        // hardly three times.
        for _ in 0..if self.is_twin { 1 } else { 3 } {
            let (first, second) = (self.first.run(case), self.second.run(case));
            verdict = self.judge(case, &first, &second);
            if !matches!(verdict, Verdict::Different(_)) {
                break;
            }
            if let Some(control) = &mut self.control {
                let control = control.run(case);
                if !matches!(self.judge(case, &first, &control), Verdict::Same | Verdict::SameError(..)) {
                    return Verdict::Unsteady;
                }
            }
            for side in [Some(&self.first), Some(&self.second), self.control.as_ref()].into_iter().flatten() {
                side.tidy().unwrap();
            }
        }
        verdict
    }

    fn judge(&self, case: &Case, first: &Answers, second: &Answers) -> Verdict {
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            (first, second) => {
                let lost = |answer: &Answers| answer.as_ref().err().map(|error| format!("{error:#}"));
                return Verdict::Wrong(format!("lost: {:?}, {:?}", lost(first), lost(second)));
            }
        };
        let known = self.needles.find(&first.concat());
        let mut found = self.needles.find(&second.concat());
        found.retain(|needle| !known.contains(needle));
        if !self.is_twin {
            found.extend(known);
        }
        if !found.is_empty() {
            return Verdict::Wrong(format!("LEAK {}", found.join(", ")));
        }
        for (at, step) in case.steps.iter().enumerate() {
            let (Some(first), Some(second)) = (first.get(at), second.get(at)) else { break };
            let code = |messages: &[Message]| wire::error(messages).and_then(Message::sqlstate);
            let (one, other) = (code(first), code(second));
            if [&one, &other].into_iter().any(|code| code.as_deref() == Some("57014")) {
                return Verdict::Unsteady;
            }
            if let Some(code) = other.as_deref().filter(|_| self.is_twin && one != other)
                && matches!(code, "42501" | "0A000" | "54000")
            {
                return Verdict::Refused(wire::error(second).map(reason).unwrap_or_default());
            }
            let (wanted, got) = ((self.essence)(step, first), (self.essence)(step, second));
            if wanted != got {
                let at = wanted.iter().zip(&got).take_while(|(one, other)| one == other).count();
                return Verdict::Different(format!("{}, {:?}: {:?}", step.sql.text(), wanted.get(at), got.get(at)));
            }
            if let Some(code) = one {
                return Verdict::SameError(code, wire::error(first).map(reason).unwrap_or_default());
            }
        }
        Verdict::Same
    }

    /// The smallest case of the same verdict that is found, in this time, by taking one part away at a time.
    fn smallest(&mut self, case: Case, verdict: Verdict, patience: Duration) -> (Case, Verdict) {
        let (mut case, mut verdict) = (case, verdict);
        let start = Instant::now();
        loop {
            let found = case.smaller().take_while(|_| start.elapsed() < patience).find_map(|smaller| {
                let now = self.run(&smaller);
                now.is_like(&verdict).then_some((smaller, now))
            });
            let Some(smaller) = found else { return (case, verdict) };
            (case, verdict) = smaller;
        }
    }
}

/// A refusal's message without what it names.
fn reason(error: &Message) -> String {
    let message = error.fields().remove(&'M').unwrap_or_default();
    let mut plain = String::new();
    let mut is_quoted = false;
    for part in message.split('"') {
        plain.push_str(if is_quoted { "…" } else { part });
        is_quoted = !is_quoted;
    }
    plain
}

fn shown(case: &Case) -> String {
    let mut text = String::new();
    for step in &case.steps {
        write!(text, "\n    {}", step.sql.text()).unwrap();
        if !step.parameters.is_empty() {
            write!(text, "  -- {:?}", step.parameters).unwrap();
        }
        text.push(';');
    }
    text
}

/// What the environment asks for: a number, or `from-to`.
fn numbers() -> Option<Range<u64>> {
    let text = std::env::var("POSTERN_NUMBER").ok()?;
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    Some(from.parse().unwrap()..to.parse::<u64>().unwrap() + 1)
}

/// The seed, where nobody asks for another.
fn seed() -> u64 {
    std::env::var("POSTERN_SEED").map_or(4, |seed| seed.parse().unwrap())
}

/// Runs so many cases; panics with what went wrong, and returns the share of refusals in percent.
fn compare(mut comparison: Comparison, count: u64, make: impl Fn(u64) -> Case) -> usize {
    let seed = seed();
    let began = Instant::now();
    let numbers = numbers().unwrap_or(0..count);
    let single = numbers.end - numbers.start == 1;
    let mut kinds: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let mut errors: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut refusals: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut failures = String::new();
    let mut failed = 0;
    for number in numbers {
        if number % 500 == 0 && number > 0 {
            eprintln!("{number} of {count} after {} s, {failed} wrong", began.elapsed().as_secs());
        }
        let case = make(number);
        let verdict = comparison.run(&case);
        if single {
            eprintln!("{} {verdict:?}{}", case.kind, shown(&case));
        }
        let counts = kinds.entry(case.kind).or_default();
        counts[0] += 1;
        match verdict {
            Verdict::Same => {}
            Verdict::SameError(code, message) => {
                counts[1] += 1;
                errors.entry(code).or_insert((0, message)).0 += 1;
            }
            Verdict::Refused(ref reason) => {
                counts[2] += 1;
                if let Some((count, _)) = refusals.get_mut(reason) {
                    *count += 1;
                } else {
                    let (smallest, _) = comparison.smallest(case, verdict.clone(), PATIENCE_WITH_EXAMPLES);
                    refusals.insert(reason.clone(), (1, shown(&smallest)));
                }
            }
            Verdict::Unsteady => counts[3] += 1,
            Verdict::Different(_) | Verdict::Wrong(_) => {
                failed += 1;
                let (smallest, verdict) = comparison.smallest(case, verdict, PATIENCE);
                let failure = format!("seed {seed}, number {number}: {verdict:?}{}\n", shown(&smallest));
                eprintln!("{failure}");
                failures.push_str(&failure);
                if failed == 10 {
                    break;
                }
            }
        }
    }
    let mut err = std::io::stderr();
    let mut sum = [0; 4];
    writeln!(err, "\n{:<16}{:>7}{:>13}{:>9}{:>10}", "kind", "cases", "same errors", "refused", "unsteady").unwrap();
    for (kind, counts) in &kinds {
        writeln!(err, "{kind:<16}{:>7}{:>13}{:>9}{:>10}", counts[0], counts[1], counts[2], counts[3]).unwrap();
        (0..4).for_each(|at| sum[at] += counts[at]);
    }
    writeln!(err, "{:<16}{:>7}{:>13}{:>9}{:>10}", "all", sum[0], sum[1], sum[2], sum[3]).unwrap();
    writeln!(err, "in {} s; errors: {errors:?}", began.elapsed().as_secs()).unwrap();
    for (reason, (count, example)) in &refusals {
        writeln!(err, "refused {count}: {reason}{example}").unwrap();
    }
    assert!(failures.is_empty(), "{failures}");
    sum[2] * 100 / sum[0].max(1)
}

/// Cases of the grammar; see [`generate`].
fn grammar(is_wild: bool) -> impl Fn(u64) -> Case {
    move |number| generate::case(seed(), number, is_wild)
}

#[test]
fn random_statements_are_answered_as_by_a_database_that_holds_the_masks() {
    let refused = compare(Comparison::with_twin().unwrap(), 150, grammar(false));
    assert!(refused < 15, "{refused} % are refused");
    writeln!(std::io::stderr(), "the long form (--ignored) runs 10,000").unwrap();
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand_random_statements_are_answered_as_by_a_database_that_holds_the_masks() {
    let refused = compare(Comparison::with_twin().unwrap(), 10_000, grammar(false));
    assert!(refused < 15, "{refused} % are refused");
}

#[test]
fn databases_that_differ_in_hidden_values_only_answer_alike() {
    compare(Comparison::of_originals().unwrap(), 80, grammar(true));
    writeln!(std::io::stderr(), "the long form (--ignored) runs 10,000").unwrap();
}

#[test]
#[ignore = "takes minutes"]
fn databases_that_differ_in_hidden_values_only_answer_ten_thousand_statements_alike() {
    compare(Comparison::of_originals().unwrap(), 10_000, grammar(true));
}

#[test]
fn a_role_with_the_policys_grants_is_refused_nothing_that_the_gate_lets_through() {
    compare(granted::comparison().unwrap(), 150, grammar(false));
    writeln!(std::io::stderr(), "the long form (--ignored) runs 10,000").unwrap();
}

#[test]
#[ignore = "takes minutes"]
fn a_role_with_the_policys_grants_is_refused_nothing_of_ten_thousand_statements_that_the_gate_lets_through() {
    compare(granted::comparison().unwrap(), 10_000, grammar(false));
}

/// Three databases are asked, so that what depends on the time or on chance is known as such.
#[test]
#[ignore = "takes minutes"]
fn databases_that_differ_in_hidden_values_only_answer_statements_of_sqlsmith_alike() {
    let comparison = Comparison::with_control().unwrap();
    let cases = smith::cases(&comparison.first.database, seed(), 3000).unwrap();
    compare(comparison, cases.len() as u64, |number| cases[number as usize].clone());
}
