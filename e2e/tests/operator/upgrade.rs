//! Another version of the chart over this one, and back, while pods of both hold leases. There is one version of the
//! program only; what another one would leave in the cluster is put there.

use std::fs;
use std::process::Command;

use postern_e2e::kubernetes::operator::{self, NAMESPACE, Operator, SIDECAR_IMAGE};
use postern_e2e::kubernetes::{ApiServer, NEWEST, helm};
use serde_json::{Value, json};

use crate::broker::{Sidecar, running_pod, secrets};
use crate::{Shop, eventually, identity, policy};

/// What the other version gives to pods.
const OTHER_IMAGE: &str =
    "registry.example/postern-sidecar@sha256:0d5e52ecb1ba24b64f8e3e0cd9ee8d59a8a2ce1de6de4a1a1a26a6e1b3ba1f2c";

#[test]
fn an_upgrade_and_its_rollback_keep_leases_and_never_lower_a_definition() {
    let Some(server) = ApiServer::start(NEWEST).unwrap() else { return };
    let Some(helm) = helm().unwrap() else { return };
    let admin = server.admin();
    let release = |arguments: &[&str]| {
        let mut command = Command::new(&helm);
        command.args(arguments).args(["--namespace", NAMESPACE, "--kubeconfig"]).arg(admin.kubeconfig());
        let output = command.output().unwrap();
        assert!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    operator::install(&server, &helm).unwrap();
    let first = Operator::start(&server, "postern-0").unwrap();
    let broker = first.broker();
    let namespace = "shop".to_owned();
    admin.kubectl(&["create", "namespace", &namespace]).unwrap();
    let shop = Shop { admin, operator: &first, namespace: namespace.clone() };
    shop.apply(&identity("report", "default"));
    shop.apply(&policy("shop"));
    secrets(&shop);
    running_pod(&shop, "old");
    let old = Sidecar::new(&shop, "old").granted();
    let lease = old.next(None);
    let kept = || shop.get(&["controllerrevisions"])["items"].as_array().is_some_and(|all| all.len() > 1).then_some(());
    eventually(kept).expect("the specs are kept");

    // The other version: its chart, its image, and definitions with a field that this one does not know.
    let chart = postern_e2e::temporary_folder("chart").unwrap();
    let copied = Command::new("cp").arg("-r").arg(postern_e2e::workspace().join("charts/postern")).arg(&chart).status();
    assert!(copied.unwrap().success());
    let chart_file = chart.join("postern/Chart.yaml");
    let text = fs::read_to_string(&chart_file).unwrap().replace(env!("CARGO_PKG_VERSION"), "99.0.0");
    assert!(text.contains("99.0.0"), "{text}");
    fs::write(&chart_file, text).unwrap();
    let definition = ["customresourcedefinition", "databaseaccesspolicies.postern.dev"];
    let future = json!([
        {"op": "replace", "path": "/metadata/annotations/postern.dev~1version", "value": "99.0.0"},
        {"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/future",
            "value": {"type": "string"}},
    ]);
    let newer = || -> bool {
        let there = admin.json(&[&["get"][..], &definition].concat()).unwrap();
        let spec = &there["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        there["metadata"]["annotations"]["postern.dev/version"] == "99.0.0" && spec["properties"]["future"].is_object()
    };
    drop(first);
    let bundles = || {
        let all = admin.json(&["get", "mutatingwebhookconfiguration", "postern"]).unwrap();
        let webhooks = all["webhooks"].as_array().unwrap().clone();
        webhooks.iter().map(|it| it["clientConfig"]["caBundle"].clone()).collect::<Vec<Value>>()
    };
    let trusted = bundles();
    assert!(trusted.iter().all(Value::is_string), "{trusted:?}");
    operator::send_webhooks(admin, None).unwrap();
    // No node runs the hook.
    release(&["upgrade", "--no-hooks", "postern", chart.join("postern").to_str().unwrap()]);
    fs::remove_dir_all(&chart).unwrap();
    assert_eq!(bundles(), trusted, "the API server believes the replicas that are there");
    admin.kubectl(&[&["patch"][..], &definition, &["--type=json", "-p", &future.to_string()]].concat()).unwrap();

    let second = Operator::start_again(&server, "postern-1", broker, OTHER_IMAGE).unwrap();
    let shop = Shop { admin, operator: &second, namespace: namespace.clone() };
    assert!(newer(), "a definition was lowered");
    // A sidecar of before is served by its access token, and by another one; and so is one of now.
    assert_eq!(old.next(None)["version"], lease["version"]);
    let old = Sidecar::new(&shop, "old").granted();
    running_pod(&shop, "new");
    let image = |pod: &str| shop.get(&["pod", pod])["spec"]["initContainers"][0]["image"].clone();
    assert_eq!((image("old"), image("new")), (json!(SIDECAR_IMAGE), json!(OTHER_IMAGE)));
    let new = Sidecar::new(&shop, "new").granted();
    new.next(None);
    drop(second);

    operator::send_webhooks(admin, None).unwrap();
    release(&["rollback", "postern", "1"]);
    assert_eq!(bundles(), trusted);
    // With what only the other version knows, and that was written while no operator looked.
    let mut written = policy("shop");
    written["spec"]["future"] = json!("bright");
    let replace = ["replace", "--validate=false", "-n", &namespace, "-f", "-"];
    admin.with_input(&replace, &written.to_string()).unwrap();
    let third = Operator::start_again(&server, "postern-2", broker, SIDECAR_IMAGE).unwrap();
    let shop = Shop { admin, operator: &third, namespace };
    assert!(newer(), "a definition was lowered");
    for (pod, access) in [("old", old), ("new", new)] {
        assert_eq!(access.next(None)["policy"]["metadata"]["name"], "shop", "{pod}");
        Sidecar::new(&shop, pod).granted().next(None);
    }
    running_pod(&shop, "again");
    assert_eq!(shop.get(&["pod", "again"])["spec"]["initContainers"][0]["image"], SIDECAR_IMAGE);
    let stalled = eventually(|| {
        let conditions = shop.get(&["dap", "shop"])["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|it: &Value| it["type"] == "Stalled" && it["status"] == "True")
    });
    let message = stalled.expect("it is told")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("future"), "{message}");
    let in_force = Sidecar::new(&shop, "old").granted().next(None);
    assert_eq!(in_force["policy"]["spec"], lease["policy"]["spec"], "what was in force stays");
}
