//! What must hold of each input. The tests hold it of the inputs that were kept, without a fuzzer.

pub mod backend;
pub mod decision;
pub mod frontend;
pub mod startup;

/// A frame's tag, its body, the whole of it, and what follows.
type Cut<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);

/// A frame cut off the front of `stream` and what is left; None if it isn't whole.
///
/// Holds on the way that a header is the same however much follows it, and that none claims more than the protocol lets.
fn next_frame(
    stream: &[u8],
    peek: impl Fn(&[u8]) -> Result<Option<postern_sidecar::wire::Header>, postern_sidecar::wire::Malformed>,
) -> Option<Cut<'_>> {
    let header = peek(stream);
    for end in 0..stream.len().min(8) {
        let early = peek(&stream[..end]);
        assert!(early == Ok(None) || early == header, "{early:?} is not {header:?}");
    }
    let header = header.ok()??;
    assert!(header.body_len <= 1 << 30);
    let body = header.body(stream)?;
    let (frame, rest) = stream.split_at(header.frame_len());
    Some((header.tag, body, frame, rest))
}
