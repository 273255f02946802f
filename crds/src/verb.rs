//! The verbs that a rule can allow.

use serde::{Deserialize, Serialize};

/// What a statement does: the words of `spec.rules[].allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Verb {
    /// Read rows.
    Select,
    /// Add rows; also nextval, currval and setval of a sequence.
    Insert,
    /// Change rows.
    Update,
    /// Remove rows.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// COPY … FROM STDIN.
    CopyIn,
    /// COPY … TO STDOUT; needs `spec.bulkExport` too.
    CopyOut,
    /// CALL of the procedures that `functions` names. Functions need no verb.
    Call,
    /// Temporary tables, sequences and views.
    Temp,
    /// CREATE, ALTER, DROP of relations, indexes, types, schemas and comments.
    Ddl,
    /// LOCK TABLE in modes stronger than ACCESS SHARE, advisory locks, and two-phase commit.
    Lock,
    /// LISTEN and NOTIFY on the channels that `channels` names.
    Notify,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH MATERIALIZED VIEW, CHECKPOINT.
    Maintenance,
}

impl Verb {
    /// Every verb, in the order of the API.
    pub const ALL: [Verb; 13] = [
        Verb::Select,
        Verb::Insert,
        Verb::Update,
        Verb::Delete,
        Verb::Truncate,
        Verb::CopyIn,
        Verb::CopyOut,
        Verb::Call,
        Verb::Temp,
        Verb::Ddl,
        Verb::Lock,
        Verb::Notify,
        Verb::Maintenance,
    ];

    /// The word as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Select => "Select",
            Verb::Insert => "Insert",
            Verb::Update => "Update",
            Verb::Delete => "Delete",
            Verb::Truncate => "Truncate",
            Verb::CopyIn => "CopyIn",
            Verb::CopyOut => "CopyOut",
            Verb::Call => "Call",
            Verb::Temp => "Temp",
            Verb::Ddl => "Ddl",
            Verb::Lock => "Lock",
            Verb::Notify => "Notify",
            Verb::Maintenance => "Maintenance",
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VerbSet(u16);

impl VerbSet {
    /// No verb.
    pub const EMPTY: VerbSet = VerbSet(0);

    /// Adds a verb.
    pub fn insert(&mut self, verb: Verb) {
        self.0 |= 1 << verb as u16;
    }

    /// Whether the verb is in the set.
    pub const fn contains(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u16) != 0
    }

    /// Whether no verb is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    pub const fn union(self, other: VerbSet) -> VerbSet {
        VerbSet(self.0 | other.0)
    }

    /// The verbs of the set, in the API's order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.contains(*verb))
    }
}

impl FromIterator<Verb> for VerbSet {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        let mut set = VerbSet::EMPTY;
        for verb in verbs {
            set.insert(verb);
        }
        set
    }
}
