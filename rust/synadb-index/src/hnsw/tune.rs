//! Finding the shortest queue that reaches a recall.

use synadb_types::RowSet;

use crate::hnsw::HnswIndex;
use crate::{Filter, FlatIndex, IndexError, Query, Scratch, TopK, VectorSource};

/// A search ends when the queue is at most this much longer than one that is too short: one part
/// in sixteen changes the time less than a busy machine does.
const STEP: usize = 16;

/// A length of the queue and the recall that it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TunedEf {
    /// Length of the queue, for [`HnswIndex::search_with_ef`] and [`HnswIndex::set_ef_search`].
    pub ef: usize,
    /// Share of the true neighbours found, 0 to 1; ties with the last of them count.
    pub recall: f64,
}

/// A search with a queue of some length.
pub(crate) type SearchWithEf<'a> = &'a dyn Fn(
    &Query,
    &Filter,
    &dyn VectorSource,
    &mut Scratch,
    &mut TopK,
    usize,
) -> Result<(), IndexError>;

/// The searches that a length is tried with.
pub(crate) struct Trial<'a> {
    pub(crate) search: SearchWithEf<'a>,
    pub(crate) rows: &'a RowSet,
    /// Length of the longest queue.
    pub(crate) longest: usize,
    pub(crate) k: usize,
    pub(crate) queries: &'a [Query],
    pub(crate) filter: &'a Filter,
    pub(crate) source: &'a dyn VectorSource,
    /// For each query the number of its neighbours and the score of the last one.
    pub(crate) truth: Vec<(usize, f32)>,
}

impl HnswIndex {
    /// Finds the shortest queue, but for one part in sixteen, whose recall at `k` over some
    /// queries is at least `target`. Costs an exact search and some ten searches of each query.
    ///
    /// The queries stand for those to come: take real ones where there are some, a few hundred at
    /// least for a recall above .99, else rows of the store. Gives a queue of all nodes and its
    /// recall where no shorter one is enough, and the shortest possible where there is no query.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source.
    ///
    /// # Panics
    ///
    /// Panics when a query has another metric than the index.
    pub fn tune(
        &self,
        target: f64,
        k: usize,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
    ) -> Result<TunedEf, IndexError> {
        let search: SearchWithEf<'_> = &|query, filter, source, scratch, top, ef| {
            self.search_with_ef(query, filter, source, scratch, top, ef)
        };
        let (rows, longest, truth) = (&self.rows, self.graph.nodes.max(1), Vec::new());
        Trial { search, rows, longest, k, queries, filter, source, truth }.tune(target, scratch)
    }

    /// Sets the length of the queue of [`Part::search`](crate::Part::search); it is saved with
    /// the index.
    pub fn set_ef_search(&mut self, ef: usize) {
        self.config.ef_search = ef;
    }
}

impl Trial<'_> {
    /// The shortest queue, but for one part in sixteen, whose recall is at least `target`.
    pub(crate) fn tune(
        mut self,
        target: f64,
        scratch: &mut Scratch,
    ) -> Result<TunedEf, IndexError> {
        self.find_truth(scratch)?;
        let longest = self.longest;
        let mut measure = |ef| self.run(ef, scratch);
        // A search takes a queue of twice `k` at least.
        let mut best = measure(self.k.saturating_mul(2).clamp(1, longest))?;
        let mut too_short = 0;
        while best.recall < target && best.ef < longest {
            too_short = best.ef;
            best = measure(best.ef.saturating_mul(2).min(longest))?;
        }
        while too_short > 0 && best.recall >= target && best.ef - too_short > best.ef / STEP + 1 {
            let between = measure(too_short.midpoint(best.ef))?;
            if between.recall >= target {
                best = between;
            } else {
                too_short = between.ef;
            }
        }
        Ok(best)
    }

    fn find_truth(&mut self, scratch: &mut Scratch) -> Result<(), IndexError> {
        let mut tops: Vec<TopK> = self.queries.iter().map(|_| TopK::new(self.k)).collect();
        let exact = FlatIndex::new(self.rows.clone());
        exact.search_batch(self.queries, self.filter, self.source, scratch, &mut tops)?;
        let mut hits = Vec::new();
        for (query, top) in self.queries.iter().zip(&mut tops) {
            hits.clear();
            top.finish(query, self.source, &mut hits);
            self.truth.push((hits.len(), hits.last().map_or(0.0, |last| last.score)));
        }
        Ok(())
    }

    fn run(&self, ef: usize, scratch: &mut Scratch) -> Result<TunedEf, IndexError> {
        let (mut found, mut wanted) = (0, 0);
        let (mut top, mut hits) = (TopK::new(self.k), Vec::new());
        for (query, &(count, last)) in self.queries.iter().zip(&self.truth) {
            top.reset(self.k);
            hits.clear();
            let (filter, source) = (self.filter, self.source);
            (self.search)(query, filter, source, scratch, &mut top, ef)?;
            top.finish(query, source, &mut hits);
            found += hits.iter().filter(|hit| hit.score <= last).count();
            wanted += count;
        }
        let recall = if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 };
        Ok(TunedEf { ef, recall })
    }
}
