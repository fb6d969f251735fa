//! Kernels for AVX-512 with BW and VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_abs_epi8, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_mask_sub_epi8,
    _mm512_movepi8_mask, _mm512_reduce_add_epi32, _mm512_setzero_si512,
};

use super::{Int8Kernels, assert_rows};

/// Bytes in a register.
const LANES: usize = 64;
/// Rows that share each load of the code.
const GROUP: usize = 4;

pub(super) static KERNELS: Int8Kernels = Int8Kernels { dot_rows };

fn dot_rows(code: &[u8], rows: &[u8], stride: usize, out: &mut [i32]) {
    assert_rows(code, rows, stride, out);
    // SAFETY: this function is reachable only through `KERNELS`, which `int8_kernels` hands out
    // only after it has found AVX-512F, BW and VNNI.
    unsafe { dot_rows_inner(code, rows, stride, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_rows_inner(code: &[u8], rows: &[u8], stride: usize, out: &mut [i32]) {
    let row = |index: usize| &rows[index * stride..][..code.len()];
    let (groups, rest) = out.as_chunks_mut::<GROUP>();
    let grouped = groups.len() * GROUP;
    for (index, results) in groups.iter_mut().enumerate() {
        let first = index * GROUP;
        *results = group(code, [row(first), row(first + 1), row(first + 2), row(first + 3)]);
    }
    for (index, result) in rest.iter_mut().enumerate() {
        *result = group(code, [row(grouped + index)])[0];
    }
}

/// The inner products of `N` rows, by absolute values and signs as in the AVX2 kernel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn group<const N: usize>(code: &[u8], rows: [&[u8]; N]) -> [i32; N] {
    let len = code.len();
    assert!(rows.iter().all(|row| row.len() == len) && len.is_multiple_of(LANES));
    let zero = _mm512_setzero_si512();
    let mut sums = [zero; N];
    for at in (0..len).step_by(LANES) {
        // SAFETY: `at + LANES <= len`, since `len` is a multiple of `LANES`.
        let signs = unsafe { load(code, at) };
        let (sizes, negative) = (_mm512_abs_epi8(signs), _mm512_movepi8_mask(signs));
        for (row, sum) in rows.iter().zip(&mut sums) {
            // SAFETY: as above; every row has the length of the code.
            let values = unsafe { load(row, at) };
            let signed = _mm512_mask_sub_epi8(values, negative, zero, values);
            *sum = _mm512_dpbusd_epi32(*sum, sizes, signed);
        }
    }
    sums.map(|sum| _mm512_reduce_add_epi32(sum))
}

/// # Safety
///
/// `at + LANES` is at most the length of the slice.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(bytes: &[u8], at: usize) -> __m512i {
    // SAFETY: the caller keeps the 64 bytes inside the slice; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().add(at).cast()) }
}
