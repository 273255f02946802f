//! What controllers report. Shaped so that `kubectl wait`, kstatus and GitOps tools understand it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lease::Unbound;

/// What the operator reports of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::tidy_status)]
pub struct PolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The generation of the spec that is in force: the last one without mistakes. It stays in force while a newer
    /// one has mistakes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_in_force: Option<i64>,
    /// How many sidecars serve under the policy: those of running pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecars: Option<i64>,
    /// When a session under the policy last began; up to five minutes old while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_used: Option<String>,
    /// The identity that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_by: Option<String>,
    /// What each replica of the operator hears from its sidecars, by the replica's name; the conditions sum it up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<String, SidecarReports>,
    /// Ready: the policy is in force as written. Stalled: the spec has mistakes and the last good one stays in force,
    /// or sidecars can't use it. Reconciling: a change is on its way to the sidecars. CredentialsReadable: the Secrets
    /// that it names can be read. Bound: all of it binds to the database. SidecarsCurrent: no pod has an outdated
    /// sidecar, or asks for one and has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What the operator reports of an identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::tidy_status)]
pub struct IdentityStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The generation of the spec that is in force: the last one without mistakes. It stays in force while a newer
    /// one has mistakes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_in_force: Option<i64>,
    /// How many sidecars have the identity: those of running pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecars: Option<i64>,
    /// What each replica of the operator hears from its sidecars, by the replica's name; the conditions sum it up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<String, SidecarReports>,
    /// Ready: leases are given as written. Stalled: the spec has mistakes and the last good one stays in force, or
    /// sidecars can't use it. Reconciling: a change is on its way to the sidecars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What one replica of the operator hears from the sidecars that poll it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarReports {
    /// The oldest generation of the spec that one of them serves under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The oldest version that one of them is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_sidecar: Option<String>,
    /// Why one of them can't use its newest lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
    /// True: one that can't use its newest lease is of an older version than the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_old: Option<bool>,
    /// What does not bind to the database; left out until one of them has tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbound: Option<Vec<Unbound>>,
}

/// One aspect of an object's state, in the form that Kubernetes' own objects use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect, such as Ready, Reconciling or Stalled.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The generation of the spec that this condition is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// A word for programs that says why.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// A sentence for people that says why.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}
