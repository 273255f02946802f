//! What the broker learns, told to people: as Events on policy, identity and workload; and in the status of a policy who
//! used it last, and of both what their sidecars report, which the controllers make conditions of.
//!
//! **Promise.** What is told holds names that a policy, an identity or Kubernetes gave, and reason codes: never the text
//! of a statement, a name out of one, or a value. **Also.** Learning never waits; what is written is written by a task of
//! its own, seldom.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Patch, PatchParams};
use postern_crds::api::API_VERSION;
use postern_crds::lease::{Report, Unbound};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::broker::{Bearer, Fact};
use crate::events::{EventReason, Events, Told};
use crate::objects::{self, Identity, InForce, Key, Kind, Known, Objects, Policy};
use crate::pods;
use crate::timely::timely;
use crate::version::Version;

/// How often statuses are looked at, whether or not something was learned.
const EVERY: Duration = Duration::from_secs(10);
/// How long what is learned gathers before it is written.
const GATHER: Duration = Duration::from_secs(1);
/// How old what stands in a status may become while it is used: so that use alone writes seldom.
const STALE: i64 = 300;
/// A sidecar that did not poll for so long is gone.
const GONE: Duration = Duration::from_secs(60);
/// Most sidecars whose first lease was told.
const MAX_TOLD: usize = 65_536;
/// Most that is taken from a sidecar, and written, of what does not bind.
const MAX_UNBOUND: usize = 20;
/// Longest text of a sidecar's that is taken.
const MAX_TEXT: usize = 1024;

/// What was learned and is not written yet.
pub struct Facts {
    objects: Arc<Objects>,
    events: Events,
    /// The name of this replica.
    replica: String,
    state: Mutex<State>,
    learned: Notify,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Sidecars and policies whose first lease was told.
    told: HashSet<(String, String)>,
    /// Who used a policy last, and when.
    used: HashMap<Key, (String, Timestamp)>,
    /// What sidecars reported, by policy and by identity. A sidecar is known by its pod, or its key, and its policy.
    of_policies: HashMap<Key, HashMap<Sidecar, Seen>>,
    of_identities: HashMap<Key, HashMap<Sidecar, Seen>>,
}

type Sidecar = (String, String);
/// What is to change in a status.
type Fields = serde_json::Map<String, Value>;

/// What a sidecar reported.
#[derive(Debug)]
struct Seen {
    at: tokio::time::Instant,
    /// The generation that it serves under, once that is known.
    generation: Option<i64>,
    version: Option<Version>,
    unusable: Option<String>,
    unbound: Option<Vec<Unbound>>,
}

impl Seen {
    /// Whether it can't use its lease, and a sidecar of the operator's own version might.
    fn is_too_old(&self) -> bool {
        self.unusable.is_some() && self.version.is_some_and(|version| version.is_older_minor_than(Version::own()))
    }

    /// Takes a report in; whether it says anything new.
    fn take(seen: &mut HashMap<Sidecar, Seen>, sidecar: Sidecar, reached: Option<i64>, report: &Report) -> bool {
        let before = seen.get(&sidecar);
        let short = |text: &str| -> String { text.chars().take(MAX_TEXT).collect() };
        let unusable = report.unusable.as_deref().map(short);
        // What reached it is not yet what it serves under.
        let reached = reached.filter(|_| unusable.is_none());
        let generation = reached.or(before.and_then(|before| before.generation));
        let unbound = report.unbound.as_ref().map(|unbound| {
            let shortened = |it: &Unbound| Unbound { path: short(&it.path), message: short(&it.message) };
            unbound.iter().take(MAX_UNBOUND).map(shortened).collect()
        });
        let version = Version::read(&report.sidecar);
        let is_news = before.is_none_or(|before| {
            let Seen { generation: old, version: was, unusable: why, unbound: closed, .. } = before;
            (*old, *was, why, closed) != (generation, version, &unusable, &unbound)
        });
        seen.insert(sidecar, Seen { at: tokio::time::Instant::now(), generation, version, unusable, unbound });
        is_news
    }
}

/// Where something happened.
struct Place<'a> {
    namespace: &'a str,
    /// None outside of the cluster.
    pod: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(bearer: &'a Bearer) -> Self {
        Self { namespace: &bearer.namespace, pod: bearer.pod().map(|pod| pod.pod.as_str()) }
    }
}

impl Facts {
    /// Nothing is learned yet by the replica of this name.
    pub fn new(objects: Arc<Objects>, events: Events, replica: String) -> Arc<Self> {
        Arc::new(Self { objects, events, replica, state: Mutex::default(), learned: Notify::new() })
    }

    /// Learns something.
    pub fn learn(&self, fact: &Fact<'_>) {
        match fact {
            Fact::Granted { bearer, holder, policy, identity } => {
                let first = {
                    let mut state = self.state();
                    // Told twice is better than kept for ever.
                    if state.told.len() >= MAX_TOLD {
                        state.told.clear();
                    }
                    state.told.insert(((*holder).to_owned(), (*policy).to_owned()))
                };
                if first {
                    let note = format!("{} has a lease of policy {policy} as {identity}", bearer.who());
                    self.tell(&Place::of(bearer), policy, Some(identity), EventReason::LeaseGranted, &note);
                }
            }
            // What passes by itself, as at a start, is no news.
            Fact::Refused { problem, .. } if !problem.code.is_refusal() => {}
            Fact::Refused { bearer, identity, resource, problem } => {
                let note = format!("{} gets no lease: {}", bearer.who(), problem.why);
                self.tell(&Place::of(bearer), &resource.name, *identity, EventReason::LeaseRefused, &note);
            }
            Fact::Polled { holder, policy, identity, reached, report } => {
                if self.polled(holder, policy, identity, *reached, report) {
                    self.learned.notify_one();
                }
            }
            Fact::NotGranted { policy, why } => {
                let (namespace, name) = (&policy.checked.namespace, &policy.checked.name);
                if let Some(known) = self.objects.policy(namespace, name) {
                    let note = format!("the roles of its sidecars lack what it allows: {why}");
                    self.events.tell(Told { regarding: reference(&known), reason: EventReason::NotGranted, note });
                }
            }
            Fact::Audited { event } => self.audited(event),
        }
    }

    /// Takes a report in; whether it says anything new.
    fn polled(
        &self,
        holder: &str,
        policy: &InForce<Policy>,
        identity: &InForce<Identity>,
        reached: bool,
        report: &Report,
    ) -> bool {
        let namespace = &policy.checked.namespace;
        let sidecar = (holder.to_owned(), policy.checked.name.clone());
        let (of_policy, of_identity) = (policy.checked.name.clone(), identity.checked.name.clone());
        let mut state = self.state();
        let seen = state.of_policies.entry((namespace.clone(), of_policy)).or_default();
        let policy = Seen::take(seen, sidecar.clone(), reached.then_some(policy.generation), report);
        // What binds is a policy's.
        let report = Report { unbound: None, ..report.clone() };
        let seen = state.of_identities.entry((namespace.clone(), of_identity)).or_default();
        let identity = Seen::take(seen, sidecar, reached.then_some(identity.generation), &report);
        policy || identity
    }

    fn audited(&self, event: &Value) {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let pod = event.pointer("/proven/pod").and_then(Value::as_str);
        let place = Place { namespace: text("/proven/namespace"), pod };
        let (policy, identity) = (text("/proven/policy"), text("/proven/identity"));
        if text("/event") == "session_start" {
            let key = (place.namespace.to_owned(), policy.to_owned());
            self.state().used.insert(key, (identity.to_owned(), Timestamp::now()));
        }
        if let Some((reason, note)) = of_audit(event) {
            self.tell(&place, policy, Some(identity), reason, &note);
        }
    }

    /// Tells it on the policy, on the identity, and on what owns the pod, if there is one.
    fn tell(&self, place: &Place<'_>, policy: &str, identity: Option<&str>, reason: EventReason, note: &str) {
        let Place { namespace, pod } = *place;
        let mut regarding = Vec::new();
        regarding.extend(self.objects.policy(namespace, policy).map(|known| reference(&known)));
        regarding
            .extend(identity.and_then(|name| self.objects.identity(namespace, name)).map(|known| reference(&known)));
        let pod = pod.and_then(|pod| self.objects.pod(namespace, pod));
        regarding.extend(pod.map(|pod| workload(&pod.outline(), namespace)));
        for regarding in regarding {
            self.events.tell(Told { regarding, reason, note: note.to_owned() });
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in a section of this lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what statuses should say, for as long as it is polled.
    pub async fn write(self: Arc<Self>, client: Client) {
        loop {
            _ = tokio::time::timeout(EVERY, self.learned.notified()).await;
            tokio::time::sleep(GATHER).await;
            let (policies, identities) = self.statuses();
            for (key, status) in policies {
                patch::<Policy>(&client, &key, &status).await;
            }
            for (key, status) in identities {
                patch::<Identity>(&client, &key, &status).await;
            }
        }
    }

    /// The statuses of policies and of identities that are not as they should be, with what to change.
    fn statuses(&self) -> (HashMap<Key, Fields>, HashMap<Key, Fields>) {
        let mut state = self.state();
        let State { used, of_policies, of_identities, .. } = &mut *state;
        for of_kind in [&mut *of_policies, &mut *of_identities] {
            for seen in of_kind.values_mut() {
                seen.retain(|_, seen| seen.at.elapsed() < GONE);
            }
            of_kind.retain(|_, seen| !seen.is_empty());
        }
        let all = self.objects.policies();
        let mut policies = self.reports(&all, of_policies);
        for policy in all {
            let key = (policy.namespace.clone(), policy.name.clone());
            if let Some((identity, at)) = used.get(&key)
                && is_news(&policy.status(), identity, *at)
            {
                let patch = policies.entry(key).or_default();
                patch.insert("lastUsedBy".into(), json!(identity));
                patch.insert("lastUsed".into(), json!(whole_second(*at)));
            }
        }
        (policies, self.reports(&self.objects.identities(), of_identities))
    }

    /// What of the reports of this replica's sidecars is not written yet.
    fn reports<K: Kind>(
        &self,
        all: &[Arc<Known<K>>],
        seen: &HashMap<Key, HashMap<Sidecar, Seen>>,
    ) -> HashMap<Key, Fields> {
        let patch = |known: &Arc<Known<K>>| {
            let key = (known.namespace.clone(), known.name.clone());
            let seen = seen.get(&key);
            if seen.is_none() && !known.replicas.contains(&self.replica) {
                return None;
            }
            let reports = json!({&self.replica: seen.map_or(Value::Null, summary)});
            let before = known.status();
            objects::changes(before.get("reports").unwrap_or(&Value::Null), &reports)
                .then(|| (key, Fields::from_iter([("reports".to_owned(), reports)])))
        };
        all.iter().filter_map(patch).collect()
    }
}

/// What sidecars report, as a status has it; with a null for what is not there.
fn summary(seen: &HashMap<Sidecar, Seen>) -> Value {
    let all = || seen.values();
    let unbound: BTreeSet<&Unbound> = all().filter_map(|seen| seen.unbound.as_ref()).flatten().collect();
    let tried = all().any(|seen| seen.unbound.is_some());
    json!({
        "generation": all().filter_map(|seen| seen.generation).min(),
        "oldestSidecar": all().filter_map(|seen| seen.version).min().map(|version| version.to_string()),
        "unusable": all().filter_map(|seen| seen.unusable.as_ref()).min(),
        "tooOld": all().any(Seen::is_too_old).then_some(true),
        "unbound": tried.then(|| unbound.into_iter().take(MAX_UNBOUND).collect::<Vec<_>>()),
    })
}

/// Whether a status says of the last use something else, or something old.
fn is_news(status: &Value, identity: &str, at: Timestamp) -> bool {
    let written = status.get("lastUsed").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok());
    let by = status.get("lastUsedBy").and_then(Value::as_str);
    written.is_none_or(|written| {
        let later = at.as_second().saturating_sub(written.as_second());
        later > STALE || (later > 0 && by != Some(identity))
    })
}

/// A time as statuses have it.
pub fn whole_second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

async fn patch<K: Kind>(client: &Client, (namespace, name): &Key, status: &Fields) {
    let api = objects::of_namespace::<K>(client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": status}));
    if let Err(error) = timely(api.patch_status(name, &PatchParams::default(), &patch)).await {
        tracing::debug!(%error, kind = K::KIND, namespace, name, "a status could not be written");
    }
}

/// What of an event of the audit people should see beside objects.
fn of_audit(event: &Value) -> Option<(EventReason, String)> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let by = |rule: Option<&str>| rule.map_or_else(String::new, |rule| format!(" (rule {rule})"));
    match text("event")? {
        "session_start" => Some((EventReason::SessionStarted, "a session began".to_owned())),
        "session_refused" => {
            let code =
                text("sqlstate").filter(|code| code.len() == 5 && code.chars().all(|it| it.is_ascii_alphanumeric()));
            Some((EventReason::SessionRefused, format!("a session was refused: {}", code.unwrap_or_default())))
        }
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

/// What people call the [`workload`] of a pod: `Deployment/app`.
pub fn workload_name(pod: &Value, namespace: &str) -> String {
    let ObjectReference { kind, name, .. } = workload(pod, namespace);
    [kind, name].map(Option::unwrap_or_default).join("/")
}

/// What owns a pod of this namespace; itself, if nothing does.
pub fn workload(pod: &Value, namespace: &str) -> ObjectReference {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    let namespace = Some(namespace.to_owned());
    let Some(owner) = pods::controller(pod) else {
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

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
                json!({"event": "session_refused", "sqlstate": "3D000", "error": "no database \"secret\""}),
                Some((EventReason::SessionRefused, "a session was refused: 3D000")),
            ),
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
    fn a_sidecar_serves_under_what_reached_it_unless_it_says_that_it_cant_use_it() {
        let mut seen = HashMap::new();
        let mut take = |pod: &str, reached, report: &Report| {
            let news = Seen::take(&mut seen, (pod.into(), "shop".into()), reached, report);
            (news, summary(&seen)["generation"].clone(), summary(&seen)["unusable"].clone())
        };
        let well = Report::default();
        let stuck = Report { unusable: Some("too new".into()), ..Report::default() };
        assert_eq!(take("a", None, &well), (true, Value::Null, Value::Null), "its first lease is on the way");
        assert_eq!(take("a", Some(1), &well), (true, json!(1), Value::Null));
        assert_eq!(take("a", Some(1), &well), (false, json!(1), Value::Null));
        assert_eq!(take("b", Some(2), &well), (true, json!(1), Value::Null), "the oldest counts");
        assert_eq!(take("a", None, &well), (false, json!(1), Value::Null));
        assert_eq!(take("a", Some(2), &stuck), (true, json!(1), json!("too new")));
        assert_eq!(take("a", Some(2), &well), (true, json!(2), Value::Null));
    }

    #[test]
    fn a_sidecar_that_cant_use_its_lease_is_too_old_only_if_it_is_older_than_the_operator() {
        let own = Version::own().to_string();
        let mut seen = HashMap::new();
        let mut said = |pod: &str, sidecar: &str, unusable: Option<&str>| {
            let report = Report { sidecar: sidecar.into(), unusable: unusable.map(str::to_owned), ..Report::default() };
            Seen::take(&mut seen, (pod.into(), "shop".into()), Some(1), &report);
            let summary = summary(&seen);
            (summary["oldestSidecar"].clone(), summary["tooOld"].clone())
        };
        assert_eq!(said("a", &own, Some("the Secret has no key")), (json!(own), Value::Null));
        assert_eq!(said("b", "0.0.9", None), (json!("0.0.9"), Value::Null), "it works");
        assert_eq!(said("b", "0.0.9", Some("it requires time-travel")), (json!("0.0.9"), json!(true)));
        assert_eq!(said("b", "whatever it says", None), (json!(own), Value::Null), "no text of its own is told");
    }

    #[test]
    fn what_a_sidecar_says_is_bounded() {
        let unbound = vec![Unbound { path: "p".repeat(5000), message: "m".repeat(5000) }; 500];
        let report = Report { unbound: Some(unbound), unusable: Some("u".repeat(5000)), ..Report::default() };
        let mut seen = HashMap::new();
        Seen::take(&mut seen, ("a".into(), "shop".into()), Some(1), &report);
        assert!(summary(&seen).to_string().len() < 5000);
        assert!(seen.values().all(|seen| seen.unbound.as_ref().unwrap().len() == MAX_UNBOUND));
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
