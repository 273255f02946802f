//! What the broker learns, told to people: as Events on policy, identity and workload, and in a policy's status who used
//! it last and what of it does not bind.
//!
//! **Promise.** What is told holds names that a policy, an identity or Kubernetes gave, and reason codes: never the text
//! of a statement, a name out of one, or a value. **Also.** Learning never waits; what is written is written by a task of
//! its own, seldom.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Patch, PatchParams};
use postern_crds::api::{API_VERSION, Condition, ConditionStatus};
use postern_crds::lease::Unbound;
use serde_json::{Value, json};

use crate::broker::{Bearer, Fact};
use crate::controllers::Reason;
use crate::events::{EventReason, Events, Told};
use crate::objects::{self, Key, Kind, Known, Objects, Policy};
use crate::timely::{ApiError, timely};

/// How often statuses are written.
const EVERY: Duration = Duration::from_secs(10);
/// How old what stands in a status may become while it is used: so that use alone writes seldom.
const STALE: i64 = 300;
/// A sidecar that did not poll for so long is gone.
const GONE: Duration = Duration::from_secs(60);
/// Most pods whose first lease was told.
const MAX_TOLD: usize = 65_536;
/// Most that is shown of what does not bind.
const MAX_UNBOUND: usize = 20;

/// What was learned and is not written yet.
pub struct Facts {
    objects: Arc<Objects>,
    events: Events,
    state: Mutex<State>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Pods and policies whose first lease was told.
    told: HashSet<(String, String)>,
    /// Who used a policy last, and when.
    used: HashMap<Key, (String, Timestamp)>,
    /// What sidecars reported, by policy and pod.
    reports: HashMap<Key, HashMap<String, Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: tokio::time::Instant,
    unbound: Option<Vec<Unbound>>,
}

impl Facts {
    /// Nothing is learned yet.
    pub fn new(objects: Arc<Objects>, events: Events) -> Arc<Self> {
        Arc::new(Self { objects, events, state: Mutex::default() })
    }

    /// Learns something.
    pub fn learn(&self, fact: &Fact<'_>) {
        match fact {
            Fact::Granted { bearer, policy, identity } => {
                let first = {
                    let mut state = self.state();
                    // Told twice is better than kept for ever.
                    if state.told.len() >= MAX_TOLD {
                        state.told.clear();
                    }
                    state.told.insert((bearer.pod_uid.clone(), (*policy).to_owned()))
                };
                if first {
                    let note = format!("pod {} has a lease of policy {policy} as {identity}", bearer.pod);
                    self.tell(bearer, policy, Some(identity), EventReason::LeaseGranted, &note);
                }
            }
            // What passes by itself, as at a start, is no news.
            Fact::Refused { problem, .. } if !problem.code.is_refusal() => {}
            Fact::Refused { bearer, resource, problem } => {
                let note = format!("pod {} gets no lease: {}", bearer.pod, problem.why);
                self.tell(bearer, &resource.name, None, EventReason::LeaseRefused, &note);
            }
            Fact::Polled { bearer, policy, report, .. } => {
                let key = (bearer.namespace.clone(), (*policy).to_owned());
                let seen = Seen { at: tokio::time::Instant::now(), unbound: report.unbound.clone() };
                self.state().reports.entry(key).or_default().insert(bearer.pod_uid.clone(), seen);
            }
            Fact::Audited { event } => self.audited(event),
        }
    }

    fn audited(&self, event: &Value) {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let bearer = Bearer {
            issuer: String::new(),
            subject: String::new(),
            token_id: None,
            namespace: text("/proven/namespace").to_owned(),
            service_account: text("/proven/serviceAccount").to_owned(),
            pod: text("/proven/pod").to_owned(),
            pod_uid: text("/proven/podUid").to_owned(),
            node: None,
        };
        let (policy, identity) = (text("/proven/policy"), text("/proven/identity"));
        if text("/event") == "session_start" {
            let key = (bearer.namespace.clone(), policy.to_owned());
            self.state().used.insert(key, (identity.to_owned(), Timestamp::now()));
        }
        if let Some((reason, note)) = of_audit(event) {
            self.tell(&bearer, policy, Some(identity), reason, &note);
        }
    }

    /// Tells it on the policy, on the identity, and on what owns the pod.
    fn tell(&self, bearer: &Bearer, policy: &str, identity: Option<&str>, reason: EventReason, note: &str) {
        let namespace = &bearer.namespace;
        let mut regarding = Vec::new();
        regarding.extend(self.objects.policy(namespace, policy).map(|known| reference(&known)));
        regarding
            .extend(identity.and_then(|name| self.objects.identity(namespace, name)).map(|known| reference(&known)));
        regarding.extend(self.objects.pod(namespace, &bearer.pod).map(|pod| workload(&pod.raw, namespace)));
        for regarding in regarding {
            self.events.tell(Told { regarding, reason, note: note.to_owned() });
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in a section of this lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what policies' statuses should say, for as long as it is polled.
    pub async fn write(self: Arc<Self>, client: Client) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            for (key, status) in self.statuses(Timestamp::now()) {
                if let Err(error) = patch(&client, &key, &status).await {
                    tracing::debug!(%error, namespace = key.0, policy = key.1, "a status could not be written");
                }
            }
        }
    }

    /// The statuses that are not as they should be.
    fn statuses(&self, now: Timestamp) -> Vec<(Key, Value)> {
        let mut state = self.state();
        for reports in state.reports.values_mut() {
            reports.retain(|_, seen| seen.at.elapsed() < GONE);
        }
        state.reports.retain(|_, reports| !reports.is_empty());
        let mut statuses = Vec::new();
        for policy in self.objects.policies() {
            let key = (policy.namespace.clone(), policy.name.clone());
            let status = policy.object.data.get("status").unwrap_or(&Value::Null);
            let mut patch = serde_json::Map::new();
            if let Some((identity, at)) = state.used.get(&key)
                && is_news(status, identity, *at)
            {
                patch.insert("lastUsedBy".into(), json!(identity));
                patch.insert("lastUsed".into(), json!(whole_second(*at)));
            }
            if let Some(conditions) = state.reports.get(&key).and_then(|reports| bound(&policy, reports, now)) {
                patch.insert("conditions".into(), conditions);
            }
            if !patch.is_empty() {
                let version = policy.object.metadata.resource_version.clone();
                statuses.push((key, json!({"metadata": {"resourceVersion": version}, "status": patch})));
            }
        }
        statuses
    }
}

/// The conditions with `Bound` as the reports have it, if it is another one.
fn bound(policy: &Known<Policy>, reports: &HashMap<String, Seen>, now: Timestamp) -> Option<Value> {
    let told: Vec<&Vec<Unbound>> = reports.values().filter_map(|seen| seen.unbound.as_ref()).collect();
    if told.is_empty() {
        return None;
    }
    let mut unbound: Vec<&Unbound> = told.into_iter().flatten().collect();
    unbound.sort();
    unbound.dedup();
    let (status, reason, message) = if unbound.is_empty() {
        (ConditionStatus::True, Reason::Bound, "all of it binds to the database".to_owned())
    } else {
        let shown: Vec<String> =
            unbound.iter().take(MAX_UNBOUND).map(|it| format!("{}: {}", it.path, it.message)).collect();
        let more = unbound.len().saturating_sub(MAX_UNBOUND);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!("closed, for it does not bind to the database: {}{more}", shown.join("; "));
        (ConditionStatus::False, Reason::NotBound, message)
    };
    let conditions = policy.object.data.pointer("/status/conditions").cloned().unwrap_or_else(|| json!([]));
    let mut conditions: Vec<Condition> = serde_json::from_value(conditions).ok()?;
    let before = conditions.iter().position(|it| it.type_ == BOUND);
    let since = before
        .and_then(|index| conditions.get(index))
        .filter(|before| before.status == status)
        .map_or_else(|| whole_second(now), |before| before.last_transition_time.clone());
    let condition = Condition {
        type_: BOUND.to_owned(),
        status,
        observed_generation: Some(policy.in_force.as_ref().map_or(policy.generation, |it| it.generation)),
        last_transition_time: since,
        reason: reason.as_str().to_owned(),
        message: message.chars().take(4096).collect(),
    };
    match before.and_then(|index| conditions.get_mut(index)) {
        Some(before) if *before == condition => return None,
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
    serde_json::to_value(conditions).ok()
}

/// The condition that sidecars' reports make.
pub const BOUND: &str = "Bound";

/// Whether a status says of the last use something else, or something old.
fn is_news(status: &Value, identity: &str, at: Timestamp) -> bool {
    let written = status.get("lastUsed").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok());
    let by = status.get("lastUsedBy").and_then(Value::as_str);
    written.is_none_or(|written| {
        let later = at.as_second().saturating_sub(written.as_second());
        later > STALE || (later > 0 && by != Some(identity))
    })
}

fn whole_second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

async fn patch(client: &Client, (namespace, name): &Key, patch: &Value) -> Result<(), ApiError> {
    let api = objects::of_namespace::<Policy>(client.clone(), namespace);
    match timely(api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))).await {
        // It is gone, or somebody else wrote first: the next turn sees what they wrote.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        patched => patched.map(|_| ()),
    }
}

/// What of an event of the audit people should see beside objects.
fn of_audit(event: &Value) -> Option<(EventReason, String)> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let by = |rule: Option<&str>| rule.map_or_else(String::new, |rule| format!(" (rule {rule})"));
    match text("event")? {
        "session_start" => Some((EventReason::SessionStarted, "a session began".to_owned())),
        "session_end" if text("reason") == Some("lease_ended") => {
            Some((EventReason::LeaseExpired, "a session was ended: the lease is over".to_owned()))
        }
        "statement" => {
            let would = match text("decision")? {
                "deny" => "",
                "would_deny" => "would be ",
                _ => return None,
            };
            let (code, rule) = (text("reason").unwrap_or_default(), by(text("rule")));
            Some(match code {
                "bulk_export" | "no_approver" => {
                    (EventReason::CopyBlocked, format!("COPY or another bulk export {would}refused{rule}"))
                }
                "limit" => (EventReason::LimitReached, format!("a statement {would}refused by a limit{rule}")),
                code => (EventReason::StatementDenied, format!("a statement {would}refused: {code}{rule}")),
            })
        }
        "statement_end" => {
            let limit = text("limit")?;
            Some((EventReason::LimitReached, format!("a statement was ended by the limit {limit}")))
        }
        _ => None,
    }
}

/// An object, as an Event refers to it.
pub fn reference<K: Kind>(known: &Known<K>) -> ObjectReference {
    ObjectReference {
        api_version: Some(API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: Some(known.namespace.clone()),
        name: Some(known.name.clone()),
        uid: Some(known.uid.clone()),
        ..ObjectReference::default()
    }
}

/// What owns a pod of this namespace; itself, if nothing does.
pub fn workload(pod: &Value, namespace: &str) -> ObjectReference {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let owners = metadata.get("ownerReferences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let namespace = Some(namespace.to_owned());
    let Some(owner) = owner else {
        return ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace,
            name: text(metadata, "name"),
            uid: text(metadata, "uid"),
            ..ObjectReference::default()
        };
    };
    // A Deployment's pods are owned by one of its ReplicaSets, whose name ends with the hash of the template.
    let hash = metadata.pointer("/labels/pod-template-hash").and_then(Value::as_str);
    let name = text(owner, "name");
    let deployment = name.as_deref().zip(hash).and_then(|(name, hash)| name.strip_suffix(hash)?.strip_suffix('-'));
    match deployment.filter(|_| text(owner, "kind").as_deref() == Some("ReplicaSet")) {
        Some(deployment) => ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            namespace,
            name: Some(deployment.to_owned()),
            ..ObjectReference::default()
        },
        None => ObjectReference {
            api_version: text(owner, "apiVersion"),
            kind: text(owner, "kind"),
            namespace,
            name,
            uid: text(owner, "uid"),
            ..ObjectReference::default()
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn events_of_the_audit_are_told_without_what_the_client_wrote() {
        let statement = |decision: &str, reason: &str| {
            json!({
                "event": "statement", "decision": decision, "reason": reason, "rule": "reads",
                "text": "SELECT secret", "object": "public.secret", "error": "secret", "relations": ["public.secret"],
            })
        };
        for (event, expected) in [
            (
                statement("deny", "no_rule"),
                Some((EventReason::StatementDenied, "a statement refused: no_rule (rule reads)")),
            ),
            (
                statement("would_deny", "no_rule"),
                Some((EventReason::StatementDenied, "a statement would be refused: no_rule (rule reads)")),
            ),
            (
                statement("deny", "bulk_export"),
                Some((EventReason::CopyBlocked, "COPY or another bulk export refused (rule reads)")),
            ),
            (statement("allow", ""), None),
            (json!({"event": "statement_end", "limit": null}), None),
            (
                json!({"event": "statement_end", "limit": "rows"}),
                Some((EventReason::LimitReached, "a statement was ended by the limit rows")),
            ),
            (json!({"event": "session_end", "reason": "client_closed"}), None),
        ] {
            let told = of_audit(&event);
            assert_eq!(told.as_ref().map(|(reason, note)| (*reason, note.as_str())), expected, "{event}");
        }
    }

    #[test]
    fn the_workload_of_a_pod_is_what_people_made() {
        let pod = |owner: Value, labels: Value| {
            let metadata = json!({"name": "p", "uid": "u", "labels": labels, "ownerReferences": owner});
            workload(&json!({"metadata": metadata}), "shop")
        };
        let owner = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "uid": "o", "controller": true, "apiVersion": "x/v1"}]);
        for (found, expected) in [
            (pod(json!([]), json!({})), ("Pod", "p")),
            (pod(owner("Job", "night-1"), json!({})), ("Job", "night-1")),
            (pod(owner("ReplicaSet", "web-5d4"), json!({"pod-template-hash": "5d4"})), ("Deployment", "web")),
            (pod(owner("ReplicaSet", "web-5d4"), json!({})), ("ReplicaSet", "web-5d4")),
        ] {
            assert_eq!((found.kind.as_deref().unwrap(), found.name.as_deref().unwrap()), expected);
        }
    }

    #[test]
    fn a_use_is_written_again_only_when_it_is_by_another_or_old() {
        let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        let status = json!({"lastUsedBy": "report", "lastUsed": at(0).to_string()});
        assert!(is_news(&Value::Null, "report", at(0)));
        assert!(!is_news(&status, "report", at(60)) && is_news(&status, "report", at(STALE + 1)));
        assert!(is_news(&status, "other", at(1)) && !is_news(&status, "other", at(-5)));
    }
}
