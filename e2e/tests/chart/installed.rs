//! The chart as it is installed: its pods, the operator's rights, people's rights, what goes through the webhooks, and its end.

use serde_json::{Value, json};

use crate::cluster::{
    Cluster, RELEASE, chart, create, deployment, excluded, helm_says, injected, plain, policy, refusal, until,
};
use crate::on_both;

on_both! {
    its_pods_keep_to_pod_security_restricted => restricted;
    the_operator_may_do_what_it_does_and_no_more => operator_rights;
    policies_and_identities_are_read_by_viewers_and_written_by_their_editors => peoples_rights;
    only_annotated_pods_depend_on_the_operator => webhooks;
    a_workload_that_is_annotated_already_goes_on_without_the_operator => workloads;
    a_policy_can_be_written_without_the_operator => validation;
    with_everything_on_it_installs_beside_and_leaves_nothing => again;
}

const ACCOUNT: &str = "system:serviceaccount:postern-system:postern";
const SECOND: &str = "system:serviceaccount:second:second";

/// Which of these a user may do in a namespace (in all of them, where it is empty): verb, group (`-` is the core's), resource and, if it is
/// about one object, its name.
fn allowed<'a>(cluster: &Cluster, user: &str, namespace: &str, actions: &[&'a str]) -> Vec<&'a str> {
    let reviews: Vec<Value> = actions
        .iter()
        .map(|action| {
            let mut words = action.split(' ');
            let mut next = || words.next().unwrap_or_default();
            let (verb, group, resource, name) = (next(), next().replace('-', ""), next(), next());
            let attributes = match resource.split_once('/') {
                Some(("", _)) => json!({"nonResourceAttributes": {"verb": verb, "path": resource}, "user": user}),
                split => {
                    let (resource, subresource) = split.unwrap_or((resource, ""));
                    json!({"user": user, "resourceAttributes": {"verb": verb, "group": group, "resource": resource,
                        "subresource": subresource, "name": name, "namespace": namespace}})
                }
            };
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": attributes})
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": reviews}).to_string();
    let answers = cluster.admin.with_input(&["create", "-f", "-", "-o", "json"], &list).unwrap();
    // One after the other.
    let answers = serde_json::Deserializer::from_str(&answers).into_iter();
    let answers: Vec<Value> = answers.map(Result::unwrap).collect();
    assert_eq!(answers.len(), actions.len());
    let allowed = |answer: &Value| answer["status"]["allowed"] == true;
    actions.iter().zip(&answers).filter(|(_, answer)| allowed(answer)).map(|(action, _)| *action).collect()
}

fn restricted(cluster: &Cluster) {
    let pods = ["get", "pods", "-n", RELEASE, "-l", "app.kubernetes.io/instance=postern"];
    until("there are two pods", || cluster.admin.json(&pods).unwrap()["items"].as_array().unwrap().len() == 2);
    // The API server warns of pods that would not be let in.
    let label = [
        "label",
        "--dry-run=server",
        "--overwrite",
        "namespace",
        RELEASE,
        "pod-security.kubernetes.io/enforce=restricted",
    ];
    let output = cluster.admin.command(&label).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

fn operator_rights(cluster: &Cluster) {
    let everywhere = [
        "list postern.dev databaseaccesspolicies",
        "watch postern.dev nonhumanidentities",
        "patch postern.dev databaseaccesspolicies",
        "patch postern.dev nonhumanidentities/status",
        "update postern.dev databaseaccesspolicies/finalizers",
        "list - pods",
        "watch - pods",
        "create apps controllerrevisions",
        "delete apps controllerrevisions",
        "create events.k8s.io events",
        "create authentication.k8s.io tokenreviews",
        "create apiextensions.k8s.io customresourcedefinitions",
        "patch apiextensions.k8s.io customresourcedefinitions databaseaccesspolicies.postern.dev",
        "patch admissionregistration.k8s.io mutatingwebhookconfigurations postern",
        "patch admissionregistration.k8s.io validatingwebhookconfigurations postern",
        "get - /openid/v1/jwks",
    ];
    assert_eq!(allowed(cluster, ACCOUNT, "", &everywhere), everywhere);
    let own = [
        "create - secrets",
        "watch - secrets postern-webhook-ca",
        "update - secrets postern-broker-ca",
        "get - secrets postern-broker-keys",
        "create coordination.k8s.io leases",
        "update coordination.k8s.io leases postern-leader",
    ];
    assert_eq!(allowed(cluster, ACCOUNT, RELEASE, &own), own);
    assert_eq!(allowed(cluster, ACCOUNT, &cluster.seen, &own), [""; 0]);
    let not_even_its_own = [
        "get - secrets",
        "list - secrets",
        "get - secrets other",
        "delete - secrets postern-broker-ca",
        "get coordination.k8s.io leases other",
    ];
    assert_eq!(allowed(cluster, ACCOUNT, RELEASE, &not_even_its_own), [""; 0]);
    let nowhere = [
        "get - secrets",
        "list - secrets",
        "watch - secrets",
        "create - pods",
        "patch - pods",
        "delete - pods",
        "create - pods/exec",
        "create apps deployments",
        "patch apps deployments",
        "patch apps statefulsets",
        "patch apps daemonsets",
        "create batch jobs",
        "create postern.dev databaseaccesspolicies",
        "delete postern.dev nonhumanidentities",
        "create - serviceaccounts/token",
        "impersonate - users",
        "patch apiextensions.k8s.io customresourcedefinitions others.example.com",
        "delete apiextensions.k8s.io customresourcedefinitions databaseaccesspolicies.postern.dev",
        "patch admissionregistration.k8s.io mutatingwebhookconfigurations other",
        "create admissionregistration.k8s.io validatingwebhookconfigurations",
        "patch admissionregistration.k8s.io validatingadmissionpolicies postern-exec",
        "create rbac.authorization.k8s.io clusterrolebindings",
        "list - nodes",
        "get - configmaps",
    ];
    assert_eq!(allowed(cluster, ACCOUNT, &cluster.seen, &nowhere), [""; 0]);
}

fn peoples_rights(cluster: &Cluster) {
    let namespace = cluster.seen.as_str();
    for (who, role) in
        [("viewer", "view"), ("admin", "admin"), ("ids", "postern-identity-editor"), ("dap", "postern-policy-editor")]
    {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={who}"));
        cluster.admin.kubectl(&["create", "rolebinding", who, "-n", namespace, &role, &user]).unwrap();
    }
    let of = |verbs: &[&str], resource: &str| {
        verbs.iter().map(|verb| format!("{verb} postern.dev {resource}")).collect::<Vec<_>>()
    };
    let (read, write) = (["get", "list", "watch"], ["create", "update", "patch", "delete"]);
    let [read_policies, read_identities] = ["databaseaccesspolicies", "nonhumanidentities"].map(|it| of(&read, it));
    let [write_policies, write_identities] = ["databaseaccesspolicies", "nonhumanidentities"].map(|it| of(&write, it));
    let beyond = ["update postern.dev databaseaccesspolicies/status", "patch postern.dev nonhumanidentities/status"];
    let all: Vec<&str> = [&read_policies, &read_identities, &write_policies, &write_identities]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .chain(beyond)
        .collect();
    for (who, rights) in [
        // By aggregation, which is a controller's work.
        ("viewer", [&read_policies, &read_identities]),
        ("admin", [&read_policies, &read_identities]),
        ("dap", [&read_policies, &write_policies]),
        ("ids", [&read_identities, &write_identities]),
    ] {
        let rights: Vec<&str> = rights.into_iter().flatten().map(String::as_str).collect();
        until("the rights are aggregated", || allowed(cluster, who, namespace, &all).len() >= rights.len());
        assert_eq!(allowed(cluster, who, namespace, &all), rights, "{who}");
    }
    assert_eq!(allowed(cluster, "dap", namespace, &["get - secrets"]), [""; 0]);
}

fn webhooks(cluster: &Cluster) {
    let namespace = cluster.seen.as_str();
    create(cluster.editor, &plain(namespace, "plain")).unwrap();
    create(cluster.editor, &deployment(namespace, None, None)).unwrap();
    for change in [
        &["scale", "deployment/app", "--replicas=1"][..],
        &["set", "env", "deployment/app", "A=b"],
        &["annotate", "deployment/app", "a=b"],
    ] {
        cluster.editor.kubectl(&[change, &["-n", namespace]].concat()).unwrap();
    }
    let mut pod = plain(namespace, "asking");
    pod["metadata"]["annotations"] = json!({"postern.dev/inject": "shop"});
    // However it looks.
    for pod in [pod, injected(namespace, "asking", &["shop"])] {
        let said = refusal(cluster.editor, &pod);
        assert!(said.contains("failed calling webhook \"pods.postern.dev\""), "{said}");
    }
    let mut empty = plain(namespace, "asking");
    empty["metadata"]["annotations"] = json!({"postern.dev/inject": ""});
    assert!(refusal(cluster.editor, &empty).contains("failed calling webhook"));
    let said = cluster
        .editor
        .refused(&["annotate", "deployment/app", "postern.dev/inject=shop", "-n", namespace], "")
        .unwrap();
    assert!(said.contains("failed calling webhook \"workloads.postern.dev\""), "{said}");
    // Where nothing is injected, an annotation is nobody's but the admission policies'.
    create(cluster.editor, &deployment(&cluster.unseen, Some("shop"), None)).unwrap();
}

/// Made before the chart was installed.
fn workloads(cluster: &Cluster) {
    let before = ["-n", "before"];
    for change in [
        &["label", "deployment/app", "--overwrite", "a=b"][..],
        &["set", "image", "deployment/app", "app=app:2"],
        &["set", "env", "deployment/app", "A=b"],
        &["scale", "deployment/app", "--replicas=0"],
    ] {
        cluster.editor.kubectl(&[change, &before[..]].concat()).unwrap();
    }
    for change in [
        &["annotate", "deployment/app", "--overwrite", "postern.dev/inject=other"][..],
        &["annotate", "deployment/app", "postern.dev/inject-"],
    ] {
        let said = cluster.editor.refused(&[change, &before[..]].concat(), "").unwrap();
        assert!(said.contains("failed calling webhook \"workloads.postern.dev\""), "{said}");
    }
    // In the template alone, it would no longer be what the workload asks for.
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"postern.dev/inject": null}}}}}).to_string();
    let said = cluster.editor.refused(&[&["patch", "deployment/app", "-p", &patch], &before[..]].concat(), "").unwrap();
    assert!(said.contains("failed calling webhook"), "{said}");
}

fn validation(cluster: &Cluster) {
    create(cluster.admin, &policy(&cluster.seen, "shop", "login")).unwrap();
}

/// Another release, with what the first one has not.
fn again(cluster: &Cluster) {
    let chart = chart();
    let arguments = [
        "second",
        &chart,
        "-n",
        "second",
        "--create-namespace",
        "--set",
        &excluded(),
        "--set",
        "replicas=3,priorityClassName=system-cluster-critical,monitoring.grafanaDashboard.enabled=true,\
         audit.sink=file:/var/log/postern/audit.jsonl,audit.volume.emptyDir.sizeLimit=1Gi,rbac.aggregateToView=false",
    ];
    helm_says(Some(cluster.admin), &[&["install"], &arguments[..]].concat()).unwrap();
    let write = ["patch apps deployments", "patch apps statefulsets", "patch apps daemonsets"];
    assert!(allowed(cluster, SECOND, "", &write).is_empty(), "no switch gives it the right to write workloads");
    helm_says(Some(cluster.admin), &[&["upgrade"], &arguments[..], &["--no-hooks", "--set", "replicas=1"]].concat())
        .unwrap();
    let deployment = cluster.admin.json(&["get", "deployment", "second", "-n", "second"]).unwrap();
    assert_eq!(deployment["spec"]["replicas"], 1);
    helm_says(Some(cluster.admin), &["uninstall", "second", "-n", "second", "--no-hooks"]).unwrap();
    let kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings,deployments,services,secrets,configmaps,\
                 serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies";
    let left = cluster.admin.json(&["get", kinds, "-A", "-l", "app.kubernetes.io/instance=second"]).unwrap();
    assert_eq!(left["items"], Value::Array(Vec::new()));
    cluster.admin.kubectl(&["get", "deployment", "postern", "-n", RELEASE]).unwrap();
}
