//! The audit: what is recorded of sessions and statements, and where it goes.
