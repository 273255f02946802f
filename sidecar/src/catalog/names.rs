//! What a name means, as Postgres would say it: pure functions over a snapshot and the session's search path.
//!
//! **Promise.** An answer that names one object is the object that the server would choose, given that the snapshot
//! and the overlay are what the server has; where that isn't certain the answer says so ([`Choice::Ambiguous`], `None`).
//! **Also.** [`Choice::Ambiguous`] lists every object that the server could choose, so that a caller may still pass a
//! statement if all of them are allowed.
//! **Not covered.** Privileges: a schema on the path that the role may not use is skipped by the server but not here.
//! Emit what was resolved with its schema, and that can't change the meaning.

use std::collections::HashSet;
use std::sync::Arc;

use pg_query::protobuf::{TypeName, node};

use super::{Catalog, Column, ForeignKey, Function, Oid, Operator, Relation, RelationKind, Type};

/// Longest name in bytes: NAMEDATALEN, without the NUL.
pub const MAX_IDENTIFIER: usize = 63;

/// As much of a name as the server keeps, in whole characters.
pub fn cut_identifier(name: &str) -> &str {
    let end = (0..=MAX_IDENTIFIER.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.get(..end).unwrap_or_default()
}

/// The schema of everything built in.
pub const PG_CATALOG: &str = "pg_catalog";
/// The session's own schema of temporary objects, as names and the overlay spell it.
pub const PG_TEMP: &str = "pg_temp";

/// Oids of types that the rules of resolution name. They are fixed in Postgres' own catalog.
pub mod types {
    use super::Oid;

    /// `boolean`
    pub const BOOL: Oid = 16;
    /// `bytea`
    pub const BYTEA: Oid = 17;
    /// `name`
    pub const NAME: Oid = 19;
    /// `bigint`
    pub const INT8: Oid = 20;
    /// `integer`
    pub const INT4: Oid = 23;
    /// `text`
    pub const TEXT: Oid = 25;
    /// `oid`
    pub const OID: Oid = 26;
    /// `tid`.
    pub const TID: Oid = 27;
    /// `xid`.
    pub const XID: Oid = 28;
    /// `cid`.
    pub const CID: Oid = 29;
    /// A quoted literal or NULL whose type is still open.
    pub const UNKNOWN: Oid = 705;
    /// `numeric`
    pub const NUMERIC: Oid = 1700;
    /// `"char"`
    pub const CHAR: Oid = 18;
    /// `smallint`
    pub const INT2: Oid = 21;
    /// `cidr`
    pub const CIDR: Oid = 650;
    /// `real`
    pub const FLOAT4: Oid = 700;
    /// `double precision`
    pub const FLOAT8: Oid = 701;
    /// `money`
    pub const MONEY: Oid = 790;
    /// `macaddr`
    pub const MACADDR: Oid = 829;
    /// `inet`
    pub const INET: Oid = 869;
    /// `character(n)`
    pub const BPCHAR: Oid = 1042;
    /// `bit`.
    pub const BIT: Oid = 1560;
    /// `character varying`
    pub const VARCHAR: Oid = 1043;
    /// `date`
    pub const DATE: Oid = 1082;
    /// `time`
    pub const TIME: Oid = 1083;
    /// `timestamp`
    pub const TIMESTAMP: Oid = 1114;
    /// `timestamptz`
    pub const TIMESTAMPTZ: Oid = 1184;
    /// `interval`
    pub const INTERVAL: Oid = 1186;
    /// `timetz`
    pub const TIMETZ: Oid = 1266;
    /// `uuid`
    pub const UUID: Oid = 2950;
    /// `pg_lsn`
    pub const PG_LSN: Oid = 3220;
    /// `json`
    pub const JSON: Oid = 114;
    /// `jsonb`
    pub const JSONB: Oid = 3802;
    /// `record`
    pub const RECORD: Oid = 2249;
    /// `record[]`
    pub const RECORD_ARRAY: Oid = 2287;
    /// `int2vector`
    pub const INT2VECTOR: Oid = 22;
    /// `oidvector`
    pub const OIDVECTOR: Oid = 30;
    /// `"any"`
    pub const ANY: Oid = 2276;
    /// `anyarray`
    pub const ANYARRAY: Oid = 2277;
    /// `anyelement`
    pub const ANYELEMENT: Oid = 2283;
    /// `anynonarray`
    pub const ANYNONARRAY: Oid = 2776;
    /// `anyenum`
    pub const ANYENUM: Oid = 3500;
    /// `anyrange`
    pub const ANYRANGE: Oid = 3831;
    /// `anymultirange`
    pub const ANYMULTIRANGE: Oid = 4537;
    /// `anycompatiblemultirange`
    pub const ANYCOMPATIBLEMULTIRANGE: Oid = 4538;
    /// `anycompatible`
    pub const ANYCOMPATIBLE: Oid = 5077;
    /// `anycompatiblearray`
    pub const ANYCOMPATIBLEARRAY: Oid = 5078;
    /// `anycompatiblenonarray`
    pub const ANYCOMPATIBLENONARRAY: Oid = 5079;
    /// `anycompatiblerange`
    pub const ANYCOMPATIBLERANGE: Oid = 5080;

    /// The type of a number too large for `integer`, or with decimals, as it is written.
    pub fn of_number(written: &str) -> Oid {
        let digits = written.replace('_', "").to_ascii_lowercase();
        // The sign is read with the digits: the least of integers is one.
        let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |digits| ("-", digits));
        let (radix, digits) = [("0x", 16), ("0o", 8), ("0b", 2)]
            .into_iter()
            .find_map(|(prefix, radix)| Some((radix, digits.strip_prefix(prefix)?)))
            .unwrap_or((10, digits));
        match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
            Ok(number) if i32::try_from(number).is_ok() => INT4,
            Ok(_) => INT8,
            Err(_) => NUMERIC,
        }
    }
}

/// What a relation's name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution<T> {
    /// This.
    Found(T),
    /// Nothing that snapshot and overlay know.
    Unknown,
}

impl<T> Resolution<T> {
    /// What was found.
    pub fn found(self) -> Option<T> {
        match self {
            Resolution::Found(found) => Some(found),
            Resolution::Unknown => None,
        }
    }
}

/// What a function's or an operator's name means for given operands.
#[derive(Clone, Debug)]
pub enum Choice<'a, T> {
    /// The server chooses this, or fails.
    One(&'a T),
    /// The server chooses one of these, or fails.
    Ambiguous(Vec<&'a T>),
    /// The server finds none. For a function of one argument the text may still be a cast written as a call, or an
    /// attribute written as one: see [`Catalog::is_cast_call`].
    None,
}

/// See [`Choice`].
pub type FunctionResolution<'a> = Choice<'a, Function>;
/// See [`Choice`].
pub type OperatorResolution<'a> = Choice<'a, Operator>;

impl<'a, T> Choice<'a, T> {
    fn of(mut all: Vec<&'a T>) -> Self {
        match (all.pop(), all.is_empty()) {
            (None, _) => Choice::None,
            (Some(one), true) => Choice::One(one),
            (Some(last), false) => {
                all.push(last);
                Choice::Ambiguous(all)
            }
        }
    }

    /// The one that is certain.
    pub fn one(&self) -> Option<&'a T> {
        match self {
            Choice::One(one) => Some(one),
            Choice::Ambiguous(_) | Choice::None => None,
        }
    }

    /// All that are possible.
    pub fn all(&self) -> &[&'a T] {
        match self {
            Choice::One(one) => std::slice::from_ref(one),
            Choice::Ambiguous(all) => all,
            Choice::None => &[],
        }
    }
}

/// How a call gives its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// `f(a, b)`
    Positional,
    /// `f(a, n => b)`: which parameter an argument is for isn't known here, so types don't narrow the choice.
    Named,
    /// `f(a, VARIADIC b)`
    Variadic,
}

/// A function or operator with the argument types that count for one call.
#[derive(Clone, Debug)]
struct Candidate<'a, T> {
    item: &'a T,
    arguments: Vec<Oid>,
    variadic: bool,
    position: usize,
}

/// Whether something holds, as far as the snapshot can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Yes,
    No,
    Maybe,
}

/// How eager a conversion may be (`CoercionContext`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// In an expression, unasked.
    Implicit,
    /// Into a column.
    Assignment,
    /// By CAST or `::`.
    Explicit,
}

/// How a conversion is done (`CoercionPathType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastPath {
    /// Nothing runs.
    Relabel,
    /// This function runs.
    Function(Oid),
    /// Element by element.
    Array,
    /// Through the types' text forms.
    Text,
}

/// The schemas that an unqualified name is looked up in, in order. `temporary` objects count for relations and types,
/// never for functions and operators.
pub fn effective_path(search_path: &[String], temporary: bool) -> Vec<&str> {
    let mut path = Vec::with_capacity(search_path.len().saturating_add(2));
    if temporary && !search_path.iter().any(|schema| schema == PG_TEMP) {
        path.push(PG_TEMP);
    }
    if !search_path.iter().any(|schema| schema == PG_CATALOG) {
        path.push(PG_CATALOG);
    }
    for schema in search_path {
        if (temporary || schema != PG_TEMP) && !path.contains(&schema.as_str()) {
            path.push(schema);
        }
    }
    path
}

impl Catalog {
    /// The relation that a name means in a session with this search path and overlay.
    ///
    /// A relation of the overlay hides the snapshot's of the same schema and name, and the snapshot's of the same oid
    /// (it was renamed or moved).
    pub fn resolve_relation(
        &self,
        search_path: &[String],
        overlay: &[Arc<Relation>],
        schema: Option<&str>,
        name: &str,
    ) -> Resolution<Arc<Relation>> {
        let path = match schema {
            Some(schema) => vec![schema],
            None => effective_path(search_path, true),
        };
        for schema in path {
            if let Some(found) = overlay.iter().find(|made| &*made.schema == schema && &*made.name == name) {
                return Resolution::Found(found.clone());
            }
            if let Some(found) = self.relation(schema, name)
                && !overlay.iter().any(|made| made.oid == found.oid)
            {
                return Resolution::Found(found.clone());
            }
        }
        Resolution::Unknown
    }

    /// The type that a name means. A relation of the overlay makes a type of its name, which the snapshot doesn't know:
    /// where that would be the one chosen the answer is `None`.
    pub fn resolve_type(
        &self,
        search_path: &[String],
        overlay: &[Arc<Relation>],
        schema: Option<&str>,
        name: &str,
    ) -> Option<&Type> {
        let path = match schema {
            Some(schema) => vec![schema],
            None => effective_path(search_path, true),
        };
        for schema in path {
            // With a row type comes that of its arrays.
            let is_named = |made: &Relation| &*made.name == name || name.strip_prefix('_') == Some(&*made.name);
            if overlay.iter().any(|made| &*made.schema == schema && is_named(made)) {
                return None;
            }
            if let Some(found) = self.type_named(schema, name) {
                return Some(found);
            }
        }
        None
    }

    /// Whether some schema has a type of this name.
    pub fn names_type(&self, name: &str) -> bool {
        self.type_names.contains_key(name)
    }

    /// Whether another schema than this has a type of this name.
    pub fn names_type_elsewhere(&self, name: &str, schema: &str) -> bool {
        self.type_names.get(name).is_some_and(|types| types.iter().any(|(of, _)| **of != *schema))
    }

    /// Whether several schemas have a type of this name.
    pub fn names_types(&self, name: &str) -> bool {
        self.type_names.get(name).is_some_and(|types| types.len() > 1)
    }

    /// The type of this schema and name.
    pub fn type_named(&self, schema: &str, name: &str) -> Option<&Type> {
        let (_, oid) = self.type_names.get(name)?.iter().find(|(of, _)| &**of == schema)?;
        self.types.get(oid)
    }

    /// A type and all that are made of it: domains over it, arrays, ranges and composites with it, and so on.
    pub fn types_made_of(&self, oid: Oid) -> HashSet<Oid> {
        let mut found = HashSet::from([oid]);
        loop {
            let is_made = |one: &&Type| {
                let columns = self.relations.get(&one.relation).map(|relation| relation.columns.as_slice());
                !found.contains(&one.oid)
                    && ([one.base, one.element, one.range_of].iter().any(|part| found.contains(part))
                        || columns.unwrap_or_default().iter().any(|column| found.contains(&column.type_oid)))
            };
            let more: Vec<Oid> = self.types.values().filter(is_made).map(|one| one.oid).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// The type that a parsed type name means, arrays included. `None` also for `%TYPE` and names of three parts.
    pub fn resolve_type_name(
        &self,
        search_path: &[String],
        overlay: &[Arc<Relation>],
        parsed: &TypeName,
    ) -> Option<&Type> {
        if parsed.pct_type {
            return None;
        }
        let mut parts = Vec::with_capacity(2);
        for part in &parsed.names {
            match &part.node {
                Some(node::Node::String(text)) => parts.push(text.sval.as_str()),
                _ => return None,
            }
        }
        let element = match parts.as_slice() {
            [name] => self.resolve_type(search_path, overlay, None, name)?,
            [schema, name] => self.resolve_type(search_path, overlay, Some(schema), name)?,
            _ => return None,
        };
        if parsed.array_bounds.is_empty() { Some(element) } else { self.types.get(&element.array) }
    }

    /// Functions that a call of this name with so many arguments can mean, by number of arguments alone.
    ///
    /// One that is shadowed by an identical signature in an earlier schema is left out only if that schema is
    /// pg_catalog: any other might be skipped by the server for want of USAGE.
    pub fn function_candidates(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
        arguments: usize,
    ) -> Vec<&Function> {
        let all = self.call_candidates(search_path, schema, name, arguments, CallForm::Positional);
        all.iter()
            .filter(|candidate| {
                !all.iter().any(|other| {
                    other.position < candidate.position
                        && &*other.item.schema == PG_CATALOG
                        && other.arguments == candidate.arguments
                })
            })
            .map(|candidate| candidate.item)
            .collect()
    }

    /// Functions of this name that a call may mean, whatever its arguments are.
    pub fn functions_named(&self, search_path: &[String], schema: Option<&str>, name: &str) -> Vec<&Function> {
        let path = match schema {
            Some(schema) => vec![schema],
            None => effective_path(search_path, false),
        };
        let Some(named) = self.functions.get(name) else { return Vec::new() };
        named.iter().filter(|function| path.contains(&&*function.schema)).collect()
    }

    /// The function that a positional call means. An argument's type is `None` where the caller doesn't know it, and
    /// [`types::UNKNOWN`] for a literal without a type.
    pub fn resolve_function(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
        arguments: &[Option<Oid>],
    ) -> FunctionResolution<'_> {
        self.resolve_call(search_path, schema, name, arguments, CallForm::Positional)
    }

    /// The function that a call means.
    pub fn resolve_call(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
        arguments: &[Option<Oid>],
        form: CallForm,
    ) -> FunctionResolution<'_> {
        let candidates = self.call_candidates(search_path, schema, name, arguments.len(), form);
        if form == CallForm::Named {
            return Choice::of(candidates.into_iter().map(|candidate| candidate.item).collect());
        }
        let candidates = unshadowed(candidates);
        let known: Option<Vec<Oid>> = arguments.iter().copied().collect();
        let Some(known) = known else {
            return Choice::of(self.not_excluded(candidates, arguments));
        };
        let exact: Vec<_> = candidates.iter().filter(|candidate| candidate.arguments == known).collect();
        if !exact.is_empty() {
            return Choice::of(exact.into_iter().map(|candidate| candidate.item).collect());
        }
        if self.is_cast_call(search_path, schema, name, arguments) {
            return Choice::None;
        }
        self.select(candidates, &known)
    }

    /// Whether a call of one argument that matches no function's signature exactly is a cast to the type of that name.
    /// True where the argument's type isn't known and it could be.
    pub fn is_cast_call(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
        arguments: &[Option<Oid>],
    ) -> bool {
        let [argument] = arguments else { return false };
        let Some(target) = self.resolve_type(search_path, &[], schema, name) else { return false };
        let Some(source) = *argument else { return true };
        if source == types::UNKNOWN {
            return true;
        }
        match self.cast_path(source, target.oid, CastContext::Explicit) {
            Some(CastPath::Relabel) => true,
            Some(CastPath::Text) => !(self.is_composite(source) && target.category == 'S'),
            Some(CastPath::Function(_) | CastPath::Array) | None => false,
        }
    }

    /// The operator that a name means between these operands; `left` is `None` in a prefix operator, and the inner
    /// option is as in [`Catalog::resolve_function`].
    pub fn operator(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
        left: Option<Option<Oid>>,
        right: Option<Oid>,
    ) -> OperatorResolution<'_> {
        let path = match schema {
            Some(schema) => vec![schema],
            None => effective_path(search_path, false),
        };
        let Some(named) = self.operators.get(name) else { return Choice::None };
        let operands: Vec<Option<Oid>> = left.into_iter().chain([right]).collect();
        let known: Option<Vec<Oid>> = operands.iter().copied().collect();
        // One for just these types is taken, the first on the path. That is how most are found, and there are dozens of each name.
        let place = |operator: &Operator| path.iter().position(|schema| **schema == *operator.schema);
        let exact = |wanted: [Oid; 2]| {
            let all = named.iter().filter(|operator| [operator.left, operator.right] == wanted);
            all.filter_map(|operator| Some((place(operator)?, operator))).min_by_key(|(place, _)| *place)
        };
        // An untyped literal is first tried as the other operand's type, then as that one's base type.
        let tried = match known.as_deref() {
            Some([types::UNKNOWN, other] | [other, types::UNKNOWN]) if *other != types::UNKNOWN => {
                vec![[*other; 2], [self.base_type(*other); 2]]
            }
            Some([left, right]) => vec![[*left, *right]],
            Some([right]) => vec![[0, *right]],
            _ => Vec::new(),
        };
        if let Some((_, found)) = tried.into_iter().find_map(exact) {
            return Choice::One(found);
        }
        let mut candidates = Vec::new();
        for operator in named {
            if let Some(position) = path.iter().position(|schema| **schema == *operator.schema)
                && (operator.left != 0) == left.is_some()
            {
                let arguments = if left.is_some() { vec![operator.left, operator.right] } else { vec![operator.right] };
                candidates.push(Candidate { item: operator, arguments, variadic: false, position });
            }
        }
        let candidates = unshadowed(candidates);
        let Some(known) = known else {
            return Choice::of(self.not_excluded(candidates, &operands));
        };
        self.select(candidates, &known)
    }

    /// Every operator of this name that the path reaches.
    pub fn operators_named(&self, search_path: &[String], schema: Option<&str>, name: &str) -> Vec<&Operator> {
        let path = match schema {
            Some(schema) => vec![schema],
            None => effective_path(search_path, false),
        };
        let Some(named) = self.operators.get(name) else { return Vec::new() };
        named.iter().filter(|operator| path.contains(&&*operator.schema)).collect()
    }

    /// The type of a call's result, polymorphic ones worked out from the arguments. `None` if that isn't certain.
    pub fn result_type(&self, declared: &[Oid], result: Oid, arguments: &[Option<Oid>]) -> Option<Oid> {
        if !is_polymorphic(result) {
            return Some(result);
        }
        let pairs = || declared.iter().copied().zip(arguments.iter().copied());
        if is_compatible_family(result) {
            let mut elements = Vec::new();
            for (parameter, argument) in pairs().filter(|(parameter, _)| is_compatible_family(*parameter)) {
                elements.push(self.element_for(parameter, argument?)?);
            }
            // Untyped literals have no say unless there is nothing else.
            if elements.iter().any(|oid| *oid != types::UNKNOWN) {
                elements.retain(|oid| *oid != types::UNKNOWN);
            }
            let element = self.common_type(&elements)?;
            return match result {
                types::ANYCOMPATIBLE | types::ANYCOMPATIBLENONARRAY => Some(element),
                types::ANYCOMPATIBLEARRAY => self.array_of(element),
                _ => pairs().find(|(parameter, _)| *parameter == result)?.1,
            };
        }
        if matches!(result, types::ANYRANGE | types::ANYMULTIRANGE) {
            let same = pairs().find(|(parameter, _)| *parameter == result).and_then(|(_, argument)| argument);
            return same.filter(|oid| *oid != types::UNKNOWN).map(|oid| self.base_type(oid));
        }
        // An array is given back as what it was, `int2vector` and its like too.
        let whole =
            pairs().find(|(parameter, argument)| *parameter == types::ANYARRAY && *argument != Some(types::UNKNOWN));
        if let (types::ANYARRAY, Some((_, argument))) = (result, whole) {
            return argument.map(|oid| self.base_type(oid));
        }
        let mut element = None;
        for (parameter, argument) in pairs() {
            if !is_polymorphic(parameter) || is_compatible_family(parameter) {
                continue;
            }
            let argument = argument?;
            if argument != types::UNKNOWN {
                element = Some(self.element_for(parameter, argument)?);
                break;
            }
        }
        let element = element?;
        if result == types::ANYARRAY { self.array_of(element) } else { Some(element) }
    }

    /// The type that UNION, CASE, COALESCE, ARRAY and VALUES give operands of these types. `None` if the server fails
    /// or if it isn't certain. Only untyped literals make `text`.
    pub fn common_type(&self, operands: &[Oid]) -> Option<Oid> {
        let first = *operands.first()?;
        if first != types::UNKNOWN && operands.iter().all(|oid| *oid == first) {
            return Some(first);
        }
        let mut chosen = self.base_type(first);
        for oid in operands.iter().skip(1) {
            let next = self.base_type(*oid);
            if next == types::UNKNOWN || next == chosen {
                continue;
            }
            if chosen == types::UNKNOWN {
                chosen = next;
                continue;
            }
            let (old, new) = (self.types.get(&chosen)?, self.types.get(&next)?);
            if old.category != new.category {
                return None;
            }
            if !old.preferred
                && self.coercible(chosen, next) == Certainty::Yes
                && self.coercible(next, chosen) == Certainty::No
            {
                chosen = next;
            }
        }
        if chosen == types::UNKNOWN {
            return Some(types::TEXT);
        }
        operands.iter().all(|oid| self.coercible(*oid, chosen) == Certainty::Yes).then_some(chosen)
    }

    /// The type under a domain, or the type itself.
    pub fn base_type(&self, oid: Oid) -> Oid {
        let mut oid = oid;
        // Domains over domains are few deep; the bound is for a snapshot that is nonsense.
        for _ in 0..32 {
            match self.types.get(&oid) {
                Some(found) if found.base != 0 => oid = found.base,
                _ => break,
            }
        }
        oid
    }

    /// The element type of an array (or of a domain over one).
    pub fn element_type(&self, oid: Oid) -> Option<Oid> {
        let found = self.types.get(&self.base_type(oid))?;
        (found.category == 'A' && found.element != 0).then_some(found.element)
    }

    /// The array type over a type.
    pub fn array_of(&self, element: Oid) -> Option<Oid> {
        self.types.get(&element).map(|found| found.array).filter(|oid| *oid != 0)
    }

    /// How the server converts `source` to `target`, if it does so in this context (`find_coercion_pathway`).
    pub fn cast_path(&self, source: Oid, target: Oid, context: CastContext) -> Option<CastPath> {
        self.cast_path_within(source, target, context, 0)
    }

    fn cast_path_within(&self, source: Oid, target: Oid, context: CastContext, depth: u8) -> Option<CastPath> {
        let (source, target) = (self.base_type(source), self.base_type(target));
        if source == target {
            return Some(CastPath::Relabel);
        }
        if let Some(cast) = self.casts.get(&(source, target)) {
            let needs = match cast.context {
                'i' => CastContext::Implicit,
                'a' => CastContext::Assignment,
                _ => CastContext::Explicit,
            };
            return (context >= needs).then_some(match cast.method {
                'b' => CastPath::Relabel,
                'i' => CastPath::Text,
                _ => CastPath::Function(cast.function),
            });
        }
        if !matches!(target, types::OIDVECTOR | types::INT2VECTOR)
            && depth == 0
            && let (Some(from), Some(to)) = (self.element_type(source), self.element_type(target))
            && self.cast_path_within(from, to, context, 1).is_some()
        {
            return Some(CastPath::Array);
        }
        let category = |oid| self.types.get(&oid).map(|found: &Type| found.category);
        let by_text = (context >= CastContext::Assignment && category(target) == Some('S'))
            || (context >= CastContext::Explicit && category(source) == Some('S'));
        by_text.then_some(CastPath::Text)
    }

    /// Whether a type is that of rows, a domain over one, or `record`.
    pub fn is_composite(&self, oid: Oid) -> bool {
        let base = self.base_type(oid);
        base == types::RECORD || self.types.get(&base).is_some_and(|found| found.kind == 'c')
    }

    /// Whether an argument of type `source` is taken by a parameter of type `target`, unasked (`can_coerce_type`).
    fn coercible(&self, source: Oid, target: Oid) -> Certainty {
        if source == target || target == types::ANY || source == types::UNKNOWN {
            return Certainty::Yes;
        }
        if is_polymorphic(target) {
            return self.polymorphic_takes(source, target);
        }
        if self.cast_path(source, target, CastContext::Implicit).is_some() {
            return Certainty::Yes;
        }
        let (Some(from), Some(to)) = (self.types.get(&source), self.types.get(&target)) else {
            return Certainty::Maybe;
        };
        if (source == types::RECORD && to.kind == 'c') || (target == types::RECORD && self.is_composite(source)) {
            return Certainty::Yes;
        }
        if source == types::RECORD_ARRAY || target == types::RECORD_ARRAY {
            return Certainty::Maybe;
        }
        // A row of a child is taken for a row of its parent, of a typed table for its type.
        if from.kind == 'c' && to.kind == 'c' { Certainty::Maybe } else { Certainty::No }
    }

    fn polymorphic_takes(&self, source: Oid, target: Oid) -> Certainty {
        let Some(from) = self.types.get(&self.base_type(source)) else { return Certainty::Maybe };
        let yes = match target {
            types::ANYARRAY | types::ANYCOMPATIBLEARRAY => from.category == 'A',
            types::ANYNONARRAY | types::ANYCOMPATIBLENONARRAY => from.category != 'A',
            types::ANYENUM => from.kind == 'e',
            types::ANYRANGE | types::ANYCOMPATIBLERANGE => from.kind == 'r',
            types::ANYMULTIRANGE | types::ANYCOMPATIBLEMULTIRANGE => from.kind == 'm',
            _ => true,
        };
        // anyarray takes the odd `anyarray` columns of pg_statistic, too: those never reach a call here.
        if yes { Certainty::Yes } else { Certainty::No }
    }

    /// Whether a call's arguments fit a candidate, all of them together.
    fn fits(&self, arguments: &[Option<Oid>], parameters: &[Oid]) -> Certainty {
        let mut all = Certainty::Yes;
        for (argument, parameter) in arguments.iter().zip(parameters) {
            let one = match argument {
                Some(oid) => self.coercible(*oid, *parameter),
                None => Certainty::Maybe,
            };
            match one {
                Certainty::Yes => {}
                Certainty::No => return Certainty::No,
                Certainty::Maybe => all = Certainty::Maybe,
            }
        }
        match self.polymorphic_fit(arguments, parameters) {
            Certainty::Yes => all,
            other => other,
        }
    }

    /// Whether the polymorphic parameters of a candidate can all be met at once (`check_generic_type_consistency`).
    fn polymorphic_fit(&self, arguments: &[Option<Oid>], parameters: &[Oid]) -> Certainty {
        let (mut plain, mut compatible, mut maybe) = (Vec::new(), Vec::new(), false);
        for (argument, parameter) in arguments.iter().zip(parameters) {
            if !is_polymorphic(*parameter) {
                continue;
            }
            match argument {
                Some(types::UNKNOWN) => {}
                Some(oid) => match self.element_for(*parameter, *oid) {
                    Some(element) if is_compatible_family(*parameter) => compatible.push(element),
                    Some(element) => plain.push(element),
                    None => maybe = true,
                },
                None => maybe = true,
            }
        }
        if let Some(first) = plain.first()
            && plain.iter().any(|oid| oid != first)
        {
            // A domain and its base type differ here in ways that depend on where the array stands.
            let base = self.base_type(*first);
            return if plain.iter().all(|oid| self.base_type(*oid) == base) { Certainty::Maybe } else { Certainty::No };
        }
        if !compatible.is_empty() && self.common_type(&compatible).is_none() {
            return if compatible.iter().all(|oid| self.types.contains_key(oid)) {
                Certainty::No
            } else {
                Certainty::Maybe
            };
        }
        if maybe { Certainty::Maybe } else { Certainty::Yes }
    }

    /// The type that stands for the element in a polymorphic parameter.
    fn element_for(&self, parameter: Oid, argument: Oid) -> Option<Oid> {
        if argument == types::UNKNOWN {
            return Some(types::UNKNOWN);
        }
        match parameter {
            types::ANYARRAY | types::ANYCOMPATIBLEARRAY => self.element_type(argument),
            types::ANYRANGE | types::ANYMULTIRANGE | types::ANYCOMPATIBLERANGE | types::ANYCOMPATIBLEMULTIRANGE => {
                self.types.get(&self.base_type(argument)).map(|found| found.range_of).filter(|oid| *oid != 0)
            }
            _ => Some(argument),
        }
    }

    fn call_candidates(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
        given: usize,
        form: CallForm,
    ) -> Vec<Candidate<'_, Function>> {
        let path = match schema {
            Some(schema) => vec![schema],
            None => effective_path(search_path, false),
        };
        let Some(named) = self.functions.get(name) else { return Vec::new() };
        let mut candidates = Vec::new();
        for function in named {
            let Some(position) = path.iter().position(|schema| **schema == *function.schema) else { continue };
            let declared = function.arguments.len();
            let expands = form != CallForm::Variadic && function.variadic != 0 && declared > 0 && given >= declared;
            let defaulted = declared > given && given.saturating_add(usize::from(function.defaults)) >= declared;
            if declared != given && !expands && !defaulted {
                continue;
            }
            if form == CallForm::Variadic && function.variadic == 0 {
                continue;
            }
            let mut arguments: Vec<Oid> = function.arguments.iter().copied().take(given).collect();
            if expands {
                arguments.truncate(declared.saturating_sub(1));
                arguments.resize(given, function.variadic);
            }
            candidates.push(Candidate { item: function, arguments, variadic: expands, position });
        }
        candidates
    }

    /// Candidates that arguments whose types are partly not known may still mean.
    fn not_excluded<'a, T>(&self, candidates: Vec<Candidate<'a, T>>, arguments: &[Option<Oid>]) -> Vec<&'a T> {
        candidates
            .into_iter()
            .filter(|candidate| self.fits(arguments, &candidate.arguments) != Certainty::No)
            .map(|candidate| candidate.item)
            .collect()
    }

    /// `func_match_argtypes`, then `func_select_candidate`.
    fn select<'a, T>(&self, candidates: Vec<Candidate<'a, T>>, arguments: &[Oid]) -> Choice<'a, T> {
        let operands: Vec<Option<Oid>> = arguments.iter().copied().map(Some).collect();
        let mut certain = true;
        let mut left = Vec::new();
        for candidate in candidates {
            match self.fits(&operands, &candidate.arguments) {
                Certainty::Yes => left.push(candidate),
                Certainty::Maybe => {
                    certain = false;
                    left.push(candidate);
                }
                Certainty::No => {}
            }
        }
        if certain && left.len() > 1 {
            left = self.best(left, arguments);
        }
        Choice::of(left.into_iter().map(|candidate| candidate.item).collect())
    }

    /// The heuristics of `func_select_candidate`, in its order; more than one left means that the server fails.
    fn best<'a, T>(&self, candidates: Vec<Candidate<'a, T>>, arguments: &[Oid]) -> Vec<Candidate<'a, T>> {
        let inputs: Vec<Oid> = arguments.iter().map(|oid| self.base_type(*oid)).collect();
        let category = |oid: Oid| self.types.get(&oid).map_or('X', |found| found.category);
        let preferred = |oid: Oid| self.types.get(&oid).is_some_and(|found| found.preferred);
        let known = |candidate: &Candidate<'a, T>, good: &dyn Fn(Oid, Oid) -> bool| {
            let pairs = inputs.iter().zip(&candidate.arguments);
            pairs.filter(|(input, parameter)| **input != types::UNKNOWN && good(**input, **parameter)).count()
        };

        let left = keep_most(candidates, |candidate| known(candidate, &|input, parameter| input == parameter));
        if left.len() == 1 {
            return left;
        }
        let left = keep_most(left, |candidate| {
            known(candidate, &|input, parameter| {
                input == parameter || (preferred(parameter) && category(parameter) == category(input))
            })
        });
        if left.len() == 1 || !inputs.contains(&types::UNKNOWN) {
            return left;
        }

        // What category do the untyped literals most likely have? A string if anything takes one.
        let mut wanted = Vec::with_capacity(inputs.len());
        let mut resolved = true;
        for (index, input) in inputs.iter().enumerate() {
            if *input != types::UNKNOWN {
                wanted.push(None);
                continue;
            }
            let of: Vec<Oid> = left.iter().filter_map(|candidate| candidate.arguments.get(index).copied()).collect();
            let chosen = if of.iter().any(|oid| category(*oid) == 'S') {
                Some('S')
            } else {
                let first = of.first().map(|oid| category(*oid));
                first.filter(|first| of.iter().all(|oid| category(*oid) == *first))
            };
            match chosen {
                Some(chosen) => {
                    let has_preferred = of.iter().any(|oid| category(*oid) == chosen && preferred(*oid));
                    wanted.push(Some((chosen, has_preferred)));
                }
                None => {
                    resolved = false;
                    break;
                }
            }
        }
        let mut left = left;
        if resolved {
            let keeps = |candidate: &Candidate<'a, T>| {
                candidate.arguments.iter().zip(&wanted).all(|(parameter, wanted)| match wanted {
                    None => true,
                    Some((chosen, has_preferred)) => {
                        category(*parameter) == *chosen && (!has_preferred || preferred(*parameter))
                    }
                })
            };
            if left.iter().any(keeps) {
                left.retain(|candidate| keeps(candidate));
            }
            if left.len() == 1 {
                return left;
            }
        }

        // All typed arguments alike: the literals are taken to be of that type, too.
        let mut typed = inputs.iter().copied().filter(|oid| *oid != types::UNKNOWN);
        if let Some(first) = typed.next()
            && typed.all(|oid| oid == first)
        {
            let same = vec![Some(first); inputs.len()];
            let fitting: Vec<usize> = left
                .iter()
                .enumerate()
                .filter(|(_, candidate)| self.fits(&same, &candidate.arguments) != Certainty::No)
                .map(|(index, _)| index)
                .collect();
            if let [only] = fitting.as_slice()
                && let Some(found) = left.get(*only)
            {
                return vec![found.clone_ref()];
            }
        }
        left
    }

    /// Relations that this one inherits from or is a partition of, at any distance.
    pub fn ancestors(&self, oid: Oid) -> Vec<Oid> {
        self.closure(oid, |relation| &relation.parents)
    }

    /// Relations that inherit from this one or are its partitions, at any distance.
    pub fn descendants(&self, oid: Oid) -> Vec<Oid> {
        self.closure(oid, |relation| &relation.children)
    }

    fn closure(&self, start: Oid, next: impl Fn(&Relation) -> &[Oid]) -> Vec<Oid> {
        let mut seen = HashSet::from([start]);
        let mut found = Vec::new();
        let mut open = vec![start];
        while let Some(oid) = open.pop() {
            let Some(relation) = self.relations.get(&oid) else { continue };
            for oid in next(relation) {
                if seen.insert(*oid) {
                    found.push(*oid);
                    open.push(*oid);
                }
            }
        }
        found
    }

    /// Foreign keys that reference this relation, each with the relation it is on.
    pub fn foreign_keys_to(&self, oid: Oid) -> impl Iterator<Item = (&Arc<Relation>, &ForeignKey)> {
        self.referenced_by
            .get(&oid)
            .into_iter()
            .flatten()
            .filter_map(|from| self.relations.get(from))
            .flat_map(move |from| from.foreign_keys.iter().map(move |key| (from, key)))
            .filter(move |(_, key)| key.references == oid)
    }

    /// Views and materialized views that read this relation, directly or through other views.
    pub fn views_over(&self, oid: Oid) -> Vec<Oid> {
        let mut seen = HashSet::from([oid]);
        let mut found = Vec::new();
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            for view in self.used_by_views.get(&oid).into_iter().flatten() {
                if seen.insert(*view) {
                    found.push(*view);
                    open.push(*view);
                }
            }
        }
        found
    }
}

impl<'a, T> Candidate<'a, T> {
    fn clone_ref(&self) -> Self {
        Self { item: self.item, arguments: self.arguments.clone(), variadic: self.variadic, position: self.position }
    }
}

/// Leaves out what an identical signature in an earlier schema hides; within one schema a plain function hides a
/// variadic one.
fn unshadowed<T>(candidates: Vec<Candidate<'_, T>>) -> Vec<Candidate<'_, T>> {
    // As nearly always, of one schema.
    let first = candidates.first().map(|first| first.position);
    if candidates.iter().all(|candidate| Some(candidate.position) == first && !candidate.variadic) {
        return candidates;
    }
    let hidden = |candidate: &Candidate<'_, T>| {
        candidates.iter().any(|other| {
            other.arguments == candidate.arguments
                && (other.position < candidate.position
                    || (other.position == candidate.position && candidate.variadic && !other.variadic))
        })
    };
    candidates.iter().filter(|candidate| !hidden(candidate)).map(Candidate::clone_ref).collect()
}

fn keep_most<T>(items: Vec<T>, score: impl Fn(&T) -> usize) -> Vec<T> {
    let most = items.iter().map(&score).max().unwrap_or(0);
    items.into_iter().filter(|item| score(item) == most).collect()
}

/// Whether a parameter or result of this type takes its type from the call.
pub fn is_polymorphic(oid: Oid) -> bool {
    is_compatible_family(oid)
        || matches!(
            oid,
            types::ANYARRAY
                | types::ANYELEMENT
                | types::ANYNONARRAY
                | types::ANYENUM
                | types::ANYRANGE
                | types::ANYMULTIRANGE
        )
}

fn is_compatible_family(oid: Oid) -> bool {
    matches!(
        oid,
        types::ANYCOMPATIBLE
            | types::ANYCOMPATIBLEARRAY
            | types::ANYCOMPATIBLENONARRAY
            | types::ANYCOMPATIBLERANGE
            | types::ANYCOMPATIBLEMULTIRANGE
    )
}

/// Key columns of the unique indexes that hold over every row that the relation's name reads: valid, immediate, without
/// predicate or expressions. None for a table that others inherit from: its index doesn't cover the children's rows.
pub fn unique_key_columns(relation: &Relation) -> impl Iterator<Item = &[i16]> {
    let covers_all = relation.children.is_empty() || relation.kind == RelationKind::PartitionedTable;
    relation
        .indexes
        .iter()
        .filter(move |index| covers_all && index.unique && index.valid && index.predicate.is_none())
        .map(|index| index.columns.as_slice())
        .filter(|columns| !columns.is_empty() && !columns.contains(&0))
}

/// Whether equality on these columns pins at most one row.
pub fn at_most_one(relation: &Relation, pinned: &HashSet<i16>) -> bool {
    unique_key_columns(relation).any(|key| key.iter().all(|column| pinned.contains(column)))
}

impl Relation {
    /// `schema.name`, quoted where SQL needs it.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// The primary key's columns.
    pub fn primary_key(&self) -> Option<&[i16]> {
        self.indexes.iter().find(|index| index.primary && index.valid).map(|index| index.columns.as_slice())
    }

    /// Columns that a row version stores a client's value for: neither generated nor dropped.
    pub fn stored_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.generated.is_none())
    }
}

/// A name as SQL text, quoted whatever it is.
pub fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as an SQL literal; `standard_conforming_strings` is on.
pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An identifier as SQL text, quoted unless it is plain lower case, digits and underscores, and no word that the grammar
/// keeps for itself anywhere.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !is_keyword(name) { name.to_owned() } else { quote_name(name) }
}

fn is_keyword(name: &str) -> bool {
    // Asking the scanner costs microseconds and never goes stale.
    match pg_query::scan(name) {
        Ok(scanned) => scanned
            .tokens
            .iter()
            .any(|token| token.keyword_kind > pg_query::protobuf::KeywordKind::UnreservedKeyword as i32),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::catalog::code::Lookup;
    use crate::catalog::load::FIRST_USER_OID;

    fn relation(oid: Oid, schema: &str, name: &str) -> Relation {
        Relation::bare(oid, schema, name, RelationKind::Table, Vec::new())
    }

    fn function(oid: Oid, schema: &str, name: &str, arguments: &[Oid]) -> Function {
        Function {
            oid,
            schema: schema.into(),
            name: name.into(),
            arguments: arguments.into(),
            defaults: 0,
            variadic: 0,
            result: types::TEXT,
            set_returning: false,
            kind: 'f',
            volatility: 'i',
            leakproof: false,
            security_definer: false,
            language: "sql".into(),
            body: None,
            lookup: Lookup::Session,
            stored: false,
            extension: None,
            out_columns: Box::default(),
        }
    }

    fn path(schemas: &[&str]) -> Vec<String> {
        schemas.iter().map(|schema| (*schema).to_owned()).collect()
    }

    #[test]
    fn a_relation_is_the_first_on_the_path_with_temporary_ones_and_the_system_before_it() {
        let mut catalog = Catalog::default();
        for (oid, schema) in [(1, "a"), (2, "b"), (3, PG_CATALOG)] {
            catalog.add_relation(relation(oid, schema, "t"));
        }
        catalog.add_relation(relation(4, "b", "only"));
        let temporary = [Arc::new(relation(9, PG_TEMP, "t"))];
        for (schemas, overlay, schema, name, wanted) in [
            (&["a", "b"] as &[&str], &[] as &[Arc<Relation>], None, "t", Some(3)),
            (&["a", "b", PG_CATALOG], &[], None, "t", Some(1)),
            (&["b", "a", PG_CATALOG], &[], None, "t", Some(2)),
            (&["b", PG_CATALOG], &temporary, None, "t", Some(9)),
            (&["b", PG_CATALOG, PG_TEMP], &temporary, None, "t", Some(2)),
            (&["missing", "b", PG_CATALOG], &[], None, "t", Some(2)),
            (&[], &[], Some("a"), "t", Some(1)),
            (&["a"], &temporary, Some(PG_TEMP), "t", Some(9)),
            (&["a"], &[], Some(PG_TEMP), "t", None),
            (&["a"], &[], None, "only", None),
            (&["a", "b"], &[], None, "T", None),
            (&["a", "b"], &[], None, "only", Some(4)),
        ] {
            let found = catalog.resolve_relation(&path(schemas), overlay, schema, name).found();
            assert_eq!(found.map(|found| found.oid), wanted, "{schema:?}.{name} on {schemas:?}");
        }
    }

    #[test]
    fn the_overlay_hides_what_it_replaces_and_what_it_renamed() {
        let mut catalog = Catalog::default();
        catalog.add_relation(relation(1, "a", "old"));
        catalog.add_relation(relation(2, "b", "old"));
        catalog.add_relation(relation(3, "a", "same"));
        let overlay = [Arc::new(relation(1, "a", "new")), Arc::new(relation(30, "a", "same"))];
        let resolve = |name| catalog.resolve_relation(&path(&["a", "b"]), &overlay, None, name).found();
        assert_eq!(resolve("old").unwrap().oid, 2);
        assert_eq!(resolve("new").unwrap().oid, 1);
        assert_eq!(resolve("same").unwrap().oid, 30);
    }

    #[test]
    fn only_the_system_hides_a_function_for_sure() {
        let mut catalog = Catalog::default();
        for (oid, schema) in [(1, PG_CATALOG), (2, "a"), (3, "b")] {
            catalog.add_function(function(oid, schema, "f", &[types::TEXT]));
        }
        let oids = |schemas: &[&str]| {
            let found = catalog.function_candidates(&path(schemas), None, "f", 1);
            found.into_iter().map(|found| found.oid).collect::<Vec<_>>()
        };
        assert_eq!(oids(&["a", "b"]), [1]);
        assert_eq!(oids(&["a", "b", PG_CATALOG]), [1, 2, 3], "a schema on the path may be one that the role can't use");
        assert_eq!(oids(&[PG_TEMP, "a"]), [1], "temporary functions need their schema's name");
        let chosen = catalog.resolve_function(&path(&["a", PG_CATALOG]), None, "f", &[Some(types::TEXT)]);
        assert_eq!(chosen.one().unwrap().oid, 2);
    }

    #[test]
    fn defaults_variadic_and_named_calls_match_by_number() {
        let mut catalog = Catalog::default();
        catalog.add_function(Function { defaults: 1, ..function(1, "a", "f", &[types::INT4, types::INT4]) });
        catalog.add_function(Function { variadic: types::TEXT, ..function(2, "a", "f", &[types::INT4, 1009]) });
        let oids = |given, form| {
            let mut found: Vec<Oid> = catalog
                .resolve_call(&path(&["a"]), None, "f", &vec![None; given], form)
                .all()
                .iter()
                .map(|found| found.oid)
                .collect();
            found.sort_unstable();
            found
        };
        assert_eq!(oids(0, CallForm::Positional), [0; 0]);
        assert_eq!(oids(1, CallForm::Positional), [1]);
        assert_eq!(oids(2, CallForm::Positional), [1, 2]);
        assert_eq!(oids(5, CallForm::Positional), [2]);
        assert_eq!(oids(2, CallForm::Variadic), [2]);
        assert_eq!(oids(1, CallForm::Named), [1]);
    }

    #[test]
    fn a_type_that_the_overlay_makes_is_not_taken_for_another() {
        let mut catalog = Catalog::default();
        catalog.add_type(Type {
            oid: FIRST_USER_OID,
            schema: "a".into(),
            name: "word".into(),
            kind: 'e',
            category: 'E',
            element: 0,
            array: 0,
            base: 0,
            relation: 0,
            collation: 0,
            preferred: false,
            range_of: 0,
            base_modifier: -1,
            labels: Vec::new(),
            not_null: false,
            has_checks: false,
            default: None,
        });
        let overlay = [Arc::new(relation(9, PG_TEMP, "word"))];
        assert!(catalog.resolve_type(&path(&["a"]), &[], None, "word").is_some());
        assert!(catalog.resolve_type(&path(&["a"]), &overlay, None, "word").is_none());
        assert!(catalog.resolve_type(&path(&["a"]), &overlay, Some("a"), "word").is_some());
    }

    #[test]
    fn identifiers_are_quoted_where_the_server_would() {
        for (name, wanted) in [
            ("orders", "orders"),
            ("name", "name"),
            ("user", "\"user\""),
            ("select", "\"select\""),
            ("Upper", "\"Upper\""),
            ("a\"b", "\"a\"\"b\""),
            ("", "\"\""),
            ("1a", "\"1a\""),
            ("é", "\"é\""),
        ] {
            assert_eq!(quote_identifier(name), wanted);
        }
    }
}
