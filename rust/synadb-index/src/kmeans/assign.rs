//! Nearest centroids of many rows, by blocked matrix kernels.

use std::ops::Range;

use super::codes::{Panels, RowCodes};
use super::dots::{PANEL, TILE_ROWS, Tile, TileKernel};
use crate::IndexError;
use crate::job::Crew;

/// Bytes of rows that stay in the second cache while the panels pass by.
const BLOCK_BYTES: usize = 96 << 10;
/// Rows of a piece of work: some milliseconds with a thousand centroids.
const PIECE_ROWS: usize = 128 * TILE_ROWS;

/// A centroid and how far it is from a row: the squared distance less the row's squared norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Near {
    pub(crate) key: f32,
    pub(crate) cell: u32,
}

/// What fills a place that no centroid has.
pub(crate) const NONE: Near = Near { key: f32::INFINITY, cell: u32::MAX };

/// Finds the `M` nearest centroids of each row, nearest first; the smaller number among equals.
///
/// Time: rows times centroids times dimensions, at up to 32 multiply-adds a cycle with AVX2 and
/// 64 with AVX-512 (two components a lane, one row against sixteen centroids an instruction).
///
/// # Errors
///
/// [`IndexError::Cancelled`].
pub(crate) fn nearest<const M: usize>(
    rows: &RowCodes,
    range: Range<usize>,
    panels: &Panels,
    kernel: TileKernel,
    crew: &Crew<'_>,
    out: &mut [[Near; M]],
) -> Result<(), IndexError> {
    assert_eq!(range.len(), out.len(), "every row has its own results");
    assert!(range.start.is_multiple_of(TILE_ROWS), "tiles begin at whole tiles");
    let pieces = out.chunks_mut(PIECE_ROWS).enumerate();
    let pieces = pieces.map(|(at, out)| (range.start + at * PIECE_ROWS, out)).collect();
    crew.each(pieces, |(first, out): (usize, &mut [[Near; M]])| {
        piece(rows, first, panels, kernel, out);
        Ok(())
    })
}

pub(super) fn piece<const M: usize>(
    rows: &RowCodes,
    first: usize,
    panels: &Panels,
    kernel: TileKernel,
    out: &mut [[Near; M]],
) {
    out.fill([NONE; M]);
    let tile_bytes = 4 * rows.pairs().max(1) * TILE_ROWS;
    let block = (BLOCK_BYTES / tile_bytes).max(1) * TILE_ROWS;
    let mut tile = Tile::default();
    for (at, out) in out.chunks_mut(block).enumerate() {
        let first = first + at * block;
        for (panel, (codes, factors, norms)) in panels.iter().enumerate() {
            for (at, out) in out.chunks_mut(TILE_ROWS).enumerate() {
                let first = first + at * TILE_ROWS;
                let (pairs, scales) = rows.rows(first..first + TILE_ROWS);
                kernel(pairs, codes, &mut tile);
                for ((dots, &scale), out) in tile.iter().zip(scales).zip(out) {
                    keep(dots, scale, factors, norms, (panel * PANEL) as u32, out);
                }
            }
        }
    }
}

/// Turns the products of one row with a panel into keys and keeps the smallest.
#[inline]
pub(super) fn keep<const M: usize>(
    dots: &[i32; PANEL],
    scale: f32,
    factors: &[f32; PANEL],
    norms: &[f32; PANEL],
    first: u32,
    out: &mut [Near; M],
) {
    let mut keys = [0.0; PANEL];
    for lane in 0..PANEL {
        keys[lane] = norms[lane] + dots[lane] as f32 * factors[lane] * scale;
    }
    let worst = out[M - 1].key;
    if !keys.iter().fold(false, |any, &key| any | (key < worst)) {
        return;
    }
    for (lane, &key) in keys.iter().enumerate() {
        if key < out[M - 1].key {
            let mut at = M - 1;
            while at > 0 && key < out[at - 1].key {
                out[at] = out[at - 1];
                at -= 1;
            }
            out[at] = Near { key, cell: first + lane as u32 };
        }
    }
}
