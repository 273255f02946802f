//! An issuer of tokens outside of the cluster: a certified OpenID provider that runs beside the test, in `issuer/`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use crate::guard::{Ending, Guard};
use crate::kubernetes::Authority;
use crate::programs::{self, Prepared, Program};

/// Generous: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key that an issuer signs with.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub kid: String,
    pair: KeyPair,
}

impl Key {
    /// A new one of that name.
    pub fn new(kid: &str) -> Result<Self> {
        Ok(Self { kid: kid.to_owned(), pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)? })
    }

    /// A token of these claims that is signed by it, whatever the issuer would say to that.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.pair.serialize_der()))?)
    }

    /// Its public part, as PEM.
    pub fn public(&self) -> String {
        self.pair.public_key_pem()
    }
}

/// Who can have tokens, and which.
#[derive(Clone, Debug)]
pub struct Client {
    /// Whom they are for.
    pub audience: String,
    /// What they say beside what every token says.
    pub claims: Value,
    /// How many seconds they live.
    pub life: u64,
}

/// An issuer that runs, gone when dropped.
#[derive(Debug)]
pub struct Issuer {
    process: Guard,
    port: u16,
    /// Its URL.
    pub url: String,
    authority: Arc<Authority>,
}

/// What issuers run by: the provider is installed; None, and said, where this machine has no node.
#[derive(Debug)]
pub struct Issuers {
    program: Program,
    authority: Arc<Authority>,
}

impl Issuers {
    /// Installs it where it isn't yet.
    pub fn prepare() -> Result<Option<Self>> {
        match programs::prepare(&crate::workspace().join("e2e/issuer"), "issuer")? {
            Prepared::Ready(program) => {
                Ok(Some(Self { program, authority: Arc::new(Authority::new("an issuer's authority")?) }))
            }
            Prepared::Without(tool) => {
                println!("left out: there is no {tool} on this machine, and issuers of tokens need it");
                Ok(None)
            }
        }
    }

    /// The authority that their certificates are of.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Starts one on this port with these keys, of which the first one signs.
    pub fn start(&self, folder: &Path, port: u16, keys: &[&Key], clients: &BTreeMap<&str, Client>) -> Result<Issuer> {
        let url = format!("https://localhost:{port}");
        let pair = self.authority.server(&["localhost"])?;
        let keys = keys.iter().map(|key| json!({"kid": key.kid, "pem": key.pair.serialize_pem()}));
        let clients = clients.iter().map(|(name, Client { audience, claims, life })| {
            ((*name).to_owned(), json!({"audience": audience, "claims": claims, "life": life}))
        });
        let configuration = json!({
            "url": url,
            "port": port,
            "certificate": pair.certificate,
            "key": pair.key,
            "keys": keys.collect::<Vec<_>>(),
            "clients": serde_json::Map::from_iter(clients),
        });
        let environment = [("ISSUER".to_owned(), configuration.to_string())];
        let ending = Ending { signal: "KILL", folder: None, patience: Duration::from_secs(5) };
        let process = self.program.spawn(&environment, &folder.join(format!("issuer-{port}.log")), &ending)?;
        let mut issuer = Issuer { process, port, url, authority: Arc::clone(&self.authority) };
        let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        issuer.process.wait_until("the issuer", PATIENCE, answers)?;
        Ok(issuer)
    }
}

impl Issuer {
    /// A token for a client of it.
    pub fn token(&self, client: &str) -> Result<String> {
        let body = "grant_type=client_credentials";
        let credentials =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{client}:secret"));
        let head = format!(
            "POST /token HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Basic {credentials}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes())?)?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(("127.0.0.1", self.port))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        let mut stream = rustls::StreamOwned::new(connection, tcp);
        write!(stream, "{head}{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.contains(" 200 "), "the issuer gives no token: {answer}");
        // Its answer is chunked or not, and its object is one line.
        let object = body.split("\r\n").find(|line| line.starts_with('{')).context("no object")?;
        let object: Value = serde_json::from_str(object)?;
        object.get("access_token").and_then(Value::as_str).map(str::to_owned).context("no token")
    }
}
