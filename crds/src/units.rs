//! Durations and quantities, as the API writes them.

use std::time::Duration;

/// The units of a duration, in the order that they must stand in, with their milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses `1h30m`, `30s`, `500ms`: whole numbers, units from long to short, each at most once.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mistake = || format!("'{text}' is not a duration: write it as 30s, 15m or 1h30m");
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut total: u64 = 0;
    if text.is_empty() {
        return Err(mistake());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(mistake)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| mistake())?;
        let end = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        // Searching on from the last unit keeps the order and refuses a unit that comes twice.
        let (_, milliseconds) = units.find(|(name, _)| *name == unit).ok_or_else(mistake)?;
        total = number
            .checked_mul(*milliseconds)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("'{text}' is too long"))?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration in the form that [`duration`] reads.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut out = String::new();
    for (unit, milliseconds) in UNITS {
        if rest >= milliseconds {
            out.push_str(&format!("{}{unit}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Parses a number of bytes: `1048576`, `10M`, `10Mi`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let mistake = || format!("'{text}' is not a number of bytes: write it as 1048576, 10M or 10Mi");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(mistake()),
    };
    let number: u64 = match number.parse() {
        Ok(number) => number,
        Err(_) if number.is_empty() => return Err(mistake()),
        Err(_) => return Err(format!("'{text}' is too large")),
    };
    number
        .checked_mul(factor)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| format!("'{text}' is too large"))
}

/// The number of a quantity as Kubernetes' resources have it (`50m`, `0.5`, `64Mi`), and how many thousandths its unit is.
pub fn resource_quantity(text: &str) -> Option<(&str, u64)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let thousandths = match suffix {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    is_decimal(number).then_some((number, thousandths))
}

/// Whether the text is digits, with a fraction or without.
pub fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_from_long_to_short() {
        for (text, milliseconds) in [
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("1h1m1s1ms", 3_661_001),
            ("0s", 0),
        ] {
            let parsed = duration(text).unwrap();
            assert_eq!(parsed, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(show_duration(parsed), text);
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "1m30s");
        for text in [
            "",
            "15",
            "m",
            "1.5h",
            "-1s",
            "1s1m",
            "1m1m",
            "1d",
            "1 m",
            "1M",
            " 1m",
            "1m ",
            "99999999999999999999s",
            "1ſ",
            "٣s",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert!(duration("9999999999999999999h").unwrap_err().contains("too long"));
    }

    #[test]
    fn quantities_are_whole_numbers_with_kubernetes_suffixes() {
        for (text, expected) in
            [("0", 0), ("1048576", 1 << 20), ("10M", 10_000_000), ("10Mi", 10 << 20), ("1Gi", 1 << 30), ("2k", 2000)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "Mi", "10mi", "10MB", "1.5Gi", "-1", "10 Mi", "1e6", "9999999Ti", "99999999999999999999999"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
        for (text, expected) in
            [("50m", true), ("0.5", true), ("64Mi", true), ("64mb", false), ("", false), ("1.", false)]
        {
            assert_eq!(resource_quantity(text).is_some(), expected, "{text:?}");
        }
    }
}
