//! Kernels over codes for AVX-512 with BW and VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm_storeu_si128, _mm256_add_epi32, _mm512_abs_ps, _mm512_add_epi8,
    _mm512_add_epi16, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_si256, _mm512_cvtepi32_epi8, _mm512_cvtepu16_epi32, _mm512_dpbusd_epi32,
    _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_add_ps, _mm512_mask_blend_ps, _mm512_maskz_loadu_epi8, _mm512_maskz_permute_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_permute_ps, _mm512_permutexvar_ps,
    _mm512_reduce_add_epi32, _mm512_reduce_max_ps, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_shuffle_f32x4, _mm512_slli_epi16, _mm512_slli_epi32,
    _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_epi16, _mm512_sub_epi32, _mm512_sub_ps,
    _mm512_xor_si512,
};

use super::super::bits::{BLOCK_ROWS, GROUP_BYTES};
use super::avx2::{fill_bytes, finish, finish_links, total, totals};
use super::scalar::TableScale;
use super::{
    BYTE_SUMS, CodeKernels, Filled, ROUNDING, ROUNDS_MAX, TABLE_BYTES, TABLE_MAX, TABLE_VALUES,
    assert_dots, assert_hadamard, split_block, split_links,
};
use crate::SimdLevel;
use crate::quantize::{CodeQuery, Estimates, LinkSteps, Terms};

/// Bytes in a register.
const BYTES: usize = 64;
/// Floats in a register.
const LANES: usize = TABLE_VALUES;
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

fn hadamard(values: &mut [f32], factors: &[f32]) {
    assert_hadamard(values, factors);
    // SAFETY: this function is reachable only through `KERNELS`, which `CodeKernels::for_level`
    // hands out only after it has found AVX2 and AVX-512 F, BW and VNNI.
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
    // SAFETY: as in `hadamard`, the instructions were found.
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
    // SAFETY: as in `hadamard`, the instructions were found.
    unsafe { finish_links(numbers, sums(codes, &query.table), query, (from, steps), limit, out) }
}

fn fill_table(values: &[f32], table: &mut [u8]) -> Filled {
    // SAFETY: as in `hadamard`, the instructions were found.
    unsafe { fill_tables(values, table) }
}

/// As `table_of` of the scalar kernels, the tables of four groups at a time: a group in each quarter
/// of a register.
#[target_feature(enable = "avx512f")]
fn fill_tables(values: &[f32], table: &mut [u8]) -> Filled {
    let (blocks, _) = values.as_chunks::<TABLE_VALUES>();
    let zero = _mm512_setzero_ps();
    let mut widest = zero;
    for block in blocks {
        let sums = sums_of_groups(_mm512_abs_ps(load(block)));
        // The second operand where one is NaN.
        widest = _mm512_max_ps(sums, widest);
    }
    let scale = TableScale::of(_mm512_reduce_max_ps(widest));
    let inverse = _mm512_set1_ps(scale.inverse);
    let (mut all, mut least) = (zero, zero);
    for (block, table) in blocks.iter().zip(table.as_chunks_mut::<TABLE_BYTES>().0) {
        let values = load(block);
        // As with `min`: zero where a value is NaN.
        let low = _mm512_min_ps(values, zero);
        (all, least) = (_mm512_add_ps(all, values), _mm512_add_ps(least, low));
        let base = _mm512_sub_ps(zero, sums_of_groups(low));
        let near = _mm512_add_ps(base, subsets::<0b01_01_00_00, 0b00_00_00_00>(values));
        let near = _mm512_mul_ps(near, inverse);
        let far = subsets::<0b11_11_10_10, 0b10_10_10_10>(values);
        let far = _mm512_mul_ps(far, inverse);
        let (tables, _) = table.as_chunks_mut::<GROUP_BYTES>();
        store_group(_mm512_shuffle_f32x4::<0x00>(near, near), far, 0, &mut tables[0]);
        store_group(_mm512_shuffle_f32x4::<0x55>(near, near), far, 4, &mut tables[1]);
        store_group(_mm512_shuffle_f32x4::<0xaa>(near, near), far, 8, &mut tables[2]);
        store_group(_mm512_shuffle_f32x4::<0xff>(near, near), far, 12, &mut tables[3]);
    }
    let mut sums = [[0.0; LANES]; 2];
    store(&mut sums[0], least);
    store(&mut sums[1], all);
    scale.filled(&sums[0], &sums[1])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; LANES]) -> __m512 {
    // SAFETY: the array has the 64 bytes that are read; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: &mut [f32; LANES], x: __m512) {
    // SAFETY: the array has room for the 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), x) }
}

/// In each quarter of the register the sum of its four lanes, in all of them.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums_of_groups(lanes: __m512) -> __m512 {
    let pairs = _mm512_add_ps(lanes, _mm512_permute_ps::<0b10_11_00_01>(lanes));
    _mm512_add_ps(pairs, _mm512_permute_ps::<0b01_00_11_10>(pairs))
}

/// In each quarter the sums of the subsets of two of its values: of none, of either, of both. The
/// last three are permuted into their places by `VALUES`, the first one to the sum of both by `FIRST`.
#[inline]
#[target_feature(enable = "avx512f")]
fn subsets<const VALUES: i32, const FIRST: i32>(lanes: __m512) -> __m512 {
    const BUT_FIRST: u16 = 0xeeee;
    const LAST: u16 = 0x8888;
    let values = _mm512_maskz_permute_ps::<VALUES>(BUT_FIRST, lanes);
    _mm512_mask_add_ps(values, LAST, _mm512_permute_ps::<FIRST>(lanes), values)
}

/// The numbers of one group: `near` has the sums of its first two values in each quarter, `far` those
/// of the other two from the lane `at` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_group(near: __m512, far: __m512, at: i32, table: &mut [u8; GROUP_BYTES]) {
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(at));
    let sums = _mm512_add_ps(near, _mm512_permutexvar_ps(lanes, far));
    // The second operand where one is NaN: as with `clamp` it stays one.
    let sums = _mm512_max_ps(_mm512_setzero_ps(), sums);
    let sums = _mm512_min_ps(_mm512_set1_ps(TABLE_MAX), sums);
    let rounded = _mm512_castps_si512(_mm512_add_ps(sums, _mm512_set1_ps(ROUNDING)));
    // SAFETY: the array has the 16 bytes that are written; the store needs no alignment.
    unsafe { _mm_storeu_si128(table.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(rounded)) };
}

fn dot_bytes(query: &[i8], rows: &[i8], stride: usize, out: &mut [i32]) {
    assert_dots(query, query.len(), rows, stride, out.len());
    // SAFETY: as in `hadamard`, the instructions were found.
    unsafe { dots_of_bytes(query, rows, stride, out) }
}

fn dot_nibbles(query: &[i8], rows: &[u8], stride: usize, out: &mut [i32]) {
    let half = query.len() / 2;
    assert_dots(query, half, rows, stride, out.len());
    for (index, sum) in out.iter_mut().enumerate() {
        // SAFETY: as in `hadamard`, the instructions were found.
        *sum = unsafe { dot_of_nibbles(query, &rows[index * stride..][..half]) };
    }
}

/// A product with a sign and a sum are rounded once, as the sum alone.
#[target_feature(enable = "avx512f")]
fn hadamard_inner(values: &mut [f32], factors: &[f32]) {
    let signs = |lanes| _mm512_mask_blend_ps(lanes, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
    let [odd, upper, second, last] = [0xaaaa, 0xcccc, 0xf0f0, 0xff00].map(signs);
    let (chunks, _) = values.as_chunks_mut::<LANES>();
    for (chunk, factors) in chunks.iter_mut().zip(factors.as_chunks().0) {
        let x = _mm512_mul_ps(load(chunk), load(factors));
        let x = _mm512_fmadd_ps(x, odd, _mm512_permute_ps::<0b10_11_00_01>(x));
        let x = _mm512_fmadd_ps(x, upper, _mm512_permute_ps::<0b01_00_11_10>(x));
        let x = _mm512_fmadd_ps(x, second, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x));
        let x = _mm512_fmadd_ps(x, last, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x));
        store(chunk, x);
    }
    let mut half = 1;
    while 4 * half <= chunks.len() {
        for four in chunks.chunks_exact_mut(4 * half) {
            two_levels(four, half);
        }
        half *= 4;
    }
    if half < chunks.len() {
        let (left, right) = chunks.split_at_mut(half);
        for (left, right) in left.iter_mut().zip(right) {
            let (x, y) = (load(left), load(right));
            store(left, _mm512_add_ps(x, y));
            store(right, _mm512_sub_ps(x, y));
        }
    }
}

/// Two levels of the transform, each register read and written once.
#[inline]
#[target_feature(enable = "avx512f")]
fn two_levels(four: &mut [[f32; LANES]], half: usize) {
    let (left, right) = four.split_at_mut(2 * half);
    let ((a, b), (c, d)) = (left.split_at_mut(half), right.split_at_mut(half));
    for ((a, b), (c, d)) in a.iter_mut().zip(b).zip(c.iter_mut().zip(d)) {
        let (w, x, y, z) = (load(a), load(b), load(c), load(d));
        let (w, x) = (_mm512_add_ps(w, x), _mm512_sub_ps(w, x));
        let (y, z) = (_mm512_add_ps(y, z), _mm512_sub_ps(y, z));
        store(a, _mm512_add_ps(w, y));
        store(b, _mm512_add_ps(x, z));
        store(c, _mm512_sub_ps(w, y));
        store(d, _mm512_sub_ps(x, z));
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
    let (grouped, excess) = (ROWS * groups.len(), excess(query));
    for (index, dots) in groups.iter_mut().enumerate() {
        let first = ROWS * index;
        let rows = [row(first), row(first + 1), row(first + 2), row(first + 3)];
        *dots = totals(dots_of_group(query, excess, rows).map(|sums| halves(sums)));
    }
    for (index, dot) in rest.iter_mut().enumerate() {
        *dot = total(halves(dots_of_group(query, excess, [row(grouped + index)])[0]));
    }
}

/// 128 times the sum of a query, in sixteen parts.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn excess(query: &[[i8; BYTES]]) -> __m512i {
    let mut all = _mm512_setzero_si512();
    for query in query {
        all = _mm512_dpbusd_epi32(all, _mm512_set1_epi8(1), signed(query));
    }
    _mm512_slli_epi32::<7>(all)
}

/// Inner products of `N` rows that share each load of the query, in sixteen parts each: of their
/// values plus 128 each, for one side has to be unsigned, less the excess of the query.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dots_of_group<const N: usize>(
    query: &[[i8; BYTES]],
    excess: __m512i,
    rows: [&[[i8; BYTES]]; N],
) -> [__m512i; N] {
    assert!(rows.iter().all(|row| row.len() == query.len()));
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); N];
    for (at, query) in query.iter().enumerate() {
        let query = signed(query);
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_xor_si512(signed(&row[at]), flip), query);
        }
    }
    sums.map(|sum| _mm512_sub_epi32(sum, excess))
}

/// The sums of the lanes of both halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(sums: __m512i) -> __m256i {
    let high = _mm512_extracti64x4_epi64::<1>(sums);
    _mm256_add_epi32(_mm512_castsi512_si256(sums), high)
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
