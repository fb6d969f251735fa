//! Vectors that commit together with values, and with vectors of other stores.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use synadb_storage::record::RecordKind;

use super::VectorStore;
use crate::db::{Contribution, Engine, OwnedOp, Transaction};
use crate::error::Result;
use crate::keys;
use crate::kv::WriteBatch;

/// Changes of one store in a batch.
#[derive(Clone)]
struct Changes {
    store: VectorStore,
    /// In order; whether there is a vector for the key, or it is removed.
    keys: Vec<(String, bool)>,
    /// The vectors, row-major.
    rows: Vec<f32>,
}

impl VectorStore {
    /// Adds a vector to a batch: [`SynaDB::commit`](crate::SynaDB::commit) stores it with the rest.
    ///
    /// # Errors
    /// `Dimension`, `InvalidVector`, `EmptyKey`, `KeyTooLong`.
    pub fn insert_in(&self, batch: &mut WriteBatch, key: &str, vector: &[f32]) -> Result<()> {
        self.check_dimensions("Vector", vector.len())?;
        keys::check(key)?;
        self.check_finite(&[key], vector)?;
        let changes = self.changes_in(batch);
        changes.keys.push((key.to_owned(), true));
        changes.rows.extend_from_slice(vector);
        Ok(())
    }

    /// Adds the deletion of a vector to a batch; that of an absent key changes nothing.
    ///
    /// # Errors
    /// `EmptyKey`, `KeyTooLong`.
    pub fn remove_in(&self, batch: &mut WriteBatch, key: &str) -> Result<()> {
        keys::check(key)?;
        self.changes_in(batch).keys.push((key.to_owned(), false));
        Ok(())
    }

    fn changes_in<'a>(&self, batch: &'a mut WriteBatch) -> &'a mut Changes {
        let same = |changes: &Changes| {
            changes.store.table == self.table && changes.store.path() == self.path()
        };
        let new = || Changes { store: self.clone(), keys: Vec::new(), rows: Vec::new() };
        batch.contribution(same, new)
    }
}

impl Contribution for Changes {
    fn stage(&self, transaction: &mut Transaction<'_>, staged: &mut Vec<OwnedOp>) -> Result<()> {
        let table = self.store.table_info(transaction)?.id;
        let inserted: Vec<&str> =
            self.keys.iter().filter(|(_, vector)| *vector).map(|(key, _)| &**key).collect();
        let payloads = self.store.place(transaction, table, &inserted, &self.rows)?;
        let mut payloads = payloads.into_iter();
        let mut alive: HashMap<&str, bool> = HashMap::new();
        for (key, vector) in &self.keys {
            let name = key.as_bytes();
            let hash = transaction.hash(name);
            let newest = transaction.newest(table, name, hash)?;
            let known = newest.as_ref().is_some_and(|record| record.kind == RecordKind::Row);
            let known = alive.insert(key, *vector).unwrap_or(known);
            let payload = if *vector { payloads.next() } else { None };
            if payload.is_none() && !known {
                continue;
            }
            staged.push(OwnedOp {
                kind: if payload.is_some() { RecordKind::Row } else { RecordKind::Delete },
                table,
                key: name.to_vec(),
                hash,
                payload: payload.map_or_else(Vec::new, |payload| payload.to_vec()),
                previous: newest.map_or(0, |record| record.position),
            });
        }
        Ok(())
    }

    fn check_unchanged(&self, transaction: &Transaction<'_>, sequence: u64) -> Result<()> {
        let Some(table) = transaction.find_table(&self.store.table) else { return Ok(()) };
        self.keys.iter().try_for_each(|(key, _)| transaction.check_unchanged(table, key, sequence))
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn belongs_to(&self, engine: &Arc<Engine>) -> bool {
        self.store.handle.open().is_ok_and(|found| Arc::ptr_eq(found, engine))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn boxed(&self) -> Box<dyn Contribution> {
        Box::new(self.clone())
    }
}
