//! Having a file for oneself, and sharing it again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use synadb_storage::control;
use synadb_storage::lock::{LockKind, Locks};
use synadb_storage::{Result as StorageResult, StorageError};

use super::Engine;
use super::open::{Attempt, LOCK_POLL};
use crate::config::Access;
use crate::error::Result;

/// How long to wait, to have the file alone, for who is opening it.
const CLOSING_WAIT: Duration = Duration::from_secs(1);

impl Engine {
    /// Counts a handle; call it with the place locked.
    pub(super) fn count(&self, access: Access) {
        self.place.count();
        self.handles.fetch_add(1, Ordering::AcqRel);
        if self.writes && access == Access::Exclusive {
            self.exclusive_handles.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// One handle less; true where it was the last. Shares the file again once nobody of this
    /// process wants it for himself.
    pub(super) fn count_down(&self, access: Access) -> Result<bool> {
        self.place.count_down();
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            return Ok(true);
        }
        let exclusive = self.writes && access == Access::Exclusive;
        if exclusive && self.exclusive_handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.make_shared()?;
        }
        Ok(false)
    }

    /// Keeps other writers out from now on, unless there are some: their process is the second
    /// value then.
    pub(super) fn try_make_exclusive(&self) -> Result<(Attempt<()>, u32)> {
        if !self.is_shared() {
            return Ok((Attempt::Done(()), 0));
        }
        let mut commit = self.lock_commit()?;
        let locks = self.locks()?;
        let fail = |error| self.failure(error);
        let generation = self.generation.load_full();
        let region = generation.log.region();
        let taken = try_alone(&*locks.0).map_err(fail)?;
        if !matches!(taken, Attempt::Done(())) {
            return Ok((taken, control::holder(region)));
        }
        region.hint(control::HOLDER, control::this_process());
        commit.follow(&generation, &*self.factory, true).map_err(fail)?;
        commit.write.release(&*locks.0, region).map_err(fail)?;
        self.shared.store(false, Ordering::Release);
        locks.0.unlock(LockKind::Open).map_err(fail)?;
        Ok((taken, 0))
    }

    /// Lets other writers in again.
    fn make_shared(&self) -> Result<()> {
        if self.is_shared() || self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.directory.check_sharing(&self.path) {
            // Who joined an exclusive engine there goes on as one.
            Err(StorageError::Unsupported { .. }) => return Ok(()),
            checked => checked.map_err(|error| self.failure(error))?,
        }
        let mut commit = self.lock_commit()?;
        let locks = self.locks()?;
        let fail = |error| self.failure(error);
        if commit.reserved.is_some() {
            // Nobody else can have it yet, and a transaction keeps it to its end.
            let generation = self.generation.load_full();
            commit.write.try_acquire(&*locks.0, generation.log.region()).map_err(fail)?;
        }
        self.shared.store(true, Ordering::Release);
        locks.0.try_shared(LockKind::Registration).map(|_| ()).map_err(fail)
    }
}

/// Takes the file for oneself, the open lock held too; refused where another process has it open.
fn try_alone(locks: &dyn Locks) -> StorageResult<Attempt<()>> {
    if !locks.try_exclusive(LockKind::Open)? {
        return Ok(Attempt::Busy);
    }
    if locks.try_exclusive(LockKind::Registration)? {
        return Ok(Attempt::Done(()));
    }
    locks.unlock(LockKind::Open)?;
    Ok(Attempt::Refused)
}

/// As [`try_alone`], waiting for who is opening the file; false where another process has it open.
pub(super) fn take_alone(locks: &dyn Locks) -> StorageResult<bool> {
    let deadline = Instant::now() + CLOSING_WAIT;
    loop {
        match try_alone(locks)? {
            Attempt::Done(()) => return Ok(true),
            Attempt::Busy if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            _ => return Ok(false),
        }
    }
}
