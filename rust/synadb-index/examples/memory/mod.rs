//! Vectors in memory, as the examples search them.

use synadb_index::{Block, VectorSource};
use synadb_types::RowId;

/// Rows side by side.
pub struct Rows {
    pub dimensions: usize,
    pub data: Vec<f32>,
    pub inverse_norms: Vec<f32>,
}

impl VectorSource for Rows {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.inverse_norms.len() as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let (index, stride) = (row.0 as usize, self.dimensions);
        let count = self.inverse_norms.len().checked_sub(index).filter(|&count| count > 0)?;
        Some(Block { first: row, count, stride, data: &self.data[index * stride..] })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        out.copy_from_slice(&self.inverse_norms[first.0 as usize..][..out.len()]);
    }

    fn is_live(&self, _row: RowId) -> bool {
        true
    }
}
