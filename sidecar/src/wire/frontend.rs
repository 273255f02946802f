//! Messages of the client.

use bytes::{BufMut, BytesMut};

use super::frame::{self, Header, MAX_SMALL, MAX_STATEMENT, MAX_STREAMED};
use super::{Formats, Malformed, Reader, body_with_length, message, put_count, put_cstr, put_value};

/// Bind
pub const BIND: u8 = b'B';
/// Close
pub const CLOSE: u8 = b'C';
/// CopyData
pub const COPY_DATA: u8 = b'd';
/// CopyDone
pub const COPY_DONE: u8 = b'c';
/// CopyFail
pub const COPY_FAIL: u8 = b'f';
/// Describe
pub const DESCRIBE: u8 = b'D';
/// Execute
pub const EXECUTE: u8 = b'E';
/// Flush
pub const FLUSH: u8 = b'H';
/// FunctionCall
pub const FUNCTION_CALL: u8 = b'F';
/// Parse
pub const PARSE: u8 = b'P';
/// PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse
pub const PASSWORD: u8 = b'p';
/// Query
pub const QUERY: u8 = b'Q';
/// Sync
pub const SYNC: u8 = b'S';
/// Terminate
pub const TERMINATE: u8 = b'X';

/// The header of the client's frame at the start of `buffer`; None while it isn't whole.
///
/// Bind, CopyData and FunctionCall may be up to a gibibyte: stream them, don't wait until they are whole. So may Parse and
/// Query: one that [`is_too_long`] is refused and skipped, and the stream stays in step.
pub fn peek(buffer: &[u8]) -> Result<Option<Header>, Malformed> {
    frame::peek(buffer, |tag| match tag {
        PARSE | QUERY | BIND | COPY_DATA | FUNCTION_CALL => Some(MAX_STREAMED),
        CLOSE | COPY_DONE | COPY_FAIL | DESCRIBE | EXECUTE | FLUSH | PASSWORD | SYNC | TERMINATE => Some(MAX_SMALL),
        _ => None,
    })
}

/// Whether it holds more SQL than is accepted.
pub const fn is_too_long(header: Header) -> bool {
    matches!(header.tag, PARSE | QUERY) && header.body_len > MAX_STATEMENT as usize
}

/// A prepared statement or a portal, in Describe and Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Kind {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            b'S' => Ok(Kind::Statement),
            b'P' => Ok(Kind::Portal),
            _ => Err(Malformed::Value("kind, neither a statement nor a portal")),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Kind::Statement => b'S',
            Kind::Portal => b'P',
        }
    }
}

/// Parse
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the prepared statement; empty is the unnamed one.
    pub statement: &'a str,
    /// Its text.
    pub sql: &'a str,
    /// Types of its parameters, as far as the client says; 0 leaves one open.
    pub param_types: Vec<u32>,
}

impl<'a> Parse<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = Self { statement: reader.cstr()?, sql: reader.cstr()?, param_types: reader.oids()? };
        reader.finish()?;
        Ok(read)
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        message(out, PARSE, |out| {
            put_cstr(out, self.statement)?;
            put_cstr(out, self.sql)?;
            put_count(out, self.param_types.len())?;
            self.param_types.iter().for_each(|&oid| out.put_u32(oid));
            Ok(())
        })
    }
}

/// The head of a Bind: all that must be known of it to pass the rest on as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindHead<'a> {
    /// Name of the portal; empty is the unnamed one.
    pub portal: &'a str,
    /// Name of the prepared statement.
    pub statement: &'a str,
}

impl<'a> BindHead<'a> {
    /// From the first bytes of a body (without the frame's header), `body_len` being how long the whole body is: the
    /// head and how many bytes it takes, or None while more is needed.
    pub fn read(prefix: &'a [u8], body_len: usize) -> Result<Option<(Self, usize)>, Malformed> {
        let prefix = prefix.get(..body_len).unwrap_or(prefix);
        let mut reader = Reader::new(prefix);
        let read = (|| Ok(Self { portal: reader.cstr()?, statement: reader.cstr()? }))();
        match read {
            Ok(head) => Ok(Some((head, prefix.len() - reader.rest().len()))),
            // Names longer than any control message's would make us wait, and hold, without a bound.
            Err(Malformed::Truncated) if prefix.len() < body_len && prefix.len() < MAX_SMALL as usize => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The header of a Bind's frame and its head; the caller sends `rest_len` more bytes of the body after it.
    pub fn write(&self, rest_len: usize, out: &mut BytesMut) -> Result<(), Malformed> {
        let start = out.len();
        out.put_u8(BIND);
        body_with_length(out, rest_len, |out| {
            put_cstr(out, self.portal)?;
            put_cstr(out, self.statement)
        })
        .inspect_err(|_| out.truncate(start))
    }
}

/// A whole Bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Portal and statement.
    pub head: BindHead<'a>,
    /// Formats of the parameters.
    pub param_formats: Formats<'a>,
    /// The parameters; None is NULL.
    pub params: Vec<Option<&'a [u8]>>,
    /// Formats that the results shall have.
    pub result_formats: Formats<'a>,
}

impl<'a> Bind<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let head = BindHead { portal: reader.cstr()?, statement: reader.cstr()? };
        let param_formats = reader.formats()?;
        let count = usize::from(reader.u16()?);
        // Each parameter takes four bytes at least: no room is made for more than can be there.
        let mut params = Vec::with_capacity(count.min(reader.rest().len() / 4));
        for _ in 0..count {
            params.push(reader.value()?);
        }
        let read = Self { head, param_formats, params, result_formats: reader.formats()? };
        reader.finish()?;
        Ok(read)
    }
}

/// Writes a Bind of text parameters and text results.
pub fn write_bind(out: &mut BytesMut, head: BindHead<'_>, params: &[Option<&[u8]>]) -> Result<(), Malformed> {
    message(out, BIND, |out| {
        put_cstr(out, head.portal)?;
        put_cstr(out, head.statement)?;
        put_count(out, 0)?;
        put_count(out, params.len())?;
        params.iter().try_for_each(|value| put_value(out, *value))?;
        put_count(out, 0)
    })
}

/// Describe
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// Of what.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Describe<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        kind_and_name(body).map(|(kind, name)| Self { kind, name })
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        write_kind_and_name(out, DESCRIBE, self.kind, self.name)
    }
}

/// Close
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Of what.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Close<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        kind_and_name(body).map(|(kind, name)| Self { kind, name })
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        write_kind_and_name(out, CLOSE, self.kind, self.name)
    }
}

fn kind_and_name(body: &[u8]) -> Result<(Kind, &str), Malformed> {
    let mut reader = Reader::new(body);
    let read = (Kind::read(&mut reader)?, reader.cstr()?);
    reader.finish()?;
    Ok(read)
}

fn write_kind_and_name(out: &mut BytesMut, tag: u8, kind: Kind, name: &str) -> Result<(), Malformed> {
    message(out, tag, |out| {
        out.put_u8(kind.byte());
        put_cstr(out, name)
    })
}

/// Execute
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Name of the portal.
    pub portal: &'a str,
    /// At most so many rows; 0 and less is all of them.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = Self { portal: reader.cstr()?, max_rows: reader.i32()? };
        reader.finish()?;
        Ok(read)
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        message(out, EXECUTE, |out| {
            put_cstr(out, self.portal)?;
            out.put_i32(self.max_rows);
            Ok(())
        })
    }
}

/// Query
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The text: any number of statements.
    pub sql: &'a str,
}

impl<'a> Query<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        one_text(body).map(|sql| Self { sql })
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        message(out, QUERY, |out| put_cstr(out, self.sql))
    }
}

/// CopyFail
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFail<'a> {
    /// Why.
    pub message: &'a str,
}

impl<'a> CopyFail<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        one_text(body).map(|message| Self { message })
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        message(out, COPY_FAIL, |out| put_cstr(out, self.message))
    }
}

fn one_text(body: &[u8]) -> Result<&str, Malformed> {
    let mut reader = Reader::new(body);
    let text = reader.cstr()?;
    reader.finish()?;
    Ok(text)
}

/// Sync, Flush, CopyDone and Terminate have no body: anything in it is an error.
pub const fn read_empty(body: &[u8]) -> Result<(), Malformed> {
    if body.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
}

fn write_empty(out: &mut BytesMut, tag: u8) {
    out.put_u8(tag);
    out.put_u32(4);
}

/// Writes Sync.
pub fn write_sync(out: &mut BytesMut) {
    write_empty(out, SYNC);
}

/// Writes Flush.
pub fn write_flush(out: &mut BytesMut) {
    write_empty(out, FLUSH);
}

/// Writes CopyDone.
pub fn write_copy_done(out: &mut BytesMut) {
    write_empty(out, COPY_DONE);
}

/// Writes Terminate.
pub fn write_terminate(out: &mut BytesMut) {
    write_empty(out, TERMINATE);
}

/// Writes CopyData.
pub fn write_copy_data(out: &mut BytesMut, data: &[u8]) -> Result<(), Malformed> {
    message(out, COPY_DATA, |out| {
        out.put_slice(data);
        Ok(())
    })
}

/// Writes PasswordMessage.
pub fn write_password(out: &mut BytesMut, password: &str) -> Result<(), Malformed> {
    message(out, PASSWORD, |out| put_cstr(out, password))
}

/// Writes SASLInitialResponse.
pub fn write_sasl_initial(out: &mut BytesMut, mechanism: &str, data: &[u8]) -> Result<(), Malformed> {
    message(out, PASSWORD, |out| {
        put_cstr(out, mechanism)?;
        put_value(out, Some(data))
    })
}

/// Writes SASLResponse.
pub fn write_sasl(out: &mut BytesMut, data: &[u8]) -> Result<(), Malformed> {
    message(out, PASSWORD, |out| {
        out.put_slice(data);
        Ok(())
    })
}
