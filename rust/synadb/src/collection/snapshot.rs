//! A reader's sight of a table of rows, which outlives commits and compactions.

use std::sync::Arc;

use synadb_storage::extent::Row;
use synadb_storage::log::Record;
use synadb_storage::{Result, StorageError};
use synadb_types::RowId;

use super::RowsReader;
use crate::db::Generation;

/// A record of a row is about as long, and no shorter than what stands behind it.
const RECORD_START_BYTES: usize = 64;

/// Keys that are looked up at once.
const KEYS_AT_ONCE: usize = 32;

/// Rows as of one visible position.
pub(crate) struct Snapshot {
    pub generation: Arc<Generation>,
    pub reader: Arc<RowsReader>,
    visible: u64,
    rows_end: u32,
    row_bytes: u32,
}

/// Slots of consecutive rows.
pub(crate) struct Slots<'a> {
    pub count: usize,
    /// Bytes from the first row to the end of the last.
    pub bytes: &'a [u8],
}

impl Snapshot {
    pub fn new(generation: Arc<Generation>, reader: Arc<RowsReader>, row_bytes: u32) -> Self {
        let visible = generation.visible();
        let rows_end = reader.born.len() as u32;
        Self { generation, reader, visible, rows_end, row_bytes }
    }

    /// The same rows as of an earlier moment.
    pub fn until(self, visible: u64) -> Self {
        Self { visible: self.visible.min(visible), ..self }
    }

    /// Commits before this position are seen.
    pub fn visible(&self) -> u64 {
        self.visible
    }

    /// One more than the largest committed row.
    pub fn rows_end(&self) -> u32 {
        self.rows_end
    }

    /// Whether the row was born and has not died.
    pub fn is_live(&self, row: RowId) -> bool {
        !self.is_unborn(row) && !self.has_died(row)
    }

    /// Whether a row that was born has died.
    pub fn has_died(&self, row: RowId) -> bool {
        self.reader.has_ended(row.0) && {
            let died = self.reader.died.get(u64::from(row.0)).unwrap_or(0);
            died != 0 && died < self.visible
        }
    }

    /// Whether the row was not committed before this moment.
    pub fn is_unborn(&self, row: RowId) -> bool {
        let born = self.reader.born.get(u64::from(row.0)).unwrap_or(0);
        born == 0 || born >= self.visible
    }

    /// Whether the row is reserved and may be committed after this moment.
    pub fn may_come(&self, row: RowId) -> bool {
        self.is_unborn(row) && !self.reader.is_passed_over(row.0)
    }

    /// The rows that are reserved and may be committed after this moment.
    pub fn unborn_rows(&self) -> Vec<u32> {
        let (mut unborn, mut first) = (Vec::new(), 0);
        self.reader.born.for_each_slice(0, u64::from(self.rows_end), |words| {
            for (row, word) in (first..).zip(words) {
                let born = word.load(std::sync::atomic::Ordering::Acquire);
                if (born == 0 || born >= self.visible) && !self.reader.is_passed_over(row) {
                    unborn.push(row);
                }
            }
            first += words.len() as u32;
        });
        unborn
    }

    /// Bits of the inverse norms from `first` on.
    pub fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        let from = u64::from(first.0);
        let mut at = 0;
        self.reader.norms.for_each_slice(from, from + out.len() as u64, |words| {
            for (slot, word) in out[at..].iter_mut().zip(words) {
                let bits = word.load(std::sync::atomic::Ordering::Relaxed);
                *slot = f32::from_bits((bits & 0xffff_ffff) as u32);
            }
            at += words.len();
        });
    }

    /// The first row at or behind `row` whose slot nobody writes to any more.
    pub fn filled_from(&self, row: RowId) -> Option<RowId> {
        let mut row = row.0;
        while row < self.rows_end {
            let extent = self.reader.extent_of(row)?;
            if row - extent.first < extent.filled() {
                return Some(RowId(row));
            }
            row = extent.first + extent.rows;
        }
        None
    }

    /// The longest run of slots from `row` on.
    pub fn slots(&self, row: RowId) -> Option<Slots<'_>> {
        let (offset, count) = self.place(row)?;
        let len =
            (count - 1) * super::rows::stride(self.row_bytes) as usize + self.row_bytes as usize;
        let bytes = self.generation.log.region().bytes(offset, len)?;
        Some(Slots { count, bytes })
    }

    /// Where the slot of `row` lies, and how many there are from it on, side by side.
    pub fn place(&self, row: RowId) -> Option<(u64, usize)> {
        if row.0 >= self.rows_end {
            return None;
        }
        let extent = self.reader.extent_of(row.0)?;
        let last = extent.filled().min(self.rows_end - extent.first);
        let count = last.checked_sub(row.0 - extent.first).filter(|count| *count > 0)?;
        let stride = super::rows::stride(self.row_bytes);
        Some((extent.start + u64::from(row.0 - extent.first) * stride, count as usize))
    }

    /// The record of a key that is visible here.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record<'_>>> {
        let hash = self.generation.hash(key);
        self.reader.keys.get(&self.generation.log, key, hash, self.visible)
    }

    /// Visits the visible records of those of some keys that have one, in their order. The waits for
    /// memory of a few keys overlap.
    pub fn for_each_of<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
        mut visit: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let (log, mut keys) = (&self.generation.log, keys.fuse());
        let (mut some, mut hashes) = (Vec::with_capacity(KEYS_AT_ONCE), Vec::new());
        loop {
            some.clear();
            some.extend(keys.by_ref().take(KEYS_AT_ONCE).map(str::as_bytes));
            if some.is_empty() {
                return Ok(());
            }
            hashes.clear();
            hashes.extend(some.iter().map(|key| self.generation.hash(key)));
            self.reader.keys.touch(&hashes);
            self.reader.keys.touch_records(log, &hashes);
            for (key, &hash) in some.iter().zip(&hashes) {
                if let Some(record) = self.reader.keys.get(log, key, hash, self.visible)? {
                    visit(record)?;
                }
            }
        }
    }

    /// The first bytes of the record that committed a row, not verified.
    pub fn start_of_record(&self, row: RowId) -> Option<&[u8]> {
        let born = self.reader.born.get(u64::from(row.0))?;
        self.generation.log.region().bytes(born, RECORD_START_BYTES)
    }

    /// The record that committed a row.
    pub fn record(&self, row: RowId) -> Result<Record<'_>> {
        let born = self.reader.born.get(u64::from(row.0)).unwrap_or(0);
        let record = self.generation.log.record(born)?;
        let fits = Row::decode(record.payload()?).is_some_and(|found| found.row == row.0);
        if fits { Ok(record) } else { Err(StorageError::corrupt(born, "a row of another number")) }
    }

    /// Live keys that begin with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut take = |record: Record<'_>| {
            keys.push(String::from_utf8_lossy(record.key).into_owned());
        };
        let (log, seed) = (&self.generation.log, self.generation.hash_seed);
        self.reader.keys.scan(log, seed, prefix.as_bytes(), self.visible, &mut take)?;
        Ok(keys)
    }
}
