//! The catalog: the proxy's snapshot of what exists in the database, and how names mean things in it.
//!
//! Plain data behind an `Arc`, replaced as a whole by a refresh. [`Catalog`] answers; [`load`] asks the server.
//!
//! Names are [`Name`]s: shared, because schemas, column names and types repeat thousands of times in a large database.

pub mod code;
pub mod connect;
pub mod load;
pub mod names;
pub mod overlay;
pub mod refresh;
pub mod snapshot;
pub mod view_columns;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A Postgres object id.
pub type Oid = u32;

/// A name or text of the catalog; equal ones share their memory.
pub type Name = Arc<str>;

/// A relation's name as a statement has it: its schema, if that was written, and itself.
pub type WrittenName = (Option<String>, String);

/// A snapshot of the database's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Grows with each snapshot that differs from the one before.
    pub version: u64,
    /// `server_version_num`, such as 150004.
    pub server_version: u32,
    /// The database that it is of: its cluster's identifier, which replicas share, and its oid. Between others oids mean
    /// nothing. Empty where the server doesn't tell.
    pub origin: String,
    /// Schemas by name.
    pub schemas: HashMap<Name, Oid>,
    /// Relations by oid.
    pub relations: HashMap<Oid, Arc<Relation>>,
    /// Relations by (schema, name).
    pub relation_names: HashMap<Name, HashMap<Name, Oid>>,
    /// How many schemas hold a relation of this name.
    pub name_uses: HashMap<Name, u32>,
    /// Relations with a foreign key to this one, by oid.
    pub referenced_by: HashMap<Oid, Vec<Oid>>,
    /// Views and materialized views whose definition uses this relation directly, by oid.
    pub used_by_views: HashMap<Oid, Vec<Oid>>,
    /// Types by oid.
    pub types: HashMap<Oid, Type>,
    /// Types by name, then the (schema, oid) pairs.
    pub type_names: HashMap<Name, Vec<(Name, Oid)>>,
    /// Functions, procedures and aggregates by name, those of pg_catalog included.
    pub functions: HashMap<Name, Vec<Function>>,
    /// Names of functions by oid; see [`Catalog::function`].
    pub function_names: HashMap<Oid, Name>,
    /// Operators by name, those of pg_catalog included.
    pub operators: HashMap<Name, Vec<Operator>>,
    /// Casts by (source, target), those of pg_catalog included.
    pub casts: HashMap<(Oid, Oid), Cast>,
    /// Casts whose function is not in pg_catalog, by (source, target).
    pub user_casts: HashMap<(Oid, Oid), Oid>,
    /// Functions outside pg_catalog that CHECKs of domains call, by domain and by each type that holds one.
    pub type_checks: HashMap<Oid, BTreeSet<Oid>>,
    /// Whether some function of the database's own may set `search_path` for whoever calls it.
    pub may_turn_path: bool,
    /// Collations by name, those of pg_catalog included.
    pub collations: HashMap<Name, Vec<Collation>>,
    /// Extensions installed.
    pub extensions: HashSet<Name>,
    /// Roles: name to whether it is a superuser.
    pub roles: HashMap<Name, bool>,
}

/// A table, view, sequence, …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    #[serde(with = "snapshot::one")]
    pub schema: Name,
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// Its kind.
    pub kind: RelationKind,
    /// Whether it is in pg_temp.
    #[serde(default, skip_serializing_if = "is_default")]
    pub temporary: bool,
    /// Whether it is in pg_catalog, information_schema or pg_toast.
    #[serde(default, skip_serializing_if = "is_default")]
    pub system: bool,
    /// Columns that are not dropped, by attribute number ascending.
    #[serde(default, skip_serializing_if = "is_default")]
    pub columns: Vec<Column>,
    /// Oid of its composite type; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub row_type: Oid,
    /// Unique and other indexes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub indexes: Vec<Index>,
    /// CHECK constraints.
    #[serde(default, skip_serializing_if = "is_default")]
    pub checks: Vec<Check>,
    /// Foreign keys from this relation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub foreign_keys: Vec<ForeignKey>,
    /// User triggers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub triggers: Vec<Trigger>,
    /// Whether it has rewrite rules besides a view's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub has_rules: bool,
    /// Relations that it inherits from or is a partition of, direct ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parents: Vec<Oid>,
    /// Relations that inherit from it or are partitions of it, direct ones.
    #[serde(default, skip_serializing_if = "is_default")]
    pub children: Vec<Oid>,
    /// `pg_get_viewdef` with an empty search_path, for views and materialized views.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub definition: Option<Name>,
    /// For a view or materialized view: the (relation, attribute number) pairs that its rule depends on (pg_depend);
    /// attribute 0 is the whole relation, present wherever the definition may use a whole row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub depends_on: Vec<(Oid, i16)>,
    /// For a view or materialized view: the functions that its rule calls (pg_depend), by operators and in aggregates too, and
    /// those that these are made of. What came with the server is left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub calls: Vec<Oid>,
    /// For a view: whether it has WITH CHECK OPTION.
    #[serde(default, skip_serializing_if = "is_default")]
    pub check_option: bool,
    /// For a partitioned table: the columns that its partition key reads; all of them for a whole row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub partition_key: Vec<i16>,
    /// For a sequence: the (relation, attribute number) that owns it. For an index: the relation that it is on, with 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub owned_by: Option<(Oid, i16)>,
    /// Whether row level security is on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub row_security: bool,
    /// The extension that it belongs to.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub extension: Option<Name>,
}

impl Relation {
    /// A relation of these columns, of which nothing else is known.
    pub fn bare(oid: Oid, schema: &str, name: &str, kind: RelationKind, columns: Vec<Column>) -> Self {
        Self {
            oid,
            schema: schema.into(),
            name: name.into(),
            kind,
            temporary: schema == names::PG_TEMP,
            system: false,
            columns,
            row_type: 0,
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            triggers: Vec::new(),
            has_rules: false,
            parents: Vec::new(),
            children: Vec::new(),
            definition: None,
            depends_on: Vec::new(),
            calls: Vec::new(),
            check_option: false,
            partition_key: Vec::new(),
            owned_by: None,
            row_security: false,
            extension: None,
        }
    }
}

/// `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// t; never in a snapshot, see [`load`].
    Toast,
    /// i and I
    Index,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Attribute number, from 1.
    pub number: i16,
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// Its type.
    pub type_oid: Oid,
    /// Its type modifier; -1 for none.
    pub type_modifier: i32,
    /// `format_type` with an empty search_path, such as `numeric(10,2)`.
    #[serde(with = "snapshot::one")]
    pub type_sql: Name,
    /// Its collation; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub collation: Oid,
    /// NOT NULL.
    #[serde(default, skip_serializing_if = "is_default")]
    pub not_null: bool,
    /// The default expression, as SQL.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub default: Option<Name>,
    /// The generation expression, as SQL, for `GENERATED ALWAYS AS (…)`.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub generated: Option<Name>,
    /// Whether it is generated where it is read (since Postgres 18), not stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_virtual: bool,
    /// `a` or `d` for an identity column.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: Option<char>,
}

impl Column {
    /// Its type, unless it is of a relation that is yet to be made and whose types only the server will know.
    pub const fn known_type(&self) -> Option<Oid> {
        if self.type_oid == 0 { None } else { Some(self.type_oid) }
    }
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// Its oid.
    pub oid: Oid,
    /// UNIQUE.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unique: bool,
    /// PRIMARY KEY.
    #[serde(default, skip_serializing_if = "is_default")]
    pub primary: bool,
    /// Whether its uniqueness can be relied on at any time: valid and immediate, no exclusion constraint, and equality in
    /// it means at least what the columns' own `=` means (operator class, collation).
    #[serde(default, skip_serializing_if = "is_default")]
    pub valid: bool,
    /// Key columns by attribute number; 0 stands for an expression.
    #[serde(default, skip_serializing_if = "is_default")]
    pub columns: Vec<i16>,
    /// The key expressions as SQL, for the zeros of `columns`.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub expressions: Option<Name>,
    /// The predicate of a partial index, as SQL.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub predicate: Option<Name>,
    /// Columns that expressions and predicate read (all of them for a whole row), maybe key columns too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reads: Vec<i16>,
}

/// A CHECK constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// The columns that it reads; all of them for a whole row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub columns: Vec<i16>,
    /// The expression, as SQL.
    #[serde(with = "snapshot::one")]
    pub expression: Name,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignKey {
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// The referencing columns.
    #[serde(default, skip_serializing_if = "is_default")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// Its function.
    #[serde(default, skip_serializing_if = "is_default")]
    pub function: Oid,
    /// `pg_trigger.tgtype`.
    pub kind: i16,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Type {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    #[serde(with = "snapshot::one")]
    pub schema: Name,
    /// Its name, such as `int4` or `_int4`.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// `pg_type.typtype`: b, c, d, e, p, r, m.
    pub kind: char,
    /// `pg_type.typcategory`.
    pub category: char,
    /// The element type of an array; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub element: Oid,
    /// The array type over it; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub array: Oid,
    /// The base type of a domain; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: Oid,
    /// The relation of a composite type; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relation: Oid,
    /// `typcollation`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub collation: Oid,
    /// Whether it is the preferred type of its category.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preferred: bool,
    /// The subtype of a range or multirange; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub range_of: Oid,
    /// `typtypmod`: the type modifier that a domain gives its base type; -1 for none.
    pub base_modifier: i32,
    /// The labels of an enum, in order.
    #[serde(with = "snapshot::list", default, skip_serializing_if = "is_default")]
    pub labels: Vec<Name>,
    /// Whether it is a domain (over a domain …) with NOT NULL.
    #[serde(default, skip_serializing_if = "is_default")]
    pub not_null: bool,
    /// Whether it is a domain (over a domain …) with a CHECK.
    #[serde(default, skip_serializing_if = "is_default")]
    pub has_checks: bool,
    /// What a domain gives a column without a default of its own, as SQL.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub default: Option<Name>,
}

/// A function, procedure or aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    #[serde(with = "snapshot::one")]
    pub schema: Name,
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// Types of the arguments that a call gives (IN, INOUT, VARIADIC).
    #[serde(with = "snapshot::oids")]
    pub arguments: Arc<[Oid]>,
    /// How many of the last have defaults.
    #[serde(default, skip_serializing_if = "is_default")]
    pub defaults: u16,
    /// The element type of a VARIADIC last argument; 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub variadic: Oid,
    /// Result type.
    pub result: Oid,
    /// Whether it returns a set.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set_returning: bool,
    /// `pg_proc.prokind`: f, p, a, w.
    pub kind: char,
    /// `provolatile`: i, s, v.
    pub volatility: char,
    /// `proleakproof`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub leakproof: bool,
    /// SECURITY DEFINER.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security_definer: bool,
    /// Its language.
    #[serde(with = "snapshot::one")]
    pub language: Name,
    /// Its body, for functions in SQL and PL/pgSQL that are not built in; `None` where that
    /// would be too long, see [`load::MAX_BODY`] and [`load::MAX_BODIES`].
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub body: Option<Name>,
    /// By what it finds names that have no schema.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lookup: code::Lookup,
    /// Whether something that is stored calls it: a trigger, a CHECK, a default, a view, an index, an aggregate, an operator, a cast.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stored: bool,
    /// The extension that it belongs to.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub extension: Option<Name>,
    /// Names and types of OUT, INOUT and TABLE columns.
    #[serde(with = "snapshot::pairs", default, skip_serializing_if = "is_default")]
    pub out_columns: Box<[(Name, Oid)]>,
}

/// A collation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collation {
    /// Its oid.
    pub oid: Oid,
    /// Its schema.
    #[serde(with = "snapshot::one")]
    pub schema: Name,
    /// Whether equal means byte-wise equal.
    pub deterministic: bool,
}

/// A cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cast {
    /// Its function; 0 for one that needs none or goes through the types' text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub function: Oid,
    /// `castcontext`: i (implicit), a (assignment), e (explicit).
    pub context: char,
    /// `castmethod`: f (function), i (through text), b (binary coercible).
    pub method: char,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Its schema.
    #[serde(with = "snapshot::one")]
    pub schema: Name,
    /// Its name.
    #[serde(with = "snapshot::one")]
    pub name: Name,
    /// Left operand type; 0 for a prefix operator.
    #[serde(default, skip_serializing_if = "is_default")]
    pub left: Oid,
    /// Right operand type.
    pub right: Oid,
    /// Result type.
    pub result: Oid,
    /// Its function.
    #[serde(default, skip_serializing_if = "is_default")]
    pub function: Oid,
    /// The extension that it belongs to.
    #[serde(with = "snapshot::maybe", default, skip_serializing_if = "is_default")]
    pub extension: Option<Name>,
}

impl Catalog {
    /// The relation of this schema and name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.relations.get(self.relation_names.get(schema)?.get(name)?)
    }

    /// The function of this oid.
    pub fn function(&self, oid: Oid) -> Option<&Function> {
        self.functions.get(self.function_names.get(&oid)?)?.iter().find(|function| function.oid == oid)
    }

    /// Adds a relation, with the indexes by name.
    pub fn add_relation(&mut self, relation: Relation) {
        let names = self.relation_names.entry(relation.schema.clone()).or_default();
        if names.insert(relation.name.clone(), relation.oid).is_none() {
            let uses = self.name_uses.entry(relation.name.clone()).or_default();
            *uses = uses.saturating_add(1);
        }
        for key in &relation.foreign_keys {
            push_new(self.referenced_by.entry(key.references).or_default(), relation.oid);
        }
        for (used, _) in &relation.depends_on {
            push_new(self.used_by_views.entry(*used).or_default(), relation.oid);
        }
        self.relations.insert(relation.oid, Arc::new(relation));
    }

    /// Adds a type, with the index by name.
    pub fn add_type(&mut self, kind: Type) {
        self.type_names.entry(kind.name.clone()).or_default().push((kind.schema.clone(), kind.oid));
        self.types.insert(kind.oid, kind);
    }

    /// Adds a function, with the index by oid.
    pub fn add_function(&mut self, function: Function) {
        self.function_names.insert(function.oid, function.name.clone());
        self.functions.entry(function.name.clone()).or_default().push(function);
    }

    /// Brings what depends on the order of arrival into a fixed order, and frees what is spare.
    fn settle(&mut self) {
        let words = ["search_path", "set_config", "set schema", "reset", "execute"];
        self.may_turn_path =
            self.functions.values().flatten().any(|one| one.oid >= load::FIRST_USER_OID && one.may_say(&words));
        for list in self.functions.values_mut() {
            list.sort_by_key(|function| function.oid);
            list.shrink_to_fit();
        }
        for list in self.operators.values_mut() {
            list.sort_by(|a, b| (a.left, a.right, &a.schema).cmp(&(b.left, b.right, &b.schema)));
            list.shrink_to_fit();
        }
        for list in self.type_names.values_mut() {
            list.sort();
            list.shrink_to_fit();
        }
        for list in self.referenced_by.values_mut().chain(self.used_by_views.values_mut()) {
            list.sort_unstable();
            list.shrink_to_fit();
        }
        for names in self.relation_names.values_mut() {
            names.shrink_to_fit();
        }
        for list in self.collations.values_mut() {
            list.sort_by_key(|collation| collation.oid);
            list.shrink_to_fit();
        }
        for kind in self.types.values_mut() {
            kind.labels.shrink_to_fit();
        }
        self.relations.shrink_to_fit();
        self.types.shrink_to_fit();
        self.type_names.shrink_to_fit();
        self.functions.shrink_to_fit();
        self.function_names.shrink_to_fit();
    }

    /// Keeps the older snapshot's relation wherever it is the same, so that the new one can be dropped and who remembers
    /// relations sees by the pointer what has not changed.
    fn share_with(&mut self, old: &Catalog) {
        for (oid, relation) in &mut self.relations {
            if let Some(same) = old.relations.get(oid).filter(|same| *same == relation) {
                relation.clone_from(same);
            }
        }
    }

    /// Adds an operator.
    pub fn add_operator(&mut self, operator: Operator) {
        self.operators.entry(operator.name.clone()).or_default().push(operator);
    }
}

/// What a snapshot file leaves out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn push_new(list: &mut Vec<Oid>, oid: Oid) {
    if !list.contains(&oid) {
        list.push(oid);
    }
}

impl Relation {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// The column of this attribute number.
    pub fn column_at(&self, number: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }
}

impl RelationKind {
    /// From `pg_class.relkind`.
    pub fn from_code(code: char) -> Option<Self> {
        Some(match code {
            'r' => RelationKind::Table,
            'p' => RelationKind::PartitionedTable,
            'v' => RelationKind::View,
            'm' => RelationKind::MaterializedView,
            'f' => RelationKind::ForeignTable,
            'S' => RelationKind::Sequence,
            'c' => RelationKind::Composite,
            't' => RelationKind::Toast,
            'i' | 'I' => RelationKind::Index,
            _ => return None,
        })
    }
}
