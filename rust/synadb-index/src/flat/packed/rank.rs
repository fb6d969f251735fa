//! From the candidates of a scan to the rows found: codes of four bits, then full vectors.

use synadb_types::RowId;

use super::candidates::Candidates;
use super::search::{Lane, PackedScratch, slots_of};
use super::{Chunk, PackedFlat};
use crate::distance::prefetch_bytes;
use crate::lowest::{lowest, ordered, unordered};
use crate::quantize::{BLOCK_ROWS, Factors};
use crate::{Filter, Query, TopK, VectorSource};

/// Candidates that are put in order at once, at first.
const STEP: usize = 32;
/// Rows asked for up to which a scan sharpens its limit on the way.
const SHARPENED_MAX: usize = 128;
/// Rows that are on their way while one is looked at.
const AHEAD: usize = 6;

impl PackedFlat {
    /// Looks at the lowest candidates so far by four bits, so that the scan goes on with a limit
    /// that hardly exceeds the keys of the nearest among them.
    pub(super) fn sharpen(&self, lane: &mut Lane, step: &mut Vec<(f32, u32)>) {
        let wanted = lane.candidates.wanted();
        if wanted > SHARPENED_MAX {
            return;
        }
        step.clear();
        let lowest = lane.candidates.lowest(0, STEP.max(2 * wanted));
        step.extend(lowest.filter(|(_, row)| lane.looked_at.binary_search(row).is_err()));
        let count = self.refine_step(step, lane);
        lane.looked_at.extend(step[..count].iter().map(|&(_, row)| row));
        lane.looked_at.sort_unstable();
        lane.candidates.tighten(lane.fine.limit());
    }

    /// Looks at a query's candidates by four bits, in the order of their bounds, until none can
    /// be near.
    pub(super) fn refine(&self, index: usize, packed: &mut PackedScratch) {
        let PackedScratch { lanes, step, .. } = packed;
        let lane = &mut lanes[index];
        let (mut from, mut count) = (0, STEP.max(lane.candidates.wanted()));
        loop {
            step.clear();
            step.extend(lane.candidates.lowest(from, count));
            let found = step.len();
            step.retain(|(_, row)| lane.looked_at.binary_search(row).is_err());
            if found == 0 || self.refine_step(step, lane) < step.len() {
                return;
            }
            (from, count) = (from + found, 2 * count);
        }
    }

    /// Looks at candidates by four bits, up to the first behind which none can be near; the number
    /// of those before it.
    fn refine_step(&self, step: &[(f32, u32)], lane: &mut Lane) -> usize {
        for (at, &(lower, position)) in step.iter().enumerate() {
            if lower > lane.fine.limit() {
                return at;
            }
            if let Some(&(_, next)) = step.get(at + AHEAD)
                && let Some((chunk, offset)) = self.place(next)
            {
                prefetch_bytes(chunk.records(self.coder.fine_bytes()).get(offset));
            }
            if let Some((chunk, offset)) = self.place(position) {
                chunk.records(self.coder.fine_bytes()).refine(offset, position, lane);
            }
        }
        step.len()
    }

    /// Looks at all live rows that pass the filter by four bits.
    pub(super) fn refine_allowed(
        &self,
        index: usize,
        filter: &Filter,
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
    ) {
        let PackedScratch { lanes, step, .. } = packed;
        let lane = &mut lanes[index];
        for (chunk, &first) in self.chunks.iter().zip(&self.firsts) {
            step.clear();
            for (block, place) in chunk.places.iter().enumerate() {
                for slot in slots_of(place.allowed(filter)) {
                    if source.is_live(RowId(place.first + slot as u32)) {
                        step.push((0.0, (block * BLOCK_ROWS + slot) as u32));
                    }
                }
            }
            let records = chunk.records(self.coder.fine_bytes());
            for (at, &(_, offset)) in step.iter().enumerate() {
                if let Some(&(_, next)) = step.get(at + AHEAD) {
                    prefetch_bytes(records.get(next as usize));
                }
                records.refine(offset as usize, first + offset, lane);
            }
        }
    }

    /// Compares what the four bits left.
    pub(super) fn rank_fine(
        &self,
        index: usize,
        query: &Query,
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
        out: &mut TopK,
    ) {
        let PackedScratch { lanes, step, nearest, .. } = packed;
        self.rank(&mut lanes[index].fine, query, source, (step, nearest), out);
    }

    /// Compares what the one bit left.
    pub(super) fn rank_bits(
        &self,
        index: usize,
        query: &Query,
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
        out: &mut TopK,
    ) {
        let PackedScratch { lanes, step, nearest, .. } = packed;
        self.rank(&mut lanes[index].candidates, query, source, (step, nearest), out);
    }

    /// Compares candidates by their vectors, in the order of their bounds, until none can be
    /// near.
    fn rank(
        &self,
        candidates: &mut Candidates,
        query: &Query,
        source: &dyn VectorSource,
        (step, nearest): (&mut Vec<(f32, u32)>, &mut std::collections::BinaryHeap<u32>),
        out: &mut TopK,
    ) {
        nearest.clear();
        let mut limit = f32::INFINITY;
        let wanted = out.k().min(self.flat.rows.len());
        let (mut from, mut count) = (0, STEP.max(wanted));
        loop {
            step.clear();
            step.extend(candidates.lowest(from, count));
            if step.is_empty() {
                return;
            }
            for at in 0..step.len() {
                let (lower, position) = step[at];
                if lower > limit {
                    return;
                }
                let next = step.get(at + AHEAD).and_then(|&(_, next)| self.row(next));
                if let Some(next) = next {
                    source.prefetch(next);
                }
                let Some(row) = self.row(position) else { continue };
                let Some(key) = key(query, row, source) else { continue };
                out.offer(row, key);
                if lowest(nearest, wanted, ordered(key as f32)) {
                    let key = nearest.peek().map_or(limit, |&bits| unordered(bits));
                    limit = candidates.widened(key);
                }
            }
            (from, count) = (from + step.len(), 2 * count);
        }
    }

    /// The chunk of a position, and the number of the slot in it.
    fn place(&self, position: u32) -> Option<(&Chunk, usize)> {
        let index = self.firsts.partition_point(|&first| first <= position).checked_sub(1)?;
        Some((&self.chunks[index], (position - self.firsts[index]) as usize))
    }

    pub(super) fn row(&self, position: u32) -> Option<RowId> {
        let (chunk, offset) = self.place(position)?;
        let place = chunk.places.get(offset / BLOCK_ROWS)?;
        Some(RowId(place.first + (offset % BLOCK_ROWS) as u32))
    }
}

impl Chunk {
    /// The codes of four bits of its slots with their factors, of so many bytes each.
    fn records(&self, len: usize) -> Records<'_> {
        Records { bytes: (*self.fine).as_ref(), len }
    }
}

/// Codes of four bits with their factors; where they lie is asked for once.
struct Records<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Records<'a> {
    fn get(&self, offset: usize) -> &'a [u8] {
        self.bytes.get(offset * self.len..(offset + 1) * self.len).unwrap_or_default()
    }

    /// Looks at one slot by four bits.
    #[inline]
    fn refine(&self, offset: usize, position: u32, lane: &mut Lane) {
        let Some((code, factors)) = self.get(offset).split_last_chunk() else { return };
        let mut dot = [0];
        (lane.code.kernels().dot_nibbles)(lane.code.bytes().0, code, 0, &mut dot);
        let factors = Factors::from_bytes(factors);
        let found = lane.code.estimate_nibbles(dot[0], &factors, &lane.fine_terms);
        if lane.fine.accepts(found.lower) {
            lane.fine.push(position, found.lower, found.key + (found.key - found.lower));
        }
    }
}

/// Key of a row: the fast one where it has its digits.
fn key(query: &Query, row: RowId, source: &dyn VectorSource) -> Option<f64> {
    let vector = source.vector(row)?;
    let (mut key, mut norm) = ([0.0], [0.0]);
    if query.needs_norms() {
        source.inverse_norms(row, &mut norm);
    }
    query.keys(vector, vector.len(), &norm, &mut key);
    let key = key[0];
    Some(if query.is_reliable(key) { f64::from(key) } else { query.exact_key(vector) })
}
