//! Compile: spec → checked policy or identity, without a database. What compiles has no mistake that can be seen in the
//! text alone; webhook, `check`, controller and sidecar all ask this same function.
//!
//! Every mistake is told, one message each, with the path of the field.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::api::{self, DatabaseAccessPolicySpec, NonHumanIdentitySpec};
use crate::checked::{
    BulkAction, BulkExport, CheckedFilter, CheckedIdentity, CheckedMask, CheckedPolicy, CheckedRule, Database, Limits,
    MaskKind, Mode, OnPredicate, ParameterRecording, Recording, StatementRecording, TlsMode, To, Window,
};
use crate::combine::RESERVED_SETTING_CLASS;
use crate::filter;
use crate::pattern::{ColumnPattern, MAX_NAME_BYTES, NamePattern, PatternError, RelationPattern};
use crate::units;
use crate::verb::{Verb, VerbSet};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest `statement_timeout` that Postgres takes: 2^31 - 1 milliseconds.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// A mistake in a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Path of the field, such as `spec.rules[0].relations[1]`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for CompileError {}

/// Compiles a policy.
pub fn compile_policy(
    namespace: &str,
    name: &str,
    spec: &DatabaseAccessPolicySpec,
) -> Result<CheckedPolicy, Vec<CompileError>> {
    let DatabaseAccessPolicySpec { mode, database, masks, rules, bulk_export, recording, sidecar } = spec;
    let mut errors = Errors::default();
    let database = compile_database(database, &mut errors);
    let masks = masks
        .iter()
        .enumerate()
        .filter_map(|(index, mask)| compile_mask(mask, format!("spec.masks[{index}]"), &mut errors))
        .collect();
    let mut names = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        if let Some(first) = names.insert(rule.name.as_str(), index) {
            errors
                .add(format!("spec.rules[{index}].name"), format!("'{}' is the name of rules[{first}] too", rule.name));
        }
    }
    let rules = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| compile_rule(rule, format!("spec.rules[{index}]"), &mut errors))
        .collect();
    let bulk_export = compile_bulk_export(bulk_export.as_ref(), &mut errors);
    if let Some(sidecar) = sidecar {
        check_sidecar(sidecar, &mut errors);
    }
    errors.unless_any(CheckedPolicy {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        mode: match mode {
            api::Mode::Enforce => Mode::Enforce,
            api::Mode::Audit => Mode::Audit,
        },
        database,
        masks,
        rules,
        bulk_export,
        recording: compile_recording(recording.as_ref()),
    })
}

/// Compiles an identity.
pub fn compile_identity(
    namespace: &str,
    name: &str,
    spec: &NonHumanIdentitySpec,
) -> Result<CheckedIdentity, Vec<CompileError>> {
    let NonHumanIdentitySpec { subjects, groups, postgres_role, max_lease, outage_grace } = spec;
    let mut errors = Errors::default();
    for (index, subject) in subjects.iter().enumerate() {
        check_subject(subject, namespace, &format!("spec.subjects[{index}]"), &mut errors);
    }
    check_names(
        groups,
        "spec.groups",
        is_group_name,
        "a group's name can't be empty or have control characters",
        &mut errors,
    );
    let role = "spec.postgresRole";
    if check_name(postgres_role, role, &mut errors) {
        match postgres_role.as_str() {
            "none" => errors.add(role, "'none' is no role: to Postgres it means the login itself"),
            "public" => errors.add(role, "'public' is no role: to Postgres it means everyone"),
            name if name.starts_with("pg_") => {
                errors.add(role, format!("'{name}' is a role of the server's own: make one for the workload"));
            }
            _ => {}
        }
    }
    let max_lease = optional_duration(max_lease.as_deref(), HOUR, MINUTE, DAY, "spec.maxLease", &mut errors);
    optional_duration(outage_grace.as_deref(), Duration::ZERO, Duration::ZERO, DAY, "spec.outageGrace", &mut errors);
    errors.unless_any(CheckedIdentity {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        groups: groups.clone(),
        postgres_role: postgres_role.clone(),
        max_lease,
    })
}

/// The mistakes found so far.
#[derive(Default)]
struct Errors(Vec<CompileError>);

impl Errors {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(CompileError { path: path.into(), message: message.into() });
    }

    fn unless_any<T>(self, value: T) -> Result<T, Vec<CompileError>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// Keeps what is right, tells what is not.
    fn take<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }
}

fn compile_database(database: &api::Database, errors: &mut Errors) -> Database {
    let api::Database { host, port, name, tls, credentials } = database;
    let path = "spec.database";
    let socket = host.starts_with('/');
    if host.is_empty() {
        errors.add(format!("{path}.host"), "is empty");
    } else if host.len() > 253 {
        errors.add(format!("{path}.host"), "is longer than 253 bytes");
    } else if socket && host.chars().any(char::is_control) {
        errors.add(format!("{path}.host"), "has a control character");
    } else if !socket && !is_host(host) {
        errors.add(
            format!("{path}.host"),
            format!("'{host}' is neither one host name or address, nor the absolute path of a socket's directory"),
        );
    }
    let port = match u16::try_from(*port) {
        Ok(port) if port > 0 => port,
        _ => {
            errors.add(format!("{path}.port"), "must be from 1 to 65535");
            0
        }
    };
    check_name(name, &format!("{path}.name"), errors);

    let (tls, ca_secret) = match tls {
        None if socket => (TlsMode::Disable, None),
        None => {
            errors.add(
                format!("{path}.tls"),
                "is missing: write {mode: VerifyFull, caSecret: …}, or another mode if you accept what it means",
            );
            (TlsMode::VerifyFull, None)
        }
        Some(api::Tls { mode, ca_secret, allow_unverified: _ }) => {
            let (mode, word) = match mode {
                api::TlsMode::Disable => (TlsMode::Disable, "Disable"),
                api::TlsMode::Require => (TlsMode::Require, "Require"),
                api::TlsMode::VerifyCa => (TlsMode::VerifyCa, "VerifyCa"),
                api::TlsMode::VerifyFull => (TlsMode::VerifyFull, "VerifyFull"),
            };
            let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
            if socket && mode != TlsMode::Disable {
                errors.add(format!("{path}.tls.mode"), format!("{word} can't be had: a unix socket has no TLS"));
            } else if verifies && ca_secret.is_none() {
                errors
                    .add(format!("{path}.tls.caSecret"), format!("is missing: {word} verifies the server against it"));
            } else if !verifies && ca_secret.is_some() {
                errors.add(
                    format!("{path}.tls.caSecret"),
                    format!("{word} does not verify the server, so this has no effect: choose VerifyFull or VerifyCa"),
                );
            }
            let ca_secret =
                ca_secret.as_ref().map(|secret| secret_key(secret, &format!("{path}.tls.caSecret"), errors));
            (mode, ca_secret)
        }
    };

    let api::Credentials { secret, ephemeral_role } = credentials;
    let path = "spec.database.credentials";
    match (secret, ephemeral_role) {
        (None, None) => errors.add(path, "set secret or ephemeralRole"),
        (Some(_), Some(_)) => errors.add(path, "set secret or ephemeralRole, not both"),
        _ => {}
    }
    if let Some(api::EphemeralRole { admin_secret, grants: api::EphemeralGrants::FromPolicy }) = ephemeral_role {
        check_secret_name(&admin_secret.name, &format!("{path}.ephemeralRole.adminSecret.name"), errors);
    }
    if let Some(secret) = secret {
        check_secret_name(&secret.name, &format!("{path}.secret.name"), errors);
    }
    Database {
        host: host.clone(),
        port,
        name: name.clone(),
        tls,
        ca_secret,
        credentials_secret: secret.as_ref().map(|secret| secret.name.clone()),
    }
}

fn compile_mask(entry: &api::MaskEntry, path: String, errors: &mut Errors) -> Option<CheckedMask> {
    let api::MaskEntry { columns, mask, exempt, on_predicate } = entry;
    let columns_path = format!("{path}.columns");
    if columns.is_empty() {
        errors.add(&columns_path, "names no column");
    }
    let columns = patterns(columns, &columns_path, ColumnPattern::parse, errors);
    let exempt = match exempt {
        Some(exempt) => compile_to(exempt, &format!("{path}.exempt"), errors),
        None => To::default(),
    };
    let kind = compile_mask_kind(mask, &format!("{path}.mask"), errors)?;
    Some(CheckedMask {
        path,
        columns,
        kind,
        exempt,
        on_predicate: match on_predicate {
            api::OnPredicate::Notice => OnPredicate::Notice,
            api::OnPredicate::Refuse => OnPredicate::Refuse,
        },
    })
}

fn compile_mask_kind(mask: &api::Mask, path: &str, errors: &mut Errors) -> Option<MaskKind> {
    let api::Mask { nullify, default, fixed, redact, hash, truncate_date, bucket, partial, email } = mask;
    let mut kinds = Vec::new();
    if let Some(api::Nothing {}) = nullify {
        kinds.push(MaskKind::Nullify);
    }
    if let Some(api::Nothing {}) = default {
        kinds.push(MaskKind::Default);
    }
    if let Some(api::FixedMask { value }) = fixed {
        if value.contains('\0') {
            errors.add(format!("{path}.fixed.value"), "has a NUL character");
        }
        kinds.push(MaskKind::Fixed { value: value.clone() });
    }
    if let Some(api::Nothing {}) = redact {
        kinds.push(MaskKind::Redact);
    }
    if let Some(api::HashMask { key_secret }) = hash {
        let key_secret = secret_key(key_secret, &format!("{path}.hash.keySecret"), errors);
        kinds.push(MaskKind::Hash { key_secret });
    }
    if let Some(api::TruncateDateMask { to }) = truncate_date {
        let to = match to {
            api::DateUnit::Year => "year",
            api::DateUnit::Quarter => "quarter",
            api::DateUnit::Month => "month",
            api::DateUnit::Week => "week",
            api::DateUnit::Day => "day",
            api::DateUnit::Hour => "hour",
        };
        kinds.push(MaskKind::TruncateDate { to: to.to_owned() });
    }
    if let Some(api::BucketMask { size }) = bucket {
        let size = size.0.clone();
        if !units::is_decimal(&size) || size.len() > 32 || !size.contains(|digit| ('1'..='9').contains(&digit)) {
            errors.add(
                format!("{path}.bucket.size"),
                format!("'{size}' must be a positive number, such as 1000 or \"0.5\""),
            );
        }
        kinds.push(MaskKind::Bucket { size });
    }
    if let Some(partial) = partial {
        kinds.push(compile_partial(partial, &format!("{path}.partial"), errors));
    }
    if let Some(api::Nothing {}) = email {
        kinds.push(MaskKind::Email);
    }
    match kinds.as_slice() {
        [_] => kinds.pop(),
        [] => {
            errors.add(
                path,
                "chooses no mask: set one of nullify, default, fixed, redact, hash, truncateDate, bucket, partial, email \
                 (as an object: nullify: {})",
            );
            None
        }
        several => {
            let words: Vec<_> = several.iter().map(MaskKind::as_str).collect();
            errors.add(path, format!("chooses {} at once: set exactly one", words.join(" and ")));
            None
        }
    }
}

fn compile_partial(partial: &api::PartialMask, path: &str, errors: &mut Errors) -> MaskKind {
    let api::PartialMask { keep_first, keep_last, with } = partial;
    let mut keep = |kept: Option<i32>, field: &str| match u32::try_from(kept.unwrap_or(0)) {
        Ok(kept) if kept <= 64 => kept,
        _ => {
            errors.add(format!("{path}.{field}"), "must be from 0 to 64");
            // Any value that does not bring the next message too: one mistake, one message.
            1
        }
    };
    let keep_first = keep(*keep_first, "keepFirst");
    let keep_last = keep(*keep_last, "keepLast");
    if keep_first == 0 && keep_last == 0 {
        errors.add(path, "keeps nothing: set keepFirst or keepLast, or use redact");
    }
    let with = match with {
        None => '*',
        Some(with) => {
            let mut characters = with.chars();
            match (characters.next(), characters.next()) {
                (Some(one), None) if !one.is_control() => one,
                _ => {
                    errors.add(format!("{path}.with"), "must be exactly one character");
                    '*'
                }
            }
        }
    };
    MaskKind::Partial { keep_first, keep_last, with }
}

fn compile_to(to: &api::To, path: &str, errors: &mut Errors) -> To {
    let api::To { identities, groups } = to;
    if identities.is_empty() && groups.is_empty() {
        errors.add(path, "names nobody: set identities or groups");
    }
    check_names(
        identities,
        &format!("{path}.identities"),
        is_object_name,
        "is no name that an identity can have",
        errors,
    );
    check_names(
        groups,
        &format!("{path}.groups"),
        is_group_name,
        "a group's name can't be empty or have control characters",
        errors,
    );
    To { identities: identities.clone(), groups: groups.clone() }
}

fn compile_rule(rule: &api::Rule, path: String, errors: &mut Errors) -> CheckedRule {
    let api::Rule { name, to, allow, relations, hide_columns, row_filters, functions, settings, channels, limits } =
        rule;
    if name.len() > 63 || name.contains('.') || !is_object_name(name) {
        errors.add(format!("{path}.name"), format!("'{name}' must be lower-case letters, digits and '-', at most 63"));
    }
    let to = compile_to(to, &format!("{path}.to"), errors);
    let verbs = compile_verbs(rule, &path, errors);
    let rule = CheckedRule {
        name: name.clone(),
        to,
        allow: verbs,
        relations: patterns(relations, &format!("{path}.relations"), RelationPattern::parse, errors),
        hide_columns: patterns(hide_columns, &format!("{path}.hideColumns"), ColumnPattern::parse, errors),
        row_filters: row_filters
            .iter()
            .enumerate()
            .filter_map(|(index, filter)| compile_filter(filter, format!("{path}.rowFilters[{index}]"), errors))
            .collect(),
        functions: patterns(functions, &format!("{path}.functions"), function_pattern, errors),
        settings: patterns(settings, &format!("{path}.settings"), setting_pattern, errors),
        channels: patterns(channels, &format!("{path}.channels"), NamePattern::parse, errors),
        limits: match limits {
            Some(limits) => compile_limits(limits, &format!("{path}.limits"), errors),
            None => Limits::default(),
        },
        path,
    };
    if allow.is_empty()
        && hide_columns.is_empty()
        && row_filters.is_empty()
        && functions.is_empty()
        && settings.is_empty()
        && channels.is_empty()
        && limits.is_none()
    {
        errors.add(&rule.path, "allows nothing and restricts nothing: set allow");
    } else if limits.is_some() && relations.is_empty() {
        errors.add(format!("{}.limits", rule.path), "hold for relations, and the rule names none");
    }
    rule
}

fn compile_verbs(rule: &api::Rule, path: &str, errors: &mut Errors) -> VerbSet {
    let mut verbs = VerbSet::EMPTY;
    let mut without_relation = Vec::new();
    for (index, verb) in rule.allow.iter().copied().enumerate() {
        if verbs.contains(verb) {
            errors.add(format!("{path}.allow[{index}]"), format!("{verb} is named twice"));
            continue;
        }
        verbs.insert(verb);
        match verb {
            Verb::Call if rule.functions.is_empty() => {
                errors.add(format!("{path}.functions"), "is missing: Call needs the functions and procedures named");
            }
            Verb::Notify if rule.channels.is_empty() => {
                errors.add(format!("{path}.channels"), "is missing: Notify needs the channels named");
            }
            // Schemas, advisory locks and temporary tables are no relations that could be named.
            Verb::Call | Verb::Notify | Verb::Temp | Verb::Lock | Verb::Ddl => {}
            Verb::Select
            | Verb::Insert
            | Verb::Update
            | Verb::Delete
            | Verb::Truncate
            | Verb::CopyIn
            | Verb::CopyOut
            | Verb::Maintenance => without_relation.push(verb.as_str()),
        }
    }
    if rule.relations.is_empty() && !without_relation.is_empty() {
        errors.add(
            format!("{path}.relations"),
            format!(
                "is missing: {} needs relations, such as public.customers or \"reporting.*\"",
                without_relation.join(", ")
            ),
        );
    }
    verbs
}

fn compile_filter(row_filter: &api::RowFilter, path: String, errors: &mut Errors) -> Option<CheckedFilter> {
    let api::RowFilter { relation, where_ } = row_filter;
    let relation = errors.take(&format!("{path}.relation"), RelationPattern::parse(relation));
    let where_sql = errors.take(&format!("{path}.where"), filter::check(where_));
    Some(CheckedFilter { path, relation: relation?, where_sql: where_sql? })
}

/// A function's pattern. `pg_catalog.*` and the like would match nothing, see [`crate::combine`].
fn function_pattern(text: &str) -> Result<RelationPattern, String> {
    if let Some(name) = text.strip_suffix("()") {
        return Err(format!("write the name without parentheses: {name}"));
    }
    let pattern = RelationPattern::parse(text).map_err(|error| match error {
        PatternError::NoSchema(name) => {
            format!("'{name}' does not name the schema: write schema.{name}, such as public.{name}")
        }
        other => other.to_string(),
    })?;
    match &pattern.schema {
        NamePattern::Literal(schema) if crate::combine::is_system_schema(schema) && !pattern.is_literal() => {
            Err(format!("'{text}' matches nothing: functions of {schema} must be named one by one"))
        }
        _ => Ok(pattern),
    }
}

/// A pattern for custom settings: `class.name`, in any case, with stars after the class only.
fn setting_pattern(text: &str) -> Result<NamePattern, String> {
    let text = text.to_ascii_lowercase();
    let Some((class, name)) = text.split_once('.') else {
        return Err(format!("'{text}' is no custom setting: only those, written class.name, can be allowed"));
    };
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
    };
    if class.contains('*') {
        return Err(format!("'{text}' must name the class of the settings: a star can stand after the dot only"));
    }
    let filled = name.replace('*', "x");
    if text.len() > 127 || !is_identifier(class) || !filled.split('.').all(is_identifier) {
        return Err(format!("'{text}' is no name that a custom setting can have: write class.name or class.*"));
    }
    if class == RESERVED_SETTING_CLASS {
        return Err(format!("settings of the class '{class}' are Postern's own"));
    }
    if !name.contains('*') {
        return Ok(NamePattern::Literal(text));
    }
    let mut pieces: Vec<String> = text.split('*').map(str::to_owned).collect();
    let last = pieces.len() - 1;
    let mut index = 0;
    pieces.retain(|piece| {
        let keep = index == 0 || index == last || !piece.is_empty();
        index += 1;
        keep
    });
    Ok(NamePattern::Glob(pieces))
}

fn compile_limits(limits: &api::Limits, path: &str, errors: &mut Errors) -> Limits {
    let api::Limits { rows, bytes, statement_timeout, window } = limits;
    if rows.is_none() && bytes.is_none() && statement_timeout.is_none() && window.is_none() {
        errors.add(path, "limits nothing: set rows, bytes, statementTimeout or window");
    }
    Limits {
        rows: rows.and_then(|rows| positive(rows, &format!("{path}.rows"), errors)),
        bytes: bytes.as_ref().and_then(|bytes| some_bytes(bytes, &format!("{path}.bytes"), errors)),
        statement_timeout: statement_timeout.as_ref().and_then(|text| {
            some_duration(text, Duration::from_millis(1), LONGEST_TIMEOUT, &format!("{path}.statementTimeout"), errors)
        }),
        window: window.as_ref().and_then(|window| compile_window(window, &format!("{path}.window"), errors)),
    }
}

fn compile_window(window: &api::Window, path: &str, errors: &mut Errors) -> Option<Window> {
    let api::Window { every, rows, bytes } = window;
    if rows.is_none() && bytes.is_none() {
        errors.add(path, "limits nothing: set rows or bytes");
    }
    let rows = rows.and_then(|rows| positive(rows, &format!("{path}.rows"), errors));
    let bytes = bytes.as_ref().and_then(|bytes| some_bytes(bytes, &format!("{path}.bytes"), errors));
    let every = some_duration(every, SECOND, 7 * DAY, &format!("{path}.every"), errors)?;
    Some(Window { every, rows, bytes })
}

fn compile_bulk_export(bulk_export: Option<&api::BulkExport>, errors: &mut Errors) -> BulkExport {
    let default = api::BulkExport::default();
    let api::BulkExport { action, approval } = bulk_export.unwrap_or(&default);
    let api::Approval { timeout, valid_for } = approval.clone().unwrap_or_default();
    let path = "spec.bulkExport.approval";
    BulkExport {
        action: match action {
            api::BulkAction::Deny => BulkAction::Deny,
            api::BulkAction::RequireApproval => BulkAction::RequireApproval,
            api::BulkAction::Allow => BulkAction::Allow,
        },
        approval_timeout: optional_duration(
            timeout.as_deref(),
            10 * MINUTE,
            SECOND,
            DAY,
            &format!("{path}.timeout"),
            errors,
        ),
        approval_valid_for: optional_duration(
            valid_for.as_deref(),
            30 * MINUTE,
            SECOND,
            DAY,
            &format!("{path}.validFor"),
            errors,
        ),
    }
}

fn compile_recording(recording: Option<&api::Recording>) -> Recording {
    let default = api::Recording::default();
    let api::Recording { statements, parameters } = recording.unwrap_or(&default);
    Recording {
        statements: match statements {
            api::StatementRecording::Full => StatementRecording::Full,
            api::StatementRecording::Normalized => StatementRecording::Normalized,
            api::StatementRecording::Fingerprint => StatementRecording::Fingerprint,
        },
        parameters: match parameters {
            api::ParameterRecording::Full => ParameterRecording::Full,
            api::ParameterRecording::Hash => ParameterRecording::Hash,
            api::ParameterRecording::None => ParameterRecording::None,
        },
    }
}

/// Variables that every container gets anyway; another value would lead past the sidecar or to nothing.
const GIVEN_ENV: [&str; 5] = ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSSLMODE"];

fn check_sidecar(sidecar: &api::Sidecar, errors: &mut Errors) {
    let api::Sidecar { env, resources, restart_on_change: _ } = sidecar;
    for (name, value) in env {
        let path = format!("spec.sidecar.env.{name}");
        let is_variable = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_variable {
            errors.add("spec.sidecar.env", format!("{name:?} is no name that an environment variable can have"));
        } else if GIVEN_ENV.contains(&name.as_str()) || name.starts_with("POSTERN_") {
            errors.add(path, "is set by Postern itself");
        } else if value.contains('\0') {
            errors.add(path, "has a NUL character");
        } else {
            for unknown in placeholders(value).filter(|word| !["user", "host", "port", "database"].contains(word)) {
                let message = if unknown == "password" {
                    "there is no {password}: the workload never gets one, and needs none".into()
                } else {
                    format!("{{{unknown}}} stands for nothing: known are {{user}}, {{host}}, {{port}} and {{database}}")
                };
                errors.add(&path, message);
            }
        }
    }
    if let Some(api::Resources { requests, limits }) = resources {
        for (field, quantities) in [("requests", requests), ("limits", limits)] {
            for (name, quantity) in quantities {
                if !units::is_resource_quantity(&quantity.0) {
                    errors.add(
                        format!("spec.sidecar.resources.{field}.{name}"),
                        format!("'{}' is no quantity: write it as 50m, 0.5 or 64Mi", quantity.0),
                    );
                }
            }
        }
    }
}

/// The words in braces; braces with anything else in them, such as JSON, are text.
fn placeholders(value: &str) -> impl Iterator<Item = &str> {
    value.split('{').skip(1).filter_map(|after| {
        let (word, _) = after.split_once('}')?;
        (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(word)
    })
}

fn check_subject(subject: &api::Subject, namespace: &str, path: &str, errors: &mut Errors) {
    let api::Subject { service_account, oidc } = subject;
    match (service_account, oidc) {
        (None, None) => errors.add(path, "set serviceAccount or oidc"),
        (Some(_), Some(_)) => errors.add(path, "set serviceAccount or oidc, not both: make it two subjects"),
        _ => {}
    }
    if let Some(api::ServiceAccountSubject { name }) = service_account
        && !is_object_name(name)
    {
        errors
            .add(format!("{path}.serviceAccount.name"), format!("'{name}' is no name that a service account can have"));
    }
    let Some(api::OidcSubject { issuer, audience, claims, groups_claim }) = oidc else { return };
    let path = format!("{path}.oidc");
    let is_url = issuer.strip_prefix("https://").is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && !rest.contains(|c: char| "?#@\\".contains(c) || c.is_whitespace() || c.is_control())
    });
    if !is_url {
        errors.add(
            format!("{path}.issuer"),
            format!("'{issuer}' must be a URL that begins with https://, without user, query and fragment"),
        );
    }
    let expected = format!("postern/{namespace}");
    if audience.as_ref().is_some_and(|audience| *audience != expected) {
        errors.add(
            format!("{path}.audience"),
            format!("must be '{expected}', so that a token for another namespace is none here"),
        );
    }
    if claims.is_empty() {
        errors.add(format!("{path}.claims"), "needs at least one claim: anyone can get a token of this issuer");
    }
    for (claim, value) in claims {
        if ["iss", "aud", "exp", "nbf", "iat", "jti"].contains(&claim.as_str()) {
            errors.add(
                format!("{path}.claims.{claim}"),
                "pins nothing: Postern checks issuer, audience and times by itself",
            );
        } else if claim.is_empty() || value.is_empty() {
            errors.add(format!("{path}.claims.{claim}"), "is empty");
        }
    }
    if groups_claim.as_ref().is_some_and(String::is_empty) {
        errors.add(format!("{path}.groupsClaim"), "is empty");
    }
}

/// Parses each pattern of a list.
fn patterns<T, E: fmt::Display>(
    texts: &[String],
    path: &str,
    parse: impl Fn(&str) -> Result<T, E>,
    errors: &mut Errors,
) -> Vec<T> {
    texts.iter().enumerate().filter_map(|(index, text)| errors.take(&format!("{path}[{index}]"), parse(text))).collect()
}

/// Tells names that can't be, and those that come twice.
fn check_names(names: &[String], path: &str, valid: impl Fn(&str) -> bool, message: &str, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        if !valid(name) {
            errors.add(format!("{path}[{index}]"), format!("{name:?}: {message}"));
        } else if !seen.insert(name) {
            errors.add(format!("{path}[{index}]"), format!("'{name}' is named twice"));
        }
    }
}

/// A name in Postgres, as it is (not a pattern). Tells whether it can be one.
fn check_name(name: &str, path: &str, errors: &mut Errors) -> bool {
    let mistake = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("is longer than {MAX_NAME_BYTES} bytes, which Postgres would cut")
    } else if name.chars().any(char::is_control) {
        "has a control character".to_owned()
    } else {
        return true;
    };
    errors.add(path, mistake);
    false
}

fn secret_key(secret: &api::SecretKey, path: &str, errors: &mut Errors) -> (String, String) {
    let api::SecretKey { name, key } = secret;
    check_secret_name(name, &format!("{path}.name"), errors);
    // In a folder of secrets this is a file's name: it must not lead out of the folder.
    let is_key = !key.is_empty()
        && key.len() <= 253
        && !key.starts_with("..")
        && key != "."
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if !is_key {
        errors.add(format!("{path}.key"), format!("{key:?} is no key that a Secret can have"));
    }
    (name.clone(), key.clone())
}

fn check_secret_name(name: &str, path: &str, errors: &mut Errors) {
    if !is_object_name(name) {
        errors.add(path, format!("{name:?} is no name that a Secret can have"));
    }
}

/// Whether Kubernetes takes the text as an object's name (a DNS subdomain).
pub(crate) fn is_object_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let alphanumeric = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_group_name(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// A DNS name or an address; libpq's lists of hosts are none.
fn is_host(host: &str) -> bool {
    let is_name = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    is_name || host.parse::<std::net::IpAddr>().is_ok()
}

fn positive(number: i64, path: &str, errors: &mut Errors) -> Option<u64> {
    match u64::try_from(number) {
        Ok(number) if number > 0 => Some(number),
        _ => {
            errors.add(path, "must be at least 1");
            None
        }
    }
}

fn some_bytes(text: &api::IntOrText, path: &str, errors: &mut Errors) -> Option<u64> {
    let bytes = errors.take(path, units::bytes(&text.0))?;
    if bytes == 0 {
        errors.add(path, "must be at least 1");
        return None;
    }
    Some(bytes)
}

fn some_duration(text: &str, least: Duration, most: Duration, path: &str, errors: &mut Errors) -> Option<Duration> {
    let duration = errors.take(path, units::duration(text))?;
    if duration < least || duration > most {
        errors.add(path, format!("must be from {} to {}", units::show_duration(least), units::show_duration(most)));
        return None;
    }
    Some(duration)
}

fn optional_duration(
    text: Option<&str>,
    default: Duration,
    least: Duration,
    most: Duration,
    path: &str,
    errors: &mut Errors,
) -> Duration {
    text.and_then(|text| some_duration(text, least, most, path, errors)).unwrap_or(default)
}
