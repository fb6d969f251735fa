//! Builds an inverted file of real vectors and prints recall@10 and queries a second.
//!
//! `SYNADB_DATA_F32=folder cargo run --release --example gravity_well NAME METRIC [cells [OPTION]]`
//!
//! Options: `single` (no second cells), `full` (no codes), `bits` (nor finer ones), `threads` (two
//! of them too), `grow` (taking rows in), `filter`, `tune` (searches for a recall),
//! `brief` (four searches only).
//!
//! The folder holds `NAME.base.f32`, `NAME.query.f32` (little-endian, rows side by side) and
//! `NAME.truth.u32` (the 100 nearest rows of each query, nearest first); `NAME` ends in the
//! number of dimensions. Pin it to one core: the machine's other work is then least in the way.

mod memory;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use synadb_index::{
    Filter, FlatIndex, IvfCodes, IvfConfig, IvfIndex, IvfSearch, Job, Metric, Part, Query, Scratch,
    TopK, VectorSource, inverse_norm,
};
use synadb_types::{RowId, RowSet};

use memory::Rows;

const K: usize = 10;
const TRUE_NEIGHBOURS: usize = 100;
const PASSES: usize = 4;
const QUERIES_MAX: usize = 2000;
const FILTERED_QUERIES: usize = 300;
const FILTERED_SEARCHES: [(usize, usize); 3] = [(16, 60), (32, 100), (64, 200)];
const SEARCHES: [(usize, usize); 20] = [
    (2, 30),
    (3, 40),
    (4, 40),
    (6, 40),
    (8, 40),
    (8, 60),
    (12, 60),
    (16, 40),
    (16, 60),
    (24, 60),
    (24, 80),
    (32, 80),
    (48, 100),
    (64, 120),
    (96, 150),
    (128, 200),
    (192, 200),
    (256, 300),
    (400, 300),
    (400, 600),
];
const BRIEF: [(usize, usize); 4] = [(16, 60), (64, 120), (256, 300), (400, 600)];
/// Recalls at which the rate is told, by the straight line between the searches beside it.
const RECALLS: [f64; 4] = [0.9, 0.95, 0.99, 0.999];

fn words(path: &Path) -> Result<Vec<[u8; 4]>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.as_chunks::<4>().0.to_vec())
}

fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(words(path)?.into_iter().map(f32::from_le_bytes).collect())
}

#[derive(Clone, Copy)]
struct Run<'a> {
    index: &'a IvfIndex,
    rows: &'a Rows,
    queries: &'a [Query],
}

impl Run<'_> {
    /// Recall and queries a second: the best of a few passes.
    fn measure(
        &self,
        search: IvfSearch,
        filter: &Filter,
        truth: &[Vec<u32>],
    ) -> Result<(f64, f64), Box<dyn Error>> {
        let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(K), Vec::new());
        let mut query = self.queries[0].clone();
        let (mut found, mut best) = (0, f64::INFINITY);
        for _ in 0..PASSES {
            found = 0;
            let start = Instant::now();
            for (values, truth) in self.queries.iter().zip(truth) {
                query.reset(values.values())?;
                top.reset(K);
                hits.clear();
                let out = &mut top;
                self.index.search_with(search, &query, filter, self.rows, &mut scratch, out)?;
                top.finish(&query, self.rows, &mut hits);
                found += hits.iter().filter(|hit| truth.contains(&hit.row.0)).count();
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        let count = truth.len() as f64;
        Ok((found as f64 / count / K as f64, count / best))
    }

    /// Queries a second of a batch on two threads: the best of a few passes.
    fn batch(&self, search: IvfSearch) -> Result<f64, Box<dyn Error>> {
        let job = Job::with_threads(2);
        let mut tops: Vec<TopK> = self.queries.iter().map(|_| TopK::new(K)).collect();
        let mut best = f64::INFINITY;
        for _ in 0..PASSES {
            let start = Instant::now();
            tops.iter_mut().for_each(|top| top.reset(K));
            let (queries, all) = (self.queries, &Filter::All);
            self.index.search_batch(search, queries, all, self.rows, &job, &mut tops)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(self.queries.len() as f64 / best)
    }

    /// Tunes with one half of the queries and measures with the other.
    fn tuned(&self, truth: &[Vec<u32>]) -> Result<(), Box<dyn Error>> {
        let middle = self.queries.len() / 2;
        let (sample, queries) = self.queries.split_at(middle);
        let sample = &sample[..sample.len().min(FILTERED_QUERIES)];
        let rest = Run { queries, ..*self };
        for target in RECALLS {
            let (start, job) = (Instant::now(), Job::default());
            let found = self.index.tune(target, K, sample, &Filter::All, self.rows, &job)?;
            let time = start.elapsed().as_secs_f64();
            let (recall, rate) = rest.measure(found.search, &Filter::All, &truth[middle..])?;
            println!(
                "tuned for {target} in {time:.1} s: {found:?}; others {recall:.4} {rate:.0}/s"
            );
        }
        Ok(())
    }

    /// Searches at all settings, and the rates at some recalls.
    fn curve(
        &self,
        searches: &[(usize, usize)],
        truth: &[Vec<u32>],
        threads: bool,
    ) -> Result<(), Box<dyn Error>> {
        let mut measured = Vec::new();
        for &(nprobe, candidates) in searches {
            let search = IvfSearch { nprobe, candidates, ..IvfSearch::default() };
            let (recall, rate) = self.measure(search, &Filter::All, truth)?;
            let batch = if threads { self.batch(search)? } else { f64::NAN };
            measured.push((recall, rate));
            println!(
                "{nprobe:>4} {candidates:>4}  recall@10 {recall:.4}  {rate:>8.0} queries/s  \
                 {batch:>8.0} in a batch"
            );
        }
        for recall in RECALLS {
            let rate = rate_at(recall, &measured).unwrap_or(f64::NAN);
            println!("at recall {recall}: {rate:.0} queries/s");
        }
        Ok(())
    }

    /// Recall among the rows of a filter, and queries a second.
    fn filtered(&self, step: u32) -> Result<(), Box<dyn Error>> {
        let allowed: RowSet = (0..self.rows.rows_end() / step).map(|at| RowId(at * step)).collect();
        let filter = self.index.prepare(&allowed);
        let flat = FlatIndex::new(allowed);
        let (mut scratch, mut top, mut truth) = (Scratch::new(), TopK::new(K), Vec::new());
        for query in self.queries.iter().take(FILTERED_QUERIES) {
            let mut hits = Vec::new();
            top.reset(K);
            flat.search(query, &Filter::All, self.rows, &mut scratch, &mut top)?;
            top.finish(query, self.rows, &mut hits);
            truth.push(hits.iter().map(|hit| hit.row.0).collect());
        }
        for (nprobe, candidates) in FILTERED_SEARCHES {
            let search = IvfSearch { nprobe, candidates, ..IvfSearch::default() };
            let (recall, rate) = self.measure(search, &filter, &truth)?;
            println!(
                "one row in {step}: {nprobe:>4} {candidates:>4}  recall@10 {recall:.4}  \
                 {rate:>8.0} queries/s"
            );
        }
        Ok(())
    }
}

/// The rate at a recall, from recalls and rates of searches.
fn rate_at(recall: f64, measured: &[(f64, f64)]) -> Option<f64> {
    let best = |least: f64| {
        let enough = measured.iter().filter(|found| found.0 >= least);
        enough.copied().max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let above = best(recall)?;
    let below = measured.iter().filter(|found| found.0 < recall && found.1 >= above.1);
    let below = below.copied().max_by(|a, b| a.0.total_cmp(&b.0));
    Some(below.map_or(above.1, |below| {
        let share = (recall - below.0) / (above.0 - below.0);
        below.1 + share * (above.1 - below.1)
    }))
}

/// Builds with the first half of the rows and takes the others in, in ten steps.
fn grow(metric: Metric, config: &IvfConfig, rows: &Rows) -> Result<(), Box<dyn Error>> {
    let (job, end) = (Job::default(), rows.rows_end());
    let half = RowSet::range(RowId(0), end / 2);
    let mut index = IvfIndex::build(metric, config, &half, rows, &job)?;
    let start = Instant::now();
    for step in 1..=10 {
        index = index.extend(&RowSet::range(RowId(0), end / 2 + end / 20 * step), rows, &job)?;
    }
    let rate = f64::from(end / 2) / start.elapsed().as_secs_f64();
    println!("grows by {rate:.0} rows/s in ten steps, to {} cells", index.cells());
    Ok(())
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
    let has = |name: &str| options.iter().any(|option| option == name);
    let codes = match () {
        () if has("full") => IvfCodes::Full,
        () if has("bits") => IvfCodes::Bits,
        () => IvfCodes::Refined,
    };
    let truth = words(&folder.join(format!("{name}.truth.u32")))?;
    let query = floats(&folder.join(format!("{name}.query.f32")))?;
    let dimensions = query.len() / (truth.len() / TRUE_NEIGHBOURS);
    let data = floats(&folder.join(format!("{name}.base.f32")))?;
    let inverse_norms = data.chunks(dimensions).map(inverse_norm).collect();
    let rows = Rows { dimensions, data, inverse_norms };
    let all = RowSet::range(RowId(0), rows.rows_end());

    let config = IvfConfig { cells, second: !has("single"), codes, ..IvfConfig::default() };
    let start = Instant::now();
    let index = IvfIndex::build(metric, &config, &all, &rows, &Job::default())?;
    let time = start.elapsed().as_secs_f64();
    let mut sizes: Vec<usize> = (0..).map_while(|cell| index.cell_len(cell)).collect();
    sizes.sort_unstable();
    let (least, middle, most) = (sizes[0], sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    let megabytes = index.memory_bytes() as f64 / 1e6;
    println!("{name}: {} cells of {least} {middle} {most}, {megabytes:.0} MB", index.cells());
    println!("built in {time:.2} s on one thread");
    if has("threads") {
        let start = Instant::now();
        IvfIndex::build(metric, &config, &all, &rows, &Job::with_threads(2))?;
        println!("built in {:.2} s on two threads", start.elapsed().as_secs_f64());
    }
    if has("grow") {
        grow(metric, &config, &rows)?;
    }
    let truth: Vec<Vec<u32>> = truth
        .chunks(TRUE_NEIGHBOURS)
        .map(|rows| rows[..K].iter().map(|&row| u32::from_le_bytes(row)).collect())
        .collect();
    let queries = query.chunks(dimensions).take(QUERIES_MAX);
    let queries: Result<Vec<Query>, _> = queries.map(|query| Query::new(metric, query)).collect();
    let run = Run { index: &index, rows: &rows, queries: &queries? };
    let truth = &truth[..run.queries.len()];
    let searches = if has("brief") { &BRIEF[..] } else { &SEARCHES[..] };
    run.curve(searches, truth, has("threads"))?;
    if has("tune") {
        run.tuned(truth)?;
    }
    if has("filter") {
        run.filtered(10)?;
        run.filtered(100)?;
    }
    Ok(())
}
