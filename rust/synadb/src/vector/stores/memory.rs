//! Keyed vectors in memory, as the index crate reads them, and an index over them.

use std::collections::HashMap;
use std::path::Path;

use synadb_index::{
    Block, Filter, IndexError, Query, Scratch, TopK, VectorSource, first_non_finite, inverse_norm,
    search_tail,
};
use synadb_types::limits::ROWS_MAX;
use synadb_types::{RowId, RowSet};

use super::open_unsynced;
use crate::collection::Snapshot;
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::glob::Pattern;
use crate::keys;
use crate::vector::search::index_failure;
use crate::vector::{IndexBackend, VectorConfig, VectorStore};

/// Vectors that are scanned before they become part of the index, at least.
const TAIL_MIN: usize = 2048;

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
        self.row(key).and_then(|row| self.vector(row))
    }

    pub fn row(&self, key: &str) -> Option<RowId> {
        self.row_of.get(key).copied()
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

/// Vectors in memory, and an index of those that were there when it was built.
#[derive(Debug, Clone)]
pub(super) struct Indexed<P> {
    pub metric: DistanceMetric,
    pub rows: Memory,
    pub part: Option<P>,
    /// The rows below this one were there when the index was built.
    pub end: u32,
}

/// Searches an index for a query.
type Look<'a, P> = &'a dyn Fn(&P, &Query, &Memory, &mut Scratch, &mut TopK) -> Outcome;
type Outcome = std::result::Result<(), IndexError>;

impl<P> Indexed<P> {
    pub fn new(dimensions: u16, metric: DistanceMetric) -> Self {
        let rows = Memory::new(usize::from(dimensions));
        Self { metric, rows, part: None, end: 0 }
    }

    /// Checks a vector, or a query.
    pub fn check(&self, what: &'static str, vector: &[f32]) -> Result<()> {
        let (got, expected) = (vector.len(), self.rows.dimensions());
        if got != expected || expected == 0 {
            return Err(Error::Dimension { what, got, expected });
        }
        let Some(at) = first_non_finite(vector) else { return Ok(()) };
        let reason = format!("component {at} is {}", vector[at]);
        Err(Error::InvalidVector { what: what.to_lowercase(), reason })
    }

    /// Puts a vector under a key; true where the index is to be built anew.
    pub fn insert(&mut self, key: &str, vector: &[f32]) -> Result<bool> {
        keys::check(key)?;
        self.check("Vector", vector)?;
        if self.rows.rows_end() >= ROWS_MAX {
            let reason = format!("an index holds at most {ROWS_MAX} rows");
            return Err(Error::InvalidArgument { argument: "key", reason });
        }
        self.rows.insert(key, vector);
        Ok(self.tail() >= TAIL_MIN.max(self.end as usize))
    }

    /// Checks keys and vectors that are to be inserted together.
    pub fn check_batch(&self, keys: &[&str], vectors: &[&[f32]]) -> Result<()> {
        if keys.len() != vectors.len() {
            let reason = format!("{} keys were given for {} vectors", keys.len(), vectors.len());
            return Err(Error::InvalidArgument { argument: "keys", reason });
        }
        keys.iter().try_for_each(|key| keys::check(key))?;
        vectors.iter().try_for_each(|vector| self.check("Vectors", vector))
    }

    /// Builds the index of all vectors, by the one before where it fits.
    pub fn build(
        &mut self,
        build: impl FnOnce(&[&P], &Memory) -> std::result::Result<P, IndexError>,
    ) -> Result<()> {
        if self.rows.rows_end() as usize > 2 * self.rows.len() {
            (self.rows, self.part) = (self.rows.without_dead(), None);
        }
        let built = build(self.part.as_ref().as_slice(), &self.rows).map_err(index_failure)?;
        (self.part, self.end) = (Some(built), self.rows.rows_end());
        Ok(())
    }

    /// Builds the index of vectors that were loaded, where they are worth one.
    pub fn is_worth_a_build(&self) -> bool {
        self.part.is_none() && self.tail() >= TAIL_MIN
    }

    /// Vectors that the index does not have.
    pub fn tail(&self) -> usize {
        (self.rows.rows_end() - self.end) as usize
    }

    /// The `k` nearest rows with their distances, nearest first.
    pub fn search(&self, query: &[f32], k: usize, look: Look<'_, P>) -> Result<Vec<(RowId, f32)>> {
        self.check("Query", query)?;
        let query = Query::new(self.metric.kernel(), query).map_err(index_failure)?;
        let (mut top, mut scratch) = (TopK::new(k.min(self.rows.len())), Scratch::new());
        if let Some(part) = &self.part {
            look(part, &query, &self.rows, &mut scratch, &mut top).map_err(index_failure)?;
        }
        let tail = self.end..self.rows.rows_end();
        search_tail(tail, &query, &Filter::All, &self.rows, &mut scratch, &mut top)
            .map_err(index_failure)?;
        let mut hits = Vec::new();
        top.finish(&query, &self.rows, &mut hits);
        Ok(hits.iter().map(|hit| (hit.row, hit.score)).collect())
    }

    /// Makes the table of a file equal to these vectors, and builds an index in it.
    pub fn save(&self, path: &Path, backend: IndexBackend) -> Result<()> {
        let (dimensions, metric) = (self.rows.dimensions() as u16, self.metric);
        let config = VectorConfig { dimensions, metric, backend, ..VectorConfig::default() };
        let store = open_unsynced(path, config, true)?;
        let mut changed = false;
        for key in store.keys_matching(&Pattern::All)? {
            changed |= self.rows.get(&key).is_none() && store.remove(&key)?;
        }
        let (mut keys, mut vectors) = (Vec::new(), Vec::new());
        for row in self.rows.live().iter() {
            let (key, vector) = (self.rows.key(row), self.rows.vector(row).unwrap_or_default());
            let stored = store.get(key)?;
            if stored.is_none_or(|stored| !is_same(&stored, vector)) {
                keys.push(key);
                vectors.extend_from_slice(vector);
            }
        }
        changed |= !keys.is_empty();
        store.insert_rows(&keys, &vectors)?;
        if changed || !store.has_index()? {
            store.build_index()?;
        }
        store.sync()?;
        store.close_handle()
    }

    /// Reads the vectors that a snapshot of a store shows, with the numbers of their rows.
    pub fn read(&mut self, store: &VectorStore, snapshot: &Snapshot) -> Result<()> {
        for row in (0..snapshot.rows_end()).map(RowId) {
            if !snapshot.is_live(row) {
                self.rows.push_dead();
                continue;
            }
            let record = snapshot.record(row).map_err(|error| store.failure(error))?;
            let bytes = record.row_bytes();
            let bytes = bytes.map_err(|error| store.failure(error).for_key(record.key))?;
            let vector = crate::vector::store::floats(bytes);
            self.rows.insert(&String::from_utf8_lossy(record.key), &vector);
        }
        Ok(())
    }

    /// Takes an index over the same rows, unless it misses one that came between its own.
    pub fn adopt(&mut self, part: &P, known: &RowSet)
    where
        P: Clone,
    {
        let end = known.extent();
        if self.rows.live().iter().all(|row| row.0 >= end || known.contains(row)) {
            (self.part, self.end) = (Some(part.clone()), end);
        }
    }
}

/// Whether two vectors are the same bit for bit.
fn is_same(a: &[f32], b: &[f32]) -> bool {
    bytemuck::cast_slice::<f32, u8>(a) == bytemuck::cast_slice::<f32, u8>(b)
}
