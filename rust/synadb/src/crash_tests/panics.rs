//! Panics of work that nobody waits for, on a real file.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use synadb_storage::lock::{FileLocks, LockKind, Locks};

use crate::db::Work;
use crate::kv::SynaDB;

/// Until then a thread that has panicked is gone, on a busy machine too.
const WAIT: Duration = Duration::from_secs(30);

fn is_building(others: &FileLocks) -> bool {
    others.is_held_elsewhere(LockKind::Building).expect("asked")
}

#[test]
fn regression_a_build_that_panics_gives_the_lock_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let database = SynaDB::new(&path).expect("opens");
    let file = File::options().read(true).write(true).open(&path).expect("is there");
    let others = Arc::new(FileLocks::new(file));
    let engine = database.handle().open().expect("is open");
    let (looks, (tell, told)) = (Arc::clone(&others), channel());
    let is_taken = engine.do_apart(Work::Build, move |_, _| {
        tell.send(is_building(&looks)).expect("somebody waits");
        panic!("by the test");
    });
    assert!(is_taken);
    assert_eq!(told.recv_timeout(WAIT), Ok(true), "it is held meanwhile");
    let began = Instant::now();
    while is_building(&others) {
        assert!(began.elapsed() < WAIT, "it is held on");
        std::thread::yield_now();
    }
    let (tell, told) = channel();
    while !engine.do_apart(Work::Build, {
        let tell = tell.clone();
        move |_, _| tell.send(()).expect("somebody waits")
    }) {
        assert!(began.elapsed() < WAIT, "no other build is taken");
    }
    assert_eq!(told.recv_timeout(WAIT), Ok(()), "the next one is done");
}
