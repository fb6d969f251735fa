//! Writing to a hybrid store: each commit leaves a key in one of the two tables.

use std::collections::HashSet;

use synadb_storage::log::Record;
use synadb_storage::record::RecordKind;
use synadb_types::TableId;

use super::HybridVectorStore;
use crate::db::{OwnedOp, Transaction};
use crate::error::{Error, Result};
use crate::glob::Pattern;
use crate::keys;
use crate::vector::store::floats;
use crate::vector::write::bytes_of;

/// Bytes of vectors, and of records, that are one commit: others wait for as long as they take.
const ROW_BYTES_MAX: usize = 8 << 20;
const RECORD_BYTES_MAX: usize = 512 << 10;

impl HybridVectorStore {
    /// Stores a vector under a key among the new ones; a key that is there gets the new one,
    /// wherever it is. Found at once.
    ///
    /// # Errors
    /// As [`VectorStore::insert`](crate::VectorStore::insert).
    pub fn ingest(&self, key: &str, vector: &[f32]) -> Result<()> {
        self.hot.check_dimensions("Vector", vector.len())?;
        self.ingest_rows(&[key], vector).map(|_| ())
    }

    /// Stores many vectors, and returns how many keys are new.
    ///
    /// # Errors
    /// As [`VectorStore::insert_batch`](crate::VectorStore::insert_batch).
    pub fn ingest_batch(&self, keys: &[&str], vectors: &[&[f32]]) -> Result<usize> {
        for vector in vectors {
            self.hot.check_dimensions("Vectors", vector.len())?;
        }
        if keys.len() != vectors.len() {
            let reason = format!("{} keys were given for {} vectors", keys.len(), vectors.len());
            return Err(Error::InvalidArgument { argument: "keys", reason });
        }
        self.ingest_rows(keys, &vectors.concat())
    }

    /// Stores many vectors, row-major; several commits for more than some thousand.
    ///
    /// # Errors
    /// As [`VectorStore::insert_rows`](crate::VectorStore::insert_rows).
    pub fn ingest_rows(&self, keys: &[&str], rows: &[f32]) -> Result<usize> {
        self.hot.handle.writable()?;
        self.hot.check_keys(keys, rows)?;
        self.hot.check_finite(keys, rows)?;
        let width = usize::from(self.dimensions());
        let (mut done, mut new) = (0, 0);
        for piece in pieces(keys, width) {
            let rows = &rows[done * width..][..piece.len() * width];
            new += self
                .within(|transaction, hot, cold| self.put(transaction, [hot, cold], piece, rows))?;
            done += piece.len();
        }
        Ok(new)
    }

    /// Replaces the vector of a key, wherever it is; the new one is hot.
    ///
    /// # Errors
    /// `KeyNotFound`; as [`HybridVectorStore::ingest`].
    pub fn update(&self, key: &str, vector: &[f32]) -> Result<()> {
        self.hot.check_dimensions("Vector", vector.len())?;
        self.hot.handle.writable()?;
        keys::check(key)?;
        self.hot.check_finite(&[key], vector)?;
        self.within(|transaction, hot, cold| {
            let is_absent = live(transaction, hot, key)?.is_none();
            if is_absent && live(transaction, cold, key)?.is_none() {
                return Err(Error::KeyNotFound { key: key.to_owned() });
            }
            self.put(transaction, [hot, cold], &[key], vector).map(|_| ())
        })
    }

    /// Makes vectors hot, and deletes what the cold table has under their keys; how many of these
    /// neither table had.
    fn put(
        &self,
        transaction: &mut Transaction<'_>,
        [hot, cold]: [TableId; 2],
        keys: &[&str],
        rows: &[f32],
    ) -> Result<usize> {
        let payloads = self.hot.place(transaction, hot, keys, rows)?;
        let mut ops = Vec::with_capacity(keys.len());
        let (mut seen, mut new) = (HashSet::new(), 0);
        for (key, payload) in keys.iter().zip(&payloads) {
            ops.push(row(transaction, hot, key, payload)?);
            if seen.insert(*key) {
                let deletion = deletion(transaction, cold, key)?;
                // Somebody may have written it to the cold table too.
                new += usize::from(deletion.is_none() && live(transaction, hot, key)?.is_none());
                ops.extend(deletion);
            }
        }
        append(transaction, &ops)?;
        Ok(new)
    }

    /// Deletes a key, wherever it is; false, and nothing written, where it is absent.
    ///
    /// # Errors
    /// As [`VectorStore::remove`](crate::VectorStore::remove).
    pub fn delete(&self, key: &str) -> Result<bool> {
        self.hot.handle.writable()?;
        keys::check(key)?;
        self.within(|transaction, hot, cold| {
            let mut ops = Vec::new();
            for table in [hot, cold] {
                ops.extend(deletion(transaction, table, key)?);
            }
            append(transaction, &ops)?;
            Ok(!ops.is_empty())
        })
    }

    /// Moves the new vectors to those that stay, and returns how many moved.
    ///
    /// Several commits, each of which moves some thousand: others search and write meanwhile. What
    /// is ingested meanwhile stays hot. Searches scan what was promoted until the cascade is built
    /// anew, by a thread apart where it pays.
    ///
    /// # Errors
    /// As [`VectorStore::insert`](crate::VectorStore::insert); `Corruption` by key for a vector
    /// that cannot be read: those before it have moved.
    pub fn promote_to_cold(&self) -> Result<usize> {
        self.hot.handle.writable()?;
        let keys = self.hot.keys_matching(&Pattern::All)?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.promote_keys(&keys)
    }

    /// As [`HybridVectorStore::promote_to_cold`], of some keys; those without a new vector are left
    /// alone.
    ///
    /// # Errors
    /// As there; `EmptyKey`, `KeyTooLong`.
    pub fn promote_keys(&self, keys: &[&str]) -> Result<usize> {
        self.hot.handle.writable()?;
        keys.iter().try_for_each(|key| keys::check(key))?;
        let mut moved = 0;
        for piece in pieces(keys, usize::from(self.dimensions())) {
            moved += self.within(|transaction, hot, cold| {
                let (keys, rows) = newest(transaction, hot, piece)?;
                let payloads = self.cold.place(transaction, cold, &keys, &rows)?;
                let mut ops = Vec::with_capacity(2 * keys.len());
                for (key, payload) in keys.iter().zip(&payloads) {
                    ops.push(row(transaction, cold, key, payload)?);
                    ops.extend(deletion(transaction, hot, key)?);
                }
                append(transaction, &ops)?;
                Ok(keys.len())
            })?;
        }
        Ok(moved)
    }

    /// Runs `plan` under the write lock with the hot table and the cold one, which are there then.
    fn within<R>(
        &self,
        plan: impl FnOnce(&mut Transaction<'_>, TableId, TableId) -> Result<R>,
    ) -> Result<R> {
        let handle = &self.hot.handle;
        let durability = handle.terms.durability;
        handle.writable()?.transact(&handle.terms, durability, |transaction| {
            // Who has the hot table has the cold one: its configuration is that of the file.
            let cold = self.cold.table_info(transaction)?.id;
            let hot = self.hot.table_info(transaction)?.id;
            plan(transaction, hot, cold)
        })
    }
}

/// Keys in pieces that are one commit each.
fn pieces<'a>(keys: &'a [&'a str], width: usize) -> impl Iterator<Item = &'a [&'a str]> {
    let most = (ROW_BYTES_MAX / (4 * width)).max(1);
    let mut rest = keys;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |key: &&&str| {
            bytes += bytes_of(&[**key]);
            bytes <= RECORD_BYTES_MAX
        };
        let count = rest.iter().take(most).take_while(fits).count().max(1);
        let (piece, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(piece)
    })
}

/// The record of a row that is in its place.
fn row(
    transaction: &Transaction<'_>,
    table: TableId,
    key: &str,
    payload: &[u8],
) -> Result<OwnedOp> {
    let name = key.as_bytes();
    let hash = transaction.hash(name);
    let previous = transaction.newest(table, name, hash)?.map_or(0, |record| record.position);
    let (kind, key, payload) = (RecordKind::Row, name.to_vec(), payload.to_vec());
    Ok(OwnedOp { kind, table, key, hash, payload, previous })
}

/// The record of a key's vector, none where it is absent.
fn live<'a>(
    transaction: &'a Transaction<'_>,
    table: TableId,
    key: &str,
) -> Result<Option<Record<'a>>> {
    let name = key.as_bytes();
    let newest = transaction.newest(table, name, transaction.hash(name))?;
    Ok(newest.filter(|record| record.kind == RecordKind::Row))
}

/// The record that deletes a key, none where it is absent.
fn deletion(transaction: &Transaction<'_>, table: TableId, key: &str) -> Result<Option<OwnedOp>> {
    let of = |previous| {
        let (kind, key, payload) = (RecordKind::Delete, key.as_bytes().to_vec(), Vec::new());
        let hash = transaction.hash(&key);
        OwnedOp { kind, table, key, hash, payload, previous }
    };
    Ok(live(transaction, table, key)?.map(|record| of(record.position)))
}

/// Keys that still have a vector, with their vectors as of now.
fn newest<'a>(
    transaction: &Transaction<'_>,
    table: TableId,
    keys: &[&'a str],
) -> Result<(Vec<&'a str>, Vec<f32>)> {
    let (mut names, mut rows) = (Vec::with_capacity(keys.len()), Vec::new());
    let mut seen = HashSet::new();
    for key in keys.iter().filter(|key| seen.insert(**key)) {
        let Some(record) = live(transaction, table, key)? else { continue };
        let bytes = record.row_bytes();
        let bytes = bytes.map_err(|error| transaction.failure(error).for_key(key.as_bytes()))?;
        rows.extend(floats(bytes));
        names.push(*key);
    }
    Ok((names, rows))
}

fn append(transaction: &mut Transaction<'_>, ops: &[OwnedOp]) -> Result<()> {
    if ops.is_empty() {
        return Ok(());
    }
    transaction.append_each(ops.iter().map(OwnedOp::as_op)).map(|_| ())
}
