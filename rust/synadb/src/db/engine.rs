//! The engine of one file, and handles to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use synadb_storage::control;
use synadb_storage::directory::{Directory, Opened};
use synadb_storage::log::Writer;
use synadb_types::TableId;

use super::registry::Registry;
use super::view::{TableView, ViewFactory};
use super::{Generation, RecoveryReport};
use crate::config::Durability;
use crate::error::{Error, Result};

/// One open file, shared by all handles of the process.
pub(crate) struct Engine {
    pub(super) path: PathBuf,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) factory: Arc<dyn ViewFactory>,
    pub(super) writes: bool,
    pub(crate) generation: ArcSwap<Generation>,
    pub(super) commit: Mutex<Commit>,
    /// Held by whoever syncs; the others find themselves synced when they get it.
    pub(super) syncing: Mutex<()>,
    pub(super) poisoned: AtomicBool,
    pub(super) checkpoint_bytes: AtomicU64,
    pub(super) recovery: Mutex<RecoveryReport>,
    pub(super) handles: AtomicUsize,
}

/// What only the holder of the commit mutex touches.
pub(super) struct Commit {
    pub writer: Writer,
    pub views: BTreeMap<TableId, Box<dyn TableView>>,
    pub opened: Opened,
    /// Position of the checkpoint beside the file, 0 where there is none.
    pub checkpointed: u64,
    /// Bytes of frames before and behind it: what a replay reads; extents do not count.
    pub saved_bytes: u64,
    pub unsaved_bytes: u64,
    /// Of the latter, how many there were when a checkpoint failed.
    pub put_off_at: u64,
}

impl Engine {
    /// The generation that is current now.
    #[inline]
    pub fn generation(&self) -> arc_swap::Guard<Arc<Generation>> {
        self.generation.load()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A failure of this file.
    pub fn failure(&self, error: synadb_storage::StorageError) -> Error {
        Error::storage(&self.path, error)
    }

    pub(super) fn lock_commit(&self) -> Result<MutexGuard<'_, Commit>> {
        let guard = self.commit.lock().map_err(|_| self.poison())?;
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
        let generation = self.generation();
        if generation.log.region().publish(control::POISONED, 1).is_err() {
            // A region that cannot be written needs no word against writing.
        }
        Error::Poisoned { path: self.path.clone() }
    }

    /// Returns once everything before `end` is on the medium; concurrent callers share a sync.
    pub(super) fn sync_to(&self, generation: &Generation, end: u64) -> Result<()> {
        if generation.synced() >= end {
            return Ok(());
        }
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if generation.synced() >= end {
            return Ok(());
        }
        self.check_poison()?;
        let reached = generation.visible();
        if let Err(error) = generation.log.region().sync() {
            self.poison();
            return Err(self.failure(error));
        }
        generation.raise_synced(reached);
        Ok(())
    }

    /// Returns once everything visible now is on the medium.
    pub fn sync_all(&self) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        self.check_poison()?;
        let generation = self.generation.load_full();
        self.sync_to(&generation, generation.visible())
    }

    /// Syncs, saves and vouches for everything; the last handle is closing.
    fn shut_down(&self) -> Result<()> {
        if !self.writes || self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut commit = self.lock_commit()?;
        let generation = self.generation.load_full();
        let tail = commit.writer.tail;
        let region = generation.log.region();
        self.sync_to(&generation, tail)?;
        let saved = self.checkpoint_if_worth_it(&mut commit, &generation);
        let vouch = || {
            let word = control::pack_synced(tail, &generation.log.identity().database_id);
            if region.load(control::SYNCED) != Some(word) {
                region.publish(control::SYNCED, word)?;
            }
            let page = (tail + 8).next_multiple_of(4096);
            if page < region.len() {
                region.trim(page)?;
            }
            region.sync()
        };
        vouch().map_err(|error| self.failure(error))?;
        saved
    }
}

/// A user's handle: an engine, a durability, and whether it was closed.
pub(crate) struct Handle {
    pub engine: Arc<Engine>,
    pub durability: Durability,
    pub compression: bool,
    pub read_only: bool,
    closed: AtomicBool,
}

impl Handle {
    /// A handle that the engine already counts.
    pub(super) fn new(
        engine: Arc<Engine>,
        options: &crate::config::OpenOptions,
        read_only: bool,
    ) -> Self {
        Self {
            engine,
            durability: options.durability,
            compression: options.compression,
            read_only,
            closed: AtomicBool::new(false),
        }
    }

    /// A second handle like this one, which is closed on its own.
    pub fn another(&self) -> Result<Self> {
        let engine = Arc::clone(self.open()?);
        let _registry = Registry::lock();
        engine.handles.fetch_add(1, Ordering::AcqRel);
        let closed = AtomicBool::new(false);
        let (durability, compression) = (self.durability, self.compression);
        Ok(Self { engine, durability, compression, read_only: self.read_only, closed })
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The engine, unless the handle was closed.
    #[inline]
    pub fn open(&self) -> Result<&Arc<Engine>> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(&self.engine) }
    }

    /// The engine, unless the handle was closed or may only read.
    #[inline]
    pub fn writable(&self) -> Result<&Arc<Engine>> {
        let engine = self.open()?;
        if self.read_only {
            return Err(Error::ReadOnly { path: engine.path.clone() });
        }
        Ok(engine)
    }

    /// Closes the handle; the last one of a file closes the file. Repeatable.
    pub fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let mut registry = Registry::lock();
        if self.engine.handles.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let result = self.engine.shut_down();
        registry.map().remove(&(self.engine.path.clone(), self.engine.writes));
        // Let go of the locks while nobody else can open the file in this process.
        if let Ok(mut commit) = self.engine.commit.lock() {
            commit.opened.locks = None;
        }
        result
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.close().is_err() {
            // Nobody is left to tell; the file is as good as after a kill.
        }
    }
}
