//! Search of the packed flat index.

use std::collections::BinaryHeap;
use std::slice;

use synadb_types::{RowId, RowSet};

use super::candidates::Candidates;
use super::gathered::GatheredCodes;
use super::{Chunk, PackedFlat, Place};
use crate::distance::prefetch_bytes;
use crate::gathered::Copies;
use crate::hidden::Hidden;
use crate::quantize::{BLOCK_ROWS, CodeQuery, Estimates, Terms, bit_block_bytes};
use crate::{Beyond, Filter, IndexError, Part, Query, Scratch, TopK, VectorSource};

/// Allowed rows up to which their vectors are compared without a look at the one-bit codes, and
/// the further ones for each block: a vector from memory costs as much as two blocks of codes.
const EXACT_ROWS: usize = 200;
const EXACT_ROWS_A_BLOCK: f64 = 0.5;
/// The same where there are codes of four bits: they cost a quarter of a block.
const FINE_ROWS_A_BLOCK: f64 = 2.0;

/// Dimensions from which on codes are looked at. Short vectors are hardly longer than their codes,
/// and too few directions make the errors of all rows one and the same.
const LEAST_DIMENSIONS: usize = 32;
/// How many times the standard deviations allowed for one bit are allowed for four: they cost
/// little there, and rows along one line share their error.
const FINE_CARE: f32 = 1.5;

/// Blocks that are on their way while one is looked at.
const BLOCKS_AHEAD: usize = 2;

/// Queries that share one pass over the codes at most: their memory stays in the second cache.
const LANES_MAX: usize = 32;

/// How much of what the codes find a search looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedSearch {
    /// Rows that are kept as candidates; as many as are asked for at least.
    pub candidates: usize,
    /// When as many are kept as the index was built with.
    pub beyond: Beyond,
}

/// Memory of packed scans.
#[derive(Debug, Default)]
pub(crate) struct PackedScratch {
    pub(super) lanes: Vec<Lane>,
    pub(super) step: Vec<(f32, u32)>,
    pub(super) nearest: BinaryHeap<u32>,
    pub(super) estimates: Estimates,
}

/// One query of a scan.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) code: CodeQuery,
    pub(super) terms: Terms,
    /// The same with more care, for codes of four bits.
    pub(super) fine_terms: Terms,
    /// Positions of slots: 32 for each block of the index.
    pub(super) candidates: Candidates,
    /// Those of them that were looked at by four bits and may still be near.
    pub(super) fine: Candidates,
    /// All that the scan looked at by four bits on its way, in ascending order.
    pub(super) looked_at: Vec<u32>,
    /// Dead rows among the nearest.
    hidden: Hidden,
    /// False when the codes say nothing about the query, or nothing is wanted.
    is_scanned: bool,
    /// Whether the next scan is also for this query.
    is_due: bool,
}

/// What a search looks at first.
#[derive(Clone, Copy)]
enum Path<'a> {
    Bits,
    Gathered(&'a GatheredCodes),
    Fine,
    Exact,
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
        let k = outs.iter().map(TopK::k).max().unwrap_or(0);
        let candidates = self.coder.config.candidates_for(k);
        let search = PackedSearch { candidates, beyond: Beyond::default() };
        self.search_batch_with(search, queries, filter, source, scratch, outs)
    }

    /// As [`PackedFlat::search_batch`], looking at as much as `search` says.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn search_batch_with(
        &self,
        search: PackedSearch,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        outs: &mut [TopK],
    ) -> Result<(), IndexError> {
        assert!(
            queries.iter().all(|query| query.metric() == self.coder.metric),
            "a query has the metric of the index"
        );
        super::super::check(queries, source, outs)?;
        let copies = self.gathered(filter, queries.len());
        let path = self.path(filter, copies.as_deref().and_then(Copies::as_codes));
        if matches!(path, Path::Exact) {
            return self.flat.search_batch(queries, filter, source, scratch, outs);
        }
        let search = match filter.rows() {
            // All of so few are looked at, whatever the number, before their codes are copied too.
            Some(rows) if self.are_few(rows.len()) => {
                PackedSearch { candidates: usize::MAX, ..search }
            }
            _ => search,
        };
        let mut packed = std::mem::take(&mut scratch.packed);
        for (queries, outs) in queries.chunks(LANES_MAX).zip(outs.chunks_mut(LANES_MAX)) {
            self.prepare_lanes(search, queries, outs, &mut packed.lanes)?;
            self.scan_along(path, queries.len(), filter, source, &mut packed);
            if self.begin_again(queries.len(), &mut packed) {
                self.scan_along(path, queries.len(), filter, source, &mut packed);
            }
            for (index, (query, out)) in queries.iter().zip(outs).enumerate() {
                if packed.lanes[index].is_scanned {
                    self.finish(path, index, (query, filter), source, &mut packed, out);
                } else if out.k() > 0 {
                    let (query, out) = (slice::from_ref(query), slice::from_mut(out));
                    self.flat.search_batch(query, filter, source, scratch, out)?;
                }
            }
        }
        scratch.packed = packed;
        Ok(())
    }

    /// From the candidates of a query to its nearest rows.
    fn finish(
        &self,
        path: Path<'_>,
        index: usize,
        (query, filter): (&Query, &Filter),
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
        out: &mut TopK,
    ) {
        if matches!(path, Path::Fine) {
            self.refine_allowed(index, filter, source, packed);
        } else if self.coder.config.refine {
            self.refine(index, packed);
        } else {
            return self.rank_bits(index, query, source, packed, out);
        }
        self.rank_fine(index, query, source, packed, out);
    }

    /// Scans the one-bit codes that lie on the path for all queries.
    fn scan_along(
        &self,
        path: Path<'_>,
        queries: usize,
        filter: &Filter,
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
    ) {
        match path {
            Path::Bits => self.scan(queries, filter, source, packed),
            Path::Gathered(codes) => self.scan_gathered(queries, codes, source, packed),
            Path::Fine | Path::Exact => {}
        }
    }

    /// Scans the one-bit codes for all queries, chunk by chunk. Limits are sharpened seldom: each
    /// time as many rows have been seen as before.
    fn scan(
        &self,
        queries: usize,
        filter: &Filter,
        source: &dyn VectorSource,
        packed: &mut PackedScratch,
    ) {
        let PackedScratch { lanes, step, estimates, .. } = packed;
        for (index, (chunk, &first)) in self.chunks.iter().zip(&self.firsts).enumerate() {
            let mut is_near = false;
            for lane in lanes[..queries].iter_mut().filter(|lane| lane.is_next()) {
                chunk.scan(first, is_near, lane, filter, source, estimates);
                if self.coder.config.refine && (index + 1).is_power_of_two() {
                    self.sharpen(lane, step);
                }
                is_near = true;
            }
        }
    }

    /// Begins anew with the queries near which dead rows lie, with as many candidates as by default;
    /// false where there is none.
    fn begin_again(&self, queries: usize, packed: &mut PackedScratch) -> bool {
        let mut are_any = false;
        for lane in &mut packed.lanes[..queries] {
            let wanted = lane.candidates.wanted();
            let most = self.coder.config.candidates_for(wanted).min(self.flat.rows.len());
            lane.is_due = lane.candidates.keep() < most
                && lane.hidden.is_full()
                && lane.hidden.are_many(lane.candidates.last());
            if lane.is_due {
                lane.candidates.begin_again(most);
                lane.fine.begin_again(usize::MAX / 2);
                lane.looked_at.clear();
                lane.hidden.begin(Beyond::Never, wanted);
                are_any = true;
            }
        }
        are_any
    }

    /// Where a search begins: the fewer rows are allowed, the finer it looks at once, unless their
    /// codes were copied.
    fn path<'c>(&self, filter: &Filter, copies: Option<&'c GatheredCodes>) -> Path<'c> {
        let Some(allowed) = filter.rows().map(RowSet::len) else {
            let is_short = self.coder.dimensions() < LEAST_DIMENSIONS;
            return if is_short { Path::Exact } else { Path::Bits };
        };
        if self.compares(allowed) {
            return Path::Exact;
        }
        if let Some(codes) = copies {
            return Path::Gathered(codes);
        }
        match (self.are_few(allowed), self.coder.config.refine) {
            (false, _) => Path::Bits,
            (true, true) => Path::Fine,
            (true, false) => Path::Exact,
        }
    }

    /// Whether so many rows are compared in full, whatever codes there are.
    pub(super) fn compares(&self, allowed: usize) -> bool {
        self.coder.dimensions() < LEAST_DIMENSIONS || allowed <= EXACT_ROWS
    }

    /// Whether so few rows are allowed that a search looks at all of them more closely.
    pub(super) fn are_few(&self, allowed: usize) -> bool {
        let share = if self.coder.config.refine { FINE_ROWS_A_BLOCK } else { EXACT_ROWS_A_BLOCK };
        allowed <= EXACT_ROWS + (self.blocks() as f64 * share) as usize
    }

    fn prepare_lanes(
        &self,
        search: PackedSearch,
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
                    fine_terms: Terms::default(),
                    candidates: Candidates::default(),
                    fine: Candidates::default(),
                    looked_at: Vec::new(),
                    hidden: Hidden::default(),
                    is_scanned: false,
                    is_due: false,
                });
            } else if lanes[index].code.level() != query.kernels().level {
                lanes[index].code = CodeQuery::new(query, &coder.rotation, epsilon)?;
            }
            let lane = &mut lanes[index];
            lane.terms = lane.code.reset_at(query, &coder.rotation, &coder.anchor, epsilon)?;
            let keep = search.candidates.max(out.k());
            let rows = self.flat.rows.len();
            lane.fine_terms = Terms { error: FINE_CARE * lane.terms.error, ..lane.terms };
            let margin = lane.code.rounding(&lane.terms, &coder.anchor);
            lane.candidates.reset(keep.min(rows), out.k().min(rows), margin);
            lane.fine.reset(usize::MAX / 2, out.k().min(rows), margin);
            lane.looked_at.clear();
            lane.hidden.begin(search.beyond, out.k());
            lane.is_due = true;
            lane.is_scanned = out.k() > 0 && lane.code.is_reliable();
        }
        Ok(())
    }
}

impl Part for PackedFlat {
    fn rows(&self) -> &RowSet {
        self.flat.rows()
    }

    fn filter_of(&self, rows: RowSet) -> Filter {
        self.gathering(rows)
    }

    fn copied_bytes(&self) -> usize {
        self.shelf.bytes()
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
    ///
    /// `first` is the position of the first slot; `is_near` says that the codes were read a moment
    /// ago.
    fn scan(
        &self,
        first: u32,
        is_near: bool,
        lane: &mut Lane,
        filter: &Filter,
        source: &dyn VectorSource,
        found: &mut Estimates,
    ) {
        let size = bit_block_bytes(lane.code.rotated().len());
        let codes = (*self.codes).as_ref();
        for (index, (place, block)) in self.places.iter().zip(codes.chunks_exact(size)).enumerate()
        {
            // Codes of many rows come from memory.
            let ahead =
                codes.get((index + BLOCKS_AHEAD) * size..).and_then(|rest| rest.get(..size));
            if let Some(ahead) = ahead.filter(|_| !is_near) {
                prefetch_bytes(ahead);
            }
            let allowed = place.allowed(filter);
            if allowed == 0 {
                continue;
            }
            lane.look_at(block, allowed, source, found, |slot| {
                let position = first + (index * BLOCK_ROWS + slot) as u32;
                (position, Some(RowId(place.first + slot as u32)))
            });
        }
    }
}

impl Lane {
    /// True when the scan that comes is for this query too.
    pub(super) fn is_next(&self) -> bool {
        self.is_scanned && self.is_due
    }

    /// Estimates the rows of some slots of a block and keeps those that may be near; `place` gives
    /// the position of a slot and its row.
    #[inline]
    pub(super) fn look_at(
        &mut self,
        block: &[u8],
        slots: u32,
        source: &dyn VectorSource,
        found: &mut Estimates,
        place: impl Fn(usize) -> (u32, Option<RowId>),
    ) {
        let (kernels, limit) = (self.code.kernels(), self.candidates.limit());
        let within = (kernels.estimate_bits)(block, &self.code, &self.terms, limit, found);
        for slot in slots_of(within & slots) {
            let (key, lower) = (found.keys[slot], found.lower[slot]);
            let (position, row) = place(slot);
            // Dead rows must not tighten the limit.
            if row.is_some_and(|row| source.is_live(row)) {
                self.candidates.push(position, lower, key + (key - lower));
            } else if self.hidden.counts(lower) {
                self.hidden.push(lower);
            }
        }
    }
}

/// The numbers of the bits that are set, from the lowest on.
pub(super) fn slots_of(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            slot
        })
    })
}

impl Place {
    /// Slots of the rows that pass the filter.
    pub(super) fn allowed(&self, filter: &Filter) -> u32 {
        let Some(rows) = filter.rows() else { return self.mask };
        let word = rows.words().get(self.first as usize / 64).copied().unwrap_or(0);
        self.mask & (word >> (self.first as usize % 64 / BLOCK_ROWS * BLOCK_ROWS)) as u32
    }
}
