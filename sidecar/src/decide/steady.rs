//! What a row filter must not depend on: settings that the client can change. A filter that reads `TimeZone` gives the
//! rows of another day to who sets another zone, one that reads `DateStyle` those of another month.
//!
//! So a filter's times are UTC: `timestamptz` is taken as the time of day in UTC where the session's zone would be, a
//! literal without a zone is in UTC, and dates are written as ISO 8601 has them. What can't be said that way doesn't bind.

use crate::catalog::Oid;
use crate::catalog::names::types::{
    self, BPCHAR, DATE, FLOAT4, FLOAT8, INTERVAL, MONEY, TIME, TIMESTAMP, TIMESTAMPTZ, TIMETZ, VARCHAR,
};

/// Functions that Postgres calls stable for another reason than settings.
const OF_THE_TRANSACTION: &[&str] = &["now", "statement_timestamp", "transaction_timestamp"];

/// Functions of plain values whose result settings change all the same: zone, search_path, locale, text search configuration.
const OF_SETTINGS: &[&str] = &[
    "current_schema",
    "current_schemas",
    "make_timestamptz",
    "phraseto_tsquery",
    "plainto_tsquery",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "ts_headline",
    "websearch_to_tsquery",
];

/// Whether values of the type are written and read the same under all settings.
fn is_settled(base_type: Oid) -> bool {
    !matches!(
        base_type,
        DATE | TIME | TIMESTAMP | TIMESTAMPTZ | TIMETZ | INTERVAL | FLOAT4 | FLOAT8 | MONEY | types::BYTEA
    )
}

fn is_text(base_type: Oid) -> bool {
    matches!(base_type, types::TEXT | VARCHAR | BPCHAR | types::NAME)
}

/// Whether a function that Postgres calls stable gives the same whatever the settings are. `arguments` are base types.
pub(super) fn is_steady(name: &str, arguments: &[Option<Oid>]) -> bool {
    OF_THE_TRANSACTION.contains(&name)
        || name == "to_char" && arguments.first() == Some(&Some(TIMESTAMP))
        || !OF_SETTINGS.contains(&name)
            && !name.ends_with("_tz")
            && arguments.iter().all(|argument| argument.is_some_and(is_settled))
}

/// What a cast between two base types needs in order not to depend on settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// Nothing.
    Steady,
    /// The value as the time of day in UTC first.
    FromUtc,
    /// The value as a timestamp, and that taken to be in UTC.
    ToUtc,
    /// It can't be had.
    Unsteady,
}

/// See [`Cast`].
pub(super) fn cast(from: Option<Oid>, to: Oid) -> Cast {
    match (from, to) {
        // Names of objects are read by the search_path.
        (_, to) if (2202..=2206).contains(&to) || matches!(to, 24 | 3734 | 3769 | 4089 | 4096 | 4191) => Cast::Unsteady,
        (Some(TIMESTAMPTZ), DATE | TIME | TIMESTAMP) => Cast::FromUtc,
        (Some(DATE | TIMESTAMP), TIMESTAMPTZ) => Cast::ToUtc,
        (Some(from), to) if from == to => Cast::Steady,
        (Some(TIMESTAMPTZ | TIMETZ), _) | (_, TIMETZ) => Cast::Unsteady,
        (Some(from), DATE | TIME | TIMESTAMP | TIMESTAMPTZ | INTERVAL | MONEY) if is_settled(from) => Cast::Unsteady,
        (None, DATE | TIME | TIMESTAMP | TIMESTAMPTZ | INTERVAL | MONEY) => Cast::Unsteady,
        (Some(from), to) if !is_settled(from) && (is_text(to) || matches!(to, types::JSON | types::JSONB)) => {
            Cast::Unsteady
        }
        _ => Cast::Steady,
    }
}

/// A literal as it is read under all settings: in ISO 8601, and in UTC where it has no zone. None for what needs no change.
///
/// # Errors
/// What to write instead.
pub(super) fn literal(text: &str, base_type: Oid) -> Result<Option<String>, String> {
    let always = matches!(text, "infinity" | "-infinity" | "epoch");
    match base_type {
        DATE | TIMESTAMP | TIMESTAMPTZ if always => Ok(None),
        DATE if date(text) == Some("") => Ok(None),
        DATE => Err(format!("write the date '{text}' as 'YYYY-MM-DD'")),
        TIMESTAMP if date(text).and_then(time) == Some("") => Ok(None),
        TIMESTAMP => Err(format!("write the timestamp '{text}' as 'YYYY-MM-DD HH:MM:SS'")),
        TIMESTAMPTZ => match date(text).and_then(time) {
            Some("") => Ok(Some(format!("{text}+00"))),
            // The session's zone may have an abbreviation of that name, since Postgres 18.
            Some("Z") => Ok(Some(format!("{}+00", text.trim_end_matches('Z')))),
            Some(rest) if is_zone(rest) => Ok(None),
            _ => Err(format!("write the time '{text}' as 'YYYY-MM-DD HH:MM:SS+00'")),
        },
        INTERVAL if text.contains('-') => Err(format!("write the interval '{text}' without a minus sign")),
        TIMETZ | MONEY => Err(format!("'{text}' depends on the session's settings")),
        _ => Ok(None),
    }
}

/// The same for a literal of an array, a range or a multirange of such values, which is not changed.
///
/// # Errors
/// What to write instead.
pub(super) fn literal_of_several(text: &str, base_type: Oid) -> Result<(), String> {
    let parts = text.split(',').map(|part| part.trim_matches(|c: char| "[](){}\" ".contains(c)));
    for part in parts.filter(|part| !part.is_empty() && *part != "empty") {
        if let Some(pinned) = literal(part, base_type)? {
            return Err(format!("write the time '{part}' as '{pinned}'"));
        }
    }
    Ok(())
}

/// A zone that settings can't change: `UTC` as an interval, `Region/City` before Postgres 18. Since then the session's own zone comes
/// first, whose abbreviation may be any word (`SET TimeZone = '<Europe/Berlin>+5'`).
///
/// # Errors
/// What to write instead.
pub(super) fn zone(text: &str, server_version: u32) -> Result<Zone, String> {
    match text.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "etc/utc" | "etc/gmt" => Ok(Zone::Utc),
        _ if text.contains('/') && server_version < 180_000 => Ok(Zone::Named),
        _ => {
            Err(format!("the zone '{text}' depends on settings that the client can change: write 'UTC' or an interval"))
        }
    }
}

/// See [`zone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// UTC.
    Utc,
    /// As it is written.
    Named,
}

/// Whether it is a date, or a time of one, in ISO 8601 with a year of four digits.
pub(crate) fn is_iso(text: &str) -> bool {
    date(text).and_then(time).is_some_and(|rest| rest.is_empty() || is_zone(rest))
}

/// What follows a date `YYYY-MM-DD`.
fn date(text: &str) -> Option<&str> {
    let rest = digits(text, 4)?.strip_prefix('-')?;
    digits(digits(rest, 2)?.strip_prefix('-')?, 2)
}

/// What follows a time of day, which may be missing.
fn time(text: &str) -> Option<&str> {
    let Some(rest) = text.strip_prefix([' ', 'T']) else { return Some(text) };
    let rest = digits(digits(rest, 2)?.strip_prefix(':')?, 2)?;
    let Some(seconds) = rest.strip_prefix(':') else { return Some(rest) };
    let rest = digits(seconds, 2)?;
    match rest.strip_prefix('.') {
        Some(fraction) => Some(fraction.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => Some(rest),
    }
}

/// `Z`, `+00`, `-05:30`.
fn is_zone(text: &str) -> bool {
    let Some(offset) = text.trim_start_matches(' ').strip_prefix(['+', '-']) else { return text == "Z" };
    let Some(rest) = digits(offset, 2) else { return false };
    rest.is_empty() || digits(rest.strip_prefix(':').unwrap_or(rest), 2) == Some("")
}

fn digits(text: &str, count: usize) -> Option<&str> {
    let (digits, rest) = text.split_at_checked(count)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_alike_under_all_settings() {
        for (text, of, expected) in [
            ("2026-01-31", DATE, Ok(None)),
            ("infinity", DATE, Ok(None)),
            ("01/02/2026", DATE, Err(())),
            ("today", DATE, Err(())),
            ("2026-01-31 10:00", DATE, Err(())),
            ("2026-01-31T10:00:00.5", TIMESTAMP, Ok(None)),
            ("2026-01-31", TIMESTAMP, Ok(None)),
            ("2026-01-31 10:00+02", TIMESTAMP, Err(())),
            ("2026-01-31", TIMESTAMPTZ, Ok(Some("2026-01-31+00"))),
            ("2026-01-31 10:00", TIMESTAMPTZ, Ok(Some("2026-01-31 10:00+00"))),
            ("2026-01-31 10:00:00Z", TIMESTAMPTZ, Ok(Some("2026-01-31 10:00:00+00"))),
            ("2026-01-31 10:00:00 +05:30", TIMESTAMPTZ, Ok(None)),
            ("2026-01-31 10:00 Europe/Berlin", TIMESTAMPTZ, Err(())),
            ("now", TIMESTAMPTZ, Err(())),
            ("1 day", INTERVAL, Ok(None)),
            ("-1 day 02:00", INTERVAL, Err(())),
            ("x", types::TEXT, Ok(None)),
        ] {
            let found = literal(text, of).map_err(|_| ());
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().map(|it| *it), "{text}");
        }
    }

    #[test]
    fn literals_of_several_values_have_each_of_them_settled() {
        for (text, of, settled) in [
            ("[2026-01-31,2026-02-01)", DATE, true),
            ("{2026-01-31, 2026-02-01}", DATE, true),
            ("[2026-01-31,)", DATE, true),
            ("empty", TIMESTAMPTZ, true),
            ("[01/02/2026,2026-02-01)", DATE, false),
            ("[2026-01-31 10:00+00,\"2026-02-01 00:00:00+00\")", TIMESTAMPTZ, true),
            ("[2026-01-31 10:00,2026-02-01 00:00+00)", TIMESTAMPTZ, false),
            ("{[2026-01-31,2026-02-01)}", TIMESTAMPTZ, false),
            ("[1,2)", types::INT4, true),
        ] {
            assert_eq!(literal_of_several(text, of).is_ok(), settled, "{text}");
        }
        assert_eq!((zone("UTC", 180_000), zone("Europe/Berlin", 170_000)), (Ok(Zone::Utc), Ok(Zone::Named)));
        assert!(zone("Europe/Berlin", 180_000).is_err() && zone("IST", 150_000).is_err());
    }

    #[test]
    fn casts_that_read_settings_are_known() {
        assert_eq!(cast(Some(TIMESTAMPTZ), DATE), Cast::FromUtc);
        assert_eq!(cast(Some(DATE), TIMESTAMPTZ), Cast::ToUtc);
        assert_eq!(cast(Some(TIMESTAMP), DATE), Cast::Steady);
        assert_eq!(cast(Some(types::INT4), types::TEXT), Cast::Steady);
        assert_eq!(cast(Some(FLOAT8), types::TEXT), Cast::Unsteady);
        assert_eq!(cast(Some(TIMESTAMPTZ), types::TEXT), Cast::Unsteady);
        assert_eq!(cast(Some(types::TEXT), DATE), Cast::Unsteady);
        assert_eq!(cast(Some(types::TEXT), 2205), Cast::Unsteady);
        assert_eq!(cast(Some(TIMESTAMPTZ), TIMESTAMPTZ), Cast::Steady);
    }
}
