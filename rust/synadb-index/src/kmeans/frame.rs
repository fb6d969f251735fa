//! The coordinates that a clustering works in.

use synadb_types::RowId;

use super::codes::RowCodes;
use crate::distance::{Kernels, Metric, exact_dot};
use crate::job::Crew;
use crate::{IndexError, VectorSource};

/// Longest vector in a frame, in typical lengths: squares and their sums stay far inside `f32`.
const LENGTH_MAX: f32 = 1e12;
/// Factors in this range keep the digits of what they multiply.
const FACTOR_RANGE: std::ops::RangeInclusive<f64> = 1e-25..=1e25;
/// Rows coded by one call of a worker.
const PIECE_ROWS: usize = 128 * super::dots::TILE_ROWS;

/// Moves vectors to their mean and scales them to a typical length of one, so that neither a far
/// origin nor a large or small unit of length costs the codes their digits. Under the cosine the
/// vectors are brought to unit length first; zero vectors stay zero.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    unit: bool,
    mean: Vec<f32>,
    factor: f64,
}

impl Frame {
    pub(crate) fn new(metric: Metric, mean: Vec<f32>, factor: f64) -> Self {
        Self { unit: metric == Metric::Cosine, mean, factor }
    }

    pub(crate) fn mean(&self) -> &[f32] {
        &self.mean
    }

    pub(crate) fn factor(&self) -> f64 {
        self.factor
    }

    /// The frame of some rows: time and memory of one pass over them.
    pub(crate) fn of(metric: Metric, rows: &[RowId], source: &dyn VectorSource) -> Self {
        let dimensions = source.dimensions();
        let unit = metric == Metric::Cosine;
        let mut sums = vec![0.0_f64; dimensions];
        let mut squares = 0.0;
        for &row in rows {
            let Some(vector) = source.vector(row) else { continue };
            let scale = if unit { unit_scale(vector, row, source) } else { 1.0 };
            for (sum, &value) in sums.iter_mut().zip(vector) {
                let value = f64::from(value) * scale;
                *sum += value;
                squares += value * value;
            }
        }
        let count = rows.len().max(1) as f64;
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
        let variance = squares / count - exact_dot(&mean, &mean);
        // Below the rounding of the squares the rows are all alike, and any factor will do.
        let factor = if variance > 1e-12 * squares / count { variance.sqrt().recip() } else { 1.0 };
        Self { unit, mean, factor }
    }

    /// The vector of a row, moved into the frame.
    pub(crate) fn enter(&self, row: RowId, source: &dyn VectorSource, out: &mut [f32]) {
        let Some(vector) = source.vector(row) else {
            out.fill(0.0);
            return;
        };
        let scale = if self.unit { unit_scale(vector, row, source) } else { 1.0 };
        self.enter_scaled(vector, scale, out);
    }

    /// A vector, moved into the frame; `scale` is its inverse norm under the cosine, else one.
    pub(crate) fn enter_scaled(&self, vector: &[f32], scale: f64, out: &mut [f32]) {
        let places = out.iter_mut().zip(vector).zip(&self.mean);
        let product = scale * self.factor;
        if FACTOR_RANGE.contains(&product) && FACTOR_RANGE.contains(&self.factor) {
            let (scale, factor) = (product as f32, self.factor as f32);
            for ((out, &value), &mean) in places {
                *out = value * scale - mean * factor;
            }
        } else {
            for ((out, &value), &mean) in places {
                *out = ((f64::from(value) * scale - f64::from(mean)) * self.factor) as f32;
            }
        }
        let longest = out.iter().fold(0.0_f32, |longest, value| longest.max(value.abs()));
        if longest > LENGTH_MAX {
            // Infinite components of a vector that is far beyond the others become the limit.
            let shrink = |value: f32| value.clamp(-LENGTH_MAX, LENGTH_MAX);
            out.iter_mut().for_each(|value| *value = shrink(*value));
        }
    }

    /// A point of the frame in the coordinates of the vectors.
    pub(crate) fn leave(&self, point: &[f32], out: &mut [f32]) {
        for ((out, &value), &mean) in out.iter_mut().zip(point).zip(&self.mean) {
            let value = f64::from(value) / self.factor + f64::from(mean);
            *out = value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        }
    }

    /// Brings a point of the frame to unit length in the coordinates of the vectors.
    pub(crate) fn to_unit(&self, point: &mut [f32]) {
        let mut vector = vec![0.0; point.len()];
        self.leave(point, &mut vector);
        let norm = exact_dot(&vector, &vector).sqrt();
        if norm > 0.0 {
            self.enter_scaled(&vector, norm.recip(), point);
        }
    }

    /// Codes of rows, in the order given.
    pub(crate) fn encode(
        &self,
        rows: &[RowId],
        source: &dyn VectorSource,
        kernels: &Kernels,
        crew: &Crew<'_>,
    ) -> Result<RowCodes, IndexError> {
        let dimensions = self.mean.len();
        let mut codes = RowCodes::new(rows.len(), dimensions);
        let pairs = codes.pairs().max(1);
        let (pair_slots, scales, norms) = codes.slots();
        let slots = pair_slots.chunks_mut(PIECE_ROWS * pairs);
        let slots = slots.zip(scales.chunks_mut(PIECE_ROWS)).zip(norms.chunks_mut(PIECE_ROWS));
        let pieces = rows.chunks(PIECE_ROWS).zip(slots).collect();
        crew.each(pieces, |(rows, ((pair_slots, scales), norms))| {
            let mut values = vec![0.0; dimensions];
            let slots = pair_slots.chunks_mut(pairs).zip(scales).zip(norms);
            for (&row, ((pairs, scale), norm)) in rows.iter().zip(slots) {
                self.enter(row, source, &mut values);
                (*scale, *norm) = super::codes::encode(&values, pairs, kernels);
            }
            Ok(())
        })?;
        Ok(codes)
    }
}

/// What brings a row to unit length; zero for a zero row.
pub(crate) fn unit_scale(vector: &[f32], row: RowId, source: &dyn VectorSource) -> f64 {
    let mut inverse = [0.0];
    source.inverse_norms(row, &mut inverse);
    if inverse[0].is_nan() {
        let norm = exact_dot(vector, vector).sqrt();
        return if norm > 0.0 { norm.recip() } else { 0.0 };
    }
    f64::from(inverse[0])
}
