//! A query prepared for a metric, and the norms that go with the stored vectors.

use crate::distance::{Kernels, Metric, SimdLevel, exact_dot, kernels};
use crate::{IndexError, VectorSource};

/// A key nearer to zero than this may have lost its digits to underflow.
const UNDERFLOW_LIMIT: f32 = 1e-30;
/// Keys at least this many times the underflow of the query have the digits of an `f32`.
const UNDERFLOW_DIGITS: f32 = (1 << 24) as f32;
/// A cosine key below this is the difference of two numbers near one, which has few digits left.
const COSINE_LIMIT: f32 = 1e-5;
/// Norms in this range, and their inverses, are fit for arithmetic in `f32`.
const NORM_RANGE: std::ops::RangeInclusive<f64> = 1e-30..=1e30;
/// Squared norms in this range come out of an `f32` kernel with their digits.
const SQUARED_NORM_RANGE: std::ops::RangeInclusive<f32> = 1e-30..=1e30;
/// Floats examined at once when looking for one that is not finite.
const FINITE_CHUNK: usize = 64;

/// A query vector prepared for a metric.
///
/// Rows are ranked by *keys*: one minus the cosine, the squared distance, or the negative inner
/// product with the query at unit length. A fast key is an `f32`, an exact one an `f64`;
/// [`Query::score`] makes the public score of an exact key.
#[derive(Debug, Clone)]
pub struct Query {
    metric: Metric,
    kernels: &'static Kernels,
    values: Vec<f32>,
    /// The values in double precision, for exact keys.
    doubles: Vec<f64>,
    /// The values at unit length; all zero for a zero query. None for distances.
    unit: Vec<f32>,
    /// How much an inner product with any row may have lost because components of the unit vector
    /// lie below the normal numbers of `f32`. Zero for all but queries whose components are 1e38
    /// apart, and for other metrics.
    unit_underflow: f32,
    /// Zero for distances, which need no norm.
    squared_norm: f64,
}

impl Query {
    /// Prepares a query.
    ///
    /// # Errors
    ///
    /// [`IndexError::NonFinite`] when a component is not finite; the errors of [`kernels`].
    pub fn new(metric: Metric, values: &[f32]) -> Result<Self, IndexError> {
        Self::with_kernels(metric, values, kernels()?)
    }

    /// Prepares a query that uses the kernels given.
    ///
    /// # Errors
    ///
    /// [`IndexError::NonFinite`] when a component is not finite.
    pub fn with_kernels(
        metric: Metric,
        values: &[f32],
        kernels: &'static Kernels,
    ) -> Result<Self, IndexError> {
        let mut query = Self {
            metric,
            kernels,
            values: Vec::new(),
            doubles: Vec::new(),
            unit: Vec::new(),
            unit_underflow: 0.0,
            squared_norm: 0.0,
        };
        query.reset(values)?;
        Ok(query)
    }

    /// Replaces the vector and keeps metric, kernels and memory.
    ///
    /// # Errors
    ///
    /// [`IndexError::NonFinite`] when a component is not finite; the query is then as before.
    pub fn reset(&mut self, values: &[f32]) -> Result<(), IndexError> {
        if let Some(position) = first_non_finite(values) {
            return Err(IndexError::NonFinite { position });
        }
        self.reset_finite(values);
        Ok(())
    }

    /// As [`Query::reset`] with components that are known to be finite: what is found for others
    /// means nothing.
    pub fn reset_finite(&mut self, values: &[f32]) {
        self.values.clear();
        self.values.extend_from_slice(values);
        self.doubles.clear();
        self.doubles.extend(values.iter().map(|&value| f64::from(value)));
        self.unit.clear();
        if self.metric == Metric::Euclidean {
            return;
        }
        (_, self.squared_norm) = (self.kernels.exact_dots)(&self.doubles, values, &[]);
        let norm = self.squared_norm.sqrt();
        let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        self.unit.extend(values.iter().map(|&value| (f64::from(value) * inverse) as f32));
        if self.metric == Metric::DotProduct {
            self.unit_underflow = unit_underflow(&self.unit, &self.doubles, inverse);
        }
    }

    /// Metric of the query.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Number of dimensions.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.values.len()
    }

    /// The vector as it was given.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The vector at unit length; all zero for a zero query, empty where distances are compared.
    pub(crate) fn unit(&self) -> &[f32] {
        &self.unit
    }

    /// Kernels that the query uses.
    pub(crate) fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Checks that the query fits a source.
    ///
    /// # Errors
    ///
    /// [`IndexError::Dimensions`] when it does not.
    pub fn check(&self, source: &dyn VectorSource) -> Result<(), IndexError> {
        let (query, source) = (self.dimensions(), source.dimensions());
        if query == source { Ok(()) } else { Err(IndexError::Dimensions { query, source }) }
    }

    /// True when [`Query::keys`] looks at the inverse norms.
    #[must_use]
    pub fn needs_norms(&self) -> bool {
        self.metric == Metric::Cosine
    }

    /// Fast keys of as many rows as `out` has room for; NaN where `f32` does not reach.
    ///
    /// # Panics
    ///
    /// Panics when `rows` is too short for the rows at this stride or, for the cosine,
    /// `inverse_norms` has another length than `out`.
    pub fn keys(&self, rows: &[f32], stride: usize, inverse_norms: &[f32], out: &mut [f32]) {
        let count = out.len();
        match self.metric {
            Metric::Cosine => {
                assert_eq!(inverse_norms.len(), count, "every row has an inverse norm");
                (self.kernels.dot_rows)(&self.unit, rows, stride, count, out);
                for (key, &inverse) in out.iter_mut().zip(inverse_norms) {
                    *key = finite_or_nan(1.0 - *key * inverse);
                }
            }
            Metric::Euclidean => {
                (self.kernels.squared_euclidean_rows)(&self.values, rows, stride, count, out);
                for key in out {
                    *key = finite_or_nan(*key);
                }
            }
            Metric::DotProduct => {
                (self.kernels.dot_rows)(&self.unit, rows, stride, count, out);
                for key in out {
                    *key = finite_or_nan(-*key);
                }
            }
        }
    }

    /// Largest fast key that a row with an exact key of at most `worst` can have, rounding of
    /// normal numbers apart. NaN keys pass every limit and are to be computed exactly.
    #[must_use]
    pub fn key_limit(&self, worst: f64) -> f32 {
        let nearest = worst as f32;
        let limit = if f64::from(nearest) < worst { nearest.next_up() } else { nearest };
        match self.metric {
            Metric::Cosine => limit.max(COSINE_LIMIT),
            Metric::Euclidean => limit.max(UNDERFLOW_LIMIT),
            Metric::DotProduct => limit + self.unit_underflow.max(UNDERFLOW_LIMIT),
        }
    }

    /// How far a fast key may be from the exact one, of a row no longer than `largest_norm`.
    ///
    /// The error of a sum of n products is below n roundings of the sum of their magnitudes, which
    /// for two vectors is at most the product of their lengths (Higham 2002, 3.1); a few more are
    /// those of the unit vector and of the norm.
    #[must_use]
    pub(crate) fn key_error(&self, key: f64, largest_norm: f64) -> f64 {
        let roundings = (self.dimensions() + 16) as f64 * f64::from(f32::EPSILON / 2.0);
        match self.metric {
            Metric::Cosine => roundings,
            Metric::Euclidean => roundings * key,
            Metric::DotProduct => roundings * largest_norm,
        }
    }

    /// True when a fast key has its digits; otherwise the exact key is the one to use.
    #[must_use]
    pub fn is_reliable(&self, key: f32) -> bool {
        match self.metric {
            Metric::Cosine => key.is_finite() && key >= COSINE_LIMIT,
            Metric::Euclidean => key.is_finite() && key >= UNDERFLOW_LIMIT,
            Metric::DotProduct => {
                let least = (self.unit_underflow * UNDERFLOW_DIGITS).max(UNDERFLOW_LIMIT);
                key.is_finite() && key.abs() >= least
            }
        }
    }

    /// Key of a row in double precision.
    #[must_use]
    pub fn exact_key(&self, row: &[f32]) -> f64 {
        self.exact_key_before(row, &[])
    }

    /// As [`Query::exact_key`]; `next` is the row that will be read next, or none. It is asked for
    /// while this one is compared: all of its lines at once would make the processor wait.
    pub(crate) fn exact_key_before(&self, row: &[f32], next: &[f32]) -> f64 {
        let dots = |row| (self.kernels.exact_dots)(&self.doubles, row, next);
        match self.metric {
            Metric::Cosine => {
                let (dot, square) = dots(row);
                // The root of the product, since it is exact when both squares are equal.
                let norms = (self.squared_norm * square).sqrt();
                if norms > 0.0 { (1.0 - dot / norms).clamp(0.0, 2.0) } else { 1.0 }
            }
            Metric::Euclidean => (self.kernels.exact_squared_euclidean)(&self.doubles, row, next),
            Metric::DotProduct if self.squared_norm > 0.0 => {
                -dots(row).0 / self.squared_norm.sqrt()
            }
            Metric::DotProduct => 0.0,
        }
    }

    /// Public score of an exact key; what lies beyond `f32` becomes its largest number.
    #[must_use]
    pub fn score(&self, exact_key: f64) -> f32 {
        let distance = match self.metric {
            Metric::Cosine => exact_key,
            Metric::Euclidean => exact_key.sqrt(),
            Metric::DotProduct => exact_key * self.squared_norm.sqrt(),
        };
        // Adding zero makes a negative zero positive.
        (distance as f32).clamp(f32::MIN, f32::MAX) + 0.0
    }
}

fn finite_or_nan(key: f32) -> f32 {
    if key.is_finite() { key } else { f32::NAN }
}

/// What an inner product with the longest row may lose to components below the normal numbers.
fn unit_underflow(unit: &[f32], doubles: &[f64], inverse: f64) -> f32 {
    let is_lost = |(&unit, &value): (&f32, &f64)| (unit.abs() < f32::MIN_POSITIVE) & (value != 0.0);
    if !unit.iter().zip(doubles).fold(false, |any, pair| any | is_lost(pair)) {
        return 0.0;
    }
    let pairs = unit.iter().zip(doubles).filter(|&pair| is_lost(pair));
    let lost: f64 = pairs.map(|(&unit, &value)| (value * inverse - f64::from(unit)).abs()).sum();
    ((lost * f64::from(f32::MAX)) as f32).next_up()
}

/// Inverse length of a vector: 0 for a zero vector, NaN for a length outside 1e-30 to 1e30.
#[must_use]
pub fn inverse_norm(vector: &[f32]) -> f32 {
    let table = kernels().or_else(|_| Kernels::for_level(SimdLevel::Scalar));
    let table = table.expect("every processor has the scalar level");
    let squared = (table.dot)(vector, vector);
    let squared = if SQUARED_NORM_RANGE.contains(&squared) {
        f64::from(squared)
    } else {
        exact_dot(vector, vector)
    };
    let norm = squared.sqrt();
    if norm == 0.0 {
        0.0
    } else if NORM_RANGE.contains(&norm) {
        (1.0 / norm) as f32
    } else {
        f32::NAN
    }
}

/// Position of the first component that is a NaN or an infinity.
#[must_use]
pub fn first_non_finite(vector: &[f32]) -> Option<usize> {
    let any = |chunk: &[f32]| chunk.iter().fold(false, |any, value| any | !value.is_finite());
    let bad = vector.chunks(FINITE_CHUNK).position(any)?;
    let start = bad * FINITE_CHUNK;
    vector[start..].iter().position(|value| !value.is_finite()).map(|offset| start + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_norm_follows_its_convention() {
        assert_eq!(inverse_norm(&[]), 0.0);
        assert_eq!(inverse_norm(&[0.0; 5]), 0.0);
        assert_eq!(inverse_norm(&[3.0, 0.0, 4.0]), 0.2);
        assert_eq!(inverse_norm(&[3e20, 4e20]), 2e-21);
        assert_eq!(inverse_norm(&[3e-20, -4e-20]), 2e19);
        assert!(inverse_norm(&[1e-40]).is_nan());
        assert!(inverse_norm(&[f32::MAX; 3]).is_nan());
        assert!(inverse_norm(&[f32::NAN, 1.0]).is_nan());
        assert!(inverse_norm(&[f32::INFINITY]).is_nan());
    }

    #[test]
    fn first_non_finite_finds_the_first() {
        for len in [1, 63, 64, 65, 200] {
            assert_eq!(first_non_finite(&vec![f32::MAX; len]), None);
            for position in 0..len {
                let mut vector = vec![1.0; len];
                vector[len - 1] = f32::NAN;
                vector[position] = f32::NEG_INFINITY;
                assert_eq!(first_non_finite(&vector), Some(position));
            }
        }
        assert_eq!(first_non_finite(&[]), None);
    }

    #[test]
    fn a_query_that_is_not_finite_is_refused() {
        let error = Query::new(Metric::Cosine, &[1.0, f32::NAN]).err();
        assert_eq!(error, Some(IndexError::NonFinite { position: 1 }));
    }

    #[test]
    fn a_fast_key_beyond_f32_is_not_a_number() -> Result<(), IndexError> {
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::DotProduct] {
            let query = Query::new(metric, &[1.0; 16])?;
            for extreme in [f32::MAX, f32::MIN] {
                let mut keys = [0.0];
                query.keys(&[extreme; 16], 16, &[inverse_norm(&[extreme; 16])], &mut keys);
                assert!(keys[0].is_nan() && !query.is_reliable(keys[0]));
            }
        }
        Ok(())
    }

    #[test]
    fn scores_saturate_and_have_no_negative_zero() -> Result<(), IndexError> {
        let query = Query::new(Metric::DotProduct, &[f32::MAX; 2])?;
        assert_eq!(query.score(query.exact_key(&[f32::MAX; 2])), f32::MIN);
        let score = query.score(query.exact_key(&[0.0; 2]));
        assert!(score == 0.0 && score.is_sign_positive());
        let query = Query::new(Metric::Euclidean, &[f32::MAX; 2])?;
        assert_eq!(query.score(query.exact_key(&[f32::MIN; 2])), f32::MAX);
        Ok(())
    }
}
