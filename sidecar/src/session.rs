//! A session: one client connection, from its start-up to its end. Read this first.
pub mod handshake;
