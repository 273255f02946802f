//! Where what is assigned to a column is stored: the relation itself, those under it, and what a view is of. What is computed, checked
//! or set there is that relation's, which need not be what the target's own columns say.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Analyzer;
use super::write::Target;
use crate::catalog::code::mentions_word;
use crate::catalog::view_columns::ViewColumn;
use crate::catalog::{Relation, RelationKind};

/// A relation that stores rows of a write's target.
pub(super) struct Stored {
    relation: Arc<Relation>,
    /// Its columns' numbers by those of the target.
    columns: BTreeMap<i16, i16>,
}

impl Stored {
    fn of_target(&self, number: i16) -> Option<i16> {
        self.columns.get(&number).copied()
    }
}

/// Whether an expression of a relation names a column of it.
fn names(relation: &Relation, number: i16, sql: &str) -> bool {
    relation.column_at(number).is_some_and(|column| mentions_word(sql, &column.name))
}

impl Analyzer<'_> {
    /// Where rows of a target are stored; nothing where the identity sees all of it as it is.
    pub(super) fn stored_in(&self, target: &Relation) -> Vec<Stored> {
        let mut first: BTreeMap<u32, BTreeMap<i16, i16>> = BTreeMap::new();
        for column in &target.columns {
            let of = match target.kind {
                RelationKind::View => match self.view_column(target, column.number) {
                    ViewColumn::Of(relation, number) => Some((relation, number)),
                    ViewColumn::Apart | ViewColumn::Computed => None,
                },
                _ => Some((target.oid, column.number)),
            };
            if let Some((relation, number)) = of {
                first.entry(relation).or_default().insert(column.number, number);
            }
        }
        let mut all = Vec::new();
        for (oid, columns) in first {
            let Some(relation) = self.catalog.relations.get(&oid) else { continue };
            for below in self.with_descendants(relation) {
                let Some(below) = self.catalog.relations.get(&below) else { continue };
                let there = |(of_target, number): (&i16, &i16)| {
                    let name = &relation.column_at(*number)?.name;
                    Some((*of_target, below.column(name)?.number))
                };
                let columns = columns.iter().filter_map(there).collect();
                all.push(Stored { relation: Arc::clone(below), columns });
            }
        }
        let is_seen_in_part = |stored: &Stored| self.policy.view(stored.relation.oid).is_some();
        if self.policy.view(target.oid).is_none() && !all.iter().any(is_seen_in_part) {
            all.clear();
        }
        all
    }

    /// Whether the row filter reads what is computed from this column where it is stored, or another name of it.
    pub(super) fn feeds_filter(&self, target: &Target, number: i16) -> bool {
        let Some(filter) = target.filter() else { return false };
        let relation = &target.relation;
        // What a view computes may be computed of any of its columns.
        let is_computed =
            |of: &i16| relation.kind == RelationKind::View && self.view_column(relation, *of) == ViewColumn::Computed;
        if filter.columns.iter().any(is_computed) {
            return true;
        }
        target.stored.iter().any(|stored| {
            let Some(at) = stored.of_target(number) else { return false };
            filter.columns.iter().filter(|of| **of != number).filter_map(|of| stored.of_target(*of)).any(|of| {
                let generated = stored.relation.column_at(of).and_then(|column| column.generated.as_deref());
                of == at || generated.is_some_and(|sql| names(&stored.relation, at, sql))
            })
        })
    }

    /// Columns where a target's rows are stored whose raw value the identity does not see, by the target or there.
    fn secret_in(&self, stored: &Stored, target: &Target) -> impl Iterator<Item = i16> {
        let of_target = target.secret().filter_map(|number| stored.of_target(number));
        let view = self.policy.view(stored.relation.oid);
        of_target.chain(view.into_iter().flat_map(|view| view.columns.keys().copied()))
    }

    /// The columns by which it is decided that a relation stores a row, of all partition keys above it, by their numbers in it.
    fn partition_key(&self, relation: &Relation) -> Vec<i16> {
        let above = self.catalog.ancestors(relation.oid).into_iter().filter_map(|oid| self.catalog.relations.get(&oid));
        let names = above.flat_map(|above| above.partition_key.iter().filter_map(|number| above.column_at(*number)));
        let there = names.filter_map(|column| Some(relation.column(&column.name)?.number));
        there.chain(relation.partition_key.iter().copied()).collect()
    }

    /// Whether a condition of the view that is written through reads both a column and one that the identity does not see and that the
    /// statement does not overwrite itself.
    fn shares_view_check(&self, target: &Target, number: i16, assigned: &[i16]) -> bool {
        let view = &target.relation;
        if view.kind != RelationKind::View || target.stored.is_empty() {
            return false;
        }
        let changed = self.view_column(view, number);
        let given: Vec<ViewColumn> = assigned.iter().map(|number| self.view_column(view, *number)).collect();
        let secret: Vec<ViewColumn> = target.secret().map(|number| self.view_column(view, number)).collect();
        let is_secret = |column: &ViewColumn| match column {
            ViewColumn::Of(oid, number) => {
                let there = self.policy.view(*oid).is_some_and(|view| view.columns.contains_key(number));
                (there || secret.contains(column)) && !given.contains(column)
            }
            ViewColumn::Apart | ViewColumn::Computed => true,
        };
        self.catalog.checked_in_view(view).iter().any(|condition| {
            let reads = condition.contains(&changed) || condition.contains(&ViewColumn::Computed);
            reads && condition.iter().any(is_secret)
        })
    }

    /// Whether a column shares a CHECK, a partition key, or an expression that can raise or a condition of an index, with a column that
    /// the identity does not see and that the statement does not overwrite itself.
    pub(super) fn shares_check(&self, target: &Target, number: i16, assigned: &[i16]) -> bool {
        let is_in_table = target.stored.iter().any(|stored| {
            let relation = &stored.relation;
            let Some(number) = stored.of_target(number) else { return false };
            let assigned: Vec<i16> = assigned.iter().filter_map(|number| stored.of_target(*number)).collect();
            let secret: Vec<i16> = self.secret_in(stored, target).filter(|secret| !assigned.contains(secret)).collect();
            let both =
                |columns: &[i16]| columns.contains(&number) && secret.iter().any(|secret| columns.contains(secret));
            let named =
                |sql: &str| names(relation, number, sql) && secret.iter().any(|secret| names(relation, *secret, sql));
            let of_index = |index: &crate::catalog::Index| {
                (index.expressions.is_some() || index.predicate.is_some()) && both(&index.reads)
            };
            relation.checks.iter().any(|check| both(&check.columns))
                || relation.indexes.iter().any(of_index)
                || both(&self.partition_key(relation))
                || relation.columns.iter().filter_map(|column| column.generated.as_deref()).any(named)
        });
        is_in_table || self.shares_view_check(target, number, assigned)
    }

    /// Unmasked columns that a BEFORE ROW trigger may set from a masked one: those whose names stand in a body that
    /// also mentions a masked column or works on the row as a whole; all of them where the body can't be read.
    pub(super) fn set_by_triggers(&self, target: &Target) -> HashSet<i16> {
        let mut set = HashSet::new();
        for stored in target.stored.iter() {
            let relation = &stored.relation;
            let key: Vec<i16> =
                relation.indexes.iter().filter(|index| index.primary).flat_map(|index| index.columns.clone()).collect();
            let secret: Vec<i16> = self.secret_in(stored, target).collect();
            let open = || {
                let columns = stored.columns.iter().filter(|(_, at)| !secret.contains(at) && !key.contains(at));
                columns.filter_map(|(of_target, at)| Some((*of_target, relation.column_at(*at)?)))
            };
            for body in self.bodies_before(relation) {
                match body {
                    None => set.extend(open().map(|(number, _)| number)),
                    Some(body) if secret.iter().any(|number| names(relation, *number, &body)) => {
                        let named = open().filter(|(_, column)| mentions_word(&body, &column.name));
                        set.extend(named.map(|(number, _)| number));
                    }
                    Some(_) => {}
                }
            }
        }
        set
    }

    /// Whether a BEFORE ROW trigger may set a column.
    pub(super) fn is_set_by_trigger(&self, target: &Target, number: i16) -> bool {
        target.stored.iter().any(|stored| {
            let Some(at) = stored.of_target(number) else { return false };
            let sets = |body: Option<String>| body.is_none_or(|body| names(&stored.relation, at, &body));
            self.bodies_before(&stored.relation).any(sets)
        })
    }

    /// Bodies of a relation's BEFORE ROW triggers, in lower case; None for one that can't be read, or works on the row as a whole.
    fn bodies_before(&self, relation: &Relation) -> impl Iterator<Item = Option<String>> {
        let (row, before) = (1, 2);
        let triggers = relation.triggers.iter().filter(move |t| t.kind & row != 0 && t.kind & before != 0);
        triggers.map(|trigger| {
            let body = self.catalog.function(trigger.function).and_then(|function| function.body.as_deref());
            let whole = ["execute", "to_json", "row(", "new.*", "old.*", "hstore("];
            let is_by_column = |body: &String| !whole.iter().any(|word| body.contains(word));
            body.map(str::to_ascii_lowercase).filter(is_by_column)
        })
    }
}
