//! The catalog as a file, so that policies can be checked where no database is: `check --write-schema` and `--schema`.
//!
//! **Promise.** Names, types, definitions and nothing else: no row, no statistic, no password. Literals in defaults,
//! views and the bodies of SQL and PL/pgSQL functions are part of their definitions.
//! **Also.** Two databases with the same objects give the same text but for their built-in parts' version: objects are
//! sorted by name, one a line, and the oids of what users made are worked out from names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::load::FIRST_USER_OID;
use super::{Cast, Catalog, Collation, Function, Name, Oid, Operator, Relation, Type, is_default};

/// What the file says it is.
pub const FORMAT: &str = "postern.dev/schema/v1";

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not JSON, or not of this shape.
    #[error("not a schema file: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format or version.
    #[error("the file's format is {0:?}; this version reads {FORMAT:?}")]
    Format(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    server_version: u32,
    schemas: BTreeMap<String, Oid>,
    extensions: Vec<String>,
    roles: BTreeMap<String, bool>,
    relations: Vec<Relation>,
    types: Vec<Type>,
    functions: Vec<Function>,
    operators: Vec<Operator>,
    casts: Vec<FileCast>,
    collations: BTreeMap<String, Vec<Collation>>,
    /// [`Catalog::type_checks`].
    #[serde(default, skip_serializing_if = "is_default")]
    type_checks: BTreeMap<Oid, BTreeSet<Oid>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCast {
    source: Oid,
    target: Oid,
    #[serde(default, skip_serializing_if = "is_default")]
    function: Oid,
    context: char,
    method: char,
    /// Whether its function is not in pg_catalog.
    #[serde(default, skip_serializing_if = "is_default")]
    user: bool,
}

/// The catalog as the text of a file.
pub fn write(catalog: &Catalog) -> Result<String, SnapshotError> {
    let oids = stable_oids(catalog);
    let map = |oid: Oid| oids.get(&oid).copied().unwrap_or(oid);
    let mut relations: Vec<Relation> = catalog.relations.values().map(|found| renumbered(found, &map)).collect();
    relations.sort_by(|a, b| (a.system, &a.schema, &a.name).cmp(&(b.system, &b.schema, &b.name)));
    let mut types: Vec<Type> = catalog.types.values().cloned().collect();
    for found in &mut types {
        for oid in [
            &mut found.oid,
            &mut found.element,
            &mut found.array,
            &mut found.base,
            &mut found.relation,
            &mut found.collation,
            &mut found.range_of,
        ] {
            *oid = map(*oid);
        }
    }
    types.sort_by(|a, b| (built_in(a.oid), &a.schema, &a.name).cmp(&(built_in(b.oid), &b.schema, &b.name)));
    let mut functions: Vec<Function> = catalog.functions.values().flatten().cloned().collect();
    for found in &mut functions {
        found.arguments = found.arguments.iter().copied().map(map).collect();
        for oid in [&mut found.oid, &mut found.variadic, &mut found.result] {
            *oid = map(*oid);
        }
        for (_, oid) in &mut found.out_columns {
            *oid = map(*oid);
        }
    }
    let key = |found: &Function| {
        (built_in(found.oid), found.schema.clone(), found.name.clone(), found.arguments.clone(), found.oid)
    };
    functions.sort_by_cached_key(key);
    let mut operators: Vec<Operator> = catalog.operators.values().flatten().cloned().collect();
    for found in &mut operators {
        for oid in [&mut found.left, &mut found.right, &mut found.result, &mut found.function] {
            *oid = map(*oid);
        }
    }
    operators.sort_by(|a, b| (&a.schema, &a.name, a.left, a.right).cmp(&(&b.schema, &b.name, b.left, b.right)));
    let mut casts: Vec<FileCast> = catalog
        .casts
        .iter()
        .map(|((source, target), cast)| FileCast {
            source: map(*source),
            target: map(*target),
            function: map(cast.function),
            context: cast.context,
            method: cast.method,
            user: catalog.user_casts.contains_key(&(*source, *target)),
        })
        .collect();
    casts.sort_by_key(|cast| (built_in(cast.source), cast.source, cast.target));
    let mut collations: BTreeMap<String, Vec<Collation>> =
        catalog.collations.iter().map(|(name, list)| (name.to_string(), list.clone())).collect();
    for found in collations.values_mut().flatten() {
        found.oid = map(found.oid);
    }
    let mut extensions: Vec<String> = catalog.extensions.iter().map(|name| name.to_string()).collect();
    extensions.sort();
    let file = File {
        format: FORMAT.to_owned(),
        server_version: catalog.server_version,
        schemas: catalog.schemas.iter().map(|(name, oid)| (name.to_string(), map(*oid))).collect(),
        extensions,
        roles: catalog.roles.iter().map(|(name, superuser)| (name.to_string(), *superuser)).collect(),
        relations,
        types,
        functions,
        operators,
        casts,
        collations,
        type_checks: catalog
            .type_checks
            .iter()
            .map(|(kind, functions)| (map(*kind), functions.iter().copied().map(map).collect()))
            .collect(),
    };
    let mut text = String::new();
    lines(&serde_json::to_value(file)?, 0, &mut text)?;
    text.push('\n');
    Ok(text)
}

/// The catalog in the text of a file. Its version is 1: it is the only one.
pub fn read(text: &str) -> Result<Catalog, SnapshotError> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    // First, so that a file of a later format isn't blamed for a field.
    let head: Head = serde_json::from_str(text)?;
    if head.format != FORMAT {
        return Err(SnapshotError::Format(head.format));
    }
    let file: File = serde_json::from_str(text)?;
    let mut catalog = Catalog {
        version: 1,
        server_version: file.server_version,
        schemas: file.schemas.into_iter().map(|(name, oid)| (name.into(), oid)).collect(),
        extensions: file.extensions.into_iter().map(Name::from).collect(),
        roles: file.roles.into_iter().map(|(name, superuser)| (name.into(), superuser)).collect(),
        collations: file.collations.into_iter().map(|(name, list)| (name.into(), list)).collect(),
        type_checks: file.type_checks.into_iter().collect(),
        ..Catalog::default()
    };
    for relation in file.relations {
        catalog.add_relation(relation);
    }
    for found in file.types {
        catalog.add_type(found);
    }
    for function in file.functions {
        catalog.add_function(function);
    }
    for operator in file.operators {
        catalog.add_operator(operator);
    }
    for FileCast { source, target, function, context, method, user } in file.casts {
        if user {
            catalog.user_casts.insert((source, target), function);
        }
        catalog.casts.insert((source, target), Cast { function, context, method });
    }
    catalog.settle();
    Ok(catalog)
}

fn built_in(oid: Oid) -> bool {
    oid < FIRST_USER_OID
}

fn renumbered(relation: &Relation, map: &impl Fn(Oid) -> Oid) -> Relation {
    let mut found = relation.clone();
    found.oid = map(found.oid);
    found.row_type = map(found.row_type);
    for column in &mut found.columns {
        column.type_oid = map(column.type_oid);
        column.collation = map(column.collation);
    }
    for index in &mut found.indexes {
        index.oid = map(index.oid);
    }
    for key in &mut found.foreign_keys {
        key.references = map(key.references);
    }
    for trigger in &mut found.triggers {
        trigger.function = map(trigger.function);
    }
    for oid in found.parents.iter_mut().chain(&mut found.children) {
        *oid = map(*oid);
    }
    found.children.sort_unstable();
    for (oid, _) in &mut found.depends_on {
        *oid = map(*oid);
    }
    found.depends_on.sort_unstable();
    for oid in &mut found.calls {
        *oid = map(*oid);
    }
    found.calls.sort_unstable();
    if let Some((oid, _)) = &mut found.owned_by {
        *oid = map(*oid);
    }
    found
}

/// An oid for each object that users made, from what it is and its name: the same in every copy of the database.
fn stable_oids(catalog: &Catalog) -> HashMap<Oid, Oid> {
    let mut keys: BTreeMap<String, Oid> = BTreeMap::new();
    let mut add = |key: String, oid: Oid| {
        if !built_in(oid) {
            keys.insert(key, oid);
        }
    };
    for (name, oid) in &catalog.schemas {
        add(format!("schema\0{name}"), *oid);
    }
    for relation in catalog.relations.values() {
        add(format!("relation\0{}\0{}", relation.schema, relation.name), relation.oid);
    }
    for found in catalog.types.values() {
        add(format!("type\0{}\0{}", found.schema, found.name), found.oid);
    }
    for function in catalog.functions.values().flatten() {
        let mut key = format!("function\0{}\0{}", function.schema, function.name);
        for oid in function.arguments.iter() {
            key.push('\0');
            if let Some(found) = catalog.types.get(oid) {
                key.push_str(&found.schema);
                key.push('.');
                key.push_str(&found.name);
            }
        }
        add(key, function.oid);
    }
    for (name, list) in &catalog.collations {
        for collation in list {
            add(format!("collation\0{}\0{name}", collation.schema), collation.oid);
        }
    }
    let mut taken = HashSet::new();
    let mut oids = HashMap::new();
    for (key, oid) in keys {
        let mut stable = oid_from(&key);
        while built_in(stable) || !taken.insert(stable) {
            stable = stable.wrapping_add(1);
        }
        oids.insert(oid, stable);
    }
    oids
}

/// FNV-1a, folded: short, and fixed for ever.
fn oid_from(key: &str) -> Oid {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

/// JSON with one object a line where that reads well: lists of objects and the file itself are broken, the rest is not.
fn lines(value: &Value, depth: usize, out: &mut String) -> Result<(), serde_json::Error> {
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Object(fields) if depth == 0 => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                indent(out, 1);
                out.push_str(&serde_json::to_string(name)?);
                out.push_str(": ");
                lines(value, 1, out)?;
            }
            out.push_str("\n}");
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&serde_json::to_string(name)?);
                out.push_str(": ");
                lines(value, depth, out)?;
            }
            out.push('}');
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                indent(out, depth.saturating_add(1));
                lines(item, depth.saturating_add(1), out)?;
            }
            indent(out, depth);
            out.push(']');
        }
        other => out.push_str(&serde_json::to_string(other)?),
    }
    Ok(())
}

/// Serde for a shared text: serde's own needs a feature that the whole workspace would be built with.
macro_rules! shared {
    ($module:ident: $shared:ty => $plain:ty, $out:expr, $back:expr) => {
        pub(super) mod $module {
            use super::*;

            pub(in super::super) fn serialize<S: Serializer>(value: &$shared, to: S) -> Result<S::Ok, S::Error> {
                let out: fn(&$shared) -> $plain = $out;
                out(value).serialize(to)
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$shared, D::Error> {
                let back: fn($plain) -> $shared = $back;
                <$plain>::deserialize(from).map(back)
            }
        }
    };
}

shared!(one: Name => String, |name| name.to_string(), Name::from);
shared!(maybe: Option<Name> => Option<String>, |name| name.as_deref().map(str::to_owned), |name| name.map(Name::from));
shared!(list: Vec<Name> => Vec<String>, |names| names.iter().map(|name| name.to_string()).collect(), |names| {
    names.into_iter().map(Name::from).collect()
});
shared!(oids: Arc<[Oid]> => Vec<Oid>, |oids| oids.to_vec(), Arc::from);
shared!(pairs: Box<[(Name, Oid)]> => Vec<(String, Oid)>,
    |pairs| pairs.iter().map(|(name, oid)| (name.to_string(), *oid)).collect(),
    |pairs| pairs.into_iter().map(|(name, oid)| (Name::from(name), oid)).collect());
