//! Writing values.

use std::collections::HashMap;
use std::sync::Arc;

use synadb_storage::record::{IN_EXTENT, RecordKind};
use synadb_types::limits::{
    DIMENSIONS_MAX, FRAME_BYTES_MAX, INLINE_VALUE_BYTES_MAX, VALUE_BYTES_MAX,
};

use super::batch::Change;
use super::seal::Seals;
use super::{SynaDB, TABLE, WriteBatch};
use crate::config::Durability;
use crate::db::{Engine, Handle, Op, OwnedOp, Reserved, TableInfo, TableKind, Transaction};
use crate::error::{Error, Result};
use crate::keys;
use crate::value::{Encoded, FLOATS, Value, ValueRef};

/// Points of one commit of `append_floats`, in one record: others get their turn in between.
const RUN_POINTS_MAX: usize = 256 << 10;
/// Bytes of one commit of `put_many`.
const COMMIT_BYTES: usize = 8 << 20;

fn check_value(key: &str, value: &Encoded<'_>) -> Result<()> {
    let bytes = value.payload.bytes().len();
    if bytes > VALUE_BYTES_MAX {
        return Err(Error::ValueTooLarge { key: key.to_owned(), bytes });
    }
    // `Value::Vector` says the number in 16 bits.
    if let Some(components) = value.components().filter(|count| *count > DIMENSIONS_MAX) {
        let reason = format!("a vector has at most {DIMENSIONS_MAX} components, got {components}");
        return Err(Error::InvalidArgument { argument: "value", reason });
    }
    Ok(())
}

/// One change of a commit, encoded.
pub(super) struct Item<'a> {
    pub key: &'a str,
    /// `None` deletes.
    pub value: Option<Encoded<'a>>,
}

impl Item<'_> {
    pub fn value_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.payload.bytes().len())
    }

    /// Bytes in the frame, at most.
    fn frame_bytes(&self) -> usize {
        let value = self.value_bytes();
        self.key.len() + 64 + if value <= INLINE_VALUE_BYTES_MAX { value } else { 64 }
    }
}

pub(super) fn table_of(transaction: &mut Transaction<'_>) -> Result<Arc<TableInfo>> {
    transaction.table(TABLE, TableKind::KeyValue, &[])
}

fn check_frame(items: &[Item<'_>]) -> Result<()> {
    let frame: usize = items.iter().map(Item::frame_bytes).sum();
    if frame > FRAME_BYTES_MAX {
        return Err(Error::BatchTooLarge { bytes: frame as u64 });
    }
    Ok(())
}

/// The records of some items; large values have theirs in `seals`.
fn stage<'a>(
    transaction: &mut Transaction<'_>,
    items: &'a [Item<'_>],
    seals: &'a Seals,
) -> Result<Vec<Op<'a>>> {
    let table = table_of(transaction)?;
    let mut ops: Vec<Op<'_>> = Vec::with_capacity(items.len());
    let deletes = items.iter().any(|item| item.value.is_none());
    let mut alive: HashMap<&str, bool> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let key = item.key.as_bytes();
        let hash = transaction.hash(key);
        let newest = transaction.newest(table.id, key, hash)?;
        if deletes {
            let known = newest.as_ref().is_some_and(|record| record.kind != RecordKind::Delete);
            let known = alive.insert(item.key, item.value.is_some()).unwrap_or(known);
            if item.value.is_none() && !known {
                continue;
            }
        }
        let (kind, tag, flags, payload) = match (&item.value, seals.of(index)) {
            (None, _) => (RecordKind::Delete, 0, 0, &[][..]),
            (Some(value), None) => (RecordKind::Put, value.tag, value.flags, value.payload.bytes()),
            (Some(value), Some(seal)) => {
                (RecordKind::Put, value.tag, value.flags | IN_EXTENT, seal)
            }
        };
        let previous = newest.map_or(0, |record| record.position);
        ops.push(Op { kind, tag, flags, table: table.id, key, hash, payload, previous });
    }
    Ok(ops)
}

/// Commits items as one frame; returns the position of the last record, `None` for no change.
fn commit_items(
    engine: &Engine,
    handle: &Handle,
    items: &[Item<'_>],
    last: bool,
) -> Result<Option<u64>> {
    check_frame(items)?;
    let durability = if last { handle.terms.durability } else { Durability::Process };
    let sealed = Seals::apart(engine, handle, items, &mut |_| Ok(()))?;
    engine.transact(&handle.terms, durability, |transaction| {
        let seals = sealed.within(transaction, items)?;
        let ops = stage(transaction, items, &seals)?;
        if ops.is_empty() { Ok(None) } else { transaction.append(&ops).map(Some) }
    })
}

impl SynaDB {
    /// Appends a value under a key; returns the byte offset of its record.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`, `ValueTooLarge`, `ReadOnly`, `Closed`, `DiskFull`,
    /// `InvalidArgument` for a vector of more than 65,535 components: nothing was changed.
    /// `Poisoned` after a failed sync.
    #[expect(clippy::needless_pass_by_value, reason = "the original's signature")]
    pub fn append(&self, key: &str, value: Value) -> Result<u64> {
        if let Value::Vector(vector, dimensions) = &value
            && vector.len() != usize::from(*dimensions)
        {
            let (got, expected) = (vector.len(), usize::from(*dimensions));
            return Err(Error::Dimension { what: "Vector", got, expected });
        }
        self.put(key, &value.borrowed())
    }

    /// As [`SynaDB::append`], of a borrowed value.
    ///
    /// # Errors
    /// As [`SynaDB::append`].
    pub fn put(&self, key: &str, value: &ValueRef<'_>) -> Result<u64> {
        let engine = self.handle.writable()?;
        let item = self.item(key, value)?;
        if let Some(offset) = self.try_item(engine, &item)? {
            return Ok(offset);
        }
        let put = commit_items(engine, &self.handle, std::slice::from_ref(&item), true)?;
        Ok(put.unwrap_or(0))
    }

    /// As [`SynaDB::put`], but `None` where it would have to wait: for another writer, for the
    /// medium, for space.
    ///
    /// # Errors
    /// As [`SynaDB::append`].
    pub fn try_put(&self, key: &str, value: &ValueRef<'_>) -> Result<Option<u64>> {
        let engine = self.handle.writable()?;
        self.try_item(engine, &self.item(key, value)?)
    }

    fn try_item(&self, engine: &Engine, item: &Item<'_>) -> Result<Option<u64>> {
        let bytes = item.value_bytes() + item.key.len();
        if self.handle.terms.durability == Durability::Sync || bytes > INLINE_VALUE_BYTES_MAX {
            return Ok(None);
        }
        let terms = &self.handle.terms;
        engine.try_transact(terms, bytes + 256, |transaction| append_one(transaction, item))
    }

    fn item<'a>(&self, key: &'a str, value: &'a ValueRef<'_>) -> Result<Item<'a>> {
        keys::check(key)?;
        let encoded = value.encode(self.handle.terms.compression);
        check_value(key, &encoded)?;
        Ok(Item { key, value: Some(encoded) })
    }

    /// Appends many values in order; several commits where they exceed 8 MiB.
    ///
    /// # Errors
    /// As [`SynaDB::append`]; what was committed before stays.
    pub fn put_many(&self, values: &[(&str, ValueRef<'_>)]) -> Result<usize> {
        let engine = self.handle.writable()?;
        let items = values.iter().map(|(key, value)| self.item(key, value));
        let items = items.collect::<Result<Vec<_>>>()?;
        let mut rest = &items[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |item: &&Item<'_>| {
                bytes += item.key.len() + 64 + item.value_bytes();
                bytes <= COMMIT_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            commit_items(engine, &self.handle, now, later.is_empty())?;
            rest = later;
        }
        Ok(values.len())
    }

    /// Appends floats to the history of a key, as runs; several commits beyond 262,144 points.
    ///
    /// For all or nothing see [`WriteBatch::append_floats`].
    ///
    /// # Errors
    /// As [`SynaDB::append`]; what was committed before stays.
    pub fn append_floats(&self, key: &str, values: &[f64]) -> Result<usize> {
        let engine = self.handle.writable()?;
        keys::check(key)?;
        for run in values.chunks(RUN_POINTS_MAX) {
            let value = encode_run(run);
            let item = [Item { key, value: Some(value) }];
            let last = std::ptr::eq(run.as_ptr_range().end, values.as_ptr_range().end);
            commit_items(engine, &self.handle, &item, last)?;
        }
        Ok(values.len())
    }

    /// The original's name of [`SynaDB::append_floats`].
    ///
    /// # Errors
    /// As [`SynaDB::append`].
    pub fn append_floats_batch(&self, key: &str, values: &[f64]) -> Result<usize> {
        self.append_floats(key, values)
    }

    /// Deletes a key; one that is absent is left alone.
    ///
    /// # Errors
    /// As [`SynaDB::append`].
    pub fn delete(&self, key: &str) -> Result<()> {
        self.remove(key).map(|_| ())
    }

    /// Deletes a key and its history; false, and nothing written, where it is absent.
    ///
    /// # Errors
    /// As [`SynaDB::append`].
    pub fn remove(&self, key: &str) -> Result<bool> {
        let engine = self.handle.writable()?;
        keys::check(key)?;
        let item = [Item { key, value: None }];
        Ok(commit_items(engine, &self.handle, &item, true)?.is_some())
    }

    /// Commits a batch, all or nothing, also after a crash.
    ///
    /// Returns the sequence number of the commit, `None` where nothing changed.
    ///
    /// # Errors
    /// As [`SynaDB::append`]; `BatchTooLarge` beyond one frame; `Conflict` where a key was changed
    /// against what the batch [expects](WriteBatch::expect_unchanged_since).
    pub fn commit(&self, batch: &WriteBatch) -> Result<Option<u64>> {
        self.commit_as(None, batch)
    }

    /// As [`SynaDB::commit`], for the owner of a reservation.
    pub(super) fn commit_as(
        &self,
        owner: Option<&Reserved>,
        batch: &WriteBatch,
    ) -> Result<Option<u64>> {
        let engine = self.handle.writable()?;
        batch.check_database(engine)?;
        if owner.is_some_and(|reserved| !reserved.holds(engine)) {
            let reason = "it belongs to the process that began it".to_owned();
            return Err(Error::InvalidArgument { argument: "transaction", reason });
        }
        let borrowed: Vec<_> = batch.changes.iter().map(|(_, change)| change.borrowed()).collect();
        let mut items = Vec::with_capacity(batch.changes.len());
        for ((key, change), value) in batch.changes.iter().zip(&borrowed) {
            let value = match (change, value) {
                (Change::Floats(values), _) => Some(encode_run(values)),
                (Change::Put(_), Some(value)) => Some(value.encode(self.handle.terms.compression)),
                _ => None,
            };
            if let Some(value) = &value {
                check_value(key, value)?;
            }
            items.push(Item { key, value });
        }
        check_frame(&items)?;
        let sealed = match owner {
            // The lock is held anyway.
            Some(_) => Seals::default(),
            None => Seals::apart(engine, &self.handle, &items, &mut |tx| batch.check(tx))?,
        };
        let durability = self.handle.terms.durability;
        engine.transact_as(owner, &self.handle.terms, durability, |transaction| {
            batch.check(transaction)?;
            let seals = sealed.within(transaction, &items)?;
            let mut others = Vec::new();
            for contribution in &batch.contributions {
                contribution.stage(transaction, &mut others)?;
            }
            let mut ops =
                if items.is_empty() { Vec::new() } else { stage(transaction, &items, &seals)? };
            ops.extend(others.iter().map(OwnedOp::as_op));
            if ops.is_empty() {
                return Ok(None);
            }
            transaction.append(&ops)?;
            Ok(Some(transaction.sequence()))
        })
    }
}

/// The common case, without a list: one small value.
fn append_one(transaction: &mut Transaction<'_>, item: &Item<'_>) -> Result<u64> {
    let Some(value) = &item.value else { return Ok(0) };
    let table = table_of(transaction)?;
    let (id, key) = (table.id, item.key.as_bytes());
    let hash = transaction.hash(key);
    let previous = transaction.newest(id, key, hash)?.map_or(0, |record| record.position);
    let op = Op {
        kind: RecordKind::Put,
        tag: value.tag,
        flags: value.flags,
        table: id,
        key,
        hash,
        payload: value.payload.bytes(),
        previous,
    };
    transaction.append(std::slice::from_ref(&op))
}

fn encode_run(values: &[f64]) -> Encoded<'static> {
    let mut bytes = Vec::with_capacity(8 * values.len());
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    Encoded { tag: FLOATS, flags: 0, payload: crate::value::Payload::Owned(bytes) }
}
