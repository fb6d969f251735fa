//! The reference kernel in plain Rust.

use super::{PANEL, Pair, Tile, assert_tile};

pub(super) fn tile(rows: &[Pair], panel: &[[Pair; PANEL]], out: &mut Tile) {
    assert_tile(rows, panel);
    *out = Tile::default();
    if panel.is_empty() {
        return;
    }
    for (row, sums) in rows.chunks_exact(panel.len()).zip(out) {
        for (x, columns) in row.iter().zip(panel) {
            for (sum, y) in sums.iter_mut().zip(columns) {
                *sum += i32::from(x[0]) * i32::from(y[0]) + i32::from(x[1]) * i32::from(y[1]);
            }
        }
    }
}
