//! The analysis of a statement: names resolved, decided, rewritten to the identity's view of the database.

use std::sync::Arc;

use postern_crds::{Limits, Verb, VerbSet};

use crate::catalog::{Oid, Relation};
use crate::decide::Denial;

/// Stands in the text of the error that a new row version outside the filter raises as it runs.
pub const ROW_FILTER_MARKER: &str = "postern row filter";

/// What the analysis must know of the session.
#[derive(Clone, Debug, Default)]
pub struct SessionView {
    /// `search_path` as the session's setting has it now, `$user` replaced; pg_catalog not added.
    pub search_path: Arc<[String]>,
    /// Relations that this session or transaction made or changed (temporary ones, DDL in the open transaction): they
    /// come before the catalog's of the same schema and name. Temporary ones have the schema `pg_temp`.
    pub overlay: Arc<Vec<Arc<Relation>>>,
    /// Changes with every change of `search_path` or `overlay`; part of the cache key with them.
    pub overlay_version: u64,
    /// SQL-level prepared statements and protocol-level ones share one name space: name to the statement's text.
    pub prepared: Arc<std::collections::HashMap<String, Arc<Decided>>>,
}

/// The result of an analysis.
#[derive(Clone, Debug)]
pub enum Analysis {
    /// Decided, for each statement of the text in order.
    Decided(Arc<Decided>),
    /// Names that neither the catalog nor the overlay knows, and that may exist: look again, then ask again.
    /// Each is (schema as written, name).
    Lookup(Vec<(Option<String>, String)>),
}

/// A text that was decided: one statement, or several of one simple Query.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What the whole text may do: the first refusal holds for all of it.
    pub denial: Option<Denial>,
    /// In mode Audit: the refusal that would have been.
    pub would_deny: Option<Denial>,
    /// The text to send; None sends the client's own bytes.
    pub rewritten: Option<Arc<str>>,
    /// Each statement.
    pub statements: Vec<Statement>,
    /// Version of the bound policy that decided.
    pub policy_version: u64,
    /// Hex fingerprint of the text.
    pub fingerprint: Arc<str>,
    /// The text with literals replaced, for the audit.
    pub normalized: Arc<str>,
}

/// One decided statement.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// Which kind, as far as the session must follow it.
    pub effect: Effect,
    /// Verbs it needs.
    pub verbs: VerbSet,
    /// The verb that describes it best, for metrics; None for a statement that touches nothing.
    pub main_verb: Option<Verb>,
    /// Rule that allowed it (the first).
    pub rule: Option<Arc<str>>,
    /// Relations it touches, as `schema.name`.
    pub relations: Vec<Arc<str>>,
    /// Relations it touches, by oid.
    pub touched: Vec<Oid>,
    /// Masked columns that it reads, as `schema.name.column`.
    pub masked_columns: Vec<Arc<str>>,
    /// NOTICEs to raise once per session and column: (key, text).
    pub notices: Vec<(Arc<str>, Arc<str>)>,
    /// Limits that hold for it.
    pub limits: Limits,
    /// Whether it is proven to return at most one row.
    pub at_most_one_row: bool,
    /// Whether it returns rows at all.
    pub returns_rows: bool,
    /// Whether it writes.
    pub writes: bool,
    /// Whether it touches relations whose errors and notices must be scrubbed.
    pub scrub: bool,
    /// Whether a result column may be checked by the second wall: it touches relations with masks or hidden columns.
    pub second_wall: bool,
    /// The rule whose row filter guards a write in it: an error that holds [`ROW_FILTER_MARKER`] is reported as 42501
    /// with this rule.
    pub row_filter_rule: Option<Arc<str>>,
}

/// What a statement does to the session's state, beyond rows.
#[derive(Clone, Debug, Default)]
pub enum Effect {
    /// Nothing that the proxy must follow.
    #[default]
    None,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT (chain: a new one begins).
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT name.
    Savepoint(String),
    /// RELEASE name.
    Release(String),
    /// ROLLBACK TO name.
    RollbackTo(String),
    /// SET or RESET of search_path; None is RESET.
    SearchPath {
        /// The new value.
        value: Option<Vec<String>>,
        /// SET LOCAL.
        local: bool,
    },
    /// SET application_name, which upstream is prefixed; None is RESET.
    ApplicationName {
        /// The client's value.
        value: Option<String>,
        /// SET LOCAL.
        local: bool,
    },
    /// SHOW application_name: the answer is the client's own value.
    ShowApplicationName,
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD TEMP.
    DiscardTemp,
    /// PREPARE name AS …
    Prepare {
        /// Name of the statement.
        name: String,
        /// The client's text of the inner statement.
        inner: Arc<str>,
        /// What the inner statement was decided to be.
        decided: Box<Statement>,
    },
    /// EXECUTE name.
    Execute {
        /// Name of the statement.
        name: String,
    },
    /// DEALLOCATE name; None is ALL.
    Deallocate(Option<String>),
    /// DECLARE name CURSOR FOR …
    Declare {
        /// Name of the cursor.
        name: String,
        /// WITH HOLD.
        hold: bool,
        /// What the query was decided to be.
        decided: Box<Statement>,
    },
    /// FETCH from name.
    Fetch {
        /// Name of the cursor.
        name: String,
    },
    /// CLOSE name; None is ALL.
    CloseCursor(Option<String>),
    /// COPY … FROM STDIN.
    CopyIn,
    /// COPY … TO STDOUT.
    CopyOut,
    /// DDL, or a temporary table: the catalog must be looked at again (in the session's own connection while the
    /// transaction is open).
    CatalogChange {
        /// Names made or changed, as (schema as resolved, name).
        names: Vec<(Option<String>, String)>,
        /// Whether only temporary objects are concerned.
        temporary: bool,
    },
}
