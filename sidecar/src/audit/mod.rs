//! The audit: what is recorded of sessions and statements, and where it goes.
//!
//! **Promise.** An event about a statement is handed over before the statement is sent: [`SessionAudit::statement`]
//! returns once the line has been given to the operating system (a file's page cache, or the reader's end of a pipe),
//! so that it outlives this process however that ends. While the sink is full, statements wait for [`PATIENCE`], and
//! are then refused.
//! **Also.** Lines are whole: a write that was cut short is taken back or closed before the next one.
//! **Not covered.** A crash of the machine itself: lines are not synced to disk one by one. The *end* events of
//! statements and sessions hold nobody up: those for a file go with the next statement's, or as soon as the thread that
//! has them has nothing else to do ([`Audit::settle`]). Beyond [`BACKLOG`] bytes of them a full sink loses them, and a
//! metric says so.
//!
//! One JSON object per line; `audit.schema.json` beside this crate describes them, [`SCHEMA`] names its version.

mod event;
mod members;
mod sink;
mod spool;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use postern_crds::Recording;

use crate::metrics::Metrics;

use event::{Body, Envelope, Hasher};
pub use event::{
    Parameter, Parameters, SCHEMA, Said, SessionEnd, SessionRefused, SessionStart, StatementEnd, StatementEvent,
    StatementKind, Subject,
};
use sink::{Appender, FileSink, Place, Refused, StreamSink};
use spool::Spool;
pub use spool::{Batch, Outbox};

/// How long a statement waits for a full sink before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Most that waits in memory: end events for a file that is full, any events for a pipe that is not read.
pub const BACKLOG: usize = 1 << 20;
/// SQLSTATE of a statement refused because its event can't be recorded (disk_full).
pub const SQLSTATE_AUDIT_FULL: &str = "53100";

/// Where the audit goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened anew when it was rotated.
    File(PathBuf),
    /// A folder, from which it is sent on.
    Spool {
        /// The folder.
        folder: PathBuf,
        /// Most bytes that it may hold, together with those beside it.
        limit: u64,
    },
}

/// The audit could not take an event: what it is about must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't be written, so the statement was not run")]
pub struct AuditFull;

/// The audit of one sidecar.
#[derive(Debug)]
pub struct Audit {
    sink: Sink,
    recording: ArcSwap<Recording>,
    hasher: Hasher,
    patience: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Sink {
    File(FileSink),
    Spool(Spool),
    Stream(StreamSink),
}

impl Audit {
    /// Opens the target.
    pub fn open(target: &Target, recording: Recording, metrics: Arc<Metrics>) -> io::Result<Arc<Audit>> {
        let sink = match target {
            Target::File(path) => Sink::File(FileSink::open(path)?),
            Target::Spool { folder, limit } => Sink::Spool(Spool::open(folder, *limit)?),
            Target::Stdout => Sink::Stream(StreamSink::spawn(Box::new(io::stdout()))?),
        };
        let recording = ArcSwap::from_pointee(recording);
        Ok(Arc::new(Audit { sink, recording, hasher: Hasher::random(), patience: PATIENCE, metrics }))
    }

    /// Records the start of a session, and gives what the session records the rest with.
    pub async fn session(self: &Arc<Self>, start: &SessionStart<'_>) -> Result<SessionAudit, AuditFull> {
        let session = SessionAudit::new(self);
        session.submit(&Body::SessionStart(start)).await?;
        Ok(session)
    }

    /// Records that a session was refused at its start; never waits.
    pub fn session_refused(self: &Arc<Self>, refused: &SessionRefused<'_>) {
        self.note(SessionAudit::new(self).line(&Body::SessionRefused(refused)));
    }

    /// What of statements and parameters is kept from now on.
    pub fn record_as(&self, recording: Recording) {
        self.recording.store(Arc::new(recording));
    }

    /// What is in the spool, to be sent on; None for another target.
    pub fn outbox(&self) -> Option<Outbox> {
        match &self.sink {
            Sink::Spool(spool) => Some(spool.outbox()),
            Sink::File(_) | Sink::Stream(_) => None,
        }
    }

    /// Opens a file target anew, as after a rotation that kept the path's inode busy.
    pub fn reopen(&self) {
        if let Sink::File(file) = &self.sink {
            file.reopen();
        }
    }

    /// Waits (bounded) until everything taken has been written; for the end of the process.
    pub async fn flush(&self) {
        match &self.sink {
            Sink::File(file) => {
                let _ = file.append(&[]);
            }
            Sink::Spool(spool) => spool.lines.settle(),
            Sink::Stream(stream) => stream.flush(self.patience).await,
        }
    }

    /// Writes the end events that wait. For a thread that is about to sleep.
    pub fn settle(&self) {
        match &self.sink {
            Sink::File(file) => file.settle(),
            Sink::Spool(spool) => spool.lines.settle(),
            Sink::Stream(_) => return,
        }
        self.metrics.audit_queue(self.waiting());
    }

    /// Hands a line over; returns when it would outlive the process.
    async fn hand_over(&self, line: Vec<u8>) -> Result<(), AuditFull> {
        let result = match &self.sink {
            Sink::File(file) => self.append_patiently(file, &line).await,
            Sink::Spool(spool) => self.append_patiently(&spool.lines, &line).await,
            Sink::Stream(stream) => stream.hand_over(line, self.patience).await,
        };
        self.metrics.audit_queue(self.waiting());
        match result {
            Ok(()) => self.metrics.audit_event(),
            Err(AuditFull) => self.metrics.audit_refused(),
        }
        result
    }

    async fn append_patiently<P: Place>(&self, file: &Appender<P>, line: &[u8]) -> Result<(), AuditFull> {
        // The usual way: one write into the page cache, from the session's own thread. A writer thread would cost two
        // wake-ups per statement, ten times as much.
        if file.append(line).is_ok() {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + self.patience;
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if file.append(line).is_ok() {
                return Ok(());
            }
        }
        tracing::error!("the audit log can't be written: statements are refused");
        Err(AuditFull)
    }

    /// Takes a line without waiting.
    fn note(&self, line: Vec<u8>) {
        let result = match &self.sink {
            Sink::File(file) => file.push(&line),
            Sink::Spool(spool) => spool.lines.push(&line),
            Sink::Stream(stream) => stream.push(line).map(|_| ()),
        };
        self.metrics.audit_queue(self.waiting());
        match result {
            Ok(()) => self.metrics.audit_event(),
            Err(Refused) => {
                self.metrics.audit_lost();
                tracing::error!("an audit event was lost: the audit log can't be written");
            }
        }
    }

    fn waiting(&self) -> usize {
        match &self.sink {
            Sink::File(file) => file.waiting(),
            Sink::Spool(spool) => spool.lines.waiting(),
            Sink::Stream(stream) => stream.waiting(),
        }
    }
}

/// The audit of one session: numbers its events and gives them its id.
#[derive(Debug)]
pub struct SessionAudit {
    audit: Arc<Audit>,
    id: Arc<str>,
    sequence: AtomicU64,
    statements: AtomicU64,
}

impl SessionAudit {
    fn new(audit: &Arc<Audit>) -> Self {
        Self {
            audit: Arc::clone(audit),
            id: format!("{:032x}", rand::random::<u128>()).into(),
            sequence: AtomicU64::new(0),
            statements: AtomicU64::new(0),
        }
    }

    /// The session's id, 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Records a statement; returns the id that its end is recorded under. Only after `Ok` may it be sent.
    pub async fn statement(&self, statement: &StatementEvent<'_>) -> Result<u64, AuditFull> {
        let id = self.statements.fetch_add(1, Ordering::Relaxed) + 1;
        self.submit(&Body::Statement { id, statement }).await?;
        Ok(id)
    }

    /// Records the end of a statement; never waits.
    pub fn statement_end(&self, end: &StatementEnd<'_>) {
        self.audit.note(self.line(&Body::StatementEnd(end)));
    }

    /// Records the end of the session; never waits.
    pub fn session_end(&self, end: &SessionEnd<'_>) {
        self.audit.note(self.line(&Body::SessionEnd(end)));
    }

    async fn submit(&self, body: &Body<'_>) -> Result<(), AuditFull> {
        self.audit.hand_over(self.line(body)).await
    }

    fn line(&self, body: &Body<'_>) -> Vec<u8> {
        let envelope = Envelope {
            time: SystemTime::now(),
            session: &self.id,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            body,
        };
        envelope.to_line(**self.audit.recording.load(), &self.audit.hasher)
    }
}

#[cfg(test)]
mod tests;
