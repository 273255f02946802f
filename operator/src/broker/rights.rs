//! Whether somebody has the right to a lease of a policy: the last part of the checks, and the one that is asked again for
//! as long as he has the lease. Pure: what is known is given.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use postern_crds::lease::{ErrorCode, Resource};
use postern_crds::{Credentials, MaskKind, issuers};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Problem;
use super::outside::{Fit, Outside};
use crate::injection::{Genuine, asked_of, may_reach, verify};
use crate::objects::{Identity, InForce, Known, Policy};
use crate::pods;

/// Who asks, as the token proved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearer {
    /// The token's issuer.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Namespace of policy and identity, and of a pod.
    pub namespace: String,
    /// What of it rights hang on.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where who asks is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// In a pod of the cluster.
    Pod(PodOrigin),
    /// Outside of it.
    Outside {
        /// What the token says.
        outside: Outside,
    },
}

/// A pod, as its token names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodOrigin {
    /// The service account.
    pub service_account: String,
    /// The pod.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Bearer {
    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&PodOrigin> {
        match &self.origin {
            Origin::Pod(pod) => Some(pod),
            Origin::Outside { .. } => None,
        }
    }

    /// Who it is, for people.
    pub fn who(&self) -> String {
        match &self.origin {
            Origin::Pod(pod) => format!("pod {}", pod.pod),
            Origin::Outside { .. } => format!("{} of {}", self.subject, self.issuer),
        }
    }
}

/// What somebody has a right to.
#[derive(Clone, Debug)]
pub(super) struct Right {
    pub(super) policy: Arc<InForce<Policy>>,
    /// In the groups of the token, too.
    pub(super) identity: Arc<InForce<Identity>>,
    /// What owns the pod, such as `Job/nightly-report-29381`.
    pub(super) owner: Option<String>,
    /// The claims by which a token of outside proves the identity.
    pub(super) pinned: BTreeMap<String, String>,
}

/// Whether a live pod is what an injection made for this policy, and asks from where it is.
pub(super) fn is_its_sidecar(
    namespace: &str,
    origin: &PodOrigin,
    resource: &Resource,
    pod: &Value,
    genuine: Genuine<'_>,
    source: Option<IpAddr>,
) -> Result<(), Problem> {
    if pod.pointer("/metadata/uid").and_then(Value::as_str) != Some(&origin.pod_uid) {
        return Err(Problem::grant("the token's pod is gone"));
    }
    // No container of such a pod runs any more, and its address may be another's.
    if pods::has_ended(pod) {
        return Err(Problem::grant("the token's pod has ended"));
    }
    verify(namespace, pod, genuine).map_err(|why| Problem::grant(format!("the pod is not as it was made: {why}")))?;
    if resource.namespace != namespace {
        return Err(Problem::new(ErrorCode::InvalidTarget, "the policy is of another namespace than the pod"));
    }
    if !asked_of(pod).contains(&resource.name.as_str()) {
        return Err(Problem::new(ErrorCode::InvalidTarget, "the pod asks for another policy"));
    }
    let Some(source) = source else { return Ok(()) };
    let addresses: Vec<IpAddr> = addresses(pod).collect();
    if addresses.is_empty() {
        return Err(Problem::later("the pod's address is not known yet"));
    }
    if !addresses.contains(&source.to_canonical()) {
        return Err(Problem::grant("the request does not come from the pod's address"));
    }
    Ok(())
}

fn addresses(pod: &Value) -> impl Iterator<Item = IpAddr> {
    let all = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|one| one.get("ip")?.as_str()?.parse().ok())
}

/// What is in force of a policy.
fn in_force(resource: &Resource, policy: Option<&Known<Policy>>) -> Result<Arc<InForce<Policy>>, Problem> {
    let target = |why: String| Problem::new(ErrorCode::InvalidTarget, why);
    let known = policy.ok_or_else(|| target(format!("there is no policy {}", resource.name)))?;
    known.in_force.clone().ok_or_else(|| target(format!("nothing of policy {} is in force", resource.name)))
}

fn client(why: String) -> Problem {
    Problem::new(ErrorCode::UnauthorizedClient, why)
}

fn names(identities: &[Arc<InForce<Identity>>]) -> String {
    identities.iter().map(|identity| identity.checked.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The policy in force, for a server that the pod may be led to, and the one identity of the pod.
pub(super) fn of_pod(
    resource: &Resource,
    policy: Option<&Known<Policy>>,
    identities: &[Arc<InForce<Identity>>],
    service_account: &str,
    pod: &Value,
) -> Result<Right, Problem> {
    let policy = in_force(resource, policy)?;
    let identity = match identities {
        [only] => Arc::clone(only),
        [] => return Err(client(format!("no identity has the service account {service_account}"))),
        several => {
            let names = names(several);
            return Err(client(format!("several identities have the service account {service_account}: {names}")));
        }
    };
    if let Some(role) = policy.checked.database.credentials.ephemeral().and_then(|it| it.member_of.as_ref())
        && *role != identity.checked.postgres_role
    {
        let name = &identity.checked.name;
        return Err(client(format!(
            "policy {} has memberOf: {role}, and postgresRole of {name} is another",
            resource.name
        )));
    }
    may_reach(&policy.asked_by(&identity), pod)
        .map_err(|why| Problem::new(ErrorCode::InvalidTarget, why.to_string()))?;
    Ok(Right { policy, identity, owner: owner(pod), pinned: BTreeMap::new() })
}

/// The one identity of a namespace that a token of this issuer proves. What is told is the token's own: never what
/// identities pin.
pub(super) fn proven(
    issuer: &str,
    outside: &Outside,
    namespace: &str,
    identities: &[Arc<InForce<Identity>>],
) -> Result<Arc<InForce<Identity>>, Problem> {
    let fit = |identity: &InForce<Identity>| {
        let subjects = identity.spec.subjects.iter().filter_map(|subject| subject.oidc.as_ref());
        subjects.map(|subject| outside.fits(issuer, subject, namespace)).max().unwrap_or(Fit::No)
    };
    let with = |wanted: Fit| identities.iter().filter(move |identity| fit(identity) == wanted).cloned();
    match with(Fit::Proves).collect::<Vec<_>>().as_slice() {
        [only] => Ok(Arc::clone(only)),
        [] if with(Fit::AnotherAudience).next().is_some() => Err(Problem::grant(format!(
            "the token is for the audience {}, and the identity takes {}, unless its subject says another",
            outside.audiences(),
            issuers::audience(namespace)
        ))),
        [] => Err(client(format!(
            "no identity in {namespace} pins these claims: {}; or it pins others beside, that the token does not have",
            outside.telling(issuer)
        ))),
        several => Err(client(format!("several identities pin claims of this token: {}", names(several)))),
    }
}

/// What a token of outside gives a right to: the policy, if nothing of it has to be kept from whoever has the sidecar in
/// hand, and the identity that the token proves, in the groups that it says.
///
/// A sidecar that runs beside its client on a machine of somebody else's is no boundary: so it gets neither a password that
/// others have too, nor the key of a `hash` mask, by which values could be guessed. A policy with such a mask is refused,
/// also where the identity is exempt from it: there is none without that key to serve by.
pub(super) fn of_outside(
    bearer: &Bearer,
    outside: &Outside,
    resource: &Resource,
    policy: Option<&Known<Policy>>,
    identity: &InForce<Identity>,
) -> Result<Right, Problem> {
    let policy = in_force(resource, policy)?;
    let name = &resource.name;
    match &policy.checked.database.credentials {
        Credentials::Ephemeral(role) if role.member_of.is_none() => {}
        Credentials::Ephemeral(_) => {
            return Err(client(format!(
                "policy {name} has memberOf, whose role may do more than the policy: from outside of the cluster there \
                 has to be a policy with credentials.ephemeralRole without it"
            )));
        }
        Credentials::Secret(_) => {
            return Err(client(format!(
                "policy {name} has a password that others have too: from outside of the cluster there has to be a policy \
                 with credentials.ephemeralRole"
            )));
        }
    }
    if policy.checked.masks.iter().any(|mask| matches!(mask.kind, MaskKind::Hash { .. })) {
        return Err(client(format!(
            "policy {name} has a hash mask, whose key must not leave the cluster: from outside of it there has to be a \
             policy with another mask in its place"
        )));
    }
    let subjects = identity.spec.subjects.iter().filter_map(|subject| subject.oidc.as_ref());
    let proving = subjects.filter(|it| outside.fits(&bearer.issuer, it, &bearer.namespace) == Fit::Proves);
    let (mut groups, mut pinned) = (Vec::new(), BTreeMap::new());
    for subject in proving {
        pinned.extend(subject.claims.clone());
        if let Some(claim) = &subject.groups_claim {
            let said = outside.groups(claim).ok_or_else(|| {
                Problem::new(
                    ErrorCode::InvalidToken,
                    "the identity has its groups by another claim now; exchange again",
                )
            })?;
            // Others make no difference, and who is in very many is not refused for them.
            groups.extend(said.iter().filter(|group| policy.checked.names_group(group)).cloned());
        }
    }
    let identity = identity.in_groups(&groups).map_err(|why| client(format!("the token's groups: {why}")))?;
    Ok(Right { policy, identity: Arc::new(identity), owner: None, pinned })
}

/// What owns a pod, such as `Job/nightly-report-29381`.
fn owner(pod: &Value) -> Option<String> {
    let owner = pods::controller(pod)?;
    Some(format!("{}/{}", owner.get("kind")?.as_str()?, owner.get("name")?.as_str()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::broker::access::tests::outside_access;
    use crate::objects::Compact;

    fn identity(name: &str, subjects: &Value) -> Arc<InForce<Identity>> {
        let spec = json!({"subjects": subjects, "groups": ["own"], "postgresRole": "reporting"});
        Arc::new(InForce::read("shop", name, "u", 1, &Compact::from(&spec)).unwrap())
    }

    fn policy() -> Known<Policy> {
        let spec = json!({
            "database": {"host": "pg", "name": "shop", "tls": {"mode": "Require"}, "credentials": {"ephemeralRole": {"adminSecret": {"name": "maker"}}}},
            "masks": [{"columns": ["*.*.email"], "mask": {"email": {}}, "exempt": {"groups": ["fraud"]}}],
            "rules": [{"name": "reads", "to": {"groups": ["reporting"]}, "allow": ["Select"], "relations": ["public.*"]}],
        });
        let metadata = json!({"name": "orders", "namespace": "shop", "uid": "p", "generation": 1});
        let object = json!({"apiVersion": "postern.dev/v1alpha1", "kind": "DatabaseAccessPolicy", "metadata": metadata, "spec": spec});
        let known = Known::new(serde_json::from_value(object).unwrap(), None);
        assert_eq!(known.mistakes, None);
        known
    }

    fn subject(claims: &Value, groups_claim: &str) -> Value {
        json!({"oidc": {"issuer": "https://idp.example", "claims": claims, "groupsClaim": groups_claim}})
    }

    /// A bearer whose token has these groups in its claim `teams`.
    fn bearer(teams: &[&str]) -> (Bearer, Outside) {
        let outside = json!({
            "audiences": ["postern/shop"], "claims": {"sub": "ci", "ref": "main", "team": "data"}, "groups": {"teams": teams},
        });
        let outside: Outside = serde_json::from_value(outside).unwrap();
        let bearer = Bearer { origin: Origin::Outside { outside: outside.clone() }, ..outside_access().bearer };
        (bearer, outside)
    }

    #[test]
    fn a_token_adds_the_groups_that_the_policy_names_and_each_subject_that_it_proves_says_which_claims_count() {
        let (bearer, outside) = bearer(&["fraud", "everybody", "reporting", "own", "\n"]);
        let subjects = json!([
            subject(&json!({"ref": "main"}), "teams"),
            subject(&json!({"team": "data"}), "teams"),
            subject(&json!({"ref": "other"}), "unseen"),
        ]);
        let (identity, policy) = (identity("ci", &subjects), policy());
        let resource = "postern:shop/orders".parse().unwrap();
        let right = of_outside(&bearer, &outside, &resource, Some(&policy), &identity).unwrap();
        assert_eq!(right.identity.checked.groups, ["own", "fraud", "reporting"]);
        let pinned = [("ref", "main"), ("team", "data")].map(|(claim, value)| (claim.to_owned(), value.to_owned()));
        assert_eq!(right.pinned, BTreeMap::from(pinned));
        // An identity that has its groups by another claim since: what is carried says nothing of that.
        let identity = self::identity("ci", &json!([subject(&json!({"ref": "main"}), "groups")]));
        let again = of_outside(&bearer, &outside, &resource, Some(&policy), &identity).unwrap_err();
        assert_eq!(again.code, ErrorCode::InvalidToken);
    }

    #[test]
    fn exactly_one_identity_is_proven_and_of_others_nothing_is_told() {
        let (_, outside) = bearer(&[]);
        let with = |name: &str, claims: Value| identity(name, &json!([subject(&claims, "teams")]));
        let (one, other) = (with("one", json!({"ref": "main"})), with("other", json!({"ref": "secret"})));
        let find = |identities: &[Arc<InForce<Identity>>], issuer: &str| {
            proven(issuer, &outside, "shop", identities).map(|found| found.checked.name.clone())
        };
        let both = [Arc::clone(&one), Arc::clone(&other)];
        assert_eq!(find(&both, "https://idp.example").as_deref(), Ok("one"));
        for (identities, issuer) in
            [(&both[1..], "https://idp.example"), (&both[..], "https://idp.example/"), (&[], "x")]
        {
            let problem = find(identities, issuer).unwrap_err();
            assert_eq!(problem.code, ErrorCode::UnauthorizedClient);
            assert!(problem.why.contains("sub=ci") && !problem.why.contains("secret"), "{}", problem.why);
        }
        let twice = [one, with("two", json!({"team": "data"}))];
        assert!(find(&twice, "https://idp.example").unwrap_err().why.contains("one, two"));
        // Of another namespace it is another audience.
        let problem = proven("https://idp.example", &outside, "other", &both).unwrap_err();
        assert!(problem.why.contains("audience postern/shop"), "{}", problem.why);
    }
}
