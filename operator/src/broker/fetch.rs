//! JSON from an address that somebody else chose: over HTTPS, from nowhere inside, and never more than is bounded here.
//!
//! **Promise.** A name is resolved once, each of its addresses is looked at, and what is connected to is one of exactly
//! those: a name that changes its address in between changes nothing. A redirect is not followed. What comes back is used
//! or thrown away, and never told.
//! **Not covered.** A proxy that all of a company's requests have to go by: this goes directly.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Largest body: the keys of large issuers have some ten thousand characters.
const MAX_BODY: usize = 256 << 10;
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why nothing could be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it is no https:// URL with a name")]
    Url,
    #[error("its name can't be resolved")]
    Name(#[source] io::Error),
    #[error("its name stands for {0}, an address that is not public: allowPrivateAddresses would be needed")]
    Private(IpAddr),
    #[error("it can't be connected to")]
    Connect(#[source] io::Error),
    #[error("its certificate or its TLS is not good")]
    Tls(#[source] io::Error),
    #[error("it does not speak HTTP")]
    Http(#[source] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer is too long, or ends too early")]
    Body,
    #[error("its answer is not what it should be")]
    Json,
    #[error("it takes too long")]
    Late,
}

/// Why there is nothing to fetch with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The bundle has no certificate, or one that can't be read.
    #[error("ca has no certificate that can be used")]
    Bundle,
    /// This machine has none.
    #[error("this machine has no certificates to verify issuers with; give the issuer's own as ca")]
    None,
    /// The TLS library doesn't take them.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Who fetches.
#[derive(Clone)]
pub(super) struct Fetcher {
    tls: TlsConnector,
    private: bool,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("private", &self.private).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// One that believes this bundle (PEM), or else what this machine does; that also goes inside, if it may.
    pub(super) fn new(ca: Option<&str>, private: bool) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|_| RootsError::Bundle)?;
                    roots.add(certificate).map_err(|_| RootsError::Bundle)?;
                }
                if roots.is_empty() {
                    return Err(RootsError::Bundle);
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(RootsError::None);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), private })
    }

    /// What an URL has.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let body = tokio::time::timeout(PATIENCE, self.body(url)).await.map_err(|_| FetchError::Late)??;
        serde_json::from_slice(&body).map_err(|_| FetchError::Json)
    }

    async fn body(&self, url: &str) -> Result<Bytes, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or(FetchError::Url)?;
        if uri.scheme_str() != Some("https") {
            return Err(FetchError::Url);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| FetchError::Url)?;
        let stream = self.connect(&host, authority.port_u16().unwrap_or(443)).await?;
        let stream = self.tls.connect(name, stream).await.map_err(FetchError::Tls)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
        // It ends with the sender.
        tokio::spawn(connection);
        let target = uri.path_and_query().map_or("/", |it| it.as_str());
        let request = Request::get(target)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("postern-operator/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchError::Url)?;
        let answer = sender.send_request(request).await.map_err(FetchError::Http)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|_| FetchError::Body)?;
        Ok(body.to_bytes())
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((host, port)).await.map_err(FetchError::Name)?.collect();
        // One of them inside is one too many: which of them is taken is left to chance otherwise.
        if let Some(inside) = addresses.iter().find(|address| !self.private && !is_public(address.ip())) {
            return Err(FetchError::Private(inside.ip()));
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(FetchError::Connect(last))
    }
}

/// Whether an address belongs to the Internet, and to nobody's own network, machine or test (IANA's registries of special
/// addresses). What isn't known to be is not.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |network: [u8; 4], length: u32| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        address.to_bits() & mask == u32::from_be_bytes(network) & mask
    };
    let special = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Multicast, and what is reserved.
        ([224, 0, 0, 0], 3),
    ];
    !special.into_iter().any(|(network, length)| within(network, length))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |network: u128, length: u32| (address.to_bits() ^ network) >> (128 - length) == 0;
    let embedded = |shift: u32| Ipv4Addr::from_bits((address.to_bits() >> shift) as u32);
    // Of a translator (RFC 6052), and of 6to4: as public as the IPv4 address in it.
    if within(0x0064_ff9b << 96, 96) {
        return is_public_v4(embedded(0));
    }
    if within(0x2002 << 112, 16) {
        return is_public_v4(embedded(80));
    }
    within(0x2000 << 112, 3)
        // What the IETF gives out for its protocols (2001::/23), and for documentation.
        && !within(0x2001 << 112, 23)
        && !within(0x2001_0db8 << 96, 32)
        && !within(0x3fff << 112, 20)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in ["8.8.8.8", "140.82.121.4", "172.15.0.1", "172.32.0.1", "100.128.0.1", "223.255.255.255"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for public in
            ["2606:50c0:8000::154", "2a00:1450:4001::65", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
    }

    #[tokio::test]
    async fn a_name_inside_is_not_even_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let fetcher = Fetcher::new(Some(&certificate.cert.pem()), false).unwrap();
        for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            let error = fetcher.get::<serde_json::Value>(&format!("https://{host}:{port}/")).await.unwrap_err();
            // Where a machine has no IPv6 its loopback is unreachable, but is refused before that.
            assert!(matches!(error, FetchError::Private(_)), "{host}: {error:?}");
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "somebody came");
    }

    /// A server that answers each request by its path and the server's own URL; with the certificate that it is believed
    /// by, and the URL.
    pub(in crate::broker) async fn server(answer: fn(&str, &str) -> String) -> (String, String) {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = certificate.cert.pem();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let own = url.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, own) = (acceptor.clone(), own.clone());
                tokio::spawn(async move {
                    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
                    let mut stream = tokio::io::BufReader::new(acceptor.accept(stream).await.unwrap());
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    let path = line.split(' ').nth(1).unwrap().to_owned();
                    stream.write_all(answer(&path, &own).as_bytes()).await.unwrap();
                    // What is announced and does not come: the client has to give up.
                    if path == "/slow" {
                        std::future::pending::<()>().await;
                    }
                    while path == "/endless" && stream.write_all(&[b' '; 4096]).await.is_ok() {}
                    _ = stream.shutdown().await;
                });
            }
        });
        (pem, url)
    }

    pub(in crate::broker) fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn what_is_no_answer_in_time_of_its_own_and_of_some_size_is_none() {
        let (pem, url) = server(|path, _| match path {
            "/good" => ok("{}"),
            // To where it would be answered well.
            "/redirect" => "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            "/huge" => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", MAX_BODY + 1, " ".repeat(MAX_BODY + 1))
            }
            "/endless" => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
            "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}".to_owned(),
            "/slow" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{".to_owned(),
            "/words" => ok("words"),
            "/greeting" => "220 mail.example ESMTP\r\n".to_owned(),
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        })
        .await;
        let fetcher = Fetcher::new(Some(&pem), true).unwrap();
        let get = async |path: &str| fetcher.get::<serde_json::Value>(&format!("{url}{path}")).await;
        assert!(get("/good").await.is_ok());
        let refused = async |path: &str| get(path).await.unwrap_err().to_string();
        for (path, told) in [
            ("/redirect", "answers 302"),
            ("/huge", "too long"),
            ("/endless", "too long"),
            ("/cut", "too early"),
            ("/words", "not what it should be"),
            ("/greeting", "does not speak HTTP"),
            ("/elsewhere", "answers 404"),
            ("/slow", "too long"),
        ] {
            let said = refused(path).await;
            assert!(said.contains(told) || (path == "/slow" && said.contains("takes too long")), "{path}: {said}");
        }
        // Who is not believed is not asked.
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let stranger = Fetcher::new(Some(&other.cert.pem()), true).unwrap();
        let error = stranger.get::<serde_json::Value>(&format!("{url}/good")).await.unwrap_err();
        assert!(matches!(error, FetchError::Tls(_)), "{error:?}");
    }

    #[tokio::test]
    async fn only_https_is_spoken_and_to_nobody_by_name_and_password() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let fetcher = Fetcher::new(Some(&certificate.cert.pem()), true).unwrap();
        for url in ["http://localhost/", "https://user@localhost/", "localhost", "file:///etc/passwd", ""] {
            assert!(matches!(fetcher.get::<serde_json::Value>(url).await, Err(FetchError::Url)), "{url}");
        }
        assert!(matches!(Fetcher::new(Some("nonsense"), false), Err(RootsError::Bundle)));
    }
}
