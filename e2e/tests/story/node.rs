//! What befalls a node, while an application asks: no event of the audit is lost by it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::Befalls;
use serde_json::{Value, json};

use super::{SHOP, SYSTEM, Story, deployment, eventually, ms};

/// Asks without end, by a new session after each that ended, and prints what was answered and what was not.
const QUESTIONS: &str = "
import itertools, psycopg2, time
start, cursor = time.time_ns(), None
for number in itertools.count():
    try:
        if cursor is None:
            cursor = psycopg2.connect('').cursor()
            cursor.connection.autocommit = True
        cursor.execute(f'SELECT count(*) AS asked_{start}_{number} FROM orders')
        cursor.fetchall()
        print(f'asked_{start}_{number}', flush=True)
    except psycopg2.Error as error:
        print('lost', error, flush=True)
        cursor = None
        time.sleep(0.2)
    time.sleep(0.02)
";

#[test]
#[ignore = "a cluster of its own, whose node is drained and loses its power: three minutes"]
fn no_event_is_lost_when_a_kubelet_starts_again_a_node_is_drained_or_loses_its_power() {
    let Some(mut story) = Story::begin_alone() else { return };
    story.chart("install", &[]);
    story.the_shop_is_applied();
    let mut asking = deployment("asking", "nightly-report");
    asking["metadata"]["annotations"] = json!({"postern.dev/inject": "shop"});
    asking["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["python3", "-c", QUESTIONS]);
    story.admin.apply(&asking.to_string()).unwrap();
    story.rolled_out("asking");

    story.its_kubelet_starts_again();
    story.it_is_drained(&asking);
    story.it_loses_its_power_while_the_operator_is_away();

    story.helm(&["uninstall", "postern", "--wait", "--timeout=5m"]);
    story.end();
}

impl Story {
    /// The folder in which the cluster keeps this.
    fn node(&self, folder: &str) -> PathBuf {
        self.cluster.folder().join(folder)
    }

    /// What is printed so far outlives its pod.
    fn keep_logs(&self) {
        let kept = self.node("kept");
        fs::create_dir_all(&kept).unwrap();
        for (file, name) in logs(&self.node("log/pods")) {
            // One that is kept already is the same file.
            _ = fs::hard_link(file, kept.join(name));
        }
    }

    /// The lines that this container of a namespace's pods has printed, also those of pods that are gone and were kept.
    fn printed(&self, namespace: &str, container: &str) -> BTreeSet<String> {
        let kept = fs::read_dir(self.node("kept")).into_iter().flatten().flatten();
        let kept = kept.map(|file| (file.path(), file.file_name().into_string().unwrap()));
        let files = logs(&self.node("log/pods")).into_iter().chain(kept);
        let wanted = files
            .filter(|(_, name)| name.starts_with(&format!("{namespace}_")) && name.contains(&format!("+{container}+")));
        let texts: Vec<String> = wanted.filter_map(|(file, _)| fs::read_to_string(file).ok()).collect();
        // Moment, stream, and whether it is a whole line come first.
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| Some(line.splitn(4, ' ').nth(3)?.into())).collect()
    }

    fn answered(&self) -> BTreeSet<String> {
        self.printed(SHOP, "app").into_iter().filter(|line| line.starts_with("asked_")).collect()
    }

    fn lost(&self) -> usize {
        self.printed(SHOP, "app").iter().filter(|line| line.starts_with("lost")).count()
    }

    fn more_is_answered(&self, than: usize) {
        eventually("more answers", || (self.answered().len() > than).then_some(()));
    }

    /// Every question that was answered is in the audit.
    fn audit_has_all_answers(&mut self, what: &'static str) {
        let answered = self.answered();
        eventually("the audit of all that was answered", || {
            let mut told = BTreeSet::new();
            for line in self.printed(SYSTEM, "operator") {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                assert_ne!(event["event"], "gap", "{event}");
                let question = event["text"].as_str().and_then(|text| text.split_once(" AS "));
                told.extend(question.and_then(|(_, name)| Some(name.split(' ').next()?.to_owned())));
            }
            answered.is_subset(&told).then_some(())
        });
        self.measured.push((what, answered.len().to_string()));
    }

    fn pod_that_asks(&self) -> Value {
        let pods = self.admin.json(&["get", "pods", "-n", SHOP, "-l", "app=asking"]).unwrap();
        pods["items"][0].clone()
    }

    fn its_kubelet_starts_again(&mut self) {
        self.more_is_answered(50);
        let (pod, lost, answered) = (self.pod_that_asks(), self.lost(), self.answered().len());
        self.cluster.befalls(Befalls::KubeletRestarts).unwrap();
        std::thread::sleep(Duration::from_secs(15));
        let now = self.pod_that_asks();
        let restarts = |pod: &Value| {
            let status = &pod["status"];
            (
                status["initContainerStatuses"][0]["restartCount"].clone(),
                status["containerStatuses"][0]["restartCount"].clone(),
            )
        };
        assert_eq!((&now["metadata"]["uid"], restarts(&now)), (&pod["metadata"]["uid"], restarts(&pod)));
        let (lost, asked) = (self.lost() - lost, self.answered().len() - answered);
        assert_eq!(lost, 0);
        assert!(asked > 50, "{asked}");
        self.measured.push(("queries lost while a kubelet starts again", format!("{lost} of {asked}")));
        self.audit_has_all_answers("all in the audit then");
    }

    /// There is one node only: it takes pods again as soon as the drain has chosen which it ends, as another node would. Where the
    /// database is is not looked at here: it stays.
    fn it_is_drained(&mut self, asking: &Value) {
        self.keep_logs();
        let old = self.pod_that_asks()["metadata"]["uid"].clone();
        let mut pod = asking["spec"]["template"].clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"] = json!({"name": "another", "namespace": SHOP, "annotations": {"postern.dev/inject": "shop"}});
        let pod = pod.to_string();
        let (mut made, mut refused) = (0, Vec::new());
        let began = Instant::now();
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| {
                let options =
                    ["--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=app!=pg", "--timeout=240s"];
                self.admin.kubectl(&[&["drain", "postern"], &options[..]].concat())
            });
            eventually("the node takes no pods", || {
                let node = self.admin.json(&["get", "node", "postern"]).ok()?;
                (node["spec"]["unschedulable"] == true).then_some(())
            });
            self.admin.kubectl(&["uncordon", "postern"]).unwrap();
            while !drain.is_finished() {
                match self.admin.with_input(&["create", "--dry-run=server", "-f", "-"], &pod) {
                    Ok(_) => made += 1,
                    Err(error) => refused.push(format!("{error:#}")),
                }
            }
            println!("{}", drain.join().unwrap().unwrap());
        });
        self.measured.push(("a drained node's pods are gone", ms(began)));
        assert!(refused.is_empty(), "{refused:?}");
        self.measured.push(("annotated pods refused in a drain", format!("0 of {made}")));
        self.operator_is_ready();
        self.rolled_out("asking");
        assert_ne!(self.pod_that_asks()["metadata"]["uid"], old);
        self.audit_has_all_answers("all in the audit after a drain");
    }

    /// So that what is not sent yet is all that was asked since then.
    fn it_loses_its_power_while_the_operator_is_away(&mut self) {
        self.keep_logs();
        self.system(&["scale", "deploy/postern", "--replicas=0"]);
        self.system(&["wait", "pod", "-l", "app.kubernetes.io/name=postern", "--for=delete", "--timeout=120s"]);
        self.more_is_answered(self.answered().len() + 50);
        let pod = self.pod_that_asks()["metadata"]["uid"].clone();
        self.keep_logs();
        self.cluster.befalls(Befalls::PowerGoes).unwrap();
        let began = Instant::now();
        self.cluster.befalls(Befalls::PowerReturns).unwrap();
        let before = self.answered();
        self.system(&["scale", "deploy/postern", "--replicas=2"]);
        self.more_is_answered(before.len());
        self.measured
            .push(("a pod is served again after its node lost its power, an operator that starts included", ms(began)));
        assert_eq!(self.pod_that_asks()["metadata"]["uid"], pod, "it is the same pod");
        self.audit_has_all_answers("all in the audit after the loss of power");
    }
}

/// The files of logs in the folder that the kubelet keeps, each with a name of its own: `namespace_pod_uid+container+number.log`.
fn logs(pods: &Path) -> Vec<(PathBuf, String)> {
    let folders = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for pod in folders(pods) {
        for container in folders(&pod.path()) {
            for file in folders(&container.path()) {
                let name = [pod.file_name(), container.file_name(), file.file_name()];
                found.push((file.path(), name.map(|part| part.into_string().unwrap()).join("+")));
            }
        }
    }
    found
}
