//! The text of a row filter: proves that it is one boolean expression and nothing around it.
//!
//! **Promise.** A text that passes can stand in parentheses in any statement and is one expression there: it can't
//! close the parentheses, comment them out, or bring a second statement, a clause or a set operation.
//! **Not covered.** What its names mean and whether its type is boolean: that needs a catalog, and is decided where the
//! policy is bound to one.

use pg_query::protobuf::node::Node as Kind;
use pg_query::protobuf::{Node, SelectStmt, SetOperation, Token};
use serde_json::Value;

/// Longest text; with it the depth of any tree is small enough for the stack that is given below.
pub const MAX_BYTES: usize = 4096;
/// Deepest nesting of expressions; whoever walks the filter later may count on it.
pub const MAX_DEPTH: usize = 100;
/// Two bytes of text can make a level of the tree (`- - - 1`), and a level needs less than 16 KiB to decode and drop.
const STACK_BYTES: usize = 64 << 20;

/// Checks the text, which comes back without space around it.
pub fn check(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the expression is empty".into());
    }
    if text.len() > MAX_BYTES {
        return Err(format!("the expression is longer than {MAX_BYTES} bytes"));
    }
    if text.contains('\0') {
        return Err("the expression has a NUL character".into());
    }
    stacker::grow(STACK_BYTES, || {
        check_tokens(text)?;
        // Alone a text such as `true) OR (true` is no syntax, in parentheses `true LIMIT 1` is none: only what is one
        // expression both ways passes. The offset of the text is the same in both, so the trees must be equal.
        let bare = parse_where(&format!("SELECT 1 WHERE  {text}\n"))?;
        let enclosed = parse_where(&format!("SELECT 1 WHERE ({text}\n)"))?;
        if bare != enclosed {
            return Err("the expression must be one boolean expression".into());
        }
        check_tree(&bare)
    })?;
    Ok(text.to_owned())
}

/// No comment, semicolon or parameter, and no parenthesis that closes what the text did not open.
fn check_tokens(text: &str) -> Result<(), String> {
    let scanned = pg_query::scan(text).map_err(|error| syntax(&error))?;
    let mut open: Vec<Token> = Vec::new();
    for token in scanned.tokens {
        match Token::try_from(token.token) {
            Ok(Token::SqlComment | Token::CComment) => return Err("a comment can't stand in the expression".into()),
            Ok(Token::Ascii59) => return Err("a semicolon can't stand in the expression".into()),
            Ok(Token::Param) => return Err("a parameter ($1) can't stand in the expression".into()),
            Ok(Token::Ascii40) => open.push(Token::Ascii41),
            Ok(Token::Ascii91) => open.push(Token::Ascii93),
            Ok(close @ (Token::Ascii41 | Token::Ascii93)) => {
                if open.pop() != Some(close) {
                    return Err("the expression closes a parenthesis that it did not open".into());
                }
            }
            Ok(_) => {}
            Err(_) => return Err("the expression has a token that is not known".into()),
        }
    }
    if open.is_empty() { Ok(()) } else { Err("the expression has a parenthesis that is not closed".into()) }
}

/// Parses `SELECT 1 WHERE …` and gives the condition, if the statement is that and nothing more.
fn parse_where(sql: &str) -> Result<Node, String> {
    let parsed = pg_query::parse(sql, 0).map_err(|error| syntax(&error))?;
    let mut statements = parsed.protobuf.stmts.into_iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err("the expression must be one boolean expression".into());
    };
    match statement.stmt.and_then(|stmt| stmt.node) {
        Some(Kind::SelectStmt(select)) => only_condition(*select),
        _ => None,
    }
    .ok_or_else(|| "the expression must be one boolean expression, without clauses around it".into())
}

/// The condition of a SELECT that has a target and a condition and no other clause. Takes the struct apart by name, so
/// that a clause the parser learns later does not compile here.
fn only_condition(select: SelectStmt) -> Option<Node> {
    let SelectStmt {
        distinct_clause,
        into_clause,
        target_list,
        from_clause,
        where_clause,
        group_clause,
        group_distinct,
        having_clause,
        window_clause,
        values_lists,
        sort_clause,
        limit_offset,
        limit_count,
        limit_option: _,
        locking_clause,
        with_clause,
        op,
        all,
        larg,
        rarg,
    } = select;
    let bare = distinct_clause.is_empty()
        && into_clause.is_none()
        && target_list.len() == 1
        && from_clause.is_empty()
        && group_clause.is_empty()
        && !group_distinct
        && having_clause.is_none()
        && window_clause.is_empty()
        && values_lists.is_empty()
        && sort_clause.is_empty()
        && limit_offset.is_none()
        && limit_count.is_none()
        && locking_clause.is_empty()
        && with_clause.is_none()
        && op == SetOperation::SetopNone as i32
        && !all
        && larg.is_none()
        && rarg.is_none();
    where_clause.filter(|_| bare).map(|condition| *condition)
}

/// Walks every field of the tree, as JSON: nothing can be skipped, and a kind that is not on the list is refused.
fn check_tree(condition: &Node) -> Result<(), String> {
    if let Some(Kind::AConst(constant)) = &condition.node
        && !constant.isnull
        && !matches!(constant.val, Some(pg_query::protobuf::a_const::Val::Boolval(_)))
    {
        return Err("the expression must be boolean".into());
    }
    if matches!(condition.node, Some(Kind::RowExpr(_) | Kind::AArrayExpr(_))) {
        return Err("the expression must be boolean".into());
    }
    let tree = serde_json::to_value(condition).map_err(|error| format!("the expression can't be read: {error}"))?;
    walk(&tree, 0, false)
}

fn walk(value: &Value, depth: usize, in_query: bool) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, depth, in_query)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| match (name.as_str(), field) {
            ("node", Value::Object(node)) => {
                node.iter().try_for_each(|(kind, inner)| walk_node(kind, inner, depth + 1, in_query))
            }
            ("over", Value::Object(_)) => Err("a window function can't stand in a filter".into()),
            ("with_clause", Value::Object(_)) => Err("WITH can't stand in a filter".into()),
            ("into_clause", Value::Object(_)) => Err("INTO can't stand in a filter".into()),
            ("locking_clause", Value::Array(clauses)) if !clauses.is_empty() => {
                Err("a locking clause can't stand in a filter".into())
            }
            _ => walk(field, depth, in_query),
        }),
        _ => Ok(()),
    }
}

fn walk_node(kind: &str, node: &Value, depth: usize, in_query: bool) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("the expression nests deeper than {MAX_DEPTH} levels"));
    }
    match kind {
        "AArrayExpr" | "AConst" | "AExpr" | "AIndices" | "AIndirection" | "AStar" | "Alias" | "BitString"
        | "BoolExpr" | "Boolean" | "BooleanTest" | "CaseExpr" | "CaseWhen" | "CoalesceExpr" | "CollateClause"
        | "ColumnRef" | "Float" | "Integer" | "JoinExpr" | "List" | "MinMaxExpr" | "NamedArgExpr" | "NullTest"
        | "RangeFunction" | "RangeSubselect" | "RangeVar" | "ResTarget" | "RowExpr" | "SortBy" | "SqlvalueFunction"
        | "String" | "TypeCast" | "TypeName" => walk(node, depth, in_query),
        "SelectStmt" => walk(node, depth, true),
        // What stands left of IN or ANY still belongs to the query around it.
        "SubLink" => node.as_object().into_iter().flatten().try_for_each(|(name, field)| {
            let field_in_query = in_query || name != "testexpr";
            walk(field, depth, field_in_query)
        }),
        "FuncCall" => {
            if !in_query && is_aggregate(node) {
                return Err("an aggregate can't stand in a filter".into());
            }
            walk(node, depth, in_query)
        }
        "ParamRef" => Err("a parameter ($1) can't stand in the expression".into()),
        "SetToDefault" => Err("DEFAULT can't stand in a filter".into()),
        "GroupingFunc" => Err("GROUPING can't stand in a filter".into()),
        other => Err(format!("{other} can't stand in a filter")),
    }
}

/// By its form, or as one of the built-in aggregates; those of the database are found when the policy is bound.
fn is_aggregate(call: &Value) -> bool {
    let set = |field: &str| match call.get(field) {
        Some(Value::Bool(set)) => *set,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(_)) => true,
        _ => false,
    };
    if ["agg_star", "agg_distinct", "agg_within_group", "agg_order", "agg_filter"].into_iter().any(set) {
        return true;
    }
    let parts: Vec<&str> = call
        .get("funcname")
        .and_then(Value::as_array)
        .map(|parts| parts.iter().filter_map(|part| part.pointer("/node/String/sval")?.as_str()).collect())
        .unwrap_or_default();
    match parts.as_slice() {
        [name] | ["pg_catalog", name] => AGGREGATES.contains(name),
        _ => false,
    }
}

/// Built-in aggregates.
const AGGREGATES: [&str; 36] = [
    "any_value",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "every",
    "json_agg",
    "json_agg_strict",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "max",
    "min",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "range_agg",
    "range_intersect_agg",
    "regr_count",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "variance",
    "xmlagg",
];

fn syntax(error: &pg_query::Error) -> String {
    match error {
        pg_query::Error::Decode(_) => format!("the expression nests deeper than {MAX_DEPTH} levels"),
        // "Invalid statement: …" would puzzle: the user wrote no statement.
        pg_query::Error::Parse(message) | pg_query::Error::Scan(message) => {
            format!("the expression is not valid SQL: {message}")
        }
        other => format!("the expression is not valid SQL: {other}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn one_boolean_expression_passes() {
        for text in [
            "true",
            "region = 'eu'",
            "  region = 'eu'\n",
            "NOT deleted AND (a = 1 OR b IN (1, 2, 3))",
            "tenant_id = current_setting('app.tenant_id')::int",
            "x LIKE 'a;b--c/*d*/)' ESCAPE '!'",
            "\"Odd ) Name\" = $tag$ ) ; -- $tag$",
            "E'\\')' = x",
            "id IN (SELECT id FROM public.visible v WHERE v.owner = current_user)",
            "EXISTS (SELECT count(*) FROM public.x GROUP BY y HAVING count(*) > 1)",
            "a[1:2] = ARRAY[1, 2]",
            "created_at > now() - interval '1 day'",
            "(data ->> 'k') IS NOT NULL",
            "CASE WHEN a THEN b ELSE c END",
            "public.is_visible(id)",
            "(a, b) = (1, 2)",
            "x COLLATE \"C\" < 'a'",
            "lower(x) = 'b' IS TRUE",
            "a BETWEEN 1 AND 2",
            "NULL",
            "row_active",
            "(id) IN (1)",
            "x OPERATOR(pg_catalog.=) 1",
            "greatest(a, b) > 3",
            "mode = 1",
        ] {
            assert_eq!(check(text).as_deref(), Ok(text.trim()), "{text}");
        }
    }

    #[test]
    fn nothing_escapes_from_the_expression() {
        for (text, says) in [
            ("", "empty"),
            ("   ", "empty"),
            ("true) OR (true", "did not open"),
            ("true) UNION SELECT (true", "did not open"),
            ("(true", "not closed"),
            ("a[1", "not closed"),
            ("(a]", "did not open"),
            ("true; DROP TABLE x", "semicolon"),
            ("true;", "semicolon"),
            ("true -- more", "comment"),
            ("true /* more */", "comment"),
            ("true /* more", "not valid SQL"),
            ("true --", "comment"),
            ("true OR 'x", "not valid SQL"),
            ("$$x", "not valid SQL"),
            ("a = $1", "parameter"),
            ("true UNION SELECT 1", "without clauses"),
            ("true LIMIT 1", "without clauses"),
            ("true ORDER BY 1", "without clauses"),
            ("true GROUP BY 1", "without clauses"),
            ("true HAVING true", "without clauses"),
            ("true FOR UPDATE", "without clauses"),
            ("true WINDOW w AS ()", "without clauses"),
            ("true OFFSET 1", "without clauses"),
            ("a, b", "not valid SQL"),
            ("SELECT true", "not valid SQL"),
            ("a = 1 b", "not valid SQL"),
            ("count(*) > 1", "aggregate"),
            ("count(*) IN (SELECT 1)", "aggregate"),
            ("sum(x) > 1", "aggregate"),
            ("pg_catalog.max(x) > 1", "aggregate"),
            ("f(DISTINCT x) > 1", "aggregate"),
            ("f(x ORDER BY y) > 1", "aggregate"),
            ("f(x) FILTER (WHERE y) > 1", "aggregate"),
            ("rank() OVER () = 1", "window"),
            ("EXISTS (SELECT rank() OVER () FROM x)", "window"),
            ("EXISTS (WITH d AS (DELETE FROM x RETURNING 1) SELECT 1 FROM d)", "WITH"),
            ("EXISTS (SELECT 1 FROM x FOR UPDATE)", "locking"),
            ("EXISTS (SELECT 1 INTO y FROM x)", "INTO"),
            ("xmlelement(name x) IS NOT NULL", "XmlExpr"),
            ("1", "boolean"),
            ("'true'", "boolean"),
            ("ROW(1, 2)", "boolean"),
            ("a = DEFAULT", "DEFAULT"),
            ("a\0b", "NUL"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(check(&format!("x = '{}'", "y".repeat(MAX_BYTES))).unwrap_err().contains("longer"));
    }

    #[test]
    fn deep_nesting_is_refused_and_does_no_harm() {
        for text in [
            "NOT ".repeat(1020) + "true",
            "- ".repeat(2000) + "x > 0",
            "(".repeat(2000) + "true" + &")".repeat(2000),
            "(SELECT ".repeat(400) + "true" + &")".repeat(400),
            "a[".repeat(900) + "1" + &"]".repeat(900) + " = 1",
            "f(".repeat(1300) + "1" + &")".repeat(1300),
            "1+".repeat(2000) + "1 > 0",
        ] {
            // Parentheses alone make no levels; everything else here must be told.
            match check(&text) {
                Ok(_) => assert!(text.starts_with("(("), "{}", &text[..20]),
                Err(error) => assert!(error.contains("deeper") || error.contains("not valid"), "{error}"),
            }
        }
    }

    /// Pieces of SQL that, put together at random, come close to escaping.
    const PIECES: [&str; 44] = [
        "a",
        "b.c",
        "1",
        "'x'",
        "'",
        "\"",
        "\"q\"",
        "(",
        ")",
        "[",
        "]",
        "=",
        "<>",
        "-",
        "--",
        "/*",
        "*/",
        "*",
        ";",
        ",",
        "AND",
        "OR",
        "NOT",
        "IN",
        "IS NULL",
        "true",
        "NULL",
        "UNION",
        "SELECT",
        "FROM",
        "WHERE",
        "LIMIT 1",
        "ORDER BY",
        "GROUP BY",
        "$1",
        "$$",
        "$t$",
        "E'\\'",
        "CASE WHEN",
        "THEN",
        "END",
        "EXISTS",
        "::int",
        "\n",
    ];

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { cases: 4000, ..Default::default() })]

        #[test]
        fn what_passes_is_one_operand_wherever_it_stands(
            pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 1..9),
            glue in proptest::sample::select(&[" ", ""][..]),
        ) {
            let text = pieces.join(glue);
            if let Ok(text) = check(&text) {
                let sql = format!("SELECT 1 FROM t WHERE first AND ({text}) AND third");
                let parsed = pg_query::parse(&sql, 0).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(parsed.protobuf.stmts.len(), 1, "{text}");
                let Some(Kind::SelectStmt(select)) = parsed.protobuf.stmts[0].stmt.clone().unwrap().node else {
                    panic!("{text}");
                };
                let mut select = *select;
                select.from_clause.clear();
                let Some(Kind::BoolExpr(and)) = only_condition(select).unwrap().node else { panic!("{text}") };
                let column = |node: &Node| match &node.node {
                    Some(Kind::ColumnRef(column)) => match &column.fields[0].node {
                        Some(Kind::String(name)) => name.sval.clone(),
                        _ => String::new(),
                    },
                    _ => String::new(),
                };
                assert_eq!(and.args.len(), 3, "{text}");
                assert_eq!((column(&and.args[0]).as_str(), column(&and.args[2]).as_str()), ("first", "third"), "{text}");
            }
        }

        #[test]
        fn no_text_is_too_much(text in ".{0,200}") {
            let _ = check(&text);
        }
    }
}
