//! Which cancel key means which session.
//!
//! A client gets its server's process id (drivers compare it with that of notifications) and a key of the proxy's own:
//! the server's key never leaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time;
use rand::Rng;

use crate::upstream::CancelToken;
use crate::wire::startup::PROTOCOL_3_2;

/// Bytes of a key up to protocol 3.1, which has room for no more.
const SHORT_KEY: usize = 4;
/// Bytes of a key from 3.2 on; as Postgres 18 has it.
const LONG_KEY: usize = 32;

/// All sessions that can be cancelled.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<HashMap<u32, Vec<Entry>>>>);

/// One session. Process ids are unique only within one server.
#[derive(Debug)]
struct Entry {
    key: Vec<u8>,
    token: CancelToken,
}

/// A session's place in the registry, gone when dropped.
#[derive(Debug)]
pub struct Registration {
    registry: Registry,
    pid: u32,
    key: Vec<u8>,
}

impl Registry {
    /// Enters a session.
    pub fn enter(&self, pid: u32, version: u32, token: CancelToken) -> Registration {
        let mut random = rand::rng();
        // A pooler may tell no process id; then none can be compared with either.
        let pid = if pid == 0 { random.random_range(1..i32::MAX.cast_unsigned()) } else { pid };
        let mut key = vec![0; if version >= PROTOCOL_3_2 { LONG_KEY } else { SHORT_KEY }];
        random.fill(key.as_mut_slice());
        self.lock().entry(pid).or_default().push(Entry { key: key.clone(), token });
        Registration { registry: self.clone(), pid, key }
    }

    /// What cancels the session that has this process id and key.
    pub fn find(&self, pid: u32, key: &[u8]) -> Option<CancelToken> {
        let sessions = self.lock();
        let entry =
            sessions.get(&pid)?.iter().find(|entry| constant_time::verify_slices_are_equal(&entry.key, key).is_ok())?;
        Some(entry.token.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Vec<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// The process id that the client is told.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The key that the client is told.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sessions = self.registry.lock();
        if let Some(entries) = sessions.get_mut(&self.pid) {
            entries.retain(|entry| entry.key != self.key);
            if entries.is_empty() {
                sessions.remove(&self.pid);
            }
        }
    }
}
