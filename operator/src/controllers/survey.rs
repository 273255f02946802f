//! What no watch shows: pods and workloads that ask for a sidecar and have none, for they were there before the webhooks
//! or passed them by; and replicas of the operator that are gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, ListParams, PartialObjectMeta};
use kube::core::{DynamicObject, GroupVersionKind, Resource};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Controllers;
use crate::facts;
use crate::injection::{self, INJECT, INJECTED, TEMPLATES};
use crate::objects::{Key, Kind, Known};
use crate::timely::{ApiError, timely};

/// How often it is looked whether replicas are gone.
const REPLICAS: Duration = Duration::from_secs(15);
/// How often everything is looked through, at most; and for how many times as long as that takes it rests in between.
const EVERYTHING: (Duration, u32) = (Duration::from_secs(15), 20);
/// Objects that are asked for at a time.
const PAGE: u32 = 500;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    /// Replicas that reported something, and are gone.
    pub(super) gone: HashSet<String>,
    /// What asks for a policy and has no sidecar, as `kind/name`; None until everything was looked through once.
    pub(super) missing: Option<HashMap<Key, BTreeSet<String>>>,
}

impl Controllers {
    /// Looks, again and again, for as long as it is polled.
    pub(super) async fn survey(&self, found: &watch::Sender<Arc<Survey>>) {
        let mut everything = Instant::now();
        let mut survey = Survey::default();
        loop {
            if Instant::now() >= everything {
                let start = Instant::now();
                match self.missing().await {
                    Ok(missing) => {
                        self.metrics.count_missing(missing.values().map(BTreeSet::len).sum());
                        survey.missing = Some(missing);
                    }
                    Err(error) => tracing::warn!(%error, "pods without sidecars can't be looked for"),
                }
                let (at_least, times) = EVERYTHING;
                everything = Instant::now() + at_least.max(start.elapsed().saturating_mul(times));
            }
            survey.gone = self.gone_replicas().await;
            found.send_replace(Arc::new(survey.clone()));
            tokio::time::sleep(REPLICAS).await;
        }
    }

    /// Replicas whose reports stand in a status, but whose pods are gone.
    async fn gone_replicas(&self) -> HashSet<String> {
        let (policies, identities) = (self.objects.policies(), self.objects.identities());
        let named = policies.iter().flat_map(|it| replicas(it)).chain(identities.iter().flat_map(|it| replicas(it)));
        let named: HashSet<String> = named.map(str::to_owned).collect();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.account.0);
        let mut gone = HashSet::new();
        for replica in named {
            // Who can't be asked about is taken to be there.
            if let Ok(None) = timely(pods.get_metadata_opt(&replica)).await {
                gone.insert(replica);
            }
        }
        gone
    }

    /// What asks for a policy and has no sidecar.
    async fn missing(&self) -> Result<HashMap<Key, BTreeSet<String>>, ApiError> {
        let mut missing: HashMap<Key, BTreeSet<String>> = HashMap::new();
        let mut add = |namespace: &str, policies: &[&str], what: &str| {
            for policy in policies {
                missing.entry((namespace.to_owned(), (*policy).to_owned())).or_default().insert(what.to_owned());
            }
        };
        let without = ListParams::default()
            .labels(&format!("!{INJECTED}"))
            .fields("status.phase!=Succeeded,status.phase!=Failed")
            .limit(PAGE);
        for pod in annotated::<Pod>(&Api::all(self.client.clone()), without).await? {
            let namespace = pod.namespace().unwrap_or_default();
            let raw = serde_json::to_value(&pod).unwrap_or_default();
            let workload = facts::workload_name(&raw, &namespace);
            add(&namespace, &injection::asked_of(&raw), &workload);
        }
        let pods = self.objects.pods();
        let gated: HashSet<(&str, String)> = pods
            .iter()
            .map(|pod| (pod.namespace.as_str(), facts::workload_name(&pod.outline(), &pod.namespace)))
            .collect();
        for (kind, template) in TEMPLATES {
            let group = if kind.ends_with("Job") { "batch" } else { "apps" };
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
            let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            for workload in annotated(&all, ListParams::default().limit(PAGE)).await? {
                let (namespace, name) = (workload.namespace().unwrap_or_default(), workload.name_any());
                let what = format!("{kind}/{name}");
                // One that has gated pods has the annotation in its template; the others are looked at whole.
                if gated.contains(&(namespace.as_str(), what.clone())) {
                    continue;
                }
                let of_namespace: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &resource);
                let whole = timely(of_namespace.get_opt(&name)).await?;
                let Some(raw) = whole.and_then(|whole| serde_json::to_value(whole).ok()) else { continue };
                let of_template = template.iter().try_fold(&raw, |value, key| value.get(*key));
                let asked = injection::asked_of(&raw);
                if asked != of_template.map(injection::asked_of).unwrap_or_default() {
                    add(&namespace, &asked, &what);
                }
            }
        }
        Ok(missing)
    }
}

/// All objects that ask for a sidecar, by their metadata alone.
async fn annotated<K>(api: &Api<K>, mut parameters: ListParams) -> Result<Vec<PartialObjectMeta<K>>, ApiError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    loop {
        let page = timely(api.list_metadata(&parameters)).await?;
        found.extend(page.items.into_iter().filter(|object| object.annotations().contains_key(INJECT)));
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => parameters = parameters.continue_token(&more),
            None => return Ok(found),
        }
    }
}

/// The replicas whose reports stand in a status.
pub(super) fn replicas<K: Kind>(known: &Known<K>) -> impl Iterator<Item = &str> {
    known.replicas.iter().map(String::as_str)
}
