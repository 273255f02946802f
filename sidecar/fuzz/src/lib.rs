//! What the fuzz targets share.

pub mod check;
pub mod memory;
pub mod recorded;
