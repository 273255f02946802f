//! What a role is called, and what its comment says of it: by both a role is known again. Pure.
//!
//! A name holds the cluster and the policy, so that two clusters, or two policies, that share a server never mistake each
//! other's roles for theirs; the comment has them in full.

use postern_crds::CheckedIdentity;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of the cluster's and the policy's UID in a name.
const UID_DIGITS: usize = 12;
/// Of what tells the roles of a policy apart.
const OWN_DIGITS: usize = 20;

/// Whose roles: of a cluster and a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Owner {
    /// UID of the cluster: of its namespace `kube-system`.
    pub(super) cluster: String,
    /// UID of the policy.
    pub(super) policy: String,
}

/// What the comment of a role says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Comment {
    /// Whose it is.
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// Namespace of policy and identity.
    pub(super) namespace: String,
    /// The identity.
    pub(super) identity: String,
    /// Who holds it, such as `system:serviceaccount:shop:report`; None for a role that holds GRANTs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// The pod, if one holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<String>,
}

impl Owner {
    /// With what the names of its roles begin.
    pub(super) fn prefix(&self) -> String {
        format!("postern_{}_{}_", digits(&self.cluster), digits(&self.policy))
    }

    /// The role of one sidecar, which is known by its key.
    pub(super) fn role(&self, thumbprint: &str) -> String {
        format!("{}{}", self.prefix(), hash(&[thumbprint], OWN_DIGITS))
    }

    /// The role that holds the GRANTs of an identity, as it is in these groups.
    pub(super) fn holder(&self, uid: &str, identity: &CheckedIdentity) -> String {
        let mut groups: Vec<&str> = identity.groups.iter().map(String::as_str).collect();
        groups.sort_unstable();
        let parts: Vec<&str> = [uid].into_iter().chain(groups).collect();
        format!("{}g{}", self.prefix(), hash(&parts, OWN_DIGITS))
    }

    /// Whether a role has the name of one that holds GRANTs of this policy.
    pub(super) fn is_holder(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix()).is_some_and(|own| own.starts_with('g'))
    }

    /// The role that owns what others made that are gone.
    pub(super) fn heir(&self) -> String {
        format!("{}left", self.prefix())
    }
}

/// The first digits of a UID; of another text its hash.
fn digits(uid: &str) -> String {
    let plain: String = uid.chars().filter(char::is_ascii_hexdigit).take(UID_DIGITS).collect();
    if plain.len() == UID_DIGITS { plain.to_ascii_lowercase() } else { hash(&[uid], UID_DIGITS) }
}

fn hash(parts: &[&str], length: usize) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().flat_map(|byte| [byte >> 4, byte & 15]).take(length).map(|it| format!("{it:x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn owner(cluster: &str, policy: &str) -> Owner {
        Owner { cluster: cluster.into(), policy: policy.into() }
    }

    #[test]
    fn names_differ_by_cluster_policy_and_key_and_fit_into_postgres() {
        let (one, two) = ("1f0c2d3e-4a5b-4c6d-8e7f-000000000001", "2f0c2d3e-4a5b-4c6d-8e7f-000000000001");
        let name = owner(one, two).role("key");
        assert!(name.starts_with("postern_1f0c2d3e4a5b_2f0c2d3e4a5b_"), "{name}");
        assert!(name.len() <= 63 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        assert_eq!(owner(one, two).role("key"), name);
        for other in [owner(two, two).role("key"), owner(one, one).role("key"), owner(one, two).role("other")] {
            assert_ne!(other, name);
        }
    }

    #[test]
    fn grants_are_of_an_identity_in_its_groups_in_any_order() {
        let identity = |groups: &[&str]| CheckedIdentity {
            namespace: "shop".into(),
            name: "report".into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            postgres_role: "reporting".into(),
            max_lease: Duration::from_secs(60),
            outage_grace: Duration::ZERO,
        };
        let owner = owner("c", "p");
        assert_eq!(owner.holder("u", &identity(&["a", "b"])), owner.holder("u", &identity(&["b", "a"])));
        assert_ne!(owner.holder("u", &identity(&["a", "b"])), owner.holder("u", &identity(&["ab"])));
        assert_ne!(owner.holder("u", &identity(&[])), owner.holder("v", &identity(&[])));
        assert!(owner.holder("u", &identity(&[])).len() <= 63);
        assert!(owner.is_holder(&owner.holder("u", &identity(&[]))));
        for other in
            [owner.role("key"), owner.heir(), self::owner("c", "q").holder("u", &identity(&[])), "owner".into()]
        {
            assert!(!owner.is_holder(&other), "{other}");
        }
    }
}
