//! A running PgBouncer in front of a server, gone when dropped: what Postern's speed is held against.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guard::{Ending, Guard};
use crate::postgres::{Owner, Server};
use crate::process::Process;

/// A running PgBouncer with one session pool.
#[derive(Debug)]
pub struct PgBouncer {
    guard: Guard,
    port: u16,
}

impl PgBouncer {
    /// Starts one that lets everybody in to `database`, logging in there as `user`; with `tls` it verifies the server.
    pub fn start(server: &Server, database: &str, user: &str, password: &str, tls: bool) -> Result<Self> {
        let folder = crate::temporary_folder("pgbouncer")?;
        let port = crate::free_port()?;
        let ca = folder.join("ca.crt");
        fs::write(&ca, server.ca().unwrap_or_default())?;
        let server_port = server.port();
        let server_tls =
            if tls { format!("verify-ca\nserver_tls_ca_file = {}", ca.display()) } else { "disable".to_owned() };
        let settings = format!(
            "[databases]\n\
             {database} = host=127.0.0.1 port={server_port} dbname={database} user={user} password={password}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = session\ndefault_pool_size = 150\nmax_client_conn = 1000\n\
             ignore_startup_parameters = extra_float_digits\nserver_tls_sslmode = {server_tls}\n"
        );
        let path = folder.join("pgbouncer.ini");
        fs::write(&path, settings)?;
        // It does not run as root either, and who it runs as may not see our cache.
        let program = folder.join("pgbouncer");
        fs::copy(binary()?, &program)?;
        let owner = Owner::new()?;
        for path in [&folder, &path, &ca, &program] {
            owner.give(path)?;
        }
        let mut command = owner.prefix();
        command.extend([program.display().to_string(), path.display().to_string()]);
        let ending = Ending { signal: "INT", folder: Some(&folder), patience: Duration::from_secs(1) };
        let mut guard = Guard::spawn(&command, &[], &folder.join("log"), &ending)?;
        guard.wait_until("PgBouncer", Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { guard, port })
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn process(&self) -> Result<Process> {
        self.guard.process()
    }
}

/// Where `.ci/setup bench` puts the program.
fn binary() -> Result<PathBuf> {
    let program = crate::cache("pgbouncer")?.join("usr/sbin/pgbouncer");
    ensure!(program.exists(), "PgBouncer is not at {}: run `.ci/setup bench`", program.display());
    Ok(program)
}

/// Its version.
pub fn version() -> Result<String> {
    let output = std::process::Command::new(binary()?).arg("-V").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().unwrap_or_default().trim_start_matches("PgBouncer ").to_owned())
}
