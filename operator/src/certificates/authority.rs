//! A certificate authority in memory: what it signs, and what follows it. No I/O.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// How long an authority is good for.
const LIFE: SignedDuration = SignedDuration::from_hours(3 * 365 * 24);
/// When another one follows it.
const DUE: SignedDuration = SignedDuration::from_hours(180 * 24);
/// How long a leaf is good for, and when another one follows it.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(48);
const LEAF_DUE: SignedDuration = SignedDuration::from_hours(16);
/// Clocks differ.
const BEFORE: SignedDuration = SignedDuration::from_hours(1);
/// Authorities that are trusted at a time, the current one among them: who has the oldest of them still gets in.
const KEPT: usize = 4;
/// Authorities that are known: those of whoever has one of the trusted, in bundles of their time.
const KNOWN: usize = 2 * KEPT - 1;

/// Keys of the Secret.
const KEY: &str = "ca.key";
const CERTIFICATES: &str = "ca.crt";
const CHAIN: &str = "chain.crt";

/// Why it is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key is missing in the Secret, or no text.
    #[error("its key {0} is missing or damaged: delete the Secret, and a new authority is made")]
    Damaged(&'static str),
    /// A certificate or a key can't be made or read.
    #[error("certificates")]
    Certificates(#[from] rcgen::Error),
    /// rustls can't use it.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// A certificate is no PEM.
    #[error("PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// A certificate authority, with those before it.
pub struct Authority {
    key: Zeroizing<String>,
    /// Its own certificate, then those of the ones before it, as PEM.
    certificates: Vec<String>,
    /// Its certificate as the one before it signed it, that one's as the one before signed it, and so on.
    chain: Vec<String>,
    made: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("made", &self.made).finish_non_exhaustive()
    }
}

/// Which authority a leaf is of, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    authority: String,
    made: Timestamp,
}

impl Leaf {
    /// When it ends.
    pub fn ends(&self) -> Timestamp {
        self.made.checked_add(LEAF_LIFE).unwrap_or(Timestamp::MAX)
    }

    /// Whether another leaf should follow this one.
    pub fn is_stale(&self, authority: &Authority, now: Timestamp) -> bool {
        authority.certificates.first() != Some(&self.authority) || now.duration_since(self.made) > LEAF_DUE
    }
}

impl Authority {
    /// A first one.
    pub fn new(now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params(now)?.self_signed(&key)?.pem();
        Ok(Self { key: key.serialize_pem().into(), certificates: vec![certificate], chain: Vec::new(), made: now })
    }

    /// The one that follows, signed by this one too.
    pub fn next(&self, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let params = params(now)?;
        let certificate = params.self_signed(&key)?.pem();
        let crossed = params.signed_by(&key, &self.issuer()?)?.pem();
        let before = self.certificates.iter().cloned();
        let chain_before = self.chain.iter().cloned();
        Ok(Self {
            key: key.serialize_pem().into(),
            certificates: std::iter::once(certificate).chain(before).take(KNOWN).collect(),
            chain: std::iter::once(crossed).chain(chain_before).take(KEPT - 1).collect(),
            made: now,
        })
    }

    /// Whether it is time for the next one.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now.duration_since(self.made) > DUE
    }

    /// What to verify leaves with, as PEM.
    pub fn bundle(&self) -> String {
        self.certificates.iter().take(KEPT).map(String::as_str).collect()
    }

    /// Every certificate that is in a bundle of whoever can still get in.
    pub fn known(&self) -> &[String] {
        &self.certificates
    }

    /// What a Secret holds of it.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let text = |text: &str| ByteString(text.as_bytes().to_vec());
        BTreeMap::from([
            (KEY.to_owned(), text(&self.key)),
            (CERTIFICATES.to_owned(), text(&self.certificates.concat())),
            (CHAIN.to_owned(), text(&self.chain.concat())),
        ])
    }

    /// The one that a Secret holds.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, AuthorityError> {
        let text = |name: &'static str| {
            let bytes = data.get(name).ok_or(AuthorityError::Damaged(name))?;
            String::from_utf8(bytes.0.clone()).map_err(|_| AuthorityError::Damaged(name))
        };
        let key = Zeroizing::new(text(KEY)?);
        let certificates = each(&text(CERTIFICATES)?);
        let chain = each(&text(CHAIN)?);
        let first = certificates.first().ok_or(AuthorityError::Damaged(CERTIFICATES))?;
        let der = CertificateDer::from_pem_slice(first.as_bytes())?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| AuthorityError::Damaged(CERTIFICATES))?;
        let before = Timestamp::from_second(parsed.validity().not_before.timestamp());
        let made = before.map_err(|_| AuthorityError::Damaged(CERTIFICATES))?.saturating_add(BEFORE);
        let authority =
            Self { key, certificates, chain, made: made.map_err(|_| AuthorityError::Damaged(CERTIFICATES))? };
        authority.issuer()?;
        Ok(authority)
    }

    /// A leaf for a server with these names.
    pub fn issue(&self, names: &[String], now: Timestamp) -> Result<(Leaf, CertifiedKey), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = time(now, -BEFORE);
        params.not_after = time(now, LEAF_LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        let mut chain = vec![certificate.der().clone()];
        for crossed in &self.chain {
            chain.push(CertificateDer::from_pem_slice(crossed.as_bytes())?);
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(chain, key, &provider)?;
        let authority = self.certificates.first().cloned().unwrap_or_default();
        Ok((Leaf { authority, made: now }, certified))
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        let certificate = self.certificates.first().ok_or(AuthorityError::Damaged(CERTIFICATES))?;
        Ok(Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(&self.key)?)?)
    }
}

fn params(now: Timestamp) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    // Each has a name of its own: a chain is found by names.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Postern {}", now.as_millisecond()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = time(now, -BEFORE);
    params.not_after = time(now, LIFE);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A time as certificates have it.
fn time(now: Timestamp, later: SignedDuration) -> time::OffsetDateTime {
    let seconds = now.as_second().saturating_add(later.as_secs());
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// The PEM blocks of a text.
pub fn each(text: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    text.split_inclusive(END).map(str::to_owned).filter(|block| !block.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + days * 86_400).unwrap()
    }

    fn believes(bundle: &str, certified: &CertifiedKey, now: Timestamp) -> bool {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let (leaf, chain) = certified.cert.split_first().unwrap();
        let name = ServerName::try_from("postern-broker.postern-system.svc").unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().try_into().unwrap()));
        verifier.verify_server_cert(leaf, chain, &name, &[], now).is_ok()
    }

    const NAMES: &str = "postern-broker.postern-system.svc";

    #[test]
    fn who_trusts_an_old_authority_believes_the_leaves_of_those_that_follow() {
        let first = Authority::new(at(0)).unwrap();
        let second = first.next(at(1)).unwrap();
        let third = second.next(at(2)).unwrap();
        let (_, leaf) = third.issue(&[NAMES.into()], at(3)).unwrap();
        for (bundle, believed) in [
            (first.bundle(), true),
            (second.bundle(), true),
            (third.bundle(), true),
            (Authority::new(at(0)).unwrap().bundle(), false),
        ] {
            assert_eq!(believes(&bundle, &leaf, at(3)), believed);
        }
        let (_, old_leaf) = first.issue(&[NAMES.into()], at(3)).unwrap();
        assert!(believes(&third.bundle(), &old_leaf, at(3)), "a replica that lags behind is believed too");
        assert!(!believes(&third.bundle(), &old_leaf, at(9)), "a leaf ends");
    }

    #[test]
    fn a_secret_holds_all_of_an_authority_and_no_more_than_the_last_few() {
        let mut authority = Authority::new(at(0)).unwrap();
        for day in 1..10 {
            authority = authority.next(at(day)).unwrap();
        }
        let read = Authority::read(&authority.data()).unwrap();
        assert_eq!((read.bundle(), read.made), (authority.bundle(), at(9)));
        assert_eq!((read.certificates.len(), read.chain.len()), (KNOWN, KEPT - 1));
        assert_eq!(each(&read.bundle()).len(), KEPT);
        assert!(!read.is_due(at(100)) && read.is_due(at(200)));
        assert!(matches!(Authority::read(&BTreeMap::new()), Err(AuthorityError::Damaged(KEY))));
    }

    #[test]
    fn all_of_a_bundle_is_known_for_as_long_as_who_has_it_gets_in() {
        let mut authority = Authority::new(at(0)).unwrap();
        for day in 1..10 {
            authority = authority.next(at(day)).unwrap();
        }
        let bundle = each(&authority.bundle());
        for day in 10..10 + KEPT as i64 - 1 {
            authority = authority.next(at(day)).unwrap();
            let (_, leaf) = authority.issue(&[NAMES.into()], at(day)).unwrap();
            assert!(believes(&bundle.concat(), &leaf, at(day)));
            assert!(bundle.iter().all(|certificate| authority.known().contains(certificate)));
        }
        assert!(!Authority::new(at(0)).unwrap().known().contains(bundle.first().unwrap()));
    }

    #[test]
    fn a_leaf_is_made_anew_with_its_authority_and_in_time() {
        let authority = Authority::new(at(0)).unwrap();
        let (leaf, _) = authority.issue(&[NAMES.into()], at(0)).unwrap();
        assert!(!leaf.is_stale(&authority, at(0)) && leaf.is_stale(&authority, at(1)));
        assert!(leaf.is_stale(&authority.next(at(0)).unwrap(), at(0)));
    }
}
