//! `sessions`: who is connected, as whom, through which pod.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use axum::http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::core::ResourceExt as _;
use serde_json::{Value, json};

use super::status::all;
use super::table::table;
use super::{Place, Shown};
use crate::config::Output;
use crate::injection::{self, INJECTED, Port};
use crate::objects::{Identity, Known};
use crate::pods;
use crate::timely::{ApiError, timely};

pub(super) async fn sessions(place: &Place, shown: &Shown) -> Result<ExitCode> {
    let api: Api<Pod> = if shown.all_namespaces {
        Api::all(place.client.clone())
    } else {
        Api::namespaced(place.client.clone(), &place.namespace)
    };
    let pods = timely(api.list(&ListParams::default().labels(INJECTED))).await.context("pods")?;
    let identities = all::<Identity>(place, shown.all_namespaces).await?;
    let identities: Vec<_> = identities.into_iter().map(|object| Known::<Identity>::new(object, None)).collect();
    let mut rows = Vec::new();
    let mut unasked = None;
    for pod in pods.items {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let raw = serde_json::to_value(&pod)?;
        if pods::has_ended(&raw) {
            continue;
        }
        let node = raw.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().to_owned();
        let identity = identity_of(&identities, &namespace, pods::service_account(&raw));
        for Port { policy, admin, ready } in injection::ports(&raw) {
            let open = if ready {
                match count(place, &namespace, &name, admin).await {
                    Ok(open) => open,
                    Err(error) => {
                        unasked = Some(error);
                        None
                    }
                }
            } else {
                None
            };
            rows.push(Row {
                namespace: namespace.clone(),
                pod: name.clone(),
                node: node.clone(),
                policy,
                identity: identity.clone(),
                ready,
                open,
            });
        }
    }
    print!("{}", text(&rows, shown.output)?);
    if let Some(error) = unasked {
        eprintln!("how many are open could not be asked everywhere, which takes the right to get pods/proxy: {error}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A sidecar of a pod.
struct Row {
    namespace: String,
    pod: String,
    node: String,
    policy: String,
    identity: String,
    ready: bool,
    open: Option<u64>,
}

/// The identities of a service account, of which there has to be one, with the role that their sessions run as.
fn identity_of(identities: &[Known<Identity>], namespace: &str, account: &str) -> String {
    let of_account = identities.iter().filter(|it| it.namespace == namespace).filter_map(|it| it.in_force.as_ref());
    let named: Vec<String> = of_account
        .filter(|identity| identity.is_of(account))
        .map(|identity| format!("{} ({})", identity.checked.name, identity.checked.postgres_role))
        .collect();
    if named.is_empty() { "none".to_owned() } else { named.join(" and ") }
}

/// How many sessions a sidecar says to have, by the API server's way to its pod.
async fn count(place: &Place, namespace: &str, pod: &str, port: u16) -> Result<Option<u64>, ApiError> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
    let request = Request::get(path).body(Vec::new()).map_err(|error| Box::new(kube::Error::HttpError(error)))?;
    Ok(open_sessions(&timely(place.client.request_text(request)).await?))
}

/// The gauge `postern_sessions` of a text of metrics.
fn open_sessions(metrics: &str) -> Option<u64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("postern_sessions").filter(|rest| rest.starts_with(['{', ' '])))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn text(rows: &[Row], output: Output) -> Result<String> {
    if output == Output::Json {
        let all: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "namespace": row.namespace, "pod": row.pod, "node": row.node, "policy": row.policy,
                    "identity": row.identity, "ready": row.ready, "sessions": row.open,
                })
            })
            .collect();
        return Ok(serde_json::to_string_pretty(&all)? + "\n");
    }
    if rows.is_empty() {
        return Ok("No pod has a sidecar.\n".to_owned());
    }
    let shown = rows.iter().map(|row| {
        let open = row.open.map_or_else(|| "-".to_owned(), |open| open.to_string());
        let ready = if row.ready { "ready" } else { "not ready" };
        let [namespace, pod, identity, policy, node] =
            [&row.namespace, &row.pod, &row.identity, &row.policy, &row.node].map(Clone::clone);
        [namespace, pod, identity, policy, ready.to_owned(), open, node]
    });
    let heads = ["NAMESPACE", "POD", "IDENTITY (ROLE)", "POLICY", "SIDECAR", "SESSIONS", "NODE"];
    Ok(table(heads, &shown.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn open_sessions_are_those_of_the_gauge_and_not_of_all_that_there_were() {
        let metrics =
            "# TYPE postern_sessions gauge\npostern_sessions_total{policy=\"a\"} 7\npostern_sessions{policy=\"a\"} 3\n";
        assert_eq!(super::open_sessions(metrics), Some(3));
        assert_eq!(super::open_sessions("postern_sessions_total 7\n"), None);
    }
}
