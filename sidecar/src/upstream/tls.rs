//! TLS to the server, by libpq's modes.

use std::io;
use std::sync::Arc;

use postern_crds::TlsMode;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use x509_parser::oid_registry;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// What libpq 17 offers too, and Postgres 17 wants of direct TLS; older servers ignore it.
const ALPN: &[u8] = b"postgresql";

/// TLS as the policy wants it, made once for all connections.
#[derive(Clone)]
pub struct Tls {
    /// None where connections aren't encrypted.
    client: Option<TlsConnector>,
    verifies: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.client.is_some() { "Tls(on)" } else { "Tls(off)" })
    }
}

/// What is wrong with the settings for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A mode that verifies needs something to verify against.
    #[error("the TLS mode verifies the server's certificate, and there is no CA to verify it against")]
    NoCa,
    /// The bundle holds no certificate, or one that can't be read.
    #[error("the CA bundle can't be read: {0}")]
    Ca(String),
    /// The provider has no usable protocol version.
    #[error("TLS can't be set up: {0}")]
    Setup(#[source] rustls::Error),
}

impl Tls {
    /// For this mode; `ca` is the bundle in PEM.
    pub fn new(mode: TlsMode, ca: Option<&[u8]>) -> Result<Self, TlsConfigError> {
        let trust = match mode {
            TlsMode::Disable => return Ok(Self { client: None, verifies: false }),
            TlsMode::Require => Trust::Any,
            TlsMode::VerifyCa => Trust::Chain(Anchors::read(ca.ok_or(TlsConfigError::NoCa)?)?),
            TlsMode::VerifyFull => Trust::ChainAndName(Anchors::read(ca.ok_or(TlsConfigError::NoCa)?)?),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let mut config = config_builder(provider)
            .map_err(TlsConfigError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, algorithms }))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        Ok(Self { client: Some(TlsConnector::from(Arc::new(config))), verifies })
    }

    /// Whether the server is verified.
    pub(super) const fn verifies(&self) -> bool {
        self.verifies
    }

    /// None if connections aren't encrypted.
    pub(super) const fn client(&self) -> Option<&TlsConnector> {
        self.client.as_ref()
    }
}

fn config_builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// The name to send and to verify.
pub(super) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// What a certificate is held against.
#[derive(Debug)]
enum Trust {
    /// Nothing: it encrypts, and whoever sits in between can read along.
    Any,
    /// The CA, not the host's name.
    Chain(Anchors),
    /// The CA and the host's name.
    ChainAndName(Anchors),
}

/// The CA bundle.
#[derive(Debug)]
struct Anchors {
    roots: RootCertStore,
    /// The same as they stand: a server that signed its certificate itself is often its own "CA".
    certificates: Vec<CertificateDer<'static>>,
}

impl Anchors {
    fn read(pem: &[u8]) -> Result<Self, TlsConfigError> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsConfigError::Ca(error.to_string()))?;
        if certificates.is_empty() {
            return Err(TlsConfigError::Ca("no certificate in it".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| TlsConfigError::Ca(error.to_string()))?;
        }
        Ok(Self { roots, certificates })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error> {
        if self.certificates.iter().any(|trusted| trusted.as_ref() == leaf.as_ref()) {
            // The chain's builder refuses a CA as a server's certificate; here the bundle names this very one.
            return verify_validity(leaf, now);
        }
        verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, intermediates, now, algorithms.all)
    }
}

/// That `now` is in the certificate's life.
fn verify_validity(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let bad = |error: CertificateError| rustls::Error::InvalidCertificate(error);
    let (_, certificate) = X509Certificate::from_der(leaf.as_ref()).map_err(|_| bad(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).map_err(|_| bad(CertificateError::Expired))?;
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        Err(bad(CertificateError::NotValidYet))
    } else if now > validity.not_after.timestamp() {
        Err(bad(CertificateError::Expired))
    } else {
        Ok(())
    }
}

/// Verifies what the mode wants verified, and always that the server holds the certificate's key.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (anchors, by_name) = match &self.trust {
            Trust::Any => return Ok(ServerCertVerified::assertion()),
            Trust::Chain(anchors) => (anchors, false),
            Trust::ChainAndName(anchors) => (anchors, true),
        };
        let parsed = ParsedCertificate::try_from(leaf)?;
        anchors.verify(leaf, &parsed, intermediates, now, self.algorithms)?;
        if by_name {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the hash of its own signature; None where that
/// signature has none of its own (Ed25519), so that there is nothing both sides would agree on.
pub(super) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    use ::aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let signature = &parsed.signature_algorithm;
    let scheme = SignatureAlgorithm::try_from(signature).ok()?;
    let oid = match &scheme {
        SignatureAlgorithm::RSASSA_PSS(parameters) => parameters.hash_algorithm_oid().clone(),
        _ => signature.algorithm.clone(),
    };
    let sha256 = [
        oid_registry::OID_PKCS1_SHA256WITHRSA,
        oid_registry::OID_SIG_ECDSA_WITH_SHA256,
        oid_registry::OID_NIST_HASH_SHA256,
        // MD5 and SHA-1 are too weak for it: the RFC takes SHA-256 then.
        oid_registry::OID_PKCS1_MD5WITHRSAENC,
        oid_registry::OID_PKCS1_SHA1WITHRSA,
        oid_registry::OID_HASH_SHA1,
    ];
    let sha384 = [
        oid_registry::OID_PKCS1_SHA384WITHRSA,
        oid_registry::OID_SIG_ECDSA_WITH_SHA384,
        oid_registry::OID_NIST_HASH_SHA384,
    ];
    let sha512 = [
        oid_registry::OID_PKCS1_SHA512WITHRSA,
        oid_registry::OID_SIG_ECDSA_WITH_SHA512,
        oid_registry::OID_NIST_HASH_SHA512,
    ];
    let algorithm = if sha256.contains(&oid) {
        &SHA256
    } else if sha384.contains(&oid) {
        &SHA384
    } else if sha512.contains(&oid) {
        &SHA512
    } else {
        return None;
    };
    Some(digest(algorithm, certificate).as_ref().to_vec())
}
