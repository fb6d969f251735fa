//! Four and eight bits a dimension, row by row.
//!
//! A grid point has small integers as coordinates. Its distance from the row's direction, not
//! its size, makes the error, so the size is chosen among a few for the smallest angle.

use super::factors::{Sums, fold};
use super::{Anchor, Factors, Space};

const LANES: usize = 16;
/// Largest coordinate of a grid point of four bits: they are the odd numbers from -15 to 15.
const NIBBLE_MAX: f32 = 15.0;
/// Largest coordinate of a grid point of eight bits: all integers from -127 to 127.
const BYTE_MAX: f32 = 127.0;
/// Sizes tried for four bits: parts of the largest coordinate that still fall on the grid. After
/// a rotation the largest of d is about 3 deviations, and 16 steps cover 2 to 3 best.
const NIBBLE_PARTS: [f32; 4] = [0.65, 0.75, 0.85, 1.0];
/// Adding this makes a small number an integer, rounded to nearest; taking it away gives it back.
const ROUNDER: f32 = 12_582_912.0;

/// Bytes of a code of four bits for `padded` dimensions.
#[must_use]
pub const fn nibbles_bytes(padded: usize) -> usize {
    padded / 2
}

/// Codes a rotated row relative to an anchor with eight bits a dimension. O(padded).
///
/// # Panics
///
/// Panics when row, anchor and code differ in length.
pub fn encode_bytes(space: Space, anchor: &Anchor, row: &[f32], code: &mut [i8]) -> Factors {
    assert_eq!(anchor.vector().len(), row.len(), "row and anchor have one length");
    assert_eq!(code.len(), row.len(), "a code of eight bits has one byte a dimension");
    let largest = largest(row, anchor);
    let scale = inverse(largest / BYTE_MAX);
    let (rows, _) = row.as_chunks::<LANES>();
    let (anchors, _) = anchor.vector().as_chunks::<LANES>();
    let (codes, _) = code.as_chunks_mut::<LANES>();
    let mut sums = Lanes::default();
    for ((row, anchor), code) in rows.iter().zip(anchors).zip(codes) {
        let mut grid = [0.0; LANES];
        for lane in 0..LANES {
            grid[lane] = near((row[lane] - anchor[lane]) * scale);
            code[lane] = grid[lane] as i8;
        }
        sums.add(row, anchor, &grid);
    }
    factors(space, anchor, largest, &sums.fold())
}

/// Codes a rotated row relative to an anchor with four bits a dimension. O(padded).
///
/// Byte `i` holds dimension `i` below dimension `padded / 2 + i`, each as `(c + 15) / 2`.
///
/// # Panics
///
/// Panics when row and anchor differ in length or the code is not half as long.
pub fn encode_nibbles(space: Space, anchor: &Anchor, row: &[f32], code: &mut [u8]) -> Factors {
    assert_eq!(anchor.vector().len(), row.len(), "row and anchor have one length");
    assert_eq!(code.len(), nibbles_bytes(row.len()), "a code of four bits has half a byte each");
    let largest = largest(row, anchor);
    let scales = NIBBLE_PARTS.map(|part| inverse(largest * part / (NIBBLE_MAX + 1.0)));
    let mut best = (-1.0, scales[0]);
    for scale in scales {
        let fit = nibble_fit(row, anchor, scale);
        if fit > best.0 {
            best = (fit, scale);
        }
    }
    let scale = best.1;
    let half = row.len() / 2;
    let value =
        |index: usize| (odd((row[index] - anchor.vector()[index]) * scale) + NIBBLE_MAX) as u8 / 2;
    for (index, byte) in code.iter_mut().enumerate() {
        *byte = value(index) | value(half + index) << 4;
    }
    factors(space, anchor, largest, &nibble_sums(row, anchor, scale))
}

fn factors(space: Space, anchor: &Anchor, largest: f32, sums: &Sums) -> Factors {
    let len = anchor.vector().len();
    let at_anchor = largest == 0.0 && sums.tt == 0.0;
    if at_anchor { Factors::default() } else { Factors::new(space, anchor, sums, len) }
}

/// The grid point of a code of four bits, in the order of the dimensions.
pub fn unpack_nibbles(code: &[u8], out: &mut [i8]) {
    assert_eq!(out.len(), 2 * code.len(), "a byte holds two dimensions");
    let (low, high) = out.split_at_mut(code.len());
    for ((&byte, low), high) in code.iter().zip(low).zip(high) {
        *low = 2 * (byte & 0x0f) as i8 - NIBBLE_MAX as i8;
        *high = 2 * (byte >> 4) as i8 - NIBBLE_MAX as i8;
    }
}

fn nibble_sums(row: &[f32], anchor: &Anchor, scale: f32) -> Sums {
    let (rows, _) = row.as_chunks::<LANES>();
    let (anchors, _) = anchor.vector().as_chunks::<LANES>();
    let mut sums = Lanes::default();
    for (row, anchor) in rows.iter().zip(anchors) {
        let mut grid = [0.0; LANES];
        for lane in 0..LANES {
            grid[lane] = odd((row[lane] - anchor[lane]) * scale);
        }
        sums.add(row, anchor, &grid);
    }
    sums.fold()
}

/// The squared cosine between residual and grid point, times the residual's length squared.
fn nibble_fit(row: &[f32], anchor: &Anchor, scale: f32) -> f32 {
    let (rows, _) = row.as_chunks::<LANES>();
    let (anchors, _) = anchor.vector().as_chunks::<LANES>();
    let (mut tc, mut cc) = ([0.0; LANES], [0.0; LANES]);
    for (row, anchor) in rows.iter().zip(anchors) {
        for lane in 0..LANES {
            let t = row[lane] - anchor[lane];
            let c = odd(t * scale);
            tc[lane] += t * c;
            cc[lane] += c * c;
        }
    }
    let tc = fold(tc);
    tc * tc / fold(cc)
}

/// The nearest odd number from -15 to 15.
#[inline]
fn odd(value: f32) -> f32 {
    2.0 * number(value) - NIBBLE_MAX
}

/// The number, from 0 to 15, of the nearest odd number.
#[inline]
fn number(value: f32) -> f32 {
    round((value * 0.5 + NIBBLE_MAX / 2.0).clamp(0.0, NIBBLE_MAX))
}

/// The nearest integer from -127 to 127.
#[inline]
fn near(value: f32) -> f32 {
    round(value.clamp(-BYTE_MAX, BYTE_MAX))
}

#[inline]
fn round(value: f32) -> f32 {
    (value + ROUNDER) - ROUNDER
}

/// Largest coordinate of the residual.
fn largest(row: &[f32], anchor: &Anchor) -> f32 {
    let mut most = [0.0_f32; LANES];
    let (rows, _) = row.as_chunks::<LANES>();
    let (anchors, _) = anchor.vector().as_chunks::<LANES>();
    for (row, anchor) in rows.iter().zip(anchors) {
        for lane in 0..LANES {
            let size = (row[lane] - anchor[lane]).abs();
            most[lane] = if size > most[lane] { size } else { most[lane] };
        }
    }
    most.into_iter().fold(0.0, f32::max)
}

fn inverse(step: f32) -> f32 {
    let scale = 1.0 / step;
    if scale.is_finite() { scale } else { 0.0 }
}

/// [`Sums`] in 16 lanes.
#[derive(Default)]
struct Lanes {
    sums: [[f32; LANES]; 5],
}

impl Lanes {
    #[inline]
    fn add(&mut self, row: &[f32; LANES], anchor: &[f32; LANES], grid: &[f32; LANES]) {
        let [tt, tc, cc, cm, tm] = &mut self.sums;
        for lane in 0..LANES {
            let (m, c) = (anchor[lane], grid[lane]);
            let t = row[lane] - m;
            tt[lane] += t * t;
            tc[lane] += t * c;
            cc[lane] += c * c;
            cm[lane] += c * m;
            tm[lane] += t * m;
        }
    }

    fn fold(self) -> Sums {
        let [tt, tc, cc, cm, tm] = self.sums.map(fold);
        Sums { tt, tc, cc, cm, tm }
    }
}
