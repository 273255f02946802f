//! What is in a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_crds::lease::{DOCUMENTS, EPHEMERAL_ROLE, Lease, LeaseSubject, SecretEntry};
use postern_crds::{CheckedPolicy, Credentials, MaskKind};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::rights::{Bearer, Origin, Right};
use crate::secrets::SecretData;

/// The secrets that a sidecar gets of a policy, each with the keys that it names of it. Who makes roles is not for it. Out
/// of the cluster goes only what the database is verified by, whatever else the policy may name.
pub(super) fn named<'a>(policy: &'a CheckedPolicy, origin: &Origin) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    if let Some((secret, key)) = &policy.database.ca_secret {
        named.entry(secret).or_default().insert(key);
    }
    if matches!(origin, Origin::Outside { .. }) {
        return named;
    }
    if let Credentials::Secret(secret) = &policy.database.credentials {
        named.entry(secret).or_default().extend(["username", "password"]);
    }
    let keys = policy.masks.iter().filter_map(|mask| match &mask.kind {
        MaskKind::Hash { key_secret } => Some(key_secret),
        _ => None,
    });
    for (secret, key) in keys {
        named.entry(secret).or_default().insert(key);
    }
    named
}

/// What a lease is made of.
pub(super) struct Parts<'a> {
    pub(super) id: &'a str,
    pub(super) bearer: &'a Bearer,
    pub(super) right: &'a Right,
    pub(super) secrets: &'a BTreeMap<String, Arc<SecretData>>,
    pub(super) broker_ca: String,
    /// The role that was made for the sidecar.
    pub(super) role: Option<String>,
    /// Seconds from now.
    pub(super) expires_in: u64,
}

/// The lease.
pub(super) fn lease(parts: Parts<'_>) -> Lease {
    let Parts { id, bearer, right, secrets, broker_ca, role, expires_in } = parts;
    let requires: Vec<_> = [DOCUMENTS].into_iter().chain(role.as_ref().map(|_| EPHEMERAL_ROLE)).collect();
    let named = named(&right.policy.checked, &bearer.origin);
    let entries = named.iter().flat_map(|(name, keys)| {
        let values = secrets.get(*name).map(|secret| &secret.values);
        keys.iter().filter_map(move |key| Some((*name, *key, values?.get(*key)?)))
    });
    let entries = entries.map(|(name, key, value)| SecretEntry {
        secret: name.to_owned(),
        key: key.to_owned(),
        value: value.clone(),
    });
    let subject = LeaseSubject {
        issuer: bearer.issuer.clone(),
        subject: bearer.subject.clone(),
        token_id: bearer.token_id.clone(),
        namespace: bearer.namespace.clone(),
        pod: bearer.pod().map(|pod| pod.pod.clone()),
        node: bearer.pod().and_then(|pod| pod.node.clone()),
        owner: right.owner.clone(),
        claims: right.pinned.clone(),
    };
    Lease {
        id: id.to_owned(),
        version: version(right, secrets, &requires, &subject, &broker_ca),
        requires: requires.into_iter().map(str::to_owned).collect(),
        expires_in,
        outage_grace: right.identity.checked.outage_grace.as_secs(),
        policy: right.policy.document(),
        identity: right.identity.document(),
        secrets: entries.collect(),
        role,
        subject,
        broker_ca,
    }
}

/// Another one for another content. Secrets are in it by their versions: a version is logged, and must not let anybody
/// try passwords on it. The token's id isn't in it: the kubelet replaces the token while nothing else changes.
fn version(
    right: &Right,
    secrets: &BTreeMap<String, Arc<SecretData>>,
    requires: &[&str],
    subject: &LeaseSubject,
    broker_ca: &str,
) -> String {
    let secrets: BTreeMap<&String, &String> = secrets.iter().map(|(name, secret)| (name, &secret.version)).collect();
    let subject = LeaseSubject { token_id: None, ..subject.clone() };
    let content = json!([requires, right.policy.content(), right.identity.content(), secrets, subject, broker_ca]);
    let digest = Sha256::digest(content.to_string());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::Value;
    use zeroize::Zeroizing;

    use super::*;
    use crate::broker::access::tests::{access, outside_access};
    use crate::objects::{Compact, Identity, InForce, Kind, Policy};

    fn in_force<K: Kind>(spec: Value) -> Arc<InForce<K>> {
        Arc::new(InForce::read("shop", "orders", "u", 1, &Compact::from(&spec)).unwrap())
    }

    fn right(max_lease: &str) -> Right {
        Right {
            policy: in_force::<Policy>(json!({
                "database": {
                    "host": "pg", "name": "shop", "credentials": {"secret": {"name": "db"}},
                    "tls": {"mode": "VerifyFull", "caSecret": {"name": "ca", "key": "ca.crt"}},
                },
                "masks": [{"columns": ["*.*.email"], "mask": {"hash": {"keySecret": {"name": "db", "key": "salt"}}}}],
            })),
            identity: in_force::<Identity>(json!({
                "subjects": [{"serviceAccount": {"name": "report"}}], "postgresRole": "reporting", "maxLease": max_lease,
            })),
            owner: Some("Job/night-1".into()),
            pinned: BTreeMap::new(),
        }
    }

    fn secrets(version: &str, password: &str) -> BTreeMap<String, Arc<SecretData>> {
        let values = [("username", "u"), ("password", password), ("salt", "s"), ("other", "o")];
        let values = values.map(|(key, value)| (key.to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
        BTreeMap::from([("db".into(), Arc::new(SecretData { version: version.into(), values: values.into() }))])
    }

    fn made(right: &Right, secrets: &BTreeMap<String, Arc<SecretData>>, token_id: &str) -> Lease {
        let bearer = Bearer { token_id: Some(token_id.into()), ..access().bearer };
        let (broker_ca, role) = ("bundle".into(), None);
        lease(Parts { id: "id", bearer: &bearer, right, secrets, broker_ca, role, expires_in: 60 })
    }

    #[test]
    fn a_lease_has_the_keys_that_the_policy_names_and_no_others() {
        let lease = made(&right("1h"), &secrets("1", "p"), "t");
        let keys: Vec<_> = lease.secrets.iter().map(|entry| format!("{}/{}", entry.secret, entry.key)).collect();
        assert_eq!(
            keys,
            ["db/password", "db/salt", "db/username"],
            "a key that isn't there is for the sidecar to miss"
        );
        assert_eq!(lease.subject.owner.as_deref(), Some("Job/night-1"));
        assert_eq!((lease.expires_in, lease.broker_ca.as_str()), (60, "bundle"));
    }

    #[test]
    fn a_lease_out_of_the_cluster_has_no_secret_but_what_the_database_is_verified_by() {
        let secrets = BTreeMap::from_iter(secrets("1", "p").into_iter().chain([(
            "ca".into(),
            Arc::new(SecretData {
                version: "1".into(),
                values: [("ca.crt".into(), Zeroizing::new(b"c".to_vec()))].into(),
            }),
        )]));
        let (bearer, right) = (outside_access().bearer, right("1h"));
        let (broker_ca, role) = ("bundle".into(), Some("postern_1".into()));
        let parts =
            Parts { id: "id", bearer: &bearer, right: &right, secrets: &secrets, broker_ca, role, expires_in: 60 };
        let lease = lease(parts);
        let keys: Vec<_> = lease.secrets.iter().map(|entry| format!("{}/{}", entry.secret, entry.key)).collect();
        assert_eq!(keys, ["ca/ca.crt"], "though the policy names a password and the key of a mask");
        assert_eq!((lease.subject.pod, lease.subject.subject.as_str()), (None, "ci"));
    }

    #[test]
    fn a_version_is_of_the_content_and_tells_nothing_of_secrets() {
        let version = |right: &Right, secrets: &BTreeMap<_, _>, token: &str| made(right, secrets, token).version;
        let first = version(&right("1h"), &secrets("1", "p"), "t");
        assert_eq!(version(&right("1h"), &secrets("1", "p"), "t"), first);
        assert_eq!(version(&right("1h"), &secrets("1", "p"), "another token"), first);
        assert_eq!(
            version(&right("1h"), &secrets("1", "guess"), "t"),
            first,
            "no guess at a password can be tried on it"
        );
        assert_ne!(version(&right("1h"), &secrets("2", "p"), "t"), first);
        assert_ne!(version(&right("2h"), &secrets("1", "p"), "t"), first);
    }
}
