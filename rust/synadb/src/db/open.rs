//! Opening a file: create, lock, recover, replay.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use synadb_storage::control;
use synadb_storage::directory::{Directory, DiskDirectory, Opened};
use synadb_storage::identity::Identity;
use synadb_storage::lock::{LockKind, Locks};
use synadb_storage::log::{Log, Recovery, Start, Writer};
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};

use super::background::Background;
use super::engine::{Commit, FileLocks};
use super::identify::{identify, settle};
use super::log_end::find_end;
use super::maintenance::Maintainer;
use super::registry::{Place, resolve_database};
use super::sync::Syncing;
use super::timed_sync::SyncTimer;
use super::upkeep::Upkeep;
use super::view::ViewFactory;
use super::{Engine, Generation, Handle, RecoveryReport};
use crate::config::{Access, Maintenance, OpenOptions, no_upkeep};
use crate::error::{Error, Result};
use crate::sections::Checkpoint;

pub(super) const LOCK_POLL: Duration = Duration::from_millis(2);
/// How long to wait for who is opening or closing the file, whatever else was asked for.
const OPENING_WAIT: Duration = Duration::from_secs(30);

/// How a process stands to a file that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Footing {
    /// Writes beside others.
    Shared,
    /// Writes alone.
    Exclusive,
    /// Only looks, and takes no lock.
    Reader,
}

impl Footing {
    pub fn asked(writes: bool, shared: bool) -> Self {
        match (writes, shared) {
            (false, _) => Self::Reader,
            (true, true) => Self::Shared,
            (true, false) => Self::Exclusive,
        }
    }
}

/// How long an open waits for who has the file.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub time: Duration,
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Waiting<'_> {
    /// No longer than it takes others to open or close the file.
    pub const NONE: Self = Self { time: Duration::ZERO, interrupted: &|| false };
}

/// What came of one attempt to open a file.
pub(super) enum Attempt<T> {
    Done(T),
    /// Somebody is opening or closing it, and will soon be done.
    Busy,
    /// Somebody has it, and may have it for ever.
    Refused,
}

/// Attempts until it is done or the time is over; nothing is held between two attempts.
pub(super) fn patiently<T>(
    path: &Path,
    wait: Waiting<'_>,
    mut attempt: impl FnMut() -> Result<(Attempt<T>, u32)>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        let (attempted, pid) = attempt()?;
        let patience = match attempted {
            Attempt::Done(done) => return Ok(done),
            Attempt::Busy => wait.time.max(OPENING_WAIT),
            Attempt::Refused => wait.time,
        };
        if (wait.interrupted)() {
            return Err(Error::Interrupted);
        }
        if began.elapsed() >= patience {
            return Err(Error::Locked { path: path.to_owned(), pid });
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// A file that was opened and replayed, its locks as the footing wants them.
pub(super) struct Loaded {
    pub generation: Generation,
    pub commit: Commit,
    pub locks: Option<FileLocks>,
    pub report: RecoveryReport,
}

impl Engine {
    /// Opens `path`, joining the engine of this process where there is one.
    pub fn open(
        path: &Path,
        options: &OpenOptions,
        factory: impl FnOnce() -> Arc<dyn ViewFactory>,
    ) -> Result<Handle> {
        Self::open_resolved(&resolve_database(path)?, options, factory)
    }

    /// As [`Engine::open`], of a resolved path under any name.
    pub fn open_resolved(
        path: &Path,
        options: &OpenOptions,
        factory: impl FnOnce() -> Arc<dyn ViewFactory>,
    ) -> Result<Handle> {
        options.check_upkeep()?;
        let engine = Self::join_or_open(path, options, factory)?;
        let handle = Handle::new(Arc::clone(&engine), options);
        if options.auto_compact.is_some() && engine.maintenance == Maintenance::Off {
            handle.close()?;
            return Err(no_upkeep("the first handle on the file has maintenance 'off'"));
        }
        Ok(handle)
    }

    /// As [`Engine::open`], of a resolved path; the engine counts the handle to come.
    pub(super) fn join_or_open(
        path: &Path,
        options: &OpenOptions,
        factory: impl FnOnce() -> Arc<dyn ViewFactory>,
    ) -> Result<Arc<Self>> {
        let terms = options.terms();
        let wait = Waiting {
            time: options.lock_timeout.unwrap_or_default(),
            interrupted: &|| terms.is_interrupted(),
        };
        let (factory, directory) = (factory(), Arc::new(DiskDirectory));
        patiently(path, wait, || {
            let place = Place::of(path);
            let mut writer = place.lock();
            if let Some(joined) = Self::join(&writer, options)? {
                return Ok(joined);
            }
            let directory = Arc::clone(&directory) as _;
            let opened = Self::open_in(path, place.clone(), options, directory, &factory)?;
            if let Attempt::Done(engine) = &opened.0
                && engine.writes
            {
                *writer = Arc::downgrade(engine);
            }
            Ok(opened)
        })
    }

    /// The engine of this process that writes to the file already, with one handle more.
    fn join(
        writer: &Weak<Self>,
        options: &OpenOptions,
    ) -> Result<Option<(Attempt<Arc<Self>>, u32)>> {
        let Some(engine) = writer.upgrade().filter(|_| options.access != Access::ReadOnly) else {
            return Ok(None);
        };
        engine.check_poison()?;
        if options.access == Access::Exclusive {
            match engine.try_make_exclusive()? {
                (Attempt::Done(()), _) => {}
                (Attempt::Busy, pid) => return Ok(Some((Attempt::Busy, pid))),
                (Attempt::Refused, pid) => return Ok(Some((Attempt::Refused, pid))),
            }
        }
        engine.count(options.access);
        engine.checkpoint_bytes.fetch_min(options.checkpoint_bytes, Ordering::AcqRel);
        Ok(Some((Attempt::Done(engine), 0)))
    }

    /// Attempts to open a file of some directory, known to nobody else in this process.
    pub(super) fn open_in(
        path: &Path,
        place: Place,
        options: &OpenOptions,
        directory: Arc<dyn Directory>,
        factory: &Arc<dyn ViewFactory>,
    ) -> Result<(Attempt<Arc<Self>>, u32)> {
        let writes = options.access != Access::ReadOnly;
        let shared = options.access == Access::Shared;
        let footing = Footing::asked(writes, shared);
        let create = writes && options.create;
        let (attempted, pid) = open_registered(path, &*directory, &**factory, footing, create)?;
        let loaded = match attempted {
            Attempt::Done(loaded) => loaded,
            Attempt::Busy => return Ok((Attempt::Busy, pid)),
            Attempt::Refused => return Ok((Attempt::Refused, pid)),
        };
        place.count();
        let engine = Arc::new_cyclic(|weak| Self {
            weak: Weak::clone(weak),
            path: path.to_owned(),
            place,
            directory,
            factory: Arc::clone(factory),
            writes,
            shared: AtomicBool::new(shared),
            generation: ArcSwap::from_pointee(loaded.generation),
            locks: ArcSwapOption::from_pointee(loaded.locks),
            commit: Mutex::new(loaded.commit),
            compacting: Mutex::new(()),
            syncing: Syncing::default(),
            poisoned: AtomicBool::new(false),
            checkpoint_bytes: AtomicU64::new(options.checkpoint_bytes),
            recovery: Mutex::new(loaded.report),
            handles: AtomicUsize::new(1),
            exclusive_handles: AtomicUsize::new(usize::from(footing == Footing::Exclusive)),
            unreserved: Condvar::new(),
            maintenance: options.maintenance,
            maintainer: Maintainer::default(),
            background: Background::default(),
            sync_timer: SyncTimer::default(),
            upkeep: Upkeep::default(),
        });
        engine.expect_sync_of_what_is_left(&options.terms());
        Ok((Attempt::Done(engine), 0))
    }
}

/// Opens, registers, recovers where nobody else has the file, and replays. Where that cannot be
/// done now, the process id of who is in the way is the second value.
pub(super) fn open_registered(
    path: &Path,
    directory: &dyn Directory,
    factory: &dyn ViewFactory,
    footing: Footing,
    create: bool,
) -> Result<(Attempt<Loaded>, u32)> {
    let fail = |error| Error::storage(path, error);
    let writes = footing != Footing::Reader;
    let (opened, alone) = loop {
        // First, so that a refusal makes no file.
        if footing == Footing::Shared {
            directory.check_sharing(path).map_err(fail)?;
        }
        let opened = open_file(path, directory, writes, create)?;
        let alone = match &opened.locks {
            Some(locks) if writes => match register(&**locks, footing).map_err(fail)? {
                Attempt::Done(alone) => alone,
                Attempt::Busy => return Ok((Attempt::Busy, control::holder(&*opened.region))),
                Attempt::Refused => {
                    return Ok((Attempt::Refused, control::holder(&*opened.region)));
                }
            },
            _ => writes,
        };
        // Between opening and locking a compaction may have put a new file there, and who created
        // the file may have taken it away.
        match directory.inode(path) {
            Ok(inode) if inode == opened.inode => break (opened, alone),
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(fail(error)),
        }
    };
    let role = match (writes, alone) {
        (false, _) => Role::Reader,
        (true, true) => Role::Alone,
        (true, false) => Role::Beside,
    };
    let mut loaded = load(path, directory, factory, opened, role).map_err(fail)?;
    if alone {
        loaded.commit.find_unsynced(&loaded.generation);
        loaded.commit.views.values_mut().for_each(|view| view.forsake());
    }
    let region = loaded.generation.log.region();
    if writes && region.load(control::DIR_SYNCED) != Some(1) {
        settle(path, directory, region, loaded.generation.log.identity()).map_err(fail)?;
    }
    if alone {
        directory.remove_stale(path).map_err(fail)?;
        announce_holder(region).map_err(fail)?;
    }
    if let Some(FileLocks(locks)) = loaded.locks.as_ref().filter(|_| alone) {
        if footing == Footing::Shared {
            locks.try_shared(LockKind::Registration).map_err(fail)?;
        }
        locks.unlock(LockKind::Open).map_err(fail)?;
    }
    if writes && region.load(control::POISONED).unwrap_or(0) != 0 {
        return Err(Error::Poisoned { path: path.to_owned() });
    }
    Ok((Attempt::Done(loaded), 0))
}

fn open_file(path: &Path, directory: &dyn Directory, writes: bool, create: bool) -> Result<Opened> {
    directory.open(path, writes, create).map_err(|error| match error {
        StorageError::Io { source, .. }
            if matches!(
                source.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Error::ReadOnly { path: path.to_owned() }
        }
        other => at_path(path, other),
    })
}

fn is_missing(error: &StorageError) -> bool {
    matches!(error, StorageError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// A failure to find the database at its path.
pub(super) fn at_path(path: &Path, error: StorageError) -> Error {
    if is_missing(&error) {
        return Error::MissingDatabase { path: path.to_owned() };
    }
    Error::storage(path, error)
}

/// Registers as a writer; true, with the open lock held, where nobody else is registered.
fn register(locks: &dyn Locks, footing: Footing) -> StorageResult<Attempt<bool>> {
    if !locks.try_exclusive(LockKind::Open)? {
        return Ok(Attempt::Busy);
    }
    if locks.try_exclusive(LockKind::Registration)? {
        return Ok(Attempt::Done(true));
    }
    let beside = footing == Footing::Shared && locks.try_shared(LockKind::Registration)?;
    locks.unlock(LockKind::Open)?;
    Ok(if beside { Attempt::Done(false) } else { Attempt::Refused })
}

fn announce_holder(region: &dyn Region) -> StorageResult<()> {
    region.publish(control::HOLDER, control::this_process())?;
    region.publish(control::NEXT, control::this_process())?;
    region.publish(control::POISONED, 0)?;
    region.publish(control::SUPERSEDED, 0)
}

/// Who opens a file: alone, beside other writers, or only to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Alone,
    Beside,
    Reader,
}

/// Opens what the file holds: from the checkpoint where it fits, else from the beginning.
pub(super) fn load(
    path: &Path,
    directory: &dyn Directory,
    factory: &dyn ViewFactory,
    opened: Opened,
    role: Role,
) -> StorageResult<Loaded> {
    let writes = role != Role::Reader;
    let region = Arc::clone(&opened.region);
    // A reader of a file that nobody created yet sees an empty database.
    let identity = identify(path, directory, &*region, writes).inspect_err(|_| {
        // Nobody else has looked into it: the locks are held until this returns.
        if opened.created && role == Role::Alone && directory.remove(path).is_err() {
            // It is empty, or all zeros, and becomes a database when it is next opened.
        }
    })?;
    let is_new = identity.is_none();
    let log = Log::new(region, identity.unwrap_or(Identity::UNNAMED));
    let mut opened = Some(opened);
    let checkpoint = open_checkpoint(path, directory, &log).filter(|_| !is_new);
    if let Some(checkpoint) = &checkpoint {
        let from_checkpoint = replay(&log, factory, Some(checkpoint), role, &mut opened);
        match from_checkpoint {
            Err(StorageError::Corrupt { offset: 0, .. }) => {}
            other => return other,
        }
    }
    replay(&log, factory, None, role, &mut opened)
}

/// The checkpoint beside a log, where it fits.
pub(super) fn open_checkpoint(
    path: &Path,
    directory: &dyn Directory,
    log: &Log,
) -> Option<Checkpoint> {
    let opened = directory.open(&super::checkpoint::path_of(path), false, false).ok()?;
    let checkpoint = Checkpoint::open(opened.region, log.identity())?;
    super::checkpoint::fits(log, &checkpoint.start).then_some(checkpoint)
}

fn replay(
    log: &Log,
    factory: &dyn ViewFactory,
    checkpoint: Option<&Checkpoint>,
    role: Role,
    opened: &mut Option<Opened>,
) -> StorageResult<Loaded> {
    let start = checkpoint.map_or_else(Start::beginning, |checkpoint| checkpoint.start);
    let generation = Generation::new(log.clone());
    let mut views = BTreeMap::new();
    if let Some(checkpoint) = checkpoint {
        super::checkpoint::import(checkpoint, &generation, factory, &mut views)?;
    }
    let floor = if checkpoint.is_some() { start.position } else { 0 };
    let sequence = checkpoint.map_or(log.identity().horizon, |checkpoint| checkpoint.sequence);
    let writer = Writer::new(start.position, start.link, start.last_frame, start.time, sequence);
    let inode = opened.as_ref().map_or((0, 0), |opened| opened.inode);
    let mut commit = Commit::new(writer, views, inode, floor);
    let found = if role == Role::Beside {
        // The others vouch for what is there; there is nothing to recover.
        commit.follow(&generation, factory, true)?;
        let synced = control::synced(log.region(), &log.identity().database_id).max(floor);
        Recovery { tail: commit.writer.tail, synced, ..Recovery::default() }
    } else {
        let found = find_end(log, start, floor, role == Role::Alone, opened.as_ref())?;
        // A file whose commits contradict each other is left as it is, its torn end too.
        commit.catch_up(&generation, factory, found.tail)?;
        if role == Role::Alone {
            if found.torn {
                log.region().zero(found.tail, log.region().len() - found.tail)?;
                log.region().sync()?;
            }
            log.region().allocate(found.tail + 8)?;
        }
        found
    };
    commit.publish(&generation);
    generation.raise_synced(found.synced.min(found.tail));
    commit.writer.marked = found.synced;
    let report = RecoveryReport::new(&found, start.position, role == Role::Alone);
    let opened = opened.take().ok_or_else(|| StorageError::corrupt(0, "opened twice"))?;
    let locks = opened.locks.map(FileLocks);
    Ok(Loaded { generation, commit, locks, report })
}
