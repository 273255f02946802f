//! SET: nothing is laundered into another column, and a masked column's own mask keeps what is stored.

use std::collections::BTreeMap;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::MaskKind;

use super::{Target, filter_denial, no_column, raise};
use crate::analyze::scope::{Column, ItemId};
use crate::analyze::tree::{self, unsupported};
use crate::analyze::view::{fence, select};
use crate::analyze::{Analyzer, MASKED_WRITE_MARKER, MaskedUse, Place, ROW_FILTER_MARKER};
use crate::catalog;
use crate::catalog::names::types;
use crate::decide::bound::BoundMask;
use crate::decide::expression::instantiate;
use crate::decide::{Denial, Reason};

impl Analyzer<'_> {
    /// SET of an UPDATE, of ON CONFLICT DO UPDATE or of MERGE.
    pub(super) fn assignments(&mut self, list: &mut [Node], target: &Target) -> Result<(), Denial> {
        for node in list.iter_mut() {
            self.split_row(node)?;
        }
        let assigned: Vec<i16> = list.iter().filter_map(|node| self.assigned_column(node, target)).collect();
        let mut rest = &mut *list;
        while let Some(first) = rest.first() {
            let row = row_part(first).map(|part| usize::try_from(part.ncolumns).unwrap_or(1));
            let (group, after) = rest.split_at_mut(row.unwrap_or(1).clamp(1, rest.len()));
            rest = after;
            match group {
                [Node { node: Some(NodeEnum::ResTarget(res)) }] if row.is_none() => {
                    self.assignment(res, target, &assigned)?;
                }
                group => self.row_assignment(group, target, &assigned)?,
            }
        }
        if let Some(filter) = target.filter()
            && filter.columns.iter().any(|number| assigned.contains(number))
        {
            self.check_new_row(list, target, filter)?;
        }
        Ok(())
    }

    pub(in crate::analyze) fn assigned_column(&self, node: &Node, target: &Target) -> Option<i16> {
        match &node.node {
            Some(NodeEnum::ResTarget(res)) => target.relation.column(&res.name).map(|column| column.number),
            _ => None,
        }
    }

    /// `(a, b) = (1, 2)` becomes two assignments.
    fn split_row(&mut self, node: &mut Node) -> Result<(), Denial> {
        let value = row_part(node).and_then(|part| match &part.source.as_deref()?.node {
            Some(NodeEnum::RowExpr(row)) => row.args.get(usize::try_from(part.colno).ok()?.checked_sub(1)?).cloned(),
            _ => None,
        });
        let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("SET")) };
        if let Some(value) = value {
            res.val = tree::boxed(value);
            self.changed = true;
        }
        Ok(())
    }

    /// `(a, b) = (SELECT …)`: where a column needs a guard, the subquery goes through one that guards its row.
    fn row_assignment(&mut self, group: &mut [Node], target: &Target, assigned: &[i16]) -> Result<(), Denial> {
        let mut columns = Vec::with_capacity(group.len());
        for node in &mut *group {
            let Some(NodeEnum::ResTarget(res)) = &mut node.node else { return Err(unsupported("SET")) };
            for step in &mut res.indirection {
                self.expression(step, Place { leaky: true, ..Place::default() })?;
            }
            let column = target.relation.column(&res.name).filter(|column| !target.hides(column.number));
            if column.is_none() && (target.view.is_some() || target.relation.column(&res.name).is_some()) {
                return Err(no_column(target, &res.name));
            }
            columns.push((column.cloned(), res.indirection.is_empty()));
        }
        // Each assignment has a copy of the one source.
        let source = group.first().and_then(row_part).and_then(|part| part.source.as_deref());
        let Some(mut source) = source.cloned() else { return Err(unsupported("SET")) };
        let before = self.masked_reads.len();
        self.expression(&mut source, Place::ASSIGNED)?;
        let reads_masks = self.masked_reads.len() > before;

        let alias = &*target.other_than_alias("postern_row");
        let mut values = Vec::with_capacity(columns.len());
        let mut guarded = false;
        for (index, (column, whole)) in columns.iter().enumerate() {
            let new = tree::column(alias, &format!("c{index}"));
            let Some(column) = column else {
                values.push(tree::target("", new));
                continue;
            };
            let name = || format!("{}.{}", target.name(), column.name);
            let in_filter = target.filters_by(column.number) || self.feeds_filter(target, column.number);
            let mask = target.mask(column.number).cloned();
            if in_filter || (mask.is_some() && (reads_masks || !whole)) {
                return Err(Denial::new(
                    Reason::MaskedWrite,
                    format!("{} is masked or filtered for you: a subquery can't assign it beside others so", name()),
                )
                .hint("Write an assignment of its own for it.")
                .object(name()));
            }
            let value = match mask {
                Some(mask) => self.keep_stored(new, column, &mask, target)?,
                None if self.shares_check(target, column.number, assigned) => {
                    self.unchanged_or_raise(new, column, target)?
                }
                None => {
                    values.push(tree::target("", new));
                    continue;
                }
            };
            guarded = true;
            values.push(tree::target("", value));
        }
        if guarded {
            let Some(NodeEnum::SubLink(link)) = &mut source.node else { return Err(unsupported("SET")) };
            let Some(query) = link.subselect.take() else { return Err(unsupported("SET")) };
            let row = select(values, vec![one_row_of(*query, alias, columns.len())], None);
            source = tree::subquery(pb::SubLinkType::ExprSublink, row);
        }
        for node in group {
            if let Some(NodeEnum::ResTarget(res)) = &mut node.node
                && let Some(NodeEnum::MultiAssignRef(multi)) = res.val.as_deref_mut().and_then(|v| v.node.as_mut())
            {
                multi.source = tree::boxed(source.clone());
            }
        }
        Ok(())
    }

    fn assignment(&mut self, res: &mut pb::ResTarget, target: &Target, assigned: &[i16]) -> Result<(), Denial> {
        let Some(column) = target.relation.column(&res.name).filter(|column| !target.hides(column.number)).cloned()
        else {
            if target.view.is_some() || target.relation.column(&res.name).is_some() {
                return Err(no_column(target, &res.name));
            }
            // The server says that the column does not exist.
            for node in res.indirection.iter_mut().chain(res.val.as_deref_mut()) {
                self.expression(node, Place { leaky: true, ..Place::default() })?;
            }
            return Ok(());
        };
        let place = Place::ASSIGNED;
        let feeds_filter = self.feeds_filter(target, column.number);
        let in_filter = feeds_filter || target.filters_by(column.number);
        if !res.indirection.is_empty() {
            if target.mask(column.number).is_some() || in_filter {
                return Err(Denial::new(
                    Reason::MaskedWrite,
                    format!(
                        "{}.{} is masked or filtered for you: a part of it can't be assigned",
                        target.name(),
                        column.name
                    ),
                ));
            }
            for step in &mut res.indirection {
                self.expression(step, place)?;
            }
        }
        let Some(value) = res.val.as_deref_mut() else { return Err(unsupported("SET without a value")) };
        let is_default = matches!(value.node, Some(NodeEnum::SetToDefault(_)));
        if is_default {
            let is_free = target.mask(column.number).is_some() || !self.shares_check(target, column.number, assigned);
            if !in_filter && is_free {
                return Ok(());
            }
            *value = self.default_of(target, &column)?;
            self.changed = true;
        }
        let is_itself = self.means(value, target, column.number);
        let as_itself = self.reads_as_itself(value, target, column.number);
        let before = self.masked_reads.len();
        // A default is its owner's, and so may be what stays in its own column.
        let withheld = if self.is_own_excluded(value, &column.name) {
            std::mem::take(&mut self.excluded)
        } else {
            BTreeMap::new()
        };
        if !is_default {
            self.expression(value, place)?;
        }
        self.excluded.extend(withheld);
        let reads: Vec<(ItemId, i16)> = self.masked_reads.iter().skip(before).copied().collect();
        if let Some(filter) = target.filter().filter(|_| feeds_filter && !is_itself) {
            // Whether a masked value changes would tell what it is.
            if target.mask(column.number).is_some() || self.shares_check(target, column.number, assigned) {
                return Err(filter_denial(
                    target,
                    &column.name,
                    "through a generated column, and it can't be compared",
                ));
            }
            let outside = raise(ROW_FILTER_MARKER, &filter.rule);
            let new = tree::take(value);
            *value = self.unchanged_or(outside, new, &column, target)?;
        } else if let Some(mask) = target.mask(column.number).cloned() {
            let only_itself = as_itself && reads.iter().all(|read| *read == (target.id, column.number));
            if !reads.is_empty() && !only_itself {
                let name = format!("{}.{}", target.name(), column.name);
                return Err(Denial::new(
                    Reason::MaskedWrite,
                    format!("{name} is masked for you: what is stored in it can't be computed from a mask"),
                )
                .hint("Assign a value, or the column itself.")
                .object(name));
            }
            let new = tree::take(value);
            *value = match is_itself {
                true => tree::column(&target.alias, &column.name),
                false => self.keep_stored(new, &column, &mask, target)?,
            };
        } else if self.shares_check(target, column.number, assigned) {
            let new = tree::take(value);
            *value = self.unchanged_or_raise(new, &column, target)?;
        }
        Ok(())
    }

    /// Whether it is `excluded.c` for this very column.
    fn is_own_excluded(&self, value: &Node, column: &str) -> bool {
        let Some(NodeEnum::ColumnRef(reference)) = &value.node else { return false };
        let names = tree::strings(&reference.fields).unwrap_or_default();
        let is_excluded = |(id, _): &(ItemId, Column)| self.excluded.contains_key(id);
        names.last() == Some(&column) && self.scopes.meaning(&names).columns.iter().all(is_excluded)
    }

    /// Whether an expression is nothing but this column of the target.
    pub(super) fn means(&self, node: &Node, target: &Target, number: i16) -> bool {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return false };
        let meaning = self.scopes.meaning(&tree::strings(&reference.fields).unwrap_or_default());
        matches!(meaning.columns.as_slice(), [(id, column)] if *id == target.id
            && column.origins.iter().any(|(_, origin)| *origin == number))
    }

    /// Whether an expression reads a masked column of the target only as itself: bare, or as a result of COALESCE,
    /// NULLIF or CASE.
    fn reads_as_itself(&self, node: &Node, target: &Target, number: i16) -> bool {
        match &node.node {
            Some(NodeEnum::ColumnRef(_)) => self.means(node, target, number) || !self.mentions(node, target.id),
            Some(NodeEnum::CoalesceExpr(coalesce)) => {
                coalesce.args.iter().all(|arg| self.reads_as_itself(arg, target, number))
            }
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_none_or(|arg| !self.mentions(arg, target.id)),
            Some(NodeEnum::AExpr(expr)) if expr.kind == pb::AExprKind::AexprNullif as i32 => {
                expr.lexpr.as_deref().is_none_or(|left| self.reads_as_itself(left, target, number))
                    && expr.rexpr.as_deref().is_none_or(|right| !self.mentions(right, target.id))
            }
            Some(NodeEnum::CaseExpr(case)) => {
                let results = case.args.iter().filter_map(|when| match &when.node {
                    Some(NodeEnum::CaseWhen(when)) => when.result.as_deref(),
                    _ => None,
                });
                results.chain(case.defresult.as_deref()).all(|result| self.reads_as_itself(result, target, number))
            }
            _ => !self.mentions(node, target.id),
        }
    }

    /// Storing a column's own mask keeps what is there.
    fn keep_stored(
        &mut self,
        new: Node,
        column: &catalog::Column,
        mask: &BoundMask,
        target: &Target,
    ) -> Result<Node, Denial> {
        self.changed = true;
        let name = format!("{}.{}", target.name(), column.name);
        if mask.constant {
            self.notice(
                MaskedUse::Save,
                &name,
                format!("{name} is masked ({}): storing the mask keeps the stored value", mask.kind.as_str()),
            );
        }
        let stored = tree::column(&target.alias, &column.name);
        let masked = instantiate(&mask.expression, &target.alias);
        let new = self.as_assigned(new, column)?;
        self.evaluated_once(new, target, |new| {
            let same = self.same_value(self.as_compared(new.clone(), column)?, masked, column);
            if matches!(mask.kind, MaskKind::Hash { .. }) {
                // Any other value would be a guess whose hash comes back.
                return Ok(tree::case(tree::or(vec![same, raise(MASKED_WRITE_MARKER, &name)]), stored, None));
            }
            Ok(tree::case(same, stored, Some(new)))
        })
    }

    /// A column that shares a CHECK with a masked one may not be changed: the error would answer questions about it.
    fn unchanged_or_raise(&mut self, new: Node, column: &catalog::Column, target: &Target) -> Result<Node, Denial> {
        let name = format!("{}.{}", target.name(), column.name);
        self.unchanged_or(raise(MASKED_WRITE_MARKER, &name), new, column, target)
    }

    /// A value that is stored if it is what the column holds, or else if a condition holds.
    fn unchanged_or(
        &mut self,
        condition: Node,
        new: Node,
        column: &catalog::Column,
        target: &Target,
    ) -> Result<Node, Denial> {
        self.changed = true;
        let stored = tree::column(&target.alias, &column.name);
        let new = self.as_assigned(new, column)?;
        self.evaluated_once(new, target, |new| {
            let same = self.same_value(self.as_compared(new.clone(), column)?, stored, column);
            Ok(tree::case(tree::or(vec![same, condition]), new, None))
        })
    }

    /// A value that is assigned to a column, of its type: of a string without its length, which a cast would cut it to.
    fn as_assigned(&self, new: Node, column: &catalog::Column) -> Result<Node, Denial> {
        let kind = self.catalog.types.get(&self.catalog.base_type(column.type_oid));
        match kind.is_some_and(|kind| matches!(kind.category, 'S' | 'V')) {
            true => tree::cast(new, &self.bare_type(column)),
            false => tree::cast(new, &column.type_sql),
        }
    }

    /// The same as it is compared: `char` and `bit` without a length are other types.
    fn as_compared(&self, new: Node, column: &catalog::Column) -> Result<Node, Denial> {
        match self.catalog.base_type(column.type_oid) {
            types::BPCHAR | types::BIT => tree::cast(new, &column.type_sql),
            _ => Ok(new),
        }
    }

    /// Builds on a value that must be computed once: one that calls functions goes through a subquery.
    fn evaluated_once(
        &self,
        value: Node,
        target: &Target,
        build: impl FnOnce(Node) -> Result<Node, Denial>,
    ) -> Result<Node, Denial> {
        let alias = target.other_than_alias("postern_new");
        if self.is_fixed(&value, None) {
            return build(value);
        }
        let mut inner = select(vec![tree::target("v", value)], Vec::new(), None);
        // It must not be merged into what reads it twice.
        fence(&mut inner);
        let derived = tree::derived(tree::query(inner), &alias, Vec::new());
        let outer = select(vec![tree::target("", build(tree::column(&alias, "v"))?)], vec![derived], None);
        Ok(tree::subquery(pb::SubLinkType::ExprSublink, outer))
    }

    /// `a IS NOT DISTINCT FROM b` by the type's `=`, else as text.
    pub(in crate::analyze) fn same_value(&self, a: Node, b: Node, column: &catalog::Column) -> Node {
        let comparable = self.catalog.types.get(&column.type_oid).is_some_and(|kind| {
            let base = if kind.base != 0 { self.catalog.types.get(&kind.base).unwrap_or(kind) } else { kind };
            base.schema.as_ref() == "pg_catalog"
                && !matches!(
                    &*base.name,
                    "json"
                        | "xml"
                        | "point"
                        | "polygon"
                        | "box"
                        | "circle"
                        | "path"
                        | "line"
                        | "lseg"
                        | "_json"
                        | "_xml"
                        | "refcursor"
                )
                || base.kind == 'e'
        });
        let (a, b) = if comparable { (a, b) } else { (as_text(a), as_text(b)) };
        tree::node(NodeEnum::AExpr(Box::new(pb::AExpr {
            kind: pb::AExprKind::AexprNotDistinct as i32,
            name: vec![tree::string("=")],
            lexpr: tree::boxed(a),
            rexpr: tree::boxed(b),
            rexpr_list_start: 0,
            rexpr_list_end: 0,
            location: -1,
        })))
    }
}

/// The part of a row that an assignment takes: `(a, b) = …` is two of them.
fn row_part(node: &Node) -> Option<&pb::MultiAssignRef> {
    let Some(NodeEnum::ResTarget(res)) = &node.node else { return None };
    match &res.val.as_deref()?.node {
        Some(NodeEnum::MultiAssignRef(multi)) => Some(multi),
        _ => None,
    }
}

/// `(SELECT 1) one LEFT JOIN (query) alias (c0, c1, …) ON true`: no row is a row of NULLs here already, so that guards
/// see it.
pub(super) fn one_row_of(query: Node, alias: &str, width: usize) -> Node {
    let one = tree::query(select(vec![tree::target("", tree::number(1))], Vec::new(), None));
    let columns = (0..width).map(|number| tree::string(format!("c{number}"))).collect();
    tree::node(NodeEnum::JoinExpr(Box::new(pb::JoinExpr {
        jointype: pb::JoinType::JoinLeft as i32,
        is_natural: false,
        larg: tree::boxed(tree::derived(one, "postern_one", Vec::new())),
        rarg: tree::boxed(tree::derived(query, alias, columns)),
        using_clause: Vec::new(),
        join_using_alias: None,
        quals: tree::boxed(tree::boolean(true)),
        alias: None,
        rtindex: 0,
    })))
}

fn as_text(value: Node) -> Node {
    tree::cast_to(value, "text", false)
}
