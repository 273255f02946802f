//! SQL as text: bounded parse, deparse with proof, splices, and what the audit keeps of a statement.
//!
//! **Promise.** Nothing is parsed before its size, its nesting and the memory that parsing takes are bounded by a count
//! of its tokens. What [`emit`] and [`splice`] return, parsed again, is the tree that was decided on.
//! **Depth.** A tree is walked, compared, cloned and dropped by recursion. A statement that may be deep is therefore
//! handled from parse to drop within one [`deep::run`], on a stack that holds what the bound lets through.
//!
//! The way of a statement: [`measure`] → [`Budget::acquire`] → [`deep::run`] { [`parse_measured`] → walk → [`emit`] }.

pub mod deep;
mod digest;
mod grammar;
mod measure;
mod proof;
mod shape;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pg_query::protobuf;

pub use grammar::as_server_reads;
pub(crate) use measure::scan;
pub use measure::{Budget, Measure, ParseLimits, Permit, measure};
pub use proof::{Edit, Spliced, deparse_unproven, emit, emit_owned, splice};
pub use shape::{Literal, LiteralKind, Shape, Template, shape};
pub use text::{fingerprint, normalize, original_position, split, statements};

use crate::decide::{Denial, Reason};

/// A text that was parsed within its bounds.
#[derive(Debug)]
pub struct Parsed {
    /// The tree.
    pub tree: protobuf::ParseResult,
    /// What was counted before the parse.
    pub measure: Measure,
}

/// Parses a text of one or more statements, within bounds.
///
/// Call it within [`deep::run`] or [`deep::run_blocking`], and drop the tree there.
pub fn parse(text: &str, limits: &ParseLimits) -> Result<Parsed, Denial> {
    let measure = measure(text, limits)?;
    parse_measured(text, measure)
}

/// Parses a text whose measure was taken.
pub fn parse_measured(text: &str, measure: Measure) -> Result<Parsed, Denial> {
    let tree = parse_unbounded(text)?;
    Ok(Parsed { tree, measure })
}

/// The parser, with its failures as refusals. Its own bound of 10,000 nested messages and of 2 MiB of C stack holds too.
fn parse_unbounded(text: &str) -> Result<protobuf::ParseResult, Denial> {
    parse_unplaced(text).map_err(|denial| at_position(text, denial, |beginning| parse_unplaced(beginning).map(drop)))
}

fn parse_unplaced(text: &str) -> Result<protobuf::ParseResult, Denial> {
    // The crate gathers table and function names as it builds its result, and panics on trees it does not expect.
    let result = catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, 0)));
    match result {
        Ok(Ok(result)) => Ok(result.protobuf),
        Ok(Err(error)) => Err(refuse(error)),
        Err(_) => Err(Denial::new(Reason::Unsupported, "this statement is of a form that the proxy can't read")),
    }
}

/// A syntax error with its place. The parser tells only which word it stumbled over: the place is where it (or the
/// scanner alone) does so when nothing follows.
fn at_position(text: &str, denial: Denial, read: impl Fn(&str) -> Result<(), Denial>) -> Denial {
    /// A parse for each time the word is there.
    const MOST: usize = 8;
    let word = denial.message.split_once(" at or near \"").and_then(|(_, rest)| rest.strip_suffix('"'));
    let end = denial.message == "syntax error at end of input";
    let place = match word {
        _ if denial.reason != Reason::Syntax || text.len() > 64 << 10 => None,
        Some(word) => {
            // The scanner may stumble in the midst of a word, the parser doesn't.
            let places = || text.match_indices(word).map(|(at, _)| at);
            let whole = places().filter(|at| is_whole(text, *at, word));
            let parts = places().filter(|at| !is_whole(text, *at, word));
            whole.chain(parts).take(MOST).find(|at| {
                let beginning = text.get(..at + word.len()).unwrap_or_default();
                read(beginning).is_err_and(|found| found.message == denial.message)
            })
        }
        None => end.then_some(text.len()),
    };
    Denial { position: place.and_then(|at| u32::try_from(at).ok()), ..denial }
}

/// Whether a word that stands somewhere in a text is no part of a longer one.
fn is_whole(text: &str, at: usize, word: &str) -> bool {
    let joins = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
    let before = text.get(..at).and_then(|text| text.chars().next_back());
    let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
    let joined = |edge: Option<char>, beyond: Option<char>| edge.is_some_and(joins) && beyond.is_some_and(joins);
    !joined(word.chars().next(), before) && !joined(word.chars().next_back(), after)
}

/// A parser's error as a refusal.
pub(crate) fn refuse(error: pg_query::Error) -> Denial {
    let is_of_scanner = matches!(error, pg_query::Error::Scan(_));
    match error {
        pg_query::Error::Parse(message) | pg_query::Error::Scan(message) => {
            if message.contains("stack depth") || message.contains("too deeply") {
                return measure::too_deep();
            }
            if message.contains("memory exhausted") {
                return measure::too_deep();
            }
            if message.contains("file descriptors") || message.contains("out of memory") {
                return Denial::new(Reason::Internal, "the parser lacks resources").sqlstate("53000");
            }
            // In U&'…', which the parser reads, Postgres calls the same a syntax error.
            let escape = is_of_scanner && message == "invalid Unicode escape";
            Denial::new(Reason::Syntax, message).sqlstate(if escape { "22025" } else { "42601" })
        }
        pg_query::Error::Conversion(_) => measure::nul(),
        other => Denial::new(Reason::Internal, format!("the parser failed: {other}")).sqlstate("XX000"),
    }
}

#[cfg(test)]
mod tests;
