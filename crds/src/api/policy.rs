//! `DatabaseAccessPolicy`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{DURATION, IntOrText, Nothing, OBJECT_NAME};
use crate::verb::Verb;

/// What non-human identities may do in one database, and which view of it they have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::tidy)]
#[cfg_attr(
    feature = "kube",
    derive(kube::CustomResource),
    kube(
        group = "postern.dev",
        version = "v1alpha1",
        kind = "DatabaseAccessPolicy",
        plural = "databaseaccesspolicies",
        namespaced,
        status = "crate::api::PolicyStatus",
        derive = "PartialEq",
        shortname = "dap",
        category = "postern",
        doc = "DatabaseAccessPolicy says what non-human identities may do in one database, and which view of it they have. Nothing is allowed that no rule allows.",
        printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
        printcolumn(name = "Host", type_ = "string", json_path = ".spec.database.host"),
        printcolumn(name = "Database", type_ = "string", json_path = ".spec.database.name"),
        printcolumn(name = "Bulk export", type_ = "string", json_path = ".spec.bulkExport.action", priority = 1),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Sidecars", type_ = "integer", json_path = ".status.sidecars"),
        printcolumn(name = "Last used", type_ = "date", json_path = ".status.lastUsed"),
        printcolumn(name = "By", type_ = "string", json_path = ".status.lastUsedBy"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )
)]
pub struct DatabaseAccessPolicySpec {
    /// Whether decisions are enforced, or only recorded.
    #[serde(default)]
    pub mode: Mode,
    /// The database, and how to reach it.
    pub database: Database,
    /// Columns whose values are replaced, for everyone who is not exempt. Of several masks on one column the most
    /// private holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub masks: Vec<MaskEntry>,
    /// What is allowed, to whom. Nothing is allowed that no rule allows. Whichever rule lets a statement in, the row
    /// filters, hidden columns and limits of every rule that applies to the identity hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<Rule>,
    /// What happens to COPY TO and other bulk export. It needs the verb CopyOut in a rule, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk_export: Option<BulkExport>,
    /// What the audit keeps of statements and parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    /// The sidecar that is added to annotated pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
}

/// Whether decisions are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Decisions are enforced.
    #[default]
    Enforce,
    /// Everything passes; what would have been refused or changed is recorded.
    Audit,
}

/// A database, and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.tls) || self.host.startsWith('/')",
     "message": "tls is needed: mode VerifyFull with a caSecret, or another mode if you accept what it means"},
    {"rule": "!self.host.startsWith('/') || !has(self.tls) || self.tls.mode == 'Disable'",
     "message": "a unix socket has no TLS: leave tls out"},
]))]
pub struct Database {
    /// DNS name or address of the server, or the absolute path of a directory with its unix socket.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^(/[^[:cntrl:]]*|[A-Za-z0-9_][-A-Za-z0-9._]*|[:0-9A-Fa-f.]+)$")
    )]
    pub host: String,
    /// TCP port, or the number in the socket's name.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Name of the database; clients can connect to no other.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// TLS to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How the sidecar logs in. The workload never sees this.
    pub credentials: Credentials,
}

fn default_port() -> i32 {
    5432
}

/// TLS to the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.caSecret) == (self.mode in ['VerifyCa', 'VerifyFull'])",
     "message": "caSecret is needed by VerifyCa and VerifyFull, and used by no other mode"},
]))]
pub struct Tls {
    /// How far the server's certificate is verified.
    #[serde(default)]
    pub mode: TlsMode,
    /// The Secret with the CA certificates (PEM) that the server's certificate must be signed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKey>,
    /// Allows a mode that does not verify in an injected pod where another container could pose as the server on the
    /// pod's network. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unverified: bool,
}

/// TLS modes, as libpq's sslmode has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// No TLS: everything, the password exchange included, can be read and changed on the way.
    Disable,
    /// TLS, but with whoever answers.
    Require,
    /// The certificate must be signed by the CA.
    VerifyCa,
    /// The certificate must be signed by the CA and be for this host.
    #[default]
    VerifyFull,
}

/// How the sidecar logs in; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.secret) != has(self.ephemeralRole)", "message": "set exactly one of secret and ephemeralRole"},
]))]
pub struct Credentials {
    /// A Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
    /// A role per sidecar, made for it and dropped after its last lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_role: Option<EphemeralRole>,
}

/// A role per sidecar: made for its first lease, and dropped, with its sessions ended, after its last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.grants) && has(self.memberOf))", "message": "set grants or memberOf, not both"},
]))]
pub struct EphemeralRole {
    /// A Secret with the keys `username` and `password` of a role that may make roles (CREATEROLE) and grant what the
    /// policy allows: a member of the role that owns the tables. Only the operator reads it; no sidecar gets it.
    pub admin_secret: SecretName,
    /// What the role is granted. The default is `FromPolicy`, unless `memberOf` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<EphemeralGrants>,
    /// The role is a member of this one in place of grants of its own, and its sessions run as it: for migrations, whose
    /// objects then belong to this role. The `postgresRole` of every identity that comes by this policy has to be the
    /// same. Not a `pg_…` role nor a superuser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = [
        {"rule": "!self.startsWith('pg_') && self != 'none' && self != 'public'",
         "message": "must be a role of your own: not pg_…, none or public"},
    ]))]
    pub member_of: Option<String>,
    /// Where roles are made, if `host` is a replica that only reads. Default: the database itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Primary>,
}

/// Where the server is that can be written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Primary {
    /// DNS name or address of the server.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^([A-Za-z0-9_][-A-Za-z0-9._]*|[:0-9A-Fa-f.]+)$"))]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// What an ephemeral role is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EphemeralGrants {
    /// What the policy's rules allow, and no more: a second wall in the server itself. Sessions run as the role itself.
    #[default]
    FromPolicy,
}

/// A Secret in the namespace of this object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// One key of a Secret in the namespace of this object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A mask on some columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaskEntry {
    /// The columns, as `schema.relation.column`. Each part may have `*` in it, and is matched in lower case unless it
    /// stands in double quotes: `public."Order Items".email`. With a star in schema or relation, system, toast,
    /// temporary and foreign relations are not matched: name those.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 512)))]
    pub columns: Vec<String>,
    /// What replaces the value.
    pub mask: Mask,
    /// Who sees the raw value. This lifts this entry only: another that matches still holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exempt: Option<To>,
    /// What comparing, joining or sorting by the masked column does.
    #[serde(default)]
    pub on_predicate: OnPredicate,
}

/// What replaces a value; exactly one field is set. The most private first: nullify, default, fixed, redact, hash,
/// truncateDate, bucket, partial, email.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.nullify) ? 1 : 0) + (has(self.default) ? 1 : 0) + (has(self.fixed) ? 1 : 0) + (has(self.redact) ? 1 : 0) + (has(self.hash) ? 1 : 0) + (has(self.truncateDate) ? 1 : 0) + (has(self.bucket) ? 1 : 0) + (has(self.partial) ? 1 : 0) + (has(self.email) ? 1 : 0) == 1",
     "message": "set exactly one of nullify, default, fixed, redact, hash, truncateDate, bucket, partial and email"},
]))]
pub struct Mask {
    /// NULL. Written `nullify: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nullify: Option<Nothing>,
    /// The zero value of the column's type: 0, an empty text, false. Written `default: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Nothing>,
    /// One and the same value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<FixedMask>,
    /// As many asterisks as the value has characters. Written `redact: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact: Option<Nothing>,
    /// A keyed hash (HMAC-SHA-256): equal values stay equal, so joins and counts work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashMask>,
    /// A date or time cut to a unit, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate_date: Option<TruncateDateMask>,
    /// A number rounded down to a multiple.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketMask>,
    /// Some characters at the ends are kept, the others replaced. A value that is not longer than what is kept is
    /// replaced wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialMask>,
    /// The first character and the domain of an e-mail address are kept. Written `email: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Nothing>,
}

/// One and the same value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FixedMask {
    /// The value as text, in the form that the column's type reads.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// A keyed hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashMask {
    /// The Secret with the key: at least 16 random bytes.
    pub key_secret: SecretKey,
}

/// A date or time cut to a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TruncateDateMask {
    /// The unit.
    pub to: DateUnit,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DateUnit {
    /// The first of January.
    #[default]
    Year,
    /// The first day of the quarter.
    Quarter,
    /// The first day of the month.
    Month,
    /// The Monday of the week.
    Week,
    /// Midnight.
    Day,
    /// The full hour.
    Hour,
}

/// A number rounded down to a multiple.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketMask {
    /// The multiple: a positive number such as `1000`, or `"0.5"` in quotes.
    pub size: IntOrText,
}

/// Some characters at the ends are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.keepFirst) && self.keepFirst > 0) || (has(self.keepLast) && self.keepLast > 0)",
     "message": "keeps nothing: use redact"},
]))]
pub struct PartialMask {
    /// Characters kept at the start. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub keep_first: Option<i32>,
    /// Characters kept at the end. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub keep_last: Option<i32>,
    /// The one character that replaces each of the others. Default `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub with: Option<String>,
}

/// What a predicate on a masked column does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnPredicate {
    /// It works on the mask; a NOTICE says so once per session and column.
    #[default]
    Notice,
    /// It is refused.
    Refuse,
}

/// Identities, by name or by group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.identities) && size(self.identities) > 0) || (has(self.groups) && size(self.groups) > 0)",
     "message": "name at least one identity or group"},
]))]
pub struct To {
    /// Names of NonHumanIdentity objects in this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub identities: Vec<String>,
    /// Groups that identities are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub groups: Vec<String>,
}

/// What is allowed, to whom, and what of it exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.allow) || !self.allow.exists(verb, !(verb in ['Call', 'Temp', 'Notify', 'Lock', 'Ddl'])) || (has(self.relations) && size(self.relations) > 0)",
     "message": "the verbs in allow need relations"},
    {"rule": "!has(self.allow) || !('Call' in self.allow) || (has(self.functions) && size(self.functions) > 0)",
     "message": "the verb Call needs functions"},
    {"rule": "!has(self.allow) || !('Notify' in self.allow) || (has(self.channels) && size(self.channels) > 0)",
     "message": "the verb Notify needs channels"},
]))]
pub struct Rule {
    /// Name of the rule, unique in the policy; errors and the audit show it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// To whom the rule applies.
    pub to: To,
    /// The verbs that are allowed on `relations`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 13), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<Verb>,
    /// The tables, views and sequences, as `schema.relation`. Each part may have `*` in it, and is matched in lower
    /// case unless it stands in double quotes: `public."Order Items"`. With a star, system, toast, temporary and
    /// foreign relations are not matched: name those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    pub relations: Vec<String>,
    /// Columns that do not exist for whom the rule applies to, as `schema.relation.column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    pub hide_columns: Vec<String>,
    /// Which rows exist for whom the rule applies to. Several on one relation, those of other rules included, all
    /// hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub row_filters: Vec<RowFilter>,
    /// Functions of the database that may be called, as `schema.name`; beyond the built-in ones that only compute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    pub functions: Vec<String>,
    /// Custom settings that the client may SET, as `class.name`; `*` is allowed after the class: `app.*`. And `transaction_isolation`, which
    /// allows SERIALIZABLE transactions beside row filters: their conflicts can tell of rows outside of a filter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 127)))]
    pub settings: Vec<String>,
    /// Channels for LISTEN and NOTIFY; `*` is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub channels: Vec<String>,
    /// Limits on statements that touch `relations` or call `functions`, whichever rule lets them in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Which rows exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RowFilter {
    /// The relation, as `schema.relation`; stars as in `relations`.
    #[schemars(length(min = 1, max = 512))]
    pub relation: String,
    /// One boolean SQL expression over the relation's columns, such as `region = 'eu'`. Rows for which it is not true
    /// do not exist.
    #[serde(rename = "where")]
    #[schemars(length(min = 1, max = 4096))]
    pub where_: String,
}

/// Limits of a statement and of a time window. Of several that apply the least holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Rows that one statement may return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows: Option<i64>,
    /// Bytes that one statement may return, such as `10Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<IntOrText>,
    /// How long one statement may run, such as `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub statement_timeout: Option<String>,
    /// What all statements of the identity may return in a time window, in one sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// A budget for a time window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.rows) || has(self.bytes)", "message": "set rows, bytes or both"},
]))]
pub struct Window {
    /// Length of the window, such as `1h`; up to `168h`.
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub every: String,
    /// Rows in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows: Option<i64>,
    /// Bytes in it, such as `100Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<IntOrText>,
}

/// What happens to bulk export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkExport {
    /// What happens.
    #[serde(default)]
    pub action: BulkAction,
    /// How approvals work, with `action: RequireApproval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// What happens to a bulk export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BulkAction {
    /// It is refused.
    #[default]
    Deny,
    /// It waits until a human approves.
    RequireApproval,
    /// It passes, where a rule allows CopyOut.
    Allow,
}

/// How approvals work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// How long a statement waits for an approver. From `1s` to `24h`; default `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// How long an approval is good for. From `1s` to `24h`; default `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub valid_for: Option<String>,
}

/// What the audit keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    /// Of a statement's text.
    #[serde(default)]
    pub statements: StatementRecording,
    /// Of parameters.
    #[serde(default)]
    pub parameters: ParameterRecording,
}

/// What is kept of a statement's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatementRecording {
    /// The text, literals included.
    Full,
    /// The text without its literals.
    #[default]
    Normalized,
    /// A fingerprint only.
    Fingerprint,
}

/// What is kept of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParameterRecording {
    /// The values.
    Full,
    /// A salted hash of each.
    #[default]
    Hash,
    /// Nothing.
    None,
}

/// The sidecar that is added to annotated pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Environment variables for the pod's other containers, beside PGHOST, PGPORT, PGDATABASE, PGUSER and PGSSLMODE,
    /// which they always get. `{user}`, `{host}`, `{port}` and `{database}` stand for what the sidecar offers:
    /// `DATABASE_URL: "postgresql://{user}@{host}:{port}/{database}"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "env_schema")]
    pub env: BTreeMap<String, String>,
    /// What happens to a variable that a container sets itself, and that Postern sets too.
    #[serde(default)]
    pub on_env_conflict: OnEnvConflict,
    /// Requests and limits of the sidecar's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Whether pods are replaced when they would get another sidecar or other variables now, as after a change of this
    /// section or an upgrade of Postern. Default false; and only where the chart has `restarts.enabled`. Changes of
    /// rules, masks and limits never need that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_on_change: bool,
}

/// What happens to a container's own environment variable that Postern sets too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnEnvConflict {
    /// Its value is replaced; whoever creates the pod is warned.
    #[default]
    Replace,
    /// The pod is refused.
    Refuse,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for it, such as `{cpu: 50m, memory: 32Mi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities_schema")]
    pub requests: BTreeMap<String, IntOrText>,
    /// What it can use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities_schema")]
    pub limits: BTreeMap<String, IntOrText>,
}

fn env_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 2048},
    })
}

fn quantities_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": generator.subschema_for::<IntOrText>(),
    })
}
