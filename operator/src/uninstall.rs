//! What has to happen before the operator is uninstalled: policies and identities stay in the cluster, and without the
//! operator nobody would take the finalizer from them, so that they could never be deleted.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::ResourceExt as _;
use kube::{Api, Client};
use serde_json::json;

use crate::objects::{self, FINALIZER, Identity, Kind, Policy};
use crate::timely::timely;

/// How long the replicas may take to end.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many objects are asked for at a time.
const PAGE: u32 = 500;
/// How often an object that somebody else changes meanwhile is tried.
const ATTEMPTS: u32 = 5;

/// Ends the operator's replicas, which would set the finalizers again, and takes these from all objects.
pub async fn uninstall(namespace: &str, name: &str) -> Result<()> {
    let client = Client::try_default().await.context("there is no cluster: set KUBECONFIG, or run in a pod")?;
    end_replicas(&client, namespace, name).await?;
    release::<Policy>(&client).await?;
    release::<Identity>(&client).await
}

async fn end_replicas(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let Some(deployment) = timely(deployments.get_opt(name)).await.context("the operator's Deployment")? else {
        return Ok(());
    };
    let labels = deployment.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
    let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let selector = ListParams::default().labels(&selector.join(","));
    match timely(deployments.delete(name, &DeleteParams::background())).await {
        Ok(_) => tracing::info!(deployment = name, "deleted"),
        Err(error) if error.code() == Some(404) => {}
        Err(error) => return Err(error).context("delete the operator's Deployment"),
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = timely(pods.list_metadata(&selector)).await.context("the operator's pods")?.items;
        if left.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            bail!("{} pods of the operator are still there after {} s", left.len(), PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Takes the finalizer from all objects of a kind.
async fn release<K: Kind>(client: &Client) -> Result<()> {
    let all = objects::all::<K>(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut released = 0;
    loop {
        let list = match timely(all.list_metadata(&page)).await {
            Ok(list) => list,
            // The definition is gone, and the objects with it.
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) => return Err(error).context(K::PLURAL),
        };
        for object in list.items.iter().filter(|object| object.finalizers().iter().any(|it| it == FINALIZER)) {
            let namespace = object.namespace().unwrap_or_default();
            let name = object.name_any();
            release_one::<K>(client, &namespace, &name).await.with_context(|| format!("{namespace}/{name}"))?;
            released += 1;
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    tracing::info!(kind = K::KIND, released, "the finalizer is taken from all objects");
    Ok(())
}

async fn release_one<K: Kind>(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api = objects::of_namespace::<K>(client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        let Some(object) = timely(api.get_opt(name)).await? else { return Ok(()) };
        let kept: Vec<&String> = object.finalizers().iter().filter(|it| *it != FINALIZER).collect();
        let version = object.resource_version();
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": kept}});
        match timely(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("it changes all the time")
}
