//! Kernels in plain Rust, the reference.

use super::super::bits::{BLOCK_ROWS, GROUP, GROUP_BYTES, factors};
use super::super::links::numbers;
use super::{
    BYTE_MAX, CodeKernels, Filled, ROUNDING, TABLE_MAX, assert_dots, assert_hadamard, split_block,
    split_links,
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

fn hadamard(values: &mut [f32]) {
    assert_hadamard(values);
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

/// See [`CodeKernels::fill_table`]; the levels above compile it for their registers.
#[inline(always)]
pub(super) fn table_of(values: &[f32], table: &mut [u8]) -> Filled {
    tables_of(values, table, |group, base, inverse, table| {
        let mut sums = [base; GROUP_BYTES];
        for (bit, &value) in group.iter().enumerate() {
            for subset in 0..1 << bit {
                sums[subset | 1 << bit] = sums[subset] + value;
            }
        }
        for (number, sum) in table.iter_mut().zip(sums) {
            // The lowest bits of a NaN, as sums beyond `f32` give one, are zero.
            let rounded = (sum * inverse).clamp(0.0, TABLE_MAX) + ROUNDING;
            *number = rounded.to_bits() as u8;
        }
    })
}

/// The tables, each filled by `fill`: with what each subset of four values sums up to beside a base,
/// times the inverse of the step.
#[inline(always)]
pub(super) fn tables_of(
    values: &[f32],
    table: &mut [u8],
    fill: impl Fn(&[f32; GROUP], f32, f32, &mut [u8; GROUP_BYTES]),
) -> Filled {
    let (groups, _) = values.as_chunks::<GROUP>();
    let mut widest = [0.0_f32; GROUP];
    for group in groups.as_chunks::<GROUP>().0 {
        for (widest, group) in widest.iter_mut().zip(group) {
            let [a, b, c, d] = group.map(f32::abs);
            *widest = widest.max((a + b) + (c + d));
        }
    }
    let step = widest.into_iter().fold(0.0, f32::max) / TABLE_MAX;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let (mut all, mut least) = ([0.0_f32; GROUP], [0.0_f32; GROUP]);
    for (group, table) in groups.iter().zip(table.as_chunks_mut::<GROUP_BYTES>().0) {
        let low = group.map(|value| value.min(0.0));
        for lane in 0..GROUP {
            all[lane] += group[lane];
            least[lane] += low[lane];
        }
        fill(group, -((low[0] + low[1]) + (low[2] + low[3])), inverse, table);
    }
    let sum = |lanes: [f32; GROUP]| (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    Filled { step, least: sum(least), all: sum(all) }
}

/// See [`CodeKernels::fill_bytes`]; the levels above compile it for their registers.
#[inline(always)]
pub(super) fn bytes_of(values: &[f32], bytes: &mut [i8]) -> f32 {
    let step = largest_magnitude(values) / BYTE_MAX;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for (byte, &value) in bytes.iter_mut().zip(values) {
        let rounded = (value * inverse).clamp(-BYTE_MAX, BYTE_MAX) + ROUNDING;
        *byte = (rounded.to_bits() as u8).cast_signed();
    }
    step
}
