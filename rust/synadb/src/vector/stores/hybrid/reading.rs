//! Reading a hybrid store by key, or as it lies: both tables as of one moment.

use std::ops::Range;
use std::sync::Arc;

use synadb_types::RowSet;

use super::HybridVectorStore;
use crate::collection::Snapshot;
use crate::error::Result;
use crate::vector::reader::read_of;
use crate::vector::{Reader, VectorStore};

/// Both tables of a [`HybridVectorStore`] as of one moment; see [`Reader`].
#[derive(Debug, Clone)]
pub struct HybridReader {
    hot: Reader,
    cold: Reader,
}

impl HybridReader {
    /// The new vectors.
    #[must_use]
    pub fn hot(&self) -> &Reader {
        &self.hot
    }

    /// Those that stay, also such as a new vector hides.
    #[must_use]
    pub fn cold(&self) -> &Reader {
        &self.cold
    }

    /// Reads the vectors of keys, wherever they are, one behind the other, into an array of their
    /// size.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(&self, keys: &[&str], default: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        read_of(&[&self.hot, &self.cold], keys, default, out)
    }

    /// Runs of rows of the hot table, and those of the cold one, each key once; see
    /// [`Reader::runs`]. Takes a look at the cold table for each new vector.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn runs(&self) -> Result<[Vec<Range<u32>>; 2]> {
        let hot = self.hot.runs();
        let hidden = self.hidden(&hot)?;
        Ok([hot, self.cold.runs_without(&hidden)])
    }

    /// Cold rows under the keys of new vectors: only somebody who writes to the cold table by
    /// itself brings such about.
    fn hidden(&self, hot: &[Range<u32>]) -> Result<RowSet> {
        let mut hidden = RowSet::default();
        for row in hot.iter().cloned().flatten() {
            let key = self.hot.key(row, false)?;
            if let Some(row) = self.cold.row_of(&key)? {
                hidden.insert(row);
            }
        }
        Ok(hidden)
    }
}

impl HybridVectorStore {
    /// The vectors as of now.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn reader(&self) -> Result<HybridReader> {
        let [hot, cold] = self.snapshots()?;
        Ok(HybridReader { hot: self.hot.reader_of(hot), cold: self.cold.reader_of(cold) })
    }

    /// The rows of both tables as of one moment.
    pub(super) fn snapshots(&self) -> Result<[Option<Arc<Snapshot>>; 2]> {
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
        let reader = self.reader()?;
        for table in [&reader.hot, &reader.cold] {
            let found = table.get(key)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
