//! Writing and adopting checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use synadb_storage::directory::{CHECKPOINT, Directory, is_checkpoint};
use synadb_storage::frame::Head;
use synadb_storage::identity::FRAMES_START;
use synadb_storage::lock::LockKind;
use synadb_storage::log::{Log, Start};
use synadb_storage::{Result as StorageResult, StorageError};
use synadb_types::TableId;

use super::engine::Commit;
use super::generation::Milestone;
use super::open::{LOCK_POLL, open_checkpoint};
use super::view::{TableView, ViewFactory};
use super::{Engine, Generation, TableInfo};
use crate::config::Terms;
use crate::error::{Error, Result};
use crate::sections::{Checkpoint, SectionWriter, implausible};

/// Section with the catalogue, under table 0.
const CATALOG: u32 = 1;
/// Section with the sequence numbers and times of frames, under table 0.
const MILESTONES: u32 = 2;
/// No log ends here: there is no checkpoint of this position.
const NOWHERE: u64 = 0;
/// A tail shorter than this replays faster than a checkpoint is written.
pub(super) const WORTH_BYTES: u64 = 1 << 20;

/// The checkpoint's file beside the log.
pub(crate) fn path_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(CHECKPOINT);
    PathBuf::from(name)
}

/// Whether the log holds, where the checkpoint says, the frame that the checkpoint was bound to.
pub(crate) fn fits(log: &Log, start: &Start) -> bool {
    if start.last_frame == 0 {
        return start.position == FRAMES_START && start.link == 0;
    }
    let region = log.region();
    let Some(word) = region.load(start.last_frame) else { return false };
    let left = region.len().saturating_sub(start.last_frame).min(36) as usize;
    let head = region.bytes(start.last_frame, left);
    let head = head.and_then(|bytes| Head::decode(log.seed(), start.last_frame, word, bytes));
    head.is_some_and(|head| {
        head.crc == start.link && head.next() == start.position && head.time == start.time
    })
}

impl Engine {
    /// Saves the views as they are now, with what other processes have committed.
    pub fn checkpoint(&self, terms: &Terms) -> Result<()> {
        self.checkpoint_once(terms, false)
    }

    /// As `checkpoint`, though nothing was committed since the last one: what the log does not
    /// hold has changed.
    pub fn checkpoint_anew(&self, terms: &Terms) -> Result<()> {
        self.checkpoint_once(terms, true)
    }

    fn checkpoint_once(&self, terms: &Terms, is_anew: bool) -> Result<()> {
        let deadline = terms.deadline();
        loop {
            self.current()?;
            let mut commit = self.lock_commit()?;
            let generation = self.generation.load_full();
            if is_anew {
                commit.checkpointed = NOWHERE;
            }
            if self.write_checkpoint(&mut commit, &generation)? {
                return Ok(());
            }
            drop(commit);
            if terms.is_interrupted() {
                return Err(Error::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(Error::Busy { path: self.path.clone(), what: "saved" });
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// After a commit, which stands whatever becomes of the checkpoint.
    ///
    /// The log has it all; the next attempt comes when as much again was written.
    pub(super) fn checkpoint_behind(&self, commit: &mut Commit, generation: &Generation) {
        self.count_that_of_others(commit, generation);
        if self.checkpoint_due(commit)
            && !self.write_checkpoint(commit, generation).unwrap_or_default()
        {
            commit.put_off_at = commit.unsaved_bytes;
        }
    }

    /// What another process has saved need not be saved again.
    fn count_that_of_others(&self, commit: &mut Commit, generation: &Generation) {
        let beside = self.checkpoint_beside(generation).filter(|_| self.is_shared());
        let Some((position, _)) = beside.filter(|found| found.0 > commit.checkpointed) else {
            return;
        };
        let behind = commit.writer.tail.saturating_sub(position).min(commit.unsaved_bytes);
        commit.checkpointed = position;
        commit.saved_bytes += commit.unsaved_bytes - behind;
        commit.unsaved_bytes = behind;
        commit.put_off_at = commit.put_off_at.min(behind);
    }

    /// At close: only where something changed, and not while the tail is small.
    pub(super) fn checkpoint_if_worth_it(
        &self,
        commit: &mut Commit,
        generation: &Generation,
    ) -> Result<()> {
        if commit.unsaved_bytes < WORTH_BYTES {
            return Ok(());
        }
        match self.write_checkpoint(commit, generation) {
            // What is somebody else's stays; the log has it all.
            Ok(_) | Err(Error::Exists { .. }) => Ok(()),
            // Without space the next opening takes longer, and that is all: unless it was the log
            // itself that could not be synced.
            Err(Error::DiskFull { .. }) if self.check_poison().is_ok() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes one unless there is one of this position; false while another process writes one.
    pub(super) fn write_checkpoint(
        &self,
        commit: &mut Commit,
        generation: &Generation,
    ) -> Result<bool> {
        if commit.checkpointed == commit.writer.tail {
            return Ok(true);
        }
        let locks = self.locks.load_full().filter(|_| self.is_shared());
        let Some(locks) = locks else {
            return self.write_checkpoint_alone(commit, generation).map(|()| true);
        };
        let fail = |error| self.failure(error);
        if !locks.0.try_exclusive(LockKind::Checkpoint).map_err(fail)? {
            return Ok(false);
        }
        let written = self.write_checkpoint_alone(commit, generation);
        locks.0.unlock(LockKind::Checkpoint).map_err(fail)?;
        match written {
            // Who works on a new file takes for a leftover what is in the making beside an old one.
            Err(_) if self.was_replaced(commit).unwrap_or(false) => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn write_checkpoint_alone(&self, commit: &mut Commit, generation: &Generation) -> Result<()> {
        let tail = commit.writer.tail;
        self.check_checkpoint_place(generation)?;
        self.sync_to(generation, tail)?;
        self.adopt_saved(commit, generation);
        self.save(commit, generation).map_err(|error| self.failure(error))?;
        commit.checkpointed = tail;
        commit.saved_bytes += commit.unsaved_bytes;
        commit.unsaved_bytes = 0;
        commit.put_off_at = 0;
        Ok(())
    }

    /// Fails where something that is no checkpoint has the checkpoint's name.
    pub(super) fn check_checkpoint_place(&self, generation: &Generation) -> Result<()> {
        let path = path_of(&self.path);
        if self.directory.inode(&path).is_err() {
            return Ok(());
        }
        let id = generation.log.identity().database_id;
        let is_ours = self.directory.head(&path).is_ok_and(|head| is_checkpoint(&head, &id));
        if is_ours { Ok(()) } else { Err(Error::Exists { path }) }
    }

    /// Takes over what other processes have saved and the log does not hold: indexes.
    pub(super) fn adopt_saved(&self, commit: &Commit, generation: &Generation) {
        let beside = open_checkpoint(&self.path, &*self.directory, &generation.log);
        let tail = commit.writer.tail;
        let beside = beside.filter(|found| found.start.position <= tail);
        if let Some(checkpoint) = beside {
            commit.views.iter().for_each(|(id, view)| view.adopt(&checkpoint.table(id.0)));
        }
    }

    /// Takes over what other processes have saved, as if a checkpoint were written.
    pub fn take_over_saved(&self) -> Result<()> {
        self.current()?;
        let commit = self.lock_commit()?;
        self.adopt_saved(&commit, &self.generation.load_full());
        Ok(())
    }

    fn save(&self, commit: &Commit, generation: &Generation) -> StorageResult<()> {
        let saving = Saving::begin(&*self.directory, &self.path, commit, generation)?;
        saving.finish(generation, commit.writer.sequence)?;
        commit.views.values().for_each(|view| view.keep_as_saved());
        Ok(())
    }
}

/// A checkpoint in the making; dropped before it is finished, it leaves nothing behind.
pub(super) struct Saving<'a> {
    directory: &'a dyn Directory,
    target: PathBuf,
    temporary: Option<PathBuf>,
    out: SectionWriter,
    start: Start,
}

impl<'a> Saving<'a> {
    /// Saves the views as they are now.
    pub fn begin(
        directory: &'a dyn Directory,
        path: &Path,
        commit: &Commit,
        generation: &Generation,
    ) -> StorageResult<Self> {
        let (temporary, created) = directory.create_beside(path)?;
        let writer = &commit.writer;
        let start = Start {
            position: writer.tail,
            link: writer.link,
            last_frame: writer.last_frame,
            time: writer.time,
        };
        let (target, out) = (path_of(path), SectionWriter::new(created.region));
        let mut saving = Self { directory, target, temporary: Some(temporary), out, start };
        saving.views(commit, generation)?;
        Ok(saving)
    }

    fn views(&mut self, commit: &Commit, generation: &Generation) -> StorageResult<()> {
        let mut catalog = Vec::new();
        for table in generation.tables() {
            for part in [table.info.name.as_bytes(), &table.info.encode()] {
                catalog.extend_from_slice(&(part.len() as u32).to_le_bytes());
                catalog.extend_from_slice(part);
            }
        }
        self.out.put(CATALOG, 0, &catalog)?;
        commit.views.values().try_for_each(|view| view.export(&generation.log, &mut self.out))
    }

    /// Position that the views were saved at.
    pub fn position(&self) -> u64 {
        self.start.position
    }

    /// Puts what is saved so far on the medium, so that little is left for the end.
    pub fn sync(&self) -> StorageResult<()> {
        self.out.sync()
    }

    /// Writes the rest and puts the file in place; `sequence` is that of the last commit before
    /// the position.
    pub fn finish(mut self, generation: &Generation, sequence: u64) -> StorageResult<()> {
        let words = |m: &Milestone| [m.position, m.sequence, m.time].map(u64::to_le_bytes);
        let milestones = generation.milestones().filter(|m| m.position < self.start.position);
        let milestones: Vec<u8> = milestones.flat_map(|m| words(m).concat()).collect();
        self.out.put(MILESTONES, 0, &milestones)?;
        self.out.finish(generation.log.identity(), self.start, sequence)?;
        if let Some(temporary) = &self.temporary {
            self.directory.replace(temporary, &self.target)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take()
            && self.directory.remove(&temporary).is_err()
        {
            // The next open for writing removes it.
        }
    }
}

/// The tables that a checkpoint names, in order of their numbers.
pub(crate) fn catalog(checkpoint: &Checkpoint) -> StorageResult<Vec<TableInfo>> {
    let catalog = checkpoint.table(0).get(CATALOG).map_err(disposable)?;
    let catalog = catalog.ok_or_else(|| implausible("no catalogue"))?;
    let mut rest = catalog.bytes();
    let mut part = || -> Option<Option<&[u8]>> {
        if rest.is_empty() {
            return Some(None);
        }
        let (len, after) = rest.split_at_checked(4)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let (bytes, after) = after.split_at_checked(len)?;
        rest = after;
        Some(Some(bytes))
    };
    let damaged = || implausible("the catalogue");
    let mut tables: Vec<TableInfo> = Vec::new();
    while let Some(name) = part().ok_or_else(damaged)? {
        let payload = part().flatten().ok_or_else(damaged)?;
        let info = TableInfo::decode(name, payload).ok_or_else(damaged)?;
        if info.id.0 as usize != tables.len() + 1 {
            return Err(damaged());
        }
        tables.push(info);
    }
    Ok(tables)
}

/// Takes the saved views over.
pub(super) fn import(
    checkpoint: &Checkpoint,
    generation: &Generation,
    factory: &dyn ViewFactory,
    views: &mut BTreeMap<TableId, Box<dyn TableView>>,
) -> StorageResult<()> {
    let milestones = checkpoint.table(0).get(MILESTONES).map_err(disposable)?;
    for entry in milestones.iter().flat_map(|section| section.bytes().chunks_exact(24)) {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| entry[8 * i + b]));
        let (position, sequence, time) = (word(0), word(1), word(2));
        generation.add_milestone(Milestone { position, sequence, time });
    }
    for info in catalog(checkpoint)? {
        let view = import_view(&info, checkpoint, factory)?;
        let id = info.id;
        generation.add_table(Arc::new(info), view.reader());
        views.insert(id, view);
    }
    Ok(())
}

fn import_view(
    info: &TableInfo,
    checkpoint: &Checkpoint,
    factory: &dyn ViewFactory,
) -> StorageResult<Box<dyn TableView>> {
    factory.import(info, &checkpoint.table(info.id.0)).map_err(disposable)
}

/// Whatever is wrong with a section, the log has it all: offset 0 says so to the caller.
fn disposable(error: StorageError) -> StorageError {
    match error {
        StorageError::Corrupt { reason, .. } => implausible(&reason),
        other => other,
    }
}
