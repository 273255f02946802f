//! What the bound policy answers to the analysis: may this identity do that, and within which limits.

use std::sync::Arc;

use postern_crds::{BulkAction, Limits, NamePattern, Verb};

use super::bound::{BoundPolicy, ColumnView, Grant, RelationView};
use super::builtins::{self, FunctionClass};
use super::{Denial, Reason};
use crate::catalog::names::quote_text;
use crate::catalog::{Function, Oid, Relation, RelationKind};

impl BoundPolicy {
    /// The view of a relation that is masked, filtered, has hidden columns or is closed; None for a plain one.
    pub fn view(&self, relation: Oid) -> Option<&Arc<RelationView>> {
        self.views.get(&relation)
    }

    /// Whether the column does not exist for this identity.
    pub fn hidden(&self, relation: Oid, number: i16) -> bool {
        let view = self.views.get(&relation);
        matches!(view.and_then(|view| view.columns.get(&number)), Some(ColumnView::Hidden))
    }

    /// Whether a rule lets the identity do this to the relation, and the limits that hold then.
    pub fn grant(&self, relation: &Relation, verb: Verb) -> Result<Grant, Denial> {
        let granted = self.policy.grant(&self.identity, &relation.schema, &relation.name, is_special(relation), verb);
        let name = format!("{}.{}", relation.schema, relation.name);
        let Some((rule, limits)) = granted else {
            return Err(self.no_rule(&name, verb));
        };
        if let Some(why) = self.views.get(&relation.oid).and_then(|view| view.closed.as_deref()) {
            let hint = match relation.kind {
                RelationKind::View | RelationKind::MaterializedView => {
                    "What it shows can't be held to the policy: read its tables, or have it show what the policy needs; `postern-sidecar check` says more."
                }
                _ if self.telling_partitions.contains(&relation.oid) => {
                    "Read or write the partitioned table itself: it shows the rows of all partitions."
                }
                RelationKind::Sequence => "Leave the column out of an INSERT: its default runs.",
                _ => "The policy and the database disagree about it; `postern-sidecar check` says how.",
            };
            return Err(Denial::new(Reason::Closed, format!("{name} is closed: {why}")).hint(hint).object(name));
        }
        Ok(Grant { rule: rule.name.as_str().into(), limits })
    }

    /// Whether some masked column may be overwritten. A new version of a row is logged as far as it differs from the old
    /// one, so the length of the log would tell how much of the stored value a guess repeats.
    pub fn may_overwrite_masked(&self) -> bool {
        self.views.iter().any(|(oid, view)| {
            view.columns.values().any(|column| matches!(column, ColumnView::Masked(_)))
                && self.catalog.relations.get(oid).is_some_and(|relation| self.grant(relation, Verb::Update).is_ok())
        })
    }

    /// The first rule that gives the verb at all, for what has no relation: temporary tables, advisory locks, CREATE
    /// SCHEMA.
    pub fn allows(&self, verb: Verb) -> Result<Grant, Denial> {
        match self.policy.allows(&self.identity, verb) {
            Some(rule) => Ok(Grant { rule: rule.name.as_str().into(), limits: rule.limits }),
            None => {
                let (policy, identity) = (self.policy_name(), &self.identity.name);
                Err(Denial::new(
                    Reason::NoRule,
                    format!("permission denied: no rule of {policy} gives {identity} {verb}"),
                )
                .hint(format!("a rule for {identity} with `allow: [{verb}]` would allow it")))
            }
        }
    }

    /// Whether a rule lets the identity call this function or procedure of the database, and the limits that hold then.
    pub fn function(&self, function: &Function) -> Result<Limits, Denial> {
        let Function { schema, name, kind, .. } = function;
        let (what, allowed, needs) = match kind {
            'p' => ("procedure", self.policy.procedure_allowed(&self.identity, schema, name), ", `allow: [Call]`"),
            _ => ("function", self.policy.function_allowed(&self.identity, schema, name), ""),
        };
        if allowed.is_some() {
            return Ok(self.policy.function_limits(&self.identity, schema, name));
        }
        let (policy, identity) = (self.policy_name(), &self.identity.name);
        let message =
            format!("permission denied for {what} {schema}.{name}: no rule of {policy} lets {identity} call it");
        Err(Denial::new(Reason::Function, message)
            .hint(format!("a rule for {identity} with `functions: [{schema}.{name}]`{needs} would allow it"))
            .object(format!("{schema}.{name}")))
    }

    /// Whether a parameter may be of a type, 0 for one that the server finds: CHECKs of domains are run on it, and call functions. One
    /// that is not known as yet may have any of them.
    pub fn parameter(&self, kind: Oid) -> Result<(), Denial> {
        let checks = &self.catalog.type_checks;
        let is_known = kind == 0 || self.catalog.types.contains_key(&kind);
        let functions: Vec<&Oid> = match checks.get(&kind) {
            Some(functions) => functions.iter().collect(),
            None if is_known => return Ok(()),
            None => checks.values().flatten().collect(),
        };
        functions.into_iter().map(|oid| self.catalog.function(*oid)).try_for_each(|function| match function {
            Some(function) if builtins::classify(function) == FunctionClass::Compute => Ok(()),
            Some(function) => self.function(function).map(|_| ()),
            None => Err(Denial::new(Reason::Function, "a CHECK of a domain calls a function that is not known")),
        })
    }

    /// Whether a rule lets the client set this custom setting.
    pub fn setting(&self, name: &str) -> bool {
        self.policy.setting_allowed(&self.identity, name).is_some()
    }

    /// Whether a rule lets the identity listen on and notify this channel.
    pub fn channel(&self, name: &str) -> bool {
        self.policy.channel_allowed(&self.identity, name).is_some()
    }

    /// As SQL: whether a rule lets the identity use the channel that `name` computes. None if no rule names any.
    pub fn channel_condition(&self, name: &str) -> Option<String> {
        let quoted = |text: &str| format!("{}::pg_catalog.text", quote_text(text));
        let one = |pattern: &NamePattern| match pattern {
            NamePattern::Literal(literal) => format!("{name} OPERATOR(pg_catalog.=) {}", quoted(literal)),
            NamePattern::Glob(pieces) => {
                let escape = |piece: &String| piece.replace('!', "!!").replace('%', "!%").replace('_', "!_");
                let like = pieces.iter().map(escape).collect::<Vec<_>>().join("%");
                format!(
                    "{name} OPERATOR(pg_catalog.~~) pg_catalog.like_escape({}, '!'::pg_catalog.text)",
                    quoted(&like)
                )
            }
        };
        let all: Vec<String> = self.policy.channel_patterns(&self.identity).map(one).collect();
        (!all.is_empty()).then(|| all.join(" OR "))
    }

    /// Whether the policy lets a bulk export pass, where a rule has the verb.
    pub fn bulk_export(&self) -> Result<(), Denial> {
        let policy = self.policy_name();
        match self.policy.bulk_export.action {
            BulkAction::Allow => Ok(()),
            BulkAction::Deny => {
                Err(Denial::new(Reason::BulkExport, format!("permission denied: {policy} allows no bulk export"))
                    .hint("`bulkExport: {action: Allow}` and the verb CopyOut in a rule would allow it"))
            }
            BulkAction::RequireApproval => {
                let message =
                    format!("permission denied: {policy} asks for an approval, and no approver can be reached");
                Err(Denial::new(Reason::NoApprover, message).hint("approvals need the broker, which is not connected"))
            }
        }
    }

    fn no_rule(&self, relation: &str, verb: Verb) -> Denial {
        let (policy, identity) = (self.policy_name(), &self.identity.name);
        // The rule alone would be met by the next refusal.
        let also = match (verb, self.policy.bulk_export.action) {
            (Verb::CopyOut, BulkAction::Deny | BulkAction::RequireApproval) => "`bulkExport: {action: Allow}` and ",
            _ => "",
        };
        Denial::new(Reason::NoRule, format!("permission denied: no rule of {policy} lets {identity} {verb} {relation}"))
            .hint(format!(
                "{also}a rule for {identity} with `allow: [{verb}]`, `relations: [{relation}]` would allow it"
            ))
            .object(relation)
    }

    fn policy_name(&self) -> String {
        format!("policy {}/{}", self.policy.namespace, self.policy.name)
    }
}

/// Whether globs of the policy's `relations` don't match the relation, so that only its full name does.
pub(crate) fn is_special(relation: &Relation) -> bool {
    relation.system
        || relation.temporary
        || matches!(relation.kind, RelationKind::ForeignTable | RelationKind::Toast | RelationKind::Index)
}
