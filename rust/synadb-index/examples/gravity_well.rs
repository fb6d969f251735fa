//! Builds an inverted file of real vectors and prints recall@10 and queries a second.
//!
//! `SYNADB_DATA_F32=folder cargo run --release --example gravity_well NAME METRIC [cells] [second] [full]`
//!
//! The folder holds `NAME.base.f32`, `NAME.query.f32` (little-endian, rows side by side) and
//! `NAME.truth.u32` (the 100 nearest rows of each query, nearest first); `NAME` ends in the
//! number of dimensions. Pin it to one core: the machine's other work is then least in the way.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use synadb_index::{
    Block, Filter, IvfCodes, IvfConfig, IvfIndex, IvfSearch, Job, Metric, Query, Scratch, TopK,
    VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

const K: usize = 10;
const TRUE_NEIGHBOURS: usize = 100;
const PASSES: usize = 7;
const QUERIES_MAX: usize = 1000;
const SEARCHES: [(usize, usize); 12] = [
    (4, 40),
    (8, 40),
    (8, 60),
    (16, 60),
    (24, 80),
    (32, 80),
    (32, 120),
    (64, 120),
    (64, 200),
    (128, 200),
    (256, 300),
    (400, 400),
];

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

fn words(path: &Path) -> Result<Vec<[u8; 4]>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.as_chunks::<4>().0.to_vec())
}

fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(words(path)?.into_iter().map(f32::from_le_bytes).collect())
}

struct Run<'a> {
    index: &'a IvfIndex,
    rows: &'a Rows,
    queries: Vec<Vec<f32>>,
    truth: Vec<Vec<u32>>,
    metric: Metric,
}

impl Run<'_> {
    /// Recall and queries a second: the best of a few passes.
    fn measure(&self, search: IvfSearch, filter: &Filter) -> Result<(f64, f64), Box<dyn Error>> {
        let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(K), Vec::new());
        let mut query = Query::new(self.metric, &self.queries[0])?;
        let (mut found, mut best) = (0, f64::INFINITY);
        for _ in 0..PASSES {
            found = 0;
            let start = Instant::now();
            for (values, truth) in self.queries.iter().zip(&self.truth) {
                query.reset(values)?;
                top.reset(K);
                hits.clear();
                let out = &mut top;
                self.index.search_with(search, &query, filter, self.rows, &mut scratch, out)?;
                top.finish(&query, self.rows, &mut hits);
                found += hits.iter().filter(|hit| truth.contains(&hit.row.0)).count();
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        let count = self.queries.len() as f64;
        Ok((found as f64 / count / K as f64, count / best))
    }
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
    let cells = arguments.next().map(|cells| cells.parse()).transpose()?;
    let options: Vec<String> = arguments.collect();
    let second = options.iter().any(|option| option == "second");
    let is_full = options.iter().any(|option| option == "full");
    let codes = if is_full { IvfCodes::Full } else { IvfCodes::Bits };
    let truth = words(&folder.join(format!("{name}.truth.u32")))?;
    let query = floats(&folder.join(format!("{name}.query.f32")))?;
    let dimensions = query.len() / (truth.len() / TRUE_NEIGHBOURS);
    let data = floats(&folder.join(format!("{name}.base.f32")))?;
    let inverse_norms = data.chunks(dimensions).map(inverse_norm).collect();
    let rows = Rows { dimensions, data, inverse_norms };
    let all = RowSet::range(RowId(0), rows.rows_end());

    let config = IvfConfig { cells, second, codes, ..IvfConfig::default() };
    for threads in [1, 2] {
        let start = Instant::now();
        let index = IvfIndex::build(metric, &config, &all, &rows, &Job::with_threads(threads))?;
        let time = start.elapsed().as_secs_f64();
        println!("{name}: {} cells, build on {threads} threads {time:.2} s", index.cells());
        if threads == 2 {
            continue;
        }
        let mut sizes: Vec<usize> = (0..).map_while(|cell| index.cell_len(cell)).collect();
        sizes.sort_unstable();
        let (least, middle, most) = (sizes[0], sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
        let megabytes = index.memory_bytes() as f64 / 1e6;
        println!("cell sizes {least} {middle} {most}, {megabytes:.0} MB");
        let truth = truth
            .chunks(TRUE_NEIGHBOURS)
            .map(|rows| rows[..K].iter().map(|&row| u32::from_le_bytes(row)).collect::<Vec<u32>>());
        let run = Run {
            index: &index,
            rows: &rows,
            queries: query.chunks(dimensions).take(QUERIES_MAX).map(<[f32]>::to_vec).collect(),
            truth: truth.collect(),
            metric,
        };
        for (nprobe, candidates) in SEARCHES {
            let search = IvfSearch { nprobe, candidates };
            let (recall, rate) = run.measure(search, &Filter::All)?;
            println!("{nprobe:>4} {candidates:>4}  recall@10 {recall:.4}  {rate:>8.0} queries/s");
        }
    }
    Ok(())
}
