//! One inverted file out of several in the same cells.

use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::bits::BitCells;
use super::{Directory, IvfIndex, Lists, Store};
use crate::flat::FlatIndex;
use crate::quantize::{BLOCK_ROWS, copy_bits};

/// A row of a cell: its number, the part that has its code, and the entry there.
type Place = (u32, u32, u32);

impl IvfIndex {
    /// The rows of several indexes in one, those alone that are in `rows`. Their codes are taken
    /// over: no vector is read. Searches do as the first does.
    ///
    /// `None` where the indexes are not in the same [cells](crate::SharedCells) or hold no one-bit
    /// codes alone, and where a row is in two of them.
    ///
    /// Time: a copy of the codes, and a sort of the rows of each cell where those of one index are
    /// not all before those of the next.
    #[must_use]
    pub fn joined(parts: &[&Self], rows: &RowSet) -> Option<Self> {
        let first = parts.first()?;
        let (codes, held) = held_codes(parts, rows)?;
        let counts = (0..first.cells()).map(|cell| {
            let listed = parts.iter().flat_map(|part| &part.lists.rows[part.lists.entries(cell)]);
            listed.filter(|&&row| held.contains(RowId(row))).count() as u32
        });
        let mut lists = Lists::of_counts(counts.collect(), BLOCK_ROWS);
        let size = codes[0].block_bytes();
        let mut blocks = vec![0; lists.rows.len() / BLOCK_ROWS * size];
        let mut places: Vec<Place> = Vec::new();
        for cell in 0..first.cells() {
            find_places(parts, cell, &held, &mut places);
            let to = lists.entries(cell);
            let blocks = &mut blocks[to.start / BLOCK_ROWS * size..];
            for (block, places) in blocks.chunks_exact_mut(size).zip(places.chunks(BLOCK_ROWS)) {
                copy_block(&codes, places, block);
            }
            for (row, place) in lists.rows[to].iter_mut().zip(&places) {
                *row = place.0;
            }
        }
        let most =
            |cell: usize| parts.iter().map(|part| part.directory.radii[cell]).fold(0.0, f32::max);
        let radii = (0..first.cells()).map(most).collect();
        let bits = BitCells { rotation: codes[0].rotation.clone(), blocks: blocks.into() };
        Some(Self {
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
        })
    }
}

/// The codes of parts that can be joined, and those of `rows` that they hold.
fn held_codes<'a>(parts: &[&'a IvfIndex], rows: &RowSet) -> Option<(Vec<&'a BitCells>, RowSet)> {
    let shared = parts.first()?.shared.as_ref()?;
    let (mut found, mut held) = (Vec::with_capacity(parts.len()), RowSet::new());
    for part in parts {
        let Store::Bits(codes, None) = &part.store else { return None };
        let mut own = part.row_set().clone();
        own.intersect_with(rows);
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

/// Finds the rows of a cell that are held, in row order.
fn find_places(parts: &[&IvfIndex], cell: usize, held: &RowSet, places: &mut Vec<Place>) {
    places.clear();
    for (part, at) in parts.iter().zip(0..) {
        let entries = part.lists.entries(cell);
        let found = entries.map(|entry| (part.lists.rows[entry], at, entry as u32));
        places.extend(found.filter(|place| held.contains(RowId(place.0))));
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
