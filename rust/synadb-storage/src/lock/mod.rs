//! Locks of a file: who has it open, who writes, who syncs.

mod file;
#[cfg(feature = "simulation")]
mod simulated;
mod write;

pub use file::FileLocks;
#[cfg(feature = "simulation")]
pub use simulated::SimulatedLocks;
pub use write::{Patience, WriteLock, is_wanted, wait_until_wanted};

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Result;
use crate::region::{self, Region};

/// What a lock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// Held by whoever appends.
    Write,
    /// Held by whoever is next to append.
    Queue,
    /// Held while a file is opened for writing, recovered or trimmed.
    Open,
    /// Held by every writing process as long as it has the file open: shared, or exclusive.
    Registration,
    /// Held while the file is synced for several processes.
    Sync,
    /// Held while a checkpoint is written.
    Checkpoint,
    /// Held while the file is compacted.
    Compaction,
    /// Held while a process builds an index without being asked.
    Building,
}

/// Locks of one opened file. They go when it is closed, however its process ends.
pub trait Locks: Send + Sync {
    /// Takes a lock if nobody else holds it, or turns one's own shared lock into it.
    ///
    /// # Errors
    /// `Io` where the file system has no such locks.
    fn try_exclusive(&self, kind: LockKind) -> Result<bool>;

    /// Takes a lock beside others who hold it shared, or turns one's own exclusive lock into it.
    ///
    /// # Errors
    /// `Io` where the file system has no such locks.
    fn try_shared(&self, kind: LockKind) -> Result<bool>;

    /// Gives a lock back.
    ///
    /// # Errors
    /// `Io`.
    fn unlock(&self, kind: LockKind) -> Result<()>;

    /// Whether somebody else holds the lock, shared or exclusive.
    ///
    /// # Errors
    /// `Io`.
    fn is_held_elsewhere(&self, kind: LockKind) -> Result<bool>;
}

/// Waits until the control word at `offset` is woken or no longer `seen`, at most `timeout`.
pub fn wait_for_signal(region: &dyn Region, offset: u64, seen: u32, timeout: Duration) {
    match region.signal(offset) {
        Some(word) => region::wait(word, seen, timeout),
        None => std::thread::sleep(timeout),
    }
}

/// Counts the control word at `offset` up and wakes all that wait on it.
pub fn wake_all(region: &dyn Region, offset: u64) {
    if let Some(word) = region.signal(offset) {
        word.fetch_add(1, Ordering::AcqRel);
        region::wake(word);
    }
}
