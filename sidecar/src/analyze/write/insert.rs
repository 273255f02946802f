//! INSERT and ON CONFLICT: which rows are stored, and what becomes of the row that is there.

use std::collections::HashSet;
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};
use postern_crds::{MaskKind, Verb};

use super::{Target, filter_column, filter_denial, insert_column, is_pure, no_column, no_own_hash, raise};
use crate::analyze::expression::each_conjunct;
use crate::analyze::scope::{Column, Item, Scope, Source};
use crate::analyze::select::{Output, is_several, star_of};
use crate::analyze::tree::{self, unsupported};
use crate::analyze::utility::plain_column;
use crate::analyze::view::{fence, select};
use crate::analyze::{Analyzer, Place, ROW_FILTER_MARKER, Receiver};
use crate::catalog;
use crate::catalog::names::{quote_name, types};
use crate::decide::Denial;
use crate::decide::bound::RowFilter;
use crate::decide::expression::{as_row_column, instantiate_with};

/// From so many rows of VALUES on each is looked at by itself. With fewer a text is decided once for all of its shape, whatever the values.
const MANY_ROWS: usize = 50;

impl Analyzer<'_> {
    pub(super) fn insert(&mut self, insert: &mut pb::InsertStmt) -> Result<Output, Denial> {
        self.with_clause(&mut insert.with_clause)?;
        let range = insert.relation.as_mut().ok_or_else(|| unsupported("INSERT"))?;
        let mut target = self.target_of(range, Verb::Insert)?;
        let mut at_most_one = insert.select_stmt.is_none();
        if let Some(source) = insert.select_stmt.as_deref_mut() {
            at_most_one = matches!(&source.node, Some(NodeEnum::SelectStmt(select)) if select.values_lists.len() == 1);
            let output = self.query(source, Receiver::Query)?;
            self.insert_columns(insert, &target, &output)?;
        }
        if insert.r#override == pb::OverridingKind::OverridingUserValue as i32 {
            stores_what_is_given(&target)?;
        }
        self.check_insert(insert, &target)?;
        self.add_target(&mut target);
        let withheld = self.withheld(insert, &target);
        if let Some(conflict) = insert.on_conflict_clause.as_deref_mut() {
            self.on_conflict(conflict, &mut target, withheld)?;
        }
        let output = self.returning(&mut insert.returning_clause, &target)?;
        self.may_read(&target)?;
        self.out.at_most_one_row = at_most_one;
        Ok(output)
    }

    /// The column list that an INSERT must have: without one, values would shift into hidden columns.
    fn insert_columns(&mut self, insert: &mut pb::InsertStmt, target: &Target, source: &Output) -> Result<(), Denial> {
        if !insert.cols.is_empty() || target.view.is_none() {
            return Ok(());
        }
        let width = match insert.select_stmt.as_deref().and_then(|source| source.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) if !select.values_lists.is_empty() => source.columns.len(),
            _ if source.complete => source.columns.len(),
            _ => usize::MAX,
        };
        let visible = target.relation.columns.iter().filter(|column| !target.hides(column.number));
        insert.cols = visible.take(width).map(|column| insert_column(&column.name)).collect();
        self.changed = true;
        Ok(())
    }

    /// What an INSERT stores: no value of his own in a hashed column, no row outside the filter.
    fn check_insert(&mut self, insert: &mut pb::InsertStmt, target: &Target) -> Result<(), Denial> {
        if target.view.is_none() {
            for column in &mut insert.cols {
                if let Some(NodeEnum::ResTarget(res)) = &mut column.node {
                    for step in &mut res.indirection {
                        self.expression(step, Place::default())?;
                    }
                }
            }
            return Ok(());
        }
        let mut columns: Vec<catalog::Column> = Vec::new();
        for node in &insert.cols {
            let Some(NodeEnum::ResTarget(res)) = &node.node else { return Err(unsupported("INSERT")) };
            if !res.indirection.is_empty() {
                return Err(unsupported("a part of a column in an INSERT into a masked or filtered relation"));
            }
            let column = target.relation.column(&res.name).filter(|column| !target.hides(column.number));
            columns.push(column.ok_or_else(|| no_column(target, &res.name))?.clone());
        }
        let rows = rows_of(insert);
        rows.each_value_is_one()?;
        for (index, column) in columns.iter().enumerate() {
            let hashed = target.mask(column.number).is_some_and(|mask| matches!(mask.kind, MaskKind::Hash { .. }));
            if hashed && !rows.is_default(index) {
                return Err(no_own_hash(target, &column.name));
            }
        }
        let Some(filter) = target.filter() else { return Ok(()) };
        columns.extend(self.give_defaults(insert, &columns, target, filter)?);
        match rows_of(insert) {
            Rows::Values(lists) => {
                let many = lists.len() >= MANY_ROWS;
                for list in lists.iter_mut() {
                    let Some(NodeEnum::List(row)) = &mut list.node else { return Err(unsupported("VALUES")) };
                    if !(many && self.is_plainly_inside(&row.items, &columns, filter)) {
                        self.check_values(&mut row.items, &columns, target, filter)?;
                    }
                }
                Ok(())
            }
            Rows::Default => {
                Err(filter_denial(target, filter_column(target, filter), "give it a value inside the filter"))
            }
            Rows::Query => self.check_query(insert, &columns, target, filter),
        }
    }

    /// Whether a row of VALUES is inside of a filter for all to see: the filter compares columns with constants, and just these are given,
    /// as what their columns keep as it is.
    fn is_plainly_inside(&self, values: &[Node], columns: &[catalog::Column], filter: &RowFilter) -> bool {
        let mut inside = true;
        each_conjunct(&filter.expression, &mut |condition| {
            inside &= equated(condition).is_some_and(|(name, wanted)| {
                let index = columns.iter().position(|column| *column.name == *name);
                let given = index.and_then(|index| Some((columns.get(index)?, values.get(index)?)));
                given.is_some_and(|(column, value)| {
                    self.literal_of(value, column).is_some_and(|given| keeps(column, given, wanted))
                })
            });
        });
        inside
    }

    /// The literal that a value is, maybe cast to the very type of its column.
    fn literal_of<'n>(&self, value: &'n Node, column: &catalog::Column) -> Option<&'n pb::AConst> {
        match &value.node {
            Some(NodeEnum::AConst(constant)) => Some(constant),
            Some(NodeEnum::TypeCast(cast)) => {
                let kind = self.meant_type(cast.type_name.as_ref())?;
                let has_modifier = cast.type_name.as_ref().is_some_and(|name| !name.typmods.is_empty());
                let Some(NodeEnum::AConst(constant)) = &cast.arg.as_deref()?.node else { return None };
                (kind.oid == column.type_oid && !has_modifier).then_some(constant)
            }
            _ => None,
        }
    }

    /// One row of VALUES: the first value of a filter's column is stored only if the row is inside.
    pub(super) fn check_values(
        &mut self,
        values: &mut [Node],
        columns: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<(), Denial> {
        let mut new = Vec::new();
        let mut defaults: Vec<(Arc<str>, Node)> = Vec::new();
        for number in &filter.columns {
            let Some(column) = target.relation.column_at(*number) else { continue };
            let index = columns.iter().position(|given| given.number == *number);
            match index.and_then(|index| values.get_mut(index)) {
                Some(value) => {
                    // What is stored is what is checked.
                    if matches!(value.node, Some(NodeEnum::SetToDefault(_))) {
                        *value = self.default_of(target, column)?;
                    }
                    new.push((column.clone(), value.clone()));
                }
                None => {
                    let default = tree::cast(self.default_of(target, column)?, &column.type_sql)?;
                    defaults.push((column.name.clone(), default));
                }
            }
        }
        let checked = self.checked(new, target, filter, &|name| {
            let default = defaults.iter().find(|(column, _)| &**column == name).map(|(_, value)| value.clone());
            default.unwrap_or_else(|| tree::parse_expression("NULL").unwrap_or_default())
        })?;
        let place = checked.and_then(|(column, checked)| {
            let index = columns.iter().position(|given| given.number == column.number)?;
            Some((values.get_mut(index)?, checked))
        });
        let Some((value, checked)) = place else {
            return Err(filter_denial(target, filter_column(target, filter), "give it a value inside the filter"));
        };
        *value = checked;
        self.changed = true;
        Ok(())
    }

    /// INSERT … SELECT: the rows go through a subquery that checks each.
    fn check_query(
        &mut self,
        insert: &mut pb::InsertStmt,
        columns: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<(), Denial> {
        let alias = "postern_new";
        // What the query does not give is stored as its default, which is a constant; what it gives, as the column's type
        // has it (2.6 as 3).
        let mut defaults: Vec<(Arc<str>, Node)> = Vec::new();
        let mut stored: Vec<(Arc<str>, Node)> = Vec::new();
        let mut computed: Vec<(Arc<str>, Node)> = Vec::new();
        for number in &filter.columns {
            let Some(column) = target.relation.column_at(*number) else { continue };
            if columns.iter().any(|given| given.number == *number) {
                let value = tree::cast(tree::column(alias, &column.name), &column.type_sql)?;
                stored.push((column.name.clone(), value));
            } else {
                let default = self.default_of(target, column)?;
                // What is computed is stored as it was checked, which it is where nothing in the query changes it.
                let is_constant = is_pure(&default);
                if !is_constant && self.changes_state {
                    let why = "its default may be another for each row of the query";
                    return Err(filter_denial(target, &column.name, why)
                        .hint("Give the column in the query, as what its default says."));
                }
                let default = tree::cast(default, &column.type_sql)?;
                if !is_constant {
                    computed.push((column.name.clone(), default.clone()));
                }
                defaults.push((column.name.clone(), default));
            }
        }
        let Some(mut source) = insert.select_stmt.take() else { return Ok(()) };
        self.give_types(&mut source, columns)?;
        // What is checked is stored: the query is not merged into what reads its columns for both.
        if let Some(NodeEnum::SelectStmt(query)) = &mut source.node
            && query.limit_count.is_none()
            && query.limit_offset.is_none()
        {
            fence(query);
        }
        let mut inside = Some(tree::or(vec![
            instantiate_with(&filter.expression, &mut |name| {
                let value = defaults.iter().chain(&stored).find(|(column, _)| &**column == name);
                value.map_or_else(|| tree::column(alias, name), |(_, value)| value.clone())
            }),
            raise(ROW_FILTER_MARKER, &filter.rule),
        ]));
        let mut targets = Vec::new();
        for column in columns {
            // It is stored as what it is, for the server to say whether its type fits.
            let mut value = tree::column(alias, &column.name);
            if filter.columns.contains(&column.number)
                && let Some(inside) = inside.take()
            {
                value = tree::case(inside, value, None);
            }
            targets.push(tree::target(&column.name, value));
        }
        if computed.is_empty() && inside.is_some() {
            computed.extend(defaults.first().cloned());
        }
        for (name, default) in computed {
            let default = match inside.take() {
                Some(inside) => tree::case(inside, default, None),
                None => default,
            };
            insert.cols.push(insert_column(&name));
            targets.push(tree::target(&name, default));
        }
        let names = columns.iter().map(|column| tree::string(&*column.name)).collect();
        let derived = tree::derived(*source, alias, names);
        insert.select_stmt = tree::boxed(tree::query(select(targets, vec![derived], None)));
        self.changed = true;
        Ok(())
    }

    /// In the query of an INSERT a literal or parameter without a type becomes of its column's; in a subquery it would
    /// become text.
    fn give_types(&self, source: &mut Node, columns: &[catalog::Column]) -> Result<(), Denial> {
        let Some(NodeEnum::SelectStmt(query)) = &mut source.node else { return Ok(()) };
        let width = query.target_list.len();
        let is_star = |node: &Node| matches!(&node.node, Some(NodeEnum::ResTarget(res)) if res.val.as_deref().is_some_and(|value| star_of(value).is_some()));
        let first_star = query.target_list.iter().position(is_star).unwrap_or(width);
        let after_last_star = query.target_list.iter().rposition(is_star).map_or(0, |last| last + 1);
        let compared: Vec<Node> =
            [&query.group_clause, &query.sort_clause, &query.distinct_clause].into_iter().flatten().cloned().collect();
        for (index, node) in query.target_list.iter_mut().enumerate() {
            let column = if index < first_star {
                columns.get(index)
            } else if index >= after_last_star {
                columns.len().checked_sub(width - index).and_then(|index| columns.get(index))
            } else {
                None
            };
            let Some(NodeEnum::ResTarget(res)) = &mut node.node else { continue };
            if let (Some(column), Some(value)) = (column, res.val.as_deref_mut())
                && self.has_no_type(value)
                && !compared.iter().any(|by| is_output(by, index, &res.name))
            {
                // A parameter is read as a value of the very type.
                let is_literal = matches!(value.node, Some(NodeEnum::AConst(_)));
                let kind = if is_literal { self.bare_type(column) } else { self.own_type(column) };
                *value = tree::cast(tree::take(value), &kind)?;
            }
        }
        Ok(())
    }

    /// Whether it is a literal in quotes, NULL, or a parameter to which neither the client nor a cast gives a type.
    fn has_no_type(&self, value: &Node) -> bool {
        match &value.node {
            Some(NodeEnum::AConst(constant)) => {
                constant.isnull || matches!(constant.val, Some(pb::a_const::Val::Sval(_)))
            }
            Some(NodeEnum::ParamRef(parameter)) => !self.parameters.is_declared(parameter.number),
            _ => false,
        }
    }

    /// A column's type without its modifier: an explicit cast with one would cut what does not fit.
    pub(super) fn bare_type(&self, column: &catalog::Column) -> String {
        // A domain over a string may have one of its own.
        let base = self.catalog.types.get(&self.catalog.base_type(column.type_oid));
        match base.filter(|kind| matches!(kind.category, 'S' | 'V')) {
            Some(base) => name_of_type(base),
            None => self.own_type(column),
        }
    }

    fn own_type(&self, column: &catalog::Column) -> String {
        self.catalog.types.get(&column.type_oid).map_or_else(|| column.type_sql.to_string(), name_of_type)
    }

    /// Those defaults of a filter's columns that a row has to be given: what is computed, so that what is stored is what was
    /// checked; and one in any case, so that there is a value to check.
    pub(super) fn missing_defaults(
        &self,
        given: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<Vec<(catalog::Column, Node)>, Denial> {
        let is_given = |number: i16| given.iter().any(|column| column.number == number);
        let mut none_given = !filter.columns.iter().any(|number| is_given(*number));
        let mut missing = Vec::new();
        for column in filter.columns.iter().filter_map(|number| target.relation.column_at(*number)) {
            if is_given(column.number) {
                continue;
            }
            let value = self.default_of(target, column)?;
            if !is_pure(&value) || std::mem::take(&mut none_given) {
                missing.push((column.clone(), value));
            }
        }
        Ok(missing)
    }

    /// Gives an INSERT of values the defaults that it has to have. Tells of which columns.
    fn give_defaults(
        &self,
        insert: &mut pb::InsertStmt,
        columns: &[catalog::Column],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<Vec<catalog::Column>, Denial> {
        if matches!(rows_of(insert), Rows::Query) {
            // check_query adds what is to be.
            return Ok(Vec::new());
        }
        let missing = self.missing_defaults(columns, target, filter)?;
        if !missing.is_empty() && matches!(rows_of(insert), Rows::Default) {
            let row = tree::node(NodeEnum::List(pb::List { items: Vec::new() }));
            let values = pb::SelectStmt { values_lists: vec![row], ..select(Vec::new(), Vec::new(), None) };
            insert.select_stmt = tree::boxed(tree::query(values));
        }
        let mut added = Vec::with_capacity(missing.len());
        for (column, value) in missing {
            let Rows::Values(lists) = rows_of(insert) else { return Err(unsupported("INSERT")) };
            for list in lists.iter_mut() {
                let Some(NodeEnum::List(row)) = &mut list.node else { return Err(unsupported("VALUES")) };
                row.items.push(value.clone());
            }
            insert.cols.push(insert_column(&column.name));
            added.push(column);
        }
        Ok(added)
    }

    /// Masked columns of `excluded` that the client does not give, or that a trigger may set.
    fn withheld(&self, insert: &mut pb::InsertStmt, target: &Target) -> HashSet<Arc<str>> {
        let names = insert.cols.iter().map(|column| match &column.node {
            Some(NodeEnum::ResTarget(res)) => res.name.clone(),
            _ => String::new(),
        });
        let names: Vec<String> = names.collect();
        let rows = rows_of(insert);
        let is_withheld = |column: &&catalog::Column| {
            let place = names.iter().position(|name| **name == *column.name);
            let is_given = place.is_some_and(|place| !rows.is_default(place));
            target.mask(column.number).is_some() && (!is_given || self.is_set_by_trigger(target, column.number))
        };
        target.relation.columns.iter().filter(is_withheld).map(|column| Arc::clone(&column.name)).collect()
    }

    fn on_conflict(
        &mut self,
        conflict: &mut pb::OnConflictClause,
        target: &mut Target,
        withheld: HashSet<Arc<str>>,
    ) -> Result<(), Denial> {
        if let Some(infer) = conflict.infer.as_deref_mut() {
            for node in &infer.index_elems {
                let Some(NodeEnum::IndexElem(element)) = &node.node else { return Err(unsupported("ON CONFLICT")) };
                let column = target.relation.column(&element.name);
                if column.is_some_and(|column| target.hides(column.number)) {
                    return Err(no_column(target, &element.name));
                }
                // The arbiter must stay as the index has it; a copy is walked for what it calls.
                if let Some(expression) = element.expr.as_deref() {
                    self.expression(&mut expression.clone(), Place::default())?;
                }
            }
            if let Some(condition) = infer.where_clause.as_deref() {
                self.expression(&mut condition.clone(), Place::default())?;
            }
        }
        if conflict.action != pb::OnConflictAction::OnconflictUpdate as i32 {
            return Ok(());
        }
        let grant = match target.relation.temporary {
            true => None,
            false => Some(self.grant(&target.relation, Verb::Update)?),
        };
        if let Some(grant) = grant {
            self.record(&target.relation.clone(), &grant, Verb::Update);
        }
        // The row that was to be inserted: the client's own values.
        let columns = target.relation.columns.iter().filter(|column| !target.hides(column.number)).map(plain_column);
        let columns = columns.map(|column| Column { stays: true, ..column }).collect();
        let excluded = Item {
            alias: Some(Arc::from("excluded")),
            aliased: true,
            source: Source::Derived { columns, complete: true },
        };
        let mut level = Scope::default();
        let id = self.scopes.push(excluded);
        level.items.push(id);
        if target.secret().next().is_some() {
            self.excluded.insert(id, withheld);
        }
        let at = self.scopes.levels.len().saturating_sub(1);
        self.scopes.levels.insert(at, level);
        self.assignments(&mut conflict.target_list, target)?;
        if let Some(condition) = conflict.where_clause.as_deref_mut() {
            self.expression(condition, Place::CONDITION)?;
        }
        if let Some(inside) = target.inside() {
            let written = conflict.where_clause.take().map(|condition| *condition);
            conflict.where_clause = tree::boxed(self.within(target, inside, written, Place::CONDITION));
        }
        let inside = self.keys_inside(&conflict.target_list, target)?;
        self.only_where(&mut conflict.where_clause, inside);
        self.scopes.levels.remove(at);
        Ok(())
    }
}

/// OVERRIDING USER VALUE stores the next of a sequence in an identity column, in place of the value that was checked.
pub(super) fn stores_what_is_given(target: &Target) -> Result<(), Denial> {
    match target.filter() {
        None => Ok(()),
        Some(filter) => Err(filter_denial(target, filter_column(target, filter), "no OVERRIDING USER VALUE")),
    }
}

fn name_of_type(kind: &catalog::Type) -> String {
    // What is written for these is read as types of one character; a value of the other is assigned as it is.
    match (&*kind.schema, &*kind.name) {
        ("pg_catalog", "bpchar") => return "pg_catalog.text".to_owned(),
        ("pg_catalog", "bit") => return "pg_catalog.varbit".to_owned(),
        _ => {}
    }
    format!("{}.{}", quote_name(&kind.schema), quote_name(&kind.name))
}

/// Where the rows of an INSERT come from.
enum Rows<'r> {
    Default,
    Values(&'r mut Vec<Node>),
    Query,
}

impl Rows<'_> {
    /// Refuses VALUES of which one stands for several: which column gets which, depends on how many.
    fn each_value_is_one(&self) -> Result<(), Denial> {
        let Rows::Values(lists) = self else { return Ok(()) };
        lists.iter().try_for_each(|list| match &list.node {
            Some(NodeEnum::List(row)) => each_is_one(&row.items),
            _ => Err(unsupported("VALUES")),
        })
    }

    /// Whether every row gives DEFAULT for the column at this place.
    pub(super) fn is_default(&self, index: usize) -> bool {
        match self {
            Rows::Default => true,
            Rows::Query => false,
            Rows::Values(lists) => lists.iter().all(|list| match &list.node {
                Some(NodeEnum::List(row)) => {
                    row.items.get(index).is_none_or(|value| matches!(value.node, Some(NodeEnum::SetToDefault(_))))
                }
                _ => false,
            }),
        }
    }
}

/// Whether GROUP BY, ORDER BY or DISTINCT takes an output column, which then has a type.
fn is_output(by: &Node, index: usize, name: &str) -> bool {
    match &by.node {
        // Plain DISTINCT takes them all.
        None => true,
        Some(NodeEnum::SortBy(sort)) => sort.node.as_deref().is_some_and(|by| is_output(by, index, name)),
        Some(NodeEnum::AConst(constant)) => matches!(&constant.val,
            Some(pb::a_const::Val::Ival(ordinal)) if usize::try_from(ordinal.ival) == Ok(index + 1)),
        Some(NodeEnum::ColumnRef(reference)) => tree::strings(&reference.fields).as_deref() == Some(&[name]),
        _ => false,
    }
}

/// Refuses values of which one stands for several.
pub(super) fn each_is_one(values: &[Node]) -> Result<(), Denial> {
    if values.iter().any(is_several) {
        return Err(unsupported("`.*` in VALUES for a masked or filtered relation; write its columns out"));
    }
    Ok(())
}

/// The column that a condition compares with a constant; None for one that is to be true.
fn equated(condition: &Node) -> Option<(&str, Option<&pb::AConst>)> {
    let Some(NodeEnum::AExpr(expr)) = &condition.node else { return as_row_column(condition).map(|name| (name, None)) };
    if expr.kind != pb::AExprKind::AexprOp as i32 || tree::strings(&expr.name)?.as_slice() != ["pg_catalog", "="] {
        return None;
    }
    let Some(NodeEnum::AConst(constant)) = &expr.rexpr.as_deref()?.node else { return None };
    Some((as_row_column(expr.lexpr.as_deref()?)?, Some(constant)))
}

/// Whether a column stores the one constant as what the other means in its filter.
fn keeps(column: &catalog::Column, given: &pb::AConst, wanted: Option<&pb::AConst>) -> bool {
    use pb::a_const::Val;
    let Some(wanted) = wanted else {
        return column.type_oid == types::BOOL && matches!(&given.val, Some(Val::Boolval(given)) if given.boolval);
    };
    match (&given.val, &wanted.val, column.type_oid) {
        (Some(Val::Ival(given)), Some(Val::Ival(wanted)), types::INT2 | types::INT4 | types::INT8) => {
            given.ival == wanted.ival
        }
        (Some(Val::Sval(given)), Some(Val::Ival(wanted)), types::INT2 | types::INT4 | types::INT8) => {
            given.sval == wanted.ival.to_string()
        }
        (Some(Val::Boolval(given)), Some(Val::Boolval(wanted)), types::BOOL) => given.boolval == wanted.boolval,
        (Some(Val::Sval(given)), Some(Val::Sval(wanted)), types::TEXT | types::VARCHAR) => {
            // `atttypmod` is four more than the length: what is longer is refused, or loses blanks.
            let length = usize::try_from(column.type_modifier.saturating_sub(4)).unwrap_or(usize::MAX);
            given.sval == wanted.sval && given.sval.chars().count() <= length
        }
        _ => false,
    }
}

/// The rows of an INSERT.
fn rows_of(insert: &mut pb::InsertStmt) -> Rows<'_> {
    match insert.select_stmt.as_deref_mut().and_then(|source| source.node.as_mut()) {
        None => Rows::Default,
        Some(NodeEnum::SelectStmt(select))
            if !select.values_lists.is_empty()
                && select.sort_clause.is_empty()
                && select.limit_count.is_none()
                && select.with_clause.is_none() =>
        {
            Rows::Values(&mut select.values_lists)
        }
        Some(_) => Rows::Query,
    }
}
