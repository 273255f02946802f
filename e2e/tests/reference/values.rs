//! The values of the chart: defaults and comments from `values.yaml`, types from `values.schema.json`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::markdown::{Page, code};

/// A value of the chart.
struct Entry {
    path: String,
    kind: String,
    default: String,
    meaning: String,
}

fn read(name: &str) -> String {
    std::fs::read_to_string(postern_e2e::workspace().join("charts/postern").join(name)).unwrap()
}

fn entries() -> Vec<Entry> {
    let text = read("values.yaml");
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut entries = Vec::new();
    walk("", &values, &schema, &comments(&text), &mut entries);
    entries
}

/// The comments of a YAML file by the path of the key that they stand above or beside.
fn comments(text: &str) -> BTreeMap<String, String> {
    let mut comments = BTreeMap::new();
    let mut above: Vec<&str> = Vec::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    for line in text.lines() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if let Some(comment) = line.strip_prefix('#') {
            above.push(comment.trim());
            continue;
        }
        if let Some((key, rest)) = line.split_once(':') {
            path.retain(|(outer, _)| *outer < indent);
            path.push((indent, key));
            above.extend(rest.split_once(" #").map(|(_, beside)| beside.trim()));
            let keys: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
            comments.insert(keys.join("."), above.join(" "));
        }
        above.clear();
    }
    comments
}

fn walk(path: &str, value: &Value, schema: &Value, comments: &BTreeMap<String, String>, entries: &mut Vec<Entry>) {
    let meaning = comments.get(path).cloned().unwrap_or_default();
    let fields = value.as_object().filter(|_| schema.get("properties").is_some());
    let Some(fields) = fields.filter(|fields| !fields.is_empty()) else {
        entries.push(Entry { path: path.into(), kind: kind(schema), default: flow(value), meaning });
        return;
    };
    if !meaning.is_empty() && !path.is_empty() {
        entries.push(Entry { path: path.into(), kind: String::new(), default: String::new(), meaning });
    }
    for (name, field) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        walk(&path, field, &schema["properties"][name], comments, entries);
    }
}

/// As YAML on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", flow(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| code(word.as_str().unwrap())).collect::<Vec<_>>().join(" or ");
    }
    if let Some(options) = schema["anyOf"].as_array() {
        return options.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match schema["type"].as_str().unwrap_or_default() {
        "string" => "text",
        "array" => "list",
        "object" => "map",
        other => other,
    }
    .to_owned()
}

pub(crate) fn page() -> Page {
    let mut page = Page::new(
        "chart.md",
        "Values of the chart",
        "The values of `charts/postern`, of which none has to be set. One that is not listed here is refused.",
    );
    page.table(
        &["value", "type", "default", "meaning"],
        entries().into_iter().map(|it| vec![code(&it.path), it.kind, code(&it.default), it.meaning]),
    );
    page
}

#[test]
fn every_value_of_the_chart_is_explained_and_has_a_type() {
    let entries = entries();
    let explained = |path: &str| entries.iter().any(|it| it.path == path && !it.meaning.is_empty());
    for it in &entries {
        let group = it.path.rsplit_once('.').map_or("", |(group, _)| group);
        assert!(explained(&it.path) || explained(group), "values.yaml says nothing of {}", it.path);
        let is_group = it.kind.is_empty() && it.default.is_empty();
        assert!(
            !is_group || entries.iter().any(|other| other.path.starts_with(&format!("{}.", it.path))),
            "{}",
            it.path
        );
    }
}
