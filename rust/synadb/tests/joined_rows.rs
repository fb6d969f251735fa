//! Rows of several places shown as one matrix.

use std::path::Path;

use synadb::vector::{JoinedRows, Reader, VectorConfig, VectorStore};
use synadb::{SynaDB, WriteBatch};

fn opened(path: &Path, dimensions: u16) -> VectorStore {
    VectorStore::new(path, VectorConfig { dimensions, ..VectorConfig::default() }).expect("opens")
}

/// Inserts rows of which each component is the number of its key.
fn insert(store: &VectorStore, numbers: std::ops::Range<usize>) {
    let keys: Vec<String> = numbers.clone().map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let width = usize::from(store.dimensions());
    let rows: Vec<f32> = numbers.flat_map(|number| vec![number as f32; width]).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
}

fn compact(path: &Path) {
    SynaDB::new(path).expect("opens").compact().expect("compacts");
}

fn joined(store: &VectorStore) -> (Reader, Option<JoinedRows>) {
    let reader = store.reader().expect("is open");
    let runs = reader.runs();
    let joined = Reader::join(&[(reader.clone(), runs)]).expect("reads");
    (reader, joined)
}

#[test]
fn batches_of_any_size_are_one_matrix_in_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    for (dimensions, batch) in [(5, 2001), (16, 1500), (100, 777), (384, 123), (1040, 70)] {
        let path = folder.path().join(format!("{dimensions}.db"));
        let store = opened(&path, dimensions);
        for at in 0..9 {
            insert(&store, at * batch..(at + 1) * batch);
        }
        for _ in 0..2 {
            let (_, joined) = joined(&store);
            let joined = joined.expect("batches of 64 KiB and more");
            let rows = joined.rows().expect("rows");
            assert_eq!((rows.rows, rows.dimensions), (9 * batch, usize::from(dimensions)));
            for number in 0..rows.rows {
                assert!(rows.row(number).iter().all(|&found| found == number as f32));
            }
            // A run of its own, which the next batch and a compaction follow.
            insert(&store, 9 * batch..9 * batch + 1);
            store.remove(&(9 * batch).to_string()).expect("removes");
            compact(&path);
        }
    }
}

#[test]
fn other_tables_are_joined_where_they_are_of_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) =
        (opened(&folder.path().join("a"), 64), opened(&folder.path().join("b"), 64));
    insert(&first, 0..2048);
    insert(&second, 0..2048);
    let of = |store: &VectorStore| {
        let reader = store.reader().expect("is open");
        let runs = reader.runs();
        (reader, runs)
    };
    let join = |tables: &[(Reader, Vec<std::ops::Range<u32>>)]| {
        Reader::join(tables).expect("reads").and_then(|joined| Some(joined.rows()?.rows))
    };
    assert_eq!(join(&[of(&first), of(&first)]), Some(4096));
    assert_eq!(join(&[of(&first), of(&second)]), None);
    // Of another generation of the same file.
    let before = of(&first);
    compact(&folder.path().join("a"));
    assert_eq!(join(&[before.clone(), of(&first)]), None);
    assert_eq!(join(&[before]), Some(2048));
    assert_eq!(join(&[]), None);
    let (reader, runs) = of(&first);
    let behind = runs[0].start..runs[0].end + 1;
    assert_eq!(join(&[(reader, vec![behind])]), None, "no such run");
}

#[test]
fn a_batch_of_more_than_an_extent_fills_each_slot_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let store = opened(&path, 100);
    // So many that the next extent leaves some slots empty.
    for number in 0..1030 {
        insert(&store, number..number + 1);
    }
    let mut batch = WriteBatch::new();
    for number in 1030..90_000 {
        let row = vec![number as f32; 100];
        store.insert_in(&mut batch, &number.to_string(), &row).expect("fits");
    }
    let db = SynaDB::new(&path).expect("opens");
    db.commit(&batch).expect("commits");
    assert_eq!(db.verify().expect("verifies").damage, []);
    assert_eq!(store.len(), 90_000);
    let reader = store.reader().expect("is open");
    for run in reader.runs() {
        let rows = reader.block(run.clone()).expect("a run");
        for (place, key) in reader.keys(run).expect("intact").iter().enumerate() {
            let number: f32 = key.parse().expect("a number");
            assert!(rows.row(place).iter().all(|&found| found == number), "{key}");
        }
    }
    let (_, joined) = joined(&store);
    assert_eq!(joined.expect("in order").rows().map(|rows| rows.rows), Some(90_000));
}
