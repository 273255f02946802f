//! The CustomResourceDefinitions in `crds/yaml` on the API servers of the oldest and the newest Kubernetes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postern_e2e::kubernetes::{Access, ApiServer, NEWEST, OLDEST, Version};
use postern_e2e::workspace;
use serde_json::{Value, json};

/// The API server of a version with the definitions in it, and a namespace for a test alone.
fn server(version: Version) -> Option<(&'static Access, String)> {
    static DEFINED: [OnceLock<()>; 2] = [const { OnceLock::new() }; 2];
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let admin = ApiServer::shared(version).unwrap()?.admin();
    DEFINED[usize::from(version == NEWEST)].get_or_init(|| {
        let folder = workspace().join("crds/yaml");
        // As an upgrade does: what an older client-side apply could not hold in its annotation must fit as well.
        let said = admin.kubectl(&["apply", "--server-side", "-f", folder.to_str().unwrap()]).unwrap();
        assert_eq!(said.lines().count(), 2, "{said}");
        admin.kubectl(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).unwrap();
    });
    let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    admin.kubectl(&["create", "namespace", &namespace]).unwrap();
    Some((admin, namespace))
}

/// The test for each version; both run before either's failure is told.
macro_rules! on_both {
    ($($rule:ident => $body:ident;)*) => {
        mod oldest { $(#[test] fn $rule() { if let Some((admin, namespace)) = super::server(super::OLDEST) { super::$body(admin, &namespace); } })* }
        mod newest { $(#[test] fn $rule() { if let Some((admin, namespace)) = super::server(super::NEWEST) { super::$body(admin, &namespace); } })* }
    };
}

on_both! {
    the_definitions_are_taken_without_a_complaint => definitions;
    valid_objects_are_taken_as_they_are_written => valid;
    what_the_rules_forbid_is_refused => forbidden;
    a_mistyped_field_is_kept_for_who_refuses_it => mistyped;
    a_status_is_written_by_controllers_only_and_pruned => status;
    explain_shows_every_field_with_its_text => explained;
    short_names_category_and_columns_work => shown;
}

/// The example objects, in `namespace`.
fn examples(namespace: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(workspace().join("crds/tests/example.yaml")).unwrap();
    text.split("\n---\n")
        .map(|document| serde_yaml::from_str(document).unwrap())
        .filter(|object: &Value| !object.is_null())
        .map(|mut object| {
            object["metadata"]["namespace"] = namespace.into();
            object
        })
        .collect()
}

fn example(namespace: &str, kind: &str) -> Value {
    examples(namespace).into_iter().find(|object| object["kind"] == kind).unwrap()
}

/// A spec of the examples as the server stores it: what it leaves out is written out.
fn with_defaults(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for mask in spec.get_mut("masks").and_then(Value::as_array_mut).into_iter().flatten() {
        mask.as_object_mut().unwrap().entry("onPredicate").or_insert("Notice".into());
    }
    if let Some(sidecar) = spec.get_mut("sidecar").and_then(Value::as_object_mut) {
        sidecar.entry("onEnvConflict").or_insert("Replace".into());
    }
    spec
}

fn definitions(admin: &Access, _: &str) {
    let list =
        admin.json(&["get", "crd", "databaseaccesspolicies.postern.dev", "nonhumanidentities.postern.dev"]).unwrap();
    for definition in list["items"].as_array().unwrap() {
        let name = &definition["metadata"]["name"];
        for (kind, status) in [("NamesAccepted", "True"), ("Established", "True")] {
            let conditions = definition["status"]["conditions"].as_array().unwrap();
            assert!(
                conditions.iter().any(|one| one["type"] == kind && one["status"] == status),
                "{name}: {conditions:?}"
            );
        }
        let conditions = definition["status"]["conditions"].to_string();
        assert!(!conditions.contains("NonStructuralSchema"), "{name}: {conditions}");
        assert_eq!(definition["status"]["storedVersions"], json!(["v1alpha1"]), "{name}");
    }
    // Warnings, such as for a format that the server does not know, come to stderr.
    let output = admin
        .command(&["apply", "--server-side", "--dry-run=server", "-f"])
        .arg(workspace().join("crds/yaml"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

fn valid(admin: &Access, namespace: &str) {
    for object in examples(namespace) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        admin.apply(&object.to_string()).unwrap();
        let stored = admin.json(&["get", kind, name, "-n", namespace]).unwrap();
        assert_eq!(stored["spec"], with_defaults(&object["spec"]), "{kind}");
        // Once more, and by the other way to apply.
        admin.apply(&object.to_string()).unwrap();
        assert_eq!(stored["metadata"]["generation"], 1);
    }
    // What is left out gets its default, so that everybody reads the same.
    let least = json!({
        "apiVersion": "postern.dev/v1alpha1", "kind": "DatabaseAccessPolicy",
        "metadata": {"name": "least", "namespace": namespace},
        "spec": {"database": {"host": "/run/postgresql", "name": "shop", "credentials": {"secret": {"name": "shop"}}}},
    });
    admin.apply(&least.to_string()).unwrap();
    let stored = admin.json(&["get", "dap", "least", "-n", namespace]).unwrap();
    assert_eq!(stored["spec"]["mode"], "Enforce");
    assert_eq!(stored["spec"]["database"]["port"], 5432);
}

/// Pointer into an example, what stands there then, and what the refusal says. `null` takes it out.
fn forbidden(admin: &Access, namespace: &str) {
    let policies: [(&str, Value, &str); 28] = [
        ("/spec/database/tls", Value::Null, "tls is needed"),
        ("/spec/database/host", json!("/run/postgresql"), "a unix socket has no TLS"),
        ("/spec/database/host", json!("two words"), "spec.database.host"),
        ("/spec/database/port", json!(65536), "spec.database.port"),
        ("/spec/database/name", json!(""), "spec.database.name"),
        ("/spec/database/tls/caSecret", Value::Null, "caSecret is needed by VerifyCa and VerifyFull"),
        ("/spec/database/tls/mode", json!("Require"), "used by no other mode"),
        ("/spec/database/tls/mode", json!("Prefer"), "Unsupported value: \"Prefer\""),
        ("/spec/database/credentials", json!({}), "set exactly one of secret and ephemeralRole"),
        ("/spec/database/credentials/ephemeralRole", json!({"adminSecret": {"name": "admin"}}), "set exactly one of"),
        ("/spec/mode", json!("enforce"), "Unsupported value: \"enforce\""),
        ("/spec/masks/0/mask", json!({}), "set exactly one of nullify"),
        ("/spec/masks/0/mask/nullify", json!({}), "set exactly one of nullify"),
        ("/spec/masks/0/mask/partial", json!({"keepLast": 0}), "keeps nothing: use redact"),
        ("/spec/masks/0/mask/partial", json!({}), "keeps nothing: use redact"),
        ("/spec/masks/0/exempt", json!({"groups": []}), "name at least one identity or group"),
        ("/spec/masks/0/columns", json!([]), "spec.masks[0].columns"),
        ("/spec/masks/2/onPredicate", json!("Deny"), "Unsupported value: \"Deny\""),
        ("/spec/rules/0/to", json!({}), "name at least one identity or group"),
        ("/spec/rules/0/name", json!("Reporting"), "spec.rules[0].name"),
        ("/spec/rules/0/allow", json!(["Select", "Select"]), "Duplicate value"),
        ("/spec/rules/0/allow", json!(["SELECT"]), "Unsupported value: \"SELECT\""),
        ("/spec/rules/0/relations", json!([]), "the verbs in allow need relations"),
        ("/spec/rules/0/limits/rows", json!(0), "spec.rules[0].limits.rows"),
        ("/spec/rules/0/limits/window", json!({"every": "1h"}), "set rows, bytes or both"),
        ("/spec/rules/0/limits/statementTimeout", json!("soon"), "spec.rules[0].limits.statementTimeout"),
        ("/spec/bulkExport/action", json!("Ask"), "Unsupported value: \"Ask\""),
        ("/spec/recording/parameters", json!("Plain"), "Unsupported value: \"Plain\""),
    ];
    let identities: [(&str, Value, &str); 8] = [
        ("/spec/postgresRole", json!("pg_read_all_data"), "must be a role of your own"),
        ("/spec/postgresRole", json!("none"), "must be a role of your own"),
        ("/spec/postgresRole", Value::Null, "spec.postgresRole: Required value"),
        ("/spec/subjects/0", json!({}), "set exactly one of serviceAccount and oidc"),
        ("/spec/subjects/1/serviceAccount", json!({"name": "x"}), "set exactly one of serviceAccount and oidc"),
        ("/spec/subjects/1/oidc/issuer", json!("http://issuer"), "spec.subjects[1].oidc.issuer"),
        ("/spec/groups", json!(["a", "a"]), "Duplicate value"),
        ("/spec/maxLease", json!("an hour"), "spec.maxLease"),
    ];
    for (kind, cases) in [("DatabaseAccessPolicy", policies.as_slice()), ("NonHumanIdentity", identities.as_slice())] {
        for (pointer, value, said) in cases {
            let mut object = example(namespace, kind);
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(parent).unwrap();
            match (parent, value) {
                (Value::Object(fields), Value::Null) => _ = fields.remove(field).unwrap(),
                (Value::Object(fields), value) => _ = fields.insert(field.into(), value.clone()),
                (Value::Array(items), value) => items[field.parse::<usize>().unwrap()] = value.clone(),
                _ => unreachable!(),
            }
            let answer = admin.refused(&["apply", "-f", "-"], &object.to_string());
            let answer = answer.unwrap_or_else(|error| panic!("{pointer}: {value}: {error:#}"));
            assert!(answer.contains(said), "{pointer}: {value}: {answer}");
        }
    }
    // Two rules of one name can't be told apart.
    let mut object = example(namespace, "DatabaseAccessPolicy");
    let rules = object["spec"]["rules"].as_array_mut().unwrap();
    rules.push(rules[0].clone());
    let answer = admin.refused(&["apply", "-f", "-"], &object.to_string()).unwrap();
    assert!(answer.contains("Duplicate value") && answer.contains("reporting-reads"), "{answer}");
    // A verb that is about something else than relations.
    for (verb, field) in [("Call", "functions"), ("Notify", "channels")] {
        let mut object = example(namespace, "DatabaseAccessPolicy");
        object["spec"]["rules"][0]["allow"] = json!([verb]);
        object["spec"]["rules"][0].as_object_mut().unwrap().remove(field).unwrap();
        let answer = admin.refused(&["apply", "-f", "-"], &object.to_string()).unwrap();
        assert!(answer.contains(&format!("the verb {verb} needs {field}")), "{answer}");
    }
}

/// By a client that validates nothing: as controllers, GitOps tools and `--validate=false` do.
fn mistyped(admin: &Access, namespace: &str) {
    let mut object = example(namespace, "DatabaseAccessPolicy");
    let rule = object["spec"]["rules"][0].as_object_mut().unwrap();
    let filters = rule.remove("rowFilters").unwrap();
    rule.insert("rowFilter".into(), filters);
    object["spec"]["masks"][0]["mask"]["partial"]["keeplast"] = json!(2);
    object["spec"]["database"]["tls"]["Mode"] = json!("Disable");
    object["spec"]["sidecar"]["resources"]["limit"] = json!({"cpu": 1});
    object["spec"]["maskes"] = json!([]);
    let file = object.to_string();
    let path = std::env::temp_dir().join(format!("postern-mistyped-{}-{namespace}.json", std::process::id()));
    std::fs::write(&path, &file).unwrap();
    let path = path.to_str().unwrap();
    let applied = admin.kubectl(&["apply", "--validate=false", "-f", path]);
    std::fs::remove_file(path).unwrap();
    applied.unwrap();
    let stored = admin.json(&["get", "dap", "shop", "-n", namespace]).unwrap();
    assert_eq!(stored["spec"], with_defaults(&object["spec"]));

    let mut object = example(namespace, "NonHumanIdentity");
    object["spec"]["subjects"][1]["oidc"]["claim"] = json!({"sub": "x"});
    object["spec"]["group"] = json!(["x"]);
    admin.apply(&object.to_string()).unwrap();
    let stored = admin.json(&["get", "nhi", "nightly-report", "-n", namespace]).unwrap();
    assert_eq!(stored["spec"], with_defaults(&object["spec"]));
}

fn status(admin: &Access, namespace: &str) {
    let mut object = example(namespace, "DatabaseAccessPolicy");
    let condition = json!({"type": "Ready", "status": "True", "reason": "InForce", "message": "as written",
        "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1});
    object["status"] = json!({"observedGeneration": 1, "conditions": [condition]});
    admin.apply(&object.to_string()).unwrap();
    let get = || admin.json(&["get", "dap", "shop", "-n", namespace]).unwrap();
    assert_eq!(get()["status"], Value::Null, "apply writes no status");

    let patch = json!({"status": {"observedGeneration": 1, "conditions": [condition], "unheardOf": 1}}).to_string();
    let arguments = ["patch", "dap", "shop", "-n", namespace, "--subresource=status", "--type=merge", "-p"];
    admin.kubectl(&[&arguments[..], &[&patch]].concat()).unwrap();
    assert_eq!(get()["status"], json!({"observedGeneration": 1, "conditions": [condition]}));
    assert_eq!(get()["metadata"]["generation"], 1, "a status is no change of the spec");
    admin.kubectl(&["wait", "dap/shop", "-n", namespace, "--for=condition=Ready", "--timeout=60s"]).unwrap();
    let table = admin.kubectl(&["get", "dap", "-n", namespace]).unwrap();
    assert!(table.lines().nth(1).unwrap().contains(" True "), "{table}");

    let two = json!({"status": {"conditions": [condition, condition]}}).to_string();
    let answer = admin.refused(&[&arguments[..], &[&two]].concat(), "").unwrap();
    assert!(answer.contains("Duplicate value") && answer.contains("Ready"), "{answer}");
}

fn explained(admin: &Access, _: &str) {
    let text = admin.kubectl(&["explain", "dap.spec.rules.rowFilters.where"]).unwrap();
    assert!(text.contains("One boolean SQL expression over the relation's columns"), "{text}");
    let text = admin.kubectl(&["explain", "dap.spec.database.tls"]).unwrap();
    assert!(text.contains("caSecret\t<Object>") && text.contains("mode\t<string>\n  enum: Disable, Require"), "{text}");
    let text = admin.kubectl(&["explain", "nhi.spec.subjects.oidc.claims"]).unwrap();
    assert!(text.contains("map[string]string"), "{text}");
    for kind in ["dap", "nhi"] {
        let all = admin.kubectl(&["explain", kind, "--recursive"]).unwrap();
        for field in ["spec", "status", "conditions", "lastTransitionTime"] {
            assert!(
                all.lines().any(|line| line.trim_start().starts_with(&format!("{field}\t"))),
                "{kind}: {field}: {all}"
            );
        }
    }
}

fn shown(admin: &Access, namespace: &str) {
    for object in examples(namespace) {
        admin.apply(&object.to_string()).unwrap();
    }
    let header = |table: &str| table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let table = admin.kubectl(&["get", "dap", "-n", namespace]).unwrap();
    assert_eq!(header(&table), "NAME MODE HOST DATABASE READY SIDECARS LAST USED BY AGE");
    assert!(table.lines().nth(1).unwrap().starts_with("shop   Enforce   pg.shop.svc   shop"), "{table}");
    let table = admin.kubectl(&["get", "nhi", "-n", namespace, "-o", "wide"]).unwrap();
    assert_eq!(header(&table), "NAME ROLE GROUPS MAX LEASE READY SIDECARS AGE");
    assert!(table.contains("reporting_ro") && table.contains(r#"["reporting"]"#) && table.contains("15m"), "{table}");
    let names = admin.kubectl(&["get", "postern", "-n", namespace, "-o", "name"]).unwrap();
    assert_eq!(names, "databaseaccesspolicy.postern.dev/shop\nnonhumanidentity.postern.dev/nightly-report\n");
}
