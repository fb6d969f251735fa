//! The engine of one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use synadb_storage::control;
use synadb_storage::directory::Directory;
use synadb_storage::lock::{Locks, WriteLock};
use synadb_storage::log::Writer;
use synadb_types::TableId;

use super::background::Background;
use super::maintenance::Maintainer;
use super::registry::Place;
use super::reserve::Owner;
use super::sync::Syncing;
use super::timed_sync::{SyncTimer, Unsynced};
use super::upkeep::Upkeep;
use super::view::{TableView, ViewFactory};
use super::{Generation, RecoveryReport};
use crate::config::Maintenance;
use crate::error::{Error, Result};

/// One open file, shared by all handles of the process.
pub(crate) struct Engine {
    pub(super) weak: Weak<Self>,
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) factory: Arc<dyn ViewFactory>,
    pub(super) writes: bool,
    /// Whether other processes may write as well.
    pub(super) shared: AtomicBool,
    pub(super) generation: ArcSwap<Generation>,
    /// The locks of the file that the generation lies in, until the last handle closes.
    pub(super) locks: ArcSwapOption<FileLocks>,
    pub(super) commit: Mutex<Commit>,
    /// Held by the thread that compacts.
    pub(super) compacting: Mutex<()>,
    pub(super) syncing: Syncing,
    pub(super) poisoned: AtomicBool,
    pub(super) checkpoint_bytes: AtomicU64,
    pub(super) recovery: Mutex<RecoveryReport>,
    /// Handles on this engine; the file has others where somebody only reads.
    pub(super) handles: AtomicUsize,
    /// Those of them that were opened to keep other processes from writing.
    pub(super) exclusive_handles: AtomicUsize,
    /// Woken when a transaction ends.
    pub(super) unreserved: Condvar,
    pub(super) maintenance: Maintenance,
    pub(super) maintainer: Maintainer,
    pub(super) background: Background,
    pub(super) sync_timer: SyncTimer,
    pub(super) upkeep: Upkeep,
}

/// Locks behind an `Arc` that can be swapped.
pub(super) struct FileLocks(pub Box<dyn Locks>);

/// What only the holder of the commit mutex touches.
pub(super) struct Commit {
    pub writer: Writer,
    pub views: BTreeMap<TableId, Box<dyn TableView>>,
    /// Device and inode of the file.
    pub inode: (u64, u64),
    pub write: WriteLock,
    /// Position of the checkpoint beside the file, 0 where there is none.
    pub checkpointed: u64,
    /// Bytes of frames before and behind it: what a replay reads; extents do not count.
    pub saved_bytes: u64,
    pub unsaved_bytes: u64,
    /// Of the latter, how many there were when a checkpoint failed.
    pub put_off_at: u64,
    /// The transaction that is open and keeps the write lock.
    pub reserved: Option<Owner>,
    /// When what was not synced is to be.
    pub unsynced: Unsynced,
    /// The last handle was closed: others may have the file by now.
    pub closed: bool,
}

impl Commit {
    /// The state behind a checkpoint at `floor`, or at the beginning of the log.
    pub fn new(
        writer: Writer,
        views: BTreeMap<TableId, Box<dyn TableView>>,
        inode: (u64, u64),
        floor: u64,
    ) -> Self {
        let write = WriteLock::default();
        let (checkpointed, saved_bytes) = (floor, floor);
        Self {
            writer,
            views,
            inode,
            write,
            checkpointed,
            saved_bytes,
            unsaved_bytes: 0,
            put_off_at: 0,
            reserved: None,
            unsynced: Unsynced::default(),
            closed: false,
        }
    }
}

impl Engine {
    /// What this process has applied, without a look at what others have committed since.
    pub(super) fn applied(&self) -> arc_swap::Guard<Arc<Generation>> {
        self.generation.load()
    }

    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    pub(super) fn locks(&self) -> Result<Arc<FileLocks>> {
        self.locks.load_full().ok_or(Error::Closed)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A failure of this file.
    pub fn failure(&self, error: synadb_storage::StorageError) -> Error {
        Error::storage(&self.path, error)
    }

    /// What commits are made with; another thread may have closed the file while this one was at it.
    pub(super) fn lock_commit(&self) -> Result<MutexGuard<'_, Commit>> {
        let guard = match self.commit.lock() {
            Ok(guard) if !guard.closed => guard,
            Err(poisoned) if !poisoned.get_ref().closed => return Err(self.poison()),
            Ok(_) | Err(_) => return Err(Error::Closed),
        };
        self.check_poison()?;
        Ok(guard)
    }

    pub(super) fn check_poison(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        Ok(())
    }

    /// After a failed sync or a panic nothing more is written until all have closed the file.
    pub(super) fn poison(&self) -> Error {
        self.poisoned.store(true, Ordering::Release);
        // Once it is closed the file may be somebody else's.
        let is_ours = self.locks.load().is_some();
        let generation = self.applied();
        if is_ours && generation.log.region().publish(control::POISONED, 1).is_err() {
            // A region that cannot be written needs no word against writing.
        }
        Error::Poisoned { path: self.path.clone() }
    }
}
