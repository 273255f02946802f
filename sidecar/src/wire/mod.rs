//! Frames and messages of the Postgres protocol; no I/O.
