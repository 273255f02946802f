//! The peers' own tests, through the gate: PostgreSQL's regression suite and the suite of a driver (lib/pq).
//!
//! They are fetched from the registries and kept in the user's cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod drivers;
mod explained;
mod postgres;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// A policy's rules that allow everything that a policy can allow.
const EVERYTHING: &str = r#"
rules:
- name: everything
  to: {groups: [apps]}
  allow: [Select, Insert, Update, Delete, Truncate, CopyIn, CopyOut, Call, Temp, Ddl, Lock, Notify, Maintenance]
  relations: ["*.*"]
  functions: ["*.*"]
  channels: ["*"]
bulkExport: {action: Allow}
"#;

/// Where the suites are kept.
fn cache() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).context("no HOME")?;
    Ok(cache.join("postern/suites"))
}
