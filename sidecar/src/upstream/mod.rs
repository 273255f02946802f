//! The connection to the real Postgres.
