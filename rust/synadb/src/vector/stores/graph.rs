//! `HnswIndex`: a graph over vectors in memory, saved as a vector table.

use std::path::Path;

use synadb_index::{Filter, HnswConfig, HnswIndex as Graph, Job, Part, VectorSource};

use super::memory::Indexed;
use crate::config::{Access, OpenOptions};
use crate::distance::DistanceMetric;
use crate::error::Result;
use crate::vector::index::{Built, Loaded};
use crate::vector::{IndexBackend, StoredConfig, VectorConfig, VectorStore};

/// What a graph is and holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HnswStats {
    /// Nodes of the graph; equal vectors share one.
    pub num_nodes: usize,
    /// The highest layer: there is one.
    pub max_level: usize,
    /// Nodes of each layer.
    pub level_counts: Vec<usize>,
    /// Links of all nodes.
    pub total_edges: usize,
    /// The same for a node, on average; 0 without a node.
    pub avg_edges_per_node: f64,
    /// Vectors that the graph does not have yet; they are scanned.
    pub tail: usize,
    /// Bytes of the graph.
    pub bytes: usize,
}

/// A graph over vectors in memory.
///
/// Vectors are found as soon as they are inserted: those that came after the graph was built are
/// scanned, and join it once they are as many as it has, 2,048 at least. In a file
/// [`VectorStore`] has the same graph over mapped vectors; this one is for vectors that need no
/// file, and [`HnswIndex::save`] makes it such a store.
///
/// ```
/// use synadb::distance::DistanceMetric;
/// use synadb::hnsw::{HnswConfig, HnswIndex};
///
/// # fn main() -> synadb::Result<()> {
/// // Custom HNSW configuration
/// let config = HnswConfig::with_m(32) // More connections = better recall
///     .ef_construction(200) // Higher = better index quality
///     .ef_search(100); // Higher = better search recall
///
/// let mut index = HnswIndex::new(768, DistanceMetric::Cosine, config);
/// index.insert("a", &[0.5; 768])?;
/// assert_eq!(index.search(&[1.0; 768], 1)[0].0, "a");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct HnswIndex {
    config: HnswConfig,
    pub(super) vectors: Indexed<Graph>,
}

impl HnswIndex {
    /// An empty index.
    #[must_use]
    pub fn new(dimensions: u16, metric: DistanceMetric, config: HnswConfig) -> Self {
        Self { config, vectors: Indexed::new(dimensions, metric) }
    }

    /// Puts a vector under a key; a key that is there gets the new one.
    ///
    /// # Errors
    /// `Dimension`, `InvalidVector`, `EmptyKey`, `KeyTooLong`; `InvalidArgument` beyond two billion
    /// rows.
    pub fn insert(&mut self, key: &str, vector: &[f32]) -> Result<()> {
        if self.vectors.insert(key, vector)? { self.build(1) } else { Ok(()) }
    }

    /// Deletes a key; false where it is absent.
    pub fn remove(&mut self, key: &str) -> bool {
        self.vectors.rows.remove(key)
    }

    /// Makes one graph of all vectors, on so many threads. Inserts do so by themselves.
    ///
    /// # Errors
    /// `Unsupported` where the processor is.
    pub fn build(&mut self, threads: usize) -> Result<()> {
        let (metric, config) = (self.metric().kernel(), self.config);
        let job = Job::with_threads(threads);
        self.vectors
            .build(|parts, rows| Graph::merge(metric, parts, rows.live(), rows, config, &job))
    }

    /// The `k` nearest vectors with their distances, nearest first.
    ///
    /// # Panics
    /// For a query of another length, or with NaN or infinity: see
    /// [`HnswIndex::try_search`].
    #[must_use]
    pub fn search(&self, query: &[f32], k: usize) -> Vec<(String, f32)> {
        self.search_with_ef(query, k, self.config.ef_search)
    }

    /// As [`HnswIndex::search`] with a queue of `ef` nodes: recall and time grow with it.
    ///
    /// # Panics
    /// As [`HnswIndex::search`].
    #[must_use]
    pub fn search_with_ef(&self, query: &[f32], k: usize, ef: usize) -> Vec<(String, f32)> {
        match self.try_search(query, k, ef) {
            Ok(found) => found,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`HnswIndex::search_with_ef`].
    ///
    /// # Errors
    /// `Dimension`, `InvalidVector`.
    pub fn try_search(&self, query: &[f32], k: usize, ef: usize) -> Result<Vec<(String, f32)>> {
        let found = self.vectors.search(query, k, &|graph, query, rows, scratch, top| {
            graph.search_with_ef(query, &Filter::All, rows, scratch, top, ef)
        })?;
        let rows = &self.vectors.rows;
        Ok(found.into_iter().map(|(row, score)| (rows.key(row).to_owned(), score)).collect())
    }

    /// The vector of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[f32]> {
        self.vectors.rows.get(key)
    }

    /// Whether a key has a vector.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.vectors.rows.get(key).is_some()
    }

    /// All live keys, in order of their insertion.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.vectors.rows.keys()
    }

    /// Number of live keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vectors.rows.len()
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> u16 {
        self.vectors.rows.dimensions() as u16
    }

    /// How distances are measured.
    #[must_use]
    pub fn metric(&self) -> DistanceMetric {
        self.vectors.metric
    }

    /// How the graph is built and searched.
    #[must_use]
    pub fn config(&self) -> &HnswConfig {
        &self.config
    }

    /// What the graph is and holds. O(nodes).
    #[must_use]
    pub fn stats(&self) -> HnswStats {
        let of_graph = |count: fn(&Graph) -> usize| self.vectors.part.as_ref().map_or(0, count);
        let (num_nodes, total_edges) = (of_graph(Graph::nodes), of_graph(Graph::links));
        HnswStats {
            num_nodes,
            max_level: self.max_level(),
            level_counts: vec![num_nodes],
            total_edges,
            avg_edges_per_node: total_edges as f64 / num_nodes.max(1) as f64,
            tail: self.vectors.tail(),
            bytes: of_graph(Graph::graph_bytes),
        }
    }

    /// Saves vectors and graph as a vector table, which [`VectorStore`] opens, too.
    ///
    /// A table that is there becomes equal to this index: what differs is written, and keys that
    /// this index has not are deleted. On the medium when it returns; cut short, it leaves each
    /// vector as it was or as it is to be.
    ///
    /// # Errors
    /// `ConfigMismatch`; as [`VectorStore::insert_batch`].
    pub fn save<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        self.vectors.save(path.as_ref(), IndexBackend::Hnsw(self.config))
    }

    /// Reads what [`HnswIndex::save`], or a [`VectorStore`], wrote; a graph is read, not built.
    ///
    /// # Errors
    /// `MissingDatabase`, `InvalidArgument` for a file without vectors, `Corruption` by key.
    pub fn load<P: AsRef<Path>>(path: P) -> Result<Self> {
        let options = OpenOptions::new().access(Access::ReadOnly).create(false);
        let config = VectorConfig { dimensions: 0, ..VectorConfig::default() };
        let store = VectorStore::open_with(path, config, options)?;
        let mut loaded = Self::new(store.dimensions(), store.metric(), HnswConfig::default());
        let Some(snapshot) = store.snapshot()? else { return Ok(loaded) };
        loaded.vectors.read(&store, &snapshot)?;
        let index = store.config.index_of(&snapshot);
        if let Some((Built::Hnsw(graph), _)) = index.as_ref().and_then(Loaded::index) {
            loaded.config = *graph.config();
            loaded.vectors.adopt(graph, graph.rows());
        }
        if loaded.vectors.is_worth_a_build() {
            loaded.build(1)?;
        }
        Ok(loaded)
    }

    /// As [`HnswIndex::load`], refusing other dimensions and another metric.
    ///
    /// # Errors
    /// `ConfigMismatch`, which names both; as [`HnswIndex::load`].
    pub fn load_validated<P: AsRef<Path>>(
        path: P,
        dimensions: u16,
        metric: DistanceMetric,
    ) -> Result<Self> {
        let loaded = Self::load(path)?;
        let stored = StoredConfig { dimensions: loaded.dimensions(), metric: loaded.metric() };
        stored.check("index", StoredConfig { dimensions, metric })?;
        Ok(loaded)
    }
}
