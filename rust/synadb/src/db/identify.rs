//! The identity of a file: read, or written where the file is new, and made durable.

use std::path::Path;

use synadb_storage::control;
use synadb_storage::directory::Directory;
use synadb_storage::identity::{FRAMES_START, Identity, PAGE_BYTES};
use synadb_storage::region::Region;
use synadb_storage::{Result as StorageResult, StorageError};

/// Reads the identity, and writes one where the file is new.
pub(super) fn identify(
    path: &Path,
    directory: &dyn Directory,
    region: &dyn Region,
    writes: bool,
) -> StorageResult<Option<Identity>> {
    let is_zero = |end: u64| {
        let bytes = region.bytes(0, end.min(region.len()) as usize).unwrap_or_default();
        bytes.iter().all(|byte| *byte == 0)
    };
    if !is_zero(region.len()) {
        // Looked at last: who only reads may be here while another process creates the file.
        if !is_zero(FRAMES_START) {
            return read_identity(region).map(Some);
        }
        let reason = "its first 8 KiB are zero, what follows is not".to_owned();
        return Err(StorageError::NotADatabase { reason });
    }
    if !writes {
        return Ok(None);
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
/// Who created the file, or put it in the place of another, may have died before it did so. What a
/// power cut left of a page that no frame follows is stored again; else it is damage, and stays.
///
/// Called once the file is known to be good: one that is refused stays as it is.
pub(super) fn settle(
    path: &Path,
    directory: &dyn Directory,
    region: &dyn Region,
    identity: &Identity,
) -> StorageResult<()> {
    if region.load(FRAMES_START) == Some(0) {
        region.store(0, &identity.page())?;
    }
    region.sync()?;
    directory.sync_parent(path)?;
    region.publish(control::DIR_SYNCED, 1)
}

fn read_identity(region: &dyn Region) -> StorageResult<Identity> {
    let page = region.bytes(0, region.len().min(PAGE_BYTES) as usize).unwrap_or_default();
    let (identity, _) = Identity::read(page)?;
    if region.len() < FRAMES_START + 8 {
        // Creation allocates more than this before it stores the identity.
        let reason = "the file ends inside its header".to_owned();
        return Err(StorageError::Corrupt { offset: region.len(), reason });
    }
    Ok(identity)
}
