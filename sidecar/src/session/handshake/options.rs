//! What a client wishes in its start-up packet, and what of it the server is asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::names::cut_identifier;
use crate::decide::Denial;
use crate::upstream::UpstreamConfig;
use crate::wire::backend::Fields;

const TIMEOUT: &str = "statement_timeout";

/// What becomes of a setting that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// It is passed on.
    Forward,
    /// Another value is passed on.
    Replace(String),
}

/// Judges a setting, by its name in lower case and its value.
pub type Judge = dyn Fn(&str, &str) -> Result<Accept, Denial> + Send + Sync;

/// Under what a session starts.
pub struct Terms {
    /// Name of the only database there is.
    pub database: String,
    /// The role that the session runs as.
    pub role: String,
    /// What comes before the client's own application_name, such as `postern/shop/nightly-report/`.
    pub application_prefix: String,
    /// The longest that a statement may run, for a client that asks for no statement_timeout; that the one it asks for
    /// is no longer is up to `judge`.
    pub statement_timeout: Option<Duration>,
    /// Settings of the proxy's own; they win over the client's.
    pub settings: Vec<(String, String)>,
    /// Judges the settings that the client asks for.
    pub judge: Box<Judge>,
    /// The server.
    pub upstream: Arc<UpstreamConfig>,
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The settings may hold keys.
        f.debug_struct("Terms").field("database", &self.database).field("role", &self.role).finish_non_exhaustive()
    }
}

/// What the server is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Parameters of the start-up packet to the server.
    pub(super) parameters: Vec<(String, String)>,
    /// The client's own application_name.
    pub(super) application_name: String,
    /// Names of the custom settings that it asks for.
    pub(super) custom: Vec<String>,
}

impl Wishes {
    /// From the client's parameters.
    pub(super) fn read(parameters: &[(String, String)], terms: &Terms) -> Result<Self, Fields> {
        let mut wishes = Self { parameters: Vec::new(), application_name: String::new(), custom: Vec::new() };
        // As the server does it: what `options` says comes first, and parameters win over it.
        let options = parameters.iter().filter(|(name, _)| name == "options");
        let mut wanted = Vec::new();
        for (_, options) in options {
            wanted.extend(settings_of(options)?);
        }
        for (name, value) in parameters {
            match name.as_str() {
                "options" | "user" => {}
                "database" if *value == terms.database => {}
                "database" => {
                    return Err(refused("3D000", format!("database \"{value}\" is not available here"))
                        .with(Fields::HINT, format!("Connect to \"{}\".", terms.database)));
                }
                "replication" => replication(value)?,
                _ => wanted.push((name.to_ascii_lowercase(), value.clone())),
            }
        }
        for (name, value) in wanted {
            match name.as_str() {
                // The proxy reads and rewrites UTF-8; drivers that asked for another see in ParameterStatus what it is.
                "client_encoding" => {}
                "application_name" => wishes.application_name = value,
                "role" | "session_authorization" if value == terms.role => {}
                "role" | "session_authorization" => {
                    return Err(refused("42501", format!("{name} can't be chosen by the client"))
                        .with(Fields::HINT, "The role comes with the identity."));
                }
                _ => {
                    let value = match (terms.judge)(&name, &value).map_err(|denial| told(&denial))? {
                        Accept::Forward => value,
                        Accept::Replace(value) => value,
                    };
                    if name.contains('.') && !wishes.custom.contains(&name) {
                        wishes.custom.push(name.clone());
                    }
                    wishes.set(name, value);
                }
            }
        }
        if let Some(limit) = terms.statement_timeout
            && !wishes.parameters.iter().any(|(name, _)| name == TIMEOUT)
        {
            let milliseconds = limit.as_millis().clamp(1, i32::MAX as u128);
            wishes.set(TIMEOUT.to_owned(), milliseconds.to_string());
        }
        let name = format!("{}{}", terms.application_prefix, wishes.application_name);
        wishes.set("application_name".to_owned(), cut_identifier(&name).to_owned());
        for (name, value) in &terms.settings {
            wishes.set(name.clone(), value.clone());
        }
        wishes.set("client_encoding".to_owned(), "UTF8".to_owned());
        wishes.set("standard_conforming_strings".to_owned(), "on".to_owned());
        wishes.set("role".to_owned(), terms.role.clone());
        Ok(wishes)
    }

    /// The last value of a name is the one that holds.
    fn set(&mut self, name: String, value: String) {
        self.parameters.retain(|(have, _)| *have != name);
        self.parameters.push((name, value));
    }
}

fn refused(code: &str, message: impl Into<String>) -> Fields {
    Fields::new("FATAL", code, message)
}

/// A denial as it ends a start-up.
fn told(denial: &Denial) -> Fields {
    let mut fields = refused(denial.sqlstate, denial.message.clone());
    if let Some(hint) = &denial.hint {
        fields.set(Fields::HINT, hint.clone());
    }
    fields
}

fn replication(value: &str) -> Result<(), Fields> {
    match value.to_ascii_lowercase().as_str() {
        "off" | "false" | "no" | "0" | "f" | "n" => Ok(()),
        _ => Err(refused("0A000", "replication connections are not available through the proxy")
            .with(Fields::HINT, "A replication stream carries every row unmasked; no policy can allow it.")),
    }
}

/// The settings in a command line such as `-c geqo=off --work-mem=1MB`, with names in lower case.
fn settings_of(options: &str) -> Result<Vec<(String, String)>, Fields> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("-c").or_else(|| word.strip_prefix("--")).map(str::to_owned)
        };
        let Some((name, value)) = setting.as_deref().and_then(|setting| setting.split_once('=')) else {
            return Err(refused("42601", "only settings can be given in the start-up parameter \"options\"")
                .with(Fields::HINT, "Write -c name=value or --name=value."));
        };
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

/// Words, split as the server does: at white space, a backslash takes the next character as it is.
fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            // C's isspace.
            ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// application_name as the server would have it: cut, and without what isn't printable ASCII.
pub(super) fn clean_application_name(name: &str, server_version: &str) -> String {
    let major: u32 =
        server_version.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut clean = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b' '..=b'~' => clean.push(char::from(byte)),
            // As of 16 it is written in hexadecimal.
            _ if major >= 16 => clean.push_str(&format!("\\x{byte:02x}")),
            _ => clean.push('?'),
        }
    }
    cut_identifier(&clean).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use super::*;
    use crate::decide::Reason;
    use crate::upstream::{Credential, Tls};

    fn terms(statement_timeout: Option<Duration>) -> Terms {
        Terms {
            database: "shop".into(),
            role: "reporting".into(),
            application_prefix: "postern/shop/nightly/".into(),
            statement_timeout,
            settings: vec![("postern.key".into(), "secret".into())],
            judge: Box::new(|name, value| match name {
                "timezone" | "statement_timeout" => Ok(Accept::Forward),
                "datestyle" => Ok(Accept::Replace(value.to_uppercase())),
                "geqo" => Ok(Accept::Replace("on".into())),
                _ => Err(Denial::new(Reason::Setting, format!("no {name}")).hint("none")),
            }),
            upstream: Arc::new(UpstreamConfig {
                host: "localhost".into(),
                port: 1,
                database: "shop".into(),
                credential: Credential::new("u", "p"),
                tls: Tls::new(postern_crds::TlsMode::Disable, None).unwrap(),
                timeout: Duration::from_secs(1),
            }),
        }
    }

    fn read(parameters: &[(&str, &str)], terms: &Terms) -> Result<Wishes, String> {
        let owned: Vec<_> = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Wishes::read(&owned, terms).map_err(|fields| fields.code().to_owned())
    }

    fn value<'a>(wishes: &'a Wishes, name: &str) -> Option<&'a str> {
        wishes.parameters.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_proxys_own_settings_win() {
        let asked = [("client_encoding", "LATIN1"), ("database", "shop"), ("user", "postgres"), ("role", "reporting")];
        let wishes = read(&asked, &terms(None)).unwrap();
        assert_eq!(value(&wishes, "client_encoding"), Some("UTF8"));
        assert_eq!(value(&wishes, "standard_conforming_strings"), Some("on"));
        assert_eq!(value(&wishes, "role"), Some("reporting"));
        assert_eq!(value(&wishes, "postern.key"), Some("secret"));
        assert_eq!(value(&wishes, "user"), None);
        assert_eq!(value(&wishes, "statement_timeout"), None);
    }

    #[test]
    fn what_no_one_allows_is_refused_with_a_fitting_code() {
        for (name, asked, code) in [
            ("database", "other", "3D000"),
            ("replication", "database", "0A000"),
            ("replication", "true", "0A000"),
            ("role", "postgres", "42501"),
            ("ROLE", "postgres", "42501"),
            ("session_authorization", "postgres", "42501"),
            ("options", "-c role=postgres", "42501"),
            ("options", "-c session_preload_libraries=x", "42501"),
            ("options", "-crole=postgres", "42501"),
            ("options", "--session-authorization=postgres", "42501"),
            ("options", "-d 5", "42601"),
            ("options", "-c", "42601"),
            ("options", "-c geqo", "42601"),
            ("postern.key", "mine", "42501"),
        ] {
            assert_eq!(read(&[(name, asked)], &terms(None)).unwrap_err(), code, "{name}={asked}");
        }
        assert!(read(&[("replication", "off")], &terms(None)).is_ok());
    }

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let asked = [("timezone", "UTC"), ("options", r"-c  TimeZone=Asia/Tokyo --DateStyle=iso,\ mdy -cgeqo=off")];
        let wishes = read(&asked, &terms(None)).unwrap();
        assert_eq!(value(&wishes, "timezone"), Some("UTC"), "parameters win over options");
        assert_eq!(value(&wishes, "datestyle"), Some("ISO, MDY"));
        assert_eq!(value(&wishes, "geqo"), Some("on"));
    }

    #[test]
    fn a_client_that_asks_for_no_statement_timeout_gets_the_limit() {
        let limit = terms(Some(Duration::from_secs(30)));
        assert_eq!(value(&read(&[], &limit).unwrap(), TIMEOUT), Some("30000"));
        assert_eq!(value(&read(&[(TIMEOUT, "5s")], &limit).unwrap(), TIMEOUT), Some("5s"));
        assert_eq!(value(&read(&[], &terms(None)).unwrap(), TIMEOUT), None);
    }

    #[test]
    fn application_name_is_prefixed_and_cut_between_characters() {
        let long = "é".repeat(40);
        let wishes = read(&[("application_name", &long)], &terms(None)).unwrap();
        let sent = value(&wishes, "application_name").unwrap();
        assert_eq!(sent, format!("postern/shop/nightly/{}", "é".repeat(21)));
        assert_eq!(wishes.application_name, long);
        assert_eq!(clean_application_name("aé", "15.4 (Debian)"), "a??");
        assert_eq!(clean_application_name("aé", "17.0"), "a\\xc3\\xa9");
        assert_eq!(clean_application_name(&"x".repeat(80), "17.0").len(), 63);
    }
}
