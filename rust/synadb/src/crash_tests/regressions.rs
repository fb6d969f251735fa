//! Bugs that the crash tests found, each in few steps.

use std::sync::Arc;

use synadb_storage::directory::SimulatedDirectory;
use synadb_storage::simulation::{Failure, Fault, Medium, Operation, Random, Walk};

use super::database::{DIMENSIONS, Database};
use crate::config::{Access, OpenOptions};
use crate::error::Error;
use crate::value::Value;
use crate::vector::{HnswConfig, IndexBackend, SearchOptions};

const STATES: usize = 100;

/// A process in which the nth operation of a kind fails.
fn failing(
    medium: &Arc<Medium>,
    operation: Operation,
    nth: u64,
    failure: Failure,
) -> Arc<SimulatedDirectory> {
    let directory = Arc::new(SimulatedDirectory::new(medium));
    let fault = Fault { operation: Some(operation), nth, failure, lasts: false };
    directory.process().fail(fault);
    directory
}

fn open(medium: &Arc<Medium>) -> Database {
    Database::open(medium, &OpenOptions::new()).expect("opens")
}

/// Media as power cuts now could leave them.
fn power_cuts(medium: &Arc<Medium>) -> impl Iterator<Item = Arc<Medium>> {
    let mut walk = Walk::new(medium);
    walk.advance(medium.position());
    let mut random = Random::new(7);
    (0..STATES).map(move |_| walk.state(&mut random).expect("memory for a state"))
}

#[test]
fn regression_name_of_a_killed_creation_was_not_made_durable() {
    let medium = Medium::new();
    let killed = failing(&medium, Operation::SyncParent, 1, Failure::Kill);
    assert!(Database::open_through(killed, &OpenOptions::new()).is_err());
    let database = open(&medium);
    database.synced.append("k", Value::Int(1)).expect("acknowledged as synced");
    for left in power_cuts(&medium) {
        assert_eq!(open(&left).synced.get("k").expect("reads"), Some(Value::Int(1)));
    }
}

#[test]
fn regression_name_of_a_killed_compaction_was_not_made_durable() {
    let medium = Medium::new();
    open(&medium).close().expect("closes");
    let directory = Arc::new(SimulatedDirectory::new(&medium));
    let database = Database::open_through(Arc::clone(&directory), &OpenOptions::new());
    let database = database.expect("opens");
    database.synced.append("k", Value::Int(1)).expect("appends");
    let kind = Some(Operation::SyncParent);
    let fault = Fault { operation: kind, nth: 1, failure: Failure::Kill, lasts: false };
    directory.process().fail(fault);
    assert!(database.synced.compact().is_err());
    drop(database);
    let database = open(&medium);
    assert_eq!(database.reached().expect("stats"), (1, 1));
    database.synced.append("k", Value::Int(2)).expect("acknowledged as synced");
    for left in power_cuts(&medium) {
        assert_eq!(open(&left).synced.get("k").expect("reads"), Some(Value::Int(2)));
    }
}

#[test]
fn regression_half_created_file_was_called_corrupt() {
    let medium = Medium::new();
    // The creator dies before its name is durable, at whatever operation it is.
    for nth in 1..20 {
        let directory = Arc::new(SimulatedDirectory::new(&medium));
        let fault = Fault { operation: None, nth, failure: Failure::Kill, lasts: false };
        directory.process().fail(fault);
        let opened = Database::open_through(Arc::clone(&directory), &OpenOptions::new());
        directory.process().kill();
        drop(opened);
        for left in power_cuts(&medium) {
            open(&left).synced.append("k", Value::Int(1)).expect("appends");
        }
    }
}

#[test]
fn regression_half_written_identity_stayed_damaged() {
    let medium = Medium::new();
    let killed = failing(&medium, Operation::Sync, 2, Failure::Kill);
    assert!(Database::open_through(killed, &OpenOptions::new()).is_err());
    for left in power_cuts(&medium) {
        assert_eq!(open(&left).synced.verify().expect("verifies").damage, []);
    }
}

#[test]
fn regression_writes_went_to_a_file_without_a_name() {
    let medium = Medium::new();
    let directory = Arc::new(SimulatedDirectory::new(&medium));
    let options = OpenOptions::new().access(Access::Exclusive);
    let database = Database::open_through(Arc::clone(&directory), &options).expect("opens");
    database.synced.append("k", Value::Int(1)).expect("appends");
    let kind = Some(Operation::SyncParent);
    directory.process().fail(Fault { operation: kind, nth: 1, failure: Failure::Io, lasts: false });
    assert!(matches!(database.synced.compact(), Err(Error::Io { .. })));
    let appended = database.synced.append("k", Value::Int(2));
    assert!(matches!(appended, Err(Error::Poisoned { .. })), "{appended:?}");
    drop(database);
    assert_eq!(open(&medium).synced.get("k").expect("reads"), Some(Value::Int(1)));
}

#[test]
fn regression_sync_left_out_what_another_process_had_committed() {
    let medium = Medium::new();
    let (first, second) = (open(&medium), open(&medium));
    first.fast.append("k", Value::Int(1)).expect("appends");
    second.fast.sync().expect("syncs");
    for left in power_cuts(&medium) {
        assert_eq!(open(&left).synced.get("k").expect("reads"), Some(Value::Int(1)));
    }
}

#[test]
fn regression_closing_failed_for_want_of_space_for_a_checkpoint() {
    let value = || Value::Bytes(Random::new(1).bytes(30_000));
    let operations = [Operation::Create, Operation::Allocate, Operation::Store, Operation::Sync];
    for (access, operation) in [Access::Exclusive, Access::Shared]
        .into_iter()
        .flat_map(|access| operations.map(|operation| (access, operation)))
    {
        let medium = Medium::new();
        let directory = Arc::new(SimulatedDirectory::new(&medium));
        let options = OpenOptions::new().access(access);
        let database = Database::open_through(Arc::clone(&directory), &options).expect("opens");
        for number in 0..60 {
            database.fast.append(&format!("k{number}"), value()).expect("appends");
        }
        database.synced.sync().expect("syncs");
        let (operation, failure) = (Some(operation), Failure::DiskFull);
        directory.process().fail(Fault { operation, nth: 1, failure, lasts: false });
        database.close().unwrap_or_else(|error| panic!("{access:?} {operation:?}: {error}"));
        assert_eq!(directory.process().heal(), 1, "{access:?} {operation:?}");
        let database = open(&medium);
        assert_eq!(database.synced.len(), 60);
        assert_eq!(database.synced.verify().expect("verifies").damage, []);
        database.close().expect("closes, with a checkpoint");
    }
}

#[test]
fn regression_what_was_tuned_counted_as_saved_before_the_checkpoint_was_in_place() {
    let medium = Medium::new();
    let database = open(&medium);
    let store = &database.stores[1].1;
    let width = usize::from(DIMENSIONS[1]);
    let keys: Vec<String> = (0..1200).map(|number| number.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<f32> = (0..keys.len() * width).map(|n| (n as f32 * 0.37).sin()).collect();
    store.insert_rows(&keys, &rows).expect("inserts");
    let graph = IndexBackend::Hnsw(HnswConfig::default());
    store.build_index_with(&graph, 1, &mut |_, _| true).expect("builds");
    store.search_with(&rows[..width], 4, &SearchOptions::for_recall(0.8)).expect("searches");
    let knows_more = || store.knows_more().expect("open");
    assert!(knows_more());
    for operation in [Operation::Store, Operation::Rename] {
        let (operation, failure) = (Some(operation), Failure::DiskFull);
        database.process().fail(Fault { operation, nth: 1, failure, lasts: true });
        let failed = store.checkpoint();
        assert!(matches!(failed, Err(Error::DiskFull { .. })), "{failed:?}");
        assert!(database.process().heal() > 0);
        assert!(knows_more(), "{operation:?}");
    }
    store.checkpoint().expect("saves");
    assert!(!knows_more());
    database.kill();
    let known = open(&medium).stores[1].1.tuned_searches().expect("open").expect("an index");
    assert_eq!(known.1.iter().map(|tuned| tuned.k).collect::<Vec<_>>(), [4]);
}
