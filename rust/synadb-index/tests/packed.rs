//! The packed flat index against the exact scan.

mod common;

use common::{Memory, Random, rows, search, stop_at};
use synadb_index::{
    Beyond, Filter, FlatIndex, Hit, IndexError, Job, Kernels, Metric, PackedConfig, PackedFlat,
    PackedSearch, Part, Query, Sample, Scratch, SimdLevel, TopK,
};
use synadb_types::{RowId, RowSet};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];
/// Bounds that no error exceeds, and room for every row: the result is that of an exact scan.
const SURE: PackedConfig =
    PackedConfig { seed: 1, epsilon: 40.0, candidates: usize::MAX, refine: true };
const SURE_BITS: PackedConfig = PackedConfig { refine: false, ..SURE };

/// Vectors around a few centers, away from the origin, as real ones lie.
fn clustered(random: &mut Random, count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let centers = random.vectors(20, dimensions);
    let shift = random.vector(dimensions);
    let vector = |_| {
        let center = &centers[random.next() as usize % centers.len()];
        let noise = random.vector(dimensions);
        let parts = center.iter().zip(&shift).zip(noise);
        parts.map(|((center, shift), noise)| center + shift + 0.4 * noise).collect()
    };
    (0..count).map(vector).collect()
}

fn all(source: &Memory) -> RowSet {
    RowSet::range(RowId(0), source.rows as u32)
}

fn packed(metric: Metric, config: PackedConfig, source: &Memory) -> Result<PackedFlat, IndexError> {
    PackedFlat::build(metric, config, &all(source), source, &Job::default())
}

fn find(
    index: &PackedFlat,
    values: &[f32],
    filter: &Filter,
    source: &Memory,
    k: usize,
) -> Result<Vec<Hit>, IndexError> {
    let query = Query::new(index.metric(), values)?;
    let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(k), Vec::new());
    index.search(&query, filter, source, &mut scratch, &mut top)?;
    top.finish(&query, source, &mut hits);
    Ok(hits)
}

/// Share of the rows expected that were found.
fn recall(
    index: &PackedFlat,
    queries: &[Vec<f32>],
    source: &Memory,
    k: usize,
) -> Result<f64, IndexError> {
    let (mut found, mut wanted) = (0, 0);
    for values in queries {
        let expected = search(index.metric(), values, &Filter::All, source, k)?;
        let hits = find(index, values, &Filter::All, source, k)?;
        assert_eq!(hits.len(), expected.len());
        wanted += expected.len();
        found += expected.iter().filter(|hit| hits.contains(hit)).count();
    }
    Ok(found as f64 / wanted as f64)
}

#[test]
fn recall_is_nearly_that_of_an_exact_scan() -> Result<(), IndexError> {
    let mut random = Random(1);
    for dimensions in [2, 3, 7, 20, 31, 32, 50, 64, 100, 384, 784] {
        let vectors = clustered(&mut random, 5000, dimensions);
        let (queries, vectors) = vectors.split_at(40);
        let source = Memory::new(vectors, dimensions);
        for metric in METRICS {
            for refine in [true, false] {
                let index = packed(metric, PackedConfig { refine, ..Default::default() }, &source)?;
                for k in [1, 10, 200] {
                    let recall = recall(&index, queries, &source, k)?;
                    println!("{metric:?} {dimensions} {refine} {k}: {recall}");
                    assert!(recall >= 0.99, "{metric:?} {dimensions} {refine} {k}: {recall}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_fewest_candidates_that_reach_a_recall_are_found() -> Result<(), IndexError> {
    let mut random = Random(21);
    let vectors = random.vectors(6100, 96);
    let (queries, vectors) = vectors.split_at(100);
    let source = Memory::new(vectors, 96);
    let index = packed(Metric::Cosine, PackedConfig::default(), &source)?;
    let queries: Result<Vec<_>, _> =
        queries.iter().map(|values| Query::new(Metric::Cosine, values)).collect();
    let queries = queries?;
    let (of_all, job) = ((&queries[..], &Filter::All, &source as &_), Job::default());
    let sample = Sample::new(&all(&source), 10, of_all, &job)?;
    let reached = |candidates: usize| {
        sample.recall(&|query, filter, source, scratch, top| {
            let (queries, tops) = (std::slice::from_ref(query), std::slice::from_mut(top));
            let search = PackedSearch { candidates, beyond: Beyond::Never };
            index.search_batch_with(search, queries, filter, source, scratch, tops)
        })
    };
    let mut before = 0;
    for target in [0.5, 0.8, 0.95] {
        let (candidates, recall) = index.tune_on(&sample, target)?;
        println!("{target}: {candidates} find {recall}");
        assert!(candidates > before && candidates < PackedConfig::default().candidates);
        assert!(recall >= target && recall == reached(candidates)?);
        assert!(candidates == 10 || reached(candidates * 3 / 4)? < target);
        before = candidates;
    }
    // As many as are asked for are kept at least.
    let ten = reached(10)?;
    assert!(ten < 0.8 && ten == reached(1)? && ten == reached(0)?);
    Ok(())
}

#[test]
fn wide_bounds_find_exactly_the_rows_of_an_exact_scan() -> Result<(), IndexError> {
    let mut random = Random(2);
    for (dimensions, count) in [(64, 1), (65, 33), (100, 700), (400, 4200)] {
        let vectors = clustered(&mut random, count, dimensions);
        let source = Memory::new(&vectors, dimensions);
        for metric in METRICS {
            for config in [SURE, SURE_BITS] {
                let index = packed(metric, config, &source)?;
                for k in [0, 1, 10, count, usize::MAX] {
                    let query = random.vector(dimensions);
                    let found = find(&index, &query, &Filter::All, &source, k)?;
                    assert_eq!(found, search(metric, &query, &Filter::All, &source, k)?);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_number_of_dimensions_is_searched() -> Result<(), IndexError> {
    let mut random = Random(11);
    let wide = [127, 128, 129, 256, 300, 511, 512, 513, 768, 1000, 1024, 1536, 2047, 3072, 4096];
    for dimensions in (1..=70).chain(wide) {
        let vectors = clustered(&mut random, 150, dimensions);
        let source = Memory::new(&vectors, dimensions);
        let query = random.vector(dimensions);
        for metric in METRICS {
            for config in [SURE, SURE_BITS] {
                let index = packed(metric, config, &source)?;
                // So few rows are compared as the flat index does, which tells those apart that
                // differ in their last bits, as all do in one dimension.
                let flat = FlatIndex::new(RowSet::range(RowId(0), source.rows as u32));
                let (mut top, mut expected) = (TopK::new(9), Vec::new());
                let prepared = Query::new(metric, &query)?;
                let mut scratch = Scratch::new();
                flat.search(&prepared, &Filter::All, &source, &mut scratch, &mut top)?;
                top.finish(&prepared, &source, &mut expected);
                assert_eq!(
                    find(&index, &query, &Filter::All, &source, 9)?,
                    expected,
                    "{dimensions}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn rows_far_from_the_origin_and_far_from_each_other_are_told_apart() -> Result<(), IndexError> {
    let mut random = Random(12);
    let mut vectors = clustered(&mut random, 6000, 100);
    let shift = random.vector(100);
    for vector in &mut vectors {
        vector.iter_mut().zip(&shift).for_each(|(x, shift)| *x += 100.0 * shift);
    }
    let (queries, vectors) = vectors.split_at(30);
    let mut vectors = vectors.to_vec();
    for lone in [false, true] {
        if lone {
            vectors[0] = random.vector(100).iter().map(|x| x * 1e7).collect();
        }
        let source = Memory::new(&vectors, 100);
        for metric in METRICS {
            for refine in [true, false] {
                let config = PackedConfig { candidates: 200, refine, ..Default::default() };
                let index = packed(metric, config, &source)?;
                let recall = recall(&index, queries, &source, 10)?;
                println!("{metric:?} {lone} {refine}: {recall}");
                assert!(recall >= 0.99, "{metric:?} {lone} {refine}: {recall}");
            }
        }
    }
    Ok(())
}

#[test]
fn rows_along_a_line_are_told_apart() -> Result<(), IndexError> {
    let mut random = Random(13);
    let (from, along) = (random.vector(100), random.vector(100));
    let on_line = |random: &mut Random| -> Vec<f32> {
        let at = random.float();
        let parts = from.iter().zip(&along).zip(random.vector(100));
        parts.map(|((from, along), noise)| from + at * along + 0.01 * noise).collect()
    };
    let vectors: Vec<_> = (0..4000).map(|_| on_line(&mut random)).collect();
    let (queries, vectors) = vectors.split_at(20);
    let source = Memory::new(vectors, 100);
    for metric in METRICS {
        for seed in 0..12 {
            let index = packed(metric, PackedConfig { seed, ..Default::default() }, &source)?;
            let recall = recall(&index, queries, &source, 10)?;
            println!("{metric:?} {seed}: {recall}");
            assert!(recall >= 0.99, "{metric:?} {seed}: {recall}");
        }
    }
    Ok(())
}

#[test]
fn filters_and_dead_rows_are_minded_on_every_path() -> Result<(), IndexError> {
    let mut random = Random(3);
    let vectors = clustered(&mut random, 4500, 96);
    let mut source = Memory::new(&vectors, 96);
    let indexes: Vec<PackedFlat> = METRICS
        .into_iter()
        .flat_map(|metric| [SURE, SURE_BITS].map(|config| packed(metric, config, &source)))
        .collect::<Result<_, _>>()?;
    // The rows die after they were coded, the nearest among them, and leave garbage behind.
    for row in (0..4500).filter(|row| row % 3 == 0) {
        let (piece, slot) = (row / source.piece_rows, row % source.piece_rows);
        source.pieces[piece][slot * source.stride..][..96].fill(f32::NAN);
        source.live.remove(RowId(row as u32));
    }
    for index in &indexes {
        for step in [1, 2, 3, 5, 13, 40, 300, 4499, 5000] {
            let allowed: RowSet = (1..4500).step_by(step).map(RowId).collect();
            let filter = index.prepare(&allowed);
            for query in [&vectors[0], &vectors[1]] {
                let expected =
                    search(index.metric(), query, &Filter::Rows(allowed.clone()), &source, 9)?;
                // Often enough that the codes are copied, but where every second row passes.
                for _ in 0..15 {
                    assert_eq!(find(index, query, &filter, &source, 9)?, expected, "{step}");
                }
            }
        }
        assert_eq!(find(index, &vectors[0], &Filter::Rows(RowSet::new()), &source, 9)?, []);
        let beyond = Filter::Rows(RowSet::range(RowId(4400), 1000));
        assert_eq!(find(index, &vectors[0], &beyond, &source, 999)?.len(), 67);
    }
    Ok(())
}

#[test]
fn rows_of_other_parts_are_not_found() -> Result<(), IndexError> {
    let mut random = Random(4);
    let source = Memory::new(&random.vectors(3000, 70), 70);
    let own: RowSet = (0..3000).filter(|row| row % 7 < 3).map(RowId).collect();
    for metric in METRICS {
        let index = PackedFlat::build(metric, SURE, &own, &source, &Job::with_threads(2))?;
        let query = random.vector(70);
        let expected = search(metric, &query, &Filter::Rows(own.clone()), &source, 20)?;
        let other = Filter::Rows(RowSet::range(RowId(0), 3000));
        assert_eq!(find(&index, &query, &Filter::All, &source, 20)?, expected);
        assert_eq!(find(&index, &query, &other, &source, 20)?, expected);
        let few = Filter::Rows(RowSet::range(RowId(3), 4));
        assert_eq!(find(&index, &query, &few, &source, 20)?, []);
    }
    Ok(())
}

#[test]
fn every_level_finds_the_same_rows() -> Result<(), IndexError> {
    let mut random = Random(5);
    let source = Memory::new(&random.vectors(2500, 100), 100);
    let values = random.vector(100);
    let mut scratch = Scratch::new();
    for metric in METRICS {
        let index = packed(metric, PackedConfig::default(), &source)?;
        let mut first = None;
        for table in SimdLevel::ALL.into_iter().filter_map(|level| Kernels::for_level(level).ok()) {
            let query = Query::with_kernels(metric, &values, table)?;
            let (mut top, mut hits) = (TopK::new(20), Vec::new());
            index.search(&query, &Filter::All, &source, &mut scratch, &mut top)?;
            top.finish(&query, &source, &mut hits);
            assert_eq!(first.get_or_insert_with(|| hits.clone()), &hits, "{:?}", table.level);
        }
    }
    Ok(())
}

#[test]
fn a_batch_finds_what_single_queries_find() -> Result<(), IndexError> {
    let mut random = Random(6);
    let vectors = clustered(&mut random, 9000, 80);
    let source = Memory::new(&vectors, 80);
    let index = packed(Metric::Euclidean, PackedConfig::default(), &source)?;
    let even: RowSet = (0..9000).step_by(2).map(RowId).collect();
    let few: RowSet = (0..9000).step_by(40).map(RowId).collect();
    let mut scratch = Scratch::new();
    for filter in [Filter::All, Filter::Rows(even), Filter::Rows(few)] {
        let values: Vec<_> = vectors.iter().step_by(120).cloned().collect();
        let queries: Result<Vec<_>, _> =
            values.iter().map(|values| Query::new(Metric::Euclidean, values)).collect();
        let queries = queries?;
        let mut tops: Vec<TopK> = (0..queries.len()).map(|index| TopK::new(index % 40)).collect();
        index.search_batch(&queries, &filter, &source, &mut scratch, &mut tops)?;
        for ((query, values), top) in queries.iter().zip(&values).zip(&mut tops) {
            let (k, mut hits) = (top.k(), Vec::new());
            top.finish(query, &source, &mut hits);
            assert_eq!(hits, find(&index, values, &filter, &source, k)?);
        }
    }
    Ok(())
}

#[test]
fn equal_rows_come_in_row_order() -> Result<(), IndexError> {
    let mut random = Random(7);
    let one = random.vector(90);
    let mut vectors = clustered(&mut random, 6000, 90);
    (5..6000).filter(|row| row % 3 != 0).for_each(|row| vectors[row].clone_from(&one));
    let source = Memory::new(&vectors, 90);
    for metric in METRICS {
        for refine in [true, false] {
            let config = PackedConfig { candidates: 50, refine, ..Default::default() };
            let index = packed(metric, config, &source)?;
            let expected = search(metric, &one, &Filter::All, &source, 30)?;
            assert_eq!(find(&index, &one, &Filter::All, &source, 30)?, expected, "{metric:?}");
        }
    }
    Ok(())
}

#[test]
fn vectors_that_no_code_fits_are_found() -> Result<(), IndexError> {
    let mut random = Random(8);
    let mut vectors = clustered(&mut random, 3000, 64);
    for (row, size) in [(10, 0.0), (700, 1e25), (1500, 1e-25), (2000, f32::MAX), (2999, 1e-40)] {
        vectors[row] = vec![size; 64];
    }
    let source = Memory::new(&vectors, 64);
    let filter = Filter::All;
    for metric in METRICS {
        for config in [SURE, SURE_BITS] {
            let index = packed(metric, config, &source)?;
            for size in [0.0, 1.0, -1.0, 1e25, 1e-25, f32::MAX, 1e-40] {
                let query = vec![size; 64];
                let expected = search(metric, &query, &filter, &source, 8)?;
                assert_eq!(find(&index, &query, &filter, &source, 8)?, expected, "{size}");
            }
        }
    }
    Ok(())
}

#[test]
fn further_rows_are_coded_as_if_they_had_come_with_the_first() -> Result<(), IndexError> {
    let mut random = Random(9);
    let vectors = clustered(&mut random, 10_000, 64);
    let source = Memory::new(&vectors, 64);
    let whole = packed(Metric::Cosine, SURE, &source)?;
    let first = PackedFlat::build(
        Metric::Cosine,
        SURE,
        &RowSet::range(RowId(0), 50),
        &source,
        &Job::default(),
    )?;
    let mut grown = first.clone();
    for end in [51, 51, 64, 4000, 4099, 4100, 9_999, 10_000] {
        grown = grown.extended(&RowSet::range(RowId(0), end), &source, &Job::with_threads(3))?;
        assert_eq!(grown.rows().len(), end as usize);
    }
    for query in [&vectors[30], &vectors[4099], &vectors[9_999]] {
        let expected = search(Metric::Cosine, query, &Filter::All, &source, 10)?;
        assert_eq!(find(&grown, query, &Filter::All, &source, 10)?, expected);
        assert!(rows(&find(&first, query, &Filter::All, &source, 10)?).iter().all(|&row| row < 50));
    }
    // No block is there twice, but for the one that the end of the first chunk cut.
    assert!(grown.bytes() <= whole.bytes() * 102 / 100, "{} {}", grown.bytes(), whole.bytes());
    let other = Memory::new(&random.vectors(10, 65), 65);
    let error = first.extended(&RowSet::range(RowId(0), 3), &other, &Job::default()).err();
    assert_eq!(error, Some(IndexError::Dimensions { query: 65, source: 64 }));
    Ok(())
}

#[test]
fn coding_stops_when_told_and_rests_without_another_result() -> Result<(), IndexError> {
    let source = Memory::new(&clustered(&mut Random(12), 12_000, 64), 64);
    for (threads, share) in [(1, 0.0), (1, 0.3), (3, 1.0)] {
        stop_at(share, threads, |job| {
            PackedFlat::build(Metric::Cosine, SURE, &all(&source), &source, job)
        });
    }
    let rests = Job { threads: 2, rests: true, ..Job::default() };
    let rested = PackedFlat::build(Metric::Cosine, SURE, &all(&source), &source, &rests)?;
    let tireless = packed(Metric::Cosine, SURE, &source)?;
    assert!(rested.export() == tireless.export());
    Ok(())
}

#[test]
fn an_empty_index_finds_nothing_and_grows() -> Result<(), IndexError> {
    let mut random = Random(10);
    let source = Memory::new(&random.vectors(100, 128), 128);
    let empty =
        PackedFlat::build(Metric::Euclidean, SURE, &RowSet::new(), &source, &Job::with_threads(4))?;
    let query = random.vector(128);
    assert_eq!(find(&empty, &query, &Filter::All, &source, 5)?, []);
    let grown = empty.extended(&all(&source), &source, &Job::with_threads(4))?;
    let expected = search(Metric::Euclidean, &query, &Filter::All, &source, 5)?;
    assert_eq!(find(&grown, &query, &Filter::All, &source, 5)?, expected);
    let short = find(&grown, &query[1..], &Filter::All, &source, 5).err();
    assert_eq!(short, Some(IndexError::Dimensions { query: 127, source: 128 }));
    Ok(())
}

#[test]
#[should_panic(expected = "a query has the metric of the index")]
fn a_query_of_another_metric_is_a_programmer_error() {
    let source = Memory::new(&[vec![1.0; 64]], 64);
    let index = packed(Metric::Euclidean, SURE, &source).unwrap();
    let query = Query::new(Metric::Cosine, &[1.0; 64]).unwrap();
    let (mut scratch, mut top) = (Scratch::new(), TopK::new(1));
    let _ = index.search(&query, &Filter::All, &source, &mut scratch, &mut top);
}
