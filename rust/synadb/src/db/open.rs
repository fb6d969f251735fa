//! Opening a file: create, lock, recover, replay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use synadb_storage::control;
use synadb_storage::directory::{Directory, DiskDirectory, Opened};
use synadb_storage::identity::{FRAMES_START, Identity, PAGE_BYTES};
use synadb_storage::lock::LockKind;
use synadb_storage::log::{Log, Recovery, Start, Writer, recover};
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};

use super::engine::Commit;
use super::registry::{Registry, resolve};
use super::view::ViewFactory;
use super::{Engine, Generation, Handle, RecoveryReport};
use crate::config::{Access, OpenOptions};
use crate::error::{Error, Result};
use crate::sections::Checkpoint;

const LOCK_POLL: Duration = Duration::from_millis(2);

impl Engine {
    /// Opens `path`, joining the engine of this process where there is one.
    pub fn open(
        path: &Path,
        options: &OpenOptions,
        factory: impl FnOnce() -> Arc<dyn ViewFactory>,
    ) -> Result<Handle> {
        let path = resolve(path)?;
        let read_only = options.access == Access::ReadOnly;
        let mut registry = Registry::lock();
        for writes in [true, false] {
            let joins = read_only || writes;
            let known =
                registry.map().get(&(path.clone(), writes)).and_then(std::sync::Weak::upgrade);
            if let Some(engine) = known.filter(|_| joins) {
                engine.check_poison()?;
                engine.handles.fetch_add(1, Ordering::AcqRel);
                engine.checkpoint_bytes.fetch_min(options.checkpoint_bytes, Ordering::AcqRel);
                return Ok(Handle::new(engine, options, read_only));
            }
        }
        let directory: Arc<dyn Directory> = Arc::new(DiskDirectory);
        let engine = Self::open_new(path.clone(), options, directory, factory())?;
        let engine = Arc::new(engine);
        registry.map().insert((path, engine.writes), Arc::downgrade(&engine));
        Ok(Handle::new(engine, options, read_only))
    }

    /// Opens `path` in a directory that is not the file system; the registry does not know of it.
    #[cfg(test)]
    pub fn open_in(
        path: &Path,
        options: &OpenOptions,
        directory: Arc<dyn Directory>,
        factory: impl FnOnce() -> Arc<dyn ViewFactory>,
    ) -> Result<Handle> {
        let engine = Self::open_new(path.to_owned(), options, directory, factory())?;
        Ok(Handle::new(Arc::new(engine), options, options.access == Access::ReadOnly))
    }

    fn open_new(
        path: PathBuf,
        options: &OpenOptions,
        directory: Arc<dyn Directory>,
        factory: Arc<dyn ViewFactory>,
    ) -> Result<Self> {
        let writes = options.access != Access::ReadOnly;
        let opened = open_file(&path, &*directory, writes, options)?;
        if writes {
            lock_for_writing(&path, &opened, options.lock_timeout)?;
        }
        let fail = |error| Error::storage(&path, error);
        let loaded = load(&path, &*directory, &*factory, opened, writes).map_err(fail)?;
        if writes {
            directory.remove_stale(&path).map_err(fail)?;
        }
        let (generation, commit, report) = loaded;
        if writes {
            announce_holder(generation.log.region()).map_err(fail)?;
            if let Some(locks) = &commit.opened.locks {
                locks.unlock(LockKind::Open).map_err(fail)?;
            }
        }
        Ok(Self {
            path,
            directory,
            factory,
            writes,
            generation: ArcSwap::from_pointee(generation),
            commit: Mutex::new(commit),
            syncing: Mutex::new(()),
            poisoned: AtomicBool::new(false),
            checkpoint_bytes: AtomicU64::new(options.checkpoint_bytes),
            recovery: Mutex::new(report),
            handles: AtomicUsize::new(1),
        })
    }
}

fn open_file(
    path: &Path,
    directory: &dyn Directory,
    writes: bool,
    options: &OpenOptions,
) -> Result<Opened> {
    use std::io::ErrorKind;
    directory.open(path, writes, writes && options.create).map_err(|error| {
        let path = path.to_owned();
        match error {
            StorageError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Error::MissingDatabase { path }
            }
            StorageError::Io { source, .. }
                if matches!(
                    source.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Error::ReadOnly { path }
            }
            other => Error::storage(&path, other),
        }
    })
}

/// Takes the open lock and then the registration; the former is given back after recovery.
fn lock_for_writing(path: &Path, opened: &Opened, timeout: Duration) -> Result<()> {
    let Some(locks) = &opened.locks else { return Ok(()) };
    let fail = |error| Error::storage(path, error);
    let deadline = Instant::now() + timeout;
    loop {
        if locks.try_exclusive(LockKind::Open).map_err(fail)? {
            if locks.try_exclusive(LockKind::Registration).map_err(fail)? {
                return Ok(());
            }
            locks.unlock(LockKind::Open).map_err(fail)?;
        }
        if Instant::now() >= deadline {
            let word = opened.region.load(control::HOLDER).unwrap_or(0);
            return Err(Error::Locked { path: path.to_owned(), pid: (word & 0xffff_ffff) as u32 });
        }
        std::thread::sleep(LOCK_POLL);
    }
}

fn announce_holder(region: &dyn Region) -> StorageResult<()> {
    region.publish(control::HOLDER, control::holder_word())?;
    region.publish(control::POISONED, 0)?;
    region.publish(control::SUPERSEDED, 0)
}

/// Reads the identity, and writes one where the file is new.
fn identify(
    path: &Path,
    directory: &dyn Directory,
    region: &dyn Region,
    writes: bool,
) -> StorageResult<Option<Identity>> {
    let header = region.len().min(FRAMES_START) as usize;
    let page = region.bytes(0, header).unwrap_or_default();
    if page.iter().any(|byte| *byte != 0) {
        let page = &page[..header.min(PAGE_BYTES as usize)];
        let (identity, _) = Identity::read(page)?;
        if region.len() < FRAMES_START + 8 {
            // Creation allocates more than this before it stores the identity.
            let reason = "the file ends inside its header".to_owned();
            return Err(StorageError::Corrupt { offset: region.len(), reason });
        }
        if writes && region.load(control::DIR_SYNCED) != Some(1) {
            settle(path, directory, region, &identity)?;
        }
        return Ok(Some(identity));
    }
    if !writes {
        return Ok(None);
    }
    if region.bytes(0, region.len() as usize).is_some_and(|all| all.iter().any(|b| *b != 0)) {
        let reason = "its first 8 KiB are zero, what follows is not".to_owned();
        return Err(StorageError::NotADatabase { reason });
    }
    let identity = Identity::create()?;
    region.allocate(FRAMES_START + PAGE_BYTES)?;
    // The length first: a file that ends inside its header was cut, it is not half created.
    region.sync()?;
    settle(path, directory, region, &identity)?;
    Ok(Some(identity))
}

/// Makes identity and name durable before the first commit is acknowledged.
///
/// Who created the file, or put it in the place of another, may have died before it did so.
fn settle(
    path: &Path,
    directory: &dyn Directory,
    region: &dyn Region,
    identity: &Identity,
) -> StorageResult<()> {
    region.store(0, &identity.page())?;
    region.sync()?;
    directory.sync_parent(path)?;
    region.publish(control::DIR_SYNCED, 1)
}

/// Opens what the file holds: from the checkpoint where it fits, else from the beginning.
pub(super) fn load(
    path: &Path,
    directory: &dyn Directory,
    factory: &dyn ViewFactory,
    opened: Opened,
    writes: bool,
) -> StorageResult<(Generation, Commit, RecoveryReport)> {
    let region = Arc::clone(&opened.region);
    // A reader of a file that nobody created yet sees an empty database.
    let identity = identify(path, directory, &*region, writes)?;
    let is_new = identity.is_none();
    let log = Log::new(
        region,
        identity.unwrap_or(Identity { database_id: [0; 16], generation: 0, horizon: 0 }),
    );
    let mut opened = Some(opened);
    let checkpoint = open_checkpoint(path, directory, &log).filter(|_| !is_new);
    if let Some(checkpoint) = &checkpoint {
        let from_checkpoint = replay(&log, factory, Some(checkpoint), writes, &mut opened);
        match from_checkpoint {
            Err(StorageError::Corrupt { offset: 0, .. }) => {}
            other => return other,
        }
    }
    replay(&log, factory, None, writes, &mut opened)
}

fn open_checkpoint(path: &Path, directory: &dyn Directory, log: &Log) -> Option<Checkpoint> {
    let opened = directory.open(&super::checkpoint::path_of(path), false, false).ok()?;
    let checkpoint = Checkpoint::open(opened.region, log.identity())?;
    super::checkpoint::fits(log, &checkpoint.start).then_some(checkpoint)
}

fn replay(
    log: &Log,
    factory: &dyn ViewFactory,
    checkpoint: Option<&Checkpoint>,
    writes: bool,
    opened: &mut Option<Opened>,
) -> StorageResult<(Generation, Commit, RecoveryReport)> {
    let start = checkpoint.map_or_else(Start::beginning, |checkpoint| checkpoint.start);
    let generation = Generation::new(log.clone());
    let mut views = BTreeMap::new();
    if let Some(checkpoint) = checkpoint {
        super::checkpoint::import(checkpoint, &generation, factory, &mut views)?;
    }
    let floor = if checkpoint.is_some() { start.position } else { 0 };
    let found = find_end(log, start, floor, writes, opened.as_ref())?;
    if writes {
        if found.torn {
            log.region().zero(found.tail, log.region().len() - found.tail)?;
            log.region().sync()?;
        }
        log.region().allocate(found.tail + 8)?;
    }
    let sequence = checkpoint.map_or(log.identity().horizon, |checkpoint| checkpoint.sequence);
    let writer = Writer::new(start.position, start.link, start.last_frame, start.time, sequence);
    let opened = opened.take().ok_or_else(|| StorageError::corrupt(0, "opened twice"))?;
    let mut commit =
        Commit { writer, views, opened, checkpointed: floor, saved_bytes: floor, unsaved_bytes: 0 };
    commit.catch_up(&generation, factory, found.tail)?;
    generation.raise_synced(found.synced.min(found.tail));
    commit.writer.marked = found.synced;
    let report = RecoveryReport::new(&found, start.position, writes);
    Ok((generation, commit, report))
}

/// Where the log ends; a reader waits for a writer that is at work.
fn find_end(
    log: &Log,
    start: Start,
    floor: u64,
    writes: bool,
    opened: Option<&Opened>,
) -> StorageResult<Recovery> {
    if writes {
        return recover(log, start, floor);
    }
    if log.region().len() < FRAMES_START {
        return Ok(Recovery { tail: FRAMES_START, ..Recovery::default() });
    }
    let locks = opened.and_then(|opened| opened.locks.as_ref());
    for _ in 0..500 {
        log.region().refresh()?;
        let found = recover(log, start, floor);
        let busy = |kind| locks.is_some_and(|l| l.is_held_elsewhere(kind).unwrap_or(false));
        let settled = matches!(&found, Ok(found) if !found.torn);
        if settled || !busy(LockKind::Registration) {
            return found;
        }
        // Between what was loaded first and last the writer went on: what it published fits.
        if let Ok(found) = found {
            return Ok(Recovery { torn: false, frames_dropped: 0, bytes_dropped: 0, ..found });
        }
        std::thread::sleep(LOCK_POLL);
    }
    recover(log, start, floor)
}
