//! What an upgrade would touch, said before it by the chart's own rights for that.

use std::process::Command;

use postern_e2e::kubernetes::operator::{SIDECAR_IMAGE, preflight};
use postern_e2e::kubernetes::{ApiServer, NEWEST, operator};
use serde_json::{Value, json};

use crate::broker::{running_pod, secrets};
use crate::{Operator, Shop, asks, deployment, eventually, helm, identity, pod, policy};

const NEW_IMAGE: &str =
    "registry.example/postern-sidecar@sha256:0d5e52ecb1ba24b64f8e3e0cd9ee8d59a8a2ce1de6de4a1a1a26a6e1b3ba1f2c";

#[test]
fn an_upgrade_is_stopped_where_what_works_would_not_and_else_says_what_it_touches() {
    let Some(server) = ApiServer::start(NEWEST).unwrap() else { return };
    let Some(helm) = helm().unwrap() else { return };
    let admin = server.admin();
    let looked = |image: &str| preflight(&server, &helm, &[&format!("--sidecar-image={image}")]).unwrap();
    operator::install(&server, &helm).unwrap();
    // Nothing is there yet, not even the definitions.
    let (code, report) = looked(NEW_IMAGE);
    assert_eq!((code, &report["findings"]), (0, &json!([])));

    let operator = Operator::start(&server, "postern-0").unwrap();
    let namespace = "shop".to_owned();
    admin.kubectl(&["create", "namespace", &namespace]).unwrap();
    let shop = Shop { admin, operator: &operator, namespace };
    secrets(&shop);
    shop.apply(&identity("report", "default"));
    let mut restarted = policy("shop");
    restarted["spec"]["sidecar"]["restartOnChange"] = json!(true);
    shop.apply(&restarted);
    shop.apply(&policy("calm"));
    running_pod(&shop, "alone");
    shop.apply(&deployment("app", &asks("shop")));
    shop.apply(&pod("calm", &asks("calm")));
    shop.pod("app=app");
    let in_force = || (shop.get(&["dap/calm"])["status"]["generationInForce"] == 1).then_some(());
    eventually(in_force).expect("the policies are in force");

    // The same version and the same image touch nothing.
    let (code, report) = looked(SIDECAR_IMAGE);
    assert_eq!((code, &report["blocked"]), (0, &json!(false)), "{report}");
    assert!(!findings(&report).iter().any(|finding| finding.starts_with("warns")), "{report}");

    // Another image touches pods, by what their policy says.
    let (code, report) =
        preflight(&server, &helm, &[&format!("--sidecar-image={NEW_IMAGE}"), "--restart-workloads=true"]).unwrap();
    assert_eq!(code, 0, "{report}");
    let mut found = findings(&report);
    found.sort();
    assert_eq!(
        found,
        [
            "notes SidecarsOutdated Pod/shop/calm",
            "warns Restarted Deployment/shop/app",
            "warns Restarted Pod/shop/alone"
        ]
    );

    // What a version before took and this one does not: with a good spec that is kept it goes on, without one it would end.
    operator.process().unwrap().signal("KILL").unwrap();
    let mut strange = policy("calm");
    strange["spec"]["rules"][0]["powers"] = json!("all");
    unseen(&shop, &strange);
    let (code, report) = looked(SIDECAR_IMAGE);
    assert_eq!(code, 0, "{report}");
    assert!(findings(&report).contains(&"notes LastGoodInForce DatabaseAccessPolicy/shop/calm".to_owned()), "{report}");
    shop.kubectl(&["delete", "controllerrevisions", "--all"]);
    let (code, report) = looked(SIDECAR_IMAGE);
    assert_eq!((code, &report["blocked"]), (1, &json!(true)), "{report}");
    assert!(findings(&report).contains(&"blocks NothingInForce DatabaseAccessPolicy/shop/calm".to_owned()), "{report}");
    assert!(report.to_string().contains("powers"), "{report}");
    // What has mistakes for this version as well is nobody's surprise.
    let status = json!({"status": {"generationInForce": null}}).to_string();
    shop.kubectl(&["patch", "dap", "calm", "--subresource=status", "--type=merge", "-p", &status]);
    assert_eq!(looked(SIDECAR_IMAGE).0, 0);

    // Sidecars that are too old, Secrets that can't be read, and definitions of another version.
    let unreadable = json!([{
        "type": "CredentialsReadable", "status": "False", "reason": "CredentialsUnreadable", "message": "no right",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    let reports = json!({"postern-9": {"oldestSidecar": "9.0.0"}});
    let status = json!({"status": {"reports": reports, "conditions": unreadable}}).to_string();
    shop.kubectl(&["patch", "dap", "shop", "--subresource=status", "--type=merge", "-p", &status]);
    let name = "databaseaccesspolicies.postern.dev";
    admin.kubectl(&["annotate", "crd", name, "--overwrite", "postern.dev/version=99.0.0"]).unwrap();
    let (code, report) = looked(SIDECAR_IMAGE);
    assert_eq!(code, 0, "{report}");
    let found = findings(&report);
    for expected in [
        "warns SidecarTooNew DatabaseAccessPolicy/shop/shop".to_owned(),
        "warns CredentialsUnreadable DatabaseAccessPolicy/shop/shop".to_owned(),
        format!("warns DefinitionNewer CustomResourceDefinition/{name}"),
    ] {
        assert!(found.contains(&expected), "{expected}: {report}");
    }
}

#[test]
fn a_preflight_says_which_right_is_missing_and_not_that_nothing_is_in_the_way() {
    let Some(server) = ApiServer::shared(NEWEST).unwrap() else { return };
    let Some(_shop) = crate::shop(NEWEST) else { return };
    let user = server.user("somebody", &[]).unwrap();
    let mut command = Command::new(operator::program().unwrap());
    let output = command.arg("preflight").env("KUBECONFIG", user.kubeconfig()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("databaseaccesspolicies.postern.dev"), "{said}");
    assert!(output.stdout.is_empty());
}

fn findings(report: &Value) -> Vec<String> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = report["findings"].as_array().unwrap().iter();
    all.map(|it| [text(it, "weight"), text(it, "reason"), text(it, "object")].join(" ")).collect()
}

/// Writes what no webhook is asked about, for the operator is away.
fn unseen(shop: &Shop, object: &Value) {
    let patch = json!({"webhooks": [{"name": "validation.postern.dev", "failurePolicy": "Ignore"}]}).to_string();
    shop.admin
        .kubectl(&["patch", "validatingwebhookconfiguration", "postern", "--type=strategic", "-p", &patch])
        .unwrap();
    let arguments = ["replace", "--validate=false", "-n", &shop.namespace, "-f", "-"];
    shop.admin.with_input(&arguments, &object.to_string()).unwrap();
}
