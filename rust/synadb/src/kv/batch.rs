//! Batches: several changes that become visible, and survive, together.

use std::sync::Arc;

use super::TABLE;
use crate::db::{Contribution, Engine, Transaction};
use crate::error::{Error, Result};
use crate::keys;
use crate::value::{Value, ValueRef};

/// Changes that commit together, of values and of vectors; see
/// [`SynaDB::commit`](super::SynaDB::commit).
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let db = synadb::SynaDB::new(directory.path().join("my_data.db"))?;
/// use synadb::{Error, Value, WriteBatch};
///
/// db.append("stock", Value::Int(3))?;
/// let seen = db.sequence()?;
/// let left = db.get("stock")?.expect("it was stored").as_int().expect("a number");
/// db.append("stock", Value::Int(2))?; // somebody else is faster
///
/// let mut sale = WriteBatch::new();
/// sale.put("stock", Value::Int(left - 1))?;
/// sale.expect_unchanged_since(seen);
/// assert!(matches!(db.commit(&sale), Err(Error::Conflict { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct WriteBatch {
    pub(super) changes: Vec<(String, Change)>,
    pub(super) contributions: Vec<Box<dyn Contribution>>,
    unchanged_since: Option<u64>,
    /// Keys that are not written, but must be as they were read.
    reads: Vec<String>,
    /// Keys with the sequence number of their last change, `None` for no value.
    expected: Vec<(String, Option<u64>)>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(Value),
    Floats(Vec<f64>),
    Delete,
}

impl Change {
    /// The value that is put, borrowed.
    pub fn borrowed(&self) -> Option<ValueRef<'_>> {
        if let Self::Put(value) = self { Some(value.borrowed()) } else { None }
    }
}

impl Clone for WriteBatch {
    fn clone(&self) -> Self {
        Self {
            changes: self.changes.clone(),
            contributions: self.contributions.iter().map(|changes| changes.boxed()).collect(),
            unchanged_since: self.unchanged_since,
            reads: self.reads.clone(),
            expected: self.expected.clone(),
        }
    }
}

impl std::fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteBatch").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn put(&mut self, key: &str, value: Value) -> Result<()> {
        keys::check(key)?;
        self.changes.push((key.to_owned(), Change::Put(value)));
        Ok(())
    }

    /// Adds floats to the history of a key.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn append_floats(&mut self, key: &str, values: &[f64]) -> Result<()> {
        keys::check(key)?;
        if !values.is_empty() {
            self.changes.push((key.to_owned(), Change::Floats(values.to_vec())));
        }
        Ok(())
    }

    /// Deletes a key; one that is absent by then is left alone.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn delete(&mut self, key: &str) -> Result<()> {
        keys::check(key)?;
        self.changes.push((key.to_owned(), Change::Delete));
        Ok(())
    }

    /// The commit fails with `Conflict` if a key of the batch, or one of its
    /// [reads](WriteBatch::read), was changed after the commit `sequence`.
    ///
    /// `sequence` is what [`SynaDB::sequence`](super::SynaDB::sequence) said before the reading. It
    /// fails as well, with `forgotten` in the `Conflict`, if such a key has no value and a
    /// compaction dropped what became of absent keys after `sequence`: that nobody knows any more.
    pub fn expect_unchanged_since(&mut self, sequence: u64) {
        self.unchanged_since = Some(sequence);
    }

    /// Adds a key that is not written, but must not have been changed either.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn read(&mut self, key: &str) -> Result<()> {
        keys::check(key)?;
        self.reads.push(key.to_owned());
        Ok(())
    }

    /// The commit fails with `Conflict` unless the last change of a key is the commit `sequence`,
    /// or, for `None`, if the key has a value.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn expect(&mut self, key: &str, sequence: Option<u64>) -> Result<()> {
        keys::check(key)?;
        self.expected.push((key.to_owned(), sequence));
        Ok(())
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        let others: usize = self.contributions.iter().map(|changes| changes.len()).sum();
        self.changes.len() + others
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all changes and expectations.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The changes that a component has in this batch for one of its tables.
    pub(crate) fn contribution<C: Contribution + 'static>(
        &mut self,
        same_table: impl Fn(&C) -> bool,
        new: impl FnOnce() -> C,
    ) -> &mut C {
        let found = self.contributions.iter().position(|changes| {
            let changes: &dyn std::any::Any = changes.as_any();
            changes.downcast_ref::<C>().is_some_and(&same_table)
        });
        let index = found.unwrap_or_else(|| {
            self.contributions.push(Box::new(new()));
            self.contributions.len() - 1
        });
        let changes = self.contributions[index].as_any_mut().downcast_mut::<C>();
        changes.expect("found, or made, as one of this type")
    }

    /// Fails where vectors of the batch belong to another file.
    pub(super) fn check_database(&self, engine: &Arc<Engine>) -> Result<()> {
        if self.contributions.iter().all(|changes| changes.belongs_to(engine)) {
            return Ok(());
        }
        let reason = "it has changes of a store in another file, or of one that was closed";
        Err(Error::InvalidArgument { argument: "batch", reason: reason.to_owned() })
    }

    /// Fails where a key is not as it was expected to be.
    pub(super) fn check(&self, transaction: &Transaction<'_>) -> Result<()> {
        let Some(table) = transaction.find_table(TABLE) else {
            let Some((key, Some(expected))) = self.expected.iter().find(|(_, s)| s.is_some())
            else {
                return self.check_contributions(transaction);
            };
            let (key, expected) = (key.clone(), Some(*expected));
            return Err(Error::Conflict { key, expected, now: None, forgotten: None });
        };
        for (key, sequence) in &self.expected {
            let now = transaction.last_change(table, key)?;
            if now != *sequence {
                let (key, expected) = (key.clone(), *sequence);
                return Err(Error::Conflict { key, expected, now, forgotten: None });
            }
        }
        if let Some(sequence) = self.unchanged_since {
            let changed = self.changes.iter().map(|(key, _)| key);
            for key in changed.chain(&self.reads) {
                transaction.check_unchanged(table, key, sequence)?;
            }
        }
        self.check_contributions(transaction)
    }

    fn check_contributions(&self, transaction: &Transaction<'_>) -> Result<()> {
        let Some(sequence) = self.unchanged_since else { return Ok(()) };
        let mut contributions = self.contributions.iter();
        contributions.try_for_each(|changes| changes.check_unchanged(transaction, sequence))
    }
}
