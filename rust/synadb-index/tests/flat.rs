//! The flat index against the naive search.

mod common;

use common::{Memory, Random, naive, rows, search};
use synadb_index::{
    Filter, FlatIndex, Hit, IndexError, Kernels, Metric, Part, Query, Scratch, SimdLevel, TopK,
    VectorSource, inverse_norm, search_batch, search_exactly, search_tail,
};
use synadb_types::{RowId, RowSet};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];

/// Kills a row and leaves garbage in its slot.
fn kill(source: &mut Memory, row: u32, garbage: f32) {
    let (piece, slot) = (row as usize / source.piece_rows, row as usize % source.piece_rows);
    source.pieces[piece][slot * source.stride..][..source.dimensions].fill(garbage);
    source.inverse_norms[row as usize] = inverse_norm(&[garbage]);
    source.live.remove(RowId(row));
}

fn assert_same(found: &[Hit], expected: &[(RowId, f64)]) {
    let expected_rows: Vec<u32> = expected.iter().map(|(row, _)| row.0).collect();
    assert_eq!(rows(found), expected_rows);
    for (hit, (_, distance)) in found.iter().zip(expected) {
        let tolerance = f64::from(f32::EPSILON) * distance.abs() + 1e-15;
        assert!((f64::from(hit.score) - distance).abs() <= tolerance, "{hit:?} {distance}");
    }
}

#[test]
fn finds_what_the_naive_search_finds() -> Result<(), IndexError> {
    let mut random = Random(1);
    for (dimensions, count) in [(1, 40), (6, 300), (17, 500), (384, 1000), (1000, 100)] {
        let vectors = random.vectors(count, dimensions);
        let source = Memory::new(&vectors, dimensions);
        for metric in METRICS {
            for k in [0, 1, 10, 99, count, count + 50, usize::MAX] {
                let query = random.vector(dimensions);
                let found = search(metric, &query, &Filter::All, &source, k)?;
                if dimensions == 1 && metric == Metric::Cosine {
                    // Every distance is 0 or 2 but for the last bits, so only the scores compare.
                    assert_eq!(found.len(), k.min(count));
                    continue;
                }
                assert_same(&found, &naive(metric, &query, &vectors, |_| true, k));
            }
        }
    }
    Ok(())
}

#[test]
fn every_level_finds_the_same() -> Result<(), IndexError> {
    let mut random = Random(2);
    let vectors = random.vectors(700, 100);
    let source = Memory::new(&vectors, 100);
    let values = random.vector(100);
    for table in SimdLevel::ALL.into_iter().filter_map(|level| Kernels::for_level(level).ok()) {
        for metric in METRICS {
            let query = Query::with_kernels(metric, &values, table)?;
            let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(20), Vec::new());
            search_tail(0..700, &query, &Filter::All, &source, &mut scratch, &mut top)?;
            top.finish(&query, &source, &mut hits);
            assert_same(&hits, &naive(metric, &values, &vectors, |_| true, 20));
        }
    }
    Ok(())
}

#[test]
fn duplicates_come_in_row_order() -> Result<(), IndexError> {
    let mut random = Random(3);
    let one = random.vector(50);
    let mut vectors = random.vectors(600, 50);
    for row in (5..600).step_by(3) {
        vectors[row] = one.clone();
    }
    let source = Memory::new(&vectors, 50);
    for metric in METRICS {
        let hits = search(metric, &one, &Filter::All, &source, 30)?;
        assert_eq!(rows(&hits), (5..95).step_by(3).collect::<Vec<u32>>());
        assert!(metric == Metric::DotProduct || hits.iter().all(|hit| hit.score == 0.0));
    }
    Ok(())
}

#[test]
fn zero_vectors_are_at_cosine_distance_one() -> Result<(), IndexError> {
    let vectors = [vec![0.0, 0.0], vec![1.0, 0.0], vec![-1.0, 0.0], vec![0.0, 0.0]];
    let source = Memory::new(&vectors, 2);
    let hits = search(Metric::Cosine, &[2.0, 0.0], &Filter::All, &source, 4)?;
    let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
    assert_eq!((rows(&hits), scores), (vec![1, 0, 3, 2], vec![0.0, 1.0, 1.0, 2.0]));
    let hits = search(Metric::Cosine, &[0.0, 0.0], &Filter::All, &source, 4)?;
    assert_eq!(rows(&hits), [0, 1, 2, 3]);
    assert!(hits.iter().all(|hit| hit.score == 1.0));
    Ok(())
}

#[test]
fn dead_rows_with_garbage_neither_appear_nor_disturb() -> Result<(), IndexError> {
    let mut random = Random(4);
    let vectors = random.vectors(300, 33);
    let mut source = Memory::new(&vectors, 33);
    for row in (0..300).step_by(2) {
        let garbage = [f32::NAN, f32::INFINITY, 0.0, f32::MAX, 1e-42];
        kill(&mut source, row, garbage[row as usize / 2 % garbage.len()]);
    }
    for metric in METRICS {
        for query in [random.vector(33), vec![0.0; 33]] {
            let found = search(metric, &query, &Filter::All, &source, 20)?;
            let live = |row: RowId| row.0 % 2 == 1;
            assert_same(&found, &naive(metric, &query, &vectors, live, 20));
            assert_eq!(search(metric, &query, &Filter::All, &source, 400)?.len(), 150);
        }
    }
    Ok(())
}

#[test]
fn filters_of_every_density_are_exact() -> Result<(), IndexError> {
    let mut random = Random(5);
    let vectors = random.vectors(1000, 24);
    let mut source = Memory::new(&vectors, 24);
    kill(&mut source, 500, f32::NAN);
    let index = FlatIndex::new(RowSet::range(RowId(100), 800));
    for part_of in [1, 2, 5, 6, 50, 400, 100_000] {
        let allowed: RowSet =
            (0..1000).filter(|_| random.next().is_multiple_of(part_of)).map(RowId).collect();
        let query = random.vector(24);
        for metric in METRICS {
            let expected = |row| allowed.contains(row) && row != RowId(500);
            let filter = Filter::Rows(allowed.clone());
            let found = search(metric, &query, &filter, &source, 15)?;
            assert_same(&found, &naive(metric, &query, &vectors, expected, 15));

            let in_part = |row| expected(row) && index.rows().contains(row);
            let prepared = Query::new(metric, &query)?;
            for filter in [index.prepare(&allowed), filter] {
                let (mut top, mut hits) = (TopK::new(15), Vec::new());
                index.search(&prepared, &filter, &source, &mut Scratch::new(), &mut top)?;
                top.finish(&prepared, &source, &mut hits);
                assert_same(&hits, &naive(metric, &query, &vectors, in_part, 15));
            }
        }
    }
    Ok(())
}

#[test]
fn filters_of_no_row_and_one_row() -> Result<(), IndexError> {
    let mut random = Random(6);
    let source = Memory::new(&random.vectors(200, 8), 8);
    let query = random.vector(8);
    for metric in METRICS {
        let none = Filter::Rows(RowSet::new());
        assert_eq!(search(metric, &query, &none, &source, 5)?, []);
        let one = Filter::Rows([RowId(123)].into_iter().collect());
        assert_eq!(rows(&search(metric, &query, &one, &source, 5)?), [123]);
        let beyond = Filter::Rows([RowId(200), RowId(70_000)].into_iter().collect());
        assert_eq!(search(metric, &query, &beyond, &source, 5)?, []);
    }
    Ok(())
}

#[test]
fn part_and_tail_together_are_the_whole() -> Result<(), IndexError> {
    let mut random = Random(7);
    let vectors = random.vectors(900, 40);
    let source = Memory::new(&vectors, 40);
    let index = FlatIndex::new(RowSet::range(RowId(0), 555));
    let values = random.vector(40);
    for metric in METRICS {
        let query = Query::new(metric, &values)?;
        let (mut scratch, mut top, mut hits) = (Scratch::new(), TopK::new(25), Vec::new());
        index.search(&query, &Filter::All, &source, &mut scratch, &mut top)?;
        search_tail(555..u32::MAX, &query, &Filter::All, &source, &mut scratch, &mut top)?;
        top.finish(&query, &source, &mut hits);
        assert_same(&hits, &naive(metric, &values, &vectors, |_| true, 25));
    }
    Ok(())
}

#[test]
fn a_batch_finds_what_its_queries_find_alone() -> Result<(), IndexError> {
    let mut random = Random(8);
    let vectors = random.vectors(800, 70);
    let source = Memory::new(&vectors, 70);
    let values = random.vectors(9, 70);
    let metric = |index: usize| METRICS[index % 3];
    let queries = values.iter().enumerate().map(|(index, value)| Query::new(metric(index), value));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    let mut tops: Vec<TopK> = (0..queries.len()).map(|index| TopK::new(index * 3)).collect();
    search_batch(0..800, &queries, &Filter::All, &source, &mut Scratch::new(), &mut tops)?;
    for (index, (query, top)) in queries.iter().zip(&mut tops).enumerate() {
        let mut hits = Vec::new();
        top.finish(query, &source, &mut hits);
        assert_eq!(hits, search(metric(index), &values[index], &Filter::All, &source, index * 3)?);
        assert_eq!(hits.len(), index * 3);
    }
    Ok(())
}

#[test]
fn a_query_of_other_dimensions_is_refused() -> Result<(), IndexError> {
    let source = Memory::new(&[vec![1.0, 2.0]], 2);
    let error = search(Metric::Euclidean, &[1.0], &Filter::All, &source, 1).err();
    assert_eq!(error, Some(IndexError::Dimensions { query: 1, source: 2 }));
    Ok(())
}

#[test]
fn gather_copies_vectors_side_by_side() {
    let mut random = Random(9);
    let vectors = random.vectors(100, 5);
    let source = Memory::new(&vectors, 5);
    let mut out = vec![0.0; 15];
    source.gather(&[RowId(99), RowId(0), RowId(50)], &mut out);
    assert_eq!(out, [&*vectors[99], &*vectors[0], &*vectors[50]].concat());
}

#[test]
fn rows_that_fast_keys_cannot_order_are_found_exactly() -> Result<(), IndexError> {
    let mut random = Random(23);
    for dimensions in [3, 100, 384] {
        for metric in METRICS {
            // Rows that differ in their last bits, of length 3 for the inner product, among others.
            let base = random.vector(dimensions);
            let mut vectors = random.vectors(300, dimensions);
            for _ in 0..700 {
                let near = base.iter().map(|&value| value * (1.0 + 4e-7 * random.float()));
                vectors.push(near.collect());
            }
            let source = Memory::new(&vectors, dimensions);
            let rest = random.vector(dimensions);
            let query: Vec<f32> = base.iter().zip(rest).map(|(a, b)| a + 0.3 * b).collect();
            let (even, end) = (|row: RowId| row.0.is_multiple_of(2), vectors.len() as u32);
            let half = Filter::Rows((0..end).map(RowId).filter(|row| even(*row)).collect());
            let prepared = [Query::new(metric, &query)?];
            let mut scratch = Scratch::new();
            for (filter, expected) in [
                (&Filter::All, naive(metric, &query, &vectors, |_| true, 10)),
                (&half, naive(metric, &query, &vectors, even, 10)),
            ] {
                let expected: Vec<u32> = expected.iter().map(|(row, _)| row.0).collect();
                let mut top = [TopK::new(10)];
                search_exactly(0..end, &prepared, filter, &source, &mut scratch, &mut top)?;
                let (mut found, [top]) = (Vec::new(), &mut top);
                top.finish(&prepared[0], &source, &mut found);
                assert_eq!(rows(&found), expected, "{metric:?}, {dimensions} dimensions");
                let index = FlatIndex::new(RowSet::range(RowId(0), end));
                index.search(&prepared[0], filter, &source, &mut scratch, top)?;
                found.clear();
                top.finish(&prepared[0], &source, &mut found);
                assert_eq!(rows(&found), expected, "{metric:?}, {dimensions} dimensions");
            }
        }
    }
    Ok(())
}

#[test]
fn rows_of_other_parts_are_not_lost_where_keys_do_not_tell() -> Result<(), IndexError> {
    let source = Memory::new(&vec![vec![0.5; 24]; 128], 24);
    let index = FlatIndex::new(RowSet::range(RowId(64), 64));
    for metric in METRICS {
        let query = Query::new(metric, &[0.5; 24])?;
        for filter in [Filter::All, Filter::Rows(RowSet::range(RowId(0), 64))] {
            // Another part has found more equal rows than are kept.
            let mut top = TopK::new(10);
            for row in 0..64 {
                top.offer(RowId(row), query.exact_key(&[0.5; 24]));
            }
            index.search(&query, &filter, &source, &mut Scratch::default(), &mut top)?;
            let mut hits = Vec::new();
            top.finish(&query, &source, &mut hits);
            assert_eq!(hits.len(), 10, "{metric:?}");
            assert!(hits.iter().all(|hit| hit.score == hits[0].score), "{metric:?}");
        }
    }
    Ok(())
}
