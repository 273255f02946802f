//! HTTP for whoever reaches a port, with or without TLS.
//!
//! **Promise.** What one peer does costs the others nothing: an address has a bounded number of connections, all have a
//! greater one together, and a connection on which nothing arrives in time ends, be it in a handshake or in a request's
//! head. Bodies are the handlers' own matter, by [`in_time`] and, where anybody may send them, by a [`Crowd`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tower::util::MapRequest;

use crate::tls::CurrentCertificate;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be without a request. Not short: the API server keeps its connections, and does not ask
/// again where one ends just as it is used.
const IDLE: Duration = Duration::from_secs(600);
/// Largest head of a request: access tokens and proofs have some four thousand characters.
const MAX_HEAD: usize = 16 << 10;
/// How long a body may take.
const BODY: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// How much there may be at a time.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of one address.
    pub of_one: usize,
    /// Of all together.
    pub of_all: usize,
}

/// What addresses take up of something: connections, or memory.
#[derive(Debug)]
pub struct Crowd {
    bounds: Bounds,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// What one takes up, until it is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
    size: usize,
}

impl Crowd {
    /// Nobody takes anything up.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, taken: Mutex::default() })
    }

    /// A place of this size, if there is room.
    pub fn enter(self: &Arc<Self>, address: IpAddr, size: usize) -> Option<Place> {
        let address = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        let one = by_address.get(&address).copied().unwrap_or_default();
        if all.saturating_add(size) > self.bounds.of_all || one.saturating_add(size) > self.bounds.of_one {
            return None;
        }
        *all += size;
        by_address.insert(address, one + size);
        Some(Place { crowd: Arc::clone(self), address, size })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.crowd.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        *all = all.saturating_sub(self.size);
        if let Some(one) = by_address.get_mut(&self.address) {
            *one = one.saturating_sub(self.size);
            if *one == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Whose address it is: one that has an IPv6 address has a whole /64 of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

/// Serves routes until `ending`, and then what is under way; over TLS, if there is a certificate to be.
pub async fn serve(
    listener: TcpListener,
    certificate: Option<Arc<CurrentCertificate>>,
    routes: Router,
    bounds: Bounds,
    ending: impl Future<Output = ()>,
) {
    let acceptor = certificate.map(|certificate| {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    let crowd = Crowd::new(bounds);
    let end = watch::Sender::new(false);
    let mut ending = pin!(ending);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut ending => break,
        };
        match accepted {
            Ok((stream, peer)) => match crowd.enter(peer.ip(), 1) {
                Some(place) => {
                    let (acceptor, routes) = (acceptor.clone(), routes.clone());
                    tokio::spawn(connection(stream, Peer(peer), acceptor, routes, place, end.subscribe()));
                }
                None => tracing::debug!(%peer, "too many connections"),
            },
            // Out of descriptors, most likely; trying again at once would only spin.
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    end.send_replace(true);
    end.closed().await;
}

async fn connection(
    stream: TcpStream,
    Peer(peer): Peer,
    acceptor: Option<TlsAcceptor>,
    routes: Router,
    _place: Place,
    end: watch::Receiver<bool>,
) {
    _ = stream.set_nodelay(true);
    // The routes are the same for all: a layer would make new ones for each connection.
    let routes = MapRequest::new(routes, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        request
    });
    let Some(acceptor) = acceptor else { return answer(stream, routes, end).await };
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        // By itself in memory, as it is moved and would be part of what waits more than once.
        Ok(Ok(stream)) => answer(Box::new(stream), routes, end).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

/// Answers the requests of a connection.
async fn answer<S>(stream: impl AsyncRead + AsyncWrite + Unpin, routes: S, mut end: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    // What `wait_for` gives is a lock, which may not be held while anything is waited for.
    let mut ending = pin!(async { end.wait_for(|end| *end).await.is_ok() });
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = &mut ending => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// What is read of a body, if it comes in in time.
pub async fn in_time<T, E: Display>(read: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(BODY, read).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the body did not come in within {} s", BODY.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nobody_takes_up_more_than_his_share_nor_all_more_than_there_is() {
        let crowd = Crowd::new(Bounds { of_one: 3, of_all: 5 });
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = crowd.enter(address("10.0.0.1"), 2).unwrap();
        assert!(crowd.enter(address("::ffff:10.0.0.1"), 2).is_none(), "the same one");
        let _other = crowd.enter(address("2001:db8::1"), 3).unwrap();
        assert!(crowd.enter(address("2001:db8::2"), 1).is_none(), "of the same network");
        assert!(crowd.enter(address("10.0.0.3"), 1).is_none(), "all is taken up");
        drop(one);
        assert!(crowd.enter(address("10.0.0.1"), 2).is_some());
        assert!(crowd.enter(address("10.0.0.1"), usize::MAX).is_none());
        assert_eq!(crowd.taken.lock().unwrap().1.len(), 1, "who left is forgotten");
    }
}
