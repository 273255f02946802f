//! A session: one client connection, from the end of its start-up to its end. Read this first.
//!
//! One task serves both directions. A query's way, from socket to rows:
//!
//! 1. [`relay`](Session::relay) reads what the client sent into [`Pipe`] `up`, and hands each message to
//!    [`frontend`]: Query and Parse are *decided*, Bind and Execute are held against what is in force now.
//! 2. What may run is sent on, as it came or as the rewritten text; what may not is replaced by a statement that
//!    fails, so that the server itself skips, aborts and goes on as after any error. Either way a [`Pending`] says what
//!    is owed for it.
//! 3. [`backend`] takes each message of the server to the pending reply that it belongs to: rows are counted and
//!    pass untouched, descriptions are held against the second wall, errors are scrubbed, and what a statement
//!    confirmed to have done is applied to the session's [`State`].
//!
//! **Promise.** Nothing reaches the server before it was decided and recorded. The client sees the messages that
//! the server would have sent it, in that order.
//! **Also.** Memory is bounded: what streams is not held, and a peer that doesn't read stops only its own session.
//! **On any error** of the session's own nothing more is sent upstream.

pub mod handshake;

mod backend;
mod decision;
mod frontend;
mod limits;
mod pending;
mod pipe;
mod scrub;
mod second_wall;
mod state;
mod statements;

use std::collections::{HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arc_swap::Guard;
use postern_crds::{CheckedPolicy, Mode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use limits::WindowBudget;

use handshake::Ready;

use crate::analyze::{Analysis, MaskedUse, SessionView};
use crate::audit::{SessionAudit, SessionEnd};
use crate::catalog::{Oid, WrittenName};
use crate::decide::Denial;
use crate::decide::bound::BoundPolicy;
use crate::decide::mask::HashKey;
use crate::lease::Ended;
use crate::metrics::Metrics;
use crate::wire::backend::{Fields, TransactionStatus};
use crate::wire::{Malformed, frontend as to_server};
use pending::{Kind, Pending, Running};
use pipe::Pipe;
use state::{Initial, State};
use statements::{Names, Portal, Prepared};

/// Name of the statements that the proxy sends of its own; clients can't use it.
const RESERVED: &str = "postern.internal";
/// A statement that fails when it is analysed, whatever the database holds.
const FAILING: &str = "SELECT \"postern\".\"refused\"";
/// How long a peer that is being left may take for its last bytes.
const FAREWELL: Duration = Duration::from_secs(2);

/// The policy in force as one looks, without a count that every session would write to.
pub type InForce = Guard<Arc<BoundPolicy>>;

/// What decides.
pub trait Decide: Send + Sync + 'static {
    /// Decides a text to whose parameters a client gives these types, 0 for those that the server finds.
    fn decide(&self, view: &SessionView, sql: &str, types: &[Oid]) -> impl Future<Output = Analysis> + Send;
    /// The policy in force.
    fn bound(&self) -> InForce;
    /// DDL was committed: the catalog is read again before this returns.
    fn look_again(&self) -> impl Future<Output = ()> + Send;
}

/// What all sessions of a sidecar share.
#[derive(Debug)]
pub struct Shared<G> {
    /// What decides.
    pub gate: Arc<G>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The identity's budgets over time.
    pub budget: Arc<WindowBudget>,
}

impl<G> Clone for Shared<G> {
    fn clone(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), metrics: Arc::clone(&self.metrics), budget: Arc::clone(&self.budget) }
    }
}

/// Whether sessions go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// They do.
    #[default]
    Serving,
    /// The sidecar is about to end: sessions end when they are idle.
    Draining,
    /// Sessions end now.
    Now,
    /// The lease has ended: sessions end now, and others may come with another lease.
    Unleased(Ended),
    /// The policy is one for another database or role: sessions end now, and the sidecar starts again.
    Moved,
}

/// [`Drain`] as the session last heard of it. One future waits for the next change: a new one at each turn would cost
/// as much as all the rest of the waiting.
struct Draining {
    now: Drain,
    changed: Pin<Box<dyn Future<Output = (watch::Receiver<Drain>, Drain)> + Send + Sync>>,
}

impl Draining {
    fn new(mut receiver: watch::Receiver<Drain>) -> Self {
        let now = *receiver.borrow_and_update();
        Self { now, changed: Box::pin(next(receiver)) }
    }

    /// Ready when `now` has changed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.now == Drain::Now {
            return Poll::Pending;
        }
        let (receiver, now) = ready!(self.changed.as_mut().poll(cx));
        self.now = now;
        self.changed = Box::pin(next(receiver));
        Poll::Ready(())
    }
}

async fn next(mut receiver: watch::Receiver<Drain>) -> (watch::Receiver<Drain>, Drain) {
    // Whoever could tell is gone: so is the sidecar.
    let now = receiver.changed().await.map_or(Drain::Now, |()| *receiver.borrow_and_update());
    (receiver, now)
}

/// Cancels what runs on the session's upstream connection; done once the server has taken note.
type Cancel = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Two peers that are through with their start-up: the server is ready for a query and the client knows it.
struct Start<C, S> {
    /// The client.
    client: C,
    /// What it sent after its start-up.
    client_read: Vec<u8>,
    /// The server.
    server: S,
    /// What it sent after its first ReadyForQuery.
    server_read: Vec<u8>,
    /// The client's own application_name.
    application_name: Arc<str>,
    /// `search_path` as the server has it at the start, `$user` replaced.
    search_path: Arc<[String]>,
    /// Cancels.
    cancel: Cancel,
    /// The keys of masks that it was started with.
    keys: Vec<HashKey>,
    /// Where the session's events go.
    audit: SessionAudit,
    /// Whether to end.
    drain: watch::Receiver<Drain>,
}

/// Serves a session, started with these keys of masks, from the end of its start-up to its end; returns why it ended.
pub async fn serve<G: Decide>(
    ready: Ready,
    keys: Vec<HashKey>,
    audit: SessionAudit,
    drain: watch::Receiver<Drain>,
    shared: Shared<G>,
) -> End {
    let Ready { client, upstream, application_name, search_path, registration, place, .. } = ready;
    let token = upstream.cancel_token().clone();
    let cancel: Cancel = Box::new(move || {
        let token = token.clone();
        Box::pin(async move {
            if let Err(error) = token.cancel().await {
                tracing::warn!(%error, "a statement could not be cancelled");
            }
        })
    });
    let mut server_read = upstream.aside.to_vec();
    server_read.extend_from_slice(&upstream.leftover);
    let start = Start {
        client,
        client_read: Vec::new(),
        server: upstream.stream,
        server_read,
        application_name,
        search_path,
        cancel,
        keys,
        audit,
        drain,
    };
    // On the heap: the task that holds it also held the start-up, which needs more for a moment.
    let end = Box::pin(run(start, shared)).await;
    drop((registration, place));
    end
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client said goodbye.
    #[error("client_closed")]
    ClientClosed,
    /// The client is gone without a word.
    #[error("client_gone")]
    ClientGone,
    /// The server ended the connection.
    #[error("server_closed")]
    ServerClosed,
    /// The sidecar ends.
    #[error("drained")]
    Drained,
    /// The lease has ended.
    #[error("lease_ended")]
    Unleased(Ended),
    /// The policy is one for another database or role.
    #[error("policy_moved")]
    Moved,
    /// The policy in force needs a session with other keys of masks.
    #[error("policy_changed")]
    OtherKeys,
    /// The client sent what is not the protocol.
    #[error("protocol")]
    Client(#[source] Malformed),
    /// The client sent a message where it has no place.
    #[error("protocol")]
    OutOfPlace(&'static str),
    /// The server sent what is not the protocol, or what it doesn't owe.
    #[error("server_protocol")]
    Server(&'static str),
    /// A single row was over a limit.
    #[error("limit")]
    Limit(String),
    /// A column that should be masked arrived raw.
    #[error("second_wall")]
    SecondWall,
    /// Something of the proxy's own failed.
    #[error("internal")]
    Internal(&'static str),
}

impl From<Malformed> for End {
    fn from(error: Malformed) -> Self {
        End::Client(error)
    }
}

impl End {
    /// What the client is told as it is sent away.
    fn farewell(&self) -> Option<Fields> {
        let (code, message) = match self {
            End::ClientClosed | End::ClientGone => return None,
            End::ServerClosed => ("08006", "the database closed the connection".to_owned()),
            End::Drained => ("57P01", "terminating connection: the sidecar is shutting down".to_owned()),
            End::Unleased(Ended::Refused) => {
                ("57P01", "terminating connection: the right to this database was withdrawn".to_owned())
            }
            End::Unleased(Ended::Expired) => {
                ("57P01", "terminating connection: the sidecar's lease has expired and could not be renewed".to_owned())
            }
            End::Moved => (
                "57P01",
                "terminating connection: the policy names another database or role now; connect again".to_owned(),
            ),
            End::OtherKeys => ("57P01", "terminating connection: the policy's masks have other keys now".to_owned()),
            End::Client(error) => (error.sqlstate(), error.to_string()),
            End::OutOfPlace(what) => ("08P01", (*what).to_owned()),
            End::Server(_) => ("08P01", "the database sent an unexpected message".to_owned()),
            End::Limit(what) => ("54000", what.clone()),
            End::SecondWall => ("42501", "terminating connection: a masked column would have been shown".to_owned()),
            End::Internal(_) => ("XX000", "internal error of the proxy".to_owned()),
        };
        Some(Fields::new("FATAL", code, message))
    }
}

/// A statement that met a limit and is being stopped.
#[derive(Debug)]
struct Stop {
    denial: Denial,
    /// Whether the statement's end was seen.
    ended: bool,
    after: After,
}

/// What is to be done when the cancel is over and done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Nothing: the server failed the statement.
    Nothing,
    /// The statement was over before the cancel came, and the batch is still open: fail it.
    FailBatch,
    /// The statement was over, its batch too, and a transaction block is open: fail that.
    FailBlock,
}

/// A Query whose statements go up one by one, each as Parse, Bind, Describe and Execute: what a limit stops must not be
/// followed, and not be committed, by what stands after it in the same message.
#[derive(Debug)]
struct Steps {
    /// Texts of the statements that are yet to be sent.
    texts: VecDeque<Arc<str>>,
    /// What runs, between two of them; while one runs its [`Pending`] has it.
    running: Option<Box<Running>>,
}

/// A session.
struct Session<C, S, G> {
    client: C,
    server: S,
    /// From the client to the server.
    up: Pipe,
    /// From the server to the client.
    down: Pipe,
    shared: Shared<G>,
    audit: SessionAudit,
    cancel: Cancel,
    /// The keys of masks that it was started with, and the version of the policy by which they were last looked at.
    keys: Vec<HashKey>,
    keys_checked: u64,
    drain: Draining,

    /// What the server owes.
    pending: VecDeque<Pending>,
    /// The batch that is being sent.
    batch: u64,
    /// The last batch that the server ended.
    answered: u64,
    /// What ReadyForQuery said last.
    status: TransactionStatus,
    /// Whether an error was seen in the batch that the server is at.
    failed: bool,
    /// The server itself told the client that the session ends.
    told_fatal: bool,
    /// The server skips all messages up to Sync: so they aren't even sent.
    skip_to_sync: bool,
    /// The client is being asked for CopyData.
    copy_in: bool,
    /// Something was sent that the server won't answer until Flush or Sync.
    unflushed: bool,
    /// Messages of the batch were sent, its Sync was not.
    in_batch: bool,

    confirmed: State,
    /// As it will be once what was sent has run; None if that changes nothing.
    predicted: Option<State>,
    /// The last batch that changes what names mean.
    significant: u64,
    /// Whether an end of a transaction is under way of which only its answer tells what it leaves.
    unsettled: bool,
    statements: Names<Prepared>,
    portals: Names<Portal>,
    view: SessionView,
    view_stamp: u64,
    /// The policy in force as it was seen last, and the version since which it is that.
    policy: Option<Arc<CheckedPolicy>>,
    policy_since: u64,
    /// The version by which the first of the session's temporary relations was made.
    temporary_since: Option<u64>,
    /// Committed DDL that the catalog does not know yet.
    catalog_is_old: bool,
    /// Names that were looked up for the message at hand.
    looked_up: Vec<WrittenName>,
    /// Version of the binding under which it was last decided.
    bound_version: u64,
    /// That was asked of the server, and failed.
    look_up_failed: bool,
    /// The last batch after which the `search_path` that the server has may be another than is thought: it is asked before the next
    /// message that names something. 0 for none.
    path_in_doubt: u64,
    /// Whether a transaction that failed was ended, or a part of it, since [`status`](Self::status) was told.
    recovered: bool,
    /// The last batch with something that ends a transaction in its midst, or not, by ways that are not followed where it fails.
    odd: u64,
    /// The one that the server told of last, of itself, as it does from version 18 on.
    path_told: Option<Vec<String>>,

    /// The last batch that touches relations whose messages are scrubbed; 0 for none in this transaction.
    scrub: u64,
    /// Nothing more is sent until all is answered.
    barrier: bool,
    /// Statements under way that are counted against limits.
    counted: usize,
    /// Of a write that is counted: its Sync waits for the count.
    counted_write: bool,
    held_sync: bool,
    /// A Query that goes up statement by statement.
    steps: Option<Steps>,
    stop: Option<Stop>,
    cancelling: Option<JoinHandle<()>>,
    noticed: HashSet<(MaskedUse, Arc<str>)>,

    delivered_rows: u64,
    delivered_bytes: u64,
    decided: u64,
}

/// Serves two peers until one of them ends.
async fn run<C, S, G>(start: Start<C, S>, shared: Shared<G>) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    G: Decide,
{
    let began = Instant::now();
    let Start { client, client_read, server, server_read, application_name, search_path, cancel, keys, audit, drain } =
        start;
    let confirmed = State::new(Initial { search_path, application_name });
    let mut session = Session {
        client,
        server,
        up: Pipe::new(&client_read),
        down: Pipe::new(&server_read),
        shared,
        audit,
        cancel,
        keys,
        keys_checked: 0,
        drain: Draining::new(drain),
        pending: VecDeque::new(),
        batch: 1,
        answered: 0,
        status: TransactionStatus::Idle,
        failed: false,
        told_fatal: false,
        skip_to_sync: false,
        copy_in: false,
        unflushed: false,
        in_batch: false,
        confirmed,
        predicted: None,
        significant: 0,
        statements: Names::default(),
        portals: Names::default(),
        view: SessionView::default(),
        view_stamp: 0,
        policy: None,
        policy_since: 0,
        temporary_since: None,
        catalog_is_old: false,
        looked_up: Vec::new(),
        bound_version: 0,
        unsettled: false,
        look_up_failed: false,
        path_in_doubt: 0,
        odd: 0,
        recovered: false,
        path_told: None,
        scrub: 0,
        barrier: false,
        counted: 0,
        counted_write: false,
        held_sync: false,
        steps: None,
        stop: None,
        cancelling: None,
        noticed: HashSet::new(),
        delivered_rows: 0,
        delivered_bytes: 0,
        decided: 0,
    };
    drop((client_read, server_read));
    let end = session.relay().await;
    match &end {
        End::Server(what) => tracing::error!(what, "the database broke the protocol"),
        End::Internal(what) => tracing::error!(what, "a session failed"),
        _ => {}
    }
    session.record_cut_off(&end);
    session.part(&end).await;
    session.audit.session_end(&SessionEnd {
        statements: session.decided,
        rows: session.delivered_rows,
        bytes: session.delivered_bytes,
        duration: began.elapsed(),
        reason: &end.to_string(),
    });
    end
}

impl<C, S, G> Session<C, S, G>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
    G: Decide,
{
    /// Both directions, until one of them ends.
    async fn relay(&mut self) -> End {
        loop {
            if let Err(end) = self.server_messages() {
                return end;
            }
            if let Err(end) = self.go_on() {
                return end;
            }
            if let Err(end) = self.client_messages().await {
                return end;
            }
            if let Some(end) = self.is_over() {
                return end;
            }
            if let Err(end) = self.wait().await {
                return end;
            }
        }
    }

    /// Takes up what waited for the server: the error that a limit owes, the next statement of a Query that goes up one by
    /// one, the Sync that a counted write held back.
    fn go_on(&mut self) -> Result<(), End> {
        if self.cancelling.as_ref().is_some_and(JoinHandle::is_finished) {
            self.cancelling = None;
        }
        if self.cancelling.is_none()
            && let Some(stop) = self.stop.take_if(|stop| stop.ended)
        {
            match stop.after {
                After::Nothing => {}
                After::FailBatch => self.refuse_in_batch(stop.denial),
                After::FailBlock => self.refuse_query(stop.denial),
            }
        }
        if !self.held_sync || !self.pending.is_empty() || self.stop.is_some() {
            return Ok(());
        }
        if let Some(running) = self.steps.as_mut().and_then(|steps| steps.running.take()) {
            return self.send_step(running);
        }
        self.steps = None;
        self.held_sync = false;
        self.counted_write = false;
        to_server::write_sync(self.up.out());
        self.sync_sent();
        Ok(())
    }

    /// Whether there is no more to do.
    fn is_over(&mut self) -> Option<End> {
        if self.down.is_closed() && !self.down.is_congested() {
            return Some(End::ServerClosed);
        }
        // What it sent before it went is still done, as far as it came whole.
        if self.up.is_closed() && self.up.backlog() == 0 && !self.has_client_message() {
            return Some(End::ClientGone);
        }
        let idle = self.pending.is_empty() && self.stop.is_none();
        let at_rest = idle && !self.in_batch && self.status == TransactionStatus::Idle && self.up.is_empty();
        match self.drain.now {
            Drain::Serving => None,
            Drain::Draining => at_rest.then_some(End::Drained),
            Drain::Now => Some(End::Drained),
            Drain::Unleased(ended) => Some(End::Unleased(ended)),
            Drain::Moved => Some(End::Moved),
        }
    }

    /// Writes what is ready and waits until there is something to do.
    async fn wait(&mut self) -> Result<(), End> {
        if self.pending.is_empty() {
            self.up.shrink();
            self.down.shrink();
        }
        let Session { client, server, up, down, drain, cancelling, .. } = self;
        let congested = up.is_congested() || down.is_congested();
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = up.poll_write(cx, server) {
                return Poll::Ready(Err(server_gone(&error)));
            }
            if let Poll::Ready(Err(error)) = down.poll_write(cx, client) {
                return Poll::Ready(Err(client_gone(&error)));
            }
            let mut ready = congested && !up.is_congested() && !down.is_congested();
            match down.poll_read(cx, server) {
                Poll::Ready(Ok(_)) => ready = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(server_gone(&error))),
                Poll::Pending => {}
            }
            match up.poll_read(cx, client) {
                Poll::Ready(Ok(_)) => ready = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(client_gone(&error))),
                Poll::Pending => {}
            }
            if let Some(task) = cancelling
                && Pin::new(task).poll(cx).is_ready()
            {
                // Polled to its end, a task's handle must not be polled again.
                *cancelling = None;
                ready = true;
            }
            ready |= drain.poll(cx).is_ready();
            if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// What was under way has ended too, as far as anyone will know.
    fn record_cut_off(&mut self, end: &End) {
        let code = end.farewell().map_or_else(|| "57014".to_owned(), |fields| fields.code().to_owned());
        let mut pending = std::mem::take(&mut self.pending);
        for running in pending.iter_mut().filter_map(Pending::running) {
            running.sqlstate.get_or_insert_with(|| code.clone());
            self.record_end(running);
        }
        if let Some(mut running) = self.steps.take().and_then(|steps| steps.running) {
            running.sqlstate = Some(code);
            self.record_end(&running);
        }
        self.pending = pending;
    }

    /// Says goodbye on both sides, as far as they listen.
    async fn part(&mut self, end: &End) {
        // Only between two frames can a message of our own be put.
        if self.down.body()
            && let Some(fields) = end.farewell()
            && !self.told_fatal
        {
            fields.write_error(self.down.out());
        }
        let nothing_lost = self.pending.front().is_some() && self.pending.iter().all(|pending| reads(&pending.kind));
        if matches!(end, End::ClientGone | End::ClientClosed) && nothing_lost {
            // Nobody waits for these rows any more.
            (self.cancel)().await;
        }
        let Session { client, server, up, down, .. } = self;
        let to_client = async {
            poll_fn(|cx| down.poll_write(cx, client)).await?;
            client.shutdown().await
        };
        let to_server = async {
            if up.body() {
                if !matches!(end, End::ClientClosed) {
                    to_server::write_terminate(up.out());
                }
                poll_fn(|cx| up.poll_write(cx, server)).await?;
            }
            server.shutdown().await
        };
        let _ = timeout(FAREWELL, async { tokio::join!(to_client, to_server) }).await;
    }

    /// Whether refusals are enforced.
    fn is_enforcing(&self) -> bool {
        self.shared.gate.bound().policy.mode == Mode::Enforce
    }

    /// The state that the next message is decided under.
    fn state(&self) -> &State {
        self.predicted.as_ref().unwrap_or(&self.confirmed)
    }

    fn predict(&mut self) -> &mut State {
        self.predicted.get_or_insert_with(|| self.confirmed.clone())
    }

    /// Ends the session if its keys are not those of the policy in force: it could not mask by it, or, where nothing is
    /// masked any more, its client could read them.
    fn check_keys(&mut self) -> Result<(), End> {
        let bound = self.shared.gate.bound();
        if bound.version != self.keys_checked {
            if bound.session_keys() != self.keys {
                return Err(End::OtherKeys);
            }
            self.keys_checked = bound.version;
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind) {
        self.send(kind, false);
    }

    fn push_ours(&mut self, kind: Kind) {
        self.send(kind, true);
    }

    fn send(&mut self, kind: Kind, ours: bool) {
        let pending = Pending { kind, batch: self.batch, ours };
        self.in_batch = !pending.ends_batch();
        self.unflushed = true;
        self.pending.push_back(pending);
    }
}

/// Whether it only reads, so that ending it early loses nothing.
fn reads(kind: &Kind) -> bool {
    match kind {
        Kind::Execute(running) | Kind::Query(running) => {
            running.decided.statements.iter().all(|statement| statement.returns_rows && !statement.writes)
        }
        _ => true,
    }
}

fn client_gone(error: &io::Error) -> End {
    tracing::debug!(%error, "the client is gone");
    End::ClientGone
}

fn server_gone(error: &io::Error) -> End {
    tracing::warn!(%error, "the database is gone");
    End::ServerClosed
}
