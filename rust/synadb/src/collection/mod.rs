//! Collections: keys that lead to rows, and what is known of each row.

mod rows;
mod snapshot;

pub(crate) use rows::{NO_ROW, RowsReader, RowsView, Slots, carry, reservation, stride};
pub(crate) use snapshot::Snapshot;
