//! From a tree to text, with the proof that the text means the tree.

use pg_query::protobuf;

use super::digest::{Unhashable, digest};
use super::{as_server_reads, parse_unbounded, refuse};
use crate::decide::{Denial, Reason};

/// Deparses a tree and proves that the text, parsed again, is that tree. Call it on a deep stack if the tree is deep.
pub fn emit(tree: &protobuf::ParseResult) -> Result<String, Denial> {
    let text = deparse_unproven(tree)?;
    prove(&text, digest(tree))?;
    Ok(text)
}

/// Like [`emit`], for a tree that nobody needs any more: it is gone before the text is parsed again, so that a large
/// statement never has two trees in memory. The proof is about what a server of this version reads.
pub fn emit_owned(tree: protobuf::ParseResult, server_version: u32) -> Result<String, Denial> {
    let text = deparse_unproven(&tree)?;
    let wanted = digest(&tree);
    drop(tree);
    prove(&as_server_reads(&text, server_version)?, wanted)?;
    Ok(text)
}

/// Deparses without proof: for what people read, never for what is sent.
pub fn deparse_unproven(tree: &protobuf::ParseResult) -> Result<String, Denial> {
    pg_query::deparse(tree, pg_query::DeparseOptions::default()).map_err(|error| match refuse(error) {
        // The deparser reports what it can't write as a parse error; that is no mistake of the client's.
        denial if denial.reason == Reason::Syntax => {
            Denial::new(Reason::Unsupported, "the proxy can't write this form of statement").sqlstate("0A000")
        }
        denial => denial,
    })
}

/// One place where a text is changed: the bytes from `start` to `end` are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// First byte replaced.
    pub start: usize,
    /// Byte behind the last one replaced; equal to `start` for an insertion.
    pub end: usize,
    /// What stands there instead.
    pub text: String,
}

/// A text with its edits made, which knows where its parts came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The new text.
    pub text: String,
    /// For each edit, in characters: where it starts in the new text, where it ends there, and where it ends and starts
    /// in the old one.
    moves: Vec<Move>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    new_start: usize,
    new_end: usize,
    old_start: usize,
    old_end: usize,
}

impl Spliced {
    /// The position in the client's text of a position (from 1, in characters) that the server reports for the new one.
    pub fn original_position(&self, position: usize) -> usize {
        let offset = position.saturating_sub(1);
        let mut shift = (0usize, 0usize);
        for edit in &self.moves {
            if offset < edit.new_start {
                break;
            }
            if offset < edit.new_end {
                return edit.old_start + 1;
            }
            shift = (edit.new_end, edit.old_end);
        }
        shift.1 + (offset - shift.0) + 1
    }
}

/// Makes edits in the client's own text, which keeps its comments and positions, and proves that the result is `tree`.
///
/// Edits may come in any order; ones that overlap are refused.
pub fn splice(original: &str, mut edits: Vec<Edit>, tree: &protobuf::ParseResult) -> Result<Spliced, Denial> {
    let broken = || Denial::new(Reason::Internal, "an edit does not fit the statement").sqlstate("XX000");
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let mut text = String::with_capacity(original.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut moves = Vec::with_capacity(edits.len());
    let (mut done, mut new_chars, mut old_chars) = (0, 0, 0);
    for edit in &edits {
        let kept = original.get(done..edit.start).ok_or_else(broken)?;
        let replaced = original.get(edit.start..edit.end).ok_or_else(broken)?;
        text.push_str(kept);
        text.push_str(&edit.text);
        new_chars += kept.chars().count();
        old_chars += kept.chars().count();
        let (new_start, old_start) = (new_chars, old_chars);
        new_chars += edit.text.chars().count();
        old_chars += replaced.chars().count();
        moves.push(Move { new_start, new_end: new_chars, old_start, old_end: old_chars });
        done = edit.end;
    }
    text.push_str(original.get(done..).ok_or_else(broken)?);
    prove(&text, digest(tree))?;
    Ok(Spliced { text, moves })
}

/// Proves that a text, parsed again, is the tree of a digest.
fn prove(text: &str, wanted: Result<[u8; 32], Unhashable>) -> Result<(), Denial> {
    let unproven = || {
        Denial::new(Reason::Unsupported, "the proxy can't prove that what it would send is what it decided on")
            .sqlstate("0A000")
            .hint("Write the statement in a plainer form.")
    };
    // The deparser adds parentheses, so a text may be too deep that was not before.
    let again = parse_unbounded(text).map_err(|denial| match denial.reason {
        Reason::Bounds => denial,
        _ => unproven(),
    })?;
    let (Ok(wanted), Ok(found)) = (wanted, digest(&again)) else { return Err(unproven()) };
    if wanted == found { Ok(()) } else { Err(unproven()) }
}
