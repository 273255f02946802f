//! Where the audit goes: standard output, a file, or a collector by OTLP over HTTP.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// How long keeping a batch may take; a sidecar waits a little longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer of a collector that is read.
const MAX_ANSWER: usize = 64 << 10;
/// Where a collector takes logs, if the URL has no path.
const LOGS: &str = "/v1/logs";

/// A sink can't be what is asked for.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It is none of those that there are.
    #[error("'{0}' is none of stdout, file:PATH and otlp:URL")]
    Unknown(String),
    /// The URL is none.
    #[error("'{0}' is no URL of http or https")]
    Url(String),
    /// The certificates of this machine can't be read.
    #[error("no certificates to verify a collector with")]
    Certificates(#[source] io::Error),
}

/// Keeps lines.
#[derive(Debug)]
pub struct Sink(Target);

#[derive(Debug)]
enum Target {
    /// One batch at a time: lines of two would mix.
    Stdout(Mutex<()>),
    /// Opened for each batch, so that it may be moved away at any time; on the disk before it is acknowledged.
    File(PathBuf, Mutex<()>),
    Collector(Uri, Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Sink {
    /// `stdout`, `file:PATH` or `otlp:URL`.
    pub fn new(text: &str) -> Result<Self, SinkError> {
        if text == "stdout" {
            return Ok(Self(Target::Stdout(Mutex::new(()))));
        }
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(Self(Target::File(path.into(), Mutex::new(()))));
        }
        let Some(url) = text.strip_prefix("otlp:") else { return Err(SinkError::Unknown(text.to_owned())) };
        let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.trim_end_matches('/').contains('/'));
        let url = if has_path { url.to_owned() } else { format!("{}{LOGS}", url.trim_end_matches('/')) };
        let uri: Uri = url.parse().map_err(|_| SinkError::Url(url.clone()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(SinkError::Url(url));
        }
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots();
        let connector = connector.map_err(SinkError::Certificates)?.https_or_http().enable_http1().build();
        Ok(Self(Target::Collector(uri, Client::builder(TokioExecutor::new()).build(connector))))
    }

    /// Keeps these objects, in this order; when it returns they are kept. After an error some of them may be.
    pub(super) async fn keep(&self, lines: Arc<Vec<Value>>) -> io::Result<()> {
        match tokio::time::timeout(PATIENCE, self.write(lines)).await {
            Ok(kept) => kept,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")),
        }
    }

    async fn write(&self, lines: Arc<Vec<Value>>) -> io::Result<()> {
        match &self.0 {
            Target::Stdout(turn) => {
                let _turn = turn.lock().await;
                blocking(move || {
                    let mut out = io::stdout().lock();
                    out.write_all(&text(&lines))?;
                    out.flush()
                })
                .await
            }
            Target::File(path, turn) => {
                let _turn = turn.lock().await;
                let path = path.clone();
                blocking(move || {
                    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
                    file.write_all(&text(&lines))?;
                    file.sync_data()
                })
                .await
            }
            Target::Collector(uri, client) => send(uri, client, &lines).await,
        }
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn text(lines: &[Value]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.to_string().as_bytes());
        text.push(b'\n');
    }
    text
}

async fn send(
    uri: &Uri,
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    lines: &[Value],
) -> io::Result<()> {
    let body = Full::new(Bytes::from(records(lines, &jiff::Timestamp::now()).to_string()));
    let request = Request::post(uri).header(header::CONTENT_TYPE, "application/json").body(body);
    let answer = client.request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
    if !status.is_success() {
        return Err(io::Error::other(format!("the collector answers {status}")));
    }
    match rejected(&body) {
        0 => Ok(()),
        rejected => Err(io::Error::other(format!("the collector rejects {rejected} events"))),
    }
}

/// An ExportLogsServiceRequest: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.
fn records(lines: &[Value], now: &jiff::Timestamp) -> Value {
    let nanos = |time: &jiff::Timestamp| time.as_nanosecond().to_string();
    let records = lines.iter().map(|line| {
        let time = line.get("time").and_then(Value::as_str).and_then(|time| time.parse().ok());
        let event = line.get("event").and_then(Value::as_str).unwrap_or("unknown");
        json!({
            "timeUnixNano": nanos(time.as_ref().unwrap_or(now)),
            "observedTimeUnixNano": nanos(now),
            "severityNumber": 9,
            "severityText": "INFO",
            "body": {"stringValue": line.to_string()},
            "attributes": [{"key": "event.name", "value": {"stringValue": format!("postern.{event}")}}],
        })
    });
    json!({"resourceLogs": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "postern"}}]},
        "scopeLogs": [{
            "scope": {"name": "postern.audit", "version": env!("CARGO_PKG_VERSION")},
            "logRecords": records.collect::<Vec<_>>(),
        }],
    }]})
}

/// How many records a collector that answers with success did not take; a number may be written as text.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = answer.pointer("/partialSuccess/rejectedLogRecords");
    count.and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_sink_is_one_of_three() {
        assert!(matches!(Sink::new("stdout").unwrap().0, Target::Stdout(_)));
        assert!(
            matches!(Sink::new("file:/var/log/audit").unwrap().0, Target::File(path, _) if path == *"/var/log/audit")
        );
        for (text, url) in [
            ("otlp:http://collector:4318", "http://collector:4318/v1/logs"),
            ("otlp:http://collector:4318/", "http://collector:4318/v1/logs"),
            ("otlp:https://collector/otlp/v1/logs", "https://collector/otlp/v1/logs"),
        ] {
            let Target::Collector(uri, _) = Sink::new(text).unwrap().0 else { unreachable!() };
            assert_eq!(uri.to_string(), url);
        }
        for wrong in ["", "stderr", "file:", "otlp:", "otlp:collector:4318", "otlp:ftp://collector", "otlp:http://"] {
            assert!(Sink::new(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_file_has_all_batches_and_may_be_moved_away() {
        let folder = std::env::temp_dir().join(format!("postern-sink-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        let (path, moved) = (folder.join("audit"), folder.join("audit.1"));
        let sink = Sink::new(&format!("file:{}", path.display())).unwrap();
        sink.keep(Arc::new(vec![json!({"n": 1}), json!({"n": 2})])).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":2}\n");
        std::fs::rename(&path, &moved).unwrap();
        sink.keep(Arc::new(vec![json!({"n": 3})])).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":3}\n");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(sink.keep(Arc::new(vec![json!({"n": 4})])).await.is_err(), "what is not kept is not acknowledged");
    }

    #[test]
    fn a_record_has_the_events_own_time_and_all_of_it() {
        let line = json!({"event": "statement", "time": "2026-01-02T03:04:05.000006Z", "sql": "SELECT 1"});
        let records = records(&[line.clone(), json!({})], &jiff::Timestamp::UNIX_EPOCH);
        let records = &records["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
        assert_eq!(records[0]["timeUnixNano"], "1767323045000006000");
        assert_eq!(records[0]["body"]["stringValue"], line.to_string());
        assert_eq!(records[0]["attributes"][0]["value"]["stringValue"], "postern.statement");
        assert_eq!(records[1]["timeUnixNano"], "0");
    }

    #[tokio::test]
    async fn a_collector_has_a_batch_once_it_says_so() {
        use axum::http::StatusCode;
        use axum::routing::post;

        let received = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(vec![
            (StatusCode::OK, "{}"),
            (StatusCode::OK, r#"{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "full"}}"#),
            (StatusCode::SERVICE_UNAVAILABLE, "later"),
        ]));
        let handler = {
            let received = Arc::clone(&received);
            move |body: Bytes| {
                let (received, answers) = (Arc::clone(&received), Arc::clone(&answers));
                async move {
                    received.lock().await.push(serde_json::from_slice::<Value>(&body).unwrap());
                    answers.lock().await.remove(0)
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, axum::Router::new().route(LOGS, post(handler))).into_future());

        let sink = Sink::new(&format!("otlp:http://{address}")).unwrap();
        let line = || Arc::new(vec![json!({"event": "statement"})]);
        sink.keep(line()).await.unwrap();
        assert!(sink.keep(line()).await.unwrap_err().to_string().contains("rejects 1"));
        assert!(sink.keep(line()).await.unwrap_err().to_string().contains("503"));
        let received = received.lock().await;
        let record = &received[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!((received.len(), &record["body"]["stringValue"]), (3, &json!(r#"{"event":"statement"}"#)));
    }

    #[test]
    fn what_a_collector_rejects_is_not_kept() {
        assert_eq!(rejected(b"{}"), 0);
        assert_eq!(rejected(b""), 0);
        assert_eq!(rejected(br#"{"partialSuccess": {"rejectedLogRecords": "2"}}"#), 2);
        assert_eq!(rejected(br#"{"partialSuccess": {"rejectedLogRecords": 3}}"#), 3);
    }
}
