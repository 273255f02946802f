//! What the README promises, on a real cluster: the chart is installed, the sample shop applied, workloads annotated; and
//! then everything that happens to a cluster happens. Stories, each told in order; what was measured is printed at its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod audit;
mod documents;
mod faults;
mod node;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::{Access, Cluster, Image, helm};
use postern_e2e::{built, gate, workspace};
use serde_json::{Value, json};

use documents::Reader;

const SYSTEM: &str = "postern-system";
const SHOP: &str = "shop";
/// Generous: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long the operator is away while queries go on.
const AWAY: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(300));

/// The story's cluster, and what was measured on it.
struct Story {
    cluster: &'static Cluster,
    admin: &'static Access,
    helm: PathBuf,
    measured: Vec<(&'static str, String)>,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Short,
    Long,
}

#[test]
fn a_user_installs_annotates_and_is_served_through_everything_that_happens_to_a_cluster() {
    tell(Form::Short);
}

#[test]
#[ignore = "five minutes without an operator, and the end of a lease's grace; the short form runs always"]
fn queries_go_on_for_five_minutes_without_an_operator() {
    tell(Form::Long);
}

fn tell(form: Form) {
    let Some(mut story) = Story::begin() else { return };
    story.it_is_installed_as_the_document_says();
    story.the_shop_is_applied();
    story.the_application_sees_its_own_database();
    story.no_credential_is_found_in_the_application();
    story.an_application_that_reads_only_a_url_is_led_through_the_gate();
    story.events_and_columns_say_what_happened();
    story.a_change_of_the_policy_acts_without_a_restart();
    story.a_job_completes_and_its_audit_is_whole();
    story.queries_go_on_without_the_operator(if form == Form::Long { AWAY.1 } else { AWAY.0 });
    story.a_killed_replica_and_a_rotated_certificate_cost_nothing();
    story.a_deleted_identity_ends_its_sessions();
    story.after_the_uninstall_pods_work_until_their_lease_ends(form);
    story.end();
    if form == Form::Short {
        println!(
            "left out: five minutes without an operator, the end of a lease's grace, and other places for the audit"
        );
    }
}

/// What there is before long.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Milliseconds, for people.
fn ms(since: Instant) -> String {
    format!("{} ms", since.elapsed().as_millis())
}

/// A file of the sample shop: no registry can be reached from here, and the image in place has one user that Postgres runs as.
fn sample(file: &str) -> String {
    let text = std::fs::read_to_string(workspace().join("docs/samples/shop").join(file)).unwrap();
    text.replace("postgres:17", Image::postgres().unwrap().name()).replace("runAsUser: 999", "runAsUser: 65532")
}

/// Stays within Pod Security `restricted`.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// A Deployment in the shop, with a client that waits to be told what to do.
fn deployment(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": SHOP},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "serviceAccountName": account,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "app", "image": Image::client().unwrap().name(), "imagePullPolicy": "Never",
                        "command": ["sleep", "infinity"], "securityContext": restricted(),
                    }],
                },
            },
        },
    })
}

impl Drop for Story {
    /// What a story that failed has left would be in the way of the next one.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut uninstall = Command::new(&self.helm);
            uninstall.args(["uninstall", "postern", "-n", SYSTEM, "--kubeconfig"]).arg(self.admin.kubeconfig());
            _ = uninstall.output();
            _ = self.admin.kubectl(&["delete", "namespace", SHOP, SYSTEM, "--ignore-not-found", "--timeout=180s"]);
        }
    }
}

impl Story {
    /// In the tests' cluster, with all images in it; None where there can be no cluster, which is said.
    fn begin() -> Option<Self> {
        Self::begin_in(|| Cluster::shared().unwrap())
    }

    /// In a cluster of its own, to whose node everything may happen. It ends with the tests of this file.
    fn begin_alone() -> Option<Self> {
        Self::begin_in(|| Cluster::start().unwrap().map(|cluster| &*Box::leak(Box::new(cluster))))
    }

    fn begin_in(cluster: impl FnOnce() -> Option<&'static Cluster>) -> Option<Self> {
        // One Postern serves a whole cluster.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = cluster()?;
        let helm = helm().unwrap()?;
        let operator = Image::operator(&built::program("postern-operator").unwrap());
        let sidecar = Image::sidecar(gate::sidecar().unwrap());
        for image in [&operator, &sidecar, &Image::postgres().unwrap(), &Image::client().unwrap()] {
            cluster.load(image).unwrap();
        }
        Some(Self { cluster, admin: cluster.admin(), helm, measured: Vec::new(), _alone: alone })
    }

    /// Nothing is left of it, nothing hangs, and what was measured is told.
    fn end(&self) {
        self.kubectl(&["delete", "dap,nhi", "--all", "--timeout=60s"]);
        self.admin.kubectl(&["delete", "namespace", SHOP, SYSTEM, "--timeout=180s"]).unwrap();
        for (what, value) in &self.measured {
            println!("{what}: {value}");
        }
    }

    fn helm(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.helm);
        command.args(arguments).args(["-n", SYSTEM, "--kubeconfig"]).arg(self.admin.kubeconfig());
        let output = command.output().unwrap();
        let said = || self.admin.kubectl(&["get", "pods,events", "-n", SYSTEM]).unwrap_or_default();
        assert!(
            output.status.success(),
            "helm {arguments:?}: {}{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            said()
        );
    }

    /// What helm calls so, `install` or `upgrade`, with these values. A Postern that is there already is not ours: it is refused.
    fn chart(&self, verb: &str, values: &[&str]) {
        let chart = workspace().join("charts/postern");
        let mut arguments = vec![verb, "postern", chart.to_str().unwrap(), "--create-namespace"];
        arguments.extend(["--wait", "--timeout=5m", "--set", "images.registry=localhost,images.pullPolicy=Never"]);
        for value in values {
            arguments.extend(["--set", value]);
        }
        self.helm(&arguments);
    }

    fn it_is_installed_as_the_document_says(&self) {
        Reader::new(self).does(&documents::installation());
        // The chart's own test has passed, and leaves nothing.
        self.admin.refused(&["get", "pod", "postern-test", "-n", SYSTEM], "").unwrap();
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.admin.kubectl(&[&["-n", SHOP], arguments].concat()).unwrap_or_else(|error| {
            let events = self.admin.kubectl(&["get", "events", "-n", SHOP, "--sort-by=.lastTimestamp"]);
            panic!("{error:#}\n{}", events.unwrap_or_default())
        })
    }

    /// Runs psql in the application's container: what it prints, or what it complains of.
    fn psql(&self, deployment: &str, sql: &str) -> Result<String, String> {
        let deployment = format!("deploy/{deployment}");
        let arguments =
            ["exec", "-n", SHOP, &deployment, "-c", "app", "--", "psql", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql];
        self.admin.kubectl(&arguments).map_err(|error| format!("{error:#}"))
    }

    fn apply_sample(&self, file: &str) {
        self.admin.apply(&sample(file)).unwrap();
    }

    fn rolled_out(&self, deployment: &str) {
        let began =
            self.admin.kubectl(&["rollout", "status", "-n", SHOP, &format!("deploy/{deployment}"), "--timeout=240s"]);
        began.unwrap_or_else(|error| {
            let said = |arguments: &[&str]| self.admin.kubectl(arguments).unwrap_or_default();
            let pods = said(&["describe", "pods", "-n", SHOP]);
            let selector = format!("app={deployment}");
            let logs = said(&["logs", "-n", SHOP, "-l", &selector, "-c", "postern", "--tail=40"]);
            let operator = said(&["logs", "-n", SYSTEM, "deploy/postern", "--tail=40"]);
            panic!("{error:#}\n{pods}\n{logs}\n{operator}")
        });
    }

    fn the_shop_is_applied(&mut self) {
        self.admin.kubectl(&["create", "namespace", SHOP]).unwrap();
        self.apply_sample("1-database.yaml");
        self.apply_sample("2-access.yaml");
        self.rolled_out("pg");
        for object in ["dap/shop", "nhi/nightly-report"] {
            self.kubectl(&["wait", object, "--for=condition=Ready", "--timeout=120s"]);
        }
        let began = Instant::now();
        self.apply_sample("3-app.yaml");
        self.rolled_out("nightly-report");
        self.measured.push(("annotated Deployment to ready pod", ms(began)));
    }

    fn the_application_sees_its_own_database(&mut self) {
        let cards = self.psql("nightly-report", "SELECT card_number FROM customers ORDER BY id").unwrap();
        assert!(cards.contains("9012") && !cards.contains("4929"), "{cards}");
        let regions = self.psql("nightly-report", "SELECT DISTINCT region FROM orders").unwrap();
        assert_eq!(regions.trim(), "eu");
        let refused = self.psql("nightly-report", "COPY customers TO STDOUT").unwrap_err();
        assert!(refused.contains("COPY") && !refused.contains("4929"), "{refused}");
        let refused = self.psql("nightly-report", "DELETE FROM orders").unwrap_err();
        assert!(refused.contains("42501") || refused.contains("orders"), "{refused}");
        let dump = ["exec", "-n", SHOP, "deploy/nightly-report", "-c", "app", "--", "pg_dump", "--table=customers"];
        let refused = self.admin.refused(&dump, "").unwrap();
        assert!(!refused.contains("4929"), "{refused}");
    }

    fn no_credential_is_found_in_the_application(&mut self) {
        let script = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/self/mounts; \
                      find / -xdev -type f -path '*secrets*' 2>/dev/null; ls -R /var/run 2>/dev/null";
        let found = self.kubectl(&["exec", "deploy/nightly-report", "-c", "app", "--", "sh", "-c", script]);
        assert!(found.contains("PGHOST=127.0.0.1"), "{found}");
        for secret in ["change-me", "postern-token", "/var/spool/postern"] {
            assert!(!found.contains(secret), "{secret} in the application: {found}");
        }
        let account = format!("--as=system:serviceaccount:{SHOP}:nightly-report");
        for what in [["get", "secret/shop-postern"], ["list", "secrets"], ["get", "databaseaccesspolicies"]] {
            let arguments = [&["auth", "can-i"], &what[..], &["-n", SHOP, &account]].concat();
            self.admin.refused(&arguments, "").unwrap();
        }
    }

    fn an_application_that_reads_only_a_url_is_led_through_the_gate(&mut self) {
        self.admin.apply(&deployment("api", "nightly-report").to_string()).unwrap();
        self.rolled_out("api");
        self.kubectl(&["annotate", "deploy/api", "postern.dev/inject=shop"]);
        self.rolled_out("api");
        let program = "import os, psycopg2; c = psycopg2.connect(os.environ['DATABASE_URL']).cursor(); \
                       c.execute('SELECT email FROM customers ORDER BY id'); print(c.fetchall())";
        let script = format!("env -i DATABASE_URL=\"$DATABASE_URL\" PATH=\"$PATH\" python3 -c \"{program}\"");
        let said = self.kubectl(&["exec", "deploy/api", "-c", "app", "--", "sh", "-c", &script]);
        assert!(said.contains('@') && !said.contains("ada@example.com"), "{said}");
        self.kubectl(&["delete", "deploy", "api", "--wait=false"]);
    }

    fn events_and_columns_say_what_happened(&mut self) {
        for reason in ["LeaseGranted", "SessionStarted", "CopyBlocked", "StatementDenied"] {
            eventually(reason, || {
                let events = self.admin.json(&["get", "events.events.k8s.io", "-n", SHOP]).ok()?;
                let mut events = events["items"].as_array()?.iter();
                let found =
                    events.find(|it| it["reason"] == reason && it["regarding"]["kind"] == "DatabaseAccessPolicy")?;
                assert!(!found["note"].as_str()?.contains("customers"), "{found}");
                Some(())
            });
        }
        let status = eventually("the policy's status", || {
            let status = self.admin.json(&["get", "dap/shop", "-n", SHOP]).ok()?["status"].clone();
            let bound =
                status["conditions"].as_array()?.iter().any(|it| it["type"] == "Bound" && it["status"] == "True");
            (status["sidecars"].as_u64()? >= 1 && status["lastUsedBy"] == "nightly-report" && bound).then_some(status)
        });
        assert!(status["lastUsed"].is_string(), "{status}");
        let table = self.kubectl(&["get", "dap,nhi"]);
        println!("{table}");
        assert!(table.contains("SIDECARS") && table.contains("nightly-report"), "{table}");
    }

    fn patch_policy(&self, patch: &Value) {
        self.kubectl(&["patch", "dap", "shop", "--type=merge", "-p", &patch.to_string()]);
    }

    fn a_change_of_the_policy_acts_without_a_restart(&mut self) {
        let city = || self.psql("nightly-report", "SELECT city FROM customers WHERE id = 1").unwrap().trim().to_owned();
        assert_eq!(city(), "Ulm");
        let masks = self.admin.json(&["get", "dap/shop", "-n", SHOP]).unwrap()["spec"]["masks"].clone();
        let mut more = masks.clone();
        more.as_array_mut().unwrap().push(json!({"columns": ["public.customers.city"], "mask": {"redact": {}}}));
        self.patch_policy(&json!({"spec": {"masks": more}}));
        let began = Instant::now();
        eventually("the new mask", || (city() != "Ulm").then_some(()));
        let took = ms(began);
        self.patch_policy(&json!({"spec": {"masks": masks}}));
        eventually("the old masks", || (city() == "Ulm").then_some(()));
        self.measured.push(("a changed policy acts, an exec of psql included", took));
    }

    /// Every line of the audit that all replicas have printed.
    fn audit(&self) -> Vec<Value> {
        let selector = "app.kubernetes.io/name=postern";
        let logs = self.admin.kubectl(&[
            "logs",
            "-n",
            SYSTEM,
            "-l",
            selector,
            "-c",
            "operator",
            "--tail=-1",
            "--prefix=false",
        ]);
        let lines = logs.unwrap_or_default();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|it: &Value| it["event"].is_string())
            .collect()
    }

    fn a_job_completes_and_its_audit_is_whole(&mut self) {
        let statements = 20;
        let script = format!(
            "i=0; while [ $i -lt {statements} ]; do psql -qAt -c \"SELECT count(*), $i FROM orders\" || exit 1; i=$((i+1)); done"
        );
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "night", "namespace": SHOP, "annotations": {"postern.dev/inject": "shop"}},
            "spec": {"backoffLimit": 0, "template": {"spec": {
                "serviceAccountName": "nightly-report",
                "restartPolicy": "Never",
                // Nobody makes the audit shorter by giving its sidecar no time to end.
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "app", "image": Image::client().unwrap().name(), "imagePullPolicy": "Never",
                    "command": ["sh", "-c", script],
                    "securityContext": restricted(),
                }],
            }}},
        });
        self.admin.apply(&job.to_string()).unwrap();
        self.kubectl(&["wait", "job/night", "--for=condition=Complete", "--timeout=240s"]);
        let pods = self.admin.json(&["get", "pods", "-n", SHOP, "-l", "job-name=night"]).unwrap();
        let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
        let counted = |event: &str| {
            let audit = self.audit();
            audit.iter().filter(|it| it["event"] == event && it["proven"]["pod"] == pod.as_str()).count()
        };
        eventually("the job's audit", || (counted("session_end") == statements).then_some(()));
        assert_eq!((counted("session_start"), counted("statement"), counted("gap")), (statements, statements, 0));
    }

    /// Runs queries one after the other while `meanwhile` runs: how many there were, and how many failed.
    fn queries_during(&self, meanwhile: impl FnOnce() + Send) -> (u32, u32) {
        let mut counts = (0, 0);
        std::thread::scope(|scope| {
            let meanwhile = scope.spawn(meanwhile);
            while !meanwhile.is_finished() {
                counts.0 += 1;
                if let Err(error) = self.psql("nightly-report", "SELECT count(*) FROM orders") {
                    println!("a query failed: {error}");
                    counts.1 += 1;
                }
            }
            meanwhile.join().unwrap();
        });
        counts
    }

    fn system(&self, arguments: &[&str]) -> String {
        self.admin.kubectl(&[&["-n", SYSTEM], arguments].concat()).unwrap()
    }

    fn operator_is_ready(&self) {
        self.system(&["rollout", "status", "deploy/postern", "--timeout=240s"]);
    }

    fn queries_go_on_without_the_operator(&mut self, away: Duration) {
        self.system(&["scale", "deploy/postern", "--replicas=0"]);
        self.system(&["wait", "pod", "-l", "app.kubernetes.io/name=postern", "--for=delete", "--timeout=120s"]);
        let (queries, lost) = self.queries_during(|| std::thread::sleep(away));
        self.measured
            .push(("queries lost while the operator is away", format!("{lost} of {queries} in {} s", away.as_secs())));
        assert_eq!(lost, 0);
        self.system(&["scale", "deploy/postern", "--replicas=2"]);
        self.operator_is_ready();
    }

    fn a_killed_replica_and_a_rotated_certificate_cost_nothing(&mut self) {
        let pods = self.admin.json(&["get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=postern"]).unwrap();
        let victim = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
        let (queries, lost) = self.queries_during(|| {
            self.system(&["delete", "pod", &victim, "--force", "--grace-period=0"]);
            for secret in ["postern-broker-ca", "postern-webhook-ca"] {
                self.system(&["annotate", "secret", secret, "postern.dev/rotate=now"]);
            }
            self.operator_is_ready();
            for secret in ["postern-broker-ca", "postern-webhook-ca"] {
                eventually("a rotated authority", || {
                    let secret = self.admin.json(&["get", "secret", secret, "-n", SYSTEM]).ok()?;
                    let asked = secret["metadata"]["annotations"]["postern.dev/rotate"].is_string();
                    (!asked).then_some(())
                });
            }
            std::thread::sleep(Duration::from_secs(15));
        });
        self.measured
            .push(("queries lost over a killed replica and two rotated authorities", format!("{lost} of {queries}")));
        assert_eq!(lost, 0);
        // A policy still reaches the sidecar that began under the old authority, and new pods are made under the new one.
        self.a_change_of_the_policy_acts_without_a_restart();
        self.kubectl(&["rollout", "restart", "deploy/nightly-report"]);
        self.rolled_out("nightly-report");
    }

    fn a_deleted_identity_ends_its_sessions(&mut self) {
        let (ended, took) = std::thread::scope(|scope| {
            let session = scope.spawn(|| {
                let ended = self.psql("nightly-report", "SELECT 'it ' || 'runs'; SELECT pg_sleep(120)");
                (ended, Instant::now())
            });
            eventually("the long query", || {
                let sql =
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%' AND usename = 'postern'";
                let arguments =
                    ["exec", "-n", SHOP, "deploy/pg", "--", "psql", "-h", "/tmp", "-U", "postgres", "-At", "-c", sql];
                (self.admin.kubectl(&arguments).ok()?.trim() != "0").then_some(())
            });
            let began = Instant::now();
            self.kubectl(&["delete", "nhi", "nightly-report", "--wait=false"]);
            let (ended, at) = session.join().unwrap();
            (ended, at.saturating_duration_since(began))
        });
        let error = ended.unwrap_err();
        assert!(error.contains("the right to this database was withdrawn"), "{error}");
        self.measured.push(("a deleted identity ends a running query", format!("{} ms", took.as_millis())));
        let refused = self.psql("nightly-report", "SELECT 1").unwrap_err();
        assert!(refused.contains("there is no right to this database"), "{refused}");
        self.kubectl(&["wait", "nhi/nightly-report", "--for=delete", "--timeout=60s"]);
        // And it comes back without a restart.
        self.apply_sample("2-access.yaml");
        self.kubectl(&["patch", "nhi", "nightly-report", "--type=merge", "-p", r#"{"spec": {"maxLease": "1m"}}"#]);
        eventually("the identity is back", || self.psql("nightly-report", "SELECT 1").ok());
    }

    /// A workload whose identity lets a lease hold longer while the broker is away.
    fn a_patient_workload(&self) {
        let identity = json!({
            "apiVersion": "postern.dev/v1alpha1", "kind": "NonHumanIdentity",
            "metadata": {"name": "patient", "namespace": SHOP},
            "spec": {
                "subjects": [{"serviceAccount": {"name": "patient"}}], "groups": ["reporting"],
                "postgresRole": "reporting_ro", "maxLease": "1m", "outageGrace": "60s",
            },
        });
        self.admin.apply(&identity.to_string()).unwrap();
        self.kubectl(&["create", "serviceaccount", "patient"]);
        let mut deployment = deployment("patient", "patient");
        deployment["metadata"]["annotations"] = json!({"postern.dev/inject": "shop"});
        self.admin.apply(&deployment.to_string()).unwrap();
        self.rolled_out("patient");
    }

    fn after_the_uninstall_pods_work_until_their_lease_ends(&mut self, form: Form) {
        self.a_patient_workload();
        self.helm(&["uninstall", "postern", "--wait", "--timeout=5m"]);
        let began = Instant::now();
        self.psql("nightly-report", "SELECT 1").unwrap();
        let took = self.the_lease_ends("nightly-report", began);
        self.measured.push(("pods work after the uninstall, with leases of a minute, for", took));
        self.psql("patient", "SELECT 1").unwrap();
        if form == Form::Long {
            let took = self.the_lease_ends("patient", began);
            self.measured.push(("and with a minute of grace for", took));
        }
    }

    fn the_lease_ends(&self, deployment: &str, began: Instant) -> String {
        let error = eventually("the lease's end", || self.psql(deployment, "SELECT 1").err());
        assert!(error.contains("lease"), "{error}");
        format!("{} s", began.elapsed().as_secs())
    }
}
