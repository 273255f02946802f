//! What the cluster says: policies, identities, and the pods with a sidecar, as watches tell of them; and which spec of
//! a policy or identity is in force.
//!
//! **Promise.** What is in force is the object's own spec if it has no mistakes, else the newest good one that was kept
//! as a ControllerRevision, else nothing: every replica says the same, and none remembers anything by itself. An object
//! that is being deleted is not in force.

mod compact;
mod known;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::api::ApiResource;
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use postern_crds::api::{GROUP, VERSION};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::injection;

pub use compact::{Compact, Deflated};
pub use known::{Identity, InForce, Kind, Known, Policy};
pub use watch::watch;

/// The label of a ControllerRevision that holds a spec: the kind of the object, in lower case.
pub const REVISION_OF: &str = "postern.dev/revision-of";
/// The finalizer of policies and identities, by which leases end before they are gone.
pub const FINALIZER: &str = "postern.dev/leases";
/// How many changes a reader may lag behind before it has to look at everything again.
const CHANGES: usize = 1024;

/// All objects of a kind.
pub fn all<K: Kind>(client: Client) -> Api<DynamicObject> {
    Api::all_with(client, &resource::<K>())
}

/// Those of a namespace.
pub fn of_namespace<K: Kind>(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &resource::<K>())
}

fn resource<K: Kind>() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, K::KIND), K::PLURAL)
}

/// Namespace and name of an object.
pub type Key = (String, String);

/// Which object changed; what it is now, the readers ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A policy, its last good spec, or both.
    Policy(Key),
    /// An identity likewise.
    Identity(Key),
    /// A pod with a sidecar.
    Pod(Key),
}

/// A pod with a sidecar, without what nobody here looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    outline: Compact,
    whole: Deflated,
}

impl Pod {
    /// From the raw object.
    pub fn new(namespace: String, name: String, uid: String, mut raw: Value) -> Self {
        injection::trim(&mut raw);
        let whole = Deflated::from(&raw);
        injection::outline(&mut raw);
        Self { namespace, name, uid, outline: Compact::from(&raw), whole }
    }

    /// What is looked at of all pods again and again: the raw object without most of its spec.
    pub fn outline(&self) -> Value {
        self.outline.value()
    }

    /// The raw object, to be verified.
    pub fn whole(&self) -> Value {
        self.whole.value()
    }
}

/// Everything that is known. One for a process; clones of the [`Arc`] share it.
#[derive(Debug)]
pub struct Objects {
    state: RwLock<State>,
    changes: broadcast::Sender<Change>,
    synced: tokio::sync::watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    policies: HashMap<Key, Arc<Known<Policy>>>,
    identities: HashMap<Key, Arc<Known<Identity>>>,
    /// By the UID of what they belong to, and by generation.
    revisions: HashMap<String, BTreeMap<i64, Compact>>,
    /// Which of them an object holds.
    revision_keys: HashMap<Key, (String, i64)>,
    pods: HashMap<Key, Arc<Pod>>,
}

/// Watches that have to be through their first list.
const WATCHES: usize = 4;

impl Objects {
    /// Nothing is known yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::default(),
            changes: broadcast::Sender::new(CHANGES),
            synced: tokio::sync::watch::Sender::new(0),
        })
    }

    /// A policy.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Arc<Known<Policy>>> {
        self.read().policies.get(&key(namespace, name)).cloned()
    }

    /// All policies.
    pub fn policies(&self) -> Vec<Arc<Known<Policy>>> {
        self.read().policies.values().cloned().collect()
    }

    /// An identity.
    pub fn identity(&self, namespace: &str, name: &str) -> Option<Arc<Known<Identity>>> {
        self.read().identities.get(&key(namespace, name)).cloned()
    }

    /// All identities.
    pub fn identities(&self) -> Vec<Arc<Known<Identity>>> {
        self.read().identities.values().cloned().collect()
    }

    /// The identities in force in a namespace that pods with this service account have; more than one is a mistake that
    /// nobody gets a lease by. In the order of their names.
    pub fn identities_of(&self, namespace: &str, service_account: &str) -> Vec<Arc<InForce<Identity>>> {
        let mut found = self.identities_in(namespace);
        found.retain(|identity| identity.is_of(service_account));
        found
    }

    /// All identities in force in a namespace, in the order of their names.
    pub fn identities_in(&self, namespace: &str) -> Vec<Arc<InForce<Identity>>> {
        let state = self.read();
        let of_namespace = state.identities.iter().filter(|((of, _), _)| of == namespace);
        let mut found: Vec<_> = of_namespace.filter_map(|(_, identity)| identity.in_force.clone()).collect();
        found.sort_by(|one, other| one.checked.name.cmp(&other.checked.name));
        found
    }

    /// A pod with a sidecar.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.read().pods.get(&key(namespace, name)).cloned()
    }

    /// All pods with a sidecar.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.read().pods.values().cloned().collect()
    }

    /// The good specs of a policy or identity that are kept, by generation.
    pub fn revisions(&self, uid: &str) -> BTreeMap<i64, Compact> {
        self.read().revisions.get(uid).cloned().unwrap_or_default()
    }

    /// Every change from now on. Who lags behind has to look at everything again.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Whether everything that there was at the start is known.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() >= WATCHES
    }

    /// Waits until everything that there was at the start is known.
    pub async fn synced(&self) {
        // The sender is this object's own.
        _ = self.synced.subscribe().wait_for(|done| *done >= WATCHES).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Nothing in a section of this lock leaves the state half changed.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a JSON merge patch (RFC 7396) would change anything.
pub fn changes(before: &Value, patch: &Value) -> bool {
    match (before, patch) {
        (Value::Object(before), Value::Object(patch)) => patch.iter().any(|(key, value)| match before.get(key) {
            Some(before) => changes(before, value),
            None => leaves_something(value),
        }),
        _ => before != patch && (!before.is_null() || leaves_something(patch)),
    }
}

/// Whether anything is there after a patch of what was not there.
fn leaves_something(patch: &Value) -> bool {
    match patch {
        Value::Null => false,
        Value::Object(fields) => fields.values().any(leaves_something),
        _ => true,
    }
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}
