//! The contract of Postern: the API types, their schema, and `compile`, which turns specs into a checked policy
//! without a database. Plain data and pure functions; nothing here does I/O.

pub mod api;
pub mod checked;
pub mod combine;
pub mod compile;
pub mod files;
pub mod filter;
pub mod issuers;
pub mod lease;
pub mod pattern;
pub mod schema;
pub mod strict;
pub mod units;
pub mod verb;

pub use checked::{
    BulkAction, BulkExport, CheckedFilter, CheckedIdentity, CheckedMask, CheckedPolicy, CheckedRule, Credentials,
    Database, EphemeralRole, Limits, MaskKind, Mode, OnPredicate, ParameterRecording, Recording, StatementRecording,
    TlsMode, To, Window,
};
pub use combine::ISOLATION_SETTING;
pub use compile::{CompileError, compile_identity, compile_policy};
pub use pattern::{ColumnPattern, NamePattern, PatternError, RelationPattern};
pub use verb::{Verb, VerbSet};
