//! The second wall: result columns against the catalog, by what RowDescription says they come from.

use crate::decide::bound::{BoundPolicy, RelationView};
use crate::wire::{Malformed, Reader};

/// A column that should be masked or hidden and arrives raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    /// Oid of its relation.
    pub(super) relation: u32,
    /// Its attribute number.
    pub(super) attribute: i16,
}

/// The first column of a RowDescription that comes straight from a column that this identity must not see raw.
pub(super) fn raw_column(body: &[u8], bound: &BoundPolicy) -> Result<Option<Raw>, Malformed> {
    let mut reader = Reader::new(body);
    let mut found = None;
    // Most columns of a result come from the relation that the one before came from.
    let mut looked_at = (0, None);
    for _ in 0..reader.u16()? {
        reader.cstr_bytes()?;
        let relation = reader.u32()?;
        let attribute = reader.i16()?;
        // Type, its size and modifier, format.
        reader.bytes(4 + 2 + 4 + 2)?;
        if relation == 0 {
            continue;
        }
        if looked_at.0 != relation {
            looked_at = (relation, bound.views.get(&relation));
        }
        if found.is_none() && looked_at.1.is_some_and(|view| is_closed(view, attribute)) {
            found = Some(Raw { relation, attribute });
        }
    }
    reader.finish()?;
    Ok(found)
}

fn is_closed(view: &RelationView, attribute: i16) -> bool {
    view.closed.is_some() || view.columns.contains_key(&attribute)
}
