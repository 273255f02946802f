//! Postern inside of a cluster: what controllers, admission webhooks and the broker do.

pub mod injection;
pub mod objects;
