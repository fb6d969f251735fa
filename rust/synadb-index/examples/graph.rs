//! Measures the graph index on real data: build time, recall@10 and queries a second.
//!
//! `SYNADB_DATA_RAW=folder cargo run --release --example graph [metric] [threads] [ef...]`
//!
//! The folder holds `base.f32`, `query.f32` (rows side by side), `truth.u32` (the nearest 10
//! or more of each query) and `shape.txt` (rows, queries, dimensions). Best of three rounds for
//! each `ef`, by the time that the thread had a processor, so that a busy machine disturbs less.
//! With `SYNADB_GRAPH=folder` the index is kept there, and read again by the next run. With
//! `SYNADB_ALLOWED=n` a filter lets one row in `n` pass, and the truth is found by exact search.

mod memory;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use synadb_index::{
    Filter, FlatIndex, HnswConfig, HnswIndex, Job, Metric, Part, Query, Scratch, SharedBytes, TopK,
    VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

use memory::Rows;

const K: usize = 10;
const ROUNDS: usize = 3;
const EFS: [usize; 11] = [12, 16, 24, 32, 48, 64, 96, 128, 200, 400, 800];

type Failure = Box<dyn std::error::Error>;

fn floats(path: &Path) -> Result<Vec<f32>, Failure> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// Seconds that this thread had a processor, or that passed where the system does not say.
fn seconds(since: Instant) -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = times.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok());
    spent.map_or_else(|| since.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Builds the index, or reads the one that was kept.
fn index(metric: Metric, source: &Rows, job: Job<'_>) -> Result<HnswIndex, Failure> {
    const NAMES: [&str; 6] =
        ["hnsw.header", "hnsw.centre", "hnsw.rows", "hnsw.ends", "hnsw.entries", "hnsw.graph"];
    let kept = std::env::var("SYNADB_GRAPH");
    if let Ok(folder) = &kept
        && Path::new(folder).join(NAMES[0]).exists()
    {
        let read = |name| {
            let bytes: SharedBytes = Arc::new(std::fs::read(Path::new(folder).join(name))?);
            Ok::<_, Failure>((name, bytes))
        };
        let sections = NAMES.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        return Ok(HnswIndex::import(&sections, source.rows_end())?);
    }
    let all = RowSet::range(RowId(0), source.rows_end());
    let index = HnswIndex::build(metric, &all, source, HnswConfig::default(), &job)?;
    if let Ok(folder) = &kept {
        for (name, bytes) in index.export() {
            std::fs::write(Path::new(folder).join(name), bytes)?;
        }
    }
    Ok(index)
}

/// Share of the true neighbours found, queries a second, and the counts of one query.
fn measure(
    index: &HnswIndex,
    queries: &mut [Query],
    filter: &Filter,
    source: &Rows,
    truth: &[u32],
    ef: usize,
) -> Result<(f64, f64, [f64; 3]), Failure> {
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(K), Vec::new());
    let began = Instant::now();
    let (mut recall, mut best, count) = (0.0, f64::INFINITY, queries.len());
    for _ in 0..ROUNDS {
        let start = seconds(began);
        let mut found = 0;
        scratch.take_counts();
        for (query, truth) in queries.iter_mut().zip(truth.chunks(truth.len() / count)) {
            let values = query.values().to_vec();
            query.reset(&values)?;
            top.reset(K);
            hits.clear();
            index.search_with_ef(query, filter, source, &mut scratch, &mut top, ef)?;
            top.finish(query, source, &mut hits);
            found += hits.iter().filter(|hit| truth[..K].contains(&hit.row.0)).count();
        }
        best = best.min(seconds(began) - start);
        recall = found as f64 / (count * K) as f64;
    }
    let (counts, count) = (scratch.take_counts(), count as f64);
    let counts = [counts.steps, counts.distances, counts.rows].map(|sum| sum as f64 / count);
    Ok((recall, count / best, counts))
}

/// A filter that passes one row in `part_of`, whatever its vector, and the truth for it.
fn filtered(part_of: u32, queries: &[Query], source: &Rows) -> Result<(Filter, Vec<u32>), Failure> {
    let all = RowSet::range(RowId(0), source.rows_end());
    let passes = |row: &RowId| (row.0.wrapping_mul(0x9e37_79b1) >> 8).is_multiple_of(part_of);
    let filter = Filter::Rows(all.iter().filter(passes).collect());
    let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(K)).collect();
    let exact = FlatIndex::new(all);
    exact.search_batch(queries, &filter, source, &mut Scratch::new(), &mut tops)?;
    let mut hits = Vec::new();
    for (query, top) in queries.iter().zip(&mut tops) {
        top.finish(query, source, &mut hits);
    }
    Ok((filter, hits.iter().map(|hit| hit.row.0).collect()))
}

fn main() -> Result<(), Failure> {
    let folder = std::env::var("SYNADB_DATA_RAW")?;
    let folder = Path::new(&folder);
    let mut arguments = std::env::args().skip(1);
    let metric = match arguments.next().as_deref() {
        Some("euclidean") => Metric::Euclidean,
        Some("dot") => Metric::DotProduct,
        _ => Metric::Cosine,
    };
    let threads = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let efs = arguments.map(|text| text.parse()).collect::<Result<Vec<usize>, _>>()?;
    let shape = std::fs::read_to_string(folder.join("shape.txt"))?;
    let shape = shape.split_whitespace().map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let [rows, _, dimensions] = shape[..] else { return Err("three numbers in shape.txt".into()) };
    let data = floats(&folder.join("base.f32"))?;
    let inverse_norms = data.chunks(dimensions).map(inverse_norm).collect();
    let source = Rows { dimensions, data, inverse_norms };
    let queries = floats(&folder.join("query.f32"))?;
    let queries = queries.chunks(dimensions).map(|values| Query::new(metric, values));
    let mut queries = queries.collect::<Result<Vec<_>, _>>()?;
    let truth = std::fs::read(folder.join("truth.u32"))?;
    let truth: Vec<u32> = truth.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect();
    let (filter, truth) = match std::env::var("SYNADB_ALLOWED") {
        Ok(part_of) => filtered(part_of.parse()?, &queries, &source)?,
        Err(_) => (Filter::All, truth),
    };

    let start = Instant::now();
    let processor = seconds(start);
    let last = std::cell::Cell::new(0.0);
    let progress = |share: f32| {
        if share >= last.get() + 0.05 {
            last.set(share);
            eprintln!("{:5.1} s  {:3.0} %", seconds(start) - processor, share * 100.0);
        }
    };
    let job = Job { threads, progress: Some(&progress), ..Job::default() };
    let index = index(metric, &source, job)?;
    println!(
        "{rows} x {dimensions}: {:.1} s with {threads} threads ({:.1} s of processor time in the \
         first), {} MiB, {} nodes of {} rows",
        start.elapsed().as_secs_f64(),
        seconds(start) - processor,
        index.graph_bytes() >> 20,
        index.nodes(),
        index.rows().len(),
    );
    println!("   ef  recall  queries/s   steps  distances  rows");
    for &ef in if efs.is_empty() { &EFS[..] } else { &efs } {
        let (recall, rate, counts) = measure(&index, &mut queries, &filter, &source, &truth, ef)?;
        let [steps, distances, full] = counts;
        println!("{ef:5}  {recall:.4}  {rate:9.0}  {steps:6.0}  {distances:9.0}  {full:4.0}");
    }
    Ok(())
}
