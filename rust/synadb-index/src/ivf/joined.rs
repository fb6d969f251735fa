//! One inverted file out of several in the same cells.

use std::sync::Arc;

use synadb_types::RowSet;

use super::bits::BitCells;
use super::{Directory, IvfIndex, Lists, Store};
use crate::flat::FlatIndex;
use crate::quantize::{BLOCK_ROWS, copy_bits};
use crate::{Filter, IndexError, Job};

/// A row of a cell: its number, the part that has its code, and the entry there.
type Place = (u32, u32, u32);

/// Cells that are copied before the sign to give up is looked for.
const CELLS_AT_ONCE: usize = 16;

impl IvfIndex {
    /// Rows of several indexes in one, of each those that are kept of it. Their codes are taken
    /// over: no vector is read. Searches do as those of the first by default; which `candidates`
    /// are enough among so many more rows is for the caller to say.
    ///
    /// `None` where the indexes are not in the same [cells](crate::SharedCells) or hold no one-bit
    /// codes alone, and where a row is kept of two.
    ///
    /// Time: a copy of the codes, and a sort of the rows of each cell where those of one index are
    /// not all before those of the next. It works on the thread that calls it.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`].
    pub fn joined(parts: &[(&Self, &Filter)], job: &Job<'_>) -> Result<Option<Self>, IndexError> {
        let Some((codes, held)) = held_codes(parts) else { return Ok(None) };
        let (first, mut meter, mut rests) = (parts[0].0, job.meter(), job.rests());
        let (lists, bits) = copied(parts, &codes, &mut |cell| {
            if cell % CELLS_AT_ONCE == 0 {
                meter.tell(cell as f32 / first.cells() as f32);
                job.check()?;
                rests.take();
            }
            Ok(())
        })?;
        let radius = |part: &IvfIndex, cell: usize| part.directory.radii[cell];
        let most = |cell| parts.iter().map(|part| radius(part.0, cell)).fold(0.0, f32::max);
        let radii = (0..first.cells()).map(most).collect();
        Ok(Some(Self {
            flat: FlatIndex::new(held),
            directory: Directory::new(Arc::clone(&first.directory.marks), radii),
            lists,
            store: Store::Bits(bits, None),
            metric: first.metric,
            config: first.config.clone(),
            search: first.search,
            centroids: Arc::clone(&first.centroids),
            origin: first.origin.clone(),
            shared: first.shared.clone(),
            shelf: Arc::default(),
        }))
    }
}

/// The rows that are kept of some parts in the same cells, and their codes; `at_cell` is told each cell
/// before it is copied.
pub(super) fn copied(
    parts: &[(&IvfIndex, &Filter)],
    codes: &[&BitCells],
    at_cell: &mut dyn FnMut(usize) -> Result<(), IndexError>,
) -> Result<(Lists, BitCells), IndexError> {
    let (cells, rotation) = (parts[0].0.cells(), codes[0].rotation.clone());
    let counts = (0..cells).map(|cell| {
        let rows = parts.iter().flat_map(|&(part, kept)| part.lists.kept(cell, kept));
        rows.count() as u32
    });
    let mut lists = Lists::of_counts(counts.collect(), BLOCK_ROWS);
    let size = codes[0].block_bytes();
    let mut blocks = vec![0; lists.rows.len() / BLOCK_ROWS * size];
    let mut places: Vec<Place> = Vec::new();
    for cell in 0..cells {
        at_cell(cell)?;
        find_places(parts, cell, &mut places);
        let to = lists.entries(cell);
        let blocks = &mut blocks[to.start / BLOCK_ROWS * size..];
        for (block, places) in blocks.chunks_exact_mut(size).zip(places.chunks(BLOCK_ROWS)) {
            copy_block(codes, places, block);
        }
        for (row, place) in lists.rows[to].iter_mut().zip(&places) {
            *row = place.0;
        }
    }
    Ok((lists, BitCells { rotation, blocks: blocks.into() }))
}

/// The codes of parts that can be joined, and the rows that are kept of them.
fn held_codes<'a>(parts: &[(&'a IvfIndex, &Filter)]) -> Option<(Vec<&'a BitCells>, RowSet)> {
    let shared = parts.first()?.0.shared.as_ref()?;
    let (mut found, mut held) = (Vec::with_capacity(parts.len()), RowSet::new());
    for (part, kept) in parts {
        let Store::Bits(codes, None) = &part.store else { return None };
        let mut own = part.row_set().clone();
        if let Some(rows) = kept.rows() {
            own.intersect_with(rows);
        }
        let wanted = held.len() + own.len();
        held.union_with(&own);
        let is_alike = part.shared.as_ref().is_some_and(|cells| Arc::ptr_eq(cells, shared));
        if !is_alike || held.len() < wanted {
            return None;
        }
        found.push(codes);
    }
    Some((found, held))
}

/// Finds the rows of a cell that are kept, in row order.
fn find_places(parts: &[(&IvfIndex, &Filter)], cell: usize, places: &mut Vec<Place>) {
    places.clear();
    for (&(part, kept), at) in parts.iter().zip(0..) {
        places.extend(part.lists.kept(cell, kept).map(|(row, entry)| (row, at, entry as u32)));
    }
    if !places.is_sorted() {
        places.sort_unstable();
    }
}

/// Fills a block with codes from anywhere.
fn copy_block(cells: &[&BitCells], places: &[Place], block: &mut [u8]) {
    let (_, part, entry) = places[0];
    let is_whole = places.len() == BLOCK_ROWS
        && (entry as usize).is_multiple_of(BLOCK_ROWS)
        && places.iter().zip(entry..).all(|(place, entry)| (place.1, place.2) == (part, entry));
    if is_whole {
        block.copy_from_slice(cells[part as usize].block_of(entry as usize));
        return;
    }
    for (slot, &(_, part, entry)) in places.iter().enumerate() {
        let (cells, entry) = (cells[part as usize], entry as usize);
        let from = (cells.block_of(entry), entry % BLOCK_ROWS);
        copy_bits(cells.rotation.padded(), from, block, slot);
    }
}
