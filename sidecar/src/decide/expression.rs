//! Expressions of masks and filters as trees: a walk over the closed set of node kinds that they may consist of, and
//! their instantiation at the place where they are used.
//!
//! The set is closed by construction: [`for_each_child`] refuses a node it doesn't know, and `bind` puts every
//! expression through it once ([`columns_of`]) before it comes into force. So an instantiation can't skip a column.

use pg_query::protobuf::{
    ColumnRef, JoinExpr, LimitOption, Node, ParseResult, RawStmt, ResTarget, SelectStmt, SetOperation, WindowDef,
    WithClause, node::Node as Kind,
};

use super::Denial;
use super::bound::ROW;

/// Aliases that filters use in their own subqueries begin with this.
pub const SUBQUERY_ALIAS: &str = "postern_filter_";

/// A node that may not stand in a mask or filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} can't stand in it")]
pub struct UnknownNode(pub String);

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
///
/// The alias must not begin with [`SUBQUERY_ALIAS`]: filters use those in their own subqueries.
pub fn instantiate(expression: &Node, alias: &str) -> Node {
    instantiate_with(expression, &mut |column| column_ref(&[alias, column]))
}

/// The expression with each column of the row replaced by what `value` gives for its name, such as the new value of
/// a write. Column references in what `value` gives must be qualified: the expression may stand in a subquery there.
pub fn instantiate_with(expression: &Node, value: &mut dyn FnMut(&str) -> Node) -> Node {
    let mut expression = expression.clone();
    replace(&mut expression, value);
    expression
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
