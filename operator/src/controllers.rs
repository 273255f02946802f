//! The controllers of policies and identities: what users see of them as status, the good specs that are kept, and the
//! finalizer. Read, plan, write: the plan is a pure function.
//!
//! Only the leader runs them. What is in force does not depend on them: every replica sees that by itself.

mod plan;
mod reason;
mod restart;
mod sidecars;
mod survey;

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use kube::{Api, Client};
use postern_crds::api::API_VERSION;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::events::Events;
use crate::metrics::Metrics;
use crate::objects::{self, Change, Identity, InForce, Key, Kind, Known, Objects, Policy, REVISION_OF};
use crate::roles::Roles;
use crate::timely::{ApiError, timely};

use plan::{Observed, Plan, Readable};
pub use reason::Reason;
pub(crate) use restart::asks_for_restarts;
use sidecars::Sidecars;
pub(crate) use sidecars::{Revisions, is_live};
use survey::Survey;

/// Objects that are worked on at a time.
const AT_ONCE: usize = 8;
/// When an object is looked at again, though nothing changed.
const RESYNC: Duration = Duration::from_secs(600);
/// When one is looked at again whose Secrets can't be read: rights change without a word.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// The first pause after a failure, doubled with each further one up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// For how long it is tried to end the roles of a policy that is deleted.
const ROLES_END: Duration = Duration::from_secs(120);
/// How often the sidecars are counted.
const COUNT: Duration = Duration::from_secs(10);

/// What the controllers work with.
#[derive(Clone)]
pub struct Controllers {
    /// The cluster.
    pub client: Client,
    /// What it says.
    pub objects: Arc<Objects>,
    /// Namespace and name of the operator's service account, for the text that says which rights are missing.
    pub account: (String, String),
    /// Image of the sidecars that are made now.
    pub image: String,
    /// Whether pods may be evicted whose sidecars are outdated, where their policy asks for that.
    pub restarts: bool,
    /// Roles that are made for sidecars.
    pub roles: Arc<Roles>,
    /// Where it is told.
    pub events: Events,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Controllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controllers").field("account", &self.account).finish_non_exhaustive()
    }
}

/// An object to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Policy(Key),
    Identity(Key),
}

/// Runs the controllers whenever this replica leads.
pub async fn run(controllers: Controllers, mut leading: watch::Receiver<bool>) {
    controllers.objects.synced().await;
    loop {
        if leading.wait_for(|leading| *leading).await.is_err() {
            return;
        }
        controllers.metrics.leading.set(1);
        let survey = watch::Sender::default();
        tokio::select! {
            () = controllers.work(survey.subscribe()) => {}
            () = controllers.survey(&survey) => {}
            () = controllers.restart() => {}
            () = controllers.roles.sweep(&controllers.objects) => {}
            _ = leading.wait_for(|leading| !*leading) => {}
        }
        controllers.metrics.leading.set(0);
        controllers.metrics.count_pods(0, 0);
        controllers.metrics.count_missing(0);
    }
}

impl Controllers {
    async fn work(&self, mut survey: watch::Receiver<Arc<Survey>>) {
        let mut changes = self.objects.changes();
        let (requests, due) = futures::channel::mpsc::unbounded();
        let ask = |message: Item, after: Duration| {
            // The other end lives as long as this function.
            _ = requests.unbounded_send(ScheduleRequest { message, run_at: Instant::now() + after });
        };
        let mut due = std::pin::pin!(scheduler(due));
        let mut under_way = FuturesUnordered::new();
        let mut busy: HashSet<Item> = HashSet::new();
        let mut failures: HashMap<Item, u32> = HashMap::new();
        let mut count = tokio::time::interval(COUNT);
        let mut sidecars = Arc::new(Sidecars::default());
        for item in self.all() {
            ask(item, Duration::ZERO);
        }
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(Change::Policy(key)) => ask(Item::Policy(key), Duration::ZERO),
                    Ok(Change::Identity(key)) => ask(Item::Identity(key), Duration::ZERO),
                    Ok(Change::Pod(_)) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        self.all().into_iter().for_each(|item| ask(item, Duration::ZERO));
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Ok(()) = survey.changed() => {
                    let gone = survey.borrow_and_update().gone.clone();
                    self.reported_by(&gone).into_iter().for_each(|item| ask(item, Duration::ZERO));
                    count.reset_immediately();
                }
                _ = count.tick() => {
                    let now = Sidecars::counted(&self.objects, &self.image, &survey.borrow());
                    let whose = if now.surveyed == sidecars.surveyed { now.differing(&sidecars) } else { self.all() };
                    whose.into_iter().for_each(|item| ask(item, Duration::ZERO));
                    self.metrics.count_pods(now.current, now.outdated);
                    sidecars = Arc::new(now);
                    self.metrics.count_objects(&self.objects);
                }
                // One that is worked on already is held until that is done.
                Some(item) = poll_fn(|cx| due.as_mut().hold_unless(|item| !busy.contains(item)).poll_next_unpin(cx)),
                    if busy.len() < AT_ONCE =>
                {
                    busy.insert(item.clone());
                    let (sidecars, survey) = (Arc::clone(&sidecars), Arc::clone(&survey.borrow()));
                    under_way.push(async move {
                        let timer = self.metrics.reconcile_seconds.with_label_values(&[item.kind()]).start_timer();
                        let ended = self.reconcile(&item, &sidecars, &survey).await;
                        timer.observe_duration();
                        (item, ended)
                    });
                }
                Some((item, ended)) = under_way.next() => {
                    busy.remove(&item);
                    let (kind, failed) = (item.kind(), ended.is_err());
                    self.metrics.reconciles.with_label_values(&[kind, if failed { "failed" } else { "done" }]).inc();
                    match ended {
                        Ok(again) => {
                            failures.remove(&item);
                            if let Some(after) = again {
                                ask(item, after);
                            }
                        }
                        Err(error) => {
                            let times = failures.entry(item.clone()).or_default();
                            let pause = back_off(*times, rand::random());
                            *times = times.saturating_add(1);
                            tracing::warn!(object = %item, %error, "tried again in {} s", pause.as_secs());
                            ask(item, pause);
                        }
                    }
                }
            }
        }
    }

    fn all(&self) -> Vec<Item> {
        self.items(|_| true, |_| true)
    }

    /// Those in whose status reports of these replicas stand.
    fn reported_by(&self, replicas: &HashSet<String>) -> Vec<Item> {
        self.items(
            |policy| survey::replicas(policy).any(|replica| replicas.contains(replica)),
            |identity| survey::replicas(identity).any(|replica| replicas.contains(replica)),
        )
    }

    fn items(
        &self,
        policies: impl Fn(&Known<Policy>) -> bool,
        identities: impl Fn(&Known<Identity>) -> bool,
    ) -> Vec<Item> {
        let of_policies = self.objects.policies().into_iter().filter(|it| policies(it));
        let of_identities = self.objects.identities().into_iter().filter(|it| identities(it));
        let of_policies = of_policies.map(|it| Item::Policy((it.namespace.clone(), it.name.clone())));
        of_policies.chain(of_identities.map(|it| Item::Identity((it.namespace.clone(), it.name.clone())))).collect()
    }

    /// Brings an object's status, kept specs and finalizer in order. When to look at it again, if it is there.
    async fn reconcile(&self, item: &Item, sidecars: &Sidecars, survey: &Survey) -> Result<Option<Duration>, ApiError> {
        let gone = survey.gone.clone();
        match item {
            Item::Policy(key) => {
                let Some(known) = self.objects.policy(&key.0, &key.1) else { return Ok(None) };
                if let Some(wait) = self.end_roles(&known).await {
                    return Ok(Some(wait));
                }
                let readable = match &known.in_force {
                    Some(policy) => self.readable(policy).await?,
                    None => Readable::Unknown,
                };
                let again = if matches!(readable, Readable::No(_)) { LOOK_AGAIN } else { RESYNC };
                let (sidecars, drift) = (sidecars.of_policy(key), sidecars.drift(key));
                self.carry_out(&known, &Observed { sidecars, drift, readable: Some(readable), gone }, again).await
            }
            Item::Identity(key) => {
                let Some(known) = self.objects.identity(&key.0, &key.1) else { return Ok(None) };
                let sidecars = sidecars.of_identity(key);
                self.carry_out(&known, &Observed { sidecars, drift: None, readable: None, gone }, RESYNC).await
            }
        }
    }

    /// Ends the roles of a policy that is deleted, before it is gone; when to try again.
    async fn end_roles(&self, known: &Known<Policy>) -> Option<Duration> {
        let deleted = known.deleted?;
        let policy = known.last_good.as_ref().filter(|it| it.checked.database.credentials.ephemeral().is_some())?;
        if self.roles.end(policy).await {
            return None;
        }
        let since = Duration::try_from(jiff::Timestamp::now().duration_since(deleted)).unwrap_or_default();
        if since < ROLES_END {
            return Some(LOOK_AGAIN / 3);
        }
        // Its Secret may have been deleted with it: the policy must not stay for ever.
        let (namespace, policy) = (&known.namespace, &known.name);
        tracing::error!(namespace, policy, "the policy goes, and roles that were made for it are left in its database");
        None
    }

    async fn carry_out<K: Kind>(
        &self,
        known: &Known<K>,
        observed: &Observed,
        again: Duration,
    ) -> Result<Option<Duration>, ApiError> {
        let kept = self.objects.revisions(&known.uid);
        let plan = plan::plan(known, &kept, observed, jiff::Timestamp::now());
        let Plan { finalizers, keep, drop, status, wait } = plan;
        let api = objects::of_namespace::<K>(self.client.clone(), &known.namespace);
        let parameters = PatchParams::default();
        let mut version = known.resource_version.clone();
        if let Some(finalizers) = finalizers {
            // With the version that it is made from: finalizers of others must not be lost.
            let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
            match timely(api.patch(&known.name, &parameters, &Patch::Merge(patch))).await {
                Ok(patched) => version = patched.metadata.resource_version,
                // It is gone, or changed meanwhile, and so looked at again.
                Err(error) if matches!(error.code(), Some(404 | 409)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if known.deleted.is_some() {
            return Ok(wait);
        }
        let revisions: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &known.namespace);
        if keep {
            match timely(revisions.create(&PostParams::default(), &revision(known))).await {
                Ok(_) => {}
                Err(error) if error.code() == Some(409) => {}
                Err(error) => return Err(error),
            }
        }
        for generation in drop {
            match timely(revisions.delete(&revision_name(known, generation), &DeleteParams::default())).await {
                Ok(_) => {}
                Err(error) if error.code() == Some(404) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(status) = status {
            // Conditions are one list: what others wrote there must not be lost.
            let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": status}));
            match timely(api.patch_status(&known.name, &parameters, &patch)).await {
                Ok(_) => {}
                Err(error) if matches!(error.code(), Some(404 | 409)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        // Everybody does not have to come at once.
        Ok(Some(again + again.mul_f64(rand::random::<f64>() / 10.0)))
    }

    /// Whether the Secrets that a policy names can be read.
    async fn readable(&self, policy: &InForce<Policy>) -> Result<Readable, ApiError> {
        let namespace = &policy.checked.namespace;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let mut problems = Vec::new();
        let mut forbidden = Vec::new();
        for (name, keys) in policy.checked.secret_keys() {
            match timely(secrets.get(name)).await {
                Ok(secret) => {
                    let data = secret.data.unwrap_or_default();
                    let missing = keys.into_iter().filter(|key| !data.contains_key(*key));
                    problems.extend(missing.map(|key| format!("Secret {name} has no key {key}")));
                }
                Err(error) if error.code() == Some(404) => problems.push(format!("there is no Secret {name}")),
                Err(error) if error.code() == Some(403) => forbidden.push(name.to_owned()),
                Err(error) => return Err(error),
            }
        }
        if !forbidden.is_empty() {
            problems.push(plan::rights(namespace, &policy.checked.name, &forbidden, &self.account));
        }
        Ok(if problems.is_empty() { Readable::Yes } else { Readable::No(problems.join("; ")) })
    }
}

impl Item {
    fn kind(&self) -> &'static str {
        match self {
            Item::Policy(_) => Policy::KIND,
            Item::Identity(_) => Identity::KIND,
        }
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Item::Policy((namespace, name)) | Item::Identity((namespace, name))) = self;
        write!(f, "{} {namespace}/{name}", self.kind())
    }
}

/// The pause after so many failures before; `chance` between 0 and 1.
fn back_off(failures: u32, chance: f64) -> Duration {
    let (first, last) = BACK_OFF;
    let pause = first.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX)).min(last);
    pause.mul_f64(0.75 + chance / 2.0)
}

/// The spec of an object, kept.
fn revision<K: Kind>(known: &Known<K>) -> ControllerRevision {
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(revision_name(known, known.generation)),
            namespace: Some(known.namespace.clone()),
            labels: Some([(REVISION_OF.to_owned(), K::KIND.to_lowercase())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.into(),
                kind: K::KIND.into(),
                name: known.name.clone(),
                uid: known.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        data: known.spec.as_ref().map(|spec| RawExtension(spec.value())),
        revision: known.generation,
    }
}

/// The name of a kept spec: of this object alone, also if there was another one of its name before.
fn revision_name<K: Kind>(known: &Known<K>, generation: i64) -> String {
    let kind = if K::KIND == Policy::KIND { "dap" } else { "nhi" };
    let uid: String = known.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let name: String = known.name.chars().take(200).collect();
    format!("postern-{kind}-{name}-{uid}-{generation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_differ() {
        assert_eq!(back_off(0, 0.5), Duration::from_secs(1));
        assert_eq!(back_off(3, 0.5), Duration::from_secs(8));
        assert_eq!(back_off(40, 0.5), BACK_OFF.1);
        assert!(back_off(3, 0.0) < back_off(3, 1.0));
    }
}
