//! Copying an open database, to a commit.

use std::path::Path;
use std::sync::Arc;

use arc_swap::Guard;
use synadb_storage::Result as StorageResult;
use synadb_storage::control;
use synadb_storage::identity::{FRAMES_START, PAGE_BYTES};
use synadb_storage::region::Region;

use super::registry::resolve_database;
use super::{Engine, Generation};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Bytes that are copied between two looks at the progress.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes after which the copy is synced, so that the last sync is not the whole wait.
const SYNC_BYTES: u64 = 64 << 20;
const CANCELLED: Error = Error::Cancelled { what: "the backup" };

/// What a backup wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// Bytes of log in the copy: everything before this offset of the original.
    pub bytes: u64,
}

impl Engine {
    /// Copies everything that is visible now into a new file.
    ///
    /// The log is append-only: what is before its end changes no more, whoever writes meanwhile.
    pub fn backup(&self, to: &Path, progress: &mut Progress<'_>) -> Result<BackupReport> {
        self.check_poison()?;
        let target = resolve_database(to)?;
        let fail = |error| Error::storage(&target, error);
        if self.directory.inode(&target).is_ok() {
            return Err(Error::Exists { path: target });
        }
        let generation = Guard::into_inner(self.current()?);
        let (temporary, created) = self.directory.create_like(&target, &self.path).map_err(fail)?;
        let copied = self.copy(&generation, &target, &*created.region, progress);
        let placed = copied.and_then(|bytes| {
            if !self.directory.place(&temporary, &target).map_err(fail)? {
                return Err(Error::Exists { path: target.clone() });
            }
            if bytes > 0 {
                created.region.publish(control::DIR_SYNCED, 1).map_err(fail)?;
            }
            Ok(BackupReport { bytes })
        });
        placed.inspect_err(|_| {
            if self.directory.remove(&temporary).is_err() {
                // The next open for writing of the target removes it.
            }
        })
    }

    /// Copies the log and vouches for the copy; returns where it ends.
    fn copy(
        &self,
        generation: &Arc<Generation>,
        target: &Path,
        region: &dyn Region,
        progress: &mut Progress<'_>,
    ) -> Result<u64> {
        let fail = |error| Error::storage(target, error);
        let (log, end) = (&generation.log, generation.visible());
        let identity = log.identity();
        if identity.database_id == [0; 16] {
            // Nobody has written to the file yet, and whoever opens the copy will name it.
            return Ok(0);
        }
        region.allocate((end + 8).next_multiple_of(PAGE_BYTES)).map_err(fail)?;
        region.store(0, &identity.page()).map_err(fail)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut synced = 0;
        let mut at = FRAMES_START;
        while at < end {
            if !progress(at, end) {
                return Err(CANCELLED);
            }
            let len = (end - at).min(CHUNK_BYTES as u64) as usize;
            log.region().read(at, &mut chunk[..len]).map_err(|error| self.failure(error))?;
            // Space that was just reserved is zero on both sides.
            if chunk[..len].iter().any(|byte| *byte != 0) {
                region.store(at, &chunk[..len]).map_err(fail)?;
            }
            at += len as u64;
            if at - synced >= SYNC_BYTES {
                region.sync().map_err(fail)?;
                synced = at;
            }
        }
        vouch(region, end, &identity.database_id).map_err(fail)?;
        if progress(end, end) { Ok(end) } else { Err(CANCELLED) }
    }
}

fn vouch(region: &dyn Region, end: u64, database_id: &[u8; 16]) -> StorageResult<()> {
    region.publish(control::SYNCED, control::pack_synced(end, database_id))?;
    region.sync()
}
