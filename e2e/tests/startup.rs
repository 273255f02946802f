//! The start-up of sessions against a real server: TLS for clients, protocol versions, settings, cancelling, and what
//! hostile clients send. Between start-up and end the bytes are passed on as they are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_crds::TlsMode;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, clean_environment};
use postern_e2e::wire::{SSL_REQUEST, startup};
use postern_sidecar::config::ListenAddress;
use postern_sidecar::decide::settings::{self, SetDecision};
use postern_sidecar::listen::{self, Accepted, Listeners};
use postern_sidecar::session::handshake::{self, Accept, Door, Terms};
use postern_sidecar::upstream::{Credential, Tls, UpstreamConfig};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Listeners in front of the shared server, until dropped.
struct Front {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    folder: PathBuf,
    ca: String,
    door: Door,
}

impl Front {
    fn start(max_connections: usize, with_tls: bool) -> Self {
        let server = Server::shared().unwrap();
        server
            .psql("postgres", "SELECT pg_advisory_lock(7); DO $$ BEGIN CREATE ROLE reporting; EXCEPTION WHEN duplicate_object THEN END $$")
            .unwrap();
        let upstream = Arc::new(UpstreamConfig {
            host: "127.0.0.1".into(),
            port: server.port(),
            database: "postgres".into(),
            credential: Credential::new(ADMIN, ADMIN_PASSWORD),
            tls: Tls::new(TlsMode::Disable, None).unwrap(),
            timeout: Duration::from_secs(10),
        });
        let folder = postern_e2e::temporary_folder("front").unwrap();
        let (ca, tls) = certificate();
        let door = Door::new(with_tls.then_some(tls), max_connections);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let handler_door = door.clone();
        let path = folder.clone();
        let thread = std::thread::spawn(move || {
            let handler = move |accepted: Accepted| serve(accepted, handler_door.clone(), Arc::clone(&upstream));
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let wanted = [ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), ListenAddress::Unix(path)];
                let listeners = Listeners::bind(&wanted).await.unwrap();
                tell.send(listeners.addresses().unwrap()).unwrap();
                let stop = async { _ = stopped.await };
                listen::serve(listeners, 2, stop, || (), handler).await.unwrap();
            });
        });
        let addresses = told.recv().unwrap();
        let ListenAddress::Tcp(address) = addresses[0] else { panic!("{addresses:?}") };
        Self { address, stop: Some(stop), thread: Some(thread), folder, ca, door }
    }

    fn psql(&self, conninfo: &str, sql: &str) -> (String, String) {
        let mut command = Command::new(Server::shared().unwrap().client_program("psql"));
        clean_environment(&mut command);
        let target = format!("host=127.0.0.1 port={} dbname=postgres user=anyone {conninfo}", self.address.port());
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &target]);
        let output = command.output().unwrap();
        (
            String::from_utf8(output.stdout).unwrap().trim().into(),
            String::from_utf8(output.stderr).unwrap().trim().into(),
        )
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// One connection: start-up, then bytes both ways.
async fn serve(accepted: Accepted, door: Door, upstream: Arc<UpstreamConfig>) {
    let Accepted { socket, seat, .. } = accepted;
    let terms = || {
        Ok(Terms {
            database: "postgres".into(),
            role: "reporting".into(),
            application_prefix: "postern/shop/nightly/".into(),
            statement_timeout: Some(Duration::from_secs(30)),
            settings: Vec::new(),
            judge: Box::new(|name, value| {
                let context = settings::Context {
                    row_filters: false,
                    custom: &|_| false,
                    role: "reporting",
                    statement_timeout: Some(Duration::from_secs(30)),
                };
                Ok(match settings::startup(&context, name, value)? {
                    SetDecision::Value(value) => Accept::Replace(value),
                    _ => Accept::Forward,
                })
            }),
            upstream,
        })
    };
    if let Ok(Some(mut ready)) = handshake::start(socket, &door, seat, terms).await {
        assert!(ready.upstream.leftover.is_empty());
        _ = tokio::io::copy_bidirectional(&mut ready.client, &mut ready.upstream.stream).await;
    }
}

/// A certificate for `localhost` that signed itself, and what serves it.
fn certificate() -> (String, Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let tls = listen::client_tls(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    (pem, tls)
}

const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// (tag, body) up to ReadyForQuery or the end.
fn messages(socket: &mut impl Read) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    let mut head = [0; 5];
    while socket.read_exact(&mut head).is_ok() {
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        socket.read_exact(&mut body).unwrap();
        all.push((head[0], body));
        if head[0] == b'Z' {
            break;
        }
    }
    all
}

fn tags(messages: &[(u8, Vec<u8>)]) -> String {
    messages.iter().map(|(tag, _)| char::from(*tag)).collect()
}

fn sqlstate(messages: &[(u8, Vec<u8>)]) -> String {
    let (_, body) = messages.iter().find(|(tag, _)| *tag == b'E').expect("an error");
    let code = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C')).unwrap();
    String::from_utf8(code[1..].to_vec()).unwrap()
}

#[test]
fn psql_gets_its_session_and_the_proxys_settings_hold() {
    let front = Front::start(20, false);
    let sql = "SELECT current_user, current_setting('statement_timeout'), current_setting('client_encoding')";
    assert_eq!(front.psql("", sql).0, "reporting|30s|UTF8");
    assert_eq!(front.psql("client_encoding=LATIN1", sql).0, "reporting|30s|UTF8");
    assert_eq!(front.psql("", "SHOW application_name").0, "postern/shop/nightly/psql");
    assert_eq!(front.psql("", r"\encoding").0, "UTF8", "the client is told the encoding that holds");
    assert_eq!(front.psql("options='-c statement_timeout=5s -c geqo=off'", "SHOW statement_timeout").0, "5s");
    assert_eq!(front.psql("options='-c statement_timeout=0'", "SHOW statement_timeout").0, "30s");
    // It comes with the start-up, so neither RESET nor DISCARD ALL lose it.
    assert_eq!(front.psql("", "RESET ROLE; SELECT current_user").0, "RESET\nreporting");
}

#[test]
fn what_a_client_may_not_ask_for_is_refused_and_says_why() {
    let front = Front::start(20, false);
    for (conninfo, says) in [
        ("dbname=other", "database \"other\" is not available here"),
        ("replication=database", "replication connections are not available"),
        ("replication=true", "replication connections are not available"),
        ("options='-c role=postgres'", "role can't be chosen"),
        ("options='-c session_preload_libraries=x'", "session_preload_libraries"),
        ("options='-d 5'", "only settings can be given"),
        ("sslmode=require", "server does not support SSL"),
    ] {
        let (out, error) = front.psql(conninfo, "SELECT 1");
        assert!(out.is_empty() && error.contains(says), "{conninfo}: {out} {error}");
    }
}

#[test]
fn clients_may_use_tls_or_not() {
    let front = Front::start(20, true);
    let root = front.folder.join("root.crt");
    std::fs::write(&root, &front.ca).unwrap();
    let verified = format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}", root.display());
    assert_eq!(front.psql(&verified, "SELECT 1").0, "1");
    for mode in ["disable", "prefer", "require"] {
        assert_eq!(front.psql(&format!("sslmode={mode}"), "SELECT 1").0, "1", "{mode}");
    }
}

#[test]
fn unix_sockets_are_the_owners_and_have_no_tls() {
    let front = Front::start(20, true);
    let path = front.folder.join(".s.PGSQL.5432");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
    socket.write_all(&startup(3 << 16, &[("user", "x"), ("database", "postgres")])).unwrap();
    assert!(tags(&messages(&mut socket)).ends_with("KZ"));
    drop(socket);
    drop(front);
    assert!(!path.exists(), "the socket's file goes with it");
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = postern_e2e::temporary_folder("stale").unwrap();
    let path = folder.join("postern.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let wanted = [ListenAddress::Unix(path.clone())];
    let first = Listeners::bind(&wanted).await.unwrap();
    assert_eq!(Listeners::bind(&wanted).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    std::fs::write(&path, "a file of someone's").unwrap();
    assert_eq!(Listeners::bind(&wanted).await.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of someone's");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn protocol_versions_and_options_are_negotiated() {
    let front = Front::start(20, false);
    let base = [("user", "x"), ("database", "postgres")];
    for (minor, extra, negotiated, key) in [
        (0, None, None, 4),
        (1, None, None, 4),
        (2, None, None, 32),
        (9999, None, Some(0), 32),
        (2, Some("_pq_.test_protocol_negotiation"), Some(1), 32),
        (0, Some("_pq_.x"), Some(1), 4),
    ] {
        let mut socket = front.connect();
        let parameters: Vec<_> = base.into_iter().chain(extra.map(|name| (name, "1"))).collect();
        socket.write_all(&startup(3 << 16 | minor, &parameters)).unwrap();
        let got = messages(&mut socket);
        let negotiation = got.iter().find(|(tag, _)| *tag == b'v');
        assert_eq!(negotiation.map(|(_, body)| u32::from_be_bytes(body[4..8].try_into().unwrap())), negotiated);
        if let Some((_, body)) = negotiation {
            assert_eq!(tags(&got).find('v'), Some(0));
            let agreed = u32::from_be_bytes(body[..4].try_into().unwrap());
            assert_eq!(agreed, 3 << 16 | minor.min(2));
        }
        let (_, body) = got.iter().find(|(tag, _)| *tag == b'K').unwrap();
        assert_eq!(body.len() - 4, key, "minor {minor}");
    }
    let mut socket = front.connect();
    socket.write_all(&startup(2 << 16, &base)).unwrap();
    assert_eq!(sqlstate(&messages(&mut socket)), "0A000");
}

#[test]
fn the_client_reads_its_own_application_name() {
    let front = Front::start(20, false);
    let mut socket = front.connect();
    let parameters = [("user", "x"), ("database", "postgres"), ("application_name", "my app")];
    socket.write_all(&GSSENC_REQUEST).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
    socket.write_all(&startup(3 << 16, &parameters)).unwrap();
    let got = messages(&mut socket);
    assert!(got.contains(&(b'S', b"application_name\0my app\0".to_vec())));
    assert!(got.contains(&(b'S', b"client_encoding\0UTF8\0".to_vec())));
    assert_eq!(tags(&got).replace('S', ""), "RKZ");
}

#[test]
fn a_cancel_request_reaches_the_clients_own_statement_and_needs_the_right_key() {
    let front = Front::start(20, true);
    for version in [3 << 16, 3 << 16 | 2] {
        let mut socket = front.connect();
        socket.write_all(&startup(version, &[("user", "x"), ("database", "postgres")])).unwrap();
        let got = messages(&mut socket);
        let (_, key) = got.into_iter().find(|(tag, _)| *tag == b'K').unwrap();
        let sql = b"SELECT pg_sleep(30)\0";
        socket.write_all(&[b"Q".as_slice(), &(sql.len() as u32 + 4).to_be_bytes(), sql].concat()).unwrap();
        std::thread::sleep(Duration::from_millis(300));

        let cancel = |key: &[u8]| {
            let length = u32::try_from(key.len() + 8).unwrap();
            let mut socket = front.connect();
            socket.write_all(&[&length.to_be_bytes(), [4, 210, 22, 46].as_slice(), key].concat()).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert!(answer.is_empty());
        };
        let began = Instant::now();
        let mut wrong = key.clone();
        *wrong.last_mut().unwrap() ^= 1;
        cancel(&wrong);
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert!(socket.peek(&mut [0]).is_err(), "a wrong key cancels nothing");
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        cancel(&key);
        assert_eq!(sqlstate(&messages(&mut socket)), "57014");
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(socket);
        // Once the session has ended its key means nothing.
        let pid = u32::from_be_bytes(key[..4].try_into().unwrap());
        let until = Instant::now() + Duration::from_secs(5);
        while front.door.registry.find(pid, &key[4..]).is_some() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn connections_over_the_limit_are_told_and_may_still_cancel() {
    let front = Front::start(1, false);
    let mut first = front.connect();
    let hello = startup(3 << 16, &[("user", "x"), ("database", "postgres")]);
    first.write_all(&hello).unwrap();
    let got = messages(&mut first);
    let (_, key) = got.into_iter().find(|(tag, _)| *tag == b'K').unwrap();
    let mut second = front.connect();
    second.write_all(&hello).unwrap();
    assert_eq!(sqlstate(&messages(&mut second)), "53300");

    let sql = b"SELECT pg_sleep(30)\0";
    first.write_all(&[b"Q".as_slice(), &(sql.len() as u32 + 4).to_be_bytes(), sql].concat()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut canceller = front.connect();
    canceller.write_all(&[[0, 0, 0, 16, 4, 210, 22, 46].as_slice(), &key].concat()).unwrap();
    assert_eq!(sqlstate(&messages(&mut first)), "57014");

    drop(first);
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let mut third = front.connect();
        third.write_all(&hello).unwrap();
        if tags(&messages(&mut third)).ends_with('Z') {
            break;
        }
        assert!(Instant::now() < until, "the place of a session that ended is free again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn hostile_start_ups_get_an_error_or_nothing_and_cost_nobody_else() {
    let front = Front::start(50, true);
    let hello = startup(3 << 16, &[("user", "x"), ("database", "postgres")]);
    let _silent: Vec<TcpStream> = (0..20).map(|_| front.connect()).collect();
    let two = [SSL_REQUEST, SSL_REQUEST].concat();
    for (bytes, outcome) in [
        (vec![0, 0, 0, 0], "08P01"),
        (vec![0, 0, 0, 7, 0, 0, 0], "08P01"),
        (vec![0x7f, 0xff, 0xff, 0xff], "54000"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "54000"),
        (vec![0, 0, 0, 8, 0, 3, 0, 0], "08P01"),
        (vec![0, 0, 0, 9, 4, 210, 22, 47, 0], "08P01"),
        (vec![0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1], "08P01"),
        ([startup(3 << 16, &[("user", "x")]), vec![1; 3]].concat(), "ready"),
        (vec![0, 0, 0, 16, 0, 3, 0, 0, b'u', 0, 0xff, 0xfe, 0, 0, 0, 0], "22021"),
        ([GSSENC_REQUEST, GSSENC_REQUEST].concat(), "N08P01"),
        // Sent ahead of the answer: it is for the TLS handshake, which fails.
        ([SSL_REQUEST.as_slice(), &hello].concat(), "S"),
        (two, "S"),
        (vec![0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], ""),
        (vec![0x16], ""),
        (Vec::new(), ""),
    ] {
        let mut socket = front.connect();
        socket.write_all(&bytes).unwrap();
        if outcome != "ready" {
            socket.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut prefix = String::new();
        if outcome.starts_with(['N', 'S']) {
            let mut answer = [0];
            socket.read_exact(&mut answer).unwrap();
            prefix.push(char::from(answer[0]));
        }
        if outcome == "S" || outcome.is_empty() {
            let mut rest = Vec::new();
            _ = socket.read_to_end(&mut rest);
            // A TLS alert at most: no message of the protocol.
            assert!(rest.first().is_none_or(|byte| *byte == 0x15), "{bytes:?}: {rest:?}");
            assert_eq!(prefix, outcome);
        } else {
            let got = messages(&mut socket);
            let outcome = if outcome == "ready" { "KZ" } else { outcome };
            if outcome == "KZ" {
                assert!(tags(&got).ends_with(outcome), "{bytes:?}");
            } else {
                assert_eq!(format!("{prefix}{}", sqlstate(&got)), outcome, "{bytes:?}");
            }
        }
    }
    assert_eq!(front.psql("", "SELECT 1").0, "1");
}

#[test]
fn direct_tls_needs_the_protocols_name() {
    let front = Front::start(20, true);
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(front.ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut plain = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut named = plain.clone();
    named.alpn_protocols = vec![b"postgresql".to_vec()];
    plain.alpn_protocols = Vec::new();
    for (config, works) in [(named, true), (plain, false)] {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tls = StreamOwned::new(session, front.connect());
        _ = tls.write_all(&startup(3 << 16, &[("user", "x"), ("database", "postgres")]));
        assert_eq!(tags(&messages(&mut tls)).ends_with("KZ"), works);
    }
}

#[test]
fn a_server_that_refuses_is_quoted_without_its_inner_fields() {
    let front = Front::start(20, false);
    let (out, error) = front.psql("options='-c TimeZone=Nowhere/AtAll'", "SELECT 1");
    assert!(out.is_empty() && error.contains("invalid value for parameter \"TimeZone\""), "{error}");
    assert!(!error.contains(ADMIN_PASSWORD) && !error.contains(ADMIN));
}
