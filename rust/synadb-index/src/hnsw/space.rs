//! The geometry of a graph: every metric as a euclidean distance.
//!
//! A vector is scaled, moved by a centre and given one more coordinate, so that the nearest rows
//! by the metric are the nearest by the euclidean distance too. Cosine: scaled to unit length; a
//! zero vector lies in the new direction. Euclidean: scaled by one factor, so that nothing leaves
//! the range of `f32`. Inner product: scaled by the largest length, and raised by the new
//! coordinate to the unit sphere, on whose equator the query lies (Bachrach et al. 2014).

use synadb_types::RowId;

use crate::distance::exact_dot;
use crate::{Metric, Query, VectorSource};

/// Rows that the centre is the mean of, at most.
const CENTRE_ROWS_MAX: usize = 1 << 14;
/// Square of how often the median distance from the mean a point may be away to count for the centre:
/// a single far one could draw it away from all others, whose codes would then tell nothing.
const FAR_SQUARED: f64 = 100.0;

/// The map from vectors to the points of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Space {
    pub(super) metric: Metric,
    /// Factor of every component; unused for the cosine.
    pub(super) scale: f64,
    /// What is taken from every vector after scaling.
    pub(super) centre: Vec<f32>,
}

impl Space {
    /// Fits the map to some rows: one pass over all of them but for the cosine, and three over
    /// a sample.
    pub(super) fn fit(metric: Metric, rows: &[RowId], source: &dyn VectorSource) -> Self {
        let dimensions = source.dimensions();
        let vectors = || rows.iter().filter_map(|&row| source.vector(row));
        let largest = match metric {
            Metric::Cosine => 1.0,
            Metric::Euclidean => vectors()
                .flatten()
                .fold(0.0, |largest: f64, &value| largest.max(f64::from(value.abs()))),
            Metric::DotProduct => vectors().map(|v| exact_dot(v, v)).fold(0.0, f64::max).sqrt(),
        };
        let scale = if largest > 0.0 && largest.is_finite() { 1.0 / largest } else { 1.0 };
        let mut space = Self { metric, scale, centre: vec![0.0; dimensions] };
        space.centre = space.centre_of(rows, source);
        space
    }

    /// The mean of a sample of points, but for those that are far from it beside most.
    fn centre_of(&self, rows: &[RowId], source: &dyn VectorSource) -> Vec<f32> {
        let step = rows.len().div_ceil(CENTRE_ROWS_MAX).max(1);
        let vectors = || rows.iter().step_by(step).filter_map(|&row| source.vector(row));
        let mut point = vec![0.0; self.dimensions()];
        let mut mean_of = |counts: &dyn Fn(usize) -> bool| {
            let (mut sums, mut count) = (vec![0.0; self.dimensions()], 0);
            for (_, vector) in vectors().enumerate().filter(|&(number, _)| counts(number)) {
                self.place(vector, &mut point);
                sums.iter_mut().zip(&point).for_each(|(sum, &value)| *sum += f64::from(value));
                count += 1;
            }
            let mean = |sum| (sum / f64::from(count.max(1))) as f32;
            sums.into_iter().map(mean).collect::<Vec<f32>>()
        };
        let moved = Self { centre: mean_of(&|_| true), ..self.clone() };
        let mut point = vec![0.0; self.dimensions()];
        let squares = vectors().map(|vector| {
            moved.place(vector, &mut point);
            exact_dot(&point, &point)
        });
        let squares: Vec<f64> = squares.collect();
        let mut ordered = squares.clone();
        ordered.sort_unstable_by(f64::total_cmp);
        let median = ordered.get(ordered.len() / 2).copied().unwrap_or_default();
        // Where most are equal the others say where the mean is.
        let limit = if median > 0.0 { FAR_SQUARED * median } else { f64::INFINITY };
        mean_of(&|number| squares[number] <= limit)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.centre.len()
    }

    /// Writes the point of a vector and returns its additional coordinate.
    pub(super) fn place(&self, vector: &[f32], out: &mut [f32]) -> f32 {
        let (factor, extra) = match self.metric {
            Metric::Euclidean => (self.scale, 0.0),
            Metric::Cosine => {
                let norm = exact_dot(vector, vector).sqrt();
                if norm > 0.0 { (1.0 / norm, 0.0) } else { (0.0, 1.0) }
            }
            Metric::DotProduct => {
                let squared = exact_dot(vector, vector) * self.scale * self.scale;
                (self.scale, (1.0 - squared).max(0.0).sqrt() as f32)
            }
        };
        self.move_to(vector, factor, out);
        extra
    }

    /// Writes the point of a query, whose additional coordinate is zero.
    pub(super) fn place_query(&self, query: &Query, out: &mut [f32]) {
        match self.metric {
            Metric::Euclidean => self.move_to(query.values(), self.scale, out),
            Metric::Cosine | Metric::DotProduct => self.move_to(query.unit(), 1.0, out),
        }
    }

    fn move_to(&self, vector: &[f32], factor: f64, out: &mut [f32]) {
        for ((point, &value), &centre) in out.iter_mut().zip(vector).zip(&self.centre) {
            let moved = (f64::from(value) * factor - f64::from(centre)) as f32;
            // Far queries and rows written while they are read: the distance is then arbitrary.
            *point = if moved.is_finite() { moved.clamp(-1e18, 1e18) } else { 0.0 };
        }
    }
}
