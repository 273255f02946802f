//! What must hold of a pod that gets leases: asked when it is made, and of the live pod at every exchange.

use std::net::IpAddr;

use postern_crds::TlsMode;
use serde_json::Value;

use super::raw::{containers, name_of, of_spec};
use super::sidecar::{self, Parameters};
use super::{AUDIENCE, Asked, Genuine, INJECT, REVISION, Refusal, annotation, asked_names};
use crate::certificates;

/// What webhooks and API servers add to a container by themselves, and what may differ: `resources` is the namespace's
/// own matter (LimitRange), a probe is where it stays a request over HTTP (meshes lead those through themselves).
const FREE: [&str; 4] = ["image", "imagePullPolicy", "resources", "terminationMessagePolicy"];
const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// Whether a live pod is what an injection made, by whichever version of this program, and has not become something
/// else. It may have been made by hand, where or when no webhook saw it; so nothing is taken from it that would make the
/// sidecar somebody else's: what it runs, whom it asks, and, by [`believes_only`], whom it takes for the broker.
pub fn verify(namespace: &str, pod: &Value, genuine: Genuine<'_>) -> Result<(), String> {
    let names =
        asked_names(annotation(pod).ok_or("the pod asks for no policy")?).map_err(|refusal| refusal.to_string())?;
    is_a_boundary(pod)?;
    let inits = of_spec(pod, "initContainers");
    for (index, policy) in names.iter().enumerate() {
        let name = sidecar::name(index);
        let found = inits.iter().find(|container| name_of(container) == name);
        let found = found.ok_or_else(|| format!("the pod has no sidecar for policy {policy}"))?;
        let parameters = parameters(found).ok_or_else(|| format!("container {name} is no sidecar"))?;
        if (parameters.policy.namespace.as_str(), parameters.policy.name.as_str()) != (namespace, *policy) {
            return Err(format!("container {name} is for another policy than {policy}"));
        }
        if !genuine.images.iter().any(|image| same_image(image, &parameters.image)) {
            return Err(format!("container {name} has an image that is no sidecar's"));
        }
        if !genuine.brokers.iter().any(|broker| broker == parameters.broker.trim_end_matches('/')) {
            return Err(format!("container {name} asks another broker"));
        }
        same_sidecar(found, &sidecar::container(&parameters)).map_err(|why| format!("container {name}: {why}"))?;
    }
    let ours: Vec<String> = (0..names.len()).map(sidecar::name).collect();
    only_ours_mount_ours(pod, &ours)
}

/// Whether the pod's sidecars take nobody for the broker but who has one of these authorities (certificates as PEM).
pub fn believes_only(pod: &Value, authorities: &[String]) -> bool {
    let mut sidecars = of_spec(pod, "initContainers").iter().filter(|container| sidecar::is_name(name_of(container)));
    sidecars.all(|container| {
        let believed = parameters(container).map(|parameters| certificates::each(&parameters.broker_ca));
        believed.is_some_and(|all| !all.is_empty() && all.iter().all(|one| authorities.contains(one)))
    })
}

/// What other containers may say without a word of it being looked at here.
const UNSEEN: [&str; 9] =
    ["args", "command", "env", "envFrom", "lifecycle", "livenessProbe", "readinessProbe", "resources", "startupProbe"];
/// What is looked at in a pod's status.
const STATUS: [&str; 4] = ["phase", "podIP", "podIPs", "initContainerStatuses"];

/// Takes out of a live pod what neither [`verify`] nor anybody else in this program looks at: it is kept in memory for
/// each pod, and the variables of applications are nobody's business.
pub fn trim(pod: &mut Value) {
    if let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| name == INJECT || name == REVISION);
    }
    if let Some(status) = pod.pointer_mut("/status").and_then(Value::as_object_mut) {
        status.retain(|field, _| STATUS.contains(&field.as_str()));
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod.pointer_mut("/spec").and_then(|spec| spec.get_mut(kind)).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|container| !sidecar::is_name(name_of(container))) {
            if let Some(fields) = container.as_object_mut() {
                fields.retain(|field, _| !UNSEEN.contains(&field.as_str()));
            }
        }
    }
}

/// What of a pod's spec is in its outline.
const OUTLINED: [&str; 2] = ["initContainers", "serviceAccountName"];
/// What of init containers and their states.
const OUTLINED_CONTAINER: [&str; 3] = ["image", "name", "ready"];

/// Takes out of a trimmed pod what only [`verify`] and the like look at: what is left says whose pod it is, how it fares
/// and what its sidecars are made of.
pub fn outline(pod: &mut Value) {
    if let Some(spec) = pod.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| OUTLINED.contains(&field.as_str()));
    }
    for list in ["/spec/initContainers", "/status/initContainerStatuses"] {
        if let Some(entries) = pod.pointer_mut(list).and_then(Value::as_array_mut) {
            entries.retain(|entry| sidecar::is_name(name_of(entry)));
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                entry.retain(|field, _| OUTLINED_CONTAINER.contains(&field.as_str()));
            }
        }
    }
}

/// No other container mounts the sidecar's volumes, or has a token of its audience; and the volumes are what they were.
fn only_ours_mount_ours(pod: &Value, ours: &[String]) -> Result<(), String> {
    let wanted = sidecar::volumes();
    for volume in of_spec(pod, "volumes") {
        let name = name_of(volume);
        if name.starts_with(sidecar::VOLUMES) {
            if !wanted.contains(volume) {
                return Err(format!("volume {name} is not as the sidecar's is"));
            }
        } else if asks_for_a_token(volume) {
            return Err(format!("volume {name} asks for a token of the audience {AUDIENCE}"));
        }
    }
    for container in containers(pod).filter(|container| !ours.iter().any(|name| name == name_of(container))) {
        let mounts = ["volumeMounts", "volumeDevices"].into_iter().filter_map(|kind| container.get(kind)?.as_array());
        if mounts.flatten().any(|mount| name_of(mount).starts_with(sidecar::VOLUMES)) {
            return Err(format!("container {} mounts a volume of the sidecar's", name_of(container)));
        }
        let target = container.get("targetContainerName").and_then(Value::as_str).unwrap_or_default();
        if sidecar::is_name(target) {
            return Err(format!("container {} shares the processes of the sidecar", name_of(container)));
        }
    }
    Ok(())
}

fn asks_for_a_token(volume: &Value) -> bool {
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
    sources
        .into_iter()
        .flatten()
        .any(|source| source.pointer("/serviceAccountToken/audience").and_then(Value::as_str) == Some(AUDIENCE))
}

/// Whether the pod keeps its containers apart: Pod Security `baseline` as far as it matters here, and processes of
/// their own. Else another container reads the sidecar's memory.
pub(super) fn is_a_boundary(pod: &Value) -> Result<(), String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    for field in ["hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace"] {
        if spec.get(field).and_then(Value::as_bool) == Some(true) {
            return Err(format!("spec.{field} would open the sidecar to others; take it out"));
        }
    }
    if let Some(volume) =
        of_spec(pod, "volumes").iter().find(|volume| volume.get("hostPath").is_some_and(|it| !it.is_null()))
    {
        let message = "is a hostPath: by it the node's files, and so the sidecar's, could be read";
        return Err(format!("volume {} {message}", name_of(volume)));
    }
    for container in containers(pod) {
        let context = container.get("securityContext").unwrap_or(&Value::Null);
        let problem = if context.get("privileged").and_then(Value::as_bool) == Some(true) {
            "is privileged"
        } else if context.get("procMount").and_then(Value::as_str).is_some_and(|mount| mount != "Default") {
            "has a procMount"
        } else if context.pointer("/windowsOptions/hostProcess").and_then(Value::as_bool) == Some(true) {
            "is a process of the host"
        } else if added_capabilities(context).any(|capability| !BASELINE.contains(&capability)) {
            "adds a capability beyond Pod Security baseline"
        } else {
            continue;
        };
        return Err(format!("container {} {problem}, and could read the sidecar's memory", name_of(container)));
    }
    Ok(())
}

/// Capabilities that Pod Security `baseline` lets a container add:
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
const BASELINE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added_capabilities(context: &Value) -> impl Iterator<Item = &str> {
    let added = context.pointer("/capabilities/add").and_then(Value::as_array);
    added.into_iter().flatten().map(|capability| capability.as_str().unwrap_or_default())
}

/// Whether a pod may have a sidecar that talks to the policy's server: one that is not verified must be one that nothing
/// in the pod can pose as. Asked when the pod is made, and for as long as it has a lease, for policies change.
pub fn may_reach(asked: &Asked<'_>, pod: &Value) -> Result<(), Refusal> {
    let database = &asked.policy.database;
    if matches!(database.tls, TlsMode::VerifyCa | TlsMode::VerifyFull) || asked.allow_unverified {
        return Ok(());
    }
    let hindrance = match containers(pod).find(|container| !drops_net_raw(container)) {
        Some(container) => format!("container {} could pose as it (it does not drop NET_RAW)", name_of(container)),
        None if says_where_it_is(pod, &database.host) => {
            "the pod says by itself where it is (hostAliases, dnsPolicy or dnsConfig)".to_owned()
        }
        None => return Ok(()),
    };
    Err(Refusal::new(format!(
        "policy {}: its server is not verified (tls.mode), and {hindrance}: use VerifyFull, or drop the capability \
         NET_RAW in all containers and leave names to the cluster, or accept it by tls.allowUnverified",
        asked.policy.name
    )))
}

/// Whether a container can't send packets of its own making. Sidecars drop everything.
fn drops_net_raw(container: &Value) -> bool {
    let dropped = container.pointer("/securityContext/capabilities/drop").and_then(Value::as_array);
    dropped.into_iter().flatten().any(|it| matches!(it.as_str(), Some("ALL" | "NET_RAW")))
}

/// Whether the pod's own spec has a say in which address a name stands for.
fn says_where_it_is(pod: &Value, host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    let mut names = of_spec(pod, "hostAliases")
        .iter()
        .filter_map(|alias| alias.get("hostnames")?.as_array())
        .flatten()
        .filter_map(Value::as_str);
    let dns = ["nameservers", "searches"].into_iter().filter_map(|key| {
        let asked = pod.pointer("/spec/dnsConfig")?.get(key)?.as_array()?;
        (!asked.is_empty()).then_some(())
    });
    names.any(|name| plain(name) == plain(host))
        || pod.pointer("/spec/dnsPolicy").is_some_and(|policy| policy == "None")
        || dns.count() > 0
}

/// Whether a container is the sidecar that it should be.
pub(super) fn same_sidecar(found: &Value, wanted: &Value) -> Result<(), String> {
    let (Some(found), Some(wanted)) = (found.as_object(), wanted.as_object()) else {
        return Err("it is no object".to_owned());
    };
    let image = |container: &serde_json::Map<String, Value>| {
        container.get("image").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if !same_image(&image(found), &image(wanted)) {
        return Err("its image is another one".to_owned());
    }
    let resources = found.get("resources").and_then(Value::as_object).into_iter().flatten();
    if let Some((key, _)) = resources.into_iter().find(|(key, _)| !["requests", "limits"].contains(&key.as_str())) {
        return Err(format!("its resources can't have {key}"));
    }
    for (key, value) in found {
        if FREE.contains(&key.as_str()) || (PROBES.contains(&key.as_str()) && is_over_http(value)) {
            continue;
        }
        match wanted.get(key) {
            Some(wanted) if wanted == value => {}
            Some(wanted) if key == "securityContext" && same_context(value, wanted) => {}
            Some(_) => return Err(format!("its {key} is not as Postern makes it")),
            None => return Err(format!("{key} can't be set on it")),
        }
    }
    match wanted.keys().find(|key| !FREE.contains(&key.as_str()) && !found.contains_key(*key)) {
        Some(missing) => Err(format!("its {missing} is missing")),
        None => Ok(()),
    }
}

/// Whether a security context is the one that it should be, but for the user and the label that a platform gives to all
/// containers of a namespace.
fn same_context(found: &Value, wanted: &Value) -> bool {
    let Some(mut found) = found.as_object().cloned() else { return false };
    let number = |value: Value, least: u64| value.as_u64().is_some_and(|number| number >= least);
    let labels = |value: Value| value.as_object().is_some_and(|labels| labels.keys().all(|label| label == "level"));
    found.remove("runAsUser").is_none_or(|user| number(user, 1))
        && found.remove("runAsGroup").is_none_or(|group| number(group, 0))
        && found.remove("seLinuxOptions").is_none_or(labels)
        && wanted.as_object() == Some(&found)
}

fn is_over_http(probe: &Value) -> bool {
    probe.get("httpGet").is_some() && ["exec", "tcpSocket", "grpc"].iter().all(|other| probe.get(other).is_none())
}

/// Whether two names are of one image: the same text, or the same digest in whatever registry.
pub(super) fn same_image(one: &str, other: &str) -> bool {
    let digest = |image: &str| image.split_once('@').map(|(_, digest)| digest.to_owned());
    one == other || digest(one).is_some_and(|one| Some(one) == digest(other))
}

/// What a container that may be a sidecar was made with.
fn parameters(container: &Value) -> Option<Parameters> {
    let arguments: Vec<&str> = container.get("args")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let argument = |name: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
    };
    let port = |name: &str| argument(name)?.rsplit_once(':')?.1.parse().ok();
    Some(Parameters {
        name: name_of(container).to_owned(),
        image: container.get("image")?.as_str()?.to_owned(),
        image_pull_policy: None,
        broker: argument("broker")?.to_owned(),
        broker_ca: container.pointer("/env/0/value")?.as_str()?.to_owned(),
        policy: argument("resource")?.parse().ok()?,
        port: port("listen")?,
        admin_port: port("admin")?,
        resources: Value::Null,
    })
}
