//! Sidecars of other versions than the operator's.

use postern_crds::lease::LEASE_PATH;
use serde_json::{Value, json};

use crate::broker::{Sidecar, running_pod, secrets, version};
use crate::{Shop, on_both};

on_both! {
    a_sidecar_of_another_version_has_a_lease_or_is_told_to_be_too_old => other_versions;
}

fn other_versions(shop: &Shop) {
    running_pod(shop, "app");
    secrets(shop);
    let sidecar = Sidecar::new(shop, "app").granted();
    let lease = sidecar.next(None);
    for recorded in [
        include_str!("../../../crds/recorded/request-0.1.0.json"),
        include_str!("../../../crds/recorded/request-next.json"),
    ] {
        // It has another lease, and gets this one; then it has this one, and waits for nothing.
        let mut request: Value = serde_json::from_str(recorded).unwrap();
        let answer = sidecar.with_token(LEASE_PATH, &request.to_string());
        assert_eq!((answer.status, version(&answer.body)), (200, version(&lease)), "{recorded}");
        (request["version"], request["wait"]) = (json!(version(&lease)), json!(0));
        assert_eq!(sidecar.with_token(LEASE_PATH, &request.to_string()).status, 204, "{recorded}");
    }

    let says = |sidecar_version: &str, unusable: Option<&str>| {
        let report = json!({"sidecar": sidecar_version, "unusable": unusable});
        let request = json!({"version": version(&lease), "wait": 0, "report": report});
        assert_eq!(sidecar.with_token(LEASE_PATH, &request.to_string()).status, 204);
    };
    says("0.0.9", Some("it requires what this version of the sidecar doesn't know: time-travel/v2"));
    let condition = shop.condition("dap/shop", "Stalled", "True");
    assert_eq!(condition["reason"], "SidecarTooOld", "{condition}");
    assert!(condition["message"].as_str().unwrap().contains("time-travel/v2"), "{condition}");
    assert_eq!(shop.get(&["dap/shop"])["status"]["reports"]["postern-0"]["oldestSidecar"], "0.0.9");
    says(env!("CARGO_PKG_VERSION"), None);
    shop.condition("dap/shop", "Stalled", "False");
}
