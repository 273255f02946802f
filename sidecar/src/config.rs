//! Flags and environment, parsed once into what the sidecar runs with.
