//! Search of the packed flat index.

use std::collections::BinaryHeap;
use std::slice;

use synadb_types::{RowId, RowSet};

use super::candidates::{Candidates, lowest, ordered, unordered};
use super::{Chunk, PackedFlat, Place};
use crate::quantize::{BLOCK_ROWS, CodeQuery, Estimates, Terms, bit_block_bytes};
use crate::{Filter, IndexError, Part, Query, Scratch, TopK, VectorSource};

/// Candidates for each row asked for, at least.
const CANDIDATES_A_ROW: usize = 16;
/// Allowed rows up to which their vectors are compared without a look at the codes, and the
/// further ones for each block: a vector from memory costs as much as two blocks of codes.
const EXACT_ROWS: usize = 256;
const EXACT_ROWS_A_BLOCK: f64 = 0.5;
/// Candidates whose vectors are compared before the next are put in order, at first.
const STEP: usize = 32;
/// Vectors that are on their way while one is compared.
const AHEAD: usize = 6;

/// Memory of packed scans.
#[derive(Debug, Default)]
pub(crate) struct PackedScratch {
    lanes: Vec<Lane>,
    step: Vec<(f32, u32)>,
    nearest: BinaryHeap<u32>,
    estimates: Estimates,
}

/// One query of a scan.
#[derive(Debug)]
struct Lane {
    code: CodeQuery,
    terms: Terms,
    candidates: Candidates,
    /// False when the codes say nothing about the query, or nothing is wanted.
    is_scanned: bool,
}

impl PackedFlat {
    /// As [`Part::search`] for several queries, which share each read of the codes.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source or the index.
    ///
    /// # Panics
    ///
    /// Panics when `outs` has another length than `queries`, or a query is of another metric.
    pub fn search_batch(
        &self,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        outs: &mut [TopK],
    ) -> Result<(), IndexError> {
        assert!(queries.iter().all(|query| query.metric() == self.coder.metric), "one metric");
        super::super::check(queries, source, outs)?;
        if self.is_for_exact_scan(filter) {
            return self.flat.search_batch(queries, filter, source, scratch, outs);
        }
        let mut packed = std::mem::take(&mut scratch.packed);
        self.prepare_lanes(queries, outs, &mut packed.lanes)?;
        for chunk in &self.chunks {
            for lane in packed.lanes[..queries.len()].iter_mut().filter(|lane| lane.is_scanned) {
                chunk.scan(lane, filter, &mut packed.estimates);
            }
        }
        for (index, (query, out)) in queries.iter().zip(outs).enumerate() {
            if packed.lanes[index].is_scanned {
                packed.rank(index, query, source, out);
            } else if out.k() > 0 {
                let (query, out) = (slice::from_ref(query), slice::from_mut(out));
                self.flat.search_batch(query, filter, source, scratch, out)?;
            }
        }
        scratch.packed = packed;
        Ok(())
    }

    /// True when the filter leaves so few rows that codes do not pay.
    fn is_for_exact_scan(&self, filter: &Filter) -> bool {
        let Filter::Rows(allowed) = filter else { return false };
        let blocks: usize = self.chunks.iter().map(|chunk| chunk.places.len()).sum();
        allowed.len() <= EXACT_ROWS + (blocks as f64 * EXACT_ROWS_A_BLOCK) as usize
    }

    fn prepare_lanes(
        &self,
        queries: &[Query],
        outs: &[TopK],
        lanes: &mut Vec<Lane>,
    ) -> Result<(), IndexError> {
        let coder = &*self.coder;
        let epsilon = coder.config.epsilon;
        for (index, (query, out)) in queries.iter().zip(outs).enumerate() {
            if index == lanes.len() {
                lanes.push(Lane {
                    code: CodeQuery::new(query, &coder.rotation, epsilon)?,
                    terms: Terms::default(),
                    candidates: Candidates::default(),
                    is_scanned: false,
                });
            } else if lanes[index].code.level() == query.kernels().level {
                lanes[index].code.reset(query, &coder.rotation, epsilon)?;
            } else {
                lanes[index].code = CodeQuery::new(query, &coder.rotation, epsilon)?;
            }
            let lane = &mut lanes[index];
            lane.terms = lane.code.terms(&coder.anchor);
            let keep = coder.config.candidates.max(out.k().saturating_mul(CANDIDATES_A_ROW));
            lane.candidates.reset(keep.min(self.flat.rows.len()), out.k());
            lane.is_scanned = out.k() > 0 && lane.code.is_reliable();
        }
        Ok(())
    }
}

impl Part for PackedFlat {
    fn rows(&self) -> &RowSet {
        self.flat.rows()
    }

    fn search(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        let (queries, outs) = (slice::from_ref(query), slice::from_mut(out));
        self.search_batch(queries, filter, source, scratch, outs)
    }
}

impl Chunk {
    /// Estimates the rows that pass the filter and keeps those that may be near.
    fn scan(&self, lane: &mut Lane, filter: &Filter, found: &mut Estimates) {
        let kernels = lane.code.kernels();
        let size = bit_block_bytes(lane.code.rotated().len());
        let blocks = (*self.codes).as_ref().chunks_exact(size);
        for (place, block) in self.places.iter().zip(blocks) {
            let allowed = place.allowed(filter);
            if allowed == 0 {
                continue;
            }
            let limit = lane.candidates.limit();
            let within = (kernels.estimate_bits)(block, &lane.code, &lane.terms, limit, found);
            let mut near = within & allowed;
            while near != 0 {
                let slot = near.trailing_zeros() as usize;
                near &= near - 1;
                let (key, lower) = (found.keys[slot], found.lower[slot]);
                lane.candidates.push(place.first + slot as u32, lower, key + (key - lower));
            }
        }
    }
}

impl Place {
    /// Slots of the rows that pass the filter.
    fn allowed(&self, filter: &Filter) -> u32 {
        let Filter::Rows(rows) = filter else { return self.mask };
        let word = rows.words().get(self.first as usize / 64).copied().unwrap_or(0);
        self.mask & (word >> (self.first as usize % 64 / BLOCK_ROWS * BLOCK_ROWS)) as u32
    }
}

impl PackedScratch {
    /// Compares the candidates of a query, in the order of their bounds, until none can be near.
    fn rank(&mut self, index: usize, query: &Query, source: &dyn VectorSource, out: &mut TopK) {
        let candidates = &mut self.lanes[index].candidates;
        self.nearest.clear();
        let mut limit = f32::INFINITY;
        let (mut from, mut count) = (0, STEP.max(out.k()));
        loop {
            self.step.clear();
            self.step.extend(candidates.lowest(from, count));
            if self.step.is_empty() {
                return;
            }
            for at in 0..self.step.len() {
                let (lower, row) = self.step[at];
                if lower > limit {
                    return;
                }
                if let Some(&(_, next)) = self.step.get(at + AHEAD) {
                    source.prefetch(RowId(next));
                }
                let row = RowId(row);
                if !source.is_live(row) {
                    continue;
                }
                let Some(key) = key(query, row, source) else { continue };
                out.offer(row, key);
                if lowest(&mut self.nearest, out.k(), ordered(key as f32)) {
                    limit = self.nearest.peek().map_or(limit, |&bits| unordered(bits));
                }
            }
            from += count;
            count *= 2;
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
