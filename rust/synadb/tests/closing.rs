//! Closing a file beside threads that are at it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Access, Durability, Error, OpenOptions, SynaDB, Value};

const ROWS: usize = 200_000;

fn opened(path: &Path, access: Access) -> SynaDB {
    let options = OpenOptions::default().access(access).durability(Durability::Process);
    options.open(path).expect("opens")
}

/// What a store has once another thread closed its file in the midst of a batch, and what the batch
/// said.
fn closed_in_a_batch(access: Access) -> (Result<usize, Error>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let keys: Vec<String> = (0..ROWS).map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows = vec![1.0; 8 * ROWS];
    let config = VectorConfig { dimensions: 8, ..VectorConfig::default() };
    let db = opened(&path, access);
    let store = VectorStore::attach(&db, "v", config.clone()).expect("attaches");
    store.insert("first", &rows[..8]).expect("inserts");
    let said = std::thread::scope(|scope| {
        let batch = scope.spawn(|| store.insert_rows(&keys, &rows));
        // Some of its commits are there.
        while store.len() < 2 && !batch.is_finished() {
            std::hint::spin_loop();
        }
        store.close_handle().expect("closes");
        db.close_handle().expect("closes");
        // Somebody else has it while the batch may still be at it.
        let db = opened(&path, Access::Shared);
        db.append("key", Value::Float(1.0)).expect("appends");
        let said = batch.join().expect("no panic");
        db.append("key", Value::Float(2.0)).expect("appends");
        assert_eq!(db.verify().expect("verifies").damage, []);
        said
    });
    let db = opened(&path, Access::Shared);
    let store = VectorStore::attach(&db, "v", config).expect("attaches");
    (said, store.len() - 1)
}

#[test]
fn nothing_is_acknowledged_once_another_thread_has_closed_the_file() {
    let mut cut = 0;
    for turn in 0..16 {
        let access = [Access::Exclusive, Access::Shared][turn % 2];
        let (said, stored) = closed_in_a_batch(access);
        match said {
            Ok(new) => assert_eq!((new, stored), (ROWS, ROWS), "{access:?}"),
            Err(Error::Closed) => assert!(stored < ROWS, "{access:?}"),
            Err(error) => panic!("{access:?}: {error}"),
        }
        cut += usize::from(stored > 0 && stored < ROWS);
    }
    assert!(cut > 0, "no batch was cut in its midst");
}

#[test]
fn a_value_that_was_acknowledged_is_there_when_another_thread_has_closed_the_file() {
    for turn in 0..200 {
        let access = [Access::Exclusive, Access::Shared][turn % 2];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let db = opened(&path, access);
        let acknowledged = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                loop {
                    match db.append("many", Value::Int(0)) {
                        Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
                        Err(error) => return error,
                    };
                }
            });
            while acknowledged.load(Ordering::Relaxed) < 50 {
                std::hint::spin_loop();
            }
            db.close_handle().expect("closes");
            let next = opened(&path, Access::Shared);
            for _ in 0..50 {
                next.append("other", Value::Int(0)).expect("appends");
            }
            let told = writer.join().expect("no panic");
            assert!(matches!(told, Error::Closed), "{access:?}: {told}");
            assert_eq!(next.verify().expect("verifies").damage, []);
        });
        let next = opened(&path, Access::Shared);
        let of = |key| next.get_history(key).expect("reads").len();
        assert_eq!((of("many"), of("other")), (acknowledged.into_inner(), 50), "{access:?}");
    }
}
