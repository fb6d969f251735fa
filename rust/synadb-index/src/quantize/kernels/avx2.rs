//! Kernels over codes for AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_NGE_UQ, _CMP_NGT_UQ, _mm_add_epi32, _mm_cvtsi128_si32,
    _mm_cvtsi128_si64, _mm_loadu_si128, _mm_shuffle_epi32, _mm_unpackhi_epi64, _mm256_abs_epi8,
    _mm256_add_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi16_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_hadd_epi32,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_movemask_ps, _mm256_mul_ps, _mm256_permute_ps, _mm256_permute2f128_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_sub_epi16, _mm256_sub_ps, _mm256_xor_ps,
};

use super::super::bits::BLOCK_ROWS;
use super::scalar::{bytes_of, table_of};
use super::{
    BYTE_SUMS, CodeKernels, Filled, ROUNDS_MAX, assert_dots, assert_hadamard, split_block,
    split_links,
};
use crate::SimdLevel;
use crate::quantize::{CodeQuery, Estimates, LinkSteps, Terms};

/// Bytes in a register.
const BYTES: usize = 32;
/// Rows that share each load of the query.
const ROWS: usize = 4;
/// Floats in a register.
const LANES: usize = 8;
/// Bytes of codes of a round.
const ROUND: usize = BYTE_SUMS * BYTES;

pub(super) static KERNELS: CodeKernels = CodeKernels {
    level: SimdLevel::Avx2,
    hadamard,
    estimate_bits,
    estimate_links,
    dot_bytes,
    dot_nibbles,
    fill_table,
    fill_bytes,
};

fn fill_table(values: &[f32], table: &mut [u8]) -> Filled {
    #[target_feature(enable = "avx2")]
    fn inner(values: &[f32], table: &mut [u8]) -> Filled {
        table_of(values, table)
    }
    // SAFETY: as in `hadamard`, AVX2 was found.
    unsafe { inner(values, table) }
}

pub(super) fn fill_bytes(values: &[f32], step: fn(f32) -> f32, bytes: &mut [i8]) -> f32 {
    #[target_feature(enable = "avx2")]
    fn inner(values: &[f32], step: fn(f32) -> f32, bytes: &mut [i8]) -> f32 {
        bytes_of(values, step, bytes)
    }
    // SAFETY: this function is reachable only through the tables of this level and the one above,
    // which `CodeKernels::for_level` hands out only after it has found AVX2.
    unsafe { inner(values, step, bytes) }
}

fn hadamard(values: &mut [f32], factors: &[f32]) {
    assert_hadamard(values, factors);
    // SAFETY: this function is reachable only through the table of this level, which
    // `CodeKernels::for_level` hands out only after it has found AVX2.
    unsafe { hadamard_inner(values, factors) }
}

fn estimate_bits(
    block: &[u8],
    query: &CodeQuery,
    terms: &Terms,
    limit: f32,
    out: &mut Estimates,
) -> u32 {
    let (codes, factors) = split_block(block, query);
    // SAFETY: as in `hadamard`, AVX2 was found.
    unsafe { finish(factors, sums(codes, &query.table), query, terms, limit, out) }
}

fn estimate_links(
    block: &[u8],
    query: &CodeQuery,
    from: f32,
    steps: &LinkSteps,
    limit: f32,
    out: &mut [f32; BLOCK_ROWS],
) -> u32 {
    let (codes, numbers) = split_links(block, query);
    // SAFETY: as in `hadamard`, AVX2 was found.
    unsafe { finish_links(numbers, sums(codes, &query.table), query, (from, steps), limit, out) }
}

fn dot_bytes(query: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    assert_dots(query, query.len(), rows, stride, out.len());
    // SAFETY: as in `hadamard`, AVX2 was found.
    unsafe { dots_of_bytes(query, rows, stride, out) }
}

fn dot_nibbles(query: &[i8], rows: &[u8], stride: usize, out: &mut [i32]) {
    let half = query.len() / 2;
    assert_dots(query, half, rows, stride, out.len());
    for (index, sum) in out.iter_mut().enumerate() {
        // SAFETY: as in `hadamard`, AVX2 was found.
        *sum = unsafe { dot_of_nibbles(query, &rows[index * stride..][..half]) };
    }
}

#[target_feature(enable = "avx2")]
fn hadamard_inner(values: &mut [f32], factors: &[f32]) {
    let sign = i32::MIN;
    let odd = _mm256_castsi256_ps(_mm256_setr_epi32(0, sign, 0, sign, 0, sign, 0, sign));
    let upper = _mm256_castsi256_ps(_mm256_setr_epi32(0, 0, sign, sign, 0, 0, sign, sign));
    let last = _mm256_castsi256_ps(_mm256_setr_epi32(0, 0, 0, 0, sign, sign, sign, sign));
    let (chunks, _) = values.as_chunks_mut::<LANES>();
    for (chunk, factors) in chunks.iter_mut().zip(factors.as_chunks().0) {
        let mut x = _mm256_mul_ps(load(chunk), load(factors));
        x = _mm256_add_ps(_mm256_permute_ps::<0b10_11_00_01>(x), _mm256_xor_ps(x, odd));
        x = _mm256_add_ps(_mm256_permute_ps::<0b01_00_11_10>(x), _mm256_xor_ps(x, upper));
        x = _mm256_add_ps(_mm256_permute2f128_ps::<1>(x, x), _mm256_xor_ps(x, last));
        store(chunk, x);
    }
    let mut half = 1;
    while half < chunks.len() {
        for pair in chunks.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (left, right) in left.iter_mut().zip(right) {
                let (x, y) = (load(left), load(right));
                store(left, _mm256_add_ps(x, y));
                store(right, _mm256_sub_ps(x, y));
            }
        }
        half *= 2;
    }
}

/// Sums of the table numbers of 32 rows, eight in a register.
#[inline]
#[target_feature(enable = "avx2")]
fn sums(codes: &[u8], table: &[u8]) -> [__m256i; 4] {
    assert!(codes.len() == table.len());
    let low = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_si256(); 4];
    let part = ROUND * ROUNDS_MAX;
    for (codes, table) in codes.chunks(part).zip(table.chunks(part)) {
        // Even bytes of the rows 0 to 15 with 256 times their odd bytes, odd bytes; then the rows
        // 16 to 31. What runs over in the first is taken away with the odd bytes.
        let mut parts = [_mm256_setzero_si256(); 4];
        let (codes, _) = codes.as_chunks::<ROUND>();
        let (table, _) = table.as_chunks::<ROUND>();
        for (codes, table) in codes.iter().zip(table) {
            let mut first = _mm256_setzero_si256();
            let mut second = _mm256_setzero_si256();
            for (codes, table) in codes.as_chunks::<BYTES>().0.iter().zip(table.as_chunks().0) {
                let (codes, table) = (bytes(codes), bytes(table));
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low);
                let found = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low));
                first = _mm256_add_epi8(first, found);
                second = _mm256_add_epi8(second, _mm256_shuffle_epi8(table, high));
            }
            parts[0] = _mm256_add_epi16(parts[0], first);
            parts[1] = _mm256_add_epi16(parts[1], _mm256_srli_epi16::<8>(first));
            parts[2] = _mm256_add_epi16(parts[2], second);
            parts[3] = _mm256_add_epi16(parts[3], _mm256_srli_epi16::<8>(second));
        }
        parts[0] = _mm256_sub_epi16(parts[0], _mm256_slli_epi16::<8>(parts[1]));
        parts[2] = _mm256_sub_epi16(parts[2], _mm256_slli_epi16::<8>(parts[3]));
        for (sum, part) in sums.iter_mut().zip(parts) {
            let left = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(part));
            let right = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(part));
            *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(left, right));
        }
    }
    sums
}

/// Turns the sums of a block into estimates.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn finish(
    factors: &[u8],
    sums: [__m256i; 4],
    query: &CodeQuery,
    terms: &Terms,
    limit: f32,
    out: &mut Estimates,
) -> u32 {
    let (factors, _) = factors.as_chunks::<BYTES>();
    let (add, rest) = factors.split_at(4);
    let (slope, error) = rest.split_at(4);
    let (keys, _) = out.keys.as_chunks_mut::<LANES>();
    let (lower, _) = out.lower.as_chunks_mut::<LANES>();
    let mut mask = 0;
    for index in 0..BLOCK_ROWS / LANES {
        let slope = floats(&slope[index]);
        let inner = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[index]), _mm256_set1_ps(query.scale));
        let inner = _mm256_add_ps(inner, _mm256_set1_ps(query.offset));
        let gained = _mm256_mul_ps(_mm256_set1_ps(terms.gain), floats(&add[index]));
        let known = _mm256_add_ps(_mm256_set1_ps(terms.add), gained);
        let key = _mm256_add_ps(known, _mm256_mul_ps(slope, inner));
        let slack = _mm256_mul_ps(slope, _mm256_set1_ps(query.slack));
        let error = _mm256_mul_ps(floats(&error[index]), _mm256_set1_ps(terms.error));
        let bound = _mm256_sub_ps(_mm256_add_ps(key, slack), error);
        store(&mut keys[index], key);
        store(&mut lower[index], bound);
        let within = _mm256_cmp_ps::<_CMP_NGT_UQ>(bound, _mm256_set1_ps(limit));
        mask |= (_mm256_movemask_ps(within) as u32) << (index * LANES);
    }
    mask
}

/// Turns the sums of a block of neighbours into keys.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn finish_links(
    numbers: &[u8],
    sums: [__m256i; 4],
    query: &CodeQuery,
    (from, steps): (f32, &LinkSteps),
    limit: f32,
    out: &mut [f32; BLOCK_ROWS],
) -> u32 {
    let (numbers, _) = numbers.as_chunks();
    let (adds, slopes) = numbers.split_at(BLOCK_ROWS / LANES);
    let (keys, _) = out.as_chunks_mut::<LANES>();
    let mut mask = 0;
    for index in 0..BLOCK_ROWS / LANES {
        let slope = _mm256_mul_ps(_mm256_set1_ps(steps.slope), shorts(&slopes[index]));
        let inner = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[index]), _mm256_set1_ps(query.scale));
        let inner = _mm256_add_ps(inner, _mm256_set1_ps(query.offset));
        let added = _mm256_mul_ps(_mm256_set1_ps(steps.add), shorts(&adds[index]));
        let known = _mm256_add_ps(_mm256_set1_ps(from), added);
        let key = _mm256_add_ps(known, _mm256_mul_ps(slope, inner));
        store(&mut keys[index], key);
        let within = _mm256_cmp_ps::<_CMP_NGE_UQ>(key, _mm256_set1_ps(limit));
        mask |= (_mm256_movemask_ps(within) as u32) << (index * LANES);
    }
    mask
}

#[target_feature(enable = "avx2")]
fn dots_of_bytes(query: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    let row = |index: usize| rows[index * stride..][..query.len()].as_chunks::<BYTES>().0;
    let (query, _) = query.as_chunks::<BYTES>();
    let (groups, rest) = out.as_chunks_mut::<ROWS>();
    let grouped = ROWS * groups.len();
    for (index, dots) in groups.iter_mut().enumerate() {
        let first = ROWS * index;
        let rows = [row(first), row(first + 1), row(first + 2), row(first + 3)];
        *dots = totals(dots_of_group(query, rows));
    }
    for (index, dot) in rest.iter_mut().enumerate() {
        *dot = total(dots_of_group(query, [row(grouped + index)])[0]);
    }
}

/// Inner products of `N` rows that share each load of the query, in eight parts each.
#[inline]
#[target_feature(enable = "avx2")]
fn dots_of_group<const N: usize>(query: &[[i8; BYTES]], rows: [&[[i8; BYTES]]; N]) -> [__m256i; N] {
    assert!(rows.iter().all(|row| row.len() == query.len()));
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); N];
    for (at, query) in query.iter().enumerate() {
        let query = signed(query);
        for (sum, row) in sums.iter_mut().zip(rows) {
            let row = signed(&row[at]);
            // The row's signs go over to the query, since one side has to be unsigned. Two
            // products of at most 128 * 127 fit in 16 bits.
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(query, row));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    sums
}

/// Inner product of the query and the nibbles of a row.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_of_nibbles(query: &[i8], row: &[u8]) -> i32 {
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let (first, second) = query.split_at(row.len());
    let (first, _) = first.as_chunks::<BYTES>();
    let (second, _) = second.as_chunks::<BYTES>();
    let mut sum = _mm256_setzero_si256();
    for ((codes, first), second) in row.as_chunks::<BYTES>().0.iter().zip(first).zip(second) {
        let codes = bytes(codes);
        let left = _mm256_maddubs_epi16(_mm256_and_si256(codes, low), signed(first));
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low);
        let right = _mm256_maddubs_epi16(high, signed(second));
        let pairs = _mm256_madd_epi16(_mm256_add_epi16(left, right), ones);
        sum = _mm256_add_epi32(sum, pairs);
    }
    total(sum)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn total(sums: __m256i) -> i32 {
    let four: __m128i =
        _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

/// The totals of four registers at once: a step each would take half of the time of a short code.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn totals([a, b, c, d]: [__m256i; ROWS]) -> [i32; ROWS] {
    let parts = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(parts), _mm256_extracti128_si256::<1>(parts));
    let (low, high) = (_mm_cvtsi128_si64(sums), _mm_cvtsi128_si64(_mm_unpackhi_epi64(sums, sums)));
    [low as i32, (low >> 32) as i32, high as i32, (high >> 32) as i32]
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(values: &[u8; BYTES]) -> __m256i {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn signed(values: &[i8; BYTES]) -> __m256i {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn floats(values: &[u8; BYTES]) -> __m256 {
    // Little-endian like the processor, so the bytes are the floats.
    _mm256_castsi256_ps(bytes(values))
}

#[inline]
#[target_feature(enable = "avx2")]
fn shorts(values: &[u8; BYTES / 2]) -> __m256 {
    // Little-endian like the processor, so the bytes are the numbers.
    // SAFETY: the array has the 16 bytes that are read; the load needs no alignment.
    let numbers = unsafe { _mm_loadu_si128(values.as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(numbers))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32; LANES]) -> __m256 {
    // SAFETY: the array has the eight floats that are read; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(values: &mut [f32; LANES], x: __m256) {
    // SAFETY: the array has room for the eight floats; the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), x) }
}
