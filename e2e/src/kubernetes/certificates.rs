//! The cluster's certificate authority, and what it signs.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A certificate authority of the tests' own.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server with these names and addresses.
    pub fn server<S: AsRef<str>>(&self, names: &[S]) -> Result<Pair> {
        let params = CertificateParams::new(names.iter().map(|name| name.as_ref().to_owned()).collect::<Vec<_>>())?;
        self.sign(params, names.first().map_or("", AsRef::as_ref), &[], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate by which a client is `user`, in `groups`.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Pair> {
        let params = CertificateParams::new(Vec::<String>::new())?;
        self.sign(params, user, groups, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        organizations: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        let key = KeyPair::generate()?;
        // rcgen names CN by itself otherwise.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key` into a folder.
    pub(super) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        fs::write(folder.join(format!("{name}.crt")), &self.certificate)?;
        secret(&folder.join(format!("{name}.key")), &self.key)
    }
}

/// Writes a file that only we read.
pub(super) fn secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// The pair of keys for service accounts' tokens in `sa.key` and `sa.pub`: RSA, as clusters have it nearly everywhere.
pub(super) fn token_keys(folder: &Path) -> Result<()> {
    for arguments in [
        ["genpkey", "-quiet", "-algorithm", "RSA", "-out", "sa.key"].as_slice(),
        ["pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub"].as_slice(),
    ] {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().context("start openssl")?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
