//! Inverted files that share their cells, one searched behind the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synadb_index::{IvfPart, SharedCells};

use super::*;

const COUNT: u32 = 6000;
const DIMENSIONS: usize = 64;
/// Rows of a file.
const EACH: u32 = 2000;

fn vectors() -> Vec<Vec<f32>> {
    clustered(3, COUNT as usize, DIMENSIONS, 60)
}

fn cells(
    metric: Metric,
    codes: IvfCodes,
    rows: &RowSet,
    source: &Memory,
) -> Result<Arc<SharedCells>, IndexError> {
    let config = IvfConfig { second: false, ..config(codes, 64) };
    SharedCells::of(metric, &config, rows, source, &Job::default()).map(Arc::new)
}

/// The rows of three files, one behind the other.
fn thirds() -> [RowSet; 3] {
    [0, 1, 2].map(|third| RowSet::range(RowId(third * EACH), EACH))
}

fn hits(query: &Query, source: &Memory, mut top: TopK) -> Vec<Hit> {
    let mut hits = Vec::new();
    top.finish(query, source, &mut hits);
    hits
}

/// What several files find together, and what they find one after the other.
fn both(
    parts: &[IvfPart<'_>],
    query: &Query,
    source: &Memory,
) -> Result<(Vec<Hit>, Vec<Hit>), IndexError> {
    let mut scratch = Scratch::new();
    let mut together = TopK::new(10);
    IvfIndex::search_several(parts, query, &mut scratch, &mut together)?;
    let mut apart = TopK::new(10);
    for part in parts {
        let (search, filter) = (part.search, part.filter);
        part.index.search_with(search, query, filter, part.source, &mut scratch, &mut apart)?;
    }
    Ok((hits(query, source, together), hits(query, source, apart)))
}

#[test]
fn several_find_what_one_finds_and_rank_their_cells_alike() -> Result<(), IndexError> {
    let (vectors, queries) = (vectors(), clustered(3, 6040, DIMENSIONS, 60).split_off(6000));
    let source = Memory::new(&vectors, DIMENSIONS);
    for metric in METRICS {
        for codes in CODES {
            let cells = cells(metric, codes, &thirds()[0], &source)?;
            let build = |rows: &RowSet| IvfIndex::build_in(&cells, rows, &source, &Job::default());
            let indexes = thirds().each_ref().map(build);
            let (mut found, mut wanted) = (0, 0);
            for values in &queries {
                let query = Query::new(metric, values)?;
                let part = |index| IvfPart {
                    index,
                    search: IvfSearch { nprobe: 16, candidates: 100, ..IvfSearch::default() },
                    filter: &Filter::All,
                    source: &source,
                };
                let indexes = indexes.iter().map(|index| index.as_ref().expect("is built"));
                let parts: Vec<IvfPart<'_>> = indexes.map(part).collect();
                let (together, apart) = both(&parts, &query, &source)?;
                assert_eq!(together, apart, "{metric:?} {codes:?}");
                let nearest = scan(metric, values, &Filter::All, &source, 10)?;
                let nearest: HashSet<u32> = nearest.iter().map(|hit| hit.row.0).collect();
                wanted += nearest.len();
                found += together.iter().filter(|hit| nearest.contains(&hit.row.0)).count();
            }
            assert!(found as f64 >= 0.9 * wanted as f64, "{metric:?} {codes:?} {found} {wanted}");
        }
    }
    Ok(())
}

#[test]
fn a_ranking_is_taken_over_from_no_other_cells_and_from_no_shorter_one() -> Result<(), IndexError> {
    // Without structure the nearest rows are in many cells.
    let vectors = Random(5).vectors(COUNT as usize, DIMENSIONS);
    let source = Memory::new(&vectors, DIMENSIONS);
    let [first, second, third] = thirds();
    let (ours, theirs) = (
        cells(Metric::Euclidean, IvfCodes::Bits, &first, &source)?,
        cells(Metric::Euclidean, IvfCodes::Bits, &third, &source)?,
    );
    let build = |cells, rows| IvfIndex::build_in(cells, rows, &source, &Job::default());
    let files = [build(&ours, &first)?, build(&theirs, &second)?, build(&theirs, &third)?];
    let own = super::build(Metric::Euclidean, &config(IvfCodes::Refined, 30), &source)?;
    let full = super::build(Metric::Euclidean, &config(IvfCodes::Full, 10), &source)?;
    // So few rows are allowed of the second that it is scanned, and its cells are not ranked.
    let few = Filter::Rows([RowId(EACH + 7), RowId(EACH + 9)].into_iter().collect());
    for query in vectors.iter().step_by(400) {
        let query = Query::new(Metric::Euclidean, query)?;
        let part = |index, nprobe, filter| {
            let search = IvfSearch { nprobe, candidates: 60, ..IvfSearch::default() };
            IvfPart { index, search, filter, source: &source }
        };
        let all = &Filter::All;
        let [a, b, c] = &files;
        let orders = [
            vec![part(a, 4, all), part(b, 2, &few), part(c, 8, all)],
            vec![part(b, 2, all), part(c, 16, all), part(b, 1, all)],
            vec![part(c, 3, all), part(&own, 3, all), part(b, 3, all), part(a, 3, all)],
            vec![part(c, 20, all), part(&full, 3, all), part(b, 20, all)],
            vec![part(c, 3, all), part(&own, 3, &few), part(b, 3, all)],
        ];
        for parts in &orders {
            let (together, apart) = both(parts, &query, &source)?;
            assert_eq!(together, apart);
        }
    }
    Ok(())
}

#[test]
fn rows_are_in_the_nearest_cells_mostly() -> Result<(), IndexError> {
    let (vectors, all) = (vectors(), RowSet::range(RowId(0), COUNT));
    let source = Memory::new(&vectors, DIMENSIONS);
    let config = IvfConfig { second: false, ..config(IvfCodes::Full, 400) };
    let cells =
        Arc::new(SharedCells::of(Metric::Euclidean, &config, &all, &source, &Job::default())?);
    let index = IvfIndex::build_in(&cells, &all, &source, &Job::default())?;
    assert_eq!(index.cells(), 400);
    let nearest = IvfSearch { nprobe: 1, ..IvfSearch::default() };
    let is_found = |row: u32| -> Result<bool, IndexError> {
        let vector = &vectors[row as usize];
        let hits = search(&index, nearest, vector, &Filter::All, &source, 1)?;
        Ok(hits.first().is_some_and(|hit| hit.row == RowId(row)))
    };
    let mut found = 0;
    for row in (0..COUNT).step_by(6) {
        found += u32::from(is_found(row)?);
    }
    assert!(found >= 950, "{found} of 1000");
    Ok(())
}

#[test]
fn rows_that_the_cells_were_not_made_for_crowd() -> Result<(), IndexError> {
    let mut vectors = vectors();
    // The last third is about three of the sixty corners.
    let others = clustered(3, 40_000, DIMENSIONS, 60);
    let near = others.into_iter().enumerate().filter(|(at, _)| at % 60 < 3).map(|(_, v)| v);
    vectors.truncate(2 * EACH as usize);
    vectors.extend(near);
    let source = Memory::new(&vectors, DIMENSIONS);
    let [first, second, third] = thirds();
    let cells = cells(Metric::Cosine, IvfCodes::Bits, &first, &source)?;
    let crowding = |rows: &RowSet| -> Result<f64, IndexError> {
        Ok(IvfIndex::build_in(&cells, rows, &source, &Job::default())?.crowding())
    };
    let (own, alike, other) = (crowding(&first)?, crowding(&second)?, crowding(&third)?);
    assert!(alike < 1.3 * own && other > 5.0 * own, "{own} {alike} {other}");
    Ok(())
}

#[test]
fn odd_rows_are_built_in_shared_cells_and_found() -> Result<(), IndexError> {
    let mut random = Random(9);
    let row = random.vector(DIMENSIONS);
    let sets: [Vec<Vec<f32>>; 4] =
        [Vec::new(), vec![row.clone()], vec![row.clone(); 300], vec![vec![0.0; DIMENSIONS]; 40]];
    for vectors in sets {
        let count = vectors.len() as u32;
        let (source, all) = (Memory::new(&vectors, DIMENSIONS), RowSet::range(RowId(0), count));
        for metric in METRICS {
            let cells = cells(metric, IvfCodes::Bits, &all, &source)?;
            let index = IvfIndex::build_in(&cells, &all, &source, &Job::default())?;
            assert!(index.shared_cells().is_some_and(|own| Arc::ptr_eq(own, &cells)));
            assert!(index.crowding().is_finite());
            let hits = search(&index, all_of(&index), &row, &Filter::All, &source, 10)?;
            assert_eq!(hits.len(), vectors.len().min(10), "{metric:?} {count}");
        }
    }
    let source = Memory::new(&[row], DIMENSIONS);
    let all = RowSet::range(RowId(0), 1);
    let cells = cells(Metric::Cosine, IvfCodes::Bits, &all, &source)?;
    let short = Memory::new(&[vec![1.0; 40]], 40);
    let refused = IvfIndex::build_in(&cells, &all, &short, &Job::default());
    let (query, other) = (40, DIMENSIONS);
    assert_eq!(refused.err(), Some(IndexError::Dimensions { query, source: other }));
    Ok(())
}

#[test]
fn threads_do_not_change_what_is_built_and_a_build_can_be_stopped() -> Result<(), IndexError> {
    let (vectors, all) = (vectors(), RowSet::range(RowId(0), COUNT));
    let source = Memory::new(&vectors, DIMENSIONS);
    let config = IvfConfig { second: false, ..config(IvfCodes::Bits, 64) };
    let made = |threads| -> Result<(Arc<SharedCells>, IvfIndex), IndexError> {
        let job = Job::with_threads(threads);
        let cells = SharedCells::of(Metric::Cosine, &config, &all, &source, &job)?;
        let cells = Arc::new(cells);
        let index = IvfIndex::build_in(&cells, &all, &source, &job)?;
        Ok((cells, index))
    };
    let ((cells, one), (_, two)) = (made(1)?, made(2)?);
    let counts = |index: &IvfIndex| (0..64).map(|cell| index.cell_len(cell)).collect::<Vec<_>>();
    assert_eq!(counts(&one), counts(&two));
    let how = IvfSearch { nprobe: 5, candidates: 30, ..IvfSearch::default() };
    for query in vectors.iter().step_by(500) {
        let find = |index| search(index, how, query, &Filter::All, &source, 10);
        assert_eq!(find(&one)?, find(&two)?);
    }
    let cancel = AtomicBool::new(false);
    let stop = |_| cancel.store(true, Ordering::Relaxed);
    let job = Job { cancel: Some(&cancel), progress: Some(&stop), ..Job::default() };
    let trained = SharedCells::of(Metric::Cosine, &config, &all, &source, &job);
    assert_eq!(trained.err(), Some(IndexError::Cancelled));
    cancel.store(false, Ordering::Relaxed);
    let built = IvfIndex::build_in(&cells, &all, &source, &job);
    assert_eq!(built.err(), Some(IndexError::Cancelled));
    Ok(())
}
