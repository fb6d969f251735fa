//! Kernels over codes for AVX-512 with BW and VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm_storeu_si128, _mm256_add_epi32, _mm512_add_epi8, _mm512_add_epi16,
    _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_si256,
    _mm512_cvtepi32_epi8, _mm512_cvtepu16_epi32, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64,
    _mm512_loadu_si512, _mm512_mask_add_ps, _mm512_maskz_loadu_epi8, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_slli_epi32,
    _mm512_srli_epi16, _mm512_sub_epi16, _mm512_sub_epi32, _mm512_xor_si512,
};

use super::super::bits::{BLOCK_ROWS, GROUP, GROUP_BYTES};
use super::avx2::{fill_bytes, finish, finish_links, hadamard};
use super::scalar::tables_of;
use super::{
    BYTE_SUMS, CodeKernels, Filled, ROUNDING, ROUNDS_MAX, TABLE_MAX, assert_dots, split_block,
    split_links,
};
use crate::SimdLevel;
use crate::quantize::{CodeQuery, Estimates, LinkSteps, Terms};

/// Bytes in a register.
const BYTES: usize = 64;
/// Rows that share each load of the query.
const ROWS: usize = 4;
/// Bytes of codes of a round.
const ROUND: usize = BYTE_SUMS * BYTES;

pub(super) static KERNELS: CodeKernels = CodeKernels {
    level: SimdLevel::Avx512,
    hadamard,
    estimate_bits,
    estimate_links,
    dot_bytes,
    dot_nibbles,
    fill_table,
    fill_bytes,
};

fn estimate_bits(
    block: &[u8],
    query: &CodeQuery,
    terms: &Terms,
    limit: f32,
    out: &mut Estimates,
) -> u32 {
    let (codes, factors) = split_block(block, query);
    // SAFETY: this function is reachable only through `KERNELS`, which `CodeKernels::for_level`
    // hands out only after it has found AVX2 and AVX-512 F, BW and VNNI.
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
    // SAFETY: as in `estimate_bits`, the instructions were found.
    unsafe { finish_links(numbers, sums(codes, &query.table), query, (from, steps), limit, out) }
}

fn fill_table(values: &[f32], table: &mut [u8]) -> Filled {
    #[target_feature(enable = "avx512f")]
    fn inner(values: &[f32], table: &mut [u8]) -> Filled {
        tables_of(values, table, |group, base, inverse, table| {
            fill_group(group, base, inverse, table);
        })
    }
    // SAFETY: as in `estimate_bits`, the instructions were found.
    unsafe { inner(values, table) }
}

/// The numbers of a table, one in a lane, whose four bits say which of the values it sums up.
#[inline]
#[target_feature(enable = "avx512f")]
fn fill_group(values: &[f32; GROUP], base: f32, inverse: f32, table: &mut [u8; GROUP_BYTES]) {
    let lanes_with_bit = [0xaaaa, 0xcccc, 0xf0f0, 0xff00];
    let mut sums = _mm512_set1_ps(base);
    for (lanes, &value) in lanes_with_bit.into_iter().zip(values) {
        sums = _mm512_mask_add_ps(sums, lanes, sums, _mm512_set1_ps(value));
    }
    let scaled = _mm512_mul_ps(sums, _mm512_set1_ps(inverse));
    // The second operand where one is NaN: as with `clamp` it stays one.
    let scaled = _mm512_max_ps(_mm512_setzero_ps(), scaled);
    let scaled = _mm512_min_ps(_mm512_set1_ps(TABLE_MAX), scaled);
    let rounded = _mm512_castps_si512(_mm512_add_ps(scaled, _mm512_set1_ps(ROUNDING)));
    // SAFETY: the array has the 16 bytes that are written; the store needs no alignment.
    unsafe { _mm_storeu_si128(table.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(rounded)) };
}

fn dot_bytes(query: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    assert_dots(query, query.len(), rows, stride, out.len());
    // SAFETY: as in `estimate_bits`, the instructions were found.
    unsafe { dots_of_bytes(query, rows, stride, out) }
}

fn dot_nibbles(query: &[i8], rows: &[u8], stride: usize, out: &mut [i32]) {
    let half = query.len() / 2;
    assert_dots(query, half, rows, stride, out.len());
    for (index, sum) in out.iter_mut().enumerate() {
        // SAFETY: as in `estimate_bits`, the instructions were found.
        *sum = unsafe { dot_of_nibbles(query, &rows[index * stride..][..half]) };
    }
}

/// Sums of the table numbers of 32 rows, eight in a register.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn sums(codes: &[u8], table: &[u8]) -> [__m256i; 4] {
    assert!(codes.len() == table.len());
    let low = _mm512_set1_epi8(15);
    let mut sums = [_mm512_castsi512_si256(_mm512_setzero_si512()); 4];
    let part = ROUND * ROUNDS_MAX;
    for (codes, table) in codes.chunks(part).zip(table.chunks(part)) {
        // As in `avx2`: even bytes with 256 times the odd ones, odd bytes; then the upper rows.
        let mut parts = [_mm512_setzero_si512(); 4];
        let (codes, _) = codes.as_chunks::<ROUND>();
        let (table, _) = table.as_chunks::<ROUND>();
        for (codes, table) in codes.iter().zip(table) {
            let mut first = _mm512_setzero_si512();
            let mut second = _mm512_setzero_si512();
            for (codes, table) in codes.as_chunks::<BYTES>().0.iter().zip(table.as_chunks().0) {
                let (codes, table) = (bytes(codes), bytes(table));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low);
                let found = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low));
                first = _mm512_add_epi8(first, found);
                second = _mm512_add_epi8(second, _mm512_shuffle_epi8(table, high));
            }
            parts[0] = _mm512_add_epi16(parts[0], first);
            parts[1] = _mm512_add_epi16(parts[1], _mm512_srli_epi16::<8>(first));
            parts[2] = _mm512_add_epi16(parts[2], second);
            parts[3] = _mm512_add_epi16(parts[3], _mm512_srli_epi16::<8>(second));
        }
        parts[0] = _mm512_sub_epi16(parts[0], _mm512_slli_epi16::<8>(parts[1]));
        parts[2] = _mm512_sub_epi16(parts[2], _mm512_slli_epi16::<8>(parts[3]));
        for (sum, part) in sums.iter_mut().zip(parts) {
            let left = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(part));
            let right = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(part));
            let both = _mm512_add_epi32(left, right);
            let upper = _mm512_extracti64x4_epi64::<1>(both);
            *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(_mm512_castsi512_si256(both), upper));
        }
    }
    sums
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn dots_of_bytes(query: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    let row = |index: usize| rows[index * stride..][..query.len()].as_chunks::<BYTES>().0;
    let (query, _) = query.as_chunks::<BYTES>();
    let (groups, rest) = out.as_chunks_mut::<ROWS>();
    let grouped = ROWS * groups.len();
    for (index, dots) in groups.iter_mut().enumerate() {
        let first = ROWS * index;
        *dots = dots_of_group(query, [row(first), row(first + 1), row(first + 2), row(first + 3)]);
    }
    for (index, dot) in rest.iter_mut().enumerate() {
        *dot = dots_of_group(query, [row(grouped + index)])[0];
    }
}

/// Inner products of `N` rows that share each load of the query: of their values plus 128 each, for
/// one side has to be unsigned, less 128 times the query's sum.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dots_of_group<const N: usize>(query: &[[i8; BYTES]], rows: [&[[i8; BYTES]]; N]) -> [i32; N] {
    assert!(rows.iter().all(|row| row.len() == query.len()));
    let (flip, ones) = (_mm512_set1_epi8(i8::MIN), _mm512_set1_epi8(1));
    let mut all = _mm512_setzero_si512();
    let mut sums = [all; N];
    for (at, query) in query.iter().enumerate() {
        let query = signed(query);
        all = _mm512_dpbusd_epi32(all, ones, query);
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_xor_si512(signed(&row[at]), flip), query);
        }
    }
    let all = _mm512_slli_epi32::<7>(all);
    sums.map(|sum| _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, all)))
}

/// Inner product of the query and the nibbles of a row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_of_nibbles(query: &[i8], row: &[u8]) -> i32 {
    let (first, second) = query.split_at(row.len());
    assert!(first.len() == row.len() && second.len() == row.len());
    let mut sum = _mm512_setzero_si512();
    let mut at = 0;
    while at < row.len() {
        let mask = u64::MAX >> (BYTES - BYTES.min(row.len() - at));
        // SAFETY: the mask selects the bytes from `at` to the end of the three slices, which are
        // equally long; masked-out bytes are not read.
        let (codes, first, second) = unsafe {
            (
                _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at).cast()),
                _mm512_maskz_loadu_epi8(mask, first.as_ptr().add(at)),
                _mm512_maskz_loadu_epi8(mask, second.as_ptr().add(at)),
            )
        };
        let low = _mm512_set1_epi8(15);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low);
        sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(codes, low), first);
        sum = _mm512_dpbusd_epi32(sum, high, second);
        at += BYTES;
    }
    _mm512_reduce_add_epi32(sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(values: &[u8; BYTES]) -> __m512i {
    // SAFETY: the array has the 64 bytes that are read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn signed(values: &[i8; BYTES]) -> __m512i {
    // SAFETY: the array has the 64 bytes that are read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}
