//! What stands behind a point: `item.name` and `(value).name` are a column or field, or else a call. The server looks for the column first
//! (Postgres documentation, "Function Calling Conventions" of composite types).

use super::scope::{Column, Item, ItemId};
use super::{Analyzer, Place};
use crate::catalog::{Function, Oid, Relation, Type};
use crate::decide::Denial;
use postern_crds::Verb;

/// What stands before the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Before {
    /// A value of whatever type.
    Value,
    /// A row, of this type where it is a relation's.
    Row(Option<Oid>),
}

impl Analyzer<'_> {
    /// The type, where it is known, of the field of this name that a row's type has: what stands behind the point is that then, and nothing
    /// else.
    pub(super) fn field_of(&self, kind: Oid, name: &str) -> Option<Option<Oid>> {
        let kind = self.catalog.types.get(&self.catalog.base_type(kind))?;
        let row = self.row_now(kind.relation)?;
        row.column(name).map(|column| column.known_type())
    }

    /// Who may define can take a field away meanwhile, or turn a type's name, in the same text or from another session: what stands behind
    /// the point must be allowed as a call, too.
    pub(super) fn field_may_go(&mut self, name: &str) -> Result<(), Denial> {
        if self.session.retyped.is_empty() && self.policy.allows(Verb::Ddl).is_err() {
            return Ok(());
        }
        self.may_call_all_of(name, Before::Value)
    }

    /// The same of `item.name` that means one of these columns, if the server may find none of them: of a relation that the identity may
    /// change, or where their names are the gate's guess. The item remains a row, of whatever columns.
    pub(super) fn may_be_call_of(&mut self, name: &str, columns: &[(ItemId, Column)]) -> Result<(), Denial> {
        let columns = || columns.iter().map(|(_, column)| column);
        if columns().any(|column| column.field) {
            return self.field_may_go(name);
        }
        let lossy = |(id, _): &(ItemId, i16)| {
            let item = self.scopes.get(*id).and_then(Item::relation)?;
            let may_go = !item.replaced() && !item.is_named() && self.may_lose_columns(&item.relation);
            may_go.then_some(Some(item.relation.row_type))
        };
        let guessed = columns().any(|column| column.guessed).then_some(None);
        let rows: Vec<Option<Oid>> =
            columns().flat_map(|column| &column.origins).filter_map(lossy).chain(guessed).collect();
        rows.into_iter().try_for_each(|row| self.may_call_all_of(name, Before::Row(row)))
    }

    /// Whether these are columns of the one item that the bare names of a statement can mean, with no query around.
    pub(super) fn is_alone(&self, columns: &[(ItemId, Column)]) -> bool {
        let Some((level, around)) = self.scopes.levels.split_last() else { return false };
        let only_named = |id: &ItemId| self.before_and_after.contains(id);
        matches!(columns, [(id, _)] if level.items.as_slice() == [*id])
            && around.iter().flat_map(|level| &level.items).all(only_named)
    }

    /// Whether the identity may take columns from a relation.
    fn may_lose_columns(&self, relation: &Relation) -> bool {
        relation.temporary
            || self.session.retyped.contains(&relation.oid)
            || self.policy.grant(relation, Verb::Ddl).is_ok()
    }

    /// Whether the columns of a relation have to be named in its alias: the identity may take them from it, and a name that none has any more
    /// would be a call that it may not make. The names in an alias are columns whatever comes.
    pub(super) fn needs_names(&mut self, relation: &Relation) -> bool {
        self.may_lose_columns(relation)
            && !self.session.retyped.contains(&relation.oid)
            && relation
                .columns
                .iter()
                .any(|column| self.may_call_all_of(&column.name, Before::Row(Some(relation.row_type))).is_err())
    }

    /// Whether all that `value.name`, or `item.name`, may call is allowed. Asks, and notes nothing.
    fn may_call_all_of(&mut self, name: &str, before: Before) -> Result<(), Denial> {
        // Few columns are called like a function or a type.
        if !self.catalog.functions.contains_key(name) && !self.catalog.names_type(name) {
            return Ok(());
        }
        let asked = (name.to_owned(), before);
        if let Some(answer) = self.asked_of_names.get(&asked) {
            return answer.clone();
        }
        let answer = self.ask_of_name(name, before);
        self.asked_of_names.insert(asked, answer.clone());
        answer
    }

    fn ask_of_name(&mut self, name: &str, before: Before) -> Result<(), Denial> {
        let takes = |function: &Function| {
            let first = function.arguments.first();
            takes_one(function)
                && (matches!(before, Before::Value) || first.is_some_and(|first| self.takes_row(*first)))
        };
        let functions = self.catalog.functions_named(&self.session.search_path, None, name);
        let functions: Vec<Function> = functions.into_iter().filter(|function| takes(function)).cloned().collect();
        // A row is cast so to a domain over its type, or by a cast of the owner's.
        let is_meant = |kind: &&Type| match before {
            Before::Value => true,
            Before::Row(row) => {
                let casts = |row: Oid| self.catalog.user_casts.contains_key(&(row, kind.oid));
                self.catalog.is_composite(kind.oid) && kind.relation == 0 || row.is_some_and(casts)
            }
        };
        let kind = self.type_called(None, name).filter(is_meant).map(|kind| kind.oid);
        if functions.is_empty() && kind.is_none() {
            return Ok(());
        }
        let (said, changes_state) = (self.out.clone(), self.changes_state);
        let answer = self.only_asking(|asking| {
            functions.iter().try_for_each(|function| asking.may_call_behind(function))?;
            kind.map_or(Ok(()), |kind| asking.may_make(kind).and_then(|()| asking.user_cast(None, Some(kind))))
        });
        (self.out, self.changes_state) = (said, changes_state);
        answer.map_err(|denial| {
            denial.hint(
                "The server may take this for a call. Give the column another name by AS, or write its name alone.",
            )
        })
    }

    /// A call that is written behind a point, of whatever stands before it.
    fn may_call_behind(&mut self, function: &Function) -> Result<(), Denial> {
        self.may_call(function, &[])?;
        if self.may_cast_to_json(&function.name) {
            self.casts_to_json(&[None])?;
        }
        self.casts_to_text(function, &[None])
    }

    /// Whether a row may be given for an argument, or be cast to a type, of this kind.
    fn takes_row(&self, kind: Oid) -> bool {
        let base = self.catalog.types.get(&self.catalog.base_type(kind));
        base.is_none_or(|base| base.relation != 0 || base.category == 'P')
            || self.catalog.user_casts.keys().any(|(from, to)| *to == kind && self.catalog.is_composite(*from))
    }

    /// What `value.name` runs if that is no field of the value: a function that takes one argument, or a cast to a type (Postgres
    /// documentation, "Function Calling Conventions" of composite types; the server does the same with any value). Each that it can mean
    /// is decided as a call.
    pub(super) fn attribute(&mut self, name: &str, place: Place) -> Result<(), Denial> {
        let path = self.session.search_path.clone();
        let functions = self.catalog.functions_named(&path, None, name);
        let functions: Vec<Function> = functions.into_iter().filter(|function| takes_one(function)).cloned().collect();
        functions.iter().try_for_each(|function| self.may_call_behind(function))?;
        let kind = self.type_called(None, name).map(|kind| kind.oid);
        let in_doubt = self.session.types_in_doubt.contains_key(name);
        match kind {
            Some(kind) => self.may_make(kind)?,
            None if in_doubt => self.may_make_any()?,
            None => {}
        }
        if kind.is_some() || in_doubt {
            self.user_cast(None, kind)?;
        }
        self.may_raise |= (!functions.is_empty() || kind.is_some() || in_doubt) && (!place.after_filter || place.sorts);
        Ok(())
    }

    /// The type of a relation's row that is seen as it is, where it is known.
    pub(super) fn type_of_row(&self, id: ItemId) -> Option<Oid> {
        let item = self.scopes.get(id)?.relation()?;
        let kind = item.relation.row_type;
        let is_plain = item.view.is_none() && item.system_view.is_none() && item.column_aliases.is_empty();
        (is_plain && self.catalog.types.contains_key(&kind)).then_some(kind)
    }

    /// The columns of a row's type as they are now, by the relation that it is of; None where only the server knows them.
    pub(super) fn row_now(&self, relation: Oid) -> Option<&Relation> {
        if self.session.retyped.contains(&relation) {
            return None;
        }
        let own = self.session.overlay.iter().find(|own| own.oid == relation);
        own.or_else(|| self.catalog.relations.get(&relation)).map(|relation| &**relation)
    }
}

/// Whether a function may be called with one argument.
fn takes_one(function: &Function) -> bool {
    let required = function.arguments.len().saturating_sub(usize::from(function.defaults));
    !function.arguments.is_empty() && (required <= 1 || function.variadic != 0 && required <= 2)
}
