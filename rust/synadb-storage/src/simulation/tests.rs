use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Failure, Fault, Medium, Operation, Random, Walk};
use crate::StorageError;
use crate::directory::{Directory, SimulatedDirectory};
use crate::lock::LockKind;
use crate::region::Region;

const PATH: &str = "a";
const STATES: usize = 300;
/// Of the words that are looked at: behind page 0, torn in larger parts, and the control words.
const AT: u64 = 5120;

fn crash(medium: &Arc<Medium>, position: usize, random: &mut Random) -> Arc<Medium> {
    let mut walk = Walk::new(medium);
    walk.advance(position);
    walk.state(random).expect("memory for a state")
}

/// Two words of the file in each of many crash states, `None` where it is too short.
fn words_left(medium: &Arc<Medium>, position: usize) -> BTreeSet<Option<(u64, u64)>> {
    let mut random = Random::new(1);
    let words = |left: Arc<Medium>| {
        let region =
            SimulatedDirectory::new(&left).open(Path::new(PATH), false, false).ok()?.region;
        Some((region.load(AT)?, region.load(AT + 8)?))
    };
    (0..STATES).map(|_| words(crash(medium, position, &mut random))).collect()
}

fn file() -> (Arc<Medium>, SimulatedDirectory, Arc<dyn Region>) {
    let medium = Medium::new();
    let directory = SimulatedDirectory::new(&medium);
    let region = directory.open(Path::new(PATH), true, true).expect("created").region;
    directory.sync_parent(Path::new(PATH)).expect("synced");
    region.allocate(8192).expect("allocated");
    region.sync().expect("synced");
    (medium, directory, region)
}

#[test]
fn what_was_synced_is_left_and_the_rest_in_any_version() {
    let (medium, _directory, region) = file();
    region.publish(AT, 1).expect("stored");
    region.sync().expect("synced");
    region.publish(AT + 8, 2).expect("stored");
    region.publish(AT, 3).expect("stored");
    let position = medium.position();
    let all = [(1, 0), (1, 2), (3, 2), (3, 0)].map(Some);
    assert_eq!(words_left(&medium, position), BTreeSet::from(all));
    region.sync().expect("synced");
    assert_eq!(words_left(&medium, position + 1), BTreeSet::from([Some((3, 2))]));
}

#[test]
fn a_word_is_never_torn_and_a_store_of_two_is() {
    let (medium, _directory, region) = file();
    region.store(AT, &[0xff; 16]).expect("stored");
    let left = words_left(&medium, medium.position());
    let all = [(0, 0), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)].map(Some);
    assert_eq!(left, BTreeSet::from(all));
}

#[test]
fn a_name_is_left_once_its_directory_was_synced() {
    let medium = Medium::new();
    let directory = SimulatedDirectory::new(&medium);
    let region = directory.open(Path::new(PATH), true, true).expect("created").region;
    region.allocate(8192).expect("allocated");
    region.sync().expect("synced");
    assert_eq!(words_left(&medium, medium.position()), BTreeSet::from([None, Some((0, 0))]));
    directory.sync_parent(Path::new(PATH)).expect("synced");
    assert_eq!(words_left(&medium, medium.position()), BTreeSet::from([Some((0, 0))]));
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    let (medium, directory, region) = file();
    region.publish(AT, 1).expect("stored");
    region.sync().expect("synced");
    let (temporary, created) = directory.create_beside(Path::new(PATH)).expect("created");
    created.region.allocate(8192).expect("allocated");
    created.region.publish(AT, 2).expect("stored");
    created.region.sync().expect("synced");
    directory.replace(&temporary, Path::new(PATH)).expect("replaced");
    let position = medium.position();
    let left = words_left(&medium, position - 1);
    assert_eq!(left, BTreeSet::from([(1, 0), (2, 0)].map(Some)));
    assert_eq!(words_left(&medium, position), BTreeSet::from([Some((2, 0))]));
}

#[test]
fn a_length_since_the_last_sync_is_left_and_no_shorter_one() {
    let (medium, _directory, region) = file();
    region.allocate(1 << 20).expect("grows");
    let mut random = Random::new(2);
    let lengths: BTreeSet<u64> = (0..STATES)
        .map(|_| {
            let left = crash(&medium, medium.position(), &mut random);
            let opened = SimulatedDirectory::new(&left).open(Path::new(PATH), false, false);
            opened.expect("it is there").region.len()
        })
        .collect();
    assert_eq!(lengths.first(), Some(&8192));
    assert_eq!(lengths.last(), Some(&(1 << 20)));
    assert!(lengths.len() > 2, "lengths on the way");
}

#[test]
fn pages_of_a_failed_sync_are_lost_until_they_are_stored_again() {
    let (medium, directory, region) = file();
    region.allocate(64 << 12).expect("grows");
    let store_all = |at: u64| {
        (0..64).for_each(|page| region.publish(page * 4096 + at, 1).expect("stored"));
    };
    let left = |at: u64| {
        let left = crash(&medium, medium.position(), &mut Random::new(3));
        let opened = SimulatedDirectory::new(&left).open(Path::new(PATH), false, false);
        let region = opened.expect("it is there").region;
        (0..64).filter(|page| region.load(page * 4096 + at) == Some(1)).count()
    };
    store_all(0);
    let kind = Some(Operation::Sync);
    directory.process().fail(Fault { operation: kind, nth: 1, failure: Failure::Io, lasts: false });
    assert!(matches!(region.sync(), Err(StorageError::Io { .. })));
    region.sync().expect("the error is told once");
    let stored = left(0);
    assert!((1..64).contains(&stored), "{stored} of 64 were stored before the error");
    store_all(8);
    region.sync().expect("synced");
    assert_eq!((left(0), left(8)), (64, 64));
}

#[test]
fn locks_go_with_their_opening_and_with_the_process() {
    let medium = Medium::new();
    let (first, second) = (SimulatedDirectory::new(&medium), SimulatedDirectory::new(&medium));
    let open = |directory: &SimulatedDirectory| {
        let opened = directory.open(Path::new(PATH), true, true).expect("opens");
        opened.locks.expect("a simulated file has locks")
    };
    let (mine, yours) = (open(&first), open(&second));
    assert!(mine.try_shared(LockKind::Registration).expect("asked"));
    assert!(yours.try_shared(LockKind::Registration).expect("asked"));
    assert!(!mine.try_exclusive(LockKind::Registration).expect("asked"));
    drop(yours);
    assert!(mine.try_exclusive(LockKind::Registration).expect("asked"));
    let yours = open(&second);
    assert!(yours.is_held_elsewhere(LockKind::Registration).expect("asked"));
    first.process().kill();
    assert!(yours.try_exclusive(LockKind::Registration).expect("asked"));
    assert!(mine.try_shared(LockKind::Open).is_err(), "the dead take no locks");
}

#[test]
fn short_growth_is_seen_by_who_looks_again() {
    let (medium, directory, region) = file();
    let kind = Some(Operation::Allocate);
    let fault = Fault { operation: kind, nth: 1, failure: Failure::Short, lasts: false };
    directory.process().fail(fault);
    assert!(matches!(region.allocate(1 << 16), Err(StorageError::DiskFull { .. })));
    assert_eq!(region.len(), 8192);
    assert_eq!(region.refresh().expect("looked"), 36_864);
    assert!(region.store(36_864, &[1]).is_err());
    assert_eq!(medium.strays(), 1);
}
