//! The decision: what a policy, bound to a catalog, lets an identity do. Pure: no clock, no I/O, no logging.

pub mod bind;
pub mod bound;
pub mod builtins;
pub mod expression;
pub(crate) mod grant;
mod lineage;
pub mod mask;
mod qualify;
mod scrub;
pub mod settings;
mod steady;
pub mod system;
#[cfg(test)]
pub(crate) mod testing;

use std::borrow::Cow;

/// Why a statement was refused, held or would have been; a closed set, used as a metric label and in the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No rule allows the verb on the relation.
    NoRule,
    /// The relation does not exist, or not for this identity.
    UnknownRelation,
    /// The column does not exist for this identity, or is unknown.
    UnknownColumn,
    /// The relation is closed: its policy and the catalog disagree.
    Closed,
    /// The function is not allowed, or not known.
    Function,
    /// The operator, cast or type is not allowed, or not known.
    Operator,
    /// A catalog relation or column that shows data, other sessions or secrets.
    SystemRelation,
    /// The setting may not be set or read.
    Setting,
    /// The channel is not granted.
    Channel,
    /// The syntax is not known to the proxy, or can't be proven safe.
    Unsupported,
    /// The statement is a kind that no policy can allow (roles, functions, file access, …).
    Forbidden,
    /// Role or session authorization.
    Role,
    /// COPY or another bulk export is not allowed.
    BulkExport,
    /// No approver can be reached.
    NoApprover,
    /// A predicate on a masked column whose mask says `Refuse`.
    MaskedPredicate,
    /// A write whose value or condition reads a masked column in a way that would store or hit the wrong thing.
    MaskedWrite,
    /// A write into or out of a row filter, or one that it can't guard.
    RowFilter,
    /// A limit of rows, bytes or a window was reached.
    Limit,
    /// Too large, too deep, NUL, or not UTF-8.
    Bounds,
    /// The text could not be parsed; the server's own message is better, see `Denial::syntax_error`.
    Syntax,
    /// The policy changed under a prepared statement, portal or cursor.
    PolicyChanged,
    /// A protocol feature that is not offered (FunctionCall, replication).
    Protocol,
    /// An internal error; refused to be safe.
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
