//! A namespace with a policy, an identity and a pod, an operator, and the pod's sidecar as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use postern_e2e::gate::{http_get, sidecar};
use postern_e2e::guard::{Ending, Guard};
use postern_e2e::kubernetes::operator::{self, NAMESPACE, Operator, Options};
use postern_e2e::kubernetes::{ApiServer, NEWEST, Namespace, helm};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{self, Wire, error};
use serde_json::{Value, json};

/// Generous: the machine may be busy with everything else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace with a policy, an identity and a pod that has both, and an operator for the test alone.
pub(crate) struct Shop {
    // In this order they end.
    pub(crate) operator: Option<Operator>,
    pub(crate) namespace: Namespace,
    pub(crate) server: &'static ApiServer,
    pub(crate) database: String,
    pub(crate) folder: PathBuf,
    /// Where pod, broker and database are: `127.0.0.1`, or `[::1]`.
    host: &'static str,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn shop(max_lease: &str) -> Option<Shop> {
    shop_at("127.0.0.1", max_lease)
}

/// The same where pod, broker and database are at this address, which stands in brackets if it is one of IPv6.
pub(crate) fn shop_at(host: &'static str, max_lease: &str) -> Option<Shop> {
    // The webhooks of a cluster are one operator's.
    static ALONE: Mutex<()> = Mutex::new(());
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let server = ApiServer::shared(NEWEST).unwrap()?;
    let helm = helm().unwrap()?;
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    INSTALLED.get_or_init(|| operator::install(server, &helm).unwrap());
    let operator = Operator::start_with(server, "postern-0", &Options { host, ..Options::default() }).unwrap();
    let database = Server::shared()
        .unwrap()
        .database_with("CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE TABLE u (a int)")
        .unwrap();
    let namespace = Namespace::new(server.admin(), "lease", &[]).unwrap();
    let folder = postern_e2e::temporary_folder("lease").unwrap();
    let shop =
        Shop { operator: Some(operator), namespace, server, database: database.name, folder, host, _alone: alone };
    let account = format!("{NAMESPACE}:postern");
    for arguments in [
        &["create", "serviceaccount", "report"][..],
        &[
            "create",
            "secret",
            "generic",
            "db",
            &format!("--from-literal=username={ADMIN}"),
            &format!("--from-literal=password={ADMIN_PASSWORD}"),
        ],
        &["create", "role", "db", "--verb=get,watch", "--resource=secrets", "--resource-name=db"],
        &["create", "rolebinding", "db", "--role=db", &format!("--serviceaccount={account}")],
    ] {
        shop.namespace.kubectl(arguments).unwrap();
    }
    shop.identity(max_lease);
    shop.policy(&["public.t"], &shop.database);
    shop.namespace.apply(&pod().to_string()).unwrap();
    let ip = shop.address();
    let addresses = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    shop.namespace.kubectl(&["patch", "pod", "app", "--subresource=status", "-p", &addresses.to_string()]).unwrap();
    Some(shop)
}

/// A pod that asks for the policy.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "annotations": {"postern.dev/inject": "orders"}},
        "spec": {
            "serviceAccountName": "report",
            "containers": [{"name": "app", "image": "registry.example/app:1"}],
        },
    })
}

impl Shop {
    fn address(&self) -> &'static str {
        self.host.trim_matches(['[', ']'])
    }

    pub(crate) fn identity(&self, max_lease: &str) {
        let identity = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "NonHumanIdentity",
            "metadata": {"name": "report"},
            "spec": {
                "subjects": [{"serviceAccount": {"name": "report"}}],
                "postgresRole": ADMIN,
                "maxLease": max_lease,
            },
        });
        self.namespace.apply(&identity.to_string()).unwrap();
    }

    pub(crate) fn policy(&self, relations: &[&str], database: &str) {
        let rules =
            json!([{"name": "reads", "to": {"identities": ["report"]}, "allow": ["Select"], "relations": relations}]);
        self.policy_of(database, &json!({"secret": {"name": "db"}}), &json!({"rules": rules}));
    }

    /// A policy with these credentials, and this beside them.
    pub(crate) fn policy_of(&self, database: &str, credentials: &Value, spec: &Value) {
        self.policy_at(Server::shared().unwrap().port(), database, credentials, spec);
    }

    /// The same, at another server.
    pub(crate) fn policy_at(&self, port: u16, database: &str, credentials: &Value, spec: &Value) {
        self.policy_by(port, database, &json!({"mode": "Disable", "allowUnverified": true}), credentials, spec);
    }

    /// The same, with TLS as it says.
    pub(crate) fn policy_by(&self, port: u16, database: &str, tls: &Value, credentials: &Value, spec: &Value) {
        let mut policy = json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "DatabaseAccessPolicy",
            "metadata": {"name": "orders"},
            "spec": spec,
        });
        policy["spec"]["database"] =
            json!({"host": self.address(), "port": port, "name": database, "tls": tls, "credentials": credentials});
        self.namespace.apply(&policy.to_string()).unwrap();
    }

    /// The role that the identity's sessions run as.
    pub(crate) fn runs_as(&self, role: &str) {
        let patch = json!({"spec": {"postgresRole": role}}).to_string();
        self.namespace.kubectl(&["patch", "nhi", "report", "--type=merge", "-p", &patch]).unwrap();
    }

    pub(crate) fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    /// Starts the pod's sidecar as the kubelet would, but for where its files and ports are.
    pub(crate) fn sidecar(&self) -> Sidecar {
        self.sidecar_with(&[])
    }

    /// The same with more options.
    pub(crate) fn sidecar_with(&self, more: &[&str]) -> Sidecar {
        self.sidecar_in(Vec::new(), more)
    }

    /// The same with variables in its environment.
    pub(crate) fn sidecar_in(&self, environment: Vec<(String, String)>, more: &[&str]) -> Sidecar {
        self.sidecar_by(&self.token(), environment, more)
    }

    /// The same with a token of the caller's.
    pub(crate) fn sidecar_by(&self, token: &str, environment: Vec<(String, String)>, more: &[&str]) -> Sidecar {
        fs::write(self.folder.join("token"), token).unwrap();
        let broker = format!("https://{}:{}", self.host, self.operator().broker());
        Sidecar::start(&self.injected(), environment, more, &broker, &self.folder)
    }

    /// The sidecar as the webhook put it into the pod.
    pub(crate) fn injected(&self) -> Value {
        self.namespace.json(&["get", "pod", "app"]).unwrap()["spec"]["initContainers"][0].clone()
    }

    /// A token as the kubelet projects it into the sidecar's container.
    pub(crate) fn token(&self) -> String {
        let pod = self.namespace.json(&["get", "pod", "app"]).unwrap();
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        self.namespace
            .kubectl(&[
                // Only kubelets may ask for tokens of this audience.
                "--as=kubelet",
                "--as-group=system:masters",
                "--as-group=system:nodes",
                "create",
                "token",
                "report",
                "--audience=postern.dev",
                "--duration=1h",
                "--bound-object-kind=Pod",
                "--bound-object-name=app",
                &format!("--bound-object-uid={uid}"),
            ])
            .unwrap()
    }

    /// The audit events that the broker has kept.
    pub(crate) fn kept(&self) -> Vec<Value> {
        let log = self.operator().log();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|it| !it["proven"].is_null())
            .collect()
    }
}

pub(crate) struct Sidecar {
    pub(crate) guard: Guard,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

impl Sidecar {
    fn start(
        container: &Value,
        mut environment: Vec<(String, String)>,
        more: &[&str],
        broker: &str,
        folder: &Path,
    ) -> Self {
        let (port, admin) = (postern_e2e::free_port().unwrap(), postern_e2e::free_port().unwrap());
        let ours = [
            format!("--broker={broker}"),
            format!("--token-file={}", folder.join("token").display()),
            format!("--spool={}", folder.join("spool").display()),
            format!("--listen=127.0.0.1:{port}"),
            format!("--admin=127.0.0.1:{admin}"),
        ];
        let option = |argument: &str| argument.split('=').next().unwrap().to_owned();
        let mut command = vec![sidecar().unwrap().display().to_string()];
        command.extend(container["args"].as_array().unwrap().iter().map(|argument| {
            let argument = argument.as_str().unwrap();
            ours.iter().find(|our| option(our) == option(argument)).cloned().unwrap_or_else(|| argument.to_owned())
        }));
        command.extend(more.iter().map(|option| (*option).to_owned()));
        environment.extend(
            container["env"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry["value"].as_str().unwrap().to_owned())),
        );
        let ending = Ending { signal: "TERM", folder: None, patience: Duration::from_secs(10) };
        let guard = Guard::spawn(&command, &environment, &folder.join("log"), &ending).unwrap();
        Self { guard, port, admin }
    }

    /// One outside of the cluster: by a token of somebody else's, as one of these options gives it, and with nothing of a pod
    /// around it.
    pub(crate) fn outside(resource: &str, broker: &str, ca: &Path, token: &str, folder: &Path) -> Self {
        let (port, admin) = (postern_e2e::free_port().unwrap(), postern_e2e::free_port().unwrap());
        let command = [
            sidecar().unwrap().display().to_string(),
            "run".to_owned(),
            format!("--operator={broker}"),
            format!("--operator-ca={}", ca.display()),
            format!("--resource={resource}"),
            token.to_owned(),
            format!("--spool={}", folder.join("spool").display()),
            format!("--listen=127.0.0.1:{port}"),
            format!("--admin=127.0.0.1:{admin}"),
        ];
        let ending = Ending { signal: "TERM", folder: None, patience: Duration::from_secs(10) };
        let guard = Guard::spawn(&command, &[], &folder.join("log"), &ending).unwrap();
        Self { guard, port, admin }
    }

    pub(crate) fn started(mut self) -> Self {
        let admin = self.admin;
        let started = || http_get(admin, "/startup").is_ok_and(|(status, _)| status == 200);
        self.guard.wait_until("the sidecar", PATIENCE, started).unwrap();
        self
    }

    pub(crate) fn connect(&self, database: &str) -> anyhow::Result<Wire> {
        Wire::connect(self.port, "anyone", "", database)
    }

    /// Why there is no session.
    pub(crate) fn refusal(&self, database: &str) -> String {
        self.connect(database).err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = http_get(self.admin, "/metrics").ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn sqlstate(wire: &mut Wire, sql: &str) -> Option<String> {
    error(&wire.simple(sql).unwrap()).and_then(wire::Message::sqlstate)
}

/// The SQLSTATE that an idle session is ended with, unasked.
pub(crate) fn end_of(wire: &mut Wire) -> Option<String> {
    wire.read().unwrap().sqlstate()
}
