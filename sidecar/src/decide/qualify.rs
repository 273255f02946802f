//! Row filters, qualified.

use pg_query::protobuf::Node;

use crate::catalog::{Catalog, Relation};

/// A filter in which every name is qualified.
pub(super) struct Qualified {
    /// Over `ROW`.
    pub(super) expression: Node,
    /// The columns of the row that it reads.
    pub(super) columns: Vec<String>,
}

/// Qualifies the condition of a row filter.
pub(super) fn filter(_catalog: &Catalog, _relation: &Relation, _where_sql: &str) -> Result<Qualified, String> {
    Err("it can't be qualified".to_owned())
}
