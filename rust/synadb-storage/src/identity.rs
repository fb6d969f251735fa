//! Page 0: what the file is. Written once, never changed.

use synadb_types::limits::COUNTER_END;

use crate::checksum::crc32c;
use crate::{Result, StorageError};

/// Bytes of a page of the header; frames begin behind two of them.
pub const PAGE_BYTES: u64 = 4096;
/// Offset of the first frame.
pub const FRAMES_START: u64 = 2 * PAGE_BYTES;
/// Format number written by this version, into checkpoints too; `make golden` after a change of it.
pub const FORMAT: u16 = 1;
/// Files of a lower number were written before the format was settled.
const OLDEST: u16 = 1;
/// Offset of the second copy of the identity.
pub const SECOND_COPY: usize = 2048;
/// What a checkpoint begins with.
pub const CHECKPOINT_MAGIC: [u8; 8] = *b"\x89SYNCKP\n";
pub(crate) const MAGIC: [u8; 8] = *b"\x89SYNADB\n";
/// As many as a store of the medium that is whole or not at all.
const BYTES: usize = 64;
const CRC_AT: usize = BYTES - 4;
/// A generation has a number below this.
pub const GENERATION_END: u64 = 1 << 32;

/// Identity of a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random name of the database, kept by compaction.
    pub database_id: [u8; 16],
    /// Number of compactions of the file, less than 2^32.
    pub generation: u64,
    /// Sequence number of the last commit that stands in rewritten frames; the next ones count on.
    pub horizon: u64,
    /// What was there before the commit of this sequence number may be gone.
    pub history_from: u64,
}

impl Identity {
    /// Of a file that nobody has named yet.
    pub const UNNAMED: Self =
        Self { database_id: [0; 16], generation: 0, horizon: 0, history_from: 0 };

    /// A new database with a random id.
    ///
    /// # Errors
    /// `Io` where the system has no randomness.
    pub fn create() -> Result<Self> {
        let mut database_id = [0; 16];
        #[cfg(feature = "simulation")]
        if let Some(database_id) = crate::simulation::seeded::database_id() {
            return Ok(Self { database_id, ..Self::UNNAMED });
        }
        getrandom::fill(&mut database_id)
            .map_err(|error| StorageError::io("draw a database id", error.into()))?;
        Ok(Self { database_id, ..Self::UNNAMED })
    }

    /// The bytes of page 0.
    #[must_use]
    pub fn page(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES as usize];
        let copy = self.copy();
        page[..BYTES].copy_from_slice(&copy);
        page[SECOND_COPY..SECOND_COPY + BYTES].copy_from_slice(&copy);
        page
    }

    fn copy(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        out[10..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[24..40].copy_from_slice(&self.database_id);
        out[40..48].copy_from_slice(&self.horizon.to_le_bytes());
        out[48..56].copy_from_slice(&self.history_from.to_le_bytes());
        out[56..60].copy_from_slice(&(self.generation as u32).to_le_bytes());
        let crc = crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads page 0; the second value lists offsets of damage that the other copy made good.
    ///
    /// # Errors
    /// `NotADatabase`, `Legacy`, `UnsupportedFormat`, or `Corrupt` where both copies are damaged.
    pub fn read(page: &[u8]) -> Result<(Self, Vec<u64>)> {
        let first = decode(page, 0)?;
        let second = decode(page, SECOND_COPY)?;
        let mut damage = Vec::new();
        if first.is_none() {
            damage.push(0);
        }
        if second.is_none() {
            damage.push(SECOND_COPY as u64);
        }
        let Some(identity) = first.or(second) else {
            return Err(classify_foreign(page));
        };
        for (offset, byte) in page.iter().enumerate().take(PAGE_BYTES as usize) {
            let in_copy = offset < BYTES || (SECOND_COPY..SECOND_COPY + BYTES).contains(&offset);
            if !in_copy && *byte != 0 {
                damage.push(offset as u64);
            }
        }
        Ok((identity, damage))
    }
}

fn decode(page: &[u8], at: usize) -> Result<Option<Identity>> {
    let Some(bytes) = page.get(at..at + BYTES) else { return Ok(None) };
    let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[from + i]));
    let crc = u32::from_le_bytes(std::array::from_fn(|i| bytes[CRC_AT + i]));
    if bytes[..8] != MAGIC || crc32c(&bytes[..CRC_AT]) != crc {
        return Ok(None);
    }
    let number = u16::from_le_bytes([bytes[8], bytes[9]]);
    if number < OLDEST {
        return Err(StorageError::UnsupportedFormat {
            reason: format!("format {number}, from before the format was settled"),
        });
    }
    let oldest = u16::from_le_bytes([bytes[10], bytes[11]]);
    let incompatible = u32::from_le_bytes(std::array::from_fn(|i| bytes[12 + i]));
    let read_only_compatible = u32::from_le_bytes(std::array::from_fn(|i| bytes[16 + i]));
    if oldest > FORMAT || incompatible != 0 || read_only_compatible != 0 {
        return Err(StorageError::UnsupportedFormat {
            reason: format!("readers of format {oldest}, features {incompatible:#x}"),
        });
    }
    let database_id = std::array::from_fn(|i| bytes[24 + i]);
    let (horizon, history_from) = (word(40), word(48));
    let generation = word(56) & (GENERATION_END - 1);
    let fits = horizon < COUNTER_END && history_from <= horizon;
    Ok(fits.then_some(Identity { database_id, generation, horizon, history_from }))
}

/// Names what a file without a good identity is.
fn classify_foreign(page: &[u8]) -> StorageError {
    if page.starts_with(&MAGIC) || page.get(SECOND_COPY..SECOND_COPY + 8) == Some(&MAGIC) {
        return StorageError::corrupt(0, "both copies of the identity are damaged");
    }
    let magics: [(&[u8], &str); 5] = [
        (b"CEVM", "mmap vector store"),
        (b"GWIX", "gravity well index"),
        (b"CASC", "cascade index"),
        (b"HNSW", "HNSW side file"),
        (b"SVS\0", "sparse vector store"),
    ];
    for (magic, format) in magics {
        if page.starts_with(magic) {
            return StorageError::Legacy { format };
        }
    }
    if looks_like_original_log(page) {
        return StorageError::Legacy { format: "key-value log" };
    }
    let shown: Vec<u8> = page.iter().take(8).copied().collect();
    StorageError::NotADatabase { reason: format!("it begins with {shown:02x?}") }
}

/// The original's log has no magic: a plausible first record is all there is to go by.
fn looks_like_original_log(page: &[u8]) -> bool {
    let Some(head) = page.get(..15) else { return false };
    let time = u64::from_le_bytes(std::array::from_fn(|i| head[i]));
    let key_len = usize::from(u16::from_le_bytes([head[8], head[9]]));
    let value_len = u32::from_le_bytes(std::array::from_fn(|i| head[10 + i]));
    let years_2000_to_2100 = 946_684_800_000_000..=4_102_444_800_000_000;
    let key_end = (15 + key_len).min(page.len());
    key_len > 0
        && head[14] & !7 == 0
        && value_len < 1_000_000_000
        && years_2000_to_2100.contains(&time)
        && std::str::from_utf8(&page[15..key_end]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The identity as read from a page in which some bytes of both copies are others.
    fn read_with(at: usize, bytes: &[u8]) -> Result<Identity> {
        let mut page = Identity { generation: 3, horizon: 9, ..Identity::UNNAMED }.page();
        for copy in [0, SECOND_COPY] {
            page[copy + at..copy + at + bytes.len()].copy_from_slice(bytes);
            let crc = crc32c(&page[copy..copy + CRC_AT]);
            page[copy + CRC_AT..copy + BYTES].copy_from_slice(&crc.to_le_bytes());
        }
        Identity::read(&page).map(|(identity, _)| identity)
    }

    fn is_refused(at: usize, bytes: &[u8], words: &str) -> bool {
        let read = read_with(at, bytes);
        matches!(read, Err(StorageError::UnsupportedFormat { reason }) if reason.contains(words))
    }

    #[test]
    fn files_of_other_formats_are_read_or_refused_as_they_say() {
        let known = read_with(8, &[1, 0, 1, 0]).expect("this format");
        assert_eq!((known.generation, known.horizon), (3, 9));
        // A later version wrote it, and nothing that this one would misread.
        assert_eq!(read_with(8, &[7, 0, 1, 0]).expect("readable"), known);
        assert_eq!(read_with(20, &[1, 0, 0, 0]).expect("a feature that nobody must know"), known);
        assert!(is_refused(8, &[7, 0, 2, 0], "readers of format 2"));
        assert!(is_refused(8, &[0, 0, 0, 0], "format 0"));
        assert!(is_refused(12, &[4, 0, 0, 0], "features 0x4"));
        assert!(is_refused(16, &[1, 0, 0, 0], "features"));
    }
}
