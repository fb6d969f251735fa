//! Kernels in plain Rust, the reference.

use super::super::bits::{BLOCK_ROWS, GROUP, GROUP_BYTES, factors};
use super::super::links::numbers;
use super::{
    BYTE_MAX, CodeKernels, Filled, ROUNDING, TABLE_BYTES, TABLE_MAX, TABLE_VALUES, assert_dots,
    assert_hadamard, split_block, split_links,
};
use crate::SimdLevel;
use crate::distance::largest_magnitude;
use crate::quantize::{CodeQuery, Estimates, LinkSteps, Terms};

pub(super) static KERNELS: CodeKernels = CodeKernels {
    level: SimdLevel::Scalar,
    hadamard,
    estimate_bits,
    estimate_links,
    dot_bytes,
    dot_nibbles,
    fill_table: table_of,
    fill_bytes: bytes_of,
};

fn hadamard(values: &mut [f32], factors: &[f32]) {
    assert_hadamard(values, factors);
    values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (left, right) in left.iter_mut().zip(right) {
                (*left, *right) = (*left + *right, *left - *right);
            }
        }
        half *= 2;
    }
}

fn estimate_bits(
    block: &[u8],
    query: &CodeQuery,
    terms: &Terms,
    limit: f32,
    out: &mut Estimates,
) -> u32 {
    let (codes, _) = split_block(block, query);
    let mut mask = 0;
    for (row, sum) in sums(codes, query).into_iter().enumerate() {
        let row_factors = factors(block, query.rotated().len(), row);
        let inner = sum as f32 * query.scale + query.offset;
        let key = (terms.add + terms.gain * row_factors.add) + row_factors.slope * inner;
        let lower = (key + row_factors.slope * query.slack) - row_factors.error * terms.error;
        out.keys[row] = key;
        out.lower[row] = lower;
        mask |= u32::from(lower <= limit || lower.is_nan()) << row;
    }
    mask
}

fn estimate_links(
    block: &[u8],
    query: &CodeQuery,
    from: f32,
    steps: &LinkSteps,
    limit: f32,
    out: &mut [f32; BLOCK_ROWS],
) -> u32 {
    let (codes, _) = split_links(block, query);
    let mut mask = 0;
    for (row, sum) in sums(codes, query).into_iter().enumerate() {
        let (add, slope) = numbers(block, query.rotated().len(), row);
        let (add, slope) = (steps.add * f32::from(add), steps.slope * f32::from(slope));
        let key = (from + add) + slope * (sum as f32 * query.scale + query.offset);
        out[row] = key;
        mask |= u32::from(key < limit || key.is_nan()) << row;
    }
    mask
}

/// Sums of the table numbers of 32 rows.
fn sums(codes: &[u8], query: &CodeQuery) -> [u32; BLOCK_ROWS] {
    let mut sums = [0_u32; BLOCK_ROWS];
    let (codes, _) = codes.as_chunks::<GROUP_BYTES>();
    let (tables, _) = query.table.as_chunks::<GROUP_BYTES>();
    for (codes, table) in codes.iter().zip(tables) {
        for (pair, bytes) in codes.as_chunks::<2>().0.iter().enumerate() {
            for (side, byte) in bytes.iter().enumerate() {
                let row = pair + 8 * side;
                sums[row] += u32::from(table[usize::from(byte & 15)]);
                sums[16 + row] += u32::from(table[usize::from(byte >> 4)]);
            }
        }
    }
    sums
}

fn dot_bytes(query: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    assert_dots(query, query.len(), rows, stride, out.len());
    for (index, sum) in out.iter_mut().enumerate() {
        let row = &rows[index * stride..][..query.len()];
        *sum = query.iter().zip(row).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
    }
}

fn dot_nibbles(query: &[i8], rows: &[u8], stride: usize, out: &mut [i32]) {
    let half = query.len() / 2;
    assert_dots(query, half, rows, stride, out.len());
    let (low, high) = query.split_at(half);
    for (index, sum) in out.iter_mut().enumerate() {
        let row = &rows[index * stride..][..half];
        let term = |((&a, &b), &byte): ((&i8, &i8), &u8)| {
            i32::from(a) * i32::from(byte & 15) + i32::from(b) * i32::from(byte >> 4)
        };
        *sum = low.iter().zip(high).zip(row).map(term).sum();
    }
}

/// See [`CodeKernels::fill_table`]; AVX2 compiles it for its registers.
#[inline(always)]
pub(super) fn table_of(values: &[f32], table: &mut [u8]) -> Filled {
    let (blocks, _) = values.as_chunks::<TABLE_VALUES>();
    let mut widest = [0.0_f32; TABLE_VALUES / GROUP];
    for block in blocks {
        for (widest, group) in widest.iter_mut().zip(block.as_chunks::<GROUP>().0) {
            let [a, b, c, d] = group.map(f32::abs);
            *widest = widest.max((a + b) + (c + d));
        }
    }
    let scale = TableScale::of(widest.into_iter().fold(0.0, f32::max));
    let (mut all, mut least) = ([0.0_f32; TABLE_VALUES], [0.0_f32; TABLE_VALUES]);
    for (block, table) in blocks.iter().zip(table.as_chunks_mut::<TABLE_BYTES>().0) {
        let low = block.map(|value| value.min(0.0));
        for lane in 0..TABLE_VALUES {
            all[lane] += block[lane];
            least[lane] += low[lane];
        }
        let groups = block.as_chunks::<GROUP>().0.iter().zip(low.as_chunks().0);
        for ((group, low), table) in groups.zip(table.as_chunks_mut().0) {
            fill_group(group, low, scale.inverse, table);
        }
    }
    scale.filled(&least, &all)
}

/// What each subset of four values sums up to less the smallest of these sums, in steps: bit by bit
/// of the place of a number one of the values.
#[inline(always)]
fn fill_group(
    group: &[f32; GROUP],
    low: &[f32; GROUP],
    inverse: f32,
    table: &mut [u8; GROUP_BYTES],
) {
    let [a, b, c, d] = *group;
    let base = -((low[0] + low[1]) + (low[2] + low[3]));
    let near = [0.0, a, b, a + b].map(|sum| (base + sum) * inverse);
    let far = [0.0, c, d, c + d].map(|sum| sum * inverse);
    for (place, number) in table.iter_mut().enumerate() {
        // The lowest bits of a NaN, as sums beyond `f32` give one, are zero.
        let rounded = (near[place & 3] + far[place >> 2]).clamp(0.0, TABLE_MAX) + ROUNDING;
        *number = rounded.to_bits() as u8;
    }
}

/// What the numbers of a table are worth.
pub(super) struct TableScale {
    step: f32,
    /// One by the step.
    pub(super) inverse: f32,
}

impl TableScale {
    /// From the largest sum of the magnitudes of a group.
    pub(super) fn of(widest: f32) -> Self {
        let step = widest / TABLE_MAX;
        Self { step, inverse: if step > 0.0 { 1.0 / step } else { 0.0 } }
    }

    /// From the sums over the lanes of all that is below zero and of all.
    pub(super) fn filled(&self, least: &[f32; TABLE_VALUES], all: &[f32; TABLE_VALUES]) -> Filled {
        let sum = |lanes: &[f32; TABLE_VALUES]| {
            let of_group = |group: &[f32; GROUP]| (group[0] + group[1]) + (group[2] + group[3]);
            lanes.as_chunks().0.iter().map(of_group).sum::<f32>()
        };
        Filled { step: self.step, least: sum(least), all: sum(all) }
    }
}

/// See [`CodeKernels::fill_bytes`]; the levels above compile it for their registers.
#[inline(always)]
pub(super) fn bytes_of(values: &[f32], step: fn(f32) -> f32, bytes: &mut [i8]) -> f32 {
    let step = step(largest_magnitude(values) / BYTE_MAX);
    let inverse = 1.0 / step;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    for (byte, &value) in bytes.iter_mut().zip(values) {
        let rounded = (value * inverse).clamp(-BYTE_MAX, BYTE_MAX) + ROUNDING;
        *byte = (rounded.to_bits() as u8).cast_signed();
    }
    step
}
