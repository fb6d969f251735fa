//! Rows and centroids as sixteen-bit codes.

use super::dots::{PANEL, Pair, TILE_ROWS};
use crate::distance::Kernels;

/// Length of every code as a vector, in units of its scale. Two such lengths multiplied stay
/// below 2^30 whatever the rounding of 65,536 components adds, so 32-bit sums do not overflow.
const CODE_LENGTH: f64 = 32_000.0;

/// Rows as codes with one scale each: a component is `scale * code`, off by half a scale at most.
///
/// Memory: two bytes a component and eight a row. The number of rows is padded with zero rows to
/// whole tiles.
#[derive(Debug, Default)]
pub(crate) struct RowCodes {
    /// Pairs of components of a row.
    pairs: usize,
    count: usize,
    codes: Vec<Pair>,
    scales: Vec<f32>,
    squared_norms: Vec<f32>,
}

impl RowCodes {
    /// Room for `count` rows of so many dimensions; all are zero.
    pub(crate) fn new(count: usize, dimensions: usize) -> Self {
        let (pairs, padded) = (dimensions.div_ceil(2), count.next_multiple_of(TILE_ROWS));
        let codes = vec![[0; 2]; padded * pairs];
        Self { pairs, count, codes, scales: vec![0.0; padded], squared_norms: vec![0.0; padded] }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    pub(crate) fn squared_norm(&self, row: usize) -> f32 {
        self.squared_norms[row]
    }

    /// Codes of the rows in `range`; the scales of the same.
    pub(crate) fn rows(&self, range: std::ops::Range<usize>) -> (&[Pair], &[f32]) {
        (&self.codes[range.start * self.pairs..range.end * self.pairs], &self.scales[range])
    }

    /// Codes one row after another, for whoever fills them: codes, scales, squared norms.
    pub(crate) fn slots(&mut self) -> (&mut [Pair], &mut [f32], &mut [f32]) {
        (&mut self.codes, &mut self.scales, &mut self.squared_norms)
    }

    /// Adds the row to a sum.
    pub(crate) fn add_to(&self, row: usize, sum: &mut [f32]) {
        let scale = self.scales[row];
        let codes = self.codes[row * self.pairs..][..self.pairs].as_flattened();
        for (sum, &code) in sum.iter_mut().zip(codes) {
            *sum += scale * f32::from(code);
        }
    }

    /// The row as floats, a zero behind the last component when their number is odd.
    pub(crate) fn vector(&self, row: usize) -> Vec<f32> {
        let mut vector = vec![0.0; 2 * self.pairs];
        self.add_to(row, &mut vector);
        vector
    }

    /// Inner product of the row with a vector that [`RowCodes::vector`] made.
    pub(crate) fn dot(&self, row: usize, vector: &[f32]) -> f32 {
        let codes = self.codes[row * self.pairs..][..self.pairs].as_flattened();
        let terms = codes.iter().zip(vector).map(|(&code, &value)| f32::from(code) * value);
        terms.sum::<f32>() * self.scales[row]
    }
}

/// Codes a vector; returns the scale and the squared norm of what the codes stand for.
pub(crate) fn encode(values: &[f32], codes: &mut [Pair], kernels: &Kernels) -> (f32, f32) {
    let squared = (kernels.dot)(values, values);
    let norm = f64::from(squared).sqrt();
    let codes = codes.as_flattened_mut();
    codes.fill(0);
    if !(norm > 0.0 && norm.is_finite()) {
        return (0.0, 0.0);
    }
    let inverse = (CODE_LENGTH / norm) as f32;
    for (code, &value) in codes.iter_mut().zip(values) {
        // The magic number rounds to the nearest integer, which the low bits then hold.
        *code = (value * inverse + ROUNDING).to_bits() as i16;
    }
    ((norm / CODE_LENGTH) as f32, squared)
}

/// One and a half times 2^23: adding it to a number below 2^22 leaves no digits behind the point.
const ROUNDING: f32 = 12_582_912.0;

/// Centroids as codes, sixteen side by side.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    pairs: usize,
    /// For every panel and pair of components, the pairs of its columns.
    codes: Vec<[Pair; PANEL]>,
    /// Minus twice the scale.
    factors: Vec<f32>,
    /// Infinite for the columns that pad the last panel.
    squared_norms: Vec<f32>,
}

impl Panels {
    /// Packs vectors that lie side by side.
    pub(crate) fn pack(vectors: &[f32], dimensions: usize, kernels: &Kernels) -> Self {
        let (pairs, count) = (dimensions.div_ceil(2), vectors.len() / dimensions.max(1));
        let columns = count.next_multiple_of(PANEL);
        let mut panels = Self {
            pairs,
            codes: vec![[[0; 2]; PANEL]; columns / PANEL * pairs],
            factors: vec![0.0; columns],
            squared_norms: vec![f32::INFINITY; columns],
        };
        let mut codes = vec![[0; 2]; pairs];
        for (column, vector) in vectors.chunks_exact(dimensions.max(1)).enumerate() {
            let (scale, squared_norm) = encode(vector, &mut codes, kernels);
            panels.factors[column] = -2.0 * scale;
            panels.squared_norms[column] = squared_norm;
            let panel = &mut panels.codes[column / PANEL * pairs..][..pairs];
            for (slot, &pair) in panel.iter_mut().zip(&codes) {
                slot[column % PANEL] = pair;
            }
        }
        panels
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.codes) + size_of_val(&*self.factors) + size_of_val(&*self.squared_norms)
    }

    /// Every panel: codes, factors, squared norms.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (&[[Pair; PANEL]], &[f32; PANEL], &[f32; PANEL])> {
        let (factors, _) = self.factors.as_chunks::<PANEL>();
        let (norms, _) = self.squared_norms.as_chunks::<PANEL>();
        let codes = |panel| &self.codes[panel * self.pairs..][..self.pairs];
        factors.iter().zip(norms).enumerate().map(move |(panel, (f, n))| (codes(panel), f, n))
    }
}
