//! Servers that are hostile or broken. No real one behaves so; what they may not get is the password, our memory or our
//! time. How real ones are reached is tested against real ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postern_crds::TlsMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::wire::backend::{self, BackendKeyData, NegotiateProtocolVersion, ParameterStatus};
use crate::wire::startup::PROTOCOL_3_0;

const PASSWORD: &str = "correct horse";

/// What a connection to a server that answers so comes to, and what the server was sent.
async fn against<F>(mode: TlsMode, wait: Duration, answer: impl FnOnce(TcpStream) -> F) -> (ConnectError, Vec<u8>)
where
    F: Future<Output = Vec<u8>> + Send + 'static,
{
    with_credential(Credential::new("u", PASSWORD), mode, wait, answer).await
}

async fn with_credential<F>(
    credential: Credential,
    mode: TlsMode,
    wait: Duration,
    answer: impl FnOnce(TcpStream) -> F,
) -> (ConnectError, Vec<u8>)
where
    F: Future<Output = Vec<u8>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Arc::new(UpstreamConfig {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        database: "d".into(),
        credential,
        tls: Tls::new(mode, None).unwrap(),
        timeout: wait,
    });
    let client = tokio::spawn(async move { connect(&config, &[], PROTOCOL_3_0).await });
    let (socket, _) = listener.accept().await.unwrap();
    let server = tokio::spawn(answer(socket));
    let error = client.await.unwrap().unwrap_err();
    let text = format!("{error:?} {error} {:?}", error.to_fields());
    assert!(!text.contains(PASSWORD), "{text}");
    (error, server.await.unwrap())
}

/// Reads the startup packet, answers with `bytes`, and collects what comes then.
async fn answered(mode: TlsMode, bytes: Vec<u8>) -> (ConnectError, Vec<u8>) {
    answered_to(Credential::new("u", PASSWORD), mode, bytes).await
}

async fn answered_to(credential: Credential, mode: TlsMode, bytes: Vec<u8>) -> (ConnectError, Vec<u8>) {
    with_credential(credential, mode, Duration::from_secs(5), |mut socket| async move {
        let mut packet = [0; 512];
        _ = socket.read(&mut packet).await;
        _ = socket.write_all(&bytes).await;
        _ = socket.shutdown().await;
        let mut got = Vec::new();
        _ = socket.read_to_end(&mut got).await;
        got
    })
    .await
}

fn authentication(code: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).unwrap();
    [b"R".as_slice(), &length.to_be_bytes(), &code.to_be_bytes(), rest].concat()
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

#[tokio::test]
async fn a_guarded_password_is_not_sent_to_a_server_that_nobody_verified() {
    for (method, rest) in [(3, b"".as_slice()), (5, b"salt")] {
        let guarded = Credential::guarded("u", PASSWORD);
        let (error, sent) = answered_to(guarded, TlsMode::Disable, authentication(method, rest)).await;
        assert!(matches!(error, ConnectError::CleartextRefused | ConnectError::UnverifiedServer), "{error:?}");
        assert!(sent.is_empty(), "{sent:?}");
    }
}

#[tokio::test]
async fn a_password_is_never_sent_in_cleartext_over_tcp() {
    let (error, got) = answered(TlsMode::Disable, authentication(3, &[])).await;
    assert!(matches!(error, ConnectError::CleartextRefused));
    assert!(got.is_empty());
}

#[tokio::test]
async fn scram_can_not_be_cut_short() {
    let ask = authentication(10, b"SCRAM-SHA-256\0\0");
    // Logged in, without the server's proof, at each step of it; and another method after it.
    for bytes in [
        [ask.clone(), authentication(0, &[])].concat(),
        [ask.clone(), authentication(12, b"v=AAAA")].concat(),
        [ask.clone(), authentication(11, b"r=x,s=AAAA,i=1")].concat(),
        [ask.clone(), authentication(3, &[])].concat(),
        [ask.clone(), authentication(5, &[1, 2, 3, 4])].concat(),
        [ask.clone(), ask.clone()].concat(),
    ] {
        let (error, got) = answered(TlsMode::Disable, bytes).await;
        assert!(matches!(error, ConnectError::Unexpected | ConnectError::Scram(_)), "{error:?}");
        assert!(!got.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
    }
}

#[tokio::test]
async fn methods_that_are_not_known_are_refused() {
    for bytes in [authentication(7, &[]), authentication(9, &[]), authentication(10, b"SCRAM-SHA-1\0\0")] {
        assert!(matches!(answered(TlsMode::Disable, bytes).await.0, ConnectError::Method));
    }
    // Only with a binding to TLS, which there is not.
    let plus = authentication(10, b"SCRAM-SHA-256-PLUS\0\0");
    assert!(matches!(answered(TlsMode::Disable, plus).await.0, ConnectError::Method));
}

#[tokio::test]
async fn what_has_no_place_in_a_login_ends_it() {
    let ok = authentication(0, &[]);
    let status = written(|out| ParameterStatus { name: "n".into(), value: "v".into() }.write(out));
    let key = written(|out| BackendKeyData { pid: 1, key: &[1; 4] }.write(out));
    let ready = written(|out| TransactionStatus::Idle.write(out));
    let newer = written(|out| NegotiateProtocolVersion { version: 3 << 16 | 9, unknown_options: vec![] }.write(out));
    let row = written(|out| backend::write_data_row(out, [Some(b"x".as_slice())].into_iter()));
    for bytes in [
        ready.clone(),
        status.clone(),
        key,
        newer,
        [ok.clone(), row].concat(),
        [ok.clone(), ok.clone()].concat(),
        [ok.clone(), b"K\0\0\0\x08\0\0\0\x01".to_vec()].concat(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // An error that claims a gibibyte.
        b"E\x3f\xff\xff\xff".to_vec(),
        b"R\0\0\0\x03".to_vec(),
    ] {
        let (error, _) = answered(TlsMode::Disable, bytes.clone()).await;
        assert_eq!(error.sqlstate(), "08P01", "{}: {error:?}", bytes.escape_ascii());
    }
    assert_eq!(answered(TlsMode::Disable, ok).await.0.sqlstate(), "08006");
    assert_eq!(answered(TlsMode::Disable, Vec::new()).await.0.sqlstate(), "08006");
}

#[tokio::test]
async fn a_login_without_end_ends() {
    let mut settings = authentication(0, &[]);
    for number in 0..10_000 {
        let name = format!("setting{number}");
        settings.extend(written(|out| ParameterStatus { name: name.into(), value: "v".into() }.write(out)));
    }
    assert!(matches!(answered(TlsMode::Disable, settings).await.0, ConnectError::Unexpected));

    let notice = written(|out| Fields::new("NOTICE", "00000", "x".repeat(60_000)).write_notice(out));
    assert!(matches!(answered(TlsMode::Disable, notice.repeat(100)).await.0, ConnectError::Unexpected));
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_longer_than_the_timeout() {
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let began = Instant::now();
        let (error, _) = against(mode, Duration::from_millis(300), |mut socket| async move {
            let mut got = Vec::new();
            _ = socket.read_to_end(&mut got).await;
            got
        })
        .await;
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn the_answer_to_ssl_request_is_one_byte_and_what_follows_it_is_not_believed() {
    assert!(matches!(answered(TlsMode::Require, b"N".to_vec()).await.0, ConnectError::TlsRefused));
    // From before there was TLS, or from someone in between: not shown.
    let error = written(|out| Fields::new("FATAL", "28000", "send me your password").write_error(out));
    let (error, _) = answered(TlsMode::Require, error).await;
    assert!(matches!(error, ConnectError::TlsRefused) && !error.to_string().contains("send me"));
    assert_eq!(answered(TlsMode::Require, b"X".to_vec()).await.0.sqlstate(), "08P01");
    // Plaintext that wants to be taken for what came encrypted.
    let injected = [b"S".to_vec(), authentication(3, &[])].concat();
    let (error, got) = answered(TlsMode::Require, injected).await;
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(!got.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
}

#[test]
fn an_error_of_the_server_is_told_without_its_inner_fields() {
    let fields = Fields::new("FATAL", "28P01", "no")
        .with(Fields::FILE, "auth.c")
        .with(Fields::WHERE, "inner")
        .with(Fields::HINT, "help");
    let told = ConnectError::Server(fields).to_fields();
    assert_eq!((told.code(), told.get(Fields::HINT)), ("28P01", Some("help")));
    assert_eq!((told.get(Fields::FILE), told.get(Fields::WHERE)), (None, None));
}
