//! The command `check`: lints policies and explains statements.
