//! A policy or identity as the cluster has it, and what of it is in force. Pure.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use kube::core::DynamicObject;
use postern_crds::api::{API_VERSION, DatabaseAccessPolicySpec, NonHumanIdentitySpec};
use postern_crds::files::{self, Object};
use postern_crds::issuers::MAX_GROUPS;
use postern_crds::{CheckedIdentity, CheckedPolicy};
use serde_json::{Value, json};

use super::{Compact, FINALIZER};
use crate::injection::Asked;

/// A kind of object that has a spec in force.
pub trait Kind: Clone + fmt::Debug + Send + Sync + 'static {
    /// As it is written.
    type Spec: fmt::Debug + Send + Sync;
    /// As it is checked.
    type Checked: fmt::Debug + Send + Sync;
    /// Its name.
    const KIND: &'static str;
    /// Its name in addresses.
    const PLURAL: &'static str;

    /// Reads a document as strictly as `postern-sidecar check`; all mistakes, if there are any.
    fn read(document: Value) -> Result<(Self::Spec, Self::Checked), String>;
}

/// `DatabaseAccessPolicy`.
#[derive(Clone, Debug)]
pub struct Policy;

/// `NonHumanIdentity`.
#[derive(Clone, Debug)]
pub struct Identity;

impl Kind for Policy {
    type Spec = DatabaseAccessPolicySpec;
    type Checked = CheckedPolicy;
    const KIND: &'static str = files::POLICY;
    const PLURAL: &'static str = "databaseaccesspolicies";

    fn read(document: Value) -> Result<(Self::Spec, Self::Checked), String> {
        let Object::Policy(manifest) = files::read_value(document).map_err(|mistakes| listed(&mistakes))? else {
            return Err(format!("is no {}", Self::KIND));
        };
        let checked = manifest.compile().map_err(|mistakes| listed(&mistakes))?;
        Ok((manifest.spec, checked))
    }
}

impl Kind for Identity {
    type Spec = NonHumanIdentitySpec;
    type Checked = CheckedIdentity;
    const KIND: &'static str = files::IDENTITY;
    const PLURAL: &'static str = "nonhumanidentities";

    fn read(document: Value) -> Result<(Self::Spec, Self::Checked), String> {
        let Object::Identity(manifest) = files::read_value(document).map_err(|mistakes| listed(&mistakes))? else {
            return Err(format!("is no {}", Self::KIND));
        };
        let checked = manifest.compile().map_err(|mistakes| listed(&mistakes))?;
        Ok((manifest.spec, checked))
    }
}

fn listed<E: fmt::Display>(mistakes: &[E]) -> String {
    mistakes.iter().map(E::to_string).collect::<Vec<_>>().join("; ")
}

/// A spec that is in force.
#[derive(Debug)]
pub struct InForce<K: Kind> {
    /// The UID of its object.
    pub uid: String,
    /// The generation that it is of.
    pub generation: i64,
    namespace: String,
    name: String,
    /// The spec alone, as it stands in the object.
    text: Compact,
    /// As it is written.
    pub spec: K::Spec,
    /// As it is checked.
    pub checked: K::Checked,
}

impl<K: Kind> InForce<K> {
    /// The spec of this text, if it has no mistakes; else all of them.
    pub(crate) fn read(
        namespace: &str,
        name: &str,
        uid: &str,
        generation: i64,
        text: &Compact,
    ) -> Result<Self, String> {
        let (spec, checked) = K::read(document::<K>(namespace, name, text))?;
        Ok(Self {
            uid: uid.to_owned(),
            generation,
            namespace: namespace.into(),
            name: name.into(),
            text: text.clone(),
            spec,
            checked,
        })
    }

    /// The whole document, as a lease carries it.
    pub fn document(&self) -> Value {
        document::<K>(&self.namespace, &self.name, &self.text)
    }

    /// All that the document says: another text for another one.
    pub fn content(&self) -> [&str; 4] {
        [K::KIND, &self.namespace, &self.name, self.text.text()]
    }
}

fn document<K: Kind>(namespace: &str, name: &str, spec: &Compact) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": K::KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec.value(),
    })
}

impl InForce<Identity> {
    /// Whether pods with this service account, in the identity's own namespace, have it.
    pub fn is_of(&self, service_account: &str) -> bool {
        let mut accounts = self.spec.subjects.iter().filter_map(|subject| subject.service_account.as_ref());
        accounts.any(|account| account.name == service_account)
    }

    /// The identity in more groups, as its document says it then.
    pub fn in_groups(&self, more: &[String]) -> Result<Self, String> {
        let mut groups = self.spec.groups.clone();
        groups.extend(more.iter().cloned());
        let mut seen = HashSet::new();
        groups.retain(|group| seen.insert(group.clone()));
        if groups.len() > MAX_GROUPS {
            return Err(format!("with them {} is in {} groups, and {MAX_GROUPS} is the most", self.name, groups.len()));
        }
        let mut spec = self.text.value();
        if let Some(fields) = spec.as_object_mut().filter(|_| !more.is_empty()) {
            fields.insert("groups".to_owned(), json!(groups));
        }
        Self::read(&self.namespace, &self.name, &self.uid, self.generation, &Compact::from(&spec))
    }
}

impl InForce<Policy> {
    /// What a pod of this identity that asks for the policy is made by.
    pub fn asked_by<'a>(&'a self, identity: &'a InForce<Identity>) -> Asked<'a> {
        Asked {
            policy: &self.checked,
            sidecar: self.spec.sidecar.as_ref(),
            allow_unverified: self.spec.database.tls.as_ref().is_some_and(|tls| tls.allow_unverified),
            user: &identity.checked.postgres_role,
        }
    }
}

/// An object, and what is in force of it.
#[derive(Clone, Debug)]
pub struct Known<K: Kind> {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The generation of its spec as it stands.
    pub generation: i64,
    /// Since when it is being deleted, if it is.
    pub deleted: Option<Timestamp>,
    /// Which version of the object this is.
    pub resource_version: Option<String>,
    /// Who wants to do something before it is gone.
    pub finalizers: Vec<String>,
    status: Option<Compact>,
    /// Replicas of the operator whose reports stand in the status.
    pub replicas: Vec<String>,
    /// The spec as it stands; None if it has none.
    pub spec: Option<Compact>,
    /// What is wrong with the spec as it stands.
    pub mistakes: Option<String>,
    /// The spec in force.
    pub in_force: Option<Arc<InForce<K>>>,
    /// The one that is in force, or was until the object was deleted.
    pub last_good: Option<Arc<InForce<K>>>,
}

impl<K: Kind> Known<K> {
    /// Whether the object stays, when it is deleted, until what hangs on it has ended.
    pub fn waits_at_its_end(&self) -> bool {
        self.finalizers.iter().any(|it| it == FINALIZER)
    }

    /// What is in force of an object, of which these specs are kept.
    pub(crate) fn new(mut object: DynamicObject, kept: Option<&BTreeMap<i64, Compact>>) -> Self {
        let mut taken = |field: &str| object.data.as_object_mut()?.remove(field);
        let (spec, status) = (taken("spec").map(|it| Compact::from(&it)), taken("status"));
        let reports = status.as_ref().and_then(|status| status.get("reports")?.as_object());
        let replicas = reports.into_iter().flatten().map(|(replica, _)| replica.clone()).collect();
        let status = status.map(|status| Compact::from(&status));
        // One that is kept is in memory once.
        let same = spec.as_ref().and_then(|spec| kept?.values().find(|kept| *kept == spec).cloned());
        let metadata = object.metadata;
        let known = Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            deleted: metadata.deletion_timestamp.map(|since| since.0),
            resource_version: metadata.resource_version,
            finalizers: metadata.finalizers.unwrap_or_default(),
            status,
            replicas,
            spec: same.or(spec),
            mistakes: None,
            in_force: None,
            last_good: None,
        };
        known.with(kept)
    }

    /// The same object, of which other specs are kept than before.
    pub(crate) fn again(&self, kept: Option<&BTreeMap<i64, Compact>>) -> Self {
        self.clone().with(kept)
    }

    /// The status as it stands; null if it has none.
    pub fn status(&self) -> Value {
        self.status.as_ref().map(Compact::value).unwrap_or_default()
    }

    /// With what is in force where these specs are kept.
    fn with(self, kept: Option<&BTreeMap<i64, Compact>>) -> Self {
        let read = |spec: &Compact, generation: i64| {
            InForce::read(&self.namespace, &self.name, &self.uid, generation, spec).map(Arc::new)
        };
        let none = Compact::from(&Value::Null);
        let (written, mistakes) = match read(self.spec.as_ref().unwrap_or(&none), self.generation) {
            Ok(good) => (Some(good), None),
            Err(mistakes) => (None, Some(mistakes)),
        };
        let last_good = || kept?.iter().rev().find_map(|(generation, spec)| read(spec, *generation).ok());
        let last_good = written.or_else(last_good);
        let in_force = last_good.clone().filter(|_| self.deleted.is_none());
        Self { mistakes, in_force, last_good, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn identity(generation: i64, spec: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": API_VERSION,
            "kind": Identity::KIND,
            "metadata": {"namespace": "shop", "name": "report", "uid": "u", "generation": generation},
            "spec": spec,
            "status": {"observedGeneration": 1},
        }))
        .unwrap()
    }

    fn kept<const N: usize>(specs: [(i64, Value); N]) -> BTreeMap<i64, Compact> {
        specs.into_iter().map(|(generation, spec)| (generation, Compact::from(&spec))).collect()
    }

    fn good(role: &str) -> Value {
        json!({"postgresRole": role, "subjects": [{"serviceAccount": {"name": "report"}}]})
    }

    #[test]
    fn a_spec_without_mistakes_is_in_force_as_it_stands() {
        let known = Known::<Identity>::new(identity(3, good("new")), Some(&kept([(2, good("old"))])));
        let in_force = known.in_force.unwrap();
        assert_eq!((in_force.generation, in_force.checked.postgres_role.as_str()), (3, "new"));
        assert!(known.mistakes.is_none());
    }

    #[test]
    fn a_spec_with_mistakes_leaves_the_newest_good_one_in_force() {
        let mut wrong = good("new");
        wrong.as_object_mut().unwrap().insert("powers".into(), json!("all"));
        let kept = kept([(1, good("first")), (2, good("second")), (3, json!({"postgresRole": "pg_monitor"}))]);
        let known = Known::<Identity>::new(identity(4, wrong.clone()), Some(&kept));
        assert!(known.mistakes.unwrap().contains("powers"));
        let in_force = known.in_force.unwrap();
        assert_eq!((in_force.generation, in_force.checked.postgres_role.as_str()), (2, "second"));
        assert!(Known::<Identity>::new(identity(4, wrong), None).in_force.is_none());
    }

    #[test]
    fn nothing_of_an_object_that_is_being_deleted_is_in_force() {
        let mut object = identity(1, good("role"));
        object.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(Known::<Identity>::new(object, Some(&kept([(1, good("role"))]))).in_force.is_none());
    }

    #[test]
    fn an_identity_in_more_groups_says_so_in_its_document_and_in_no_more_than_may_be() {
        let mut spec = good("role");
        spec.as_object_mut().unwrap().insert("groups".into(), json!(["a"]));
        let known = Known::<Identity>::new(identity(1, spec), None).in_force.unwrap();
        let more = known.in_groups(&["b".into(), "a".into(), "b".into()]).unwrap();
        assert_eq!(more.checked.groups, ["a", "b"]);
        assert_eq!(more.document().pointer("/spec/groups"), Some(&json!(["a", "b"])));
        assert_ne!(more.content(), known.content());
        assert_eq!(known.in_groups(&[]).unwrap().content(), known.content());
        let many: Vec<String> = (0..MAX_GROUPS).map(|at| at.to_string()).collect();
        assert!(known.in_groups(&many).unwrap_err().contains("65 groups"));
    }

    #[test]
    fn an_identity_is_its_service_accounts_only() {
        let known = Known::<Identity>::new(identity(1, good("role")), None).in_force.unwrap();
        assert!(known.is_of("report") && !known.is_of("default"));
    }
}
