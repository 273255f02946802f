//! The CustomResourceDefinitions in `crds/yaml`: up to date, and such that an API server takes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use postern_crds::schema;
use serde_json::{Map, Value, json};

/// The schema of each definition, by file name.
fn schemas() -> Vec<(&'static str, Value)> {
    schema::definitions()
        .unwrap()
        .into_iter()
        .map(|(name, text)| {
            let definition: Value = serde_yaml::from_str(&text).unwrap();
            (name, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
        })
        .collect()
}

/// Calls `check` with every schema in a schema, and its path.
fn walk(schema: &Value, path: &str, check: &mut impl FnMut(&str, &Map<String, Value>)) {
    let fields = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema: {schema}"));
    check(path, fields);
    if let Some(properties) = fields.get("properties") {
        for (name, property) in properties.as_object().unwrap() {
            walk(property, &format!("{path}.{name}"), check);
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = fields.get(key) {
            walk(inner, &format!("{path}{suffix}"), check);
        }
    }
}

#[test]
fn the_copy_in_the_tree_is_what_the_types_generate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let definitions = schema::definitions().unwrap();
    for (name, text) in &definitions {
        let copy = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(copy == *text, "crds/yaml/{name} is stale: run `make generate`");
    }
    let known: BTreeSet<_> = definitions.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, known, "crds/yaml holds what the types generate and nothing else");
}

#[test]
fn names_are_those_of_the_contract() {
    for (kind, plural, short) in
        [("DatabaseAccessPolicy", "databaseaccesspolicies", "dap"), ("NonHumanIdentity", "nonhumanidentities", "nhi")]
    {
        let (_, text) = schema::definitions().unwrap().into_iter().find(|(name, _)| name.starts_with(plural)).unwrap();
        let definition: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(definition["metadata"]["name"], format!("{plural}.postern.dev"));
        let spec = &definition["spec"];
        assert_eq!(spec["group"], "postern.dev");
        assert_eq!(spec["scope"], "Namespaced");
        assert_eq!(spec["names"]["kind"], kind);
        assert_eq!(spec["names"]["plural"], plural);
        assert_eq!(spec["names"]["shortNames"], json!([short]));
        assert_eq!(spec["names"]["categories"], json!(["postern"]));
        assert_eq!(spec["versions"][0]["name"], "v1alpha1");
        assert_eq!(spec["versions"][0]["subresources"], json!({"status": {}}));
    }
}

#[test]
fn schemas_are_structural() {
    const KNOWN: [&str; 25] = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "nullable",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    ];
    for (_, schema) in schemas() {
        walk(&schema, "", &mut |path, fields| {
            for key in fields.keys() {
                assert!(KNOWN.contains(&key.as_str()), "{path}: {key}");
            }
            let kind = fields.get("type").and_then(Value::as_str);
            if fields.contains_key("x-kubernetes-int-or-string") {
                assert_eq!(kind, None, "{path}: int-or-string has no type");
            } else {
                let kind = kind.unwrap_or_else(|| panic!("{path} has no type"));
                assert!(["object", "array", "string", "integer", "boolean"].contains(&kind), "{path}: {kind}");
                assert_eq!(kind == "array", fields.contains_key("items"), "{path}: items");
                if kind != "object" {
                    assert!(
                        !fields.contains_key("properties") && !fields.contains_key("additionalProperties"),
                        "{path}"
                    );
                }
            }
            assert!(
                !(fields.contains_key("properties") && fields.contains_key("additionalProperties")),
                "{path}: either properties or additionalProperties"
            );
            if let Some(format) = fields.get("format").and_then(Value::as_str) {
                assert!(["int32", "int64", "date-time"].contains(&format), "{path}: format {format} is not known");
            }
            for required in fields.get("required").and_then(Value::as_array).into_iter().flatten() {
                assert!(
                    fields["properties"].get(required.as_str().unwrap()).is_some() || path.is_empty(),
                    "{path}: {required}"
                );
            }
            if let Some(words) = fields.get("enum").and_then(Value::as_array) {
                assert!(words.iter().all(Value::is_string), "{path}: {words:?}");
                assert!(fields.get("default").is_none_or(|default| words.contains(default)), "{path}");
            }
            match fields.get("x-kubernetes-list-type").and_then(Value::as_str) {
                None => {}
                Some("set") => assert!(fields["items"].get("properties").is_none(), "{path}: a set of scalars"),
                Some("map") => {
                    for key in fields["x-kubernetes-list-map-keys"].as_array().unwrap() {
                        assert!(fields["items"]["required"].as_array().unwrap().contains(key), "{path}: {key}");
                    }
                }
                Some(other) => panic!("{path}: {other}"),
            }
        });
    }
}

#[test]
fn nothing_in_a_spec_is_nullable_or_pruned() {
    for (name, schema) in schemas() {
        walk(&schema["properties"]["spec"], "spec", &mut |path, fields| {
            assert_ne!(fields.get("nullable"), Some(&Value::Bool(true)), "{name}: {path}");
            if fields.get("type").is_some_and(|kind| kind == "object") && !fields.contains_key("additionalProperties") {
                assert_eq!(
                    fields.get("x-kubernetes-preserve-unknown-fields"),
                    Some(&Value::Bool(true)),
                    "{name}: {path}: a mistyped field would be pruned before anyone sees it"
                );
            }
        });
        walk(&schema["properties"]["status"], "status", &mut |path, fields| {
            assert!(!fields.contains_key("x-kubernetes-preserve-unknown-fields"), "{name}: {path}");
        });
    }
}

#[test]
fn everything_in_a_spec_is_bounded_and_explained() {
    for (name, schema) in schemas() {
        walk(&schema["properties"]["spec"], "spec", &mut |path, fields| {
            let place = format!("{name}: {path}");
            let is_item = path.ends_with("[]") || path.ends_with(".*");
            let explained = fields.get("description").and_then(Value::as_str).is_some_and(|text| text.len() > 8);
            assert!(is_item || explained, "{place}: description");
            match fields.get("type").and_then(Value::as_str) {
                Some("string") => {
                    assert!(fields.contains_key("enum") || fields.contains_key("maxLength"), "{place}: maxLength");
                }
                Some("array") => assert!(fields.contains_key("maxItems"), "{place}: maxItems"),
                Some("integer") => assert!(fields.contains_key("minimum"), "{place}: minimum"),
                Some("object") if fields.contains_key("additionalProperties") => {
                    assert!(fields.contains_key("maxProperties"), "{place}: maxProperties");
                }
                _ => {}
            }
        });
    }
}

/// The API server refuses a definition whose rules might cost too much: it multiplies what a rule costs by how often it
/// can run, with the greatest sizes. This holds a rough product far below its limit, without its exact formula.
#[test]
fn rules_stay_cheap() {
    for (name, schema) in schemas() {
        let mut rules = 0;
        cost(&schema, "", 1, &mut |path, times, rule| {
            rules += 1;
            let loops = rule.matches(".exists(").count() + rule.matches(".all(").count();
            assert!(loops <= 1, "{name}{path}: {rule}");
            let each = rule.len() as u64 * if loops == 1 { 13 } else { 1 };
            assert!(times * each < 1_000_000, "{name}{path}: {rule}");
        });
        assert!(rules > 0, "{name} has rules");
    }
}

fn cost(schema: &Value, path: &str, times: u64, check: &mut impl FnMut(&str, u64, &str)) {
    for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
        assert!(rule["message"].as_str().is_some_and(|message| !message.contains('\n')), "{path}: message");
        check(path, times, rule["rule"].as_str().unwrap());
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        cost(property, &format!("{path}.{name}"), times, check);
    }
    if let Some(items) = schema.get("items") {
        let most = schema["maxItems"].as_u64().unwrap();
        cost(items, &format!("{path}[]"), times * most, check);
    }
}
