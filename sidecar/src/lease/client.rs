//! Requests to the broker: HTTPS, one connection that is kept, every wait and every answer bounded.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use postern_crds::lease::{ErrorCode, ErrorResponse};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::proof::{Key, KeyError};
use crate::config::{BrokerAddress, BrokerRoots};

/// How long connecting and TLS may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer: a lease has two objects and a few keys of secrets, each far below 1.5 MiB.
const MAX_ANSWER: usize = 8 << 20;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The broker can't be reached, or does not answer.
    #[error("the broker can't be reached: {0}")]
    Away(String),
    /// It closed the connection before it answered.
    #[error("the broker closed the connection: {0}")]
    Closed(String),
    /// It says no.
    #[error("the broker answers {0:?}: {1}")]
    Answered(ErrorCode, String),
    /// What it says can't be understood.
    #[error("the broker's answer can't be read: {0}")]
    Unreadable(String),
    /// There is nothing to ask it with.
    #[error("{0}")]
    Own(String),
}

impl CallError {
    /// Whether the broker, or what it needs, is away.
    pub(super) fn is_outage(&self) -> bool {
        matches!(
            self,
            CallError::Away(_) | CallError::Closed(_) | CallError::Answered(ErrorCode::TemporarilyUnavailable, _)
        )
    }

    /// Whether the right itself is denied.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, CallError::Answered(code, _) if code.is_refusal())
    }
}

impl From<KeyError> for CallError {
    fn from(error: KeyError) -> Self {
        CallError::Own(error.to_string())
    }
}

/// The broker, as all of a sidecar's connections to it know it.
pub(super) struct Broker {
    address: BrokerAddress,
    name: ServerName<'static>,
    /// Believed whatever leases bring.
    own: RootCertStore,
    trust: ArcSwap<TlsConnector>,
    key: Key,
}

/// What the broker is to be verified with can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the broker can't be verified: {0}")]
pub struct BundleError(String);

impl Broker {
    /// With what verifies it.
    pub(super) fn new(address: BrokerAddress, roots: &BrokerRoots, key: Key) -> Result<Self, BundleError> {
        let name = ServerName::try_from(address.host.clone()).map_err(|error| BundleError(error.to_string()))?;
        let (own, first) = match roots {
            BrokerRoots::AtFirst(pem) => (RootCertStore::empty(), bundle(pem)?),
            BrokerRoots::File(path) => {
                let told = |error: std::io::Error| BundleError(format!("failed to read {}: {error}", path.display()));
                let own = bundle(&std::fs::read_to_string(path).map_err(told)?)?;
                (own.clone(), own)
            }
            BrokerRoots::Machine => {
                let own = of_this_machine()?;
                (own.clone(), own)
            }
        };
        Ok(Self { address, name, own, trust: ArcSwap::new(connector(first)?), key })
    }

    /// Verifies it with another bundle (PEM) from now on.
    pub(super) fn trust(&self, pem: &str) -> Result<(), BundleError> {
        let mut roots = bundle(pem)?;
        roots.extend(self.own.roots.iter().cloned());
        self.trust.store(connector(roots)?);
        Ok(())
    }
}

fn bundle(pem: &str) -> Result<RootCertStore, BundleError> {
    let wrong = |error: &dyn std::fmt::Display| BundleError(format!("the CA bundle can't be used: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(roots) }
}

fn of_this_machine() -> Result<RootCertStore, BundleError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let why = "this machine has no certificates of authorities; give the operator's by --broker-ca-file";
        return Err(BundleError(why.to_owned()));
    }
    Ok(roots)
}

fn connector(roots: RootCertStore) -> Result<Arc<TlsConnector>, BundleError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BundleError(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(TlsConnector::from(Arc::new(config))))
}

/// A `POST`.
pub(super) struct Call<'a> {
    /// Path.
    pub(super) path: &'a str,
    /// Query, without its question mark.
    pub(super) query: &'a str,
    /// What the body is.
    pub(super) content_type: &'static str,
    /// The body.
    pub(super) body: Bytes,
    /// The access token.
    pub(super) token: Option<&'a str>,
    /// How long the answer may take.
    pub(super) patience: Duration,
}

/// A connection to the broker.
pub(super) struct Client {
    broker: Arc<Broker>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(super) const fn new(broker: Arc<Broker>) -> Self {
        Self { broker, connection: None }
    }

    /// The broker.
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Asks, and gives status and body of an answer that is no error.
    pub(super) async fn post(&mut self, call: &Call<'_>) -> Result<(StatusCode, Bytes), CallError> {
        let kept = self.connection.take().filter(SendRequest::is_ready);
        let was_kept = kept.is_some();
        match self.ask(kept, call).await {
            // The broker may close a connection that was idle just as it is used again. All requests may be repeated.
            Err(CallError::Closed(_)) if was_kept => self.ask(None, call).await,
            answered => answered,
        }
    }

    async fn ask(
        &mut self,
        kept: Option<SendRequest<Full<Bytes>>>,
        call: &Call<'_>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let away = |error: &dyn std::fmt::Display| CallError::Away(error.to_string());
        let request = self.request(call)?;
        let mut connection = match kept {
            Some(kept) => kept,
            None => timeout(CONNECT, self.connect()).await.map_err(|_| away(&"connecting took too long"))??,
        };
        let answered = async {
            let answer = connection.send_request(request).await.map_err(|error| CallError::Closed(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            Ok::<_, CallError>((head.status, body.map_err(|error| away(&error))?.to_bytes()))
        };
        let (status, body) =
            timeout(call.patience, answered).await.map_err(|_| away(&"the answer took too long"))??;
        self.connection = Some(connection);
        if status.is_success() {
            return Ok((status, body));
        }
        match serde_json::from_slice::<ErrorResponse>(&body) {
            Ok(ErrorResponse { error, error_description }) => Err(CallError::Answered(error, error_description)),
            // Something on the way, or a broker that ends.
            Err(_) if status.is_server_error() => Err(CallError::Away(format!("HTTP status {status}"))),
            Err(_) => Err(CallError::Unreadable(format!("HTTP status {status}"))),
        }
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, CallError> {
        let Call { path, query, content_type, body, token, patience: _ } = call;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let address = &self.broker.address;
        let proof = self.broker.key.proof(&format!("{address}{path}"), *token, now)?;
        let target = if query.is_empty() { (*path).to_owned() } else { format!("{path}?{query}") };
        let mut request = Request::post(target)
            .header(header::HOST, address.authority())
            .header(header::CONTENT_TYPE, *content_type)
            .header("dpop", proof);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("DPoP {token}"));
        }
        request.body(Full::new(body.clone())).map_err(|error| CallError::Own(error.to_string()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let away = |error: &dyn std::error::Error| CallError::Away(chain(error));
        let BrokerAddress { host, port } = &self.broker.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| away(&error))?;
        crate::listen::tune(&tcp).map_err(|error| away(&error))?;
        let connector = self.broker.trust.load_full();
        let tls = connector.connect(self.broker.name.clone(), tcp).await.map_err(|error| away(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(|error| away(&error))?;
        tokio::spawn(async move {
            // What ends a connection is told by the request that it ends.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    crate::serve::error_chain(error)
}
