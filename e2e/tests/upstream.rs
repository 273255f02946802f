//! Connections of the proxy to real servers: TLS modes, ways to log in, protocol versions, cancelling.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_crds::TlsMode;
use postern_e2e::postgres::{ADMIN, ADMIN_PASSWORD, Server, ServerOptions};
use postern_sidecar::upstream::{ConnectError, Credential, QueryError, Tls, Upstream, UpstreamConfig, connect};
use postern_sidecar::wire::startup::{PROTOCOL_3_0, PROTOCOL_3_2};

fn config(host: &str, port: u16, password: &str, tls: Tls) -> Arc<UpstreamConfig> {
    Arc::new(UpstreamConfig {
        host: host.into(),
        port,
        database: "postgres".into(),
        credential: Credential::new(ADMIN, password),
        tls,
        timeout: Duration::from_secs(10),
    })
}

fn plain() -> Tls {
    Tls::new(TlsMode::Disable, None).unwrap()
}

async fn first(upstream: &mut Upstream, sql: &str) -> String {
    upstream.query(sql).await.unwrap()[0][0].clone().unwrap()
}

fn start(auth: &str, tls: bool) -> Server {
    let hba = vec![format!("host all all 127.0.0.2/32 {auth}")];
    let settings = vec![("listen_addresses".into(), "127.0.0.1,127.0.0.2".into())];
    Server::start(&ServerOptions { auth: auth.into(), tls, hba, settings, ..ServerOptions::default() }).unwrap()
}

#[tokio::test]
async fn each_tls_mode_verifies_what_it_says() {
    let server = start("scram-sha-256", true);
    let ca = server.ca().unwrap().as_bytes();
    let other = start("scram-sha-256", true);
    let other_ca = other.ca().unwrap().as_bytes();
    let good = |tls: &Result<Upstream, ConnectError>| tls.is_ok();
    for (mode, ca, host, works) in [
        (TlsMode::Disable, None, "127.0.0.1", true),
        (TlsMode::Require, None, "127.0.0.1", true),
        (TlsMode::VerifyCa, Some(ca), "127.0.0.1", true),
        // The certificate does not name this address.
        (TlsMode::VerifyCa, Some(ca), "127.0.0.2", true),
        (TlsMode::VerifyCa, Some(other_ca), "127.0.0.1", false),
        (TlsMode::VerifyFull, Some(ca), "127.0.0.1", true),
        (TlsMode::VerifyFull, Some(ca), "localhost", true),
        (TlsMode::VerifyFull, Some(ca), "127.0.0.2", false),
        (TlsMode::VerifyFull, Some(other_ca), "127.0.0.1", false),
    ] {
        let config = config(host, server.port(), ADMIN_PASSWORD, Tls::new(mode, ca).unwrap());
        let result = connect(&config, &[], PROTOCOL_3_0).await;
        assert_eq!(good(&result), works, "{mode:?} {host}: {result:?}");
        match result {
            Ok(mut upstream) => {
                let encrypted = first(&mut upstream, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
                assert_eq!(encrypted == "t", mode != TlsMode::Disable, "{mode:?}");
            }
            Err(error) => assert!(matches!(error, ConnectError::Tls(_)) && error.sqlstate() == "08001", "{error:?}"),
        }
    }
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
        assert!(Tls::new(mode, None).is_err(), "a mode that verifies needs a CA");
        assert!(Tls::new(mode, Some(b"no certificate")).is_err());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let server = Server::shared().unwrap();
    let config = config("127.0.0.1", server.port(), ADMIN_PASSWORD, Tls::new(TlsMode::Require, None).unwrap());
    assert!(matches!(connect(&config, &[], PROTOCOL_3_0).await, Err(ConnectError::TlsRefused)));
}

#[tokio::test]
async fn every_way_to_log_in_works_and_cleartext_only_where_nobody_can_listen() {
    for (auth, tls, works) in [
        ("scram-sha-256", false, true),
        // SCRAM-SHA-256-PLUS: the server holds the certificate's hash against its own.
        ("scram-sha-256", true, true),
        ("md5", false, true),
        ("md5", true, true),
        ("trust", false, true),
        ("password", false, false),
        ("password", true, true),
    ] {
        let server = start(auth, tls);
        let mode = if tls { Tls::new(TlsMode::VerifyFull, server.ca().map(str::as_bytes)).unwrap() } else { plain() };
        let result =
            connect(&config("127.0.0.1", server.port(), ADMIN_PASSWORD, mode.clone()), &[], PROTOCOL_3_0).await;
        match result {
            Ok(mut upstream) => {
                assert!(works, "{auth} tls={tls}");
                assert_eq!(first(&mut upstream, "SELECT 7").await, "7");
                upstream.close().await;
            }
            Err(error) => assert!(!works && matches!(error, ConnectError::CleartextRefused), "{auth}: {error:?}"),
        }
        if works && auth != "trust" {
            let wrong = config("127.0.0.1", server.port(), "hunter2-secret", mode);
            let error = connect(&wrong, &[], PROTOCOL_3_0).await.unwrap_err();
            assert_eq!(error.sqlstate(), "28P01", "{auth}: {error:?}");
            assert!(!format!("{error:?} {error} {:?} {wrong:?}", error.to_fields()).contains("hunter2-secret"));
        }
    }
}

#[tokio::test]
async fn a_login_by_unix_socket_works_and_errors_say_what_is_wrong() {
    let server = Server::shared().unwrap();
    let folder = server.socket_folder().to_str().unwrap();
    let good = config(folder, server.port(), "", plain());
    let parameters = [("application_name".to_owned(), "me".to_owned()), ("role".to_owned(), ADMIN.to_owned())];
    let mut upstream = connect(&good, &parameters, PROTOCOL_3_0).await.unwrap();
    assert_eq!(first(&mut upstream, "SHOW application_name").await, "me");
    assert!(upstream.parameters.iter().any(|(name, value)| name == "server_encoding" && value == "UTF8"));
    assert!(upstream.backend_pid != 0);

    let missing = [("role".to_owned(), "nobody".to_owned())];
    let error = connect(&good, &missing, PROTOCOL_3_0).await.unwrap_err();
    assert_eq!(error.sqlstate(), "22023", "{error:?}");
    let error = connect(&config("127.0.0.1", 1, "", plain()), &[], PROTOCOL_3_0).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08001");
    let error = connect(&config("nowhere.invalid", 1, "", plain()), &[], PROTOCOL_3_0).await.unwrap_err();
    assert!(matches!(error, ConnectError::Resolve(_)), "{error:?}");
}

#[tokio::test]
async fn the_protocol_version_is_negotiated_down() {
    let server = Server::shared().unwrap();
    let config = config("127.0.0.1", server.port(), ADMIN_PASSWORD, plain());
    let mut upstream = connect(&config, &[], PROTOCOL_3_2).await.unwrap();
    let expected = if server.version().unwrap() >= 18 { PROTOCOL_3_2 } else { PROTOCOL_3_0 };
    assert_eq!(upstream.protocol, expected);
    assert_eq!(first(&mut upstream, "SELECT 1").await, "1");
}

#[tokio::test]
async fn queries_stream_their_rows_and_errors_leave_the_connection_good() {
    let server = Server::shared().unwrap();
    let config = config("127.0.0.1", server.port(), ADMIN_PASSWORD, plain());
    let mut upstream = connect(&config, &[], PROTOCOL_3_0).await.unwrap();
    let (mut rows, mut nulls) = (0_u64, 0_u64);
    let sql = "SELECT i, NULLIF(i % 2, 0), repeat('x', 300) FROM generate_series(1, 200000) i";
    upstream
        .for_each_row(sql, |row| {
            rows += row[0].unwrap().parse::<u64>().unwrap();
            nulls += u64::from(row[1].is_none());
        })
        .await
        .unwrap();
    assert_eq!((rows, nulls), (200_000 * 200_001 / 2, 100_000));
    assert!(upstream.leftover.capacity() < 1 << 20, "rows are not held");

    match upstream.query("SELECT 1; SELECT 1 / 0; SELECT 2").await {
        Err(QueryError::Server(fields)) => assert_eq!(fields.code(), "22012"),
        other => panic!("{other:?}"),
    }
    assert_eq!(upstream.query("SELECT 1; SELECT 2").await.unwrap().len(), 2);
    assert!(upstream.query("").await.unwrap().is_empty());
    upstream.query("LISTEN c; NOTIFY c, 'hello'").await.unwrap();
    upstream.query("SELECT 1").await.unwrap();
    assert!(upstream.aside.windows(5).any(|part| part == b"hello"), "a notification is kept for its reader");
}

#[tokio::test]
async fn a_running_statement_is_cancelled_over_the_same_transport() {
    let server = start("scram-sha-256", true);
    let full = Tls::new(TlsMode::VerifyFull, server.ca().map(str::as_bytes)).unwrap();
    let folder = server.socket_folder().to_str().unwrap();
    for (host, tls) in [("127.0.0.1", plain()), ("127.0.0.1", full), (folder, plain())] {
        let config = config(host, server.port(), ADMIN_PASSWORD, tls);
        let mut upstream = connect(&config, &[], PROTOCOL_3_0).await.unwrap();
        let token = upstream.cancel_token().clone();
        let began = Instant::now();
        let sleeper = tokio::spawn(async move { upstream.query("SELECT pg_sleep(30)").await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel().await.unwrap();
        match sleeper.await.unwrap() {
            Err(QueryError::Server(fields)) => assert_eq!(fields.code(), "57014"),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

/// What the keys cost is paid once, so sessions don't each pay it again.
#[tokio::test]
async fn later_logins_do_not_derive_the_keys_again() {
    let server = start("scram-sha-256", false);
    server
        .psql(
            "postgres",
            // A verifier with 400,000 iterations costs a tenth of a second or more to derive keys for.
            "CREATE ROLE slow LOGIN PASSWORD 'SCRAM-SHA-256$400000:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='",
        )
        .unwrap();
    let config = Arc::new(UpstreamConfig {
        host: "127.0.0.1".into(),
        port: server.port(),
        database: "postgres".into(),
        credential: Credential::new("slow", "not the password"),
        tls: plain(),
        timeout: Duration::from_secs(20),
    });
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(connect(&config, &[], PROTOCOL_3_0).await.unwrap_err().sqlstate(), "28P01");
        times.push(began.elapsed());
    }
    assert!(times[1] * 2 < times[0] && times[2] * 2 < times[0], "{times:?}");
}

/// Servers often have one certificate that signed itself, which clients get as the CA; openssl marks it as one.
#[tokio::test]
async fn a_certificate_that_signed_itself_is_verified_against_itself() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let make = |name: &str, is_ca: bool, until: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let other = make("127.0.0.1", true, 4000).0;
    for (mode, name, is_ca, until, own, works) in [
        (TlsMode::VerifyFull, "127.0.0.1", true, 4000, true, true),
        (TlsMode::VerifyFull, "127.0.0.1", false, 4000, true, true),
        (TlsMode::VerifyFull, "elsewhere", true, 4000, true, false),
        (TlsMode::VerifyFull, "127.0.0.1", true, 2001, true, false),
        (TlsMode::VerifyFull, "127.0.0.1", true, 4000, false, false),
        (TlsMode::VerifyCa, "elsewhere", true, 4000, true, true),
        (TlsMode::VerifyCa, "elsewhere", true, 2001, true, false),
        (TlsMode::VerifyCa, "elsewhere", false, 4000, false, false),
    ] {
        let (pem, key) = make(name, is_ca, until);
        let acceptor = tokio_rustls::TlsAcceptor::from(
            postern_sidecar::listen::client_tls(pem.as_bytes(), key.as_bytes()).unwrap(),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ca = if own { &pem } else { &other };
        let tls = Tls::new(mode, Some(ca.as_bytes())).unwrap();
        let config = config("127.0.0.1", listener.local_addr().unwrap().port(), "", tls);
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; 8]).await.unwrap();
            socket.write_all(b"S").await.unwrap();
            // It is TLS that is tested: nothing follows.
            if let Ok(mut tls) = acceptor.accept(socket).await {
                _ = tls.shutdown().await;
            }
        });
        let error = connect(&config, &[], PROTOCOL_3_0).await.unwrap_err();
        server.await.unwrap();
        let reached = matches!(error, ConnectError::Closed(_));
        assert_eq!(reached, works, "{mode:?} {name} ca={is_ca} until {until} own={own}: {error:?}");
    }
}
