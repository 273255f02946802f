//! The chart on the API servers of the oldest and the newest Kubernetes: what it renders, what it installs,
//! and what its admission policies let pass. No operator runs here: what is refused is refused by the API server itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod admission;
mod cluster;
mod documents;
mod installed;
mod rendered;
