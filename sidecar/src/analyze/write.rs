//! INSERT, UPDATE, DELETE and MERGE: the target of a write can't become a view, so what is read of it is replaced column
//! by column, and what is stored in it is guarded as it runs.
//!
//! **Promise.** Nothing that the client's expressions read of the target is a raw value of a masked column or of a row
//! outside the filter. Storing a masked column's own mask keeps what is there. A row version outside the filter is not
//! written.
//!
//! `write/` has WHERE (`condition.rs`), SET (`assign.rs`), what is stored (`new_row.rs`), and INSERT with ON CONFLICT (`insert.rs`).

mod assign;
mod condition;
mod insert;
mod new_row;

use std::collections::HashSet;
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::{MaskKind, Verb};

use super::cascade::Change;
use super::schemas::Names;
use super::scope::{Column, Item, ItemId, RelationItem, Scope, Source};
use super::select::{Output, figure_name, is_called_as_written, is_several, star_of};
use super::stored::Stored;
use super::tree::{self, unsupported};
use super::{Analyzer, Place};
use crate::catalog::Relation;
use crate::decide::bound::{BoundMask, ColumnView, RelationView, RowFilter};
use crate::decide::expression::instantiate;
use crate::decide::{Denial, Reason};

/// The target of a write.
#[derive(Clone)]
pub(super) struct Target {
    id: ItemId,
    pub(super) relation: Arc<Relation>,
    view: Option<Arc<RelationView>>,
    /// Where its rows are stored.
    pub(super) stored: Arc<[Stored]>,
    pub(super) alias: Arc<str>,
    /// The alias that the client gave it.
    called: Option<Arc<str>>,
}

impl Target {
    pub(super) fn filter(&self) -> Option<&RowFilter> {
        self.view.as_ref()?.filter.as_ref()
    }

    /// The condition that a row of the target is inside the filter.
    fn inside(&self) -> Option<Node> {
        self.filter().map(|filter| instantiate(&filter.expression, &self.alias))
    }

    /// Whether the row filter reads this column.
    fn filters_by(&self, number: i16) -> bool {
        self.filter().is_some_and(|filter| filter.columns.contains(&number))
    }

    fn mask(&self, number: i16) -> Option<&Arc<BoundMask>> {
        match self.view.as_ref()?.columns.get(&number)? {
            ColumnView::Masked(mask) => Some(mask),
            ColumnView::Hidden => None,
        }
    }

    fn hides(&self, number: i16) -> bool {
        self.view.as_ref().is_some_and(|view| view.hides(number))
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.relation.schema, self.relation.name)
    }

    /// A name of the proxy's own for what stands beside the target in FROM.
    pub(super) fn other_than_alias(&self, name: &str) -> String {
        if *self.alias == *name { format!("{name}_") } else { name.to_owned() }
    }

    /// Columns whose raw value the identity does not see.
    pub(super) fn secret(&self) -> impl Iterator<Item = i16> {
        self.view.iter().flat_map(|view| view.columns.keys().copied())
    }
}

impl Analyzer<'_> {
    /// Walks a write; what it gives is its RETURNING.
    pub(crate) fn write(&mut self, node: &mut Node) -> Result<Output, Denial> {
        self.out.writes = true;
        if self.scopes.levels.is_empty() {
            self.names = Names::in_statement(node);
        }
        let depth = self.scopes.levels.len();
        self.scopes.levels.push(Scope::default());
        let guarded = self.guarded;
        let output = match &mut node.node {
            Some(NodeEnum::InsertStmt(insert)) => self.insert(insert),
            Some(NodeEnum::UpdateStmt(update)) => self.update(update),
            Some(NodeEnum::DeleteStmt(delete)) => self.delete(delete),
            Some(NodeEnum::MergeStmt(merge)) => self.merge(merge),
            _ => Err(unsupported("a write of this kind")),
        };
        self.guarded = guarded;
        self.scopes.levels.truncate(depth);
        output
    }

    /// Decides the verb on the target and notes how it is seen.
    fn target_of(&mut self, range: &mut pb::RangeVar, verb: Verb) -> Result<Target, Denial> {
        let relation = self.relation_at(range)?;
        if relation.system && !relation.temporary {
            let name = format!("{}.{}", relation.schema, relation.name);
            return Err(Denial::new(Reason::Forbidden, format!("{name} is a catalog relation and can't be written"))
                .object(name));
        }
        let (view, _) = self.reads(&relation, verb)?;
        let called: Option<Arc<str>> = range.alias.as_ref().map(|alias| alias.aliasname.as_str().into());
        let known = called.as_deref().unwrap_or(&range.relname);
        // Where the server does not see something else of the name, it would find the target.
        let alias = if view.is_some() && self.names.is_of_several(known) {
            range.alias = None;
            self.name_of_own(range)
        } else {
            self.name_in_text(range, view.is_none())
        };
        self.guarded |= view.as_ref().is_some_and(|view| !view.columns.is_empty());
        if let Some(filter) = view.as_ref().and_then(|view| view.filter.as_ref()) {
            self.out.row_filter_rule = Some(Arc::from(filter.rule.as_str()));
        }
        let stored = self.stored_in(&relation).into();
        Ok(Target { id: usize::MAX, relation, view, stored, alias, called })
    }

    /// Puts the target among the items that names can mean.
    fn add_target(&mut self, target: &mut Target) {
        target.id = self.scopes.add(self.target_item(target, target.alias.clone(), target.called.clone()));
    }

    fn target_item(&self, target: &Target, alias: Arc<str>, called: Option<Arc<str>>) -> Item {
        Item {
            alias: Some(alias),
            aliased: called.is_some(),
            source: Source::Relation(Box::new(RelationItem {
                called,
                relation: target.relation.clone(),
                view: target.view.clone(),
                system_view: None,
                write_target: true,
                column_aliases: Vec::new(),
                used: Default::default(),
                compared: Default::default(),
                barrier: Default::default(),
                apart: Default::default(),
                bare: Default::default(),
                guarded: Default::default(),
                guards: false,
                in_join: false,
                fenced: false,
                left_out: false,
                system_columns: Default::default(),
                system_barrier: false,
                whole: false,
                as_row: false,
                natural: false,
                pushed: Vec::new(),
            })),
        }
    }

    /// A write that reads its target needs Select too, as in Postgres.
    fn may_read(&mut self, target: &Target) -> Result<(), Denial> {
        let read = self
            .scopes
            .get(target.id)
            .and_then(|item| item.relation())
            .is_some_and(|relation| !relation.used.is_empty());
        if read && !target.relation.temporary {
            let grant = self.grant(&target.relation, Verb::Select)?;
            self.out.limits = self.out.limits.and(grant.limits);
            self.out.verbs.insert(Verb::Select);
        }
        Ok(())
    }

    fn update(&mut self, update: &mut pb::UpdateStmt) -> Result<Output, Denial> {
        self.with_clause(&mut update.with_clause)?;
        let range = update.relation.as_mut().ok_or_else(|| unsupported("UPDATE"))?;
        let mut target = self.target_of(range, Verb::Update)?;
        self.add_target(&mut target);
        for item in &mut update.from_clause {
            self.table_item(item)?;
        }
        let pinned = self.write_condition(&mut update.where_clause, &target)?;
        self.assignments(&mut update.target_list, &target)?;
        let output = self.returning(&mut update.returning_clause, &target)?;
        self.may_read(&target)?;
        self.out.at_most_one_row = pinned && update.from_clause.is_empty();
        let inside = self.keys_inside(&update.target_list, &target)?;
        self.only_where(&mut update.where_clause, inside);
        Ok(output)
    }

    fn delete(&mut self, delete: &mut pb::DeleteStmt) -> Result<Output, Denial> {
        self.with_clause(&mut delete.with_clause)?;
        let range = delete.relation.as_mut().ok_or_else(|| unsupported("DELETE"))?;
        let mut target = self.target_of(range, Verb::Delete)?;
        self.add_target(&mut target);
        for item in &mut delete.using_clause {
            self.table_item(item)?;
        }
        let pinned = self.write_condition(&mut delete.where_clause, &target)?;
        let output = self.returning(&mut delete.returning_clause, &target)?;
        self.may_read(&target)?;
        self.out.at_most_one_row = pinned && delete.using_clause.is_empty();
        let inside = self.dependants_inside(&target, &Change::Delete)?;
        self.only_where(&mut delete.where_clause, inside);
        Ok(output)
    }

    /// RETURNING: what is masked is returned masked, `*` is written out where not all of the target is shown as it is.
    fn returning(&mut self, returning: &mut Option<pb::ReturningClause>, target: &Target) -> Result<Output, Denial> {
        let Some(returning) = returning else {
            self.out.returns_rows = false;
            return Ok(Output::default());
        };
        self.out.returns_rows = true;
        let guarded = self.is_guarded_target(target.id);
        self.old_and_new(returning, target);
        let set_by_trigger = if guarded { self.set_by_triggers(target) } else { HashSet::new() };
        if guarded {
            self.write_out_star(returning)?;
        }
        let mut output = Output { complete: true, ..Output::default() };
        for node in &mut returning.exprs {
            let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("RETURNING")) };
            let Some(value) = res.val.as_deref_mut() else { return Err(unsupported("RETURNING")) };
            let name = if res.name.is_empty() { figure_name(value) } else { Some(res.name.clone()) };
            let was_column = matches!(value.node, Some(NodeEnum::ColumnRef(_)));
            let guessed = res.name.is_empty() && !is_called_as_written(value);
            output.complete &= !is_several(value);
            let before = self.scopes.get(target.id).and_then(|item| item.relation()).map(|r| r.used.clone());
            let type_oid = self.expression(value, Place { leaky: false, ..Place::ASSIGNED })?;
            if !set_by_trigger.is_empty() {
                let after = self.scopes.get(target.id).and_then(|item| item.relation()).map(|r| r.used.clone());
                let alone = was_column
                    && self.column_of(value, target.id).is_some_and(|number| set_by_trigger.contains(&number));
                let reads_set = after.iter().flatten().any(|number| {
                    set_by_trigger.contains(number) && !before.as_ref().is_some_and(|before| before.contains(number))
                });
                if alone {
                    let column = self.column_of(value, target.id).and_then(|number| target.relation.column_at(number));
                    let type_sql =
                        column.map_or_else(|| "pg_catalog.text".to_owned(), |column| column.type_sql.to_string());
                    *value = tree::parse_expression(&format!("NULL::{type_sql}"))?;
                    self.changed = true;
                } else if reads_set {
                    return Err(Denial::new(
                        Reason::MaskedWrite,
                        format!(
                            "a trigger of {} may set a column that RETURNING computes with from a masked one",
                            target.name()
                        ),
                    )
                    .hint("Return the columns themselves, or read the row with SELECT."));
                }
            }
            // What stands for a masked column has no name, or another; also within a CASE or under a COLLATE.
            if res.name.is_empty() && figure_name(value) != name {
                res.name = name.clone().unwrap_or_else(|| "?column?".to_owned());
            }
            // A query around reads what was returned, as it is.
            let name = name.map(Arc::from).filter(|_| !is_several(value));
            output.columns.push(Column { name, type_oid, stays: true, guessed, ..Column::default() });
        }
        Ok(output)
    }

    /// RETURNING knows the row before and after the write by these names (since Postgres 18).
    fn old_and_new(&mut self, returning: &pb::ReturningClause, target: &Target) {
        let mut names = vec!["old".to_owned(), "new".to_owned()];
        for option in &returning.options {
            if let Some(NodeEnum::ReturningOption(option)) = &option.node {
                names.push(option.value.clone());
            }
        }
        // They stand a level further out: a bare column is the target's.
        let mut level = Scope::default();
        for name in names {
            if self.scopes.star(&[&name]).is_empty() {
                let name: Arc<str> = Arc::from(name);
                let id = self.scopes.push(self.target_item(target, Arc::clone(&name), Some(name)));
                level.items.push(id);
                self.before_and_after.push(id);
            }
        }
        let at = self.scopes.levels.len().saturating_sub(1);
        self.scopes.levels.insert(at, level);
    }

    fn write_out_star(&mut self, returning: &mut pb::ReturningClause) -> Result<(), Denial> {
        let mut written = Vec::new();
        for node in std::mem::take(&mut returning.exprs) {
            let star = match &node.node {
                Some(NodeEnum::ResTarget(res)) => res.val.as_deref().and_then(star_of),
                _ => None,
            };
            let Some(names) = star else {
                written.push(node);
                continue;
            };
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            for id in self.scopes.star(&names) {
                let Some(alias) = self.scopes.get(id).and_then(|item| item.alias.clone()) else {
                    return Err(unsupported("RETURNING * with an unnamed subquery"));
                };
                let (columns, complete) = self.scopes.columns_of(id);
                if !complete || (self.merged_columns && names.is_empty()) {
                    return Err(unsupported("RETURNING * beside what has unknown columns"));
                }
                for column in columns {
                    let name = column.name.as_deref().unwrap_or("?column?");
                    written.push(tree::target(name, tree::column(&alias, name)));
                }
            }
            self.changed = true;
        }
        returning.exprs = written;
        Ok(())
    }

    fn merge(&mut self, merge: &mut pb::MergeStmt) -> Result<Output, Denial> {
        self.with_clause(&mut merge.with_clause)?;
        let range = merge.relation.as_mut().ok_or_else(|| unsupported("MERGE"))?;
        let verbs: Vec<Verb> = merge.merge_when_clauses.iter().filter_map(merge_verb).collect();
        let first = verbs.first().copied().unwrap_or(Verb::Select);
        let mut target = self.target_of(range, first)?;
        if !target.relation.temporary {
            for verb in verbs.iter().skip(1) {
                let grant = self.grant(&target.relation, *verb)?;
                self.record(&target.relation.clone(), &grant, *verb);
            }
        }
        let source = merge.source_relation.as_deref_mut().ok_or_else(|| unsupported("MERGE"))?;
        self.table_item(source)?;
        self.add_target(&mut target);
        let before = self.masked_reads.len();
        if let Some(condition) = merge.join_condition.as_deref_mut() {
            self.expression(condition, Place::CONDITION)?;
        }
        let pinned = merge.join_condition.as_deref().is_some_and(|condition| self.pins_key(condition, target.id));
        self.masked_condition(before, pinned, &target)?;
        if let Some(inside) = target.inside() {
            let written = merge.join_condition.take().map(|condition| *condition);
            merge.join_condition = tree::boxed(self.within(&target, inside, written, Place::CONDITION));
        }
        for node in &mut merge.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = &mut node.node else { return Err(unsupported("MERGE")) };
            // What there is no row of, is not seen.
            let all = self.scopes.offer_only(Vec::new());
            let (of_target, of_source): (Vec<ItemId>, Vec<ItemId>) = all.iter().partition(|id| **id == target.id);
            self.scopes.offer_only(match pb::MergeMatchKind::try_from(when.match_kind) {
                Ok(pb::MergeMatchKind::MergeWhenNotMatchedBySource) => of_target,
                Ok(pb::MergeMatchKind::MergeWhenNotMatchedByTarget) => of_source,
                _ => all.clone(),
            });
            let walked = self.merge_when(when, &target, pinned);
            self.scopes.offer_only(all);
            walked?;
        }
        let output = self.returning(&mut merge.returning_clause, &target)?;
        self.may_read(&target)?;
        if verbs.contains(&Verb::Delete) && !self.dependants_inside(&target, &Change::Delete)?.is_empty() {
            return Err(Denial::new(
                Reason::RowFilter,
                format!("MERGE can't delete from {}: rows of a filtered relation depend on it", target.name()),
            )
            .hint("Use DELETE."));
        }
        Ok(output)
    }

    fn merge_when(&mut self, when: &mut pb::MergeWhenClause, target: &Target, pinned: bool) -> Result<(), Denial> {
        let by_source = when.match_kind == pb::MergeMatchKind::MergeWhenNotMatchedBySource as i32;
        let before = self.masked_reads.len();
        if let Some(condition) = when.condition.as_deref_mut() {
            self.expression(condition, Place::CONDITION)?;
        }
        self.masked_condition(before, pinned && !by_source, target)?;
        if by_source && let Some(inside) = target.inside() {
            let written = when.condition.take().map(|condition| *condition);
            when.condition = tree::boxed(self.within(target, inside, written, Place::CONDITION));
        }
        match pb::CmdType::try_from(when.command_type) {
            Ok(pb::CmdType::CmdUpdate) => {
                self.assignments(&mut when.target_list, target)?;
                let inside = self.keys_inside(&when.target_list, target)?;
                self.only_where(&mut when.condition, inside);
                Ok(())
            }
            Ok(pb::CmdType::CmdDelete | pb::CmdType::CmdNothing) => Ok(()),
            Ok(pb::CmdType::CmdInsert) => {
                if when.r#override == pb::OverridingKind::OverridingUserValue as i32 {
                    insert::stores_what_is_given(target)?;
                }
                for value in &mut when.values {
                    self.expression(value, Place { leaky: true, ..Place::default() })?;
                }
                for node in &mut when.target_list {
                    let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("MERGE")) };
                    if target.view.is_some() && !res.indirection.is_empty() {
                        return Err(unsupported("a part of a column in an INSERT into a masked or filtered relation"));
                    }
                    for step in &mut res.indirection {
                        self.expression(step, Place { leaky: true, ..Place::default() })?;
                    }
                }
                if target.view.is_none() {
                    return Ok(());
                }
                insert::each_is_one(&when.values)?;
                if when.target_list.is_empty() {
                    let visible = target.relation.columns.iter().filter(|column| !target.hides(column.number));
                    when.target_list = visible.take(when.values.len()).map(|c| insert_column(&c.name)).collect();
                    self.changed = true;
                }
                let mut columns = Vec::new();
                for (index, node) in when.target_list.iter().enumerate() {
                    let Some(NodeEnum::ResTarget(res)) = &node.node else { return Err(unsupported("MERGE")) };
                    let column = target.relation.column(&res.name).filter(|column| !target.hides(column.number));
                    let column = column.ok_or_else(|| no_column(target, &res.name))?.clone();
                    let given =
                        !matches!(when.values.get(index).map(|v| &v.node), Some(Some(NodeEnum::SetToDefault(_))));
                    if given
                        && target.mask(column.number).is_some_and(|mask| matches!(mask.kind, MaskKind::Hash { .. }))
                    {
                        return Err(no_own_hash(target, &column.name));
                    }
                    columns.push(column);
                }
                let Some(filter) = target.filter() else { return Ok(()) };
                for (column, value) in self.missing_defaults(&columns, target, filter)? {
                    when.target_list.push(insert_column(&column.name));
                    when.values.push(value);
                    columns.push(column);
                }
                self.check_values(&mut when.values, &columns, target, filter)
            }
            _ => Err(unsupported("MERGE")),
        }
    }
}

fn merge_verb(node: &Node) -> Option<Verb> {
    let Some(NodeEnum::MergeWhenClause(when)) = &node.node else { return None };
    match pb::CmdType::try_from(when.command_type) {
        Ok(pb::CmdType::CmdUpdate) => Some(Verb::Update),
        Ok(pb::CmdType::CmdInsert) => Some(Verb::Insert),
        Ok(pb::CmdType::CmdDelete) => Some(Verb::Delete),
        _ => None,
    }
}

fn no_column(target: &Target, column: &str) -> Denial {
    Denial::new(
        Reason::UnknownColumn,
        format!("column \"{column}\" of relation \"{}\" does not exist", target.relation.name),
    )
    .sqlstate("42703")
    .object(format!("{}.{column}", target.name()))
}

/// A boolean that raises an error with this text if it is ever computed. It reads the backend's state, so that the
/// planner can't compute it ahead.
fn raise(marker: &str, about: &str) -> Node {
    let text = tree::call(
        "concat",
        vec![tree::literal(&format!("{marker}: {about} ")), tree::call("pg_backend_pid", Vec::new())],
    );
    tree::cast_to(text, "bool", false)
}

fn filter_denial(target: &Target, column: &str, why: &str) -> Denial {
    let name = format!("{}.{column}", target.name());
    let rule = target.filter().map(|filter| filter.rule.clone());
    let mut denial =
        Denial::new(Reason::RowFilter, format!("the row filter of {} reads {column}: {why}", target.name()))
            .object(name);
    denial.rule = rule;
    denial
}

/// Whether computing the value twice gives the same: no function, no subquery.
fn is_pure(node: &Node) -> bool {
    let optional = |node: &Option<Box<Node>>| node.as_deref().is_none_or(is_pure);
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::ColumnRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
        Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) && optional(&expr.rexpr),
        Some(NodeEnum::CoalesceExpr(coalesce)) => coalesce.args.iter().all(is_pure),
        Some(NodeEnum::List(list)) => list.items.iter().all(is_pure),
        Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().all(is_pure),
        _ => false,
    }
}

fn no_own_hash(target: &Target, column: &str) -> Denial {
    let name = format!("{}.{column}", target.name());
    Denial::new(
        Reason::MaskedWrite,
        format!("{name} is shown to you as a hash: you can't store values of your own in it"),
    )
    .hint("Leave the column out.")
    .object(name)
}

fn insert_column(name: &str) -> Node {
    tree::node(NodeEnum::ResTarget(Box::new(pb::ResTarget {
        name: name.to_owned(),
        indirection: Vec::new(),
        val: None,
        location: -1,
    })))
}

fn filter_column<'t>(target: &'t Target, filter: &RowFilter) -> &'t str {
    let number = filter.columns.first().copied().unwrap_or(0);
    target.relation.column_at(number).map_or("?", |column| &column.name)
}
