//! Rows that lie in several places as one matrix over the mapped file.

use std::ops::Range;
use std::sync::Arc;

use synadb_storage::region::Joined;
use synadb_types::RowId;

use super::Reader;
use super::reader::MappedRows;
use crate::collection::{Snapshot, stride};
use crate::error::Result;

/// Vectors of several runs, side by side in memory that shows the pages of the file.
///
/// It shows what was stored when it was made, whatever is written, compacted or closed later.
pub struct JoinedRows {
    joined: Joined,
    rows: usize,
    dimensions: usize,
    stride: usize,
    /// Keeps the file as it was.
    _snapshot: Arc<Snapshot>,
}

impl std::fmt::Debug for JoinedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinedRows").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl JoinedRows {
    /// The vectors; `None` for none.
    #[must_use]
    pub fn rows(&self) -> Option<MappedRows<'_>> {
        let (rows, dimensions, stride) = (self.rows, self.dimensions, self.stride);
        let data: &[f32] = bytemuck::try_cast_slice(self.joined.bytes()).ok()?;
        let data = data.get(..rows.checked_sub(1)? * stride + dimensions)?;
        Some(MappedRows { data, rows, dimensions, stride })
    }
}

impl Reader {
    /// The vectors of runs of tables of one file as one matrix, in that order: whole pages are shown
    /// where they are, and what shares a page with something else is copied.
    ///
    /// `None` where more than an eighth would be a copy: rows behind some that were deleted do not
    /// lie in their pages as the matrix needs them, until a compaction brings them together, nor do
    /// those of several small batches. Also for tables in memory, of several files or widths, and
    /// where this process already shows 16,384 pieces so, between pages and copies. O(runs), and
    /// reads what is copied.
    ///
    /// # Errors
    /// `Io`, `Corruption` where the file is too short.
    ///
    /// ```
    /// # fn main() -> synadb::Result<()> {
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let path = directory.path().join("vectors.db");
    /// use synadb::vector::{Reader, VectorConfig, VectorStore};
    ///
    /// let store = VectorStore::new(&path, VectorConfig { dimensions: 4, ..VectorConfig::default() })?;
    /// let keys: Vec<String> = (0..9000).map(|number| number.to_string()).collect();
    /// let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    /// for keys in keys.chunks(4500) {
    ///     store.insert_rows(keys, &[0.5; 4 * 4500])?;
    /// }
    /// let reader = store.reader()?;
    /// let runs = reader.runs();
    /// assert_eq!(runs.len(), 2);
    /// let joined = Reader::join(&[(reader, runs)])?.expect("large batches");
    /// assert_eq!(joined.rows().map(|matrix| matrix.rows), Some(9000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(tables: &[(Self, Vec<Range<u32>>)]) -> Result<Option<JoinedRows>> {
        let mut shown: Option<&Self> = None;
        let (mut places, mut rows) = (Vec::new(), 0);
        for (reader, runs) in tables.iter().filter(|(_, runs)| !runs.is_empty()) {
            if shown.is_some_and(|first| !first.is_beside(reader)) {
                return Ok(None);
            }
            shown = Some(reader);
            for run in runs {
                let Some(place) = reader.place(run) else { return Ok(None) };
                places.push(place);
                rows += run.len();
            }
        }
        let Some((reader, snapshot)) = shown.and_then(|reader| Some((reader, reader.shown()?)))
        else {
            return Ok(None);
        };
        let joined = snapshot.generation.log.region().join(&places);
        let joined = joined.map_err(|error| reader.failure(error))?;
        let (dimensions, stride) = (reader.width(), reader.stride() as usize / size_of::<f32>());
        Ok(joined.map(|joined| {
            let _snapshot = Arc::clone(snapshot);
            JoinedRows { joined, rows, dimensions, stride, _snapshot }
        }))
    }

    /// Whether another shows the same file as of the same generation, and rows as wide.
    fn is_beside(&self, other: &Self) -> bool {
        let file = |reader: &Self| Some(Arc::as_ptr(&reader.shown()?.generation));
        file(self) == file(other) && self.width() == other.width()
    }

    /// Where a run lies in the file, with what fills up its last stride; `None` for no run.
    fn place(&self, run: &Range<u32>) -> Option<Range<u64>> {
        let (start, count) = self.shown()?.place(RowId(run.start))?;
        let bytes = run.len() as u64 * self.stride();
        (1..=count).contains(&run.len()).then(|| start..start + bytes)
    }

    fn stride(&self) -> u64 {
        stride(self.config().row_bytes())
    }
}
