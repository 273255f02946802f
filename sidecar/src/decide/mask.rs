//! Masks as SQL: for a kind of mask and a column, an expression over the row that has the column's exact type.
//!
//! **Promise.** The expression depends on the row and on constants only: not on TimeZone, DateStyle, locale,
//! search_path or anything else that a client can set (a `hash` also on its key, which is a startup setting of the
//! proxy's own). It raises for no value that the column can store. NULL stays NULL, unless the mask is a constant.
//! **Also.** Every function, operator, type and collation in it is qualified.
//!
//! Where a shorter expression would do, a comment says what it would get wrong. Alternatives were measured on a
//! million rows; regular expressions are slow, one plain `~` excepted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use pg_query::protobuf::{CollateClause, Node, SelectStmt, TypeCast, TypeName, node::Node as Kind};
use postern_crds::{CheckedPolicy, MaskKind};
use sha2::{Digest, Sha256};

use super::bound::ROW;
use super::expression::string;
use crate::catalog::names::{quote_identifier, quote_text};
use crate::catalog::{Catalog, Column, Name, Oid};
use crate::sql::ParseLimits;

/// A mask expression for one column.
#[derive(Debug)]
pub struct MaskExpression {
    /// Over [`ROW`], fully qualified, of the column's exact type.
    pub expression: Arc<Node>,
    /// Whether it doesn't depend on the row.
    pub constant: bool,
}

/// The expressions that masks were bound to, so that columns of the same name and type share one: a tree takes 100 KB,
/// and `*.*.email` has one for each of 10,000 tables.
#[derive(Debug, Default)]
pub struct Expressions(HashMap<(String, Name, Oid), Arc<Node>>);

/// What a mask must know of a column's type, domains looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// text, varchar and citext; the most characters it holds.
    Text(Option<u32>),
    /// char(n).
    Char(Option<u32>),
    Name,
    Bytea,
    /// Integers, by width in bits.
    Int(u32),
    /// numeric; precision and scale.
    Numeric(Option<(u32, i32)>),
    Float4,
    Float8,
    Bool,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    TimeTz,
    Interval,
    Uuid,
    Json,
    Inet,
    Cidr,
    Macaddr,
    Macaddr8,
    Bit(u32),
    VarBit,
    Range,
    Array,
    Enum(Oid),
    Other,
}

/// The mask of this kind on this column, or why it can't be: the message of a bind problem. `of` is the column's name
/// for messages, `key` the index of a `hash` mask's key, see [`hash_keys`].
pub fn bind(
    kind: &MaskKind,
    catalog: &Catalog,
    column: &Column,
    of: &str,
    key: Option<usize>,
    known: &mut Expressions,
) -> Result<MaskExpression, String> {
    let target = Target::of(catalog, column, of)?;
    let word = kind.as_str();
    if target.not_null && *kind == MaskKind::Nullify {
        return Err(format!("'{word}' can't give {} NULL: its domain is NOT NULL", target.what()));
    }
    if target.has_checks && *kind != MaskKind::Nullify {
        return Err(format!("'{word}' can't be proven to satisfy the CHECK of the domain of {}", target.what()));
    }
    let (sql, constant) = match kind {
        MaskKind::Nullify => ("NULL".to_owned(), true),
        MaskKind::Default => (target.zero()?, true),
        MaskKind::Fixed { value } => (target.fixed(value)?, true),
        MaskKind::Redact => (target.redact()?, false),
        MaskKind::Hash { .. } => {
            let key = key.ok_or_else(|| format!("'{word}' has no key for {}", target.what()))?;
            (target.hash(key)?, false)
        }
        MaskKind::TruncateDate { to } => (target.truncate_date(to)?, false),
        MaskKind::Bucket { size } => (target.bucket(size)?, false),
        MaskKind::Partial { keep_first, keep_last, with } => (target.partial(*keep_first, *keep_last, *with)?, false),
        MaskKind::Email => (target.email()?, false),
    };
    // Type and collation of the column are all that stands around that text.
    let expression = match known.0.entry((sql, column.type_sql.clone(), column.collation)) {
        Entry::Occupied(known) => Arc::clone(known.get()),
        Entry::Vacant(free) => {
            let arg =
                parse_expression(&free.key().0).map_err(|error| format!("'{word}' on {}: {error}", target.what()))?;
            Arc::clone(free.insert(Arc::new(target.of_its_type(arg)?)))
        }
    };
    Ok(MaskExpression { expression, constant })
}

/// NULL of the column's exact type.
pub fn null_of(column: &Column) -> Result<Node, String> {
    let arg = parse_expression("NULL")?;
    let cast = TypeCast { arg: Some(Box::new(arg)), type_name: Some(type_name(&column.type_sql)?), location: -1 };
    Ok(Node { node: Some(Kind::TypeCast(Box::new(cast))) })
}

/// A key of `hash` masks, which reaches the server as two startup settings and never in SQL text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashKey {
    /// The secret and the key in it.
    pub secret: (String, String),
    /// Its place in [`hash_keys`], which names its settings.
    pub index: usize,
}

impl HashKey {
    /// The startup settings that carry the key: (name, value). HMAC's two padded blocks, made here so that the mask is
    /// two calls of `sha256`.
    pub fn settings(&self, key: &[u8]) -> [(String, String); 2] {
        const BLOCK: usize = 64;
        let mut block = if key.len() > BLOCK { Sha256::digest(key).to_vec() } else { key.to_vec() };
        block.resize(BLOCK, 0);
        let padded = |pad: u8| block.iter().map(|byte| format!("{:02x}", byte ^ pad)).collect::<String>();
        let [inner, outer] = key_settings(self.index);
        [(inner, padded(0x36)), (outer, padded(0x5c))]
    }
}

/// The names of the settings that carry the inner and the outer block of a key.
fn key_settings(index: usize) -> [String; 2] {
    [format!("postern.hash_key_{index}_inner"), format!("postern.hash_key_{index}_outer")]
}

/// The keys of the policy's `hash` masks, each secret once, in the policy's order. A session must have the
/// [`HashKey::settings`] of all of them from its startup on, and its client may neither read nor set one.
pub fn hash_keys(policy: &CheckedPolicy) -> Vec<HashKey> {
    let mut keys: Vec<HashKey> = Vec::new();
    for mask in &policy.masks {
        if let MaskKind::Hash { key_secret } = &mask.kind
            && !keys.iter().any(|key| key.secret == *key_secret)
        {
            keys.push(HashKey { secret: key_secret.clone(), index: keys.len() });
        }
    }
    keys
}

/// The column that a mask replaces.
struct Target<'a> {
    catalog: &'a Catalog,
    column: &'a Column,
    /// Its name, for messages.
    of: &'a str,
    /// Its exact type.
    type_name: TypeName,
    family: Family,
    not_null: bool,
    has_checks: bool,
}

impl<'a> Target<'a> {
    fn of(catalog: &'a Catalog, column: &'a Column, of: &'a str) -> Result<Self, String> {
        let kind = catalog.types.get(&column.type_oid).ok_or_else(|| format!("the type of {of} is not known"))?;
        Ok(Self {
            catalog,
            column,
            of,
            type_name: type_name(&column.type_sql)?,
            family: family(catalog, column),
            not_null: kind.kind == 'd' && kind.not_null,
            has_checks: kind.kind == 'd' && kind.has_checks,
        })
    }

    /// A value, cast to the column's exact type.
    fn of_its_type(self, arg: Node) -> Result<Node, String> {
        let collation = self.collation()?;
        let cast = TypeCast { arg: Some(Box::new(arg)), type_name: Some(self.type_name), location: -1 };
        let expression = Node { node: Some(Kind::TypeCast(Box::new(cast))) };
        // A constant, or a function of none but constants, has the default collation.
        let Some((schema, name, _)) = collation else { return Ok(expression) };
        let collname = vec![string(&schema), string(&name)];
        let collate = CollateClause { arg: Some(Box::new(expression)), collname, location: -1 };
        Ok(Node { node: Some(Kind::CollateClause(Box::new(collate))) })
    }

    /// `public.t.n, a numeric column`
    fn what(&self) -> String {
        let kind = &self.column.type_sql;
        let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{}, {article} {kind} column", self.of)
    }

    /// The raw value.
    fn raw(&self) -> String {
        format!("{}.{}", quote_identifier(ROW), quote_identifier(&self.column.name))
    }

    /// The raw value as text; of char(n) without its padding. A cast that changes nothing is left out: the server would
    /// look up its type for each of them, in every statement.
    fn text(&self) -> String {
        const TEXT: Oid = 25;
        match self.column.type_oid {
            TEXT => self.raw(),
            _ => format!("{}::pg_catalog.text", self.raw()),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.family, Family::Text(_) | Family::Char(_) | Family::Name)
    }

    fn redact(&self) -> Result<String, String> {
        if !self.is_text() {
            return Err(format!("'redact' can't replace the characters of {}", self.what()));
        }
        Ok(format!("pg_catalog.repeat('*', pg_catalog.length({}))", self.text()))
    }

    fn partial(&self, first: u32, last: u32, with: char) -> Result<String, String> {
        let keep = first.saturating_add(last);
        if !self.is_text() {
            return Err(format!("'partial' can't keep {keep} of {}", self.what()));
        }
        // Beyond int4 there are no such functions, and nobody means it.
        if keep > 1_000_000 {
            return Err(format!("'partial' can't keep as much as {keep} of {}", self.what()));
        }
        let (x, with_sql) = (self.text(), quote_text(&with.to_string()));
        let length = format!("pg_catalog.length({x})");
        // A character of more than one byte could make the mask of a value near 1 GiB too long, which raises.
        let times = |count: String| match with.is_ascii() {
            true => format!("pg_catalog.repeat({with_sql}, {count})"),
            false => format!("pg_catalog.repeat({with_sql}, LEAST({count}, 100000000))"),
        };
        let mut parts = Vec::new();
        if first > 0 {
            parts.push(format!("pg_catalog.\"left\"({x}, {first})"));
        }
        parts.push(times(format!("{length} OPERATOR(pg_catalog.-) {keep}")));
        if last > 0 {
            parts.push(format!("pg_catalog.\"right\"({x}, {last})"));
        }
        Ok(format!(
            "CASE WHEN {length} OPERATOR(pg_catalog.<=) {keep} THEN {} ELSE {} END",
            times(length.clone()),
            parts.join(" OPERATOR(pg_catalog.||) ")
        ))
    }

    fn email(&self) -> Result<String, String> {
        if !self.is_text() {
            return Err(format!("'email' can't keep the domain of {}", self.what()));
        }
        // Functions that search raise under a nondeterministic collation; that of the column is given back at the end.
        let x = match self.collation()? {
            Some((_, _, false)) => format!("({} COLLATE pg_catalog.\"C\")", self.text()),
            _ => self.text(),
        };
        // Not longer than an address can be; one @, not at the start; a domain of letters, digits, dots and hyphens
        // that ends in a letter. A value with anything else in it may be a note or a number, and is redacted wholly.
        Ok(format!(
            "CASE WHEN pg_catalog.octet_length({x}) OPERATOR(pg_catalog.<=) 320 \
             AND {x} OPERATOR(pg_catalog.~) '^[^@]+@[A-Za-z0-9.-]*[A-Za-z]$' \
             THEN pg_catalog.\"left\"({x}, 1) OPERATOR(pg_catalog.||) '***@' OPERATOR(pg_catalog.||) \
             pg_catalog.split_part({x}, '@', 2) \
             ELSE pg_catalog.repeat('*', pg_catalog.length({x})) END"
        ))
    }

    fn hash(&self, key: usize) -> Result<String, String> {
        const DIGITS: u32 = 64;
        let fits = match self.family {
            Family::Text(limit) | Family::Char(limit) => limit.is_none_or(|limit| limit >= DIGITS),
            Family::Bytea => true,
            _ => false,
        };
        if !fits {
            return Err(match self.is_text() {
                true => format!("'hash' needs room for {DIGITS} characters in {}", self.what()),
                false => format!("'hash' can't stand for {}", self.what()),
            });
        }
        let [inner, outer] = key_settings(key);
        let block = |name: &str| format!("pg_catalog.decode(pg_catalog.current_setting('{name}'), 'hex')");
        let value = match self.family {
            Family::Bytea => format!("{}::pg_catalog.bytea", self.raw()),
            // The database's own encoding, so that nothing is converted: that could raise.
            _ => format!("pg_catalog.convert_to({}, pg_catalog.getdatabaseencoding())", self.text()),
        };
        let digest = format!(
            "pg_catalog.sha256({} OPERATOR(pg_catalog.||) pg_catalog.sha256({} OPERATOR(pg_catalog.||) {value}))",
            block(&outer),
            block(&inner)
        );
        Ok(if self.family == Family::Bytea { digest } else { format!("pg_catalog.encode({digest}, 'hex')") })
    }

    fn truncate_date(&self, to: &str) -> Result<String, String> {
        if !["year", "quarter", "month", "week", "day", "hour"].contains(&to) {
            return Err(format!("'truncateDate' doesn't know the unit {to}"));
        }
        let x = self.raw();
        let truncated = |timestamp: &str| format!("pg_catalog.date_trunc('{to}', {timestamp})");
        // Through timestamp without time zone always: for a date or timestamptz date_trunc asks the session's TimeZone.
        let utc = "'00:00:00'::pg_catalog.interval";
        let (kind, zone, inside) = match self.family {
            Family::Date if matches!(to, "day" | "hour") => {
                return Err(format!("'truncateDate' to {to} hides nothing of {}", self.what()));
            }
            Family::Date => {
                let raw = format!("{x}::pg_catalog.timestamp");
                ("date", "", format!("{}::pg_catalog.date", truncated(&raw)))
            }
            Family::Timestamp => ("timestamp", "", truncated(&format!("{x}::pg_catalog.timestamp"))),
            Family::TimestampTz => {
                let raw = format!("pg_catalog.timezone({utc}, {x}::pg_catalog.timestamptz)");
                ("timestamptz", "+00", format!("pg_catalog.timezone({utc}, {})", truncated(&raw)))
            }
            _ => return Err(format!("'truncateDate' can't truncate {}", self.what())),
        };
        // Near the ends of the range truncation raises, and a date may be none as a timestamp: those become infinite.
        let midnight = if kind == "date" { String::new() } else { format!(" 00:00:00{zone}") };
        let at = |day: &str, era: &str| format!("'{day}{midnight}{era}'::pg_catalog.{kind}");
        let raw = format!("{x}::pg_catalog.{kind}");
        Ok(format!(
            "CASE WHEN {raw} OPERATOR(pg_catalog.>=) {} AND {raw} OPERATOR(pg_catalog.<) {} THEN {inside} \
             WHEN {raw} OPERATOR(pg_catalog.>) {} THEN 'infinity'::pg_catalog.{kind} \
             WHEN {raw} OPERATOR(pg_catalog.<) {} THEN '-infinity'::pg_catalog.{kind} END",
            at("4000-01-01", " BC"),
            at("290000-01-01", ""),
            at("2000-01-01", ""),
            at("2000-01-01", ""),
        ))
    }

    fn bucket(&self, size: &str) -> Result<String, String> {
        let digits = Decimal::parse(size).filter(|size| !size.is_zero() && !size.negative);
        let digits = digits.ok_or_else(|| format!("'bucket' has no size that is a positive number: {size}"))?;
        let misfit = |why: &str| Err(format!("'bucket' of {size} {why} {}", self.what()));
        match self.family {
            Family::Int(bits) => {
                let lowest: i64 = -1 << bits.saturating_sub(1);
                let Some(step) = digits.to_i64() else { return misfit("is no whole number for") };
                let Some(bound) = lowest.checked_add(step).filter(|bound| *bound < 0) else {
                    return misfit("is too large for");
                };
                let kind = format!("pg_catalog.int{}", bits / 8);
                let number = |value: i64| format!("'{value}'::{kind}");
                let x = format!("{}::{kind}", self.raw());
                // The last bucket starts at the type's lowest value: the multiple below it would overflow.
                Ok(format!(
                    "CASE WHEN {x} OPERATOR(pg_catalog.<) {} THEN {} \
                     WHEN ({x} OPERATOR(pg_catalog.%) {step}) OPERATOR(pg_catalog.<) {zero} \
                     THEN {x} OPERATOR(pg_catalog.-) ({x} OPERATOR(pg_catalog.%) {step}) OPERATOR(pg_catalog.-) {step} \
                     ELSE {x} OPERATOR(pg_catalog.-) ({x} OPERATOR(pg_catalog.%) {step}) END",
                    number(bound),
                    number(lowest),
                    step = number(step),
                    zero = number(0),
                ))
            }
            Family::Numeric(modifier) => self.bucket_numeric(size, &digits, modifier),
            Family::Float4 | Family::Float8 => {
                if digits.integer.len() > 15 || digits.leading_zero_decimals() > 5 {
                    return misfit("is too large or too small for");
                }
                let x = format!("{}::pg_catalog.float8", self.raw());
                let number = |value: &str| format!("'{value}'::pg_catalog.float8");
                let (step, zero) = (number(size), number("0"));
                let high = if self.family == Family::Float4 { "1e37" } else { "1e300" };
                // A quotient that over- or underflows raises: the first bucket on each side of zero is told apart, and
                // what is beyond `high` becomes infinite.
                Ok(format!(
                    "CASE WHEN ({x} OPERATOR(pg_catalog.>=) {step} AND {x} OPERATOR(pg_catalog.<=) {}) \
                     OR ({x} OPERATOR(pg_catalog.<) {minus_step} AND {x} OPERATOR(pg_catalog.>=) {}) \
                     THEN pg_catalog.floor({x} OPERATOR(pg_catalog./) {step}) OPERATOR(pg_catalog.*) {step} \
                     WHEN {x} OPERATOR(pg_catalog.>=) {zero} AND {x} OPERATOR(pg_catalog.<) {step} THEN {zero} \
                     WHEN {x} OPERATOR(pg_catalog.<) {zero} AND {x} OPERATOR(pg_catalog.>=) {minus_step} THEN {minus_step} \
                     WHEN {x} OPERATOR(pg_catalog.<) {zero} THEN {} \
                     WHEN {x} OPERATOR(pg_catalog.=) {nan} THEN {nan} \
                     WHEN {x} OPERATOR(pg_catalog.>) {zero} THEN {} END",
                    number(high),
                    number(&format!("-{high}")),
                    number("-Infinity"),
                    number("Infinity"),
                    minus_step = number(&format!("-{size}")),
                    nan = number("NaN"),
                ))
            }
            _ => misfit("is no range of"),
        }
    }

    fn bucket_numeric(&self, size: &str, digits: &Decimal, modifier: Option<(u32, i32)>) -> Result<String, String> {
        let misfit = |why: &str| Err(format!("'bucket' of {size} {why} {}", self.what()));
        let x = format!("{}::pg_catalog.numeric", self.raw());
        let number = |value: &str| format!("'{value}'::pg_catalog.numeric");
        let (step, zero) = (number(size), number("0"));
        // Not floor(x / size): the quotient is rounded, so that a long value could land in the bucket above it.
        let above = format!("pg_catalog.div({x}, {step}) OPERATOR(pg_catalog.*) {step}");
        let below = format!(
            "({above}) OPERATOR(pg_catalog.-) \
             CASE WHEN ({x} OPERATOR(pg_catalog.%) {step}) OPERATOR(pg_catalog.<>) {zero} THEN {step} ELSE {zero} END"
        );
        match modifier {
            Some((precision, scale)) => {
                let (Ok(scale), true) = (u32::try_from(scale), i64::from(scale) <= i64::from(precision)) else {
                    return misfit("needs an ordinary scale in");
                };
                let whole = precision.saturating_sub(scale) as usize;
                if digits.decimals.len() > scale as usize {
                    return misfit("has more decimals than");
                }
                if digits.integer.len() > whole {
                    return misfit("is too large for");
                }
                let lowest = format!("-{}.{}", "9".repeat(whole), "9".repeat(scale as usize));
                let lowest = number(lowest.trim_end_matches('.'));
                // The multiple below the lowest value would overflow the type.
                Ok(format!(
                    "CASE WHEN {x} OPERATOR(pg_catalog.>=) {zero} THEN {above} \
                     WHEN {x} OPERATOR(pg_catalog.<) {zero} THEN GREATEST({below}, {lowest}) END"
                ))
            }
            None => {
                if digits.integer.len() > 1000 || digits.decimals.len() > 1000 {
                    return misfit("is too large or too fine for");
                }
                // Near the format's limit of 131,072 digits arithmetic raises: such values become infinite.
                Ok(format!(
                    "CASE WHEN {x} OPERATOR(pg_catalog.>=) {zero} AND {x} OPERATOR(pg_catalog.<) {high} THEN {above} \
                     WHEN {x} OPERATOR(pg_catalog.<) {zero} AND {x} OPERATOR(pg_catalog.>) {low} THEN {below} \
                     WHEN {x} OPERATOR(pg_catalog.<) {zero} THEN {} \
                     WHEN {x} OPERATOR(pg_catalog.=) {nan} THEN {nan} \
                     WHEN {x} OPERATOR(pg_catalog.>) {zero} THEN {} END",
                    number("-Infinity"),
                    number("Infinity"),
                    high = number("1e120000"),
                    low = number("-1e120000"),
                    nan = number("NaN"),
                ))
            }
        }
    }

    /// The zero value of the type, as a literal.
    fn zero(&self) -> Result<String, String> {
        Ok(quote_text(&match self.family {
            Family::Text(_) | Family::Char(_) | Family::Name | Family::Bytea | Family::VarBit => String::new(),
            Family::Int(_) | Family::Numeric(_) | Family::Float4 | Family::Float8 => "0".to_owned(),
            Family::Bool => "false".to_owned(),
            Family::Date => "1970-01-01".to_owned(),
            Family::Timestamp => "1970-01-01 00:00:00".to_owned(),
            Family::TimestampTz => "1970-01-01 00:00:00+00".to_owned(),
            Family::Time | Family::Interval => "00:00:00".to_owned(),
            Family::TimeTz => "00:00:00+00".to_owned(),
            Family::Uuid => "00000000-0000-0000-0000-000000000000".to_owned(),
            Family::Json | Family::Array => "{}".to_owned(),
            Family::Inet => "0.0.0.0".to_owned(),
            Family::Cidr => "0.0.0.0/32".to_owned(),
            Family::Macaddr => "00:00:00:00:00:00".to_owned(),
            Family::Macaddr8 => "00:00:00:00:00:00:00:00".to_owned(),
            Family::Bit(length) if length > 10_000 => return Err(format!("'default' is too long for {}", self.what())),
            Family::Bit(length) => "0".repeat(length as usize),
            Family::Range => "empty".to_owned(),
            Family::Enum(oid) => match self.catalog.types.get(&oid).and_then(|kind| kind.labels.first()) {
                Some(label) => label.to_string(),
                None => return Err(format!("'default' knows no label for {}", self.what())),
            },
            Family::Other => return Err(format!("'default' knows no zero value for {}", self.what())),
        }))
    }

    /// A fixed value, as a literal, if the type is sure to take it under any settings.
    fn fixed(&self, value: &str) -> Result<String, String> {
        let misfit = |needs: &str| Err(format!("'fixed' has no value for {}: it needs {needs}", self.what()));
        if value.contains('\0') {
            return misfit("a value without NUL");
        }
        let fits = match self.family {
            Family::Text(limit) | Family::Char(limit) => match limit {
                Some(limit) if value.chars().count() > limit as usize => return misfit("a shorter text"),
                _ => true,
            },
            Family::Name if value.len() > 63 => return misfit("at most 63 bytes"),
            Family::Name => true,
            Family::Int(bits) => {
                let highest: i64 = i64::MAX >> 64_u32.saturating_sub(bits);
                let number = value.parse::<i64>().ok();
                if !number.is_some_and(|number| number <= highest && number >= -highest - 1) {
                    return misfit("a whole number in the range of the type");
                }
                true
            }
            Family::Numeric(modifier) => {
                let Some(number) = Decimal::parse(value) else { return misfit("a decimal number") };
                let (whole, decimals) = match modifier {
                    Some((precision, scale)) => (i64::from(precision) - i64::from(scale), i64::from(scale)),
                    None => (1000, 1000),
                };
                if number.integer.len() as i64 > whole || number.decimals.len() as i64 > decimals {
                    return misfit("a number with no more digits than the type has");
                }
                true
            }
            Family::Float4 | Family::Float8 => {
                let number = Decimal::parse(value);
                if !number.is_some_and(|number| number.integer.len() <= 30 && number.decimals.len() <= 30) {
                    return misfit("a decimal number");
                }
                true
            }
            Family::Bool if !matches!(value, "true" | "false") => return misfit("true or false"),
            Family::Bool => true,
            Family::Date if !is_date(value) => return misfit("a date as YYYY-MM-DD"),
            Family::Date => true,
            Family::Timestamp if !is_timestamp(value, false) => return misfit("a time as YYYY-MM-DD HH:MM:SS"),
            Family::Timestamp => true,
            Family::TimestampTz if !is_timestamp(value, true) => {
                return misfit("a time with its zone, as YYYY-MM-DD HH:MM:SSZ or …+HH:MM");
            }
            Family::TimestampTz => true,
            Family::Time if !is_time(value) => return misfit("a time as HH:MM:SS"),
            Family::Time => true,
            Family::Uuid if !is_uuid(value) => return misfit("a uuid as 00000000-0000-0000-0000-000000000000"),
            Family::Uuid => true,
            Family::Json => {
                let parsed = serde_json::from_str::<serde_json::Value>(value);
                // jsonb refuses U+0000 in strings and numbers beyond numeric's range.
                if parsed.is_err() || value.contains("\\u0000") || value.len() > 100_000 {
                    return misfit("a JSON text");
                }
                true
            }
            Family::Inet if value.parse::<std::net::IpAddr>().is_err() => return misfit("an IP address"),
            Family::Inet => true,
            Family::Bytea => {
                let hex = value.strip_prefix("\\x").filter(|hex| hex.len().is_multiple_of(2));
                if !hex.is_some_and(|hex| hex.chars().all(|digit| digit.is_ascii_hexdigit())) {
                    return misfit("bytes as \\x and hexadecimal digits");
                }
                true
            }
            Family::Enum(oid) => {
                let known = self.catalog.types.get(&oid);
                if !known.is_some_and(|kind| kind.labels.iter().any(|label| **label == *value)) {
                    return misfit("one of the enum's labels");
                }
                true
            }
            Family::Array if value != "{}" => return misfit("{}, an empty array"),
            Family::Array => true,
            _ => false,
        };
        if fits { Ok(quote_text(value)) } else { Err(format!("'fixed' knows no values of {}", self.what())) }
    }

    /// The column's collation, if it isn't the database's default: schema, name, and whether it is deterministic.
    fn collation(&self) -> Result<Option<(String, String, bool)>, String> {
        const DEFAULT: Oid = 100;
        let found =
            |schema: &str, name: &str, deterministic| Ok(Some((schema.to_owned(), name.to_owned(), deterministic)));
        match self.column.collation {
            0 | DEFAULT => return Ok(None),
            950 => return found("pg_catalog", "C", true),
            951 => return found("pg_catalog", "POSIX", true),
            _ => {}
        }
        for (name, collations) in &self.catalog.collations {
            if let Some(known) = collations.iter().find(|known| known.oid == self.column.collation) {
                return found(&known.schema, name, known.deterministic);
            }
        }
        Err(format!("the collation of {} is not known", self.what()))
    }
}

fn family(catalog: &Catalog, column: &Column) -> Family {
    let (mut oid, mut modifier) = (column.type_oid, column.type_modifier);
    // A domain over a domain over …: Postgres lets none refer to itself; the bound is for a catalog that lies.
    for _ in 0..64 {
        match catalog.types.get(&oid) {
            Some(domain) if domain.kind == 'd' => (oid, modifier) = (domain.base, domain.base_modifier),
            _ => break,
        }
    }
    let Some(kind) = catalog.types.get(&oid) else { return Family::Other };
    let length = u32::try_from(modifier.saturating_sub(4)).ok().filter(|_| modifier >= 0);
    match (&*kind.schema, &*kind.name) {
        ("pg_catalog", "text") | (_, "citext") => Family::Text(None),
        ("pg_catalog", "varchar") => Family::Text(length),
        ("pg_catalog", "bpchar") => Family::Char(length),
        ("pg_catalog", "name") => Family::Name,
        ("pg_catalog", "bytea") => Family::Bytea,
        ("pg_catalog", "int2") => Family::Int(16),
        ("pg_catalog", "int4") => Family::Int(32),
        ("pg_catalog", "int8") => Family::Int(64),
        ("pg_catalog", "numeric") if modifier >= 0 => {
            let packed = modifier.saturating_sub(4);
            let precision = u32::try_from((packed >> 16) & 0xffff).unwrap_or_default();
            // The scale is an 11-bit number with a sign.
            Family::Numeric(Some((precision, ((packed & 0x7ff) ^ 1024).saturating_sub(1024))))
        }
        ("pg_catalog", "numeric") => Family::Numeric(None),
        ("pg_catalog", "float4") => Family::Float4,
        ("pg_catalog", "float8") => Family::Float8,
        ("pg_catalog", "bool") => Family::Bool,
        ("pg_catalog", "date") => Family::Date,
        ("pg_catalog", "timestamp") => Family::Timestamp,
        ("pg_catalog", "timestamptz") => Family::TimestampTz,
        ("pg_catalog", "time") => Family::Time,
        ("pg_catalog", "timetz") => Family::TimeTz,
        ("pg_catalog", "interval") => Family::Interval,
        ("pg_catalog", "uuid") => Family::Uuid,
        ("pg_catalog", "json" | "jsonb") => Family::Json,
        ("pg_catalog", "inet") => Family::Inet,
        ("pg_catalog", "cidr") => Family::Cidr,
        ("pg_catalog", "macaddr") => Family::Macaddr,
        ("pg_catalog", "macaddr8") => Family::Macaddr8,
        ("pg_catalog", "bit") => Family::Bit(u32::try_from(modifier).unwrap_or(1)),
        ("pg_catalog", "varbit") => Family::VarBit,
        _ if kind.kind == 'e' => Family::Enum(oid),
        _ if kind.kind == 'r' => Family::Range,
        // int2vector and oidvector have elements too, but are no arrays.
        _ if kind.element != 0 && kind.category == 'A' && kind.name.starts_with('_') => Family::Array,
        _ => Family::Other,
    }
}

/// The type that `format_type` wrote under an empty search_path, qualified: names without a schema are pg_catalog's.
pub fn type_name(type_sql: &str) -> Result<TypeName, String> {
    match parse_expression(&format!("NULL::{type_sql}"))?.node {
        Some(Kind::TypeCast(cast)) => match cast.type_name {
            Some(mut name) => {
                if name.names.len() == 1 {
                    name.names.insert(0, string("pg_catalog"));
                }
                Ok(name)
            }
            None => Err(format!("no type: {type_sql}")),
        },
        _ => Err(format!("no type: {type_sql}")),
    }
}

/// Bounds of one mask or filter: far below what a stack holds, as it is copied into statements.
const LIMITS: ParseLimits = ParseLimits { bytes: 64 << 10, depth: 90, memory: 64 << 20 };

/// Parses one expression: nothing around it, nothing after it.
pub fn parse_expression(sql: &str) -> Result<Node, String> {
    // On a line of its own in parentheses, so that text which is more than an expression doesn't parse, or shows.
    let parsed = crate::sql::parse(&format!("SELECT (\n{sql}\n)"), &LIMITS).map_err(|denial| denial.message)?;
    let no_expression = || "this is no single expression".to_owned();
    let mut statements = parsed.tree.stmts.into_iter().map(|raw| raw.stmt.and_then(|statement| statement.node));
    let (Some(Some(Kind::SelectStmt(mut select))), None) = (statements.next(), statements.next()) else {
        return Err(no_expression());
    };
    let target = select.target_list.pop();
    if *select != (SelectStmt { limit_option: select.limit_option, op: select.op, ..SelectStmt::default() }) {
        return Err(no_expression());
    }
    match target.and_then(|target| target.node) {
        Some(Kind::ResTarget(target)) if target.name.is_empty() && target.indirection.is_empty() => {
            target.val.map(|value| *value).ok_or_else(no_expression)
        }
        _ => Err(no_expression()),
    }
}

/// A decimal number as written, without exponent.
struct Decimal {
    negative: bool,
    /// Digits before the point, without leading zeros.
    integer: String,
    /// Digits after it, without trailing zeros.
    decimals: String,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (integer, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if integer.is_empty() || !all_digits(integer) || !all_digits(decimals) || digits.ends_with('.') {
            return None;
        }
        Some(Self {
            negative,
            integer: integer.trim_start_matches('0').to_owned(),
            decimals: decimals.trim_end_matches('0').to_owned(),
        })
    }

    fn is_zero(&self) -> bool {
        self.integer.is_empty() && self.decimals.is_empty()
    }

    fn to_i64(&self) -> Option<i64> {
        if !self.decimals.is_empty() {
            return None;
        }
        self.integer.parse().ok()
    }

    /// Zeros between the point and the first digit, of a number below 1.
    fn leading_zero_decimals(&self) -> usize {
        if !self.integer.is_empty() {
            return 0;
        }
        self.decimals.bytes().take_while(|byte| *byte == b'0').count()
    }
}

/// `YYYY-MM-DD`, of a day that exists.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut number = |length: usize| {
        let part = parts.next()?;
        (part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<u32>().ok())?
    };
    let (Some(year), Some(month), Some(day)) = (number(4), number(2), number(2)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    year >= 1 && (1..=days).contains(&day)
}

/// `HH:MM:SS`, with a fraction if need be.
fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = whole.split(':').collect();
    let below = |part: &str, limit: u32| {
        part.len() == 2
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|it| it < limit)
    };
    let [hours, minutes, seconds] = parts.as_slice() else { return false };
    let fraction = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    fraction && below(hours, 24) && below(minutes, 60) && below(seconds, 60)
}

fn is_timestamp(text: &str, zoned: bool) -> bool {
    let Some((date, rest)) = text.split_once([' ', 'T']) else { return false };
    let time = if !zoned {
        rest
    } else if let Some(time) = rest.strip_suffix('Z') {
        time
    } else if let Some((time, offset)) = rest.rsplit_once(['+', '-']) {
        let (hours, minutes) = offset.split_once(':').unwrap_or((offset, "00"));
        let two = |part: &str, limit: u32| part.len() == 2 && part.parse::<u32>().is_ok_and(|it| it < limit);
        if !two(hours, 15) || !two(minutes, 60) {
            return false;
        }
        time
    } else {
        return false;
    };
    is_date(date) && is_time(time)
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::decide::expression::{instantiate, to_sql};
    use crate::decide::testing::{self, column};

    fn sql(kind: &MaskKind, type_sql: &str) -> Result<String, String> {
        let catalog = testing::catalog();
        let column = column(&catalog, 1, "n", type_sql);
        let bound = bind(kind, &catalog, &column, "public.t.n", Some(0), &mut Expressions::default())?;
        Ok(to_sql(&instantiate(&bound.expression, "c")).unwrap())
    }

    #[test]
    fn columns_of_one_name_and_type_share_an_expression() {
        let catalog = testing::catalog();
        let mut known = Expressions::default();
        let mut bound = |kind: &MaskKind, name: &str, type_sql: &str| {
            let column = column(&catalog, 1, name, type_sql);
            bind(kind, &catalog, &column, "public.t.n", None, &mut known).unwrap().expression
        };
        let first = bound(&MaskKind::Email, "email", "text");
        assert!(Arc::ptr_eq(&first, &bound(&MaskKind::Email, "email", "text")));
        let others = [(MaskKind::Redact, "email", "text"), (MaskKind::Email, "mail", "text")];
        for (kind, name, type_sql) in others.into_iter().chain([(MaskKind::Email, "email", "character varying(20)")]) {
            assert_ne!(first, bound(&kind, name, type_sql), "{kind:?} {name} {type_sql}");
        }
    }

    #[test]
    fn a_mask_that_does_not_fit_says_why() {
        let partial = MaskKind::Partial { keep_first: 0, keep_last: 4, with: '*' };
        assert_eq!(sql(&partial, "numeric").unwrap_err(), "'partial' can't keep 4 of public.t.n, a numeric column");
        assert_eq!(
            sql(&MaskKind::Hash { key_secret: ("s".into(), "k".into()) }, "character varying(20)").unwrap_err(),
            "'hash' needs room for 64 characters in public.t.n, a character varying(20) column"
        );
        assert_eq!(
            sql(&MaskKind::TruncateDate { to: "day".into() }, "date").unwrap_err(),
            "'truncateDate' to day hides nothing of public.t.n, a date column"
        );
        assert_eq!(
            sql(&MaskKind::Email, "integer").unwrap_err(),
            "'email' can't keep the domain of public.t.n, an integer column"
        );
    }

    #[test]
    fn a_mask_is_qualified_and_of_the_exact_type() {
        assert_eq!(
            sql(&MaskKind::Redact, "character varying(20)").unwrap(),
            "pg_catalog.repeat('*', pg_catalog.length(c.n::pg_catalog.text))::varchar(20)"
        );
        assert_eq!(sql(&MaskKind::Nullify, "numeric(10,2)").unwrap(), "NULL::numeric(10, 2)");
    }

    #[test]
    fn a_fixed_value_is_read_by_the_type_at_bind() {
        let fixed = |value: &str, type_sql: &str| sql(&MaskKind::Fixed { value: value.into() }, type_sql).is_ok();
        for (type_sql, good, bad) in [
            ("integer", "2147483647", "2147483648"),
            ("smallint", "-32768", "-32769"),
            ("bigint", "-9223372036854775808", "1.5"),
            ("numeric(4,2)", "99.99", "100"),
            ("numeric(4,2)", "-1.5", "0.001"),
            ("boolean", "true", "t"),
            ("date", "2024-02-29", "2023-02-29"),
            ("timestamp without time zone", "2024-01-01 10:00:00", "2024-01-01"),
            ("timestamp with time zone", "2024-01-01 10:00:00+02", "2024-01-01 10:00:00"),
            ("uuid", "00000000-0000-0000-0000-000000000000", "x"),
            ("character varying(3)", "äöü", "abcd"),
            ("text", "it's", "a\0b"),
            ("jsonb", "{\"a\": 1}", "{"),
            ("bytea", "\\x00ff", "abc"),
        ] {
            assert!(fixed(good, type_sql), "{good} is a {type_sql}");
            assert!(!fixed(bad, type_sql), "{bad} is no {type_sql}");
        }
    }

    #[test]
    fn the_settings_of_a_key_are_the_padded_blocks_of_hmac() {
        let key = HashKey { secret: ("s".into(), "k".into()), index: 3 };
        let [(inner, value), (outer, _)] = key.settings(b"Jefe");
        assert_eq!((inner.as_str(), outer.as_str()), ("postern.hash_key_3_inner", "postern.hash_key_3_outer"));
        assert!(value.starts_with("7c535053") && value.len() == 128);
    }
}
