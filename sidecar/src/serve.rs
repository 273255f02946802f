//! `run`: puts the parts together, serves until it is told to stop, and drains.
//!
//! The order matters: what can be wrong with files, secrets and addresses is found before anything is served; the
//! catalog is read and the policy bound to it before the first client is accepted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::BytesMut;
use postern_crds::lease::{Resource, Unbound};
use postern_crds::{CheckedIdentity, CheckedPolicy, Mode, ParameterRecording, Recording, StatementRecording};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Health};
use crate::audit::{Audit, AuditFull, SQLSTATE_AUDIT_FULL, SessionRefused, SessionStart, Subject};
use crate::catalog::connect::ToServer;
use crate::catalog::load::LoadError;
use crate::catalog::refresh::{CatalogKeeper, Connect, KeeperOptions};
use crate::client_env::{EnvFile, client_environment};
use crate::config::{FileOptions, LeaseOptions, ListenAddress, Origin, Run};
use crate::decide::bound::{BindProblem, BoundPolicy};
use crate::decide::settings::{self, SetDecision};
use crate::gate::Gate;
use crate::lease::{Ended, Grant, Leasing, Standing, Unsent};
use crate::listen::{self, Accepted, Listeners};
use crate::metrics::{Metrics, Reload};
use crate::policy_files::{self, Loaded, SecretValues, Secrets, Texts, Watch};
use crate::session::handshake::{self, Accept, Door, Ready, Terms};
use crate::session::{self, Decide as _, Drain, Shared, WindowBudget};
use crate::upstream::{Upstream, UpstreamConfig};
use crate::wire::backend::Fields;

/// How long sessions that were told to end now may take, before the process ends over them.
const LAST_CALL: Duration = Duration::from_secs(5);
/// How long the broker may take for the rest of the audit, at the end; what it doesn't take is printed.
const REST_OF_AUDIT: Duration = Duration::from_secs(4);
/// Most bind problems that the broker is told.
const MAX_REPORTED: usize = 100;

/// What serves clients.
struct Service {
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    health: Arc<Health>,
    door: Door,
    budget: Arc<WindowBudget>,
    login: Arc<ArcSwap<Login>>,
    subject: ArcSwap<Subject>,
    /// Set while no new sessions are served: what their clients are told.
    closed: ArcSwapOption<Fields>,
    drain: watch::Receiver<Drain>,
}

/// How to log in to the database; replaced when its secrets change.
struct Login {
    config: Arc<UpstreamConfig>,
    /// The keys of `hash` masks.
    settings: Vec<(String, String)>,
}

impl Login {
    fn new(policy: &CheckedPolicy, values: &SecretValues) -> Result<Self, policy_files::SecretError> {
        Ok(Self { config: Arc::new(values.upstream(&policy.database)?), settings: values.hash_settings() })
    }
}

/// How serving came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It was told to end.
    ToTheEnd,
    /// The policy is one for another database or role: this process is of no more use, and another one would be.
    UntilAnother,
}

/// What all of a sidecar uses from its start to its end.
struct Base {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    audit: Arc<Audit>,
    signals: Signals,
}

impl Base {
    /// Opens the audit and the admin port.
    async fn open(config: &Run, policy_name: &str, recording: Recording) -> anyhow::Result<Self> {
        let signals = Signals::new()?;
        let metrics = Metrics::new(policy_name).context("failed to set the metrics up")?;
        let audit = Audit::open(&config.audit, recording, Arc::clone(&metrics)).context("failed to open the audit")?;
        let health = Health::new();
        if let Some(address) = config.admin {
            let listener = admin::listen(address)
                .await
                .with_context(|| format!("failed to listen for the admin port {address}"))?;
            let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
            tokio::spawn(async move {
                if let Err(error) = admin::serve(listener, health, metrics).await {
                    tracing::error!(%error, "the admin port failed");
                }
            });
        }
        Ok(Self { metrics, health, audit, signals })
    }
}

/// What is served at first, and where changes of it come from.
struct Start {
    loaded: Loaded,
    values: SecretValues,
    subject: Subject,
    changes: Changes,
}

/// Where changes come from.
enum Changes {
    /// Files.
    Files(Box<FileChanges>),
    /// The lease.
    Lease(LeaseChanges),
}

struct FileChanges {
    watch: Watch,
    secrets: Secrets,
    /// What of the secrets was told to be wrong.
    trouble: Option<String>,
}

struct LeaseChanges {
    leasing: Leasing,
    standing: watch::Receiver<Standing>,
    /// The version of what is in force.
    version: String,
}

/// Serves until SIGTERM or SIGINT, and drains.
pub async fn run(config: Run) -> anyhow::Result<Served> {
    match config.origin.clone() {
        Origin::Files(options) => run_from_files(config, options).await,
        Origin::Lease(options) => run_leased(config, options).await,
    }
}

async fn run_from_files(config: Run, options: FileOptions) -> anyhow::Result<Served> {
    let FileOptions { sources, identity, secrets_dir } = options;
    let texts = Texts::read(&sources.paths)?;
    let loaded = Loaded::compile(&texts, &sources, &identity)?;
    let secrets = Secrets::new(secrets_dir);
    let values = secrets.read(&loaded.policy)?;
    let base = Base::open(&config, &policy_name(&loaded.policy), loaded.policy.recording).await?;
    let watch = Watch::new(sources, identity, texts);
    let changes = Changes::Files(Box::new(FileChanges { watch, secrets, trouble: None }));
    let audit = Arc::clone(&base.audit);
    let served = serve(&config, base, Start { loaded, values, subject: Subject::default(), changes }).await;
    audit.flush().await;
    served
}

async fn run_leased(config: Run, options: LeaseOptions) -> anyhow::Result<Served> {
    let Resource { namespace, name } = &options.resource;
    // Nothing is recorded before there is a policy, which says how.
    let recording = Recording { statements: StatementRecording::Fingerprint, parameters: ParameterRecording::None };
    let mut base = Base::open(&config, &format!("{namespace}/{name}"), recording).await?;
    let audit = Arc::clone(&base.audit);
    let (leasing, sender) = Leasing::start(&options, &base.metrics).context("no lease can be asked for")?;
    let (last_call, told) = tokio::sync::watch::channel(None);
    let sending = audit.outbox().map(|outbox| tokio::spawn(sender.run(outbox, told)));
    tracing::info!(broker = %options.broker, policy = %options.resource, version = env!("CARGO_PKG_VERSION"), "asking for a lease");

    let mut standing = leasing.subscribe();
    let first = tokio::select! {
        grant = first_grant(&mut standing) => Some(grant),
        _ = base.signals.stop() => None,
    };
    let served = match first {
        Some(grant) => {
            let Grant { loaded, values, subject, version } = &*grant;
            let changes = Changes::Lease(LeaseChanges { leasing, standing, version: version.clone() });
            let (loaded, values, subject) = (loaded.clone(), values.clone(), subject.clone());
            serve(&config, base, Start { loaded, values, subject, changes }).await
        }
        None => Ok(Served::ToTheEnd),
    };
    audit.flush().await;
    if matches!(served, Ok(Served::UntilAnother)) {
        // The spool is there for the next one, too.
        return served;
    }
    last_call.send_replace(Some(tokio::time::Instant::now() + REST_OF_AUDIT));
    if let Some(sending) = sending
        && let Ok(Unsent { printed, lost }) = sending.await
        && (printed, lost) != (0, 0)
    {
        tracing::warn!(printed, lost, "audit events that the broker did not take were printed");
    }
    served
}

async fn first_grant(standing: &mut watch::Receiver<Standing>) -> Arc<Grant> {
    loop {
        if let Standing::Held(grant) = &*standing.borrow_and_update() {
            return Arc::clone(grant);
        }
        if standing.changed().await.is_err() {
            // What asks for leases ends with the process only.
            std::future::pending().await
        }
    }
}

fn policy_name(policy: &CheckedPolicy) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}

fn identity_name(identity: &CheckedIdentity) -> String {
    format!("{}/{}", identity.namespace, identity.name)
}

/// Serves from the first policy on.
async fn serve(config: &Run, base: Base, start: Start) -> anyhow::Result<Served> {
    let Base { metrics, health, audit, mut signals } = base;
    let Start { loaded, values, subject, mut changes } = start;
    let login = Arc::new(ArcSwap::from_pointee(Login::new(&loaded.policy, &values)?));
    audit.record_as(loaded.policy.recording);
    health.serves(policy_name(&loaded.policy), identity_name(&loaded.identity), mode_word(loaded.policy.mode));
    let door = Door::new(client_tls(config)?, config.max_connections);
    let listeners = Listeners::bind(&config.listen).await.context("failed to listen for clients")?;
    let addresses = listeners.addresses().context("failed to listen for clients")?;
    say_what_starts(config, &loaded, &addresses);

    let connector = Connector { login: Arc::clone(&login), metrics: Arc::clone(&metrics), health: Arc::clone(&health) };
    let options = KeeperOptions { period: config.catalog_refresh, ..KeeperOptions::default() };
    let keeper = CatalogKeeper::start(connector, options);
    tokio::select! {
        _ = keeper.ready() => {}
        _ = signals.stop() => return Ok(Served::ToTheEnd),
        () = changes.replaced() => return Ok(Served::UntilAnother),
    }
    let gate =
        Gate::new(keeper.clone(), loaded.clone(), Arc::clone(&metrics), config.parse_memory, config.cache_memory);

    let (drain, draining) = watch::channel(Drain::Serving);
    let drain = Arc::new(drain);
    let service = Arc::new(Service {
        gate: Arc::clone(&gate),
        metrics: Arc::clone(&metrics),
        audit: Arc::clone(&audit),
        health: Arc::clone(&health),
        door,
        budget: Arc::default(),
        login: Arc::clone(&login),
        subject: ArcSwap::from_pointee(subject),
        closed: ArcSwapOption::empty(),
        drain: draining.clone(),
    });
    let upkeep = Upkeep {
        gate,
        keeper,
        metrics,
        health: Arc::clone(&health),
        audit: Arc::clone(&audit),
        login,
        service: Arc::clone(&service),
        drain: Arc::clone(&drain),
    };
    upkeep.report(&changes);
    let _env_file = say_how_to_connect(config, &loaded, &addresses)?;
    tokio::spawn(upkeep.run(loaded, values, changes));

    let (mut stopped, mut moved) = (draining.clone(), draining);
    let stop = async move {
        // An error means that the sender is gone, and so is the reason to serve.
        let _ = stopped.wait_for(|drain| matches!(drain, Drain::Draining | Drain::Now | Drain::Moved)).await;
    };
    let settling = Arc::clone(&audit);
    let before_sleep = move || settling.settle();
    let serving = listen::serve(listeners, config.workers, stop, before_sleep, move |accepted| {
        let service = Arc::clone(&service);
        async move { service.client(accepted).await }
    });
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended.context("failed to serve clients")?,
        _ = moved.wait_for(|drain| *drain == Drain::Moved) => {
            // What has not ended by then ends with the process.
            let _ = tokio::time::timeout(LAST_CALL, &mut serving).await;
            return Ok(Served::UntilAnother);
        }
        name = signals.stop() => {
            tracing::info!(signal = name, timeout = ?config.drain_timeout, "draining: no new sessions");
            health.draining();
            drain.send_replace(Drain::Draining);
            tokio::select! {
                ended = &mut serving => ended.context("failed to serve clients")?,
                () = last_call(config, &mut signals, &drain) => {
                    tracing::warn!("some sessions did not end in time");
                }
            }
        }
    }
    tracing::info!("ended");
    Ok(Served::ToTheEnd)
}

impl Changes {
    /// Returns when another policy has taken the place of the one that is not served yet.
    async fn replaced(&mut self) {
        let Changes::Lease(LeaseChanges { standing, version, .. }) = self else { return std::future::pending().await };
        let other = |standing: &Standing| matches!(standing, Standing::Held(grant) if grant.version != *version);
        if standing.wait_for(other).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits for what is told, where something is.
    async fn told(&mut self) -> Standing {
        let Changes::Lease(LeaseChanges { standing, .. }) = self else { return std::future::pending().await };
        match standing.changed().await {
            Ok(()) => standing.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Ends what runs when the time is over, or at a second signal; returns when not even that helped.
async fn last_call(config: &Run, signals: &mut Signals, drain: &watch::Sender<Drain>) {
    tokio::select! {
        () = tokio::time::sleep(config.drain_timeout) => tracing::warn!("ending sessions that still run"),
        _ = signals.stop() => tracing::warn!("a second signal: ending all sessions"),
    }
    drain.send_replace(Drain::Now);
    tokio::time::sleep(LAST_CALL).await;
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns when one came; its name.
    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Audit => "audit",
    }
}

fn client_tls(config: &Run) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
    let Some(files) = &config.tls else {
        return match config.origin {
            Origin::Files(_) => Ok(None),
            Origin::Lease(_) => Ok(Some(listen::own_tls()?)),
        };
    };
    let read =
        |path: &std::path::Path| std::fs::read(path).with_context(|| format!("failed to read {}", path.display()));
    let key = zeroize::Zeroizing::new(read(&files.key)?);
    Ok(Some(listen::client_tls(&read(&files.certificate)?, &key)?))
}

fn say_what_starts(config: &Run, loaded: &Loaded, addresses: &[ListenAddress]) {
    let Loaded { policy, identity } = loaded;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        policy = %format_args!("{}/{}", policy.namespace, policy.name),
        identity = %identity.name,
        role = %identity.postgres_role,
        database = %format_args!("{}:{}/{}", policy.database.host, policy.database.port, policy.database.name),
        tls = ?policy.database.tls,
        mode = mode_word(policy.mode),
        listen = %addresses.join(", "),
        admin = %config.admin.map_or_else(|| "none".to_owned(), |address| address.to_string()),
        audit = ?config.audit,
        workers = config.workers,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    if policy.mode == Mode::Audit {
        tracing::warn!(
            "THE POLICY'S MODE IS AUDIT: every statement passes and no value is masked; refusals are only recorded"
        );
    }
}

/// Gives the file that says so to programs, if there is to be one.
fn say_how_to_connect(
    config: &Run,
    Loaded { policy, identity }: &Loaded,
    addresses: &[ListenAddress],
) -> anyhow::Result<Option<EnvFile>> {
    let of = |address| client_environment(address, &policy.database.name, &identity.name);
    let Some(variables) = addresses.iter().find_map(of) else {
        anyhow::ensure!(config.env_file.is_none(), "--env-file needs an address that clients look for");
        return Ok(None);
    };
    let told: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    tracing::info!(environment = %told.join(" "), "clients can connect");
    let write = |path: &PathBuf| {
        EnvFile::write(path, &variables).with_context(|| format!("failed to write {}", path.display()))
    };
    config.env_file.as_ref().map(write).transpose()
}

fn say_what_is_bound(bound: &BoundPolicy) {
    for problem in &bound.problems {
        tracing::warn!(path = %problem.path, problem = %problem.message, "a part of the policy does not fit the database: what it names is closed");
    }
    tracing::info!(
        relations = bound.catalog.relations.values().filter(|relation| !relation.system).count(),
        guarded = bound.views.len(),
        problems = bound.problems.len(),
        "ready"
    );
}

/// Connects the catalog's keeper, with the credential that holds then.
struct Connector {
    login: Arc<ArcSwap<Login>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Connect for Connector {
    type Rows = Upstream;

    async fn connect(&self) -> Result<Upstream, LoadError> {
        let login = Arc::clone(&self.login);
        let connected = ToServer(move || Arc::clone(&login.load().config)).connect().await;
        self.metrics.upstream_reachable(connected.is_ok());
        self.health.upstream_reachable(connected.is_ok());
        connected
    }
}

impl Service {
    /// Serves one connection from its acceptance to its end.
    async fn client(&self, accepted: Accepted) {
        let Accepted { socket, peer, seat } = accepted;
        let mut bound = Arc::clone(&self.gate.bound());
        let mut decided = false;
        let terms = || {
            if let Some(fields) = self.closed.load_full() {
                return Err(Fields::clone(&fields));
            }
            // What is in force now, not when the connection came.
            bound = Arc::clone(&self.gate.bound());
            decided = true;
            Ok(self.terms(&bound))
        };
        let ready = match handshake::start(socket, &self.door, seat, terms).await {
            Ok(Some(ready)) => ready,
            Ok(None) => return,
            Err(error) => {
                self.metrics.session_refused();
                // Without a lease, or without a place, nothing was decided: that is no event of each client's.
                if let handshake::HandshakeError::Refused(fields) = &error
                    && decided
                {
                    self.audit.session_refused(&SessionRefused {
                        subject: &self.subject.load_full(),
                        identity: &identity_name(&bound.identity),
                        policy: &policy_name(&bound.policy),
                        client_address: &peer,
                        sqlstate: fields.code(),
                        error: fields.message(),
                    });
                }
                if let handshake::HandshakeError::Upstream(_) = &error {
                    self.metrics.upstream_reachable(false);
                    self.health.upstream_reachable(false);
                }
                tracing::info!(client = %peer, error = %error_chain(&error), "a connection was refused");
                return;
            }
        };
        self.metrics.upstream_reachable(true);
        self.health.upstream_reachable(true);
        self.session(ready, &peer, bound).await;
    }

    /// What a session starts under now.
    fn terms(&self, bound: &Arc<BoundPolicy>) -> Terms {
        let login = self.login.load();
        let (policy, identity) = (&bound.policy, &bound.identity);
        Terms {
            database: policy.database.name.clone(),
            role: identity.postgres_role.clone(),
            application_prefix: format!("postern/{}/{}/", identity.namespace, identity.name),
            statement_timeout: longest_statement(bound),
            settings: if bound.session_keys().is_empty() { Vec::new() } else { login.settings.clone() },
            judge: judge(Arc::clone(bound)),
            upstream: Arc::clone(&login.config),
        }
    }

    /// Serves a session that `bound` was in force for as it started.
    async fn session(&self, mut ready: Ready, peer: &str, bound: Arc<BoundPolicy>) {
        let _upstream_open = self.metrics.upstream_opened();
        let subject = self.subject.load_full();
        let start = SessionStart {
            subject: &subject,
            identity: &identity_name(&bound.identity),
            policy: &policy_name(&bound.policy),
            policy_version: bound.version,
            mode: mode_word(bound.policy.mode),
            client_address: peer,
            tls: ready.tls,
            application_name: &ready.application_name,
            protocol: &format!("{}.{}", ready.version >> 16, ready.version & 0xffff),
            database: &bound.policy.database.name,
            postgres_role: &bound.identity.postgres_role,
            settings: &ready.custom_settings,
        };
        let audit = match self.audit.session(&start).await {
            Ok(audit) => audit,
            Err(AuditFull) => {
                self.metrics.session_refused();
                let mut out = BytesMut::new();
                let message = "the audit log can't be written, so there is no session";
                Fields::new("FATAL", SQLSTATE_AUDIT_FULL, message).write_error(&mut out);
                // It is sent away whether it hears why or not.
                let _ = ready.client.write_all(&out).await;
                ready.upstream.close().await;
                return;
            }
        };
        let _session_open = self.metrics.session_opened();
        let id = audit.id().to_owned();
        tracing::debug!(session = %id, client = %peer, "a session started");
        let shared = Shared {
            gate: Arc::clone(&self.gate),
            metrics: Arc::clone(&self.metrics),
            budget: Arc::clone(&self.budget),
        };
        let keys = bound.session_keys();
        // A session may live for weeks; a binding has the whole catalog.
        drop(bound);
        let end = session::serve(ready, keys, audit, self.drain.clone(), shared).await;
        tracing::debug!(session = %id, reason = %end, "a session ended");
    }
}

/// Judges what a client's start-up packet sets, by what is in force when it comes.
fn judge(bound: Arc<BoundPolicy>) -> Box<handshake::Judge> {
    Box::new(move |name, value| {
        // In mode Audit nobody is turned away for what a rule could allow.
        let custom = |name: &str| bound.policy.mode == Mode::Audit || bound.setting(name);
        let context = settings::Context {
            custom: &custom,
            role: &bound.identity.postgres_role,
            row_filters: bound.row_filters,
            statement_timeout: longest_statement(&bound),
        };
        Ok(match settings::startup(&context, name, value)? {
            SetDecision::Pass | SetDecision::SearchPath(_) | SetDecision::ApplicationName(_) => Accept::Forward,
            SetDecision::Value(value) => Accept::Replace(value),
        })
    })
}

/// The longest that any statement of the identity may run: the least of its rules' limits.
fn longest_statement(bound: &BoundPolicy) -> Option<Duration> {
    bound.policy.rules_for(&bound.identity).filter_map(|rule| rule.limits.statement_timeout).min()
}

/// An error and what caused it, in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some write their cause into their own text.
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

/// Keeps what is served up to date: policy and identity, secrets, the catalog, and what probes and metrics say.
struct Upkeep {
    gate: Arc<Gate>,
    keeper: CatalogKeeper,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    audit: Arc<Audit>,
    login: Arc<ArcSwap<Login>>,
    service: Arc<Service>,
    drain: Arc<watch::Sender<Drain>>,
}

/// Why a changed policy can't be put in force.
enum Rejected {
    /// It needs another process.
    Moved(&'static str),
    /// It has mistakes.
    Mistake(String),
}

impl Upkeep {
    async fn run(self, mut loaded: Loaded, mut values: SecretValues, mut changes: Changes) {
        let mut ticks = tokio::time::interval(policy_files::LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hangups = signal(SignalKind::hangup()).ok();
        let mut catalogs = self.keeper.subscribe();
        let mut reported = self.gate.bound().version;
        if let Changes::Lease(lease) = &mut changes {
            // It may have changed since it was taken.
            lease.standing.mark_changed();
        }
        loop {
            tokio::select! {
                _ = ticks.tick() => if let Changes::Files(files) = &mut changes {
                    self.look_at(files, &mut loaded, &mut values);
                },
                // What somebody else changed holds for open sessions too, whether or not they ask for a name that is new.
                Ok(()) = catalogs.changed() => self.gate.follow_catalog(),
                Some(()) = hang_up(&mut hangups) => {
                    tracing::info!("SIGHUP: opening the audit log anew");
                    self.audit.reopen();
                    continue;
                }
                standing = changes.told() => if let Changes::Lease(lease) = &mut changes {
                    self.follow(standing, &mut lease.version, &mut loaded);
                },
            }
            if let Some(age) = self.keeper.status().age {
                self.health.catalog_age(age);
            }
            let bound = self.gate.bound();
            if bound.version != reported {
                reported = bound.version;
                self.report(&changes);
            }
        }
    }

    /// Follows the files.
    fn look_at(&self, files: &mut FileChanges, loaded: &mut Loaded, values: &mut SecretValues) {
        let FileChanges { watch, secrets, trouble } = files;
        if let Some(change) = watch.look() {
            let applied = change.and_then(|new| {
                let new_values = secrets.read(&new.policy).map_err(|error| error.to_string())?;
                match self.apply(loaded, &new, &new_values) {
                    Ok(()) => Ok((new, new_values)),
                    Err(Rejected::Moved(what)) => Err(format!("{what}: that needs a restart")),
                    Err(Rejected::Mistake(mistake)) => Err(mistake),
                }
            });
            match applied {
                Ok(new) => (*loaded, *values) = new,
                Err(mistake) => self.reject(mistake),
            }
        }
        match secrets.read(&loaded.policy) {
            Ok(now) if now == *values => *trouble = None,
            Ok(now) => match Login::new(&loaded.policy, &now) {
                Ok(login) => {
                    tracing::info!("secrets changed: new connections to the database use them");
                    self.login.store(Arc::new(login));
                    *values = now;
                    *trouble = None;
                }
                Err(error) => tell_once(trouble, &error),
            },
            Err(error) => tell_once(trouble, &error),
        }
    }

    /// Follows the lease.
    fn follow(&self, standing: Standing, version: &mut String, loaded: &mut Loaded) {
        match standing {
            Standing::None => {}
            Standing::Held(grant) => {
                if grant.version != *version {
                    match self.apply(loaded, &grant.loaded, &grant.values) {
                        Ok(()) => *loaded = grant.loaded.clone(),
                        Err(Rejected::Moved(what)) => {
                            tracing::warn!(what, "all sessions end, and the sidecar starts again");
                            self.drain.send_replace(Drain::Moved);
                        }
                        Err(Rejected::Mistake(mistake)) => self.reject(mistake),
                    }
                    version.clone_from(&grant.version);
                }
                self.service.subject.store(Arc::new(grant.subject.clone()));
                self.health.unleased(None);
                self.service.closed.store(None);
                self.drain.send_if_modified(|drain| {
                    let closed = matches!(drain, Drain::Unleased(_));
                    if closed {
                        *drain = Drain::Serving;
                        tracing::info!("there is a lease again: new sessions are served");
                    }
                    closed
                });
            }
            Standing::Ended(ended, why) => {
                tracing::error!(%why, "the lease has ended: all sessions end, and no new ones are served");
                let fields = match ended {
                    Ended::Refused => {
                        Fields::new("FATAL", "28000", format!("there is no right to this database: {why}"))
                    }
                    Ended::Expired => Fields::new("FATAL", "57P03", format!("the sidecar's lease has expired: {why}")),
                };
                self.service.closed.store(Some(Arc::new(fields)));
                self.health.unleased(Some(why));
                self.drain.send_if_modified(|drain| {
                    let open = matches!(drain, Drain::Serving | Drain::Draining | Drain::Unleased(_));
                    if open {
                        *drain = Drain::Unleased(ended);
                    }
                    open
                });
            }
        }
    }

    /// Puts a changed policy in force.
    fn apply(&self, old: &Loaded, new: &Loaded, values: &SecretValues) -> Result<(), Rejected> {
        // Sessions that are open are at the old database, and run as the old role.
        let place = |loaded: &Loaded| {
            let database = &loaded.policy.database;
            (database.host.clone(), database.port, database.name.clone(), loaded.identity.postgres_role.clone())
        };
        if place(old) != place(new) {
            return Err(Rejected::Moved("the database or postgresRole is another one"));
        }
        if policy_name(&old.policy) != policy_name(&new.policy) {
            return Err(Rejected::Moved("the policy has another name"));
        }
        let login = Login::new(&new.policy, values).map_err(|error| Rejected::Mistake(error.to_string()))?;
        tracing::info!(mode = mode_word(new.policy.mode), "a changed policy or identity is in force");
        self.login.store(Arc::new(login));
        self.audit.record_as(new.policy.recording);
        self.gate.replace(new.clone());
        self.health.serves(policy_name(&new.policy), identity_name(&new.identity), mode_word(new.policy.mode));
        self.metrics.reloaded(Reload::Applied);
        self.health.rejected(None);
        Ok(())
    }

    fn reject(&self, mistake: String) {
        tracing::error!(%mistake, "a changed policy or identity was rejected; the last good one stays");
        self.metrics.reloaded(Reload::Rejected);
        self.health.rejected(Some(mistake));
    }

    /// Says what is bound now.
    fn report(&self, changes: &Changes) {
        let bound = self.gate.bound();
        say_what_is_bound(&bound);
        self.metrics.bound(bound.version, bound.problems.len());
        self.health.bound(bound.version, bound.catalog.version, &bound.problems);
        if let Some(age) = self.keeper.status().age {
            self.health.catalog_age(age);
        }
        if let Changes::Lease(lease) = changes {
            let problem =
                |problem: &BindProblem| Unbound { path: problem.path.clone(), message: problem.message.clone() };
            lease.leasing.bound(bound.problems.iter().take(MAX_REPORTED).map(problem).collect());
        }
    }
}

async fn hang_up(hangups: &mut Option<Signal>) -> Option<()> {
    match hangups {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

fn tell_once(told: &mut Option<String>, error: &policy_files::SecretError) {
    let error = error.to_string();
    if told.as_ref() != Some(&error) {
        tracing::error!(%error, "changed secrets can't be used; the last good ones stay");
        *told = Some(error);
    }
}
