//! Inner products of sixteen-bit codes, many rows against many columns at once.
//!
//! All levels give the same integers, so that a clustering does not depend on the processor.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use crate::SimdLevel;

/// Two neighbouring components of a row: what one multiply-add instruction takes.
pub(crate) type Pair = [i16; 2];

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 12;
/// Columns of a panel.
pub(crate) const PANEL: usize = 16;

/// The products of a tile.
pub(crate) type Tile = [[i32; PANEL]; TILE_ROWS];

/// Inner products of the rows, side by side and equally long, with the columns of a panel.
///
/// No component is -32,768 and no product of two rows' lengths is over 2^31 - 1: then no sum
/// overflows, since every part of an inner product is bounded by the lengths.
///
/// # Panics
///
/// Panics when there are not `TILE_ROWS` rows as long as the panel.
pub(crate) type TileKernel = fn(rows: &[Pair], panel: &[[Pair; PANEL]], out: &mut Tile);

/// The kernel of a level; a processor of the last level without its 16-bit instructions takes
/// the one before.
pub(crate) fn tile_kernel(level: SimdLevel) -> TileKernel {
    // The upper kernels are reachable only from here: their functions rely on it.
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 if avx512::is_supported() => avx512::tile,
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 | SimdLevel::Avx512 if SimdLevel::Avx2.is_supported() => avx2::tile,
        _ => scalar::tile,
    }
}

/// Checks what every kernel relies on.
fn assert_tile(rows: &[Pair], panel: &[[Pair; PANEL]]) {
    assert_eq!(rows.len(), TILE_ROWS * panel.len(), "the rows of a tile are as long as its panel");
}
