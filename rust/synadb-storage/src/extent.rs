//! Extents: reserved, aligned, contiguous space in the gap behind the frame that announces it.

use synadb_types::limits::{EXTENT_ALIGN, EXTENT_CHUNK_BYTES};

use crate::checksum::crc32c;
use crate::region::Region;
use crate::{Result, StorageError};

/// Vector extents of this size and more begin on a page.
pub const PAGE_ALIGNED_BYTES_MIN: u64 = 64 << 10;
/// Tag of the record of an extent that single rows fill, one commit after the other.
pub const OPEN: u8 = 1;
/// Bytes of the payload of an extent record.
pub const RESERVATION_BYTES: usize = 20;
/// Bytes of the payload of a record whose value lies in an extent.
pub const SEAL_BYTES: usize = 20;

/// What an extent record announces: space in the gap behind its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Bytes of it.
    pub bytes: u64,
    /// It begins at the first multiple of this in the gap; a power of two, 64 or more.
    pub align: u32,
    /// First row of a vector extent.
    pub first_row: u32,
    /// Rows of a vector extent, 0 for any other.
    pub rows: u32,
}

impl Reservation {
    /// Bytes of the gap that holds the space wherever the frame ends.
    #[must_use]
    pub fn gap(&self) -> u64 {
        self.bytes.next_multiple_of(EXTENT_ALIGN) + u64::from(self.align) - EXTENT_ALIGN
    }

    /// Where the space begins in a gap.
    #[must_use]
    pub fn start(&self, gap_start: u64) -> u64 {
        gap_start.next_multiple_of(u64::from(self.align))
    }

    /// The payload of the record.
    #[must_use]
    pub fn encode(&self) -> [u8; RESERVATION_BYTES] {
        let mut out = [0; RESERVATION_BYTES];
        out[..8].copy_from_slice(&self.bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.align.to_le_bytes());
        out[12..16].copy_from_slice(&self.first_row.to_le_bytes());
        out[16..].copy_from_slice(&self.rows.to_le_bytes());
        out
    }

    /// Reads the payload of a record.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; RESERVATION_BYTES] = payload.try_into().ok()?;
        let bytes = u64::from_le_bytes(std::array::from_fn(|i| payload[i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
        let align = half(8);
        let fits = align.is_power_of_two() && (64..=1 << 20).contains(&align) && bytes < 1 << 48;
        fits.then_some(Self { bytes, align, first_row: half(12), rows: half(16) })
    }
}

/// What commits a value that lies in an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Where the value begins.
    pub start: u64,
    /// Bytes of the value.
    pub bytes: u64,
    /// CRC-32C of the list of chunk checksums behind the value.
    pub list_crc: u32,
}

impl Seal {
    /// The payload of the record.
    #[must_use]
    pub fn encode(&self) -> [u8; SEAL_BYTES] {
        let mut out = [0; SEAL_BYTES];
        out[..8].copy_from_slice(&self.start.to_le_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        out[16..].copy_from_slice(&self.list_crc.to_le_bytes());
        out
    }

    /// Reads the payload of a record.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; SEAL_BYTES] = payload.try_into().ok()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
        let list_crc = u32::from_le_bytes(std::array::from_fn(|i| payload[16 + i]));
        Some(Self { start: word(0), bytes: word(8), list_crc })
    }
}

/// Bytes of the payload of a row record.
pub const ROW_BYTES: usize = 29;

/// What a row record commits: one row of a vector extent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Type of the elements, for the layer above.
    pub dtype: u8,
    /// Number of the row.
    pub row: u32,
    /// Where its bytes lie.
    pub offset: u64,
    /// Bytes of it, without what fills up the stride.
    pub bytes: u32,
    /// CRC-32C of these bytes.
    pub crc: u32,
    /// 1 / norm, 0 for a zero vector, NaN where 32 bits cannot hold it.
    pub inverse_norm: f32,
    /// The row of the same key that dies, `u32::MAX` where there is none.
    pub replaces: u32,
}

impl Row {
    /// The payload of the record.
    #[must_use]
    pub fn encode(&self) -> [u8; ROW_BYTES] {
        let mut out = [0; ROW_BYTES];
        out[0] = self.dtype;
        out[1..5].copy_from_slice(&self.row.to_le_bytes());
        out[5..13].copy_from_slice(&self.offset.to_le_bytes());
        out[13..17].copy_from_slice(&self.bytes.to_le_bytes());
        out[17..21].copy_from_slice(&self.crc.to_le_bytes());
        out[21..25].copy_from_slice(&self.inverse_norm.to_le_bytes());
        out[25..].copy_from_slice(&self.replaces.to_le_bytes());
        out
    }

    /// Reads the payload of a record.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; ROW_BYTES] = payload.try_into().ok()?;
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| payload[at + i]));
        let offset = u64::from_le_bytes(std::array::from_fn(|i| payload[5 + i]));
        Some(Self {
            dtype: payload[0],
            row: half(1),
            offset,
            bytes: half(13),
            crc: half(17),
            inverse_norm: f32::from_bits(half(21)),
            replaces: half(25),
        })
    }
}

/// Bytes that a value of `bytes` takes with its list of checksums.
#[must_use]
pub fn sealed_bytes(bytes: u64) -> u64 {
    let chunks = bytes.div_ceil(EXTENT_CHUNK_BYTES as u64);
    bytes.next_multiple_of(EXTENT_ALIGN) + (chunks * 4).next_multiple_of(EXTENT_ALIGN)
}

/// Stores a value and its list of checksums at `start`.
///
/// # Errors
/// As [`Region::store`].
pub fn fill(region: &dyn Region, start: u64, value: &[u8]) -> Result<Seal> {
    let mut list = Vec::with_capacity(value.len() / EXTENT_CHUNK_BYTES * 4 + 4);
    for chunk in value.chunks(EXTENT_CHUNK_BYTES) {
        list.extend_from_slice(&crc32c(chunk).to_le_bytes());
    }
    let bytes = value.len() as u64;
    region.store(start, value)?;
    region.store(start + bytes.next_multiple_of(EXTENT_ALIGN), &list)?;
    Ok(Seal { start, bytes, list_crc: crc32c(&list) })
}

/// The value that `seal` commits, verified.
///
/// # Errors
/// `Corrupt` with the offset of the bad chunk.
pub fn read(region: &dyn Region, seal: Seal) -> Result<&[u8]> {
    let outside = || StorageError::corrupt(seal.start, "an extent outside of the file");
    let len = usize::try_from(seal.bytes).map_err(|_| outside())?;
    let value = region.bytes(seal.start, len).ok_or_else(outside)?;
    let list_at = seal.start + seal.bytes.next_multiple_of(EXTENT_ALIGN);
    let list_len = len.div_ceil(EXTENT_CHUNK_BYTES) * 4;
    let list = region.bytes(list_at, list_len).ok_or_else(outside)?;
    if crc32c(list) != seal.list_crc {
        return Err(StorageError::corrupt(list_at, "checksums of an extent do not fit"));
    }
    for (index, chunk) in value.chunks(EXTENT_CHUNK_BYTES).enumerate() {
        let expected = u32::from_le_bytes(std::array::from_fn(|i| list[4 * index + i]));
        if crc32c(chunk) != expected {
            let offset = seal.start + (index * EXTENT_CHUNK_BYTES) as u64;
            return Err(StorageError::corrupt(offset, "a chunk of an extent does not fit"));
        }
    }
    Ok(value)
}
