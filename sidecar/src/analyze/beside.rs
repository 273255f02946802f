//! What a column behind a row filter is compared with where that is computed of other relations' columns: `at < d + interval '1 day'`.
//!
//! Computing it may fail, which must not happen before the filter, so the comparison would stand behind the barrier and cost the column its
//! index. Instead the value is computed in FROM, once for each row that it is of and whatever rows the filtered relation has:
//! `d CROSS JOIN LATERAL (SELECT d + interval '1 day' AS v OFFSET 0)`. Then a column is compared with a column.
//!
//! It is computed for rows, too, that other conditions leave out. So only sums and casts of times and numbers are, which fail where they are
//! out of range only.

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::expression::{has_parameter, makes_equal};
use super::harmless::Operand;
use super::late::operator_of;
use super::scope::{Item, ItemId, Source};
use super::select::star_of;
use super::time::is_date;
use super::view::fence;
use super::{Analyzer, Receiver, tree, view};
use crate::catalog::RelationKind;
use crate::decide::Denial;

/// Operators by which a column is compared with what is computed.
const COMPARES: [&str; 5] = ["=", "<", "<=", ">", ">="];

impl Analyzer<'_> {
    /// Whether nothing shows all columns of a query's FROM, nor locks its rows, so that something may be computed there.
    pub(super) fn may_compute_beside(&self, select: &pb::SelectStmt) -> bool {
        let is_star = |target: &Node| match &target.node {
            Some(NodeEnum::ResTarget(res)) => {
                res.val.as_deref().and_then(star_of).is_some_and(|names| names.is_empty())
            }
            _ => false,
        };
        self.policy.row_filters
            && select.locking_clause.is_empty()
            && !select.target_list.iter().any(is_star)
            && !select.from_clause.iter().any(merges_or_shows)
    }

    /// Computes what conditions compare with columns of filtered relations, of those of these items and of queries around; what is to
    /// be joined to them.
    pub(super) fn compute_beside(&mut self, condition: &mut Node, of: &[ItemId]) -> Result<Vec<Node>, Denial> {
        let mut computed = Vec::new();
        match &mut condition.node {
            Some(NodeEnum::BoolExpr(bool)) if bool.boolop == pb::BoolExprType::AndExpr as i32 => {
                for argument in &mut bool.args {
                    computed.extend(self.compute_beside(argument, of)?);
                }
            }
            Some(NodeEnum::AExpr(_)) => {
                let equal = makes_equal(condition);
                let Some(NodeEnum::AExpr(expr)) = &mut condition.node else { return Ok(computed) };
                let is_between = expr.kind == pb::AExprKind::AexprBetween as i32;
                if !is_between && !operator_of(expr).is_some_and(|name| COMPARES.contains(&name)) {
                    return Ok(computed);
                }
                let (Some(left), Some(right)) = (expr.lexpr.as_deref_mut(), expr.rexpr.as_deref_mut()) else {
                    return Ok(computed);
                };
                let of_left = self.filtered_here(left).map(|item| (item, self.bare_columns(left)));
                let of_right = self.filtered_here(right).map(|item| (item, self.bare_columns(right)));
                for (column, values) in [(of_left, right), (of_right, left)] {
                    let Some((item, columns)) = column else { continue };
                    let values = match &mut values.node {
                        Some(NodeEnum::List(list)) => list.items.as_mut_slice(),
                        _ => std::slice::from_mut(values),
                    };
                    for value in values.iter_mut().filter(|value| !is_column(value)) {
                        if tree::holds(value, &is_reference) && self.is_sum(value, item, of) {
                            if equal {
                                self.unsteady_equals.extend(&columns);
                            }
                            computed.push(self.computed(value)?);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(computed)
    }

    /// The filtered relation of this level that a reference means a column of which may have an index.
    fn filtered_here(&self, column: &Node) -> Option<ItemId> {
        let Some(NodeEnum::ColumnRef(reference)) = &column.node else { return None };
        let meaning = self.scopes.meaning(&tree::strings(&reference.fields)?);
        let [(id, column)] = meaning.columns.as_slice() else { return None };
        let [(origin, number)] = column.origins.as_slice() else { return None };
        let here = self.scopes.is_here(*id);
        let item = self.scopes.get(*id)?.relation().filter(|item| item.filtered() && !item.write_target)?;
        let is_found = item.relation.kind == RelationKind::View
            || item.relation.indexes.iter().any(|index| index.columns.contains(number));
        (here && origin == id && is_found && !meaning.uncertain).then_some(*id)
    }

    /// Whether a value is a sum of columns, of these items or of queries around but not of this relation, and constants.
    fn is_sum(&self, value: &Node, compared: ItemId, of: &[ItemId]) -> bool {
        match &value.node {
            Some(NodeEnum::AExpr(expr)) => {
                operator_of(expr).is_some_and(|name| ["+", "-"].contains(&name))
                    && expr.lexpr.is_some()
                    && tree::sides(expr).all(|side| self.is_sum(side, compared, of))
            }
            Some(NodeEnum::ColumnRef(reference)) => {
                let meaning = tree::strings(&reference.fields).map(|names| self.scopes.meaning(&names));
                let Some(meaning) = meaning.filter(|meaning| !meaning.uncertain) else { return false };
                let [(id, column)] = meaning.columns.as_slice() else { return false };
                let is_around = !self.scopes.is_here(*id);
                *id != compared && (is_around || of.contains(id)) && column.type_oid.is_some()
            }
            Some(NodeEnum::TypeCast(cast)) if self.is_given(value) => !has_parameter(value) && cast.arg.is_some(),
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(|arg| {
                matches!(self.operand(arg), Operand::Column(Some(kind)) if is_date(kind))
                    && self.cast_type(cast).is_some_and(is_date)
                    && self.is_sum(arg, compared, of)
            }),
            Some(NodeEnum::AConst(_)) => true,
            _ => false,
        }
    }

    /// Has a value computed in FROM, and the column of that in its place.
    fn computed(&mut self, value: &mut Node) -> Result<Node, Denial> {
        let name = self.names.own();
        let written = std::mem::replace(value, tree::column(&name, &name));
        let mut query = view::select(vec![tree::target(&name, written)], Vec::new(), None);
        fence(&mut query);
        let mut query = tree::query(query);
        let mut columns = self.query(&mut query, Receiver::Query)?.columns;
        // It is computed before it is compared.
        columns.iter_mut().for_each(|column| column.stays = true);
        let source = Source::Derived { columns, complete: true };
        self.scopes.add(Item { alias: Some(name.as_str().into()), aliased: true, source });
        self.changed = true;
        Ok(tree::node(NodeEnum::RangeSubselect(Box::new(pb::RangeSubselect {
            lateral: true,
            subquery: tree::boxed(query),
            alias: Some(pb::Alias { aliasname: name, colnames: Vec::new() }),
        }))))
    }
}

/// What is joined, with what was computed of its rows.
pub(super) fn with_computed(joined: Node, computed: Vec<Node>) -> Node {
    computed.into_iter().fold(joined, |joined, computed| {
        tree::node(NodeEnum::JoinExpr(Box::new(pb::JoinExpr {
            jointype: pb::JoinType::JoinInner as i32,
            larg: tree::boxed(joined),
            rarg: tree::boxed(computed),
            ..pb::JoinExpr::default()
        })))
    })
}

fn is_reference(node: &NodeEnum) -> bool {
    matches!(node, NodeEnum::ColumnRef(_))
}

fn is_column(node: &Node) -> bool {
    node.node.as_ref().is_some_and(is_reference)
}

/// Whether columns of a FROM item are merged by name, or shown by an alias of a join.
fn merges_or_shows(item: &Node) -> bool {
    match &item.node {
        Some(NodeEnum::JoinExpr(join)) => {
            join.is_natural
                || join.alias.is_some()
                || [&join.larg, &join.rarg].into_iter().flatten().any(|side| merges_or_shows(side))
        }
        _ => false,
    }
}
