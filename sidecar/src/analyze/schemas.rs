//! Relations that a statement tells from others of the same name by their schemas.
//!
//! `FROM public.t JOIN other.t` are two, and `public.t.id` is a column of one of them, whatever else is called `t` nearer
//! by. An inline view has no schema to be told by. So where a statement makes use of one, what is rewritten gets a name of
//! the proxy's own, and so does what refers to it.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::protobuf as pb;
use pg_query::{Node, NodeEnum};

use super::tree::{each_child, each_select_child, string_of};

/// What a statement calls by which name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The schemas with which a name stands in FROM without an alias, or as a write's target; empty for none.
    schemas: BTreeMap<String, BTreeSet<String>>,
    /// Names that its aliases and CTEs give.
    given: BTreeSet<String>,
    /// How often each name stands for something in FROM, or for a write's target.
    times: BTreeMap<String, usize>,
    /// Relations that a column is qualified by together with their schema.
    qualifiers: BTreeSet<String>,
    /// How many names of its own the proxy gave.
    own: usize,
}

impl Names {
    /// Those in a SELECT.
    pub(crate) fn in_select(select: &mut pb::SelectStmt) -> Self {
        let mut names = Self::default();
        // What can't be walked is refused where it is decided.
        _ = each_select_child(select, &mut |child| {
            names.add(child);
            Ok(())
        });
        names
    }

    /// Those in a statement.
    pub(crate) fn in_statement(node: &mut Node) -> Self {
        let mut names = Self::default();
        names.add(node);
        names
    }

    /// Whether one relation of this name is told from something else of the name by its schema.
    pub(crate) fn told_apart(&self, relation: &str) -> bool {
        let schemas = self.schemas.get(relation).map_or(0, BTreeSet::len);
        let given = usize::from(self.given.contains(relation));
        schemas > 1 || (self.qualifiers.contains(relation) && schemas + given > 1)
    }

    /// Whether more than one thing goes by a name.
    pub(crate) fn is_of_several(&self, name: &str) -> bool {
        self.times.get(name).is_some_and(|times| *times > 1)
    }

    /// A name that nothing in the statement has.
    pub(crate) fn own(&mut self) -> String {
        loop {
            let name = format!("postern_{}", self.own);
            self.own += 1;
            if !self.given.contains(&name) && !self.schemas.contains_key(&name) {
                return name;
            }
        }
    }

    fn add(&mut self, node: &mut Node) {
        let Some(inner) = &mut node.node else { return };
        match &*inner {
            NodeEnum::RangeVar(range) => self.add_range(Some(range)),
            NodeEnum::InsertStmt(insert) => self.add_range(insert.relation.as_ref()),
            NodeEnum::UpdateStmt(update) => self.add_range(update.relation.as_ref()),
            NodeEnum::DeleteStmt(delete) => self.add_range(delete.relation.as_ref()),
            NodeEnum::MergeStmt(merge) => self.add_range(merge.relation.as_ref()),
            NodeEnum::RangeSubselect(sub) => self.add_alias(sub.alias.as_ref()),
            NodeEnum::RangeFunction(function) => self.add_alias(function.alias.as_ref()),
            NodeEnum::RangeTableFunc(table) => self.add_alias(table.alias.as_ref()),
            NodeEnum::JsonTable(table) => self.add_alias(table.alias.as_ref()),
            NodeEnum::JoinExpr(join) => {
                self.add_alias(join.alias.as_ref());
                self.add_alias(join.join_using_alias.as_ref());
            }
            NodeEnum::CommonTableExpr(cte) => _ = self.given.insert(cte.ctename.clone()),
            NodeEnum::ColumnRef(reference) => {
                if let [_, .., relation, _] = reference.fields.as_slice() {
                    self.qualifiers.extend(string_of(relation).map(str::to_owned));
                }
            }
            _ => {}
        }
        _ = each_child(inner, &mut |child| {
            self.add(child);
            Ok(())
        });
    }

    fn add_range(&mut self, range: Option<&pb::RangeVar>) {
        let Some(range) = range else { return };
        match &range.alias {
            None => {
                _ = self.schemas.entry(range.relname.clone()).or_default().insert(range.schemaname.clone());
                *self.times.entry(range.relname.clone()).or_default() += 1;
            }
            given => self.add_alias(given.as_ref()),
        }
    }

    fn add_alias(&mut self, alias: Option<&pb::Alias>) {
        if let Some(alias) = alias {
            self.given.insert(alias.aliasname.clone());
            *self.times.entry(alias.aliasname.clone()).or_default() += 1;
        }
    }
}
