//! Comparisons of rows, as those of their parts: the server makes the same of `=` and IN, and a column that is compared
//! by itself needs no barrier where the comparison can't fail.
//!
//! Parts are compared as in SQL's row comparison (section 9.25.5 of Postgres' documentation): the first that differ decide.

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::tree;

/// Columns in a row; a longer one stays as it is, as what is made of it grows with the square.
const MAX_PARTS: usize = 8;
/// Rows in a list.
const MAX_ROWS: usize = 1000;

impl Analyzer<'_> {
    /// A comparison of rows, of which columns stand behind a row filter, as comparisons of their parts; None where one of these
    /// could fail or show a value, or it is none.
    pub(super) fn by_parts(&self, node: &Node) -> Option<Node> {
        let Some(NodeEnum::AExpr(expr)) = &node.node else { return None };
        let [name] = expr.name.as_slice() else { return None };
        let operator = tree::string_of(name)?;
        let left = parts_of(expr.lexpr.as_deref()?)?;
        match pb::AExprKind::try_from(expr.kind) {
            Ok(pb::AExprKind::AexprOp) => self.compare_rows(operator, left, parts_of(expr.rexpr.as_deref()?)?),
            Ok(pb::AExprKind::AexprIn) if operator == "=" => {
                let Some(NodeEnum::List(list)) = &expr.rexpr.as_deref()?.node else { return None };
                if list.items.len() > MAX_ROWS {
                    return None;
                }
                let each = list.items.iter().map(|item| self.compare_rows("=", left, parts_of(item)?));
                let mut any = each.collect::<Option<Vec<_>>>()?;
                if any.len() > 1 { Some(tree::or(any)) } else { any.pop() }
            }
            _ => None,
        }
    }

    fn compare_rows(&self, operator: &str, left: &[Node], right: &[Node]) -> Option<Node> {
        let (strict, or_equal) = match operator {
            "=" => ("=", "="),
            "<" | "<=" => ("<", "<="),
            ">" | ">=" => (">", ">="),
            _ => return None,
        };
        let behind_filter = left.iter().chain(right).any(|part| self.reads_behind_filter(part));
        let compares =
            |name: &str| left.iter().zip(right).all(|(left, right)| self.is_harmless_pair(name, left, right));
        if left.len() != right.len()
            || left.len() > MAX_PARTS
            || !behind_filter
            || ![strict, or_equal, "=", operator].into_iter().all(compares)
        {
            return None;
        }
        let mut pairs = left.iter().zip(right);
        if operator == "=" {
            return Some(tree::and(pairs.map(|(left, right)| compare("=", left, right)).collect()));
        }
        let (last_left, last_right) = pairs.next_back()?;
        let last = compare(operator, last_left, last_right);
        Some(pairs.rev().fold(last, |rest, (left, right)| {
            // The first bounds what an index has to give.
            let equal = tree::and(vec![compare("=", left, right), rest]);
            let decided = tree::or(vec![compare(strict, left, right), equal]);
            tree::and(vec![compare(or_equal, left, right), decided])
        }))
    }
}

fn parts_of(row: &Node) -> Option<&[Node]> {
    match &row.node {
        Some(NodeEnum::RowExpr(row)) if !row.args.is_empty() => Some(&row.args),
        _ => None,
    }
}

fn compare(operator: &str, left: &Node, right: &Node) -> Node {
    tree::node(NodeEnum::AExpr(Box::new(pb::AExpr {
        kind: pb::AExprKind::AexprOp as i32,
        name: vec![tree::string(operator)],
        lexpr: tree::boxed(left.clone()),
        rexpr: tree::boxed(right.clone()),
        rexpr_list_start: 0,
        rexpr_list_end: 0,
        location: -1,
    })))
}
