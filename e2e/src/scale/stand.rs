//! An API server with the operator, asked directly, for kubectl takes a second for each object.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::http::{self, Answer, Client};
use crate::kubernetes::operator::NAMESPACE;
use crate::kubernetes::{ApiServer, NEWEST, operator};

/// Requests under way at a time.
const AT_ONCE: usize = 24;
/// Of objects that are not sent to the webhook of definitions, for the operator is not there.
pub(super) const UNSEEN: &str = "unseen";
/// What the API server calls the things whose writes are counted.
const OURS: [&str; 3] = ["databaseaccesspolicies", "nonhumanidentities", "controllerrevisions"];

/// A request to the API server.
#[derive(Clone)]
pub(super) struct Ask {
    method: &'static str,
    path: String,
    body: String,
    as_node: bool,
}

impl Ask {
    /// Makes an object.
    pub(super) fn create(path: &str, object: &Value) -> Self {
        Self { method: "POST", path: path.to_owned(), body: object.to_string(), as_node: false }
    }

    /// Changes one.
    pub(super) fn merge(path: &str, patch: &Value) -> Self {
        Self { method: "PATCH", path: path.to_owned(), body: patch.to_string(), as_node: false }
    }

    /// The same as a node asks, which alone gets tokens of our audience.
    pub(super) fn of_node(self) -> Self {
        Self { as_node: true, ..self }
    }
}

/// An API server with the chart in it.
pub(super) struct Stand {
    pub(super) server: ApiServer,
    tls: Arc<rustls::ClientConfig>,
    port: u16,
    authorization: String,
}

impl Stand {
    /// None where the machine can't, which is said.
    pub(super) fn start() -> Result<Option<Self>> {
        let (Some(server), Some(helm)) = (ApiServer::start(NEWEST)?, crate::kubernetes::helm()?) else {
            return Ok(None);
        };
        operator::install(&server, &helm)?;
        let unseen = json!({"matchExpressions": [{"key": UNSEEN, "operator": "DoesNotExist"}]});
        let patch = json!({"webhooks": [{"name": "validation.postern.dev", "objectSelector": unseen}]}).to_string();
        let admin = server.admin();
        admin.kubectl(&["patch", "validatingwebhookconfiguration", "postern", "--type=strategic", "-p", &patch])?;
        admin.kubectl(&["create", "serviceaccount", "scale", "-n", "default"])?;
        let may = ["--clusterrole=cluster-admin", "--serviceaccount=default:scale"];
        admin.kubectl(&[&["create", "clusterrolebinding", "scale"][..], &may].concat())?;
        let token = admin.kubectl(&["create", "token", "scale", "-n", "default", "--duration=24h"])?;
        let authorization = format!("Bearer {}", token.trim());
        let port = server.url().rsplit(':').next().context("an address without a port")?.parse()?;
        let tls = http::tls(server.authority().pem())?;
        Ok(Some(Self { server, tls, port, authorization }))
    }

    fn client(&self) -> Client {
        Client::new(self.port, Ipv4Addr::LOCALHOST, &self.tls)
    }

    /// What each of these is answered, in their order; each has to be done.
    pub(super) async fn all(&self, asks: Vec<Ask>) -> Result<Vec<Value>> {
        Ok(self.paced(asks, None).await?.into_iter().map(|(answer, _)| answer).collect())
    }

    /// The same, with no more than so many a second, and how long each took from when it was due.
    pub(super) async fn paced(&self, asks: Vec<Ask>, per_second: Option<u32>) -> Result<Vec<(Value, Duration)>> {
        let start = Instant::now();
        let due = move |at: usize| per_second.map(|rate| start + Duration::from_secs_f64(at as f64 / f64::from(rate)));
        let mut answers = vec![None; asks.len()];
        let waiting = Arc::new(Mutex::new(asks.into_iter().enumerate().collect::<VecDeque<_>>()));
        let mut under_way = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (waiting, mut client, authorization) =
                (Arc::clone(&waiting), self.client(), self.authorization.clone());
            under_way.spawn(async move {
                let mut answered = Vec::new();
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((at, ask)) = next else { return Ok::<_, anyhow::Error>(answered) };
                    if let Some(due) = due(at) {
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let begun = due(at).unwrap_or_else(Instant::now);
                    let answer = asked(&mut client, &authorization, &ask).await?;
                    let took = begun.elapsed();
                    ensure!(answer.status < 300, "{} {}: {}", ask.method, ask.path, shown(&answer));
                    answered.push((at, serde_json::from_slice::<Value>(&answer.body)?, took));
                }
            });
        }
        while let Some(answered) = under_way.join_next().await {
            for (at, answer, took) in answered?? {
                if let Some(place) = answers.get_mut(at) {
                    *place = Some((answer, took));
                }
            }
        }
        answers.into_iter().collect::<Option<Vec<_>>>().context("a request without an answer")
    }

    /// What there is at a path.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.raw(path).await?)?)
    }

    async fn raw(&self, path: &str) -> Result<Vec<u8>> {
        let ask = Ask { method: "GET", path: path.to_owned(), body: String::new(), as_node: false };
        let answer = asked(&mut self.client(), &self.authorization, &ask).await?;
        ensure!(answer.status == 200, "GET {path}: {}", shown(&answer));
        Ok(answer.body.to_vec())
    }

    /// What the API server has counted by now.
    pub(super) async fn counted(&self) -> Result<Counts> {
        Ok(Counts(String::from_utf8(self.raw("/metrics").await?)?))
    }

    /// The certificates by which the API server believes the webhooks.
    pub(super) fn webhook_authorities(&self) -> Result<String> {
        let configuration = self.server.admin().json(&["get", "mutatingwebhookconfiguration", "postern"])?;
        let bundle = configuration.pointer("/webhooks/0/clientConfig/caBundle").and_then(Value::as_str);
        Ok(String::from_utf8(BASE64.decode(bundle.context("no bundle")?)?)?)
    }

    /// A namespace with the Secrets that policies name, and the Role that lets the operator read them.
    pub(super) fn namespace(name: &str) -> Vec<Vec<Ask>> {
        let secret = |secret: &str, data: Value| {
            let metadata = json!({"name": secret});
            let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
            Ask::create(&format!("/api/v1/namespaces/{name}/secrets"), &object)
        };
        let rbac = |kind: &str, plural: &str, more: Value| {
            let mut object = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "postern"},
            });
            if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
                object.extend(more);
            }
            Ask::create(&format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/{plural}"), &object)
        };
        let names = ["shop-postern", "shop-pg-ca"];
        let rule =
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get", "watch"]});
        let account = json!({"kind": "ServiceAccount", "name": "postern", "namespace": NAMESPACE});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "postern"});
        let metadata = json!({"name": name});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        vec![
            vec![Ask::create("/api/v1/namespaces", &namespace)],
            vec![
                secret("shop-postern", json!({"username": "gate", "password": "hush"})),
                secret("shop-pg-ca", json!({"ca.crt": "certificate"})),
                rbac("Role", "roles", json!({"rules": [rule]})),
                rbac("RoleBinding", "rolebindings", json!({"roleRef": role, "subjects": [account]})),
            ],
        ]
    }
}

async fn asked(client: &mut Client, authorization: &str, ask: &Ask) -> Result<Answer> {
    let kind = if ask.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut headers = vec![("authorization", authorization), ("content-type", kind)];
    if ask.as_node {
        headers.push(("impersonate-user", "kubelet"));
        headers.extend(["system:nodes", "system:masters"].map(|group| ("impersonate-group", group)));
    }
    client.request(ask.method, &ask.path, &headers, ask.body.clone()).await
}

fn shown(answer: &Answer) -> String {
    format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
}

/// Metrics as text.
pub(super) struct Counts(String);

impl Counts {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of the series of a name whose labels hold all of these.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label)))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Requests that write what is Postern's.
    pub(super) fn writes(&self) -> f64 {
        let verbs = ["PATCH", "POST", "PUT", "DELETE"];
        let all =
            OURS.iter().flat_map(|of| verbs.map(|verb| (format!("resource=\"{of}\""), format!("verb=\"{verb}\""))));
        all.map(|(of, verb)| self.sum("apiserver_request_total", &[&of, &verb])).sum()
    }

    /// Statuses that were written of these.
    pub(super) fn statuses(&self, of: &str) -> f64 {
        let labels = [format!("resource=\"{of}\""), "subresource=\"status\"".into(), "code=\"200\"".into()];
        self.sum("apiserver_request_total", &[labels[0].as_str(), &labels[1], &labels[2], "verb=\"PATCH\""])
    }
}

/// What there is once it comes; an error after ten minutes.
pub(super) fn until<T>(what: &str, pause: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(600) {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(pause);
    }
    bail!("{what}: not within ten minutes")
}
