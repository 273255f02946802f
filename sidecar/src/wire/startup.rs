//! The packets before the first message: they have no tag.

use bytes::{BufMut, BytesMut};

use super::{Malformed, Reader, body_with_length, put_cstr};

/// As Postgres has it: `MAX_STARTUP_PACKET_LENGTH`.
pub const MAX_STARTUP: u32 = 10_000;
/// Protocol 3.0.
pub const PROTOCOL_3_0: u32 = 3 << 16;
/// Protocol 3.2: longer cancel keys.
pub const PROTOCOL_3_2: u32 = (3 << 16) | 2;
/// Names of options of the protocol itself begin so.
pub const PROTOCOL_OPTION: &str = "_pq_.";
/// The newest that we speak.
pub const LATEST: u32 = PROTOCOL_3_2;

const CANCEL: u32 = (1234 << 16) | 5678;
const SSL: u32 = (1234 << 16) | 5679;
const GSS_ENC: u32 = (1234 << 16) | 5680;

/// A packet before the first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// StartupMessage
    Startup(Startup<'a>),
    /// SSLRequest
    Ssl,
    /// GSSENCRequest
    GssEnc,
    /// CancelRequest
    Cancel {
        /// Process id from BackendKeyData.
        pid: u32,
        /// Key from BackendKeyData.
        key: &'a [u8],
    },
}

/// StartupMessage
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup<'a> {
    /// The version asked for: 3 in the upper 16 bits, any minor in the lower.
    pub version: u32,
    /// Names and values, in order.
    pub parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Startup<'a> {
    /// The last value of this name.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rev().find(|(have, _)| *have == name).map(|(_, value)| *value)
    }

    /// Options of the protocol itself that we don't know: all there are.
    pub fn protocol_options(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.parameters.iter().map(|(name, _)| *name).filter(|name| name.starts_with(PROTOCOL_OPTION))
    }

    /// The version to speak: what the client asked for, or the newest that we know.
    pub fn agreed_version(&self) -> u32 {
        self.version.min(LATEST)
    }

    /// Whether the client must be told with NegotiateProtocolVersion.
    pub fn needs_negotiation(&self) -> bool {
        self.version > LATEST || self.protocol_options().next().is_some()
    }
}

/// Length of the packet at the start of `buffer`, itself included; None while that isn't known.
pub fn peek(buffer: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    match length {
        0..8 => Err(Malformed::Length { tag: 0, length }),
        8..=MAX_STARTUP => Ok(Some(length as usize)),
        _ => Err(Malformed::TooLarge { tag: 0, length, cap: MAX_STARTUP }),
    }
}

/// Reads a whole packet, of the length that [`peek`] said.
pub fn read(packet: &[u8]) -> Result<Packet<'_>, Malformed> {
    let mut reader = Reader::new(packet);
    let length = reader.u32()? as usize;
    if length != packet.len() {
        return Err(if length > packet.len() { Malformed::Truncated } else { Malformed::Trailing });
    }
    match reader.u32()? {
        SSL => reader.finish().map(|()| Packet::Ssl),
        GSS_ENC => reader.finish().map(|()| Packet::GssEnc),
        CANCEL => {
            let pid = reader.u32()?;
            let key = reader.rest();
            if (4..=256).contains(&key.len()) {
                Ok(Packet::Cancel { pid, key })
            } else {
                Err(Malformed::Value("cancel key length"))
            }
        }
        version if version >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                match reader.cstr()? {
                    "" => break,
                    name => parameters.push((name, reader.cstr()?)),
                }
            }
            reader.finish()?;
            Ok(Packet::Startup(Startup { version, parameters }))
        }
        version => Err(Malformed::Version(version)),
    }
}

impl Packet<'_> {
    /// As bytes.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        body_with_length(out, 0, |out| {
            match self {
                Packet::Ssl => out.put_u32(SSL),
                Packet::GssEnc => out.put_u32(GSS_ENC),
                Packet::Cancel { pid, key } => {
                    out.put_u32(CANCEL);
                    out.put_u32(*pid);
                    out.put_slice(key);
                }
                Packet::Startup(startup) => {
                    out.put_u32(startup.version);
                    for (name, value) in &startup.parameters {
                        put_cstr(out, name)?;
                        put_cstr(out, value)?;
                    }
                    out.put_u8(0);
                }
            }
            Ok(())
        })
    }
}
