//! What an index takes over from the one that it extends.

use std::ops::Range;

use super::assign::NO_CELL;
use super::fine::FineRows;
use super::lists::Lists;
use super::{IvfIndex, Store};
use crate::quantize::BLOCK_ROWS;
use synadb_types::RowSet;

/// The index that another one extends. Rows are mostly added at the ends of its cells, so that
/// what was computed for the first entries of a cell still holds.
#[derive(Clone, Copy)]
pub(super) struct Heritage<'a> {
    pub(super) index: &'a IvfIndex,
    /// For each cell, the one that it was before, or [`NO_CELL`].
    pub(super) origins: &'a [u32],
}

impl<'a> Heritage<'a> {
    /// The entries of the old cell that a cell still begins with. The cell has the centroid that
    /// it had.
    fn kept(&self, lists: &Lists, cell: usize) -> Range<usize> {
        let Some(&origin) = self.origins.get(cell).filter(|&&origin| origin != NO_CELL) else {
            return 0..0;
        };
        let old = self.index.lists.entries(origin as usize);
        let before = &self.index.lists.rows[old.clone()];
        let after = &lists.rows[lists.entries(cell)];
        let same = before.iter().zip(after).take_while(|(before, after)| before == after);
        old.start..old.start + same.count()
    }

    /// Whole blocks of codes that a cell still begins with, and how many they are.
    pub(super) fn blocks(&self, lists: &Lists, cell: usize) -> (&'a [u8], usize) {
        let kept = self.kept(lists, cell);
        let count = kept.len() / BLOCK_ROWS;
        match &self.index.store {
            Store::Bits(cells, _) if count > 0 => {
                let bytes = cells.block_bytes();
                let first = kept.start / BLOCK_ROWS;
                (&cells.blocks[first * bytes..(first + count) * bytes], count)
            }
            _ => (&[], 0),
        }
    }

    /// The codes of rows, and which rows they are of.
    pub(super) fn fine(&self) -> Option<(&'a FineRows, &'a RowSet)> {
        match &self.index.store {
            Store::Bits(_, Some(fine)) => Some((fine, self.index.row_set())),
            _ => None,
        }
    }

    /// How many of a cell's first entries lie within a radius that is known, and that radius.
    pub(super) fn radius(&self, lists: &Lists, cell: usize) -> (usize, f32) {
        let kept = self.kept(lists, cell).len();
        if kept == 0 {
            return (0, 0.0);
        }
        (kept, self.index.directory.radii[self.origins[cell] as usize])
    }
}
