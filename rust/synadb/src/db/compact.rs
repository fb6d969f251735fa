//! Rewriting the log without dead records, into a new generation.

use std::sync::Arc;

use synadb_storage::control;
use synadb_storage::directory::Opened;
use synadb_storage::extent::Reservation;
use synadb_storage::identity::{FRAMES_START, Identity, PAGE_BYTES};
use synadb_storage::lock::LockKind;
use synadb_storage::log::{Log, Record, Shape, Writer};
use synadb_storage::record::{Draft, RecordKind};
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};
use synadb_types::TableId;
use synadb_types::limits::{COUNTER_END, SMALL_PAYLOAD_BYTES_MAX};

use super::generation::Passed;
use super::open::{Role, load};
use super::{Engine, Generation, TableInfo};
use crate::config::{Durability, Terms};
use crate::error::Result;

/// Records of one rewritten frame.
const FRAME_RECORDS: usize = 1024;
const FRAME_BYTES: usize = 4 << 20;

/// How to compact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactOptions {
    /// Leave damaged records behind and report them, instead of failing at the first.
    pub skip_damaged: bool,
}

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Bytes of log before.
    pub bytes_before: u64,
    /// Bytes of log after.
    pub bytes_after: u64,
    /// Offset and reason of each damaged record that was left behind.
    pub skipped: Vec<(u64, String)>,
}

/// A new generation in the making.
pub(crate) struct Rewrite<'a> {
    /// The generation that is read.
    pub from: &'a Generation,
    to: Log,
    writer: Writer,
    skip_damaged: bool,
    skipped: Vec<(u64, String)>,
    pending: Vec<Carried>,
    pending_bytes: usize,
    /// The frame of the last record that was asked for.
    last: Option<Passed>,
}

/// A record to be carried over.
pub(crate) struct Carried {
    pub kind: RecordKind,
    pub tag: u8,
    pub flags: u8,
    pub table: TableId,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    /// Sequence number and time of its commit.
    pub origin: (u64, u64),
}

impl Rewrite<'_> {
    /// What was read; where it is damaged it is left behind, or this fails, as was asked for.
    ///
    /// `key` is empty where the damage hides it.
    pub fn intact<T>(&mut self, read: StorageResult<T>, key: &[u8]) -> StorageResult<Option<T>> {
        match read {
            Err(StorageError::Corrupt { offset, reason }) => {
                let name = String::from_utf8_lossy(key);
                let reason =
                    if key.is_empty() { reason } else { format!("key {name:?}: {reason}") };
                if self.skip_damaged {
                    self.skipped.push((offset, reason));
                    return Ok(None);
                }
                Err(StorageError::Corrupt { offset, reason })
            }
            read => read.map(Some),
        }
    }

    /// Sequence number and time of the commit that a record belongs to.
    ///
    /// Where damage hides them, those of the compaction.
    pub fn origin(&mut self, record: &Record<'_>) -> (u64, u64) {
        let found = self.from.commit_behind(&mut self.last, record);
        found.unwrap_or((self.from.sequence(), self.writer.time))
    }

    /// Adds a record; several make a frame.
    pub fn push(&mut self, record: Carried) -> StorageResult<()> {
        let bytes = record.key.len() + record.payload.len() + 64;
        if self.pending_bytes + bytes > FRAME_BYTES || self.pending.len() == FRAME_RECORDS {
            self.flush()?;
        }
        self.pending_bytes += bytes;
        self.pending.push(record);
        Ok(())
    }

    /// Reserves space in the new generation; returns its start.
    pub fn reserve(&mut self, table: TableId, reservation: &Reservation) -> StorageResult<u64> {
        self.flush()?;
        let payload = reservation.encode();
        let draft = Draft {
            kind: RecordKind::Extent,
            tag: 0,
            flags: 0,
            table,
            key: &[],
            previous: 0,
            payload: &payload,
            origin: None,
        };
        let committed = self.write(&[draft], reservation.gap())?;
        Ok(reservation.start(committed))
    }

    /// The bytes of the new generation.
    pub fn region(&self) -> &dyn Region {
        self.to.region()
    }

    fn flush(&mut self) -> StorageResult<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if pending.is_empty() {
            return Ok(());
        }
        let drafts: Vec<Draft<'_>> = pending
            .iter()
            .map(|record| Draft {
                kind: record.kind,
                tag: record.tag,
                flags: record.flags,
                table: record.table,
                key: &record.key,
                previous: 0,
                payload: &record.payload,
                origin: Some(record.origin),
            })
            .collect();
        self.write(&drafts, 0).map(|_| ())
    }

    /// Writes one rewritten frame; returns where its gap begins.
    fn write(&mut self, drafts: &[Draft<'_>], gap: u64) -> StorageResult<u64> {
        let large = drafts.iter().any(|draft| draft.payload.len() > SMALL_PAYLOAD_BYTES_MAX);
        let shape = Shape { records: drafts.len(), large, gap, ..Shape::default() };
        let mut encoder = self.writer.rewriting_encoder(&self.to, shape);
        for draft in drafts {
            encoder.push(draft);
        }
        let image = encoder.finish()?;
        Ok(self.writer.append(&self.to, image)?.head.gap_start())
    }

    fn add_table(&mut self, table: &TableInfo) -> StorageResult<()> {
        self.push(Carried {
            kind: RecordKind::Table,
            tag: 0,
            flags: 0,
            table: TableId(0),
            key: table.name.as_bytes().to_vec(),
            payload: table.encode(),
            origin: (self.from.sequence(), self.writer.time),
        })
    }
}

impl Engine {
    /// Keeps the newest value of each live key only.
    pub fn compact(&self, terms: &Terms, options: CompactOptions) -> Result<CompactionReport> {
        let mut commit = self.lock_to_write(None, terms)?;
        self.enter(&mut commit, terms)?;
        let result = self.replace_log(&mut commit, options);
        self.leave(&mut commit, Durability::Sync)?;
        result
    }

    fn replace_log(
        &self,
        commit: &mut super::engine::Commit,
        options: CompactOptions,
    ) -> Result<CompactionReport> {
        let old = self.generation.load_full();
        let (temporary, created) =
            self.directory.create_beside(&self.path).map_err(|e| self.failure(e))?;
        let rewritten = self.rewrite(commit, &old, Arc::clone(&created.region), options);
        let finished = rewritten.and_then(|rewrite| {
            self.register_beforehand(&created)?;
            old.log.region().publish(control::SUPERSEDED, 1)?;
            self.directory.replace(&temporary, &self.path)?;
            if created.region.publish(control::DIR_SYNCED, 1).is_err() {
                // The next open makes the name durable once more.
            }
            Ok(rewrite)
        });
        let (skipped, bytes_after) = finished.map_err(|error| {
            if self.directory.inode(&self.path).is_ok_and(|inode| inode == created.inode) {
                // The new file has the name, but perhaps not for long: neither may be written to.
                self.poison();
            } else if self.directory.remove(&temporary).is_err() {
                // The next open for writing removes it.
            }
            self.failure(error)
        })?;
        let bytes_before = commit.writer.tail;
        self.move_to(commit, created).map_err(|error| {
            self.poison();
            self.failure(error)
        })?;
        Ok(CompactionReport { bytes_before, bytes_after, skipped })
    }

    /// Nobody who finds the new file may think that it has no writer.
    fn register_beforehand(&self, created: &Opened) -> StorageResult<()> {
        let Some(locks) = &created.locks else { return Ok(()) };
        if self.is_shared() {
            locks.try_shared(LockKind::Registration)?;
        } else {
            locks.try_exclusive(LockKind::Registration)?;
        }
        Ok(())
    }

    /// Goes on in a file that was put in the place of the old one.
    fn move_to(&self, commit: &mut super::engine::Commit, opened: Opened) -> StorageResult<()> {
        let loaded = load(&self.path, &*self.directory, &*self.factory, opened, Role::Beside)?;
        if let Some(locks) = self.locks.load_full() {
            commit.write.release(&*locks.0, self.applied().log.region())?;
        }
        *commit = loaded.commit;
        self.locks.store(loaded.locks.map(Arc::new));
        self.generation.store(Arc::new(loaded.generation));
        Ok(())
    }

    fn rewrite(
        &self,
        commit: &super::engine::Commit,
        old: &Generation,
        region: Arc<dyn Region>,
        options: CompactOptions,
    ) -> StorageResult<(Vec<(u64, String)>, u64)> {
        let identity = Identity {
            generation: old.log.identity().generation + 1,
            horizon: commit.writer.sequence,
            ..*old.log.identity()
        };
        if identity.generation.max(identity.horizon) >= COUNTER_END {
            return Err(StorageError::corrupt(0, "no generation is left behind this one"));
        }
        region.allocate(FRAMES_START + PAGE_BYTES)?;
        region.store(0, &identity.page())?;
        let to = Log::new(region, identity);
        let writer = Writer::new(FRAMES_START, 0, 0, commit.writer.time, commit.writer.sequence);
        let mut rewrite = Rewrite {
            from: old,
            to,
            writer,
            skip_damaged: options.skip_damaged,
            skipped: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            last: None,
        };
        // Every table keeps its number, also one without a live key.
        for table in old.tables() {
            rewrite.add_table(&table.info)?;
        }
        rewrite.flush()?;
        for table in old.tables() {
            if let Some(view) = commit.views.get(&table.info.id) {
                self.factory.carry(&**view, &table.info, &mut rewrite)?;
                rewrite.flush()?;
            }
        }
        let tail = rewrite.writer.tail;
        let region = rewrite.to.region();
        region.publish(
            control::SYNCED,
            control::pack_synced(tail, &rewrite.to.identity().database_id),
        )?;
        region.publish(control::HOLDER, control::holder_word())?;
        region.sync()?;
        Ok((rewrite.skipped, tail))
    }
}
