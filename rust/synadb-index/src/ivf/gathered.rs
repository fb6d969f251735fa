//! The cells of an inverted file with the codes of those rows alone that a filter allows.

use std::sync::Arc;

use synadb_types::RowSet;

use super::bits::BitCells;
use super::joined::copied;
use super::{IvfIndex, IvfSearch, Lists, Store};
use crate::gathered::{Copies, Cost};
use crate::quantize::BLOCK_ROWS;
use crate::{Beyond, Filter, GatheredRows};

/// Rows for each one that is left at least: of fewer a copy is hardly worth its memory.
const ROWS_FOR_ONE: usize = 2;

/// Entries that are left of a cell at least, on average: of fewer most of a block would be empty.
const ENTRIES_A_CELL: usize = 8;
/// Entries that are asked whether a filter allows them in the time of a look at a block of codes.
const ENTRIES_FOR_BLOCK: usize = 16;

/// Entries and codes of some rows of an index, in its cells.
pub(crate) struct GatheredCells {
    pub(super) lists: Lists,
    pub(super) cells: BitCells,
}

impl GatheredCells {
    pub fn slots(&self) -> usize {
        self.lists.rows.len()
    }

    pub fn bytes(&self) -> usize {
        let Lists { starts, counts, rows } = &self.lists;
        self.cells.blocks.len() + size_of::<u32>() * (starts.len() + counts.len() + rows.len())
    }
}

impl IvfIndex {
    /// A filter of rows of this index, whose codes are to be copied where that can pay.
    pub(super) fn gathering(&self, rows: RowSet) -> Filter {
        let is_part = rows.len().saturating_mul(ROWS_FOR_ONE) <= self.row_set().len();
        let are_enough = self.kept_entries(rows.len()) >= ENTRIES_A_CELL * self.cells();
        match &self.store {
            Store::Bits(..) if is_part && are_enough => {
                Filter::Gathered(GatheredRows::new(rows, &self.shelf))
            }
            _ => Filter::Rows(rows),
        }
    }

    /// The cells of a filter, for one search, where they were copied or it pays now. A search that
    /// asks whether what is near is hidden has to meet the other rows.
    pub(super) fn gathered(&self, filter: &Filter, search: IvfSearch) -> Option<Arc<Copies>> {
        let Filter::Gathered(gathered) = filter else { return None };
        if matches!(search.beyond, Beyond::WhereHidden { .. }) || self.cells() == 0 {
            return None;
        }
        let cost = || {
            let (cells, all) = (self.cells(), self.lists.rows.len());
            let nprobe = search.nprobe.clamp(1, cells);
            let kept = self.kept_entries(gathered.rows().len());
            // A cell that has some has half a block that is empty.
            let left = (kept / BLOCK_ROWS + cells / 2).max(cells);
            Cost {
                spared: (all / BLOCK_ROWS).saturating_sub(left) * nprobe / cells,
                copying: kept + all / ENTRIES_FOR_BLOCK,
                codes: left * BLOCK_ROWS,
                all,
            }
        };
        gathered.copies(&self.shelf, cost, || self.gather(filter).map(Copies::Cells))
    }

    /// The entries of so many of its rows, about, and a share of the empty ones.
    fn kept_entries(&self, rows: usize) -> usize {
        let share = rows as f64 / self.row_set().len().max(1) as f64;
        (self.lists.rows.len() as f64 * share) as usize
    }

    fn gather(&self, filter: &Filter) -> Option<GatheredCells> {
        let Store::Bits(codes, _) = &self.store else { return None };
        let (lists, cells) = copied(&[(self, filter)], &[codes], &mut |_| Ok(())).ok()?;
        Some(GatheredCells { lists, cells })
    }
}
