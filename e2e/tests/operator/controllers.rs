//! The controllers: what `kubectl get`, `kubectl wait` and whoever deletes see.

use std::time::{Duration, Instant};

use postern_e2e::kubernetes::operator::{self, NAMESPACE, Operator};
use postern_e2e::kubernetes::{ApiServer, NEWEST, helm};
use serde_json::{Value, json};

use crate::{Shop, asks, eventually, identity, on_both, pod, policy};

on_both! {
    a_good_object_is_ready_once_its_secrets_can_be_read_and_it_is_said_how => ready;
    mistakes_stall_a_policy_and_its_last_good_spec_stays => stalled;
    ready_sidecars_are_counted => counted;
    a_deleted_policy_goes_and_so_does_its_namespace => deleted;
    a_second_look_writes_nothing => nothing_written;
}

impl Shop {
    /// The condition of an object, once its status is as expected.
    fn condition(&self, object: &str, type_: &str, status: &str) -> Value {
        let found = eventually(|| {
            let object = self.get(&[object]);
            let conditions = object["status"]["conditions"].as_array()?;
            let condition = conditions.iter().find(|it| it["type"] == type_ && it["status"] == status)?;
            (condition["observedGeneration"] == object["metadata"]["generation"]).then(|| condition.clone())
        });
        found.unwrap_or_else(|| panic!("{type_} of {object}: {}\n{}", self.get(&[object]), self.operator.log()))
    }

    fn secrets(&self) {
        for (name, key, value) in [("shop-pg-ca", "ca.crt", "none"), ("shop-postern", "username", "postern")] {
            self.kubectl(&["create", "secret", "generic", name, &format!("--from-literal={key}={value}")]);
        }
    }
}

fn ready(shop: &Shop) {
    shop.condition("nhi/report", "Ready", "True");
    shop.secrets();
    let message = shop.condition("dap/shop", "CredentialsReadable", "False")["message"].as_str().unwrap().to_owned();
    // What it says to do helps.
    let commands: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands.len(), 2, "{message}");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        shop.admin.kubectl(&arguments).unwrap();
    }
    let missing = eventually(|| {
        let condition = shop.condition("dap/shop", "CredentialsReadable", "False");
        condition["message"].as_str().filter(|message| message.contains("no key password")).map(str::to_owned)
    });
    assert_eq!(missing.unwrap(), "Secret shop-postern has no key password");
    shop.kubectl(&["patch", "secret", "shop-postern", "-p", r#"{"stringData": {"password": "secret"}}"#]);
    shop.condition("dap/shop", "CredentialsReadable", "True");
    shop.condition("dap/shop", "Ready", "True");
    for object in ["dap/shop", "nhi/report"] {
        shop.kubectl(&["wait", object, "--for=condition=Ready", "--timeout=10s"]);
        shop.condition(object, "Stalled", "False");
        shop.condition(object, "Reconciling", "False");
    }
}

fn stalled(shop: &Shop) {
    shop.condition("dap/shop", "Stalled", "False");
    // As it is when the operator is away: the webhook that would refuse it is passed by.
    let mut mistyped = policy("shop");
    mistyped["spec"]["rules"][0]["rowFilter"] = json!([]);
    shop.without_validation(&mistyped);
    let condition = shop.condition("dap/shop", "Stalled", "True");
    assert_eq!(condition["reason"], "Invalid");
    assert!(condition["message"].as_str().unwrap().contains("rowFilters"), "{condition}");
    let condition = shop.condition("dap/shop", "Ready", "False");
    assert_eq!(condition["reason"], "LastGoodInForce");
    let status = &shop.get(&["dap/shop"])["status"];
    assert_eq!((&status["observedGeneration"], &status["generationInForce"]), (&json!(2), &json!(1)), "{status}");
    // Pods can be made under what is in force.
    shop.apply(&pod("app", &asks("shop")));
    shop.apply(&policy("shop"));
    shop.condition("dap/shop", "Stalled", "False");
}

fn counted(shop: &Shop) {
    shop.apply(&pod("app", &asks("shop")));
    let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let status = json!({"status": {
        "phase": "Running",
        "initContainerStatuses": [{
            "name": "postern", "image": "i", "imageID": "i", "ready": true, "started": true, "restartCount": 0, "state": state,
        }],
    }});
    let patch = status.to_string();
    shop.kubectl(&["patch", "pod", "app", "--subresource=status", "--type=merge", "-p", &patch]);
    for object in ["dap/shop", "nhi/report"] {
        let count = eventually(|| (shop.get(&[object])["status"]["sidecars"] == 1).then_some(()));
        count.unwrap_or_else(|| panic!("{object}: {}", shop.get(&[object])));
    }
    let table = shop.kubectl(&["get", "dap,nhi"]);
    assert!(table.contains("SIDECARS"), "{table}");
}

fn deleted(shop: &Shop) {
    let has_finalizer = |object: &str| {
        let finalizers = &shop.get(&[object])["metadata"]["finalizers"];
        finalizers.as_array().is_some_and(|all| all.contains(&json!("postern.dev/leases"))).then_some(())
    };
    for object in ["dap/shop", "nhi/report"] {
        eventually(|| has_finalizer(object)).expect("a finalizer");
    }
    shop.kubectl(&["delete", "dap", "shop", "--timeout=120s"]);
    shop.admin.kubectl(&["delete", "namespace", &shop.namespace, "--timeout=180s"]).unwrap();
}

fn nothing_written(shop: &Shop) {
    shop.condition("nhi/report", "Ready", "True");
    shop.condition("dap/shop", "CredentialsReadable", "False");
    let versions = || {
        let of = |object: &str| shop.get(&[object])["metadata"]["resourceVersion"].clone();
        (of("dap/shop"), of("nhi/report"), shop.get(&["controllerrevisions"])["items"].as_array().unwrap().len())
    };
    // The last of its own changes may still be on the way back.
    let mut before = versions();
    let settled = eventually(|| {
        std::thread::sleep(Duration::from_secs(1));
        let now = versions();
        let same = now == before;
        before = now;
        same.then_some(())
    });
    settled.expect("it never settles");
    assert_eq!(before.2, 2, "a good spec of each is kept");
    // An unreadable Secret is looked at every 15 s: long enough for one more look.
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(versions(), before);
}

#[test]
fn another_replica_leads_when_the_leader_is_gone_and_an_uninstall_leaves_nothing_that_cant_be_deleted() {
    let Some(server) = ApiServer::start(NEWEST).unwrap() else { return };
    let Some(helm) = helm().unwrap() else { return };
    operator::install(&server, &helm).unwrap();
    let admin = server.admin();
    let first = Operator::start(&server, "postern-0").unwrap();
    let holder = || {
        let lease = admin.json(&["get", "lease", "postern-leader", "-n", NAMESPACE]).ok()?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
    assert_eq!(eventually(|| holder().filter(|holder| holder == "postern-0")).as_deref(), Some("postern-0"));
    let second = Operator::start(&server, "postern-1").unwrap();
    drop(first);
    let began = Instant::now();
    assert_eq!(eventually(|| holder().filter(|holder| holder == "postern-1")).as_deref(), Some("postern-1"));
    eprintln!("the next replica led after {} s", began.elapsed().as_secs());
    admin.apply(&identity("report", "default").to_string()).unwrap();
    eventually(|| admin.json(&["get", "nhi", "report"]).unwrap()["metadata"]["finalizers"].as_array().map(|_| ()))
        .expect("the new leader works");
    drop(second);
    operator::uninstall(&server, &helm).unwrap();
    admin.kubectl(&["delete", "nhi", "report", "--timeout=60s"]).unwrap();
}
