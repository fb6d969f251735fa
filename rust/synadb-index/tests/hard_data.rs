//! Floors of recall of every kind of index on data that is hard for one of them.
//!
//! What counts is how near a hit is, not which row it is: of equal vectors any will do.

mod common;

use common::graph::{METRICS, clustered};
use common::{Memory, Random, distance, naive};
use synadb_index::{
    CascadeConfig, CascadeIndex, Filter, HnswConfig, HnswIndex, IndexError, IvfConfig, IvfIndex,
    IvfSearch, Job, Metric, PackedConfig, PackedFlat, Part, Query, Scratch, TopK,
};
use synadb_types::{RowId, RowSet};

const ROWS: usize = 2000;
const QUERIES: usize = 40;
const K: usize = 10;
/// Short enough a queue that no graph of so many rows is scanned instead.
const EF: usize = 32;
/// A twelfth of the cells of so many rows.
const NPROBE: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Codes,
    Cells,
    Graph,
    Cascade,
}

impl Kind {
    fn walks(self) -> bool {
        matches!(self, Self::Graph | Self::Cascade)
    }
}

/// Rows, of which the index gets those below `first` and later all, and what is asked.
struct Data {
    name: &'static str,
    rows: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
    first: usize,
    /// One of so many rows lives when it is searched.
    lives: usize,
}

impl Data {
    fn new(name: &'static str, mut rows: Vec<Vec<f32>>) -> Self {
        let queries = rows.split_off(rows.len() - QUERIES);
        let first = rows.len();
        Self { name, rows, queries, first, lives: 1 }
    }
}

fn made(seed: u64, dimensions: usize, count: usize) -> Vec<Vec<f32>> {
    clustered(&mut Random(seed), count + QUERIES, dimensions)
}

fn changed(rows: Vec<Vec<f32>>, change: impl Fn(usize, &mut Vec<f32>)) -> Vec<Vec<f32>> {
    let one = |(number, mut row): (usize, Vec<f32>)| {
        change(number, &mut row);
        row
    };
    rows.into_iter().enumerate().map(one).collect()
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn all_data() -> Vec<Data> {
    let mut random = Random(7);
    let like = made(1, 64, ROWS);
    let mut duplicates = Data::new("duplicates", made(2, 64, ROWS / 20));
    duplicates.rows = (0..20).flat_map(|_| duplicates.rows.clone()).collect();
    duplicates.first = duplicates.rows.len();
    let unlike =
        Data { queries: random.vectors(QUERIES, 64), ..Data::new("unlike", made(3, 64, ROWS)) };
    let lengths = changed(made(4, 64, ROWS), |number, row| {
        let length = 10_f32.powf((number * 37 % 101) as f32 / 50.0 - 1.0);
        row.iter_mut().for_each(|value| *value *= length);
    });
    let constant = changed(made(5, 96, ROWS), |_, row| row[..64].fill(3.0));
    let removed = Data { lives: 10, ..Data::new("removed", made(6, 64, ROWS)) };
    // The later half, and what is asked, lie elsewhere than what the index was built of.
    let drift = changed(made(8, 64, ROWS), |number, row| {
        let by = if number < ROWS / 2 { 0.0 } else { 1.5 };
        row.iter_mut().enumerate().for_each(|(at, value)| *value += by * (at % 5) as f32);
    });
    let far = changed(made(10, 64, ROWS), |number, row| {
        if number == 3 {
            row.fill(1e7);
        }
    });
    let mut away = changed(made(13, 64, ROWS), |_, row| {
        row.iter_mut().for_each(|value| *value += 1e4);
    });
    away[5].fill(9e4);
    // All but the zero rows have a direction in common, and the queries what they do not.
    let shared = changed(made(11, 64, ROWS), |number, row| {
        row[0] = if number < ROWS { 8.0 * length(row) } else { 0.0 };
        if number < ROWS && number % 12 == 0 {
            row.fill(0.0);
        }
    });
    vec![
        Data::new("clustered", like),
        Data::new("one far", far),
        Data::new("one far of those away", away),
        Data::new("zeros", shared),
        duplicates,
        unlike,
        Data::new("lengths", lengths),
        Data::new("flat 2", random.vectors(ROWS + QUERIES, 2)),
        Data::new("wide 4096", made(9, 4096, ROWS * 7 / 8)),
        Data::new("unstructured", random.vectors(ROWS + QUERIES, 48)),
        Data::new("constant", constant),
        removed,
        Data { first: ROWS / 2, ..Data::new("drift", drift) },
    ]
}

/// An index of the first rows, and then of all.
fn built(
    kind: Kind,
    metric: Metric,
    data: &Data,
    source: &Memory,
) -> Result<Box<dyn Part>, IndexError> {
    let all = RowSet::range(RowId(0), data.rows.len() as u32);
    let first = RowSet::range(RowId(0), data.first as u32);
    let (grows, job) = (data.first < data.rows.len(), Job::default());
    Ok(match kind {
        Kind::Codes => {
            let index = PackedFlat::build(metric, PackedConfig::default(), &first, source, &job)?;
            Box::new(if grows { index.extended(&all, source, &job)? } else { index })
        }
        Kind::Cells => {
            let search = IvfSearch { nprobe: NPROBE, candidates: 100, ..IvfSearch::default() };
            let config = IvfConfig { search, ..IvfConfig::default() };
            let index = IvfIndex::build(metric, &config, &first, source, &job)?;
            Box::new(if grows { index.extend(&all, source, &job)? } else { index })
        }
        Kind::Graph => {
            let config = HnswConfig::default().ef_search(EF);
            let index = HnswIndex::build(metric, &first, source, config, &job)?;
            let merged = |index| HnswIndex::merge(metric, &[&index], &all, source, config, &job);
            Box::new(if grows { merged(index)? } else { index })
        }
        Kind::Cascade => {
            let config = CascadeConfig { ef_search: EF, ..CascadeConfig::default() };
            let index = CascadeIndex::build(metric, &config, &first, source, &job)?;
            let merged =
                |index| CascadeIndex::merge(metric, &config, &[&index], &all, source, &job);
            Box::new(if grows { merged(index)? } else { index })
        }
    })
}

fn recall(
    (kind, index): (Kind, &dyn Part),
    metric: Metric,
    data: &Data,
    source: &Memory,
) -> Result<f64, IndexError> {
    let (mut scratch, mut found, mut wanted) = (Scratch::new(), 0, 0);
    for values in &data.queries {
        let truth = naive(metric, values, &data.rows, |row| source.live.contains(row), K);
        let (query, mut top, mut hits) = (Query::new(metric, values)?, TopK::new(K), Vec::new());
        index.search(&query, &Filter::All, source, &mut scratch, &mut top)?;
        top.finish(&query, source, &mut hits);
        assert_eq!(hits.len(), K, "{}", data.name);
        assert!(hits.iter().all(|hit| source.live.contains(hit.row)), "{}", data.name);
        let unique: RowSet = hits.iter().map(|hit| hit.row).collect();
        assert_eq!(unique.len(), K, "{}: a row twice", data.name);
        let last = truth.last().map_or(0.0, |(_, last)| last + 1e-6 * last.abs());
        let is_near = |row: RowId| distance(metric, values, &data.rows[row.0 as usize]) <= last;
        found += hits.iter().filter(|hit| is_near(hit.row)).count();
        wanted += K;
    }
    // Of equal rows a graph has one, and where few live it scans them.
    let is_walked = !["duplicates", "removed"].contains(&data.name);
    let walks = scratch.take_counts().steps / QUERIES as u64;
    assert!(!kind.walks() || !is_walked || walks >= 10, "{}: {walks} steps", data.name);
    Ok(found as f64 / wanted as f64)
}

/// What has to be found, a little below what is.
fn floor(kind: Kind, metric: Metric, name: &str) -> f64 {
    match (kind, name) {
        (Kind::Codes, _) => 0.995,
        // A part of the cells holds a part of the rows where these have no structure.
        (Kind::Cells, "unstructured") => 0.58,
        (Kind::Cells, "unlike" | "one far of those away") => 0.86,
        (Kind::Cells, "zeros") if metric == Metric::DotProduct => 0.75,
        (Kind::Cells, "removed") if metric == Metric::DotProduct => 0.82,
        (Kind::Cells, "removed" | "drift") => 0.9,
        (Kind::Graph | Kind::Cascade, "unlike" | "unstructured") => 0.87,
        // Scaled by the longest row nothing is left of the others but what raises them.
        (Kind::Graph | Kind::Cascade, "one far") if metric == Metric::DotProduct => 0.1,
        (Kind::Graph | Kind::Cascade, "zeros") if metric == Metric::DotProduct => 0.9,
        _ if metric == Metric::DotProduct => 0.93,
        _ => 0.97,
    }
}

fn check(kind: Kind) -> Result<(), IndexError> {
    for data in all_data() {
        for metric in METRICS {
            let mut source = Memory::new(&data.rows, data.queries[0].len());
            let index = built(kind, metric, &data, &source)?;
            let is_dead = |row: &RowId| !(row.0 as usize).is_multiple_of(data.lives);
            for row in (0..data.rows.len() as u32).map(RowId).filter(is_dead) {
                source.live.remove(row);
            }
            let found = recall((kind, &*index), metric, &data, &source)?;
            let floor = floor(kind, metric, data.name);
            assert!(found >= floor, "{kind:?} {} {metric:?}: {found} below {floor}", data.name);
        }
    }
    Ok(())
}

#[test]
fn codes_find_nearly_all() -> Result<(), IndexError> {
    check(Kind::Codes)
}

#[test]
fn few_cells_find_most() -> Result<(), IndexError> {
    check(Kind::Cells)
}

#[test]
fn a_short_walk_finds_most() -> Result<(), IndexError> {
    check(Kind::Graph)
}

#[test]
fn a_short_walk_from_buckets_finds_most() -> Result<(), IndexError> {
    check(Kind::Cascade)
}

#[test]
fn each_of_many_nearly_equal_rows_finds_itself() -> Result<(), IndexError> {
    let mut random = Random(12);
    let mut rows = random.vectors(ROWS, 64);
    let crowd = rows[0].clone();
    for noise in random.vectors(80, 64) {
        // So near that cosines in single precision are all one, and fewer than candidates.
        rows.push(crowd.iter().zip(noise).map(|(value, by)| value * (1.0 + 1e-4 * by)).collect());
    }
    let data = Data { first: rows.len(), rows, queries: Vec::new(), name: "crowd", lives: 1 };
    let source = Memory::new(&data.rows, 64);
    for kind in [Kind::Codes, Kind::Cells, Kind::Graph, Kind::Cascade] {
        let index = built(kind, Metric::Cosine, &data, &source)?;
        for row in ROWS..data.rows.len() {
            let query = Query::new(Metric::Cosine, &data.rows[row])?;
            let (mut top, mut hits) = (TopK::new(1), Vec::new());
            index.search(&query, &Filter::All, &source, &mut Scratch::new(), &mut top)?;
            top.finish(&query, &source, &mut hits);
            assert_eq!(hits[0].row, RowId(row as u32), "{kind:?}");
        }
    }
    Ok(())
}
