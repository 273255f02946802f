#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use postern_crds::api::{DatabaseAccessPolicySpec, OnEnvConflict};
use postern_crds::{CheckedPolicy, compile_policy};
use serde_json::{Value, json};

use super::*;

const IMAGE: &str = "registry.example/postern-sidecar@sha256:aaaa";

const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

fn settings() -> Settings {
    Settings {
        image: IMAGE.to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        broker: "https://postern-broker.postern-system.svc:8443".to_owned(),
        broker_ca: AUTHORITY.to_owned(),
    }
}

/// A policy of namespace `shop`; `more` is merged into its spec.
fn policy(name: &str, more: Value) -> (DatabaseAccessPolicySpec, CheckedPolicy) {
    let mut spec = json!({
        "database": {
            "host": "pg", "name": "shop db", "credentials": {"secret": {"name": "db"}},
            "tls": {"mode": "VerifyFull", "caSecret": {"name": "ca", "key": "ca.crt"}},
        },
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let spec: DatabaseAccessPolicySpec = serde_json::from_value(spec).unwrap();
    let checked = compile_policy("shop", name, &spec).unwrap();
    (spec, checked)
}

fn asked((spec, checked): &(DatabaseAccessPolicySpec, CheckedPolicy)) -> Asked<'_> {
    let allow_unverified = spec.database.tls.as_ref().is_some_and(|tls| tls.allow_unverified);
    Asked { policy: checked, sidecar: spec.sidecar.as_ref(), allow_unverified, user: "reporting_ro" }
}

fn pod(spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app", "annotations": {INJECT: "shop"}},
        "spec": spec,
    })
}

fn plain() -> Value {
    pod(json!({"containers": [{"name": "app", "image": "app"}]}))
}

fn injected_with(pod: &Value, more: Value) -> Result<Injected, Refusal> {
    inject("shop", pod, &[asked(&policy("shop", more))], &settings())
}

fn injected(pod: &Value) -> Injected {
    injected_with(pod, json!({})).unwrap()
}

fn refused(pod: &Value) -> String {
    injected_with(pod, json!({})).unwrap_err().0
}

fn env<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container["env"].as_array()?.iter().find(|entry| entry["name"] == name)
}

fn names(containers: &Value) -> Vec<&str> {
    containers.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[test]
fn the_sidecar_is_the_first_init_container_and_never_ends() {
    let pod = pod(json!({"initContainers": [{"name": "migrate"}], "containers": [{"name": "app"}]}));
    let done = injected(&pod).pod;
    assert_eq!(names(&done["spec"]["initContainers"]), ["postern", "migrate"]);
    let sidecar = &done["spec"]["initContainers"][0];
    assert_eq!((sidecar["restartPolicy"].as_str(), sidecar["image"].as_str()), (Some("Always"), Some(IMAGE)));
    assert!(sidecar["args"].as_array().unwrap().contains(&json!("--resource=postern:shop/shop")));
    assert_eq!(done["metadata"]["labels"][INJECTED], "true");
    // What starts after it uses it.
    assert_eq!(env(&done["spec"]["initContainers"][1], "PGHOST").unwrap()["value"], "127.0.0.1");
}

#[test]
fn a_pod_says_by_which_revision_it_was_made_which_is_another_one_where_pods_would_be_others_now() {
    let revision = |more: Value| {
        let done = injected_with(&pod(json!({"containers": [{"name": "app"}]})), more).unwrap().pod;
        done["metadata"]["annotations"][REVISION].as_str().unwrap().to_owned()
    };
    let first = revision(json!({}));
    assert_eq!(revision(json!({"rules": [], "sidecar": {"restartOnChange": true}})), first);
    let others = [
        json!({"sidecar": {"env": {"URL": "{host}"}}}),
        json!({"sidecar": {"resources": {"limits": {"memory": "1Gi"}}}}),
    ];
    for more in others {
        assert_ne!(revision(more.clone()), first, "{more}");
    }
}

#[test]
fn a_mirror_of_the_same_digest_is_the_same_image() {
    let done = injected(&pod(json!({"containers": [{"name": "app"}]}))).pod;
    let digest = IMAGE.split_once('@').unwrap().1;
    assert!(has_image(&done, IMAGE) && has_image(&done, &format!("mirror.example/other@{digest}")));
    assert!(!has_image(&done, "registry.example/postern-sidecar:2"));
}

#[test]
fn it_starts_after_what_sets_a_mesh_up() {
    let inits =
        json!([{"name": "istio-init"}, {"name": "istio-proxy", "restartPolicy": "Always"}, {"name": "migrate"}]);
    let done = injected(&pod(json!({"initContainers": inits, "containers": [{"name": "app"}]}))).pod;
    assert_eq!(names(&done["spec"]["initContainers"]), ["istio-init", "istio-proxy", "postern", "migrate"]);
    assert_eq!(env(&done["spec"]["initContainers"][1], "PGHOST"), None, "what starts before it can't use it");
}

#[test]
fn a_mesh_proxy_that_would_deadlock_is_refused_with_the_remedy() {
    for (proxy, word) in [("istio-proxy", "nativeSidecar"), ("linkerd-proxy", "proxy-enable-native-sidecar")] {
        let message = refused(&pod(json!({"containers": [{"name": "app"}, {"name": proxy}]})));
        assert!(message.starts_with(proxy) && message.contains(word), "{message}");
    }
}

#[test]
fn every_container_is_led_to_the_sidecar_whatever_it_said_itself() {
    let containers = json!([{"name": "a", "env": [
        {"name": "MINE", "value": "$(PGHOST)"},
        {"name": "PGHOST", "value": "pg.shop.svc"},
        {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
        {"name": "PGSERVICE", "value": "shop"},
        {"name": "DATABASE_URL", "value": "postgres://secret"},
    ]}, {"name": "b"}]);
    let env_of_policy = json!({"DATABASE_URL": "postgresql://{user}@{host}:{port}/{database}", "DSN": "db={database}"});
    let done =
        injected_with(&pod(json!({"containers": containers})), json!({"sidecar": {"env": env_of_policy}})).unwrap();
    for container in done.pod["spec"]["containers"].as_array().unwrap() {
        let value = |name| env(container, name).unwrap()["value"].as_str().unwrap();
        assert_eq!((value("PGHOST"), value("PGHOSTADDR"), value("PGPORT")), ("127.0.0.1", "127.0.0.1", "6432"));
        assert_eq!((value("PGUSER"), value("PGDATABASE"), value("PGSSLMODE")), ("reporting_ro", "shop db", "disable"));
        assert_eq!((value("PGPASSWORD"), value("PGPASSFILE")), ("", "/nonexistent/pgpass"));
        assert_eq!(value("DATABASE_URL"), "postgresql://reporting_ro@127.0.0.1:6432/shop%20db");
        assert_eq!(value("DSN"), "db=shop db");
        assert_eq!(env(container, "PGSERVICE"), None);
    }
    let a = done.pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let place = |name: &str| a.iter().position(|entry| entry["name"] == name).unwrap();
    assert!(place("PGPORT") < place("MINE"), "what a container has can refer to what it is given");
    assert_eq!(done.warnings.len(), 4, "{:?}", done.warnings);
    assert!(done.warnings.iter().all(|warning| warning.starts_with("container a: ") && !warning.contains("secret")));
}

#[test]
fn the_variables_are_those_that_a_policy_cant_set() {
    let done = injected(&plain()).pod;
    let mut given: Vec<&str> = done["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    given.push("PGSERVICE");
    given.sort_unstable();
    let mut known = postern_crds::compile::GIVEN_ENV.to_vec();
    known.sort_unstable();
    assert_eq!(given, known);
}

#[test]
fn a_policy_can_refuse_containers_that_have_variables_of_their_own() {
    let pod = pod(json!({"containers": [{"name": "app", "env": [{"name": "PGHOST", "value": "pg"}]}]}));
    let refuse = json!({"sidecar": {"onEnvConflict": "Refuse"}});
    let message = injected_with(&pod, refuse.clone()).unwrap_err().0;
    assert!(message.contains("PGHOST is set"), "{message}");
    assert_eq!(policy("shop", refuse).0.sidecar.unwrap().on_env_conflict, OnEnvConflict::Refuse);
}

#[test]
fn only_the_sidecar_mounts_the_token_and_it_mounts_no_other() {
    let done = injected(&plain()).pod;
    let mounts = &done["spec"]["initContainers"][0]["volumeMounts"];
    assert_eq!(names(mounts), ["postern-token", "postern-spool", "postern-nothing"]);
    assert_eq!(mounts[2]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(done["spec"]["containers"][0].get("volumeMounts"), None);
    let token = &done["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!((token["audience"].as_str(), token["expirationSeconds"].as_u64()), (Some(AUDIENCE), Some(3600)));
}

#[test]
fn several_policies_have_a_port_each() {
    let (one, two) = (policy("one", json!({})), policy("two", json!({"sidecar": {"env": {"TWO": "{port}"}}})));
    let pod =
        pod(json!({"containers": [{"name": "app", "ports": [{"containerPort": 6432}, {"containerPort": 9433}]}]}));
    let done = inject("shop", &pod, &[asked(&one), asked(&two)], &settings()).unwrap().pod;
    assert_eq!(names(&done["spec"]["initContainers"]), ["postern", "postern-2"]);
    let has = |index: usize, argument: &str| {
        done["spec"]["initContainers"][index]["args"].as_array().unwrap().contains(&json!(argument))
    };
    assert!(has(0, "--listen=127.0.0.1:6433") && has(0, "--admin=0.0.0.0:9432"));
    assert!(has(1, "--listen=127.0.0.1:6434") && has(1, "--admin=0.0.0.0:9434"));
    let app = &done["spec"]["containers"][0];
    assert_eq!(
        (env(app, "PGPORT").unwrap()["value"].as_str(), env(app, "TWO").unwrap()["value"].as_str()),
        (Some("6433"), Some("6434"))
    );
}

#[test]
fn done_twice_it_changes_nothing() {
    let once = injected(&plain()).pod;
    let again = injected(&once);
    assert_eq!(again.pod, once);
    assert_eq!(again.warnings, Vec::<String>::new());
    assert_eq!(patch(&once, &again.pod), Vec::<Value>::new());
}

#[test]
fn a_mirror_of_the_image_and_other_resources_stay() {
    let mut once = injected(&plain()).pod;
    let sidecar = &mut once["spec"]["initContainers"][0];
    sidecar["image"] = json!("mirror.example/p@sha256:aaaa");
    sidecar["resources"] = json!({"requests": {"cpu": "1"}});
    sidecar["terminationMessagePath"] = json!("/dev/termination-log");
    sidecar["readinessProbe"]["httpGet"]["port"] = json!(15021);
    sidecar["securityContext"]["runAsUser"] = json!(1_000_650_000);
    sidecar["securityContext"]["seLinuxOptions"] = json!({"level": "s0:c25,c20"});
    assert_eq!(injected(&once).pod, once);
}

#[test]
fn a_platforms_user_and_label_are_no_other_rights() {
    let context = injected(&plain()).pod["spec"]["initContainers"][0]["securityContext"].clone();
    for (key, value) in [
        ("runAsUser", json!(0)),
        ("runAsUser", json!("1000")),
        ("seLinuxOptions", json!({"type": "spc_t"})),
        ("procMount", json!("Unmasked")),
        ("runAsNonRoot", json!(false)),
    ] {
        let mut once = injected(&plain()).pod;
        let mut changed = context.clone();
        changed[key] = value.clone();
        once["spec"]["initContainers"][0]["securityContext"] = changed;
        assert!(injected_with(&once, json!({})).is_err(), "{key}: {value}");
    }
}

#[test]
fn what_was_changed_on_the_sidecar_is_refused() {
    for (key, value) in [
        ("image", json!("other")),
        ("image", json!("registry.example/postern-sidecar@sha256:bbbb")),
        ("command", json!(["sh"])),
        ("args", json!(["run", "--broker=https://elsewhere"])),
        ("env", json!([{"name": "LD_PRELOAD", "value": "/tmp/x.so"}])),
        ("envFrom", json!([{"secretRef": {"name": "s"}}])),
        ("lifecycle", json!({"postStart": {"exec": {"command": ["sh"]}}})),
        ("livenessProbe", json!({"exec": {"command": ["sh"]}})),
        ("volumeMounts", json!([{"name": "mine", "mountPath": "/var/run/postern"}])),
        ("securityContext", json!({"privileged": true})),
        ("securityContext", json!({})),
        ("restartPolicy", json!("Never")),
        ("stdin", json!(true)),
        ("a field of tomorrow", json!(1)),
    ] {
        let mut once = injected(&plain()).pod;
        once["spec"]["initContainers"][0][key] = value.clone();
        assert!(injected_with(&once, json!({})).is_err(), "{key}: {value}");
    }
    let mut once = injected(&plain()).pod;
    once["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = json!(86400);
    assert!(refused(&once).contains("volume postern-token"));
    let named_as_ours = pod(json!({"initContainers": [{"name": "postern-2"}], "containers": []}));
    assert!(refused(&named_as_ours).contains("postern-2"));
}

#[test]
fn fields_that_nobody_here_knows_survive() {
    let mut unknown = plain();
    unknown["spec"]["fromTomorrow"] = json!({"a": [1, {"b": null}]});
    unknown["spec"]["containers"][0]["alsoNew"] = json!(1.5);
    unknown["metadata"]["strange/field~x"] = json!("x");
    let done = injected(&unknown).pod;
    assert_eq!(done["spec"]["fromTomorrow"], unknown["spec"]["fromTomorrow"]);
    assert_eq!(done["spec"]["containers"][0]["alsoNew"], json!(1.5));
    assert_eq!(done["metadata"]["strange/field~x"], "x");
}

#[test]
fn a_pod_that_is_no_boundary_gets_no_sidecar() {
    let with = |key: &str, value: Value| {
        let mut pod = plain();
        pod["spec"][key] = value;
        pod
    };
    let container = |context: Value| pod(json!({"containers": [{"name": "app", "securityContext": context}]}));
    for (pod, word) in [
        (with("hostPID", json!(true)), "hostPID"),
        (with("hostNetwork", json!(true)), "hostNetwork"),
        (with("shareProcessNamespace", json!(true)), "shareProcessNamespace"),
        (with("volumes", json!([{"name": "v", "hostPath": {"path": "/var/lib/kubelet"}}])), "hostPath"),
        (container(json!({"privileged": true})), "privileged"),
        (container(json!({"capabilities": {"add": ["SYS_PTRACE"]}})), "capability"),
        (container(json!({"procMount": "Unmasked"})), "procMount"),
    ] {
        assert!(refused(&pod).contains(word), "{word}");
    }
}

#[test]
fn an_unverified_server_needs_a_pod_that_cant_pose_as_it() {
    let plaintext = |more: Value| {
        let mut database = json!({"host": "pg", "name": "shop", "credentials": {"secret": {"name": "db"}}, "tls": {"mode": "Require"}});
        database["tls"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"database": database})
    };
    let message = injected_with(&plain(), plaintext(json!({}))).unwrap_err().0;
    assert!(message.contains("allowUnverified"), "{message}");
    assert!(injected_with(&plain(), plaintext(json!({"allowUnverified": true}))).is_ok());
    let drops = json!({"capabilities": {"drop": ["ALL"]}});
    let dropped = pod(json!({"containers": [{"name": "app", "securityContext": drops}]}));
    let once = injected_with(&dropped, plaintext(json!({}))).unwrap().pod;
    assert!(injected_with(&once, plaintext(json!({}))).is_ok());
    // A name like a sidecar's is no excuse, and nor is it to come later.
    let mut named = dropped.clone();
    named["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "postern-7"}));
    assert!(injected_with(&named, plaintext(json!({}))).is_err());
    let policy = policy("shop", plaintext(json!({})));
    assert_eq!(may_reach(&asked(&policy), &once), Ok(()));
    let mut debugged = once.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "debug"}]);
    assert!(may_reach(&asked(&policy), &debugged).is_err());
    // Who makes the pod says what names mean in it.
    for (field, value, may) in [
        ("hostAliases", json!([{"ip": "10.0.0.1", "hostnames": ["other", "PG."]}]), false),
        ("hostAliases", json!([{"ip": "10.0.0.1", "hostnames": ["other"]}]), true),
        ("dnsPolicy", json!("None"), false),
        ("dnsPolicy", json!("ClusterFirst"), true),
        ("dnsConfig", json!({"nameservers": ["10.0.0.1"]}), false),
        ("dnsConfig", json!({"searches": ["evil.example"]}), false),
        ("dnsConfig", json!({"options": [{"name": "ndots", "value": "2"}]}), true),
    ] {
        let mut pod = once.clone();
        pod["spec"][field] = value.clone();
        trim(&mut pod);
        assert_eq!(may_reach(&asked(&policy), &pod).is_ok(), may, "{field}: {value}");
        let verified = super::tests::policy("shop", json!({}));
        assert_eq!(may_reach(&asked(&verified), &pod), Ok(()), "{field}: {value}");
    }
}

#[test]
fn a_guaranteed_pod_stays_so_and_others_have_requests() {
    let resources = |requests: Value, limits: Value| {
        let resources = json!({"requests": requests, "limits": limits});
        let done = injected(&pod(json!({"containers": [{"name": "app", "resources": resources}]}))).pod;
        done["spec"]["initContainers"][0]["resources"].clone()
    };
    let guaranteed = resources(json!({"cpu": "0.5", "memory": "1Gi"}), json!({"cpu": "500m", "memory": "1024Mi"}));
    assert_eq!(guaranteed["requests"], guaranteed["limits"]);
    assert!(guaranteed["limits"]["cpu"].is_string() && guaranteed["limits"]["memory"].is_string());
    let only_limits = resources(json!({}), json!({"cpu": 1, "memory": "1Gi"}));
    assert_eq!(only_limits["requests"], only_limits["limits"]);
    let unread = resources(json!({"cpu": 1, "memory": "1E"}), json!({"cpu": 1, "memory": "2E"}));
    assert_ne!(unread["requests"], unread["limits"]);
    let burstable = resources(json!({"cpu": "100m", "memory": "1Gi"}), json!({"cpu": "500m", "memory": "1Gi"}));
    assert_ne!(burstable["requests"], burstable["limits"]);
    assert!(burstable["requests"]["cpu"].is_string() && burstable["requests"]["memory"].is_string());
}

#[test]
fn a_live_pod_is_verified_whoever_made_it() {
    let (images, brokers) = ([IMAGE.to_owned()], ["https://old".to_owned(), settings().broker]);
    let genuine = Genuine { images: &images, brokers: &brokers };
    let good = injected(&plain()).pod;
    // A pod is judged by what is kept of it as by all of it.
    let verify = |namespace: &str, pod: &Value, genuine: Genuine<'_>| {
        let mut kept = pod.clone();
        trim(&mut kept);
        let judged = verify(namespace, pod, genuine);
        assert_eq!(verify(namespace, &kept, genuine), judged);
        judged
    };
    assert_eq!(verify("shop", &good, genuine), Ok(()));
    // Made by an older version, which reached the broker by another of its names.
    let old = Settings { broker: "https://old/".into(), ..settings() };
    let made = inject("shop", &plain(), &[asked(&policy("shop", json!({})))], &old).unwrap().pod;
    assert_eq!(verify("shop", &made, genuine), Ok(()));
    assert!(verify("shop", &made, Genuine { brokers: &[settings().broker], ..genuine }).is_err());
    assert!(verify("other", &good, genuine).is_err());
    assert!(verify("shop", &good, Genuine { images: &["other@sha256:cccc".to_owned()], ..genuine }).is_err());
    let changes: [(&str, Value); 10] = [
        ("/spec/initContainers/0/args/1", json!("--broker=https://evil:8443")),
        ("/spec/initContainers/0/terminationMessagePath", json!("/var/run/postern/token")),
        ("/spec/initContainers/0/resources", json!({"claims": [{"name": "device"}]})),
        ("/metadata/annotations/postern.dev~1inject", json!("other")),
        ("/metadata/annotations", json!({})),
        ("/spec/initContainers", json!([])),
        ("/spec/initContainers/0/args/5", json!("--listen=0.0.0.0:6432")),
        (
            "/spec/volumes/1",
            json!({"name": "stolen", "projected": {"sources": [{"serviceAccountToken": {"audience": AUDIENCE}}]}}),
        ),
        ("/spec/containers/0", json!({"name": "app", "volumeMounts": [{"name": "postern-token", "mountPath": "/x"}]})),
        ("/spec/containers/0", json!({"name": "app", "securityContext": {"privileged": true}})),
    ];
    for (path, value) in changes {
        let mut pod = good.clone();
        *pod.pointer_mut(path).unwrap() = value.clone();
        assert!(verify("shop", &pod, genuine).is_err(), "{path}: {value}");
    }
    for debugger in [
        json!({"name": "debug", "volumeMounts": [{"name": "postern-token", "mountPath": "/x"}]}),
        json!({"name": "debug", "targetContainerName": "postern"}),
    ] {
        let mut pod = good.clone();
        pod["spec"]["ephemeralContainers"] = json!([debugger]);
        assert!(verify("shop", &pod, genuine).is_err(), "{pod}");
    }
}

#[test]
fn an_outline_of_a_pod_says_what_is_asked_of_all_pods_again_and_again_and_holds_nothing_else() {
    let mesh = json!([{"name": "istio-init", "image": "mesh"}]);
    let mut pod = injected(&pod(json!({"containers": [{"name": "app", "image": "app"}], "initContainers": mesh}))).pod;
    pod["spec"]["serviceAccountName"] = json!("report");
    pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "night-1", "controller": true}]);
    let states = json!([{"name": "istio-init", "ready": true}, {"name": "postern", "ready": true, "imageID": "x"}]);
    pod["status"] = json!({"phase": "Running", "podIP": "10.0.0.1", "initContainerStatuses": states});
    let mut outlined = pod.clone();
    outline(&mut outlined);
    let said = |pod: &Value| {
        let of_pods = (crate::pods::service_account(pod).to_owned(), crate::pods::has_ended(pod));
        let images = [has_image(pod, IMAGE), has_image(pod, "other@sha256:cccc")];
        let revision = of_pod(pod).map(str::to_owned);
        (asked_of(pod).join(","), ready_policies(pod), revision, images, of_pods, crate::facts::workload(pod, "shop"))
    };
    assert_eq!(said(&outlined), said(&pod));
    assert_eq!(said(&outlined).1, ["shop"]);
    assert!(outlined.to_string().len() * 3 < pod.to_string().len(), "{outlined}");
    assert!(outlined["spec"].get("containers").is_none() && !outlined.to_string().contains("CERTIFICATE"));
}

/// As an API server gave them, one for each version whose sidecars are made otherwise than those of the version before.
const RECORDED: [&str; 1] = [include_str!("recorded/0.1.0.json")];

#[test]
fn a_pod_that_an_older_version_made_is_still_what_an_injection_makes() {
    for recorded in RECORDED {
        let pod: Value = serde_json::from_str(recorded).unwrap();
        let sidecar = &pod["spec"]["initContainers"][0];
        let images = [sidecar["image"].as_str().unwrap().to_owned()];
        let genuine = Genuine { images: &images, brokers: &[settings().broker] };
        assert_eq!(verify("shop", &pod, genuine), Ok(()), "pods outlive an upgrade of the operator");
        assert!(believes_only(&pod, &crate::certificates::each(sidecar["env"][0]["value"].as_str().unwrap())));
    }
}

#[test]
fn a_sidecar_takes_nobody_for_the_broker_whose_authority_is_not_known() {
    let made = |bundle: &str| {
        let settings = Settings { broker_ca: bundle.to_owned(), ..settings() };
        inject("shop", &plain(), &[asked(&policy("shop", json!({})))], &settings).unwrap().pod
    };
    let known = [AUTHORITY.to_owned(), AUTHORITY.replace("AA==", "AQ==")];
    let unknown = AUTHORITY.replace("AA==", "Ag==");
    for bundle in [known[0].clone(), known.concat()] {
        assert!(believes_only(&made(&bundle), &known), "{bundle}");
    }
    for bundle in [String::new(), unknown.clone(), format!("{AUTHORITY}{unknown}"), format!("{AUTHORITY}x")] {
        assert!(!believes_only(&made(&bundle), &known), "{bundle}");
    }
}

#[test]
fn the_annotation_names_policies_once_each() {
    assert_eq!(asked_names("a, b"), Ok(vec!["a", "b"]));
    for wrong in ["", "a,", "a,a", ",", "a,b,c,d,e,f,g,h,i"] {
        assert!(asked_names(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_workloads_annotation_is_carried_to_its_template_and_out_again() {
    for (kind, path) in TEMPLATES {
        let pointer = format!("/{}/metadata/annotations/postern.dev~1inject", path.join("/"));
        let workload = |own: Option<&str>, template: Option<&str>| {
            let annotations =
                |value: Option<&str>| value.map_or(json!({}), |value| json!({"annotations": {INJECT: value}}));
            let mut inner = json!({"metadata": annotations(template), "spec": {}});
            for key in path.iter().rev() {
                inner = json!({*key: inner});
            }
            inner["metadata"] = annotations(own);
            inner
        };
        let asked = |object: Value, before: Option<&Value>| {
            copy_annotation(kind, &object, before)
                .map(|it| it.pointer(&pointer).and_then(Value::as_str).map(str::to_owned))
        };
        assert_eq!(asked(workload(Some("shop"), None), None), Ok(Some("shop".to_owned())));
        assert_eq!(asked(workload(None, Some("own")), None), Ok(Some("own".to_owned())));
        let before = workload(Some("shop"), Some("shop"));
        let taken_off = asked(workload(None, Some("shop")), Some(&before));
        let changed = asked(workload(Some("other"), Some("shop")), Some(&before));
        if kind == "Job" {
            assert!(taken_off.is_err() && changed.is_err());
        } else {
            assert_eq!((taken_off, changed), (Ok(None), Ok(Some("other".to_owned()))));
        }
    }
}

#[test]
fn a_patch_goes_into_objects_and_replaces_the_rest() {
    let before = json!({"a": {"b/c": 1, "gone": 2, "same": {"x": 1}}, "list": [1, 2]});
    let after = json!({"a": {"b/c": 3, "same": {"x": 1}}, "list": [2], "new~": null});
    assert_eq!(
        patch(&before, &after),
        [
            json!({"op": "remove", "path": "/a/gone"}),
            json!({"op": "replace", "path": "/a/b~1c", "value": 3}),
            json!({"op": "replace", "path": "/list", "value": [2]}),
            json!({"op": "add", "path": "/new~0", "value": null}),
        ]
    );
}
