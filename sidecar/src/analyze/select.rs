//! SELECT: its levels, what stands in FROM, and what each column that comes out of it shows.

use std::collections::BTreeSet;
use std::ops::RangeBounds;
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::Verb;

use super::beside::with_computed;
use super::expression::is_literal;
use super::parameters::bare_parameter;
use super::schemas::Names;
use super::scope::{Column, Cte, Item, ItemId, RelationItem, Scope, Source};
use super::tree::{self, each_child, kind, string_of, unsupported};
use super::{Analyzer, Place, Receiver, time};
use crate::catalog::names::types;
use crate::catalog::{Oid, RelationKind};
use crate::decide::{Denial, Reason, builtins};

/// The place of what may stand in any expression of a condition.
const ANYWHERE: Place = Place { leaky: true, predicate: false, from_below: true, ..Place::CONDITION };

/// What comes out of a query: its columns, and whether these are all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    /// The columns in order.
    pub(crate) columns: Vec<Column>,
    /// Whether these are all of them, with their names right.
    pub(crate) complete: bool,
    /// Whether there certainly is one row at most.
    pub(crate) one_row: bool,
}

impl Output {
    /// Adds columns; None for such as are not known.
    fn extend(&mut self, columns: Option<Vec<Column>>) {
        match columns {
            Some(columns) => self.columns.extend(columns),
            None => self.complete = false,
        }
    }
}

/// Whether a query that groups has subqueries beside its targets, which the server may have to find in GROUP BY.
fn says_queries_again(select: &pb::SelectStmt) -> bool {
    let is_query = |node: &Node| tree::holds(node, &|node| matches!(node, NodeEnum::SubLink(_)));
    !select.group_clause.is_empty()
        && select.group_clause.iter().chain(select.having_clause.as_deref()).chain(&select.sort_clause).any(is_query)
}

impl Analyzer<'_> {
    /// Walks a query that stands as a node: SELECT, VALUES, or a write in a CTE.
    pub(crate) fn query(&mut self, node: &mut Node, receiver: Receiver) -> Result<Output, Denial> {
        match &mut node.node {
            Some(NodeEnum::SelectStmt(select)) => self.select(select, receiver),
            Some(
                NodeEnum::InsertStmt(_) | NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) | NodeEnum::MergeStmt(_),
            ) => self.write(node).map(resolved),
            Some(other) => Err(unsupported(&kind(other))),
            None => Err(unsupported("an empty query")),
        }
    }

    /// Walks a SELECT.
    pub(crate) fn select(&mut self, select: &mut pb::SelectStmt, receiver: Receiver) -> Result<Output, Denial> {
        if self.scopes.levels.is_empty() {
            self.names = Names::in_select(select);
        }
        self.select_raw(select, receiver).map(resolved)
    }

    fn select_raw(&mut self, select: &mut pb::SelectStmt, receiver: Receiver) -> Result<Output, Denial> {
        self.scopes.levels.push(Scope::default());
        // What a query picks is for its own targets only, neither for queries within nor for those around.
        let around = self.picked_setting.take();
        let computes_around = std::mem::take(&mut self.computes_beside);
        let alike_around =
            std::mem::replace(&mut self.alike_queries, self.policy.row_filters && says_queries_again(select));
        let output = self.select_level(select, receiver);
        (self.picked_setting, self.alike_queries) = (around, alike_around);
        self.computes_beside = computes_around;
        self.scopes.levels.pop();
        output
    }

    fn select_level(&mut self, select: &mut pb::SelectStmt, receiver: Receiver) -> Result<Output, Denial> {
        if select.into_clause.is_some() {
            return Err(unsupported("SELECT INTO in this place"));
        }
        self.with_clause(&mut select.with_clause)?;
        if let (Some(left), Some(right)) = (&mut select.larg, &mut select.rarg) {
            let mut output = self.select_raw(left, Receiver::Query)?;
            let other = self.select_raw(right, Receiver::Query)?;
            for (column, more) in output.columns.iter_mut().zip(other.columns) {
                column.origins.extend(more.origins);
                column.fences.extend(more.fences);
                column.passing |= more.passing;
                // Each of several queries may be read by itself.
                column.stays = false;
                column.sealed &= more.sealed;
                // One may be cast to the other's type.
                self.may_raise |= column.type_oid != more.type_oid || column.type_oid.is_none();
                column.type_oid = self.common_type(&[column.type_oid, more.type_oid])?;
            }
            output.complete &= other.complete;
            output.one_row = false;
            // UNION, INTERSECT and EXCEPT compare whole rows, UNION ALL does not.
            if !select.all || select.op != pb::SetOperation::SetopUnion as i32 {
                self.mark(&output.columns.clone(), Place::PREDICATE)?;
            }
            self.sort_by_output(&mut select.sort_clause, &output)?;
            self.limits(select)?;
            return Ok(output);
        }
        let mut values: Vec<Vec<Option<Oid>>> = Vec::new();
        // Whether rows have more values than are written.
        let mut several = false;
        for row in &mut select.values_lists {
            let Some(NodeEnum::List(row)) = &mut row.node else { return Err(unsupported("VALUES")) };
            self.write_out_rows(&mut row.items)?;
            values.resize(row.items.len().max(values.len()), Vec::new());
            several |= row.items.iter().any(is_several);
            for (of_column, value) in values.iter_mut().zip(&mut row.items) {
                let kind = self.expression(value, Place { leaky: true, ..Place::default() })?;
                of_column.push(kind.or_else(|| self.kind_of_parameter(value)));
            }
        }
        let first = self.scopes.items.len();
        self.computes_beside = self.may_compute_beside(select);
        let mut items = Vec::new();
        for item in &mut select.from_clause {
            items.extend(self.table_item(item)?);
        }
        let is_set = |group: &Node| matches!(group.node, Some(NodeEnum::GroupingSet(_)));
        if select.group_clause.iter().any(is_set) {
            self.may_be_left_out(first.., &items);
            self.keep_groups_apart(first.., &items);
        }
        if let Some(condition) = select.where_clause.as_deref_mut() {
            if self.computes_beside {
                let computed = self.compute_beside(condition, &items)?;
                select.from_clause.extend(computed);
            }
            self.expression(condition, self.where_place())?;
            self.push_conditions(condition, select.from_clause.iter().chain(&select.target_list));
        }
        let pins_row = self.pins_only_row(select);
        if receiver == Receiver::Client {
            self.one_row_by_key = pins_row;
        }
        // What is limited is planned by itself, and no condition from around it is tried within.
        let limited = select.limit_count.is_some();
        let place = Place {
            after_filter: receiver == Receiver::Client,
            after_own_filter: receiver == Receiver::Expression || limited,
            ..Place::default()
        };
        self.picked_setting = super::function::picked_setting(select);
        let sorted = Place { sorts: true, ..place };
        let of_targets = if sorts_outputs(select) { sorted } else { place };
        let mut output = self.target_list(&mut select.target_list, of_targets)?;
        self.picked_setting = None;
        let groups = select.group_clause.len();
        for node in &mut select.group_clause {
            self.output_or_expression(node, &output, sorted, true)?;
        }
        if let Some(having) = &mut select.having_clause {
            self.expression(having, Place { leaky: true, renames: false, ..Place::CONDITION })?;
        }
        for window in &mut select.window_clause {
            self.expression(window, sorted)?;
        }
        for node in &mut select.distinct_clause {
            if node.node.is_some() {
                self.output_or_expression(node, &output, sorted, false)?;
            }
        }
        for node in &mut select.sort_clause {
            let Some(NodeEnum::SortBy(sort)) = &mut node.node else { return Err(unsupported("ORDER BY")) };
            if let Some(inner) = sort.node.as_deref_mut() {
                let kind = self.output_or_expression(inner, &output, Place { predicate: true, ..sorted }, false)?;
                self.sort_operator(sort, kind)?;
            }
        }
        self.limits(select)?;
        self.locking(&mut select.locking_clause)?;
        self.expand_stars(select)?;
        if groups > 0 {
            self.group_by_key(select)?;
        }
        if !select.values_lists.is_empty() {
            // One row of them may take the place of what reads it.
            let one_row = select.values_lists.len() == 1;
            let mut columns = Vec::with_capacity(values.len());
            for (index, types) in values.iter().enumerate() {
                let name = Some(Arc::from(format!("column{}", index + 1)));
                let stays = !one_row || self.all_as_written(select, index);
                let type_oid = self.common_type(types)?.filter(|_| !several);
                let passing = select.values_lists.iter().any(|row| match &row.node {
                    Some(NodeEnum::List(row)) => row.items.get(index).is_some_and(|value| self.passes(type_oid, value)),
                    _ => true,
                });
                columns.push(Column { name, type_oid, stays, passing, ..Column::default() });
            }
            return Ok(Output { columns, complete: !several, one_row });
        }
        output.one_row = self.gives_one_row(select, pins_row);
        let is_apart = limited || !select.distinct_clause.is_empty() || self.is_grouped(select);
        for column in &mut output.columns {
            column.stays |= is_apart && column.origins.is_empty();
            // What is of a query around has not passed that one's conditions.
            column.sealed |= limited && !column.origins.iter().any(|(id, _)| self.scopes.is_around(*id));
        }
        Ok(output)
    }

    /// Whether a query gives one row at most, where it is known whether its WHERE pins a row.
    fn gives_one_row(&self, select: &pb::SelectStmt, pins_row: bool) -> bool {
        let is_first = select.limit_option == pb::LimitOption::Count as i32
            && select.limit_count.as_deref().and_then(super::function::text_of).as_deref() == Some("1");
        let is_found =
            pins_row || select.from_clause.is_empty() || select.group_clause.is_empty() && self.is_grouped(select);
        let may_give_sets = |node: &NodeEnum| matches!(node, NodeEnum::FuncCall(call) if self.may_give_sets(call));
        is_first || is_found && !select.target_list.iter().any(|target| tree::holds(target, &may_give_sets))
    }

    /// Whether it groups rows, and so is planned by itself; an aggregate of columns of a query around would be that one's.
    fn is_grouped(&self, select: &pb::SelectStmt) -> bool {
        let is_of_this_level = |id: &(ItemId, i16)| self.scopes.depth(id.0) == self.scopes.levels.len();
        let reads_this_level = |argument: &Node| {
            let columns = self.bare_columns(argument);
            is_literal(argument) || !columns.is_empty() && columns.iter().all(is_of_this_level)
        };
        let is_aggregate = |target: &Node| match &target.node {
            Some(NodeEnum::ResTarget(res)) => matches!(
                res.val.as_deref().and_then(|value| value.node.as_ref()),
                Some(NodeEnum::FuncCall(call)) if self.calls_aggregate(call) && call.args.iter().all(reads_this_level)
            ),
            _ => false,
        };
        !select.group_clause.is_empty() || select.target_list.iter().any(is_aggregate)
    }

    /// Whether all values of a column of VALUES are as written.
    pub(super) fn all_as_written(&self, select: &pb::SelectStmt, column: usize) -> bool {
        select.values_lists.iter().all(|row| match &row.node {
            Some(NodeEnum::List(row)) => row.items.get(column).is_some_and(|value| self.is_as_written(value)),
            _ => false,
        })
    }

    /// Whether a value is of no column, and may be another as the statement goes on: where one is looked for, so may be this.
    fn passes(&self, kind: Option<Oid>, value: &Node) -> bool {
        let is_column = |node: &NodeEnum| matches!(node, NodeEnum::ColumnRef(_));
        self.policy.row_filters && !tree::holds(value, &is_column) && self.is_passing(kind, value)
    }

    /// Whether a value is one that can stand anywhere in place of a column without a chance to fail.
    fn is_as_written(&self, value: &Node) -> bool {
        self.policy.row_filters && self.is_given(value) && self.late_casts(value).is_empty()
    }

    /// The type of a parameter that stands by itself; unknown for one that takes that of its place.
    fn kind_of_parameter(&self, value: &Node) -> Option<Oid> {
        let (number, _) = bare_parameter(value).filter(|_| self.policy.row_filters)?;
        self.parameters.kind(number).as_operand()
    }

    /// The type that the server gives what is of each of these types in turn, where it is certain.
    fn common_type(&mut self, of: &[Option<Oid>]) -> Result<Option<Oid>, Denial> {
        self.may_become(of, false)?;
        let Some(of) = of.iter().copied().collect::<Option<Vec<Oid>>>() else { return Ok(None) };
        Ok(match of.iter().all(|oid| *oid == types::UNKNOWN) {
            true => of.first().copied(),
            false => self.catalog.common_type(&of),
        })
    }

    /// Whether FROM is one relation and WHERE pins a unique key of it.
    fn pins_only_row(&self, select: &pb::SelectStmt) -> bool {
        let ([Node { node: Some(NodeEnum::RangeVar(_)) }], Some(condition), Some(level)) =
            (select.from_clause.as_slice(), select.where_clause.as_deref(), self.scopes.levels.last())
        else {
            return false;
        };
        matches!(level.items.as_slice(), [id] if self.pins_key(condition, *id))
    }

    fn limits(&mut self, select: &mut pb::SelectStmt) -> Result<(), Denial> {
        for limit in [&mut select.limit_count, &mut select.limit_offset].into_iter().flatten() {
            // It may be negative.
            let is_plain = matches!(&limit.node, Some(NodeEnum::AConst(constant)) if constant.isnull
                || matches!(&constant.val, Some(pb::a_const::Val::Ival(number)) if number.ival >= 0));
            self.may_raise |= self.scopes.levels.len() > 1 && !is_plain;
            self.expression(limit, Place { after_filter: self.scopes.levels.len() == 1, ..Place::default() })?;
        }
        Ok(())
    }

    /// WITH: each CTE, and its name for what comes after it (for all of them in WITH RECURSIVE).
    pub(crate) fn with_clause(&mut self, with: &mut Option<pb::WithClause>) -> Result<(), Denial> {
        let Some(with) = with else { return Ok(()) };
        if with.recursive {
            // Columns of a recursive reference are those of the CTE; until it is walked its aliases must do.
            for node in &with.ctes {
                let Some(NodeEnum::CommonTableExpr(cte)) = &node.node else { return Err(unsupported("WITH")) };
                let name = Arc::from(cte.ctename.as_str());
                self.add_cte(Cte { name, columns: Vec::new(), complete: false, awaited: true, read: false });
            }
        }
        for node in &mut with.ctes {
            let Some(NodeEnum::CommonTableExpr(cte)) = &mut node.node else { return Err(unsupported("WITH")) };
            let Some(query) = cte.ctequery.as_deref_mut() else { return Err(unsupported("WITH")) };
            let reads_itself =
                |node: &NodeEnum| matches!(node, NodeEnum::RangeVar(range) if range.relname == cte.ctename);
            let is_recursive = with.recursive && tree::holds(query, &reads_itself);
            // It may be put where an outer join leaves it out.
            let is_select = matches!(query.node, Some(NodeEnum::SelectStmt(_)));
            let inlined = is_select && !is_recursive && cte.ctematerialized != pb::CteMaterialize::Always as i32;
            let mut output = self.left_out(usize::from(inlined), |analyzer| match is_recursive {
                true => analyzer.recursive_cte(&cte.ctename, &cte.aliascolnames, query),
                false => analyzer.query(query, Receiver::Query),
            })?;
            rename(&mut output, &names_of(&cte.aliascolnames));
            if let Some(search) = &cte.search_clause {
                output.columns.push(named(&search.search_seq_column));
            }
            if let Some(cycle) = &mut cte.cycle_clause {
                for value in [&mut cycle.cycle_mark_value, &mut cycle.cycle_mark_default].into_iter().flatten() {
                    self.expression(value, Place::default())?;
                }
                output.columns.push(named(&cycle.cycle_mark_column));
                output.columns.push(named(&cycle.cycle_path_column));
            }
            if self.scopes.was_awaited(&cte.ctename) {
                self.mark(&output.columns, ANYWHERE)?;
            }
            let (name, columns, complete) = (Arc::from(cte.ctename.as_str()), output.columns, output.complete);
            self.add_cte(Cte { name, columns, complete, awaited: false, read: false });
        }
        Ok(())
    }

    /// A recursive CTE is walked with its own columns known: the non-recursive side tells them.
    fn recursive_cte(&mut self, name: &str, aliases: &[Node], query: &mut Node) -> Result<Output, Denial> {
        let Some(NodeEnum::SelectStmt(select)) = &mut query.node else { return self.query(query, Receiver::Query) };
        let (Some(left), Some(right)) = (&mut select.larg, &mut select.rarg) else {
            return self.select(select, Receiver::Query);
        };
        if select.with_clause.is_some() || !select.sort_clause.is_empty() || select.limit_count.is_some() {
            return self.select(select, Receiver::Query);
        }
        let mut output = self.select(left, Receiver::Query)?;
        rename(&mut output, &names_of(aliases));
        let (columns, complete) = (output.columns.clone(), output.complete);
        self.add_cte(Cte { name: Arc::from(name), columns, complete, awaited: false, read: false });
        let other = self.select(right, Receiver::Query)?;
        for (column, more) in output.columns.iter_mut().zip(other.columns) {
            column.origins.extend(more.origins);
            (column.stays, column.sealed) = (false, false);
        }
        if !select.all {
            self.mark(&output.columns.clone(), Place::PREDICATE)?;
        }
        Ok(output)
    }

    fn add_cte(&mut self, cte: Cte) {
        if let Some(level) = self.scopes.levels.last_mut() {
            level.ctes.push(cte);
        }
    }

    /// `target.*` in a list means its columns one by one. Of a write's target, which is no view, they are replaced one
    /// by one, too.
    pub(crate) fn write_out_rows(&mut self, list: &mut Vec<Node>) -> Result<(), Denial> {
        let mut written = Vec::with_capacity(list.len());
        for node in std::mem::take(list) {
            let (value, is_target) = match &node.node {
                Some(NodeEnum::ResTarget(res)) => (res.val.as_deref(), true),
                _ => (Some(&node), false),
            };
            let Some(id) = value.and_then(|value| self.guarded_star(value)) else {
                written.push(node);
                continue;
            };
            let alias = self.scopes.get(id).and_then(|item| item.alias.clone());
            let (columns, complete) = self.scopes.columns_of(id);
            let Some(alias) = alias.filter(|_| complete) else { return Err(unsupported("`*` of a write's target")) };
            for column in columns {
                let name = column.name.as_deref().unwrap_or("?column?");
                let value = tree::column(&alias, name);
                written.push(if is_target { tree::target(name, value) } else { value });
            }
            self.changed = true;
        }
        *list = written;
        Ok(())
    }

    /// The write's target that `target.*` means, if it is not shown as it is.
    pub(crate) fn guarded_star(&self, node: &Node) -> Option<ItemId> {
        let names = star_of(node)?;
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        self.scopes.star(&names).into_iter().find(|id| self.is_guarded_target(*id))
    }

    fn target_list(&mut self, targets: &mut Vec<Node>, place: Place) -> Result<Output, Denial> {
        self.write_out_rows(targets)?;
        let mut output = Output { complete: true, ..Output::default() };
        for target in targets {
            let Some(NodeEnum::ResTarget(res)) = &mut target.node else { return Err(unsupported("a result column")) };
            let Some(value) = res.val.as_deref_mut() else { return Err(unsupported("a result column")) };
            if let Some(star) = star_of(value)
                && self.guarded_star(value).is_none()
            {
                let items = self.star(value, &star, place)?;
                let (columns, complete) = self.scopes.shown(&items);
                output.columns.extend(columns);
                output.complete &= complete && !items.is_empty();
                continue;
            }
            let mut column = self.output_column(&res.name, value);
            // A query whose targets give sets becomes no part of another.
            column.stays |= matches!(&value.node, Some(NodeEnum::FuncCall(call)) if self.gives_sets(call));
            column.stays |= self.is_as_written(value);
            let of_others = std::mem::take(&mut self.tried_later);
            column.type_oid = self.expression(value, place)?;
            column.fences.extend(std::mem::replace(&mut self.tried_later, of_others));
            column.passing |= self.passes(column.type_oid, value);
            // What took the place of a column, or of a row, must keep its name; also under a cast, within a CASE and the like.
            if res.name.is_empty() && figure_name(value).as_deref() != column.name.as_deref() {
                res.name = column.name.as_deref().unwrap_or("?column?").to_owned();
            }
            if is_several(value) {
                // The fields of a value: not all that it is are known.
                output.complete = false;
                continue;
            }
            output.columns.push(column);
        }
        Ok(output)
    }

    /// What an output column is called and shows, before its expression is walked.
    fn output_column(&self, name: &str, value: &Node) -> Column {
        let inferred = if name.is_empty() { figure_name(value) } else { Some(name.to_owned()) };
        let guessed = name.is_empty() && !is_called_as_written(value);
        let mut column = Column { name: inferred.map(Arc::from), guessed, ..Column::default() };
        if let Some(NodeEnum::ColumnRef(reference)) = &value.node
            && let Some(names) = tree::strings(&reference.fields)
        {
            let meant = self.scopes.meaning(&names).columns;
            column.sealed = !meant.is_empty() && meant.iter().all(|(_, meant)| meant.sealed);
            column.stays = !meant.is_empty() && meant.iter().all(|(_, meant)| meant.stays);
            column.passing = meant.iter().any(|(_, meant)| meant.passing);
            column.fences.extend(meant.iter().flat_map(|(_, meant)| meant.fences.clone()));
            column.origins.extend(meant.into_iter().flat_map(|(_, meant)| meant.origins));
        }
        column
    }

    /// ORDER BY, GROUP BY (`grouping`) and DISTINCT ON take an output column's name or ordinal, else an expression; GROUP BY a column in
    /// FROM first. Tells the type where it is certain.
    fn output_or_expression(
        &mut self,
        node: &mut Node,
        output: &Output,
        place: Place,
        grouping: bool,
    ) -> Result<Option<Oid>, Denial> {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => {
                let Some(pb::a_const::Val::Ival(ordinal)) = &constant.val else { return Ok(None) };
                let index = usize::try_from(ordinal.ival).unwrap_or(0).wrapping_sub(1);
                let Some(column) = output.columns.get(index) else { return Ok(None) };
                self.mark(std::slice::from_ref(column), place)?;
                Ok(column.type_oid.filter(|_| output.complete))
            }
            Some(NodeEnum::ColumnRef(reference)) => {
                let names = tree::strings(&reference.fields);
                if let Some([name]) = names.as_deref() {
                    let meant: Vec<Column> =
                        output.columns.iter().filter(|c| c.name.as_deref() == Some(name)).cloned().collect();
                    if !meant.is_empty() {
                        self.mark(&meant, place)?;
                        let same = self.scopes.meaning(&[name]);
                        if !same.is_empty() {
                            // As a sign of what may be read: it is an output column, by its name.
                            let is_input = grouping && same.columns.iter().any(|(id, _)| self.scopes.is_here(*id));
                            let mut other = node.clone();
                            self.expression(if is_input { node } else { &mut other }, place)?;
                        }
                        return Ok(match meant.as_slice() {
                            [one] if same.is_empty() => one.type_oid,
                            [one] => {
                                one.type_oid.filter(|oid| same.columns.iter().all(|(_, c)| c.type_oid == Some(*oid)))
                            }
                            _ => None,
                        });
                    }
                }
                self.expression(node, place)
            }
            _ => self.expression(node, place),
        }
    }

    fn sort_by_output(&mut self, sort: &mut [Node], output: &Output) -> Result<(), Denial> {
        for node in sort {
            let Some(NodeEnum::SortBy(sort)) = &mut node.node else { return Err(unsupported("ORDER BY")) };
            if let Some(inner) = sort.node.as_deref_mut() {
                let kind =
                    self.output_or_expression(inner, output, Place { predicate: true, ..Place::default() }, false)?;
                self.sort_operator(sort, kind)?;
            }
        }
        Ok(())
    }

    /// Decides the operator of ORDER BY … USING for what it sorts.
    pub(crate) fn sort_operator(&mut self, sort: &pb::SortBy, kind: Option<Oid>) -> Result<(), Denial> {
        if sort.use_op.is_empty() { Ok(()) } else { self.operator_result(&sort.use_op, Some(kind), kind).map(|_| ()) }
    }

    /// One thing in FROM.
    pub(crate) fn table_item(&mut self, node: &mut Node) -> Result<Vec<ItemId>, Denial> {
        if let Some(settings) = self.settings_as_view(node) {
            // Nothing of the client's is left of it.
            tree::places_that_run(node, &mut self.walked)?;
            *node = settings;
            self.changed = true;
        }
        match &mut node.node {
            Some(NodeEnum::RangeVar(range)) => Ok(vec![self.range_var(range)?]),
            Some(NodeEnum::RangeTableSample(sample)) => {
                for name in tree::strings(&sample.method).unwrap_or_default() {
                    if !["system", "bernoulli", "pg_catalog"].contains(&name) {
                        return Err(Denial::new(
                            Reason::Function,
                            format!("the sampling method {name} is not allowed"),
                        ));
                    }
                }
                // What they say is looked at as it runs; nothing else of this level is seen there.
                self.may_raise = true;
                self.apart(|analyzer| {
                    let mut arguments = sample.args.iter_mut().chain(sample.repeatable.as_deref_mut());
                    arguments.try_for_each(|argument| analyzer.expression(argument, Place::default()).map(|_| ()))
                })?;
                match sample.relation.as_deref_mut() {
                    Some(relation) => self.table_item(relation),
                    None => Err(unsupported("TABLESAMPLE")),
                }
            }
            Some(NodeEnum::RangeSubselect(sub)) => {
                let Some(query) = sub.subquery.as_deref_mut() else { return Err(unsupported("a subquery in FROM")) };
                let mut output = if sub.lateral {
                    self.query(query, Receiver::Query)?
                } else {
                    self.apart(|a| a.query(query, Receiver::Query))?
                };
                Ok(vec![self.derived(sub.alias.as_ref(), &mut output)?])
            }
            Some(NodeEnum::RangeFunction(function)) => self.range_function(function),
            Some(NodeEnum::RangeTableFunc(table)) => {
                let mut output = Output { complete: true, ..Output::default() };
                for column in &mut table.columns {
                    if let Some(NodeEnum::RangeTableFuncCol(column)) = &mut column.node {
                        output.columns.push(named(&column.colname));
                        self.type_name(column.type_name.as_mut())?;
                    }
                }
                let alias = table.alias.clone();
                each_child_expression(self, node)?;
                Ok(vec![self.derived(alias.as_ref(), &mut output)?])
            }
            Some(NodeEnum::JsonTable(table)) => {
                let mut output = Output { complete: true, ..Output::default() };
                json_table_columns(&table.columns, &mut output.columns);
                self.casts_to_json(&[None])?;
                let alias = table.alias.clone();
                each_child_expression(self, node)?;
                Ok(vec![self.derived(alias.as_ref(), &mut output)?])
            }
            Some(NodeEnum::JoinExpr(join)) => self.join(join),
            Some(other) => Err(unsupported(&kind(other))),
            None => Err(unsupported("an empty FROM item")),
        }
    }

    /// Runs with this level's FROM items out of sight, as for a subquery that is not LATERAL.
    fn apart<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Denial>) -> Result<T, Denial> {
        let items = self.scopes.offer_only(Vec::new());
        let result = f(self);
        self.scopes.offer_only(items);
        result
    }

    fn derived(&mut self, alias: Option<&pb::Alias>, output: &mut Output) -> Result<ItemId, Denial> {
        self.mark_if_unknown(output)?;
        if let Some(alias) = alias {
            rename(output, &names_of(&alias.colnames));
        }
        Ok(self.scopes.add(Item {
            alias: alias.map(|alias| Arc::from(alias.aliasname.as_str())),
            aliased: true,
            source: Source::Derived { columns: std::mem::take(&mut output.columns), complete: output.complete },
        }))
    }

    /// Where not all columns of a query are known, a name around it may mean any of them.
    fn mark_if_unknown(&mut self, output: &Output) -> Result<(), Denial> {
        if output.complete { Ok(()) } else { self.mark(&output.columns, ANYWHERE) }
    }

    fn range_var(&mut self, range: &mut pb::RangeVar) -> Result<ItemId, Denial> {
        let alias_columns = range.alias.as_ref().map(|alias| names_of(&alias.colnames)).unwrap_or_default();
        let aliased = range.alias.is_some();
        if range.schemaname.is_empty()
            && range.catalogname.is_empty()
            && let Some(cte) = self.scopes.read_cte(&range.relname)
        {
            let mut output = Output { columns: cte.columns, complete: cte.complete, one_row: false };
            self.mark_if_unknown(&output)?;
            rename(&mut output, &alias_columns);
            let alias = self.name_in_text(range, true);
            return Ok(self.scopes.add(Item {
                alias: Some(alias),
                aliased: true,
                source: Source::Derived { columns: output.columns, complete: output.complete },
            }));
        }
        let relation = self.relation_at(range)?;
        let (view, system_view) = self.reads(&relation, Verb::Select)?;
        // Its conditions and joins may fail, too.
        self.may_raise |= relation.kind == RelationKind::View;
        let whole = !alias_columns.is_empty();
        let needs_names = view.is_none() && system_view.is_none() && self.needs_names(&relation);
        let mut item = RelationItem {
            called: None,
            relation,
            view,
            system_view,
            write_target: false,
            column_aliases: alias_columns,
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
            whole,
            as_row: false,
            natural: false,
            pushed: Vec::new(),
        };
        if needs_names && !item.is_named() {
            item.column_aliases = item.visible().map(|(_, name)| Arc::clone(name)).collect();
            let name = range.alias.as_ref().map_or(&range.relname, |alias| &alias.aliasname).clone();
            let colnames = item.column_aliases.iter().map(|name| tree::string(&**name)).collect();
            range.alias = Some(pb::Alias { aliasname: name, colnames });
            self.out.names_columns = true;
            self.changed = true;
        }
        let replaced = item.replaced();
        let alias = self.name_in_text(range, !replaced);
        let id = self.scopes.add(Item { alias: Some(alias), aliased, source: Source::Relation(Box::new(item)) });
        if replaced {
            // The view can't be built before the whole statement is walked: the node is marked with its item.
            range.catalogname = super::view::mark(id);
            self.changed = true;
        }
        Ok(id)
    }

    /// `FROM pg_show_all_settings()` as `FROM pg_settings`, which is a view of just that and shows what may be seen of it.
    fn settings_as_view(&self, node: &Node) -> Option<Node> {
        const NAME: &str = "pg_show_all_settings";
        let Some(NodeEnum::RangeFunction(function)) = &node.node else { return None };
        let [Node { node: Some(NodeEnum::List(list)) }] = function.functions.as_slice() else { return None };
        let Some(NodeEnum::FuncCall(call)) = &list.items.first()?.node else { return None };
        let schema = match tree::strings(&call.funcname)?.as_slice() {
            [NAME] => None,
            [schema, NAME] => Some(*schema),
            _ => return None,
        };
        let candidates = self.catalog.functions_named(&self.session.search_path, schema, NAME);
        let is_the_servers = candidates.iter().all(|function| &*function.schema == "pg_catalog");
        let is_plain = call.args.is_empty() && function.coldeflist.is_empty() && !function.ordinality;
        (is_the_servers && is_plain).then(|| {
            let mut settings = super::view::range("pg_catalog", "pg_settings", true, NAME);
            settings.alias = function.alias.clone().or(settings.alias);
            tree::node(NodeEnum::RangeVar(settings))
        })
    }

    fn range_function(&mut self, function: &mut pb::RangeFunction) -> Result<Vec<ItemId>, Denial> {
        let mut output = Output { complete: true, ..Output::default() };
        let scalar_name = function.alias.as_ref().map(|alias| alias.aliasname.clone());
        let one = function.functions.len() == 1;
        for node in &mut function.functions {
            // Each is a list of the call and its own column definitions.
            let Some(NodeEnum::List(list)) = &mut node.node else { return Err(unsupported("a function in FROM")) };
            let mut items = list.items.iter_mut();
            let Some(call) = items.next() else { return Err(unsupported("a function in FROM")) };
            let place = Place { leaky: true, ..Place::default() };
            let location = match &call.node {
                Some(NodeEnum::FuncCall(call)) => call.location,
                _ => -1,
            };
            if let Some(arguments) = several_unnested(call) {
                // Each is a call by itself.
                self.walked.insert(location);
                for argument in arguments {
                    let mut each = tree::call("unnest", vec![tree::take(argument)]);
                    let result = self.expression(&mut each, place)?;
                    output.extend(self.function_columns(&each, result, Some("unnest")));
                    if let Some(NodeEnum::FuncCall(call)) = each.node
                        && let Some(walked) = call.args.into_iter().next()
                    {
                        *argument = walked;
                    }
                }
                continue;
            }
            let result = self.expression(call, place)?;
            if !can_be_written_in_from(call) {
                return Err(unsupported("this function in FROM; write it as (SELECT …)"));
            }
            let columns = self.function_columns(call, result, scalar_name.as_deref().filter(|_| one));
            let mut defined = Vec::new();
            for definitions in items {
                match &mut definitions.node {
                    Some(NodeEnum::List(list)) => defined.extend(self.column_definitions(&mut list.items)?),
                    Some(NodeEnum::ColumnDef(_)) => {
                        defined.extend(self.column_definitions(std::slice::from_mut(definitions))?);
                    }
                    None => {}
                    Some(other) => return Err(unsupported(&kind(other))),
                }
            }
            if one {
                defined.extend(self.column_definitions(&mut function.coldeflist)?);
            }
            // Where they are defined, these they are.
            output.extend(if defined.is_empty() { columns } else { Some(defined) });
        }
        if function.ordinality {
            output.columns.push(Column { type_oid: Some(types::INT8), ..named("ordinality") });
        }
        // What may be a row is several columns then, and those after it are others.
        let row = output.columns.iter().position(|column| column.guessed && column.type_oid.is_none());
        let after = row.map_or(usize::MAX, |row| row.saturating_add(1));
        output.columns.iter_mut().skip(after).for_each(|column| column.type_oid = None);
        let alias = function.alias.clone().or_else(|| {
            let first = function.functions.first().and_then(|node| match &node.node {
                Some(NodeEnum::List(list)) => list.items.first(),
                _ => None,
            })?;
            Some(pb::Alias { aliasname: figure_name(first)?, colnames: Vec::new() })
        });
        // A function in SQL may become a part of the query.
        let in_sql = |node: &Node| match &node.node {
            Some(NodeEnum::List(list)) => list.items.iter().any(|call| self.may_be_in_sql(call)),
            _ => true,
        };
        let stays = !function.functions.iter().any(in_sql);
        output.columns.iter_mut().for_each(|column| column.stays = stays);
        Ok(vec![self.derived(alias.as_ref(), &mut output)?])
    }

    fn column_definitions(&mut self, definitions: &mut [Node]) -> Result<Vec<Column>, Denial> {
        let mut columns = Vec::new();
        for node in definitions {
            let Some(NodeEnum::ColumnDef(column)) = &mut node.node else {
                return Err(unsupported("a column definition"));
            };
            let type_oid = self.type_name(column.type_name.as_mut())?;
            columns.push(Column { type_oid, ..named(&column.colname) });
        }
        Ok(columns)
    }

    /// Columns that a join merges: they are compared with those of the same name on the other side.
    fn compare_merged(&mut self, left: &[Column], right: &[Column]) -> Result<(), Denial> {
        self.mark(left, Place::CONDITION)?;
        self.mark(right, Place::CONDITION)?;
        for column in left.iter().filter(|column| column.name.is_some()) {
            for other in right.iter().filter(|other| other.name == column.name) {
                self.implied_operator("=", column.type_oid, other.type_oid)?;
                self.note_merged(column, other)?;
            }
        }
        Ok(())
    }

    /// Notes that what stands in FROM from here on, or shows columns there, may be left out by a join that was walked.
    fn may_be_left_out(&mut self, range: impl RangeBounds<usize>, items: &[ItemId]) {
        self.relations_below(range, items).for_each(|relation| relation.left_out = true);
    }

    /// The relations that stand in FROM from here on, or show columns there.
    pub(super) fn relations_below(
        &mut self,
        range: impl RangeBounds<usize>,
        items: &[ItemId],
    ) -> impl Iterator<Item = &mut RelationItem> {
        let shown = items.iter().flat_map(|id| self.scopes.columns_of(*id).0).flat_map(|column| column.origins);
        let shown: BTreeSet<ItemId> = shown.map(|(id, _)| id).chain(items.iter().copied()).collect();
        let is_below = move |id: &usize| range.contains(id) || shown.contains(id);
        let items = self.scopes.items.iter_mut().enumerate().filter(move |(id, _)| is_below(id));
        items.filter_map(|(_, item)| item.relation_mut())
    }

    /// Walks what this many more outer joins may leave out.
    fn left_out<T>(&mut self, more: usize, walk: impl FnOnce(&mut Self) -> Result<T, Denial>) -> Result<T, Denial> {
        self.nullable += more;
        let result = walk(self);
        self.nullable -= more;
        result
    }

    /// The place of a WHERE, or of the condition of an inner join.
    fn where_place(&self) -> Place {
        if self.nullable == 0 { Place::WHERE } else { Place::CONDITION }
    }

    /// What a join merges is compared without a chance to fail, or behind the barrier.
    fn note_merged(&mut self, one: &Column, other: &Column) -> Result<(), Denial> {
        let leaky = Place { leaky: true, ..Place::CONDITION };
        let safe = matches!((one.type_oid, other.type_oid),
            (Some(left), Some(right)) if builtins::leakproof(self.catalog, "=", left, right));
        let safe = safe && !self.have_other_collations(one, other);
        self.may_raise |= !safe;
        if time::differ(one.type_oid, other.type_oid) {
            self.unsteady_equals.extend(one.origins.iter().chain(&other.origins));
        }
        for (column, beside) in [(one, other), (other, one)] {
            let computed = self.computes(beside);
            if !safe || computed {
                self.mark(std::slice::from_ref(column), leaky)?;
            }
            if computed {
                self.late_equals.extend(&column.origins);
            }
        }
        let pairs = one.origins.iter().flat_map(|one| other.origins.iter().map(move |other| [*one, *other]));
        self.equals.extend(pairs);
        Ok(())
    }

    fn join(&mut self, join: &mut pb::JoinExpr) -> Result<Vec<ItemId>, Denial> {
        let (Some(left), Some(right)) = (join.larg.as_deref_mut(), join.rarg.as_deref_mut()) else {
            return Err(unsupported("JOIN"));
        };
        let kind = pb::JoinType::try_from(join.jointype);
        let sides = match kind {
            Ok(pb::JoinType::JoinInner) => [0, 0],
            Ok(pb::JoinType::JoinLeft) => [0, 1],
            Ok(pb::JoinType::JoinRight) => [1, 0],
            _ => [1, 1],
        };
        let first_left = self.scopes.items.len();
        let merged_before = self.scopes.levels.last().map_or(0, |level| level.merged.len());
        let mut items = self.left_out(sides[0], |analyzer| analyzer.table_item(left))?;
        let (left_items, first_right) = (items.len(), self.scopes.items.len());
        items.extend(self.left_out(sides[1], |analyzer| analyzer.table_item(right))?);
        let end = self.scopes.items.len();
        if join.is_natural {
            self.name_merged(join, &items, left_items)?;
        }
        if join.is_natural {
            self.merged_columns = true;
            // Which columns there are decides which are compared.
            for id in &items {
                self.use_whole(*id, Place::default())?;
                if let Some(relation) = self.scopes.items.get_mut(*id).and_then(|item| item.relation_mut()) {
                    relation.natural = true;
                }
            }
            let (left, right) = (self.columns_of_all(&items, ..left_items), self.columns_of_all(&items, left_items..));
            // Where not all names are known, any column may be compared.
            let all_known = self.are_named(&items);
            let merged = |columns: &[Column], others: &[Column]| -> Vec<Column> {
                let is_merged = |column: &&Column| !all_known || others.iter().any(|other| other.name == column.name);
                columns.iter().filter(is_merged).cloned().collect()
            };
            self.compare_merged(&merged(&left, &right), &merged(&right, &left))?;
        }
        for name in &join.using_clause {
            self.merged_columns = true;
            let Some(name) = string_of(name) else { return Err(unsupported("USING")) };
            if let Some(level) = self.scopes.levels.last_mut() {
                level.merged.push((first_left, name.into()));
            }
            let (mut left, mut right) =
                (self.columns_of_all(&items, ..left_items), self.columns_of_all(&items, left_items..));
            for side in [&mut left, &mut right] {
                side.retain(|column| column.name.as_deref() == Some(name));
            }
            self.compare_merged(&left, &right)?;
        }
        if let Some(quals) = join.quals.as_deref_mut().filter(|_| self.computes_beside) {
            let (of_left, of_right) = items.split_at(left_items);
            for (side, of) in [(&mut join.larg, of_left), (&mut join.rarg, of_right)] {
                let computed = self.compute_beside(quals, of)?;
                *side = side.take().map(|joined| Box::new(with_computed(*joined, computed)));
            }
        }
        if let Some(quals) = join.quals.as_deref_mut() {
            // ON sees what it joins, and nothing else of this level.
            let beside = self.scopes.offer_since(first_left);
            let is_inner = matches!(kind, Ok(pb::JoinType::JoinInner));
            self.nullable += usize::from(!is_inner);
            self.expression(quals, self.where_place())?;
            self.nullable -= usize::from(!is_inner);
            self.scopes.offer_only(beside);
        }
        let (of_left, of_right) = items.split_at(left_items);
        for (side, range, of_side) in
            [(sides[0], first_left..first_right, of_left), (sides[1], first_right..end, of_right)]
        {
            if side > 0 {
                self.may_be_left_out(range, of_side);
            }
        }
        if join.is_natural || !join.using_clause.is_empty() {
            let (merged, columns, complete) = self.merged_by(join, of_left, of_right);
            self.scopes.note_joined(&items, columns, complete);
            if let Some(alias) = &join.join_using_alias {
                self.scopes.add_name_of_join(Arc::from(alias.aliasname.as_str()), merged);
            }
        }
        let Some(alias) = &join.alias else { return Ok(items) };
        // `(a JOIN b) AS j` hides a and b: only j is left to refer to.
        let (columns, complete) = self.scopes.shown(&items);
        let mut output = Output { columns, complete, ..Output::default() };
        // Columns that the views list beside those of the relations would be among the join's.
        let lists_more = |id: &ItemId| {
            let relation = self.scopes.get(*id).and_then(Item::relation);
            relation.is_some_and(|relation| relation.replaced() && !relation.system_columns.is_empty())
        };
        if items.iter().any(lists_more) {
            return Err(unsupported("a system column such as ctid or xmin within a join that has an alias"));
        }
        for id in &items {
            if let Some(relation) = self.scopes.items.get_mut(*id).and_then(|item| item.relation_mut()) {
                relation.in_join = true;
            }
        }
        if join.is_natural || !join.using_clause.is_empty() || !alias.colnames.is_empty() {
            for id in &items {
                self.use_whole(*id, Place::default())?;
            }
        }
        if let Some(level) = self.scopes.levels.last_mut() {
            level.items.retain(|id| *id < first_left);
            level.merged.truncate(merged_before);
        }
        Ok(vec![self.derived(Some(alias), &mut output)?])
    }

    /// The columns that a join merges, all that `*` shows of it (these, and what else the sides have), and whether that is certain.
    fn merged_by(&self, join: &pb::JoinExpr, left: &[ItemId], right: &[ItemId]) -> (Vec<Column>, Vec<Column>, bool) {
        let ((left, all_left), (right, all_right)) = (self.scopes.shown(left), self.scopes.shown(right));
        let is_known = |column: &Column| column.name.is_some();
        let all_named = !join.is_natural || left.iter().chain(&right).all(is_known);
        let of_name = |columns: &[Column], name: &str| -> Vec<Column> {
            columns.iter().filter(|column| column.name.as_deref() == Some(name)).cloned().collect()
        };
        let names: Vec<&str> = if join.is_natural {
            let of_left = left.iter().filter_map(|column| column.name.as_deref());
            of_left.filter(|name| !of_name(&right, name).is_empty()).collect()
        } else {
            join.using_clause.iter().filter_map(string_of).collect()
        };
        let merged = |name: &&str| {
            let sides = [of_name(&left, name), of_name(&right, name)].concat();
            let type_oid = self.merged_type(&sides.iter().collect::<Vec<_>>());
            sides.into_iter().reduce(Column::or).map(|column| Column { type_oid, ..column })
        };
        let merged: Vec<Column> = names.iter().filter_map(merged).collect();
        let is_other = |column: &&Column| column.name.as_deref().is_none_or(|name| !names.contains(&name));
        let others = left.iter().chain(&right).filter(is_other).cloned();
        let shown = merged.iter().cloned().chain(others).collect();
        (merged, shown, all_left && all_right && all_named)
    }

    /// NATURAL as USING, where a name that it merges is also one of a write's target: that there is nothing to merge any more, must
    /// fail as it runs.
    fn name_merged(&self, join: &mut pb::JoinExpr, items: &[ItemId], left_items: usize) -> Result<(), Denial> {
        let (left, right) = (self.columns_of_all(items, ..left_items), self.columns_of_all(items, left_items..));
        let is_of_target = |column: &Column| match &column.name {
            Some(name) => self.scopes.is_of_guarded_target(name),
            None => false,
        };
        if !left.iter().chain(&right).any(is_of_target) {
            return Ok(());
        }
        let names: Vec<Node> = left
            .iter()
            .filter(|column| right.iter().any(|other| other.name == column.name))
            .filter_map(|column| column.name.as_deref().map(tree::string))
            .collect();
        if names.is_empty() || !self.are_named(items) {
            return Err(unsupported("NATURAL JOIN of what may have no column in common, beside a write's target"));
        }
        (join.is_natural, join.using_clause) = (false, names);
        Ok(())
    }

    /// Whether all columns of these items are known by name.
    fn are_named(&self, items: &[ItemId]) -> bool {
        items.iter().all(|id| {
            let (columns, complete) = self.scopes.columns_of(*id);
            complete && columns.iter().all(|column| column.name.is_some())
        })
    }

    /// The columns of some of these items.
    fn columns_of_all(
        &self,
        items: &[ItemId],
        of: impl std::slice::SliceIndex<[ItemId], Output = [ItemId]>,
    ) -> Vec<Column> {
        items.get(of).into_iter().flatten().flat_map(|id| self.scopes.columns_of(*id).0).collect()
    }

    /// FOR UPDATE and its kin lock rows, which takes a right to change them or to lock.
    fn locking(&mut self, clauses: &mut [Node]) -> Result<(), Denial> {
        // Another session sees what is locked.
        self.may_raise |= !clauses.is_empty() && self.scopes.levels.len() > 1;
        for clause in clauses {
            let Some(NodeEnum::LockingClause(clause)) = &mut clause.node else { return Err(unsupported("FOR UPDATE")) };
            let level = self.scopes.levels.last().map(|level| level.items.clone()).unwrap_or_default();
            let mut named = Vec::new();
            for node in &mut clause.locked_rels {
                let Some(NodeEnum::RangeVar(range)) = &mut node.node else { continue };
                // The first that goes by the name, as the server has it.
                let of_name =
                    |id: &&ItemId| self.scopes.get(**id).is_some_and(|i| i.known_as() == Some(&range.relname));
                let Some(id) = level.iter().find(of_name) else { continue };
                named.push(*id);
                if let Some(alias) = self.scopes.get(*id).filter(|item| item.renamed()).and_then(|i| i.alias.clone()) {
                    range.relname = alias.to_string();
                    self.changed = true;
                }
            }
            for id in level {
                let Some(item) = self.scopes.get(id) else { continue };
                let locked = clause.locked_rels.is_empty() || named.contains(&id);
                let Some(relation) = item.relation().filter(|_| locked).map(|item| item.relation.clone()) else {
                    continue;
                };
                if !relation.system && !relation.temporary {
                    self.may_lock(&relation)?;
                }
            }
        }
        Ok(())
    }

    /// A system column that an inline view lists would show up in `*`: the star is written out then.
    fn expand_stars(&mut self, select: &mut pb::SelectStmt) -> Result<(), Denial> {
        let here = self.scopes.levels.last().map(|level| level.items.clone()).unwrap_or_default();
        let mixed = here.iter().any(|id| {
            self.scopes
                .get(*id)
                .and_then(|item| item.relation())
                .is_some_and(|relation| relation.replaced() && relation.whole && !relation.system_columns.is_empty())
        });
        if !mixed {
            return Ok(());
        }
        let mut targets = Vec::new();
        for target in std::mem::take(&mut select.target_list) {
            let star = match &target.node {
                Some(NodeEnum::ResTarget(res)) => res.val.as_deref().and_then(star_of),
                _ => None,
            };
            let Some(names) = star else {
                targets.push(target);
                continue;
            };
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            for id in self.scopes.star(&names) {
                let (columns, complete) = self.scopes.columns_of(id);
                let item = self.scopes.get(id);
                let as_row = item.and_then(|item| item.relation()).is_some_and(|relation| relation.as_row);
                let alias = item.and_then(|item| item.alias.clone());
                for column in columns {
                    match (&alias, &column.name) {
                        (Some(alias), Some(name))
                            if complete && !as_row && !(names.is_empty() && self.merged_columns) =>
                        {
                            targets.push(tree::target("", tree::column(alias, name)));
                        }
                        _ => return Err(unsupported("`*` beside a system column such as ctid or xmin")),
                    }
                }
            }
        }
        select.target_list = targets;
        self.changed = true;
        Ok(())
    }
}

/// A literal that has no type by the end of its query is text for whoever reads it.
fn resolved(mut output: Output) -> Output {
    for column in output.columns.iter_mut().filter(|column| column.type_oid == Some(types::UNKNOWN)) {
        column.type_oid = Some(types::TEXT);
    }
    output
}

/// Walks all expressions under a FROM item that has no other parts.
fn each_child_expression(analyzer: &mut Analyzer<'_>, node: &mut Node) -> Result<(), Denial> {
    match &mut node.node {
        Some(inner) => each_child(inner, &mut |child| {
            analyzer.expression(child, Place { leaky: true, ..Place::default() }).map(|_| ())
        }),
        None => Ok(()),
    }
}

/// The columns of JSON_TABLE: those of nested paths come after the others.
fn json_table_columns(nodes: &[Node], columns: &mut Vec<Column>) {
    let all = || {
        nodes.iter().filter_map(|node| match &node.node {
            Some(NodeEnum::JsonTableColumn(column)) => Some(column),
            _ => None,
        })
    };
    columns.extend(all().filter(|column| column.columns.is_empty()).map(|column| named(&column.name)));
    all().for_each(|column| json_table_columns(&column.columns, columns));
}

pub(crate) fn named(name: &str) -> Column {
    Column { name: Some(Arc::from(name)), ..Column::default() }
}

/// An alias names columns by their places.
fn rename(output: &mut Output, names: &[Arc<str>]) {
    if !output.complete {
        if output.columns.len() < names.len() {
            output.columns.resize_with(names.len(), Column::default);
        }
        // Which is at which place isn't known.
        let fences: Vec<ItemId> = output.columns.iter().flat_map(|column| column.fences.clone()).collect();
        for column in &mut output.columns {
            *column = Column { name: column.name.take(), passing: true, fences: fences.clone(), ..Column::default() };
        }
    }
    for (column, name) in output.columns.iter_mut().zip(names) {
        *column = Column { name: Some(name.clone()), guessed: false, field: false, ..std::mem::take(column) };
    }
}

fn names_of(nodes: &[Node]) -> Vec<Arc<str>> {
    nodes.iter().filter_map(string_of).map(Arc::from).collect()
}

/// The expression of a result column.
pub(super) fn value_of(target: &Node) -> Option<&Node> {
    match &target.node {
        Some(NodeEnum::ResTarget(res)) => res.val.as_deref(),
        _ => None,
    }
}

/// The names before a trailing `*`, if the node is a star.
pub(crate) fn star_of(node: &Node) -> Option<Vec<String>> {
    let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return None };
    let (last, names) = reference.fields.split_last()?;
    matches!(last.node, Some(NodeEnum::AStar(_)))
        .then(|| names.iter().filter_map(string_of).map(str::to_owned).collect())
}

/// Whether a part of a row stands for several: `item.*` or `(value).*`.
pub(crate) fn is_several(node: &Node) -> bool {
    let star = |node: &Node| matches!(node.node, Some(NodeEnum::AStar(_)));
    match &node.node {
        Some(NodeEnum::ColumnRef(reference)) => reference.fields.last().is_some_and(star),
        Some(NodeEnum::AIndirection(indirection)) => indirection.indirection.last().is_some_and(star),
        _ => false,
    }
}

/// Whether an output column without AS is certainly called as it is written.
pub(crate) fn is_called_as_written(value: &Node) -> bool {
    matches!(value.node, Some(NodeEnum::ColumnRef(_) | NodeEnum::FuncCall(_)))
}

/// The name that Postgres gives an output column without AS (`FigureColname`).
pub(crate) fn figure_name(node: &Node) -> Option<String> {
    figure(node).map(|(name, _)| name)
}

/// How a name that an expression has gives way to that of what is around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figured {
    /// A cast's or a CASE's, to that of another around it.
    Weakly,
    Surely,
}

fn figure(node: &Node) -> Option<(String, Figured)> {
    use pb::{SqlValueFunctionOp as Value, SubLinkType, XmlExprOp as Xml};
    let inner = |node: &Option<Box<Node>>| node.as_deref().and_then(figure);
    let weakly = |inner: Option<(String, Figured)>, name: Option<&str>| match (inner, name) {
        (Some((name, Figured::Surely)), _) => Some((name, Figured::Surely)),
        (_, Some(name)) => Some((name.to_owned(), Figured::Weakly)),
        (inner, None) => inner,
    };
    let name = match node.node.as_ref()? {
        NodeEnum::ColumnRef(reference) => reference.fields.iter().rev().find_map(string_of)?,
        NodeEnum::FuncCall(call) => call.funcname.last().and_then(string_of)?,
        NodeEnum::TypeCast(cast) => {
            let kind = cast.type_name.as_ref().and_then(|name| name.names.last()).and_then(string_of);
            return weakly(inner(&cast.arg), kind);
        }
        NodeEnum::CaseExpr(case) => return weakly(inner(&case.defresult), Some("case")),
        NodeEnum::CollateClause(collate) => return inner(&collate.arg),
        NodeEnum::AIndirection(indirection) => match indirection.indirection.iter().rev().find_map(string_of) {
            Some(name) => name,
            None => return inner(&indirection.arg),
        },
        NodeEnum::CoalesceExpr(_) => "coalesce",
        NodeEnum::AArrayExpr(_) => "array",
        NodeEnum::RowExpr(_) => "row",
        NodeEnum::GroupingFunc(_) => "grouping",
        NodeEnum::MergeSupportFunc(_) => "merge_action",
        NodeEnum::MinMaxExpr(minmax) if minmax.op == pb::MinMaxOp::IsGreatest as i32 => "greatest",
        NodeEnum::MinMaxExpr(_) => "least",
        NodeEnum::AExpr(expr) if expr.kind == pb::AExprKind::AexprNullif as i32 => "nullif",
        NodeEnum::SubLink(link) => match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => "exists",
            Ok(SubLinkType::ArraySublink) => "array",
            Ok(SubLinkType::ExprSublink) => {
                let Some(NodeEnum::SelectStmt(query)) = &link.subselect.as_deref()?.node else { return None };
                return Some((name_of_first(query)?, Figured::Surely));
            }
            _ => return None,
        },
        NodeEnum::SqlvalueFunction(value) => match Value::try_from(value.op).ok()? {
            Value::SvfopCurrentDate => "current_date",
            Value::SvfopCurrentTime | Value::SvfopCurrentTimeN => "current_time",
            Value::SvfopCurrentTimestamp | Value::SvfopCurrentTimestampN => "current_timestamp",
            Value::SvfopLocaltime | Value::SvfopLocaltimeN => "localtime",
            Value::SvfopLocaltimestamp | Value::SvfopLocaltimestampN => "localtimestamp",
            Value::SvfopCurrentRole => "current_role",
            Value::SvfopCurrentUser => "current_user",
            Value::SvfopUser => "user",
            Value::SvfopSessionUser => "session_user",
            Value::SvfopCurrentCatalog => "current_catalog",
            Value::SvfopCurrentSchema => "current_schema",
            Value::SqlvalueFunctionOpUndefined => return None,
        },
        NodeEnum::XmlExpr(xml) => match Xml::try_from(xml.op).ok()? {
            Xml::IsXmlconcat => "xmlconcat",
            Xml::IsXmlelement => "xmlelement",
            Xml::IsXmlforest => "xmlforest",
            Xml::IsXmlparse => "xmlparse",
            Xml::IsXmlpi => "xmlpi",
            Xml::IsXmlroot => "xmlroot",
            Xml::IsXmlserialize | Xml::IsDocument | Xml::Undefined => return None,
        },
        NodeEnum::XmlSerialize(_) => "xmlserialize",
        NodeEnum::JsonParseExpr(_) => "json",
        NodeEnum::JsonScalarExpr(_) => "json_scalar",
        NodeEnum::JsonSerializeExpr(_) => "json_serialize",
        NodeEnum::JsonObjectConstructor(_) => "json_object",
        NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => "json_array",
        NodeEnum::JsonObjectAgg(_) => "json_objectagg",
        NodeEnum::JsonArrayAgg(_) => "json_arrayagg",
        NodeEnum::JsonFuncExpr(json) => match pb::JsonExprOp::try_from(json.op).ok()? {
            pb::JsonExprOp::JsonExistsOp => "json_exists",
            pb::JsonExprOp::JsonQueryOp => "json_query",
            pb::JsonExprOp::JsonValueOp => "json_value",
            _ => return None,
        },
        _ => return None,
    };
    Some((name.to_owned(), Figured::Surely))
}

/// What the first column of a query is called; None for what only its sources tell.
fn name_of_first(mut select: &pb::SelectStmt) -> Option<String> {
    while let Some(left) = &select.larg {
        select = left;
    }
    if !select.values_lists.is_empty() {
        return Some("column1".to_owned());
    }
    let Some(NodeEnum::ResTarget(target)) = &select.target_list.first()?.node else { return None };
    let value = target.val.as_deref().filter(|value| !is_several(value))?;
    Some(match &*target.name {
        "" => figure_name(value).unwrap_or_else(|| "?column?".to_owned()),
        name => name.to_owned(),
    })
}

/// Whether the deparser knows a function in this place: it takes for granted that it is one of these, and ends the process of a
/// build with its assertions where it isn't, as at the constructors of SQL/JSON.
fn can_be_written_in_from(function: &Node) -> bool {
    matches!(
        function.node,
        Some(
            NodeEnum::FuncCall(_)
                | NodeEnum::SqlvalueFunction(_)
                | NodeEnum::TypeCast(_)
                | NodeEnum::CoalesceExpr(_)
                | NodeEnum::MinMaxExpr(_)
                | NodeEnum::XmlExpr(_)
                | NodeEnum::XmlSerialize(_)
        )
    )
}

/// The arguments of `unnest(a, b, …)` in FROM, which stands for `pg_catalog.unnest` of each, side by side
/// (PostgreSQL: "Table Functions").
fn several_unnested(node: &mut Node) -> Option<&mut Vec<Node>> {
    match &mut node.node {
        Some(NodeEnum::FuncCall(call))
            if call.args.len() > 1
                && tree::strings(&call.funcname).as_deref() == Some(&["unnest"])
                && call.agg_order.is_empty()
                && call.agg_filter.is_none()
                && call.over.is_none()
                && !(call.agg_star || call.agg_distinct || call.func_variadic || call.agg_within_group) =>
        {
            Some(&mut call.args)
        }
        _ => None,
    }
}

/// Whether ORDER BY, GROUP BY or DISTINCT takes an output column, by its name or ordinal.
fn sorts_outputs(select: &pb::SelectStmt) -> bool {
    let names_output = |by: &Node| match &by.node {
        Some(NodeEnum::AConst(_) | NodeEnum::GroupingSet(_)) => true,
        Some(NodeEnum::ColumnRef(reference)) => {
            let names = tree::strings(&reference.fields);
            let is_named = |target: &Node| {
                matches!((&target.node, names.as_deref()),
                (Some(NodeEnum::ResTarget(target)), Some([name])) if target.name == *name)
            };
            select.target_list.iter().any(is_named)
        }
        _ => false,
    };
    let sorts = |node: &Node| matches!(&node.node, Some(NodeEnum::SortBy(sort)) if sort.node.as_deref().is_some_and(names_output));
    select.sort_clause.iter().any(sorts)
        || select.group_clause.iter().any(names_output)
        || !select.distinct_clause.is_empty()
}
