//! A whole cluster: the control plane and a node that runs pods, on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::certificates::{Authority, token_keys};
use super::{Access, Image, Namespace, POD_VERSION, Unavailable, Version, programs, say, unless_unavailable};
use crate::guard::{Ending, Guard};

/// Generous: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(300);

/// The variable with the folder of a cluster that is there for a whole run of tests.
const RUNNING: &str = "POSTERN_CLUSTER";

/// What befalls a node, in the words of `e2e/kubernetes/node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Befalls {
    /// Its kubelet is killed and starts again.
    KubeletRestarts,
    /// All that runs there is killed, and what was in memory is lost; the control plane, which is elsewhere, goes on.
    PowerGoes,
    /// It starts again, after [`Befalls::PowerGoes`].
    PowerReturns,
}

/// A cluster that runs pods.
#[derive(Debug)]
pub struct Cluster {
    /// Where it is one of ours: its end.
    node: Option<Guard>,
    admin: Access,
    /// What is known of it; of a cluster of ours all that it has.
    folder: PathBuf,
    ours: bool,
}

impl Cluster {
    /// The one that the tests share, each in namespaces of its own: the cluster of the kubeconfig that `POSTERN_KUBECONFIG` names, or
    /// the one that was started for the whole run of tests, or else one that ends with this process. None where the machine can't, which
    /// is said.
    pub fn shared() -> Result<Option<&'static Self>> {
        static SHARED: OnceLock<Result<Cluster>> = OnceLock::new();
        unless_unavailable(SHARED.get_or_init(Self::find).as_ref())
    }

    /// Starts one and waits until its node is ready; it ends when dropped, or with this process. None where the machine can't, which is said.
    pub fn start() -> Result<Option<Self>> {
        Self::launch().map_or_else(|error| unless_unavailable(Err(&error)), |cluster| Ok(Some(cluster)))
    }

    fn find() -> Result<Self> {
        if let Some(kubeconfig) = env::var_os("POSTERN_KUBECONFIG") {
            let kubectl = programs(POD_VERSION, &["kubectl"])?.join("kubectl");
            let folder = crate::workspace().join("target/cluster-in-use");
            fs::create_dir_all(&folder)?;
            let admin = Access::by_file(Path::new(&kubeconfig), &kubectl, &folder);
            return Ok(Self { node: None, admin, folder, ours: false });
        }
        if let Some(folder) = env::var_os(RUNNING) {
            let kubectl = programs(POD_VERSION, &["kubectl"])?.join("kubectl");
            let folder = PathBuf::from(folder);
            let admin = Access::by_file(&folder.join("outside/admin.kubeconfig"), &kubectl, &folder);
            return Ok(Self { node: None, admin, folder, ours: true });
        }
        Self::launch()
    }

    fn launch() -> Result<Self> {
        // Before anything is built for long: a machine that can't should say so at once.
        let runtime = runtime()?;
        let bin = programs(POD_VERSION, &[])?;
        let coredns = programs(Version("coredns"), &["coredns"])?;
        let pause = Image::pause()?.archive()?;

        let began = Instant::now();
        say("starting a cluster (up to a minute)")?;
        let folder = crate::temporary_folder("cluster")?;
        write_credentials(&folder, &bin)?;
        let script = crate::workspace().join("e2e/kubernetes/node");
        let command: [&Path; 6] = [&script, &folder, &bin, &coredns, &runtime, &pause];
        let ending = Ending { signal: "TERM", folder: Some(&folder), patience: Duration::from_secs(60) };
        let mut node = Guard::spawn(&command, &[], &folder.join("node.log"), &ending)?;
        let address = folder.join("address");
        if let Err(error) = node.wait_until("the cluster", PATIENCE, || address.exists()) {
            return match node.stop()? {
                Some(3) => bail!(Unavailable(node.log().trim().to_owned())),
                _ => Err(error),
            };
        }

        let url = format!("https://{}:6443", fs::read_to_string(&address)?.trim());
        let admin = outside(&folder, &bin.join("kubectl"), &url)?;
        // Pods of a namespace need its service account.
        node.wait_until("the node", PATIENCE, || {
            let ready = ["wait", "--for=condition=Ready", "--timeout=5s", "node/postern"];
            admin.kubectl(&ready).is_ok()
                && admin.kubectl(&["get", "serviceaccount", "default", "-n", "default"]).is_ok()
        })?;
        say(&format!("the cluster is ready after {} s", began.elapsed().as_secs()))?;
        Ok(Self { node: Some(node), admin, folder, ours: true })
    }

    /// The access of somebody who may do everything.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// The access of somebody in these groups, who may do what bindings say: the admin's, used in that name.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<Access> {
        let mut config: Value = serde_yaml::from_str(&fs::read_to_string(self.admin.kubeconfig())?)?;
        let users = config.get_mut("users").and_then(Value::as_array_mut).context("no users in the kubeconfig")?;
        for user in users {
            let user = user.get_mut("user").and_then(Value::as_object_mut).context("no user in the kubeconfig")?;
            user.insert("as".into(), name.into());
            user.insert("as-groups".into(), json!(groups));
        }
        self.admin.with_config(&self.folder, name, &config)
    }

    /// A namespace for a test alone, in which only pods run that Pod Security `restricted` allows.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::new(&self.admin, name, &[("pod-security.kubernetes.io/enforce", "restricted")])
    }

    /// Makes an image available to pods, which name it with `imagePullPolicy: Never`; its name.
    ///
    /// Into a cluster that is not ours it comes by the command that `POSTERN_LOAD_IMAGE` holds, with the archive as its last argument,
    /// such as `kind load image-archive --name postern`.
    pub fn load(&self, image: &Image) -> Result<String> {
        // Tests run beside each other, and most of them want the same.
        static ONE_BY_ONE: Mutex<()> = Mutex::new(());
        let _turn = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let archive = image.archive()?;
        let loaded = self.folder.join(archive.file_name().context("an archive without a name")?);
        let key = fs::read_to_string(archive.with_extension("tar.key"))?;
        if self.ours && fs::read_to_string(&loaded).is_ok_and(|loaded| loaded == key) {
            return Ok(image.name().to_owned());
        }
        let mut command = if self.ours {
            let mut command = Command::new(runtime()?.join("usr/bin/ctr"));
            command.arg("--address").arg(self.folder.join("run/containerd/containerd.sock"));
            command.args(["--namespace", "k8s.io", "images", "import"]).arg(&archive);
            command
        } else {
            let loader =
                env::var("POSTERN_LOAD_IMAGE").context("POSTERN_LOAD_IMAGE does not say how images get there")?;
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{loader} \"$1\""), "load"]).arg(&archive);
            command
        };
        let output = command.stdin(Stdio::null()).output().context("load an image")?;
        ensure!(
            output.status.success(),
            "load {}: {}{}",
            image.name(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        fs::write(loaded, key)?;
        Ok(image.name().to_owned())
    }

    /// Has this befall the node of a cluster of ours; waits until it has.
    pub fn befalls(&self, what: Befalls) -> Result<()> {
        ensure!(self.ours, "a cluster of somebody else's");
        let order = match what {
            Befalls::KubeletRestarts => "kubelet",
            Befalls::PowerGoes => "off",
            Befalls::PowerReturns => "on",
        };
        let obeyed = self.folder.join("obeyed");
        _ = fs::remove_file(&obeyed);
        // A pipe, which is opened while somebody reads from it: of a second order before the first is obeyed nothing would be read.
        fs::write(self.folder.join("orders"), format!("{order}\n")).context("tell the node")?;
        let until = Instant::now() + Duration::from_secs(120);
        while !obeyed.exists() {
            ensure!(Instant::now() < until, "the node did not do `{order}`: see its log");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Its folder, by which its processes are known; with `logs` in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The variable by which tests in other processes find it.
    pub fn variable(&self) -> (&'static str, &Path) {
        (RUNNING, &self.folder)
    }

    /// Waits until it ends by itself, which it should not; why it did.
    pub fn wait(&mut self) -> Result<String> {
        let node = self.node.as_mut().context("a cluster of somebody else's")?;
        node.wait()?;
        Ok(node.log())
    }
}

/// Debian's containerd, runc and network plugins, as `make setup` keeps them.
fn runtime() -> Result<PathBuf> {
    let runtime = crate::cache("containerd")?;
    if !runtime.join("usr/bin/containerd").exists() {
        bail!(Unavailable("there is no containerd for a node: run `make setup`".into()));
    }
    Ok(runtime)
}

/// Certificates and kubeconfigs of the cluster's own parts.
fn write_credentials(folder: &Path, bin: &Path) -> Result<()> {
    let authority = Authority::new("Postern test cluster")?;
    fs::write(folder.join("ca.crt"), authority.pem())?;
    // It does not know yet which of these addresses it will have.
    let addresses: Vec<String> = (0..64).map(|number| format!("198.18.{number}.2")).collect();
    let with_names = |names: &[&'static str]| -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).chain(addresses.iter().cloned()).collect()
    };
    let names = with_names(&[
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.96.0.1",
    ]);
    authority.server(&names)?.write(folder, "server")?;
    authority.server(&with_names(&["postern"]))?.write(folder, "kubelet")?;
    token_keys(folder)?;
    let parts: [(&str, &[&str]); 6] = [
        ("admin", &["system:masters"]),
        ("coredns", &["system:masters"]),
        ("system:kube-controller-manager", &[]),
        ("system:kube-scheduler", &[]),
        ("system:kube-proxy", &[]),
        ("system:node:postern", &["system:nodes"]),
    ];
    for (name, groups) in parts {
        let pair = authority.client(name, groups)?;
        Access::by_certificate(folder, &bin.join("kubectl"), name, "https://127.0.0.1:6443", &pair)?;
    }
    Ok(())
}

/// The admin's access from outside of the cluster's network.
fn outside(folder: &Path, kubectl: &Path, url: &str) -> Result<Access> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(folder.join("admin.kubeconfig"))?)?;
    *config.pointer_mut("/clusters/0/cluster/server").context("no server in the kubeconfig")? = url.into();
    fs::create_dir(folder.join("outside"))?;
    Access::by_file(&folder.join("admin.kubeconfig"), kubectl, folder).with_config(
        &folder.join("outside"),
        "admin",
        &config,
    )
}
