//! The checked policy: what `compile` makes of the specs. No strings left to interpret, but names not yet bound to a
//! catalog. Every part remembers the path of the field it came from, for messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::pattern::{ColumnPattern, NamePattern, RelationPattern};
use crate::verb::VerbSet;

/// A policy without mistakes that can be seen without a database.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedPolicy {
    /// Namespace of the object; `default` for files that name none.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Whether decisions are enforced or only recorded.
    pub mode: Mode,
    /// The database and how to reach it.
    pub database: Database,
    /// Masks, in the order written.
    pub masks: Vec<CheckedMask>,
    /// Rules, in the order written.
    pub rules: Vec<CheckedRule>,
    /// What happens to COPY TO and other bulk export.
    pub bulk_export: BulkExport,
    /// What of statements and parameters the audit keeps.
    pub recording: Recording,
}

impl CheckedPolicy {
    /// Whether who is in this group may be allowed anything else, or shown anything else, than who is not.
    pub fn names_group(&self, group: &str) -> bool {
        let rules = self.rules.iter().map(|rule| &rule.to);
        let exempt = self.masks.iter().map(|mask| &mask.exempt);
        rules.chain(exempt).any(|to| to.groups.iter().any(|named| named == group))
    }

    /// The Secrets that it names, with the keys that have to be in them; in order.
    pub fn secret_keys(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let credentials = ["username", "password"].map(|key| (self.database.credentials.secret(), key));
        let authority = self.database.ca_secret.iter().map(|(secret, key)| (secret.as_str(), key.as_str()));
        let hashes = self.masks.iter().filter_map(|mask| match &mask.kind {
            MaskKind::Hash { key_secret: (secret, key) } => Some((secret.as_str(), key.as_str())),
            _ => None,
        });
        let mut all = BTreeMap::<_, BTreeSet<_>>::new();
        for (secret, key) in credentials.into_iter().chain(authority).chain(hashes) {
            all.entry(secret).or_default().insert(key);
        }
        all
    }
}

/// Enforce decisions, or only record them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decisions are enforced.
    Enforce,
    /// Everything passes; each would-be decision is recorded.
    Audit,
}

/// Where the database is and as whom to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// DNS name or address, or an absolute path of a directory with a unix socket.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// Name of the database.
    pub name: String,
    /// Upstream TLS.
    pub tls: TlsMode,
    /// Secret and key with the CA bundle (PEM), where `tls` verifies.
    pub ca_secret: Option<(String, String)>,
    /// As whom to log in.
    pub credentials: Credentials,
}

/// As whom a sidecar logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// As the role of a Secret with the keys `username` and `password`.
    Secret(String),
    /// As a role that is made for each sidecar.
    Ephemeral(EphemeralRole),
}

/// A role that is made for each sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EphemeralRole {
    /// Secret with the keys `username` and `password` of who makes it.
    pub admin_secret: String,
    /// The role that it is a member of, in place of grants by the policy.
    pub member_of: Option<String>,
    /// Where it is made, if not at the database's own address.
    pub primary: Option<(String, u16)>,
}

impl Credentials {
    /// The Secret with a `username` and a `password`: of the sidecars, or of who makes their roles.
    pub fn secret(&self) -> &str {
        match self {
            Credentials::Secret(secret) => secret,
            Credentials::Ephemeral(role) => &role.admin_secret,
        }
    }

    /// The role that is made for each sidecar.
    pub fn ephemeral(&self) -> Option<&EphemeralRole> {
        match self {
            Credentials::Secret(_) => None,
            Credentials::Ephemeral(role) => Some(role),
        }
    }
}

/// Upstream TLS, as libpq's sslmode has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Plaintext.
    Disable,
    /// TLS, certificate not verified.
    Require,
    /// TLS, certificate verified against the CA, host name not.
    VerifyCa,
    /// TLS, certificate and host name verified.
    VerifyFull,
}

/// To whom a rule applies, or whom a mask exempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct To {
    /// Identities by name.
    pub identities: Vec<String>,
    /// Groups by name.
    pub groups: Vec<String>,
}

impl To {
    /// Whether the identity is named, or is in a group that is.
    pub fn includes(&self, identity: &CheckedIdentity) -> bool {
        self.identities.contains(&identity.name) || self.groups.iter().any(|group| identity.groups.contains(group))
    }
}

/// One mask entry of the policy.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedMask {
    /// Field path, such as `spec.masks[0]`.
    pub path: String,
    /// Columns it covers.
    pub columns: Vec<ColumnPattern>,
    /// What replaces the value.
    pub kind: MaskKind,
    /// Who sees the raw value.
    pub exempt: To,
    /// What a predicate on the masked column does.
    pub on_predicate: OnPredicate,
}

/// The mask variants; the order of the API is from most to least private, see [`MaskKind::privacy`].
#[derive(Clone, Debug, PartialEq)]
pub enum MaskKind {
    /// NULL.
    Nullify,
    /// The zero value of the column's type.
    Default,
    /// A fixed value, given as text and read by the column's type.
    Fixed {
        /// The value.
        value: String,
    },
    /// Asterisks, as many as the value has characters.
    Redact,
    /// HMAC-SHA-256 of the value.
    Hash {
        /// Secret and key with the HMAC key.
        key_secret: (String, String),
    },
    /// Truncated to a unit, in UTC.
    TruncateDate {
        /// Unit as `date_trunc` names it: year, quarter, month, week, day, hour.
        to: String,
    },
    /// Rounded down to a multiple.
    Bucket {
        /// The multiple, a positive decimal number as text.
        size: String,
    },
    /// Keeps some characters at the ends.
    Partial {
        /// Characters kept at the start.
        keep_first: u32,
        /// Characters kept at the end.
        keep_last: u32,
        /// One character that replaces each of the others.
        with: char,
    },
    /// First character and domain of an e-mail address.
    Email,
}

impl MaskKind {
    /// Rank of privacy: the greater holds where several masks match one column.
    pub const fn privacy(&self) -> u8 {
        match self {
            MaskKind::Nullify => 9,
            MaskKind::Default => 8,
            MaskKind::Fixed { .. } => 7,
            MaskKind::Redact => 6,
            MaskKind::Hash { .. } => 5,
            MaskKind::TruncateDate { .. } => 4,
            MaskKind::Bucket { .. } => 3,
            MaskKind::Partial { .. } => 2,
            MaskKind::Email => 1,
        }
    }

    /// The word as the API writes it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            MaskKind::Nullify => "nullify",
            MaskKind::Default => "default",
            MaskKind::Fixed { .. } => "fixed",
            MaskKind::Redact => "redact",
            MaskKind::Hash { .. } => "hash",
            MaskKind::TruncateDate { .. } => "truncateDate",
            MaskKind::Bucket { .. } => "bucket",
            MaskKind::Partial { .. } => "partial",
            MaskKind::Email => "email",
        }
    }
}

/// What comparing, joining or sorting by a masked column does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnPredicate {
    /// It works on the mask; a NOTICE says so once per session and column.
    #[default]
    Notice,
    /// It is refused.
    Refuse,
}

/// One rule of the policy.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedRule {
    /// Field path, such as `spec.rules[0]`.
    pub path: String,
    /// Its name, for errors and the audit.
    pub name: String,
    /// To whom it applies.
    pub to: To,
    /// The verbs that it allows.
    pub allow: VerbSet,
    /// On which relations.
    pub relations: Vec<RelationPattern>,
    /// Columns that do not exist for whom the rule applies to.
    pub hide_columns: Vec<ColumnPattern>,
    /// Rows that exist.
    pub row_filters: Vec<CheckedFilter>,
    /// Functions of the database that may be called, `schema.name` patterns.
    pub functions: Vec<RelationPattern>,
    /// Custom settings that the client may set, matched against the whole lower-cased name.
    pub settings: Vec<NamePattern>,
    /// Channels for LISTEN and NOTIFY.
    pub channels: Vec<NamePattern>,
    /// Limits of what a statement may return or run for.
    pub limits: Limits,
}

/// A row filter.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedFilter {
    /// Field path, such as `spec.rules[0].rowFilters[0]`.
    pub path: String,
    /// The relations it covers.
    pub relation: RelationPattern,
    /// A boolean SQL expression over the relation's columns; parsed, not bound.
    pub where_sql: String,
}

/// Limits of one statement and of a time window; None is no limit. They combine by minimum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows that one result may have.
    pub rows: Option<u64>,
    /// Bytes that one result may have.
    pub bytes: Option<u64>,
    /// Longest run of a statement.
    pub statement_timeout: Option<Duration>,
    /// A budget over time.
    pub window: Option<Window>,
}

/// A budget per identity over a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Length of the window.
    pub every: Duration,
    /// Rows in it.
    pub rows: Option<u64>,
    /// Bytes in it.
    pub bytes: Option<u64>,
}

/// What bulk export does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkExport {
    /// The action.
    pub action: BulkAction,
    /// How long an approver has.
    pub approval_timeout: Duration,
    /// How long an approval holds.
    pub approval_valid_for: Duration,
}

/// What happens to a bulk export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// Refused.
    Deny,
    /// Held until a human approves.
    RequireApproval,
    /// Passes, where a rule has the verb.
    Allow,
}

/// What the audit keeps of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Of its text.
    pub statements: StatementRecording,
    /// Of its parameters.
    pub parameters: ParameterRecording,
}

/// What is recorded of a statement's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementRecording {
    /// The text, literals included.
    Full,
    /// The text with each literal replaced by `$n`.
    Normalized,
    /// The fingerprint only.
    Fingerprint,
}

/// What is recorded of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterRecording {
    /// The values.
    Full,
    /// A salted hash of each.
    Hash,
    /// Nothing.
    None,
}

/// An identity without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedIdentity {
    /// Namespace of the object; `default` for files that name none.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// The Postgres role that its sessions run as.
    pub postgres_role: String,
    /// Longest lease.
    pub max_lease: Duration,
    /// How much longer a lease holds while no broker can be reached.
    pub outage_grace: Duration,
}
