//! `HybridVectorStore`: new vectors in a hot table, those that stay in a cold one, of one file.

mod moving;

use std::path::Path;
use std::sync::Arc;

use super::cascade::CascadeConfig;
use super::gravity::GwiConfig;
use crate::collection::Snapshot;
use crate::config::{Durability, OpenOptions};
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::kv::SynaDB;
use crate::vector::index::IndexStats;
use crate::vector::search::Hit;
use crate::vector::{IndexBackend, MeasuredRecall, SearchOptions, VectorConfig, VectorStore};

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
        mut config: HybridConfig,
        options: OpenOptions,
    ) -> Result<Self> {
        check(&config)?;
        check_paths(hot, cold)?;
        let asked = config.cold.table();
        let cold_store = VectorStore::open_with(cold, asked, options)?;
        let (dimensions, metric) = (cold_store.dimensions(), cold_store.metric());
        (config.cold.dimensions, config.cold.metric) = (dimensions, metric);
        (config.hot.dimensions, config.hot.metric) = (dimensions, metric);
        let database = cold_store.database();
        let hot = VectorStore::attach(&database, HOT, config.hot.table())?;
        Ok(Self { database, hot, cold: cold_store, config })
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

    /// The `k` nearest of all vectors, nearest first, each key once.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.hot.check_dimensions("Query", query.len())?;
        Ok(self.search_batch(query, k)?.pop().unwrap_or_default())
    }

    /// The answers of [`HybridVectorStore::search`] to several queries, row-major, all as of one
    /// moment.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_batch(&self, queries: &[f32], k: usize) -> Result<Vec<Vec<HybridSearchResult>>> {
        self.search_batch_for_recall(queries, k, None)
    }

    /// As [`HybridVectorStore::search_batch`], for a recall where one is given: both tables reach
    /// it. See [`SearchOptions::target_recall`].
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn search_batch_for_recall(
        &self,
        queries: &[f32],
        k: usize,
        target_recall: Option<f64>,
    ) -> Result<Vec<Vec<HybridSearchResult>>> {
        let [hot, cold] = self.snapshots()?;
        let (looks_hot, looks_cold) =
            (self.looks_hot(target_recall), self.looks_cold(target_recall));
        let found = self.hot.search_hits_in(hot.clone(), queries, k, &looks_hot)?;
        let colder = self.cold.search_hits_in(cold.clone(), queries, k, &looks_cold)?;
        let width = usize::from(self.dimensions());
        let queries = queries.chunks_exact(width);
        let mut answers = Vec::with_capacity(found.len());
        for (query, (found, mut colder)) in queries.zip(found.into_iter().zip(colder)) {
            self.leave_out_hot(hot.as_ref(), cold.as_ref(), (query, k, &looks_cold), &mut colder)?;
            let mut all = results(found, ResultSource::Hot);
            all.extend(results(colder, ResultSource::Cold));
            all.sort_by(|a, b| a.score.total_cmp(&b.score));
            all.truncate(k);
            answers.push(all);
        }
        Ok(answers)
    }

    /// Takes away hits whose keys have a new vector: only somebody who writes to the cold table by
    /// itself brings such about. What they hid is looked for again.
    fn leave_out_hot(
        &self,
        hot: Option<&Arc<Snapshot>>,
        cold: Option<&Arc<Snapshot>>,
        (query, k, options): (&[f32], usize, &SearchOptions),
        hits: &mut Vec<Hit>,
    ) -> Result<()> {
        let Some(hot) = hot else { return Ok(()) };
        let mut asked = k;
        loop {
            let (all, mut failure) = (hits.len(), None);
            hits.retain(|hit| match hot.get(hit.key.as_bytes()) {
                Ok(found) => found.is_none(),
                Err(error) => {
                    failure = Some(self.hot.failure(error).for_key(hit.key.as_bytes()));
                    true
                }
            });
            failure.map_or(Ok(()), Err)?;
            let hidden = all - hits.len();
            if hidden == 0 || all < asked || hits.len() >= k {
                return Ok(());
            }
            asked = asked.saturating_mul(2).max(asked.saturating_add(hidden));
            let again = self.cold.search_hits_in(cold.cloned(), query, asked, options)?;
            *hits = again.into_iter().flatten().collect();
        }
    }

    /// The `k` nearest of the new vectors.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_hot(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.search_layer(ResultSource::Hot, query, k, None)
    }

    /// The `k` nearest of one of the two tables, for a recall where one is given.
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn search_layer(
        &self,
        layer: ResultSource,
        query: &[f32],
        k: usize,
        target_recall: Option<f64>,
    ) -> Result<Vec<HybridSearchResult>> {
        let (store, options) = match layer {
            ResultSource::Hot => (&self.hot, self.looks_hot(target_recall)),
            ResultSource::Cold => (&self.cold, self.looks_cold(target_recall)),
        };
        store.check_dimensions("Query", query.len())?;
        let found = store.search_hits(query, k, &options)?;
        Ok(results(found.into_iter().flatten().collect(), layer))
    }

    /// What share of its `k` nearest a search of each table finds, the hot one first; see
    /// [`VectorStore::measure_recall`].
    ///
    /// # Errors
    /// As there.
    pub fn measure_recall(&self, k: usize, sample: usize) -> Result<[MeasuredRecall; 2]> {
        let hot = self.hot.measure_recall(k, sample, &self.looks_hot(None))?;
        Ok([hot, self.cold.measure_recall(k, sample, &self.looks_cold(None))?])
    }

    /// The `k` nearest of those that stay.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search_cold(&self, query: &[f32], k: usize) -> Result<Vec<HybridSearchResult>> {
        self.search_layer(ResultSource::Cold, query, k, None)
    }

    fn looks_hot(&self, target_recall: Option<f64>) -> SearchOptions {
        let nprobe = Some(self.config.hot.nprobe);
        SearchOptions { nprobe, target_recall, are_usual: true, ..SearchOptions::default() }
    }

    fn looks_cold(&self, target_recall: Option<f64>) -> SearchOptions {
        let CascadeConfig { num_probes, ef_search, .. } = self.config.cold;
        let (num_probes, ef_search) = (Some(num_probes), Some(ef_search));
        let usual = SearchOptions { are_usual: true, ..SearchOptions::default() };
        SearchOptions { num_probes, ef_search, target_recall, ..usual }
    }

    /// The rows of both tables as of one moment.
    fn snapshots(&self) -> Result<[Option<Arc<Snapshot>>; 2]> {
        let generation = arc_swap::Guard::into_inner(self.hot.handle.open()?.current()?);
        // A commit between the two is seen in neither.
        let visible = generation.visible();
        let of = |store: &VectorStore| {
            let rows = store.config.rows_in(&generation, &store.table)?;
            Ok(rows.map(|rows| Arc::new(rows.until(visible))))
        };
        Ok([of(&self.hot)?, of(&self.cold)?])
    }

    /// The vector of a key, bit for bit.
    ///
    /// # Errors
    /// As [`VectorStore::get`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<f32>>> {
        crate::keys::check(key)?;
        let [hot, cold] = self.snapshots()?;
        for (store, snapshot) in [(&self.hot, hot), (&self.cold, cold)] {
            let Some(snapshot) = snapshot else { continue };
            let read = || {
                let record = snapshot.get(key.as_bytes())?;
                record
                    .map(|record| record.row_bytes().map(crate::vector::store::floats))
                    .transpose()
            };
            let found = read().map_err(|error| store.failure(error).for_key(key.as_bytes()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Number of new vectors.
    #[must_use]
    pub fn hot_count(&self) -> usize {
        self.hot.len()
    }

    /// Number of those that stay.
    #[must_use]
    pub fn cold_count(&self) -> usize {
        self.cold.len()
    }

    /// Number of all; 0 for a closed store.
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

fn results(hits: Vec<Hit>, source: ResultSource) -> Vec<HybridSearchResult> {
    let result = |hit: Hit| HybridSearchResult { key: hit.key, score: hit.score, source };
    hits.into_iter().map(result).collect()
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
