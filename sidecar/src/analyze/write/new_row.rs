//! A new row version is inside the filter, or is not written: tested as it runs, over the values that will be stored.

use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::assign::one_row_of;
use super::{Target, filter_denial, is_pure, raise};
use crate::analyze::expression::parts;
use crate::analyze::tree::{self, unsupported};
use crate::analyze::view::{fence, select};
use crate::analyze::{Analyzer, ROW_FILTER_MARKER};
use crate::catalog::view_columns::ViewColumn;
use crate::catalog::{self, Oid, Relation, RelationKind, Type};
use crate::decide::bound::RowFilter;
use crate::decide::expression::instantiate_with;
use crate::decide::{Denial, Reason};

impl Analyzer<'_> {
    /// The filter's columns are assigned only if the new row is inside it.
    pub(super) fn check_new_row(
        &mut self,
        list: &mut [Node],
        target: &Target,
        filter: &RowFilter,
    ) -> Result<(), Denial> {
        let mut new = Vec::new();
        for number in &filter.columns {
            let Some(column) = target.relation.column_at(*number) else { continue };
            let value = list.iter().find_map(|node| match &node.node {
                Some(NodeEnum::ResTarget(res)) if *res.name == *column.name => res.val.as_deref().cloned(),
                _ => None,
            });
            if let Some(value) = value {
                new.push((column.clone(), value));
            }
        }
        let Some((column, value)) = self.checked(new, target, filter, &|name| tree::column(&target.alias, name))?
        else {
            return Ok(());
        };
        for node in list {
            if let Some(NodeEnum::ResTarget(res)) = &mut node.node
                && *res.name == *column.name
            {
                res.val = tree::boxed(value);
                self.changed = true;
                return Ok(());
            }
        }
        Err(unsupported("SET"))
    }

    /// What is stored in one of the filter's columns: its new value if the row with the new values is inside, else an
    /// error. The other values are stored as they are, so that only what can't change in between is checked among them; the
    /// one that has to be computed is the one that is stored so, and is computed once.
    pub(super) fn checked(
        &self,
        new: Vec<(catalog::Column, Node)>,
        target: &Target,
        filter: &RowFilter,
        other: &dyn Fn(&str) -> Node,
    ) -> Result<Option<(catalog::Column, Node)>, Denial> {
        // What is computed of a subquery's column, the server may compute again where it is stored.
        let computed: Vec<usize> = (0..)
            .zip(&new)
            .filter(|(_, (column, value))| !self.is_fixed(value, column.known_type()))
            .map(|(at, _)| at)
            .collect();
        let is_same = |at: &usize| new.get(*at).is_some_and(|(_, value)| self.is_same_throughout(value));
        let once = match computed.as_slice() {
            [] => None,
            [one] => Some(*one),
            // Each gives the same wherever it is computed, as nothing happens in between.
            several if !self.changes_state && several.iter().all(is_same) => None,
            [_, second, ..] => {
                let name = new.get(*second).map_or("?", |(column, _)| &*column.name);
                return Err(filter_denial(target, name, "only one value that is computed can be checked against it"));
            }
        };
        let Some((column, value)) = new.get(once.unwrap_or(0)).cloned() else { return Ok(None) };
        if once.is_some() && !self.calls_only_steady(&value) {
            let why = "only what is the same at each call can be checked against it";
            return Err(filter_denial(target, &column.name, why));
        }
        let alias = target.other_than_alias("postern_new");
        let mut computed_first = Vec::new();
        let mut values: Vec<(Arc<str>, Node)> = Vec::new();
        for (at, (column, value)) in new.into_iter().enumerate() {
            let value = match once {
                // Within the subquery a name of the client's could mean one of its columns: none stands beside them.
                Some(once) => {
                    // By a setting that changes in between a time is another as it is stored.
                    let by_settings = self.changes_state && crate::analyze::time::differ(column.known_type(), None);
                    let is_written = at != once || by_settings;
                    let first = if is_written { tree::cast(value, &column.type_sql)? } else { value };
                    computed_first.push(tree::target("", first));
                    tree::column(&alias, &format!("c{at}"))
                }
                None => value,
            };
            values.push((column.name.clone(), tree::cast(value, &column.type_sql)?));
        }
        let inside = instantiate_with(&filter.expression, &mut |name| {
            let given = values.iter().find(|(column, _)| &**column == name).map(|(_, value)| value.clone());
            given.unwrap_or_else(|| other(name))
        });
        let check = tree::or(vec![inside, raise(ROW_FILTER_MARKER, &filter.rule)]);
        let Some(once) = once else {
            let stored = tree::cast(value, &self.bare_type(&column))?;
            return Ok(Some((column, tree::case(check, stored, None))));
        };
        let width = computed_first.len();
        let mut inner = select(computed_first, Vec::new(), None);
        fence(&mut inner);
        // It is stored as what it is, for the server to say whether its type fits.
        let stored = tree::case(check, tree::column(&alias, &format!("c{once}")), None);
        let outer = select(vec![tree::target("", stored)], vec![one_row_of(tree::query(inner), &alias, width)], None);
        Ok(Some((column, tree::subquery(pb::SubLinkType::ExprSublink, outer))))
    }

    /// What is stored in a filter's column to which an INSERT or UPDATE gives no value, if that can be known: NULL, or what its default
    /// gives, which calls nothing that may give something else at each call.
    pub(super) fn default_of(&self, target: &Target, column: &catalog::Column) -> Result<Node, Denial> {
        let stored = self.stored_column(&target.relation, column);
        let column = stored.as_ref().unwrap_or(column);
        let is_plain = column.generated.is_none()
            && column.identity.is_none()
            && (column.default.is_some() || target.relation.kind != RelationKind::View || stored.is_some());
        let default = is_plain.then(|| as_stored(column.default.as_deref().unwrap_or("NULL"))).flatten();
        default.filter(|default| is_pure(default) || self.calls_only_steady(default)).ok_or_else(|| {
            let name = format!("{}.{}", target.name(), column.name);
            if column.generated.is_some() {
                let message =
                    format!("the row filter reads {name}, which is generated, so that a new row can't be checked");
                return Denial::new(Reason::RowFilter, message).object(name);
            }
            Denial::new(
                Reason::RowFilter,
                format!("the default of {name} can't be checked: it is computed anew for each row"),
            )
            .hint("Give it a value.")
            .object(name)
        })
    }

    /// The column of a table whose default is taken for a view's column that has none of its own.
    fn stored_column(&self, view: &Relation, column: &catalog::Column) -> Option<catalog::Column> {
        if view.kind != RelationKind::View || column.default.is_some() {
            return None;
        }
        let is_view = |oid: &Oid| self.catalog.relations.get(oid).is_none_or(|of| of.kind == RelationKind::View);
        // A view between them may have a default of its own.
        if view.depends_on.iter().any(|(oid, _)| is_view(oid)) {
            return None;
        }
        match self.view_column(view, column.number) {
            ViewColumn::Of(oid, number) => self.catalog.relations.get(&oid)?.column_at(number).cloned(),
            ViewColumn::Apart | ViewColumn::Computed => None,
        }
    }

    /// Whether computing a value twice for a row gives the same. Where a setting may change in between, a cast to the type of the column
    /// that it is for, or one within it, may not.
    pub(super) fn is_fixed(&self, value: &Node, column: Option<Oid>) -> bool {
        if self.changes_state && self.is_passing(column, value) {
            return false;
        }
        is_pure(value) && !self.reads_computed(value) && !self.casts_unsteadily(value)
    }

    /// Whether a value is the same wherever in a statement it is computed that calls nothing volatile: of constants, settings and the
    /// clock that stands still. A subquery may lock, sample, or read in another order.
    fn is_same_throughout(&self, value: &Node) -> bool {
        const STANDING: [&str; 4] = ["current_setting", "now", "transaction_timestamp", "statement_timestamp"];
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_none_or(|node| self.is_same_throughout(node));
        match &value.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
            Some(NodeEnum::ColumnRef(_)) => !self.reads_computed(value),
            Some(NodeEnum::TypeCast(cast)) => self.is_steady_cast(cast) && optional(&cast.arg),
            Some(NodeEnum::AExpr(expr)) => tree::operands(expr).all(|side| self.is_same_throughout(side)),
            Some(NodeEnum::FuncCall(call)) => {
                // Others may look at what the statement, or another session, changes meanwhile.
                (self.is_immutable(call) || self.is_own(call, &STANDING))
                    && call.over.is_none()
                    && call.args.iter().all(|argument| self.is_same_throughout(argument))
            }
            _ => parts(value).is_some_and(|parts| parts.iter().all(|part| self.is_same_throughout(part))),
        }
    }

    fn casts_unsteadily(&self, value: &Node) -> bool {
        tree::holds(value, &|node| matches!(node, NodeEnum::TypeCast(cast) if !self.is_steady_cast(cast)))
    }

    /// Whether a cast gives the same each time: it looks no name up in the catalogs, as those to `regclass` and its like do, where
    /// another session may have changed it, and calls nothing of the database's own that may give something else.
    fn is_steady_cast(&self, cast: &pb::TypeCast) -> bool {
        let Some(kind) = self.meant_type(cast.type_name.as_ref()) else { return false };
        let base = self.catalog.element_type(kind.oid).unwrap_or(kind.oid);
        let base = self.catalog.base_type(base);
        let is_name = |kind: &Type| &*kind.schema == "pg_catalog" && kind.name.starts_with("reg");
        let by_functions = self.catalog.user_casts.iter().filter(|((_, to), _)| *to == kind.oid || *to == base);
        let mut functions = by_functions.map(|(_, function)| self.catalog.function(*function));
        self.catalog.types.get(&base).is_some_and(|base| base.kind != 'c' && !is_name(base))
            && functions.all(|function| function.is_some_and(|function| function.volatility == 'i'))
    }

    /// Whether an expression names a column that the server computes where it is read.
    fn reads_computed(&self, value: &Node) -> bool {
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| self.reads_computed(node));
        match &value.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => false,
            Some(NodeEnum::ColumnRef(reference)) => {
                let columns = tree::strings(&reference.fields).map(|names| self.scopes.meaning(&names).columns);
                columns
                    .is_none_or(|columns| columns.is_empty() || columns.iter().any(|(_, column)| self.computes(column)))
            }
            Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
            Some(NodeEnum::AExpr(expr)) => tree::operands(expr).any(|side| self.reads_computed(side)),
            _ => parts(value).is_none_or(|parts| parts.iter().any(|part| self.reads_computed(part))),
        }
    }

    /// Whether an expression calls nothing that may give something else at each call, or any number of rows: what does not read the
    /// row is computed once for all rows of a statement.
    fn calls_only_steady(&self, value: &Node) -> bool {
        !tree::holds(value, &|node| match node {
            NodeEnum::FuncCall(call) => !self.is_steady_call(call),
            NodeEnum::SetToDefault(_) | NodeEnum::MultiAssignRef(_) => true,
            _ => false,
        })
    }
}

/// A default as the server reads it, whatever the search_path: what is deparsed names nothing of pg_catalog by its schema.
fn as_stored(sql: &str) -> Option<Node> {
    let mut node = tree::parse_expression(sql).ok()?;
    name_built_ins(&mut node).ok()?;
    Some(node)
}

fn name_built_ins(node: &mut Node) -> Result<(), Denial> {
    let names = match &mut node.node {
        Some(NodeEnum::FuncCall(call)) => Some(&mut call.funcname),
        Some(NodeEnum::AExpr(expr)) if expr.kind == pb::AExprKind::AexprOp as i32 => Some(&mut expr.name),
        Some(NodeEnum::TypeCast(cast)) => cast.type_name.as_mut().map(|name| &mut name.names),
        _ => None,
    };
    if let Some(names) = names.filter(|names| names.len() == 1) {
        names.insert(0, tree::string("pg_catalog"));
    }
    match &mut node.node {
        Some(inner) => tree::each_child(inner, &mut name_built_ins),
        None => Ok(()),
    }
}
