//! Frames and messages of the Postgres protocol; no I/O.
//!
//! A frame is cut by its length first ([`frontend::peek`], [`backend::peek`]), then its body is parsed by borrowing from
//! it. What a peer claims never makes us allocate: counts are checked against the bytes that are there.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod startup;
#[cfg(test)]
mod tests;

use bytes::{BufMut, BytesMut};

pub use frame::Header;

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length is smaller than a length can be.
    #[error("message of type {} claims an impossible length of {length}", Tag(*tag))]
    Length {
        /// The message's tag; 0 for a start-up packet.
        tag: u8,
        /// The length it claims.
        length: u32,
    },
    /// The length is over what such a message may have.
    #[error("message of type {} claims {length} bytes, more than the {cap} that it may have", Tag(*tag))]
    TooLarge {
        /// The message's tag; 0 for a start-up packet.
        tag: u8,
        /// The length it claims.
        length: u32,
        /// The most it may have.
        cap: u32,
    },
    /// No such message in this direction.
    #[error("unknown message type {}", Tag(*.0))]
    UnknownTag(u8),
    /// The body ends before its last field.
    #[error("message ends too early")]
    Truncated,
    /// The body goes on after its last field.
    #[error("message has bytes after its last field")]
    Trailing,
    /// A string isn't UTF-8. The frame itself is well formed: a session can answer with an error and go on.
    #[error("text is not valid UTF-8")]
    NotUtf8,
    /// A string to be written holds a NUL byte.
    #[error("text holds a NUL byte")]
    Nul,
    /// A field's value is none of those that the protocol knows.
    #[error("invalid {0}")]
    Value(&'static str),
    /// A start-up packet of another major version.
    #[error("unsupported protocol version {}.{}", .0 >> 16, .0 & 0xffff)]
    Version(u32),
}

impl Malformed {
    /// Whether the stream is still in step after it, so that an error answer is enough.
    pub const fn in_step(self) -> bool {
        matches!(self, Malformed::NotUtf8)
    }

    /// The SQLSTATE that fits.
    pub const fn sqlstate(self) -> &'static str {
        match self {
            Malformed::NotUtf8 | Malformed::Nul => "22021",
            Malformed::Version(_) => "0A000",
            Malformed::TooLarge { .. } => "54000",
            _ => "08P01",
        }
    }
}

/// A tag as people read it.
struct Tag(u8);

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_ascii_graphic() { write!(f, "'{}'", char::from(self.0)) } else { write!(f, "0x{:02x}", self.0) }
    }
}

/// A cursor over one body.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over this body.
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What was not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A signed 16-bit integer.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    /// A count of 16 bits; Postgres reads them as unsigned.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A signed 32-bit integer.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// An unsigned 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A string up to its NUL byte, as it stands.
    pub fn cstr_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Malformed::Truncated)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// A string up to its NUL byte.
    pub fn cstr(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.cstr_bytes()?).map_err(|_| Malformed::NotUtf8)
    }

    /// A list of 16-bit format codes with its count.
    pub fn formats(&mut self) -> Result<Formats<'a>, Malformed> {
        let count = usize::from(self.u16()?);
        Ok(Formats(self.bytes(count * 2)?))
    }

    /// A list of oids with its count.
    pub fn oids(&mut self) -> Result<Vec<u32>, Malformed> {
        let count = usize::from(self.u16()?);
        let bytes = self.bytes(count * 4)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect())
    }

    /// A value with its length, -1 being NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed::Value("value length"))?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// Nothing may be left.
    pub const fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// Format codes as they stand in Bind: none (all text), one (for all) or one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats<'a>(&'a [u8]);

impl Formats<'_> {
    /// How many codes there are.
    pub const fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The codes: 0 is text, 1 is binary.
    pub fn iter(&self) -> impl Iterator<Item = i16> + '_ {
        self.0.as_chunks::<2>().0.iter().map(|code| i16::from_be_bytes(*code))
    }

    /// The code that holds for this position.
    pub fn at(&self, index: usize) -> i16 {
        match self.len() {
            0 => 0,
            1 => self.iter().next().unwrap_or(0),
            _ => self.iter().nth(index).unwrap_or(0),
        }
    }
}

/// Writes one message: its tag, its length and what `body` appends. Nothing is written if `body` fails.
fn message(
    out: &mut BytesMut,
    tag: u8,
    body: impl FnOnce(&mut BytesMut) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let start = out.len();
    out.put_u8(tag);
    match body_with_length(out, 0, body) {
        Ok(()) => Ok(()),
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Writes a length and what `body` appends; the length counts `more` bytes that the caller sends after it.
fn body_with_length(
    out: &mut BytesMut,
    more: usize,
    body: impl FnOnce(&mut BytesMut) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let start = out.len();
    out.put_u32(0);
    let written = body(out).and_then(|()| {
        let length = (out.len() - start).saturating_add(more);
        i32::try_from(length).map_err(|_| Malformed::TooLarge {
            tag: 0,
            length: u32::MAX,
            cap: i32::MAX.cast_unsigned(),
        })
    });
    match written {
        Ok(length) => {
            if let Some(place) = out.get_mut(start..start + 4) {
                place.copy_from_slice(&length.to_be_bytes());
            }
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// A string and its NUL byte. One that holds a NUL byte would shift the fields after it: refused.
fn put_cstr(out: &mut BytesMut, text: &str) -> Result<(), Malformed> {
    if text.as_bytes().contains(&0) {
        return Err(Malformed::Nul);
    }
    out.put_slice(text.as_bytes());
    out.put_u8(0);
    Ok(())
}

/// A 16-bit count.
fn put_count(out: &mut BytesMut, count: usize) -> Result<(), Malformed> {
    out.put_u16(u16::try_from(count).map_err(|_| Malformed::Value("count"))?);
    Ok(())
}

/// A value with its length, NULL being -1.
fn put_value(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), Malformed> {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_i32(i32::try_from(value.len()).map_err(|_| Malformed::Value("value length"))?);
            out.put_slice(value);
        }
    }
    Ok(())
}
