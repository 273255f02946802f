//! Decision and rewrite by tables that a reviewer can read, `corpus/rewrite/*.txt`: policy and statement give a decision
//! and the text that is sent. A real server says whether it takes that text.
//!
//! `POSTERN_BLESS=1` writes what comes now into the tables, to be reviewed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod binding;

use std::fmt::Write as _;

use binding::{Client, policy};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{Message, Wire};
use postern_sidecar::analyze::{Analysis, Decided, SessionView, analyze};
use postern_sidecar::decide::bind::bind;
use postern_sidecar::decide::bound::BoundPolicy;
use postern_sidecar::sql::{ParseLimits, measure};

const SCHEMA: &str = include_str!("../corpus/rewrite/schema.sql");
const POLICY: &str = include_str!("../corpus/rewrite/policy.yaml");

fn decide(bound: &BoundPolicy, text: &str) -> std::sync::Arc<Decided> {
    let path = ["evil".to_owned(), "shop".to_owned()];
    let session = SessionView { search_path: path.as_slice().into(), looked: true, ..SessionView::default() };
    match analyze(text, measure(text, &ParseLimits::default()).unwrap(), bound, &session) {
        Analysis::Decided(decided) => decided,
        Analysis::Lookup(names) => panic!("{text}: {names:?}"),
    }
}

/// `!` with reason and message, or `=` or the text that is sent, with the server's error if it doesn't take it.
fn outcome(decided: &Decided, text: &str, server: &mut Wire) -> String {
    if let Some(denial) = &decided.denial {
        return format!("! {}: {}", denial.reason.as_str(), denial.message);
    }
    let sent = decided.rewritten.as_deref().unwrap_or(text);
    let shown = decided.rewritten.as_deref().unwrap_or("=");
    // It would wait for data.
    if sent.contains("FROM STDIN") {
        return shown.to_owned();
    }
    server.simple("BEGIN").unwrap();
    let code = server.simple(sent).unwrap().iter().find_map(Message::sqlstate);
    server.simple("ROLLBACK").unwrap();
    match code {
        // About the values, not about the text.
        Some(code) if !code.starts_with("22") && !code.starts_with("23") => format!("{shown}  -- {code}"),
        _ => shown.to_owned(),
    }
}

#[tokio::test]
async fn statements_are_decided_and_rewritten_as_the_tables_say() {
    let server = Server::shared().unwrap();
    let database = server.database_with(SCHEMA).unwrap();
    let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
    let (policy, identity) = policy(server, POLICY, "apps");
    let bound = bind(policy, identity, client.catalog().await, 1, None);
    assert_eq!(bound.problems, []);
    let mut wire = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
    wire.simple("SET search_path = evil, shop").unwrap();

    let bless = std::env::var_os("POSTERN_BLESS").is_some();
    let folder = postern_e2e::workspace().join("e2e/corpus/rewrite");
    let (mut wrong, mut count) = (String::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|it| it.path().extension() == Some("txt".as_ref()))
    {
        let table = std::fs::read_to_string(entry.path()).unwrap();
        let mut blessed = String::new();
        let mut lines = table.lines().peekable();
        while let Some(line) = lines.next() {
            writeln!(blessed, "{line}").unwrap();
            let Some(text) = line.strip_prefix("> ") else { continue };
            let wanted = lines.next_if(|line| !line.is_empty() && !line.starts_with(['>', '#'])).unwrap_or_default();
            let found = outcome(&decide(&bound, text), text, &mut wire);
            writeln!(blessed, "{found}").unwrap();
            count += 1;
            if found != wanted {
                writeln!(wrong, "{:?}\n  > {text}\n  wanted {wanted}\n  found  {found}", entry.file_name()).unwrap();
            }
        }
        if bless {
            std::fs::write(entry.path(), blessed).unwrap();
        }
    }
    assert!(count > 100);
    assert!(bless || wrong.is_empty(), "{wrong}");
}
