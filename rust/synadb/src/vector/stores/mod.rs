//! The stores of the original: views of one vector table under the names that its callers know.
//!
//! Each holds a [`VectorStore`](super::VectorStore) and adds what is its own; what all of them have
//! is written once, in `table_methods`. A file that one of them made opens with any other.

/// The methods that every store has, on a type with a field `store`.
macro_rules! table_methods {
    ($store:ident) => {
        impl $store {
            /// Stores a vector under a key; a key that is there gets the new one. Found at once.
            ///
            /// # Errors
            /// As [`VectorStore::insert`].
            pub fn insert(&self, key: &str, vector: &[f32]) -> Result<()> {
                self.store.insert(key, vector)
            }

            /// Stores many vectors, and returns how many keys are new.
            ///
            /// # Errors
            /// As [`VectorStore::insert_batch`].
            pub fn insert_batch(&self, keys: &[&str], vectors: &[&[f32]]) -> Result<usize> {
                self.store.insert_batch(keys, vectors)
            }

            /// Replaces the vector of a key.
            ///
            /// # Errors
            /// As [`VectorStore::update`].
            pub fn update(&self, key: &str, vector: &[f32]) -> Result<()> {
                self.store.update(key, vector)
            }

            /// Deletes a key; false, and nothing written, where it is absent.
            ///
            /// # Errors
            /// As [`VectorStore::remove`].
            pub fn remove(&self, key: &str) -> Result<bool> {
                self.store.remove(key)
            }

            /// The vector of a key, bit for bit.
            ///
            /// # Errors
            /// As [`VectorStore::get`].
            pub fn get(&self, key: &str) -> Result<Option<Vec<f32>>> {
                self.store.get(key)
            }

            /// All live keys, sorted.
            #[must_use]
            pub fn keys(&self) -> Vec<String> {
                self.store.keys()
            }

            /// Number of live keys.
            #[must_use]
            pub fn len(&self) -> usize {
                self.store.len()
            }

            /// Whether there is no vector.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.store.is_empty()
            }

            /// Components of a vector.
            #[must_use]
            pub fn dimensions(&self) -> u16 {
                self.store.dimensions()
            }

            /// How distances are measured.
            #[must_use]
            pub fn metric(&self) -> DistanceMetric {
                self.store.metric()
            }

            /// The vector table with everything that it can do.
            #[must_use]
            pub fn store(&self) -> &VectorStore {
                &self.store
            }
        }
    };
}

pub(crate) mod cascade;
pub(crate) mod graph;
pub(crate) mod graph_nodes;
pub(crate) mod gravity;
pub(crate) mod hybrid;
mod memory;
pub(crate) mod mmap;

use std::path::Path;

use super::{VectorConfig, VectorStore};
use crate::config::Durability;
use crate::error::Result;

/// Opens a table whose writes survive the process's death at once, the machine's after a sync.
fn open_unsynced(path: &Path, config: VectorConfig, create: bool) -> Result<VectorStore> {
    let options = config.options().durability(Durability::Process).create(create);
    VectorStore::open_with(path, config, options)
}
