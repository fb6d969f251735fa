//! The inverted file against the naive search.

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Memory, Random, naive};
use synadb_index::{
    Filter, Hit, IndexError, IvfCodes, IvfConfig, IvfIndex, IvfSearch, Job, Metric, Part, Query,
    Scratch, Section, SharedBytes, TopK, VectorSource,
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

fn owned(index: &IvfIndex) -> Vec<(&'static str, Vec<u8>)> {
    index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}

fn shared<'a>(saved: &[Section<'a>]) -> Vec<(&'a str, SharedBytes)> {
    let share = |(name, bytes): &Section<'a>| (*name, Arc::new(bytes.to_vec()) as SharedBytes);
    saved.iter().map(share).collect()
}

fn all_of(index: &IvfIndex) -> IvfSearch {
    IvfSearch { nprobe: index.cells(), candidates: 200 }
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

fn rows(hits: &[Hit]) -> Vec<u32> {
    hits.iter().map(|hit| hit.row.0).collect()
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

#[test]
fn all_cells_at_full_precision_are_exact() -> Result<(), IndexError> {
    for (dimensions, second) in [(1, false), (7, true), (33, false), (96, true)] {
        let vectors = clustered(1, 1500, dimensions, 20);
        let source = Memory::new(&vectors, dimensions);
        let queries = clustered(2, 20, dimensions, 20);
        for metric in METRICS {
            let config = IvfConfig { second, ..config(IvfCodes::Full, 30) };
            let index = build(metric, &config, &source)?;
            for query in &queries {
                let truth = naive(metric, query, &vectors, |_| true, 10);
                let hits = search(&index, all_of(&index), query, &Filter::All, &source, 10)?;
                let expected: Vec<u32> = truth.iter().map(|(row, _)| row.0).collect();
                assert_eq!(rows(&hits), expected, "{metric:?} {dimensions}");
            }
        }
    }
    Ok(())
}

#[test]
fn few_cells_and_codes_keep_the_recall() -> Result<(), IndexError> {
    let vectors = clustered(3, 6000, 64, 60);
    let queries = clustered(3, 6040, 64, 60).split_off(6000);
    let source = Memory::new(&vectors, 64);
    for metric in METRICS {
        for codes in CODES {
            let index = build(metric, &config(codes, 64), &source)?;
            let few = IvfSearch { nprobe: 16, candidates: 100 };
            let found = recall(&index, few, &queries, &vectors, &Filter::All, &source)?;
            assert!(found >= 0.9, "{metric:?} {codes:?} {found}");
            let all = recall(&index, all_of(&index), &queries, &vectors, &Filter::All, &source)?;
            assert!(all >= 0.99, "{metric:?} {codes:?} {all}");
        }
    }
    Ok(())
}

#[test]
fn a_second_cell_raises_the_recall() -> Result<(), IndexError> {
    let mut random = Random(5);
    let vectors = random.vectors(4000, 24);
    let (queries, source) = (random.vectors(60, 24), Memory::new(&vectors, 24));
    let search = IvfSearch { nprobe: 6, candidates: 100 };
    let mut found = Vec::new();
    for second in [false, true] {
        let config = IvfConfig { second, ..config(IvfCodes::Full, 64) };
        let index = build(Metric::Euclidean, &config, &source)?;
        found.push(recall(&index, search, &queries, &vectors, &Filter::All, &source)?);
    }
    assert!(found[1] > found[0] + 0.03, "{found:?}");
    Ok(())
}

#[test]
fn dead_rows_and_filters_are_kept_out() -> Result<(), IndexError> {
    let vectors = clustered(7, 3000, 40, 25);
    let queries = clustered(7, 3020, 40, 25).split_off(3000);
    for codes in CODES {
        let mut source = Memory::new(&vectors, 40);
        let index = build(Metric::Cosine, &config(codes, 40), &source)?;
        for row in (0..3000).filter(|row| row % 10 != 3) {
            source.live.remove(RowId(row));
        }
        let all = all_of(&index);
        let found = recall(&index, all, &queries, &vectors, &Filter::All, &source)?;
        assert!(found >= 0.99, "90 % dead: {found}");
        for step in [1, 2, 20, 400] {
            let allowed: RowSet = (0..3000).step_by(step).map(|row| RowId(row + 3)).collect();
            let filter = index.prepare(&allowed);
            for nprobe in [4, index.cells()] {
                let how = IvfSearch { nprobe, candidates: 100 };
                let found = recall(&index, how, &queries, &vectors, &filter, &source)?;
                let least = if step < 20 { 0.7 } else { 0.99 };
                assert!(found >= least, "one in {step}: {found}");
            }
        }
        let nothing = Filter::Rows(RowSet::new());
        assert!(search(&index, all, &queries[0], &nothing, &source, 10)?.is_empty());
    }
    Ok(())
}

#[test]
fn one_cell_probed_still_gives_k_rows() -> Result<(), IndexError> {
    let vectors = clustered(9, 900, 16, 90);
    let source = Memory::new(&vectors, 16);
    for codes in CODES {
        let index = build(Metric::Euclidean, &config(codes, 60), &source)?;
        let one = IvfSearch { nprobe: 0, candidates: 0 };
        for k in [1, 50, 900, 2000] {
            let hits = search(&index, one, &vectors[5], &Filter::All, &source, k)?;
            assert_eq!(hits.len(), k.min(900));
            assert_eq!(hits[0].row, RowId(5));
        }
        assert!(search(&index, one, &vectors[5], &Filter::All, &source, 0)?.is_empty());
    }
    Ok(())
}

#[test]
fn recall_holds_when_the_data_drift() -> Result<(), IndexError> {
    // The sample knows the first groups only; later rows lie elsewhere.
    let mut vectors = clustered(11, 1500, 32, 15);
    let sample: Vec<RowId> = (0..1500).map(RowId).collect();
    let far = clustered(12, 4500, 32, 45);
    vectors.extend(far.iter().map(|vector| vector.iter().map(|value| value + 3.0).collect()));
    let queries = clustered(12, 4530, 32, 45).split_off(4500);
    let queries: Vec<Vec<f32>> =
        queries.iter().map(|query| query.iter().map(|value| value + 3.0).collect()).collect();
    let source = Memory::new(&vectors, 32);
    for codes in CODES {
        let first = RowSet::range(RowId(0), 1500);
        let (from, job) = ((sample.as_slice(), &source as &dyn VectorSource), Job::default());
        let config = config(codes, 48);
        let metric = Metric::Euclidean;
        let mut index = IvfIndex::build_from_sample(metric, &config, from, &first, &source, &job)?;
        for end in [2500, 4000, 6000] {
            index = index.extend(&RowSet::range(RowId(0), end), &source, &job)?;
        }
        let how = IvfSearch { nprobe: 12, candidates: 100 };
        let found = recall(&index, how, &queries, &vectors, &Filter::All, &source)?;
        assert!(found >= 0.9, "{codes:?} {found}");
        let largest = (0..index.cells()).filter_map(|cell| index.cell_len(cell)).max();
        let mean = 2 * 6000 / index.cells();
        assert!(largest.is_some_and(|largest| largest <= 6 * mean), "{largest:?} {mean}");
        // The first rows die: their cells go.
        let cells = index.cells();
        let index = index.extend(&RowSet::range(RowId(1500), 4500), &source, &job)?;
        assert!(index.cells() < cells, "{} {cells}", index.cells());
        assert_eq!(index.rows().len(), 4500);
        let filter = Filter::Rows(RowSet::range(RowId(1500), 4500));
        let found = recall(&index, how, &queries, &vectors, &filter, &source)?;
        assert!(found >= 0.9, "{codes:?} {found}");
    }
    Ok(())
}

#[test]
fn odd_rows_are_found() -> Result<(), IndexError> {
    // Zero vectors, exact duplicates, constant dimensions, and scales that f32 cannot square.
    let mut vectors = clustered(13, 400, 12, 8);
    vectors.extend(vec![vec![0.0; 12]; 30]);
    vectors.extend(vec![vec![7.0; 12]; 300]);
    vectors.extend(vectors[..40].to_vec());
    for scale in [1.0, 1e-25_f32, 1e25] {
        let scaled: Vec<Vec<f32>> =
            vectors.iter().map(|vector| vector.iter().map(|x| x * scale).collect()).collect();
        let source = Memory::new(&scaled, 12);
        for metric in METRICS {
            for codes in CODES {
                let index = build(metric, &config(codes, 16), &source)?;
                for query in [0, 410, 500, 760] {
                    let all = all_of(&index);
                    let hits = search(&index, all, &scaled[query], &Filter::All, &source, 5)?;
                    let truth = naive(metric, &scaled[query], &scaled, |_| true, 5);
                    assert_eq!(hits.len(), 5);
                    for (hit, (_, expected)) in hits.iter().zip(truth) {
                        let error = (f64::from(hit.score) - expected).abs();
                        assert!(error <= 1e-5 * expected.abs() + 1e-7, "{metric:?} {codes:?}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn small_and_empty_sets_are_taken() -> Result<(), IndexError> {
    let vectors = clustered(14, 3, 5, 2);
    let source = Memory::new(&vectors, 5);
    for codes in CODES {
        let none = IvfConfig { codes, ..IvfConfig::default() };
        let job = Job::default();
        let empty = IvfIndex::build(Metric::Cosine, &none, &RowSet::new(), &source, &job)?;
        let how = empty.default_search();
        assert!(search(&empty, how, &vectors[0], &Filter::All, &source, 5)?.is_empty());
        let grown = empty.extend(&RowSet::range(RowId(0), 3), &source, &job)?;
        let hits = search(&grown, how, &vectors[1], &Filter::All, &source, 5)?;
        assert_eq!((hits.len(), hits[0].row), (3, RowId(1)));
        // A sample of nothing stands for the rows.
        let from = (&[][..], &source as &dyn VectorSource);
        let rows = RowSet::range(RowId(0), 3);
        let index = IvfIndex::build_from_sample(Metric::Cosine, &none, from, &rows, &source, &job)?;
        assert_eq!(search(&index, how, &vectors[1], &Filter::All, &source, 5)?.len(), 3);
        let gone = grown.extend(&RowSet::new(), &source, &job)?;
        assert!(search(&gone, how, &vectors[1], &Filter::All, &source, 5)?.is_empty());
    }
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_bytes() -> Result<(), IndexError> {
    let vectors = clustered(15, 2000, 20, 30);
    let source = Memory::new(&vectors, 20);
    let all = RowSet::range(RowId(0), 2000);
    for codes in CODES {
        let config = IvfConfig { seed: 4, ..config(codes, 50) };
        let export = |config: &IvfConfig, threads| {
            let job = Job::with_threads(threads);
            let index = IvfIndex::build(Metric::Cosine, config, &all, &source, &job)?;
            Ok::<_, IndexError>(owned(&index))
        };
        let alone = export(&config, 1)?;
        assert_eq!(alone, export(&config, 1)?);
        assert_eq!(alone, export(&config, 3)?);
        assert_ne!(alone, export(&IvfConfig { seed: 5, ..config.clone() }, 1)?);
    }
    Ok(())
}

#[test]
fn an_opened_index_is_the_saved_one() -> Result<(), IndexError> {
    let vectors = clustered(16, 1200, 30, 20);
    let source = Memory::new(&vectors, 30);
    for metric in METRICS {
        for codes in CODES {
            let index = build(metric, &config(codes, 32), &source)?;
            let saved = index.export();
            let opened = IvfIndex::import(&shared(&saved), &source, &Job::default())?;
            assert_eq!(opened.export(), saved);
            assert_eq!(opened.rows(), index.rows());
            for query in &vectors[..20] {
                let how = IvfSearch { nprobe: 5, candidates: 50 };
                let expected = search(&index, how, query, &Filter::All, &source, 10)?;
                assert_eq!(search(&opened, how, query, &Filter::All, &source, 10)?, expected);
            }
        }
    }
    Ok(())
}

#[test]
fn a_damaged_section_is_refused_or_harmless() -> Result<(), IndexError> {
    let vectors = clustered(17, 300, 8, 10);
    let source = Memory::new(&vectors, 8);
    let mut random = Random(18);
    for codes in CODES {
        let index = build(Metric::Euclidean, &config(codes, 12), &source)?;
        let saved = index.export();
        let mut refused = 0;
        for round in 0..600 {
            let mut damaged = saved.clone();
            let at = round % damaged.len();
            let bytes = damaged[at].1.to_mut();
            let place = ((random.float() + 1.0) * 0.5 * bytes.len() as f32) as usize;
            if bytes.is_empty() || round % 5 == 0 {
                bytes.truncate(place);
                bytes.extend_from_slice(&[0; 3][..round % 4]);
            } else {
                let last = bytes.len() - 1;
                bytes[place.min(last)] ^= 1 << (round % 8);
            }
            match IvfIndex::import(&shared(&damaged), &source, &Job::default()) {
                Ok(index) => {
                    let how = IvfSearch { nprobe: 4, candidates: 20 };
                    search(&index, how, &vectors[1], &Filter::All, &source, 10)?;
                }
                Err(IndexError::Section { .. }) => refused += 1,
                Err(other) => return Err(other),
            }
        }
        assert!(refused > 200, "{refused}");
        assert!(IvfIndex::import(&[], &source, &Job::default()).is_err());
        let other = Memory::new(&clustered(17, 300, 9, 10), 9);
        let sections = shared(&saved);
        assert!(IvfIndex::import(&sections, &other, &Job::default()).is_err());
        // Rows that the source does not have are refused.
        let fewer = Memory::new(&vectors[..200], 8);
        assert!(IvfIndex::import(&sections, &fewer, &Job::default()).is_err());
    }
    Ok(())
}

#[test]
fn a_cancelled_build_says_so_and_progress_only_rises() -> Result<(), IndexError> {
    let vectors = clustered(19, 1000, 10, 10);
    let source = Memory::new(&vectors, 10);
    let all = RowSet::range(RowId(0), 1000);
    let told = RefCell::new(Vec::new());
    let tell = |share| told.borrow_mut().push(share);
    let config = IvfConfig::default();
    let job = Job { progress: Some(&tell), ..Job::default() };
    let index = IvfIndex::build(Metric::Cosine, &config, &all, &source, &job)?;
    assert!(told.borrow().is_sorted());
    assert_eq!(told.borrow().last(), Some(&1.0));
    let cancel = AtomicBool::new(true);
    let job = Job { cancel: Some(&cancel), ..Job::with_threads(2) };
    let build = IvfIndex::build(Metric::Cosine, &config, &all, &source, &job);
    assert_eq!(build.err(), Some(IndexError::Cancelled));
    assert_eq!(index.extend(&all, &source, &job).err(), Some(IndexError::Cancelled));
    Ok(())
}

#[test]
fn a_batch_gives_what_single_searches_give() -> Result<(), IndexError> {
    let vectors = clustered(20, 2000, 24, 30);
    let source = Memory::new(&vectors, 24);
    let index = build(Metric::Cosine, &config(IvfCodes::Bits, 40), &source)?;
    let how = IvfSearch { nprobe: 6, candidates: 40 };
    let queries: Result<Vec<Query>, IndexError> =
        vectors[..200].iter().map(|vector| Query::new(Metric::Cosine, vector)).collect();
    let queries = queries?;
    let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(7)).collect();
    let job = Job::with_threads(2);
    index.search_batch(how, &queries, &Filter::All, &source, &job, &mut tops)?;
    for ((query, top), vector) in queries.iter().zip(&mut tops).zip(&vectors) {
        let mut hits = Vec::new();
        top.finish(query, &source, &mut hits);
        assert_eq!(hits, search(&index, how, vector, &Filter::All, &source, 7)?);
    }
    Ok(())
}

#[test]
fn tuning_reaches_the_recall_with_the_fewest_cells() -> Result<(), IndexError> {
    let mut random = Random(21);
    let vectors = random.vectors(3000, 16);
    let source = Memory::new(&vectors, 16);
    let index = build(Metric::Euclidean, &config(IvfCodes::Bits, 50), &source)?;
    let samples = random.vectors(60, 16);
    let queries: Result<Vec<Query>, IndexError> =
        samples.iter().map(|vector| Query::new(Metric::Euclidean, vector)).collect();
    let queries = queries?;
    let mut scratch = Scratch::new();
    let mut last = 0;
    for target in [0.5, 0.9, 0.97] {
        let tuned = index.tune(target, 10, &queries, &Filter::All, &source, &mut scratch)?;
        assert!(tuned.recall >= target && tuned.search.nprobe >= last, "{tuned:?}");
        let found = recall(&index, tuned.search, &samples, &vectors, &Filter::All, &source)?;
        assert!((found - tuned.recall).abs() < 1e-9, "{found} {tuned:?}");
        let nprobe = tuned.search.nprobe - 1;
        if nprobe > 0 {
            let fewer = IvfSearch { nprobe, ..tuned.search };
            let found = recall(&index, fewer, &samples, &vectors, &Filter::All, &source)?;
            assert!(found < target, "{found} {tuned:?}");
        }
        last = tuned.search.nprobe;
    }
    Ok(())
}
