//! The reference in plain Rust.

use super::{Int8Kernels, assert_rows};

pub(super) static KERNELS: Int8Kernels = Int8Kernels { dot_rows };

fn dot_rows(code: &[u8], rows: &[u8], stride: usize, out: &mut [i32]) {
    assert_rows(code, rows, stride, out);
    for (index, result) in out.iter_mut().enumerate() {
        let row = &rows[index * stride..][..code.len()];
        *result = code.iter().zip(row).map(|(&x, &y)| product(x, y)).sum();
    }
}

fn product(x: u8, y: u8) -> i32 {
    i32::from(x.cast_signed()) * i32::from(y.cast_signed())
}
