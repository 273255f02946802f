//! The decision: what a policy, bound to a catalog, lets an identity do. Pure: no clock, no I/O, no logging.

pub mod bind;
pub mod bound;
pub mod builtins;
pub mod expression;
pub(crate) mod grant;
pub mod grants;
mod lineage;
pub mod mask;
mod qualify;
mod scrub;
pub mod settings;
pub(crate) mod steady;
pub mod system;
#[cfg(test)]
pub(crate) mod testing;

use std::borrow::Cow;

use schemars::JsonSchema;

/// Why a statement was refused, held or would have been; a closed set, used as a metric label and in the audit. The
/// reference shows of each variant what it means and, in a second paragraph, what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Reason {
    /// No rule allows the verb on the relation.
    ///
    /// Add the verb and the relation to a rule for this identity, if it should have them; the error's hint has the
    /// words.
    NoRule,
    /// The relation does not exist, or not for this identity.
    ///
    /// Look for a wrong name, schema or search_path first. If the relation is there, a rule has to name it; one that was
    /// just made elsewhere is known after `--catalog-refresh` at the latest.
    UnknownRelation,
    /// The column does not exist for this identity, or is unknown.
    ///
    /// Name only columns that the identity has: `SELECT *` shows them. A column in a rule's `hideColumns` does not
    /// exist for it.
    UnknownColumn,
    /// The relation is closed: its policy and the catalog disagree.
    ///
    /// Make policy and database agree again: `postern-sidecar check --database`, the condition `Bound` and the metric
    /// `postern_bind_problems` say which column or type is gone or does not fit.
    Closed,
    /// The function is not allowed, or not known.
    ///
    /// Add the function to a rule's `functions` if all that it can reach may be reached; check first what it reads, for
    /// it runs past masks and filters. Built-in functions that reach files, other sessions or SQL text stay refused.
    Function,
    /// The operator, cast or type is not allowed, or not known.
    ///
    /// Cast the operands so that a built-in operator is meant, or add the function that the operator or cast runs to a
    /// rule's `functions`.
    Operator,
    /// A catalog relation or column that shows data, other sessions or secrets.
    ///
    /// Ask for what clients need by the open catalog relations (`pg_class`, `pg_attribute`, `information_schema`).
    /// Statistics, other sessions' SQL and secrets stay closed, for every policy.
    SystemRelation,
    /// The setting may not be set or read.
    ///
    /// For a setting of the application's own, add it to a rule's `settings`, such as `app.*`. What changes how SQL is
    /// read (`client_encoding`, `standard_conforming_strings`) stays as it is: leave it out of the connection's
    /// options.
    Setting,
    /// The channel is not granted.
    ///
    /// Add the channel to a rule's `channels`, with the verb Notify; in `pg_notify` write its name as a constant.
    Channel,
    /// The syntax is not known to the proxy, or can't be proven safe.
    ///
    /// Write the statement in a plainer form, as the hint says. If it is an ordinary one, please report it.
    Unsupported,
    /// The statement is a kind that no policy can allow (roles, functions, file access, …).
    ///
    /// Do it past Postern, as an administrator: definitions of roles, grants, functions, triggers and servers, access
    /// to files, and DDL on relations that are masked or filtered for the identity are for no policy to allow.
    Forbidden,
    /// Role or session authorization.
    ///
    /// Leave out SET ROLE and SET SESSION AUTHORIZATION: the session runs as the identity's `postgresRole`. Another
    /// role is another identity.
    Role,
    /// COPY or another bulk export is not allowed.
    ///
    /// Read by SELECT within the limits. If this identity is to export, it needs the verb CopyOut on the relation and
    /// `bulkExport: {action: Allow}`.
    BulkExport,
    /// No approver can be reached.
    ///
    /// `bulkExport: {action: RequireApproval}` refuses until approvals are there: use Allow or Deny.
    NoApprover,
    /// A predicate on a masked column whose mask says `Refuse`.
    ///
    /// Compare, join and sort by columns that are not masked, or set the mask's `onPredicate: Notice` if working on
    /// masked values is meant.
    MaskedPredicate,
    /// A write whose value or condition reads a masked column in a way that would store or hit the wrong thing.
    ///
    /// Pin the row by unmasked columns of a unique key (`WHERE id = …`), and store values of your own or the column as
    /// it was read. Who has to change such a column needs an exemption from its mask.
    MaskedWrite,
    /// A write into or out of a row filter, or one that it can't guard.
    ///
    /// Write only rows that the filter lets through. Where the gate can't guard the write (COPY FROM, TRUNCATE,
    /// cascades), use INSERT or DELETE in rows, or an identity without the filter.
    RowFilter,
    /// A limit of rows, bytes or a window was reached.
    ///
    /// Ask for fewer rows or columns, or wait until the window's budget fills again. If the work is legitimate, raise
    /// `limits` in the rule that the error names.
    Limit,
    /// Too large, too deep, NUL, or not UTF-8.
    ///
    /// Send data as parameters or by COPY in place of literals, split what is very long or deep, and send UTF-8. A text may
    /// be 16 MiB long; `--parse-memory` bounds what parsing takes.
    Bounds,
    /// The text could not be parsed; the server's own message is better, see `Denial::syntax_error`.
    ///
    /// Correct the statement: Postgres itself would refuse it as well.
    Syntax,
    /// The policy changed under a prepared statement, portal or cursor.
    ///
    /// Prepare the statement or open the cursor again; drivers with a statement cache do so by themselves after the
    /// error.
    PolicyChanged,
    /// A protocol feature that is not offered (FunctionCall, replication).
    ///
    /// Use the simple or extended query protocol, and names of statements and portals that are there. For replication
    /// and large objects a connection past Postern is needed.
    Protocol,
    /// An internal error; refused to be safe.
    ///
    /// Look into the sidecar's log for the time of the refusal. A full audit (`postern_audit_refusals_total`) and a
    /// lack of memory are the usual causes; please report anything else.
    Internal,
}

impl Reason {
    /// Every reason, in the order of the variants.
    pub const ALL: [Reason; 23] = [
        Reason::NoRule,
        Reason::UnknownRelation,
        Reason::UnknownColumn,
        Reason::Closed,
        Reason::Function,
        Reason::Operator,
        Reason::SystemRelation,
        Reason::Setting,
        Reason::Channel,
        Reason::Unsupported,
        Reason::Forbidden,
        Reason::Role,
        Reason::BulkExport,
        Reason::NoApprover,
        Reason::MaskedPredicate,
        Reason::MaskedWrite,
        Reason::RowFilter,
        Reason::Limit,
        Reason::Bounds,
        Reason::Syntax,
        Reason::PolicyChanged,
        Reason::Protocol,
        Reason::Internal,
    ];

    /// The code as errors, audit and metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NoRule => "no_rule",
            Reason::UnknownRelation => "unknown_relation",
            Reason::UnknownColumn => "unknown_column",
            Reason::Closed => "closed",
            Reason::Function => "function",
            Reason::Operator => "operator",
            Reason::SystemRelation => "system_relation",
            Reason::Setting => "setting",
            Reason::Channel => "channel",
            Reason::Unsupported => "unsupported",
            Reason::Forbidden => "forbidden",
            Reason::Role => "role",
            Reason::BulkExport => "bulk_export",
            Reason::NoApprover => "no_approver",
            Reason::MaskedPredicate => "masked_predicate",
            Reason::MaskedWrite => "masked_write",
            Reason::RowFilter => "row_filter",
            Reason::Limit => "limit",
            Reason::Bounds => "bounds",
            Reason::Syntax => "syntax",
            Reason::PolicyChanged => "policy_changed",
            Reason::Protocol => "protocol",
            Reason::Internal => "internal",
        }
    }
}

/// A refusal, as the client is told and the audit records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// SQLSTATE; 42501 unless another fits better.
    pub sqlstate: &'static str,
    /// What the client reads. Holds names from the statement, never values.
    pub message: String,
    /// What would help.
    pub hint: Option<Cow<'static, str>>,
    /// The rule that refused, where one did.
    pub rule: Option<String>,
    /// The relation or column it is about, as `schema.relation[.column]`.
    pub object: Option<String>,
    /// Byte offset into the statement's text, where known.
    pub position: Option<u32>,
}

impl Denial {
    /// A refusal with SQLSTATE 42501.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            sqlstate: "42501",
            message: message.into(),
            hint: None,
            rule: None,
            object: None,
            position: None,
        }
    }

    /// With another SQLSTATE.
    #[must_use]
    pub fn sqlstate(mut self, code: &'static str) -> Self {
        self.sqlstate = code;
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the object it is about.
    #[must_use]
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }
}
