//! Collections: keys that lead to rows, and what is known of each row.

mod carry;
mod companion;
mod key_order;
mod row_keys;
mod rows;
mod snapshot;

pub(crate) use carry::{RowTable, carry, carry_live, carry_row};
pub(crate) use companion::{Companion, FIRST_KIND, SharedCompanion};
pub(crate) use key_order::KeyOrder;
pub(crate) use rows::{NO_ROW, RowsReader, RowsView, Slots, lead, open_rows, reservation, stride};
pub(crate) use snapshot::Snapshot;
