//! The issuers outside of the cluster whose tokens are taken, and their keys.
//!
//! **Promise.** Nothing is asked of an issuer that whoever installed the operator did not list; and of one that is listed
//! seldom, whatever tokens come in. **Also.** Keys that are known stay good for a while where the issuer is away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use super::fetch::{FetchError, Fetcher, RootsError};

/// How old keys may get before they are asked for again.
const AGE: Duration = Duration::from_secs(600);
/// How often they are asked for at most, where a token is signed by one that isn't known, or the issuer is away.
const AT_MOST: Duration = Duration::from_secs(10);
/// How long keys are believed while the issuer is away.
const LAST: Duration = Duration::from_secs(3600);
/// Most issuers.
const MAX_ISSUERS: usize = 64;

/// Why the list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuersError {
    /// It is no list of issuers.
    #[error("it is no list of {{\"url\", \"ca\", \"allowPrivateAddresses\"}}: {0}")]
    Json(#[from] serde_json::Error),
    /// It is too long.
    #[error("it has more than {MAX_ISSUERS} issuers")]
    TooMany,
    /// An issuer's URL is none.
    #[error("'{0}' is no URL that begins with https://, without user, query and fragment")]
    Url(String),
    /// An issuer is on it twice.
    #[error("'{0}' is listed twice")]
    Twice(String),
    /// It can't be verified.
    #[error("'{0}' can't be verified: {1}")]
    Roots(String, #[source] RootsError),
}

/// An issuer as it is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Listed {
    url: String,
    #[serde(default)]
    ca: Option<String>,
    #[serde(default)]
    allow_private_addresses: bool,
}

/// The list.
#[derive(Debug, Default)]
pub struct Issuers(BTreeMap<String, Issuer>);

/// One of them.
#[derive(Debug)]
pub(super) struct Issuer {
    url: String,
    fetcher: Fetcher,
    /// Its keys, and when they were asked for.
    known: Mutex<Option<(Arc<JwkSet>, Instant)>>,
    /// When it was asked last; held while it is asked.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// The issuer's keys can't be had right now, or what was had is too old.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Away;

impl Issuers {
    /// As the chart gives it: a JSON array.
    pub fn read(text: &str) -> Result<Self, IssuersError> {
        let listed: Vec<Listed> = serde_json::from_str(text)?;
        if listed.len() > MAX_ISSUERS {
            return Err(IssuersError::TooMany);
        }
        let mut issuers = BTreeMap::new();
        for Listed { url, ca, allow_private_addresses } in listed {
            let rest = url.strip_prefix("https://").unwrap_or_default();
            if rest.is_empty() || rest.starts_with('/') || rest.contains(['?', '#', '@', '\\', ' ']) {
                return Err(IssuersError::Url(url));
            }
            let ca = ca.as_deref().filter(|pem| !pem.trim().is_empty());
            let fetcher =
                Fetcher::new(ca, allow_private_addresses).map_err(|error| IssuersError::Roots(url.clone(), error))?;
            let issuer = Issuer { url: url.clone(), fetcher, known: Mutex::default(), asked: Default::default() };
            if issuers.insert(url.clone(), issuer).is_some() {
                return Err(IssuersError::Twice(url));
            }
        }
        Ok(Self(issuers))
    }

    /// An issuer, if it is listed; compared exactly.
    pub(super) fn get(&self, url: &str) -> Option<&Issuer> {
        self.0.get(url)
    }
}

impl Issuer {
    /// Its keys, as they were not long ago.
    pub(super) async fn keys(&self) -> Result<Arc<JwkSet>, Away> {
        if let Some(keys) = self.known(AGE) {
            return Ok(keys);
        }
        // Whose key is known does not wait for an issuer that is slow.
        match (self.asked.try_lock(), self.known(LAST)) {
            (Err(_), Some(keys)) => Ok(keys),
            (asked, _) => {
                let mut asked = match asked {
                    Ok(asked) => asked,
                    Err(_) => self.asked.lock().await,
                };
                if self.known(AGE).is_none() {
                    self.ask(&mut asked).await;
                }
                self.known(LAST).ok_or(Away)
            }
        }
    }

    /// Its keys as they are from now on, for a token that is signed by none that is known: only by these it can be said
    /// that it is nobody's.
    pub(super) async fn newer_keys(&self) -> Result<Arc<JwkSet>, Away> {
        let arrived = Instant::now();
        let mut asked = self.asked.lock().await;
        if self.asked_for_since(Some(arrived)).is_none() {
            self.ask(&mut asked).await;
        }
        self.asked_for_since(Some(arrived)).ok_or(Away)
    }

    /// Asks for its keys, unless that was just done.
    async fn ask(&self, asked: &mut Option<Instant>) {
        if asked.is_some_and(|at| at.elapsed() < AT_MOST) {
            return;
        }
        let now = Instant::now();
        *asked = Some(now);
        match self.published().await {
            Ok(keys) => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                *known = Some((Arc::new(keys), now));
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(issuer = self.url, %error, "the keys of an issuer can't be had");
            }
        }
    }

    /// Its keys, if they are known and no older than this.
    fn known(&self, age: Duration) -> Option<Arc<JwkSet>> {
        // A machine that runs for a shorter time has no older ones.
        self.asked_for_since(Instant::now().checked_sub(age))
    }

    fn asked_for_since(&self, earliest: Option<Instant>) -> Option<Arc<JwkSet>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|(_, at)| earliest.is_none_or(|earliest| *at >= earliest))
            .map(|(keys, _)| Arc::clone(keys))
    }

    async fn published(&self) -> Result<JwkSet, PublishedError> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
            jwks_uri: String,
        }
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<Value>,
        }
        let url = format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        let Configuration { issuer, jwks_uri } = self.fetcher.get(&url).await.map_err(PublishedError::Configuration)?;
        if issuer != self.url {
            return Err(PublishedError::AnotherIssuer);
        }
        let Keys { keys } = self.fetcher.get(&jwks_uri).await.map_err(PublishedError::Keys)?;
        // Of a kind that isn't known here there may be some, and others beside.
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Ok(JwkSet { keys: keys.filter(|key| key.common.public_key_use != Some(PublicKeyUse::Encryption)).collect() })
    }
}

#[derive(Debug, thiserror::Error)]
enum PublishedError {
    #[error("its configuration")]
    Configuration(#[source] FetchError),
    #[error("its configuration says that it is another issuer")]
    AnotherIssuer,
    #[error("what its configuration names as jwks_uri")]
    Keys(#[source] FetchError),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::super::fetch::tests::{ok, server};
    use super::*;

    #[test]
    fn a_list_names_each_issuer_once_and_as_a_url() {
        let pem = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem();
        let read = |list: Value| Issuers::read(&list.to_string());
        let good = read(serde_json::json!([
            {"url": "https://idp.acme.example", "ca": pem, "allowPrivateAddresses": true},
            {"url": "https://idp.acme.example/", "ca": pem},
        ]));
        let good = good.unwrap();
        assert!(good.get("https://idp.acme.example").is_some_and(|it| it.url == "https://idp.acme.example"));
        assert!(good.get("https://idp.acme.example/").is_some() && good.get("https://IDP.acme.example").is_none());
        assert!(Issuers::read("[]").unwrap().0.is_empty());
        for (list, word) in [
            (serde_json::json!([{"url": "http://idp", "ca": pem}]), "https"),
            (serde_json::json!([{"url": "https://u@idp", "ca": pem}]), "https"),
            (serde_json::json!([{"url": "https://idp?x", "ca": pem}]), "https"),
            (serde_json::json!([{"url": "https://idp", "ca": "x"}]), "verified"),
            (serde_json::json!([{"url": "https://idp", "ca": pem}, {"url": "https://idp", "ca": pem}]), "twice"),
            (serde_json::json!([{"url": "https://idp", "allowPrivate": true}]), "allowPrivate"),
            (Value::from(vec![serde_json::json!({"url": "https://idp", "ca": pem}); 65]), "64"),
            (serde_json::json!({"url": "https://idp"}), "no list"),
        ] {
            let error = read(list.clone()).unwrap_err().to_string();
            assert!(error.contains(word), "{list}: {error}");
        }
    }

    const KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"one","x":"UEBdPUoBNv_6MZZ5EJah6sMYh_kTWClizRdpZrCF1R4","y":"twkaDCiUGUq0DepmLyvylp3qhV_kcciZ9_Qb1zXPe4A"}"#;

    /// Issuers by paths of one server.
    fn answer(path: &str, own: &str) -> String {
        let configuration = |issuer: &str, keys: &str| {
            ok(&serde_json::json!({"issuer": issuer, "jwks_uri": keys, "authorization_endpoint": own}).to_string())
        };
        match path.strip_suffix("/.well-known/openid-configuration") {
            Some("/good") => configuration(&format!("{own}/good"), &format!("{own}/keys")),
            Some("/other") => configuration(&format!("{own}/good"), &format!("{own}/keys")),
            Some("/slash") => configuration(&format!("{own}/slash"), &format!("{own}/keys")),
            Some("/clear") => configuration(&format!("{own}/clear"), &format!("{own}/keys").replace("https", "http")),
            Some("/inside") => configuration(&format!("{own}/inside"), "https://user@localhost/keys"),
            _ if path == "/keys" => {
                let foreign = r#"{"kty":"of the future","kid":"two"}"#;
                let sealing = KEY.replace("one", "three").replace("\"kty\"", "\"use\":\"enc\",\"kty\"");
                ok(&format!(r#"{{"keys":[{foreign},{sealing},{KEY}]}}"#))
            }
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        }
    }

    #[tokio::test]
    async fn keys_are_those_that_the_issuer_itself_names_over_https_and_that_sign() {
        let (pem, url) = server(answer).await;
        let listed =
            |path: &str| serde_json::json!({"url": format!("{url}{path}"), "ca": pem, "allowPrivateAddresses": true});
        let paths = ["/good", "/other", "/slash/", "/clear", "/inside", "/none"];
        let issuers = Issuers::read(&Value::from_iter(paths.map(listed)).to_string()).unwrap();
        let kids = async |path: &str| {
            let keys = issuers.get(&format!("{url}{path}")).unwrap().keys().await?;
            Ok(keys.keys.iter().filter_map(|key| key.common.key_id.clone()).collect::<Vec<_>>())
        };
        // Of a kind that is not known there may be some beside, by which nothing is good.
        assert_eq!(kids("/good").await, Ok(vec!["two".to_owned(), "one".to_owned()]));
        for path in ["/other", "/slash/", "/clear", "/inside", "/none"] {
            assert_eq!(kids(path).await, Err(Away), "{path}");
        }
        // Inside is only who is listed so.
        let public = serde_json::json!([{"url": format!("{url}/good"), "ca": pem}]);
        let public = Issuers::read(&public.to_string()).unwrap();
        assert_eq!(public.get(&format!("{url}/good")).unwrap().keys().await.err(), Some(Away));
    }

    #[tokio::test]
    async fn an_issuer_is_asked_seldom_and_nothing_is_said_of_a_key_by_an_answer_of_before() {
        let (pem, url) = server(answer).await;
        let listed = serde_json::json!([{"url": format!("{url}/good"), "ca": pem, "allowPrivateAddresses": true}]);
        let issuers = Issuers::read(&listed.to_string()).unwrap();
        let issuer = issuers.get(&format!("{url}/good")).unwrap();
        let first = issuer.newer_keys().await.unwrap();
        // A token came after these were asked for, and it is too early to ask again.
        assert_eq!(issuer.newer_keys().await.err(), Some(Away));
        assert!(Arc::ptr_eq(&issuer.keys().await.unwrap(), &first), "what is known stays good");
        *issuer.asked.lock().await = Instant::now().checked_sub(AT_MOST);
        assert!(!Arc::ptr_eq(&issuer.newer_keys().await.unwrap(), &first));
        // Known for a while, as if by a clock that went on.
        let known_for = |age: Duration| {
            let mut known = issuer.known.lock().unwrap();
            let (_, at) = known.as_mut().unwrap();
            *at = Instant::now().checked_sub(age).expect("this machine just started");
        };
        known_for(AGE * 2);
        let under_way = issuer.asked.lock().await;
        assert!(issuer.keys().await.is_ok(), "who needs no newer ones does not wait while it is asked");
        drop(under_way);
        *issuer.asked.lock().await = Some(Instant::now());
        known_for(LAST * 2);
        assert_eq!(issuer.keys().await.err(), Some(Away), "what is too old is good for nobody");
    }
}
