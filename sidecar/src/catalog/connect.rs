//! The keeper's connection: one of the proxy's own to the policy's database, as the credential's own role.

use std::sync::Arc;

use super::load::{EachRow, LoadError, Rows};
use super::refresh::Connect;
use crate::upstream::{self, QueryError, Upstream, UpstreamConfig};
use crate::wire::startup::PROTOCOL_3_0;

/// Connects by the configuration that the function gives at that moment.
#[derive(Debug)]
pub struct ToServer<F>(pub F);

impl<F: Fn() -> Arc<UpstreamConfig> + Send + Sync + 'static> Connect for ToServer<F> {
    type Rows = Upstream;

    async fn connect(&self) -> Result<Upstream, LoadError> {
        let config = (self.0)();
        let parameters = [("application_name", "postern/catalog"), ("client_encoding", "UTF8")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let connected = upstream::connect(&config, &parameters, PROTOCOL_3_0).await;
        connected.map_err(|error| LoadError::Connection(error.into()))
    }
}

impl Rows for Upstream {
    async fn rows(&mut self, sql: &str, each: EachRow<'_>) -> Result<(), LoadError> {
        let mut failure = None;
        let answered = self
            .for_each_row(sql, |row| {
                if failure.is_none() {
                    failure = each(row).err();
                }
            })
            .await;
        match answered {
            Err(QueryError::Server(fields)) => {
                Err(LoadError::Server { sqlstate: fields.code().to_owned(), message: fields.message().to_owned() })
            }
            Err(error) => Err(LoadError::Connection(error.into())),
            Ok(()) => failure.map_or(Ok(()), Err),
        }
    }
}
