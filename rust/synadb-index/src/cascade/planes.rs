//! Seeded hyperplanes, and the sides of them that points lie on.

use crate::quantize::{CodeKernels, Rotation};
use crate::random::mix;

/// Hyperplanes that the signature of a row tells the sides of.
pub(super) const SIGNATURE_BITS: usize = 128;
/// Words of a signature.
pub(super) const SIGNATURE_WORDS: usize = SIGNATURE_BITS / 64;

/// Bits of a signature.
pub(super) type Signature = [u64; SIGNATURE_WORDS];

/// Hyperplanes through the centre of the points, by their normals: the rows of random rotations.
///
/// They stand at right angles to each other within a rotation, so that their bits tell more than
/// those of independent ones (Ji et al. 2012), and all products cost O(d log d).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planes {
    rotations: Vec<Rotation>,
    padded: usize,
}

impl Planes {
    /// At least `count` hyperplanes, and those of a signature, of points of `dimensions`.
    pub(super) fn new(dimensions: usize, count: usize, seed: u64) -> Self {
        // The first rotation of the seed is that of the graph's codes.
        let rotation = |index: usize| Rotation::new(dimensions, mix(seed ^ (index as u64 + 1)));
        let first = rotation(0);
        let padded = first.padded();
        let rotations = count.max(SIGNATURE_BITS).div_ceil(padded);
        let rotations = std::iter::once(first).chain((1..rotations).map(rotation)).collect();
        Self { rotations, padded }
    }

    /// Number of hyperplanes.
    pub(super) fn count(&self) -> usize {
        self.rotations.len() * self.padded
    }

    /// Distances of a point from all hyperplanes, negative on one side.
    pub(super) fn project(&self, kernels: &CodeKernels, point: &[f32], out: &mut [f32]) {
        for (rotation, out) in self.rotations.iter().zip(out.chunks_exact_mut(self.padded)) {
            rotation.rotate(kernels, point, 1.0, out);
        }
    }
}

/// The sides of the first hyperplanes.
pub(super) fn signature(projections: &[f32]) -> Signature {
    let mut signature = [0; SIGNATURE_WORDS];
    for (word, values) in signature.iter_mut().zip(projections.chunks(64)) {
        for (bit, &value) in values.iter().enumerate() {
            *word |= u64::from(value >= 0.0) << bit;
        }
    }
    signature
}

/// Hyperplanes that two points lie on different sides of: their angle over a half turn, times the
/// number of hyperplanes (Charikar 2002).
#[inline]
pub(super) fn hamming(a: Signature, b: Signature) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}
