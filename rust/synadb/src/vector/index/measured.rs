//! Measuring the recall of a store on a sample of its own rows.

use std::num::NonZero;
use std::slice;
use std::thread;

use synadb_index::{Filter, Job, Sample};
use synadb_types::{RowId, RowSet};

use super::Loaded;
use super::search::SearchOptions;
use super::tuned::{ROWS_A_QUERY, queries_of, without};
use crate::error::Result;
use crate::vector::VectorStore;
use crate::vector::filter::Filters;
use crate::vector::search::index_failure;
use crate::vector::source::MappedVectors;

impl VectorStore {
    /// Share of the `k` nearest that searches with such options find, 0 to 1, on a sample of the
    /// stored vectors: half of the queries are vectors that may not be found meanwhile, half are
    /// mixed of two. The filter of the options is left out. One where every search is exact.
    ///
    /// Costs an exact search and one through the index for each query, on all processors.
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn measure_recall(&self, k: usize, sample: usize, options: &SearchOptions) -> Result<f64> {
        options.check()?;
        let Some(snapshot) = self.snapshot()? else { return Ok(1.0) };
        let loaded = if options.exact { None } else { self.config.index_of(&snapshot) };
        let aimed = self.aimed(options, k, (&snapshot, loaded.as_ref()), None)?;
        let Some((built, index)) = loaded.as_ref().and_then(Loaded::index) else { return Ok(1.0) };
        if aimed.exact || k == 0 || sample == 0 {
            return Ok(1.0);
        }
        let all: RowSet =
            (0..snapshot.rows_end()).map(RowId).filter(|row| snapshot.is_live(*row)).collect();
        let step = (all.len() / sample).max(ROWS_A_QUERY);
        let chosen: Vec<RowId> = all.iter().step_by(step).collect();
        let dimensions = usize::from(self.dimensions());
        let source = MappedVectors { snapshot: &snapshot, dimensions };
        let metric = self.metric().kernel();
        let queries = queries_of(metric, &chosen, &source).map_err(index_failure)?;
        let filters = Filters::of(&without(&all, &chosen), loaded.as_ref());
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let (job, allowed) = (Job::with_threads(threads), &filters.all);
        let sample = Sample::new(&all, k, (&queries, allowed, &source), &job);
        let recall = sample.and_then(|sample| {
            sample.recall(&|query, _: &Filter, _, scratch, top| {
                let way = (slice::from_ref(query), &*aimed, &filters);
                index.search(built, way, &source, scratch, slice::from_mut(top))
            })
        });
        recall.map_err(index_failure)
    }
}
