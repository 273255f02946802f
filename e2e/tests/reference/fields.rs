//! The fields of a kind, from its schema.

use postern_crds::schema;
use schemars::JsonSchema;
use serde_json::Value;

use super::markdown::{Page, code};

const HEAD: [&str; 4] = ["field", "type", "default", "meaning"];

pub(crate) fn page<Spec: JsonSchema, Status: JsonSchema>(file: &'static str, definition: &str) -> Page {
    let (_, text) = schema::definitions().unwrap().into_iter().find(|(name, _)| *name == definition).unwrap();
    let definition: Value = serde_yaml::from_str(&text).unwrap();
    let (names, version) = (&definition["spec"]["names"], &definition["spec"]["versions"][0]);
    let kind = names["kind"].as_str().unwrap();
    let about = version["schema"]["openAPIV3Schema"]["description"].as_str().unwrap();
    let mut page = Page::new(file, kind, about);
    page.paragraph(&format!(
        "`apiVersion: {}/{}`, `kind: {kind}`; namespaced, `{}` for short. `kubectl explain {}.spec` shows the same.",
        definition["spec"]["group"].as_str().unwrap(),
        version["name"].as_str().unwrap(),
        names["shortNames"][0].as_str().unwrap(),
        names["shortNames"][0].as_str().unwrap(),
    ));
    page.heading(2, "Spec");
    let spec = schema::of::<Spec>();
    let mut plain = Vec::new();
    let mut parts = Vec::new();
    for (name, field) in spec["properties"].as_object().unwrap() {
        let path = format!("spec.{name}");
        let mut rows = Vec::new();
        fields(&path, field, is_required(&spec, name), &mut rows);
        if rows.len() == 1 { plain.append(&mut rows) } else { parts.push((path, rows)) }
    }
    page.table(&HEAD, plain);
    if let Some(rules) = rules(&spec) {
        page.paragraph(&rules);
    }
    for (path, rows) in parts {
        page.heading(3, &path);
        page.table(&HEAD, rows);
    }
    page.heading(2, "Status");
    page.paragraph("Only the operator writes it.");
    let status = schema::of::<Status>();
    let mut rows = Vec::new();
    for (name, field) in status["properties"].as_object().unwrap() {
        fields(&format!("status.{name}"), field, false, &mut rows);
    }
    page.table(
        &["field", "type", "meaning"],
        rows.into_iter().map(|mut row| {
            row.remove(2);
            row
        }),
    );
    page.heading(2, "Columns of `kubectl get`");
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    page.table(
        &["column", "shows", "with"],
        columns.iter().map(|column| {
            let wide = column.get("priority").and_then(Value::as_i64).unwrap_or(0) > 0;
            let text = |key: &str| column[key].as_str().unwrap().to_owned();
            vec![text("name"), code(&text("jsonPath")), if wide { "`-o wide`".into() } else { String::new() }]
        }),
    );
    page
}

fn is_required(of: &Value, name: &str) -> bool {
    of["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name))
}

/// The row of a field, and those of what is in it.
fn fields(path: &str, field: &Value, required: bool, rows: &mut Vec<Vec<String>>) {
    let (inner, inner_path) = match (field.get("items"), field.get("additionalProperties")) {
        (Some(items), _) => (items, format!("{path}[]")),
        (_, Some(values)) => (values, format!("{path}.*")),
        _ => (field, path.to_owned()),
    };
    let of_each = inner != field;
    let meaning = [
        field["description"].as_str().map(words),
        rules(field),
        inner["description"].as_str().filter(|_| of_each && inner.get("enum").is_some()).map(words),
        rules(inner).filter(|_| of_each),
    ];
    let default = match &field["default"] {
        _ if required => "**required**".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => code(text),
        other => code(&other.to_string()),
    };
    let meaning: Vec<String> = meaning.into_iter().flatten().collect();
    rows.push(vec![code(path), kind(field), default, meaning.join("\n")]);
    for (name, property) in inner["properties"].as_object().into_iter().flatten() {
        fields(&format!("{inner_path}.{name}"), property, is_required(inner, name), rows);
    }
}

/// Lists of words are written with the words as code.
fn words(description: &str) -> String {
    let lines = description.lines().map(|line| match line.strip_prefix("- ").and_then(|line| line.split_once(": ")) {
        Some((word, meaning)) => format!("`{word}`: {meaning}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What must hold beyond a field's type.
fn rules(field: &Value) -> Option<String> {
    let all = field.get("x-kubernetes-validations")?.as_array()?.iter();
    let all: Vec<&str> = all.filter_map(|rule| rule["message"].as_str()).collect();
    (!all.is_empty()).then(|| format!("Rule: {}.", all.join("; ")))
}

/// A field's type with its bounds.
fn kind(field: &Value) -> String {
    let bound = |least: &str, most: &str| match (field[least].as_i64(), field[most].as_i64()) {
        (Some(least), Some(most)) if least == most => format!(", {least}"),
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (None, Some(most)) => format!(", up to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, None) => String::new(),
    };
    if field.get("x-kubernetes-int-or-string").is_some() {
        return "integer or text".into();
    }
    match field["type"].as_str().unwrap_or_default() {
        "array" => format!("list of {}{}", kinds(&field["items"]), bound("minItems", "maxItems")),
        "object" if field.get("additionalProperties").is_some() => {
            format!("map to {}{}", kinds(&field["additionalProperties"]), bound("minProperties", "maxProperties"))
        }
        "string" if field.get("enum").is_some() => "word".into(),
        "string" if field["format"] == "date-time" => "time".into(),
        "string" => format!("text{}", bound("minLength", "maxLength")),
        "integer" => format!("integer{}", bound("minimum", "maximum")),
        other => other.to_owned(),
    }
}

/// The same for what is in a list or map.
fn kinds(field: &Value) -> String {
    if field.get("x-kubernetes-int-or-string").is_some() {
        return "integers or texts".into();
    }
    match field["type"].as_str().unwrap_or_default() {
        "string" if field.get("enum").is_some() => "words".into(),
        "string" => "texts".into(),
        "integer" => "integers".into(),
        _ => "objects".into(),
    }
}
