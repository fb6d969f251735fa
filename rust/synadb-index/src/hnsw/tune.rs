//! Finding the shortest queue that reaches a recall.

use crate::hnsw::HnswIndex;
use crate::{Filter, IndexError, Job, Query, Sample, VectorSource};

/// A length of the queue and the recall that it reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TunedEf {
    /// Length of the queue, for [`HnswIndex::search_with_ef`] and [`HnswIndex::set_ef_search`].
    pub ef: usize,
    /// Share of the true neighbours found, 0 to 1; ties with the last of them count.
    pub recall: f64,
}

impl HnswIndex {
    /// Finds the shortest queue, but for one part in sixteen, whose recall at `k` over some
    /// queries is at least `target`. Costs an exact search and some ten searches of each query.
    ///
    /// The queries stand for those to come: take real ones where there are some, a few hundred at
    /// least for a recall above .99, else rows of the store. Gives a queue of all nodes and its
    /// recall where no shorter one is enough. None is shorter than `2 k`, which is the answer where
    /// there is no query.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when a query does not fit the source;
    /// [`IndexError::Cancelled`].
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
        job: &Job<'_>,
    ) -> Result<TunedEf, IndexError> {
        self.tune_on(&Sample::new(&self.rows, k, (queries, filter, source), job)?, target)
    }

    /// As [`HnswIndex::tune`], on a sample whose true neighbours are known.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn tune_on(&self, sample: &Sample<'_>, target: f64) -> Result<TunedEf, IndexError> {
        shortest(sample, target, self.graph.nodes, |ef| {
            sample.recall(&|query, filter, source, scratch, top| {
                self.search_with_ef(query, filter, source, scratch, top, ef)
            })
        })
    }

    /// Sets the length of the queue of [`Part::search`](crate::Part::search); it is saved with
    /// the index.
    pub fn set_ef_search(&mut self, ef: usize) {
        self.config.ef_search = ef;
    }
}

/// The shortest queue, but for one part in sixteen, whose recall is at least `target`.
pub(crate) fn shortest(
    sample: &Sample<'_>,
    target: f64,
    nodes: usize,
    recall: impl FnMut(usize) -> Result<f64, IndexError>,
) -> Result<TunedEf, IndexError> {
    // A queue of `k` finds less than `k`, and is tried on queries near a row of the graph, whose
    // links lead to all of them: others find far less with it.
    let limits = (sample.k().saturating_mul(2), nodes.max(1));
    let (ef, recall) = Sample::least(target, limits, recall)?;
    Ok(TunedEf { ef, recall })
}
