//! Errors and notices of transactions that touched masked or filtered relations: what they quote of rows stays here.
//!
//! **Promise.** No text that the server made from a row passes: SQLSTATE and the names of schema, table, column, type
//! and constraint do, messages that are made anew from those names, and messages that are a constant of the server's.
//! **Also.** Errors of the server's parser about the client's text pass as they are.

use std::borrow::Cow;

use crate::analyze::{MASKED_WRITE_MARKER, ROW_FILTER_MARKER, Statement};
use crate::catalog::Relation;
use crate::catalog::names::quote_name;
use crate::decide::bound::BoundPolicy;
use crate::decide::{Denial, Reason};
use crate::wire::backend::Fields;

/// Whether it is about the text that the client sent, not about one that code of the database's made, of a row perhaps.
fn is_of_client(fields: &Fields) -> bool {
    [Fields::INTERNAL_QUERY, Fields::WHERE].iter().all(|code| fields.get(*code).is_none())
}

/// Source files of the server that only ever report what is written: no row has been read by then.
fn is_parser(file: &str) -> bool {
    file.starts_with("parse_")
        || matches!(
            file,
            "scan.l" | "scan.c" | "scansup.c" | "gram.y" | "gram.c" | "parser.c" | "analyze.c" | "namespace.c"
        )
}

/// Source files whose messages in these classes are fixed texts or hold names of the client's own.
fn is_fixed(file: &str, class: &str) -> bool {
    matches!(class, "25" | "26" | "34" | "3B" | "40" | "55" | "57" | "01" | "00")
        && matches!(
            file,
            "postgres.c"
                | "xact.c"
                | "proc.c"
                | "deadlock.c"
                | "lock.c"
                | "lmgr.c"
                | "predicate.c"
                | "portalcmds.c"
                | "portalmem.c"
                | "prepare.c"
                | "plancache.c"
                | "nodeModifyTable.c"
                | "nodeLockRows.c"
                | "heapam.c"
                | "heapam_handler.c"
                | "snapmgr.c"
                | "utility.c"
                | "sequence.c"
        )
}

const WITHHELD: &str = "The server's message is withheld: it may quote rows that are masked or filtered for you.";

/// Messages of the server's that are the same for every row. Where in its code an error was raised is told in any case, and
/// is the same as which of them it was.
const CONSTANT: [&str; 18] = [
    "FULL JOIN is only supported with merge-joinable or hash-joinable join conditions",
    "LIMIT must not be negative",
    "MERGE command cannot affect row a second time",
    "OFFSET must not be negative",
    "ON CONFLICT DO UPDATE command cannot affect row a second time",
    "a negative number raised to a non-integer power yields a complex result",
    "argument of nth_value must be greater than zero",
    "argument of ntile must be greater than zero",
    "cannot take logarithm of a negative number",
    "cannot take logarithm of zero",
    "cannot take square root of a negative number",
    "frame ending offset must not be negative",
    "frame starting offset must not be negative",
    "more than one row returned by a subquery used as an expression",
    "negative substring length not allowed",
    "sample percentage must be between 0 and 100",
    "there is no unique or exclusion constraint matching the ON CONFLICT specification",
    "zero raised to a negative power is undefined",
];

/// What the client reads in place of a message. Where it names a partition which tells a masked value by having
/// the row, nothing is told but the code.
pub(super) fn scrub(fields: &mut Fields, bound: &BoundPolicy) {
    scrub_beside(fields, bound, |text| bound.names_telling_partition(text));
}

fn scrub_beside(fields: &mut Fields, bound: &BoundPolicy, is_secret: impl Fn(&str) -> bool) {
    if fields.iter().any(|(_, text)| is_secret(text)) {
        let message = generic(fields.severity(), fields.code()).into_owned();
        fields.set(Fields::MESSAGE, message);
        fields.retain(|code| matches!(code, Fields::SEVERITY | Fields::SEVERITY_RAW | Fields::CODE | Fields::MESSAGE));
        fields.set(Fields::HINT, WITHHELD);
        return;
    }
    let file = fields.get(Fields::FILE).unwrap_or_default();
    let code = fields.code();
    let class = code.get(..2).unwrap_or_default();
    let raised = file.starts_with("pl_") || file.starts_with("pl") && !file.starts_with("planc");
    let is_parsers = matches!(class, "42" | "0A") && is_parser(file) && is_of_client(fields);
    if is_parsers || is_fixed(file, class) {
        fields.retain(|code| !matches!(code, Fields::DETAIL | Fields::WHERE | Fields::INTERNAL_QUERY));
        return;
    }
    let (rebuilt, detail) = match raised {
        true => (None, None),
        false => (rebuilt(fields).or_else(|| constant(fields)), key_detail(fields, bound)),
    };
    let withheld = rebuilt.is_none();
    let message = rebuilt.unwrap_or_else(|| generic(fields.severity(), code).into_owned());
    fields.set(Fields::MESSAGE, message);
    fields.retain(|code| match code {
        // Code in the database names what it likes in RAISE, a value too.
        Fields::SCHEMA | Fields::TABLE | Fields::COLUMN | Fields::DATA_TYPE | Fields::CONSTRAINT => !raised,
        Fields::SEVERITY
        | Fields::SEVERITY_RAW
        | Fields::CODE
        | Fields::MESSAGE
        | Fields::FILE
        | Fields::LINE
        | Fields::ROUTINE => true,
        _ => false,
    });
    if let Some(detail) = detail {
        fields.set(Fields::DETAIL, detail);
    }
    if withheld {
        fields.set(Fields::HINT, WITHHELD);
    }
}

/// The refusal that a rewritten write raises as it runs: a new row outside the filter, or a change of what a mask
/// protects. Of what the error quotes only the statement's own relations are repeated.
pub(super) fn marked(fields: &Fields, statement: Option<&Statement>) -> Option<Denial> {
    // It comes as a failed cast, which quotes the marker.
    if fields.code() != "22P02" {
        return None;
    }
    let said = fields.message();
    if said.contains(ROW_FILTER_MARKER) {
        let rule = statement.and_then(|statement| statement.row_filter_rule.as_deref());
        let message = match rule {
            Some(rule) => format!("new row violates the row filter of rule \"{rule}\""),
            None => "new row violates a row filter".to_owned(),
        };
        let denial =
            Denial::new(Reason::RowFilter, message).hint("Write only rows that this identity is allowed to see.");
        return Some(Denial { rule: rule.map(str::to_owned), ..denial });
    }
    if !said.contains(MASKED_WRITE_MARKER) {
        return None;
    }
    let is_meant = |name: &&str| said.contains(&format!("{MASKED_WRITE_MARKER}: {name}."));
    let relations = statement.into_iter().flat_map(|statement| &statement.relations);
    let relation = relations.map(|name| &**name).find(is_meant);
    let message =
        format!("this write would change or test what is masked for you in {}", relation.unwrap_or("a table"));
    let denial = Denial::new(Reason::MaskedWrite, message)
        .hint("Save a column with a `hash` mask, or one that shares a CHECK with a masked column, as it was read, or leave it out.");
    Some(Denial { object: relation.map(str::to_owned), ..denial })
}

fn rebuilt(fields: &Fields) -> Option<String> {
    let constraint = fields.get(Fields::CONSTRAINT);
    let table = fields.get(Fields::TABLE);
    let column = fields.get(Fields::COLUMN);
    Some(match fields.code() {
        "23505" => format!("duplicate key value violates unique constraint \"{}\"", constraint?),
        "23P01" => format!("conflicting key value violates exclusion constraint \"{}\"", constraint?),
        "23502" => {
            format!("null value in column \"{}\" of relation \"{}\" violates not-null constraint", column?, table?)
        }
        "23514" => match constraint {
            Some(constraint) => {
                format!("new row for relation \"{}\" violates check constraint \"{constraint}\"", table?)
            }
            None => return None,
        },
        "23503" => match referenced(fields) {
            Some(referenced) => format!(
                "update or delete on table \"{referenced}\" violates foreign key constraint \"{}\" on table \"{}\"",
                constraint?, table?
            ),
            None => {
                format!("insert or update on table \"{}\" violates foreign key constraint \"{}\"", table?, constraint?)
            }
        },
        "23001" => format!(
            "update or delete on table \"{}\" violates RESTRICT setting of foreign key constraint \"{}\" on table \"{}\"",
            referenced(fields)?,
            constraint?,
            table?
        ),
        // The rest is the client's own, of its CopyFail.
        "57014" if fields.get(Fields::FILE) == Some("copyfromparse.c") => {
            let message = fields.message();
            message.starts_with("COPY from stdin failed: ").then(|| message.to_owned())?
        }
        _ => return None,
    })
}

fn constant(fields: &Fields) -> Option<String> {
    CONSTANT.contains(&fields.message()).then(|| fields.message().to_owned())
}

/// The detail of a violated key without its values, `Key (email)=(***) already exists.`: programs read the columns from it. Only
/// what the catalog calls the key's columns, and what is constant, is taken from the server's.
fn key_detail(fields: &Fields, bound: &BoundPolicy) -> Option<String> {
    let said = fields.get(Fields::DETAIL)?.strip_prefix("Key (")?;
    let table = bound.catalog.relation(fields.get(Fields::SCHEMA)?, fields.get(Fields::TABLE)?)?;
    let constraint = fields.get(Fields::CONSTRAINT)?;
    let (of, columns, ends) = match fields.code() {
        "23505" => {
            let index = table.indexes.iter().find(|index| &*index.name == constraint)?;
            (table, &index.columns, vec![") already exists.".to_owned()])
        }
        "23503" | "23001" => {
            let key = table.foreign_keys.iter().find(|key| &*key.name == constraint)?;
            let referenced = bound.catalog.relations.get(&key.references)?;
            match said.ends_with(&format!(") is not present in table \"{}\".", referenced.name)) {
                true => (table, &key.columns, vec![format!(") is not present in table \"{}\".", referenced.name)]),
                false => {
                    let ends = ["is still referenced from", "is referenced from"];
                    let ends = ends.map(|end| format!(") {end} table \"{}\".", table.name));
                    (referenced, &key.referenced_columns, ends.to_vec())
                }
            }
        }
        _ => return None,
    };
    let end = ends.iter().find(|end| said.ends_with(end.as_str()))?;
    let names = key_columns(said, of, columns, bound)?;
    let values = vec!["***"; columns.len()].join(", ");
    Some(format!("Key ({names})=({values}{end}"))
}

/// The names of a key's columns, with quotes or without, that a text begins with; None for an expression and a column that is
/// hidden.
fn key_columns<'a>(said: &'a str, of: &Relation, columns: &[i16], bound: &BoundPolicy) -> Option<&'a str> {
    let mut rest = said;
    for (place, number) in columns.iter().enumerate() {
        let column = of.columns.iter().find(|column| column.number == *number)?;
        if bound.hidden(of.oid, *number) {
            return None;
        }
        rest = if place == 0 { rest } else { rest.strip_prefix(", ")? };
        rest = rest.strip_prefix(&*quote_name(&column.name)).or_else(|| rest.strip_prefix(&*column.name))?;
    }
    rest.strip_prefix(")=(")?;
    said.get(..said.len().checked_sub(rest.len())?)
}

/// The table whose row is still referenced: a name that no field has, in a message that the server makes of names only.
fn referenced(fields: &Fields) -> Option<&str> {
    let from_names = fields.get(Fields::FILE) == Some("ri_triggers.c");
    let rest = fields.message().strip_prefix("update or delete on table \"").filter(|_| from_names)?;
    rest.split_once("\" violates ").map(|(name, _)| name)
}

fn generic(severity: &str, code: &str) -> Cow<'static, str> {
    let what = match code {
        "22P02" => "invalid input syntax",
        "22003" => "value out of range",
        "22012" => "division by zero",
        "22001" => "value too long for its type",
        "22007" | "22008" => "invalid date or time",
        "22P03" => "invalid binary representation",
        "P0001" => "raised by a function or trigger",
        "40001" => "could not serialize access",
        "40P01" => "deadlock detected",
        "53200" => "out of memory",
        "55P03" => "lock not available",
        "57014" => "canceling statement",
        _ if matches!(severity, "ERROR" | "FATAL" | "PANIC") => "the statement failed",
        _ => "a message of the server",
    };
    what.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{ForeignKey, Index};
    use crate::decide::bound::{ColumnView, RelationView};
    use crate::decide::testing;

    fn scrubbed(fields: Fields) -> Fields {
        let mut fields = fields;
        scrub(&mut fields, &shop(false));
        fields
    }

    /// Customers with a unique email and an index of an expression, and orders that refer to them.
    fn shop(hide: bool) -> BoundPolicy {
        let mut catalog = testing::catalog();
        let columns = [("id", "integer"), ("email", "text"), ("Last", "text")];
        let mut customers = testing::table(&catalog, 1000, "public", "customers", &columns);
        let index = |name: &str, oid, columns: &[i16]| Index {
            name: name.into(),
            oid,
            unique: true,
            primary: false,
            valid: true,
            columns: columns.to_vec(),
            expressions: None,
            predicate: None,
            reads: Vec::new(),
        };
        customers.indexes.push(index("email_key", 1001, &[2]));
        customers.indexes.push(index("both_key", 1002, &[3, 2]));
        customers.indexes.push(index("lower_key", 1003, &[0]));
        catalog.add_relation(customers);
        let mut orders = testing::table(&catalog, 1010, "public", "orders", &[("customer", "integer")]);
        orders.foreign_keys.push(ForeignKey {
            name: "customer_fkey".into(),
            columns: vec![1],
            references: 1000,
            referenced_columns: vec![1],
            on_delete: 'a',
            on_update: 'a',
        });
        catalog.add_relation(orders);
        let mut bound = testing::unrestricted(catalog);
        if hide {
            let view = RelationView { columns: BTreeMap::from([(2, ColumnView::Hidden)]), ..RelationView::default() };
            bound.views.insert(1000, Arc::new(view));
        }
        bound
    }

    #[test]
    fn the_detail_of_a_violated_key_keeps_its_columns_and_nothing_else() {
        let detail = |code: &str, table: &str, constraint: &str, detail: &str, hide: bool| {
            let mut fields = Fields::new("ERROR", code, "RAW")
                .with(Fields::DETAIL, detail)
                .with(Fields::SCHEMA, "public")
                .with(Fields::TABLE, table)
                .with(Fields::CONSTRAINT, constraint)
                .with(Fields::FILE, "nbtinsert.c");
            scrub(&mut fields, &shop(hide));
            assert!(!all(&fields).contains("RAW"), "{}", all(&fields));
            fields.get(Fields::DETAIL).map(str::to_owned)
        };
        let told = |text: &str| Some(text.to_owned());
        let unique = |constraint: &str, text: &str| detail("23505", "customers", constraint, text, false);
        assert_eq!(unique("email_key", "Key (email)=(RAW) already exists."), told("Key (email)=(***) already exists."));
        assert_eq!(
            unique("both_key", "Key (\"Last\", email)=(RAW, RAW) already exists."),
            told("Key (\"Last\", email)=(***, ***) already exists.")
        );
        // Whatever is in the value is no part of what is told.
        assert_eq!(
            unique("email_key", "Key (email)=(RAW)=(a) already exists.) already exists."),
            told("Key (email)=(***) already exists.")
        );
        assert_eq!(unique("email_key", "Key (RAW)=(a) already exists."), None);
        assert_eq!(unique("email_key", "Key (email)=(a) RAW."), None);
        assert_eq!(unique("email_key", "RAW"), None);
        assert_eq!(unique("none", "Key (email)=(RAW) already exists."), None);
        assert_eq!(unique("lower_key", "Key (lower(email))=(RAW) already exists."), None);
        assert_eq!(detail("23505", "customers", "email_key", "Key (email)=(a) already exists.", true), None);
        let foreign = |text: &str| detail("23503", "orders", "customer_fkey", text, false);
        assert_eq!(
            foreign("Key (customer)=(RAW) is not present in table \"customers\"."),
            told("Key (customer)=(***) is not present in table \"customers\".")
        );
        assert_eq!(
            foreign("Key (id)=(RAW) is still referenced from table \"orders\"."),
            told("Key (id)=(***) is still referenced from table \"orders\".")
        );
        assert_eq!(foreign("Key (id)=(RAW) is still referenced from table \"RAW\"."), None);
    }

    #[test]
    fn messages_that_are_constants_of_the_server_pass() {
        let twice = CONSTANT[13];
        let fields = |file: &str| Fields::new("ERROR", "21000", twice).with(Fields::FILE, file);
        assert_eq!(scrubbed(fields("nodeSubplan.c")).message(), twice);
        assert_ne!(scrubbed(fields("pl_exec.c")).message(), twice);
        let longer = Fields::new("ERROR", "21000", format!("{twice} RAW")).with(Fields::FILE, "nodeSubplan.c");
        assert!(!all(&scrubbed(longer)).contains("RAW"));
        let window = "FOR UPDATE is not allowed with window functions";
        let parsed = Fields::new("ERROR", "0A000", window).with(Fields::FILE, "analyze.c");
        assert_eq!(scrubbed(parsed).message(), window);
    }

    fn all(fields: &Fields) -> String {
        fields.iter().map(|(code, text)| format!("{}={text}\n", char::from(code))).collect()
    }

    #[test]
    fn constraint_violations_keep_their_names_and_lose_their_values() {
        let unique =
            Fields::new("ERROR", "23505", "duplicate key value violates unique constraint \"customers_email_key\"")
                .with(Fields::DETAIL, "Key (email)=(RAW) already exists.")
                .with(Fields::TABLE, "customers")
                .with(Fields::CONSTRAINT, "customers_email_key")
                .with(Fields::FILE, "nbtinsert.c");
        let unique = scrubbed(unique);
        assert!(!all(&unique).contains("RAW"));
        assert_eq!(unique.message(), "duplicate key value violates unique constraint \"customers_email_key\"");
        assert_eq!(unique.get(Fields::CONSTRAINT), Some("customers_email_key"));

        let check = Fields::new("ERROR", "23514", "new row for relation \"t\" violates check constraint \"c\"")
            .with(Fields::DETAIL, "Failing row contains (1, RAW).")
            .with(Fields::TABLE, "t")
            .with(Fields::CONSTRAINT, "c")
            .with(Fields::FILE, "execMain.c");
        assert!(!all(&scrubbed(check)).contains("RAW"));
    }

    #[test]
    fn where_a_name_tells_a_value_only_the_code_is_left() {
        let is_secret = |text: &str| text == "RAW" || text.contains("\"RAW\"");
        let not_null = Fields::new("ERROR", "23502", "null value in column \"a\" of relation \"RAW\" violates it")
            .with(Fields::TABLE, "RAW")
            .with(Fields::COLUMN, "a")
            .with(Fields::FILE, "execMain.c");
        let locked = Fields::new("ERROR", "55P03", "could not obtain lock on row in relation \"RAW\"")
            .with(Fields::FILE, "heapam.c");
        for mut fields in [not_null, locked] {
            let code = fields.code().to_owned();
            scrub_beside(&mut fields, &shop(false), is_secret);
            assert!(!all(&fields).contains("RAW") && fields.code() == code, "{}", all(&fields));
        }
    }

    #[test]
    fn violated_foreign_keys_read_as_the_servers() {
        for (code, text) in [
            ("23503", "insert or update on table \"orders\" violates foreign key constraint \"k\""),
            (
                "23503",
                "update or delete on table \"customers\" violates foreign key constraint \"k\" on table \"orders\"",
            ),
            (
                "23001",
                "update or delete on table \"customers\" violates RESTRICT setting of foreign key constraint \"k\" on table \"orders\"",
            ),
        ] {
            let violated = Fields::new("ERROR", code, text)
                .with(Fields::DETAIL, "Key (email)=(RAW) is still referenced from table \"orders\".")
                .with(Fields::TABLE, "orders")
                .with(Fields::CONSTRAINT, "k");
            let scrubbed_text = scrubbed(violated.clone().with(Fields::FILE, "ri_triggers.c"));
            assert_eq!(scrubbed_text.message(), text);
            assert!(!all(&scrubbed_text).contains("RAW"));
        }
        let other = Fields::new("ERROR", "23503", "update or delete on table \"RAW\" violates it")
            .with(Fields::TABLE, "orders")
            .with(Fields::CONSTRAINT, "k")
            .with(Fields::FILE, "extension.c");
        assert!(!all(&scrubbed(other)).contains("RAW"));
    }

    #[test]
    fn a_client_that_ends_its_copy_reads_its_own_reason() {
        let ended = |message: &str| {
            Fields::new("ERROR", "57014", message)
                .with(Fields::WHERE, "COPY t, line 1: \"RAW\"")
                .with(Fields::FILE, "copyfromparse.c")
        };
        let own = scrubbed(ended("COPY from stdin failed: enough"));
        assert_eq!(own.message(), "COPY from stdin failed: enough");
        assert!(!all(&own).contains("RAW") && own.get(Fields::HINT).is_none());
        assert!(!all(&scrubbed(ended("RAW"))).contains("RAW"));
    }

    #[test]
    fn what_code_in_the_database_raises_says_nothing_but_its_code() {
        let raise = Fields::new("ERROR", "P0001", "no such card RAW")
            .with(Fields::COLUMN, "RAW")
            .with(Fields::HINT, "RAW")
            .with(Fields::WHERE, "PL/pgSQL function f(RAW)")
            .with(Fields::FILE, "pl_exec.c");
        let raise = scrubbed(raise);
        assert!(!all(&raise).contains("RAW"), "{}", all(&raise));
        assert_eq!(raise.code(), "P0001");
        // A raised error may carry any code.
        let raise = Fields::new("ERROR", "42703", "RAW").with(Fields::FILE, "pl_exec.c");
        assert!(!all(&scrubbed(raise)).contains("RAW"));
        let raise = Fields::new("NOTICE", "00000", "RAW").with(Fields::FILE, "pl_exec.c");
        assert!(!all(&scrubbed(raise)).contains("RAW"));
    }

    #[test]
    fn cast_errors_lose_the_value() {
        let cast = Fields::new("ERROR", "22P02", "invalid input syntax for type integer: \"RAW\"")
            .with(Fields::FILE, "numutils.c");
        assert!(!all(&scrubbed(cast)).contains("RAW"));
    }

    #[test]
    fn errors_of_the_parser_pass() {
        let unknown = Fields::new("ERROR", "42P01", "relation \"nope\" does not exist")
            .with(Fields::FILE, "parse_relation.c")
            .with(Fields::POSITION, "15");
        let unknown = scrubbed(unknown);
        assert_eq!(unknown.message(), "relation \"nope\" does not exist");
        let aborted = Fields::new("ERROR", "25P02", "current transaction is aborted, commands ignored until end")
            .with(Fields::FILE, "postgres.c");
        assert!(scrubbed(aborted).message().starts_with("current transaction"));
        let read_only = Fields::new("ERROR", "25006", "cannot execute INSERT in a read-only transaction")
            .with(Fields::FILE, "utility.c");
        assert!(scrubbed(read_only).message().starts_with("cannot execute INSERT"));
        let unset = Fields::new("ERROR", "55000", "currval of sequence \"s\" is not yet defined in this session")
            .with(Fields::FILE, "sequence.c");
        assert!(scrubbed(unset).message().starts_with("currval of sequence"));
    }

    #[test]
    fn errors_of_the_parser_about_text_that_code_made_do_not() {
        for code in [Fields::INTERNAL_QUERY, Fields::WHERE] {
            let made = Fields::new("ERROR", "42703", "column \"RAW\" does not exist")
                .with(Fields::FILE, "parse_relation.c")
                .with(code, "SELECT RAW");
            assert!(!all(&scrubbed(made)).contains("RAW"));
        }
    }

    #[test]
    fn what_a_write_raises_is_reported_with_its_rule_or_relation_and_nothing_else_of_it() {
        let raised = |text: String| Fields::new("ERROR", "22P02", format!("invalid input syntax: \"{text} 3\""));
        let statement = Statement {
            row_filter_rule: Some("eu-only".into()),
            relations: vec!["public.t".into()],
            ..Statement::default()
        };
        let told = marked(&raised(ROW_FILTER_MARKER.to_owned()), Some(&statement));
        assert!(told.is_some_and(|told| told.sqlstate == "42501" && told.message.contains("eu-only")));
        let told = marked(&raised(format!("{MASKED_WRITE_MARKER}: public.t.card")), Some(&statement));
        assert!(told.is_some_and(|told| told.sqlstate == "42501" && told.object.as_deref() == Some("public.t")));
        let told = marked(&raised(format!("{MASKED_WRITE_MARKER}: RAW.x")), Some(&statement));
        assert!(told.is_some_and(|told| !format!("{told:?}").contains("RAW")));
        assert!(marked(&Fields::new("ERROR", "22P02", "other"), None).is_none());
    }
}
