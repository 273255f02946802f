//! Policies and identities in files: the text of several YAML documents becomes the same types as in a cluster.
//!
//! Strict, for nobody stands behind a file who would notice: unknown fields, keys that come twice, keys without a value
//! and tags are mistakes. Bounded, for a file may be anyone's: size, number of nodes (aliases unfolded) and depth.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::api::{API_VERSION, DatabaseAccessPolicySpec, GROUP, NonHumanIdentitySpec};
use crate::checked::{CheckedIdentity, CheckedPolicy};
use crate::compile::{self, CompileError};
use crate::{schema, strict};

/// Largest text; etcd takes no larger objects either.
pub const MAX_BYTES: usize = 1 << 20;
/// Most keys, items and scalars in a text, with aliases unfolded: a few lines of anchors can unfold to gigabytes.
const MAX_NODES: usize = 100_000;
/// Most brackets and braces that are open at once; a policy nests a dozen.
const MAX_BRACKETS: usize = 1_000;
/// Most documents in a text.
const MAX_DOCUMENTS: usize = 1_000;
/// Most mistakes told at once.
const MAX_ERRORS: usize = 100;

/// An object from a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A `DatabaseAccessPolicy`.
    Policy(Box<Manifest<DatabaseAccessPolicySpec>>),
    /// A `NonHumanIdentity`.
    Identity(Manifest<NonHumanIdentitySpec>),
}

/// An object's name and spec; the rest of its metadata means nothing outside of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest<S> {
    /// Its namespace; `default` if the file names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: S,
}

impl Manifest<DatabaseAccessPolicySpec> {
    /// The checked policy.
    pub fn compile(&self) -> Result<CheckedPolicy, Vec<CompileError>> {
        compile::compile_policy(&self.namespace, &self.name, &self.spec)
    }
}

impl Manifest<NonHumanIdentitySpec> {
    /// The checked identity.
    pub fn compile(&self) -> Result<CheckedIdentity, Vec<CompileError>> {
        compile::compile_identity(&self.namespace, &self.name, &self.spec)
    }
}

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Which document of the text, from 1.
    pub document: usize,
    /// Kind and name of the object, as far as known.
    pub object: Option<String>,
    /// Path of the field; empty if the whole document is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some(object) => write!(f, "{object}: ")?,
            None => write!(f, "document {}: ", self.document)?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for FileError {}

/// Reads every document of the text. Either all objects are without mistakes of form, or all mistakes are told.
pub fn read(text: &str) -> Result<Vec<Object>, Vec<FileError>> {
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    let whole = |document, message: String| FileError { document, object: None, path: String::new(), message };
    if text.len() > MAX_BYTES {
        return Err(vec![whole(1, format!("the text is larger than {MAX_BYTES} bytes"))]);
    }
    if is_too_nested(text) {
        return Err(vec![whole(1, format!("brackets are nested more than {MAX_BRACKETS} deep"))]);
    }
    let nodes = Cell::new(MAX_NODES);
    for (index, deserializer) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let document = index + 1;
        if document > MAX_DOCUMENTS || errors.len() >= MAX_ERRORS {
            errors.push(whole(document, "too many documents or mistakes, the rest was not read".into()));
            break;
        }
        let value = match (Tree { left: &nodes }).deserialize(deserializer) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                // What follows a mistake of syntax can't be told apart from it.
                errors.push(whole(document, format!("is not valid YAML: {error}")));
                break;
            }
        };
        match object(value) {
            Ok(object) => {
                let (kind, namespace, name) = object.key();
                if seen.insert((kind, namespace.to_owned(), name.to_owned())) {
                    objects.push(object);
                } else {
                    let message = "is defined twice".into();
                    errors.push(FileError { document, object: Some(label(kind, name)), path: String::new(), message });
                }
            }
            Err((object, mistakes)) => {
                errors.extend(mistakes.into_iter().map(|CompileError { path, message }| FileError {
                    document,
                    object: object.clone(),
                    path,
                    message,
                }))
            }
        }
    }
    for error in &mut errors {
        error.message = compile::printable(&error.message);
        error.object = error.object.as_deref().map(compile::printable);
    }
    if errors.is_empty() { Ok(objects) } else { Err(errors) }
}

/// Reads one document that is JSON already, as strictly.
pub fn read_value(value: Value) -> Result<Object, Vec<FileError>> {
    object(value).map_err(|(object, mistakes)| {
        let told = |CompileError { path, message }| FileError {
            document: 1,
            object: object.as_deref().map(compile::printable),
            path,
            message: compile::printable(&message),
        };
        mistakes.into_iter().map(told).collect()
    })
}

/// An object as [`read_value`] reads it.
pub fn document<S: Serialize>(kind: &str, namespace: &str, name: &str, spec: &S) -> serde_json::Result<Value> {
    let spec = serde_json::to_value(spec)?;
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    }))
}

/// The YAML scanner takes a time for each bracket that grows with those still open: 100,000 of them hold it for a minute.
fn is_too_nested(text: &str) -> bool {
    let mut open = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_BRACKETS
    })
}

impl Object {
    /// Kind, namespace and name.
    pub fn key(&self) -> (&'static str, &str, &str) {
        match self {
            Object::Policy(policy) => (POLICY, &policy.namespace, &policy.name),
            Object::Identity(identity) => (IDENTITY, &identity.namespace, &identity.name),
        }
    }
}

/// The kind of a policy.
pub const POLICY: &str = "DatabaseAccessPolicy";
/// The kind of an identity.
pub const IDENTITY: &str = "NonHumanIdentity";

fn label(kind: &str, name: &str) -> String {
    format!("{kind} '{name}'")
}

type Mistakes = (Option<String>, Vec<CompileError>);

/// One document.
fn object(value: Value) -> Result<Object, Mistakes> {
    let mistake = |path: &str, message: String| (None, vec![CompileError { path: path.into(), message }]);
    let Some(fields) = value.as_object() else {
        return Err(mistake("", "must be an object with apiVersion, kind, metadata and spec".into()));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let kind = match text("kind") {
        Some(POLICY) => POLICY,
        Some(IDENTITY) => IDENTITY,
        Some(other) => {
            let hint = match strict::nearest(other, [POLICY, IDENTITY].into_iter()) {
                Some(word) => format!("did you mean {word}?"),
                None => format!("expected {POLICY} or {IDENTITY}"),
            };
            return Err(mistake("kind", format!("unknown kind '{other}': {hint}")));
        }
        None => return Err(mistake("kind", format!("is missing: expected {POLICY} or {IDENTITY}"))),
    };
    match text("apiVersion") {
        Some(API_VERSION) => {}
        Some(other) if other.starts_with(&format!("{GROUP}/")) => {
            return Err(mistake("apiVersion", format!("unknown version '{other}': this is for {API_VERSION}")));
        }
        Some(other) => return Err(mistake("apiVersion", format!("unknown group '{other}': expected {API_VERSION}"))),
        None => return Err(mistake("apiVersion", format!("is missing: expected {API_VERSION}"))),
    }
    match kind {
        POLICY => manifest(kind, value).map(Box::new).map(Object::Policy),
        _ => manifest(kind, value).map(Object::Identity),
    }
}

/// The object, checked against the schema of its spec.
fn manifest<S: DeserializeOwned + JsonSchema>(kind: &str, mut value: Value) -> Result<Manifest<S>, Mistakes> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let object = Some(name.as_deref().map_or_else(|| kind.to_owned(), |name| label(kind, name)));
    let mut mistakes = strict::check(&value, &object_schema(schema::of::<S>()), "");
    for mistake in &mut mistakes {
        if let Some(path) = mistake.path.strip_prefix('.') {
            mistake.path = path.to_owned();
        }
    }
    let name = name.unwrap_or_default();
    let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default").to_owned();
    for (path, text, most) in [("metadata.name", &name, 253), ("metadata.namespace", &namespace, 63)] {
        if !mistakes.iter().any(|mistake| mistake.path.starts_with("metadata"))
            && (!compile::is_object_name(text) || text.len() > most)
        {
            let message = format!("'{text}' must be lower-case letters, digits, '-' and '.', at most {most}");
            mistakes.push(CompileError { path: path.into(), message });
        }
    }
    if !mistakes.is_empty() {
        return Err((object, mistakes));
    }
    let spec = value.get_mut("spec").map(Value::take).unwrap_or_default();
    match serde_json::from_value(spec) {
        Ok(spec) => Ok(Manifest { namespace, name, spec }),
        Err(error) => Err((object, vec![CompileError { path: "spec".into(), message: error.to_string() }])),
    }
}

/// The schema of a whole object: what `kubectl get -o yaml` writes beside the spec is known, and means nothing here.
fn object_schema(spec: Value) -> Value {
    let anything = json!({});
    json!({
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "namespace": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                    "creationTimestamp": anything,
                    "finalizers": anything,
                    "generation": anything,
                    "managedFields": anything,
                    "ownerReferences": anything,
                    "resourceVersion": anything,
                    "selfLink": anything,
                    "uid": anything,
                },
            },
            "spec": spec,
            "status": anything,
        },
    })
}

/// Reads any YAML value as JSON, and counts what it reads.
#[derive(Clone, Copy)]
struct Tree<'a> {
    left: &'a Cell<usize>,
}

impl Tree<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format_args!("more than {MAX_NODES} keys, items and values"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value without a tag")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("infinity and not-a-number can't stand here"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            self.count()?;
            let value = entries.next_value_seed(self)?;
            // The last of two would win without a word, and the first might have been the filter.
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} comes twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A key of a mapping; YAML has keys of any kind, JSON only texts.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key that is a text (put it in quotes if it is one)")
            }
            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(key.to_owned()))
            }
        }
        // Not `deserialize_str`, which would read a key `null` or `4711` as text.
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::checked::{BulkAction, MaskKind, OnPredicate, TlsMode};
    use crate::verb::Verb;

    const EXAMPLE: &str = include_str!("../tests/example.yaml");

    #[test]
    fn the_example_of_the_design_reads_and_compiles() {
        let objects = read(EXAMPLE).unwrap();
        let [Object::Identity(identity), Object::Policy(policy)] = objects.as_slice() else {
            panic!("{objects:?}");
        };
        let identity = identity.compile().unwrap();
        assert_eq!((identity.name.as_str(), identity.namespace.as_str()), ("nightly-report", "shop"));
        assert_eq!(identity.max_lease, std::time::Duration::from_secs(900));
        assert_eq!(identity.groups, ["reporting"]);
        let policy = policy.compile().unwrap();
        assert_eq!(policy.database.tls, TlsMode::VerifyFull);
        assert_eq!(policy.database.ca_secret, Some(("shop-pg-ca".into(), "ca.crt".into())));
        assert_eq!(policy.database.credentials.secret(), "shop-postern");
        assert_eq!(policy.masks.len(), 3);
        assert_eq!(policy.masks[0].kind, MaskKind::Partial { keep_first: 0, keep_last: 4, with: '*' });
        assert_eq!(policy.masks[2].on_predicate, OnPredicate::Refuse);
        assert_eq!(policy.masks[2].path, "spec.masks[2]");
        assert_eq!(policy.rules[0].row_filters[0].where_sql, "region = 'eu'");
        assert_eq!(policy.rules[0].limits.bytes, Some(10 << 20));
        assert_eq!(policy.bulk_export.action, BulkAction::RequireApproval);
        assert!(policy.grant(&identity, "reporting", "x", false, Verb::Select).is_some());
        assert!(policy.setting_allowed(&identity, "app.tenant").is_some());
        assert!(policy.channel_allowed(&identity, "order_events").is_some());
    }

    #[test]
    fn rubbish_is_refused_at_once() {
        let deep = format!("a: {}", "[{".repeat(50_000));
        let blocks = format!("{}a", "- ".repeat(2_000));
        let noise: String = (0..=255_u8).map(char::from).collect();
        for rubbish in [deep.as_str(), &blocks, &noise, "\0\0\0", "%", "a: *b", "&a [*a, *a]", "--- |\n"] {
            let began = std::time::Instant::now();
            assert!(read(rubbish).is_err(), "{rubbish:.20}");
            assert!(began.elapsed() < std::time::Duration::from_secs(2), "{rubbish:.20}: {:?}", began.elapsed());
        }
    }

    #[test]
    fn what_was_read_is_written_as_it_was() {
        for object in read(EXAMPLE).unwrap() {
            match object {
                Object::Policy(policy) => {
                    let again: DatabaseAccessPolicySpec =
                        serde_json::from_value(serde_json::to_value(&policy.spec).unwrap()).unwrap();
                    assert_eq!(again, policy.spec);
                }
                Object::Identity(identity) => {
                    let again: NonHumanIdentitySpec =
                        serde_json::from_value(serde_json::to_value(&identity.spec).unwrap()).unwrap();
                    assert_eq!(again, identity.spec);
                }
            }
        }
    }

    const IDENTITY_HEAD: &str =
        "apiVersion: postern.dev/v1alpha1\nkind: NonHumanIdentity\nmetadata: {name: x}\nspec:\n  postgresRole: app\n";

    fn messages(text: &str) -> Vec<String> {
        read(text).map(|_| vec![]).unwrap_or_else(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_what_would_be_right() {
        let mut wrong = Vec::new();
        for (from, to, expected) in [
            ("rowFilters:", "rowFilter:", "spec.rules[0].rowFilter: unknown field, did you mean rowFilters?"),
            ("hideColumns:", "hidecolumns:", "spec.rules[0].hidecolumns: unknown field, did you mean hideColumns?"),
            ("exempt:", "excempt:", "spec.masks[0].excempt: unknown field, did you mean exempt?"),
            ("where:", "wher:", "spec.rules[0].rowFilters[0].wher: unknown field, did you mean where?"),
            ("keepLast:", "keeplast:", "spec.masks[0].mask.partial.keeplast: unknown field, did you mean keepLast?"),
            (
                "email: {}",
                "email: ",
                "spec.masks[1].mask.email: has no value: write {} if you mean it without options, or take the field out",
            ),
            ("email: {}", "email: {x: 1}", "spec.masks[1].mask.email.x: unknown field: nothing can stand here"),
            ("{nullify: {}}", "nullify", "spec.masks[2].mask: must be an object, not a text"),
            (
                "{nullify: {}}",
                "{null: {}}",
                "is not valid YAML: spec.masks[2].mask: invalid type: unit value, expected a key that is a text (put it in quotes if it is one) at line",
            ),
            ("[Select]", "[select]", "spec.rules[0].allow[0]: unknown value 'select', did you mean Select?"),
            (
                "[Select]",
                "[Everything]",
                "spec.rules[0].allow[0]: unknown value 'Everything': must be one of Select, Insert",
            ),
            ("[Select]", "Select", "spec.rules[0].allow: must be a list, not a text: begin each item"),
            (
                "[public.customers.ssn]",
                "",
                "spec.rules[0].hideColumns: has no value: give it one, or take the field out",
            ),
            (
                "\"4711\"",
                "4711",
                "spec.subjects[1].oidc.claims.repository_id: must be a text, not a number: put it in quotes",
            ),
            (
                "port: 5432",
                "port: \"5432\"",
                "spec.database.port: must be a whole number, not a text: take the quotes away",
            ),
            ("port: 5432", "port: 70000", "spec.database.port: must be at most 65535"),
            ("port: 5432", "port: 0", "spec.database.port: must be at least 1"),
            (
                "restartOnChange: false",
                "restartOnChange: no",
                "spec.sidecar.restartOnChange: must be true or false, not a text: write true or false",
            ),
            ("rows: 10000,", "rows: 1.5,", "spec.rules[0].limits.rows: must be a whole number, not 1.5"),
            ("rows: 10000,", "rows: 99999999999999999999,", "spec.rules[0].limits.rows: must be a whole number, not"),
            (
                "bytes: 10Mi,",
                "bytes: 1.5,",
                "spec.rules[0].limits.bytes: must be a whole number or a text, not a number with a fraction: write \"1.5\"",
            ),
            ("  postgresRole: reporting_ro\n", "", "spec.postgresRole: is missing"),
            ("mode: Enforce", "mode: !Enforce x", "is not valid YAML"),
            ("mode: Enforce", "mode: Enforce\n  mode: Audit", "the key \"mode\" comes twice"),
            ("mode: Enforce", "mode: Enforce\n  <<: {mode: Audit}", "spec.\"<<\": unknown field"),
            ("mode: Enforce", "mode: [Enforce]", "spec.mode: must be a text, not a list"),
            ("rows: 10000,", "rows: .inf,", "infinity and not-a-number"),
            (
                "kind: DatabaseAccessPolicy",
                "kind: DatabaseAccesPolicy",
                "kind: unknown kind 'DatabaseAccesPolicy': did you mean DatabaseAccessPolicy?",
            ),
            ("kind: DatabaseAccessPolicy", "kind: Deployment", "kind: unknown kind 'Deployment': expected"),
            ("kind: DatabaseAccessPolicy", "kind: [x]", "kind: is missing"),
            ("v1alpha1\nkind: Data", "v1\nkind: Data", "apiVersion: unknown version 'postern.dev/v1'"),
            ("postern.dev/v1alpha1\nkind: Data", "apps/v1\nkind: Data", "apiVersion: unknown group 'apps/v1'"),
            ("{name: shop, namespace: shop}", "{name: Shop}", "metadata.name: 'Shop' must be lower-case"),
            ("{name: shop, namespace: shop}", "{name: shop, namespace: \"\"}", "metadata.namespace: '' must be"),
            (
                "{name: shop, namespace: shop}",
                "{name: 5}",
                "metadata.name: must be a text, not a number: put it in quotes",
            ),
            ("{name: shop, namespace: shop}", "{namespace: shop}", "metadata.name: is missing"),
            (
                "{name: shop, namespace: shop}",
                "{name: shop, labls: {}}",
                "metadata.labls: unknown field, did you mean labels?",
            ),
            ("spec:\n  mode", "Spec:\n  mode", "Spec: unknown field, did you mean spec?"),
            ("  masks:\n", "  masks: []\n  masks:\n", "comes twice"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let found = messages(&EXAMPLE.replacen(from, to, 1));
            if !found.iter().any(|message| message.contains(expected)) {
                wrong.push(format!("{to}: {found:#?}"));
            }
        }
        let several =
            messages(&EXAMPLE.replace("rowFilters:", "rowFilter:").replace("groups: [fraud]", "grops: [fraud]"));
        assert_eq!(
            several,
            [
                "DatabaseAccessPolicy 'shop': spec.masks[0].exempt.grops: unknown field, did you mean groups?",
                "DatabaseAccessPolicy 'shop': spec.rules[0].rowFilter: unknown field, did you mean rowFilters?",
            ]
        );
    }

    #[test]
    fn objects_have_a_namespace_and_are_defined_once() {
        let objects = read(IDENTITY_HEAD).unwrap();
        assert_eq!(objects[0].key(), ("NonHumanIdentity", "default", "x"));
        let twice = format!("{IDENTITY_HEAD}---\n{IDENTITY_HEAD}");
        assert_eq!(messages(&twice), ["NonHumanIdentity 'x': is defined twice"]);
        let other = IDENTITY_HEAD.replace("{name: x}", "{name: x, namespace: other}");
        assert_eq!(read(&format!("{IDENTITY_HEAD}---\n{other}")).unwrap().len(), 2);
        for empty in ["", "\n", "---\n---\n", "# nothing\n", "null\n"] {
            assert_eq!(read(empty), Ok(vec![]), "{empty:?}");
        }
    }

    #[test]
    fn what_kubectl_writes_beside_the_spec_is_known() {
        let exported = IDENTITY_HEAD.replace(
            "{name: x}",
            "{name: x, uid: u, generation: 3, creationTimestamp: null, labels: {a: b}, managedFields: [{manager: kubectl}]}",
        ) + "status: {observedGeneration: 3, conditions: []}\n";
        // `creationTimestamp: null` is what kubectl itself prints with --dry-run.
        assert_eq!(messages(&exported), [] as [String; 0]);
    }

    #[test]
    fn hostile_text_is_refused_within_bounds() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
        }
        let deep = "[".repeat(200_000);
        let empty = "---\n".repeat(100_000);
        let flow = format!("{}{}", "{a: ".repeat(5_000), "}".repeat(5_000));
        let wide = "x: [".to_owned() + &"1,".repeat(200_000) + "]";
        let keys = (0..60_000).map(|key| format!("k{key}: 1\n")).collect::<String>();
        let documents = "--- 1\n".repeat(100_000);
        let large = "#".repeat(MAX_BYTES + 1);
        let recursive = "a: &a [*a]".to_owned();
        let tabs = "a:\n\t- b".to_owned();
        let nul = "a: \"\\0\"\nkind: NonHumanIdentity\0".to_owned();
        let start = std::time::Instant::now();
        for text in [bomb, deep, empty, flow, wide, keys, documents, large, recursive, tabs, nul] {
            let begun = std::time::Instant::now();
            let errors = read(&text).expect_err("refused");
            assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}: {}", begun.elapsed(), errors[0]);
            assert!(errors.len() <= MAX_ERRORS + 1, "{}", errors.len());
            assert!(errors.iter().all(|error| error.to_string().len() < 1000), "{}", errors[0]);
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    }

    #[test]
    fn anchors_that_are_used_as_meant_work() {
        let text = IDENTITY_HEAD.to_owned()
            + "  groups: &g [a]\n---\n"
            + &IDENTITY_HEAD.replace("{name: x}", "{name: &n y, labels: {app: *n}}");
        assert_eq!(read(&text).unwrap()[1].key().2, "y");
    }

    #[test]
    fn texts_that_other_yaml_readers_take_for_something_else_stay_texts() {
        for (written, read_as) in [
            ("no", Some("no")),
            ("on", Some("on")),
            ("1_0", Some("1_0")),
            ("~", None),
            ("012", Some("012")),
            ("0x1F", None),
            ("true", None),
        ] {
            let text = IDENTITY_HEAD.replace("postgresRole: app", &format!("postgresRole: {written}"));
            let role = read(&text).ok().and_then(|objects| match &objects[0] {
                Object::Identity(identity) => Some(identity.spec.postgres_role.clone()),
                Object::Policy(_) => None,
            });
            assert_eq!(role.as_deref(), read_as, "{written}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[a-z:{}\\[\\]&*!|>#%@'\",?\\- \n\t~<]{0,60}") {
            let _ = read(&text);
        }

        /// Whatever a change of one place makes of the example, the answer is an object or a mistake with its place.
        #[test]
        fn a_broken_example_is_read_or_told(at in 0usize..3000, cut in 0usize..6, put in "[a-z:{}\\[\\]\", \n-]{0,4}") {
            let mut text = EXAMPLE.to_owned();
            let at = at.min(text.len() - cut);
            text.replace_range(at..at + cut, &put);
            match read(&text) {
                Ok(objects) => {
                    for object in objects {
                        let errors = match object {
                            Object::Policy(policy) => policy.compile().err(),
                            Object::Identity(identity) => identity.compile().err(),
                        };
                        assert!(errors.into_iter().flatten().all(|error| error.path.starts_with("spec.")));
                    }
                }
                Err(errors) => assert!(errors.iter().all(|error| !error.message.is_empty())),
            }
        }
    }
}
