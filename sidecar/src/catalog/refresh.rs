//! Keeps a snapshot of the catalog fresh, on a connection of the proxy's own.
//!
//! **Promise.** What is published is a whole snapshot; a failure leaves the last one in place, and its age is visible.
//! [`CatalogKeeper::look_again`] answers after a check that began after it was asked (or after its patience).
//! **Also.** Clients that ask for names that don't exist cost the server a check at a time, all of them together, and a tenth
//! of its time at most. Where nothing was committed since the last check, that is all that it asks.
//! **Not covered.** Before the first load the snapshot is empty: everything is unknown, so everything is refused.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::Catalog;
use super::load::{LoadError, Moment, Rows, fingerprint, load_again, moment};

/// Makes the keeper's connection; asked again whenever it is lost, so that a credential may change.
pub trait Connect: Send + Sync + 'static {
    /// What it makes.
    type Rows: Rows + 'static;
    /// Connects.
    fn connect(&self) -> impl Future<Output = Result<Self::Rows, LoadError>> + Send;
}

/// How the keeper works.
#[derive(Clone, Copy, Debug)]
pub struct KeeperOptions {
    /// How often it checks, unasked, whether something has changed.
    pub period: Duration,
    /// How long a check or a load may take.
    pub patience: Duration,
    /// How long to wait between checks that clients' unknown names ask for.
    pub least_gap: Duration,
    /// How long a caller waits for a check.
    pub caller_patience: Duration,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(30),
            patience: Duration::from_secs(120),
            least_gap: Duration::from_millis(2),
            caller_patience: Duration::from_secs(5),
        }
    }
}

/// How the snapshot stands, for metrics, readiness and people.
#[derive(Clone, Debug)]
pub struct CatalogStatus {
    /// Version of the snapshot; 0 before the first load.
    pub version: u64,
    /// Time since the last check that succeeded began; `None` before the first load.
    pub age: Option<Duration>,
    /// Why the last check failed, if it did.
    pub failure: Option<Arc<str>>,
    /// Relations in the snapshot.
    pub relations: usize,
}

/// Callers that wait for a check; more of them wait to wait.
const MAX_WAITING: usize = 1024;
/// A check that takes long makes the next one wait this many times as long, up to [`MAX_GAP`]. A load doesn't count, as it
/// needs a change, which a client that only asks can't cause; but one that left out what was locked does.
const GAP_PER_COST: u32 = 10;
/// See [`GAP_PER_COST`].
const MAX_GAP: Duration = Duration::from_secs(2);
/// The wait after the first failure, or the first load that left out what was locked; doubles up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// See [`FIRST_BACKOFF`].
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A load that takes longer says so, and again after each such time.
const SLOW: Duration = Duration::from_secs(5);

/// The handle to the task that keeps the catalog; it ends with the last handle.
#[derive(Clone, Debug)]
pub struct CatalogKeeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: KeeperOptions,
    current: watch::Receiver<Arc<Catalog>>,
    state: Arc<Mutex<State>>,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug, Default)]
struct State {
    checked: Option<Instant>,
    failure: Option<Arc<str>>,
}

#[derive(Debug)]
struct Request {
    /// The proxy saw DDL succeed, so there is something to find: clients can't cause that cheaply.
    certain: bool,
    done: oneshot::Sender<()>,
}

/// Nothing panics while it holds one of these locks; the data is valid between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CatalogKeeper {
    /// Starts the task.
    pub fn start(connect: impl Connect, options: KeeperOptions) -> Self {
        let (publish, current) = watch::channel(Arc::new(Catalog::default()));
        let (requests, asked) = mpsc::channel(MAX_WAITING);
        let state = Arc::new(Mutex::new(State::default()));
        let task = Task {
            connect,
            options,
            connection: None,
            moment: None,
            fingerprint: None,
            check_cost: Duration::ZERO,
            publish,
            state: state.clone(),
            waiting: Vec::new(),
        };
        tokio::spawn(task.run(asked));
        Self { shared: Arc::new(Shared { options, current, state, requests }) }
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<Catalog> {
        self.shared.current.borrow().clone()
    }

    /// Follows the snapshots.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.shared.current.clone()
    }

    /// Returns the first snapshot, when there is one.
    pub async fn ready(&self) -> Arc<Catalog> {
        let mut current = self.subscribe();
        match current.wait_for(|catalog| catalog.version > 0).await {
            Ok(catalog) => catalog.clone(),
            // The task has ended, which it does only with the runtime.
            Err(_) => std::future::pending().await,
        }
    }

    /// How the snapshot stands.
    pub fn status(&self) -> CatalogStatus {
        let catalog = self.current();
        let state = lock(&self.shared.state);
        CatalogStatus {
            version: catalog.version,
            age: state.checked.map(|at| at.elapsed()),
            failure: state.failure.clone(),
            relations: catalog.relations.len(),
        }
    }

    /// For names that the snapshot doesn't know: checks whether the server does. Returns the snapshot then in force. No
    /// answer is remembered: others make relations, too, and who asks again may know of it.
    pub async fn look_again(&self) -> Arc<Catalog> {
        self.check(false).await;
        self.current()
    }

    /// After DDL was committed: loads what it made. Returns the snapshot then in force.
    pub async fn changed(&self) -> Arc<Catalog> {
        self.check(true).await;
        self.current()
    }

    async fn check(&self, certain: bool) {
        let (done, answer) = oneshot::channel();
        let request = Request { certain, done };
        let asked = async { self.shared.requests.send(request).await.is_ok() && answer.await.is_ok() };
        // The snapshot in force is the answer in any case.
        _ = timeout(self.shared.options.caller_patience, asked).await;
    }
}

struct Task<C: Connect> {
    connect: C,
    options: KeeperOptions,
    /// With the time since when. The server's name may have another address by now: so it is made anew each period.
    connection: Option<(Instant, C::Rows)>,
    /// On this connection, before the fingerprint was taken.
    moment: Option<Moment>,
    fingerprint: Option<String>,
    /// How long the last check took.
    check_cost: Duration,
    publish: watch::Sender<Arc<Catalog>>,
    state: Arc<Mutex<State>>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl<C: Connect> Task<C> {
    async fn run(mut self, mut asked: mpsc::Receiver<Request>) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let started = Instant::now();
            let outcome = self.look().await;
            let (pause, gap) = match outcome {
                Ok(()) => {
                    let mut state = lock(&self.state);
                    if state.failure.take().is_some() {
                        info!("the catalog can be read again");
                    }
                    state.checked = Some(started);
                    if self.fingerprint.is_some() {
                        backoff = FIRST_BACKOFF;
                    }
                    let gap = self.check_cost.saturating_mul(GAP_PER_COST).min(MAX_GAP).max(self.options.least_gap);
                    match self.fingerprint {
                        Some(_) => (self.options.period, gap),
                        // A relation that is locked is as it was before.
                        None => (grow(&mut backoff), gap),
                    }
                }
                Err(error) => {
                    // What an aborted transaction or a broken stream would do next isn't worth knowing.
                    self.connection = None;
                    let why = with_causes(&error);
                    warn!(error = why, retry_in = ?backoff, "the catalog can't be read; the last snapshot stays in force");
                    lock(&self.state).failure = Some(why.into());
                    let wait = grow(&mut backoff);
                    (wait, wait)
                }
            };
            for done in self.waiting.drain(..) {
                // Who has stopped waiting needs no answer.
                _ = done.send(());
            }
            let finished = Instant::now();
            let mut certain = false;
            tokio::select! {
                () = sleep(pause) => {}
                request = asked.recv() => match request {
                    Some(request) => certain = self.take(request),
                    None => return,
                },
            }
            // Others may join while the gap lasts; one that is certain ends it.
            let open = sleep_until(finished.checked_add(gap).unwrap_or(finished));
            tokio::pin!(open);
            while !certain && !self.waiting.is_empty() {
                tokio::select! {
                    () = &mut open => break,
                    request = asked.recv() => match request {
                        Some(request) => certain = self.take(request),
                        None => return,
                    },
                }
            }
            while let Ok(request) = asked.try_recv() {
                self.take(request);
            }
        }
    }

    fn take(&mut self, request: Request) -> bool {
        self.waiting.push(request.done);
        request.certain
    }

    /// One check, and a load if something has changed.
    async fn look(&mut self) -> Result<(), LoadError> {
        let patience = self.options.patience;
        timeout(patience, self.look_unhurried()).await.unwrap_or(Err(LoadError::Timeout(patience)))
    }

    async fn connect_anew(&mut self) -> Result<(Instant, C::Rows), LoadError> {
        self.moment = None;
        Ok((Instant::now(), self.connect.connect().await?))
    }

    async fn look_unhurried(&mut self) -> Result<(), LoadError> {
        let (mut since, mut connection) = match self.connection.take() {
            Some((since, connection)) if since.elapsed() < self.options.period => (since, connection),
            _ => self.connect_anew().await?,
        };
        let started = Instant::now();
        let now = match moment(&mut connection).await {
            // The server may have closed an idle connection, or was restarted.
            Err(LoadError::Connection(_)) if self.fingerprint.is_some() => {
                (since, connection) = self.connect_anew().await?;
                moment(&mut connection).await?
            }
            other => other?,
        };
        if let Some(known) = &self.fingerprint {
            let is_same = now.is_known_as(self.moment.as_ref()) || fingerprint(&mut connection).await? == *known;
            self.check_cost = started.elapsed();
            if is_same {
                self.moment = Some(now);
                self.connection = Some((since, connection));
                return Ok(());
            }
        }
        let started = Instant::now();
        let known = self.publish.borrow().clone();
        let (catalog, print) = said_if_slow(load_again(&mut connection, &known)).await?;
        self.connection = Some((since, connection));
        // Without a fingerprint the next check loads.
        (self.moment, self.fingerprint) = (Some(now), print);
        if self.fingerprint.is_none() {
            self.check_cost = started.elapsed();
        }
        self.publish(catalog, started.elapsed());
        Ok(())
    }

    fn publish(&self, mut catalog: Catalog, took: Duration) {
        let old = self.publish.borrow().clone();
        catalog.version = old.version;
        if old.version > 0 && catalog == *old {
            debug!(?took, "the catalog was loaded again, and is the same");
            return;
        }
        catalog.version = old.version.saturating_add(1);
        catalog.share_with(&old);
        info!(version = catalog.version, relations = catalog.relations.len(), ?took, "the catalog is loaded");
        self.publish.send_replace(Arc::new(catalog));
    }
}

/// The wait that it is now; the next one is longer.
fn grow(backoff: &mut Duration) -> Duration {
    let longer = backoff.saturating_mul(2).min(MAX_BACKOFF);
    std::mem::replace(backoff, longer)
}

/// Says that it takes long, while it does.
async fn said_if_slow<T>(work: impl Future<Output = T>) -> T {
    let mut ticks = interval_at(Instant::now() + SLOW, SLOW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => info!(seconds = started.elapsed().as_secs(), "still reading the catalog"),
        }
    }
}

fn with_causes(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
