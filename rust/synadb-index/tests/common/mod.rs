//! Vectors in memory and the naive search that the others are compared with.

#![allow(dead_code)] // Each test program uses a part of it.

pub mod graph;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::{Block, Hit, IndexError, Job, Metric, Query, Scratch, TopK, VectorSource};
use synadb_index::{Filter, inverse_norm, search_tail};
use synadb_types::{RowId, RowSet};

/// Vectors in memory, in pieces that are not adjacent, at a stride beyond their length.
pub struct Memory {
    pub dimensions: usize,
    pub stride: usize,
    pub piece_rows: usize,
    pub rows: usize,
    pub pieces: Vec<Vec<f32>>,
    pub inverse_norms: Vec<f32>,
    pub live: RowSet,
}

impl Memory {
    pub fn new(vectors: &[Vec<f32>], dimensions: usize) -> Self {
        let (stride, piece_rows) = (dimensions.next_multiple_of(16), 37);
        let mut pieces = Vec::new();
        for piece in vectors.chunks(piece_rows) {
            let mut data = vec![f32::NAN; piece.len() * stride];
            for (slot, vector) in data.chunks_mut(stride.max(1)).zip(piece) {
                slot[..dimensions].copy_from_slice(vector);
            }
            pieces.push(data);
        }
        let inverse_norms = vectors.iter().map(|vector| inverse_norm(vector)).collect();
        let live = RowSet::range(RowId(0), vectors.len() as u32);
        let rows = vectors.len();
        Self { dimensions, stride, piece_rows, rows, pieces, inverse_norms, live }
    }
}

impl VectorSource for Memory {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn rows_end(&self) -> u32 {
        self.rows as u32
    }

    fn block(&self, row: RowId) -> Option<Block<'_>> {
        let index = row.0 as usize;
        if index >= self.rows {
            return None;
        }
        let (piece, slot) = (index / self.piece_rows, index % self.piece_rows);
        let count = self.piece_rows.min(self.rows - piece * self.piece_rows) - slot;
        let data = &self.pieces[piece][slot * self.stride..];
        Some(Block { first: row, count, stride: self.stride, data })
    }

    fn inverse_norms(&self, first: RowId, out: &mut [f32]) {
        out.copy_from_slice(&self.inverse_norms[first.0 as usize..][..out.len()]);
    }

    fn is_live(&self, row: RowId) -> bool {
        self.live.contains(row)
    }
}

/// A fixed linear congruential generator: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub fn float(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| self.float()).collect()
    }

    pub fn vectors(&mut self, count: usize, dimensions: usize) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.vector(dimensions)).collect()
    }
}

/// Distance in double precision, written as the definition says.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    let dot: f64 = pairs().map(|(x, y)| x * y).sum();
    match metric {
        Metric::Cosine => {
            let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let norms = norm(a) * norm(b);
            if norms > 0.0 { 1.0 - dot / norms } else { 1.0 }
        }
        Metric::Euclidean => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        Metric::DotProduct => -dot,
    }
}

/// The nearest `k` of the allowed rows, by definition.
pub fn naive(
    metric: Metric,
    query: &[f32],
    vectors: &[Vec<f32>],
    allowed: impl Fn(RowId) -> bool,
    k: usize,
) -> Vec<(RowId, f64)> {
    let rows = (0..).map(RowId).zip(vectors).filter(|(row, _)| allowed(*row));
    let mut found: Vec<(RowId, f64)> =
        rows.map(|(row, vector)| (row, distance(metric, query, vector))).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    found.truncate(k);
    found
}

/// Searches all rows of a source.
pub fn search(
    metric: Metric,
    query: &[f32],
    filter: &Filter,
    source: &Memory,
    k: usize,
) -> Result<Vec<Hit>, IndexError> {
    let query = Query::new(metric, query)?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(k), Vec::new());
    search_tail(0..source.rows_end(), &query, filter, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    Ok(hits)
}

/// The rows of some hits.
pub fn rows(hits: &[Hit]) -> Vec<u32> {
    hits.iter().map(|hit| hit.row.0).collect()
}

/// Has a build stop once it says that such a share is done, at once where that is none; it may say
/// no share twice, and none before a smaller one. What it said last.
pub fn stop_at<T>(
    share: f32,
    threads: usize,
    build: impl FnOnce(&Job<'_>) -> Result<T, IndexError>,
) -> f32 {
    let (last, cancel) = (Cell::new(0.0), AtomicBool::new(share <= 0.0));
    let progress = |done: f32| {
        assert!(done > last.get() && done <= 1.0, "{done} after {}", last.get());
        last.set(done);
        cancel.store(done >= share, Ordering::Relaxed);
    };
    let job = Job { threads, cancel: Some(&cancel), progress: Some(&progress), ..Job::default() };
    assert_eq!(build(&job).err(), Some(IndexError::Cancelled), "{share}");
    last.get()
}
