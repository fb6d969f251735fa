//! Distance metrics; smaller is nearer for every one of them.

/// How the distance of two vectors is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DistanceMetric {
    /// 1 - cosine similarity, 0 to 2; 1 where a vector is zero.
    #[default]
    Cosine,
    /// Euclidean distance, with the root.
    Euclidean,
    /// Negative inner product.
    DotProduct,
}

impl DistanceMetric {
    /// The distance of two vectors of equal length, in f64 and rounded once.
    #[must_use]
    pub fn distance(&self, a: &[f32], b: &[f32]) -> f32 {
        let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
        let dot: f64 = pairs().map(|(x, y)| x * y).sum();
        let distance = match self {
            Self::Cosine => {
                let squares = pairs().fold((0.0, 0.0), |(a, b), (x, y)| (a + x * x, b + y * y));
                let norms = squares.0.sqrt() * squares.1.sqrt();
                if norms == 0.0 { 1.0 } else { (1.0 - dot / norms).max(0.0) }
            }
            Self::Euclidean => pairs().map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt(),
            Self::DotProduct => 0.0 - dot,
        };
        distance as f32
    }

    /// The original's number of the metric; what is unknown means cosine there.
    #[must_use]
    pub fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Euclidean,
            2 => Self::DotProduct,
            _ => Self::Cosine,
        }
    }

    /// The original's number of the metric.
    #[must_use]
    pub fn to_u8(&self) -> u8 {
        match self {
            Self::Cosine => 0,
            Self::Euclidean => 1,
            Self::DotProduct => 2,
        }
    }

    /// "cosine", "euclidean" or "`dot_product`".
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
            Self::DotProduct => "dot_product",
        }
    }

    pub(crate) fn kernel(self) -> synadb_index::Metric {
        match self {
            Self::Cosine => synadb_index::Metric::Cosine,
            Self::Euclidean => synadb_index::Metric::Euclidean,
            Self::DotProduct => synadb_index::Metric::DotProduct,
        }
    }
}
