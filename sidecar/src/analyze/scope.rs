//! Scopes: which FROM items a name can mean, at which query level, and what of each item the statement uses.
//!
//! **Promise.** A column that the client names is marked as used on every item that it could mean. Marking too much
//! costs a column in an inline view; marking too little makes the server say that the column does not exist. Neither
//! lets a raw value through, because the inline view is all that the server sees of the relation.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether it is a field of what a function gives.
    pub(crate) field: bool,
    /// Whether its name is the one that the server is thought to give it.
    pub(crate) guessed: bool,
    /// Filtered relations that a subquery in it reads, which may fail: tried in a condition, it may come before their filters.
    pub(crate) fences: Vec<ItemId>,
}

impl Column {
    /// What may be either: the same column of both sides of a join, or of two that a name may mean.
    pub(crate) fn or(mut self, other: Column) -> Column {
        if self.type_oid != other.type_oid {
            self.type_oid = None;
        }
        self.origins.extend(other.origins);
        self.fences.extend(other.fences);
        self.stays &= other.stays;
        self.sealed &= other.sealed;
        self.passing |= other.passing;
        self.field |= other.field;
        self.guessed |= other.guessed;
        self
    }
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
    /// The alias that the client gave it, if the text has another.
    pub(crate) called: Option<Arc<str>>,
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

    /// Whether its alias names all of its columns.
    pub(crate) fn is_named(&self) -> bool {
        !self.column_aliases.is_empty() && self.column_aliases.len() >= self.visible().count()
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
            Some(RelationItem { called: Some(called), .. }) => Some(called),
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
    /// Whether it is yet to be walked, as what WITH RECURSIVE names further on is.
    pub(crate) awaited: bool,
    /// Whether something reads it.
    pub(crate) read: bool,
}

/// One query level.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// CTEs that this level's WITH brought.
    pub(crate) ctes: Vec<Cte>,
    /// FROM items visible at this point.
    pub(crate) items: Vec<ItemId>,
    /// Names that joins among them merge by USING, each with the first item of its join.
    pub(crate) merged: Vec<(ItemId, Arc<str>)>,
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
    /// Joins that merge columns, by their first item.
    joined: BTreeMap<ItemId, Joined>,
    /// The items of such joins' own names, which show no column again.
    names_of_joins: BTreeSet<ItemId>,
}

/// A join that merges columns.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The items that it joins.
    pub(crate) items: Vec<ItemId>,
    /// What `*` shows of it, in order.
    pub(crate) columns: Vec<Column>,
    /// Whether these are all.
    pub(crate) complete: bool,
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

    /// The CTE of this name that is in scope, which is noted to be read.
    pub(crate) fn read_cte(&mut self, name: &str) -> Option<Cte> {
        let mut levels = self.levels.iter_mut().rev();
        let found = levels.find_map(|level| level.ctes.iter_mut().rev().find(|cte| &*cte.name == name))?;
        found.read = true;
        Some(found.clone())
    }

    /// Whether a CTE of this level was read before it was walked.
    pub(crate) fn was_awaited(&self, name: &str) -> bool {
        let ctes = self.levels.last().into_iter().flat_map(|level| &level.ctes);
        ctes.filter(|cte| &*cte.name == name).any(|cte| cte.awaited && cte.read)
    }

    /// Notes what `*` shows of these items together.
    pub(crate) fn note_joined(&mut self, items: &[ItemId], columns: Vec<Column>, complete: bool) {
        if let Some(first) = items.first() {
            self.joined.insert(*first, Joined { items: items.to_vec(), columns, complete });
        }
    }

    /// Adds the name of a join, which has these columns.
    pub(crate) fn add_name_of_join(&mut self, alias: Arc<str>, columns: Vec<Column>) {
        let source = Source::Derived { columns, complete: true };
        let id = self.add(Item { alias: Some(alias), aliased: true, source });
        self.names_of_joins.insert(id);
    }

    /// What `*` shows of items that stand side by side in FROM, in order, and whether that is all.
    pub(crate) fn shown(&self, items: &[ItemId]) -> (Vec<Column>, bool) {
        let (mut columns, mut complete) = (Vec::new(), true);
        let items: Vec<ItemId> = items.iter().copied().filter(|id| !self.names_of_joins.contains(id)).collect();
        let mut rest = items.as_slice();
        while let [first, others @ ..] = rest {
            let joined = self.joined.get(first).and_then(|joined| Some((joined, rest.strip_prefix(&*joined.items)?)));
            let (more, all) = match joined {
                Some((joined, _)) => (joined.columns.clone(), joined.complete),
                None => self.columns_of(*first),
            };
            columns.extend(more);
            complete &= all;
            rest = joined.map_or(others, |(_, others)| others);
        }
        (columns, complete)
    }

    /// Adds an item to the innermost level.
    pub(crate) fn add(&mut self, item: Item) -> ItemId {
        let id = self.push(item);
        if let Some(level) = self.levels.last_mut() {
            level.items.push(id);
        }
        id
    }

    /// Whether the innermost level offers an item.
    pub(crate) fn is_here(&self, id: ItemId) -> bool {
        self.levels.last().is_some_and(|level| level.items.contains(&id))
    }

    /// Offers these items at the innermost level in place of those that it offered, which are given back.
    pub(crate) fn offer_only(&mut self, items: Vec<ItemId>) -> Vec<ItemId> {
        self.levels.last_mut().map(|level| std::mem::replace(&mut level.items, items)).unwrap_or_default()
    }

    /// Offers only those of its items that were added from this one on. Gives back what it offered.
    pub(crate) fn offer_since(&mut self, first: ItemId) -> Vec<ItemId> {
        let items = self.levels.last().map(|level| level.items.clone()).unwrap_or_default();
        self.offer_only(items.into_iter().filter(|id| *id >= first).collect())
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
                let of_name = columns.iter().filter(|column| column.name.as_deref() == Some(name)).cloned();
                (of_name.reduce(Column::or), *complete)
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
                // What the proxy writes out itself goes by the name in the text.
                None => item.known_as() == Some(name) || item.renamed() && item.alias.as_deref() == Some(name),
                Some(schema) => {
                    !item.aliased
                        && item.known_as() == Some(name)
                        && item.relation().is_some_and(|relation| &*relation.relation.schema == schema)
                }
            })
        })
    }

    /// Targets of writes that are masked or filtered, where a name can mean them.
    fn guarded_targets(&self) -> impl Iterator<Item = (&Item, &RelationItem)> {
        let items = self.reachable().flat_map(|level| &level.items).filter_map(|id| self.get(*id));
        let relations = items.filter_map(|item| Some((item, item.relation()?)));
        relations.filter(|(_, relation)| relation.write_target && relation.view.is_some())
    }

    /// Whether a bare name can mean a column of a write's target that is masked or filtered.
    pub(crate) fn has_guarded_target(&self) -> bool {
        self.guarded_targets().next().is_some()
    }

    /// Whether such a target has a column of this name, hidden or not, or is called so in the text that is sent.
    pub(crate) fn is_of_guarded_target(&self, name: &str) -> bool {
        self.guarded_targets().any(|(item, target)| {
            let is_column = || target.relation.columns.iter().any(|column| *column.name == *name);
            item.alias.as_deref() == Some(name) || is_column() || SYSTEM_COLUMNS.contains(&name)
        })
    }

    /// The name by which the text that is sent refers to an item.
    pub(crate) fn alias_of(&self, id: ItemId) -> Option<&str> {
        self.get(id)?.alias.as_deref()
    }

    /// Whether a bare name means a column that a join merges by USING.
    pub(crate) fn is_merged(&self, name: &str) -> bool {
        let offers = |level: &&Scope| {
            let offers = |id: &ItemId| matches!(self.column_named(*id, name), (Some(_), _) | (_, false));
            level.items.iter().any(offers)
        };
        self.reachable().find(offers).is_some_and(|level| {
            // ON sees some of the level's joins only.
            let first = level.items.iter().min();
            let is_seen = |join: &ItemId| first.is_some_and(|first| first <= join);
            level.merged.iter().any(|(join, merged)| **merged == *name && is_seen(join))
        })
    }

    /// What a column reference means; `names` without a trailing `*`.
    pub(crate) fn meaning(&self, names: &[&str]) -> Meaning {
        let mut meaning = Meaning::default();
        match names {
            [name] => self.bare(name, &mut meaning),
            [item, name] => self.qualified(None, item, name, &mut meaning),
            // The database's name stands before these.
            [schema, item, name] | [_, schema, item, name] => self.qualified(Some(schema), item, name, &mut meaning),
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
                [schema, item] | [_, schema, item] => self.named(level, Some(schema), item).collect(),
                _ => Vec::new(),
            };
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}
