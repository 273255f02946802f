//! The product's images, of binaries that are not optimised.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;

use postern_e2e::kubernetes::{Cluster, Image};
use postern_e2e::{built, gate, temporary_folder};
use serde_json::json;

fn images() -> [(&'static str, Image); 2] {
    let operator = built::program("postern-operator").unwrap();
    [("postern-sidecar", Image::sidecar(gate::sidecar().unwrap())), ("postern-operator", Image::operator(&operator))]
}

#[test]
fn an_image_that_is_built_twice_has_the_same_bytes() {
    let folder = temporary_folder("images").unwrap();
    let image = Image::sidecar(gate::sidecar().unwrap());
    let archives = [1, 2].map(|number| folder.join(format!("{number}.tar")));
    if archives.iter().all(|archive| image.build_anew(archive).unwrap().is_some()) {
        let [one, two] = archives.map(|archive| fs::read(archive).unwrap());
        assert!(one == two, "they differ");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_image_runs_as_any_user_on_a_root_that_is_read_only() {
    let Some(cluster) = Cluster::shared().unwrap() else { return };
    let namespace = cluster.namespace("images").unwrap();
    for (program, image) in images() {
        let name = cluster.load(&image).unwrap();
        // The image's own, which has to be seen not to be root's, and one as some platforms give each namespace.
        for user in [None, Some(1_000_680_000)] {
            let pod = format!("{program}-{}", user.unwrap_or_default());
            let mut context = json!({
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
            });
            if let Some(user) = user {
                context["runAsUser"] = user.into();
            }
            let container = json!({
                "name": "program", "image": name, "imagePullPolicy": "Never", "args": ["--version"], "securityContext": context,
            });
            let manifest = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            });
            namespace.apply(&manifest.to_string()).unwrap();
            namespace.wait(&format!("pod/{pod}"), "jsonpath={.status.phase}=Succeeded").unwrap();
            let version = format!("{program} {}\n", env!("CARGO_PKG_VERSION"));
            assert_eq!(namespace.kubectl(&["logs", &pod]).unwrap(), version);
        }
    }
}
