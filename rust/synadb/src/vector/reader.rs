//! Reading many vectors as of one moment: by key, or where they lie.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use synadb_storage::StorageError;
use synadb_storage::extent::Row;
use synadb_storage::log::Record;
use synadb_types::{RowId, RowSet};

use super::store::floats;
use super::{StoredConfig, VectorStore};
use crate::collection::Snapshot;
use crate::db::Passed;
use crate::error::{Error, Result};
use crate::keys;

/// The vectors of a store as of one moment, whatever is written, compacted or closed meanwhile.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("vectors.db");
/// # use synadb::vector::{VectorConfig, VectorStore};
/// let store = VectorStore::new(&path, VectorConfig { dimensions: 2, ..VectorConfig::default() })?;
/// store.insert("a", &[1.0, 0.0])?;
/// store.insert("b", &[0.0, 1.0])?;
/// let reader = store.reader()?;
/// store.remove("a")?;
/// let run = reader.runs().remove(0);
/// let block = reader.block(run.clone()).expect("rows that the reader named");
/// assert_eq!(block.row(1), [0.0, 1.0]);
/// assert_eq!(reader.keys(run)?, ["a", "b"]);
/// # Ok(())
/// # }
/// ```
///
/// It keeps what it shows, and no handle: a store that goes out of use closes the file all the same.
#[derive(Clone)]
pub struct Reader {
    path: Arc<Path>,
    config: StoredConfig,
    /// None while the table has no row.
    snapshot: Option<Arc<Snapshot>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where a [`Reader`] stood: what came later can be told from it until the file is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    database: [u8; 16],
    generation: u64,
    visible: u64,
}

impl Mark {
    /// As bytes, to be kept as long as the process.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let words = self.generation.to_le_bytes().into_iter().chain(self.visible.to_le_bytes());
        let mut bytes = self.database.into_iter().chain(words);
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }

    /// Of its bytes; `None` for another number of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (database, rest) = bytes.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let visible = <[u8; 8]>::try_from(rest).ok()?;
        let (generation, visible) = (u64::from_le_bytes(*generation), u64::from_le_bytes(visible));
        Some(Self { database: *database, generation, visible })
    }
}

/// What changed between two moments.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Rows that are new, in runs.
    pub added: Vec<Range<u32>>,
    /// Rows that were deleted or replaced.
    pub removed: Vec<u32>,
}

/// Vectors side by side in the mapped file.
#[derive(Debug, Clone, Copy)]
pub struct MappedRows<'a> {
    /// From the first component of the first vector to the last one of the last.
    pub data: &'a [f32],
    /// How many there are.
    pub rows: usize,
    /// Components of each.
    pub dimensions: usize,
    /// Components from the begin of one to that of the next.
    pub stride: usize,
}

impl<'a> MappedRows<'a> {
    /// A vector by its number.
    ///
    /// # Panics
    /// Where there is none of that number.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        &self.data[row * self.stride..][..self.dimensions]
    }
}

impl VectorStore {
    /// The vectors as of now.
    ///
    /// # Errors
    /// `Closed`, `ConfigMismatch`.
    pub fn reader(&self) -> Result<Reader> {
        Ok(self.reader_of(self.snapshot()?))
    }

    /// The vectors that a snapshot of this table shows.
    pub(super) fn reader_of(&self, snapshot: Option<Arc<Snapshot>>) -> Reader {
        Reader { path: self.path().into(), config: self.config, snapshot }
    }
}

impl Reader {
    pub(super) fn width(&self) -> usize {
        usize::from(self.config.dimensions)
    }

    pub(super) fn config(&self) -> StoredConfig {
        self.config
    }

    /// What it shows; `None` while the table has no row.
    pub(super) fn shown(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    pub(super) fn failure(&self, error: StorageError) -> Error {
        Error::storage(&self.path, error)
    }

    /// Reads the vectors of keys, one behind the other, into an array of their size.
    ///
    /// `default` stands in for keys that have none.
    ///
    /// # Errors
    /// `KeyNotFound` without a default; `EmptyKey`, `KeyTooLong`, `Corruption`; `Dimension` where
    /// an array has another length.
    pub fn read(&self, keys: &[&str], default: Option<&[f32]>, out: &mut [f32]) -> Result<()> {
        read_of(&[self], keys, default, out)
    }

    /// The vector of a key that was checked; `None` where it is absent.
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.of_key(key, |record| record.row_bytes().map(floats))
    }

    /// The row of a key; `None` where it is absent.
    pub(super) fn row_of(&self, key: &str) -> Result<Option<RowId>> {
        let row = self.of_key(key, |record| Ok(Row::decode(record.payload()?)))?.flatten();
        Ok(row.map(|row| RowId(row.row)))
    }

    fn of_key<T>(
        &self,
        key: &str,
        tell: impl FnOnce(Record<'_>) -> synadb_storage::Result<T>,
    ) -> Result<Option<T>> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        let found = snapshot.get(key.as_bytes()).and_then(|record| record.map(tell).transpose());
        found.map_err(|error| self.failure(error).for_key(key.as_bytes()))
    }

    /// Runs of rows that live and lie side by side, in order; nobody writes to them any more.
    #[must_use]
    pub fn runs(&self) -> Vec<Range<u32>> {
        self.runs_without(&RowSet::default())
    }

    /// As [`Reader::runs`], some rows left out.
    pub(super) fn runs_without(&self, rows: &RowSet) -> Vec<Range<u32>> {
        let Some(snapshot) = &self.snapshot else { return Vec::new() };
        self.runs_of(|row| snapshot.is_live(row) && !rows.contains(row))
    }

    fn runs_of(&self, is_wanted: impl Fn(RowId) -> bool) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        let Some(snapshot) = &self.snapshot else { return runs };
        for extent in snapshot.reader.extents.iter() {
            let end = snapshot.rows_end().min(extent.first + extent.filled());
            for row in extent.first..end {
                if !is_wanted(RowId(row)) {
                    continue;
                }
                match runs.last_mut() {
                    // Extents lie apart: none goes on with the run of the one before.
                    Some(run) if run.end == row && run.start >= extent.first => run.end = row + 1,
                    _ => runs.push(row..row + 1),
                }
            }
        }
        runs
    }

    /// The vectors of a run, or of a part of one; `None` for rows that are not side by side.
    #[must_use]
    pub fn block(&self, run: Range<u32>) -> Option<MappedRows<'_>> {
        let snapshot = self.snapshot.as_ref()?;
        let dimensions = self.width();
        let rows = run.len();
        let slots =
            snapshot.slots(RowId(run.start)).filter(|slots| (1..=slots.count).contains(&rows))?;
        // Extents are aligned to 64 bytes and so is the stride.
        let data: &[f32] = bytemuck::try_cast_slice(slots.bytes).ok()?;
        let stride = dimensions.next_multiple_of(16);
        let data = data.get(..(rows - 1) * stride + dimensions)?;
        Some(MappedRows { data, rows, dimensions, stride })
    }

    /// Keys of the rows of a run; what is stored under them is verified.
    ///
    /// # Errors
    /// `Corruption` by key and offset.
    pub fn keys(&self, run: Range<u32>) -> Result<Vec<String>> {
        run.map(|row| self.key(row, true)).collect()
    }

    /// Key of a row, also of one that died.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn key(&self, row: u32, verify: bool) -> Result<String> {
        let none = || Error::KeyNotFound { key: format!("of row {row}") };
        let snapshot = self.snapshot.as_ref().ok_or_else(none)?;
        let record = snapshot.record(RowId(row)).map_err(|error| self.failure(error))?;
        if verify {
            record.row_bytes().map_err(|e| self.failure(e).for_key(record.key))?;
        }
        Ok(String::from_utf8_lossy(record.key).into_owned())
    }

    /// For each row of a run the sequence number of its commit: together with the key it names
    /// what was stored for good, also over a compaction.
    ///
    /// # Errors
    /// `Corruption`.
    pub fn versions(&self, run: Range<u32>) -> Result<Vec<u64>> {
        let Some(snapshot) = &self.snapshot else { return Ok(Vec::new()) };
        let mut last: Option<Passed> = None;
        run.map(|row| {
            let record = snapshot.record(RowId(row))?;
            snapshot.generation.commit_behind(&mut last, &record).map(|(sequence, _)| sequence)
        })
        .collect::<synadb_storage::Result<_>>()
        .map_err(|error| self.failure(error))
    }

    /// Where the reader stands; `None` while there is nothing.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let snapshot = self.snapshot.as_ref()?;
        let identity = snapshot.generation.log.identity();
        let (database, generation) = (identity.database_id, identity.generation);
        Some(Mark { database, generation, visible: snapshot.visible() })
    }

    /// What came and went since a mark; `None` where the file was compacted in between.
    #[must_use]
    pub fn changes(&self, since: Mark) -> Option<Changes> {
        let snapshot = self.snapshot.as_ref()?;
        let now = self.mark()?;
        let is_same = (now.database, now.generation) == (since.database, since.generation);
        if !is_same || since.visible > now.visible {
            return None;
        }
        if since.visible == now.visible {
            return Some(Changes { added: Vec::new(), removed: Vec::new() });
        }
        let reader = &snapshot.reader;
        let born = |row: RowId| reader.born.get(u64::from(row.0)).unwrap_or(0);
        let died = |row: &u32| reader.died.get(u64::from(*row)).unwrap_or(0);
        let added = self.runs_of(|row| born(row) >= since.visible && snapshot.is_live(row));
        let removed = (0..snapshot.rows_end())
            .filter(|row| (1..since.visible).contains(&born(RowId(*row))))
            .filter(|row| (since.visible..now.visible).contains(&died(row)))
            .collect();
        Some(Changes { added, removed })
    }
}

/// Reads the vector of each key from the first of several tables that has one, as [`Reader::read`].
pub(super) fn read_of(
    tables: &[&Reader],
    keys: &[&str],
    default: Option<&[f32]>,
    out: &mut [f32],
) -> Result<()> {
    let width = tables.first().map_or(0, |table| table.width());
    let check = |what, got, expected| {
        if got == expected { Ok(()) } else { Err(Error::Dimension { what, got, expected }) }
    };
    default.map_or(Ok(()), |default| check("Default", default.len(), width))?;
    check("Array", out.len(), keys.len() * width)?;
    for (key, out) in keys.iter().zip(out.chunks_exact_mut(width)) {
        keys::check(key)?;
        let found = tables.iter().find_map(|table| table.get(key).transpose()).transpose()?;
        match found.as_deref().or(default) {
            Some(vector) => out.copy_from_slice(vector),
            None => return Err(Error::KeyNotFound { key: (*key).to_owned() }),
        }
    }
    Ok(())
}
