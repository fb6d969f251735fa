//! Saving what is whole of a damaged file into a new one.

mod damaged;
mod save;
mod survey;

use std::path::Path;

use synadb_storage::StorageError;
use synadb_storage::control;
use synadb_storage::directory::{Directory, DiskDirectory, Opened};
use synadb_storage::lock::LockKind;

use self::damaged::Damaged;
use crate::config::{Access, OpenOptions};
use crate::db::{resolve, resolve_database};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// What a repair kept and what it could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Bytes of the damaged file.
    pub bytes_read: u64,
    /// Bytes of log of the new one.
    pub bytes_written: u64,
    /// What was kept, table by table.
    pub kept: Vec<TableKept>,
    /// What was not, in order of the file; empty where nothing is missing.
    pub lost: Vec<Lost>,
}

/// Records of a table that were kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableKept {
    /// Its name.
    pub name: String,
    /// Values, vectors and deletes.
    pub records: u64,
}

/// Bytes of the damaged file that could not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What does not fit.
    pub reason: String,
    /// The table, where it is known.
    pub table: Option<String>,
    /// The key, where it is known.
    pub key: Option<String>,
    /// Whether a checksum vouches for table and key; else they are what the bytes seem to say.
    pub is_certain: bool,
}

const CANCELLED: Error = Error::Cancelled { what: "the repair" };

/// Saves everything that is whole in the damaged file `path` into a new database at `to`.
///
/// The damaged file, which need not open, is not changed. Kept are all records that a checksum
/// vouches for, in order, with the histories, sequences and times that they had; the report names
/// what is missing. A version that is missing lets the one before it appear; a missing delete lets
/// what it deleted appear again. The new file was verified when it takes its place.
///
/// # Errors
/// `Exists` where there is something at `to`; `Locked` while somebody has `path` open for writing;
/// `Corruption` where both copies of the identity are damaged and no checkpoint tells the database
/// id; `NotADatabase`, `MissingDatabase`, `DiskFull`, `Io`; `Cancelled` by `progress`.
pub fn repair(
    path: impl AsRef<Path>,
    to: impl AsRef<Path>,
    progress: &mut Progress<'_>,
) -> Result<RepairReport> {
    let (source, target) = (resolve(path.as_ref())?, resolve_database(to.as_ref())?);
    if DiskDirectory.inode(&target).is_ok() {
        return Err(Error::Exists { path: target });
    }
    let opened = open(&source)?;
    let mut passes = Passes { progress, bytes: opened.region.len() };
    let damaged = Damaged::survey(&source, &opened, &mut passes.of(0));
    let damaged = damaged.map_err(|error| failure(&source, error))?;
    let fail = |error| failure(&target, error);
    let (temporary, created) = DiskDirectory.create_like(&target, &source).map_err(fail)?;
    let saved = damaged.save(&created.region, &mut passes.of(1)).map_err(fail);
    let placed = saved.and_then(|report| {
        check(&temporary, &mut passes.of(2))?;
        if !passes.end() {
            return Err(CANCELLED);
        }
        if !DiskDirectory.place(&temporary, &target).map_err(fail)? {
            return Err(Error::Exists { path: target.clone() });
        }
        created.region.publish(control::DIR_SYNCED, 1).map_err(fail)?;
        Ok(report)
    });
    placed.inspect_err(|_| {
        if DiskDirectory.remove(&temporary).is_err() {
            // The next open for writing of the target removes it.
        }
    })
}

fn failure(path: &Path, error: StorageError) -> Error {
    match error {
        StorageError::Interrupted => CANCELLED,
        other => Error::storage(path, other),
    }
}

/// Progress over three passes of one length each.
struct Passes<'a, 'b> {
    progress: &'a mut Progress<'b>,
    bytes: u64,
}

impl Passes<'_, '_> {
    /// Progress of one of them, which may look back: what is told only grows.
    fn of(&mut self, pass: u64) -> impl FnMut(u64) -> bool {
        let (bytes, mut reached) = (self.bytes, 0);
        move |done| {
            reached = done.clamp(reached, bytes.max(reached));
            (self.progress)(pass * bytes + reached, 3 * bytes)
        }
    }

    /// Says that only the last step is left.
    fn end(&mut self) -> bool {
        (self.progress)(3 * self.bytes, 3 * self.bytes)
    }
}

fn open(path: &Path) -> Result<Opened> {
    let fail = |error| Error::storage(path, error);
    let opened = DiskDirectory.open(path, false, false).map_err(|error| match error {
        StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::MissingDatabase { path: path.to_owned() }
        }
        other => fail(other),
    })?;
    // Where no lock can be had nobody writes.
    let busy = |locks: &dyn synadb_storage::lock::Locks| {
        locks.is_held_elsewhere(LockKind::Registration).unwrap_or(false)
    };
    if opened.locks.as_deref().is_some_and(busy) {
        let pid = control::holder(&*opened.region);
        return Err(Error::Locked { path: path.to_owned(), pid });
    }
    Ok(opened)
}

/// Opens the new file as anybody would and verifies it.
fn check(path: &Path, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
    let database = OpenOptions::new().access(Access::ReadOnly).open_unfinished(path)?;
    let mut cancelled = false;
    let report = database.verify_with(&mut |done, _| {
        cancelled = !goes_on(done);
        !cancelled
    })?;
    database.close()?;
    match report.damage.into_iter().next() {
        _ if cancelled => Err(CANCELLED),
        None => Ok(()),
        Some((offset, reason)) => {
            let reason = format!("the repaired file does not verify: {reason}");
            Err(Error::Corruption { path: path.to_owned(), offset, key: None, reason })
        }
    }
}
