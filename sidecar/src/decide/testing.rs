//! Catalogs and policies made by hand, for tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use postern_crds::files::{Object, read};

use super::bind::bind;
use super::bound::BoundPolicy;
use crate::catalog::{Catalog, Column, Oid, Relation, RelationKind, Type};

/// Built-in types by oid, name, the name `format_type` gives, and category.
const TYPES: [(Oid, &str, &str, char); 22] = [
    (16, "bool", "boolean", 'B'),
    (17, "bytea", "bytea", 'U'),
    (19, "name", "name", 'S'),
    (20, "int8", "bigint", 'N'),
    (21, "int2", "smallint", 'N'),
    (23, "int4", "integer", 'N'),
    (25, "text", "text", 'S'),
    (114, "json", "json", 'U'),
    (700, "float4", "real", 'N'),
    (701, "float8", "double precision", 'N'),
    (869, "inet", "inet", 'I'),
    (1042, "bpchar", "character", 'S'),
    (1043, "varchar", "character varying", 'S'),
    (1082, "date", "date", 'D'),
    (1083, "time", "time without time zone", 'D'),
    (1114, "timestamp", "timestamp without time zone", 'D'),
    (1184, "timestamptz", "timestamp with time zone", 'D'),
    (1186, "interval", "interval", 'T'),
    (1700, "numeric", "numeric", 'N'),
    (2950, "uuid", "uuid", 'U'),
    (3802, "jsonb", "jsonb", 'U'),
    (1009, "_text", "text[]", 'A'),
];

/// A catalog of the built-in types and nothing else.
pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog { server_version: 150_004, ..Catalog::default() };
    for (oid, name, _, category) in TYPES {
        catalog.add_type(Type {
            oid,
            schema: "pg_catalog".into(),
            name: name.into(),
            kind: 'b',
            category,
            element: if oid == 1009 { 25 } else { 0 },
            array: if oid == 25 { 1009 } else { 0 },
            base: 0,
            relation: 0,
            collation: if category == 'S' { 100 } else { 0 },
            preferred: false,
            range_of: 0,
            base_modifier: -1,
            labels: Vec::new(),
            not_null: false,
            has_checks: false,
            default: None,
        });
    }
    catalog
}

/// A column of a type as `format_type` writes it, modifier included.
pub(crate) fn column(_catalog: &Catalog, number: i16, name: &str, type_sql: &str) -> Column {
    let (bare, modifier) = match type_sql.split_once('(') {
        Some((bare, rest)) => {
            let (numbers, after) = rest.split_once(')').unwrap();
            let numbers: Vec<i32> = numbers.split(',').map(|number| number.trim().parse().unwrap()).collect();
            let modifier = match numbers.as_slice() {
                [length] => length + 4,
                [precision, scale] => ((precision << 16) | scale) + 4,
                _ => panic!("no modifier: {type_sql}"),
            };
            (format!("{bare}{after}"), modifier)
        }
        None => (type_sql.to_owned(), -1),
    };
    let (oid, .., category) = TYPES.iter().find(|(.., sql, _)| *sql == bare).copied().expect(type_sql);
    Column {
        number,
        name: name.into(),
        type_oid: oid,
        type_modifier: modifier,
        type_sql: type_sql.into(),
        collation: if category == 'S' { 100 } else { 0 },
        not_null: false,
        default: None,
        generated: None,
        is_virtual: false,
        identity: None,
    }
}

/// A table of columns given as `name type, …`.
pub(crate) fn table(catalog: &Catalog, oid: Oid, schema: &str, name: &str, columns: &[(&str, &str)]) -> Relation {
    let columns = columns.iter().zip(1..).map(|((name, kind), number)| column(catalog, number, name, kind)).collect();
    Relation::bare(oid, schema, name, RelationKind::Table, columns)
}

/// A policy that says nothing about what is in the catalog.
pub(crate) fn unrestricted(catalog: Catalog) -> BoundPolicy {
    let text = r#"
apiVersion: postern.dev/v1alpha1
kind: DatabaseAccessPolicy
metadata: {name: shop}
spec:
  database: {host: localhost, name: shop, tls: {mode: Disable}, credentials: {secret: {name: shop}}}
  rules:
  - {name: reads, to: {identities: [nightly]}, allow: [Select], relations: ["app.*"]}
---
apiVersion: postern.dev/v1alpha1
kind: NonHumanIdentity
metadata: {name: nightly}
spec: {subjects: [{serviceAccount: {name: nightly}}], postgresRole: reporting}
"#;
    let (mut policy, mut identity) = (None, None);
    for object in read(text).unwrap() {
        match object {
            Object::Policy(found) => policy = Some(found.compile().unwrap()),
            Object::Identity(found) => identity = Some(found.compile().unwrap()),
        }
    }
    bind(Arc::new(policy.unwrap()), Arc::new(identity.unwrap()), Arc::new(catalog), 1, None)
}
