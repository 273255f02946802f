//! What fuzzing once found to reach further than the seeds is held to again, without a fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use postern_crds::TlsMode;
use postern_e2e::gate::GateOptions;
use postern_e2e::kept;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server};
use postern_sidecar::catalog::connect::ToServer;
use postern_sidecar::upstream::{Credential, Tls, UpstreamConfig};

#[path = "../../sidecar/fuzz/src/check/mod.rs"]
#[allow(unreachable_pub, reason = "it is public in a crate of its own")]
mod check;

#[test]
fn kept_bytes_are_read_as_the_fuzz_targets_say() {
    for (target, check) in [
        ("frontend", check::frontend::check as fn(&[u8])),
        ("startup", check::startup::check),
        ("backend", check::backend::check),
    ] {
        let inputs = kept::read(target).unwrap();
        assert!(inputs.len() > 50, "{target}: {}", inputs.len());
        inputs.iter().for_each(|input| check(input));
    }
}

#[test]
fn kept_texts_are_decided_as_the_fuzz_target_says() {
    let server = Server::shared().unwrap();
    server.psql("postgres", "CREATE ROLE app LOGIN").unwrap();
    let database = server.database_with(include_str!("../corpus/masking.schema.sql")).unwrap();
    let options = GateOptions::new(server, &database.name, "app", include_str!("../corpus/masking.policy.yaml"));
    let config = Arc::new(UpstreamConfig {
        host: server.socket_folder().display().to_string(),
        port: server.port(),
        database: database.name,
        credential: Credential::new(ADMIN, ADMIN_PASSWORD),
        tls: Tls::new(TlsMode::Disable, None).unwrap(),
        timeout: Duration::from_secs(5),
    });
    let documents = format!("{}---\n{}", options.policy, options.identities);
    let decisions = check::decision::Decisions::new(ToServer(move || config.clone()), &documents);
    let inputs = kept::read("decision").unwrap();
    assert!(inputs.len() > 200, "{}", inputs.len());
    for text in inputs.iter().filter_map(|input| std::str::from_utf8(input).ok()) {
        decisions.check(text);
    }
}
