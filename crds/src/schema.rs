//! The schema of the API types: structural as Kubernetes demands, and what [`crate::strict`] checks files against.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

/// The schema of a spec, as plain JSON without references.
pub fn of<T: JsonSchema>() -> Value {
    SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Makes a spec's schema what Kubernetes takes and users can read. Applied to the root of each spec, after everything
/// in it was inlined.
///
/// - Unknown fields are kept in every object: pruned, a mistyped `rowFilters` would be gone before any webhook saw it,
///   and the policy in force without it. Kept, it is refused.
/// - Nothing is nullable: a key without a value is a mistake, not a way to say "no filters".
/// - Words of an enum become one list, with what each means in the description.
pub(crate) fn tidy(schema: &mut Schema) {
    tidied(schema, Unknown::Kept);
}

/// The same for a status, which only controllers write: unknown fields are pruned.
pub(crate) fn tidy_status(schema: &mut Schema) {
    tidied(schema, Unknown::Pruned);
}

/// What the API server does with fields that the schema does not know.
#[derive(Clone, Copy, PartialEq)]
enum Unknown {
    Kept,
    Pruned,
}

fn tidied(schema: &mut Schema, unknown: Unknown) {
    let mut value = std::mem::take(schema).to_value();
    tidy_value(&mut value, unknown);
    if let Ok(tidied) = Schema::try_from(value) {
        *schema = tidied;
    }
}

fn tidy_value(value: &mut Value, unknown: Unknown) {
    let Some(schema) = value.as_object_mut() else { return };
    drop_null(schema);
    list_words(schema);
    drop_number_formats(schema);
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = unwrap_lines(description);
    }
    // With `additionalProperties` no field is unknown. An object without fields is one whose fields are yet to come.
    if schema.contains_key("properties") {
        schema.remove("additionalProperties");
    }
    let is_object = schema.get("type").is_some_and(|kind| kind == "object");
    if unknown == Unknown::Kept && is_object && !schema.contains_key("additionalProperties") {
        schema.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(|property| tidy_value(property, unknown));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            tidy_value(inner, unknown);
        }
    }
}

/// `Option<T>` comes as `type: [x, "null"]` or `anyOf: [x, {type: "null"}]`; both become `x`.
fn drop_null(schema: &mut Map<String, Value>) {
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        schema.remove("nullable");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    let is_null = |one: &Value| {
        one.get("type").is_some_and(|kind| kind == "null") || one.get("enum") == Some(&Value::Array(vec![Value::Null]))
    };
    if let Some(Value::Array(options)) = schema.get("anyOf")
        && let [Value::Object(inner), null] = options.as_slice()
        && is_null(null)
    {
        let inner = inner.clone();
        schema.remove("anyOf");
        for (key, value) in inner {
            // What is said of the field goes before what is said of its type.
            schema.entry(key).or_insert(value);
        }
    }
}

/// An enum with docs comes as `oneOf` with a constant each.
fn list_words(schema: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = schema.get("oneOf") else { return };
    let mut words = Vec::new();
    let mut meanings = String::new();
    for option in options {
        let word = match (option.get("const"), option.get("enum")) {
            (Some(Value::String(word)), _) => word.clone(),
            (_, Some(Value::Array(only))) => match only.as_slice() {
                [Value::String(word)] => word.clone(),
                _ => return,
            },
            _ => return,
        };
        if let Some(Value::String(meaning)) = option.get("description") {
            meanings.push_str(&format!("\n- {word}: {}", unwrap_lines(meaning)));
        }
        words.push(Value::String(word));
    }
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), Value::Array(words));
    let description = match schema.get("description") {
        Some(Value::String(description)) => format!("{}\n{meanings}", unwrap_lines(description)),
        _ => meanings,
    };
    schema.insert("description".into(), description.into());
}

/// Formats that Kubernetes does not know cost a warning at every install.
fn drop_number_formats(schema: &mut Map<String, Value>) {
    if schema.get("type").is_some_and(|kind| kind == "integer" || kind == "number")
        && schema.get("format").is_some_and(|format| format != "int32" && format != "int64")
    {
        schema.remove("format");
    }
}

/// Doc comments are wrapped for the source; `kubectl explain` wraps for the terminal.
fn unwrap_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            out.push_str("\n\n");
        } else if line.starts_with("- ") {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(line);
        } else {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push(' ');
            }
            out.push_str(line);
        }
    }
    out
}

/// The CustomResourceDefinitions, as file name and YAML.
#[cfg(feature = "kube")]
pub fn definitions() -> Result<Vec<(&'static str, String)>, serde_yaml::Error> {
    use kube::CustomResourceExt as _;

    Ok(vec![
        ("databaseaccesspolicies.yaml", yaml(&crate::api::DatabaseAccessPolicy::crd())?),
        ("nonhumanidentities.yaml", yaml(&crate::api::NonHumanIdentity::crd())?),
    ])
}

#[cfg(feature = "kube")]
fn yaml(definition: &impl serde::Serialize) -> Result<String, serde_yaml::Error> {
    let value = serde_json::to_value(definition).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let yaml = serde_yaml::to_string(&whole_numbers(value))?;
    Ok(format!("# Generated from the types in crds/src/api by `make generate`; do not edit.\n{yaml}"))
}

/// Kubernetes' types hold bounds as floating point; `maximum: 64.0` is no way to write 64.
#[cfg(feature = "kube")]
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => (float as i64).into(),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, whole_numbers(field))).collect(),
        other => other,
    }
}
