//! Sends the audit to the broker: what is in the spool, in order, until the broker says that it has it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use postern_crds::lease::{AUDIT_PATH, AuditAck};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Call, CallError, Client};
use super::{AccessToken, clock, read};
use crate::audit::{Batch, Outbox};
use crate::metrics::Metrics;

/// How long the broker may take to keep a batch.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long events may wait for others to be sent with.
const GATHER: Duration = Duration::from_millis(200);
/// How often the spool is looked at, unasked.
const LOOK: Duration = Duration::from_secs(1);

/// Sends batches.
pub struct Sender {
    client: Client,
    token: watch::Receiver<Option<AccessToken>>,
    metrics: Arc<Metrics>,
}

/// What could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Events that went to standard output.
    pub printed: u64,
    /// Events that not even that took.
    pub lost: u64,
}

impl Sender {
    pub(super) fn new(client: Client, token: watch::Receiver<Option<AccessToken>>, metrics: Arc<Metrics>) -> Self {
        Self { client, token, metrics }
    }

    /// Sends what comes, until told when to be done; then what is left: to the broker until that time, and the rest to
    /// standard output.
    pub async fn run(mut self, mut outbox: Outbox, mut last_call: watch::Receiver<Option<Instant>>) -> Unsent {
        let told =
            async |last_call: &mut watch::Receiver<Option<Instant>>| match last_call.wait_for(Option::is_some).await {
                Ok(until) => until.unwrap_or_else(Instant::now),
                Err(_) => Instant::now(),
            };
        let until = tokio::select! {
            until = told(&mut last_call) => until,
            () = self.send_always(&mut outbox) => Instant::now(),
        };
        if timeout_at(until, self.send_the_rest(&mut outbox)).await.is_err() {
            tracing::warn!("the broker did not take the rest of the audit in time; it goes to standard output");
        }
        let unsent = print(&mut outbox);
        self.metrics.spool(outbox.bytes(), outbox.unsent());
        unsent
    }

    async fn send_always(&mut self, outbox: &mut Outbox) {
        let mut failures = 0_u32;
        loop {
            outbox.look_around();
            self.metrics.spool(outbox.bytes(), outbox.unsent());
            match self.send_all(outbox).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!("the broker takes the audit again");
                    }
                    failures = 0;
                    // Events of a moment go together.
                    let _ = tokio::time::timeout(LOOK, outbox.filled()).await;
                    sleep(GATHER).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(%error, "the audit can't be sent to the broker; it waits in the spool");
                    }
                    sleep(clock::pause(failures, rand::random())).await;
                }
            }
        }
    }

    async fn send_the_rest(&mut self, outbox: &mut Outbox) {
        let mut failures = 0_u32;
        while self.send_all(outbox).await.is_err() {
            failures = failures.saturating_add(1);
            sleep(clock::pause(failures, rand::random())).await;
        }
    }

    /// Sends until nothing is left.
    async fn send_all(&mut self, outbox: &mut Outbox) -> Result<(), CallError> {
        while let Some(batch) = outbox.peek().map_err(|error| CallError::Own(format!("the spool: {error}")))? {
            let acknowledged = self.send(&batch).await?;
            if !outbox.acknowledge(&batch, acknowledged) {
                return Err(CallError::Unreadable(format!("it acknowledges {acknowledged} only")));
            }
            self.metrics.audit_acknowledged(outbox.take_acknowledged());
            self.metrics.spool(outbox.bytes(), outbox.unsent());
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Batch) -> Result<u64, CallError> {
        let Some(token) = self.token.borrow().clone() else {
            return Err(CallError::Away("there is no token yet".to_owned()));
        };
        let Batch { stream, first, acknowledged, lines, .. } = batch;
        let call = Call {
            path: AUDIT_PATH,
            query: &format!("stream={stream}&first={first}&acknowledged={acknowledged}"),
            content_type: "application/x-ndjson",
            body: lines.clone(),
            token: Some(&token),
            patience: PATIENCE,
        };
        let (_, body) = self.client.post(&call).await?;
        let AuditAck { acknowledged } = read(&body)?;
        Ok(acknowledged)
    }
}

/// What is left goes to standard output, where the cluster's log collection finds it.
fn print(outbox: &mut Outbox) -> Unsent {
    let mut unsent = Unsent { printed: 0, lost: 0 };
    let mut out = std::io::stdout().lock();
    loop {
        match outbox.peek() {
            Ok(None) => return unsent,
            Ok(Some(batch)) => {
                if out.write_all(&batch.lines).and_then(|()| out.flush()).is_err() {
                    unsent.lost = outbox.unsent();
                    return unsent;
                }
                unsent.printed += batch.events;
                outbox.acknowledge(&batch, batch.last());
            }
            Err(error) => {
                tracing::error!(%error, "the rest of the audit can't be read");
                unsent.lost = outbox.unsent();
                return unsent;
            }
        }
    }
}
