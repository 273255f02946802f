//! What ends pods and containers, while their applications ask: no event of the audit is lost by it.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Instant;

use postern_e2e::gate::http_get;
use postern_e2e::kubernetes::Image;
use postern_e2e::process::Process;
use postern_e2e::wire::{Message, Wire, error};
use serde_json::{Value, json};

use super::{SHOP, Story, deployment, eventually, restricted};

/// Asks without end, and prints the number of each question that was answered; `then` happens after the twentieth.
const QUESTIONS: &str = "
import itertools, os, psycopg2, time
cursor = psycopg2.connect('').cursor()
cursor.connection.autocommit = True
for number in itertools.count():
    cursor.execute(f'SELECT count(*) AS {os.environ[\"NAME\"]}_{number} FROM orders')
    cursor.fetchall()
    print(number, flush=True)
    if number == 20:
        exec(os.environ['THEN'])
    time.sleep(0.02)
";

#[test]
fn no_event_is_lost_when_a_job_runs_out_of_memory_or_is_evicted_and_who_forwards_a_port_is_the_application() {
    let Some(mut story) = Story::begin() else { return };
    story.a_shop_without_workloads();
    let killed = story.a_job_that_asks("killed", "b'x' * (1 << 30)");
    let evicted = story.a_job_that_asks("evicted", "pass");

    assert_eq!(story.how_it_ended(&killed), "OOMKilled");
    story.its_audit_is_whole(killed);

    story.who_forwards_a_port_speaks_as_the_application(&evicted.pod);
    eventually("the questions of the other one", || (evicted.answered().len() > 20).then_some(()));
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted.pod, "namespace": SHOP},
    });
    let path = format!("/api/v1/namespaces/{SHOP}/pods/{}/eviction", evicted.pod);
    let began = Instant::now();
    story.admin.with_input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string()).unwrap();
    story.kubectl(&["wait", &format!("pod/{}", evicted.pod), "--for=delete", "--timeout=120s"]);
    story.measured.push(("an evicted pod is gone", super::ms(began)));
    story.its_audit_is_whole(evicted);

    story.helm(&["uninstall", "postern", "--wait", "--timeout=5m"]);
    story.end();
    println!("left out: eviction by the kubelet, and a sidecar that runs out of memory");
}

#[test]
#[ignore = "the kubelet looks every minute at what a volume holds; the short form has the eviction API"]
fn no_event_is_lost_when_the_kubelet_evicts_or_a_sidecar_runs_out_of_memory() {
    let Some(mut story) = Story::begin() else { return };
    story.a_shop_without_workloads();
    let full = story.a_job_that_asks("full", "open('/scratch/file', 'wb').write(b'x' * (8 << 20))");
    story.a_sidecar_that_runs_out_of_memory_comes_back();
    assert_eq!(story.how_it_ended(&full), "Evicted");
    story.its_audit_is_whole(full);
    story.helm(&["uninstall", "postern", "--wait", "--timeout=5m"]);
    story.end();
}

/// A pod whose application asks, and tells what was answered.
struct Asking {
    pod: String,
    name: &'static str,
    log: Child,
    answers: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Asking {
    /// The numbers of the questions that were answered so far.
    fn answered(&self) -> Vec<usize> {
        let answers = self.answers.lock().unwrap();
        // The last line may be on its way.
        let whole = answers.rfind('\n').map_or("", |end| &answers[..end]);
        // What it says last is not that, if it outlives its sidecar by a moment.
        whole.lines().map_while(|line| line.parse().ok()).collect()
    }
}

/// Ends a kubectl, which has a parent that passes this on.
fn ended(command: &mut Child) {
    if let Ok(None) = command.try_wait() {
        _ = Process::new(command.id()).signal("TERM");
        _ = command.wait();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        ended(&mut self.log);
    }
}

impl Story {
    fn a_shop_without_workloads(&self) {
        self.admin.kubectl(&["create", "namespace", SHOP]).unwrap();
        self.chart("install", &[]);
        self.apply_sample("1-database.yaml");
        self.apply_sample("2-access.yaml");
        self.kubectl(&["create", "serviceaccount", "nightly-report"]);
        self.rolled_out("pg");
        for object in ["dap/shop", "nhi/nightly-report"] {
            self.kubectl(&["wait", object, "--for=condition=Ready", "--timeout=120s"]);
        }
    }

    /// Starts a Job that asks, and follows what it tells: once its pod is gone, so is its log.
    fn a_job_that_asks(&self, name: &'static str, then: &str) -> Asking {
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": SHOP, "annotations": {"postern.dev/inject": "shop"}},
            "spec": {"backoffLimit": 0, "template": {"spec": {
                "serviceAccountName": "nightly-report",
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 2,
                "containers": [{
                    "name": "app", "image": Image::client().unwrap().name(), "imagePullPolicy": "Never",
                    "command": ["python3", "-c", QUESTIONS],
                    "env": [{"name": "NAME", "value": name}, {"name": "THEN", "value": then}],
                    "resources": {"limits": {"memory": "96Mi"}},
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                    "securityContext": restricted(),
                }],
                "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "2Mi"}}],
            }}},
        });
        self.admin.apply(&job.to_string()).unwrap();
        let pod = eventually("the job's pod", || {
            let pods = self.admin.json(&["get", "pods", "-n", SHOP, "-l", &format!("job-name={name}")]).ok()?;
            let application = &pods["items"][0]["status"]["containerStatuses"][0];
            // On a quick machine it has ended before it is seen to have started; its log is there as well.
            let has_begun = application["started"] == true || application["state"]["terminated"].is_object();
            has_begun.then(|| pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned())
        });
        let mut follow = self.admin.command(&["logs", "-n", SHOP, "-f", &pod, "-c", "app"]);
        let mut log = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = log.stdout.take().unwrap();
        let answers = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let told = std::sync::Arc::clone(&answers);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut part) {
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&part[..length]));
            }
        });
        Asking { pod, name, log, answers }
    }

    /// Why a pod, or the application in it, is no more.
    fn how_it_ended(&self, asking: &Asking) -> String {
        eventually("its end", || {
            let status = self.admin.json(&["get", "pod", &asking.pod, "-n", SHOP]).ok()?["status"].clone();
            let of_application = &status["containerStatuses"][0]["state"]["terminated"]["reason"];
            let of_either = [&status["reason"], of_application].into_iter().find_map(Value::as_str);
            of_either.filter(|_| status["phase"] == "Failed").map(str::to_owned)
        })
    }

    /// Every question that was answered is in the audit, and the end of its session.
    fn its_audit_is_whole(&mut self, mut asking: Asking) {
        // It ends with the pod.
        asking.log.wait().unwrap();
        let answered = asking.answered();
        assert!(answered.len() > 20, "{answered:?}");
        let missing = || {
            let mut audit = self.audit();
            audit.retain(|event| event["proven"]["pod"] == asking.pod.as_str());
            assert!(audit.iter().all(|event| event["event"] != "gap"), "a gap: {audit:?}");
            let texts: Vec<_> = audit.iter().filter_map(|event| event["text"].as_str()).collect();
            let is_told = |number| texts.iter().any(|text| text.contains(&format!(" AS {}_{number} ", asking.name)));
            let ended = audit.iter().any(|event| event["event"] == "session_end");
            (!ended || !answered.iter().all(is_told)).then(|| format!("{ended}, {}", texts.len()))
        };
        eventually("the audit of a pod that is gone", || missing().is_none().then_some(()));
        self.measured.push((
            "questions that were answered before a pod's end, all of them in the audit",
            format!("{} ({})", answered.len(), asking.name),
        ));
    }

    /// As a user with `edit`, from outside of the cluster.
    fn who_forwards_a_port_speaks_as_the_application(&self, pod: &str) {
        self.kubectl(&["create", "rolebinding", "developer", "--clusterrole=edit", "--user=developer"]);
        let (gate, admin) = (postern_e2e::free_port().unwrap(), postern_e2e::free_port().unwrap());
        let ports = [format!("{gate}:6432"), format!("{admin}:9432")];
        let mut forward =
            self.admin.command(&["--as=developer", "-n", SHOP, "port-forward", pod, &ports[0], &ports[1]]);
        let mut forward = forward.stdout(Stdio::null()).spawn().unwrap();
        let mut wire = eventually("a session", || Wire::connect(gate, "anyone", "any password", "shop").ok());
        let answer = format!("{:?}", wire.simple("SELECT card_number AS forwarded FROM customers").unwrap());
        assert!(answer.contains("9012") && !answer.contains("4929"), "{answer}");
        let refused = wire.simple("COPY customers TO STDOUT").unwrap();
        assert_eq!(error(&refused).and_then(Message::sqlstate).as_deref(), Some("42501"));
        for path in ["/metrics", "/ready", "/live", "/startup"] {
            let (_, told) = http_get(admin, path).unwrap();
            for secret in ["change-me", "eyJ", "card_number"] {
                assert!(!told.contains(secret), "{secret} at {path}: {told}");
            }
        }
        drop(wire);
        ended(&mut forward);
        eventually("its audit", || {
            let asked = |event: &Value| event["text"].as_str().is_some_and(|text| text.contains(" AS forwarded "));
            self.audit().iter().any(|event| asked(event) && event["proven"]["pod"] == pod).then_some(())
        });
    }

    /// A limit far below the default, and a statement whose tree is larger, though it stays within `--parse-memory`.
    fn a_sidecar_that_runs_out_of_memory_comes_back(&mut self) {
        self.patch_policy(&json!({"spec": {"sidecar": {"resources": {"limits": {"memory": "64Mi"}}}}}));
        let mut small = deployment("small", "nightly-report");
        small["metadata"]["annotations"] = json!({"postern.dev/inject": "shop"});
        self.admin.apply(&small.to_string()).unwrap();
        self.rolled_out("small");
        for number in 0..10 {
            self.psql("small", &format!("SELECT count(*) AS small_{number} FROM orders")).unwrap();
        }
        let script = "i=0; { printf 'SELECT '; while [ $i -lt 60000 ]; do printf 'id + id AS c%s, ' $i; i=$((i+1)); done; \
                      echo 'id FROM orders'; } | psql -qAt";
        let began = Instant::now();
        let large = ["exec", "-n", SHOP, "deploy/small", "-c", "app", "--", "sh", "-c", script];
        _ = self.admin.kubectl(&large);
        let sidecar = || {
            let pods = self.admin.json(&["get", "pods", "-n", SHOP, "-l", "app=small"]).ok()?;
            Some(pods["items"][0]["status"]["initContainerStatuses"][0].clone())
        };
        let status = eventually("the sidecar's end", || {
            sidecar().filter(|status| status["restartCount"].as_u64().is_some_and(|restarts| restarts > 0))
        });
        assert_eq!(status["lastState"]["terminated"]["reason"], "OOMKilled", "{status}");
        eventually("its return", || self.psql("small", "SELECT count(*) AS small_10 FROM orders").ok());
        self.measured.push(("a sidecar that ran out of memory serves again", super::ms(began)));
        eventually("the audit of both", || {
            let audit = self.audit();
            assert!(audit.iter().all(|event| event["event"] != "gap"), "{audit:?}");
            let told = |number| {
                audit.iter().any(|event| {
                    event["text"].as_str().is_some_and(|text| text.contains(&format!(" AS small_{number} ")))
                })
            };
            (0..=10).all(told).then_some(())
        });
    }
}
