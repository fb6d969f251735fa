//! Closing a file beside threads that are at it.

use std::time::Duration;

use synadb::vector::{VectorConfig, VectorStore};
use synadb::{Access, Durability, Error, OpenOptions, SynaDB, Value};

const ROWS: usize = 60_000;

/// What a store has once another thread closed its file in the midst of a batch, and what the batch
/// said.
fn closed_in_a_batch(access: Access, pause: Duration) -> (Result<usize, Error>, usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let keys: Vec<String> = (0..ROWS).map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows = vec![1.0; 8 * ROWS];
    let config = VectorConfig { dimensions: 8, ..VectorConfig::default() };
    let options = OpenOptions::default().access(access).durability(Durability::Process);
    let db = options.open(&path).expect("opens");
    let store = VectorStore::attach(&db, "v", config.clone()).expect("attaches");
    store.insert("first", &rows[..8]).expect("inserts");
    let said = std::thread::scope(|scope| {
        let batch = scope.spawn(|| store.insert_rows(&keys, &rows));
        std::thread::sleep(pause);
        store.close_handle().expect("closes");
        db.close_handle().expect("closes");
        // Somebody else has it while the batch may still be at it.
        let db = SynaDB::new(&path).expect("opens");
        db.append("key", Value::Float(1.0)).expect("appends");
        let said = batch.join().expect("no panic");
        db.append("key", Value::Float(2.0)).expect("appends");
        assert_eq!(db.verify().expect("verifies").damage, []);
        said
    });
    let db = SynaDB::new(&path).expect("opens");
    let store = VectorStore::attach(&db, "v", config).expect("attaches");
    (said, store.len() - 1)
}

#[test]
fn nothing_is_acknowledged_once_another_thread_has_closed_the_file() {
    let mut cut = 0;
    for access in [Access::Exclusive, Access::Shared] {
        for pause in (0..30).map(|step| Duration::from_millis(3 * step)) {
            let (said, stored) = closed_in_a_batch(access, pause);
            match said {
                Ok(new) => assert_eq!((new, stored), (ROWS, ROWS), "{access:?} {pause:?}"),
                Err(Error::Closed) => assert!(stored < ROWS, "{access:?} {pause:?}"),
                Err(error) => panic!("{access:?} {pause:?}: {error}"),
            }
            cut += usize::from(stored > 0 && stored < ROWS);
        }
    }
    assert!(cut > 0, "no batch was cut in its midst");
}
