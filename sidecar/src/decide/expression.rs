//! Expressions of masks and filters as trees: a walk over the closed set of node kinds that they may consist of, and
//! their instantiation at the place where they are used.
//!
//! The set is closed by construction: [`for_each_child`] refuses a node it doesn't know, and `bind` puts every
//! expression through it once ([`columns_of`]) before it comes into force. So an instantiation can't skip a column.

use pg_query::protobuf::{
    AConst, AExpr, AExprKind, Alias, BoolExprType, ColumnRef, JoinExpr, LimitOption, Node, ParseResult, RangeSubselect,
    RawStmt, ResTarget, SelectStmt, SetOperation, SubLink, SubLinkType, WindowDef, WithClause, a_const::Val,
    node::Node as Kind,
};

use super::bound::ROW;
use super::{Denial, builtins};
use crate::catalog::{Catalog, Relation, RelationKind};

/// Aliases that filters use in their own subqueries begin with this.
pub const SUBQUERY_ALIAS: &str = "postern_filter_";

/// A node that may not stand in a mask or filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} can't stand in it")]
pub struct UnknownNode(pub String);

/// By these the server compares for the price of one operator; some others cost a hundred times that.
const COMPARISONS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// Whether a filter is more than comparisons of columns with constants, each of which costs less than a comparison with a cast
/// of a parameter.
pub fn is_costly(filter: &Node, catalog: &Catalog, relation: &Relation) -> bool {
    fn kind(node: &Option<Box<Node>>) -> Option<&Kind> {
        node.as_deref().and_then(|node| node.node.as_ref())
    }
    // What a view's column is, or a generated one's, may take the place of it.
    if relation.kind == RelationKind::View {
        return true;
    }
    let stored = |name: &str| relation.column(name).filter(|column| column.generated.is_none());
    let column = |node: &Option<Box<Node>>| node.as_deref().and_then(as_row_column).and_then(stored);
    let is_column = |node: &Option<Box<Node>>| column(node).is_some();
    // A column beside a constant of another kind would be cast, for the price of another operator.
    let is_beside = |of: &Option<Box<Node>>, node: &Option<Box<Node>>| {
        let Some(of) = column(of) else { return false };
        match kind(node) {
            Some(Kind::AConst(constant)) => !matches!(constant.val, Some(Val::Fval(_))),
            Some(Kind::TypeCast(cast)) => {
                let name = cast.type_name.as_ref().and_then(|name| text_of(name.names.last()?));
                matches!(kind(&cast.arg), Some(Kind::AConst(_)))
                    && name.is_some_and(|name| !["numeric", "float4", "float8"].contains(&name))
                    && cast.type_name.as_ref().and_then(|name| catalog.resolve_type_name(&[], &[], name)).is_some_and(
                        |found| builtins::leakproof(catalog, "=", catalog.base_type(of.type_oid), found.oid),
                    )
            }
            _ => false,
        }
    };
    let is_value = |node: &Option<Box<Node>>| is_column(node) || matches!(kind(node), Some(Kind::AConst(_)));
    let is_own = |expr: &AExpr| {
        let names: Option<Vec<&str>> = expr.name.iter().map(text_of).collect();
        matches!(names.as_deref(), Some(["pg_catalog", name]) if COMPARISONS.contains(name))
    };
    let mut costly = false;
    let mut conjuncts = vec![filter];
    while let Some(conjunct) = conjuncts.pop() {
        costly |= match &conjunct.node {
            Some(Kind::BoolExpr(bool)) if bool.boolop == BoolExprType::AndExpr as i32 => {
                conjuncts.extend(&bool.args);
                false
            }
            Some(Kind::ColumnRef(_)) => as_row_column(conjunct).and_then(stored).is_none(),
            // NOT costs nothing, a list half of an operator for each of its items.
            Some(Kind::BoolExpr(bool)) if bool.boolop == BoolExprType::NotExpr as i32 => {
                !bool.args.iter().all(|arg| as_row_column(arg).and_then(stored).is_some())
            }
            Some(Kind::AExpr(expr)) if expr.kind == AExprKind::AexprOpAny as i32 => {
                let is_short = |array: &Option<Box<Node>>, is_item: &dyn Fn(&AConst) -> bool| {
                    matches!(kind(array), Some(Kind::AArrayExpr(array)) if array.elements.len() <= 2
                        && array.elements.iter().all(|item| matches!(&item.node, Some(Kind::AConst(item)) if is_item(item))))
                };
                let fits = match (column(&expr.lexpr), kind(&expr.rexpr)) {
                    (Some(of), Some(Kind::TypeCast(cast))) => {
                        let of = catalog.base_type(of.type_oid);
                        let name = cast.type_name.as_ref();
                        let found = name.and_then(|name| catalog.resolve_type_name(&[], &[], name));
                        is_short(&cast.arg, &|_| true)
                            && found.is_some_and(|found| builtins::leakproof(catalog, "=", of, found.element))
                    }
                    (Some(_), _) => is_short(&expr.rexpr, &|item| matches!(item.val, Some(Val::Ival(_)))),
                    _ => false,
                };
                !(is_own(expr) && fits)
            }
            Some(Kind::AExpr(expr)) => {
                let plain = is_own(expr) && expr.kind == AExprKind::AexprOp as i32;
                let (left, right) = (&expr.lexpr, &expr.rexpr);
                !(plain && (is_beside(left, right) || is_beside(right, left)))
            }
            Some(Kind::NullTest(test)) => !is_value(&test.arg),
            Some(Kind::BooleanTest(test)) => !is_value(&test.arg),
            _ => true,
        };
    }
    costly
}

/// A string node.
pub fn string(text: &str) -> Node {
    Node { node: Some(Kind::String(pg_query::protobuf::String { sval: text.to_owned() })) }
}

/// The column reference made of these names.
pub fn column_ref(names: &[&str]) -> Node {
    let fields = names.iter().map(|name| string(name)).collect();
    Node { node: Some(Kind::ColumnRef(ColumnRef { fields, location: -1 })) }
}

/// The column of the row, as mask and filter expressions refer to it.
pub fn row_column(name: &str) -> Node {
    column_ref(&[ROW, name])
}

/// An expression as SQL, proven to be it.
pub fn to_sql(expression: &Node) -> Result<String, Denial> {
    let target = ResTarget { val: Some(Box::new(expression.clone())), ..ResTarget::default() };
    let select = SelectStmt {
        target_list: vec![Node { node: Some(Kind::ResTarget(Box::new(target))) }],
        limit_option: LimitOption::Default.into(),
        op: SetOperation::SetopNone.into(),
        ..SelectStmt::default()
    };
    let stmt = Some(Box::new(Node { node: Some(Kind::SelectStmt(Box::new(select))) }));
    let tree = ParseResult { version: 0, stmts: vec![RawStmt { stmt, stmt_location: 0, stmt_len: 0 }] };
    let sql = crate::sql::emit(&tree)?;
    Ok(sql.strip_prefix("SELECT ").map(str::to_owned).unwrap_or(sql))
}

/// Splits a condition at its top-level ANDs.
pub(crate) fn conjuncts(condition: Node) -> Vec<Node> {
    match condition.node {
        Some(Kind::BoolExpr(all)) if all.boolop == BoolExprType::AndExpr as i32 => {
            all.args.into_iter().flat_map(conjuncts).collect()
        }
        _ => vec![condition],
    }
}

/// The text of a string node.
pub fn text_of(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Kind::String(string)) => Some(&string.sval),
        _ => None,
    }
}

/// The name, if this is the reference `[ROW, name]`.
pub fn as_row_column(node: &Node) -> Option<&str> {
    let Some(Kind::ColumnRef(reference)) = &node.node else { return None };
    match reference.fields.as_slice() {
        [row, name] if text_of(row) == Some(ROW) => text_of(name),
        _ => None,
    }
}

/// The expression with [`ROW`] replaced by the alias under which the relation stands there.
pub fn instantiate(expression: &Node, alias: &str) -> Node {
    instantiate_with(expression, &mut |column| column_ref(&[alias, column]))
}

/// The expression with each column of the row replaced by what `value` gives for its name, such as the new value of
/// a write.
///
/// Nothing in what `value` gives can be captured by a sub-select of the expression: where a name in it could be, the
/// values are computed outside of it, as columns of a row of their own.
pub fn instantiate_with(expression: &Node, value: &mut dyn FnMut(&str) -> Node) -> Node {
    let mut expression = expression.clone();
    if !has_sub_select(&mut expression) {
        replace(&mut expression, value);
        return expression;
    }
    let mut outside: Vec<(String, Node)> = Vec::new();
    replace(&mut expression, &mut |column| {
        if !outside.iter().any(|(name, _)| name == column) {
            let mut value = value(column);
            if !can_be_captured(&mut value) {
                return value;
            }
            outside.push((column.to_owned(), value));
        }
        column_ref(&[VALUES_ALIAS, column])
    });
    if outside.is_empty() { expression } else { over_values(expression, outside) }
}

/// The alias of the row of values that are computed outside of an expression's sub-selects.
const VALUES_ALIAS: &str = "postern_filter_row";

fn has_sub_select(node: &mut Node) -> bool {
    if matches!(&node.node, Some(Kind::SubLink(_))) {
        return true;
    }
    let mut found = false;
    // An unknown node may be anything.
    for_each_child(node, &mut |child| {
        found |= has_sub_select(child);
        Ok(())
    })
    .is_err()
        || found
}

/// Whether a name in it may mean something else inside a filter's sub-select: one that isn't qualified, or by an alias
/// like those that filters use.
fn can_be_captured(node: &mut Node) -> bool {
    if let Some(Kind::ColumnRef(reference)) = &node.node {
        return match reference.fields.as_slice() {
            [] | [_] => true,
            [first, ..] => text_of(first).is_none_or(|alias| alias.starts_with(SUBQUERY_ALIAS)),
        };
    }
    let mut found = false;
    for_each_child(node, &mut |child| {
        found |= can_be_captured(child);
        Ok(())
    })
    .is_err()
        || found
}

/// `(SELECT expression FROM (SELECT value AS column, …) AS postern_filter_row)`
fn over_values(expression: Node, values: Vec<(String, Node)>) -> Node {
    let target = |name: String, value: Node| Node {
        node: Some(Kind::ResTarget(Box::new(ResTarget {
            name,
            val: Some(Box::new(value)),
            location: -1,
            ..ResTarget::default()
        }))),
    };
    let select = |target_list, from_clause| Node {
        node: Some(Kind::SelectStmt(Box::new(SelectStmt {
            target_list,
            from_clause,
            limit_option: LimitOption::Default.into(),
            op: SetOperation::SetopNone.into(),
            ..SelectStmt::default()
        }))),
    };
    let row = RangeSubselect {
        lateral: false,
        subquery: Some(Box::new(select(
            values.into_iter().map(|(name, value)| target(name, value)).collect(),
            Vec::new(),
        ))),
        alias: Some(Alias { aliasname: VALUES_ALIAS.to_owned(), colnames: Vec::new() }),
    };
    let from = Node { node: Some(Kind::RangeSubselect(Box::new(row))) };
    let link = SubLink {
        sub_link_type: SubLinkType::ExprSublink.into(),
        subselect: Some(Box::new(select(vec![target(String::new(), expression)], vec![from]))),
        location: -1,
        ..SubLink::default()
    };
    Node { node: Some(Kind::SubLink(Box::new(link))) }
}

fn replace(node: &mut Node, value: &mut dyn FnMut(&str) -> Node) {
    if let Some(name) = as_row_column(node) {
        *node = value(name);
        return;
    }
    // Bind has walked this very expression without meeting an unknown node.
    let _walked = for_each_child(node, &mut |child| {
        replace(child, value);
        Ok(())
    });
}

/// The names of the row's columns that the expression reads, in order of first use; an error if it holds a node that
/// the walk doesn't know.
pub fn columns_of(expression: &Node) -> Result<Vec<String>, UnknownNode> {
    let mut names = Vec::new();
    collect(&mut expression.clone(), &mut names)?;
    Ok(names)
}

fn collect(node: &mut Node, names: &mut Vec<String>) -> Result<(), UnknownNode> {
    if let Some(name) = as_row_column(node) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        return Ok(());
    }
    for_each_child(node, &mut |child| collect(child, names))
}

/// The names of each column reference in the expression; an error if one is a whole row, or in a node that the walk
/// doesn't know.
pub fn references(expression: &Node) -> Result<Vec<Vec<String>>, UnknownNode> {
    fn collect(node: &mut Node, found: &mut Vec<Vec<String>>) -> Result<(), UnknownNode> {
        if let Some(Kind::ColumnRef(reference)) = &node.node {
            let names: Option<Vec<String>> =
                reference.fields.iter().map(|field| text_of(field).map(str::to_owned)).collect();
            found.push(names.ok_or_else(|| UnknownNode("a whole row".to_owned()))?);
            return Ok(());
        }
        for_each_child(node, &mut |child| collect(child, found))
    }
    let mut found = Vec::new();
    collect(&mut expression.clone(), &mut found)?;
    Ok(found)
}

/// The name, if this is a column reference and nothing else.
pub fn column_name(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Kind::ColumnRef(reference)) => reference.fields.last().and_then(text_of),
        _ => None,
    }
}

type Visit<'a> = dyn FnMut(&mut Node) -> Result<(), UnknownNode> + 'a;

/// Calls `visit` for each direct child that is an expression, a query or a part of one; refuses a node whose children
/// it doesn't know.
pub fn for_each_child(node: &mut Node, visit: &mut Visit<'_>) -> Result<(), UnknownNode> {
    let Some(kind) = &mut node.node else { return Ok(()) };
    match kind {
        Kind::ColumnRef(_)
        | Kind::AConst(_)
        | Kind::String(_)
        | Kind::AStar(_)
        | Kind::ParamRef(_)
        | Kind::SqlvalueFunction(_)
        | Kind::RangeVar(_)
        | Kind::TypeName(_) => Ok(()),
        Kind::AExpr(it) => {
            one(&mut it.lexpr, visit)?;
            one(&mut it.rexpr, visit)
        }
        Kind::BoolExpr(it) => many(&mut it.args, visit),
        Kind::FuncCall(it) => {
            many(&mut it.args, visit)?;
            many(&mut it.agg_order, visit)?;
            one(&mut it.agg_filter, visit)?;
            match &mut it.over {
                Some(window) => for_each_child_of_window(window, visit),
                None => Ok(()),
            }
        }
        Kind::NamedArgExpr(it) => one(&mut it.arg, visit),
        Kind::TypeCast(it) => one(&mut it.arg, visit),
        Kind::CollateClause(it) => one(&mut it.arg, visit),
        Kind::CaseExpr(it) => {
            one(&mut it.arg, visit)?;
            many(&mut it.args, visit)?;
            one(&mut it.defresult, visit)
        }
        Kind::CaseWhen(it) => {
            one(&mut it.expr, visit)?;
            one(&mut it.result, visit)
        }
        Kind::NullTest(it) => one(&mut it.arg, visit),
        Kind::BooleanTest(it) => one(&mut it.arg, visit),
        Kind::CoalesceExpr(it) => many(&mut it.args, visit),
        Kind::MinMaxExpr(it) => many(&mut it.args, visit),
        Kind::AArrayExpr(it) => many(&mut it.elements, visit),
        Kind::RowExpr(it) => many(&mut it.args, visit),
        Kind::List(it) => many(&mut it.items, visit),
        Kind::AIndirection(it) => {
            one(&mut it.arg, visit)?;
            many(&mut it.indirection, visit)
        }
        Kind::AIndices(it) => {
            one(&mut it.lidx, visit)?;
            one(&mut it.uidx, visit)
        }
        Kind::SubLink(it) => {
            one(&mut it.testexpr, visit)?;
            one(&mut it.subselect, visit)
        }
        Kind::SelectStmt(it) => for_each_child_of_select(it, visit),
        Kind::ResTarget(it) => one(&mut it.val, visit),
        Kind::SortBy(it) => one(&mut it.node, visit),
        Kind::WindowDef(it) => for_each_child_of_window(it, visit),
        Kind::GroupingSet(it) => many(&mut it.content, visit),
        Kind::GroupingFunc(it) => many(&mut it.args, visit),
        Kind::RangeSubselect(it) => one(&mut it.subquery, visit),
        Kind::JoinExpr(it) => for_each_child_of_join(it, visit),
        Kind::CommonTableExpr(it) => {
            if it.search_clause.is_some() || it.cycle_clause.is_some() {
                return Err(UnknownNode("SEARCH or CYCLE".to_owned()));
            }
            one(&mut it.ctequery, visit)
        }
        other => Err(UnknownNode(kind_name(other))),
    }
}

/// As [`for_each_child`], for a query.
pub fn for_each_child_of_select(select: &mut SelectStmt, visit: &mut Visit<'_>) -> Result<(), UnknownNode> {
    if select.into_clause.is_some() {
        return Err(UnknownNode("INTO".to_owned()));
    }
    if !select.locking_clause.is_empty() {
        return Err(UnknownNode("a locking clause".to_owned()));
    }
    if let Some(WithClause { ctes, .. }) = &mut select.with_clause {
        many(ctes, visit)?;
    }
    many(&mut select.distinct_clause, visit)?;
    many(&mut select.target_list, visit)?;
    many(&mut select.from_clause, visit)?;
    one(&mut select.where_clause, visit)?;
    many(&mut select.group_clause, visit)?;
    one(&mut select.having_clause, visit)?;
    many(&mut select.window_clause, visit)?;
    many(&mut select.values_lists, visit)?;
    many(&mut select.sort_clause, visit)?;
    one(&mut select.limit_offset, visit)?;
    one(&mut select.limit_count, visit)?;
    for branch in [&mut select.larg, &mut select.rarg].into_iter().flatten() {
        for_each_child_of_select(branch, visit)?;
    }
    Ok(())
}

fn for_each_child_of_window(window: &mut WindowDef, visit: &mut Visit<'_>) -> Result<(), UnknownNode> {
    many(&mut window.partition_clause, visit)?;
    many(&mut window.order_clause, visit)?;
    one(&mut window.start_offset, visit)?;
    one(&mut window.end_offset, visit)
}

fn for_each_child_of_join(join: &mut JoinExpr, visit: &mut Visit<'_>) -> Result<(), UnknownNode> {
    one(&mut join.larg, visit)?;
    one(&mut join.rarg, visit)?;
    one(&mut join.quals, visit)
}

fn one(child: &mut Option<Box<Node>>, visit: &mut Visit<'_>) -> Result<(), UnknownNode> {
    match child {
        Some(node) => visit(node),
        None => Ok(()),
    }
}

fn many(children: &mut [Node], visit: &mut Visit<'_>) -> Result<(), UnknownNode> {
    // An empty node is SQL's nothing (as in DISTINCT without ON), not an expression.
    children.iter_mut().filter(|child| child.node.is_some()).try_for_each(visit)
}

/// The name of a node's kind, for messages.
pub fn kind_name(kind: &Kind) -> String {
    let debug = format!("{kind:?}");
    debug.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::decide::mask::parse_expression;

    const WITH_SUB_SELECT: &str =
        "EXISTS (SELECT 1 FROM public.c postern_filter_0 WHERE postern_filter_0.id = \"\u{1}row\".customer)";

    fn with_value(expression: &str, value: &str) -> String {
        let value = parse_expression(value).unwrap();
        to_sql(&instantiate_with(&parse_expression(expression).unwrap(), &mut |_| value.clone())).unwrap()
    }

    #[test]
    fn a_name_in_a_new_value_is_not_captured_by_a_filters_sub_select() {
        let inside = |value: &str| {
            format!("EXISTS (SELECT 1 FROM public.c postern_filter_0 WHERE postern_filter_0.id = {value})")
        };
        let outside = |value: &str| {
            format!(
                "(SELECT {} FROM (SELECT {value} AS customer) postern_filter_row)",
                inside("postern_filter_row.customer")
            )
        };
        for value in ["7", "$1", "t.id", "(t.id + 1)"] {
            assert_eq!(with_value(WITH_SUB_SELECT, value), inside(value.trim_matches(['(', ')'])));
        }
        for value in ["id", "postern_filter_0.id", "t.id + id", "(SELECT max(id) FROM x)"] {
            assert_eq!(with_value(WITH_SUB_SELECT, value), outside(value));
        }
        assert_eq!(with_value("\"\u{1}row\".a = 1", "id"), "id = 1");
    }

    #[test]
    fn an_alias_that_looks_like_a_filters_own_is_not_captured() {
        let expression = parse_expression(WITH_SUB_SELECT).unwrap();
        assert_eq!(
            to_sql(&instantiate(&expression, "postern_filter_0")).unwrap(),
            "(SELECT EXISTS (SELECT 1 FROM public.c postern_filter_0 WHERE postern_filter_0.id = postern_filter_row.customer) \
             FROM (SELECT postern_filter_0.customer AS customer) postern_filter_row)"
        );
    }
}
