//! The owner of every offset: one generation of the file, its map and its views.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use synadb_storage::log::Log;
use synadb_types::TableId;

use super::TableInfo;
use crate::keys::AppendVec;

/// What readers hold: snapshots and arrays keep theirs across a compaction.
pub(crate) struct Generation {
    pub log: Log,
    /// Seed of the key hashes.
    pub hash_seed: u64,
    visible: AtomicU64,
    sequence: AtomicU64,
    synced: AtomicU64,
    tables: AppendVec<Table>,
}

/// A table with the readers' half of its view.
pub(crate) struct Table {
    pub info: Arc<TableInfo>,
    reader: Arc<dyn Any + Send + Sync>,
    live: AtomicU64,
}

impl Table {
    /// Number of keys that were alive when the last commit became visible.
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    pub fn set_live(&self, live: u64) {
        if self.live.load(Ordering::Relaxed) != live {
            self.live.store(live, Ordering::Release);
        }
    }

    /// The readers' half, as the component knows it.
    pub fn reader<R: Any + Send + Sync>(&self) -> Option<&R> {
        self.reader.downcast_ref()
    }

    /// The readers' half, shared.
    pub fn shared_reader<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        Arc::clone(&self.reader).downcast().ok()
    }
}

impl Generation {
    pub fn new(log: Log) -> Self {
        let id = log.identity().database_id;
        let hash_seed = u64::from_le_bytes(std::array::from_fn(|i| id[i]));
        Self {
            log,
            hash_seed,
            visible: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            tables: AppendVec::default(),
        }
    }

    /// Everything before this position can be seen.
    #[inline]
    pub fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    /// Sequence number of the last visible commit.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Makes all before `position` visible; the views have applied it.
    pub fn publish(&self, position: u64, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
        self.visible.store(position, Ordering::Release);
    }

    /// Everything before this position is known to be on the medium.
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub fn raise_synced(&self, position: u64) {
        self.synced.fetch_max(position, Ordering::AcqRel);
    }

    pub fn add_table(&self, info: Arc<TableInfo>, reader: Arc<dyn Any + Send + Sync>) {
        self.tables.push(Table { info, reader, live: AtomicU64::new(0) });
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.info.name == name)
    }

    /// The table of that number.
    pub fn table_by_id(&self, id: TableId) -> Option<&Table> {
        // Tables get their numbers in order, from 1.
        self.tables.get(u64::from(id.0).checked_sub(1)?)
    }

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// Hash of a key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        crate::keys::hash(key, self.hash_seed)
    }
}
