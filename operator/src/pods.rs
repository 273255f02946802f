//! Raw pods as the API server has them: what several parts of this program read of one.

use serde_json::Value;

/// The service account that a pod runs as.
pub fn service_account(pod: &Value) -> &str {
    pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or("default")
}

/// Whether no container of a pod runs any more, nor will.
pub fn has_ended(pod: &Value) -> bool {
    matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// The reference to what made a pod and makes another one in its place; None for one that was made by itself.
pub fn controller(pod: &Value) -> Option<&Value> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
}
