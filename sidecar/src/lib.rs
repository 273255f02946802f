//! The sidecar of Postern: a proxy that gives each identity its own view of a Postgres database.

pub mod analyze;
pub mod catalog;
pub mod decide;
