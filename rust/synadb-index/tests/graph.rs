//! The graph index against the naive search.

mod common;

use std::cell::Cell;

use common::graph::{EF, METRICS, all, build, clustered, compare, find, recall};
use common::{Memory, Random, naive, rows, stop_at};
use synadb_index::{
    Filter, HnswConfig, HnswIndex, IndexError, Job, Metric, Part, Query, Scratch, TopK,
};
use synadb_types::{RowId, RowSet};

#[test]
fn recall_has_a_floor_in_all_dimensions_and_metrics() -> Result<(), IndexError> {
    let mut random = Random(1);
    for dimensions in [1, 2, 17, 49, 100, 193, 384] {
        let vectors = clustered(&mut random, 2000, dimensions);
        let source = Memory::new(&vectors, dimensions);
        let queries = clustered(&mut random, 25, dimensions);
        for metric in METRICS {
            // On a line every cosine is 1 or -1, and any ten rows are as good as any other.
            if dimensions == 1 && metric == Metric::Cosine {
                continue;
            }
            let index = build(metric, &source)?;
            let recall = recall(&index, &queries, &vectors, &Filter::All, &source)?;
            assert!(recall >= 0.95, "{metric:?} {dimensions} {recall}");
        }
    }
    Ok(())
}

#[test]
fn a_far_offset_and_any_scale_keep_the_recall() -> Result<(), IndexError> {
    let mut random = Random(2);
    let plain = clustered(&mut random, 2000, 64);
    let queries = clustered(&mut random, 20, 64);
    for (offset, scale) in [(100.0, 1.0), (0.0, 1e-20), (0.0, 1e18)] {
        let place = |vector: &Vec<f32>| -> Vec<f32> {
            vector.iter().map(|value| (value + offset) * scale).collect()
        };
        let vectors: Vec<Vec<f32>> = plain.iter().map(place).collect();
        let queries: Vec<Vec<f32>> = queries.iter().map(place).collect();
        let source = Memory::new(&vectors, 64);
        let index = build(Metric::Euclidean, &source)?;
        let recall = recall(&index, &queries, &vectors, &Filter::All, &source)?;
        assert!(recall >= 0.95, "{offset} {scale} {recall}");
    }
    Ok(())
}

#[test]
fn small_stores_are_searched_in_full() -> Result<(), IndexError> {
    let mut random = Random(3);
    for count in [0, 1, 2, 33, 200] {
        let vectors = clustered(&mut random, count, 70);
        let source = Memory::new(&vectors, 70);
        for metric in METRICS {
            let index = build(metric, &source)?;
            assert_eq!(index.rows().len(), count);
            let query = random.vector(70);
            for k in [0, 1, count, count + 5, usize::MAX] {
                let hits = find(&index, &query, &Filter::All, &source, k)?;
                let truth = naive(metric, &query, &vectors, |_| true, k);
                let truth: Vec<u32> = truth.iter().map(|(row, _)| row.0).collect();
                assert!(hits.len() == k.min(count), "{k} of {count}");
                assert!(k < count || rows(&hits) == truth, "{metric:?} {k} of {count}");
            }
        }
    }
    Ok(())
}

#[test]
fn dead_rows_are_passed_through() -> Result<(), IndexError> {
    let mut random = Random(4);
    let vectors = clustered(&mut random, 8000, 200);
    let queries = clustered(&mut random, 20, 200);
    let mut source = Memory::new(&vectors, 200);
    let index = build(Metric::Euclidean, &source)?;
    // A queue of the usual length finds enough of one in two, and a longer one of one in four.
    for (share, scanned) in [(2, false), (4, false), (100, true), (4000, true)] {
        source.live = (0..8000).filter(|row| row % share == 0).map(RowId).collect();
        let found = compare(&index, &queries, &vectors, &Filter::All, &source)?;
        assert!(found.recall >= 0.9, "one in {share} lives: {}", found.recall);
        let live = source.live.len() as u64 * 20;
        let scans = found.distances >= live && found.distances < live + 8000 * 20;
        assert!(!scanned || scans, "one in {share} lives: {}", found.distances);
        assert!(scanned || found.distances < 8000 * 20, "{}", found.distances);
    }
    source.live = RowSet::new();
    assert_eq!(find(&index, &queries[0], &Filter::All, &source, 10)?, []);
    Ok(())
}

#[test]
fn rows_that_are_dead_already_stay_out() -> Result<(), IndexError> {
    let mut random = Random(5);
    let mut vectors = clustered(&mut random, 300, 50);
    (0..300).step_by(2).for_each(|row| vectors[row].fill(f32::NAN));
    let mut source = Memory::new(&vectors, 50);
    source.live = (1..300).step_by(2).map(RowId).collect();
    let index = build(Metric::Cosine, &source)?;
    assert_eq!(index.rows(), &source.live);
    assert_eq!(find(&index, &vectors[7], &Filter::All, &source, 1)?[0].row, RowId(7));
    Ok(())
}

#[test]
fn filters_of_every_density_are_kept() -> Result<(), IndexError> {
    let mut random = Random(6);
    let vectors = clustered(&mut random, 6000, 200);
    let queries = clustered(&mut random, 15, 200);
    let source = Memory::new(&vectors, 200);
    let config = HnswConfig::default().ef_search(20);
    let job = Job::default();
    let index = HnswIndex::build(Metric::Cosine, &all(&source), &source, config, &job)?;
    for part_of in [2, 10, 100, 3000, 1_000_000] {
        let some: RowSet =
            (0..6500).filter(|_| random.next().is_multiple_of(part_of)).map(RowId).collect();
        let filters = [index.prepare(&some), Filter::Rows(some)];
        for filter in filters {
            let found = compare(&index, &queries, &vectors, &filter, &source)?;
            assert_eq!(found.steps > 0, part_of == 2, "one in {part_of}");
            // Nothing is to be found where no row passes.
            let recall = found.recall;
            assert!(recall.is_nan() || recall >= 0.9, "one in {part_of}: {recall}");
        }
    }
    Ok(())
}

#[test]
fn a_filter_that_passes_far_rows_alone_is_kept() -> Result<(), IndexError> {
    let mut random = Random(13);
    let vectors = clustered(&mut random, 6000, 100);
    let source = Memory::new(&vectors, 100);
    let index = build(Metric::Euclidean, &source)?;
    for query in clustered(&mut random, 10, 100) {
        // The farther half: no walk towards the query meets any of it.
        let order = naive(Metric::Euclidean, &query, &vectors, |_| true, 6000);
        let far = Filter::Rows(order[3000..].iter().map(|&(row, _)| row).collect());
        let found = compare(&index, std::slice::from_ref(&query), &vectors, &far, &source)?;
        assert!(found.recall >= 0.9, "{}", found.recall);
    }
    Ok(())
}

#[test]
fn equal_vectors_do_not_shut_out_the_others() -> Result<(), IndexError> {
    let mut random = Random(7);
    let mut vectors = clustered(&mut random, 3000, 60);
    let one = vectors[3].clone();
    (300..900).for_each(|row| vectors[row].clone_from(&one));
    vectors[950].fill(0.0);
    vectors[951].fill(0.0);
    let source = Memory::new(&vectors, 60);
    for metric in METRICS {
        let index = build(metric, &source)?;
        assert_eq!((index.rows().len(), index.nodes()), (3000, 2399));
        let queries = clustered(&mut random, 20, 60);
        let distinct = Filter::Rows((0..300).chain(900..3000).map(RowId).collect());
        let recall = recall(&index, &queries, &vectors, &distinct, &source)?;
        assert!(recall >= 0.95, "{metric:?} {recall}");
        if metric != Metric::DotProduct {
            let expected: Vec<u32> = [3].into_iter().chain(300..319).collect();
            assert_eq!(rows(&find(&index, &one, &Filter::All, &source, 20)?), expected);
        }
    }
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_bytes() -> Result<(), IndexError> {
    let mut random = Random(8);
    let source = Memory::new(&clustered(&mut random, 1200, 200), 200);
    let bytes = |seed, threads| {
        let config = HnswConfig::default().seed(seed);
        let job = Job::with_threads(threads);
        let index = HnswIndex::build(Metric::Cosine, &all(&source), &source, config, &job)?;
        let sections = index.export().into_iter().map(|(name, bytes)| (name, bytes.into_owned()));
        Ok::<Vec<_>, IndexError>(sections.collect())
    };
    assert_eq!(bytes(1, 1)?, bytes(1, 1)?);
    assert_eq!(bytes(1, 1)?, bytes(1, 3)?);
    assert_ne!(bytes(1, 1)?, bytes(2, 1)?);
    Ok(())
}

#[test]
fn a_build_stops_when_told_and_reports_how_far_it_is() -> Result<(), IndexError> {
    let mut random = Random(9);
    let source = Memory::new(&clustered(&mut random, 1500, 64), 64);
    let config = HnswConfig::default();
    for (threads, share) in [(1, 0.0), (1, 0.3), (3, 0.6), (1, 0.8), (1, 1.0)] {
        let last = stop_at(share, threads, |job| {
            HnswIndex::build(Metric::Cosine, &all(&source), &source, config, job)
        });
        assert!(last < share + 0.3, "{last} is far behind {share}");
    }
    let last = Cell::new(0.0);
    let progress = |share| last.set(share);
    let job = Job { threads: 2, progress: Some(&progress), ..Job::default() };
    HnswIndex::build(Metric::Cosine, &all(&source), &source, config, &job)?;
    assert_eq!(last.get(), 1.0);
    Ok(())
}

#[test]
fn two_parts_and_new_rows_become_one() -> Result<(), IndexError> {
    let mut random = Random(10);
    let vectors = clustered(&mut random, 3000, 200);
    let queries = clustered(&mut random, 20, 200);
    let mut source = Memory::new(&vectors, 200);
    let (config, job) = (HnswConfig::default().ef_search(EF), Job::default());
    for metric in METRICS {
        source.live = RowSet::range(RowId(0), 3000);
        let part = |first, count| {
            let rows = RowSet::range(RowId(first), count);
            HnswIndex::build(metric, &rows, &source, config, &job)
        };
        let (left, right) = (part(0, 1400)?, part(1400, 1200)?);
        (0..3000).step_by(7).for_each(|row| {
            source.live.remove(RowId(row));
        });
        let tail = RowSet::range(RowId(2600), 400);
        let merged = HnswIndex::merge(metric, &[&left, &right], &tail, &source, config, &job)?;
        assert_eq!(merged.rows(), &source.live);
        let recall = recall(&merged, &queries, &vectors, &Filter::All, &source)?;
        let floor = if metric == Metric::DotProduct { 0.9 } else { 0.95 };
        assert!(recall >= floor, "{metric:?} {recall}");
    }
    Ok(())
}

#[test]
fn a_batch_finds_what_its_queries_find_alone() -> Result<(), IndexError> {
    let mut random = Random(11);
    let source = Memory::new(&clustered(&mut random, 2000, 200), 200);
    let index = build(Metric::Euclidean, &source)?;
    let values = clustered(&mut random, 21, 200);
    let queries = values.iter().map(|values| Query::new(Metric::Euclidean, values));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    for threads in [0, 1, 4, 100] {
        let mut tops: Vec<TopK> = queries.iter().map(|_| TopK::new(10)).collect();
        let ef = index.config().ef_search;
        index.search_batch(&queries, &Filter::All, &source, &mut tops, ef, threads)?;
        for ((query, values), top) in queries.iter().zip(&values).zip(&mut tops) {
            let mut hits = Vec::new();
            top.finish(query, &source, &mut hits);
            assert_eq!(hits, find(&index, values, &Filter::All, &source, 10)?);
        }
    }
    Ok(())
}

#[test]
fn a_query_of_other_dimensions_is_refused() -> Result<(), IndexError> {
    let mut random = Random(12);
    let source = Memory::new(&random.vectors(40, 8), 8);
    let index = build(Metric::Cosine, &source)?;
    let error = find(&index, &[1.0; 7], &Filter::All, &source, 1).err();
    assert_eq!(error, Some(IndexError::Dimensions { query: 7, source: 8 }));
    Ok(())
}

#[test]
fn scores_are_exact_whether_few_rows_are_compared_or_many() -> Result<(), IndexError> {
    let mut random = Random(13);
    let mut vectors = clustered(&mut random, 3000, 70);
    (vectors[5], vectors[6]) = (vec![0.0; 70], vec![1e-40; 70]);
    let source = Memory::new(&vectors, 70);
    let (mut few, mut many) = (0, 0);
    for metric in METRICS {
        let index = build(metric, &source)?;
        // What is kept of ten are twenty.
        for (query, ef) in [(7, 40), (7, 400), (5, 40), (5, 400), (6, 40), (6, 400)] {
            let query = Query::new(metric, &vectors[query])?;
            let (mut top, mut hits, mut scratch) = (TopK::new(10), Vec::new(), Scratch::default());
            index.search_with_ef(&query, &Filter::All, &source, &mut scratch, &mut top, ef)?;
            if scratch.take_counts().rows > 20 {
                many += 1
            } else {
                few += 1
            }
            top.finish(&query, &source, &mut hits);
            assert_eq!(hits.len(), 10);
            for hit in &hits {
                let exact = query.score(query.exact_key(&vectors[hit.row.0 as usize]));
                assert_eq!(hit.score.to_bits(), exact.to_bits(), "{metric:?} {ef} {hit:?}");
            }
            assert!(hits.windows(2).all(|two| two[0].score <= two[1].score));
        }
    }
    assert!(few > 0 && many > 0, "{few} {many}");
    Ok(())
}
