//! Reading keys, values and histories.

use synadb_storage::log::Record;

use super::history::{float_records, points_of, walk};
use super::{KvReader, SynaDB, TABLE};
use crate::db::Generation;
use crate::error::{Error, Result};
use crate::glob::Pattern;
use crate::keys;
use crate::value::{self, Value, ValueRef};

/// The newest visible record of a key, and where it was found.
struct Found<'a> {
    generation: &'a Generation,
    reader: &'a KvReader,
    /// Everything before this position was visible when the record was looked up.
    visible: u64,
    record: Record<'a>,
}

impl SynaDB {
    /// Runs `read` with the table, or returns what an empty one gives.
    #[inline]
    fn with_table<R>(
        &self,
        empty: impl FnOnce() -> R,
        read: impl FnOnce(&Generation, &KvReader) -> Result<R>,
    ) -> Result<R> {
        let engine = self.handle.open()?;
        let generation = engine.current()?;
        match generation.table(TABLE).and_then(|table| table.reader::<KvReader>()) {
            Some(reader) => read(&generation, reader),
            None => Ok(empty()),
        }
    }

    fn failure(&self, key: &str, error: synadb_storage::StorageError) -> Error {
        self.handle.failure(error).for_key(key.as_bytes())
    }

    /// The newest visible record of a key, handed to `read`.
    #[inline]
    fn with_record<R>(
        &self,
        key: &str,
        read: impl FnOnce(Option<Found<'_>>) -> Result<R>,
    ) -> Result<R> {
        keys::check(key)?;
        let engine = self.handle.open()?;
        let generation = engine.current()?;
        let table = generation.table(TABLE).and_then(|table| table.reader::<KvReader>());
        let Some(reader) = table else { return read(None) };
        let (visible, hash) = (generation.visible(), generation.hash(key.as_bytes()));
        let found = reader.keys.get(&generation.log, key.as_bytes(), hash, visible);
        let found = found.map_err(|error| self.failure(key, error))?;
        read(found.map(|record| Found { generation: &generation, reader, visible, record }))
    }

    fn decoded<'a>(&self, record: &Record<'a>) -> Result<ValueRef<'a>> {
        let fail = |error| self.handle.failure(error).for_key(record.key);
        let bytes = record.value().map_err(fail)?;
        value::decode(record.tag, record.flags, bytes).ok_or_else(|| {
            let reason = "a value that its type cannot be read from";
            fail(synadb_storage::StorageError::corrupt(record.position, reason))
        })
    }

    /// The newest value of a key through `read`, which borrows it from the mapped log.
    ///
    /// Expected O(1), whatever the number of versions.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`, `Closed`, `Corruption` by key and offset.
    #[inline]
    pub fn get_with<R>(
        &self,
        key: &str,
        read: impl FnOnce(Option<ValueRef<'_>>) -> R,
    ) -> Result<R> {
        self.with_record(key, |found| {
            let value = found.map(|found| self.decoded(&found.record)).transpose()?;
            Ok(read(value))
        })
    }

    /// The newest value of a key; `None` where it is absent or deleted.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn get(&self, key: &str) -> Result<Option<Value>> {
        self.get_with(key, |value| value.map(|value| value.to_owned()))
    }

    /// Sequence number of the last commit that this handle sees.
    ///
    /// # Errors
    /// `Closed`, `Corruption`.
    pub fn sequence(&self) -> Result<u64> {
        Ok(self.handle.open()?.current()?.sequence())
    }

    /// Sequence number of the commit that gave a key its newest value; `None` where it has none.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn version(&self, key: &str) -> Result<Option<u64>> {
        self.with_record(key, |found| {
            let Some(Found { generation, record, .. }) = found else { return Ok(None) };
            let (sequence, _) = generation.commit_of(&record).map_err(|e| self.failure(key, e))?;
            Ok(Some(sequence))
        })
    }

    /// All values of a key since its last delete, oldest first.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn get_history(&self, key: &str) -> Result<Vec<Value>> {
        self.with_record(key, |found| {
            let Some(Found { generation, record, .. }) = found else { return Ok(Vec::new()) };
            let records = walk(&generation.log, record).map_err(|e| self.failure(key, e))?;
            let mut values = Vec::with_capacity(records.len());
            for record in records.iter().rev() {
                let run = record.value().map_err(|e| self.failure(key, e))?;
                match value::run_points(record.tag, run) {
                    Some(points) => values.extend(points.into_iter().map(Value::Float)),
                    None => values.push(self.decoded(record)?.to_owned()),
                }
            }
            Ok(values)
        })
    }

    /// The floats of a key since its last delete, oldest first; other types are passed over.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn get_history_floats(&self, key: &str) -> Result<Vec<f64>> {
        self.with_record(key, |found| {
            let Some(found) = found else { return Ok(Vec::new()) };
            let (log, histories) = (&found.generation.log, &found.reader.histories);
            let read = || {
                let hash = found.generation.hash(key.as_bytes());
                let points = histories.read(log, key.as_bytes(), hash, found.visible)?;
                points.map_or_else(|| points_of(&float_records(log, found.record)?), Ok)
            };
            read().map_err(|error| self.failure(key, error))
        })
    }

    /// Whether a key has a value; false for what cannot be a key and for a closed handle.
    #[must_use]
    pub fn exists(&self, key: &str) -> bool {
        self.contains(key).unwrap_or(false)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn contains(&self, key: &str) -> Result<bool> {
        self.with_record(key, |found| Ok(found.is_some()))
    }

    /// All live keys, sorted; empty for a closed handle.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.keys_matching(&Pattern::All).unwrap_or_default()
    }

    /// Live keys that a pattern matches, sorted.
    ///
    /// # Errors
    /// `Closed`, `Corruption`.
    pub fn keys_matching(&self, pattern: &Pattern) -> Result<Vec<String>> {
        self.with_table(Vec::new, |generation, reader| {
            let mut found = Vec::new();
            let mut take = |record: Record<'_>| {
                if let Ok(key) = std::str::from_utf8(record.key)
                    && pattern.matches(key)
                {
                    found.push(key.to_owned());
                }
            };
            let prefix = pattern.prefix().as_bytes();
            let (seed, visible) = (generation.hash_seed, generation.visible());
            let scanned = reader.keys.scan(&generation.log, seed, prefix, visible, &mut take);
            scanned.map_err(|error| self.handle.failure(error))?;
            Ok(found)
        })
    }

    /// Number of live keys; 0 for a closed handle.
    #[must_use]
    pub fn len(&self) -> usize {
        let Ok(engine) = self.handle.open() else { return 0 };
        let Ok(generation) = engine.current() else { return 0 };
        generation.table(TABLE).map_or(0, |table| table.live() as usize)
    }

    /// Whether there is no live key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
