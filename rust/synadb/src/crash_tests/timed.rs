//! What was committed without a sync is synced in time, whatever becomes of who wrote it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synadb_storage::directory::SimulatedDirectory;
use synadb_storage::simulation::{Failure, Fault, Medium, Operation, Random, Walk};

use super::database::PATH;
use crate::config::{Access, Durability, Maintenance, OpenOptions};
use crate::db::Handle;
use crate::error::{Error, Result};
use crate::kv::SynaDB;
use crate::value::Value;
use crate::vector::{VectorConfig, VectorStore};

/// Media after as many power cuts are looked at.
const STATES: usize = 50;
/// So long a test waits for what takes no time.
const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Option<Duration> = Some(Duration::from_millis(2));

fn options(interval: Option<Duration>) -> OpenOptions {
    OpenOptions::new().durability(Durability::Process).sync_interval(interval)
}

fn open(directory: &Arc<SimulatedDirectory>, options: &OpenOptions) -> Result<SynaDB> {
    let (path, directory) = (Path::new(PATH), Arc::clone(directory) as _);
    let handle = Handle::open_in(path, options, directory, &crate::tables::components())?;
    Ok(SynaDB::from_handle(Arc::new(handle)))
}

fn process(medium: &Arc<Medium>) -> Arc<SimulatedDirectory> {
    Arc::new(SimulatedDirectory::new(medium))
}

fn is_synced(database: &SynaDB) -> bool {
    let stats = database.stats().expect("stats");
    stats.synced_bytes >= stats.log_bytes
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many of the media that power cuts now could leave have the key.
fn survivals(medium: &Arc<Medium>, key: &str) -> usize {
    let mut walk = Walk::new(medium);
    walk.advance(medium.position());
    let mut random = Random::new(11);
    let has_key = |left: &Arc<Medium>| {
        let database = open(&process(left), &options(None)).expect("opens");
        database.get(key).expect("reads").is_some()
    };
    (0..STATES).filter(|_| has_key(&walk.state(&mut random).expect("memory"))).count()
}

#[test]
fn a_commit_survives_power_cuts_once_its_time_has_come() {
    for access in [Access::Shared, Access::Exclusive] {
        for (interval, lasts) in [(SOON, true), (None, false)] {
            let medium = Medium::new();
            let options = options(interval).access(access).maintenance(Maintenance::Thread);
            let database = open(&process(&medium), &options).expect("opens");
            for n in 0..20 {
                database.append("k", Value::Int(n)).expect("commits");
            }
            if lasts {
                wait_until("for the sync", || is_synced(&database));
            }
            assert_eq!(survivals(&medium, "k") == STATES, lasts, "{access:?}");
        }
    }
}

#[test]
fn a_commit_survives_power_cuts_once_another_comes_after_its_time_where_there_is_no_thread() {
    let medium = Medium::new();
    let options = options(SOON).maintenance(Maintenance::Inline);
    let database = open(&process(&medium), &options).expect("opens");
    database.append("first", Value::Int(1)).expect("commits");
    std::thread::sleep(2 * SOON.expect("a time"));
    database.append("second", Value::Int(2)).expect("commits, and syncs");
    assert!(is_synced(&database));
    assert_eq!(survivals(&medium, "first"), STATES);
}

#[test]
fn what_a_killed_process_left_is_synced_by_who_opens_the_file() {
    let medium = Medium::new();
    let killed = process(&medium);
    let database = open(&killed, &options(None)).expect("opens");
    database.append("k", Value::Int(1)).expect("commits");
    killed.process().kill();
    drop(database);
    assert!(survivals(&medium, "k") < STATES, "nothing has synced it so far");
    let database = open(&process(&medium), &options(SOON)).expect("opens");
    wait_until("for the sync", || is_synced(&database));
    assert_eq!(survivals(&medium, "k"), STATES);
}

#[test]
fn what_lies_in_extents_counts_once_it_is_committed() {
    const COUNT: usize = 5_000;
    let medium = Medium::new();
    let database = open(&process(&medium), &options(None)).expect("opens");
    let config = VectorConfig { dimensions: 256, ..VectorConfig::default() };
    let store = VectorStore::attach(&database, "vector:t", config).expect("opens");
    let names: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = vec![1.0; COUNT * 256];
    let counts = |what: &str, bytes: u64, act: &dyn Fn() -> Result<()>| {
        let engine = database.handle().open().expect("open");
        let before = engine.unsynced_bytes();
        act().expect("commits");
        let grown = engine.unsynced_bytes() - before;
        assert!(grown >= bytes && grown < bytes + bytes / 2 + 1000, "{what}: {grown}");
    };
    let large = Value::Bytes(vec![0; 2 << 20]);
    counts("a value", 2 << 20, &|| database.append("k", large.clone()).map(drop));
    counts("a vector", 1 << 10, &|| store.insert("v", &rows[..256]));
    counts("a batch", (COUNT as u64) << 10, &|| store.insert_rows(&keys, &rows).map(drop));
}

#[test]
fn it_goes_on_in_the_file_that_another_process_makes() {
    let medium = Medium::new();
    let (one, other) = (process(&medium), process(&medium));
    let (one, other) = (open(&one, &options(SOON)), open(&other, &options(None)));
    let (one, other) = (one.expect("opens"), other.expect("opens"));
    for n in 0..5 {
        one.append("k", Value::Int(n)).expect("commits");
        other.compact().expect("compacts");
        one.append("k", Value::Int(n)).expect("commits");
        wait_until("for the sync", || is_synced(&one));
    }
    assert_eq!(survivals(&medium, "k"), STATES);
}

#[test]
fn another_thread_begins_where_one_has_panicked() {
    let medium = Medium::new();
    let directory = process(&medium);
    let database = open(&directory, &options(SOON)).expect("opens");
    let operation = Some(Operation::Sync);
    directory.process().fail(Fault { operation, nth: 1, failure: Failure::Panic, lasts: false });
    database.append("k", Value::Int(1)).expect("commits");
    wait_until("for the panic", || directory.process().failures() > 0);
    let end = database.stats().expect("stats").log_bytes;
    wait_until("for a sync", || {
        database.append("k", Value::Int(2)).expect("commits");
        database.stats().expect("stats").synced_bytes >= end
    });
}

#[test]
fn a_sync_in_time_that_fails_poisons_the_file() {
    let medium = Medium::new();
    let directory = process(&medium);
    let database = open(&directory, &options(SOON)).expect("opens");
    let operation = Some(Operation::Sync);
    directory.process().fail(Fault { operation, nth: 1, failure: Failure::Io, lasts: true });
    database.append("k", Value::Int(1)).expect("commits");
    wait_until("for the sync to fail", || directory.process().failures() > 0);
    let is_poisoned = || matches!(database.append("k", Value::Int(2)), Err(Error::Poisoned { .. }));
    wait_until("for a write to be refused", is_poisoned);
}
