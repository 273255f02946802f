//! Every request to the API server ends in bounded time.

use std::future::Future;
use std::time::Duration;

/// How long a request may take; the API server's own requests to us have less.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the API server did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It refused, or could not be reached.
    #[error(transparent)]
    Kube(#[from] Box<kube::Error>),
    /// It did not answer.
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    Late,
}

impl ApiError {
    /// The status code of its refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            ApiError::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            ApiError::Late => None,
        }
    }
}

/// The answer to a request, or an error after [`TIMEOUT`].
pub async fn timely<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| ApiError::Kube(Box::new(error))),
        Err(_) => Err(ApiError::Late),
    }
}
