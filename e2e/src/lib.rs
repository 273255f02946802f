//! What the tests across Postern's parts share: private Postgres servers, a gate in front of them, and a client that
//! keeps every byte it is sent. Nothing here stands in for a real part.

pub mod built;
pub mod corpus;
pub mod gate;
pub mod guard;
pub mod issuer;
pub mod kept;
pub mod kubernetes;
pub mod leak;
pub mod oids;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod random;
pub mod replay;
pub mod report;
pub mod scale;
pub mod tap;
pub mod wire;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// A TCP port on 127.0.0.1 that was free a moment ago, below the range from which outgoing connections take theirs.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 18_000;
    const COUNT: u32 = 14_000;
    // Processes start at different places; within one, ports are not handed out twice.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + start.wrapping_add(step) % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port")
}

/// A new folder under the system's temporary one, for one server or gate.
pub fn temporary_folder(kind: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos();
    let name = format!("postern-{kind}-{}-{number}-{nanos:x}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// The folder in the user's cache for what tests fetch of this kind.
pub fn cache(kind: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(cache.join("postern").join(kind))
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
