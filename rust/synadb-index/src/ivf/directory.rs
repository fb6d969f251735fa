//! The centroids as a search sees them.

use std::sync::Arc;

use crate::distance::{Kernels, Metric};
use crate::job::Crew;
use crate::kmeans::assign::Near;
use crate::quantize::{
    Anchor, BLOCK_ROWS, CodeQuery, Estimates, Rotation, Space, bit_block_bytes, encode_bits,
};
use crate::{IndexError, VectorSource};

use super::bits::rotate_all;
use super::heritage::Heritage;
use super::lists::Lists;
use super::origin::Origin;
use synadb_types::RowId;

/// Relative error that the bound of a cell allows for rounding in `f32`.
const BOUND_SLACK: f32 = 2e-5;
/// What rounding may take from a row's own key, relative to the squared lengths.
const KEY_SLACK: f32 = 4e-6;
/// Centroids compared at full precision, of those that their codes put first: so many times the
/// number wanted, and so many more.
const SHORTLIST: (usize, usize) = (2, 32);
/// Centroids that are prefetched before they are compared.
const AHEAD: usize = 4;
/// Cells that are measured by one call of a worker.
const PIECE_CELLS: usize = 32;
/// Squared lengths that `f32` can tell apart.
const SQUARED_RANGE: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

/// The centroids, and the radius of each cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Directory {
    pub(super) marks: Arc<Marks>,
    /// Largest distance of a cell's row from its centroid.
    pub(super) radii: Vec<f32>,
}

/// Centroids side by side with their squared norms.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Marks {
    dimensions: usize,
    pub(super) points: Vec<f32>,
    squared_norms: Vec<f32>,
    largest: f32,
    /// The centroids in one bit a dimension.
    coded: Option<Coded>,
}

/// Codes of the centroids, relative to their mean.
#[derive(Debug, Clone, PartialEq)]
struct Coded {
    anchor: Anchor,
    blocks: Vec<u8>,
}

impl Marks {
    pub(super) fn new(points: Vec<f32>, dimensions: usize, kernels: &Kernels) -> Self {
        let vectors = points.chunks_exact(dimensions.max(1));
        let squared_norms: Vec<f32> = vectors.map(|point| (kernels.dot)(point, point)).collect();
        let largest = squared_norms.iter().copied().fold(0.0, f32::max);
        Self { dimensions, points, squared_norms, largest, coded: None }
    }

    /// Those of a search by codes: rotated, and coded themselves.
    pub(super) fn rotated(
        points: &[f32],
        rotation: &Rotation,
        metric: Metric,
        kernels: &Kernels,
    ) -> Result<Self, IndexError> {
        let rotated = rotate_all(rotation, points)?;
        Ok(Self::new(rotated, rotation.padded(), kernels).with_codes(metric))
    }

    /// Bytes of the centroids and their codes.
    pub(super) fn memory_bytes(&self) -> usize {
        let coded = self.coded.as_ref().map_or(0, |coded| coded.blocks.len());
        (self.points.len() + self.squared_norms.len()) * size_of::<f32>() + coded
    }

    /// Codes the centroids, so that a search compares only the most promising ones in full. They
    /// are rotated.
    fn with_codes(mut self, metric: Metric) -> Self {
        let padded = self.dimensions;
        let mut mean = vec![0.0; padded];
        let weight = 1.0 / self.squared_norms.len().max(1) as f32;
        for point in self.points.chunks_exact(padded) {
            for (sum, value) in mean.iter_mut().zip(point) {
                *sum += value * weight;
            }
        }
        let anchor = Anchor::new(mean);
        let block_bytes = bit_block_bytes(padded);
        let mut blocks = vec![0; self.squared_norms.len().div_ceil(BLOCK_ROWS) * block_bytes];
        for (cell, point) in self.points.chunks_exact(padded).enumerate() {
            let block = &mut blocks[cell / BLOCK_ROWS * block_bytes..][..block_bytes];
            encode_bits(Space::of(metric), &anchor, point, cell % BLOCK_ROWS, block);
        }
        self.coded = Some(Coded { anchor, blocks });
        self
    }

    pub(super) fn point(&self, cell: usize) -> &[f32] {
        &self.points[cell * self.dimensions..][..self.dimensions]
    }
}

impl Directory {
    pub(super) fn new(marks: impl Into<Arc<Marks>>, radii: Vec<f32>) -> Self {
        Self { marks: marks.into(), radii }
    }

    /// As [`Directory::rank`], by codes first. The `wanted` nearest stand in front, in any order;
    /// the number of the cells in front whose keys are exact is returned.
    pub(super) fn rank_coded(
        &self,
        metric: Metric,
        query: &CodeQuery,
        kernels: &Kernels,
        wanted: usize,
        near: &mut Vec<Near>,
        estimates: &mut Estimates,
    ) -> Option<usize> {
        let coded = self.marks.coded.as_ref()?;
        let count = self.marks.squared_norms.len();
        let shortlist = SHORTLIST.0 * wanted + SHORTLIST.1;
        if 2 * shortlist >= count {
            return None;
        }
        near.clear();
        let terms = query.terms(&coded.anchor);
        let blocks = coded.blocks.chunks_exact(bit_block_bytes(self.marks.dimensions));
        for (block, norms) in blocks.zip(self.marks.squared_norms.chunks(BLOCK_ROWS)) {
            (query.kernels().estimate_bits)(block, query, &terms, f32::INFINITY, estimates);
            for (&norm, &key) in norms.iter().zip(&estimates.keys) {
                // The key of the cosine is one less the product.
                let key = if metric == Metric::Cosine { norm + 2.0 * key } else { key };
                let key = if key.is_nan() { f32::NEG_INFINITY } else { key };
                near.push(Near { key, cell: near.len() as u32 });
            }
        }
        near.select_nth_unstable_by(shortlist - 1, |a, b| a.key.total_cmp(&b.key));
        self.refine(metric, query.rotated(), kernels, &mut near[..shortlist]);
        Some(shortlist)
    }

    /// Computes the keys of some cells in full.
    pub(super) fn refine(
        &self,
        metric: Metric,
        vector: &[f32],
        kernels: &Kernels,
        near: &mut [Near],
    ) {
        for at in 0..near.len() {
            if let Some(ahead) = near.get(at + AHEAD) {
                crate::distance::prefetch(self.marks.point(ahead.cell as usize));
            }
            let cell = near[at].cell as usize;
            let dot = (kernels.dot)(vector, self.marks.point(cell));
            near[at].key = self.key(metric, dot, self.marks.squared_norms[cell]);
        }
    }

    fn key(&self, metric: Metric, dot: f32, norm: f32) -> f32 {
        if metric == Metric::DotProduct { -dot } else { norm - 2.0 * dot }
    }

    /// The radius of every cell, with these points, moved, as vectors of the source's dimensions.
    pub(super) fn measure(
        &self,
        origin: &Origin,
        lists: &Lists,
        heritage: Option<Heritage<'_>>,
        source: &dyn VectorSource,
        kernels: &Kernels,
        crew: &Crew<'_>,
    ) -> Result<Vec<f32>, IndexError> {
        let squared = |row: u32, cell, vector: &mut [f32]| {
            if !origin.place(RowId(row), source, vector) {
                return 0.0;
            }
            (kernels.squared_euclidean)(vector, self.marks.point(cell))
        };
        let mut radii = vec![0.0; lists.cells()];
        let pieces = radii.chunks_mut(PIECE_CELLS).enumerate().collect();
        crew.each(pieces, |(piece, radii): (usize, &mut [f32])| {
            let mut vector = vec![0.0; self.marks.dimensions];
            for (at, radius) in radii.iter_mut().enumerate() {
                let cell = piece * PIECE_CELLS + at;
                let (kept, known) =
                    heritage.map_or((0, 0.0), |heritage| heritage.radius(lists, cell));
                let rows = lists.rows[lists.entries(cell)].iter().skip(kept);
                // A distance that is not a number makes the cell reach everywhere.
                let most = rows.map(|&row| squared(row, cell, &mut vector)).fold(0.0, farther);
                *radius = known.max(most.sqrt() * (1.0 + BOUND_SLACK));
            }
            Ok(())
        })?;
        Ok(radii)
    }

    /// False when the query's scale is beyond what the keys of the cells can tell apart.
    pub(super) fn can_rank(&self, query_squared_norm: f32) -> bool {
        SQUARED_RANGE.contains(&(query_squared_norm + self.marks.largest))
    }

    /// Keys of all cells: squared distances less that of the query for a distance, negative
    /// inner products for the dot product.
    pub(super) fn rank(
        &self,
        metric: Metric,
        vector: &[f32],
        kernels: &Kernels,
        near: &mut Vec<Near>,
        keys: &mut Vec<f32>,
    ) {
        let count = self.marks.squared_norms.len();
        keys.clear();
        keys.resize(count, 0.0);
        (kernels.dot_rows)(vector, &self.marks.points, self.marks.dimensions, count, keys);
        near.clear();
        let cells = keys.iter().zip(&self.marks.squared_norms).zip(0..);
        near.extend(
            cells.map(|((&dot, &norm), cell)| Near { key: self.key(metric, dot, norm), cell }),
        );
    }

    /// Inner product of the query with a centroid, from its key; the centroid's squared norm.
    pub(super) fn product(&self, metric: Metric, near: &Near) -> (f32, f32) {
        let norm = self.marks.squared_norms[near.cell as usize];
        let dot = if metric == Metric::DotProduct { -near.key } else { (norm - near.key) / 2.0 };
        (dot, norm)
    }

    /// No row of the cell has a smaller key for the query than this; NaN when that is unknown.
    pub(super) fn lower_bound(&self, metric: Metric, near: &Near, query_squared_norm: f32) -> f64 {
        let cell = near.cell as usize;
        let radius = self.radii[cell];
        let norms = query_squared_norm + self.marks.squared_norms[cell];
        if metric == Metric::DotProduct {
            return f64::from(near.key - radius - BOUND_SLACK * norms.max(1.0));
        }
        let squared = near.key + query_squared_norm - BOUND_SLACK * norms;
        let gap = (squared.max(0.0).sqrt() - radius).max(0.0);
        let bound = f64::from(gap).powi(2) - f64::from(KEY_SLACK * norms);
        if metric == Metric::Cosine { bound / 2.0 } else { bound }
    }
}

/// The larger of two squared distances; infinite when the second is not a number.
fn farther(most: f32, squared: f32) -> f32 {
    if squared.is_nan() { f32::INFINITY } else { most.max(squared) }
}

/// Nearer cells first.
pub(super) fn order(a: &Near, b: &Near) -> std::cmp::Ordering {
    a.key.total_cmp(&b.key).then(a.cell.cmp(&b.cell))
}

/// Brings the `count` nearest cells to the front, in order.
pub(super) fn nearest_first(near: &mut [Near], count: usize) {
    if count < near.len() {
        near.select_nth_unstable_by(count - 1, order);
    }
    near[..count].sort_unstable_by(order);
}
