//! The peers' own tests, through the gate: PostgreSQL's regression suite and the suite of a driver (lib/pq).
//!
//! They are fetched from the registries and kept in the user's cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod drivers;
mod explained;
mod postgres;
