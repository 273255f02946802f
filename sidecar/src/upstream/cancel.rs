//! Cancelling the statement that runs on a connection, by a connection of its own.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{ConnectError, Peer, UpstreamConfig, reach};
use crate::wire::startup::Packet;

/// What it takes to cancel: the same address that the connection went to, its process id and its key. The key never
/// goes to a client.
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

struct Inner {
    config: Arc<UpstreamConfig>,
    peer: Peer,
    pid: u32,
    key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelToken").field("pid", &self.0.pid).finish_non_exhaustive()
    }
}

impl CancelToken {
    pub(super) fn new(config: Arc<UpstreamConfig>, peer: Peer, pid: u32, key: Vec<u8>) -> Self {
        Self(Arc::new(Inner { config, peer, pid, key: Zeroizing::new(key) }))
    }

    /// Asks the server to cancel, and waits until it has taken note: it closes the connection after it sent the
    /// signal. The statement may be over all the same, and the signal may arrive a moment later.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        let Inner { config, peer, pid, key } = &*self.0;
        if key.is_empty() {
            // A server that gave no key (a pooler may) can't be asked.
            return Err(ConnectError::Method);
        }
        let exchange = async {
            let mut stream = reach(config, peer).await?;
            let mut request = BytesMut::new();
            Packet::Cancel { pid: *pid, key }.write(&mut request)?;
            stream.write_all(&request).await.map_err(ConnectError::Closed)?;
            stream.flush().await.map_err(ConnectError::Closed)?;
            let mut ignored = [0_u8; 64];
            // An end without TLS's goodbye is an end too.
            while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
            Ok(())
        };
        timeout(config.timeout, exchange).await.unwrap_or(Err(ConnectError::Timeout))
    }
}
