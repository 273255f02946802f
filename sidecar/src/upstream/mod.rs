//! The connection to the real Postgres: transport, TLS, login, cancel, and the proxy's own small queries.

mod cancel;
mod login;
mod query;
mod scram;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

pub use crate::stream::UpstreamStream;
pub use cancel::CancelToken;
pub use query::{QueryError, Row};
pub use scram::{Credential, ScramError};
pub use tls::{Tls, TlsConfigError};

use crate::wire::backend::{Fields, TransactionStatus};
use crate::wire::{Malformed, frontend, startup};

/// Where the server is and how to log in to it.
#[derive(Debug)]
pub struct UpstreamConfig {
    /// DNS name, address, or the absolute path of a directory with a unix socket.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// User and password. Make a new one when the password changes: it remembers what was derived from it.
    pub credential: Credential,
    /// TLS, for TCP; a unix socket never has it.
    pub tls: Tls,
    /// How long transport, TLS and login may take together.
    pub timeout: Duration,
}

/// A logged-in connection, idle.
#[derive(Debug)]
pub struct Upstream {
    /// The bytes.
    pub stream: UpstreamStream,
    /// ParameterStatus as it came during login; the last value of each.
    pub parameters: Vec<(String, String)>,
    /// The protocol version that was agreed.
    pub protocol: u32,
    /// Process id of the backend.
    pub backend_pid: u32,
    /// Bytes that were read and not yet looked at. Whoever reads goes on from here.
    pub leftover: BytesMut,
    /// As the last ReadyForQuery said.
    pub status: TransactionStatus,
    /// Frames of NotificationResponse and ParameterStatus that came in between while [`Upstream::query`] ran.
    pub aside: BytesMut,
    cancel: CancelToken,
}

/// Where a connection really went, of the addresses that a name may have.
#[derive(Clone, Debug)]
enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or resolving failed.
    #[error("the database's host name can't be resolved")]
    Resolve(#[source] std::io::Error),
    /// No transport.
    #[error("the database can't be reached")]
    Transport(#[source] std::io::Error),
    /// Transport, TLS and login took too long.
    #[error("the database did not answer in time")]
    Timeout,
    /// The policy wants TLS and the server has none.
    #[error("the database does not offer TLS, which the policy asks for")]
    TlsRefused,
    /// The TLS handshake failed, or the certificate isn't good.
    #[error("TLS with the database failed: {0}")]
    Tls(#[source] std::io::Error),
    /// The connection broke during login.
    #[error("the database closed the connection during login")]
    Closed(#[source] std::io::Error),
    /// The server does not speak the protocol.
    #[error("the database sent what is not the Postgres protocol: {0}")]
    Malformed(#[from] Malformed),
    /// The server sent more during login than any login takes, or messages that have no place in it.
    #[error("the database sent an unexpected message during login")]
    Unexpected,
    /// The server asks for the password as it is, and the connection isn't encrypted.
    #[error("the database asks for a cleartext password on a connection without TLS; refused")]
    CleartextRefused,
    /// The server asks for the password in a way that shows it to whoever poses as the server, and isn't verified.
    #[error(
        "the database asks for a cleartext or md5 password, and its certificate is not verified; refused: use \
         scram-sha-256, or the TLS mode VerifyFull or VerifyCa"
    )]
    UnverifiedServer,
    /// The server asks for a way to log in that we don't know.
    #[error("the database asks for an authentication method that is not supported")]
    Method,
    /// SCRAM failed on our side of it.
    #[error("login at the database failed: {0}")]
    Scram(#[from] ScramError),
    /// The server said no.
    #[error("the database refused the connection: {}", .0.message())]
    Server(Fields),
}

impl ConnectError {
    /// The SQLSTATE that fits.
    pub fn sqlstate(&self) -> &str {
        match self {
            ConnectError::Resolve(_)
            | ConnectError::Transport(_)
            | ConnectError::Timeout
            | ConnectError::TlsRefused
            | ConnectError::Tls(_) => "08001",
            ConnectError::Closed(_) => "08006",
            ConnectError::Malformed(_) | ConnectError::Unexpected => "08P01",
            ConnectError::CleartextRefused
            | ConnectError::UnverifiedServer
            | ConnectError::Method
            | ConnectError::Scram(_) => "28000",
            ConnectError::Server(fields) => fields.code(),
        }
    }

    /// What the client is told: never a password, no address, none of the server's inner fields.
    pub fn to_fields(&self) -> Fields {
        match self {
            ConnectError::Server(fields) => {
                let mut told = Fields::new("FATAL", fields.code(), fields.message());
                for code in [Fields::DETAIL, Fields::HINT] {
                    if let Some(text) = fields.get(code) {
                        told.set(code, text);
                    }
                }
                told
            }
            other => Fields::new("FATAL", other.sqlstate(), other.to_string()),
        }
    }
}

/// Connects, encrypts and logs in. `parameters` are those of the startup packet besides `user` and `database`;
/// `protocol` is the newest version to ask for.
pub async fn connect(
    config: &Arc<UpstreamConfig>,
    parameters: &[(String, String)],
    protocol: u32,
) -> Result<Upstream, ConnectError> {
    let deadline = Instant::now() + config.timeout;
    timeout_at(deadline, async {
        let (stream, peer) = open(config, deadline).await?;
        login::login(config, stream, peer, parameters, protocol).await
    })
    .await
    .unwrap_or(Err(ConnectError::Timeout))
}

impl Upstream {
    /// What cancels the statement that runs on this connection.
    pub const fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Says goodbye, as far as the server listens.
    pub async fn close(mut self) {
        let mut goodbye = BytesMut::with_capacity(5);
        frontend::write_terminate(&mut goodbye);
        let polite = async {
            self.stream.write_all(&goodbye).await?;
            self.stream.shutdown().await
        };
        // A server that doesn't take five bytes sees the connection end all the same.
        let _ = timeout(Duration::from_secs(1), polite).await;
    }
}

/// Transport and TLS to the first address that answers.
async fn open(config: &UpstreamConfig, deadline: Instant) -> Result<(UpstreamStream, Peer), ConnectError> {
    if config.host.starts_with('/') {
        let peer = Peer::Unix(PathBuf::from(format!("{}/.s.PGSQL.{}", config.host, config.port)));
        return Ok((reach(config, &peer).await?, peer));
    }
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((config.host.as_str(), config.port)).await.map_err(ConnectError::Resolve)?.collect();
    let mut failure = ConnectError::Resolve(std::io::ErrorKind::NotFound.into());
    for (index, address) in addresses.iter().enumerate() {
        // An address that swallows packets leaves time for those after it.
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let peer = Peer::Tcp(*address);
        match timeout(share, reach(config, &peer)).await {
            Ok(Ok(stream)) => return Ok((stream, peer)),
            Ok(Err(error @ ConnectError::Transport(_))) => failure = error,
            Ok(Err(error)) => return Err(error),
            Err(_) => failure = ConnectError::Timeout,
        }
    }
    Err(failure)
}

/// Transport and TLS to this address.
async fn reach(config: &UpstreamConfig, peer: &Peer) -> Result<UpstreamStream, ConnectError> {
    let address = match peer {
        Peer::Unix(path) => {
            return UnixStream::connect(path).await.map(UpstreamStream::Unix).map_err(ConnectError::Transport);
        }
        Peer::Tcp(address) => address,
    };
    let tcp = TcpStream::connect(address).await.map_err(ConnectError::Transport)?;
    crate::listen::tune(&tcp).map_err(ConnectError::Transport)?;
    match config.tls.client() {
        None => Ok(UpstreamStream::Tcp(tcp)),
        Some(client) => encrypt(tcp, client, &config.host).await,
    }
}

/// SSLRequest and the handshake.
async fn encrypt(
    mut tcp: TcpStream,
    client: &tokio_rustls::TlsConnector,
    host: &str,
) -> Result<UpstreamStream, ConnectError> {
    let mut request = BytesMut::with_capacity(8);
    startup::Packet::Ssl.write(&mut request)?;
    tcp.write_all(&request).await.map_err(ConnectError::Transport)?;
    // Exactly one byte is taken: whatever someone put after it into the plaintext is for the handshake to choke on,
    // and never looks as if it had come encrypted.
    match tcp.read_u8().await.map_err(ConnectError::Transport)? {
        b'S' => {}
        // An error text at this point is from anyone on the way: not shown.
        b'N' | b'E' => return Err(ConnectError::TlsRefused),
        other => return Err(Malformed::UnknownTag(other).into()),
    }
    let name = tls::server_name(host).map_err(ConnectError::Tls)?;
    let stream = client.connect(name, tcp).await.map_err(ConnectError::Tls)?;
    Ok(UpstreamStream::Tls(Box::new(stream)))
}
