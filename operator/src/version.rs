//! Versions of operator and sidecar, and how far apart they may be.

use std::fmt;

/// How many minor versions a sidecar may be behind the operator.
const BEHIND: u64 = 3;
/// And how many ahead, as after a rollback.
const AHEAD: u64 = 1;

/// A version, to compare; what follows the three numbers does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u64; 3]);

/// How a sidecar's version stands to the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// They are tried together.
    Tried,
    /// It is older than what is tried.
    TooOld,
    /// It is newer than what is tried.
    TooNew,
}

impl Version {
    /// Reads one; None if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self([parts.next()??, parts.next()??, parts.next()??]);
        parts.next().is_none().then_some(version)
    }

    /// That of this program.
    pub fn own() -> Self {
        // Cargo takes no other versions than those of three numbers.
        Self::read(env!("CARGO_PKG_VERSION")).unwrap_or(Self([0; 3]))
    }

    /// Whether it is of an older minor version than this one.
    pub fn is_older_minor_than(self, other: Version) -> bool {
        let (Version([major, minor, _]), Version([other_major, other_minor, _])) = (self, other);
        (major, minor) < (other_major, other_minor)
    }

    /// How a sidecar of this version stands to an operator of `self`.
    pub fn skew_of(self, sidecar: Version) -> Skew {
        let (Version([own_major, own, _]), Version([major, minor, _])) = (self, sidecar);
        if (major, minor.saturating_add(BEHIND)) < (own_major, own) {
            Skew::TooOld
        } else if (major, minor) > (own_major, own.saturating_add(AHEAD)) {
            Skew::TooNew
        } else {
            Skew::Tried
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn read(text: &str) -> Version {
        Version::read(text).unwrap()
    }

    #[test]
    fn versions_compare_by_their_numbers() {
        assert_eq!(Version::own().to_string(), env!("CARGO_PKG_VERSION"));
        assert!(read("0.10.0") > read("0.9.9"));
        assert_eq!(read("1.0.0-rc.1"), read("1.0.0"));
        for nonsense in ["nonsense", "1.2", "1.2.x", "1.2.3.4", ""] {
            assert_eq!(Version::read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn three_minor_versions_behind_and_one_ahead_are_tried() {
        let skew = |own: &str, sidecar: &str| read(own).skew_of(read(sidecar));
        for (sidecar, expected) in [
            ("0.5.9", Skew::TooOld),
            ("0.6.0", Skew::Tried),
            ("0.9.0", Skew::Tried),
            ("0.10.7", Skew::Tried),
            ("0.11.0", Skew::TooNew),
            ("1.0.0", Skew::TooNew),
        ] {
            assert_eq!(skew("0.9.3", sidecar), expected, "{sidecar}");
        }
        // What was before a major version is not what comes after it.
        assert_eq!(skew("1.0.0", "0.9.0"), Skew::TooOld);
        assert_eq!(skew("1.2.0", "1.0.0"), Skew::Tried);
    }
}
