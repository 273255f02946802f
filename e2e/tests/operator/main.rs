//! The operator on the API servers of the oldest and the newest Kubernetes, installed by the chart and with no more
//! rights than that gives it: its webhooks and its controllers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod admission;
mod attacks;
mod broker;
mod controllers;
mod gitops;
mod neighbours;
mod plugin;
mod preflight;
mod sidecars;
mod skew;
mod upgrade;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postern_e2e::kubernetes::operator::{self, Operator};
use postern_e2e::kubernetes::{Access, ApiServer, NEWEST, OLDEST, Version, helm};
use serde_json::{Value, json};

/// The label of objects that are not sent to the webhooks of definitions and workloads.
const UNSEEN: &str = "unseen";

/// An API server with the operator, and a namespace with a policy and an identity for a test alone.
struct Shop<'a> {
    admin: &'a Access,
    operator: &'a Operator,
    namespace: String,
}

fn shop(version: Version) -> Option<Shop<'static>> {
    static OPERATORS: [OnceLock<Operator>; 2] = [const { OnceLock::new() }; 2];
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = ApiServer::shared(version).unwrap()?;
    let helm = helm().unwrap()?;
    let operator = OPERATORS[usize::from(version == NEWEST)].get_or_init(|| {
        operator::install(server, &helm).unwrap();
        // What has this label is as what was written while the operator was away.
        let unseen = json!({"matchExpressions": [{"key": UNSEEN, "operator": "DoesNotExist"}]});
        for (kind, webhook) in [("validating", "validation.postern.dev"), ("mutating", "workloads.postern.dev")] {
            let patch = json!({"webhooks": [{"name": webhook, "objectSelector": unseen}]}).to_string();
            let configuration = format!("{kind}webhookconfiguration");
            let arguments = ["patch", &configuration, "postern", "--type=strategic", "-p", &patch];
            server.admin().kubectl(&arguments).unwrap();
        }
        Operator::start(server, "postern-0").unwrap()
    });
    let (admin, namespace) = (server.admin(), format!("shop-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    admin.kubectl(&["create", "namespace", &namespace]).unwrap();
    let shop = Shop { admin, operator, namespace };
    shop.apply(&identity("report", "default"));
    shop.apply(&policy("shop"));
    Some(shop)
}

on_both! {
    the_charts_test_passes_where_a_replica_is_ready_and_only_there => ready;
}

fn ready(shop: &Shop) {
    let output = Operator::ready(shop.operator.admin_port(), 60).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Something else, and nothing.
    for port in [shop.operator.broker(), postern_e2e::free_port().unwrap()] {
        let output = Operator::ready(port, 0).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("is not ready"), "{said}");
    }
}

impl Shop<'_> {
    fn apply(&self, object: &Value) {
        self.admin.with_input(&["apply", "-n", &self.namespace, "-f", "-"], &object.to_string()).unwrap();
    }

    /// Applies an object as if the operator were away.
    fn without_validation(&self, object: &Value) {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        // Before and after the change.
        self.kubectl(&["label", kind, name, &format!("{UNSEEN}=true")]);
        let mut object = object.clone();
        object["metadata"]["labels"] = json!({UNSEEN: "true"});
        let arguments = ["replace", "--validate=false", "-n", &self.namespace, "-f", "-"];
        self.admin.with_input(&arguments, &object.to_string()).unwrap();
    }

    /// Applies what has to be refused; why it is.
    fn refused(&self, object: &Value) -> String {
        self.admin.refused(&["apply", "-n", &self.namespace, "-f", "-"], &object.to_string()).unwrap()
    }

    fn get(&self, what: &[&str]) -> Value {
        self.admin.json(&[&["get", "-n", &self.namespace], what].concat()).unwrap()
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.admin.kubectl(&[&["-n", &self.namespace], arguments].concat()).unwrap()
    }

    /// The first pod with this label, once there is one.
    fn pod(&self, label: &str) -> Value {
        let found = eventually(|| self.get(&["pods", "-l", label])["items"].as_array()?.first().cloned());
        found.unwrap_or_else(|| panic!("no pod {label}: {}", self.kubectl(&["get", "events"])))
    }
}

/// What there is before long.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let found = look();
        if found.is_some() || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "DatabaseAccessPolicy",
        "metadata": {"name": name},
        "spec": {
            "database": {
                "host": "pg.shop.svc",
                "name": "shop",
                "tls": {"mode": "VerifyFull", "caSecret": {"name": "shop-pg-ca", "key": "ca.crt"}},
                "credentials": {"secret": {"name": "shop-postern"}},
            },
            "rules": [{"name": "reads", "to": {"groups": ["reporting"]}, "allow": ["Select"], "relations": ["public.*"]}],
            "sidecar": {"env": {"DATABASE_URL": "postgresql://{user}@{host}:{port}/{database}"}},
        },
    })
}

fn identity(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "postern.dev/v1alpha1",
        "kind": "NonHumanIdentity",
        "metadata": {"name": name},
        "spec": {
            "subjects": [{"serviceAccount": {"name": account}}],
            "groups": ["reporting"],
            "postgresRole": "reporting_ro",
        },
    })
}

fn pod_template(app: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {"labels": {"app": app}, "annotations": annotations},
        "spec": {
            "containers": [{
                "name": "app",
                "image": "registry.example/app:1",
                "env": [{"name": "PGHOST", "value": "pg.shop.svc"}, {"name": "PGPASSWORD", "value": "secret"}],
            }],
        },
    })
}

fn deployment(app: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app, "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": pod_template(app, &json!({}))},
    })
}

fn pod(name: &str, annotations: &Value) -> Value {
    let mut pod = pod_template(name, annotations);
    pod["metadata"]["name"] = json!(name);
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod
}

fn asks(policy: &str) -> Value {
    json!({"postern.dev/inject": policy})
}

macro_rules! on_both {
    ($($rule:ident => $body:ident;)*) => {
        mod oldest { $(#[test] fn $rule() { if let Some(shop) = crate::shop(crate::OLDEST) { super::$body(&shop); } })* }
        mod newest { $(#[test] fn $rule() { if let Some(shop) = crate::shop(crate::NEWEST) { super::$body(&shop); } })* }
    };
}
use on_both;
