//! A statement's shape: its text without its literals. Statements of one shape share a decision wherever no decision
//! depends on a literal.
//!
//! **Promise.** Two texts of one shape consist of the same tokens but for the values of their literals. [`shape`] reads
//! only what it knows for certain (quoted strings without prefix, plain numbers, names, operators) and gives up on all
//! else: comments, dollar quotes, `E''`, `U&''`, strings continued over lines. It is held against the server's own
//! scanner once per shape, in [`Shape::is_exact`]. Up to a literal both texts are the same to the byte, so the scanner
//! comes to it in the same state; the literal is whole in itself, and the byte behind it is the same again.

use std::ops::Range;

use pg_query::protobuf::Token;

/// Longest text that has a shape: longer ones are data more than they are statements.
const MAX_TEXT: usize = 8 << 10;
/// Most literals.
const MAX_LITERALS: usize = 64;
/// Stands for a literal in a key; such a byte is in no text that has a shape.
const MARK: char = '\u{1}';

/// What a literal is. The parser gives each its own type, so that they never stand for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralKind {
    /// A quoted string.
    Text,
    /// A whole number that fits an integer.
    Integer,
    /// One that fits a bigint.
    Bigint,
    /// Any other number.
    Numeric,
}

/// A literal in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Its bytes, with quotes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: LiteralKind,
}

/// The shape of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Equal for texts of one shape.
    pub key: String,
    /// The literals, in order.
    pub literals: Vec<Literal>,
}

/// The shape of a text; None if it has none that is certain, or no literals.
pub fn shape(text: &str) -> Option<Shape> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_TEXT {
        return None;
    }
    let mut shape = Shape { key: String::with_capacity(text.len()), literals: Vec::new() };
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        let literal = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => None,
            0..=31 | 127 => return None,
            b'-' if next == Some(&b'-') => return None,
            b'/' if next == Some(&b'*') => return None,
            b'.' if next.is_some_and(u8::is_ascii_digit) => return None,
            b'$' => {
                // A parameter; a dollar quote does not start with a digit.
                let end = end_of(bytes, at + 1, u8::is_ascii_digit);
                if end == at + 1 || bytes.get(end).is_some_and(is_of_name) {
                    return None;
                }
                at = end;
                continue;
            }
            b'"' => {
                at = end_of_quoted(bytes, at, b'"')?;
                continue;
            }
            b'\'' => {
                let end = end_of_quoted(bytes, at, b'\'')?;
                let blank = end_of(bytes, end, u8::is_ascii_whitespace);
                // Deparsing makes another literal of one with a backslash.
                let has_backslash = bytes.get(at..end).is_some_and(|literal| literal.contains(&b'\\'));
                if has_backslash || bytes.get(blank) == Some(&b'\'') {
                    return None;
                }
                Some((end, LiteralKind::Text))
            }
            b'0'..=b'9' => Some(number(text, at)?),
            byte if is_of_name(byte) => {
                let end = end_of(bytes, at, is_of_name);
                // `E''`, `B''`, `U&""` and their like.
                let prefix = matches!(bytes.get(end), Some(b'\''))
                    || matches!((bytes.get(end), bytes.get(end + 1)), (Some(b'&'), Some(b'\'' | b'"')));
                if prefix {
                    return None;
                }
                at = end;
                continue;
            }
            _ => None,
        };
        let Some((end, kind)) = literal else {
            at += 1;
            continue;
        };
        if shape.literals.len() == MAX_LITERALS {
            return None;
        }
        shape.key.push_str(text.get(copied..at)?);
        shape.key.push(MARK);
        shape.key.push(match kind {
            LiteralKind::Text => 't',
            LiteralKind::Integer => 'i',
            LiteralKind::Bigint => 'b',
            LiteralKind::Numeric => 'n',
        });
        shape.literals.push(Literal { range: at..end, kind });
        at = end;
        copied = end;
    }
    shape.key.push_str(text.get(copied..)?);
    (!shape.literals.is_empty()).then_some(shape)
}

impl Shape {
    /// The text of a literal.
    pub fn literal<'t>(&self, text: &'t str, index: usize) -> &'t str {
        self.literals.get(index).and_then(|literal| text.get(literal.range.clone())).unwrap_or_default()
    }

    /// The key of texts that are of this shape and have the same literals wherever they are not `free`.
    pub fn key_with(&self, text: &str, free: &[bool]) -> String {
        let mut key = self.key.clone();
        for index in (0..self.literals.len()).filter(|index| free.get(*index) != Some(&true)) {
            key.push(MARK);
            key.push_str(self.literal(text, index));
        }
        key
    }

    /// Whether the server's scanner finds the same literals in the text, and nothing that this one doesn't know.
    pub fn is_exact(&self, text: &str) -> bool {
        let Ok(tokens) = super::measure::scan(text) else { return false };
        let mut expected = self.literals.iter();
        let same = tokens.iter().all(|token| {
            let kinds: &[LiteralKind] = match token.token() {
                Token::Sconst => &[LiteralKind::Text],
                Token::Iconst => &[LiteralKind::Integer],
                Token::Fconst => &[LiteralKind::Bigint, LiteralKind::Numeric],
                Token::Usconst | Token::Bconst | Token::Xconst | Token::Uident => return false,
                Token::SqlComment | Token::CComment => return false,
                _ => return true,
            };
            expected.next().is_some_and(|literal| {
                let range = usize::try_from(token.start).ok()..usize::try_from(token.end).ok();
                kinds.contains(&literal.kind) && range == (Some(literal.range.start)..Some(literal.range.end))
            })
        });
        same && expected.next().is_none()
    }

    /// The text with other literals in place of the `free` ones, of the same kinds, and what they are.
    pub fn with_strangers(&self, text: &str, free: &[bool]) -> (String, Vec<String>) {
        let mut out = String::with_capacity(text.len() + 16 * self.literals.len());
        let mut strangers = Vec::with_capacity(self.literals.len());
        let mut copied = 0;
        for (index, literal) in self.literals.iter().enumerate() {
            let stranger = match literal.kind {
                _ if free.get(index) != Some(&true) => self.literal(text, index).to_owned(),
                LiteralKind::Text => format!("'postern literal {index} of a shape'"),
                LiteralKind::Integer => format!("{}", 1_973_180_000 + index),
                LiteralKind::Bigint => format!("{}", 7_421_973_180_000_000_u64 + index as u64),
                LiteralKind::Numeric => format!("{}.5", 1_973_180_000 + index),
            };
            out.push_str(text.get(copied..literal.range.start).unwrap_or_default());
            out.push_str(&stranger);
            strangers.push(stranger);
            copied = literal.range.end;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        (out, strangers)
    }
}

/// A text with places for literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What stands before each place, and which literal goes there.
    parts: Vec<(Box<str>, usize)>,
    tail: Box<str>,
}

impl Template {
    /// Makes places of the strangers in a text. None if one that is `free` is not in it, or not as a whole token.
    pub fn new(text: &str, strangers: &[String], free: &[bool]) -> Option<Self> {
        let mut found: Vec<(usize, usize, usize)> = Vec::new();
        for (index, stranger) in strangers.iter().enumerate().filter(|(index, _)| free.get(*index) == Some(&true)) {
            let before = found.len();
            for (start, _) in text.match_indices(stranger.as_str()) {
                let end = start + stranger.len();
                let touches = |byte: Option<&u8>| {
                    byte.is_some_and(|byte| is_of_name(byte) || matches!(byte, b'\'' | b'"' | b'.' | b'&'))
                };
                let bytes = text.as_bytes();
                if touches(start.checked_sub(1).and_then(|before| bytes.get(before))) || touches(bytes.get(end)) {
                    return None;
                }
                found.push((start, end, index));
            }
            if found.len() == before {
                return None;
            }
        }
        found.sort_unstable();
        let (mut parts, mut copied) = (Vec::with_capacity(found.len()), 0);
        for (start, end, index) in found {
            parts.push((text.get(copied..start)?.into(), index));
            copied = end;
        }
        Some(Self { parts, tail: text.get(copied..)?.into() })
    }

    /// The text with the literals of another one in its places.
    pub fn fill(&self, shape: &Shape, text: &str) -> String {
        let mut out = String::with_capacity(self.weight() + text.len());
        for (before, index) in &self.parts {
            out.push_str(before);
            out.push_str(shape.literal(text, *index));
        }
        out.push_str(&self.tail);
        out
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        self.tail.len() + self.parts.iter().map(|(before, _)| before.len() + 32).sum::<usize>()
    }
}

/// Letters, digits and what else may be in a name.
fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80
}

fn end_of(bytes: &[u8], from: usize, is: impl Fn(&u8) -> bool) -> usize {
    from + bytes.iter().skip(from).take_while(|byte| is(byte)).count()
}

/// Behind the closing quote; a doubled one is none.
fn end_of_quoted(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from + 1;
    loop {
        at = end_of(bytes, at, |byte| *byte != quote);
        bytes.get(at)?;
        at += 1;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// Where a number ends, and what it is.
fn number(text: &str, from: usize) -> Option<(usize, LiteralKind)> {
    let bytes = text.as_bytes();
    let mut end = end_of(bytes, from, u8::is_ascii_digit);
    let mut kind = match text.get(from..end)?.parse::<u64>() {
        // `-0` is 0, which has no sign to be written with.
        Ok(0) if text.get(..from)?.trim_ascii_end().ends_with('-') => return None,
        // With a minus before it the next one is an integer again: it is left alone.
        Ok(value) if value < 0x8000_0000 => LiteralKind::Integer,
        Ok(0x8000_0000) => return None,
        Ok(value) if value < 1 << 63 => LiteralKind::Bigint,
        Ok(0x8000_0000_0000_0000) => return None,
        _ => LiteralKind::Numeric,
    };
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = end_of(bytes, end + 1, u8::is_ascii_digit);
        kind = LiteralKind::Numeric;
    }
    // An exponent, `0x1F`, `1_000`, `1..2`, junk behind a number, and leading zeros, which deparsing drops, are left alone.
    let is_padded = bytes.get(from) == Some(&b'0') && bytes.get(from + 1).is_some_and(u8::is_ascii_digit);
    let ends = !is_padded && !bytes.get(end).is_some_and(|byte| is_of_name(byte) || *byte == b'.');
    ends.then_some((end, kind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> String {
        shape(text).unwrap().key.replace(MARK, "?")
    }

    #[test]
    fn literals_are_left_out_and_all_else_stays() {
        assert_eq!(key("SELECT a1, \"b'2\" FROM t WHERE id = 5"), "SELECT a1, \"b'2\" FROM t WHERE id = ?i");
        assert_eq!(key("x = 'it''s' AND y=-7"), "x = ?t AND y=-?i");
        assert_eq!(key("x IN (1,2.5,3000000000,99999999999999999999)"), "x IN (?i,?n,?b,?n)");
        assert_eq!(key("x = 'a -- b /* c $$' AND $1 = 1"), "x = ?t AND $1 = ?i");
        assert_eq!(key("x = 'ä' AND ö1 = ''"), "x = ?t AND ö1 = ?t");
    }

    #[test]
    fn what_is_not_certain_has_no_shape() {
        for text in [
            "SELECT E'a'",
            "SELECT U&'a'",
            "SELECT b'1'",
            "SELECT N'a'",
            "SELECT U&\"a\", 1",
            "SELECT 'a' -- b",
            "SELECT /* a */ 1",
            "SELECT $$a$$, 1",
            "SELECT $a$a$a$, 1",
            "SELECT 'a'\n'b'",
            "SELECT 'a",
            "SELECT \"a, 1",
            "SELECT 1e5",
            "SELECT 0x1F",
            "SELECT 1_000",
            "SELECT 050",
            "SELECT - 0",
            "SELECT 'a\\'",
            "SELECT 00.5",
            "SELECT .5",
            "SELECT 1.",
            "SELECT 1..2",
            "SELECT 1a",
            "SELECT 2147483648",
            "SELECT 9223372036854775808",
            "SELECT $1a, 1",
            "SELECT 1 \u{1}",
            "SELECT a",
        ] {
            assert_eq!(shape(text), None, "{text}");
        }
    }

    #[test]
    fn a_template_is_filled_with_the_literals_of_another_text() {
        let text = "SELECT * FROM t WHERE id = 5 AND name = 'x' AND k = 7";
        let shape_of_text = shape(text).unwrap();
        let free = [true, true, false];
        let (strange, strangers) = shape_of_text.with_strangers(text, &free);
        let rewritten = format!("{strange} OR id = {}", strangers.first().unwrap());
        let template = Template::new(&rewritten, &strangers, &free).unwrap();
        let other = "SELECT * FROM t WHERE id = 66 AND name = 'y''; DROP' AND k = 7";
        let shape_of_other = shape(other).unwrap();
        assert_eq!(shape_of_other.key, shape_of_text.key);
        assert_eq!(shape_of_other.key_with(other, &free), shape_of_text.key_with(text, &free));
        assert_eq!(template.fill(&shape_of_other, other), format!("{other} OR id = 66"));
        assert_eq!(Template::new("no place", &strangers, &free), None);
        assert_eq!(Template::new(&rewritten.replace("= 'postern", "=E'postern"), &strangers, &free), None);
    }

    proptest! {
        #[test]
        fn texts_of_one_shape_have_the_same_tokens(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "SELECT", " ", "a", "\"q\"", ",", "=", "-", "(", ")", "'", "''", "'s'", "'o''k'", "1", "12", "1.5", "E",
                    "U&", "$1", "$$", "--", "/*", "*/", "\n", ".", "e", "_", "\\", "::", "int", "ä", "&", "3000000000", ";",
                ]),
                1..14,
            ),
            value in prop::sample::select(vec!["7", "123", "'z'", "''''", "2.25", "4000000000", "'--'", "'/*'", "'\\'"]),
        ) {
            let text = parts.concat();
            let Some(shape_of_text) = shape(&text) else { return Ok(()) };
            prop_assume!(shape_of_text.is_exact(&text));
            for index in 0..shape_of_text.literals.len() {
                let mut other = text.clone();
                other.replace_range(shape_of_text.literals.get(index).unwrap().range.clone(), value);
                let Some(shape_of_other) = shape(&other) else { continue };
                if shape_of_other.key == shape_of_text.key {
                    prop_assert!(shape_of_other.is_exact(&other), "{text} / {other}");
                    let kinds = |text: &str| {
                        let tokens = crate::sql::measure::scan(text).unwrap();
                        tokens.iter().map(|token| token.token).collect::<Vec<_>>()
                    };
                    prop_assert_eq!(kinds(&text), kinds(&other));
                }
            }
        }
    }
}
