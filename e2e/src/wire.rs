//! A client of the protocol that keeps every message it is sent, so that a test can search all of it.
//!
//! It does nothing that libpq would not do, and less: no retries, no hidden queries.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

/// A message from the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// Its body, without the length.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", char::from(self.tag), self.body.escape_ascii())
    }
}

impl Message {
    /// The fields of an ErrorResponse or NoticeResponse.
    pub fn fields(&self) -> BTreeMap<char, String> {
        self.body
            .split(|byte| *byte == 0)
            .filter_map(|field| field.split_first())
            .map(|(code, text)| (char::from(*code), String::from_utf8_lossy(text).into_owned()))
            .collect()
    }

    /// The SQLSTATE, if it is an error or notice.
    pub fn sqlstate(&self) -> Option<String> {
        if matches!(self.tag, b'E' | b'N') { self.fields().remove(&'C') } else { None }
    }

    /// The cells of a DataRow.
    pub fn cells(&self) -> Result<Vec<Option<Vec<u8>>>> {
        ensure!(self.tag == b'D', "not a DataRow: {self:?}");
        let mut rest = self.body.as_slice();
        let count = u16::from_be_bytes(take(&mut rest)?);
        let mut cells = Vec::new();
        for _ in 0..count {
            let length = i32::from_be_bytes(take(&mut rest)?);
            cells.push(match usize::try_from(length) {
                Err(_) => None,
                Ok(length) => {
                    let (cell, after) = rest.split_at_checked(length).context("short DataRow")?;
                    rest = after;
                    Some(cell.to_vec())
                }
            });
        }
        Ok(cells)
    }

    /// The column names of a RowDescription.
    pub fn column_names(&self) -> Vec<String> {
        self.columns().into_iter().map(|column| column.name).collect()
    }

    /// The columns of a RowDescription.
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        let mut rest = self.body.get(2..).unwrap_or_default();
        while let Some(column) = column(&mut rest) {
            columns.push(column);
        }
        columns
    }
}

fn column(rest: &mut &[u8]) -> Option<Column> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let name = String::from_utf8_lossy(rest.get(..end)?).into_owned();
    *rest = rest.get(end + 1..)?;
    let relation = u32::from_be_bytes(take(rest).ok()?);
    let attribute = i16::from_be_bytes(take(rest).ok()?);
    let type_oid = u32::from_be_bytes(take(rest).ok()?);
    let [_, _] = take(rest).ok()?;
    let modifier = i32::from_be_bytes(take(rest).ok()?);
    let [_, _] = take(rest).ok()?;
    Some(Column { name, relation, attribute, type_oid, modifier })
}

/// A column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The relation that it comes from; 0 for none.
    pub relation: u32,
    /// Its number in that; 0 for none.
    pub attribute: i16,
    /// Its type.
    pub type_oid: u32,
    /// The type's modifier; -1 for none.
    pub modifier: i32,
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>().context("short message")?;
    *rest = tail;
    Ok(*head)
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The type and the whole length of the message that begins here.
fn header(held: &[u8]) -> Option<(u8, usize)> {
    let ([tag, length @ ..], _) = held.split_first_chunk::<5>()?;
    Some((*tag, usize::try_from(u32::from_be_bytes(*length)).ok()?.saturating_add(1)))
}

/// What a result came to; see [`Wire::drain`].
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// DataRow and CopyData messages.
    pub rows: u64,
    /// Their bytes, with their headers.
    pub bytes: u64,
    /// When the first of them was there.
    pub first_row: Option<Instant>,
}

/// A connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    start: usize,
    /// ParameterStatus and BackendKeyData of the start-up, and everything after, in the order of arrival.
    pub received: Vec<Message>,
    /// Where in `received` the start-up ended.
    pub start_up: usize,
    /// Whether it says goodbye when dropped: once it is logged in.
    polite: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("received", &self.received.len()).finish_non_exhaustive()
    }
}

/// Result formats of a Bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// All columns as text.
    Text,
    /// All columns in binary.
    Binary,
}

/// A message to the server, whole.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend((body.len() as u32 + 4).to_be_bytes());
    frame.extend(body);
    frame
}

/// A Query.
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// A Parse without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// A Parse with parameter types.
pub fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0"].concat();
    body.extend((types.len() as u16).to_be_bytes());
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    frame(b'P', &body)
}

/// A Bind with parameters as text.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&[u8]>], format: Format) -> Vec<u8> {
    let mut body = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0"].concat();
    body.extend((parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            None => body.extend((-1i32).to_be_bytes()),
            Some(value) => {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(*value);
            }
        }
    }
    body.extend(1u16.to_be_bytes());
    body.extend(u16::from(format == Format::Binary).to_be_bytes());
    frame(b'B', &body)
}

/// A Describe; `kind` is `S` or `P`.
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    frame(b'D', &[&[kind], name.as_bytes(), b"\0"].concat())
}

/// A Close; `kind` is `S` or `P`.
pub fn close(kind: u8, name: &str) -> Vec<u8> {
    frame(b'C', &[&[kind], name.as_bytes(), b"\0"].concat())
}

/// An Execute; 0 rows is all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()].concat())
}

/// A Sync.
pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// A Flush.
pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

/// Name and value of parameters in a startup message.
pub type Parameters<'a> = &'a [(&'a str, &'a str)];

/// Protocol 3.0, which every server speaks.
pub const PROTOCOL_3_0: u32 = 3 << 16;

/// Asks for TLS.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A StartupMessage.
pub fn startup(version: u32, parameters: Parameters<'_>) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// A CancelRequest with the body of a BackendKeyData.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    [&(key.len() as u32 + 8).to_be_bytes()[..], &80_877_102u32.to_be_bytes(), key].concat()
}

impl Wire {
    /// Connects by TCP on 127.0.0.1 and logs in.
    pub fn connect(port: u16, user: &str, password: &str, database: &str) -> Result<Self> {
        Self::connect_with(port, password, &[("user", user), ("database", database)])
    }

    /// Connects by TCP on 127.0.0.1 and logs in with these startup parameters.
    pub fn connect_with(port: u16, password: &str, parameters: Parameters<'_>) -> Result<Self> {
        Self::open(port)?.start(password, parameters)
    }

    /// Connects by TCP on 127.0.0.1 and sends nothing yet.
    pub fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(180)))?;
        Ok(Self::over(stream))
    }

    /// Speaks over a stream on which nothing was sent yet.
    pub fn over(stream: impl Read + Write + Send + 'static) -> Self {
        let stream = Box::new(stream);
        Self { stream, buffer: Vec::new(), start: 0, received: Vec::new(), start_up: 0, polite: false }
    }

    /// Connects by unix socket and logs in.
    pub fn connect_unix(folder: &Path, port: u16, parameters: Parameters<'_>) -> Result<Self> {
        let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))?;
        stream.set_read_timeout(Some(Duration::from_secs(180)))?;
        Self::over(stream).start("", parameters)
    }

    /// Logs in.
    pub fn start(mut self, password: &str, parameters: Parameters<'_>) -> Result<Self> {
        self.send(&startup(PROTOCOL_3_0, parameters))?;
        let user = parameters.iter().find(|(name, _)| *name == "user").map(|(_, user)| *user).unwrap_or_default();
        self.authenticate(user, password)?;
        self.until_ready()?;
        self.start_up = self.received.len();
        self.polite = true;
        Ok(self)
    }

    fn authenticate(&mut self, user: &str, password: &str) -> Result<()> {
        let mut scram: Option<ScramSha256> = None;
        loop {
            let message = self.read()?;
            if message.tag == b'E' {
                bail!("refused: {:?}", message.fields());
            }
            ensure!(message.tag == b'R', "unexpected {message:?}");
            let mut rest = message.body.as_slice();
            let kind = u32::from_be_bytes(take(&mut rest)?);
            let zeroed = |text: &[u8]| [text, b"\0"].concat();
            match (kind, &mut scram) {
                (0, _) => return Ok(()),
                (3, _) => self.send(&frame(b'p', &zeroed(password.as_bytes())))?,
                (5, _) => {
                    let salt = take::<4>(&mut rest)?;
                    let hash = postgres_protocol::authentication::md5_hash(user.as_bytes(), password.as_bytes(), salt);
                    self.send(&frame(b'p', &zeroed(hash.as_bytes())))?;
                }
                (10, _) => {
                    let client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    let first = client.message().to_vec();
                    scram = Some(client);
                    let length = u32::try_from(first.len())?.to_be_bytes();
                    self.send(&frame(b'p', &[b"SCRAM-SHA-256\0", &length[..], &first].concat()))?;
                }
                (11, Some(client)) => {
                    client.update(rest)?;
                    let answer = client.message().to_vec();
                    self.send(&frame(b'p', &answer))?;
                }
                (12, Some(client)) => client.finish(rest)?,
                _ => bail!("authentication {kind} is not known here"),
            }
        }
    }

    /// The process that serves it, as the server has said.
    pub fn backend(&self) -> Result<u32> {
        Ok(u32::from_be_bytes(take(&mut self.key()?)?))
    }

    /// The body of BackendKeyData: who may cancel.
    pub fn key(&self) -> Result<&[u8]> {
        let key = self.received.iter().find(|message| message.tag == b'K').context("no BackendKeyData")?;
        Ok(&key.body)
    }

    /// Closes the connection without a goodbye, as a client that is killed.
    pub fn vanish(mut self) {
        self.polite = false;
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        Ok(())
    }

    /// Reads one message, and keeps it.
    pub fn read(&mut self) -> Result<Message> {
        loop {
            let held = self.held();
            if let Some((tag, length)) = header(held)
                && let Some(body) = held.get(5..length)
            {
                let message = Message { tag, body: body.to_vec() };
                self.start += length;
                self.received.push(message.clone());
                return Ok(message);
            }
            self.fill()?;
        }
    }

    /// What was received and not yet taken.
    fn held(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Receives more.
    fn fill(&mut self) -> Result<()> {
        const CHUNK: usize = 64 * 1024;
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + CHUNK, 0);
        let count = self.stream.read(self.buffer.get_mut(held..).unwrap_or_default())?;
        self.buffer.truncate(held + count);
        ensure!(count > 0, "the connection was closed; last: {:?}", self.received.last());
        Ok(())
    }

    /// Reads up to and with the next ReadyForQuery and keeps no rows: for results of any size.
    pub fn drain(&mut self) -> Result<Drained> {
        let mut drained = Drained { rows: 0, bytes: 0, first_row: None };
        loop {
            let mut rest = self.buffer.get(self.start..).unwrap_or_default();
            while let Some((b'D' | b'd', length)) = header(rest)
                && let Some(after) = rest.get(length..)
            {
                drained.first_row.get_or_insert_with(Instant::now);
                drained.rows += 1;
                drained.bytes += length as u64;
                rest = after;
            }
            self.start = self.buffer.len() - rest.len();
            match header(rest) {
                None | Some((b'D' | b'd', _)) => self.fill()?,
                Some(_) => {
                    let message = self.read()?;
                    ensure!(message.tag != b'E', "refused: {:?}", message.fields());
                    if message.tag == b'Z' {
                        return Ok(drained);
                    }
                }
            }
        }
    }

    /// Reads up to and with the next ReadyForQuery; what came.
    pub fn until_ready(&mut self) -> Result<Vec<Message>> {
        self.until(b'Z')
    }

    /// Reads up to and with the next message of this type; what came.
    pub fn until(&mut self, tag: u8) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            messages.push(message);
            if messages.last().is_some_and(|message| message.tag == tag) {
                return Ok(messages);
            }
        }
    }

    /// A simple query, and what came back. A CopyIn is answered by an empty one.
    pub fn simple(&mut self, sql: &str) -> Result<Vec<Message>> {
        self.send(&query(sql))?;
        self.finish_with_copy(b"")
    }

    /// A simple query with data for its CopyIn.
    pub fn copy_in(&mut self, sql: &str, data: &[u8]) -> Result<Vec<Message>> {
        self.send(&query(sql))?;
        self.finish_with_copy(data)
    }

    fn finish_with_copy(&mut self, data: &[u8]) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            let tag = message.tag;
            messages.push(message);
            match tag {
                b'G' => {
                    let mut frames = if data.is_empty() { Vec::new() } else { frame(b'd', data) };
                    frames.extend(frame(b'c', b""));
                    self.send(&frames)?;
                }
                b'Z' => return Ok(messages),
                _ => {}
            }
        }
    }

    /// Parse, Bind, Describe, Execute, Sync of one statement without parameters, and what came back.
    pub fn extended(&mut self, sql: &str, format: Format) -> Result<Vec<Message>> {
        self.extended_with(sql, &[], format)
    }

    /// The same with parameters as text.
    pub fn extended_with(&mut self, sql: &str, parameters: &[Option<&[u8]>], format: Format) -> Result<Vec<Message>> {
        let frames =
            [parse("", sql), bind("", "", parameters, format), describe(b'P', ""), execute("", 0), sync()].concat();
        self.send(&frames)?;
        self.finish_extended()
    }

    /// As [`Wire::until_ready`], answering a CopyIn by an empty one.
    fn finish_extended(&mut self) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            let tag = message.tag;
            messages.push(message);
            match tag {
                // The Sync that we sent was swallowed by the copy.
                b'G' => self.send(&[frame(b'c', b""), sync()].concat())?,
                b'Z' => return Ok(messages),
                _ => {}
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.polite {
            _ = self.send(&frame(b'X', b""));
        }
    }
}

/// The rows among messages, cells as text (lossy), NULL as `∅`.
pub fn rows(messages: &[Message]) -> Vec<Vec<String>> {
    messages
        .iter()
        .filter_map(|message| message.cells().ok())
        .map(|cells| {
            cells
                .into_iter()
                .map(|cell| cell.map_or("∅".into(), |cell| String::from_utf8_lossy(&cell).into_owned()))
                .collect()
        })
        .collect()
}

/// The first error among messages.
pub fn error(messages: &[Message]) -> Option<&Message> {
    messages.iter().find(|message| message.tag == b'E')
}
