//! Page 1: the few words that change in place. Hints, but for `synced` and `dir_synced`.

use crate::checksum::{crc32c, fold16};
use crate::identity::PAGE_BYTES;
use crate::region::Region;

/// Process and pid namespace of the one that writes.
pub const HOLDER: u64 = PAGE_BYTES + 128;
/// Set before a compacted file takes the path over.
pub const SUPERSEDED: u64 = PAGE_BYTES + 192;
/// Set after a failed sync, until everybody has closed the file and recovery ran.
pub const POISONED: u64 = PAGE_BYTES + 256;
/// Set once the directory entry is known to be durable.
pub const DIR_SYNCED: u64 = PAGE_BYTES + 320;
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

/// The word that names this process as the holder.
#[must_use]
pub fn holder_word() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino() & 0xffff_ffff);
    u64::from(std::process::id()) | (namespace << 32)
}
