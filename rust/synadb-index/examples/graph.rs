//! Measures the graph index on real data: build time, recall@10 and queries a second.
//!
//! `SYNADB_DATA_RAW=folder cargo run --release --example graph [metric] [threads] [ef...]`
//!
//! The folder holds `base.f32`, `query.f32` (rows side by side), `truth.u32` (the nearest 10
//! or more of each query) and `shape.txt` (rows, queries, dimensions). Best of three rounds for each `ef`.

use std::path::Path;
use std::time::Instant;

use synadb_index::{
    Block, BuildControl, Filter, HnswConfig, HnswIndex, Metric, Part, Query, Scratch, TopK,
    VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

const K: usize = 10;
const ROUNDS: usize = 3;
const EFS: [usize; 11] = [12, 16, 24, 32, 48, 64, 96, 128, 200, 400, 800];

struct Rows {
    dimensions: usize,
    data: Vec<f32>,
    inverse_norms: Vec<f32>,
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

type Failure = Box<dyn std::error::Error>;

fn floats(path: &Path) -> Result<Vec<f32>, Failure> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// Share of the true neighbours found, queries a second, and the counts of one query.
fn measure(
    index: &HnswIndex,
    queries: &mut [Query],
    source: &Rows,
    truth: &[u32],
    ef: usize,
) -> Result<(f64, f64, [f64; 3]), Failure> {
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(K), Vec::new());
    let (mut recall, mut best, count) = (0.0, f64::INFINITY, queries.len());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut found = 0;
        scratch.take_counts();
        for (query, truth) in queries.iter_mut().zip(truth.chunks(truth.len() / count)) {
            let values = query.values().to_vec();
            query.reset(&values)?;
            top.reset(K);
            hits.clear();
            index.search_with_ef(query, &Filter::All, source, &mut scratch, &mut top, ef)?;
            top.finish(query, source, &mut hits);
            found += hits.iter().filter(|hit| truth[..K].contains(&hit.row.0)).count();
        }
        best = best.min(start.elapsed().as_secs_f64());
        recall = found as f64 / (count * K) as f64;
    }
    let (counts, count) = (scratch.take_counts(), count as f64);
    let counts = [counts.steps, counts.distances, counts.rows].map(|sum| sum as f64 / count);
    Ok((recall, count / best, counts))
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

    let config = HnswConfig::default();
    let start = Instant::now();
    let last = std::sync::Mutex::new(0.0);
    let progress = |share: f64| {
        let mut last = last.lock().expect("no panic");
        if share >= *last + 0.05 {
            *last = share;
            eprintln!("{:5.1} s  {:3.0} %", start.elapsed().as_secs_f64(), share * 100.0);
        }
        true
    };
    let control = BuildControl { threads, progress: &progress };
    let all = RowSet::range(RowId(0), rows as u32);
    let index = HnswIndex::build(metric, &all, &source, config, control)?;
    println!(
        "{rows} x {dimensions}: {:.1} s with {threads} threads, {} MiB, {} of {} rows in nodes",
        start.elapsed().as_secs_f64(),
        index.graph_bytes() >> 20,
        index.nodes(),
        index.rows().len(),
    );
    println!("   ef  recall  queries/s   steps  distances  rows");
    for &ef in if efs.is_empty() { &EFS[..] } else { &efs } {
        let (recall, rate, counts) = measure(&index, &mut queries, &source, &truth, ef)?;
        let [steps, distances, full] = counts;
        println!("{ef:5}  {recall:.4}  {rate:9.0}  {steps:6.0}  {distances:9.0}  {full:4.0}");
    }
    Ok(())
}
