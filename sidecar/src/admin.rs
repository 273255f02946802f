//! The admin port: metrics and probes.
//!
//! `/startup` turns 200 once the catalog was read and the policy bound to it. `/ready` then stays 200 until the drain:
//! it does not follow the database, since a database that is away is no reason to take every client's pod out of
//! service; what is wrong stands in its body. `/live` answers as long as the process does.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::decide::bound::BindProblem;
use crate::metrics::Metrics;

/// Most connections at a time; probes and a scraper need two. One more ends the oldest: the port is open to a whole network, and
/// whoever opens connections and says nothing must not keep the probes out, which would be taken for the sidecar's death.
const MAX_CONNECTIONS: usize = 64;
/// Longest life of a connection, so that silent ones can't use them up.
const CONNECTION_LIFE: Duration = Duration::from_secs(30);
/// Most bind problems that are listed; the count is always right.
const MAX_LISTED: usize = 100;

/// How the sidecar is, for probes and people.
#[derive(Debug, Default)]
pub struct Health {
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    policy: String,
    identity: String,
    mode: &'static str,
    started: bool,
    draining: bool,
    policy_version: u64,
    problem_count: usize,
    problems: Vec<(String, String)>,
    rejected: Option<String>,
    unleased: Option<Arc<str>>,
    catalog_version: u64,
    catalog_read: Option<Instant>,
    upstream_reachable: Option<bool>,
}

/// The facts as JSON says them.
#[derive(Serialize)]
struct Report<'a> {
    status: &'static str,
    policy: &'a str,
    identity: &'a str,
    mode: &'static str,
    policy_version: u64,
    /// Why the last change of a policy or identity file was not applied.
    rejected_change: Option<&'a str>,
    /// Why there is no lease any more.
    lease_ended: Option<&'a str>,
    bind_problem_count: usize,
    bind_problems: Vec<Problem<'a>>,
    catalog_version: u64,
    catalog_age_seconds: Option<u64>,
    upstream_reachable: Option<bool>,
}

#[derive(Serialize)]
struct Problem<'a> {
    path: &'a str,
    message: &'a str,
}

impl Health {
    /// Of a sidecar that starts.
    pub fn new() -> Arc<Health> {
        Arc::new(Health::default())
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom and what it serves.
    pub fn serves(&self, policy: String, identity: String, mode: &'static str) {
        let mut facts = self.facts();
        (facts.policy, facts.identity, facts.mode) = (policy, identity, mode);
    }

    /// A policy was bound to a catalog: the sidecar can serve.
    pub fn bound(&self, policy_version: u64, catalog_version: u64, problems: &[BindProblem]) {
        let mut facts = self.facts();
        facts.started = true;
        facts.policy_version = policy_version;
        facts.catalog_version = catalog_version;
        facts.problem_count = problems.len();
        facts.problems =
            problems.iter().take(MAX_LISTED).map(|problem| (problem.path.clone(), problem.message.clone())).collect();
    }

    /// How long ago the catalog was read, changed or not.
    pub fn catalog_age(&self, age: Duration) {
        self.facts().catalog_read = Instant::now().checked_sub(age);
    }

    /// Whether the database could be reached just now.
    pub fn upstream_reachable(&self, reachable: bool) {
        self.facts().upstream_reachable = Some(reachable);
    }

    /// A changed policy or identity has mistakes; None if the one read last is good.
    pub fn rejected(&self, mistake: Option<String>) {
        self.facts().rejected = mistake;
    }

    /// The lease has ended, and why; None if it holds.
    pub fn unleased(&self, why: Option<Arc<str>>) {
        self.facts().unleased = why;
    }

    /// No new sessions any more.
    pub fn draining(&self) {
        self.facts().draining = true;
    }

    /// Whether it has started, whether it is ready, and what `peer` is told.
    fn report(&self, peer: Peer) -> (bool, bool, String) {
        let facts = self.facts();
        let status = match (facts.started, facts.draining) {
            (_, true) => "draining",
            (true, false) if facts.unleased.is_some() => "no_lease",
            (true, false) => "ready",
            (false, false) => "starting",
        };
        let told = (facts.started, facts.started && !facts.draining);
        if !peer.is_here() {
            return (told.0, told.1, json!({"status": status}).to_string() + "\n");
        }
        let report = Report {
            status,
            policy: &facts.policy,
            identity: &facts.identity,
            mode: facts.mode,
            policy_version: facts.policy_version,
            rejected_change: facts.rejected.as_deref(),
            lease_ended: facts.unleased.as_deref(),
            bind_problem_count: facts.problem_count,
            bind_problems: facts.problems.iter().map(|(path, message)| Problem { path, message }).collect(),
            catalog_version: facts.catalog_version,
            catalog_age_seconds: facts.catalog_read.map(|at| at.elapsed().as_secs()),
            upstream_reachable: facts.upstream_reachable,
        };
        let body = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
        (told.0, told.1, body)
    }
}

#[derive(Clone)]
struct Shared {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// Listens. 0.0.0.0 means all addresses that there are, those of IPv6 too: a pod may have no others, and is probed by them.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // Where one socket can't have both, IPv4 was asked for.
    let shared = || std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|only| only.trim() == "0");
    if address.ip() == Ipv4Addr::UNSPECIFIED
        && shared()
        && let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, address.port())).await
    {
        return Ok(listener);
    }
    TcpListener::bind(address).await
}

/// Serves the admin port until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) -> io::Result<()> {
    let listener = Bounded { listener, open: VecDeque::new() };
    let routes = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/startup", get(startup))
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/state", get(state))
        .with_state(Shared { health, metrics });
    axum::serve(listener, routes.into_make_service_with_connect_info::<Peer>()).await
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    {
        let facts = shared.health.facts();
        if let Some(read) = facts.catalog_read {
            shared.metrics.catalog(facts.catalog_version, read.elapsed());
        }
    }
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "failed to write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn startup(State(shared): State<Shared>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    let (started, _, body) = shared.health.report(peer);
    answer(started, body)
}

async fn ready(State(shared): State<Shared>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    let (_, ready, body) = shared.health.report(peer);
    answer(ready, body)
}

async fn state(State(shared): State<Shared>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    answer(true, shared.health.report(peer).2)
}

fn answer(good: bool, body: String) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

impl Peer {
    /// Whether it is somebody on this machine or in this pod, as who forwards a port is: what does not fit of a policy is
    /// for him, and not for the whole network.
    fn is_here(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Peer(*stream.remote_addr())
    }
}

/// Accepts so many connections at a time, and each for so long.
struct Bounded {
    listener: TcpListener,
    /// Those that are open, the oldest first: one ends when its sender is dropped.
    open: VecDeque<oneshot::Sender<()>>,
}

impl axum::serve::Listener for Bounded {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.open.retain(|open| !open.is_closed());
                    if self.open.len() >= MAX_CONNECTIONS {
                        self.open.pop_front();
                    }
                    let (open, room) = oneshot::channel();
                    self.open.push_back(open);
                    let end = Box::pin(tokio::time::sleep(CONNECTION_LIFE));
                    return (BoundedStream { stream, end, room, ended: false }, address);
                }
                // Out of descriptors, most likely; trying again at once would only spin.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection to the admin port");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    room: oneshot::Receiver<()>,
    ended: bool,
}

impl BoundedStream {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Neither may be asked again once it has come.
        self.ended =
            self.ended || self.end.as_mut().poll(cx).is_ready() || Pin::new(&mut self.room).poll(cx).is_ready();
        if self.ended { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn start() -> (SocketAddr, Arc<Health>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, metrics) = (Health::new(), Metrics::new("shop/shop").unwrap());
        tokio::spawn(serve(listener, Arc::clone(&health), metrics));
        (address, health)
    }

    #[tokio::test]
    async fn readiness_follows_the_start_and_the_drain_not_the_database() {
        let (address, health) = start().await;
        assert_eq!(ask(address, "/live").await.0, 200);
        assert_eq!(ask(address, "/startup").await.0, 503);
        assert_eq!(ask(address, "/ready").await.0, 503);
        health.bound(1, 1, &[BindProblem { path: "spec.masks[0]".into(), message: "no such column".into() }]);
        assert_eq!(ask(address, "/startup").await.0, 200);
        health.upstream_reachable(false);
        let (status, body) = ask(address, "/ready").await;
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body.pointer("/bind_problems/0/path").unwrap(), "spec.masks[0]");
        assert_eq!(body.pointer("/upstream_reachable").unwrap(), false);
        health.draining();
        assert_eq!(ask(address, "/ready").await.0, 503);
        assert_eq!(ask(address, "/startup").await.0, 200);
        assert_eq!(ask(address, "/state").await.0, 200);
    }

    #[tokio::test]
    async fn a_pod_without_ipv4_addresses_is_probed_too() {
        let listener = listen("0.0.0.0:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, Health::new(), Metrics::new("shop/shop").unwrap()));
        assert_eq!(ask((Ipv4Addr::LOCALHOST, port).into(), "/live").await.0, 200);
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            assert_eq!(ask((Ipv6Addr::LOCALHOST, port).into(), "/live").await.0, 200);
        }
    }

    #[tokio::test]
    async fn metrics_are_text_and_anything_else_is_not_found() {
        let (address, _health) = start().await;
        let (status, body) = ask(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("postern_build_info"));
        assert_eq!(ask(address, "/").await.0, 404);
    }

    #[tokio::test]
    async fn silent_connections_keep_nobody_out() {
        let (address, _health) = start().await;
        let mut silent = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // Far sooner than one of them ends by itself.
        let answer = tokio::time::timeout(CONNECTION_LIFE / 2, ask(address, "/live")).await;
        assert_eq!(answer.unwrap().0, 200);
        let mut oldest = silent.remove(0);
        assert!(oldest.read(&mut [0]).await.is_ok_and(|read| read == 0), "the oldest made room");
    }

    #[test]
    fn what_does_not_fit_is_told_on_the_machine_itself_and_not_to_the_network() {
        let health = Health::new();
        health.serves("shop/shop".into(), "shop/report".into(), "Enforce");
        health.bound(1, 1, &[BindProblem { path: "spec.masks[0]".into(), message: "no column ssn".into() }]);
        for (address, told) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true), ("10.0.0.1:1", false)]
        {
            let (started, ready, body) = health.report(Peer(address.parse().unwrap()));
            assert!(started && ready && body.contains("\"ready\""), "{address}: {body}");
            assert_eq!(body.contains("ssn") && body.contains("shop/report"), told, "{address}: {body}");
        }
    }
}
