//! A running `postern-sidecar` in front of a server, gone when dropped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::guard::{Ending, Guard};
use crate::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use crate::process::Process;

/// A policy's rules that allow everything that a policy can allow, for the `spec` of [`GateOptions::new`].
pub const EVERYTHING: &str = r#"
rules:
- name: everything
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Truncate, CopyIn, CopyOut, Call, Temp, Ddl, Lock, Notify, Maintenance]
  relations: ["*.*"]
  functions: ["*.*"]
  channels: ["*"]
bulkExport: {action: Allow}
"#;

/// What a gate is started with.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// The policy's file; see [`GateOptions::new`].
    pub policy: String,
    /// The identities' file.
    pub identities: String,
    /// The identity that it serves (`--as`).
    pub identity: String,
    /// Secrets as `(secret, key, value)`.
    pub secrets: Vec<(String, String, String)>,
    /// Further arguments of `run`.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

impl GateOptions {
    /// A policy over `database` of `server` (reached as its superuser by TCP), with `spec` as the fields under `spec:`
    /// besides `database`, and an identity `app` in the group `apps` whose sessions run as `role`.
    pub fn new(server: &Server, database: &str, role: &str, spec: &str) -> Self {
        Self {
            policy: policy(server, database, spec),
            identities: identity("app", "apps", role),
            identity: "app".into(),
            secrets: vec![
                ("db".into(), "username".into(), ADMIN.into()),
                ("db".into(), "password".into(), ADMIN_PASSWORD.into()),
            ],
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// With further arguments.
    #[must_use]
    pub fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With another environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With another secret.
    #[must_use]
    pub fn secret(mut self, secret: &str, key: &str, value: &str) -> Self {
        self.secrets.push((secret.into(), key.into(), value.into()));
        self
    }
}

/// A policy document; `spec` holds the fields under `spec:` besides `database`.
pub fn policy(server: &Server, database: &str, spec: &str) -> String {
    let port = server.port();
    let mut text = format!(
        "apiVersion: postern.dev/v1alpha1\nkind: DatabaseAccessPolicy\nmetadata: {{name: test, namespace: test}}\nspec:\n  \
         database: {{host: 127.0.0.1, port: {port}, name: {database}, tls: {{mode: Disable}}, \
         credentials: {{secret: {{name: db}}}}}}\n"
    );
    for line in spec.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// An identity document.
pub fn identity(name: &str, group: &str, role: &str) -> String {
    format!(
        "apiVersion: postern.dev/v1alpha1\nkind: NonHumanIdentity\nmetadata: {{name: {name}, namespace: test}}\nspec:\n  \
         subjects: [{{serviceAccount: {{name: {name}}}}}]\n  groups: [{group}]\n  postgresRole: {role}\n"
    )
}

/// A running gate.
#[derive(Debug)]
pub struct Gate {
    guard: Mutex<Guard>,
    folder: PathBuf,
    port: u16,
    admin: u16,
    identity: String,
}

impl Gate {
    /// Starts a gate and waits until it takes sessions.
    pub fn start(options: &GateOptions) -> Result<Self> {
        let mut last = anyhow!("no attempt");
        for _ in 0..3 {
            match Self::attempt(options) {
                Ok(gate) => return Ok(gate),
                Err(error) if error.to_string().contains("in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn attempt(options: &GateOptions) -> Result<Self> {
        let program = sidecar()?;
        let folder = crate::temporary_folder("gate")?;
        for (secret, key, value) in &options.secrets {
            let secret = folder.join("secrets").join(secret);
            fs::create_dir_all(&secret)?;
            fs::write(secret.join(key), value)?;
        }
        fs::write(folder.join("policy.yaml"), &options.policy)?;
        fs::write(folder.join("identities.yaml"), &options.identities)?;
        let (port, admin) = (crate::free_port()?, crate::free_port()?);
        let file = |name: &str| folder.join(name).display().to_string();
        let mut command = vec![program.display().to_string(), "run".into()];
        for (flag, value) in [
            ("--policy", file("policy.yaml")),
            ("--identity", file("identities.yaml")),
            ("--as", options.identity.clone()),
            ("--secrets-dir", file("secrets")),
            ("--listen", format!("127.0.0.1:{port}")),
            ("--admin", format!("127.0.0.1:{admin}")),
            ("--audit", format!("file:{}", file("audit.jsonl"))),
        ] {
            command.extend([flag.to_owned(), value]);
        }
        command.extend(options.arguments.iter().cloned());
        let ending = Ending { signal: "TERM", folder: Some(&folder), patience: Duration::from_secs(2) };
        let mut guard = Guard::spawn(&command, &options.environment, &folder.join("log"), &ending)?;
        guard.wait_until("the gate", Duration::from_secs(30), || {
            http_get(admin, "/startup").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { guard: Mutex::new(guard), folder, port, admin, identity: options.identity.clone() })
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its admin port on 127.0.0.1.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// The folder with its policy, identities, secrets, audit and log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has written to its standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The audit events so far.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.folder.join("audit.jsonl"))?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The metrics page.
    pub fn metrics(&self) -> Result<String> {
        let (status, body) = http_get(self.admin, "/metrics")?;
        ensure!(status == 200, "/metrics: {status}");
        Ok(body)
    }

    /// Replaces the policy's file, at once as an editor does.
    pub fn write_policy(&self, text: &str) -> Result<()> {
        let path = self.folder.join("policy.yaml");
        fs::write(path.with_extension("new"), text)?;
        fs::rename(path.with_extension("new"), path)?;
        Ok(())
    }

    /// What `check` says of a statement for the gate's identity, by its own policy and the database as it is now.
    pub fn explain(&self, sql: &str) -> Result<Value> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let output = Command::new(sidecar()?)
            .args(["check", "--output", "json", "--database", "--as", &self.identity, "--sql", sql])
            .args(["--policy", &file("policy.yaml"), "--identity", &file("identities.yaml")])
            .args(["--secrets-dir", &file("secrets")])
            .output()?;
        let report = serde_json::from_slice(&output.stdout);
        report.with_context(|| format!("check: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The process.
    pub fn process(&self) -> Result<Process> {
        self.guard.lock().map_err(|_| anyhow!("poisoned"))?.process()
    }

    /// A client of tokio-postgres; must be called within a tokio runtime.
    pub async fn client(&self, database: &str) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("anyone")
            .dbname(database)
            .connect(tokio_postgres::NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Asks it to end by SIGTERM and waits; its exit status.
    pub fn stop(&self) -> Result<Option<i32>> {
        self.guard.lock().map_err(|_| anyhow!("poisoned"))?.stop()
    }
}

/// One HTTP GET on a port of 127.0.0.1: status and body.
pub fn http_get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// The sidecar's binary, built if need be. `POSTERN_SIDECAR` names another one.
pub fn sidecar() -> Result<&'static Path> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let build = || match std::env::var_os("POSTERN_SIDECAR") {
        Some(path) => Ok(path.into()),
        None => crate::built::program("postern-sidecar").map_err(|error| format!("{error:#}")),
    };
    BUILT.get_or_init(build).as_deref().map_err(|error| anyhow!("{error}"))
}
