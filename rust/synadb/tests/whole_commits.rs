//! What a reader sees while others commit is made of whole commits.

use std::fs::hard_link;
use std::path::Path;
use std::thread;

use synadb::{Durability, OpenOptions, SynaDB, Value, VectorConfig, VectorStore, WriteBatch};

const BATCHES: usize = 400;
const POINTS: usize = 50;
const BEFORE: usize = 10;

fn open(path: &Path) -> SynaDB {
    OpenOptions::new().durability(Durability::Process).open(path).expect("opens")
}

fn begin(db: &SynaDB) {
    for point in 0..BEFORE {
        db.append("k", Value::Float(point as f64)).expect("appended");
    }
}

/// Commits batches of points for one key.
fn commit_batches(db: &SynaDB) {
    for _ in 0..BATCHES {
        let mut batch = WriteBatch::new();
        (0..POINTS).for_each(|i| batch.put("k", Value::Float(i as f64)).expect("a key"));
        db.commit(&batch).expect("commits");
    }
}

/// Reads the history until all of it is there; every length must be that of whole commits.
fn read_whole(db: &SynaDB) {
    let mut last = 0;
    while last < BEFORE + BATCHES * POINTS {
        let len = db.get_history_floats("k").expect("read").len();
        assert!(len >= BEFORE && (len - BEFORE).is_multiple_of(POINTS), "{len} points");
        assert!(len >= last, "{len} points behind {last}");
        last = len;
    }
}

#[test]
fn a_float_history_is_never_read_in_the_middle_of_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("db"));
    begin(&db);
    thread::scope(|scope| {
        scope.spawn(|| commit_batches(&db));
        scope.spawn(|| read_whole(&db));
        scope.spawn(|| read_whole(&db));
    });
}

#[test]
fn a_float_history_is_never_read_between_the_commits_of_others_that_are_applied_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("db"));
    begin(&db);
    // A second name gets a second engine, as a second process would.
    hard_link(folder.path().join("db"), folder.path().join("other")).expect("linked");
    let other = open(&folder.path().join("other"));
    thread::scope(|scope| {
        scope.spawn(|| commit_batches(&db));
        // One applies what is new while the other reads.
        scope.spawn(|| read_whole(&other));
        scope.spawn(|| read_whole(&other));
    });
}

#[test]
fn a_sequence_number_is_not_ahead_of_what_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("db"));
    let commits = 300_000;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=commits {
                db.append("k", Value::Int(number)).expect("appended");
            }
        });
        scope.spawn(|| {
            let mut sequence = 0;
            while sequence < commits as u64 {
                // Who expects nothing newer than this must have read what it gave.
                sequence = db.sequence().expect("asked");
                let Some(Value::Int(read)) = db.get("k").expect("read") else { continue };
                assert!(read as u64 >= sequence, "{read} was read at commit {sequence}");
            }
        });
    });
}

#[test]
fn keys_counts_and_searches_see_whole_batches() {
    const KEYS: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let db = open(&folder.path().join("db"));
    let config = VectorConfig { dimensions: 4, ..VectorConfig::default() };
    let store = VectorStore::attach(&db, "points", config).expect("attached");
    let batches = 300;
    let name = |batch, i| format!("{batch}/{i}");
    let read = |db: &SynaDB, store: &VectorStore| {
        let mut last = 0;
        while last < batches * KEYS {
            // In this order: each look is one of its own, and may see a later commit.
            let values = [db.len(), db.keys().len()];
            let searched = store.search(&[1.0, 0.5, 0.0, 0.0], batches * KEYS).expect("searched");
            let vectors = [store.len(), store.keys().len(), searched.len()];
            for counts in [&values[..], &vectors] {
                assert!(counts.iter().all(|count| count.is_multiple_of(KEYS)), "{counts:?}");
            }
            assert!(values.is_sorted(), "{values:?}");
            assert!(vectors[0] <= vectors[1], "{vectors:?}");
            last = searched.len();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..batches {
                let mut changes = WriteBatch::new();
                for i in 0..KEYS {
                    changes.put(&name(batch, i), Value::Int(1)).expect("a key");
                    let vector = [batch as f32, i as f32, 0.0, 1.0];
                    store.insert_in(&mut changes, &name(batch, i), &vector).expect("added");
                }
                db.commit(&changes).expect("commits");
            }
        });
        scope.spawn(|| read(&db, &store));
        scope.spawn(|| read(&db, &store));
    });
}
