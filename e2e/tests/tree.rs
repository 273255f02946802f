//! What stands in the dependency tree of the sidecar, as it is built to ship.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::process::Command;

fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--locked", "--offline", "-p", package, "-e", "normal,build", "--prefix", "none", "-f", "{p}"])
        .current_dir(postern_e2e::workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_sidecar_has_no_kubernetes_client_and_one_cryptography() {
    let tree = tree("postern-sidecar");
    assert!(tree.contains("pg_query") && tree.contains("aws-lc-rs"), "{tree:?}");
    for banned in ["kube", "kube-core", "k8s-openapi", "ring", "openssl", "native-tls"] {
        assert!(!tree.contains(banned), "{banned} is in the tree of the sidecar");
    }
}
