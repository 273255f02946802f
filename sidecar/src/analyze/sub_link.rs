//! Subqueries of expressions: which the server makes a join of, and which it runs where they stand.
//!
//! A relation comes to a join with its filter done. What is run where it stands may come before the filter, as the server takes it
//! to cost no more than it does by itself: what it compares so that something may fail stands behind the barrier, and relations
//! around it that it reads are fenced.
//!
//! `column = (SELECT …)` becomes a join, too, where the query reads nothing from around it: it still is run once, and what fails in
//! it fails where rows come to that join.

use std::slice;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::expression::{Compared, has_parameter, is_literal};
use super::function::text_of;
use super::harmless::{Operand, clash};
use super::scope::{Column, ItemId};
use super::select::{Output, star_of};
use super::tree::{self, unsupported};
use super::view::fence;
use super::{Analyzer, Place, Receiver, time};
use crate::catalog::names::{Resolution, types};
use crate::catalog::{Oid, RelationKind};
use crate::decide::{Denial, builtins};

impl Analyzer<'_> {
    pub(super) fn sub_link(&mut self, node: &mut Node, place: Place, conjunct: bool) -> Result<Option<Oid>, Denial> {
        self.sub_link_for(node, place, conjunct, Rows::Any)
    }

    fn sub_link_for(
        &mut self,
        node: &mut Node,
        place: Place,
        conjunct: bool,
        rows: Rows,
    ) -> Result<Option<Oid>, Denial> {
        let Some(NodeEnum::SubLink(link)) = &mut node.node else { return Ok(None) };
        self.walked.insert(link.location);
        let is_once = rows == Rows::OfValue;
        let kind = pb::SubLinkType::try_from(link.sub_link_type);
        let is_any = matches!(kind, Ok(pb::SubLinkType::AnySublink));
        // `= ANY` is IN.
        let equality = link.oper_name.is_empty() || is_any && tree::is_equality(&link.oper_name);
        let Some(query) = link.subselect.as_deref_mut() else { return Err(unsupported("a subquery")) };
        self.condition_depth += usize::from(place.predicate);
        let outside = self.nullable;
        self.nullable = match kind {
            _ if conjunct => outside,
            // NOT EXISTS becomes a join that leaves rows out.
            Ok(pb::SubLinkType::ExistsSublink) => outside + 1,
            // Any other is planned by itself.
            _ => 0,
        };
        let is_value = matches!(kind, Ok(pb::SubLinkType::ExprSublink | pb::SubLinkType::ArraySublink));
        let receiver = if is_value || is_once { Receiver::Expression } else { Receiver::Query };
        let is_exists = matches!(kind, Ok(pb::SubLinkType::ExistsSublink));
        let is_plain = is_exists && conjunct && self.is_plain_exists(query);
        let is_alike = self.alike_queries;
        let (outermost, below) = (std::mem::replace(&mut self.outermost, usize::MAX), std::mem::take(&mut self.below));
        let may_raise = std::mem::take(&mut self.may_raise);
        let leaky_before = std::mem::take(&mut self.leaky_target);
        let mut output = self.query(query, receiver)?;
        let is_correlated = self.outermost <= self.scopes.levels.len();
        // What names two levels around may fit into none of the joins that these become.
        let is_plain = is_plain && self.outermost >= self.scopes.levels.len();
        self.outermost = self.outermost.min(outermost);
        // There may be several rows where one is wanted.
        let raised = std::mem::take(&mut self.may_raise) || is_once;
        self.may_raise = may_raise || raised;
        let read_below = std::mem::replace(&mut self.below, below);
        let leaky_target = std::mem::replace(&mut self.leaky_target, leaky_before);
        self.leaky_target |= leaky_target;
        // Of values alone the server makes an array, or takes one for the column of which there are no others.
        if let Some(NodeEnum::SelectStmt(select)) = &query.node
            && !select.values_lists.is_empty()
        {
            for (index, column) in output.columns.iter_mut().enumerate() {
                column.stays = self.all_as_written(select, index);
            }
        }
        self.nullable = outside;
        self.condition_depth -= usize::from(place.predicate);
        let first = output.columns.first().and_then(|column| column.type_oid).filter(|_| output.complete);
        // It becomes a join, to which the scan of the relation is done with its filter; any other is run where it stands, and is
        // taken to cost no more than what it does by itself.
        let of_this_level = |id: &(ItemId, i16)| self.scopes.depth(id.0) == self.scopes.levels.len();
        let tests = link.testexpr.as_deref().map(parts_of_test).unwrap_or_default();
        let tests_here = tests.iter().all(|test| self.bare_columns(test).iter().any(of_this_level));
        let may_join = conjunct && is_any && !is_correlated && tests_here;
        if is_once {
            output.columns.iter_mut().for_each(|column| column.stays = !is_correlated);
        } else if may_join && equality && output.complete && tests.iter().any(|test| self.reads_behind_filter(test)) {
            self.compute_apart(query, &mut output);
        }
        let joined = may_join
            && output.columns.len() >= tests.len()
            && output.columns.iter().take(tests.len()).all(|column| column.stays || !column.origins.is_empty());
        let is_join = joined || is_plain;
        if is_plain && !raised && !leaky_target && link.location >= 0 {
            self.joined.insert(link.location);
        }
        if let Some(first) = first.filter(|_| is_value && !is_correlated && link.location >= 0) {
            self.by_themselves.insert(link.location, first);
        }
        // Several rows are an error, where there may be one.
        let is_expression = matches!(kind, Ok(pb::SubLinkType::ExprSublink));
        let fails = raised || is_expression && !output.one_row;
        if fails && !is_join && self.condition_depth + usize::from(place.predicate) > 0 {
            self.fence(&read_below);
        } else if fails && !is_join && !place.after_filter && !place.after_own_filter {
            self.tried_later.extend(&read_below);
        }
        self.below.extend(read_below);
        let mut has_clash = false;
        let mut compared = Vec::new();
        let mut left = Compared::One(None);
        if let Some(test) = link.testexpr.as_deref_mut() {
            // A cast of the column to what stands beside it may fail.
            let of_columns = output.columns.iter().map(|column| column.type_oid.filter(|_| output.complete));
            let clashes = |(test, column): (&Node, &Column)| clash(self.collation(test), self.column_collation(column));
            let clashes = parts_of_test(test).iter().zip(&output.columns).any(clashes);
            let fits = |(test, of): (&Node, Option<Oid>)| {
                matches!(self.operand(test), Operand::Column(Some(kind))
                    if builtins::leakproof(self.catalog, "=", kind, of.unwrap_or(kind)))
            };
            let tests = parts_of_test(test);
            let all_typed = of_columns.clone().take(tests.len()).all(|of| of.is_some());
            let harmless = equality
                && !clashes
                && output.columns.len() >= tests.len()
                && tests.iter().zip(of_columns).all(fits)
                && (joined && all_typed || tests.len() == 1 && !raised && !self.reads_behind_costly_filter(test));
            has_clash = clashes;
            compared = tests.iter().map(|test| self.beside(test)).collect();
            if self.policy.row_filters {
                let columns: Vec<_> = tests.iter().map(|test| self.bare_columns(test)).collect();
                for (index, columns) in columns.into_iter().enumerate() {
                    let kind = tests.get(index).and_then(|test| match self.operand(test) {
                        Operand::Column(kind) => kind,
                        _ => None,
                    });
                    let other = output.columns.get(index);
                    if other.is_none_or(|other| other.passing || time::differ(kind, other.type_oid)) {
                        self.unsteady_equals.extend(&columns);
                        self.unsteady_equals.extend(other.into_iter().flat_map(|other| &other.origins));
                    }
                    match other {
                        // It stays a comparison.
                        _ if is_once && is_correlated => {}
                        Some(other) if other.stays => {}
                        Some(other) if !other.origins.is_empty() => {
                            let pairs =
                                columns.iter().flat_map(|one| other.origins.iter().map(move |other| [*one, *other]));
                            self.equals.extend(pairs);
                        }
                        _ => self.late_equals.extend(columns),
                    }
                }
            }
            let inner = Place { leaky: !harmless || place.leaky, predicate: true, ..place };
            left = match &mut test.node {
                Some(NodeEnum::RowExpr(row)) if harmless => {
                    let kinds = row.args.iter_mut().map(|part| self.expression(part, inner));
                    Compared::Row(kinds.collect::<Result<_, _>>()?)
                }
                _ => self.compared(test, inner)?,
            };
            if harmless && joined && all_typed && link.location >= 0 {
                self.joined.insert(link.location);
            }
        }
        // Which of the subquery's columns are compared so that nothing fails where its rows are read.
        let mut safe = Vec::with_capacity(output.columns.len());
        if link.testexpr.is_some() {
            let names = if equality { vec![tree::string("=")] } else { link.oper_name.clone() };
            let left = match left {
                Compared::One(kind) => vec![kind],
                Compared::Row(kinds) => kinds,
            };
            let right = output.columns.iter().map(|column| column.type_oid.filter(|_| output.complete));
            let compared = compared.into_iter().chain(std::iter::repeat(Beside::Other));
            for ((left, right), beside) in left.into_iter().zip(right.chain(std::iter::repeat(None))).zip(compared) {
                self.operator_result(&names, Some(left), right)?;
                safe.push(!has_clash && self.compares_safely(beside, left, right));
            }
        }
        if is_once && is_correlated {
            link.sub_link_type = pb::SubLinkType::ExprSublink as i32;
        } else if is_once && let Some(NodeEnum::SelectStmt(select)) = query.node.take() {
            // As a value of a query that stays by itself it is run once, however often that is read.
            let value = tree::subquery(pb::SubLinkType::ExprSublink, *select);
            let mut apart = super::view::select(vec![tree::target("", value)], Vec::new(), None);
            fence(&mut apart);
            *query = tree::query(apart);
        }
        // As the one of them is that needs most.
        let place = if is_alike { Place { leaky: true, after_own_filter: false, ..place } } else { place };
        match kind {
            Ok(pb::SubLinkType::ExistsSublink | pb::SubLinkType::AllSublink | pb::SubLinkType::AnySublink) => {
                if !is_exists {
                    for (index, column) in output.columns.iter().enumerate() {
                        let leaky = !equality || !safe.get(index).is_some_and(|safe| *safe);
                        let place = Place { predicate: true, condition: place.condition, leaky, ..Place::default() };
                        self.mark_output(slice::from_ref(column), place)?;
                    }
                }
                Ok(Some(types::BOOL))
            }
            Ok(pb::SubLinkType::ExprSublink) => {
                if place.leaky || place.predicate {
                    self.mark_output(&output.columns, Place { after_filter: false, ..place })?;
                }
                Ok(first)
            }
            Ok(pb::SubLinkType::ArraySublink) => {
                let place = Place { leaky: true, after_filter: false, ..place };
                self.mark_output(&output.columns, place)?;
                Ok(first.and_then(|oid| self.catalog.types.get(&oid)).map(|t| t.array).filter(|oid| *oid != 0))
            }
            Ok(pb::SubLinkType::MultiexprSublink | pb::SubLinkType::RowcompareSublink) => Ok(None),
            _ => Err(unsupported("a subquery of this kind")),
        }
    }

    /// `column = (SELECT …)` as a condition by itself, of a column behind a row filter: as `column IN (SELECT …)`, of which the server makes
    /// a join. None where it is no such thing, or needs no barrier as it is: `alone` in the condition of a write.
    pub(super) fn equals_value(&mut self, node: &mut Node, place: Place, alone: bool) -> Option<Result<Oid, Denial>> {
        let Some(NodeEnum::AExpr(expr)) = &mut node.node else { return None };
        let is_equal = expr.kind == pb::AExprKind::AexprOp as i32 && tree::is_equality(&expr.name);
        let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
        let is_column = matches!(left.node, Some(NodeEnum::ColumnRef(_))) && self.reads_behind_filter(left);
        let Some(NodeEnum::SubLink(link)) = &right.node else { return None };
        let Some(NodeEnum::SelectStmt(select)) = link.subselect.as_deref().and_then(|query| query.node.as_ref()) else {
            return None;
        };
        if !is_equal || !is_column || link.sub_link_type != pb::SubLinkType::ExprSublink as i32 {
            return None;
        }
        let rows = if is_one_value(select) && !self.gives_another(right) { Rows::Any } else { Rows::OfValue };
        let is_free = alone && self.bare_columns(left).iter().any(|(id, _)| self.target(*id).is_some());
        if is_free && rows == Rows::OfValue {
            return None;
        }
        let (name, location) = (std::mem::take(&mut expr.name), expr.location);
        let (left, mut right) = (expr.lexpr.take(), expr.rexpr.take()?);
        if let Some(NodeEnum::SubLink(link)) = &mut right.node {
            link.sub_link_type = pb::SubLinkType::AnySublink as i32;
            link.testexpr = left;
        }
        self.changed = true;
        *node = *right;
        let decided = self.sub_link_for(node, place, true, rows);
        if let Some(NodeEnum::SubLink(link)) = &mut node.node
            && link.sub_link_type == pb::SubLinkType::ExprSublink as i32
        {
            // It is none that is run once.
            let left = link.testexpr.take();
            let right = tree::take(node);
            *node = tree::node(NodeEnum::AExpr(Box::new(pb::AExpr {
                kind: pb::AExprKind::AexprOp as i32,
                name,
                lexpr: left,
                rexpr: tree::boxed(right),
                location,
                ..pb::AExpr::default()
            })));
        }
        Some(decided.map(|_| types::BOOL))
    }

    /// Whether a query may give something else when it is run again: what a join asks again must be the same again.
    fn gives_another(&self, query: &Node) -> bool {
        let is_unsteady = |node: &NodeEnum| match node {
            NodeEnum::FuncCall(call) => self.is_volatile(call),
            NodeEnum::RangeTableSample(_) => true,
            NodeEnum::SelectStmt(select) => !select.locking_clause.is_empty(),
            // Its definition may hold any of these.
            NodeEnum::RangeVar(range) => self.may_be_view(range),
            _ => false,
        };
        tree::holds(query, &is_unsteady)
    }

    fn may_be_view(&self, range: &pb::RangeVar) -> bool {
        let schema = Some(range.schemaname.as_str()).filter(|schema| !schema.is_empty());
        let (path, overlay) = (&self.session.search_path, &self.session.overlay);
        match self.catalog.resolve_relation(path, overlay, schema, &range.relname) {
            Resolution::Found(relation) => relation.kind == RelationKind::View,
            // A CTE, or nothing.
            _ => schema.is_some(),
        }
    }

    /// Has what a query computes of columns computed within it, so that it is compared as a column is.
    fn compute_apart(&mut self, query: &mut Node, output: &mut Output) {
        let Some(NodeEnum::SelectStmt(select)) = &mut query.node else { return };
        let is_computed = |column: &Column| !column.stays && column.origins.is_empty() && column.type_oid.is_some();
        if select.op == pb::SetOperation::SetopNone as i32
            && select.values_lists.is_empty()
            && select.limit_offset.is_none()
            && select.limit_count.is_none()
            && output.columns.iter().any(is_computed)
        {
            fence(select);
            output.columns.iter_mut().filter(|column| column.origins.is_empty()).for_each(|column| column.stays = true);
            self.changed = true;
        }
    }

    /// Marks what a subquery of an expression gives. Of that which it takes from around it, its cost does not tell.
    fn mark_output(&mut self, columns: &[Column], place: Place) -> Result<(), Denial> {
        for (id, number) in columns.iter().flat_map(|column| &column.origins) {
            let from_below = self.scopes.depth(*id) <= self.scopes.levels.len();
            self.use_column(*id, *number, Place { from_below, ..place })?;
        }
        Ok(())
    }

    /// Whether a subquery is one that EXISTS before certainly is planned as a join: of relations, with conditions that call nothing
    /// volatile.
    fn is_plain_exists(&self, query: &Node) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = &query.node else { return false };
        let of_relations = |item: &Node| matches!(item.node, Some(NodeEnum::RangeVar(_)));
        let is_volatile = |node: &NodeEnum| matches!(node, NodeEnum::FuncCall(call) if self.is_volatile(call));
        let plain = super::view::select(select.target_list.clone(), select.from_clause.clone(), None);
        **select == pb::SelectStmt { where_clause: select.where_clause.clone(), ..plain }
            && !select.from_clause.is_empty()
            && select.from_clause.iter().all(of_relations)
            && select.target_list.iter().all(|target| match &target.node {
                Some(NodeEnum::ResTarget(target)) => {
                    target.val.as_deref().is_some_and(|value| is_literal(value) || star_of(value).is_some())
                }
                _ => false,
            })
            && select.where_clause.as_deref().is_some_and(|condition| !tree::holds(condition, &is_volatile))
    }

    /// What stands beside a column of a subquery.
    fn beside(&self, node: &Node) -> Beside {
        match &node.node {
            Some(NodeEnum::ParamRef(parameter)) => Beside::Parameter(parameter.number),
            Some(NodeEnum::ColumnRef(_)) => match self.operand(node) {
                Operand::Column(_) if !self.is_computed(node) => Beside::Value,
                _ => Beside::Other,
            },
            _ if self.is_given(node) && !has_parameter(node) => Beside::Value,
            _ => Beside::Other,
        }
    }

    /// Whether neither what stands beside a column of a subquery nor a cast of one of both can fail.
    fn compares_safely(&self, beside: Beside, left: Option<Oid>, right: Option<Oid>) -> bool {
        match (beside, left, right) {
            (Beside::Other, ..) | (.., None) => false,
            (Beside::Parameter(number), _, Some(right)) => {
                builtins::is_cast_safely(right) && builtins::cast_that_fails(right).is_none()
                    || self.parameter_fits(number, right)
            }
            (Beside::Value, Some(left), Some(right)) => {
                left == right || left == types::UNKNOWN || builtins::leakproof(self.catalog, "=", left, right)
            }
            (Beside::Value, None, Some(right)) => builtins::is_cast_safely(right),
        }
    }
}

/// Whether a query gives a column, and one row at most: the first in an order, or a `max` or `min` of all.
fn is_one_value(select: &pb::SelectStmt) -> bool {
    let [Node { node: Some(NodeEnum::ResTarget(target)) }] = select.target_list.as_slice() else { return false };
    let value = target.val.as_deref().and_then(|value| value.node.as_ref());
    let limit = select.limit_count.as_deref().and_then(text_of);
    let is_limited = !select.sort_clause.is_empty()
        && select.limit_option == pb::LimitOption::Count as i32
        && limit.as_deref() == Some("1");
    let is_extreme = matches!(value, Some(NodeEnum::FuncCall(call)) if call.over.is_none()
        && matches!(tree::strings(&call.funcname).as_deref(), Some(["max" | "min"] | ["pg_catalog", "max" | "min"])));
    select.op == pb::SetOperation::SetopNone as i32
        && select.values_lists.is_empty()
        && (is_limited || is_extreme && select.group_clause.is_empty())
}

/// What a subquery's rows are compared with, column by column.
fn parts_of_test(test: &Node) -> &[Node] {
    match &test.node {
        Some(NodeEnum::RowExpr(row)) => &row.args,
        _ => slice::from_ref(test),
    }
}

/// Which of a subquery's rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// Any, as often as the server looks for them.
    Any,
    /// The one that it has to be, which is looked for once.
    OfValue,
}

/// What stands beside a column of a subquery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// A column, or a literal.
    Value,
    /// The parameter of this number.
    Parameter(i32),
    /// What may fail.
    Other,
}
