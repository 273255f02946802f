//! What an older server reads otherwise than the parser, which has the grammar of Postgres 18.
//!
//! **Promise.** What [`as_server_reads`] gives means to the parser what the text means to a server of that version, or is a
//! syntax error for one of the two.
//! **Not covered.** Syntax that the server does not know and that is nothing else to it: it refuses that itself.

use std::borrow::Cow;

use pg_query::protobuf::{ScanToken, Token};

use super::measure::scan;
use super::refuse;
use crate::decide::{Denial, Reason};

/// The first server whose grammar reads every word as the parser does.
const NEWEST_WORDS: u32 = 170_000;
/// The first server that knows underscores in numbers, and hexadecimal, octal and binary ones. To 14 `1_000` is `1 AS _000`.
const NUMERALS: u32 = 160_000;

/// A text with the words in double quotes that are plain names to a server of this version (`server_version_num`), and
/// that the parser reads as something of their own: to 15 `system_user` is a column, and `json_array(a)` a call of
/// whatever function has that name.
pub fn as_server_reads(text: &str, server_version: u32) -> Result<Cow<'_, str>, Denial> {
    if server_version >= NEWEST_WORDS || !may_differ(text) {
        return Ok(Cow::Borrowed(text));
    }
    let tokens = scan(text).map_err(refuse)?;
    let mut read = String::new();
    let mut done = 0;
    for (index, token) in tokens.iter().enumerate() {
        let Some((start, end)) = place(token) else { continue };
        let Some(word) = text.get(start..end) else { continue };
        if server_version < NUMERALS && is_newer_number(token, word) {
            return Err(junk(word, start));
        }
        let is_call = || tokens.get(index + 1).is_some_and(|next| next.token() == Token::Ascii40);
        if is_name_before(token.token(), is_call).is_some_and(|since| server_version < since) {
            read.push_str(text.get(done..start).unwrap_or_default());
            read.push('"');
            read.push_str(&word.to_ascii_lowercase());
            read.push('"');
            done = end;
        }
    }
    if done == 0 {
        return Ok(Cow::Borrowed(text));
    }
    read.push_str(text.get(done..).unwrap_or_default());
    Ok(Cow::Owned(read))
}

/// Whether a text has anything that could be such a word or number, at a fraction of what its tokens cost. It may be in a
/// literal or a comment.
fn may_differ(text: &str) -> bool {
    let has = |word: &[u8]| text.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word));
    let number = |pair: &[u8]| matches!(pair, [b'0'..=b'9', b'_' | b'x' | b'X' | b'o' | b'O' | b'b' | b'B']);
    has(b"json") || has(b"system_user") || has(b"merge_action") || text.as_bytes().windows(2).any(number)
}

fn place(token: &ScanToken) -> Option<(usize, usize)> {
    Some((usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?))
}

/// The version in which a word stopped being a name like any other.
fn is_name_before(word: Token, is_call: impl Fn() -> bool) -> Option<u32> {
    match word {
        Token::SystemUser | Token::JsonArray | Token::JsonArrayagg | Token::JsonObject | Token::JsonObjectagg => {
            Some(160_000)
        }
        Token::JsonExists
        | Token::JsonQuery
        | Token::JsonScalar
        | Token::JsonSerialize
        | Token::JsonTable
        | Token::JsonValue
        | Token::MergeAction => Some(170_000),
        // Elsewhere it is the type, or a name to both.
        Token::Json if is_call() => Some(170_000),
        _ => None,
    }
}

fn is_newer_number(token: &ScanToken, text: &str) -> bool {
    matches!(token.token(), Token::Iconst | Token::Fconst)
        && (text.contains('_') || text.as_bytes().get(1).is_some_and(|second| b"xXoObB".contains(second)))
}

/// As 15 says it.
fn junk(number: &str, at: usize) -> Denial {
    let denial = Denial::new(Reason::Syntax, format!("trailing junk after numeric literal at or near \"{number}\""))
        .sqlstate("42601")
        .hint("Underscores in numbers, and hexadecimal, octal and binary ones, need Postgres 16.");
    Denial { position: u32::try_from(at).ok(), ..denial }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn words_are_names_to_servers_that_do_not_know_them() {
        for (version, text, read) in [
            (150_018, "SELECT System_User, 'system_user' FROM t", "SELECT \"system_user\", 'system_user' FROM t"),
            (160_001, "SELECT system_user", "SELECT system_user"),
            (150_018, "SELECT json_object('{a,1}'), a.json_array", "SELECT \"json_object\"('{a,1}'), a.\"json_array\""),
            (160_001, "SELECT JSON_VALUE(a, '$'), JSON_ARRAY(a)", "SELECT \"json_value\"(a, '$'), JSON_ARRAY(a)"),
            (160_001, "SELECT JSON (a), a::json, a IS JSON", "SELECT \"json\" (a), a::json, a IS JSON"),
            (160_001, "RETURNING merge_action()", "RETURNING \"merge_action\"()"),
            (
                170_000,
                "SELECT JSON(a), json_value(a, '$'), merge_action()",
                "SELECT JSON(a), json_value(a, '$'), merge_action()",
            ),
        ] {
            assert_eq!(as_server_reads(text, version).unwrap(), read, "{version}");
        }
    }

    #[test]
    fn numbers_that_16_brought_are_refused_before_it() {
        for number in ["1_000", "0x1F", "0O17", "0b1", "1_0.5", "1e1_0"] {
            let text = format!("SELECT {number}");
            assert_eq!(as_server_reads(&text, 160_001).unwrap(), text);
            let refused = as_server_reads(&text, 150_018).unwrap_err();
            assert_eq!((refused.sqlstate, refused.position), ("42601", Some(7)), "{number}");
        }
        let others = "SELECT 1000, 1.5, .5, 1e10, '1_000', a_1, \"0x1F\", $1";
        assert_eq!(as_server_reads(others, 140_000).unwrap(), others);
    }
}
