//! Rewriting the log without dead records, into a new generation, while others read and write.
//!
//! What was there at a moment is carried over first, then what was committed meanwhile, in rounds
//! without the write lock; the last round, and giving the new file the name, hold it.

use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use synadb_storage::control;
use synadb_storage::directory::Opened;
use synadb_storage::identity::Identity;
use synadb_storage::lock::{LockKind, Locks};
use synadb_storage::{Result as StorageResult, StorageError};

use super::checkpoint::{Saving, WORTH_BYTES};
use super::engine::{Commit, FileLocks};
use super::open::LOCK_POLL;
use super::share::is_superseded;
use super::source::Moment;
use super::{Engine, Rewrite, Source};
use crate::config::{Durability, Keep, Terms};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// So little may be left to be carried over under the write lock.
const REST_BYTES: u64 = 256 << 10;
/// Who writes faster than it is carried over is made to wait, for so much at a time, and goes on
/// for so long in between.
const PIECE_BYTES: u64 = 1 << 20;
const OTHERS_TURN: Duration = Duration::from_millis(1);
const CANCELLED: Error = Error::Cancelled { what: "the compaction" };

/// How to compact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactOptions {
    /// Leave damaged records behind and report them, instead of failing at the first. The newest
    /// value of a key that is intact takes the place of a damaged one.
    pub skip_damaged: bool,
    /// What stays.
    pub keep: Keep,
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

/// The right to compact a file: one at a time in all processes.
pub(super) struct Turn<'a> {
    locks: Arc<FileLocks>,
    _in_this_process: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.locks.0.unlock(LockKind::Compaction).is_err() {
            // It goes with the file.
        }
    }
}

impl Engine {
    /// Keeps the newest value of each live key, or all that there is, and gives the rest back.
    pub fn compact(
        &self,
        terms: &Terms,
        options: CompactOptions,
        progress: &mut Progress<'_>,
    ) -> Result<CompactionReport> {
        let turn = self.take_turn(terms)?;
        self.compact_in_turn(&turn, terms, options, progress)
    }

    /// As `compact`, for who has the turn.
    pub(super) fn compact_in_turn(
        &self,
        _turn: &Turn<'_>,
        terms: &Terms,
        options: CompactOptions,
        progress: &mut Progress<'_>,
    ) -> Result<CompactionReport> {
        self.check_names()?;
        self.remove_leftovers();
        let (temporary, created) =
            self.directory.create_beside(&self.path).map_err(|e| self.failure(e))?;
        let inode = created.inode;
        let done = self.moment().and_then(|moment| {
            let compaction = Compaction { engine: self, moment, options, terms, inode };
            compaction.run((&temporary, created), progress)
        });
        done.inspect_err(|_| {
            if self.directory.inode(&self.path).is_ok_and(|found| found == inode) {
                // The new file has the name, but perhaps not for long: neither may be written to.
                self.poison();
            } else if self.directory.remove(&temporary).is_err() {
                // The next open for writing removes it.
            }
        })
    }

    fn take_turn(&self, terms: &Terms) -> Result<Turn<'_>> {
        let deadline = terms.deadline();
        loop {
            self.current()?;
            let locks = self.locks()?;
            if let Some(turn) = self.try_turn(locks)? {
                return Ok(turn);
            }
            if terms.is_interrupted() {
                return Err(Error::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(Error::Busy { path: self.path.clone(), what: "compacted" });
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// The right to compact, unless somebody else has it.
    pub(super) fn try_turn(&self, locks: Arc<FileLocks>) -> Result<Option<Turn<'_>>> {
        let in_this_process = match self.compacting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(error)) => PoisonError::into_inner(error),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let fail = |error| self.failure(error);
        if !locks.0.try_exclusive(LockKind::Compaction).map_err(fail)? {
            return Ok(None);
        }
        let turn = Turn { locks, _in_this_process: in_this_process };
        // Whoever had the turn may have left with another file in place.
        let is_current = self.locks.load_full().is_some_and(|now| Arc::ptr_eq(&now, &turn.locks));
        let was_replaced = is_current && self.was_replaced(&*self.lock_commit()?)?;
        if was_replaced && !is_superseded(self.applied().log.region()) {
            let path = self.path.display();
            let what = format!("{path}: compacting a file in whose place somebody put another one");
            return Err(Error::Unsupported { what });
        }
        Ok((is_current && !was_replaced).then_some(turn))
    }

    /// Fails where the file has other names, which would go on leading to what it was before.
    fn check_names(&self) -> Result<()> {
        let names = self.directory.names(&self.path).map_err(|e| self.failure(e))?;
        if names == 1 {
            return Ok(());
        }
        let path = self.path.display();
        let what = format!("{path}: compacting a file that has {names} names (hard links)");
        Err(Error::Unsupported { what })
    }

    /// Removes what killed compactions and checkpoints have left, unless a checkpoint is being
    /// written.
    fn remove_leftovers(&self) {
        let (Ok(commit), Ok(locks)) = (self.lock_commit(), self.locks()) else { return };
        if !locks.0.try_exclusive(LockKind::Checkpoint).unwrap_or(false) {
            return;
        }
        // Beside a new file the locks of this one say nothing of who is writing what.
        let was_replaced = self.was_replaced(&commit).unwrap_or(true);
        if !was_replaced && self.directory.remove_stale(&self.path).is_err() {
            // The next one tries again.
        }
        if locks.0.unlock(LockKind::Checkpoint).is_err() {
            // It goes with the file.
        }
    }

    /// Everything that is committed now, by any process.
    fn moment(&self) -> Result<Moment> {
        let mut commit = self.lock_commit()?;
        let generation = self.generation.load_full();
        if self.is_shared() {
            commit.follow(&generation, &*self.factory, true).map_err(|e| self.failure(e))?;
            // What others have built since this process opened the file is handed on too.
            self.adopt_saved(&commit, &generation);
        }
        let writer = &commit.writer;
        Ok(Moment {
            position: writer.tail,
            sequence: writer.sequence,
            time: writer.time,
            tables: generation.tables().count(),
            generation,
        })
    }
}

/// One compaction of an open file.
struct Compaction<'a> {
    engine: &'a Engine,
    /// Where the new log begins to tell what happened in the order in which it did.
    moment: Moment,
    options: CompactOptions,
    terms: &'a Terms,
    /// Device and inode of the new file.
    inode: (u64, u64),
}

impl Compaction<'_> {
    fn run(
        &self,
        (temporary, created): (&Path, Opened),
        progress: &mut Progress<'_>,
    ) -> Result<CompactionReport> {
        let engine = self.engine;
        let fail = |error| match error {
            StorageError::Interrupted => CANCELLED,
            error => engine.failure(error),
        };
        let end = self.moment.position;
        let terms = self.terms;
        let mut goes_on = |done: u64| progress(done, end);
        let mut source = Source::new(&self.moment, self.options, &mut goes_on);
        let mut rewrite = self.begin(&created).map_err(fail)?;
        self.carry_first(&mut source, &mut rewrite).map_err(fail)?;
        let mut reached = (end, self.moment.sequence);
        self.carry_on(&mut source, &mut rewrite, &mut reached).map_err(|e| e.or(fail))?;
        let saving = self.save(&mut rewrite).map_err(fail)?;
        self.carry_on(&mut source, &mut rewrite, &mut reached).map_err(|e| e.or(fail))?;
        rewrite.region().sync().map_err(fail)?;
        source.last_look().map_err(fail)?;
        // Who was told may have taken long.
        self.carry_on(&mut source, &mut rewrite, &mut reached).map_err(|e| e.or(fail))?;

        let mut commit = engine.lock_to_write(None, terms)?;
        engine.enter(&mut commit, terms)?;
        let bytes_before = commit.writer.tail;
        let replaced = self.check_place().and_then(|()| {
            let factory = &*engine.factory;
            let tail = commit.writer.tail;
            source.carry_quietly(reached, tail, factory, &mut rewrite)?;
            self.put_in_place(&mut commit, (rewrite, saving), (temporary, created.locks))
        });
        let skipped = std::mem::take(&mut source.skipped);
        let bytes_after = commit.writer.tail;
        let left = engine.leave(&mut commit, Durability::Sync);
        replaced.map_err(fail)?;
        left?;
        Ok(CompactionReport { bytes_before, bytes_after, skipped })
    }

    fn begin(&self, created: &Opened) -> StorageResult<Rewrite<'_>> {
        let old = self.moment.generation.log.identity();
        let history_from = match self.options.keep {
            Keep::Everything => old.history_from,
            Keep::Newest | Keep::Histories => self.moment.sequence,
        };
        let identity = Identity { generation: old.generation + 1, history_from, ..*old };
        let region = Arc::clone(&created.region);
        Rewrite::new(region, identity, self.moment.time, &*self.engine.factory)
    }

    /// Carries what was there at the moment over.
    fn carry_first(&self, source: &mut Source<'_>, rewrite: &mut Rewrite<'_>) -> StorageResult<()> {
        let (moment, factory) = (&self.moment, &*self.engine.factory);
        let skips = self.options.skip_damaged;
        if self.options.keep == Keep::Everything && !skips {
            return source.carry_all(factory, rewrite);
        }
        // Every table keeps its number, also one without a live key.
        let tables = || moment.generation.tables().take(moment.tables);
        for table in tables() {
            rewrite.add_table(&table.info, (moment.sequence, moment.time))?;
        }
        rewrite.flush()?;
        if skips {
            return source.carry_intact(moment, factory, rewrite);
        }
        for table in tables() {
            factory.carry_live(table, (source, rewrite))?;
            rewrite.flush()?;
        }
        Ok(())
    }

    /// Carries over what was committed since `reached`, a position with its sequence number, until
    /// little is left.
    fn carry_on(
        &self,
        source: &mut Source<'_>,
        rewrite: &mut Rewrite<'_>,
        reached: &mut (u64, u64),
    ) -> std::result::Result<(), Failure> {
        let factory = &*self.engine.factory;
        let mut before = u64::MAX;
        loop {
            let now = self.engine.moment()?;
            if !Arc::ptr_eq(&now.generation, &self.moment.generation) {
                return Err(moved().into());
            }
            let step = now.position - reached.0;
            *reached = source.carry_frames(*reached, now.position, factory, rewrite)?;
            if step <= REST_BYTES {
                return Ok(());
            }
            if step > before / 2 {
                return self.catch_up(source, rewrite, reached);
            }
            before = step;
        }
    }

    /// As `carry_on`, where others write as fast: they have to wait, for a moment at a time.
    fn catch_up(
        &self,
        source: &mut Source<'_>,
        rewrite: &mut Rewrite<'_>,
        reached: &mut (u64, u64),
    ) -> std::result::Result<(), Failure> {
        let engine = self.engine;
        loop {
            let mut commit = engine.lock_to_write(None, self.terms)?;
            engine.enter(&mut commit, self.terms)?;
            let carried = self.check_place().and_then(|()| {
                let end = commit.writer.tail.min(reached.0 + PIECE_BYTES);
                source.carry_quietly(*reached, end, &*engine.factory, rewrite)
            });
            let left = carried.as_ref().map_or(0, |reached| commit.writer.tail - reached.0);
            engine.leave(&mut commit, Durability::Sync)?;
            drop(commit);
            *reached = carried?;
            if left <= REST_BYTES {
                return Ok(());
            }
            source.look_at(reached.0)?;
            std::thread::sleep(OTHERS_TURN);
        }
    }

    /// Saves the new views, so that other processes need not replay the new file.
    fn save(&self, rewrite: &mut Rewrite<'_>) -> StorageResult<Option<Saving<'_>>> {
        let is_worth_it = self.hand_on(rewrite);
        let (generation, commit) = rewrite.so_far()?;
        let engine = self.engine;
        // What is somebody else's stays where the checkpoint would lie.
        let is_free = engine.check_checkpoint_place(generation).is_ok();
        if !is_free || (commit.writer.tail < WORTH_BYTES && !is_worth_it) {
            return Ok(None);
        }
        let saving = Saving::begin(&*engine.directory, &engine.path, commit, generation)?;
        saving.sync()?;
        Ok(Some(saving))
    }

    /// Hands on what the log does not hold; whether there is such.
    fn hand_on(&self, rewrite: &Rewrite<'_>) -> bool {
        let Moment { generation, tables, .. } = &self.moment;
        let mut has_any = false;
        for table in generation.tables().take(*tables) {
            if let Some(view) = rewrite.table_view(table.info.id) {
                has_any |= self.engine.factory.hand_on((generation, &table.info), view);
            }
        }
        has_any
    }

    fn check_place(&self) -> StorageResult<()> {
        let current = self.engine.generation.load_full();
        if !Arc::ptr_eq(&current, &self.moment.generation) {
            return Err(moved());
        }
        Ok(())
    }

    /// With the write lock held: gives the new file the name and goes on in it.
    fn put_in_place(
        &self,
        commit: &mut Commit,
        (rewrite, saving): (Rewrite<'_>, Option<Saving<'_>>),
        (temporary, locks): (&Path, Option<Box<dyn Locks>>),
    ) -> StorageResult<()> {
        let engine = self.engine;
        let (generation, mut fresh) = rewrite.finish(commit.writer.sequence)?;
        let region = generation.log.shared_region();
        region.publish(control::HOLDER, control::this_process())?;
        region.sync()?;
        let locks = locks.map(|locks| Arc::new(FileLocks(locks)));
        if let Some(locks) = &locks {
            // Nobody who finds the new file may think that it has no writer.
            if engine.is_shared() {
                locks.0.try_shared(LockKind::Registration)?;
                fresh.write.try_acquire(&*locks.0, &*region)?;
            } else {
                locks.0.try_exclusive(LockKind::Registration)?;
            }
        }
        if let Some(saving) = saving {
            (fresh.checkpointed, fresh.saved_bytes) = (saving.position(), saving.position());
            fresh.unsaved_bytes = fresh.writer.tail - saving.position();
            saving.finish(&generation, generation.sequence())?;
        }
        let old = Arc::clone(&self.moment.generation);
        old.log.region().publish(control::SUPERSEDED, 1)?;
        engine.directory.replace(temporary, &engine.path)?;
        if region.publish(control::DIR_SYNCED, 1).is_err() {
            // The next open makes the name durable once more.
        }
        fresh.inode = self.inode;
        fresh.writer.time = fresh.writer.time.max(commit.writer.time);
        fresh.writer.marked = fresh.writer.tail;
        generation.raise_synced(fresh.writer.tail);
        if let Some(locks) = engine.locks.load_full() {
            commit.write.release(&*locks.0, old.log.region())?;
        }
        commit.move_to(fresh);
        engine.locks.store(locks);
        engine.generation.store(Arc::new(generation));
        Ok(())
    }
}

fn moved() -> StorageError {
    StorageError::Unsupported { what: "a file that is replaced while it is compacted".to_owned() }
}

/// A failure of this compaction, or of the file that it reads.
enum Failure {
    Storage(StorageError),
    Engine(Error),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Failure {
    fn or(self, fail: impl Fn(StorageError) -> Error) -> Error {
        match self {
            Self::Storage(error) => fail(error),
            Self::Engine(error) => error,
        }
    }
}
