//! The gate: decides a statement under the policy and catalog in force, from the cache where it can.
