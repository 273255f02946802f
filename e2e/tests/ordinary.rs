//! What ordinary programs send works under an ordinary policy, with masks, a hidden column and row filters: each answer
//! is that of a second database that holds only what the policy shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fmt::Write as _;

use postern_e2e::gate::{Gate, GateOptions};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{Format, Message, Wire};

const SCHEMA: &str = include_str!("../corpus/ordinary.schema.sql");
const STATEMENTS: &str = include_str!("../corpus/ordinary.sql");

const TYPICAL: &str = r#"
mode: Enforce
masks:
- {columns: [public.customers.card_number], mask: {partial: {keepLast: 4}}}
- {columns: ["*.*.email"], mask: {email: {}}}
rules:
- name: shop
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Truncate, CopyIn, CopyOut, Temp, Ddl, Lock, Notify]
  relations: ["public.*", "app.*"]
  channels: [news, "job_*"]
  hideColumns: [public.customers.ssn]
  rowFilters:
  - {relation: public.orders, where: "region = 'eu'"}
  - {relation: public.posts, where: "deleted_at IS NULL"}
bulkExport: {action: Allow}
"#;

/// What a program sees of the answer: all but where columns come from and where in the server's code an error was raised.
fn seen(messages: &[Message]) -> Vec<String> {
    let shown = |message: &Message| match message.tag {
        b'T' => format!("columns {:?}", message.column_names()),
        b'E' => format!("error {:?}", message.sqlstate()),
        b'A' => format!("notification {}", message.body[4..].escape_ascii()),
        _ => format!("{message:?}"),
    };
    messages.iter().filter(|message| message.tag != b'N').map(shown).collect()
}

fn differences(extended: bool) -> String {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let twin = server.database_with(SCHEMA).unwrap();
    for line in SCHEMA.lines().filter_map(|line| line.strip_prefix("-- twin: ")) {
        server.psql(&twin.name, line).unwrap();
    }
    let gate = Gate::start(&GateOptions::new(server, &database.name, ADMIN, TYPICAL)).unwrap();
    let mut through = Wire::connect(gate.port(), "anyone", "", &database.name).unwrap();
    let mut direct = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &twin.name).unwrap();
    let mut failures = String::new();
    let statements = STATEMENTS.lines().filter(|line| !line.is_empty() && !line.starts_with("--"));
    for sql in statements {
        let is_several = sql.trim_end_matches(';').contains("; ");
        let send = |wire: &mut Wire| match extended && !is_several {
            true => wire.extended(sql, Format::Text).unwrap(),
            false => wire.simple(sql).unwrap(),
        };
        let (expected, got) = (seen(&send(&mut direct)), seen(&send(&mut through)));
        if expected != got {
            writeln!(failures, "{sql}\n  expected {expected:#?}\n  got {got:#?}").unwrap();
        }
    }
    failures
}

#[test]
fn ordinary_statements_see_the_database_that_the_policy_shows() {
    let failures = differences(false);
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn prepared_ordinary_statements_see_the_database_that_the_policy_shows() {
    let failures = differences(true);
    assert!(failures.is_empty(), "{failures}");
}
