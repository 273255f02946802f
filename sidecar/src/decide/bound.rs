//! The bound policy: checked policy × catalog, for one identity. What the analysis asks while it walks a statement.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use pg_query::protobuf::Node;
use postern_crds::{CheckedIdentity, CheckedPolicy, Limits, MaskKind, Mode, OnPredicate};

use super::mask::{self, HashKey};
use crate::catalog::{Catalog, Name, Oid};
use crate::sql::fingerprint;

/// In mask and filter expressions a column of the row is the ColumnRef `[ROW, name]`; [`instantiate`](super::expression::instantiate) puts the alias
/// of the place where the expression is used for `ROW`.
pub const ROW: &str = "\u{1}row";

/// System columns that tell where a row is stored: in which partition, and as which of its rows.
pub const PLACE_COLUMNS: [&str; 2] = ["tableoid", "ctid"];

/// A policy bound to a catalog, for one identity.
#[derive(Debug)]
pub struct BoundPolicy {
    /// Grows with each bind; part of every cache key.
    pub version: u64,
    /// The checked policy.
    pub policy: Arc<CheckedPolicy>,
    /// The identity.
    pub identity: Arc<CheckedIdentity>,
    /// The catalog it was bound to.
    pub catalog: Arc<Catalog>,
    /// Relations that are masked, filtered, have hidden columns or are closed. A relation not in here is plain.
    pub views: HashMap<Oid, Arc<RelationView>>,
    /// Whether a filter of them is costly.
    pub costly_filters: bool,
    /// Whether there are row filters.
    pub row_filters: bool,
    /// Relations whose errors and notices are scrubbed: those with masks, hidden columns or filters, and their closure
    /// over foreign keys, triggers, rules and views.
    pub scrubbed: HashSet<Oid>,
    /// Partitions that tell what a masked or hidden column holds, by which rows they have: they are closed by themselves.
    pub telling_partitions: BTreeSet<Oid>,
    /// Whether `lastval()` may give a value of a masked or hidden column: the identity may write where such a column takes its
    /// values from a sequence.
    pub lastval_tells: bool,
    /// What did not bind, as `spec.masks[0].mask: …`.
    pub problems: Vec<BindProblem>,
    /// What the next bind must find again, or close.
    pub restricted: HashMap<Oid, Restricted>,
}

/// A table whose columns or rows the policy restricts, as the next bind knows it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restricted {
    /// Its schema.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// Its masked and hidden columns.
    pub columns: Vec<(i16, Name)>,
    /// Whether it has a row filter.
    pub filtered: bool,
}

/// Something of the policy that could not be bound; the column or relation it names is closed, alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindProblem {
    /// Field path.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// How one identity sees one relation.
#[derive(Clone, Debug, Default)]
pub struct RelationView {
    /// Set if nothing of it may be used, with the reason.
    pub closed: Option<String>,
    /// Columns that are hidden or masked, by attribute number; a column not in here is plain.
    pub columns: BTreeMap<i16, ColumnView>,
    /// Of the hidden columns those that are closed because their mask does not bind, with the reason.
    pub closed_columns: HashMap<i16, String>,
    /// Rows that exist; all matching filters joined by AND.
    pub filter: Option<RowFilter>,
    /// Whether in which partition a row is tells what a masked or hidden column holds.
    pub place_tells: bool,
}

impl BoundPolicy {
    /// What the names of transactions that the identity prepares begin with in the server. They may be 199 bytes long there, and
    /// drivers use most of that.
    pub fn prepared_prefix(&self) -> String {
        let identity = format!("{}/{}", self.identity.namespace, self.identity.name);
        let hash = fingerprint(&identity);
        format!("{}/", hash.get(..12).unwrap_or(&hash))
    }

    /// What holds for every session: the minimum over all rules of the identity.
    pub fn session_limits(&self) -> Limits {
        self.policy.rules_for(&self.identity).fold(Limits::default(), |limits, rule| limits.and(rule.limits))
    }

    /// Telling partitions and their indexes, sorted.
    pub fn telling_relations(&self) -> Vec<Oid> {
        let relations = self.telling_partitions.iter().filter_map(|oid| self.catalog.relations.get(oid));
        let indexes = relations.flat_map(|relation| relation.indexes.iter().map(|index| index.oid));
        let mut all: Vec<Oid> = self.telling_partitions.iter().copied().chain(indexes).collect();
        all.sort_unstable();
        all
    }

    /// Whether a text that may name relations is, or quotes, the name of a telling partition or of an index of one.
    pub fn names_telling_partition(&self, text: &str) -> bool {
        let relations = self.telling_partitions.iter().filter_map(|oid| self.catalog.relations.get(oid));
        let mut names = relations
            .flat_map(|relation| [&relation.name].into_iter().chain(relation.indexes.iter().map(|index| &index.name)));
        names.any(|name| *text == **name || text.contains(&format!("\"{name}\"")))
    }

    /// The keys of `hash` masks that a session must have from its start. Mode Audit masks nothing, and keeps no secret
    /// from a client that may say what it likes: so there are none.
    pub fn session_keys(&self) -> Vec<HashKey> {
        match self.policy.mode {
            Mode::Enforce => mask::hash_keys(&self.policy),
            Mode::Audit => Vec::new(),
        }
    }
}

impl RelationView {
    /// Whether the column does not exist for the identity.
    pub fn hides(&self, number: i16) -> bool {
        matches!(self.columns.get(&number), Some(ColumnView::Hidden))
    }
}

/// How one identity sees one column.
#[derive(Clone, Debug)]
pub enum ColumnView {
    /// It does not exist.
    Hidden,
    /// It is replaced by a mask.
    Masked(Arc<BoundMask>),
}

/// A mask bound to a column.
#[derive(Debug)]
pub struct BoundMask {
    /// The mask expression over [`ROW`], fully qualified, cast to the column's exact type.
    pub expression: Arc<Node>,
    /// Which mask it is.
    pub kind: MaskKind,
    /// Whether the expression is a constant, so that a save can't be told from an erasure.
    pub constant: bool,
    /// What a predicate does.
    pub on_predicate: OnPredicate,
    /// Field path of the mask entry, such as `spec.masks[0]`.
    pub path: String,
}

/// A row filter bound to a relation.
#[derive(Clone, Debug)]
pub struct RowFilter {
    /// The boolean expression over [`ROW`], fully qualified.
    pub expression: Node,
    /// Whether it is more than comparisons of columns with constants, each of which costs the server less than a cast of a parameter:
    /// what costs less is tried before it.
    pub costly: bool,
    /// The columns that it reads.
    pub columns: Vec<i16>,
    /// The rule (or rules) it comes from, for errors.
    pub rule: String,
}

/// A rule that allows a verb on a relation, and the limits that hold then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Name of the (first) rule that allows.
    pub rule: Arc<str>,
    /// Minimum over all rules of this identity that match the relation.
    pub limits: Limits,
}
