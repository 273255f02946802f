//! Whether a pod has the right to a lease of a policy: the last part of the checks, and the one that is asked again for
//! as long as it has the lease. Pure: what is known is given.

use std::net::IpAddr;
use std::sync::Arc;

use postern_crds::lease::{ErrorCode, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Problem;
use crate::injection::{Genuine, asked_of, may_reach, verify};
use crate::objects::{Identity, InForce, Known, Policy};
use crate::pods;

/// Who asks, as the pod's token proved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearer {
    /// The token's issuer.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Namespace of pod and service account.
    pub namespace: String,
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

/// What a pod has a right to.
#[derive(Clone, Debug)]
pub(super) struct Right {
    pub(super) policy: Arc<InForce<Policy>>,
    pub(super) identity: Arc<InForce<Identity>>,
}

/// Whether a live pod is what an injection made for this policy, and asks from where it is.
pub(super) fn is_its_sidecar(
    bearer: &Bearer,
    resource: &Resource,
    pod: &Value,
    genuine: Genuine<'_>,
    source: Option<IpAddr>,
) -> Result<(), Problem> {
    if pod.pointer("/metadata/uid").and_then(Value::as_str) != Some(&bearer.pod_uid) {
        return Err(Problem::grant("the token's pod is gone"));
    }
    // No container of such a pod runs any more, and its address may be another's.
    if pods::has_ended(pod) {
        return Err(Problem::grant("the token's pod has ended"));
    }
    verify(&bearer.namespace, pod, genuine)
        .map_err(|why| Problem::grant(format!("the pod is not as it was made: {why}")))?;
    if resource.namespace != bearer.namespace {
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

/// The policy in force, for a server that the pod may be led to, and the one identity of the pod.
pub(super) fn right(
    resource: &Resource,
    policy: Option<&Known<Policy>>,
    mut identities: Vec<Arc<InForce<Identity>>>,
    service_account: &str,
    pod: &Value,
) -> Result<Right, Problem> {
    let target = |why: String| Problem::new(ErrorCode::InvalidTarget, why);
    let known = policy.ok_or_else(|| target(format!("there is no policy {}", resource.name)))?;
    let policy = known.in_force.clone();
    let policy = policy.ok_or_else(|| target(format!("nothing of policy {} is in force", resource.name)))?;
    let client = |why: String| Problem::new(ErrorCode::UnauthorizedClient, why);
    let identity = match (identities.pop(), identities.is_empty()) {
        (Some(only), true) => only,
        (None, _) => return Err(client(format!("no identity has the service account {service_account}"))),
        (Some(last), false) => {
            let names: Vec<&str> =
                identities.iter().chain([&last]).map(|identity| identity.checked.name.as_str()).collect();
            let message =
                format!("several identities have the service account {service_account}: {}", names.join(", "));
            return Err(client(message));
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
    may_reach(&policy.asked_by(&identity), pod).map_err(|why| target(why.to_string()))?;
    Ok(Right { policy, identity })
}

/// What owns a pod, such as `Job/nightly-report-29381`.
pub(super) fn owner(pod: &Value) -> Option<String> {
    let owner = pods::controller(pod)?;
    Some(format!("{}/{}", owner.get("kind")?.as_str()?, owner.get("name")?.as_str()?))
}
