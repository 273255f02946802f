//! What somebody with `edit` tries on pods, while no operator is there.

use serde_json::{Value, json};

use crate::cluster::{Cluster, create, injected, plain, policy, refusal, token, until};
use crate::on_both;

on_both! {
    a_sidecars_image_cant_be_swapped => image;
    the_annotation_of_a_live_pod_cant_change => annotation;
    an_ephemeral_container_stays_out_of_the_sidecar => ephemeral;
    nobody_gets_into_a_sidecar => exec;
    a_token_for_postern_is_the_sidecars_alone => tokens;
    nobody_gets_a_token_for_postern_in_another_name => impersonated;
    whatever_makes_a_pod_it_is_held_to_the_same => wrapped;
    no_subresource_of_a_pod_is_a_way_around => subresources;
    an_annotated_pod_has_a_sidecar_whose_volumes_are_its_own => volumes;
    a_policys_secret_is_for_no_pod => secrets;
    a_pod_too_large_to_be_looked_through_is_refused_where_policies_are => too_large;
    other_pods_are_nobodys_business => ordinary;
    an_injected_pod_can_be_worked_with => worked_with;
    the_api_server_finds_no_fault_in_the_expressions => expressions;
}

/// Adds an ephemeral container as `kubectl debug` does.
fn debug(cluster: &Cluster, namespace: &str, pod: &str, container: &Value) -> Result<(), String> {
    let patch = json!({"spec": {"ephemeralContainers": [container]}}).to_string();
    let arguments =
        ["patch", "pod", pod, "-n", namespace, "--subresource=ephemeralcontainers", "--type=strategic", "-p", &patch];
    cluster.editor.kubectl(&arguments).map(drop).map_err(|error| format!("{error:#}"))
}

/// Patches a pod; what is said if it is refused.
fn patch(cluster: &Cluster, namespace: &str, pod: &str, patch: &Value) -> Result<(), String> {
    let arguments = ["patch", "pod", pod, "-n", namespace, "--type=strategic", "-p", &patch.to_string()];
    cluster.editor.kubectl(&arguments).map(drop).map_err(|error| format!("{error:#}"))
}

#[track_caller]
fn says(result: Result<(), String>, part: &str) {
    let said = result.expect_err("is let in");
    assert!(said.contains(part) && said.contains("denied request"), "{said}");
}

fn image(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.editor, &injected(namespace, "app", &["shop", "audit"])).unwrap();
    for name in ["postern", "postern-2"] {
        let swapped = json!({"spec": {"initContainers": [{"name": name, "image": "busybox"}]}});
        says(patch(cluster, namespace, "app", &swapped), "the image of Postern's sidecar can't be changed");
        let set = ["set", "image", "pod/app", "-n", namespace, &format!("{name}=busybox")];
        let said = cluster.editor.refused(&set, "").unwrap();
        assert!(said.contains("the image of Postern's sidecar can't be changed"), "{said}");
    }
}

fn annotation(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.editor, &injected(namespace, "app", &["shop"])).unwrap();
    create(cluster.editor, &plain(namespace, "plain")).unwrap();
    let to = |value: Value| json!({"metadata": {"annotations": {"postern.dev/inject": value}}});
    for value in [json!("other"), json!(""), Value::Null] {
        says(
            patch(cluster, namespace, "app", &to(value)),
            "postern.dev/inject can't be changed on a pod that is there",
        );
    }
    says(patch(cluster, namespace, "plain", &to(json!("shop"))), "Annotate the Deployment");
    let said = cluster.editor.refused(&["annotate", "pod/plain", "-n", namespace, "postern.dev/inject="], "").unwrap();
    assert!(said.contains("can't be changed on a pod"), "{said}");
    for value in [json!("false"), Value::Null] {
        let label = json!({"metadata": {"labels": {"postern.dev/injected": value}}});
        says(patch(cluster, namespace, "app", &label), "the label postern.dev/injected");
    }
}

fn ephemeral(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    let mut pod = injected(namespace, "app", &["shop", "audit"]);
    // Else the API server itself takes no procMount.
    pod["spec"]["hostUsers"] = json!(false);
    create(cluster.editor, &pod).unwrap();
    let with = |more: Value| {
        let mut container = json!({"name": "debug", "image": "busybox", "stdin": true});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container
    };
    for volume in ["postern-token", "postern-spool"] {
        let mounting = with(json!({"volumeMounts": [{"name": volume, "mountPath": "/look"}]}));
        says(debug(cluster, namespace, "app", &mounting), "ephemeral container debug mounts a volume");
    }
    for target in ["postern", "postern-2"] {
        let beside = with(json!({"targetContainerName": target}));
        says(debug(cluster, namespace, "app", &beside), "would share the processes of Postern's sidecar");
    }
    for context in [
        json!({"privileged": true}),
        json!({"capabilities": {"add": ["SYS_PTRACE"]}}),
        json!({"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}),
        json!({"procMount": "Unmasked"}),
    ] {
        let mighty = with(json!({"securityContext": context}));
        says(debug(cluster, namespace, "app", &mighty), "use kubectl debug --profile=baseline");
    }
    // What debugs the application gets in, once and again.
    let target = with(json!({"targetContainerName": "app", "securityContext": {"capabilities": {"add": ["CHOWN"]}}}));
    debug(cluster, namespace, "app", &target).unwrap();
    let mut second = with(json!({}));
    second["name"] = json!("debug-2");
    debug(cluster, namespace, "app", &second).unwrap();
}

fn exec(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.editor, &injected(namespace, "app", &["shop", "audit"])).unwrap();
    for container in ["postern", "postern-2"] {
        let exec = ["exec", "app", "-n", namespace, "-c", container, "--", "true"];
        let attach = ["attach", "app", "-n", namespace, "-c", container];
        for arguments in [&exec[..], &attach[..]] {
            let said = cluster.editor.refused(arguments, "").unwrap();
            assert!(said.contains(&format!("container {container} is Postern's sidecar")), "{arguments:?}: {said}");
        }
    }
    // Others get as far as to the node, which isn't there. Without a name it is the first of the containers, or who asks is told to choose.
    for container in [&["-c", "app"][..], &["-c", "postern-database"], &[]] {
        let arguments = [&["exec", "app", "-n", namespace], container, &["--", "true"]].concat();
        let said = cluster.editor.refused(&arguments, "").unwrap();
        assert!(!said.contains("Postern"), "{said}");
    }
    let path = format!("/api/v1/namespaces/{namespace}/pods/app/exec?command=true");
    let said = cluster.editor.refused(&["create", "--raw", &path, "-f", "-"], "").unwrap();
    assert!(said.contains("does not have a host assigned"), "{said}");
}

fn tokens(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    let with = |volume: Value| {
        let mut pod = plain(namespace, "thief");
        pod["spec"]["volumes"] = json!([volume]);
        pod
    };
    for volume in [
        token("mine", "postern.dev"),
        token("postern-token", "postern.dev"),
        json!({"name": "many", "projected": {"sources": [
            {"serviceAccountToken": {"path": "one"}}, {"serviceAccountToken": {"audience": "postern.dev", "path": "two"}},
        ]}}),
    ] {
        let said = refusal(cluster.editor, &with(volume));
        assert!(said.contains("a token of the audience postern.dev is for Postern's sidecar alone"), "{said}");
    }
    // Nor in a pod with a sidecar, beside it.
    let mut pod = injected(namespace, "app", &["shop"]);
    pod["spec"]["volumes"].as_array_mut().unwrap().push(token("mine", "postern.dev"));
    let said = refusal(cluster.editor, &pod);
    assert!(said.contains("volume mine asks for a token of the audience postern.dev"), "{said}");
    create(cluster.editor, &with(token("vault", "vault"))).unwrap();

    // Nor by asking for one, bound to a sidecar's own pod or not.
    create(cluster.editor, &injected(namespace, "app", &["shop"])).unwrap();
    let ask = ["create", "token", "default", "-n", namespace];
    let bound = ["--audience=postern.dev", "--bound-object-kind=Pod", "--bound-object-name=app"];
    for more in [&["--audience=postern.dev"][..], &["--audience=vault", "--audience=postern.dev"], &bound] {
        let said = cluster.editor.refused(&[&ask[..], more].concat(), "").unwrap();
        assert!(said.contains("are for Postern's sidecars alone"), "{said}");
    }
    for more in [&[][..], &["--audience=vault"]] {
        cluster.editor.kubectl(&[&ask[..], more].concat()).unwrap();
    }
    // Kubelets do, for the sidecars' volumes.
    let node = format!("system:node:{namespace}");
    let kubelet = cluster.server.user(&node, &["system:nodes"]).unwrap();
    let binding = ["create", "rolebinding", "node", "--clusterrole=edit", &format!("--user={node}"), "-n", namespace];
    cluster.admin.kubectl(&binding).unwrap();
    kubelet.kubectl(&[&ask[..], &bound].concat()).unwrap();
}

/// `edit` may act as the service accounts of its namespaces, and so as far as they may.
fn impersonated(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.editor, &injected(namespace, "app", &["shop"])).unwrap();
    let account = format!("--as=system:serviceaccount:{namespace}:default");
    let ask = ["create", "token", "default", "-n", namespace, "--audience=postern.dev", &account];
    let said = cluster.editor.refused(&ask, "").unwrap();
    assert!(said.contains("cannot create resource \"serviceaccounts/token\""), "{said}");
    // With all the rights of the namespace it is no kubelet.
    let binding = ["create", "rolebinding", "all", "--clusterrole=admin", "-n", namespace];
    let subject = format!("--serviceaccount={namespace}:default");
    cluster.admin.kubectl(&[&binding[..], &[&subject]].concat()).unwrap();
    until("the right is there", || cluster.editor.kubectl(&[&ask[..5], &[&account]].concat()).is_ok());
    let said = cluster.editor.refused(&ask, "").unwrap();
    assert!(said.contains("are for Postern's sidecars alone"), "{said}");
    let said = cluster.editor.refused(&[&ask[..], &["--as-group=system:nodes"]].concat(), "").unwrap();
    assert!(said.contains("cannot impersonate resource \"groups\""), "{said}");
}

/// Workloads are nothing to these policies; their pods are, whoever makes them, and by whatever name.
fn wrapped(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    let mut thief = plain(namespace, "thief");
    thief["spec"]["volumes"] = json!([token("mine", "postern.dev")]);
    let mut generated = thief.clone();
    generated["metadata"] = json!({"generateName": "thief-", "namespace": namespace});
    let said = refusal(cluster.editor, &generated);
    assert!(said.contains("for Postern's sidecar alone"), "{said}");
    // A node's own pod has no service account, so no token.
    let mut mirror = injected(namespace, "mirror", &["shop"]);
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
    mirror["spec"]["nodeName"] = json!("node");
    let said = refusal(cluster.editor, &mirror);
    assert!(said.contains("mirror pod"), "{said}");

    let template = |more: Value| {
        let mut spec = thief["spec"].clone();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"labels": {"app": "thief"}}, "spec": spec})
    };
    let workload = |version: &str, kind: &str, spec: Value| {
        json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": "thief", "namespace": namespace}, "spec": spec,
        })
    };
    let labels = json!({"app": "thief"});
    let selector = json!({"matchLabels": labels});
    for (object, what) in [
        (
            workload("apps/v1", "ReplicaSet", json!({"selector": selector, "template": template(json!({}))})),
            "ReplicaSet",
        ),
        (
            workload("v1", "ReplicationController", json!({"selector": labels, "template": template(json!({}))})),
            "ReplicationController",
        ),
        (
            workload(
                "apps/v1",
                "StatefulSet",
                json!({"selector": selector, "serviceName": "x", "template": template(json!({}))}),
            ),
            "StatefulSet",
        ),
        (workload("batch/v1", "Job", json!({"template": template(json!({"restartPolicy": "Never"}))})), "Job"),
    ] {
        create(cluster.editor, &object).unwrap();
        until(&format!("the {what}'s pod is refused"), || {
            let selected = format!("--field-selector=reason=FailedCreate,involvedObject.kind={what}");
            let events = cluster.admin.kubectl(&[
                "get",
                "events",
                "-n",
                namespace,
                &selected,
                "-o",
                "jsonpath={.items[*].message}",
            ]);
            events.unwrap().contains("for Postern's sidecar alone")
        });
    }
    assert_eq!(cluster.admin.kubectl(&["get", "pods", "-n", namespace, "-o", "name"]).unwrap(), "");
}

fn subresources(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.editor, &injected(namespace, "app", &["shop"])).unwrap();
    for (verb, of_a_pod) in [("create", "binding"), ("update", "status"), ("patch", "status")] {
        let may = cluster.editor.command(&["auth", "can-i", verb, "pods", "--subresource", of_a_pod, "-n", namespace]);
        assert!(!{ may }.output().unwrap().status.success(), "{verb} {of_a_pod}");
    }
    // What a subresource changes is nothing but its own.
    let resize = ["--verb=patch", "--resource=pods/resize", "-n", namespace];
    cluster.admin.kubectl(&[&["create", "role", "resize"], &resize[..]].concat()).unwrap();
    cluster
        .admin
        .kubectl(&["create", "rolebinding", "resize", "--role=resize", "--group=editors", "-n", namespace])
        .unwrap();
    let change = json!({
        "metadata": {"annotations": {"postern.dev/inject": "other"}, "labels": {"postern.dev/injected": "no"}},
        "spec": {"initContainers": [{"name": "postern", "image": "busybox", "resources": {"requests": {"cpu": "21m"}}}]},
    });
    let before = cluster.admin.json(&["get", "pod", "app", "-n", namespace]).unwrap();
    for of_a_pod in ["--subresource=resize", "--subresource=ephemeralcontainers"] {
        let change = change.to_string();
        let patch = ["patch", "pod", "app", "-n", namespace, of_a_pod, "--type=strategic", "-p", &change];
        // Taken or refused: it comes to nothing, and that is not for want of a right.
        let answer = cluster.editor.kubectl(&patch).map_err(|error| format!("{error:#}"));
        assert!(!answer.is_err_and(|said| said.contains("cannot patch resource")), "{of_a_pod}");
        let after = cluster.admin.json(&["get", "pod", "app", "-n", namespace]).unwrap();
        for path in ["/metadata/annotations", "/metadata/labels", "/spec/initContainers/0/image"] {
            assert_eq!(after.pointer(path), before.pointer(path), "{of_a_pod}");
        }
    }
}

fn volumes(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    let mut pod = plain(namespace, "bare");
    pod["metadata"]["annotations"] = json!({"postern.dev/inject": "shop"});
    let said = refusal(cluster.editor, &pod);
    assert!(said.contains("Postern's webhooks did not see it"), "{said}");
    // One that ends would leave its name to others.
    let mut pod = injected(namespace, "bare", &["shop"]);
    pod["spec"]["initContainers"][0].as_object_mut().unwrap().remove("restartPolicy");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        pod["spec"]["initContainers"][0].as_object_mut().unwrap().remove(probe);
    }
    let said = refusal(cluster.editor, &pod);
    assert!(said.contains("Postern's webhooks did not see it"), "{said}");

    let mount = json!([{"name": "postern-token", "mountPath": "/look"}]);
    let mut in_app = injected(namespace, "bare", &["shop"]);
    in_app["spec"]["containers"][0]["volumeMounts"] = mount.clone();
    let mut in_init = injected(namespace, "bare", &["shop"]);
    let init = json!({"name": "setup", "image": "setup", "volumeMounts": mount});
    in_init["spec"]["initContainers"].as_array_mut().unwrap().push(init.clone());
    // By a name that looks like a sidecar's.
    let mut in_disguise = in_init.clone();
    in_disguise["spec"]["initContainers"][1]["name"] = json!("postern-1");
    let mut ending = in_init.clone();
    ending["spec"]["initContainers"][1]["name"] = json!("postern-2");
    let mut in_container = injected(namespace, "bare", &["shop"]);
    in_container["spec"]["containers"].as_array_mut().unwrap().push(init);
    in_container["spec"]["containers"][1]["name"] = json!("postern-3");
    for (pod, name) in [
        (in_app, "app"),
        (in_init, "setup"),
        (in_disguise, "postern-1"),
        (ending, "postern-2"),
        (in_container, "postern-3"),
    ] {
        let said = refusal(cluster.editor, &pod);
        assert!(said.contains(&format!("container {name} mounts a volume whose name begins with postern-")), "{said}");
    }
}

/// Ways of a pod to read a Secret.
fn readers(namespace: &str, secret: &str) -> Vec<Value> {
    let pod = |pointer: &str, value: Value| {
        let mut pod = plain(namespace, "reader");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        pod
    };
    let init = |more: Value| {
        let mut container = json!({"name": "setup", "image": "setup"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod("/spec/initContainers", json!([container]))
    };
    let variable = json!([{"name": "A", "value": "x"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password", "optional": true}}}]);
    let all = json!([{"configMapRef": {"name": secret, "optional": true}}, {"secretRef": {"name": secret, "optional": true}}]);
    vec![
        pod(
            "/spec/volumes",
            json!([{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": secret, "optional": true}}]),
        ),
        pod(
            "/spec/volumes",
            json!([{"name": "s", "projected": {"sources": [
                {"configMap": {"name": secret}}, {"secret": {"name": secret, "items": [{"key": "password", "path": "p"}]}},
            ]}}]),
        ),
        pod("/spec/containers/0/env", variable.clone()),
        pod("/spec/containers/0/envFrom", all.clone()),
        init(json!({"env": variable})),
        init(json!({"envFrom": all, "restartPolicy": "Always"})),
    ]
}

fn secrets(cluster: &Cluster) {
    let (namespace, elsewhere) = (cluster.unseen.as_str(), cluster.seen.as_str());
    create(cluster.editor, &plain(namespace, "old")).unwrap();
    // Before there is a policy the Secret is like any other.
    for pod in readers(namespace, "login") {
        cluster.editor.with_input(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).unwrap();
    }
    let mut ephemeral_role = policy(namespace, "by-role", "unused");
    ephemeral_role["spec"]["database"]["credentials"] = json!({"ephemeralRole": {"adminSecret": {"name": "admin"}}});
    create(cluster.admin, &ephemeral_role).unwrap();
    create(cluster.admin, &policy(namespace, "by-login", "login")).unwrap();
    // The API server's own view of policies follows.
    let dry_run = ["create", "--dry-run=server", "-f", "-"];
    for secret in ["login", "admin", "hash-key"] {
        until("the policies are known", || {
            cluster.editor.refused(&dry_run, &readers(namespace, secret)[0].to_string()).is_ok()
        });
        for pod in readers(namespace, secret) {
            let said = refusal(cluster.editor, &pod);
            assert!(said.contains("a Secret that DatabaseAccessPolicy by-"), "{pod}: {said}");
            assert!(said.contains("only Postern may read it"), "{said}");
        }
        let peeking = json!({"name": "debug", "image": "busybox", "envFrom": [{"secretRef": {"name": secret}}]});
        says(debug(cluster, namespace, "old", &peeking), "only Postern may read it");
    }
    // The CA's certificate is public: applications, and the server itself, have it too. Other Secrets and namespaces are not concerned.
    for pod in
        readers(namespace, "pg-ca").iter().chain(&readers(namespace, "other")).chain(&readers(elsewhere, "login"))
    {
        cluster.editor.with_input(&dry_run, &pod.to_string()).unwrap();
    }
    create(cluster.editor, &injected(namespace, "app", &["shop"])).unwrap();
    debug(cluster, namespace, "old", &json!({"name": "debug", "image": "busybox"})).unwrap();
    cluster.admin.kubectl(&["delete", "dap", "by-login", "by-role", "-n", namespace]).unwrap();
    until("the policies are forgotten", || {
        cluster.editor.with_input(&dry_run, &readers(namespace, "login")[0].to_string()).is_ok()
    });
}

/// An expression that costs too much is not decided; this policy then lets pass.
fn too_large(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.admin, &policy(namespace, "shop", "login")).unwrap();
    let dry_run = ["create", "--dry-run=server", "-f", "-"];
    until("the policy is known", || {
        cluster.editor.refused(&dry_run, &readers(namespace, "login")[0].to_string()).is_ok()
    });
    let with = |containers: usize, variables: usize, secret: &str| {
        let variable = json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}});
        let mut pod = plain(namespace, "large");
        let container = |number: usize| json!({"name": format!("c{number}"), "image": "i", "env": vec![variable.clone(); variables]});
        pod["spec"]["containers"] = (0..containers).map(container).collect();
        // The last of all.
        pod["spec"]["containers"][containers - 1]["env"][variables - 1]["valueFrom"]["secretKeyRef"]["name"] =
            json!("login");
        pod
    };
    for (containers, variables) in [(1, 20_000), (1, 4_000), (4, 4_000), (199, 80)] {
        let said = refusal(cluster.editor, &with(containers, variables, "other"));
        assert!(said.contains("DatabaseAccessPolicy"), "{containers} × {variables}: {said}");
    }
    let mut large = with(1, 4_000, "other");
    large["spec"]["containers"][0]["env"].as_array_mut().unwrap().pop();
    cluster.editor.with_input(&dry_run, &large.to_string()).unwrap();
}

fn ordinary(cluster: &Cluster) {
    let namespace = cluster.seen.as_str();
    let mut pod = plain(namespace, "plain");
    // Names like ours are free to who has no sidecar.
    pod["spec"]["volumes"] = json!([{"name": "postern-data", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "postern-data", "mountPath": "/data"}]);
    pod["spec"]["initContainers"] = json!([{"name": "postern", "image": "own"}]);
    pod["metadata"]["labels"] = json!({"postern.dev/injected": "true"});
    create(cluster.editor, &pod).unwrap();
    for change in [
        json!({"metadata": {"labels": {"postern.dev/injected": "false", "a": "b"}, "annotations": {"a": "b"}}}),
        json!({"spec": {"initContainers": [{"name": "postern", "image": "own:2"}]}}),
        json!({"spec": {"containers": [{"name": "app", "image": "app:2"}]}}),
    ] {
        patch(cluster, namespace, "plain", &change).unwrap();
    }
    let strong = json!({"name": "debug", "image": "busybox", "targetContainerName": "app",
        "securityContext": {"privileged": true}, "volumeMounts": [{"name": "postern-data", "mountPath": "/data"}]});
    debug(cluster, namespace, "plain", &strong).unwrap();
    cluster.editor.kubectl(&["delete", "pod", "plain", "-n", namespace, "--grace-period=0", "--force"]).unwrap();
}

fn worked_with(cluster: &Cluster) {
    let namespace = cluster.unseen.as_str();
    create(cluster.editor, &injected(namespace, "app", &["shop", "audit"])).unwrap();
    for change in [
        json!({"metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["example.com/x"]}}),
        json!({"spec": {"containers": [{"name": "app", "image": "app:2"}], "activeDeadlineSeconds": 600}}),
    ] {
        patch(cluster, namespace, "app", &change).unwrap();
    }
    cluster.editor.kubectl(&["delete", "pod", "app", "-n", namespace, "--wait=false"]).unwrap();
    let last = json!([{"op": "remove", "path": "/metadata/finalizers"}]).to_string();
    cluster.editor.kubectl(&["patch", "pod", "app", "-n", namespace, "--type=json", "-p", &last]).unwrap();
    until("the pod is gone", || {
        cluster.editor.kubectl(&["get", "pod", "app", "-n", namespace, "--ignore-not-found"]).unwrap().is_empty()
    });
}

fn expressions(cluster: &Cluster) {
    let checked = || {
        let all = cluster
            .admin
            .json(&["get", "validatingadmissionpolicies", "-l", "app.kubernetes.io/instance=postern"])
            .unwrap();
        all["items"].as_array().unwrap().clone()
    };
    assert_eq!(checked().len(), 6);
    until("the expressions have been checked", || {
        checked().iter().all(|one| one["status"]["observedGeneration"] == one["metadata"]["generation"])
    });
    for one in checked() {
        let warnings = &one["status"]["typeChecking"]["expressionWarnings"];
        assert_eq!(*warnings, Value::Null, "{}", one["metadata"]["name"]);
    }
}
