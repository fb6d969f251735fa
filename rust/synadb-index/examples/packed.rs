//! Codes real vectors and prints recall@10 and queries a second of the packed flat scan, beside
//! those of the exact one.
//!
//! `SYNADB_DATA_F32=folder cargo run --release --example packed NAME METRIC [queries]`
//!
//! The folder holds `NAME.base.f32`, `NAME.query.f32` (little-endian, rows side by side) and
//! `NAME.truth.u32` (the 100 nearest rows of each query, nearest first). `NAME` is one of
//! `fashion` (784 dimensions) and `minilm` (384). Pin it to one core. Time is the processor's
//! where the system tells it, best of three rounds.

mod memory;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use synadb_index::quantize::code_kernels;
use synadb_index::{
    Filter, FlatIndex, IndexError, Job, Metric, PackedConfig, PackedFlat, Part, Query, Scratch,
    TopK, VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

use memory::Rows;

const K: usize = 10;
const TRUE_NEIGHBOURS: usize = 100;
const ROUNDS: usize = 3;
const BATCH: usize = 32;
/// Queries of the exact scan, which takes its time.
const EXACT_QUERIES: usize = 200;
/// Epsilon, candidates, codes of four bits.
const SETTINGS: [(f32, usize, bool); 6] = [
    (2.0, 1000, true),
    (2.5, 1000, true),
    (2.5, 2000, true),
    (3.0, 4000, true),
    (2.0, 2000, false),
    (2.5, 2000, false),
];

/// Seconds that this thread has run.
fn seconds(begin: Instant) -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = ran.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| begin.elapsed().as_secs_f64(), |ran| ran / 1e9)
}

fn numbers(path: &Path) -> Result<Vec<[u8; 4]>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks::<4>().0.to_vec())
}

/// Queries, memory and results of one call.
type Search<'a> = &'a dyn Fn(&[Query], &mut Scratch, &mut [TopK]) -> Result<(), IndexError>;

/// Queries a second, and the rows found for each query.
type Measured = (f64, Vec<Vec<u32>>);

/// Measures searches of `batch` queries a call.
fn measure(
    search: Search<'_>,
    queries: &[Query],
    source: &Rows,
    batch: usize,
) -> Result<Measured, Box<dyn Error>> {
    let begin = Instant::now();
    let (mut best, mut found) = (f64::INFINITY, Vec::new());
    let mut scratch = Scratch::new();
    let mut tops: Vec<TopK> = (0..batch).map(|_| TopK::new(K)).collect();
    for _ in 0..ROUNDS {
        found.clear();
        let start = seconds(begin);
        for queries in queries.chunks(batch) {
            let tops = &mut tops[..queries.len()];
            tops.iter_mut().for_each(|top| top.reset(K));
            search(queries, &mut scratch, tops)?;
            for (query, top) in queries.iter().zip(tops) {
                let mut hits = Vec::with_capacity(K);
                top.finish(query, source, &mut hits);
                found.push(hits.iter().map(|hit| hit.row.0).collect());
            }
        }
        best = best.min(seconds(begin) - start);
    }
    Ok((queries.len() as f64 / best, found))
}

/// Share of the nearest rows that were found; as near as the last of them counts too.
fn recall(found: &[Vec<u32>], truth: &[Vec<u32>], queries: &[Query], source: &Rows) -> f64 {
    let mut hits = 0;
    for ((found, truth), query) in found.iter().zip(truth).zip(queries) {
        let key = |row: u32| query.exact_key(source.vector(RowId(row)).unwrap_or_default());
        let last = key(truth[K - 1]);
        hits += found.iter().filter(|&&row| key(row) <= last * (1.0 + 1e-6) + 1e-9).count();
    }
    hits as f64 / (found.len() * K) as f64
}

/// What is searched, and how well.
struct Data {
    metric: Metric,
    source: Rows,
    queries: Vec<Query>,
    truth: Vec<Vec<u32>>,
}

fn read() -> Result<Data, Box<dyn Error>> {
    let folder = std::env::var("SYNADB_DATA_F32")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, metric, rest @ ..] = &arguments[..] else {
        return Err("packed NAME METRIC [queries]".into());
    };
    let metric = match metric.as_str() {
        "cosine" => Metric::Cosine,
        "euclidean" => Metric::Euclidean,
        _ => Metric::DotProduct,
    };
    let dimensions = if name == "fashion" { 784 } else { 384 };
    let file = |part: &str| Path::new(&folder).join(format!("{name}.{part}"));
    let floats = |part| -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(numbers(&file(part))?.into_iter().map(f32::from_le_bytes).collect())
    };
    let data = floats("base.f32")?;
    let inverse_norms = data.chunks(dimensions).map(inverse_norm).collect();
    let source = Rows { dimensions, data, inverse_norms };
    let wanted = rest.first().map_or(Ok(1000), |count| count.parse::<usize>())?;
    let vectors = floats("query.f32")?;
    let queries = vectors.chunks(dimensions).take(wanted).map(|vector| Query::new(metric, vector));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    let truth: Vec<u32> =
        numbers(&file("truth.u32"))?.into_iter().map(u32::from_le_bytes).collect();
    let truth: Vec<Vec<u32>> = truth.chunks(TRUE_NEIGHBOURS).map(<[u32]>::to_vec).collect();
    Ok(Data { metric, source, queries, truth })
}

/// The exact scan.
fn exact(data: &Data, rows: &RowSet) -> Result<(), Box<dyn Error>> {
    let Data { source, queries, truth, .. } = data;
    let queries = &queries[..EXACT_QUERIES.min(queries.len())];
    let flat = FlatIndex::new(rows.clone());
    let search: Search<'_> =
        &|queries, scratch, tops| flat.search_batch(queries, &Filter::All, source, scratch, tops);
    let (single, found) = measure(search, queries, source, 1)?;
    let (batch, _) = measure(search, queries, source, BATCH)?;
    let recall = recall(&found, truth, queries, source);
    println!("exact scan  recall {recall:.5}  {single:7.0}/s  in batches {batch:7.0}/s");
    Ok(())
}

fn packed(data: &Data, rows: &RowSet, config: PackedConfig) -> Result<(), Box<dyn Error>> {
    let Data { metric, source, queries, truth } = data;
    let begin = Instant::now();
    let start = seconds(begin);
    let index = PackedFlat::build(*metric, config, rows, source, &Job::default())?;
    let built = seconds(begin) - start;
    let search: Search<'_> =
        &|queries, scratch, tops| index.search_batch(queries, &Filter::All, source, scratch, tops);
    let (single, found) = measure(search, queries, source, 1)?;
    let (batch, _) = measure(search, queries, source, BATCH)?;
    let recall = recall(&found, truth, queries, source);
    let PackedConfig { epsilon, candidates, refine, .. } = config;
    println!(
        "epsilon {epsilon:3} candidates {candidates:5} refine {refine:5}  recall {recall:.5}  \
         {single:7.0}/s  in batches {batch:7.0}/s  built in {built:.2} s  {} MiB",
        index.bytes() >> 20
    );
    Ok(())
}

fn filtered(data: &Data, rows: &RowSet) -> Result<(), Box<dyn Error>> {
    let Data { metric, source, queries, .. } = data;
    let index = PackedFlat::build(*metric, PackedConfig::default(), rows, source, &Job::default())?;
    let flat = FlatIndex::new(rows.clone());
    for step in [2, 10, 100, 1000] {
        let allowed: RowSet = (0..source.rows_end()).step_by(step).map(RowId).collect();
        let filter = index.prepare(&allowed);
        let search: Search<'_> =
            &|queries, scratch, tops| index.search_batch(queries, &filter, source, scratch, tops);
        let (single, found) = measure(search, queries, source, 1)?;
        let search: Search<'_> =
            &|queries, scratch, tops| flat.search_batch(queries, &filter, source, scratch, tops);
        let some = &queries[..EXACT_QUERIES.min(queries.len())];
        let (plain, truth) = measure(search, some, source, 1)?;
        let hits = found.iter().zip(&truth);
        let hits: usize = hits.map(|(a, b)| a.iter().filter(|row| b.contains(row)).count()).sum();
        let recall = hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64;
        println!(
            "one row in {step:5} allowed  recall {recall:.5}  {single:7.0}/s  exact {plain:7.0}/s"
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let data = read()?;
    let rows = RowSet::range(RowId(0), data.source.rows_end());
    let (metric, level) = (data.metric, code_kernels()?.level.name());
    println!("{} x {} {metric:?} {level}", rows.len(), data.source.dimensions);
    exact(&data, &rows)?;
    for (epsilon, candidates, refine) in SETTINGS {
        packed(&data, &rows, PackedConfig { epsilon, candidates, refine, ..Default::default() })?;
    }
    filtered(&data, &rows)
}
