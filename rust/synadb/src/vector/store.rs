//! `VectorStore`: opening, looking up and what concerns the whole store.

use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use synadb_storage::StorageError;

use super::index::Sample;
use super::{IndexBackend, StoredConfig, VectorConfig};
use crate::collection::{RowsReader, Snapshot};
use crate::config::{OpenOptions, Settings};
use crate::db::{Engine, Generation, Handle, Stats, TableInfo, TableKind, Usage, VerifyReport};
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::glob::Pattern;
use crate::keys;
use crate::kv::SynaDB;

/// Embeddings by key, searched exactly or through an index.
///
/// A table of a database file, which may hold others beside it. Handles are cheap to clone.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.db");
/// use synadb::vector::{VectorConfig, VectorStore};
///
/// let config = VectorConfig { dimensions: 3, ..VectorConfig::default() };
/// let store = VectorStore::new(&path, config)?;
/// store.insert("a", &[1.0, 0.0, 0.0])?;
/// store.insert("b", &[0.0, 1.0, 0.0])?;
/// assert_eq!(store.search(&[0.9, 0.1, 0.0], 1)?[0].key, "a");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct VectorStore {
    pub(super) handle: Arc<Handle>,
    pub(super) table: Arc<str>,
    pub(super) config: StoredConfig,
    /// Which index is to be built, if nobody says otherwise.
    pub(super) wish: Arc<ArcSwap<IndexBackend>>,
    /// Where an inverted file is to find its centroids, if not in its own rows.
    pub(super) sample: Arc<ArcSwapOption<Sample>>,
    /// From so many vectors without an index on.
    pub(super) index_threshold: usize,
    /// Recall of searches that are not told otherwise.
    pub(super) target_recall: Option<f64>,
}

impl std::fmt::Debug for VectorStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorStore").field("table", &self.table).finish_non_exhaustive()
    }
}

impl StoredConfig {
    /// The rows of a table that are visible now; `None` while it has none.
    pub(super) fn snapshot(self, engine: &Engine, name: &str) -> Result<Option<Arc<Snapshot>>> {
        let generation = Guard::into_inner(engine.current()?);
        Ok(self.rows_in(&generation, name)?.map(Arc::new))
    }

    /// The rows of a table in a generation that are visible now.
    pub(super) fn rows_in(
        self,
        generation: &Arc<Generation>,
        name: &str,
    ) -> Result<Option<Snapshot>> {
        let Some(table) = generation.table(name) else { return Ok(None) };
        if table.info.config != self.encode() {
            let stored = Self::decode(&table.info.config).unwrap_or(self);
            stored.check(name, self)?;
        }
        let reader = table.shared_reader::<RowsReader>();
        let row_bytes = self.row_bytes();
        Ok(reader.map(|reader| Snapshot::new(Arc::clone(generation), reader, row_bytes)))
    }
}

/// Vectors as stored.
pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    let mut floats = Vec::with_capacity(bytes.len() / 4);
    append_floats(bytes, &mut floats);
    floats
}

/// Puts vectors as stored behind others.
pub(super) fn append_floats(bytes: &[u8], floats: &mut Vec<f32>) {
    floats.extend(bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)));
}

fn dimensions_needed(table: &str) -> Error {
    let reason = format!("the file has no table {table:?} yet: dimensions (and metric) are needed");
    Error::InvalidArgument { argument: "dimensions", reason }
}

impl VectorStore {
    /// Opens or creates a store in a file of its own, or beside what the file holds.
    ///
    /// # Errors
    /// `ConfigMismatch` names both values; `Dimension`; as [`SynaDB::new`].
    pub fn new<P: AsRef<Path>>(path: P, config: VectorConfig) -> Result<Self> {
        let options = config.options();
        Self::open_with(path, config, options)
    }

    /// As [`VectorStore::new`], with options for the file.
    ///
    /// # Errors
    /// As [`VectorStore::new`].
    pub fn open_with<P: AsRef<Path>>(
        path: P,
        config: VectorConfig,
        options: OpenOptions,
    ) -> Result<Self> {
        let table = config.table();
        Self::open_named(path, &table, config, options)
    }

    /// As [`VectorStore::open_with`], under a table name of its own.
    ///
    /// # Errors
    /// As [`VectorStore::new`].
    #[expect(clippy::needless_pass_by_value, reason = "as `new`, which the original has")]
    pub fn open_named<P: AsRef<Path>>(
        path: P,
        name: &str,
        config: VectorConfig,
        options: OpenOptions,
    ) -> Result<Self> {
        let database = Self::open_database(path, name, &config, options)?;
        Self::over(Arc::clone(database.handle()), name, &config)
    }

    /// The whole file, through the handle of this store: closing either closes both.
    #[must_use]
    pub fn database(&self) -> SynaDB {
        SynaDB::from_handle(Arc::clone(&self.handle))
    }

    /// Opens the file that a store is to be in, and creates none where it could not be.
    fn open_database<P: AsRef<Path>>(
        path: P,
        name: &str,
        config: &VectorConfig,
        options: OpenOptions,
    ) -> Result<SynaDB> {
        TableInfo::check(name, &[])?;
        config.check_recall()?;
        let creates = options.create;
        if config.dimensions != 0 || !creates {
            return options.open(path);
        }
        options.create(false).open(path).map_err(|error| match error {
            Error::MissingDatabase { .. } => dimensions_needed(name),
            other => other,
        })
    }

    /// A store in an open database, under a table name of its own; its writes are synced as those
    /// of the database are.
    ///
    /// # Errors
    /// As [`VectorStore::new`].
    #[expect(clippy::needless_pass_by_value, reason = "as `new`, which the original has")]
    pub fn attach(database: &SynaDB, name: &str, config: VectorConfig) -> Result<Self> {
        Self::over(Arc::new(database.handle().another()?), name, &config)
    }

    fn over(handle: Arc<Handle>, table: &str, asked_for: &VectorConfig) -> Result<Self> {
        let config = asked_for;
        config.check_recall()?;
        let stored = {
            let generation = handle.open()?.current()?;
            generation.table(table).map(|found| (found.info.kind, found.info.config.clone()))
        };
        let asked = StoredConfig { dimensions: config.dimensions, metric: config.metric };
        let config = match stored {
            Some((kind, bytes)) => {
                let stored = StoredConfig::decode(&bytes).filter(|_| kind == TableKind::Vectors);
                let stored = stored.ok_or_else(|| Error::InvalidArgument {
                    argument: "name",
                    reason: format!("table {table:?} holds no vectors"),
                })?;
                if asked.dimensions != 0 {
                    stored.check(table, asked)?;
                }
                stored
            }
            None if asked.dimensions == 0 => {
                return Err(dimensions_needed(table));
            }
            None => {
                TableInfo::check(table, &asked.encode())?;
                asked
            }
        };
        let VectorConfig { index_threshold, target_recall, .. } = *asked_for;
        let wish = asked_for.backend.clone().aimed_at(target_recall);
        let wish = Arc::new(ArcSwap::from_pointee(wish));
        let (table, sample) = (table.into(), Arc::default());
        Ok(Self { handle, table, config, wish, sample, index_threshold, target_recall })
    }

    pub(super) fn failure(&self, error: StorageError) -> Error {
        self.handle.failure(error)
    }

    pub(super) fn check_dimensions(&self, what: &'static str, got: usize) -> Result<()> {
        let expected = usize::from(self.config.dimensions);
        if got == expected { Ok(()) } else { Err(Error::Dimension { what, got, expected }) }
    }

    /// The rows that are visible now; `None` while the table has none.
    pub(super) fn snapshot(&self) -> Result<Option<Arc<Snapshot>>> {
        self.config.snapshot(self.handle.open()?, &self.table)
    }

    /// The vector of a key, bit for bit; `None` where it is absent.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`, `Closed`, `Corruption` by key and offset.
    pub fn get(&self, key: &str) -> Result<Option<Vec<f32>>> {
        keys::check(key)?;
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let read = || {
            let record = snapshot.get(key.as_bytes())?;
            record.map(|record| record.row_bytes().map(floats)).transpose()
        };
        read().map_err(|error| self.failure(error).for_key(key.as_bytes()))
    }

    /// Whether a key has a vector.
    ///
    /// # Errors
    /// As [`VectorStore::get`].
    pub fn contains(&self, key: &str) -> Result<bool> {
        keys::check(key)?;
        let Some(snapshot) = self.snapshot()? else { return Ok(false) };
        let found = snapshot.get(key.as_bytes());
        let found = found.map_err(|error| self.failure(error).for_key(key.as_bytes()))?;
        Ok(found.is_some())
    }

    /// All live keys, sorted; empty for a closed store, and where they cannot be read.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.keys_matching(&Pattern::All).unwrap_or_default()
    }

    /// Live keys that a pattern matches, sorted.
    ///
    /// # Errors
    /// `Closed`, `Corruption`.
    pub fn keys_matching(&self, pattern: &Pattern) -> Result<Vec<String>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(Vec::new()) };
        let mut keys = snapshot.keys(pattern.prefix()).map_err(|error| self.failure(error))?;
        keys.retain(|key| pattern.matches(key));
        Ok(keys)
    }

    /// Number of live keys; 0 for a closed store.
    #[must_use]
    pub fn len(&self) -> usize {
        let Ok(engine) = self.handle.open() else { return 0 };
        let Ok(generation) = engine.current() else { return 0 };
        generation.table(&self.table).map_or(0, |table| table.live() as usize)
    }

    /// Whether the store holds no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of the table in the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.table
    }

    /// What was said when the file was opened.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.handle.settings()
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

    /// From so many vectors without an index on, one is built where it pays.
    #[must_use]
    pub fn index_threshold(&self) -> usize {
        self.index_threshold
    }

    /// Recall of searches that are not told otherwise.
    #[must_use]
    pub fn target_recall(&self) -> Option<f64> {
        self.target_recall
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.handle.path()
    }

    /// Whether the store was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Closes the store, and its clones; repeatable.
    ///
    /// # Errors
    /// `Io` where the last sync fails.
    pub fn close_handle(&self) -> Result<()> {
        self.handle.close()
    }

    /// Returns once everything committed so far is on the medium.
    ///
    /// # Errors
    /// `Io`, after which the file is poisoned.
    pub fn sync(&self) -> Result<()> {
        self.handle.open()?.sync_all()
    }

    /// The original's name of [`VectorStore::sync`].
    ///
    /// # Errors
    /// As [`VectorStore::sync`].
    pub fn flush(&self) -> Result<()> {
        self.sync()
    }

    /// Whether something of the file is not known to be on the medium; false for a closed store.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.stats().is_ok_and(|stats| stats.synced_bytes < stats.log_bytes)
    }

    /// Sizes and states of the file.
    ///
    /// # Errors
    /// `Closed`, `Poisoned`.
    pub fn stats(&self) -> Result<Stats> {
        self.handle.open()?.stats()
    }

    /// Which bytes of the file's log can still be read; see
    /// [`SynaDB::usage`](crate::SynaDB::usage).
    ///
    /// # Errors
    /// `Closed`, `Corruption`.
    pub fn usage(&self) -> Result<Usage> {
        self.handle.open()?.usage(&mut |_, _| true)
    }

    /// Reads and checks every byte of the log.
    ///
    /// # Errors
    /// `Closed`.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.handle.open()?.verify(&mut |_, _| true)
    }
}
