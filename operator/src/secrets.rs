//! Secrets of databases, each read by its name: it is got, and then watched alone, from the first time that somebody
//! asks for it until nobody has for a while. So a Role with the Secret's name in it and the verbs `get` and `watch` is
//! all that is needed, and a rotation is seen at once.
//!
//! **Promise.** What was read stays known while the API server can't be reached; it is forgotten as soon as the API
//! server says that it is gone, or that it may not be read any more. No value is in an error or in the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::api::WatchParams;
use kube::core::WatchEvent;
use kube::{Api, Client};
use tokio::sync::{broadcast, watch};
use zeroize::Zeroizing;

use crate::objects::Key;
use crate::timely::{ApiError, TIMEOUT, timely};

/// How long a Secret that nobody asks for is still watched.
const UNUSED: Duration = Duration::from_secs(300);
/// How often one that can't be read is asked for again.
const RETRY: Duration = Duration::from_secs(3);
/// How long one watch lasts; the Secret is got again after it.
const WATCH_SECONDS: u32 = 240;
/// How many changes a reader may lag behind before it has to look at everything again.
const CHANGES: usize = 256;

/// What a Secret holds.
#[derive(PartialEq, Eq)]
pub struct SecretData {
    /// Another one for other content; it says nothing of the content.
    pub version: String,
    /// The values by key.
    pub values: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretData").field("version", &self.version).finish_non_exhaustive()
    }
}

impl From<Secret> for SecretData {
    fn from(secret: Secret) -> Self {
        let uid = secret.metadata.uid.unwrap_or_default();
        let version = secret.metadata.resource_version.unwrap_or_default();
        let values = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, Zeroizing::new(value.0)));
        Self { version: format!("{uid}/{version}"), values: values.collect() }
    }
}

/// Why a Secret can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No Role lets the operator read it.
    #[error("the operator may not read it")]
    Forbidden,
    /// There is none.
    #[error("it is not there")]
    NotFound,
    /// The API server does not say.
    #[error("the API server can't be asked for it")]
    Unavailable,
}

impl From<&ApiError> for SecretError {
    fn from(error: &ApiError) -> Self {
        match error.code() {
            Some(401 | 403) => SecretError::Forbidden,
            Some(404) => SecretError::NotFound,
            _ => SecretError::Unavailable,
        }
    }
}

type Answer = Result<Arc<SecretData>, SecretError>;

/// A Secret that is watched.
struct Watched {
    /// None until it was asked for once.
    answer: watch::Receiver<Option<Answer>>,
    used: Instant,
}

/// The Secrets of the cluster. One for a process; clones of the [`Arc`] share it.
pub struct Secrets {
    client: Client,
    watched: Mutex<HashMap<Key, Watched>>,
    changes: broadcast::Sender<Key>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("watched", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Secrets {
    /// None is watched yet.
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client, watched: Mutex::default(), changes: broadcast::Sender::new(CHANGES) })
    }

    /// What a Secret holds. Watched from now on, so that the next answer needs no request.
    pub async fn get(self: &Arc<Self>, namespace: &str, name: &str) -> Answer {
        let mut answer = self.watched((namespace.to_owned(), name.to_owned()));
        // Longer than the request itself may take.
        let waited = tokio::time::timeout(TIMEOUT * 2, answer.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(known)) => known.clone().unwrap_or(Err(SecretError::Unavailable)),
            Ok(Err(_)) | Err(_) => Err(SecretError::Unavailable),
        }
    }

    /// Every change from now on of those that somebody asks for: of what they hold, or whether they can be read.
    pub fn changes(&self) -> broadcast::Receiver<Key> {
        self.changes.subscribe()
    }

    fn watched(self: &Arc<Self>, key: Key) -> watch::Receiver<Option<Answer>> {
        let now = Instant::now();
        let mut watched = self.lock();
        if let Some(known) = watched.get_mut(&key) {
            known.used = now;
            return known.answer.clone();
        }
        let (publish, answer) = watch::channel(None);
        watched.insert(key.clone(), Watched { answer: answer.clone(), used: now });
        drop(watched);
        let secrets = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = secrets.follow(&key, &publish) => {}
                () = secrets.until_unused(&key) => {}
            }
        });
        answer
    }

    /// Returns when nobody has asked for a while, and nobody gets the answer any more.
    async fn until_unused(&self, key: &Key) {
        loop {
            tokio::time::sleep(UNUSED / 10).await;
            let mut watched = self.lock();
            if watched.get(key).is_none_or(|known| known.used.elapsed() > UNUSED) {
                watched.remove(key);
                return;
            }
        }
    }

    /// Keeps the answer true.
    async fn follow(&self, key: &Key, publish: &watch::Sender<Option<Answer>>) {
        let (namespace, name) = key;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        loop {
            match timely(api.get(name)).await {
                Ok(secret) => {
                    let version = secret.metadata.resource_version.clone().unwrap_or_default();
                    self.tell(key, publish, Ok(Arc::new(secret.into())));
                    if !self.follow_from(&api, key, &version, publish).await {
                        tokio::time::sleep(RETRY).await;
                    }
                }
                Err(error) => {
                    self.tell(key, publish, Err(SecretError::from(&error)));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Watches from a version on; false if that can't be gone on with at once.
    async fn follow_from(
        &self,
        api: &Api<Secret>,
        key: &Key,
        version: &str,
        publish: &watch::Sender<Option<Answer>>,
    ) -> bool {
        let only = WatchParams::default().fields(&format!("metadata.name={}", key.1)).timeout(WATCH_SECONDS);
        let events = match timely(api.watch(&only, version)).await {
            Ok(events) => events,
            Err(error) => {
                let (namespace, name) = key;
                tracing::warn!(namespace, name, %error, "a secret can't be watched; it is read again and again");
                return false;
            }
        };
        pin_mut!(events);
        // A connection that died without a word would look as if nothing changed.
        let longest = Duration::from_secs(WATCH_SECONDS.into()) + TIMEOUT;
        let ended = tokio::time::timeout(longest, async {
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) => {
                        self.tell(key, publish, Ok(Arc::new(secret.into())));
                    }
                    Ok(WatchEvent::Deleted(_)) => self.tell(key, publish, Err(SecretError::NotFound)),
                    Ok(WatchEvent::Bookmark(_)) => {}
                    // Too old a version, most likely.
                    Ok(WatchEvent::Error(_)) => return true,
                    Err(_) => return false,
                }
            }
            true
        });
        ended.await.unwrap_or(true)
    }

    fn tell(&self, key: &Key, publish: &watch::Sender<Option<Answer>>, answer: Answer) {
        let changed = publish.send_if_modified(|known| {
            // What is known stays known while the API server is away.
            let stays = matches!((&*known, &answer), (Some(Ok(_)), Err(SecretError::Unavailable)));
            if stays || known.as_ref() == Some(&answer) {
                return false;
            }
            *known = Some(answer);
            true
        });
        if changed {
            // Nobody may be listening.
            _ = self.changes.send(key.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        // Nothing in a section of this lock leaves the table half changed.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
