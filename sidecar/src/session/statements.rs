//! Names of prepared statements, portals and cursors, and what they stand for.
//!
//! What was sent may still fail: each definition can be taken back, and tells in which batch (the messages up to a
//! Sync, or one Query) it was sent. A batch that relies on what an earlier one defined waits until that is confirmed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::limits::Usage;
use super::pending::Chosen;
use crate::analyze::{Decided, Effect, TypesInDoubt};
use crate::catalog::{Oid, Relation};

/// Most named statements of a session, and most portals and cursors.
pub(super) const MAX_NAMES: usize = 10_000;
/// Most bytes that their texts take.
pub(super) const MAX_NAME_BYTES: usize = 64 << 20;

/// What text means in a session: what [`crate::analyze::SessionView`] is made of, as it was.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub(super) search_path: Arc<[String]>,
    pub(super) overlay: Arc<Vec<Arc<Relation>>>,
    pub(super) types_in_doubt: Arc<TypesInDoubt>,
    pub(super) stamp: u64,
}

impl Meaning {
    /// Sessions without relations and types of their own share decisions: what they mean is in the path.
    pub(super) fn version(&self) -> u64 {
        if self.overlay.is_empty() && self.types_in_doubt.is_empty() { 0 } else { self.stamp }
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The client's text.
    pub(super) text: Arc<str>,
    /// How that was decided.
    pub(super) decided: Arc<Decided>,
    /// What its names mean.
    pub(super) meaning: Meaning,
    /// Types of its parameters, as the client said.
    pub(super) param_types: Arc<[Oid]>,
    /// Whether it was made by SQL's PREPARE; then `text` is the inner statement.
    pub(super) by_sql: bool,
    /// Hash of the result columns that the client was told; 0 for none.
    pub(super) columns: AtomicU64,
    /// Whether the server has no such statement any more: preparing it anew failed.
    pub(super) lost: AtomicBool,
}

/// A portal or a cursor.
#[derive(Debug)]
pub(super) struct Portal {
    /// The text that made it: what was prepared, or the Query that holds DECLARE.
    pub(super) text: Arc<str>,
    /// Types of its parameters, as the client said.
    pub(super) param_types: Arc<[Oid]>,
    /// How that was decided.
    pub(super) decided: Arc<Decided>,
    /// What its names meant.
    pub(super) meaning: Meaning,
    /// What runs when it is executed or fetched from.
    pub(super) chosen: Chosen,
    /// Version of the bound policy that last found it still allowed.
    pub(super) checked: AtomicU64,
    /// What of its result left so far.
    pub(super) usage: Arc<Usage>,
    /// WITH HOLD: it outlives its transaction.
    pub(super) hold: bool,
    /// Whether it was executed: what it does to the session it does once.
    pub(super) ran: AtomicBool,
    /// Batch in which its columns were described last; they are checked by the second wall then.
    pub(super) described: AtomicU64,
    /// Its text with the values that were bound, if it was decided by them.
    pub(super) with_values: Option<Arc<str>>,
    /// Values that were bound, for the audit.
    pub(super) parameters: Option<Bound>,
}

impl Portal {
    /// What it takes beyond what it shares with its statement.
    pub(super) fn bytes(&self) -> usize {
        let parameters = match &self.parameters {
            Some(Bound::Body(body)) => body.len(),
            Some(Bound::Streamed(_)) | None => 0,
        };
        // What was decided by values is this portal's own.
        let decided = self.with_values.as_ref().map_or(0, |text| {
            let effects = self.decided.statements.iter().map(|statement| &statement.effect);
            text.len() + size_of::<Decided>() + effects.map(path_bytes).sum::<usize>()
        });
        size_of::<Self>() + parameters + decided
    }
}

fn path_bytes(effect: &Effect) -> usize {
    /// Of a name, with what its place takes.
    const NAME: usize = 48;
    match effect {
        Effect::SearchPath { value: Some(names), .. } => names.iter().map(|name| NAME + name.len()).sum(),
        _ => 0,
    }
}

/// Values bound to a portal, as the audit wants them.
#[derive(Debug)]
pub(super) enum Bound {
    /// The body of the Bind.
    Body(Box<[u8]>),
    /// So many bytes of them.
    Streamed(u64),
}

/// What each name stands for, as it will be once what was sent has run.
#[derive(Debug)]
pub(super) struct Names<T> {
    entries: HashMap<Box<str>, Entry<T>>,
    bytes: usize,
    /// How many entries stand for nothing.
    closed: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// None: closed, but not yet confirmed.
    value: Option<Arc<T>>,
    batch: u64,
    bytes: usize,
}

impl<T> Entry<T> {
    fn is_settled(&self, current: u64, answered: u64) -> bool {
        self.batch == current || self.batch <= answered
    }
}

/// Takes a definition back.
#[derive(Debug)]
pub(super) struct Undo<T> {
    name: Box<str>,
    batch: u64,
    before: Option<Entry<T>>,
}

impl<T> Undo<T> {
    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0, closed: 0 }
    }
}

impl<T> Names<T> {
    /// What a name stands for.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.entries.get(name)?.value.as_ref()
    }

    /// Whether a message of batch `current` may rely on what is known of the name, all batches up to `answered` being
    /// confirmed.
    pub(super) fn is_settled(&self, name: &str, current: u64, answered: u64) -> bool {
        self.entries.get(name).is_none_or(|entry| entry.is_settled(current, answered))
    }

    /// The same of all names.
    pub(super) fn all_settled(&self, current: u64, answered: u64) -> bool {
        self.entries.values().all(|entry| entry.is_settled(current, answered))
    }

    /// Whether there is room for one more of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < MAX_NAMES && self.bytes + bytes <= MAX_NAME_BYTES
    }

    /// Lets a name stand for something, or for nothing.
    pub(super) fn set(&mut self, name: &str, value: Option<Arc<T>>, bytes: usize, batch: u64) -> Undo<T> {
        let before = self.entries.remove(name);
        self.forget(before.as_ref());
        self.insert(name.into(), Entry { value, batch, bytes });
        Undo { name: name.into(), batch, before }
    }

    fn insert(&mut self, name: Box<str>, entry: Entry<T>) {
        self.bytes += entry.bytes;
        self.closed += usize::from(entry.value.is_none());
        self.entries.insert(name, entry);
    }

    fn forget(&mut self, entry: Option<&Entry<T>>) {
        if let Some(entry) = entry {
            self.bytes -= entry.bytes;
            self.closed -= usize::from(entry.value.is_none());
        }
    }

    /// Takes a definition back that failed. Last in, first out.
    pub(super) fn undo(&mut self, undo: Undo<T>) {
        let Undo { name, batch, before } = undo;
        // The unnamed one may have been defined again since, by a later batch.
        if self.entries.get(&name).is_none_or(|entry| entry.batch != batch) {
            return;
        }
        let failed = self.entries.remove(&name);
        self.forget(failed.as_ref());
        // Which unnamed one is the last that worked is not followed: it stands for nothing then.
        if let Some(before) = before.filter(|_| !name.is_empty()) {
            self.insert(name, before);
        }
    }

    /// Puts another value where one is, as defined by the same message.
    pub(super) fn replace(&mut self, name: &str, value: Arc<T>) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.value = Some(value);
        }
    }

    /// Forgets those that are closed, as far as that is confirmed.
    pub(super) fn settle(&mut self, answered: u64) {
        // A session may have thousands, and this is at the end of every batch.
        if self.closed > 0 {
            self.retain(|entry| entry.batch > answered || entry.value.is_some());
        }
    }

    /// Forgets those that `keep` doesn't want, and those that are closed, as far as they are confirmed.
    pub(super) fn settle_by(&mut self, answered: u64, mut keep: impl FnMut(&T) -> bool) {
        if !self.entries.is_empty() {
            self.retain(|entry| entry.batch > answered || entry.value.as_ref().is_some_and(|value| keep(value)));
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Entry<T>) -> bool) {
        let (mut bytes, mut closed) = (0, 0);
        self.entries.retain(|_, entry| {
            let kept = keep(entry);
            if kept {
                bytes += entry.bytes;
                closed += usize::from(entry.value.is_none());
            }
            kept
        });
        (self.bytes, self.closed) = (bytes, closed);
        // The unnamed portal comes and goes with every statement: its room stays.
        if self.entries.is_empty() && self.entries.capacity() > 3 {
            self.entries = HashMap::new();
        }
    }

    /// All names that stand for something.
    pub(super) fn names(&self) -> Vec<Box<str>> {
        self.entries.iter().filter(|(_, entry)| entry.value.is_some()).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_batch_is_taken_back_in_reverse() {
        let mut names = Names::default();
        names.set("s", Some(Arc::new(1)), 10, 1);
        let close = names.set("s", None, 0, 2);
        let again = names.set("s", Some(Arc::new(2)), 20, 2);
        assert_eq!(names.get("s").map(|value| **value), Some(2));
        names.undo(again);
        assert_eq!(names.get("s"), None);
        names.undo(close);
        assert_eq!(names.get("s").map(|value| **value), Some(1));
        assert_eq!(names.bytes, 10);
    }

    #[test]
    fn a_later_batch_waits_for_what_an_earlier_one_defined() {
        let mut names = Names::default();
        names.set("s", Some(Arc::new(1)), 0, 3);
        assert!(names.is_settled("s", 3, 2));
        assert!(!names.is_settled("s", 4, 2));
        assert!(names.is_settled("s", 4, 3));
        assert!(names.is_settled("other", 4, 2));
    }

    #[test]
    fn an_unnamed_statement_whose_replacement_failed_stands_for_nothing() {
        let mut names = Names::default();
        names.set("", Some(Arc::new(1)), 0, 1);
        let second = names.set("", Some(Arc::new(2)), 0, 2);
        let third = names.set("", Some(Arc::new(3)), 0, 3);
        names.undo(second);
        assert_eq!(names.get("").map(|value| **value), Some(3));
        names.undo(third);
        assert_eq!(names.get(""), None);
    }

    #[test]
    fn names_that_are_closed_take_no_room_once_that_is_confirmed() {
        let mut names = Names::default();
        names.set("s", Some(Arc::new(1)), MAX_NAME_BYTES, 1);
        assert!(!names.has_room(1));
        names.set("s", None, 0, 1);
        names.settle(1);
        assert!(names.entries.is_empty() && names.has_room(MAX_NAME_BYTES));
    }
}
