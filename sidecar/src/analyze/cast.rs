//! Casts that run a function of the database's own: where one is written, in what a value is made of, and in JSON, for which the server
//! looks for a cast to `json` by itself.

use std::collections::BTreeSet;

use pg_query::Node;

use super::Analyzer;
use crate::catalog::names::{PG_CATALOG, is_polymorphic, types};
use crate::catalog::{Function, Oid};
use crate::decide::{Denial, Reason};

/// From one type to another; None is one that only the server will know.
type Pair = (Option<Oid>, Option<Oid>);

impl Analyzer<'_> {
    /// A cast whose function is the database's own is decided like a call of it: of the types, of those that domains are of, of elements
    /// of arrays and of fields of rows.
    pub(super) fn user_cast(&mut self, source: Option<Oid>, target: Option<Oid>) -> Result<(), Denial> {
        if self.catalog.user_casts.is_empty() {
            return Ok(());
        }
        let mut pairs = BTreeSet::new();
        let mut next = vec![(source.filter(|source| ![types::UNKNOWN, types::RECORD].contains(source)), target)];
        while let Some(pair) = next.pop() {
            if pairs.insert(pair) {
                next.extend(self.casts_within(pair));
            }
        }
        let is_meant = |from: Oid, to: Oid| {
            pairs.iter().any(|(source, target)| {
                source.is_none_or(|source| source == from) && target.is_none_or(|target| target == to)
            })
        };
        let casts = self.catalog.user_casts.iter();
        let functions: Vec<Oid> = casts.filter(|((from, to), _)| is_meant(*from, *to)).map(|(_, by)| *by).collect();
        self.may_cast_by(&functions)
    }

    /// The cast of a row that is written out, of values of these types: to a row's type each is cast to the field at its place.
    pub(super) fn casts_of_row(
        &mut self,
        parts: &[Node],
        kinds: &[Option<Oid>],
        target: Option<Oid>,
    ) -> Result<(), Denial> {
        if self.catalog.user_casts.is_empty() {
            return Ok(());
        }
        let Some(fields) = target.and_then(|target| self.fields_of(target)) else {
            return self.user_cast(None, target);
        };
        // Casts from a row's type itself are of no row that is written out.
        for ((part, kind), field) in parts.iter().zip(kinds).zip(fields) {
            if !self.is_read_as(part, field) {
                self.user_cast(*kind, field)?;
            }
        }
        Ok(())
    }

    /// The types of a row's fields, where they are known; None where it is no row's type, or not known.
    fn fields_of(&self, kind: Oid) -> Option<Vec<Option<Oid>>> {
        let row = match self.catalog.types.get(&self.catalog.base_type(kind)) {
            Some(of) => self.row_now(of.relation)?,
            None => self.session.overlay.iter().find(|own| own.row_type == kind)?,
        };
        Some(row.columns.iter().map(|column| column.known_type()).collect())
    }

    /// What casting one value to another casts beside.
    fn casts_within(&self, (source, target): Pair) -> Vec<Pair> {
        let (source, target) =
            (source.map(|kind| self.catalog.base_type(kind)), target.map(|kind| self.catalog.base_type(kind)));
        let element = |kind: Oid| self.catalog.element_type(kind);
        let mut within = vec![(source, target)];
        let of_arrays = match (source, target) {
            (Some(source), Some(target)) => element(source).map(Some).zip(element(target).map(Some)),
            (Some(source), None) => element(source).map(|source| (Some(source), None)),
            (None, Some(target)) => element(target).map(|target| (None, Some(target))),
            (None, None) => None,
        };
        within.extend(of_arrays);
        let may_be_row = source.is_none_or(|source| self.catalog.is_composite(source));
        if let Some(target) = target.filter(|_| may_be_row) {
            match (self.fields_of(target), self.catalog.types.get(&target)) {
                (Some(fields), _) => within.extend(fields.into_iter().map(|field| (None, field))),
                (None, Some(of)) if of.relation == 0 => {}
                (None, _) => within.push((None, None)),
            }
        }
        within
    }

    /// What becomes JSON runs a cast to it that was made for its type, or for one that it holds. Such code is written in SQL or another
    /// language that can read tables; what an extension has in C computes.
    pub(super) fn casts_to_json(&mut self, kinds: &[Option<Oid>]) -> Result<(), Denial> {
        if self.catalog.user_casts.is_empty() {
            return Ok(());
        }
        let computes = |function: Oid| {
            let function = self.catalog.function(function);
            function.is_some_and(|function| matches!(&*function.language, "c" | "internal"))
        };
        let may_hold = |from: Oid| {
            let holders = self.catalog.types_made_of(from);
            kinds.iter().any(|kind| kind.is_none_or(|kind| kind == types::RECORD || holders.contains(&kind)))
        };
        let casts = self
            .catalog
            .user_casts
            .iter()
            .filter(|((_, to), by)| matches!(*to, types::JSON | types::JSONB) && !computes(**by));
        let functions: Vec<Oid> = casts.filter(|((from, _), _)| may_hold(*from)).map(|(_, by)| *by).collect();
        self.may_cast_by(&functions)
    }

    /// Whether a call of this name may make JSON that casts of the owner have a part in.
    pub(super) fn may_cast_to_json(&self, name: &str) -> bool {
        !self.catalog.user_casts.is_empty() && name.contains("json")
    }

    /// The server has functions in SQL that cast a value of any type to text: `quote_literal` and the like, and what `||` runs.
    pub(super) fn casts_to_text(&mut self, function: &Function, arguments: &[Option<Oid>]) -> Result<(), Denial> {
        let takes_any = || function.arguments.iter().any(|parameter| is_polymorphic(*parameter));
        if self.catalog.user_casts.is_empty()
            || &*function.schema != PG_CATALOG
            || &*function.language != "sql"
            || !takes_any()
        {
            return Ok(());
        }
        let given = |kind: &Option<Oid>| *kind != Some(types::UNKNOWN);
        arguments.iter().filter(|kind| given(kind)).try_for_each(|kind| self.user_cast(*kind, Some(types::TEXT)))
    }

    fn may_cast_by(&mut self, functions: &[Oid]) -> Result<(), Denial> {
        functions.iter().try_for_each(|oid| match self.catalog.function(*oid).cloned() {
            Some(function) => self.may_call(&function, &[]),
            None => Err(Denial::new(Reason::Operator, "a cast runs a function that is not known")),
        })
    }
}
