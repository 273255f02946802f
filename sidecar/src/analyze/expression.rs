//! Expressions: what each name in them means, which functions and operators they run, and what type they have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::{iter, slice};

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::guard::compares_query;
use super::late::{each_bare_parameter, tried_first};
use super::parameters::{ParameterType, bare_parameter};
use super::scope::{Column, Item, ItemId, Meaning, RelationItem};
use super::select::{is_several, star_of};
use super::time::kind_of;
use super::tree::{self, each_child, unsupported};
use super::{Analyzer, Doubt, MaskedUse, Notice, Place, Receiver};
use crate::catalog::names::{CallForm, PG_CATALOG, is_polymorphic, types};
use crate::catalog::{Function, Oid, Type};
use crate::decide::bound::{ColumnView, PLACE_COLUMNS};
use crate::decide::expression::instantiate;
use crate::decide::{Denial, Reason};
use postern_crds::{OnPredicate, Verb};

/// Operators beside which a parameter without a type is of the other side's, and the schema that they may be named with.
const COMPARES: [&str; 7] = ["=", "<>", "<", "<=", ">", ">=", "pg_catalog"];

impl Analyzer<'_> {
    /// Walks an expression and tells its type where it is certain; [`types::UNKNOWN`] for a literal without one.
    pub(crate) fn expression(&mut self, node: &mut Node, place: Place) -> Result<Option<Oid>, Denial> {
        let Place { conjunct, separate, alone, .. } = place;
        let place = Place { conjunct: false, separate: false, alone: false, ..place };
        let inner = Place { leaky: true, ..place };
        if !place.leaky
            && self.policy.row_filters
            && let Some(by_parts) = self.by_parts(node)
        {
            *node = by_parts;
            self.changed = true;
        }
        if conjunct && !place.leaky && self.policy.row_filters && compares_query(node) {
            return self.tried_inside(node, place, alone);
        }
        self.may_raise = self.may_raise || ((!place.after_filter || place.sorts) && self.can_raise(node));
        // A row without a type is only found to have no order as it is sorted.
        let is_row = place.sorts && (matches!(node.node, Some(NodeEnum::RowExpr(_))) || self.whole_row(node).is_some());
        self.may_raise |= is_row;
        match &mut node.node {
            None => Ok(None),
            Some(NodeEnum::ColumnRef(_)) => self.column_ref(node, place),
            // Without a type it is open as a literal is, if it stands in one place. Casts of the owner make that matter.
            Some(NodeEnum::ParamRef(_)) if self.catalog.user_casts.is_empty() => Ok(None),
            Some(NodeEnum::ParamRef(parameter)) => Ok(self.parameters.kind(parameter.number).as_operand()),
            Some(NodeEnum::AConst(constant)) => Ok(Some(constant_type(constant))),
            Some(NodeEnum::AExpr(_)) => {
                let equal = self.policy.row_filters && separate && makes_equal(node);
                if self.policy.row_filters && may_make_equal(node) {
                    // Under NOT `<>` is an equality, under OR it may be one of all, and a target may become a condition.
                    let columns = self.columns_of_comparison(node);
                    if self.is_equal_unsteadily(node) {
                        self.unsteady_equals.extend(&columns);
                    }
                    self.alike.extend(columns.windows(2).filter_map(|pair| <[_; 2]>::try_from(pair).ok()));
                }
                if place.leaky || !self.is_harmless_comparison(node) {
                    if equal {
                        self.late_equals.extend(self.columns_of_comparison(node));
                    }
                    return self.operator_expression(node, place);
                }
                let filtered = self.policy.row_filters && self.reads_behind_filter(node);
                let costly = filtered && self.reads_behind_costly_filter(node);
                let late = if filtered || equal { self.late_casts(node) } else { Vec::new() };
                let unsteady = (filtered || equal) && self.has_unsteady(node);
                // Of two indexes the server reads the second only where the first finds rows, those of the filter or not: what is looked
                // for there is tried first. Behind a filter that costs more it may fail later, too, after a setting changed meanwhile.
                let fails_late = if conjunct {
                    // What a setting makes a time of is tried in vain: that may have changed by then.
                    unsteady && (costly || equal && self.policy.costly_filters)
                        || costly && late.iter().any(|cast| self.casts_by_settings(cast))
                } else {
                    unsteady || !late.is_empty()
                };
                if equal {
                    self.note_equality(node, fails_late);
                }
                if filtered && fails_late {
                    return self.operator_expression(node, inner);
                }
                let kind = self.operator_expression(node, place)?;
                if conjunct {
                    let computed = if unsteady { self.computed_values(node) } else { Vec::new() };
                    let tried: Vec<Node> = late.into_iter().chain(computed).map(tried_first).collect();
                    if !tried.is_empty() {
                        let written = std::mem::take(node);
                        *node = tree::and(iter::once(written).chain(tried).collect());
                        self.changed = true;
                    }
                }
                Ok(kind)
            }
            Some(NodeEnum::BoolExpr(bool)) => {
                // Which side of an OR is computed tells of the other; those of an AND are conditions by themselves.
                let apart = separate && bool.boolop == pb::BoolExprType::AndExpr as i32;
                let harmless = place.leaky || apart || self.is_harmless_bool(bool);
                let of_each =
                    Place { conjunct: conjunct && apart, separate: apart, ..if harmless { place } else { inner } };
                let operator = bool.boolop();
                let mut arguments = Vec::with_capacity(bool.args.len());
                for mut argument in std::mem::take(&mut bool.args) {
                    let is_comparison = matches!(argument.node, Some(NodeEnum::AExpr(_)));
                    self.expression(&mut argument, of_each)?;
                    // One that became several is no condition within this one.
                    if is_comparison && of_each.conjunct {
                        arguments.extend(tree::conjuncts(argument));
                    } else {
                        arguments.push(argument);
                    }
                }
                *node = tree::bool_expr(operator, arguments);
                Ok(Some(types::BOOL))
            }
            Some(NodeEnum::NullTest(test)) => {
                self.optional(&mut test.arg, place)?;
                Ok(Some(types::BOOL))
            }
            Some(NodeEnum::BooleanTest(test)) => {
                self.optional(&mut test.arg, place)?;
                Ok(Some(types::BOOL))
            }
            Some(NodeEnum::TypeCast(cast)) => {
                tree::write_out_boolean(cast);
                let target = self.type_name(cast.type_name.as_mut())?;
                let row = cast.arg.as_deref().and_then(|arg| self.whole_row(arg));
                if let Some(parts) = cast.arg.as_deref_mut().and_then(parts_of_row) {
                    // Each is cast to the field at its place.
                    let mut kinds = Vec::with_capacity(parts.len());
                    for part in parts.iter_mut() {
                        kinds.push(self.expression(part, inner)?);
                    }
                    self.casts_of_row(parts, &kinds, target)?;
                    return Ok(target);
                }
                let mut source = self.optional(&mut cast.arg, inner)?;
                // To a row type fields go by their places, of which a hidden column is one.
                if target.is_some_and(|kind| self.catalog.types.get(&kind).is_some_and(|kind| kind.relation != 0))
                    && let Some((row, of)) = row.map(|id| self.typed_row(id)).transpose()?.flatten()
                {
                    (cast.arg, source) = (tree::boxed(row), Some(of));
                    self.changed = true;
                }
                // A literal is read as the type, and cast from none.
                if !cast.arg.as_deref().is_some_and(|arg| self.is_read_as(arg, target)) {
                    self.user_cast(source, target)?;
                }
                Ok(target)
            }
            Some(NodeEnum::CollateClause(collate)) => self.optional(&mut collate.arg, place),
            Some(NodeEnum::FuncCall(_)) => self.function_call(node, inner),
            Some(NodeEnum::SubLink(_)) => self.sub_link(node, place, conjunct),
            Some(NodeEnum::CaseExpr(case)) => {
                let compared = self.optional(&mut case.arg, inner)?;
                let mut results = Vec::with_capacity(case.args.len() + 1);
                for when in &mut case.args {
                    let Some(NodeEnum::CaseWhen(when)) = &mut when.node else { return Err(unsupported("CASE")) };
                    let with = self.optional(&mut when.expr, inner)?;
                    if case.arg.is_some() {
                        self.implied_operator("=", compared, with)?;
                    }
                    results.push(self.optional(&mut when.result, inner)?);
                }
                if let Some(other) = case.defresult.as_deref_mut() {
                    results.push(self.expression(other, inner)?);
                }
                self.may_become(&results, false)?;
                // Without ELSE it can be NULL.
                let other = case.defresult.is_none().then_some(Some(types::UNKNOWN));
                let mut all: Vec<Option<Oid>> = results.into_iter().chain(other).collect();
                // The server begins with ELSE.
                all.rotate_right(1);
                Ok(self.type_of_choice(&all, place))
            }
            Some(NodeEnum::CoalesceExpr(coalesce)) => self.same_type(&mut coalesce.args, inner),
            Some(NodeEnum::MinMaxExpr(minmax)) => self.same_type(&mut minmax.args, inner),
            Some(NodeEnum::AArrayExpr(array)) => {
                self.parameters_in_array(&array.elements);
                if place.condition && array.elements.len() > 1 {
                    array.elements.iter().for_each(|node| each_bare_parameter(node, &mut self.array_parameters));
                }
                let element = self.same_type(&mut array.elements, inner)?;
                Ok(element
                    .and_then(|element| self.catalog.types.get(&element))
                    .map(|t| t.array)
                    .filter(|oid| *oid != 0))
            }
            Some(NodeEnum::AIndirection(indirection)) => {
                if let Some(field) = self.field_of_row(indirection) {
                    *node = field;
                    self.changed = true;
                    return self.expression(node, place);
                }
                let arg = self.optional(&mut indirection.arg, inner)?;
                let (mut subscripts, mut slices, mut of) = (0, false, arg);
                for step in &mut indirection.indirection {
                    match &step.node {
                        Some(NodeEnum::AIndices(indices)) => {
                            subscripts += 1;
                            slices |= indices.is_slice;
                            self.children(step, inner)?;
                            of = None;
                        }
                        Some(NodeEnum::String(name)) => {
                            let field = of.and_then(|kind| self.field_of(kind, &name.sval));
                            match field {
                                Some(_) => self.field_may_go(&name.sval)?,
                                None => self.attribute(&name.sval, place)?,
                            }
                            of = field.flatten();
                        }
                        Some(NodeEnum::AStar(_)) => {}
                        _ => return Err(unsupported("a subscript")),
                    }
                }
                if subscripts == 0 && !is_several(node) {
                    return Ok(of);
                }
                let Some(NodeEnum::AIndirection(indirection)) = &node.node else { return Ok(None) };
                if subscripts < indirection.indirection.len() {
                    return Ok(None);
                }
                let of = arg.and_then(|oid| self.catalog.types.get(&oid)).filter(|of| of.element != 0);
                // A slice is an array. Of the vectors of the catalogs it is one of another type.
                Ok(if slices {
                    of.filter(|of| of.name.starts_with('_')).map(|of| of.oid)
                } else {
                    of.map(|of| of.element)
                })
            }
            Some(NodeEnum::SqlvalueFunction(value)) => Ok(type_of_value_function(value)),
            Some(NodeEnum::SetToDefault(_) | NodeEnum::CurrentOfExpr(_) | NodeEnum::MergeSupportFunc(_)) => Ok(None),
            Some(NodeEnum::SortBy(sort)) => {
                let kind = self.optional(&mut sort.node, Place { predicate: true, ..place })?;
                self.sort_operator(sort, kind)?;
                Ok(kind)
            }
            Some(NodeEnum::JsonFuncExpr(json)) => {
                let has_default = has_default(&json.on_empty, &json.on_error);
                let target = self.json_output(json.output.as_mut())?;
                if has_default && json.output.is_some() {
                    self.user_cast(None, target)?;
                }
                self.children(node, inner)
            }
            Some(NodeEnum::JsonParseExpr(json)) => {
                self.json_output(json.output.as_mut())?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonScalarExpr(json)) => {
                self.json_output(json.output.as_mut())?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonSerializeExpr(json)) => {
                self.json_output(json.output.as_mut())?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonObjectConstructor(json)) => {
                self.json_output(json.output.as_mut())?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonArrayConstructor(json)) => {
                self.json_output(json.output.as_mut())?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonObjectAgg(json)) => {
                let output = json.constructor.as_mut().and_then(|constructor| constructor.output.as_mut());
                self.json_output(output)?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonArrayAgg(json)) => {
                let output = json.constructor.as_mut().and_then(|constructor| constructor.output.as_mut());
                self.json_output(output)?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonArrayQueryConstructor(json)) => {
                self.json_output(json.output.as_mut())?;
                match json.query.as_deref_mut() {
                    Some(query) => self.query(query, Receiver::Query).map(|_| None),
                    None => Err(unsupported("JSON_ARRAY")),
                }
            }
            Some(NodeEnum::XmlSerialize(xml)) => {
                self.type_name(xml.type_name.as_mut())?;
                self.children(node, inner)
            }
            Some(NodeEnum::JsonTableColumn(column)) => {
                let target = self.type_name(column.type_name.as_mut())?;
                if has_default(&column.on_empty, &column.on_error) {
                    self.user_cast(None, target)?;
                }
                self.children(node, inner)
            }
            Some(NodeEnum::WindowDef(_)) => self.children(node, place),
            Some(NodeEnum::RowExpr(row)) => {
                self.write_out_rows(&mut row.args)?;
                self.children(node, inner)
            }
            Some(
                NodeEnum::XmlExpr(_)
                | NodeEnum::GroupingFunc(_)
                | NodeEnum::GroupingSet(_)
                | NodeEnum::NamedArgExpr(_)
                | NodeEnum::List(_)
                | NodeEnum::ResTarget(_)
                | NodeEnum::MultiAssignRef(_)
                | NodeEnum::JsonValueExpr(_)
                | NodeEnum::JsonArgument(_)
                | NodeEnum::JsonKeyValue(_)
                | NodeEnum::JsonIsPredicate(_)
                | NodeEnum::JsonTablePathSpec(_)
                | NodeEnum::RangeTableFuncCol(_)
                | NodeEnum::String(_)
                | NodeEnum::AIndices(_),
            ) => self.children(node, inner),
            Some(other) => Err(unsupported(&tree::kind(other))),
        }
    }

    fn children(&mut self, node: &mut Node, place: Place) -> Result<Option<Oid>, Denial> {
        match &mut node.node {
            Some(inner) => each_child(inner, &mut |child| self.expression(child, place).map(|_| ())).map(|()| None),
            None => Ok(None),
        }
    }

    fn optional(&mut self, node: &mut Option<Box<Node>>, place: Place) -> Result<Option<Oid>, Denial> {
        node.as_deref_mut().map_or(Ok(None), |node| self.expression(node, place))
    }

    fn same_type(&mut self, nodes: &mut [Node], place: Place) -> Result<Option<Oid>, Denial> {
        let all: Vec<Option<Oid>> =
            nodes.iter_mut().map(|node| self.expression(node, place)).collect::<Result<_, Denial>>()?;
        self.may_become(&all, false)?;
        Ok(self.type_of_choice(&all, place))
    }

    /// RETURNING of a JSON expression: its type. Whatever becomes JSON in it may be cast so.
    fn json_output(&mut self, output: Option<&mut pb::JsonOutput>) -> Result<Option<Oid>, Denial> {
        self.casts_to_json(&[None])?;
        output.map_or(Ok(None), |output| self.type_name(output.type_name.as_mut()))
    }

    /// A column, a whole row, or a `*`.
    fn column_ref(&mut self, node: &mut Node, place: Place) -> Result<Option<Oid>, Denial> {
        if let Some(names) = star_of(node) {
            // In an expression it is the row.
            let guarded = self.guarded_star(node);
            let items = self.star(node, &names, place)?;
            for id in &items {
                self.use_as_row(*id);
            }
            let row = match guarded {
                Some(id) => Some(self.masked_row(id)?),
                None => self.row_by_own_names(&items)?,
            };
            if let Some(row) = row {
                *node = row;
                self.changed = true;
            }
            return Ok(None);
        }
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return Ok(None) };
        let Some(names) = tree::strings(&reference.fields) else { return Err(unsupported("a column reference")) };
        let names = match names.as_slice() {
            [_, rest @ ..] if rest.len() == 3 => rest.to_vec(),
            _ => names,
        };
        let meaning = self.scopes.meaning(&names);
        let tied = self.tied(&names, &meaning)?;
        self.is_own_value(&meaning.columns, &meaning.whole)?;
        if meaning.is_empty() {
            if let Some(call) = self.unknown_column(&names, place)? {
                *node = call;
                self.changed = true;
            }
            return Ok(None);
        }
        let kind = match (meaning.columns.as_slice(), meaning.system, meaning.whole.as_slice()) {
            ([(_, column)], ..) if !meaning.uncertain => column.type_oid,
            (columns @ [_, ..], ..) if !meaning.uncertain => {
                self.merged_type(&columns.iter().map(|(_, column)| column).collect::<Vec<_>>())
            }
            ([], Some((_, name)), _) if !meaning.uncertain => type_of_system_column(name),
            // The row of a subquery has no type of its own.
            ([], None, [id]) if self.scopes.get(*id).and_then(|i| i.relation()).is_some_and(|r| r.replaced()) => {
                Some(types::RECORD)
            }
            ([], None, [id]) => self.type_of_row(*id),
            _ => None,
        };
        let mut bare = false;
        if let [_, .., name] = names.as_slice() {
            match meaning.columns.as_slice() {
                _ if meaning.uncertain => self.attribute(name, place)?,
                [] => {}
                // What stands for it has its columns by name, and fails without one.
                [(id, _)] if self.scopes.get(*id).and_then(Item::relation).is_some_and(RelationItem::replaced) => {}
                columns => match self.may_be_call_of(name, columns) {
                    // The only one whose columns can be meant: its name alone is no call.
                    Err(_) if self.is_alone(columns) => bare = true,
                    result => result?,
                },
            }
        }
        let location = reference.location;
        let apart = self.may_be_apart(&meaning).filter(|_| place.renames && location >= 0);
        self.use_meaning(&meaning, place)?;
        if let Some((id, number)) = apart {
            self.read_apart(id, number, location);
        }
        let kept = usize::from(meaning.whole.is_empty());
        if meaning.qualifier > 0 || kept == 0 {
            let ids = meaning.columns.iter().map(|(id, _)| *id).chain(meaning.system.map(|(id, _)| id));
            let ids: Vec<ItemId> = ids.chain(meaning.whole.iter().copied()).collect();
            self.qualify(node, &ids, kept)?;
        }
        if let Some(row) = self.row_by_own_names(&meaning.whole)? {
            *node = row;
            self.changed = true;
        }
        if let Some(tied) = tied {
            *node = tied;
            self.changed = true;
        }
        if let (true, Some(NodeEnum::ColumnRef(reference))) = (bare, &mut node.node) {
            let behind = reference.fields.len().saturating_sub(1);
            reference.fields.drain(..behind);
            self.changed = true;
        }
        self.replace_in_write(node, &meaning)?;
        Ok(kind)
    }

    /// A bare name beside a write's target, which stands there as it is, hidden columns and all: written with the item that it means.
    /// The server would find the target's column of the name, were the item's gone meanwhile, or never there.
    fn tied(&self, names: &[&str], meaning: &Meaning) -> Result<Option<Node>, Denial> {
        let [name] = names else { return Ok(None) };
        if !self.scopes.has_guarded_target() || meaning.is_empty() {
            return Ok(None);
        }
        let certain = !meaning.uncertain;
        let tied = match (meaning.columns.as_slice(), meaning.system, meaning.whole.as_slice()) {
            // What another one gains meanwhile is the client's own.
            ([(id, _)], ..) | ([], None, [id]) if certain && self.target(*id).is_some() => return Ok(None),
            // Whatever column the target has or gets, a row is none.
            ([], None, [id]) if certain => {
                self.scopes.alias_of(*id).map(|alias| tree::case(tree::boolean(true), tree::row_of(alias), None))
            }
            _ if !self.scopes.is_of_guarded_target(name) => return Ok(None),
            ([(id, _)], ..) if certain => self.scopes.alias_of(*id).map(|alias| tree::column(alias, name)),
            ([], Some((id, _)), _) if certain => self.scopes.alias_of(id).map(|alias| tree::column(alias, name)),
            // Without one of its sides the join would fail.
            ([_, _, ..], ..) if self.scopes.is_merged(name) => return Ok(None),
            _ => None,
        };
        let ambiguous = || {
            Denial::new(Reason::UnknownColumn, format!("column reference \"{name}\" is ambiguous"))
                .sqlstate("42702")
                .object(*name)
                .hint("Write it with the name of what it is a column of, as in `alias.column`.")
        };
        tied.map(Some).ok_or_else(ambiguous)
    }

    /// Refuses what `excluded` has that the client did not give: the server computed it, or the owner's trigger.
    fn is_own_value(&self, columns: &[(ItemId, Column)], whole: &[ItemId]) -> Result<(), Denial> {
        let is_withheld = |(id, column): &&(ItemId, Column)| {
            self.excluded.get(id).zip(column.name.as_ref()).is_some_and(|(withheld, name)| withheld.contains(name))
        };
        let column = columns.iter().find(is_withheld).map(|(_, column)| column.name.as_deref().unwrap_or("*"));
        let whole = whole.iter().any(|id| self.excluded.contains_key(id)).then_some("*");
        let Some(name) = column.or(whole) else { return Ok(()) };
        let message = format!("permission denied for excluded.{name}: its value may not be one that you gave");
        Err(Denial::new(Reason::MaskedWrite, message).object(format!("excluded.{name}")).hint(
            "Name the columns that the INSERT gives values for. What a trigger sets from masked columns can't be read.",
        ))
    }

    /// A `*`: marks all of what it means, and tells which items these are.
    pub(crate) fn star(&mut self, node: &mut Node, names: &[String], place: Place) -> Result<Vec<ItemId>, Denial> {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let items = self.scopes.star(&names);
        if items.is_empty() && self.scopes.has_guarded_target() {
            let name = names.join(".");
            return Err(Denial::new(
                Reason::UnknownRelation,
                format!("missing FROM-clause entry for table \"{name}\""),
            )
            .sqlstate("42P01")
            .object(name));
        }
        self.is_own_value(&[], &items)?;
        for id in &items {
            let place = self.seen_from(*id, place);
            self.use_whole(*id, place)?;
        }
        if !names.is_empty() {
            self.qualify(node, &items, 1)?;
        }
        Ok(items)
    }

    /// The item whose row a reference means.
    pub(super) fn whole_row(&self, node: &Node) -> Option<ItemId> {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return None };
        let items = match star_of(node) {
            Some(names) => self.scopes.star(&names.iter().map(|name| &**name).collect::<Vec<_>>()),
            None => {
                let meaning = self.scopes.meaning(&tree::strings(&reference.fields)?);
                if meaning.columns.is_empty() && meaning.system.is_none() { meaning.whole } else { Vec::new() }
            }
        };
        if let [item] = items.as_slice() { Some(*item) } else { None }
    }

    fn use_as_row(&mut self, id: ItemId) {
        if let Some(relation) = self.scopes.items.get_mut(id).and_then(|item| item.relation_mut()) {
            relation.as_row = true;
        }
    }

    /// Writes a reference to an item by the name that it has in the text that is sent, where that isn't what the client
    /// wrote; the last `kept` of the reference's names are the column's, or the star.
    fn qualify(&mut self, node: &mut Node, ids: &[ItemId], kept: usize) -> Result<(), Denial> {
        let items: Vec<&Item> = ids.iter().filter_map(|id| self.scopes.get(*id)).collect();
        // Also one whose columns were named: `schema.relation.column` means it no more.
        let is_view = |item: &Item| {
            item.relation().is_some_and(|relation| relation.replaced() || !item.aliased && relation.is_named())
        };
        let alias = match items.as_slice() {
            [item] if item.renamed() || is_view(item) => item.alias.clone(),
            [_, _, ..] if items.iter().any(|item| item.renamed()) => {
                let name = items.first().and_then(|item| item.known_as()).unwrap_or_default();
                return Err(Denial::new(Reason::UnknownColumn, format!("table reference \"{name}\" is ambiguous"))
                    .sqlstate("42P09")
                    .object(name));
            }
            _ => None,
        };
        if let (Some(alias), Some(NodeEnum::ColumnRef(reference))) = (alias, &mut node.node) {
            let qualifiers = reference.fields.len().saturating_sub(kept);
            if !matches!(reference.fields.get(..qualifiers), Some([one]) if tree::string_of(one) == Some(&alias)) {
                reference.fields.splice(..qualifiers, [tree::string(&*alias)]);
                self.changed = true;
            }
        }
        Ok(())
    }

    /// A name that is no column's: the call to put in its place, if it is one on the row of a write's target.
    fn unknown_column(&mut self, names: &[&str], place: Place) -> Result<Option<Node>, Denial> {
        // `item.f` can be the function call f(item).
        if let [_, .., name] = names {
            self.attribute(name, place)?;
        }
        if let [.., item, name] = names
            && let whole = self.scopes.star(&[item])
            && !whole.is_empty()
        {
            let functions = self.catalog.functions_named(&self.session.search_path, None, name);
            let callable: Vec<_> = functions.into_iter().filter(|f| f.arguments.len() == 1).cloned().collect();
            if !callable.is_empty() {
                self.may_raise |= !place.after_filter || place.sorts;
                let place = Place { leaky: true, ..place };
                for id in &whole {
                    let place = self.seen_from(*id, place);
                    self.use_whole(*id, place)?;
                }
                let [id] = whole.as_slice() else { return Ok(None) };
                // Other functions are no attributes of a row.
                let of_row = |kind: &Oid| self.catalog.types.get(kind).is_some_and(|kind| kind.relation != 0);
                let takes_row = callable.iter().any(|function| function.arguments.iter().all(of_row));
                let Some((row, _)) = self.typed_row(*id)?.filter(|_| takes_row || self.is_guarded_target(*id)) else {
                    return Ok(None);
                };
                let mut call = tree::call(name, vec![row]);
                if let Some(NodeEnum::FuncCall(call)) = &mut call.node {
                    call.funcname = vec![tree::string(*name)];
                }
                return Ok(Some(call));
            }
        }
        // A column added lately is looked for before the server is asked.
        self.missing_columns.extend(names.last().map(|name| (Some("column".to_owned()), (*name).to_owned())));
        if self.guarded {
            let name = names.join(".");
            return Err(Denial::new(Reason::UnknownColumn, format!("column {name} does not exist"))
                .sqlstate("42703")
                .object(name));
        }
        // The server says so itself, and better.
        Ok(None)
    }

    /// The place of a reference to an item, which may be one of a query around the subquery that it stands in.
    fn seen_from(&mut self, id: ItemId, place: Place) -> Place {
        self.outermost = self.outermost.min(self.scopes.depth(id));
        let here = self.scopes.is_here(id);
        Place {
            from_below: self.condition_depth > 0 && !here,
            after_own_filter: place.after_own_filter && here,
            ..place
        }
    }

    /// The column of a filtered relation of this level that a reference means, if it stands behind no barrier as yet.
    fn may_be_apart(&self, meaning: &Meaning) -> Option<(ItemId, i16)> {
        let [(id, column)] = meaning.columns.as_slice() else { return None };
        let [(origin, number)] = column.origins.as_slice() else { return None };
        let item = self.scopes.get(*id)?.relation()?;
        let here = self.scopes.is_here(*id);
        let is_free = item.filtered() && !item.write_target && !item.barrier.contains(number);
        (here && origin == id && !meaning.uncertain && is_free && !self.is_view_value(*id, *number))
            .then_some((*id, *number))
    }

    /// Has a column, if it came to stand behind the barrier by the reference at this place, stand there for that alone.
    fn read_apart(&mut self, id: ItemId, number: i16, location: i32) {
        let Some(item) = self.scopes.items.get_mut(id).and_then(|item| item.relation_mut()) else { return };
        if item.barrier.remove(&number) {
            item.apart.insert(number);
            self.apart.insert(location, (id, number));
        }
    }

    /// Marks what a reference means as used.
    fn use_meaning(&mut self, meaning: &Meaning, place: Place) -> Result<(), Denial> {
        for (id, column) in &meaning.columns {
            let place = self.seen_from(*id, place);
            self.mark(std::slice::from_ref(column), place)?;
        }
        for id in &meaning.whole {
            let place = self.seen_from(*id, place);
            self.use_whole(*id, place)?;
            self.use_as_row(*id);
        }
        if let Some((id, name)) = meaning.system {
            self.tells_no_place(id, name)?;
            let place = self.seen_from(id, place);
            // As a column of a subquery it may stand in any condition around.
            let is_compared = place.leaky || place.condition || self.scopes.levels.len() > 1;
            if self.scopes.is_around(id) {
                self.below.push(id);
            }
            if let Some(relation) = self.scopes.items.get_mut(id).and_then(|item| item.relation_mut()) {
                relation.system_columns.insert(name);
                if relation.filtered() && is_compared && !place.after_filter {
                    relation.system_barrier = true;
                    relation.fenced |= place.from_below || relation.left_out;
                }
            }
        }
        Ok(())
    }

    /// Refuses what tells in which partition a row is, where that tells what is masked.
    fn tells_no_place(&self, id: ItemId, name: &str) -> Result<(), Denial> {
        let item = self.scopes.get(id).and_then(|item| item.relation());
        match item.filter(|item| item.view.as_ref().is_some_and(|view| view.place_tells)) {
            Some(item) if PLACE_COLUMNS.contains(&name) => {
                let relation = item.relation.qualified_name();
                let message = format!("{name} of {relation} tells in which partition a row is, and so what is masked");
                Err(Denial::new(Reason::SystemRelation, message)
                    .hint("Name the row by unmasked columns of its key.")
                    .object(format!("{relation}.{name}")))
            }
            _ => Ok(()),
        }
    }

    /// No condition around these may come before their filters.
    pub(super) fn fence(&mut self, items: &[ItemId]) {
        for id in items {
            if self.is_guarded(*id, None) {
                continue;
            }
            if let Some(relation) = self.scopes.items.get_mut(*id).and_then(|item| item.relation_mut()) {
                relation.fenced = true;
            }
        }
    }

    /// Marks columns as used where they come from.
    pub(crate) fn mark(&mut self, columns: &[Column], place: Place) -> Result<(), Denial> {
        for column in columns {
            // It may be computed anew where it is tried.
            if place.condition && !place.after_filter {
                self.fence(&column.fences);
            } else {
                self.tried_later.extend(&column.fences);
            }
            let sealed = column.sealed && place.in_call && !place.predicate;
            for (id, number) in &column.origins {
                // What shows it may belong to this query, and it to one around.
                let around = self.scopes.is_around(*id);
                let place = Place {
                    after_own_filter: (place.after_own_filter || sealed) && !around,
                    from_below: place.from_below || self.condition_depth > 0 && around,
                    ..place
                };
                self.use_column(*id, *number, place)?;
            }
        }
        Ok(())
    }

    /// Marks every visible column of an item as used.
    pub(crate) fn use_whole(&mut self, id: ItemId, place: Place) -> Result<(), Denial> {
        if let Some(relation) = self.scopes.items.get_mut(id).and_then(|item| item.relation_mut()) {
            relation.whole = true;
        }
        let (columns, _) = self.scopes.columns_of(id);
        self.mark(&columns, place)
    }

    pub(super) fn use_column(&mut self, id: ItemId, number: i16, place: Place) -> Result<(), Denial> {
        let around = self.scopes.is_around(id);
        let is_value = self.is_view_value(id, number);
        self.may_raise |= is_value && (!place.after_filter || place.sorts);
        let is_late = (place.leaky || is_value) && !place.after_filter && !place.after_own_filter;
        let is_guarded = is_late && self.is_guarded(id, Some((number, place)));
        let Some(item) = self.scopes.items.get_mut(id).and_then(|item| item.relation_mut()) else { return Ok(()) };
        item.used.insert(number);
        self.leaky_target |= item.write_target && (place.leaky || is_value);
        if place.condition {
            item.compared.insert(number);
        }
        let Some(view) = item.view.clone() else { return Ok(()) };
        self.filtered_reads += usize::from(view.filter.is_some());
        if view.filter.is_some() && around {
            self.below.push(id);
        }
        if is_guarded {
            // It is read for rows inside only.
        } else if view.filter.is_some() && is_late {
            item.barrier.insert(number);
            // What the server takes a subquery to cost does not hold what it reads from around it.
            item.fenced |= place.from_below || item.left_out;
        } else {
            item.bare.insert(number);
        }
        let Some(ColumnView::Masked(mask)) = view.columns.get(&number) else { return Ok(()) };
        let Some(column) = item.relation.column_at(number) else { return Ok(()) };
        let name: Arc<str> = Arc::from(format!("{}.{}.{}", item.relation.schema, item.relation.name, column.name));
        if !self.out.masked_columns.contains(&name) {
            self.out.masked_columns.push(name.clone());
        }
        self.masked_reads.push((id, number));
        if place.predicate {
            match mask.on_predicate {
                OnPredicate::Refuse => {
                    return Err(Denial::new(
                        Reason::MaskedPredicate,
                        format!("{name} is masked for you and may not be compared, joined or sorted by"),
                    )
                    .hint("The mask says `onPredicate: Refuse`: a condition on the mask would not find what it looks for.")
                    .object(&*name));
                }
                OnPredicate::Notice => self.notice(
                    MaskedUse::Predicate,
                    &name,
                    format!(
                        "{name} is masked ({}): this condition compares the mask, not the stored value",
                        mask.kind.as_str()
                    ),
                ),
            }
        }
        Ok(())
    }

    /// Adds a NOTICE that the session raises once for each column.
    pub(crate) fn notice(&mut self, about: MaskedUse, column: &str, text: String) {
        if !self.out.notices.iter().any(|known| known.about == about && &*known.column == column) {
            self.out.notices.push(Notice { about, column: Arc::from(column), text: Arc::from(text) });
        }
    }

    /// `(item).field…` as `item.field…`, where a record stands for the item's row: a write's target, or a relation whose
    /// alias renames its columns. The server can't tell a record's fields.
    fn field_of_row(&self, indirection: &pb::AIndirection) -> Option<Node> {
        let [field, rest @ ..] = indirection.indirection.as_slice() else { return None };
        let row = indirection.arg.as_deref()?;
        let Some(NodeEnum::ColumnRef(reference)) = &row.node else { return None };
        tree::string_of(field)?;
        let mut column = reference.clone();
        let items = if let Some(names) = star_of(row) {
            column.fields.pop();
            self.scopes.star(&names.iter().map(|name| &**name).collect::<Vec<_>>())
        } else {
            let meaning = self.scopes.meaning(&tree::strings(&reference.fields)?);
            if !meaning.columns.is_empty() {
                return None;
            }
            meaning.whole
        };
        let is_written_out = |id: &ItemId| self.is_guarded_target(*id) || self.renamed_columns(*id).is_some();
        let has_column = |id: &ItemId| {
            let (columns, _) = self.scopes.columns_of(*id);
            tree::string_of(field).is_some_and(|name| columns.iter().any(|column| column.name.as_deref() == Some(name)))
        };
        if !items.iter().any(|id| is_written_out(id) || self.scopes.has_guarded_target() && has_column(id)) {
            return None;
        }
        column.fields.push(field.clone());
        let column = tree::node(NodeEnum::ColumnRef(column));
        if rest.is_empty() {
            return Some(column);
        }
        let indirection = pb::AIndirection { arg: tree::boxed(column), indirection: rest.to_vec() };
        Some(tree::node(NodeEnum::AIndirection(Box::new(indirection))))
    }

    /// In a write the target can't be a view: a masked column of it is replaced where it is read.
    fn replace_in_write(&mut self, node: &mut Node, meaning: &Meaning) -> Result<(), Denial> {
        let mut guarded = meaning.columns.iter().filter(|(id, column)| {
            column.origins.iter().any(|(origin, _)| origin == id) && self.is_guarded_target(*id)
        });
        if let Some((id, column)) = guarded.next() {
            if meaning.columns.len() > 1 || meaning.uncertain {
                let name = column.name.as_deref().unwrap_or("?");
                return Err(Denial::new(Reason::UnknownColumn, format!("column reference \"{name}\" is ambiguous"))
                    .sqlstate("42702"));
            }
            let masked = column.origins.first().and_then(|(_, number)| self.masked(*id, *number));
            if let Some((mask, alias)) = masked {
                *node = instantiate(&mask.expression, &alias);
                self.changed = true;
            }
            return Ok(());
        }
        if let Some(id) = meaning.whole.iter().find(|id| self.is_guarded_target(**id)) {
            *node = self.masked_row(*id)?;
            self.changed = true;
        }
        Ok(())
    }

    /// An operator and its operands. A comparison that can neither raise nor show a value leaves its columns bare.
    fn operator_expression(&mut self, node: &mut Node, place: Place) -> Result<Option<Oid>, Denial> {
        let harmless = self.is_harmless_comparison(node);
        let Some(NodeEnum::AExpr(expr)) = &mut node.node else { return Ok(None) };
        let inner = if harmless { place } else { Place { leaky: true, ..place } };
        let compares = tree::strings(&expr.name).is_some_and(|names| names.iter().all(|name| COMPARES.contains(name)));
        let [parameter, other] = [&expr.lexpr, &expr.rexpr].map(|side| side.as_deref().and_then(bare_parameter));
        let left = match expr.lexpr.as_deref_mut() {
            Some(left) => Some(self.compared(left, inner)?),
            None => None,
        };
        let kind = pb::AExprKind::try_from(expr.kind).unwrap_or(pb::AExprKind::Undefined);
        if let Some(operators) = of_each_item(kind)
            && let Some(NodeEnum::List(list)) = expr.rexpr.as_deref_mut().and_then(|right| right.node.as_mut())
        {
            // The items of a list have one type together: that of the value beside them, but for what has one of its own.
            let has_others = || list.items.iter().filter(|item| !self.is_of_its_place(item)).nth(1).is_some();
            let apart = self.policy.row_filters && (kind != pb::AExprKind::AexprIn || !has_others());
            let mut decided = BTreeSet::new();
            for item in &mut list.items {
                let other = bare_parameter(item).filter(|_| apart);
                let item = self.compared(item, inner)?;
                if let Some((_, location)) = other {
                    self.parameter_beside(location, left.as_ref().and_then(Compared::one));
                }
                // Long lists are of one type.
                if matches!(&item, Compared::One(kind) if !decided.insert(*kind)) {
                    continue;
                }
                for operator in operators {
                    self.decide_comparison(&[tree::string(*operator)], left.as_ref(), &item)?;
                }
            }
            return Ok(Some(types::BOOL));
        }
        let right = match expr.rexpr.as_deref_mut() {
            Some(right) => self.compared(right, inner)?,
            None => Compared::One(None),
        };
        // By ANY or ALL it runs on the elements; what is not known to be an array may hold anything.
        let right = match (kind, right) {
            (pb::AExprKind::AexprOpAny | pb::AExprKind::AexprOpAll, Compared::One(Some(oid))) => {
                let is_literal = oid == types::UNKNOWN;
                Compared::One(if is_literal { Some(oid) } else { self.catalog.element_type(oid) })
            }
            (_, right) => right,
        };
        if compares {
            let left = left.as_ref().and_then(Compared::one);
            for (parameter, kind) in [(parameter, right.one()), (other, left)] {
                if let Some((_, location)) = parameter {
                    self.parameter_beside(location, kind);
                }
            }
        }
        let result = self.decide_comparison(&expr.name, left.as_ref(), &right)?;
        match kind {
            pb::AExprKind::AexprOp => Ok(result),
            pb::AExprKind::AexprNullif => {
                Ok(self.type_of_nullif(&expr.name, left.and_then(|left| left.one()), right.one()))
            }
            pb::AExprKind::Undefined => Err(unsupported("an operator")),
            pb::AExprKind::AexprOpAny
            | pb::AExprKind::AexprOpAll
            | pb::AExprKind::AexprDistinct
            | pb::AExprKind::AexprNotDistinct
            | pb::AExprKind::AexprIn
            | pb::AExprKind::AexprLike
            | pb::AExprKind::AexprIlike
            | pb::AExprKind::AexprSimilar
            | pb::AExprKind::AexprBetween
            | pb::AExprKind::AexprNotBetween
            | pb::AExprKind::AexprBetweenSym
            | pb::AExprKind::AexprNotBetweenSym => Ok(Some(types::BOOL)),
        }
    }

    /// NULLIF gives its first value as `=` took it.
    fn type_of_nullif(&self, names: &[Node], left: Option<Oid>, right: Option<Oid>) -> Option<Oid> {
        let (schema, name) = tree::schema_and_name(names)?;
        let operator =
            self.catalog.operator(&self.session.search_path, schema, name, Some(Some(left?)), Some(right?)).one()?;
        if is_polymorphic(operator.left) { left.filter(|left| *left != types::UNKNOWN) } else { Some(operator.left) }
    }

    /// The type that the server gives one of several values, in the order in which it looks at them.
    fn type_of_choice(&mut self, kinds: &[Option<Oid>], place: Place) -> Option<Oid> {
        let kind = kinds.iter().copied().reduce(|one, other| self.either_type(one, other)).flatten();
        // One of several may be cast to another.
        self.may_raise |= kind.is_none() && (!place.after_filter || place.sorts);
        let common = || self.catalog.common_type(&kinds.iter().copied().collect::<Option<Vec<Oid>>>()?);
        kind.or_else(common).map(text_if_untyped)
    }

    /// Whether what is cast to a type is read as that, and cast from none: a literal, a parameter without a type of its own, and, of a type
    /// of arrays, an array of literals.
    pub(super) fn is_read_as(&self, node: &Node, target: Option<Oid>) -> bool {
        match &node.node {
            Some(NodeEnum::ParamRef(parameter)) => {
                !self.parameters.is_declared(parameter.number)
                    && !matches!(self.parameters.kind(parameter.number), ParameterType::OfAPlace)
            }
            _ if is_open_array(node) => {
                target.is_some_and(|target| self.catalog.element_type(self.catalog.base_type(target)).is_some())
            }
            _ => is_open_literal(node),
        }
    }

    /// The type of what can be either. Beside anything else, and be it a literal, a domain is its base type.
    fn either_type(&self, one: Option<Oid>, other: Option<Oid>) -> Option<Oid> {
        match (one?, other?) {
            (one, other) if one == other => Some(one),
            (types::UNKNOWN, one) | (one, types::UNKNOWN) => Some(self.catalog.base_type(one)),
            (one, other) => Some(self.catalog.base_type(one)).filter(|base| *base == self.catalog.base_type(other)),
        }
    }

    /// Walks an operand; of a row that is written out each part is compared by itself.
    pub(super) fn compared(&mut self, node: &mut Node, place: Place) -> Result<Compared, Denial> {
        match &mut node.node {
            Some(NodeEnum::RowExpr(row)) => {
                let place = Place { leaky: true, ..place };
                // Then it has more parts than are written.
                let several = row.args.iter().any(is_several);
                let parts = row.args.iter_mut().map(|part| self.expression(part, place));
                let parts = parts.collect::<Result<_, _>>()?;
                Ok(if several { Compared::One(None) } else { Compared::Row(parts) })
            }
            _ => self.expression(node, place).map(Compared::One),
        }
    }

    /// Decides what an operator runs on these operands; tells the result's type where it is certain.
    fn decide_comparison(
        &mut self,
        names: &[Node],
        left: Option<&Compared>,
        right: &Compared,
    ) -> Result<Option<Oid>, Denial> {
        match (left, right) {
            (Some(Compared::Row(left)), Compared::Row(right)) => {
                for (left, right) in left.iter().zip(right) {
                    self.operator_result(names, Some(*left), *right)?;
                }
                Ok(Some(types::BOOL))
            }
            (left, right) => self.operator_result(names, left.map(Compared::one), right.one()),
        }
    }

    /// Decides an operator like a call of its function; tells the result's type where it is certain.
    pub(crate) fn operator_result(
        &mut self,
        names: &[Node],
        left: Option<Option<Oid>>,
        right: Option<Oid>,
    ) -> Result<Option<Oid>, Denial> {
        if names.is_empty() {
            return Ok(None);
        }
        let (schema, name) = tree::schema_and_name(names).ok_or_else(|| unsupported("an operator's name"))?;
        self.may_become(&[left.unwrap_or(right), right], false)?;
        let choice = self.catalog.operator(&self.session.search_path, schema, name, left, right);
        // Where none fits the types as they are known here, any of that name may be the one that the server takes.
        let candidates = match choice.all() {
            [] => self.catalog.operators_named(&self.session.search_path, schema, name),
            found => found.to_vec(),
        };
        let result = choice.one().and_then(|operator| match left {
            Some(left) => self.catalog.result_type(&[operator.left, operator.right], operator.result, &[left, right]),
            None => self.catalog.result_type(&[operator.right], operator.result, &[right]),
        });
        let own = |schema: &str| schema == "pg_catalog";
        let user: Vec<_> = candidates
            .iter()
            .filter(|operator| !own(&operator.schema))
            .map(|o| (o.function, o.schema.clone()))
            .collect();
        let mixed = candidates.iter().any(|operator| own(&operator.schema));
        let casts = !self.catalog.user_casts.is_empty();
        let of_server = candidates.iter().filter(|operator| casts && own(&operator.schema));
        let of_server: BTreeSet<Oid> = of_server.map(|operator| operator.function).collect();
        for (function, of) in user {
            let allowed = match self.catalog.function(function).cloned() {
                Some(function) => self.may_call(&function, &[]),
                None => Err(Denial::new(Reason::Operator, "unknown operator")),
            };
            if allowed.is_err() {
                let denial = Denial::new(Reason::Operator, format!("the operator {of}.{name} runs a function that no rule allows"))
                    .hint(if mixed {
                        "Cast the operands so that it is clear which operator is meant, or add its function to a rule's `functions`."
                    } else {
                        "Add its function to a rule's `functions`."
                    });
                return Err(denial);
            }
        }
        for function in of_server.into_iter().filter_map(|oid| self.catalog.function(oid)) {
            self.casts_to_text(function, &[left.flatten(), right])?;
        }
        Ok(result)
    }

    /// Decides an operator that the syntax implies, and that the server looks up by the search_path.
    pub(crate) fn implied_operator(&mut self, name: &str, left: Option<Oid>, right: Option<Oid>) -> Result<(), Denial> {
        self.operator_result(&[tree::string(name)], Some(left), right).map(|_| ())
    }

    /// Conditions of a WHERE that bind one column by a harmless comparison: they can stand inside the inline view.
    /// What the server reads before the condition tells the types of its parameters: one that stands there, too, is not to come first.
    pub(crate) fn push_conditions<'n>(&mut self, condition: &Node, before: impl Iterator<Item = &'n Node>) {
        if !self.reads_filtered() {
            return;
        }
        let mut known = tree::Parameters::default();
        before.for_each(|node| known.extend(tree::Parameters::of(node)));
        let mut found: Vec<(ItemId, Node)> = Vec::new();
        each_conjunct(condition, &mut |conjunct| {
            let parameters = tree::Parameters::of(conjunct);
            let comes_first = !known.share(&parameters);
            known.extend(parameters);
            if !comes_first || !self.is_harmless_comparison(conjunct) || !is_strict(conjunct) {
                return;
            }
            if self.is_equal_unsteadily(conjunct) {
                return;
            }
            let late = self.late_casts(conjunct);
            let is_tried_in_vain = late.iter().any(|cast| self.casts_by_settings(cast)) && self.policy.costly_filters;
            if self.has_unsteady(conjunct) || is_tried_in_vain || self.nullable > 0 && !late.is_empty() {
                return;
            }
            let Some(NodeEnum::AExpr(expr)) = &conjunct.node else { return };
            let sides = [expr.lexpr.as_deref(), expr.rexpr.as_deref()];
            // What is compared with a column of anything else holds for rows of both only.
            let is_column = |node: &NodeEnum| matches!(node, NodeEnum::ColumnRef(_));
            let reads_other = |side: &&Node| self.plain_column(side).is_none() && tree::holds(side, &is_column);
            if sides.iter().flatten().any(reads_other) {
                return;
            }
            let mut columns = sides.into_iter().flatten().filter_map(|side| self.plain_column(side));
            if let (Some((id, name)), None) = (columns.next(), columns.next()) {
                let mut inside = conjunct.clone();
                if let Some(NodeEnum::AExpr(expr)) = &mut inside.node {
                    for side in [expr.lexpr.as_deref_mut(), expr.rexpr.as_deref_mut()].into_iter().flatten() {
                        if matches!(side.node, Some(NodeEnum::ColumnRef(_))) {
                            *side = tree::column(crate::decide::bound::ROW, &name);
                        }
                    }
                }
                found.push((id, inside));
            }
        });
        for (id, condition) in found {
            if let Some(relation) = self.scopes.items.get_mut(id).and_then(|item| item.relation_mut()) {
                relation.pushed.push(condition);
            }
        }
    }

    /// What a comparison takes beside columns that is computed.
    fn computed_values(&self, node: &Node) -> Vec<Node> {
        let Some(NodeEnum::AExpr(expr)) = &node.node else { return Vec::new() };
        tree::operands(expr).filter(|side| !self.is_given(side) && self.is_apart_from_rows(side)).cloned().collect()
    }

    /// Whether a relation of the statement has a filter.
    pub(super) fn filters_rows(&self) -> bool {
        self.scopes.items.iter().filter_map(Item::relation).any(RelationItem::filtered)
    }

    /// Whether a relation of this level has a filter.
    fn reads_filtered(&self) -> bool {
        let items = self.scopes.levels.last().into_iter().flat_map(|level| &level.items);
        items.filter_map(|id| self.scopes.get(*id)?.relation()).any(RelationItem::filtered)
    }

    /// The item and real name of a bare reference to an unmasked column of a filtered relation of this level.
    fn plain_column(&self, node: &Node) -> Option<(ItemId, String)> {
        let Some(NodeEnum::ColumnRef(reference)) = &node.node else { return None };
        let names = tree::strings(&reference.fields)?;
        let meaning = self.scopes.meaning(&names);
        let [(id, column)] = meaning.columns.as_slice() else { return None };
        let [(origin, number)] = column.origins.as_slice() else { return None };
        let here = self.scopes.is_here(*id);
        let item = self.scopes.get(*id)?.relation()?;
        let view = item.view.as_ref()?;
        let plain = view.filter.is_some() && !view.columns.contains_key(number) && !item.write_target;
        (here && origin == id && plain && !meaning.uncertain)
            .then(|| item.relation.column_at(*number).map(|column| (*id, column.name.to_string())))
            .flatten()
    }

    /// The type that a name means; a type that isn't known is refused, its input function can't be decided.
    pub(crate) fn type_name(&mut self, name: Option<&mut pb::TypeName>) -> Result<Option<Oid>, Denial> {
        let Some(name) = name else { return Ok(None) };
        let mut typmods = name.typmods.clone();
        for modifier in &mut typmods {
            // Numbers and bare words only: anything else would run as an expression.
            match &modifier.node {
                Some(NodeEnum::AConst(_)) => {}
                Some(NodeEnum::ColumnRef(_) | NodeEnum::String(_)) => {}
                _ => return Err(unsupported("a type modifier")),
            }
        }
        match self.meant_type(Some(&*name)) {
            Some(found) => {
                let (oid, schema) = (found.oid, Arc::clone(&found.schema));
                // A bare name that could mean another type is written out, as that of a relation is.
                if let [bare] = name.names.as_slice()
                    && tree::string_of(bare).is_some_and(|bare| self.catalog.names_types(bare))
                    && &*schema != PG_CATALOG
                {
                    name.names.insert(0, tree::string(&*schema));
                    self.changed = true;
                }
                self.may_make(oid)?;
                Ok(Some(oid))
            }
            None => {
                let parts = tree::strings(&name.names).unwrap_or_default();
                let last = parts.last().copied().unwrap_or_default();
                // A row of what this session made: of which types its columns are, was decided then.
                let made = self.session.overlay.iter().find(|relation| *relation.name == *last).cloned();
                if let Some(made) = made.filter(|_| !matches!(self.doubt_of(last), Some(Doubt::Gone | Doubt::Turned))) {
                    made.columns.iter().try_for_each(|column| self.may_make(column.type_oid))?;
                    let is_row = name.array_bounds.is_empty() && made.row_type != 0;
                    return Ok(is_row.then_some(made.row_type));
                }
                let in_doubt = self.doubt_of(last).is_some();
                // Nobody else sees it, so it can only have been made in this transaction. If it wasn't, the server says so.
                let made_by_ddl = self.session.looked && self.policy.allows(Verb::Ddl).is_ok();
                if in_doubt || made_by_ddl {
                    let may_be_made = if self.is_new_type(last) { Ok(()) } else { self.may_make_any() };
                    if in_doubt || may_be_made.is_ok() {
                        return may_be_made.map(|()| None);
                    }
                }
                if !parts.is_empty() {
                    self.unknown.push((None, last.to_owned()));
                }
                Err(Denial::new(Reason::Operator, format!("type \"{}\" does not exist", parts.join(".")))
                    .sqlstate("42704"))
            }
        }
    }

    /// Who makes a value of a type calls what CHECKs of domains call on it.
    pub(super) fn may_make(&mut self, kind: Oid) -> Result<(), Denial> {
        self.catalog.type_checks.get(&kind).map_or(Ok(()), |functions| self.may_call_all(functions))
    }

    /// A type that only the server will know: any that has such CHECKs may be meant.
    pub(super) fn may_make_any(&mut self) -> Result<(), Denial> {
        self.catalog.type_checks.values().try_for_each(|functions| self.may_call_all(functions))
    }

    /// What has no type of its own, a literal or a parameter, becomes a value of the type that it stands beside: of a
    /// domain's base type, but where a function takes its types from its arguments, of the domain.
    pub(super) fn may_become(&mut self, kinds: &[Option<Oid>], domains: bool) -> Result<(), Denial> {
        let is_untyped = |kind: &Option<Oid>| kind.is_none_or(|kind| kind == types::UNKNOWN);
        if self.catalog.type_checks.is_empty() || !kinds.iter().any(is_untyped) {
            return Ok(());
        }
        let is_domain = |kind: &Oid| self.catalog.types.get(kind).is_some_and(|of| of.kind == 'd');
        let made: Vec<Oid> = kinds.iter().flatten().copied().filter(|kind| domains || !is_domain(kind)).collect();
        made.into_iter().try_for_each(|kind| self.may_make(kind))
    }

    fn may_call_all(&mut self, functions: &BTreeSet<Oid>) -> Result<(), Denial> {
        functions.iter().try_for_each(|oid| match self.catalog.function(*oid) {
            Some(function) => self.may_call(function, &[]),
            None => Err(Denial::new(Reason::Function, "a CHECK of a domain calls a function that is not known")),
        })
    }

    fn function_call(&mut self, node: &mut Node, place: Place) -> Result<Option<Oid>, Denial> {
        let Some(NodeEnum::FuncCall(call)) = &mut node.node else { return Ok(None) };
        let before = self.filtered_reads;
        // An aggregate's rows have passed all conditions of its query, and a query that has one becomes no part of another.
        let place =
            Place { in_call: true, after_own_filter: place.after_own_filter || self.calls_aggregate(call), ..place };
        let takes_rows = call.args.iter().any(|argument| self.whole_row(argument).is_some())
            && self.can_only_mean(call, |function| &*function.schema != "pg_catalog");
        let sorts = Place { sorts: true, ..place };
        let of_arguments = if call.agg_distinct { sorts } else { place };
        let mut arguments = Vec::with_capacity(call.args.len());
        let makes_json = call.funcname.last().and_then(tree::string_of).is_some_and(|name| self.may_cast_to_json(name));
        // Of which types the arguments, or the columns of what is one as a row, are.
        let mut held = Vec::new();
        for argument in &mut call.args {
            let row = if takes_rows || makes_json { self.whole_row(argument) } else { None };
            let mut kind = self.expression(argument, of_arguments)?;
            if makes_json {
                match row.map(|id| self.scopes.columns_of(id)) {
                    Some((columns, true)) => held.extend(columns.iter().map(|column| column.type_oid)),
                    _ => held.push(kind),
                }
            }
            // The server's own functions take any record.
            if let Some((row, of)) = row.filter(|_| takes_rows).map(|id| self.typed_row(id)).transpose()?.flatten() {
                (*argument, kind) = (row, Some(of));
                self.changed = true;
            }
            arguments.push(kind);
        }
        for order in &mut call.agg_order {
            let kind = self.expression(order, sorts)?;
            if call.agg_within_group {
                arguments.push(kind);
            }
        }
        self.optional(&mut call.agg_filter, Place { predicate: true, condition: true, ..place })?;
        let windowed = call.over.is_some();
        if let Some(over) = call.over.take() {
            let mut over = tree::node(NodeEnum::WindowDef(over));
            self.expression(&mut over, Place { predicate: false, leaky: false, ..sorts })?;
            if let Some(NodeEnum::WindowDef(walked)) = over.node {
                call.over = Some(walked);
            }
        }
        let form = if call.func_variadic {
            CallForm::Variadic
        } else if call.args.iter().any(|arg| matches!(arg.node, Some(NodeEnum::NamedArgExpr(_)))) {
            CallForm::Named
        } else {
            CallForm::Positional
        };
        self.free_condition |= place.predicate && self.filtered_reads == before && self.is_volatile(call);
        if makes_json {
            self.casts_to_json(&held)?;
        }
        self.decide_call(call, &arguments, form, windowed)
    }

    /// Whether a call in FROM may mean a function that the server puts its SQL in place of.
    pub(super) fn may_be_in_sql(&self, call: &Node) -> bool {
        matches!(&call.node, Some(NodeEnum::FuncCall(call))
            if !self.can_only_mean(call, |function| &*function.language != "sql" || function.volatility == 'v'))
    }

    /// Whether it can only mean an aggregate.
    pub(super) fn calls_aggregate(&self, call: &pb::FuncCall) -> bool {
        call.over.is_none() && self.can_only_mean(call, |function| function.kind == 'a')
    }

    /// Whether it can only mean a function that returns a set.
    pub(super) fn gives_sets(&self, call: &pb::FuncCall) -> bool {
        self.can_only_mean(call, |function| function.set_returning)
    }

    /// Whether it may mean one.
    pub(super) fn may_give_sets(&self, call: &pb::FuncCall) -> bool {
        self.meant(call).is_none_or(|meant| meant.iter().any(|function| function.set_returning))
    }

    fn can_only_mean(&self, call: &pb::FuncCall, such: impl Fn(&Function) -> bool) -> bool {
        self.meant(call).is_some_and(|all| !all.is_empty() && all.into_iter().all(such))
    }

    /// Whether a function of that name may do or give something else at each call.
    pub(super) fn is_volatile(&self, call: &pb::FuncCall) -> bool {
        self.volatilities(call).is_none_or(|mut of_each| of_each.any(|volatility| volatility == 'v'))
    }

    /// Whether it gives one value, the same for the same throughout a statement, whichever function it means.
    pub(super) fn is_steady_call(&self, call: &pb::FuncCall) -> bool {
        self.meant(call).is_some_and(|meant| {
            !meant.is_empty()
                && meant.iter().all(|function| {
                    matches!(function.volatility, 'i' | 's')
                        && !function.set_returning
                        && matches!(function.kind, 'f' | 'a')
                })
        })
    }

    /// Whether it gives the same for the same, whatever the settings.
    pub(super) fn is_immutable(&self, call: &pb::FuncCall) -> bool {
        self.volatilities(call).is_some_and(|mut of_each| of_each.all(|volatility| volatility == 'i'))
    }

    /// `provolatile` of each function that it may mean.
    fn volatilities(&self, call: &pb::FuncCall) -> Option<impl Iterator<Item = char>> {
        Some(self.meant(call)?.into_iter().map(|function| function.volatility))
    }

    /// Whether it is one of these functions, and the server's own.
    pub(super) fn is_own(&self, call: &pb::FuncCall, names: &[&str]) -> bool {
        let is_named =
            tree::strings(&call.funcname).is_some_and(|path| path.last().is_some_and(|name| names.contains(name)));
        is_named && self.meant(call).is_some_and(|meant| meant.iter().all(|function| &*function.schema == "pg_catalog"))
    }

    /// Whether it may mean a function that changes what others give.
    pub(super) fn may_change_state(&self, call: &pb::FuncCall) -> bool {
        self.meant(call).is_none_or(|meant| meant.into_iter().any(super::function::changes_state))
    }

    /// The functions that it may mean.
    fn meant(&self, call: &pb::FuncCall) -> Option<Vec<&Function>> {
        let (schema, name) = match tree::strings(&call.funcname).as_deref() {
            Some([name]) => (None, *name),
            Some([.., schema, name]) => (Some(*schema), *name),
            _ => return None,
        };
        Some(self.catalog.functions_named(&self.session.search_path, schema, name))
    }

    /// Whether the value is the same for every row, and computed without a chance to fail, or before any row is looked
    /// at: that is where the server estimates how many rows a comparison of a column with it finds. What the list does
    /// not name counts as depending on the row.
    pub(super) fn is_constant(&self, node: &Node) -> bool {
        // Parameters have no value yet in a plan for all.
        self.is_given(node) || (!has_parameter(node) && self.is_apart_from_rows(node))
    }

    /// Whether it is the same for every row.
    pub(super) fn is_apart_from_rows(&self, node: &Node) -> bool {
        let all = |nodes: &[Node]| nodes.iter().all(|node| self.is_apart_from_rows(node));
        let optional = |node: &Option<Box<Node>>| node.as_deref().is_none_or(|node| self.is_apart_from_rows(node));
        match &node.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg) && self.has_no_checks(cast.type_name.as_ref()),
            Some(NodeEnum::AExpr(expr)) => optional(&expr.lexpr) && optional(&expr.rexpr),
            Some(NodeEnum::FuncCall(call)) => {
                let plain = call.agg_order.is_empty() && call.over.is_none();
                plain && all(&call.args) && !self.is_volatile(call)
            }
            Some(NodeEnum::NamedArgExpr(argument)) => optional(&argument.arg),
            _ => parts(node).is_some_and(all),
        }
    }

    /// The type that a name means, where it is known.
    pub(super) fn meant_type(&self, name: Option<&pb::TypeName>) -> Option<&Type> {
        let name = name?;
        let bare = name.names.last().and_then(tree::string_of)?;
        if self.doubt_of(bare).is_some() {
            return None;
        }
        self.catalog.resolve_type_name(&self.session.search_path, &self.session.overlay, name)
    }

    /// The type of this name, where it is known.
    pub(super) fn type_called(&self, schema: Option<&str>, name: &str) -> Option<&Type> {
        if self.doubt_of(name).is_some() {
            return None;
        }
        self.catalog.resolve_type(&self.session.search_path, &self.session.overlay, schema, name)
    }

    /// What is known of a type's name that means what the catalog says no more; it may be that of an array.
    fn doubt_of(&self, name: &str) -> Option<&Doubt> {
        let doubted = &self.session.types_in_doubt;
        doubted.get(name).or_else(|| doubted.get(name.strip_prefix('_')?))
    }

    /// Whether a name can only be that of a type made in this transaction: what its CHECKs call was decided then.
    fn is_new_type(&self, name: &str) -> bool {
        match self.session.types_in_doubt.get(name) {
            Some(Doubt::Made(schema)) => !self.catalog.names_type_elsewhere(name, schema),
            Some(Doubt::MaybeMade) => !self.catalog.names_type(name),
            Some(Doubt::Gone | Doubt::Turned) | None => false,
        }
    }

    /// Whether a type has no checks that run for each row, as domains have: it is the server's own, an enum, or an array
    /// of such.
    pub(super) fn has_no_checks(&self, name: Option<&pb::TypeName>) -> bool {
        self.meant_type(name).is_some_and(|kind| {
            let checked = self.catalog.types.get(&kind.element).unwrap_or(kind);
            &*checked.schema == "pg_catalog" || checked.kind == 'e'
        })
    }
}

/// The type of what is compared, or the types of the parts of a row.
pub(super) enum Compared {
    One(Option<Oid>),
    Row(Vec<Option<Oid>>),
}

impl Compared {
    /// The type as a whole. A row beside something else than a row is compared in ways that are not followed.
    const fn one(&self) -> Option<Oid> {
        match self {
            Compared::One(kind) => *kind,
            Compared::Row(_) => None,
        }
    }
}

/// The type of `CURRENT_DATE` and the like: what is no time is a name.
fn type_of_value_function(value: &pb::SqlValueFunction) -> Option<Oid> {
    use pb::SqlValueFunctionOp as Of;
    let is_known = Of::try_from(value.op).is_ok_and(|of| of != Of::SqlvalueFunctionOpUndefined);
    kind_of(value).or_else(|| is_known.then_some(types::NAME))
}

fn type_of_system_column(name: &str) -> Option<Oid> {
    match name {
        "ctid" => Some(types::TID),
        "xmin" | "xmax" => Some(types::XID),
        "cmin" | "cmax" => Some(types::CID),
        "tableoid" => Some(types::OID),
        _ => None,
    }
}

/// The operators that a comparison with a list applies to each of its items.
const fn of_each_item(kind: pb::AExprKind) -> Option<&'static [&'static str]> {
    match kind {
        pb::AExprKind::AexprIn => Some(&["=", "<>"]),
        pb::AExprKind::AexprBetween | pb::AExprKind::AexprBetweenSym => Some(&["<=", ">="]),
        pb::AExprKind::AexprNotBetween | pb::AExprKind::AexprNotBetweenSym => Some(&["<", ">"]),
        _ => None,
    }
}

/// The conditions that a condition joins or tests: by AND, OR, NOT or IS.
pub(super) fn tested(node: &Node) -> Option<&[Node]> {
    match &node.node {
        Some(NodeEnum::BoolExpr(bool)) => Some(&bool.args),
        Some(NodeEnum::NullTest(test)) => test.arg.as_deref().map(slice::from_ref),
        Some(NodeEnum::BooleanTest(test)) => test.arg.as_deref().map(slice::from_ref),
        _ => None,
    }
}

/// Whether it is a literal without a cast.
pub(super) const fn is_literal(node: &Node) -> bool {
    matches!(node.node, Some(NodeEnum::AConst(_)))
}

/// The values that a value is put together of, as an array or a list is, or is one of.
pub(super) fn parts(node: &Node) -> Option<&[Node]> {
    match &node.node {
        Some(NodeEnum::AArrayExpr(array)) => Some(&array.elements),
        Some(NodeEnum::List(list)) => Some(&list.items),
        Some(NodeEnum::CollateClause(collate)) => collate.arg.as_deref().map(slice::from_ref),
        Some(NodeEnum::CoalesceExpr(coalesce)) => Some(&coalesce.args),
        _ => None,
    }
}

/// Whether a value, in the sense of `is_apart_from_rows`, holds a parameter.
pub(super) fn has_parameter(value: &Node) -> bool {
    consists_of(value, &|node| matches!(node, NodeEnum::ParamRef(_)))
}

/// Whether such a value is, or holds, one of these; it may where it holds what is not known.
pub(super) fn consists_of(value: &Node, one: &dyn Fn(&NodeEnum) -> bool) -> bool {
    let any = |nodes: &[Node]| nodes.iter().any(|node| consists_of(node, one));
    let optional = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| consists_of(node, one));
    match &value.node {
        Some(node) if one(node) => true,
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => false,
        Some(NodeEnum::TypeCast(cast)) => optional(&cast.arg),
        Some(NodeEnum::AExpr(expr)) => tree::sides(expr).any(|side| consists_of(side, one)),
        Some(NodeEnum::FuncCall(call)) => any(&call.args),
        Some(NodeEnum::NamedArgExpr(argument)) => optional(&argument.arg),
        _ => parts(value).is_none_or(any),
    }
}

/// Whether a comparison is one by which the server takes its sides for equal.
pub(super) fn makes_equal(node: &Node) -> bool {
    let Some(NodeEnum::AExpr(expr)) = &node.node else { return false };
    let kinds = [pb::AExprKind::AexprOp, pb::AExprKind::AexprIn, pb::AExprKind::AexprOpAny];
    kinds.iter().any(|kind| *kind as i32 == expr.kind) && expr.name.last().and_then(tree::string_of) == Some("=")
}

/// Whether it is an equality or, negated, may be one.
fn may_make_equal(node: &Node) -> bool {
    let Some(NodeEnum::AExpr(expr)) = &node.node else { return false };
    matches!(expr.name.last().and_then(tree::string_of), Some("=" | "<>" | "!="))
}

/// A comparison that is not true for NULL.
fn is_strict(node: &Node) -> bool {
    let Some(NodeEnum::AExpr(expr)) = &node.node else { return false };
    let positive = tree::strings(&expr.name).is_some_and(|names| !matches!(names.last(), Some(&"<>" | &"!=")));
    match pb::AExprKind::try_from(expr.kind) {
        Ok(pb::AExprKind::AexprOp | pb::AExprKind::AexprBetween | pb::AExprKind::AexprOpAny) => true,
        Ok(pb::AExprKind::AexprIn) => positive,
        _ => false,
    }
}

/// The conditions joined by AND.
pub(crate) fn each_conjunct(condition: &Node, f: &mut dyn FnMut(&Node)) {
    match &condition.node {
        Some(NodeEnum::BoolExpr(bool)) if bool.boolop == pb::BoolExprType::AndExpr as i32 => {
            bool.args.iter().for_each(|argument| each_conjunct(argument, f));
        }
        _ => f(condition),
    }
}

/// Literals without a type, of which one is to be chosen, are text.
const fn text_if_untyped(oid: Oid) -> Oid {
    if oid == types::UNKNOWN { types::TEXT } else { oid }
}

/// Whether a JSON expression or column has a DEFAULT, which is cast to its type.
fn has_default(on_empty: &Option<Box<pb::JsonBehavior>>, on_error: &Option<Box<pb::JsonBehavior>>) -> bool {
    let mut behaviors = [on_empty, on_error].into_iter().flatten();
    behaviors.any(|behavior| behavior.expr.is_some())
}

/// The parts of a row that is written out, each of which is one value.
fn parts_of_row(node: &mut Node) -> Option<&mut Vec<Node>> {
    match &mut node.node {
        Some(NodeEnum::RowExpr(row)) if !row.args.iter().any(is_several) => Some(&mut row.args),
        _ => None,
    }
}

/// Whether it is a literal whose type is still open.
fn is_open_literal(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::AConst(constant)) if constant_type(constant) == types::UNKNOWN)
}

/// Whether it is an array of such.
fn is_open_array(node: &Node) -> bool {
    let is_open = |element: &Node| is_open_literal(element) || is_open_array(element);
    matches!(&node.node, Some(NodeEnum::AArrayExpr(array)) if array.elements.iter().all(is_open))
}

fn constant_type(constant: &pb::AConst) -> Oid {
    match &constant.val {
        Some(pb::a_const::Val::Ival(_)) => types::INT4,
        Some(pb::a_const::Val::Fval(number)) => types::of_number(&number.fval),
        Some(pb::a_const::Val::Boolval(_)) => types::BOOL,
        Some(pb::a_const::Val::Bsval(_)) => 1560,
        Some(pb::a_const::Val::Sval(_)) | None => types::UNKNOWN,
    }
}
