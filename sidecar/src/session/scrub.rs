//! Errors and notices of transactions that touched masked or filtered relations: what they quote of rows stays here.
//!
//! **Promise.** No text that the server made from a row passes: SQLSTATE and the names of schema, table, column, type
//! and constraint do, and messages that are made anew from those names.
//! **Also.** Errors of the server's parser pass as they are: they speak of the client's text only.

use std::borrow::Cow;

use crate::analyze::{MASKED_WRITE_MARKER, ROW_FILTER_MARKER, Statement};
use crate::decide::{Denial, Reason};
use crate::wire::backend::Fields;

/// Source files of the server that only ever report what the client wrote: no row has been read by then.
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

/// What the client reads in place of a message. Where a name is `secret`, as that of a partition which tells a masked value by having
/// the row, nothing is told but the code.
pub(super) fn scrub(fields: &mut Fields, is_secret: impl Fn(&str) -> bool) {
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
    if class == "42" && is_parser(file) || is_fixed(file, class) {
        fields.retain(|code| !matches!(code, Fields::DETAIL | Fields::WHERE | Fields::INTERNAL_QUERY));
        return;
    }
    let rebuilt = if raised { None } else { rebuilt(fields) };
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
    use super::*;

    fn scrubbed(fields: Fields) -> Fields {
        let mut fields = fields;
        scrub(&mut fields, |_| false);
        fields
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
            scrub(&mut fields, is_secret);
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
