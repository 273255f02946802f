//! The syntax tree as data: its children, and small pieces of it to build with.
//!
//! **Promise.** [`each_child`] hands out every child of a node kind it knows; a kind it does not know is an error, never
//! a node without children. So a walk built on it is exhaustive over what queries and their expressions consist of.

use std::collections::BTreeSet;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

pub(crate) use crate::decide::expression::conjuncts;
use crate::decide::{Denial, Reason};

/// Called for each child.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&mut Node) -> Result<(), Denial>;

/// Refuses a node that the proxy has no rule for.
pub(crate) fn unsupported(what: &str) -> Denial {
    Denial::new(Reason::Unsupported, format!("this form of SQL is not supported through the gate: {what}"))
        .sqlstate("0A000")
        .hint("Write the statement in another way, or ask the owner of the policy.")
}

/// The name of a node's kind, for messages.
pub(crate) fn kind(node: &NodeEnum) -> String {
    let debug = format!("{node:.0?}");
    debug.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()
}

fn each(nodes: &mut [Node], f: Visit<'_>) -> Result<(), Denial> {
    nodes.iter_mut().try_for_each(f)
}

fn one(node: &mut Option<Box<Node>>, f: Visit<'_>) -> Result<(), Denial> {
    node.as_deref_mut().map_or(Ok(()), f)
}

/// Every child of a SELECT, both sides of a set operation included.
pub(crate) fn each_select_child(select: &mut pb::SelectStmt, f: Visit<'_>) -> Result<(), Denial> {
    let pb::SelectStmt {
        distinct_clause,
        into_clause,
        target_list,
        from_clause,
        where_clause,
        group_clause,
        group_distinct: _,
        having_clause,
        window_clause,
        values_lists,
        sort_clause,
        limit_offset,
        limit_count,
        limit_option: _,
        locking_clause: _, // names of FROM items, not relations
        with_clause,
        op: _,
        all: _,
        larg,
        rarg,
    } = select;
    if into_clause.is_some() {
        return Err(unsupported("SELECT INTO in this place"));
    }
    each_with_child(with_clause, f)?;
    for side in [larg, rarg].into_iter().flatten() {
        each_select_child(side, f)?;
    }
    each(from_clause, f)?;
    each(target_list, f)?;
    one(where_clause, f)?;
    each(distinct_clause, f)?;
    each(group_clause, f)?;
    one(having_clause, f)?;
    each(window_clause, f)?;
    each(values_lists, f)?;
    each(sort_clause, f)?;
    one(limit_offset, f)?;
    one(limit_count, f)
}

/// Every child of a WITH clause.
pub(crate) fn each_with_child(with: &mut Option<pb::WithClause>, f: Visit<'_>) -> Result<(), Denial> {
    with.as_mut().map_or(Ok(()), |with| each(&mut with.ctes, f))
}

fn each_window_child(window: &mut pb::WindowDef, f: Visit<'_>) -> Result<(), Denial> {
    let pb::WindowDef {
        name: _,
        refname: _,
        partition_clause,
        order_clause,
        frame_options: _,
        start_offset,
        end_offset,
        location: _,
    } = window;
    each(partition_clause, f)?;
    each(order_clause, f)?;
    one(start_offset, f)?;
    one(end_offset, f)
}

fn each_json_value_child(value: &mut Option<Box<pb::JsonValueExpr>>, f: Visit<'_>) -> Result<(), Denial> {
    let Some(value) = value else { return Ok(()) };
    let pb::JsonValueExpr { raw_expr, formatted_expr, format: _ } = &mut **value;
    one(raw_expr, f)?;
    one(formatted_expr, f)
}

fn each_json_behavior_child(behavior: &mut Option<Box<pb::JsonBehavior>>, f: Visit<'_>) -> Result<(), Denial> {
    let Some(behavior) = behavior else { return Ok(()) };
    let pb::JsonBehavior { btype: _, expr, coerce: _, location: _ } = &mut **behavior;
    one(expr, f)
}

fn each_json_constructor_child(
    constructor: &mut Option<Box<pb::JsonAggConstructor>>,
    f: Visit<'_>,
) -> Result<(), Denial> {
    let Some(constructor) = constructor else { return Ok(()) };
    let pb::JsonAggConstructor { output: _, agg_filter, agg_order, over, location: _ } = &mut **constructor;
    one(agg_filter, f)?;
    each(agg_order, f)?;
    over.as_deref_mut().map_or(Ok(()), |over| each_window_child(over, f))
}

fn each_returning_child(returning: &mut Option<pb::ReturningClause>, f: Visit<'_>) -> Result<(), Denial> {
    returning.as_mut().map_or(Ok(()), |returning| each(&mut returning.exprs, f))
}

/// Every child of a node of a query or an expression.
///
/// # Errors
/// A node kind that has no place in one.
pub(crate) fn each_child(node: &mut NodeEnum, f: Visit<'_>) -> Result<(), Denial> {
    match node {
        NodeEnum::ColumnRef(_)
        | NodeEnum::ParamRef(_)
        | NodeEnum::AConst(_)
        | NodeEnum::AStar(_)
        | NodeEnum::Integer(_)
        | NodeEnum::Float(_)
        | NodeEnum::Boolean(_)
        | NodeEnum::String(_)
        | NodeEnum::BitString(_)
        | NodeEnum::SqlvalueFunction(_)
        | NodeEnum::SetToDefault(_)
        | NodeEnum::CurrentOfExpr(_)
        | NodeEnum::MergeSupportFunc(_)
        | NodeEnum::RangeVar(_)
        | NodeEnum::JsonTablePathSpec(_)
        | NodeEnum::TypeName(_) => Ok(()),
        NodeEnum::AExpr(n) => {
            one(&mut n.lexpr, f)?;
            one(&mut n.rexpr, f)
        }
        NodeEnum::BoolExpr(n) => each(&mut n.args, f),
        NodeEnum::TypeCast(n) => one(&mut n.arg, f),
        NodeEnum::CollateClause(n) => one(&mut n.arg, f),
        NodeEnum::FuncCall(n) => {
            each(&mut n.args, f)?;
            each(&mut n.agg_order, f)?;
            one(&mut n.agg_filter, f)?;
            n.over.as_deref_mut().map_or(Ok(()), |over| each_window_child(over, f))
        }
        NodeEnum::AIndices(n) => {
            one(&mut n.lidx, f)?;
            one(&mut n.uidx, f)
        }
        NodeEnum::AIndirection(n) => {
            one(&mut n.arg, f)?;
            each(&mut n.indirection, f)
        }
        NodeEnum::AArrayExpr(n) => each(&mut n.elements, f),
        NodeEnum::SubLink(n) => {
            one(&mut n.testexpr, f)?;
            one(&mut n.subselect, f)
        }
        NodeEnum::CaseExpr(n) => {
            one(&mut n.arg, f)?;
            each(&mut n.args, f)?;
            one(&mut n.defresult, f)
        }
        NodeEnum::CaseWhen(n) => {
            one(&mut n.expr, f)?;
            one(&mut n.result, f)
        }
        NodeEnum::CoalesceExpr(n) => each(&mut n.args, f),
        NodeEnum::MinMaxExpr(n) => each(&mut n.args, f),
        NodeEnum::NullTest(n) => one(&mut n.arg, f),
        NodeEnum::BooleanTest(n) => one(&mut n.arg, f),
        NodeEnum::RowExpr(n) => each(&mut n.args, f),
        NodeEnum::XmlExpr(n) => {
            each(&mut n.named_args, f)?;
            each(&mut n.args, f)
        }
        NodeEnum::XmlSerialize(n) => one(&mut n.expr, f),
        NodeEnum::GroupingFunc(n) => each(&mut n.args, f),
        NodeEnum::GroupingSet(n) => each(&mut n.content, f),
        NodeEnum::NamedArgExpr(n) => one(&mut n.arg, f),
        NodeEnum::List(n) => each(&mut n.items, f),
        NodeEnum::ResTarget(n) => {
            each(&mut n.indirection, f)?;
            one(&mut n.val, f)
        }
        NodeEnum::MultiAssignRef(n) => one(&mut n.source, f),
        NodeEnum::SortBy(n) => one(&mut n.node, f),
        NodeEnum::WindowDef(n) => each_window_child(n, f),
        NodeEnum::JsonFuncExpr(n) => {
            each_json_value_child(&mut n.context_item, f)?;
            one(&mut n.pathspec, f)?;
            each(&mut n.passing, f)?;
            each_json_behavior_child(&mut n.on_empty, f)?;
            each_json_behavior_child(&mut n.on_error, f)
        }
        NodeEnum::JsonValueExpr(n) => {
            one(&mut n.raw_expr, f)?;
            one(&mut n.formatted_expr, f)
        }
        NodeEnum::JsonArgument(n) => each_json_value_child(&mut n.val, f),
        NodeEnum::JsonKeyValue(n) => {
            one(&mut n.key, f)?;
            each_json_value_child(&mut n.value, f)
        }
        NodeEnum::JsonObjectConstructor(n) => each(&mut n.exprs, f),
        NodeEnum::JsonArrayConstructor(n) => each(&mut n.exprs, f),
        NodeEnum::JsonArrayQueryConstructor(n) => one(&mut n.query, f),
        NodeEnum::JsonObjectAgg(n) => {
            each_json_constructor_child(&mut n.constructor, f)?;
            let Some(arg) = &mut n.arg else { return Ok(()) };
            one(&mut arg.key, f)?;
            each_json_value_child(&mut arg.value, f)
        }
        NodeEnum::JsonArrayAgg(n) => {
            each_json_constructor_child(&mut n.constructor, f)?;
            each_json_value_child(&mut n.arg, f)
        }
        NodeEnum::JsonIsPredicate(n) => one(&mut n.expr, f),
        NodeEnum::JsonParseExpr(n) => each_json_value_child(&mut n.expr, f),
        NodeEnum::JsonScalarExpr(n) => one(&mut n.expr, f),
        NodeEnum::JsonSerializeExpr(n) => each_json_value_child(&mut n.expr, f),
        NodeEnum::JsonTable(n) => {
            each_json_value_child(&mut n.context_item, f)?;
            each(&mut n.passing, f)?;
            each(&mut n.columns, f)?;
            each_json_behavior_child(&mut n.on_error, f)
        }
        NodeEnum::JsonTableColumn(n) => {
            each(&mut n.columns, f)?;
            each_json_behavior_child(&mut n.on_empty, f)?;
            each_json_behavior_child(&mut n.on_error, f)
        }
        NodeEnum::JoinExpr(n) => {
            one(&mut n.larg, f)?;
            one(&mut n.rarg, f)?;
            one(&mut n.quals, f)
        }
        NodeEnum::RangeSubselect(n) => one(&mut n.subquery, f),
        NodeEnum::RangeFunction(n) => each(&mut n.functions, f),
        // In FROM: a name and a type.
        NodeEnum::ColumnDef(n) if n.raw_default.is_none() && n.constraints.is_empty() => Ok(()),
        NodeEnum::RangeTableSample(n) => {
            one(&mut n.relation, f)?;
            each(&mut n.args, f)?;
            one(&mut n.repeatable, f)
        }
        NodeEnum::RangeTableFunc(n) => {
            one(&mut n.docexpr, f)?;
            one(&mut n.rowexpr, f)?;
            each(&mut n.namespaces, f)?;
            each(&mut n.columns, f)
        }
        NodeEnum::RangeTableFuncCol(n) => {
            one(&mut n.colexpr, f)?;
            one(&mut n.coldefexpr, f)
        }
        NodeEnum::CommonTableExpr(n) => {
            one(&mut n.ctequery, f)?;
            n.cycle_clause.as_deref_mut().map_or(Ok(()), |cycle| {
                one(&mut cycle.cycle_mark_value, f)?;
                one(&mut cycle.cycle_mark_default, f)
            })
        }
        NodeEnum::SelectStmt(n) => each_select_child(n, f),
        NodeEnum::InsertStmt(n) => {
            each_with_child(&mut n.with_clause, f)?;
            each(&mut n.cols, f)?;
            one(&mut n.select_stmt, f)?;
            if let Some(conflict) = n.on_conflict_clause.as_deref_mut() {
                if let Some(infer) = conflict.infer.as_deref_mut() {
                    each(&mut infer.index_elems, f)?;
                    one(&mut infer.where_clause, f)?;
                }
                each(&mut conflict.target_list, f)?;
                one(&mut conflict.where_clause, f)?;
            }
            each_returning_child(&mut n.returning_clause, f)
        }
        NodeEnum::IndexElem(n) => one(&mut n.expr, f),
        NodeEnum::UpdateStmt(n) => {
            each_with_child(&mut n.with_clause, f)?;
            each(&mut n.target_list, f)?;
            one(&mut n.where_clause, f)?;
            each(&mut n.from_clause, f)?;
            each_returning_child(&mut n.returning_clause, f)
        }
        NodeEnum::DeleteStmt(n) => {
            each_with_child(&mut n.with_clause, f)?;
            each(&mut n.using_clause, f)?;
            one(&mut n.where_clause, f)?;
            each_returning_child(&mut n.returning_clause, f)
        }
        NodeEnum::MergeStmt(n) => {
            each_with_child(&mut n.with_clause, f)?;
            one(&mut n.source_relation, f)?;
            one(&mut n.join_condition, f)?;
            each(&mut n.merge_when_clauses, f)?;
            each_returning_child(&mut n.returning_clause, f)
        }
        NodeEnum::MergeWhenClause(n) => {
            one(&mut n.condition, f)?;
            each(&mut n.target_list, f)?;
            each(&mut n.values, f)
        }
        other => Err(unsupported(&kind(other))),
    }
}

/// Wraps.
pub(crate) fn node(node: NodeEnum) -> Node {
    Node { node: Some(node) }
}

/// Wraps and boxes.
pub(crate) fn boxed(inner: Node) -> Option<Box<Node>> {
    Some(Box::new(inner))
}

/// `(query) alias (columns)`, as an item of FROM.
pub(crate) fn derived(query: Node, alias: &str, columns: Vec<Node>) -> Node {
    node(NodeEnum::RangeSubselect(Box::new(pb::RangeSubselect {
        lateral: false,
        subquery: boxed(query),
        alias: Some(pb::Alias { aliasname: alias.to_owned(), colnames: columns }),
    })))
}

/// A query as a statement, or within one.
pub(crate) fn query(select: pb::SelectStmt) -> Node {
    node(NodeEnum::SelectStmt(Box::new(select)))
}

/// A query within an expression, without anything that it is compared with.
pub(crate) fn subquery(kind: pb::SubLinkType, select: pb::SelectStmt) -> Node {
    node(NodeEnum::SubLink(Box::new(pb::SubLink {
        xpr: None,
        sub_link_type: kind as i32,
        sub_link_id: 0,
        testexpr: None,
        oper_name: Vec::new(),
        subselect: boxed(query(select)),
        location: -1,
    })))
}

/// A String node.
pub(crate) fn string(text: impl Into<String>) -> Node {
    node(NodeEnum::String(pb::String { sval: text.into() }))
}

/// The text of a String node.
pub(crate) fn string_of(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(s)) => Some(&s.sval),
        _ => None,
    }
}

/// The texts of a list of String nodes; None if one is something else.
pub(crate) fn strings(nodes: &[Node]) -> Option<Vec<&str>> {
    nodes.iter().map(string_of).collect()
}

/// The schema, if it is written, and the name of a list of String nodes; None if it is something else.
pub(crate) fn schema_and_name(nodes: &[Node]) -> Option<(Option<&str>, &str)> {
    match nodes {
        [name] => Some((None, string_of(name)?)),
        [schema, name] => Some((Some(string_of(schema)?), string_of(name)?)),
        _ => None,
    }
}

/// What stands on both sides of an operator, or on the one that it has.
pub(crate) fn sides(expr: &pb::AExpr) -> impl Iterator<Item = &Node> {
    [&expr.lexpr, &expr.rexpr].into_iter().flatten().map(|side| &**side)
}

/// The same, with the items of a list in place of the list.
pub(crate) fn operands(expr: &pb::AExpr) -> impl Iterator<Item = &Node> {
    sides(expr).flat_map(|side| match &side.node {
        Some(NodeEnum::List(list)) => list.items.as_slice(),
        _ => std::slice::from_ref(side),
    })
}

/// `qualifier.column`.
pub(crate) fn column(qualifier: &str, name: &str) -> Node {
    node(NodeEnum::ColumnRef(pb::ColumnRef { fields: vec![string(qualifier), string(name)], location: -1 }))
}

/// The row of what goes by a name, as one value where it is no target of its own.
pub(crate) fn row_of(name: &str) -> Node {
    let star = node(NodeEnum::AStar(pb::AStar {}));
    node(NodeEnum::ColumnRef(pb::ColumnRef { fields: vec![string(name), star], location: -1 }))
}

/// `expression AS name`.
pub(crate) fn target(name: &str, value: Node) -> Node {
    node(NodeEnum::ResTarget(Box::new(pb::ResTarget {
        name: name.to_owned(),
        indirection: Vec::new(),
        val: boxed(value),
        location: -1,
    })))
}

/// All of them; TRUE for none.
pub(crate) fn and(parts: Vec<Node>) -> Node {
    // Written out and read again, one within another is of its parts.
    let mut parts: Vec<Node> = parts.into_iter().flat_map(conjuncts).collect();
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return only;
    }
    if parts.is_empty() {
        return boolean(true);
    }
    bool_expr(pb::BoolExprType::AndExpr, parts)
}

/// One of them.
pub(crate) fn or(parts: Vec<Node>) -> Node {
    bool_expr(pb::BoolExprType::OrExpr, parts)
}

/// Not it.
pub(crate) fn not(part: Node) -> Node {
    bool_expr(pb::BoolExprType::NotExpr, vec![part])
}

/// As the parser builds it: what stands first and is of the same kind is no part of its own, since `(a AND b) AND c` is
/// read as `a AND b AND c`.
pub(crate) fn bool_expr(op: pb::BoolExprType, mut args: Vec<Node>) -> Node {
    if op != pb::BoolExprType::NotExpr
        && let Some(Node { node: Some(NodeEnum::BoolExpr(first)) }) = args.first_mut()
        && first.boolop == op as i32
    {
        let inner = std::mem::take(&mut first.args);
        args.splice(..1, inner);
    }
    node(NodeEnum::BoolExpr(Box::new(pb::BoolExpr { xpr: None, boolop: op as i32, args, location: -1 })))
}

/// TRUE or FALSE.
pub(crate) fn boolean(value: bool) -> Node {
    node(NodeEnum::AConst(pb::AConst {
        isnull: false,
        location: -1,
        val: Some(pb::a_const::Val::Boolval(pb::Boolean { boolval: value })),
    }))
}

/// NULL.
pub(crate) fn null() -> Node {
    node(NodeEnum::AConst(pb::AConst { isnull: true, location: -1, val: None }))
}

/// A whole number.
pub(crate) fn number(value: i32) -> Node {
    node(NodeEnum::AConst(pb::AConst {
        isnull: false,
        location: -1,
        val: Some(pb::a_const::Val::Ival(pb::Integer { ival: value })),
    }))
}

/// A text literal.
pub(crate) fn literal(text: &str) -> Node {
    node(NodeEnum::AConst(pb::AConst {
        isnull: false,
        location: -1,
        val: Some(pb::a_const::Val::Sval(pb::String { sval: text.to_owned() })),
    }))
}

/// `CASE WHEN condition THEN value [ELSE otherwise] END`.
pub(crate) fn case(condition: Node, value: Node, otherwise: Option<Node>) -> Node {
    node(NodeEnum::CaseExpr(Box::new(pb::CaseExpr {
        xpr: None,
        casetype: 0,
        casecollid: 0,
        arg: None,
        args: vec![node(NodeEnum::CaseWhen(Box::new(pb::CaseWhen {
            xpr: None,
            expr: boxed(condition),
            result: boxed(value),
            location: -1,
        })))],
        defresult: otherwise.map(Box::new),
        location: -1,
    })))
}

/// `pg_catalog.name(args)`.
pub(crate) fn call(name: &str, args: Vec<Node>) -> Node {
    node(NodeEnum::FuncCall(Box::new(pb::FuncCall {
        funcname: vec![string("pg_catalog"), string(name)],
        args,
        agg_order: Vec::new(),
        agg_filter: None,
        over: None,
        agg_within_group: false,
        agg_star: false,
        agg_distinct: false,
        func_variadic: false,
        funcformat: pb::CoercionForm::CoerceExplicitCall as i32,
        location: -1,
    })))
}

/// Whether a node or anything within it is such; what can't be walked may be.
pub(crate) fn holds(node: &Node, such: &dyn Fn(&NodeEnum) -> bool) -> bool {
    holds_within(&mut node.clone(), such)
}

/// Where the calls and subqueries under a node stand in the client's text.
pub(crate) fn places_that_run(node: &mut Node, places: &mut BTreeSet<i32>) -> Result<(), Denial> {
    let Some(inner) = &mut node.node else { return Ok(()) };
    match inner {
        NodeEnum::FuncCall(call) => _ = places.insert(call.location),
        NodeEnum::SubLink(link) => _ = places.insert(link.location),
        _ => {}
    }
    each_child(inner, &mut |child| places_that_run(child, places))
}

fn holds_within(node: &mut Node, such: &dyn Fn(&NodeEnum) -> bool) -> bool {
    let Some(inner) = &mut node.node else { return false };
    let mut found = such(inner);
    if !found {
        let walked = each_child(inner, &mut |child| {
            found = found || holds_within(child, such);
            Ok(())
        });
        found |= walked.is_err();
    }
    found
}

/// Whether a statement is a query or a write.
pub(crate) const fn is_query(statement: &NodeEnum) -> bool {
    matches!(
        statement,
        NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_)
    )
}

/// Whether an operator's name is that of equality.
pub(crate) fn is_equality(name: &[Node]) -> bool {
    matches!(strings(name).as_deref(), Some(["="] | ["pg_catalog", "="]))
}

/// Parses one expression of the proxy's own making, such as a cast to a type as the catalog writes it.
pub(crate) fn parse_expression(sql: &str) -> Result<Node, Denial> {
    let internal = || Denial::new(Reason::Internal, "the gate could not build a part of the statement");
    let mut parsed = pg_query::parse(&format!("SELECT {sql}"), 0).map_err(|_| internal())?.protobuf;
    let statement = parsed.stmts.pop().and_then(|raw| raw.stmt).and_then(|stmt| stmt.node);
    let Some(NodeEnum::SelectStmt(mut select)) = statement else { return Err(internal()) };
    let only_a_value = pb::SelectStmt { target_list: Vec::new(), ..(*select).clone() };
    let nothing =
        pb::SelectStmt { limit_option: only_a_value.limit_option, op: only_a_value.op, ..pb::SelectStmt::default() };
    if select.target_list.len() != 1 || only_a_value != nothing {
        return Err(internal());
    }
    match select.target_list.pop().and_then(|target| target.node) {
        Some(NodeEnum::ResTarget(target)) if parsed.stmts.is_empty() => {
            target.val.map(|value| *value).ok_or_else(internal)
        }
        _ => Err(internal()),
    }
}

/// The parameters that stand somewhere. The server takes their types from where they stand first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    numbers: BTreeSet<i32>,
    /// Something could not be walked: any may stand in it.
    any: bool,
}

impl Parameters {
    /// Those of an expression, or of an item of a FROM or a list of targets.
    pub(crate) fn of(node: &Node) -> Self {
        let mut found = Self::default();
        let walked = found.walk(&mut node.clone());
        found.any = walked.is_err();
        found
    }

    fn walk(&mut self, node: &mut Node) -> Result<(), Denial> {
        match &mut node.node {
            Some(NodeEnum::ParamRef(parameter)) => {
                self.numbers.insert(parameter.number);
                Ok(())
            }
            Some(inner) => each_child(inner, &mut |child| self.walk(child)),
            None => Ok(()),
        }
    }

    /// These, and those.
    pub(crate) fn extend(&mut self, others: Self) {
        self.numbers.extend(others.numbers);
        self.any |= others.any;
    }

    /// Whether one may stand in both.
    pub(crate) fn share(&self, other: &Self) -> bool {
        let some = |one: &Self| one.any || !one.numbers.is_empty();
        (self.any && some(other)) || (other.any && some(self)) || !self.numbers.is_disjoint(&other.numbers)
    }
}

/// A cast to a type of the server's own, or to an array of it.
pub(crate) fn cast_to(expression: Node, name: &str, array: bool) -> Node {
    let bounds = if array { vec![node(NodeEnum::Integer(pb::Integer { ival: -1 }))] } else { Vec::new() };
    let type_name = pb::TypeName {
        names: vec![string("pg_catalog"), string(name)],
        typemod: -1,
        array_bounds: bounds,
        location: -1,
        ..pb::TypeName::default()
    };
    let cast = pb::TypeCast { arg: boxed(expression), type_name: Some(type_name), location: -1 };
    node(NodeEnum::TypeCast(Box::new(cast)))
}

/// `(expression)::type`, the type as `format_type` writes it with an empty search_path.
pub(crate) fn cast(expression: Node, type_sql: &str) -> Result<Node, Denial> {
    let mut cast = parse_expression(&format!("NULL::{type_sql}"))?;
    match &mut cast.node {
        Some(NodeEnum::TypeCast(cast)) => {
            cast.arg = boxed(expression);
            write_out_boolean(cast);
            // What a schema of the search_path has under that name is another type.
            if let Some(name) = cast.type_name.as_mut().filter(|name| name.names.len() == 1) {
                name.names.insert(0, string("pg_catalog"));
            }
        }
        _ => return Err(Denial::new(Reason::Internal, "the gate could not build a cast")),
    }
    Ok(cast)
}

/// `'t'::boolean` as `'true'::boolean`: the deparser makes the keyword of it, which is another tree.
pub(crate) fn write_out_boolean(cast: &mut pb::TypeCast) {
    let is_boolean = cast.type_name.as_ref().and_then(|name| name.names.last()).and_then(string_of) == Some("bool");
    if let Some(NodeEnum::AConst(constant)) = cast.arg.as_deref_mut().and_then(|arg| arg.node.as_mut())
        && let Some(pb::a_const::Val::Sval(text)) = &mut constant.val
        && is_boolean
    {
        match &*text.sval {
            "t" => "true".clone_into(&mut text.sval),
            "f" => "false".clone_into(&mut text.sval),
            _ => {}
        }
    }
}

/// Takes the node out, leaving nothing.
pub(crate) fn take(node: &mut Node) -> Node {
    std::mem::take(node)
}
