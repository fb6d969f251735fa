//! One file, several processes: taking turns, catching up, moving over after a compaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Guard;
use synadb_storage::control;
use synadb_storage::lock::Patience;
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};

use super::engine::Commit;
use super::exclusive::take_alone;
use super::open::{Footing, Loaded, Waiting, at_path, open_registered, patiently};
use super::view::ViewFactory;
use super::{Engine, Generation};
use crate::config::{Durability, Maintenance, Terms};
use crate::error::Result;

impl Engine {
    /// The generation that is current now, with what other processes have committed.
    ///
    /// Costs two loads while nothing is new; never waits for a writer.
    #[inline]
    pub fn current(&self) -> Result<Guard<Arc<Generation>>> {
        let generation = self.generation.load();
        if self.is_shared() && generation.has_news() {
            self.look_again()?;
            return Ok(self.generation.load());
        }
        Ok(generation)
    }

    /// Applies what is new, unless some thread of this process is committing or doing so already.
    #[cold]
    fn look_again(&self) -> Result<()> {
        let Ok(mut commit) = self.commit.try_lock() else { return Ok(()) };
        if commit.closed {
            // Nothing of the file is ours any more: what was read is what there is.
            return Ok(());
        }
        let generation = self.generation.load_full();
        if is_superseded(generation.log.region()) && self.was_replaced(&commit)? {
            return self.reopen(&mut commit);
        }
        commit.follow(&generation, &*self.factory, true).map_err(|e| self.failure(e)).map(|_| ())
    }

    /// With the commit mutex held: takes the write lock and applies all that others have written.
    pub(super) fn enter(&self, commit: &mut Commit, terms: &Terms) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let interrupted = || terms.is_interrupted();
        let patience = Patience { deadline: terms.deadline(), interrupted: &interrupted };
        loop {
            let generation = self.generation.load_full();
            let region = generation.log.region();
            let fail = |error| self.failure(error);
            if commit.write.is_held() {
                return self.check_poison_of_all(region);
            }
            // Most of what others have written is applied while they still write.
            let locks = self.locks()?;
            let mut write = std::mem::take(&mut commit.write);
            let mut follow = || commit.follow(&generation, &*self.factory, true).map(|_| ());
            let acquired = write.acquire(&*locks.0, region, patience, &mut follow);
            commit.write = write;
            acquired.map_err(fail)?;
            match self.arrive(commit, &generation) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    commit.write.release(&*locks.0, region).map_err(fail)?;
                    return Err(error);
                }
            }
        }
    }

    /// With the write lock just taken: true if all is well, false after moving to a new file.
    fn arrive(&self, commit: &mut Commit, generation: &Generation) -> Result<bool> {
        let region = generation.log.region();
        self.check_poison_of_all(region)?;
        if is_superseded(region) {
            if self.was_replaced(commit)? {
                self.reopen(commit)?;
                return Ok(false);
            }
            // Whoever compacted died before its file was in place.
            region.publish(control::SUPERSEDED, 0).map_err(|e| self.failure(e))?;
        }
        commit.follow(generation, &*self.factory, true).map_err(|e| self.failure(e))?;
        commit.write.begin_turn();
        Ok(true)
    }

    /// After a commit, or none: keeps the write lock for the next one, or gives it back.
    #[inline]
    pub(super) fn leave(&self, commit: &mut Commit, durability: Durability) -> Result<()> {
        if !commit.write.is_held() || commit.reserved.is_some() {
            return Ok(());
        }
        let generation = self.generation.load();
        let region = generation.log.region();
        // Somebody must be there to give it back later.
        let may_keep = durability == Durability::Process && self.maintenance == Maintenance::Thread;
        let time = commit.writer.time;
        let is_kept = commit.write.is_worth_keeping(region, time) && may_keep;
        if is_kept && self.maintainer.watch(self) {
            return Ok(());
        }
        let locks = self.locks()?;
        commit.write.release(&*locks.0, region).map_err(|e| self.failure(e))
    }

    /// Whether the path names another file by now.
    pub(super) fn was_replaced(&self, commit: &Commit) -> Result<bool> {
        let inode = self.directory.inode(&self.path).map_err(|e| at_path(&self.path, e))?;
        Ok(inode != commit.inode)
    }

    /// Fails where any process has poisoned the file.
    #[inline]
    pub(super) fn check_poison_of_all(&self, region: &dyn Region) -> Result<()> {
        if region.load(control::POISONED).unwrap_or(0) != 0 {
            return Err(self.poison());
        }
        Ok(())
    }
}

pub(super) fn is_superseded(region: &dyn Region) -> bool {
    region.load(control::SUPERSEDED).unwrap_or(0) != 0
}

impl Generation {
    /// Whether another process has committed, or put a new file in the place of this one.
    #[inline]
    fn has_news(&self) -> bool {
        let region = self.log.region();
        region.load(self.visible()) != Some(0) || is_superseded(region)
    }
}

impl Commit {
    /// Applies what others have published since; true if there was something.
    ///
    /// `vouched` says that no writer can have died in the middle of what is there: then what does
    /// not fit is corruption. Else it ends what can be read.
    pub fn follow(
        &mut self,
        generation: &Generation,
        factory: &dyn ViewFactory,
        vouched: bool,
    ) -> StorageResult<bool> {
        let region = generation.log.region();
        let before = self.writer.tail;
        loop {
            let at = self.writer.tail;
            if at + 8 > region.len() {
                region.refresh()?;
            }
            if region.load(at) == Some(0) {
                break;
            }
            let whole = |region: &dyn Region| match generation.log.frame(at) {
                Ok(Some(head)) if head.next() + 8 <= region.len() => Some(head),
                _ => None,
            };
            let head = whole(region).or_else(|| {
                // The file has grown, or a reader met a recovery at work.
                region.refresh().ok()?;
                whole(region)
            });
            match head {
                Some(head) if head.link == self.writer.link && head.time > self.writer.time => {
                    self.apply(generation, factory, &head)?;
                    self.step_over(generation, &head);
                }
                _ if vouched => {
                    let reason = "a frame that a living process vouches for does not fit";
                    return Err(StorageError::corrupt(at, reason));
                }
                _ => break,
            }
        }
        let moved = self.writer.tail != before;
        if moved {
            self.publish(generation);
        }
        Ok(moved)
    }
}

impl Engine {
    /// Opens the file that has taken the place of the one that is open.
    pub(super) fn reopen(&self, commit: &mut Commit) -> Result<()> {
        let footing = Footing::asked(self.writes, self.is_shared());
        let (directory, factory) = (&*self.directory, &*self.factory);
        let opened = patiently(&self.path, Waiting::NONE, || {
            open_registered(&self.path, directory, factory, footing, false)
        })?;
        if let Some(locks) = self.locks.load_full() {
            let generation = self.generation.load_full();
            let released = commit.write.release(&*locks.0, generation.log.region());
            released.map_err(|error| self.failure(error))?;
        }
        let Loaded { generation, commit: fresh, locks, report } = opened;
        commit.move_to(fresh);
        *self.recovery.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = report;
        self.locks.store(locks.map(Arc::new));
        self.generation.store(Arc::new(generation));
        Ok(())
    }

    /// Moves a reader to what has been committed since; false where nothing was.
    pub fn refresh(&self) -> Result<bool> {
        if self.writes {
            let before = self.generation.load().visible();
            return Ok(self.current()?.visible() != before);
        }
        let mut commit = self.lock_commit()?;
        let old = self.generation.load_full();
        let unborn = old.log.identity().database_id == [0; 16];
        if unborn || self.was_replaced(&commit)? {
            self.reopen(&mut commit)?;
            let new = self.generation.load();
            let replaced = new.log.identity() != old.log.identity();
            return Ok(replaced || new.visible() != old.visible());
        }
        commit.follow(&old, &*self.factory, false).map_err(|e| self.failure(e))
    }
}

impl Engine {
    /// Syncs, saves and vouches for everything; the last handle is closing.
    pub(super) fn shut_down(&self) -> Result<()> {
        let is_told = !self.writes || self.poisoned.load(Ordering::Acquire);
        let (mut commit, result) = match self.commit.lock() {
            Ok(mut commit) => {
                let result = self.finish(&mut commit);
                (commit, result)
            }
            Err(poisoned) if is_told => (poisoned.into_inner(), Ok(())),
            Err(poisoned) => (poisoned.into_inner(), Err(self.poison())),
        };
        // Who commits in pieces must not go on: without the locks somebody else may have the file.
        commit.closed = true;
        self.locks.store(None);
        result
    }

    fn finish(&self, commit: &mut Commit) -> Result<()> {
        if commit.closed || !self.writes || self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let generation = self.generation.load_full();
        let locks = self.locks()?;
        let fail = |error| self.failure(error);
        commit.write.release(&*locks.0, generation.log.region()).map_err(fail)?;
        self.sync_to(&generation, commit.writer.tail)?;
        if !self.is_shared() {
            return self.vouch(commit, &generation);
        }
        // Only who has the file alone may trim it, and nobody may come meanwhile.
        if take_alone(&*locks.0).map_err(fail)? {
            if is_superseded(generation.log.region()) && self.was_replaced(commit)? {
                return Ok(());
            }
            commit.follow(&generation, &*self.factory, true).map_err(fail)?;
            return self.vouch(commit, &generation);
        }
        Ok(())
    }

    /// The last act on a file that nobody else writes.
    fn vouch(&self, commit: &mut Commit, generation: &Generation) -> Result<()> {
        let tail = commit.writer.tail;
        let region = generation.log.region();
        self.sync_to(generation, tail)?;
        let saved = self.checkpoint_if_worth_it(commit, generation);
        let act = || {
            let word = control::pack_synced(tail, &generation.log.identity().database_id);
            if region.load(control::SYNCED) != Some(word) {
                region.publish(control::SYNCED, word)?;
            }
            region.refresh()?;
            let page = (tail + 8).next_multiple_of(4096);
            if page < region.len() {
                region.trim(page)?;
            }
            region.sync()
        };
        act().map_err(|error| self.failure(error))?;
        saved
    }
}
