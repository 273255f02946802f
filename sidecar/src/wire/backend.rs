//! Messages of the server.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::frame::{self, Header, MAX_SMALL, MAX_STATEMENT, MAX_STREAMED};
use super::{Malformed, Reader, message, put_count, put_cstr, put_value};

/// Authentication…
pub const AUTHENTICATION: u8 = b'R';
/// BackendKeyData
pub const BACKEND_KEY_DATA: u8 = b'K';
/// BindComplete
pub const BIND_COMPLETE: u8 = b'2';
/// CloseComplete
pub const CLOSE_COMPLETE: u8 = b'3';
/// CommandComplete
pub const COMMAND_COMPLETE: u8 = b'C';
/// CopyBothResponse
pub const COPY_BOTH_RESPONSE: u8 = b'W';
/// CopyData
pub const COPY_DATA: u8 = b'd';
/// CopyDone
pub const COPY_DONE: u8 = b'c';
/// CopyInResponse
pub const COPY_IN_RESPONSE: u8 = b'G';
/// CopyOutResponse
pub const COPY_OUT_RESPONSE: u8 = b'H';
/// DataRow
pub const DATA_ROW: u8 = b'D';
/// EmptyQueryResponse
pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
/// ErrorResponse
pub const ERROR_RESPONSE: u8 = b'E';
/// FunctionCallResponse
pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
/// NegotiateProtocolVersion
pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
/// NoData
pub const NO_DATA: u8 = b'n';
/// NoticeResponse
pub const NOTICE_RESPONSE: u8 = b'N';
/// NotificationResponse
pub const NOTIFICATION_RESPONSE: u8 = b'A';
/// ParameterDescription
pub const PARAMETER_DESCRIPTION: u8 = b't';
/// ParameterStatus
pub const PARAMETER_STATUS: u8 = b'S';
/// ParseComplete
pub const PARSE_COMPLETE: u8 = b'1';
/// PortalSuspended
pub const PORTAL_SUSPENDED: u8 = b's';
/// ReadyForQuery
pub const READY_FOR_QUERY: u8 = b'Z';
/// RowDescription
pub const ROW_DESCRIPTION: u8 = b'T';

/// The header of the server's frame at the start of `buffer`; None while it isn't whole.
///
/// DataRow, CopyData and also errors and notices (they may quote a value) may be up to a gibibyte: stream or skip what
/// is over your bound, don't wait until it is whole.
pub fn peek(buffer: &[u8]) -> Result<Option<Header>, Malformed> {
    frame::peek(buffer, |tag| match tag {
        DATA_ROW | COPY_DATA | ERROR_RESPONSE | NOTICE_RESPONSE | FUNCTION_CALL_RESPONSE => Some(MAX_STREAMED),
        // 1,664 columns with long names; a search_path has no limit of its own.
        ROW_DESCRIPTION | PARAMETER_DESCRIPTION | PARAMETER_STATUS => Some(MAX_STATEMENT),
        AUTHENTICATION
        | BACKEND_KEY_DATA
        | BIND_COMPLETE
        | CLOSE_COMPLETE
        | COMMAND_COMPLETE
        | COPY_BOTH_RESPONSE
        | COPY_DONE
        | COPY_IN_RESPONSE
        | COPY_OUT_RESPONSE
        | EMPTY_QUERY_RESPONSE
        | NEGOTIATE_PROTOCOL_VERSION
        | NO_DATA
        | NOTIFICATION_RESPONSE
        | PARSE_COMPLETE
        | PORTAL_SUSPENDED
        | READY_FOR_QUERY => Some(MAX_SMALL),
        _ => None,
    })
}

/// Authentication…
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Logged in.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password, hashed with this salt.
    Md5([u8; 4]),
    /// Names of SASL mechanisms to choose from.
    Sasl(Vec<&'a str>),
    /// The server's challenge.
    SaslContinue(&'a [u8]),
    /// The server's proof.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI, …: not offered by us.
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = match reader.u32()? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => Self::Md5(reader.array()?),
            10 => {
                let mut mechanisms = Vec::new();
                loop {
                    match reader.cstr()? {
                        "" => break,
                        mechanism => mechanisms.push(mechanism),
                    }
                }
                Self::Sasl(mechanisms)
            }
            11 => return Ok(Self::SaslContinue(reader.rest())),
            12 => return Ok(Self::SaslFinal(reader.rest())),
            other => return Ok(Self::Other(other)),
        };
        reader.finish()?;
        Ok(read)
    }
}

/// BackendKeyData
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// Process id.
    pub pid: u32,
    /// Secret: 4 bytes up to protocol 3.0, up to 256 from 3.2 on.
    pub key: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = Self { pid: reader.u32()?, key: reader.rest() };
        if (4..=256).contains(&read.key.len()) { Ok(read) } else { Err(Malformed::Value("cancel key length")) }
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) {
        write(out, BACKEND_KEY_DATA, |out| {
            out.put_u32(self.pid);
            out.put_slice(self.key);
            Ok(())
        });
    }
}

/// ParameterStatus
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// Name of the setting.
    pub name: Cow<'a, str>,
    /// Its value.
    pub value: Cow<'a, str>,
}

impl<'a> ParameterStatus<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = Self { name: lossy(&mut reader)?, value: lossy(&mut reader)? };
        reader.finish()?;
        Ok(read)
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) {
        write(out, PARAMETER_STATUS, |out| {
            put_text(out, &self.name);
            put_text(out, &self.value);
            Ok(())
        });
    }
}

/// What ReadyForQuery says of the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// None is open.
    #[default]
    Idle,
    /// One is open.
    InTransaction,
    /// One is open that can only be rolled back.
    Failed,
}

impl TransactionStatus {
    /// From a body of ReadyForQuery.
    pub const fn read(body: &[u8]) -> Result<Self, Malformed> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::InTransaction),
            b"E" => Ok(Self::Failed),
            _ => Err(Malformed::Value("transaction status")),
        }
    }

    /// ReadyForQuery as a frame.
    pub fn write(self, out: &mut BytesMut) {
        write(out, READY_FOR_QUERY, |out| {
            out.put_u8(match self {
                Self::Idle => b'I',
                Self::InTransaction => b'T',
                Self::Failed => b'E',
            });
            Ok(())
        });
    }
}

/// A column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// The table that it comes from unchanged; 0 for none.
    pub table_oid: u32,
    /// The attribute number there; 0 for none.
    pub attribute: i16,
    /// Its type.
    pub type_oid: u32,
    /// The type's size; negative for a varying one.
    pub type_size: i16,
    /// The type modifier; -1 for none.
    pub type_modifier: i32,
    /// 0 is text, 1 is binary.
    pub format: i16,
}

/// Reads the fields of a RowDescription.
pub fn read_row_description(body: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u16()?);
    // Each takes 19 bytes at least.
    let mut fields = Vec::with_capacity(count.min(body.len() / 19));
    for _ in 0..count {
        fields.push(Field {
            name: lossy(&mut reader)?,
            table_oid: reader.u32()?,
            attribute: reader.i16()?,
            type_oid: reader.u32()?,
            type_size: reader.i16()?,
            type_modifier: reader.i32()?,
            format: reader.i16()?,
        });
    }
    reader.finish()?;
    Ok(fields)
}

/// Writes a RowDescription.
pub fn write_row_description(out: &mut BytesMut, fields: &[Field<'_>]) {
    write(out, ROW_DESCRIPTION, |out| {
        put_count(out, fields.len())?;
        for field in fields {
            put_text(out, &field.name);
            out.put_u32(field.table_oid);
            out.put_i16(field.attribute);
            out.put_u32(field.type_oid);
            out.put_i16(field.type_size);
            out.put_i32(field.type_modifier);
            out.put_i16(field.format);
        }
        Ok(())
    });
}

/// Reads the types of a ParameterDescription.
pub fn read_parameter_description(body: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut reader = Reader::new(body);
    let oids = reader.oids()?;
    reader.finish()?;
    Ok(oids)
}

/// The values of a DataRow, one after the other; the body must be read to its end by [`DataRow::finish`] or by
/// iterating until None to be known as well formed.
#[derive(Clone, Debug)]
pub struct DataRow<'a> {
    left: usize,
    reader: Reader<'a>,
}

impl<'a> DataRow<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        Ok(Self { left: usize::from(reader.u16()?), reader })
    }

    /// How many values are left.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// The next value; the outer None is the end, the inner one NULL.
    pub fn value(&mut self) -> Result<Option<Option<&'a [u8]>>, Malformed> {
        if self.left == 0 {
            return self.reader.clone().finish().map(|()| None);
        }
        self.left -= 1;
        self.reader.value().map(Some)
    }
}

/// Writes a DataRow.
pub fn write_data_row<'a>(out: &mut BytesMut, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
    write(out, DATA_ROW, |out| {
        put_count(out, values.len())?;
        for value in values {
            put_value(out, value)?;
        }
        Ok(())
    });
}

/// Reads the tag of a CommandComplete, such as `SELECT 5`.
pub fn read_command_complete(body: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let mut reader = Reader::new(body);
    let tag = lossy(&mut reader)?;
    reader.finish()?;
    Ok(tag)
}

/// Writes CommandComplete.
pub fn write_command_complete(out: &mut BytesMut, tag: &str) {
    write(out, COMMAND_COMPLETE, |out| {
        put_text(out, tag);
        Ok(())
    });
}

/// NotificationResponse
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Process id of who notified.
    pub pid: u32,
    /// The channel.
    pub channel: Cow<'a, str>,
    /// What came with it.
    pub payload: Cow<'a, str>,
}

impl<'a> Notification<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = Self { pid: reader.u32()?, channel: lossy(&mut reader)?, payload: lossy(&mut reader)? };
        reader.finish()?;
        Ok(read)
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) {
        write(out, NOTIFICATION_RESPONSE, |out| {
            out.put_u32(self.pid);
            put_text(out, &self.channel);
            put_text(out, &self.payload);
            Ok(())
        });
    }
}

/// NegotiateProtocolVersion
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version that the server speaks: major in the upper 16 bits, minor in the lower.
    pub version: u32,
    /// Names of options that it does not know.
    pub unknown_options: Vec<&'a str>,
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let version = reader.u32()?;
        let count = reader.u32()? as usize;
        let mut unknown_options = Vec::with_capacity(count.min(body.len()));
        for _ in 0..count {
            unknown_options.push(reader.cstr()?);
        }
        reader.finish()?;
        // Servers before 3.2's time write the minor version alone.
        let version = if version < 1 << 16 { (3 << 16) | version } else { version };
        Ok(Self { version, unknown_options })
    }

    /// As a frame.
    pub fn write(&self, out: &mut BytesMut) {
        write(out, NEGOTIATE_PROTOCOL_VERSION, |out| {
            out.put_u32(self.version);
            out.put_u32(u32::try_from(self.unknown_options.len()).map_err(|_| Malformed::Value("count"))?);
            self.unknown_options.iter().try_for_each(|name| put_cstr(out, name))
        });
    }
}

/// CopyInResponse, CopyOutResponse and CopyBothResponse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// Whether the whole copy is binary.
    pub binary: bool,
    /// Format of each column.
    pub formats: super::Formats<'a>,
}

impl<'a> CopyResponse<'a> {
    /// From a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let read = Self { binary: reader.u8()? != 0, formats: reader.formats()? };
        reader.finish()?;
        Ok(read)
    }
}

/// The fields of an ErrorResponse or a NoticeResponse, as owned text by their one-letter codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(u8, String)>);

impl Fields {
    /// Severity, as translated.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated.
    pub const SEVERITY_RAW: u8 = b'V';
    /// SQLSTATE.
    pub const CODE: u8 = b'C';
    /// The primary message.
    pub const MESSAGE: u8 = b'M';
    /// Detail.
    pub const DETAIL: u8 = b'D';
    /// Hint.
    pub const HINT: u8 = b'H';
    /// Position in the statement's text, in characters from 1.
    pub const POSITION: u8 = b'P';
    /// Position in `INTERNAL_QUERY`.
    pub const INTERNAL_POSITION: u8 = b'p';
    /// Text of a statement that the server made.
    pub const INTERNAL_QUERY: u8 = b'q';
    /// Context: a stack of what was running.
    pub const WHERE: u8 = b'W';
    /// Schema.
    pub const SCHEMA: u8 = b's';
    /// Table.
    pub const TABLE: u8 = b't';
    /// Column.
    pub const COLUMN: u8 = b'c';
    /// Data type.
    pub const DATA_TYPE: u8 = b'd';
    /// Constraint.
    pub const CONSTRAINT: u8 = b'n';
    /// File of the server's source.
    pub const FILE: u8 = b'F';
    /// Line there.
    pub const LINE: u8 = b'L';
    /// Routine there.
    pub const ROUTINE: u8 = b'R';

    /// With severity (`ERROR`, `FATAL`, `WARNING`, `NOTICE`, …), SQLSTATE and message, as all need.
    pub fn new(severity: &str, code: &str, message: impl Into<String>) -> Self {
        Self(vec![
            (Self::SEVERITY, severity.to_owned()),
            (Self::SEVERITY_RAW, severity.to_owned()),
            (Self::CODE, code.to_owned()),
            (Self::MESSAGE, message.into()),
        ])
    }

    /// From a body.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let mut fields = Vec::new();
        loop {
            match reader.u8()? {
                0 => break,
                // Every field takes two bytes at least; a server knows about 18 of them.
                _ if fields.len() == 64 => return Err(Malformed::Value("number of error fields")),
                code => fields.push((code, lossy(&mut reader)?.into_owned())),
            }
        }
        reader.finish()?;
        Ok(Self(fields))
    }

    /// A field's text.
    pub fn get(&self, code: u8) -> Option<&str> {
        self.0.iter().find(|(have, _)| *have == code).map(|(_, text)| text.as_str())
    }

    /// SQLSTATE; `XX000` if there is none.
    pub fn code(&self) -> &str {
        self.get(Self::CODE).unwrap_or("XX000")
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.get(Self::MESSAGE).unwrap_or_default()
    }

    /// Severity, untranslated where the server says it.
    pub fn severity(&self) -> &str {
        self.get(Self::SEVERITY_RAW).or_else(|| self.get(Self::SEVERITY)).unwrap_or("ERROR")
    }

    /// Sets a field, or replaces it.
    pub fn set(&mut self, code: u8, text: impl Into<String>) {
        let text = text.into();
        match self.0.iter_mut().find(|(have, _)| *have == code) {
            Some((_, have)) => *have = text,
            None => self.0.push((code, text)),
        }
    }

    /// With a field.
    #[must_use]
    pub fn with(mut self, code: u8, text: impl Into<String>) -> Self {
        self.set(code, text);
        self
    }

    /// Takes a field out.
    pub fn remove(&mut self, code: u8) {
        self.0.retain(|(have, _)| *have != code);
    }

    /// Keeps only the fields that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(u8) -> bool) {
        self.0.retain(|(code, _)| keep(*code));
    }

    /// Code and text of each.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &str)> {
        self.0.iter().map(|(code, text)| (*code, text.as_str()))
    }

    /// As an ErrorResponse.
    pub fn write_error(&self, out: &mut BytesMut) {
        self.write(out, ERROR_RESPONSE);
    }

    /// As a NoticeResponse.
    pub fn write_notice(&self, out: &mut BytesMut) {
        self.write(out, NOTICE_RESPONSE);
    }

    fn write(&self, out: &mut BytesMut, tag: u8) {
        write(out, tag, |out| {
            for (code, text) in &self.0 {
                out.put_u8(*code);
                put_text(out, text);
            }
            out.put_u8(0);
            Ok(())
        });
    }
}

/// Writes AuthenticationOk.
pub fn write_authentication_ok(out: &mut BytesMut) {
    write(out, AUTHENTICATION, |out| {
        out.put_u32(0);
        Ok(())
    });
}

/// Writes ParseComplete.
pub fn write_parse_complete(out: &mut BytesMut) {
    write(out, PARSE_COMPLETE, |_| Ok(()));
}

/// Writes BindComplete.
pub fn write_bind_complete(out: &mut BytesMut) {
    write(out, BIND_COMPLETE, |_| Ok(()));
}

/// Writes CloseComplete.
pub fn write_close_complete(out: &mut BytesMut) {
    write(out, CLOSE_COMPLETE, |_| Ok(()));
}

/// Writes NoData.
pub fn write_no_data(out: &mut BytesMut) {
    write(out, NO_DATA, |_| Ok(()));
}

/// Writes EmptyQueryResponse.
pub fn write_empty_query_response(out: &mut BytesMut) {
    write(out, EMPTY_QUERY_RESPONSE, |_| Ok(()));
}

/// Writes PortalSuspended.
pub fn write_portal_suspended(out: &mut BytesMut) {
    write(out, PORTAL_SUSPENDED, |_| Ok(()));
}

/// Writes a ParameterDescription.
pub fn write_parameter_description(out: &mut BytesMut, types: &[u32]) {
    write(out, PARAMETER_DESCRIPTION, |out| {
        put_count(out, types.len())?;
        types.iter().for_each(|&oid| out.put_u32(oid));
        Ok(())
    });
}

/// A message of our own to the client. One that is over the protocol's limits is left out: none that we make can be.
fn write(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut) -> Result<(), Malformed>) {
    let written = message(out, tag, body);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Text of the server's; before the encoding is agreed it may be in any.
fn lossy<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, str>, Malformed> {
    reader.cstr_bytes().map(String::from_utf8_lossy)
}

/// Text for people, up to a NUL byte.
fn put_text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes().split(|&byte| byte == 0).next().unwrap_or_default());
    out.put_u8(0);
}
