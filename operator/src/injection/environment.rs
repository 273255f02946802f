//! The variables that lead a container's Postgres client to the sidecar.

use postern_crds::api::OnEnvConflict;
use serde_json::{Value, json};

use super::raw::{list_in, name_of};
use super::{Asked, Refusal};

/// A variable and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

/// What each container gets: libpq's variables for the first policy, and what each policy asks for. `ports` has the
/// port of each policy, in their order.
pub(super) fn variables(asked: &[Asked<'_>], ports: &[u16]) -> Vec<Variable> {
    let mut all = Vec::new();
    if let (Some(first), Some(port)) = (asked.first(), ports.first()) {
        all.extend(libpq(first, *port).map(|(name, value)| Variable { name: name.to_owned(), value }));
    }
    for (asked, port) in asked.iter().zip(ports) {
        for (name, template) in asked.sidecar.iter().flat_map(|sidecar| &sidecar.env) {
            let value = fill(template, asked, *port);
            // Of two policies that give one variable the first holds.
            if !all.iter().any(|variable: &Variable| variable.name == *name) {
                all.push(Variable { name: name.clone(), value });
            }
        }
    }
    all
}

/// The connection, and the rest that libpq reads from the environment in such a way that it does not stand against it:
/// <https://www.postgresql.org/docs/current/libpq-envars.html>. They are set even where a container does not have them:
/// `envFrom` and the image may. PGSERVICE is not among them, for to libpq an empty one is a service that is missing.
fn libpq(asked: &Asked<'_>, port: u16) -> impl Iterator<Item = (&'static str, String)> {
    [
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGHOSTADDR", "127.0.0.1".to_owned()),
        ("PGPORT", port.to_string()),
        ("PGDATABASE", asked.policy.database.name.clone()),
        ("PGUSER", asked.user.to_owned()),
        ("PGSSLMODE", "disable".to_owned()),
        ("PGPASSWORD", String::new()),
        // No file: psql would complain of one that is no plain file, each time.
        ("PGPASSFILE", "/nonexistent/pgpass".to_owned()),
        // `system` would demand verify-full, and `direct` TLS.
        ("PGSSLROOTCERT", String::new()),
        ("PGSSLNEGOTIATION", "postgres".to_owned()),
        ("PGCHANNELBINDING", "disable".to_owned()),
        ("PGREQUIREAUTH", String::new()),
    ]
    .into_iter()
}

/// The one that can only be taken away.
const TAKEN_AWAY: &str = "PGSERVICE";

/// Puts the words in braces in. In a URL they are quoted as a part of one.
fn fill(template: &str, asked: &Asked<'_>, port: u16) -> String {
    let in_url = template.contains("://");
    let text = |value: &str| if in_url { quoted(value) } else { value.to_owned() };
    template
        .replace("{user}", &text(asked.user))
        .replace("{host}", "127.0.0.1")
        .replace("{port}", &port.to_string())
        .replace("{database}", &text(&asked.policy.database.name))
}

/// Percent-encoded but for the unreserved characters (RFC 3986, section 2.3).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Sets the variables in a container. New ones come first, so that the container's own can refer to them.
pub(super) fn set(
    container: &mut Value,
    variables: &[Variable],
    on_conflict: OnEnvConflict,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let name = name_of(container).to_owned();
    let fields = container.as_object_mut().ok_or_else(|| Refusal::new("a container is no object"))?;
    let environment = list_in(fields, "env").map_err(|refusal| Refusal::new(format!("container {name}: {refusal}")))?;
    let mut conflict = |variable: &str, done: &str| match on_conflict {
        OnEnvConflict::Replace => {
            warnings.push(format!("container {name}: {variable} {done}, so that its sessions go through Postern"));
            Ok(())
        }
        OnEnvConflict::Refuse => Err(Refusal::new(format!(
            "container {name}: {variable} is set, and the policy has onEnvConflict: Refuse; take it out of the container"
        ))),
    };
    if environment.iter().any(|entry| name_of(entry) == TAKEN_AWAY) {
        conflict(TAKEN_AWAY, "was taken away")?;
        environment.retain(|entry| name_of(entry) != TAKEN_AWAY);
    }
    let mut new = Vec::new();
    for Variable { name, value } in variables {
        let wanted = json!({"name": name, "value": value});
        let mut found = false;
        for entry in environment.iter_mut().filter(|entry| name_of(entry) == name) {
            found = true;
            if !says(entry, value) {
                conflict(name, "was replaced")?;
                *entry = wanted.clone();
            }
        }
        if !found {
            new.push(wanted);
        }
    }
    environment.splice(0..0, new);
    Ok(())
}

/// Whether the entry has this value already; an empty one may be left out.
fn says(entry: &Value, value: &str) -> bool {
    entry.get("valueFrom").is_none_or(Value::is_null)
        && entry.get("value").and_then(Value::as_str).unwrap_or_default() == value
}
