//! `run`: puts the parts together, serves until it is told to stop, and drains.
//!
//! The order matters: what can be wrong with files, secrets and addresses is found before anything is served; the
//! catalog is read and the policy bound to it before the first client is accepted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::BytesMut;
use postern_crds::{CheckedPolicy, Mode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Health};
use crate::audit::{Audit, AuditFull, SQLSTATE_AUDIT_FULL, SessionStart, Subject};
use crate::catalog::connect::ToServer;
use crate::catalog::load::LoadError;
use crate::catalog::refresh::{CatalogKeeper, Connect, KeeperOptions};
use crate::config::{ListenAddress, Run};
use crate::decide::bound::BoundPolicy;
use crate::decide::settings::{self, SetDecision};
use crate::gate::Gate;
use crate::listen::{self, Accepted, Listeners};
use crate::metrics::{Metrics, Reload};
use crate::policy_files::{self, Loaded, SecretValues, Secrets, Texts, Watch};
use crate::session::handshake::{self, Accept, Door, Ready, Terms};
use crate::session::{self, Decide as _, Drain, Shared, WindowBudget};
use crate::upstream::{Upstream, UpstreamConfig};
use crate::wire::backend::Fields;

/// How long sessions that were told to end now may take, before the process ends over them.
const LAST_CALL: Duration = Duration::from_secs(5);

/// What serves clients.
struct Service {
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    health: Arc<Health>,
    door: Door,
    budget: Arc<WindowBudget>,
    login: Arc<ArcSwap<Login>>,
    subject: Subject,
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

/// Serves until SIGTERM or SIGINT, and drains.
pub async fn run(config: Run) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let texts = Texts::read(&config.sources.paths)?;
    let loaded = Loaded::compile(&texts, &config.sources, &config.identity)?;
    let Loaded { policy, identity } = &loaded;
    let secrets = Secrets::new(config.secrets_dir.clone());
    let values = secrets.read(policy)?;
    let login = Arc::new(ArcSwap::from_pointee(Login::new(policy, &values)?));

    let policy_name = format!("{}/{}", policy.namespace, policy.name);
    let metrics = Metrics::new(&policy_name).context("failed to set the metrics up")?;
    let audit =
        Audit::open(&config.audit, policy.recording, Arc::clone(&metrics)).context("failed to open the audit")?;
    let health = Health::new();
    health.serves(policy_name, format!("{}/{}", identity.namespace, identity.name), mode_word(policy.mode));
    let door = Door::new(client_tls(&config)?, config.max_connections);
    let listeners = Listeners::bind(&config.listen).await.context("failed to listen for clients")?;
    let addresses = listeners.addresses().context("failed to listen for clients")?;
    if let Some(address) = config.admin {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to listen for the admin port {address}"))?;
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        tokio::spawn(async move {
            if let Err(error) = admin::serve(listener, health, metrics).await {
                tracing::error!(%error, "the admin port failed");
            }
        });
    }
    say_what_starts(&config, &loaded, &addresses);

    let connector = Connector { login: Arc::clone(&login), metrics: Arc::clone(&metrics), health: Arc::clone(&health) };
    let options = KeeperOptions { period: config.catalog_refresh, ..KeeperOptions::default() };
    let keeper = CatalogKeeper::start(connector, options);
    tokio::select! {
        _ = keeper.ready() => {}
        _ = signals.stop() => return Ok(()),
    }
    let gate =
        Gate::new(keeper.clone(), loaded.clone(), Arc::clone(&metrics), config.parse_memory, config.cache_memory);
    say_what_is_bound(&gate.bound());
    report_bound(&gate.bound(), &keeper, &metrics, &health);

    let (drain, draining) = watch::channel(Drain::Serving);
    let service = Arc::new(Service {
        gate: Arc::clone(&gate),
        metrics: Arc::clone(&metrics),
        audit: Arc::clone(&audit),
        health: Arc::clone(&health),
        door,
        budget: Arc::default(),
        login: Arc::clone(&login),
        subject: Subject::default(),
        drain: draining.clone(),
    });
    let upkeep = Upkeep {
        config: config.clone(),
        gate,
        keeper,
        metrics,
        health: Arc::clone(&health),
        audit: Arc::clone(&audit),
        login,
        secrets,
    };
    tokio::spawn(upkeep.run(loaded, texts, values));

    let mut stopped = draining;
    let stop = async move {
        // An error means that the sender is gone, and so is the reason to serve.
        let _ = stopped.wait_for(|drain| *drain != Drain::Serving).await;
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
        name = signals.stop() => {
            tracing::info!(signal = name, timeout = ?config.drain_timeout, "draining: no new sessions");
            health.draining();
            drain.send_replace(Drain::Draining);
            tokio::select! {
                ended = &mut serving => ended.context("failed to serve clients")?,
                () = last_call(&config, &mut signals, &drain) => {
                    tracing::warn!("some sessions did not end in time");
                }
            }
        }
    }
    audit.flush().await;
    tracing::info!("ended");
    Ok(())
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
    let Some(files) = &config.tls else { return Ok(None) };
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

fn report_bound(bound: &BoundPolicy, keeper: &CatalogKeeper, metrics: &Metrics, health: &Health) {
    metrics.bound(bound.version, bound.problems.len());
    health.bound(bound.version, bound.catalog.version, &bound.problems);
    if let Some(age) = keeper.status().age {
        health.catalog_age(age);
    }
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
        let terms = || {
            // What is in force now, not when the connection came.
            bound = Arc::clone(&self.gate.bound());
            Ok(self.terms(&bound))
        };
        let ready = match handshake::start(socket, &self.door, seat, terms).await {
            Ok(Some(ready)) => ready,
            Ok(None) => return,
            Err(error) => {
                self.metrics.session_refused();
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
        let start = SessionStart {
            subject: &self.subject,
            identity: &format!("{}/{}", bound.identity.namespace, bound.identity.name),
            policy: &format!("{}/{}", bound.policy.namespace, bound.policy.name),
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
fn error_chain(error: &dyn std::error::Error) -> String {
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

/// Keeps what is served up to date: policy and identity files, secrets, the catalog, and what probes and metrics say.
struct Upkeep {
    config: Run,
    gate: Arc<Gate>,
    keeper: CatalogKeeper,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    audit: Arc<Audit>,
    login: Arc<ArcSwap<Login>>,
    secrets: Secrets,
}

impl Upkeep {
    async fn run(self, mut loaded: Loaded, texts: Texts, mut values: SecretValues) {
        let mut watch = Watch::new(self.config.sources.clone(), self.config.identity.clone(), texts);
        let mut ticks = tokio::time::interval(policy_files::LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hangups = signal(SignalKind::hangup()).ok();
        let mut catalogs = self.keeper.subscribe();
        let mut reported = self.gate.bound().version;
        let mut secret_trouble = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // What somebody else changed holds for open sessions too, whether or not they ask for a name that is new.
                Ok(()) = catalogs.changed() => self.gate.follow_catalog(),
                Some(()) = hang_up(&mut hangups) => {
                    tracing::info!("SIGHUP: opening the audit log anew");
                    self.audit.reopen();
                    continue;
                }
            }
            if let Some(change) = watch.look() {
                match change.and_then(|new| self.apply(&loaded, new)) {
                    Ok((new, new_values)) => {
                        (loaded, values) = (new, new_values);
                        self.metrics.reloaded(Reload::Applied);
                        self.health.rejected(None);
                    }
                    Err(mistake) => {
                        tracing::error!(%mistake, "a changed policy or identity was rejected; the last good one stays");
                        self.metrics.reloaded(Reload::Rejected);
                        self.health.rejected(Some(mistake));
                    }
                }
            }
            match self.secrets.read(&loaded.policy) {
                Ok(now) if now == values => secret_trouble = None,
                Ok(now) => match Login::new(&loaded.policy, &now) {
                    Ok(login) => {
                        tracing::info!("secrets changed: new connections to the database use them");
                        self.login.store(Arc::new(login));
                        values = now;
                        secret_trouble = None;
                    }
                    Err(error) => tell_once(&mut secret_trouble, &error),
                },
                Err(error) => tell_once(&mut secret_trouble, &error),
            }
            if let Some(age) = self.keeper.status().age {
                self.health.catalog_age(age);
            }
            let bound = self.gate.bound();
            if bound.version != reported {
                reported = bound.version;
                say_what_is_bound(&bound);
                report_bound(&bound, &self.keeper, &self.metrics, &self.health);
            }
        }
    }

    /// Puts a changed policy in force.
    fn apply(&self, old: &Loaded, new: Loaded) -> Result<(Loaded, SecretValues), String> {
        // Sessions that are open are at the old database, and run as the old role.
        let place = |loaded: &Loaded| {
            let database = &loaded.policy.database;
            (database.host.clone(), database.port, database.name.clone(), loaded.identity.postgres_role.clone())
        };
        if place(old) != place(&new) {
            return Err("the database or postgresRole is another one: that needs a restart".to_owned());
        }
        if (&old.policy.namespace, &old.policy.name) != (&new.policy.namespace, &new.policy.name) {
            return Err("the policy has another name: that needs a restart".to_owned());
        }
        let values = self.secrets.read(&new.policy).map_err(|error| error.to_string())?;
        let login = Login::new(&new.policy, &values).map_err(|error| error.to_string())?;
        tracing::info!(mode = mode_word(new.policy.mode), "a changed policy or identity is in force");
        self.login.store(Arc::new(login));
        self.audit.record_as(new.policy.recording);
        self.gate.replace(new.clone());
        let names = (
            format!("{}/{}", new.policy.namespace, new.policy.name),
            format!("{}/{}", new.identity.namespace, new.identity.name),
        );
        self.health.serves(names.0, names.1, mode_word(new.policy.mode));
        Ok((new, values))
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
