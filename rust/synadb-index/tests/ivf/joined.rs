//! Several inverted files in the same cells as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use synadb_index::{Section, SharedCells};

use super::*;

const COUNT: u32 = 3000;
const DIMENSIONS: usize = 48;

fn vectors() -> Vec<Vec<f32>> {
    clustered(11, COUNT as usize, DIMENSIONS, 30)
}

fn cells(codes: IvfCodes, metric: Metric, source: &Memory) -> Result<Arc<SharedCells>, IndexError> {
    let config = IvfConfig { second: false, ..config(codes, 32) };
    let all = RowSet::range(RowId(0), source.rows_end());
    SharedCells::of(metric, &config, &all, source, &Job::default()).map(Arc::new)
}

/// Every part of an index but the radii of its cells.
fn sections(index: &IvfIndex) -> Vec<Section<'_>> {
    index.export().into_iter().filter(|section| section.0 != "ivf.radii").collect()
}

/// One file of all that is kept of some.
fn joined(parts: &[(&IvfIndex, &Filter)]) -> Option<IvfIndex> {
    IvfIndex::joined(parts, &Job::default()).expect("nobody ends it")
}

fn picked(pick: impl Fn(u32) -> bool) -> RowSet {
    (0..COUNT).filter(|&row| pick(row)).map(RowId).collect()
}

#[test]
fn a_joined_file_is_what_one_build_of_all_rows_makes() -> Result<(), IndexError> {
    let source = Memory::new(&vectors(), DIMENSIONS);
    for metric in METRICS {
        let cells = cells(IvfCodes::Bits, metric, &source)?;
        let build = |rows: &RowSet| IvfIndex::build_in(&cells, rows, &source, &Job::default());
        let cuts: [[RowSet; 3]; 3] = [
            // One behind the other, interleaved, and the later rows first.
            [
                picked(|row| row < 900),
                picked(|row| (900..1700).contains(&row)),
                picked(|r| r > 1699),
            ],
            [picked(|row| row % 3 == 0), picked(|row| row % 3 == 1), picked(|row| row % 3 == 2)],
            [picked(|row| row >= 2000), picked(|row| row < 2000), RowSet::new()],
        ];
        let all = picked(|_| true);
        let whole = build(&all)?;
        for cut in &cuts {
            let parts = [build(&cut[0])?, build(&cut[1])?, build(&cut[2])?];
            let of_all = parts.each_ref().map(|part| (part, &Filter::All));
            let found = joined(&of_all).expect("they share their cells");
            assert_eq!(found.export(), whole.export(), "{metric:?}");
            assert!(found.shared_cells().is_some_and(|own| Arc::ptr_eq(own, &cells)));
            assert_eq!(found.crowding(), whole.crowding());
            // Some of the rows alone, and a part that was joined before.
            let some = picked(|row| row % 7 != 2 && row % 500 > 40);
            let kept = Filter::Rows(some.clone());
            let fewer = joined(&parts.each_ref().map(|part| (part, &kept))).expect("likewise");
            assert_eq!(sections(&fewer), sections(&build(&some)?), "{metric:?}");
            let two = joined(&of_all[..2]).expect("likewise");
            let again = joined(&[(&two, &Filter::All), of_all[2]]).expect("likewise");
            assert_eq!(again.export(), whole.export(), "{metric:?}");
        }
    }
    Ok(())
}

#[test]
fn a_joined_file_finds_what_its_parts_find() -> Result<(), IndexError> {
    let vectors = vectors();
    let source = Memory::new(&vectors, DIMENSIONS);
    let cells = cells(IvfCodes::Bits, Metric::Cosine, &source)?;
    let build = |rows: &RowSet| IvfIndex::build_in(&cells, rows, &source, &Job::default());
    let (even, odd) = (build(&picked(|row| row % 2 == 0))?, build(&picked(|row| row % 2 == 1))?);
    let (even, odd) = (even.with_search(IvfSearch { nprobe: 7, ..IvfSearch::default() }), odd);
    let all = &Filter::All;
    let joined = joined(&[(&even, all), (&odd, all)]).expect("they share them");
    assert_eq!(joined.default_search(), even.default_search());
    assert_eq!(joined.row_set(), &picked(|_| true));
    let filters = [Filter::All, Filter::Rows(picked(|row| row % 5 == 3))];
    let (mut found, mut wanted) = (0, 0);
    for query in vectors.iter().step_by(30) {
        for filter in &filters {
            let hits = search(&joined, all_of(&joined), query, filter, &source, 10)?;
            let nearest = scan(Metric::Cosine, query, filter, &source, 10)?;
            assert_eq!(hits.len(), nearest.len());
            wanted += nearest.len();
            found += nearest.iter().filter(|hit| hits.contains(hit)).count();
        }
    }
    assert!(found * 100 >= wanted * 98, "{found} of {wanted}");
    Ok(())
}

#[test]
fn what_does_not_fit_together_is_not_joined() -> Result<(), IndexError> {
    let source = Memory::new(&vectors(), DIMENSIONS);
    let bits = cells(IvfCodes::Bits, Metric::Cosine, &source)?;
    let equal = cells(IvfCodes::Bits, Metric::Cosine, &source)?;
    let build = |cells: &Arc<SharedCells>, rows: &RowSet| {
        IvfIndex::build_in(cells, rows, &source, &Job::default())
    };
    let (first, second) = (picked(|row| row < 1000), picked(|row| row >= 1000));
    let (a, b) = (build(&bits, &first)?, build(&bits, &second)?);
    let whole = |parts: &[&IvfIndex]| {
        let parts: Vec<_> = parts.iter().map(|&part| (part, &Filter::All)).collect();
        joined(&parts)
    };
    assert!(whole(&[&a, &b]).is_some());
    assert!(whole(&[]).is_none());
    // Other cells, though they are the same, cells of its own, and a row in both.
    assert!(whole(&[&a, &build(&equal, &second)?]).is_none());
    let alone = super::build(Metric::Cosine, &config(IvfCodes::Bits, 32), &source)?;
    assert!(whole(&[&alone]).is_none());
    let overlapping = build(&bits, &picked(|row| row >= 999))?;
    assert!(whole(&[&a, &overlapping]).is_none());
    let kept = Filter::Rows(second);
    let found = joined(&[(&a, &Filter::All), (&overlapping, &kept)]).expect("no row is in both");
    assert_eq!(found.row_set(), &picked(|_| true));
    for codes in [IvfCodes::Full, IvfCodes::Refined] {
        let cells = cells(codes, Metric::Cosine, &source)?;
        let (a, b) = (build(&cells, &first)?, build(&cells, &picked(|row| row >= 1000))?);
        assert!(whole(&[&a, &b]).is_none(), "{codes:?}");
    }
    Ok(())
}

#[test]
fn files_of_no_row_and_of_no_cell_are_joined() -> Result<(), IndexError> {
    let source = Memory::new(&vectors(), DIMENSIONS);
    let config = IvfConfig { second: false, ..config(IvfCodes::Bits, 32) };
    let none = RowSet::new();
    for made_of in [none.clone(), picked(|_| true)] {
        let cells = SharedCells::of(Metric::Cosine, &config, &made_of, &source, &Job::default())?;
        let empty = IvfIndex::build_in(&Arc::new(cells), &none, &source, &Job::default())?;
        let joined = joined(&[(&empty, &Filter::All), (&empty, &Filter::All)]);
        assert!(joined.is_some_and(|joined| joined.row_set().is_empty()));
    }
    Ok(())
}

#[test]
fn joining_can_be_stopped() -> Result<(), IndexError> {
    let source = Memory::new(&vectors(), DIMENSIONS);
    let cells = cells(IvfCodes::Bits, Metric::Cosine, &source)?;
    let index = IvfIndex::build_in(&cells, &picked(|_| true), &source, &Job::default())?;
    let cancel = AtomicBool::new(false);
    let told = AtomicUsize::new(0);
    let tell = |_| {
        told.fetch_add(1, Ordering::Relaxed);
        cancel.store(true, Ordering::Relaxed);
    };
    let job = Job { cancel: Some(&cancel), progress: Some(&tell), ..Job::default() };
    let stopped = IvfIndex::joined(&[(&index, &Filter::All)], &job);
    assert_eq!(stopped.err(), Some(IndexError::Cancelled));
    assert_eq!(told.load(Ordering::Relaxed), 1);
    Ok(())
}
