//! Batches: several changes that become visible, and survive, together.

use crate::error::Result;
use crate::keys;
use crate::value::Value;

/// Changes that commit together; see [`SynaDB::commit`](super::SynaDB::commit).
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    pub(super) changes: Vec<(String, Change)>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(Value),
    Floats(Vec<f64>),
    Delete,
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

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Drops all changes.
    pub fn clear(&mut self) {
        self.changes.clear();
    }
}
