//! Patterns for relations and columns: dotted names, each part a literal or a glob with `*`.
//!
//! A part may be quoted as in SQL (`public."Order Items"`, `"a""b"`); what stands in quotes is literal, `*` in it
//! included. What stands outside of them is matched as Postgres folds it: in lower case. Both may meet in one part, so
//! that a glob can have upper case too: `public."Order"*`.
//!
//! A relation pattern with a star in it never matches a system, toast, temporary or foreign relation: whoever writes
//! `public.*` means tables of the application. Those are matched by their literal names only.

use std::fmt;

/// Longest name that Postgres keeps (NAMEDATALEN - 1); it would cut a longer one, and the policy would mean another.
pub const MAX_NAME_BYTES: usize = 63;

/// Longest text of a pattern: three quoted names with every character doubled, and some room.
pub const MAX_PATTERN_BYTES: usize = 512;

/// One part of a pattern: a literal name, or a glob in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// Exactly this name.
    Literal(String),
    /// The literal pieces between the stars; `["", ""]` is `*`.
    Glob(Vec<String>),
}

/// `schema.relation`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationPattern {
    /// The schema.
    pub schema: NamePattern,
    /// The relation.
    pub relation: NamePattern,
}

/// `schema.relation.column`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnPattern {
    /// The relation.
    pub relation: RelationPattern,
    /// The column.
    pub column: NamePattern,
}

/// What is wrong with a pattern's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is there.
    #[error("the pattern is empty")]
    Empty,
    /// A part between two dots is empty, or a quoted name has no characters.
    #[error("'{0}' has an empty part")]
    EmptyPart(String),
    /// A quote was opened and not closed.
    #[error("'{0}' has a quote that is not closed")]
    OpenQuote(String),
    /// A character that only a quoted name can have.
    #[error(
        "'{text}' has the character {character:?} outside of double quotes: write the name as SQL would, in double quotes"
    )]
    NeedsQuotes {
        /// The whole pattern.
        text: String,
        /// The character.
        character: char,
    },
    /// A NUL, which no name in Postgres can have.
    #[error("the pattern has a NUL character")]
    Nul,
    /// A name longer than Postgres keeps.
    #[error("'{0}' has a part longer than {MAX_NAME_BYTES} bytes, which Postgres would cut")]
    NameTooLong(String),
    /// The text is longer than any pattern need be.
    #[error("the pattern is longer than {MAX_PATTERN_BYTES} bytes")]
    TextTooLong,
    /// A relation without a schema.
    #[error("'{0}' does not name the schema: write schema.{0}, such as public.{0}")]
    NoSchema(String),
    /// A column without relation or schema.
    #[error("'{0}' must be schema.relation.column, such as public.customers.email")]
    NotAColumn(String),
    /// More parts than the name can have.
    #[error("'{text}' has {parts} parts: expected {expected}")]
    TooManyParts {
        /// The whole pattern.
        text: String,
        /// How many parts it has.
        parts: usize,
        /// What was expected.
        expected: &'static str,
    },
}

impl NamePattern {
    /// Parses a pattern of one part, such as a channel's name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let parts = parse_parts(text)?;
        let count = parts.len();
        match <[NamePattern; 1]>::try_from(parts) {
            Ok([name]) => Ok(name),
            Err(_) => Err(PatternError::TooManyParts { text: text.to_owned(), parts: count, expected: "one name" }),
        }
    }

    /// Whether the name is matched; linear in its length.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            NamePattern::Literal(literal) => literal == name,
            NamePattern::Glob(pieces) => glob_matches(pieces, name),
        }
    }

    /// Whether it can only match one name.
    pub const fn is_literal(&self) -> bool {
        matches!(self, NamePattern::Literal(_))
    }
}

impl RelationPattern {
    /// Parses `schema.relation`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let parts = parse_parts(text)?;
        let count = parts.len();
        match <[NamePattern; 2]>::try_from(parts) {
            Ok([schema, relation]) => Ok(Self { schema, relation }),
            Err(_) if count == 1 => Err(PatternError::NoSchema(text.to_owned())),
            Err(_) => {
                Err(PatternError::TooManyParts { text: text.to_owned(), parts: count, expected: "schema.relation" })
            }
        }
    }

    /// Whether the relation is matched. `special` says that it is a system, toast, temporary or foreign one, which
    /// only a pattern without stars matches.
    pub fn matches(&self, schema: &str, relation: &str, special: bool) -> bool {
        (!special || self.is_literal()) && self.schema.matches(schema) && self.relation.matches(relation)
    }

    /// Whether it can only match one relation.
    pub const fn is_literal(&self) -> bool {
        self.schema.is_literal() && self.relation.is_literal()
    }
}

impl ColumnPattern {
    /// Parses `schema.relation.column`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let parts = parse_parts(text)?;
        let count = parts.len();
        match <[NamePattern; 3]>::try_from(parts) {
            Ok([schema, relation, column]) => Ok(Self { relation: RelationPattern { schema, relation }, column }),
            Err(_) if count < 3 => Err(PatternError::NotAColumn(text.to_owned())),
            Err(_) => Err(PatternError::TooManyParts {
                text: text.to_owned(),
                parts: count,
                expected: "schema.relation.column",
            }),
        }
    }

    /// Whether a column of the relation may be matched, special or not.
    pub fn concerns(&self, schema: &str, relation: &str) -> bool {
        self.relation.schema.matches(schema) && self.relation.relation.matches(relation)
    }

    /// Whether the column is matched; `special` as for [`RelationPattern::matches`].
    pub fn matches(&self, schema: &str, relation: &str, special: bool, column: &str) -> bool {
        self.relation.matches(schema, relation, special) && self.column.matches(column)
    }

    /// Whether it can only match one column.
    pub const fn is_literal(&self) -> bool {
        self.relation.is_literal() && self.column.is_literal()
    }
}

/// The pattern that matches these names and nothing else, quoted where need be: `public."Order Items"`.
pub fn literal(names: &[&str]) -> String {
    let part = |name: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(plain) {
            (*name).to_owned()
        } else {
            format!("\"{}\"", name.replace('"', "\"\""))
        }
    };
    names.iter().map(part).collect::<Vec<_>>().join(".")
}

/// Splits at the dots outside of quotes; each part becomes a name or a glob.
fn parse_parts(text: &str) -> Result<Vec<NamePattern>, PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TextTooLong);
    }
    if text.contains('\0') {
        return Err(PatternError::Nul);
    }
    let mut parts = Vec::new();
    let mut part = Part::default();
    let mut chars = text.chars().peekable();
    while let Some(character) = chars.next() {
        match character {
            '"' => {
                part.begun = true;
                loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            part.piece.push('"');
                        }
                        Some('"') => break,
                        Some(quoted) => part.piece.push(quoted),
                        None => return Err(PatternError::OpenQuote(text.to_owned())),
                    }
                }
            }
            '.' => parts.push(std::mem::take(&mut part).finish(text)?),
            '*' => {
                part.begun = true;
                part.pieces.push(std::mem::take(&mut part.piece));
            }
            // An identifier can't begin with these, so a reader might take them for something else.
            '0'..='9' | '$' if !part.begun => {
                return Err(PatternError::NeedsQuotes { text: text.to_owned(), character });
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '$' => {
                part.begun = true;
                part.piece.push(character.to_ascii_lowercase());
            }
            // Postgres folds ASCII only in a UTF-8 database; `É` stays `É`.
            letter if !letter.is_ascii() && letter.is_alphanumeric() => {
                part.begun = true;
                part.piece.push(letter);
            }
            _ => return Err(PatternError::NeedsQuotes { text: text.to_owned(), character }),
        }
    }
    parts.push(part.finish(text)?);
    Ok(parts)
}

/// A part while it is read.
#[derive(Default)]
struct Part {
    /// Anything was read, an empty pair of quotes too.
    begun: bool,
    /// Pieces before the stars read so far.
    pieces: Vec<String>,
    /// The piece after the last star.
    piece: String,
}

impl Part {
    fn finish(self, text: &str) -> Result<NamePattern, PatternError> {
        let Part { begun: _, mut pieces, piece } = self;
        if pieces.is_empty() {
            if piece.is_empty() {
                return Err(PatternError::EmptyPart(text.to_owned()));
            }
            if piece.len() > MAX_NAME_BYTES {
                return Err(PatternError::NameTooLong(text.to_owned()));
            }
            return Ok(NamePattern::Literal(piece));
        }
        pieces.push(piece);
        // `**` means no more than `*`: drop the empty pieces between stars.
        let last = pieces.len() - 1;
        let mut index = 0;
        pieces.retain(|piece| {
            let keep = index == 0 || index == last || !piece.is_empty();
            index += 1;
            keep
        });
        if pieces.iter().map(String::len).sum::<usize>() > MAX_NAME_BYTES {
            return Err(PatternError::NameTooLong(text.to_owned()));
        }
        Ok(NamePattern::Glob(pieces))
    }
}

/// The first piece is a prefix, the last a suffix, and each between is taken where it first fits: with stars only
/// there is nothing to try again, so this never goes back.
fn glob_matches(pieces: &[String], name: &str) -> bool {
    let Some((first, rest)) = pieces.split_first() else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return first == name;
    };
    let Some(name) = name.strip_prefix(first.as_str()) else {
        return false;
    };
    let Some(mut name) = name.strip_suffix(last.as_str()) else {
        return false;
    };
    for piece in middle {
        match name.split_once(piece.as_str()) {
            Some((_, after)) => name = after,
            None => return false,
        }
    }
    true
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamePattern::Literal(name) => write_piece(f, name, true),
            NamePattern::Glob(pieces) => {
                for (index, piece) in pieces.iter().enumerate() {
                    if index > 0 {
                        f.write_str("*")?;
                    }
                    if !piece.is_empty() {
                        write_piece(f, piece, index == 0)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Writes a piece so that it parses as itself again.
fn write_piece(f: &mut fmt::Formatter<'_>, piece: &str, at_start: bool) -> fmt::Result {
    let plain = piece.chars().all(|c| match c {
        'a'..='z' | '0'..='9' | '_' | '$' => true,
        'A'..='Z' => false,
        other => !other.is_ascii() && other.is_alphanumeric(),
    });
    let starts_plain = !at_start || !piece.starts_with(|c: char| c.is_ascii_digit() || c == '$');
    if plain && starts_plain && !piece.is_empty() {
        f.write_str(piece)
    } else {
        write!(f, "\"{}\"", piece.replace('"', "\"\""))
    }
}

impl fmt::Display for RelationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.relation)
    }
}

impl fmt::Display for ColumnPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.relation, self.column)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn names_match_as_postgres_folds_and_quotes_them() {
        for (pattern, name, expected) in [
            ("customers", "customers", true),
            ("Customers", "customers", true),
            ("Customers", "Customers", false),
            ("\"Customers\"", "Customers", true),
            ("\"Customers\"", "customers", false),
            ("\"Order Items\"", "Order Items", true),
            ("\"a\"\"b\"", "a\"b", true),
            ("\"*\"", "*", true),
            ("\"*\"", "anything", false),
            ("\"a.b\"", "a.b", true),
            ("Émile", "Émile", true),
            ("ÉMILE", "Émile", true),
            ("éMILE", "Émile", false),
            ("*", "", true),
            ("*", "x", true),
            ("**", "x", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("A*", "abc", true),
            ("a*", "Abc", false),
            ("\"A\"*", "Abc", true),
            ("\"A\"*", "abc", false),
            ("*_old", "customers_old", true),
            ("*_old", "_old", true),
            ("*_old", "old", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*a*a*", "a", false),
            ("*a*a*", "xaxax", true),
            ("pg_*", "pg_class", true),
            ("pg_*", "pgx", false),
            ("a$b", "a$b", true),
            ("\"2024\"*", "2024_orders", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).unwrap().matches(name), expected, "{pattern} ~ {name}");
        }
    }

    #[test]
    fn stars_do_not_match_system_toast_temporary_or_foreign_relations() {
        for (pattern, special, expected) in [
            ("pg_catalog.pg_class", true, true),
            ("pg_catalog.*", true, false),
            ("*.pg_class", true, false),
            ("*.*", true, false),
            ("*.*", false, true),
            ("pg_catalog.pg_class", false, true),
        ] {
            let pattern = RelationPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches("pg_catalog", "pg_class", special), expected, "{pattern} {special}");
        }
        let all = ColumnPattern::parse("*.*.email").unwrap();
        assert!(all.matches("public", "customers", false, "email"));
        assert!(!all.matches("public", "foreign_customers", true, "email"));
        let named = ColumnPattern::parse("public.foreign_customers.*").unwrap();
        assert!(
            named.matches("public", "foreign_customers", true, "email"),
            "a star for the column alone is no glob over relations"
        );
    }

    #[test]
    fn mistakes_are_told_apart() {
        use PatternError as E;
        let text = |s: &str| s.to_owned();
        let long = "x".repeat(64);
        for (pattern, expected) in [
            ("", E::Empty),
            ("customers", E::NoSchema(text("customers"))),
            ("a.b.c", E::TooManyParts { text: text("a.b.c"), parts: 3, expected: "schema.relation" }),
            ("a.", E::EmptyPart(text("a."))),
            (".a", E::EmptyPart(text(".a"))),
            ("a..b", E::EmptyPart(text("a..b"))),
            ("a.\"\"", E::EmptyPart(text("a.\"\""))),
            ("a.\"b", E::OpenQuote(text("a.\"b"))),
            ("a.b c", E::NeedsQuotes { text: text("a.b c"), character: ' ' }),
            (" a.b", E::NeedsQuotes { text: text(" a.b"), character: ' ' }),
            ("a.order-items", E::NeedsQuotes { text: text("a.order-items"), character: '-' }),
            ("a.1b", E::NeedsQuotes { text: text("a.1b"), character: '1' }),
            ("a.b\u{200b}", E::NeedsQuotes { text: text("a.b\u{200b}"), character: '\u{200b}' }),
            ("a.b\u{a0}", E::NeedsQuotes { text: text("a.b\u{a0}"), character: '\u{a0}' }),
            ("a.b\u{202e}", E::NeedsQuotes { text: text("a.b\u{202e}"), character: '\u{202e}' }),
            ("a.b?", E::NeedsQuotes { text: text("a.b?"), character: '?' }),
            ("a.b\0", E::Nul),
            (&format!("a.{long}"), E::NameTooLong(format!("a.{long}"))),
            (&format!("a.{long}*"), E::NameTooLong(format!("a.{long}*"))),
            (&"é".repeat(400), E::TextTooLong),
        ] {
            assert_eq!(RelationPattern::parse(pattern), Err(expected), "{pattern:?}");
        }
        assert_eq!(ColumnPattern::parse("a.b"), Err(E::NotAColumn(text("a.b"))));
        assert!(RelationPattern::parse(&format!("a.{}", &long[1..])).is_ok());
    }

    #[test]
    fn a_pattern_reads_as_itself_again() {
        for pattern in [
            "public.customers",
            "\"Public\".\"a\"\"b\"",
            "*.*",
            "a*b*.c*",
            "\"A\"*.*\"Z\"",
            "\"2024\"*.x",
            "\"a b\".\"*\"",
            "\"$x\".y$",
            "é.*2024",
        ] {
            let parsed = RelationPattern::parse(pattern).unwrap();
            assert_eq!(parsed.to_string(), pattern);
            assert_eq!(RelationPattern::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }

    #[test]
    fn a_glob_takes_no_exponential_time() {
        let pattern = NamePattern::parse(&"a*".repeat(60)).unwrap();
        let name = "a".repeat(1 << 20);
        let start = std::time::Instant::now();
        assert!(pattern.matches(&name));
        assert!(!pattern.matches(&format!("{}b", "c".repeat(1 << 20))));
        let tail = NamePattern::parse(&format!("{}b", "a*".repeat(60))).unwrap();
        assert!(!tail.matches(&name));
        assert!(start.elapsed() < std::time::Duration::from_secs(10));
    }

    /// The plain definition of a glob, as slow as it likes.
    fn reference(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skipped| reference(rest, &name[skipped..])),
            Some((first, rest)) => name.first() == Some(first) && reference(rest, &name[1..]),
        }
    }

    proptest::proptest! {
        #[test]
        fn a_glob_matches_what_its_definition_says(pattern in "[ab*é]{1,8}", name in "[abé]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let parsed = NamePattern::parse(&pattern).unwrap();
            assert_eq!(parsed.matches(&name), reference(&chars(&pattern), &chars(&name)), "{pattern} ~ {name}");
        }

        #[test]
        fn any_name_in_quotes_is_that_name(name in "[^\\x00]{1,15}") {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            let pattern = NamePattern::parse(&quoted).unwrap();
            assert_eq!(pattern, NamePattern::Literal(name));
            assert_eq!(NamePattern::parse(&pattern.to_string()).unwrap(), pattern);
        }

        #[test]
        fn whatever_parses_is_written_so_that_it_parses_as_itself(text in "[aB1$*.\" é_-]{0,12}") {
            if let Ok(pattern) = ColumnPattern::parse(&text) {
                assert_eq!(ColumnPattern::parse(&pattern.to_string()).unwrap(), pattern, "{text}");
            }
        }
    }

    #[test]
    fn a_literal_pattern_matches_its_names_and_nothing_else() {
        for (schema, name) in [
            ("public", "orders"),
            ("public", "Order Items"),
            ("a.b", "c*"),
            ("1", "x\"y"),
            ("s", "É"),
            ("_", "select"),
            ("s", "\n"),
        ] {
            let pattern = RelationPattern::parse(&literal(&[schema, name])).unwrap();
            assert!(pattern.is_literal(), "{schema}.{name}");
            assert!(pattern.matches(schema, name, true), "{schema}.{name}");
        }
        assert_eq!(literal(&["public", "Order Items"]), "public.\"Order Items\"");
    }
}
