//! `MmapCascadeIndex`: a [`CascadeIndex`] under the names of the original's mapped one.

use std::path::Path;

use super::{CascadeConfig, CascadeIndex, SearchResult};
use crate::distance::DistanceMetric;
use crate::error::Result;

/// Configuration of a [`MmapCascadeIndex`]: that of a [`CascadeIndex`], whose buckets are split as
/// by default.
#[derive(Clone, Debug, PartialEq)]
pub struct MmapCascadeConfig {
    /// Components of a vector, 1 to 65,535; 0 takes what the file has.
    pub dimensions: u16,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Taken, and of no effect: the file grows as it is written to, by space that is really there.
    pub initial_capacity: usize,
    /// As in [`CascadeConfig`].
    pub num_bits: usize,
    /// As in [`CascadeConfig`].
    pub num_tables: usize,
    /// As in [`CascadeConfig`].
    pub num_probes: usize,
    /// As in [`CascadeConfig`].
    pub m: usize,
    /// As in [`CascadeConfig`].
    pub m_max: usize,
    /// As in [`CascadeConfig`].
    pub ef_search: usize,
}

impl Default for MmapCascadeConfig {
    fn default() -> Self {
        Self::of(&CascadeConfig::default(), 100_000)
    }
}

impl MmapCascadeConfig {
    /// For less than 100,000 vectors.
    #[must_use]
    pub fn small() -> Self {
        Self::of(&CascadeConfig::small(), 10_000)
    }

    /// For a million vectors and more.
    #[must_use]
    pub fn large() -> Self {
        Self { ef_search: 200, ..Self::of(&CascadeConfig::large(), 1_000_000) }
    }

    /// Where every neighbour counts.
    #[must_use]
    pub fn high_recall() -> Self {
        Self { ef_search: 400, ..Self::of(&CascadeConfig::high_recall(), 100_000) }
    }

    /// Where every microsecond counts.
    #[must_use]
    pub fn fast_search() -> Self {
        Self::of(&CascadeConfig::fast_search(), 100_000)
    }

    fn of(config: &CascadeConfig, initial_capacity: usize) -> Self {
        Self {
            dimensions: config.dimensions,
            metric: config.metric,
            initial_capacity,
            num_bits: config.num_bits,
            num_tables: config.num_tables,
            num_probes: config.num_probes,
            m: config.m,
            m_max: config.m_max,
            ef_search: config.ef_search,
        }
    }
}

impl From<MmapCascadeConfig> for CascadeConfig {
    fn from(config: MmapCascadeConfig) -> Self {
        Self {
            dimensions: config.dimensions,
            metric: config.metric,
            num_bits: config.num_bits,
            num_tables: config.num_tables,
            num_probes: config.num_probes,
            m: config.m,
            m_max: config.m_max,
            ef_search: config.ef_search,
            ..Self::default()
        }
    }
}

/// What a search of a [`MmapCascadeIndex`] found.
pub type MmapSearchResult = SearchResult;

/// What a [`MmapCascadeIndex`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmapCascadeStats {
    /// Live vectors.
    pub vector_count: usize,
    /// Buckets of all tables that hold a vector.
    pub bucket_count: usize,
    /// Vectors in the graph, those that died since it was built included.
    pub graph_nodes: usize,
    /// Links of the graph.
    pub graph_edges: usize,
}

/// A [`CascadeIndex`] as the original's mapped one is called.
///
/// The vectors, the graph and the hyperplanes are in the one file at the path, which any other
/// store opens, and no file is made beside it but its checkpoint. The graph is whole whatever was
/// inserted how: vectors that came after it was built are scanned, and it is built anew as
/// [`CascadeIndex`] says.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.cascade");
/// use synadb::cascade::{MmapCascadeConfig, MmapCascadeIndex};
///
/// let config = MmapCascadeConfig { dimensions: 3, ..MmapCascadeConfig::small() };
/// let mut index = MmapCascadeIndex::new(&path, config)?;
/// index.insert_batch(&["a", "b"], &[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0]])?;
/// assert_eq!(index.search(&[0.1, 0.9, 0.0], 1)?[0].key, "b");
/// index.save()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MmapCascadeIndex {
    index: CascadeIndex,
}

impl MmapCascadeIndex {
    /// Opens or creates an index in a file; what an existing file holds stays.
    ///
    /// # Errors
    /// As [`CascadeIndex::new`].
    pub fn new<P: AsRef<Path>>(path: P, config: MmapCascadeConfig) -> Result<Self> {
        Ok(Self { index: CascadeIndex::new(path, config.into())? })
    }

    /// An empty index in memory.
    ///
    /// # Errors
    /// `InvalidArgument` by the name of the field.
    pub fn in_memory(config: MmapCascadeConfig) -> Result<Self> {
        let config = CascadeConfig::from(config);
        config.check()?;
        Ok(Self { index: CascadeIndex::in_memory(config) })
    }

    /// Puts a vector under a key; a key that is there gets the new one. Found at once.
    ///
    /// # Errors
    /// As [`CascadeIndex::insert`].
    pub fn insert(&mut self, key: &str, vector: &[f32]) -> Result<()> {
        self.index.insert(key, vector)
    }

    /// Puts many vectors, and returns how many keys are new.
    ///
    /// # Errors
    /// As [`CascadeIndex::insert_batch`].
    pub fn insert_batch(&mut self, keys: &[&str], vectors: &[&[f32]]) -> Result<usize> {
        self.index.insert_batch(keys, vectors)
    }

    /// The `k` nearest live vectors, nearest first.
    ///
    /// # Errors
    /// As [`CascadeIndex::search`].
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<MmapSearchResult>> {
        self.index.search(query, k)
    }

    /// As [`MmapCascadeIndex::search`], looking into so many buckets, with a queue of `ef` vectors.
    ///
    /// # Errors
    /// As [`CascadeIndex::search_with_params`].
    pub fn search_with_params(
        &self,
        query: &[f32],
        k: usize,
        num_probes: usize,
        ef: usize,
    ) -> Result<Vec<MmapSearchResult>> {
        self.index.search_with_params(query, k, num_probes, ef)
    }

    /// The vector of a key, bit for bit; `None` where it is absent or cannot be read, which
    /// [`CascadeIndex::get`] of [`MmapCascadeIndex::index`] tells apart.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<f32>> {
        self.index.get(key).ok()?
    }

    /// Whether a key has a vector that can be read.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Number of live keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> u16 {
        self.index.dimensions()
    }

    /// Live vectors, and what the cascade is made of; none of that where there is none yet, and for
    /// an index that was closed.
    #[must_use]
    pub fn stats(&self) -> MmapCascadeStats {
        let built = self.index.built();
        MmapCascadeStats {
            vector_count: self.len(),
            bucket_count: built.map_or(0, |built| built.bucket_count),
            graph_nodes: built.map_or(0, |built| built.vector_count),
            graph_edges: built.map_or(0, |built| built.graph_edges),
        }
    }

    /// Returns once everything written so far is on the medium, the cascade too; nothing to do in
    /// memory.
    ///
    /// # Errors
    /// As [`CascadeIndex::save`].
    pub fn save(&mut self) -> Result<()> {
        self.index.store().map_or(Ok(()), |store| store.checkpoint())
    }

    /// Returns once everything written so far is on the medium; nothing to do in memory.
    ///
    /// # Errors
    /// As [`CascadeIndex::flush`].
    pub fn flush(&self) -> Result<()> {
        self.index.flush()
    }

    /// The index with everything that it can do.
    #[must_use]
    pub fn index(&self) -> &CascadeIndex {
        &self.index
    }
}
