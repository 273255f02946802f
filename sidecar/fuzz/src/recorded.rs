//! The masking corpus's database and policy as `make fuzz` recorded them, beside the seeds.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use postern_sidecar::catalog::load::{EachRow, LoadError, Rows};
use postern_sidecar::catalog::refresh::Connect;

use crate::check::decision::Decisions;

/// Rows by the query that asks for them.
type Answers = Arc<HashMap<String, Vec<Vec<Option<String>>>>>;

/// A server that answers the catalog's queries as another once did.
struct Recorded(Answers);

impl Rows for Recorded {
    async fn rows(&mut self, sql: &str, each: EachRow<'_>) -> Result<(), LoadError> {
        for row in self.0.get(sql).into_iter().flatten() {
            let fields: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            each(&fields)?;
        }
        Ok(())
    }
}

impl Connect for Recorded {
    type Rows = Self;

    async fn connect(&self) -> Result<Self, LoadError> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

/// Decisions over them.
pub fn decisions() -> Decisions {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/recorded"));
    let read = |name: &str| {
        fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}; `make fuzz` records it"))
    };
    let answers = serde_json::from_str(&read("catalog.json")).expect("a catalog");
    Decisions::new(Recorded(Arc::new(answers)), &read("policy.yaml"))
}
