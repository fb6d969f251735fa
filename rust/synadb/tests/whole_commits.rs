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
