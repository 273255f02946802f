//! The sidecars that there are, as pods show them: how many are ready, and which are not what they would be now.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::Item;
use super::survey::Survey;
use crate::facts;
use crate::injection;
use crate::objects::{InForce, Key, Objects, Policy};
use crate::pods;

/// What pods show of sidecars.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    policies: HashMap<Key, OfPolicy>,
    identities: HashMap<Key, u32>,
    /// Whether everything was looked at, also what no watch shows.
    pub(super) surveyed: bool,
    /// Pods whose sidecars are what they would be now.
    pub(super) current: usize,
    /// Pods whose sidecars are not.
    pub(super) outdated: usize,
}

/// What pods show of a policy's sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfPolicy {
    ready: u32,
    drift: Drift,
}

/// Where pods are not what they would be now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    /// Workloads, as `kind/name`, and how many of their pods have another sidecar than they would get now.
    pub(super) outdated: BTreeMap<String, u32>,
    /// Workloads or pods that ask for a sidecar and have none.
    pub(super) missing: BTreeSet<String>,
}

impl Sidecars {
    /// Counts them; `image` is what sidecars are made of now.
    pub(super) fn counted(objects: &Objects, image: &str, survey: &Survey) -> Self {
        let mut counted = Self { surveyed: survey.missing.is_some(), ..Self::default() };
        let mut revisions = Revisions::new(objects, image);
        for pod in objects.pods() {
            let outline = pod.outline();
            if !is_live(&outline) {
                continue;
            }
            let of_policy = |policy: &str| (pod.namespace.clone(), policy.to_owned());
            let ready = injection::ready_policies(&outline);
            for policy in &ready {
                counted.policies.entry(of_policy(policy)).or_default().ready += 1;
            }
            if !ready.is_empty() {
                for identity in objects.identities_of(&pod.namespace, pods::service_account(&outline)) {
                    let key = (pod.namespace.clone(), identity.checked.name.clone());
                    *counted.identities.entry(key).or_default() += 1;
                }
            }
            match revisions.is_outdated(&pod.namespace, &outline) {
                Some(true) => {
                    counted.outdated += 1;
                    let workload = facts::workload_name(&outline, &pod.namespace);
                    for policy in injection::asked_of(&outline) {
                        let drift = &mut counted.policies.entry(of_policy(policy)).or_default().drift;
                        *drift.outdated.entry(workload.clone()).or_default() += 1;
                    }
                }
                Some(false) => counted.current += 1,
                None => {}
            }
        }
        for (policy, missing) in survey.missing.iter().flatten() {
            counted.policies.entry(policy.clone()).or_default().drift.missing.clone_from(missing);
        }
        counted
    }

    /// How many of a policy's are ready.
    pub(super) fn of_policy(&self, key: &Key) -> u32 {
        self.policies.get(key).map_or(0, |of_policy| of_policy.ready)
    }

    /// Where a policy's are not what they would be now; None until everything was looked at.
    pub(super) fn drift(&self, key: &Key) -> Option<Drift> {
        self.surveyed.then(|| self.policies.get(key).map(|it| it.drift.clone()).unwrap_or_default())
    }

    /// How many of an identity's are ready.
    pub(super) fn of_identity(&self, key: &Key) -> u32 {
        self.identities.get(key).copied().unwrap_or_default()
    }

    /// Whose are others than before.
    pub(super) fn differing(&self, before: &Self) -> Vec<Item> {
        fn keys<T: PartialEq>(now: &HashMap<Key, T>, before: &HashMap<Key, T>) -> HashSet<Key> {
            let keys = now.keys().chain(before.keys());
            keys.filter(|key| now.get(*key) != before.get(*key)).cloned().collect()
        }
        let policies = keys(&self.policies, &before.policies).into_iter().map(Item::Policy);
        policies.chain(keys(&self.identities, &before.identities).into_iter().map(Item::Identity)).collect()
    }
}

/// What the sidecars of pods would be made by now, each worked out once.
pub(crate) struct Revisions<'a> {
    objects: &'a Objects,
    image: &'a str,
    known: HashMap<(Key, String), Option<String>>,
}

impl<'a> Revisions<'a> {
    pub(crate) fn new(objects: &'a Objects, image: &'a str) -> Self {
        Self { objects, image, known: HashMap::new() }
    }

    /// Whether a pod's sidecars are others than they would be now; None where it could not be made now.
    pub(crate) fn is_outdated(&mut self, namespace: &str, pod: &Value) -> Option<bool> {
        let asked = injection::asked_of(pod);
        let account = pods::service_account(pod);
        let key = ((namespace.to_owned(), account.to_owned()), asked.join(","));
        let objects = self.objects;
        let revision = self.known.entry(key).or_insert_with(|| {
            let identities = objects.identities_of(namespace, account);
            let [identity] = identities.as_slice() else { return None };
            let policies: Option<Vec<Arc<InForce<Policy>>>> =
                asked.iter().map(|policy| objects.policy(namespace, policy)?.in_force.clone()).collect();
            let policies = policies.filter(|policies| !policies.is_empty())?;
            let asked: Vec<_> = policies.iter().map(|policy| policy.asked_by(identity)).collect();
            Some(injection::revision(&asked))
        });
        let revision = revision.as_deref()?;
        Some(injection::of_pod(pod) != Some(revision) || !injection::has_image(pod, self.image))
    }
}

/// Whether a pod's containers run, or will: it has not ended, and is not about to.
pub(crate) fn is_live(pod: &Value) -> bool {
    !pods::has_ended(pod) && pod.pointer("/metadata/deletionTimestamp").is_none_or(Value::is_null)
}
