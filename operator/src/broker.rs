//! The broker: exchanges a token for an access token, gives leases by that, and takes the audit in.
//!
//! **Promise.** A token is believed, a claim is not. An exchange of a pod's asks, in this order: how often this address
//! asked; the token's signature, issuer, audience, expiry and life; the API server's own review of it; whether its pod is
//! there, is what an injection made, and is where the request comes from; the policy; the one identity; the proof of the
//! key. A lease asks for the pod and all after it again, at each poll and at each change of what it hangs on.
//! One of a token from outside of the cluster asks the same, but for the review and the pod: whether its issuer is listed;
//! the token's kind, signature, issuer and times; which one identity of the namespace pins what it says, and takes its
//! audience; whether the policy may leave the cluster; the proof of the key. What is wrong with claims is told only to
//! whom a good token shows to have them.
//! **Also.** What this replica can't know right now, it says so (`temporarily_unavailable`): that is no refusal, and
//! ends no lease.
//! **Not covered.** A proof that was used at one replica is not known to the others; it is sent over TLS only.

mod access;
mod cluster;
mod document;
mod dpop;
mod fetch;
mod intake;
mod issuers;
mod keys;
mod limit;
mod outside;
mod rights;
mod sink;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest as _, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Json, Router};
use futures::future::BoxFuture;
use kube::Client;
use postern_crds::lease::{
    ACCESS_TOKEN_TYPE, AUDIT_PATH, AuditAck, ErrorCode, ErrorResponse, GRANT_TYPE, JWT_TYPE, LEASE_PATH, Lease,
    LeaseRequest, MAX_BATCH, MAX_WAIT, Report, Resource, TOKEN_PATH, TokenResponse, is_verifier,
};
use prometheus::IntGauge;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::injection::{Genuine, believes_only};
use crate::metrics::Metrics;
use crate::objects::{Change, Identity, InForce, Objects, Pod, Policy};
use crate::roles::{Loan, Roles};
use crate::secrets::{SecretError, Secrets};
use crate::server::{Peer, in_time};

use access::{Access, Confirmation};
use cluster::Cluster;
use dpop::{Expected, ProofError, Proven, Replays};
use intake::{Batch, Streams};
use issuers::Away;
use limit::Limit;
use outside::{Fit, OutsideError};
use rights::Right;
use subject::{PodToken, TokenError};

pub use fetch::RootsError;
pub use issuers::{Issuers, IssuersError};
pub use keys::{KeyError, Keys};
pub use outside::Outside;
pub use rights::{Bearer, Origin, PodOrigin};
pub use sink::{Sink, SinkError};

/// Largest exchange: tokens have some two thousand characters.
const MAX_EXCHANGE: usize = 64 << 10;
/// Largest request for a lease: a report may name many columns that do not bind.
const MAX_REQUEST: usize = 1 << 20;
/// What of audit batches may be in memory at a time, in KiB; who comes beyond waits, and one that is larger waits for
/// all others. Read as events a batch takes up some ten times as much.
const AUDIT_MEMORY: u32 = 8 << 10;
/// How long a batch may take to come in.
const AUDIT_PATIENCE: Duration = Duration::from_secs(10);
/// Most polls that wait at a time.
const MAX_POLLS: usize = 32_768;

/// Seconds of Unix time.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What the broker learns that others tell people of.
#[derive(Debug)]
pub enum Fact<'a> {
    /// Somebody was given the right to leases.
    Granted {
        /// Who.
        bearer: &'a Bearer,
        /// What tells his sidecar from others.
        holder: &'a str,
        /// The policy.
        policy: &'a str,
        /// The identity.
        identity: &'a str,
    },
    /// Somebody was refused. Who it is was proven.
    Refused {
        /// Who.
        bearer: &'a Bearer,
        /// The identity, if that was proven.
        identity: Option<&'a str>,
        /// What it asked for.
        resource: &'a Resource,
        /// Why.
        problem: &'a Problem,
    },
    /// A sidecar polled, and said how it fares.
    Polled {
        /// What tells it from others.
        holder: &'a str,
        /// The policy in force.
        policy: &'a InForce<Policy>,
        /// The identity in force.
        identity: &'a InForce<Identity>,
        /// Whether the newest lease of both has reached it.
        reached: bool,
        /// How it fares.
        report: &'a Report,
    },
    /// Not all that a policy allows could be granted to the roles that are made for its sidecars.
    NotGranted {
        /// The policy.
        policy: &'a InForce<Policy>,
        /// What the database said.
        why: &'a str,
    },
    /// An event of the audit was kept.
    Audited {
        /// The event, with what is proven of its sender.
        event: &'a Value,
    },
}

/// Who is told; it must not wait.
pub type Tell = Arc<dyn Fn(Fact<'_>) + Send + Sync>;

/// Why a request comes to nothing, for who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub code: ErrorCode,
    /// Why.
    pub why: String,
}

impl Problem {
    fn new(code: ErrorCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }

    fn grant(why: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidGrant, why)
    }

    fn request(why: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, why)
    }

    fn later(why: impl Into<String>) -> Self {
        Self::new(ErrorCode::TemporarilyUnavailable, why)
    }

    fn outcome(&self) -> &'static str {
        match self.code {
            ErrorCode::InvalidRequest => "invalid_request",
            ErrorCode::InvalidGrant => "invalid_grant",
            ErrorCode::UnauthorizedClient => "unauthorized_client",
            ErrorCode::InvalidTarget => "invalid_target",
            ErrorCode::UnsupportedGrantType => "unsupported_grant_type",
            ErrorCode::InvalidDpopProof => "invalid_dpop_proof",
            ErrorCode::InvalidToken => "invalid_token",
            ErrorCode::SlowDown => "slow_down",
            ErrorCode::TemporarilyUnavailable => "temporarily_unavailable",
            ErrorCode::Unknown => "unknown",
        }
    }
}

impl From<ProofError> for Problem {
    fn from(error: ProofError) -> Self {
        Problem::new(ErrorCode::InvalidDpopProof, error.to_string())
    }
}

// A token that is only out of its time says nothing of the right, and takes back no lease: that one ends by itself. Who replaces tokens
// may be late, or a clock be wrong.

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Expired | TokenError::Early => ErrorCode::InvalidToken,
            _ => ErrorCode::InvalidGrant,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<OutsideError> for Problem {
    fn from(error: OutsideError) -> Self {
        let code = match error {
            OutsideError::Expired | OutsideError::Early => ErrorCode::InvalidToken,
            _ => ErrorCode::InvalidGrant,
        };
        Problem::new(code, error.to_string())
    }
}

impl From<Away> for Problem {
    fn from(Away: Away) -> Self {
        Problem::later(
            "the keys of the token's issuer can't be had right now, or were just asked for; the operator's log says \
             whether it answers",
        )
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        tracing::warn!(error = format!("{:#}", anyhow::Error::new(error)), "an access token can't be signed");
        Problem::later("the broker can't sign yet")
    }
}

/// With which status and headers a problem is told depends on what was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Token,
    Resource,
}

impl Endpoint {
    fn answer(self, problem: Problem) -> Response {
        let status = match (problem.code, self) {
            (ErrorCode::SlowDown, _) => StatusCode::TOO_MANY_REQUESTS,
            (ErrorCode::TemporarilyUnavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            (ErrorCode::InvalidToken | ErrorCode::InvalidDpopProof, Endpoint::Resource) => StatusCode::UNAUTHORIZED,
            (code, Endpoint::Resource) if code.is_refusal() => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        let challenge = (status == StatusCode::UNAUTHORIZED)
            .then(|| [(header::WWW_AUTHENTICATE, format!("DPoP error=\"{}\", algs=\"ES256\"", problem.outcome()))]);
        let body = ErrorResponse { error: problem.code, error_description: problem.why };
        (status, challenge, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

/// What the broker works with.
pub struct Broker {
    objects: Arc<Objects>,
    secrets: Arc<Secrets>,
    roles: Arc<Roles>,
    keys: Arc<Keys>,
    cluster: Cluster,
    issuers: Issuers,
    bundle: watch::Receiver<Option<String>>,
    authorities: watch::Receiver<Vec<String>>,
    /// Where pods reach it, as `https://name:port`.
    bases: Vec<String>,
    /// Where anybody does.
    all_bases: Vec<String>,
    verify_source: bool,
    limit: Limit,
    replays: Replays,
    streams: Streams,
    sink: Sink,
    audit_memory: Semaphore,
    polls: Semaphore,
    tell: Tell,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("bases", &self.bases).finish_non_exhaustive()
    }
}

/// What a broker is made of.
pub struct BrokerParts {
    /// The API server.
    pub client: Client,
    /// What the cluster says.
    pub objects: Arc<Objects>,
    /// Secrets by name.
    pub secrets: Arc<Secrets>,
    /// Roles that are made for sidecars.
    pub roles: Arc<Roles>,
    /// What it signs with; kept by [`Keys::keep`].
    pub keys: Arc<Keys>,
    /// Issuers outside of the cluster.
    pub issuers: Issuers,
    /// The bundle to verify it with; None until there is one.
    pub bundle: watch::Receiver<Option<String>>,
    /// All certificates by which sidecars may believe it.
    pub authorities: watch::Receiver<Vec<String>>,
    /// Where pods reach it, as `https://name:port`; all names that they use.
    pub bases: Vec<String>,
    /// Where others do.
    pub external_bases: Vec<String>,
    /// Whether a request has to come from an address of its pod.
    pub verify_source: bool,
    /// Where the audit goes.
    pub sink: Sink,
    /// Who is told what it learns.
    pub tell: Tell,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The broker's routes.
pub fn router(parts: BrokerParts) -> Router {
    let BrokerParts {
        client,
        objects,
        secrets,
        roles,
        keys,
        issuers,
        bundle,
        authorities,
        bases,
        external_bases,
        verify_source,
        sink,
        tell,
        metrics,
    } = parts;
    let broker = Broker {
        cluster: Cluster::new(client, Arc::clone(&metrics)),
        objects,
        secrets,
        roles,
        keys,
        issuers,
        bundle,
        authorities,
        all_bases: bases.iter().cloned().chain(external_bases).collect(),
        bases,
        verify_source,
        limit: Limit::default(),
        replays: Replays::default(),
        streams: Streams::default(),
        sink,
        audit_memory: Semaphore::new(AUDIT_MEMORY as usize),
        polls: Semaphore::new(MAX_POLLS),
        tell,
        metrics,
    };
    Router::new()
        .route(TOKEN_PATH, post(token).layer(DefaultBodyLimit::max(MAX_EXCHANGE)))
        .route(LEASE_PATH, post(lease).layer(DefaultBodyLimit::max(MAX_REQUEST)))
        .route(AUDIT_PATH, post(audit))
        .with_state(Arc::new(broker))
}

/// The form of an exchange (RFC 8693 §2.1).
#[derive(Deserialize)]
struct Exchange {
    grant_type: String,
    #[serde(default)]
    subject_token: String,
    #[serde(default)]
    subject_token_type: String,
    #[serde(default)]
    resource: String,
}

async fn token(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    if !broker.limit.allows(peer.ip(), Instant::now()) {
        let problem = Problem::new(ErrorCode::SlowDown, "too many exchanges from this address");
        broker.metrics.exchanges.with_label_values(&[problem.outcome()]).inc();
        return Endpoint::Token.answer(problem);
    }
    let headers = request.headers().clone();
    let exchanged = match in_time(Form::from_request(request, &())).await {
        Ok(Form(form)) => broker.exchange(form, peer.ip(), &headers).await,
        Err(why) => Err(Problem::request(why)),
    };
    let outcome = exchanged.as_ref().map_or_else(Problem::outcome, |_| "granted");
    broker.metrics.exchanges.with_label_values(&[outcome]).inc();
    match exchanged {
        Ok(response) => ([(header::CACHE_CONTROL, "no-store")], Json(response)).into_response(),
        Err(problem) => {
            tracing::info!(%peer, error = outcome, reason = problem.why, "an exchange is refused");
            Endpoint::Token.answer(problem)
        }
    }
}

async fn lease(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let polled = async {
        let (access, request) = {
            let access = broker.bearer_of(request.headers(), LEASE_PATH).await?;
            // Its bytes are a part of what the connection reads into, and a poll waits for long.
            let body = in_time(Bytes::from_request(request, &())).await.map_err(Problem::request)?;
            let request = serde_json::from_slice(&body).map_err(|error| Problem::request(error.to_string()))?;
            (access, request)
        };
        broker.poll(&access, &request, peer.ip()).await
    };
    let polled = polled.await;
    let outcome = match &polled {
        Ok(Some(_)) => "lease",
        Ok(None) => "unchanged",
        Err(problem) => problem.outcome(),
    };
    broker.metrics.polls.with_label_values(&[outcome]).inc();
    match polled {
        Ok(Some(lease)) => ([(header::CACHE_CONTROL, "no-store")], Json(lease)).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => {
            tracing::info!(%peer, error = outcome, reason = problem.why, "a lease is refused");
            Endpoint::Resource.answer(problem)
        }
    }
}

async fn audit(
    State(broker): State<Arc<Broker>>,
    batch: Result<Query<Batch>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let taken = async {
        let access = broker.bearer_of(&headers, AUDIT_PATH).await?;
        let Query(batch) = batch.map_err(|rejection| Problem::request(rejection.body_text()))?;
        if !batch.is_well_formed() {
            return Err(Problem::request("stream, first or acknowledged can't be so"));
        }
        broker.take(&access, &batch, &headers, body).await
    };
    match taken.await {
        Ok(acknowledged) => Json(AuditAck { acknowledged }).into_response(),
        Err(problem) => Endpoint::Resource.answer(problem),
    }
}

impl Broker {
    /// An access token for another one, by the checks in their order.
    async fn exchange(&self, form: Exchange, source: IpAddr, headers: &HeaderMap) -> Result<TokenResponse, Problem> {
        if form.grant_type != GRANT_TYPE {
            return Err(Problem::new(ErrorCode::UnsupportedGrantType, format!("only {GRANT_TYPE} is granted")));
        }
        if form.subject_token_type != JWT_TYPE {
            return Err(Problem::request(format!("subject_token_type has to be {JWT_TYPE}")));
        }
        let resource: Resource = form.resource.parse().map_err(Problem::request)?;
        let token = form.subject_token.trim();
        // By what is not believed yet, and only to choose who looks at it.
        let Believed { bearer, identity, expires } = match outside::claimed_issuer(token) {
            Some(issuer) if issuer != self.cluster.issuer().await? => {
                self.believed_outside(token, &issuer, &resource).await?
            }
            _ => self.believed_pod(token).await?,
        };
        let right = self.right(&bearer, &resource, source).await.inspect_err(|problem| {
            let identity = identity.as_deref();
            (self.tell)(Fact::Refused { bearer: &bearer, identity, resource: &resource, problem });
        })?;
        let proven = self.proof(headers, TOKEN_PATH, None)?;
        let identity = &right.identity.checked;
        let now = now();
        let expires_in = access::life(expires, identity.max_lease.as_secs(), now);
        if expires_in == 0 {
            // Between its end and the end of what clocks may be apart.
            return Err(TokenError::Expired.into());
        }
        let access = Access {
            aud: access::AUDIENCE.to_owned(),
            iat: now,
            exp: now + expires_in,
            jti: keys::random_id(),
            cnf: Confirmation { jkt: proven.thumbprint },
            policy: resource.name,
            identity: identity.name.clone(),
            pinned: right.pinned,
            bearer,
        };
        let access_token = self.keys.sign(&access)?;
        if access_token.len() > outside::MAX_ACCESS {
            return Err(OutsideError::Long.into());
        }
        let Access { bearer, policy, identity, .. } = &access;
        tracing::debug!(namespace = bearer.namespace, who = bearer.who(), policy, identity, "an exchange is granted");
        (self.tell)(Fact::Granted { bearer, holder: access.holder(), policy, identity });
        Ok(TokenResponse {
            access_token,
            issued_token_type: ACCESS_TOKEN_TYPE.to_owned(),
            token_type: "DPoP".to_owned(),
            expires_in,
        })
    }

    async fn believed_pod(&self, token: &str) -> Result<Believed, Problem> {
        let PodToken { issuer, subject, id, expires, namespace, service_account, pod, pod_uid, node } =
            self.cluster.pod_token(token).await?;
        let origin = Origin::Pod(PodOrigin { service_account, pod, pod_uid, node });
        Ok(Believed { bearer: Bearer { issuer, subject, token_id: id, namespace, origin }, identity: None, expires })
    }

    /// What a token of a listed issuer proves. Nothing is asked of one that isn't.
    async fn believed_outside(&self, token: &str, issuer: &str, resource: &Resource) -> Result<Believed, Problem> {
        self.is_there()?;
        let listed = self.issuers.get(issuer).ok_or_else(not_listed)?;
        let checked = match outside::check(token, &*listed.keys().await?, issuer, now()) {
            Err(OutsideError::UnknownKey) => outside::check(token, &*listed.newer_keys().await?, issuer, now()),
            checked => checked,
        };
        let token = checked?;
        let namespace = &resource.namespace;
        let says = token.carried(&BTreeSet::new())?;
        let identity = rights::proven(issuer, &says, namespace, &self.objects.identities_in(namespace))?;
        // Of groups only those that this identity has.
        let subjects = identity.spec.subjects.iter().filter_map(|subject| subject.oidc.as_ref());
        let proving = subjects.filter(|subject| says.fits(issuer, subject, namespace) == Fit::Proves);
        let outside = token.carried(&proving.filter_map(|subject| subject.groups_claim.as_deref()).collect())?;
        let bearer = Bearer {
            issuer: issuer.to_owned(),
            subject: token.subject,
            token_id: token.id,
            namespace: namespace.clone(),
            origin: Origin::Outside { outside },
        };
        Ok(Believed { bearer, identity: Some(identity.checked.name.clone()), expires: token.expires })
    }

    /// Whether this replica knows enough to refuse anybody.
    fn is_there(&self) -> Result<(), Problem> {
        if self.objects.is_synced() && self.keys.are_there() {
            Ok(())
        } else {
            Err(Problem::later("the broker has just started"))
        }
    }

    /// What somebody has a right to right now.
    async fn right(&self, bearer: &Bearer, resource: &Resource, source: IpAddr) -> Result<Right, Problem> {
        self.is_there()?;
        let policy = self.objects.policy(&resource.namespace, &resource.name);
        let policy = policy.as_deref();
        match &bearer.origin {
            Origin::Pod(origin) => {
                let pod = self.live_pod(&bearer.namespace, origin).await?.whole();
                let source = self.verify_source.then_some(source);
                let genuine = Genuine { images: &self.keys.images(), brokers: &self.bases };
                rights::is_its_sidecar(&bearer.namespace, origin, resource, &pod, genuine, source)?;
                if !believes_only(&pod, &self.authorities.borrow()) {
                    // A new authority may be known to the replica that made the pod, and not yet here.
                    return Err(Problem::later("the sidecar takes somebody for the broker who is not known here"));
                }
                let account = &origin.service_account;
                let identities = self.objects.identities_of(&bearer.namespace, account);
                rights::of_pod(resource, policy, &identities, account, &pod)
            }
            Origin::Outside { outside } => {
                // The list may be another one since.
                self.issuers.get(&bearer.issuer).ok_or_else(not_listed)?;
                let identities = self.objects.identities_in(&bearer.namespace);
                let identity = rights::proven(&bearer.issuer, outside, &bearer.namespace, &identities)?;
                rights::of_outside(bearer, outside, resource, policy, &identity)
            }
        }
    }

    /// The pod, from the watch or, where that lags behind or does not see it, from the API server.
    async fn live_pod(&self, namespace: &str, origin: &PodOrigin) -> Result<Arc<Pod>, Problem> {
        let PodOrigin { pod: name, pod_uid, .. } = origin;
        if let Some(pod) = self.objects.pod(namespace, name).filter(|pod| pod.uid == *pod_uid) {
            return Ok(pod);
        }
        let raw = self.cluster.pod(namespace, name).await?.ok_or_else(|| Problem::grant("the token's pod is gone"))?;
        let (namespace, name, uid) = (namespace.to_owned(), name.clone(), pod_uid.clone());
        Ok(Arc::new(Pod::new(namespace, name, uid, raw)))
    }

    /// The one proof of a request, which is used up by this.
    fn proof(&self, headers: &HeaderMap, path: &str, access_token: Option<&str>) -> Result<Proven, Problem> {
        let mut proofs = headers.get_all(dpop::HEADER).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else { return Err(ProofError::Missing.into()) };
        let proof = proof.to_str().map_err(|_| ProofError::Unreadable)?;
        let now = now();
        let proven = dpop::check(proof, &Expected { bases: &self.all_bases, path, access_token, now })?;
        self.replays.first_use(&proven, now)?;
        Ok(proven)
    }

    /// What the access token of a request says, if the request also proves the token's key.
    async fn bearer_of(&self, headers: &HeaderMap, path: &str) -> Result<Access, Problem> {
        let invalid = |why| Problem::new(ErrorCode::InvalidToken, why);
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = text.and_then(|text| text.split_once(' ')).ok_or_else(|| invalid("there is no token"))?;
        if !scheme.eq_ignore_ascii_case("DPoP") {
            return Err(invalid("the token has to come by DPoP"));
        }
        if !self.keys.are_there() {
            return Err(Problem::later("the broker has just started"));
        }
        let access: Option<Access> = self.keys.verify(token, access::AUDIENCE).await;
        let access = access.ok_or_else(|| invalid("the access token is not good, or no more"))?;
        let proven = self.proof(headers, path, Some(token))?;
        if proven.thumbprint != access.cnf.jkt {
            return Err(Problem::new(ErrorCode::InvalidDpopProof, "the access token is bound to another key"));
        }
        Ok(access)
    }

    /// The lease, once it is another one than the sidecar has; None if it isn't within the wait.
    async fn poll(&self, access: &Access, request: &LeaseRequest, source: IpAddr) -> Result<Option<Lease>, Problem> {
        let Ok(_turn) = self.polls.try_acquire() else {
            return Err(Problem::new(ErrorCode::SlowDown, "too many sidecars wait for changes here"));
        };
        let _counted = Counted::new(&self.metrics.polling);
        let until = tokio::time::Instant::now() + Duration::from_secs(request.wait.min(MAX_WAIT));
        // From before the first look, so that no change falls in between.
        let mut changes =
            Changes { objects: self.objects.changes(), secrets: self.secrets.changes(), bundle: self.bundle.clone() };
        changes.bundle.mark_unchanged();
        let (holder, resource) = (access.holder(), access.resource());
        loop {
            // Nothing of it is kept while the poll waits: very many do.
            {
                let verifier = request.verifier.as_deref();
                let (lease, Right { policy, identity, .. }) = self.lease(access, &resource, source, verifier).await?;
                let reached = request.version.as_ref() == Some(&lease.version);
                let report = &request.report;
                (self.tell)(Fact::Polled { holder, policy: &policy, identity: &identity, reached, report });
                if !reached {
                    return Ok(Some(lease));
                }
            }
            tokio::select! {
                () = changes.of(access) => {}
                () = tokio::time::sleep_until(until) => return Ok(None),
            }
        }
    }

    /// The lease as it is now, and the right that it is given by. In memory of its own, which is given back with it: very
    /// many polls wait, and all that they are made of waits with them.
    fn lease<'a>(
        &'a self,
        access: &'a Access,
        resource: &'a Resource,
        source: IpAddr,
        verifier: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(Lease, Right), Problem>> {
        Box::pin(self.lease_now(access, resource, source, verifier))
    }

    async fn lease_now(
        &self,
        access: &Access,
        resource: &Resource,
        source: IpAddr,
        verifier: Option<&str>,
    ) -> Result<(Lease, Right), Problem> {
        let right = self.right(&access.bearer, resource, source).await?;
        let expires_in = access.lease_left(right.identity.checked.max_lease.as_secs(), now());
        if expires_in == 0 {
            return Err(Problem::new(ErrorCode::InvalidToken, "the lease has ended; exchange again"));
        }
        let mut secrets = BTreeMap::new();
        for name in document::named(&right.policy.checked, &access.bearer.origin).into_keys() {
            let secret = self.secrets.get(&resource.namespace, name).await;
            let secret = secret.map_err(|error| unreadable(&resource.namespace, name, error))?;
            secrets.insert(name.to_owned(), secret);
        }
        let broker_ca = self.bundle.borrow().clone();
        let role = self.role(access, &right, verifier, expires_in).await?;
        let lease = document::lease(document::Parts {
            id: &access.jti,
            bearer: &access.bearer,
            right: &right,
            secrets: &secrets,
            broker_ca: broker_ca.ok_or_else(|| Problem::later("the broker has just started"))?,
            role,
            expires_in,
        });
        Ok((lease, right))
    }

    /// The role that is made for the sidecar, where the policy has it so.
    async fn role(
        &self,
        access: &Access,
        right: &Right,
        verifier: Option<&str>,
        expires_in: u64,
    ) -> Result<Option<String>, Problem> {
        if right.policy.checked.database.credentials.ephemeral().is_none() {
            return Ok(None);
        }
        let known = self.objects.policy(&access.bearer.namespace, &access.policy);
        if !known.is_some_and(|known| known.waits_at_its_end()) {
            // Else nobody would end the roles of a policy that is deleted in this moment.
            return Err(Problem::later("the policy was just made, and no replica of the operator has it in hand yet"));
        }
        let verifier = verifier.filter(|text| is_verifier(text));
        let loan = Loan {
            policy: &right.policy,
            identity: &right.identity,
            subject: &access.bearer.subject,
            pod: access.bearer.pod().map(|pod| pod.pod.as_str()),
            thumbprint: &access.cnf.jkt,
            verifier: verifier.ok_or_else(|| {
                Problem::request("the policy has roles made for sidecars, and this sidecar is too old for that")
            })?,
            life: Duration::from_secs(expires_in) + right.identity.checked.outage_grace,
        };
        let lent = self.roles.lend(&loan).await.map_err(|error| Problem::later(error.to_string()))?;
        if let Some(why) = &lent.refused {
            (self.tell)(Fact::NotGranted { policy: &right.policy, why });
        }
        Ok(Some(lent.role))
    }

    /// Takes a batch of audit events; the number up to which the sink has them.
    async fn take(&self, access: &Access, batch: &Batch, headers: &HeaderMap, body: Body) -> Result<u64, Problem> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = length.ok_or_else(|| Problem::request("a batch has to say its length"))?;
        if length > MAX_BATCH {
            return Err(Problem::request(format!("a batch has {MAX_BATCH} bytes at most")));
        }
        let kibibytes = u32::try_from(length / 1024 + 1).unwrap_or(u32::MAX).min(AUDIT_MEMORY);
        let received = async {
            let memory = self.audit_memory.acquire_many(kibibytes).await;
            let memory = memory.map_err(|error| Problem::later(error.to_string()))?;
            let body = axum::body::to_bytes(body, length).await;
            Ok::<_, Problem>((memory, body.map_err(|error| Problem::request(error.to_string()))?))
        };
        let received = tokio::time::timeout(AUDIT_PATIENCE, received).await;
        let (_memory, body) = received.map_err(|_| Problem::later("the batch did not come in in time"))??;

        let seen = self.streams.seen(access, &batch.stream);
        let taken = intake::take(batch, &body, seen, access, jiff::Timestamp::now());
        drop(body);
        if taken.missing > 0 {
            let (namespace, who) = (&access.bearer.namespace, access.bearer.who());
            tracing::warn!(namespace, who, missing = taken.missing, "events of the audit never came");
            self.metrics.audit_missing.inc_by(taken.missing);
        }
        let lines = Arc::new(taken.lines);
        if !lines.is_empty() {
            self.sink.keep(Arc::clone(&lines)).await.map_err(|error| {
                self.metrics.audit_failures.inc();
                tracing::error!(%error, "the audit can't be kept");
                Problem::later("the audit can't be kept right now")
            })?;
        }
        for event in &*lines {
            (self.tell)(Fact::Audited { event });
        }
        self.metrics.audit_events.inc_by(taken.events);
        self.streams.kept(access, &batch.stream, taken.last);
        Ok(taken.last)
    }
}

fn unreadable(namespace: &str, name: &str, error: SecretError) -> Problem {
    // The policy's own status tells its author what to do about it.
    Problem::later(format!("secret {namespace}/{name} can't be read: {error}"))
}

fn not_listed() -> Problem {
    Problem::grant(
        "the token is of an issuer that is neither this cluster nor on the list of issuers, which are compared exactly, a / \
         at the end too",
    )
}

/// What a token proves.
struct Believed {
    bearer: Bearer,
    /// The identity, where the token alone proves that.
    identity: Option<String>,
    /// When the token ends.
    expires: u64,
}

/// Counts what is under way for as long as it is.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a lease hangs on, as it changes.
struct Changes {
    objects: broadcast::Receiver<Change>,
    secrets: broadcast::Receiver<crate::objects::Key>,
    bundle: watch::Receiver<Option<String>>,
}

impl Changes {
    /// Returns at the next change that may matter to a lease; at one that may have been missed too.
    async fn of(&mut self, access: &Access) {
        loop {
            let matters = tokio::select! {
                change = self.objects.recv() => match change {
                    Ok(Change::Policy((namespace, name))) => {
                        namespace == access.bearer.namespace && name == access.policy
                    }
                    Ok(Change::Identity((namespace, _))) => namespace == access.bearer.namespace,
                    Ok(Change::Pod((namespace, name))) => {
                        namespace == access.bearer.namespace && access.bearer.pod().is_some_and(|pod| pod.pod == name)
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => true,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                },
                change = self.secrets.recv() => match change {
                    Ok((namespace, _)) => namespace == access.bearer.namespace,
                    Err(broadcast::error::RecvError::Lagged(_)) => true,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                },
                changed = self.bundle.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => std::future::pending().await,
                },
            };
            if matters {
                return;
            }
        }
    }
}
