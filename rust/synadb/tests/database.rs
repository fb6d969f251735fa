//! `SynaDB` as a user of the crate sees it.

use synadb::{Access, Error, OpenOptions, Pattern, SynaDB, Value, WriteBatch};
use synadb::{Durability, ValueRef, VectorConfig, VectorStore, limits};

fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process)
}

fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("test.db");
    (directory, path)
}

#[test]
fn values_come_back_after_reopen() {
    let (_directory, path) = place();
    let values = [
        ("null", Value::Null),
        ("float", Value::Float(-0.0)),
        ("int", Value::Int(i64::MIN)),
        ("text", Value::Text("hello\0world".into())),
        ("empty", Value::Bytes(Vec::new())),
        ("bytes", Value::Bytes(vec![7; 100_000])),
        ("vector", Value::Vector(vec![1.5, -2.5], 2)),
    ];
    let db = SynaDB::new(&path).expect("opens");
    for (key, value) in &values {
        db.append(key, value.clone()).expect("appends");
    }
    db.close().expect("closes");
    let db = SynaDB::new(&path).expect("opens again");
    for (key, value) in &values {
        assert_eq!(db.get(key).expect("reads").as_ref(), Some(value), "{key}");
    }
    assert_eq!(db.len(), values.len());
    let mut keys: Vec<_> = values.iter().map(|(key, _)| (*key).to_owned()).collect();
    keys.sort();
    assert_eq!(db.keys(), keys);
    assert!(db.verify().expect("verifies").damage.is_empty());
}

#[test]
fn a_large_value_lies_in_an_extent() {
    let (_directory, path) = place();
    let large: Vec<u8> = (0..9_000_000u32).map(|i| (i % 251) as u8).collect();
    let db = fast().open(&path).expect("opens");
    db.append("large", Value::Bytes(large.clone())).expect("appends");
    db.append("small", Value::Int(1)).expect("appends");
    assert_eq!(db.get("large").expect("reads"), Some(Value::Bytes(large.clone())));
    db.compact().expect("compacts");
    assert_eq!(db.get("large").expect("reads"), Some(Value::Bytes(large)));
    assert!(db.verify().expect("verifies").damage.is_empty());
}

#[test]
fn histories_survive_checkpoint_and_end_with_a_delete() {
    let (_directory, path) = place();
    let db = fast().open(&path).expect("opens");
    let mut expected = Vec::new();
    for i in 0..100 {
        db.append("h", Value::Float(f64::from(i))).expect("appends");
        expected.push(f64::from(i));
    }
    let run: Vec<f64> = (0..1000).map(|i| f64::from(i) * 0.5).collect();
    db.append_floats("h", &run).expect("appends");
    expected.extend(&run);
    db.append("h", Value::Float(7.0)).expect("appends");
    expected.push(7.0);
    assert_eq!(db.get_history_floats("h").expect("reads"), expected);
    db.checkpoint().expect("saves");
    db.append("h", Value::Float(8.0)).expect("appends");
    expected.push(8.0);
    db.close().expect("closes");
    let db = fast().open(&path).expect("opens");
    assert!(db.recovery().expect("open").replayed_from > 8192, "the checkpoint was used");
    assert_eq!(db.get_history_floats("h").expect("reads"), expected);
    assert!(db.remove("h").expect("deletes"));
    assert!(!db.remove("h").expect("deletes nothing"));
    assert!(db.get_history("h").expect("reads").is_empty());
    db.append("h", Value::Float(1.0)).expect("appends");
    assert_eq!(db.get_history_floats("h").expect("reads"), [1.0]);
}

#[test]
fn compaction_keeps_the_newest_values() {
    let (_directory, path) = place();
    let db = fast().open(&path).expect("opens");
    for i in 0..1000 {
        db.append(&format!("k{}", i % 10), Value::Int(i)).expect("appends");
    }
    db.remove("k3").expect("deletes");
    let report = db.compact().expect("compacts");
    assert!(report.bytes_after < report.bytes_before / 4);
    assert_eq!(db.len(), 9);
    assert_eq!(db.get("k9").expect("reads"), Some(Value::Int(999)));
    assert_eq!(db.get_history("k9").expect("reads"), [Value::Int(999)]);
    db.append("k9", Value::Int(5)).expect("appends");
    db.close().expect("closes");
    let db = fast().open(&path).expect("opens");
    assert_eq!(db.get_history("k9").expect("reads"), [Value::Int(999), Value::Int(5)]);
    assert_eq!(db.stats().expect("stats").generation, 1);
}

#[test]
fn a_batch_is_one_commit() {
    let (_directory, path) = place();
    let db = fast().open(&path).expect("opens");
    let mut batch = WriteBatch::new();
    batch.put("a", Value::Int(1)).expect("fits");
    batch.put("a", Value::Int(2)).expect("fits");
    batch.put("b", Value::Int(3)).expect("fits");
    batch.delete("b").expect("fits");
    batch.delete("c").expect("fits");
    db.commit(&batch).expect("commits");
    assert_eq!(db.get_history("a").expect("reads"), [Value::Int(1), Value::Int(2)]);
    assert!(!db.exists("b"));
    assert_eq!((db.len(), db.stats().expect("stats").sequence), (1, 1));
}

#[test]
fn scans_see_new_keys_and_pass_over_dead_ones() {
    let (_directory, path) = place();
    let db = fast().open(&path).expect("opens");
    for key in ["b/2", "a/1", "b/1", "c"] {
        db.append(key, Value::Null).expect("appends");
    }
    let prefix = |p: &str| db.keys_matching(&Pattern::Prefix(p.into())).expect("scans");
    assert_eq!(prefix("b/"), ["b/1", "b/2"]);
    db.append("b/0", Value::Null).expect("appends");
    db.remove("b/1").expect("deletes");
    assert_eq!(prefix("b/"), ["b/0", "b/2"]);
    db.append("b/1", Value::Null).expect("appends");
    db.checkpoint().expect("saves");
    assert_eq!(prefix("b/"), ["b/0", "b/1", "b/2"]);
    assert_eq!(db.keys_matching(&Pattern::Glob("?/1".into())).expect("scans"), ["a/1", "b/1"]);
}

#[test]
fn regression_a_table_name_that_no_record_holds_is_refused_before_anything_is_written() {
    let (_directory, path) = place();
    let db = fast().open(&path).expect("opens");
    let config = VectorConfig { dimensions: 2, ..VectorConfig::default() };
    let attach = |bytes: usize| VectorStore::attach(&db, &"n".repeat(bytes), config.clone());
    for bytes in [0, limits::KEY_BYTES_MAX + 1] {
        let refused = attach(bytes).and_then(|store| store.insert("k", &[1.0, 2.0]));
        let Err(Error::InvalidArgument { argument: "name", .. }) = refused else {
            panic!("{bytes}: {refused:?}");
        };
    }
    assert_eq!(db.sequence().expect("asked"), 0);
    attach(limits::KEY_BYTES_MAX).and_then(|store| store.insert("k", &[1.0, 2.0])).expect("taken");
    drop(db);
    let db = fast().open(&path).expect("opens again");
    assert_eq!(db.stats().expect("stats").tables.len(), 1);
}

#[test]
fn a_reader_follows_a_writer() {
    let (_directory, path) = place();
    let writer = fast().access(Access::Exclusive).open(&path).expect("opens");
    writer.append("k", Value::Int(1)).expect("appends");
    // Another process is imitated by a copy of the path that the registry does not know.
    let status = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "reader_child", "--ignored", "--nocapture"])
        .env("SYNADB_TEST_PATH", &path)
        .status()
        .expect("runs");
    assert!(status.success());
}

#[test]
fn a_holder_without_a_name_is_not_called_process_0() {
    let told = Error::Locked { path: "a.db".into(), pid: 0 }.to_string();
    assert!(told.starts_with("a.db: ") && told.contains("cannot be named"), "{told}");
}

#[test]
#[ignore = "run by a_reader_follows_a_writer in a process of its own"]
fn reader_child() {
    let Ok(path) = std::env::var("SYNADB_TEST_PATH") else { return };
    let reader = OpenOptions::new().access(Access::ReadOnly).open(&path).expect("opens");
    assert_eq!(reader.get("k").expect("reads"), Some(Value::Int(1)));
    assert!(matches!(reader.append("k", Value::Null), Err(Error::ReadOnly { .. })));
    let refused = OpenOptions::new().open(&path);
    assert!(matches!(refused, Err(Error::Locked { pid, .. }) if pid != std::process::id()));
}

#[test]
fn threads_share_a_handle() {
    let (_directory, path) = place();
    let db = fast().open(&path).expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let db = &db;
            scope.spawn(move || {
                for i in 0..2000 {
                    let key = format!("t{thread}/{}", i % 50);
                    db.put(&key, &ValueRef::Int(i)).expect("puts");
                    assert_eq!(db.get(&key).expect("reads"), Some(Value::Int(i)));
                }
            });
        }
    });
    assert_eq!(db.len(), 200);
    assert_eq!(db.stats().expect("stats").sequence, 8000);
}
