//! What of a condition may fail only as the statement runs, before a filter or for what a hidden row holds: an error then
//! tells of a row outside of the filter.
//!
//! What the server computes as it plans has failed before any row is looked at. Late are casts of parameters, in a plan
//! for all values, and what depends on settings or the clock, which may have changed since the plan was made. What is late
//! is tried before any row is, or stands behind the filter's barrier.

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::expression::{has_parameter, is_literal, parts, tested};
use super::harmless::Operand;
use super::parameters::{ParameterType, Reliance, bare_parameter, is_integer};
use super::time::{differ, is_date};
use super::tree;
use crate::catalog::Oid;
use crate::catalog::names::types;
use crate::decide::builtins;
use crate::decide::expression::text_of;

/// By these the server computes of numbers and texts what it computes as it plans.
const IMMUTABLE: [&str; 6] = ["+", "-", "*", "/", "%", "||"];

/// Types to which a number or a text is cast as the server plans.
const CAST_IN_THE_PLAN: [Oid; 10] = [
    types::BOOL,
    types::INT2,
    types::INT4,
    types::INT8,
    types::NUMERIC,
    types::FLOAT4,
    types::FLOAT8,
    types::TEXT,
    types::VARCHAR,
    types::UUID,
];

/// A list whose items may be of several types.
struct Mixed<'n> {
    list: &'n [Node],
    /// The name of the column's type, where the column is one of the items.
    column: Option<&'static str>,
    /// Whether the items have a type in common, and so can be tried as an array. Beside an integer the server may compare one by one.
    is_tried: bool,
}

impl Analyzer<'_> {
    /// Whether a comparison in a condition can fail when a plan is used again, after a setting changed or time went by.
    pub(super) fn has_unsteady(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::AExpr(expr)) => {
                let is_given = |side: &Node| self.is_operand(side);
                let mixed = self.mixed_lists(expr);
                let fails = |mixed: &Mixed<'_>| !mixed.is_tried || !mixed.list.iter().all(is_given);
                mixed.iter().any(fails)
                    || !tree::sides(expr).all(is_given) && !tree::sides(expr).all(|side| self.is_steady_side(side))
            }
            _ => tested(node).is_some_and(|all| all.iter().any(|node| self.has_unsteady(node))),
        }
    }

    fn is_steady_side(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::List(list)) => list.items.iter().all(|item| self.is_steady_side(item)),
            _ => matches!(self.operand(node), Operand::Column(_)) || self.is_steady(node),
        }
    }

    /// Whether computing a value does not fail, or would have as the plan was made.
    fn is_steady(&self, node: &Node) -> bool {
        self.is_given(node)
            || self.is_folded(node)
            || self.is_common_time(node)
            || matches!(&node.node, Some(NodeEnum::FuncCall(call)) if self.is_text_of_time(call))
            || parts(node).is_some_and(|parts| parts.iter().all(|part| self.is_steady(part)))
    }

    /// Whether the value is as good as written: a literal or a parameter, with a cast at most, which the server reads as
    /// a literal of that type.
    pub(super) fn is_given(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => {
                let arg = cast.arg.as_deref().and_then(|arg| arg.node.as_ref());
                matches!(arg, Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)))
                    && self.has_no_checks(cast.type_name.as_ref())
                    && !is_money(cast.type_name.as_ref())
            }
            Some(NodeEnum::AArrayExpr(array)) => {
                // Arrays of one array may not fit together.
                let is_fitted = array.elements.len() < 2
                    || !has_parameter(node)
                    || !array.elements.iter().any(|element| self.is_array(element));
                is_fitted && array.elements.iter().all(|element| self.is_given(element))
            }
            _ => parts(node).is_some_and(|parts| parts.iter().all(|part| self.is_given(part))),
        }
    }

    /// Whether it is seen to be an array.
    pub(super) fn is_array(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::AArrayExpr(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => {
                self.meant_type(cast.type_name.as_ref()).is_none_or(|kind| kind.category == 'A')
            }
            _ => parts(node).is_some_and(|parts| parts.iter().any(|part| self.is_array(part))),
        }
    }

    /// Whether the server computes it as it plans: immutable functions of literals that are no times.
    fn is_folded(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::AConst(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => {
                cast.arg.as_deref().is_some_and(|arg| self.is_folded(arg))
                    && self.cast_type(cast).is_some_and(|kind| CAST_IN_THE_PLAN.contains(&kind))
            }
            Some(NodeEnum::AExpr(expr)) => {
                operator_of(expr).is_some_and(|name| IMMUTABLE.contains(&name))
                    && tree::sides(expr).all(|side| self.is_folded(side))
            }
            Some(NodeEnum::FuncCall(call)) => {
                // Of a number it is immutable, of a text it is not.
                let of_seconds = self.is_own(call, &["to_timestamp"]) && call.args.len() == 1;
                (of_seconds || self.is_immutable(call)) && call.args.iter().all(|arg| self.is_folded(arg))
            }
            Some(NodeEnum::NamedArgExpr(argument)) => argument.arg.as_deref().is_some_and(|arg| self.is_folded(arg)),
            _ => parts(node).is_some_and(|parts| parts.iter().all(|part| self.is_folded(part))),
        }
    }

    pub(super) fn cast_type(&self, cast: &pb::TypeCast) -> Option<Oid> {
        self.meant_type(cast.type_name.as_ref()).map(|found| found.oid)
    }

    /// The casts of parameters in a condition, and of what stands in one list with other types. In a plan for all values they run where
    /// they stand, or where the server put what it found to be equal, and a filter that costs more than they do comes later.
    pub(super) fn late_casts(&self, node: &Node) -> Vec<Node> {
        let mut casts = Vec::new();
        each_cast_of_parameter(node, &mut |cast| {
            if self.may_fail(cast) {
                casts.push(cast.clone());
            }
        });
        if let Some(NodeEnum::AExpr(expr)) = &node.node {
            self.each_implied_cast(expr, &mut casts);
            for mixed in self.mixed_lists(expr).into_iter().filter(|mixed| mixed.is_tried) {
                if mixed.list.iter().all(|item| self.is_given(item)) {
                    casts.push(array_of(mixed.column.map(|name| tree::cast_to(tree::null(), name, false)), mixed.list));
                }
            }
        }
        casts
    }

    /// Whether a cast, or one in a list, reads a text by settings, which may have changed since it was tried.
    pub(super) fn casts_by_settings(&self, cast: &Node) -> bool {
        let Some(NodeEnum::TypeCast(cast)) = &cast.node else {
            let is_bare = matches!(cast.node, Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)));
            return parts(cast).map_or(!is_bare, |parts| parts.iter().any(|part| self.casts_by_settings(part)));
        };
        let kind = self.meant_type(cast.type_name.as_ref());
        let kind =
            kind.map(|kind| self.catalog.types.get(&kind.element).filter(|_| kind.category == 'A').unwrap_or(kind));
        kind.is_none_or(|kind| matches!(kind.category, 'D' | 'T' | 'R') || kind.oid == types::MONEY)
            && !self.is_no_cast(cast)
    }

    /// Whether a condition makes a column equal to what may be another as the statement goes on, after a setting or a name in the
    /// catalogs was changed, or by a notion of equal that depends on the zone. Once the server has looked for it, it takes what else is
    /// equal to the column for found: a filter, too.
    pub(super) fn is_equal_unsteadily(&self, node: &Node) -> bool {
        let Some(NodeEnum::AExpr(expr)) = &node.node else { return false };
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else { return false };
        match (self.operand(left), self.operand(right)) {
            (Operand::Column(one), Operand::Column(other)) => {
                differ(one, other) || self.shows_passing(left) || self.shows_passing(right)
            }
            (Operand::Column(kind), _) => self.is_passing(kind, right),
            (_, Operand::Column(kind)) => self.is_passing(kind, left),
            _ => false,
        }
    }

    /// Whether it is a column of a subquery that shows what may be another later.
    fn shows_passing(&self, node: &Node) -> bool {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return false };
        let names = tree::strings(&reference.fields).unwrap_or_default();
        self.scopes.meaning(&names).columns.iter().any(|(_, column)| column.passing)
    }

    /// Whether a value beside a column of this type may be another later in the same statement.
    pub(super) fn is_passing(&self, column: Option<Oid>, value: &Node) -> bool {
        const PLAIN: [Oid; 8] = [
            types::BOOL,
            types::INT2,
            types::INT4,
            types::INT8,
            types::FLOAT4,
            types::FLOAT8,
            types::NUMERIC,
            types::UUID,
        ];
        match &value.node {
            Some(NodeEnum::AConst(_)) => false,
            Some(NodeEnum::ColumnRef(_)) => match self.operand(value) {
                Operand::Column(kind) => differ(column, kind),
                _ => true,
            },
            Some(NodeEnum::ParamRef(parameter)) => match self.parameters.kind(parameter.number) {
                ParameterType::Given(kind) => differ(column, Some(self.catalog.base_type(kind))),
                ParameterType::OfItsPlace => false,
                ParameterType::OfAPlace => differ(column, None),
            },
            Some(NodeEnum::TypeCast(cast)) => {
                let target = self.cast_type(cast);
                let is_written = cast.arg.as_deref().is_some_and(is_literal);
                let is_plain = target.is_some_and(|kind| PLAIN.contains(&kind));
                let of_parameter = cast.arg.as_deref().is_some_and(|arg| bare_parameter(arg).is_some());
                let is_passing = match cast.arg.as_deref() {
                    Some(arg) if is_plain && !of_parameter => self.is_passing(None, arg),
                    _ => !is_plain && !self.is_no_cast(cast),
                };
                differ(column, target) || !is_written && is_passing
            }
            _ => match parts(value) {
                Some(parts) => parts.iter().any(|part| self.is_passing(column, part)),
                None => !self.is_folded(value),
            },
        }
    }

    /// The casts, of those that a parameter beside a column may take, which can fail: to the column's type from that which the client
    /// gave the parameter. One that has none is of the column's type.
    fn each_implied_cast(&self, expr: &pb::AExpr, casts: &mut Vec<Node>) {
        let any = is_any(expr);
        for (kind, constant) in self.beside_columns(expr) {
            if let Some(name) = builtins::cast_that_fails(kind) {
                each_parameter(constant, any, &mut |parameter, is_array| {
                    if bare_parameter(parameter).is_none_or(|(number, _)| !self.parameter_fits(number, kind)) {
                        casts.push(tree::cast_to(parameter.clone(), name, is_array));
                    }
                });
            }
        }
    }

    /// The type of each column that stands by itself on a side of a comparison, and the other side.
    fn beside_columns<'n>(&self, expr: &'n pb::AExpr) -> Vec<(Oid, &'n Node)> {
        let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else { return Vec::new() };
        let kind = |side: &Node| match self.operand(side) {
            Operand::Column(kind) => kind,
            _ => None,
        };
        [(left, right), (right, left)].into_iter().filter_map(|(one, other)| Some((kind(one)?, other))).collect()
    }

    /// The lists beside a column whose items may be of several types, so that the server casts some to another, which can fail: between
    /// dates and times, and between numbers.
    fn mixed_lists<'n>(&self, expr: &'n pb::AExpr) -> Vec<Mixed<'n>> {
        let is_in = expr.kind == pb::AExprKind::AexprIn as i32;
        let mut found = Vec::new();
        for (kind, constant) in self.beside_columns(expr) {
            let Some(name) = name_of_mixed(kind) else { continue };
            each_list(constant, is_in, &mut |list, is_in| {
                if self.mixes(kind, is_in, list) {
                    found.push(Mixed { list, column: is_in.then_some(name), is_tried: !is_integer(kind) });
                }
            });
        }
        found
    }

    /// Whether values of one list beside a column of this type, or with it, may be of several types, of which one is cast to another as
    /// the statement runs.
    fn mixes(&self, column: Oid, with_column: bool, list: &[Node]) -> bool {
        // But between dates and times the server casts literals as it plans.
        if !is_date(column) && !list.iter().any(has_parameter) {
            return false;
        }
        let is_plain = |item: &Node| matches!(&item.node, Some(NodeEnum::AConst(constant)) if !matches!(constant.val, Some(pb::a_const::Val::Fval(_))));
        let mut kinds: Vec<Oid> = with_column.then_some(column).into_iter().collect();
        // Each may be of another.
        let mut unknown = 0;
        for item in list {
            let kind = match &item.node {
                Some(NodeEnum::AConst(_)) if is_plain(item) => continue,
                Some(NodeEnum::AConst(_)) => Some(types::NUMERIC),
                Some(NodeEnum::ParamRef(parameter)) => match self.parameters.kind(parameter.number) {
                    ParameterType::Given(kind) => Some(self.catalog.base_type(kind)),
                    ParameterType::OfItsPlace => continue,
                    ParameterType::OfAPlace
                        if is_integer(column) && self.parameters.rely(parameter.number, Reliance::Integer) =>
                    {
                        continue;
                    }
                    ParameterType::OfAPlace => None,
                },
                Some(NodeEnum::TypeCast(cast)) => self.cast_type(cast),
                _ => self.time(item).map(|time| time.kind),
            };
            match kind {
                Some(kind) => kinds.push(kind),
                None => unknown += 1,
            }
        }
        kinds.iter_mut().filter(|kind| is_integer(**kind)).for_each(|kind| *kind = types::INT8);
        kinds.sort_unstable();
        kinds.dedup();
        // An integer is cast to any number, and no cast of it fails.
        let fits = |one: &Oid| kinds.iter().all(|other| builtins::leakproof(self.catalog, "=", *one, *other));
        let is_cast_safely = is_integer(column) && unknown == 0 && kinds.iter().all(fits);
        kinds.len() + unknown > 1 && !is_cast_safely
    }

    /// Whether a comparison that reads no column casts a parameter, as it may where it has more than literals to compare that with.
    pub(super) fn compares_parameters(&self, node: &Node) -> bool {
        let Some(NodeEnum::AExpr(expr)) = &node.node else { return false };
        let compared: Vec<&Node> = tree::operands(expr).filter(|side| !is_literal(side)).collect();
        let is_given = compared.iter().all(|side| self.is_given(side));
        compared.len() > 1 && is_given && compared.into_iter().any(has_parameter)
    }

    /// Whether a list with a date or a timestamp, of no zone, holds what may be of another kind of time: the column is cast to that, and
    /// not all that it may hold can be.
    pub(super) fn casts_time(&self, column: &Node, list: &[Node]) -> bool {
        let Operand::Column(Some(kind @ (types::DATE | types::TIMESTAMP))) = self.operand(column) else { return false };
        let is_known = |item: &Node| match &item.node {
            Some(NodeEnum::AConst(_)) => false,
            Some(NodeEnum::ParamRef(parameter)) => self.parameters.kind(parameter.number) != ParameterType::OfItsPlace,
            _ => true,
        };
        let known: Vec<Node> = list.iter().filter(|item| is_known(item)).cloned().collect();
        list.len() > 1 && self.mixes(kind, true, &known)
    }

    /// Whether a cast of a parameter may fail for some values: any but one to a string, or to the type that it has.
    fn may_fail(&self, cast: &Node) -> bool {
        match &cast.node {
            Some(NodeEnum::TypeCast(cast)) => {
                self.meant_type(cast.type_name.as_ref()).is_none_or(|kind| kind.category != 'S')
                    && !self.is_no_cast(cast)
            }
            _ => true,
        }
    }

    /// Whether it is a condition as [`tried_first`] makes them.
    pub(super) fn is_tried_first(&self, node: &Node) -> bool {
        if let Some(NodeEnum::CaseExpr(case)) = &node.node
            && let [Node { node: Some(NodeEnum::CaseWhen(when)) }] = case.args.as_slice()
            && let Some(NodeEnum::NullTest(test)) = when.expr.as_deref().and_then(|condition| condition.node.as_ref())
            && let Some(value) = test.arg.as_deref()
        {
            return self.is_apart_from_rows(value) && tried_first(value.clone()) == *node;
        }
        false
    }
}

/// The name of a column's type, if values beside it are cast to one of several that they may be of.
const fn name_of_mixed(kind: Oid) -> Option<&'static str> {
    match kind {
        types::DATE => Some("date"),
        types::TIMESTAMP => Some("timestamp"),
        types::TIMESTAMPTZ => Some("timestamptz"),
        types::INT2 => Some("int2"),
        types::INT4 => Some("int4"),
        types::INT8 => Some("int8"),
        types::FLOAT4 => Some("float4"),
        types::FLOAT8 => Some("float8"),
        types::OID => Some("oid"),
        _ => None,
    }
}

/// The bare name of an operator between values.
pub(super) fn operator_of(expr: &pb::AExpr) -> Option<&str> {
    match expr.name.as_slice() {
        [name] if expr.kind == pb::AExprKind::AexprOp as i32 => text_of(name),
        _ => None,
    }
}

fn is_any(expr: &pb::AExpr) -> bool {
    matches!(pb::AExprKind::try_from(expr.kind), Ok(pb::AExprKind::AexprOpAny | pb::AExprKind::AexprOpAll))
}

/// The one type of the server's that a number is cast to as the statement runs, which may fail.
fn is_money(name: Option<&pb::TypeName>) -> bool {
    name.and_then(|name| name.names.last()).and_then(tree::string_of) == Some("money")
}

/// Each list of values of one type in what a column is compared with, and whether the column is of that type, too.
fn each_list<'n>(node: &'n Node, is_in: bool, f: &mut dyn FnMut(&'n [Node], bool)) {
    let list = match &node.node {
        Some(NodeEnum::List(list)) => {
            if is_in && list.items.len() > 1 {
                f(&list.items, true);
            }
            &list.items
        }
        Some(NodeEnum::AArrayExpr(array)) => {
            f(&array.elements, false);
            &array.elements
        }
        Some(NodeEnum::CoalesceExpr(coalesce)) => {
            f(&coalesce.args, false);
            &coalesce.args
        }
        _ => return,
    };
    list.iter().for_each(|item| each_list(item, false, f));
}

/// Each parameter without a cast that is an item of an array.
pub(super) fn each_bare_parameter(item: &Node, found: &mut Vec<i32>) {
    match &item.node {
        Some(NodeEnum::ParamRef(parameter)) => found.push(parameter.number),
        Some(NodeEnum::CoalesceExpr(coalesce)) => coalesce.args.iter().for_each(|arg| each_bare_parameter(arg, found)),
        Some(NodeEnum::CollateClause(collate)) => collate.arg.iter().for_each(|arg| each_bare_parameter(arg, found)),
        _ => {}
    }
}

/// Each parameter with a cast, in what a comparison that can't raise consists of.
fn each_cast_of_parameter(node: &Node, f: &mut dyn FnMut(&Node)) {
    match &node.node {
        Some(NodeEnum::TypeCast(cast)) => {
            if matches!(cast.arg.as_deref().and_then(|arg| arg.node.as_ref()), Some(NodeEnum::ParamRef(_))) {
                f(node);
            }
        }
        Some(NodeEnum::AExpr(expr)) => {
            tree::sides(expr).for_each(|side| each_cast_of_parameter(side, f));
        }
        _ => {
            let inner = tested(node).or_else(|| parts(node)).unwrap_or_default();
            inner.iter().for_each(|node| each_cast_of_parameter(node, f));
        }
    }
}

/// Each parameter, with its cast if it has one, in what a column is compared with; and whether it holds an array.
fn each_parameter(node: &Node, is_array: bool, f: &mut dyn FnMut(&Node, bool)) {
    match &node.node {
        Some(NodeEnum::ParamRef(_)) => f(node, is_array),
        Some(NodeEnum::TypeCast(_)) if is_cast_of_parameter(node) => f(node, is_array),
        Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().for_each(|node| each_parameter(node, false, f)),
        Some(NodeEnum::List(list)) => list.items.iter().for_each(|node| each_parameter(node, false, f)),
        Some(NodeEnum::CoalesceExpr(coalesce)) => {
            coalesce.args.iter().for_each(|node| each_parameter(node, is_array, f));
        }
        Some(NodeEnum::CollateClause(collate)) => collate.arg.iter().for_each(|node| each_parameter(node, is_array, f)),
        _ => {}
    }
}

fn array_of(first: Option<Node>, items: &[Node]) -> Node {
    let array = pb::AArrayExpr {
        elements: first.into_iter().chain(items.iter().cloned()).collect(),
        location: -1,
        ..pb::AArrayExpr::default()
    };
    tree::node(NodeEnum::AArrayExpr(array))
}

/// A condition that is always true, and fails where this value does. It reads no row, so the server tries it once before all that do;
/// where it has the parameter's value as it plans, nothing is left of it.
pub(super) fn tried_first(value: Node) -> Node {
    let is_null = pb::NullTest {
        xpr: None,
        arg: tree::boxed(value),
        nulltesttype: pb::NullTestType::IsNull as i32,
        argisrow: false,
        location: -1,
    };
    tree::case(tree::node(NodeEnum::NullTest(Box::new(is_null))), tree::boolean(true), Some(tree::boolean(true)))
}

fn is_cast_of_parameter(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::TypeCast(cast)) => cast
            .arg
            .as_deref()
            .is_some_and(|arg| matches!(arg.node, Some(NodeEnum::ParamRef(_))) || is_cast_of_parameter(arg)),
        _ => false,
    }
}
