//! Patterns for relations and columns: dotted names, each part a literal or a glob with `*`.
//!
//! A part may be quoted as in SQL (`public."Order Items"`, `"a""b"`); a quoted part is literal, `*` in it included.
//! An unquoted part is matched as Postgres folds it: in lower case.

/// One part of a pattern: a literal name, or a glob in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// Exactly this name.
    Literal(String),
    /// The literal pieces between the stars; `["", ""]` is `*`.
    Glob(Vec<String>),
}

/// `schema.relation`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationPattern {
    /// The schema.
    pub schema: NamePattern,
    /// The relation.
    pub relation: NamePattern,
}

/// `schema.relation.column`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnPattern {
    /// The relation.
    pub relation: RelationPattern,
    /// The column.
    pub column: NamePattern,
}
