//! Pieces of what a snapshot shows, and the cells that they are in.

use std::time::{Duration, Instant};

use super::*;
use crate::distance::DistanceMetric;
use crate::vector::{HnswConfig, IndexBackend, VectorConfig, VectorStore};

const WIDTH: u16 = 32;
/// From so many rows on the store codes, long before it seals.
const LEAST: usize = 300;
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

/// The key of the nearest row and its distance, as of a snapshot.
fn nearest(store: &VectorStore, snapshot: &Arc<Snapshot>, number: u32) -> (String, f32) {
    let options = SearchOptions { ef_search: Some(1000), ..SearchOptions::default() };
    let snapshot = Some(Arc::clone(snapshot));
    let found = store.search_hits_in(snapshot, &row(number), 2, &options).expect("searches");
    let [first, second] = &found[0][..] else { panic!("two are there: {}", found[0].len()) };
    assert_ne!(first.key, second.key);
    (first.key.clone(), first.score)
}

#[test]
fn rows_that_were_coded_of_a_later_moment_are_in_no_piece_of_an_earlier_one() {
    let folder = tempfile::tempdir().expect("a directory");
    let (dimensions, metric) = (WIDTH, DistanceMetric::Euclidean);
    let config =
        VectorConfig { dimensions, metric, index_threshold: LEAST, ..VectorConfig::default() };
    let store = VectorStore::new(folder.path().join("a.db"), config).expect("opens");
    insert(&store, 0..PART);
    let graph = IndexBackend::Hnsw(HnswConfig::with_m(16));
    store.build_index_with(&graph, 1, &mut |_, _| true).expect("builds");
    insert(&store, PART..SEEN);
    let before = store.snapshot().expect("open").expect("rows");
    insert(&store, SEEN..ALL);
    let stats = || store.index_stats().expect("open").expect("built");
    let began = Instant::now();
    while stats().coded < (ALL - PART) as usize {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", stats());
        store.search(&row(0), 1).expect("searches");
    }
    // The first rows of the tail, of which the snapshot shows but some.
    let engine = store.handle.open().expect("open");
    let (table, config, least) = (&*store.table, store.config, 20);
    assert!(rows_of_one(least) > (SEEN - PART) as usize);
    let sealing = Sealing { engine, table, config, least };
    let terms = &store.handle.terms;
    let piece = sealing.next_of(&before, terms).expect("seals").expect("the tail is full");
    let sealed: Vec<u32> = piece.rows().iter().map(|row| row.0).collect();
    assert_eq!(sealed, (PART..SEEN).collect::<Vec<_>>());
    assert!(sealing.put(&Arc::new(piece), &before, terms).expect("is put"));
    let found = stats();
    assert_eq!((found.pieces, found.coded), (1, (ALL - PART) as usize), "{found:?}");
    let now = store.snapshot().expect("open").expect("rows");
    for number in 0..ALL {
        assert_eq!(nearest(&store, &now, number), (number.to_string(), 0.0));
        let (key, distance) = nearest(&store, &before, number);
        let is_shown = number < SEEN;
        assert_eq!((key == number.to_string(), distance == 0.0), (is_shown, is_shown));
    }
}

/// Rows that lie elsewhere, in one cell of the others or in few.
fn elsewhere(number: u32) -> Vec<f32> {
    row(number).iter().map(|value| 40.0 + value).collect()
}

#[test]
fn a_piece_is_in_the_cells_of_the_one_before_where_its_rows_are_like_them() {
    const EACH: u32 = 4000;
    let folder = tempfile::tempdir().expect("a directory");
    let (dimensions, metric) = (WIDTH, DistanceMetric::Euclidean);
    let config = VectorConfig { dimensions, metric, ..VectorConfig::default() };
    let store = VectorStore::new(folder.path().join("a.db"), config).expect("opens");
    insert_of(&store, 0..2 * EACH, row);
    insert_of(&store, 2 * EACH..4 * EACH, elsewhere);
    let engine = store.handle.open().expect("open");
    let (table, config, least) = (&*store.table, store.config, 20);
    let sealing = Sealing { engine, table, config, least };
    let snapshot = store.snapshot().expect("open").expect("rows");
    let sealed = |nth: u32, first: Option<&Piece>| {
        let rows = RowSet::range(RowId(nth * EACH), EACH);
        let index = sealing.sealed(&rows, first, false, &snapshot, &store.handle.terms);
        Piece::new(index.expect("seals"), &snapshot)
    };
    let cells = |piece: &Piece| Arc::clone(piece.index.shared_cells().expect("they can be shared"));
    let first = sealed(0, None);
    let alike = sealed(1, Some(&first));
    assert!(Arc::ptr_eq(&cells(&first), &cells(&alike)));
    let unlike = sealed(2, Some(&first));
    assert!(!Arc::ptr_eq(&cells(&first), &cells(&unlike)));
    let again = sealed(3, Some(&unlike));
    assert!(Arc::ptr_eq(&cells(&unlike), &cells(&again)));
    assert!(unlike.index.crowding() < CROWDED * first.index.crowding());
}
