//! The contract of Postern: the API types, their schema, and `compile`, which turns specs into a checked policy
//! without a database. Plain data and pure functions; nothing here does I/O except [`files`], which only parses text.

pub mod checked;
pub mod pattern;
pub mod verb;

pub use checked::{
    BulkAction, BulkExport, CheckedFilter, CheckedIdentity, CheckedMask, CheckedPolicy, CheckedRule, Database, Limits,
    MaskKind, Mode, OnPredicate, ParameterRecording, Recording, StatementRecording, TlsMode, To, Window,
};
pub use pattern::{ColumnPattern, NamePattern, RelationPattern};
pub use verb::{Verb, VerbSet};
