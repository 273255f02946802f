//! What the documents show is what works: every policy and identity in them is checked, and the sample shop is taken by a cluster.

use std::fs;
use std::process::Command;

use postern_e2e::gate::sidecar;
use postern_e2e::{temporary_folder, workspace};
use serde_json::{Value, json};

use crate::cluster::{Cluster, create};
use crate::on_both;

on_both! {
    the_sample_shop_is_taken_as_it_is => shop;
}

/// The YAML documents of a file: all of it, or a text's blocks.
fn documents(name: &str, text: &str) -> Vec<Value> {
    let blocks: Vec<&str> = if name.ends_with(".md") {
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
    } else {
        vec![text]
    };
    let documents = blocks.iter().flat_map(|block| block.split("\n---\n"));
    documents.map(|document| serde_yaml::from_str(document).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(workspace().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn every_policy_in_the_documents_is_right() {
    let folder = temporary_folder("documents").unwrap();
    let mut policies = 0;
    for (name, text) in files("docs", ".md").into_iter().chain(files("docs/samples/shop", ".yaml")) {
        let objects = documents(&name, &text);
        let of_kind =
            |kind: &str| objects.iter().filter(|object| object["kind"] == kind).cloned().collect::<Vec<Value>>();
        let write = |file: &str, objects: &[Value]| {
            let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
            fs::write(folder.join(file), texts.join("\n---\n")).unwrap();
            folder.join(file)
        };
        let identities = write("identities.yaml", &of_kind("NonHumanIdentity"));
        for policy in of_kind("DatabaseAccessPolicy") {
            policies += 1;
            let mut check = Command::new(sidecar().unwrap());
            check.arg("check").arg("--policy").arg(write("policy.yaml", &[policy])).arg("--identity").arg(&identities);
            let output = check.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    fs::remove_dir_all(folder).unwrap();
    assert!(policies >= 6, "{policies} policies");
}

/// In a namespace where nothing is injected, for no operator is there.
fn shop(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    for (name, text) in files("docs/samples/shop", ".yaml") {
        for mut object in documents(&name, &text) {
            object["metadata"]["namespace"] = json!(namespace);
            create(cluster.admin, &object).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }
    // The database's own pod is made, beside the policy that guards the login.
    crate::cluster::until("the database has its pod", || {
        let pods = cluster.admin.json(&["get", "pods", "-n", namespace, "-l", "app=pg"]).unwrap();
        !pods["items"].as_array().unwrap().is_empty()
    });
    let operator = "--as=system:serviceaccount:postern-system:postern";
    cluster.admin.kubectl(&["get", "secret", "shop-postern", "-n", namespace, operator]).unwrap();
    cluster.admin.refused(&["get", "secret", "shop-init", "-n", namespace, operator], "").unwrap();
}
