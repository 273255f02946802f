//! What a bound policy is in GRANTs: the second wall in the server itself, for roles that are made for one identity.
//!
//! **Promise.** The role may do whatever the gate sends for the identity, so that nothing is refused that the gate lets
//! through; and beyond that as little as GRANTs can say: verbs by relation, no hidden column, and no column whose mask is
//! a constant, unless it can be overwritten (to keep what is there, it has to be read). A column with another mask is
//! read by its mask, and a hidden one by a filter that is over it: those stay readable to the role.
//! **Not covered.** What an owner alone may do: DDL, and before Postgres 17 maintenance and LOCK TABLE in the modes that
//! only Lock gives. Rights of what runs as its caller: triggers, and views with `security_invoker`.

use std::collections::{BTreeMap, BTreeSet};

use postern_crds::Verb;
use postern_crds::combine::is_system_schema;

use super::bind::calls_next;
use super::bound::{BoundPolicy, ColumnView, PLACE_COLUMNS, RelationView};
use crate::catalog::names::quote_name;
use crate::catalog::{Catalog, Function, Oid, Relation, RelationKind};

/// The server that has the privilege MAINTAIN.
const HAS_MAINTAIN: u32 = 170_000;
/// Columns that every table has, by number.
const SYSTEM_COLUMNS: [(i16, &str); 6] =
    [(-1, "ctid"), (-2, "xmin"), (-3, "cmin"), (-4, "xmax"), (-5, "cmax"), (-6, "tableoid")];

/// What a privilege is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// The database.
    Database,
    /// A schema.
    Schema(Oid),
    /// A relation with all its columns, or a sequence.
    Relation(Oid),
    /// A column, by its attribute number.
    Column(Oid, i16),
    /// A function or procedure.
    Routine(Oid),
}

/// A privilege, as GRANT names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// CONNECT.
    Connect,
    /// TEMPORARY.
    Temporary,
    /// USAGE.
    Usage,
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
    /// MAINTAIN.
    Maintain,
    /// EXECUTE.
    Execute,
}

impl Privilege {
    /// Every privilege that can be granted here.
    const ALL: [Privilege; 10] = [
        Privilege::Connect,
        Privilege::Temporary,
        Privilege::Usage,
        Privilege::Select,
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
        Privilege::Truncate,
        Privilege::Maintain,
        Privilege::Execute,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Privilege::Connect => "CONNECT",
            Privilege::Temporary => "TEMPORARY",
            Privilege::Usage => "USAGE",
            Privilege::Select => "SELECT",
            Privilege::Insert => "INSERT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
            Privilege::Truncate => "TRUNCATE",
            Privilege::Maintain => "MAINTAIN",
            Privilege::Execute => "EXECUTE",
        }
    }

    /// The privilege of this word.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|privilege| privilege.as_str() == word)
    }
}

/// A set of privileges.
pub type Grants = BTreeSet<(On, Privilege)>;

/// What the identity's role needs.
pub fn grants(bound: &BoundPolicy) -> Grants {
    let mut grants = Grants::from([(On::Database, Privilege::Connect)]);
    if bound.allows(Verb::Temp).is_ok() {
        grants.insert((On::Database, Privilege::Temporary));
    }
    for relation in bound.catalog.relations.values().filter(|relation| !relation.system && !relation.temporary) {
        match relation.kind {
            RelationKind::Table
            | RelationKind::PartitionedTable
            | RelationKind::View
            | RelationKind::MaterializedView
            | RelationKind::ForeignTable => of_rows(bound, relation, &mut grants),
            RelationKind::Sequence => of_sequence(bound, relation, &mut grants),
            RelationKind::Composite | RelationKind::Toast | RelationKind::Index => {}
        }
    }
    let functions = bound.catalog.functions.values().flatten();
    for function in functions.filter(|function| bound.function(function).is_ok()) {
        grants.insert((On::Routine(function.oid), Privilege::Execute));
    }
    schemas(bound, &mut grants);
    grants
}

/// Which verbs a rule gives the identity on a relation; none on one that is closed.
struct Verbs<'a>(&'a BoundPolicy, &'a Relation);

impl Verbs<'_> {
    fn has(&self, verb: Verb) -> bool {
        self.0.grant(self.1, verb).is_ok()
    }
}

fn of_rows(bound: &BoundPolicy, relation: &Relation, grants: &mut Grants) {
    let verbs = Verbs(bound, relation);
    let reads = verbs.has(Verb::Select) || verbs.has(Verb::CopyOut);
    let inserts = verbs.has(Verb::Insert) || verbs.has(Verb::CopyIn);
    let (updates, deletes, locks) = (verbs.has(Verb::Update), verbs.has(Verb::Delete), verbs.has(Verb::Lock));
    let mut whole = |privilege| grants.insert((On::Relation(relation.oid), privilege));
    for (verb, privilege) in [(Verb::Delete, Privilege::Delete), (Verb::Truncate, Privilege::Truncate)] {
        if verbs.has(verb) {
            whole(privilege);
        }
    }
    if (verbs.has(Verb::Maintenance) || locks) && bound.catalog.server_version >= HAS_MAINTAIN {
        whole(Privilege::Maintain);
    }
    let view = bound.view(relation.oid);
    let columns = |grants: &mut Grants, privilege, numbers: &mut dyn Iterator<Item = i16>| {
        grants.extend(numbers.map(|number| (On::Column(relation.oid, number), privilege)));
    };
    match view {
        None => {
            let granted = [(reads, Privilege::Select), (inserts, Privilege::Insert), (updates, Privilege::Update)];
            grants.extend(granted.iter().filter(|(has, _)| *has).map(|(_, it)| (On::Relation(relation.oid), *it)));
        }
        Some(view) => {
            let visible = || relation.columns.iter().map(|column| column.number).filter(|number| !view.hides(*number));
            if reads {
                columns(
                    grants,
                    Privilege::Select,
                    &mut visible().filter(|number| updates || !is_constant(view, *number)),
                );
                let has_system_columns = !matches!(relation.kind, RelationKind::View | RelationKind::ForeignTable);
                let is_shown = |name: &str| !(view.place_tells && PLACE_COLUMNS.contains(&name));
                let system = SYSTEM_COLUMNS.iter().filter(|(_, name)| is_shown(name)).map(|(number, _)| *number);
                columns(grants, Privilege::Select, &mut system.filter(|_| has_system_columns));
            }
            if updates {
                // Storing a mask keeps what is there: both are read.
                columns(grants, Privilege::Select, &mut visible().filter(|number| view.columns.contains_key(number)));
            }
            if reads || inserts || updates || deletes {
                let filter = view.filter.iter().flat_map(|filter| filter.columns.iter().copied());
                columns(grants, Privilege::Select, &mut filter.into_iter());
            }
            if inserts {
                columns(grants, Privilege::Insert, &mut visible());
            }
            if updates {
                columns(grants, Privilege::Update, &mut visible());
            }
        }
    }
    if !updates && (deletes || locks) && reads {
        // To lock a row takes UPDATE of a column: of the one that is changed the least.
        let key = relation.indexes.iter().find(|index| index.primary).and_then(|index| index.columns.first());
        let first =
            relation.columns.iter().map(|column| column.number).find(|number| view.is_none_or(|it| !it.hides(*number)));
        columns(grants, Privilege::Update, &mut key.copied().or(first).into_iter());
    }
    if updates || deletes {
        dependants(bound, relation, grants);
    }
}

/// Foreign keys that act are held back by rows outside a filter, which are asked for.
fn dependants(bound: &BoundPolicy, relation: &Relation, grants: &mut Grants) {
    let all = bound.catalog.descendants(relation.oid).into_iter().chain([relation.oid]);
    for (dependant, key) in all.flat_map(|oid| bound.catalog.foreign_keys_to(oid)) {
        let filter = bound.view(dependant.oid).and_then(|view| view.filter.as_ref());
        let read = filter.into_iter().flat_map(|filter| filter.columns.iter().chain(&key.columns));
        grants.extend(read.map(|number| (On::Column(dependant.oid, *number), Privilege::Select)));
    }
}

fn is_constant(view: &RelationView, number: i16) -> bool {
    matches!(view.columns.get(&number), Some(ColumnView::Masked(mask)) if mask.constant)
}

fn of_sequence(bound: &BoundPolicy, sequence: &Relation, grants: &mut Grants) {
    let catalog = &bound.catalog;
    let inserts = |relation: &Relation| {
        let verbs = Verbs(bound, relation);
        verbs.has(Verb::Insert) || verbs.has(Verb::CopyIn) || verbs.has(Verb::Update)
    };
    let owner = sequence.owned_by.and_then(|(owner, _)| catalog.relations.get(&owner));
    // A default is the owner's code, but runs with the rights of who inserts.
    let call = calls_next(sequence);
    let is_default = |relation: &Relation| {
        let mut defaults = relation.columns.iter().filter_map(|column| column.default.as_ref());
        defaults.any(|default| default.contains(&call))
    };
    let feeds = || catalog.relations.values().any(|relation| is_default(relation) && inserts(relation));
    if inserts(sequence) || owner.is_some_and(|owner| inserts(owner)) || feeds() {
        grants.insert((On::Relation(sequence.oid), Privilege::Usage));
        grants.insert((On::Relation(sequence.oid), Privilege::Update));
    }
    if Verbs(bound, sequence).has(Verb::Select) {
        grants.insert((On::Relation(sequence.oid), Privilege::Select));
    }
}

/// Schemas in which there is something that statements of the identity may name.
fn schemas(bound: &BoundPolicy, grants: &mut Grants) {
    let catalog = &bound.catalog;
    let relations = grants.iter().filter_map(|(on, _)| match on {
        On::Relation(oid) | On::Column(oid, _) => catalog.relations.get(oid).map(|relation| &relation.schema),
        On::Routine(oid) => catalog.function(*oid).map(|function| &function.schema),
        On::Database | On::Schema(_) => None,
    });
    // Casts name types, and functions of extensions need no rule.
    let types = catalog.types.values().filter(|it| matches!(it.kind, 'd' | 'e' | 'r' | 'm')).map(|it| &it.schema);
    let extensions = catalog.functions.values().flatten().filter(|it| it.extension.is_some()).map(|it| &it.schema);
    let named: BTreeSet<_> = relations.chain(types).chain(extensions).filter(|name| !is_system_schema(name)).collect();
    let oids: Vec<_> = named.into_iter().filter_map(|name| catalog.schemas.get(name)).copied().collect();
    grants.extend(oids.into_iter().map(|oid| (On::Schema(oid), Privilege::Usage)));
}

/// The statements by which a role that holds `held` comes to hold `wanted` and nothing else. What it has as everybody
/// (`public`) need not be granted. An object that the catalog doesn't know any more is gone, with all that was granted.
///
/// To revoke a privilege on a table takes it from the table's columns too, so that a second round may be needed.
pub fn statements(
    catalog: &Catalog,
    database: &str,
    role: &str,
    wanted: &Grants,
    held: &Grants,
    public: &Grants,
) -> Vec<String> {
    let missing = wanted.iter().filter(|it| !held.contains(it) && !public.contains(it));
    let surplus = held.iter().filter(|it| !wanted.contains(it));
    let role = quote_name(role);
    let write = |verb: &str, word: &str, set: &mut dyn Iterator<Item = &(On, Privilege)>| {
        let mut by_object: BTreeMap<(On, Privilege), BTreeSet<i16>> = BTreeMap::new();
        for (on, privilege) in set {
            match on {
                On::Column(oid, number) => {
                    by_object.entry((On::Relation(*oid), *privilege)).or_default().insert(*number);
                }
                on => {
                    by_object.entry((*on, *privilege)).or_default().insert(0);
                }
            }
        }
        let text = |((on, privilege), numbers): (&(On, Privilege), &BTreeSet<i16>)| {
            let object = object(catalog, database, *on)?;
            // The table itself is granted or revoked with all columns.
            let columns = if numbers.contains(&0) { String::new() } else { columns(catalog, *on, numbers)? };
            Some(format!("{verb} {}{columns} ON {object} {word} {role}", privilege.as_str()))
        };
        by_object.iter().filter_map(text).collect::<Vec<_>>()
    };
    let mut all = write("REVOKE", "FROM", &mut surplus.into_iter());
    all.extend(write("GRANT", "TO", &mut missing.into_iter()));
    all
}

fn columns(catalog: &Catalog, on: On, numbers: &BTreeSet<i16>) -> Option<String> {
    let On::Relation(oid) = on else { return None };
    let relation = catalog.relations.get(&oid)?;
    let name = |number: &i16| match SYSTEM_COLUMNS.iter().find(|(known, _)| known == number) {
        Some((_, name)) => Some((*name).to_owned()),
        None => relation.column_at(*number).map(|column| quote_name(&column.name)),
    };
    let names: Vec<_> = numbers.iter().filter_map(name).collect();
    (!names.is_empty()).then(|| format!(" ({})", names.join(", ")))
}

/// An object as GRANT names it.
fn object(catalog: &Catalog, database: &str, on: On) -> Option<String> {
    let full = |schema: &str, name: &str| format!("{}.{}", quote_name(schema), quote_name(name));
    match on {
        On::Database => Some(format!("DATABASE {}", quote_name(database))),
        On::Schema(oid) => {
            let (name, _) = catalog.schemas.iter().find(|(_, known)| **known == oid)?;
            Some(format!("SCHEMA {}", quote_name(name)))
        }
        On::Relation(oid) | On::Column(oid, _) => {
            let relation = catalog.relations.get(&oid)?;
            let kind = if relation.kind == RelationKind::Sequence { "SEQUENCE" } else { "TABLE" };
            Some(format!("{kind} {}", full(&relation.schema, &relation.name)))
        }
        On::Routine(oid) => {
            let Function { schema, name, arguments, .. } = catalog.function(oid)?;
            let types = arguments.iter().map(|oid| catalog.types.get(oid).map(|it| full(&it.schema, &it.name)));
            Some(format!("ROUTINE {}({})", full(schema, name), types.collect::<Option<Vec<_>>>()?.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::sync::Arc;

    use postern_crds::files::{Object, read};

    use super::*;
    use crate::catalog::{ForeignKey, Index};
    use crate::decide::bind::bind;
    use crate::decide::testing;

    const CUSTOMERS: Oid = 20_000;
    const ORDERS: Oid = 20_001;
    const NOTES: Oid = 20_002;
    const SEQUENCE: Oid = 20_003;

    /// A shop, and who is granted what in it.
    fn bound(rules: &str) -> BoundPolicy {
        let mut catalog = testing::catalog();
        catalog.schemas.extend([("shop".into(), 100), ("other".into(), 101)]);
        let columns =
            [("id", "integer"), ("ssn", "text"), ("email", "text"), ("salary", "integer"), ("region", "text")];
        let mut customers = testing::table(&catalog, CUSTOMERS, "shop", "customers", &columns);
        customers.indexes.push(Index {
            name: "customers_pkey".into(),
            oid: 20_010,
            unique: true,
            primary: true,
            valid: true,
            columns: vec![1],
            expressions: None,
            predicate: None,
            reads: Vec::new(),
        });
        let columns = [("id", "integer"), ("customer", "integer"), ("region", "text")];
        let mut orders = testing::table(&catalog, ORDERS, "shop", "orders", &columns);
        orders.columns[0].default = Some("nextval('shop.order_ids'::regclass)".into());
        orders.foreign_keys.push(ForeignKey {
            name: "of_customer".into(),
            columns: vec![2],
            references: CUSTOMERS,
            referenced_columns: vec![1],
            on_delete: 'c',
            on_update: 'a',
        });
        let notes = testing::table(&catalog, NOTES, "other", "notes", &[("id", "integer")]);
        let sequence = Relation::bare(SEQUENCE, "shop", "order_ids", RelationKind::Sequence, Vec::new());
        for relation in [customers, orders, notes, sequence] {
            catalog.add_relation(relation);
        }
        catalog.referenced_by.insert(CUSTOMERS, vec![ORDERS]);
        let text = format!(
            r#"
apiVersion: postern.dev/v1alpha1
kind: DatabaseAccessPolicy
metadata: {{name: shop}}
spec:
  database: {{host: pg, name: shop, tls: {{mode: Disable}}, credentials: {{ephemeralRole: {{adminSecret: {{name: a}}}}}}}}
  masks:
  - {{columns: [shop.customers.email], mask: {{email: {{}}}}}}
  - {{columns: [shop.customers.salary], mask: {{nullify: {{}}}}}}
  rules:
{rules}
---
apiVersion: postern.dev/v1alpha1
kind: NonHumanIdentity
metadata: {{name: job}}
spec: {{subjects: [{{serviceAccount: {{name: job}}}}], postgresRole: job}}
"#
        );
        let (mut policy, mut identity) = (None, None);
        for object in read(&text).unwrap() {
            match object {
                Object::Policy(found) => policy = Some(found.compile().unwrap()),
                Object::Identity(found) => identity = Some(found.compile().unwrap()),
            }
        }
        bind(Arc::new(policy.unwrap()), Arc::new(identity.unwrap()), Arc::new(catalog), 1, None)
    }

    fn granted(rules: &str) -> Vec<String> {
        let bound = bound(rules);
        statements(&bound.catalog, "shop", "r", &grants(&bound), &Grants::new(), &Grants::new())
    }

    #[test]
    fn who_reads_gets_no_hidden_column_and_none_whose_mask_is_a_constant() {
        let all = granted(
            "  - {name: r, to: {identities: [job]}, allow: [Select], relations: [shop.customers], hideColumns: [shop.customers.ssn]}",
        );
        assert_eq!(
            all,
            [
                r#"GRANT CONNECT ON DATABASE "shop" TO "r""#,
                r#"GRANT USAGE ON SCHEMA "shop" TO "r""#,
                r#"GRANT SELECT (tableoid, cmax, xmax, cmin, xmin, ctid, "id", "email", "region") ON TABLE "shop"."customers" TO "r""#,
            ]
        );
    }

    #[test]
    fn a_hidden_column_that_a_filter_reads_can_be_read_by_the_role() {
        let all = granted(
            "  - {name: r, to: {identities: [job]}, allow: [Select], relations: [shop.customers], hideColumns: [shop.customers.region], rowFilters: [{relation: shop.customers, where: region IS NOT NULL}]}",
        );
        assert!(all[2].contains(r#""region""#) && !all[2].contains("salary"), "{all:?}");
    }

    #[test]
    fn a_plain_table_is_granted_as_a_whole_by_verb_and_its_sequence_with_it() {
        let all =
            granted("  - {name: r, to: {identities: [job]}, allow: [Insert, Truncate], relations: [shop.orders]}");
        assert_eq!(
            all[2..],
            [
                r#"GRANT INSERT ON TABLE "shop"."orders" TO "r""#,
                r#"GRANT TRUNCATE ON TABLE "shop"."orders" TO "r""#,
                r#"GRANT USAGE ON SEQUENCE "shop"."order_ids" TO "r""#,
                r#"GRANT UPDATE ON SEQUENCE "shop"."order_ids" TO "r""#,
            ]
        );
    }

    #[test]
    fn who_may_overwrite_a_masked_column_reads_it_to_keep_it() {
        let bound =
            bound("  - {name: r, to: {identities: [job]}, allow: [Select, Update], relations: [shop.customers]}");
        let grants = grants(&bound);
        assert!(grants.contains(&(On::Column(CUSTOMERS, 4), Privilege::Select)));
        assert!(grants.contains(&(On::Column(CUSTOMERS, 4), Privilege::Update)));
    }

    #[test]
    fn who_deletes_can_ask_for_the_rows_outside_a_filter_that_would_go_too() {
        let bound = bound(
            "  - {name: r, to: {identities: [job]}, allow: [Select, Delete], relations: [shop.customers], rowFilters: [{relation: shop.orders, where: region IS NOT NULL}]}",
        );
        let grants = grants(&bound);
        for number in [2, 3] {
            assert!(grants.contains(&(On::Column(ORDERS, number), Privilege::Select)), "{number}");
        }
        assert!(!grants.contains(&(On::Column(ORDERS, 1), Privilege::Select)));
        assert!(grants.contains(&(On::Column(CUSTOMERS, 1), Privilege::Update)), "rows are locked before they go");
    }

    #[test]
    fn what_is_held_already_or_by_everybody_is_not_granted_and_what_is_not_wanted_is_revoked() {
        let bound = bound("  - {name: r, to: {identities: [job]}, allow: [Select], relations: [other.notes]}");
        let wanted = grants(&bound);
        let public = Grants::from([(On::Database, Privilege::Connect)]);
        let held = Grants::from([
            (On::Schema(101), Privilege::Usage),
            (On::Relation(ORDERS), Privilege::Delete),
            (On::Column(CUSTOMERS, 2), Privilege::Select),
            (On::Relation(999_999), Privilege::Select),
        ]);
        assert_eq!(
            statements(&bound.catalog, "shop", "r", &wanted, &held, &public),
            [
                r#"REVOKE SELECT ("ssn") ON TABLE "shop"."customers" FROM "r""#,
                r#"REVOKE DELETE ON TABLE "shop"."orders" FROM "r""#,
                r#"GRANT SELECT ON TABLE "other"."notes" TO "r""#,
            ]
        );
        assert!(statements(&bound.catalog, "shop", "r", &wanted, &wanted, &public).is_empty());
    }
}
