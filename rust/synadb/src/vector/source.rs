//! The mapped rows, as the index crate reads them.

use synadb_index::{Block, VectorSource};
use synadb_types::RowId;

use crate::collection::Snapshot;

/// Vectors of a snapshot.
pub(crate) struct MappedVectors<'a> {
    pub snapshot: &'a Snapshot,
    pub dimensions: usize,
}

impl VectorSource for MappedVectors<'_> {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.snapshot.rows_end()
    }

    fn filled_from(&self, row: RowId) -> Option<RowId> {
        self.snapshot.filled_from(row)
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let slots = self.snapshot.slots(row)?;
        // Extents are aligned to 64 bytes and so is the stride.
        let data: &[f32] = bytemuck::try_cast_slice(slots.bytes).ok()?;
        let stride = (4 * self.dimensions).next_multiple_of(64) / 4;
        Some(Block { first: row, count: slots.count, stride, data })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        self.snapshot.inverse_norms(first, out);
    }

    fn is_live(&self, row: RowId) -> bool {
        self.snapshot.is_live(row)
    }
}
