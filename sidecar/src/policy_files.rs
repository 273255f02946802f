//! Policies, identities and secrets from files, and the watch over them.
