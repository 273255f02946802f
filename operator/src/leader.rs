//! Which replica runs the controllers: the one that holds a `coordination.k8s.io` Lease, as Kubernetes' own controllers
//! do it (KEP-589).
//!
//! **Promise.** Who leads gives up before another one may begin: it holds itself for a leader for a shorter time after
//! its last renewal than others wait. Only spans of time of each replica's own clock count, never the times that stand in
//! the Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::{ObjectMeta, ResourceExt as _};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::timely::{ApiError, timely};

/// How long others wait after the last renewal that they saw.
const LEASE: Duration = Duration::from_secs(15);
/// How long the leader goes on after its last renewal.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often it renews, and others look.
const EVERY: Duration = Duration::from_secs(2);

/// What a replica saw of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    holder: String,
    /// It changes with every renewal.
    version: String,
    since: Instant,
}

/// Whether a replica may take the Lease.
fn may_take(seen: Option<&Seen>, me: &str, now: Instant) -> bool {
    seen.is_none_or(|seen| {
        seen.holder.is_empty() || seen.holder == me || now.saturating_duration_since(seen.since) > LEASE
    })
}

/// Tries to lead until `ending` is set, and gives the lead back then. `leading` says whether this replica does.
pub async fn lead(
    client: Client,
    namespace: &str,
    name: &str,
    me: &str,
    leading: watch::Sender<bool>,
    mut ending: watch::Receiver<bool>,
) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let mut seen: Option<Seen> = None;
    let mut renewed = None;
    loop {
        // From before it asks: others count from when the API server took the renewal, not from when that was heard.
        let began = Instant::now();
        let turn = turn(&leases, name, me, &mut seen);
        let turned = match renewed.filter(|_| *leading.borrow()) {
            Some(renewed) => timeout_at(renewed + RENEW_WITHIN, turn).await.unwrap_or(Err(ApiError::Late)),
            None => turn.await,
        };
        match turned {
            Ok(true) => {
                renewed = Some(began);
                if !leading.send_replace(true) {
                    tracing::info!("this replica leads the controllers");
                }
            }
            Ok(false) => give_up(&leading),
            Err(error) => {
                tracing::warn!(%error, "the lead could not be renewed or looked at; it is tried again");
                if renewed.is_none_or(|renewed| renewed.elapsed() >= RENEW_WITHIN) {
                    give_up(&leading);
                }
            }
        }
        let ended = tokio::time::timeout(EVERY, ending.wait_for(|ending| *ending)).await.is_ok();
        if ended {
            break;
        }
    }
    let led = *leading.borrow();
    give_up(&leading);
    if led && let Err(error) = hand_back(&leases, name, me).await {
        tracing::warn!(%error, "the lead could not be handed back; the next replica waits for its end");
    }
}

fn give_up(leading: &watch::Sender<bool>) {
    if leading.send_replace(false) {
        tracing::info!("this replica leads no more");
    }
}

/// Looks at the Lease and takes or renews it, if that is allowed. Whether this replica holds it.
async fn turn(leases: &Api<Lease>, name: &str, me: &str, seen: &mut Option<Seen>) -> Result<bool, ApiError> {
    let there = timely_turn(leases.get_opt(name)).await?;
    let version = there.as_ref().and_then(Lease::resource_version).unwrap_or_default();
    let holder = there.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone()).unwrap_or_default();
    match (&there, &*seen) {
        (None, _) => *seen = None,
        (Some(_), Some(before)) if before.version == version => {}
        (Some(_), _) => *seen = Some(Seen { holder: holder.clone(), version, since: Instant::now() }),
    }
    if !may_take(seen.as_ref(), me, Instant::now()) {
        return Ok(false);
    }
    let now = Some(MicroTime(Timestamp::now()));
    let before = there.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let taken = holder != me;
    let spec = LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
        acquire_time: if taken { now.clone() } else { before.acquire_time },
        renew_time: now,
        lease_transitions: Some(before.lease_transitions.unwrap_or_default().saturating_add(i32::from(taken))),
        ..LeaseSpec::default()
    };
    let written = match there {
        Some(mut lease) => {
            lease.spec = Some(spec);
            timely_turn(leases.replace(name, &PostParams::default(), &lease)).await
        }
        None => {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            timely_turn(leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) })).await
        }
    };
    match written {
        Ok(lease) => {
            let version = lease.resource_version().unwrap_or_default();
            *seen = Some(Seen { holder: me.to_owned(), version, since: Instant::now() });
            Ok(true)
        }
        // Another one was first.
        Err(error) if error.code() == Some(409) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A request that is of use only while the lead lasts.
async fn timely_turn<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    tokio::time::timeout(RENEW_WITHIN / 2, timely(request)).await.unwrap_or(Err(ApiError::Late))
}

/// The next replica need not wait.
async fn hand_back(leases: &Api<Lease>, name: &str, me: &str) -> Result<(), ApiError> {
    let mut lease = timely_turn(leases.get(name)).await?;
    if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(me)) {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        timely_turn(leases.replace(name, &PostParams::default(), &lease)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_taken_when_it_is_free_ones_own_or_not_renewed_for_long() {
        let now = Instant::now() + Duration::from_secs(60);
        let held = |holder: &str, ago: u64| {
            Some(Seen { holder: holder.into(), version: "1".into(), since: now - Duration::from_secs(ago) })
        };
        for (seen, may) in [
            (None, true),
            (held("", 0), true),
            (held("me", 0), true),
            (held("other", 0), false),
            (held("other", LEASE.as_secs()), false),
            (held("other", LEASE.as_secs() + 1), true),
        ] {
            assert_eq!(may_take(seen.as_ref(), "me", now), may, "{seen:?}");
        }
        assert!(RENEW_WITHIN + EVERY < LEASE, "who leads gives up before another one begins");
    }
}
