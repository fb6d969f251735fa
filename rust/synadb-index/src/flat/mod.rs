//! Exact scan: the flat index, and the tail of every other.

mod packed;
mod settle;

use std::ops::Range;
use std::slice;

use synadb_types::{RowId, RowSet};

use crate::{Filter, IndexError, Part, Query, Scratch, TopK, VectorSource};

pub(crate) use packed::{GatheredCodes, PackedScratch};
pub use packed::{PackedConfig, PackedFlat, PackedSearch};
pub use settle::search_exactly;

/// Rows whose keys are computed before any is looked at, for a lone query.
const ROWS_OF_ONE: usize = 256;
/// Bytes of rows that several queries read in turn: they stay in the innermost cache.
const BATCH_BYTES: usize = 24 << 10;
/// Rows of a batch at least, so that the kernel's groups are full.
const BATCH_ROWS_MIN: usize = 8;
/// Runs of rows this near to each other are scanned as one: skipping costs more than reading.
const GAP_ROWS: u32 = 4;
/// Runs that are prefetched before the first of them is scanned.
const RUNS_AHEAD: usize = 16;
/// Keys compared with the limit at once.
const SELECT_CHUNK: usize = 16;

/// The flat index: an exact scan over a set of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlatIndex {
    rows: RowSet,
}

impl FlatIndex {
    /// Makes the index of these rows.
    #[must_use]
    pub fn new(rows: RowSet) -> Self {
        Self { rows }
    }

    /// As [`Part::search`] for several queries, which share each read of the rows.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source.
    ///
    /// # Panics
    ///
    /// Panics when `outs` has another length than `queries`.
    pub fn search_batch(
        &self,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        outs: &mut [TopK],
    ) -> Result<(), IndexError> {
        self.search_pausing(queries, filter, source, scratch, (outs, &|| ()))
    }

    /// As [`FlatIndex::search_batch`], with a call after each block of rows, of some
    /// hundreds of products of vectors.
    pub(crate) fn search_pausing(
        &self,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        (outs, pause): (&mut [TopK], &dyn Fn()),
    ) -> Result<(), IndexError> {
        check(queries, source, outs)?;
        let allowed = filter.rows().unwrap_or(&self.rows);
        let accept = |row| self.rows.contains(row) && allowed.contains(row);
        let within = 0..source.rows_end();
        let pass = |mut scan: Scan<'_>| scan.set(allowed, within.clone(), &accept);
        settle::exactly(within.clone(), queries, source, scratch, (outs, pause), &pass);
        Ok(())
    }
}

impl Part for FlatIndex {
    fn rows(&self) -> &RowSet {
        &self.rows
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

/// Offers the nearest live rows of a range that pass the filter, by exact scan.
///
/// # Errors
///
/// [`IndexError::Dimensions`] when the query does not fit the source.
pub fn search_tail(
    range: Range<u32>,
    query: &Query,
    filter: &Filter,
    source: &dyn VectorSource,
    scratch: &mut Scratch,
    out: &mut TopK,
) -> Result<(), IndexError> {
    let (queries, outs) = (slice::from_ref(query), slice::from_mut(out));
    search_batch(range, queries, filter, source, scratch, outs)
}

/// As [`search_tail`] for several queries, which share each read of the rows.
///
/// # Errors
///
/// [`IndexError::Dimensions`] when a query does not fit the source.
///
/// # Panics
///
/// Panics when `outs` has another length than `queries`.
pub fn search_batch(
    range: Range<u32>,
    queries: &[Query],
    filter: &Filter,
    source: &dyn VectorSource,
    scratch: &mut Scratch,
    outs: &mut [TopK],
) -> Result<(), IndexError> {
    check(queries, source, outs)?;
    let mut scan = Scan::new(queries, source, scratch, outs);
    scan.filtered(range.start..range.end.min(source.rows_end()), filter);
    Ok(())
}

fn check(queries: &[Query], source: &dyn VectorSource, outs: &[TopK]) -> Result<(), IndexError> {
    assert_eq!(queries.len(), outs.len(), "every query has its own results");
    queries.iter().try_for_each(|query| query.check(source))
}

/// One pass over rows for all queries of a call.
struct Scan<'a> {
    queries: &'a [Query],
    source: &'a dyn VectorSource,
    scratch: &'a mut Scratch,
    outs: &'a mut [TopK],
    rows_at_once: usize,
    needs_norms: bool,
    /// In a second pass: every row whose fast key is no greater gets an exact one.
    exact_within: Option<f64>,
    /// Called after each block.
    pause: &'a dyn Fn(),
}

impl<'a> Scan<'a> {
    fn new(
        queries: &'a [Query],
        source: &'a dyn VectorSource,
        scratch: &'a mut Scratch,
        outs: &'a mut [TopK],
    ) -> Self {
        let row_bytes = size_of::<f32>() * source.dimensions().max(1);
        let batch_rows = (BATCH_BYTES / row_bytes).clamp(BATCH_ROWS_MIN, ROWS_OF_ONE);
        let rows_at_once = if queries.len() > 1 { batch_rows } else { ROWS_OF_ONE };
        scratch.keys.resize(ROWS_OF_ONE, 0.0);
        scratch.inverse_norms.resize(ROWS_OF_ONE, 0.0);
        let needs_norms = queries.iter().any(Query::needs_norms);
        Self {
            queries,
            source,
            scratch,
            outs,
            rows_at_once,
            needs_norms,
            exact_within: None,
            pause: &|| (),
        }
    }

    /// Scans the rows of a range that pass a filter.
    fn filtered(&mut self, within: Range<u32>, filter: &Filter) {
        match filter.rows() {
            None => self.range(within, &|_| true),
            Some(allowed) => self.set(allowed, within, &|row| allowed.contains(row)),
        }
    }

    /// Scans the runs of a set that lie in `within`, and the small gaps between them.
    fn set(&mut self, rows: &RowSet, within: Range<u32>, accept: &impl Fn(RowId) -> bool) {
        let mut runs = rows.runs(within).peekable();
        let mut ahead = std::mem::take(&mut self.scratch.runs);
        while runs.peek().is_some() {
            ahead.clear();
            while ahead.len() < RUNS_AHEAD
                && let Some(mut run) = runs.next()
            {
                while let Some(next) = runs.next_if(|next| next.start - run.end <= GAP_ROWS) {
                    run.end = next.end;
                }
                self.source.prefetch(RowId(run.start));
                ahead.push(run);
            }
            for run in &ahead {
                self.range(run.clone(), accept);
            }
        }
        self.scratch.runs = ahead;
    }

    /// Scans consecutive rows.
    fn range(&mut self, range: Range<u32>, accept: &impl Fn(RowId) -> bool) {
        let mut row = range.start;
        while let Some(filled) = self.source.filled_from(RowId(row)).filter(|f| f.0 < range.end) {
            row = filled.0;
            let Some(block) = self.source.block(RowId(row)) else {
                return;
            };
            assert!(block.first == RowId(row) && block.count > 0, "a block begins where asked");
            let count = block.count.min((range.end - row) as usize);
            for start in (0..count).step_by(self.rows_at_once) {
                let rows = Rows {
                    first: row + start as u32,
                    count: self.rows_at_once.min(count - start),
                    stride: block.stride,
                    data: &block.data[start * block.stride..],
                };
                self.rows(&rows, accept);
            }
            row += count as u32;
        }
    }

    /// Computes the keys of a few rows for every query and offers those within the limit.
    fn rows(&mut self, rows: &Rows<'_>, accept: &impl Fn(RowId) -> bool) {
        let norms = &mut self.scratch.inverse_norms[..rows.count];
        if self.needs_norms {
            self.source.inverse_norms(RowId(rows.first), norms);
        }
        let keys = &mut self.scratch.keys[..rows.count];
        // The first query sees what follows, so that the kernel prefetches it; the others do not.
        let mut data = rows.data;
        for (query, out) in self.queries.iter().zip(&mut *self.outs) {
            if out.k() == 0 {
                continue;
            }
            query.keys(data, rows.stride, norms, keys);
            data = &rows.data[..(rows.count - 1) * rows.stride + query.dimensions()];
            select(query, rows, keys, self.source, accept, self.exact_within, out);
        }
        (self.pause)();
    }
}

/// Consecutive rows of one block.
struct Rows<'a> {
    first: u32,
    count: usize,
    stride: usize,
    data: &'a [f32],
}

fn select(
    query: &Query,
    rows: &Rows<'_>,
    keys: &[f32],
    source: &dyn VectorSource,
    accept: &impl Fn(RowId) -> bool,
    exact_within: Option<f64>,
    out: &mut TopK,
) {
    let mut limit = query.key_limit(exact_within.unwrap_or(out.worst()));
    for (chunk, keys) in keys.chunks(SELECT_CHUNK).enumerate() {
        if keys.iter().fold(true, |beyond, &key| beyond & (key > limit)) {
            continue;
        }
        for (lane, &key) in keys.iter().enumerate() {
            let index = chunk * SELECT_CHUNK + lane;
            let row = RowId(rows.first + index as u32);
            if key > limit || !accept(row) || !source.is_live(row) {
                continue;
            }
            let key = if query.is_reliable(key) && exact_within.is_none() {
                f64::from(key)
            } else {
                query.exact_key(&rows.data[index * rows.stride..][..query.dimensions()])
            };
            if out.offer(row, key) && exact_within.is_none() {
                limit = query.key_limit(out.worst());
            }
        }
    }
}
