//! Vectors in memory for the checks.

use synadb_types::{RowId, RowSet};

use crate::random::Random;
use crate::{Block, VectorSource, inverse_norm};

/// Vectors side by side, with those that are to be found.
#[derive(Debug, Clone)]
pub(crate) struct Vectors {
    dimensions: usize,
    data: Vec<f32>,
    inverse_norms: Vec<f32>,
    pub(crate) live: RowSet,
}

impl Vectors {
    pub(super) fn new(dimensions: usize) -> Self {
        let (data, inverse_norms) = (Vec::new(), Vec::new());
        Self { dimensions, data, inverse_norms, live: RowSet::new() }
    }

    pub(crate) fn of(rows: &[Vec<f32>]) -> Self {
        let mut vectors = Self::new(rows.first().map_or(1, Vec::len));
        for row in rows {
            vectors.push(row);
        }
        vectors
    }

    /// Adds a live row.
    pub(super) fn push(&mut self, vector: &[f32]) -> RowId {
        let row = RowId(self.rows_end());
        self.data.extend_from_slice(vector);
        self.inverse_norms.push(inverse_norm(vector));
        self.live.insert(row);
        row
    }

    /// The rows up to `end`, dead ones too.
    pub(crate) fn all(&self) -> RowSet {
        RowSet::range(RowId(0), self.rows_end())
    }

    pub(super) fn row(&self, row: RowId) -> &[f32] {
        &self.data[row.0 as usize * self.dimensions..][..self.dimensions]
    }
}

impl VectorSource for Vectors {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.inverse_norms.len() as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let (first, stride) = (row.0 as usize, self.dimensions);
        let count = self.inverse_norms.len().checked_sub(first).filter(|&count| count > 0)?;
        Some(Block { first: row, count, stride, data: &self.data[first * stride..] })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        out.copy_from_slice(&self.inverse_norms[first.0 as usize..][..out.len()]);
    }

    fn is_live(&self, row: RowId) -> bool {
        self.live.contains(row)
    }
}

/// Numbers from -1 to 1.
fn vector(random: &mut Random, dimensions: usize) -> Vec<f32> {
    let mut float = || random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0;
    (0..dimensions).map(|_| float()).collect()
}

/// Vectors around a few corners, groups mixed, within each along a few directions: as real ones
/// vary. Those of one seed and different parts are of one kind.
pub(crate) fn grouped(seed: u64, part: u64, count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let mut fixed = Random::new(seed);
    let corners: Vec<Vec<f32>> = (0..12).map(|_| vector(&mut fixed, dimensions)).collect();
    let directions: Vec<Vec<f32>> = (0..8).map(|_| vector(&mut fixed, dimensions)).collect();
    let mut random = Random::new(seed ^ (part << 32));
    let near = |at: usize| {
        let mut made = corners[at % corners.len()].clone();
        for (direction, along) in directions.iter().zip(vector(&mut random, directions.len())) {
            made.iter_mut().zip(direction).for_each(|(value, step)| *value += 0.3 * along * step);
        }
        let noise = vector(&mut random, dimensions);
        made.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.05 * noise);
        made
    };
    (0..count).map(near).collect()
}
