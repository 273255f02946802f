//! The webhooks: what users see who annotate, apply and mistype.

use postern_e2e::kubernetes::operator::{self, NAMESPACE, Operator, SIDECAR_IMAGE};
use postern_e2e::kubernetes::{ApiServer, NEWEST, OLDEST, helm};
use serde_json::json;

use crate::{Shop, asks, deployment, eventually, identity, on_both, pod, pod_template, policy};

on_both! {
    the_pods_of_an_annotated_deployment_reach_the_database_through_the_gate_only => annotated_deployment;
    an_annotation_is_taken_out_of_the_template_with_the_workloads => annotation_taken_off;
    jobs_and_cron_jobs_are_annotated_as_deployments_are => other_workloads;
    a_policy_that_is_not_there_is_refused_at_once => unknown_policy;
    a_pod_without_an_identity_or_with_two_is_refused_and_they_are_named => no_one_identity;
    several_policies_have_a_sidecar_and_a_port_each => several_policies;
    a_policy_with_mistakes_is_refused_with_the_compilers_text => mistakes;
    metrics_count_what_was_asked => metrics;
}

fn annotated_deployment(shop: &Shop) {
    shop.apply(&deployment("app", &asks("shop")));
    let template = &shop.get(&["deployment", "app"])["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["postern.dev/inject"], "shop");
    let pod = shop.pod("app=app");
    assert_eq!(pod["metadata"]["labels"]["postern.dev/injected"], "true");
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!((&sidecar["name"], &sidecar["image"]), (&json!("postern"), &json!(SIDECAR_IMAGE)));
    assert_eq!(sidecar["restartPolicy"], "Always");
    let broker = format!("--broker=https://127.0.0.1:{}", shop.operator.broker());
    assert!(sidecar["args"].as_array().unwrap().contains(&json!(broker)), "{sidecar}");
    assert!(sidecar["env"][0]["value"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    // The default API token is shadowed.
    let mounts = sidecar["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
        && mount["name"].as_str().unwrap().starts_with("postern-")));
    let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| {
        let found: Vec<_> = environment.iter().filter(|entry| entry["name"] == name).collect();
        assert!(found.len() <= 1, "{name} twice");
        found.first().and_then(|entry| entry["value"].as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!(
        (value("PGHOST"), value("PGPORT"), value("PGUSER")),
        ("127.0.0.1".into(), "6432".into(), "reporting_ro".into())
    );
    assert_eq!(value("DATABASE_URL"), "postgresql://reporting_ro@127.0.0.1:6432/shop");
    assert_eq!(value("PGPASSWORD"), "");
    for (kind, name) in [("DatabaseAccessPolicy", "shop"), ("Deployment", "app")] {
        let found = eventually(|| {
            let events = shop.get(&["events.events.k8s.io"]);
            let mut events = events["items"].as_array()?.clone().into_iter();
            events.find(|it| {
                it["regarding"]["kind"] == kind && it["regarding"]["name"] == name && it["reason"] == "Injected"
            })
        });
        assert_eq!(found.expect(kind)["note"], "a pod of app gets its sidecar");
    }
}

fn annotation_taken_off(shop: &Shop) {
    shop.apply(&deployment("app", &json!({})));
    let annotation = || {
        let deployment = shop.get(&["deployment", "app"]);
        deployment["spec"]["template"]["metadata"]["annotations"].get("postern.dev/inject").cloned()
    };
    assert_eq!(annotation(), None);
    shop.kubectl(&["annotate", "deployment", "app", "postern.dev/inject=shop"]);
    assert_eq!(annotation(), Some(json!("shop")));
    shop.kubectl(&["scale", "deployment", "app", "--replicas=3"]);
    shop.kubectl(&["annotate", "deployment", "app", "postern.dev/inject-"]);
    assert_eq!(annotation(), None);
}

fn other_workloads(shop: &Shop) {
    let mut template = pod_template("job", &json!({}));
    template["spec"]["restartPolicy"] = json!("Never");
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "annotations": asks("shop")}, "spec": {"template": template}});
    shop.apply(&job);
    let pod = shop.pod("app=job");
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "postern");
    job["metadata"]["annotations"] = json!({});
    assert!(shop.refused(&job).contains("make it anew"), "a job's pods can't be changed");
    shop.apply(&json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "cron", "annotations": asks("shop")},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}},
    }));
    let template = &shop.get(&["cronjob", "cron"])["spec"]["jobTemplate"]["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["postern.dev/inject"], "shop");
}

fn unknown_policy(shop: &Shop) {
    let said = shop.refused(&deployment("app", &asks("shopp")));
    assert!(said.contains("there is no DatabaseAccessPolicy 'shopp'"), "{said}");
    shop.apply(&deployment("app", &json!({})));
    let arguments = ["-n", &shop.namespace, "annotate", "deployment", "app", "postern.dev/inject=shop,,"];
    let said = shop.admin.refused(&arguments, "").unwrap();
    assert!(said.contains("name a policy"), "{said}");
    // What was annotated before can still be scaled down when its policy is gone.
    shop.apply(&deployment("app", &asks("shop")));
    shop.kubectl(&["delete", "dap", "shop", "--wait=false"]);
    shop.kubectl(&["scale", "deployment", "app", "--replicas=0"]);
    shop.kubectl(&["label", "deployment", "app", "team=blue"]);
}

fn no_one_identity(shop: &Shop) {
    let mut stranger = pod("stranger", &asks("shop"));
    stranger["spec"]["serviceAccountName"] = json!("stranger");
    shop.kubectl(&["create", "serviceaccount", "stranger"]);
    let said = shop.refused(&stranger);
    assert!(said.contains("no NonHumanIdentity") && said.contains("'stranger'"), "{said}");
    shop.apply(&identity("one", "stranger"));
    shop.apply(&stranger);
    let said =
        shop.admin.with_input(&["apply", "-n", &shop.namespace, "-f", "-"], &identity("two", "stranger").to_string());
    assert!(said.is_ok(), "{said:?}");
    stranger["metadata"]["name"] = json!("stranger-2");
    let said = eventually(|| {
        let said = shop
            .admin
            .refused(&["create", "--dry-run=server", "-n", &shop.namespace, "-f", "-"], &stranger.to_string());
        said.ok()
    });
    let said = said.unwrap();
    assert!(said.contains("one and two"), "{said}");
}

fn several_policies(shop: &Shop) {
    let mut other = policy("ledger");
    other["spec"]["sidecar"]["env"] = json!({"LEDGER_URL": "postgresql://{user}@{host}:{port}/{database}"});
    shop.apply(&other);
    shop.apply(&pod("both", &asks("shop, ledger")));
    let pod = shop.get(&["pod", "both"]);
    let sidecars = pod["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<_> = sidecars.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["postern", "postern-2"]);
    let environment = pod["spec"]["containers"][0]["env"].to_string();
    assert!(environment.contains(":6432/shop") && environment.contains(":6433/shop"), "{environment}");
}

fn mistakes(shop: &Shop) {
    let mut mistyped = policy("mistyped");
    mistyped["spec"]["rules"][0]["rowFilter"] = json!([]);
    // `kubectl` would warn of it by the schema; a client that validates nothing does not.
    let arguments = ["create", "--validate=false", "-n", &shop.namespace, "-f", "-"];
    let said = shop.admin.refused(&arguments, &mistyped.to_string()).unwrap();
    assert!(said.contains("rowFilter") && said.contains("rowFilters"), "{said}");

    let mut wrong = policy("wrong");
    wrong["spec"]["rules"][0]["rowFilters"] = json!([{"relation": "public.orders", "where": "region = "}]);
    let said = shop.refused(&wrong);
    assert!(said.contains("spec.rules[0].rowFilters[0].where"), "{said}");
    // Anybody may have a token of this issuer for a repository that is called so, now or later.
    let mut anybody = identity("anybody", "unused");
    let issuer = "https://token.actions.githubusercontent.com";
    anybody["spec"]["subjects"] = json!([{"oidc": {"issuer": issuer, "claims": {"repository": "acme/shop"}}}]);
    let said = shop.refused(&anybody);
    assert!(said.contains("spec.subjects[0].oidc.claims") && said.contains("pin repository_id"), "{said}");

    // Nothing about its spec: finalizers must always be able to go.
    shop.kubectl(&["label", "dap", "shop", "team=blue"]);
}

fn metrics(shop: &Shop) {
    shop.apply(&pod("counted", &asks("shop")));
    let (status, text) = shop.operator.admin("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(text.contains(r#"postern_operator_admissions_total{outcome="changed",webhook="pods"}"#), "{text}");
    assert!(text.contains("postern_operator_synced 1"), "{text}");
}

#[test]
fn a_pod_without_the_annotation_does_not_need_the_operator_and_one_with_it_is_not_made_without() {
    let Some(server) = ApiServer::start(OLDEST).unwrap() else { return };
    let Some(helm) = helm().unwrap() else { return };
    operator::install(&server, &helm).unwrap();
    let operator = Operator::start(&server, "postern-0").unwrap();
    let admin = server.admin();
    for object in [identity("report", "default"), policy("shop")] {
        admin.apply(&object.to_string()).unwrap();
    }
    drop(operator);
    for object in [pod("free", &json!({})), deployment("free", &json!({}))] {
        admin.apply(&object.to_string()).unwrap();
    }
    let said = admin.refused(&["apply", "-f", "-"], &pod("bound", &asks("shop")).to_string()).unwrap();
    assert!(said.contains("pods.postern.dev"), "{said}");
    // Policies can be written meanwhile, and what is annotated already goes on.
    admin.apply(&policy("other").to_string()).unwrap();
}

#[test]
fn webhooks_go_on_while_their_authority_is_followed_by_others() {
    let Some(server) = ApiServer::start(NEWEST).unwrap() else { return };
    let Some(helm) = helm().unwrap() else { return };
    operator::install(&server, &helm).unwrap();
    let _operator = Operator::start(&server, "postern-0").unwrap();
    let admin = server.admin();
    for object in [identity("report", "default"), policy("shop")] {
        admin.apply(&object.to_string()).unwrap();
    }
    let bundle = || {
        let configuration = admin.json(&["get", "mutatingwebhookconfiguration", "postern"]).unwrap();
        configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap().to_owned()
    };
    for turn in 0..2 {
        let before = bundle();
        for secret in ["postern-webhook-ca", "postern-broker-ca"] {
            admin.kubectl(&["annotate", "secret", secret, "-n", NAMESPACE, "postern.dev/rotate=now"]).unwrap();
        }
        let mut pods = 0;
        eventually(|| {
            admin.apply(&pod(&format!("turn-{turn}-{pods}"), &asks("shop")).to_string()).unwrap();
            pods += 1;
            (bundle() != before).then_some(())
        })
        .expect("another bundle");
        admin.apply(&pod(&format!("turn-{turn}-after"), &asks("shop")).to_string()).unwrap();
    }
}
