//! The inverted file, by its public name the gravity well: rows in cells of near centroids.

mod assign;
mod balance;
mod bits;
mod build;
mod bytes;
mod candidates;
mod compare;
mod directory;
mod fine;
mod gathered;
mod heritage;
mod joined;
mod lists;
mod origin;
mod plain;
mod search;
mod sections;
mod seen;
mod shared;
#[cfg(test)]
mod tests;
mod tune;

pub use shared::{IvfPart, SharedCells};
pub use tune::Tuned;

use std::sync::Arc;

use synadb_types::RowSet;

use crate::Beyond;
use crate::distance::Metric;
use crate::flat::FlatIndex;
use crate::gathered::Shelf;
use crate::kmeans::Centroids;
use crate::quantize::BLOCK_ROWS;
use bits::BitCells;
use directory::{Directory, Marks};
use fine::FineRows;
pub(crate) use gathered::GatheredCells;
use lists::Lists;
use origin::Origin;
use plain::PlainCells;
pub(crate) use search::IvfScratch;

/// Cells for each square root of the number of rows.
const CELLS_PER_ROOT: f64 = 3.2;

/// How to build an inverted file.
#[derive(Debug, Clone, PartialEq)]
pub struct IvfConfig {
    /// Number of cells; none for 3.2 times the square root of the number of rows, in multiples
    /// of 16. Cells that turn out far too large are split and far too small ones dropped.
    pub cells: Option<usize>,
    /// Rounds of k-means.
    pub iterations: usize,
    /// Rows of the training sample for each cell.
    pub sample_per_cell: usize,
    /// Lists each row in a second cell, chosen as in SOAR (Sun, Guo, Kumar 2023). Doubles the
    /// entries; pays where there are many cells, of which a search looks at few
    /// (docs/decisions/0011-second-cells.md).
    pub second: bool,
    /// What the cells hold of each row. Vectors of less than eight dimensions are held in full,
    /// whatever this says.
    pub codes: IvfCodes,
    /// Seed of everything random.
    pub seed: u64,
    /// What a search of a new index does when it is not told otherwise.
    pub search: IvfSearch,
}

impl Default for IvfConfig {
    fn default() -> Self {
        Self {
            cells: None,
            iterations: 6,
            sample_per_cell: 64,
            second: true,
            codes: IvfCodes::Refined,
            seed: 0,
            search: IvfSearch::default(),
        }
    }
}

impl IvfConfig {
    /// Number of cells for so many rows.
    #[must_use]
    pub fn cells_for(&self, rows: usize) -> usize {
        let wanted = self.cells.unwrap_or_else(|| {
            let cells = (rows as f64).sqrt() * CELLS_PER_ROOT;
            (cells as usize).next_multiple_of(16)
        });
        wanted.clamp(1, rows.max(1))
    }
}

/// What the cells of an inverted file hold of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IvfCodes {
    /// The vector itself, copied anew when the index is opened. A search of all cells is then exact.
    Full,
    /// One bit a dimension, relative to the centroid (RaBitQ: Gao and Long 2024): a thirtieth of
    /// the memory; what the codes find nearest is compared at full precision.
    Bits,
    /// As `Bits`, and beside the cells four bits a dimension of each row, which leave few rows to
    /// be compared at full precision: a fifth of the memory, with second cells.
    Refined,
}

/// How much of an inverted file a search looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IvfSearch {
    /// Cells that are searched, the nearest first; at least one.
    pub nprobe: usize,
    /// Rows that the codes find nearest and that are then compared at full precision; three times
    /// `k` at least. Of no meaning at [`IvfCodes::Full`].
    pub candidates: usize,
    /// When it looks at others, too. Not saved.
    pub beyond: Beyond,
}

impl Default for IvfSearch {
    fn default() -> Self {
        Self { nprobe: 50, candidates: 100, beyond: Beyond::UntilFound }
    }
}

/// An inverted file: an immutable [`Part`](crate::Part).
///
/// Memory: the centroids three times, and for each entry four bytes and its code: the vector, or
/// one bit a dimension and 12 bytes. There are as many entries as rows, or twice as many with a
/// second cell, and 16 more a cell where there are codes; four bits a dimension and 12 bytes for
/// each row where they are [`IvfCodes::Refined`].
/// A search costs the distances from all centroids and from the entries of `nprobe` cells. Rows
/// that died since the build are left out by their live bit; [`IvfIndex::extend`] takes new rows
/// in and dead ones out.
#[derive(Debug, Clone)]
pub struct IvfIndex {
    metric: Metric,
    config: IvfConfig,
    /// What a search does when it is not told otherwise.
    search: IvfSearch,
    /// Holds the rows, and scans those that a selective filter leaves.
    flat: FlatIndex,
    centroids: Arc<Centroids>,
    origin: Origin,
    /// Centroids as searches see them: moved to the origin, rotated where there are codes.
    directory: Directory,
    lists: Lists,
    store: Store,
    /// Its cells, where others have the same.
    shared: Option<Arc<SharedCells>>,
    /// Shared by those that have the same entries.
    shelf: Arc<Shelf>,
}

/// What the cells hold.
#[derive(Debug, Clone)]
enum Store {
    Plain(PlainCells),
    Bits(BitCells, Option<FineRows>),
}

impl IvfIndex {
    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.lists.cells()
    }

    /// Entries of a cell: its rows, those included that have their first cell elsewhere. None
    /// when there is no such cell.
    #[must_use]
    pub fn cell_len(&self, cell: usize) -> Option<usize> {
        self.lists.counts.get(cell).map(|&count| count as usize)
    }

    /// Parameters that it was built with.
    #[must_use]
    pub fn config(&self) -> &IvfConfig {
        &self.config
    }

    /// Metric of the index.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What a search does when it is not told otherwise: that of the configuration, unless it was
    /// replaced.
    #[must_use]
    pub fn default_search(&self) -> IvfSearch {
        self.search
    }

    /// The same index with another default, which is saved with it and handed on to what extends
    /// it; its configuration stays.
    #[must_use]
    pub fn with_search(mut self, search: IvfSearch) -> Self {
        self.search = search;
        self
    }

    /// Bytes that the index holds, but for those of cells that it [shares](SharedCells).
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let own = self.shared.is_none();
        let centroids =
            if own { 3 * self.directory.marks.points.len() * size_of::<f32>() } else { 0 };
        let entries = match &self.store {
            Store::Plain(cells) => cells.memory_bytes(),
            Store::Bits(cells, fine) => {
                cells.blocks.len() + fine.as_ref().map_or(0, |fine| fine.records.len())
            }
        };
        let rows = self.lists.rows.len() * size_of::<u32>() + size_of_val(self.row_set().words());
        let cells = 3 * self.cells() * size_of::<u32>();
        centroids + rows + cells + entries
    }

    /// Bytes of the vectors that its cells hold in memory, wherever the index lies.
    fn copied_vectors(&self) -> usize {
        match &self.store {
            Store::Plain(cells) => cells.memory_bytes(),
            Store::Bits(..) => 0,
        }
    }

    /// Rows of the index, those that died since included.
    #[must_use]
    pub fn row_set(&self) -> &RowSet {
        crate::Part::rows(&self.flat)
    }
}

/// Entries that the first one of each cell stands at a multiple of.
fn block_of(codes: IvfCodes) -> usize {
    match codes {
        IvfCodes::Full => 1,
        IvfCodes::Bits | IvfCodes::Refined => BLOCK_ROWS,
    }
}
