//! The injection: what an annotated pod becomes, and whether a pod is still what it was made. Pure: raw objects in, raw
//! objects out, so that fields which this program does not know survive.
//!
//! **Promise.** The sidecar, its volumes and the variables of the other containers are functions of the policy, the
//! settings and the pod's own shape, and of nothing else that the pod says. Done twice, it changes nothing; done by
//! hand and otherwise, it is refused.

mod environment;
mod patch;
mod pod;
mod predicate;
mod raw;
mod revision;
mod sidecar;
#[cfg(test)]
mod tests;
mod workload;

use postern_crds::CheckedPolicy;
use postern_crds::api::Sidecar;
use postern_crds::lease::AUDIENCE;
use serde_json::Value;

pub use patch::patch;
pub use pod::{Injected, inject};
pub use predicate::{believes_only, may_reach, outline, trim, verify};
pub use revision::{has_image, of_pod, revision};
pub use workload::{TEMPLATES, copy_annotation};

/// The annotation that asks for a sidecar: a policy's name, or several with commas between them.
pub const INJECT: &str = "postern.dev/inject";
/// The label of a pod that has one, for PodMonitors and for people.
pub const INJECTED: &str = "postern.dev/injected";

/// The annotation of a pod that says by which [`revision`] its sidecars were made.
pub const REVISION: &str = "postern.dev/sidecar-revision";

/// Why an object can't be what it asks for; for the one who creates it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Refusal(message.into())
    }
}

/// What the cluster's administrator chose for all sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of the sidecar, best by digest.
    pub image: String,
    /// Its pull policy; None leaves it to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// Where the broker is, as `https://name:port`.
    pub broker: String,
    /// The CA certificates (PEM) that the broker's certificate is signed by.
    pub broker_ca: String,
}

/// What a genuine sidecar was made of, by whichever version of this program.
#[derive(Clone, Copy, Debug)]
pub struct Genuine<'a> {
    /// The images that it may run.
    pub images: &'a [String],
    /// How it may reach the broker, as `https://name:port`.
    pub brokers: &'a [String],
}

/// A policy that a pod asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As it is in force.
    pub policy: &'a CheckedPolicy,
    /// What it says of the sidecar.
    pub sidecar: Option<&'a Sidecar>,
    /// It accepts a server that is not verified, whatever the pod's other containers could do on its network.
    pub allow_unverified: bool,
    /// What clients are told to call themselves: the role that their sessions run as.
    pub user: &'a str,
}

/// The names in an annotation, in order.
pub fn asked_names(annotation: &str) -> Result<Vec<&str>, Refusal> {
    let names: Vec<&str> = annotation.split(',').map(str::trim).collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err(Refusal::new(format!("{INJECT}: name a policy, or several with commas between them")));
    }
    if names.len() > MAX_POLICIES {
        return Err(Refusal::new(format!("{INJECT}: more than {MAX_POLICIES} policies")));
    }
    let twice = names.iter().enumerate().find(|(index, name)| names.iter().take(*index).any(|before| before == *name));
    match twice {
        Some((_, name)) => Err(Refusal::new(format!("{INJECT}: '{name}' is named twice"))),
        None => Ok(names),
    }
}

/// What a pod or a workload asks for, as it is written.
pub fn annotation(object: &Value) -> Option<&str> {
    object.pointer("/metadata/annotations")?.get(INJECT)?.as_str()
}

/// The policies that a pod or a workload asks for, in order; none where it asks for none, or can't.
pub fn asked_of(object: &Value) -> Vec<&str> {
    annotation(object).and_then(|annotation| asked_names(annotation).ok()).unwrap_or_default()
}

/// The policies of a pod whose sidecars are ready, as its status says.
pub fn ready_policies(pod: &Value) -> Vec<String> {
    let names = asked_of(pod);
    let states = pod.pointer("/status/initContainerStatuses").and_then(Value::as_array);
    let states = states.map(Vec::as_slice).unwrap_or_default();
    let is_ready = |container: &str| {
        let mut of_container = states.iter().filter(|state| raw::name_of(state) == container);
        of_container.any(|state| state.get("ready").and_then(Value::as_bool) == Some(true))
    };
    let ready = names.iter().enumerate().filter(|(index, _)| is_ready(&sidecar::name(*index)));
    ready.map(|(_, policy)| (*policy).to_owned()).collect()
}

/// A sidecar of a live pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its policy.
    pub policy: String,
    /// Where its metrics are.
    pub admin: u16,
    /// Whether its status says that it is ready.
    pub ready: bool,
}

/// The sidecars of a pod, in the order of its policies.
pub fn ports(pod: &Value) -> Vec<Port> {
    let ready = ready_policies(pod);
    let port = |(index, policy): (usize, &str)| {
        let name = sidecar::name(index);
        let container = raw::of_spec(pod, "initContainers").iter().find(|it| raw::name_of(it) == name)?;
        let admin = container.pointer("/ports/0/containerPort")?.as_u64().and_then(|port| u16::try_from(port).ok())?;
        Some(Port { policy: policy.to_owned(), admin, ready: ready.iter().any(|it| it == policy) })
    };
    asked_of(pod).into_iter().enumerate().filter_map(port).collect()
}

/// Most policies of one pod: each has a sidecar of its own.
const MAX_POLICIES: usize = 8;
