//! The lease: how a sidecar in a cluster comes by its policy, and by the right to serve.
//!
//! 1. The token that says who this is, the pod's or one of an issuer outside ([`subject`]), is exchanged for an access
//!    token that is bound to a [`proof::Key`] of this process.
//! 2. With that the lease is asked for, as a long poll: what changes at the broker is here within its round trip.
//! 3. At a third of the lease's life both are renewed.
//!
//! **Promise.** [`Standing::Held`] only while a lease holds: [`clock::state`] decides, by the end that the broker
//! gave, counted from before it was asked. A refusal ends it at once.
//! **Also.** A lease whose documents have mistakes, or which requires what this version doesn't know, does not take the
//! place of the one before, and does not prolong it.
//! **Not covered.** A broker that is away is asked again and again, without end: it is for probes to give up.

mod client;
mod clock;
mod password;
mod proof;
mod sender;
mod subject;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hyper::StatusCode;
use postern_crds::CheckedIdentity;
use postern_crds::lease::{
    ErrorCode, GRANT_TYPE, JWT_TYPE, LEASE_PATH, Lease, LeaseRequest, MAX_WAIT, Report, Resource, TOKEN_PATH,
    TokenResponse, Unbound,
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroizing;

pub use client::{BundleError, CallError};
pub use proof::KeyError;
pub use sender::{Sender, Unsent};

use crate::audit::Subject;
use crate::config::{LeaseOptions, TokenSource};
use crate::metrics::{Exchange, Metrics};
use crate::policy_files::{Leased, Loaded, OwnLogin, SecretValues, Secrets};
use client::{Broker, Call, Client};
use clock::{Contact, Held, State};
use password::Password;

/// How long the exchange may take: the broker asks the cluster about the token.
const EXCHANGE: Duration = Duration::from_secs(15);
/// How long an answer may take beyond what it was asked to wait.
const ANSWER: Duration = Duration::from_secs(5);

/// An access token, as all who need it share it.
type AccessToken = Arc<Zeroizing<String>>;

/// What a lease grants.
#[derive(Debug)]
pub struct Grant {
    /// What is in it; the same for the same content.
    pub version: String,
    /// Policy and identity.
    pub loaded: Loaded,
    /// The values of the secrets that the policy names.
    pub values: SecretValues,
    /// Who the pod is, as its token proved it.
    pub subject: Subject,
}

/// Why there is no lease any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// The broker refused.
    Refused,
    /// It could not be renewed in time.
    Expired,
}

/// How it stands with the lease.
#[derive(Clone, Debug)]
pub enum Standing {
    /// There was none yet.
    None,
    /// It holds.
    Held(Arc<Grant>),
    /// It has ended, with the reason for people.
    Ended(Ended, Arc<str>),
}

/// The lease of this process, kept by a task of its own.
#[derive(Debug)]
pub struct Leasing {
    standing: watch::Receiver<Standing>,
    unbound: Arc<ArcSwapOption<Vec<Unbound>>>,
}

/// Why no lease can even be asked for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No trust.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No password.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] rand::rand_core::OsError),
}

impl Leasing {
    /// Starts to ask for one. Also gives what sends the audit, by the same token.
    pub fn start(options: &LeaseOptions, metrics: &Arc<Metrics>) -> Result<(Leasing, Sender), StartError> {
        let broker = Broker::new(options.broker.clone(), &options.roots, proof::Key::generate()?)?;
        let broker = Arc::new(broker);
        let (publish, standing) = watch::channel(Standing::None);
        let (token, current) = watch::channel(None);
        let unbound = Arc::new(ArcSwapOption::empty());
        let password = Password::generate()?;
        let asker = Asker {
            client: Client::new(Arc::clone(&broker)),
            resource: options.resource.clone(),
            subject: options.token.clone(),
            token: None,
            publish: token,
            seen: None,
            verifier: password.verifier,
            metrics: Arc::clone(metrics),
        };
        let keeper = Keeper::new(options.resource.clone(), password.text, publish, Arc::clone(metrics));
        let report = Reporter { unbound: Arc::clone(&unbound), metrics: Arc::clone(metrics) };
        tokio::spawn(keep(asker, keeper, report));
        Ok((Leasing { standing, unbound }, Sender::new(Client::new(broker), current, Arc::clone(metrics))))
    }

    /// Follows how it stands.
    pub fn subscribe(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// What of the policy does not bind, for the next report.
    pub fn bound(&self, problems: Vec<Unbound>) {
        self.unbound.store(Some(Arc::new(problems)));
    }
}

/// What the broker is told of this sidecar.
struct Reporter {
    unbound: Arc<ArcSwapOption<Vec<Unbound>>>,
    metrics: Arc<Metrics>,
}

impl Reporter {
    fn report(&self, unusable: Option<String>) -> Report {
        Report {
            unusable,
            sidecar: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: self.metrics.open_sessions(),
            unbound: self.unbound.load().as_deref().cloned(),
        }
    }
}

/// Asks for as long as the process lives.
async fn keep(mut asker: Asker, mut keeper: Keeper, reporter: Reporter) {
    let mut failures = 0_u32;
    loop {
        let answered = {
            let mut asking = pin!(asker.ask(reporter.report(keeper.unusable.clone())));
            loop {
                tokio::select! {
                    answered = &mut asking => break answered,
                    // A lease ends on time, also while an answer is awaited.
                    () = keeper.changes() => keeper.look(),
                }
            }
        };
        let failed = answered.is_err();
        keeper.heard(answered);
        failures = if failed { failures.saturating_add(1) } else { 0 };
        if failed {
            let mut pause = pin!(sleep(clock::pause(failures, rand::random())));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = keeper.changes() => keeper.look(),
                }
            }
        }
    }
}

/// Asks the broker: exchanges when it must, and polls.
struct Asker {
    client: Client,
    resource: Resource,
    subject: TokenSource,
    token: Option<Token>,
    /// The audit is sent by the same token.
    publish: watch::Sender<Option<AccessToken>>,
    /// The version of the last lease, whether or not it could be used.
    seen: Option<String>,
    /// Of this process' password.
    verifier: String,
    metrics: Arc<Metrics>,
}

struct Token {
    text: AccessToken,
    until: Instant,
    renew: Instant,
    /// Renewals that failed in a row.
    failures: u32,
}

/// A lease as it came, and when it was asked for: its life counts from there.
struct Answer {
    lease: Box<Lease>,
    asked: Instant,
}

impl Asker {
    /// The lease, if there is another one or it was renewed.
    async fn ask(&mut self, report: Report) -> Result<Option<Answer>, CallError> {
        let result = self.ask_with_token(report).await;
        if matches!(result, Err(CallError::Answered(code, _)) if code != ErrorCode::TemporarilyUnavailable && code != ErrorCode::SlowDown)
        {
            // Whatever is wrong with it, another one is got.
            self.token = None;
        }
        result
    }

    async fn ask_with_token(&mut self, report: Report) -> Result<Option<Answer>, CallError> {
        self.refresh().await?;
        let Some(token) = &self.token else { return Err(CallError::Own("there is no token".to_owned())) };
        let asked = Instant::now();
        let until_renewal = token.renew.saturating_duration_since(asked).as_secs();
        let wait = if self.seen.is_none() { 0 } else { until_renewal.clamp(1, MAX_WAIT) };
        let request = LeaseRequest { version: self.seen.clone(), wait, verifier: Some(self.verifier.clone()), report };
        let body = serde_json::to_vec(&request).map_err(|error| CallError::Own(error.to_string()))?;
        let call = Call {
            path: LEASE_PATH,
            query: "",
            content_type: "application/json",
            body: Bytes::from(body),
            token: Some(&token.text),
            patience: Duration::from_secs(wait) + ANSWER,
        };
        let (status, body) = self.client.post(&call).await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let lease: Box<Lease> = read(&body)?;
        self.seen = Some(lease.version.clone());
        if let Some(token) = &mut self.token {
            token.renew =
                token.renew.min(asked + clock::renewal(Duration::from_secs(lease.expires_in), rand::random()));
        }
        if let Err(error) = self.client.broker().trust(&lease.broker_ca) {
            tracing::error!(%error, "the lease's CA bundle was rejected; the last good one stays");
        }
        Ok(Some(Answer { lease, asked }))
    }

    /// Sees to it that there is a token, and that its time isn't up.
    async fn refresh(&mut self) -> Result<(), CallError> {
        let now = Instant::now();
        if self.token.as_ref().is_some_and(|token| now < token.renew) {
            return Ok(());
        }
        let exchanged = self.exchange().await;
        self.metrics.exchanged(match &exchanged {
            Ok(_) => Exchange::Granted,
            Err(error) if error.is_refusal() => Exchange::Refused,
            Err(error) if error.is_outage() => Exchange::Unreachable,
            Err(_) => Exchange::Failed,
        });
        match (exchanged, &mut self.token) {
            (Ok(token), _) => {
                self.publish.send_replace(Some(Arc::clone(&token.text)));
                self.token = Some(token);
                // Asks for the whole lease: its new end stands in it.
                self.seen = None;
                Ok(())
            }
            // The old one is good for a while: changes are heard meanwhile, and the renewal is tried again.
            (Err(error), Some(token)) if !error.is_refusal() && now < token.until => {
                token.failures = token.failures.saturating_add(1);
                token.renew = now + clock::pause(token.failures, rand::random());
                tracing::warn!(%error, "the lease could not be renewed yet");
                Ok(())
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn exchange(&mut self) -> Result<Token, CallError> {
        let subject = subject::token(&self.subject).await.map_err(|error| CallError::Own(error.to_string()))?;
        let form = [
            ("grant_type", GRANT_TYPE),
            ("subject_token_type", JWT_TYPE),
            ("subject_token", subject.as_str()),
            ("resource", &self.resource.to_string()),
        ];
        let asked = Instant::now();
        let call = Call {
            path: TOKEN_PATH,
            query: "",
            content_type: "application/x-www-form-urlencoded",
            body: Bytes::from(form_body(&form)),
            token: None,
            patience: EXCHANGE,
        };
        let (_, body) = self.client.post(&call).await?;
        let TokenResponse { access_token, expires_in, .. } = read(&body)?;
        let life = Duration::from_secs(expires_in);
        Ok(Token {
            text: Arc::new(Zeroizing::new(access_token)),
            until: asked + life,
            renew: asked + clock::renewal(life, rand::random()),
            failures: 0,
        })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    // What failed is told by place and kind: the body has secrets in it.
    let told = |error: serde_json::Error| {
        CallError::Unreadable(format!(
            "{:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ))
    };
    serde_json::from_slice(body).map_err(told)
}

/// `application/x-www-form-urlencoded`.
fn form_body(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                body.push(char::from(byte));
            } else {
                body.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    body
}

/// Says how it stands with the lease.
struct Keeper {
    resource: Resource,
    /// The password of a role that is made for this sidecar.
    password: Zeroizing<String>,
    held: Option<Held>,
    contact: Contact,
    /// Why the last attempt failed, for people.
    why: Arc<str>,
    grant: Option<Arc<Grant>>,
    /// Why the newest lease can't be used.
    unusable: Option<String>,
    publish: watch::Sender<Standing>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    fn new(
        resource: Resource,
        password: Zeroizing<String>,
        publish: watch::Sender<Standing>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let why = "no broker was reached yet".into();
        let (held, contact) = (None, Contact::Away);
        Self { resource, password, held, contact, why, grant: None, unusable: None, publish, metrics }
    }

    /// Returns when the time alone has changed how it stands.
    async fn changes(&self) {
        let now = Instant::now();
        match clock::state(self.held, self.contact, now) {
            (State::Serving | State::Grace, Some(at)) => sleep_until(at).await,
            // Told already: it has ended, or there was none.
            _ => std::future::pending().await,
        }
    }

    fn heard(&mut self, answered: Result<Option<Answer>, CallError>) {
        match answered {
            Ok(Some(answer)) => {
                self.contact = Contact::Reached;
                self.why = "the broker did not renew it".into();
                self.take(answer);
            }
            Ok(None) => self.contact = Contact::Reached,
            Err(error) => {
                let contact = if error.is_refusal() {
                    Contact::Refused
                } else if error.is_outage() {
                    Contact::Away
                } else {
                    Contact::Reached
                };
                let why: Arc<str> = error.to_string().into();
                // A broker that is away doesn't take a refusal back.
                if self.contact != Contact::Refused || contact == Contact::Refused {
                    self.contact = contact;
                }
                if self.why != why {
                    tracing::warn!(%why, "no lease could be got; trying again");
                    self.why = why;
                }
            }
        }
        self.look();
    }

    fn take(&mut self, Answer { lease, asked }: Answer) {
        let held = Held {
            until: asked + Duration::from_secs(lease.expires_in),
            grace: Duration::from_secs(lease.outage_grace),
        };
        self.unusable = None;
        if self.grant.as_ref().is_some_and(|grant| grant.version == lease.version) {
            self.held = Some(held);
            return;
        }
        let version = lease.version.clone();
        match Grant::new(*lease, &self.resource, &self.password) {
            Ok(grant) => {
                tracing::info!(%version, life = ?held.until.saturating_duration_since(asked), "a lease was granted");
                self.held = Some(held);
                self.grant = Some(Arc::new(grant));
            }
            Err(mistake) => {
                tracing::error!(%version, %mistake, "a lease can't be used; the one before stays until it ends");
                self.why = mistake.as_str().into();
                self.unusable = Some(mistake);
            }
        }
    }

    /// Publishes how it stands now, if that is new.
    fn look(&mut self) {
        let (state, until) = clock::state(self.held, self.contact, Instant::now());
        self.metrics.lease_until(until.map(Instant::into_std));
        let now = match (state, &self.grant) {
            (State::Serving | State::Grace, Some(grant)) => Standing::Held(Arc::clone(grant)),
            (State::Refused, _) => Standing::Ended(Ended::Refused, Arc::clone(&self.why)),
            (State::Expired, _) => Standing::Ended(Ended::Expired, Arc::clone(&self.why)),
            (State::None | State::Serving | State::Grace, _) => return,
        };
        self.publish.send_if_modified(|published| {
            let same = match (&*published, &now) {
                (Standing::Held(old), Standing::Held(new)) => Arc::ptr_eq(old, new),
                (Standing::Ended(old, _), Standing::Ended(new, _)) => old == new,
                _ => false,
            };
            if !same {
                *published = now;
            }
            !same
        });
    }
}

impl Grant {
    /// What a lease grants, if this version understands all of it and it is the one that was asked for.
    fn new(lease: Lease, resource: &Resource, password: &Zeroizing<String>) -> Result<Self, String> {
        let unknown = lease.unknown_features();
        if !unknown.is_empty() {
            return Err(format!(
                "it requires what this version of the sidecar doesn't know: {}; a newer image is needed",
                unknown.join(", ")
            ));
        }
        let Lease { version, policy, identity, secrets, role, subject, .. } = lease;
        let mut loaded = Loaded::from_documents(policy, identity)?;
        let named = |policy: &postern_crds::CheckedPolicy| (policy.namespace.clone(), policy.name.clone());
        if named(&loaded.policy) != (resource.namespace.clone(), resource.name.clone()) {
            return Err(format!("it is for another policy than {resource}"));
        }
        // Without a role that it is a member of, the one that was made is the one that sessions run as.
        let own = loaded.policy.database.credentials.ephemeral().is_some_and(|role| role.member_of.is_none());
        if let Some(role) = role.as_ref().filter(|_| own) {
            loaded.identity =
                Arc::new(CheckedIdentity { postgres_role: role.clone(), ..CheckedIdentity::clone(&loaded.identity) });
        }
        let login = role.map(|role| OwnLogin { role, password: password.clone() });
        let values = Secrets::Leased(Leased { entries: secrets, login })
            .read(&loaded.policy)
            .map_err(|error| error.to_string())?;
        values.upstream(&loaded.policy.database).map_err(|error| error.to_string())?;
        let subject = Subject {
            issuer: Some(subject.issuer),
            subject: Some(subject.subject),
            token_id: subject.token_id,
            namespace: Some(subject.namespace),
            pod: subject.pod,
            node: subject.node,
            owner: subject.owner,
            claims: subject.claims,
        };
        Ok(Self { version, loaded, values, subject })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use postern_crds::lease::{FEATURES, LeaseSubject, SecretEntry};
    use serde_json::json;

    use super::*;

    /// A keeper that asked for `shop/orders`, and what it publishes.
    fn keeper() -> (Keeper, watch::Receiver<Standing>) {
        let (publish, standing) = watch::channel(Standing::None);
        let resource = "postern:shop/orders".parse().unwrap();
        let password = Zeroizing::new("made here".to_owned());
        (Keeper::new(resource, password, publish, Metrics::new("shop/orders").unwrap()), standing)
    }

    fn lease(version: &str) -> Lease {
        let database = json!({
            "host": "pg", "name": "shop", "tls": {"mode": "Disable"}, "credentials": {"secret": {"name": "db"}},
        });
        let document = |kind: &str, name: &str, spec| {
            let metadata = json!({"namespace": "shop", "name": name});
            json!({"apiVersion": "postern.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
        };
        let secret =
            |key: &str| SecretEntry { secret: "db".into(), key: key.into(), value: Zeroizing::new(b"value".to_vec()) };
        let rule =
            json!({"name": "r", "to": {"identities": ["report"]}, "allow": ["Select"], "relations": ["public.t"]});
        Lease {
            id: "l".into(),
            version: version.into(),
            requires: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            expires_in: 60,
            outage_grace: 0,
            policy: document("DatabaseAccessPolicy", "orders", json!({"database": database, "rules": [rule]})),
            identity: document(
                "NonHumanIdentity",
                "report",
                json!({"subjects": [{"serviceAccount": {"name": "report"}}], "postgresRole": "reporting"}),
            ),
            secrets: vec![secret("username"), secret("password")],
            role: None,
            subject: LeaseSubject::default(),
            broker_ca: String::new(),
        }
    }

    fn answer(lease: Lease) -> Result<Option<Answer>, CallError> {
        Ok(Some(Answer { lease: Box::new(lease), asked: Instant::now() }))
    }

    fn held(standing: &watch::Receiver<Standing>) -> Option<String> {
        match &*standing.borrow() {
            Standing::Held(grant) => Some(grant.version.clone()),
            Standing::None | Standing::Ended(..) => None,
        }
    }

    #[test]
    fn a_lease_that_can_not_be_used_neither_replaces_nor_prolongs_the_one_before() {
        let (mut keeper, standing) = keeper();
        keeper.heard(answer(lease("1")));
        assert_eq!(held(&standing).as_deref(), Some("1"));
        let until = keeper.held;

        let mut newer = lease("2");
        newer.requires.push("time-travel/v2".into());
        let mut strange = lease("3");
        strange.policy.pointer_mut("/spec").unwrap()["powers"] = json!("all");
        let mut without_password = lease("4");
        without_password.secrets.pop();
        let mut of_another = lease("5");
        of_another.policy["metadata"]["name"] = json!("ledger");
        for (lease, why) in [
            (newer, "time-travel/v2"),
            (strange, "powers"),
            (without_password, "key 'password' of secret 'db'"),
            (of_another, "another policy than postern:shop/orders"),
        ] {
            keeper.heard(answer(lease));
            assert_eq!((held(&standing).as_deref(), keeper.held), (Some("1"), until), "{why}");
            assert!(keeper.why.contains(why), "{}", keeper.why);
            assert!(keeper.unusable.as_deref().is_some_and(|unusable| unusable.contains(why)), "the operator is told");
        }

        keeper.heard(answer(Lease { expires_in: 600, ..lease("1") }));
        assert!(keeper.held.map(|held| held.until) > until.map(|held| held.until));
        assert_eq!(keeper.unusable, None);
        keeper.heard(answer(lease("6")));
        assert_eq!(held(&standing).as_deref(), Some("6"));
    }

    #[test]
    fn leases_of_other_versions_are_served_under_unless_they_require_what_this_one_does_not_know() {
        let (mut keeper, standing) = keeper();
        let recorded = |text: &str| serde_json::from_str::<Lease>(text).unwrap();
        let older = recorded(include_str!("../../crds/recorded/lease-0.1.0.json"));
        let newer = recorded(include_str!("../../crds/recorded/lease-next.json"));
        for (number, lease) in [older, newer.clone()].into_iter().enumerate() {
            let version = format!("recorded {number}");
            keeper.heard(answer(Lease { version: version.clone(), ..lease }));
            assert_eq!((held(&standing), keeper.unusable.as_deref()), (Some(version), None));
        }
        // A field of a policy that this version does not know may be what keeps rows or columns back.
        let mut strange = newer.clone();
        strange.policy.pointer_mut("/spec").unwrap()["rowsOfTomorrow"] = json!("none");
        let requiring = Lease { requires: vec!["documents/v1alpha1".into(), "time-travel/v2".into()], ..newer };
        for (lease, why) in [(strange, "rowsOfTomorrow"), (requiring, "time-travel/v2")] {
            keeper.heard(answer(Lease { version: "too new".into(), ..lease }));
            assert_eq!(held(&standing).as_deref(), Some("recorded 1"), "the last one that can be used stays");
            assert!(keeper.unusable.as_deref().is_some_and(|said| said.contains(why)), "{:?}", keeper.unusable);
        }
    }

    #[test]
    fn a_refusal_ends_a_lease_at_once_and_a_broker_that_is_away_does_not_take_it_back() {
        let (mut keeper, standing) = keeper();
        let refused = || Err(CallError::Answered(ErrorCode::UnauthorizedClient, "no identity is the pod's".into()));
        let away = || Err(CallError::Away("no route".into()));
        keeper.heard(answer(Lease { outage_grace: 600, ..lease("1") }));
        keeper.heard(away());
        keeper.heard(Err(CallError::Answered(ErrorCode::SlowDown, String::new())));
        assert_eq!(held(&standing).as_deref(), Some("1"));

        keeper.heard(refused());
        keeper.heard(away());
        keeper.look();
        let Standing::Ended(Ended::Refused, why) = &*standing.borrow() else { panic!("not refused") };
        assert!(why.contains("no identity is the pod's"), "{why}");
    }

    #[test]
    fn a_role_that_was_made_for_the_sidecar_is_who_logs_in_and_who_sessions_run_as() {
        let (mut keeper, standing) = keeper();
        let mut made = lease("1");
        made.role = Some("postern_1".into());
        made.secrets.clear();
        let credentials = |role: serde_json::Value| json!({"ephemeralRole": role});
        made.policy["spec"]["database"]["credentials"] = credentials(json!({"adminSecret": {"name": "admin"}}));
        keeper.heard(answer(made.clone()));
        let role = |standing: &watch::Receiver<Standing>| match &*standing.borrow() {
            Standing::Held(grant) => grant.loaded.identity.postgres_role.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(role(&standing), "postern_1");

        let member = json!({"adminSecret": {"name": "admin"}, "memberOf": "reporting"});
        made.policy["spec"]["database"]["credentials"] = credentials(member);
        made.version = "2".into();
        keeper.heard(answer(made.clone()));
        assert_eq!(role(&standing), "reporting", "what it makes belongs to the role that it is a member of");

        (made.version, made.role) = ("3".into(), None);
        keeper.heard(answer(made));
        assert_eq!(held(&standing).as_deref(), Some("2"), "without a role there is nobody to log in as");
    }

    #[test]
    fn a_lease_after_a_refusal_is_served() {
        let (mut keeper, standing) = keeper();
        keeper.heard(answer(lease("1")));
        keeper.heard(Err(CallError::Answered(ErrorCode::InvalidTarget, String::new())));
        assert_eq!(held(&standing), None);
        keeper.heard(answer(lease("1")));
        assert_eq!(held(&standing).as_deref(), Some("1"));
    }

    #[test]
    fn a_form_has_no_character_that_means_something_in_it() {
        assert_eq!(
            form_body(&[("a", "x.y-z_~9"), ("resource", "postern:shop/orders &=")]),
            "a=x.y-z_~9&resource=postern%3Ashop%2Forders%20%26%3D"
        );
    }
}
