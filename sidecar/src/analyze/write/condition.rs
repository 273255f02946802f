//! WHERE of a write: what the client wrote sees masks only and runs inside the filter only, and what pins a key does so by plain columns.

use std::collections::HashSet;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Target;
use crate::analyze::expression::each_conjunct;
use crate::analyze::harmless::Operand;
use crate::analyze::scope::{Item, ItemId};
use crate::analyze::tree::{self, unsupported};
use crate::analyze::view::without_join;
use crate::analyze::{Analyzer, Place};
use crate::catalog::names;
use crate::decide::{Denial, Reason, builtins};

impl Analyzer<'_> {
    /// WHERE of an UPDATE or DELETE: inside the filter, and not by a masked column unless a key pins the row. Tells
    /// whether a unique key is pinned.
    pub(super) fn write_condition(
        &mut self,
        condition: &mut Option<Box<Node>>,
        target: &Target,
    ) -> Result<bool, Denial> {
        let current_of = matches!(condition.as_deref().map(|c| &c.node), Some(Some(NodeEnum::CurrentOfExpr(_))));
        if current_of && target.filter().is_some() {
            // Nothing can stand beside it, and the row may have left the filter since it was fetched.
            return Err(unsupported(&format!(
                "WHERE CURRENT OF on {}, of which you see some rows only",
                target.name()
            ))
            .hint("Name the row by its key: UPDATE or DELETE … WHERE <key> = <value that the cursor gave>.")
            .object(target.name()));
        }
        let before = self.masked_reads.len();
        if let Some(condition) = condition.as_deref_mut() {
            self.expression(condition, Place { alone: true, ..Place::WHERE })?;
        }
        let pinned = condition.as_deref().is_some_and(|condition| self.pins_key(condition, target.id));
        self.masked_condition(before, pinned || current_of, target)?;
        if let Some(inside) = target.inside() {
            let written = condition.take().map(|condition| *condition);
            *condition = tree::boxed(self.within(target, inside, written, Place::WHERE));
        }
        Ok(pinned || current_of)
    }

    /// Refuses a condition on a masked column of the target that would hit whatever has the same mask.
    pub(super) fn masked_condition(&self, before: usize, pinned: bool, target: &Target) -> Result<(), Denial> {
        let Some((_, number)) = self.masked_reads.iter().skip(before).find(|(id, _)| *id == target.id) else {
            return Ok(());
        };
        if pinned {
            return Ok(());
        }
        let column = target.relation.column_at(*number).map_or("?", |column| &*column.name);
        let name = format!("{}.{column}", target.name());
        Err(Denial::new(
            Reason::MaskedWrite,
            format!("{name} is masked for you: a write by a condition on it would hit every row with the same mask"),
        )
        .hint("Add an equality on a unique key of unmasked columns to the condition.")
        .object(name))
    }

    /// `inside AND <what can't raise, as written> AND CASE WHEN inside THEN <the rest> ELSE false END`: the index of
    /// what stands beside the CASE stays usable.
    pub(super) fn within(&mut self, target: &Target, inside: Node, written: Option<Node>, place: Place) -> Node {
        self.changed = true;
        let first = if self.may_raise { without_join(inside.clone()) } else { inside.clone() };
        let (mut beside, mut rest, mut of_rest) = (vec![first], Vec::new(), tree::Parameters::default());
        let equal_to_late = self.equal_to_late();
        let is_unsteady = target.filter().is_some_and(|filter| self.is_filter_unsteady(target.id, filter));
        let conjuncts = written.map(tree::conjuncts).unwrap_or_default();
        // With no other condition beside it, no guess is answered by whether it is computed.
        let is_alone = place.conjunct && conjuncts.len() == 1;
        for conjunct in conjuncts {
            // What was computed as the plan was made may fail when it is used again.
            // By an equality the server may compare a column with something that may fail.
            let is_tried = self.is_tried_first(&conjunct);
            let unsteady = !is_tried && (self.policy.costly_filters || !place.conjunct) && self.has_unsteady(&conjunct);
            let casts = if self.policy.costly_filters { self.late_casts(&conjunct) } else { Vec::new() };
            let late = !place.conjunct && !casts.is_empty()
                || casts.iter().any(|cast| self.casts_by_settings(cast))
                || self.columns_of_comparison(&conjunct).iter().any(|column| equal_to_late.contains(column))
                || is_unsteady;
            let joined = matches!(&conjunct.node, Some(NodeEnum::SubLink(link)) if self.joined.contains(&link.location)
                && (link.testexpr.is_some() || self.late_equals.is_empty()));
            let is_of_others = place.conjunct && self.is_of_others(&conjunct, target);
            let is_free = is_tried || is_of_others && !late || is_alone && self.compares_with_query(&conjunct);
            let harmless = is_free || ((joined || self.is_harmless(&conjunct)) && !unsteady && !late);
            let parameters = tree::Parameters::of(&conjunct);
            // Where a parameter stands first tells its type.
            if harmless && !of_rest.share(&parameters) {
                beside.push(conjunct);
            } else {
                of_rest.extend(parameters);
                rest.push(conjunct);
            }
        }
        if !rest.is_empty() {
            beside.push(tree::case(inside, tree::and(rest), Some(tree::boolean(false))));
        }
        tree::and(beside)
    }

    /// Whether a condition is tried as other relations than the target are read: it reads columns of theirs, and nothing else.
    fn is_of_others(&self, condition: &Node, target: &Target) -> bool {
        let is_other = |names: &[&str]| {
            let meaning = self.scopes.meaning(names);
            let here = |id: ItemId| id != target.id && self.scopes.depth(id) == self.scopes.levels.len();
            !meaning.uncertain && !meaning.columns.is_empty() && meaning.columns.iter().all(|(id, _)| here(*id))
        };
        let is_else = |node: &NodeEnum| match node {
            NodeEnum::ColumnRef(reference) => !tree::strings(&reference.fields).is_some_and(|names| is_other(&names)),
            NodeEnum::SubLink(_) => true,
            NodeEnum::FuncCall(call) => self.is_volatile(call),
            _ => false,
        };
        tree::holds(condition, &|node| matches!(node, NodeEnum::ColumnRef(_))) && !tree::holds(condition, &is_else)
    }

    /// Whether it is `column = (SELECT …)` of a query that reads nothing from around it, or the like by ANY.
    fn compares_with_query(&self, condition: &Node) -> bool {
        let Some(NodeEnum::AExpr(expr)) = &condition.node else { return false };
        let kinds = [pb::AExprKind::AexprOp, pb::AExprKind::AexprOpAny];
        let is_plain = kinds.iter().any(|kind| *kind as i32 == expr.kind);
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else { return false };
        let Some(NodeEnum::SubLink(link)) = &right.node else { return false };
        let Operand::Column(Some(kind)) = self.operand(left) else { return false };
        let of_query = self.by_themselves.get(&link.location).filter(|_| self.collation(left).is_none());
        tree::is_equality(&expr.name)
            && is_plain
            && of_query.is_some_and(|of_query| builtins::leakproof(self.catalog, "=", kind, *of_query))
    }

    /// Adds conditions to those of a write.
    pub(super) fn only_where(&mut self, condition: &mut Option<Box<Node>>, more: Vec<Node>) {
        if !more.is_empty() {
            let written = condition.take().map(|condition| *condition);
            *condition = tree::boxed(tree::and(written.into_iter().chain(more).collect()));
            self.changed = true;
        }
    }

    /// Whether equalities of the condition pin a unique key of the relation by what is the same for all its rows.
    pub(in crate::analyze) fn pins_key(&self, condition: &Node, id: ItemId) -> bool {
        let Some(item) = self.scopes.get(id).and_then(Item::relation) else { return false };
        let mut pinned = HashSet::new();
        each_conjunct(condition, &mut |conjunct| {
            let Some(NodeEnum::AExpr(expr)) = &conjunct.node else { return };
            let equality = expr.kind == pb::AExprKind::AexprOp as i32 && tree::is_equality(&expr.name);
            let (Some(left), Some(right), true) = (expr.lexpr.as_deref(), expr.rexpr.as_deref(), equality) else {
                return;
            };
            for (column, value) in [(left, right), (right, left)] {
                if let Some(number) = self.column_of(column, id)
                    && !self.mentions(value, id)
                    && !self.varies(value)
                {
                    pinned.insert(number);
                }
            }
        });
        names::at_most_one(&item.relation, &pinned)
    }

    /// Whether an expression that reads no row may be another value for each all the same: `nextval(…)` counts along.
    fn varies(&self, node: &Node) -> bool {
        let any = |nodes: &[Node]| nodes.iter().any(|node| self.varies(node));
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| self.varies(node));
        match &node.node {
            Some(
                NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_) | NodeEnum::ColumnRef(_),
            ) => false,
            Some(NodeEnum::FuncCall(call)) => self.is_volatile(call) || any(&call.args),
            Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
            Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) || optional(&expr.rexpr),
            Some(NodeEnum::CoalesceExpr(coalesce)) => any(&coalesce.args),
            Some(NodeEnum::List(list)) => any(&list.items),
            _ => true,
        }
    }

    /// The unmasked column of the item that a bare reference means.
    pub(super) fn column_of(&self, node: &Node, id: ItemId) -> Option<i16> {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return None };
        let names = tree::strings(&reference.fields)?;
        let meaning = self.scopes.meaning(&names);
        let [(meant, column)] = meaning.columns.as_slice() else { return None };
        let number = column.origins.first().map(|(_, number)| *number)?;
        let view = self.scopes.get(id)?.relation()?.view.as_ref();
        let masked = view.is_some_and(|view| view.columns.contains_key(&number));
        (*meant == id && !meaning.uncertain && !masked).then_some(number)
    }

    /// Whether an expression may read the target's row. Subqueries count as if they did.
    pub(super) fn mentions(&self, node: &Node, id: ItemId) -> bool {
        let any = |nodes: &[Node]| nodes.iter().any(|node| self.mentions(node, id));
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| self.mentions(node, id));
        match &node.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => false,
            Some(NodeEnum::ColumnRef(reference)) => {
                let meaning = tree::strings(&reference.fields).map(|names| self.scopes.meaning(&names));
                meaning.is_none_or(|meaning| {
                    meaning.is_empty()
                        || meaning.uncertain
                        || meaning.columns.iter().any(|(item, _)| *item == id)
                        || meaning.whole.contains(&id)
                        || meaning.system.is_some_and(|(item, _)| item == id)
                })
            }
            Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
            Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) || optional(&expr.rexpr),
            Some(NodeEnum::FuncCall(call)) => any(&call.args),
            Some(NodeEnum::CoalesceExpr(coalesce)) => any(&coalesce.args),
            Some(NodeEnum::List(list)) => any(&list.items),
            _ => true,
        }
    }
}
