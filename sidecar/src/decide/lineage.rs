//! What columns derive from.

use super::bind::{Plan, Plans, Want, add};
use super::expression;
use super::mask::parse_expression;
use crate::catalog::{Catalog, Oid, Relation};

/// Gives each view what the relations that it reads carry.
pub(super) fn views(catalog: &Catalog, plans: &mut Plans) {
    let bases: Vec<Oid> = plans.keys().copied().collect();
    for base in bases {
        let Some(plan) = plans.get(&base).cloned() else { continue };
        for oid in catalog.views_over(base) {
            let Some(view) = catalog.relations.get(&oid) else { continue };
            let target = plans.entry(oid).or_default();
            if plan.closed.is_some() || !plan.filters.is_empty() {
                target.close("it reads a relation that is closed or filtered");
            }
            conceal(view, &plan, target);
        }
    }
}

fn conceal(view: &Relation, base: &Plan, target: &mut Plan) {
    let Some(want) = base.columns.values().cloned().reduce(Want::and) else { return };
    for column in &view.columns {
        add(&mut target.columns, column.number, want.of_expression());
    }
}

/// The columns that an expression over one row reads, as `pg_get_expr` writes it; None if that can't be told.
pub(super) fn columns_of_row_expression(relation: &Relation, sql: &str) -> Option<Vec<i16>> {
    let expression = parse_expression(sql).ok()?;
    let mut found = Vec::new();
    for names in expression::references(&expression).ok()? {
        let name = names.last()?;
        found.push(relation.column(name)?.number);
    }
    Some(found)
}

/// The column that an expression is, if it is nothing but one.
pub(super) fn plain_column(relation: &Relation, sql: &str) -> Option<i16> {
    let expression = parse_expression(sql).ok()?;
    let name = expression::column_name(&expression)?;
    Some(relation.column(name)?.number)
}
