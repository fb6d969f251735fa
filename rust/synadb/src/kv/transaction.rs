//! Transactions: read, decide and write while nobody else writes.

use std::path::Path;

use super::{SynaDB, WriteBatch};
use crate::db::Reserved;
use crate::error::Result;
use crate::keys;
use crate::kv::batch::Change;
use crate::value::Value;

/// The write lock of a file, from the first read to the commit.
///
/// What is read here is true until the commit; other writers, threads and processes alike, wait as
/// long as their `lock_timeout` says. Readers go on and see nothing of it before the commit.
/// Dropped without one it changes nothing.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let db = synadb::SynaDB::new(directory.path().join("my_data.db"))?;
/// use synadb::Value;
///
/// let mut transaction = db.transaction()?;
/// let count = match transaction.get("count")? {
///     Some(Value::Int(count)) => count,
///     _ => 0,
/// };
/// transaction.put("count", Value::Int(count + 1))?;
/// transaction.commit()?;
/// assert_eq!(db.get("count")?, Some(Value::Int(1)));
/// # Ok(())
/// # }
/// ```
pub struct Transaction {
    database: SynaDB,
    reserved: Reserved,
    batch: WriteBatch,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("len", &self.batch.len()).finish_non_exhaustive()
    }
}

impl SynaDB {
    /// Begins a transaction: waits for the write lock and keeps it.
    ///
    /// Keep it short, and write through it alone: a write past it from the same thread is refused.
    ///
    /// # Errors
    /// `ReadOnly`, `Closed`, `Poisoned`; `Locked` names who kept the lock for longer than
    /// `lock_timeout`.
    pub fn transaction(&self) -> Result<Transaction> {
        let reserved = self.handle.writable()?.reserve(&self.handle.terms)?;
        Ok(Transaction { database: self.clone(), reserved, batch: WriteBatch::new() })
    }

    /// Fails where this thread has a transaction open on the file, as each write past it does.
    ///
    /// For callers that leave a write to another thread and wait for it: there it would wait for
    /// the transaction, and the transaction for it.
    ///
    /// # Errors
    /// `InvalidArgument`; `ReadOnly`, `Closed`, `Poisoned`.
    pub fn check_no_own_transaction(&self) -> Result<()> {
        self.handle.writable()?.check_no_own_transaction()
    }
}

impl Transaction {
    /// The newest value of a key, those put here included.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn get(&self, key: &str) -> Result<Option<Value>> {
        keys::check(key)?;
        match self.changed(key) {
            Some(Change::Put(value)) => Ok(Some(value.clone())),
            Some(Change::Floats(values)) => Ok(values.last().copied().map(Value::Float)),
            Some(Change::Delete) => Ok(None),
            None => self.database.get(key),
        }
    }

    /// Whether a key has a value, those put here included.
    ///
    /// # Errors
    /// As [`SynaDB::get_with`].
    pub fn contains(&self, key: &str) -> Result<bool> {
        keys::check(key)?;
        match self.changed(key) {
            Some(change) => Ok(!matches!(change, Change::Delete)),
            None => self.database.contains(key),
        }
    }

    fn changed(&self, key: &str) -> Option<&Change> {
        let mut changes = self.batch.changes.iter().rev();
        changes.find(|(changed, _)| changed == key).map(|(_, change)| change)
    }

    /// Puts a value when the transaction commits.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn put(&mut self, key: &str, value: Value) -> Result<()> {
        self.batch.put(key, value)
    }

    /// Deletes a key when the transaction commits.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn delete(&mut self, key: &str) -> Result<()> {
        self.batch.delete(key)
    }

    /// The changes so far, to which those of vector stores can be added.
    pub fn batch(&mut self) -> &mut WriteBatch {
        &mut self.batch
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.database.path()
    }

    /// Commits the changes as one and gives the lock back; returns the sequence number of the
    /// commit, `None` where nothing changed.
    ///
    /// # Errors
    /// As [`SynaDB::commit`]; nothing was changed then.
    pub fn commit(self) -> Result<Option<u64>> {
        let Self { database, reserved, batch } = self;
        let committed = database.commit_as(Some(&reserved), &batch);
        drop(reserved);
        committed
    }

    /// Gives the lock back and changes nothing; so does dropping.
    pub fn rollback(self) {}
}
