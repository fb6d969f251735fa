//! The cascade against the naive search.

#[path = "../common/mod.rs"]
mod common;

mod building;
mod odd;
mod recall;
mod sections;
mod shipped;

use std::collections::HashSet;

use common::graph::{METRICS, all, clustered};
use common::{Memory, Random, naive, rows};
use synadb_index::{
    CascadeConfig, CascadeIndex, CascadeSearch, Filter, Hit, IndexError, Job, Metric, Part, Query,
    Scratch, TopK,
};
use synadb_types::{RowId, RowSet};

const PRESETS: [(&str, f64); 4] =
    [("small", 0.95), ("large", 0.95), ("high_recall", 0.99), ("fast_search", 0.90)];

/// Buckets so small, and a queue so short, that stores of these tests are walked and not scanned.
fn tight() -> CascadeConfig {
    CascadeConfig { split_threshold: 60, ef_search: 32, ..CascadeConfig::default() }
}

fn preset(name: &str) -> CascadeConfig {
    CascadeConfig::preset(name).expect("a preset that there is")
}

fn build(
    metric: Metric,
    config: &CascadeConfig,
    source: &Memory,
) -> Result<CascadeIndex, IndexError> {
    CascadeIndex::build(metric, config, &all(source), source, &Job::default())
}

fn search(
    index: &CascadeIndex,
    how: CascadeSearch,
    values: &[f32],
    filter: &Filter,
    source: &Memory,
    k: usize,
) -> Result<Vec<Hit>, IndexError> {
    let query = Query::new(index.metric(), values)?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(k), Vec::new());
    index.search_with(how, &query, filter, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    Ok(hits)
}

fn find(
    index: &CascadeIndex,
    values: &[f32],
    filter: &Filter,
    source: &Memory,
    k: usize,
) -> Result<Vec<Hit>, IndexError> {
    search(index, index.default_search(), values, filter, source, k)
}

/// Share of the true neighbours of some queries among the allowed rows that are found.
fn recall(
    index: &CascadeIndex,
    queries: &[Vec<f32>],
    vectors: &[Vec<f32>],
    filter: &Filter,
    source: &Memory,
) -> Result<f64, IndexError> {
    let (mut found, mut wanted) = (0, 0);
    for query in queries {
        let allowed = |row| filter.allows(row) && source.live.contains(row);
        let truth = naive(index.metric(), query, vectors, allowed, 10);
        let hits = rows(&find(index, query, filter, source, 10)?);
        assert_eq!(hits.iter().collect::<HashSet<_>>().len(), hits.len(), "a row comes once");
        assert!(hits.iter().all(|&row| allowed(RowId(row))), "only allowed live rows come");
        assert_eq!(hits.len(), truth.len());
        found += truth.iter().filter(|(row, _)| hits.contains(&row.0)).count();
        wanted += truth.len();
    }
    Ok(found as f64 / wanted.max(1) as f64)
}

fn owned(index: &CascadeIndex) -> Vec<(&'static str, Vec<u8>)> {
    index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}
