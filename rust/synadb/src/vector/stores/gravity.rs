//! `GravityWellIndex`: a vector table that has its inverted file by itself.

use std::path::Path;

use synadb_index::{IvfConfig, IvfSearch, first_non_finite};

use super::open_unsynced;
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::vector::index::{Built, Loaded, check_target};
use crate::vector::{IndexBackend, SearchOptions, SearchResult, VectorConfig, VectorStore};

/// Configuration of a [`GravityWellIndex`].
#[derive(Clone, Debug, PartialEq)]
pub struct GwiConfig {
    /// Components of a vector, 1 to 65,535; 0 takes what the file has.
    pub dimensions: u16,
    /// Cells at a level of the original's tree. Only the product counts: see
    /// [`GwiConfig::num_leaf_attractors`].
    pub branching_factor: u16,
    /// Levels of the original's tree.
    pub num_levels: u8,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Cells that a search looks at when it is not told otherwise. With the default of 50 it is more
    /// where vectors have so little structure that a build found these to hold too few of the nearest.
    pub nprobe: usize,
    /// Taken, and of no effect: the file grows as it is written to, by space that is really there.
    pub initial_capacity: usize,
    /// Rounds of k-means.
    pub kmeans_iterations: usize,
    /// As in [`VectorConfig`]: it goes before `nprobe`.
    pub target_recall: Option<f64>,
}

impl Default for GwiConfig {
    fn default() -> Self {
        Self {
            dimensions: 768,
            branching_factor: 16,
            num_levels: 3,
            metric: DistanceMetric::Cosine,
            nprobe: 50,
            initial_capacity: 10_000,
            kmeans_iterations: 10,
            target_recall: None,
        }
    }
}

impl GwiConfig {
    /// Cells that these numbers make: the branching factor to the power of the levels.
    #[must_use]
    pub fn num_leaf_attractors(&self) -> usize {
        usize::from(self.branching_factor).saturating_pow(u32::from(self.num_levels))
    }

    /// Nodes of the original's tree, root and cells included.
    #[must_use]
    pub fn total_attractors(&self) -> usize {
        let at = |level| usize::from(self.branching_factor).saturating_pow(u32::from(level));
        (0..=self.num_levels).fold(0, |all: usize, level| all.saturating_add(at(level)))
    }

    /// The cells to build: none for as many as suit the vectors, which the defaults stand for.
    fn cells(&self) -> Option<usize> {
        let standard = Self::default();
        let is_standard = (self.branching_factor, self.num_levels)
            == (standard.branching_factor, standard.num_levels);
        (!is_standard).then(|| self.num_leaf_attractors())
    }

    /// The table that this asks for.
    pub(super) fn table(&self) -> VectorConfig {
        let standard = IvfConfig::default();
        let search = IvfSearch { nprobe: self.nprobe, ..standard.search };
        let iterations = self.kmeans_iterations;
        let built = IvfConfig { cells: self.cells(), iterations, search, ..standard };
        let backend = IndexBackend::GravityWell(built);
        let (dimensions, metric, target_recall) =
            (self.dimensions, self.metric, self.target_recall);
        VectorConfig { dimensions, metric, backend, target_recall, ..VectorConfig::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        let numbers = [
            ("branching_factor", usize::from(self.branching_factor)),
            ("num_levels", usize::from(self.num_levels)),
            ("nprobe", self.nprobe),
            ("kmeans_iterations", self.kmeans_iterations),
        ];
        match numbers.into_iter().find(|(_, number)| *number == 0) {
            Some((argument, _)) => {
                let reason = "it must be 1 or more, got 0".to_owned();
                Err(Error::InvalidArgument { argument, reason })
            }
            None => check_target(self.target_recall),
        }
    }
}

/// A vector table with an inverted file, which it builds by itself.
///
/// Every search is exact until there are 10,000 vectors, and eight for each cell that is asked for,
/// and searches have scanned them so often that it pays: a thread of its own builds the inverted
/// file then, as for any [`VectorStore`], in about 0.06 ms for each vector. What comes later is
/// scanned until it is built anew, so that every vector is found at once. Reopening costs no
/// rebuild.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.gwi");
/// use synadb::gwi::{GravityWellIndex, GwiConfig};
///
/// let config = GwiConfig { dimensions: 3, ..GwiConfig::default() };
/// let mut gwi = GravityWellIndex::new(&path, config)?;
/// gwi.initialize_attractors(&[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0]])?;
/// gwi.insert("a", &[0.0, 0.9, 0.1])?;
/// assert_eq!(gwi.search_with_nprobe(&[0.0, 1.0, 0.0], 1, 50)?[0].key, "a");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GravityWellIndex {
    store: VectorStore,
    /// What to build where the file does not have one yet.
    config: GwiConfig,
}

/// What a search found.
pub type GwiSearchResult = SearchResult;

table_methods!(GravityWellIndex);

impl GravityWellIndex {
    /// Opens or creates an index; what an existing file holds stays.
    ///
    /// # Errors
    /// `InvalidArgument` by the name of the field; as [`VectorStore::new`].
    pub fn new<P: AsRef<Path>>(path: P, config: GwiConfig) -> Result<Self> {
        config.check()?;
        Self::open_as(path.as_ref(), config, true)
    }

    /// Opens an index that is there, as it was built.
    ///
    /// # Errors
    /// `MissingDatabase`; as [`VectorStore::new`].
    pub fn open<P: AsRef<Path>>(path: P) -> Result<Self> {
        Self::open_as(path.as_ref(), GwiConfig { dimensions: 0, ..GwiConfig::default() }, false)
    }

    fn open_as(path: &Path, mut config: GwiConfig, create: bool) -> Result<Self> {
        let store = open_unsynced(path, config.table(), create)?;
        (config.dimensions, config.metric) = (store.dimensions(), store.metric());
        Ok(Self { store, config })
    }

    /// Has the centroids come from a sample of the vectors, and builds the inverted file anew where
    /// there are vectors.
    ///
    /// The index keeps the sample until it is closed, for every build that begins anew; an opening
    /// keeps the cells, not the sample. Where that is clearly unlike the stored vectors the centroids
    /// are those of the vectors. Not needed: without it the centroids come from the stored vectors.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty sample, `Dimension`, `InvalidVector`; as
    /// [`VectorStore::build_index_with`].
    pub fn initialize_attractors(&self, samples: &[&[f32]]) -> Result<()> {
        self.store.take_sample(samples)?;
        if self.is_empty() { Ok(()) } else { self.build_index() }
    }

    /// Builds the inverted file of all vectors that are there; see
    /// [`VectorStore::build_index_with`].
    ///
    /// # Errors
    /// As there.
    pub fn build_index(&self) -> Result<()> {
        let backend = self.store.gravity_backend(self.config.cells(), None)?;
        self.store.build_index_with(&backend, 1, &mut |_, _| true).map(|_| ())
    }

    /// The `k` nearest live vectors, nearest first.
    ///
    /// # Errors
    /// As [`VectorStore::search`].
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<GwiSearchResult>> {
        // By default as many as the index has found to be enough, where the standard is not.
        let is_own = self.config.nprobe != GwiConfig::default().nprobe;
        let nprobe = is_own.then_some(self.config.nprobe);
        let options = SearchOptions { nprobe, are_usual: true, ..SearchOptions::default() };
        self.store.search_with(query, k, &options)
    }

    /// As [`GravityWellIndex::search`], finding so much of the `k` nearest; see
    /// [`SearchOptions::target_recall`].
    ///
    /// # Errors
    /// As [`VectorStore::search_with`].
    pub fn search_for_recall(
        &self,
        query: &[f32],
        k: usize,
        target_recall: f64,
    ) -> Result<Vec<GwiSearchResult>> {
        self.store.search_with(query, k, &SearchOptions::for_recall(target_recall))
    }

    /// As [`GravityWellIndex::search`], looking at the vectors of so many cells, and at more where
    /// these hold fewer than `k`.
    ///
    /// # Errors
    /// As [`VectorStore::search`]; `InvalidArgument` for an `nprobe` of 0.
    pub fn search_with_nprobe(
        &self,
        query: &[f32],
        k: usize,
        nprobe: usize,
    ) -> Result<Vec<GwiSearchResult>> {
        if nprobe == 0 {
            let reason = "it must be 1 or more, got 0".to_owned();
            return Err(Error::InvalidArgument { argument: "nprobe", reason });
        }
        let options = SearchOptions { nprobe: Some(nprobe), ..SearchOptions::default() };
        self.store.search_with(query, k, &options)
    }

    /// Whether a key has a vector; false where it cannot be read.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.store.contains(key).unwrap_or_default()
    }

    /// Cells of the inverted file; before there is one, those that the configuration asks for.
    #[must_use]
    pub fn num_clusters(&self) -> usize {
        let cells = self.store.cell_sizes().unwrap_or_default();
        cells.map_or_else(|| self.config.num_leaf_attractors(), |cells| cells.len())
    }

    /// Each cell with its number of entries; a vector between two cells has one in both.
    #[must_use]
    pub fn cluster_stats(&self) -> Vec<(usize, usize)> {
        let cells = self.store.cell_sizes().unwrap_or_default();
        cells.unwrap_or_default().into_iter().enumerate().collect()
    }

    /// Returns once everything written so far is on the medium.
    ///
    /// # Errors
    /// As [`VectorStore::sync`].
    pub fn flush(&self) -> Result<()> {
        self.store.sync()
    }

    /// Closes the index; repeatable.
    ///
    /// # Errors
    /// As [`VectorStore::close_handle`].
    pub fn close(&self) -> Result<()> {
        self.store.close_handle()
    }
}

impl VectorStore {
    /// Checks vectors like those that are to come, and keeps them for builds.
    pub(super) fn take_sample(&self, samples: &[&[f32]]) -> Result<()> {
        if samples.is_empty() {
            let reason = "it must have one vector or more, got 0".to_owned();
            return Err(Error::InvalidArgument { argument: "samples", reason });
        }
        for (number, sample) in samples.iter().enumerate() {
            self.check_dimensions("Sample", sample.len())?;
            if let Some(at) = first_non_finite(sample) {
                let what = format!("vector {number} of the sample");
                let reason = format!("component {at} is {}", sample[at]);
                return Err(Error::InvalidVector { what, reason });
            }
        }
        self.keep_sample(samples.concat());
        Ok(())
    }

    /// Entries of each cell, where the index is an inverted file.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn cell_sizes(&self) -> Result<Option<Vec<usize>>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let loaded = self.config.index_of(&snapshot);
        Ok(match loaded.as_ref().and_then(Loaded::index) {
            Some((Built::GravityWell(index), _)) => {
                Some((0..index.cells()).filter_map(|cell| index.cell_len(cell)).collect())
            }
            _ => None,
        })
    }

    /// An inverted file as the one that there is, or as this store was opened for, or as by
    /// default; with so many cells and probes where they are given.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn gravity_backend(
        &self,
        cells: Option<usize>,
        nprobe: Option<usize>,
    ) -> Result<IndexBackend> {
        let snapshot = self.snapshot()?;
        let loaded = snapshot.and_then(|snapshot| self.config.index_of(&snapshot));
        let wish = self.wish.load();
        let mut config = match (loaded.as_ref().and_then(Loaded::index), wish.parts().0) {
            (Some((Built::GravityWell(index), _)), _) => index.config().clone(),
            (_, IndexBackend::GravityWell(config)) => config.clone(),
            _ => IvfConfig::default(),
        };
        config.cells = cells.or(config.cells);
        config.search.nprobe = nprobe.unwrap_or(config.search.nprobe);
        Ok(IndexBackend::GravityWell(config))
    }
}
