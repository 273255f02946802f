//! The watches that keep [`Objects`] true.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::ApiResource;
use kube::core::{DynamicObject, GroupVersionKind, Resource, ResourceExt as _};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Change, Compact, Identity, Key, Kind, Known, Objects, Pod, Policy, REVISION_OF, State, all};
use crate::injection::INJECTED;

/// The longest pause after a watch was interrupted: what was withdrawn while the API server was away ends soon after its return.
const LONGEST: Duration = Duration::from_secs(5);

/// How many objects are asked for at once: as trees they take up some twenty times what is kept of them.
const PAGE: u32 = 100;

/// The pauses of other controllers, but for the longest.
struct Soon(DefaultBackoff);

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Keeps the objects true for as long as it is polled. What the API server can't be asked for is asked for again, with
/// growing pauses; what is known stays known meanwhile.
pub async fn watch(client: Client, objects: Arc<Objects>) {
    let objects = &*objects;
    let revisions: Api<ControllerRevision> = Api::all(client.clone());
    let pods: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod")));
    let all_of_them = || watcher::Config::default().page_size(PAGE);
    tokio::join!(
        follow::<Policy, _>(objects, all::<Policy>(client.clone()), all_of_them()),
        follow::<Identity, _>(objects, all::<Identity>(client.clone()), all_of_them()),
        follow::<Revisions, _>(objects, revisions, all_of_them().labels(REVISION_OF)),
        follow::<Pods, _>(objects, pods, all_of_them().labels(INJECTED)),
    );
}

/// What is done with objects of one kind.
trait Follower<T> {
    /// What they are called in the log.
    const NAME: &'static str;
    /// Takes an object in; what changed by it.
    fn put(state: &mut State, key: Key, object: T) -> Option<Change>;
    /// Takes one out.
    fn remove(state: &mut State, key: &Key) -> Option<Change>;
    /// Those that are there.
    fn keys(state: &State) -> Vec<Key>;
}

async fn follow<F, T>(objects: &Objects, api: Api<T>, config: watcher::Config)
where
    T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: Follower<T>,
{
    let mut events = watcher(api, config)
        .backoff(Soon(DefaultBackoff::default()))
        .inspect_err(|error| tracing::warn!(%error, "the watch of {} is interrupted; it is tried again", F::NAME))
        .boxed();
    let mut listed: HashSet<Key> = HashSet::new();
    let mut synced = false;
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        let is_whole = matches!(event, watcher::Event::InitDone);
        let changes: Vec<Change> = {
            let mut state = objects.write();
            match event {
                watcher::Event::Init => {
                    listed.clear();
                    Vec::new()
                }
                watcher::Event::InitApply(object) => {
                    let key = key_of(&object);
                    listed.insert(key.clone());
                    F::put(&mut state, key, object).into_iter().collect()
                }
                watcher::Event::InitDone => {
                    let gone: Vec<Key> = F::keys(&state).into_iter().filter(|key| !listed.contains(key)).collect();
                    gone.iter().filter_map(|key| F::remove(&mut state, key)).collect()
                }
                watcher::Event::Apply(object) => F::put(&mut state, key_of(&object), object).into_iter().collect(),
                watcher::Event::Delete(object) => F::remove(&mut state, &key_of(&object)).into_iter().collect(),
            }
        };
        for change in changes {
            // Nobody may be listening yet.
            _ = objects.changes.send(change);
        }
        if is_whole && !synced {
            synced = true;
            objects.synced.send_modify(|done| *done += 1);
        }
    }
}

fn key_of<T: Resource>(object: &T) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl Follower<DynamicObject> for Policy {
    const NAME: &'static str = Policy::PLURAL;

    fn put(state: &mut State, key: Key, object: DynamicObject) -> Option<Change> {
        let kept = object.metadata.uid.as_ref().and_then(|uid| state.revisions.get(uid));
        let known = Arc::new(Known::new(object, kept));
        state.policies.insert(key.clone(), known);
        Some(Change::Policy(key))
    }

    fn remove(state: &mut State, key: &Key) -> Option<Change> {
        state.policies.remove(key).map(|_| Change::Policy(key.clone()))
    }

    fn keys(state: &State) -> Vec<Key> {
        state.policies.keys().cloned().collect()
    }
}

impl Follower<DynamicObject> for Identity {
    const NAME: &'static str = Identity::PLURAL;

    fn put(state: &mut State, key: Key, object: DynamicObject) -> Option<Change> {
        let kept = object.metadata.uid.as_ref().and_then(|uid| state.revisions.get(uid));
        let known = Arc::new(Known::new(object, kept));
        state.identities.insert(key.clone(), known);
        Some(Change::Identity(key))
    }

    fn remove(state: &mut State, key: &Key) -> Option<Change> {
        state.identities.remove(key).map(|_| Change::Identity(key.clone()))
    }

    fn keys(state: &State) -> Vec<Key> {
        state.identities.keys().cloned().collect()
    }
}

/// The specs that are kept.
struct Revisions;

impl Follower<ControllerRevision> for Revisions {
    const NAME: &'static str = "controllerrevisions";

    fn put(state: &mut State, key: Key, revision: ControllerRevision) -> Option<Change> {
        let owner = revision.metadata.owner_references.unwrap_or_default().into_iter().next()?;
        let spec = Compact::from(&revision.data.map_or(Value::Null, |data| data.0));
        let of_owner = state.revisions.entry(owner.uid.clone()).or_default();
        of_owner.insert(revision.revision, spec);
        state.revision_keys.insert(key.clone(), (owner.uid.clone(), revision.revision));
        again(state, &key.0, &owner.uid)
    }

    fn remove(state: &mut State, key: &Key) -> Option<Change> {
        let (owner, revision) = state.revision_keys.remove(key)?;
        if let Some(of_owner) = state.revisions.get_mut(&owner) {
            of_owner.remove(&revision);
            if of_owner.is_empty() {
                state.revisions.remove(&owner);
            }
        }
        again(state, &key.0, &owner)
    }

    fn keys(state: &State) -> Vec<Key> {
        state.revision_keys.keys().cloned().collect()
    }
}

/// Reads an object again, of which other specs are kept than before.
fn again(state: &mut State, namespace: &str, uid: &str) -> Option<Change> {
    let kept = state.revisions.get(uid);
    let policy = state.policies.iter_mut().find(|((of, _), known)| of == namespace && known.uid == uid);
    if let Some((key, known)) = policy {
        *known = Arc::new(known.again(kept));
        return Some(Change::Policy(key.clone()));
    }
    let identity = state.identities.iter_mut().find(|((of, _), known)| of == namespace && known.uid == uid);
    let (key, known) = identity?;
    *known = Arc::new(known.again(kept));
    Some(Change::Identity(key.clone()))
}

/// Pods with a sidecar.
struct Pods;

impl Follower<DynamicObject> for Pods {
    const NAME: &'static str = "pods";

    fn put(state: &mut State, key: Key, mut object: DynamicObject) -> Option<Change> {
        object.metadata.managed_fields = None;
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let raw = serde_json::to_value(object).ok()?;
        let (namespace, name) = key.clone();
        state.pods.insert(key.clone(), Arc::new(Pod::new(namespace, name, uid, raw)));
        Some(Change::Pod(key))
    }

    fn remove(state: &mut State, key: &Key) -> Option<Change> {
        state.pods.remove(key).map(|_| Change::Pod(key.clone()))
    }

    fn keys(state: &State) -> Vec<Key> {
        state.pods.keys().cloned().collect()
    }
}
