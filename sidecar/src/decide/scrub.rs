//! Which relations' errors and notices may hold values that the identity must not see.
//!
//! A relation with masks, hidden columns or filters does; and so does a statement on any other relation from which the
//! server goes on to such a one by itself: cascades of foreign keys, triggers, rules, views, partitions. What refers to such a
//! relation by a foreign key of its own keeps the key's values to itself, too.

use std::collections::{HashMap, HashSet};

use crate::catalog::code::{is_plain, may_run_text, words};
use crate::catalog::{Catalog, Function, Oid};

/// The relations, with all that reach them.
pub(super) fn closure(catalog: &Catalog, restricted: impl Iterator<Item = Oid>) -> HashSet<Oid> {
    let restricted: Vec<Oid> = restricted.collect();
    let mut found: HashSet<Oid> = restricted.iter().copied().collect();
    if found.is_empty() {
        return found;
    }
    // What a rule does isn't in the catalog.
    found.extend(catalog.relations.values().filter(|relation| relation.has_rules).map(|relation| relation.oid));
    let mut open: Vec<Oid> = found.iter().copied().collect();
    loop {
        while let Some(oid) = open.pop() {
            let Some(relation) = catalog.relations.get(&oid) else { continue };
            // A row that goes takes with it, or changes, what refers to it.
            let mut next: Vec<Oid> = relation.foreign_keys.iter().map(|key| key.references).collect();
            next.extend(catalog.views_over(oid));
            next.extend(catalog.ancestors(oid));
            next.extend(catalog.descendants(oid));
            open.extend(next.into_iter().filter(|oid| found.insert(*oid)));
        }
        // Triggers that come to name one of those found so far.
        let mut reach = Reach::of(catalog, found.iter().copied());
        for relation in catalog.relations.values() {
            if !found.contains(&relation.oid) && relation.triggers.iter().any(|it| reach.trigger(it.function)) {
                open.push(relation.oid);
            }
        }
        found.extend(open.iter().copied());
        if open.is_empty() {
            // A write of theirs looks at the restricted relation and goes no further.
            let referring = restricted.iter().flat_map(|oid| catalog.foreign_keys_to(*oid)).map(|(from, _)| from.oid);
            found.extend(referring);
            return found;
        }
    }
}

/// Whether functions may touch relations of these names.
pub(super) struct Reach<'a> {
    catalog: &'a Catalog,
    names: HashSet<&'a str>,
    known: HashMap<Oid, bool>,
}

impl<'a> Reach<'a> {
    /// Whether they may touch these relations.
    pub(super) fn of(catalog: &'a Catalog, relations: impl Iterator<Item = Oid>) -> Self {
        let names = relations.filter_map(|oid| catalog.relations.get(&oid)).map(|relation| &*relation.name).collect();
        Self { catalog, names, known: HashMap::new() }
    }

    fn trigger(&mut self, function: Oid) -> bool {
        let Some(function) = self.catalog.function(function) else { return true };
        self.reaches(function)
    }

    /// Whether a function may do so, by itself or by what it calls.
    pub(super) fn reaches(&mut self, function: &Function) -> bool {
        let mut seen = HashSet::new();
        let reaches = self.function(function, &mut seen);
        if reaches {
            self.known.insert(function.oid, true);
        } else {
            // Only now: in a circle of calls one can't be cleared before all of it is.
            self.known.extend(seen.into_iter().map(|oid| (oid, false)));
        }
        reaches
    }

    fn function(&self, function: &Function, seen: &mut HashSet<Oid>) -> bool {
        if &*function.schema == "pg_catalog" || function.extension.is_some() {
            return false;
        }
        if let Some(known) = self.known.get(&function.oid) {
            return *known;
        }
        if !seen.insert(function.oid) {
            return false;
        }
        match (&function.body, &*function.language) {
            // Deeper than any code that people write: as good as unknown.
            _ if seen.len() > 500 => true,
            (Some(body), "sql" | "plpgsql") => self.body(body, seen),
            // Other languages build SQL in ways that words don't show.
            _ => true,
        }
    }

    fn body(&self, body: &str, seen: &mut HashSet<Oid>) -> bool {
        let words = words(body);
        let odd = |name: &&&str| !is_plain(name);
        if may_run_text(body, &words) || self.names.iter().filter(odd).any(|name| body.contains(name)) {
            return true;
        }
        words.iter().any(|word| {
            self.names.contains(word.as_str())
                || self
                    .catalog
                    .functions
                    .get(word.as_str())
                    .is_some_and(|all| all.iter().any(|it| self.function(it, seen)))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::catalog::ForeignKey;
    use crate::decide::testing;

    /// Tables of these oids, each with a foreign key to the others beside it.
    fn tables(keys: &[(Oid, &[Oid])]) -> Catalog {
        let mut catalog = testing::catalog();
        for (oid, references) in keys {
            let mut relation = testing::table(&catalog, *oid, "public", &format!("t{oid}"), &[("id", "integer")]);
            relation.foreign_keys = references
                .iter()
                .map(|references| ForeignKey {
                    name: "key".into(),
                    columns: vec![1],
                    references: *references,
                    referenced_columns: vec![1],
                    on_delete: 'c',
                    on_update: 'c',
                })
                .collect();
            catalog.add_relation(relation);
        }
        catalog
    }

    #[test]
    fn details_are_withheld_where_a_cascade_reaches_a_restricted_relation_and_in_what_refers_to_it() {
        let (grandparent, parent, restricted, child, grandchild, other_parent, stepchild) = (1, 2, 3, 4, 5, 6, 7);
        let catalog = tables(&[
            (grandparent, &[]),
            (parent, &[grandparent]),
            (restricted, &[parent]),
            (child, &[restricted, other_parent]),
            (grandchild, &[child]),
            (other_parent, &[]),
            (stepchild, &[parent]),
        ]);
        let found = closure(&catalog, [restricted].into_iter());
        assert_eq!(found, HashSet::from([grandparent, parent, restricted, child]));
        assert!(closure(&catalog, std::iter::empty()).is_empty());
    }
}
