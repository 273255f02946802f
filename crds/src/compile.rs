//! Compile: spec → checked policy or identity, without a database. What compiles has no mistake that can be seen in the
//! text alone; webhook, `check`, controller and sidecar all ask this same function.
//!
//! Every mistake is told, one message each, with the path of the field.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::api::{self, DatabaseAccessPolicySpec, NonHumanIdentitySpec};
use crate::checked::{
    BulkAction, BulkExport, CheckedFilter, CheckedIdentity, CheckedMask, CheckedPolicy, CheckedRule, Credentials,
    Database, EphemeralRole, Limits, MaskKind, Mode, OnPredicate, ParameterRecording, Recording, StatementRecording,
    TlsMode, To, Window,
};
use crate::combine::{ISOLATION_SETTING, RESERVED_SETTING_CLASS};
use crate::filter;
use crate::issuers;
use crate::pattern::{ColumnPattern, MAX_NAME_BYTES, NamePattern, PatternError, RelationPattern};
use crate::strict::show_key;
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
    let rules: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| compile_rule(rule, format!("spec.rules[{index}]"), &mut errors))
        .collect();
    if *mode == api::Mode::Audit && database.credentials.ephemeral().is_some_and(|role| role.member_of.is_none()) {
        errors.add(
            "spec.mode",
            "Audit changes nothing, and a role with the policy's grants would be refused what they don't have: \
             use a secret, or ephemeralRole.memberOf",
        );
    }
    check_ddl(&database, &rules, &mut errors);
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
    check_own_role(postgres_role, role, &mut errors);
    let max_lease = optional_duration(max_lease.as_deref(), HOUR, MINUTE, DAY, "spec.maxLease", &mut errors);
    let outage_grace = optional_duration(
        outage_grace.as_deref(),
        Duration::ZERO,
        Duration::ZERO,
        DAY,
        "spec.outageGrace",
        &mut errors,
    );
    errors.unless_any(CheckedIdentity {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        groups: groups.clone(),
        postgres_role: postgres_role.clone(),
        max_lease,
        outage_grace,
    })
}

/// The mistakes found so far.
#[derive(Default)]
struct Errors(Vec<CompileError>);

impl Errors {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(CompileError { path: path.into(), message: printable(&message.into()) });
    }

    fn unless_any<T>(self, value: T) -> Result<T, Vec<CompileError>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// Keeps what is right, tells what is not.
    fn take<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }
}

/// The text with control characters written out: a message quotes what a file says, and goes to terminals and logs.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control()
            || "\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}"
                .contains(character)
        {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
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
    let port = check_port(*port, &format!("{path}.port"), errors);
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
    let credentials = match (secret, ephemeral_role) {
        (Some(secret), None) => {
            check_secret_name(&secret.name, &format!("{path}.secret.name"), errors);
            Credentials::Secret(secret.name.clone())
        }
        (None, Some(role)) => {
            if socket {
                errors.add(
                    format!("{path}.ephemeralRole"),
                    "can't be had by a unix socket: the operator has to connect too",
                );
            }
            Credentials::Ephemeral(compile_ephemeral(role, &format!("{path}.ephemeralRole"), errors))
        }
        (one, _) => {
            errors.add(path, format!("set secret or ephemeralRole{}", if one.is_some() { ", not both" } else { "" }));
            Credentials::Secret(String::new())
        }
    };
    Database { host: host.clone(), port, name: name.clone(), tls, ca_secret, credentials }
}

fn check_port(port: i32, path: &str, errors: &mut Errors) -> u16 {
    match u16::try_from(port) {
        Ok(port) if port > 0 => port,
        _ => {
            errors.add(path, "must be from 1 to 65535");
            0
        }
    }
}

/// What a role that is dropped soon makes would have to go with it, or to somebody else.
fn check_ddl(database: &Database, rules: &[CheckedRule], errors: &mut Errors) {
    if database.credentials.ephemeral().is_none_or(|role| role.member_of.is_some()) {
        return;
    }
    for rule in rules.iter().filter(|rule| rule.allow.contains(Verb::Ddl)) {
        errors.add(
            format!("{}.allow", rule.path),
            "Ddl needs spec.database.credentials.ephemeralRole.memberOf: the role that is to own what is made",
        );
    }
}

fn compile_ephemeral(role: &api::EphemeralRole, path: &str, errors: &mut Errors) -> EphemeralRole {
    let api::EphemeralRole { admin_secret, grants, member_of, primary } = role;
    check_secret_name(&admin_secret.name, &format!("{path}.adminSecret.name"), errors);
    if let (Some(api::EphemeralGrants::FromPolicy), Some(_)) = (grants, member_of) {
        errors.add(path, "set grants or memberOf, not both");
    }
    if let Some(role) = member_of {
        check_own_role(role, &format!("{path}.memberOf"), errors);
    }
    let primary = primary.as_ref().map(|api::Primary { host, port }| {
        if host.len() > 253 || !is_host(host) {
            errors.add(format!("{path}.primary.host"), format!("'{host}' is not one host name or address"));
        }
        (host.clone(), check_port(*port, &format!("{path}.primary.port"), errors))
    });
    EphemeralRole { admin_secret: admin_secret.name.clone(), member_of: member_of.clone(), primary }
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
    } else if limits.is_some() && relations.is_empty() && functions.is_empty() {
        errors.add(format!("{}.limits", rule.path), "hold for relations and functions, and the rule names none");
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

/// A pattern for custom settings: `class.name`, in any case, with stars after the class only. Or the one of the server's that a rule
/// may give.
fn setting_pattern(text: &str) -> Result<NamePattern, String> {
    let text = text.to_ascii_lowercase();
    if text == ISOLATION_SETTING {
        return Ok(NamePattern::Literal(text));
    }
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

/// What libpq reads from the environment and the injection sets, so that nothing of it can point past the sidecar.
pub const GIVEN_ENV: [&str; 13] = [
    "PGHOST",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGSSLMODE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGHOSTADDR",
    "PGSSLROOTCERT",
    "PGSSLNEGOTIATION",
    "PGCHANNELBINDING",
    "PGREQUIREAUTH",
];

fn check_sidecar(sidecar: &api::Sidecar, errors: &mut Errors) {
    let api::Sidecar { env, on_env_conflict: _, resources, restart_on_change: _ } = sidecar;
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
                if units::resource_quantity(&quantity.0).is_none() {
                    errors.add(
                        format!("spec.sidecar.resources.{field}.{}", show_key(name)),
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
    if audience.as_ref().is_some_and(|audience| !issuers::takes(issuer, audience, namespace)) {
        errors.add(
            format!("{path}.audience"),
            format!("must be '{}', so that a token for another namespace is none here", issuers::audience(namespace)),
        );
    }
    if claims.is_empty() {
        errors.add(format!("{path}.claims"), "needs at least one claim: anyone can get a token of this issuer");
    } else if let Some(why) = issuers::unpinned(issuer, claims) {
        errors.add(format!("{path}.claims"), why);
    }
    for (claim, value) in claims {
        let path = format!("{path}.claims.{}", show_key(claim));
        if ["iss", "aud", "exp", "nbf", "iat", "jti"].contains(&claim.as_str()) {
            errors.add(path, "pins nothing: Postern checks issuer, audience and times by itself");
        } else if claim.is_empty() || value.is_empty() {
            errors.add(path, "is empty");
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

/// A role that somebody made for workloads, and no word that means something else to Postgres.
fn check_own_role(role: &str, path: &str, errors: &mut Errors) {
    if !check_name(role, path, errors) {
        return;
    }
    match role {
        "none" => errors.add(path, "'none' is no role: to Postgres it means the login itself"),
        "public" => errors.add(path, "'public' is no role: to Postgres it means everyone"),
        name if name.starts_with("pg_") => {
            errors.add(path, format!("'{name}' is a role of the server's own: make one for the workload"));
        }
        _ => {}
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

    use serde_json::{Value, json};

    use super::*;
    use crate::files::{self, Object};

    const EXAMPLE: &str = include_str!("../tests/example.yaml");

    fn example(kind: &str) -> Value {
        files::read(EXAMPLE)
            .unwrap()
            .into_iter()
            .find_map(|object| match object {
                Object::Policy(policy) if kind == "policy" => Some(serde_json::to_value(policy.spec).unwrap()),
                Object::Identity(identity) if kind == "identity" => Some(serde_json::to_value(identity.spec).unwrap()),
                _ => None,
            })
            .unwrap()
    }

    /// Puts the value at the pointer; an absent key is added, `null` takes it away.
    fn patch(spec: &mut Value, pointer: &str, value: Value) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match spec.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
            Value::Object(fields) if value.is_null() => {
                fields.remove(key).unwrap_or_else(|| panic!("no {pointer}"));
            }
            Value::Object(fields) => {
                fields.insert(key.to_owned(), value);
            }
            Value::Array(items) if key == "-" => items.push(value),
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            other => panic!("{other}"),
        }
    }

    fn policy_errors(patches: &[(&str, Value)]) -> Vec<String> {
        let mut spec = example("policy");
        for (pointer, value) in patches {
            patch(&mut spec, pointer, value.clone());
        }
        let spec = serde_json::from_value(spec).unwrap();
        match compile_policy("shop", "shop", &spec) {
            Ok(_) => vec![],
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    fn identity_errors(patches: &[(&str, Value)]) -> Vec<String> {
        let mut spec = example("identity");
        for (pointer, value) in patches {
            patch(&mut spec, pointer, value.clone());
        }
        let spec = serde_json::from_value(spec).unwrap();
        match compile_identity("shop", "nightly-report", &spec) {
            Ok(_) => vec![],
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn each_mistake_in_a_policy_gives_one_message_with_its_path() {
        let rule = |fields: Value| {
            let mut rule = json!({"name": "more", "to": {"groups": ["x"]}});
            rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            rule
        };
        let mask = |mask: Value| json!({"columns": ["a.b.c"], "mask": mask});
        let long = "x".repeat(64);
        let mut wrong = Vec::new();
        for (pointer, value, expected) in [
            ("/database/host", json!(""), "spec.database.host: is empty"),
            ("/database/host", json!("a,b"), "spec.database.host: 'a,b' is neither one host name"),
            ("/database/host", json!("a b"), "spec.database.host: 'a b' is neither"),
            ("/database/host", json!("a\0"), "spec.database.host: 'a\\u{0}' is neither"),
            ("/database/host", json!("pg:5432"), "spec.database.host: 'pg:5432' is neither"),
            ("/database/host", json!("@abstract"), "spec.database.host: '@abstract' is neither"),
            (
                "/database/host",
                json!("/run/postgresql"),
                "spec.database.tls.mode: VerifyFull can't be had: a unix socket has no TLS",
            ),
            ("/database/port", json!(0), "spec.database.port: must be from 1 to 65535"),
            ("/database/port", json!(-1), "spec.database.port: must be from 1 to 65535"),
            ("/database/port", json!(65536), "spec.database.port: must be from 1 to 65535"),
            ("/database/name", json!(""), "spec.database.name: is empty"),
            ("/database/name", json!(long), "spec.database.name: is longer than 63 bytes"),
            ("/database/name", json!("a\0b"), "spec.database.name: has a control character"),
            ("/database/tls", Value::Null, "spec.database.tls: is missing"),
            ("/database/tls", json!({}), "spec.database.tls.caSecret: is missing: VerifyFull verifies"),
            ("/database/tls/mode", json!("Require"), "spec.database.tls.caSecret: Require does not verify"),
            ("/database/tls/mode", json!("Disable"), "spec.database.tls.caSecret: Disable does not verify"),
            ("/database/tls/caSecret/name", json!("Upper"), "spec.database.tls.caSecret.name: \"Upper\" is no name"),
            ("/database/tls/caSecret/key", json!("../x"), "spec.database.tls.caSecret.key: \"../x\" is no key"),
            ("/database/tls/caSecret/key", json!(".."), "spec.database.tls.caSecret.key: \"..\" is no key"),
            ("/database/credentials", json!({}), "spec.database.credentials: set secret or ephemeralRole"),
            (
                "/database/credentials/ephemeralRole",
                json!({"adminSecret": {"name": "a"}}),
                "spec.database.credentials: set secret or ephemeralRole, not both",
            ),
            (
                "/database/credentials/secret/name",
                json!("../../etc"),
                "spec.database.credentials.secret.name: \"../../etc\" is no name",
            ),
            (
                "/database/credentials",
                json!({"ephemeralRole": {"adminSecret": {"name": "a"}, "grants": "FromPolicy", "memberOf": "owner"}}),
                "spec.database.credentials.ephemeralRole: set grants or memberOf, not both",
            ),
            (
                "/database/credentials",
                json!({"ephemeralRole": {"adminSecret": {"name": "a"}, "memberOf": "pg_read_all_data"}}),
                "spec.database.credentials.ephemeralRole.memberOf: 'pg_read_all_data' is a role of the server's own",
            ),
            (
                "/database/credentials",
                json!({"ephemeralRole": {"adminSecret": {"name": "a"}, "primary": {"host": "a,b", "port": 5432}}}),
                "spec.database.credentials.ephemeralRole.primary.host: 'a,b' is not one host name or address",
            ),
            ("/database/credentials/secret/name", json!(""), "spec.database.credentials.secret.name: \"\" is no name"),
            ("/masks/0/columns", json!([]), "spec.masks[0].columns: names no column"),
            (
                "/masks/0/columns/1",
                json!("public.customers"),
                "spec.masks[0].columns[1]: 'public.customers' must be schema.relation.column",
            ),
            ("/masks/0/columns/1", json!("a.b.c.d"), "spec.masks[0].columns[1]: 'a.b.c.d' has 4 parts"),
            ("/masks/0/columns/1", json!("a.b."), "spec.masks[0].columns[1]: 'a.b.' has an empty part"),
            ("/masks/0/exempt", json!({}), "spec.masks[0].exempt: names nobody"),
            (
                "/masks/0/exempt/groups/0",
                json!("\n"),
                "spec.masks[0].exempt.groups[0]: \"\\n\": a group's name can't be",
            ),
            ("/masks/0/mask", json!({}), "spec.masks[0].mask: chooses no mask"),
            ("/masks/0/mask/nullify", json!({}), "spec.masks[0].mask: chooses nullify and partial at once"),
            ("/masks/0/mask/partial", json!({}), "spec.masks[0].mask.partial: keeps nothing"),
            ("/masks/0/mask/partial/keepLast", json!(0), "spec.masks[0].mask.partial: keeps nothing"),
            ("/masks/0/mask/partial/keepLast", json!(-1), "spec.masks[0].mask.partial.keepLast: must be from 0 to 64"),
            ("/masks/0/mask/partial/keepLast", json!(65), "spec.masks[0].mask.partial.keepLast: must be from 0 to 64"),
            ("/masks/0/mask/partial/with", json!(""), "spec.masks[0].mask.partial.with: must be exactly one character"),
            (
                "/masks/0/mask/partial/with",
                json!("**"),
                "spec.masks[0].mask.partial.with: must be exactly one character",
            ),
            (
                "/masks/0/mask/partial/with",
                json!("\0"),
                "spec.masks[0].mask.partial.with: must be exactly one character",
            ),
            (
                "/masks/-",
                mask(json!({"bucket": {"size": 0}})),
                "spec.masks[3].mask.bucket.size: '0' must be a positive number",
            ),
            (
                "/masks/-",
                mask(json!({"bucket": {"size": -5}})),
                "spec.masks[3].mask.bucket.size: '-5' must be a positive number",
            ),
            ("/masks/-", mask(json!({"bucket": {"size": "1e3"}})), "spec.masks[3].mask.bucket.size: '1e3' must be"),
            ("/masks/-", mask(json!({"bucket": {"size": "0.00"}})), "spec.masks[3].mask.bucket.size: '0.00' must be"),
            (
                "/masks/-",
                mask(json!({"bucket": {"size": "1) OR (1"}})),
                "spec.masks[3].mask.bucket.size: '1) OR (1' must be",
            ),
            ("/masks/-", mask(json!({"bucket": {"size": "NaN"}})), "spec.masks[3].mask.bucket.size: 'NaN' must be"),
            ("/masks/-", mask(json!({"fixed": {"value": "a\0"}})), "spec.masks[3].mask.fixed.value: has a NUL"),
            (
                "/masks/-",
                mask(json!({"hash": {"keySecret": {"name": "k", "key": "a/b"}}})),
                "spec.masks[3].mask.hash.keySecret.key: \"a/b\" is no key",
            ),
            ("/rules/0/name", json!("Reads"), "spec.rules[0].name: 'Reads' must be lower-case"),
            ("/rules/0/name", json!(""), "spec.rules[0].name: '' must be lower-case"),
            (
                "/rules/-",
                rule(json!({"name": "reporting-reads", "allow": ["Temp"]})),
                "spec.rules[1].name: 'reporting-reads' is the name of rules[0] too",
            ),
            ("/rules/0/to", json!({}), "spec.rules[0].to: names nobody"),
            ("/rules/0/to/identities", json!(["Nightly"]), "spec.rules[0].to.identities[0]: \"Nightly\": is no name"),
            ("/rules/0/to/groups/-", json!("reporting"), "spec.rules[0].to.groups[1]: 'reporting' is named twice"),
            ("/rules/0/allow/-", json!("Select"), "spec.rules[0].allow[1]: Select is named twice"),
            (
                "/rules/0/relations/0",
                json!("customers"),
                "spec.rules[0].relations[0]: 'customers' does not name the schema: write schema.customers",
            ),
            (
                "/rules/0/relations/0",
                json!("public.Order Items"),
                "spec.rules[0].relations[0]: 'public.Order Items' has the character ' ' outside of double quotes",
            ),
            (
                "/rules/-",
                rule(json!({"allow": ["Select", "CopyOut", "Temp"]})),
                "spec.rules[1].relations: is missing: Select, CopyOut needs relations",
            ),
            ("/rules/-", rule(json!({"allow": ["Call"]})), "spec.rules[1].functions: is missing: Call"),
            ("/rules/-", rule(json!({"allow": ["Notify"]})), "spec.rules[1].channels: is missing: Notify"),
            ("/rules/-", rule(json!({})), "spec.rules[1]: allows nothing and restricts nothing"),
            ("/rules/-", rule(json!({"relations": ["a.b"]})), "spec.rules[1]: allows nothing and restricts nothing"),
            (
                "/rules/-",
                rule(json!({"allow": ["Temp"], "limits": {"rows": 1}})),
                "spec.rules[1].limits: hold for relations and functions",
            ),
            (
                "/rules/0/hideColumns/0",
                json!("ssn"),
                "spec.rules[0].hideColumns[0]: 'ssn' must be schema.relation.column",
            ),
            (
                "/rules/0/rowFilters/0/relation",
                json!("orders"),
                "spec.rules[0].rowFilters[0].relation: 'orders' does not name the schema",
            ),
            (
                "/rules/0/rowFilters/0/where",
                json!("region ="),
                "spec.rules[0].rowFilters[0].where: the expression is not valid SQL",
            ),
            (
                "/rules/0/rowFilters/0/where",
                json!("true) OR (true"),
                "spec.rules[0].rowFilters[0].where: the expression closes",
            ),
            (
                "/rules/0/functions/0",
                json!("fx_rate"),
                "spec.rules[0].functions[0]: 'fx_rate' does not name the schema",
            ),
            (
                "/rules/0/functions/0",
                json!("public.fx_rate()"),
                "spec.rules[0].functions[0]: write the name without parentheses: public.fx_rate",
            ),
            (
                "/rules/0/functions/0",
                json!("pg_catalog.*"),
                "spec.rules[0].functions[0]: 'pg_catalog.*' matches nothing",
            ),
            ("/rules/0/settings/0", json!("work_mem"), "spec.rules[0].settings[0]: 'work_mem' is no custom setting"),
            (
                "/rules/0/settings/0",
                json!("default_transaction_isolation"),
                "spec.rules[0].settings[0]: 'default_transaction_isolation' is no custom setting",
            ),
            ("/rules/0/settings/0", json!("*"), "spec.rules[0].settings[0]: '*' is no custom setting"),
            ("/rules/0/settings/0", json!("*.tenant"), "spec.rules[0].settings[0]: '*.tenant' must name the class"),
            ("/rules/0/settings/0", json!("a*.tenant"), "spec.rules[0].settings[0]: 'a*.tenant' must name the class"),
            (
                "/rules/0/settings/0",
                json!("Postern.*"),
                "spec.rules[0].settings[0]: settings of the class 'postern' are",
            ),
            ("/rules/0/settings/0", json!("app."), "spec.rules[0].settings[0]: 'app.' is no name"),
            ("/rules/0/settings/0", json!("app.a b"), "spec.rules[0].settings[0]: 'app.a b' is no name"),
            ("/rules/0/settings/0", json!("app.é"), "spec.rules[0].settings[0]: 'app.é' is no name"),
            ("/rules/0/channels/0", json!("a.b"), "spec.rules[0].channels[0]: 'a.b' has 2 parts: expected one name"),
            ("/rules/0/limits", json!({}), "spec.rules[0].limits: limits nothing"),
            ("/rules/0/limits/rows", json!(0), "spec.rules[0].limits.rows: must be at least 1"),
            ("/rules/0/limits/rows", json!(-1), "spec.rules[0].limits.rows: must be at least 1"),
            ("/rules/0/limits/bytes", json!("10mb"), "spec.rules[0].limits.bytes: '10mb' is not a number of bytes"),
            ("/rules/0/limits/bytes", json!(0), "spec.rules[0].limits.bytes: must be at least 1"),
            (
                "/rules/0/limits/statementTimeout",
                json!("30"),
                "spec.rules[0].limits.statementTimeout: '30' is not a duration",
            ),
            (
                "/rules/0/limits/statementTimeout",
                json!("0s"),
                "spec.rules[0].limits.statementTimeout: must be from 1ms to",
            ),
            (
                "/rules/0/limits/statementTimeout",
                json!("600h"),
                "spec.rules[0].limits.statementTimeout: must be from 1ms to 596h31m23s647ms",
            ),
            ("/rules/0/limits/window", json!({"every": "1h"}), "spec.rules[0].limits.window: limits nothing"),
            ("/rules/0/limits/window/every", json!("0s"), "spec.rules[0].limits.window.every: must be from 1s to 168h"),
            ("/rules/0/limits/window/rows", json!(0), "spec.rules[0].limits.window.rows: must be at least 1"),
            ("/bulkExport/approval/timeout", json!("0s"), "spec.bulkExport.approval.timeout: must be from 1s to 24h"),
            (
                "/bulkExport/approval/validFor",
                json!("25h"),
                "spec.bulkExport.approval.validFor: must be from 1s to 24h",
            ),
            ("/sidecar/env/PGHOST", json!("x"), "spec.sidecar.env.PGHOST: is set by Postern itself"),
            ("/sidecar/env/POSTERN_AUDIT", json!("x"), "spec.sidecar.env.POSTERN_AUDIT: is set by Postern itself"),
            ("/sidecar/env/A=B", json!("x"), "spec.sidecar.env: \"A=B\" is no name"),
            ("/sidecar/env/URL", json!("pg://{user}:{password}@x"), "spec.sidecar.env.URL: there is no {password}"),
            ("/sidecar/env/URL", json!("pg://{usr}@x"), "spec.sidecar.env.URL: {usr} stands for nothing"),
            (
                "/sidecar/resources/limits/memory",
                json!("64MB"),
                "spec.sidecar.resources.limits.memory: '64MB' is no quantity",
            ),
        ] {
            let found = policy_errors(&[(pointer, value.clone())]);
            if found.len() != 1 || !found[0].starts_with(expected) {
                wrong.push(format!("{pointer} {value}: expected {expected}, found {found:#?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_grants_can_not_give_needs_another_credential() {
        let role = |more: Value| {
            let mut role = json!({"adminSecret": {"name": "a"}});
            role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            ("/database/credentials", json!({"ephemeralRole": role}))
        };
        let ddl = ("/rules/0/allow", json!(["Select", "Ddl"]));
        let audit = ("/mode", json!("Audit"));
        for (patch, wanted) in [(&ddl, "spec.rules[0].allow: Ddl needs"), (&audit, "spec.mode: Audit changes nothing")]
        {
            let errors = policy_errors(&[role(json!({})), patch.clone()]);
            assert!(matches!(errors.as_slice(), [only] if only.starts_with(wanted)), "{errors:?}");
            assert_eq!(policy_errors(&[role(json!({"memberOf": "owner"})), patch.clone()]), Vec::<String>::new());
        }
    }

    #[test]
    fn each_mistake_in_an_identity_gives_one_message_with_its_path() {
        let mut wrong = Vec::new();
        for (pointer, value, expected) in [
            ("/postgresRole", json!(""), "spec.postgresRole: is empty"),
            (
                "/postgresRole",
                json!("pg_read_all_data"),
                "spec.postgresRole: 'pg_read_all_data' is a role of the server's own",
            ),
            ("/postgresRole", json!("none"), "spec.postgresRole: 'none' is no role"),
            ("/postgresRole", json!("public"), "spec.postgresRole: 'public' is no role"),
            ("/postgresRole", json!("é".repeat(32)), "spec.postgresRole: is longer than 63 bytes"),
            ("/postgresRole", json!("a\0"), "spec.postgresRole: has a control character"),
            ("/maxLease", json!("10s"), "spec.maxLease: must be from 1m to 24h"),
            ("/maxLease", json!("25h"), "spec.maxLease: must be from 1m to 24h"),
            ("/maxLease", json!("1 h"), "spec.maxLease: '1 h' is not a duration"),
            ("/outageGrace", json!("25h"), "spec.outageGrace: must be from 0s to 24h"),
            ("/groups/-", json!("reporting"), "spec.groups[1]: 'reporting' is named twice"),
            ("/groups/0", json!(""), "spec.groups[0]: \"\": a group's name can't be empty"),
            ("/subjects/0", json!({}), "spec.subjects[0]: set serviceAccount or oidc"),
            (
                "/subjects/1/serviceAccount",
                json!({"name": "x"}),
                "spec.subjects[1]: set serviceAccount or oidc, not both",
            ),
            ("/subjects/0/serviceAccount/name", json!("A"), "spec.subjects[0].serviceAccount.name: 'A' is no name"),
            (
                "/subjects/1/oidc/issuer",
                json!("http://x"),
                "spec.subjects[1].oidc.issuer: 'http://x' must be a URL that begins with https://",
            ),
            ("/subjects/1/oidc/issuer", json!("https://"), "spec.subjects[1].oidc.issuer: 'https://' must be"),
            ("/subjects/1/oidc/issuer", json!("https://a@b"), "spec.subjects[1].oidc.issuer: 'https://a@b' must be"),
            ("/subjects/1/oidc/issuer", json!("https://a?b"), "spec.subjects[1].oidc.issuer: 'https://a?b' must be"),
            (
                "/subjects/1/oidc/audience",
                json!("postern/other"),
                "spec.subjects[1].oidc.audience: must be 'postern/shop'",
            ),
            ("/subjects/1/oidc/claims", json!({}), "spec.subjects[1].oidc.claims: needs at least one claim"),
            ("/subjects/1/oidc/claims/aud", json!("x"), "spec.subjects[1].oidc.claims.aud: pins nothing"),
            ("/subjects/1/oidc/claims/ref", json!(""), "spec.subjects[1].oidc.claims.ref: is empty"),
            ("/subjects/1/oidc/groupsClaim", json!(""), "spec.subjects[1].oidc.groupsClaim: is empty"),
        ] {
            let found = identity_errors(&[(pointer, value.clone())]);
            if found.len() != 1 || !found[0].starts_with(expected) {
                wrong.push(format!("{pointer} {value}: expected {expected}, found {found:#?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let found = policy_errors(&[
            ("/database/port", json!(0)),
            ("/database/tls/mode", json!("Require")),
            ("/masks/0/columns/0", json!("x")),
            ("/rules/0/relations/0", json!("y")),
            ("/rules/0/relations/1", json!("z")),
            ("/rules/0/rowFilters/0/where", json!(";")),
            ("/bulkExport/approval/timeout", json!("x")),
        ]);
        assert_eq!(found.len(), 7, "{found:#?}");
    }

    #[test]
    fn what_is_left_out_is_safe() {
        let mut spec = example("policy");
        for section in ["mode", "masks", "rules", "bulkExport", "recording", "sidecar"] {
            patch(&mut spec, &format!("/{section}"), Value::Null);
        }
        let policy = compile_policy("shop", "shop", &serde_json::from_value(spec).unwrap()).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.bulk_export.action, BulkAction::Deny);
        assert_eq!(policy.recording.statements, StatementRecording::Normalized);
        assert_eq!(policy.recording.parameters, ParameterRecording::Hash);
        assert!(policy.rules.is_empty());
        let mut spec = example("identity");
        for field in ["maxLease", "subjects", "groups"] {
            patch(&mut spec, &format!("/{field}"), Value::Null);
        }
        let identity = compile_identity("shop", "x", &serde_json::from_value(spec).unwrap()).unwrap();
        assert_eq!(identity.max_lease, HOUR);
        assert_eq!(identity.outage_grace, Duration::ZERO);
        let entry: api::MaskEntry =
            serde_json::from_value(json!({"columns": ["a.b.c"], "mask": {"email": {}}})).unwrap();
        assert_eq!(entry.on_predicate, api::OnPredicate::Notice);
    }

    #[test]
    fn forms_that_are_right_compile() {
        for patches in [
            vec![("/database/host", json!("/var/run/postgresql")), ("/database/tls", Value::Null)],
            vec![("/database/host", json!("/var/run/postgresql")), ("/database/tls", json!({"mode": "Disable"}))],
            vec![("/database/host", json!("::1"))],
            vec![("/database/host", json!("10.0.0.1"))],
            vec![("/database/host", json!("pg_primary.shop.svc.cluster.local."))],
            vec![("/database/tls", json!({"mode": "Require", "allowUnverified": true}))],
            vec![(
                "/database/credentials",
                json!({"ephemeralRole": {"adminSecret": {"name": "shop-admin"}, "grants": "FromPolicy"}}),
            )],
            vec![("/masks/0/mask", json!({"hash": {"keySecret": {"name": "k", "key": "key"}}}))],
            vec![("/masks/0/mask", json!({"bucket": {"size": "0.5"}}))],
            vec![("/masks/0/mask", json!({"bucket": {"size": 1000}}))],
            vec![("/masks/0/mask", json!({"truncateDate": {"to": "Month"}}))],
            vec![("/masks/0/mask", json!({"fixed": {"value": ""}}))],
            vec![("/masks/0/mask", json!({"partial": {"keepFirst": 2, "with": "•"}}))],
            vec![("/masks/0/mask", json!({"default": {}}))],
            vec![("/masks/0/mask", json!({"redact": {}}))],
            vec![("/rules/0/relations", json!(["public.\"Order Items\"", "*.*", "pg_catalog.pg_stats"]))],
            vec![("/rules/0/settings", json!(["App.Tenant_Id", "app.a.*", "app.*_id", "transaction_isolation"]))],
            vec![("/rules/0/channels", json!(["\"Order Events\"", "*"]))],
            vec![("/rules/0/functions", json!(["public.*", "pg_catalog.pg_sleep"]))],
            vec![("/rules/0/allow", json!([]))],
            vec![("/rules/0/limits/bytes", json!(1048576))],
            vec![("/sidecar/env/OPTIONS", json!("{\"a\": {}} {user}"))],
        ] {
            assert_eq!(policy_errors(&patches), [] as [String; 0], "{patches:?}");
        }
        assert_eq!(
            identity_errors(&[("/subjects/1/oidc/audience", Value::Null), ("/outageGrace", json!("10m"))]),
            [] as [String; 0]
        );
    }

    #[test]
    fn without_tls_only_a_socket_is_taken() {
        let mut spec = example("policy");
        patch(&mut spec, "/database/host", json!("/tmp"));
        patch(&mut spec, "/database/tls", Value::Null);
        let policy = compile_policy("shop", "shop", &serde_json::from_value(spec).unwrap()).unwrap();
        assert_eq!(policy.database.tls, TlsMode::Disable);
    }
}
