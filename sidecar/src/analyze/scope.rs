//! Scopes: which FROM items a name can mean, at which query level, and what of each item the statement uses.
//!
//! **Promise.** A column that the client names is marked as used on every item that it could mean. Marking too much
//! costs a column in an inline view; marking too little makes the server say that the column does not exist. Neither
//! lets a raw value through, because the inline view is all that the server sees of the relation.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{self, Oid, Relation};
use crate::decide::bound::RelationView;

/// Index of an [`Item`] in the statement's arena.
pub(crate) type ItemId = usize;

/// System columns; an inline view has them only if it lists them.
pub(crate) const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "cmax", "xmax", "cmin", "xmin", "ctid"];

/// A column that something in FROM offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    /// Its name; None if the proxy can't tell.
    pub(crate) name: Option<Arc<str>>,
    /// Its type, where known.
    pub(crate) type_oid: Option<Oid>,
    /// The relation columns that it shows as they are.
    pub(crate) origins: Vec<(ItemId, i16)>,
    /// Whether the server computes it before what is around, so that no expression takes its place.
    pub(crate) stays: bool,
    /// Whether only rows that passed the conditions of the query that gives it come to what is around (a LIMIT).
    pub(crate) sealed: bool,
    /// Whether it is of no column, and may be another value as the statement goes on.
    pub(crate) passing: bool,
    /// Filtered relations that a subquery in it reads, which may fail: tried in a condition, it may come before their filters.
    pub(crate) fences: Vec<ItemId>,
}

/// What stands in FROM.
#[derive(Debug)]
pub(crate) enum Source {
    /// A relation of the database.
    Relation(Box<RelationItem>),
    /// A subquery, CTE, function or aliased join.
    Derived {
        /// Its columns in order.
        columns: Vec<Column>,
        /// Whether these are all of them.
        complete: bool,
    },
}

/// A relation in FROM, or the target of a write.
#[derive(Debug)]
pub(crate) struct RelationItem {
    /// The relation.
    pub(crate) relation: Arc<Relation>,
    /// How the identity sees it; None for as it is.
    pub(crate) view: Option<Arc<RelationView>>,
    /// A catalog relation that is shown in part: the subselect that stands for it.
    pub(crate) system_view: Option<String>,
    /// Whether it is the target of a write: it can't become a view, its columns are replaced one by one.
    pub(crate) write_target: bool,
    /// Names that the alias gives to the visible columns, from the first.
    pub(crate) column_aliases: Vec<Arc<str>>,
    /// Attribute numbers that the statement uses.
    pub(crate) used: BTreeSet<i16>,
    /// Those of them that a condition or a join reads.
    pub(crate) compared: BTreeSet<i16>,
    /// Attribute numbers that an expression reads which could raise or show the value before the filter ran.
    pub(crate) barrier: BTreeSet<i16>,
    /// Those that only conditions read so, which may know them by another name: see [`super::view`].
    pub(crate) apart: BTreeSet<i16>,
    /// Those that are read so that nothing can fail.
    pub(crate) bare: BTreeSet<i16>,
    /// Those that conditions read which are only tried for rows that are found to be inside the filter, where that can be told.
    pub(crate) guarded: BTreeSet<i16>,
    /// Whether there are such conditions.
    pub(crate) guards: bool,
    /// Whether a join with an alias shows all that it has.
    pub(crate) in_join: bool,
    /// Whether no condition around may be tried on rows outside the filter, see `subquery` in view.rs.
    pub(crate) fenced: bool,
    /// Whether what is walked is over an outer join that may leave it out, or over grouping sets: there the server does not see what
    /// the barrier costs.
    pub(crate) left_out: bool,
    /// System columns that it uses.
    pub(crate) system_columns: BTreeSet<&'static str>,
    /// Whether these stand behind the barrier.
    pub(crate) system_barrier: bool,
    /// Whether it is used whole: `*`, a whole-row reference, NATURAL.
    pub(crate) whole: bool,
    /// Whether the row itself is used as a value.
    pub(crate) as_row: bool,
    /// Whether NATURAL joins it.
    pub(crate) natural: bool,
    /// Conditions of the client that hold for every row that can be in the result, over the item's raw columns; they
    /// keep an index usable where the column itself stands behind the barrier.
    pub(crate) pushed: Vec<pg_query::Node>,
}

impl RelationItem {
    /// Whether an inline view takes its place.
    pub(crate) fn replaced(&self) -> bool {
        !self.write_target && (self.view.is_some() || self.system_view.is_some())
    }

    /// Whether it has a row filter.
    pub(crate) fn filtered(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.filter.is_some())
    }

    /// The columns that exist for the identity: attribute number and the name by which the statement knows them.
    pub(crate) fn visible(&self) -> impl Iterator<Item = (i16, &Arc<str>)> {
        let hidden = |number: i16| self.view.as_ref().is_some_and(|view| view.hides(number));
        self.relation
            .columns
            .iter()
            .filter(move |column| !hidden(column.number))
            .enumerate()
            .map(|(i, column)| (column.number, self.column_aliases.get(i).unwrap_or(&column.name)))
    }

    /// The attribute number behind a name.
    pub(crate) fn number_of(&self, name: &str) -> Option<i16> {
        self.visible().find(|(_, known)| &***known == name).map(|(number, _)| number)
    }
}

/// One thing in FROM.
#[derive(Debug)]
pub(crate) struct Item {
    /// The name by which the text that is sent refers to it; None for a subquery or join without one.
    pub(crate) alias: Option<Arc<str>>,
    /// Whether the client gave it an alias; else it is known to him by the relation's own name.
    pub(crate) aliased: bool,
    /// What it is.
    pub(crate) source: Source,
}

impl Item {
    /// The name by which the client refers to it.
    pub(crate) fn known_as(&self) -> Option<&str> {
        match self.relation() {
            Some(item) if !self.aliased => Some(&item.relation.name),
            _ => self.alias.as_deref(),
        }
    }

    /// Whether the text that is sent refers to it otherwise than the client does.
    pub(crate) fn renamed(&self) -> bool {
        self.known_as() != self.alias.as_deref()
    }

    /// The relation, if it is one.
    pub(crate) fn relation(&self) -> Option<&RelationItem> {
        match &self.source {
            Source::Relation(relation) => Some(relation),
            Source::Derived { .. } => None,
        }
    }

    /// The relation, if it is one.
    pub(crate) fn relation_mut(&mut self) -> Option<&mut RelationItem> {
        match &mut self.source {
            Source::Relation(relation) => Some(relation),
            Source::Derived { .. } => None,
        }
    }
}

/// A CTE in scope.
#[derive(Clone, Debug)]
pub(crate) struct Cte {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its columns.
    pub(crate) columns: Vec<Column>,
    /// Whether these are all.
    pub(crate) complete: bool,
}

/// One query level.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// CTEs that this level's WITH brought.
    pub(crate) ctes: Vec<Cte>,
    /// FROM items visible at this point.
    pub(crate) items: Vec<ItemId>,
    /// Names that joins among them merge by USING.
    pub(crate) merged: Vec<Arc<str>>,
}

/// What a column reference means.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    /// Every (item, column) that it can mean; at least one, or the reference is unknown.
    pub(crate) columns: Vec<(ItemId, Column)>,
    /// Items that it means as a whole row.
    pub(crate) whole: Vec<ItemId>,
    /// A system column of an item.
    pub(crate) system: Option<(ItemId, &'static str)>,
    /// How many leading names belong to the item's name (0: bare column, 1: alias, 2: schema and relation).
    pub(crate) qualifier: usize,
    /// Whether an item whose columns are not all known may be meant.
    pub(crate) uncertain: bool,
}

impl Meaning {
    /// Whether the name means nothing that the proxy knows.
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.whole.is_empty() && self.system.is_none() && !self.uncertain
    }
}

/// The statement's items and the levels open at this point of the walk.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    /// Every item of the statement.
    pub(crate) items: Vec<Item>,
    /// Levels, innermost last.
    pub(crate) levels: Vec<Scope>,
    /// At how many levels each item, or what shows its columns as they are, can be named at the outermost.
    depths: Vec<usize>,
}

impl Scopes {
    /// Adds an item that no level offers as yet.
    pub(crate) fn push(&mut self, item: Item) -> ItemId {
        let (id, depth) = (self.items.len(), self.levels.len());
        if let Source::Derived { columns, .. } = &item.source {
            for (origin, _) in columns.iter().flat_map(|column| &column.origins) {
                if let Some(of_origin) = self.depths.get_mut(*origin) {
                    *of_origin = depth.min(*of_origin);
                }
            }
        }
        self.items.push(item);
        self.depths.push(depth);
        id
    }

    /// Number of the outermost level at which an item, or what shows its columns, can be named; from 1.
    pub(crate) fn depth(&self, id: ItemId) -> usize {
        self.depths.get(id).copied().unwrap_or(0)
    }

    /// Whether it belongs to a query around the one that is walked.
    pub(crate) fn is_around(&self, id: ItemId) -> bool {
        self.depth(id) < self.levels.len()
    }

    /// The CTE of this name that is in scope.
    pub(crate) fn cte(&self, name: &str) -> Option<&Cte> {
        self.levels.iter().rev().find_map(|level| level.ctes.iter().rev().find(|cte| &*cte.name == name))
    }

    /// Adds an item to the innermost level.
    pub(crate) fn add(&mut self, item: Item) -> ItemId {
        let id = self.push(item);
        if let Some(level) = self.levels.last_mut() {
            level.items.push(id);
        }
        id
    }

    /// The item.
    pub(crate) fn get(&self, id: ItemId) -> Option<&Item> {
        self.items.get(id)
    }

    /// Levels that a name can reach, innermost first.
    fn reachable(&self) -> impl Iterator<Item = &Scope> {
        self.levels.iter().rev()
    }

    /// The columns of an item, with their origins.
    pub(crate) fn columns_of(&self, id: ItemId) -> (Vec<Column>, bool) {
        match self.get(id).map(|item| &item.source) {
            Some(Source::Relation(relation)) => {
                let column = |(number, name): (i16, &Arc<str>)| Column {
                    name: Some(name.clone()),
                    type_oid: relation.relation.column_at(number).and_then(catalog::Column::known_type),
                    origins: vec![(id, number)],
                    ..Column::default()
                };
                (relation.visible().map(column).collect(), true)
            }
            Some(Source::Derived { columns, complete }) => (columns.clone(), *complete),
            None => (Vec::new(), false),
        }
    }

    fn column_named(&self, id: ItemId, name: &str) -> (Option<Column>, bool) {
        match self.get(id).map(|item| &item.source) {
            Some(Source::Relation(relation)) => {
                let column = relation.number_of(name).map(|number| Column {
                    name: Some(Arc::from(name)),
                    type_oid: relation.relation.column_at(number).and_then(catalog::Column::known_type),
                    origins: vec![(id, number)],
                    ..Column::default()
                });
                (column, true)
            }
            Some(Source::Derived { columns, complete }) => {
                (columns.iter().find(|column| column.name.as_deref() == Some(name)).cloned(), *complete)
            }
            None => (None, false),
        }
    }

    fn system_column(&self, id: ItemId, name: &str) -> Option<&'static str> {
        let relation = self.get(id)?.relation()?;
        let known = SYSTEM_COLUMNS.into_iter().find(|known| *known == name)?;
        // A view has none; naming one there is the server's error to raise.
        (!matches!(relation.relation.kind, crate::catalog::RelationKind::View)).then_some(known)
    }

    /// The items of one level that go by this name.
    fn named<'a>(&'a self, level: &'a Scope, schema: Option<&'a str>, name: &'a str) -> impl Iterator<Item = ItemId> {
        level.items.iter().copied().filter(move |id| {
            self.get(*id).is_some_and(|item| match schema {
                None => item.known_as() == Some(name),
                Some(schema) => {
                    !item.aliased
                        && item.known_as() == Some(name)
                        && item.relation().is_some_and(|relation| &*relation.relation.schema == schema)
                }
            })
        })
    }

    /// Whether a write's target that is masked or filtered has a column of this name, hidden or not, where a bare name can mean it.
    pub(crate) fn is_of_guarded_target(&self, name: &str) -> bool {
        let items = self.reachable().flat_map(|level| &level.items);
        let mut relations = items.filter_map(|id| self.get(*id)?.relation());
        relations.any(|item| {
            let is_column = || item.relation.columns.iter().any(|column| *column.name == *name);
            item.write_target && item.view.is_some() && (is_column() || SYSTEM_COLUMNS.contains(&name))
        })
    }

    /// Whether a bare name means a column that a join merges by USING.
    pub(crate) fn is_merged(&self, name: &str) -> bool {
        let offers = |level: &&Scope| {
            let offers = |id: &ItemId| matches!(self.column_named(*id, name), (Some(_), _) | (_, false));
            level.items.iter().any(offers)
        };
        self.reachable().find(offers).is_some_and(|level| level.merged.iter().any(|merged| **merged == *name))
    }

    /// What a column reference means; `names` without a trailing `*`.
    pub(crate) fn meaning(&self, names: &[&str]) -> Meaning {
        let mut meaning = Meaning::default();
        match names {
            [name] => self.bare(name, &mut meaning),
            [item, name] => self.qualified(None, item, name, &mut meaning),
            [schema, item, name] => self.qualified(Some(schema), item, name, &mut meaning),
            _ => {}
        }
        meaning
    }

    fn bare(&self, name: &str, meaning: &mut Meaning) {
        for level in self.reachable() {
            let mut uncertain = false;
            for id in &level.items {
                let (column, complete) = self.column_named(*id, name);
                uncertain |= !complete;
                meaning.columns.extend(column.map(|column| (*id, column)));
            }
            if meaning.columns.is_empty() && !uncertain {
                meaning.system =
                    level.items.iter().find_map(|id| self.system_column(*id, name).map(|column| (*id, column)));
            }
            meaning.uncertain |= uncertain;
            // An item with unknown columns may have this one, or an outer level may: both are marked.
            if !meaning.columns.is_empty() || meaning.system.is_some() {
                if uncertain {
                    continue;
                }
                break;
            }
        }
        if meaning.columns.is_empty() && meaning.system.is_none() {
            for level in self.reachable() {
                meaning.whole.extend(self.named(level, None, name));
                if !meaning.whole.is_empty() {
                    break;
                }
            }
        }
    }

    fn qualified(&self, schema: Option<&str>, item: &str, name: &str, meaning: &mut Meaning) {
        meaning.qualifier = if schema.is_some() { 2 } else { 1 };
        for level in self.reachable() {
            let mut found = false;
            for id in self.named(level, schema, item).collect::<Vec<_>>() {
                found = true;
                let (column, complete) = self.column_named(id, name);
                match column {
                    Some(column) => meaning.columns.push((id, column)),
                    None => {
                        meaning.system = self.system_column(id, name).map(|column| (id, column));
                        meaning.uncertain |= !complete;
                    }
                }
            }
            if found {
                return;
            }
        }
    }

    /// The items that `item.*` means.
    pub(crate) fn star(&self, names: &[&str]) -> Vec<ItemId> {
        for level in self.reachable() {
            let found: Vec<ItemId> = match names {
                [] => return level.items.clone(),
                [item] => self.named(level, None, item).collect(),
                [schema, item] => self.named(level, Some(schema), item).collect(),
                _ => Vec::new(),
            };
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}
