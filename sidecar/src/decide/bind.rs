//! Joins a checked policy with a catalog: for each relation, how the identity sees it.
//!
//! **Promise.** Whatever the policy masks, hides or filters stays so wherever else the same values can be read: in
//! partitions, inheritance parents and children, generated columns, views and materialized views. What can't be bound
//! or proven is closed, alone, and reported.
//! **Not covered.** What functions and triggers of the database do with the values: they are their owners' code.
//!
//! The order: what the policy says of each relation ([`own`]) → spread over inheritance → generated columns → columns
//! that were there and are gone → views, from the tables up ([`lineage`]) → expressions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pg_query::protobuf::{BoolExpr, BoolExprType, Node, node::Node as Kind};
use postern_crds::{CheckedIdentity, CheckedPolicy, ColumnPattern, MaskKind, NamePattern, OnPredicate, Verb};

use super::bound::{BindProblem, BoundMask, BoundPolicy, ColumnView, RelationView, Restricted, RowFilter};
use super::mask::HashKey;
use super::{expression, grant, lineage, mask, qualify, scrub};
use crate::catalog::names::{quote_identifier, quote_text};
use crate::catalog::{Catalog, Function, Name, Oid, Relation, RelationKind};

/// What a column shall be, before its expression is made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Want {
    /// It does not exist.
    Hidden,
    /// It is masked.
    Mask(Wanted),
}

/// A mask that a column shall have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) kind: MaskKind,
    pub(super) on_predicate: OnPredicate,
    /// Field path of the mask entry.
    pub(super) path: String,
}

impl Want {
    /// Both together: the more private holds, and a predicate is refused if either says so.
    pub(super) fn and(self, other: Want) -> Want {
        match (self, other) {
            (Want::Mask(one), Want::Mask(two)) => {
                let on_predicate = one.on_predicate.max(two.on_predicate);
                let held = if two.kind.privacy() > one.kind.privacy() { two } else { one };
                Want::Mask(Wanted { on_predicate, ..held })
            }
            _ => Want::Hidden,
        }
    }

    /// What an expression that reads such a column shall be: NULL.
    pub(super) fn of_expression(&self) -> Want {
        match self {
            Want::Hidden => Want::Mask(Wanted {
                kind: MaskKind::Nullify,
                on_predicate: OnPredicate::default(),
                path: "spec.rules".to_owned(),
            }),
            Want::Mask(wanted) => Want::Mask(Wanted { kind: MaskKind::Nullify, ..wanted.clone() }),
        }
    }
}

/// Adds what a column shall be to what it shall be already.
pub(super) fn add(columns: &mut BTreeMap<i16, Want>, number: i16, want: Want) {
    let want = match columns.remove(&number) {
        Some(held) => held.and(want),
        None => want,
    };
    columns.insert(number, want);
}

/// A filter over a relation's row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedFilter {
    /// Fully qualified, over `ROW`.
    pub(super) expression: Node,
    /// The columns of the row that it reads.
    pub(super) columns: Vec<String>,
    /// The rule that it comes from.
    pub(super) rule: String,
    /// Its field path, and by which way it came, so that none is added twice.
    pub(super) origin: String,
}

/// How a relation shall be seen, before expressions are made.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) closed: Option<String>,
    pub(super) columns: BTreeMap<i16, Want>,
    pub(super) filters: Vec<PlannedFilter>,
    /// What a column is that tells in which partition a row is.
    pub(super) place: Option<Want>,
}

impl Plan {
    pub(super) fn close(&mut self, why: impl Into<String>) {
        if self.closed.is_none() {
            self.closed = Some(why.into());
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.closed.is_none() && self.columns.is_empty() && self.filters.is_empty() && self.place.is_none()
    }

    pub(super) fn add_filter(&mut self, filter: PlannedFilter) {
        if !self.filters.iter().any(|held| held.origin == filter.origin && held.expression == filter.expression) {
            self.filters.push(filter);
        }
    }
}

pub(super) type Plans = HashMap<Oid, Plan>;

/// What did not bind, each once.
#[derive(Default)]
struct Problems(Vec<BindProblem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let problem = BindProblem { path: path.into(), message: message.into() };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }
}

/// Binds a policy to a catalog, for one identity. `previous` is the bound policy that this one replaces: by it a column
/// that was masked and is gone under that name is noticed.
pub fn bind(
    policy: Arc<CheckedPolicy>,
    identity: Arc<CheckedIdentity>,
    catalog: Arc<Catalog>,
    version: u64,
    previous: Option<&BoundPolicy>,
) -> BoundPolicy {
    let mut problems = Problems::default();
    let mut plans = Plans::new();
    for relation in catalog.relations.values() {
        let plan = own(&policy, &identity, &catalog, relation, &mut problems);
        if !plan.is_plain() {
            plans.insert(relation.oid, plan);
        }
    }
    missing_names(&policy, &identity, &catalog, &mut plans, &mut problems);
    spread(&catalog, &mut plans);
    generated_columns(&catalog, &mut plans);
    let restricted = gone(&policy, &identity, &catalog, previous, &mut plans, &mut problems);
    spread_closed(&catalog, &mut plans);
    let telling_partitions = partitions(&catalog, &mut plans);
    let tables_with_sequence = sequences(&catalog, &mut plans);
    let may_call = |function: &Function| policy.function_allowed(&identity, &function.schema, &function.name).is_some();
    lineage::calls(&catalog, &mut plans, may_call);
    lineage::views(&catalog, &mut plans);

    let keys = mask::hash_keys(&policy);
    let mut known = mask::Expressions::default();
    let mut views = HashMap::with_capacity(plans.len());
    for (oid, plan) in plans {
        if let Some(relation) = catalog.relations.get(&oid)
            && !plan.is_plain()
        {
            views.insert(oid, Arc::new(view_of(&catalog, &keys, &mut known, relation, plan, &mut problems)));
        }
    }
    let scrubbed = scrub::closure(&catalog, views.keys().copied());
    let mut filters = views.values().filter_map(|view| view.filter.as_ref());
    let row_filters = filters.clone().next().is_some();
    let costly_filters = filters.any(|filter| filter.costly);
    let lastval_tells = may_write(&policy, &identity, &catalog, tables_with_sequence);
    let mut problems = problems.0;
    problems.sort_by(|one, two| (&one.path, &one.message).cmp(&(&two.path, &two.message)));
    BoundPolicy {
        version,
        policy,
        identity,
        catalog,
        views,
        costly_filters,
        row_filters,
        scrubbed,
        telling_partitions,
        lastval_tells,
        problems,
        restricted,
    }
}

/// Whether globs of masks, hidden columns and filters don't match the relation. They do match foreign tables, other
/// than those of `relations`: who names such a table in a rule must not lose the masks that are for everything.
fn is_special(relation: &Relation) -> bool {
    relation.system || relation.temporary
}

fn has_rows(relation: &Relation) -> bool {
    match relation.kind {
        RelationKind::Table
        | RelationKind::PartitionedTable
        | RelationKind::View
        | RelationKind::MaterializedView
        | RelationKind::ForeignTable => true,
        RelationKind::Sequence | RelationKind::Composite | RelationKind::Toast | RelationKind::Index => false,
    }
}

/// What the policy itself says of a relation.
fn own(
    policy: &CheckedPolicy,
    identity: &CheckedIdentity,
    catalog: &Catalog,
    relation: &Relation,
    problems: &mut Problems,
) -> Plan {
    let mut plan = Plan::default();
    if !has_rows(relation) {
        return plan;
    }
    let (schema, name, special) = (&*relation.schema, &*relation.name, is_special(relation));
    let concerns = |patterns: &[ColumnPattern]| patterns.iter().any(|pattern| pattern.concerns(schema, name));
    if policy.masks.iter().any(|mask| concerns(&mask.columns))
        || policy.rules_for(identity).any(|rule| concerns(&rule.hide_columns))
    {
        for column in &relation.columns {
            if policy.hides(identity, schema, name, special, &column.name) {
                plan.columns.insert(column.number, Want::Hidden);
            } else if let Some(mask) = policy.mask(identity, schema, name, special, &column.name) {
                let (kind, on_predicate, path) = (mask.kind.clone(), mask.on_predicate, mask.path.clone());
                plan.columns.insert(column.number, Want::Mask(Wanted { kind, on_predicate, path }));
            }
        }
    }
    for (rule, filter) in policy.filters(identity, schema, name, special) {
        match qualify::filter(catalog, relation, &filter.where_sql) {
            Ok(qualified) => plan.add_filter(PlannedFilter {
                expression: qualified.expression,
                columns: qualified.columns,
                rule: rule.name.clone(),
                origin: filter.path.clone(),
            }),
            Err(why) => {
                problems.add(format!("{}.where", filter.path), format!("{}: {why}", full_name(relation)));
                plan.close(format!("its row filter can't be bound: {why}"));
            }
        }
    }
    plan
}

/// Columns that the policy names in full and that don't exist: a mask or hidden column that protects nothing.
fn missing_names(
    policy: &CheckedPolicy,
    identity: &CheckedIdentity,
    catalog: &Catalog,
    plans: &mut Plans,
    problems: &mut Problems,
) {
    let masks = policy.masks.iter().filter(|mask| !mask.exempt.includes(identity));
    let masked = masks.map(|mask| (format!("{}.columns", mask.path), &mask.columns));
    let hidden = policy.rules_for(identity).map(|rule| (format!("{}.hideColumns", rule.path), &rule.hide_columns));
    for (path, patterns) in masked.chain(hidden) {
        for pattern in patterns {
            let ColumnPattern { relation, column: NamePattern::Literal(column) } = pattern else { continue };
            let (NamePattern::Literal(schema), NamePattern::Literal(name)) = (&relation.schema, &relation.relation)
            else {
                continue;
            };
            match catalog.relation(schema, name) {
                None => problems.add(path.clone(), format!("there is no relation {schema}.{name}")),
                Some(relation) if relation.column(column).is_none() => {
                    problems.add(path.clone(), format!("{schema}.{name} has no column {column}"));
                    let plan = plans.entry(relation.oid).or_default();
                    plan.close(format!("the policy names its column {column}, which doesn't exist"));
                }
                Some(_) => {}
            }
        }
    }
    for filter in policy.rules_for(identity).flat_map(|rule| &rule.row_filters) {
        if let (NamePattern::Literal(schema), NamePattern::Literal(name)) =
            (&filter.relation.schema, &filter.relation.relation)
            && catalog.relation(schema, name).is_none()
        {
            problems.add(format!("{}.relation", filter.path), format!("there is no relation {schema}.{name}"));
        }
    }
}

/// Partition and inheritance children carry what their ancestors carry, and these what their descendants do: either
/// way the same rows are read. Columns correspond by name.
fn spread(catalog: &Catalog, plans: &mut Plans) {
    let inherits =
        |oid: &Oid| catalog.relations.get(oid).is_some_and(|it| !it.parents.is_empty() || !it.children.is_empty());
    // From what the policy says of each, so that what comes up from one child doesn't go down into its siblings.
    let sources: Vec<(Oid, Plan)> =
        plans.iter().filter(|(oid, _)| inherits(oid)).map(|(oid, plan)| (*oid, plan.clone())).collect();
    for (source, plan) in sources {
        let Some(from) = catalog.relations.get(&source) else { continue };
        for oid in catalog.ancestors(source).into_iter().chain(catalog.descendants(source)) {
            let Some(to) = catalog.relations.get(&oid) else { continue };
            let target = plans.entry(oid).or_default();
            for (number, want) in &plan.columns {
                let name = from.column_at(*number).map(|column| &column.name);
                if let Some(column) = name.and_then(|name| to.column(name)) {
                    add(&mut target.columns, column.number, want.clone());
                }
            }
            for filter in &plan.filters {
                match filter.columns.iter().find(|name| to.column(name).is_none()) {
                    None => target.add_filter(filter.clone()),
                    Some(name) => {
                        target
                            .close(format!("a row filter of {} reads {name}, which it doesn't have", full_name(from)));
                    }
                }
            }
        }
    }
}

/// What is closed is closed through every ancestor and descendant too.
fn spread_closed(catalog: &Catalog, plans: &mut Plans) {
    let closed: Vec<(Oid, String)> =
        plans.iter().filter_map(|(oid, plan)| Some((*oid, plan.closed.clone()?))).collect();
    for (source, why) in closed {
        let Some(from) = catalog.relations.get(&source) else { continue };
        for oid in catalog.ancestors(source).into_iter().chain(catalog.descendants(source)) {
            plans.entry(oid).or_default().close(format!("{} is closed: {why}", full_name(from)));
        }
    }
}

/// Where the key of a partitioned table reads a masked or hidden column, in which partition a row is tells its value. The table
/// itself shows all rows of its partitions, which are closed. Gives these.
fn partitions(catalog: &Catalog, plans: &mut Plans) -> BTreeSet<Oid> {
    let mut found = Vec::new();
    for (oid, plan) in plans.iter() {
        let Some(relation) = catalog.relations.get(oid) else { continue };
        let wants = relation.partition_key.iter().filter_map(|number| plan.columns.get(number));
        if let Some(want) = wants.map(Want::of_expression).reduce(Want::and) {
            found.push((relation, want));
        }
    }
    // What is said of one is the same each time.
    found.sort_by(|(one, _), (other, _)| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
    let mut telling = BTreeSet::new();
    for (relation, want) in found {
        let why =
            format!("it is a partition of {}, whose partition key reads what is masked or hidden", full_name(relation));
        for oid in catalog.descendants(relation.oid) {
            plans.entry(oid).or_default().close(&*why);
            telling.insert(oid);
        }
        for oid in catalog.ancestors(relation.oid).into_iter().chain([relation.oid]) {
            let place = &mut plans.entry(oid).or_default().place;
            *place = place.take().into_iter().chain([want.clone()]).reduce(Want::and);
        }
    }
    telling
}

/// Closes sequences that masked and hidden columns take their values from: they tell the newest one. Gives the tables of these.
fn sequences(catalog: &Catalog, plans: &mut Plans) -> Vec<Oid> {
    let all = || catalog.relations.values().filter(|relation| relation.kind == RelationKind::Sequence);
    let owned: HashMap<(Oid, i16), Oid> = all().filter_map(|it| Some((it.owned_by?, it.oid))).collect();
    let called: HashMap<String, Oid> = all().map(|it| (calls_next(it), it.oid)).collect();
    let mut found: Vec<(String, Oid, Oid)> = Vec::new();
    for (oid, plan) in plans.iter() {
        let Some(relation) = catalog.relations.get(oid) else { continue };
        for column in plan.columns.keys().filter_map(|number| relation.column_at(*number)) {
            let default = column.default.as_deref().unwrap_or_default();
            let calls = default.split_inclusive("::regclass)").filter_map(|part| part.get(part.find("nextval(")?..));
            let sequences = calls.filter_map(|call| called.get(call)).chain(owned.get(&(*oid, column.number)));
            for sequence in sequences {
                let why = format!("a masked or hidden column of {} takes its values from it", full_name(relation));
                found.push((why, *sequence, *oid));
            }
        }
    }
    found.sort();
    for (why, sequence, _) in &found {
        plans.entry(*sequence).or_default().close(&**why);
    }
    found.into_iter().map(|(.., table)| table).collect()
}

/// A generated column that is another column is masked like it; one that is computed from a masked or hidden column is
/// NULL. A child may compute it otherwise than its ancestors, through which its rows are read as well.
fn generated_columns(catalog: &Catalog, plans: &mut Plans) {
    let mut found: Vec<(Oid, Name, Want)> = Vec::new();
    for (oid, plan) in plans.iter() {
        let Some(relation) = catalog.relations.get(oid) else { continue };
        for column in &relation.columns {
            let Some(sql) = &column.generated else { continue };
            let restricted: Vec<&Want> = match lineage::columns_of_row_expression(relation, sql) {
                // Unknown: it may read any of them.
                None => plan.columns.values().collect(),
                Some(read) => read.iter().filter_map(|number| plan.columns.get(number)).collect(),
            };
            let Some(want) = restricted.into_iter().cloned().reduce(Want::and) else { continue };
            let plain = lineage::plain_column(relation, sql).is_some();
            let want = if plain { want } else { want.of_expression() };
            for through in [*oid].into_iter().chain(catalog.ancestors(*oid)) {
                found.push((through, column.name.clone(), want.clone()));
            }
        }
    }
    for (oid, name, want) in found {
        if let Some(column) = catalog.relations.get(&oid).and_then(|relation| relation.column(&name)) {
            add(&mut plans.entry(oid).or_default().columns, column.number, want);
        }
    }
}

/// Closes relations whose masked, hidden or filtering columns were there under the same policy and are gone. Gives what
/// the next bind must remember.
fn gone(
    policy: &CheckedPolicy,
    identity: &CheckedIdentity,
    catalog: &Catalog,
    previous: Option<&BoundPolicy>,
    plans: &mut Plans,
    problems: &mut Problems,
) -> HashMap<Oid, Restricted> {
    let mut restricted = HashMap::new();
    for (oid, plan) in plans.iter() {
        if let Some(relation) = catalog.relations.get(oid)
            && relation.definition.is_none()
        {
            restricted.insert(*oid, remember(relation, plan));
        }
    }
    // A changed policy is an answer to what changed in the catalog.
    let Some(previous) = previous.filter(|it| *it.policy == *policy && *it.identity == *identity) else {
        return restricted;
    };
    // At another database, as after a move to a copy, a relation is known by its name only.
    let same_database = previous.catalog.origin == catalog.origin;
    for (oid, before) in &previous.restricted {
        // By oid, whatever its name now is; a table that was dropped may be made again under its name.
        let same = catalog.relations.get(oid).filter(|_| same_database);
        let Some(relation) = same.or_else(|| catalog.relation(&before.schema, &before.name)) else {
            // Bounded: who makes and drops tables all day must not fill the memory.
            if same_database && restricted.len() < MOST_REMEMBERED {
                restricted.insert(*oid, before.clone());
            }
            continue;
        };
        let plan = plans.get(&relation.oid);
        let is_restricted = |number: i16| plan.is_some_and(|plan| plan.columns.contains_key(&number));
        let lost: Vec<(i16, Name)> = before
            .columns
            .iter()
            .filter(|(number, name)| {
                let by_name = relation.column(name).is_some_and(|column| is_restricted(column.number));
                !(by_name || (same.is_some() && relation.column_at(*number).is_some() && is_restricted(*number)))
            })
            .cloned()
            .collect();
        let unfiltered = before.filtered && plan.is_none_or(|plan| plan.filters.is_empty() && plan.closed.is_none());
        if lost.is_empty() && !unfiltered {
            continue;
        }
        let why = match lost.first() {
            Some((_, name)) if relation.column(name).is_some() => {
                format!("its column {name}, which was masked or hidden, no longer is")
            }
            Some((_, name)) => format!("its column {name}, which the policy masks or hides, is gone or renamed"),
            None => "its row filter no longer matches it".to_owned(),
        };
        problems.add("spec", format!("{}: {why}", full_name(relation)));
        let remembered = restricted.entry(relation.oid).or_insert_with(|| remember(relation, &Plan::default()));
        remembered.columns.extend(lost);
        remembered.filtered |= before.filtered;
        plans.entry(relation.oid).or_default().close(why);
    }
    restricted
}

/// How many relations a bound policy remembers that are no longer there.
const MOST_REMEMBERED: usize = 100_000;

fn remember(relation: &Relation, plan: &Plan) -> Restricted {
    let columns = plan.columns.keys().filter_map(|number| relation.column_at(*number));
    Restricted {
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        columns: columns.map(|column| (column.number, column.name.clone())).collect(),
        filtered: !plan.filters.is_empty(),
    }
}

/// The view of one relation, with its expressions.
fn view_of(
    catalog: &Catalog,
    keys: &[HashKey],
    known: &mut mask::Expressions,
    relation: &Relation,
    plan: Plan,
    problems: &mut Problems,
) -> RelationView {
    let place_tells = plan.place.is_some();
    let mut view = RelationView { closed: plan.closed, place_tells, ..RelationView::default() };
    for (number, want) in plan.columns {
        let Some(column) = relation.column_at(number) else { continue };
        let wanted = match want {
            Want::Mask(wanted) => wanted,
            Want::Hidden => {
                view.columns.insert(number, ColumnView::Hidden);
                continue;
            }
        };
        let key = match &wanted.kind {
            MaskKind::Hash { key_secret } => keys.iter().find(|key| key.secret == *key_secret).map(|key| key.index),
            _ => None,
        };
        let of = format!("{}.{}", full_name(relation), quote_identifier(&column.name));
        match mask::bind(&wanted.kind, catalog, column, &of, key, known) {
            Ok(bound) => {
                let Wanted { kind, on_predicate, path } = wanted;
                let mask::MaskExpression { expression, constant } = bound;
                let mask = BoundMask { expression, kind, constant, on_predicate, path };
                view.columns.insert(number, ColumnView::Masked(Arc::new(mask)));
            }
            Err(why) => {
                problems.add(format!("{}.mask", wanted.path), why.clone());
                view.columns.insert(number, ColumnView::Hidden);
                view.closed_columns.insert(number, why);
            }
        }
    }
    match row_filter(catalog, relation, &plan.filters) {
        Ok(filter) => view.filter = filter,
        Err(why) => view.closed = view.closed.or(Some(why)),
    }
    view
}

fn row_filter(catalog: &Catalog, relation: &Relation, filters: &[PlannedFilter]) -> Result<Option<RowFilter>, String> {
    let mut columns = Vec::new();
    let mut rules: Vec<&str> = Vec::new();
    for filter in filters {
        for name in expression::columns_of(&filter.expression).map_err(|error| error.to_string())? {
            let column =
                relation.column(&name).ok_or_else(|| format!("its row filter reads {name}, which it doesn't have"))?;
            if !columns.contains(&column.number) {
                columns.push(column.number);
            }
        }
        if !rules.contains(&&*filter.rule) {
            rules.push(&filter.rule);
        }
    }
    // Written out and read again, one within another is of its parts.
    let mut expressions: Vec<Node> =
        filters.iter().flat_map(|filter| expression::conjuncts(filter.expression.clone())).collect();
    let expression = match (expressions.pop(), expressions.is_empty()) {
        (None, _) => return Ok(None),
        (Some(only), true) => only,
        (Some(last), false) => {
            expressions.push(last);
            let all = BoolExpr { xpr: None, boolop: BoolExprType::AndExpr.into(), args: expressions, location: -1 };
            Node { node: Some(Kind::BoolExpr(Box::new(all))) }
        }
    };
    let costly = expression::is_costly(&expression, catalog, relation);
    Ok(Some(RowFilter { expression, costly, columns, rule: rules.join(", ") }))
}

/// The call by which a default takes the next value of a sequence, as the server writes it.
pub(super) fn calls_next(sequence: &Relation) -> String {
    format!("nextval({}::regclass)", quote_text(&sequence.qualified_name()))
}

/// Whether the identity may make rows in one of these tables, by itself or by what a write of its own goes on to.
fn may_write(policy: &CheckedPolicy, identity: &CheckedIdentity, catalog: &Catalog, tables: Vec<Oid>) -> bool {
    scrub::closure(catalog, tables.into_iter()).iter().filter_map(|oid| catalog.relations.get(oid)).any(|relation| {
        let is_given = |verb| {
            policy.grant(identity, &relation.schema, &relation.name, grant::is_special(relation), verb).is_some()
        };
        [Verb::Insert, Verb::Update, Verb::Delete, Verb::CopyIn].into_iter().any(is_given)
    })
}

/// `schema.name`, for messages.
pub(super) fn full_name(relation: &Relation) -> String {
    relation.qualified_name()
}
