//! `SynaDB`: opening, closing and what concerns the whole file.

use std::path::Path;
use std::sync::Arc;

use crate::config::{DbConfig, OpenOptions, Settings};
use crate::db::{
    BackupReport, CompactOptions, CompactionReport, Engine, Handle, RecoveryReport, Stats, Usage,
    VerifyReport,
};
use crate::error::Result;
use crate::progress::Progress;

/// An append-only, crash-safe, schema-free store of typed values with their history.
///
/// A handle is cheap to clone and can be used by any number of threads; clones close together.
///
/// ```
/// # fn main() -> synadb::Result<()> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("my_data.db");
/// let db = synadb::SynaDB::new(&path)?;
/// db.append("temperature", synadb::Value::Float(23.5))?;
/// db.append("temperature", synadb::Value::Float(24.1))?;
/// assert_eq!(db.get_history_floats("temperature")?, [23.5, 24.1]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SynaDB {
    pub(super) handle: Arc<Handle>,
}

impl std::fmt::Debug for SynaDB {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SynaDB").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl SynaDB {
    /// Opens or creates a database; every write is synced.
    ///
    /// # Errors
    /// `MissingDirectory`, `PathIsDirectory`, `Locked`, `NotADatabase`, `Legacy`, `Corruption`.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        OpenOptions::new().open(path)
    }

    /// Opens or creates a database as the original configures it.
    ///
    /// # Errors
    /// As [`SynaDB::new`].
    pub fn with_config(path: impl AsRef<Path>, config: DbConfig) -> Result<Self> {
        OpenOptions::from(config).open(path)
    }

    pub(crate) fn from_handle(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// The file, resolved when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.handle.path()
    }

    /// What was said when this handle was opened.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.handle.settings()
    }

    /// Whether this handle was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Closes the handle; the last one of a file syncs it and vouches for it.
    ///
    /// # Errors
    /// `Io` where the last sync fails.
    pub fn close(self) -> Result<()> {
        self.close_handle()
    }

    /// As [`SynaDB::close`], repeatable, and for all clones of this handle.
    ///
    /// # Errors
    /// As [`SynaDB::close`].
    pub fn close_handle(&self) -> Result<()> {
        self.handle.close()
    }

    /// Keeps the newest value of each live key only, and gives the space back.
    ///
    /// Readers and writers go on, in every process; what is committed meanwhile is kept with every
    /// version. Takes O(live data) time and as much space beside the file until it is done; the
    /// write lock is held for the last step only. What was handed out before stays valid.
    ///
    /// # Errors
    /// `Corruption` names a damaged record; the file is unchanged then. `Busy` while another
    /// compaction runs for longer than the lock timeout. `ReadOnly`, `DiskFull`.
    pub fn compact(&self) -> Result<CompactionReport> {
        self.compact_with(&CompactOptions::default(), &mut |_, _| true)
    }

    /// As [`SynaDB::compact`], with options, telling how far it is.
    ///
    /// # Errors
    /// As [`SynaDB::compact`]; `Cancelled` where `progress` says so: nothing has changed then.
    pub fn compact_with(
        &self,
        options: &CompactOptions,
        progress: &mut Progress<'_>,
    ) -> Result<CompactionReport> {
        self.handle.writable()?.compact(&self.handle.terms, *options, progress)
    }

    /// Saves the views, so that the next open replays nothing.
    ///
    /// # Errors
    /// `ReadOnly`, `DiskFull`, `Io`.
    pub fn checkpoint(&self) -> Result<()> {
        self.handle.writable()?.checkpoint(&self.handle.terms)
    }

    /// Returns once everything committed so far is on the medium.
    ///
    /// # Errors
    /// `Io`, after which the file is poisoned.
    pub fn sync(&self) -> Result<()> {
        let engine: &Engine = self.handle.open()?;
        engine.sync_all()
    }

    /// Moves a read-only handle to what has been committed since; false where nothing was.
    ///
    /// # Errors
    /// `Corruption`, `Io`.
    pub fn refresh(&self) -> Result<bool> {
        self.handle.open()?.refresh()
    }

    /// Sizes and states, at the price of some system calls. What of the log can still be read is
    /// the answer of [`SynaDB::usage`].
    ///
    /// # Errors
    /// `Closed`, `Poisoned`.
    pub fn stats(&self) -> Result<Stats> {
        self.handle.open()?.stats()
    }

    /// Which bytes of the log can still be read, by table and by type of value.
    ///
    /// Walks the log, without a lock: O(records), not O(bytes of values), and takes up to
    /// 150 bytes of memory for each live key meanwhile. Writers and readers go on.
    ///
    /// # Errors
    /// `Closed`, `Corruption`.
    pub fn usage(&self) -> Result<Usage> {
        self.usage_with(&mut |_, _| true)
    }

    /// As [`SynaDB::usage`], telling how far it is.
    ///
    /// # Errors
    /// As [`SynaDB::usage`]; `Cancelled` where `progress` says so.
    pub fn usage_with(&self, progress: &mut Progress<'_>) -> Result<Usage> {
        self.handle.open()?.usage(progress)
    }

    /// Reads and checks every byte of the log; O(file).
    ///
    /// # Errors
    /// `Closed`. Damage is not an error here but the answer.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with(&mut |_, _| true)
    }

    /// As [`SynaDB::verify`]; a report that `progress` ended says how far it came.
    ///
    /// # Errors
    /// `Closed`.
    pub fn verify_with(&self, progress: &mut Progress<'_>) -> Result<VerifyReport> {
        self.handle.open()?.verify(progress)
    }

    /// Copies the database, as of the newest commit that this handle sees, into a new file.
    ///
    /// Others may write meanwhile, through any handle and process. The copy has the same database
    /// id and every commit with its history, is on the medium when this returns, and stands at
    /// `path` only once it is whole.
    ///
    /// # Errors
    /// `Exists`: nothing is overwritten. `MissingDirectory`, `DiskFull`, `Io`, `Poisoned`.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with(path, &mut |_, _| true)
    }

    /// As [`SynaDB::backup`], telling how far it is.
    ///
    /// # Errors
    /// As [`SynaDB::backup`]; `Cancelled` where `progress` says so: nothing is left behind then.
    pub fn backup_with(
        &self,
        path: impl AsRef<Path>,
        progress: &mut Progress<'_>,
    ) -> Result<BackupReport> {
        self.handle.open()?.backup(path.as_ref(), progress)
    }

    /// What opening the file found.
    ///
    /// # Errors
    /// `Closed`.
    pub fn recovery(&self) -> Result<RecoveryReport> {
        Ok(self.handle.open()?.recovery_report())
    }
}
