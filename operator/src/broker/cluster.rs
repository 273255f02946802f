//! What the broker asks the API server about a token: the cluster's keys, whether the token is still good, and its pod.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{ApiResource, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use postern_crds::lease::AUDIENCE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::keys::digest;
use super::subject::{self, LEEWAY, PodToken, TokenError};
use super::{Problem, now};
use crate::metrics::Metrics;
use crate::timely::{ApiError, timely};

/// How long a good answer about a token is good.
const REVIEWED: Duration = Duration::from_secs(60);
/// Most answers that are remembered.
const MAX_REVIEWS: usize = 16_384;
/// Most questions that the API server is asked at a time.
const MAX_QUESTIONS: usize = 32;
/// How old the cluster's keys may get.
const KEYS_AGE: Duration = Duration::from_secs(600);
/// How often they are asked for at most, where a token is signed by one that isn't known.
const KEYS_AT_MOST: Duration = Duration::from_secs(10);

/// What a cluster says of its tokens.
#[derive(Debug)]
struct Published {
    issuer: String,
    keys: JwkSet,
    at: Instant,
}

/// The API server, as far as tokens go.
pub(super) struct Cluster {
    client: Client,
    published: tokio::sync::Mutex<Option<Arc<Published>>>,
    /// When a token, by its digest, was found good.
    reviewed: quick_cache::sync::Cache<[u8; 32], Instant>,
    /// Questions that may be under way: where very many sidecars start at once, the API server must not feel it, and each
    /// is a connection.
    questions: Semaphore,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    pub(super) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        let reviewed = quick_cache::sync::Cache::new(MAX_REVIEWS);
        let (published, questions) = (tokio::sync::Mutex::new(None), Semaphore::new(MAX_QUESTIONS));
        Self { client, published, reviewed, questions, metrics }
    }

    /// The issuer of the cluster's own tokens.
    pub(super) async fn issuer(&self) -> Result<String, Problem> {
        Ok(self.published(KEYS_AGE).await?.issuer.clone())
    }

    /// Who a token says that its bearer is, after the local check and the API server's.
    pub(super) async fn pod_token(&self, token: &str) -> Result<PodToken, Problem> {
        let published = self.published(KEYS_AGE).await?;
        let checked = match subject::check(token, &published.keys, &published.issuer) {
            Err(TokenError::UnknownKey) => {
                let published = self.published(KEYS_AT_MOST).await?;
                subject::check(token, &published.keys, &published.issuer)
            }
            checked => checked,
        };
        let pod_token = checked?;
        self.review(token, &pod_token).await?;
        Ok(pod_token)
    }

    /// Issuer and keys, no older than this if the API server can be asked.
    async fn published(&self, age: Duration) -> Result<Arc<Published>, Problem> {
        // Held while it is asked: all that wait want the same answer.
        let mut published = self.published.lock().await;
        if let Some(known) = published.as_ref().filter(|known| known.at.elapsed() < age) {
            return Ok(Arc::clone(known));
        }
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
        }
        let asked = async {
            let Configuration { issuer } = self.get("/.well-known/openid-configuration").await?;
            let keys = self.get("/openid/v1/jwks").await?;
            Ok::<_, Problem>(Published { issuer, keys, at: Instant::now() })
        };
        match (asked.await, published.as_ref()) {
            (Ok(new), _) => Ok(Arc::clone(published.insert(Arc::new(new)))),
            // They are the cluster's still; the review says whether the token is good.
            (Err(_), Some(known)) => Ok(Arc::clone(known)),
            (Err(problem), None) => Err(problem),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let request = axum::http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Problem::later(error.to_string()))?;
        timely(self.client.request(request)).await.map_err(|error| away("the cluster's keys can't be had", &error))
    }

    /// Whether the API server finds the token good, for our audience, and as one of the pod that it names.
    async fn review(&self, token: &str, expected: &PodToken) -> Result<(), Problem> {
        let digest = digest(token);
        if self.reviewed.get(&digest).is_some_and(|at| at.elapsed() < REVIEWED) {
            self.metrics.token_reviews.with_label_values(&["remembered"]).inc();
            return Ok(());
        }
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let _turn = self.questions.acquire().await;
        let reviewed = timely(reviews.create(&PostParams::default(), &review)).await;
        let reviewed = reviewed.map_err(|error| {
            self.metrics.token_reviews.with_label_values(&["failed"]).inc();
            away("the API server can't be asked about the token", &error)
        })?;
        let good = is_good(&reviewed, expected);
        self.metrics.token_reviews.with_label_values(&[if good { "good" } else { "refused" }]).inc();
        // It may just have expired, by either clock.
        if !good && expected.expires <= now().saturating_add(LEEWAY) {
            return Err(TokenError::Expired.into());
        }
        if !good {
            return Err(Problem::grant("the API server does not find the token good"));
        }
        self.reviewed.insert(digest, Instant::now());
        Ok(())
    }

    /// A pod as the API server has it now; None if there is none of this name.
    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Value>, Problem> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let pods: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let _turn = self.questions.acquire().await;
        let pod = timely(pods.get_opt(name)).await;
        let pod = pod.map_err(|error| away("the API server can't be asked about the pod", &error))?;
        Ok(pod.and_then(|pod| serde_json::to_value(pod).ok()))
    }
}

fn away(what: &str, error: &ApiError) -> Problem {
    tracing::warn!(%error, "{what}");
    Problem::later(what)
}

/// Whether an answer says that a token is good, for our audience, and whose we think.
fn is_good(review: &TokenReview, expected: &PodToken) -> bool {
    let Some(status) = &review.status else { return false };
    let user = status.user.clone().unwrap_or_default();
    let uids = user.extra.as_ref().and_then(|extra| extra.get("authentication.kubernetes.io/pod-uid"));
    status.authenticated == Some(true)
        && status.audiences.as_ref().is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE))
        && user.username.as_ref() == Some(&expected.subject)
        && uids.is_some_and(|uids| *uids == [expected.pod_uid.clone()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_good_only_for_our_audience_and_the_pod_of_the_token() {
        let expected = PodToken {
            issuer: "i".into(),
            subject: "system:serviceaccount:shop:report".into(),
            id: None,
            expires: 0,
            namespace: "shop".into(),
            service_account: "report".into(),
            pod: "report-1".into(),
            pod_uid: "uid".into(),
            node: None,
        };
        let good = json!({
            "spec": {},
            "status": {
                "authenticated": true, "audiences": ["postern.dev"],
                "user": {
                    "username": "system:serviceaccount:shop:report",
                    "extra": {"authentication.kubernetes.io/pod-uid": ["uid"]},
                },
            },
        });
        let judged = |review: &Value| is_good(&serde_json::from_value(review.clone()).unwrap(), &expected);
        assert!(judged(&good));
        for (path, value) in [
            ("/status", Value::Null),
            ("/status/authenticated", json!(false)),
            // One that knows nothing of audiences leaves them out: then the token is good for the API server itself.
            ("/status/audiences", Value::Null),
            ("/status/audiences", json!(["https://kubernetes.default.svc"])),
            ("/status/user/username", json!("system:serviceaccount:shop:other")),
            ("/status/user/extra", json!({})),
            ("/status/user/extra", json!({"authentication.kubernetes.io/pod-uid": ["other"]})),
        ] {
            let mut review = good.clone();
            *review.pointer_mut(path).unwrap() = value;
            assert!(!judged(&review), "{path}");
        }
    }
}
