//! Builds cascades of real vectors and prints recall@10 and queries a second of every preset.
//!
//! `SYNADB_DATA_F32=folder cargo run --release --example cascade NAME METRIC [PRESET...]`
//!
//! The folder holds `NAME.base.f32`, `NAME.query.f32` (little-endian, rows side by side) and
//! `NAME.truth.u32` (the 100 nearest rows of each query, nearest first). Each preset is searched
//! as it is, without a look into the buckets, with four times as many probes, and with half and
//! twice the queue. Best of three rounds, by the time that the thread had a processor.

mod memory;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use synadb_index::{
    CascadeConfig, CascadeIndex, CascadeSearch, Filter, Job, Metric, Query, Scratch, TopK,
    VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

use memory::Rows;

const K: usize = 10;
const TRUE_NEIGHBOURS: usize = 100;
const QUERIES_MAX: usize = 2000;
const ROUNDS: usize = 3;
const PRESETS: [&str; 5] = ["default", "small", "large", "high_recall", "fast_search"];

fn words(path: &Path) -> Result<Vec<[u8; 4]>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.as_chunks::<4>().0.to_vec())
}

fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(words(path)?.into_iter().map(f32::from_le_bytes).collect())
}

/// Seconds that this thread had a processor, or that passed where the system does not say.
fn seconds(since: Instant) -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = times.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok());
    spent.map_or_else(|| since.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}

/// Share of the true neighbours found, queries a second, and distances of codes a query.
fn measure(
    index: &CascadeIndex,
    search: CascadeSearch,
    queries: &[Query],
    truth: &[[u8; 4]],
    source: &Rows,
) -> Result<(f64, f64, f64), Box<dyn Error>> {
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(K), Vec::new());
    let (began, mut best, mut found) = (Instant::now(), f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let start = seconds(began);
        found = 0;
        scratch.take_counts();
        for (query, truth) in queries.iter().zip(truth.chunks(TRUE_NEIGHBOURS)) {
            hits.clear();
            top.reset(K);
            index.search_with(search, query, &Filter::All, source, &mut scratch, &mut top)?;
            top.finish(query, source, &mut hits);
            let is_true = |row: u32| truth[..K].contains(&row.to_le_bytes());
            found += hits.iter().filter(|hit| is_true(hit.row.0)).count();
        }
        best = best.min(seconds(began) - start);
    }
    let count = queries.len() as f64;
    let distances = scratch.take_counts().distances as f64 / count;
    Ok((found as f64 / (count * K as f64), count / best, distances))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::var_os("SYNADB_DATA_F32").ok_or("SYNADB_DATA_F32 names no folder")?;
    let folder = Path::new(&folder);
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("which data?")?;
    let metric = match arguments.next().as_deref() {
        Some("cosine") => Metric::Cosine,
        Some("dot") => Metric::DotProduct,
        _ => Metric::Euclidean,
    };
    let chosen: Vec<String> = arguments.collect();
    let truth = words(&folder.join(format!("{name}.truth.u32")))?;
    let query = floats(&folder.join(format!("{name}.query.f32")))?;
    let dimensions = query.len() / (truth.len() / TRUE_NEIGHBOURS);
    let data = floats(&folder.join(format!("{name}.base.f32")))?;
    let inverse_norms = data.chunks(dimensions).map(inverse_norm).collect();
    let rows = Rows { dimensions, data, inverse_norms };
    let all = RowSet::range(RowId(0), rows.rows_end());
    let queries = query.chunks(dimensions).take(QUERIES_MAX);
    let queries = queries.map(|query| Query::new(metric, query)).collect::<Result<Vec<_>, _>>()?;

    println!("{name}: {} rows of {dimensions} dimensions, {metric:?}", rows.rows_end());
    for preset in PRESETS {
        if !chosen.is_empty() && !chosen.iter().any(|chosen| chosen == preset) {
            continue;
        }
        let config = CascadeConfig::preset(preset).unwrap_or_default();
        let start = Instant::now();
        let before = seconds(start);
        let index = CascadeIndex::build(metric, &config, &all, &rows, &Job::default())?;
        let stats = index.stats();
        println!(
            "{preset}: built in {:.1} s on one thread, {:.0} MB, {} buckets of {:.0}, {:.1} links",
            seconds(start) - before,
            index.memory_bytes() as f64 / 1e6,
            stats.bucket_count,
            stats.avg_bucket_size,
            stats.avg_neighbors,
        );
        let CascadeSearch { num_probes, ef_search } = index.default_search();
        let searches = [
            (num_probes, ef_search),
            (0, ef_search),
            (4 * num_probes, ef_search),
            (num_probes, ef_search / 2),
            (num_probes, 2 * ef_search),
        ];
        for (num_probes, ef_search) in searches {
            let search = CascadeSearch { num_probes, ef_search };
            let (recall, rate, distances) = measure(&index, search, &queries, &truth, &rows)?;
            println!(
                "  probes {num_probes:>4}  ef {ef_search:>4}  recall@10 {recall:.4}  \
                 {rate:>7.0} queries/s  {distances:>6.0} distances"
            );
        }
    }
    Ok(())
}
