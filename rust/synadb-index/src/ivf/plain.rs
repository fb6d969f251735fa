//! Cells that hold their vectors at full precision.

use std::ops::Range;

use synadb_types::RowId;

use super::lists::{Lists, NO_ROW};
use crate::job::Crew;
use crate::{IndexError, Query, VectorSource};

/// Floats in a cache line: each vector begins at a multiple.
const LINE: usize = 16;
/// Vectors copied by one call of a worker.
const PIECE_ENTRIES: usize = 2048;

/// The vectors of all entries, side by side.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PlainCells {
    stride: usize,
    vectors: Vec<f32>,
    inverse_norms: Vec<f32>,
}

impl PlainCells {
    /// Copies the vectors of the listed rows: `4 * dimensions` bytes an entry, rounded up to a
    /// cache line.
    pub(super) fn new(
        lists: &Lists,
        source: &dyn VectorSource,
        crew: &Crew<'_>,
    ) -> Result<Self, IndexError> {
        let stride = source.dimensions().next_multiple_of(LINE).max(LINE);
        let entries = lists.rows.len();
        let mut cells = Self {
            stride,
            vectors: vec![0.0; entries * stride],
            inverse_norms: vec![0.0; entries],
        };
        let vectors = cells.vectors.chunks_mut(PIECE_ENTRIES * stride);
        let norms = cells.inverse_norms.chunks_mut(PIECE_ENTRIES);
        let pieces = lists.rows.chunks(PIECE_ENTRIES).zip(vectors.zip(norms)).collect();
        crew.each(pieces, |(rows, (vectors, norms)): (&[u32], (&mut [f32], &mut [f32]))| {
            let slots = vectors.chunks_mut(stride).zip(norms);
            for (&row, (slot, norm)) in rows.iter().zip(slots) {
                if row != NO_ROW
                    && let Some(vector) = source.vector(RowId(row))
                {
                    slot[..vector.len()].copy_from_slice(vector);
                    source.inverse_norms(RowId(row), std::slice::from_mut(norm));
                }
            }
            Ok(())
        })?;
        Ok(cells)
    }

    /// Fast keys of consecutive entries, as [`Query::keys`] makes them.
    pub(super) fn keys(&self, query: &Query, entries: Range<usize>, out: &mut [f32]) {
        let norms = &self.inverse_norms[entries.clone()];
        let last = entries.end * self.stride;
        query.keys(&self.vectors[entries.start * self.stride..last], self.stride, norms, out);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        (self.vectors.len() + self.inverse_norms.len()) * size_of::<f32>()
    }

    pub(super) fn vector(&self, entry: usize, dimensions: usize) -> &[f32] {
        &self.vectors[entry * self.stride..][..dimensions]
    }
}
