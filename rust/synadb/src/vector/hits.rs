//! What a search finds.

use std::path::PathBuf;
use std::sync::Arc;

use synadb_storage::log::Log;

use crate::error::{Error, Result};

/// A key found, with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The key.
    pub key: String,
    /// Distance from the query; smaller is nearer.
    pub score: f32,
    /// The stored vector.
    pub vector: Vec<f32>,
}

/// A key found; its vector is read when it is asked for.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The key.
    pub key: String,
    /// Distance from the query; smaller is nearer.
    pub score: f32,
    /// Where the vector lies.
    pub vector: StoredVector,
}

/// A vector in the file as it was when it was found, also after its key was changed, the file
/// compacted, or the store closed. It keeps the file's mapping, and no index.
#[derive(Clone)]
pub struct StoredVector {
    origin: Arc<Origin>,
    /// Of the record that committed it.
    position: u64,
}

/// Shared by what one search finds.
pub(super) struct Origin {
    pub log: Log,
    pub path: PathBuf,
}

impl std::fmt::Debug for StoredVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredVector").field("position", &self.position).finish_non_exhaustive()
    }
}

impl StoredVector {
    pub(super) fn new(origin: &Arc<Origin>, position: u64) -> Self {
        Self { origin: Arc::clone(origin), position }
    }

    /// Reads it from the mapped file, and verifies it.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn read(&self) -> Result<Vec<f32>> {
        let Origin { log, path } = &*self.origin;
        let failure = |error| Error::storage(path, error);
        let record = log.record(self.position).map_err(failure)?;
        let row = record.row_bytes().map_err(|error| failure(error).for_key(record.key))?;
        Ok(super::store::floats(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::{HnswConfig, IndexBackend, SearchOptions, VectorConfig, VectorStore};

    #[test]
    fn what_was_found_keeps_the_file_and_no_index() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = VectorConfig { dimensions: 64, ..VectorConfig::default() };
        let store = VectorStore::new(directory.path().join("a.db"), config).expect("opens");
        let rows: Vec<f32> = (0..20 * 64).map(|n| (n as f32 * 0.37).sin()).collect();
        let keys: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        store.insert_rows(&keys, &rows).expect("inserts");
        let graph = IndexBackend::Hnsw(HnswConfig::default());
        store.build_index_with(&graph, 1, &mut |_, _| true).expect("builds");
        let row = &rows[3 * 64..4 * 64];
        let hits = store.search_hits_of(row, 1, &SearchOptions::default()).expect("searches");
        let snapshot = store.snapshot().expect("open").expect("rows");
        let reader = Arc::downgrade(&snapshot.reader);
        assert!(reader.upgrade().is_some());
        drop(snapshot);
        store.close_handle().expect("closes");
        drop(store);
        assert!(reader.upgrade().is_none());
        assert_eq!(hits[0].key, "3");
        assert_eq!(hits[0].vector.read().expect("reads"), row);
    }
}
