//! The one-bit codes of the rows that a filter allows, side by side.

use std::ops::Range;
use std::sync::Arc;

use synadb_types::RowSet;

use super::search::{Lane, PackedScratch, slots_of};
use super::{CHUNK_BLOCKS, PackedFlat};
use crate::gathered::{Copies, Cost};
use crate::quantize::{BLOCK_ROWS, Estimates, bit_block_bytes, copy_bits};
use crate::{Filter, GatheredRows, VectorSource};

/// Blocks for each one that is left at least: of fewer a copy is hardly worth its memory.
const BLOCKS_FOR_ONE: usize = 2;
/// Rows whose finer codes take as long as a block of one-bit codes, about.
const FEW_FOR_BLOCK: usize = 3;
/// Blocks after which a scan sharpens its limit for the first time.
const FIRST_BLOCKS: usize = 64;

/// One-bit codes of some rows of an index, in its order.
pub(crate) struct GatheredCodes {
    /// The slot of each in the index.
    pub(super) positions: Vec<u32>,
    blocks: Vec<u8>,
}

impl GatheredCodes {
    pub fn slots(&self) -> usize {
        self.positions.len()
    }

    pub fn bytes(&self) -> usize {
        self.blocks.len() + size_of_val(&self.positions[..])
    }
}

impl PackedFlat {
    /// A filter of rows of this index, whose codes are to be copied where that can pay.
    pub(super) fn gathering(&self, rows: RowSet) -> Filter {
        let least = rows.len().div_ceil(BLOCK_ROWS) * BLOCKS_FOR_ONE;
        // Few rows are compared in full where there are no codes of four bits.
        let are_compared = !self.coder.config.refine && self.are_few(rows.len());
        if are_compared || self.compares(rows.len()) || least > self.blocks() {
            return Filter::Rows(rows);
        }
        Filter::Gathered(GatheredRows::new(rows, &self.shelf))
    }

    /// The codes of the rows that a filter allows, for so many queries, where they were copied or
    /// it pays now.
    pub(super) fn gathered(&self, filter: &Filter, queries: usize) -> Option<Arc<Copies>> {
        let Filter::Gathered(gathered) = filter else { return None };
        let cost = || {
            let rows = gathered.rows().len();
            // Of few rows finer codes are looked at, and no blocks.
            let looks = if self.are_few(rows) { rows / FEW_FOR_BLOCK } else { self.blocks() };
            Cost {
                spared: queries * looks.saturating_sub(rows.div_ceil(BLOCK_ROWS)),
                copying: rows,
                codes: rows,
                all: self.blocks() * BLOCK_ROWS,
            }
        };
        let make = || Some(Copies::Codes(self.gather(filter)));
        gathered.copies(&self.shelf, cost, make)
    }

    /// Copies the codes of the rows that a filter allows.
    fn gather(&self, filter: &Filter) -> GatheredCodes {
        let padded = self.coder.rotation.padded();
        let size = bit_block_bytes(padded);
        let count = filter.rows().map_or(0, RowSet::len);
        let mut positions = Vec::with_capacity(count);
        let mut blocks = vec![0; count.div_ceil(BLOCK_ROWS) * size];
        for (chunk, &first) in self.chunks.iter().zip(&self.firsts) {
            let codes = (*chunk.codes).as_ref().chunks_exact(size);
            for (at, (place, block)) in chunk.places.iter().zip(codes).enumerate() {
                for slot in slots_of(place.allowed(filter)) {
                    let (to, to_slot) =
                        (positions.len() / BLOCK_ROWS, positions.len() % BLOCK_ROWS);
                    copy_bits(padded, (block, slot), &mut blocks[to * size..][..size], to_slot);
                    positions.push(first + (at * BLOCK_ROWS + slot) as u32);
                }
            }
        }
        GatheredCodes { positions, blocks }
    }

    /// Scans copied codes for all queries. Limits are sharpened as in a scan of all codes, but from
    /// fewer rows on.
    pub(super) fn scan_gathered(
        &self,
        queries: usize,
        codes: &GatheredCodes,
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
    ) {
        let PackedScratch { lanes, step, estimates, .. } = packed;
        let blocks = codes.positions.len().div_ceil(BLOCK_ROWS);
        let (mut from, mut until) = (0, FIRST_BLOCKS);
        while from < blocks {
            let range = from..until.min(blocks);
            for lane in lanes[..queries].iter_mut().filter(|lane| lane.is_next()) {
                self.scan_copies(codes, range.clone(), lane, source, estimates);
                if self.coder.config.refine && until.is_power_of_two() {
                    self.sharpen(lane, step);
                }
            }
            (from, until) = (until, (2 * until).min(until + CHUNK_BLOCKS));
        }
    }

    fn scan_copies(
        &self,
        codes: &GatheredCodes,
        range: Range<usize>,
        lane: &mut Lane,
        source: &dyn VectorSource,
        found: &mut Estimates,
    ) {
        let size = bit_block_bytes(self.coder.rotation.padded());
        let blocks = codes.blocks[range.start * size..range.end * size].chunks_exact(size);
        let (slots, rest) = codes.positions[range.start * BLOCK_ROWS..].as_chunks::<BLOCK_ROWS>();
        let slots = slots.iter().map(<[u32; BLOCK_ROWS]>::as_slice).chain([rest]);
        for (block, slots) in blocks.zip(slots) {
            let held = u32::MAX >> (BLOCK_ROWS - slots.len());
            lane.look_at(block, held, source, found, |slot| {
                let position = slots[slot];
                (position, self.row(position))
            });
        }
    }
}
