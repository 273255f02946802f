//! What a text is going to cost, counted from its tokens before it is parsed.

use std::sync::Arc;

use pg_query::protobuf::{ScanToken, Token};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{at_position, refuse};
use crate::decide::{Denial, Reason};

/// Bounds of one text.
#[derive(Clone, Copy, Debug)]
pub struct ParseLimits {
    /// Longest text in bytes.
    pub bytes: usize,
    /// Deepest nesting, in levels of parentheses and links of chains such as `a + b + c` or UNION.
    pub depth: usize,
    /// Most memory that parsing may take, as estimated.
    pub memory: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self { bytes: 16 << 20, depth: 5_000, memory: 256 << 20 }
    }
}

/// What was counted in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Its length.
    pub bytes: usize,
    /// Its tokens, comments left out.
    pub tokens: usize,
    /// Upper bound of the nesting of its tree, in levels.
    pub depth: usize,
    /// Estimate of the memory that parse, analysis and proof take together.
    pub memory: usize,
}

/// Counts a text, or refuses it.
pub fn measure(text: &str, limits: &ParseLimits) -> Result<Measure, Denial> {
    if text.len() > limits.bytes {
        return Err(Denial::new(
            Reason::Bounds,
            format!("a statement of {} bytes is longer than the limit of {}", text.len(), limits.bytes),
        )
        .sqlstate("54000"));
    }
    if text.as_bytes().contains(&0) {
        return Err(nul());
    }
    // The scanner itself takes about 50 bytes for each token, so a rough count stands before it.
    let rough = estimate(text.len(), rough_tokens(text));
    check_memory(rough, limits)?;
    let read = |text: &str| scan(text).map_err(refuse);
    let tokens = read(text).map_err(|denial| at_position(text, denial, |beginning| read(beginning).map(drop)))?;
    let mut nesting = Nesting::default();
    let mut count = 0;
    for token in &tokens {
        if matches!(token.token(), Token::SqlComment | Token::CComment) {
            continue;
        }
        count += 1;
        nesting.token(token);
    }
    let depth = nesting.finish();
    if depth > limits.depth {
        return Err(too_deep());
    }
    let memory = estimate(text.len(), count);
    check_memory(memory, limits)?;
    Ok(Measure { bytes: text.len(), tokens: count, depth, memory })
}

/// The tokens of a text, comments included.
pub(crate) fn scan(text: &str) -> pg_query::Result<Vec<ScanToken>> {
    // For a text without tokens the crate makes a slice of a null pointer.
    if text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)) {
        return Ok(Vec::new());
    }
    pg_query::scan_tokens(text)
}

/// Measured over IN lists, VALUES rows, operator chains and long literals: the parser in C, its message, the decoded
/// tree, one copy of it and the proof's second tree.
const BYTES_PER_TOKEN: usize = 480;
const BYTES_PER_BYTE: usize = 8;
const BYTES_ALWAYS: usize = 64 << 10;

const fn estimate(bytes: usize, tokens: usize) -> usize {
    BYTES_ALWAYS + bytes * BYTES_PER_BYTE + tokens * BYTES_PER_TOKEN
}

fn check_memory(memory: usize, limits: &ParseLimits) -> Result<(), Denial> {
    if memory <= limits.memory {
        return Ok(());
    }
    Err(Denial::new(
        Reason::Bounds,
        format!(
            "parsing this statement would take about {} MiB, more than the {} MiB that the proxy has for it",
            memory >> 20,
            limits.memory >> 20
        ),
    )
    .sqlstate("54000")
    .hint("Send long values as bind parameters, or rows by COPY, or in several statements."))
}

pub(super) fn too_deep() -> Denial {
    Denial::new(Reason::Bounds, "the statement is nested too deeply")
        .sqlstate("54001")
        .hint("Chains of operators, JOIN or UNION nest one level for each link.")
}

pub(super) fn nul() -> Denial {
    Denial::new(Reason::Bounds, "a statement can't hold a NUL byte").sqlstate("22021")
}

/// Counts tokens without memory, knowing literals, quoted names and comments; may be off by a little.
fn rough_tokens(text: &str) -> usize {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut count = 0;
    let mut index = 0;
    while index < bytes.len() {
        let byte = at(index);
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => index += 1,
            b'-' if at(index + 1) == b'-' => {
                while index < bytes.len() && !matches!(at(index), b'\n' | b'\r') {
                    index += 1;
                }
                // The scanner gives comments as tokens.
                count += 1;
            }
            b'/' if at(index + 1) == b'*' => {
                let mut depth = 0usize;
                while index < bytes.len() {
                    if at(index) == b'/' && at(index + 1) == b'*' {
                        depth += 1;
                        index += 2;
                    } else if at(index) == b'*' && at(index + 1) == b'/' {
                        depth -= 1;
                        index += 2;
                        if depth == 0 {
                            break;
                        }
                    } else {
                        index += 1;
                    }
                }
                count += 1;
            }
            b'\'' | b'"' => {
                let escapes = byte == b'\'' && index > 0 && matches!(at(index - 1), b'e' | b'E');
                index += 1;
                while index < bytes.len() {
                    if at(index) == byte {
                        index += 1;
                        break;
                    }
                    index += if escapes && at(index) == b'\\' { 2 } else { 1 };
                }
                count += 1;
            }
            b'$' => {
                let mut end = index + 1;
                while at(end).is_ascii_alphanumeric() || at(end) == b'_' || at(end) >= 0x80 {
                    end += 1;
                }
                let tag = text.get(index..=end).filter(|_| at(end) == b'$' && !at(index + 1).is_ascii_digit());
                index = match tag {
                    Some(tag) => text
                        .get(end + 1..)
                        .and_then(|rest| rest.find(tag))
                        .map_or(bytes.len(), |found| end + 1 + found + tag.len()),
                    None => end,
                };
                count += 1;
            }
            _ if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                while at(index).is_ascii_alphanumeric() || matches!(at(index), b'_' | b'$') || at(index) >= 0x80 {
                    index += 1;
                }
                count += 1;
            }
            _ => {
                index += 1;
                count += 1;
            }
        }
    }
    count
}

/// An upper bound of how deep the tree nests, from the stream of tokens.
///
/// A level is what stands between brackets, or between CASE and END. Within a level the links of a chain add up, since
/// a chain nests to the left or to the right; items of a list don't, nor do the arms of AND and OR, which are flat.
#[derive(Default)]
struct Nesting {
    levels: Vec<Level>,
    root: Level,
    after_dot: bool,
}

#[derive(Default)]
struct Level {
    case: bool,
    /// Links of the expression that is being read.
    links: usize,
    /// Deepest part within the item that is being read.
    inner: usize,
    /// Deepest arm of AND and OR so far in this item.
    arms: usize,
    /// JOINs of this item.
    joins: usize,
    /// BETWEENs whose AND is to come: that AND is no arm.
    betweens: usize,
    /// Set operations of this level; a comma doesn't end their chain.
    sets: usize,
    /// Deepest item so far.
    items: usize,
}

impl Level {
    fn end_arm(&mut self) {
        self.arms = self.arms.max(self.links + self.inner + 3);
        self.links = 0;
        self.inner = 0;
    }

    fn end_item(&mut self) {
        self.end_arm();
        self.items = self.items.max(self.arms + self.joins);
        self.arms = 0;
        self.joins = 0;
        self.betweens = 0;
    }

    fn depth(mut self) -> usize {
        self.end_item();
        self.items + self.sets
    }
}

impl Nesting {
    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().unwrap_or(&mut self.root)
    }

    fn open(&mut self, case: bool) {
        self.levels.push(Level { case, ..Level::default() });
    }

    fn close(&mut self) {
        if let Some(level) = self.levels.pop() {
            let depth = level.depth() + 1;
            let top = self.top();
            top.inner = top.inner.max(depth);
        }
    }

    fn token(&mut self, token: &ScanToken) {
        // After a dot a keyword is a name.
        let name = std::mem::replace(&mut self.after_dot, token.token() == Token::Ascii46);
        match token.token() {
            Token::Ascii40 | Token::Ascii91 => self.open(false),
            Token::Ascii41 | Token::Ascii93 => {
                // A CASE without its END is a syntax error that the parser will report.
                while self.levels.last().is_some_and(|level| level.case) {
                    self.close();
                }
                self.close();
                // What follows brackets (a call, a subscript, a type modifier) hangs on what stands before.
                self.top().links += 1;
            }
            Token::Case if !name => self.open(true),
            Token::EndP if !name && self.levels.last().is_some_and(|level| level.case) => self.close(),
            Token::Ascii44 => self.top().end_item(),
            Token::Ascii59 => {
                let root_case = self.levels.is_empty();
                let top = self.top();
                top.end_item();
                if root_case {
                    top.items += top.sets;
                    top.sets = 0;
                }
            }
            Token::And if !name => {
                let top = self.top();
                if top.betweens > 0 {
                    top.betweens -= 1;
                    top.links += 1;
                } else {
                    top.end_arm();
                }
            }
            Token::Or if !name => self.top().end_arm(),
            Token::Between => {
                let top = self.top();
                top.betweens += 1;
                top.links += 1;
            }
            Token::Union | Token::Intersect | Token::Except if !name => {
                let top = self.top();
                top.end_item();
                top.sets += 1;
            }
            Token::Join => self.top().joins += 1,
            token if links(token) => self.top().links += 1,
            _ => {}
        }
    }

    fn finish(mut self) -> usize {
        while !self.levels.is_empty() {
            self.close();
        }
        self.root.depth()
    }
}

/// Tokens that put one expression under another.
fn links(token: Token) -> bool {
    matches!(
        token,
        Token::Ascii37
            | Token::Ascii42
            | Token::Ascii43
            | Token::Ascii45
            | Token::Ascii47
            | Token::Ascii60
            | Token::Ascii61
            | Token::Ascii62
            | Token::Ascii63
            | Token::Ascii94
            | Token::Op
            | Token::Typecast
            | Token::LessEquals
            | Token::GreaterEquals
            | Token::NotEquals
            | Token::Not
            | Token::NotLa
            | Token::Is
            | Token::Isnull
            | Token::Notnull
            | Token::InP
            | Token::Like
            | Token::Ilike
            | Token::Similar
            | Token::Collate
            | Token::At
            | Token::Operator
            | Token::Escape
            | Token::Uescape
            | Token::Overlaps
            | Token::Select
            | Token::With
            | Token::WithLa
            | Token::As
            | Token::Interval
            | Token::Setof
            | Token::Explain
            | Token::Prepare
            | Token::Create
            | Token::Do
    )
}

/// The memory that parsing may take in this sidecar, over all sessions.
#[derive(Clone, Debug)]
pub struct Budget {
    large: Arc<Semaphore>,
    small: Arc<Semaphore>,
    total: usize,
}

/// A share of the [`Budget`], given back as it is dropped.
#[derive(Debug)]
pub struct Permit {
    _share: OwnedSemaphorePermit,
}

/// Statements up to this estimate have a lane of their own, so that large ones never make them wait.
const SMALL: usize = 512 << 10;

impl Budget {
    /// A budget of so many bytes, and a sixteenth of it more (at least two small statements) for small ones.
    pub fn new(bytes: usize) -> Self {
        let total = (bytes >> 10).min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let small = (total / 16).max(2 * (SMALL >> 10));
        Self { large: Arc::new(Semaphore::new(total)), small: Arc::new(Semaphore::new(small)), total }
    }

    /// Waits for the memory that a text of this measure takes; one that is more than the whole budget is refused.
    pub async fn acquire(&self, measure: &Measure) -> Result<Permit, Denial> {
        check_memory(measure.memory, &ParseLimits { memory: self.total << 10, ..ParseLimits::default() })?;
        let need = u32::try_from(measure.memory.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let lane = if measure.memory <= SMALL { &self.small } else { &self.large };
        match lane.clone().acquire_many_owned(need).await {
            Ok(share) => Ok(Permit { _share: share }),
            Err(_) => Err(Denial::new(Reason::Internal, "the parser's budget is closed").sqlstate("53000")),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(ParseLimits::default().memory)
    }
}
