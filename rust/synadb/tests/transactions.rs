//! Commits under a condition, across tables, and extents that several threads fill at once.

use std::sync::Barrier;
use std::time::Duration;

use synadb::{
    DistanceMetric, Error, OpenOptions, SynaDB, Value, VectorConfig, VectorStore, WriteBatch,
};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn fast() -> OpenOptions {
    OpenOptions::new().durability(synadb::Durability::Process)
}

fn euclidean(dimensions: u16) -> VectorConfig {
    VectorConfig { dimensions, metric: DistanceMetric::Euclidean, ..VectorConfig::default() }
}

#[test]
fn a_batch_fails_where_a_key_or_a_read_was_changed_since() {
    let directory = directory();
    let db = SynaDB::new(directory.path().join("a.db")).expect("opens");
    db.append("a", Value::Int(1)).expect("puts");
    let seen = db.sequence().expect("open");
    db.append("other", Value::Int(1)).expect("puts");

    let mut batch = WriteBatch::new();
    batch.put("a", Value::Int(2)).expect("a key");
    batch.expect_unchanged_since(seen);
    assert_eq!(db.commit(&batch).expect("unchanged"), Some(seen + 2));
    // Its own commit is a change like any other.
    let conflict = db.commit(&batch).expect_err("changed");
    let Error::Conflict { key, expected, now, forgotten } = conflict else { panic!("{conflict}") };
    assert_eq!((&*key, expected, now, forgotten), ("a", Some(seen), Some(seen + 2), None));

    let mut reading = WriteBatch::new();
    reading.put("b", Value::Int(2)).expect("a key");
    reading.read("other").expect("a key");
    reading.expect_unchanged_since(seen);
    assert!(matches!(db.commit(&reading), Err(Error::Conflict { .. })));
    assert!(!db.exists("b"));
    assert_eq!(db.sequence().expect("open"), seen + 2);
}

#[test]
fn a_delete_is_a_change_also_after_it_was_compacted_away() {
    let directory = directory();
    let db = SynaDB::new(directory.path().join("a.db")).expect("opens");
    db.append("a", Value::Int(1)).expect("puts");
    db.append("kept", Value::Int(1)).expect("puts");
    let seen = db.sequence().expect("open");
    let mut batch = WriteBatch::new();
    batch.put("a", Value::Int(2)).expect("a key");
    batch.expect_unchanged_since(seen);
    db.delete("a").expect("deletes");
    assert!(matches!(db.commit(&batch), Err(Error::Conflict { .. })));
    db.compact().expect("compacts");
    let conflict = db.commit(&batch).expect_err("nobody knows");
    let Error::Conflict { now, forgotten, .. } = &conflict else { panic!("{conflict}") };
    assert_eq!((*now, *forgotten), (None, Some(seen + 1)));
    let said = conflict.to_string();
    assert!(said.contains("up to commit 3 was compacted away"), "{said}");
    assert!(said.contains("changed after commit 2 is not known"), "{said}");
    assert!(!db.exists("a"));
}

#[test]
fn a_key_keeps_its_version_through_reopening_and_compaction() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let db = fast().open(&path).expect("opens");
    let mut versions = Vec::new();
    for number in 0..3000 {
        let key = format!("k{}", number % 1000);
        db.append(&key, Value::Bytes(vec![0; 100])).expect("puts");
        versions.push((key, db.sequence().expect("open")));
    }
    let newest = versions.split_off(2000);
    let check = |db: &SynaDB| {
        for (key, version) in &newest {
            assert_eq!(db.version(key).expect("open"), Some(*version), "{key}");
        }
    };
    check(&db);
    assert_eq!(db.version("absent").expect("open"), None);
    db.close().expect("closes");
    let db = fast().open(&path).expect("opens from the checkpoint");
    check(&db);
    db.compact().expect("compacts");
    check(&db);
    db.append("k0", Value::Null).expect("puts");
    assert_eq!(db.version("k0").expect("open"), Some(3001));
}

#[test]
fn expected_versions_are_exact() {
    let directory = directory();
    let db = SynaDB::new(directory.path().join("a.db")).expect("opens");
    let put = |expected: Option<u64>| {
        let mut batch = WriteBatch::new();
        batch.put("a", Value::Int(1)).expect("a key");
        batch.expect("a", expected).expect("a key");
        db.commit(&batch)
    };
    assert!(matches!(put(Some(1)), Err(Error::Conflict { now: None, .. })));
    let first = put(None).expect("absent");
    assert!(matches!(put(None), Err(Error::Conflict { .. })));
    let second = put(first).expect("as expected");
    assert!(matches!(put(first), Err(Error::Conflict { .. })));
    db.delete("a").expect("deletes");
    assert!(matches!(put(second), Err(Error::Conflict { now: None, .. })));
    put(None).expect("absent again");
}

#[test]
fn values_and_vectors_of_several_stores_commit_as_one() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let db = fast().open(&path).expect("opens");
    let (narrow, wide) = (
        VectorStore::attach(&db, "narrow", euclidean(2)).expect("attaches"),
        VectorStore::attach(&db, "wide", euclidean(64)).expect("attaches"),
    );
    let mut batch = WriteBatch::new();
    batch.put("text", Value::Text("two".to_owned())).expect("a key");
    narrow.insert_in(&mut batch, "a", &[1.0, 2.0]).expect("fits");
    narrow.insert_in(&mut batch, "b", &[3.0, 4.0]).expect("fits");
    narrow.insert_in(&mut batch, "a", &[5.0, 6.0]).expect("fits");
    narrow.remove_in(&mut batch, "b").expect("a key");
    narrow.remove_in(&mut batch, "absent").expect("a key");
    for row in 0..100 {
        wide.insert_in(&mut batch, &format!("w{row}"), &[row as f32; 64]).expect("fits");
    }
    assert!(matches!(wide.insert_in(&mut batch, "w", &[0.0; 63]), Err(Error::Dimension { .. })));
    assert_eq!(batch.len(), 106);
    assert_eq!(db.commit(&batch).expect("commits"), Some(1));

    let check = |db: &SynaDB, narrow: &VectorStore, wide: &VectorStore| {
        assert_eq!(db.get("text").expect("open"), Some(Value::Text("two".to_owned())));
        assert_eq!((narrow.len(), wide.len()), (1, 100));
        assert_eq!(narrow.get("a").expect("open"), Some(vec![5.0, 6.0]));
        assert_eq!(wide.get("w99").expect("open"), Some(vec![99.0; 64]));
        assert_eq!(wide.search(&[41.2; 64], 1).expect("searches")[0].key, "w41");
    };
    check(&db, &narrow, &wide);
    for handle in [&narrow, &wide] {
        handle.close_handle().expect("closes");
    }
    db.close().expect("closes");
    let db = fast().open(&path).expect("opens");
    let narrow = VectorStore::attach(&db, "narrow", euclidean(2)).expect("attaches");
    let wide = VectorStore::attach(&db, "wide", euclidean(64)).expect("attaches");
    check(&db, &narrow, &wide);
}

#[test]
fn a_batch_with_vectors_of_another_file_changes_neither() {
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    let other = fast().open(directory.path().join("b.db")).expect("opens");
    let store = VectorStore::attach(&other, "v", euclidean(1)).expect("attaches");
    let mut batch = WriteBatch::new();
    batch.put("a", Value::Null).expect("a key");
    store.insert_in(&mut batch, "v", &[1.0]).expect("fits");
    assert!(matches!(db.commit(&batch), Err(Error::InvalidArgument { argument: "batch", .. })));
    assert!(db.is_empty() && store.is_empty());
}

#[test]
fn a_transaction_sees_what_it_wrote_and_others_see_it_when_it_commits() {
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    db.append("a", Value::Int(1)).expect("puts");
    let mut transaction = db.transaction().expect("begins");
    transaction.put("a", Value::Int(2)).expect("a key");
    transaction.delete("b").expect("a key");
    transaction.batch().append_floats("series", &[1.0, 2.0]).expect("a key");
    assert_eq!(transaction.get("a").expect("open"), Some(Value::Int(2)));
    assert_eq!(transaction.get("series").expect("open"), Some(Value::Float(2.0)));
    assert!(!transaction.contains("b").expect("open"));
    assert_eq!(db.get("a").expect("open"), Some(Value::Int(1)));
    assert_eq!(transaction.commit().expect("commits"), Some(2));
    assert_eq!(db.get("a").expect("open"), Some(Value::Int(2)));

    let mut dropped = db.transaction().expect("begins");
    dropped.put("a", Value::Int(3)).expect("a key");
    drop(dropped);
    db.append("after", Value::Null).expect("the lock was given back");
    assert_eq!(db.get("a").expect("open"), Some(Value::Int(2)));
}

#[test]
fn a_write_past_an_open_transaction_of_the_thread_is_refused_and_others_time_out() {
    let directory = directory();
    let options = fast().lock_timeout(Duration::from_millis(50));
    let db = options.open(directory.path().join("a.db")).expect("opens");
    let transaction = db.transaction().expect("begins");
    let refused = db.append("a", Value::Null);
    assert!(matches!(refused, Err(Error::InvalidArgument { argument: "transaction", .. })));
    assert!(matches!(db.compact(), Err(Error::InvalidArgument { argument: "transaction", .. })));
    std::thread::scope(|scope| {
        let waited = scope.spawn(|| db.append("a", Value::Null)).join().expect("joins");
        assert!(matches!(waited, Err(Error::Locked { .. })));
    });
    transaction.rollback();
    db.append("a", Value::Null).expect("puts");
}

#[test]
fn increments_of_many_threads_all_count() {
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    db.append("count", Value::Int(0)).expect("puts");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut transaction = db.transaction().expect("begins");
                    let Some(Value::Int(count)) = transaction.get("count").expect("open") else {
                        panic!("a count")
                    };
                    transaction.put("count", Value::Int(count + 1)).expect("a key");
                    transaction.commit().expect("commits");
                }
            });
        }
    });
    assert_eq!(db.get("count").expect("open"), Some(Value::Int(400)));
}

#[test]
fn batches_that_fill_their_extents_side_by_side_lose_nothing() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let db = fast().open(&path).expect("opens");
    let store = VectorStore::attach(&db, "v", euclidean(32)).expect("attaches");
    let begin = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (store, db, begin) = (&store, &db, &begin);
            scope.spawn(move || {
                begin.wait();
                for round in 0..12 {
                    // Both sides of the size from which a batch has an extent of its own.
                    let rows = if round % 3 == 0 { 3 } else { 700 };
                    let keys: Vec<_> =
                        (0..rows).map(|row| format!("{thread}.{round}.{row}")).collect();
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let vectors: Vec<f32> = (0..rows)
                        .flat_map(|row| [(thread * 1_000_000 + round * 1000 + row) as f32; 32])
                        .collect();
                    assert_eq!(store.insert_rows(&keys, &vectors).expect("inserts"), rows);
                    let large = vec![(16 * thread + round) as u8; 3 << 20];
                    db.append(&format!("{thread}.{round}"), Value::Bytes(large)).expect("puts");
                    if thread == 0 && round == 6 {
                        db.compact().expect("compacts");
                    }
                }
            });
        }
    });
    let check = |db: &SynaDB, store: &VectorStore| {
        assert_eq!(store.len(), 4 * (4 * 3 + 8 * 700));
        for key in store.keys() {
            let parts: Vec<usize> =
                key.split('.').map(|part| part.parse().expect("a number")).collect();
            let expected = (parts[0] * 1_000_000 + parts[1] * 1000 + parts[2]) as f32;
            assert_eq!(store.get(&key).expect("open"), Some(vec![expected; 32]), "{key}");
        }
        let found = store.search(&[3_011_699.0; 32], 2).expect("searches");
        assert_eq!((&*found[0].key, &*found[1].key), ("3.11.699", "3.11.698"));
        for (thread, round) in (0..4).flat_map(|t| (0..12).map(move |r| (t, r))) {
            let value = db.get(&format!("{thread}.{round}")).expect("open");
            let Some(Value::Bytes(bytes)) = value else { panic!("bytes") };
            assert!(bytes.len() == 3 << 20 && bytes.iter().all(|b| *b == 16 * thread + round));
        }
        assert_eq!(db.verify().expect("open").damage, []);
    };
    check(&db, &store);
    store.close_handle().expect("closes");
    db.close().expect("closes");
    for without_checkpoint in [false, true] {
        if without_checkpoint {
            std::fs::remove_file(directory.path().join("a.db-ckpt")).expect("a checkpoint");
        }
        let db = fast().open(&path).expect("opens");
        let store = VectorStore::attach(&db, "v", euclidean(32)).expect("attaches");
        check(&db, &store);
        store.close_handle().expect("closes");
        db.close().expect("closes");
    }
}

#[test]
fn a_large_batch_is_checked_whole_and_committed_in_pieces_beside_others() {
    const ROWS: usize = 50_000;
    let directory = directory();
    let path = directory.path().join("a.db");
    let db = fast().open(&path).expect("opens");
    let store = VectorStore::attach(&db, "v", euclidean(30)).expect("attaches");
    let keys: Vec<_> = (0..ROWS).map(|row| format!("k{row}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut rows: Vec<f32> = (0..ROWS).flat_map(|row| [row as f32; 30]).collect();
    rows[ROWS * 30 - 1] = f32::INFINITY;
    assert!(matches!(store.insert_rows(&keys, &rows), Err(Error::InvalidVector { .. })));
    assert_eq!((store.len(), db.sequence().expect("open")), (0, 0));
    rows[ROWS * 30 - 1] = (ROWS - 1) as f32;

    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                db.append("beside", Value::Int(number)).expect("puts");
                if number % 50 == 0 {
                    db.compact().expect("compacts");
                }
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        let new = [(); 2].map(|()| store.insert_rows(&keys, &rows));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(new.map(|new| new.expect("inserts")), [ROWS, 0]);
    });
    let check = |store: &VectorStore| {
        assert_eq!(store.len(), ROWS);
        for row in (0..ROWS).step_by(97).chain([ROWS - 1]) {
            assert_eq!(store.get(keys[row]).expect("open"), Some(vec![row as f32; 30]));
        }
        assert_eq!(store.search(&[31_999.1; 30], 1).expect("searches")[0].key, "k31999");
    };
    check(&store);
    assert_eq!(db.verify().expect("open").damage, []);
    store.close_handle().expect("closes");
    db.close().expect("closes");
    let db = fast().open(&path).expect("opens");
    check(&VectorStore::attach(&db, "v", euclidean(30)).expect("attaches"));
}

#[test]
fn a_large_batch_of_long_keys_is_stored_whole() {
    // Many commits for each block of rows that is stored.
    const ROWS: usize = 20_000;
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    let store = VectorStore::attach(&db, "v", euclidean(60)).expect("attaches");
    let keys: Vec<_> = (0..ROWS).map(|row| format!("{row:01000}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<f32> = (0..ROWS).flat_map(|row| [row as f32; 60]).collect();
    assert_eq!(store.insert_rows(&keys, &rows).expect("inserts"), ROWS);
    assert_eq!(store.len(), ROWS);
    for row in (0..ROWS).step_by(101) {
        assert_eq!(store.get(keys[row]).expect("open"), Some(vec![row as f32; 60]));
    }
}

#[test]
fn a_large_batch_with_a_bad_row_changes_nothing() {
    const ROWS: usize = 40_000;
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    let store = VectorStore::attach(&db, "v", euclidean(64)).expect("attaches");
    let keys: Vec<_> = (0..ROWS).map(|row| format!("k{row}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<f32> = (0..ROWS).flat_map(|row| [row as f32; 64]).collect();
    let good = keys.clone();
    keys[ROWS - 1] = "";
    assert!(matches!(store.insert_rows(&keys, &rows), Err(Error::EmptyKey)));
    assert!(matches!(store.insert_rows(&good[1..], &rows), Err(Error::InvalidArgument { .. })));
    assert_eq!(db.sequence().expect("open"), 0);

    let mut most = 0;
    for round in 0..20 {
        let mut bad = rows.clone();
        // Others behind the first are seen earlier at times, by the other thread.
        let first = (round * 1_999 + 7) % (ROWS - 100);
        for row in [first, first + 1, first + 90, ROWS - 1] {
            bad[row * 64 + 5] = f32::NAN;
        }
        let refused = store.insert_rows(&good, &bad).expect_err("a row is bad").to_string();
        assert!(refused.contains(&format!("\"k{first}\": component 5")), "{refused}");
        assert_eq!((store.len(), db.sequence().expect("open")), (0, 0));
        let bytes = db.stats().expect("open").log_bytes;
        most = if round == 0 { bytes } else { most };
        assert_eq!(bytes, most, "the space of a refused batch is used again");
    }
    assert_eq!(store.insert_rows(&good, &rows).expect("inserts"), ROWS);
    for (row, key) in good.iter().enumerate() {
        assert_eq!(store.get(key).expect("open"), Some(vec![row as f32; 64]));
    }
    assert_eq!(db.verify().expect("open").damage, []);
}

#[test]
fn space_of_a_refused_batch_is_used_by_the_next_one() {
    let directory = directory();
    let db = fast().open(directory.path().join("a.db")).expect("opens");
    let store = VectorStore::attach(&db, "v", euclidean(32)).expect("attaches");
    let keys: Vec<_> = (0..1000).map(|row| format!("k{row}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut rows = vec![1.0; 32_000];
    rows[31_999] = f32::NAN;
    let refused = |rows: &[f32]| {
        assert!(matches!(store.insert_rows(&keys, rows), Err(Error::InvalidVector { .. })));
        db.stats().expect("open").log_bytes
    };
    let bytes = refused(&rows);
    assert!((0..5).all(|_| refused(&rows) == bytes));
    assert_eq!((store.len(), db.sequence().expect("open")), (0, 0));
    rows[31_999] = 1.0;
    assert_eq!(store.insert_rows(&keys, &rows).expect("inserts"), 1000);
    assert!(db.stats().expect("open").log_bytes < bytes + 128_000);
}
