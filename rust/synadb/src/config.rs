//! How a database is opened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The original's configuration; its three fields never grow, everything else is an `OpenOptions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbConfig {
    /// LZ4 for text and bytes larger than 64 bytes, where it makes them smaller.
    pub enable_compression: bool,
    /// Accepted for the original's users; histories are read bit for bit either way.
    pub enable_delta: bool,
    /// Whether a write returns only once it is on the medium.
    pub sync_on_write: bool,
}

impl Default for DbConfig {
    fn default() -> Self {
        Self { enable_compression: false, enable_delta: false, sync_on_write: true }
    }
}

/// Who else may have the file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// Any number of processes write, each commit in turn and at once seen by all.
    #[default]
    Shared,
    /// One process writes; a second writer is refused with the holder's process id.
    Exclusive,
    /// Never locks, sees committed data, moves on at `refresh()`.
    ReadOnly,
}

/// What a returned write has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// It is on the medium; concurrent writers share one sync.
    #[default]
    Sync,
    /// It survives the death of the process, and of the machine after the next sync, which comes
    /// by itself: see [`OpenOptions::sync_interval`].
    Process,
}

/// Who does what need not be done within a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Maintenance {
    /// Threads of each open file, started when there is something to do: one gives the write lock
    /// back and compacts, one syncs what is due.
    #[default]
    Thread,
    /// The calls themselves; the write lock is given back after each commit, and the first one behind
    /// its time syncs what is due.
    Inline,
    /// Nobody: no checkpoint and no sync but at close and on request.
    Off,
}

/// What a compaction keeps of what was there when it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// The newest value of each live key.
    #[default]
    Newest,
    /// Everything that can still be asked for: the whole history of each live key. Values from
    /// before a delete, replaced vectors and deletes go, of which no reading call tells; only what
    /// became of absent keys is forgotten, see [`WriteBatch::expect_unchanged_since`].
    ///
    /// [`WriteBatch::expect_unchanged_since`]: crate::WriteBatch::expect_unchanged_since
    Histories,
    /// Every version of every key, deleted ones too.
    Everything,
}

/// When to compact without being asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoCompact {
    /// Share of the log that is dead by then, more than 0 and less than 1.
    pub share: f64,
    /// What stays; older values count as dead where only the newest do.
    pub keep: Keep,
}

/// Asked while a call waits for another process; true ends the wait with `Interrupted`.
pub type Interrupt = Arc<dyn Fn() -> bool + Send + Sync>;

/// How long a commit waits for another process unless the options say otherwise.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// After how long what is not synced is, unless the options say otherwise.
const SYNC_INTERVAL: Duration = Duration::from_secs(30);

/// A century is as good as forever, and an instant can hold it.
pub(crate) fn forever() -> Duration {
    Duration::from_secs(100 * 365 * 86_400)
}

/// What belongs to a handle rather than to the file.
#[derive(Clone)]
pub(crate) struct Terms {
    pub durability: Durability,
    pub compression: bool,
    pub sync_interval: Option<Duration>,
    commit_wait: Duration,
    interrupt: Option<Interrupt>,
}

impl Terms {
    /// Those of what nobody waits for.
    pub fn of_upkeep(stops: Interrupt) -> Self {
        let (durability, compression, sync_interval) = (Durability::Process, false, None);
        let (commit_wait, interrupt) = (COMMIT_WAIT, Some(stops));
        Self { durability, compression, sync_interval, commit_wait, interrupt }
    }

    /// Whether somebody asked to end the wait.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|interrupt| interrupt())
    }

    /// When a wait that begins now ends.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.commit_wait.min(forever())
    }
}

/// What was said when a handle was opened, to open another one like it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Who else may have the file open.
    pub access: Access,
    /// What a returned write has survived.
    pub durability: Durability,
    /// After how long a write that is not synced is synced by itself, if ever.
    pub sync_interval: Option<Duration>,
    /// How long to wait for another process, where that was said.
    pub lock_timeout: Option<Duration>,
    /// Who does what need not be done within a call.
    pub maintenance: Maintenance,
    /// Bytes of frames after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// LZ4 for text and bytes.
    pub compression: bool,
    /// When to compact without being asked.
    pub auto_compact: Option<AutoCompact>,
    /// Whether a missing file is created.
    pub create: bool,
}

/// Refuses `auto_compact` where it would never come about.
pub(crate) fn no_upkeep(why: &str) -> Error {
    let reason = format!("{why}, so nothing would ever be compacted without being asked");
    Error::InvalidArgument { argument: "auto_compact", reason }
}

/// Everything that can be said when a database is opened.
#[derive(Clone)]
pub struct OpenOptions {
    pub(crate) access: Access,
    pub(crate) durability: Durability,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) interrupt: Option<Interrupt>,
    pub(crate) maintenance: Maintenance,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) compression: bool,
    pub(crate) create: bool,
    pub(crate) auto_compact: Option<AutoCompact>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Shared, synced, created where missing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            access: Access::Shared,
            durability: Durability::Sync,
            sync_interval: Some(SYNC_INTERVAL),
            lock_timeout: None,
            interrupt: None,
            maintenance: Maintenance::Thread,
            checkpoint_bytes: 256 << 20,
            compression: false,
            create: true,
            auto_compact: None,
        }
    }

    /// Who else may have the file open.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// What a returned write has survived; belongs to the handle.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// After how long a sync begins that covers a write of this handle which is not synced, and all
    /// that was committed before; 30 s unless it is set, never with `None`. Once a gibibyte was
    /// committed it begins sooner. A thread does it, inline the first write behind that time, and
    /// with [`Maintenance::Off`] nobody. One that fails poisons the file, as any sync. What a process
    /// left that was killed counts as written by the handle that is the first to open the file again.
    #[must_use]
    pub fn sync_interval(mut self, interval: Option<Duration>) -> Self {
        self.sync_interval = interval;
        self
    }

    /// How long to wait for another process: for its closing a file that is not shared, and in
    /// each commit for its letting go of the write lock. Not at all and 5 s unless it is set.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = Some(timeout);
        self
    }

    /// Asked every few milliseconds while a call waits for another process.
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// Who does what need not be done within a call; the first handle of a file decides.
    #[must_use]
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// Compacts without being asked once a share of the log is dead and it has 4 MiB: on the
    /// maintenance thread or, inline, within the commit that makes it so. Not at all unless it is
    /// set. Of several handles that set it the newest decides; a share outside of 0 to 1 never
    /// comes about. Opening is refused with `InvalidArgument` where nobody could do it: with
    /// `ReadOnly`, and with `Maintenance::Off`, this handle's or that of the first one on the file.
    #[must_use]
    pub fn auto_compact(mut self, share: f64, keep: Keep) -> Self {
        self.auto_compact =
            Some(AutoCompact { share, keep }).filter(|_| share > 0.0 && share < 1.0);
        self
    }

    /// Fails where what was said leaves nobody to compact by himself.
    pub(crate) fn check_upkeep(&self) -> Result<()> {
        match (self.auto_compact, self.access, self.maintenance) {
            (None, _, _) => Ok(()),
            (_, Access::ReadOnly, _) => Err(no_upkeep("access is 'read_only'")),
            (_, _, Maintenance::Off) => Err(no_upkeep("maintenance is 'off'")),
            _ => Ok(()),
        }
    }

    /// What was said so far.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            access: self.access,
            durability: self.durability,
            sync_interval: self.sync_interval,
            lock_timeout: self.lock_timeout,
            maintenance: self.maintenance,
            checkpoint_bytes: self.checkpoint_bytes,
            compression: self.compression,
            auto_compact: self.auto_compact,
            create: self.create,
        }
    }

    /// What of it belongs to the handle.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            durability: self.durability,
            compression: self.compression,
            sync_interval: self.sync_interval,
            commit_wait: self.lock_timeout.unwrap_or(COMMIT_WAIT),
            interrupt: self.interrupt.clone(),
        }
    }

    /// Bytes of frames after which a checkpoint is written, the least of all handles counting.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// LZ4 for text and bytes larger than 64 bytes, where it makes them smaller.
    #[must_use]
    pub fn compression(mut self, compression: bool) -> Self {
        self.compression = compression;
        self
    }

    /// Whether a missing file is created.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("access", &self.access)
            .field("durability", &self.durability)
            .field("lock_timeout", &self.lock_timeout)
            .finish_non_exhaustive()
    }
}

impl From<DbConfig> for OpenOptions {
    fn from(config: DbConfig) -> Self {
        let durability = if config.sync_on_write { Durability::Sync } else { Durability::Process };
        Self::new().durability(durability).compression(config.enable_compression)
    }
}
