//! What statements need of a policy's rules: learnt in mode Audit, where the analysis goes on past what a rule could
//! allow, so that one look at a statement tells everything that it takes. `suggest` makes a policy of it.

use std::collections::{BTreeMap, BTreeSet};

use postern_crds::Verb;
use postern_crds::pattern::literal;
use serde::{Deserialize, Serialize};

use super::Analyzer;
use crate::catalog::{Column, Function, Relation};
use crate::decide::bound::Grant;
use crate::decide::{Denial, Reason};

/// What a text needs. Names are written as a policy's patterns, quoted where need be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Needs {
    /// Verbs by relation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub relations: BTreeMap<String, BTreeSet<Verb>>,
    /// Verbs that no relation is named with: temporary tables, advisory locks, schemas.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub verbs: BTreeSet<Verb>,
    /// Relations whose rows it locks: Update, Delete or Lock.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub row_locks: BTreeSet<String>,
    /// Functions of the database.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub functions: BTreeSet<String>,
    /// Procedures; they need the verb Call, too.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub procedures: BTreeSet<String>,
    /// Custom settings.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub settings: BTreeSet<String>,
    /// Channels.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub channels: BTreeSet<String>,
    /// Whether it exports in bulk, which the policy must allow as a whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bulk_export: bool,
    /// The columns that it reads of the database's own relations, with their types.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Those of them that its conditions and joins read.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub compared: BTreeSet<String>,
    /// Why no rule can allow it; the needs may be incomplete then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond: Option<Beyond>,
}

/// A refusal that no rule lifts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// Its reason code.
    pub reason: String,
    /// As the client would read it.
    pub error: String,
}

impl Needs {
    /// Adds what another text needs.
    pub fn merge(&mut self, other: &Needs) {
        for (relation, verbs) in &other.relations {
            self.relations.entry(relation.clone()).or_default().extend(verbs);
        }
        self.verbs.extend(&other.verbs);
        self.row_locks.extend(other.row_locks.iter().cloned());
        self.functions.extend(other.functions.iter().cloned());
        self.procedures.extend(other.procedures.iter().cloned());
        self.settings.extend(other.settings.iter().cloned());
        self.channels.extend(other.channels.iter().cloned());
        self.bulk_export |= other.bulk_export;
        self.columns.extend(other.columns.iter().map(|(name, kind)| (name.clone(), kind.clone())));
        self.compared.extend(other.compared.iter().cloned());
    }

    fn read(&mut self, relation: &Relation, is_read: impl Fn(&Column) -> bool, is_compared: impl Fn(&Column) -> bool) {
        for column in relation.columns.iter().filter(|column| is_read(column)) {
            let name = literal(&[&relation.schema, &relation.name, &column.name]);
            if is_compared(column) {
                self.compared.insert(name.clone());
            }
            self.columns.insert(name, column.type_sql.to_string());
        }
    }

    fn verb(&mut self, relation: String, verb: Verb) {
        self.relations.entry(relation).or_default().insert(verb);
    }
}

/// What is learnt while statements are walked.
#[derive(Clone, Debug, Default)]
pub(super) struct Learner {
    pub(super) needs: Needs,
    /// The first refusal that a rule would lift.
    pub(super) denial: Option<Denial>,
}

/// The grant of a rule that is not there yet. No rule has an empty name.
fn granted() -> Grant {
    Grant { rule: "".into(), limits: postern_crds::Limits::default() }
}

impl Analyzer<'_> {
    /// Notes what is asked for, and, where it is learnt, takes an answer that a rule could change as given.
    fn asked<T>(
        &mut self,
        need: impl FnOnce(&mut Needs),
        answer: Result<T, Denial>,
        given: impl FnOnce() -> T,
    ) -> Result<T, Denial> {
        let Some(learner) = &mut self.learner else { return answer };
        need(&mut learner.needs);
        match answer {
            Err(denial) if denial.reason != Reason::Closed => {
                learner.denial.get_or_insert(denial);
                Ok(given())
            }
            answer => answer,
        }
    }

    /// Whether a rule allows a verb on a relation.
    pub(crate) fn grant(&mut self, relation: &Relation, verb: Verb) -> Result<Grant, Denial> {
        let answer = self.policy.grant(relation, verb).map_err(|denial| match (verb, denial.reason) {
            (Verb::CopyOut, Reason::NoRule) => Denial { reason: Reason::BulkExport, ..denial },
            _ => denial,
        });
        self.asked(|needs| needs.verb(pattern(relation), verb), answer, granted)
    }

    /// Whether a rule allows a verb on a relation that is to be made.
    pub(super) fn grant_new(
        &mut self,
        schema: &str,
        name: &str,
        verb: Verb,
        answer: Result<Grant, Denial>,
    ) -> Result<Grant, Denial> {
        self.asked(|needs| needs.verb(literal(&[schema, name]), verb), answer, granted)
    }

    /// Whether a rule gives a verb at all.
    pub(super) fn allows(&mut self, verb: Verb) -> Result<Grant, Denial> {
        self.allows_either(verb, None)
    }

    /// Whether a rule gives a verb at all, or else another that will do; the first is the one that describes it.
    pub(super) fn allows_either(&mut self, verb: Verb, or: Option<Verb>) -> Result<Grant, Denial> {
        let answer = self.policy.allows(verb);
        let answer = answer.or_else(|denial| or.and_then(|or| self.policy.allows(or).ok()).ok_or(denial));
        self.asked(|needs| needs.verbs.extend([verb]), answer, granted)
    }

    /// Whether the rows of a relation may be locked: a right to change the relation, or to lock.
    pub(crate) fn may_lock(&mut self, relation: &Relation) -> Result<(), Denial> {
        let ask = |verb| self.policy.grant(relation, verb).map(|_| ());
        let answer =
            ask(Verb::Update).or_else(|denial| ask(Verb::Delete).or_else(|_| ask(Verb::Lock)).map_err(|_| denial));
        self.asked(|needs| needs.row_locks.extend([pattern(relation)]), answer, || ())
    }

    /// Whether a rule lets the identity call a function of the database.
    pub(super) fn call_of(&mut self, function: &Function) -> Result<postern_crds::Limits, Denial> {
        let answer = self.policy.function(function);
        let name = || literal(&[&function.schema, &function.name]);
        let need = |needs: &mut Needs| match function.kind {
            'p' => needs.procedures.extend([name()]),
            _ => needs.functions.extend([name()]),
        };
        self.asked(need, answer, postern_crds::Limits::default)
    }

    /// Whether a rule lets the identity use a channel.
    pub(super) fn channel(&mut self, name: &str, refused: impl FnOnce(&str) -> Denial) -> Result<(), Denial> {
        let answer = if self.policy.channel(name) { Ok(()) } else { Err(refused(&self.policy.identity.name)) };
        self.asked(|needs| needs.channels.extend([literal(&[name])]), answer, || ())
    }

    /// Of a setting: the answer, what it would be if a rule named the custom ones that were asked for, and these.
    pub(super) fn learn_settings<T>(
        &mut self,
        custom: Vec<String>,
        answer: Result<T, Denial>,
        given: Result<T, Denial>,
    ) -> Result<T, Denial> {
        match given {
            Ok(given) => self.asked(|needs| needs.settings.extend(custom), answer, || given),
            Err(_) => answer,
        }
    }

    /// Whether the policy lets a bulk export pass.
    pub(super) fn bulk_export(&mut self) -> Result<(), Denial> {
        let answer = self.policy.bulk_export();
        self.asked(|needs| needs.bulk_export = true, answer, || ())
    }

    /// Asks without learning: the answer decides which text is sent, not whether one is.
    pub(super) fn only_asking<T>(&mut self, ask: impl FnOnce(&mut Self) -> T) -> T {
        let learner = self.learner.take();
        let answer = ask(self);
        self.learner = learner;
        answer
    }

    /// Notes which columns the statement that was walked reads.
    pub(super) fn learn_columns(&mut self) {
        let Some(learner) = &mut self.learner else { return };
        for item in self.scopes.items.iter().filter_map(|item| item.relation()) {
            if !item.relation.system && !item.relation.temporary {
                let is_read = |column: &Column| item.whole || item.used.contains(&column.number);
                learner.needs.read(&item.relation, is_read, |column| item.compared.contains(&column.number));
            }
        }
    }

    /// Notes columns that are read without a walk.
    pub(super) fn learn_columns_of(&mut self, relation: &Relation, is_read: impl Fn(&Column) -> bool) {
        if let Some(learner) = &mut self.learner {
            learner.needs.read(relation, is_read, |_| false);
        }
    }
}

/// The relation as a policy names it.
fn pattern(relation: &Relation) -> String {
    literal(&[&relation.schema, &relation.name])
}
