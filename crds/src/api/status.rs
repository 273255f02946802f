//! What controllers report. Shaped so that `kubectl wait`, kstatus and GitOps tools understand it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Ready: the policy is in force as written. Stalled: the spec has mistakes, the last good one stays in force.
    /// Reconciling: a change is on its way to the sidecars.
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
    /// Ready: leases are given as written. Stalled: the spec has mistakes, the last good one stays in force.
    /// Reconciling: a change is on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One aspect of an object's state, in the form that Kubernetes' own objects use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect: Ready, Reconciling or Stalled.
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
