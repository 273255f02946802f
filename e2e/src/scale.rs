//! How large a cluster may be: the operator beside an API server without nodes, with very many policies, identities,
//! pods and sidecars. `make bench-cluster` measures, a test does the same with few.
//!
//! Everything is real but what runs in pods: the objects are there with the addresses that a node would have given them,
//! and in place of sidecars there are their clients, each with a key, a token and a connection from its pod's address.

mod figure;
mod http;
mod sidecar;
mod stand;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use figure::{Figure, Goal};

use crate::kubernetes::operator::Operator;
use figure::quantile;
use http::Client;
use sidecar::Sidecar;
use stand::{Ask, Counts, Stand, UNSEEN, until};

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Namespaces with policies and identities, beside that of the pods.
    pub namespaces: u32,
    /// Policies in all of them together.
    pub policies: u32,
    /// Identities likewise.
    pub identities: u32,
    /// Pods, each with a sidecar.
    pub sidecars: u32,
    /// How many pods are made a second.
    pub pods_per_second: u32,
    /// For how long memory and CPU are looked at.
    pub while_nothing_happens: Duration,
    /// For how long the audit is sent.
    pub audit: Duration,
}

impl Sizes {
    /// What `make bench-cluster` measures.
    pub const WHOLE: Self = Self {
        namespaces: 50,
        policies: 1000,
        identities: 5000,
        sidecars: 2000,
        pods_per_second: 50,
        while_nothing_happens: Duration::from_secs(30),
        audit: Duration::from_secs(10),
    };
    /// Just enough that all of it is run.
    pub const SMALL: Self = Self {
        namespaces: 2,
        policies: 4,
        identities: 10,
        sidecars: 6,
        pods_per_second: 20,
        while_nothing_happens: Duration::from_secs(1),
        audit: Duration::from_secs(1),
    };
}

/// Namespace of the pods.
const PODS: &str = "scale";
/// Events in a batch of the audit, and who sends at a time.
const BATCH: u64 = 500;
const SENDERS: usize = 32;
/// How often a policy is changed.
const CHANGES: usize = 5;
const MIB: f64 = (1 << 20) as f64;

/// Measures everything; None where the machine can't, which is said. `say` is told what is done.
pub fn measure(sizes: &Sizes, say: impl Fn(&str)) -> Result<Option<Vec<Figure>>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    say("an API server, and the operator with nothing to do");
    let Some(stand) = Stand::start()? else { return Ok(None) };
    let mut figures = Figures(Vec::new());
    idle(&stand, sizes, &mut figures)?;

    say("policies and identities that no operator has seen");
    runtime.block_on(definitions(&stand, sizes))?;
    say("the operator meets them");
    let operator = cold_start(&stand, &runtime, sizes, &mut figures)?;
    drop(operator);
    say("and starts again");
    let operator = second_pass(&stand, &runtime, sizes, &mut figures)?;

    say("pods are made");
    let pods = runtime.block_on(webhooks(&stand, &operator, sizes, &mut figures))?;
    say("all sidecars start at once");
    runtime.block_on(sidecars(&stand, &operator, &pods, sizes, &mut figures))?;
    Ok(Some(figures.0))
}

struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, section: &'static str, name: impl Into<String>, value: f64, unit: &'static str) {
        self.0.push(Figure { section, name: name.into(), unit, value, goal: None });
    }

    fn goal(&mut self, goal: Goal) {
        if let Some(last) = self.0.last_mut() {
            last.goal = Some(goal);
        }
    }
}

fn resident(operator: &Operator) -> Result<f64> {
    Ok(operator.process()?.resident()? as f64 / MIB)
}

fn counted(operator: &Operator) -> Result<Counts> {
    Ok(Counts::new(operator.admin("/metrics")?.1))
}

fn idle(stand: &Stand, sizes: &Sizes, figures: &mut Figures) -> Result<()> {
    let operator = Operator::start(&stand.server, "postern-0")?;
    std::thread::sleep(sizes.while_nothing_happens);
    figures.add(IDLE, "memory of the operator in an empty cluster", resident(&operator)?, "MiB");
    figures.goal(Goal::AtMost(40.0));
    Ok(())
}

const IDLE: &str = "Nothing to do";
const START: &str = "Start among definitions";
const WEBHOOK: &str = "Pods that are made";
const LEASES: &str = "Sidecars of one replica";
const AUDIT: &str = "Audit";

/// The namespace of the object with this number.
fn namespace(sizes: &Sizes, number: u32) -> String {
    format!("scale-{}", number % sizes.namespaces)
}

/// Policies and identities, made while the operator is away.
async fn definitions(stand: &Stand, sizes: &Sizes) -> Result<()> {
    let names = (0..sizes.namespaces).map(|number| namespace(sizes, number)).chain([PODS.to_owned()]);
    let (spaces, inside): (Vec<_>, Vec<_>) = names
        .filter_map(|name| <[Vec<Ask>; 2]>::try_from(Stand::namespace(&name)).ok())
        .map(|[space, inside]| (space, inside))
        .unzip();
    stand.all(spaces.concat()).await?;
    stand.all(inside.concat()).await?;
    let object = |kind: &str, plural: &str, namespace: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "labels": {UNSEEN: "true"}});
        let object = json!({"apiVersion": "postern.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        Ask::create(&format!("/apis/postern.dev/v1alpha1/namespaces/{namespace}/{plural}"), &object)
    };
    let policies = (0..sizes.policies).map(|number| {
        let name = format!("policy-{number}");
        object("DatabaseAccessPolicy", "databaseaccesspolicies", &namespace(sizes, number), &name, policy())
    });
    let identities = (0..sizes.identities).map(|number| {
        let name = format!("identity-{number}");
        let spec = identity(&name, number);
        object("NonHumanIdentity", "nonhumanidentities", &namespace(sizes, number), &name, spec)
    });
    let of_pods = [
        object("DatabaseAccessPolicy", "databaseaccesspolicies", PODS, "shop", policy()),
        object("NonHumanIdentity", "nonhumanidentities", PODS, "report", identity("default", 0)),
    ];
    stand.all(policies.chain(identities).chain(of_pods).collect()).await?;
    Ok(())
}

/// One as people write them.
fn policy() -> Value {
    json!({
        "database": {
            "host": "pg.shop.svc",
            "name": "shop",
            "tls": {"mode": "VerifyFull", "caSecret": {"name": "shop-pg-ca", "key": "ca.crt"}},
            "credentials": {"secret": {"name": "shop-postern"}},
        },
        "masks": [
            {"columns": ["public.customers.card_number", "public.payments.card_number"], "mask": {"partial": {"keepLast": 4}}},
            {"columns": ["*.*.email"], "mask": {"email": {}}},
            {"columns": ["public.employees.salary"], "mask": {"nullify": {}}, "onPredicate": "Refuse"},
        ],
        "rules": [{
            "name": "reporting-reads",
            "to": {"groups": ["reporting"]},
            "allow": ["Select"],
            "relations": ["public.customers", "public.orders", "reporting.*"],
            "hideColumns": ["public.customers.ssn"],
            "rowFilters": [{"relation": "public.orders", "where": "region = 'eu'"}],
            "limits": {"rows": 10000, "bytes": "10Mi", "statementTimeout": "30s"},
        }],
        "sidecar": {"env": {"DATABASE_URL": "postgresql://{user}@{host}:{port}/{database}"}},
    })
}

fn identity(account: &str, number: u32) -> Value {
    json!({
        "subjects": [{"serviceAccount": {"name": account}}],
        "groups": ["reporting", format!("team-{}", number % 7)],
        "postgresRole": "reporting_ro",
    })
}

/// How often the controllers have looked at an object and were done with it.
fn reconciled(operator: &Operator, kind: &str) -> Result<f64> {
    Ok(counted(operator)?.sum("postern_operator_reconciles_total", &[&format!("kind=\"{kind}\""), "outcome=\"done\""]))
}

/// The number that does not grow any more, for three seconds.
fn settled(mut number: impl FnMut() -> Result<f64>) -> Result<f64> {
    let (mut last, mut since) = (number()?, Instant::now());
    until("something goes on and on", Duration::from_millis(250), || {
        let now = number()?;
        if now > last {
            (last, since) = (now, Instant::now());
        }
        Ok((since.elapsed() > Duration::from_secs(3)).then_some(last))
    })
}

/// Every object gets finalizer, kept spec and status.
fn cold_start(
    stand: &Stand,
    runtime: &tokio::runtime::Runtime,
    sizes: &Sizes,
    figures: &mut Figures,
) -> Result<Operator> {
    let counted_by_server = || runtime.block_on(stand.counted());
    let before = counted_by_server()?;
    let start = Instant::now();
    let operator = Operator::start(&stand.server, "postern-0")?;
    let all = [("databaseaccesspolicies", sizes.policies + 1), ("nonhumanidentities", sizes.identities + 1)];
    until("not all has a status", Duration::from_millis(500), || {
        let now = counted_by_server()?;
        let done = all.iter().all(|(kind, count)| now.statuses(kind) - before.statuses(kind) >= f64::from(*count));
        Ok(done.then_some(()))
    })?;
    let took = start.elapsed();
    settled(|| Ok(counted_by_server()?.writes()))?;
    for (plural, count) in all {
        let path = format!("/apis/postern.dev/v1alpha1/{plural}");
        let list = runtime.block_on(stand.get(&path))?;
        let items = list.get("items").and_then(Value::as_array).context("no list")?;
        let ready = items.iter().filter(|it| it.pointer("/status/generationInForce") == Some(&json!(1))).count();
        ensure!(ready == count as usize, "{ready} of {count} {plural} are in force");
    }
    let requests = counted(&operator)?.sum("postern_operator_api_answers_total", &[]);
    let objects = f64::from(sizes.policies + sizes.identities + 2);
    let writes = counted_by_server()?.writes() - before.writes();
    let name = format!("{} policies and {} identities that are new", sizes.policies, sizes.identities);
    figures.add(START, format!("{name}: until all have their status"), took.as_secs_f64(), "s");
    figures.add(START, "requests to the API server for each of them", requests / objects, "");
    figures.add(START, "of these, writes", writes / objects, "");
    figures.add(START, "memory of the operator afterwards", resident(&operator)?, "MiB");
    Ok(operator)
}

/// Nothing is left to be written.
fn second_pass(
    stand: &Stand,
    runtime: &tokio::runtime::Runtime,
    sizes: &Sizes,
    figures: &mut Figures,
) -> Result<Operator> {
    let before = settled(|| Ok(runtime.block_on(stand.counted())?.writes()))?;
    let start = Instant::now();
    let operator = Operator::start(&stand.server, "postern-0")?;
    figures.add(START, "a second start: until the operator is ready", start.elapsed().as_secs_f64(), "s");
    until("not all was looked at", Duration::from_millis(250), || {
        let policies = reconciled(&operator, "DatabaseAccessPolicy")? >= f64::from(sizes.policies + 1);
        Ok((policies && reconciled(&operator, "NonHumanIdentity")? >= f64::from(sizes.identities + 1)).then_some(()))
    })?;
    figures.add(START, "until all was looked at", start.elapsed().as_secs_f64(), "s");
    let writes = settled(|| Ok(runtime.block_on(stand.counted())?.writes()))? - before;
    figures.add(START, "writes in that", writes, "");
    figures.goal(Goal::AtMost(0.0));
    figures.add(START, "memory of the operator afterwards", resident(&operator)?, "MiB");
    Ok(operator)
}

/// A pod that has been made.
struct Pod {
    name: String,
    uid: String,
    address: Ipv4Addr,
}

/// Pods, with the certificates by which their sidecars believe the broker.
struct Pods {
    all: Vec<Pod>,
    authorities: String,
}

fn pod(name: &str) -> Value {
    let volumes = json!([{"name": "data", "mountPath": "/data"}]);
    let env = json!([{"name": "LOG", "value": "info"}, {"name": "PGHOST", "value": "pg.shop.svc"}]);
    let metadata = json!({"name": name, "labels": {"app": "scale"}, "annotations": {"postern.dev/inject": "shop"}});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [{"name": "app", "image": "registry.example/app:1", "env": env, "volumeMounts": volumes}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

/// The webhook, asked as the API server asks it, and pods made through the API server.
async fn webhooks(stand: &Stand, operator: &Operator, sizes: &Sizes, figures: &mut Figures) -> Result<Pods> {
    let rate = sizes.pods_per_second;
    let direct = reviews(stand, operator, sizes).await?;
    figures.add(WEBHOOK, format!("the webhook's answer, {rate} pods a second: median"), quantile(&direct, 0.5), "ms");
    figures.add(WEBHOOK, "99 of 100 within", quantile(&direct, 0.99), "ms");
    figures.goal(Goal::Below(20.0));

    let path = format!("/api/v1/namespaces/{PODS}/pods");
    let name = |number: u32| format!("pod-{number}");
    let asks = (0..sizes.sidecars).map(|number| Ask::create(&path, &pod(&name(number)))).collect();
    let made = stand.paced(asks, Some(rate)).await?;
    let mut took: Vec<f64> = made.iter().map(|(_, took)| took.as_secs_f64() * 1000.0).collect();
    took.sort_by(f64::total_cmp);
    figures.add(WEBHOOK, "a pod made through the API server: median", quantile(&took, 0.5), "ms");
    figures.add(WEBHOOK, "99 of 100 within", quantile(&took, 0.99), "ms");
    let ours = "apiserver_admission_webhook_admission_duration_seconds";
    let by_server = stand.counted().await?;
    let of = |name: String, more: &[&str]| by_server.sum(&name, &[&["name=\"pods.postern.dev\""], more].concat());
    let all = of(format!("{ours}_count"), &[]);
    ensure!(all >= f64::from(sizes.sidecars), "the API server asked the webhook {all} times only");
    let quick = of(format!("{ours}_bucket"), &["le=\"0.025\""]);
    figures.add(WEBHOOK, "the webhook answered the API server within 25 ms", quick / all * 100.0, "%");

    let text = |pod: &Value, path: &str| Some(pod.pointer(path)?.as_str()?.to_owned());
    let authorities = made.first().and_then(|(pod, _)| text(pod, "/spec/initContainers/0/env/0/value"));
    let all = made.iter().zip(0_u32..).map(|((pod, _), number)| {
        // As a node would give them: each its own.
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 16, 0, 1).to_bits() + number);
        Some(Pod { name: name(number), uid: text(pod, "/metadata/uid")?, address })
    });
    let pods = Pods {
        all: all.collect::<Option<_>>().context("a pod without a UID")?,
        authorities: authorities.context("a pod without a sidecar")?,
    };
    let started = pods.all.iter().map(|pod| {
        let address = json!({"ip": pod.address.to_string()});
        let status = json!({"phase": "Running", "podIP": pod.address.to_string(), "podIPs": [address]});
        Ask::merge(&format!("{path}/{}/status", pod.name), &json!({"status": status}))
    });
    stand.all(started.collect()).await?;
    Ok(pods)
}

/// How long reviews take, in milliseconds, sorted.
async fn reviews(stand: &Stand, operator: &Operator, sizes: &Sizes) -> Result<Vec<f64>> {
    let tls = http::tls(&stand.webhook_authorities()?)?;
    let mut client = Client::new(operator.webhooks(), Ipv4Addr::LOCALHOST, &tls);
    let mut took = Vec::new();
    let start = Instant::now();
    for number in 0..sizes.sidecars.min(1000) {
        let due = start + Duration::from_secs_f64(f64::from(number) / f64::from(sizes.pods_per_second));
        tokio::time::sleep_until(due.into()).await;
        let request = json!({
            "uid": format!("review-{number}"), "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "namespace": PODS, "operation": "CREATE", "object": pod("reviewed"),
        });
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let headers = [("content-type", "application/json")];
        let answer = client.request("POST", "/mutate/pods?timeout=10s", &headers, review.to_string()).await?;
        took.push(due.elapsed().as_secs_f64() * 1000.0);
        let answer: Value = serde_json::from_slice(&answer.body)?;
        ensure!(answer.pointer("/response/patch").is_some(), "not injected: {answer}");
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// A lease has come.
struct Got {
    /// Rules of its policy: each change adds one.
    rules: usize,
    at: Instant,
}

async fn sidecars(stand: &Stand, operator: &Operator, pods: &Pods, sizes: &Sizes, figures: &mut Figures) -> Result<()> {
    let tls = http::tls(&pods.authorities)?;
    let waiting = tokens(stand, operator, pods, &tls).await?;
    let number = waiting.len();
    let (got, mut leases) = mpsc::unbounded_channel();
    let stop = watch::Sender::new(false);
    operator.process()?.forget_peak()?;

    let start = Instant::now();
    let mut starting = JoinSet::new();
    for (mut sidecar, address) in waiting {
        starting.spawn(async move {
            sidecar.exchange().await?;
            Ok::<_, anyhow::Error>((sidecar, address, Instant::now()))
        });
    }
    let mut holding: JoinSet<Result<()>> = JoinSet::new();
    let mut exchanged = start;
    let mut senders = Vec::new();
    while let Some(begun) = starting.join_next().await {
        let (sidecar, address, at) = begun??;
        exchanged = exchanged.max(at);
        if senders.len() < SENDERS {
            senders.push(sidecar.beside(address, &tls));
        }
        holding.spawn(hold(sidecar, got.clone(), stop.subscribe()));
    }
    let all_leased = everybody(&mut leases, &mut holding, number, 1).await?;
    let seconds = |at: Instant| at.duration_since(start).as_secs_f64();
    figures.add(
        LEASES,
        format!("{number} sidecars that start at once: until all have a lease"),
        seconds(all_leased),
        "s",
    );
    figures.add(LEASES, "exchanges of tokens a second in that", number as f64 / seconds(exchanged), "per s");
    figures.add(LEASES, "most memory of the operator in that", operator.process()?.peak()? as f64 / MIB, "MiB");

    let cpu = operator.process()?.cpu()?;
    let polls = || Ok::<_, anyhow::Error>(counted(operator)?.sum("postern_operator_lease_polls_total", &[]));
    let polled = polls()?;
    tokio::time::sleep(sizes.while_nothing_happens).await;
    let passed = sizes.while_nothing_happens.as_secs_f64();
    let cpu = (operator.process()?.cpu()? - cpu).as_secs_f64() / passed;
    figures.add(LEASES, "polls a second while nothing changes", (polls()? - polled) / passed, "per s");
    figures.add(LEASES, "CPU of the operator in that", cpu * 100.0, "% of a core");
    figures.add(LEASES, "memory of the operator in that", resident(operator)?, "MiB");
    figures.goal(Goal::AtMost(128.0));

    let mut slowest = 0.0_f64;
    let mut rules = policy().pointer("/rules/0").cloned().into_iter().collect::<Vec<_>>();
    for change in 0..CHANGES {
        let mut rule = rules.first().cloned().unwrap_or_default();
        if let Some(rule) = rule.as_object_mut() {
            rule.insert("name".into(), json!(format!("rule-{change}")));
        }
        rules.push(rule);
        let patch = json!({"spec": {"rules": rules}});
        let path = format!("/apis/postern.dev/v1alpha1/namespaces/{PODS}/databaseaccesspolicies/shop");
        let begun = Instant::now();
        stand.all(vec![Ask::merge(&path, &patch)]).await?;
        let last = everybody(&mut leases, &mut holding, number, rules.len()).await?;
        slowest = slowest.max(last.duration_since(begun).as_secs_f64());
    }
    figures.add(LEASES, format!("a policy's change reaches all of them, the slowest of {CHANGES}"), slowest, "s");
    figures.goal(Goal::Below(2.0));
    figures.add(LEASES, "memory of the operator afterwards", resident(operator)?, "MiB");
    figures.goal(Goal::AtMost(128.0));

    let events = audit(senders, sizes.audit).await?;
    figures.add(AUDIT, "events a second that are taken in and kept, beside those polls", events, "per s");
    figures.add(AUDIT, "memory of the operator in that", resident(operator)?, "MiB");
    stop.send_replace(true);
    Ok(())
}

/// A sidecar for each pod, with the token that a node would have put into it.
async fn tokens(
    stand: &Stand,
    operator: &Operator,
    pods: &Pods,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Vec<(Sidecar, Ipv4Addr)>> {
    let path = format!("/api/v1/namespaces/{PODS}/serviceaccounts/default/token");
    let asks = pods.all.iter().map(|pod| {
        let of = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid});
        let spec = json!({"audiences": ["postern.dev"], "expirationSeconds": 3600, "boundObjectRef": of});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        Ask::create(&path, &request).of_node()
    });
    let tokens = stand.all(asks.collect()).await?;
    let of_pod = pods.all.iter().zip(tokens).map(|(pod, token)| {
        let token = token.pointer("/status/token").and_then(Value::as_str).context("no token")?.to_owned();
        let resource = format!("postern:{PODS}/shop");
        Ok((Sidecar::new(operator.broker(), pod.address, tls, resource, token)?, pod.address))
    });
    of_pod.collect()
}

/// Polls until it is to stop.
async fn hold(mut sidecar: Sidecar, got: mpsc::UnboundedSender<Got>, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut version = None;
    loop {
        let lease = tokio::select! {
            lease = sidecar.poll(version.as_deref(), postern_crds::lease::MAX_WAIT) => lease?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        if let Some(lease) = lease {
            let rules = lease.policy.pointer("/spec/rules").and_then(Value::as_array).map_or(0, Vec::len);
            version = Some(lease.version);
            // Who listened may have given up.
            _ = got.send(Got { rules, at: Instant::now() });
        }
    }
}

/// When the last of so many got a lease with so many rules.
async fn everybody(
    leases: &mut mpsc::UnboundedReceiver<Got>,
    holding: &mut JoinSet<Result<()>>,
    number: usize,
    rules: usize,
) -> Result<Instant> {
    let (mut last, mut count) = (None, 0);
    let until = tokio::time::Instant::now() + Duration::from_secs(300);
    while count < number {
        tokio::select! {
            Some(got) = leases.recv() => {
                if got.rules == rules {
                    count += 1;
                    last = last.max(Some(got.at));
                }
            }
            Some(ended) = holding.join_next() => ended??,
            () = tokio::time::sleep_until(until) => anyhow::bail!("{count} of {number} have the lease"),
        }
    }
    last.context("nobody has a lease")
}

/// Events a second that the broker says to have.
async fn audit(senders: Vec<Sidecar>, time: Duration) -> Result<f64> {
    let event = json!({
        "event": "statement", "time": "2026-01-01T00:00:00.000000Z", "session": "01J00000000000000000000000", "identity": "report",
        "policy": "shop", "decision": "allow", "reason": "", "rule": "reporting-reads", "verb": "Select", "protocol": "extended",
        "text": "SELECT c.id, c.name, o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.created_at > $1 LIMIT 100",
        "relations": ["public.customers", "public.orders"], "masked": ["public.customers.email"], "rows": 100, "bytes": 8342,
    });
    let batch = format!("{event}\n").repeat(BATCH as usize).into_bytes();
    let start = Instant::now();
    let mut sending = JoinSet::new();
    for (mut sender, number) in senders.into_iter().zip(0..) {
        let (batch, stream) = (batch.clone(), format!("stream{number}"));
        sending.spawn(async move {
            let mut first = 1;
            while start.elapsed() < time {
                first = sender.audit(&stream, first, batch.clone()).await? + 1;
            }
            Ok::<_, anyhow::Error>(first - 1)
        });
    }
    let mut kept = 0;
    while let Some(sent) = sending.join_next().await {
        kept += sent??;
    }
    Ok(kept as f64 / start.elapsed().as_secs_f64())
}
