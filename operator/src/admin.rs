//! Metrics and probes, over plain HTTP on a port of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::broker::Keys;
use crate::metrics::Metrics;
use crate::objects::Objects;

/// What a replica needs before it may be asked anything, each set as it becomes true.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Everything that there was at the start is known.
    pub objects: Arc<Objects>,
    /// There is an authority and a leaf for the broker.
    pub broker_bundle: watch::Receiver<Option<String>>,
    /// The broker can sign.
    pub keys: Arc<Keys>,
    /// The API server knows how to verify the webhooks.
    pub webhooks_told: watch::Receiver<bool>,
    /// The replica is about to end.
    pub ending: watch::Receiver<bool>,
}

impl Readiness {
    /// What is still missing.
    fn missing(&self) -> Vec<&'static str> {
        [
            (self.objects.is_synced(), "the first lists of policies, identities and pods"),
            (self.broker_bundle.borrow().is_some(), "the broker's certificate"),
            (self.keys.are_there(), "the keys of the broker's tokens"),
            (*self.webhooks_told.borrow(), "the webhooks' bundle in their configurations"),
            (!*self.ending.borrow(), "nothing: the replica is ending"),
        ]
        .into_iter()
        .filter_map(|(done, what)| (!done).then_some(what))
        .collect()
    }
}

/// The routes.
pub fn router(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(text).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waits for: {}\n", missing.join(", "))).into_response()
}

async fn text(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok((content_type, text)) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "failed to write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
