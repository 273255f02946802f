//! The API server of a version: its store, itself and the controllers that belong to it, on 127.0.0.1, without nodes.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::Value;

use super::certificates::{Authority, token_keys};
use super::{Access, Version, programs, unless_unavailable};
use crate::guard::{Ending, Guard};
use crate::process::Process;

/// Generous: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(240);

/// The issuer of service accounts' tokens.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running API server, gone when dropped, with all that it held.
#[derive(Debug)]
pub struct ApiServer {
    // In this order they end.
    _controllers: Guard,
    server: Mutex<Guard>,
    store: Guard,
    bin: PathBuf,
    /// What the server was started with.
    arguments: Vec<String>,
    admin: Access,
    authority: Authority,
    folder: PathBuf,
    kubectl: PathBuf,
    url: String,
}

impl ApiServer {
    /// Starts one of this version and waits until it serves. None where the machine can't, which is said.
    pub fn start(version: Version) -> Result<Option<Self>> {
        Self::launch(version).map_or_else(|error| unless_unavailable(Err(&error)), |server| Ok(Some(server)))
    }

    /// The one of this version that the tests of this process share; each test makes namespaces of its own in it.
    pub fn shared(version: Version) -> Result<Option<&'static Self>> {
        static SHARED: [(Version, OnceLock<Result<ApiServer>>); 2] =
            [(super::OLDEST, OnceLock::new()), (super::NEWEST, OnceLock::new())];
        let (_, shared) = SHARED.iter().find(|(one, _)| *one == version).context("a version that is not shared")?;
        unless_unavailable(shared.get_or_init(|| Self::launch(version)).as_ref())
    }

    fn launch(version: Version) -> Result<Self> {
        let bin = programs(version, &["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"])?;
        // Between finding a free port and its use somebody else may take it.
        let mut last = anyhow!("no attempt");
        for _ in 0..5 {
            match Self::attempt(&bin) {
                Ok(server) => return Ok(server),
                Err(error) if error.to_string().contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn attempt(bin: &Path) -> Result<Self> {
        let folder = crate::temporary_folder("kubernetes")?;
        let authority = Authority::new("Postern test cluster")?;
        fs::write(folder.join("ca.crt"), authority.pem())?;
        authority
            .server(&["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"])?
            .write(&folder, "server")?;
        token_keys(&folder)?;

        let store_url = format!("http://127.0.0.1:{}", crate::free_port()?);
        // Its end takes the folder along: all files in it are of no use without the store.
        let store = spawn(bin, "etcd", &folder, Some(&folder), &store_arguments(&folder, &store_url)?)?;
        let port = crate::free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let arguments = server_arguments(&folder, &store_url, port);
        let mut server = spawn(bin, "kube-apiserver", &folder, None, &arguments)?;
        let kubectl = bin.join("kubectl");
        let access = |name: &str, groups: &[&str]| {
            Access::by_certificate(&folder, &kubectl, name, &url, &authority.client(name, groups)?)
        };
        let admin = access("admin", &["system:masters"])?;
        server.wait_until("kube-apiserver", PATIENCE, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() && serves(&admin)
        })?;

        let manager = access("system:kube-controller-manager", &[])?;
        let of_controllers = controller_arguments(&folder, manager.kubeconfig())?;
        let mut controllers = spawn(bin, "kube-controller-manager", &folder, None, &of_controllers)?;
        // Without it no pod can be made in the namespace: the controllers work.
        controllers.wait_until("kube-controller-manager", PATIENCE, || {
            admin.kubectl(&["get", "serviceaccount", "default", "-n", "default"]).is_ok()
        })?;
        let (server, bin) = (Mutex::new(server), bin.to_owned());
        Ok(Self { _controllers: controllers, server, store, bin, arguments, admin, authority, folder, kubectl, url })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What signed its certificate, and signs those of clients.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The access of somebody who may do everything.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// What happens while it is away: it is killed before, and started again after that.
    pub fn without<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<T> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.stop()?;
        let happened = meanwhile();
        *server = spawn(&self.bin, "kube-apiserver", &self.folder, None, &self.arguments)?;
        server.wait_until("kube-apiserver", PATIENCE, || serves(&self.admin))?;
        Ok(happened)
    }

    /// The process of its store.
    pub fn store(&self) -> Result<Process> {
        self.store.process()
    }

    /// A token of a service account's, as if it had been given so many seconds earlier.
    pub fn aged(&self, token: &str, seconds: i64) -> Result<String> {
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part));
        let (header, claims) = (parts.next().context("no header")??, parts.next().context("no claims")??);
        let (header, mut claims): (Header, Value) =
            (serde_json::from_slice(&header)?, serde_json::from_slice(&claims)?);
        for time in ["iat", "nbf", "exp"] {
            let time = claims.get_mut(time).with_context(|| format!("no {time}"))?;
            *time = (time.as_i64().context("no time")? - seconds).into();
        }
        let key = EncodingKey::from_rsa_pem(&fs::read(self.folder.join("sa.key"))?)?;
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }

    /// The access of somebody in these groups, who may do what bindings say.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<Access> {
        let pair = self.authority.client(name, groups)?;
        Access::by_certificate(&self.folder, &self.kubectl, name, &self.url, &pair)
    }
}

fn serves(admin: &Access) -> bool {
    admin.kubectl(&["get", "--raw=/readyz"]).is_ok()
}

/// Starts a program; its log is in `folder`, and `remove` goes when it has ended.
fn spawn(bin: &Path, program: &str, folder: &Path, remove: Option<&Path>, arguments: &[String]) -> Result<Guard> {
    let mut command = vec![bin.join(program).display().to_string()];
    command.extend_from_slice(arguments);
    // Nothing that they hold is needed any more, and none of them ends quickly when asked.
    let ending = Ending { signal: "KILL", folder: remove, patience: Duration::from_secs(5) };
    Guard::spawn(&command, &[], &folder.join(format!("{program}.log")), &ending)
}

fn store_arguments(folder: &Path, url: &str) -> Result<Vec<String>> {
    let peers = format!("http://127.0.0.1:{}", crate::free_port()?);
    Ok(vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // It is gone with the test.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ])
}

fn server_arguments(folder: &Path, store: &str, port: u16) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--etcd-servers={store}"),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        // It would write its address into the Service `kubernetes`, where a loopback address is not taken.
        "--endpoint-reconciler-type=none".into(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--service-account-key-file={}", file("sa.pub")),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-aggregator-routing=true".into(),
        "--allow-privileged=true".into(),
        "--profiling=false".into(),
    ]
}

fn controller_arguments(folder: &Path, kubeconfig: &Path) -> Result<Vec<String>> {
    let file = |name: &str| folder.join(name).display().to_string();
    let kubeconfig = kubeconfig.display();
    Ok(vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        "--use-service-account-credentials=true".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", crate::free_port()?),
        "--leader-elect=false".into(),
        "--profiling=false".into(),
    ])
}
