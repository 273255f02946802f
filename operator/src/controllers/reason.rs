//! Why a condition is what it is.

use schemars::JsonSchema;

/// The `reason` of conditions: for programs, and for people who look one up. The reference
/// shows of each what it means and, in a second paragraph, what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Reason {
    /// The spec is in force as it is written.
    InForce,
    /// The spec has mistakes; the last one without any is in force.
    ///
    /// Correct the spec: the condition's message has each mistake with its field.
    LastGoodInForce,
    /// The spec has mistakes, and there never was one without any: nothing is in force.
    ///
    /// Correct the spec: the condition's message has each mistake with its field. Until then no sidecar gets a lease by
    /// it.
    Invalid,
    /// A Secret that the policy names can't be read.
    ///
    /// Run the `kubectl create role` and `kubectl create rolebinding` of the condition's message, or make the Secret or
    /// the key that it misses.
    CredentialsUnreadable,
    /// All Secrets that the policy names can be read.
    CredentialsRead,
    /// All of the policy binds to the database.
    Bound,
    /// A part of the policy does not bind to the database, and is closed.
    ///
    /// Compare the message's columns with the database: name them as they are now, or take them out of the policy.
    /// Until then what they are part of is refused.
    NotBound,
    /// Sidecars still serve under a generation before.
    ///
    /// A change reaches them within seconds. If it stays so, see their logs: they may not reach the operator on port 8443.
    SidecarsBehind,
    /// Sidecars can't use the newest lease, and serve under the one before for as long as that holds.
    ///
    /// The message has what a sidecar says. Where it does not know what the lease requires, restart its workload, so that
    /// it gets the operator's own version; else correct what the policy names.
    LeaseUnusable,
    /// Sidecars of an older version than the operator's can't use the newest lease, and serve under the one before for as
    /// long as that holds.
    ///
    /// Restart their workloads, so that they get sidecars of the operator's own version: `SidecarsOutdated` names them.
    SidecarTooOld,
    /// No pod has an outdated sidecar, or asks for one and has none.
    SidecarsCurrent,
    /// Pods have another sidecar than they would get now: an older image, or variables and resources of before a change.
    ///
    /// Run the `kubectl rollout restart` of the message when it suits, or let the operator do it: `restarts.enabled` in
    /// the chart and `sidecar.restartOnChange` in the policy.
    SidecarsOutdated,
    /// Pods or workloads ask for a sidecar, and have none: they were made before Postern was there, or past it.
    ///
    /// Run the command of the message, or make them anew. Until then they reach databases without the policy, if they
    /// have credentials of their own.
    SidecarsMissing,
    /// It is not known yet.
    ///
    /// Look at `Ready` first; this is known once a policy is in force and its Secrets were asked for.
    NotKnown,
    /// Nothing is left to be done.
    Settled,
}

impl Reason {
    /// As it stands in a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::InForce => "InForce",
            Reason::LastGoodInForce => "LastGoodInForce",
            Reason::Invalid => "Invalid",
            Reason::CredentialsUnreadable => "CredentialsUnreadable",
            Reason::CredentialsRead => "CredentialsRead",
            Reason::Bound => "Bound",
            Reason::NotBound => "NotBound",
            Reason::SidecarsBehind => "SidecarsBehind",
            Reason::LeaseUnusable => "LeaseUnusable",
            Reason::SidecarTooOld => "SidecarTooOld",
            Reason::SidecarsCurrent => "SidecarsCurrent",
            Reason::SidecarsOutdated => "SidecarsOutdated",
            Reason::SidecarsMissing => "SidecarsMissing",
            Reason::NotKnown => "NotKnown",
            Reason::Settled => "Settled",
        }
    }
}
