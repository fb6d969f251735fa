//! The inverted file against the naive search.

#[path = "../common/mod.rs"]
mod common;

mod bound;
mod building;
mod far;
mod foreign;
mod joined;
mod odd;
mod recall;
mod sections;
mod shared;

use std::collections::HashSet;

use common::{Memory, Random, naive, rows, search as scan};
use synadb_index::{
    Filter, Hit, IndexError, IvfCodes, IvfConfig, IvfIndex, IvfSearch, Job, Metric, Query, Scratch,
    TopK, VectorSource,
};
use synadb_types::{RowId, RowSet};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];

const CODES: [IvfCodes; 3] = [IvfCodes::Full, IvfCodes::Bits, IvfCodes::Refined];

/// Groups of vectors around random corners, groups mixed.
fn clustered(seed: u64, count: usize, dimensions: usize, groups: usize) -> Vec<Vec<f32>> {
    let mut random = Random(seed);
    let corners = random.vectors(groups, dimensions);
    let near = |at: usize| {
        let noise = random.vector(dimensions);
        corners[at % groups].iter().zip(noise).map(|(corner, noise)| corner + 0.5 * noise).collect()
    };
    (0..count).map(near).collect()
}

fn config(codes: IvfCodes, cells: usize) -> IvfConfig {
    IvfConfig { cells: Some(cells), codes, ..IvfConfig::default() }
}

fn build(metric: Metric, config: &IvfConfig, source: &Memory) -> Result<IvfIndex, IndexError> {
    let rows = RowSet::range(RowId(0), source.rows_end());
    IvfIndex::build(metric, config, &rows, source, &Job::default())
}

fn all_of(index: &IvfIndex) -> IvfSearch {
    IvfSearch { nprobe: index.cells(), candidates: 200, ..IvfSearch::default() }
}

fn search(
    index: &IvfIndex,
    how: IvfSearch,
    query: &[f32],
    filter: &Filter,
    source: &Memory,
    k: usize,
) -> Result<Vec<Hit>, IndexError> {
    let query = Query::new(index.metric(), query)?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(k), Vec::new());
    index.search_with(how, &query, filter, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    Ok(hits)
}

/// Share of the true neighbours of some queries among the allowed rows that are found.
fn recall(
    index: &IvfIndex,
    how: IvfSearch,
    queries: &[Vec<f32>],
    vectors: &[Vec<f32>],
    filter: &Filter,
    source: &Memory,
) -> Result<f64, IndexError> {
    let (mut found, mut wanted) = (0, 0);
    for query in queries {
        let allowed = |row| filter.allows(row) && source.live.contains(row);
        let truth = naive(index.metric(), query, vectors, allowed, 10);
        let hits = rows(&search(index, how, query, filter, source, 10)?);
        assert_eq!(hits.iter().collect::<HashSet<_>>().len(), hits.len(), "a row comes once");
        assert!(hits.iter().all(|&row| allowed(RowId(row))), "only allowed live rows come");
        assert_eq!(hits.len(), truth.len());
        found += truth.iter().filter(|(row, _)| hits.contains(&row.0)).count();
        wanted += truth.len();
    }
    Ok(found as f64 / wanted.max(1) as f64)
}
