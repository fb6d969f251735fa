//! A seeded random rotation that costs O(d log d).

use super::CodeKernels;
use crate::random::Random;

/// Padded lengths are multiples of this, so that kernels need no tails.
const PADDING: usize = 64;
/// Rounds when one transform spans all coordinates.
const ROUNDS_WHOLE: usize = 2;
/// Rounds when two overlapping transforms share the coordinates in turn.
const ROUNDS_SPLIT: usize = 4;

/// A random rotation of padded vectors: rounds of random signs and a Walsh-Hadamard transform.
///
/// Where the padded length is no power of two, the transform spans the largest one below it, at
/// the beginning and at the end in turn. It preserves inner products, but for rounding, and
/// spreads the energy of a vector evenly over its coordinates. O(d log d) a vector; after the
/// fast Johnson-Lindenstrauss transform of Ailon and Chazelle, 2009.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    dimensions: usize,
    padded: usize,
    span: usize,
    /// For each round the signs of the coordinates that it turns, scaled to keep lengths.
    signs: Vec<f32>,
}

impl Rotation {
    /// Makes the rotation of vectors of `dimensions` that belongs to `seed`.
    #[must_use]
    pub fn new(dimensions: usize, seed: u64) -> Self {
        let padded = dimensions.max(1).next_multiple_of(PADDING);
        let span = 1 << padded.ilog2();
        let rounds = if span == padded { ROUNDS_WHOLE } else { ROUNDS_SPLIT };
        let scale = (1.0 / (span as f64).sqrt()) as f32;
        let mut random = Random::new(seed);
        let mut word = 0;
        let signs = (0..rounds * span).map(|index| {
            if index % 64 == 0 {
                word = random.next();
            }
            if word >> (index % 64) & 1 == 0 { scale } else { -scale }
        });
        Self { dimensions, padded, span, signs: signs.collect() }
    }

    /// Dimensions of the vectors that it takes.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Length of a rotated vector: the dimensions rounded up to a multiple of 64.
    #[must_use]
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `vector * scale` into `out`. The bits of the result do not depend on the kernels.
    ///
    /// # Panics
    ///
    /// Panics when `vector` has not the dimensions or `out` not the padded length.
    pub fn rotate(&self, kernels: &CodeKernels, vector: &[f32], scale: f32, out: &mut [f32]) {
        assert_eq!(vector.len(), self.dimensions, "a rotation is made for its dimensions");
        assert_eq!(out.len(), self.padded, "a rotated vector has the padded length");
        for (slot, &value) in out.iter_mut().zip(vector) {
            *slot = value * scale;
        }
        out[self.dimensions..].fill(0.0);
        for (round, signs) in self.signs.chunks_exact(self.span).enumerate() {
            let start = if round % 2 == 0 { 0 } else { self.padded - self.span };
            let part = &mut out[start..start + self.span];
            (kernels.hadamard)(part, signs);
        }
    }
}
