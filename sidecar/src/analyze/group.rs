//! GROUP BY of a primary key. With it the server lets other columns of the table stand by themselves, of which a group has one value
//! each; of a view it does not know that: they join the grouping, or, where their type can't, become an aggregate of that one value.

use std::collections::BTreeSet;
use std::ops::RangeBounds;
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::scope::ItemId;
use super::select::{figure_name, star_of, value_of};
use super::tree::{self, each_child};
use crate::catalog::Oid;
use crate::catalog::names::{PG_CATALOG, types};
use crate::decide::expression::as_row_column;
use crate::decide::{Denial, builtins};

/// The server's own types of which values can't be grouped: json, its arrays, xml, geometry, jsonpath. Arrays of the others are left
/// to the server to refuse.
const WITHOUT_GROUPS: [Oid; 11] = [types::JSON, JSON_ARRAY, 142, 600, 601, 602, 603, 604, 628, 718, 4072];
const JSON_ARRAY: Oid = 199;

type Columns = BTreeSet<(ItemId, i16)>;
type JoinSets = dyn Fn(&Columns, &Columns) -> Columns;

/// A relation of which the key is grouped by.
struct Grouped {
    id: ItemId,
    alias: String,
    /// The names of used columns that can't be grouped by, with their types.
    apart: Vec<(String, Oid)>,
    /// Whether no column keeps its row from being grouped by.
    is_row_grouped: bool,
}

impl Analyzer<'_> {
    /// `GROUP BY c.id` with other columns of `c` selected is legal where `id` is the primary key of a table, but not of a
    /// subquery: what is used of it joins the grouping, which it depends on anyway.
    pub(super) fn group_by_key(&mut self, select: &mut pb::SelectStmt) -> Result<(), Denial> {
        let (groups, targets) = (&select.group_clause, &select.target_list);
        let of_all = groups.iter().flat_map(|node| self.grouped_in_sets(node, targets, &|one, other| one & other));
        let always: Columns = of_all.collect();
        let of_any = groups.iter().flat_map(|node| self.grouped_in_sets(node, targets, &|one, other| one | other));
        // In a set that has it not it is NULL.
        let grouped: Columns = of_any.collect();
        let items = self.scopes.levels.last().map(|level| level.items.clone()).unwrap_or_default();
        for id in items {
            let Some(item) = self.scopes.get(id) else { continue };
            let (Some(alias), Some(relation)) = (item.alias.clone(), item.relation().filter(|r| r.replaced())) else {
                continue;
            };
            let Some(key) = relation.relation.indexes.iter().find(|index| index.primary) else { continue };
            if !key.columns.iter().all(|number| always.contains(&(id, *number))) {
                continue;
            }
            let kind = |number: i16| relation.relation.column_at(number).map_or(0, |column| column.type_oid);
            let missing = relation.visible().filter(|(number, _)| {
                (relation.whole || relation.used.contains(number)) && !grouped.contains(&(id, *number))
            });
            let (joining, apart): (Vec<_>, Vec<_>) =
                missing.partition(|(number, _)| self.can_be_grouped(kind(*number)));
            let names = joining.iter().map(|(_, name)| &***name).chain(relation.system_columns.iter().copied());
            select.group_clause.extend(names.map(|name| tree::column(&alias, name)));
            let apart = apart.iter().map(|(number, name)| (name.to_string(), self.catalog.base_type(kind(*number))));
            let apart: Vec<_> = apart.collect();
            let is_row_grouped = relation.visible().all(|(number, _)| self.can_be_grouped(kind(number)));
            if apart.is_empty() && !relation.as_row {
                continue;
            }
            self.aggregate(select, &Grouped { id, alias: alias.to_string(), apart, is_row_grouped });
        }
        Ok(())
    }

    /// Servers before 18 take a column that a condition makes equal to something for sorted by, though grouping sets make it NULL in
    /// some of their rows (fixed by "Mark expressions nullable by grouping sets"). The client wrote no such condition where a filter is
    /// one: there it says the same as a range, which keeps its index.
    pub(super) fn keep_groups_apart(&mut self, range: impl RangeBounds<usize>, items: &[ItemId]) {
        let catalog = self.catalog;
        if catalog.server_version >= 180_000 || !self.policy.row_filters {
            return;
        }
        for relation in self.relations_below(range, items) {
            let of = relation.relation.clone();
            let has_order = |name: &str| {
                let kind = of.column(name).map_or(0, |column| catalog.base_type(column.type_oid));
                builtins::leakproof(catalog, "<=", kind, kind)
            };
            let Some(view) = &mut relation.view else { continue };
            if let Some(filter) = &mut Arc::make_mut(view).filter {
                let conjuncts = tree::conjuncts(std::mem::take(&mut filter.expression)).into_iter();
                filter.expression = tree::and(conjuncts.map(|conjunct| as_range(conjunct, &has_order)).collect());
            }
        }
    }

    /// The columns that a member of GROUP BY groups by: of its sets, put together by this, of which ROLLUP and CUBE have one of nothing.
    fn grouped_in_sets(&self, node: &Node, targets: &[Node], join: &JoinSets) -> Columns {
        let all = |nodes: &[Node]| -> Columns {
            nodes.iter().flat_map(|part| self.grouped_in_sets(part, targets, join)).collect()
        };
        match &self.grouped(node, targets).node {
            Some(NodeEnum::ColumnRef(reference)) => {
                let names = tree::strings(&reference.fields).unwrap_or_default();
                let meant = self.scopes.meaning(&names).columns.into_iter();
                meant.flat_map(|(id, column)| column.origins.into_iter().filter(move |(of, _)| *of == id)).collect()
            }
            // `(a, b)` stands for its parts.
            Some(NodeEnum::RowExpr(row)) if row.row_format == pb::CoercionForm::CoerceImplicitCast as i32 => {
                all(&row.args)
            }
            Some(NodeEnum::GroupingSet(set)) => match pb::GroupingSetKind::try_from(set.kind) {
                Ok(pb::GroupingSetKind::GroupingSetSets) => {
                    let each = set.content.iter().map(|set| self.grouped_in_sets(set, targets, join));
                    each.reduce(|one, other| join(&one, &other)).unwrap_or_default()
                }
                Ok(pb::GroupingSetKind::GroupingSetRollup | pb::GroupingSetKind::GroupingSetCube) => {
                    join(&all(&set.content), &Columns::new())
                }
                _ => Columns::new(),
            },
            _ => Columns::new(),
        }
    }

    /// Whether a type has the equality that GROUP BY takes; of types that aren't the server's own it is taken for granted.
    fn can_be_grouped(&self, kind: Oid) -> bool {
        !WITHOUT_GROUPS.contains(&self.catalog.base_type(kind))
    }

    /// Has what depends on the key, and can't be grouped by, aggregated where it stands by itself.
    fn aggregate(&mut self, select: &mut pb::SelectStmt, grouped: &Grouped) {
        if !grouped.apart.is_empty() {
            self.write_out_star_of(select, grouped);
        }
        let mut reads_row = false;
        for target in &mut select.target_list {
            let Some(NodeEnum::ResTarget(target)) = &mut target.node else { continue };
            let Some(value) = target.val.as_deref_mut().filter(|value| star_of(value).is_none()) else { continue };
            let name = figure_name(value);
            reads_row |= self.aggregate_in(value, grouped);
            if target.name.is_empty() && figure_name(value) != name {
                target.name = name.unwrap_or_else(|| "?column?".to_owned());
            }
        }
        for having in select.having_clause.as_deref_mut().into_iter().chain(&mut select.window_clause) {
            reads_row |= self.aggregate_in(having, grouped);
        }
        for sort in &mut select.sort_clause {
            // By a name it sorts by an output column.
            if let Some(NodeEnum::SortBy(sort)) = &mut sort.node
                && let Some(value) = sort.node.as_deref_mut()
            {
                reads_row |= self.aggregate_in(value, grouped);
            }
        }
        if reads_row && grouped.is_row_grouped {
            // Of a type that isn't the server's own it may be found to have no order.
            self.may_raise = true;
            select.group_clause.push(tree::row_of(&grouped.alias));
        }
        self.changed = true;
    }

    /// `target.*` as its columns, of which some stand for themselves no more.
    fn write_out_star_of(&self, select: &mut pb::SelectStmt, grouped: &Grouped) {
        let is_star = |target: &Node| {
            let names = value_of(target).and_then(star_of);
            names.is_some_and(|names| {
                self.scopes.star(&names.iter().map(|name| &**name).collect::<Vec<_>>()) == [grouped.id]
            })
        };
        let columns = self.scopes.columns_of(grouped.id).0;
        let each = || columns.iter().filter_map(|column| column.name.as_deref());
        let written = std::mem::take(&mut select.target_list).into_iter().flat_map(|target| {
            if is_star(&target) {
                each().map(|name| tree::target("", tree::column(&grouped.alias, name))).collect()
            } else {
                vec![target]
            }
        });
        select.target_list = written.collect();
    }

    /// The same in an expression, apart from aggregates and subqueries. Tells whether it reads the row as a value.
    fn aggregate_in(&self, node: &mut Node, grouped: &Grouped) -> bool {
        match &mut node.node {
            Some(NodeEnum::ColumnRef(reference)) => {
                let names = tree::strings(&reference.fields).unwrap_or_default();
                let is_column = |(id, _): &(ItemId, _)| *id == grouped.id;
                let is_meant = self.scopes.meaning(&names).columns.iter().any(is_column);
                let of_column = names.last().and_then(|name| grouped.apart.iter().find(|(of, _)| of == name));
                if let Some((_, kind)) = of_column.filter(|_| is_meant && star_of(node).is_none()) {
                    *node = one_of(tree::take(node), *kind);
                    return false;
                }
                let is_row = self.whole_row(node) == Some(grouped.id);
                if is_row && !grouped.is_row_grouped {
                    *node = one_of(tree::row_of(&grouped.alias), types::RECORD);
                }
                is_row
            }
            Some(NodeEnum::FuncCall(call)) if self.calls_aggregate(call) => false,
            Some(
                NodeEnum::SubLink(_)
                | NodeEnum::GroupingFunc(_)
                | NodeEnum::JsonObjectAgg(_)
                | NodeEnum::JsonArrayAgg(_),
            )
            | None => false,
            Some(inner) => {
                let mut reads_row = false;
                let is_record = matches!(inner, NodeEnum::RowExpr(_));
                // Only its own errors could end the walk.
                let _walked = each_child(inner, &mut |child| {
                    // In a record the star is one field for each column.
                    if !(is_record && star_of(child).is_some()) {
                        reads_row |= self.aggregate_in(child, grouped);
                    }
                    Ok(())
                });
                reads_row
            }
        }
    }

    /// What is grouped by: an ordinal or the name of an output column, which no column in FROM has, stands for its
    /// expression.
    fn grouped<'n>(&self, node: &'n Node, targets: &'n [Node]) -> &'n Node {
        let meant = match &node.node {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                Some(pb::a_const::Val::Ival(ordinal)) => {
                    let index = usize::try_from(ordinal.ival).unwrap_or(0).wrapping_sub(1);
                    // Behind a star it is not the index here.
                    let before = targets.get(..=index).unwrap_or_default();
                    let is_star = |target: &Node| value_of(target).is_some_and(|value| star_of(value).is_some());
                    if before.iter().any(is_star) { None } else { before.last().and_then(value_of) }
                }
                _ => None,
            },
            Some(NodeEnum::ColumnRef(reference)) => match tree::strings(&reference.fields).as_deref() {
                Some([name]) if self.scopes.meaning(&[name]).columns.is_empty() => targets
                    .iter()
                    .find(|target| matches!(&target.node, Some(NodeEnum::ResTarget(res)) if res.name == *name))
                    .and_then(value_of),
                _ => None,
            },
            _ => None,
        };
        meant.unwrap_or(node)
    }
}

/// An equality with a column of such a name as a range.
fn as_range(condition: Node, has_order: &dyn Fn(&str) -> bool) -> Node {
    match &condition.node {
        Some(NodeEnum::AExpr(expr)) if is_ordered_equality(expr, has_order) => {
            let by = |operator: &str| {
                let name = vec![tree::string(PG_CATALOG), tree::string(operator)];
                tree::node(NodeEnum::AExpr(Box::new(pb::AExpr { name, ..pb::AExpr::clone(expr) })))
            };
            tree::and(vec![by(">="), by("<=")])
        }
        _ => condition,
    }
}

fn is_ordered_equality(expr: &pb::AExpr, has_order: &dyn Fn(&str) -> bool) -> bool {
    let mut columns = tree::sides(expr).filter_map(as_row_column);
    expr.kind == pb::AExprKind::AexprOp as i32
        && tree::is_equality(&expr.name)
        && columns.next().is_some_and(has_order)
        && columns.all(has_order)
}

/// The one value that a group has of something, of this type.
fn one_of(value: Node, kind: Oid) -> Node {
    if matches!(kind, types::JSON | JSON_ARRAY) {
        // Texts are compared one by one, an array would hold all.
        let text = tree::cast_to(value, "text", false);
        return tree::cast_to(tree::call("min", vec![text]), "json", kind == JSON_ARRAY);
    }
    let first = pb::AIndices { is_slice: false, lidx: None, uidx: tree::boxed(tree::number(1)) };
    tree::node(NodeEnum::AIndirection(Box::new(pb::AIndirection {
        arg: tree::boxed(tree::call("array_agg", vec![value])),
        indirection: vec![tree::node(NodeEnum::AIndices(Box::new(first)))],
    })))
}
