//! The keys that the broker signs access tokens with, in a Secret that all replicas share: any replica verifies what
//! another one signed.
//!
//! A new key is made each day; it signs once every replica has had time to read it, and the one before it stays until
//! no token by it can be good any more. Beside them stand the images that sidecars have run under this release: pods
//! outlive an upgrade of the operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

use super::now;
use crate::timely::{ApiError, timely};

/// Where the keys are in the Secret.
const KEYS: &str = "keys.json";
/// Where the images are.
const IMAGES: &str = "images";
/// Most images that are remembered; the oldest go first.
const MAX_IMAGES: usize = 64;
/// How old a key gets before another one follows it.
const ROTATE: u64 = 24 * 3600;
/// How old a key is before it signs, if there is an older one.
const KNOWN: u64 = 120;
/// How long a key stays after another one followed it; far longer than a token lives.
const RETIRE: u64 = 3600;
/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// And how often at most, where somebody shows a token by a key that isn't known.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);
/// How long to wait for that.
const PATIENCE: Duration = Duration::from_secs(3);
/// `iss` of what the broker signs.
const ISSUER: &str = "postern-broker";

/// Why there are no keys, or they don't sign.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API server.
    #[error("the API server")]
    Api(#[from] ApiError),
    /// What is in the Secret can't be read.
    #[error("{0} can't be read")]
    Unreadable(&'static str),
    /// A key can't be made.
    #[error("a key can't be made")]
    Unmade(#[from] rcgen::Error),
    /// A key can't be used.
    #[error("a key can't be used")]
    Unusable(#[from] jsonwebtoken::errors::Error),
    /// There is none yet.
    #[error("there is no key yet")]
    None,
}

/// A key as the Secret has it.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
struct Stored {
    /// Seconds of Unix time.
    created: u64,
    /// PKCS #8, in base64.
    pkcs8: String,
}

impl Stored {
    fn generate(now: u64) -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = Zeroizing::new(pair.serialize_der());
        Ok(Self { created: now, pkcs8: BASE64.encode(&der) })
    }
}

/// What the Secret holds.
#[derive(Clone, PartialEq, Eq, Default)]
struct Contents {
    /// From the oldest to the newest.
    keys: Vec<Stored>,
    /// Likewise.
    images: Vec<String>,
}

impl Contents {
    fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, KeyError> {
        let text = |name| data.get(name).map(|value| value.0.as_slice()).unwrap_or_default();
        let keys = match text(KEYS) {
            [] => Vec::new(),
            keys => serde_json::from_slice(keys).map_err(|_| KeyError::Unreadable(KEYS))?,
        };
        let images = std::str::from_utf8(text(IMAGES)).map_err(|_| KeyError::Unreadable(IMAGES))?;
        Ok(Self { keys, images: images.lines().map(str::to_owned).collect() })
    }

    fn data(&self) -> Result<BTreeMap<String, ByteString>, KeyError> {
        let keys = serde_json::to_vec(&self.keys).map_err(|_| KeyError::Unreadable(KEYS))?;
        let images = self.images.iter().map(|image| format!("{image}\n")).collect::<String>();
        Ok(BTreeMap::from([(KEYS.into(), ByteString(keys)), (IMAGES.into(), ByteString(images.into_bytes()))]))
    }

    /// What it should hold by now; the same if nothing is due.
    fn next(&self, image: &str, now: u64) -> Result<Self, KeyError> {
        let mut next = self.clone();
        if next.keys.last().is_none_or(|key| now.saturating_sub(key.created) >= ROTATE) {
            next.keys.push(Stored::generate(now)?);
        }
        // A key is of use until the one that follows it has been in use for long.
        let followed = next.keys.iter().skip(1).filter(|key| now.saturating_sub(key.created) > RETIRE).count();
        next.keys.drain(..followed);
        if !next.images.iter().any(|known| known == image) {
            next.images.push(image.to_owned());
            next.images.drain(..next.images.len().saturating_sub(MAX_IMAGES));
        }
        Ok(next)
    }
}

/// A key in use.
struct Key {
    id: String,
    created: u64,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Key {
    fn new(stored: &Stored) -> Result<Self, KeyError> {
        let der = BASE64.decode(&stored.pkcs8).map(Zeroizing::new);
        let signing = EncodingKey::from_ec_der(&der.map_err(|_| KeyError::Unreadable(KEYS))?);
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::ES256)?;
        let id = jwk.thumbprint(ThumbprintHash::SHA256)?;
        Ok(Self { id, created: stored.created, signing, verifying: DecodingKey::from_jwk(&jwk)? })
    }
}

/// The keys in use.
struct Ring {
    keys: Vec<Key>,
    images: Vec<String>,
}

impl Ring {
    fn new(contents: &Contents) -> Result<Self, KeyError> {
        let keys = contents.keys.iter().map(Key::new).collect::<Result<_, _>>()?;
        Ok(Self { keys, images: contents.images.clone() })
    }

    /// The newest that every replica knows; else the oldest, which is the only one most likely.
    fn signer(&self, now: u64) -> Option<&Key> {
        let known = self.keys.iter().rev().find(|key| now.saturating_sub(key.created) >= KNOWN);
        known.or(self.keys.first())
    }
}

/// The broker's keys. One for a process; clones of the [`Arc`] share it.
pub struct Keys {
    ring: ArcSwapOption<Ring>,
    wanted: Notify,
    looked: watch::Sender<u64>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { ring: ArcSwapOption::empty(), wanted: Notify::new(), looked: watch::Sender::new(0) })
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        self.ring.load().is_some()
    }

    /// The images that sidecars may run.
    pub(super) fn images(&self) -> Vec<String> {
        self.ring.load().as_ref().map(|ring| ring.images.clone()).unwrap_or_default()
    }

    /// Signs claims, which name their audience (`aud`) and expiry (`exp`) themselves.
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String, KeyError> {
        #[derive(Serialize)]
        struct Issued<'a, T> {
            iss: &'static str,
            #[serde(flatten)]
            claims: &'a T,
        }
        let ring = self.ring.load();
        let key = ring.as_ref().and_then(|ring| ring.signer(now())).ok_or(KeyError::None)?;
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, &Issued { iss: ISSUER, claims }, &key.signing)?)
    }

    /// The claims of what a replica signed for an audience, if it has not expired.
    pub async fn verify<T: DeserializeOwned>(&self, token: &str, audience: &str) -> Option<T> {
        let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
        if !self.knows(&kid) {
            // Another replica may have made it just now.
            let mut looked = self.looked.subscribe();
            self.wanted.notify_one();
            _ = tokio::time::timeout(PATIENCE, looked.changed()).await;
        }
        let ring = self.ring.load();
        let key = ring.as_ref()?.keys.iter().find(|key| key.id == kid)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = 0;
        jsonwebtoken::decode(token, &key.verifying, &validation).ok().map(|decoded| decoded.claims)
    }

    fn knows(&self, kid: &str) -> bool {
        self.ring.load().as_ref().is_some_and(|ring| ring.keys.iter().any(|key| key.id == kid))
    }

    /// Keeps them as the Secret has them, and makes new ones when it is time, for as long as it is polled.
    pub async fn keep(self: Arc<Self>, client: Client, namespace: String, secret: String, image: String) {
        let secrets: Api<Secret> = Api::namespaced(client, &namespace);
        let mut used = None;
        loop {
            match current(&secrets, &secret, &image).await {
                Ok(contents) if used.as_ref() == Some(&contents) => {}
                Ok(contents) => match Ring::new(&contents) {
                    Ok(ring) => {
                        self.ring.store(Some(Arc::new(ring)));
                        used = Some(contents);
                    }
                    Err(error) => tracing::error!(secret, error = chain(error), "the broker's keys can't be used"),
                },
                Err(error) => {
                    tracing::warn!(secret, error = chain(error), "the broker's keys can't be had; it is tried again");
                }
            }
            self.looked.send_modify(|looks| *looks += 1);
            tokio::time::sleep(LOOK_AT_MOST).await;
            tokio::select! {
                () = self.wanted.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

fn chain(error: KeyError) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// What the Secret holds; made if there is none, and changed when it is time.
async fn current(secrets: &Api<Secret>, name: &str, image: &str) -> Result<Contents, KeyError> {
    let found = timely(secrets.get_opt(name)).await?;
    let contents = match found.as_ref().and_then(|secret| secret.data.as_ref()) {
        Some(data) => Contents::read(data)?,
        None => Contents::default(),
    };
    let next = contents.next(image, now())?;
    if next == contents {
        return Ok(contents);
    }
    let data = Some(next.data()?);
    let written = match found {
        // With the version that was read: of two replicas that do this, one is refused.
        Some(secret) => timely(secrets.replace(name, &PostParams::default(), &Secret { data, ..secret })).await,
        None => {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data, type_: Some("Opaque".into()), ..Secret::default() };
            timely(secrets.create(&PostParams::default(), &secret)).await
        }
    };
    match written {
        Ok(_) => Ok(next),
        // Another replica was first: what it wrote holds.
        Err(error) if error.code() == Some(409) => {
            let secret = timely(secrets.get(name)).await?;
            Contents::read(secret.data.as_ref().unwrap_or(&BTreeMap::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// SHA-256 of a text, for tables that hold no tokens.
pub(super) fn digest(text: &str) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text).into()
}

/// An id by chance.
pub(super) fn random_id() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::{Value, json};

    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn a_key_follows_another_each_day_and_the_old_one_stays_for_an_hour() {
        let start = 1_000_000;
        let first = Contents::default().next("image", start).unwrap();
        assert_eq!(first.keys.len(), 1);
        assert!(first.next("image", start + DAY - 1).unwrap() == first, "nothing is due");
        let second = first.next("image", start + DAY).unwrap();
        assert_eq!(second.keys.len(), 2);
        assert!(second.next("image", start + DAY + RETIRE).unwrap() == second);
        let later = second.next("image", start + DAY + RETIRE + 1).unwrap();
        assert!(later.keys == second.keys[1..]);
    }

    #[test]
    fn a_key_signs_once_every_replica_knows_it() {
        let start = 1_000_000;
        let first = Contents::default().next("image", start).unwrap();
        let signer = |contents: &Contents, now| Ring::new(contents).unwrap().signer(now).unwrap().created;
        assert_eq!(signer(&first, start), start, "the only one");
        let second = first.next("image", start + DAY).unwrap();
        assert_eq!(signer(&second, start + DAY + KNOWN - 1), start);
        assert_eq!(signer(&second, start + DAY + KNOWN), start + DAY);
    }

    #[test]
    fn images_that_sidecars_ran_are_remembered_to_a_bound() {
        let mut contents = Contents::default();
        for at in 0..100 {
            contents = contents.next(&format!("image-{at}"), 1000).unwrap();
            assert!(Contents::read(&contents.data().unwrap()).unwrap() == contents);
        }
        assert_eq!((contents.images.len(), contents.images[0].as_str()), (MAX_IMAGES, "image-36"));
        assert!(contents.next("image-50", 1000).unwrap() == contents);
    }

    #[tokio::test]
    async fn what_one_replica_signs_another_verifies_for_its_audience_and_time_only() {
        let contents = Contents::default().next("image", now()).unwrap();
        let replica = || {
            let keys = Keys::new();
            keys.ring.store(Some(Arc::new(Ring::new(&contents).unwrap())));
            keys
        };
        let (one, other) = (replica(), replica());
        let token = one.sign(&json!({"aud": "here", "exp": now() + 60, "x": 1})).unwrap();
        assert_eq!(other.verify::<Value>(&token, "here").await.unwrap()["x"], 1);
        assert!(other.verify::<Value>(&token, "there").await.is_none());
        let expired = one.sign(&json!({"aud": "here", "exp": now() - 1})).unwrap();
        assert!(other.verify::<Value>(&expired, "here").await.is_none());
        let of_others = Keys::new();
        of_others.ring.store(Some(Arc::new(Ring::new(&Contents::default().next("i", now()).unwrap()).unwrap())));
        let foreign = of_others.sign(&json!({"aud": "here", "exp": now() + 60})).unwrap();
        assert!(other.verify::<Value>(&foreign, "here").await.is_none());
        assert!(other.verify::<Value>("a.b.c", "here").await.is_none());
    }
}
