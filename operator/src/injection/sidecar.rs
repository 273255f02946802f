//! The sidecar's container and volumes.
//!
//! What an API server would default is written out, so that a container which went through one can be compared.

use std::collections::BTreeMap;

use postern_crds::api::{IntOrText, Resources};
use postern_crds::lease::{AUDIENCE, MAX_TOKEN_LIFE, Resource};
use serde_json::{Value, json};

/// The first sidecar's name; those of further policies have a number.
pub(super) const NAME: &str = "postern";
/// Volumes of the sidecar begin with this, and no other container may mount one.
pub(super) const VOLUMES: &str = "postern-";
/// The volume with the token.
const TOKEN: &str = "postern-token";
/// The volume with what of the audit is not sent yet.
const SPOOL: &str = "postern-spool";
/// A volume with nothing in it.
const NOTHING: &str = "postern-nothing";
/// Over this the kubelet would evict the pod, so the sidecar stops before.
const SPOOL_SIZE: &str = "64Mi";
/// The first port for clients, and the first for probes and metrics.
pub(super) const FIRST_PORTS: (u16, u16) = (6432, 9432);

/// The name of the sidecar at a place.
pub(super) fn name(index: usize) -> String {
    if index == 0 { NAME.to_owned() } else { format!("{NAME}-{}", index + 1) }
}

/// Whether a container's name is one of a sidecar.
pub(super) fn is_name(text: &str) -> bool {
    text.strip_prefix(NAME).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|number| number.parse::<usize>().is_ok_and(|it| it > 1))
    })
}

/// What differs between one sidecar and another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) image_pull_policy: Option<String>,
    pub(super) broker: String,
    pub(super) broker_ca: String,
    pub(super) policy: Resource,
    pub(super) port: u16,
    pub(super) admin_port: u16,
    pub(super) resources: Value,
}

/// The container.
pub(super) fn container(parameters: &Parameters) -> Value {
    let Parameters { name, image, image_pull_policy, broker, broker_ca, policy, port, admin_port, resources } =
        parameters;
    let mut container = json!({
        "name": name,
        "image": image,
        "restartPolicy": "Always",
        "args": [
            "run",
            format!("--broker={broker}"),
            format!("--resource={policy}"),
            "--token-file=/var/run/postern/token",
            format!("--spool=/var/spool/postern/{name}"),
            format!("--listen=127.0.0.1:{port}"),
            format!("--admin=0.0.0.0:{admin_port}"),
            "--log-format=json",
        ],
        // Else a file of the sidecar's could be put under it, and shown to who may look at the pod.
        "terminationMessagePath": "/dev/termination-log",
        // The certificates are public. As a variable they are as unchangeable as the container.
        "env": [{"name": "POSTERN_BROKER_CA", "value": broker_ca}],
        "ports": [{"name": admin_port_name(name), "containerPort": admin_port, "protocol": "TCP"}],
        "resources": resources,
        // The application waits for this. A database that is away at the start is given a quarter of an hour.
        "startupProbe": probe("/startup", *admin_port, 1, 900),
        "livenessProbe": probe("/live", *admin_port, 10, 6),
        "readinessProbe": probe("/ready", *admin_port, 5, 3),
        // Pod Security `restricted`. No uid: a platform may give each namespace its own.
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": TOKEN, "mountPath": "/var/run/postern", "readOnly": true},
            {"name": SPOOL, "mountPath": "/var/spool/postern"},
            // Else the pod's API token would be mounted here.
            {"name": NOTHING, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
    });
    if let (Some(policy), Some(fields)) = (image_pull_policy, container.as_object_mut()) {
        fields.insert("imagePullPolicy".to_owned(), json!(policy));
    }
    container
}

/// A port's name has at most 15 characters.
fn admin_port_name(container: &str) -> String {
    container.replacen(NAME, "postern-adm", 1)
}

fn probe(path: &str, port: u16, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "timeoutSeconds": 2,
        "periodSeconds": period,
        "successThreshold": 1,
        "failureThreshold": failures,
    })
}

/// The volumes that the sidecars share.
pub(super) fn volumes() -> Vec<Value> {
    vec![
        json!({"name": TOKEN, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": MAX_TOKEN_LIFE, "path": "token"}},
        ]}}),
        json!({"name": SPOOL, "emptyDir": {"sizeLimit": SPOOL_SIZE}}),
        json!({"name": NOTHING, "emptyDir": {"sizeLimit": "1Mi"}}),
    ]
}

/// Requests and limits: the policy's over the default ones, and requests that are always there. In a pod whose other
/// containers request all that they may use (QoS class Guaranteed) the sidecar does so, too.
pub(super) fn resources(policy: Option<&Resources>, guaranteed: bool) -> Value {
    let mut requests = quantities([("cpu", "20m"), ("memory", "48Mi")]);
    let mut limits = quantities([("memory", "384Mi")]);
    if guaranteed {
        limits.insert("cpu".to_owned(), json!("500m"));
    }
    if let Some(Resources { requests: asked, limits: allowed }) = policy {
        requests.extend(written(asked));
        limits.extend(written(allowed));
    }
    if guaranteed {
        requests.clone_from(&limits);
    }
    json!({"requests": requests, "limits": limits})
}

fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|(name, quantity)| (name.to_owned(), json!(quantity))).collect()
}

fn written(quantities: &BTreeMap<String, IntOrText>) -> impl Iterator<Item = (String, Value)> + '_ {
    quantities.iter().map(|(name, IntOrText(quantity))| (name.clone(), json!(quantity)))
}
