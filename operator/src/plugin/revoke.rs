//! `revoke`: ends what an identity or a pod may do.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::{DynamicObject, ResourceExt as _};
use postern_crds::api::API_VERSION;
use serde_json::{Value, json};

use super::{Place, Revoke};
use crate::injection::INJECTED;
use crate::objects::{self, Identity, Kind, Known};
use crate::pods;
use crate::timely::timely;

/// How long the containers of a pod may take to end: its lease holds as long.
const GRACE: u32 = 1;

pub(super) async fn revoke(place: &Place, asked: &Revoke) -> Result<ExitCode> {
    match (&asked.identity, &asked.pod) {
        (Some(identity), _) => of_identity(place, identity, asked.dry_run).await?,
        (None, Some(pod)) => of_pod(place, pod, asked.dry_run).await?,
        (None, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn of_identity(place: &Place, name: &str, dry_run: bool) -> Result<()> {
    let api = objects::of_namespace::<Identity>(place.client.clone(), &place.namespace);
    let object = timely(api.get(name)).await.with_context(|| format!("identity {name}"))?;
    let (manifest, uid) = (manifest(&object), object.metadata.uid.clone());
    let known = Known::<Identity>::new(object, None);
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let pods = timely(pods.list(&ListParams::default().labels(INJECTED))).await.context("pods")?;
    for pod in pods {
        let raw = serde_json::to_value(&pod)?;
        let has_it = known.in_force.as_ref().is_some_and(|identity| identity.is_of(pods::service_account(&raw)));
        if has_it && !pods::has_ended(&raw) {
            eprintln!("pod {} loses its lease", pod.name_any());
        }
    }
    if dry_run {
        return Ok(());
    }
    // Before it is gone: it may be wanted back.
    print!("{}", serde_yaml::to_string(&manifest)?);
    let this_one = Preconditions { uid, ..Preconditions::default() };
    let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
    timely(api.delete(name, &parameters)).await.with_context(|| format!("delete identity {name}"))?;
    eprintln!("identity {name} is deleted: sessions end within seconds, and nobody gets a lease by it");
    Ok(())
}

/// An object as one would write it to make it.
fn manifest(object: &DynamicObject) -> Value {
    let metadata = &object.metadata;
    let mut written = json!({"namespace": metadata.namespace, "name": metadata.name});
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let labels = metadata.labels.clone().unwrap_or_default();
    for (key, values) in [("labels", labels), ("annotations", annotations)] {
        if let Some(fields) = written.as_object_mut().filter(|_| !values.is_empty()) {
            fields.insert(key.to_owned(), json!(values));
        }
    }
    json!({"apiVersion": API_VERSION, "kind": Identity::KIND, "metadata": written, "spec": object.data.get("spec")})
}

async fn of_pod(place: &Place, name: &str, dry_run: bool) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
    let pod = timely(api.get(name)).await.with_context(|| format!("pod {name}"))?;
    let raw = serde_json::to_value(&pod)?;
    match pods::controller(&raw).and_then(|owner| Some([owner.get("kind")?.as_str()?, owner.get("name")?.as_str()?])) {
        Some([kind, owner]) => {
            eprintln!("pod {name} loses its lease; {kind} {owner} may make another one in its place")
        }
        None => eprintln!("pod {name} loses its lease; nothing makes another one in its place"),
    }
    if dry_run {
        return Ok(());
    }
    let this_one = Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() };
    let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() }.grace_period(GRACE);
    timely(api.delete(name, &parameters)).await.with_context(|| format!("delete pod {name}"))?;
    eprintln!("pod {name} is deleted");
    Ok(())
}
