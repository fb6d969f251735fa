//! Inner products of 8-bit codes: one code against many.
//!
//! A code is a row of signed bytes, stored as `u8` in two's complement, from -127 to 127: the
//! value -128 does not occur, so that every code has a negative. Lengths are multiples of
//! [`CODE_ALIGN`], padded with zeros. Sums are exact: 127 * 127 * 65,536 fits in an `i32`.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use crate::SimdLevel;

/// Bytes that the length of a code is a multiple of.
pub(crate) const CODE_ALIGN: usize = 64;

/// Kernel of a code against many rows: code, rows, distance between rows in bytes, results.
///
/// There are as many rows as results; row `i` begins at `i * stride`.
pub(crate) type Int8Rows = fn(&[u8], &[u8], usize, &mut [i32]);

/// The kernels of one level. Each panics when the lengths of its arguments do not fit.
#[derive(Debug)]
pub(crate) struct Int8Kernels {
    /// Inner products with many rows.
    pub(crate) dot_rows: Int8Rows,
}

/// The kernels of a level, or of the best one below it that this processor has in full.
pub(crate) fn int8_kernels(level: SimdLevel) -> &'static Int8Kernels {
    // The tables of the upper levels are reachable only from here: their functions rely on it.
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vnni");
        if level >= SimdLevel::Avx512 && avx512 {
            return &avx512::KERNELS;
        }
        if level >= SimdLevel::Avx2 && std::is_x86_feature_detected!("avx2") {
            return &avx2::KERNELS;
        }
    }
    let _ = level;
    &scalar::KERNELS
}

/// Checks what every rows kernel relies on: the rows counted by `out` lie in `rows`.
fn assert_rows(code: &[u8], rows: &[u8], stride: usize, out: &[i32]) {
    assert!(code.len().is_multiple_of(CODE_ALIGN), "a code is padded to {CODE_ALIGN} bytes");
    if let Some(last) = out.len().checked_sub(1) {
        let end = last.checked_mul(stride).and_then(|start| start.checked_add(code.len()));
        assert!(
            end.is_some_and(|end| end <= rows.len()),
            "{} bytes do not hold {} codes of {} at stride {stride}",
            rows.len(),
            out.len(),
            code.len()
        );
    }
}
