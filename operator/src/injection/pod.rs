//! What an annotated pod becomes.

use postern_crds::api::OnEnvConflict;
use postern_crds::lease::Resource;
use postern_crds::units;
use serde_json::{Map, Value, json};

use super::raw::{containers, list_in, name_of, object, object_in, of_spec};
use super::sidecar::{self, FIRST_PORTS, Parameters};
use super::{Asked, INJECTED, REVISION, Refusal, Settings, environment, predicate, revision};

/// A pod with its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The whole pod.
    pub pod: Value,
    /// What its creator should know.
    pub warnings: Vec<String>,
}

/// Init containers of service meshes that set the network up, or are its proxies as native sidecars: the sidecar starts
/// after them, for without them it reaches nothing.
const MESH_INITS: [&str; 9] = [
    "istio-init",
    "istio-validation",
    "istio-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "kuma-init",
    "kuma-sidecar",
    "consul-connect-inject-init",
];

/// Proxies of service meshes which, as ordinary containers, start after all init containers; and how to make them native
/// sidecars.
const MESH_PROXIES: [(&str, &str); 4] = [
    (
        "istio-proxy",
        "set ENABLE_NATIVE_SIDECARS=true in istiod, or annotate the pod with sidecar.istio.io/nativeSidecar: \"true\"",
    ),
    ("linkerd-proxy", "annotate the pod with config.linkerd.io/proxy-enable-native-sidecar: \"true\""),
    ("kuma-sidecar", "set experimental.sidecarContainers in Kuma's control plane"),
    ("consul-dataplane", "leave the pod out of the mesh: consul.hashicorp.com/connect-inject: \"false\""),
];

/// Puts a sidecar for each policy into a pod. Of a pod that has them already nothing changes, as long as they are what
/// they would be; only their resources and a mirror of the same image may differ.
pub fn inject(namespace: &str, pod: &Value, asked: &[Asked<'_>], settings: &Settings) -> Result<Injected, Refusal> {
    let mut pod = pod.clone();
    let mut warnings = Vec::new();
    let present = take_out(&mut pod)?;
    for asked in asked {
        must_be_reachable(asked, &pod)?;
    }
    for (proxy, remedy) in MESH_PROXIES {
        if of_spec(&pod, "containers").iter().any(|container| name_of(container) == proxy) {
            return Err(Refusal::new(format!(
                "{proxy} starts after the sidecar, which needs the network through it: both would wait for ever; {remedy}"
            )));
        }
    }
    predicate::is_a_boundary(&pod).map_err(Refusal)?;
    let guaranteed = is_guaranteed(&pod);
    let ports = free_ports(&pod, asked.len())?;
    let mut sidecars = Vec::with_capacity(asked.len());
    for (index, (asked, (port, admin_port))) in asked.iter().zip(&ports).enumerate() {
        let name = sidecar::name(index);
        let wanted = Parameters {
            image: settings.image.clone(),
            image_pull_policy: settings.image_pull_policy.clone(),
            broker: settings.broker.clone(),
            broker_ca: settings.broker_ca.clone(),
            policy: Resource { namespace: namespace.to_owned(), name: asked.policy.name.clone() },
            port: *port,
            admin_port: *admin_port,
            resources: sidecar::resources(asked.sidecar.and_then(|sidecar| sidecar.resources.as_ref()), guaranteed),
            name: name.clone(),
        };
        let wanted = sidecar::container(&wanted);
        let found = present.iter().find(|container| name_of(container) == name);
        sidecars.push(match found {
            Some(found) => predicate::same_sidecar(found, &wanted)
                .map(|()| found.clone())
                .map_err(|difference| Refusal::new(format!("container {name} is the sidecar's: {difference}")))?,
            None => wanted,
        });
    }
    if let Some(extra) = present.iter().find(|found| !sidecars.iter().any(|it| name_of(it) == name_of(found))) {
        let message = format!("container {} has a name of the sidecar's; give it another one", name_of(extra));
        return Err(Refusal::new(message));
    }

    let client_ports: Vec<u16> = ports.iter().map(|(port, _)| *port).collect();
    let variables = environment::variables(asked, &client_ports);
    let on_conflict = asked
        .iter()
        .filter_map(|asked| asked.sidecar)
        .map(|sidecar| sidecar.on_env_conflict)
        .find(|choice| *choice == OnEnvConflict::Refuse)
        .unwrap_or_default();
    let spec = object(&mut pod, "spec")?;
    let place = first_free_place(spec);
    for container in list_in(spec, "initContainers")?.iter_mut().skip(place) {
        environment::set(container, &variables, on_conflict, &mut warnings)?;
    }
    for container in list_in(spec, "containers")? {
        environment::set(container, &variables, on_conflict, &mut warnings)?;
    }
    list_in(spec, "initContainers")?.splice(place..place, sidecars);
    list_in(spec, "volumes")?.extend(sidecar::volumes());
    let metadata = object(&mut pod, "metadata")?;
    object_in(metadata, "labels")?.insert(INJECTED.to_owned(), json!("true"));
    object_in(metadata, "annotations")?.insert(REVISION.to_owned(), json!(revision(asked)));
    Ok(Injected { pod, warnings })
}

/// Takes sidecars and their volumes out of a pod, which is then as if it never had any; returns the containers.
fn take_out(pod: &mut Value) -> Result<Vec<Value>, Refusal> {
    let spec = object(pod, "spec")?;
    let wanted = sidecar::volumes();
    if spec.contains_key("volumes") {
        let volumes = list_in(spec, "volumes")?;
        for volume in volumes.iter().filter(|volume| name_of(volume).starts_with(sidecar::VOLUMES)) {
            if !wanted.contains(volume) {
                return Err(Refusal::new(format!(
                    "volume {}: names that begin with postern- are ours",
                    name_of(volume)
                )));
            }
        }
        volumes.retain(|volume| !name_of(volume).starts_with(sidecar::VOLUMES));
    }
    if !spec.contains_key("initContainers") {
        return Ok(Vec::new());
    }
    let containers = list_in(spec, "initContainers")?;
    let (taken, kept) = std::mem::take(containers).into_iter().partition(|it| sidecar::is_name(name_of(it)));
    *containers = kept;
    Ok(taken)
}

/// A policy whose database a pod can reach, as this one is.
fn must_be_reachable(asked: &Asked<'_>, pod: &Value) -> Result<(), Refusal> {
    if asked.policy.database.host.starts_with('/') {
        let message = format!("policy {}: its database is a unix socket, which no pod has", asked.policy.name);
        return Err(Refusal::new(message));
    }
    predicate::may_reach(asked, pod)
}

/// After the meshes' own.
fn first_free_place(spec: &Map<String, Value>) -> usize {
    let inits = spec.get("initContainers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    inits.iter().rposition(|container| MESH_INITS.contains(&name_of(container))).map_or(0, |last| last + 1)
}

/// A port for clients and one for probes for each policy, of those that no container says it uses.
fn free_ports(pod: &Value, count: usize) -> Result<Vec<(u16, u16)>, Refusal> {
    let used: Vec<u64> = containers(pod)
        .flat_map(|container| container.get("ports").and_then(Value::as_array).into_iter().flatten())
        .filter_map(|port| port.get("containerPort").and_then(Value::as_u64))
        .collect();
    let free = |first: u16| (first..=u16::MAX).filter(|port| !used.contains(&u64::from(*port))).take(count);
    let ports: Vec<(u16, u16)> = free(FIRST_PORTS.0).zip(free(FIRST_PORTS.1)).collect();
    if ports.len() == count { Ok(ports) } else { Err(Refusal::new("no ports are left for the sidecars")) }
}

/// QoS class Guaranteed: every container limits processor and memory, and requests the same.
fn is_guaranteed(pod: &Value) -> bool {
    containers(pod).all(|container| {
        ["cpu", "memory"].iter().all(|resource| {
            let limit = container.pointer(&format!("/resources/limits/{resource}"));
            // What is not requested is requested as it is limited.
            let request = container.pointer(&format!("/resources/requests/{resource}")).or(limit);
            // Forms that can't be read are equal only to themselves.
            let same =
                |(limit, request)| limit == request || quantity(limit).is_some_and(|is| Some(is) == quantity(request));
            limit.zip(request).is_some_and(same)
        })
    })
}

/// A quantity in thousandths; None for forms that nobody writes for processors and memory.
fn quantity(value: &Value) -> Option<u128> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (number, thousandths) = units::resource_quantity(&text)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some(digits.checked_mul(u128::from(thousandths))? / scale)
}
