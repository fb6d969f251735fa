//! The owner of every offset: one generation of the file, its map and its views.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use synadb_storage::frame::Head;
use synadb_storage::identity::FRAMES_START;
use synadb_storage::log::{Log, Record};
use synadb_storage::{Result, StorageError};
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
    /// Frames far apart, to find the sequence number and time of any position.
    milestones: AppendVec<Milestone>,
}

/// A frame with its sequence number: that of the commit, or of the last one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Milestone {
    pub position: u64,
    pub sequence: u64,
    pub time: u64,
}

/// The frame that a record was found in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    frame: Milestone,
    end: u64,
}

/// Bytes of log for which there is one milestone.
const MILESTONE_BYTES: u64 = 16 << 10;

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
            milestones: AppendVec::default(),
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
        // In this order: what is read behind a look at the sequence number is no older than it, or
        // a batch that expects nothing newer would overwrite what its reader never saw.
        self.visible.store(position, Ordering::Release);
        self.sequence.store(sequence, Ordering::Release);
    }

    /// Remembers a frame of the log if it is far enough from the last one remembered.
    #[inline]
    pub fn note(&self, head: &Head, sequence: u64) {
        let last = self.milestones.len().checked_sub(1).and_then(|i| self.milestones.get(i));
        if last.is_none_or(|last| head.offset >= last.position + MILESTONE_BYTES) {
            let (position, time) = (head.offset, head.time);
            self.milestones.push(Milestone { position, sequence, time });
        }
    }

    /// Takes over what a checkpoint has saved.
    pub fn add_milestone(&self, milestone: Milestone) {
        self.milestones.push(milestone);
    }

    pub fn milestones(&self) -> impl Iterator<Item = &Milestone> {
        self.milestones.iter()
    }

    /// Sequence number and time of the commit that a record belongs to.
    ///
    /// Walks the frames of 16 KiB of log at most.
    ///
    /// # Errors
    /// `Corrupt` where a frame on the way is damaged.
    pub fn commit_of(&self, record: &Record<'_>) -> Result<(u64, u64)> {
        self.commit_behind(&mut None, record)
    }

    /// As `commit_of`, for records in order of their positions: goes on from `last`, the frame of
    /// the record before.
    ///
    /// A frame is read once for all of its records: it may be long, and reading verifies it.
    pub fn commit_behind(
        &self,
        last: &mut Option<Passed>,
        record: &Record<'_>,
    ) -> Result<(u64, u64)> {
        if let Some(origin) = record.origin {
            return Ok(origin);
        }
        let behind = last.filter(|last| last.frame.position <= record.position);
        if let Some(Passed { frame, .. }) = behind.filter(|last| record.position < last.end) {
            return Ok((frame.sequence, frame.time));
        }
        let near = behind
            .map(|last| last.frame)
            .filter(|frame| record.position < frame.position + MILESTONE_BYTES);
        let start = near.or_else(|| self.milestone_before(record.position));
        let (mut at, mut sequence) = match start {
            Some(milestone) => (milestone.position, milestone.sequence),
            None => (FRAMES_START, self.log.identity().horizon),
        };
        let mut known = start.is_some();
        while at < self.visible() {
            let unread = || StorageError::corrupt(at, "a frame on the way to a record");
            let head = self.log.frame(at)?.ok_or_else(unread)?;
            sequence += u64::from(!known && head.counts());
            known = false;
            if record.position < head.end() {
                let frame = Milestone { position: at, sequence, time: head.time };
                *last = Some(Passed { frame, end: head.end() });
                return Ok((sequence, head.time));
            }
            at = head.next();
        }
        Err(StorageError::corrupt(record.position, "a record behind all frames"))
    }

    fn milestone_before(&self, position: u64) -> Option<Milestone> {
        let (mut from, mut to) = (0, self.milestones.len());
        while from < to {
            let middle = u64::midpoint(from, to);
            let before = self.milestones.get(middle).is_some_and(|m| m.position <= position);
            if before { from = middle + 1 } else { to = middle }
        }
        self.milestones.get(from.checked_sub(1)?).copied()
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
