//! Which conditions can neither raise an error nor show a value of a row outside of a filter, so that their columns may stand as
//! they are, and which columns the server may compare with something that can.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::expression::{consists_of, is_literal, parts, tested};
use super::late::operator_of;
use super::parameters::{ParameterType, is_integer};
use super::scope::{Column, Item, ItemId, RelationItem};
use super::tree;
use crate::catalog::view_columns::ViewColumn;
use crate::catalog::{Oid, Relation, RelationKind};
use crate::decide::bound::RowFilter;
use crate::decide::builtins;

/// `name`, whose collation is not the default, and that.
const NAME: Oid = 19;
const COLLATION_OF_NAME: Oid = 950;
const DEFAULT_COLLATION: Oid = 100;

/// Whether values of these collations can't be compared.
pub(super) fn clash(one: Option<Oid>, other: Option<Oid>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other || one == 0)
}

impl Analyzer<'_> {
    /// Whether a node is a comparison that can neither raise an error nor show a value, of columns with what does not
    /// depend on the row.
    pub(super) fn is_harmless_comparison(&self, node: &Node) -> bool {
        let Some(NodeEnum::AExpr(expr)) = &node.node else { return false };
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else { return false };
        let name = match tree::strings(&expr.name).as_deref() {
            Some([name] | ["pg_catalog", name]) => (*name).to_owned(),
            _ => return false,
        };
        match pb::AExprKind::try_from(expr.kind) {
            Ok(pb::AExprKind::AexprOp) => self.is_harmless_pair(&name, left, right),
            Ok(pb::AExprKind::AexprDistinct | pb::AExprKind::AexprNotDistinct) => {
                self.is_harmless_pair("=", left, right)
            }
            Ok(pb::AExprKind::AexprIn) => match &right.node {
                Some(NodeEnum::List(list)) => {
                    // What is no column is a list by itself, and of one type.
                    let is_cast = |item: &&Node| !matches!(self.operand(item), Operand::Column(_)) && !is_literal(item);
                    let is_column = matches!(self.operand(left), Operand::Column(_));
                    let apart = is_column || iter::once(left).chain(&list.items).filter(is_cast).count() < 2;
                    (apart || !self.policy.costly_filters)
                        && list.items.iter().all(|item| self.is_harmless_pair("=", left, item))
                        && !(self.reads_behind_costly_filter(left) && self.casts_time(left, &list.items))
                }
                _ => false,
            },
            Ok(pb::AExprKind::AexprOpAny | pb::AExprKind::AexprOpAll) if self.compares_collations(left, right) => false,
            Ok(pb::AExprKind::AexprOpAny | pb::AExprKind::AexprOpAll) => {
                matches!(self.operand(left), Operand::Column(Some(oid)) if self.is_harmless_with(&name, left, oid, right))
                    && matches!(self.operand(right), Operand::Constant)
            }
            Ok(pb::AExprKind::AexprBetween | pb::AExprKind::AexprNotBetween) => match &right.node {
                Some(NodeEnum::List(list)) => list.items.iter().all(|item| self.is_harmless_pair("<=", left, item)),
                _ => false,
            },
            _ => false,
        }
    }

    pub(super) fn is_harmless_pair(&self, name: &str, left: &Node, right: &Node) -> bool {
        if self.compares_collations(left, right) {
            return false;
        }
        match (self.operand(left), self.operand(right)) {
            (Operand::Column(Some(one)), Operand::Column(Some(other))) => {
                builtins::leakproof(self.catalog, name, one, other)
                    && !(self.is_computed(left) && self.reads_behind_filter(right))
                    && !(self.is_computed(right) && self.reads_behind_filter(left))
            }
            (Operand::Column(Some(oid)), Operand::Constant) => self.is_harmless_with(name, left, oid, right),
            (Operand::Constant, Operand::Column(Some(oid))) => self.is_harmless_with(name, right, oid, left),
            (Operand::Constant, Operand::Constant) => self.is_given(left) && self.is_given(right),
            (Operand::Column(Some(oid)), Operand::Other) => {
                self.comes_after_filter(left, right) && self.is_harmless_with(name, left, oid, right)
            }
            (Operand::Other, Operand::Column(Some(oid))) => {
                self.comes_after_filter(right, left) && self.is_harmless_with(name, right, oid, left)
            }
            _ => false,
        }
    }

    /// Whether a comparison of a column with what is computed of parameters costs more than the filter of the column's relation: with
    /// what it computes it costs more than a comparison by itself. Arrays are made for nothing.
    fn comes_after_filter(&self, column: &Node, computed: &Node) -> bool {
        !self.reads_behind_costly_filter(column) && !has_array(computed) && self.is_apart_from_rows(computed)
    }

    /// Whether a column of this type is compared with a constant without a chance to fail: neither by the comparison, nor by a cast of
    /// the column to the constant's type before a filter that costs more.
    fn is_harmless_with(&self, name: &str, column: &Node, kind: Oid, constant: &Node) -> bool {
        builtins::leakproof(self.catalog, name, kind, kind)
            && (builtins::is_cast_safely(kind)
                || !self.reads_behind_costly_filter(column)
                || self.leaves_as_it_is(kind, constant))
    }

    /// Whether the constant is such that the column beside it is not cast, or by a cast that can't fail.
    fn leaves_as_it_is(&self, kind: Oid, constant: &Node) -> bool {
        let all = |nodes: &[Node]| nodes.iter().all(|node| self.leaves_as_it_is(kind, node));
        match &constant.node {
            Some(NodeEnum::AConst(_)) => true,
            // Numbers are computed of numbers.
            Some(NodeEnum::AExpr(expr)) => {
                operator_of(expr).is_some_and(|name| ["+", "-", "*", "/", "%"].contains(&name))
                    && tree::sides(expr).all(is_literal)
            }
            Some(NodeEnum::ParamRef(parameter)) => self.parameter_fits(parameter.number, kind),
            Some(NodeEnum::TypeCast(cast)) => self.meant_type(cast.type_name.as_ref()).is_some_and(|found| {
                let is_array = found.element != 0 && found.category == 'A';
                let other = if is_array { found.element } else { found.oid };
                builtins::leakproof(self.catalog, "=", kind, other)
            }),
            Some(NodeEnum::AArrayExpr(array)) => all(&array.elements),
            Some(NodeEnum::List(list)) => all(&list.items),
            Some(NodeEnum::CoalesceExpr(coalesce)) => all(&coalesce.args),
            _ => false,
        }
    }

    /// The collation of a value, if it is another than the default: texts of two such can't be compared, which is found as it is done.
    /// 0 for one that is not known.
    pub(super) fn collation(&self, node: &Node) -> Option<Oid> {
        match &node.node {
            Some(NodeEnum::ColumnRef(reference)) => {
                let columns = self.scopes.meaning(&tree::strings(&reference.fields).unwrap_or_default()).columns;
                let mut each = columns.iter().map(|(_, column)| self.column_collation(column));
                each.next().map_or(Some(0), |first| if each.all(|other| other == first) { first } else { Some(0) })
            }
            Some(NodeEnum::AConst(_)) => None,
            Some(NodeEnum::ParamRef(parameter)) => match self.parameters.kind(parameter.number) {
                ParameterType::Given(kind) => match self.catalog.types.get(&kind).map_or(0, |kind| kind.collation) {
                    0 | DEFAULT_COLLATION => None,
                    other => Some(other),
                },
                ParameterType::OfItsPlace => None,
                ParameterType::OfAPlace => Some(0),
            },
            Some(NodeEnum::SqlvalueFunction(_)) => Some(COLLATION_OF_NAME),
            Some(NodeEnum::TypeCast(cast)) => match self.cast_type(cast) {
                Some(NAME) => Some(COLLATION_OF_NAME),
                Some(kind) if !self.is_collatable(kind) => None,
                _ => cast.arg.as_deref().and_then(|arg| self.collation(arg)),
            },
            _ => match parts(node) {
                Some(parts) if !matches!(node.node, Some(NodeEnum::CollateClause(_))) => {
                    parts.iter().any(|part| self.collation(part).is_some()).then_some(0)
                }
                _ => Some(0),
            },
        }
    }

    /// Whether a comparison with a column fails for the collations of its sides.
    fn compares_collations(&self, left: &Node, right: &Node) -> bool {
        let is_other =
            |node: &Node| matches!(node.node, Some(NodeEnum::ColumnRef(_))) && self.collation(node).is_some();
        self.policy.row_filters
            && (is_other(left) || is_other(right))
            && clash(self.collation(left), self.collation(right))
    }

    /// The same of a column.
    pub(super) fn column_collation(&self, column: &Column) -> Option<Oid> {
        if column.type_oid.is_some_and(|kind| !self.is_collatable(kind)) {
            return None;
        }
        let of_origin = |(id, number): &(ItemId, i16)| {
            let relation = self.scopes.get(*id).and_then(Item::relation)?;
            relation.relation.column_at(*number).map(|column| column.collation)
        };
        let mut each = column.origins.iter().map(of_origin);
        let first = each.next().flatten().filter(|first| each.all(|other| other == Some(*first)));
        match first {
            Some(DEFAULT_COLLATION) => None,
            other => Some(other.unwrap_or(0)),
        }
    }

    /// Whether two columns are of collations that can't be compared.
    pub(super) fn have_other_collations(&self, one: &Column, other: &Column) -> bool {
        clash(self.column_collation(one), self.column_collation(other))
    }

    fn is_collatable(&self, kind: Oid) -> bool {
        self.catalog.types.get(&kind).is_none_or(|kind| kind.collation != 0)
    }

    /// Whether it is a column of a subquery or view that computes it: the server may put the expression in its place.
    pub(super) fn is_computed(&self, node: &Node) -> bool {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return false };
        let names = tree::strings(&reference.fields).unwrap_or_default();
        self.scopes.meaning(&names).columns.iter().any(|(_, column)| self.computes(column))
    }

    /// The same of a column.
    pub(super) fn computes(&self, column: &Column) -> bool {
        column.origins.is_empty() && !column.stays
            || column.origins.iter().any(|(id, number)| self.is_view_value(*id, *number))
    }

    /// Whether a relation's column is a value that the server computes where it is read, as views have them.
    pub(super) fn is_view_value(&self, id: ItemId, number: i16) -> bool {
        let Some(item) = self.scopes.get(id).and_then(Item::relation) else { return false };
        if !self.policy.row_filters || item.system_view.is_some() {
            return false;
        }
        match item.relation.kind {
            RelationKind::View => self.view_column(&item.relation, number) == ViewColumn::Computed,
            _ => item.relation.column_at(number).is_some_and(|column| column.is_virtual),
        }
    }

    /// What a column of a view is.
    pub(super) fn view_column(&self, view: &Relation, number: i16) -> ViewColumn {
        let mut known = self.view_columns.borrow_mut();
        let columns = known.entry(view.oid).or_insert_with(|| self.catalog.view_columns(view));
        let place = view.columns.iter().position(|column| column.number == number);
        place.and_then(|place| columns.get(place)).copied().unwrap_or(ViewColumn::Computed)
    }

    /// Whether it is such a value of a relation with a filter: reading it may fail for a hidden row.
    fn is_value_behind_filter(&self, column: &Column) -> bool {
        let behind = |(id, number): &(ItemId, i16)| {
            self.scopes.get(*id).and_then(Item::relation).is_some_and(RelationItem::filtered)
                && self.is_view_value(*id, *number)
        };
        column.origins.iter().any(behind)
    }

    pub(super) fn operand(&self, node: &Node) -> Operand {
        if let Some(NodeEnum::ColumnRef(reference)) = &node.node {
            let names = tree::strings(&reference.fields).unwrap_or_default();
            let meaning = self.scopes.meaning(&names);
            let is_bare = |(_, column): &(ItemId, Column)| !self.is_value_behind_filter(column);
            return match meaning.columns.as_slice() {
                [_, ..] if meaning.uncertain || !meaning.columns.iter().all(is_bare) => Operand::Other,
                [(_, column)] => Operand::Column(column.type_oid),
                columns => match self.merged_type(&columns.iter().map(|(_, column)| column).collect::<Vec<_>>()) {
                    Some(kind) => Operand::Column(Some(kind)),
                    None => Operand::Other,
                },
            };
        }
        if self.is_constant(node) { Operand::Constant } else { Operand::Other }
    }

    /// The type of a column that a join merges of several, where it is that of one side or the first of both that is not NULL: nothing
    /// that may fail is computed for it. A name of several columns that no join merges is the server's error.
    pub(super) fn merged_type(&self, columns: &[&Column]) -> Option<Oid> {
        let kinds = columns.iter().map(|column| column.type_oid).collect::<Option<Vec<Oid>>>()?;
        // An integer is cast to a larger one at most.
        let (first, rest) = kinds.split_first()?;
        let is_plain = |kind: &Oid| kind == first || is_integer(*first) && is_integer(*kind);
        rest.iter().all(is_plain).then(|| self.catalog.common_type(&kinds)).flatten()
    }

    /// Whether computing a node, apart from what stands under it, may raise an error as the statement runs.
    pub(super) fn can_raise(&self, node: &Node) -> bool {
        match &node.node {
            None
            | Some(
                NodeEnum::ColumnRef(_)
                | NodeEnum::ParamRef(_)
                | NodeEnum::AConst(_)
                | NodeEnum::SqlvalueFunction(_)
                | NodeEnum::BoolExpr(_)
                | NodeEnum::NullTest(_)
                | NodeEnum::BooleanTest(_)
                | NodeEnum::CaseExpr(_)
                | NodeEnum::CoalesceExpr(_)
                | NodeEnum::CollateClause(_)
                | NodeEnum::List(_)
                | NodeEnum::RowExpr(_)
                | NodeEnum::SortBy(_)
                | NodeEnum::SetToDefault(_)
                | NodeEnum::CurrentOfExpr(_),
            ) => false,
            Some(NodeEnum::SubLink(link)) => !matches!(
                pb::SubLinkType::try_from(link.sub_link_type),
                Ok(pb::SubLinkType::ExistsSublink | pb::SubLinkType::AnySublink)
            ),
            // Arrays in an array may not fit together.
            Some(NodeEnum::TypeCast(_) | NodeEnum::AArrayExpr(_)) => {
                !self.is_given(node) || !self.late_casts(node).is_empty()
            }
            Some(NodeEnum::AExpr(_)) => !self.is_harmless_comparison(node) || !self.late_casts(node).is_empty(),
            Some(NodeEnum::FuncCall(call)) => !self.only_counts(call),
            Some(_) => true,
        }
    }

    /// Whether it is an aggregate that can't fail, of what can't.
    fn only_counts(&self, call: &pb::FuncCall) -> bool {
        let is_plain = call.over.is_none() && call.agg_order.is_empty() && call.agg_filter.is_none();
        let is_ordered = |argument: &Node| {
            matches!(self.operand(argument), Operand::Column(Some(kind))
                if !self.is_collatable(kind) && builtins::leakproof(self.catalog, "<", kind, kind))
        };
        is_plain
            && (self.is_own(call, &["count", "bool_and", "bool_or", "every"])
                && call.args.iter().all(|argument| self.is_operand(argument))
                || self.is_own(call, &["max", "min"]) && call.args.iter().all(is_ordered))
    }

    /// Remembers which columns a comparison makes equal, and which it makes equal to something that may fail late.
    pub(super) fn note_equality(&mut self, node: &Node, late: bool) {
        let columns = self.columns_of_comparison(node);
        let computed = matches!(&node.node, Some(NodeEnum::AExpr(expr))
            if tree::sides(expr).any(|side| self.is_computed(side)));
        if late || computed {
            self.late_equals.extend(columns);
        } else {
            self.equals.extend(columns.windows(2).filter_map(|pair| <[_; 2]>::try_from(pair).ok()));
        }
    }

    /// The relation columns that stand by themselves on a side of a comparison.
    pub(crate) fn columns_of_comparison(&self, node: &Node) -> Vec<(ItemId, i16)> {
        match &node.node {
            Some(NodeEnum::AExpr(expr)) => tree::sides(expr).flat_map(|side| self.bare_columns(side)).collect(),
            Some(NodeEnum::SubLink(link)) => link.testexpr.iter().flat_map(|test| self.bare_columns(test)).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn bare_columns(&self, node: &Node) -> Vec<(ItemId, i16)> {
        match &node.node {
            Some(NodeEnum::ColumnRef(reference)) => {
                let names = tree::strings(&reference.fields).unwrap_or_default();
                self.scopes.meaning(&names).columns.into_iter().flat_map(|(_, column)| column.origins).collect()
            }
            Some(NodeEnum::RowExpr(row)) => row.args.iter().flat_map(|part| self.bare_columns(part)).collect(),
            Some(NodeEnum::List(list)) => list.items.iter().flat_map(|item| self.bare_columns(item)).collect(),
            _ => Vec::new(),
        }
    }

    /// The columns that are equal to something that may fail late: in place of a comparison with one the server may compare another
    /// with that, before a filter.
    pub(crate) fn equal_to_late(&self) -> BTreeSet<(ItemId, i16)> {
        self.equal_to(&self.late_equals, &[])
    }

    /// Whether a filter reads a column of its relation that is equal to something that changes as the statement runs: the server might
    /// look for that in place of what the filter says.
    pub(super) fn is_filter_unsteady(&self, id: ItemId, filter: &RowFilter) -> bool {
        self.equal_to(&self.unsteady_equals, &self.alike)
            .iter()
            .any(|(of, number)| *of == id && filter.columns.contains(number))
    }

    /// These columns, and all that conditions make equal to one of them.
    fn equal_to(&self, columns: &[(ItemId, i16)], alike: &[[(ItemId, i16); 2]]) -> BTreeSet<(ItemId, i16)> {
        let mut found = BTreeSet::new();
        if columns.is_empty() {
            return found;
        }
        let mut beside: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for [one, other] in self.equals.iter().chain(alike) {
            beside.entry(*one).or_default().push(*other);
            beside.entry(*other).or_default().push(*one);
        }
        let mut waiting = columns.to_vec();
        while let Some(column) = waiting.pop() {
            if found.insert(column) {
                waiting.extend(beside.get(&column).into_iter().flatten());
            }
        }
        found
    }

    /// Whether conditions joined by OR, NOT, or as a part of another can neither raise an error nor show a value.
    ///
    /// By itself a cast that is one function costs what a comparison does, and an OR nothing: they may come before any filter.
    pub(super) fn is_harmless_bool(&self, bool: &pb::BoolExpr) -> bool {
        let late = |node: &Node| {
            self.has_computed(node) || self.compares_parameters(node) || !self.late_casts(node).is_empty()
        };
        bool.args.iter().all(|argument| self.is_harmless(argument))
            && !(bool.args.iter().any(late) && bool.args.iter().any(|node| self.reads_behind_filter(node)))
    }

    fn has_computed(&self, node: &Node) -> bool {
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| self.has_computed(node));
        match &node.node {
            Some(NodeEnum::ColumnRef(_)) => self.is_computed(node),
            Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) || optional(&expr.rexpr),
            _ => tested(node).is_some_and(|all| all.iter().any(|node| self.has_computed(node))),
        }
    }

    pub(super) fn reads_behind_filter(&self, node: &Node) -> bool {
        self.reads_behind(node, &|_| true)
    }

    pub(super) fn reads_behind_costly_filter(&self, node: &Node) -> bool {
        self.reads_behind(node, &|filter| filter.costly)
    }

    /// Whether it reads a column of a relation with such a filter.
    fn reads_behind(&self, node: &Node, such: &dyn Fn(&RowFilter) -> bool) -> bool {
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| self.reads_behind(node, such));
        match &node.node {
            Some(NodeEnum::ColumnRef(reference)) => {
                let names = tree::strings(&reference.fields).unwrap_or_default();
                let columns = self.scopes.meaning(&names).columns;
                columns.iter().flat_map(|(_, column)| &column.origins).any(|(id, _)| {
                    let view =
                        self.scopes.get(*id).and_then(Item::relation).and_then(|relation| relation.view.as_ref());
                    view.and_then(|view| view.filter.as_ref()).is_some_and(such)
                })
            }
            Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) || optional(&expr.rexpr),
            Some(NodeEnum::List(list)) => list.items.iter().any(|node| self.reads_behind(node, such)),
            _ => tested(node).is_some_and(|all| all.iter().any(|node| self.reads_behind(node, such))),
        }
    }

    /// Whether a condition can neither raise an error nor show a value.
    pub(crate) fn is_harmless(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::BoolExpr(bool)) => self.is_harmless_bool(bool),
            Some(NodeEnum::NullTest(test)) => test.arg.as_deref().is_some_and(|arg| self.is_operand(arg)),
            Some(NodeEnum::BooleanTest(test)) => test.arg.as_deref().is_some_and(|arg| self.is_operand(arg)),
            Some(NodeEnum::AExpr(_)) => self.is_harmless_comparison(node),
            _ => self.is_operand(node),
        }
    }

    pub(super) fn is_operand(&self, node: &Node) -> bool {
        matches!(self.operand(node), Operand::Column(_)) || self.is_given(node)
    }
}

/// What stands beside a comparison.
pub(super) enum Operand {
    /// A bare column, of this type where known.
    Column(Option<Oid>),
    /// Something that does not depend on a row.
    Constant,
    /// Anything else.
    Other,
}

/// Whether a value, in the sense of `is_apart_from_rows`, makes an array.
fn has_array(value: &Node) -> bool {
    consists_of(value, &|node| matches!(node, NodeEnum::AArrayExpr(_)))
}
