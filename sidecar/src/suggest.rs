//! `suggest`: a first policy from the audit of traffic in mode Audit.
//!
//! [`gather`] reads what the traffic needed, [`plan`] makes masks and rules of it ([`mask`] guesses which columns are
//! personal or secret), [`render`] writes them with the reasons, and [`replay`] tries the traffic under what was written.
//! **Promise.** What is written is a policy that `check` takes. No value of a sample and no literal of a statement is in it.

pub mod gather;
pub mod mask;
pub mod plan;
pub mod render;
pub mod replay;
pub mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use postern_crds::api::DatabaseAccessPolicySpec;
use postern_crds::files::{self, Manifest, Object};
use postern_crds::{CheckedPolicy, TlsMode};
use serde_json::{Map, Value, json};

use crate::catalog::Catalog;
use crate::check::{self, CheckError};
use crate::config::{Dsn, Source, Suggest};
use crate::policy_files::{Mistakes, ReadError, Texts};
use crate::upstream::QueryError;
use gather::{Gatherer, Identity, LeftOut, Traffic};
use plan::{Known, Plan};
use render::Document;
use sample::Samples;

/// Longest line that is read: text and parameters of an event are bounded, and escapes make them six times as long.
const MAX_LINE: u64 = 8 << 20;

/// Why there is no suggestion.
#[derive(Debug, thiserror::Error)]
pub enum SuggestError {
    /// A file can't be read.
    #[error("failed to read {what}: {error}")]
    Read {
        /// Which.
        what: String,
        /// Why.
        error: std::io::Error,
    },
    /// The policies in force can't be read.
    #[error(transparent)]
    Policies(#[from] ReadError),
    /// They have mistakes.
    #[error(transparent)]
    Policy(#[from] Mistakes),
    /// There is nothing to suggest a policy from.
    #[error("{0}")]
    Nothing(String),
    /// The database.
    #[error(transparent)]
    Database(#[from] CheckError),
    /// A sample could not be read.
    #[error(transparent)]
    Sample(#[from] QueryError),
    /// What was made is no policy.
    #[error("the traffic needs more than a policy can hold: {0}")]
    TooLarge(String),
    /// The policy can't be written.
    #[error("failed to write {}: {error}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Reads the audit and writes the policy.
pub async fn run(suggest: Suggest) -> Result<(), SuggestError> {
    let Suggest { audit, policies, database, sample, write } = suggest;
    let in_force = read_policies(&policies)?;
    let traffic = read(&audit)?;
    let seen = look(&traffic, database.as_deref(), sample).await?;
    let suggested = suggestions(&traffic, &in_force, database.as_deref(), &seen)?;
    match write {
        Some(path) => std::fs::write(&path, suggested).map_err(|error| SuggestError::Write { path, error }),
        None => {
            print!("{suggested}");
            Ok(())
        }
    }
}

/// What was seen of the database.
#[derive(Default)]
struct Seen {
    catalog: Option<Arc<Catalog>>,
    samples: Samples,
}

fn read_policies(paths: &[PathBuf]) -> Result<Vec<Manifest<DatabaseAccessPolicySpec>>, SuggestError> {
    let mut policies = Vec::new();
    for (_, found) in Texts::read(paths)?.objects() {
        policies.extend(found.map_err(Mistakes)?.into_iter().filter_map(|object| match object {
            Object::Policy(policy) => Some(*policy),
            Object::Identity(_) => None,
        }));
    }
    Ok(policies)
}

/// Reads the audit, the files in the order of their first events: sessions go on from one to the next.
fn read(audit: &[Source]) -> Result<Traffic, SuggestError> {
    let mut files = Vec::new();
    for source in audit {
        let failed = |error| SuggestError::Read { what: source.to_string(), error };
        let mut reader: Box<dyn BufRead> = match source {
            Source::Stdin => Box::new(std::io::stdin().lock()),
            Source::File(path) => Box::new(BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?)),
        };
        let first = time_of(reader.fill_buf().map_err(failed)?);
        files.push((first, source, reader));
    }
    files.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut gatherer = Gatherer::default();
    for (_, source, mut reader) in files {
        let failed = |error| SuggestError::Read { what: source.to_string(), error };
        let mut line = Vec::new();
        let mut lines = 0_u64;
        while reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)? > 0 {
            lines += 1;
            if line.ends_with(b"\n") || (line.len() as u64) < MAX_LINE {
                gatherer.line(&line);
            } else {
                gatherer.over_long();
                reader.skip_until(b'\n').map_err(failed)?;
            }
            line.clear();
        }
        eprintln!("read {lines} lines of {source}");
    }
    Ok(gatherer.finish())
}

/// When the first event of a file was; by its text, for a line may be longer than what was read of it.
fn time_of(start: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(start.get(..start.len().min(1 << 10)).unwrap_or_default()).into_owned();
    text.split_once(r#""time":""#)?.1.split_once('"').map(|(time, _)| time.to_owned())
}

/// Looks at the database.
async fn look(traffic: &Traffic, database: Option<&Dsn>, with_samples: bool) -> Result<Seen, SuggestError> {
    let Some(dsn) = database else { return Ok(Seen::default()) };
    let mut connection = check::connect(check::dsn_config(dsn)?, "postern suggest").await?;
    let catalog = check::load_catalog(&mut connection).await?;
    let mut samples = Samples::default();
    if with_samples {
        let of_database = traffic.identities.iter().filter(|identity| identity.database == dsn.database.name);
        let needs: Vec<_> = of_database.map(Identity::needs).collect();
        let readable: BTreeSet<&str> = needs.iter().flat_map(plan::readable).collect();
        let is_readable = |relation: &crate::catalog::Relation| readable.contains(&*plan::pattern_of(relation));
        samples = sample::sample(&mut connection, &catalog, is_readable).await?;
        eprintln!("looked at values of {} columns", samples.columns.len());
        for unread in &samples.unread {
            eprintln!("no values of {unread}");
        }
    }
    connection.close().await;
    Ok(Seen { catalog: Some(catalog), samples })
}

/// A policy for each that the audit names.
fn suggestions(
    traffic: &Traffic,
    in_force: &[Manifest<DatabaseAccessPolicySpec>],
    database: Option<&Dsn>,
    seen: &Seen,
) -> Result<String, SuggestError> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Identity>> = BTreeMap::new();
    for identity in traffic.identities.iter().filter(|identity| !identity.shapes.is_empty()) {
        groups.entry((&identity.policy, &identity.database)).or_default().push(identity);
    }
    if let Some(dsn) = database {
        let name = dsn.database.name.as_str();
        let others: Vec<&str> = groups.keys().map(|(_, database)| *database).filter(|other| *other != name).collect();
        if !others.is_empty() {
            eprintln!("left out what is of other databases than {name}: {}", others.join(", "));
        }
        groups.retain(|(_, database), _| *database == name);
    }
    if groups.is_empty() {
        let LeftOut { malformed, without_start, enforced, .. } = traffic.left_out;
        return Err(SuggestError::Nothing(format!(
            "the audit tells of no statement that was decided in mode Audit{} ({malformed} lines were no audit events, \
             {without_start} statements of sessions without a start, {enforced} decided in mode Enforce)",
            database.map_or_else(String::new, |dsn| format!(" in the database {}", dsn.database.name)),
        )));
    }
    let mut documents = Vec::new();
    for ((policy, name), mut identities) in groups {
        identities.sort_by(|one, other| one.name.cmp(&other.name));
        let (namespace, policy) = policy.split_once('/').unwrap_or(("default", policy));
        let given = Given::new(
            in_force.iter().find(|it| (&*it.namespace, &*it.name) == (namespace, policy)),
            name,
            policy,
            database,
        );
        let plan =
            Plan::new(&identities, Known { catalog: seen.catalog.as_deref(), samples: Some(&seen.samples.columns) });
        let mut document = Document {
            name: (namespace, policy),
            given: &given.fields,
            remark: given.remark.as_deref(),
            identities: &identities,
            plan: &plan,
            left_out: traffic.left_out,
            replayed: None,
        };
        let checked = compile(&document.to_yaml())?;
        let replayed = seen.catalog.as_ref().map(|catalog| replay::replay(&checked, &identities, catalog));
        document.replayed = replayed.as_ref();
        eprintln!("{namespace}/{policy}: {} masks, {} rules", plan.masks.len(), plan.rules.len());
        documents.push(document.to_yaml());
    }
    Ok(documents.join("---\n"))
}

/// The policy as `check` and `run` would read it.
fn compile(text: &str) -> Result<Arc<CheckedPolicy>, SuggestError> {
    let mut objects = files::read(text).map_err(|errors| too_large(&errors))?;
    let Some(Object::Policy(policy)) = objects.pop() else { return Err(too_large(&["no policy came of it"])) };
    policy.compile().map(Arc::new).map_err(|errors| too_large(&errors))
}

fn too_large(errors: &[impl ToString]) -> SuggestError {
    SuggestError::TooLarge(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// What a suggestion takes as given.
struct Given {
    fields: Map<String, Value>,
    remark: Option<String>,
}

impl Given {
    fn new(
        in_force: Option<&Manifest<DatabaseAccessPolicySpec>>,
        database: &str,
        policy: &str,
        dsn: Option<&Dsn>,
    ) -> Self {
        if let Some(policy) = in_force {
            let spec = &policy.spec;
            let mut fields = Map::new();
            fields.extend(serde_json::to_value(&spec.database).ok().map(|value| ("database".to_owned(), value)));
            fields.extend(spec.recording.as_ref().and_then(to_value).map(|value| ("recording".to_owned(), value)));
            fields.extend(spec.sidecar.as_ref().and_then(to_value).map(|value| ("sidecar".to_owned(), value)));
            let restricts =
                |rule: &postern_crds::api::Rule| !rule.hide_columns.is_empty() || !rule.row_filters.is_empty();
            let remark = (!spec.masks.is_empty() || spec.rules.iter().any(restricts)).then(|| {
                "The policy in force has masks, hidden columns or row filters. They are not in here: add them."
                    .to_owned()
            });
            return Self { fields, remark };
        }
        let secret = |what: &str| format!("{policy}-{what}");
        let (host, port, tls) = match dsn {
            Some(dsn) => (dsn.database.host.as_str(), dsn.database.port, dsn.database.tls),
            None => ("postgres", 5432, TlsMode::VerifyFull),
        };
        let mut fields = json!({ "host": host, "port": port, "name": database });
        if let Some(fields) = fields.as_object_mut() {
            let ca = json!({"name": secret("ca"), "key": "ca.crt"});
            let tls = match tls {
                TlsMode::Disable => json!({"mode": "Disable"}),
                TlsMode::Require => json!({"mode": "Require"}),
                TlsMode::VerifyCa => json!({"mode": "VerifyCa", "caSecret": ca}),
                TlsMode::VerifyFull => json!({"mode": "VerifyFull", "caSecret": ca}),
            };
            if !host.starts_with('/') {
                fields.insert("tls".to_owned(), tls);
            }
            fields.insert("credentials".to_owned(), json!({"secret": {"name": secret("postern")}}));
        }
        let remark = match dsn {
            Some(_) => "As --database has it; the secrets' names are made up.",
            None => {
                "Fill in: the audit does not say how the database is reached. --policy takes it from the policy in force."
            }
        };
        Self { fields: Map::from_iter([("database".to_owned(), fields)]), remark: Some(remark.to_owned()) }
    }
}

fn to_value<T: serde::Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}
