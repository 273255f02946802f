//! `kubectl postern`, by the rights of who runs it.

use std::path::Path;
use std::process::{Command, Output};

use postern_e2e::gate;
use postern_e2e::kubernetes::operator::program;
use postern_e2e::kubernetes::{ApiServer, Namespace};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use serde_json::{Value, json};

use crate::broker::{Sidecar, running_pod, secrets};
use crate::{NEWEST, Shop, eventually, identity, on_both};

on_both! {
    status_says_what_is_in_force_and_what_is_wrong => status;
    a_revoked_identity_ends_leases_and_its_manifest_gives_it_back => revoked;
    sessions_name_pod_identity_and_policy_and_a_revoked_pod_is_gone => sessions;
}

fn postern(kubeconfig: &Path, arguments: &[&str]) -> Output {
    let plugin = program().unwrap().with_file_name("kubectl-postern");
    let mut command = Command::new("timeout");
    command.args(["120"]).arg(plugin).args(arguments).env("KUBECONFIG", kubeconfig);
    command.env("POSTERN_SIDECAR", gate::sidecar().unwrap()).output().unwrap()
}

fn said(shop: &Shop, arguments: &[&str]) -> (i32, String, String) {
    let output = postern(shop.admin.kubeconfig(), &[arguments, &["-n", &shop.namespace]].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn status(shop: &Shop) {
    secrets(shop);
    let well = || (said(shop, &["status"]).0 == 0).then_some(());
    // What was applied before the Role that the policy needs is looked at again by and by.
    shop.kubectl(&["annotate", "dap", "shop", "look=again"]);
    eventually(well).unwrap_or_else(|| panic!("{:?}", said(shop, &["status"])));
    let (_, table, _) = said(shop, &["status"]);
    assert!(table.contains("policy/shop") && table.contains("identity/report") && table.contains("well"), "{table}");

    let mut wrong = crate::policy("shop");
    wrong["spec"]["powers"] = json!("all");
    shop.without_validation(&wrong);
    let told = || Some(said(shop, &["status"])).filter(|(code, table, _)| *code == 1 && table.contains("powers"));
    let (_, table, _) = eventually(told).expect("mistakes are told");
    assert!(table.contains("policy/shop in ") && table.contains("LastGoodInForce"), "{table}");
    let (code, report, _) = said(shop, &["status", "--output=json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report[0]["object"], &report[0]["generationInForce"]), (1, &json!("policy/shop"), &json!(1)));
    assert_eq!(report[1]["wrong"], json!([]));
}

fn revoked(shop: &Shop) {
    running_pod(shop, "app");
    secrets(shop);
    let sidecar = Sidecar::new(shop, "app").granted();
    let lease = sidecar.next(None);
    let (code, manifest, hit) = said(shop, &["revoke", "report", "--dry-run"]);
    assert_eq!((code, manifest.as_str()), (0, ""), "{hit}");
    assert!(hit.contains("pod app loses its lease"), "{hit}");
    shop.get(&["nhi", "report"]);

    let (code, manifest, hit) = said(shop, &["revoke", "report"]);
    assert_eq!(code, 0, "{hit}");
    assert_eq!(sidecar.refusal(crate::broker::version(&lease)).error(), (403, "unauthorized_client"));
    let gone = || shop.get(&["nhi"])["items"].as_array().is_some_and(Vec::is_empty).then_some(());
    eventually(gone).expect("the identity goes");
    shop.admin.with_input(&["apply", "-f", "-"], &manifest).unwrap();
    sidecar.next(None);
    let (code, _, why) = said(shop, &["revoke", "nobody"]);
    assert!(code == 2 && why.contains("nobody"), "{why}");
}

fn sessions(shop: &Shop) {
    let (code, table, _) = said(shop, &["sessions"]);
    assert_eq!((code, table.as_str()), (0, "No pod has a sidecar.\n"));
    running_pod(shop, "app");
    let ready = json!({"status": {"initContainerStatuses": [{
        "name": "postern", "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
    }]}});
    shop.kubectl(&["patch", "pod", "app", "--subresource=status", "--type=merge", "-p", &ready.to_string()]);
    let (code, report, why) = said(shop, &["sessions", "--output=json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let row = &report[0];
    assert_eq!((code, &row["pod"], &row["policy"]), (0, &json!("app"), &json!("shop")), "{row}");
    assert_eq!((&row["identity"], &row["ready"]), (&json!("report (reporting_ro)"), &json!(true)));
    // There is no node on which the pod would run; that is said, and is no number.
    assert!(row["sessions"].is_null() && why.contains("pods/proxy"), "{row} {why}");

    let (code, _, hit) = said(shop, &["revoke", "--pod", "app"]);
    assert!(code == 0 && hit.contains("nothing makes another one"), "{hit}");
    let gone = || shop.get(&["pods"])["items"].as_array().is_some_and(Vec::is_empty).then_some(());
    eventually(gone).expect("the pod goes");
    let (code, _, usage) = said(shop, &["revoke"]);
    assert_eq!(code, 2, "{usage}");
}

#[test]
fn a_statement_is_explained_by_what_the_cluster_has_and_only_by_who_may_read_that() {
    let Some(shop) = crate::shop(NEWEST) else { return };
    let server = Server::shared().unwrap();
    let database = server.database_with("CREATE TABLE customers (id int, email text)").unwrap();
    let mut masked = crate::policy("shop");
    masked["spec"]["masks"] = json!([{"columns": ["public.customers.email"], "mask": {"email": {}}}]);
    shop.apply(&masked);
    let mut known = identity("report", "default");
    known["spec"]["postgresRole"] = json!(ADMIN);
    shop.apply(&known);
    let dsn = format!("postgres://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{}/{}", server.port(), database.name);
    let explain = |sql: &str| {
        let more = ["--", "--database", &dsn, "--output", "json"];
        let words = ["explain", "-n", &shop.namespace, "--as", "report", sql];
        let output = postern(shop.admin.kubeconfig(), &[&words[..], &more].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, report, why) = explain("SELECT email FROM customers");
    assert_eq!(code, 0, "{report}{why}");
    assert!(report.contains("split_part") || report.contains("regexp_replace") || report.contains("left("), "{report}");
    let (code, report, why) = explain("DELETE FROM customers");
    assert_eq!(code, 1, "{report}{why}");

    // Who may not read policies is told so, and learns nothing.
    let api = ApiServer::shared(NEWEST).unwrap().unwrap();
    let user = api.user("nosy", &[]).unwrap();
    let own = Namespace::new(shop.admin, "plugin", &[]).unwrap();
    for namespace in [shop.namespace.as_str(), own.name()] {
        for command in
            [&["status"][..], &["sessions"], &["explain", "--as", "report", "SELECT 1"], &["revoke", "report"]]
        {
            let output = postern(user.kubeconfig(), &[command, &["-n", namespace]].concat());
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{why}");
            assert!(why.contains("forbidden"), "{command:?}: {why}");
        }
    }
}
