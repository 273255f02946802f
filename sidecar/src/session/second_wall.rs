//! The second wall: result columns against the catalog, by what RowDescription says they come from.

use crate::decide::bound::BoundPolicy;
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
    for _ in 0..reader.u16()? {
        reader.cstr_bytes()?;
        let relation = reader.u32()?;
        let attribute = reader.i16()?;
        // Type, its size and modifier, format.
        reader.bytes(4 + 2 + 4 + 2)?;
        if found.is_none() && relation != 0 && is_closed(bound, relation, attribute) {
            found = Some(Raw { relation, attribute });
        }
    }
    reader.finish()?;
    Ok(found)
}

fn is_closed(bound: &BoundPolicy, relation: u32, attribute: i16) -> bool {
    bound.views.get(&relation).is_some_and(|view| view.closed.is_some() || view.columns.contains_key(&attribute))
}
