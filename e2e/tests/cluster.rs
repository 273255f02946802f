//! The tests' own cluster: that it is what tests take it for, and that nothing is left of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::{Cluster, Image, Namespace};
use serde_json::{Value, json};

/// A container of the client's image that Pod Security `restricted` allows.
fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": Image::client().unwrap().name(), "imagePullPolicy": "Never", "command": ["sh", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
            "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

fn pod(name: &str, container: &Value) -> String {
    let metadata = json!({"name": name, "labels": {"app": name}});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 1});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

/// A namespace in the shared cluster, which has the client's image.
fn namespace(name: &str) -> Option<(&'static Cluster, Namespace)> {
    let cluster = Cluster::shared().unwrap()?;
    cluster.load(&Image::client().unwrap()).unwrap();
    Some((cluster, cluster.namespace(name).unwrap()))
}

/// Waits until `holds`, for as long as a busy machine may take.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(240);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_job_with_a_native_sidecar_completes() {
    let Some((_, namespace)) = namespace("job") else { return };
    let mut sidecar = container("sidecar", "touch /shared/started; sleep 1000 & trap 'exit 0' TERM; wait");
    sidecar["restartPolicy"] = "Always".into();
    sidecar["startupProbe"] =
        json!({"exec": {"command": ["test", "-e", "/shared/started"]}, "periodSeconds": 1, "failureThreshold": 900});
    sidecar["volumeMounts"] =
        json!([{"name": "shared", "mountPath": "/shared"}, {"name": "token", "mountPath": "/token", "readOnly": true}]);
    let mut app = container("app", "test -e /shared/started && test ! -e /token && echo done");
    app["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    // Not of the product's audience: where that is installed already, such a token is refused.
    let token =
        json!({"serviceAccountToken": {"audience": "sidecar.test", "expirationSeconds": 3600, "path": "token"}});
    let volumes = json!([{"name": "shared", "emptyDir": {}}, {"name": "token", "projected": {"sources": [token]}}]);
    let spec = json!({"restartPolicy": "Never", "initContainers": [sidecar], "containers": [app], "volumes": volumes});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    });
    namespace.apply(&job.to_string()).unwrap();
    namespace.wait("job/job", "condition=Complete").unwrap();
    assert_eq!(namespace.kubectl(&["logs", "job/job", "-c", "app"]).unwrap(), "done\n");
    let pods = namespace.json(&["get", "pods"]).unwrap();
    let ended = &pods["items"][0]["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 0, "{ended}");
}

#[test]
fn a_pod_that_may_too_much_is_refused() {
    let Some((_, namespace)) = namespace("privileged") else { return };
    let mut container = container("app", "true");
    container["securityContext"] = json!({"privileged": true});
    let refusal = namespace.apply(&pod("app", &container)).unwrap_err().to_string();
    assert!(refusal.contains("violates PodSecurity \"restricted"), "{refusal}");
}

#[test]
fn a_database_is_reached_by_its_services_name() {
    let Some((cluster, namespace)) = namespace("service") else { return };
    let mut server = container("postgres", "");
    server.as_object_mut().unwrap().remove("command");
    server["image"] = cluster.load(&Image::postgres().unwrap()).unwrap().into();
    server["env"] = json!([{"name": "POSTGRES_PASSWORD", "value": "secret"}, {"name": "POSTGRES_DB", "value": "shop"}]);
    server["readinessProbe"] = json!({"exec": {"command": ["pg_isready", "-d", "shop"]}, "periodSeconds": 1});
    server["volumeMounts"] = json!([{"name": "tmp", "mountPath": "/tmp"}]);
    let mut database: Value = serde_json::from_str(&pod("database", &server)).unwrap();
    database["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "database"},
        "spec": {"selector": {"app": "database"}, "ports": [{"port": 5432}]},
    });
    for manifest in [database.to_string(), service.to_string(), pod("app", &container("app", "sleep 1000"))] {
        namespace.apply(&manifest).unwrap();
    }
    namespace.wait("pod/database", "condition=Ready").unwrap();
    namespace.wait("pod/app", "condition=Ready").unwrap();
    // Before what balances has seen the endpoint, connections are refused.
    let host = format!("database.{}.svc.cluster.local", namespace.name());
    let url = format!("host={host} user=postgres password=secret dbname=shop connect_timeout=20");
    eventually("the database is not reached", || namespace.exec("app", &["psql", &url, "-c", "SELECT"]).is_ok());
    assert_eq!(namespace.exec("app", &["psql", &url, "-Atc", "SELECT 6 * 7"]).unwrap(), "42\n");
    let program = format!("import psycopg2; print(psycopg2.connect('{url}').server_version // 10000)");
    assert_eq!(namespace.exec("app", &["python3", "-c", &program]).unwrap(), "15\n");
    let refused = url.replace("secret", "other");
    assert!(namespace.exec("app", &["psql", &refused, "-c", "SELECT"]).is_err());
}

#[test]
fn limits_of_memory_and_cpu_are_enforced() {
    let Some((_, namespace)) = namespace("limits") else { return };
    let mut hungry = container("app", "exec python3 -c 'x = bytearray(200 << 20); print(len(x))'");
    hungry["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "100m"}});
    let mut memory: Value = serde_json::from_str(&pod("memory", &hungry)).unwrap();
    memory["spec"]["restartPolicy"] = "Never".into();
    let mut busy = container("app", "while :; do :; done");
    busy["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "100m"}});
    namespace.apply(&memory.to_string()).unwrap();
    namespace.apply(&pod("cpu", &busy)).unwrap();
    namespace.wait("pod/memory", "jsonpath={.status.phase}=Failed").unwrap();
    let ended = namespace.json(&["get", "pod", "memory"]).unwrap();
    let ended = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["reason"], "OOMKilled", "{ended}");

    namespace.wait("pod/cpu", "condition=Ready").unwrap();
    eventually("the CPU is not limited", || {
        let said = namespace
            .exec("cpu", &["sh", "-c", "cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu/cpu.stat 2>/dev/null; true"]);
        let said = said.unwrap();
        said.lines().any(|line| line.strip_prefix("nr_throttled ").is_some_and(|times| times != "0"))
    });
}

#[test]
fn a_user_may_what_is_bound_to_the_name() {
    let Some((cluster, namespace)) = namespace("user") else { return };
    let name = namespace.name();
    let user = cluster.user(&format!("user-of-{name}"), &[]).unwrap();
    let list = ["get", "pods", "-n", name];
    assert!(user.refused(&list, "").unwrap().contains("cannot list resource \"pods\""));
    let bound = format!("--user=user-of-{name}");
    namespace.kubectl(&["create", "rolebinding", "edit", "--clusterrole=edit", &bound]).unwrap();
    user.kubectl(&list).unwrap();
    user.with_input(&["-n", name, "apply", "-f", "-"], &pod("app", &container("app", "sleep 1000"))).unwrap();
    assert!(user.refused(&["get", "nodes"], "").unwrap().contains("cannot list resource \"nodes\""));
}

/// What there is of a cluster outside its folder, by the number and the folder that it had.
fn traces(number: &str, folder: &Path) -> Vec<String> {
    let text = folder.to_str().unwrap();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let read = |name: &str| fs::read(path.join(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
        let (Ok(command), Ok(groups)) = (read("cmdline"), read("cgroup")) else { continue };
        let working = fs::read_link(path.join("cwd")).unwrap_or_default();
        if command.contains(text) || working.starts_with(folder) || groups.contains(&format!("/postern-{number}/")) {
            found.push(format!("process {}: {}", path.display(), command.replace('\0', " ")));
        }
        if path.ends_with("self") {
            found.extend(
                read("mounts").unwrap().lines().filter(|line| line.contains(text)).map(|line| format!("mount {line}")),
            );
        }
    }
    let link = format!("/sys/class/net/postern{number}");
    found.extend(Path::new(&link).exists().then_some(link));
    found
}

fn groups(number: &str) -> Vec<String> {
    let name = format!("postern-{number}");
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path()));
    roots
        .iter()
        .map(|root| root.join(&name))
        .filter(|group| group.exists())
        .map(|group| group.display().to_string())
        .collect()
}

fn number(folder: &Path) -> String {
    fs::read_to_string(folder.join("address")).unwrap().split('.').nth(2).unwrap().to_owned()
}

/// A pod that runs, in the cluster.
fn with_a_pod(cluster: &Cluster) {
    cluster.load(&Image::client().unwrap()).unwrap();
    let namespace = cluster.namespace("left").unwrap();
    namespace.apply(&pod("app", &container("app", "sleep 1000"))).unwrap();
    namespace.wait("pod/app", "condition=Ready").unwrap();
    // The namespace would go, with the pod.
    std::mem::forget(namespace);
}

#[test]
fn nothing_is_left_of_a_stopped_cluster() {
    let Some(cluster) = Cluster::start().unwrap() else { return };
    with_a_pod(&cluster);
    let folder = cluster.folder().to_owned();
    let number = number(&folder);
    assert!(traces(&number, &folder).iter().any(|trace| trace.contains("sleep 1000")), "the pod is no trace");
    assert!(!groups(&number).is_empty());
    drop(cluster);
    assert_eq!(traces(&number, &folder), [""; 0]);
    assert_eq!(groups(&number), [""; 0]);
    assert!(!folder.exists());
}

/// Runs this very program again as a child that is killed while it has a cluster, along with what guards the cluster.
#[test]
fn nothing_is_left_of_a_killed_cluster() {
    if std::env::var_os("CLUSTER_CHILD").is_some() {
        let Some(cluster) = Cluster::start().unwrap() else { return };
        with_a_pod(&cluster);
        println!("folder={}", cluster.folder().display());
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_killed_cluster", "--nocapture"])
        .env("CLUSTER_CHILD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let folder = lines.filter_map(|line| line.split_once("folder=").map(|(_, folder)| PathBuf::from(folder))).next();
    // The child has said why.
    let Some(folder) = folder else { return assert!(child.wait().unwrap().success()) };
    let number = number(&folder);
    // All that would clean up is killed first: what is outside the cluster's namespaces.
    let outside = traces(&number, &folder).into_iter().filter_map(|trace| {
        let (path, command) = trace.strip_prefix("process /proc/")?.split_once(": ")?;
        (command.contains("/e2e/kubernetes/node ") && !command.contains(" inside ")).then(|| path.to_owned())
    });
    let outside: Vec<_> = outside.collect();
    assert!(!outside.is_empty());
    let kill = Command::new("kill").arg("-KILL").args(&outside).arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    child.wait().unwrap();
    eventually("processes, mounts or links are left", || traces(&number, &folder).is_empty());
    // Control groups and the folder go with the next start.
    let next = Cluster::start().unwrap().unwrap();
    eventually("the folder is left", || !folder.exists());
    assert_ne!(next.folder(), folder);
    drop(next);
    assert_eq!(groups(&number), [""; 0]);
}
