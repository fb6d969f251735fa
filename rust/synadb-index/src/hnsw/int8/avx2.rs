//! Kernels for AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_cvtsi128_si64, _mm_shuffle_epi32,
    _mm_unpackhi_epi64, _mm256_abs_epi8, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sign_epi8,
};

use super::{Int8Kernels, assert_rows};

/// Bytes in a register.
const LANES: usize = 32;
/// Rows that share each load of the code.
const GROUP: usize = 4;

pub(super) static KERNELS: Int8Kernels = Int8Kernels { dot_rows };

fn dot_rows(code: &[u8], rows: &[u8], stride: usize, out: &mut [i32]) {
    assert_rows(code, rows, stride, out);
    // SAFETY: this function is reachable only through `KERNELS`, which `int8_kernels` hands out
    // only after it has found AVX2.
    unsafe { dot_rows_inner(code, rows, stride, out) }
}

#[target_feature(enable = "avx2")]
fn dot_rows_inner(code: &[u8], rows: &[u8], stride: usize, out: &mut [i32]) {
    let row = |index: usize| &rows[index * stride..][..code.len()];
    let (groups, rest) = out.as_chunks_mut::<GROUP>();
    let grouped = groups.len() * GROUP;
    for (index, results) in groups.iter_mut().enumerate() {
        let first = index * GROUP;
        let rows = [row(first), row(first + 1), row(first + 2), row(first + 3)];
        *results = reduce_all(group(code, rows));
    }
    for (index, result) in rest.iter_mut().enumerate() {
        *result = reduce(group(code, [row(grouped + index)])[0]);
    }
}

/// The inner products of `N` rows, in eight parts each.
///
/// The multiplication takes an unsigned and a signed side: the absolute value of the code, and
/// the row with the code's signs. Two products of at most 127 * 127 (128 * 127 where a foreign
/// section holds -128) fit in an `i16`.
#[inline]
#[target_feature(enable = "avx2")]
fn group<const N: usize>(code: &[u8], rows: [&[u8]; N]) -> [__m256i; N] {
    let len = code.len();
    assert!(rows.iter().all(|row| row.len() == len) && len.is_multiple_of(LANES));
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); N];
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at + LANES <= len`, since `len` is a multiple of `LANES`.
        let signs = unsafe { load(code, at) };
        let sizes = _mm256_abs_epi8(signs);
        for (row, sum) in rows.iter().zip(&mut sums) {
            // SAFETY: as above; every row has the length of the code.
            let values = unsafe { load(row, at) };
            let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(values, signs));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    sums
}

/// # Safety
///
/// `at + LANES` is at most the length of the slice.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(bytes: &[u8], at: usize) -> __m256i {
    // SAFETY: the caller keeps the 32 bytes inside the slice; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

/// The sums of four registers at once: a step each would take half of the time of a short code.
#[inline]
#[target_feature(enable = "avx2")]
fn reduce_all([a, b, c, d]: [__m256i; GROUP]) -> [i32; GROUP] {
    let parts = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(parts), _mm256_extracti128_si256::<1>(parts));
    let (low, high) = (_mm_cvtsi128_si64(sums), _mm_cvtsi128_si64(_mm_unpackhi_epi64(sums, sums)));
    [low as i32, (low >> 32) as i32, high as i32, (high >> 32) as i32]
}
