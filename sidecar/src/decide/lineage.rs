//! Where the columns of views and generated columns come from, and so what they must be.
//!
//! **Promise.** An output of a view that can be anything of a masked or hidden column is masked: like that column if it
//! is that column and nothing else, else to NULL. A view over a filtered relation has the filter on its own outputs, or
//! is closed.
//! **How.** The definition (as Postgres writes it, with an empty search_path) is traced from its outputs down. What the
//! trace saw is then held against what Postgres says that the view depends on: a masked column that the trace missed
//! makes all outputs NULL.
//! **Not covered.** Conditions inside an owner's view may read what is masked: which rows there are can tell of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use pg_query::protobuf::{self, Alias, Node, RangeVar, SelectStmt, SetOperation, TypeName, node::Node as Kind};

use super::bind::{Plan, PlannedFilter, Plans, Want, add, full_name};
use super::expression::{self, UnknownNode, for_each_child, instantiate_with, row_column, text_of};
use super::mask::parse_expression;
use super::scrub::Reach;
use crate::catalog::code::{text_runner, words};
use crate::catalog::{Catalog, Function, Oid, Relation, RelationKind};
use crate::sql::{self, ParseLimits};

/// Closes views that call what may read masked, hidden or filtered values and shows them as they are stored. A generated column that
/// does so is NULL.
pub(super) fn calls(catalog: &Catalog, plans: &mut Plans, may_call: impl Fn(&Function) -> bool) {
    // A function may read a view that calls another.
    while !plans.is_empty() {
        let over = plans.keys().flat_map(|oid| catalog.views_over(*oid));
        let mut reach = Reach::of(catalog, plans.keys().copied().chain(over));
        // What is written in C comes from who installs the server.
        let mut reads = |function: &Function| {
            !matches!(&*function.language, "internal" | "c") && !may_call(function) && reach.reaches(function)
        };
        let (mut closed, mut computed) = (Vec::new(), Vec::new());
        for relation in catalog.relations.values() {
            let plan = plans.get(&relation.oid);
            if plan.is_none_or(|plan| plan.closed.is_none())
                && let Some(why) = reads_by_call(catalog, relation, &mut reads)
            {
                closed.push((relation.oid, why));
            }
            for column in &relation.columns {
                let is_open = plan.is_none_or(|plan| !plan.columns.contains_key(&column.number));
                let named = column.generated.as_deref().filter(|_| is_open).map(words).unwrap_or_default();
                let mut called = named.iter().filter_map(|word| catalog.functions.get(word.as_str())).flatten();
                if called.any(&mut reads) {
                    computed.push((relation.oid, column.name.clone()));
                }
            }
        }
        if closed.is_empty() && computed.is_empty() {
            return;
        }
        for (view, why) in closed {
            plans.entry(view).or_default().close(why);
        }
        for (of, name) in computed {
            for oid in catalog.ancestors(of).into_iter().chain([of]) {
                if let Some(column) = catalog.relations.get(&oid).and_then(|relation| relation.column(&name)) {
                    add(&mut plans.entry(oid).or_default().columns, column.number, Want::Hidden.of_expression());
                }
            }
        }
    }
}

/// Why a view is closed by what it calls: a function of the database's owner that `reads`, or one that runs SQL given as text.
fn reads_by_call(catalog: &Catalog, view: &Relation, reads: impl FnMut(&Function) -> bool) -> Option<String> {
    let definition = view.definition.as_deref()?;
    let mut reads = reads;
    let called = view.calls.iter().filter_map(|oid| catalog.function(*oid)).filter(|function| reads(function));
    if let Some(name) = called.map(|function| format!("{}.{}", function.schema, function.name)).min() {
        return Some(format!(
            "it calls {name}, which may read what is masked or filtered (a rule with `functions: [{name}]` shows what that returns)"
        ));
    }
    text_runner(definition).map(|name| format!("it calls {name}, which runs SQL given as text"))
}

/// Gives each view what the relations that it reads carry.
pub(super) fn views(catalog: &Catalog, plans: &mut Plans) {
    let mut over: Vec<Oid> = plans.keys().flat_map(|oid| catalog.views_over(*oid)).collect();
    over.sort_unstable();
    over.dedup();
    let mut pending: HashSet<Oid> = over.iter().copied().collect();
    // From the tables up: a view is looked at when none that it reads is still to be. A round that finds none left
    // means a circle, which Postgres doesn't allow.
    while !pending.is_empty() {
        let ready: Vec<Oid> = over
            .iter()
            .copied()
            .filter(|oid| pending.contains(oid))
            .filter(|oid| {
                let reads = catalog.relations.get(oid).map(|view| &view.depends_on);
                reads.into_iter().flatten().all(|(used, _)| used == oid || !pending.contains(used))
            })
            .collect();
        if ready.is_empty() {
            for oid in pending.drain() {
                plans.entry(oid).or_default().close("it is a view over itself");
            }
            return;
        }
        for oid in ready {
            pending.remove(&oid);
            let Some(view) = catalog.relations.get(&oid) else { continue };
            let derived = derive(catalog, plans, view);
            merge(plans.entry(oid).or_default(), derived);
        }
    }
}

fn merge(plan: &mut Plan, derived: Plan) {
    if let Some(why) = derived.closed {
        plan.close(why);
    }
    for (number, want) in derived.columns {
        add(&mut plan.columns, number, want);
    }
    for filter in derived.filters {
        plan.add_filter(filter);
    }
    plan.place = plan.place.take().into_iter().chain(derived.place).reduce(Want::and);
}

/// What a view carries from what it reads.
fn derive(catalog: &Catalog, plans: &Plans, view: &Relation) -> Plan {
    let mut derived = Plan::default();
    let bases = || view.depends_on.iter().filter_map(|(oid, number)| Some((*oid, *number, plans.get(oid)?)));
    for (oid, _, base) in bases() {
        if let (Some(why), Some(relation)) = (&base.closed, catalog.relations.get(&oid)) {
            derived.close(format!("it reads {}, which is closed: {why}", full_name(relation)));
            return derived;
        }
    }
    // EXPLAIN of it would tell where the rows of what it reads are.
    if view.kind == RelationKind::View {
        derived.place = bases().filter_map(|(.., base)| base.place.clone()).reduce(Want::and);
    }
    let traced = trace(catalog, plans, view);
    let missed = match &traced {
        Err(_) => true,
        Ok(trace) => bases().any(|(oid, number, base)| {
            base.columns.contains_key(&number) && !trace.seen.contains(&(oid, number))
                || !base.filters.is_empty() && !trace.instances.iter().any(|instance| instance.relation == oid)
        }),
    };
    if missed {
        conceal(plans, view, &mut derived);
        return derived;
    }
    if let Ok(trace) = traced {
        for (column, output) in view.columns.iter().zip(&trace.outputs) {
            if let Some(want) = &output.want {
                derived.columns.insert(column.number, want.clone());
            }
        }
        filters(catalog, plans, view, &trace, &mut derived);
    }
    derived
}

/// A view that can't be traced: all of it is NULL where it may read what is masked, and closed over a filter.
fn conceal(plans: &Plans, view: &Relation, derived: &mut Plan) {
    let bases: Vec<&Plan> = view.depends_on.iter().filter_map(|(oid, _)| plans.get(oid)).collect();
    if bases.iter().any(|base| !base.filters.is_empty()) {
        derived.close("it reads a filtered relation in a way that can't be traced");
    }
    let restricted = view.depends_on.iter().filter_map(|(oid, number)| Some((*number, plans.get(oid)?)));
    let wants = restricted.flat_map(|(number, base)| match number {
        0 => base.columns.values().collect::<Vec<_>>(),
        number => base.columns.get(&number).into_iter().collect(),
    });
    let Some(want) = wants.map(Want::of_expression).reduce(Want::and) else { return };
    for column in &view.columns {
        derived.columns.insert(column.number, want.clone());
    }
}

/// Puts the filters of what a view reads on its outputs.
fn filters(catalog: &Catalog, plans: &Plans, view: &Relation, trace: &Trace, derived: &mut Plan) {
    for (index, instance) in trace.instances.iter().enumerate() {
        let (Some(base), Some(relation)) = (plans.get(&instance.relation), catalog.relations.get(&instance.relation))
        else {
            continue;
        };
        let name = full_name(relation);
        if let Some(why) = instance.not_row_wise {
            derived.close(format!("it reads {name}, which is filtered, {why}"));
            return;
        }
        for filter in &base.filters {
            let mut columns: BTreeMap<&str, &str> = BTreeMap::new();
            for wanted in &filter.columns {
                let position = trace.outputs.iter().position(|output| {
                    output.base.as_ref().is_some_and(|(from, column)| *from == index && column == wanted)
                });
                match position.and_then(|position| view.columns.get(position)) {
                    Some(column) => columns.insert(wanted, &column.name),
                    None => {
                        derived.close(format!("it doesn't show {wanted}, by which {name} is filtered"));
                        return;
                    }
                };
            }
            let expression = instantiate_with(&filter.expression, &mut |column| {
                // Every column of the filter has its place: they were all looked up above.
                row_column(columns.get(column).copied().unwrap_or(column))
            });
            derived.add_filter(PlannedFilter {
                expression,
                columns: columns.values().map(|column| (*column).to_owned()).collect(),
                rule: filter.rule.clone(),
                origin: filter.origin.clone(),
            });
        }
    }
}

/// One place in a view where a filtered relation is read.
#[derive(Debug)]
struct Instance {
    relation: Oid,
    /// Why a row of it is not one row of the view.
    not_row_wise: Option<&'static str>,
}

/// What a trace found.
struct Trace {
    outputs: Vec<Output>,
    instances: Vec<Instance>,
    /// The restricted columns that it came across.
    seen: HashSet<(Oid, i16)>,
}

/// A column of a query or of something in FROM.
#[derive(Clone, Debug, PartialEq)]
struct Output {
    name: String,
    /// What it must be, as far as it derives from restricted columns.
    want: Option<Want>,
    /// The restricted columns that it derives from.
    restricted: Vec<(Oid, i16)>,
    /// If it is a column of a filtered relation and nothing else: which instance's, and its name there.
    base: Option<(usize, String)>,
    /// Whether it is a text-like column.
    text: bool,
}

impl Output {
    fn clean(name: &str) -> Self {
        Self { name: name.to_owned(), want: None, restricted: Vec::new(), base: None, text: false }
    }

    /// Something that can be either of two.
    fn or(mut self, other: Output) -> Self {
        self.restricted.extend(other.restricted);
        self.restricted.sort_unstable();
        self.restricted.dedup();
        self.want = match (self.want, other.want) {
            (Some(one), Some(two)) => Some(one.and(two)),
            (one, two) => one.or(two),
        };
        self.base = None;
        self.text &= other.text;
        self
    }

    /// Something that is computed from it.
    fn computed(mut self) -> Self {
        self.want = self.want.map(|want| want.of_expression());
        self.base = None;
        self.text = false;
        self
    }
}

/// Something in FROM.
#[derive(Clone, Debug, Default)]
struct Item {
    alias: String,
    columns: Vec<Output>,
    /// Set if it has columns that aren't known, which are computed from this.
    others: Option<Output>,
    /// What its tableoid and ctid must be.
    place: Option<Want>,
}

impl Item {
    /// A system column of it.
    fn system(&self, name: &str) -> Option<Output> {
        match name {
            "tableoid" | "ctid" => Some(Output { want: self.place.clone(), ..Output::clean(name) }),
            "xmin" | "xmax" | "cmin" | "cmax" => Some(Output::clean(name)),
            _ => None,
        }
    }
}

/// Names that a query can use from around it.
#[derive(Clone, Default)]
struct Around {
    /// Common table expressions.
    tables: HashMap<String, Vec<Output>>,
    /// What is in FROM, the innermost query last.
    scopes: Vec<Vec<Item>>,
}

/// A query's outputs, and what anything in it derives from.
struct Query {
    outputs: Vec<Output>,
    read: Output,
}

type Traced<T> = Result<T, UnknownNode>;

fn unknown<T>(what: impl Into<String>) -> Traced<T> {
    Err(UnknownNode(what.into()))
}

/// Deeper nesting than people write is not traced.
const MAX_DEPTH: u32 = 200;

struct Tracer<'a> {
    catalog: &'a Catalog,
    plans: &'a Plans,
    instances: Vec<Instance>,
    seen: HashSet<(Oid, i16)>,
    depth: u32,
}

fn trace(catalog: &Catalog, plans: &Plans, view: &Relation) -> Traced<Trace> {
    let Some(definition) = view.definition.as_deref() else { return unknown("no definition") };
    let refused = |denial: super::Denial| UnknownNode(denial.message);
    let measure = sql::measure(definition, &ParseLimits::default()).map_err(refused)?;
    sql::deep::run_blocking(&measure, || {
        let tree = sql::parse_measured(definition, measure).map_err(refused)?.tree;
        let mut statements = tree.stmts.into_iter().map(|raw| raw.stmt.and_then(|statement| statement.node));
        let (Some(Some(Kind::SelectStmt(mut select))), None) = (statements.next(), statements.next()) else {
            return unknown("no query");
        };
        let mut tracer = Tracer { catalog, plans, instances: Vec::new(), seen: HashSet::new(), depth: 0 };
        let query = tracer.query(&mut select, &Around::default())?;
        if query.outputs.len() != view.columns.len() {
            return unknown("other columns than the view has");
        }
        Ok(Trace { outputs: query.outputs, instances: tracer.instances, seen: tracer.seen })
    })
    .map_err(refused)?
}

impl Tracer<'_> {
    fn query(&mut self, select: &mut SelectStmt, around: &Around) -> Traced<Query> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return unknown("too deep");
        }
        let first_instance = self.instances.len();
        let mut around = around.clone();
        let mut read = Output::clean("");
        self.common_tables(select, &mut around, &mut read)?;
        let outputs = if select.op() != SetOperation::SetopNone {
            let mut sides = Vec::new();
            for side in [&mut select.larg, &mut select.rarg] {
                let Some(side) = side else { return unknown("half a set operation") };
                let query = self.query(side, &around)?;
                read = read.or(query.read);
                sides.push(query.outputs);
            }
            let (Some(right), Some(left)) = (sides.pop(), sides.pop()) else { return unknown("a set operation") };
            if left.len() != right.len() {
                return unknown("a set operation of unequal sides");
            }
            self.not_row_wise(first_instance, "under a set operation");
            left.into_iter().zip(right).map(|(left, right)| left.or(right)).collect()
        } else if !select.values_lists.is_empty() {
            self.values(select, &around, &mut read)?
        } else {
            let why = self.why_not_row_wise(select);
            let outputs = self.plain_query(select, &mut around, &mut read)?;
            if let Some(why) = why {
                self.not_row_wise(first_instance, why);
            }
            outputs
        };
        if select.limit_count.is_some() || select.limit_offset.is_some() {
            self.not_row_wise(first_instance, "under a LIMIT");
        }
        self.depth -= 1;
        Ok(Query { outputs, read })
    }

    fn not_row_wise(&mut self, from: usize, why: &'static str) {
        for instance in self.instances.iter_mut().skip(from) {
            instance.not_row_wise.get_or_insert(why);
        }
    }

    fn common_tables(&mut self, select: &mut SelectStmt, around: &mut Around, read: &mut Output) -> Traced<()> {
        let Some(with) = &mut select.with_clause else { return Ok(()) };
        let recursive = with.recursive;
        for table in &mut with.ctes {
            let Some(Kind::CommonTableExpr(table)) = &mut table.node else { return unknown("WITH") };
            if table.search_clause.is_some() || table.cycle_clause.is_some() {
                return unknown("SEARCH or CYCLE");
            }
            let names = table.aliascolnames.clone();
            let name = table.ctename.clone();
            let Some(Kind::SelectStmt(inner)) = table.ctequery.as_mut().and_then(|query| query.node.as_mut()) else {
                return unknown("a write in WITH");
            };
            let first_instance = self.instances.len();
            if recursive && inner.op() == SetOperation::SetopUnion {
                // What it says of itself only grows, so a few rounds reach what it stays at.
                let Some(start) = &mut inner.larg else { return unknown("half a UNION") };
                let mut known = rename(self.query(start, around)?.outputs, &names)?;
                for round in 0.. {
                    if round > 10 {
                        return unknown("a recursion that doesn't settle");
                    }
                    around.tables.insert(name.clone(), known.clone());
                    let query = self.query(inner, around)?;
                    let next = rename(query.outputs, &names)?;
                    *read = read.clone().or(query.read);
                    let settled = next.iter().map(|it| &it.want).eq(known.iter().map(|it| &it.want));
                    known = next;
                    if settled {
                        break;
                    }
                }
                self.not_row_wise(first_instance, "under a recursion");
                around.tables.insert(name, known);
            } else {
                let query = self.query(inner, around)?;
                *read = read.clone().or(query.read);
                // Used twice, a row of it is two rows of the view, each with the outputs of its own.
                self.not_row_wise(first_instance, "in WITH");
                around.tables.insert(name, rename(query.outputs, &names)?);
            }
        }
        Ok(())
    }

    fn values(&mut self, select: &mut SelectStmt, around: &Around, read: &mut Output) -> Traced<Vec<Output>> {
        let mut columns: Vec<Output> = Vec::new();
        for row in &mut select.values_lists {
            let Some(Kind::List(row)) = &mut row.node else { return unknown("VALUES") };
            for (position, value) in row.items.iter_mut().enumerate() {
                let value = self.expression(value, around)?;
                *read = read.clone().or(value.clone());
                match columns.get_mut(position) {
                    Some(column) => *column = column.clone().or(value),
                    None => columns.push(Output { name: format!("column{}", position + 1), ..value }),
                }
            }
        }
        Ok(columns)
    }

    fn plain_query(&mut self, select: &mut SelectStmt, around: &mut Around, read: &mut Output) -> Traced<Vec<Output>> {
        around.scopes.push(Vec::new());
        for item in &mut select.from_clause {
            let items = self.table_item(item, around, read)?;
            if let Some(scope) = around.scopes.last_mut() {
                scope.extend(items);
            }
        }
        let mut outputs = Vec::new();
        for target in &mut select.target_list {
            let Some(Kind::ResTarget(target)) = &mut target.node else { return unknown("an output") };
            let Some(value) = &mut target.val else { return unknown("an output without a value") };
            if let Some(columns) = star(value) {
                let columns = self.whole(&columns, around)?;
                outputs.extend(columns);
                continue;
            }
            let output = self.output(value, around)?;
            let name = if target.name.is_empty() { output.name.clone() } else { target.name.clone() };
            *read = read.clone().or(output.clone());
            outputs.push(Output { name, ..output });
        }
        let mut others: Vec<&mut Node> = Vec::new();
        others.extend(select.where_clause.as_deref_mut());
        others.extend(select.having_clause.as_deref_mut());
        others.extend(select.distinct_clause.iter_mut().filter(|it| it.node.is_some()));
        others.extend(select.group_clause.iter_mut());
        others.extend(select.window_clause.iter_mut());
        others.extend(select.limit_count.as_deref_mut());
        others.extend(select.limit_offset.as_deref_mut());
        for other in others {
            *read = read.clone().or(self.expression(other, around)?);
        }
        for sort in &mut select.sort_clause {
            // A name here may be an output's; those were read already.
            let Some(Kind::SortBy(sort)) = &mut sort.node else { return unknown("ORDER BY") };
            let Some(key) = &mut sort.node else { continue };
            let is_output = matches!(&key.node, Some(Kind::ColumnRef(it)) if matches!(it.fields.as_slice(),
                [name] if outputs.iter().any(|output| Some(output.name.as_str()) == text_of(name))));
            if !is_output {
                *read = read.clone().or(self.expression(key, around)?);
            }
        }
        Ok(outputs)
    }

    /// Why the rows of what a query reads are not its own, one by one.
    fn why_not_row_wise(&self, select: &SelectStmt) -> Option<&'static str> {
        if !select.group_clause.is_empty() || select.having_clause.is_some() {
            return Some("under a GROUP BY");
        }
        if !select.distinct_clause.is_empty() {
            return Some("under a DISTINCT");
        }
        let mut found = None;
        let mut nodes: Vec<Node> = select.target_list.clone();
        nodes.extend(select.sort_clause.iter().cloned());
        for node in &mut nodes {
            self.aggregates(node, &mut found);
        }
        found
    }

    fn aggregates(&self, node: &mut Node, found: &mut Option<&'static str>) {
        if let Some(Kind::FuncCall(call)) = &node.node {
            if call.over.is_some() {
                found.get_or_insert("under a window function");
            }
            let name = call.funcname.last().and_then(text_of).unwrap_or_default();
            let plain =
                self.catalog.functions.get(name).is_some_and(|all| all.iter().all(|it| matches!(it.kind, 'f' | 'p')));
            if !plain || call.agg_star || call.agg_within_group || call.agg_distinct || call.agg_filter.is_some() {
                found.get_or_insert("under an aggregate");
            }
        }
        if matches!(&node.node, Some(Kind::SubLink(_))) {
            return;
        }
        let walked = for_each_child(node, &mut |child| {
            self.aggregates(child, found);
            Ok(())
        });
        if walked.is_err() {
            found.get_or_insert("in an expression that isn't known");
        }
    }

    fn table_item(&mut self, item: &mut Node, around: &Around, read: &mut Output) -> Traced<Vec<Item>> {
        match &mut item.node {
            Some(Kind::RangeVar(table)) => Ok(vec![self.table(table, around)?]),
            Some(Kind::RangeSubselect(it)) => {
                let Some(Kind::SelectStmt(inner)) = it.subquery.as_mut().and_then(|query| query.node.as_mut()) else {
                    return unknown("a sub-select");
                };
                let query = self.query(inner, around)?;
                *read = read.clone().or(query.read);
                let (alias, names) = alias_of(it.alias.as_ref());
                let columns = rename(query.outputs, names)?;
                Ok(vec![Item { alias: alias.to_owned(), columns, ..Item::default() }])
            }
            Some(Kind::JoinExpr(join)) => {
                let first = self.instances.len();
                let (Some(left), Some(right)) = (&mut join.larg, &mut join.rarg) else { return unknown("half a join") };
                let mut items = self.table_item(left, around, read)?;
                let middle = self.instances.len();
                // The right side may be LATERAL and see the left one.
                let mut inner = around.clone();
                match inner.scopes.last_mut() {
                    Some(scope) => scope.extend(items.iter().cloned()),
                    None => inner.scopes.push(items.clone()),
                }
                items.extend(self.table_item(right, &inner, read)?);
                let nullable = "on the nullable side of an outer join";
                match protobuf::JoinType::try_from(join.jointype) {
                    Ok(protobuf::JoinType::JoinInner) => {}
                    Ok(protobuf::JoinType::JoinLeft) => self.not_row_wise(middle, nullable),
                    Ok(protobuf::JoinType::JoinRight) => {
                        for instance in self.instances.iter_mut().take(middle).skip(first) {
                            instance.not_row_wise.get_or_insert(nullable);
                        }
                    }
                    Ok(protobuf::JoinType::JoinFull) => self.not_row_wise(first, nullable),
                    _ => return unknown("a join of another kind"),
                }
                if let Some(quals) = &mut join.quals {
                    let mut inner = around.clone();
                    match inner.scopes.last_mut() {
                        Some(scope) => scope.extend(items.iter().cloned()),
                        None => inner.scopes.push(items.clone()),
                    }
                    *read = read.clone().or(self.expression(quals, &inner)?);
                }
                if join.is_natural {
                    return unknown("a NATURAL join");
                }
                for name in join.using_clause.iter().filter_map(text_of) {
                    for column in items.iter().flat_map(|item| &item.columns).filter(|column| column.name == name) {
                        self.seen.extend(column.restricted.iter().copied());
                        *read = read.clone().or(column.clone());
                    }
                }
                let merged: Vec<Output> = items.iter().flat_map(|item| item.columns.clone()).collect();
                if let Some(alias) = &join.join_using_alias {
                    let used: Vec<&str> = join.using_clause.iter().filter_map(text_of).collect();
                    let columns =
                        merged.iter().filter(|column| used.contains(&column.name.as_str())).cloned().collect();
                    items.push(Item { alias: alias.aliasname.clone(), columns, ..Item::default() });
                }
                match &join.alias {
                    // The merged columns come first then, so names given by position can't be followed.
                    Some(alias) if !alias.colnames.is_empty() => unknown("a join with names for its columns"),
                    Some(alias) => {
                        Ok(vec![Item { alias: alias.aliasname.clone(), columns: merged, ..Item::default() }])
                    }
                    None => Ok(items),
                }
            }
            Some(Kind::RangeFunction(function)) => {
                let mut computed = Output::clean("");
                let mut name = String::new();
                for part in &mut function.functions {
                    let Some(Kind::List(part)) = &mut part.node else { return unknown("a function in FROM") };
                    let Some(call) = part.items.first_mut() else { return unknown("a function in FROM") };
                    if let Some(Kind::FuncCall(call)) = &call.node {
                        name = call.funcname.last().and_then(text_of).unwrap_or_default().to_owned();
                    }
                    computed = computed.or(self.expression(call, around)?);
                }
                let computed = computed.computed();
                *read = read.clone().or(computed.clone());
                let (alias, _) = alias_of(function.alias.as_ref());
                let alias = if alias.is_empty() { name } else { alias.to_owned() };
                Ok(vec![Item { alias, others: Some(computed), ..Item::default() }])
            }
            Some(Kind::RangeTableSample(sample)) => match &mut sample.relation {
                Some(relation) => self.table_item(relation, around, read),
                None => unknown("TABLESAMPLE"),
            },
            Some(other) => unknown(expression::kind_name(other)),
            None => unknown("nothing in FROM"),
        }
    }

    fn table(&mut self, table: &RangeVar, around: &Around) -> Traced<Item> {
        let (alias, names) = alias_of(table.alias.as_ref());
        let alias = if alias.is_empty() { table.relname.as_str() } else { alias }.to_owned();
        if table.schemaname.is_empty()
            && let Some(columns) = around.tables.get(&table.relname)
        {
            return Ok(Item { alias, columns: rename(columns.clone(), names)?, ..Item::default() });
        }
        let schema = if table.schemaname.is_empty() { "pg_catalog" } else { &table.schemaname };
        let Some(relation) = self.catalog.relation(schema, &table.relname) else {
            return unknown(format!("{schema}.{}", table.relname));
        };
        let plan = self.plans.get(&relation.oid);
        let instance = plan.filter(|plan| !plan.filters.is_empty()).map(|_| {
            self.instances.push(Instance { relation: relation.oid, not_row_wise: None });
            self.instances.len() - 1
        });
        let columns = relation.columns.iter().map(|column| {
            let want = plan.and_then(|plan| plan.columns.get(&column.number)).cloned();
            Output {
                name: column.name.to_string(),
                restricted: if want.is_some() { vec![(relation.oid, column.number)] } else { Vec::new() },
                want,
                base: instance.map(|instance| (instance, column.name.to_string())),
                text: self.catalog.types.get(&column.type_oid).is_some_and(|kind| kind.category == 'S'),
            }
        });
        let place = plan.and_then(|plan| plan.place.clone());
        Ok(Item { alias, columns: rename(columns.collect(), names)?, others: None, place })
    }

    /// One output: a column stays what it is, anything else is computed.
    fn output(&mut self, value: &mut Node, around: &Around) -> Traced<Output> {
        match &mut value.node {
            Some(Kind::ColumnRef(_)) => self.column(value, around),
            // varchar, char and text have the same characters; other conversions make another value.
            Some(Kind::TypeCast(cast))
                if cast.type_name.as_ref().is_some_and(is_plain_text)
                    && matches!(cast.arg.as_ref().map(|arg| &arg.node), Some(Some(Kind::ColumnRef(_)))) =>
            {
                let Some(arg) = &mut cast.arg else { return unknown("a cast of nothing") };
                let column = self.column(arg, around)?;
                Ok(if column.text { Output { base: None, ..column } } else { column.computed() })
            }
            _ => self.expression(value, around),
        }
    }

    /// What an expression derives from.
    fn expression(&mut self, node: &mut Node, around: &Around) -> Traced<Output> {
        match &mut node.node {
            Some(Kind::ColumnRef(_)) => Ok(self.column(node, around)?.computed()),
            Some(Kind::SubLink(link)) => {
                let first_instance = self.instances.len();
                let mut derived = match &mut link.testexpr {
                    Some(test) => self.expression(test, around)?,
                    None => Output::clean(""),
                };
                let Some(Kind::SelectStmt(inner)) = link.subselect.as_mut().and_then(|it| it.node.as_mut()) else {
                    return unknown("a sub-select");
                };
                let query = self.query(inner, around)?;
                self.not_row_wise(first_instance, "in a sub-select");
                derived = query.outputs.into_iter().fold(derived.or(query.read), Output::or);
                Ok(derived.computed())
            }
            Some(Kind::SelectStmt(_)) => unknown("a sub-select"),
            _ => {
                let mut derived = Output::clean("");
                for_each_child(node, &mut |child| {
                    let child = self.expression(child, around)?;
                    derived = derived.clone().or(child);
                    Ok(())
                })?;
                Ok(derived.computed())
            }
        }
    }

    /// What a column reference means: all that it can mean.
    fn column(&mut self, node: &Node, around: &Around) -> Traced<Output> {
        if let Some(names) = star(node) {
            let columns = self.whole(&names, around)?;
            return Ok(columns.into_iter().fold(Output::clean(""), Output::or).computed());
        }
        let Some(Kind::ColumnRef(reference)) = &node.node else { return unknown("no column") };
        let names: Option<Vec<&str>> = reference.fields.iter().map(text_of).collect();
        let found = match names.as_deref() {
            Some([name]) => find_unqualified(around, name),
            Some([alias, name]) => find_qualified(around, alias, name),
            _ => None,
        };
        let Some(found) = found else { return unknown("a name") };
        self.seen.extend(found.restricted.iter().copied());
        Ok(found)
    }

    /// The columns that a star stands for.
    fn whole(&mut self, names: &[String], around: &Around) -> Traced<Vec<Output>> {
        let columns: Vec<Output> = match names {
            [] => {
                let scope = around.scopes.last().map(Vec::as_slice).unwrap_or_default();
                if scope.iter().any(|item| item.others.is_some()) {
                    return unknown("a star over a function");
                }
                scope.iter().flat_map(|item| item.columns.clone()).collect()
            }
            [alias] => {
                let item = around.scopes.iter().rev().flatten().find(|item| item.alias == *alias);
                let Some(item) = item else { return unknown("a star") };
                item.columns.iter().chain(&item.others).cloned().collect()
            }
            _ => return unknown("a star"),
        };
        for column in &columns {
            self.seen.extend(column.restricted.iter().copied());
        }
        Ok(columns)
    }
}

fn find_unqualified(around: &Around, name: &str) -> Option<Output> {
    for scope in around.scopes.iter().rev() {
        let columns = scope.iter().flat_map(|item| &item.columns).filter(|column| column.name == name);
        if let Some(found) = columns.cloned().reduce(Output::or) {
            return Some(found);
        }
        // The name of something in FROM is its whole row; else it may be one of the columns that aren't known.
        if let Some(item) = scope.iter().find(|item| item.alias == name) {
            return Some(
                item.columns.iter().chain(&item.others).cloned().fold(Output::clean(name), Output::or).computed(),
            );
        }
        let others = scope.iter().filter_map(|item| item.others.clone());
        if let Some(found) = others.reduce(Output::or) {
            return Some(Output { name: name.to_owned(), ..found });
        }
        if let Some(found) = scope.iter().filter_map(|item| item.system(name)).reduce(Output::or) {
            return Some(found);
        }
    }
    None
}

fn find_qualified(around: &Around, alias: &str, name: &str) -> Option<Output> {
    let item = around.scopes.iter().rev().find_map(|scope| scope.iter().find(|item| item.alias == alias))?;
    let columns = item.columns.iter().filter(|column| column.name == name);
    if let Some(found) = columns.cloned().reduce(Output::or) {
        return Some(found);
    }
    if let Some(others) = &item.others {
        return Some(Output { name: name.to_owned(), ..others.clone() });
    }
    item.system(name)
}

/// The names before a star.
fn star(node: &Node) -> Option<Vec<String>> {
    let Some(Kind::ColumnRef(reference)) = &node.node else { return None };
    let (last, names) = reference.fields.split_last()?;
    matches!(last.node, Some(Kind::AStar(_))).then(|| names.iter().filter_map(text_of).map(str::to_owned).collect())
}

fn alias_of(alias: Option<&Alias>) -> (&str, &[Node]) {
    alias.map(|alias| (alias.aliasname.as_str(), alias.colnames.as_slice())).unwrap_or_default()
}

fn rename(mut columns: Vec<Output>, names: &[Node]) -> Traced<Vec<Output>> {
    if names.len() > columns.len() {
        return unknown("more names than columns");
    }
    for (column, name) in columns.iter_mut().zip(names) {
        match text_of(name) {
            Some(name) => column.name = name.to_owned(),
            None => return unknown("a name"),
        }
    }
    Ok(columns)
}

/// text or varchar, of any length.
fn is_plain_text(name: &TypeName) -> bool {
    let names: Vec<&str> = name.names.iter().filter_map(text_of).collect();
    matches!(names.as_slice(), ["pg_catalog", "text" | "varchar"] | ["text"])
        && name.typmods.is_empty()
        && name.array_bounds.is_empty()
}

/// The columns that an expression over one row reads, as `pg_get_expr` writes it; None if that can't be told.
pub(super) fn columns_of_row_expression(relation: &Relation, sql: &str) -> Option<Vec<i16>> {
    let expression = parse_expression(sql).ok()?;
    let mut found = Vec::new();
    for names in expression::references(&expression).ok()? {
        found.push(relation.column(names.last()?)?.number);
    }
    Some(found)
}

/// The column that an expression is, if it is nothing but one.
pub(super) fn plain_column(relation: &Relation, sql: &str) -> Option<i16> {
    let expression = parse_expression(sql).ok()?;
    Some(relation.column(expression::column_name(&expression)?)?.number)
}
