//! `tail`: the audit, as the operator's replicas print it.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, LogParams};
use kube::core::ResourceExt as _;
use serde_json::Value;

use super::{Place, Tail};
use crate::config::Output;
use crate::timely::timely;

/// The operator's pods.
const OPERATOR: &str = "app.kubernetes.io/name=postern,app.kubernetes.io/component=operator";

pub(super) async fn tail(place: &Place, asked: &Tail) -> Result<ExitCode> {
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), &asked.operator_namespace);
    let replicas = timely(pods.list(&ListParams::default().labels(OPERATOR))).await;
    let replicas = replicas.with_context(|| format!("the operator's pods in {}", asked.operator_namespace))?;
    if replicas.items.is_empty() {
        bail!("no operator runs in {}: see --operator-namespace", asked.operator_namespace);
    }
    let parameters =
        LogParams { follow: !asked.no_follow, since_seconds: Some(i64::from(asked.since)), ..LogParams::default() };
    let mut logs = Vec::new();
    for pod in &replicas.items {
        let name = pod.name_any();
        let log = timely(pods.log_stream(&name, &parameters)).await;
        let log = log.with_context(|| format!("the log of {name}, which takes the right to get pods/log"))?;
        logs.push(log.lines());
    }
    let mut lines = futures::stream::select_all(logs.into_iter().map(|log| log.boxed_local()));
    while let Some(line) = lines.try_next().await.context("the operator's log")? {
        if let Some(shown) = shown(&line, &place.namespace, asked.identity.as_deref(), asked.output) {
            println!("{shown}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of the log as it is shown, if it is an event of this namespace and identity. What else the operator logs is none.
fn shown(line: &str, namespace: &str, identity: Option<&str>, output: Output) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |path: &str| event.pointer(path).and_then(Value::as_str);
    let by = text("/proven/identity")?;
    if text("/proven/namespace")? != namespace || identity.is_some_and(|wanted| wanted != by) {
        return None;
    }
    if output == Output::Json {
        return Some(line.to_owned());
    }
    // Outside of the cluster there is no pod.
    let who = text("/proven/pod").or_else(|| text("/proven/subject")).unwrap_or_default();
    let mut words = vec![text("/time").unwrap_or_default(), who, by, text("/event")?];
    words.extend(
        ["/decision", "/verb", "/reason", "/rule", "/object"].into_iter().filter_map(text).filter(|it| !it.is_empty()),
    );
    // What a client wrote must not act on who reads it.
    let words: Vec<String> =
        words.into_iter().chain(text("/text")).map(|word| word.escape_debug().to_string()).collect();
    Some(words.join("  "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const LINE: &str = r#"{"time":"t","event":"statement","decision":"deny","text":"SELECT '\u001b[2J'","proven":{"namespace":"shop","pod":"p","identity":"report"}}"#;

    #[test]
    fn only_events_of_the_namespace_and_of_the_identity_are_shown() {
        let seen = |namespace: &str, identity: Option<&str>| shown(LINE, namespace, identity, Output::Json).is_some();
        assert!(seen("shop", None) && seen("shop", Some("report")));
        assert!(!seen("other", None) && !seen("shop", Some("another")));
        for line in ["no json", "{}", r#"{"level":"INFO","message":"proven"}"#] {
            assert_eq!(shown(line, "shop", None, Output::Table), None);
        }
    }

    #[test]
    fn who_is_no_pod_is_called_as_his_issuer_calls_him() {
        let line = LINE.replace("\"pod\":\"p\"", "\"issuer\":\"https://idp.example\",\"subject\":\"repo:acme/shop\"");
        let shown = shown(&line, "shop", None, Output::Table).unwrap();
        assert!(shown.starts_with("t  repo:acme/shop  report  statement"), "{shown}");
    }

    #[test]
    fn what_a_client_wrote_does_not_act_on_the_terminal() {
        let shown = shown(LINE, "shop", None, Output::Table).unwrap();
        assert!(shown.contains("deny") && !shown.contains('\u{1b}'), "{shown}");
    }
}
