//! Foreign keys that act: what a DELETE, or a change of a key, does to the rows that refer to it.
//!
//! **Promise.** Through foreign keys a write acts on rows of a filtered relation only where all of them are inside the
//! filter: as a condition on each row that is written, and where that can't be said so the write is refused. That holds
//! for the write of a parent, of a partition and of a view, too.

use std::collections::HashSet;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::tree::{self, each_child, unsupported};
use super::view::{range, select};
use super::write::Target;
use crate::catalog::code::mentions_word;
use crate::catalog::names::quote_name;
use crate::catalog::{ForeignKey, Oid, Relation, RelationKind};
use crate::decide::bound::{RelationView, RowFilter};
use crate::decide::expression::instantiate;
use crate::decide::{Denial, Reason};
use crate::sql;

/// A view's definition is read beside the statement: what it costs was not counted with that.
const LIMITS: sql::ParseLimits = sql::ParseLimits { bytes: 64 << 10, depth: sql::deep::INLINE_DEPTH, memory: 8 << 20 };

/// What becomes of rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Change {
    /// They go.
    Delete,
    /// These columns of them may change.
    Columns(Vec<i16>),
}

/// A foreign key that acts: on which relation, and what becomes of its rows.
struct Step<'a> {
    dependant: &'a Relation,
    key: &'a ForeignKey,
    next: Change,
}

/// Whether it changes a column that the filter reads, or one that such a column is computed from.
fn moves(step: &Step<'_>, filter: &RowFilter) -> bool {
    let Change::Columns(columns) = &step.next else { return false };
    let reads = |number: &i16| {
        let generated = step.dependant.column_at(*number).and_then(|column| column.generated.as_deref());
        let names = |of: &i16| {
            step.dependant.column_at(*of).is_some_and(|of| generated.is_some_and(|sql| mentions_word(sql, &of.name)))
        };
        columns.contains(number) || columns.iter().any(names)
    };
    filter.columns.iter().any(reads)
}

impl Analyzer<'_> {
    /// Conditions under which assignments change no key that rows outside a filter follow.
    pub(super) fn keys_inside(&self, assignments: &[Node], target: &Target) -> Result<Vec<Node>, Denial> {
        let assigned = assignments.iter().filter_map(|node| self.assigned_column(node, target)).collect();
        let guards = self.dependants_inside(target, &Change::Columns(assigned))?;
        if guards.is_empty() {
            return Ok(guards);
        }
        let mut unchanged = Vec::new();
        for node in assignments {
            let Some(NodeEnum::ResTarget(res)) = &node.node else { return Err(unsupported("SET")) };
            let (Some(column), Some(value)) = (target.relation.column(&res.name), res.val.as_deref()) else { continue };
            let is_key = |number| target.relation.indexes.iter().any(|i| i.unique && i.columns.contains(&number));
            if !is_key(column.number) {
                continue;
            }
            // What is stored must be what was compared.
            if !self.is_repeatable(value) {
                return Ok(guards);
            }
            let new = tree::cast(value.clone(), &column.type_sql)?;
            unchanged.push(self.same_value(new, tree::column(&target.alias, &column.name), column));
        }
        Ok(vec![tree::or(vec![tree::and(unchanged), tree::and(guards)])])
    }

    /// Whether computing an expression twice gives the same value.
    fn is_repeatable(&self, node: &Node) -> bool {
        let mut node = node.clone();
        let varies = match &node.node {
            Some(NodeEnum::FuncCall(call)) => self.is_volatile(call),
            Some(NodeEnum::SubLink(_) | NodeEnum::MultiAssignRef(_) | NodeEnum::SetToDefault(_)) | None => true,
            Some(_) => false,
        };
        let mut repeatable = !varies;
        if let Some(inner) = node.node.as_mut().filter(|_| !varies) {
            let walked = each_child(inner, &mut |child| {
                repeatable &= self.is_repeatable(child);
                Ok(())
            });
            repeatable &= walked.is_ok();
        }
        repeatable
    }

    /// Conditions under which no row outside a filter follows a change of the target's rows.
    pub(super) fn dependants_inside(&self, target: &Target, change: &Change) -> Result<Vec<Node>, Denial> {
        if target.relation.kind == RelationKind::View {
            return self.view_inside(target, change).map(|()| Vec::new());
        }
        let mut guards = Vec::new();
        for oid in self.with_descendants(&target.relation) {
            for step in self.steps(oid, change) {
                if self.is_key_masked(&step) {
                    return Err(refused(target, "by a column that is masked for you, and would tell its values"));
                }
                if self.reaches_filter(step.dependant, &step.next, &mut HashSet::new()) {
                    return Err(refused(target, "over several steps").hint("Write the dependent rows first."));
                }
                if self.is_filtered(step.dependant.oid) {
                    guards.push(self.guard(target, oid, &step)?);
                }
            }
        }
        Ok(guards)
    }

    /// The foreign keys that act on a change of this relation's own rows.
    fn steps(&self, oid: Oid, change: &Change) -> impl Iterator<Item = Step<'_>> {
        self.catalog.foreign_keys_to(oid).filter_map(move |(dependant, key)| {
            let action = match change {
                Change::Delete => Some(key.on_delete),
                Change::Columns(columns) => {
                    key.referenced_columns.iter().any(|column| columns.contains(column)).then_some(key.on_update)
                }
            };
            let next = match (action?, change) {
                ('c', Change::Delete) => Change::Delete,
                ('c', Change::Columns(columns)) => {
                    let follows = |(_, to): &(&i16, &i16)| columns.contains(to);
                    let pairs = key.columns.iter().zip(&key.referenced_columns);
                    Change::Columns(pairs.filter(follows).map(|(from, _)| *from).collect())
                }
                ('n' | 'd', _) => Change::Columns(key.columns.clone()),
                _ => return None,
            };
            Some(Step { dependant, key, next })
        })
    }

    /// Whether which rows follow tells a value that the identity does not see.
    fn is_key_masked(&self, step: &Step<'_>) -> bool {
        let view = self.policy.view(step.dependant.oid);
        view.is_some_and(|view| step.key.columns.iter().any(|column| view.columns.contains_key(column)))
    }

    /// Whether there may be rows of a relation that the identity does not see. Those of a partition that is closed by itself are seen in
    /// its table.
    fn is_filtered(&self, oid: Oid) -> bool {
        let is_closed = |view: &RelationView| view.closed.is_some() && !self.policy.telling_partitions.contains(&oid);
        self.policy.view(oid).is_some_and(|view| view.filter.is_some() || is_closed(view))
    }

    /// Whether foreign keys carry a change of a relation's rows into a filtered one.
    fn reaches_filter(&self, relation: &Relation, change: &Change, seen: &mut HashSet<(Oid, Change)>) -> bool {
        self.with_descendants(relation).into_iter().any(|oid| {
            seen.insert((oid, change.clone()))
                && self.steps(oid, change).any(|step| {
                    self.is_filtered(step.dependant.oid)
                        || self.is_key_masked(&step)
                        || self.reaches_filter(step.dependant, &step.next, seen)
                })
        })
    }

    /// `NOT EXISTS` a row that refers to the target's row, if that is one of `of`, and is outside the filter, or is moved by what its
    /// filter reads.
    fn guard(&self, target: &Target, of: Oid, step: &Step<'_>) -> Result<Node, Denial> {
        let Step { dependant, key, .. } = step;
        let filter = self.policy.view(dependant.oid).and_then(|view| view.filter.as_ref());
        let filter = filter.ok_or_else(|| refused(target, "that is closed for you"))?;
        let alias = target.other_than_alias("postern_dependant");
        let mut conditions = Vec::new();
        for (from, to) in key.columns.iter().zip(&key.referenced_columns) {
            let to = self.catalog.relations.get(&of).and_then(|relation| relation.column_at(*to));
            // A child's own column is not one of its parent.
            let to = to.filter(|to| target.relation.column(&to.name).is_some());
            let (Some(from), Some(to)) = (dependant.column_at(*from), to) else {
                return Err(
                    refused(target, "by a key that it does not have").hint("Write the table of the key itself.")
                );
            };
            conditions.push(tree::parse_expression(&format!(
                "{alias}.{} OPERATOR(pg_catalog.=) {}.{}",
                quote_name(&from.name),
                quote_name(&target.alias),
                quote_name(&to.name)
            ))?);
        }
        if of != target.relation.oid {
            let table = format!("{}.tableoid OPERATOR(pg_catalog.=) {of}::pg_catalog.oid", quote_name(&target.alias));
            conditions.push(tree::parse_expression(&table)?);
        }
        if !moves(step, filter) {
            conditions.push(tree::node(NodeEnum::BooleanTest(Box::new(pb::BooleanTest {
                xpr: None,
                arg: tree::boxed(instantiate(&filter.expression, &alias)),
                booltesttype: pb::BoolTestType::IsNotTrue as i32,
                location: -1,
            }))));
        }
        let from = tree::node(NodeEnum::RangeVar(range(&dependant.schema, &dependant.name, true, &alias)));
        let inner = select(vec![tree::target("", tree::number(1))], vec![from], Some(tree::and(conditions)));
        Ok(tree::not(tree::subquery(pb::SubLinkType::ExistsSublink, inner)))
    }

    /// Refuses a write of a view that reaches into a filtered relation. The server writes views of one table without
    /// more; all others only by INSTEAD OF triggers and rules, which are their owner's code.
    fn view_inside(&self, target: &Target, change: &Change) -> Result<(), Denial> {
        let (mut relation, mut change) = (target.relation.clone(), change.clone());
        while relation.kind == RelationKind::View {
            let (instead, event) = (64, if matches!(change, Change::Delete) { 8 } else { 16 });
            if relation.triggers.iter().any(|trigger| trigger.kind & instead != 0 && trigger.kind & event != 0) {
                return Ok(());
            }
            let definition = relation.definition.as_deref().unwrap_or_default();
            let mut tree = sql::parse(definition, &LIMITS)?.tree;
            let select = tree.stmts.pop().and_then(|raw| raw.stmt).and_then(|statement| statement.node);
            let Some(NodeEnum::SelectStmt(select)) = select else { return Err(unsupported("a write of this view")) };
            let [Node { node: Some(NodeEnum::RangeVar(from)) }] = select.from_clause.as_slice() else { return Ok(()) };
            let Some(base) = self.catalog.relation(&from.schemaname, &from.relname) else {
                return Err(unsupported("a write of this view"));
            };
            if let Change::Columns(columns) = &mut change {
                let shown = relation.columns.iter().zip(&select.target_list);
                let shown = shown.filter(|(column, _)| columns.contains(&column.number));
                *columns = shown.filter_map(|(_, shows)| Some(base.column(shown_column(shows)?)?.number)).collect();
            }
            relation = base.clone();
        }
        if self.reaches_filter(&relation, &change, &mut HashSet::new()) {
            return Err(refused(target, "through a view").hint("Write the view's table itself."));
        }
        Ok(())
    }
}

/// The name of the column that an output of a view is; the server writes no others.
fn shown_column(output: &Node) -> Option<&str> {
    let Some(NodeEnum::ResTarget(res)) = &output.node else { return None };
    let Some(NodeEnum::ColumnRef(reference)) = &res.val.as_deref()?.node else { return None };
    reference.fields.last().and_then(tree::string_of)
}

fn refused(target: &Target, how: &str) -> Denial {
    Denial::new(Reason::RowFilter, format!("this write of {} cascades into a filtered relation {how}", target.name()))
}
