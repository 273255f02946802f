//! A replica of the operator, from start to end. Read this first: it names the parts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use kube::client::ClientBuilder;
use postern_sidecar::admin::listen;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tower::util::MapResponseLayer;

use crate::admission::{self, Webhooks};
use crate::broker::{self, BrokerParts, Issuers, Keys, Sink};
use crate::certificates::{self, Served};
use crate::config::Config;
use crate::controllers::{self, Controllers};
use crate::events::{self, Events};
use crate::facts::Facts;
use crate::metrics::Metrics;
use crate::objects::{self, Objects};
use crate::roles::Roles;
use crate::secrets::Secrets;
use crate::server::{self, Bounds};
use crate::{admin, definitions, leader};

/// How long a replica that ends is still asked: until everybody knows that it is not ready.
const NOTICE: Duration = Duration::from_secs(5);
/// How long requests that are under way may go on after that.
const DRAIN: Duration = Duration::from_secs(10);

/// Connections of the API servers, which may all come by one proxy.
const WEBHOOK_BOUNDS: Bounds = Bounds { of_one: 256, of_all: 4096 };
/// Of sidecars, with a poll and an audit each; those of many pods may come by one address.
const BROKER_BOUNDS: Bounds = Bounds { of_one: 2560, of_all: 8192 };
/// Of probes and scrapers.
const ADMIN_BOUNDS: Bounds = Bounds { of_one: 32, of_all: 4096 };

/// Runs until SIGTERM.
pub async fn run(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Metrics::new()?;
    let client = client(&metrics).await.context("there is no cluster to work for: set KUBECONFIG, or run in a pod")?;
    let objects = Objects::new();
    let issuers = match &config.issuers {
        Some(file) => issuers(file).with_context(|| format!("--issuers {}", file.display()))?,
        None => Issuers::default(),
    };
    let served = |what: &str, others: &[String]| {
        let name = &config.name;
        Served::new(format!("{name}-{what}-ca"), &format!("{name}-{what}"), &config.namespace, others)
    };
    let webhook_server = served("webhook", config.webhook_host.as_slice());
    let broker_server = served("broker", &config.broker_hosts());
    let told = watch::Sender::new(false);
    let ending = watch::Sender::new(false);
    let keys = Keys::new();

    // The probes first: who looks on sees what is waited for.
    let readiness = admin::Readiness {
        objects: Arc::clone(&objects),
        broker_bundle: broker_server.bundle.subscribe(),
        keys: Arc::clone(&keys),
        webhooks_told: told.subscribe(),
        ending: ending.subscribe(),
    };
    let admin_listener = listen(config.admin_listen).await.context("admin port")?;
    let webhook_listener = listen(config.webhook_listen).await.context("webhooks' port")?;
    let broker_listener = listen(config.broker_listen).await.context("broker's port")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        webhooks = %config.webhook_listen,
        broker = %config.broker_listen,
        admin = %config.admin_listen,
        "starting"
    );
    let admin = admin::router(Arc::clone(&metrics), readiness);
    tokio::spawn(server::serve(admin_listener, None, admin, ADMIN_BOUNDS, std::future::pending()));

    let (events, told_events) = Events::new(Arc::clone(&metrics));
    tokio::spawn(events::write(client.clone(), config.pod_name.clone(), told_events, Arc::clone(&metrics)));
    let webhooks = Webhooks {
        objects: Arc::clone(&objects),
        sidecars: config.sidecars.clone(),
        broker_bundle: broker_server.bundle.subscribe(),
        events: events.clone(),
        metrics: Arc::clone(&metrics),
    };
    let webhooks = tokio::spawn(server::serve(
        webhook_listener,
        Some(Arc::clone(&webhook_server.certificate)),
        admission::router(Arc::new(webhooks)),
        WEBHOOK_BOUNDS,
        end(ending.subscribe()),
    ));

    let facts = Facts::new(Arc::clone(&objects), events.clone(), config.pod_name.clone());
    tokio::spawn(Arc::clone(&facts).write(client.clone()));
    let bases = broker_server.names.iter().map(|name| format!("https://{name}:8443"));
    let secrets = Secrets::new(client.clone());
    let roles = Roles::new(client.clone(), Arc::clone(&secrets), Arc::clone(&metrics));
    let broker = BrokerParts {
        client: client.clone(),
        objects: Arc::clone(&objects),
        secrets,
        roles: Arc::clone(&roles),
        keys: Arc::clone(&keys),
        issuers,
        bundle: broker_server.bundle.subscribe(),
        authorities: broker_server.known.subscribe(),
        bases: bases.chain([config.sidecars.broker.trim_end_matches('/').to_owned()]).collect(),
        external_bases: config.broker_external.clone(),
        verify_source: config.verify_source_address,
        sink: Sink::new(&config.audit_sink).context("--audit-sink")?,
        tell: Arc::new({
            let facts = Arc::clone(&facts);
            move |fact| facts.learn(&fact)
        }),
        metrics: Arc::clone(&metrics),
    };
    let broker = tokio::spawn(server::serve(
        broker_listener,
        Some(Arc::clone(&broker_server.certificate)),
        broker::router(broker),
        BROKER_BOUNDS,
        end(ending.subscribe()),
    ));

    let webhook_bundle = webhook_server.bundle.subscribe();
    tokio::spawn(certificates::keep(client.clone(), config.namespace.clone(), webhook_server, Arc::clone(&metrics)));
    tokio::spawn(certificates::keep(client.clone(), config.namespace.clone(), broker_server, Arc::clone(&metrics)));
    tokio::spawn(certificates::keep_webhooks(client.clone(), config.name.clone(), webhook_bundle, told));
    let keys_secret = format!("{}-broker-keys", config.name);
    tokio::spawn(keys.keep(client.clone(), config.namespace.clone(), keys_secret, config.sidecars.image.clone()));
    tokio::spawn(watch_objects(client.clone(), Arc::clone(&objects), Arc::clone(&metrics)));

    let leading = watch::Sender::new(false);
    let controllers = Controllers {
        client: client.clone(),
        objects: Arc::clone(&objects),
        account: (config.namespace.clone(), config.service_account.clone()),
        image: config.sidecars.image.clone(),
        restarts: config.restart_workloads,
        roles,
        events: events.clone(),
        metrics: Arc::clone(&metrics),
    };
    tokio::spawn(controllers::run(controllers, leading.subscribe()));
    let lead = tokio::spawn({
        let (client, ending) = (client.clone(), ending.subscribe());
        let (namespace, lease, me) =
            (config.namespace.clone(), format!("{}-leader", config.name), config.pod_name.clone());
        async move { leader::lead(client, &namespace, &lease, &me, leading, ending).await }
    });

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    ending.send_replace(true);
    _ = tokio::time::timeout(NOTICE + DRAIN, async { tokio::join!(webhooks, broker, lead) }).await;
    Ok(())
}

/// The issuers that a file lists.
fn issuers(file: &Path) -> Result<Issuers> {
    Ok(Issuers::read(&std::fs::read_to_string(file)?)?)
}

/// The client of the cluster, whose answers are counted.
async fn client(metrics: &Metrics) -> Result<Client> {
    let answers = metrics.api_answers.clone();
    let count = MapResponseLayer::new(move |response: axum::http::Response<_>| {
        answers.with_label_values(&[response.status().as_str()]).inc();
        response
    });
    Ok(ClientBuilder::try_from(kube::Config::infer().await?)?.with_layer(&count).build())
}

/// Puts the definitions into the cluster, and keeps what they define in sight.
async fn watch_objects(client: Client, objects: Arc<Objects>, metrics: Arc<Metrics>) {
    let mut pause = Duration::from_secs(1);
    while let Err(error) = definitions::apply(&client).await {
        tracing::warn!(
            error = format!("{:#}", anyhow::Error::new(error)),
            "the definitions are not in the cluster; it is tried again"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    let synced = async {
        objects.synced().await;
        metrics.synced.set(1);
        tracing::info!(
            policies = objects.policies().len(),
            identities = objects.identities().len(),
            pods = objects.pods().len(),
            "everything is known"
        );
    };
    tokio::join!(objects::watch(client, Arc::clone(&objects)), synced);
}

/// Holds until the replica ends, and who looks at its probes had time to see that.
async fn end(mut ending: watch::Receiver<bool>) {
    // An error means that nobody is left to say so: the process is at its end.
    _ = ending.wait_for(|ending| *ending).await;
    tokio::time::sleep(NOTICE).await;
}
