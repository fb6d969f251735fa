//! Searching a vector store.

use std::cell::RefCell;
use std::sync::Arc;

use synadb_index::{
    IndexError, Metric, Query, Scratch, TopK, first_non_finite, prefetch_bytes, search_exactly,
};
use synadb_types::RowId;

use super::VectorStore;
use super::answers::Answers;
use super::batch_order::near_together;
use super::filter::{Filters, Found, KeyFilter};
use super::index::{Built, Loaded, SearchOptions, StoreIndex};
use super::source::MappedVectors;
use crate::collection::Snapshot;
use crate::error::{Error, Result};

/// A key found, with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The key.
    pub key: String,
    /// Distance from the query; smaller is nearer.
    pub score: f32,
    /// The stored vector.
    pub vector: Vec<f32>,
}

/// A key found; its vector is read when it is asked for.
#[derive(Clone)]
pub struct Hit {
    /// The key.
    pub key: String,
    /// Distance from the query; smaller is nearer.
    pub score: f32,
    row: RowId,
    snapshot: Arc<Snapshot>,
}

impl std::fmt::Debug for Hit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hit").field("key", &self.key).field("score", &self.score).finish()
    }
}

/// One of the rows that were found for a query.
struct FoundRow<'a> {
    /// Number of the query.
    query: usize,
    /// Rows that were found for it.
    of: usize,
    /// The bytes of the key.
    name: &'a [u8],
    hit: &'a synadb_index::Hit,
    /// The bytes of the row, verified.
    row: &'a [u8],
    snapshot: &'a Arc<Snapshot>,
}

impl FoundRow<'_> {
    fn key(&self) -> String {
        String::from_utf8_lossy(self.name).into_owned()
    }

    fn to_hit(&self) -> Hit {
        let (score, row) = (self.hit.score, self.hit.row);
        Hit { key: self.key(), score, row, snapshot: Arc::clone(self.snapshot) }
    }
}

/// What is searched, how, and which rows may be found.
type Way<'a> = (Option<(&'a Built, &'a StoreIndex)>, &'a SearchOptions, &'a Filters);

/// So many hits get room for their vectors before they are found.
const VECTORS_AHEAD: usize = 100;
/// Queries that share one pass over the rows.
const QUERIES_AT_ONCE: usize = 32;
/// Queries where an index looks here and there: so few that the rows which are compared still lie
/// in the processor's caches when the results are read.
const QUERIES_OF_WALKS: usize = 4;

/// A pass over fewer rows takes less than the search of an index: it need not be shared.
const ROWS_OF_A_PASS: usize = 256;
/// Lists of more results are given back.
const KEPT_K: usize = 1000;
/// The order of more queries is, too.
const KEPT_ORDER: usize = 1 << 16;

/// Memory that the searches of a thread use again.
#[derive(Default)]
struct Memory {
    scratch: Scratch,
    /// The order in which the queries of a call are searched.
    order: Vec<u32>,
    /// Queries that are searched together, and what is found for each.
    queries: Vec<Query>,
    tops: Vec<TopK>,
    hits: Vec<synadb_index::Hit>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

impl Memory {
    /// Makes some of the queries, row-major and finite, ready for a search.
    fn prepare(
        &mut self,
        metric: Metric,
        (queries, dimensions): (&[f32], usize),
        numbers: &[u32],
        k: usize,
    ) -> Result<()> {
        if self.queries.first().is_some_and(|query| query.metric() != metric) {
            self.queries.clear();
        }
        for (at, &number) in numbers.iter().enumerate() {
            let values = &queries[number as usize * dimensions..][..dimensions];
            match self.queries.get_mut(at) {
                Some(query) => query.reset_finite(values),
                None => self.queries.push(Query::new(metric, values).map_err(index_failure)?),
            }
        }
        self.tops.resize_with(self.queries.len().max(self.tops.len()), TopK::default);
        self.tops[..numbers.len()].iter_mut().for_each(|top| top.reset(k));
        Ok(())
    }
}

impl VectorStore {
    /// The `k` nearest live vectors, nearest first, with their vectors.
    ///
    /// Without an index exact, in O(vectors x dimensions); with one approximate, but for the
    /// vectors that came after it. Fewer than `k` where the store holds fewer.
    ///
    /// # Errors
    /// `Dimension`, `InvalidVector` for a query with NaN or infinity, `Closed`, `Corruption`.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>> {
        self.search_with(query, k, &SearchOptions::default())
    }

    /// As [`VectorStore::search`], done as the options say.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_with(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<SearchResult>> {
        self.check_dimensions("Query", query.len())?;
        let mut results = Vec::new();
        self.search_each(self.snapshot()?, query, k, options, &mut |found| {
            let vector = super::store::floats(found.row);
            results.push(SearchResult { key: found.key(), score: found.hit.score, vector });
        })?;
        Ok(results)
    }

    /// As [`VectorStore::search_with`]; the vectors come side by side, in the order of the hits.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_side_by_side(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<(Vec<Hit>, Vec<f32>)> {
        self.check_dimensions("Query", query.len())?;
        let ahead = k.min(VECTORS_AHEAD);
        let mut hits = Vec::with_capacity(ahead);
        let mut vectors = Vec::with_capacity(ahead * query.len());
        self.search_each(self.snapshot()?, query, k, options, &mut |found| {
            super::store::append_floats(found.row, &mut vectors);
            hits.push(found.to_hit());
        })?;
        Ok((hits, vectors))
    }

    /// The `k` nearest of each of several queries, row-major.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_hits(
        &self,
        queries: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<Vec<Hit>>> {
        self.search_hits_in(self.snapshot()?, queries, k, options)
    }

    /// As [`VectorStore::search_hits`], of the rows that a snapshot of this table shows.
    pub(super) fn search_hits_in(
        &self,
        snapshot: Option<Arc<Snapshot>>,
        queries: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<Vec<Hit>>> {
        let count = queries.len() / usize::from(self.dimensions());
        let mut hits: Vec<Vec<Hit>> = (0..count).map(|_| Vec::new()).collect();
        self.search_each(snapshot, queries, k, options, &mut |found| {
            let hits = &mut hits[found.query];
            if hits.is_empty() {
                hits.reserve_exact(found.of);
            }
            hits.push(found.to_hit());
        })?;
        Ok(hits)
    }

    /// Keys and scores of the `k` nearest of each of several queries, row-major.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_answers(
        &self,
        queries: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Answers> {
        let mut answers = Answers::to(queries.len() / usize::from(self.dimensions()));
        self.search_each(self.snapshot()?, queries, k, options, &mut |found| {
            answers.add(found.query, found.name, found.hit.score);
        })?;
        Ok(answers)
    }

    /// Gives everything that is found to `take`: query after query, the nearest first.
    fn search_each(
        &self,
        snapshot: Option<Arc<Snapshot>>,
        queries: &[f32],
        k: usize,
        options: &SearchOptions,
        take: &mut dyn FnMut(FoundRow<'_>),
    ) -> Result<()> {
        options.check()?;
        let dimensions = usize::from(self.dimensions());
        if !queries.len().is_multiple_of(dimensions) {
            self.check_dimensions("Query", queries.len())?;
        }
        for query in queries.chunks_exact(dimensions) {
            if let Some(position) = first_non_finite(query) {
                return Err(index_failure(IndexError::NonFinite { position }));
            }
        }
        let count = queries.len() / dimensions;
        let Some(snapshot) = snapshot.filter(|_| k > 0) else { return Ok(()) };
        let index = if options.exact { None } else { self.config.index_of(&snapshot) };
        let allowed = match &options.filter {
            Some(filter) => Some(self.allowed(filter, &snapshot, index.as_ref())?),
            None => None,
        };
        let filters = allowed.as_ref().map_or(&Filters::ALL, |allowed| allowed.filters());
        let indexed = filters.part.as_ref().map(|part| &part.indexed);
        // No more are looked for, or tuned for, than there are.
        let k = k.min(snapshot.rows_end() as usize);
        let aimed = self.aimed(options, k, (&snapshot, index.as_ref()), indexed)?;
        let way = (index.as_ref().and_then(Loaded::index), &*aimed, filters);
        let way = if aimed.exact { (None, way.1, way.2) } else { way };
        // Taken, not borrowed: what `take` calls may search too.
        let mut memory = MEMORY.take();
        let mut order = std::mem::take(&mut memory.order);
        let at_once = self.put_in_order(queries, way.0, &snapshot, &mut order)?;
        for numbers in order.chunks(at_once) {
            memory.prepare(self.metric().kernel(), (queries, dimensions), numbers, k)?;
            self.find(&snapshot, way, &mut memory, numbers.len())?;
            let source = MappedVectors { snapshot: &snapshot, dimensions };
            let Memory { queries, tops, hits, .. } = &mut memory;
            for (&number, (query, top)) in numbers.iter().zip(queries.iter().zip(tops)) {
                hits.clear();
                top.finish(query, &source, hits);
                self.name_found(&snapshot, hits, number as usize, take)?;
            }
        }
        if order.len() <= KEPT_ORDER {
            memory.order = order;
        }
        if k > KEPT_K {
            (memory.tops, memory.hits) = (Vec::new(), Vec::new());
        }
        MEMORY.set(memory);
        if !options.exact {
            let most = allowed.as_ref().map_or(usize::MAX, |allowed| allowed.len());
            self.count_scans(&snapshot, index.as_ref(), (count, most));
        }
        Ok(())
    }

    /// The order in which queries are searched, where an index looks here and there near ones one
    /// after the other, and how many of them at once.
    fn put_in_order(
        &self,
        queries: &[f32],
        index: Option<(&Built, &StoreIndex)>,
        snapshot: &Snapshot,
        order: &mut Vec<u32>,
    ) -> Result<usize> {
        let dimensions = usize::from(self.dimensions());
        order.clear();
        order.extend(0..(queries.len() / dimensions) as u32);
        match index {
            Some((Built::Hnsw(_) | Built::GravityWell(_) | Built::Cascade(_), index)) => {
                let metric = self.metric().kernel();
                near_together(metric, queries, dimensions, order).map_err(index_failure)?;
                let is_far = index.rows_passed_over(snapshot) > ROWS_OF_A_PASS;
                Ok(if is_far { QUERIES_AT_ONCE } else { QUERIES_OF_WALKS })
            }
            _ => Ok(QUERIES_AT_ONCE),
        }
    }

    /// The rows that a filter allows.
    fn allowed(
        &self,
        filter: &KeyFilter,
        snapshot: &Snapshot,
        index: Option<&Loaded>,
    ) -> Result<Arc<Found>> {
        filter.rows_of(snapshot, index).map_err(|error| self.failure(error))
    }

    /// Finds what is nearest to so many queries that were prepared.
    fn find(
        &self,
        snapshot: &Arc<Snapshot>,
        (index, options, filters): Way<'_>,
        memory: &mut Memory,
        count: usize,
    ) -> Result<()> {
        let source = MappedVectors { snapshot, dimensions: usize::from(self.dimensions()) };
        let rows = 0..snapshot.rows_end();
        let Memory { scratch, queries, tops, .. } = memory;
        let (queries, tops) = (&queries[..count], &mut tops[..count]);
        let found = match index {
            Some((built, index)) => {
                index.search(built, (queries, options, filters), &source, scratch, tops)
            }
            None => search_exactly(rows, queries, &filters.all, &source, scratch, tops),
        };
        found.map_err(index_failure)
    }

    /// Gives what was found for a query to `take`, with its keys and verified rows.
    fn name_found(
        &self,
        snapshot: &Arc<Snapshot>,
        hits: &[synadb_index::Hit],
        query: usize,
        take: &mut dyn FnMut(FoundRow<'_>),
    ) -> Result<()> {
        // All are on their way before the first is read.
        for start in hits.iter().filter_map(|hit| snapshot.start_of_record(hit.row)) {
            prefetch_bytes(start);
        }
        for hit in hits {
            let record = snapshot.record(hit.row).map_err(|error| self.failure(error))?;
            // The bytes that were scored are the ones that were stored, or this is an error.
            let row = record.row_bytes();
            let row = row.map_err(|error| self.failure(error).for_key(record.key))?;
            take(FoundRow { query, of: hits.len(), name: record.key, hit, row, snapshot });
        }
        Ok(())
    }

    /// The stored vector of a hit, also after the key was changed or the file compacted.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn vector_of(&self, hit: &Hit) -> Result<Vec<f32>> {
        self.vectors_of(std::slice::from_ref(hit))
    }

    /// The stored vectors of hits, side by side; as [`VectorStore::vector_of`].
    ///
    /// # Errors
    /// `Corruption`.
    pub fn vectors_of(&self, hits: &[Hit]) -> Result<Vec<f32>> {
        let mut vectors = Vec::with_capacity(hits.len() * usize::from(self.dimensions()));
        for hit in hits {
            let row = hit.snapshot.record(hit.row).and_then(|record| record.row_bytes());
            let row = row.map_err(|error| self.failure(error).for_key(hit.key.as_bytes()))?;
            super::store::append_floats(row, &mut vectors);
        }
        Ok(vectors)
    }
}

pub(super) fn index_failure(error: IndexError) -> Error {
    match error {
        IndexError::Cancelled => Error::Cancelled { what: "the build of the index" },
        IndexError::Dimensions { query, source } => {
            Error::Dimension { what: "Query", got: query, expected: source }
        }
        IndexError::NonFinite { position } => Error::InvalidVector {
            what: "query".to_owned(),
            reason: format!("component {position} is NaN or infinite"),
        },
        other => Error::Unsupported { what: other.to_string() },
    }
}
