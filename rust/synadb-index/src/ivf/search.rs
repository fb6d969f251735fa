//! Searching an inverted file.

use synadb_types::{RowId, RowSet};

use super::directory::direction;
use super::{IvfIndex, IvfSearch};
use crate::kmeans::assign::Near;
use crate::{Filter, IndexError, Part, Query, Scratch, TopK, VectorSource};

/// Entries whose keys are computed before any is looked at.
const KEYS_AT_ONCE: usize = 256;
/// Keys compared with the limit at once.
const SELECT_CHUNK: usize = 16;
/// A row out of order costs as much as so many in order.
const JUMP_COST: usize = 6;

/// Memory of a search.
#[derive(Debug, Default)]
pub(crate) struct IvfScratch {
    near: Vec<Near>,
    keys: Vec<f32>,
    seen: Seen,
}

/// Rows met in a search: each is offered once although two cells may list it.
#[derive(Debug, Default)]
struct Seen {
    words: Vec<u64>,
    touched: Vec<u32>,
}

impl Seen {
    fn begin(&mut self, rows_end: u32) {
        for word in self.touched.drain(..) {
            self.words[word as usize] = 0;
        }
        let words = (rows_end as usize).div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// True when the row was not met before.
    fn insert(&mut self, row: u32) -> bool {
        let (word, bit) = (row / 64, 1 << (row % 64));
        let Some(slot) = self.words.get_mut(word as usize) else {
            return true;
        };
        let new = *slot & bit == 0;
        if *slot == 0 {
            self.touched.push(word);
        }
        *slot |= bit;
        new
    }
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
        query.check(source)?;
        if out.k() == 0 || self.cells() == 0 {
            return Ok(());
        }
        let vector = direction(query);
        let squared_norm = (query.kernels().dot)(vector, vector);
        let allowed = match filter {
            Filter::All => None,
            Filter::Rows(rows) => Some(rows),
        };
        let few = allowed.is_some_and(|rows| self.is_scan_cheaper(rows.len(), search));
        if few || !self.directory.can_rank(squared_norm) || query.metric() != self.metric {
            return self.flat.search(query, filter, source, scratch, out);
        }
        let mut memory = std::mem::take(&mut scratch.ivf);
        let Scan { near, keys, seen } = &mut memory;
        self.directory.rank(self.metric, vector, query.kernels(), near, keys);
        keys.resize(KEYS_AT_ONCE.max(keys.len()), 0.0);
        seen.begin(self.row_set().extent());
        let nprobe = search.nprobe.clamp(1, near.len());
        nearest_first(near, nprobe);
        let mut visit = Visit { index: self, query, allowed, source, keys, seen, out };
        let (probed, others) = near.split_at_mut(nprobe);
        for near in probed {
            let bound = self.directory.lower_bound(self.metric, near, squared_norm);
            // A bound that is not a number says nothing.
            let is_beyond = bound > visit.out.worst();
            if !is_beyond {
                visit.cell(near.cell as usize);
            }
        }
        if !visit.out.is_full() {
            others.sort_unstable_by(order);
            for near in others {
                visit.cell(near.cell as usize);
                if visit.out.is_full() {
                    break;
                }
            }
        }
        scratch.ivf = memory;
        Ok(())
    }

    fn is_scan_cheaper(&self, allowed: usize, search: IvfSearch) -> bool {
        let cells = search.nprobe.clamp(1, self.cells());
        let entries = self.lists.rows.len() / self.cells() * cells;
        allowed * JUMP_COST <= entries + self.cells()
    }
}

use IvfScratch as Scan;

fn order(a: &Near, b: &Near) -> std::cmp::Ordering {
    a.key.total_cmp(&b.key).then(a.cell.cmp(&b.cell))
}

/// Brings the `count` nearest cells to the front, in order.
fn nearest_first(near: &mut [Near], count: usize) {
    if count < near.len() {
        near.select_nth_unstable_by(count - 1, order);
    }
    near[..count].sort_unstable_by(order);
}

/// One query on its way through the cells.
struct Visit<'a> {
    index: &'a IvfIndex,
    query: &'a Query,
    allowed: Option<&'a RowSet>,
    source: &'a dyn VectorSource,
    keys: &'a mut [f32],
    seen: &'a mut Seen,
    out: &'a mut TopK,
}

impl Visit<'_> {
    fn cell(&mut self, cell: usize) {
        let entries = self.index.lists.entries(cell);
        let mut limit = self.query.key_limit(self.out.worst());
        for start in entries.clone().step_by(KEYS_AT_ONCE) {
            let count = KEYS_AT_ONCE.min(entries.end - start);
            self.index.plain.keys(self.query, start..start + count, &mut self.keys[..count]);
            for chunk in (0..count).step_by(SELECT_CHUNK) {
                let end = count.min(chunk + SELECT_CHUNK);
                let keys = &self.keys[chunk..end];
                if keys.iter().fold(true, |beyond, &key| beyond & (key > limit)) {
                    continue;
                }
                for at in chunk..end {
                    let key = self.keys[at];
                    if key > limit {
                        continue;
                    }
                    if self.offer(start + at, key) {
                        limit = self.query.key_limit(self.out.worst());
                    }
                }
            }
        }
    }

    fn offer(&mut self, entry: usize, key: f32) -> bool {
        let row = self.index.lists.rows[entry];
        let allowed = self.allowed.is_none_or(|rows| rows.contains(RowId(row)));
        if !allowed || !self.source.is_live(RowId(row)) || !self.seen.insert(row) {
            return false;
        }
        let key = if self.query.is_reliable(key) {
            f64::from(key)
        } else {
            let dimensions = self.query.dimensions();
            self.query.exact_key(self.index.plain.vector(entry, dimensions))
        };
        self.out.offer(RowId(row), key)
    }
}

impl Part for IvfIndex {
    fn rows(&self) -> &RowSet {
        self.row_set()
    }

    fn search(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        self.search_with(self.config.search, query, filter, source, scratch, out)
    }
}
