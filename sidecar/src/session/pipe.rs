//! One direction of the relay: bytes that came from one peer, and what of them goes to the other.
//!
//! What passes unchanged is never copied: it is written to the other peer from the buffer it was read into. Buffers
//! grow with what a peer sends at once and are given back when the session is idle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an idle session keeps for each direction: room for an ordinary statement.
const SMALL: usize = 2 << 10;
/// What a busy one reads at once.
const LARGE: usize = 64 << 10;
/// More than this waiting for a slow peer, and nothing more is taken from the other one.
const HIGH: usize = 128 << 10;

/// One direction of the relay.
#[derive(Debug)]
pub(super) struct Pipe {
    /// `start..passed` goes on as it is, `passed..filled` was not looked at yet.
    buffer: Vec<u8>,
    start: usize,
    passed: usize,
    filled: usize,
    /// What goes before `start..passed`.
    out: BytesMut,
    /// Length of the frame that has to be whole before it can be looked at.
    need: usize,
    /// Bytes of a frame's body that are still to come, and whether they go on.
    body: usize,
    body_passes: bool,
    flush: bool,
    closed: bool,
}

impl Pipe {
    /// With what was already read.
    pub(super) fn new(read: &[u8]) -> Self {
        Self {
            buffer: read.to_vec(),
            start: 0,
            passed: 0,
            filled: read.len(),
            out: BytesMut::new(),
            need: 0,
            body: 0,
            body_passes: false,
            flush: false,
            closed: false,
        }
    }

    /// What was not looked at yet; starts with a frame's header once [`Pipe::body`] is done with.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.passed..self.filled).unwrap_or_default()
    }

    /// Goes on with a body that was begun by [`Pipe::pass`] or [`Pipe::skip`]; true once it is over.
    pub(super) fn body(&mut self) -> bool {
        if self.body > 0 {
            let here = self.body.min(self.filled - self.passed);
            self.body -= here;
            if self.body_passes { self.passed += here } else { self.cut(here) }
        }
        self.body == 0
    }

    /// Lets the frame at the front of what is unread go on, the part that is yet to come too.
    pub(super) fn pass(&mut self, frame_len: usize) {
        self.body = frame_len;
        self.body_passes = true;
        self.need = 0;
        self.body();
    }

    /// Takes the frame at the front of what is unread out, the part that is yet to come too.
    pub(super) fn skip(&mut self, frame_len: usize) {
        self.body = frame_len;
        self.body_passes = false;
        self.need = 0;
        self.body();
    }

    /// Whether so many bytes are unread; if not, room will be made for them.
    pub(super) fn whole(&mut self, frame_len: usize) -> bool {
        let whole = self.filled - self.passed >= frame_len;
        self.need = if whole { 0 } else { frame_len };
        whole
    }

    fn cut(&mut self, count: usize) {
        if self.start < self.passed {
            self.seal();
        }
        self.passed += count;
        self.start = self.passed;
    }

    /// Moves what passed behind what is to be written, so that something else can follow it.
    fn seal(&mut self) {
        self.out.extend_from_slice(self.buffer.get(self.start..self.passed).unwrap_or_default());
        self.start = self.passed;
    }

    /// Where to write a message of the proxy's own, after all that passed so far. Only between frames.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        debug_assert_eq!(self.body, 0);
        if self.start < self.passed {
            self.seal();
        }
        &mut self.out
    }

    /// Bytes that wait for the peer.
    pub(super) fn backlog(&self) -> usize {
        self.out.len() + (self.passed - self.start)
    }

    /// Whether the peer is so slow that nothing more should be made ready for it.
    pub(super) fn is_congested(&self) -> bool {
        self.backlog() > HIGH
    }

    /// Whether the peer that sends has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nothing is unread and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.filled && self.out.is_empty() && self.body == 0
    }

    /// Gives back what an idle session doesn't need.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.passed = 0;
            self.filled = 0;
            if self.buffer.len() > SMALL {
                self.buffer = Vec::new();
            }
            if self.out.capacity() > 0 {
                self.out = BytesMut::new();
            }
        }
    }

    /// Makes room to read into; false if there must be none until the other peer has taken something.
    fn make_room(&mut self) -> bool {
        if self.start == self.filled {
            self.start = 0;
            self.passed = 0;
            self.filled = 0;
        }
        if self.filled < self.buffer.len() && self.passed + self.need <= self.buffer.len() {
            return true;
        }
        if self.is_congested() {
            return false;
        }
        if self.start > 0 {
            // What passed has to be written before anything moves, unless a frame can't become whole otherwise.
            if self.start < self.passed && self.need == 0 {
                return false;
            }
            self.buffer.copy_within(self.start..self.filled, 0);
            self.passed -= self.start;
            self.filled -= self.start;
            self.start = 0;
            if self.filled < self.buffer.len() && self.passed + self.need <= self.buffer.len() {
                return true;
            }
        }
        let wanted = (self.passed + self.need).max((self.buffer.len() * 4).clamp(SMALL, LARGE));
        if wanted > self.buffer.len() {
            // A frame of many megabytes is believed only as far as its bytes arrive.
            let step = self.buffer.len().max(LARGE) * 2;
            self.buffer.resize(wanted.min(step), 0);
        }
        self.filled < self.buffer.len()
    }

    /// Reads once; `Ready(Ok(0))` is the peer's end. Pending too while there must be no more.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut S,
    ) -> Poll<io::Result<usize>> {
        if self.closed || !self.make_room() {
            return Poll::Pending;
        }
        let Some(room) = self.buffer.get_mut(self.filled..) else { return Poll::Pending };
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(peer).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        if count == 0 {
            self.closed = true;
        }
        self.filled += count;
        Poll::Ready(Ok(count))
    }

    /// Writes what waits, until it is all gone and flushed.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut S,
    ) -> Poll<io::Result<()>> {
        loop {
            let passed = self.buffer.get(self.start..self.passed).unwrap_or_default();
            let count = match (self.out.is_empty(), passed.is_empty()) {
                (true, true) => break,
                (false, true) => ready!(Pin::new(&mut *peer).poll_write(cx, &self.out))?,
                (true, false) => ready!(Pin::new(&mut *peer).poll_write(cx, passed))?,
                (false, false) => {
                    let both = [io::IoSlice::new(&self.out), io::IoSlice::new(passed)];
                    ready!(Pin::new(&mut *peer).poll_write_vectored(cx, &both))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.flush = true;
            let of_out = count.min(self.out.len());
            self.out.advance(of_out);
            self.start += count - of_out;
        }
        if self.flush {
            ready!(Pin::new(peer).poll_flush(cx))?;
            self.flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn written(pipe: &mut Pipe) -> Vec<u8> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        poll_fn(|cx| pipe.poll_write(cx, &mut ours)).await.unwrap();
        drop(ours);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn own_messages_stand_where_they_were_put() {
        let mut pipe = Pipe::new(b"aaabbbcccddd");
        pipe.pass(3);
        pipe.skip(3);
        pipe.out().extend_from_slice(b"BB");
        pipe.pass(3);
        assert_eq!(pipe.unread(), b"ddd");
        assert_eq!(written(&mut pipe).await, b"aaaBBccc");
        pipe.pass(3);
        assert_eq!(written(&mut pipe).await, b"ddd");
        assert!(pipe.is_empty());
    }

    #[tokio::test]
    async fn a_body_streams_in_pieces_without_being_whole() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut pipe = Pipe::new(b"abc");
        pipe.pass(100_000);
        assert!(!pipe.body());
        let writer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            theirs.write_all(&vec![b'x'; 99_997]).await.unwrap();
            theirs.write_all(b"next").await.unwrap();
            theirs
        });
        let mut all = Vec::new();
        while !pipe.body() {
            poll_fn(|cx| pipe.poll_read(cx, &mut ours)).await.unwrap();
            pipe.body();
            all.extend(written(&mut pipe).await);
            assert!(pipe.buffer.len() <= LARGE);
        }
        while pipe.unread().len() < 4 {
            poll_fn(|cx| pipe.poll_read(cx, &mut ours)).await.unwrap();
        }
        assert_eq!(pipe.unread(), b"next");
        assert_eq!(all.len(), 100_000);
        drop(writer);
    }

    #[tokio::test]
    async fn a_slow_reader_stops_the_reading() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 22);
        use tokio::io::AsyncWriteExt;
        theirs.write_all(&vec![0; 1 << 20]).await.unwrap();
        let mut pipe = Pipe::new(b"");
        for _ in 0..100 {
            let _ = poll_fn(|cx| Poll::Ready(pipe.poll_read(cx, &mut ours))).await;
            pipe.pass(pipe.unread().len());
        }
        assert!(pipe.backlog() <= HIGH + LARGE);
    }
}
