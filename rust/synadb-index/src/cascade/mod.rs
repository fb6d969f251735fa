//! The cascade: signature, bucket, graph, in that order.
//!
//! Hyperplanes give every point a signature (locality-sensitive hashing: Charikar 2002) and divide
//! the rows into buckets, several times over in tables of their own; a bucket that is too full is
//! split by further hyperplanes. A search looks into the buckets that it most likely finds its
//! neighbours in (multi-probe: Lv et al. 2007), keeps the rows whose signatures are most like the
//! query's, and walks from them through a graph of neighbours, which is that of
//! [`HnswIndex`](crate::HnswIndex).

mod config;
mod forest;
mod grow;
mod planes;
mod probe;
mod search;
mod sections;

use synadb_types::RowSet;

use crate::{HnswIndex, IndexError, Job, Metric, VectorSource, kernels};

use forest::Forest;
use planes::Planes;

pub use config::{CascadeConfig, CascadeSearch};
pub(crate) use search::CascadeScratch;

/// Share of a build that the graph takes, as measured.
const GRAPH_SHARE: f32 = 0.9;

/// A cascade: an immutable [`Part`](crate::Part).
///
/// Memory beside the graph: 16 bytes a row for its signature, and four for each table. Rows that
/// died since the build are waypoints of the graph and are not returned.
#[derive(Debug, Clone)]
pub struct CascadeIndex {
    config: CascadeConfig,
    graph: HnswIndex,
    planes: Planes,
    forest: Forest,
}

/// What a cascade is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CascadeStats {
    /// Rows, those that died since the build included.
    pub vector_count: usize,
    /// Buckets of all tables that hold a row.
    pub bucket_count: usize,
    /// Distinct vectors in a bucket, on average; 0 without buckets.
    pub avg_bucket_size: f32,
    /// Links of the graph.
    pub graph_edges: usize,
    /// Links of a distinct vector, on average; 0 without any.
    pub avg_neighbors: f32,
}

impl CascadeIndex {
    /// Builds a cascade of the live ones among some rows. O(rows) for the graph, and O(rows *
    /// `num_tables`) for the buckets. The same seed gives the same bytes on any number of threads.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the job says so; the errors of [`kernels`].
    pub fn build(
        metric: Metric,
        config: &CascadeConfig,
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        Self::merge(metric, config, &[], rows, source, job)
    }

    /// Builds one cascade of the live rows of some parts and of further rows. The links of the
    /// parts spare a part of the search for neighbours; buckets are made anew.
    ///
    /// # Errors
    ///
    /// As for [`CascadeIndex::build`].
    pub fn merge(
        metric: Metric,
        config: &CascadeConfig,
        parts: &[&Self],
        rows: &RowSet,
        source: &dyn VectorSource,
        job: &Job<'_>,
    ) -> Result<Self, IndexError> {
        kernels()?;
        let tell = |share: f32| {
            if let Some(progress) = job.progress {
                progress(GRAPH_SHARE * share);
            }
        };
        let graphs: Vec<&HnswIndex> = parts.iter().map(|part| &part.graph).collect();
        let of_graph = Job { progress: Some(&tell), ..*job };
        let graph = HnswIndex::merge(metric, &graphs, rows, source, config.graph(), &of_graph)?;
        let shape = config.shape();
        let planes = Planes::new(graph.dimensions() + 1, shape.planes(), config.seed);
        let (crew, mut meter) = (job.crew(), job.meter());
        let forest = grow::grow(shape, &planes, &graph, source, &crew, &mut meter, GRAPH_SHARE)?;
        crew.check()?;
        Ok(Self { config: *config, graph, planes, forest })
    }

    /// Parameters that it was built with.
    #[must_use]
    pub fn config(&self) -> &CascadeConfig {
        &self.config
    }

    /// Metric that it was built for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.graph.metric()
    }

    /// Dimensions of its vectors.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.graph.dimensions()
    }

    /// What a search does when it is not told otherwise.
    #[must_use]
    pub fn default_search(&self) -> CascadeSearch {
        self.config.search()
    }

    /// The same index with another default, which is saved with it.
    #[must_use]
    pub fn with_search(mut self, search: CascadeSearch) -> Self {
        self.config.num_probes = search.num_probes;
        self.config.ef_search = search.ef_search;
        self.graph.set_ef_search(search.ef_search);
        self
    }

    /// Bytes of graph, buckets and signatures, in memory or in the map.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.graph.graph_bytes() + self.forest.memory_bytes()
    }

    /// Counts rows, buckets and links. O(rows).
    #[must_use]
    pub fn stats(&self) -> CascadeStats {
        let mean = |sum: usize, count: usize| sum as f32 / count.max(1) as f32;
        let (bucket_count, graph_edges) = (self.forest.buckets(), self.graph.links());
        let entries = self.forest.starts.last().map_or(0, |&end| end as usize);
        CascadeStats {
            vector_count: crate::Part::rows(&self.graph).len(),
            bucket_count,
            avg_bucket_size: mean(entries, bucket_count),
            graph_edges,
            avg_neighbors: mean(graph_edges, self.graph.nodes()),
        }
    }
}
