//! The lease: what the broker gives to one sidecar, and the words that both use on the way there.
//!
//! A sidecar exchanges the pod's projected token for an access token (RFC 8693) that is bound to a key of its own (DPoP,
//! RFC 9449), and then asks for its lease. The lease holds the very documents and secrets that a sidecar without a
//! cluster reads from files, so that both run the same way from there on: the documents are read as strictly as files
//! are, and compiled again.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use zeroize::Zeroizing;

/// The audience that a pod's token must be issued for.
pub const AUDIENCE: &str = "postern.dev";
/// The longest that a pod's token may live, in seconds.
pub const MAX_TOKEN_LIFE: u64 = 3600;

/// Where tokens are exchanged: `POST`, a form.
pub const TOKEN_PATH: &str = "/oauth2/token";
/// Where leases are: `POST`, a [`LeaseRequest`]. Answered by a [`Lease`], or by 204 if nothing changed within the wait.
pub const LEASE_PATH: &str = "/v1/lease";
/// Where audit events are taken in: `POST`, one JSON object per line; `stream`, `first` and `acknowledged` in the query.
pub const AUDIT_PATH: &str = "/v1/audit";

/// `grant_type` of an exchange.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// `subject_token_type` of a pod's token.
pub const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
/// `issued_token_type` of what the broker issues.
pub const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// `typ` of a DPoP proof's header.
pub const DPOP_TYPE: &str = "dpop+jwt";
/// How far from the broker's clock a proof's may be, in seconds.
pub const DPOP_WINDOW: u64 = 60;

/// The longest that the broker holds a long poll, in seconds; what it answers then is the heartbeat.
pub const MAX_WAIT: u64 = 8;
/// Largest body of a batch of audit events; a sidecar's batches are far smaller, unless a single event isn't.
pub const MAX_BATCH: usize = 48 << 20;

/// What every lease requires of a sidecar: to read its documents.
pub const DOCUMENTS: &str = "documents/v1alpha1";
/// What one requires that logs in as a role made for it.
pub const EPHEMERAL_ROLE: &str = "ephemeral-role/v1";
/// What a sidecar of this version knows; a lease that requires anything else is refused.
pub const FEATURES: &[&str] = &[DOCUMENTS, EPHEMERAL_ROLE];

/// The policy that a sidecar asks for, written `postern:<namespace>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Namespace of the policy, and of the pod.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postern:{}/{}", self.namespace, self.name)
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text
            .strip_prefix("postern:")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(namespace, name)| {
                crate::compile::is_object_name(namespace) && crate::compile::is_object_name(name)
            })
            .ok_or_else(|| format!("'{text}' is not postern:NAMESPACE/POLICY"))?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// The answer to an exchange that is granted.
#[derive(Serialize, Deserialize)]
pub struct TokenResponse {
    /// The access token.
    pub access_token: String,
    /// [`ACCESS_TOKEN_TYPE`].
    pub issued_token_type: String,
    /// `DPoP`.
    pub token_type: String,
    /// How long the token is good for, in seconds.
    pub expires_in: u64,
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Why the broker does not do as asked (RFC 6749 §5.2, RFC 6750 §3.1, RFC 8693 §2.2.2, RFC 9449 §7.1). The reference
/// shows of each what it means and, in a second paragraph, what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not one.
    ///
    /// Bring operator and sidecar to versions that fit; the sidecar's own requests are well-formed.
    InvalidRequest,
    /// The token is not good, or its pod is not.
    ///
    /// The description says what is wrong: a token that is over, of another audience, or of an issuer that is not on the
    /// chart's list (`issuers`), a pod that is gone or is not as the webhook made it, or a request from an address that is
    /// not the pod's (`broker.verifySourceAddress`).
    InvalidGrant,
    /// No identity, or more than one, is the pod's or the token's; or one from outside of the cluster asks for a policy
    /// that it can't have.
    ///
    /// Let exactly one NonHumanIdentity of the namespace name the pod's service account, or pin claims of the token, and
    /// let the policy have a rule for it. From outside, only policies with `credentials.ephemeralRole` that has no
    /// `memberOf`, and without `hash` masks, can be had.
    UnauthorizedClient,
    /// The policy isn't there.
    ///
    /// Make the policy that the pod's annotation names, in the pod's namespace, and look at its condition `Ready`.
    InvalidTarget,
    /// Another grant than an exchange.
    ///
    /// Use the sidecar: the broker does no other exchange.
    UnsupportedGrantType,
    /// The DPoP proof is not good.
    ///
    /// Compare the clocks of the nodes: a proof is good for a short time, and once.
    InvalidDpopProof,
    /// The access token is not good, or no more; or the pod's token is out of its time.
    ///
    /// Nothing: the sidecar exchanges the pod's token again, and the kubelet replaces that. Where it stays, see whether the kubelet
    /// reaches the API server, and compare the clocks.
    InvalidToken,
    /// Too many requests from this address.
    ///
    /// Nothing: the sidecar waits and asks again. Where it stays, see what else asks from this address.
    SlowDown,
    /// Not now: what the broker needs is away.
    ///
    /// Look into the operator's log: the API server, or the Secret with the database's credential, could not be read.
    TemporarilyUnavailable,
    /// One that this version doesn't know.
    #[serde(other)]
    ///
    /// Bring operator and sidecar to versions that fit.
    Unknown,
}

impl ErrorCode {
    /// Whether the right itself is denied. It then ends at once, also for who has a lease; anything else is a trouble
    /// that may pass.
    pub const fn is_refusal(self) -> bool {
        matches!(self, ErrorCode::InvalidGrant | ErrorCode::UnauthorizedClient | ErrorCode::InvalidTarget)
    }
}

/// The body of an answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What kind.
    pub error: ErrorCode,
    /// Why, for people.
    #[serde(default)]
    pub error_description: String,
}

/// The claims of a DPoP proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DpopClaims {
    /// Its id; good for one request.
    pub jti: String,
    /// Method of the request.
    pub htm: String,
    /// Its URL, without query.
    pub htu: String,
    /// When it was made.
    pub iat: u64,
    /// SHA-256 of the access token that it goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ath: Option<String>,
}

/// A sidecar asks for its lease, as a long poll, and says how it fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The version of the lease that the sidecar has; None: it has none, and gets one at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long to wait for another version, in seconds; never longer than [`MAX_WAIT`].
    #[serde(default)]
    pub wait: u64,
    /// The SCRAM-SHA-256 verifier of the password that a role made for this sidecar is to have, see [`is_verifier`]: the
    /// password itself never leaves the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<String>,
    /// How it fares.
    #[serde(default)]
    pub report: Report,
}

/// Whether the text is a SCRAM-SHA-256 verifier as Postgres keeps it (`pg_authid.rolpassword`), and nothing else: it
/// becomes part of a statement.
pub fn is_verifier(text: &str) -> bool {
    let decodes = |text: &str, least: usize, most: usize| {
        BASE64.decode(text).is_ok_and(|bytes| (least..=most).contains(&bytes.len()))
    };
    let parts = || {
        let (rounds, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        Some((rounds.parse::<u32>().ok()?, salt, keys.split_once(':')?))
    };
    parts().is_some_and(|(rounds, salt, (stored, server))| {
        // Many rounds would keep whoever logs in busy.
        (4096..=100_000).contains(&rounds) && decodes(salt, 8, 64) && decodes(stored, 32, 32) && decodes(server, 32, 32)
    })
}

/// How a sidecar fares, for the policy's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its own version.
    #[serde(default)]
    pub sidecar: String,
    /// Sessions that are open.
    #[serde(default)]
    pub sessions: u32,
    /// What of the policy does not bind to the database; None: it was not tried yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbound: Option<Vec<Unbound>>,
    /// Why the newest lease can't be used; None: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

/// A part of a policy that does not bind: what it is about is closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Unbound {
    /// The field, such as `spec.masks[0].columns[1]`.
    pub path: String,
    /// Why.
    pub message: String,
}

/// What a sidecar serves under, and until when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: String,
    /// What is in it: the same for the same content, whichever replica of the broker answers.
    pub version: String,
    /// What a sidecar must know to serve under it, see [`FEATURES`].
    pub requires: Vec<String>,
    /// How long it holds from now, in seconds.
    pub expires_in: u64,
    /// How much longer it holds while no broker can be reached, in seconds.
    pub outage_grace: u64,
    /// The `DatabaseAccessPolicy` in force.
    pub policy: Value,
    /// The `NonHumanIdentity` that the pod has.
    pub identity: Value,
    /// The keys of secrets that the policy names, and no others.
    pub secrets: Vec<SecretEntry>,
    /// The role that was made for this sidecar, which it logs in as with the password whose verifier it sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Who asks, as the token proved it.
    pub subject: LeaseSubject,
    /// The bundle (PEM) to verify the broker with from now on.
    pub broker_ca: String,
}

impl Lease {
    /// What it requires and this version doesn't know.
    pub fn unknown_features(&self) -> Vec<&str> {
        self.requires.iter().map(String::as_str).filter(|feature| !FEATURES.contains(feature)).collect()
    }
}

/// Who asks, as the token proved it: a pod, or whoever an issuer outside of the cluster says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSubject {
    /// The token's issuer.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Namespace of pod and identity.
    pub namespace: String,
    /// The pod; None outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What owns it, such as `Job/nightly-report-29381`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The claims of the token that the identity pins, outside of the cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// One key of a Secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretEntry {
    /// The Secret.
    pub secret: String,
    /// The key.
    pub key: String,
    /// What it holds.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SecretEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretEntry({}/{})", self.secret, self.key)
    }
}

fn to_base64<S: Serializer>(value: &Zeroizing<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&Zeroizing::new(BASE64.encode(value)))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    BASE64.decode(text.as_bytes()).map(Zeroizing::new).map_err(serde::de::Error::custom)
}

/// The answer to a batch of audit events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAck {
    /// Every event of the stream up to this number is kept.
    pub acknowledged: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::api::NonHumanIdentitySpec;
    use crate::files::{self, Object};

    fn lease() -> Lease {
        Lease {
            id: "l".into(),
            version: "v".into(),
            requires: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            expires_in: 60,
            outage_grace: 0,
            policy: Value::Null,
            identity: Value::Null,
            secrets: vec![SecretEntry {
                secret: "db".into(),
                key: "password".into(),
                value: Zeroizing::new(b"hush\xff".to_vec()),
            }],
            role: Some("postern_r".into()),
            subject: LeaseSubject::default(),
            broker_ca: String::new(),
        }
    }

    #[test]
    fn a_verifier_is_what_postgres_keeps_and_no_other_text() {
        let (salt, key) = (BASE64.encode([1; 16]), BASE64.encode([2; 32]));
        let verifier = |rounds: &str, salt: &str, stored: &str, server: &str| {
            format!("SCRAM-SHA-256${rounds}:{salt}${stored}:{server}")
        };
        assert!(is_verifier(&verifier("4096", &salt, &key, &key)));
        for wrong in [
            String::new(),
            "hunter2".into(),
            "md5d41d8cd98f00b204e9800998ecf8427e".into(),
            verifier("1", &salt, &key, &key),
            verifier("4000000000", &salt, &key, &key),
            verifier("4096", "", &key, &key),
            verifier("4096", &salt, &salt, &key),
            verifier("4096", &salt, &key, &format!("{key}' SUPERUSER --")),
            verifier("4096", &format!("{salt}'"), &key, &key),
        ] {
            assert!(!is_verifier(&wrong), "{wrong}");
        }
    }

    #[test]
    fn a_lease_passes_the_wire_unchanged_and_never_shows_its_secrets() {
        let lease = lease();
        let text = serde_json::to_string(&lease).unwrap();
        assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
        assert!(!format!("{lease:?}").contains("hush") && !format!("{lease:?}").contains("104"));
    }

    #[test]
    fn what_other_versions_sent_is_understood_and_what_nobody_knows_yet_is_passed_over() {
        for text in [include_str!("../recorded/lease-0.1.0.json"), include_str!("../recorded/lease-next.json")] {
            let lease: Lease = serde_json::from_str(text).unwrap();
            assert!(lease.unknown_features().is_empty());
            assert_eq!((lease.expires_in, lease.subject.pod.as_deref()), (3540, Some("report-5d4f9-x7k2p")));
            assert_eq!(lease.secrets.first().unwrap().value.as_slice(), b"hush");
            for document in [lease.policy, lease.identity] {
                files::read_value(document).unwrap();
            }
        }
        for (text, version) in [
            (include_str!("../recorded/request-0.1.0.json"), "0.1.0"),
            (include_str!("../recorded/request-next.json"), "0.2.0"),
        ] {
            let request: LeaseRequest = serde_json::from_str(text).unwrap();
            assert_eq!((request.wait, request.report.sidecar.as_str()), (MAX_WAIT, version));
            assert_eq!(request.report.unbound.unwrap().first().unwrap().path, "spec.masks[0].columns[0]");
        }
    }

    #[test]
    fn the_documents_of_a_lease_are_read_as_strictly_as_files() {
        let spec = NonHumanIdentitySpec { postgres_role: "reporting".into(), ..Default::default() };
        let mut document = files::document(files::IDENTITY, "shop", "report", &spec).unwrap();
        let Object::Identity(read) = files::read_value(document.clone()).unwrap() else { unreachable!() };
        assert_eq!((read.namespace.as_str(), read.name.as_str(), &read.spec), ("shop", "report", &spec));

        document.pointer_mut("/spec").unwrap().as_object_mut().unwrap().insert("powers".into(), "all".into());
        let errors = files::read_value(document).unwrap_err();
        assert!(errors.iter().any(|error| error.to_string().contains("powers")), "{errors:?}");
    }

    #[test]
    fn a_feature_that_is_not_known_is_named() {
        let mut lease = lease();
        assert!(lease.unknown_features().is_empty());
        lease.requires.push("time-travel/v2".into());
        assert_eq!(lease.unknown_features(), ["time-travel/v2"]);
    }

    #[test]
    fn a_resource_names_one_policy_of_one_namespace() {
        let resource: Resource = "postern:shop/orders".parse().unwrap();
        assert_eq!((resource.namespace.as_str(), resource.name.as_str()), ("shop", "orders"));
        assert_eq!(resource.to_string(), "postern:shop/orders");
        for wrong in
            ["shop/orders", "postern:orders", "postern:/orders", "postern:shop/", "postern:shop/a/b", "postern:a b/c"]
        {
            assert!(wrong.parse::<Resource>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_denied_right_is_a_refusal() {
        for (code, refusal) in [
            ("invalid_grant", true),
            ("unauthorized_client", true),
            ("invalid_target", true),
            ("temporarily_unavailable", false),
            ("invalid_dpop_proof", false),
            ("invalid_token", false),
            ("slow_down", false),
            ("something_of_tomorrow", false),
        ] {
            let error: ErrorResponse = serde_json::from_value(serde_json::json!({"error": code})).unwrap();
            assert_eq!(error.error.is_refusal(), refusal, "{code}");
        }
    }
}
