//! Decision and rewrite by tables that a reviewer can read, `corpus/rewrite/*/*.txt`: policy and statement give a decision
//! and the text that is sent. A real server says whether it takes that text. Each folder has a schema and a policy.
//!
//! `POSTERN_BLESS=1` writes what comes now into the tables, to be reviewed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod binding;

use std::fmt::Write as _;

use binding::{Client, policy};
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_e2e::wire::{self, Message, Wire};
use postern_sidecar::analyze::{Analysis, Decided, SessionView, analyze};
use postern_sidecar::decide::bind::bind;
use postern_sidecar::decide::bound::BoundPolicy;
use postern_sidecar::sql::{ParseLimits, measure};

const SEARCH_PATH: [&str; 3] = ["evil", "shop", "public"];

fn decide(bound: &BoundPolicy, text: &str) -> std::sync::Arc<Decided> {
    let path = SEARCH_PATH.map(str::to_owned);
    let session = SessionView { search_path: path.as_slice().into(), looked: true, ..SessionView::default() };
    match analyze(text, measure(text, &ParseLimits::default()).unwrap(), bound, &session, &[]) {
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
    if sent.to_ascii_uppercase().contains("FROM STDIN") {
        return shown.to_owned();
    }
    // Parameters have no values here: such a text is parsed and analysed only.
    let answer = if sent.contains('$') && !sent.starts_with("PREPARE") {
        server.send(&[wire::parse("", sent), wire::sync()].concat()).unwrap();
        server.until_ready().unwrap()
    } else {
        if !sent.starts_with("BEGIN") {
            server.simple("BEGIN").unwrap();
        }
        server.simple(sent).unwrap()
    };
    let code = answer.iter().find_map(Message::sqlstate);
    server.simple("ROLLBACK").unwrap();
    server.simple("DEALLOCATE ALL").unwrap();
    match code {
        // About the values, not about the text.
        Some(code) if !code.starts_with("22") && !code.starts_with("23") => format!("{shown}  -- {code}"),
        _ => shown.to_owned(),
    }
}

#[tokio::test]
async fn statements_are_decided_and_rewritten_as_the_tables_say() {
    let bless = std::env::var_os("POSTERN_BLESS").is_some();
    let (mut wrong, mut count) = (String::new(), 0);
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    for folder in std::fs::read_dir(postern_e2e::workspace().join("e2e/corpus/rewrite")).unwrap().flatten() {
        let folder = folder.path();
        let server = Server::shared().unwrap();
        let version = server.version().unwrap();
        let database = server.database_with(&read(folder.join("schema.sql"))).unwrap();
        let mut client = Client(server.client(ADMIN, &database.name).await.unwrap());
        let (policy, identity) = policy(server, &read(folder.join("policy.yaml")), "apps");
        let bound = bind(policy, identity, client.catalog().await, 1, None);
        assert_eq!(bound.problems, []);
        let mut session = Wire::connect(server.port(), ADMIN, ADMIN_PASSWORD, &database.name).unwrap();
        session.simple(&format!("SET search_path = {}", SEARCH_PATH.join(", "))).unwrap();
        let tables = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        for path in tables.filter(|path| path.extension() == Some("txt".as_ref())) {
            let table = read(path.clone());
            let mut blessed = String::new();
            let mut lines = table.lines().peekable();
            while let Some(line) = lines.next() {
                writeln!(blessed, "{line}").unwrap();
                let Some(text) = line.strip_prefix("> ") else { continue };
                let wanted =
                    lines.next_if(|line| !line.is_empty() && !line.starts_with(['>', '#'])).unwrap_or_default();
                let mut found = outcome(&decide(&bound, text), text, &mut session);
                // It came with 15.
                if version < 15 && text.starts_with("MERGE") {
                    found.truncate(found.trim_end_matches("  -- 42601").len());
                }
                writeln!(blessed, "{found}").unwrap();
                count += 1;
                if found != wanted {
                    writeln!(wrong, "{}\n  > {text}\n  wanted {wanted}\n  found  {found}", path.display()).unwrap();
                }
            }
            if bless {
                std::fs::write(path, blessed).unwrap();
            }
        }
    }
    assert!(count > 300);
    assert!(bless || wrong.is_empty(), "{wrong}");
}
