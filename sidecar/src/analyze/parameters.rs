//! The types of a statement's parameters, as far as they are certain: given by the client, or by where the parameters stand.
//!
//! The server takes a parameter that has no type for one of the first type that it stands beside or is cast to, and casts it
//! wherever it meets another. Which of several places is the first is not followed here: what is relied on has to hold for all
//! of them, see [`Parameters::confirmed`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::tree;
use crate::catalog::names::types;
use crate::catalog::{Catalog, Oid};
use crate::decide::{Denial, builtins};

/// What is known of a parameter's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterType {
    /// It is this one.
    Given(Oid),
    /// Such as the one place needs where it stands: it is never cast.
    OfItsPlace,
    /// One of those that its places need.
    OfAPlace,
}

impl ParameterType {
    /// The type that operators and functions are looked for by: open as a literal's, or None where that isn't certain.
    pub(super) const fn as_operand(self) -> Option<Oid> {
        match self {
            Self::Given(kind) => Some(kind),
            Self::OfItsPlace => Some(types::UNKNOWN),
            Self::OfAPlace => None,
        }
    }
}

/// What the analysis took for certain of a parameter that stands in several places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reliance {
    /// That it is an integer, or an array of such.
    Integer,
    /// That it is no array.
    NoArray,
}

/// A place of a parameter.
#[derive(Clone, Copy, Debug)]
struct Use {
    location: i32,
    /// The type that it is cast to there, without a modifier.
    cast: Option<Oid>,
}

/// What was relied on and holds, of parameters by number.
pub(super) type Confirmed = BTreeSet<(i32, Reliance)>;

/// The parameters of one statement.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    /// Types that the client gives, 0 for those that the server finds.
    declared: Vec<Oid>,
    uses: BTreeMap<i32, Vec<Use>>,
    /// The types beside which parameters stand, by place.
    beside: BTreeMap<i32, Oid>,
    /// Places within `ARRAY[…]`, of which no other item is known to be an array.
    in_arrays: BTreeSet<i32>,
    relied: RefCell<Confirmed>,
    /// All that may be relied on, where not everything held that was.
    confirmed: Option<Confirmed>,
    /// Whether anything depended on a type.
    asked: Cell<bool>,
}

impl Parameters {
    /// Of a statement to whose parameters a client gives these types.
    pub(super) fn new(declared: &[Oid], confirmed: Option<Confirmed>) -> Self {
        Self { declared: declared.to_vec(), confirmed, ..Self::default() }
    }

    /// PREPARE gives types of its own.
    pub(super) fn declare(&mut self, declared: &[Oid]) {
        self.declared = declared.to_vec();
    }

    /// Whether the analysis may depend on the types that the client gives.
    pub(super) fn were_asked(&self) -> bool {
        self.asked.get()
    }

    /// Whether the client gives it a type.
    pub(super) fn is_declared(&self, number: i32) -> bool {
        self.declared(number).is_some()
    }

    fn declared(&self, number: i32) -> Option<Oid> {
        self.asked.set(true);
        let declared = self.declared.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()?;
        (!matches!(declared, 0 | types::UNKNOWN)).then_some(declared)
    }

    pub(super) fn kind(&self, number: i32) -> ParameterType {
        if let Some(declared) = self.declared(number) {
            return ParameterType::Given(declared);
        }
        match self.uses.get(&number).map(Vec::as_slice) {
            Some([Use { cast: Some(kind), .. }, others @ ..]) if others.iter().all(|one| one.cast == Some(*kind)) => {
                ParameterType::Given(*kind)
            }
            Some([_]) => ParameterType::OfItsPlace,
            _ => ParameterType::OfAPlace,
        }
    }

    /// Takes something for certain of a parameter of several places; false if it can't be.
    pub(super) fn rely(&self, number: i32, on: Reliance) -> bool {
        if let Some(confirmed) = &self.confirmed {
            return confirmed.contains(&(number, on));
        }
        self.relied.borrow_mut().insert((number, on));
        true
    }

    /// What of that which was relied on holds; None if all of it does. Otherwise the statement has to be analysed again, relying on
    /// nothing else.
    pub(super) fn confirmed(&self, catalog: &Catalog) -> Option<Confirmed> {
        let relied = self.relied.borrow();
        let holds = |reliance: &&(i32, Reliance)| self.is_confirmed(**reliance, catalog);
        let confirmed: Confirmed = relied.iter().filter(holds).copied().collect();
        (confirmed.len() < relied.len()).then_some(confirmed)
    }

    fn is_confirmed(&self, (number, on): (i32, Reliance), catalog: &Catalog) -> bool {
        let holds = |one: &Use| {
            let kind = one.cast.or_else(|| self.beside.get(&one.location).copied());
            match on {
                Reliance::Integer => kind.is_some_and(|kind| is_integer(catalog.element_type(kind).unwrap_or(kind))),
                Reliance::NoArray => {
                    self.in_arrays.contains(&one.location) || kind.is_some_and(|kind| !is_array(catalog, kind))
                }
            }
        };
        self.uses.get(&number).is_some_and(|uses| uses.iter().all(holds))
    }
}

impl Analyzer<'_> {
    /// Finds where the parameters of a query stand. What can't be walked is refused later.
    pub(super) fn find_parameters(&mut self, query: &mut Node) {
        let mut uses = BTreeMap::new();
        if (self.policy.row_filters || !self.catalog.user_casts.is_empty())
            && self.each_use(query, None, &mut uses).is_ok()
        {
            self.parameters.uses = uses;
        }
    }

    fn each_use(&self, node: &mut Node, cast: Option<Oid>, uses: &mut BTreeMap<i32, Vec<Use>>) -> Result<(), Denial> {
        let cast_to = match &node.node {
            Some(NodeEnum::ParamRef(parameter)) => {
                uses.entry(parameter.number).or_default().push(Use { location: parameter.location, cast });
                return Ok(());
            }
            Some(NodeEnum::TypeCast(cast)) => self.plain_type(cast),
            _ => None,
        };
        match &mut node.node {
            Some(inner) => tree::each_child(inner, &mut |child| self.each_use(child, cast_to, uses)),
            None => Ok(()),
        }
    }

    /// The type that a cast without a modifier makes.
    pub(super) fn plain_type(&self, cast: &pb::TypeCast) -> Option<Oid> {
        let is_plain = cast.type_name.as_ref().is_some_and(|name| name.typmods.is_empty());
        if is_plain { self.cast_type(cast) } else { None }
    }

    /// Whether a cast of a parameter is none, or one between numbers that can't fail.
    pub(super) fn is_no_cast(&self, cast: &pb::TypeCast) -> bool {
        let Some(NodeEnum::ParamRef(parameter)) = cast.arg.as_deref().and_then(|arg| arg.node.as_ref()) else {
            return false;
        };
        let Some(target) = self.plain_type(cast) else { return false };
        match self.parameters.kind(parameter.number) {
            ParameterType::Given(kind) => kind == target || widens(kind, target),
            ParameterType::OfItsPlace => true,
            ParameterType::OfAPlace => false,
        }
    }

    /// Whether a parameter beside a value of this type leaves that as it is: neither is cast so that it may fail.
    pub(super) fn parameter_fits(&self, number: i32, beside: Oid) -> bool {
        match self.parameters.kind(number) {
            ParameterType::Given(kind) => {
                let kind = self.catalog.base_type(kind);
                let kind = self.catalog.element_type(kind).unwrap_or(kind);
                builtins::leakproof(self.catalog, "=", beside, kind)
            }
            ParameterType::OfItsPlace => true,
            ParameterType::OfAPlace => is_integer(beside) && self.parameters.rely(number, Reliance::Integer),
        }
    }

    /// Whether a parameter may be an array.
    pub(super) fn may_be_array(&self, number: i32) -> bool {
        match self.parameters.kind(number) {
            ParameterType::Given(kind) => is_array(self.catalog, kind),
            ParameterType::OfItsPlace => false,
            ParameterType::OfAPlace => !self.parameters.rely(number, Reliance::NoArray),
        }
    }

    /// Remembers the type beside which a parameter without a cast stands.
    pub(super) fn parameter_beside(&mut self, location: i32, kind: Option<Oid>) {
        if let Some(kind) = kind.filter(|kind| *kind != types::UNKNOWN) {
            self.parameters.beside.insert(location, kind);
        }
    }

    /// Remembers the parameters without a cast among the items of an array.
    pub(super) fn parameters_in_array(&mut self, items: &[Node]) {
        if items.iter().all(|item| self.is_given(item) && !self.is_array(item)) {
            self.parameters.in_arrays.extend(items.iter().filter_map(bare_parameter).map(|(_, location)| location));
        }
    }

    /// Whether an item of a list leaves the type of the others as it is: an integer, or a parameter that takes theirs.
    pub(super) fn is_of_its_place(&self, item: &Node) -> bool {
        match &item.node {
            Some(NodeEnum::AConst(constant)) => !matches!(constant.val, Some(pb::a_const::Val::Fval(_))),
            Some(NodeEnum::ParamRef(parameter)) => match self.parameters.kind(parameter.number) {
                ParameterType::Given(kind) => is_integer(kind),
                ParameterType::OfItsPlace => true,
                ParameterType::OfAPlace => false,
            },
            _ => false,
        }
    }
}

/// Number and place of a parameter without a cast.
pub(super) fn bare_parameter(node: &Node) -> Option<(i32, i32)> {
    match &node.node {
        Some(NodeEnum::ParamRef(parameter)) => Some((parameter.number, parameter.location)),
        _ => None,
    }
}

pub(super) const fn is_integer(kind: Oid) -> bool {
    matches!(kind, types::INT2 | types::INT4 | types::INT8)
}

fn is_array(catalog: &Catalog, kind: Oid) -> bool {
    catalog.types.get(&catalog.base_type(kind)).is_some_and(|kind| kind.category == 'A')
}

/// Whether every number of one type is one of the other.
const fn widens(from: Oid, to: Oid) -> bool {
    match from {
        types::INT2 => matches!(to, types::INT4 | types::INT8 | types::NUMERIC | types::FLOAT4 | types::FLOAT8),
        types::INT4 => matches!(to, types::INT8 | types::NUMERIC | types::FLOAT4 | types::FLOAT8),
        types::INT8 => matches!(to, types::NUMERIC | types::FLOAT4 | types::FLOAT8),
        types::FLOAT4 => matches!(to, types::FLOAT8),
        _ => false,
    }
}
