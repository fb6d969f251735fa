//! Searching an inverted file.

use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::bits::BitCells;
use super::candidates::{Candidates, candidates_for};
use super::directory::{nearest_first, order};
use super::plain::PlainCells;
use super::seen::Seen;
use super::{FineRows, IvfIndex, IvfSearch, Lists, SharedCells, Store};
use crate::distance::prefetch_many;
use crate::gathered::Copies;
use crate::hidden::Beyond;
use crate::kmeans::assign::Near;
use crate::quantize::{BLOCK_ROWS, CodeQuery, Estimates};
use crate::{Filter, IndexError, Job, PackedConfig, Part, Query, Scratch, TopK, VectorSource};

/// Entries whose keys are computed before any is looked at.
const KEYS_AT_ONCE: usize = 256;
/// Keys compared with the limit at once.
const SELECT_CHUNK: usize = 16;
/// A row out of order costs as much as so many in order.
const JUMP_COST: usize = 6;
/// The same where the rows in order are codes.
const JUMP_COST_CODES: usize = 24;
/// The same where both are. It is ten, but a scan misses nothing and may cost twice as much.
const JUMP_COST_FINE: usize = 5;
/// Standard deviations below the estimate at which a candidate is ranked, and at which it is no
/// longer compared: nearly all true neighbours are above.
const EPSILON: f32 = 2.0;
/// Blocks of codes that are on their way while one is scanned: cells lie far apart, and the
/// processor does not follow beyond a page.
const BLOCKS_AHEAD: usize = 3;

/// Memory of a search.
#[derive(Debug, Default)]
pub(crate) struct IvfScratch {
    /// The query where it is moved to the origin.
    moved: Vec<f32>,
    near: Vec<Near>,
    keys: Vec<f32>,
    seen: Seen,
    candidates: Candidates,
    code_query: Option<CodeQuery>,
    estimates: Estimates,
    /// Bound and row of candidates.
    ordered: Vec<(f32, u32)>,
    /// The `k` smallest keys so far, in order.
    nearest: Vec<f64>,
    /// Shared cells that `near` ranks and `code_query` is prepared for, and how many of them stand
    /// in front in order; while several indexes are searched for one query.
    pub(super) ranked: Option<(Arc<SharedCells>, usize)>,
}

impl IvfIndex {
    /// As [`Part::search`], looking at as much as `search` says.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the query does not fit the source.
    pub fn search_with(
        &self,
        search: IvfSearch,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        scratch.ivf.ranked = None;
        self.search_next(search, query, filter, source, scratch, out)
    }

    /// The same, behind another index that was searched for the query.
    pub(super) fn search_next(
        &self,
        search: IvfSearch,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        query.check(source)?;
        if out.k() == 0 {
            return Ok(());
        }
        let mut moved = std::mem::take(&mut scratch.ivf.moved);
        let vector = self.origin.query(query, &mut moved);
        let outcome = self.search_at(vector, search, query, filter, source, scratch, out);
        scratch.ivf.moved = moved;
        outcome
    }

    /// Searches with the query where it is compared with the centroids.
    fn search_at(
        &self,
        vector: &[f32],
        search: IvfSearch,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        let squared_norm = (query.kernels().dot)(vector, vector);
        let allowed = filter.rows();
        let few = allowed.is_some_and(|rows| self.is_scan_cheaper(rows.len(), search));
        let fits = query.metric() == self.metric && query.dimensions() == self.centroids.dimensions;
        let sound = self.cells() > 0 && fits && self.directory.can_rank(squared_norm);
        if !sound || (few && !matches!(self.store, Store::Bits(_, Some(_)))) {
            return self.flat.search(query, filter, source, scratch, out);
        }
        let mut memory = std::mem::take(&mut scratch.ivf);
        let copies = if few { None } else { self.gathered(filter, search) };
        let copies = copies.as_deref().and_then(Copies::as_cells);
        let lists = copies.map_or(&self.lists, |copies| &copies.lists);
        let mut probe =
            Probe { index: self, lists, search, query, vector, squared_norm, allowed, source, out };
        let outcome = match &self.store {
            Store::Plain(cells) => {
                memory.ranked = None;
                probe.plain(cells, &mut memory);
                Ok(())
            }
            Store::Bits(cells, fine) => match (fine, allowed.filter(|_| few)) {
                (Some(fine), Some(rows)) => {
                    memory.ranked = None;
                    probe.few(cells, fine, rows, &mut memory)
                }
                _ => {
                    let cells = copies.map_or(cells, |copies| &copies.cells);
                    probe.bits(cells, fine.as_ref(), &mut memory)
                }
            },
        };
        scratch.ivf = memory;
        outcome
    }

    /// Searches for several queries on the threads of a job; each has its own results.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source;
    /// [`IndexError::Cancelled`].
    ///
    /// # Panics
    ///
    /// Panics when `outs` has another length than `queries`.
    pub fn search_batch(
        &self,
        search: IvfSearch,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        job: &Job<'_>,
        outs: &mut [TopK],
    ) -> Result<(), IndexError> {
        job.crew().each_query(queries, outs, |query, scratch, out| {
            self.search_with(search, query, filter, source, scratch, out)
        })
    }

    fn is_scan_cheaper(&self, allowed: usize, search: IvfSearch) -> bool {
        let cells = search.nprobe.clamp(1, self.cells().max(1));
        let entries = self.lists.rows.len() / self.cells().max(1) * cells;
        let jump = match &self.store {
            Store::Plain(_) => JUMP_COST,
            Store::Bits(_, None) => JUMP_COST_CODES,
            Store::Bits(_, Some(_)) => JUMP_COST_FINE,
        };
        allowed * jump <= entries + self.cells() * JUMP_COST
    }
}

/// One query on its way through the cells.
pub(super) struct Probe<'a> {
    pub(super) index: &'a IvfIndex,
    /// Its entries, or those of the rows that a filter allows.
    lists: &'a Lists,
    search: IvfSearch,
    pub(super) query: &'a Query,
    /// The query where it is compared with the centroids.
    vector: &'a [f32],
    squared_norm: f32,
    allowed: Option<&'a RowSet>,
    pub(super) source: &'a dyn VectorSource,
    pub(super) out: &'a mut TopK,
}

impl Probe<'_> {
    /// Ranks the cells by `vector` and brings those to be probed to the front.
    fn rank(&self, vector: &[f32], near: &mut Vec<Near>, keys: &mut Vec<f32>) -> usize {
        let index = self.index;
        index.directory.rank(index.origin.metric(), vector, self.query.kernels(), near, keys);
        let nprobe = self.search.nprobe.clamp(1, near.len());
        nearest_first(near, nprobe);
        nprobe
    }

    /// True when no row of the cell has a key, as those of the cells are, below `worst`.
    fn is_beyond(&self, near: &Near, worst: f64) -> bool {
        let metric = self.index.origin.metric();
        // A bound that is not a number says nothing.
        self.index.directory.lower_bound(metric, near, self.squared_norm) > worst
    }

    /// The bound above which no row can be wanted, for others were found before: those of another
    /// part.
    fn first_limit(&self) -> f32 {
        (self.index.origin.limit(self.out.worst()) as f32).next_up()
    }

    /// True when the row may be returned and was not met before. `bound` is what it is compared by.
    fn accepts(&self, row: u32, bound: f32, seen: &mut Seen) -> bool {
        let is_shown = self.allowed.is_none_or(|rows| rows.contains(RowId(row)))
            && self.source.is_live(RowId(row));
        if is_shown {
            return seen.insert(row);
        }
        if seen.hidden.counts(bound) && seen.insert(row) {
            seen.hidden.push(bound);
        }
        false
    }

    fn begin(&self, seen: &mut Seen, beyond: Beyond) {
        seen.begin(self.index.row_set().extent(), beyond, self.out.k());
    }

    /// True when so few were found that what is near is hidden, however little was met.
    fn are_few(&self, are_found: bool) -> bool {
        !are_found && matches!(self.search.beyond, Beyond::WhereHidden { .. })
    }

    /// True when it looks at other cells where fewer than `k` rows were found.
    fn goes_on(&self) -> bool {
        self.search.beyond != Beyond::Never && !self.out.is_full()
    }

    fn plain(&mut self, cells: &PlainCells, memory: &mut IvfScratch) {
        let IvfScratch { near, keys, seen, .. } = memory;
        let nprobe = self.rank(self.vector, near, keys);
        keys.resize(KEYS_AT_ONCE.max(keys.len()), 0.0);
        self.begin(seen, self.search.beyond);
        let (probed, others) = near.split_at_mut(nprobe);
        for near in probed {
            if !self.is_beyond(near, self.index.origin.limit(self.out.worst())) {
                self.plain_cell(cells, near.cell as usize, keys, seen);
            }
        }
        let is_hidden = self.are_few(self.out.is_full())
            || seen.hidden.are_many(self.query.key_limit(self.out.worst()));
        if is_hidden || self.goes_on() {
            others.sort_unstable_by(order);
            for near in others {
                if !self.is_beyond(near, self.index.origin.limit(self.out.worst())) {
                    self.plain_cell(cells, near.cell as usize, keys, seen);
                }
                if self.out.is_full() && !is_hidden {
                    break;
                }
            }
        }
    }

    fn plain_cell(&mut self, cells: &PlainCells, cell: usize, keys: &mut [f32], seen: &mut Seen) {
        let entries = self.lists.entries(cell);
        let mut limit = self.query.key_limit(self.out.worst());
        for start in entries.clone().step_by(KEYS_AT_ONCE) {
            let keys = &mut keys[..KEYS_AT_ONCE.min(entries.end - start)];
            cells.keys(self.query, start..start + keys.len(), keys);
            for (chunk, keys) in keys.chunks(SELECT_CHUNK).enumerate() {
                if keys.iter().fold(true, |beyond, &key| beyond & (key > limit)) {
                    continue;
                }
                for (lane, &key) in keys.iter().enumerate() {
                    if key > limit {
                        continue;
                    }
                    let entry = start + chunk * SELECT_CHUNK + lane;
                    let row = self.lists.rows[entry];
                    if self.accepts(row, key, seen) {
                        let vector = cells.vector(entry, self.query.dimensions());
                        self.offer(row, key, vector);
                    }
                }
                limit = self.query.key_limit(self.out.worst());
            }
        }
    }

    fn offer(&mut self, row: u32, key: f32, vector: &[f32]) {
        let reliable = self.query.is_reliable(key);
        let key = if reliable { f64::from(key) } else { self.query.exact_key(vector) };
        self.out.offer(RowId(row), key);
    }

    fn prepare<'b>(
        &self,
        cells: &BitCells,
        code_query: &'b mut Option<CodeQuery>,
        is_ready: bool,
    ) -> Result<&'b CodeQuery, IndexError> {
        let rotation = &cells.rotation;
        let prepared = match code_query {
            Some(prepared) => prepared,
            None => code_query.insert(CodeQuery::new(self.query, rotation, EPSILON)?),
        };
        if is_ready {
            return Ok(prepared);
        }
        if self.index.origin.is_moved() {
            prepared.reset_moved(self.query, self.vector, rotation, EPSILON)?;
        } else {
            prepared.reset(self.query, rotation, EPSILON)?;
        }
        Ok(prepared)
    }

    fn bits(
        &mut self,
        cells: &BitCells,
        fine: Option<&FineRows>,
        memory: &mut IvfScratch,
    ) -> Result<(), IndexError> {
        let IvfScratch {
            near,
            keys,
            seen,
            candidates,
            code_query,
            estimates,
            ordered,
            nearest,
            ranked,
            ..
        } = memory;
        let nprobe = self.search.nprobe.clamp(1, self.index.cells());
        let (directory, kernels) = (&self.index.directory, self.query.kernels());
        let metric = self.index.origin.metric();
        let is_ranked = ranked.as_ref().is_some_and(|(cells, count)| {
            *count >= nprobe
                && self.index.shared.as_ref().is_some_and(|own| Arc::ptr_eq(own, cells))
        });
        let prepared = self.prepare(cells, code_query, is_ranked)?;
        if !is_ranked {
            match directory.rank_coded(metric, prepared, kernels, nprobe, near, estimates) {
                Some(exact) => nearest_first(&mut near[..exact], nprobe),
                None => _ = self.rank(prepared.rotated(), near, keys),
            }
            *ranked = self.index.shared.clone().map(|cells| (cells, nprobe));
        }
        self.begin(seen, self.search.beyond);
        candidates.reset(candidates_for(self.out, self.search.candidates), self.first_limit());
        let wanted = if self.goes_on() { self.out.k() } else { 0 };
        for at in 0..nprobe {
            self.bits_cell(cells, &near[at..nprobe], prepared, seen, candidates, estimates);
        }
        let is_hidden = self.is_hidden(seen, candidates);
        if is_hidden || candidates.len() < wanted {
            directory.refine(metric, prepared.rotated(), kernels, &mut near[nprobe..]);
            near[nprobe..].sort_unstable_by(order);
        }
        let from = if is_hidden {
            // Anew: what was found near may be refused for what lies farther away.
            let most = PackedConfig::default().candidates_for(self.out.k());
            candidates.reset(self.search.candidates.max(most), self.first_limit());
            self.begin(seen, Beyond::Never);
            for at in 0..near.len() {
                self.bits_cell(cells, &near[at..], prepared, seen, candidates, estimates);
            }
            near.len()
        } else {
            nprobe
        };
        for at in from..near.len() {
            if candidates.len() >= wanted {
                break;
            }
            self.bits_cell(cells, &near[at..], prepared, seen, candidates, estimates);
        }
        ordered.clear();
        let rows = &self.lists.rows;
        let found = candidates.finish();
        ordered.extend(found.iter().map(|&(lower, entry)| (lower, rows[entry as usize])));
        nearest.clear();
        match fine {
            Some(fine) => self.compare_refined(fine, prepared, ordered, nearest),
            None => self.compare_lowest(ordered, nearest),
        }
        Ok(())
    }

    fn is_hidden(&self, seen: &Seen, candidates: &mut Candidates) -> bool {
        if self.are_few(self.out.is_full() || candidates.len() >= self.out.k()) {
            return true;
        }
        seen.hidden.is_full() && {
            let last = candidates.bound_of(self.out.k()).min(self.first_limit());
            seen.hidden.are_many(last)
        }
    }

    /// Compares the few rows that a filter allows.
    fn few(
        &mut self,
        cells: &BitCells,
        fine: &FineRows,
        allowed: &RowSet,
        memory: &mut IvfScratch,
    ) -> Result<(), IndexError> {
        let IvfScratch { code_query, ordered, nearest, .. } = memory;
        let prepared = self.prepare(cells, code_query, false)?;
        ordered.clear();
        let held = |&row: &RowId| self.index.row_set().contains(row) && self.source.is_live(row);
        ordered.extend(allowed.iter().filter(held).map(|row| (0.0, row.0)));
        nearest.clear();
        self.compare_refined(fine, prepared, ordered, nearest);
        Ok(())
    }

    /// Scans the first of some cells; blocks of the second are on their way when it is done.
    fn bits_cell(
        &self,
        cells: &BitCells,
        ahead: &[Near],
        prepared: &CodeQuery,
        seen: &mut Seen,
        candidates: &mut Candidates,
        estimates: &mut Estimates,
    ) {
        let near = &ahead[0];
        if self.is_beyond(near, f64::from(candidates.limit())) {
            return;
        }
        let lists = self.lists;
        let entries = lists.entries(near.cell as usize);
        let (size, codes) = (cells.block_bytes(), cells.blocks_of(entries.clone()));
        let next = ahead.get(1).map(|next| cells.blocks_of(lists.entries(next.cell as usize)));
        let (dot, norm) = self.index.directory.product(self.index.origin.metric(), near);
        let terms = prepared.terms_of(dot, norm);
        let estimate = prepared.kernels().estimate_bits;
        let blocks = codes.chunks_exact(size).enumerate();
        for (start, (at, block)) in entries.clone().step_by(BLOCK_ROWS).zip(blocks) {
            let from = (at + BLOCKS_AHEAD) * size;
            let later = match (from.checked_sub(codes.len()), next) {
                (None, _) => &codes[from..from + size],
                (Some(from), Some(next)) => next.get(from..from + size).unwrap_or_default(),
                _ => &[],
            };
            prefetch_many(later);
            let mut mask = estimate(block, prepared, &terms, candidates.limit(), estimates);
            if entries.end - start < BLOCK_ROWS {
                mask &= (1 << (entries.end - start)) - 1;
            }
            while mask != 0 {
                let slot = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let lower = estimates.lower[slot];
                let entry = start + slot;
                let is_beyond = lower > candidates.limit();
                if !is_beyond && self.accepts(lists.rows[entry], lower, seen) {
                    candidates.push(lower, entry as u32);
                }
            }
        }
    }
}

impl Part for IvfIndex {
    fn rows(&self) -> &RowSet {
        self.row_set()
    }

    fn filter_of(&self, rows: RowSet) -> Filter {
        self.gathering(rows)
    }

    fn copied_bytes(&self) -> usize {
        self.shelf.bytes() + self.copied_vectors()
    }

    fn search(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        self.search_with(self.search, query, filter, source, scratch, out)
    }
}
