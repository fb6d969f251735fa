//! Rows by cell.

use std::ops::Range;

use synadb_types::RowId;

use super::assign::{Cells, NO_CELL};
use crate::Filter;

/// What stands in the places that fill up a cell's last block.
pub(super) const NO_ROW: u32 = u32::MAX;

/// Rows of each cell, in row order, cell behind cell. Each cell begins at a whole block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// First entry of each cell, and the end of the last one's padding.
    pub(super) starts: Vec<u32>,
    /// Entries of each cell without padding.
    pub(super) counts: Vec<u32>,
    pub(super) rows: Vec<u32>,
}

impl Lists {
    /// Lists `rows` by the cells that they belong to.
    pub(super) fn new(rows: &[RowId], cells: &[Cells], count: usize, block: usize) -> Self {
        let mut counts = vec![0_u32; count];
        let places =
            || rows.iter().zip(cells).flat_map(|(row, cells)| cells.map(|cell| (row, cell)));
        for (_, cell) in places().filter(|&(_, cell)| cell != NO_CELL) {
            counts[cell as usize] += 1;
        }
        let mut lists = Self::of_counts(counts, block);
        let mut next = lists.starts.clone();
        for (row, cell) in places().filter(|&(_, cell)| cell != NO_CELL) {
            lists.rows[next[cell as usize] as usize] = row.0;
            next[cell as usize] += 1;
        }
        lists
    }

    /// Lists of cells with so many entries, none of which is filled.
    pub(super) fn of_counts(counts: Vec<u32>, block: usize) -> Self {
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut end = 0_u32;
        for &count in &counts {
            starts.push(end);
            let padded = count.checked_next_multiple_of(block as u32);
            let next = padded.and_then(|padded| end.checked_add(padded));
            end = next.expect("a part has fewer than 2^31 rows, and two entries for each");
        }
        starts.push(end);
        Self { starts, counts, rows: vec![NO_ROW; end as usize] }
    }

    /// Lists that were saved; none when the counts do not lead to the end of the rows.
    pub(super) fn open(counts: Vec<u32>, rows: Vec<u32>, block: usize) -> Option<Self> {
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut end = 0_u32;
        for count in &counts {
            starts.push(end);
            end = end.checked_add(count.checked_next_multiple_of(block as u32)?)?;
        }
        starts.push(end);
        (end as usize == rows.len()).then_some(Self { starts, counts, rows })
    }

    pub(super) fn cells(&self) -> usize {
        self.counts.len()
    }

    /// Entries of a cell, without the padding.
    pub(super) fn entries(&self, cell: usize) -> Range<usize> {
        let start = self.starts[cell] as usize;
        start..start + self.counts[cell] as usize
    }

    /// The rows of a cell that a filter lets through, each with its entry.
    pub(super) fn kept<'a>(
        &'a self,
        cell: usize,
        kept: &'a Filter,
    ) -> impl Iterator<Item = (u32, usize)> + 'a {
        let entries = self.entries(cell).map(|entry| (self.rows[entry], entry));
        entries.filter(|&(row, _)| kept.allows(RowId(row)))
    }

    /// The cells of every row that is listed, in row order.
    pub(super) fn assignments(&self) -> (Vec<RowId>, Vec<Cells>) {
        let mut entries: Vec<(u32, u32)> = Vec::with_capacity(self.rows.len());
        for cell in 0..self.cells() {
            let rows = &self.rows[self.entries(cell)];
            entries.extend(rows.iter().map(|&row| (row, cell as u32)));
        }
        entries.sort_unstable();
        let (mut rows, mut cells): (Vec<RowId>, Vec<Cells>) = (Vec::new(), Vec::new());
        for (row, cell) in entries {
            match cells.last_mut() {
                Some(last) if rows.last() == Some(&RowId(row)) => last[1] = cell,
                _ => {
                    rows.push(RowId(row));
                    cells.push([cell, NO_CELL]);
                }
            }
        }
        (rows, cells)
    }
}
