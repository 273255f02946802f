//! What a sidecar is to the broker, without a database: a key, a pod's token, and a connection from the pod's address.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postern_crds::lease::{
    AUDIT_PATH, AuditAck, DPOP_TYPE, DpopClaims, ErrorResponse, GRANT_TYPE, JWT_TYPE, LEASE_PATH, Lease, LeaseRequest,
    Report, TOKEN_PATH, TokenResponse,
};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::http::{Answer, Client};

/// How long to wait after an answer that says to come again.
const PAUSE: Duration = Duration::from_millis(200);

/// A sidecar.
pub(super) struct Sidecar {
    client: Client,
    port: u16,
    key: EncodingKey,
    jwk: Jwk,
    resource: String,
    token: String,
    access: String,
}

impl Sidecar {
    /// One that asks for the policy `resource` with its pod's token, and has exchanged nothing yet.
    pub(super) fn new(
        port: u16,
        source: Ipv4Addr,
        tls: &Arc<rustls::ClientConfig>,
        resource: String,
        token: String,
    ) -> Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        Ok(Self { client: Client::new(port, source, tls), port, key, jwk, resource, token, access: String::new() })
    }

    /// Another one in the same pod, with the same right and a connection of its own: as the audit has it.
    pub(super) fn beside(&self, source: Ipv4Addr, tls: &Arc<rustls::ClientConfig>) -> Self {
        Self {
            client: Client::new(self.port, source, tls),
            port: self.port,
            key: self.key.clone(),
            jwk: self.jwk.clone(),
            resource: self.resource.clone(),
            token: self.token.clone(),
            access: self.access.clone(),
        }
    }

    fn proof(&self, path: &str, token: Option<&str>) -> Result<String> {
        let header =
            Header { typ: Some(DPOP_TYPE.into()), jwk: Some(self.jwk.clone()), ..Header::new(Algorithm::ES256) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let claims = DpopClaims {
            jti: now.as_nanos().to_string(),
            htm: "POST".into(),
            htu: format!("https://127.0.0.1:{}{path}", self.port),
            iat: now.as_secs(),
            ath: token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token))),
        };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }

    /// Exchanges the pod's token. What the broker can't know yet is asked again, as often as it says so.
    pub(super) async fn exchange(&mut self) -> Result<()> {
        let escaped = self.resource.replace(':', "%3A").replace('/', "%2F");
        let (grant, kind) = (GRANT_TYPE.replace(':', "%3A"), JWT_TYPE.replace(':', "%3A"));
        let form =
            format!("grant_type={grant}&subject_token_type={kind}&subject_token={}&resource={escaped}", self.token);
        loop {
            let proof = self.proof(TOKEN_PATH, None)?;
            let headers = [("content-type", "application/x-www-form-urlencoded"), ("dpop", proof.as_str())];
            let answer = self.client.request("POST", TOKEN_PATH, &headers, form.clone()).await?;
            if let Some(TokenResponse { access_token, .. }) = granted(&answer, 200)? {
                self.access = access_token;
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn with_token(&mut self, target: &str, body: Vec<u8>) -> Result<Answer> {
        let path = target.split('?').next().unwrap_or_default();
        let proof = self.proof(path, Some(&self.access))?;
        let authorization = format!("DPoP {}", self.access);
        self.client.request("POST", target, &[("authorization", &authorization), ("dpop", &proof)], body).await
    }

    /// The lease, if it is another one than this before the wait is over.
    pub(super) async fn poll(&mut self, version: Option<&str>, wait: u64) -> Result<Option<Lease>> {
        let report = Report { sidecar: env!("CARGO_PKG_VERSION").into(), ..Report::default() };
        let request = LeaseRequest { version: version.map(str::to_owned), wait, report, ..LeaseRequest::default() };
        let answer = self.with_token(LEASE_PATH, serde_json::to_vec(&request)?).await?;
        if answer.status == 204 {
            return Ok(None);
        }
        let lease = granted(&answer, 200)?;
        if lease.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(lease)
    }

    /// Sends events of a stream, the first of which has this number.
    pub(super) async fn audit(&mut self, stream: &str, first: u64, events: Vec<u8>) -> Result<u64> {
        let target = format!("{AUDIT_PATH}?stream={stream}&first={first}&acknowledged={}", first - 1);
        let answer = self.with_token(&target, events).await?;
        ensure!(answer.status == 200, "audit: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        Ok(serde_json::from_slice::<AuditAck>(&answer.body)?.acknowledged)
    }
}

/// What is granted; None where it is to be asked for again.
fn granted<T: DeserializeOwned>(answer: &Answer, status: u16) -> Result<Option<T>> {
    if answer.status == status {
        return Ok(Some(serde_json::from_slice(&answer.body)?));
    }
    let problem: ErrorResponse = serde_json::from_slice(&answer.body).context("no answer of a broker")?;
    if matches!(answer.status, 429 | 503) {
        return Ok(None);
    }
    bail!("refused: {} {:?}: {}", answer.status, problem.error, problem.error_description)
}
