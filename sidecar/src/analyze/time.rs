//! What is known of a time without computing it: its kind, and between which years it lies. Where those are far from the
//! first and the last that there are, computing it can't fail, whatever the clock and the settings say.

use std::ops::RangeInclusive;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::late::operator_of;
use super::tree;
use crate::catalog::Oid;
use crate::catalog::names::types;
use crate::decide::steady;

/// Functions that give the time.
const NOW: [&str; 3] = ["now", "statement_timestamp", "transaction_timestamp"];

/// The function that reads a date as a format says.
const TO_DATE: &str = "to_date";

/// Functions that give a time, of one.
const OF_A_TIME: [&str; 2] = ["date_trunc", "timezone"];

/// Years in which every kind of time can be read as every other, in any zone.
const COMMON: RangeInclusive<f64> = -4000.0..=200_000.0;

/// A kind of time, and the years between which a value of it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) kind: Oid,
    from: f64,
    to: f64,
}

impl Time {
    /// What the clock says, as long as this runs.
    const fn now(kind: Oid) -> Self {
        Self { kind, from: 1900.0, to: 2900.0 }
    }

    fn moved_by(self, years: f64) -> Self {
        Self { from: self.from - years, to: self.to + years, ..self }
    }
}

/// Whether these are two kinds of time of which one is told by the zone: equal to the same they need not be equal.
pub(super) fn differ(one: Option<Oid>, other: Option<Oid>) -> bool {
    let is_time = |kind: Oid| matches!(kind, types::DATE | types::TIMESTAMP | types::TIMESTAMPTZ);
    let is_day = |kind: Oid| matches!(kind, types::TIME | types::TIMETZ);
    match (one, other) {
        (Some(one), Some(other)) => one != other && (is_time(one) && is_time(other) || is_day(one) && is_day(other)),
        (Some(kind), None) | (None, Some(kind)) => is_time(kind) || is_day(kind),
        (None, None) => false,
    }
}

impl Analyzer<'_> {
    pub(super) fn is_common_time(&self, node: &Node) -> bool {
        self.time(node).is_some_and(|time| COMMON.contains(&time.from) && COMMON.contains(&time.to))
    }

    /// `to_char` or `extract` of a time. Names of months are written by the locale, and may not fit.
    pub(super) fn is_text_of_time(&self, call: &pb::FuncCall) -> bool {
        match call.args.as_slice() {
            [time, format] if self.is_own(call, &["to_char"]) => {
                let is_plain = |text: &str| !text.to_ascii_uppercase().contains("TM");
                literal(format).is_some_and(is_plain) && self.is_common_time(time)
            }
            [field, time] if self.is_own(call, &["extract", "date_part"]) => {
                literal(field).is_some() && self.is_common_time(time)
            }
            _ => false,
        }
    }

    /// What is known of a time: one by the clock or a literal, moved by literal intervals, and cast to another kind.
    ///
    /// It reads literals, so [`super::free_literals`] names none of those in what [`may_be_time`] holds for.
    pub(super) fn time(&self, node: &Node) -> Option<Time> {
        if !may_be_time(node) {
            return None;
        }
        match &node.node {
            Some(NodeEnum::SqlvalueFunction(value)) => kind_of(value).map(Time::now),
            Some(NodeEnum::FuncCall(call)) => match call.args.as_slice() {
                [] if self.is_own(call, &NOW) => Some(Time::now(types::TIMESTAMPTZ)),
                [text, format] if self.is_own(call, &[TO_DATE]) => {
                    let is_plain = is_date_as(literal(text)?, literal(format)?);
                    is_plain.then_some(Time { kind: types::DATE, from: 0.0, to: 10_000.0 })
                }
                [zone, time] if self.is_own(call, &["timezone"]) => {
                    literal(zone).filter(|name| is_full_zone(name))?;
                    let time = self.time(time)?.moved_by(1.0);
                    let kind = if time.kind == types::TIMESTAMP { types::TIMESTAMPTZ } else { types::TIMESTAMP };
                    Some(Time { kind, ..time })
                }
                [unit, time, zone @ ..] if zone.len() <= 1 && self.is_own(call, &["date_trunc"]) => {
                    literal(unit)?;
                    if !zone.iter().all(|zone| literal(zone).is_some_and(is_full_zone)) {
                        return None;
                    }
                    let time = self.time(time)?.moved_by(1000.0);
                    let kind = if time.kind == types::DATE { types::TIMESTAMPTZ } else { time.kind };
                    Some(Time { kind, ..time })
                }
                _ => None,
            },
            Some(NodeEnum::TypeCast(cast)) => {
                let kind = self.cast_type(cast).filter(|kind| is_kind_of_time(*kind))?;
                let arg = cast.arg.as_deref()?;
                match literal(arg) {
                    // The server reads these as it is given them.
                    Some("epoch" | "now" | "today" | "tomorrow" | "yesterday") => Some(Time::now(kind)),
                    Some(text) => steady::is_iso(text).then_some(Time { kind, from: 0.0, to: 10_000.0 }),
                    None => Some(Time { kind, ..self.time(arg)?.moved_by(1.0) }),
                }
            }
            Some(NodeEnum::AExpr(expr)) => {
                let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
                let name = operator_of(expr).filter(|name| matches!(*name, "+" | "-") && self.is_own_operator(name))?;
                let (time, by) = match self.time(left) {
                    Some(time) => (time, right),
                    None if name == "+" => (self.time(right)?, left),
                    None => return None,
                };
                let moved = time.moved_by(self.span(by)?);
                let is_interval = number(by).is_none();
                let kind = if is_interval && time.kind == types::DATE { types::TIMESTAMP } else { time.kind };
                Some(Time { kind, ..moved })
            }
            _ => None,
        }
    }

    /// At most so many years a time is moved by that: days, or an interval.
    fn span(&self, node: &Node) -> Option<f64> {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                Some(pb::a_const::Val::Ival(days)) => Some(f64::from(days.ival).abs() / 365.0),
                Some(pb::a_const::Val::Sval(text)) => written_span(&text.sval),
                _ => None,
            },
            Some(NodeEnum::TypeCast(cast)) => {
                let name = cast.type_name.as_ref().and_then(|name| name.names.last()).and_then(tree::string_of)?;
                match name {
                    "interval" => written_span(literal(cast.arg.as_deref()?)?),
                    "time" => literal(cast.arg.as_deref()?).map(|_| 1.0),
                    _ => None,
                }
            }
            Some(NodeEnum::FuncCall(call)) => {
                let length = |argument: &Node| match &argument.node {
                    Some(NodeEnum::NamedArgExpr(named)) => {
                        Some(number(named.arg.as_deref()?)? * years_of(&named.name)?)
                    }
                    _ => None,
                };
                if self.is_own(call, &["make_interval"]) { call.args.iter().map(length).sum() } else { None }
            }
            Some(NodeEnum::AExpr(expr)) => {
                let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
                match (operator_of(expr)?, number(left), number(right)) {
                    ("*", None, Some(times)) => Some(self.span(left)? * times),
                    ("*", Some(times), None) => Some(self.span(right)? * times),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Whether no other schema that the client sees has an operator of this name for times.
    fn is_own_operator(&self, name: &str) -> bool {
        let is_other =
            |kind: Oid| !is_kind_of_time(kind) && kind != types::INTERVAL && self.catalog.types.contains_key(&kind);
        self.catalog
            .operators_named(&self.session.search_path, None, name)
            .iter()
            .all(|operator| &*operator.schema == "pg_catalog" || is_other(operator.left) && is_other(operator.right))
    }
}

/// Whether the analysis may read literals in it as times, or as what times are moved by.
pub(super) fn may_be_time(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::FuncCall(call)) => {
            let name = call.funcname.last().and_then(tree::string_of);
            name.is_some_and(|name| NOW.contains(&name) || OF_A_TIME.contains(&name) || name == TO_DATE)
        }
        Some(NodeEnum::TypeCast(cast)) => {
            let name = cast.type_name.as_ref().and_then(|name| name.names.last()).and_then(tree::string_of);
            name.is_some_and(|name| ["date", "time", "timetz", "timestamp", "timestamptz"].contains(&name))
        }
        Some(NodeEnum::AExpr(expr)) => {
            matches!(operator_of(expr), Some("+" | "-")) && tree::sides(expr).any(may_be_time)
        }
        _ => false,
    }
}

/// Whether a text is a date that is written as a format of years, months and days says, so that reading it can't fail.
fn is_date_as(text: &str, format: &str) -> bool {
    let (mut text, mut format) = (text, format);
    let (mut year, mut month, mut day) = (None, None, None);
    while !format.is_empty() {
        let Some((place, length, rest)) = [(&mut year, 4, "YYYY"), (&mut month, 2, "MM"), (&mut day, 2, "DD")]
            .into_iter()
            .find_map(|(place, length, name)| Some((place, length, format.strip_prefix(name)?)))
        else {
            // What is between them is the same in both.
            let between = ['-', '/', '.'].into_iter().find(|between| format.starts_with(*between));
            let after = between.and_then(|between| Some((text.strip_prefix(between)?, format.strip_prefix(between)?)));
            match after {
                Some(after) => (text, format) = after,
                None => return false,
            }
            continue;
        };
        let Some((digits, after)) = text.split_at_checked(length) else { return false };
        if place.is_some() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return false;
        }
        *place = digits.parse::<u32>().ok();
        (text, format) = (after, rest);
    }
    // Every month has so many days.
    text.is_empty()
        && year.is_some_and(|year| year > 0)
        && month.is_some_and(|month| (1..=12).contains(&month))
        && day.is_some_and(|day| (1..=28).contains(&day))
}

/// The kind of time that a word such as `CURRENT_DATE` means.
pub(super) fn kind_of(value: &pb::SqlValueFunction) -> Option<Oid> {
    use pb::SqlValueFunctionOp as Op;
    match Op::try_from(value.op).ok()? {
        Op::SvfopCurrentDate => Some(types::DATE),
        Op::SvfopCurrentTime | Op::SvfopCurrentTimeN => Some(types::TIMETZ),
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => Some(types::TIMESTAMPTZ),
        Op::SvfopLocaltime | Op::SvfopLocaltimeN => Some(types::TIME),
        Op::SvfopLocaltimestamp | Op::SvfopLocaltimestampN => Some(types::TIMESTAMP),
        Op::SqlvalueFunctionOpUndefined
        | Op::SvfopCurrentRole
        | Op::SvfopCurrentUser
        | Op::SvfopUser
        | Op::SvfopSessionUser
        | Op::SvfopCurrentCatalog
        | Op::SvfopCurrentSchema => None,
    }
}

pub(super) const fn is_date(kind: Oid) -> bool {
    matches!(kind, types::DATE | types::TIMESTAMP | types::TIMESTAMPTZ)
}

const fn is_kind_of_time(kind: Oid) -> bool {
    is_date(kind) || matches!(kind, types::TIME | types::TIMETZ)
}

/// Whether it is the name of a zone, and no abbreviation, whose meaning is a setting.
fn is_full_zone(name: &str) -> bool {
    name.contains('/') || name == "UTC"
}

fn number(node: &Node) -> Option<f64> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(pb::a_const::Val::Ival(number)) => Some(f64::from(number.ival).abs()),
            Some(pb::a_const::Val::Fval(number)) => number.fval.parse().ok().map(f64::abs),
            _ => None,
        },
        _ => None,
    }
}

/// At most so many years an interval is long that is written as numbers with units, or as `HH:MM:SS`. A number without a
/// unit has one after the literal, at most a year.
fn written_span(text: &str) -> Option<f64> {
    let mut years = 0.0;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let number = rest.trim_start_matches(['+', '-', '@', ' ']);
        let end = number.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':')).unwrap_or(number.len());
        let (number, after) = number.split_at_checked(end)?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        rest = after.trim_start();
        years += match (number.split_once(':'), unit.to_ascii_lowercase().as_str()) {
            (Some((hours, _)), "") => (hours.parse::<f64>().ok()? + 1.0) / 8760.0,
            (None, "ago") if number.is_empty() => 0.0,
            (None, unit) => number.parse::<f64>().ok()? * years_of(unit)?,
            (Some(_), _) => return None,
        };
    }
    Some(years)
}

fn years_of(unit: &str) -> Option<f64> {
    match unit {
        "" | "y" | "yr" | "yrs" | "year" | "years" => Some(1.0),
        "mon" | "mons" | "month" | "months" => Some(1.0 / 11.0),
        "w" | "week" | "weeks" => Some(1.0 / 52.0),
        "d" | "day" | "days" => Some(1.0 / 365.0),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(1.0 / 8760.0),
        "min" | "mins" | "minute" | "minutes" => Some(1.0 / 525_600.0),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1.0 / 31_536_000.0),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => Some(1.0 / 31_536_000_000.0),
        _ => None,
    }
}

fn literal(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(pb::a_const::Val::Sval(text)) => Some(&text.sval),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_its_format_says_where_that_is_certain() {
        for (text, format) in [("20240303", "YYYYMMDD"), ("2024-12-28", "YYYY-MM-DD"), ("01.02.2024", "DD.MM.YYYY")] {
            assert!(is_date_as(text, format), "{text} {format}");
        }
        for (text, format) in [
            ("20241303", "YYYYMMDD"),
            ("20240230", "YYYYMMDD"),
            ("00000101", "YYYYMMDD"),
            ("2024030", "YYYYMMDD"),
            ("202403031", "YYYYMMDD"),
            ("2024-03-03", "YYYYMMDD"),
            ("2024/03/03", "YYYY-MM-DD"),
            ("20240320240303", "YYYYMMYYYYMMDD"),
            ("2024 Mar 03", "YYYY Mon DD"),
            ("202403", "YYYYMM"),
            ("+0240303", "YYYYMMDD"),
            ("2024\u{663}303", "YYYYMMDD"),
            ("", ""),
        ] {
            assert!(!is_date_as(text, format), "{text} {format}");
        }
    }

    #[test]
    fn an_interval_is_at_least_as_long_as_the_server_reads_it() {
        for (text, least, most) in [
            ("1 day", 0.002, 0.01),
            ("1day", 0.002, 0.01),
            ("-1 day +02:00", 0.002, 0.01),
            ("@ 9 days ago", 0.024, 0.03),
            ("90", 89.0, 91.0),
            ("1 year 2 mons 3 weeks", 1.2, 1.3),
            ("1-2", 1.1, 3.0),
            ("1.5 hours", 0.0001, 0.001),
            ("100000:00:00", 11.4, 11.6),
            ("290000 years", 290_000.0, 290_000.0),
            ("9999999999 seconds", 316.0, 318.0),
            ("", 0.0, 0.0),
        ] {
            let found = written_span(text);
            assert!(found.is_some_and(|years| (least..=most).contains(&years)), "{text}: {found:?}");
        }
        for text in ["1 millennium", "3 decades", "P1D", "x", "1 day x", "infinity", "01:00 day", "1 \u{1d2} day"] {
            assert_eq!(written_span(text), None, "{text}");
        }
    }
}
