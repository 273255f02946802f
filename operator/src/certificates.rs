//! The operator's own certificate authorities: one for the webhooks, one for the broker.
//!
//! An authority is a Secret that all replicas share; what a replica serves with is a short-lived leaf that it signs for
//! itself and keeps in memory. A new authority is signed by the one before it as well, and that goes along with each
//! leaf: who trusts the old one believes the new one at once, so nothing has to be changed in step.

mod authority;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ObjectMeta, Resource};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use authority::{Authority, AuthorityError, each};

use crate::definitions::MANAGER;
use crate::metrics::Metrics;
use crate::timely::{ApiError, timely};
use crate::tls::CurrentCertificate;

/// The annotation of an authority's Secret that asks for a new one.
const ROTATE: &str = "postern.dev/rotate";
/// How often the Secret and the webhooks' bundles are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The API server.
    #[error("secret {0}")]
    Api(String, #[source] ApiError),
    /// What is in the Secret, or was to be put there.
    #[error("secret {0}")]
    Authority(String, #[source] AuthorityError),
    /// The webhooks' configuration.
    #[error("webhook configuration {0}")]
    Webhooks(String, #[source] ApiError),
}

/// What a server by one of the authorities needs.
#[derive(Clone, Debug)]
pub struct Served {
    /// The authority's Secret.
    pub secret: String,
    /// The names that clients use for the server.
    pub names: Vec<String>,
    /// What it serves with.
    pub certificate: Arc<CurrentCertificate>,
    /// The bundle (PEM) to verify it with; None until there is one.
    pub bundle: watch::Sender<Option<String>>,
    /// All certificates that stood in bundles of those who still get in, as PEM.
    pub known: watch::Sender<Vec<String>>,
}

impl Served {
    /// A server of a Service, which is reached by another name too, if it has one.
    pub fn new(secret: String, service: &str, namespace: &str, others: &[String]) -> Self {
        let names = [format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
        let names = names.into_iter().chain(others.iter().cloned()).collect();
        Self {
            secret,
            names,
            certificate: Arc::default(),
            bundle: watch::Sender::new(None),
            known: watch::Sender::default(),
        }
    }
}

/// Keeps a server's certificate good, for as long as it is polled.
pub async fn keep(client: Client, namespace: String, served: Served, metrics: Arc<Metrics>) {
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let mut in_use: Option<authority::Leaf> = None;
    loop {
        match current(&secrets, &served.secret).await {
            Ok(authority) => {
                let stale = in_use.as_ref().is_none_or(|leaf| leaf.is_stale(&authority, jiff::Timestamp::now()));
                if stale {
                    match authority.issue(&served.names, jiff::Timestamp::now()) {
                        Ok((leaf, certified)) => {
                            served.certificate.set(certified);
                            let ends = metrics.certificate_ends.with_label_values(&[served.secret.as_str()]);
                            ends.set(leaf.ends().as_second());
                            in_use = Some(leaf);
                        }
                        Err(error) => tracing::error!(secret = served.secret, %error, "failed to issue a certificate"),
                    }
                }
                served.known.send_replace(authority.known().to_vec());
                served.bundle.send_if_modified(|bundle| {
                    let new = Some(authority.bundle());
                    let changed = *bundle != new;
                    *bundle = new;
                    changed
                });
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "no certificate authority; it is tried again");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The authority in the Secret; made if there is none, and made anew when it is time.
async fn current(secrets: &Api<Secret>, name: &str) -> Result<Authority, CertificateError> {
    let api = |error| CertificateError::Api(name.to_owned(), error);
    let wrong = |error| CertificateError::Authority(name.to_owned(), error);
    let now = jiff::Timestamp::now();
    let Some(secret) = timely(secrets.get_opt(name)).await.map_err(api)? else {
        let authority = Authority::new(now).map_err(wrong)?;
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret =
            Secret { metadata, data: Some(authority.data()), type_: Some("Opaque".into()), ..Secret::default() };
        return match timely(secrets.create(&PostParams::default(), &secret)).await {
            Ok(_) => Ok(authority),
            // Another replica was first.
            Err(error) if error.code() == Some(409) => {
                let secret = timely(secrets.get(name)).await.map_err(api)?;
                Authority::read(&secret.data.unwrap_or_default()).map_err(wrong)
            }
            Err(error) => Err(api(error)),
        };
    };
    let authority = Authority::read(secret.data.as_ref().unwrap_or(&Default::default())).map_err(wrong)?;
    let asked = secret.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ROTATE));
    if !asked && !authority.is_due(now) {
        return Ok(authority);
    }
    let next = authority.next(now).map_err(wrong)?;
    let mut secret = secret;
    secret.data = Some(next.data());
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.remove(ROTATE);
    }
    // With the version that was read: of two replicas that do this, one is refused, and reads what the other wrote.
    match timely(secrets.replace(name, &PostParams::default(), &secret)).await {
        Ok(_) => {
            tracing::info!(secret = name, "a new certificate authority follows the one before it");
            Ok(next)
        }
        Err(error) if error.code() == Some(409) => Ok(authority),
        Err(error) => Err(api(error)),
    }
}

/// Keeps the bundle in the webhooks' configurations, for as long as it is polled. `told` is set once it is there.
pub async fn keep_webhooks(
    client: Client,
    name: String,
    mut bundle: watch::Receiver<Option<String>>,
    told: watch::Sender<bool>,
) {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client);
    loop {
        let current = bundle.borrow_and_update().clone();
        if let Some(current) = current {
            let done = async {
                tell(&mutating, &name, &current).await?;
                tell(&validating, &name, &current).await
            };
            match done.await {
                Ok(()) => _ = told.send_replace(true),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(%error, cause, "the API server could not be told how to verify the webhooks");
                }
            }
        }
        tokio::select! {
            changed = bundle.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Sets the bundle of all webhooks in a configuration, if it is another one.
async fn tell<K>(api: &Api<K>, name: &str, bundle: &str) -> Result<(), CertificateError>
where
    K: Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let failed = |error| CertificateError::Webhooks(name.to_owned(), error);
    let configuration = timely(api.get(name)).await.map_err(failed)?;
    let wanted = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).unwrap_or_default();
    let configuration = serde_json::to_value(configuration).unwrap_or_default();
    let webhooks = configuration.get("webhooks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let stale: Vec<Value> = webhooks
        .iter()
        .filter(|webhook| webhook.pointer("/clientConfig/caBundle") != Some(&wanted))
        .map(|webhook| json!({"name": webhook.get("name"), "clientConfig": {"caBundle": wanted}}))
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let patch = Patch::Strategic(json!({"webhooks": stale}));
    let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    timely(api.patch(name, &parameters, &patch)).await.map(|_| ()).map_err(failed)
}
