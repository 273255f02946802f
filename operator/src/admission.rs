//! The admission webhooks: what the API server asks before it takes an annotated pod or workload, a policy or an
//! identity.
//!
//! Reviews are read and answered as raw JSON: a field that this program does not know survives. What is decided is in
//! [`crate::injection`] and in the compiler of policies; here is only who asked for what.

mod review;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{self, ConnectInfo, DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::events::{EventReason, Events, Told};
use crate::facts;
use crate::injection::{self, INJECT, Refusal, annotation, asked_names, copy_annotation, inject};
use crate::metrics::Metrics;
use crate::objects::{Identity, InForce, Kind, Objects, Policy};
use crate::pods;
use crate::server::{Bounds, Crowd, Peer, in_time};

use review::{Answer, Request};

/// Where annotated pods are sent.
pub const PODS: &str = "/mutate/pods";
/// Where annotated workloads are sent.
pub const WORKLOADS: &str = "/mutate/workloads";
/// Where policies and identities are sent.
pub const VALIDATE: &str = "/validate";

/// Larger than any review: the API server takes objects of 3 MiB at most, and sends two of them.
const MAX_REVIEW: usize = 8 << 20;
/// How long to wait for an object that was applied just before what names it: watches lag a little.
const LAG: Duration = Duration::from_secs(1);

/// What the webhooks need to know.
#[derive(Debug)]
pub struct Webhooks {
    /// What the cluster says.
    pub objects: Arc<Objects>,
    /// The image of sidecars and its pull policy, and the broker's address.
    pub sidecars: Sidecars,
    /// The bundle to verify the broker with; None until there is one.
    pub broker_bundle: watch::Receiver<Option<String>>,
    /// Where it is told what was injected, and what could not be.
    pub events: Events,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What is the same for all sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecars {
    /// Image of the sidecar, best by digest.
    pub image: String,
    /// Its pull policy; None leaves it to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// Where the broker is, as `https://name:port`.
    pub broker: String,
}

/// The webhooks' routes.
pub fn router(webhooks: Arc<Webhooks>) -> Router {
    Router::new()
        .route(PODS, post(pods))
        .route(WORKLOADS, post(workloads))
        .route(VALIDATE, post(validate))
        .layer(DefaultBodyLimit::max(MAX_REVIEW))
        .layer(middleware::from_fn_with_state(Arc::new(Memory::default()), bounded))
        .with_state(webhooks)
}

/// What reviews take up: anybody may send some.
struct Memory {
    /// Bytes that came in or are to come.
    bodies: Arc<Crowd>,
    /// KiB that are being read; a review read takes up many times what it has.
    reading: Semaphore,
}

impl Default for Memory {
    fn default() -> Self {
        let bodies = Crowd::new(Bounds { of_one: 2 * MAX_REVIEW, of_all: 8 * MAX_REVIEW });
        // One of the largest, or many of the usual ones.
        Self { bodies, reading: Semaphore::new(MAX_REVIEW / 1024 + 1) }
    }
}

/// Lets a review through once it is here, with room for it until it is answered.
async fn bounded(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: extract::Request,
    next: Next,
) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = length.unwrap_or(MAX_REVIEW);
    if length > MAX_REVIEW {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no review is as large").into_response();
    }
    let Some(_place) = memory.bodies.enter(peer.ip(), length) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too much comes in at a time").into_response();
    };
    let (head, body) = request.into_parts();
    let body = match in_time(to_bytes(body, length)).await {
        Ok(body) => body,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let size = u32::try_from(length / 1024 + 1).unwrap_or(u32::MAX);
    let Ok(_turn) = memory.reading.acquire_many(size).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    next.run(extract::Request::from_parts(head, body.into())).await
}

async fn pods(State(webhooks): State<Arc<Webhooks>>, body: Bytes) -> Response {
    reviewed(&webhooks, "pods", &body, async |request| {
        let answer = webhooks.pod(request).await;
        webhooks.tell(request, &answer);
        answer
    })
    .await
}

async fn workloads(State(webhooks): State<Arc<Webhooks>>, body: Bytes) -> Response {
    reviewed(&webhooks, "workloads", &body, async |request| webhooks.workload(request).await).await
}

async fn validate(State(webhooks): State<Arc<Webhooks>>, body: Bytes) -> Response {
    reviewed(&webhooks, "validation", &body, async |request| webhooks.definition(request)).await
}

/// Reads a review, has it answered, and counts it.
async fn reviewed(
    webhooks: &Webhooks,
    webhook: &str,
    body: &[u8],
    answer: impl AsyncFnOnce(&Request) -> Result<Answer, Refusal>,
) -> Response {
    let start = Instant::now();
    let Ok(request) = Request::read(body) else {
        webhooks.metrics.admissions.with_label_values(&[webhook, "unreadable"]).inc();
        return (StatusCode::BAD_REQUEST, "is no AdmissionReview of admission.k8s.io/v1").into_response();
    };
    let answer = answer(&request).await;
    let outcome = match &answer {
        Ok(answer) if answer.patch.is_empty() => "allowed",
        Ok(_) => "changed",
        Err(refusal) => {
            let (namespace, name) = (&request.namespace, &request.name);
            tracing::info!(webhook, kind = request.kind, namespace, name, reason = %refusal, "refused");
            "refused"
        }
    };
    webhooks.metrics.admissions.with_label_values(&[webhook, outcome]).inc();
    webhooks.metrics.admission_seconds.with_label_values(&[webhook]).observe(start.elapsed().as_secs_f64());
    ([(header::CONTENT_TYPE, "application/json")], request.response(&answer).to_string()).into_response()
}

impl Webhooks {
    /// An annotated pod gets its sidecars.
    async fn pod(&self, request: &Request) -> Result<Answer, Refusal> {
        let pod = &request.object;
        let Some(annotation) = annotation(pod) else { return Ok(Answer::default()) };
        let broker_ca = self.broker_bundle.borrow().clone();
        let broker_ca = broker_ca.ok_or_else(|| Refusal("the operator has just started; try again".into()))?;
        let namespace = &request.namespace;
        let identity = self.identity(namespace, pods::service_account(pod)).await?;
        let mut policies = Vec::new();
        for name in asked_names(annotation)? {
            policies.push(self.policy(namespace, name).await?);
        }
        let asked: Vec<_> = policies.iter().map(|policy| policy.asked_by(&identity)).collect();
        let Sidecars { image, image_pull_policy, broker } = self.sidecars.clone();
        let settings = injection::Settings { image, image_pull_policy, broker, broker_ca };
        let injected = inject(namespace, pod, &asked, &settings)?;
        Ok(Answer { patch: injection::patch(pod, &injected.pod), warnings: injected.warnings })
    }

    /// Tells what became of an annotated pod, on its policies and on what it belongs to.
    fn tell(&self, request: &Request, answer: &Result<Answer, Refusal>) {
        let Some(annotation) = annotation(&request.object).filter(|_| !request.dry_run) else { return };
        let workload = facts::workload(&request.object, &request.namespace);
        let of = workload.name.as_deref().unwrap_or("a pod");
        let (reason, note) = match answer {
            Ok(answer) if answer.patch.is_empty() => return,
            Ok(_) => (EventReason::Injected, format!("a pod of {of} gets its sidecar")),
            Err(refusal) => (EventReason::InjectionRefused, format!("no pod of {of}: {refusal}")),
        };
        let policies = asked_names(annotation).unwrap_or_default();
        let policies = policies.into_iter().filter_map(|name| self.objects.policy(&request.namespace, name));
        // One that is not made yet, and belongs to nothing, is nothing that an Event could be about.
        let workload = Some(workload).filter(|workload| workload.name.is_some());
        for regarding in policies.map(|policy| facts::reference(&policy)).chain(workload) {
            self.events.tell(Told { regarding, reason, note: note.clone() });
        }
    }

    /// A workload's annotation is carried to the template of its pods.
    async fn workload(&self, request: &Request) -> Result<Answer, Refusal> {
        let before = request.old_object.as_ref();
        let changed = copy_annotation(&request.kind, &request.object, before)?;
        // What is there already is not asked about again: a policy that went away must not stop who scales down.
        if let Some(asked) = annotation(&request.object).filter(|asked| before.and_then(annotation) != Some(*asked)) {
            for name in asked_names(asked)? {
                self.policy(&request.namespace, name).await?;
            }
        }
        Ok(Answer { patch: injection::patch(&request.object, &changed), warnings: Vec::new() })
    }

    /// A policy or an identity has no mistakes.
    fn definition(&self, request: &Request) -> Result<Answer, Refusal> {
        let spec = |object: &Value| object.get("spec").cloned();
        let before = request.old_object.as_ref();
        // Finalizers and labels of what is there already may change whatever its spec is: it could never go otherwise.
        let same = before.is_some_and(|before| spec(before) == spec(&request.object));
        let ends = request.object.pointer("/metadata/deletionTimestamp").is_some_and(|it| !it.is_null());
        if same || ends {
            return Ok(Answer::default());
        }
        let document = request.document();
        match request.kind.as_str() {
            Policy::KIND => Policy::read(document).map(|_| Answer::default()).map_err(Refusal),
            Identity::KIND => {
                let (spec, checked) = Identity::read(document).map_err(Refusal)?;
                let accounts = spec.subjects.iter().filter_map(|subject| subject.service_account.as_ref());
                let warnings = accounts.filter_map(|account| self.shared_account(&checked, &account.name)).collect();
                Ok(Answer { patch: Vec::new(), warnings })
            }
            other => Err(Refusal(format!("{other} is no kind of Postern's"))),
        }
    }

    /// What to say where another identity has the same service account.
    fn shared_account(&self, identity: &postern_crds::CheckedIdentity, account: &str) -> Option<String> {
        let others = self.objects.identities_of(&identity.namespace, account);
        let other = others.iter().find(|other| other.checked.name != identity.name)?;
        Some(format!(
            "service account {account} has the identity {} too: pods with both get no lease",
            other.checked.name
        ))
    }

    /// The policy in force.
    async fn policy(&self, namespace: &str, name: &str) -> Result<Arc<InForce<Policy>>, Refusal> {
        let found = self.soon(|objects| objects.policy(namespace, name)?.in_force.clone()).await;
        found.ok_or_else(|| match self.objects.policy(namespace, name) {
            Some(known) if known.deleted.is_some() => Refusal(format!("{INJECT}: policy '{name}' is being deleted")),
            Some(known) => {
                let mistakes = known.mistakes.clone().unwrap_or_default();
                Refusal(format!("{INJECT}: policy '{name}' has mistakes, and was never in force: {mistakes}"))
            }
            None => Refusal(format!(
                "{INJECT}: there is no DatabaseAccessPolicy '{name}' in namespace {namespace}; create it first"
            )),
        })
    }

    /// The one identity of a service account.
    async fn identity(&self, namespace: &str, account: &str) -> Result<Arc<InForce<Identity>>, Refusal> {
        let found =
            self.soon(|objects| Some(objects.identities_of(namespace, account)).filter(|it| !it.is_empty())).await;
        let found = found.unwrap_or_default();
        match found.as_slice() {
            [identity] => Ok(Arc::clone(identity)),
            [] => Err(Refusal(format!(
                "{INJECT}: no NonHumanIdentity in namespace {namespace} has the service account '{account}' that the pod \
                 runs as: create one, or set serviceAccountName"
            ))),
            [one, other, ..] => Err(Refusal(format!(
                "{INJECT}: service account '{account}' has the identities {} and {}; it can only have one",
                one.checked.name, other.checked.name
            ))),
        }
    }

    /// What is looked for, which may have been applied a moment ago.
    async fn soon<T>(&self, look: impl Fn(&Objects) -> Option<T>) -> Option<T> {
        let mut changes = self.objects.changes();
        let wait = async {
            loop {
                if let Some(found) = look(&self.objects) {
                    return found;
                }
                if let Err(broadcast::error::RecvError::Closed) = changes.recv().await {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(LAG, wait).await.ok()
    }
}
