//! Page 1: the few words that change in place. Hints, but for `synced` and `dir_synced`.

use std::sync::OnceLock;

use crate::Result;
use crate::checksum::{crc32c, fold16, low32};
use crate::identity::PAGE_BYTES;
use crate::region::Region;

/// 1 while somebody waits for the write lock; a futex.
pub const WANT: u64 = PAGE_BYTES;
/// Counts the releases of the write lock that somebody waited for; a futex.
pub const RELEASED: u64 = PAGE_BYTES + 64;
/// Process and pid namespace of the one that writes, or is about to.
pub const HOLDER: u64 = PAGE_BYTES + 128;
/// Process and pid namespace of the one that is next to write, or is about to be.
pub const NEXT: u64 = HOLDER + 8;
/// Set before a compacted file takes the path over.
pub const SUPERSEDED: u64 = PAGE_BYTES + 192;
/// Set after a failed sync, until everybody has closed the file and recovery ran.
pub const POISONED: u64 = PAGE_BYTES + 256;
/// Set once the directory entry is known to be durable.
pub const DIR_SYNCED: u64 = PAGE_BYTES + 320;
/// Counts the syncs that were made for several processes; a futex.
pub const SYNC_GEN: u64 = PAGE_BYTES + 384;
/// Position known to be synced (48 bits) and its check (16 bits).
pub const SYNCED: u64 = PAGE_BYTES + 448;

const OFFSET_BITS: u32 = 48;

/// Packs a synced position with its check.
#[must_use]
pub fn pack_synced(position: u64, database_id: &[u8; 16]) -> u64 {
    position | (u64::from(synced_check(position, database_id)) << OFFSET_BITS)
}

/// The synced position of a file, 0 where the word does not fit its check.
#[must_use]
pub fn synced(region: &dyn Region, database_id: &[u8; 16]) -> u64 {
    let Some(word) = region.load(SYNCED) else { return 0 };
    let position = word & ((1 << OFFSET_BITS) - 1);
    if word == pack_synced(position, database_id) { position } else { 0 }
}

fn synced_check(position: u64, database_id: &[u8; 16]) -> u16 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&position.to_le_bytes());
    bytes[8..].copy_from_slice(database_id);
    fold16(crc32c(&bytes))
}

/// The word that names this process.
#[must_use]
pub fn this_process() -> u64 {
    u64::from(std::process::id()) | (pid_namespace() << 32)
}

/// Process id of the holder; 0 where it is unknown, or of another pid namespace.
#[must_use]
pub fn holder(region: &dyn Region) -> u32 {
    named(region, HOLDER)
}

/// Process id of the one that is next; 0 where it is unknown, of another pid namespace, or this one,
/// which would not be told to wait for itself.
#[must_use]
pub fn next(region: &dyn Region) -> u32 {
    let pid = named(region, NEXT);
    if pid == std::process::id() { 0 } else { pid }
}

fn named(region: &dyn Region, offset: u64) -> u32 {
    let word = region.load(offset).unwrap_or(0);
    if word >> 32 == pid_namespace() { low32(word) } else { 0 }
}

fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    let ask = || std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino() & 0xffff_ffff);
    *NAMESPACE.get_or_init(ask)
}

/// Raises the synced position that all processes see; it never falls.
///
/// # Errors
/// As [`Region::publish`].
pub fn raise_synced(region: &dyn Region, position: u64, database_id: &[u8; 16]) -> Result<()> {
    // Two raisers hold the sync lock one after the other: no store is lost between them.
    if synced(region, database_id) < position {
        region.publish(SYNCED, pack_synced(position, database_id))?;
    }
    Ok(())
}
