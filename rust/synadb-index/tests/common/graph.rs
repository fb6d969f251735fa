//! Graphs over vectors in memory, and their recall.

use super::{Memory, Random, naive};
use synadb_index::{
    Filter, Hit, HnswConfig, HnswIndex, IndexError, Job, Metric, Part, Query, Scratch, TopK,
};
use synadb_types::{RowId, RowSet};

/// Short enough a queue that the parts of these tests are not scanned.
pub const EF: usize = 32;
pub const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];

/// Clusters of different sizes away from the origin. Within one the vectors vary along few
/// directions, as real ones do, and a little in all.
pub fn clustered(random: &mut Random, count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let fixed = &mut Random(99);
    let (centres, directions) = (fixed.vectors(12, dimensions), fixed.vectors(10, dimensions));
    let vector = |index: usize| {
        let spread = 0.2 + 0.3 * (index % 3) as f32;
        let mut vector = centres[index % 7 + index % 6].clone();
        for direction in &directions {
            let along = spread * random.float();
            vector.iter_mut().zip(direction).for_each(|(value, step)| *value += along * step);
        }
        vector.iter_mut().for_each(|value| *value += 0.5 + 0.05 * random.float());
        vector
    };
    (0..count).map(vector).collect()
}

pub fn all(source: &Memory) -> RowSet {
    RowSet::range(RowId(0), source.rows as u32)
}

pub fn build(metric: Metric, source: &Memory) -> Result<HnswIndex, IndexError> {
    let config = HnswConfig::default().ef_search(EF);
    HnswIndex::build(metric, &all(source), source, config, &Job::default())
}

pub fn find(
    index: &HnswIndex,
    values: &[f32],
    filter: &Filter,
    source: &Memory,
    k: usize,
) -> Result<Vec<Hit>, IndexError> {
    let query = Query::new(index.metric(), values)?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(k), Vec::new());
    index.search(&query, filter, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    Ok(hits)
}

/// What some searches found.
pub struct Found {
    /// Share of the true neighbours.
    pub recall: f64,
    /// Nodes visited by a walk; none by a scan.
    pub steps: u64,
    /// Distances of codes.
    pub distances: u64,
}

/// Searches and compares; every hit must be allowed and no hit may come twice.
pub fn compare(
    index: &HnswIndex,
    queries: &[Vec<f32>],
    vectors: &[Vec<f32>],
    filter: &Filter,
    source: &Memory,
) -> Result<Found, IndexError> {
    let (mut found, mut wanted) = (0, 0);
    let (mut scratch, mut top) = (Scratch::new(), TopK::new(10));
    for values in queries {
        let allowed = |row: RowId| filter.allows(row) && source.live.contains(row);
        let truth = naive(index.metric(), values, vectors, allowed, 10);
        let (query, mut hits) = (Query::new(index.metric(), values)?, Vec::new());
        index.search(&query, filter, source, &mut scratch, &mut top)?;
        top.finish(&query, source, &mut hits);
        assert_eq!(hits.len(), truth.len());
        assert!(hits.iter().all(|hit| allowed(hit.row)));
        let unique: RowSet = hits.iter().map(|hit| hit.row).collect();
        assert_eq!(unique.len(), hits.len());
        found += truth.iter().filter(|(row, _)| unique.contains(*row)).count();
        wanted += truth.len();
    }
    let counts = scratch.take_counts();
    let (steps, distances) = (counts.steps, counts.distances);
    Ok(Found { recall: found as f64 / wanted as f64, steps, distances })
}

/// The recall of walks: not one of the searches may have been a scan.
pub fn recall(
    index: &HnswIndex,
    queries: &[Vec<f32>],
    vectors: &[Vec<f32>],
    filter: &Filter,
    source: &Memory,
) -> Result<f64, IndexError> {
    let found = compare(index, queries, vectors, filter, source)?;
    let (count, nodes) = (queries.len() as u64, index.nodes() as u64);
    assert!(found.steps >= 10 * count, "{} steps of {count} walks", found.steps);
    assert!(found.distances < nodes * count, "{} distances in walks", found.distances);
    Ok(found.recall)
}
