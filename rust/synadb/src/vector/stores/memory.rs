//! Keyed vectors in memory, as the index crate reads them.

use std::collections::HashMap;

use synadb_index::{Block, VectorSource, inverse_norm};
use synadb_types::{RowId, RowSet};

/// Rows in order of their insertion; a key that is inserted again gets a new one.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    dimensions: usize,
    vectors: Vec<f32>,
    norms: Vec<f32>,
    keys: Vec<Box<str>>,
    live: RowSet,
    row_of: HashMap<Box<str>, RowId>,
}

impl Memory {
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, ..Self::default() }
    }

    /// Number of live keys.
    pub fn len(&self) -> usize {
        self.row_of.len()
    }

    pub fn live(&self) -> &RowSet {
        &self.live
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.live.iter().map(|row| self.key(row))
    }

    pub fn key(&self, row: RowId) -> &str {
        &self.keys[row.0 as usize]
    }

    pub fn get(&self, key: &str) -> Option<&[f32]> {
        self.row_of.get(key).and_then(|row| self.vector(*row))
    }

    /// Puts a vector under a key; one that was there dies.
    pub fn insert(&mut self, key: &str, vector: &[f32]) {
        let row = RowId(self.rows_end());
        self.push(key, vector);
        if let Some(old) = self.row_of.insert(key.into(), row) {
            self.live.remove(old);
        }
        self.live.insert(row);
    }

    /// A row that is dead.
    pub fn push_dead(&mut self) {
        let zero = vec![0.0; self.dimensions];
        self.push("", &zero);
    }

    pub fn remove(&mut self, key: &str) -> bool {
        self.row_of.remove(key).is_some_and(|row| self.live.remove(row))
    }

    /// The live rows alone, with other numbers.
    pub fn without_dead(&self) -> Self {
        let mut rows = Self::new(self.dimensions);
        for row in self.live.iter() {
            rows.insert(self.key(row), self.vector(row).unwrap_or_default());
        }
        rows
    }

    fn push(&mut self, key: &str, vector: &[f32]) {
        self.vectors.extend_from_slice(vector);
        self.norms.push(inverse_norm(vector));
        self.keys.push(key.into());
    }
}

impl VectorSource for Memory {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.keys.len() as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let count = self.keys.len().checked_sub(row.0 as usize).filter(|count| *count > 0)?;
        let data = &self.vectors[row.0 as usize * self.dimensions..];
        Some(Block { first: row, count, stride: self.dimensions, data })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        let from = first.0 as usize;
        out.copy_from_slice(&self.norms[from..from + out.len()]);
    }

    fn is_live(&self, row: RowId) -> bool {
        self.live.contains(row)
    }
}
