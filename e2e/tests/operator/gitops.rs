//! Tools that write the same manifests again and again, as they stand in a repository: with the annotation on the workload only.

use serde_json::{Value, json};

use crate::{Shop, asks, deployment, eventually, on_both, pod_template, policy};

/// How often everything is written in each way.
const ROUNDS: usize = 4;

on_both! {
    a_workload_that_is_written_again_and_again_is_rolled_out_once => written_again;
}

/// Of each kind a workload with these annotations, and what of it is made once for each rollout.
fn workloads(which: &str, annotations: &Value) -> Vec<(Value, &'static str)> {
    let of_apps = |kind: &str, more: Value| {
        let mut workload = deployment(&format!("{}-{which}", kind.to_lowercase()), annotations);
        workload["kind"] = json!(kind);
        workload["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        workload
    };
    let of_batch = |kind: &str, spec: &dyn Fn(Value) -> Value| {
        let name = format!("{}-{which}", kind.to_lowercase());
        let mut template = pod_template(&name, &json!({}));
        template["spec"]["restartPolicy"] = json!("Never");
        let metadata = json!({"name": name, "annotations": annotations});
        let job = json!({"metadata": {"labels": {"app": name}}, "spec": {"template": template}});
        json!({"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": spec(job)})
    };
    vec![
        (of_apps("Deployment", json!({})), "replicasets"),
        (of_apps("StatefulSet", json!({"serviceName": "none"})), "controllerrevisions"),
        (of_apps("DaemonSet", json!({})), "controllerrevisions"),
        (of_batch("Job", &|job| job["spec"].clone()), "pods"),
        // Once in many years.
        (of_batch("CronJob", &|job| json!({"schedule": "0 0 29 2 1", "jobTemplate": job})), "jobs"),
    ]
}

fn written_again(shop: &Shop) {
    let asking = workloads("asks", &asks("shop"));
    // What happens to those anyhow: the API server itself counts some changes of annotations as one of the spec.
    let plain = workloads("plain", &json!({}));
    let write = |form: &[&str], kinds: &dyn Fn(&str) -> bool| {
        let all = asking.iter().chain(&plain).map(|(workload, _)| workload);
        let items: Vec<_> = all.filter(|workload| kinds(workload["kind"].as_str().unwrap())).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        shop.admin.with_input(&[form, &["-n", &shop.namespace, "-f", "-"]].concat(), &list).unwrap();
    };
    // Of each its generation, and how many rollouts of it there were.
    let state = |workloads: &[(Value, &str)]| -> Vec<(Value, usize)> {
        let of = |(workload, made): &(Value, &str)| {
            let (kind, name) = (workload["kind"].as_str().unwrap(), workload["metadata"]["name"].as_str().unwrap());
            let generation = shop.get(&[kind, name])["metadata"]["generation"].clone();
            (generation, shop.get(&[made, "-l", &format!("app={name}")])["items"].as_array().unwrap().len())
        };
        workloads.iter().map(of).collect()
    };
    write(&["apply"], &|_| true);
    let wanted: Vec<_> = [1, 1, 1, 1, 0].map(|count| (json!(1), count)).into();
    eventually(|| (state(&asking) == wanted && state(&plain) == wanted).then_some(()))
        .unwrap_or_else(|| panic!("{:?}", state(&asking)));
    assert!(shop.pod("app=deployment-asks")["spec"]["initContainers"].is_array());
    assert!(shop.pod("app=deployment-plain")["spec"]["initContainers"].is_null());

    for round in 0..ROUNDS {
        write(&["apply"], &|_| true);
        write(&["apply", "--server-side", "--force-conflicts", "--field-manager=gitops"], &|_| true);
        // Nobody can replace a Job by its manifest: it would lose what the API server itself has added.
        write(&["replace"], &|kind| kind != "Job");
        // Tools ask for the difference before they write.
        write(&["diff"], &|_| true);
        // Neither does it matter to workloads what their sidecars are made of.
        let mut changed = policy("shop");
        changed["spec"]["sidecar"]["env"] = json!({"ROUND": round.to_string()});
        shop.apply(&changed);
    }
    let settled = |name: &str| {
        let deployment = shop.get(&["deployment", name]);
        (deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]).then_some(())
    };
    for name in ["deployment-asks", "deployment-plain"] {
        eventually(|| settled(name)).expect("the controllers have seen all of it");
    }
    assert_eq!(state(&asking), state(&plain), "those that ask change no more than others");
    let rollouts: Vec<_> = state(&asking).into_iter().map(|(_, rollouts)| rollouts).collect();
    assert_eq!(rollouts, [1, 1, 1, 1, 0]);
    println!("each workload was written {} times, and rolled out once", 3 * ROUNDS + 1);
}
