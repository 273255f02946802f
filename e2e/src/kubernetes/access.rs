//! A way into a cluster: a kubeconfig, and a kubectl that uses it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ApiServer;
use super::certificates::{Pair, secret};

/// Who one is in a cluster, and how it is reached.
#[derive(Clone, Debug)]
pub struct Access {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    /// Where kubectl keeps what it learned of the API.
    cache: PathBuf,
}

impl Access {
    /// The access by a client certificate; `folder` has `ca.crt`, and gets certificate and kubeconfig.
    pub(super) fn by_certificate(folder: &Path, kubectl: &Path, name: &str, server: &str, pair: &Pair) -> Result<Self> {
        let file = file_name(name);
        pair.write(folder, &file)?;
        let user = json!({
            "client-certificate": folder.join(format!("{file}.crt")),
            "client-key": folder.join(format!("{file}.key")),
        });
        Self::new(folder, &folder.join("ca.crt"), kubectl, &file, server, &user)
    }

    /// The access by a token, such as a service account's, at this address of the server; `folder` gets the kubeconfig.
    pub(super) fn by_token(folder: &Path, server: &ApiServer, url: &str, token: &str) -> Result<Self> {
        let authority = folder.join("ca.crt");
        std::fs::write(&authority, server.authority().pem())?;
        Self::new(folder, &authority, &server.admin().kubectl, "token", url, &json!({"token": token}))
    }

    fn new(folder: &Path, authority: &Path, kubectl: &Path, name: &str, server: &str, user: &Value) -> Result<Self> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        Self::by_file(Path::new(""), kubectl, folder).with_config(folder, name, &config)
    }

    /// The access of a kubeconfig that is there; `folder` gets what kubectl keeps.
    pub(super) fn by_file(kubeconfig: &Path, kubectl: &Path, folder: &Path) -> Self {
        Self { kubeconfig: kubeconfig.into(), kubectl: kubectl.into(), cache: folder.join("kubectl-cache") }
    }

    /// The same with another kubeconfig, which is written into `folder`.
    pub(super) fn with_config(&self, folder: &Path, name: &str, config: &Value) -> Result<Self> {
        let kubeconfig = folder.join(format!("{}.kubeconfig", file_name(name)));
        secret(&kubeconfig, &config.to_string())?;
        Ok(Self { kubeconfig, ..self.clone() })
    }

    /// The file that kubectl, helm and clients read.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubectl with these arguments that is not started yet; ended when it takes too long.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "300"]).arg(&self.kubectl).arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--cache-dir").arg(&self.cache).args(arguments);
        command
    }

    /// Runs kubectl and returns what it printed; an error if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.with_input(arguments, "")
    }

    /// The same with `-o json`, read.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[arguments, &["-o", "json"]].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.with_input(&["apply", "-f", "-"], manifests)
    }

    /// Runs kubectl with this input and returns what it printed; an error if it fails.
    pub fn with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        printed(arguments, &self.run(arguments, input)?)
    }

    /// Runs kubectl, which has to fail, with this input; what it said of it.
    pub fn refused(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.run(arguments, input)?;
        ensure!(!output.status.success(), "kubectl {arguments:?} is not refused:\n{}", text(&output.stdout));
        Ok(text(&output.stderr))
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        let mut pipe = child.stdin.take().context("no pipe to kubectl")?;
        // It may end without having read all.
        let input = input.to_owned();
        let writer = std::thread::spawn(move || _ = pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        _ = writer.join();
        Ok(output)
    }
}

fn file_name(name: &str) -> String {
    name.replace([':', '/'], "-")
}

fn printed(arguments: &[&str], output: &Output) -> Result<String> {
    ensure!(output.status.success(), "kubectl {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
