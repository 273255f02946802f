//! Messages of a client, written down and sent again: the transparency corpus.
//!
//! A file holds one message a line, as JSON; `startup` begins a session. Values that are text stand as text, others as
//! `{"hex": "…"}`.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::postgres::Server;
use crate::wire::{Message, Wire, frame};

/// Makes the role and database of the corpus.
pub fn prepare(server: &Server, schema: &str) -> Result<()> {
    server.psql("postgres", "CREATE ROLE app LOGIN")?;
    server.psql("postgres", "CREATE DATABASE shop OWNER app")?;
    server.psql("shop", &format!("ALTER SCHEMA public OWNER TO app; SET ROLE app; {schema}"))?;
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count).context("short message")?;
        self.0 = tail;
        Ok(head)
    }
    fn u8(&mut self) -> Result<u8> {
        self.bytes(1)?.first().copied().context("short message")
    }
    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.bytes(2)?.try_into()?))
    }
    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.bytes(4)?.try_into()?))
    }
    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).context("no terminator")?;
        let text = String::from_utf8(self.bytes(end)?.to_vec())?;
        self.bytes(1)?;
        Ok(text)
    }
}

fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => json!(text),
        _ => json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let hex = value.get("hex").and_then(Value::as_str).context("neither text nor hex")?;
    hex.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

/// The startup message as JSON; None for a request of encryption, which is not kept.
pub fn decode_startup(body: &[u8]) -> Result<Option<Value>> {
    let mut reader = Reader(body);
    if reader.u32()? != 196_608 {
        return Ok(None);
    }
    let mut parameters = serde_json::Map::new();
    loop {
        let name = reader.text()?;
        if name.is_empty() {
            return Ok(Some(json!({"startup": parameters})));
        }
        parameters.insert(name, json!(reader.text()?));
    }
}

/// A message as JSON; None for one that is not kept.
pub fn decode(tag: u8, body: &[u8]) -> Result<Option<Value>> {
    let mut reader = Reader(body);
    Ok(Some(match tag {
        b'Q' => json!({"query": reader.text()?}),
        b'P' => {
            let (name, sql) = (reader.text()?, reader.text()?);
            let count = reader.u16()?;
            let types = (0..count).map(|_| reader.u32()).collect::<Result<Vec<_>>>()?;
            json!({"parse": {"name": name, "sql": sql, "types": types}})
        }
        b'B' => {
            let (portal, statement) = (reader.text()?, reader.text()?);
            let count = reader.u16()?;
            let formats = (0..count).map(|_| reader.u16()).collect::<Result<Vec<_>>>()?;
            let count = reader.u16()?;
            let mut parameters = Vec::new();
            for _ in 0..count {
                let length = reader.u32()?;
                parameters.push(match length {
                    u32::MAX => Value::Null,
                    length => value(reader.bytes(usize::try_from(length)?)?),
                });
            }
            let count = reader.u16()?;
            let results = (0..count).map(|_| reader.u16()).collect::<Result<Vec<_>>>()?;
            json!({"bind": {"portal": portal, "statement": statement, "formats": formats, "parameters": parameters, "results": results}})
        }
        b'D' => json!({"describe": [char::from(reader.u8()?).to_string(), reader.text()?]}),
        b'C' => json!({"close": [char::from(reader.u8()?).to_string(), reader.text()?]}),
        b'E' => json!({"execute": [reader.text()?, reader.u32()?]}),
        b'S' => json!({"sync": {}}),
        b'H' => json!({"flush": {}}),
        b'd' => json!({"copyData": value(body)}),
        b'c' => json!({"copyDone": {}}),
        b'f' => json!({"copyFail": reader.text()?}),
        b'F' => json!({"functionCall": value(body)}),
        b'X' => return Ok(None),
        _ => bail!("message {} is not known here", char::from(tag)),
    }))
}

/// The message's bytes again.
pub fn encode(message: &Value) -> Result<Vec<u8>> {
    let (kind, content) = message.as_object().and_then(|object| object.iter().next()).context("no message")?;
    let text =
        |value: &Value| -> Result<Vec<u8>> { Ok([value.as_str().context("no text")?.as_bytes(), b"\0"].concat()) };
    let part = |name: &str| content.get(name).with_context(|| format!("no {name} in {message}"));
    let numbers = |value: &Value| -> Result<Vec<u64>> {
        value.as_array().context("no list")?.iter().map(|number| number.as_u64().context("no number")).collect()
    };
    let two = |number: usize| -> Result<[u8; 2]> { Ok(u16::try_from(number)?.to_be_bytes()) };
    let named = |tag: u8| -> Result<Vec<u8>> {
        let kind = content.get(0).and_then(Value::as_str).context("no kind")?;
        Ok(frame(tag, &[kind.as_bytes(), &text(content.get(1).context("no name")?)?].concat()))
    };
    Ok(match kind.as_str() {
        "query" => frame(b'Q', &text(content)?),
        "parse" => {
            let mut body = [text(part("name")?)?, text(part("sql")?)?].concat();
            let types = numbers(part("types")?)?;
            body.extend(two(types.len())?);
            for oid in types {
                body.extend(u32::try_from(oid)?.to_be_bytes());
            }
            frame(b'P', &body)
        }
        "bind" => {
            let mut body = [text(part("portal")?)?, text(part("statement")?)?].concat();
            let formats = numbers(part("formats")?)?;
            body.extend(two(formats.len())?);
            for format in formats {
                body.extend(two(usize::try_from(format)?)?);
            }
            let parameters = part("parameters")?.as_array().context("no list")?;
            body.extend(two(parameters.len())?);
            for parameter in parameters {
                if parameter.is_null() {
                    body.extend(u32::MAX.to_be_bytes());
                    continue;
                }
                let parameter = bytes(parameter)?;
                body.extend(u32::try_from(parameter.len())?.to_be_bytes());
                body.extend(parameter);
            }
            let results = numbers(part("results")?)?;
            body.extend(two(results.len())?);
            for format in results {
                body.extend(two(usize::try_from(format)?)?);
            }
            frame(b'B', &body)
        }
        "describe" => named(b'D')?,
        "close" => named(b'C')?,
        "execute" => {
            let mut body = text(content.get(0).context("no portal")?)?;
            let rows = content.get(1).and_then(Value::as_u64).context("no rows")?;
            body.extend(u32::try_from(rows)?.to_be_bytes());
            frame(b'E', &body)
        }
        "sync" => frame(b'S', b""),
        "flush" => frame(b'H', b""),
        "copyData" => frame(b'd', &bytes(content)?),
        "copyDone" => frame(b'c', b""),
        "copyFail" => frame(b'f', &text(content)?),
        "functionCall" => frame(b'F', &bytes(content)?),
        _ => bail!("{kind} is not known"),
    })
}

/// The sessions of a file.
pub fn sessions(text: &str) -> Result<Vec<Vec<Value>>> {
    let mut sessions: Vec<Vec<Value>> = Vec::new();
    for line in text.lines() {
        let message: Value = serde_json::from_str(line)?;
        if message.get("startup").is_some() {
            sessions.push(Vec::new());
        }
        sessions.last_mut().context("no startup")?.push(message);
    }
    Ok(sessions)
}

/// What a program sends before it waits for ReadyForQuery.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// The messages up to a Query or Sync, or to a COPY FROM STDIN's data.
    pub head: Vec<Value>,
    /// The data of each COPY FROM STDIN, sent once the server asks for it.
    pub copies: Vec<Vec<Value>>,
}

/// The turns of a session. What follows its last Query or Sync has no answer and is left out.
pub fn turns(session: &[Value]) -> Vec<Turn> {
    let is = |message: &Value, names: &[&str]| names.iter().any(|name| message.get(name).is_some());
    let is_data = |message: &&Value| is(message, &["copyData", "copyDone", "copyFail"]);
    let mut turns = Vec::new();
    let mut head = Vec::new();
    let mut messages = session.iter().skip(1).peekable();
    while let Some(message) = messages.next() {
        head.push(message.clone());
        if !is(message, &["query", "functionCall", "sync"]) && !messages.peek().is_some_and(is_data) {
            continue;
        }
        let mut turn = Turn { head: std::mem::take(&mut head), copies: Vec::new() };
        let simple = turn.head.iter().any(|message| is(message, &["query"]));
        while messages.peek().is_some_and(is_data) {
            let mut copy = Vec::new();
            while let Some(message) = messages.next_if(is_data) {
                copy.push(message.clone());
                if !is(message, &["copyData"]) {
                    break;
                }
            }
            // A Sync before the data was swallowed by the copy.
            copy.extend(messages.next_if(|next| !simple && is(next, &["sync"])).cloned());
            turn.copies.push(copy);
        }
        turns.push(turn);
    }
    turns
}

impl Turn {
    /// Sends it as the program did, waiting only where that must have waited, and gives what came back.
    pub fn play(&self, wire: &mut Wire) -> Result<Vec<Message>> {
        let bytes = |messages: &[Value]| -> Result<Vec<u8>> {
            Ok(messages.iter().map(encode).collect::<Result<Vec<_>>>()?.concat())
        };
        wire.send(&bytes(&self.head)?)?;
        let mut copies = self.copies.iter();
        let mut received = Vec::new();
        loop {
            let message = wire.read()?;
            let tag = message.tag;
            received.push(message);
            match (tag, copies.as_slice().is_empty()) {
                (b'Z', _) => return Ok(received),
                (b'G', false) => wire.send(&bytes(copies.next().map_or(&[], Vec::as_slice))?)?,
                (b'G', true) => wire.send(&frame(b'f', b"no data was recorded\0"))?,
                _ => {}
            }
        }
    }

    /// The SQL in it.
    pub fn sql(&self) -> Vec<&str> {
        let texts =
            self.head.iter().filter_map(|message| message.get("query").or_else(|| message.pointer("/parse/sql")));
        texts.filter_map(Value::as_str).collect()
    }
}

/// A relay in front of a server that writes down what clients send.
#[derive(Debug)]
pub struct Recorder {
    port: u16,
    sessions: Arc<Mutex<Vec<Vec<Value>>>>,
}

impl Recorder {
    /// Starts a relay to the server's port.
    pub fn start(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let sessions = Arc::<Mutex<Vec<Vec<Value>>>>::default();
        let held = Arc::clone(&sessions);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let Ok(mut open) = held.lock() else { return };
                let index = open.len();
                open.push(Vec::new());
                drop(open);
                if let (Ok(mut from), Ok(mut to)) = (upstream.try_clone(), client.try_clone()) {
                    std::thread::spawn(move || {
                        _ = io::copy(&mut from, &mut to);
                        _ = to.shutdown(Shutdown::Both);
                    });
                }
                let sessions = Arc::clone(&held);
                std::thread::spawn(move || _ = record(client, upstream, index, &sessions));
            }
        });
        Ok(Self { port, sessions })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The sessions since this was last asked: those with a startup message, each with all that was sent.
    pub fn take(&self) -> Result<Vec<Vec<Value>>> {
        // The last bytes may still be on their way from the relay's socket.
        std::thread::sleep(Duration::from_millis(300));
        let mut sessions = self.sessions.lock().map_err(|_| anyhow!("poisoned"))?;
        // Places stay: who is connected still writes to its own.
        let taken = sessions.iter_mut().map(std::mem::take);
        Ok(taken.filter(|session| !session.is_empty()).collect())
    }
}

fn record(
    mut client: TcpStream,
    mut upstream: TcpStream,
    index: usize,
    sessions: &Mutex<Vec<Vec<Value>>>,
) -> Result<()> {
    let mut started = false;
    loop {
        let mut tag = [0; 1];
        if started && client.read_exact(&mut tag).is_err() {
            break;
        }
        let mut length = [0; 4];
        if client.read_exact(&mut length).is_err() {
            break;
        }
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length))?.saturating_sub(4)];
        client.read_exact(&mut body)?;
        let mut frame = if started { tag.to_vec() } else { Vec::new() };
        frame.extend(length);
        frame.extend(&body);
        let [tag] = tag;
        let value = if started { decode(tag, &body)? } else { decode_startup(&body)? };
        started |= value.is_some();
        if let Some(value) = value {
            let mut sessions = sessions.lock().map_err(|_| anyhow!("poisoned"))?;
            if let Some(session) = sessions.get_mut(index) {
                session.push(value);
            }
        }
        upstream.write_all(&frame)?;
    }
    _ = upstream.shutdown(Shutdown::Write);
    Ok(())
}

/// An answer without what must differ between two sessions: process ids and keys; and where in the server's source code
/// an error was raised.
pub fn comparable(messages: &[Message]) -> Vec<Message> {
    messages.iter().filter_map(comparable_message).collect()
}

fn comparable_message(message: &Message) -> Option<Message> {
    let mut message = message.clone();
    match message.tag {
        b'K' => return None,
        b'A' => message.body.iter_mut().take(4).for_each(|byte| *byte = 0),
        b'E' => {
            // An error of the gate's has no such place.
            let fields = message.body.split_inclusive(|byte| *byte == 0);
            let kept = fields.filter(|field| !field.first().is_some_and(|code| matches!(code, b'F' | b'L' | b'R')));
            message.body = kept.flatten().copied().collect();
        }
        _ => {}
    }
    Some(message)
}
