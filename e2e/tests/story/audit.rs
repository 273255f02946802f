//! Where the audit goes: to a collector and to a volume, as the chart's values say, over everything that replicas and keys go through.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_e2e::kubernetes::Image;
use serde_json::{Value, json};

use super::{SHOP, SYSTEM, Story, eventually, ms, restricted};

/// The Secret with the keys that access tokens are signed with.
const KEYS: &str = "postern-broker-keys";

/// Takes logs as an OpenTelemetry collector does over HTTP, and prints them; none while there is a file `away`.
const COLLECTOR: &str = r#"
import http.server, json, os
class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        away = os.path.exists("/tmp/away") or self.path != "/v1/logs"
        if not away:
            for resource in json.loads(body)["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    for record in scope["logRecords"]:
                        print(record["body"]["stringValue"], flush=True)
        self.send_response(503 if away else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 4318), Collector).serve_forever()
"#;

#[test]
#[ignore = "two minutes; that nothing is lost without an operator is tried always, beside an API server"]
fn no_event_is_lost_between_replicas_keys_a_collector_and_a_volume() {
    let Some(mut story) = Story::begin() else { return };
    story.admin.kubectl(&["create", "namespace", SHOP]).unwrap();
    story.a_collector();
    story.chart("install", &["audit.sink=otlp:http://collector.shop.svc:4318"]);
    story.the_shop_is_there();

    // A collector that is away, and replicas that come and go.
    story.in_collector("touch /tmp/away");
    story.asked(0..10);
    story.in_collector("rm /tmp/away");
    for more in [10..20, 20..30] {
        story.the_oldest_replica_is_killed();
        story.asked(more);
    }
    story.the_signing_key_follows_another();
    story.asked(30..40);
    let collected = eventually("the audit of 40 statements", || {
        let events = story.collected();
        whole(&events, 40).then_some(events)
    });
    let kept = collected.len();
    let numbers: BTreeSet<_> = collected.iter().map(|event| event["proven"]["number"].as_u64()).collect();
    story.measured.push(("events that a collector got twice", format!("{} of {kept}", kept - numbers.len())));

    // The volume takes over where the collector ended.
    story.a_volume();
    let values = [
        "audit.sink=file:/var/log/postern/$(POSTERN_POD_NAME).jsonl",
        "audit.volume.persistentVolumeClaim.claimName=audit",
    ];
    story.chart("upgrade", &values);
    story.a_reader();
    // Those of before serve until they are gone.
    eventually("the old replicas' end", || (story.replicas().len() == 2).then_some(()));
    story.asked(40..50);
    eventually("the audit of 50 statements", || {
        let mut events = story.collected();
        events.extend(story.in_volume());
        whole(&events, 50).then_some(())
    });
    assert!(!whole(&story.collected(), 50), "the volume got nothing");

    story.helm(&["uninstall", "postern", "--wait", "--timeout=5m"]);
    story.admin.kubectl(&["delete", "pod", "reader", "-n", SYSTEM, "--grace-period=1"]).unwrap();
    story.admin.kubectl(&["delete", "pv", "postern-audit-test", "--wait=false"]).unwrap();
    story.end();
}

/// Whether these are all events of the one stream that there is, and the first of so many statements are among them.
fn whole(events: &[Value], statements: usize) -> bool {
    assert!(events.iter().all(|event| event["event"] != "gap"), "a gap: {events:?}");
    let mut streams: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for event in events {
        let proven = &event["proven"];
        streams.entry(proven["stream"].as_str().unwrap()).or_default().insert(proven["number"].as_u64().unwrap());
    }
    assert!(streams.len() <= 1, "the sidecar has started again: {streams:?}");
    let numbers = streams.values().next().cloned().unwrap_or_default();
    let without_holes = numbers.last().is_none_or(|last| *last == numbers.len() as u64);
    let texts: Vec<_> = events.iter().filter_map(|event| event["text"].as_str()).collect();
    let is_there = |number| texts.iter().any(|text| text.contains(&format!(" AS question_{number} ")));
    without_holes && (0..statements).all(is_there)
}

impl Story {
    fn a_collector(&self) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "collector", "namespace": SHOP, "labels": {"app": "collector"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "collector", "image": Image::client().unwrap().name(), "imagePullPolicy": "Never",
                    "command": ["python3", "-c", COLLECTOR], "securityContext": restricted(),
                    "readinessProbe": {"tcpSocket": {"port": 4318}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "collector", "namespace": SHOP},
            "spec": {"selector": {"app": "collector"}, "ports": [{"port": 4318}]},
        });
        self.admin.apply(&pod.to_string()).unwrap();
        self.admin.apply(&service.to_string()).unwrap();
        self.kubectl(&["wait", "pod/collector", "--for=condition=Ready", "--timeout=120s"]);
    }

    fn in_collector(&self, script: &str) {
        self.kubectl(&["exec", "collector", "--", "sh", "-c", script]);
    }

    fn the_shop_is_there(&self) {
        for file in ["1-database.yaml", "2-access.yaml", "3-app.yaml"] {
            self.apply_sample(file);
        }
        self.rolled_out("nightly-report");
    }

    /// Statements that are told apart by their text, without its literals, too.
    fn asked(&self, numbers: Range<usize>) {
        for number in numbers {
            self.psql("nightly-report", &format!("SELECT count(*) AS question_{number} FROM orders")).unwrap();
        }
    }

    fn collected(&self) -> Vec<Value> {
        let log = self.kubectl(&["logs", "collector", "--tail=-1"]);
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// From the oldest to the newest.
    fn replicas(&self) -> Vec<Value> {
        let pods = ["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator"];
        let pods = self.admin.json(&[&pods[..], &["--sort-by=.metadata.creationTimestamp"]].concat()).unwrap();
        pods["items"].as_array().unwrap().clone()
    }

    fn the_oldest_replica_is_killed(&self) {
        let replicas = self.replicas();
        let victim = replicas[0]["metadata"]["name"].as_str().unwrap();
        self.system(&["delete", "pod", victim, "--force", "--grace-period=0"]);
        self.operator_is_ready();
    }

    /// A day goes by for the key that signs, and then an hour for the one that it follows: no token by that is good any more.
    fn the_signing_key_follows_another(&mut self) {
        let began = Instant::now();
        let first = self.keys();
        assert_eq!(first.len(), 1);
        self.age_keys(25 * 3600);
        let both = eventually("another key", || Some(self.keys()).filter(|keys| keys.len() == 2));
        assert_eq!(both[0]["pkcs8"], first[0]["pkcs8"]);
        self.age_keys(3601);
        let last = eventually("the first key's end", || Some(self.keys()).filter(|keys| keys.len() == 1));
        assert_eq!(last[0]["pkcs8"], both[1]["pkcs8"]);
        self.measured.push(("one signing key follows another", ms(began)));
        // The sidecar gets its changes by a token of the new one.
        self.a_change_of_the_policy_acts_without_a_restart();
    }

    fn keys(&self) -> Vec<Value> {
        let secret = self.admin.json(&["get", "secret", KEYS, "-n", SYSTEM]).unwrap();
        let keys = BASE64.decode(secret["data"]["keys.json"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&keys).unwrap()
    }

    fn age_keys(&self, seconds: u64) {
        let mut keys = self.keys();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for key in &mut keys {
            assert!(key["created"].as_u64().unwrap() <= now);
            key["created"] = (key["created"].as_u64().unwrap() - seconds).into();
        }
        let keys = BASE64.encode(serde_json::to_vec(&keys).unwrap());
        self.system(&[
            "patch",
            "secret",
            KEYS,
            "--type=merge",
            "-p",
            &json!({"data": {"keys.json": keys}}).to_string(),
        ]);
    }

    /// A volume that is root's, as a new one is, and a claim of it.
    fn a_volume(&self) {
        let folder = "/var/lib/postern-audit-test";
        let maker = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "maker", "namespace": SYSTEM},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "maker", "image": Image::client().unwrap().name(), "imagePullPolicy": "Never",
                    "command": ["true"], "volumeMounts": [{"name": "folder", "mountPath": "/folder"}],
                }],
                "volumes": [{"name": "folder", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}],
            },
        });
        self.admin.apply(&maker.to_string()).unwrap();
        self.system(&["wait", "pod/maker", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s"]);
        let node = self.admin.json(&["get", "pod", "maker", "-n", SYSTEM]).unwrap()["spec"]["nodeName"].clone();
        let of_node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "postern-audit-test"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "audit-test",
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [of_node]}]}},
            },
        });
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "audit", "namespace": SYSTEM},
            "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "audit-test",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        for object in [volume, claim] {
            self.admin.apply(&object.to_string()).unwrap();
        }
    }

    /// A pod that reads the volume; not the first that mounts it, for that one says whose it is.
    fn a_reader(&self) {
        let reader = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader", "namespace": SYSTEM},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "reader", "image": Image::client().unwrap().name(), "imagePullPolicy": "Never",
                    "command": ["sleep", "infinity"], "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "audit", "mountPath": "/audit", "readOnly": true}],
                }],
                "volumes": [{"name": "audit", "persistentVolumeClaim": {"claimName": "audit"}}],
            },
        });
        self.admin.apply(&reader.to_string()).unwrap();
        self.system(&["wait", "pod/reader", "--for=condition=Ready", "--timeout=120s"]);
    }

    fn in_volume(&self) -> Vec<Value> {
        let text = self.system(&["exec", "reader", "--", "sh", "-c", "cat /audit/*.jsonl 2>/dev/null || true"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
