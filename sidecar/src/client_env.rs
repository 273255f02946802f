//! How clients find the gate: the variables that libpq and most drivers read
//! (<https://www.postgresql.org/docs/current/libpq-envars.html>), as the webhook gives them to a pod's containers.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::config::ListenAddress;

/// Variables with their values; None where the address is a socket that no client looks for by itself.
pub(crate) fn client_environment(
    address: &ListenAddress,
    database: &str,
    user: &str,
) -> Option<[(&'static str, String); 5]> {
    let (host, port) = match address {
        ListenAddress::Tcp(address) => {
            let host = match address.ip() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            (host.to_string(), address.port().to_string())
        }
        ListenAddress::Unix(path) => {
            let port = path.file_name()?.to_str()?.strip_prefix(".s.PGSQL.")?;
            (path.parent()?.to_str()?.to_owned(), port.to_owned())
        }
    };
    Some([
        ("PGHOST", host),
        ("PGPORT", port),
        ("PGDATABASE", database.to_owned()),
        ("PGUSER", user.to_owned()),
        // It does not leave the machine.
        ("PGSSLMODE", "disable".to_owned()),
    ])
}

/// A file of such variables, there for as long as clients are served.
#[derive(Debug)]
pub(crate) struct EnvFile(PathBuf);

impl EnvFile {
    /// Writes one, whole or not at all: who waits for it reads it as soon as it is there.
    pub(crate) fn write(path: &Path, variables: &[(&str, String)]) -> io::Result<Self> {
        let mut text = String::new();
        for (name, value) in variables {
            if value.contains(char::is_control) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the value of {name} is no line")));
            }
            text.push_str(&format!("{name}={value}\n"));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let partial = path.with_file_name(name);
        let mut file = fs::File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&partial, path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for EnvFile {
    fn drop(&mut self) {
        // It may be gone already, with its folder.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn clients_are_pointed_to_an_address_that_they_can_connect_to() {
        let host_and_port = |address: &str| {
            let address = match address.strip_prefix("unix:") {
                Some(path) => ListenAddress::Unix(path.into()),
                None => ListenAddress::Tcp(address.parse().unwrap()),
            };
            client_environment(&address, "shop", "report").map(|[host, port, ..]| format!("{} {}", host.1, port.1))
        };
        for (address, wanted) in [
            ("127.0.0.1:6432", Some("127.0.0.1 6432")),
            ("0.0.0.0:1", Some("127.0.0.1 1")),
            ("[::]:1", Some("::1 1")),
            ("unix:/run/postern/.s.PGSQL.5432", Some("/run/postern 5432")),
            ("unix:/run/postern/gate", None),
        ] {
            assert_eq!(host_and_port(address).as_deref(), wanted, "{address}");
        }
    }

    #[test]
    fn a_file_of_variables_has_a_line_for_each_and_is_gone_with_the_gate() {
        let path = std::env::temp_dir().join(format!("postern-env-{}", std::process::id()));
        let file = EnvFile::write(&path, &[("PGHOST", "::1".into()), ("PGDATABASE", "my shop".into())]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "PGHOST=::1\nPGDATABASE=my shop\n");
        drop(file);
        assert!(!path.exists());
        assert!(EnvFile::write(&path, &[("PGDATABASE", "a\nLD_PRELOAD=x".into())]).is_err() && !path.exists());
    }
}
