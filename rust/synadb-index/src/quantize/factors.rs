//! What a row, an anchor and a query contribute to an estimate.

use crate::Metric;

/// Squared residuals in this range have their digits in `f32`.
const SQUARED_RANGE: std::ops::RangeInclusive<f32> = 1e-30..=1e30;
/// Sums kept side by side, so that the compiler can use vector instructions.
const LANES: usize = 16;

/// What the keys of a metric measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Squared distances: the euclidean metric.
    Distance,
    /// A constant less an inner product: the dot product, and the cosine of rows at unit length.
    Product,
}

impl Space {
    /// The space of a metric.
    #[must_use]
    pub fn of(metric: Metric) -> Self {
        match metric {
            Metric::Euclidean => Self::Distance,
            Metric::Cosine | Metric::DotProduct => Self::Product,
        }
    }
}

/// The rotated point that rows are coded relative to: a centroid, a node, or the origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchor {
    vector: Vec<f32>,
    squared_norm: f32,
    is_common: bool,
}

impl Anchor {
    /// Makes the anchor at a rotated vector.
    #[must_use]
    pub fn new(vector: Vec<f32>) -> Self {
        let squared_norm = dot(&vector, &vector);
        Self { vector, squared_norm, is_common: false }
    }

    /// Makes the anchor at a rotated vector that all rows share. Its rows go with queries of
    /// [`CodeQuery::reset_at`](super::CodeQuery::reset_at), which are rounded relative to it, so
    /// that an anchor far from the origin costs no digits.
    #[must_use]
    pub fn common(vector: Vec<f32>) -> Self {
        Self { is_common: true, ..Self::new(vector) }
    }

    /// The origin of vectors of this padded length.
    #[must_use]
    pub fn origin(padded: usize) -> Self {
        Self { vector: vec![0.0; padded], squared_norm: 0.0, is_common: false }
    }

    /// The rotated vector.
    #[must_use]
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// Its squared length.
    #[must_use]
    pub fn squared_norm(&self) -> f32 {
        self.squared_norm
    }

    /// True when queries are rounded relative to it too.
    #[must_use]
    pub fn is_common(&self) -> bool {
        self.is_common
    }
}

/// What a coded row contributes to its estimates.
///
/// A row whose residual `f32` cannot hold has a NaN in `add`; so do all its estimates, and it
/// passes every limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(C)]
pub struct Factors {
    /// Added to the key, times the gain.
    pub add: f32,
    /// Factor of the inner product of grid point and query; never positive.
    pub slope: f32,
    /// One standard deviation of the estimate for a query at distance one from the anchor.
    pub error: f32,
}

/// Bytes of [`Factors::to_bytes`].
pub const FACTORS_BYTES: usize = 12;

impl Factors {
    /// The three numbers, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; FACTORS_BYTES] {
        let mut bytes = [0; FACTORS_BYTES];
        for (part, value) in bytes.chunks_exact_mut(4).zip([self.add, self.slope, self.error]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The factors of [`Factors::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; FACTORS_BYTES]) -> Self {
        let value = |at: usize| {
            f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self { add: value(0), slope: value(4), error: value(8) }
    }
}

/// What a query and an anchor contribute to the estimates of the anchor's rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Terms {
    /// Added to every key.
    pub add: f32,
    /// Factor of the rows' `add`.
    pub gain: f32,
    /// Standard deviations that the bound allows, times the distance from the anchor.
    pub error: f32,
}

/// Sums over the coordinates of a residual `t`, its grid point `c` and an anchor `m`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) tt: f32,
    pub(super) tc: f32,
    pub(super) cc: f32,
    pub(super) cm: f32,
    pub(super) tm: f32,
}

impl Factors {
    /// The factors of a row that is not at its anchor, from the sums over its `len` coordinates.
    pub(super) fn new(space: Space, anchor: &Anchor, sums: &Sums, len: usize) -> Self {
        let Sums { tt, tc, cc, cm, tm } = *sums;
        // A query that is relative to the anchor has no part along it that the grid point meets.
        let cm = if anchor.is_common { 0.0 } else { cm };
        let scale = tt / tc;
        // Squared tangent of the angle between residual and grid point.
        let tangent = (tt * cc / (tc * tc) - 1.0).max(0.0);
        let error = (tt * tangent / (len - 1) as f32).sqrt();
        let factors = match space {
            Space::Distance => {
                Self { add: tt + 2.0 * scale * cm, slope: -2.0 * scale, error: 2.0 * error }
            }
            Space::Product => Self { add: scale * cm - tm, slope: -scale, error },
        };
        let sound = SQUARED_RANGE.contains(&tt)
            && tc > 0.0
            && [factors.add, factors.slope, factors.error].iter().all(|value| value.is_finite());
        if sound { factors } else { Self { add: f32::NAN, slope: 0.0, error: 0.0 } }
    }
}

/// The inner product of two slices of one length, a multiple of 16, in a fixed order.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

/// The squared distance of two such slices.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| (a - b) * (a - b))
}

#[inline]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, _) = a.as_chunks::<LANES>();
    let (b, _) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    fold(sums)
}

/// The sum of the lanes, always in the same order.
#[inline]
pub(super) fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}
