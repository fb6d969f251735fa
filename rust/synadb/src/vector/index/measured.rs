//! Measuring the recall of a store on a sample of its own rows.

use std::num::NonZero;
use std::slice;
use std::thread;

use synadb_index::{Filter, Job, Sample};
use synadb_types::{RowId, RowSet};

use super::Loaded;
use super::sampled::{ROWS_A_QUERY, queries_of};
use super::search::SearchOptions;
use crate::error::Result;
use crate::vector::VectorStore;
use crate::vector::filter::Filters;
use crate::vector::search::index_failure;
use crate::vector::source::MappedVectors;

/// What a sample says of the recall of searches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredRecall {
    /// Share of the nearest that they find, 0 to 1; one where every search is exact.
    pub recall: f64,
    /// Neighbours that were looked for.
    pub k: usize,
    /// Queries that were tried; none where every search is exact.
    pub queries: usize,
}

impl VectorStore {
    /// The recall that a search is to reach that is told nothing: that of the store, or else that
    /// which the index was built for.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn aim(&self) -> Result<Option<f64>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(self.target_recall) };
        let loaded = self.config.index_of(&snapshot);
        let of_index = loaded.as_ref().and_then(Loaded::index);
        Ok(self.target_recall.or_else(|| of_index.and_then(|(_, index)| index.tuned.target)))
    }

    /// Whether the index was tuned by a search since it was saved.
    pub(crate) fn knows_more(&self) -> Result<bool> {
        let Some(snapshot) = self.snapshot()? else { return Ok(false) };
        let loaded = self.config.index_of(&snapshot);
        Ok(loaded.as_ref().and_then(Loaded::index).is_some_and(|(_, index)| index.tuned.is_new()))
    }

    /// Share of the `k` nearest that searches with such options find on a sample of the stored
    /// vectors, so many at most and one in eight: the queries are mixed of two, the first of which
    /// is no neighbour. The filter of the options is left out.
    ///
    /// Costs an exact search and one through the index for each query, on all processors.
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn measure_recall(
        &self,
        k: usize,
        sample: usize,
        options: &SearchOptions,
    ) -> Result<MeasuredRecall> {
        options.check()?;
        let exact = MeasuredRecall { recall: 1.0, k, queries: 0 };
        let Some(snapshot) = self.snapshot()? else { return Ok(exact) };
        let loaded = if options.exact { None } else { self.config.index_of(&snapshot) };
        let aimed = self.aimed(options, k, (&snapshot, loaded.as_ref()), None)?;
        let Some((built, index)) = loaded.as_ref().and_then(Loaded::index) else {
            return Ok(exact);
        };
        if aimed.exact || k == 0 || sample == 0 {
            return Ok(exact);
        }
        let all: RowSet =
            (0..snapshot.rows_end()).map(RowId).filter(|row| snapshot.is_live(*row)).collect();
        let step = all.len().div_ceil(sample).max(ROWS_A_QUERY);
        let chosen: Vec<RowId> = all.iter().step_by(step).collect();
        let dimensions = usize::from(self.dimensions());
        let source = MappedVectors { snapshot: &snapshot, dimensions };
        let metric = self.metric().kernel();
        let (queries, own) = queries_of(metric, &chosen, &source).map_err(index_failure)?;
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let job = Job::with_threads(threads);
        let sample = Sample::of_rows(&all, k, &own, (&queries, &Filter::All, &source), &job);
        let recall = sample.and_then(|sample| {
            sample.recall(&|query, _: &Filter, _, scratch, top| {
                let way = (slice::from_ref(query), &*aimed, &Filters::ALL);
                index.search(built, way, &source, scratch, slice::from_mut(top))
            })
        });
        let measured = |recall| MeasuredRecall { recall, k, queries: queries.len() };
        recall.map(measured).map_err(index_failure)
    }
}
