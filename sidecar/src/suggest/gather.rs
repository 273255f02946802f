//! What an audit says of traffic: who sent which statements, and what they need. Pure: lines in, [`Traffic`] out.
//!
//! **Promise.** What only statements need that could not run counts for nothing: those that the server itself refused to
//! the role, and those that no rule can allow.
//! **Bounded.** Statements are kept by fingerprint, so memory grows with how many different ones there are, and no
//! further than [`MAX_SHAPES`] and [`MAX_TEXTS`]; sessions are forgotten when they end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postern_crds::Verb;
use serde::Deserialize;

use crate::analyze::needs::{Beyond, Needs};
use crate::audit::SCHEMA;
use crate::decide::Reason;

/// Most different statements that are told apart; what others need is put together.
const MAX_SHAPES: usize = 50_000;
/// Most bytes of their texts.
const MAX_TEXTS: usize = 64 << 20;
/// Most sessions that are open at a time.
const MAX_SESSIONS: usize = 100_000;
/// Most statements of one session that are under way at a time.
const MAX_UNDER_WAY: usize = 10_000;
/// Stands for the statements beyond [`MAX_SHAPES`]; no fingerprint.
const OTHERS: &str = "others";

/// SQLSTATE of what the server does not let a role do.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// All that was read.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Who was there, each under one policy.
    pub identities: Vec<Identity>,
    /// What of the lines could not be used.
    pub left_out: LeftOut,
}

/// Lines that say nothing about needs, counted by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// No audit events: cut off, or of something else.
    pub malformed: u64,
    /// Of sessions whose start was not read.
    pub without_start: u64,
    /// Allowed in mode Enforce: these do not say what they need.
    pub enforced: u64,
    /// Different statements that could not be told apart any more.
    pub not_told_apart: u64,
}

/// What one identity did under one policy.
#[derive(Debug, Default)]
pub struct Identity {
    /// The policy, `namespace/name`.
    pub policy: String,
    /// The database.
    pub database: String,
    /// Its name, without the namespace.
    pub name: String,
    /// The Postgres role that its sessions ran as.
    pub role: String,
    /// How many sessions it had.
    pub sessions: u64,
    /// When the first and the last of them began.
    pub seen: Option<(String, String)>,
    /// Custom settings that its start-ups set.
    pub settings: BTreeSet<String>,
    /// What it sent, by fingerprint.
    pub shapes: BTreeMap<String, Shape>,
}

/// Statements that differ in literals only.
#[derive(Debug, Default)]
pub struct Shape {
    /// What those need that a rule can allow.
    pub needs: Needs,
    /// Whether there are such.
    pub allowable: bool,
    /// The text of one, if it is recorded whole.
    pub text: Option<String>,
    /// How often it ran.
    pub runs: u64,
    /// How often it was only prepared.
    pub prepared: u64,
    /// How many runs ended.
    pub ended: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them the server refused to the role.
    pub forbidden: u64,
    /// Most rows that a run delivered or wrote.
    pub rows: u64,
    /// Why no rule can allow it, and how often that was so.
    pub beyond: Option<(Beyond, u64)>,
}

impl Shape {
    /// How often it was sent.
    pub fn times(&self) -> u64 {
        self.runs.max(self.prepared)
    }

    /// Whether the server refused it to the role, whatever the gate would say.
    pub fn is_forbidden(&self) -> bool {
        self.forbidden > 0 && self.forbidden == self.ended
    }

    /// Whether the policy should allow it.
    pub fn is_wanted(&self) -> bool {
        self.allowable && !self.is_forbidden()
    }

    /// Whether it is no statement that the server knows, so that it fails with the gate and without.
    pub fn fails_anyway(&self) -> bool {
        let unknown = [Reason::Syntax, Reason::UnknownRelation, Reason::UnknownColumn].map(Reason::as_str);
        self.ended > 0
            && self.failed == self.ended
            && self.beyond.as_ref().is_some_and(|(beyond, _)| unknown.contains(&&*beyond.reason))
    }
}

impl Identity {
    /// All that its traffic needs.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs { settings: self.settings.clone(), ..Needs::default() };
        for shape in self.shapes.values().filter(|shape| shape.is_wanted()) {
            needs.merge(&shape.needs);
        }
        needs
    }

    /// How many statements use a relation, and the most rows of one that reads it.
    pub fn use_of(&self, relation: &str) -> (u64, u64) {
        let mut found = (0, 0);
        for shape in self.shapes.values().filter(|shape| shape.is_wanted()) {
            let Some(verbs) = shape.needs.relations.get(relation) else { continue };
            found.0 += shape.times();
            if verbs.contains(&Verb::Select) {
                found.1 = found.1.max(shape.rows);
            }
        }
        found
    }
}

/// A line, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    schema: String,
    event: String,
    time: String,
    session: String,
    identity: String,
    policy: String,
    database: String,
    postgres_role: String,
    settings: BTreeSet<String>,
    statement: u64,
    message: String,
    decision: String,
    reason: Option<String>,
    error: Option<String>,
    needs: Option<Needs>,
    fingerprint: String,
    text: Option<String>,
    text_bytes: Option<u64>,
    rows: u64,
    sqlstate: Option<String>,
}

/// A session that has not ended.
#[derive(Debug)]
struct Session {
    /// Its identity's place in the traffic.
    identity: usize,
    /// Its statements that have not ended: id and fingerprint.
    under_way: HashMap<u64, String>,
}

/// Reads line by line.
#[derive(Debug, Default)]
pub struct Gatherer {
    traffic: Traffic,
    sessions: HashMap<String, Session>,
    shapes: usize,
    text_bytes: usize,
}

impl Gatherer {
    /// Takes one line.
    pub fn line(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Event>(line) {
            Ok(event) if event.schema == SCHEMA => self.event(event),
            _ => self.traffic.left_out.malformed += 1,
        }
    }

    /// A line that is too long to be taken.
    pub fn over_long(&mut self) {
        self.traffic.left_out.malformed += 1;
    }

    /// All that was read.
    pub fn finish(self) -> Traffic {
        self.traffic
    }

    fn event(&mut self, event: Event) {
        match event.event.as_str() {
            "session_start" => self.session_start(event),
            "session_end" => {
                self.sessions.remove(&event.session);
            }
            // Nothing ran, and nobody knows what would have.
            "session_refused" => {}
            "statement" => self.statement(event),
            "statement_end" => self.statement_end(&event),
            _ => self.traffic.left_out.malformed += 1,
        }
    }

    fn session_start(&mut self, event: Event) {
        let name = event.identity.split_once('/').map_or(&*event.identity, |(_, name)| name);
        let identities = &mut self.traffic.identities;
        let is_same = |it: &Identity| it.policy == event.policy && it.database == event.database && it.name == name;
        let at = identities.iter().position(is_same).unwrap_or_else(|| {
            let Event { policy, database, .. } = &event;
            let (policy, database) = (policy.clone(), database.clone());
            identities.push(Identity { policy, database, name: name.to_owned(), ..Identity::default() });
            identities.len() - 1
        });
        let Some(identity) = identities.get_mut(at) else { return };
        identity.sessions += 1;
        identity.role = event.postgres_role;
        identity.settings.extend(event.settings);
        identity.seen = Some(match identity.seen.take() {
            None => (event.time.clone(), event.time),
            Some((first, last)) => (first.min(event.time.clone()), last.max(event.time)),
        });
        if self.sessions.len() >= MAX_SESSIONS {
            // Processes that were killed left sessions without an end.
            self.sessions.clear();
        }
        self.sessions.insert(event.session, Session { identity: at, under_way: HashMap::new() });
    }

    fn statement(&mut self, event: Event) {
        let Some(session) = self.sessions.get_mut(&event.session) else {
            self.traffic.left_out.without_start += 1;
            return;
        };
        let refused = event.decision == "deny";
        if event.needs.is_none() && !refused {
            self.traffic.left_out.enforced += 1;
            return;
        }
        let Some(identity) = self.traffic.identities.get_mut(session.identity) else { return };
        let mut fingerprint = event.fingerprint;
        if !identity.shapes.contains_key(&fingerprint) {
            if self.shapes >= MAX_SHAPES {
                self.traffic.left_out.not_told_apart += 1;
                fingerprint = OTHERS.to_owned();
            } else {
                self.shapes += 1;
            }
        }
        let is_run = event.message != "parse";
        if is_run && session.under_way.len() < MAX_UNDER_WAY {
            session.under_way.insert(event.statement, fingerprint.clone());
        }
        let is_others = fingerprint == OTHERS;
        let shape = identity.shapes.entry(fingerprint).or_default();
        if is_run {
            shape.runs += 1;
        } else {
            shape.prepared += 1;
        }
        if let Some(text) = event.text.filter(|_| event.text_bytes.is_none() && shape.text.is_none() && !is_others)
            && self.text_bytes + text.len() <= MAX_TEXTS
        {
            self.text_bytes += text.len();
            shape.text = Some(text);
        }
        let mut needs = event.needs.unwrap_or_default();
        let beyond = needs.beyond.take().or_else(|| {
            let (reason, error) = (event.reason.unwrap_or_default(), event.error.unwrap_or_default());
            refused.then_some(Beyond { reason, error })
        });
        match beyond.filter(|beyond| refused || !is_of_restrictions(&beyond.reason)) {
            Some(beyond) => shape.beyond.get_or_insert((beyond, 0)).1 += 1,
            None => {
                shape.allowable = true;
                if shape.needs != needs {
                    shape.needs.merge(&needs);
                }
            }
        }
    }

    fn statement_end(&mut self, event: &Event) {
        let Some(session) = self.sessions.get_mut(&event.session) else { return };
        let Some(fingerprint) = session.under_way.remove(&event.statement) else { return };
        let identity = self.traffic.identities.get_mut(session.identity);
        let Some(shape) = identity.and_then(|identity| identity.shapes.get_mut(&fingerprint)) else { return };
        shape.ended += 1;
        shape.rows = shape.rows.max(event.rows);
        shape.failed += u64::from(event.sqlstate.is_some());
        shape.forbidden += u64::from(event.sqlstate.as_deref() == Some(INSUFFICIENT_PRIVILEGE));
    }
}

/// Whether it was refused for masks or filters of the policy that was in force, which another may not have.
fn is_of_restrictions(reason: &str) -> bool {
    [Reason::MaskedPredicate, Reason::MaskedWrite, Reason::RowFilter, Reason::Closed]
        .into_iter()
        .any(|restriction| restriction.as_str() == reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const START: &str = r#"{"schema":"postern.audit/v1","event":"session_start","time":"2026-01-02T00:00:00.000000Z","session":"s","sequence":1,"identity":"shop/app","policy":"shop/shop","policy_version":1,"mode":"audit","database":"shop","postgres_role":"app_rw","settings":["app.x"],"subject":{"issuer":null}}"#;

    fn statement(id: u64, message: &str, fingerprint: &str, rest: &str) -> String {
        format!(
            r#"{{"schema":"postern.audit/v1","event":"statement","session":"s","statement":{id},"message":"{message}","fingerprint":"{fingerprint}",{rest}}}"#
        )
    }

    fn end(id: u64, rest: &str) -> String {
        format!(r#"{{"schema":"postern.audit/v1","event":"statement_end","session":"s","statement":{id},{rest}}}"#)
    }

    fn gathered(lines: &[String]) -> Traffic {
        let mut gatherer = Gatherer::default();
        gatherer.line(START.as_bytes());
        lines.iter().for_each(|line| gatherer.line(line.as_bytes()));
        gatherer.finish()
    }

    const SELECT: &str = r#""decision":"would_deny","reason":"no_rule","error":"no","needs":{"relations":{"a.b":["Select"]}},"text":"T""#;

    #[test]
    fn runs_of_one_statement_are_one_shape_with_the_most_rows_of_any() {
        let traffic = gathered(&[
            statement(1, "parse", "f", SELECT),
            statement(2, "execute", "f", SELECT),
            end(2, r#""rows":3,"sqlstate":null"#),
            statement(3, "execute", "f", SELECT),
            end(3, r#""rows":2,"sqlstate":"57014""#),
        ]);
        let identity = &traffic.identities[0];
        assert_eq!((&*identity.policy, &*identity.name, &*identity.role), ("shop/shop", "app", "app_rw"));
        let shape = &identity.shapes["f"];
        assert_eq!((shape.runs, shape.prepared, shape.ended, shape.failed, shape.rows), (2, 1, 2, 1, 3));
        assert_eq!(shape.text.as_deref(), Some("T"));
        assert_eq!(identity.use_of("a.b"), (2, 3));
        assert!(identity.needs().settings.contains("app.x"));
        assert_eq!(traffic.left_out, LeftOut::default());
    }

    #[test]
    fn what_the_server_refuses_to_the_role_every_time_is_not_needed() {
        let refused = end(1, r#""rows":0,"sqlstate":"42501""#);
        let one = [statement(1, "query", "f", SELECT), refused];
        assert!(gathered(&one).identities[0].needs().relations.is_empty());
        let more = [&one[..], &[statement(2, "query", "f", SELECT), end(2, r#""rows":0,"sqlstate":null"#)]].concat();
        assert!(gathered(&more).identities[0].needs().relations.contains_key("a.b"));
        let failed = [statement(1, "query", "f", SELECT), end(1, r#""rows":0,"sqlstate":"23505""#)];
        assert!(gathered(&failed).identities[0].needs().relations.contains_key("a.b"), "it was allowed to fail");
    }

    #[test]
    fn what_no_rule_can_allow_gives_no_needs_but_what_the_masks_in_force_refused_does() {
        let needs = |reason: &str, decision: &str| {
            let rest = format!(
                r#""decision":"{decision}","reason":"{reason}","error":"E","needs":{{"relations":{{"a.b":["Select"]}},"beyond":{{"reason":"{reason}","error":"E"}}}}"#
            );
            let traffic = gathered(&[statement(1, "query", "f", &rest)]);
            let shape = &traffic.identities[0].shapes["f"];
            (shape.is_wanted(), shape.beyond.as_ref().map(|(beyond, times)| (beyond.error.clone(), *times)))
        };
        assert_eq!(needs("forbidden", "would_deny"), (false, Some(("E".into(), 1))));
        assert_eq!(needs("role", "deny"), (false, Some(("E".into(), 1))));
        assert_eq!(needs("masked_write", "would_deny"), (true, None));
    }

    #[test]
    fn a_statement_that_fails_on_the_server_as_well_is_told_from_one_that_only_the_gate_refuses() {
        let rest = r#""decision":"would_deny","reason":"syntax","error":"E","needs":{"beyond":{"reason":"syntax","error":"E"}}"#;
        let of = |sqlstate: &str| {
            let lines = [statement(1, "query", "f", rest), end(1, &format!(r#""rows":0,"sqlstate":{sqlstate}"#))];
            gathered(&lines).identities[0].shapes["f"].fails_anyway()
        };
        assert!(of(r#""42601""#) && !of("null"));
    }

    #[test]
    fn lines_that_say_nothing_of_needs_are_counted_and_never_fatal() {
        let traffic = gathered(&[
            "{".into(),
            "\u{0}".into(),
            r#"{"schema":"other/v1","event":"statement"}"#.into(),
            statement(1, "query", "f", r#""decision":"allow","reason":null"#),
            statement(2, "query", "f", SELECT).replace(r#""session":"s""#, r#""session":"unknown""#),
            r#"{"schema":"postern.audit/v1","event":"session_end","session":"s"}"#.into(),
            statement(3, "query", "f", SELECT),
        ]);
        let expected = LeftOut { malformed: 3, without_start: 2, enforced: 1, not_told_apart: 0 };
        assert_eq!(traffic.left_out, expected);
    }

    #[test]
    fn beyond_the_bound_statements_are_no_longer_told_apart_but_what_they_need_is_kept() {
        let mut gatherer = Gatherer { shapes: MAX_SHAPES, ..Gatherer::default() };
        gatherer.line(START.as_bytes());
        gatherer.line(statement(1, "query", "f", SELECT).as_bytes());
        gatherer.line(statement(2, "query", "g", &SELECT.replace("a.b", "a.c")).as_bytes());
        let traffic = gatherer.finish();
        assert_eq!(traffic.left_out.not_told_apart, 2);
        assert_eq!(traffic.identities[0].needs().relations.len(), 2);
        assert_eq!(traffic.identities[0].shapes.keys().collect::<Vec<_>>(), [OTHERS]);
    }
}
