//! Where the vectors come from.

use synadb_types::RowId;

use crate::distance::prefetch;

/// Vectors of consecutive rows at a constant stride.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The row that `data` begins with.
    pub first: RowId,
    /// Number of rows; at least one.
    pub count: usize,
    /// Distance between the beginnings of two rows, in `f32`.
    pub stride: usize,
    /// At least `(count - 1) * stride` floats and the dimensions of one vector.
    pub data: &'a [f32],
}

/// Vectors by row number.
///
/// Rows that were reserved and never committed hold anything at all; they are not live.
/// Components of live rows are finite.
pub trait VectorSource: Sync {
    /// Dimensions of every vector.
    fn dimensions(&self) -> usize;

    /// One more than the largest row there is.
    fn rows_end(&self) -> u32;

    /// The longest contiguous run of slots that begins at `row`; none past the end, and where
    /// rows were reserved and not yet filled.
    fn block(&self, row: RowId) -> Option<Block<'_>>;

    /// The first row at or behind `row` that has a block.
    fn filled_from(&self, row: RowId) -> Option<RowId> {
        (row.0 < self.rows_end()).then_some(row)
    }

    /// [`inverse_norm`](crate::inverse_norm) of the rows from `first` on, one for each of `out`.
    fn inverse_norms(&self, first: RowId, out: &mut [f32]);

    /// True when the row is to be found.
    fn is_live(&self, row: RowId) -> bool;

    /// The vector of a row; none past the end.
    fn vector(&self, row: RowId) -> Option<&[f32]> {
        self.block(row).map(|block| &block.data[..self.dimensions()])
    }

    /// Asks the processor for a row that will be read soon, the beginning of one that is long.
    fn prefetch(&self, row: RowId) {
        if let Some(vector) = self.vector(row) {
            prefetch(vector);
        }
    }

    /// Copies the vectors of `rows`, side by side, into `out`.
    ///
    /// # Panics
    ///
    /// Panics when `out` has another length than the vectors, or a row lies past the end.
    fn gather(&self, rows: &[RowId], out: &mut [f32]) {
        let dimensions = self.dimensions();
        assert_eq!(out.len(), rows.len() * dimensions, "the vectors fill the output");
        if dimensions == 0 {
            return;
        }
        for (&row, slot) in rows.iter().zip(out.chunks_exact_mut(dimensions)) {
            let vector = self.vector(row).expect("a gathered row lies before the end");
            slot.copy_from_slice(vector);
        }
    }
}
