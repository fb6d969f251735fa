//! What vectors are taken relative to before they are coded or compared with centroids.

use synadb_types::RowId;

use crate::distance::{Metric, exact_dot};
use crate::kmeans::Centroids;
use crate::kmeans::frame::{Frame, unit_scale};
use crate::quantize::{Anchor, Rotation, Space};
use crate::{IndexError, Query, VectorSource};

use super::bits::rotate_all;

/// Vectors are moved where their mean has more than this part of their mean squared length: what
/// they share then costs the rounding of a query more than the exact sums along the anchors of
/// unmoved vectors save. Below it costs recall to move them, most of all where they are of many
/// lengths and the short ones lie about the origin.
const SHARED: f64 = 0.81;
/// Fast keys of unit vectors have few digits left where what they do not share is below this
/// part of the squared length.
const NEARLY_ALIKE: f64 = 1e-4;
/// How far from the origin a zero vector is put among unit vectors that are moved: its squared
/// distance from each is then at least two, as its key of one asks for.
const ZERO_LENGTH: f64 = 1.0 + std::f64::consts::SQRT_2;
/// What the rounding of unit vectors and of their products may take from a key of the cosine.
const UNIT_SLACK: f64 = 8e-6;

/// Where vectors are moved that lie far from the origin: to the mean of the training sample, so
/// that what they have in common costs no digits. Distances do not change by it; under the cosine unit vectors are moved, and
/// their keys are half the squared distances. An inner product does change, and codes of it are
/// relative to the centroids alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    metric: Metric,
    /// What is taken from each vector, nothing where they stay.
    shift: Option<Vec<f32>>,
    /// True when fast keys can't tell near rows apart.
    is_nearly_alike: bool,
}

impl Origin {
    /// The origin that belongs to a frame, the same for the same mean.
    pub(super) fn of(metric: Metric, frame: &Frame) -> Self {
        let mean = frame.mean();
        let squared = exact_dot(mean, mean);
        // The frame's factor makes the mean squared distance from the mean one.
        let shared = squared / (squared + frame.factor().recip().powi(2));
        let is_moved = metric != Metric::DotProduct && shared > SHARED;
        let is_nearly_alike = metric == Metric::Cosine && shared > 1.0 - NEARLY_ALIKE;
        Self { metric, shift: is_moved.then(|| mean.to_vec()), is_nearly_alike }
    }

    /// True when vectors are moved.
    pub(super) fn is_moved(&self) -> bool {
        self.shift.is_some()
    }

    /// True when the keys that rows are compared by must be exact: rows at the cosine are so
    /// nearly alike that `f32` can't tell them apart.
    pub(super) fn needs_exact_keys(&self) -> bool {
        self.is_nearly_alike
    }

    /// The metric by which vectors are compared where they are moved to.
    pub(super) fn metric(&self) -> Metric {
        if self.is_moved() { Metric::Euclidean } else { self.metric }
    }

    /// What the keys of codes measure.
    pub(super) fn space(&self) -> Space {
        Space::of(self.metric())
    }

    /// The key by [`Origin::metric`] above which a row has no key of its own below `key`, but for
    /// zero vectors where `key` is above one.
    pub(super) fn limit(&self, key: f64) -> f64 {
        let is_half = self.is_moved() && self.metric == Metric::Cosine;
        if is_half { 2.0 * (key + UNIT_SLACK) } else { key }
    }

    /// The vector of a row, moved; false when there is no such row.
    pub(super) fn place(&self, row: RowId, source: &dyn VectorSource, out: &mut [f32]) -> bool {
        let Some(vector) = source.vector(row) else { return false };
        let scale = match self.metric {
            Metric::Cosine => unit_scale(vector, row, source),
            Metric::Euclidean | Metric::DotProduct => 1.0,
        };
        match &self.shift {
            Some(shift) if self.metric == Metric::Cosine && scale == 0.0 => {
                // Opposite to what all others share: unlike its own place, which is no further from
                // a query than half as unlike rows are, it drives none of them out. Rows with keys
                // above one may come before it.
                let length = exact_dot(shift, shift).sqrt();
                for (out, &shift) in out.iter_mut().zip(shift) {
                    *out = (-f64::from(shift) * (1.0 + ZERO_LENGTH / length)) as f32;
                }
            }
            Some(shift) if self.metric == Metric::Cosine => {
                for ((out, &value), &shift) in out.iter_mut().zip(vector).zip(shift) {
                    *out = (f64::from(value) * scale - f64::from(shift)) as f32;
                }
            }
            Some(shift) => subtract(vector, shift, out),
            None => {
                for (out, &value) in out.iter_mut().zip(vector) {
                    *out = value * scale as f32;
                }
            }
        }
        true
    }

    /// The query as it is compared with the centroids.
    pub(super) fn query<'a>(&self, query: &'a Query, moved: &'a mut Vec<f32>) -> &'a [f32] {
        let vector = match self.metric {
            Metric::Euclidean => query.values(),
            Metric::Cosine | Metric::DotProduct => query.unit(),
        };
        let Some(shift) = &self.shift else { return vector };
        moved.clear();
        moved.resize(vector.len(), 0.0);
        subtract(vector, shift, moved);
        moved
    }

    /// The centroids, moved.
    pub(super) fn points(&self, centroids: &Centroids) -> Vec<f32> {
        if !self.is_moved() {
            return centroids.leave();
        }
        let factor = centroids.frame.factor();
        let limits = (f64::from(f32::MIN), f64::from(f32::MAX));
        let leave = |&value: &f32| (f64::from(value) / factor).clamp(limits.0, limits.1) as f32;
        centroids.points.iter().map(leave).collect()
    }

    /// What the codes of single rows are relative to: the mean of the sample, which no later row
    /// moves.
    pub(super) fn anchor(
        &self,
        centroids: &Centroids,
        rotation: &Rotation,
    ) -> Result<Anchor, IndexError> {
        if self.is_moved() {
            return Ok(Anchor::origin(rotation.padded()));
        }
        Ok(Anchor::new(rotate_all(rotation, centroids.frame.mean())?))
    }
}

fn subtract(vector: &[f32], shift: &[f32], out: &mut [f32]) {
    for ((out, &value), &shift) in out.iter_mut().zip(vector).zip(shift) {
        *out = value - shift;
    }
}
