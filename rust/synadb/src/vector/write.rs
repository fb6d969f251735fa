//! Writing vectors: the row into its extent, then the record that commits it.

use std::sync::Arc;

use synadb_index::first_non_finite;
use synadb_storage::extent::{OPEN, ROW_BYTES};
use synadb_storage::record::RecordKind;
use synadb_types::TableId;
use synadb_types::limits::ROWS_MAX;

use super::VectorStore;
use super::bulk::RESERVED_BYTES_MAX;
use super::fill::Payloads;
use crate::collection::{RowsView, Slots, lead, open_rows, reservation, stride};
use crate::db::{Engine, Op, TOUCHED, TableInfo, TableKind, Transaction};
use crate::error::{Error, Result};
use crate::keys;

/// Rows of so many bytes get an extent of their own, filled while others write.
const APART_BYTES_MIN: u64 = 64 << 10;

impl VectorStore {
    /// Stores a vector under a key; a key that is there gets the new one.
    ///
    /// # Errors
    /// `Dimension`, `InvalidVector` for NaN and infinity, `EmptyKey`, `KeyTooLong`, `ReadOnly`,
    /// `Closed`, `DiskFull`, `ConfigMismatch`: nothing was changed.
    pub fn insert(&self, key: &str, vector: &[f32]) -> Result<()> {
        self.check_dimensions("Vector", vector.len())?;
        self.insert_rows(&[key], vector).map(|_| ())
    }

    /// Stores many vectors; returns how many keys are new.
    ///
    /// # Errors
    /// As [`VectorStore::insert`].
    pub fn insert_batch(&self, keys: &[&str], vectors: &[&[f32]]) -> Result<usize> {
        if let Some(wrong) = vectors.iter().find(|v| self.check_dimensions("", v.len()).is_err()) {
            self.check_dimensions("Vectors", wrong.len())?;
        }
        if keys.len() != vectors.len() {
            return Err(unequal(keys.len(), vectors.len()));
        }
        self.insert_rows(keys, &vectors.concat())
    }

    /// As [`VectorStore::insert_batch`]: a call of the original, whose index could be left behind
    /// with `update_index` of false. Here all that is stored is found at once, and the index takes
    /// it in on a thread of its own.
    ///
    /// # Errors
    /// As [`VectorStore::insert`].
    pub fn insert_batch_fast(
        &self,
        keys: &[&str],
        vectors: &[&[f32]],
        _update_index: bool,
    ) -> Result<usize> {
        self.insert_batch(keys, vectors)
    }

    /// Stores many vectors, row-major; several commits beyond 1 MiB of records, which is about
    /// 14,000 rows.
    ///
    /// # Errors
    /// As [`VectorStore::insert`]; an input that is refused changes nothing, after a failure of the
    /// medium what was committed before stays.
    pub fn insert_rows(&self, keys: &[&str], rows: &[f32]) -> Result<usize> {
        self.insert_rows_with(rows, |pending| pending.insert(keys))
    }

    /// As [`VectorStore::insert_rows`], of a batch that one thread stores, or too large for one
    /// reservation.
    pub(super) fn insert_ready(&self, keys: &[&str], rows: &[f32]) -> Result<usize> {
        let engine = self.handle.writable()?;
        self.check_keys(keys, rows)?;
        let bytes = size_of_val(rows);
        // Others are checked while they are in the cache, on their way into space of their own.
        if bytes as u64 <= APART_BYTES_MIN || bytes > RESERVED_BYTES_MAX {
            self.check_finite(keys, rows)?;
        }
        if keys.len() as u64 * stride(self.config.row_bytes()) < APART_BYTES_MIN {
            return self.insert_few(engine, keys, rows);
        }
        if bytes <= RESERVED_BYTES_MAX {
            return self.insert_apart(keys, rows);
        }
        let mut pieces = self.blocks(keys, rows, RESERVED_BYTES_MAX);
        pieces.try_fold(0, |new, (keys, rows)| Ok(new + self.insert_rows(keys, rows)?))
    }

    /// Whether keys are what they should be, one for each row.
    pub(super) fn check_keys(&self, keys: &[&str], rows: &[f32]) -> Result<()> {
        let dimensions = usize::from(self.config.dimensions);
        if rows.len() != keys.len() * dimensions {
            return Err(unequal(keys.len(), rows.len() / dimensions));
        }
        keys.iter().try_for_each(|key| keys::check(key))
    }

    /// One commit, under the write lock.
    fn insert_few(&self, engine: &Engine, keys: &[&str], rows: &[f32]) -> Result<usize> {
        engine.transact(&self.handle.terms, self.handle.terms.durability, |transaction| {
            let table = self.table_info(transaction)?;
            let payloads = self.place(transaction, table.id, keys, rows)?;
            self.append_rows(transaction, table.id, keys, &payloads)
        })
    }

    pub(super) fn check_finite(&self, keys: &[&str], rows: &[f32]) -> Result<()> {
        first_non_finite(rows).map_or(Ok(()), |at| Err(self.not_finite(keys, rows, at)))
    }

    /// Of the component there.
    pub(super) fn not_finite(&self, keys: &[&str], rows: &[f32], at: usize) -> Error {
        let dimensions = usize::from(self.config.dimensions);
        let (key, value) = (keys[at / dimensions], rows[at]);
        Error::InvalidVector {
            what: format!("vector of key {key:?}"),
            reason: format!("component {} is {value}", at % dimensions),
        }
    }

    /// The table, new or as stored; another configuration is a mismatch.
    pub(super) fn table_info(&self, transaction: &mut Transaction<'_>) -> Result<Arc<TableInfo>> {
        let asked = self.config.encode();
        let info = transaction.table(&self.table, TableKind::Vectors, &asked)?;
        if info.kind != TableKind::Vectors || info.config != asked {
            let stored = super::StoredConfig::decode(&info.config);
            stored.unwrap_or(self.config).check(&self.table, self.config)?;
            let reason = format!("table {:?} holds no vectors", self.table);
            return Err(Error::InvalidArgument { argument: "name", reason });
        }
        Ok(info)
    }

    /// Appends the records of rows that are in place; returns how many keys are new.
    pub(super) fn append_rows(
        &self,
        transaction: &mut Transaction<'_>,
        table: TableId,
        keys: &[&str],
        payloads: &[[u8; ROW_BYTES]],
    ) -> Result<usize> {
        let hashes: Vec<u64> = keys.iter().map(|key| transaction.hash(key.as_bytes())).collect();
        let mut previous = Vec::with_capacity(keys.len());
        for (keys, hashes) in keys.chunks(TOUCHED).zip(hashes.chunks(TOUCHED)) {
            transaction.touch(table, hashes);
            for (key, hash) in keys.iter().zip(hashes) {
                let newest = transaction.newest(table, key.as_bytes(), *hash)?;
                previous.push(newest.map_or(0, |record| record.position));
            }
        }
        let before = transaction.live(table);
        transaction.append_each((0..keys.len()).map(|index| Op {
            kind: RecordKind::Row,
            tag: 0,
            flags: 0,
            table,
            key: keys[index].as_bytes(),
            hash: hashes[index],
            payload: &payloads[index],
            previous: previous[index],
        }))?;
        Ok((transaction.live(table) - before) as usize)
    }

    /// Stores a few rows in the extent for single ones, under the write lock.
    pub(super) fn place(
        &self,
        transaction: &mut Transaction<'_>,
        table: TableId,
        keys: &[&str],
        rows: &[f32],
    ) -> Result<Payloads> {
        let dimensions = usize::from(self.config.dimensions);
        transaction.vouch_for(size_of_val(rows) as u64);
        let mut payloads = Payloads::with_capacity(keys.len());
        let mut taken = 0;
        while payloads.len() < keys.len() {
            let done = payloads.len();
            let left = keys.len() - done;
            let mut slots = self.open_slots(transaction, table, &mut taken, (done, left))?;
            slots.count = slots.count.min(left as u32);
            taken += slots.count;
            let piece = &rows[done * dimensions..(done + slots.count as usize) * dimensions];
            self.fill(transaction.log().region(), (&keys[done..], piece), slots, &mut payloads)?;
        }
        Ok(payloads)
    }

    /// Free slots for single rows, of which some are `done`; `taken` of those in the newest extent
    /// are spoken for.
    fn open_slots(
        &self,
        transaction: &mut Transaction<'_>,
        table: TableId,
        taken: &mut u32,
        (done, wanted): (usize, usize),
    ) -> Result<Slots> {
        let view = transaction.view::<RowsView>(table);
        if let Some(slots) = view.and_then(|view| view.open_slots(*taken)) {
            return Ok(slots);
        }
        let first = self.next_extent(transaction, table, wanted)?;
        let count = open_rows(self.config.row_bytes(), first, wanted as u32);
        let slots = self.reserve(transaction, table, first, (done as u64, count, OPEN))?;
        // Those before them stay empty: the first commit into it passes them over.
        *taken = slots.first - first;
        Ok(slots)
    }

    /// Slots in an extent of their own, for the caller alone.
    pub(super) fn own_slots(
        &self,
        transaction: &mut Transaction<'_>,
        table: TableId,
        wanted: usize,
    ) -> Result<Slots> {
        let spare = transaction.view::<RowsView>(table).and_then(|v| v.take_spare(wanted as u32));
        if let Some(slots) = spare {
            return Ok(slots);
        }
        let first = self.next_extent(transaction, table, wanted)?;
        self.reserve(transaction, table, first, (0, wanted as u32, 0))
    }

    /// An extent from row `first` on, without the slots that it leaves empty at its begin; `done` rows
    /// before it are not committed yet.
    fn reserve(
        &self,
        transaction: &mut Transaction<'_>,
        table: TableId,
        first: u32,
        (done, count, tag): (u64, u32, u8),
    ) -> Result<Slots> {
        let row_bytes = self.config.row_bytes();
        let lead = lead(row_bytes, transaction.live(table) + done, count);
        let lead = lead.min((ROWS_MAX - first).saturating_sub(count));
        let reservation = reservation(row_bytes, first, lead + count);
        let offset = transaction.reserve(table, &reservation, tag)?;
        Ok(Slots { first, count: reservation.rows, offset }.behind(lead, row_bytes))
    }

    /// First row of the next extent.
    fn next_extent(
        &self,
        transaction: &mut Transaction<'_>,
        table: TableId,
        wanted: usize,
    ) -> Result<u32> {
        let first = transaction.view::<RowsView>(table).map_or(0, |view| view.reserved());
        if wanted > (ROWS_MAX - first) as usize {
            let reason = format!("a table holds at most {ROWS_MAX} rows, dead ones included");
            return Err(Error::InvalidArgument { argument: "keys", reason });
        }
        Ok(first)
    }

    /// Replaces the vector of a key.
    ///
    /// # Errors
    /// `KeyNotFound`; as [`VectorStore::insert`].
    pub fn update(&self, key: &str, vector: &[f32]) -> Result<()> {
        self.check_dimensions("Vector", vector.len())?;
        let engine = self.handle.writable()?;
        keys::check(key)?;
        self.check_finite(&[key], vector)?;
        engine.transact(&self.handle.terms, self.handle.terms.durability, |transaction| {
            let table = self.table_info(transaction)?;
            let hash = transaction.hash(key.as_bytes());
            let newest = transaction.newest(table.id, key.as_bytes(), hash)?;
            if newest.is_none_or(|record| record.kind != RecordKind::Row) {
                return Err(Error::KeyNotFound { key: key.to_owned() });
            }
            let payloads = self.place(transaction, table.id, &[key], vector)?;
            self.append_rows(transaction, table.id, &[key], &payloads).map(|_| ())
        })
    }

    /// Deletes a key; one that is absent is left alone.
    ///
    /// # Errors
    /// As [`VectorStore::insert`].
    pub fn delete(&self, key: &str) -> Result<()> {
        self.remove(key).map(|_| ())
    }

    /// Deletes a key; false, and nothing written, where it is absent.
    ///
    /// # Errors
    /// As [`VectorStore::insert`].
    pub fn remove(&self, key: &str) -> Result<bool> {
        let engine = self.handle.writable()?;
        keys::check(key)?;
        engine.transact(&self.handle.terms, self.handle.terms.durability, |transaction| {
            let table = self.table_info(transaction)?;
            let hash = transaction.hash(key.as_bytes());
            let newest = transaction.newest(table.id, key.as_bytes(), hash)?;
            let Some(record) = newest.filter(|record| record.kind == RecordKind::Row) else {
                return Ok(false);
            };
            let op = Op {
                kind: RecordKind::Delete,
                tag: 0,
                flags: 0,
                table: table.id,
                key: key.as_bytes(),
                hash,
                payload: &[],
                previous: record.position,
            };
            transaction.append(&[op])?;
            Ok(true)
        })
    }
}

/// Bytes of the records of so many keys, as commits are measured.
pub(super) fn bytes_of(keys: &[&str]) -> usize {
    keys.iter().map(|key| key.len() + 64).sum()
}

fn unequal(keys: usize, vectors: usize) -> Error {
    let reason = format!("{keys} keys were given for {vectors} vectors");
    Error::InvalidArgument { argument: "keys", reason }
}
