//! Listeners: TCP and unix sockets, and the runtimes that serve what they accept.
//!
//! One acceptor hands connections round-robin to worker threads. A worker runs its sessions on a runtime of its own
//! thread: a session's state is never shared, and needs no locks.
//!
//! **Promise.** Connections that say nothing keep nobody out. Each has a [`Seat`] until it has said what it wants; when
//! all are taken, the one that has been silent for longest has to leave.

use std::collections::VecDeque;
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::ListenAddress;
use crate::sql::deep::WORKER_STACK;

/// Threads of a worker for host names and for keys, however many sessions start at once.
const BLOCKING_THREADS: usize = 4;
/// Connections that wait for a busy worker to take them.
const WORKER_QUEUE: usize = 64;
/// Connections that are still at their start-up, or on their way out.
const SEATS: usize = 512;
/// How long a connection may keep its seat though others wait: what came at once gets the time to be heard.
const GRACE: Duration = Duration::from_millis(250);
/// Who may connect to a unix socket: its owner. In a pod that shares no user, the folder's owner decides.
const SOCKET_MODE: u32 = 0o600;
/// What Postgres 17 wants of direct TLS, and its clients offer always.
const ALPN: &[u8] = b"postgresql";

/// Small messages go at once, and a peer that vanished is noticed in about two minutes.
pub(crate) fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(6);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// What is wrong with the certificate or the key for clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// The chain can't be read.
    #[error("the certificate chain can't be read: {0}")]
    Certificate(String),
    /// The key can't be read.
    #[error("the private key can't be read: {0}")]
    Key(String),
    /// They don't go together, or are of a kind that is not supported.
    #[error("certificate and key can't be used: {0}")]
    Pair(#[source] rustls::Error),
}

/// TLS for clients, from a certificate chain and its key, both PEM.
pub fn client_tls(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, ClientTlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| ClientTlsError::Certificate(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| ClientTlsError::Key(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ClientTlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(ClientTlsError::Pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // As Postgres has it: no resumption, nothing kept for clients that may not come again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// TLS for clients by a certificate that nobody has to believe: for those who insist on TLS, on the way within one pod.
pub fn own_tls() -> Result<Arc<ServerConfig>, ClientTlsError> {
    let failed = |error: rcgen::Error| ClientTlsError::Certificate(error.to_string());
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).map_err(failed)?;
    client_tls(cert.pem().as_bytes(), zeroize::Zeroizing::new(signing_key.serialize_pem()).as_bytes())
}

/// A connection that was accepted.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A connection as the worker gets it.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: Socket,
    /// Where it comes from: an address, or `unix`.
    pub peer: String,
    /// Its place among those that have yet to say what they want.
    pub seat: Seat,
}

/// The place of a connection that has yet to say what it wants; free again when dropped.
#[derive(Debug)]
pub struct Seat(oneshot::Receiver<()>);

impl Seat {
    /// One that nobody else needs.
    pub fn kept() -> Self {
        Self(oneshot::channel().1)
    }

    /// Returns when the seat is needed for others.
    pub async fn is_needed(&mut self) {
        if (&mut self.0).await.is_err() {
            // Nobody is accepted any more, so nobody needs it.
            std::future::pending().await
        }
    }
}

/// All seats, the oldest first.
#[derive(Debug, Default)]
struct Seats(VecDeque<(Instant, oneshot::Sender<()>)>);

impl Seats {
    /// A seat, as soon as there is one.
    async fn next(&mut self) -> Seat {
        if self.0.len() >= SEATS {
            self.0.retain(|(_, seat)| !seat.is_closed());
        }
        if self.0.len() >= SEATS
            && let Some((since, mut oldest)) = self.0.pop_front()
        {
            tokio::select! {
                () = oldest.closed() => {}
                () = tokio::time::sleep_until(since + GRACE) => {
                    // An error means that it has left just now.
                    let _ = oldest.send(());
                }
            }
        }
        let (leave, seat) = oneshot::channel();
        self.0.push_back((Instant::now(), leave));
        Seat(seat)
    }
}

/// On its way from the acceptor's runtime to the worker's.
struct Handover {
    socket: Detached,
    peer: String,
    seat: Seat,
}

enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Handover {
    fn attach(self) -> io::Result<Accepted> {
        let socket = match self.socket {
            Detached::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            Detached::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        };
        Ok(Accepted { socket, peer: self.peer, seat: self.seat })
    }
}

/// A socket that listens.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Detached, String)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                tune(&socket)?;
                Ok((Detached::Tcp(socket.into_std()?), peer.to_string()))
            }
            Listener::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                Ok((Detached::Unix(socket.into_std()?), "unix".to_owned()))
            }
        }
    }
}

/// The file of a unix socket; removed when dropped, if it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // One that can't be removed is found stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// All sockets that listen.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Binds all of them, or none. Within a tokio runtime.
    pub async fn bind(addresses: &[ListenAddress]) -> io::Result<Self> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let bound = match address {
                ListenAddress::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
                ListenAddress::Unix(path) => bind_unix(path),
            };
            listeners.push(bound.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?);
        }
        Ok(Self(listeners))
    }

    /// The addresses as bound, with the port that port 0 became.
    pub fn addresses(&self) -> io::Result<Vec<ListenAddress>> {
        self.0
            .iter()
            .map(|listener| match listener {
                Listener::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
                Listener::Unix(_, file) => Ok(ListenAddress::Unix(file.path.clone())),
            })
            .collect()
    }
}

/// A folder gets the socket that libpq looks for in it.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    let path = if path.is_dir() { path.join(".s.PGSQL.5432") } else { path.to_owned() };
    match fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no socket"));
        }
        // Nobody listens on a socket that was left behind.
        Ok(_) if std::os::unix::net::UnixStream::connect(&path).is_ok() => {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(_) | Err(_) => {}
    }
    // Made under another name, so that at no moment more may connect than shall; it then takes the stale one's place.
    let made = path.with_file_name(format!(".postern.{}", std::process::id()));
    match fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&made)?;
    let settle = || {
        fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = fs::symlink_metadata(&made)?.ino();
        fs::rename(&made, &path)?;
        Ok(inode)
    };
    match settle() {
        Ok(inode) => Ok(Listener::Unix(listener, SocketFile { path, inode })),
        Err(error) => {
            let _ = fs::remove_file(&made);
            Err(error)
        }
    }
}

/// Accepts connections and serves each by `handler` on one of `workers` threads, until `stop` is done. Then nothing
/// more is accepted, and it returns once all sessions have ended: ending them is up to who stops it. A worker that has
/// nothing to do calls `before_sleep`.
pub async fn serve<H, F>(
    listeners: Listeners,
    workers: usize,
    stop: impl Future<Output = ()>,
    before_sleep: impl Fn() + Clone + Send + Sync + 'static,
    handler: H,
) -> io::Result<()>
where
    H: Fn(Accepted) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut queues = Vec::with_capacity(workers.max(1));
    let mut threads = Vec::with_capacity(workers.max(1));
    for number in 0..workers.max(1) {
        let (queue, incoming) = mpsc::channel(WORKER_QUEUE);
        queues.push(queue);
        threads.push(worker(number, incoming, before_sleep.clone(), handler.clone())?);
    }
    let mut seats = Seats::default();
    let mut turn = queues.iter().cycle();

    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept_any(&listeners.0) => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_peers_fault(&error) => continue,
            Err(error) => {
                // Most likely no file descriptors are left: others must end before the next one can be taken.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let mut handover = Some(Handover { socket, peer, seat: seats.next().await });
        // A worker that is busy with a long statement doesn't hold up the others' connections.
        for queue in turn.by_ref().take(queues.len()) {
            let Some(offer) = handover.take() else { break };
            match queue.try_send(offer) {
                Ok(()) => break,
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    handover = Some(back);
                }
            }
        }
        // All are busy: who comes now waits in the system's own queue.
        if let (Some(offer), Some(queue)) = (handover, turn.next())
            && queue.send(offer).await.is_err()
        {
            tracing::warn!("a worker has ended: a connection was closed");
        }
    }
    drop(listeners);
    drop(queues);
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(std::thread::JoinHandle::join).all(|end| end.is_ok())
    });
    match joined.await {
        Ok(true) => Ok(()),
        _ => Err(io::Error::other("a worker thread failed")),
    }
}

/// The next connection of any listener.
async fn accept_any(listeners: &[Listener]) -> io::Result<(Detached, String)> {
    let mut accepting: Vec<_> = listeners.iter().map(|listener| Box::pin(listener.accept())).collect();
    std::future::poll_fn(|cx| {
        for accept in &mut accepting {
            if let std::task::Poll::Ready(accepted) = accept.as_mut().poll(cx) {
                return std::task::Poll::Ready(accepted);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// The connection was gone before it was taken.
fn is_the_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}

/// A thread that serves the connections it is handed, until there are no more and all have ended.
fn worker<H, F>(
    number: usize,
    mut incoming: mpsc::Receiver<Handover>,
    before_sleep: impl Fn() + Send + Sync + 'static,
    handler: H,
) -> io::Result<std::thread::JoinHandle<()>>
where
    H: Fn(Accepted) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .on_thread_park(before_sleep)
        .build()?;
    std::thread::Builder::new().name(format!("worker-{number}")).stack_size(WORKER_STACK).spawn(move || {
        runtime.block_on(async move {
            let mut sessions = JoinSet::new();
            loop {
                tokio::select! {
                    handover = incoming.recv() => match handover.map(Handover::attach) {
                        Some(Ok(accepted)) => {
                            sessions.spawn(handler(accepted));
                        }
                        Some(Err(error)) => tracing::warn!(%error, "could not take a connection over"),
                        None => break,
                    },
                    Some(_) = sessions.join_next() => {}
                }
            }
            while sessions.join_next().await.is_some() {}
        });
    })
}
