//! What the audit keeps of a statement's text, and the texts of the statements in a string of several.

use std::fmt::Write as _;
use std::sync::Arc;

use pg_query::protobuf::{self, Token};
use sha2::{Digest, Sha256};

use super::{ParseLimits, deep, measure, parse_measured};

/// The text with each literal replaced by `$n`, comments left out, white space made one blank; runs of literals in
/// lists are shortened. A text that can't be scanned gives its first word only.
///
/// Works on tokens, so it holds for every kind of statement and for ones that don't parse.
pub fn normalize(text: &str) -> String {
    let Ok(tokens) = super::measure::scan(text) else {
        let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).take(20).collect();
        return format!("{word} …");
    };
    let mut out = String::with_capacity(text.len().min(4096));
    let mut next = 1 + tokens
        .iter()
        .filter(|token| token.token() == Token::Param)
        .filter_map(|token| piece(text, token).get(1..)?.parse::<u32>().ok())
        .max()
        .unwrap_or(0);
    let mut glue = true;
    let mut list = List::None;
    let mut end = None;
    for token in &tokens {
        let kind = token.token();
        if matches!(kind, Token::SqlComment | Token::CComment) {
            continue;
        }
        let literal = matches!(
            kind,
            Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst | Token::Iconst | Token::Fconst
        );
        let value = literal || kind == Token::Param;
        list = match (list, value, kind) {
            (List::Comma | List::Skip, true, _) => List::Skip,
            (_, true, _) => List::Literal,
            (List::Literal, _, Token::Ascii44) => List::Comma,
            (List::Skip, _, Token::Ascii44) => List::Skip,
            _ => List::None,
        };
        let text = if literal { "" } else { piece(text, token) };
        if list == List::Skip {
            if !out.ends_with('…') && value {
                out.push_str(" …");
            }
            end = Some(token.end);
            continue;
        }
        // Operators and names keep the distance that they had, reduced to one blank.
        let apart = end.is_some_and(|end| end < token.start);
        if !glue && (apart || literal) && !out.ends_with(['(', '[', ' ']) {
            out.push(' ');
        }
        glue = false;
        end = Some(token.end);
        if literal {
            let _ = write!(out, "${next}");
            next += 1;
        } else if kind == Token::Ident && !text.starts_with(['"', 'U', 'u']) {
            out.push_str(&text.to_lowercase());
        } else {
            out.push_str(text);
        }
    }
    out
}

/// Where in a list of literals a token stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    /// The last was a literal.
    Literal,
    /// The last was the comma behind one.
    Comma,
    /// Literals from the second on, and the commas between them.
    Skip,
}

fn piece<'t>(text: &'t str, token: &protobuf::ScanToken) -> &'t str {
    let start = usize::try_from(token.start).unwrap_or(usize::MAX);
    let end = usize::try_from(token.end).unwrap_or(0);
    text.get(start..end).unwrap_or("")
}

/// A fingerprint of a normalized text: 16 hex digits, equal for statements that differ in literals, comments, white
/// space and the case of words.
pub fn fingerprint(normalized: &str) -> String {
    let mut hash = Sha256::new();
    for (index, part) in normalized.split('"').enumerate() {
        // What stands in double quotes keeps its case.
        if index % 2 == 0 {
            for word in part.split_whitespace() {
                hash.update(word.to_lowercase());
                hash.update(b" ");
            }
        } else {
            hash.update(part);
        }
        hash.update(b"\"");
    }
    hash.finalize().iter().take(8).fold(String::with_capacity(16), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The text of each statement of a tree, in order, without the semicolon and the blanks around it.
pub fn split<'t>(text: &'t str, tree: &protobuf::ParseResult) -> Vec<&'t str> {
    tree.stmts
        .iter()
        .map(|statement| {
            let start = usize::try_from(statement.stmt_location).unwrap_or(0);
            let end = match usize::try_from(statement.stmt_len) {
                // Zero stands for the rest of the text.
                Ok(0) | Err(_) => text.len(),
                Ok(length) => start + length,
            };
            text.get(start..end).unwrap_or("").trim()
        })
        .collect()
}

/// The statements of a text, to be sent one by one; None for a text that is too long or too deep to be parsed here, or
/// that is no SQL.
pub fn statements(text: &str) -> Option<Vec<Arc<str>>> {
    let measure = measure(text, &ParseLimits::default()).ok().filter(deep::is_inline)?;
    let parsed = parse_measured(text, measure).ok()?;
    Some(split(text, &parsed.tree).into_iter().map(Arc::from).collect())
}

/// Where in the client's text a place of the rewritten text is: that of the same word or quoted literal, if the client
/// wrote it just once, or it stands in both as often. Both count in characters from 1.
pub fn original_position(original: &str, rewritten: &str, position: usize) -> Option<usize> {
    let start = rewritten.char_indices().nth(position.checked_sub(1)?)?.0;
    let token = token(rewritten.get(start..)?);
    if token.is_empty() {
        return None;
    }
    let sent: Vec<usize> = places(rewritten, token).collect();
    let written: Vec<usize> = places(original, token).collect();
    let which = match written.as_slice() {
        [_] => 0,
        // Where none was added they stand in the same order.
        _ => sent.iter().position(|at| *at == start).filter(|_| sent.len() == written.len())?,
    };
    let at = written.get(which)?;
    Some(original.get(..*at).map_or(0, |text| text.chars().count()) + 1)
}

/// Where a token stands in a text.
fn places<'a>(text: &'a str, token: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(token).map(|(at, _)| at).filter(move |at| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        let from = text.get(*at..).unwrap_or_default();
        !before.is_some_and(is_of_word) && self::token(from).len() == token.len()
    })
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The word or quoted literal at the start of a text; empty if there is neither. Of a literal with a quote in it, the
/// part before that.
fn token(text: &str) -> &str {
    let end = match text.strip_prefix('\'') {
        Some(literal) => literal.find('\'').map_or(0, |end| end + 2),
        None => text.find(|c| !is_of_word(c)).unwrap_or(text.len()),
    };
    text.get(..end).unwrap_or_default()
}
