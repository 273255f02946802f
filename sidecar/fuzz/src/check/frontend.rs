//! What a client sends after its start-up. What is read, written again, is what was read.

use bytes::BytesMut;
use postern_sidecar::wire::frontend::{self, Bind, BindHead, Close, CopyFail, Describe, Execute, Parse, Query};

use super::next_frame;

/// Checks a stream of bytes.
pub fn check(stream: &[u8]) {
    let mut rest = stream;
    while let Some((tag, body, frame, after)) = next_frame(rest, frontend::peek) {
        let mut out = BytesMut::new();
        let written = match tag {
            frontend::PARSE => Parse::read(body).ok().map(|read| read.write(&mut out)),
            frontend::QUERY => Query::read(body).ok().map(|read| read.write(&mut out)),
            frontend::DESCRIBE => Describe::read(body).ok().map(|read| read.write(&mut out)),
            frontend::CLOSE => Close::read(body).ok().map(|read| read.write(&mut out)),
            frontend::EXECUTE => Execute::read(body).ok().map(|read| read.write(&mut out)),
            frontend::COPY_FAIL => CopyFail::read(body).ok().map(|read| read.write(&mut out)),
            frontend::COPY_DATA => Some(frontend::write_copy_data(&mut out, body)),
            frontend::BIND => bind(body, &mut out),
            _ => None,
        };
        if let Some(written) = written {
            assert_eq!(written, Ok(()));
            assert_eq!(out, frame);
        }
        rest = after;
    }
    // What isn't whole yet: only the head of a Bind is read early.
    if rest.first() == Some(&frontend::BIND)
        && let Ok(Some(header)) = frontend::peek(rest)
    {
        _ = BindHead::read(&rest[5..], header.body_len);
    }
}

/// The head alone, as soon as it is there, is that of the whole.
fn bind(body: &[u8], out: &mut BytesMut) -> Option<Result<(), postern_sidecar::wire::Malformed>> {
    let head = BindHead::read(body, body.len());
    if let Ok(whole) = Bind::read(body) {
        assert_eq!(head.map(|head| head.map(|(head, _)| head)), Ok(Some(whole.head)));
        assert!((0..whole.params.len()).all(|at| whole.param_formats.len() <= 1
            || whole.param_formats.iter().nth(at).unwrap_or(0) == whole.param_formats.at(at)));
    }
    let (head, length) = head.ok()??;
    for end in 0..length {
        assert_eq!(BindHead::read(&body[..end], body.len()), Ok(None));
    }
    let written = head.write(body.len() - length, out);
    out.extend_from_slice(&body[length..]);
    Some(written)
}
