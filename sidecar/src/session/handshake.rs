//! From an accepted socket to a session: TLS if wanted, the start-up packet, the connection to the server, and the
//! answer.
//!
//! No more is read than the step needs, so that
//! nothing sent in plaintext can pass for something sent encrypted. No password is asked for: who can connect is the
//! workload.

mod options;
mod registry;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

pub use options::{Accept, Judge, Terms};
pub use registry::{Registration, Registry};

use crate::decide::settings::{parse_list, with_user};
use crate::listen::{Seat, Socket};
use crate::stream::ClientStream;
use crate::upstream::{self, ConnectError, QueryError, Upstream};
use crate::wire::Malformed;
use crate::wire::backend::{self, BackendKeyData, Fields, NegotiateProtocolVersion, ParameterStatus};
use crate::wire::startup::{self, Packet, Startup};
use options::{Wishes, clean_application_name};

/// How long a client may take for its start-up, TLS included.
pub const STARTUP_DEADLINE: Duration = Duration::from_secs(30);
/// How long a client that is sent away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// First byte of a TLS handshake; no start-up packet begins with it, for none is so long.
const TLS_HANDSHAKE: u8 = 0x16;

/// What all start-ups of a sidecar share.
#[derive(Clone, Debug)]
pub struct Door {
    /// TLS for clients over TCP, which may use it or not.
    pub tls: Option<Arc<ServerConfig>>,
    /// Sessions that can be cancelled.
    pub registry: Registry,
    /// Places for sessions; each has one from the moment that it is asked for.
    places: Arc<Semaphore>,
}

impl Door {
    /// A door to at most so many sessions at a time.
    pub fn new(tls: Option<Arc<ServerConfig>>, max_sessions: usize) -> Self {
        let places = Arc::new(Semaphore::new(max_sessions.min(Semaphore::MAX_PERMITS)));
        Self { tls, registry: Registry::default(), places }
    }
}

/// A session at its start: the server is ready for a query, and the client knows it.
#[derive(Debug)]
pub struct Ready {
    /// The client.
    pub client: ClientStream,
    /// Whether the client uses TLS.
    pub tls: bool,
    /// The server.
    pub upstream: Upstream,
    /// The protocol version that the client speaks.
    pub version: u32,
    /// The client's own application_name, as the server would have it.
    pub application_name: Arc<str>,
    /// `search_path` as the server has it, `$user` replaced by the role.
    pub search_path: Arc<[String]>,
    /// Names of the custom settings that the client's start-up set.
    pub custom_settings: Vec<String>,
    /// The session's place among those that can be cancelled, to be held as long as it lives.
    pub registration: Registration,
    /// The session's place, to be held likewise.
    pub place: OwnedSemaphorePermit,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("the client took too long to start")]
    Timeout,
    /// It said nothing while others waited to be heard.
    #[error("the client said nothing, and its place was needed")]
    Silent,
    /// The client went away.
    #[error("the client went away during its start-up")]
    Gone(#[source] io::Error),
    /// TLS failed.
    #[error("TLS with the client failed")]
    Tls(#[source] io::Error),
    /// What the client sent is not the protocol.
    #[error("the client's start-up is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The client asked for what it can't have; it was told why.
    #[error("refused: {}", .0.message())]
    Refused(Fields),
    /// There is no connection to the server; the client was told why.
    #[error("no connection to the database: {0}")]
    Upstream(#[from] ConnectError),
    /// The server's settings could not be read.
    #[error("the database failed a query at the start of a session: {0}")]
    Query(#[from] QueryError),
}

impl HandshakeError {
    /// What the client is told; None if it can't listen.
    fn to_fields(&self) -> Option<Fields> {
        match self {
            HandshakeError::Gone(_) | HandshakeError::Tls(_) | HandshakeError::Silent => None,
            HandshakeError::Timeout => Some(Fields::new("FATAL", "08P01", self.to_string())),
            HandshakeError::Malformed(error) => Some(Fields::new("FATAL", error.sqlstate(), error.to_string())),
            HandshakeError::Refused(fields) => Some(fields.clone()),
            HandshakeError::Upstream(error) => Some(error.to_fields()),
            HandshakeError::Query(_) => Some(Fields::new("FATAL", "08006", "the database did not answer as it should")),
        }
    }

    fn refuse(code: &str, message: impl Into<String>) -> Self {
        HandshakeError::Refused(Fields::new("FATAL", code, message))
    }
}

/// Serves a connection's start-up. None is a connection that is over: it cancelled, or only looked whether someone
/// listens. `terms` says, once the client has said what it wants, under what a session starts now, or why none can.
pub async fn start(
    socket: Socket,
    door: &Door,
    mut seat: Seat,
    terms: impl FnOnce() -> Result<Terms, Fields>,
) -> Result<Option<Ready>, HandshakeError> {
    let opened = tokio::select! {
        opened = timeout(STARTUP_DEADLINE, open(socket, door)) => opened.unwrap_or(Err(HandshakeError::Timeout))?,
        () = seat.is_needed() => return Err(HandshakeError::Silent),
    };
    let Identified { client, wants } = match opened {
        Opened::Nothing => return Ok(None),
        Opened::Cancel { pid, key, mut client } => {
            cancel(door, pid, &key).await;
            // As Postgres does: no answer, and closed when the server has taken note. Over TLS with its goodbye, as
            // far as the client waits for it.
            let _ = timeout(FAREWELL, client.shutdown()).await;
            return Ok(None);
        }
        Opened::Startup(identified) => identified,
    };
    let Ok(place) = Arc::clone(&door.places).try_acquire_owned() else {
        let error = HandshakeError::refuse("53300", "sorry, too many clients already");
        return Err(send_away(client, error).await);
    };
    drop(seat);
    let connected = async {
        let terms = terms().map_err(HandshakeError::Refused)?;
        Connected::connect(&wants, &terms).await
    };
    match connected.await {
        Ok(connected) => connected.greet(client, &wants, door, place).await.map(Some),
        Err(error) => Err(send_away(client, error).await),
    }
}

/// Cancels the session that is meant, if there is one. Nobody is told whether there is.
async fn cancel(door: &Door, pid: u32, key: &[u8]) {
    let Some(token) = door.registry.find(pid, key) else { return };
    if let Err(error) = token.cancel().await {
        tracing::warn!(%error, "a client's cancel request could not be passed on");
    }
}

/// What a connection is for.
enum Opened {
    /// Nothing: a probe of the port.
    Nothing,
    /// To cancel a session.
    Cancel { pid: u32, key: Vec<u8>, client: ClientStream },
    /// A session.
    Startup(Identified),
}

/// A client that has said what it wants.
struct Identified {
    client: ClientStream,
    wants: Wants,
}

/// A start-up packet, kept.
struct Wants {
    version: u32,
    negotiate: bool,
    unknown_options: Vec<String>,
    parameters: Vec<(String, String)>,
}

impl Wants {
    fn new(startup: &Startup<'_>) -> Self {
        Self {
            version: startup.agreed_version(),
            negotiate: startup.needs_negotiation(),
            unknown_options: startup.protocol_options().map(str::to_owned).collect(),
            parameters: startup
                .parameters
                .iter()
                .filter(|(name, _)| !name.starts_with(startup::PROTOCOL_OPTION))
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }
}

/// The first packets, up to the one that says what the connection is for.
async fn open(socket: Socket, door: &Door) -> Result<Opened, HandshakeError> {
    let mut client = match socket {
        Socket::Tcp(socket) => ClientStream::Tcp(socket),
        Socket::Unix(socket) => ClientStream::Unix(socket),
    };
    let mut first = match client.read_u8().await {
        Ok(byte) => Some(byte),
        Err(_) => return Ok(Opened::Nothing),
    };
    let (mut asked_tls, mut asked_gss) = (false, false);
    if first == Some(TLS_HANDSHAKE) {
        client = direct_tls(client, door).await?;
        first = None;
        asked_tls = true;
    }
    loop {
        let packet = match read_packet(&mut client, first.take()).await {
            Ok(packet) => packet,
            Err(error) => return Err(send_away(client, error).await),
        };
        match startup::read(&packet) {
            Ok(Packet::Ssl) if !asked_tls => {
                asked_tls = true;
                client = answer_tls(client, door).await?;
            }
            Ok(Packet::GssEnc) if !asked_gss => {
                asked_gss = true;
                client.write_all(b"N").await.map_err(HandshakeError::Gone)?;
            }
            Ok(Packet::Cancel { pid, key }) => return Ok(Opened::Cancel { pid, key: key.to_vec(), client }),
            Ok(Packet::Startup(startup)) => {
                return Ok(Opened::Startup(Identified { client, wants: Wants::new(&startup) }));
            }
            Ok(Packet::Ssl | Packet::GssEnc) => {
                let error = HandshakeError::refuse("08P01", "encryption was asked for twice");
                return Err(send_away(client, error).await);
            }
            Err(error) => return Err(send_away(client, error.into()).await),
        }
    }
}

/// Reads one packet and not a byte more.
async fn read_packet(client: &mut ClientStream, first: Option<u8>) -> Result<Vec<u8>, HandshakeError> {
    let mut head = [0; 4];
    let (start, rest) = head.split_at_mut(usize::from(first.is_some()));
    start.iter_mut().zip(first).for_each(|(place, byte)| *place = byte);
    client.read_exact(rest).await.map_err(HandshakeError::Gone)?;
    // At most 10,000 bytes.
    let length = startup::peek(&head)?.unwrap_or(head.len());
    let mut packet = head.to_vec();
    packet.resize(length, 0);
    let body = packet.get_mut(head.len()..).unwrap_or_default();
    client.read_exact(body).await.map_err(HandshakeError::Gone)?;
    Ok(packet)
}

/// Answers SSLRequest, and does the handshake if the answer is yes. What a client sent ahead of the answer is for the
/// handshake to fail on.
async fn answer_tls(mut client: ClientStream, door: &Door) -> Result<ClientStream, HandshakeError> {
    let Some((tls, ClientStream::Tcp(tcp))) = door.tls.as_ref().map(|tls| (tls, &mut client)) else {
        client.write_all(b"N").await.map_err(HandshakeError::Gone)?;
        return Ok(client);
    };
    tcp.write_all(b"S").await.map_err(HandshakeError::Gone)?;
    let ClientStream::Tcp(tcp) = client else { return Ok(client) };
    let stream = TlsAcceptor::from(Arc::clone(tls)).accept(tcp).await.map_err(HandshakeError::Tls)?;
    Ok(ClientStream::Tls(Box::new(stream)))
}

/// TLS without SSLRequest, whose first byte is read already. As Postgres has it, the client must say by ALPN that it
/// means this protocol: no browser or other client can be made to talk to us by mistake.
async fn direct_tls(client: ClientStream, door: &Door) -> Result<ClientStream, HandshakeError> {
    let refused = |why: &str| HandshakeError::Tls(io::Error::new(io::ErrorKind::InvalidData, why));
    let (Some(tls), ClientStream::Tcp(tcp)) = (&door.tls, client) else { return Err(refused("not offered")) };
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut [TLS_HANDSHAKE].as_slice()).map_err(HandshakeError::Tls)?;
    let hello = LazyConfigAcceptor::new(acceptor, tcp).await.map_err(HandshakeError::Tls)?;
    let stream = hello.into_stream(Arc::clone(tls)).await.map_err(HandshakeError::Tls)?;
    if stream.get_ref().1.alpn_protocol().is_none() {
        return Err(refused("direct TLS without ALPN"));
    }
    Ok(ClientStream::Tls(Box::new(stream)))
}

/// A session whose server is ready, and whose client waits.
struct Connected {
    upstream: Upstream,
    application_name: Arc<str>,
    search_path: Arc<[String]>,
    custom_settings: Vec<String>,
}

impl Connected {
    async fn connect(wants: &Wants, terms: &Terms) -> Result<Self, HandshakeError> {
        let wishes = Wishes::read(&wants.parameters, terms).map_err(HandshakeError::Refused)?;
        let mut upstream = upstream::connect(&terms.upstream, &wishes.parameters, wants.version).await?;
        // What the proxy reads SQL by. The start-up asked for it, so only something between could say otherwise.
        for (name, needed) in [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")] {
            if parameter(&upstream, name) != Some(needed) {
                return Err(HandshakeError::refuse("08P01", format!("the database did not set {name} to {needed}")));
            }
        }
        let search_path = match parameter(&upstream, "search_path") {
            Some(path) => path.to_owned(),
            None => {
                let rows = timeout(terms.upstream.timeout, upstream.query("SHOW search_path")).await;
                first_value(rows.map_err(|_| ConnectError::Timeout)??)
            }
        };
        let Some(path) = parse_list(&search_path) else {
            let message = "the search_path that the database gives this role is not certain: write its names in quotes";
            return Err(HandshakeError::refuse("22023", message.to_owned()));
        };
        let version = parameter(&upstream, "server_version").unwrap_or_default();
        Ok(Self {
            application_name: clean_application_name(&wishes.application_name, version).into(),
            search_path: with_user(&path, &terms.role).into(),
            custom_settings: wishes.custom,
            upstream,
        })
    }

    /// Tells the client that its session is ready.
    async fn greet(
        self,
        mut client: ClientStream,
        wants: &Wants,
        door: &Door,
        place: OwnedSemaphorePermit,
    ) -> Result<Ready, HandshakeError> {
        let Self { upstream, application_name, search_path, custom_settings } = self;
        let registration = door.registry.enter(upstream.backend_pid, wants.version, upstream.cancel_token().clone());
        let mut out = BytesMut::with_capacity(1 << 10);
        if wants.negotiate {
            let unknown_options = wants.unknown_options.iter().map(String::as_str).collect();
            NegotiateProtocolVersion { version: wants.version, unknown_options }.write(&mut out);
        }
        backend::write_authentication_ok(&mut out);
        for (name, value) in &upstream.parameters {
            let value = if name == "application_name" { &*application_name } else { value.as_str() };
            ParameterStatus { name: name.into(), value: value.into() }.write(&mut out);
        }
        BackendKeyData { pid: registration.pid(), key: registration.key() }.write(&mut out);
        upstream.status.write(&mut out);
        let sent = async {
            client.write_all(&out).await?;
            client.flush().await
        };
        if let Err(error) = timeout(STARTUP_DEADLINE, sent).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            upstream.close().await;
            return Err(HandshakeError::Gone(error));
        }
        let tls = matches!(client, ClientStream::Tls(_));
        Ok(Ready {
            client,
            tls,
            upstream,
            version: wants.version,
            application_name,
            search_path,
            custom_settings,
            registration,
            place,
        })
    }
}

fn parameter<'a>(upstream: &'a Upstream, name: &str) -> Option<&'a str> {
    upstream.parameters.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

fn first_value(rows: Vec<upstream::Row>) -> String {
    rows.into_iter().flatten().flatten().next().unwrap_or_default()
}

/// Tells a client why there is no session, as far as it listens.
async fn send_away(mut client: ClientStream, error: HandshakeError) -> HandshakeError {
    let Some(fields) = error.to_fields() else { return error };
    let mut out = BytesMut::new();
    fields.write_error(&mut out);
    let farewell = async {
        client.write_all(&out).await?;
        client.shutdown().await?;
        // What it sent and nobody will read would make the system take the error back; so a little is read.
        let mut ignored = [0; 512];
        for _ in 0..32 {
            if client.read(&mut ignored).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Whether it heard makes no difference: it is closed either way.
    let _ = timeout(FAREWELL, farewell).await;
    error
}
