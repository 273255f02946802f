//! What functions and operators can reach, known by review.
//!
//! **Promise.** A function is allowed only if it is listed by name as one that computes; everything else is refused, or
//! needs a rule. The list of pg_catalog and information_schema is `builtins.txt`, to be read by people; extensions are listed below.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::catalog::names::types;
use crate::catalog::{Catalog, Function, Oid};

/// What decides over a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionClass {
    /// It only computes: allowed.
    Compute,
    /// `set_config`, `current_setting`: decided as SET and SHOW of its first argument.
    Setting,
    /// A sequence function: decided by the sequence that its first argument names.
    Sequence {
        /// Whether it moves the sequence.
        writes: bool,
    },
    /// Counts rows of the relation that its argument names: NULL for one that the identity does not see as it is.
    RelationCounter,
    /// Tells how much was written to the log: not for an identity that may overwrite a masked value.
    WalPosition,
    /// Gives what some sequence gave last.
    LastValue,
    /// Takes a relation, of which it tells something that must not be told of a partition that tells a masked value.
    OfRelation,
    /// Needs `Lock` or `Ddl`.
    AdvisoryLock,
    /// `pg_notify`: decided by the channel that its first argument names.
    Notify,
    /// A function of the database: needs a rule that names it.
    Database,
    /// Refused whatever rules say, with what it does.
    Denied(&'static str),
}

/// What a function that is not in any list is told to be.
const UNKNOWN: &str = "is not known to the proxy";

static BUILTINS: LazyLock<HashMap<&'static str, FunctionClass>> = LazyLock::new(|| read(include_str!("builtins.txt")));

/// Reads the reviewed list. A section of a class that is not known refuses what it lists.
fn read(text: &'static str) -> HashMap<&'static str, FunctionClass> {
    let mut map = HashMap::new();
    let mut class = FunctionClass::Denied(UNKNOWN);
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if let Some((word, why)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            class = match word {
                "compute" | "aggregate" | "window" => FunctionClass::Compute,
                "setting" => FunctionClass::Setting,
                "sequence-write" => FunctionClass::Sequence { writes: true },
                "sequence-read" => FunctionClass::Sequence { writes: false },
                "counter" => FunctionClass::RelationCounter,
                "wal" => FunctionClass::WalPosition,
                "last-value" => FunctionClass::LastValue,
                "of-relation" => FunctionClass::OfRelation,
                "lock" => FunctionClass::AdvisoryLock,
                "notify" => FunctionClass::Notify,
                _ => FunctionClass::Denied(why.trim()),
            };
            continue;
        }
        for name in line.split_whitespace() {
            // Listed twice, the refusal holds.
            let entry = map.entry(name).or_insert(class);
            if matches!(class, FunctionClass::Denied(_)) {
                *entry = class;
            }
        }
    }
    map
}

/// The class of a function of the catalog.
pub fn classify(function: &Function) -> FunctionClass {
    match &*function.schema {
        "pg_catalog" if function.extension.is_none() || function.extension.as_deref() == Some("plpgsql") => {
            classify_builtin(&function.name, Some(function.arguments.len()))
        }
        // What its views are built on; programs that read definitions call the same.
        "information_schema" => classify_builtin(&format!("information_schema.{}", function.name), None),
        _ => match &function.extension {
            Some(extension) => classify_extension(extension, &function.name),
            None => FunctionClass::Database,
        },
    }
}

/// Of which type a function makes values out of parts, running the CHECKs of domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// That of its first argument.
    Argument,
    /// One that it is told by name as it runs.
    Named,
}

/// What a function makes values of, where the type is not written as one.
pub fn makes(function: &Function) -> Option<Makes> {
    match &*function.name {
        "json_populate_record"
        | "json_populate_recordset"
        | "jsonb_populate_record"
        | "jsonb_populate_recordset"
        | "jsonb_populate_record_valid"
        | "populate_record" => Some(Makes::Argument),
        "pg_input_is_valid" | "pg_input_error_info" => Some(Makes::Named),
        _ => None,
    }
}

/// The class of a function of pg_catalog by its name and, where known, its number of arguments.
pub fn classify_builtin(name: &str, arity: Option<usize>) -> FunctionClass {
    let by_name = || BUILTINS.get(name).copied();
    let by_arity = match arity {
        Some(arity) => BUILTINS.get(format!("{name}/{arity}").as_str()).copied(),
        // Some overload of it may be the one that is meant: the strictest holds.
        None => (0..10).find_map(|arity| BUILTINS.get(format!("{name}/{arity}").as_str()).copied()),
    };
    by_arity.or_else(by_name).unwrap_or(FunctionClass::Denied(UNKNOWN))
}

/// What is known of the functions of an extension.
enum Extension {
    /// All of them only compute.
    Computes,
    /// Those only compute whose name starts so; others need a rule.
    Prefixes(&'static [&'static str]),
    /// All compute but these, with what they do.
    Except(&'static [&'static str], &'static str),
    /// None is allowed, whatever rules say.
    Denied(&'static str),
}

/// Extensions by name, sorted.
const EXTENSIONS: &[(&str, Extension)] = &[
    ("adminpack", Extension::Denied("reads or writes files of the server")),
    ("amcheck", Extension::Denied("looks into indexes")),
    ("aws_commons", Extension::Denied("reaches other servers")),
    ("aws_lambda", Extension::Denied("reaches other servers")),
    ("aws_s3", Extension::Denied("reaches other servers")),
    ("bloom", Extension::Computes),
    ("btree_gin", Extension::Computes),
    ("btree_gist", Extension::Computes),
    ("citext", Extension::Computes),
    ("cube", Extension::Computes),
    ("dblink", Extension::Denied("reaches other servers")),
    ("dict_int", Extension::Computes),
    ("dict_xsyn", Extension::Computes),
    ("earthdistance", Extension::Computes),
    ("file_fdw", Extension::Denied("reads or writes files of the server")),
    ("fuzzystrmatch", Extension::Computes),
    ("hstore", Extension::Computes),
    ("http", Extension::Denied("reaches other servers")),
    ("intagg", Extension::Computes),
    ("intarray", Extension::Computes),
    ("isn", Extension::Computes),
    ("lo", Extension::Denied("large objects")),
    ("ltree", Extension::Computes),
    ("oracle_fdw", Extension::Denied("reaches other servers")),
    ("pageinspect", Extension::Denied("reads raw pages")),
    ("pg_buffercache", Extension::Denied("reads raw pages")),
    ("pg_cron", Extension::Denied("runs SQL given as text")),
    ("pg_freespacemap", Extension::Denied("reads raw pages")),
    ("pg_net", Extension::Denied("reaches other servers")),
    ("pg_prewarm", Extension::Denied("reads raw pages")),
    ("pg_stat_statements", Extension::Denied("shows or touches other sessions")),
    ("pg_surgery", Extension::Denied("reads raw pages")),
    ("pg_trgm", Extension::Computes),
    ("pg_visibility", Extension::Denied("reads raw pages")),
    ("pg_walinspect", Extension::Denied("reads the write-ahead log")),
    ("pgcrypto", Extension::Computes),
    ("pgrowlocks", Extension::Denied("reads raw pages")),
    ("pgstattuple", Extension::Denied("reads raw pages")),
    (
        "postgis",
        Extension::Prefixes(&[
            "_st_asgml",
            "_st_asx3d",
            "_st_contains",
            "_st_coveredby",
            "_st_covers",
            "_st_crosses",
            "_st_dfullywithin",
            "_st_distance",
            "_st_dwithin",
            "_st_equals",
            "_st_expand",
            "_st_geom",
            "_st_intersects",
            "_st_linecrossing",
            "_st_longest",
            "_st_maxdistance",
            "_st_orderingequals",
            "_st_overlaps",
            "_st_pointoutside",
            "_st_sortable",
            "_st_touches",
            "_st_voronoi",
            "_st_within",
            "box",
            "bytea",
            "equals",
            "geog_",
            "geography",
            "geom2d_brin",
            "geom3d_brin",
            "geom4d_brin",
            "geometry",
            "gidx_",
            "is_contained",
            "json",
            "overlaps_",
            "path",
            "point",
            "polygon",
            "postgis_addbbox",
            "postgis_dropbbox",
            "postgis_full_version",
            "postgis_geos_version",
            "postgis_getbbox",
            "postgis_hasbbox",
            "postgis_lib_version",
            "postgis_libxml_version",
            "postgis_noop",
            "postgis_proj_version",
            "postgis_typmod_dims",
            "postgis_typmod_srid",
            "postgis_typmod_type",
            "postgis_version",
            "spheroid",
            "st_",
            "text",
        ]),
    ),
    ("postgres_fdw", Extension::Denied("reaches other servers")),
    ("seg", Extension::Computes),
    ("sslinfo", Extension::Denied("shows or touches other sessions")),
    (
        "tablefunc",
        Extension::Except(&["connectby", "crosstab", "crosstab2", "crosstab3", "crosstab4"], "runs SQL given as text"),
    ),
    ("tcn", Extension::Denied("notifies channels")),
    ("tds_fdw", Extension::Denied("reaches other servers")),
    ("tsm_system_rows", Extension::Computes),
    ("tsm_system_time", Extension::Computes),
    ("unaccent", Extension::Computes),
    ("uuid-ossp", Extension::Computes),
    ("vector", Extension::Computes),
    ("xml2", Extension::Except(&["xpath_table"], "runs SQL given as text")),
];

/// Functions of extensions that compute, by prefix or as a whole, which don't.
const EXTENSION_DENIED: &[(&str, &str, &str)] = &[
    ("postgis", "st_estimatedextent", "shows raw statistics"),
    ("postgis", "st_estimated_extent", "shows raw statistics"),
    ("postgis", "st_findextent", "runs SQL given as text"),
    ("postgis", "st_find_extent", "runs SQL given as text"),
    ("postgis", "_postgis_stats", "shows raw statistics"),
    ("postgis", "_postgis_selectivity", "shows raw statistics"),
    ("postgis", "_postgis_join_selectivity", "shows raw statistics"),
    ("postgis", "_postgis_index_extent", "shows raw statistics"),
];

fn classify_extension(extension: &str, name: &str) -> FunctionClass {
    if let Some((.., why)) = EXTENSION_DENIED.iter().find(|(of, denied, _)| *of == extension && *denied == name) {
        return FunctionClass::Denied(why);
    }
    // An extension that is not listed is like the database's own code.
    let Some((_, known)) = EXTENSIONS.iter().find(|(of, _)| *of == extension) else { return FunctionClass::Database };
    match known {
        Extension::Computes => FunctionClass::Compute,
        Extension::Prefixes(prefixes) if prefixes.iter().any(|prefix| name.starts_with(prefix)) => {
            FunctionClass::Compute
        }
        Extension::Prefixes(_) => FunctionClass::Database,
        Extension::Except(names, why) if names.contains(&name) => FunctionClass::Denied(why),
        Extension::Except(..) => FunctionClass::Compute,
        Extension::Denied(why) => FunctionClass::Denied(why),
    }
}

/// Types whose comparisons among each other neither raise nor show a value: one row for each family in which they mix.
const COMPARABLE: &[&[Oid]] = &[
    &[types::BOOL],
    &[types::BYTEA],
    &[types::CHAR],
    &[types::INT2, types::INT4, types::INT8],
    // An integer beside a numeric or a float is cast to it, which can't fail.
    &[types::INT2, types::INT4, types::INT8, types::NUMERIC],
    &[types::INT2, types::INT4, types::INT8, types::FLOAT4, types::FLOAT8],
    &[types::OID],
    &[types::TEXT, types::VARCHAR, types::NAME],
    &[types::BPCHAR],
    &[types::DATE, types::TIMESTAMP, types::TIMESTAMPTZ],
    &[types::TIME],
    &[types::TIMETZ],
    &[types::INTERVAL],
    &[types::UUID],
    &[types::INET, types::CIDR],
    &[types::MACADDR],
    &[types::PG_LSN],
];

/// Whether a built-in comparison of these two types is leak-proof: it can neither raise nor show a value, whatever the
/// operands are. `operator` is of pg_catalog and bare: `=`, `<`. Types are those of the operands as written, domains
/// and literals already taken for their base or the other side's type.
pub fn leakproof(catalog: &Catalog, operator: &str, left: Oid, right: Oid) -> bool {
    let equality = matches!(operator, "=" | "<>");
    let order = matches!(operator, "<" | "<=" | ">" | ">=");
    if !equality && !order {
        return false;
    }
    if COMPARABLE.iter().any(|family| family.contains(&left) && family.contains(&right)) {
        return true;
    }
    if left != right {
        return false;
    }
    if left == types::JSONB {
        return equality;
    }
    let Some(kind) = catalog.types.get(&left) else { return false };
    match kind.kind {
        'e' => true,
        // Elements of the same type are compared by its own `=`.
        'b' if kind.element != 0 && kind.category == 'A' => {
            equality && kind.element != left && leakproof(catalog, "=", kind.element, kind.element)
        }
        _ => false,
    }
}

/// Whether a comparison of a column of this type takes no cast of the column that may fail, whatever it is compared with: a bigint
/// beside an oid is cast to that, and a numeric beside a float.
pub const fn is_cast_safely(column: Oid) -> bool {
    !matches!(column, types::INT8 | types::NUMERIC)
}

/// Whether a bigint beside a value of this type, or an array of it, is cast to a kind of oid.
pub fn casts_bigint(catalog: &Catalog, kind: Oid) -> bool {
    let Some(found) = catalog.types.get(&kind) else { return false };
    let is_array = found.category == 'A' && found.element != 0;
    let element = if is_array { catalog.types.get(&found.element).unwrap_or(found) } else { found };
    element.category == 'N' && !leakproof(catalog, "=", types::INT8, element.oid)
}

/// The type to which a column of this type has a value cast that it is compared with, if that may fail.
pub const fn cast_that_fails(column: Oid) -> Option<&'static str> {
    match column {
        types::FLOAT4 | types::FLOAT8 => Some("float8"),
        types::OID => Some("oid"),
        _ => None,
    }
}

/// Whether `value operator ANY (array)` (or ALL) is leak-proof.
pub fn leakproof_any(catalog: &Catalog, operator: &str, value: Oid, array: Oid) -> bool {
    let Some(array) = catalog.types.get(&array) else { return false };
    array.category == 'A' && array.element != 0 && leakproof(catalog, operator, value, array.element)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::catalog::Type;

    fn class(name: &str) -> FunctionClass {
        classify_builtin(name, None)
    }

    #[test]
    fn the_list_is_read_whole_and_names_nothing_twice() {
        let text = include_str!("builtins.txt");
        let mut seen = std::collections::HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
            for name in line.split_whitespace() {
                assert!(seen.insert(name), "{name} is listed twice");
            }
        }
        for line in text.lines().filter(|line| line.starts_with('[')) {
            let class = line[1..].split(']').next().unwrap();
            let known = [
                "compute",
                "aggregate",
                "window",
                "setting",
                "sequence-write",
                "sequence-read",
                "counter",
                "wal",
                "last-value",
                "of-relation",
                "lock",
                "notify",
                "denied",
            ];
            assert!(known.contains(&class), "{class}");
        }
        assert!(seen.len() > 2200);
    }

    #[test]
    fn what_computes_is_allowed() {
        for name in [
            "lower",
            "now",
            "count",
            "row_number",
            "jsonb_build_object",
            "to_jsonb",
            "row_to_json",
            "format_type",
            "pg_get_viewdef",
            "has_table_privilege",
            "pg_backend_pid",
            "version",
            "txid_current",
            "pg_is_in_recovery",
            "pg_sleep",
            "gen_random_uuid",
            "uuidv7",
            "array_agg",
            "sha256",
            "obj_description",
            "pg_encoding_to_char",
        ] {
            assert_eq!(class(name), FunctionClass::Compute, "{name}");
        }
    }

    #[test]
    fn what_reaches_out_is_refused() {
        for name in [
            "pg_read_file",
            "lo_export",
            "lo_get",
            "query_to_xml",
            "table_to_xml",
            "database_to_xml",
            "ts_stat",
            "cursor_to_xml",
            "pg_terminate_backend",
            "pg_stat_get_activity",
            "pg_ls_dir",
            "pg_reload_conf",
            "pg_logical_slot_get_changes",
            "pg_mcv_list_items",
            "pg_show_all_settings",
            "current_query",
            "binary_upgrade_set_next_pg_type_oid",
            "dblink",
            "no_such_function",
            "PG_SLEEP",
            "array_in",
            "domain_in",
            "pg_stat_file",
            "currtid2",
            "pg_get_aios",
            "compute",
        ] {
            assert!(matches!(class(name), FunctionClass::Denied(_)), "{name}");
        }
        assert!(matches!(classify_builtin("ts_rewrite", Some(2)), FunctionClass::Denied(_)));
        assert!(matches!(classify_builtin("ts_rewrite", None), FunctionClass::Denied(_)));
        assert_eq!(classify_builtin("ts_rewrite", Some(3)), FunctionClass::Compute);
    }

    #[test]
    fn some_are_decided_by_an_argument() {
        assert_eq!(class("set_config"), FunctionClass::Setting);
        assert_eq!(class("nextval"), FunctionClass::Sequence { writes: true });
        assert_eq!(class("currval"), FunctionClass::Sequence { writes: false });
        assert_eq!(class("lastval"), FunctionClass::LastValue);
        assert_eq!(class("pg_table_size"), FunctionClass::OfRelation);
        assert_eq!(class("pg_try_advisory_xact_lock"), FunctionClass::AdvisoryLock);
        assert_eq!(class("pg_notify"), FunctionClass::Notify);
    }

    #[test]
    fn extensions_are_known_by_name() {
        for (extension, name, wanted) in [
            ("citext", "citext_eq", FunctionClass::Compute),
            ("pgcrypto", "crypt", FunctionClass::Compute),
            ("vector", "cosine_distance", FunctionClass::Compute),
            ("postgis", "st_distance", FunctionClass::Compute),
            ("postgis", "populate_geometry_columns", FunctionClass::Database),
            ("postgis", "st_estimatedextent", FunctionClass::Denied("shows raw statistics")),
            ("tablefunc", "crosstab", FunctionClass::Denied("runs SQL given as text")),
            ("tablefunc", "normal_rand", FunctionClass::Compute),
            ("dblink", "dblink_exec", FunctionClass::Denied("reaches other servers")),
            ("timescaledb", "time_bucket", FunctionClass::Database),
        ] {
            assert_eq!(classify_extension(extension, name), wanted, "{extension}.{name}");
        }
        assert!(EXTENSIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    fn a_type(oid: Oid, kind: char, category: char, element: Oid) -> Type {
        Type {
            oid,
            schema: "pg_catalog".into(),
            name: "t".into(),
            kind,
            category,
            element,
            array: 0,
            base: 0,
            relation: 0,
            collation: 0,
            preferred: false,
            range_of: 0,
            base_modifier: -1,
            labels: Vec::new(),
            not_null: false,
            has_checks: false,
            default: None,
        }
    }

    #[test]
    fn comparisons_that_can_not_raise_are_leakproof_and_nothing_else() {
        let mut catalog = Catalog::default();
        for (oid, kind, category, element) in [
            (1007, 'b', 'A', 23),
            (1231, 'b', 'A', 1700),
            (199, 'b', 'A', 114),
            (9000, 'e', 'E', 0),
            (9001, 'b', 'A', 9000),
            (25, 'b', 'S', 0),
        ] {
            catalog.types.insert(oid, a_type(oid, kind, category, element));
        }
        for (operator, left, right) in [
            ("=", 23, 23),
            ("<", 21, 20),
            (">=", 1700, 1700),
            ("=", 1700, 23),
            ("<>", 25, 1043),
            ("=", 1082, 1184),
            ("=", 9000, 9000),
            ("<", 9000, 9000),
            ("=", 1007, 1007),
            ("=", 9001, 9001),
            ("=", 3802, 3802),
            ("=", 2950, 2950),
        ] {
            assert!(leakproof(&catalog, operator, left, right), "{left} {operator} {right}");
        }
        for (operator, left, right) in [
            ("+", 23, 23),
            ("/", 23, 23),
            ("~", 25, 25),
            ("~~", 25, 25),
            ("<", 3802, 3802),
            ("<", 1007, 1007),
            ("=", 199, 199),
            ("=", 25, 23),
            ("=", 9000, 25),
            ("=", 9002, 9002),
            ("||", 25, 25),
            ("=", 1700, 701),
            ("==", 23, 23),
        ] {
            assert!(!leakproof(&catalog, operator, left, right), "{left} {operator} {right}");
        }
        assert!(leakproof_any(&catalog, "=", 23, 1007));
        assert!(!leakproof_any(&catalog, "=", 25, 25));
    }
}
