//! Kernel for AVX-512 with VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use super::{PANEL, Pair, TILE_ROWS, Tile, assert_tile};

/// True when this processor has the instructions.
pub(super) fn is_supported() -> bool {
    std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vnni")
}

pub(super) fn tile(rows: &[Pair], panel: &[[Pair; PANEL]], out: &mut Tile) {
    assert_tile(rows, panel);
    // SAFETY: this function is reachable only through `tile_kernel`, which hands it out only
    // after `is_supported` has found AVX-512F and VNNI.
    unsafe { whole(rows, panel, out) }
}

/// Twelve registers of sums cover the latency of the multiply-add.
#[target_feature(enable = "avx512f,avx512vnni")]
fn whole(rows: &[Pair], panel: &[[Pair; PANEL]], out: &mut Tile) {
    let len = panel.len();
    assert!(rows.len() == TILE_ROWS * len);
    let mut sums = [_mm512_setzero_si512(); TILE_ROWS];
    for (at, columns) in panel.iter().enumerate() {
        // SAFETY: a panel's sixteen pairs are 64 bytes, one register; no alignment is needed.
        let columns = unsafe { _mm512_loadu_si512(columns.as_ptr().cast()) };
        for (row, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `row < TILE_ROWS` and `at < len`, and there are `TILE_ROWS * len` pairs; a
            // pair has the size of an `i32`.
            let pair = unsafe { rows.as_ptr().add(row * len + at).cast::<i32>().read_unaligned() };
            *sum = _mm512_dpwssd_epi32(*sum, _mm512_set1_epi32(pair), columns);
        }
    }
    for (results, &sum) in out.iter_mut().zip(&sums) {
        // SAFETY: sixteen `i32` are 64 bytes, one register; no alignment is needed.
        unsafe { _mm512_storeu_si512(results.as_mut_ptr().cast(), sum) };
    }
}
