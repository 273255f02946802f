//! A namespace of a test's own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::Access;

/// A namespace, gone when dropped with all that is in it.
#[derive(Debug)]
pub struct Namespace {
    access: Access,
    name: String,
}

impl Namespace {
    /// Makes one with these labels; its name begins with `name`.
    pub fn new(access: &Access, name: &str, labels: &[(&str, &str)]) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A cluster may have seen other runs.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let name = format!("{name}-{}-{number}-{seconds:x}", std::process::id());
        access.kubectl(&["create", "namespace", &name])?;
        let namespace = Self { access: access.clone(), name };
        for (label, value) in labels {
            namespace.access.kubectl(&["label", "namespace", &namespace.name, &format!("{label}={value}")])?;
        }
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies manifests that name no namespace.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.access.with_input(&["--namespace", &self.name, "apply", "-f", "-"], manifests)
    }

    /// Runs kubectl in it and returns what it printed; an error if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.access.kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// The same with `-o json`, read.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.access.json(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Runs a command in a pod, in its first container or in that of `pod -c container`.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec"];
        arguments.extend(pod.split(' '));
        arguments.push("--");
        arguments.extend(command);
        self.kubectl(&arguments)
    }

    /// Waits up to four minutes for a condition such as `condition=Ready` or `jsonpath={.status.phase}=Failed`; if it doesn't come to
    /// hold, an error with its state, events and logs.
    pub fn wait(&self, object: &str, condition: &str) -> Result<()> {
        let waited = self.kubectl(&["wait", object, &format!("--for={condition}"), "--timeout=240s"]);
        waited.map(drop).map_err(|error| {
            let said = |arguments: &[&str]| self.kubectl(arguments).unwrap_or_default();
            let status = said(&["get", object, "-o", "jsonpath={.status}"]);
            let events = said(&["get", "events", "--sort-by=.lastTimestamp"]);
            let logs = said(&["logs", object, "--all-containers", "--prefix", "--tail=20"]);
            anyhow!("{object} is not {condition}: {error}\n{status}\n{events}\n{logs}")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        _ = self.access.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
