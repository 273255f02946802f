//! Which literals of a statement are pure data: no decision and no rewrite looks at them.
//!
//! The analysis reads the values of constants in arguments of functions (names of settings, sequences, relations), in
//! casts to `regclass` and its like, in `LIMIT`, and as ordinals of `ORDER BY` and `GROUP BY`. So the walk is by what is
//! known to be harmless, and what it does not know it does not enter: operands of operators, values of INSERT and UPDATE,
//! output columns, casts of these to plain types.

use std::collections::HashSet;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::expression::is_literal;
use super::time::may_be_time;
use super::tree;

/// Types whose values are nothing but values. A cast to `regclass` names a relation.
const PLAIN_TYPES: &[&str] = &[
    "bool",
    "bytea",
    "date",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "uuid",
    "varchar",
];

/// Where the literals of a statement start, in bytes, that are pure data. Before a negative number stands its sign.
pub fn free_literals(tree: &pb::ParseResult) -> HashSet<usize> {
    let mut free = Free(HashSet::new());
    if let [only] = tree.stmts.as_slice()
        && let Some(statement) = only.stmt.as_deref()
    {
        match &statement.node {
            Some(NodeEnum::SelectStmt(select)) => free.select(select),
            Some(NodeEnum::InsertStmt(insert)) => {
                free.with(insert.with_clause.as_ref());
                free.each(insert.select_stmt.as_deref());
                if let Some(conflict) = insert.on_conflict_clause.as_deref() {
                    free.each(&conflict.target_list);
                    free.each(conflict.where_clause.as_deref());
                }
            }
            Some(NodeEnum::UpdateStmt(update)) => {
                free.with(update.with_clause.as_ref());
                free.each(&update.target_list);
                free.each(&update.from_clause);
                free.each(update.where_clause.as_deref());
            }
            Some(NodeEnum::DeleteStmt(delete)) => {
                free.with(delete.with_clause.as_ref());
                free.each(&delete.using_clause);
                free.each(delete.where_clause.as_deref());
            }
            _ => {}
        }
    }
    free.0
}

struct Free(HashSet<usize>);

impl Free {
    fn each<'a>(&mut self, nodes: impl IntoIterator<Item = &'a Node>) {
        nodes.into_iter().for_each(|node| self.visit(node));
    }

    fn with(&mut self, with: Option<&pb::WithClause>) {
        self.each(with.iter().flat_map(|with| &with.ctes));
    }

    fn select(&mut self, select: &pb::SelectStmt) {
        self.with(select.with_clause.as_ref());
        self.each(&select.target_list);
        self.each(&select.from_clause);
        self.each(select.where_clause.as_deref());
        self.each(select.having_clause.as_deref());
        self.each(&select.values_lists);
        self.each(select.limit_offset.as_deref());
        for side in [&select.larg, &select.rarg].into_iter().flatten() {
            self.select(side);
        }
    }

    fn visit(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                // TRUE, FALSE and NULL are words.
                None | Some(pb::a_const::Val::Boolval(_)) => {}
                Some(_) => self.0.extend(usize::try_from(constant.location)),
            },
            // What a time is, or is moved by, decides whether it may fail. A literal with one cast is only read where that stands.
            Some(NodeEnum::TypeCast(cast))
                if is_plain(cast.type_name.as_ref())
                    && (cast.arg.as_deref().is_some_and(is_literal) || !may_be_time(node)) =>
            {
                self.each(cast.arg.as_deref());
            }
            Some(NodeEnum::AExpr(_)) if may_be_time(node) => {}
            Some(NodeEnum::AExpr(expr)) => self.each(expr.lexpr.as_deref().into_iter().chain(expr.rexpr.as_deref())),
            Some(NodeEnum::BoolExpr(expr)) => self.each(&expr.args),
            Some(NodeEnum::NullTest(test)) => self.each(test.arg.as_deref()),
            Some(NodeEnum::BooleanTest(test)) => self.each(test.arg.as_deref()),
            Some(NodeEnum::CoalesceExpr(coalesce)) => self.each(&coalesce.args),
            Some(NodeEnum::MinMaxExpr(expr)) => self.each(&expr.args),
            Some(NodeEnum::RowExpr(row)) => self.each(&row.args),
            Some(NodeEnum::AArrayExpr(array)) => self.each(&array.elements),
            Some(NodeEnum::List(list)) => self.each(&list.items),
            Some(NodeEnum::ResTarget(target)) => self.each(target.val.as_deref()),
            Some(NodeEnum::CaseExpr(case)) => {
                self.each(case.arg.as_deref());
                self.each(&case.args);
                self.each(case.defresult.as_deref());
            }
            Some(NodeEnum::CaseWhen(when)) => self.each(when.expr.as_deref().into_iter().chain(when.result.as_deref())),
            Some(NodeEnum::SubLink(link)) => {
                self.each(link.testexpr.as_deref().into_iter().chain(link.subselect.as_deref()));
            }
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            Some(NodeEnum::RangeSubselect(sub)) => self.each(sub.subquery.as_deref()),
            Some(NodeEnum::CommonTableExpr(cte)) => self.each(cte.ctequery.as_deref()),
            Some(NodeEnum::JoinExpr(join)) => {
                self.each(join.larg.as_deref().into_iter().chain(join.rarg.as_deref()));
                self.each(join.quals.as_deref());
            }
            _ => {}
        }
    }
}

fn is_plain(name: Option<&pb::TypeName>) -> bool {
    let names = name.and_then(|name| tree::strings(&name.names));
    match names.as_deref() {
        Some(["pg_catalog", name]) => PLAIN_TYPES.contains(name),
        // These words are no keywords: a type of that name may come first on the search_path, which changes nothing here.
        Some([name]) => PLAIN_TYPES.contains(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The text with the free literals' first bytes marked.
    fn marked(text: &str) -> String {
        let tree = pg_query::parse(text, 0).unwrap().protobuf;
        let free = free_literals(&tree);
        let mark = |(at, c): (usize, char)| if free.contains(&at) { vec!['?', c] } else { vec![c] };
        text.char_indices().flat_map(mark).collect()
    }

    #[test]
    fn only_values_are_free() {
        for text in [
            "SELECT a, ?1 FROM t WHERE id = ?5 AND b IN (?1, ?2) AND c LIKE ?'x%' AND d BETWEEN ?1 AND ?2",
            "SELECT CASE WHEN a > ?1 THEN ?'x' ELSE b END FROM t JOIN u ON t.a = u.a + ?1 OFFSET ?20",
            "SELECT (SELECT b FROM u WHERE k = ?'v') FROM (SELECT a FROM t WHERE a < ?-3) s WHERE a = ANY (ARRAY[?1, ?2])",
            "WITH w AS (SELECT a FROM t WHERE a = ?1) SELECT a FROM w UNION SELECT b FROM u WHERE b = ?2 HAVING count(*) > ?1",
            "INSERT INTO t (a, b) VALUES (?1, ?'x'), (?2, NULL) ON CONFLICT (a) DO UPDATE SET b = ?'y' WHERE t.a > ?1",
            "UPDATE t SET a = ?1, b = ?'x' WHERE id = ?5",
            "DELETE FROM t WHERE id = ?5",
            "SELECT a FROM t WHERE d > ?'2024-01-01'::date AND e = CAST(?'1' AS int) AND f = ?'{}'::jsonb",
            "SELECT a FROM t WHERE d > ?'2024-01-01'::date AND d < s + ?'1 day'::interval AND a = b - ?9",
            // What decides whether a time can be had.
            "SELECT a FROM t WHERE d > now() - '1 day'::interval * 3 AND d < CURRENT_DATE + 9 AND e = '2024-01-01'::date - 9",
            "SELECT a FROM t WHERE d > (now() - '1 day'::interval)::date AND d < ('2024-01-01'::timestamptz)::date",
            // What stands for something else than itself, or in a place where it might.
            "SELECT a, b FROM t ORDER BY 1 LIMIT 10",
            "SELECT a, count(*) FROM t GROUP BY 1, a + 1",
            "SELECT DISTINCT ON (1) a FROM t",
            "SELECT 't'::regclass, 't'::pg_catalog.regclass::oid, 'x'::my.type",
            "SELECT nextval('s'), set_config('search_path', 'x', false), lower('X' || 'Y'), date_trunc('day', d)",
            "SELECT a FROM generate_series(1, 10) a, t TABLESAMPLE system (5)",
            "SELECT sum(a) OVER (ORDER BY b ROWS 1 PRECEDING) FROM t",
            "SET search_path = 'x'",
            "SELECT 1; SELECT 2",
        ] {
            let plain = text.replace('?', "");
            assert_eq!(marked(&plain), text);
        }
    }
}
