//! Rewriting the log without dead records, into a new generation.

use std::sync::Arc;

use synadb_storage::control;
use synadb_storage::extent::Reservation;
use synadb_storage::identity::{FRAMES_START, Identity, PAGE_BYTES};
use synadb_storage::lock::{LockFile, LockKind};
use synadb_storage::log::{Log, Writer};
use synadb_storage::record::{Draft, RecordKind};
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};
use synadb_types::TableId;
use synadb_types::limits::SMALL_PAYLOAD_BYTES_MAX;

use super::open::load;
use super::{Engine, Generation, TableInfo};
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
}

/// A record to be carried over.
pub(crate) struct Carried {
    pub kind: RecordKind,
    pub tag: u8,
    pub flags: u8,
    pub table: TableId,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
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
        let origin = Some((self.from.sequence(), self.writer.time + 1));
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
                origin,
            })
            .collect();
        self.write(&drafts, 0).map(|_| ())
    }

    /// Writes one rewritten frame; returns where its gap begins.
    fn write(&mut self, drafts: &[Draft<'_>], gap: u64) -> StorageResult<u64> {
        let large = drafts.iter().any(|draft| draft.payload.len() > SMALL_PAYLOAD_BYTES_MAX);
        let mut encoder = self.writer.rewriting_encoder(&self.to, drafts.len(), large, gap);
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
        })
    }
}

impl Engine {
    /// Keeps the newest value of each live key only.
    pub fn compact(&self, options: CompactOptions) -> Result<CompactionReport> {
        let mut commit = self.lock_commit()?;
        let old = self.generation.load_full();
        let (temporary, region) =
            self.directory.create_beside(&self.path).map_err(|e| self.failure(e))?;
        let rewritten = self.rewrite(&commit, &old, Arc::clone(&region), options);
        let finished = rewritten.and_then(|rewrite| {
            old.log.region().publish(control::SUPERSEDED, 1)?;
            self.directory.replace(&temporary, &self.path)?;
            region.publish(control::DIR_SYNCED, 1)?;
            Ok(rewrite)
        });
        let (skipped, bytes_after) = finished.map_err(|error| {
            if self.directory.remove(&temporary).is_err() {
                // The next open for writing removes it.
            }
            self.failure(error)
        })?;
        let bytes_before = commit.writer.tail;
        let moved = self.move_over(&mut commit).map_err(|error| {
            self.poison();
            self.failure(error)
        })?;
        self.generation.store(Arc::new(moved));
        Ok(CompactionReport { bytes_before, bytes_after, skipped })
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

    /// Opens the new file in the place of the old one.
    fn move_over(&self, commit: &mut super::engine::Commit) -> StorageResult<Generation> {
        let opened = self.directory.open(&self.path, true, false)?;
        if let Some(locks) = &opened.locks {
            take_over(locks)?;
        }
        let (generation, fresh, _) =
            load(&self.path, &*self.directory, &*self.factory, opened, true)?;
        if let Some(locks) = &fresh.opened.locks {
            locks.unlock(LockKind::Open)?;
        }
        *commit = fresh;
        Ok(generation)
    }

    /// Moves a reader to what has been committed since; false where nothing was.
    pub fn refresh(&self) -> Result<bool> {
        if self.writes {
            return Ok(false);
        }
        let mut commit = self.lock_commit()?;
        let old = self.generation.load_full();
        let replaced =
            self.directory.inode(&self.path).map_err(|e| self.failure(e))? != commit.opened.inode;
        let unborn = old.log.identity().database_id == [0; 16];
        if replaced || unborn {
            let reopen = || {
                let opened = self.directory.open(&self.path, false, false)?;
                load(&self.path, &*self.directory, &*self.factory, opened, false)
            };
            let (generation, fresh, report) = reopen().map_err(|e| self.failure(e))?;
            let moved = replaced || generation.visible() != old.visible();
            *commit = fresh;
            *self.recovery.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = report;
            self.generation.store(Arc::new(generation));
            return Ok(moved);
        }
        let before = commit.writer.tail;
        commit.follow(&old, &*self.factory).map_err(|e| self.failure(e))?;
        Ok(commit.writer.tail != before)
    }
}

/// The new file's locks, before anybody else can see it free.
fn take_over(locks: &LockFile) -> StorageResult<()> {
    for kind in [LockKind::Open, LockKind::Registration] {
        let mut tries = 0;
        while !locks.try_exclusive(kind)? {
            tries += 1;
            if tries > 5000 {
                return Err(StorageError::Locked { pid: 0 });
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(())
}

impl super::engine::Commit {
    /// Applies what another process has published since.
    fn follow(
        &mut self,
        generation: &Generation,
        factory: &dyn super::ViewFactory,
    ) -> StorageResult<()> {
        generation.log.region().refresh()?;
        loop {
            let at = self.writer.tail;
            let Ok(found) = generation.log.frame(at) else {
                // Torn by a dead writer, or growing right now: what was seen so far stays.
                generation.log.region().refresh()?;
                match generation.log.frame(at) {
                    Ok(Some(_)) => continue,
                    _ => break,
                }
            };
            let Some(head) = found else { break };
            if head.link != self.writer.link {
                break;
            }
            self.apply(generation, factory, &head)?;
            self.step_over(&head);
        }
        self.publish(generation);
        Ok(())
    }
}
