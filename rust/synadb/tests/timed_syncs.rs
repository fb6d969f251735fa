//! Commits that are not synced are synced by themselves in time, in whichever way they came.

use std::time::{Duration, Instant};

use synadb::arch::{HybridConfig, HybridVectorStore};
use synadb::cascade::CascadeConfig;
use synadb::gwi::GwiConfig;
use synadb::mmap_vector::{MmapVectorConfig, MmapVectorStore};
use synadb::vector::{VectorConfig, VectorStore};
use synadb::{
    Access, Durability, Maintenance, OpenOptions, Result, SynaDB, Value, ValueRef, WriteBatch,
};

/// So long a test waits for what comes after moments.
const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);
const WIDTH: u16 = 8;

fn options(interval: Option<Duration>) -> OpenOptions {
    OpenOptions::new().durability(Durability::Process).sync_interval(interval)
}

fn is_synced(database: &SynaDB) -> bool {
    let stats = database.stats().expect("stats");
    stats.synced_bytes >= stats.log_bytes
}

fn wait_for_sync(database: &SynaDB, what: &str) {
    let begun = Instant::now();
    while !is_synced(database) {
        assert!(begun.elapsed() < PATIENCE, "was not synced: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn vector(n: u64) -> Vec<f32> {
    (0..u64::from(WIDTH)).map(|i| (n * 31 + i * 7) as f32 % 13.0 + 1.0).collect()
}

fn hybrid() -> HybridConfig {
    let hot = GwiConfig { dimensions: WIDTH, ..GwiConfig::default() };
    HybridConfig { hot, cold: CascadeConfig { dimensions: WIDTH, ..CascadeConfig::default() } }
}

fn config() -> VectorConfig {
    VectorConfig { dimensions: WIDTH, ..VectorConfig::default() }
}

/// A way to write, and its name.
type Way<T> = (&'static str, fn(&T, u64) -> Result<()>);

/// Each way to write a value.
fn values() -> Vec<Way<SynaDB>> {
    vec![
        ("append", |db, n| db.append("k", Value::Int(n as i64)).map(drop)),
        ("try_put", |db, n| {
            // Nothing is written where the write lock was given back, which is not so of one alone.
            db.try_put("k", &ValueRef::Float(n as f64)).map(drop)
        }),
        ("a large value", |db, _| db.append("large", Value::Bytes(vec![7; 3 << 20])).map(drop)),
        ("put_many", |db, n| {
            db.put_many(&[("a", ValueRef::Int(n as i64)), ("b", ValueRef::Null)]).map(drop)
        }),
        ("append_floats", |db, n| db.append_floats("f", &[n as f64; 1000]).map(drop)),
        ("a batch", |db, n| {
            let mut batch = WriteBatch::new();
            batch.put("k", Value::Int(n as i64))?;
            db.commit(&batch).map(drop)
        }),
        ("a transaction", |db, n| {
            let mut transaction = db.transaction()?;
            transaction.put("k", Value::Int(n as i64))?;
            transaction.commit().map(drop)
        }),
        ("what is deleted next", |db, _| db.append("gone", Value::Null).map(drop)),
        ("delete", |db, _| db.delete("gone").map(drop)),
    ]
}

/// Each way to write a vector.
fn vectors() -> Vec<Way<VectorStore>> {
    vec![
        ("insert", |store, n| store.insert("v", &vector(n))),
        ("update", |store, n| store.update("v", &vector(n + 1))),
        ("insert_batch", |store, n| {
            store.insert_batch(&["w", "x"], &[&vector(n), &vector(n + 2)]).map(drop)
        }),
        ("insert_rows of many", |store, n| {
            let keys: Vec<String> = (0..50_000).map(|i| format!("{n}/{i}")).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let rows: Vec<f32> = (0..50_000).flat_map(vector).collect();
            store.insert_rows(&keys, &rows).map(drop)
        }),
        ("remove", |store, _| store.remove("v").map(drop)),
    ]
}

/// Each way to write to a hybrid store.
fn hybrids() -> Vec<Way<HybridVectorStore>> {
    vec![
        ("ingest", |store, n| store.ingest("h", &vector(n))),
        ("ingest_batch", |store, n| store.ingest_batch(&["i"], &[&vector(n)]).map(drop)),
        ("promote_to_cold", |store, _| store.promote_to_cold().map(drop)),
    ]
}

#[test]
fn every_way_to_write_is_synced_in_time() {
    for access in [Access::Shared, Access::Exclusive] {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.db");
        let database = options(Some(SOON)).access(access).open(&path).expect("opens");
        let store = VectorStore::attach(&database, "vector:t", config()).expect("opens");
        let hybrid_store = HybridVectorStore::attach(&database, hybrid()).expect("opens");
        // Again: what came behind a sync is due anew.
        for round in 0..3 {
            for (what, write) in values() {
                write(&database, round).expect("commits");
                wait_for_sync(&database, what);
            }
            for (what, write) in vectors() {
                write(&store, round).expect("commits");
                wait_for_sync(&database, what);
            }
            for (what, write) in hybrids() {
                write(&hybrid_store, round).expect("commits");
                wait_for_sync(&database, what);
            }
        }
    }
}

#[test]
fn what_is_written_all_the_time_is_synced_meanwhile() {
    let folder = tempfile::tempdir().expect("a directory");
    let database = options(Some(SOON)).open(folder.path().join("a.db")).expect("opens");
    let synced = || database.stats().expect("stats").synced_bytes;
    let (begun, mut seen) = (Instant::now(), synced());
    let mut advances = 0;
    while advances < 5 {
        database.append("k", Value::Int(1)).expect("commits");
        let now = synced();
        advances += u32::from(now > seen);
        seen = seen.max(now);
        assert!(begun.elapsed() < PATIENCE, "it was synced {advances} times");
    }
}

#[test]
fn nobody_syncs_where_that_is_not_wished_for() {
    let folder = tempfile::tempdir().expect("a directory");
    let off = options(Some(SOON)).maintenance(Maintenance::Off);
    for (n, options) in [options(None), off, options(Some(HOUR))].into_iter().enumerate() {
        let database = options.open(folder.path().join(format!("{n}.db"))).expect("opens");
        for (what, write) in values() {
            write(&database, 1).expect("commits");
            std::thread::sleep(4 * SOON);
            write(&database, 2).expect("commits");
            assert!(!is_synced(&database), "{what} of {n}");
        }
        // Returns though the hour is not over.
        database.close().expect("closes");
    }
}

#[test]
fn the_shortest_of_the_intervals_counts() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("a.db");
    let patient = options(Some(HOUR)).open(&path).expect("opens");
    let prompt = options(Some(SOON)).open(&path).expect("opens");
    patient.append("k", Value::Int(1)).expect("commits");
    std::thread::sleep(4 * SOON);
    assert!(!is_synced(&patient));
    prompt.append("k", Value::Int(2)).expect("commits");
    wait_for_sync(&patient, "that of both");
    patient.append("k", Value::Int(3)).expect("commits");
    std::thread::sleep(4 * SOON);
    assert!(!is_synced(&patient), "only the patient one has written since");
}

#[test]
fn it_goes_on_in_the_file_that_a_compaction_makes() {
    let folder = tempfile::tempdir().expect("a directory");
    let database = options(Some(SOON)).open(folder.path().join("a.db")).expect("opens");
    for n in 0..10 {
        database.append("k", Value::Int(n)).expect("commits");
        database.compact().expect("compacts");
        database.append("k", Value::Int(n)).expect("commits");
        wait_for_sync(&database, "what came behind a compaction");
    }
}

#[test]
fn stores_on_a_path_do_as_their_configurations_say() {
    let folder = tempfile::tempdir().expect("a directory");
    for (seconds, interval) in [(7, Some(Duration::from_secs(7))), (0, None)] {
        let path = folder.path().join(format!("{seconds}"));
        let config =
            VectorConfig { checkpoint_interval_secs: seconds, sync_on_write: false, ..config() };
        let store = VectorStore::new(&path, config).expect("opens");
        assert_eq!(store.settings().sync_interval, interval);
        let path = folder.path().join(format!("{seconds}.mmap"));
        let config = MmapVectorConfig {
            dimensions: WIDTH,
            checkpoint_interval_secs: seconds,
            ..MmapVectorConfig::default()
        };
        let store = MmapVectorStore::new(&path, config).expect("opens");
        assert_eq!(store.store().settings().sync_interval, interval);
    }
}

#[test]
fn it_is_thirty_seconds_where_nothing_is_said() {
    let folder = tempfile::tempdir().expect("a directory");
    let usual = Some(Duration::from_secs(30));
    let of = |settings: synadb::Settings| settings.sync_interval;
    let store = VectorStore::new(folder.path().join("a"), config()).expect("opens");
    assert_eq!(of(store.settings()), usual);
    let store = MmapVectorConfig { dimensions: WIDTH, ..MmapVectorConfig::default() };
    let store = MmapVectorStore::new(folder.path().join("b"), store).expect("opens");
    assert_eq!(of(store.store().settings()), usual);
    let database = SynaDB::new(folder.path().join("c")).expect("opens");
    assert_eq!(of(database.settings()), usual);
    let store = HybridVectorStore::attach(&database, hybrid()).expect("opens");
    assert_eq!(of(store.database().settings()), usual);
}
