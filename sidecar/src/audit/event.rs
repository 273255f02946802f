//! The events, as Rust has them and as JSON says them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, Mac};
use postern_crds::{ParameterRecording, Recording, StatementRecording, VerbSet};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use sha2::Sha256;

use super::members::Members;
use crate::analyze::Decided;
use crate::metrics::Outcome;

/// Name and version of the events' schema; every event carries it. A field may be added within a version, never
/// removed or given another meaning.
pub const SCHEMA: &str = "postern.audit/v1";

/// Longest text of a statement that is recorded; longer ones are cut, and the event says how long they were.
const MAX_TEXT: usize = 256 << 10;
/// Longest parameter that is recorded in full.
const MAX_PARAMETER: usize = 8 << 10;
/// Most parameters that are recorded of one statement: the most that Postgres takes.
const MAX_PARAMETERS: usize = 65_535;
/// Most bytes of parameters that are recorded of one statement.
const MAX_PARAMETER_BYTES: usize = 256 << 10;

/// Who asks, as a token proved it; empty when standalone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The token's issuer.
    pub issuer: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its id (`jti`).
    pub token_id: Option<String>,
    /// Namespace of the pod or identity.
    pub namespace: Option<String>,
    /// The pod.
    pub pod: Option<String>,
    /// The pod's node.
    pub node: Option<String>,
    /// What owns the pod, such as `Job/nightly-report-29381`.
    pub owner: Option<String>,
    /// The OIDC claims that were matched: CI run, repository, ref.
    pub claims: BTreeMap<String, String>,
}

/// A session starts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SessionStart<'a> {
    /// Who asks.
    pub subject: &'a Subject,
    /// The identity, `namespace/name`.
    pub identity: &'a str,
    /// The policy, `namespace/name`.
    pub policy: &'a str,
    /// Version of the bound policy.
    pub policy_version: u64,
    /// Whether refusals are enforced (`enforce`) or only recorded (`audit`).
    pub mode: &'a str,
    /// The client's address; `unix` for a unix socket.
    pub client_address: &'a str,
    /// Whether the client speaks TLS.
    pub tls: bool,
    /// The client's own application_name.
    pub application_name: &'a str,
    /// Protocol version, such as `3.2`.
    pub protocol: &'a str,
    /// The database.
    pub database: &'a str,
    /// The Postgres role that the session runs as.
    pub postgres_role: &'a str,
    /// Names of the custom settings that the client's start-up set.
    pub settings: &'a [String],
}

/// A session was refused at its start: it asked for what the policy does not give.
#[derive(Clone, Copy, Debug)]
pub struct SessionRefused<'a> {
    /// Who asks.
    pub subject: &'a Subject,
    /// The identity, `namespace/name`.
    pub identity: &'a str,
    /// The policy, `namespace/name`.
    pub policy: &'a str,
    /// The client's address; `unix` for a unix socket.
    pub client_address: &'a str,
    /// SQLSTATE that the client was told.
    pub sqlstate: &'a str,
    /// What the client was told.
    pub error: &'a str,
}

/// A session ends.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnd<'a> {
    /// Statements decided.
    pub statements: u64,
    /// Rows delivered.
    pub rows: u64,
    /// Bytes of rows delivered.
    pub bytes: u64,
    /// How long it was open.
    pub duration: Duration,
    /// Why it ended, such as `client_closed`, `drained`, `second_wall`.
    pub reason: &'a str,
}

/// By which message a statement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// A simple Query.
    Query,
    /// A Parse; the statement has not run.
    Parse,
    /// Bind and Execute of a prepared statement.
    Execute,
}

impl StatementKind {
    /// The word in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            StatementKind::Query => "query",
            StatementKind::Parse => "parse",
            StatementKind::Execute => "execute",
        }
    }
}

/// A statement (or the several of one Query) was decided.
#[derive(Clone, Copy, Debug)]
pub struct StatementEvent<'a> {
    /// By which message it came.
    pub kind: StatementKind,
    /// The decision.
    pub decided: &'a Decided,
    /// The client's text.
    pub text: &'a str,
    /// The values bound to it.
    pub parameters: Parameters<'a>,
}

/// What every event about a decision says alike: written once, kept with the decision.
#[derive(Debug, Default)]
pub struct Said(Arc<OnceLock<(StatementRecording, Box<[u8]>)>>);

impl Said {
    /// For a decision that differs from the other in its literals only: events about both say the same.
    pub fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Clone for Said {
    /// A decision is cloned to be changed: what was said of it does not hold for the clone.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The values bound to a statement.
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'a> {
    /// There are none, or the message can't carry any.
    Absent,
    /// These.
    Values(&'a [Parameter<'a>]),
    /// So many bytes that they are streamed through, not held.
    Streamed {
        /// How many.
        bytes: u64,
    },
}

/// One bound value.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// Whether it is in binary format.
    pub binary: bool,
    /// The value; None is NULL.
    pub value: Option<&'a [u8]>,
}

/// A statement ended.
#[derive(Clone, Copy, Debug)]
pub struct StatementEnd<'a> {
    /// Its id, as [`super::SessionAudit::statement`] gave it.
    pub statement: u64,
    /// Rows delivered, or written as the server's command tag says.
    pub rows: u64,
    /// Bytes of rows delivered.
    pub bytes: u64,
    /// From sending it to its completion.
    pub duration: Duration,
    /// SQLSTATE of its error; None if it succeeded.
    pub sqlstate: Option<&'a str>,
    /// The limit that ended it: `rows`, `bytes`, `window_rows`, `window_bytes`, `statement_timeout`.
    pub limit: Option<&'a str>,
}

/// One event without what all have in common.
pub(super) enum Body<'a> {
    SessionStart(&'a SessionStart<'a>),
    SessionRefused(&'a SessionRefused<'a>),
    SessionEnd(&'a SessionEnd<'a>),
    Statement { id: u64, statement: &'a StatementEvent<'a> },
    StatementEnd(&'a StatementEnd<'a>),
}

/// One event.
pub(super) struct Envelope<'a> {
    pub(super) time: SystemTime,
    pub(super) session: &'a str,
    pub(super) sequence: u64,
    pub(super) body: &'a Body<'a>,
}

/// Hashes parameters with a salt that this process alone knows: equal values can be told within a run, but not guessed.
#[derive(Clone)]
pub(super) struct Hasher(Hmac<Sha256>);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(salt)")
    }
}

impl Hasher {
    /// With a fresh salt, a whole block of SHA-256 long.
    pub(super) fn random() -> Self {
        Self(Hmac::new(&rand::random::<[u8; 64]>().into()))
    }

    fn hash(&self, value: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(value);
        // 128 bits tell values apart; the rest would only make lines longer.
        hex(mac.finalize().into_bytes().iter().take(16))
    }
}

fn hex<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    let mut text = String::with_capacity(2 * bytes.size_hint().0);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

impl Envelope<'_> {
    /// The event as one line of JSON, line feed included.
    pub(super) fn to_line(&self, recording: Recording, hasher: &Hasher) -> Vec<u8> {
        let mut line = Vec::with_capacity(1024);
        if self.write_line(&mut line, recording, hasher).is_err() {
            // Writing strings and numbers into memory has no error to make; a line that could not be made must still
            // show that something was.
            line.clear();
            line.extend_from_slice(br#"{"schema":"postern.audit/v1","event":"unwritable"}"#);
        }
        line.push(b'\n');
        line
    }

    fn write_line(&self, line: &mut Vec<u8>, recording: Recording, hasher: &Hasher) -> serde_json::Result<()> {
        let event = match self.body {
            Body::SessionStart(_) => "session_start",
            Body::SessionRefused(_) => "session_refused",
            Body::SessionEnd(_) => "session_end",
            Body::Statement { .. } => "statement",
            Body::StatementEnd(_) => "statement_end",
        };
        line.push(b'{');
        let mut members = Members(line);
        members.word("schema", SCHEMA);
        members.word("event", event);
        members.time("time", self.time);
        members.id("session", self.session);
        members.number("sequence", self.sequence);
        match self.body {
            Body::SessionStart(start) => {
                let SessionStart {
                    subject,
                    identity,
                    policy,
                    policy_version,
                    mode,
                    client_address,
                    tls,
                    application_name,
                    protocol,
                    database,
                    postgres_role,
                    settings,
                } = start;
                members.value("identity", identity)?;
                members.value("policy", policy)?;
                members.number("policy_version", *policy_version);
                members.value("mode", mode)?;
                members.value("database", database)?;
                members.value("postgres_role", postgres_role)?;
                members.value("client_address", client_address)?;
                members.value("application_name", application_name)?;
                members.value("protocol", protocol)?;
                members.value("tls", tls)?;
                if !settings.is_empty() {
                    members.value("settings", settings)?;
                }
                members.value("subject", subject)?;
            }
            Body::SessionRefused(refused) => {
                let SessionRefused { subject, identity, policy, client_address, sqlstate, error } = refused;
                members.value("identity", identity)?;
                members.value("policy", policy)?;
                members.value("client_address", client_address)?;
                members.value("sqlstate", sqlstate)?;
                members.value("error", error)?;
                members.value("subject", subject)?;
            }
            Body::SessionEnd(end) => {
                let SessionEnd { statements, rows, bytes, duration, reason } = end;
                members.value("reason", reason)?;
                members.number("statements", *statements);
                members.number("rows", *rows);
                members.number("bytes", *bytes);
                members.millis("ms", *duration);
            }
            Body::Statement { id, statement } => {
                members.number("statement", *id);
                members.word("message", statement.kind.as_str());
                say(statement.decided, recording.statements, members.0)?;
                write_own(&mut members, statement, recording, hasher)?;
            }
            Body::StatementEnd(end) => {
                let StatementEnd { statement, rows, bytes, duration, sqlstate, limit } = end;
                members.number("statement", *statement);
                members.number("rows", *rows);
                members.number("bytes", *bytes);
                members.millis("ms", *duration);
                members.value("sqlstate", sqlstate)?;
                members.value("limit", limit)?;
            }
        }
        line.push(b'}');
        Ok(())
    }
}

/// Appends the members that every event about a decision has alike, as they were written the first time.
fn say(decided: &Decided, recording: StatementRecording, line: &mut Vec<u8>) -> serde_json::Result<()> {
    if let Some((when, said)) = decided.said.0.get()
        && *when == recording
    {
        line.extend_from_slice(said);
        return Ok(());
    }
    let mut said = Vec::with_capacity(1024);
    write_decision(&mut Members(&mut said), decided, recording)?;
    line.extend_from_slice(&said);
    // One that was said for another `recording` stays; a policy's change makes new decisions.
    decided.said.0.set((recording, said.into())).ok();
    Ok(())
}

/// The decision and what it is about, with the text as far as it is the decision's own.
fn write_decision(
    members: &mut Members<'_>,
    decided: &Decided,
    recording: StatementRecording,
) -> serde_json::Result<()> {
    let denial = decided.denial.as_ref().or(decided.would_deny.as_ref());
    let statements = &decided.statements;
    let mut verbs = VerbSet::EMPTY;
    for statement in statements.iter() {
        verbs = verbs.union(statement.verbs);
    }
    members.word("decision", Outcome::of(decided).as_str());
    match denial {
        None => {
            let allowed_by = statements.iter().find_map(|statement| statement.rule.as_deref());
            members.value("rule", &allowed_by)?;
            members.value("reason", &None::<&str>)?;
        }
        Some(denial) => {
            members.value("rule", &denial.rule)?;
            members.word("reason", denial.reason.as_str());
            members.value("sqlstate", denial.sqlstate)?;
            members.value("object", &denial.object)?;
            members.value("error", &denial.message)?;
        }
    }
    members.number("policy_version", decided.policy_version);
    members.value("verbs", &Strings(|| verbs.iter().map(|verb| verb.as_str())))?;
    let relations = || distinct(statements.iter().flat_map(|statement| &statement.relations));
    members.value("relations", &Strings(relations))?;
    let masked = || distinct(statements.iter().flat_map(|statement| &statement.masked_columns));
    members.value("masked_columns", &Strings(masked))?;
    if decided.masked_predicates().next().is_some() {
        members.value("masked_predicates", &Strings(|| decided.masked_predicates()))?;
    }
    if decided.kept_columns().next().is_some() {
        members.value("kept_columns", &Strings(|| decided.kept_columns()))?;
    }
    if let Some(needs) = &decided.needs {
        members.value("needs", &**needs)?;
    }
    members.value("rewritten", &decided.rewritten.is_some())?;
    members.value("fingerprint", &*decided.fingerprint)?;
    if recording == StatementRecording::Normalized {
        // A text that can't be parsed can't be normalized either, and its literals must not show.
        write_text(members, &decided.normalized)?;
    }
    Ok(())
}

fn write_text(members: &mut Members<'_>, text: &str) -> serde_json::Result<()> {
    let cut = floor_char_boundary(text, MAX_TEXT);
    members.value("text", text.get(..cut).unwrap_or_default())?;
    if cut < text.len() {
        members.number("text_bytes", text.len() as u64);
    }
    Ok(())
}

/// The members that differ from one use of a decision to the next.
fn write_own(
    members: &mut Members<'_>,
    event: &StatementEvent<'_>,
    recording: Recording,
    hasher: &Hasher,
) -> serde_json::Result<()> {
    if recording.statements == StatementRecording::Full {
        write_text(members, event.text)?;
    }
    match (event.parameters, recording.parameters) {
        (Parameters::Absent, _) | (_, ParameterRecording::None) => {}
        (Parameters::Streamed { bytes }, _) => members.number("parameters_bytes", bytes),
        (Parameters::Values(values), recording) => {
            members.value("parameters", &Values { values, recording, hasher })?;
        }
    }
    Ok(())
}

/// Names that a statement has many times over are written once; statements name few relations.
fn distinct<'a>(names: impl Iterator<Item = &'a std::sync::Arc<str>>) -> impl Iterator<Item = &'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !seen.contains(&&**name) {
            seen.push(name);
        }
    }
    seen.into_iter()
}

/// A list of strings without a list being made.
struct Strings<F>(F);

impl<'a, F, I> Serialize for Strings<F>
where
    F: Fn() -> I,
    I: Iterator<Item = &'a str>,
{
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        json.collect_seq((self.0)())
    }
}

/// Bound values as `recording` has them.
struct Values<'a> {
    values: &'a [Parameter<'a>],
    recording: ParameterRecording,
    hasher: &'a Hasher,
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut list = json.serialize_seq(Some(self.values.len().min(MAX_PARAMETERS)))?;
        let mut written = 0;
        for parameter in self.values.iter().take(MAX_PARAMETERS) {
            let Some(value) = parameter.value else {
                list.serialize_element(&())?;
                continue;
            };
            match self.recording {
                ParameterRecording::Hash | ParameterRecording::None => {
                    list.serialize_element(&Shown { hash: Some(self.hasher.hash(value)), ..Shown::default() })?;
                }
                ParameterRecording::Full => {
                    let room = MAX_PARAMETER.min(MAX_PARAMETER_BYTES.saturating_sub(written));
                    let shown = value.get(..value.len().min(room)).unwrap_or_default();
                    written += shown.len();
                    let bytes = (shown.len() < value.len()).then_some(value.len());
                    list.serialize_element(&match std::str::from_utf8(value) {
                        Ok(text) if !parameter.binary => {
                            let text = text.get(..floor_char_boundary(text, room)).unwrap_or_default();
                            Shown { text: Some(text), bytes, ..Shown::default() }
                        }
                        _ => Shown { hex: Some(hex(shown.iter())), bytes, ..Shown::default() },
                    })?;
                }
            }
        }
        list.end()
    }
}

/// One value; exactly one of the first three is there.
#[derive(Default, Serialize)]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// Its whole length, where it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

fn floor_char_boundary(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(floor_char_boundary("aä", 2), 1);
        assert_eq!(floor_char_boundary("aä", 3), 3);
        assert_eq!(floor_char_boundary("", 3), 0);
    }

    #[test]
    fn equal_values_hash_equal_in_one_process_and_differ_between_two() {
        let (one, other) = (Hasher::random(), Hasher::random());
        assert_eq!(one.hash(b"4111"), one.hash(b"4111"));
        assert_ne!(one.hash(b"4111"), one.hash(b"4112"));
        assert_ne!(one.hash(b"4111"), other.hash(b"4111"));
    }
}
