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
#[should_panic(expected = "each query has a row")]
fn each_query_has_a_row() {
    let source = Memory::new(&[vec![0.0; WIDTH]], WIDTH);
    let queries = [Query::new(Metric::Euclidean, &[0.0; WIDTH]).expect("finite")];
    let all = RowSet::range(RowId(0), 1);
    drop(Sample::of_rows(&all, 1, &[], (&queries, &Filter::All, &source), &Job::default()));
}
