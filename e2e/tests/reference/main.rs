//! `docs/reference` is written from the types, the command lines, the metrics and the chart: `make generate`
//! (`POSTERN_BLESS=1`) writes it, and without that these tests hold that it is what would be written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod alerts;
mod commands;
mod fields;
mod markdown;
mod metrics;
mod values;
mod words;

use std::collections::BTreeSet;
use std::path::PathBuf;

use markdown::Page;
use postern_crds::api::{DatabaseAccessPolicySpec, IdentityStatus, NonHumanIdentitySpec, PolicyStatus};
use postern_crds::lease::ErrorCode;
use postern_operator::controllers;
use postern_operator::events::EventReason;
use postern_sidecar::decide;

fn folder() -> PathBuf {
    postern_e2e::workspace().join("docs/reference")
}

/// Every page but the first, which lists them: its file, its title, and what is on it.
fn pages() -> Vec<Page> {
    vec![
        fields::page::<DatabaseAccessPolicySpec, PolicyStatus>("policy.md", "databaseaccesspolicies.yaml"),
        fields::page::<NonHumanIdentitySpec, IdentityStatus>("identity.md", "nonhumanidentities.yaml"),
        words::page::<decide::Reason>(
            "denials.md",
            "Denials",
            "Why a statement was refused: the code stands in the error's DETAIL, in the audit's `reason` and in the metric \
             `postern_denials_total`. The error's own text and hint say more of the statement at hand.",
        ),
        words::page::<controllers::Reason>(
            "conditions.md",
            "Reasons of conditions",
            "The `reason` of the conditions of policies and identities (`kubectl describe dap,nhi`); their `message` says more of \
             the object at hand. What each condition is stands with the status of [policies](policy.md) and \
             [identities](identity.md).",
        ),
        words::page::<EventReason>(
            "events.md",
            "Events",
            "The `reason` of the Kubernetes Events on policies, identities and workloads (`kubectl get events`). There is at most \
             one a minute for an object and a reason, with how often it happened in its note; everything is in the audit.",
        ),
        words::page::<ErrorCode>(
            "broker.md",
            "Errors of the broker",
            "Why the broker gives a sidecar no lease: the code stands in the logs of both and in the operator's metrics. \
             `invalid_grant`, `unauthorized_client` and `invalid_target` end the sessions of who has a lease; all others are \
             troubles that may pass, and the lease is kept until its end.",
        ),
        metrics::page(),
        alerts::page(),
        commands::page(),
        values::page(),
    ]
}

fn index(pages: &[Page]) -> Page {
    let mut page = Page::new("README.md", "Reference", "What there is, written from the code that does it.");
    page.table(&["page", "has"], pages.iter().map(|other| vec![other.link(), other.has.clone()]));
    page
}

#[test]
fn the_reference_in_the_tree_is_what_the_code_says() {
    let mut pages = pages();
    pages.insert(0, index(&pages));
    if std::env::var_os("POSTERN_BLESS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for page in &pages {
            std::fs::write(folder().join(page.file), page.text()).unwrap();
        }
    }
    for page in &pages {
        let there = std::fs::read_to_string(folder().join(page.file)).unwrap_or_default();
        assert!(there == page.text(), "docs/reference/{} is stale: run `make generate`", page.file);
    }
    let known: BTreeSet<String> = pages.iter().map(|page| page.file.to_owned()).collect();
    let found: BTreeSet<String> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, known, "docs/reference holds what is generated and nothing else");
}
