//! `check`: what is wrong with policies, and what they do to statements; for people, and for CI.
//!
//! It uses what `run` uses: the same compiler, the same binding, the same analysis. What it says is what would happen.

pub mod lint;
pub mod report;

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use pg_query::protobuf::Token;
use postern_crds::{CheckedIdentity, CheckedPolicy};

use crate::analyze::{Analysis, Decided, Effect, SessionView, analyze};
use crate::catalog::load::{LoadError, load};
use crate::catalog::{Catalog, snapshot};
use crate::config::{CatalogSource, Check, Dsn, Output, Statements};
use crate::decide::Denial;
use crate::decide::bind::bind;
use crate::decide::bound::BoundPolicy;
use crate::metrics::Outcome;
use crate::policy_files::{Mistakes, Objects, ReadError, SecretError, Secrets, Texts};
use crate::sql;
use crate::upstream::{self, ConnectError, Credential, Tls, TlsConfigError, Upstream, UpstreamConfig};
use lint::{Findings, Severity};
use report::{Decision, Report, Statement, Style, Subject};

/// Largest file of statements.
const MAX_STATEMENTS: u64 = 64 << 20;
/// Most statements of one file.
const MAX_STATEMENT_COUNT: usize = 100_000;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 0: nothing wrong, every statement allowed.
    Clean,
    /// 1: mistakes, or a statement refused.
    Wrong,
}

/// Why nothing could be checked; exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file of the command line.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The statements.
    #[error("failed to read {path}: {error}")]
    Statements {
        /// Which file.
        path: String,
        /// Why.
        error: String,
    },
    /// Which policy or identity is meant can't be told.
    #[error("{0}")]
    Choice(String),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// TLS with the database.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The database.
    #[error("{0}")]
    Connect(String),
    /// Its catalog.
    #[error("failed to read the database's catalog: {0}")]
    Load(#[from] LoadError),
    /// The schema file.
    #[error("{}: {error}", path.display())]
    Schema {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

impl From<ConnectError> for CheckError {
    fn from(error: ConnectError) -> Self {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        CheckError::Connect(format!("{error}{cause}"))
    }
}

/// Checks, and prints what was found.
pub async fn run(check: Check) -> Result<Verdict, CheckError> {
    let texts = Texts::read(&check.sources.paths)?;
    let report = match Objects::compile(&texts) {
        Ok(objects) => examine(&check, &objects).await?,
        Err(mistakes) => mistaken(mistakes),
    };
    match check.output {
        Output::Json => print!("{}", report.to_json()),
        Output::Text => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print!("{}", report.to_text(Style::new(colour)));
        }
    }
    Ok(if report.ok { Verdict::Clean } else { Verdict::Wrong })
}

/// Files that don't compile: nothing more can be said about them.
fn mistaken(Mistakes(mistakes): Mistakes) -> Report {
    let mut findings = Findings::default();
    for mistake in mistakes {
        findings.add(Severity::Error, "invalid", "", mistake);
    }
    let findings = findings.sorted();
    Report { version: 1, ok: false, subject: Subject::default(), findings, statements: Vec::new() }
}

async fn examine(check: &Check, objects: &Objects) -> Result<Report, CheckError> {
    let policy = objects.policy(check.sources.policy.as_ref()).map_err(CheckError::Choice)?;
    let of_namespace: Vec<Arc<CheckedIdentity>> =
        objects.identities.iter().filter(|identity| identity.namespace == policy.namespace).cloned().collect();
    let identities = match &check.identity {
        Some(name) => vec![objects.identity(name, &policy).map_err(CheckError::Choice)?],
        None => of_namespace.clone(),
    };
    let catalog = read_catalog(check, &policy).await?;
    if let (Some(path), Some(catalog)) = (&check.write_schema, &catalog) {
        let schema = |error: String| CheckError::Schema { path: path.clone(), error };
        let text = snapshot::write(catalog).map_err(|error| schema(error.to_string()))?;
        std::fs::write(path, text).map_err(|error| schema(error.to_string()))?;
    }

    let mut findings = Findings::default();
    lint::without_catalog(&policy, &of_namespace, &mut findings);
    let mut bounds = Vec::new();
    if let Some(catalog) = &catalog {
        lint::patterns(&policy, catalog, &mut findings);
        for identity in &identities {
            let bound = bind(Arc::clone(&policy), Arc::clone(identity), Arc::clone(catalog), 1, None);
            lint::bound(&bound, &mut findings);
            bounds.push(bound);
        }
    }
    let findings = findings.sorted();
    let statements = match &check.statements {
        Some(statements) => explain(&read_statements(statements)?, &bounds),
        None => Vec::new(),
    };

    let fails = |severity| severity == Severity::Error || (check.strict && severity == Severity::Warning);
    let refused = statements.iter().flat_map(|statement| &statement.decisions).any(|d| d.decision != "allow");
    let user_relations = |catalog: &Arc<Catalog>| catalog.relations.values().filter(|r| !r.system).count();
    Ok(Report {
        version: 1,
        ok: !refused && !findings.iter().any(|finding| fails(finding.severity)),
        subject: Subject {
            policies: vec![format!("{}/{}", policy.namespace, policy.name)],
            identities: identities.iter().map(|identity| identity.name.clone()).collect(),
            server_version: catalog.as_ref().map(|catalog| catalog.server_version),
            relations: catalog.as_ref().map(user_relations),
        },
        // Who asks about a statement hears of the policy only what is wrong with it.
        findings: match check.statements {
            Some(_) => findings.into_iter().filter(|finding| fails(finding.severity)).collect(),
            None => findings,
        },
        statements,
    })
}

async fn read_catalog(check: &Check, policy: &CheckedPolicy) -> Result<Option<Arc<Catalog>>, CheckError> {
    let config = match &check.catalog {
        CatalogSource::None => return Ok(None),
        CatalogSource::File(path) => {
            let schema = |error: String| CheckError::Schema { path: path.clone(), error };
            let text = std::fs::read_to_string(path).map_err(|error| schema(error.to_string()))?;
            return Ok(Some(Arc::new(snapshot::read(&text).map_err(|error| schema(error.to_string()))?)));
        }
        CatalogSource::PolicyDatabase => {
            let folder = check.secrets_dir.clone().unwrap_or_default();
            Secrets::new(folder).read(policy)?.upstream(&policy.database)?
        }
        CatalogSource::Dsn(dsn) => dsn_config(dsn)?,
    };
    let mut connection = connect(config, "postern check").await?;
    let catalog = load_catalog(&mut connection).await?;
    connection.close().await;
    Ok(Some(catalog))
}

/// Logs in to a database to look at it.
pub(crate) async fn connect(config: UpstreamConfig, application_name: &str) -> Result<Upstream, CheckError> {
    let parameters = [("application_name", application_name), ("client_encoding", "UTF8")]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    Ok(upstream::connect(&Arc::new(config), &parameters, crate::wire::startup::PROTOCOL_3_0).await?)
}

/// The catalog of a database.
pub(crate) async fn load_catalog(connection: &mut Upstream) -> Result<Arc<Catalog>, CheckError> {
    let (mut catalog, _) = load(connection).await?;
    catalog.version = 1;
    Ok(Arc::new(catalog))
}

pub(crate) fn dsn_config(dsn: &Dsn) -> Result<UpstreamConfig, CheckError> {
    let Dsn { database, user, password, ca_file } = dsn;
    let ca = match ca_file {
        None => None,
        Some(path) => {
            let read = std::fs::read(path).map_err(|error| ReadError::Io { path: path.clone(), error })?;
            Some(read)
        }
    };
    Ok(UpstreamConfig {
        host: database.host.clone(),
        port: database.port,
        database: database.name.clone(),
        credential: Credential::new(user, password),
        tls: Tls::new(database.tls, ca.as_deref())?,
        timeout: crate::policy_files::CONNECT_TIMEOUT,
    })
}

fn read_statements(statements: &Statements) -> Result<Vec<String>, CheckError> {
    let (path, text) = match statements {
        Statements::Text(text) => ("--sql".to_owned(), Ok(text.clone())),
        Statements::File(path) => (path.display().to_string(), std::fs::File::open(path).and_then(read_text)),
        Statements::Stdin => ("standard input".to_owned(), read_text(std::io::stdin())),
    };
    let text = text.map_err(|error| CheckError::Statements { path: path.clone(), error: error.to_string() })?;
    let statements = split(&text);
    if statements.is_empty() || statements.len() > MAX_STATEMENT_COUNT {
        let error = format!("it holds {} statements; 1 to {MAX_STATEMENT_COUNT} can be explained", statements.len());
        return Err(CheckError::Statements { path, error });
    }
    Ok(statements)
}

fn read_text(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(MAX_STATEMENTS + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_STATEMENTS {
        return Err(std::io::Error::other("it is larger than 64 MiB"));
    }
    Ok(text)
}

/// The statements of a text. Its tokens tell where they end, even where one of them can't be parsed.
fn split(text: &str) -> Vec<String> {
    let Ok(tokens) = sql::scan(text) else { return vec![text.trim().to_owned()] };
    let (mut parts, mut start, mut depth, mut empty) = (Vec::new(), 0, 0_i32, true);
    let mut end_at = |end: usize, empty: bool| {
        let part = text.get(start..end).unwrap_or_default().trim();
        start = end + 1;
        if !empty {
            parts.push(part.to_owned());
        }
    };
    for token in &tokens {
        match token.token() {
            Token::Ascii59 if depth == 0 => {
                end_at(usize::try_from(token.start).unwrap_or(0), empty);
                empty = true;
                continue;
            }
            Token::Ascii40 => depth += 1,
            Token::Ascii41 => depth -= 1,
            Token::SqlComment | Token::CComment => continue,
            _ => {}
        }
        empty = false;
    }
    end_at(text.len(), empty);
    parts
}

/// What comes of each statement for each identity. Each identity runs them one after another: a `SET search_path`
/// changes what the names after it mean.
fn explain(texts: &[String], bounds: &[BoundPolicy]) -> Vec<Statement> {
    let mut statements: Vec<Statement> = texts
        .iter()
        .enumerate()
        .map(|(at, sql)| Statement { number: at + 1, sql: sql.clone(), decisions: Vec::new() })
        .collect();
    for bound in bounds {
        let mut view = initial_view(bound);
        for statement in &mut statements {
            let decided = decide(&statement.sql, bound, &view);
            if let Ok(decided) = &decided {
                follow(decided, bound, &mut view);
            }
            statement.decisions.push(decision(&bound.identity.name, decided));
        }
    }
    statements
}

/// As Postgres has it for a role without settings of its own.
fn initial_view(bound: &BoundPolicy) -> SessionView {
    let search_path = vec![bound.identity.postgres_role.clone(), "public".to_owned()];
    SessionView { search_path: search_path.into(), ..SessionView::default() }
}

/// What comes of one text.
pub(crate) fn decide(text: &str, bound: &BoundPolicy, view: &SessionView) -> Result<Arc<Decided>, Denial> {
    let measure = sql::measure(text, &sql::ParseLimits::default())?;
    match sql::deep::run_blocking(&measure, || analyze(text, measure, bound, view, &[]))? {
        Analysis::Decided(decided) => Ok(decided),
        Analysis::Lookup(names) => {
            let names: Vec<String> = names
                .into_iter()
                .map(|(schema, name)| schema.map_or_else(|| name.clone(), |schema| format!("{schema}.{name}")))
                .collect();
            let message = format!("the database has no {}", names.join(", "));
            Err(Denial::new(crate::decide::Reason::UnknownRelation, message).sqlstate("42P01"))
        }
    }
}

/// What a statement changes for those after it.
fn follow(decided: &Decided, bound: &BoundPolicy, view: &mut SessionView) {
    if decided.denial.is_some() {
        return;
    }
    for statement in decided.statements.iter() {
        match &statement.effect {
            Effect::SearchPath { value, .. } => {
                view.search_path = value.as_deref().map_or_else(|| initial_view(bound).search_path, Into::into);
                view.overlay_version += 1;
            }
            Effect::ResetAll | Effect::DiscardAll => {
                view.search_path = initial_view(bound).search_path;
                view.overlay_version += 1;
            }
            _ => {}
        }
    }
}

fn decision(identity: &str, decided: Result<Arc<Decided>, Denial>) -> Decision {
    let mut row = Decision {
        identity: identity.to_owned(),
        decision: Outcome::Deny.as_str(),
        rule: None,
        reason: None,
        sqlstate: None,
        error: None,
        hint: None,
        object: None,
        rewritten: None,
        verbs: Vec::new(),
        relations: Vec::new(),
        masked_columns: Vec::new(),
        notices: Vec::new(),
        row_limit: None,
        byte_limit: None,
    };
    let denial = match decided {
        Err(denial) => Some(denial),
        Ok(decided) => {
            row.decision = Outcome::of(&decided).as_str();
            row.rewritten = decided.rewritten.as_deref().map(str::to_owned);
            for statement in decided.statements.iter() {
                row.rule = row.rule.or_else(|| statement.rule.as_deref().map(str::to_owned));
                let verbs: Vec<_> = statement.verbs.iter().map(|verb| verb.as_str()).collect();
                row.verbs.extend(verbs);
                row.relations.extend(statement.relations.iter().map(|name| name.to_string()));
                row.masked_columns.extend(statement.masked_columns.iter().map(|name| name.to_string()));
                row.notices.extend(statement.notices.iter().map(|notice| notice.text.to_string()));
                row.row_limit = row.row_limit.into_iter().chain(statement.limits.rows).min();
                row.byte_limit = row.byte_limit.into_iter().chain(statement.limits.bytes).min();
            }
            decided.denial.clone().or_else(|| decided.would_deny.clone())
        }
    };
    if let Some(denial) = denial {
        let Denial { reason, sqlstate, message, hint, rule, object, position: _ } = denial;
        row.rule = rule;
        row.reason = Some(reason.as_str());
        row.sqlstate = Some(sqlstate);
        row.error = Some(message);
        row.hint = hint.map(std::borrow::Cow::into_owned);
        row.object = object;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn statements_end_at_semicolons_that_are_none_of_their_own() {
        let text = "SELECT ';', $$;$$, \"a;b\"; -- c ; d\nSELEC 1;;\n/* ; */ CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);  SELECT 2";
        let expected = [
            "SELECT ';', $$;$$, \"a;b\"",
            "-- c ; d\nSELEC 1",
            "/* ; */ CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "SELECT 2",
        ];
        assert_eq!(split(text), expected);
        assert_eq!(split("SELECT 'open"), ["SELECT 'open"]);
        assert_eq!(split(""), Vec::<String>::new());
        assert_eq!(split(" ; -- nothing\n"), Vec::<String>::new());
    }
}
