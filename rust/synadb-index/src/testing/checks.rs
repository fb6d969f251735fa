//! The checks. Each panics where an index is not as it must be, and returns what a build, a search
//! or an import returned where that was an error.
#![allow(clippy::missing_panics_doc, clippy::missing_errors_doc)] // Said above, once for all.

use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::vectors::{Vectors, grouped};
use super::{Bench, Kind, METRICS, Saved};
use crate::random::Random;
use crate::{IndexError, Job, SharedBytes, VectorSource};

const DIMENSIONS: usize = 40;
const ROWS: usize = 1200;
const QUERIES: usize = 30;
/// Operations of [`random_operations_are_followed`], and how many of them lie between two builds.
const OPERATIONS: usize = 4000;
const OPERATIONS_A_BUILD: usize = 700;

fn data() -> Vectors {
    Vectors::of(&grouped(1, 0, ROWS, DIMENSIONS))
}

fn queries() -> Vec<Vec<f32>> {
    grouped(1, 1, QUERIES, DIMENSIONS)
}

/// An index of no rows.
pub fn nothing_is_found_in_nothing(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = Vectors::new(DIMENSIONS);
        let mut bench = Bench::new(kind, metric, &source)?;
        assert!(bench.search(&[1.0; DIMENSIONS], None, 10)?.is_empty());
        let some = RowSet::range(RowId(0), 5);
        assert!(bench.search(&[0.0; DIMENSIONS], Some(&some), 10)?.is_empty());
    }
    Ok(())
}

/// An index of one row.
pub fn the_only_vector_is_found(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = Vectors::of(&grouped(1, 0, 1, DIMENSIONS));
        let mut bench = Bench::new(kind, metric, &source)?;
        for query in queries() {
            assert_eq!(bench.search(&query, None, 10)?.len(), 1);
            assert!(bench.search(&query, None, 0)?.is_empty());
        }
    }
    Ok(())
}

/// More are asked for than there are.
pub fn all_are_found_where_k_is_larger(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = data();
        let mut bench = Bench::new(kind, metric, &source)?;
        for k in [ROWS - 1, ROWS, ROWS + 1, 10 * ROWS] {
            assert_eq!(bench.search(&queries()[0], None, k)?.len(), k.min(ROWS));
        }
    }
    Ok(())
}

/// The share that the kind promises, for one, ten and a hundred.
pub fn the_nearest_are_found(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = data();
        for k in [1, 10, 100] {
            let mut bench = Bench::new(kind, metric, &source)?;
            for query in queries() {
                bench.search(&query, None, k)?;
            }
            let what = format!("{k} of {ROWS}");
            bench.expect(kind.floor(), &what);
            if k <= 10 {
                bench.expect_walks(kind, &what);
            }
        }
    }
    Ok(())
}

/// Each vector five times, then one vector as often as there are rows.
pub fn duplicates_are_kept_apart(kind: &dyn Kind) -> Result<(), IndexError> {
    let few = grouped(1, 0, ROWS / 5, DIMENSIONS);
    let one = vec![few[0].clone(); ROWS / 5];
    for rows in [[&few[..]; 5].concat(), one] {
        let source = Vectors::of(&rows);
        for metric in METRICS {
            let mut bench = Bench::new(kind, metric, &source)?;
            for query in queries().iter().chain(&rows[..QUERIES]) {
                bench.search(query, None, 10)?;
            }
            bench.expect(kind.floor(), "duplicates");
        }
    }
    Ok(())
}

/// Rows and queries without a direction.
pub fn zero_vectors_are_taken(kind: &dyn Kind) -> Result<(), IndexError> {
    let mut rows = grouped(1, 0, ROWS, DIMENSIONS);
    rows.iter_mut().step_by(20).for_each(|row| row.fill(0.0));
    let none = vec![vec![0.0; DIMENSIONS]; 100];
    for rows in [rows, none] {
        let source = Vectors::of(&rows);
        for metric in METRICS {
            let mut bench = Bench::new(kind, metric, &source)?;
            for query in queries() {
                bench.search(&query, None, 10)?;
            }
            bench.search(&[0.0; DIMENSIONS], None, 10)?;
            bench.expect(kind.floor(), "zero vectors");
            // Equal ones may share a node.
            if source.rows_end() as usize == ROWS {
                bench.expect_walks(kind, "zero vectors");
            }
        }
    }
    Ok(())
}

/// Every row has died since the build.
pub fn nothing_is_found_where_all_are_dead(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let mut source = data();
        let index = kind.build(metric, &source.all(), &source, &Job::default())?;
        source.live = RowSet::new();
        let mut bench = Bench::over(metric, index, &source);
        assert!(bench.search(&queries()[0], None, 10)?.is_empty());
        assert!(bench.search(&queries()[0], Some(&source.all()), ROWS)?.is_empty());
    }
    Ok(())
}

/// The nearest row dies, then nine rows of ten.
pub fn dead_rows_are_left_out(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let mut source = data();
        for query in queries() {
            let index = kind.build(metric, &source.all(), &source, &Job::default())?;
            let nearest = Bench::over(metric, index, &source).search(&query, None, 1)?[0].row;
            source.live.remove(nearest);
            if source.live.len() < ROWS - 5 {
                break;
            }
        }
        let index = kind.build(metric, &source.all(), &source, &Job::default())?;
        for row in (0..ROWS as u32).filter(|row| row % 10 != 3) {
            source.live.remove(RowId(row));
        }
        let mut bench = Bench::over(metric, index, &source);
        for query in queries() {
            bench.search(&query, None, 10)?;
        }
        bench.expect(kind.floor_where_it_is_hard(), "nine of ten rows dead");
    }
    Ok(())
}

/// A row that died and is live again, and one that came back behind the end and by a new build.
pub fn rows_come_back(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let mut source = data();
        let vector = source.row(RowId(7)).to_vec();
        let few = RowSet::range(RowId(0), ROWS as u32);
        source.live.remove(RowId(7));
        let index = kind.build(metric, &few, &source, &Job::default())?;
        let again = source.push(&vector);
        let some: RowSet = [RowId(7), RowId(8), again].into_iter().collect();
        let mut bench = Bench::over(metric, index, &source);
        assert_eq!(bench.search(&vector, Some(&some), 3)?.len(), 2, "beside the index");
        let rows: RowSet = source.live.iter().collect();
        let index = kind.build(metric, &rows, &source, &Job::default())?;
        source.live.insert(RowId(7));
        let mut bench = Bench::over(metric, index, &source);
        assert_eq!(bench.search(&vector, Some(&some), 3)?.len(), 2, "only what it was built of");
        let index = kind.build(metric, &source.all(), &source, &Job::default())?;
        let mut bench = Bench::over(metric, index, &source);
        assert_eq!(bench.search(&vector, Some(&some), 3)?.len(), 3, "built anew");
    }
    Ok(())
}

/// The row of a vector dies and another one comes: beside the index, then in one built anew.
pub fn a_replaced_vector_is_found_as_it_is_now(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let mut source = data();
        let before = source.row(RowId(7)).to_vec();
        // So long that nothing else is as near to it, also by the inner product.
        let after: Vec<f32> =
            grouped(6, 0, 1, DIMENSIONS)[0].iter().map(|value| 9.0 * value).collect();
        let index = kind.build(metric, &source.all(), &source, &Job::default())?;
        source.live.remove(RowId(7));
        let now = source.push(&after);
        let both: RowSet = [RowId(7), now].into_iter().collect();
        let anew = kind.build(metric, &source.all(), &source, &Job::default())?;
        for (index, what) in [(index, "beside the index"), (anew, "built anew")] {
            let mut bench = Bench::over(metric, index, &source);
            for query in [&before, &after] {
                let hits = bench.search(query, Some(&both), 10)?;
                assert_eq!(hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), [now], "{what}");
            }
            assert_eq!(bench.search(&after, None, 10)?[0].row, now, "{metric:?}: {what}");
            assert_eq!(bench.search(&before, None, ROWS)?.len(), ROWS, "{metric:?}: {what}");
        }
    }
    Ok(())
}

/// Filters that nothing, one row, few, many and all rows pass.
pub fn a_filter_is_heeded(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = data();
        let mut bench = Bench::new(kind, metric, &source)?;
        let beyond = RowSet::range(RowId(ROWS as u32), 50);
        assert!(bench.search(&queries()[0], Some(&RowSet::new()), 10)?.is_empty());
        assert!(bench.search(&queries()[0], Some(&beyond), 10)?.is_empty());
        for row in [0, 1, ROWS as u32 - 1] {
            let one = RowSet::range(RowId(row), 1);
            let hits = bench.search(&queries()[0], Some(&one), 10)?;
            assert_eq!(hits[0].row, RowId(row));
        }
        for step in [1, 2, 10, 150] {
            let some: RowSet = source.all().iter().step_by(step).collect();
            for query in queries() {
                bench.search(&query, Some(&some), 10)?;
            }
        }
        bench.expect(kind.floor(), "filters");
    }
    Ok(())
}

/// Thousands of insertions, deletions, replacements, searches and builds, in random order.
pub fn random_operations_are_followed(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let mut random = Random::new(9);
        let pool = grouped(2, 0, OPERATIONS, DIMENSIONS);
        let asked = grouped(2, 1, OPERATIONS, DIMENSIONS);
        let mut source = Vectors::of(&pool[..50]);
        let (mut found, mut wanted, mut walks) = (0, 0, 0);
        for round in 0..OPERATIONS / OPERATIONS_A_BUILD {
            let rows: RowSet = source.live.iter().collect();
            let mut index = Some(kind.build(metric, &rows, &source, &Job::default())?);
            let end = source.rows_end();
            for at in 0..OPERATIONS_A_BUILD {
                let number = round * OPERATIONS_A_BUILD + at;
                let some = RowId(random.below(source.rows_end() as usize) as u32);
                match random.below(10) {
                    0..4 => _ = source.push(&pool[number]),
                    4..6 => _ = source.live.remove(some),
                    6 => {
                        source.live.remove(some);
                        source.push(&pool[number]);
                    }
                    _ => {
                        let part = index.take().expect("the index is given back");
                        let mut bench = Bench { end, ..Bench::over(metric, part, &source) };
                        let filter = (at % 5 == 0)
                            .then(|| source.all().iter().filter(|row| row.0 % 3 == 0).collect());
                        bench.search(&asked[number], filter.as_ref(), 10)?;
                        (found, wanted) = (found + bench.found, wanted + bench.wanted);
                        walks += bench.walks;
                        index = Some(bench.index);
                    }
                }
            }
        }
        assert!(wanted > OPERATIONS, "searches were among them");
        assert!(walks > 0 || !kind.walks(), "{metric:?}: walks were among them");
        let (recall, floor) = (found as f64 / wanted as f64, kind.floor());
        assert!(recall >= floor, "{metric:?}, operations: recall {recall:.4}, floor {floor}");
    }
    Ok(())
}

fn shared(saved: &Saved) -> Vec<(&str, SharedBytes)> {
    let share = |(_, bytes): &(String, Vec<u8>)| Arc::new(bytes.clone()) as SharedBytes;
    saved.iter().map(|section| (section.0.as_str(), share(section))).collect()
}

/// Saved and opened, an index answers as before; without its sections it is refused.
pub fn a_saved_index_is_the_same(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        for source in [data(), Vectors::of(&grouped(1, 0, 1, DIMENSIONS)), Vectors::new(DIMENSIONS)]
        {
            let saved = kind.save(metric, &source.all(), &source, &Job::default())?;
            let Some(saved) = saved else { continue };
            let opened = kind.open(&shared(&saved), &source)?;
            assert_eq!(*opened.rows(), source.all());
            let mut after = Bench::over(metric, opened, &source);
            let mut before = Bench::new(kind, metric, &source)?;
            for query in queries() {
                let expected = before.search(&query, None, 10)?;
                assert_eq!(after.search(&query, None, 10)?, expected, "{metric:?}");
            }
            if source.rows_end() as usize == ROWS {
                after.expect_walks(kind, "saved");
            }
            assert!(kind.open(&[], &source).is_err(), "no sections");
        }
    }
    Ok(())
}

/// The same rows, configuration and seed give the same bytes, on one thread and on more.
pub fn a_seed_gives_the_same_bytes(kind: &dyn Kind) -> Result<(), IndexError> {
    let source = data();
    for metric in METRICS {
        let save = |threads| kind.save(metric, &source.all(), &source, &Job::with_threads(threads));
        let first = save(1)?;
        assert!(first == save(1)?, "{metric:?}: one thread, twice");
        assert!(first == save(3)?, "{metric:?}: three threads");
    }
    Ok(())
}

/// From two to 4,096 dimensions, multiples of a register's width and others.
pub fn any_dimensions_are_taken(kind: &dyn Kind) -> Result<(), IndexError> {
    for (dimensions, count) in
        [(2, 400), (3, 400), (7, 400), (31, 400), (64, 400), (129, 300), (1000, 150), (4096, 80)]
    {
        let source = Vectors::of(&grouped(3, 0, count, dimensions));
        for metric in METRICS {
            let mut bench = Bench::new(kind, metric, &source)?;
            for query in grouped(3, 1, 10, dimensions) {
                bench.search(&query, None, 10)?;
            }
            bench.expect(kind.floor(), &format!("{dimensions} dimensions"));
        }
    }
    Ok(())
}

/// So many of 200 dimensions that a kind which walks does so: it may have other codes of wide
/// vectors than of narrow ones.
pub fn many_wide_vectors_are_taken(kind: &dyn Kind) -> Result<(), IndexError> {
    let source = Vectors::of(&grouped(7, 0, 800, 200));
    for metric in METRICS {
        let mut bench = Bench::new(kind, metric, &source)?;
        for query in grouped(7, 1, QUERIES, 200) {
            bench.search(&query, None, 10)?;
        }
        bench.expect(kind.floor_where_it_is_hard(), "wide vectors");
        bench.expect_walks(kind, "wide vectors");
    }
    Ok(())
}

/// Half of the dimensions are the same in all rows: zero, or a large number.
pub fn constant_dimensions_are_taken(kind: &dyn Kind) -> Result<(), IndexError> {
    for constant in [0.0, 20.0] {
        let mut rows = grouped(4, 0, ROWS, DIMENSIONS);
        let mut asked = grouped(4, 1, QUERIES, DIMENSIONS);
        for vector in rows.iter_mut().chain(&mut asked) {
            vector[..DIMENSIONS / 2].fill(constant);
        }
        let source = Vectors::of(&rows);
        for metric in METRICS {
            let mut bench = Bench::new(kind, metric, &source)?;
            for query in &asked {
                bench.search(query, None, 10)?;
            }
            let what = format!("half of the dimensions at {constant}");
            bench.expect(kind.floor(), &what);
            bench.expect_walks(kind, &what);
        }
    }
    Ok(())
}

/// Lengths from a hundredth to a hundred, mixed; then all of one length far from one.
pub fn vectors_of_any_length_are_taken(kind: &dyn Kind) -> Result<(), IndexError> {
    let scales: [&[f32]; 3] = [&[0.01, 0.1, 1.0, 10.0, 100.0], &[1e-12], &[1e12]];
    for scales in scales {
        let mut rows = grouped(5, 0, ROWS, DIMENSIONS);
        for (row, scale) in rows.iter_mut().zip(scales.iter().cycle()) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        let source = Vectors::of(&rows);
        for metric in METRICS {
            let mut bench = Bench::new(kind, metric, &source)?;
            for (query, scale) in
                grouped(5, 1, QUERIES, DIMENSIONS).iter().zip(scales.iter().cycle())
            {
                let query: Vec<f32> = query.iter().map(|value| value * scale).collect();
                bench.search(&query, None, 10)?;
            }
            let what = format!("lengths {scales:?}");
            bench.expect(kind.floor(), &what);
            bench.expect_walks(kind, &what);
        }
    }
    Ok(())
}

/// Queries of another kind than the vectors: other groups, opposite, far away.
pub fn queries_from_elsewhere_are_answered(kind: &dyn Kind) -> Result<(), IndexError> {
    let source = data();
    for metric in METRICS {
        let mut bench = Bench::new(kind, metric, &source)?;
        for (other, mine) in grouped(77, 0, QUERIES, DIMENSIONS).iter().zip(queries()) {
            bench.search(other, None, 10)?;
            let opposite: Vec<f32> = mine.iter().map(|value| -value).collect();
            bench.search(&opposite, None, 10)?;
            let far: Vec<f32> = mine.iter().zip(other).map(|(a, b)| a + 20.0 * b).collect();
            bench.search(&far, None, 10)?;
        }
        bench.expect(kind.floor_where_it_is_hard(), "queries from elsewhere");
        bench.expect_walks(kind, "queries from elsewhere");
    }
    Ok(())
}

/// A query that does not fit is refused, and the index goes on.
pub fn a_query_of_other_dimensions_is_refused(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = data();
        let mut bench = Bench::new(kind, metric, &source)?;
        for query in [DIMENSIONS - 1, DIMENSIONS + 1] {
            let refused = bench.search(&vec![1.0; query], None, 10).err();
            assert_eq!(refused, Some(IndexError::Dimensions { query, source: DIMENSIONS }));
        }
        assert_eq!(bench.search(&queries()[0], None, 10)?.len(), 10);
    }
    Ok(())
}

/// A query with a component that is no finite number is refused, and its position named.
pub fn a_query_that_is_not_finite_is_refused(kind: &dyn Kind) -> Result<(), IndexError> {
    for metric in METRICS {
        let source = data();
        let mut bench = Bench::new(kind, metric, &source)?;
        for (position, value) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate()
        {
            let mut query = queries()[0].clone();
            query[position] = value;
            let refused = bench.search(&query, None, 10).err();
            assert_eq!(refused, Some(IndexError::NonFinite { position }));
        }
        assert_eq!(bench.search(&queries()[0], None, 10)?.len(), 10);
    }
    Ok(())
}
