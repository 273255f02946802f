//! What an identity sees of the system catalogs.
//!
//! **Promise.** A relation of pg_catalog or information_schema is open only if it is listed here, and none that is open
//! shows rows or samples of tables, counts work on masked or filtered ones, statements of other sessions, or secrets. A column that is hidden from the identity
//! appears as a dropped one in pg_attribute, and in no other place that names columns one by one.
//! **Not covered.** The texts of views, functions, rules and policies, which may name a hidden column; table sizes.

use std::fmt::Write as _;

use postern_crds::Verb;

use super::bound::{BoundPolicy, ColumnView};
use super::settings;
use crate::catalog::names::{quote_name, quote_text, types};
use crate::catalog::{Oid, Relation, RelationKind};

/// How an identity sees a system relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemView {
    /// As it is.
    Open,
    /// Not at all, and why.
    Denied(&'static str),
    /// As this SELECT over it, fully qualified, with the same columns in the same order. The relation stands in it as
    /// `r`, so that `r.tableoid` and other system columns can be added.
    Replace(String),
}

const STATISTICS: &str = "it shows samples of stored values";
const SECRETS: &str = "it shows secrets or paths of the server";
const SESSIONS: &str = "it shows what other sessions do";
const DATA: &str = "it shows stored values";
const UNKNOWN: &str = "the proxy does not know it";

/// Relations of pg_catalog that are open as they are, PostgreSQL 14 to 18, sorted.
const OPEN: &[&str] = &[
    "pg_aggregate",
    "pg_am",
    "pg_amop",
    "pg_amproc",
    "pg_auth_members",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_cast",
    "pg_collation",
    "pg_conversion",
    "pg_database",
    "pg_default_acl",
    "pg_depend",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_table",
    "pg_group",
    "pg_inherits",
    "pg_init_privs",
    "pg_language",
    "pg_largeobject_metadata",
    "pg_matviews",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_range",
    "pg_replication_origin",
    "pg_replication_origin_status",
    "pg_rewrite",
    "pg_roles",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_stat_archiver",
    "pg_stat_database_conflicts",
    "pg_stat_gssapi",
    "pg_stat_progress_analyze",
    "pg_stat_progress_basebackup",
    "pg_stat_progress_cluster",
    "pg_stat_progress_copy",
    "pg_stat_progress_create_index",
    "pg_stat_progress_vacuum",
    "pg_stat_recovery_prefetch",
    "pg_stat_ssl",
    "pg_stat_subscription_stats",
    "pg_statio_all_sequences",
    "pg_statio_sys_sequences",
    "pg_statio_user_sequences",
    "pg_subscription_rel",
    "pg_tables",
    "pg_tablespace",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
    "pg_user",
    "pg_views",
    "pg_wait_events",
];

/// Relations of pg_catalog that are closed, and why, sorted.
const DENIED: &[(&str, &str)] = &[
    ("pg_aios", SESSIONS),
    ("pg_authid", SECRETS),
    ("pg_backend_memory_contexts", SESSIONS),
    ("pg_config", SECRETS),
    ("pg_dsm_registry_allocations", SESSIONS),
    ("pg_file_settings", SECRETS),
    ("pg_hba_file_rules", SECRETS),
    ("pg_ident_file_mappings", SECRETS),
    ("pg_largeobject", DATA),
    ("pg_shadow", SECRETS),
    ("pg_shmem_allocations", SESSIONS),
    ("pg_shmem_allocations_numa", SESSIONS),
    ("pg_stat_replication", SESSIONS),
    ("pg_stat_replication_slots", SESSIONS),
    ("pg_stat_subscription", SESSIONS),
    ("pg_statistic", STATISTICS),
    ("pg_statistic_ext_data", STATISTICS),
    ("pg_stats", STATISTICS),
    ("pg_stats_ext", STATISTICS),
    ("pg_stats_ext_exprs", STATISTICS),
];

/// Columns of pg_catalog that show NULL of their type to everyone: (relation, column, type), sorted.
const BLANKED: &[(&str, &str, &str)] = &[
    ("pg_cursors", "statement", "text"),
    ("pg_db_role_setting", "setconfig", "text[]"),
    ("pg_foreign_server", "srvoptions", "text[]"),
    ("pg_prepared_statements", "statement", "text"),
    ("pg_replication_slots", "safe_wal_size", "int8"),
    ("pg_stat_activity", "query", "text"),
    ("pg_stat_wal_receiver", "conninfo", "text"),
    ("pg_stat_wal_receiver", "sender_host", "text"),
    ("pg_stat_wal_receiver", "sender_port", "int4"),
    ("pg_stat_wal_receiver", "slot_name", "text"),
    ("pg_subscription", "subconninfo", "text"),
    ("pg_user_mapping", "umoptions", "text[]"),
    ("pg_user_mappings", "umoptions", "text[]"),
];

/// Relations of information_schema that name no columns of tables one by one, sorted: open as they are.
const STANDARD_OPEN: &[&str] = &[
    "administrable_role_authorizations",
    "applicable_roles",
    "attributes",
    "character_sets",
    "check_constraint_routine_usage",
    "collation_character_set_applicability",
    "collations",
    "domain_constraints",
    "domain_udt_usage",
    "domains",
    "enabled_roles",
    "foreign_data_wrapper_options",
    "foreign_data_wrappers",
    "foreign_servers",
    "foreign_table_options",
    "foreign_tables",
    "information_schema_catalog_name",
    "parameters",
    "role_routine_grants",
    "role_table_grants",
    "role_udt_grants",
    "role_usage_grants",
    "routine_privileges",
    "routine_routine_usage",
    "routine_sequence_usage",
    "routine_table_usage",
    "routines",
    "schemata",
    "sequences",
    "sql_features",
    "sql_implementation_info",
    "sql_parts",
    "sql_sizing",
    "table_privileges",
    "tables",
    "transforms",
    "triggers",
    "udt_privileges",
    "usage_privileges",
    "user_defined_types",
    "user_mappings",
    "view_routine_usage",
    "view_table_usage",
    "views",
];

/// Relations of information_schema that name columns, with the columns that hold schema, table and column, sorted.
const STANDARD_COLUMNS: &[(&str, [&str; 3])] = &[
    ("column_domain_usage", ["table_schema", "table_name", "column_name"]),
    ("column_options", ["table_schema", "table_name", "column_name"]),
    ("column_privileges", ["table_schema", "table_name", "column_name"]),
    ("column_udt_usage", ["table_schema", "table_name", "column_name"]),
    ("columns", ["table_schema", "table_name", "column_name"]),
    ("constraint_column_usage", ["table_schema", "table_name", "column_name"]),
    ("key_column_usage", ["table_schema", "table_name", "column_name"]),
    ("role_column_grants", ["table_schema", "table_name", "column_name"]),
    ("routine_column_usage", ["table_schema", "table_name", "column_name"]),
    ("triggered_update_columns", ["event_object_schema", "event_object_table", "event_object_column"]),
    ("view_column_usage", ["table_schema", "table_name", "column_name"]),
];

/// Relations of information_schema that name constraints.
const STANDARD_CONSTRAINTS: &[&str] = &[
    "check_constraints",
    "constraint_column_usage",
    "constraint_table_usage",
    "key_column_usage",
    "referential_constraints",
    "table_constraints",
];

/// How the identity sees a system relation.
pub fn system_view(relation: &Relation, policy: &BoundPolicy) -> SystemView {
    let name = &*relation.name;
    match &*relation.schema {
        "pg_catalog" => catalog_view(relation, name, policy),
        "information_schema" => standard_view(relation, name, policy),
        "pg_toast" => SystemView::Denied(DATA),
        _ => SystemView::Denied(UNKNOWN),
    }
}

/// The condition under which bounds and size of a relation, an expression, may be told: not those of a partition that tells a
/// masked value by its rows, nor of what belongs to one. Nothing where there is none.
pub fn shown_relation(relation: &str, policy: &BoundPolicy) -> Option<String> {
    let telling = policy.telling_relations();
    // Whose a toast table is isn't known here.
    (!telling.is_empty()).then(|| {
        format!(
            "{relation}::pg_catalog.oid OPERATOR(pg_catalog.<>) ALL ({}) AND EXISTS (SELECT FROM pg_catalog.pg_class c \
             WHERE c.oid OPERATOR(pg_catalog.=) {relation}::pg_catalog.oid \
             AND c.relnamespace OPERATOR(pg_catalog.<>) 'pg_toast'::pg_catalog.regnamespace::pg_catalog.oid)",
            oids(&telling)
        )
    })
}

/// As an array in SQL.
fn oids(list: &[Oid]) -> String {
    let list: Vec<String> = list.iter().map(Oid::to_string).collect();
    format!("ARRAY[{}]::pg_catalog.oid[]", list.join(", "))
}

/// A relation of an extension that shows statements or data of others, whatever rules say of its schema.
pub fn extension_denied(relation: &Relation) -> Option<&'static str> {
    match relation.extension.as_deref()? {
        "pg_stat_statements" | "pg_stat_kcache" | "pg_stat_monitor" | "pg_qualstats" => Some(SESSIONS),
        "pg_buffercache" | "pageinspect" | "pg_walinspect" => Some(DATA),
        "pg_cron" | "dblink" | "postgres_fdw" => Some(SECRETS),
        _ => None,
    }
}

fn catalog_view(relation: &Relation, name: &str, policy: &BoundPolicy) -> SystemView {
    if !matches!(relation.kind, RelationKind::Table | RelationKind::View) {
        // Indexes and composite types of the catalog are no relations to read from.
        return SystemView::Denied(UNKNOWN);
    }
    if OPEN.binary_search(&name).is_ok() {
        return SystemView::Open;
    }
    if let Some((_, why)) = DENIED.iter().find(|(denied, _)| *denied == name) {
        return SystemView::Denied(why);
    }
    if BLANKED.iter().any(|(blanked, ..)| *blanked == name) {
        return replace(relation, None, |column| {
            let (.., kind) = BLANKED.iter().find(|(of, blank, _)| *of == name && *blank == column)?;
            Some(format!("NULL::pg_catalog.{kind}"))
        });
    }
    if name == "pg_sequences" {
        return sequences(relation, policy);
    }
    // That a function of a filter was called is told by its row.
    if matches!(name, "pg_stat_user_functions" | "pg_stat_xact_user_functions") {
        return replace(relation, Some("false".to_owned()), |_| None);
    }
    if name == "pg_settings" {
        return replace(relation, Some(settings::shown_condition("r.name")), |_| None);
    }
    if name == "pg_prepared_xacts" {
        let prefix = policy.prepared_prefix();
        let own = format!("pg_catalog.starts_with(r.gid, '{prefix}'::pg_catalog.text)");
        return replace(relation, Some(own), |column| {
            (column == "gid").then(|| format!("pg_catalog.substr(r.gid, {})", prefix.len() + 1))
        });
    }
    if let Some(view) = counters_view(relation, name, policy) {
        return view;
    }
    // What follows names columns, and is open where none is hidden.
    let hidden = Hidden::of(policy);
    let without = |condition: Option<String>| match condition {
        Some(condition) => replace(relation, Some(format!("NOT ({condition})")), |_| None),
        None => SystemView::Open,
    };
    match name {
        "pg_attribute" => attributes(relation, &hidden, policy),
        "pg_attrdef" => without(hidden.pairs("r.adrelid", "r.adnum")),
        "pg_description" => without(hidden.pairs("r.objoid", "r.objsubid")),
        "pg_class" => classes(relation, &hidden, policy),
        "pg_index" => without(any([hidden.overlap("r.indrelid", "r.indkey"), hidden.index("r.indexrelid")])),
        "pg_constraint" => without(any([
            hidden.overlap("r.conrelid", "r.conkey"),
            hidden.overlap("r.confrelid", "r.confkey"),
            hidden.index("r.conindid"),
        ])),
        "pg_statistic_ext" => without(hidden.overlap("r.stxrelid", "r.stxkeys")),
        _ if is_counters_of(name, "indexes") => relation_counters(relation, policy, hidden.index("r.indexrelid")),
        "pg_indexes" => without(hidden.index_named("r.schemaname", "r.indexname")),
        "pg_publication_tables" if hidden.columns.is_empty() => SystemView::Open,
        "pg_publication_tables" => replace(relation, None, |column| {
            Some("NULL::pg_catalog.name[]".to_owned()).filter(|_| column == "attnames")
        }),
        _ => SystemView::Denied(UNKNOWN),
    }
}

/// What counts the work of the server. A count of rows fetched, of blocks or of bytes of the log answers how many rows
/// outside a filter match, or how much of a masked value a write repeated; in the open transaction it does so exactly.
fn counters_view(relation: &Relation, name: &str, policy: &BoundPolicy) -> Option<SystemView> {
    let all_or = |blank: &dyn Fn(&str) -> bool| {
        if policy.views.is_empty() {
            return SystemView::Open;
        }
        replace(relation, None, |column| blank(column).then(|| count_type(relation, column)).flatten())
    };
    match name {
        "pg_locks" if policy.views.is_empty() => Some(SystemView::Open),
        // Predicate locks are taken on every row that an index finds; others tell that a filter looked into another relation, or that a
        // key was checked, as it had changed.
        "pg_locks" => Some(replace(
            relation,
            Some(
                "r.locktype OPERATOR(pg_catalog.<>) ALL (ARRAY['relation', 'extend', 'page', 'tuple', 'object']::pg_catalog.text[])"
                    .to_owned(),
            ),
            |_| None,
        )),
        "pg_stat_database" => Some(all_or(&|column| column.starts_with("tup_") || column.starts_with("blk"))),
        "pg_stat_io" | "pg_stat_wal" | "pg_stat_bgwriter" | "pg_stat_checkpointer" | "pg_stat_slru" => {
            Some(all_or(&|_| true))
        }
        _ if is_counters_of(name, "tables") => Some(relation_counters(relation, policy, None)),
        _ => None,
    }
}

/// Sequences, with the last value of those that the identity may read or use: `SELECT last_value FROM` them and
/// `pg_sequence_last_value` tell it the same.
fn sequences(relation: &Relation, policy: &BoundPolicy) -> SystemView {
    let catalog = &policy.catalog;
    let is_told = |sequence: &Relation| {
        let owner = sequence.owned_by.and_then(|(owner, _)| catalog.relations.get(&owner));
        policy.grant(sequence, Verb::Select).is_ok()
            || policy.grant(sequence, Verb::Insert).is_ok()
            || owner.is_some_and(|owner| policy.grant(owner, Verb::Insert).is_ok())
    };
    let all = catalog.relations.values().filter(|relation| relation.kind == RelationKind::Sequence);
    let mut told: Vec<Oid> = all.filter(|sequence| is_told(sequence)).map(|sequence| sequence.oid).collect();
    told.sort_unstable();
    let told: Vec<String> = told.iter().map(Oid::to_string).collect();
    replace(relation, None, |column| {
        (column == "last_value").then(|| {
            format!(
                "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
                 ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE n.nspname OPERATOR(pg_catalog.=) r.schemaname \
                 AND c.relname OPERATOR(pg_catalog.=) r.sequencename \
                 AND c.oid OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])) THEN r.last_value END",
                told.join(", ")
            )
        })
    })
}

/// `pg_stat_all_tables`, `pg_statio_user_indexes` and the like.
fn is_counters_of(name: &str, what: &str) -> bool {
    let rest = name.strip_prefix("pg_statio_").or_else(|| name.strip_prefix("pg_stat_"));
    let rest = rest.map(|rest| rest.strip_prefix("xact_").unwrap_or(rest));
    rest.and_then(|rest| rest.split_once('_'))
        .is_some_and(|(whose, of)| matches!(whose, "all" | "sys" | "user") && of == what)
}

/// Counters by relation, NULL for those that the identity does not see as they are, and for toast tables, of which it
/// isn't known here whose they are.
fn relation_counters(relation: &Relation, policy: &BoundPolicy, without: Option<String>) -> SystemView {
    let condition = without.map(|condition| format!("NOT ({condition})"));
    if policy.views.is_empty() {
        return SystemView::Open;
    }
    // What a filter reads, by itself or by a function, is read for rows that it leaves out, too.
    let is_guarded = if policy.row_filters {
        "true".to_owned()
    } else {
        format!(
            "r.relid OPERATOR(pg_catalog.=) ANY ({}) OR r.schemaname OPERATOR(pg_catalog.=) 'pg_toast'::pg_catalog.name",
            guarded(policy)
        )
    };
    replace(relation, condition, |column| {
        let blank = count_type(relation, column)?;
        Some(format!("CASE WHEN {is_guarded} THEN {blank} ELSE r.{} END", quote_name(column)))
    })
}

/// Relations that the identity does not see as they are.
fn guarded(policy: &BoundPolicy) -> String {
    let mut guarded: Vec<Oid> = policy.views.keys().copied().collect();
    guarded.sort_unstable();
    let guarded: Vec<String> = guarded.iter().map(Oid::to_string).collect();
    format!("ARRAY[{}]::pg_catalog.oid[]", guarded.join(", "))
}

/// As SQL, whether the counters of a relation are shown, whose oid an expression is, as those of
/// `pg_stat_all_tables` are; None where all are.
pub fn counted_condition(policy: &BoundPolicy, relation: &str) -> Option<String> {
    if policy.views.is_empty() {
        return None;
    }
    if policy.row_filters {
        return Some("false".to_owned());
    }
    Some(format!(
        "{relation} OPERATOR(pg_catalog.<>) ALL ({}) AND EXISTS (SELECT FROM pg_catalog.pg_class AS c \
         WHERE c.oid OPERATOR(pg_catalog.=) {relation} AND c.relkind OPERATOR(pg_catalog.<>) 't')",
        guarded(policy)
    ))
}

/// NULL of the type of a column that counts; None for names, times and the like.
fn count_type(relation: &Relation, column: &str) -> Option<String> {
    let column = relation.columns.iter().find(|of| &*of.name == column)?;
    match column.type_oid {
        types::INT8 => Some("NULL::pg_catalog.int8".to_owned()),
        types::NUMERIC => Some("NULL::pg_catalog.numeric".to_owned()),
        // Of time; it grows with what is read.
        types::FLOAT8 => Some("NULL::pg_catalog.float8".to_owned()),
        // That a filter looked into another relation.
        types::TIMESTAMPTZ if column.name.ends_with("_scan") => Some("NULL::pg_catalog.timestamptz".to_owned()),
        _ => None,
    }
}

fn standard_view(relation: &Relation, name: &str, policy: &BoundPolicy) -> SystemView {
    if STANDARD_OPEN.binary_search(&name).is_ok() {
        return SystemView::Open;
    }
    let columns = STANDARD_COLUMNS.iter().find(|(of, _)| *of == name).map(|(_, columns)| columns);
    let constraints = STANDARD_CONSTRAINTS.contains(&name);
    // They name columns by number or beside others.
    let by_number = matches!(name, "element_types" | "data_type_privileges" | "column_column_usage");
    if columns.is_none() && !constraints && !by_number {
        return SystemView::Denied(UNKNOWN);
    }
    let hidden = Hidden::of(policy);
    if hidden.columns.is_empty() {
        return SystemView::Open;
    }
    let mut conditions = Vec::new();
    if let Some([schema, table, column]) = columns {
        conditions.push(hidden.named(schema, table, column));
    }
    if constraints {
        conditions.push(hidden.constraint_named("r.constraint_schema", "r.constraint_name"));
    }
    match name {
        "column_column_usage" => {
            conditions.push(hidden.named("table_schema", "table_name", "column_name"));
            conditions.push(hidden.named("table_schema", "table_name", "dependent_column"));
        }
        "element_types" | "data_type_privileges" => conditions.push(hidden.numbered()),
        _ => {}
    }
    match any(conditions) {
        Some(condition) => replace(relation, Some(format!("NOT ({condition})")), |_| None),
        None => SystemView::Open,
    }
}

/// pg_attribute with hidden columns as dropped ones, which is how clients know to pass them over, and without the value
/// that a masked column has in rows older than it.
fn attributes(relation: &Relation, hidden: &Hidden, policy: &BoundPolicy) -> SystemView {
    let is_masked = masked_pairs(policy);
    let Some(is_hidden) = hidden.pairs("r.attrelid", "r.attnum") else {
        return match is_masked {
            Some(is_masked) => replace(relation, None, |column| {
                (column == "attmissingval").then(|| format!("CASE WHEN {is_masked} THEN NULL ELSE r.{column} END"))
            }),
            None => SystemView::Open,
        };
    };
    let case = |value: &str, column: &str| Some(format!("CASE WHEN {is_hidden} THEN {value} ELSE r.{column} END"));
    let rows = hidden.index("r.attrelid").map(|condition| format!("NOT ({condition})"));
    replace(relation, rows, |column| match column {
        "attname" => case(
            "pg_catalog.concat('........pg.dropped.', r.attnum::pg_catalog.text, '........')::pg_catalog.name",
            column,
        ),
        "atttypid" | "attcollation" => case("0::pg_catalog.oid", column),
        "attisdropped" => Some(format!("(r.attisdropped OR {is_hidden})")),
        "atthasdef" | "attnotnull" | "atthasmissing" => Some(format!("(r.{column} AND NOT ({is_hidden}))")),
        "attidentity" | "attgenerated" => case("''::pg_catalog.\"char\"", column),
        "attmissingval" => {
            let any_of = any([Some(is_hidden.clone()), is_masked.clone()])?;
            Some(format!("CASE WHEN {any_of} THEN NULL ELSE r.{column} END"))
        }
        "attacl" => case("NULL::pg_catalog.aclitem[]", column),
        "attoptions" | "attfdwoptions" => case("NULL::pg_catalog.text[]", column),
        _ => None,
    })
}

/// pg_class without indexes that name a hidden column, and with as many CHECKs as pg_constraint shows: pg_dump counts. Of partitions
/// that tell a masked value by their rows it shows neither bounds nor how many there are.
fn classes(relation: &Relation, hidden: &Hidden, policy: &BoundPolicy) -> SystemView {
    let rows = hidden.index("r.oid").map(|condition| format!("NOT ({condition})"));
    let mut checks = String::new();
    for of in hidden.columns.iter().filter(|of| of.checks > 0) {
        let _ = write!(
            checks,
            " WHEN r.oid OPERATOR(pg_catalog.=) {}::pg_catalog.oid THEN (r.relchecks OPERATOR(pg_catalog.-) {})::pg_catalog.int2",
            of.relation, of.checks
        );
    }
    let telling = policy.telling_relations();
    if rows.is_none() && checks.is_empty() && telling.is_empty() {
        return SystemView::Open;
    }
    let unless_telling = |blank: &str, column: &str| {
        let of_telling = format!("r.oid OPERATOR(pg_catalog.=) ANY ({})", oids(&telling));
        (!telling.is_empty()).then(|| format!("CASE WHEN {of_telling} THEN {blank} ELSE r.{column} END"))
    };
    replace(relation, rows, |column| match column {
        "relchecks" => (!checks.is_empty()).then(|| format!("CASE{checks} ELSE r.relchecks END")),
        "relpartbound" => unless_telling("NULL", column),
        "relpages" | "relallvisible" | "relallfrozen" => unless_telling("0", column),
        "reltuples" => unless_telling("(-1)::pg_catalog.float4", column),
        _ => None,
    })
}

/// `SELECT` of every column, some by an expression of their own, of the rows that meet a condition.
fn replace(relation: &Relation, condition: Option<String>, value: impl Fn(&str) -> Option<String>) -> SystemView {
    let mut sql = String::from("SELECT ");
    for (index, column) in relation.columns.iter().enumerate() {
        if index > 0 {
            sql.push_str(", ");
        }
        let quoted = quote_name(&column.name);
        match value(&column.name) {
            Some(value) => _ = write!(sql, "{value} AS {quoted}"),
            None => _ = write!(sql, "r.{quoted}"),
        }
    }
    let _ = write!(sql, " FROM {}.{} r", quote_name(&relation.schema), quote_name(&relation.name));
    if let Some(condition) = condition {
        let _ = write!(sql, " WHERE {condition}");
    }
    SystemView::Replace(sql)
}

fn any(conditions: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let all: Vec<String> = conditions.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" OR "))
}

/// What is hidden from an identity: the columns, and the indexes and constraints that name them.
struct Hidden {
    columns: Vec<HiddenColumns>,
    /// Indexes by oid, schema and name.
    indexes: Vec<(Oid, String, String)>,
    /// Constraints by schema and name.
    constraints: Vec<(String, String)>,
}

struct HiddenColumns {
    relation: Oid,
    schema: String,
    table: String,
    columns: Vec<(i16, String)>,
    /// How many CHECKs name one of them.
    checks: usize,
}

impl Hidden {
    fn of(policy: &BoundPolicy) -> Self {
        let catalog = &policy.catalog;
        let mut hidden = Hidden { columns: Vec::new(), indexes: Vec::new(), constraints: Vec::new() };
        for (oid, view) in &policy.views {
            let Some(relation) = catalog.relations.get(oid) else { continue };
            let is_hidden = |number: &i16| matches!(view.columns.get(number), Some(ColumnView::Hidden));
            let columns: Vec<(i16, String)> = relation
                .columns
                .iter()
                .filter(|column| is_hidden(&column.number))
                .map(|column| (column.number, column.name.to_string()))
                .collect();
            if columns.is_empty() {
                continue;
            }
            let schema = relation.schema.to_string();
            for index in &relation.indexes {
                if index.columns.iter().chain(&index.reads).any(is_hidden) {
                    hidden.indexes.push((index.oid, schema.clone(), index.name.to_string()));
                    // The constraint of a unique index has its name.
                    hidden.constraints.push((schema.clone(), index.name.to_string()));
                }
            }
            let mut checks = 0;
            for check in relation.checks.iter().filter(|check| check.columns.iter().any(is_hidden)) {
                checks += 1;
                hidden.constraints.push((schema.clone(), check.name.to_string()));
            }
            for key in relation.foreign_keys.iter().filter(|key| key.columns.iter().any(is_hidden)) {
                hidden.constraints.push((schema.clone(), key.name.to_string()));
            }
            let namespace = catalog.schemas.get(&relation.schema).copied().unwrap_or(0);
            for (number, _) in &columns {
                // The name that information_schema makes up for NOT NULL.
                hidden.constraints.push((schema.clone(), format!("{namespace}_{oid}_{number}_not_null")));
            }
            for from in catalog.referenced_by.get(oid).into_iter().flatten() {
                let Some(from) = catalog.relations.get(from) else { continue };
                for key in &from.foreign_keys {
                    if key.references == *oid && key.referenced_columns.iter().any(is_hidden) {
                        hidden.constraints.push((from.schema.to_string(), key.name.to_string()));
                    }
                }
            }
            hidden.columns.push(HiddenColumns {
                relation: *oid,
                schema,
                table: relation.name.to_string(),
                columns,
                checks,
            });
        }
        // One policy, one text: it is part of what is cached.
        hidden.columns.sort_by_key(|columns| columns.relation);
        hidden.indexes.sort();
        hidden.constraints.sort();
        hidden.constraints.dedup();
        hidden
    }

    /// Whether (relation, column number) is hidden.
    fn pairs(&self, relation: &str, number: &str) -> Option<String> {
        pairs(
            relation,
            number,
            self.columns.iter().map(|of| (of.relation, of.columns.iter().map(|(number, _)| *number))),
        )
    }

    /// Whether an array of column numbers of a relation holds a hidden one.
    fn overlap(&self, relation: &str, numbers: &str) -> Option<String> {
        any(self.columns.iter().map(|of| {
            let listed: Vec<String> = of.columns.iter().map(|(number, _)| number.to_string()).collect();
            Some(format!(
                "({relation} OPERATOR(pg_catalog.=) {}::pg_catalog.oid AND {numbers} IS NOT NULL AND {numbers}::pg_catalog.int2[] OPERATOR(pg_catalog.&&) ARRAY[{}]::pg_catalog.int2[])",
                of.relation,
                listed.join(", ")
            ))
        }))
    }

    /// Whether an oid is that of a hidden index.
    fn index(&self, oid: &str) -> Option<String> {
        let oids: Vec<String> = self.indexes.iter().map(|(oid, ..)| oid.to_string()).collect();
        (!oids.is_empty())
            .then(|| format!("{oid} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])", oids.join(", ")))
    }

    fn index_named(&self, schema: &str, name: &str) -> Option<String> {
        pairs_of_text(schema, name, self.indexes.iter().map(|(_, schema, name)| (schema, name)))
    }

    fn constraint_named(&self, schema: &str, name: &str) -> Option<String> {
        pairs_of_text(schema, name, self.constraints.iter().map(|(schema, name)| (schema, name)))
    }

    /// Whether three columns of information_schema name a hidden column.
    fn named(&self, schema: &str, table: &str, column: &str) -> Option<String> {
        any(self.columns.iter().map(|of| {
            let names: Vec<String> = of.columns.iter().map(|(_, name)| quote_text(name)).collect();
            Some(format!(
                "(r.{schema}::pg_catalog.text OPERATOR(pg_catalog.=) {} AND r.{table}::pg_catalog.text OPERATOR(pg_catalog.=) {} AND r.{column}::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[]))",
                quote_text(&of.schema),
                quote_text(&of.table),
                names.join(", ")
            ))
        }))
    }

    /// Whether a row of `element_types` or `data_type_privileges` is about a hidden column, which it names by number.
    fn numbered(&self) -> Option<String> {
        any(self.columns.iter().map(|of| {
            let numbers: Vec<String> = of.columns.iter().map(|(number, _)| quote_text(&number.to_string())).collect();
            Some(format!(
                "(r.object_schema::pg_catalog.text OPERATOR(pg_catalog.=) {} AND r.object_name::pg_catalog.text OPERATOR(pg_catalog.=) {} AND {} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[]))",
                quote_text(&of.schema),
                quote_text(&of.table),
                // The number, behind an `a` for elements of an array.
                "pg_catalog.ltrim(r.dtd_identifier::pg_catalog.text, 'a')",
                numbers.join(", ")
            ))
        }))
    }
}

/// Whether (relation, column number) is one of these.
fn pairs<N: Iterator<Item = i16>>(
    relation: &str,
    number: &str,
    columns: impl Iterator<Item = (Oid, N)>,
) -> Option<String> {
    any(columns.map(|(oid, numbers)| {
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        Some(format!(
            "({relation} OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid AND {number} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.int4[]))",
            numbers.join(", ")
        ))
    }))
    .map(|condition| format!("({condition})"))
}

/// Whether a row of pg_attribute is about a masked column.
fn masked_pairs(policy: &BoundPolicy) -> Option<String> {
    let mut masked: Vec<(Oid, Vec<i16>)> = policy
        .views
        .iter()
        .map(|(oid, view)| {
            let is_masked = |(_, column): &(&i16, &ColumnView)| matches!(column, ColumnView::Masked(_));
            let mut numbers: Vec<i16> = view.columns.iter().filter(is_masked).map(|(number, _)| *number).collect();
            numbers.sort_unstable();
            (*oid, numbers)
        })
        .filter(|(_, numbers)| !numbers.is_empty())
        .collect();
    masked.sort_unstable();
    pairs("r.attrelid", "r.attnum", masked.into_iter().map(|(oid, numbers)| (oid, numbers.into_iter())))
}

fn pairs_of_text<'a>(one: &str, other: &str, pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Option<String> {
    any(pairs.map(|(first, second)| {
        Some(format!(
            "({one}::pg_catalog.text OPERATOR(pg_catalog.=) {} AND {other}::pg_catalog.text OPERATOR(pg_catalog.=) {})",
            quote_text(first),
            quote_text(second)
        ))
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{Index, RelationKind};
    use crate::decide::bound::RelationView;
    use crate::decide::testing;
    use crate::sql;

    /// `shop.customers (id, ssn, note)` with an index on ssn; ssn is hidden or not.
    fn policy(hide: bool) -> BoundPolicy {
        let mut catalog = testing::catalog();
        catalog.schemas.insert("shop".into(), 100);
        let columns = [("id", "integer"), ("ssn", "text"), ("note", "text")];
        let mut customers = testing::table(&catalog, 1000, "shop", "customers", &columns);
        customers.indexes.push(Index {
            name: "customers_ssn_key".into(),
            oid: 1001,
            unique: true,
            primary: false,
            valid: true,
            columns: vec![2],
            expressions: None,
            predicate: None,
            reads: Vec::new(),
        });
        catalog.add_relation(customers);
        let mut bound = testing::unrestricted(catalog);
        if hide {
            let view = RelationView { columns: BTreeMap::from([(2, ColumnView::Hidden)]), ..RelationView::default() };
            bound.views.insert(1000, Arc::new(view));
        }
        bound
    }

    fn view(schema: &str, name: &str, columns: &[(&str, &str)], hide: bool) -> SystemView {
        let policy = policy(hide);
        let mut relation = testing::table(&policy.catalog, 1249, schema, name, columns);
        relation.system = true;
        if schema == "information_schema" || name == "pg_settings" {
            relation.kind = RelationKind::View;
        }
        system_view(&relation, &policy)
    }

    fn sql_of(view: SystemView) -> String {
        let SystemView::Replace(text) = view else { panic!("{view:?}") };
        let tree = sql::parse(&text, &sql::ParseLimits::default()).unwrap().tree;
        sql::emit(&tree).unwrap();
        text
    }

    #[test]
    fn the_tables_are_sorted() {
        assert!(OPEN.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(DENIED.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(STANDARD_OPEN.windows(2).all(|pair| pair[0] < pair[1]));
        for (name, _) in DENIED {
            assert!(!OPEN.contains(name) && BLANKED.iter().all(|(blanked, ..)| blanked != name), "{name}");
        }
    }

    #[test]
    fn what_shows_data_sessions_or_secrets_is_closed_and_the_unknown_too() {
        for name in [
            "pg_statistic",
            "pg_stats",
            "pg_authid",
            "pg_shadow",
            "pg_largeobject",
            "pg_hba_file_rules",
            "pg_statistic_ext_data",
            "pg_some_new_relation",
        ] {
            assert!(matches!(view("pg_catalog", name, &[], false), SystemView::Denied(_)), "{name}");
        }
        assert!(matches!(view("pg_toast", "pg_toast_1000", &[], false), SystemView::Denied(_)));
        assert!(matches!(view("information_schema", "user_mapping_options", &[], false), SystemView::Denied(_)));
        assert!(matches!(view("information_schema", "_pg_user_mappings", &[], false), SystemView::Denied(_)));
    }

    #[test]
    fn what_clients_need_is_open() {
        for name in ["pg_class", "pg_type", "pg_attribute", "pg_index", "pg_constraint", "pg_namespace", "pg_roles"] {
            assert_eq!(view("pg_catalog", name, &[], false), SystemView::Open, "{name}");
        }
        assert_eq!(view("information_schema", "columns", &[], false), SystemView::Open);
        assert_eq!(view("information_schema", "tables", &[], true), SystemView::Open);
    }

    #[test]
    fn statements_of_sessions_are_blank_and_the_proxys_settings_are_left_out() {
        let activity = sql_of(view("pg_catalog", "pg_stat_activity", &[("pid", "integer"), ("query", "text")], false));
        assert_eq!(
            activity,
            "SELECT r.\"pid\", NULL::pg_catalog.text AS \"query\" FROM \"pg_catalog\".\"pg_stat_activity\" r"
        );
        let settings = sql_of(view("pg_catalog", "pg_settings", &[("name", "text"), ("setting", "text")], false));
        assert!(settings.contains("'postern.'") && settings.contains("'primary_conninfo'"));
    }

    #[test]
    fn a_hidden_column_is_a_dropped_one() {
        let columns =
            [("attrelid", "integer"), ("attname", "name"), ("attnum", "smallint"), ("attisdropped", "boolean")];
        let text = sql_of(view("pg_catalog", "pg_attribute", &columns, true));
        assert!(text.contains("........pg.dropped."), "{text}");
        assert!(text.contains("r.attrelid OPERATOR(pg_catalog.=) 1000::pg_catalog.oid"), "{text}");
        assert!(text.contains("ANY (ARRAY[2]::pg_catalog.int4[])"), "{text}");
        // Its index has a column of its name.
        assert!(text.contains("WHERE NOT (r.attrelid OPERATOR(pg_catalog.=) ANY (ARRAY[1001]"), "{text}");
    }

    #[test]
    fn what_names_a_hidden_column_leaves_it_out() {
        let of = |schema, name, columns: &[(&str, &str)]| sql_of(view(schema, name, columns, true));
        assert!(of("pg_catalog", "pg_index", &[("indrelid", "integer")]).contains("r.indkey"));
        assert!(of("pg_catalog", "pg_class", &[("oid", "integer")]).contains("1001"));
        assert!(of("pg_catalog", "pg_attrdef", &[("adrelid", "integer")]).contains("r.adnum"));
        assert!(of("pg_catalog", "pg_constraint", &[("conrelid", "integer")]).contains("r.confkey"));
        assert!(of("pg_catalog", "pg_indexes", &[("indexname", "name")]).contains("'customers_ssn_key'"));
        assert!(of("information_schema", "columns", &[("column_name", "text")]).contains("'ssn'"));
        let constraints = of("information_schema", "table_constraints", &[("constraint_name", "text")]);
        assert!(constraints.contains("'customers_ssn_key'") && constraints.contains("'100_1000_2_not_null'"));
    }
}
