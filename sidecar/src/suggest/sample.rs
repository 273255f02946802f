//! Looks at some values of each column. Only what they look like is kept, never a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_crds::pattern::literal;

use super::mask::{Sampled, by_values};
use crate::catalog::names::quote_identifier;
use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::upstream::{QueryError, Upstream};

/// How many rows of each relation are read.
const ROWS: usize = 200;
/// How many characters of each value.
const CHARACTERS: usize = 500;

/// What samples look like, by the column's pattern; and the relations that could not be read, with the reason.
#[derive(Debug, Default)]
pub struct Samples {
    /// By the column's pattern.
    pub columns: BTreeMap<String, Sampled>,
    /// Relations that could not be read.
    pub unread: Vec<String>,
}

/// Reads values of the relations of these patterns.
pub async fn sample(
    connection: &mut Upstream,
    catalog: &Arc<Catalog>,
    is_wanted: impl Fn(&Relation) -> bool,
) -> Result<Samples, QueryError> {
    let mut samples = Samples::default();
    let mut relations: Vec<&Arc<Relation>> =
        catalog.relations.values().filter(|relation| is_wanted(relation)).collect();
    relations.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
    for relation in relations {
        let columns: Vec<&Column> = relation.columns.iter().filter(|column| may_hold_text(column)).collect();
        let has_rows = !matches!(relation.kind, RelationKind::Sequence | RelationKind::Composite | RelationKind::Index);
        if columns.is_empty() || !has_rows {
            continue;
        }
        match connection.query(&query(relation, &columns)).await {
            Ok(rows) => {
                for (at, column) in columns.iter().enumerate() {
                    let values = rows.iter().filter_map(|row| row.get(at)?.as_deref());
                    let pattern = literal(&[&relation.schema, &relation.name, &column.name]);
                    samples.columns.insert(pattern, by_values(values));
                }
            }
            Err(QueryError::Server(fields)) => {
                samples.unread.push(format!("{}.{}: {}", relation.schema, relation.name, fields.message()));
                connection.query("ROLLBACK").await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(samples)
}

/// Flags and times tell nothing.
fn may_hold_text(column: &Column) -> bool {
    !["boolean", "date", "timestamp", "time", "interval"].iter().any(|word| column.type_sql.starts_with(word))
}

/// Each value cut, nothing written, and no longer than a look may take.
fn query(relation: &Relation, columns: &[&Column]) -> String {
    let value = |column: &&Column| {
        format!("pg_catalog.\"left\"(r.{}::pg_catalog.text, {CHARACTERS})", quote_identifier(&column.name))
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = '10s'; SELECT {} FROM {}.{} AS r LIMIT {ROWS}; COMMIT",
        values.join(", "),
        quote_identifier(&relation.schema),
        quote_identifier(&relation.name)
    )
}
