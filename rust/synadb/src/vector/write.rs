//! Writing vectors: the row into its extent, then the record that commits it.

use synadb_index::{first_non_finite, inverse_norm};
use synadb_storage::checksum::crc32c;
use synadb_storage::extent::{ROW_BYTES, Row};
use synadb_storage::record::RecordKind;
use synadb_types::limits::ROWS_MAX;

use super::VectorStore;
use crate::collection::{NO_ROW, RowsView, reservation, stride};
use crate::db::{Op, TableInfo, TableKind, Transaction};
use crate::error::{Error, Result};
use crate::keys;
use crate::value::DTYPE_F32;

/// Rows of the first extent; the next ones double up to this many bytes.
const FIRST_ROWS: u32 = 16;
const EXTENT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of records of one commit.
const COMMIT_BYTES: usize = 32 << 20;
/// Bytes of vectors that are checked, summed and stored while they are in the cache.
const CACHED_BYTES: usize = 256 << 10;

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

    /// Stores many vectors, row-major; several commits beyond 32 MiB of records.
    ///
    /// # Errors
    /// As [`VectorStore::insert`]; what was committed before stays.
    pub fn insert_rows(&self, keys: &[&str], rows: &[f32]) -> Result<usize> {
        let engine = self.handle.writable()?;
        let dimensions = usize::from(self.config.dimensions);
        if rows.len() != keys.len() * dimensions {
            return Err(unequal(keys.len(), rows.len() / dimensions));
        }
        keys.iter().try_for_each(|key| keys::check(key))?;
        // Of one commit the rows are checked while they are in the cache, before it is written.
        if bytes_of(keys) > COMMIT_BYTES || keys.len() < 16 {
            self.check_finite(keys, rows)?;
        }
        let mut new = 0;
        let (mut keys, mut rows) = (keys, rows);
        while !keys.is_empty() {
            let mut bytes = 0;
            let fits = |key: &&&str| {
                bytes += key.len() + 64;
                bytes <= COMMIT_BYTES
            };
            let count = keys.iter().take_while(fits).count().max(1);
            let (now, later) = keys.split_at(count);
            let (now_rows, later_rows) = rows.split_at(count * dimensions);
            new += engine.transact(&self.handle.terms, self.handle.terms.durability, |tx| {
                self.write_rows(tx, now, now_rows)
            })?;
            (keys, rows) = (later, later_rows);
        }
        Ok(new)
    }

    fn check_finite(&self, keys: &[&str], rows: &[f32]) -> Result<()> {
        let Some(at) = first_non_finite(rows) else { return Ok(()) };
        let dimensions = usize::from(self.config.dimensions);
        let (key, value) = (keys[at / dimensions], rows[at]);
        Err(Error::InvalidVector {
            what: format!("vector of key {key:?}"),
            reason: format!("component {} is {value}", at % dimensions),
        })
    }

    /// The table, new or as stored; another configuration is a mismatch.
    fn table_info(&self, transaction: &Transaction<'_>) -> Result<std::sync::Arc<TableInfo>> {
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

    /// One commit; returns how many keys are new.
    fn write_rows(
        &self,
        transaction: &mut Transaction<'_>,
        keys: &[&str],
        rows: &[f32],
    ) -> Result<usize> {
        let table = self.table_info(transaction)?;
        let mut payloads: Vec<[u8; ROW_BYTES]> = Vec::with_capacity(keys.len());
        let dimensions = usize::from(self.config.dimensions);
        while payloads.len() < keys.len() {
            let left = (keys.len() - payloads.len()) as u32;
            let done = payloads.len() as u32;
            let (first, count, offset) = self.slots(transaction, &table, done, left)?;
            let from = payloads.len() * dimensions;
            let piece = &rows[from..from + count as usize * dimensions];
            let names = &keys[payloads.len()..];
            self.fill(transaction, (names, piece), first, offset, &mut payloads)?;
        }
        let mut ops = Vec::with_capacity(keys.len());
        for (key, payload) in keys.iter().zip(&payloads) {
            let key = key.as_bytes();
            let hash = transaction.hash(key);
            let newest = transaction.newest(table.id, key, hash)?;
            ops.push(Op {
                kind: RecordKind::Row,
                tag: 0,
                flags: 0,
                table: table.id,
                key,
                hash,
                payload,
                previous: newest.map_or(0, |record| record.position),
            });
        }
        let before = transaction.live(table.id);
        transaction.append(&table, &ops)?;
        Ok((transaction.live(table.id) - before) as usize)
    }

    /// Free slots for some of `wanted` rows behind `taken` others: first row, count, offset.
    fn slots(
        &self,
        transaction: &mut Transaction<'_>,
        table: &TableInfo,
        taken: u32,
        wanted: u32,
    ) -> Result<(u32, u32, u64)> {
        let row_bytes = self.config.row_bytes();
        let state = |transaction: &mut Transaction<'_>| {
            let view = transaction.view::<RowsView>(table.id);
            view.map_or((0, 0), |view| (view.next_row() + taken, view.reserved()))
        };
        let (next, reserved) = state(transaction);
        if wanted > ROWS_MAX - next {
            let reason = format!("a table holds at most {ROWS_MAX} rows, dead ones included");
            return Err(Error::InvalidArgument { argument: "keys", reason });
        }
        if next >= reserved {
            let growth = reserved.max(FIRST_ROWS);
            let most = (EXTENT_BYTES_MAX / stride(row_bytes)).max(1) as u32;
            let count = if wanted > 1 { wanted } else { growth.min(most) };
            transaction.reserve(table, &reservation(row_bytes, reserved, count))?;
        }
        let view = transaction.view::<RowsView>(table.id);
        let found = view.and_then(|view| Some((view.offset(next)?, view.extent_end(next)?)));
        let Some((offset, end)) = found else {
            let reason = "the extent that was reserved is not there".to_owned();
            return Err(Error::InvalidArgument { argument: "keys", reason });
        };
        Ok((next, wanted.min(end - next), offset))
    }

    /// Stores rows side by side and describes each.
    fn fill(
        &self,
        transaction: &Transaction<'_>,
        (names, rows): (&[&str], &[f32]),
        first: u32,
        offset: u64,
        payloads: &mut Vec<[u8; ROW_BYTES]>,
    ) -> Result<()> {
        let dimensions = usize::from(self.config.dimensions);
        let (row_bytes, stride) = (self.config.row_bytes(), stride(self.config.row_bytes()));
        let per_block = (CACHED_BYTES / stride as usize).max(1);
        let mut padded = Vec::new();
        let mut row = first;
        for block in rows.chunks(per_block * dimensions) {
            let start = offset + u64::from(row - first) * stride;
            padded.clear();
            for vector in block.chunks_exact(dimensions) {
                let bytes: &[u8] = bytemuck::cast_slice(vector);
                let inverse_norm = inverse_norm(vector);
                // A NaN or an infinity makes the norm one: only then is it worth a look.
                if inverse_norm.is_nan() {
                    self.check_finite(&names[(row - first) as usize..], vector)?;
                }
                let described = Row {
                    dtype: DTYPE_F32,
                    row,
                    offset: offset + u64::from(row - first) * stride,
                    bytes: row_bytes,
                    crc: crc32c(bytes),
                    inverse_norm,
                    replaces: NO_ROW,
                };
                payloads.push(described.encode());
                if stride != u64::from(row_bytes) {
                    padded.extend_from_slice(bytes);
                    padded.resize(padded.len().next_multiple_of(stride as usize), 0);
                }
                row += 1;
            }
            let bytes = if padded.is_empty() { bytemuck::cast_slice(block) } else { &padded[..] };
            let stored = transaction.log().region().store(start, bytes);
            stored.map_err(|error| self.failure(error))?;
        }
        Ok(())
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
            self.write_rows(transaction, &[key], vector).map(|_| ())
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
            transaction.append(&table, &[op])?;
            Ok(true)
        })
    }
}

/// Bytes of the records of so many keys, as commits are measured.
fn bytes_of(keys: &[&str]) -> usize {
    keys.iter().map(|key| key.len() + 64).sum()
}

fn unequal(keys: usize, vectors: usize) -> Error {
    let reason = format!("{keys} keys were given for {vectors} vectors");
    Error::InvalidArgument { argument: "keys", reason }
}
