//! Kernels for AVX2 and FMA.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, __m256d, _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_ps,
    _mm_movehl_ps, _mm_prefetch, _mm_shuffle_ps, _mm256_add_pd, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_cvtps_pd, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_loadu_pd, _mm256_loadu_ps, _mm256_mul_pd, _mm256_setzero_pd, _mm256_setzero_ps,
    _mm256_storeu_pd, _mm256_sub_pd, _mm256_sub_ps,
};

use super::scalar::{EXACT_LANES, exact_total};
use super::{AHEAD_FLOATS, Kernels, LINE_FLOATS, SimdLevel, assert_pair, assert_rows};

/// Double precision numbers in a register.
const DOUBLES: usize = 4;
/// Floats in a register.
const LANES: usize = 8;
/// Rows that share each load of the query.
const GROUP: usize = 4;
/// Sums of each row in a group: with four rows they cover the latency of the multiply-add.
const SUMS: usize = 2;
/// Sums of a lone pair, for the same reason.
const PAIR_SUMS: usize = 4;
/// Bytes of a cache line.
const LINE_BYTES: usize = LINE_FLOATS * size_of::<f32>();

pub(super) static KERNELS: Kernels = Kernels {
    level: SimdLevel::Avx2,
    dot: pair::<false>,
    squared_euclidean: pair::<true>,
    dot_rows: rows::<false>,
    squared_euclidean_rows: rows::<true>,
    exact_dots,
    exact_squared_euclidean,
};

fn exact_dots(query: &[f64], row: &[f32], next: &[f32]) -> (f64, f64) {
    assert_pair(query, row);
    // SAFETY: as in `pair`, AVX2 was found before `KERNELS` was handed out.
    unsafe { exact_dots_inner(query, row, next) }
}

#[target_feature(enable = "avx2")]
fn exact_dots_inner(query: &[f64], row: &[f32], next: &[f32]) -> (f64, f64) {
    let (query_lanes, query_rest) = query.as_chunks::<EXACT_LANES>();
    let (row_lanes, row_rest) = row.as_chunks::<EXACT_LANES>();
    let mut dots = [_mm256_setzero_pd(); EXACT_LANES / DOUBLES];
    let mut squares = dots;
    let mut next = next.chunks(EXACT_LANES);
    for (x, y) in query_lanes.iter().zip(row_lanes) {
        if let Some(line) = next.next() {
            prefetch_many(bytemuck::cast_slice(line));
        }
        let (x, y) = (x.as_chunks().0, y.as_chunks().0);
        for (at, (dot, square)) in dots.iter_mut().zip(&mut squares).enumerate() {
            let (x, y) = (doubles(&x[at]), widened(&y[at]));
            *dot = _mm256_add_pd(*dot, _mm256_mul_pd(x, y));
            *square = _mm256_add_pd(*square, _mm256_mul_pd(y, y));
        }
    }
    next.for_each(|line| prefetch_many(bytemuck::cast_slice(line)));
    let squared = row_rest.iter().map(|&y| f64::from(y) * f64::from(y));
    let products = query_rest.iter().zip(row_rest).map(|(&x, &y)| x * f64::from(y));
    (exact_total(lanes(dots), products), exact_total(lanes(squares), squared))
}

fn exact_squared_euclidean(query: &[f64], row: &[f32], next: &[f32]) -> f64 {
    assert_pair(query, row);
    // SAFETY: as in `pair`, AVX2 was found before `KERNELS` was handed out.
    unsafe { exact_squared_inner(query, row, next) }
}

#[target_feature(enable = "avx2")]
fn exact_squared_inner(query: &[f64], row: &[f32], next: &[f32]) -> f64 {
    let (query_lanes, query_rest) = query.as_chunks::<EXACT_LANES>();
    let (row_lanes, row_rest) = row.as_chunks::<EXACT_LANES>();
    let mut sums = [_mm256_setzero_pd(); EXACT_LANES / DOUBLES];
    let mut next = next.chunks(EXACT_LANES);
    for (x, y) in query_lanes.iter().zip(row_lanes) {
        if let Some(line) = next.next() {
            prefetch_many(bytemuck::cast_slice(line));
        }
        let (x, y) = (x.as_chunks().0, y.as_chunks().0);
        for (at, sum) in sums.iter_mut().enumerate() {
            let difference = _mm256_sub_pd(doubles(&x[at]), widened(&y[at]));
            *sum = _mm256_add_pd(*sum, _mm256_mul_pd(difference, difference));
        }
    }
    next.for_each(|line| prefetch_many(bytemuck::cast_slice(line)));
    let rest = query_rest.iter().zip(row_rest).map(|(&x, &y)| x - f64::from(y));
    exact_total(lanes(sums), rest.map(|difference| difference * difference))
}

#[inline]
#[target_feature(enable = "avx2")]
fn doubles(values: &[f64; DOUBLES]) -> __m256d {
    // SAFETY: the array has the numbers that are read; the load needs no alignment.
    unsafe { _mm256_loadu_pd(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn widened(values: &[f32; DOUBLES]) -> __m256d {
    // SAFETY: the array has the numbers that are read; the load needs no alignment.
    _mm256_cvtps_pd(unsafe { _mm_loadu_ps(values.as_ptr()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn lanes(registers: [__m256d; EXACT_LANES / DOUBLES]) -> [f64; EXACT_LANES] {
    let mut lanes = [0.0; EXACT_LANES];
    for (register, lanes) in registers.into_iter().zip(lanes.as_chunks_mut::<DOUBLES>().0) {
        // SAFETY: the array has room for the numbers that are written.
        unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), register) };
    }
    lanes
}

fn pair<const SQUARED: bool>(a: &[f32], b: &[f32]) -> f32 {
    assert_pair(a, b);
    // SAFETY: this function is reachable only through `KERNELS`, which `Kernels::for_level` hands
    // out only after it has found AVX2 and FMA.
    unsafe { group::<SQUARED, false, 1, PAIR_SUMS>(a, [b], &[])[0] }
}

fn rows<const SQUARED: bool>(
    query: &[f32],
    rows: &[f32],
    stride: usize,
    count: usize,
    out: &mut [f32],
) {
    assert_rows(query, rows, stride, count, out);
    // SAFETY: as in `pair`, AVX2 and FMA were found before `KERNELS` was handed out.
    unsafe { rows_inner::<SQUARED>(query, rows, stride, &mut out[..count]) }
}

#[target_feature(enable = "avx2,fma")]
fn rows_inner<const SQUARED: bool>(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    let row = |index: usize| &rows[index * stride..][..query.len()];
    let (groups, rest) = out.as_chunks_mut::<GROUP>();
    let grouped = groups.len() * GROUP;
    // A group reads its rows side by side, so all of the next one has to be on its way.
    let distance = AHEAD_FLOATS.max(GROUP * stride);
    for (index, results) in groups.iter_mut().enumerate() {
        let first = index * GROUP;
        let members = [row(first), row(first + 1), row(first + 2), row(first + 3)];
        let ahead = rows.get(first * stride + distance..).unwrap_or_default();
        *results = if ahead.len() >= GROUP * query.len() {
            group::<SQUARED, true, GROUP, SUMS>(query, members, ahead)
        } else {
            group::<SQUARED, false, GROUP, SUMS>(query, members, &[])
        };
    }
    for (index, result) in rest.iter_mut().enumerate() {
        *result = group::<SQUARED, false, 1, SUMS>(query, [row(grouped + index)], &[])[0];
    }
}

/// The sums of `N` rows. With `PREFETCH` it asks for as many floats of `ahead` as it reads.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn group<const SQUARED: bool, const PREFETCH: bool, const N: usize, const S: usize>(
    query: &[f32],
    rows: [&[f32]; N],
    ahead: &[f32],
) -> [f32; N] {
    let len = query.len();
    assert!(rows.iter().all(|row| row.len() == len));
    let mut sums = [[_mm256_setzero_ps(); S]; N];
    let mut at = 0;
    while at + S * LANES <= len {
        if PREFETCH {
            for line in 0..N * S * LANES / LINE_FLOATS {
                prefetch_line(ahead.as_ptr().wrapping_add(at * N + line * LINE_FLOATS));
            }
        }
        for (row, sums) in rows.iter().zip(&mut sums) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let from = at + lane * LANES;
                // SAFETY: `from + LANES <= at + S * LANES <= len`, the length of both slices.
                let (x, y) = unsafe { (load(query, from), load(row, from)) };
                *sum = step::<SQUARED>(*sum, x, y);
            }
        }
        at += S * LANES;
    }
    while at + LANES <= len {
        for (row, sums) in rows.iter().zip(&mut sums) {
            // SAFETY: `at + LANES <= len`, the length of both slices.
            let (x, y) = unsafe { (load(query, at), load(row, at)) };
            sums[0] = step::<SQUARED>(sums[0], x, y);
        }
        at += LANES;
    }
    let mut results = [0.0; N];
    for ((result, row), sums) in results.iter_mut().zip(&rows).zip(&sums) {
        *result = reduce(sums) + tail::<SQUARED>(&query[at..], &row[at..]);
    }
    results
}

/// # Safety
///
/// `from + LANES` is at most the length of the slice.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load(values: &[f32], from: usize) -> __m256 {
    // SAFETY: the caller keeps the eight floats inside the slice; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr().add(from)) }
}

/// Prefetches one cache line, wherever the address leads.
#[inline]
pub(super) fn prefetch_line(address: *const f32) {
    // SAFETY: a prefetch reads nothing and cannot fault; SSE belongs to every x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Prefetches every line of a few bytes.
pub(super) fn prefetch_bytes(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES) {
        prefetch_line(line.as_ptr().cast());
    }
}

/// Prefetches every line of many bytes into the second level of the caches: the first one keeps
/// track of few lines that are on their way, and makes the processor wait for the next.
pub(super) fn prefetch_many(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES) {
        // SAFETY: a prefetch reads nothing and cannot fault; SSE belongs to every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn step<const SQUARED: bool>(sum: __m256, x: __m256, y: __m256) -> __m256 {
    if SQUARED {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, sum)
    } else {
        _mm256_fmadd_ps(x, y, sum)
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn reduce(sums: &[__m256]) -> f32 {
    let mut all = sums[0];
    for &sum in &sums[1..] {
        all = _mm256_add_ps(all, sum);
    }
    let four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[inline]
fn tail<const SQUARED: bool>(query: &[f32], row: &[f32]) -> f32 {
    let term = |(&x, &y): (&f32, &f32)| if SQUARED { (x - y) * (x - y) } else { x * y };
    query.iter().zip(row).map(term).sum()
}
