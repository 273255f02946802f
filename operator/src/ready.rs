//! Whether an operator is ready, asked from another pod: the chart's own test, by way of its Service.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long one request may take.
const ONE: Duration = Duration::from_secs(5);
/// More than an answer has before its body.
const HEAD: u64 = 4096;

/// Asks until a replica says that it is ready, or `patience` is over: its certificates are there, the API server knows
/// them, and its caches are filled.
pub async fn wait(address: &str, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        let answer = match timeout(ONE, ask(address)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer in {} s", ONE.as_secs())),
        };
        match answer {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > until => {
                return Err(error).with_context(|| format!("{address} is not ready"));
            }
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn ask(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    stream.take(HEAD).read_to_end(&mut head).await?;
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    let Some(status) = line.strip_prefix("HTTP/1.1 ") else { bail!("no answer over HTTP") };
    ensure!(status.starts_with("200"), "it says {status}");
    Ok(())
}
