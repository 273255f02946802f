//! The operator beside an API server: installed by the chart, with the chart's rights, but running on this machine in
//! place of pods.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::{Access, ApiServer};
use crate::guard::{Ending, Guard};

/// Namespace of the operator.
pub const NAMESPACE: &str = "postern-system";
/// The image that sidecars get.
pub const SIDECAR_IMAGE: &str =
    "registry.example/postern-sidecar@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Generous: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running replica, gone when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Guard,
    admin: u16,
    broker: u16,
    webhooks: u16,
    folder: PathBuf,
}

const LOOPBACK: &str = "127.0.0.1";

/// How a replica is run.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The port of its broker, where another one's was: pods know no other address, as they know no other than the Service's.
    pub broker: Option<u16>,
    /// The image that sidecars get.
    pub image: &'a str,
    /// More options.
    pub more: &'a [String],
    /// A port of this machine that leads to the API server, in place of its own.
    pub by: Option<u16>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// Where pods reach its broker; in a cluster without IPv4 `[::1]`, and it listens as the chart has it, at all addresses.
    pub host: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { broker: None, image: SIDECAR_IMAGE, more: &[], by: None, environment: Vec::new(), host: LOOPBACK }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Its log; what it was told is in the cluster.
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Installs the chart: rights, webhooks, policies of admission. Its pods are never run, for there is no node.
pub fn install(server: &ApiServer, helm: &Path) -> Result<()> {
    let chart = crate::workspace().join("charts/postern");
    let mut command = Command::new(helm);
    command.args(["install", "postern"]).arg(chart).args(["--namespace", NAMESPACE, "--create-namespace"]);
    command.args(["--set", "restarts.enabled=true"]);
    command.arg("--kubeconfig").arg(server.admin().kubeconfig());
    let output = command.output().context("start helm")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the chart's hook does before the release is deleted, by the hook's own rights; and then deletes the release.
pub fn uninstall(server: &ApiServer, helm: &Path) -> Result<()> {
    let output = by_hook(server, helm, "uninstall", &["--namespace", NAMESPACE])?;
    ensure!(output.status.success(), "postern-operator: {}", String::from_utf8_lossy(&output.stderr));

    let mut command = Command::new(helm);
    command.args(["uninstall", "postern", "--no-hooks", "--namespace", NAMESPACE]);
    let output = command.arg("--kubeconfig").arg(server.admin().kubeconfig()).output().context("start helm")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the chart's hook does before an upgrade, by the hook's own rights: its exit code, and its report.
pub fn preflight(server: &ApiServer, helm: &Path, arguments: &[&str]) -> Result<(i32, Value)> {
    let output = by_hook(server, helm, "preflight", &[arguments, &["--output=json"]].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().context("it was ended")?;
    Ok((code, serde_json::from_slice(&output.stdout).with_context(|| format!("no report: {said}"))?))
}

/// What a job of a chart's hook does, which this program is asked for by the hook's name.
fn by_hook(server: &ApiServer, helm: &Path, hook: &str, arguments: &[&str]) -> Result<Output> {
    let chart = crate::workspace().join("charts/postern");
    let mut command = Command::new(helm);
    command.args(["template", "postern"]).arg(chart).args(["--namespace", NAMESPACE]);
    let output = command.args(["--show-only", &format!("templates/{hook}.yaml")]).output().context("start helm")?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    // Its pods would never run, for there is no node.
    let rights = text.split("\n---\n").filter(|document| !document.contains("kind: Job"));
    server.admin().apply(&rights.collect::<Vec<_>>().join("\n---\n"))?;

    let folder = crate::temporary_folder(hook)?;
    let token = server.admin().kubectl(&["create", "token", &format!("postern-{hook}"), "-n", NAMESPACE])?;
    let account = Access::by_token(&folder, server, server.url(), token.trim())?;
    let mut command = Command::new(program()?);
    command.arg(hook).args(arguments).env("KUBECONFIG", account.kubeconfig());
    let output = command.output().context("start postern-operator");
    std::fs::remove_dir_all(&folder)?;
    output
}

impl Operator {
    /// Starts a replica and waits until it is ready. The webhooks of the cluster are sent to it.
    pub fn start(server: &ApiServer, pod_name: &str) -> Result<Self> {
        Self::start_with(server, pod_name, &Options::default())
    }

    /// The same, with its broker where that of one which is gone was. Sidecars get this image.
    pub fn start_again(server: &ApiServer, pod_name: &str, broker: u16, image: &str) -> Result<Self> {
        Self::start_with(server, pod_name, &Options { broker: Some(broker), image, ..Options::default() })
    }

    /// The same, run so.
    pub fn start_with(server: &ApiServer, pod_name: &str, options: &Options<'_>) -> Result<Self> {
        // Between finding a free port and its use somebody else may take it.
        let mut last = anyhow!("no attempt");
        for _ in 0..5 {
            match Self::attempt(server, pod_name, options) {
                Ok(operator) => return Ok(operator),
                Err(error) if format!("{error:#}").contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn attempt(server: &ApiServer, pod_name: &str, options: &Options<'_>) -> Result<Self> {
        let Options { broker, image, more, by, environment, host } = options;
        let folder = crate::temporary_folder("operator")?;
        let token = server.admin().kubectl(&["create", "token", "postern", "-n", NAMESPACE, "--duration=24h"])?;
        let url = by.map_or_else(|| server.url().to_owned(), |port| format!("https://127.0.0.1:{port}"));
        let account = Access::by_token(&folder, server, &url, token.trim())?;
        let (admin, webhooks) = (crate::free_port()?, crate::free_port()?);
        let broker = broker.map_or_else(crate::free_port, Ok)?;
        let mut command = vec![
            program()?.display().to_string(),
            "run".into(),
            format!("--namespace={NAMESPACE}"),
            format!("--pod-name={pod_name}"),
            format!("--webhook-listen=127.0.0.1:{webhooks}"),
            "--webhook-host=127.0.0.1".into(),
            format!("--broker-listen={}:{broker}", if *host == LOOPBACK { LOOPBACK } else { "0.0.0.0" }),
            format!("--broker-url=https://{host}:{broker}"),
            format!("--admin-listen=127.0.0.1:{admin}"),
            format!("--sidecar-image={image}"),
            "--restart-workloads=true".into(),
        ];
        command.extend(more.iter().cloned());
        // In its place, for replicas look after each other's pods.
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod_name, "namespace": NAMESPACE},
            "spec": {"serviceAccountName": "postern", "containers": [{"name": "operator", "image": "none"}]},
        });
        server.admin().apply(&pod.to_string())?;
        let mut environment = environment.clone();
        environment.push(("KUBECONFIG".to_owned(), account.kubeconfig().display().to_string()));
        let ending = Ending { signal: "KILL", folder: None, patience: Duration::from_secs(5) };
        let process = Guard::spawn(&command, &environment, &folder.join("log"), &ending)?;
        let mut operator = Self { process, admin, broker, webhooks, folder };
        send_webhooks(server.admin(), Some(webhooks))?;
        let ready = || crate::gate::http_get(admin, "/readyz").is_ok_and(|(status, _)| status == 200);
        operator.process.wait_until("postern-operator", PATIENCE, ready)?;
        Ok(operator)
    }

    /// What it says on its admin port.
    pub fn admin(&self, path: &str) -> Result<(u16, String)> {
        crate::gate::http_get(self.admin, path)
    }

    /// What the chart's test does: it asks until a replica on this port is ready, or says why none is.
    pub fn ready(port: u16, patience: u64) -> Result<std::process::Output> {
        let arguments = ["ready".to_owned(), format!("--address=127.0.0.1:{port}"), format!("--patience={patience}")];
        Command::new(program()?).args(arguments).output().context("start postern-operator")
    }

    /// Where its probes and metrics are.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// Where its broker is.
    pub fn broker(&self) -> u16 {
        self.broker
    }

    /// Where its webhooks are.
    pub fn webhooks(&self) -> u16 {
        self.webhooks
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process.
    pub fn process(&self) -> Result<crate::process::Process> {
        self.process.process()
    }
}

/// The webhooks of the cluster go to a port of this machine; without one to the Service that the chart says, as before a
/// chart's upgrade.
pub fn send_webhooks(admin: &Access, port: Option<u16>) -> Result<()> {
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let configuration = admin.json(&["get", kind, "postern"])?;
        let webhooks = configuration.get("webhooks").and_then(Value::as_array).context("no webhooks")?;
        let mut sent = Vec::new();
        for webhook in webhooks {
            let client = webhook.get("clientConfig").context("a webhook without a client")?;
            let path = client.pointer("/service/path").and_then(Value::as_str);
            let path = path.map(str::to_owned).or_else(|| path_of(client)).context("a webhook without a path")?;
            let to = match port {
                Some(port) => json!({"url": format!("https://127.0.0.1:{port}{path}"), "service": null}),
                None => json!({
                    "url": null,
                    "service": {"name": "postern-webhook", "namespace": NAMESPACE, "path": path, "port": 443},
                }),
            };
            sent.push(json!({"name": webhook.get("name"), "clientConfig": to}));
        }
        // The operator writes its bundle beside.
        let patch = json!({"webhooks": sent}).to_string();
        admin.kubectl(&["patch", kind, "postern", "--type=strategic", "-p", &patch])?;
    }
    Ok(())
}

/// The path of a webhook that goes to a port already.
fn path_of(client: &Value) -> Option<String> {
    let (_, path) = client.get("url")?.as_str()?.strip_prefix("https://")?.split_once('/')?;
    Some(format!("/{path}"))
}

/// The operator's binary, built if need be. `POSTERN_OPERATOR` names another one.
pub fn program() -> Result<&'static Path> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let build = || match std::env::var_os("POSTERN_OPERATOR") {
        Some(path) => Ok(path.into()),
        None => crate::built::program("postern-operator").map_err(|error| format!("{error:#}")),
    };
    BUILT.get_or_init(build).as_deref().map_err(|error| anyhow!("{error}"))
}
