//! JSON patches (RFC 6902) between two raw objects.

use serde_json::{Map, Value, json};

/// The operations that make `before` to `after`: objects are gone into, everything else is replaced whole.
pub fn patch(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare(before, after, "", &mut operations);
    operations
}

fn compare(before: &Value, after: &Value, path: &str, out: &mut Vec<Value>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => fields(before, after, path, out),
        _ => out.push(json!({"op": "replace", "path": path, "value": after})),
    }
}

fn fields(before: &Map<String, Value>, after: &Map<String, Value>, path: &str, out: &mut Vec<Value>) {
    let pointer = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        out.push(json!({"op": "remove", "path": pointer(key)}));
    }
    for (key, value) in after {
        match before.get(key) {
            Some(old) => compare(old, value, &pointer(key), out),
            None => out.push(json!({"op": "add", "path": pointer(key), "value": value})),
        }
    }
}
