//! The members of a JSON object, written one after the other.
//!
//! Every statement writes some twenty of them. Their names, and most of their values, are words of our own without
//! anything to escape, so a serializer, which looks at each byte, would cost more than all else that an event does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Appends members to an object that is open, or to what will follow the members of one.
pub(super) struct Members<'a>(pub(super) &'a mut Vec<u8>);

impl Members<'_> {
    fn name(&mut self, name: &'static str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn quoted(&mut self, name: &'static str, value: &[u8]) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value);
        self.0.push(b'"');
    }

    /// A word that has nothing to escape.
    pub(super) fn word(&mut self, name: &'static str, value: &'static str) {
        self.quoted(name, value.as_bytes());
    }

    /// An id of hex digits.
    pub(super) fn id(&mut self, name: &'static str, id: &str) {
        self.quoted(name, id.as_bytes());
    }

    /// A number.
    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        self.digits(value);
    }

    /// A time as RFC 3339 in UTC, with microseconds.
    pub(super) fn time(&mut self, name: &'static str, time: SystemTime) {
        self.quoted(name, &rfc3339(time));
    }

    /// A duration in milliseconds; microseconds are as fine as it gets, more digits would only be noise.
    pub(super) fn millis(&mut self, name: &'static str, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.name(name);
        self.digits(micros / 1000);
        let mut fraction = *b".000";
        put(&mut fraction, micros % 1000, 3);
        self.0.extend_from_slice(&fraction);
    }

    /// Anything else.
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> serde_json::Result<()> {
        self.name(name);
        serde_json::to_writer(&mut *self.0, value)
    }

    fn digits(&mut self, value: u64) {
        let count = value.checked_ilog10().unwrap_or(0) as usize + 1;
        let start = self.0.len();
        self.0.resize(start + count, b'0');
        put(self.0, value, start + count - 1);
    }
}

/// Writes the digits of a number over those that are there, the last one first, as far as they go.
fn put(text: &mut [u8], value: u64, last: usize) {
    let mut rest = value;
    for digit in text.iter_mut().take(last + 1).rev().take_while(|byte| byte.is_ascii_digit()) {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn rfc3339(time: SystemTime) -> [u8; 27] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put(&mut text, year, 3);
    put(&mut text, month, 6);
    put(&mut text, day, 9);
    put(&mut text, seconds / 3600 % 24, 12);
    put(&mut text, seconds / 60 % 60, 15);
    put(&mut text, seconds % 60, 18);
    put(&mut text, u64::from(since.subsec_micros()), 25);
    text
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, counted in eras of 400 years that begin on the
/// first of March, so that the leap day is the last of its year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_digits() {
        let mut json = b"{".to_vec();
        let mut members = Members(&mut json);
        members.number("a", 0);
        members.number("b", 10);
        members.number("c", u64::MAX);
        members.millis("d", Duration::from_micros(1_000_007));
        members.millis("e", Duration::ZERO);
        json.push(b'}');
        assert_eq!(json, br#"{"a":0,"b":10,"c":18446744073709551615,"d":1000.007,"e":0.000}"#);
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        let at = |seconds, micros| UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
        assert_eq!(&rfc3339(at(0, 0)), b"1970-01-01T00:00:00.000000Z");
        assert_eq!(&rfc3339(at(951_782_399, 999_999)), b"2000-02-28T23:59:59.999999Z");
        assert_eq!(&rfc3339(at(951_782_400, 1)), b"2000-02-29T00:00:00.000001Z");
        assert_eq!(&rfc3339(at(1_735_689_599, 0)), b"2024-12-31T23:59:59.000000Z");
        assert_eq!(&rfc3339(at(4_107_542_400, 0)), b"2100-03-01T00:00:00.000000Z");
    }
}
