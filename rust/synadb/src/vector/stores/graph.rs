//! `HnswIndex`: a graph over vectors in memory, saved as a vector table.

use std::path::Path;

use synadb_index::{
    Filter, HnswConfig, HnswIndex as Graph, Job, Part, Query, Scratch, TopK, VectorSource,
    first_non_finite, search_tail,
};
use synadb_types::RowId;
use synadb_types::limits::ROWS_MAX;

use super::memory::Memory;
use super::open_unsynced;
use crate::config::{Access, OpenOptions};
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::glob::Pattern;
use crate::keys;
use crate::vector::index::{Built, Loaded};
use crate::vector::search::index_failure;
use crate::vector::{IndexBackend, StoredConfig, VectorConfig, VectorStore};

/// Vectors that are scanned before they become part of the graph, at least.
const TAIL_MIN: usize = 2048;

/// What a graph is and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HnswStats {
    /// Nodes of the graph; equal vectors share one.
    pub num_nodes: usize,
    /// The highest layer: there is one.
    pub max_level: usize,
    /// Nodes of each layer.
    pub level_counts: Vec<usize>,
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
    metric: DistanceMetric,
    config: HnswConfig,
    rows: Memory,
    graph: Option<Graph>,
    /// The rows below this one were there when the graph was built.
    end: u32,
}

impl HnswIndex {
    /// An empty index.
    #[must_use]
    pub fn new(dimensions: u16, metric: DistanceMetric, config: HnswConfig) -> Self {
        let rows = Memory::new(usize::from(dimensions));
        Self { metric, config, rows, graph: None, end: 0 }
    }

    /// Puts a vector under a key; a key that is there gets the new one.
    ///
    /// # Errors
    /// `Dimension`, `InvalidVector`, `EmptyKey`, `KeyTooLong`; `InvalidArgument` beyond two billion
    /// rows.
    pub fn insert(&mut self, key: &str, vector: &[f32]) -> Result<()> {
        keys::check(key)?;
        self.check("Vector", vector)?;
        if self.rows.rows_end() >= ROWS_MAX {
            let reason = format!("an index holds at most {ROWS_MAX} rows");
            return Err(Error::InvalidArgument { argument: "key", reason });
        }
        self.rows.insert(key, vector);
        if self.tail() >= TAIL_MIN.max(self.end as usize) { self.build(1) } else { Ok(()) }
    }

    /// Deletes a key; false where it is absent.
    pub fn remove(&mut self, key: &str) -> bool {
        self.rows.remove(key)
    }

    /// Makes one graph of all vectors, on so many threads. Inserts do so by themselves.
    ///
    /// # Errors
    /// `Unsupported` where the processor is.
    pub fn build(&mut self, threads: usize) -> Result<()> {
        if self.rows.rows_end() as usize > 2 * self.rows.len() {
            (self.rows, self.graph) = (self.rows.without_dead(), None);
        }
        let alike = self.graph.as_ref();
        let job = Job::with_threads(threads);
        let (metric, live) = (self.metric.kernel(), self.rows.live());
        let graph = Graph::merge(metric, alike.as_slice(), live, &self.rows, self.config, &job);
        (self.graph, self.end) = (Some(graph.map_err(index_failure)?), self.rows.rows_end());
        Ok(())
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
        self.check("Query", query)?;
        let query = Query::new(self.metric.kernel(), query).map_err(index_failure)?;
        let (mut top, mut scratch) = (TopK::new(k.min(self.rows.len())), Scratch::new());
        if let Some(graph) = &self.graph {
            graph
                .search_with_ef(&query, &Filter::All, &self.rows, &mut scratch, &mut top, ef)
                .map_err(index_failure)?;
        }
        let tail = self.end..self.rows.rows_end();
        search_tail(tail, &query, &Filter::All, &self.rows, &mut scratch, &mut top)
            .map_err(index_failure)?;
        let mut hits = Vec::new();
        top.finish(&query, &self.rows, &mut hits);
        Ok(hits.iter().map(|hit| (self.rows.key(hit.row).to_owned(), hit.score)).collect())
    }

    fn check(&self, what: &'static str, vector: &[f32]) -> Result<()> {
        let (got, expected) = (vector.len(), self.rows.dimensions());
        if got != expected || expected == 0 {
            return Err(Error::Dimension { what, got, expected });
        }
        let Some(at) = first_non_finite(vector) else { return Ok(()) };
        let reason = format!("component {at} is {}", vector[at]);
        Err(Error::InvalidVector { what: what.to_lowercase(), reason })
    }

    fn tail(&self) -> usize {
        (self.rows.rows_end() - self.end) as usize
    }

    /// The vector of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[f32]> {
        self.rows.get(key)
    }

    /// Whether a key has a vector.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.rows.get(key).is_some()
    }

    /// All live keys, in order of their insertion.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.rows.keys()
    }

    /// Number of live keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> u16 {
        self.rows.dimensions() as u16
    }

    /// How distances are measured.
    #[must_use]
    pub fn metric(&self) -> DistanceMetric {
        self.metric
    }

    /// How the graph is built and searched.
    #[must_use]
    pub fn config(&self) -> &HnswConfig {
        &self.config
    }

    /// What the graph is and holds.
    #[must_use]
    pub fn stats(&self) -> HnswStats {
        let num_nodes = self.graph.as_ref().map_or(0, Graph::nodes);
        let bytes = self.graph.as_ref().map_or(0, Graph::graph_bytes);
        let tail = self.tail();
        HnswStats { num_nodes, max_level: 0, level_counts: vec![num_nodes], tail, bytes }
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
        let backend = IndexBackend::Hnsw(self.config);
        let (dimensions, metric) = (self.dimensions(), self.metric);
        let config = VectorConfig { dimensions, metric, backend, ..VectorConfig::default() };
        let store = open_unsynced(path.as_ref(), config, true)?;
        let mut changed = false;
        for key in store.keys_matching(&Pattern::All)? {
            changed |= !self.contains_key(&key) && store.remove(&key)?;
        }
        let (mut keys, mut vectors) = (Vec::new(), Vec::new());
        for row in self.rows.live().iter() {
            let (key, vector) = (self.rows.key(row), self.rows.vector(row).unwrap_or_default());
            let stored = store.get(key)?;
            if stored.is_none_or(|stored| !is_same(&stored, vector)) {
                keys.push(key);
                vectors.extend_from_slice(vector);
            }
        }
        changed |= !keys.is_empty();
        store.insert_rows(&keys, &vectors)?;
        if changed || !store.has_index()? {
            store.build_index()?;
        }
        store.sync()?;
        store.close_handle()
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
        for row in (0..snapshot.rows_end()).map(RowId) {
            if !snapshot.is_live(row) {
                loaded.rows.push_dead();
                continue;
            }
            let record = snapshot.record(row).map_err(|error| store.failure(error))?;
            let bytes = record.row_bytes();
            let bytes = bytes.map_err(|error| store.failure(error).for_key(record.key))?;
            let vector = crate::vector::store::floats(bytes);
            loaded.rows.insert(&String::from_utf8_lossy(record.key), &vector);
        }
        let index = store.config.index_of(&snapshot);
        if let Some((Built::Hnsw(graph), _)) = index.as_ref().and_then(Loaded::index) {
            loaded.config = *graph.config();
            loaded.adopt(graph);
        }
        if loaded.graph.is_none() && loaded.tail() >= TAIL_MIN {
            loaded.build(1)?;
        }
        Ok(loaded)
    }

    /// Takes a graph over the same rows, unless it misses one that came between its own.
    fn adopt(&mut self, graph: &Graph) {
        let known = graph.rows();
        let end = known.extent();
        if self.rows.live().iter().all(|row| row.0 >= end || known.contains(row)) {
            (self.graph, self.end) = (Some(graph.clone()), end);
        }
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
        let stored = StoredConfig { dimensions: loaded.dimensions(), metric: loaded.metric };
        stored.check("index", StoredConfig { dimensions, metric })?;
        Ok(loaded)
    }
}

/// Whether two vectors are the same bit for bit.
fn is_same(a: &[f32], b: &[f32]) -> bool {
    bytemuck::cast_slice::<f32, u8>(a) == bytemuck::cast_slice::<f32, u8>(b)
}
