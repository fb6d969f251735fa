//! Keys: rules, hashes, and the map from a key to its newest record.

mod append;
mod index;
mod map;

pub(crate) use append::{AppendVec, AppendWords};
pub(crate) use index::HashIndex;
pub(crate) use map::{KeyMap, KeyMapReader};

use synadb_types::limits::KEY_BYTES_MAX;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

/// Refuses what cannot be a key.
///
/// # Errors
/// `EmptyKey`, `KeyTooLong`.
pub(crate) fn check(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(Error::EmptyKey),
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(Error::KeyTooLong { bytes }),
    }
}

/// XXH3 of a key, seeded by the database so that colliding keys cannot be prepared.
#[inline]
pub(crate) fn hash(key: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(key, seed)
}
