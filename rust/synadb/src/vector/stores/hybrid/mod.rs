//! `HybridVectorStore`: new vectors in a hot table, those that stay in a cold one, of one file.

mod moving;
mod reading;
mod searching;

use std::path::Path;

use super::cascade::CascadeConfig;
use super::gravity::GwiConfig;
use crate::config::{Durability, OpenOptions};
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::kv::SynaDB;
use crate::vector::index::IndexStats;
use crate::vector::{IndexBackend, VectorConfig, VectorStore};

pub use reading::HybridReader;

/// Name of the table of new vectors; the others are in the table that every store opens.
const HOT: &str = "vector:hot/";

/// Configuration of a [`HybridVectorStore`].
#[derive(Debug, Clone, PartialEq)]
pub struct HybridConfig {
    /// Of the new vectors.
    pub hot: GwiConfig,
    /// Of those that stay.
    pub cold: CascadeConfig,
}

/// Where a result comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultSource {
    /// The new vectors.
    Hot,
    /// Those that stay.
    Cold,
}

/// What a search of a [`HybridVectorStore`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct HybridSearchResult {
    /// The key.
    pub key: String,
    /// Distance from the query; smaller is nearer.
    pub score: f32,
    /// Where its vector is.
    pub source: ResultSource,
}

/// Two vector tables of one file: a hot one with an inverted file takes what is written, a cold one
/// with a cascade what is promoted.
///
/// A key has one vector, in one of the two: an ingest removes what the cold table has in the same
/// commit, and a promotion moves each vector in one commit. So a process that dies, at whatever
/// moment, leaves every vector once. Searches look at both as of one moment. The file is `cold`,
/// and opens as any store: [`CascadeIndex`](crate::CascadeIndex) and [`VectorStore`] show its cold
/// vectors. No file is made at `hot`; one that is there is refused, unless it is the same.
///
/// The indexes are built by threads apart where it pays, as for any [`VectorStore`], and
/// [`HybridVectorStore::build_cold`] builds the cascade at once. Writes survive the process's
/// death, and the machine's after [`HybridVectorStore::flush_hot`] or
/// [`HybridVectorStore::save_cold`].
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let hot_path = directory.path().join("hot.gwi");
/// # let cold_path = directory.path().join("cold.cascade");
/// # let embedding = vec![0.5; 768];
/// # let query = vec![0.4; 768];
/// # let sample_vectors = vec![embedding.as_slice()];
/// use synadb::arch::{HybridConfig, HybridVectorStore};
/// use synadb::{CascadeConfig, GwiConfig};
///
/// // Create hybrid store
/// let config = HybridConfig {
///     hot: GwiConfig::default(),
///     cold: CascadeConfig::preset_large(768),
/// };
/// let mut store = HybridVectorStore::new(&hot_path, &cold_path, config)?;
///
/// // Initialize hot layer with sample vectors
/// store.initialize_hot(&sample_vectors)?;
///
/// // Real-time ingestion to hot layer (O(1) per insert)
/// store.ingest("doc1", &embedding)?;
///
/// // Search both layers (results merged automatically)
/// let results = store.search(&query, 10)?;
/// assert_eq!(results[0].key, "doc1");
///
/// // Periodically promote hot -> cold for better search performance
/// let promoted = store.promote_to_cold()?;
/// assert_eq!((promoted, store.hot_count(), store.cold_count()), (1, 0, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HybridVectorStore {
    database: SynaDB,
    hot: VectorStore,
    cold: VectorStore,
    config: HybridConfig,
}

impl HybridVectorStore {
    /// Opens or creates a store; what an existing file holds stays.
    ///
    /// # Errors
    /// `InvalidArgument` for a configuration whose halves differ, a number out of range, and a file
    /// at `hot` that is not that at `cold`; `ConfigMismatch`; as [`VectorStore::new`].
    pub fn new<P: AsRef<Path>>(hot: P, cold: P, config: HybridConfig) -> Result<Self> {
        let options = OpenOptions::new().durability(Durability::Process);
        Self::open_with(hot.as_ref(), cold.as_ref(), config, options)
    }

    /// Opens a store that is there.
    ///
    /// # Errors
    /// `MissingDatabase`; as [`HybridVectorStore::new`].
    pub fn open<P: AsRef<Path>>(hot: P, cold: P, config: CascadeConfig) -> Result<Self> {
        let (dimensions, metric) = (config.dimensions, config.metric);
        let hot_config = GwiConfig { dimensions, metric, ..GwiConfig::default() };
        let config = HybridConfig { hot: hot_config, cold: config };
        let options = OpenOptions::new().durability(Durability::Process).create(false);
        Self::open_with(hot.as_ref(), cold.as_ref(), config, options)
    }

    /// As [`HybridVectorStore::new`], with options for the file.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(
        hot: &Path,
        cold: &Path,
        config: HybridConfig,
        options: OpenOptions,
    ) -> Result<Self> {
        check(&config)?;
        check_paths(hot, cold)?;
        let cold = VectorStore::open_with(cold, config.cold.table(), options)?;
        Self::over(cold, config)
    }

    /// A store in an open database, beside what that holds, which is closed on its own.
    ///
    /// # Errors
    /// As [`HybridVectorStore::new`], but for the file at `hot`.
    pub fn attach(database: &SynaDB, config: HybridConfig) -> Result<Self> {
        check(&config)?;
        let asked = config.cold.table();
        Self::over(VectorStore::attach(database, &asked.table(), asked)?, config)
    }

    fn over(cold: VectorStore, mut config: HybridConfig) -> Result<Self> {
        let (dimensions, metric) = (cold.dimensions(), cold.metric());
        (config.cold.dimensions, config.cold.metric) = (dimensions, metric);
        (config.hot.dimensions, config.hot.metric) = (dimensions, metric);
        let database = cold.database();
        let hot = VectorStore::attach(&database, HOT, config.hot.table())?;
        Ok(Self { database, hot, cold, config })
    }

    /// Has the centroids of the inverted file come from a sample of the vectors, and builds it anew
    /// where there are new ones.
    ///
    /// Not needed: without it the centroids come from the stored vectors.
    ///
    /// # Errors
    /// As [`GravityWellIndex::initialize_attractors`](crate::GravityWellIndex).
    pub fn initialize_hot(&self, samples: &[&[f32]]) -> Result<()> {
        self.hot.take_sample(samples)?;
        if self.hot.is_empty() { Ok(()) } else { self.hot.build_index() }
    }

    /// Builds the cascade of all cold vectors on so many threads; see
    /// [`VectorStore::build_index_with`].
    ///
    /// # Errors
    /// As there.
    pub fn build_cold(&self, threads: usize) -> Result<bool> {
        let backend = IndexBackend::Cascade(self.config.cold.parameters());
        self.cold.build_index_with(&backend, threads, &mut |_, _| true)
    }

    /// Number of new vectors.
    #[must_use]
    pub fn hot_count(&self) -> usize {
        self.hot.len()
    }

    /// Number of those that stay, also of such as a new vector hides.
    #[must_use]
    pub fn cold_count(&self) -> usize {
        self.cold.len()
    }

    /// Number of all, hot and cold; 0 for a closed store.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hot_count() + self.cold_count()
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All live keys, sorted; empty for a closed store.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys = self.hot.keys();
        keys.extend(self.cold.keys());
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> u16 {
        self.cold.dimensions()
    }

    /// How distances are measured.
    #[must_use]
    pub fn metric(&self) -> DistanceMetric {
        self.cold.metric()
    }

    /// How the indexes are built and searched.
    #[must_use]
    pub fn config(&self) -> &HybridConfig {
        &self.config
    }

    /// The table of new vectors, for reading and its index.
    #[must_use]
    pub fn hot(&self) -> &VectorStore {
        &self.hot
    }

    /// The table of those that stay, for reading and its index. A key that is written to it beside
    /// this store stays hidden while there is a new vector under it.
    #[must_use]
    pub fn cold(&self) -> &VectorStore {
        &self.cold
    }

    /// The whole file, through the handle of this store: closing either closes both.
    #[must_use]
    pub fn database(&self) -> &SynaDB {
        &self.database
    }

    /// What the indexes of the new vectors and of the others are and hold.
    ///
    /// # Errors
    /// `Closed`.
    pub fn index_stats(&self) -> Result<[Option<IndexStats>; 2]> {
        Ok([self.hot.index_stats()?, self.cold.index_stats()?])
    }

    /// Returns once everything written so far is on the medium.
    ///
    /// # Errors
    /// As [`VectorStore::sync`].
    pub fn flush_hot(&self) -> Result<()> {
        self.cold.sync()
    }

    /// Returns once everything written so far is on the medium, the indexes too.
    ///
    /// # Errors
    /// As [`VectorStore::sync`] and [`SynaDB::checkpoint`].
    pub fn save_cold(&self) -> Result<()> {
        self.hot.checkpoint()?;
        self.cold.checkpoint()
    }

    /// Whether the store was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cold.is_closed()
    }

    /// Closes the store; repeatable.
    ///
    /// # Errors
    /// As [`VectorStore::close_handle`].
    pub fn close(&self) -> Result<()> {
        let hot = self.hot.close_handle();
        self.cold.close_handle()?;
        hot
    }
}

fn check(config: &HybridConfig) -> Result<()> {
    config.hot.check()?;
    config.cold.check()?;
    let of = |config: VectorConfig| (config.dimensions, config.metric.name());
    let (hot, cold) = (of(config.hot.table()), of(config.cold.table()));
    if hot == cold {
        return Ok(());
    }
    let reason = format!(
        "hot has {} dimensions and metric {}, cold {} and {}",
        hot.0, hot.1, cold.0, cold.1
    );
    Err(Error::InvalidArgument { argument: "config", reason })
}

/// A file at `hot` would be left out: vectors move within one file, so that none is lost.
fn check_paths(hot: &Path, cold: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let Some(found) = real(hot) else { return Ok(()) };
    if real(cold).as_ref() == Some(&found) {
        return Ok(());
    }
    let reason = format!(
        "{} is there already, and hot and cold vectors are both in the file at cold_path: ingest \
         what it has, or name one file twice",
        hot.display()
    );
    Err(Error::InvalidArgument { argument: "hot_path", reason })
}
