//! The access token: what an exchange gives, and what later requests are believed by.

use std::collections::BTreeMap;

use postern_crds::lease::Resource;
use serde::{Deserialize, Serialize};

use super::rights::Bearer;

/// `aud` of an access token.
pub(super) const AUDIENCE: &str = "postern-broker";
/// The longest that one lives, in seconds.
const MAX_LIFE: u64 = 600;

/// The claims of an access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) aud: String,
    /// When it was issued: a lease counts from here.
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) jti: String,
    pub(super) cnf: Confirmation,
    /// The policy; it is of the bearer's namespace.
    pub(super) policy: String,
    /// The identity that was proven then.
    pub(super) identity: String,
    /// The claims by which it was, outside of the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) pinned: BTreeMap<String, String>,
    pub(super) bearer: Bearer,
}

/// The key that it is bound to (RFC 9449 §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmation {
    pub(super) jkt: String,
}

impl Access {
    /// The policy.
    pub(super) fn resource(&self) -> Resource {
        Resource { namespace: self.bearer.namespace.clone(), name: self.policy.clone() }
    }

    /// What tells its sidecar from others, also after a restart where there is something that outlives one.
    pub(super) fn holder(&self) -> &str {
        self.bearer.pod().map_or(&self.cnf.jkt, |pod| &pod.pod_uid)
    }

    /// How long its lease still holds, in seconds: leases count from the exchange. The replica that made that may have another
    /// clock; a lease gets no longer by it.
    pub(super) fn lease_left(&self, max_lease: u64, now: u64) -> u64 {
        self.iat.saturating_add(max_lease).saturating_sub(now).min(max_lease)
    }
}

/// How long an access token lives, in seconds: never longer than the token that buys it, nor than a lease.
pub(super) fn life(token_expires: u64, max_lease: u64, now: u64) -> u64 {
    token_expires.saturating_sub(now).min(max_lease).min(MAX_LIFE)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::{Value, json};

    use super::super::rights::{Origin, PodOrigin};
    use super::*;

    /// One as an exchange gives it.
    pub(in crate::broker) fn access() -> Access {
        Access {
            aud: AUDIENCE.into(),
            iat: 1000,
            exp: 1600,
            jti: "id".into(),
            cnf: Confirmation { jkt: "key".into() },
            policy: "orders".into(),
            identity: "report".into(),
            bearer: Bearer {
                issuer: "https://kubernetes.default.svc".into(),
                subject: "system:serviceaccount:shop:report".into(),
                token_id: Some("t".into()),
                namespace: "shop".into(),
                origin: Origin::Pod(PodOrigin {
                    service_account: "report".into(),
                    pod: "report-1".into(),
                    pod_uid: "p".into(),
                    node: Some("n1".into()),
                }),
            },
            pinned: BTreeMap::new(),
        }
    }

    /// One of somebody outside.
    pub(in crate::broker) fn outside_access() -> Access {
        let outside = json!({"audiences": ["postern/shop"], "claims": {"sub": "ci", "ref": "main"}, "groups": {}});
        let mut access = access();
        access.bearer.issuer = "https://idp.example".into();
        access.bearer.subject = "ci".into();
        access.bearer.origin = serde_json::from_value(json!({"outside": outside})).unwrap();
        access.pinned = BTreeMap::from([("ref".into(), "main".into())]);
        access
    }

    #[test]
    fn what_is_signed_says_who_it_is_about_and_reads_back() {
        for access in [access(), outside_access()] {
            let text = serde_json::to_string(&access).unwrap();
            assert_eq!(serde_json::from_str::<Access>(&text).unwrap(), access);
        }
        let pod: Value = serde_json::to_value(access()).unwrap();
        assert_eq!((&pod["bearer"]["pod_uid"], pod.get("pinned")), (&json!("p"), None));
        assert_eq!((access().holder(), outside_access().holder()), ("p", "key"));
    }

    #[test]
    fn an_access_token_outlives_neither_the_pods_token_nor_the_lease() {
        for (token_expires, max_lease, wanted) in [(4600, 3600, 600), (1300, 3600, 300), (4600, 60, 60), (900, 60, 0)] {
            assert_eq!(life(token_expires, max_lease, 1000), wanted);
        }
    }

    #[test]
    fn a_lease_counts_from_the_exchange() {
        for (max_lease, now, wanted) in [
            (3600, 1000, 3600),
            (3600, 1500, 3100),
            (3600, 700, 3600),
            (60, 1500, 0),
            (u64::MAX, 1000, u64::MAX - 1000),
        ] {
            assert_eq!(access().lease_left(max_lease, now), wanted);
        }
    }
}
