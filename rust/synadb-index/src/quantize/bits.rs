//! One bit a dimension, in blocks of 32 rows that a kernel estimates at once.
//!
//! For every four dimensions a block has 16 bytes: byte `2 i` holds the four bits of row `i`
//! below those of row `16 + i`, byte `2 i + 1` those of rows `8 + i` and `24 + i`. One shuffle
//! looks up 16 of them in a table of partial sums: the fast scan of Andre, Kermarrec and Le
//! Scouarnec (VLDB 2015). The three factors of the 32 rows follow, as little-endian `f32`.

use super::factors::{Sums, fold};
use super::{Anchor, Factors, Space};

/// Rows of a block.
pub const BLOCK_ROWS: usize = 32;
/// Dimensions that share one lookup.
pub(super) const GROUP: usize = 4;
/// Bytes of one group of dimensions in a block.
pub(super) const GROUP_BYTES: usize = 16;
/// Bytes of one factor of all rows.
const FACTOR_BYTES: usize = BLOCK_ROWS * size_of::<f32>();
const LANES: usize = 16;

/// Bytes of a block of 32 rows of `padded` dimensions: `4 * padded + 384`.
#[must_use]
pub const fn bit_block_bytes(padded: usize) -> usize {
    codes_bytes(padded) + 3 * FACTOR_BYTES
}

pub(super) const fn codes_bytes(padded: usize) -> usize {
    padded / GROUP * GROUP_BYTES
}

/// Keys and lower bounds of a block.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct Estimates {
    /// Estimated keys.
    pub keys: [f32; BLOCK_ROWS],
    /// What the keys exceed with the likelihood that was asked for.
    pub lower: [f32; BLOCK_ROWS],
}

impl Default for Estimates {
    fn default() -> Self {
        Self { keys: [0.0; BLOCK_ROWS], lower: [0.0; BLOCK_ROWS] }
    }
}

/// Codes a rotated row relative to an anchor into a slot of a block. O(padded).
///
/// What the slot held before does not matter.
///
/// # Panics
///
/// Panics when the slot is not below 32 or the lengths do not fit each other.
pub fn encode_bits(space: Space, anchor: &Anchor, row: &[f32], slot: usize, block: &mut [u8]) {
    let padded = row.len();
    assert!(slot < BLOCK_ROWS, "a block has {BLOCK_ROWS} rows");
    assert_eq!(anchor.vector().len(), padded, "row and anchor have one length");
    assert_eq!(block.len(), bit_block_bytes(padded), "the block is for rows of this length");
    let (codes, factors) = block.split_at_mut(codes_bytes(padded));
    let found = encode_signs(space, anchor, row, slot, codes);
    let (parts, _) = factors.as_chunks_mut::<FACTOR_BYTES>();
    for (part, value) in parts.iter_mut().zip([found.add, found.slope, found.error]) {
        part[slot * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes the bits of a row into a slot of the codes of a block, and gives its factors.
pub(super) fn encode_signs(
    space: Space,
    anchor: &Anchor,
    row: &[f32],
    slot: usize,
    codes: &mut [u8],
) -> Factors {
    let (byte, shift) = place(slot);
    let keep = !(0x0f << shift);
    let (rows, _) = row.as_chunks::<LANES>();
    let (anchors, _) = anchor.vector().as_chunks::<LANES>();
    let mut sums = [[0.0; LANES]; 4];
    for (chunk, (row, anchor)) in rows.iter().zip(anchors).enumerate() {
        let bits = step(row, anchor, &mut sums);
        for group in 0..LANES / GROUP {
            let at = (chunk * (LANES / GROUP) + group) * GROUP_BYTES + byte;
            let nibble = (bits >> (group * GROUP)) as u8 & 0x0f;
            codes[at] = codes[at] & keep | nibble << shift;
        }
    }
    let [tt, tc, cm, tm] = sums.map(fold);
    let sums = Sums { tt, tc, cc: row.len() as f32, cm, tm };
    let at_anchor = tc == 0.0;
    match at_anchor {
        true => Factors::default(),
        false => Factors::new(space, anchor, &sums, row.len()),
    }
}

/// Adds 16 coordinates to the sums and returns their signs as bits.
#[inline]
fn step(row: &[f32; LANES], anchor: &[f32; LANES], sums: &mut [[f32; LANES]; 4]) -> u16 {
    let [tt, tc, cm, tm] = sums;
    let mut bits = 0;
    for lane in 0..LANES {
        let (x, m) = (row[lane], anchor[lane]);
        let t = x - m;
        tt[lane] += t * t;
        tc[lane] += t.abs();
        cm[lane] += if t > 0.0 { m } else { -m };
        tm[lane] += t * m;
        bits |= u16::from(t > 0.0) << lane;
    }
    bits
}

/// Copies the code of a slot of one block into a slot of another. O(padded).
///
/// What the slot held before does not matter.
///
/// # Panics
///
/// Panics when a slot is not below 32 or the blocks are not of rows of `padded` dimensions.
pub fn copy_bits(padded: usize, (from, from_slot): (&[u8], usize), to: &mut [u8], to_slot: usize) {
    assert!(from_slot < BLOCK_ROWS && to_slot < BLOCK_ROWS, "a block has {BLOCK_ROWS} rows");
    let bytes = bit_block_bytes(padded);
    assert!(from.len() == bytes && to.len() == bytes, "the blocks are of such rows");
    let (from_codes, from_factors) = from.split_at(codes_bytes(padded));
    let (to_codes, to_factors) = to.split_at_mut(codes_bytes(padded));
    let (from_byte, from_shift) = place(from_slot);
    let (to_byte, to_shift) = place(to_slot);
    let (from_groups, _) = from_codes.as_chunks::<GROUP_BYTES>();
    let (to_groups, _) = to_codes.as_chunks_mut::<GROUP_BYTES>();
    for (from, to) in from_groups.iter().zip(to_groups) {
        let nibble = from[from_byte] >> from_shift & 0x0f;
        to[to_byte] = to[to_byte] & !(0x0f << to_shift) | nibble << to_shift;
    }
    let (from_parts, _) = from_factors.as_chunks::<FACTOR_BYTES>();
    let (to_parts, _) = to_factors.as_chunks_mut::<FACTOR_BYTES>();
    for (from, to) in from_parts.iter().zip(to_parts) {
        to[to_slot * 4..][..4].copy_from_slice(&from[from_slot * 4..][..4]);
    }
}

/// The byte of a group that holds the four bits of a slot, and how far they are shifted in it.
fn place(slot: usize) -> (usize, u32) {
    let at = slot % 16;
    let byte = if at < 8 { 2 * at } else { 2 * (at - 8) + 1 };
    (byte, if slot < 16 { 0 } else { 4 })
}

/// Makes every slot of a block that of a row at its anchor.
pub fn clear_bits(block: &mut [u8]) {
    block.fill(0);
}

/// The bits of a row of a block, as the signs of its grid point.
#[cfg(test)]
pub(super) fn signs(block: &[u8], padded: usize, slot: usize) -> Vec<f32> {
    let (byte, shift) = place(slot);
    let sign = |index: usize| {
        let nibble = block[index / GROUP * GROUP_BYTES + byte] >> shift;
        if nibble >> (index % GROUP) & 1 == 1 { 1.0 } else { -1.0 }
    };
    (0..padded).map(sign).collect()
}

/// The factors of a row of a block.
pub(super) fn factors(block: &[u8], padded: usize, slot: usize) -> Factors {
    let value = |part: usize| {
        let at = codes_bytes(padded) + part * FACTOR_BYTES + slot * 4;
        f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
    };
    Factors { add: value(0), slope: value(1), error: value(2) }
}
