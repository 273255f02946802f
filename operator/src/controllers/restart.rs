//! Restarts of what has outdated sidecars, where policy and chart ask for it: pods are evicted, one of a workload at a
//! time, so that their controllers make new ones. The operator writes no workload for that, and a PodDisruptionBudget
//! is heeded.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::{ApiResource, EvictParams};
use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::Controllers;
use super::sidecars::{Revisions, is_live};
use crate::events::{EventReason, Told};
use crate::facts;
use crate::injection;
use crate::objects::{Objects, Pod};
use crate::pods;
use crate::timely::{ApiError, timely};

/// How often it is looked for one more pod of each workload.
const EVERY: Duration = Duration::from_secs(15);
/// How old a pod has to be. While the operator itself is replaced, its replicas may not agree about what is outdated.
const AGE: i64 = 60;
/// Controllers of pods that make new ones at once, and say how many are ready. A Job's pods are left alone: they end.
const OWNERS: [&str; 3] = ["ReplicaSet", "StatefulSet", "DaemonSet"];

/// A controller of pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Owner {
    namespace: String,
    kind: String,
    name: String,
}

impl Controllers {
    /// Evicts what is due, for as long as it is polled.
    pub(super) async fn restart(&self) {
        if !self.restarts {
            return std::future::pending().await;
        }
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            for (owner, pod) in due(&self.objects, &self.image, Timestamp::now()) {
                if let Err(error) = self.evict(&owner, &pod).await {
                    let (namespace, pod) = (&pod.namespace, &pod.name);
                    tracing::info!(namespace, pod, %error, "a pod with an outdated sidecar is not evicted yet");
                }
            }
        }
    }

    /// Evicts a pod, if all that its owner wants are ready.
    async fn evict(&self, owner: &Owner, pod: &Pod) -> Result<(), ApiError> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", &owner.kind));
        let owners: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &owner.namespace, &resource);
        let Some(object) = timely(owners.get_opt(&owner.name)).await? else { return Ok(()) };
        if !all_ready(&object.data) {
            return Ok(());
        }
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), &pod.namespace);
        timely(pods.evict(&pod.name, &EvictParams::default())).await?;
        tracing::info!(namespace = pod.namespace, pod = pod.name, "evicted, for its sidecar is outdated");
        self.events.tell(Told {
            regarding: facts::workload(&pod.outline(), &pod.namespace),
            reason: EventReason::Restarted,
            note: format!("pod {} is evicted, for its sidecar is outdated", pod.name),
        });
        Ok(())
    }
}

/// The pod of each controller that is to be evicted next.
fn due(objects: &Objects, image: &str, now: Timestamp) -> BTreeMap<Owner, Arc<Pod>> {
    let mut revisions = Revisions::new(objects, image);
    let mut due = BTreeMap::new();
    let mut busy = HashSet::new();
    for pod in objects.pods() {
        let outline = pod.outline();
        let Some(owner) = owner(&pod.namespace, &outline) else { continue };
        if !is_live(&outline) {
            // It has just been evicted, or is replaced by somebody else.
            busy.insert(owner);
        } else if asks_for_restarts(objects, &pod.namespace, &outline)
            && is_old(&outline, now)
            && revisions.is_outdated(&pod.namespace, &outline) == Some(true)
        {
            due.entry(owner).or_insert(pod);
        }
    }
    due.retain(|owner, _| !busy.contains(owner));
    due
}

fn owner(namespace: &str, pod: &Value) -> Option<Owner> {
    let owner = pods::controller(pod)?;
    let text = |key: &str| owner.get(key).and_then(Value::as_str).map(str::to_owned);
    let kind = text("kind").filter(|kind| OWNERS.contains(&kind.as_str()))?;
    text("apiVersion").filter(|version| version == "apps/v1")?;
    Some(Owner { namespace: namespace.to_owned(), kind, name: text("name")? })
}

/// Whether a policy that the pod asks for wants it to be replaced when its sidecar is outdated.
pub(crate) fn asks_for_restarts(objects: &Objects, namespace: &str, pod: &Value) -> bool {
    injection::asked_of(pod).into_iter().any(|policy| {
        let policy = objects.policy(namespace, policy).and_then(|known| known.in_force.clone());
        policy.is_some_and(|policy| policy.spec.sidecar.as_ref().is_some_and(|sidecar| sidecar.restart_on_change))
    })
}

fn is_old(pod: &Value, now: Timestamp) -> bool {
    let created = pod.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let created = created.and_then(|created| created.parse::<Timestamp>().ok());
    created.is_some_and(|created| now.as_second().saturating_sub(created.as_second()) >= AGE)
}

/// Whether all pods that a controller wants are ready, and it wants any.
fn all_ready(owner: &Value) -> bool {
    let number = |path: &str| owner.pointer(path).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").or_else(|| number("/status/desiredNumberScheduled")).unwrap_or_default();
    let ready = number("/status/readyReplicas").or_else(|| number("/status/numberReady")).unwrap_or_default();
    wanted > 0 && ready >= wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_controller_loses_no_pod_while_one_is_not_ready() {
        for (owner, expected) in [
            (json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}), true),
            (json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}), false),
            (json!({"spec": {"replicas": 2}, "status": {}}), false),
            (json!({"spec": {"replicas": 0}, "status": {}}), false),
            (json!({"status": {"desiredNumberScheduled": 3, "numberReady": 3}}), true),
            (json!({"status": {"desiredNumberScheduled": 3, "numberReady": 2}}), false),
            (json!({}), false),
        ] {
            assert_eq!(all_ready(&owner), expected, "{owner}");
        }
    }
}
