//! The sidecar of Postern: a proxy that gives each identity its own view of a Postgres database.

pub mod admin;
pub mod analyze;
pub mod audit;
pub mod catalog;
pub mod check;
mod client_env;
pub mod config;
pub mod decide;
pub mod gate;
pub mod lease;
pub mod listen;
pub mod metrics;
pub mod policy_files;
pub mod serve;
pub mod session;
pub mod sql;
pub mod stream;
pub mod suggest;
pub mod upstream;
pub mod wire;
