//! The catalog: the proxy's snapshot of what exists in the database, and how names mean things in it.
//!
//! Plain data behind an `Arc`, replaced as a whole by a refresh. [`Catalog`] answers; [`load`] asks the server.

use std::collections::{HashMap, HashSet};

/// A Postgres object id.
pub type Oid = u32;

/// A snapshot of the database's objects.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Grows with each snapshot that differs from the one before.
    pub version: u64,
    /// `server_version_num`, such as 150004.
    pub server_version: u32,
    /// Schemas by name.
    pub schemas: HashMap<String, Oid>,
    /// Relations by oid.
    pub relations: HashMap<Oid, std::sync::Arc<Relation>>,
    /// Relations by (schema, name).
    pub relation_names: HashMap<String, HashMap<String, Oid>>,
    /// How many schemas hold a relation of this name.
    pub name_uses: HashMap<String, u32>,
    /// Types by oid.
    pub types: HashMap<Oid, Type>,
    /// Types by name, then the (schema, oid) pairs.
    pub type_names: HashMap<String, Vec<(String, Oid)>>,
    /// Functions, procedures and aggregates by name.
    pub functions: HashMap<String, Vec<Function>>,
    /// Operators outside pg_catalog by name (built-in ones are known by review, see `decide::builtins`).
    pub operators: HashMap<String, Vec<Operator>>,
    /// Casts whose function is not in pg_catalog, by (source, target).
    pub user_casts: HashMap<(Oid, Oid), Oid>,
    /// Extensions installed.
    pub extensions: HashSet<String>,
    /// Roles: name to whether it is a superuser.
    pub roles: HashMap<String, bool>,
}

/// A table, view, sequence, …
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: RelationKind,
    /// Whether it is in pg_temp.
    pub temporary: bool,
    /// Whether it is in pg_catalog, information_schema or pg_toast.
    pub system: bool,
    /// Columns that are not dropped, by attribute number ascending.
    pub columns: Vec<Column>,
    /// Oid of its composite type; 0 for none.
    pub row_type: Oid,
    /// Unique and other indexes.
    pub indexes: Vec<Index>,
    /// CHECK constraints.
    pub checks: Vec<Check>,
    /// Foreign keys from this relation.
    pub foreign_keys: Vec<ForeignKey>,
    /// User triggers.
    pub triggers: Vec<Trigger>,
    /// Whether it has rewrite rules besides a view's own.
    pub has_rules: bool,
    /// Relations that it inherits from or is a partition of, direct ones.
    pub parents: Vec<Oid>,
    /// Relations that inherit from it or are partitions of it, direct ones.
    pub children: Vec<Oid>,
    /// `pg_get_viewdef` with an empty search_path, for views and materialized views.
    pub definition: Option<String>,
    /// For a view or materialized view: the (relation, attribute number) pairs that its rule depends on (pg_depend); attribute 0 is the whole relation.
    pub depends_on: Vec<(Oid, i16)>,
    /// For a sequence: the (relation, attribute number) that owns it.
    pub owned_by: Option<(Oid, i16)>,
    /// Whether row level security is on.
    pub row_security: bool,
}

/// `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// r
    Table,
    /// p
    PartitionedTable,
    /// v
    View,
    /// m
    MaterializedView,
    /// f
    ForeignTable,
    /// S
    Sequence,
    /// c
    Composite,
    /// t
    Toast,
    /// i and I
    Index,
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Attribute number, from 1.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
    /// Its type modifier; -1 for none.
    pub type_modifier: i32,
    /// `format_type` with an empty search_path, such as `numeric(10,2)`.
    pub type_sql: String,
    /// Its collation; 0 for none.
    pub collation: Oid,
    /// NOT NULL.
    pub not_null: bool,
    /// The default expression, as SQL.
    pub default: Option<String>,
    /// The generation expression, as SQL, for `GENERATED ALWAYS AS (…)`.
    pub generated: Option<String>,
    /// `a` or `d` for an identity column.
    pub identity: Option<char>,
}

/// An index.
#[derive(Clone, Debug)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its oid.
    pub oid: Oid,
    /// UNIQUE.
    pub unique: bool,
    /// PRIMARY KEY.
    pub primary: bool,
    /// Whether it is immediate, valid and without NULLS NOT DISTINCT subtleties.
    pub valid: bool,
    /// Key columns by attribute number; 0 stands for an expression.
    pub columns: Vec<i16>,
    /// The key expressions as SQL, for the zeros of `columns`.
    pub expressions: Option<String>,
    /// The predicate of a partial index, as SQL.
    pub predicate: Option<String>,
    /// Columns that expressions and predicate read.
    pub reads: Vec<i16>,
}

/// A CHECK constraint.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The columns that it reads.
    pub columns: Vec<i16>,
    /// The expression, as SQL.
    pub expression: String,
}

/// A foreign key.
#[derive(Clone, Debug)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The referencing columns.
    pub columns: Vec<i16>,
    /// The referenced relation.
    pub references: Oid,
    /// The referenced columns.
    pub referenced_columns: Vec<i16>,
    /// `pg_constraint.confdeltype`: a, r, c, n, d.
    pub on_delete: char,
    /// `pg_constraint.confupdtype`.
    pub on_update: char,
}

/// A user trigger.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// Its function.
    pub function: Oid,
    /// `pg_trigger.tgtype`.
    pub kind: i16,
}

/// A type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name, such as `int4` or `_int4`.
    pub name: String,
    /// `pg_type.typtype`: b, c, d, e, p, r, m.
    pub kind: char,
    /// `pg_type.typcategory`.
    pub category: char,
    /// The element type of an array; 0 otherwise.
    pub element: Oid,
    /// The array type over it; 0 for none.
    pub array: Oid,
    /// The base type of a domain; 0 otherwise.
    pub base: Oid,
    /// The relation of a composite type; 0 otherwise.
    pub relation: Oid,
    /// `typcollation`.
    pub collation: Oid,
}

/// A function, procedure or aggregate.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Argument types.
    pub arguments: Vec<Oid>,
    /// How many of the last have defaults.
    pub defaults: u16,
    /// The element type of a VARIADIC last argument; 0 for none.
    pub variadic: Oid,
    /// Result type.
    pub result: Oid,
    /// Whether it returns a set.
    pub set_returning: bool,
    /// `pg_proc.prokind`: f, p, a, w.
    pub kind: char,
    /// `provolatile`: i, s, v.
    pub volatility: char,
    /// `proleakproof`.
    pub leakproof: bool,
    /// SECURITY DEFINER.
    pub security_definer: bool,
    /// Its language.
    pub language: String,
    /// Its body, for functions outside pg_catalog.
    pub body: Option<String>,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// Names and types of OUT and TABLE columns.
    pub out_columns: Vec<(String, Oid)>,
}

/// An operator outside pg_catalog.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Left operand type; 0 for a prefix operator.
    pub left: Oid,
    /// Right operand type.
    pub right: Oid,
    /// Result type.
    pub result: Oid,
    /// Its function.
    pub function: Oid,
    /// The extension that it belongs to.
    pub extension: Option<String>,
}

impl Catalog {
    /// The relation of this schema and name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&std::sync::Arc<Relation>> {
        self.relations.get(self.relation_names.get(schema)?.get(name)?)
    }
}

impl Relation {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of this attribute number.
    pub fn column_at(&self, number: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }
}
