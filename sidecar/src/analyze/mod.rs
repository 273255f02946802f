//! The analysis of a statement: names resolved, decided, rewritten to the identity's view of the database.

mod attribute;
mod beside;
mod block;
mod cascade;
mod cast;
mod ddl;
mod expression;
mod function;
mod group;
mod guard;
mod harmless;
mod late;
mod literals;
pub mod needs;
mod parameters;
mod path;
mod rows;
mod savepoints;
mod schemas;
mod scope;
mod select;
mod stored;
mod sub_link;
mod time;
mod tree;
mod utility;
#[cfg(test)]
mod utility_tests;
mod view;
mod write;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use literals::free_literals;
pub use path::{PathEnds, SavedPath};
use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
pub use savepoints::Savepoints;
use scope::{ItemId, RelationItem, Scopes};

use crate::audit::Said;
use crate::catalog::names::Resolution;
use crate::catalog::view_columns::ViewColumn;
use crate::catalog::{Catalog, RelationKind, WrittenName};
use crate::decide::bound::{BoundMask, BoundPolicy, ColumnView, Grant, RelationView};
use crate::decide::{Reason, system};
use crate::sql;

use guard::Guard;
use needs::{Beyond, Learner, Needs};
use parameters::{Confirmed, Parameters};
use postern_crds::{Limits, Mode, Verb, VerbSet};

use crate::catalog::{Oid, Relation};
use crate::decide::Denial;

/// Stands in the text of the error that a write raises as it runs if it would change or store what a mask protects.
pub const MASKED_WRITE_MARKER: &str = "postern masked write";

/// Stands in the text of the error that a new row version outside the filter raises as it runs.
pub const ROW_FILTER_MARKER: &str = "postern row filter";

/// Oids from here on stand for relations that earlier statements of the same text make. No server has given out so many.
const FIRST_PREDICTED: Oid = 0xffff_0000;

/// What is known of a type's name, whatever its schema, that means what the catalog says no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is no type's in a schema, and may be another's.
    Gone,
    /// It is a new type's, in this schema.
    Made(String),
    /// It is a new type's, if it was made at all.
    MaybeMade,
    /// It may be any type's.
    Turned,
}

impl Doubt {
    /// The same, of what may not have happened, or be undone.
    fn uncertain(&self) -> Doubt {
        match self {
            Doubt::Made(_) | Doubt::MaybeMade => Doubt::MaybeMade,
            Doubt::Gone | Doubt::Turned => Doubt::Turned,
        }
    }
}

/// Bare names of types, and what is known of them.
pub type TypesInDoubt = BTreeMap<String, Doubt>;

/// Follows what a statement did to types.
pub fn doubt(known: &mut Arc<TypesInDoubt>, changed: &[(String, Doubt)]) {
    if changed.is_empty() {
        return;
    }
    let known = Arc::make_mut(known);
    for (name, doubt) in changed {
        if known.get(name) != Some(&Doubt::Turned) {
            known.insert(name.clone(), doubt.clone());
        }
    }
}

/// What the analysis must know of the session.
#[derive(Clone, Debug, Default)]
pub struct SessionView {
    /// `search_path` as the session's setting has it now, `$user` replaced; pg_catalog not added.
    pub search_path: Arc<[String]>,
    /// What becomes of it as the open transaction ends.
    pub path_ends: PathEnds,
    /// Relations that this session or transaction made or changed (temporary ones, DDL in the open transaction): they
    /// come before the catalog's of the same schema and name. Temporary ones have the schema `pg_temp`.
    pub overlay: Arc<Vec<Arc<Relation>>>,
    /// Relations that earlier statements of the same text changed: of which types their columns are, only the server will know.
    pub retyped: Arc<BTreeSet<Oid>>,
    /// Types, rows of relations aside, that the open transaction or earlier statements of the same text made, changed or dropped.
    pub types_in_doubt: Arc<TypesInDoubt>,
    /// Changes with every change of `search_path`, `overlay` or `types_in_doubt`; part of the cache key with them.
    pub overlay_version: u64,
    /// SQL-level prepared statements and protocol-level ones share one name space: name to the statement's text.
    pub prepared: Arc<std::collections::HashMap<String, Arc<Decided>>>,
    /// Whether names that were unknown have been looked up: what is unknown still does not exist.
    pub looked: bool,
    /// Whether the session has made temporary relations under another policy than that in force.
    pub temporary_is_old: bool,
}

impl SessionView {
    /// Follows what a statement does, for the statements after it in the same text.
    fn predict(&mut self, effect: &Effect, made: Vec<Relation>, dropped: &[WrittenName]) {
        self.path_ends.follow(effect, &mut self.search_path);
        match effect {
            Effect::Prepare { name, decided: inner, .. } => {
                let prepared = Decided { statements: Arc::from([Statement::clone(inner)]), ..Decided::default() };
                Arc::make_mut(&mut self.prepared).insert(name.clone(), Arc::new(prepared));
            }
            Effect::CatalogChange { types, .. } => {
                doubt(&mut self.types_in_doubt, types);
                let is_dropped = |relation: &Relation| {
                    dropped
                        .iter()
                        .any(|(schema, name)| schema.as_deref() == Some(&*relation.schema) && *name == *relation.name)
                };
                let kept = self.overlay.iter().filter(|relation| !is_dropped(relation)).cloned();
                self.overlay = Arc::new(kept.chain(made.into_iter().map(Arc::new)).collect());
            }
            // What this text made is gone, or may be.
            Effect::Rollback { .. } | Effect::RollbackTo(_) => {
                let kept = self.overlay.iter().filter(|relation| relation.oid < FIRST_PREDICTED).cloned();
                self.overlay = Arc::new(kept.collect());
                let uncertain = self.types_in_doubt.iter().map(|(name, doubt)| (name.clone(), doubt.uncertain()));
                self.types_in_doubt = Arc::new(uncertain.collect());
            }
            _ => {}
        }
    }
}

/// The result of an analysis.
#[derive(Clone, Debug)]
pub enum Analysis {
    /// Decided, for each statement of the text in order.
    Decided(Arc<Decided>),
    /// Names that neither the catalog nor the overlay knows, and that may exist: look again, then ask again.
    Lookup(Vec<WrittenName>),
}

/// A text that was decided: one statement, or several of one simple Query.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// What the whole text may do: the first refusal holds for all of it.
    pub denial: Option<Denial>,
    /// In mode Audit: the refusal that would have been.
    pub would_deny: Option<Denial>,
    /// The text to send; None sends the client's own bytes.
    pub rewritten: Option<Arc<str>>,
    /// Each statement.
    pub statements: Arc<[Statement]>,
    /// Version of the bound policy that decided.
    pub policy_version: u64,
    /// Hex fingerprint of the text.
    pub fingerprint: Arc<str>,
    /// The text with literals replaced, for the audit.
    pub normalized: Arc<str>,
    /// Whether it depends on the types that the client gives the parameters.
    pub asks_types: bool,
    /// What it needs of the rules; learnt in mode Audit.
    pub needs: Option<Arc<Needs>>,
    /// What the audit says of it.
    pub said: Said,
}

impl Decided {
    /// A text that was refused before it was read.
    pub fn refused(denial: Denial, policy_version: u64) -> Self {
        Self { denial: Some(denial), policy_version, ..Self::default() }
    }

    /// Masked columns that a predicate reads, as `schema.name.column`.
    pub fn masked_predicates(&self) -> impl Iterator<Item = &str> {
        self.notices(MaskedUse::Predicate)
    }

    /// Masked columns that are saved, where a constant mask can't tell a save from an erasure.
    pub fn kept_columns(&self) -> impl Iterator<Item = &str> {
        self.notices(MaskedUse::Save)
    }

    fn notices(&self, about: MaskedUse) -> impl Iterator<Item = &str> {
        let all = self.statements.iter().flat_map(|statement| &statement.notices);
        all.filter(move |notice| notice.about == about).map(|notice| &*notice.column)
    }
}

/// What a client should know of a mask that it meets, since the result alone would mislead it.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What it does with the masked column.
    pub about: MaskedUse,
    /// The column, as `schema.name.column`.
    pub column: Arc<str>,
    /// What to say.
    pub text: Arc<str>,
}

/// A use of a masked column that does not do what it seems to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaskedUse {
    /// A condition compares the mask, not what is stored.
    Predicate,
    /// Storing a constant mask keeps what is stored.
    Save,
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
    /// NOTICEs to raise once per session and column.
    pub notices: Vec<Notice>,
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
    /// Whether its text must be sent rewritten in mode Audit too, because the session depends on it (application_name).
    pub session_rewrite: bool,
    /// Whether the server reads it as it runs, and nothing of it before: a definition, say.
    pub read_late: bool,
    /// Whether an alias names the columns of a relation that somebody may change: they have to be those that it has now.
    pub names_columns: bool,
    /// Whether it is only decided with the values of its parameters: `SELECT set_config('search_path', $1, false)`.
    pub by_values: bool,
    /// Whether it calls a function of the database's own that may open a cursor.
    pub opens_cursors: bool,
    /// Numbers of the parameters by which set_config is told whether it is for the transaction only: booleans.
    pub switches: Vec<i32>,
    /// What was prepared under this name runs within it (EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE).
    pub runs_prepared: Option<String>,
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
        /// Types of its parameters as far as it says; 0 where the server is to find out.
        types: Vec<Oid>,
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
        /// Types, rows of relations aside, made, changed or dropped.
        types: Vec<(String, Doubt)>,
        /// Whether only temporary objects are concerned.
        temporary: bool,
    },
}

/// How the value of an expression is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// It flows through something that may raise an error or show it.
    leaky: bool,
    /// It is compared, joined or sorted by.
    predicate: bool,
    /// It decides which rows there are: a condition or a join, no order.
    condition: bool,
    /// It is computed only for rows that passed the filter.
    after_filter: bool,
    /// It is sorted or grouped by, maybe as soon as its relations are read: before a filter that becomes a join.
    sorts: bool,
    /// It is computed only for rows that passed the conditions of the query that it stands in, as far as they are that query's.
    after_own_filter: bool,
    /// It is an argument of a function, so that no column takes the place of the whole.
    in_call: bool,
    /// It stands in a subquery of a condition, and belongs to a query around that.
    from_below: bool,
    /// It is a condition by itself, which no row passes for that it has no partner in a join.
    conjunct: bool,
    /// It is a condition by itself.
    separate: bool,
    /// It is all that a write's WHERE says.
    alone: bool,
    /// It need not be like anything else that the query says (as GROUP BY has it), so that a column may go by another name.
    renames: bool,
}

impl Place {
    const PREDICATE: Place = Place {
        leaky: false,
        predicate: true,
        condition: false,
        after_filter: false,
        sorts: false,
        after_own_filter: false,
        in_call: false,
        from_below: false,
        conjunct: false,
        separate: false,
        alone: false,
        renames: false,
    };
    /// Of SET and RETURNING: it is computed for rows that passed all conditions of a write, which becomes no part of another query.
    const ASSIGNED: Place = Place { leaky: true, predicate: false, after_filter: true, ..Place::PREDICATE };
    const CONDITION: Place = Place { condition: true, separate: true, renames: true, ..Place::PREDICATE };
    /// Of a WHERE, or of an inner join.
    const WHERE: Place = Place { conjunct: true, ..Place::CONDITION };
}

/// What takes the rows of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// The client.
    Client,
    /// An expression, as a value or an array: the server plans such a query by itself.
    Expression,
    /// Another query, of which the server may make one with it.
    Query,
}

/// The walk over one statement.
pub(crate) struct Analyzer<'a> {
    catalog: &'a Catalog,
    policy: &'a BoundPolicy,
    /// The session as it will be when the statement runs.
    session: SessionView,
    scopes: Scopes,
    out: Statement,
    /// Names that neither the catalog nor the overlay knows.
    unknown: Vec<WrittenName>,
    /// Columns that no relation of the statement has, as the catalog knows them.
    missing_columns: Vec<WrittenName>,
    /// Whether the tree is no longer what the client wrote.
    changed: bool,
    /// How many subqueries of conditions are open.
    condition_depth: usize,
    /// Columns of filtered relations that were read so far.
    filtered_reads: usize,
    /// Whether a condition calls a volatile function on nothing of a filtered relation.
    free_condition: bool,
    /// Whether the level that is walked groups by what it says once more elsewhere: subqueries that are alike must stay so.
    alike_queries: bool,
    /// Whether something that the server may compute before a row is known to be inside a filter can raise an error.
    may_raise: bool,
    /// What RETURNING calls the rows before and after a write: one of them is not there where a row came or went.
    before_and_after: Vec<ItemId>,
    /// How many outer joins, or the like, may leave out the rows of what is walked: a condition there is tried with them, not first.
    nullable: usize,
    /// Where conditions read a column so that they may fail, and nothing hinders that they know it by another name than what can't fail.
    apart: BTreeMap<i32, (ItemId, i16)>,
    /// Whether in the query that is walked something may be computed in FROM.
    computes_beside: bool,
    /// The conditions around what is walked that may be tried only for rows that are found to be inside a filter, from the outermost.
    guards: Vec<Guard>,
    /// Relation columns that conditions make equal.
    equals: Vec<[(ItemId, i16); 2]>,
    /// Those that they make equal to something that may fail, where it is not tried first.
    late_equals: Vec<(ItemId, i16)>,
    /// Those that conditions may make equal, wherever they stand.
    alike: Vec<[(ItemId, i16); 2]>,
    /// Those that they make equal to something that may be another as the statement goes on, or by another notion of equal.
    unsteady_equals: Vec<(ItemId, i16)>,
    /// Filtered relations read by subqueries that may fail, in the column that is walked: see [`scope::Column::fences`].
    tried_later: Vec<ItemId>,
    /// Where each `column IN (SELECT …)` stands that becomes a join to which the write's target comes with its filter done.
    joined: BTreeSet<i32>,
    /// What the columns of views are, as far as it was asked.
    view_columns: RefCell<HashMap<Oid, Vec<ViewColumn>>>,
    /// Whether it calls what may change what other functions give: `set_config`, or a volatile function of the database.
    changes_state: bool,
    /// The outermost level, from 1, of which something was named.
    outermost: usize,
    /// Filtered relations of queries around that were read.
    below: Vec<ItemId>,
    /// Where each `(SELECT …)` stands that reads nothing from around it, and of what type its values are.
    by_themselves: BTreeMap<i32, Oid>,
    /// Whether a column of a write's target was read by what may fail or show it.
    leaky_target: bool,
    /// What is known of the parameters.
    parameters: Parameters,
    /// Parameters of `ARRAY[…]` in conditions.
    array_parameters: Vec<i32>,
    /// Whether USING or NATURAL merged columns.
    merged_columns: bool,
    /// Whether the target of a write has masked or hidden columns: what is not resolved is refused then.
    guarded: bool,
    /// Whether a function that returns a set was met.
    may_return_rows: bool,
    /// Whether the outermost SELECT reads one row of one relation, by its key.
    one_row_by_key: bool,
    /// Whether an aggregate was met.
    has_aggregate: bool,
    /// The setting that `FROM pg_settings WHERE name = '…'` picks, which set_config may then name by its column.
    picked_setting: Option<String>,
    /// The relations that the statement makes.
    made: Vec<Relation>,
    /// The relations that it drops.
    dropped: Vec<WrittenName>,
    /// Types that it makes, changes or drops.
    changed_types: Vec<(String, Doubt)>,
    /// What the statement calls by which name.
    names: schemas::Names,
    /// `excluded` of INSERTs into relations that are masked, with the columns of it that are not the client's own values.
    excluded: BTreeMap<ItemId, HashSet<Arc<str>>>,
    /// Whether names behind a point may be calls, as far as that was asked.
    asked_of_names: BTreeMap<(String, attribute::Before), Result<(), Denial>>,
    /// Where the calls and subqueries that were walked stand.
    walked: BTreeSet<i32>,
    /// Masked columns read so far, in order.
    masked_reads: Vec<(ItemId, i16)>,
    /// How often set_config is called for `search_path`.
    path_calls: usize,
    /// What is learnt of needs, in mode Audit.
    learner: Option<Learner>,
}

/// Decides a text and rewrites it to the identity's view of the database. Pure; to be called where the stack is deep
/// enough for the text, see [`sql::deep`].
///
/// `types` are those that the client gives the parameters, 0 for those that the server finds.
pub fn analyze(
    text: &str,
    measure: sql::Measure,
    policy: &BoundPolicy,
    session: &SessionView,
    types: &[Oid],
) -> Analysis {
    let analyze = |confirmed| {
        let mut so_far = SoFar::default();
        let mut learner = (policy.policy.mode == Mode::Audit).then(Learner::default);
        let outcome = sql::as_server_reads(text, policy.catalog.server_version)
            .and_then(|text| sql::parse_measured(&text, measure))
            .and_then(|parsed| {
                let parameters = Parameters::new(types, confirmed);
                decide(parsed.tree, policy, session, &parameters, &mut so_far, &mut learner)
            });
        (outcome, so_far, learner)
    };
    let (mut outcome, mut so_far, mut learner) = analyze(None);
    if let Some(confirmed) = so_far.confirmed.take() {
        (outcome, so_far, learner) = analyze(Some(confirmed));
    }
    conclude(text, outcome, so_far, learner, policy)
}

/// What comes of a text that the scanner can't read: in mode Audit the server is to say so.
pub fn unreadable(text: &str, denial: Denial, policy: &BoundPolicy) -> Analysis {
    let learner = (policy.policy.mode == Mode::Audit).then(Learner::default);
    conclude(text, Err(denial), SoFar::default(), learner, policy)
}

fn conclude(
    text: &str,
    outcome: Result<Outcome, Denial>,
    so_far: SoFar,
    mut learner: Option<Learner>,
    policy: &BoundPolicy,
) -> Analysis {
    let normalized: Arc<str> = sql::normalize(text).into();
    let fingerprint: Arc<str> = sql::fingerprint(&normalized).into();
    let mut decided = Decided { policy_version: policy.version, fingerprint, normalized, ..Decided::default() };
    decided.statements = so_far.statements.into();
    decided.asks_types = so_far.asks_types;
    match outcome {
        Ok(Outcome::Rewritten(text)) => decided.rewritten = text,
        Ok(Outcome::Unknown(names)) => return Analysis::Lookup(names),
        Err(denial) => match &mut learner {
            Some(learner) if !holds_in_audit(&denial) => {
                let error = denial.message.clone();
                learner.needs.beyond = Some(Beyond { reason: denial.reason.as_str().to_owned(), error });
                learner.denial.get_or_insert(denial);
            }
            _ => decided.denial = Some(denial),
        },
    }
    if let Some(Learner { needs, denial }) = learner {
        decided.would_deny = denial.filter(|_| decided.denial.is_none());
        decided.needs = Some(Arc::new(needs));
    }
    if policy.policy.mode == Mode::Audit {
        decided.rewritten = decided.rewritten.filter(|_| decided.statements.iter().any(|s| s.session_rewrite));
    }
    Analysis::Decided(Arc::new(decided))
}

/// What is refused in mode Audit, too: it would change who the session is, or what the proxy can follow.
fn holds_in_audit(denial: &Denial) -> bool {
    matches!(denial.reason, Reason::Bounds | Reason::Role | Reason::Protocol)
        || (denial.reason == Reason::Setting && denial.sqlstate == "22023")
}

/// What came of the statements of a text that none of them refused.
enum Outcome {
    /// The text to send; None for the client's own.
    Rewritten(Option<Arc<str>>),
    /// Names to look up.
    Unknown(Vec<WrittenName>),
}

/// What was decided before something was refused.
#[derive(Debug, Default)]
struct SoFar {
    statements: Vec<Statement>,
    asks_types: bool,
    /// What alone may be relied on of parameters, where not everything holds that was.
    confirmed: Option<Confirmed>,
}

/// Decides each statement of a text.
fn decide(
    mut tree: pb::ParseResult,
    policy: &BoundPolicy,
    session: &SessionView,
    parameters: &Parameters,
    decided: &mut SoFar,
    learner: &mut Option<Learner>,
) -> Result<Outcome, Denial> {
    let mut session = session.clone();
    let mut changed = false;
    let is_alone = tree.stmts.len() == 1;
    for raw in &mut tree.stmts {
        let Some(statement) = raw.stmt.as_deref_mut() else { return Err(tree::unsupported("an empty statement")) };
        let mut analyzer = Analyzer::new(policy, session.clone());
        analyzer.learner = learner.take();
        analyzer.parameters = parameters.clone();
        let result = analyzer.whole(statement);
        analyzer.learn_columns();
        *learner = analyzer.learner.take();
        decided.asks_types |= analyzer.parameters.were_asked();
        if let Some(confirmed) = analyzer.parameters.confirmed(&policy.catalog) {
            // What PREPARE prepares has parameters of its own.
            decided.confirmed = Some(if is_alone { confirmed } else { Confirmed::default() });
        }
        if !analyzer.missing_columns.is_empty() && !session.looked {
            return Ok(Outcome::Unknown(analyzer.missing_columns));
        }
        if let Err(denial) = result.and_then(|()| analyzer.path_is_certain(statement)) {
            if !analyzer.unknown.is_empty() && !session.looked {
                return Ok(Outcome::Unknown(analyzer.unknown));
            }
            decided.statements.push(analyzer.out);
            return Err(denial);
        }
        changed |= analyzer.changed;
        session.predict(&analyzer.out.effect, std::mem::take(&mut analyzer.made), &analyzer.dropped);
        session.retyped = analyzer.session.retyped;
        decided.statements.push(analyzer.out);
    }
    if !changed {
        return Ok(Outcome::Rewritten(None));
    }
    let rewritten = sql::emit_owned(tree, policy.catalog.server_version)?;
    if view::has_mark(&rewritten) {
        return Err(Denial::new(Reason::Internal, "the gate could not rewrite the statement"));
    }
    Ok(Outcome::Rewritten(Some(rewritten.into())))
}

impl<'a> Analyzer<'a> {
    fn new(policy: &'a BoundPolicy, session: SessionView) -> Self {
        Self {
            catalog: &policy.catalog,
            policy,
            session,
            scopes: Scopes::default(),
            out: Statement::default(),
            unknown: Vec::new(),
            missing_columns: Vec::new(),
            changed: false,
            condition_depth: 0,
            before_and_after: Vec::new(),
            nullable: 0,
            apart: BTreeMap::new(),
            computes_beside: false,
            guards: Vec::new(),
            equals: Vec::new(),
            late_equals: Vec::new(),
            alike: Vec::new(),
            unsteady_equals: Vec::new(),
            tried_later: Vec::new(),
            joined: BTreeSet::new(),
            view_columns: RefCell::default(),
            changes_state: false,
            by_themselves: BTreeMap::new(),
            leaky_target: false,
            outermost: usize::MAX,
            below: Vec::new(),
            parameters: Parameters::default(),
            array_parameters: Vec::new(),
            filtered_reads: 0,
            free_condition: false,
            alike_queries: false,
            may_raise: false,
            merged_columns: false,
            guarded: false,
            may_return_rows: false,
            one_row_by_key: false,
            has_aggregate: false,
            picked_setting: None,
            made: Vec::new(),
            dropped: Vec::new(),
            changed_types: Vec::new(),
            asked_of_names: BTreeMap::new(),
            names: schemas::Names::default(),
            excluded: BTreeMap::new(),
            walked: BTreeSet::new(),
            masked_reads: Vec::new(),
            path_calls: 0,
            learner: None,
        }
    }

    /// Decides one statement of a text and rewrites it in place.
    fn whole(&mut self, node: &mut Node) -> Result<(), Denial> {
        self.out.read_late = node.node.as_ref().is_some_and(utility::is_read_late);
        self.statement(node)?;
        // Whether the arrays of an array fit together is found as the statement runs, and costs nothing: it may come before any filter.
        let numbers = std::mem::take(&mut self.array_parameters);
        if self.filters_rows() && numbers.into_iter().any(|number| self.may_be_array(number)) {
            let message = "a condition on a relation that you see in part can't make one array of several parameters that may be arrays";
            return Err(Denial::new(Reason::RowFilter, message).hint(
                "Cast each to its type where it stands (ARRAY[$1::text, …]), or pass the whole array as one parameter.",
            ));
        }
        Ok(())
    }

    /// Decides a statement, or one within another, and rewrites it in place.
    pub(crate) fn statement(&mut self, node: &mut Node) -> Result<(), Denial> {
        let is_definition = match &node.node {
            Some(NodeEnum::SelectStmt(select)) => select.into_clause.is_some(),
            Some(other) => !tree::is_query(other),
            None => true,
        };
        if is_definition {
            return self.statement_of_any_kind(node);
        }
        let mut places = BTreeSet::new();
        tree::places_that_run(node, &mut places)?;
        self.statement_of_any_kind(node)?;
        // A second wall: should a place be forgotten where something can stand, what stands there does not run.
        match places.into_iter().find(|place| *place >= 0 && !self.walked.contains(place)) {
            None => Ok(()),
            Some(place) => Err(Denial {
                position: u32::try_from(place).ok(),
                ..Denial::new(Reason::Internal, "the gate did not look at all of this statement")
            }),
        }
    }

    fn statement_of_any_kind(&mut self, node: &mut Node) -> Result<(), Denial> {
        self.find_parameters(node);
        // What is checked as it is written may stand before that.
        self.changes_state |= self.policy.row_filters
            && node.node.as_ref().is_some_and(tree::is_query)
            && tree::holds(node, &|node| matches!(node, NodeEnum::FuncCall(call) if self.may_change_state(call)));
        match &mut node.node {
            Some(NodeEnum::SelectStmt(select)) if select.into_clause.is_none() => {
                self.select(select, Receiver::Client)?;
                self.out.returns_rows = true;
                self.out.at_most_one_row = self.returns_one_row(node);
                self.put_views(node)
            }
            Some(
                NodeEnum::InsertStmt(_) | NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) | NodeEnum::MergeStmt(_),
            ) => {
                self.write(node)?;
                self.put_views(node)
            }
            Some(_) => self.utility(node),
            None => Err(tree::unsupported("an empty statement")),
        }
    }

    /// What the search_path is must be certain: set_config sets it where it runs once and whatever the data.
    fn path_is_certain(&self, node: &Node) -> Result<(), Denial> {
        if self.out.by_values && !function::gives_only_targets(node) {
            return Err(Denial::new(Reason::Setting, "set_config needs the setting's name and value as literals here")
                .hint("Use SET, or SELECT set_config(…) by itself."));
        }
        if self.path_calls == 0 || (self.path_calls == 1 && !self.may_return_rows && function::sets_path_alone(node)) {
            return Ok(());
        }
        Err(Denial::new(
            Reason::Setting,
            "set_config of search_path may only stand in the select list of a plain SELECT",
        )
        .hint("Use SET, or SELECT set_config('search_path', '…', false) by itself."))
    }

    /// The relation that a name means, where the server says the place of a name that means none: in queries and LIKE.
    pub(crate) fn relation_at(&mut self, range: &mut pb::RangeVar) -> Result<Arc<Relation>, Denial> {
        let position = u32::try_from(range.location).ok();
        self.relation(range).map_err(|denial| match denial.sqlstate {
            "42P01" => Denial { position, ..denial },
            _ => denial,
        })
    }

    /// The relation that a name means.
    pub(crate) fn relation(&mut self, range: &mut pb::RangeVar) -> Result<Arc<Relation>, Denial> {
        if !range.catalogname.is_empty() {
            if range.catalogname != self.policy.policy.database.name {
                return Err(Denial::new(Reason::UnknownRelation, "cross-database references are not implemented")
                    .sqlstate("0A000"));
            }
            range.catalogname.clear();
            self.changed = true;
        }
        let schema = Some(range.schemaname.as_str()).filter(|schema| !schema.is_empty());
        let relation = self.relation_named(schema, &range.relname)?;
        // A bare name that could mean another relation is written out, so that what was decided on is what is read.
        let uses = self.catalog.name_uses.get(&*relation.name).copied().unwrap_or(0);
        let alone = uses <= 1 && !relation.temporary && self.session.overlay.is_empty() && !self.may_make_relations();
        if range.schemaname.is_empty() && !alone {
            range.schemaname = relation.schema.to_string();
            self.changed = true;
        }
        Ok(relation)
    }

    /// The name by which a relation that is not shown as it is goes in the text that is sent.
    pub(crate) fn name_in_text(&mut self, range: &mut pb::RangeVar, shown_as_it_is: bool) -> Arc<str> {
        if range.alias.is_none() && !shown_as_it_is && self.names.told_apart(&range.relname) {
            return self.name_of_own(range);
        }
        Arc::from(range.alias.as_ref().map_or(range.relname.as_str(), |alias| &alias.aliasname))
    }

    /// Gives a relation a name of the proxy's own in the text that is sent.
    pub(crate) fn name_of_own(&mut self, range: &mut pb::RangeVar) -> Arc<str> {
        let own = self.names.own();
        range.alias = Some(pb::Alias { aliasname: own.clone(), colnames: Vec::new() });
        self.changed = true;
        own.into()
    }

    fn may_make_relations(&self) -> bool {
        self.policy.allows(Verb::Temp).is_ok() || self.policy.allows(Verb::Ddl).is_ok()
    }

    /// The relation of this name; if it isn't known it is to be looked up.
    pub(crate) fn relation_named(&mut self, schema: Option<&str>, name: &str) -> Result<Arc<Relation>, Denial> {
        match self.catalog.resolve_relation(&self.session.search_path, &self.session.overlay, schema, name) {
            Resolution::Found(relation) if self.session.retyped.contains(&relation.oid) => {
                let mut relation = Relation::clone(&relation);
                relation.columns.iter_mut().for_each(|column| column.type_oid = 0);
                Ok(Arc::new(relation))
            }
            Resolution::Found(relation) => Ok(relation),
            Resolution::Unknown => {
                self.unknown.push((schema.map(str::to_owned), name.to_owned()));
                let full = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
                Err(Denial::new(Reason::UnknownRelation, format!("relation \"{full}\" does not exist"))
                    .sqlstate("42P01")
                    .object(full))
            }
        }
    }

    /// Decides that a relation is read, and how it is seen.
    pub(crate) fn reads(
        &mut self,
        relation: &Relation,
        verb: Verb,
    ) -> Result<(Option<Arc<RelationView>>, Option<String>), Denial> {
        if relation.temporary {
            self.shows_only_plain(relation, 0)?;
            self.touch(relation);
            // What is in it came from somewhere: a detour takes no more out.
            self.out.limits = self.out.limits.and(self.policy.session_limits());
            return Ok((None, None));
        }
        // Made in the open transaction: the policy is bound to it at COMMIT. What may show another relation's rows waits,
        // and what the policy names; but who inserts knows what he inserts.
        let guarded = |oid: &Oid| self.policy.view(*oid).is_some();
        if !relation.system
            && !self.catalog.relations.contains_key(&relation.oid)
            && (relation.parents.iter().any(guarded)
                || relation.depends_on.iter().any(|(oid, _)| guarded(oid))
                || verb != Verb::Insert && self.is_guarded_by_name(relation))
        {
            let name = format!("{}.{}", relation.schema, relation.name);
            return Err(Denial::new(
                Reason::Closed,
                format!("{name} was made in this transaction, and is masked or filtered for you"),
            )
            .hint("Commit first.")
            .object(name));
        }
        if relation.system {
            self.touch(relation);
            return match system::system_view(relation, self.policy) {
                system::SystemView::Open => Ok((None, None)),
                system::SystemView::Replace(sql) => Ok((None, Some(sql))),
                system::SystemView::Denied(why) => {
                    let name = format!("{}.{}", relation.schema, relation.name);
                    Err(Denial::new(Reason::SystemRelation, format!("{name} is not open through the gate: {why}"))
                        .object(name))
                }
            };
        }
        if let Some(why) = system::extension_denied(relation) {
            let name = format!("{}.{}", relation.schema, relation.name);
            return Err(
                Denial::new(Reason::SystemRelation, format!("{name} is not open through the gate: {why}")).object(name)
            );
        }
        let grant = self.ask(relation, verb)?;
        self.record(relation, &grant, verb);
        Ok((self.policy.view(relation.oid).cloned(), None))
    }

    /// Whether masks, hidden columns or filters of the policy are for a relation of this name.
    fn is_guarded_by_name(&self, relation: &Relation) -> bool {
        let (policy, identity) = (&self.policy.policy, &self.policy.identity);
        let (schema, name) = (&*relation.schema, &*relation.name);
        relation.columns.iter().any(|column| {
            policy.hides(identity, schema, name, false, &column.name)
                || policy.mask(identity, schema, name, false, &column.name).is_some()
        }) || !policy.filters(identity, schema, name, false).is_empty()
    }

    /// Whether a rule allows a verb on a relation. That it was asked for is noted first: a refusal is counted and
    /// recorded by verb and relation, too.
    pub(crate) fn ask(&mut self, relation: &Relation, verb: Verb) -> Result<Grant, Denial> {
        self.touch(relation);
        self.need(verb);
        self.grant(relation, verb)
    }

    /// Notes that a rule allowed a verb on a relation.
    pub(crate) fn record(&mut self, relation: &Relation, grant: &Grant, verb: Verb) {
        self.touch(relation);
        self.granted(grant, verb);
        let view = self.policy.view(relation.oid);
        self.out.second_wall |= view.is_some_and(|view| !view.columns.is_empty());
        self.out.scrub |= self.policy.scrubbed.contains(&relation.oid);
    }

    fn touch(&mut self, relation: &Relation) {
        if !self.out.touched.contains(&relation.oid) {
            self.out.touched.push(relation.oid);
            self.out.relations.push(Arc::from(format!("{}.{}", relation.schema, relation.name)));
        }
    }

    /// Notes a verb that a rule allowed.
    pub(crate) fn granted(&mut self, grant: &Grant, verb: Verb) {
        self.need(verb);
        self.out.limits = self.out.limits.and(grant.limits);
        // One without a name is only thought of, see [`needs`].
        if !grant.rule.is_empty() {
            self.out.rule.get_or_insert_with(|| grant.rule.clone());
        }
    }

    /// Notes a verb that the statement needs; the last that is not a read describes it best.
    pub(crate) fn need(&mut self, verb: Verb) {
        self.out.verbs.insert(verb);
        if self.out.main_verb.is_none() || verb != Verb::Select {
            self.out.main_verb = Some(verb);
        }
    }

    /// nextval, currval, setval: Insert on the relation that owns the sequence, or on the sequence.
    pub(crate) fn may_use_sequence(&mut self, sequence: &Relation) -> Result<(), Denial> {
        if sequence.kind != RelationKind::Sequence {
            return Ok(()); // the server refuses it
        }
        let by_oid = |oid: Oid| {
            let of_session = || self.session.overlay.iter().find(|relation| relation.oid == oid);
            self.catalog.relations.get(&oid).or_else(of_session)
        };
        let owner = sequence.owned_by.and_then(|(owner, _)| by_oid(owner)).cloned();
        let by_owner = owner.and_then(|owner| self.policy.grant(&owner, Verb::Insert).ok().map(|grant| (owner, grant)));
        match by_owner {
            Some((owner, grant)) => {
                self.grant(&owner, Verb::Insert)?;
                self.record(&owner, &grant, Verb::Insert);
            }
            None => {
                let grant = self.grant(sequence, Verb::Insert)?;
                self.record(sequence, &grant, Verb::Insert);
            }
        }
        Ok(())
    }

    /// Whether an item is a write's target whose columns are not all shown as they are.
    pub(crate) fn is_guarded_target(&self, id: ItemId) -> bool {
        self.target(id).is_some_and(|target| target.view.as_ref().is_some_and(|view| !view.columns.is_empty()))
    }

    pub(crate) fn target(&self, id: ItemId) -> Option<&RelationItem> {
        self.scopes.get(id)?.relation().filter(|relation| relation.write_target)
    }

    /// The mask of a target's column, and the alias under which the target stands.
    pub(crate) fn masked(&self, id: ItemId, number: i16) -> Option<(Arc<BoundMask>, Arc<str>)> {
        let alias = self.scopes.get(id)?.alias.clone()?;
        match self.target(id)?.view.as_ref()?.columns.get(&number)? {
            ColumnView::Masked(mask) => Some((mask.clone(), alias)),
            ColumnView::Hidden => None,
        }
    }
}

/// A relation's name as regclass reads it: `schema.name`, quoted where need be.
pub(crate) fn name_of(text: &str) -> Result<(Option<String>, String), Denial> {
    let bad = || Denial::new(Reason::UnknownRelation, "a relation's name could not be read").sqlstate("42602");
    let mut node = tree::parse_expression(text).map_err(|_| bad())?;
    let Some(NodeEnum::ColumnRef(reference)) = &mut node.node else { return Err(bad()) };
    match tree::strings(&reference.fields).as_deref() {
        Some([name]) => Ok((None, (*name).to_owned())),
        Some([schema, name]) => Ok((Some((*schema).to_owned()), (*name).to_owned())),
        _ => Err(bad()),
    }
}

impl Analyzer<'_> {
    /// Asks the settings' rules with what they depend on.
    pub(crate) fn settings<T>(
        &mut self,
        ask: impl Fn(&crate::decide::settings::Context<'_>) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        let with = |custom: &dyn Fn(&str) -> bool| {
            ask(&crate::decide::settings::Context {
                custom,
                role: &self.policy.identity.postgres_role,
                row_filters: self.policy.row_filters,
                statement_timeout: self.policy.session_limits().statement_timeout,
            })
        };
        let answer = with(&|name| self.policy.setting(name));
        if self.learner.is_none() {
            return answer;
        }
        let asked_for = std::cell::RefCell::new(Vec::new());
        let given = with(&|name| {
            asked_for.borrow_mut().push(name.to_owned());
            true
        });
        self.learn_settings(asked_for.into_inner(), answer, given)
    }

    /// `set_config`: what SET of the same name and value would do.
    pub(crate) fn set_config(&mut self, name: &str, value: &str, local: bool) -> Result<(), Denial> {
        use crate::decide::settings::{SetDecision, parse_list, set};
        let name = name.to_ascii_lowercase();
        let values = match name.as_str() {
            "search_path" => parse_list(value).ok_or_else(|| {
                Denial::new(Reason::Setting, "the search_path is not a list of names").sqlstate("22023")
            })?,
            _ => vec![value.to_owned()],
        };
        match self.settings(|context| set(context, &name, Some(&values)))? {
            SetDecision::Pass => Ok(()),
            SetDecision::Value(allowed) if allowed.eq_ignore_ascii_case(value) => Ok(()),
            SetDecision::SearchPath(path) => {
                self.path_calls += 1;
                self.out.effect = Effect::SearchPath { value: path, local };
                Ok(())
            }
            SetDecision::Value(_) | SetDecision::ApplicationName(_) => {
                Err(Denial::new(Reason::Setting, format!("{name} can't be set to this value by set_config"))
                    .hint("Use SET."))
            }
        }
    }

    /// Refuses a temporary view of what is masked or filtered: it was made when that was not so yet.
    fn shows_only_plain(&self, view: &Relation, depth: usize) -> Result<(), Denial> {
        const MAX_DEPTH: usize = 32;
        if view.kind != RelationKind::View {
            return Ok(());
        }
        let shows_plain = view.depends_on.iter().all(|(oid, _)| {
            let made_here = self.session.overlay.iter().find(|relation| relation.oid == *oid);
            match made_here {
                Some(below) => depth < MAX_DEPTH && self.shows_only_plain(below, depth + 1).is_ok(),
                None => self.policy.view(*oid).is_none() && self.catalog.relations.contains_key(oid),
            }
        });
        if !self.session.temporary_is_old && (shows_plain || self.policy.views.is_empty()) {
            return Ok(());
        }
        let message = format!("the policy changed since the temporary view {} was made", view.name);
        Err(Denial::new(Reason::PolicyChanged, message)
            .object(view.name.to_string())
            .hint("DISCARD ALL, or connect again, and make it again."))
    }

    /// NOTIFY of a channel.
    pub(crate) fn may_notify(&mut self, channel: &str) -> Result<(), Denial> {
        self.channel(channel, |identity| {
            Denial::new(Reason::Channel, format!("no rule lets {identity} use the channel {channel}"))
                .hint("Add it to a rule's `channels`.")
                .object(channel.to_owned())
        })?;
        self.need(Verb::Notify);
        Ok(())
    }

    /// Whether a SELECT is proven to return at most one row.
    fn returns_one_row(&self, node: &Node) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = &node.node else { return false };
        if select.op != pb::SetOperation::SetopNone as i32 {
            return false;
        }
        if select.values_lists.len() == 1 {
            return true;
        }
        let one = |limit: &Node| function::text_of(limit).is_some_and(|n| n == "1" || n == "0");
        if select.limit_option == pb::LimitOption::Count as i32 && select.limit_count.as_deref().is_some_and(one) {
            return true;
        }
        if self.may_return_rows {
            return false;
        }
        if self.one_row_by_key {
            return true;
        }
        if select.from_clause.is_empty() && select.values_lists.is_empty() {
            return true;
        }
        if self.has_aggregate && select.group_clause.is_empty() && select.having_clause.is_none() {
            // An aggregate of an outer level or a subquery says nothing about this one.
            return select.target_list.iter().all(|target| match &target.node {
                Some(NodeEnum::ResTarget(res)) => match res.val.as_deref().and_then(|value| value.node.as_ref()) {
                    Some(NodeEnum::FuncCall(call)) => self.calls_aggregate(call),
                    _ => false,
                },
                _ => false,
            });
        }
        false
    }
}
