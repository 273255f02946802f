//! INSERT, UPDATE, DELETE and MERGE: the target of a write can't become a view, so what is read of it is replaced column
//! by column, and what is stored in it is guarded as it runs.
//!
//! **Promise.** Nothing that the client's expressions read of the target is a raw value of a masked column or of a row
//! outside the filter. Storing a masked column's own mask keeps what is there. A row version outside the filter is not
//! written.

use std::collections::HashSet;
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::{MaskKind, Verb};

use super::cascade::Change;
use super::expression::{each_conjunct, parts};
use super::harmless::Operand;
use super::schemas::Names;
use super::scope::{Column, Item, ItemId, RelationItem, Scope, Source};
use super::select::{Output, figure_name, star_of};
use super::stored::Stored;
use super::tree::{self, unsupported};
use super::utility::plain_column;
use super::view::{fence, select, without_join};
use super::{Analyzer, MASKED_WRITE_MARKER, MaskedUse, Place, ROW_FILTER_MARKER, Receiver};
use crate::catalog::names::quote_name;
use crate::catalog::view_columns::ViewColumn;
use crate::catalog::{self, Oid, Relation, RelationKind, Type, names};
use crate::decide::bound::{BoundMask, ColumnView, RelationView, RowFilter};
use crate::decide::expression::{instantiate, instantiate_with};
use crate::decide::{Denial, Reason, builtins};

/// The target of a write.
#[derive(Clone)]
pub(super) struct Target {
    id: ItemId,
    pub(super) relation: Arc<Relation>,
    view: Option<Arc<RelationView>>,
    /// Where its rows are stored.
    pub(super) stored: Arc<[Stored]>,
    pub(super) alias: Arc<str>,
    aliased: bool,
}

impl Target {
    pub(super) fn filter(&self) -> Option<&RowFilter> {
        self.view.as_ref()?.filter.as_ref()
    }

    /// The condition that a row of the target is inside the filter.
    fn inside(&self) -> Option<Node> {
        self.filter().map(|filter| instantiate(&filter.expression, &self.alias))
    }

    /// Whether the row filter reads this column.
    fn filters_by(&self, number: i16) -> bool {
        self.filter().is_some_and(|filter| filter.columns.contains(&number))
    }

    fn mask(&self, number: i16) -> Option<&Arc<BoundMask>> {
        match self.view.as_ref()?.columns.get(&number)? {
            ColumnView::Masked(mask) => Some(mask),
            ColumnView::Hidden => None,
        }
    }

    fn hides(&self, number: i16) -> bool {
        self.view.as_ref().is_some_and(|view| view.hides(number))
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.relation.schema, self.relation.name)
    }

    /// A name of the proxy's own for what stands beside the target in FROM.
    pub(super) fn other_than_alias(&self, name: &str) -> String {
        if *self.alias == *name { format!("{name}_") } else { name.to_owned() }
    }

    /// Columns whose raw value the identity does not see.
    pub(super) fn secret(&self) -> impl Iterator<Item = i16> {
        self.view.iter().flat_map(|view| view.columns.keys().copied())
    }
}

impl Analyzer<'_> {
    /// Walks a write; what it gives is its RETURNING.
    pub(crate) fn write(&mut self, node: &mut Node) -> Result<Output, Denial> {
        self.out.writes = true;
        if self.scopes.levels.is_empty() {
            self.names = Names::in_statement(node);
        }
        let depth = self.scopes.levels.len();
        self.scopes.levels.push(Scope::default());
        let guarded = self.guarded;
        let output = match &mut node.node {
            Some(NodeEnum::InsertStmt(insert)) => self.insert(insert),
            Some(NodeEnum::UpdateStmt(update)) => self.update(update),
            Some(NodeEnum::DeleteStmt(delete)) => self.delete(delete),
            Some(NodeEnum::MergeStmt(merge)) => self.merge(merge),
            _ => Err(unsupported("a write of this kind")),
        };
        self.guarded = guarded;
        self.scopes.levels.truncate(depth);
        output
    }

    /// Decides the verb on the target and notes how it is seen.
    fn target_of(&mut self, range: &mut pb::RangeVar, verb: Verb) -> Result<Target, Denial> {
        let relation = self.relation_at(range)?;
        if relation.system && !relation.temporary {
            let name = format!("{}.{}", relation.schema, relation.name);
            return Err(Denial::new(Reason::Forbidden, format!("{name} is a catalog relation and can't be written"))
                .object(name));
        }
        let (view, _) = self.reads(&relation, verb)?;
        let aliased = range.alias.is_some();
        let alias = self.name_in_text(range, view.is_none());
        self.guarded |= view.as_ref().is_some_and(|view| !view.columns.is_empty());
        if let Some(filter) = view.as_ref().and_then(|view| view.filter.as_ref()) {
            self.out.row_filter_rule = Some(Arc::from(filter.rule.as_str()));
        }
        let stored = self.stored_in(&relation).into();
        Ok(Target { id: usize::MAX, relation, view, stored, alias, aliased })
    }

    /// Puts the target among the items that names can mean.
    fn add_target(&mut self, target: &mut Target) {
        target.id = self.scopes.add(self.target_item(target, target.alias.clone(), target.aliased));
    }

    fn target_item(&self, target: &Target, alias: Arc<str>, aliased: bool) -> Item {
        Item {
            alias: Some(alias),
            aliased,
            source: Source::Relation(RelationItem {
                relation: target.relation.clone(),
                view: target.view.clone(),
                system_view: None,
                write_target: true,
                column_aliases: Vec::new(),
                used: Default::default(),
                compared: Default::default(),
                barrier: Default::default(),
                fenced: false,
                left_out: false,
                system_columns: Default::default(),
                system_barrier: false,
                whole: false,
                as_row: false,
                natural: false,
                pushed: Vec::new(),
            }),
        }
    }

    /// A write that reads its target needs Select too, as in Postgres.
    fn may_read(&mut self, target: &Target) -> Result<(), Denial> {
        let read = self
            .scopes
            .get(target.id)
            .and_then(|item| item.relation())
            .is_some_and(|relation| !relation.used.is_empty());
        if read && !target.relation.temporary {
            let grant = self.grant(&target.relation, Verb::Select)?;
            self.out.limits = self.out.limits.and(grant.limits);
            self.out.verbs.insert(Verb::Select);
        }
        Ok(())
    }

    fn update(&mut self, update: &mut pb::UpdateStmt) -> Result<Output, Denial> {
        self.with_clause(&mut update.with_clause)?;
        let range = update.relation.as_mut().ok_or_else(|| unsupported("UPDATE"))?;
        let mut target = self.target_of(range, Verb::Update)?;
        self.add_target(&mut target);
        for item in &mut update.from_clause {
            self.table_item(item)?;
        }
        let pinned = self.write_condition(&mut update.where_clause, &target)?;
        self.assignments(&mut update.target_list, &target)?;
        let output = self.returning(&mut update.returning_clause, &target)?;
        self.may_read(&target)?;
        self.out.at_most_one_row = pinned && update.from_clause.is_empty();
        let inside = self.keys_inside(&update.target_list, &target)?;
        self.only_where(&mut update.where_clause, inside);
        Ok(output)
    }

    fn delete(&mut self, delete: &mut pb::DeleteStmt) -> Result<Output, Denial> {
        self.with_clause(&mut delete.with_clause)?;
        let range = delete.relation.as_mut().ok_or_else(|| unsupported("DELETE"))?;
        let mut target = self.target_of(range, Verb::Delete)?;
        self.add_target(&mut target);
        for item in &mut delete.using_clause {
            self.table_item(item)?;
        }
        let pinned = self.write_condition(&mut delete.where_clause, &target)?;
        let output = self.returning(&mut delete.returning_clause, &target)?;
        self.may_read(&target)?;
        self.out.at_most_one_row = pinned && delete.using_clause.is_empty();
        let inside = self.dependants_inside(&target, &Change::Delete)?;
        self.only_where(&mut delete.where_clause, inside);
        Ok(output)
    }

    /// WHERE of an UPDATE or DELETE: inside the filter, and not by a masked column unless a key pins the row. Tells
    /// whether a unique key is pinned.
    fn write_condition(&mut self, condition: &mut Option<Box<Node>>, target: &Target) -> Result<bool, Denial> {
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
            self.expression(condition, Place::WHERE)?;
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
    fn masked_condition(&self, before: usize, pinned: bool, target: &Target) -> Result<(), Denial> {
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
    fn within(&mut self, target: &Target, inside: Node, written: Option<Node>, place: Place) -> Node {
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
    fn only_where(&mut self, condition: &mut Option<Box<Node>>, more: Vec<Node>) {
        if !more.is_empty() {
            let written = condition.take().map(|condition| *condition);
            *condition = tree::boxed(tree::and(written.into_iter().chain(more).collect()));
            self.changed = true;
        }
    }

    /// Whether equalities of the condition pin a unique key of the relation by what is the same for all its rows.
    pub(super) fn pins_key(&self, condition: &Node, id: ItemId) -> bool {
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
    fn column_of(&self, node: &Node, id: ItemId) -> Option<i16> {
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
    fn mentions(&self, node: &Node, id: ItemId) -> bool {
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

    /// SET of an UPDATE, of ON CONFLICT DO UPDATE or of MERGE.
    fn assignments(&mut self, list: &mut [Node], target: &Target) -> Result<(), Denial> {
        for node in list.iter_mut() {
            self.split_row(node)?;
        }
        let assigned: Vec<i16> = list.iter().filter_map(|node| self.assigned_column(node, target)).collect();
        let mut rest = &mut *list;
        while let Some(first) = rest.first() {
            let row = row_part(first).map(|part| usize::try_from(part.ncolumns).unwrap_or(1));
            let (group, after) = rest.split_at_mut(row.unwrap_or(1).clamp(1, rest.len()));
            rest = after;
            match group {
                [Node { node: Some(NodeEnum::ResTarget(res)) }] if row.is_none() => {
                    self.assignment(res, target, &assigned)?;
                }
                group => self.row_assignment(group, target, &assigned)?,
            }
        }
        if let Some(filter) = target.filter()
            && filter.columns.iter().any(|number| assigned.contains(number))
        {
            self.check_new_row(list, target, filter)?;
        }
        Ok(())
    }

    pub(super) fn assigned_column(&self, node: &Node, target: &Target) -> Option<i16> {
        match &node.node {
            Some(NodeEnum::ResTarget(res)) => target.relation.column(&res.name).map(|column| column.number),
            _ => None,
        }
    }

    /// `(a, b) = (1, 2)` becomes two assignments.
    fn split_row(&mut self, node: &mut Node) -> Result<(), Denial> {
        let value = row_part(node).and_then(|part| match &part.source.as_deref()?.node {
            Some(NodeEnum::RowExpr(row)) => row.args.get(usize::try_from(part.colno).ok()?.checked_sub(1)?).cloned(),
            _ => None,
        });
        let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("SET")) };
        if let Some(value) = value {
            res.val = tree::boxed(value);
            self.changed = true;
        }
        Ok(())
    }

    /// `(a, b) = (SELECT …)`: where a column needs a guard, the subquery goes through one that guards its row.
    fn row_assignment(&mut self, group: &mut [Node], target: &Target, assigned: &[i16]) -> Result<(), Denial> {
        let mut columns = Vec::with_capacity(group.len());
        for node in &mut *group {
            let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("SET")) };
            for step in &mut res.indirection {
                self.expression(step, Place { leaky: true, ..Place::default() })?;
            }
            let column = target.relation.column(&res.name).filter(|column| !target.hides(column.number));
            if column.is_none() && (target.view.is_some() || target.relation.column(&res.name).is_some()) {
                return Err(no_column(target, &res.name));
            }
            columns.push((column.cloned(), res.indirection.is_empty()));
        }
        // Each assignment has a copy of the one source.
        let source = group.first().and_then(row_part).and_then(|part| part.source.as_deref());
        let Some(mut source) = source.cloned() else { return Err(unsupported("SET")) };
        let before = self.masked_reads.len();
        self.expression(&mut source, Place::ASSIGNED)?;
        let reads_masks = self.masked_reads.len() > before;

        let alias = &*target.other_than_alias("postern_row");
        let mut values = Vec::with_capacity(columns.len());
        let mut guarded = false;
        for (index, (column, whole)) in columns.iter().enumerate() {
            let new = tree::column(alias, &format!("c{index}"));
            let Some(column) = column else {
                values.push(tree::target("", new));
                continue;
            };
            let name = || format!("{}.{}", target.name(), column.name);
            let in_filter = target.filters_by(column.number) || self.feeds_filter(target, column.number);
            let mask = target.mask(column.number).cloned();
            if in_filter || (mask.is_some() && (reads_masks || !whole)) {
                return Err(Denial::new(
                    Reason::MaskedWrite,
                    format!("{} is masked or filtered for you: a subquery can't assign it beside others so", name()),
                )
                .hint("Write an assignment of its own for it.")
                .object(name()));
            }
            let value = match mask {
                Some(mask) => self.keep_stored(new, column, &mask, target)?,
                None if self.shares_check(target, column.number, assigned) => {
                    self.unchanged_or_raise(new, column, target)?
                }
                None => {
                    values.push(tree::target("", new));
                    continue;
                }
            };
            guarded = true;
            values.push(tree::target("", value));
        }
        if guarded {
            let Some(NodeEnum::SubLink(link)) = &mut source.node else { return Err(unsupported("SET")) };
            let Some(query) = link.subselect.take() else { return Err(unsupported("SET")) };
            let row = select(values, vec![one_row_of(*query, alias, columns.len())], None);
            source = tree::subquery(pb::SubLinkType::ExprSublink, row);
        }
        for node in group {
            if let Some(NodeEnum::ResTarget(res)) = &mut node.node
                && let Some(NodeEnum::MultiAssignRef(multi)) = res.val.as_deref_mut().and_then(|v| v.node.as_mut())
            {
                multi.source = tree::boxed(source.clone());
            }
        }
        Ok(())
    }

    fn assignment(&mut self, res: &mut pb::ResTarget, target: &Target, assigned: &[i16]) -> Result<(), Denial> {
        let Some(column) = target.relation.column(&res.name).filter(|column| !target.hides(column.number)).cloned()
        else {
            if target.view.is_some() || target.relation.column(&res.name).is_some() {
                return Err(no_column(target, &res.name));
            }
            // The server says that the column does not exist.
            for node in res.indirection.iter_mut().chain(res.val.as_deref_mut()) {
                self.expression(node, Place { leaky: true, ..Place::default() })?;
            }
            return Ok(());
        };
        let place = Place::ASSIGNED;
        let feeds_filter = self.feeds_filter(target, column.number);
        let in_filter = feeds_filter || target.filters_by(column.number);
        if !res.indirection.is_empty() {
            if target.mask(column.number).is_some() || in_filter {
                return Err(Denial::new(
                    Reason::MaskedWrite,
                    format!(
                        "{}.{} is masked or filtered for you: a part of it can't be assigned",
                        target.name(),
                        column.name
                    ),
                ));
            }
            for step in &mut res.indirection {
                self.expression(step, place)?;
            }
        }
        let Some(value) = res.val.as_deref_mut() else { return Err(unsupported("SET without a value")) };
        let is_default = matches!(value.node, Some(NodeEnum::SetToDefault(_)));
        if is_default {
            let is_free = target.mask(column.number).is_some() || !self.shares_check(target, column.number, assigned);
            if !in_filter && is_free {
                return Ok(());
            }
            *value = self.default_of(target, &column)?;
            self.changed = true;
        }
        let is_itself = self.means(value, target, column.number);
        let as_itself = self.reads_as_itself(value, target, column.number);
        let before = self.masked_reads.len();
        // A default is its owner's.
        if !is_default {
            self.expression(value, place)?;
        }
        let reads: Vec<(ItemId, i16)> = self.masked_reads.iter().skip(before).copied().collect();
        if let Some(filter) = target.filter().filter(|_| feeds_filter && !is_itself) {
            // Whether a masked value changes would tell what it is.
            if target.mask(column.number).is_some() || self.shares_check(target, column.number, assigned) {
                return Err(filter_denial(
                    target,
                    &column.name,
                    "through a generated column, and it can't be compared",
                ));
            }
            let outside = raise(ROW_FILTER_MARKER, &filter.rule);
            let new = tree::take(value);
            *value = self.unchanged_or(outside, new, &column, target)?;
        } else if let Some(mask) = target.mask(column.number).cloned() {
            let only_itself = as_itself && reads.iter().all(|read| *read == (target.id, column.number));
            if !reads.is_empty() && !only_itself {
                let name = format!("{}.{}", target.name(), column.name);
                return Err(Denial::new(
                    Reason::MaskedWrite,
                    format!("{name} is masked for you: what is stored in it can't be computed from a mask"),
                )
                .hint("Assign a value, or the column itself.")
                .object(name));
            }
            let new = tree::take(value);
            *value = match is_itself {
                true => tree::column(&target.alias, &column.name),
                false => self.keep_stored(new, &column, &mask, target)?,
            };
        } else if self.shares_check(target, column.number, assigned) {
            let new = tree::take(value);
            *value = self.unchanged_or_raise(new, &column, target)?;
        }
        Ok(())
    }

    /// Whether an expression is nothing but this column of the target.
    fn means(&self, node: &Node, target: &Target, number: i16) -> bool {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return false };
        let meaning = self.scopes.meaning(&tree::strings(&reference.fields).unwrap_or_default());
        matches!(meaning.columns.as_slice(), [(id, column)] if *id == target.id
            && column.origins.iter().any(|(_, origin)| *origin == number))
    }

    /// Whether an expression reads a masked column of the target only as itself: bare, or as a result of COALESCE,
    /// NULLIF or CASE.
    fn reads_as_itself(&self, node: &Node, target: &Target, number: i16) -> bool {
        match &node.node {
            Some(NodeEnum::ColumnRef(_)) => self.means(node, target, number) || !self.mentions(node, target.id),
            Some(NodeEnum::CoalesceExpr(coalesce)) => {
                coalesce.args.iter().all(|arg| self.reads_as_itself(arg, target, number))
            }
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_none_or(|arg| !self.mentions(arg, target.id)),
            Some(NodeEnum::AExpr(expr)) if expr.kind == pb::AExprKind::AexprNullif as i32 => {
                expr.lexpr.as_deref().is_none_or(|left| self.reads_as_itself(left, target, number))
                    && expr.rexpr.as_deref().is_none_or(|right| !self.mentions(right, target.id))
            }
            Some(NodeEnum::CaseExpr(case)) => {
                let results = case.args.iter().filter_map(|when| match &when.node {
                    Some(NodeEnum::CaseWhen(when)) => when.result.as_deref(),
                    _ => None,
                });
                results.chain(case.defresult.as_deref()).all(|result| self.reads_as_itself(result, target, number))
            }
            _ => !self.mentions(node, target.id),
        }
    }

    /// Storing a column's own mask keeps what is there.
    fn keep_stored(
        &mut self,
        new: Node,
        column: &catalog::Column,
        mask: &BoundMask,
        target: &Target,
    ) -> Result<Node, Denial> {
        self.changed = true;
        let name = format!("{}.{}", target.name(), column.name);
        if mask.constant {
            self.notice(
                MaskedUse::Save,
                &name,
                format!("{name} is masked ({}): storing the mask keeps the stored value", mask.kind.as_str()),
            );
        }
        let stored = tree::column(&target.alias, &column.name);
        let masked = instantiate(&mask.expression, &target.alias);
        let new = tree::cast(new, &column.type_sql)?;
        self.evaluated_once(new, target, |new| {
            let same = self.same_value(new.clone(), masked, column);
            if matches!(mask.kind, MaskKind::Hash { .. }) {
                // Any other value would be a guess whose hash comes back.
                return tree::case(tree::or(vec![same, raise(MASKED_WRITE_MARKER, &name)]), stored, None);
            }
            tree::case(same, stored, Some(new))
        })
    }

    /// A column that shares a CHECK with a masked one may not be changed: the error would answer questions about it.
    fn unchanged_or_raise(&mut self, new: Node, column: &catalog::Column, target: &Target) -> Result<Node, Denial> {
        let name = format!("{}.{}", target.name(), column.name);
        self.unchanged_or(raise(MASKED_WRITE_MARKER, &name), new, column, target)
    }

    /// A value that is stored if it is what the column holds, or else if a condition holds.
    fn unchanged_or(
        &mut self,
        condition: Node,
        new: Node,
        column: &catalog::Column,
        target: &Target,
    ) -> Result<Node, Denial> {
        self.changed = true;
        let stored = tree::column(&target.alias, &column.name);
        let new = tree::cast(new, &column.type_sql)?;
        self.evaluated_once(new, target, |new| {
            let same = self.same_value(new.clone(), stored, column);
            tree::case(tree::or(vec![same, condition]), new, None)
        })
    }

    /// Builds on a value that must be computed once: one that calls functions goes through a subquery.
    fn evaluated_once(&self, value: Node, target: &Target, build: impl FnOnce(Node) -> Node) -> Result<Node, Denial> {
        let alias = target.other_than_alias("postern_new");
        if self.is_fixed(&value, None) {
            return Ok(build(value));
        }
        let mut inner = select(vec![tree::target("v", value)], Vec::new(), None);
        // It must not be merged into what reads it twice.
        fence(&mut inner);
        let derived = tree::derived(tree::query(inner), &alias, Vec::new());
        let outer = select(vec![tree::target("", build(tree::column(&alias, "v")))], vec![derived], None);
        Ok(tree::subquery(pb::SubLinkType::ExprSublink, outer))
    }

    /// `a IS NOT DISTINCT FROM b` by the type's `=`, else as text.
    pub(super) fn same_value(&self, a: Node, b: Node, column: &catalog::Column) -> Node {
        let comparable = self.catalog.types.get(&column.type_oid).is_some_and(|kind| {
            let base = if kind.base != 0 { self.catalog.types.get(&kind.base).unwrap_or(kind) } else { kind };
            base.schema.as_ref() == "pg_catalog"
                && !matches!(
                    &*base.name,
                    "json"
                        | "xml"
                        | "point"
                        | "polygon"
                        | "box"
                        | "circle"
                        | "path"
                        | "line"
                        | "lseg"
                        | "_json"
                        | "_xml"
                        | "refcursor"
                )
                || base.kind == 'e'
        });
        let (a, b) = if comparable { (a, b) } else { (as_text(a), as_text(b)) };
        tree::node(NodeEnum::AExpr(Box::new(pb::AExpr {
            kind: pb::AExprKind::AexprNotDistinct as i32,
            name: vec![tree::string("=")],
            lexpr: tree::boxed(a),
            rexpr: tree::boxed(b),
            rexpr_list_start: 0,
            rexpr_list_end: 0,
            location: -1,
        })))
    }

    /// The filter's columns are assigned only if the new row is inside it.
    fn check_new_row(&mut self, list: &mut [Node], target: &Target, filter: &RowFilter) -> Result<(), Denial> {
        let mut new = Vec::new();
        for number in &filter.columns {
            let Some(column) = target.relation.column_at(*number) else { continue };
            let value = list.iter().find_map(|node| match &node.node {
                Some(NodeEnum::ResTarget(res)) if *res.name == *column.name => res.val.as_deref().cloned(),
                _ => None,
            });
            if let Some(value) = value {
                new.push((column.clone(), value));
            }
        }
        let Some((column, value)) = self.checked(new, target, filter, &|name| tree::column(&target.alias, name))?
        else {
            return Ok(());
        };
        for node in list {
            if let Some(NodeEnum::ResTarget(res)) = &mut node.node
                && *res.name == *column.name
            {
                res.val = tree::boxed(value);
                self.changed = true;
                return Ok(());
            }
        }
        Err(unsupported("SET"))
    }

    /// What is stored in one of the filter's columns: its new value if the row with the new values is inside, else an
    /// error. The other values are stored as they are, so that only what can't change in between is checked among them; the
    /// one that has to be computed is the one that is stored so, and is computed once.
    fn checked(
        &self,
        new: Vec<(catalog::Column, Node)>,
        target: &Target,
        filter: &RowFilter,
        other: &dyn Fn(&str) -> Node,
    ) -> Result<Option<(catalog::Column, Node)>, Denial> {
        // What is computed of a subquery's column, the server may compute again where it is stored.
        let computed: Vec<usize> = (0..)
            .zip(&new)
            .filter(|(_, (column, value))| !self.is_fixed(value, column.known_type()))
            .map(|(at, _)| at)
            .collect();
        let is_same = |at: &usize| new.get(*at).is_some_and(|(_, value)| self.is_same_throughout(value));
        let once = match computed.as_slice() {
            [] => None,
            [one] => Some(*one),
            // Each gives the same wherever it is computed, as nothing happens in between.
            several if !self.changes_state && several.iter().all(is_same) => None,
            [_, second, ..] => {
                let name = new.get(*second).map_or("?", |(column, _)| &*column.name);
                return Err(filter_denial(target, name, "only one value that is computed can be checked against it"));
            }
        };
        let Some((column, value)) = new.get(once.unwrap_or(0)).cloned() else { return Ok(None) };
        if once.is_some() && !self.calls_only_steady(&value) {
            let why = "only what is the same at each call can be checked against it";
            return Err(filter_denial(target, &column.name, why));
        }
        let alias = target.other_than_alias("postern_new");
        let mut computed_first = Vec::new();
        let mut values: Vec<(Arc<str>, Node)> = Vec::new();
        for (at, (column, value)) in new.into_iter().enumerate() {
            let value = match once {
                // Within the subquery a name of the client's could mean one of its columns: none stands beside them.
                Some(once) => {
                    // By a setting that changes in between a time is another as it is stored.
                    let by_settings = self.changes_state && super::time::differ(column.known_type(), None);
                    let is_written = at != once || by_settings;
                    let first = if is_written { tree::cast(value, &column.type_sql)? } else { value };
                    computed_first.push(tree::target("", first));
                    tree::column(&alias, &format!("c{at}"))
                }
                None => value,
            };
            values.push((column.name.clone(), tree::cast(value, &column.type_sql)?));
        }
        let inside = instantiate_with(&filter.expression, &mut |name| {
            let given = values.iter().find(|(column, _)| &**column == name).map(|(_, value)| value.clone());
            given.unwrap_or_else(|| other(name))
        });
        let check = tree::or(vec![inside, raise(ROW_FILTER_MARKER, &filter.rule)]);
        let Some(once) = once else {
            let stored = tree::cast(value, &self.bare_type(&column))?;
            return Ok(Some((column, tree::case(check, stored, None))));
        };
        let width = computed_first.len();
        let mut inner = select(computed_first, Vec::new(), None);
        fence(&mut inner);
        // It is stored as what it is, for the server to say whether its type fits.
        let stored = tree::case(check, tree::column(&alias, &format!("c{once}")), None);
        let outer = select(vec![tree::target("", stored)], vec![one_row_of(tree::query(inner), &alias, width)], None);
        Ok(Some((column, tree::subquery(pb::SubLinkType::ExprSublink, outer))))
    }

    /// What is stored in a filter's column to which an INSERT or UPDATE gives no value, if that can be known: NULL, or what its default
    /// gives, which calls nothing that may give something else at each call.
    fn default_of(&self, target: &Target, column: &catalog::Column) -> Result<Node, Denial> {
        let stored = self.stored_column(&target.relation, column);
        let column = stored.as_ref().unwrap_or(column);
        let is_plain = column.generated.is_none()
            && column.identity.is_none()
            && (column.default.is_some() || target.relation.kind != RelationKind::View || stored.is_some());
        let default = is_plain.then(|| as_stored(column.default.as_deref().unwrap_or("NULL"))).flatten();
        default.filter(|default| is_pure(default) || self.calls_only_steady(default)).ok_or_else(|| {
            let name = format!("{}.{}", target.name(), column.name);
            if column.generated.is_some() {
                let message =
                    format!("the row filter reads {name}, which is generated, so that a new row can't be checked");
                return Denial::new(Reason::RowFilter, message).object(name);
            }
            Denial::new(
                Reason::RowFilter,
                format!("the default of {name} can't be checked: it is computed anew for each row"),
            )
            .hint("Give it a value.")
            .object(name)
        })
    }

    /// The column of a table whose default is taken for a view's column that has none of its own.
    fn stored_column(&self, view: &Relation, column: &catalog::Column) -> Option<catalog::Column> {
        if view.kind != RelationKind::View || column.default.is_some() {
            return None;
        }
        let is_view = |oid: &Oid| self.catalog.relations.get(oid).is_none_or(|of| of.kind == RelationKind::View);
        // A view between them may have a default of its own.
        if view.depends_on.iter().any(|(oid, _)| is_view(oid)) {
            return None;
        }
        match self.view_column(view, column.number) {
            ViewColumn::Of(oid, number) => self.catalog.relations.get(&oid)?.column_at(number).cloned(),
            ViewColumn::Apart | ViewColumn::Computed => None,
        }
    }

    /// Those defaults of a filter's columns that a row has to be given: what is computed, so that what is stored is what was
    /// checked; and one in any case, so that there is a value to check.
    fn missing_defaults(
        &self,
        given: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<Vec<(catalog::Column, Node)>, Denial> {
        let is_given = |number: i16| given.iter().any(|column| column.number == number);
        let mut none_given = !filter.columns.iter().any(|number| is_given(*number));
        let mut missing = Vec::new();
        for column in filter.columns.iter().filter_map(|number| target.relation.column_at(*number)) {
            if is_given(column.number) {
                continue;
            }
            let value = self.default_of(target, column)?;
            if !is_pure(&value) || std::mem::take(&mut none_given) {
                missing.push((column.clone(), value));
            }
        }
        Ok(missing)
    }

    /// Gives an INSERT of values the defaults that it has to have. Tells of which columns.
    fn give_defaults(
        &self,
        insert: &mut pb::InsertStmt,
        columns: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<Vec<catalog::Column>, Denial> {
        if matches!(rows_of(insert), Rows::Query) {
            // check_query adds what is to be.
            return Ok(Vec::new());
        }
        let missing = self.missing_defaults(columns, target, filter)?;
        if !missing.is_empty() && matches!(rows_of(insert), Rows::Default) {
            let row = tree::node(NodeEnum::List(pb::List { items: Vec::new() }));
            let values = pb::SelectStmt { values_lists: vec![row], ..select(Vec::new(), Vec::new(), None) };
            insert.select_stmt = tree::boxed(tree::query(values));
        }
        let mut added = Vec::with_capacity(missing.len());
        for (column, value) in missing {
            let Rows::Values(lists) = rows_of(insert) else { return Err(unsupported("INSERT")) };
            for list in lists.iter_mut() {
                let Some(NodeEnum::List(row)) = &mut list.node else { return Err(unsupported("VALUES")) };
                row.items.push(value.clone());
            }
            insert.cols.push(insert_column(&column.name));
            added.push(column);
        }
        Ok(added)
    }

    /// Whether computing a value twice for a row gives the same. Where a setting may change in between, a cast to the type of the column
    /// that it is for, or one within it, may not.
    fn is_fixed(&self, value: &Node, column: Option<Oid>) -> bool {
        if self.changes_state && self.is_passing(column, value) {
            return false;
        }
        is_pure(value) && !self.reads_computed(value) && !self.casts_unsteadily(value)
    }

    /// Whether a value is the same wherever in a statement it is computed that calls nothing volatile: of constants, settings and the
    /// clock that stands still. A subquery may lock, sample, or read in another order.
    fn is_same_throughout(&self, value: &Node) -> bool {
        const STANDING: [&str; 4] = ["current_setting", "now", "transaction_timestamp", "statement_timestamp"];
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_none_or(|node| self.is_same_throughout(node));
        match &value.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
            Some(NodeEnum::ColumnRef(_)) => !self.reads_computed(value),
            Some(NodeEnum::TypeCast(cast)) => self.is_steady_cast(cast) && optional(&cast.arg),
            Some(NodeEnum::AExpr(expr)) => tree::operands(expr).all(|side| self.is_same_throughout(side)),
            Some(NodeEnum::FuncCall(call)) => {
                // Others may look at what the statement, or another session, changes meanwhile.
                (self.is_immutable(call) || self.is_own(call, &STANDING))
                    && call.over.is_none()
                    && call.args.iter().all(|argument| self.is_same_throughout(argument))
            }
            _ => parts(value).is_some_and(|parts| parts.iter().all(|part| self.is_same_throughout(part))),
        }
    }

    fn casts_unsteadily(&self, value: &Node) -> bool {
        tree::holds(value, &|node| matches!(node, NodeEnum::TypeCast(cast) if !self.is_steady_cast(cast)))
    }

    /// Whether a cast gives the same each time: it looks no name up in the catalogs, as those to `regclass` and its like do, where
    /// another session may have changed it, and calls nothing of the database's own that may give something else.
    fn is_steady_cast(&self, cast: &pb::TypeCast) -> bool {
        let (path, overlay) = (&self.session.search_path, &self.session.overlay);
        let kind = cast.type_name.as_ref().and_then(|name| self.catalog.resolve_type_name(path, overlay, name));
        let Some(kind) = kind else { return false };
        let base = self.catalog.element_type(kind.oid).unwrap_or(kind.oid);
        let base = self.catalog.base_type(base);
        let is_name = |kind: &Type| &*kind.schema == "pg_catalog" && kind.name.starts_with("reg");
        let by_functions = self.catalog.user_casts.iter().filter(|((_, to), _)| *to == kind.oid || *to == base);
        let mut functions = by_functions.map(|(_, function)| self.catalog.function(*function));
        self.catalog.types.get(&base).is_some_and(|base| base.kind != 'c' && !is_name(base))
            && functions.all(|function| function.is_some_and(|function| function.volatility == 'i'))
    }

    /// Whether an expression names a column that the server computes where it is read.
    fn reads_computed(&self, value: &Node) -> bool {
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| self.reads_computed(node));
        match &value.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => false,
            Some(NodeEnum::ColumnRef(reference)) => {
                let columns = tree::strings(&reference.fields).map(|names| self.scopes.meaning(&names).columns);
                columns
                    .is_none_or(|columns| columns.is_empty() || columns.iter().any(|(_, column)| self.computes(column)))
            }
            Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
            Some(NodeEnum::AExpr(expr)) => tree::operands(expr).any(|side| self.reads_computed(side)),
            _ => parts(value).is_none_or(|parts| parts.iter().any(|part| self.reads_computed(part))),
        }
    }

    /// Whether an expression calls nothing that may give something else at each call, or any number of rows: what does not read the
    /// row is computed once for all rows of a statement.
    fn calls_only_steady(&self, value: &Node) -> bool {
        !tree::holds(value, &|node| match node {
            NodeEnum::FuncCall(call) => !self.is_steady_call(call),
            NodeEnum::SetToDefault(_) | NodeEnum::MultiAssignRef(_) => true,
            _ => false,
        })
    }

    /// RETURNING: what is masked is returned masked, `*` is written out where not all of the target is shown as it is.
    fn returning(&mut self, returning: &mut Option<pb::ReturningClause>, target: &Target) -> Result<Output, Denial> {
        let Some(returning) = returning else {
            self.out.returns_rows = false;
            return Ok(Output::default());
        };
        self.out.returns_rows = true;
        let guarded = self.is_guarded_target(target.id);
        self.old_and_new(returning, target);
        let set_by_trigger = if guarded { self.set_by_triggers(target) } else { HashSet::new() };
        if guarded {
            self.write_out_star(returning)?;
        }
        let mut output = Output { columns: Vec::new(), complete: true };
        for node in &mut returning.exprs {
            let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("RETURNING")) };
            let Some(value) = res.val.as_deref_mut() else { return Err(unsupported("RETURNING")) };
            let name = if res.name.is_empty() { figure_name(value) } else { Some(res.name.clone()) };
            let was_column = matches!(value.node, Some(NodeEnum::ColumnRef(_)));
            output.complete &= star_of(value).is_none();
            let before = self.scopes.get(target.id).and_then(|item| item.relation()).map(|r| r.used.clone());
            let type_oid = self.expression(value, Place { leaky: false, ..Place::ASSIGNED })?;
            if !set_by_trigger.is_empty() {
                let after = self.scopes.get(target.id).and_then(|item| item.relation()).map(|r| r.used.clone());
                let alone = was_column
                    && self.column_of(value, target.id).is_some_and(|number| set_by_trigger.contains(&number));
                let reads_set = after.iter().flatten().any(|number| {
                    set_by_trigger.contains(number) && !before.as_ref().is_some_and(|before| before.contains(number))
                });
                if alone {
                    let column = self.column_of(value, target.id).and_then(|number| target.relation.column_at(number));
                    let type_sql =
                        column.map_or_else(|| "pg_catalog.text".to_owned(), |column| column.type_sql.to_string());
                    *value = tree::parse_expression(&format!("NULL::{type_sql}"))?;
                    self.changed = true;
                } else if reads_set {
                    return Err(Denial::new(
                        Reason::MaskedWrite,
                        format!(
                            "a trigger of {} may set a column that RETURNING computes with from a masked one",
                            target.name()
                        ),
                    )
                    .hint("Return the columns themselves, or read the row with SELECT."));
                }
            }
            // What stands for a masked column has no name, or another; also within a CASE or under a COLLATE.
            if res.name.is_empty() && figure_name(value) != name {
                res.name = name.clone().unwrap_or_else(|| "?column?".to_owned());
            }
            // A query around reads what was returned, as it is.
            output.columns.push(Column { name: name.map(Arc::from), type_oid, stays: true, ..Column::default() });
        }
        Ok(output)
    }

    /// RETURNING knows the row before and after the write by these names (since Postgres 18).
    fn old_and_new(&mut self, returning: &pb::ReturningClause, target: &Target) {
        let mut names = vec!["old".to_owned(), "new".to_owned()];
        for option in &returning.options {
            if let Some(NodeEnum::ReturningOption(option)) = &option.node {
                names.push(option.value.clone());
            }
        }
        // They stand a level further out: a bare column is the target's.
        let mut level = Scope::default();
        for name in names {
            if self.scopes.star(&[&name]).is_empty() {
                let id = self.scopes.push(self.target_item(target, Arc::from(name), true));
                level.items.push(id);
                self.before_and_after.push(id);
            }
        }
        let at = self.scopes.levels.len().saturating_sub(1);
        self.scopes.levels.insert(at, level);
    }

    fn write_out_star(&mut self, returning: &mut pb::ReturningClause) -> Result<(), Denial> {
        let mut written = Vec::new();
        for node in std::mem::take(&mut returning.exprs) {
            let star = match &node.node {
                Some(NodeEnum::ResTarget(res)) => res.val.as_deref().and_then(star_of),
                _ => None,
            };
            let Some(names) = star else {
                written.push(node);
                continue;
            };
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            for id in self.scopes.star(&names) {
                let Some(alias) = self.scopes.get(id).and_then(|item| item.alias.clone()) else {
                    return Err(unsupported("RETURNING * with an unnamed subquery"));
                };
                let (columns, complete) = self.scopes.columns_of(id);
                if !complete || (self.merged_columns && names.is_empty()) {
                    return Err(unsupported("RETURNING * beside what has unknown columns"));
                }
                for column in columns {
                    let name = column.name.as_deref().unwrap_or("?column?");
                    written.push(tree::target(name, tree::column(&alias, name)));
                }
            }
            self.changed = true;
        }
        returning.exprs = written;
        Ok(())
    }

    fn insert(&mut self, insert: &mut pb::InsertStmt) -> Result<Output, Denial> {
        self.with_clause(&mut insert.with_clause)?;
        let range = insert.relation.as_mut().ok_or_else(|| unsupported("INSERT"))?;
        let mut target = self.target_of(range, Verb::Insert)?;
        let mut at_most_one = insert.select_stmt.is_none();
        if let Some(source) = insert.select_stmt.as_deref_mut() {
            at_most_one = matches!(&source.node, Some(NodeEnum::SelectStmt(select)) if select.values_lists.len() == 1);
            let output = self.query(source, Receiver::Query)?;
            self.insert_columns(insert, &target, &output)?;
        }
        self.check_insert(insert, &target)?;
        self.add_target(&mut target);
        if let Some(conflict) = insert.on_conflict_clause.as_deref_mut() {
            self.on_conflict(conflict, &mut target)?;
        }
        let output = self.returning(&mut insert.returning_clause, &target)?;
        self.may_read(&target)?;
        self.out.at_most_one_row = at_most_one;
        Ok(output)
    }

    /// The column list that an INSERT must have: without one, values would shift into hidden columns.
    fn insert_columns(&mut self, insert: &mut pb::InsertStmt, target: &Target, source: &Output) -> Result<(), Denial> {
        if !insert.cols.is_empty() || target.view.is_none() {
            return Ok(());
        }
        let width = match insert.select_stmt.as_deref().and_then(|source| source.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) if !select.values_lists.is_empty() => source.columns.len(),
            _ if source.complete => source.columns.len(),
            _ => usize::MAX,
        };
        let visible = target.relation.columns.iter().filter(|column| !target.hides(column.number));
        insert.cols = visible.take(width).map(|column| insert_column(&column.name)).collect();
        self.changed = true;
        Ok(())
    }

    /// What an INSERT stores: no value of his own in a hashed column, no row outside the filter.
    fn check_insert(&mut self, insert: &mut pb::InsertStmt, target: &Target) -> Result<(), Denial> {
        if target.view.is_none() {
            for column in &mut insert.cols {
                if let Some(NodeEnum::ResTarget(res)) = &mut column.node {
                    for step in &mut res.indirection {
                        self.expression(step, Place::default())?;
                    }
                }
            }
            return Ok(());
        }
        let mut columns: Vec<catalog::Column> = Vec::new();
        for node in &insert.cols {
            let Some(NodeEnum::ResTarget(res)) = &node.node else { return Err(unsupported("INSERT")) };
            if !res.indirection.is_empty() {
                return Err(unsupported("a part of a column in an INSERT into a masked or filtered relation"));
            }
            let column = target.relation.column(&res.name).filter(|column| !target.hides(column.number));
            columns.push(column.ok_or_else(|| no_column(target, &res.name))?.clone());
        }
        let rows = rows_of(insert);
        for (index, column) in columns.iter().enumerate() {
            let hashed = target.mask(column.number).is_some_and(|mask| matches!(mask.kind, MaskKind::Hash { .. }));
            if hashed && !rows.is_default(index) {
                return Err(no_own_hash(target, &column.name));
            }
        }
        let Some(filter) = target.filter() else { return Ok(()) };
        columns.extend(self.give_defaults(insert, &columns, target, filter)?);
        match rows_of(insert) {
            Rows::Values(lists) => {
                for list in lists.iter_mut() {
                    let Some(NodeEnum::List(row)) = &mut list.node else { return Err(unsupported("VALUES")) };
                    self.check_values(&mut row.items, &columns, target, filter)?;
                }
                self.changed = true;
                Ok(())
            }
            Rows::Default => {
                Err(filter_denial(target, filter_column(target, filter), "give it a value inside the filter"))
            }
            Rows::Query => self.check_query(insert, &columns, target, filter),
        }
    }

    /// One row of VALUES: the first value of a filter's column is stored only if the row is inside.
    fn check_values(
        &mut self,
        values: &mut [Node],
        columns: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<(), Denial> {
        let mut new = Vec::new();
        let mut defaults: Vec<(Arc<str>, Node)> = Vec::new();
        for number in &filter.columns {
            let Some(column) = target.relation.column_at(*number) else { continue };
            let index = columns.iter().position(|given| given.number == *number);
            match index.and_then(|index| values.get_mut(index)) {
                Some(value) => {
                    // What is stored is what is checked.
                    if matches!(value.node, Some(NodeEnum::SetToDefault(_))) {
                        *value = self.default_of(target, column)?;
                    }
                    new.push((column.clone(), value.clone()));
                }
                None => {
                    let default = tree::cast(self.default_of(target, column)?, &column.type_sql)?;
                    defaults.push((column.name.clone(), default));
                }
            }
        }
        let checked = self.checked(new, target, filter, &|name| {
            let default = defaults.iter().find(|(column, _)| &**column == name).map(|(_, value)| value.clone());
            default.unwrap_or_else(|| tree::parse_expression("NULL").unwrap_or_default())
        })?;
        let place = checked.and_then(|(column, checked)| {
            let index = columns.iter().position(|given| given.number == column.number)?;
            Some((values.get_mut(index)?, checked))
        });
        let Some((value, checked)) = place else {
            return Err(filter_denial(target, filter_column(target, filter), "give it a value inside the filter"));
        };
        *value = checked;
        self.changed = true;
        Ok(())
    }

    /// INSERT … SELECT: the rows go through a subquery that checks each.
    fn check_query(
        &mut self,
        insert: &mut pb::InsertStmt,
        columns: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<(), Denial> {
        let alias = "postern_new";
        // What the query does not give is stored as its default, which is a constant; what it gives, as the column's type
        // has it (2.6 as 3).
        let mut defaults: Vec<(Arc<str>, Node)> = Vec::new();
        let mut stored: Vec<(Arc<str>, Node)> = Vec::new();
        let mut computed: Vec<(Arc<str>, Node)> = Vec::new();
        for number in &filter.columns {
            let Some(column) = target.relation.column_at(*number) else { continue };
            if columns.iter().any(|given| given.number == *number) {
                let value = tree::cast(tree::column(alias, &column.name), &column.type_sql)?;
                stored.push((column.name.clone(), value));
            } else {
                let default = self.default_of(target, column)?;
                // What is computed is stored as it was checked, which it is where nothing in the query changes it.
                let is_constant = is_pure(&default);
                if !is_constant && self.changes_state {
                    let why = "its default may be another for each row of the query";
                    return Err(filter_denial(target, &column.name, why)
                        .hint("Give the column in the query, as what its default says."));
                }
                let default = tree::cast(default, &column.type_sql)?;
                if !is_constant {
                    computed.push((column.name.clone(), default.clone()));
                }
                defaults.push((column.name.clone(), default));
            }
        }
        let Some(mut source) = insert.select_stmt.take() else { return Ok(()) };
        self.give_types(&mut source, columns)?;
        // What is checked is stored: the query is not merged into what reads its columns for both.
        if let Some(NodeEnum::SelectStmt(query)) = &mut source.node
            && query.limit_count.is_none()
            && query.limit_offset.is_none()
        {
            fence(query);
        }
        let mut inside = Some(tree::or(vec![
            instantiate_with(&filter.expression, &mut |name| {
                let value = defaults.iter().chain(&stored).find(|(column, _)| &**column == name);
                value.map_or_else(|| tree::column(alias, name), |(_, value)| value.clone())
            }),
            raise(ROW_FILTER_MARKER, &filter.rule),
        ]));
        let mut targets = Vec::new();
        for column in columns {
            // It is stored as what it is, for the server to say whether its type fits.
            let mut value = tree::column(alias, &column.name);
            if filter.columns.contains(&column.number)
                && let Some(inside) = inside.take()
            {
                value = tree::case(inside, value, None);
            }
            targets.push(tree::target(&column.name, value));
        }
        if computed.is_empty() && inside.is_some() {
            computed.extend(defaults.first().cloned());
        }
        for (name, default) in computed {
            let default = match inside.take() {
                Some(inside) => tree::case(inside, default, None),
                None => default,
            };
            insert.cols.push(insert_column(&name));
            targets.push(tree::target(&name, default));
        }
        let names = columns.iter().map(|column| tree::string(&*column.name)).collect();
        let derived = tree::derived(*source, alias, names);
        insert.select_stmt = tree::boxed(tree::query(select(targets, vec![derived], None)));
        self.changed = true;
        Ok(())
    }

    /// In the query of an INSERT a literal or parameter without a type becomes of its column's; in a subquery it would
    /// become text.
    fn give_types(&self, source: &mut Node, columns: &[catalog::Column]) -> Result<(), Denial> {
        let Some(NodeEnum::SelectStmt(query)) = &mut source.node else { return Ok(()) };
        let width = query.target_list.len();
        let is_star = |node: &Node| matches!(&node.node, Some(NodeEnum::ResTarget(res)) if res.val.as_deref().is_some_and(|value| star_of(value).is_some()));
        let first_star = query.target_list.iter().position(is_star).unwrap_or(width);
        let after_last_star = query.target_list.iter().rposition(is_star).map_or(0, |last| last + 1);
        let compared: Vec<Node> =
            [&query.group_clause, &query.sort_clause, &query.distinct_clause].into_iter().flatten().cloned().collect();
        for (index, node) in query.target_list.iter_mut().enumerate() {
            let column = if index < first_star {
                columns.get(index)
            } else if index >= after_last_star {
                columns.len().checked_sub(width - index).and_then(|index| columns.get(index))
            } else {
                None
            };
            let Some(NodeEnum::ResTarget(res)) = &mut node.node else { continue };
            if let (Some(column), Some(value)) = (column, res.val.as_deref_mut())
                && self.has_no_type(value)
                && !compared.iter().any(|by| is_output(by, index, &res.name))
            {
                // A parameter is read as a value of the very type.
                let is_literal = matches!(value.node, Some(NodeEnum::AConst(_)));
                let kind = if is_literal { self.bare_type(column) } else { self.own_type(column) };
                *value = tree::cast(tree::take(value), &kind)?;
            }
        }
        Ok(())
    }

    /// Whether it is a literal in quotes, NULL, or a parameter to which neither the client nor a cast gives a type.
    fn has_no_type(&self, value: &Node) -> bool {
        match &value.node {
            Some(NodeEnum::AConst(constant)) => {
                constant.isnull || matches!(constant.val, Some(pb::a_const::Val::Sval(_)))
            }
            Some(NodeEnum::ParamRef(parameter)) => !self.parameters.is_declared(parameter.number),
            _ => false,
        }
    }

    /// A column's type without its modifier: an explicit cast with one would cut what does not fit.
    fn bare_type(&self, column: &catalog::Column) -> String {
        // A domain over a string may have one of its own.
        let base = self.catalog.types.get(&self.catalog.base_type(column.type_oid));
        match base.filter(|kind| matches!(kind.category, 'S' | 'V')) {
            Some(base) => name_of_type(base),
            None => self.own_type(column),
        }
    }

    fn own_type(&self, column: &catalog::Column) -> String {
        self.catalog.types.get(&column.type_oid).map_or_else(|| column.type_sql.to_string(), name_of_type)
    }

    fn on_conflict(&mut self, conflict: &mut pb::OnConflictClause, target: &mut Target) -> Result<(), Denial> {
        if let Some(infer) = conflict.infer.as_deref_mut() {
            for node in &infer.index_elems {
                let Some(NodeEnum::IndexElem(element)) = &node.node else { return Err(unsupported("ON CONFLICT")) };
                let column = target.relation.column(&element.name);
                if column.is_some_and(|column| target.hides(column.number)) {
                    return Err(no_column(target, &element.name));
                }
                // The arbiter must stay as the index has it; a copy is walked for what it calls.
                if let Some(expression) = element.expr.as_deref() {
                    self.expression(&mut expression.clone(), Place::default())?;
                }
            }
            if let Some(condition) = infer.where_clause.as_deref() {
                self.expression(&mut condition.clone(), Place::default())?;
            }
        }
        if conflict.action != pb::OnConflictAction::OnconflictUpdate as i32 {
            return Ok(());
        }
        let grant = match target.relation.temporary {
            true => None,
            false => Some(self.grant(&target.relation, Verb::Update)?),
        };
        if let Some(grant) = grant {
            self.record(&target.relation.clone(), &grant, Verb::Update);
        }
        // The row that was to be inserted: the client's own values.
        let columns = target.relation.columns.iter().filter(|column| !target.hides(column.number)).map(plain_column);
        let columns = columns.map(|column| Column { stays: true, ..column }).collect();
        let excluded = Item {
            alias: Some(Arc::from("excluded")),
            aliased: true,
            source: Source::Derived { columns, complete: true },
        };
        let mut level = Scope::default();
        level.items.push(self.scopes.push(excluded));
        let at = self.scopes.levels.len().saturating_sub(1);
        self.scopes.levels.insert(at, level);
        self.assignments(&mut conflict.target_list, target)?;
        if let Some(condition) = conflict.where_clause.as_deref_mut() {
            self.expression(condition, Place::CONDITION)?;
        }
        if let Some(inside) = target.inside() {
            let written = conflict.where_clause.take().map(|condition| *condition);
            conflict.where_clause = tree::boxed(self.within(target, inside, written, Place::CONDITION));
        }
        let inside = self.keys_inside(&conflict.target_list, target)?;
        self.only_where(&mut conflict.where_clause, inside);
        self.scopes.levels.remove(at);
        Ok(())
    }

    fn merge(&mut self, merge: &mut pb::MergeStmt) -> Result<Output, Denial> {
        self.with_clause(&mut merge.with_clause)?;
        let range = merge.relation.as_mut().ok_or_else(|| unsupported("MERGE"))?;
        let verbs: Vec<Verb> = merge.merge_when_clauses.iter().filter_map(merge_verb).collect();
        let first = verbs.first().copied().unwrap_or(Verb::Select);
        let mut target = self.target_of(range, first)?;
        if !target.relation.temporary {
            for verb in verbs.iter().skip(1) {
                let grant = self.grant(&target.relation, *verb)?;
                self.record(&target.relation.clone(), &grant, *verb);
            }
        }
        let source = merge.source_relation.as_deref_mut().ok_or_else(|| unsupported("MERGE"))?;
        self.table_item(source)?;
        self.add_target(&mut target);
        let before = self.masked_reads.len();
        if let Some(condition) = merge.join_condition.as_deref_mut() {
            self.expression(condition, Place::CONDITION)?;
        }
        let pinned = merge.join_condition.as_deref().is_some_and(|condition| self.pins_key(condition, target.id));
        self.masked_condition(before, pinned, &target)?;
        if let Some(inside) = target.inside() {
            let written = merge.join_condition.take().map(|condition| *condition);
            merge.join_condition = tree::boxed(self.within(&target, inside, written, Place::CONDITION));
        }
        for node in &mut merge.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = &mut node.node else { return Err(unsupported("MERGE")) };
            self.merge_when(when, &target, pinned)?;
        }
        let output = self.returning(&mut merge.returning_clause, &target)?;
        self.may_read(&target)?;
        if verbs.contains(&Verb::Delete) && !self.dependants_inside(&target, &Change::Delete)?.is_empty() {
            return Err(Denial::new(
                Reason::RowFilter,
                format!("MERGE can't delete from {}: rows of a filtered relation depend on it", target.name()),
            )
            .hint("Use DELETE."));
        }
        Ok(output)
    }

    fn merge_when(&mut self, when: &mut pb::MergeWhenClause, target: &Target, pinned: bool) -> Result<(), Denial> {
        let by_source = when.match_kind == pb::MergeMatchKind::MergeWhenNotMatchedBySource as i32;
        let before = self.masked_reads.len();
        if let Some(condition) = when.condition.as_deref_mut() {
            self.expression(condition, Place::CONDITION)?;
        }
        self.masked_condition(before, pinned && !by_source, target)?;
        if by_source && let Some(inside) = target.inside() {
            let written = when.condition.take().map(|condition| *condition);
            when.condition = tree::boxed(self.within(target, inside, written, Place::CONDITION));
        }
        match pb::CmdType::try_from(when.command_type) {
            Ok(pb::CmdType::CmdUpdate) => {
                self.assignments(&mut when.target_list, target)?;
                let inside = self.keys_inside(&when.target_list, target)?;
                self.only_where(&mut when.condition, inside);
                Ok(())
            }
            Ok(pb::CmdType::CmdDelete | pb::CmdType::CmdNothing) => Ok(()),
            Ok(pb::CmdType::CmdInsert) => {
                for value in &mut when.values {
                    self.expression(value, Place { leaky: true, ..Place::default() })?;
                }
                if target.view.is_none() {
                    return Ok(());
                }
                if when.target_list.is_empty() {
                    let visible = target.relation.columns.iter().filter(|column| !target.hides(column.number));
                    when.target_list = visible.take(when.values.len()).map(|c| insert_column(&c.name)).collect();
                    self.changed = true;
                }
                let mut columns = Vec::new();
                for (index, node) in when.target_list.iter().enumerate() {
                    let Some(NodeEnum::ResTarget(res)) = &node.node else { return Err(unsupported("MERGE")) };
                    let column = target.relation.column(&res.name).filter(|column| !target.hides(column.number));
                    let column = column.ok_or_else(|| no_column(target, &res.name))?.clone();
                    let given =
                        !matches!(when.values.get(index).map(|v| &v.node), Some(Some(NodeEnum::SetToDefault(_))));
                    if given
                        && target.mask(column.number).is_some_and(|mask| matches!(mask.kind, MaskKind::Hash { .. }))
                    {
                        return Err(no_own_hash(target, &column.name));
                    }
                    columns.push(column);
                }
                let Some(filter) = target.filter() else { return Ok(()) };
                for (column, value) in self.missing_defaults(&columns, target, filter)? {
                    when.target_list.push(insert_column(&column.name));
                    when.values.push(value);
                    columns.push(column);
                }
                self.check_values(&mut when.values, &columns, target, filter)
            }
            _ => Err(unsupported("MERGE")),
        }
    }
}

fn name_of_type(kind: &catalog::Type) -> String {
    // What is written for these is read as types of one character; a value of the other is assigned as it is.
    match (&*kind.schema, &*kind.name) {
        ("pg_catalog", "bpchar") => return "pg_catalog.text".to_owned(),
        ("pg_catalog", "bit") => return "pg_catalog.varbit".to_owned(),
        _ => {}
    }
    format!("{}.{}", quote_name(&kind.schema), quote_name(&kind.name))
}

/// Where the rows of an INSERT come from.
enum Rows<'r> {
    Default,
    Values(&'r mut Vec<Node>),
    Query,
}

impl Rows<'_> {
    /// Whether every row gives DEFAULT for the column at this place.
    fn is_default(&self, index: usize) -> bool {
        match self {
            Rows::Default => true,
            Rows::Query => false,
            Rows::Values(lists) => lists.iter().all(|list| match &list.node {
                Some(NodeEnum::List(row)) => {
                    row.items.get(index).is_none_or(|value| matches!(value.node, Some(NodeEnum::SetToDefault(_))))
                }
                _ => false,
            }),
        }
    }
}

fn merge_verb(node: &Node) -> Option<Verb> {
    let Some(NodeEnum::MergeWhenClause(when)) = &node.node else { return None };
    match pb::CmdType::try_from(when.command_type) {
        Ok(pb::CmdType::CmdUpdate) => Some(Verb::Update),
        Ok(pb::CmdType::CmdInsert) => Some(Verb::Insert),
        Ok(pb::CmdType::CmdDelete) => Some(Verb::Delete),
        _ => None,
    }
}

fn insert_column(name: &str) -> Node {
    tree::node(NodeEnum::ResTarget(Box::new(pb::ResTarget {
        name: name.to_owned(),
        indirection: Vec::new(),
        val: None,
        location: -1,
    })))
}

fn no_own_hash(target: &Target, column: &str) -> Denial {
    let name = format!("{}.{column}", target.name());
    Denial::new(
        Reason::MaskedWrite,
        format!("{name} is shown to you as a hash: you can't store values of your own in it"),
    )
    .hint("Leave the column out.")
    .object(name)
}

fn no_column(target: &Target, column: &str) -> Denial {
    Denial::new(
        Reason::UnknownColumn,
        format!("column \"{column}\" of relation \"{}\" does not exist", target.relation.name),
    )
    .sqlstate("42703")
    .object(format!("{}.{column}", target.name()))
}

fn filter_column<'t>(target: &'t Target, filter: &RowFilter) -> &'t str {
    let number = filter.columns.first().copied().unwrap_or(0);
    target.relation.column_at(number).map_or("?", |column| &column.name)
}

fn filter_denial(target: &Target, column: &str, why: &str) -> Denial {
    let name = format!("{}.{column}", target.name());
    let rule = target.filter().map(|filter| filter.rule.clone());
    let mut denial =
        Denial::new(Reason::RowFilter, format!("the row filter of {} reads {column}: {why}", target.name()))
            .object(name);
    denial.rule = rule;
    denial
}

/// Whether computing the value twice gives the same: no function, no subquery.
fn is_pure(node: &Node) -> bool {
    let optional = |node: &Option<Box<Node>>| node.as_deref().is_none_or(is_pure);
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::ColumnRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
        Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) && optional(&expr.rexpr),
        Some(NodeEnum::CoalesceExpr(coalesce)) => coalesce.args.iter().all(is_pure),
        Some(NodeEnum::List(list)) => list.items.iter().all(is_pure),
        Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().all(is_pure),
        _ => false,
    }
}

/// Whether GROUP BY, ORDER BY or DISTINCT takes an output column, which then has a type.
fn is_output(by: &Node, index: usize, name: &str) -> bool {
    match &by.node {
        // Plain DISTINCT takes them all.
        None => true,
        Some(NodeEnum::SortBy(sort)) => sort.node.as_deref().is_some_and(|by| is_output(by, index, name)),
        Some(NodeEnum::AConst(constant)) => matches!(&constant.val,
            Some(pb::a_const::Val::Ival(ordinal)) if usize::try_from(ordinal.ival) == Ok(index + 1)),
        Some(NodeEnum::ColumnRef(reference)) => tree::strings(&reference.fields).as_deref() == Some(&[name]),
        _ => false,
    }
}

/// The rows of an INSERT.
fn rows_of(insert: &mut pb::InsertStmt) -> Rows<'_> {
    match insert.select_stmt.as_deref_mut().and_then(|source| source.node.as_mut()) {
        None => Rows::Default,
        Some(NodeEnum::SelectStmt(select))
            if !select.values_lists.is_empty()
                && select.sort_clause.is_empty()
                && select.limit_count.is_none()
                && select.with_clause.is_none() =>
        {
            Rows::Values(&mut select.values_lists)
        }
        Some(_) => Rows::Query,
    }
}

/// A default as the server reads it, whatever the search_path: what is deparsed names nothing of pg_catalog by its schema.
fn as_stored(sql: &str) -> Option<Node> {
    let mut node = tree::parse_expression(sql).ok()?;
    name_built_ins(&mut node).ok()?;
    Some(node)
}

fn name_built_ins(node: &mut Node) -> Result<(), Denial> {
    let names = match &mut node.node {
        Some(NodeEnum::FuncCall(call)) => Some(&mut call.funcname),
        Some(NodeEnum::AExpr(expr)) if expr.kind == pb::AExprKind::AexprOp as i32 => Some(&mut expr.name),
        Some(NodeEnum::TypeCast(cast)) => cast.type_name.as_mut().map(|name| &mut name.names),
        _ => None,
    };
    if let Some(names) = names.filter(|names| names.len() == 1) {
        names.insert(0, tree::string("pg_catalog"));
    }
    match &mut node.node {
        Some(inner) => tree::each_child(inner, &mut name_built_ins),
        None => Ok(()),
    }
}

/// A boolean that raises an error with this text if it is ever computed. It reads the backend's state, so that the
/// planner can't compute it ahead.
fn raise(marker: &str, about: &str) -> Node {
    let text = tree::call(
        "concat",
        vec![tree::literal(&format!("{marker}: {about} ")), tree::call("pg_backend_pid", Vec::new())],
    );
    tree::node(NodeEnum::TypeCast(Box::new(pb::TypeCast {
        arg: tree::boxed(text),
        type_name: Some(pb::TypeName {
            names: vec![tree::string("pg_catalog"), tree::string("bool")],
            typemod: -1,
            location: -1,
            ..pb::TypeName::default()
        }),
        location: -1,
    })))
}

/// The part of a row that an assignment takes: `(a, b) = …` is two of them.
fn row_part(node: &Node) -> Option<&pb::MultiAssignRef> {
    let Some(NodeEnum::ResTarget(res)) = &node.node else { return None };
    match &res.val.as_deref()?.node {
        Some(NodeEnum::MultiAssignRef(multi)) => Some(multi),
        _ => None,
    }
}

/// `(SELECT 1) one LEFT JOIN (query) alias (c0, c1, …) ON true`: no row is a row of NULLs here already, so that guards
/// see it.
fn one_row_of(query: Node, alias: &str, width: usize) -> Node {
    let one = tree::query(select(vec![tree::target("", tree::number(1))], Vec::new(), None));
    let columns = (0..width).map(|number| tree::string(format!("c{number}"))).collect();
    tree::node(NodeEnum::JoinExpr(Box::new(pb::JoinExpr {
        jointype: pb::JoinType::JoinLeft as i32,
        is_natural: false,
        larg: tree::boxed(tree::derived(one, "postern_one", Vec::new())),
        rarg: tree::boxed(tree::derived(query, alias, columns)),
        using_clause: Vec::new(),
        join_using_alias: None,
        quals: tree::boxed(tree::boolean(true)),
        alias: None,
        rtindex: 0,
    })))
}

fn as_text(value: Node) -> Node {
    tree::node(NodeEnum::TypeCast(Box::new(pb::TypeCast {
        arg: tree::boxed(value),
        type_name: Some(pb::TypeName {
            names: vec![tree::string("pg_catalog"), tree::string("text")],
            typemod: -1,
            location: -1,
            ..pb::TypeName::default()
        }),
        location: -1,
    })))
}
