//! `CascadeIndex`: vectors with a cascade, in a file or in memory.

mod config;
mod mapped;

use std::path::Path;

use synadb_index::{
    CascadeIndex as Part, CascadeSearch, Filter, FlatIndex, Job, Part as _, VectorSource,
};

use super::memory::Indexed;
use super::open_unsynced;
use crate::distance::DistanceMetric;
use crate::error::Result;
use crate::vector::index::{Built, Loaded};
use crate::vector::{CascadeParameters, IndexBackend, SearchOptions, VectorStore};

pub use config::CascadeConfig;
pub use mapped::{MmapCascadeConfig, MmapCascadeIndex, MmapCascadeStats, MmapSearchResult};
pub use synadb_index::CascadeStats;

/// What a search of a [`CascadeIndex`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The key.
    pub key: String,
    /// Distance from the query; smaller is nearer.
    pub score: f32,
    /// The stored vector, which is always there.
    pub vector: Option<Vec<f32>>,
}

/// Vectors with a cascade: hyperplanes that divide them into buckets, and a graph of neighbours
/// that a search walks from the buckets where it most likely finds its own.
///
/// In a file ([`CascadeIndex::new`]) it is a vector table that has the cascade built by itself, by
/// a thread apart, once there are 10,000 vectors and searches have scanned them so often that it
/// pays, as for any [`VectorStore`]; until then every search is exact. What comes later is scanned
/// until it is built anew, so that every vector is found at once. Reopening costs no rebuild, and a
/// write that returned survives the process's death. In memory ([`CascadeIndex::in_memory`])
/// inserts build it, and [`CascadeIndex::save`] makes it such a file.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.cascade");
/// use synadb::cascade::{CascadeConfig, CascadeIndex};
///
/// let mut index = CascadeIndex::new(&path, CascadeConfig::preset_small(3))?;
/// index.insert("a", &[1.0, 0.0, 0.0])?;
/// index.insert_batch(&["b", "c"], &[&[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0]])?;
/// assert_eq!(index.search(&[0.1, 0.9, 0.0], 1)?[0].key, "b");
/// index.flush()?;
/// # drop(index);
/// assert_eq!(CascadeIndex::load(&path)?.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CascadeIndex {
    config: CascadeConfig,
    vectors: Vectors,
}

/// Where the vectors are.
#[derive(Debug)]
enum Vectors {
    File(VectorStore),
    Memory(Box<Indexed<Part>>),
}

impl CascadeIndex {
    /// Opens or creates an index in a file; what an existing file holds stays. Another cascade than
    /// the one that it has is built when one is built.
    ///
    /// # Errors
    /// `InvalidArgument` by the name of the field; as [`VectorStore::new`].
    pub fn new<P: AsRef<Path>>(path: P, mut config: CascadeConfig) -> Result<Self> {
        config.check()?;
        let store = open_unsynced(path.as_ref(), config.table(), true)?;
        (config.dimensions, config.metric) = (store.dimensions(), store.metric());
        Ok(Self { config, vectors: Vectors::File(store) })
    }

    /// Opens the index of a file that is there, as it was built.
    ///
    /// # Errors
    /// `MissingDatabase`; as [`VectorStore::new`].
    pub fn load<P: AsRef<Path>>(path: P) -> Result<Self> {
        let config = CascadeConfig { dimensions: 0, ..CascadeConfig::default() };
        let store = open_unsynced(path.as_ref(), config.table(), false)?;
        let (dimensions, metric) = (store.dimensions(), store.metric());
        let mut config = CascadeConfig { dimensions, metric, ..config };
        if let Some(built) = store.cascade_parameters()? {
            config = config.with(&built);
        }
        Ok(Self { config, vectors: Vectors::File(store) })
    }

    /// An empty index in memory. A number beyond its limit is taken for the limit.
    #[must_use]
    pub fn in_memory(config: CascadeConfig) -> Self {
        let vectors = Indexed::new(config.dimensions, config.metric);
        Self { config, vectors: Vectors::Memory(Box::new(vectors)) }
    }

    /// Puts a vector under a key; a key that is there gets the new one. Found at once.
    ///
    /// # Errors
    /// As [`VectorStore::insert`].
    pub fn insert(&mut self, key: &str, vector: &[f32]) -> Result<()> {
        match &mut self.vectors {
            Vectors::File(store) => store.insert(key, vector),
            Vectors::Memory(vectors) => {
                if vectors.insert(key, vector)? {
                    self.build_index()
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Puts many vectors, and returns how many keys are new.
    ///
    /// # Errors
    /// As [`VectorStore::insert_batch`]: what is refused changes nothing.
    pub fn insert_batch(&mut self, keys: &[&str], vectors: &[&[f32]]) -> Result<usize> {
        let held = match &mut self.vectors {
            Vectors::File(store) => return store.insert_batch(keys, vectors),
            Vectors::Memory(held) => held,
        };
        held.check_batch(keys, vectors)?;
        let before = self.len();
        for (key, vector) in keys.iter().zip(vectors) {
            self.insert(key, vector)?;
        }
        Ok(self.len() - before)
    }

    /// Deletes a key; false, and nothing written, where it is absent.
    ///
    /// # Errors
    /// As [`VectorStore::remove`].
    pub fn delete(&mut self, key: &str) -> Result<bool> {
        match &mut self.vectors {
            Vectors::File(store) => store.remove(key),
            Vectors::Memory(vectors) => {
                crate::keys::check(key)?;
                Ok(vectors.rows.remove(key))
            }
        }
    }

    /// Builds the cascade of all vectors that are there; see [`VectorStore::build_index_with`].
    ///
    /// # Errors
    /// As there.
    pub fn build_index(&mut self) -> Result<()> {
        let parameters = self.config.parameters();
        match &mut self.vectors {
            Vectors::File(store) => {
                let backend = IndexBackend::Cascade(parameters);
                store.build_index_with(&backend, 1, &mut |_, _| true).map(|_| ())
            }
            Vectors::Memory(vectors) => {
                let (metric, job) = (vectors.metric.kernel(), Job::default());
                vectors.build(|parts, rows| {
                    Part::merge(metric, &parameters, parts, rows.live(), rows, &job)
                })
            }
        }
    }

    /// The `k` nearest live vectors, nearest first.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>> {
        self.look(query, k, &self.usual(self.config.target_recall))
    }

    /// As [`CascadeIndex::search`], finding so much of the `k` nearest; see
    /// [`SearchOptions::target_recall`]. In memory nothing is tuned: it is a scan there.
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn search_for_recall(
        &self,
        query: &[f32],
        k: usize,
        target_recall: f64,
    ) -> Result<Vec<SearchResult>> {
        self.look(query, k, &self.usual(Some(target_recall)))
    }

    /// The numbers of the configuration, unless there is a recall.
    fn usual(&self, target_recall: Option<f64>) -> SearchOptions {
        let CascadeConfig { num_probes, ef_search, .. } = self.config;
        let (num_probes, ef_search) = (Some(num_probes), Some(ef_search));
        let usual = SearchOptions { are_usual: true, ..SearchOptions::default() };
        SearchOptions { num_probes, ef_search, target_recall, ..usual }
    }

    /// As [`CascadeIndex::search`], looking into so many buckets, with a queue of `ef` vectors.
    ///
    /// # Errors
    /// As [`VectorStore::search`]; `InvalidArgument` for a `num_probes` or `ef` of 0.
    pub fn search_with_params(
        &self,
        query: &[f32],
        k: usize,
        num_probes: usize,
        ef: usize,
    ) -> Result<Vec<SearchResult>> {
        for (argument, number) in [("num_probes", num_probes), ("ef", ef)] {
            if number == 0 {
                return Err(config::beyond(argument, 0, (1, u32::MAX as usize)));
            }
        }
        let (num_probes, ef_search) = (Some(num_probes), Some(ef));
        let options = SearchOptions { num_probes, ef_search, ..SearchOptions::default() };
        self.look(query, k, &options)
    }

    fn look(&self, query: &[f32], k: usize, options: &SearchOptions) -> Result<Vec<SearchResult>> {
        match &self.vectors {
            Vectors::File(store) => {
                let found = store.search_with(query, k, options)?.into_iter();
                let result = |hit: crate::vector::SearchResult| SearchResult {
                    key: hit.key,
                    score: hit.score,
                    vector: Some(hit.vector),
                };
                Ok(found.map(result).collect())
            }
            Vectors::Memory(vectors) => {
                options.check()?;
                let CascadeConfig { num_probes, ef_search, .. } = self.config;
                let num_probes = options.num_probes.unwrap_or(num_probes);
                let ef_search = options.ef_search.unwrap_or(ef_search);
                let search = CascadeSearch { num_probes, ef_search };
                let is_exact = options.target_recall.is_some();
                let found = vectors.search(query, k, &|part, query, rows, scratch, top| {
                    if is_exact {
                        let all = FlatIndex::new(part.rows().clone());
                        return all.search(query, &Filter::All, rows, scratch, top);
                    }
                    part.search_with(search, query, &Filter::All, rows, scratch, top)
                })?;
                let result = |(row, score)| SearchResult {
                    key: vectors.rows.key(row).to_owned(),
                    score,
                    vector: vectors.rows.vector(row).map(<[f32]>::to_vec),
                };
                Ok(found.into_iter().map(result).collect())
            }
        }
    }

    /// The vector of a key, bit for bit.
    ///
    /// # Errors
    /// As [`VectorStore::get`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<f32>>> {
        match &self.vectors {
            Vectors::File(store) => store.get(key),
            Vectors::Memory(vectors) => {
                crate::keys::check(key)?;
                Ok(vectors.rows.get(key).map(<[f32]>::to_vec))
            }
        }
    }

    /// Number of live keys.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.vectors {
            Vectors::File(store) => store.len(),
            Vectors::Memory(vectors) => vectors.rows.len(),
        }
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> u16 {
        self.config.dimensions
    }

    /// How distances are measured.
    #[must_use]
    pub fn metric(&self) -> DistanceMetric {
        self.config.metric
    }

    /// How the cascade is built and searched.
    #[must_use]
    pub fn config(&self) -> &CascadeConfig {
        &self.config
    }

    /// Live vectors, and the buckets and links of the cascade; none of these where there is none
    /// yet, and for an index that was closed.
    #[must_use]
    pub fn stats(&self) -> CascadeStats {
        let none = CascadeStats {
            vector_count: 0,
            bucket_count: 0,
            avg_bucket_size: 0.0,
            graph_edges: 0,
            avg_neighbors: 0.0,
        };
        CascadeStats { vector_count: self.len(), ..self.built().unwrap_or(none) }
    }

    /// The cascade itself, where there is one.
    fn built(&self) -> Option<CascadeStats> {
        match &self.vectors {
            Vectors::File(store) => store.of_cascade(Part::stats).unwrap_or_default(),
            Vectors::Memory(vectors) => vectors.part.as_ref().map(Part::stats),
        }
    }

    /// The vector table with everything that it can do; `None` in memory.
    #[must_use]
    pub fn store(&self) -> Option<&VectorStore> {
        match &self.vectors {
            Vectors::File(store) => Some(store),
            Vectors::Memory(_) => None,
        }
    }

    /// Returns once everything is on the medium, the cascade too: in the index's own file, or in
    /// another one, whose table becomes equal to this index. What differs is written there, and
    /// keys that this index has not are deleted; cut short, it leaves each vector as it was or as
    /// it is to be. Needs as much memory as the vectors for another file.
    ///
    /// # Errors
    /// `ConfigMismatch`; as [`VectorStore::insert_batch`].
    pub fn save<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        let backend = IndexBackend::Cascade(self.config.parameters());
        let store = match &self.vectors {
            Vectors::Memory(vectors) => return vectors.save(path.as_ref(), backend),
            Vectors::File(store) => store,
        };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(path.as_ref()).is_some_and(|path| real(store.path()) == Some(path)) {
            return store.checkpoint();
        }
        let mut copy = Indexed::<Part>::new(self.dimensions(), self.metric());
        if let Some(snapshot) = store.snapshot()? {
            copy.read(store, &snapshot)?;
        }
        copy.save(path.as_ref(), backend)
    }

    /// Returns once everything written so far is on the medium; nothing to do in memory.
    ///
    /// # Errors
    /// As [`VectorStore::sync`].
    pub fn flush(&self) -> Result<()> {
        self.store().map_or(Ok(()), VectorStore::sync)
    }

    /// Closes the index; repeatable, and nothing to do in memory.
    ///
    /// # Errors
    /// As [`VectorStore::close_handle`].
    pub fn close(&self) -> Result<()> {
        self.store().map_or(Ok(()), VectorStore::close_handle)
    }
}

impl VectorStore {
    /// What the index was built with, where it is a cascade.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn cascade_parameters(&self) -> Result<Option<CascadeParameters>> {
        self.of_cascade(|cascade| *cascade.config())
    }

    fn of_cascade<T>(&self, tell: impl FnOnce(&Part) -> T) -> Result<Option<T>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let loaded = self.config.index_of(&snapshot);
        Ok(match loaded.as_ref().and_then(Loaded::index) {
            Some((Built::Cascade(cascade), _)) => Some(tell(cascade)),
            _ => None,
        })
    }
}
