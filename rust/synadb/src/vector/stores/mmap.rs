//! `MmapVectorStore`: a vector table whose writes wait for no medium.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use synadb_index::HnswConfig;
use synadb_storage::extent::Row;

use super::open_unsynced;
use crate::collection::Snapshot;
use crate::distance::DistanceMetric;
use crate::error::Result;
use crate::keys;
use crate::vector::{IndexBackend, SearchOptions, SearchResult, VectorConfig, VectorStore};

/// Configuration of an [`MmapVectorStore`].
#[derive(Debug, Clone)]
pub struct MmapVectorConfig {
    /// Components of a vector, 1 to 65,535; 0 takes what the file has.
    pub dimensions: u16,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Taken, and of no effect: the file grows as it is written to, by space that is really there.
    pub initial_capacity: usize,
    /// As in [`VectorConfig`].
    pub index_threshold: usize,
    /// The graph that [`MmapVectorStore::build_index`] builds.
    pub hnsw_config: HnswConfig,
    /// As in [`VectorConfig`].
    pub checkpoint_interval_secs: u64,
    /// As in [`VectorConfig`].
    pub target_recall: Option<f64>,
}

impl Default for MmapVectorConfig {
    fn default() -> Self {
        let VectorConfig { dimensions, metric, index_threshold, checkpoint_interval_secs, .. } =
            VectorConfig::default();
        Self {
            dimensions,
            metric,
            initial_capacity: 100_000,
            index_threshold,
            hnsw_config: HnswConfig::default(),
            checkpoint_interval_secs,
            target_recall: None,
        }
    }
}

/// A vector table whose writes return before they are on the medium.
///
/// A write that returned survives the process's death; the machine's after
/// [`MmapVectorStore::checkpoint`] or [`MmapVectorStore::flush`], and after a sync that begins by
/// itself within [`MmapVectorConfig::checkpoint_interval_secs`]. The vectors lie in the mapped file, once.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.mmap");
/// use synadb::mmap_vector::{MmapVectorConfig, MmapVectorStore};
///
/// let config = MmapVectorConfig { dimensions: 3, ..MmapVectorConfig::default() };
/// let mut store = MmapVectorStore::new(&path, config)?;
/// store.insert_batch(&["a", "b"], &[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0]])?;
/// assert_eq!(store.search(&[0.9, 0.1, 0.0], 1)?[0].key, "a");
/// store.checkpoint()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MmapVectorStore {
    store: VectorStore,
}

/// What a search found.
pub type MmapSearchResult = SearchResult;

table_methods!(MmapVectorStore);

/// A stored vector in the map; it stays as it is when the key changes or the file is compacted.
pub struct MappedVector {
    snapshot: Arc<Snapshot>,
    offset: u64,
    bytes: usize,
}

impl std::fmt::Debug for MappedVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Deref for MappedVector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let region = self.snapshot.generation.log.region();
        // Rows are aligned to 64 bytes, and a map does not shrink while a snapshot holds it.
        let bytes = region.bytes(self.offset, self.bytes).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }
}

impl MmapVectorStore {
    /// Opens or creates a store.
    ///
    /// # Errors
    /// As [`VectorStore::new`].
    pub fn new<P: AsRef<Path>>(path: P, config: MmapVectorConfig) -> Result<Self> {
        let config = VectorConfig {
            dimensions: config.dimensions,
            metric: config.metric,
            index_threshold: config.index_threshold,
            backend: IndexBackend::Hnsw(config.hnsw_config),
            sync_on_write: false,
            target_recall: config.target_recall,
            checkpoint_interval_secs: config.checkpoint_interval_secs,
            ..VectorConfig::default()
        };
        Ok(Self { store: open_unsynced(path.as_ref(), config, true)? })
    }

    /// The vector of a key where it lies in the map, checked against its checksum; `None` where it
    /// is absent or cannot be read, which [`MmapVectorStore::get`] tells apart.
    #[must_use]
    pub fn get_slice(&self, key: &str) -> Option<MappedVector> {
        keys::check(key).ok()?;
        let snapshot = self.store.snapshot().ok()??;
        let record = snapshot.get(key.as_bytes()).ok()??;
        let bytes = record.row_bytes().ok()?.len();
        let offset = Row::decode(record.payload().ok()?)?.offset;
        Some(MappedVector { snapshot, offset, bytes })
    }

    /// The `k` nearest live vectors, nearest first; see [`VectorStore::search`].
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<MmapSearchResult>> {
        self.store.search(query, k)
    }

    /// As [`MmapVectorStore::search`], finding so much of the `k` nearest; see
    /// [`SearchOptions::target_recall`].
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn search_for_recall(
        &self,
        query: &[f32],
        k: usize,
        target_recall: f64,
    ) -> Result<Vec<MmapSearchResult>> {
        self.store.search_with(query, k, &SearchOptions::for_recall(target_recall))
    }

    /// Builds the graph; see [`VectorStore::build_index`].
    ///
    /// # Errors
    /// As there.
    pub fn build_index(&self) -> Result<()> {
        self.store.build_index()
    }

    /// Whether there is an index; false for a closed store.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.store.has_index().unwrap_or_default()
    }

    /// Returns once everything written so far is on the medium, and a checkpoint of it beside the
    /// file, from which it opens fast.
    ///
    /// # Errors
    /// `Io`, `Busy`, `DiskFull`, `ReadOnly`, `Closed`.
    pub fn checkpoint(&self) -> Result<()> {
        self.store.checkpoint()
    }

    /// Returns once everything written so far is on the medium.
    ///
    /// # Errors
    /// As [`VectorStore::sync`].
    pub fn flush(&self) -> Result<()> {
        self.store.sync()
    }

    /// Whether something of the file is not known to be on the medium; false for a closed store.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.store.is_dirty()
    }
}
