//! Frames: a tag, a length that counts itself, a body.

use super::Malformed;

/// Bytes of a frame before its body.
pub const HEADER: usize = 5;
/// The largest statement that is accepted; bounds what one client can make us hold.
pub const MAX_STATEMENT: u32 = 16 << 20;
/// Control messages hold a few names.
pub const MAX_SMALL: u32 = 64 << 10;
/// What carries values may be as large as the server's own limit. It is streamed, never held whole.
pub const MAX_STREAMED: u32 = 1 << 30;

/// The header of a frame, checked against the cap of its kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which message.
    pub tag: u8,
    /// Bytes of the body.
    pub body_len: usize,
}

impl Header {
    /// Bytes of the whole frame.
    pub const fn frame_len(self) -> usize {
        HEADER + self.body_len
    }

    /// The body, if it is whole in `buffer`, which starts with this frame.
    pub fn body(self, buffer: &[u8]) -> Option<&[u8]> {
        buffer.get(HEADER..self.frame_len())
    }
}

/// Reads a header, if it is there; `cap` says how long a message of a tag may be, None if there is no such message.
pub(super) fn peek(buffer: &[u8], cap: impl Fn(u8) -> Option<u32>) -> Result<Option<Header>, Malformed> {
    let Some(&tag) = buffer.first() else { return Ok(None) };
    // Judged by its first byte: garbage is refused before anything waits for its length.
    let cap = cap(tag).ok_or(Malformed::UnknownTag(tag))?;
    let Some(length) = buffer.get(1..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    if length < 4 {
        return Err(Malformed::Length { tag, length });
    }
    if length - 4 > cap {
        return Err(Malformed::TooLarge { tag, length, cap });
    }
    let body_len = usize::try_from(length - 4).map_err(|_| Malformed::TooLarge { tag, length, cap })?;
    Ok(Some(Header { tag, body_len }))
}
