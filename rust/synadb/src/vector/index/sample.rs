//! Vectors like those that are to come, in which centroids are found.

use std::sync::Arc;

use synadb_index::{
    Block, IndexError, IvfConfig, IvfIndex, Job, Metric, VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

use crate::vector::VectorStore;

/// A sample, row-major; every row of it counts as live.
pub(in crate::vector) struct Sample {
    dimensions: usize,
    values: Vec<f32>,
}

impl Sample {
    pub(super) fn of_no_row(dimensions: usize) -> Self {
        Self { dimensions, values: Vec::new() }
    }
}

impl VectorStore {
    /// Has inverted files that are built anew find their centroids in these rows, which were
    /// checked, through this handle and its clones.
    pub fn keep_sample(&self, values: Vec<f32>) {
        let dimensions = usize::from(self.dimensions());
        self.sample.store(Some(Arc::new(Sample { dimensions, values })));
    }
}

/// An inverted file of `rows` with the centroids of a sample, where there is one.
pub(super) fn build_of(
    sample: Option<&Sample>,
    (metric, config): (Metric, &IvfConfig),
    rows: &RowSet,
    source: &dyn VectorSource,
    job: &Job<'_>,
) -> Result<IvfIndex, IndexError> {
    let Some(sample) = sample else {
        return IvfIndex::build(metric, config, rows, source, job);
    };
    let all: Vec<RowId> = (0..sample.rows_end()).map(RowId).collect();
    IvfIndex::build_from_sample(metric, config, (&all, sample), rows, source, job)
}

impl VectorSource for Sample {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        u32::try_from(self.values.len() / self.dimensions).unwrap_or(u32::MAX)
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let data = self.values.get(row.0 as usize * self.dimensions..)?;
        let count = data.len() / self.dimensions;
        let stride = self.dimensions;
        (count > 0).then_some(Block { first: row, count, stride, data })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        let rows = self.values[first.0 as usize * self.dimensions..].chunks(self.dimensions);
        for (norm, row) in out.iter_mut().zip(rows) {
            *norm = inverse_norm(row);
        }
    }

    fn is_live(&self, row: RowId) -> bool {
        row.0 < self.rows_end()
    }
}
