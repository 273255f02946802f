//! The inline view: what takes a relation's place in FROM.
//!
//! While a statement is walked, a relation that must become a view is only marked, because what the statement uses of
//! it is known when all of it was walked. Then [`Analyzer::put_views`] replaces each marked relation. A mark that is
//! left over (a place the second walk does not reach) makes the statement refused: see [`has_mark`].
//!
//! A column that conditions read both so that they may fail and so that nothing can (`at >= d AND at < d + interval '1 day'`) is shown twice:
//! as it is, and behind the barrier by a name of the proxy's own, which what may fail is given in the second walk.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::Analyzer;
use super::guard::can_show_inside;
use super::scope::{ItemId, RelationItem};
use super::tree::{self, each_child, unsupported};
use crate::catalog::names::quote_name;
use crate::catalog::{self, Oid};
use crate::decide::bound::ColumnView;
use crate::decide::expression::instantiate;
use crate::decide::{Denial, Reason};

/// The alias of the relation inside its view.
const INNER: &str = "r";

/// Always true, which the server neither knows as it plans nor takes to be free.
const DEARER: &str = "pg_catalog.now() IS NOT NULL";

/// What is shown of a row beside its columns: whether it is inside the filter, and columns where it is.
const INSIDE: &str = "inside";

/// Begins a mark; no name of a client's holds it, [`has_mark`] would refuse it.
const MARK: char = '\u{1}';

/// The mark of an item, put where a relation's catalog name stands.
pub(crate) fn mark(id: ItemId) -> String {
    format!("{MARK}{id}")
}

/// Whether a text that is to be sent still holds a mark, or a row column that nothing was put in place of.
pub(crate) fn has_mark(text: &str) -> bool {
    text.contains(MARK)
}

/// Stands for whether a row of an item is inside its filter.
pub(crate) fn inside(id: ItemId) -> Node {
    tree::node(NodeEnum::ColumnRef(pb::ColumnRef { fields: vec![tree::string(mark(id))], location: -1 }))
}

/// The item of which a mark stands for whether a row is inside.
fn marked_inside(reference: &pb::ColumnRef) -> Option<ItemId> {
    match reference.fields.as_slice() {
        [name] => tree::string_of(name)?.strip_prefix(MARK)?.parse().ok(),
        _ => None,
    }
}

fn marked(range: &pb::RangeVar) -> Option<ItemId> {
    range.catalogname.strip_prefix(MARK)?.parse().ok()
}

fn internal(what: &str) -> Denial {
    Denial::new(Reason::Internal, format!("the gate could not rewrite the statement: {what}"))
}

impl Analyzer<'_> {
    /// Replaces every marked relation under a node by its view.
    pub(crate) fn put_views(&self, node: &mut Node) -> Result<(), Denial> {
        let late = self.equal_to_late();
        let twice = self.shown_twice(node, &late);
        self.put_views_behind(node, &Behind { late, twice })
    }

    /// The columns that are shown twice, and the name that each has behind the barrier.
    fn shown_twice(&self, node: &Node, late: &BTreeSet<(ItemId, i16)>) -> BTreeMap<(ItemId, i16), String> {
        if self.apart.is_empty() {
            return BTreeMap::new();
        }
        let places = RefCell::new(self.apart.keys().copied().collect::<BTreeSet<i32>>());
        tree::holds(node, &|node| {
            if let NodeEnum::ColumnRef(reference) = node
                && self.column_apart(reference).is_some()
            {
                places.borrow_mut().remove(&reference.location);
            }
            false
        });
        // What is not found can't be renamed.
        let lost: BTreeSet<(ItemId, i16)> =
            places.take().iter().filter_map(|place| self.apart.get(place)).copied().collect();
        let is_twice = |(id, number): &(ItemId, i16)| {
            let relation = self.scopes.get(*id).and_then(|item| item.relation());
            !late.contains(&(*id, *number))
                && !lost.contains(&(*id, *number))
                && relation.is_some_and(|item| {
                    let shows_all = item.whole || item.as_row || item.natural || item.in_join;
                    item.bare.contains(number) && !item.barrier.contains(number) && !shows_all
                })
        };
        let columns: BTreeSet<(ItemId, i16)> = self.apart.values().copied().filter(is_twice).collect();
        columns
            .into_iter()
            .map(|(id, number)| ((id, number), self.name_of_flag(id, format!("{INSIDE}_{number}"))))
            .collect()
    }

    /// The condition that a row of an item is inside its filter, as its view shows it; a fenced view shows no other rows.
    fn whether_inside(&self, id: ItemId) -> Option<Node> {
        let item = self.scopes.get(id)?;
        Some(match can_show_inside(item.relation()?) {
            true => tree::column(item.alias.as_deref()?, &self.name_of_flag(id, INSIDE.to_owned())),
            false => tree::boolean(true),
        })
    }

    /// A name for a column of a relation's view that no column of it has.
    fn name_of_flag(&self, id: ItemId, mut name: String) -> String {
        let relation = self.scopes.get(id).and_then(|item| item.relation());
        while relation.is_some_and(|item| item.relation.columns.iter().any(|column| *column.name == *name)) {
            name.push('_');
        }
        name
    }

    /// The column that a reference means which may fail.
    fn column_apart(&self, reference: &pb::ColumnRef) -> Option<(ItemId, i16)> {
        let (id, number) = *self.apart.get(&reference.location)?;
        let item = self.scopes.get(id)?;
        let names = tree::strings(&reference.fields)?;
        // Places in what policies say may be the same.
        let is_meant = match names.as_slice() {
            [name] => item.relation()?.number_of(name) == Some(number),
            [alias, name] => item.alias.as_deref() == Some(alias) && item.relation()?.number_of(name) == Some(number),
            _ => false,
        };
        is_meant.then_some((id, number))
    }

    /// The same, where these columns stand behind the barrier of a filter beside those that each item has there.
    fn put_views_behind(&self, node: &mut Node, behind: &Behind) -> Result<(), Denial> {
        let Some(inner) = &mut node.node else { return Ok(()) };
        let replacement = match inner {
            NodeEnum::RangeVar(range) => match marked(range) {
                Some(id) => Some(self.view(id, range, None, behind)?),
                None => None,
            },
            NodeEnum::RangeTableSample(sample) => match sample.relation.as_deref().and_then(|r| r.node.as_ref()) {
                Some(NodeEnum::RangeVar(range)) => match marked(range) {
                    Some(id) => Some(self.view(id, &range.clone(), Some(sample), behind)?),
                    None => None,
                },
                _ => None,
            },
            NodeEnum::ColumnRef(reference) if marked_inside(reference).is_some() => {
                marked_inside(reference).and_then(|id| self.whether_inside(id))
            }
            NodeEnum::ColumnRef(reference) => {
                let column = self.column_apart(reference);
                let inside = column.and_then(|(id, number)| Some((id, behind.twice.get(&(id, number))?)));
                inside.and_then(|(id, name)| Some(tree::column(self.scopes.get(id)?.alias.as_deref()?, name)))
            }
            other => {
                each_child(other, &mut |child| self.put_views_behind(child, behind))?;
                None
            }
        };
        if let Some(replacement) = replacement {
            *node = replacement;
        }
        Ok(())
    }

    fn view(
        &self,
        id: ItemId,
        range: &pb::RangeVar,
        sample: Option<&pb::RangeTableSample>,
        behind: &Behind,
    ) -> Result<Node, Denial> {
        let item = self.scopes.get(id).and_then(|item| item.relation()).ok_or_else(|| internal("an item is gone"))?;
        let subquery = match &item.system_view {
            Some(sql) => system_subquery(sql, item)?,
            None => {
                let mut fenced = item.fenced || self.free_condition;
                let of_item = (id, i16::MIN)..=(id, i16::MAX);
                let twice: Vec<(i16, &str)> =
                    behind.twice.range(of_item.clone()).map(|((_, number), name)| (*number, &**name)).collect();
                let is_once = |number: &&i16| !twice.iter().any(|(twice, _)| twice == *number);
                let mut barrier: BTreeSet<i16> =
                    item.barrier.iter().chain(item.apart.iter().filter(is_once)).copied().collect();
                if item.filtered() {
                    let before = barrier.len();
                    barrier.extend(behind.late.range(of_item).map(|(_, number)| *number));
                    fenced |= item.left_out && barrier.len() > before;
                }
                let shows_inside = item.guards && can_show_inside(item);
                if item.guards && !shows_inside {
                    barrier.extend(&item.guarded);
                    fenced = true;
                }
                let shows_inside = shows_inside.then(|| self.name_of_flag(id, INSIDE.to_owned()));
                let filter = item.view.as_ref().and_then(|view| view.filter.as_ref());
                fenced |= filter.is_some_and(|filter| self.is_filter_unsteady(id, filter));
                let shown = Shown { barrier, twice, inside: shows_inside };
                tree::query(subquery(item, &shown, range, sample, fenced, self.may_raise)?)
            }
        };
        let name = || pb::Alias { aliasname: range.relname.clone(), colnames: Vec::new() };
        Ok(tree::node(NodeEnum::RangeSubselect(Box::new(pb::RangeSubselect {
            lateral: false,
            subquery: tree::boxed(subquery),
            alias: Some(range.alias.clone().unwrap_or_else(name)),
        }))))
    }

    /// The row of a write's target as the identity sees it, as one value.
    pub(crate) fn masked_row(&mut self, id: ItemId) -> Result<Node, Denial> {
        let item = self.scopes.get(id).ok_or_else(|| internal("an item is gone"))?;
        let alias = item.alias.clone().ok_or_else(|| internal("a target without a name"))?;
        let relation = item.relation().ok_or_else(|| internal("a target that is no relation"))?;
        let targets = relation
            .visible()
            .map(|(number, name)| tree::target(name, shown(relation, number, name, &alias)))
            .collect();
        Ok(self.row_of(targets, self.row_is_there(id, &alias, relation)?, relation))
    }

    /// The row of an item of which the identity sees another one than is stored, as a value of the relation's own type, and that
    /// type: as functions take it. What is hidden is NULL in it.
    pub(crate) fn typed_row(&self, id: ItemId) -> Result<Option<(Node, Oid)>, Denial> {
        let Some(item) = self.scopes.get(id) else { return Ok(None) };
        let (Some(alias), Some(relation)) = (&item.alias, item.relation()) else { return Ok(None) };
        let of = &relation.relation;
        if !(relation.view.is_some() && relation.replaced() || self.is_guarded_target(id)) || of.row_type == 0 {
            return Ok(None);
        }
        let known: BTreeMap<i16, &Arc<str>> = relation.visible().collect();
        let field = |column: &catalog::Column| match known.get(&column.number) {
            Some(_) if relation.write_target => shown(relation, column.number, &column.name, alias),
            Some(known) => tree::column(alias, known),
            None => tree::null(),
        };
        let row = tree::node(NodeEnum::RowExpr(Box::new(pb::RowExpr {
            args: of.columns.iter().map(field).collect(),
            row_format: pb::CoercionForm::CoerceExplicitCall as i32,
            location: -1,
            ..pb::RowExpr::default()
        })));
        let row = tree::cast(row, &format!("{}.{}", quote_name(&of.schema), quote_name(&of.name)))?;
        let row = match self.row_is_there(id, alias, relation)? {
            Some(is_there) => tree::case(is_there, row, None),
            None => row,
        };
        Ok(Some((row, of.row_type)))
    }

    /// The condition that there is a row of an item, if there may be none: an outer join gives none, nor is one before an INSERT.
    fn row_is_there(&self, id: ItemId, alias: &str, relation: &RelationItem) -> Result<Option<Node>, Denial> {
        let alias = quote_name(alias);
        if relation.write_target && !self.before_and_after.contains(&id) {
            return Ok(None);
        }
        // Without the star a column of the name would come first.
        tree::parse_expression(&format!("({alias}.*) IS DISTINCT FROM NULL")).map(Some)
    }

    /// The row of a relation whose alias renames its columns: fields of the server's row type keep their names, those of
    /// a subquery's row have the alias's.
    pub(crate) fn row_by_own_names(&self, items: &[ItemId]) -> Result<Option<Node>, Denial> {
        let [item] = items else { return Ok(None) };
        let Some((alias, relation)) = self.renamed_columns(*item) else { return Ok(None) };
        let field = |(number, known): (i16, &Arc<str>)| {
            let column = relation.relation.column_at(number).ok_or_else(|| internal("a column is gone"))?;
            Ok(tree::target(&column.name, tree::column(alias, known)))
        };
        let fields = relation.visible().map(field).collect::<Result<_, Denial>>()?;
        Ok(Some(self.row_of(fields, self.row_is_there(*item, alias, relation)?, relation)))
    }

    /// These fields as one value; nothing where the condition does not hold.
    fn row_of(&self, fields: Vec<Node>, condition: Option<Node>, relation: &RelationItem) -> Node {
        // A column of the name would be meant before the row.
        let mut name = INNER.to_owned();
        let is_column = |name: &str| relation.relation.columns.iter().any(|column| *column.name == *name);
        let is_seen = |name: &str| !self.scopes.meaning(&[name]).columns.is_empty();
        while is_column(&name) || is_seen(&name) || self.scopes.is_of_guarded_target(&name) {
            name.push('_');
        }
        let derived = tree::derived(tree::query(select(fields, Vec::new(), condition)), &name, Vec::new());
        let row = tree::node(NodeEnum::ColumnRef(pb::ColumnRef { fields: vec![tree::string(name)], location: -1 }));
        tree::subquery(pb::SubLinkType::ExprSublink, select(vec![tree::target("", row)], vec![derived], None))
    }

    /// A relation behind a view, with the alias that renames its columns.
    pub(crate) fn renamed_columns(&self, id: ItemId) -> Option<(&Arc<str>, &RelationItem)> {
        let item = self.scopes.get(id)?;
        let renames = |relation: &&RelationItem| relation.replaced() && !relation.column_aliases.is_empty();
        item.alias.as_ref().zip(item.relation().filter(renames))
    }
}

/// What the identity sees of a column, by the alias under which the relation stands.
pub(crate) fn shown(item: &RelationItem, number: i16, name: &str, alias: &str) -> Node {
    match item.view.as_ref().and_then(|view| view.columns.get(&number)) {
        Some(ColumnView::Masked(mask)) => instantiate(&mask.expression, alias),
        // A hidden column is not among the visible ones.
        Some(ColumnView::Hidden) | None => tree::column(alias, name),
    }
}

/// `SELECT targets FROM from WHERE condition`.
pub(crate) fn select(target_list: Vec<Node>, from_clause: Vec<Node>, condition: Option<Node>) -> pb::SelectStmt {
    pb::SelectStmt {
        target_list,
        from_clause,
        where_clause: condition.map(Box::new),
        limit_option: pb::LimitOption::Default as i32,
        op: pb::SetOperation::SetopNone as i32,
        ..pb::SelectStmt::default()
    }
}

/// A relation under the proxy's own alias.
pub(crate) fn range(schema: &str, name: &str, inh: bool, alias: &str) -> pb::RangeVar {
    pb::RangeVar {
        catalogname: String::new(),
        schemaname: schema.to_owned(),
        relname: name.to_owned(),
        inh,
        relpersistence: "p".to_owned(),
        alias: Some(pb::Alias { aliasname: alias.to_owned(), colnames: Vec::new() }),
        location: -1,
    }
}

/// What stands behind the barriers of filters beside what each item has there.
struct Behind {
    /// Columns that are equal to what may fail late.
    late: BTreeSet<(ItemId, i16)>,
    /// Columns that are shown as they are, too, and the name that each has behind the barrier.
    twice: BTreeMap<(ItemId, i16), String>,
}

/// How a relation's view shows columns.
struct Shown<'v> {
    /// Those behind the barrier.
    barrier: BTreeSet<i16>,
    /// Those that are shown as they are, too, and the name that each has behind the barrier.
    twice: Vec<(i16, &'v str)>,
    /// The name by which it shows the filter.
    inside: Option<String>,
}

/// The inline view of a relation.
///
/// The server merges it into the query around it, and tries conditions in the order of what they cost. Something that can
/// raise an error (`raised`) must not come before the filter. A condition that
/// reads a column behind the barrier holds the whole filter and a little more, so it costs more and comes later: at the same cost
/// either may come first. What does not hold it (a
/// volatile call on nothing of the row), or does where costs don't show it (a subquery), stays outside by OFFSET 0.
fn subquery(
    item: &RelationItem,
    Shown { barrier, twice, inside: name_of_inside }: &Shown<'_>,
    written: &pb::RangeVar,
    sample: Option<&pb::RangeTableSample>,
    fenced: bool,
    raised: bool,
) -> Result<pb::SelectStmt, Denial> {
    let relation = &item.relation;
    let view = item.view.as_ref().ok_or_else(|| internal("a view is gone"))?;
    let filter = view.filter.as_ref().map(|filter| instantiate(&filter.expression, INNER));
    if !item.system_columns.is_empty() && (item.as_row || item.natural) {
        // In a subquery they are columns like others: they would be in the row, and joined by.
        let place = if item.as_row { "the row as a value" } else { "NATURAL JOIN" };
        return Err(unsupported(&format!("a system column such as ctid or xmin beside {place}")));
    }
    let behind = match &filter {
        Some(filter) if !barrier.is_empty() || !twice.is_empty() || item.system_barrier => {
            Some(tree::and(vec![filter.clone(), tree::parse_expression(DEARER)?]))
        }
        _ => None,
    };
    let mut targets = Vec::new();
    let mut inside = Vec::new();
    for (number, _) in item.visible().filter(|(number, _)| item.whole || item.used.contains(number)) {
        let column = relation.column_at(number).ok_or_else(|| internal("a column is gone"))?;
        let value = shown(item, number, &column.name, INNER);
        let name_inside = twice.iter().find(|(twice, _)| *twice == number).map(|(_, name)| *name);
        let Some(behind) = behind.as_ref().filter(|_| barrier.contains(&number) || name_inside.is_some()) else {
            targets.push(tree::target(&column.name, value));
            continue;
        };
        // A NULL without the modifier would take it from the other.
        let none = (column.type_modifier >= 0).then(|| tree::parse_expression(&format!("NULL::{}", column.type_sql)));
        let value_inside = tree::case(behind.clone(), value.clone(), none.transpose()?);
        match name_inside {
            Some(name) => {
                targets.push(tree::target(&column.name, value));
                inside.push(tree::target(name, value_inside));
            }
            None => targets.push(tree::target(&column.name, value_inside)),
        }
    }
    targets.append(&mut inside);
    if let (Some(name), Some(filter)) = (name_of_inside, &filter) {
        targets.push(tree::target(name, filter.clone()));
    }
    // Last, so that a list of column aliases names the others.
    for name in &item.system_columns {
        let value = tree::column(INNER, name);
        let behind = behind.as_ref().filter(|_| item.system_barrier);
        targets
            .push(tree::target(name, behind.map_or(value.clone(), |behind| tree::case(behind.clone(), value, None))));
    }
    let mut source = tree::node(NodeEnum::RangeVar(range(&relation.schema, &relation.name, written.inh, INNER)));
    if let Some(sample) = sample {
        source = tree::node(NodeEnum::RangeTableSample(Box::new(pb::RangeTableSample {
            relation: tree::boxed(source),
            ..sample.clone()
        })));
    }
    let fenced = fenced && filter.is_some();
    let raised = raised || behind.is_some();
    let mut conditions: Vec<Node> =
        filter.into_iter().map(|filter| if raised { without_join(filter) } else { filter }).collect();
    if behind.is_some() || fenced {
        conditions.extend(item.pushed.iter().map(|condition| instantiate(condition, INNER)));
    }
    let condition = (!conditions.is_empty()).then(|| tree::and(conditions));
    let mut view = select(targets, vec![source], condition);
    if fenced {
        fence(&mut view);
    }
    Ok(view)
}

/// A filter that is tried where the relation is read. A subquery in it would become a join, before which other relations
/// may be read and conditions tried.
pub(crate) fn without_join(filter: Node) -> Node {
    if has_subquery(&filter) { tree::case(filter, tree::boolean(true), Some(tree::boolean(false))) } else { filter }
}

/// OFFSET 0 keeps a subquery from being merged into the query around it.
pub(crate) fn fence(subquery: &mut pb::SelectStmt) {
    subquery.limit_offset = tree::boxed(tree::number(0));
    subquery.limit_option = pb::LimitOption::Count as i32;
}

fn has_subquery(expression: &Node) -> bool {
    tree::holds(expression, &|node| matches!(node, NodeEnum::SubLink(_)))
}

fn system_subquery(sql: &str, item: &RelationItem) -> Result<Node, Denial> {
    let mut parsed = pg_query::parse(sql, 0).map_err(|_| internal("a catalog view"))?.protobuf;
    let statement = parsed.stmts.pop().and_then(|raw| raw.stmt).filter(|_| parsed.stmts.is_empty());
    let mut statement = statement.ok_or_else(|| internal("a catalog view"))?;
    match &mut statement.node {
        Some(NodeEnum::SelectStmt(select)) => {
            let added = item.system_columns.iter().map(|name| tree::target(name, tree::column(INNER, name)));
            select.target_list.splice(..0, added);
        }
        _ => return Err(internal("a catalog view")),
    }
    Ok(*statement)
}
