//! One bit a dimension of the neighbours of a node, in blocks of 32 that a kernel estimates at once.
//!
//! The codes are those of [`super::bits`], relative to the node. A walk asks for estimates and not
//! for bounds: of the three factors two are kept, as whole numbers of 16 bits of which a step is
//! worth the same for all neighbours of the block. 32 numbers of what is added follow the codes,
//! then 32 slopes, little-endian; what their steps are worth is kept by who has the block. That is a
//! third of the bytes of single precision, and errs by 1/65,534 of the largest where an estimate
//! errs by some hundredths.

use super::bits::{BLOCK_ROWS, codes_bytes, encode_signs};
use super::{Anchor, Space};

/// Bytes of one factor of all neighbours.
pub(super) const SHORTS_BYTES: usize = BLOCK_ROWS * size_of::<i16>();

/// Bytes of a block of 32 neighbours of `padded` dimensions: `4 * padded + 128`.
#[must_use]
pub const fn link_block_bytes(padded: usize) -> usize {
    codes_bytes(padded) + 2 * SHORTS_BYTES
}

/// What a step of the numbers of a block is worth.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkSteps {
    /// Of what is added.
    pub add: f32,
    /// Of the slopes.
    pub slope: f32,
}

/// Codes the rotated neighbours of a node into a block, from its first slot on, with what each adds
/// to its squared distance. O(padded) each. Other slots are as far as the node.
///
/// A neighbour whose residual `f32` cannot hold is as far as the node, too.
///
/// # Panics
///
/// Panics when there are more than 32, or the lengths do not fit each other.
pub fn encode_links<'a>(
    node: &Anchor,
    neighbours: impl Iterator<Item = Option<(&'a [f32], f32)>>,
    block: &mut [u8],
) -> LinkSteps {
    let padded = node.vector().len();
    assert_eq!(block.len(), link_block_bytes(padded), "the block is for rows of this length");
    block.fill(0);
    let (codes, numbers) = block.split_at_mut(codes_bytes(padded));
    let (mut adds, mut slopes) = ([0.0; BLOCK_ROWS], [0.0; BLOCK_ROWS]);
    for (slot, neighbour) in neighbours.enumerate() {
        let Some((row, extra)) = neighbour else { continue };
        assert_eq!(row.len(), padded, "node and neighbour have one length");
        let found = encode_signs(Space::Distance, node, row, slot, codes);
        let known = if found.add.is_nan() { 0.0 } else { found.add };
        adds[slot] = (known + extra).clamp(f32::MIN, f32::MAX);
        slopes[slot] = found.slope;
    }
    let (of_adds, of_slopes) = numbers.split_at_mut(SHORTS_BYTES);
    LinkSteps { add: shorten(&adds, of_adds), slope: shorten(&slopes, of_slopes) }
}

/// Rounds finite numbers to multiples of a step, which it gives.
fn shorten(values: &[f32; BLOCK_ROWS], out: &mut [u8]) -> f32 {
    let most = f32::from(i16::MAX);
    let step = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / most;
    for (value, out) in values.iter().zip(out.as_chunks_mut().0) {
        // A step too small for single precision is worth nothing: no division by it.
        let number = if step > 0.0 { (value / step).round().clamp(-most, most) } else { 0.0 };
        *out = (number as i16).to_le_bytes();
    }
    step
}

/// What is added and the slope of a neighbour, in steps.
pub(super) fn numbers(block: &[u8], padded: usize, slot: usize) -> (i16, i16) {
    let (shorts, _) = block[codes_bytes(padded)..].as_chunks();
    let number = |at: usize| i16::from_le_bytes(shorts[at]);
    (number(slot), number(BLOCK_ROWS + slot))
}
