//! Whether the sidecars of a pod are what they would be if it were made now.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::predicate::same_image;
use super::raw::{name_of, of_spec};
use super::sidecar::{self, FIRST_PORTS};
use super::{Asked, REVISION, environment};

/// A short digest of all that policies and identity say of a pod's sidecars and variables: another one where a pod made
/// now would be another one. The image is not in it, which may be pulled from a mirror.
pub fn revision(asked: &[Asked<'_>]) -> String {
    let ports: Vec<u16> = (FIRST_PORTS.0..).take(asked.len()).collect();
    let variables: Vec<_> = environment::variables(asked, &ports).into_iter().map(|it| (it.name, it.value)).collect();
    let of_sidecar = |asked: &Asked<'_>| {
        let resources = asked.sidecar.and_then(|sidecar| sidecar.resources.as_ref());
        json!([asked.policy.name, sidecar::resources(resources, false)])
    };
    let content = json!([variables, asked.iter().map(of_sidecar).collect::<Vec<_>>()]);
    let digest = Sha256::digest(content.to_string());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The revision that a pod was made by.
pub fn of_pod(pod: &Value) -> Option<&str> {
    pod.pointer("/metadata/annotations")?.get(REVISION)?.as_str()
}

/// Whether all sidecars of a pod have this image.
pub fn has_image(pod: &Value, image: &str) -> bool {
    let mut sidecars = of_spec(pod, "initContainers").iter().filter(|it| sidecar::is_name(name_of(it)));
    sidecars.all(|it| it.get("image").and_then(Value::as_str).is_some_and(|found| same_image(found, image)))
}
