//! A policy bound to the catalog of a real server, without a gate.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use postern_crds::files::{self, Object};
use postern_crds::{CheckedIdentity, CheckedPolicy};
use postern_e2e::gate;
use postern_e2e::postgres::Server;
use postern_sidecar::catalog::Catalog;
use postern_sidecar::catalog::load::{EachRow, LoadError, Rows, load};
use tokio_postgres::SimpleQueryMessage;

/// A connection that the catalog is loaded by.
pub(crate) struct Client(pub(crate) tokio_postgres::Client);

impl Rows for Client {
    async fn rows(&mut self, sql: &str, each: EachRow<'_>) -> Result<(), LoadError> {
        let messages = self.0.simple_query(sql).await.map_err(|error| LoadError::Connection(error.into()))?;
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let fields: Vec<Option<&str>> = (0..row.len()).map(|index| row.get(index)).collect();
                each(&fields)?;
            }
        }
        Ok(())
    }
}

impl Client {
    /// What is in the database.
    pub(crate) async fn catalog(&mut self) -> Arc<Catalog> {
        Arc::new(load(self).await.unwrap().0)
    }

    /// Runs statements that must succeed.
    pub(crate) async fn run(&self, sql: &str) {
        self.0.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    }
}

/// A spec's policy, and an identity of a group.
pub(crate) fn policy(server: &Server, spec: &str, group: &str) -> (Arc<CheckedPolicy>, Arc<CheckedIdentity>) {
    let text = format!("{}---\n{}", gate::policy(server, "shop", spec), gate::identity("reader", group, "postgres"));
    let (mut policy, mut identity) = (None, None);
    for object in files::read(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")) {
        match object {
            Object::Policy(manifest) => policy = Some(Arc::new(manifest.compile().unwrap())),
            Object::Identity(manifest) => identity = Some(Arc::new(manifest.compile().unwrap())),
        }
    }
    (policy.unwrap(), identity.unwrap())
}
