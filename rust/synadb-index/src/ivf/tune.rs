//! Finding the cheapest search that reaches a recall.

use super::{IvfIndex, IvfSearch};
use crate::{Filter, IndexError, Part, Query, Scratch, TopK, VectorSource};

/// A search and the recall that it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuned {
    /// How much to look at.
    pub search: IvfSearch,
    /// Share of the true neighbours that it found, 0 to 1; ties with the last one count.
    pub recall: f64,
}

impl IvfIndex {
    /// Finds the smallest `nprobe` whose recall over the sample is at least `target`, by halving:
    /// the exact search of every query once, then some ten rounds of the sample.
    ///
    /// The sample stands for the queries to come: take real ones where there are some, else rows
    /// of the store. Returns a search of all cells where nothing less is enough.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source.
    pub fn tune(
        &self,
        target: f64,
        k: usize,
        queries: &[Query],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
    ) -> Result<Tuned, IndexError> {
        let mut truth = Vec::with_capacity(queries.len());
        let mut top = TopK::new(k);
        for query in queries {
            let mut hits = Vec::new();
            top.reset(k);
            self.flat.search(query, filter, source, scratch, &mut top)?;
            top.finish(query, source, &mut hits);
            truth.push(hits.last().map_or((0, 0.0), |last| (hits.len(), last.score)));
        }
        let mut measure = |nprobe| {
            let search = IvfSearch { nprobe, ..self.config.search };
            let recall = self.recall(search, k, queries, &truth, filter, source, scratch)?;
            Ok::<Tuned, IndexError>(Tuned { search, recall })
        };
        let (mut low, mut high) = (0, self.cells().max(1));
        let mut best = measure(high)?;
        let mut probe = 1;
        while low + 1 < high {
            let found = measure(probe)?;
            if found.recall >= target {
                (high, best) = (probe, found);
            } else {
                low = probe;
            }
            // Up in doubles until one is enough, then between the two.
            probe =
                if high == self.cells() { (2 * probe).min(high - 1) } else { low.midpoint(high) };
            probe = probe.clamp(low + 1, high.max(low + 2) - 1);
        }
        Ok(best)
    }

    /// Share of the true neighbours that a search finds; `truth` has their number and the score
    /// of the last one for each query.
    fn recall(
        &self,
        search: IvfSearch,
        k: usize,
        queries: &[Query],
        truth: &[(usize, f32)],
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
    ) -> Result<f64, IndexError> {
        let (mut found, mut wanted) = (0, 0);
        let (mut top, mut hits) = (TopK::new(k), Vec::new());
        for (query, &(count, last)) in queries.iter().zip(truth) {
            top.reset(k);
            hits.clear();
            self.search_with(search, query, filter, source, scratch, &mut top)?;
            top.finish(query, source, &mut hits);
            found += hits.iter().filter(|hit| hit.score <= last).count().min(count);
            wanted += count;
        }
        Ok(if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 })
    }
}
