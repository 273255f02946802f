//! The controllers: what `kubectl get`, `kubectl wait` and whoever deletes see.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::operator::{self, NAMESPACE, Operator};
use postern_e2e::kubernetes::{ApiServer, NEWEST, helm};
use serde_json::{Value, json};

use crate::{Shop, UNSEEN, asks, deployment, eventually, identity, on_both, pod, policy, shop};

on_both! {
    a_good_object_is_ready_once_its_secrets_can_be_read_and_it_is_said_how => ready;
    mistakes_stall_a_policy_and_its_last_good_spec_stays => stalled;
    ready_sidecars_are_counted => counted;
    workloads_that_ask_for_a_sidecar_past_the_webhook_are_told => missing;
    a_deleted_policy_goes_and_so_does_its_namespace => deleted;
    a_second_look_writes_nothing => nothing_written;
}

impl Shop<'_> {
    /// The condition of an object, once its status is as expected.
    pub(crate) fn condition(&self, object: &str, type_: &str, status: &str) -> Value {
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

#[test]
fn outdated_sidecars_are_told_and_replaced_one_at_a_time_where_it_is_asked_for() {
    let Some(shop) = shop(NEWEST) else { return };
    let mut app = deployment("app", &asks("shop"));
    app["spec"]["replicas"] = json!(2);
    shop.apply(&app);
    let live = || {
        let pods = shop.get(&["pods", "-l", "app=app"])["items"].as_array().unwrap().clone();
        pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect::<Vec<_>>()
    };
    let uids = || live().iter().map(|pod| pod["metadata"]["uid"].to_string()).collect::<BTreeSet<_>>();
    eventually(|| (live().len() == 2).then_some(())).expect("two pods");
    let first = uids();
    shop.condition("dap/shop", "SidecarsCurrent", "True");
    let mut changed = policy("shop");
    changed["spec"]["sidecar"]["env"] = json!({"DATABASE_URL": "postgres://{user}@{host}:{port}/{database}"});
    shop.apply(&changed);
    let condition = shop.condition("dap/shop", "SidecarsCurrent", "False");
    assert_eq!(condition["reason"], "SidecarsOutdated");
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains("Deployment/app (2); `kubectl rollout restart Deployment/app"), "{message}");
    let (_, metrics) = shop.operator.admin("/metrics").unwrap();
    assert!(metrics.contains(r#"postern_operator_pods{sidecar="outdated"}"#), "{metrics}");

    // Asked for, it waits until all are ready. Then one of them goes, and the other one stays until the new one is ready.
    changed["spec"]["sidecar"]["restartOnChange"] = json!(true);
    shop.apply(&changed);
    std::thread::sleep(Duration::from_secs(75));
    assert_eq!(uids(), first, "nothing is ready");
    let all_are_ready = || {
        for pod in live() {
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}).to_string();
            let name = pod["metadata"]["name"].as_str().unwrap();
            shop.kubectl(&["patch", "pod", name, "--subresource=status", "-p", &status]);
        }
    };
    all_are_ready();
    let replaced = |count: usize| {
        let replaced = eventually(|| (live().len() == 2 && first.difference(&uids()).count() == count).then_some(()));
        replaced.unwrap_or_else(|| panic!("{count} are not replaced: {}", shop.operator.log()));
    };
    replaced(1);
    std::thread::sleep(Duration::from_secs(35));
    assert_eq!(first.difference(&uids()).count(), 1, "the other one stays");
    all_are_ready();
    replaced(2);
    shop.condition("dap/shop", "SidecarsCurrent", "True");
    // On the Deployment, so that describing it shows that.
    let uid = shop.get(&["deployment", "app"])["metadata"]["uid"].clone();
    let told = || {
        let events = shop.get(&["events.events.k8s.io"])["items"].as_array()?.clone();
        events.iter().any(|it| it["reason"] == "Restarted" && it["regarding"]["uid"] == uid).then_some(())
    };
    eventually(told).expect("an Event");
}

fn missing(shop: &Shop) {
    shop.condition("dap/shop", "SidecarsCurrent", "True");
    let mut past = deployment("past", &asks("shop"));
    past["metadata"]["labels"] = json!({UNSEEN: "true"});
    shop.apply(&past);
    let condition = shop.condition("dap/shop", "SidecarsCurrent", "False");
    assert_eq!(condition["reason"], "SidecarsMissing");
    assert!(condition["message"].as_str().unwrap().contains("Deployment/past"), "{condition}");
    // Seen by the webhook it has its annotation in the template too, and is in order.
    shop.kubectl(&["label", "deployment", "past", &format!("{UNSEEN}-")]);
    shop.apply(&deployment("past", &asks("shop")));
    shop.condition("dap/shop", "SidecarsCurrent", "True");
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
    let admin = server.admin();
    // Made before Postern was there.
    for object in [pod("before", &asks("shop")), deployment("before", &asks("shop"))] {
        admin.apply(&object.to_string()).unwrap();
    }
    operator::install(&server, &helm).unwrap();
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
    admin.apply(&policy("shop").to_string()).unwrap();
    let current = |status: &str| {
        let condition = eventually(|| {
            let policy = admin.json(&["get", "dap", "shop"]).unwrap();
            let conditions = policy["status"]["conditions"].as_array()?.clone();
            conditions.into_iter().find(|it| it["type"] == "SidecarsCurrent" && it["status"] == status)
        });
        condition.unwrap_or_else(|| panic!("{}", second.log()))["message"].as_str().unwrap().to_owned()
    };
    // What it says to do helps.
    let message = current("False");
    assert!(message.contains("Deployment/before, Pod/before"), "{message}");
    for command in message.split('`').nth(1).unwrap().split(" && ") {
        admin.kubectl(&command.split_whitespace().skip(1).collect::<Vec<_>>()).unwrap();
    }
    eventually(|| (!current("False").contains("Deployment/before")).then_some(())).expect("the Deployment is mended");
    let message = current("False");
    assert!(
        message.contains("`kubectl get Pod/before -n default -o yaml | kubectl replace --force -f -`"),
        "{message}"
    );
    let whole = admin.kubectl(&["get", "Pod/before", "-o", "yaml"]).unwrap();
    admin.with_input(&["replace", "--force", "-f", "-"], &whole).unwrap();
    current("True");
    drop(second);
    operator::uninstall(&server, &helm).unwrap();
    admin.kubectl(&["delete", "nhi/report", "dap/shop", "--timeout=60s"]).unwrap();
}
