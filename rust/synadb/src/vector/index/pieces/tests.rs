//! Pieces of what a snapshot shows, and the cells that they are in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::Extent;
use super::super::tail::Coding;
use super::*;
use crate::distance::DistanceMetric;
use crate::vector::{HnswConfig, IndexBackend, VectorConfig, VectorStore};

const WIDTH: u16 = 32;
/// From so many rows on the store codes, long before it seals, and from so many by default.
const LEAST: usize = 300;
const USUAL: usize = 10_000;
/// Rows of the part, with those behind it that the snapshot shows, and all.
const PART: u32 = 500;
const SEEN: u32 = 900;
const ALL: u32 = 1700;

fn row(number: u32) -> Vec<f32> {
    (0..u32::from(WIDTH)).map(|axis| ((number * 31 + 7) as f32 * (axis + 1) as f32).sin()).collect()
}

fn insert(store: &VectorStore, numbers: std::ops::Range<u32>) {
    insert_of(store, numbers, row);
}

fn insert_of(store: &VectorStore, numbers: std::ops::Range<u32>, row: fn(u32) -> Vec<f32>) {
    let rows: Vec<f32> = numbers.clone().flat_map(row).collect();
    let keys: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
}

fn open(folder: &tempfile::TempDir, index_threshold: usize) -> VectorStore {
    let (dimensions, metric) = (WIDTH, DistanceMetric::Euclidean);
    let config = VectorConfig { dimensions, metric, index_threshold, ..VectorConfig::default() };
    VectorStore::new(folder.path().join("a.db"), config).expect("opens")
}

fn build(store: &VectorStore, backend: &IndexBackend) {
    store.build_index_with(backend, 1, &mut |_, _| true).expect("builds");
}

/// The sealing of a store where so many rows are coded at least.
fn sealing_of(store: &VectorStore, least: usize) -> Sealing<'_> {
    let engine = store.handle.open().expect("open");
    Sealing { engine, table: &store.table, config: store.config, least }
}

/// Searches as long as something is still to be done apart, and so seldom that no index is worth its
/// building.
fn search_while(store: &VectorStore, is_due: impl Fn() -> bool) {
    let began = Instant::now();
    while is_due() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", store.index_stats());
        store.search(&row(0), 1).expect("searches");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The key of the nearest row and its distance, as of a snapshot.
fn nearest(store: &VectorStore, snapshot: &Arc<Snapshot>, number: u32) -> (String, f32) {
    let options = SearchOptions { ef_search: Some(1000), ..SearchOptions::default() };
    let snapshot = Some(Arc::clone(snapshot));
    let found = store.search_hits_in(snapshot, &row(number), 2, &options).expect("searches");
    let [first, second] = &found[0][..] else { panic!("two are there: {}", found[0].len()) };
    assert_ne!(first.key, second.key);
    (first.key.clone(), first.score)
}

/// All rows are found now, those of a snapshot as of it, and as of its moment where the slots of the
/// later ones are known. By few searches: for many an index would be built of what is coded.
fn check_moments(store: &VectorStore, before: &Arc<Snapshot>) {
    let now = store.snapshot().expect("open").expect("rows");
    let later = Arc::into_inner(store.snapshot().expect("open").expect("rows"));
    let then = Arc::new(later.expect("nobody else has it").until(before.visible()));
    assert!(then.rows_end() >= ALL && before.rows_end() < ALL);
    for number in (0..ALL).step_by(13) {
        assert_eq!(nearest(store, &now, number), (number.to_string(), 0.0));
        for snapshot in [before, &then] {
            let (key, distance) = nearest(store, snapshot, number);
            let is_shown = number < SEEN;
            assert_eq!((key == number.to_string(), distance == 0.0), (is_shown, is_shown));
        }
    }
}

#[test]
fn rows_that_were_coded_of_a_later_moment_are_in_no_piece_of_an_earlier_one() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, LEAST);
    insert(&store, 0..PART);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(16)));
    insert(&store, PART..SEEN);
    let before = store.snapshot().expect("open").expect("rows");
    insert(&store, SEEN..ALL);
    let stats = || store.index_stats().expect("open").expect("built");
    search_while(&store, || stats().coded < (ALL - PART) as usize);
    // The first rows of the tail, of which the snapshot shows but some.
    let sealing = sealing_of(&store, 20);
    assert!(rows_of_one(sealing.least) > (SEEN - PART) as usize);
    let terms = &store.handle.terms;
    let piece = sealing.next_of(&before, terms).expect("seals").expect("the tail is full");
    let sealed: Vec<u32> = piece.rows().iter().map(|row| row.0).collect();
    assert_eq!(sealed, (PART..SEEN).collect::<Vec<_>>());
    assert!(sealing.put(&Arc::new(piece), &before, terms).expect("is put"));
    let found = stats();
    assert_eq!((found.pieces, found.coded), (1, (ALL - PART) as usize), "{found:?}");
    check_moments(&store, &before);
    // The others, of which the snapshot shows none.
    let now = store.snapshot().expect("open").expect("rows");
    let piece = sealing.next_of(&now, terms).expect("seals").expect("the tail is full again");
    assert!(sealing.put(&Arc::new(piece), &now, terms).expect("is put"));
    assert_eq!(stats().pieces, 2);
    drop(now);
    check_moments(&store, &before);
}

#[test]
fn codes_that_grow_show_a_snapshot_no_later_row() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, LEAST);
    insert(&store, 0..PART);
    build(&store, &IndexBackend::Flat(PackedConfig::default()));
    insert(&store, PART..SEEN);
    let before = store.snapshot().expect("open").expect("rows");
    insert(&store, SEEN..ALL);
    search_while(&store, || store.index_stats().expect("open").expect("built").rows < ALL as usize);
    check_moments(&store, &before);
}

#[test]
fn coding_and_sealing_that_are_told_to_end_leave_what_was_there() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, USUAL);
    insert(&store, 0..PART);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(16)));
    insert(&store, PART..ALL);
    let sealing = sealing_of(&store, 20);
    let Sealing { engine, table, config, least } = sealing;
    let stats = || store.index_stats().expect("open").expect("built");
    let ended = Terms::of_upkeep(Arc::new(|| true));
    let coding = Coding { engine, table, config, least };
    let snapshot = store.snapshot().expect("open").expect("rows");
    coding.step(&snapshot, &ended).expect_err("it is told to end");
    assert_eq!(stats().coded, 0);
    coding.run(&store.handle.terms).expect("codes");
    assert_eq!(stats().coded, (ALL - PART) as usize);
    assert!(sealing.next_of(&snapshot, &ended).is_err());
    // The sign comes while it seals: that is no reason to put the next attempt off.
    let asked = AtomicUsize::new(0);
    let late = Terms::of_upkeep(Arc::new(move || asked.fetch_add(1, Ordering::Relaxed) > 2));
    sealing.run(&late);
    assert!(late.is_interrupted());
    assert_eq!((stats().pieces, store.seal_failure().expect("open")), (0, None));
    sealing.run(&store.handle.terms);
    assert_eq!(stats().pieces, 1);
}

/// Rows that lie elsewhere, in one cell of the others or in few.
fn elsewhere(number: u32) -> Vec<f32> {
    row(number).iter().map(|value| 40.0 + value).collect()
}

#[test]
fn a_piece_is_in_the_cells_of_the_one_before_where_its_rows_are_like_them() {
    const EACH: u32 = 4000;
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, USUAL);
    insert_of(&store, 0..2 * EACH, row);
    insert_of(&store, 2 * EACH..4 * EACH, elsewhere);
    let sealing = sealing_of(&store, 20);
    let snapshot = store.snapshot().expect("open").expect("rows");
    let sealed = |nth: u32, first: Option<&Piece>| {
        let rows = RowSet::range(RowId(nth * EACH), EACH);
        let index = sealing.sealed(&rows, first, false, &snapshot, &Job::default());
        Piece::new(index.expect("seals"), first, &snapshot)
    };
    let cells = |piece: &Piece| Arc::clone(piece.index.shared_cells().expect("they can be shared"));
    let first = sealed(0, None);
    let alike = sealed(1, Some(&first));
    assert!(Arc::ptr_eq(&cells(&first), &cells(&alike)));
    let unlike = sealed(2, Some(&first));
    assert!(!Arc::ptr_eq(&cells(&first), &cells(&unlike)));
    let again = sealed(3, Some(&unlike));
    assert!(Arc::ptr_eq(&cells(&unlike), &cells(&again)));
    assert!(unlike.founder.crowding < CROWDED * first.founder.crowding);
    // What is like the first piece, and not the second, is what the cells were made of.
    let crowding = |piece: &Piece| piece.founder.crowding;
    assert_eq!(crowding(&alike), crowding(&first));
    assert_eq!(crowding(&again), crowding(&unlike));
}

#[test]
fn pieces_of_one_size_become_one() {
    const EACH: u32 = 1000;
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, LEAST);
    insert(&store, 0..PART);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(16)));
    let stats = || store.index_stats().expect("open").expect("built");
    // So few are coded that nothing is sealed but by this test.
    let (sealing, terms) = (sealing_of(&store, 30), &store.handle.terms);
    let each = rows_of_one(sealing.least) as u32;
    assert!((each..2 * each).contains(&EACH));
    let (mut end, mut counts) = (PART, Vec::new());
    for nth in 1..=21 {
        insert(&store, end..end + EACH);
        end += EACH;
        search_while(&store, || stats().coded < (end - PART) as usize);
        sealing.run(terms);
        counts.push((nth, stats().pieces));
        assert_eq!(stats().coded, (end - PART) as usize);
    }
    assert!(counts.iter().all(|&(_, pieces)| pieces <= 8), "{counts:?}");
    assert!(counts.windows(2).any(|pair| pair[1].1 < pair[0].1), "{counts:?}");
    let now = store.snapshot().expect("open").expect("rows");
    for number in (0..end).step_by(7) {
        assert_eq!(nearest(&store, &now, number), (number.to_string(), 0.0));
    }
}

/// Pieces of so many rows each, in the cells of the first.
fn pieces_in(store: &VectorStore, count: u32, each: u32) -> Vec<Arc<Piece>> {
    let sealing = sealing_of(store, 10);
    let snapshot = store.snapshot().expect("open").expect("rows");
    let mut pieces: Vec<Arc<Piece>> = Vec::new();
    for nth in 0..count {
        let rows = RowSet::range(RowId(nth * each), each);
        let first = pieces.first().map(|piece| &**piece);
        let index = sealing.sealed(&rows, first, false, &snapshot, &Job::default());
        pieces.push(Arc::new(Piece::new(index.expect("seals"), first, &snapshot)));
    }
    pieces
}

fn search(piece: &Piece) -> IvfSearch {
    piece.index.default_search()
}

fn joined_of(pieces: &[Arc<Piece>]) -> Arc<Piece> {
    let joined = Piece::joined(pieces, &Job::default()).expect("nobody ends it");
    Arc::new(joined.expect("they share their cells"))
}

#[test]
fn a_joined_piece_takes_the_place_of_its_parts_and_of_nothing_else() {
    const EACH: u32 = 400;
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, USUAL);
    insert(&store, 0..5 * EACH);
    let sealing = sealing_of(&store, 10);
    let snapshot = store.snapshot().expect("open").expect("rows");
    let pieces = pieces_in(&store, 5, EACH);
    let known = Extent { end: 0, unborn: None };
    let with = |pieces: &[Arc<Piece>]| StoreIndex {
        pieces: pieces.to_vec(),
        ..StoreIndex::of_part(None, true, (0, 0), known.clone(), 0)
    };
    let index = with(&pieces);
    let parts = index.to_join().expect("they are of one size");
    assert!(parts.iter().zip(&pieces[1..]).all(|(part, piece)| Arc::ptr_eq(part, piece)));
    // A part that was built took half of the rows of one, and all of another.
    let keep: RowSet = (0..5 * EACH).filter(|row| row % 2 == 0).map(RowId).collect();
    let half = pieces[2].restricted_to(&keep).expect("some are left");
    let some = [&pieces[1], &half, &pieces[4]].map(Arc::clone);
    let joined = joined_of(&some);
    assert_eq!(joined.len(), (2 * EACH + EACH / 2) as usize);
    let mut wanted = RowSet::new();
    some.iter().for_each(|piece| wanted.union_with(&piece.rows()));
    assert_eq!(joined.rows(), wanted);
    assert_eq!(joined.founder.crowding, pieces[0].founder.crowding);
    assert!(index.with_joined(&some, &joined).is_none(), "one of them is not there");
    assert!(with(&some[..2]).with_joined(&some, &joined).is_none());
    let around = [&pieces[0], &some[0], &some[1], &some[2], &pieces[3]].map(Arc::clone);
    let after = with(&around).with_joined(&some, &joined).expect("all of them are there");
    let after: Vec<usize> = after.pieces.iter().map(|piece| piece.len()).collect();
    assert_eq!(after, [EACH as usize, joined.len(), EACH as usize]);
    // Of other cells, or much smaller: neither is joined with the others.
    let few = pieces[4].restricted_to(&RowSet::range(RowId(4 * EACH), 9)).expect("some");
    let hollow = with(&[&pieces[0], &few, &pieces[1], &pieces[2], &pieces[3]].map(Arc::clone));
    assert!(hollow.to_join().is_some_and(|parts| parts.len() == 1 && Arc::ptr_eq(&parts[0], &few)));
    assert!(hollow.has_hollow_piece() && !with(&around).has_hollow_piece());
    let few = joined_of(&[few]);
    assert!(!with(&[Arc::clone(&few)]).has_hollow_piece());
    assert_eq!(search(&few), search(&pieces[4]));
    assert_eq!((few.len(), few.rows()), (9, RowSet::range(RowId(4 * EACH), 9)));
    let index = sealing.sealed(&pieces[4].rows(), None, false, &snapshot, &Job::default());
    let alone = Arc::new(Piece::new(index.expect("seals"), None, &snapshot));
    for last in [few, alone] {
        let others = [&pieces[1], &pieces[2], &pieces[3], &last].map(Arc::clone);
        assert!(with(&others).to_join().is_none());
    }
    let bytes = |pieces: &[Arc<Piece>]| with(pieces).bytes();
    let cells = pieces[0].cells().expect("they are shared").memory_bytes();
    let apart = bytes(&pieces[..1]) + bytes(&pieces[1..2]);
    assert_eq!(bytes(&pieces[..2]), apart - cells, "what is shared counts once");
    assert!(cells > 0);
}

#[test]
fn a_joined_piece_compares_more_rows_the_more_it_has() {
    const EACH: u32 = 400;
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, USUAL);
    insert(&store, 0..4 * EACH);
    let pieces = pieces_in(&store, 4, EACH);
    let snapshot = store.snapshot().expect("open").expect("rows");
    let raised = |candidates, nprobe| {
        let search = IvfSearch { candidates, nprobe, ..IvfSearch::default() };
        let index = IvfIndex::clone(&pieces[3].index).with_search(search);
        Arc::new(Piece::new(index, Some(&pieces[0]), &snapshot))
    };
    let usual = search(&pieces[1]);
    assert!(usual.candidates < 170 && usual.nprobe < 21);
    let two = joined_of(&[Arc::clone(&pieces[1]), raised(170, 21)]);
    assert_eq!((search(&two).candidates, search(&two).nprobe), (209, 21), "170 times 2 to the 0.3");
    let four = joined_of(&[Arc::clone(&pieces[0]), Arc::clone(&pieces[2]), Arc::clone(&two)]);
    assert_eq!(search(&four).candidates, 257, "170 times 4 to the 0.3, however it was joined");
    let left = two.restricted_to(&pieces[1].rows()).expect("half of it");
    assert_eq!(search(&joined_of(&[left])).candidates, 170);
    assert_eq!(four.founder.search, search(&pieces[0]), "the next piece begins with that");
}

#[test]
fn a_search_has_a_piece_copied_that_lost_its_rows() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(&folder, USUAL);
    insert(&store, 0..PART);
    build(&store, &IndexBackend::Hnsw(HnswConfig::with_m(16)));
    insert(&store, PART..ALL);
    let sealing = sealing_of(&store, 20);
    let snapshot = store.snapshot().expect("open").expect("rows");
    // Some slots are empty before those of a batch.
    let end = snapshot.rows_end();
    let rows = RowSet::range(RowId(end - (ALL - PART)), ALL - PART);
    let index = sealing.sealed(&rows, None, false, &snapshot, &Job::default());
    let piece = Arc::new(Piece::new(index.expect("seals"), None, &snapshot));
    // As a build leaves it that takes most of its rows in.
    let last = RowSet::range(RowId(end - 100), 100);
    let hollow = piece.restricted_to(&last).expect("some are left");
    let loaded = store.config.index_of(&snapshot).expect("an index");
    let pieces = |piece: &Arc<Piece>| StoreIndex {
        pieces: vec![Arc::clone(piece)],
        known: Extent { end, unborn: None },
        ..loaded.any().expect("an index").shared()
    };
    assert!(snapshot.reader.companion.grow(&loaded.0, Box::new(pieces(&hollow))));
    let is_hollow = || {
        let loaded = store.config.index_of(&snapshot).expect("an index");
        loaded.any().is_some_and(StoreIndex::has_hollow_piece)
    };
    assert!(is_hollow());
    search_while(&store, is_hollow);
    let loaded = store.config.index_of(&snapshot).expect("an index");
    let copied = &loaded.any().expect("an index").pieces;
    assert_eq!((copied.len(), copied[0].rows()), (1, last));
    assert!(copied[0].index.memory_bytes() < piece.index.memory_bytes() / 2);
    let (key, _) = nearest(&store, &snapshot, ALL - 1);
    assert_eq!(key, (ALL - 1).to_string());
}
