//! Values too large for a frame: reserved, filled without the write lock, committed by their seals.

use std::sync::Arc;

use synadb_storage::extent::{Reservation, SEAL_BYTES, fill, sealed_bytes};
use synadb_types::limits::INLINE_VALUE_BYTES_MAX;

use super::write::{Item, table_of};
use crate::config::Durability;
use crate::db::{Engine, Generation, Handle, Transaction};
use crate::error::Result;

/// The seals of some items of a commit, and the generation in which their values lie.
#[derive(Default)]
pub(super) struct Seals {
    generation: Option<Arc<Generation>>,
    /// By number of the item; empty where no value is large.
    seals: Vec<Option<[u8; SEAL_BYTES]>>,
}

impl Seals {
    /// The payload that stands for a large value.
    pub fn of(&self, index: usize) -> Option<&[u8]> {
        self.seals.get(index)?.as_ref().map(|seal| &seal[..])
    }

    /// Stores the large values; other writers go on meanwhile.
    ///
    /// `check` runs before space is reserved, so that a commit bound to fail takes none.
    pub fn apart(
        engine: &Engine,
        handle: &Handle,
        items: &[Item<'_>],
        check: &mut dyn FnMut(&Transaction<'_>) -> Result<()>,
    ) -> Result<Self> {
        if !items.iter().any(is_large) {
            return Ok(Self::default());
        }
        let reserved = engine.transact(&handle.terms, Durability::Process, |transaction| {
            check(transaction)?;
            let starts = reserve(transaction, items)?;
            Ok((Arc::clone(transaction.generation()), starts))
        });
        let (generation, starts) = reserved?;
        let seals = fill_all(&generation, items, &starts);
        let seals = seals.map_err(|error| engine.failure(error))?;
        Ok(Self { generation: Some(generation), seals })
    }

    /// These seals if they are of the transaction's generation, new ones if it has moved on.
    pub fn within(self, transaction: &mut Transaction<'_>, items: &[Item<'_>]) -> Result<Self> {
        let large = items.iter().filter(|item| is_large(item));
        transaction.vouch_for(large.map(|item| item.value_bytes() as u64).sum());
        let current = Arc::clone(transaction.generation());
        let fits = self.generation.as_ref().is_some_and(|found| Arc::ptr_eq(found, &current));
        if fits || !items.iter().any(is_large) {
            return Ok(self);
        }
        let starts = reserve(transaction, items)?;
        let seals = fill_all(&current, items, &starts).map_err(|e| transaction.failure(e))?;
        Ok(Self { generation: Some(current), seals })
    }
}

fn is_large(item: &Item<'_>) -> bool {
    item.value_bytes() > INLINE_VALUE_BYTES_MAX
}

/// Where each large value goes.
fn reserve(transaction: &mut Transaction<'_>, items: &[Item<'_>]) -> Result<Vec<Option<u64>>> {
    let table = table_of(transaction)?;
    let mut starts = Vec::with_capacity(items.len());
    for item in items {
        let bytes = sealed_bytes(item.value_bytes() as u64);
        let reservation = Reservation { bytes, align: 64, first_row: 0, rows: 0 };
        let large = is_large(item);
        starts.push(large.then(|| transaction.reserve(table.id, &reservation, 0)).transpose()?);
    }
    Ok(starts)
}

fn fill_all(
    generation: &Generation,
    items: &[Item<'_>],
    starts: &[Option<u64>],
) -> synadb_storage::Result<Vec<Option<[u8; SEAL_BYTES]>>> {
    let region = generation.log.region();
    let fill_one = |(item, start): (&Item<'_>, &Option<u64>)| {
        let Some((start, value)) = start.zip(item.value.as_ref()) else { return Ok(None) };
        fill(region, start, value.payload.bytes()).map(|seal| Some(seal.encode()))
    };
    items.iter().zip(starts).map(fill_one).collect()
}
