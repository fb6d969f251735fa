//! What is computed of every row before it is stored: its checksum and its norm.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use synadb_index::{first_non_finite, inverse_norm, prefetch_ahead};
use synadb_storage::checksum::crc32c;

use super::bulk::scaled;

/// Bytes of vectors that a thread takes at a time.
const BLOCK_BYTES: usize = scaled(256 << 10);

/// Of the components of one row.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub crc: u32,
    /// 1 / norm, as `synadb_storage::extent::Row` has it.
    pub inverse_norm: f32,
}

impl Sum {
    pub fn of(vector: &[f32]) -> Self {
        Self { crc: crc32c(bytemuck::cast_slice(vector)), inverse_norm: inverse_norm(vector) }
    }

    /// A NaN or an infinity makes the norm one: only then is the row worth a look.
    pub fn is_suspect(&self) -> bool {
        self.inverse_norm.is_nan()
    }

    fn pack(self) -> u64 {
        u64::from(self.crc) << 32 | u64::from(self.inverse_norm.to_bits())
    }

    fn unpack(word: u64) -> Self {
        Self { crc: (word >> 32) as u32, inverse_norm: f32::from_bits(word as u32) }
    }
}

/// Rows of a batch whose sums several threads compute together.
pub(super) struct Summing<'a> {
    dimensions: usize,
    rows: &'a [f32],
    sums: Vec<AtomicU64>,
    /// The first row that nobody has taken.
    next: AtomicUsize,
    stopped: AtomicBool,
    /// The first component that is not finite, of those seen.
    refused: AtomicUsize,
}

impl<'a> Summing<'a> {
    /// Of row-major `rows`.
    pub fn new(dimensions: usize, rows: &'a [f32]) -> Self {
        let mut sums = Vec::new();
        sums.resize_with(rows.len() / dimensions, AtomicU64::default);
        let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        Self { dimensions, rows, sums, next, stopped: AtomicBool::new(false), refused }
    }

    /// Computes sums while `goes_on`, until no rows are left or one is refused.
    pub fn help_while(&self, mut goes_on: impl FnMut() -> bool) {
        let count = (BLOCK_BYTES / (4 * self.dimensions)).max(1);
        while !self.is_stopped() && goes_on() {
            let first = self.next.fetch_add(count, Ordering::Relaxed);
            if first >= self.sums.len() {
                return;
            }
            self.sum(first, self.sums.len().min(first + count));
        }
    }

    fn sum(&self, first: usize, end: usize) {
        let rows = &self.rows[first * self.dimensions..end * self.dimensions];
        for (index, vector) in rows.chunks_exact(self.dimensions).enumerate() {
            prefetch_ahead(&rows[index * self.dimensions..], self.dimensions);
            let sum = Sum::of(vector);
            self.sums[first + index].store(sum.pack(), Ordering::Relaxed);
            if sum.is_suspect()
                && let Some(at) = first_non_finite(vector)
            {
                // Blocks are taken in order: those before this one are looked through as well.
                let at = (first + index) * self.dimensions + at;
                self.refused.fetch_min(at, Ordering::Relaxed);
                self.stop();
                return;
            }
        }
    }

    /// Whether the rows are not wanted any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Nobody begins another block.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The first component that is not finite; once all who help have said that they are done.
    pub fn refused(&self) -> Option<usize> {
        Some(self.refused.load(Ordering::Relaxed)).filter(|at| *at != usize::MAX)
    }

    /// The sum of a row; as `refused`.
    pub fn of_row(&self, row: usize) -> Sum {
        Sum::unpack(self.sums[row].load(Ordering::Relaxed))
    }
}
