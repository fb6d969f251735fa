//! Searching a cascade.

use synadb_types::RowSet;

use crate::cascade::CascadeIndex;
use crate::cascade::config::CascadeSearch;
use crate::cascade::planes::signature;
use crate::cascade::probe::{Probe, ProbeScratch};
use crate::hnsw::TunedEf;
use crate::hnsw::tune::shortest;
use crate::quantize::{CodeKernels, code_kernels};
use crate::{Filter, IndexError, Job, Part, Query, Sample, Scratch, TopK, VectorSource};

/// One of so many rows of the queue is a row of the buckets.
const SEEDS_EF: usize = 4;
/// Rows of the buckets that a walk is offered at least.
const SEEDS_MIN: usize = 8;

/// Memory of a search, beside that of the graph.
#[derive(Debug, Default)]
pub(crate) struct CascadeScratch {
    point: Vec<f32>,
    projections: Vec<f32>,
    probe: ProbeScratch,
}

impl Part for CascadeIndex {
    fn rows(&self) -> &RowSet {
        self.graph.rows()
    }

    fn search(
        &self,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        self.search_with(self.default_search(), query, filter, source, scratch, out)
    }
}

impl CascadeIndex {
    /// As [`Part::search`], looking at as much as `search` says.
    ///
    /// Dead rows and rows that the filter refuses are passed through and not returned. Small parts
    /// and the few rows that a filter leaves are scanned by their codes, without a look into the
    /// buckets. A search returns `k` rows whenever there are.
    ///
    /// Time: O(d log d) for the hyperplanes, the size of `num_probes` buckets at some nanoseconds
    /// a row, and a walk of `ef_search` steps.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when the query does not fit the source.
    ///
    /// # Panics
    ///
    /// Panics when the query has another metric than the index.
    pub fn search_with(
        &self,
        search: CascadeSearch,
        query: &Query,
        filter: &Filter,
        source: &dyn VectorSource,
        scratch: &mut Scratch,
        out: &mut TopK,
    ) -> Result<(), IndexError> {
        let CascadeSearch { num_probes, ef_search } = search;
        if num_probes == 0 {
            return self.graph.search_with_ef(query, filter, source, scratch, out, ef_search);
        }
        let kernels = CodeKernels::for_level(query.kernels().level).or_else(|_| code_kernels())?;
        let mut memory = std::mem::take(&mut scratch.cascade);
        let wanted = (ef_search / SEEDS_EF).max(SEEDS_MIN);
        let mut seeds = |point: &[f32], out: &mut Vec<u32>| {
            self.seeds(kernels, point, num_probes, wanted, &mut memory, out);
        };
        let seeds: crate::hnsw::search::Seeds<'_> = &mut seeds;
        let (graph, ef) = (&self.graph, ef_search);
        let found = graph.search_from(query, filter, source, scratch, out, ef, Some(seeds));
        scratch.cascade = memory;
        found
    }

    fn seeds(
        &self,
        kernels: &CodeKernels,
        query: &[f32],
        probes: usize,
        wanted: usize,
        memory: &mut CascadeScratch,
        out: &mut Vec<u32>,
    ) {
        let CascadeScratch { point, projections, probe } = memory;
        point.clear();
        point.extend_from_slice(query);
        point.push(0.0);
        projections.resize(self.planes.count(), 0.0);
        self.planes.project(kernels, point, projections);
        let look = Probe {
            forest: &self.forest,
            shape: self.config.shape(),
            projections,
            signature: signature(projections),
        };
        look.seeds(probes, wanted, probe, out);
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
    /// Panics when `outs` has another length than `queries`, or a query another metric than the
    /// index.
    pub fn search_batch(
        &self,
        search: CascadeSearch,
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

    /// Finds the shortest queue, but for one part in sixteen, whose recall at `k` over some
    /// queries is at least `target`; the number of probes stays as it is. Costs and sample as for
    /// [`HnswIndex::tune`](crate::HnswIndex::tune).
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
        let sample = Sample::new(self.rows(), k, (queries, filter, source), job)?;
        Ok(self.tune_on(&sample, target)?.1)
    }

    /// The search that [`CascadeIndex::tune`] finds on a sample whose true neighbours are known,
    /// with its queue and recall.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn tune_on(
        &self,
        sample: &Sample<'_>,
        target: f64,
    ) -> Result<(CascadeSearch, TunedEf), IndexError> {
        let usual = self.default_search();
        let nodes = self.graph.nodes();
        let search = |ef_search| CascadeSearch { ef_search, ..usual };
        let tuned = shortest(sample, target, nodes, |ef| {
            sample.recall(&|query, filter, source, scratch, top| {
                self.search_with(search(ef), query, filter, source, scratch, top)
            })
        })?;
        Ok((search(tuned.ef), tuned))
    }
}
