//! Messages of a client, written down and sent again: the transparency corpus.
//!
//! A file holds one message a line, as JSON; `startup` begins a session. Values that are text stand as text, others as
//! `{"hex": "…"}`.

use anyhow::{Context, Result, bail};
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

/// What was sent up to the next answer that ends in ReadyForQuery (or in a CopyIn), and that answer.
#[derive(Debug)]
pub struct Exchange {
    /// The messages sent.
    pub sent: Vec<Value>,
    /// The messages that came back.
    pub received: Vec<Message>,
}

/// Plays a session: every message as it was, waiting for an answer only where the program must have waited.
pub fn play(wire: &mut Wire, session: &[Value]) -> Result<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    let mut sent = Vec::new();
    let mut messages = session.iter().skip(1).peekable();
    // Frames that are not answered yet.
    let mut frames = Vec::new();
    let mut copying = false;
    // The server did not want the data that follows.
    let mut unwanted = false;
    while let Some(message) = messages.next() {
        let is = |name: &str| message.get(name).is_some();
        // A COPY FROM STDIN waits for the server's word before its data.
        let data_follows = |next: Option<&&Value>| {
            next.is_some_and(|next| ["copyData", "copyDone", "copyFail"].iter().any(|name| next.get(name).is_some()))
        };
        if unwanted && (is("copyData") || is("copyDone") || is("copyFail")) {
            continue;
        }
        unwanted = false;
        frames.extend(encode(message)?);
        sent.push(message.clone());
        if copying {
            if is("copyDone") || is("copyFail") {
                copying = false;
                // In the simple protocol the answer ends here; in the extended one with the Sync to come.
                let simple = exchanges.last().is_some_and(|exchange: &Exchange| {
                    exchange.sent.iter().any(|message| message.get("query").is_some())
                });
                if !simple {
                    continue;
                }
            } else {
                continue;
            }
        } else if data_follows(messages.peek()) {
            wire.send(&std::mem::take(&mut frames))?;
            let received = until(wire, b"GZ")?;
            copying = received.last().is_some_and(|message| message.tag == b'G');
            unwanted = !copying;
            exchanges.push(Exchange { sent: std::mem::take(&mut sent), received });
            continue;
        } else if !(is("query") || is("sync")) {
            continue;
        }
        wire.send(&std::mem::take(&mut frames))?;
        let received = until(wire, b"Z")?;
        exchanges.push(Exchange { sent: std::mem::take(&mut sent), received });
    }
    Ok(exchanges)
}

fn until(wire: &mut Wire, tags: &[u8]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    loop {
        messages.push(wire.read()?);
        if messages.last().is_some_and(|message| tags.contains(&message.tag)) {
            return Ok(messages);
        }
    }
}
