//! Checks a value against the schema of a spec: unknown fields, wrong types, missing fields, words that are none.
//! Every mistake is told, with the path of the field and what would be right.

use serde_json::{Map, Value};

use crate::compile::CompileError;

/// Most mistakes that are told at once.
const MAX_MISTAKES: usize = 100;

/// Every mistake of the value; `path` is where it stands, such as `spec`.
pub fn check(value: &Value, schema: &Value, path: &str) -> Vec<CompileError> {
    let mut mistakes = Vec::new();
    check_value(value, schema, path, &mut mistakes);
    mistakes
}

fn check_value(value: &Value, schema: &Value, path: &str, mistakes: &mut Vec<CompileError>) {
    // A schema that says nothing takes everything.
    if mistakes.len() >= MAX_MISTAKES || schema.as_object().is_some_and(Map::is_empty) {
        return;
    }
    let mut tell = |message: String| mistakes.push(CompileError { path: path.to_owned(), message });
    if value.is_null() {
        return tell(if schema.get("type").is_some_and(|kind| kind == "object") {
            "has no value: write {} if you mean it without options, or take the field out".into()
        } else {
            "has no value: give it one, or take the field out".into()
        });
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        let whole = value.as_i64().is_some() || value.as_u64().is_some();
        if let Some(text) = value.as_str() {
            check_length(text, schema, &mut tell);
        } else if !whole {
            let quoted = value.as_f64().map(|number| format!(": write \"{number}\"")).unwrap_or_default();
            tell(format!("must be a whole number or a text, not {}{quoted}", kind_of(value)));
        }
        return;
    }
    match (schema.get("type").and_then(Value::as_str), value) {
        (Some("object"), Value::Object(fields)) => check_object(fields, schema, path, mistakes),
        (Some("array"), Value::Array(items)) => {
            if let Some(most) = bound(schema, "maxItems")
                && items.len() as u64 > most
            {
                tell(format!("has {} items, more than {most}", items.len()));
            }
            if let Some(least) = bound(schema, "minItems")
                && (items.len() as u64) < least
            {
                tell(format!("needs at least {least} {}", if least == 1 { "item" } else { "items" }));
            }
            if let Some(item_schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    check_value(item, item_schema, &format!("{path}[{index}]"), mistakes);
                }
            }
        }
        (Some("string"), Value::String(text)) => {
            if let Some(words) = schema.get("enum").and_then(Value::as_array) {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                if !words.contains(&text.as_str()) {
                    let hint = match nearest(text, words.iter().copied()) {
                        Some(word) => format!(", did you mean {word}?"),
                        None => format!(": must be one of {}", words.join(", ")),
                    };
                    tell(format!("unknown value '{}'{hint}", shorten(text)));
                }
            } else {
                check_length(text, schema, &mut tell);
            }
        }
        (Some("boolean"), Value::Bool(_)) => {}
        (Some("integer"), Value::Number(number)) => match number.as_i64() {
            Some(number) => {
                let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
                if limit("minimum").is_some_and(|least| (number as f64) < least) {
                    tell(format!("must be at least {}", limit("minimum").unwrap_or_default()));
                } else if limit("maximum").is_some_and(|most| (number as f64) > most) {
                    tell(format!("must be at most {}", limit("maximum").unwrap_or_default()));
                }
            }
            None if number.is_u64() => tell(format!("{number} is too large")),
            None => tell(format!("must be a whole number, not {number}")),
        },
        (Some(expected), _) => {
            let hint = match (expected, value) {
                ("string", Value::Number(_) | Value::Bool(_)) => ": put it in quotes",
                ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => ": take the quotes away",
                ("boolean", Value::String(_)) => ": write true or false without quotes",
                ("array", _) => ": begin each item with a dash, or use [ ]",
                _ => "",
            };
            tell(format!("must be {}, not {}{hint}", article(expected), kind_of(value)));
        }
        // The schema says nothing here; the types will.
        (None, _) => {}
    }
}

fn check_object(fields: &Map<String, Value>, schema: &Value, path: &str, mistakes: &mut Vec<CompileError>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let extra = schema.get("additionalProperties");
    if let Some(most) = bound(schema, "maxProperties")
        && fields.len() as u64 > most
    {
        mistakes.push(CompileError {
            path: path.into(),
            message: format!("has {} fields, more than {most}", fields.len()),
        });
    }
    if let Some(least) = bound(schema, "minProperties")
        && (fields.len() as u64) < least
    {
        mistakes.push(CompileError { path: path.into(), message: format!("needs at least {least} of its fields") });
    }
    // Fields that are there under a mistyped name are not missing as well.
    let mut meant = Vec::new();
    for (name, field) in fields {
        let field_path = format!("{path}.{}", show_key(name));
        match (properties.and_then(|known| known.get(name)), extra) {
            (Some(inner), _) | (None, Some(inner)) if inner.is_object() => {
                check_value(field, inner, &field_path, mistakes);
            }
            _ => {
                let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                // A field that is there already is no likely slip for another.
                let hint = match nearest(name, known.iter().copied().filter(|known| !fields.contains_key(*known))) {
                    Some(word) => {
                        meant.push(word);
                        format!(", did you mean {word}?")
                    }
                    None if known.is_empty() => ": nothing can stand here".into(),
                    None => format!(": known are {}", known.join(", ")),
                };
                mistakes.push(CompileError { path: field_path, message: format!("unknown field{hint}") });
            }
        }
        if mistakes.len() >= MAX_MISTAKES {
            return;
        }
    }
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) && !meant.contains(&required) {
            mistakes.push(CompileError { path: format!("{path}.{required}"), message: "is missing".into() });
        }
    }
}

fn check_length(text: &str, schema: &Value, tell: &mut impl FnMut(String)) {
    let length = text.chars().count() as u64;
    if let Some(most) = bound(schema, "maxLength")
        && length > most
    {
        tell(format!("has {length} characters, more than {most}"));
    } else if let Some(least) = bound(schema, "minLength")
        && length < least
    {
        tell(if length == 0 { "is empty".into() } else { format!("has fewer than {least} characters") });
    }
}

fn bound(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A key as a path shows it: quoted where it would read as something else, and never long.
pub(crate) fn show_key(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c));
    if plain && key.len() <= 64 { key.to_owned() } else { format!("{:?}", shorten(key)) }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The word that was likely meant: the same but for case, or few slips away.
pub(crate) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no slip of a field's name, and comparing them costs.
    if text.len() > 64 {
        return None;
    }
    let lower = text.to_lowercase();
    let most = (text.chars().count() / 3).clamp(1, 3);
    words
        .map(|word| (distance(&lower, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein's distance: how many characters must be added, taken away or replaced.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (line, a) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (b, above) in two.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(a != *b);
            left = replaced.min(left + 1).min(*above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
