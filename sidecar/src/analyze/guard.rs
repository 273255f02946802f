//! Conditions that compare with a subquery, and are run for each row: `points > (SELECT avg(…) … WHERE project = t.project)`.
//!
//! What the server takes such a condition to cost does not hold what the subquery reads from around it, so that it may come before a
//! filter that the barrier is made of. A relation that were fenced for that would lose its joins. So the condition itself is tried for rows
//! only that are inside: `CASE WHEN t.inside THEN <condition> ELSE false END`, where the inline view shows the filter as `inside`. Which
//! of the relation's columns it reads is no matter then. As a condition by itself it leaves out the same rows.
//!
//! Where the view can't show another column (`*`, the row as a value), the relation is fenced.

use std::collections::BTreeSet;

use pg_query::{Node, NodeEnum};

use super::expression::makes_equal;
use super::scope::{Item, ItemId, RelationItem};
use super::{Analyzer, Place, tree, view};
use crate::catalog::Oid;
use crate::decide::Denial;

/// A condition that may be tried only for rows that are found to be inside a filter.
#[derive(Debug)]
pub(super) struct Guard {
    /// The level of the query whose condition it is, from 1.
    level: usize,
    /// The columns of filtered relations of that level which it reads so that something may fail.
    columns: BTreeSet<(ItemId, i16)>,
    /// Those relations of that level, of which it reads in a subquery that may fail.
    below: BTreeSet<ItemId>,
}

impl Analyzer<'_> {
    /// Walks a condition by itself that compares with a subquery; what it reads of this level stands behind no barrier where it is
    /// tried for rows only that are inside.
    pub(super) fn tried_inside(&mut self, node: &mut Node, place: Place, alone: bool) -> Result<Option<Oid>, Denial> {
        let (level, columns, below) = (self.scopes.levels.len(), BTreeSet::new(), BTreeSet::new());
        self.guards.push(Guard { level, columns, below });
        let as_join = self.equals_value(node, place, alone);
        // As a part of the whole it makes nothing equal.
        let walked = as_join.map_or_else(|| self.expression(node, place), |kind| kind.map(Some));
        let Some(guard) = self.guards.pop() else { return walked };
        let kind = walked?;
        if guard.below.is_empty() {
            // Its costs tell what the barrier costs.
            for (id, number) in guard.columns {
                self.use_column(id, number, Place { leaky: true, ..Place::default() })?;
            }
            if makes_equal(node) {
                self.late_equals.extend(self.columns_of_comparison(node));
            }
            return Ok(kind);
        }
        let items: BTreeSet<ItemId> = guard.columns.iter().map(|(id, _)| *id).chain(guard.below).collect();
        for id in &items {
            if let Some(item) = self.scopes.items.get_mut(*id).and_then(Item::relation_mut) {
                item.guards = true;
                item.guarded.extend(guard.columns.iter().filter(|(of, _)| of == id).map(|(_, number)| *number));
            }
        }
        let inside: Vec<Node> = items.into_iter().map(view::inside).collect();
        *node = tree::case(tree::and(inside), tree::take(node), Some(tree::boolean(false)));
        self.changed = true;
        Ok(kind)
    }

    /// Notes that what is walked reads of this item so that something may fail, a column or in a subquery, and tells whether that is
    /// done for rows inside only.
    pub(super) fn is_guarded(&mut self, id: ItemId, column: Option<(i16, Place)>) -> bool {
        if self.guards.is_empty() {
            return false;
        }
        let Some(item) = self.scopes.get(id).and_then(Item::relation) else { return false };
        let can_be = item.filtered() && !item.write_target && !item.left_out && item.system_view.is_none();
        let level = self.scopes.levels.iter().position(|level| level.items.contains(&id)).map(|index| index + 1);
        let Some(guard) = self.guards.iter_mut().find(|guard| Some(guard.level) == level).filter(|_| can_be) else {
            return false;
        };
        match column {
            Some((number, place)) => {
                guard.columns.insert((id, number));
                if place.from_below {
                    guard.below.insert(id);
                }
            }
            None => {
                guard.below.insert(id);
            }
        }
        true
    }
}

/// Whether it is a comparison with a subquery in it.
pub(super) fn compares_query(node: &Node) -> bool {
    matches!(node.node, Some(NodeEnum::AExpr(_))) && tree::holds(node, &|node| matches!(node, NodeEnum::SubLink(_)))
}

/// Whether the view of a relation can show that a row is inside its filter.
pub(super) fn can_show_inside(item: &RelationItem) -> bool {
    !(item.whole || item.as_row || item.natural || item.in_join)
}
