//! Kubernetes Events (`events.k8s.io/v1`): what people should see beside an object, and no statement's text or values.
//!
//! **Promise.** For an object and a reason there is one Event a minute at most, whichever replicas have something to say;
//! how often it happened stands in its note. A replica writes a bounded number of them in a second, and remembers a
//! bounded number that it could not write yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ObjectMeta, ResourceExt as _};
use kube::{Api, Client};
use schemars::JsonSchema;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::timely::{ApiError, timely};

/// What may wait to be taken in; beyond it is lost, which is counted.
const QUEUE: usize = 1024;
/// What may wait to be written.
const WAITING: usize = 2048;
/// The least time between two Events for an object and a reason.
const MINUTE: Duration = Duration::from_secs(60);
/// The time between two Events of a replica: with two replicas less than five a second in all.
const PACE: Duration = Duration::from_millis(450);
/// The longest note that the API server takes.
const MAX_NOTE: usize = 1024;
/// The annotation with how often it happened.
const COUNT: &str = "postern.dev/count";
/// Who reports.
const CONTROLLER: &str = "postern.dev/operator";

/// What happened. The reference shows of each reason what it means and, in a second paragraph, what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum EventReason {
    /// A pod gets its sidecars.
    Injected,
    /// An annotated pod can't have its sidecars, and is not made.
    ///
    /// The note says what hinders it: correct the pod's template, or the policy that it asks for.
    InjectionRefused,
    /// A sidecar was given a lease for the first time.
    LeaseGranted,
    /// A sidecar gets no lease, or no more.
    ///
    /// The note says what is missing: an identity for the pod's service account, a rule of the policy for that
    /// identity, or a pod that is as it was injected; for an identity from outside of the cluster, a policy that may
    /// leave it.
    LeaseRefused,
    /// Something that a policy allows could not be granted to the roles that are made for its sidecars.
    ///
    /// Let the role in `adminSecret` be a member of the role that owns the tables, or own them; statements that need what
    /// is missing are refused by the database until then.
    NotGranted,
    /// A client's session began.
    SessionStarted,
    /// A client's session was refused at its start: it asked for what the policy does not give, as another database or a
    /// setting that no rule names.
    ///
    /// The audit has the error that the client was told: correct its connection, or the policy.
    SessionRefused,
    /// A session was ended because its lease was over.
    ///
    /// See whether the operator's pods are there and can be reached from the application's namespace on port 8443;
    /// `LeaseRefused` tells of a right that ended.
    LeaseExpired,
    /// A statement was refused, or would be in mode Audit.
    ///
    /// The note names the reason's code, which [denials](denials.md) explains; the audit has each statement.
    StatementDenied,
    /// COPY or another bulk export was refused.
    ///
    /// If this identity is to export, it needs the verb CopyOut and `bulkExport: {action: Allow}`. If not, look at what
    /// the workload does.
    CopyBlocked,
    /// A limit ended a statement.
    ///
    /// If the work is legitimate, raise the policy's `limits`. If not, look at what the workload
    /// does.
    LimitReached,
    /// A pod is evicted, so that it gets a current sidecar.
    Restarted,
}

impl EventReason {
    /// As it stands in the Event.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventReason::Injected => "Injected",
            EventReason::InjectionRefused => "InjectionRefused",
            EventReason::LeaseGranted => "LeaseGranted",
            EventReason::LeaseRefused => "LeaseRefused",
            EventReason::NotGranted => "NotGranted",
            EventReason::SessionStarted => "SessionStarted",
            EventReason::SessionRefused => "SessionRefused",
            EventReason::LeaseExpired => "LeaseExpired",
            EventReason::StatementDenied => "StatementDenied",
            EventReason::CopyBlocked => "CopyBlocked",
            EventReason::LimitReached => "LimitReached",
            EventReason::Restarted => "Restarted",
        }
    }

    /// What was done.
    const fn action(self) -> &'static str {
        match self {
            EventReason::Injected | EventReason::InjectionRefused => "Injecting",
            EventReason::LeaseGranted
            | EventReason::LeaseRefused
            | EventReason::NotGranted
            | EventReason::LeaseExpired => "Leasing",
            EventReason::SessionStarted | EventReason::SessionRefused => "Serving",
            EventReason::Restarted => "Restarting",
            EventReason::StatementDenied | EventReason::CopyBlocked | EventReason::LimitReached => "Deciding",
        }
    }

    const fn is_warning(self) -> bool {
        match self {
            EventReason::Injected
            | EventReason::LeaseGranted
            | EventReason::SessionStarted
            | EventReason::Restarted => false,
            EventReason::InjectionRefused
            | EventReason::LeaseRefused
            | EventReason::NotGranted
            | EventReason::LeaseExpired
            | EventReason::SessionRefused
            | EventReason::StatementDenied
            | EventReason::CopyBlocked
            | EventReason::LimitReached => true,
        }
    }
}

/// Something to tell of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The object, with its namespace, kind, name and UID.
    pub regarding: ObjectReference,
    /// What happened.
    pub reason: EventReason,
    /// The same, for people.
    pub note: String,
}

/// Where parts of the program tell what happened. Telling never waits.
#[derive(Clone, Debug)]
pub struct Events {
    told: mpsc::Sender<Told>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// The handle, and what the writer reads.
    pub fn new(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Told>) {
        let (told, receiver) = mpsc::channel(QUEUE);
        (Self { told, metrics }, receiver)
    }

    /// Tells; it is lost where too much is told already.
    pub fn tell(&self, told: Told) {
        // Events are a convenience: the audit has everything.
        if self.told.try_send(told).is_err() {
            self.metrics.events.with_label_values(&["dropped"]).inc();
        }
    }
}

/// Which Events are one.
type Same = (String, EventReason);

/// What waits to be written.
#[derive(Debug)]
struct Waiting {
    told: Told,
    count: u32,
    since: Instant,
}

/// Writes what is told, for as long as it is polled.
pub async fn write(client: Client, instance: String, mut told: mpsc::Receiver<Told>, metrics: Arc<Metrics>) {
    let mut waiting: HashMap<Same, Waiting> = HashMap::new();
    let mut written: HashMap<Same, Instant> = HashMap::new();
    let mut uids = Uids::default();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            told = told.recv() => match told {
                Some(told) => gather(&mut waiting, told),
                None => return,
            },
            _ = pace.tick() => {
                let now = Instant::now();
                written.retain(|_, at| now.saturating_duration_since(*at) < MINUTE);
                let Some(same) = next(&waiting, &written) else { continue };
                let Some(Waiting { mut told, count, .. }) = waiting.remove(&same) else { continue };
                told.regarding.uid = uids.of(&client, &told.regarding, now).await;
                written.insert(same, now);
                let published = publish(&client, &instance, &told, count, Timestamp::now()).await;
                metrics.events.with_label_values(&[if published.is_ok() { "written" } else { "failed" }]).inc();
                if let Err(error) = published {
                    tracing::debug!(%error, reason = told.reason.as_str(), "an Event could not be written");
                }
            }
        }
    }
}

/// The UIDs of Deployments, which their pods do not name; without one `kubectl describe` does not show an Event.
#[derive(Default)]
struct Uids(HashMap<(String, String), (Option<String>, Instant)>);

impl Uids {
    /// The UID of what an Event is about, if there is such an object.
    async fn of(&mut self, client: &Client, regarding: &ObjectReference, now: Instant) -> Option<String> {
        if regarding.uid.is_some() || regarding.kind.as_deref() != Some("Deployment") {
            return regarding.uid.clone();
        }
        let (namespace, name) = (regarding.namespace.clone()?, regarding.name.clone()?);
        self.0.retain(|_, (_, at)| now.saturating_duration_since(*at) < MINUTE);
        let key = (namespace, name);
        if let Some((uid, _)) = self.0.get(&key) {
            return uid.clone();
        }
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &key.0);
        let found = timely(deployments.get_metadata_opt(&key.1)).await.ok().flatten();
        let uid = found.and_then(|deployment| deployment.metadata.uid);
        self.0.insert(key, (uid.clone(), now));
        uid
    }
}

fn gather(waiting: &mut HashMap<Same, Waiting>, told: Told) {
    let same = (object(&told.regarding), told.reason);
    if let Some(waiting) = waiting.get_mut(&same) {
        waiting.count = waiting.count.saturating_add(1);
    } else if waiting.len() < WAITING {
        waiting.insert(same, Waiting { told, count: 1, since: Instant::now() });
    }
}

/// Which object it is: not all references have a UID.
fn object(regarding: &ObjectReference) -> String {
    let ObjectReference { kind, namespace, name, uid, .. } = regarding;
    [kind, namespace, name, uid].map(|part| part.as_deref().unwrap_or_default()).join("/")
}

/// What has waited longest of what may be written.
fn next(waiting: &HashMap<Same, Waiting>, written: &HashMap<Same, Instant>) -> Option<Same> {
    let may = waiting.iter().filter(|(same, _)| !written.contains_key(*same));
    may.min_by_key(|(_, waiting)| waiting.since).map(|(same, _)| same.clone())
}

/// The Event's name: the same for what happens to an object in a minute, so that replicas meet at one.
fn name(told: &Told, now: Timestamp) -> String {
    let minute = now.as_second().div_euclid(60);
    let digest = Sha256::digest(format!("{}/{}/{minute}", object(&told.regarding), told.reason.as_str()));
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name: String = told.regarding.name.as_deref().unwrap_or_default().chars().take(200).collect();
    format!("{name}.{short}")
}

fn note(text: &str, count: u32) -> String {
    let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
    let text: String = text.chars().take((MAX_NOTE / 4).max(MAX_NOTE - 64)).collect();
    let mut note = format!("{text}{times}");
    while note.len() > MAX_NOTE {
        note.pop();
    }
    note
}

async fn publish(client: &Client, instance: &str, told: &Told, count: u32, now: Timestamp) -> Result<(), ApiError> {
    let namespace = told.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let name = name(told, now);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace),
            annotations: Some([(COUNT.to_owned(), count.to_string())].into()),
            ..ObjectMeta::default()
        },
        action: Some(told.reason.action().to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note(&told.note, count)),
        reason: Some(told.reason.as_str().to_owned()),
        regarding: Some(told.regarding.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.chars().take(128).collect()),
        type_: Some(if told.reason.is_warning() { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    match timely(events.create(&PostParams::default(), &event)).await {
        Err(error) if error.code() == Some(409) => {}
        created => return created.map(|_| ()),
    }
    // Another replica was first in this minute: what both saw is one Event.
    for _ in 0..3 {
        let there = timely(events.get(&name)).await?;
        let before = there.annotations().get(COUNT).and_then(|count| count.parse().ok()).unwrap_or(1_u32);
        let sum = before.saturating_add(count);
        let patch = json!({
            "metadata": {"resourceVersion": there.resource_version(), "annotations": {COUNT: sum.to_string()}},
            "note": note(&told.note, sum),
        });
        match timely(events.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await {
            Err(error) if error.code() == Some(409) => {}
            patched => return patched.map(|_| ()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn told(uid: &str, reason: EventReason, note: &str) -> Told {
        let regarding =
            ObjectReference { uid: Some(uid.into()), name: Some("shop".into()), ..ObjectReference::default() };
        Told { regarding, reason, note: note.into() }
    }

    #[test]
    fn what_is_told_again_is_counted_and_not_written_again_within_a_minute() {
        let mut waiting = HashMap::new();
        for note in ["first", "second", "third"] {
            gather(&mut waiting, told("a", EventReason::StatementDenied, note));
        }
        gather(&mut waiting, told("a", EventReason::CopyBlocked, "other"));
        let same = ("//shop/a".to_owned(), EventReason::StatementDenied);
        assert_eq!((waiting.len(), waiting.get(&same).unwrap().count), (2, 3));
        assert_eq!(waiting.get(&same).unwrap().told.note, "first");
        let written = HashMap::from([(same, Instant::now())]);
        assert_eq!(next(&waiting, &written).unwrap().1, EventReason::CopyBlocked);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = HashMap::new();
        for uid in 0..WAITING * 2 {
            gather(&mut waiting, told(&uid.to_string(), EventReason::LimitReached, ""));
        }
        assert_eq!(waiting.len(), WAITING);
    }

    #[test]
    fn replicas_meet_at_one_event_in_a_minute() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let one = told("a", EventReason::LeaseGranted, "by one");
        let other = told("a", EventReason::LeaseGranted, "by the other");
        assert_eq!(name(&one, at(60)), name(&other, at(119)));
        assert_ne!(name(&one, at(60)), name(&one, at(120)));
        assert_ne!(name(&one, at(60)), name(&told("a", EventReason::LeaseRefused, ""), at(60)));
    }

    #[test]
    fn a_note_says_how_often_and_is_no_longer_than_the_api_server_takes() {
        assert_eq!((note("denied", 1), note("denied", 7)), ("denied".into(), "denied (7 times)".into()));
        assert!(note(&"ä".repeat(5000), 3).len() <= MAX_NOTE);
    }
}
