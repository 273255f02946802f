//! What has to be written, from what is known: pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use postern_crds::api::{Condition, ConditionStatus, SidecarReports};
use postern_crds::lease::Unbound;
use serde_json::{Value, json};

use super::Reason;
use super::sidecars::Drift;
use crate::facts::whole_second;
use crate::injection::INJECT;
use crate::objects::{Compact, FINALIZER, Kind, Known, changes};

/// How many good specs are kept.
const KEPT: usize = 2;
/// How long an object that is deleted waits for its leases: sidecars ask at least this often, and are refused then.
const LEASES_END: Duration = Duration::from_secs(10);
/// Longest message of a condition that is of any use.
const MAX_MESSAGE: usize = 4096;

/// What was looked at beside the object.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// Sidecars that are ready.
    pub(super) sidecars: u32,
    /// Where they are not what they would be now; None while that is not known, and for kinds that nobody asks for.
    pub(super) drift: Option<Drift>,
    /// Whether Secrets can be read; None where none are named.
    pub(super) readable: Option<Readable>,
    /// Replicas of the operator that are gone: their reports are not heeded, and taken out.
    pub(super) gone: HashSet<String>,
}

/// Whether the Secrets that a policy names can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// All of them.
    Yes,
    /// Not all, and why.
    No(String),
    /// No policy is in force that would name any.
    Unknown,
}

/// What has to be written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The finalizers that it should have, if others than it has.
    pub(super) finalizers: Option<Vec<String>>,
    /// The spec is good, and not kept yet.
    pub(super) keep: bool,
    /// Generations that are kept and needed no more.
    pub(super) drop: Vec<i64>,
    /// The status, if it is another one than it has.
    pub(super) status: Option<Value>,
    /// When to go on with what has to wait.
    pub(super) wait: Option<Duration>,
}

pub(super) fn plan<K: Kind>(
    known: &Known<K>,
    kept: &BTreeMap<i64, Compact>,
    observed: &Observed,
    now: Timestamp,
) -> Plan {
    let finalizers = known.finalizers.clone();
    let has_ours = finalizers.iter().any(|it| it == FINALIZER);
    if let Some(deleted) = known.deleted {
        let since = Duration::try_from(now.duration_since(deleted)).unwrap_or_default();
        let left = LEASES_END.saturating_sub(since);
        return match (has_ours, left.is_zero()) {
            (false, _) => Plan::default(),
            (true, false) => Plan { wait: Some(left), ..Plan::default() },
            (true, true) => {
                let others = finalizers.into_iter().filter(|it| it != FINALIZER).collect();
                Plan { finalizers: Some(others), ..Plan::default() }
            }
        };
    }
    let spec = known.spec.as_ref();
    let newest = kept.last_key_value().map(|(_, spec)| spec);
    let keep = known.mistakes.is_none() && spec.is_some() && newest != spec;
    let left = KEPT.saturating_sub(usize::from(keep));
    let drop = kept.keys().rev().skip(left).copied().collect();
    let before = known.status();
    let status = status(known, &before, observed, now);
    Plan {
        finalizers: (!has_ours).then(|| finalizers.into_iter().chain([FINALIZER.to_owned()]).collect()),
        keep,
        drop,
        status: changes(&before, &status).then_some(status),
        wait: None,
    }
}

fn status<K: Kind>(known: &Known<K>, written: &Value, observed: &Observed, now: Timestamp) -> Value {
    let before: Vec<Condition> = written
        .get("conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    let reports: BTreeMap<String, SidecarReports> =
        written.get("reports").and_then(|reports| serde_json::from_value(reports.clone()).ok()).unwrap_or_default();
    let (gone, reports): (BTreeMap<_, _>, BTreeMap<_, _>) =
        reports.into_iter().partition(|(replica, _)| observed.gone.contains(replica));
    let condition = |type_: &str, holds: ConditionStatus, reason: Reason, message: &str| {
        let since = before.iter().find(|it| it.type_ == type_ && it.status == holds);
        let since = since.map_or_else(|| whole_second(now), |it| it.last_transition_time.clone());
        Condition {
            type_: type_.to_owned(),
            status: holds,
            observed_generation: Some(known.generation),
            last_transition_time: since,
            reason: reason.as_str().to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
        }
    };
    let in_force = known.in_force.as_ref().map(|in_force| in_force.generation);
    let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
    let unreadable = match &observed.readable {
        Some(Readable::No(why)) => Some(why.as_str()),
        _ => None,
    };
    let mut conditions = Vec::new();
    conditions.push(match (&known.mistakes, in_force, unreadable) {
        (Some(mistakes), Some(generation), _) => {
            let message = format!("generation {generation} stays in force: {mistakes}");
            condition("Ready", no, Reason::LastGoodInForce, &message)
        }
        (Some(mistakes), None, _) => condition("Ready", no, Reason::Invalid, mistakes),
        (None, _, Some(why)) => condition("Ready", no, Reason::CredentialsUnreadable, why),
        (None, _, None) => condition("Ready", yes, Reason::InForce, "is in force as it is written"),
    });
    let unusable = reports.values().find_map(|report| report.unusable.as_deref());
    let too_old = reports.values().any(|report| report.too_old == Some(true));
    let oldest = reports.values().filter_map(|report| report.generation).min();
    conditions.push(match oldest.filter(|oldest| unusable.is_none() && Some(*oldest) < in_force) {
        Some(oldest) => {
            let message = format!("sidecars still serve under generation {oldest}");
            condition("Reconciling", yes, Reason::SidecarsBehind, &message)
        }
        None => condition("Reconciling", no, Reason::Settled, ""),
    });
    conditions.push(match (&known.mistakes, unusable) {
        (Some(mistakes), _) => condition("Stalled", yes, Reason::Invalid, mistakes),
        (None, Some(why)) => {
            let message = format!("sidecars can't use the newest lease, and keep the one before until it ends: {why}");
            let reason = if too_old { Reason::SidecarTooOld } else { Reason::LeaseUnusable };
            condition("Stalled", yes, reason, &message)
        }
        (None, None) => condition("Stalled", no, Reason::Settled, ""),
    });
    match &observed.readable {
        Some(Readable::Yes) => {
            conditions.push(condition("CredentialsReadable", yes, Reason::CredentialsRead, "all Secrets can be read"));
        }
        Some(Readable::No(why)) => {
            conditions.push(condition("CredentialsReadable", no, Reason::CredentialsUnreadable, why));
        }
        Some(Readable::Unknown) => {
            let message = "no policy is in force that would name a Secret";
            conditions.push(condition("CredentialsReadable", ConditionStatus::Unknown, Reason::NotKnown, message));
        }
        None => {}
    }
    // What is not known now is left as it was.
    let as_before = |type_: &str| before.iter().find(|it| it.type_ == type_).cloned();
    let tried: Vec<&Vec<Unbound>> = reports.values().filter_map(|report| report.unbound.as_ref()).collect();
    let unbound: BTreeSet<&Unbound> = tried.iter().copied().flatten().collect();
    conditions.extend(match (tried.is_empty(), unbound.is_empty()) {
        (true, _) => as_before("Bound"),
        (false, true) => Some(condition("Bound", yes, Reason::Bound, "all of it binds to the database")),
        (false, false) => {
            let all: Vec<String> = unbound.iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
            let message = format!("closed, for it does not bind to the database: {}", all.join("; "));
            Some(condition("Bound", no, Reason::NotBound, &message))
        }
    });
    conditions.extend(match &observed.drift {
        Some(drift) => {
            let (reason, message) = drifted(drift, &known.namespace, &known.name);
            let holds = if reason == Reason::SidecarsCurrent { yes } else { no };
            Some(condition("SidecarsCurrent", holds, reason, &message))
        }
        None => as_before("SidecarsCurrent"),
    });
    let gone: serde_json::Map<String, Value> = gone.into_keys().map(|replica| (replica, Value::Null)).collect();
    json!({
        "reports": gone,
        "observedGeneration": known.generation,
        "generationInForce": in_force,
        "sidecars": observed.sidecars,
        "conditions": conditions,
    })
}

/// What `kubectl rollout restart` takes.
const RESTARTED: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// What to say of pods that are not what they would be now.
fn drifted(drift: &Drift, namespace: &str, policy: &str) -> (Reason, String) {
    let Drift { outdated, missing } = drift;
    if let Some(first) = missing.first() {
        let all: Vec<&str> = missing.iter().map(String::as_str).collect();
        let annotate = format!("kubectl annotate --overwrite {first} -n {namespace} {INJECT}={policy}");
        let remedy = match first.split_once('/') {
            Some((kind, _)) if RESTARTED.contains(&kind) => {
                format!("`{annotate} && kubectl rollout restart {first} -n {namespace}`")
            }
            Some(("CronJob", _)) => format!("`{annotate}`"),
            _ => format!("`kubectl get {first} -n {namespace} -o yaml | kubectl replace --force -f -`"),
        };
        let message = format!(
            "without a sidecar, though they ask for this policy: {}; they were made before Postern was there, or past \
             it, which {remedy} mends",
            all.join(", ")
        );
        return (Reason::SidecarsMissing, message);
    }
    if outdated.is_empty() {
        return (Reason::SidecarsCurrent, "every pod has the sidecar that it would get now".to_owned());
    }
    let all: Vec<String> = outdated.iter().map(|(workload, pods)| format!("{workload} ({pods})")).collect();
    let is_restarted = |it: &&String| it.split_once('/').is_some_and(|(kind, _)| RESTARTED.contains(&kind));
    let remedy = match outdated.keys().find(is_restarted) {
        Some(workload) => format!("`kubectl rollout restart {workload} -n {namespace}` gives them a new one"),
        None => "pods that are made anew get a new one".to_owned(),
    };
    let message = format!("pods have another sidecar than they would get now: {}; {remedy}", all.join(", "));
    (Reason::SidecarsOutdated, message)
}

/// What would give the operator's account the right to read these Secrets.
pub(super) fn rights(namespace: &str, policy: &str, secrets: &[String], account: &(String, String)) -> String {
    let names: Vec<String> = secrets.iter().map(|name| format!("--resource-name={name}")).collect();
    let (of, account) = account;
    format!(
        "the operator may not read {}: run `kubectl create role postern-{policy} -n {namespace} --verb=get,watch \
         --resource=secrets {}` and `kubectl create rolebinding postern-{policy} -n {namespace} \
         --role=postern-{policy} --serviceaccount={of}:{account}`",
        secrets.join(" and "),
        names.join(" ")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use kube::core::DynamicObject;

    use super::*;
    use crate::objects::Identity;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn good(role: &str) -> Value {
        json!({"postgresRole": role})
    }

    fn object(generation: i64, spec: &Value, metadata: Value, status: Value) -> DynamicObject {
        let mut object = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "NonHumanIdentity",
            "metadata": {"namespace": "shop", "name": "report", "uid": "u", "generation": generation},
            "spec": spec,
            "status": status,
        });
        let all = object["metadata"].as_object_mut().unwrap();
        all.extend(metadata.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn planned(object: DynamicObject, kept: &BTreeMap<i64, Value>, second: i64) -> Plan {
        let kept = &kept.iter().map(|(generation, spec)| (*generation, Compact::from(spec))).collect();
        let observed = Observed { sidecars: 2, drift: None, readable: None, gone: HashSet::from(["dead".into()]) };
        plan(&Known::<Identity>::new(object, Some(kept)), kept, &observed, at(second))
    }

    #[test]
    fn a_new_object_gets_its_finalizer_and_status_and_its_spec_is_kept() {
        let plan =
            planned(object(1, &good("role"), json!({"finalizers": ["other"]}), Value::Null), &BTreeMap::new(), 0);
        assert_eq!(plan.finalizers.unwrap(), ["other", FINALIZER]);
        assert!(plan.keep && plan.drop.is_empty());
        let status = plan.status.unwrap();
        assert_eq!((&status["observedGeneration"], &status["generationInForce"]), (&json!(1), &json!(1)));
        assert_eq!(status["sidecars"], 2);
        let ready = &status["conditions"][0];
        assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("True")));
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let kept = BTreeMap::from([(1, good("role"))]);
        let ours = json!({"finalizers": [FINALIZER]});
        let first = planned(object(1, &good("role"), ours.clone(), Value::Null), &kept, 0);
        let again = planned(object(1, &good("role"), ours, first.status.unwrap()), &kept, 3600);
        assert_eq!(again, Plan::default());
    }

    #[test]
    fn a_spec_with_mistakes_is_stalled_and_says_which_generation_stays_in_force() {
        let kept = BTreeMap::from([(1, good("role"))]);
        let wrong = json!({"postgresRole": "role", "powers": "all"});
        let plan = planned(object(2, &wrong, json!({"finalizers": [FINALIZER]}), Value::Null), &kept, 0);
        assert!(!plan.keep);
        let status = plan.status.unwrap();
        let conditions = status["conditions"].as_array().unwrap();
        let of = |type_: &str| conditions.iter().find(|it| it["type"] == type_).unwrap();
        assert_eq!(of("Ready")["reason"], "LastGoodInForce");
        assert!(of("Ready")["message"].as_str().unwrap().starts_with("generation 1 stays in force: "));
        assert_eq!((&of("Stalled")["status"], &of("Stalled")["reason"]), (&json!("True"), &json!("Invalid")));
        assert!(of("Stalled")["message"].as_str().unwrap().contains("powers"));
        assert_eq!(status["generationInForce"], 1);
    }

    #[test]
    fn the_two_newest_good_specs_are_kept() {
        let kept = BTreeMap::from([(1, good("a")), (2, good("b")), (3, good("c"))]);
        let plan = planned(object(4, &good("d"), json!({}), Value::Null), &kept, 0);
        assert!(plan.keep);
        assert_eq!(plan.drop, [2, 1]);
        let plan = planned(object(4, &good("c"), json!({}), Value::Null), &kept, 0);
        assert!(!plan.keep, "a generation with the same spec is not kept twice");
        assert_eq!(plan.drop, [1]);
    }

    #[test]
    fn a_deleted_object_waits_for_its_leases_and_then_goes() {
        let deleted = json!({"finalizers": [FINALIZER, "other"], "deletionTimestamp": at(0).to_string()});
        let kept = BTreeMap::new();
        let plan = planned(object(1, &good("role"), deleted.clone(), Value::Null), &kept, 4);
        assert_eq!((plan.finalizers, plan.wait), (None, Some(Duration::from_secs(6))));
        let plan = planned(object(1, &good("role"), deleted, Value::Null), &kept, 10);
        assert_eq!((plan.finalizers.unwrap(), plan.status), (vec!["other".to_owned()], None));
    }

    /// The conditions of an object in generation 2 whose status has these reports.
    fn conditions(reports: &Value) -> BTreeMap<String, (String, String)> {
        let kept = BTreeMap::from([(2, good("role"))]);
        let status = json!({"reports": reports});
        let status = planned(object(2, &good("role"), json!({}), status), &kept, 0).status.unwrap();
        let all = status["conditions"].as_array().unwrap().iter();
        let text = |condition: &Value, key: &str| condition[key].as_str().unwrap().to_owned();
        all.map(|it| (text(it, "type"), (text(it, "status"), text(it, "reason")))).collect()
    }

    #[test]
    fn it_is_reconciling_while_a_sidecar_of_a_replica_that_is_there_serves_under_an_older_generation() {
        let of = |reports| conditions(&reports)["Reconciling"].0.clone();
        assert_eq!(of(json!({})), "False");
        assert_eq!(of(json!({"a": {"generation": 2}, "b": {"generation": 1}})), "True");
        assert_eq!(of(json!({"a": {"generation": 2}, "b": {}})), "False");
        assert_eq!(of(json!({"a": {"generation": 2}, "dead": {"generation": 1}})), "False");
    }

    #[test]
    fn it_is_stalled_while_a_sidecar_cant_use_its_lease() {
        let found = conditions(&json!({"a": {"generation": 1, "unusable": "it requires time-travel"}}));
        assert_eq!(found["Stalled"], ("True".into(), "LeaseUnusable".into()));
        assert_eq!(found["Reconciling"].0, "False", "by itself nothing will change");
        let found = conditions(&json!({"a": {"unusable": "it requires time-travel", "tooOld": true}}));
        assert_eq!(found["Stalled"], ("True".into(), "SidecarTooOld".into()));
    }

    #[test]
    fn it_is_bound_if_all_sidecars_say_so() {
        let unbound = json!([{"path": "spec.masks[0].columns[0]", "message": "no such column"}]);
        assert!(!conditions(&json!({"a": {"generation": 2}})).contains_key("Bound"));
        assert_eq!(conditions(&json!({"a": {"unbound": []}}))["Bound"].1, "Bound");
        assert_eq!(conditions(&json!({"a": {"unbound": []}, "b": {"unbound": unbound}}))["Bound"].1, "NotBound");
        assert_eq!(conditions(&json!({"a": {"unbound": []}, "dead": {"unbound": unbound}}))["Bound"].1, "Bound");
    }

    #[test]
    fn the_reports_of_replicas_that_are_gone_are_taken_out() {
        let kept = BTreeMap::from([(1, good("role"))]);
        let status = json!({"reports": {"a": {"generation": 1}, "dead": {"generation": 1}}});
        let plan = planned(object(1, &good("role"), json!({}), status), &kept, 0);
        assert_eq!(plan.status.unwrap()["reports"], json!({"dead": null}));
    }

    #[test]
    fn outdated_and_missing_sidecars_are_told_with_what_to_do() {
        let mut drift = Drift::default();
        assert_eq!(drifted(&drift, "shop", "orders").0, Reason::SidecarsCurrent);
        drift.outdated.insert("Job/night".into(), 1);
        assert!(drifted(&drift, "shop", "orders").1.contains("made anew"));
        drift.outdated.insert("Deployment/app".into(), 2);
        let (reason, message) = drifted(&drift, "shop", "orders");
        assert_eq!(reason, Reason::SidecarsOutdated);
        assert!(
            message.contains("Deployment/app (2), Job/night (1); `kubectl rollout restart Deployment/app -n shop`"),
            "{message}"
        );
        drift.missing.insert("Pod/by-hand".into());
        let (reason, message) = drifted(&drift, "shop", "orders");
        assert_eq!(reason, Reason::SidecarsMissing);
        assert!(
            message.contains("`kubectl get Pod/by-hand -n shop -o yaml | kubectl replace --force -f -`"),
            "{message}"
        );
        drift.missing.insert("CronJob/night".into());
        let (_, message) = drifted(&drift, "shop", "orders");
        assert!(message.contains("`kubectl annotate --overwrite CronJob/night -n shop postern.dev/inject=orders`"));
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let kept = BTreeMap::from([(1, good("role"))]);
        let first = planned(object(1, &good("role"), json!({}), Value::Null), &kept, 0).status.unwrap();
        let second = planned(object(2, &good("other"), json!({}), first.clone()), &kept, 60).status.unwrap();
        assert_eq!(second["conditions"][0]["lastTransitionTime"], first["conditions"][0]["lastTransitionTime"]);
        assert_eq!(second["conditions"][0]["observedGeneration"], 2);
    }

    #[test]
    fn the_rights_that_would_help_are_commands_to_copy() {
        let said = rights("shop", "orders", &["db".into(), "ca".into()], &("postern-system".into(), "postern".into()));
        assert!(said.contains("kubectl create role postern-orders -n shop --verb=get,watch --resource=secrets --resource-name=db --resource-name=ca"));
        assert!(said.contains("kubectl create rolebinding postern-orders -n shop --role=postern-orders --serviceaccount=postern-system:postern"));
    }
}
