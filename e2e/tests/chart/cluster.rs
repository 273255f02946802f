//! API servers with the chart installed, and pods to try on them.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use postern_crds::api::DatabaseAccessPolicySpec;
use postern_crds::compile_policy;
use postern_e2e::kubernetes::{Access, ApiServer, NEWEST, OLDEST, Version, helm};
use postern_e2e::workspace;
use postern_operator::injection::{Asked, INJECT, Settings, inject};
use serde_json::{Value, json};

/// Where the chart is installed.
pub(crate) const RELEASE: &str = "postern-system";
/// Namespaces in which the webhooks see nothing, so that a test can make an annotated pod though no operator is there.
const UNSEEN: usize = 100;

/// The test for each version; both run before either's failure is told.
#[macro_export]
macro_rules! on_both {
    ($($rule:ident => $body:ident;)*) => {
        mod oldest { $(#[test] fn $rule() {
            if let Some(cluster) = $crate::cluster::Cluster::of(postern_e2e::kubernetes::OLDEST) { super::$body(&cluster); }
        })* }
        mod newest { $(#[test] fn $rule() {
            if let Some(cluster) = $crate::cluster::Cluster::of(postern_e2e::kubernetes::NEWEST) { super::$body(&cluster); }
        })* }
    };
}

/// An API server with the chart in it, and namespaces for a test alone.
pub(crate) struct Cluster {
    pub(crate) server: &'static ApiServer,
    pub(crate) admin: &'static Access,
    /// Somebody with the ClusterRole edit in all namespaces and the right to debug pods, and nothing else.
    pub(crate) editor: &'static Access,
    /// A namespace in which the webhooks see nothing.
    pub(crate) unseen: String,
    /// One in which they are asked.
    pub(crate) seen: String,
}

impl Cluster {
    pub(crate) fn of(version: Version) -> Option<Self> {
        // Once failed, it fails for all.
        static READY: [LazyLock<Access>; 2] = [LazyLock::new(|| prepare(OLDEST)), LazyLock::new(|| prepare(NEWEST))];
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        HELM.as_ref()?;
        let server = ApiServer::shared(version).unwrap()?;
        let admin = server.admin();
        let editor = &*READY[usize::from(version == NEWEST)];
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < UNSEEN, "more tests than namespaces");
        let (unseen, seen) = (unseen(number), format!("seen-{number}"));
        for namespace in [&unseen, &seen] {
            admin.kubectl(&["create", "namespace", namespace]).unwrap();
            until("the namespace has its service account", || {
                admin.kubectl(&["get", "serviceaccount", "default", "-n", namespace]).is_ok()
            });
        }
        Some(Self { server, admin, editor, unseen, seen })
    }
}

/// Helm, once for all tests.
static HELM: LazyLock<Option<PathBuf>> = LazyLock::new(|| helm().unwrap());

fn unseen(number: usize) -> String {
    format!("unseen-{number}")
}

/// The webhooks' excluded namespaces, as a value of the chart.
pub(crate) fn excluded() -> String {
    let names: Vec<String> = (0..UNSEEN).map(unseen).collect();
    format!("webhooks.excludedNamespaces={{kube-system,{}}}", names.join(","))
}

pub(crate) fn chart() -> String {
    workspace().join("charts/postern").display().to_string()
}

/// Runs helm, for a cluster or without one.
pub(crate) fn run_helm(access: Option<&Access>, arguments: &[&str]) -> Option<Output> {
    let helm = HELM.as_ref()?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "300"]).arg(helm).args(arguments);
    // Nothing of the user's own is read.
    command
        .env("HELM_CONFIG_HOME", "/nonexistent")
        .env("HELM_CACHE_HOME", std::env::temp_dir())
        .env_remove("KUBECONFIG");
    if let Some(access) = access {
        command.arg("--kubeconfig").arg(access.kubeconfig());
    }
    Some(command.output().unwrap())
}

/// Runs helm, which has to succeed; what it printed.
pub(crate) fn helm_says(access: Option<&Access>, arguments: &[&str]) -> Option<String> {
    let output = run_helm(access, arguments)?;
    let (out, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "helm {arguments:?}: {out}{error}");
    Some(out)
}

/// Installs the chart as a user does, before Postern's kinds are known, and then makes them known, as the operator does.
fn prepare(version: Version) -> Access {
    let server = ApiServer::shared(version).unwrap().unwrap();
    let admin = server.admin();
    admin.kubectl(&["create", "clusterrolebinding", "editors", "--clusterrole=edit", "--group=editors"]).unwrap();
    let debugging = ["--verb=get,patch", "--resource=pods/ephemeralcontainers"];
    admin.kubectl(&[&["create", "clusterrole", "debug"], &debugging[..]].concat()).unwrap();
    admin.kubectl(&["create", "clusterrolebinding", "debuggers", "--clusterrole=debug", "--group=editors"]).unwrap();
    let editor = server.user("editor", &["editors"]).unwrap();
    // Annotated while nobody looked: what goes on with it later is tried in `installed`.
    admin.kubectl(&["create", "namespace", "before"]).unwrap();
    admin.apply(&deployment("before", Some("shop"), Some("shop")).to_string()).unwrap();

    let chart = chart();
    let arguments = ["install", "postern", &chart, "-n", RELEASE, "--create-namespace", "--set", &excluded()];
    helm_says(Some(admin), &arguments).unwrap();
    // In force when the token is refused; pods are then still made, though the kind that one policy asks for isn't known.
    let mut pod = plain("default", "early");
    pod["spec"]["volumes"] = json!([token("t", "postern.dev")]);
    refused_at_last(&editor, &pod, "for Postern's sidecar alone");
    until("an ordinary pod is made before the definitions are", || create(&editor, &plain("default", "early")).is_ok());

    let folder = workspace().join("crds/yaml");
    admin.kubectl(&["apply", "--server-side", "-f", folder.to_str().unwrap()]).unwrap();
    admin.kubectl(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).unwrap();
    admin.apply(&policy("default", "early", "early-login").to_string()).unwrap();
    let mut pod = plain("default", "late");
    pod["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "early-login"}}]);
    refused_at_last(&editor, &pod, "early-login|DatabaseAccessPolicy early");
    editor
}

/// Waits until `holds`, generously: the machine may be busy.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(180), "not in three minutes: {what}");
        sleep(Duration::from_millis(500));
    }
}

/// Waits until such a pod is refused with a message that has one of these parts.
fn refused_at_last(access: &Access, pod: &Value, said: &str) {
    until(said, || {
        access
            .refused(&["create", "--dry-run=server", "-f", "-"], &pod.to_string())
            .is_ok_and(|answer| said.split('|').any(|part| answer.contains(part)))
    });
}

pub(crate) fn create(access: &Access, object: &Value) -> anyhow::Result<String> {
    access.with_input(&["create", "-f", "-"], &object.to_string())
}

/// What is said of an object that must not be made.
pub(crate) fn refusal(access: &Access, object: &Value) -> String {
    access.refused(&["create", "-f", "-"], &object.to_string()).unwrap_or_else(|error| panic!("{object}: {error:#}"))
}

/// A pod of one container that is nothing to Postern.
pub(crate) fn plain(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

/// A volume with a token.
pub(crate) fn token(name: &str, audience: &str) -> Value {
    json!({"name": name, "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "token"}}]}})
}

/// What the webhook makes of a pod that asks for the policies `shop`, or `shop` and `audit`.
pub(crate) fn injected(namespace: &str, name: &str, policies: &[&str]) -> Value {
    let specs: Vec<(DatabaseAccessPolicySpec, _)> = policies
        .iter()
        .map(|policy_name| {
            let spec = policy(namespace, policy_name, "login")["spec"].clone();
            let spec: DatabaseAccessPolicySpec = serde_json::from_value(spec).unwrap();
            let checked = compile_policy(namespace, policy_name, &spec).unwrap();
            (spec, checked)
        })
        .collect();
    let asked: Vec<Asked<'_>> = specs
        .iter()
        .map(|(spec, checked)| Asked {
            policy: checked,
            sidecar: spec.sidecar.as_ref(),
            allow_unverified: false,
            user: "reporting_ro",
        })
        .collect();
    let settings = Settings {
        image: "postern-sidecar:1".into(),
        image_pull_policy: None,
        broker: "https://postern-broker.postern-system.svc:8443".into(),
        broker_ca: "-----BEGIN CERTIFICATE-----".into(),
    };
    let mut pod = plain(namespace, name);
    pod["metadata"]["annotations"] = json!({INJECT: policies.join(",")});
    inject(namespace, &pod, &asked, &settings).unwrap().pod
}

/// A policy whose login is in a Secret, with a hash mask and a CA.
pub(crate) fn policy(namespace: &str, name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "postern.dev/v1alpha1", "kind": "DatabaseAccessPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "database": {
                "host": "pg", "name": "shop", "credentials": {"secret": {"name": secret}},
                "tls": {"mode": "VerifyFull", "caSecret": {"name": "pg-ca", "key": "ca.crt"}},
            },
            "masks": [
                {"columns": ["public.t.a"], "mask": {"nullify": {}}},
                {"columns": ["public.t.b"], "mask": {"hash": {"keySecret": {"name": "hash-key", "key": "key"}}}},
            ],
        },
    })
}

/// A Deployment with the annotation on itself and on its template.
pub(crate) fn deployment(namespace: &str, own: Option<&str>, of_template: Option<&str>) -> Value {
    let annotations = |policy: Option<&str>| policy.map_or(json!({}), |policy| json!({INJECT: policy}));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "app", "namespace": namespace, "annotations": annotations(own)},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}, "annotations": annotations(of_template)},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            },
        },
    })
}
