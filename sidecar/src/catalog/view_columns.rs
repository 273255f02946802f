//! What the columns of a view are: columns of its relations, or values that the server computes where the view is read.
//!
//! **Promise.** [`ViewColumn::Of`] is a column that the view shows as it is, and nothing but that. What can't be proven is
//! [`ViewColumn::Computed`].

use pg_query::protobuf::{SelectStmt, SetOperation};
use pg_query::{Node, NodeEnum};

use super::code::mentions_word;
use super::{Catalog, Oid, Relation, RelationKind};
use crate::sql;
use crate::sql::ParseLimits;

/// Views over views are few deep; the bound is for definitions that are nonsense.
const MAX_DEPTH: usize = 32;

/// A column of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewColumn {
    /// This column of a relation that stores it.
    Of(Oid, i16),
    /// Computed by itself before anything that reads the view (under GROUP BY, DISTINCT or LIMIT).
    Apart,
    /// An expression, which the server may put wherever the column is named.
    Computed,
}

impl Catalog {
    /// The columns of a view, in their order.
    pub fn view_columns(&self, view: &Relation) -> Vec<ViewColumn> {
        self.traced(view, 0).unwrap_or_else(|| vec![ViewColumn::Computed; view.columns.len()])
    }

    /// What each condition reads that rows written through a view are held to (WITH CHECK OPTION), its own and those of views
    /// that it is of. [`ViewColumn::Computed`] may be anything.
    pub fn checked_in_view(&self, view: &Relation) -> Vec<Vec<ViewColumn>> {
        let mut found = Vec::new();
        let (mut view, mut is_checked) = (view, false);
        for _ in 0..MAX_DEPTH {
            // The condition of one within is checked for those around it, too.
            is_checked |= view.check_option;
            let Some(definition) = view.definition.as_deref().filter(|_| view.kind == RelationKind::View) else {
                break;
            };
            let Some((below, condition)) = self.condition_of(definition) else {
                // No view that rows are written through as they are.
                found.extend(is_checked.then(|| vec![ViewColumn::Computed]));
                break;
            };
            if let Some(condition) = condition.filter(|_| is_checked) {
                let columns = if below.kind == RelationKind::View {
                    self.view_columns(below)
                } else {
                    below.columns.iter().map(|column| ViewColumn::Of(below.oid, column.number)).collect()
                };
                let named = below.columns.iter().zip(columns);
                let is_whole = condition.contains(".*");
                let read = named.filter(|(column, _)| is_whole || mentions_word(&condition, &column.name));
                found.push(read.map(|(_, column)| column).collect());
            }
            view = below;
        }
        found
    }

    /// The one relation that a view is of, and its condition as SQL.
    fn condition_of(&self, definition: &str) -> Option<(&Relation, Option<String>)> {
        let measure = sql::measure(definition, &ParseLimits::default()).ok()?;
        let found = sql::deep::run_blocking(&measure, || {
            let mut tree = sql::parse_measured(definition, measure).ok()?.tree;
            let Some(NodeEnum::SelectStmt(select)) = &mut tree.stmts.first_mut()?.stmt.as_deref_mut()?.node else {
                return None;
            };
            let mut sources = Vec::new();
            for item in select.from_clause.drain(..) {
                self.sources(&item, &mut sources)?;
            }
            let [(_, below)] = sources.as_slice() else { return None };
            if select.where_clause.is_none() {
                return Some((*below, None));
            }
            select.target_list.clear();
            Some((*below, Some(sql::emit(&tree).ok()?)))
        });
        found.ok().flatten()
    }

    fn traced(&self, view: &Relation, depth: usize) -> Option<Vec<ViewColumn>> {
        let definition = view.definition.as_deref().filter(|_| depth < MAX_DEPTH)?;
        let measure = sql::measure(definition, &ParseLimits::default()).ok()?;
        let columns = sql::deep::run_blocking(&measure, || {
            let tree = sql::parse_measured(definition, measure).ok()?.tree;
            let [only] = tree.stmts.as_slice() else { return None };
            let Some(NodeEnum::SelectStmt(select)) = &only.stmt.as_deref()?.node else { return None };
            self.traced_query(select, depth)
        });
        columns.ok().flatten().filter(|columns| columns.len() == view.columns.len())
    }

    fn traced_query(&self, select: &SelectStmt, depth: usize) -> Option<Vec<ViewColumn>> {
        let is_apart = !select.group_clause.is_empty()
            || select.having_clause.is_some()
            || !select.distinct_clause.is_empty()
            || select.limit_count.is_some()
            || select.limit_offset.is_some();
        let is_plain = select.op == SetOperation::SetopNone as i32 && select.values_lists.is_empty();
        if is_plain && is_apart {
            return Some(vec![ViewColumn::Apart; select.target_list.len()]);
        }
        if !is_plain || select.with_clause.is_some() {
            return None;
        }
        let mut sources = Vec::new();
        for item in &select.from_clause {
            self.sources(item, &mut sources)?;
        }
        let each = select.target_list.iter().map(|target| {
            let Some(NodeEnum::ResTarget(target)) = &target.node else { return ViewColumn::Computed };
            let value = target.val.as_deref();
            value.and_then(|value| self.column_of(value, &sources, depth)).unwrap_or(ViewColumn::Computed)
        });
        Some(each.collect())
    }

    /// Relations in FROM with their aliases; None where there is anything else.
    fn sources<'c>(&'c self, item: &Node, found: &mut Vec<(String, &'c Relation)>) -> Option<()> {
        match &item.node {
            Some(NodeEnum::RangeVar(range)) => {
                let alias = range.alias.as_ref();
                if alias.is_some_and(|alias| !alias.colnames.is_empty()) {
                    return None;
                }
                let name = alias.map_or(&range.relname, |alias| &alias.aliasname);
                found.push((name.clone(), self.relation(&range.schemaname, &range.relname)?));
                Some(())
            }
            // What USING merges has no qualifier, or one of a side that it is equal to.
            Some(NodeEnum::JoinExpr(join)) if join.alias.is_none() => {
                self.sources(join.larg.as_deref()?, found)?;
                self.sources(join.rarg.as_deref()?, found)
            }
            _ => None,
        }
    }

    fn column_of(&self, value: &Node, sources: &[(String, &Relation)], depth: usize) -> Option<ViewColumn> {
        let Some(NodeEnum::ColumnRef(reference)) = &value.node else { return None };
        let names: Option<Vec<&str>> = reference.fields.iter().map(name_of).collect();
        let (relation, column) = match (names?.as_slice(), sources) {
            ([column], [(_, relation)]) => (*relation, (*column).to_owned()),
            ([alias, column], sources) => {
                let mut named = sources.iter().filter(|(name, _)| name == alias);
                let (Some((_, relation)), None) = (named.next(), named.next()) else { return None };
                (*relation, (*column).to_owned())
            }
            _ => return None,
        };
        let place = relation.columns.iter().position(|known| *known.name == *column)?;
        let number = relation.columns.get(place)?.number;
        match relation.kind {
            RelationKind::View => self.traced(relation, depth.saturating_add(1))?.get(place).copied(),
            _ if relation.columns.get(place)?.is_virtual => None,
            _ => Some(ViewColumn::Of(relation.oid, number)),
        }
    }
}

fn name_of(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(text)) => Some(&text.sval),
        _ => None,
    }
}
