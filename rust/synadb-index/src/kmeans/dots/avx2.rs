//! Kernel for AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_storeu_si256,
};

use super::{PANEL, Pair, TILE_ROWS, Tile, assert_tile};

/// Rows at once: with two registers of sums each they leave four of sixteen for the operands.
const ROWS: usize = 6;
/// Sums in a register.
const LANES: usize = 8;

pub(super) fn tile(rows: &[Pair], panel: &[[Pair; PANEL]], out: &mut Tile) {
    assert_tile(rows, panel);
    let (first, second) = rows.split_at(ROWS * panel.len());
    let (above, below) = out.split_at_mut(ROWS);
    // SAFETY: this function is reachable only through `tile_kernel`, which hands it out only
    // after it has found AVX2.
    unsafe {
        half(first, panel, above);
        half(second, panel, below);
    }
}

#[target_feature(enable = "avx2")]
fn half(rows: &[Pair], panel: &[[Pair; PANEL]], out: &mut [[i32; PANEL]]) {
    const { assert!(TILE_ROWS == 2 * ROWS && PANEL == 2 * LANES) };
    let len = panel.len();
    assert!(rows.len() == ROWS * len && out.len() == ROWS);
    let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
    for (at, columns) in panel.iter().enumerate() {
        let columns: *const __m256i = columns.as_ptr().cast();
        // SAFETY: a panel's sixteen pairs are 64 bytes, two registers; no alignment is needed.
        let (left, right) =
            unsafe { (_mm256_loadu_si256(columns), _mm256_loadu_si256(columns.add(1))) };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `row < ROWS` and `at < len`, and there are `ROWS * len` pairs; a pair has
            // the size of an `i32`.
            let pair = unsafe { rows.as_ptr().add(row * len + at).cast::<i32>().read_unaligned() };
            let pair = _mm256_set1_epi32(pair);
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(pair, left));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(pair, right));
        }
    }
    for (results, sums) in out.iter_mut().zip(&sums) {
        let results: *mut __m256i = results.as_mut_ptr().cast();
        // SAFETY: sixteen `i32` are 64 bytes, two registers; no alignment is needed.
        unsafe {
            _mm256_storeu_si256(results, sums[0]);
            _mm256_storeu_si256(results.add(1), sums[1]);
        }
    }
}
