//! The recall of a sample: rows are no neighbours of their own.

mod common;

use std::slice;

use common::{Memory, Random};
use synadb_index::{Filter, FlatIndex, IndexError, Job, Metric, Part, Query, Sample, Searching};
use synadb_types::{RowId, RowSet};

const WIDTH: usize = 8;

#[test]
fn a_row_is_none_of_its_neighbours() -> Result<(), IndexError> {
    let mut random = Random(7);
    let vectors: Vec<Vec<f32>> =
        (0..200).map(|_| (0..WIDTH).map(|_| random.float()).collect()).collect();
    let source = Memory::new(&vectors, WIDTH);
    let all = RowSet::range(RowId(0), 200);
    let own: Vec<RowId> = (0..200).step_by(2).map(RowId).collect();
    let query = |row: &RowId| Query::new(Metric::Euclidean, &vectors[row.0 as usize]);
    let queries = own.iter().map(query).collect::<Result<Vec<_>, _>>()?;
    let flat = FlatIndex::new(all.clone());
    let exact: Searching<'_> =
        &|query, filter, source, scratch, top| flat.search(query, filter, source, scratch, top);
    // The nearest row of each is itself.
    let nearest: Searching<'_> = &|query, filter, source, scratch, top| {
        let mut one = synadb_index::TopK::new(1);
        flat.search_batch(
            slice::from_ref(query),
            filter,
            source,
            scratch,
            slice::from_mut(&mut one),
        )?;
        let mut hits = Vec::new();
        one.finish(query, source, &mut hits);
        let found = FlatIndex::new(hits.iter().map(|hit| hit.row).collect());
        found.search(query, filter, source, scratch, top)
    };
    let of = (&*queries, &Filter::All, &source as &dyn synadb_index::VectorSource);
    for threads in [1, 2] {
        let job = Job::with_threads(threads);
        for k in [1, 5, 199, 500] {
            let sample = Sample::of_rows(&all, k, &own, of, &job)?;
            assert!(sample.recall(exact)? >= 1.0 && sample.recall(nearest)? <= 0.0);
        }
        let sample = Sample::new(&all, 4, of, &job)?;
        assert!(sample.recall(exact)? >= 1.0);
        assert!((sample.recall(nearest)? - 0.25).abs() < 1e-9);
    }
    Ok(())
}

#[test]
fn rows_that_are_equal_to_its_own_are_none_of_its_neighbours() -> Result<(), IndexError> {
    const COPIES: u32 = 40;
    let mut random = Random(8);
    let vectors: Vec<Vec<f32>> =
        (0..50).map(|_| (0..WIDTH).map(|_| random.float()).collect()).collect();
    let rows: Vec<Vec<f32>> = vectors
        .iter()
        .flat_map(|vector| std::iter::repeat_n(vector.clone(), COPIES as usize))
        .collect();
    let source = Memory::new(&rows, WIDTH);
    let all = RowSet::range(RowId(0), 50 * COPIES);
    let own: Vec<RowId> = (0..50).map(|n| RowId(n * COPIES + n % COPIES)).collect();
    let flat = FlatIndex::new(all.clone());
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let query = |row: &RowId| Query::new(metric, &rows[row.0 as usize]);
        let queries = own.iter().map(query).collect::<Result<Vec<_>, _>>()?;
        let exact: Searching<'_> =
            &|query, filter, source, scratch, top| flat.search(query, filter, source, scratch, top);
        let copies: Searching<'_> = &|query, filter, source, scratch, top| {
            let mut equal = synadb_index::TopK::new(COPIES as usize);
            flat.search(query, filter, source, scratch, &mut equal)?;
            let mut hits = Vec::new();
            equal.finish(query, source, &mut hits);
            let found = FlatIndex::new(hits.iter().map(|hit| hit.row).collect());
            found.search(query, filter, source, scratch, top)
        };
        let of = (&*queries, &Filter::All, &source as &dyn synadb_index::VectorSource);
        for (threads, k) in [(1, 1), (2, 10), (1, 100), (2, 5000)] {
            let job = Job::with_threads(threads);
            let sample = Sample::of_rows(&all, k, &own, of, &job)?;
            assert!(sample.recall(exact)? >= 1.0 && sample.recall(copies)? <= 0.0, "{k}");
            let sample = Sample::among_rows(&all, k, &own, of, &job)?;
            let wanted = k.min(49 * COPIES as usize + 1) as f64;
            assert!(sample.recall(exact)? >= 1.0);
            assert!((sample.recall(copies)? - 1.0 / wanted).abs() < 1e-9, "{k}");
        }
    }
    Ok(())
}

#[test]
#[should_panic(expected = "each query has a row")]
fn each_query_has_a_row() {
    let source = Memory::new(&[vec![0.0; WIDTH]], WIDTH);
    let queries = [Query::new(Metric::Euclidean, &[0.0; WIDTH]).expect("finite")];
    let all = RowSet::range(RowId(0), 1);
    drop(Sample::of_rows(&all, 1, &[], (&queries, &Filter::All, &source), &Job::default()));
}
