//! Raw objects: what is looked at in them, and what is made where there is none.

use serde_json::{Map, Value, json};

use super::Refusal;

/// The name that a container, volume or mount has.
pub(super) fn name_of(object: &Value) -> &str {
    object.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// All containers of a pod, those of every kind.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|kind| of_spec(pod, kind))
}

/// The items of a list in a pod's spec.
pub(super) fn of_spec<'a>(pod: &'a Value, key: &str) -> &'a [Value] {
    let list = pod.get("spec").and_then(|spec| spec.get(key)).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

/// An object in another one, made where there is none.
pub(super) fn object<'a>(value: &'a mut Value, key: &str) -> Result<&'a mut Map<String, Value>, Refusal> {
    let fields = value.as_object_mut().ok_or_else(|| Refusal::new(format!("what {key} should be in is no object")))?;
    object_in(fields, key)
}

/// The same, in fields.
pub(super) fn object_in<'a>(
    fields: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, Refusal> {
    made(fields, key, json!({})).as_object_mut().ok_or_else(|| Refusal::new(format!("{key} is no object")))
}

/// A list in an object, made where there is none.
pub(super) fn list_in<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    made(fields, key, json!([])).as_array_mut().ok_or_else(|| Refusal::new(format!("{key} is no list")))
}

fn made<'a>(fields: &'a mut Map<String, Value>, key: &str, empty: Value) -> &'a mut Value {
    let value = fields.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = empty;
    }
    value
}
