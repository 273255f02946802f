//! Postern inside of a cluster.

fn main() {}
