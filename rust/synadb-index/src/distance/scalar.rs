//! The reference kernels in plain Rust, and the exact ones in double precision.

use super::{Kernels, SimdLevel, assert_pair, assert_rows};

/// Independent sums: enough for the compiler to use the baseline's vector registers.
const LANES: usize = 16;
/// Independent sums in double precision, of every level.
pub(super) const EXACT_LANES: usize = 16;

pub(super) static KERNELS: Kernels = Kernels {
    level: SimdLevel::Scalar,
    dot,
    squared_euclidean,
    dot_rows,
    squared_euclidean_rows,
    exact_dots,
    exact_squared_euclidean,
};

fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_pair(a, b);
    sum_over(a, b, |x, y| x * y)
}

fn squared_euclidean(a: &[f32], b: &[f32]) -> f32 {
    assert_pair(a, b);
    sum_over(a, b, |x, y| (x - y) * (x - y))
}

fn dot_rows(query: &[f32], rows: &[f32], stride: usize, count: usize, out: &mut [f32]) {
    assert_rows(query, rows, stride, count, out);
    for (index, result) in out[..count].iter_mut().enumerate() {
        *result = dot(query, &rows[index * stride..][..query.len()]);
    }
}

fn squared_euclidean_rows(
    query: &[f32],
    rows: &[f32],
    stride: usize,
    count: usize,
    out: &mut [f32],
) {
    assert_rows(query, rows, stride, count, out);
    for (index, result) in out[..count].iter_mut().enumerate() {
        *result = squared_euclidean(query, &rows[index * stride..][..query.len()]);
    }
}

#[inline(always)]
fn sum_over(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(x, y)).sum();
    sums.iter().sum::<f32>() + rest
}

/// Inner product in double precision; the products of two `f32` are exact there.
pub(crate) fn exact_dot(a: &[f32], b: &[f32]) -> f64 {
    assert_pair(a, b);
    exact_sum(a, b, |x, y| x * y)
}

fn exact_dots(query: &[f64], row: &[f32], _next: &[f32]) -> (f64, f64) {
    assert_pair(query, row);
    (exact_sum(query, row, |x, y| x * y), exact_sum(row, row, |x, y| x * y))
}

fn exact_squared_euclidean(query: &[f64], row: &[f32], _next: &[f32]) -> f64 {
    assert_pair(query, row);
    exact_sum(query, row, |x, y| (x - y) * (x - y))
}

#[inline(always)]
fn exact_sum<T: Copy + Into<f64>>(query: &[T], row: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (query_lanes, query_rest) = query.as_chunks::<EXACT_LANES>();
    let (row_lanes, row_rest) = row.as_chunks::<EXACT_LANES>();
    let mut sums = [0.0_f64; EXACT_LANES];
    for (x, y) in query_lanes.iter().zip(row_lanes) {
        for lane in 0..EXACT_LANES {
            sums[lane] += term(x[lane].into(), f64::from(y[lane]));
        }
    }
    let rest = query_rest.iter().zip(row_rest);
    exact_total(sums, rest.map(|(&x, &y)| term(x.into(), f64::from(y))))
}

/// The sum of the lanes and of the terms behind them, which is the same for every level.
#[inline(always)]
pub(super) fn exact_total(mut sums: [f64; EXACT_LANES], rest: impl Iterator<Item = f64>) -> f64 {
    let mut width = EXACT_LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest.sum::<f64>()
}

/// The largest absolute value, 0 of none; for the compiler to put into registers of any width.
#[inline(always)]
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(value.abs());
        }
    }
    let lanes = lanes.into_iter().chain(rest.iter().map(|value| value.abs()));
    lanes.fold(0.0, f32::max)
}
