//! Row filters as the user wrote them → an expression in which nothing is left to a search path.
//!
//! **Promise.** Every relation, column, function, operator, type and collation in the result is qualified, and columns
//! go by aliases of the proxy's own, so that nothing of the client's (search_path, CTEs, aliases, operators) can capture
//! one. Forms whose operator can't be written qualified (`IS DISTINCT FROM`, `NULLIF`, `IN`, `BETWEEN`, `LIKE`,
//! `CASE x WHEN`) are written in others that mean the same.
//! **Also.** It calls only built-ins that compute, and functions that are named with their schema; none is volatile, and
//! none depends on what the client can set ([`steady`]).
//! **On any doubt** the filter doesn't bind, with what to write instead.

use pg_query::protobuf::{
    self, AArrayExpr, AConst, AExpr, AExprKind, Alias, BoolExpr, BoolExprType, CaseExpr, CaseWhen, FuncCall, Node,
    NullTest, NullTestType, ResTarget, SelectStmt, SubLink, SubLinkType, TypeCast, TypeName, a_const,
    node::Node as Kind,
};

use super::builtins::{self, FunctionClass};
use super::expression::{self, SUBQUERY_ALIAS, column_ref, string, text_of};
use super::mask::parse_expression;
use super::steady::{self, Cast, Zone};
use crate::catalog::names::{Choice, PG_CATALOG, types};
use crate::catalog::{Catalog, Function, Oid, Operator, Relation};

/// A filter in which every name is qualified.
pub(super) struct Qualified {
    /// Over `ROW`.
    pub(super) expression: Node,
    /// The columns of the row that it reads.
    pub(super) columns: Vec<String>,
}

/// Qualifies the condition of a row filter on a relation.
pub(super) fn filter(catalog: &Catalog, relation: &Relation, where_sql: &str) -> Result<Qualified, String> {
    let mut expression = parse_expression(where_sql)?;
    let mut qualifier = Qualifier { catalog, relation, scopes: Vec::new(), aliases: 0 };
    let result = qualifier.expression(&mut expression)?;
    match result.map(|oid| catalog.base_type(oid)) {
        None | Some(types::BOOL | types::UNKNOWN) => {}
        Some(_) => return Err("it is no condition: its type isn't boolean".to_owned()),
    }
    let columns = expression::columns_of(&expression).map_err(|error| error.to_string())?;
    Ok(Qualified { expression, columns })
}

/// Something in FROM of a sub-select.
struct Item {
    /// As the user wrote it.
    alias: String,
    /// As it is written now.
    unique: String,
    columns: Vec<(String, Option<Oid>)>,
}

struct Qualifier<'a> {
    catalog: &'a Catalog,
    relation: &'a Relation,
    /// What is in FROM of the sub-selects around, the innermost last; around all of them is the row.
    scopes: Vec<Vec<Item>>,
    aliases: u32,
}

/// An operator by its full name.
struct FoundOperator {
    name: Vec<Node>,
    /// For errors.
    text: String,
    /// The operands' types as it is declared, where that is certain.
    left: Option<Oid>,
    right: Option<Oid>,
    /// The result's type, where it is certain.
    typed: Option<Oid>,
    /// Whether its result depends on settings.
    stable: bool,
}

/// A type, if it is known.
type Typed = Result<Option<Oid>, String>;

impl Qualifier<'_> {
    fn expression(&mut self, node: &mut Node) -> Typed {
        let Some(kind) = node.node.take() else { return Err("there is nothing where a value should be".to_owned()) };
        let (kind, typed) = match kind {
            Kind::AConst(constant) => {
                let typed = type_of_constant(&constant);
                (Kind::AConst(constant), typed)
            }
            Kind::ColumnRef(reference) => {
                let names: Option<Vec<String>> =
                    reference.fields.iter().map(|field| text_of(field).map(str::to_owned)).collect();
                let names = names.ok_or("a whole row can't stand in it")?;
                let (column, typed) = self.column(&names)?;
                *node = column;
                return Ok(typed);
            }
            Kind::AExpr(expression) => {
                let (rewritten, typed) = self.operator_expression(*expression)?;
                *node = rewritten;
                return Ok(typed);
            }
            Kind::BoolExpr(mut it) => {
                self.all(&mut it.args)?;
                (Kind::BoolExpr(it), Some(types::BOOL))
            }
            Kind::NullTest(mut it) => {
                self.child(&mut it.arg)?;
                (Kind::NullTest(it), Some(types::BOOL))
            }
            Kind::BooleanTest(mut it) => {
                self.child(&mut it.arg)?;
                (Kind::BooleanTest(it), Some(types::BOOL))
            }
            Kind::TypeCast(cast) => {
                let (rewritten, typed) = self.cast(*cast)?;
                *node = rewritten;
                return Ok(Some(typed));
            }
            Kind::CollateClause(mut it) => {
                let typed = self.child(&mut it.arg)?;
                self.collation(&mut it.collname)?;
                (Kind::CollateClause(it), typed)
            }
            Kind::CoalesceExpr(mut it) => {
                let operands = self.all(&mut it.args)?;
                let common = self.common(&operands);
                self.pin(it.args.iter_mut().zip(std::iter::repeat(common)))?;
                (Kind::CoalesceExpr(it), common)
            }
            Kind::MinMaxExpr(mut it) => {
                let operands = self.all(&mut it.args)?;
                let common = self.common(&operands);
                self.pin(it.args.iter_mut().zip(std::iter::repeat(common)))?;
                (Kind::MinMaxExpr(it), common)
            }
            Kind::AArrayExpr(mut it) => {
                let elements = self.all(&mut it.elements)?;
                let element = self.common(&elements);
                self.pin(it.elements.iter_mut().zip(std::iter::repeat(element)))?;
                (Kind::AArrayExpr(it), element.and_then(|oid| self.catalog.array_of(oid)))
            }
            Kind::RowExpr(mut it) => {
                self.all(&mut it.args)?;
                (Kind::RowExpr(it), None)
            }
            Kind::AIndirection(mut it) => {
                let base = self.child(&mut it.arg)?;
                for step in &mut it.indirection {
                    match &mut step.node {
                        Some(Kind::AIndices(indices)) => {
                            for bound in [&mut indices.lidx, &mut indices.uidx] {
                                if bound.is_some() {
                                    self.child(bound)?;
                                }
                            }
                        }
                        // It may be a function's name as well.
                        _ => return Err("a field of a row can't stand in it".to_owned()),
                    }
                }
                let element = base.and_then(|oid| self.catalog.element_type(oid)).filter(|_| it.indirection.len() == 1);
                (Kind::AIndirection(it), element)
            }
            Kind::CaseExpr(it) => {
                let (rewritten, typed) = self.case(*it)?;
                *node = rewritten;
                return Ok(typed);
            }
            Kind::SqlvalueFunction(it) => {
                let (rewritten, typed) = value_function(*it)?;
                *node = rewritten;
                return Ok(Some(typed));
            }
            Kind::FuncCall(mut call) => {
                let (rewritten, typed) = self.call(&mut call)?;
                *node = rewritten;
                return Ok(typed);
            }
            Kind::SubLink(mut link) => {
                let typed = self.sub_link(&mut link)?;
                (Kind::SubLink(link), typed)
            }
            other => return Err(format!("{} can't stand in it", expression::kind_name(&other))),
        };
        node.node = Some(kind);
        Ok(typed)
    }

    fn child(&mut self, child: &mut Option<Box<Node>>) -> Typed {
        match child {
            Some(node) => self.expression(node),
            None => Err("there is nothing where a value should be".to_owned()),
        }
    }

    fn all(&mut self, nodes: &mut [Node]) -> Result<Vec<Option<Oid>>, String> {
        nodes.iter_mut().map(|node| self.expression(node)).collect()
    }

    fn common(&self, operands: &[Option<Oid>]) -> Option<Oid> {
        let known: Option<Vec<Oid>> = operands.iter().copied().collect();
        self.catalog.common_type(&known?)
    }

    /// A column, by an alias of the proxy's own.
    fn column(&self, names: &[String]) -> Result<(Node, Option<Oid>), String> {
        let (table, name) = match names {
            [name] => (None, name),
            [table, name] => (Some(table), name),
            [schema, table, name] if *schema == *self.relation.schema && *table == *self.relation.name => {
                (Some(table), name)
            }
            _ => return Err(format!("there is no column {}", names.join("."))),
        };
        for scope in self.scopes.iter().rev() {
            let mut found = scope
                .iter()
                .filter(|item| table.is_none_or(|table| item.alias == *table))
                .filter_map(|item| Some((item, item.columns.iter().find(|(column, _)| column == name)?)));
            if let Some((item, (column, typed))) = found.next() {
                if found.next().is_some() {
                    return Err(format!("the column {name} is ambiguous"));
                }
                return Ok((column_ref(&[&item.unique, column]), *typed));
            }
            if table.is_some_and(|table| scope.iter().any(|item| item.alias == *table)) {
                return Err(format!("there is no column {}", names.join(".")));
            }
        }
        if table.is_some_and(|table| *table != *self.relation.name) {
            return Err(format!("there is no column {}", names.join(".")));
        }
        let column = self.relation.column(name).ok_or_else(|| format!("there is no column {}", names.join(".")))?;
        Ok((expression::row_column(name), Some(column.type_oid)))
    }

    fn operator_expression(&mut self, mut it: AExpr) -> Result<(Node, Option<Oid>), String> {
        let kind = it.kind();
        let mut operand = |child: &mut Option<Box<Node>>| -> Result<(Node, Option<Oid>), String> {
            let typed = self.child(child)?;
            Ok((child.take().map(|node| *node).unwrap_or_default(), typed))
        };
        match kind {
            AExprKind::AexprOp => {
                let left = if it.lexpr.is_some() { Some(operand(&mut it.lexpr)?) } else { None };
                let right = operand(&mut it.rexpr)?;
                self.operator(&it.name, left, right)
            }
            AExprKind::AexprLike | AExprKind::AexprIlike | AExprKind::AexprSimilar => {
                let left = operand(&mut it.lexpr)?;
                let right = operand(&mut it.rexpr)?;
                self.operator(&it.name, Some(left), right)
            }
            AExprKind::AexprOpAny | AExprKind::AexprOpAll => {
                let left = operand(&mut it.lexpr)?;
                let right = operand(&mut it.rexpr)?;
                // A literal array takes its type from the left; other arrays have an element's.
                let element = match right.1 {
                    Some(types::UNKNOWN) => Some(types::UNKNOWN),
                    Some(array) => self.catalog.element_type(array),
                    None => None,
                };
                let found = self.operator_name(&it.name, Some(left.1), element)?;
                if found.stable || is_literal(&right.0) && left.1.is_none_or(|oid| self.is_of_time(oid)) {
                    return Err(unsteady(&found.text));
                }
                Ok((binary(kind, found.name, Some(left.0), right.0), Some(types::BOOL)))
            }
            AExprKind::AexprDistinct | AExprKind::AexprNotDistinct => {
                let (left, right) = (operand(&mut it.lexpr)?, operand(&mut it.rexpr)?);
                let distinct = kind == AExprKind::AexprDistinct;
                for (side, other) in [(&left, &right), (&right, &left)] {
                    if is_null(&side.0) {
                        return Ok((null_test(other.0.clone(), distinct), Some(types::BOOL)));
                    }
                }
                if is_row(&left.0) || is_row(&right.0) {
                    return Err("rows can't be compared by IS DISTINCT FROM in it".to_owned());
                }
                let (one, two) = (left.0.clone(), right.0.clone());
                let equal = self.operator(&[string(if distinct { "<>" } else { "=" })], Some(left), right)?.0;
                let case = case_of(
                    vec![
                        (null_test(one, false), null_test(two.clone(), distinct)),
                        (null_test(two, false), boolean(distinct)),
                    ],
                    Some(equal),
                );
                Ok((case, Some(types::BOOL)))
            }
            AExprKind::AexprNullif => {
                let (left, right) = (operand(&mut it.lexpr)?, operand(&mut it.rexpr)?);
                let (value, typed) = left.clone();
                let equal = self.operator(&[string("=")], Some(left), right)?.0;
                Ok((case_of(vec![(equal, null())], Some(value)), typed))
            }
            AExprKind::AexprIn => {
                let left = operand(&mut it.lexpr)?;
                let Some(Kind::List(mut list)) = it.rexpr.take().and_then(|node| node.node) else {
                    return Err("IN without a list".to_owned());
                };
                let types = self.all(&mut list.items)?;
                let negated = it.name.first().and_then(text_of) == Some("<>");
                self.in_list(left, list.items, &types, negated)
            }
            AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => {
                let value = operand(&mut it.lexpr)?;
                let Some(Kind::List(mut bounds)) = it.rexpr.take().and_then(|node| node.node) else {
                    return Err("BETWEEN without bounds".to_owned());
                };
                let types = self.all(&mut bounds.items)?;
                let mut bounds = bounds.items.into_iter().zip(types);
                let (Some(low), Some(high)) = (bounds.next(), bounds.next()) else {
                    return Err("BETWEEN without bounds".to_owned());
                };
                let mut within = |low: (Node, Option<Oid>), high: (Node, Option<Oid>)| -> Result<Node, String> {
                    let above = self.operator(&[string(">=")], Some(value.clone()), low)?.0;
                    let below = self.operator(&[string("<=")], Some(value.clone()), high)?.0;
                    Ok(all_of(BoolExprType::AndExpr, vec![above, below]))
                };
                let mut inside = within(low.clone(), high.clone())?;
                if matches!(kind, AExprKind::AexprBetweenSym | AExprKind::AexprNotBetweenSym) {
                    inside = all_of(BoolExprType::OrExpr, vec![inside, within(high, low)?]);
                }
                if matches!(kind, AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym) {
                    inside = all_of(BoolExprType::NotExpr, vec![inside]);
                }
                Ok((inside, Some(types::BOOL)))
            }
            AExprKind::Undefined => Err("an operator of an unknown kind".to_owned()),
        }
    }

    fn operator(
        &mut self,
        name: &[Node],
        left: Option<(Node, Option<Oid>)>,
        right: (Node, Option<Oid>),
    ) -> Result<(Node, Option<Oid>), String> {
        if is_row(&right.0) || left.as_ref().is_some_and(|left| is_row(&left.0)) {
            return Err("rows can't be compared in it: compare their columns".to_owned());
        }
        let (mut left, mut right) = (left, right);
        let mut found = self.operator_name(name, left.as_ref().map(|left| left.1), right.1)?;
        let mut in_utc = false;
        if found.stable {
            for (node, typed) in left.iter_mut().chain([&mut right]) {
                in_utc |= self.take_in_utc(node, typed);
            }
            let again = self.operator_name(name, left.as_ref().map(|left| left.1), right.1)?;
            if !in_utc || again.stable {
                return Err(unsteady(&found.text));
            }
            in_utc = found.typed == Some(types::TIMESTAMPTZ) && again.typed == Some(types::TIMESTAMP);
            found = again;
        }
        let actual: Vec<Option<Oid>> = left.iter().chain([&right]).map(|(_, typed)| *typed).collect();
        let declared = left.as_ref().map(|_| found.left).into_iter().chain([found.right]);
        let declared = declared.map(|declared| self.settled_by(declared, &actual));
        self.pin(left.iter_mut().chain([&mut right]).map(|(node, _)| node).zip(declared))?;
        let written = binary(AExprKind::AexprOp, found.name, left.map(|left| left.0), right.0);
        Ok(if in_utc { (in_zone_utc(written), Some(types::TIMESTAMPTZ)) } else { (written, found.typed) })
    }

    /// A value of type timestamptz as the timestamp that it is in UTC.
    fn take_in_utc(&self, node: &mut Node, typed: &mut Option<Oid>) -> bool {
        let is_zoned = typed.is_some_and(|oid| self.catalog.base_type(oid) == types::TIMESTAMPTZ);
        if is_zoned {
            *node = in_zone_utc(std::mem::take(node));
            *typed = Some(types::TIMESTAMP);
        }
        is_zoned
    }

    fn is_of_time(&self, oid: Oid) -> bool {
        steady::literal("", self.catalog.base_type(oid)).is_err()
    }

    /// The type by which its values are written and read: that of the elements of an array, or of the bounds of a range.
    fn written_as(&self, oid: Oid) -> Oid {
        let mut of = self.catalog.base_type(oid);
        // An array of multiranges over a domain is as deep as it gets; a type that is made of itself is none.
        for _ in 0..8 {
            let Some(kind) = self.catalog.types.get(&of) else { break };
            let inner = if kind.category == 'A' { kind.element } else { kind.range_of };
            if inner == 0 {
                // Fields of a row may be of any type.
                return if kind.relation == 0 { of } else { types::TIMESTAMPTZ };
            }
            of = self.catalog.base_type(inner);
        }
        of
    }

    /// What a literal is read as where any type is declared: that of what it stands beside.
    fn settled_by(&self, declared: Option<Oid>, actual: &[Option<Oid>]) -> Option<Oid> {
        let is_any = declared.and_then(|oid| self.catalog.types.get(&oid)).is_some_and(|kind| kind.kind == 'p');
        let is_known = |oid: &Oid| *oid != types::UNKNOWN;
        if is_any { actual.iter().flatten().copied().find(is_known).or(declared) } else { declared }
    }

    /// Writes literals, each with the type that it is read as, so that no setting changes what they are.
    fn pin<'n>(&self, nodes: impl Iterator<Item = (&'n mut Node, Option<Oid>)>) -> Result<(), String> {
        for (node, typed) in nodes {
            let Some(Kind::AConst(AConst { val: Some(a_const::Val::Sval(text)), .. })) = &mut node.node else {
                continue;
            };
            let Some(oid) = typed else { continue };
            let (base, written_as) = (self.catalog.base_type(oid), self.written_as(oid));
            if base != written_as {
                steady::literal_of_several(&text.sval, written_as)?;
            } else if let Some(pinned) = steady::literal(&text.sval, base)? {
                text.sval = pinned;
            }
        }
        Ok(())
    }

    /// A cast, by UTC where the session's zone would be read.
    fn cast(&mut self, mut cast: TypeCast) -> Result<(Node, Oid), String> {
        let from = self.child(&mut cast.arg)?;
        let name = cast.type_name.as_mut().ok_or("a cast without a type")?;
        let typed = self.type_name(name)?;
        let is_of_several = |oid: Oid| self.written_as(oid) != self.catalog.base_type(oid);
        let several = from.is_some_and(is_of_several) || is_of_several(typed);
        let from = from.map(|oid| self.written_as(oid));
        let (to, shown) = (self.written_as(typed), name.names.last().and_then(text_of).unwrap_or("?"));
        let refusal = unsteady(&format!("cast to {shown}"));
        let arg = cast.arg.as_deref_mut().ok_or("a cast of nothing")?;
        if is_literal(arg) {
            self.pin(std::iter::once((&mut *arg, Some(typed))))?;
            // Names of objects are read by the search_path.
            if steady::cast(Some(to), to) == Cast::Unsteady {
                return Err(refusal);
            }
        } else if !is_null(arg) {
            match steady::cast(from, to) {
                Cast::Steady => {}
                Cast::FromUtc | Cast::ToUtc if several => return Err(refusal),
                Cast::FromUtc => *arg = in_zone_utc(std::mem::take(arg)),
                Cast::ToUtc
                    if typed == types::TIMESTAMPTZ
                        && cast.type_name.as_ref().is_some_and(|it| it.typmods.is_empty()) =>
                {
                    cast.type_name = Some(builtin_type("timestamp"));
                    return Ok((in_zone_utc(Node { node: Some(Kind::TypeCast(Box::new(cast))) }), typed));
                }
                Cast::ToUtc | Cast::Unsteady => return Err(refusal),
            }
        }
        Ok((Node { node: Some(Kind::TypeCast(Box::new(cast))) }, typed))
    }

    /// The operator that Postgres would choose, by its full name, and the type of its result. One that isn't written
    /// with a schema is looked for in pg_catalog and where the types of its operands are.
    fn operator_name(
        &self,
        name: &[Node],
        left: Option<Option<Oid>>,
        right: Option<Oid>,
    ) -> Result<FoundOperator, String> {
        let names: Option<Vec<&str>> = name.iter().map(text_of).collect();
        let (schema, name) = match names.as_deref() {
            Some([name]) => (None, *name),
            Some([schema, name]) => (Some(*schema), *name),
            _ => return Err("an operator without a name".to_owned()),
        };
        let mut path = vec![PG_CATALOG.to_owned()];
        for operand in left.into_iter().chain([right]).flatten() {
            for oid in [operand, self.catalog.base_type(operand)] {
                if let Some(kind) = self.catalog.types.get(&oid)
                    && !path.iter().any(|schema| **schema == *kind.schema)
                {
                    path.push(kind.schema.to_string());
                }
            }
        }
        let chosen = self.catalog.operator(&path, schema, name, left, right);
        let found = match &chosen {
            Choice::None => return Err(format!("there is no operator {name} for its operands")),
            chosen => chosen.all(),
        };
        let Some(first) = found.first() else { return Err(format!("there is no operator {name}")) };
        if found.iter().any(|other| other.schema != first.schema) {
            return Err(format!("the operator {name} is ambiguous: cast its operands"));
        }
        let operands: Vec<Option<Oid>> =
            left.into_iter().chain([right]).map(|typed| typed.map(|oid| self.written_as(oid))).collect();
        let mut stable = false;
        for operator in found {
            if let Some(function) = self.catalog.function(operator.function) {
                if function.volatility == 'v' {
                    return Err(format!("the operator {name} is volatile"));
                }
                self.has_one_meaning(function)?;
                stable |= &*operator.schema == PG_CATALOG
                    && function.volatility == 's'
                    && !steady::is_steady(&function.name, &operands);
            }
        }
        let typed = match chosen {
            Choice::One(operator) => {
                let declared: Vec<Oid> = left.map(|_| operator.left).into_iter().chain([operator.right]).collect();
                let given: Vec<Option<Oid>> = left.into_iter().chain([right]).collect();
                self.catalog.result_type(&declared, operator.result, &given)
            }
            _ => found.iter().all(|it| it.result == first.result).then_some(first.result),
        };
        let same = |of: fn(&Operator) -> Oid| found.iter().all(|it| of(it) == of(first)).then(|| of(first));
        Ok(FoundOperator {
            name: vec![string(&first.schema), string(name)],
            text: format!("operator {name}"),
            left: same(|it| it.left),
            right: same(|it| it.right),
            typed,
            stable,
        })
    }

    /// `x IN (a, b)`: as an array where it can be, which keeps the index; else value by value.
    fn in_list(
        &mut self,
        left: (Node, Option<Oid>),
        items: Vec<Node>,
        operands: &[Option<Oid>],
        negated: bool,
    ) -> Result<(Node, Option<Oid>), String> {
        let name = string(if negated { "<>" } else { "=" });
        let constants = items.iter().all(|item| matches!(&item.node, Some(Kind::AConst(it)) if !it.isnull));
        let numbers = operands.iter().all(|typed| *typed == Some(types::INT4));
        if constants && numbers && matches!(left.1, Some(types::INT2 | types::INT4 | types::INT8)) {
            let elements = AArrayExpr { elements: items, list_start: -1, list_end: -1, location: -1 };
            let right = Node { node: Some(Kind::AArrayExpr(elements)) };
            let name = self.operator_name(&[name], Some(left.1), Some(types::INT4))?.name;
            let kind = if negated { AExprKind::AexprOpAll } else { AExprKind::AexprOpAny };
            return Ok((binary(kind, name, Some(left.0), right), Some(types::BOOL)));
        }
        if constants && let Some(array) = left.1.and_then(|oid| self.array_type(oid)) {
            let elements = AArrayExpr { elements: items, list_start: -1, list_end: -1, location: -1 };
            let arg = Some(Box::new(Node { node: Some(Kind::AArrayExpr(elements)) }));
            let cast = TypeCast { arg, type_name: Some(array), location: -1 };
            let right = Node { node: Some(Kind::TypeCast(Box::new(cast))) };
            let name = self.operator_name(&[name], Some(left.1), left.1)?.name;
            let kind = if negated { AExprKind::AexprOpAll } else { AExprKind::AexprOpAny };
            return Ok((binary(kind, name, Some(left.0), right), Some(types::BOOL)));
        }
        let mut tests = Vec::new();
        for (item, typed) in items.into_iter().zip(operands) {
            tests.push(self.operator(std::slice::from_ref(&name), Some(left.clone()), (item, *typed))?.0);
        }
        let all = if negated { BoolExprType::AndExpr } else { BoolExprType::OrExpr };
        Ok((all_of(all, tests), Some(types::BOOL)))
    }

    /// The array type over a column's type, without modifiers. Only of types whose every literal in a list is read as it
    /// would be beside a column: of integers and the like a list may hold numbers that don't fit.
    fn array_type(&self, oid: Oid) -> Option<TypeName> {
        let kind = self.catalog.types.get(&oid)?;
        let fits =
            matches!((&*kind.schema, &*kind.name), (PG_CATALOG, "text" | "varchar" | "uuid")) || kind.kind == 'e';
        if !fits || kind.array == 0 {
            return None;
        }
        Some(TypeName {
            names: vec![string(&kind.schema), string(&kind.name)],
            typemod: -1,
            array_bounds: vec![Node { node: Some(Kind::Integer(protobuf::Integer { ival: -1 })) }],
            location: -1,
            ..TypeName::default()
        })
    }

    fn case(&mut self, mut it: CaseExpr) -> Result<(Node, Option<Oid>), String> {
        let tested = match &mut it.arg {
            Some(arg) => {
                let typed = self.expression(arg)?;
                Some(((**arg).clone(), typed))
            }
            None => None,
        };
        let mut branches = Vec::new();
        let mut results = Vec::new();
        for branch in it.args {
            let Some(Kind::CaseWhen(mut branch)) = branch.node else { return Err("CASE without WHEN".to_owned()) };
            let typed = self.child(&mut branch.expr)?;
            results.push(self.child(&mut branch.result)?);
            let condition = branch.expr.map(|node| *node).unwrap_or_default();
            let condition = match &tested {
                Some(tested) => self.operator(&[string("=")], Some(tested.clone()), (condition, typed))?.0,
                None => condition,
            };
            branches.push((condition, branch.result.map(|node| *node).unwrap_or_default()));
        }
        if it.defresult.is_some() {
            results.push(self.child(&mut it.defresult)?);
        }
        let typed = self.common(&results);
        let results = branches.iter_mut().map(|(_, result)| result).chain(it.defresult.as_deref_mut());
        self.pin(results.zip(std::iter::repeat(typed)))?;
        Ok((case_of(branches, it.defresult.map(|node| *node)), typed))
    }

    fn call(&mut self, call: &mut FuncCall) -> Result<(Node, Option<Oid>), String> {
        if call.over.is_some() || call.func_variadic || !call.agg_order.is_empty() || call.agg_within_group {
            return Err("a function of this form can't stand in it".to_owned());
        }
        let names: Option<Vec<String>> = call.funcname.iter().map(|name| text_of(name).map(str::to_owned)).collect();
        let (schema, name) = match names.as_deref() {
            Some([name]) => (None, name.clone()),
            Some([schema, name]) => (Some(schema.clone()), name.clone()),
            _ => return Err("a function without a name".to_owned()),
        };
        if name == "current_setting" && schema.as_deref().is_none_or(|schema| schema == PG_CATALOG) {
            readable_setting(call.args.first())?;
        }
        let mut arguments = self.all(&mut call.args)?;
        if call.agg_filter.is_some() {
            self.child(&mut call.agg_filter)?;
        }
        if name == "to_char" && call.args.get(1).is_none_or(|format| !is_literal(format) || says_translated(format)) {
            return Err("to_char in it needs a format as a literal, without TM".to_owned());
        }
        if name == "timezone" && schema.as_deref().is_none_or(|schema| schema == PG_CATALOG) {
            self.settle_zone(call, &mut arguments)?;
        }
        // Their last argument is a zone's name.
        let takes_zone = match &*name {
            "date_trunc" | "date_add" | "date_subtract" => arguments.len() > 2,
            "generate_series" => arguments.len() > 3,
            _ => false,
        };
        if takes_zone && schema.as_deref().is_none_or(|schema| schema == PG_CATALOG) {
            return Err(unsteady(&format!("zone of {name}")));
        }
        let in_utc = self.call_in_utc(call, schema.as_deref(), &name, &mut arguments)?;
        let chosen = self.catalog.resolve_function(&[], schema.as_deref(), &name, &arguments);
        let found = chosen.all();
        let Some(first) = found.first() else {
            return Err(match schema {
                Some(schema) => format!("there is no function {schema}.{name} for its arguments"),
                None => format!("there is no built-in function {name} for its arguments; write its schema"),
            });
        };
        for function in found {
            if function.volatility == 'v' {
                return Err(format!("the function {name} is volatile"));
            }
            match builtins::classify(function) {
                FunctionClass::Compute | FunctionClass::Setting => {}
                FunctionClass::Database if schema.is_some() => self.has_one_meaning(function)?,
                _ => return Err(format!("the function {name} can't stand in it")),
            }
        }
        call.funcname = vec![string(&first.schema), string(&name)];
        let (typed, declared) = match chosen {
            Choice::One(function) => (
                self.catalog.result_type(&function.arguments, function.result, &arguments),
                function.arguments.iter().copied().map(Some).collect::<Vec<_>>(),
            ),
            _ => (None, Vec::new()),
        };
        let declared = declared.into_iter().map(|declared| self.settled_by(declared, &arguments));
        self.pin(call.args.iter_mut().zip(declared.chain(std::iter::repeat(None))))?;
        if in_utc {
            let call = Node { node: Some(Kind::FuncCall(Box::new(std::mem::take(call)))) };
            return Ok((in_zone_utc(call), Some(types::TIMESTAMPTZ)));
        }
        Ok((Node { node: Some(Kind::FuncCall(Box::new(std::mem::take(call)))) }, typed))
    }

    /// The zone of AT TIME ZONE, where it is a name.
    fn settle_zone(&self, call: &mut FuncCall, arguments: &mut [Option<Oid>]) -> Result<(), String> {
        let (Some(zone), Some(typed)) = (call.args.first_mut(), arguments.first_mut()) else { return Ok(()) };
        if typed.is_some_and(|oid| self.catalog.base_type(oid) == types::INTERVAL) {
            return Ok(());
        }
        let Some(Kind::AConst(AConst { val: Some(a_const::Val::Sval(name)), .. })) = &zone.node else {
            return Err(unsteady("zone"));
        };
        if steady::zone(&name.sval, self.catalog.server_version)? == Zone::Utc {
            *zone = utc();
            *typed = Some(types::INTERVAL);
        }
        Ok(())
    }

    /// Whether the client's search_path changes nothing about what a function reads.
    fn has_one_meaning(&self, function: &Function) -> Result<(), String> {
        self.catalog.depends_on_path(function).map_or(Ok(()), Err)
    }

    /// Where a call would read the session's zone its times are taken in UTC. Tells whether its result is one of them.
    fn call_in_utc(
        &self,
        call: &mut FuncCall,
        schema: Option<&str>,
        name: &str,
        arguments: &mut [Option<Oid>],
    ) -> Result<bool, String> {
        let found = |arguments: &[Option<Oid>]| {
            let chosen = self.catalog.resolve_function(&[], schema, name, arguments);
            let bases: Vec<_> = arguments.iter().map(|it| it.map(|oid| self.written_as(oid))).collect();
            let is_unsteady = |function: &&Function| {
                builtins::classify(function) == FunctionClass::Compute
                    && &*function.schema == PG_CATALOG
                    && function.volatility == 's'
                    && !steady::is_steady(name, &bases)
            };
            let result = match &chosen {
                Choice::One(function) => Some(function.result),
                _ => None,
            };
            (chosen.all().iter().any(is_unsteady), result)
        };
        let (unsteady_by_type, before) = found(arguments);
        if !unsteady_by_type {
            return Ok(false);
        }
        let mut in_utc = false;
        for (argument, typed) in call.args.iter_mut().zip(arguments.iter_mut()) {
            in_utc |= self.take_in_utc(argument, typed);
        }
        let (still, after) = found(arguments);
        if still || !in_utc {
            return Err(unsteady(&format!("function {name}")));
        }
        Ok(before == Some(types::TIMESTAMPTZ) && after == Some(types::TIMESTAMP))
    }

    fn type_name(&self, name: &mut TypeName) -> Result<Oid, String> {
        if name.setof || name.pct_type {
            return Err("a type of this form can't stand in it".to_owned());
        }
        let names: Option<Vec<&str>> = name.names.iter().map(text_of).collect();
        let (schema, bare) = match names.as_deref() {
            Some([bare]) => (PG_CATALOG, *bare),
            Some([schema, bare]) => (*schema, *bare),
            _ => return Err("a type without a name".to_owned()),
        };
        let found = self.catalog.type_named(schema, bare);
        let found = found.ok_or_else(|| format!("there is no type {schema}.{bare}; write its schema"))?;
        let oid = if name.array_bounds.is_empty() { found.oid } else { found.array };
        if oid == 0 {
            return Err(format!("there is no array of {schema}.{bare}"));
        }
        name.names = vec![string(schema), string(bare)];
        Ok(oid)
    }

    fn collation(&self, names: &mut Vec<Node>) -> Result<(), String> {
        let texts: Option<Vec<&str>> = names.iter().map(text_of).collect();
        let (schema, name) = match texts.as_deref() {
            Some([name]) => (PG_CATALOG.to_owned(), (*name).to_owned()),
            Some([schema, name]) => ((*schema).to_owned(), (*name).to_owned()),
            _ => return Err("a collation without a name".to_owned()),
        };
        let known = self.catalog.collations.get(name.as_str());
        if !known.is_some_and(|all| all.iter().any(|it| *it.schema == *schema)) {
            return Err(format!("there is no collation {schema}.{name}; write its schema"));
        }
        *names = vec![string(&schema), string(&name)];
        Ok(())
    }

    fn sub_link(&mut self, link: &mut SubLink) -> Typed {
        let kind = link.sub_link_type();
        let tested = match &mut link.testexpr {
            Some(test) if is_row(test) => return Err("rows can't be compared in it".to_owned()),
            Some(test) => Some(self.expression(test)?),
            None => None,
        };
        let Some(Kind::SelectStmt(select)) = link.subselect.as_mut().and_then(|it| it.node.as_mut()) else {
            return Err("a sub-select without a query".to_owned());
        };
        if kind == SubLinkType::ExistsSublink {
            only_existence(select);
        }
        let outputs = self.query(select)?;
        let first = outputs.first().and_then(|(_, typed)| *typed);
        match kind {
            SubLinkType::ExistsSublink => Ok(Some(types::BOOL)),
            SubLinkType::AnySublink | SubLinkType::AllSublink => {
                let name = if link.oper_name.is_empty() { vec![string("=")] } else { link.oper_name.clone() };
                let found = self.operator_name(&name, Some(tested.flatten()), first)?;
                if found.stable {
                    return Err(unsteady(&found.text));
                }
                link.oper_name = found.name;
                Ok(Some(types::BOOL))
            }
            SubLinkType::ExprSublink => Ok(first),
            SubLinkType::ArraySublink => Ok(first.and_then(|oid| self.catalog.array_of(oid))),
            _ => Err("a sub-select of this form can't stand in it".to_owned()),
        }
    }

    /// Qualifies a query; gives its columns.
    fn query(&mut self, select: &mut SelectStmt) -> Result<Vec<(String, Option<Oid>)>, String> {
        let simple = select.with_clause.is_none()
            && select.into_clause.is_none()
            && select.locking_clause.is_empty()
            && select.window_clause.is_empty()
            && select.values_lists.is_empty()
            && select.larg.is_none()
            && select.rarg.is_none();
        if !simple {
            return Err("a sub-select in it can only be of SELECT, FROM, WHERE, GROUP BY, HAVING and LIMIT".to_owned());
        }
        self.scopes.push(Vec::new());
        let outputs = self.query_in_scope(select);
        self.scopes.pop();
        outputs
    }

    fn query_in_scope(&mut self, select: &mut SelectStmt) -> Result<Vec<(String, Option<Oid>)>, String> {
        for item in &mut select.from_clause {
            self.table_item(item)?;
        }
        let mut outputs = Vec::new();
        for target in &mut select.target_list {
            let Some(Kind::ResTarget(target)) = &mut target.node else { return Err("an output of no kind".to_owned()) };
            let name = match (target.name.as_str(), target.val.as_deref().and_then(expression::column_name)) {
                ("", Some(column)) => column.to_owned(),
                (name, _) => name.to_owned(),
            };
            let typed = self.child(&mut target.val)?;
            outputs.push((name, typed));
        }
        for clause in [&mut select.where_clause, &mut select.having_clause] {
            if clause.is_some() {
                self.child(clause)?;
            }
        }
        for clause in [&mut select.limit_count, &mut select.limit_offset] {
            if clause.is_some() {
                self.child(clause)?;
            }
        }
        for key in select.distinct_clause.iter_mut().filter(|key| key.node.is_some()).chain(&mut select.group_clause) {
            self.expression(key)?;
        }
        for sort in &mut select.sort_clause {
            match &mut sort.node {
                Some(Kind::SortBy(sort)) if sort.use_op.is_empty() => self.child(&mut sort.node)?,
                _ => return Err("ORDER BY … USING can't stand in it".to_owned()),
            };
        }
        Ok(outputs)
    }

    fn table_item(&mut self, item: &mut Node) -> Result<(), String> {
        match &mut item.node {
            Some(Kind::RangeVar(table)) => {
                if table.schemaname.is_empty() {
                    return Err(format!("write the schema of the relation {}", table.relname));
                }
                let found = self.catalog.relation(&table.schemaname, &table.relname);
                let name = format!("{}.{}", table.schemaname, table.relname);
                let found = found.ok_or_else(|| format!("there is no relation {name}"))?;
                if found.system || found.temporary {
                    return Err(format!("{name} can't stand in it"));
                }
                let columns =
                    found.columns.iter().map(|column| (column.name.to_string(), Some(column.type_oid))).collect();
                table.catalogname.clear();
                let written = table.alias.take();
                let (alias, names) = match written {
                    Some(alias) => (alias.aliasname, alias.colnames),
                    None => (table.relname.clone(), Vec::new()),
                };
                table.alias = Some(self.add_item(alias, &names, columns)?);
                Ok(())
            }
            Some(Kind::RangeSubselect(it)) => {
                if it.lateral {
                    return Err("LATERAL can't stand in it".to_owned());
                }
                let Some(Kind::SelectStmt(inner)) = it.subquery.as_mut().and_then(|query| query.node.as_mut()) else {
                    return Err("a sub-select without a query".to_owned());
                };
                // It doesn't see its neighbours in FROM.
                let neighbours = self.scopes.pop();
                let outputs = self.query(inner);
                self.scopes.extend(neighbours);
                let columns = outputs?;
                let Some(written) = it.alias.take() else {
                    return Err("a sub-select in FROM needs an alias".to_owned());
                };
                it.alias = Some(self.add_item(written.aliasname, &written.colnames, columns)?);
                Ok(())
            }
            Some(Kind::JoinExpr(join)) => {
                if join.is_natural || !join.using_clause.is_empty() || join.alias.is_some() {
                    return Err("NATURAL and USING can't stand in it: write ON".to_owned());
                }
                for side in [&mut join.larg, &mut join.rarg] {
                    match side {
                        Some(side) => self.table_item(side)?,
                        None => return Err("half a join".to_owned()),
                    }
                }
                if join.quals.is_some() {
                    self.child(&mut join.quals)?;
                }
                Ok(())
            }
            Some(other) => Err(format!("{} can't stand in its FROM", expression::kind_name(other))),
            None => Err("nothing in FROM".to_owned()),
        }
    }

    /// Adds something to the innermost FROM, under an alias of the proxy's own.
    fn add_item(
        &mut self,
        alias: String,
        names: &[Node],
        mut columns: Vec<(String, Option<Oid>)>,
    ) -> Result<Alias, String> {
        if names.len() > columns.len() {
            return Err(format!("{alias} has fewer columns than names"));
        }
        for (column, name) in columns.iter_mut().zip(names) {
            column.0 = text_of(name).unwrap_or_default().to_owned();
        }
        let unique = format!("{SUBQUERY_ALIAS}{}", self.aliases);
        self.aliases += 1;
        let Some(scope) = self.scopes.last_mut() else { return Err("FROM without a query".to_owned()) };
        if scope.iter().any(|item| item.alias == alias) {
            return Err(format!("the alias {alias} is there twice"));
        }
        scope.push(Item { alias, unique: unique.clone(), columns });
        Ok(Alias { aliasname: unique, colnames: names.to_vec() })
    }
}

/// Of what EXISTS asks only whether there is a row: `*` need not be known.
fn only_existence(select: &mut SelectStmt) {
    let plain = select.distinct_clause.is_empty() && select.group_clause.is_empty() && select.having_clause.is_none();
    let star = |target: &Node| {
        matches!(&target.node, Some(Kind::ResTarget(target))
            if matches!(target.val.as_deref(), Some(Node { node: Some(Kind::ColumnRef(it)) })
                if it.fields.iter().any(|field| matches!(field.node, Some(Kind::AStar(_))))))
    };
    if plain && select.target_list.iter().all(star) {
        let one = AConst { val: Some(a_const::Val::Ival(protobuf::Integer { ival: 1 })), ..AConst::default() };
        let value = Some(Box::new(Node { node: Some(Kind::AConst(one)) }));
        let target = ResTarget { val: value, location: -1, ..ResTarget::default() };
        select.target_list = vec![Node { node: Some(Kind::ResTarget(Box::new(target))) }];
    }
}

/// A filter may read a setting of the application's, whose name is written out; the session's own class is the proxy's.
fn readable_setting(argument: Option<&Node>) -> Result<(), String> {
    let name = match argument.map(|argument| &argument.node) {
        Some(Some(Kind::AConst(AConst { val: Some(a_const::Val::Sval(name)), .. }))) => name.sval.to_ascii_lowercase(),
        _ => return Err("current_setting in it needs the name of a setting as a literal".to_owned()),
    };
    match name.split_once('.') {
        Some((class, _)) if class != "postern" => Ok(()),
        _ => Err(format!("the setting {name} can't be read in it")),
    }
}

fn type_of_constant(constant: &AConst) -> Option<Oid> {
    match &constant.val {
        Some(a_const::Val::Ival(_)) => Some(types::INT4),
        Some(a_const::Val::Fval(value)) => Some(types::of_number(&value.fval)),
        Some(a_const::Val::Boolval(_)) => Some(types::BOOL),
        Some(a_const::Val::Sval(_)) | None => Some(types::UNKNOWN),
        Some(a_const::Val::Bsval(_)) => None,
    }
}

fn value_function(function: protobuf::SqlValueFunction) -> Result<(Node, Oid), String> {
    use protobuf::SqlValueFunctionOp as Op;
    let now = || Node { node: Some(Kind::FuncCall(Box::new(builtin("now", Vec::new())))) };
    let typed = match function.op() {
        Op::SvfopCurrentRole
        | Op::SvfopCurrentUser
        | Op::SvfopUser
        | Op::SvfopSessionUser
        | Op::SvfopCurrentCatalog => types::NAME,
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => types::TIMESTAMPTZ,
        // Today and now are those of UTC.
        Op::SvfopLocaltimestamp => return Ok((in_zone_utc(now()), types::TIMESTAMP)),
        Op::SvfopCurrentDate => {
            let arg = Some(Box::new(in_zone_utc(now())));
            let cast = TypeCast { arg, type_name: Some(builtin_type("date")), location: -1 };
            return Ok((Node { node: Some(Kind::TypeCast(Box::new(cast))) }, types::DATE));
        }
        // current_schema is what the client sets search_path to.
        _ => return Err("a value of this kind can't stand in it".to_owned()),
    };
    Ok((Node { node: Some(Kind::SqlvalueFunction(Box::new(function))) }, typed))
}

/// A timestamptz as timestamp, a timestamp as timestamptz, in UTC.
fn in_zone_utc(value: Node) -> Node {
    Node { node: Some(Kind::FuncCall(Box::new(builtin("timezone", vec![utc(), value])))) }
}

/// UTC as an interval: a zone's name may mean another one by the session's settings.
fn utc() -> Node {
    let zero = a_const::Val::Sval(protobuf::String { sval: "00:00:00".to_owned() });
    let zero = Node { node: Some(Kind::AConst(AConst { isnull: false, location: -1, val: Some(zero) })) };
    let cast = TypeCast { arg: Some(Box::new(zero)), type_name: Some(builtin_type("interval")), location: -1 };
    Node { node: Some(Kind::TypeCast(Box::new(cast))) }
}

fn builtin(name: &str, args: Vec<Node>) -> FuncCall {
    FuncCall {
        funcname: vec![string(PG_CATALOG), string(name)],
        args,
        funcformat: protobuf::CoercionForm::CoerceExplicitCall.into(),
        location: -1,
        ..FuncCall::default()
    }
}

fn builtin_type(name: &str) -> TypeName {
    let names = vec![string(PG_CATALOG), string(name)];
    TypeName { names, typemod: -1, location: -1, ..TypeName::default() }
}

fn unsteady(what: &str) -> String {
    format!("the {what} depends on settings that the client can change, such as TimeZone: write it for UTC")
}

/// `TM` in a format asks for words in the language of lc_time, which the client can set.
fn says_translated(format: &Node) -> bool {
    matches!(&format.node, Some(Kind::AConst(AConst { val: Some(a_const::Val::Sval(text)), .. }))
        if text.sval.to_ascii_uppercase().contains("TM"))
}

fn is_literal(node: &Node) -> bool {
    matches!(&node.node, Some(Kind::AConst(AConst { val: Some(a_const::Val::Sval(_)), .. })))
}

fn is_null(node: &Node) -> bool {
    matches!(&node.node, Some(Kind::AConst(constant)) if constant.isnull)
}

fn is_row(node: &Node) -> bool {
    matches!(&node.node, Some(Kind::RowExpr(_)))
}

fn null() -> Node {
    Node { node: Some(Kind::AConst(AConst { isnull: true, location: -1, val: None })) }
}

fn boolean(value: bool) -> Node {
    let val = Some(a_const::Val::Boolval(protobuf::Boolean { boolval: value }));
    Node { node: Some(Kind::AConst(AConst { isnull: false, location: -1, val })) }
}

fn null_test(arg: Node, not: bool) -> Node {
    let kind = if not { NullTestType::IsNotNull } else { NullTestType::IsNull };
    let test = NullTest { arg: Some(Box::new(arg)), nulltesttype: kind.into(), location: -1, ..NullTest::default() };
    Node { node: Some(Kind::NullTest(Box::new(test))) }
}

fn all_of(kind: BoolExprType, args: Vec<Node>) -> Node {
    let mut args = args;
    if args.len() == 1 && kind != BoolExprType::NotExpr {
        return args.pop().unwrap_or_default();
    }
    Node { node: Some(Kind::BoolExpr(Box::new(BoolExpr { xpr: None, boolop: kind.into(), args, location: -1 }))) }
}

fn case_of(branches: Vec<(Node, Node)>, otherwise: Option<Node>) -> Node {
    let args = branches.into_iter().map(|(condition, result)| {
        let when = CaseWhen {
            expr: Some(Box::new(condition)),
            result: Some(Box::new(result)),
            location: -1,
            ..CaseWhen::default()
        };
        Node { node: Some(Kind::CaseWhen(Box::new(when))) }
    });
    let case =
        CaseExpr { args: args.collect(), defresult: otherwise.map(Box::new), location: -1, ..CaseExpr::default() };
    Node { node: Some(Kind::CaseExpr(Box::new(case))) }
}

fn binary(kind: AExprKind, name: Vec<Node>, left: Option<Node>, right: Node) -> Node {
    let expression = AExpr {
        kind: kind.into(),
        name,
        lexpr: left.map(Box::new),
        rexpr: Some(Box::new(right)),
        location: -1,
        ..AExpr::default()
    };
    Node { node: Some(Kind::AExpr(Box::new(expression))) }
}
