//! Asks a server for everything the proxy must know of its database.
//!
//! **Promise.** One snapshot: all queries run in one `REPEATABLE READ READ ONLY` transaction with an empty search_path, so
//! that every type, view and expression comes back with qualified names. What Postgres deparses (views, expressions)
//! follows the newest committed state instead; a change in between changes the [`fingerprint`], and the keeper loads again.
//! **Also.** A relation that a migration holds locked does not hold up the rest: it is as it was known before.
//! **Also.** Temporary relations are left out: those of other sessions are nobody's business here, and the session's own
//! are in its overlay.
//! **Not covered.** Rights: any role that may connect can read these catalogs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;

use super::code::{Lookup, mentions_word};
use super::{
    Cast, Catalog, Check, Collation, Column, ForeignKey, Function, Index, Name, Oid, Operator, Relation, RelationKind,
    Trigger, Type,
};
use crate::sql::as_server_reads;

/// The first oid that `CREATE` gives; what is below came with initdb.
pub const FIRST_USER_OID: Oid = 16384;
/// A longer body of a function isn't kept: nothing is proven from it, which is always safe.
pub const MAX_BODY: usize = 64 << 10;
/// All bodies together; those over it are left out likewise.
pub const MAX_BODIES: usize = 8 << 20;
/// The oldest server that is supported.
pub const MIN_SERVER: u32 = 140_000;

/// Why the catalog can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No connection, or it broke.
    #[error("the connection to the server failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server answered with an error.
    #[error("the server refused a catalog query: {message} ({sqlstate})")]
    Server {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// An answer that isn't what the query asks for.
    #[error("unexpected answer to the query for {0}")]
    Answer(&'static str),
    /// Older than [`MIN_SERVER`].
    #[error("server version {0} is not supported; 14 is the oldest")]
    Version(u32),
    /// It took too long.
    #[error("the catalog could not be read within {0:?}")]
    Timeout(std::time::Duration),
}

/// Takes one row of text values.
pub type EachRow<'a> = &'a mut (dyn FnMut(&[Option<&str>]) -> Result<(), LoadError> + Send);

/// A connection that runs one statement after another by the simple protocol.
pub trait Rows: Send {
    /// Runs `sql` and hands each row to `each` as it arrives.
    fn rows(&mut self, sql: &str, each: EachRow<'_>) -> impl Future<Output = Result<(), LoadError>> + Send;
}

/// A row, read from left to right.
pub(super) struct Row<'a> {
    about: &'static str,
    fields: std::slice::Iter<'a, Option<&'a str>>,
}

impl<'a> Row<'a> {
    pub(super) fn new(about: &'static str, fields: &'a [Option<&'a str>]) -> Self {
        Self { about, fields: fields.iter() }
    }

    pub(super) fn optional(&mut self) -> Result<Option<&'a str>, LoadError> {
        self.fields.next().copied().ok_or(LoadError::Answer(self.about))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, LoadError> {
        self.optional()?.ok_or(LoadError::Answer(self.about))
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Result<T, LoadError> {
        self.text()?.parse().map_err(|_| LoadError::Answer(self.about))
    }

    pub(super) fn flag(&mut self) -> Result<bool, LoadError> {
        Ok(self.text()? == "t")
    }

    /// A `"char"`; NUL arrives as empty text and stands for none.
    pub(super) fn letter(&mut self) -> Result<Option<char>, LoadError> {
        Ok(self.text()?.chars().next())
    }

    pub(super) fn code(&mut self) -> Result<char, LoadError> {
        self.letter()?.ok_or(LoadError::Answer(self.about))
    }

    /// Numbers between blanks.
    pub(super) fn numbers<T: FromStr>(&mut self) -> Result<Vec<T>, LoadError> {
        let text = self.optional()?.unwrap_or_default();
        text.split_ascii_whitespace().map(|number| number.parse().map_err(|_| LoadError::Answer(self.about))).collect()
    }
}

/// Gives equal texts one allocation.
#[derive(Default)]
pub(super) struct Interner {
    names: HashSet<Name>,
    lists: HashSet<Arc<[Oid]>>,
}

impl Interner {
    pub(super) fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name: Name = text.into();
        self.names.insert(name.clone());
        name
    }

    fn list(&mut self, oids: &[Oid]) -> Arc<[Oid]> {
        if let Some(known) = self.lists.get(oids) {
            return known.clone();
        }
        let list: Arc<[Oid]> = oids.into();
        self.lists.insert(list.clone());
        list
    }

    fn optional(&mut self, text: Option<&str>) -> Option<Name> {
        text.map(|text| self.name(text))
    }
}

/// Settings under which everything is read: what is deparsed must not depend on the role's or the database's own.
const BEGIN: &[&str] = &[
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL search_path = ''",
    "SET LOCAL statement_timeout = '60s'",
    // Deparsing a view takes the lock of a reader: behind a long ALTER TABLE the last snapshot is better than waiting.
    "SET LOCAL lock_timeout = '5s'",
    "SET LOCAL idle_in_transaction_session_timeout = '60s'",
    "SET LOCAL DateStyle = 'ISO, YMD'",
    "SET LOCAL IntervalStyle = 'postgres'",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL standard_conforming_strings = on",
    "SET LOCAL quote_all_identifiers = off",
];

const VERSION: &str = "SELECT current_setting('server_version_num')";

const ORIGIN: &str = "\
    SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
    FROM pg_control_system()";

const SCHEMAS: &str = "SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'";

const EXTENSIONS: &str = "SELECT extname FROM pg_extension";

/// Roles that are made for sidecars come and go, and mean nothing to a policy.
const ROLES: &str = "SELECT rolname, rolsuper FROM pg_roles WHERE rolname !~ '^postern_[0-9a-f]{12}_[0-9a-f]{12}_'";

const EXTENSION_MEMBERS: &str = "\
    SELECT d.classid = 'pg_proc'::regclass, d.classid = 'pg_operator'::regclass, d.objid, e.extname
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      AND d.classid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_class'::regclass)";

const TYPES: &str = "\
    SELECT t.oid, n.nspname, t.typname, t.typtype, t.typcategory,
           CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END, t.typarray, t.typbasetype, t.typrelid,
           t.typcollation, t.typispreferred, coalesce(r.rngsubtype, m.rngsubtype, 0), t.typtypmod, t.typnotnull,
           t.typtype = 'd' AND EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'),
           pg_get_expr(t.typdefaultbin, 0)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_range r ON r.rngtypid = t.oid
    LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
    WHERE n.nspname !~ '^pg_(toast_)?temp_' AND t.typisdefined";

const ENUM_LABELS: &str = "SELECT enumtypid, enumlabel FROM pg_enum ORDER BY enumtypid, enumsortorder";

const COLLATIONS: &str = "\
    SELECT c.oid, n.nspname, c.collname, c.collisdeterministic
    FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE c.collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))";

/// Relations that another transaction holds so that nobody else may read them, or waits for to do so, and views of them:
/// deparsing what belongs to one of these would wait as long.
const LOCKED: &str = "\
    WITH locked AS MATERIALIZED (
      SELECT relation FROM pg_locks
      WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND c.relkind NOT IN ('i', 'I', 't')
      AND (c.oid IN (TABLE locked)
           OR c.oid IN (SELECT w.ev_class FROM pg_rewrite w JOIN pg_depend d
                        ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (TABLE locked)))";

/// Left out are indexes of the system's own relations, which nothing names, and all toast tables: what isn't known can't
/// be read, and they hold values without their masks.
const RELATIONS: &str = "\
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltype, c.relrowsecurity,
           EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.rulename <> '_RETURN'),
           CASE WHEN c.relkind IN ('v', 'm') AND c.oid >= 16384 AND c.oid <> ALL ($KEPT) THEN pg_get_viewdef(c.oid) END,
           EXISTS (SELECT FROM unnest(c.reloptions) o WHERE o ~ '^check_option='), coalesce(x.indrelid, 0)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index x ON x.indexrelid = c.oid
    WHERE c.relpersistence <> 't' AND c.relkind <> 't'
      AND (c.relkind NOT IN ('i', 'I') OR (c.oid >= 16384 AND n.nspname <> 'pg_toast'))";

/// Columns with their types as SQL; in the order of relations, so that each one's columns come together. A default reads
/// no column, and is deparsed without a look at its relation: that takes no lock. A domain's is that of a column without its own.
const COLUMNS: &str = "\
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod),
           a.attcollation, a.attnotnull, a.attgenerated, a.attidentity,
           CASE WHEN a.atthasdef THEN pg_get_expr(d.adbin, CASE WHEN a.attgenerated <> '' THEN d.adrelid ELSE 0 END)
                WHEN t.typtype = 'd' AND a.attidentity = '' THEN pg_get_expr(t.typdefaultbin, 0) END
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON a.atthasdef AND d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't' AND c.relkind NOT IN ('i', 'I', 't')
      AND a.attrelid <> ALL ($KEPT)
    ORDER BY a.attrelid, a.attnum";

/// pg_depend has the columns that expressions and predicate read, but not their whole-row references: those are seen in
/// the text.
const INDEXES: &str = "\
    SELECT x.indrelid, x.indexrelid, i.relname, x.indisunique, x.indisprimary,
           x.indisvalid AND x.indisready AND x.indislive AND x.indimmediate AND NOT x.indisexclusion
             AND NOT EXISTS (SELECT FROM unnest(x.indclass::oid[]) k (class) JOIN pg_opclass o ON o.oid = k.class
                             WHERE NOT o.opcdefault AND o.opcnamespace <> 'pg_catalog'::regnamespace)
             AND NOT EXISTS (SELECT FROM unnest(x.indkey::int2[], x.indcollation::oid[]) k (att, coll)
                             JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.att
                             JOIN pg_collation l ON l.oid = a.attcollation
                             WHERE a.attcollation <> k.coll AND NOT l.collisdeterministic),
           x.indnkeyatts, x.indkey, pg_get_expr(x.indexprs, x.indrelid), pg_get_expr(x.indpred, x.indrelid),
           CASE WHEN x.indexprs IS NOT NULL OR x.indpred IS NOT NULL THEN
             (SELECT string_agg(DISTINCT d.refobjsubid::text, ' ') FROM pg_depend d
              WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid AND d.refobjsubid > 0)
           END
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE i.relpersistence <> 't' AND i.relnamespace <> 'pg_toast'::regnamespace AND x.indrelid <> ALL ($KEPT)";

const CONSTRAINTS: &str = "\
    SELECT k.conrelid, k.contype, k.conname, array_to_string(k.conkey, ' '),
           CASE WHEN k.contype = 'c' THEN pg_get_expr(k.conbin, k.conrelid) END,
           k.confrelid, array_to_string(k.confkey, ' '), k.confdeltype, k.confupdtype
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype IN ('c', 'f') AND c.relpersistence <> 't' AND k.conrelid <> ALL ($KEPT)";

const TRIGGERS: &str = "\
    SELECT t.tgrelid, t.tgname, t.tgfoid, t.tgtype FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relpersistence <> 't' ORDER BY t.tgrelid, t.tgname";

const INHERITANCE: &str = "\
    SELECT h.inhrelid, h.inhparent FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhparent
    WHERE c.relkind NOT IN ('i', 'I') AND c.relpersistence <> 't' ORDER BY h.inhrelid, h.inhseqno";

const VIEW_DEPENDENCIES: &str = "\
    SELECT DISTINCT w.ev_class, d.refobjid, d.refobjsubid
    FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
    WHERE c.relkind IN ('v', 'm') AND w.rulename = '_RETURN' AND w.ev_class >= 16384 AND d.refobjid <> w.ev_class
      AND c.relpersistence <> 't'
    ORDER BY 1, 2, 3";

/// An operator stands for its function; an aggregate, and a function whose body is stored as a tree, is made of others.
const VIEW_CALLS: &str = "\
    WITH called (view, function) AS MATERIALIZED (
      SELECT w.ev_class, CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END
      FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
      LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
      WHERE c.relkind IN ('v', 'm') AND w.rulename = '_RETURN' AND w.ev_class >= 16384 AND c.relpersistence <> 't')
    SELECT view, function FROM called WHERE function >= 16384
    UNION
    SELECT view, d.refobjid FROM called
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = function AND d.refclassid = 'pg_proc'::regclass
    WHERE d.refobjid >= 16384
    ORDER BY 1, 2";

const PARTITION_KEYS: &str = "\
    SELECT p.partrelid, p.partattrs, pg_get_expr(p.partexprs, p.partrelid)
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
    WHERE c.relpersistence <> 't' AND p.partrelid <> ALL ($KEPT)";

const SEQUENCE_OWNERS: &str = "\
    SELECT d.objid, d.refobjid, d.refobjsubid FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      AND d.refobjsubid > 0 AND c.relkind = 'S' AND c.relpersistence <> 't'";

/// Built-in functions that take `internal` can't be called from SQL and are left out. A CALL gives a procedure's OUT
/// arguments, too.
const FUNCTIONS: &str = "\
    SELECT p.oid, n.nspname, p.proname,
           CASE WHEN p.prokind = 'p' AND p.proallargtypes IS NOT NULL THEN array_to_string(p.proallargtypes, ' ')
                ELSE p.proargtypes::text END,
           p.pronargdefaults, p.provariadic, p.prorettype, p.proretset, p.prokind, p.provolatile, p.proleakproof,
           p.prosecdef, l.lanname,
           CASE WHEN p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql') THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
           END,
           CASE WHEN p.oid < 16384 THEN 's' WHEN l.lanname IN ('internal', 'c') OR p.prosqlbody IS NOT NULL THEN 'f'
                WHEN EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s ~ '^search_path=(?!\\s*\"?pg_temp).*,\\s*\"?pg_temp\"?\\s*(,|$)') THEN 'f'
                WHEN EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s ~ '^search_path=') THEN 'o'
                ELSE 's' END,
           p.oid >= 16384 AND EXISTS (
               SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid),
           array_to_string(p.proallargtypes, ' '), array_to_string(p.proargmodes, ''),
           array_to_string(p.proargnames, E'\\x1f')
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
    WHERE n.nspname !~ '^pg_(toast_)?temp_'
      AND NOT (p.oid < 16384 AND 2281 = ANY (p.proargtypes::oid[]))
    ORDER BY p.prorettype <> 'trigger'::regtype, p.oid";

const OPERATORS: &str = "\
    SELECT o.oid, n.nspname, o.oprname, o.oprleft, o.oprright, o.oprresult, o.oprcode::oid
    FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE o.oprcode <> 0 AND n.nspname !~ '^pg_(toast_)?temp_'";

const CASTS: &str = "\
    SELECT c.castsource, c.casttarget, c.castfunc, c.castcontext, c.castmethod,
           coalesce(p.pronamespace <> 'pg_catalog'::regnamespace, false)
    FROM pg_cast c LEFT JOIN pg_proc p ON p.oid = c.castfunc";

/// Functions that CHECKs of domains call, by themselves or by operators, and types that they cast to, whose own CHECKs
/// they run. What was there when the database was made is in no such list.
const TYPE_CHECKS: &str = "\
    SELECT k.contypid, CASE WHEN d.refclassid = 'pg_type'::regclass THEN d.refobjid ELSE 0 END,
           CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE coalesce(o.oprcode::oid, 0) END
    FROM pg_constraint k JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
    LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    WHERE k.contype = 'c' AND k.contypid <> 0
      AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)";

/// Says in one row whether anything changed that [`load`] reads: of each catalog how many rows there are and the sum of the
/// transactions that wrote them. A row that is replaced has a later writer, so with as many rows the sum grows.
const FINGERPRINT: &str = "\
    WITH hidden AS MATERIALIZED (SELECT oid FROM pg_class WHERE relpersistence = 't'),
         spaces AS MATERIALIZED (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_')
    SELECT concat_ws(' ',
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_namespace WHERE oid NOT IN (TABLE spaces)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_class WHERE relpersistence <> 't'),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_attribute
        WHERE attnum > 0 AND attrelid NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_attrdef WHERE adrelid NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_type WHERE typnamespace NOT IN (TABLE spaces)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_index WHERE indrelid NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_constraint
        WHERE conrelid NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_trigger WHERE tgrelid NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_rewrite WHERE ev_class NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_inherits WHERE inhrelid NOT IN (TABLE hidden)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_proc WHERE pronamespace NOT IN (TABLE spaces)),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_operator),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_cast),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_range),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_enum),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_collation),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_extension),
      (SELECT count(*) || ':' || coalesce(sum(xmin::text::int8), 0) FROM pg_depend
        WHERE deptype = 'e'
           OR (classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
               AND refobjsubid > 0 AND objid NOT IN (TABLE hidden))),
      (SELECT count(*) || ':' || coalesce(sum(hashtext(rolname || rolsuper::text)::int8), 0) FROM pg_roles
        WHERE rolname !~ '^postern_[0-9a-f]{12}_[0-9a-f]{12}_'))";

/// Which transactions can be seen. A replica's snapshots don't tell all that are under way, so there it is nothing.
const MOMENT: &str = "\
    SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text WHERE NOT pg_catalog.pg_is_in_recovery()";

/// What was committed as a connection asked for it. On another connection there may be another server.
#[derive(Debug)]
pub struct Moment(Option<String>);

impl Moment {
    /// Whether nothing was committed since another, certainly.
    pub fn is_known_as(&self, other: Option<&Self>) -> bool {
        self.0.is_some() && other.is_some_and(|other| other.0 == self.0)
    }
}

/// The moment that it is.
pub async fn moment(rows: &mut impl Rows) -> Result<Moment, LoadError> {
    let mut found = None;
    rows.rows(MOMENT, &mut |fields| {
        found = Some(Row::new("the moment", fields).text()?.to_owned());
        Ok(())
    })
    .await?;
    Ok(Moment(found))
}

/// A value that changes whenever something that [`load`] reads has changed.
pub async fn fingerprint(rows: &mut impl Rows) -> Result<String, LoadError> {
    let mut found = None;
    rows.rows(&BEGIN.join("; "), &mut |_| Ok(())).await?;
    rows.rows(FINGERPRINT, &mut |fields| {
        found = Some(Row::new("the fingerprint", fields).text()?.to_owned());
        Ok(())
    })
    .await?;
    rows.rows("COMMIT", &mut |_| Ok(())).await?;
    found.ok_or(LoadError::Answer("the fingerprint"))
}

/// A snapshot and the fingerprint that it was taken at. Its `version` is 0: the keeper counts.
pub async fn load(rows: &mut impl Rows) -> Result<(Catalog, String), LoadError> {
    read(rows, None).await.map(|(catalog, print, _)| (catalog, print))
}

/// The same, but a relation that a transaction has locked for a change is as it was `known`; then there is no fingerprint.
pub async fn load_again(rows: &mut impl Rows, known: &Catalog) -> Result<(Catalog, Option<String>), LoadError> {
    let (catalog, print, is_whole) = read(rows, Some(known)).await?;
    Ok((catalog, is_whole.then_some(print)))
}

/// Reads all steps; tells with the fingerprint whether nothing is as it was known.
async fn read(rows: &mut impl Rows, known: Option<&Catalog>) -> Result<(Catalog, String, bool), LoadError> {
    let mut loader = Loader::default();
    let told = rows
        .rows(ORIGIN, &mut |fields| {
            loader.catalog.origin = Row::new("the origin", fields).text()?.to_owned();
            Ok(())
        })
        .await;
    match told {
        // A hardened server may keep it to itself.
        Ok(()) | Err(LoadError::Server { .. }) => {}
        Err(error) => return Err(error),
    }
    rows.rows(&BEGIN.join("; "), &mut |_| Ok(())).await?;
    let mut print = String::new();
    rows.rows(VERSION, &mut |fields| {
        loader.catalog.server_version = Row::new("the version", fields).number()?;
        Ok(())
    })
    .await?;
    if loader.catalog.server_version < MIN_SERVER {
        return Err(LoadError::Version(loader.catalog.server_version));
    }
    rows.rows(FINGERPRINT, &mut |fields| {
        print = Row::new("the fingerprint", fields).text()?.to_owned();
        Ok(())
    })
    .await?;
    if let Some(known) = known {
        rows.rows(LOCKED, &mut |fields| loader.keep(known, &mut Row::new("locked relations", fields))).await?;
    }
    let kept: Vec<String> = loader.kept.keys().map(Oid::to_string).collect();
    let kept = format!("'{{{}}}'::oid[]", kept.join(","));
    let is_whole = loader.kept.is_empty();
    for (sql, about, step) in STEPS {
        rows.rows(&sql.replace("$KEPT", &kept), &mut |fields| step(&mut loader, &mut Row::new(about, fields))).await?;
        // Those of the last relation are followed by no other's.
        loader.close_columns();
    }
    rows.rows("COMMIT", &mut |_| Ok(())).await?;
    Ok((loader.finish(), print, is_whole))
}

type Step = fn(&mut Loader, &mut Row<'_>) -> Result<(), LoadError>;

/// In this order: members of extensions before what belongs to them, relations before what hangs on them.
const STEPS: &[(&str, &str, Step)] = &[
    (SCHEMAS, "schemas", Loader::schema),
    (EXTENSIONS, "extensions", Loader::extension),
    (EXTENSION_MEMBERS, "members of extensions", Loader::extension_member),
    (ROLES, "roles", Loader::role),
    (TYPES, "types", Loader::data_type),
    (ENUM_LABELS, "labels of enums", Loader::enum_label),
    (COLLATIONS, "collations", Loader::collation),
    (RELATIONS, "relations", Loader::relation),
    (COLUMNS, "columns", Loader::column),
    (INDEXES, "indexes", Loader::index),
    (CONSTRAINTS, "constraints", Loader::constraint),
    (TRIGGERS, "triggers", Loader::trigger),
    (INHERITANCE, "inheritance", Loader::inheritance),
    (VIEW_DEPENDENCIES, "dependencies of views", Loader::view_dependency),
    (VIEW_CALLS, "calls of views", Loader::view_call),
    (PARTITION_KEYS, "partition keys", Loader::partition_key),
    (SEQUENCE_OWNERS, "owners of sequences", Loader::sequence_owner),
    (FUNCTIONS, "functions", Loader::function),
    (OPERATORS, "operators", Loader::operator),
    (CASTS, "casts", Loader::cast),
    (TYPE_CHECKS, "checks of domains", Loader::type_check),
];

#[derive(Default)]
struct Loader {
    catalog: Catalog,
    names: Interner,
    relations: HashMap<Oid, Relation>,
    /// Those that stay as they were known.
    kept: HashMap<Oid, Arc<Relation>>,
    /// The relation whose columns are arriving.
    open: Oid,
    columns: Vec<Column>,
    function_extensions: HashMap<Oid, Name>,
    operator_extensions: HashMap<Oid, Name>,
    /// Types that the CHECKs of domains cast to, by domain.
    types_in_checks: Vec<(Oid, Oid)>,
    relation_extensions: HashMap<Oid, Name>,
    /// Bytes of bodies so far.
    bodies: usize,
}

/// Whether a schema is the system's.
pub fn is_system_schema(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "pg_toast")
}

impl Loader {
    /// One that was known by another name would stand beside another of that name.
    fn keep(&mut self, known: &Catalog, row: &mut Row<'_>) -> Result<(), LoadError> {
        let (oid, schema, name) = (row.number()?, row.text()?, row.text()?);
        if let Some(relation) = known.relations.get(&oid)
            && &*relation.schema == schema
            && &*relation.name == name
        {
            self.kept.insert(oid, Arc::clone(relation));
        }
        Ok(())
    }

    fn schema(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let oid = row.number()?;
        let name = self.names.name(row.text()?);
        self.catalog.schemas.insert(name, oid);
        Ok(())
    }

    fn extension(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let name = self.names.name(row.text()?);
        self.catalog.extensions.insert(name);
        Ok(())
    }

    fn extension_member(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let (function, operator) = (row.flag()?, row.flag()?);
        let members = match (function, operator) {
            (true, _) => &mut self.function_extensions,
            (_, true) => &mut self.operator_extensions,
            (false, false) => &mut self.relation_extensions,
        };
        members.insert(row.number()?, self.names.name(row.text()?));
        Ok(())
    }

    fn role(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let name = self.names.name(row.text()?);
        self.catalog.roles.insert(name, row.flag()?);
        Ok(())
    }

    fn data_type(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let found = Type {
            oid: row.number()?,
            schema: self.names.name(row.text()?),
            name: self.names.name(row.text()?),
            kind: row.code()?,
            category: row.code()?,
            element: row.number()?,
            array: row.number()?,
            base: row.number()?,
            relation: row.number()?,
            collation: row.number()?,
            preferred: row.flag()?,
            range_of: row.number()?,
            base_modifier: row.number()?,
            labels: Vec::new(),
            not_null: row.flag()?,
            has_checks: row.flag()?,
            default: self.names.optional(row.optional()?),
        };
        self.catalog.add_type(found);
        Ok(())
    }

    fn enum_label(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        if let Some(found) = self.catalog.types.get_mut(&row.number()?) {
            found.labels.push(self.names.name(row.text()?));
        }
        Ok(())
    }

    fn collation(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let oid = row.number()?;
        let schema = self.names.name(row.text()?);
        let name = self.names.name(row.text()?);
        let deterministic = row.flag()?;
        self.catalog.collations.entry(name).or_default().push(Collation { oid, schema, deterministic });
        Ok(())
    }

    fn relation(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let oid = row.number()?;
        let schema = self.names.name(row.text()?);
        let name = self.names.name(row.text()?);
        // A kind that is newer than this code stays unknown: closed.
        let Some(kind) = RelationKind::from_code(row.code()?) else { return Ok(()) };
        let row_type = row.number()?;
        let row_security = row.flag()?;
        let has_rules = row.flag()?;
        let definition = row.optional()?.map(Name::from);
        let check_option = row.flag()?;
        let owner: Oid = row.number()?;
        let relation = Relation {
            oid,
            system: is_system_schema(&schema),
            extension: self.relation_extensions.remove(&oid),
            schema,
            name,
            kind,
            temporary: false,
            columns: Vec::new(),
            row_type,
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            triggers: Vec::new(),
            has_rules,
            parents: Vec::new(),
            children: Vec::new(),
            definition,
            depends_on: Vec::new(),
            calls: Vec::new(),
            check_option,
            partition_key: Vec::new(),
            owned_by: (owner != 0).then_some((owner, 0)),
            row_security,
        };
        self.relations.insert(oid, relation);
        Ok(())
    }

    fn column(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let relation: Oid = row.number()?;
        if relation != self.open {
            self.close_columns();
            self.open = relation;
        }
        let column = column(&mut self.names, row)?;
        self.columns.push(column);
        Ok(())
    }

    fn close_columns(&mut self) {
        let open = std::mem::take(&mut self.open);
        if let Some(relation) = self.relations.get_mut(&open) {
            // Not `take`: the buffer is used again, and the list is as long as it must be.
            relation.columns = self.columns.drain(..).collect();
        }
        self.columns.clear();
    }

    fn index(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        relation.indexes.push(index(&mut self.names, &relation.columns, row)?);
        Ok(())
    }

    fn constraint(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        constraint(&mut self.names, relation, row)
    }

    fn trigger(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        relation.triggers.push(Trigger {
            name: self.names.name(row.text()?),
            function: row.number()?,
            kind: row.number()?,
        });
        Ok(())
    }

    fn inheritance(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let (child, parent) = (row.number()?, row.number()?);
        if let Some(relation) = self.relations.get_mut(&child) {
            relation.parents.push(parent);
        }
        if let Some(relation) = self.relations.get_mut(&parent) {
            relation.children.push(child);
        }
        Ok(())
    }

    fn view_dependency(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        view_dependency(relation, row)
    }

    fn view_call(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        relation.calls.push(row.number()?);
        Ok(())
    }

    fn partition_key(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        let columns: Vec<i16> = row.numbers()?;
        let expressions = row.optional()?.unwrap_or_default();
        let is_read = |column: &&Column| {
            columns.contains(&column.number)
                || may_hold_whole_row(expressions)
                || mentions_word(expressions, &column.name)
        };
        relation.partition_key = relation.columns.iter().filter(is_read).map(|column| column.number).collect();
        Ok(())
    }

    fn sequence_owner(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let Some(relation) = self.relations.get_mut(&row.number()?) else { return Ok(()) };
        relation.owned_by = Some((row.number()?, row.number()?));
        Ok(())
    }

    fn function(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let oid = row.number()?;
        let schema = self.names.name(row.text()?);
        let name = self.names.name(row.text()?);
        let arguments: Vec<Oid> = row.numbers()?;
        let function = Function {
            oid,
            schema,
            name,
            arguments: self.names.list(&arguments),
            defaults: row.number()?,
            variadic: row.number()?,
            result: row.number()?,
            set_returning: row.flag()?,
            kind: row.code()?,
            volatility: row.code()?,
            leakproof: row.flag()?,
            security_definer: row.flag()?,
            language: self.names.name(row.text()?),
            body: self.body(row.optional()?),
            lookup: match row.code()? {
                'f' => Lookup::Fixed,
                'o' => Lookup::Own,
                _ => Lookup::Session,
            },
            stored: row.flag()?,
            extension: self.function_extensions.remove(&oid),
            out_columns: self.out_columns(row)?,
        };
        self.catalog.add_function(function);
        Ok(())
    }

    fn body(&mut self, text: Option<&str>) -> Option<Name> {
        let text = text.filter(|text| text.len() <= MAX_BODY)?;
        self.bodies = self.bodies.saturating_add(text.len());
        (self.bodies <= MAX_BODIES).then(|| text.into())
    }

    fn out_columns(&mut self, row: &mut Row<'_>) -> Result<Box<[(Name, Oid)]>, LoadError> {
        let kinds: Vec<Oid> = row.numbers()?;
        let modes = row.optional()?.unwrap_or_default();
        let mut given = row.optional()?.unwrap_or_default().split('\u{1f}');
        let mut columns = Vec::new();
        for (kind, mode) in kinds.into_iter().zip(modes.chars()) {
            let name = given.next().unwrap_or_default();
            if matches!(mode, 'o' | 'b' | 't') {
                let unnamed;
                let name = if name.is_empty() {
                    unnamed = format!("column{}", columns.len().saturating_add(1));
                    &unnamed
                } else {
                    name
                };
                columns.push((self.names.name(name), kind));
            }
        }
        Ok(columns.into())
    }

    fn operator(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let oid: Oid = row.number()?;
        let operator = Operator {
            schema: self.names.name(row.text()?),
            name: self.names.name(row.text()?),
            left: row.number()?,
            right: row.number()?,
            result: row.number()?,
            function: row.number()?,
            extension: self.operator_extensions.remove(&oid),
        };
        self.catalog.add_operator(operator);
        Ok(())
    }

    fn cast(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let between = (row.number()?, row.number()?);
        let cast = Cast { function: row.number()?, context: row.code()?, method: row.code()? };
        if row.flag()? {
            self.catalog.user_casts.insert(between, cast.function);
        }
        self.catalog.casts.insert(between, cast);
        Ok(())
    }

    fn type_check(&mut self, row: &mut Row<'_>) -> Result<(), LoadError> {
        let (domain, kind, function) = (row.number()?, row.number()?, row.number()?);
        if kind != 0 {
            self.types_in_checks.push((domain, kind));
        }
        if function != 0 {
            self.catalog.type_checks.entry(domain).or_default().insert(function);
        }
        Ok(())
    }

    fn finish(mut self) -> Catalog {
        let mut catalog = self.catalog;
        inherit_domain_constraints(&mut catalog.types);
        read_all_as_server_does(
            catalog.types.values_mut().filter_map(|kind| kind.default.as_mut()),
            catalog.server_version,
        );
        for (_, mut relation) in self.relations.drain() {
            read_as_server_does(&mut relation, catalog.server_version);
            relation.indexes.sort_by(|a, b| a.name.cmp(&b.name));
            relation.checks.sort_by(|a, b| a.name.cmp(&b.name));
            relation.foreign_keys.sort_by(|a, b| a.name.cmp(&b.name));
            relation.children.sort_unstable();
            for list in [&mut relation.parents, &mut relation.children] {
                list.shrink_to_fit();
            }
            relation.indexes.shrink_to_fit();
            relation.checks.shrink_to_fit();
            relation.foreign_keys.shrink_to_fit();
            relation.triggers.shrink_to_fit();
            relation.depends_on.shrink_to_fit();
            relation.calls.shrink_to_fit();
            match self.kept.remove(&relation.oid) {
                Some(kept) => catalog.add_relation(Relation::clone(&kept)),
                None => catalog.add_relation(relation),
            }
        }
        spread_type_checks(&mut catalog, &self.types_in_checks);
        catalog.settle();
        catalog
    }
}

/// Who makes a value of a type runs the CHECKs of all that the type is made of, and of what those cast to.
fn spread_type_checks(catalog: &mut Catalog, types_in_checks: &[(Oid, Oid)]) {
    loop {
        let known = catalog.type_checks.clone();
        for (domain, functions) in &known {
            let cast_to_it = types_in_checks.iter().filter(|(_, kind)| kind == domain).map(|(domain, _)| *domain);
            for kind in catalog.types_made_of(*domain).into_iter().chain(cast_to_it) {
                catalog.type_checks.entry(kind).or_default().extend(functions);
            }
        }
        if catalog.type_checks == known {
            return;
        }
    }
}

/// What the server wrote in its own grammar is kept as the parser must read it.
fn read_as_server_does(relation: &mut Relation, server_version: u32) {
    let columns = relation.columns.iter_mut().flat_map(|column| [&mut column.default, &mut column.generated]);
    let indexes = relation.indexes.iter_mut().flat_map(|index| [&mut index.expressions, &mut index.predicate]);
    let texts = columns.chain(indexes).chain([&mut relation.definition]).flatten();
    let checks = relation.checks.iter_mut().map(|check| &mut check.expression);
    read_all_as_server_does(texts.chain(checks), server_version);
}

fn read_all_as_server_does<'a>(texts: impl Iterator<Item = &'a mut Name>, server_version: u32) {
    for text in texts {
        if let Ok(Cow::Owned(read)) = as_server_reads(text, server_version) {
            *text = read.into();
        }
    }
}

/// A domain over a domain has the other's constraints, too.
fn inherit_domain_constraints(types: &mut HashMap<Oid, Type>) {
    let domains: Vec<Oid> = types.values().filter(|found| found.base != 0).map(|found| found.oid).collect();
    for domain in domains {
        let (mut not_null, mut has_checks, mut next) = (false, false, domain);
        for _ in 0..types.len() {
            let Some(found) = types.get(&next).filter(|found| found.base != 0) else { break };
            not_null |= found.not_null;
            has_checks |= found.has_checks;
            next = found.base;
        }
        if let Some(found) = types.get_mut(&domain) {
            (found.not_null, found.has_checks) = (not_null, has_checks);
        }
    }
}

pub(super) fn column(names: &mut Interner, row: &mut Row<'_>) -> Result<Column, LoadError> {
    let number = row.number()?;
    let name = names.name(row.text()?);
    let type_oid = row.number()?;
    let type_modifier = row.number()?;
    let type_sql = names.name(row.text()?);
    let collation = row.number()?;
    let not_null = row.flag()?;
    let generation = row.letter()?;
    let identity = row.letter()?;
    let expression = names.optional(row.optional()?);
    let (default, generated) = if generation.is_some() { (None, expression) } else { (expression, None) };
    let is_virtual = generation == Some('v');
    Ok(Column {
        number,
        name,
        type_oid,
        type_modifier,
        type_sql,
        collation,
        not_null,
        default,
        generated,
        is_virtual,
        identity,
    })
}

pub(super) fn index(names: &mut Interner, columns: &[Column], row: &mut Row<'_>) -> Result<Index, LoadError> {
    let oid = row.number()?;
    let name = names.name(row.text()?);
    let (unique, primary, valid) = (row.flag()?, row.flag()?, row.flag()?);
    let keys: usize = row.number()?;
    let mut key: Vec<i16> = row.numbers()?;
    key.truncate(keys);
    key.shrink_to_fit();
    let expressions = row.optional()?.map(Name::from);
    let predicate = row.optional()?.map(Name::from);
    let mut reads: Vec<i16> = row.numbers()?;
    if [&expressions, &predicate].into_iter().flatten().any(|text| may_hold_whole_row(text)) {
        reads = columns.iter().map(|column| column.number).collect();
    }
    reads.sort_unstable();
    Ok(Index { name, oid, unique, primary, valid, columns: key, expressions, predicate, reads })
}

pub(super) fn constraint(names: &mut Interner, relation: &mut Relation, row: &mut Row<'_>) -> Result<(), LoadError> {
    let kind = row.code()?;
    let name = names.name(row.text()?);
    let mut columns: Vec<i16> = row.numbers()?;
    let expression = row.optional()?;
    let references = row.number()?;
    let referenced_columns = row.numbers()?;
    let (on_delete, on_update) = (row.letter()?, row.letter()?);
    if kind == 'c' {
        let Some(expression) = expression else { return Err(LoadError::Answer(row.about)) };
        // A whole row is column 0 here.
        if columns.contains(&0) || may_hold_whole_row(expression) {
            columns = relation.columns.iter().map(|column| column.number).collect();
        }
        relation.checks.push(Check { name, columns, expression: expression.into() });
    } else {
        relation.foreign_keys.push(ForeignKey {
            name,
            columns,
            references,
            referenced_columns,
            on_delete: on_delete.unwrap_or('a'),
            on_update: on_update.unwrap_or('a'),
        });
    }
    Ok(())
}

pub(super) fn view_dependency(relation: &mut Relation, row: &mut Row<'_>) -> Result<(), LoadError> {
    let (used, number): (Oid, i16) = (row.number()?, row.number()?);
    // A whole row leaves no trace in pg_depend beside columns of the same relation.
    if relation.definition.as_deref().is_none_or(may_hold_whole_row) && !relation.depends_on.contains(&(used, 0)) {
        relation.depends_on.push((used, 0));
    }
    if !relation.depends_on.contains(&(used, number)) {
        relation.depends_on.push((used, number));
    }
    Ok(())
}

/// Postgres writes a whole-row reference as `t.*`, always.
fn may_hold_whole_row(sql: &str) -> bool {
    sql.contains(".*")
}
