//! While one writer fills an extent, which takes as long as it takes, the others go on.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use synadb_storage::simulation::{Failure, Fault, Medium, Operation};

use super::database::{DIMENSIONS, Database};
use super::model::Model;
use super::workload::Op;
use crate::config::OpenOptions;
use crate::value::Value;

/// Stores of the frame that reserves the space, under the lock: the frame, and what fills it up.
const RESERVING: u64 = 2;
/// So long a test waits for what takes no time.
const PATIENCE: Duration = Duration::from_secs(60);

fn put(key: &str) -> Op {
    Op::Put(key.into(), Value::Int(1))
}

/// Holds the nth store of a call back, has others commit meanwhile, and lets it go.
fn others_go_on(call: &Op, nth: u64) {
    let medium = Medium::new();
    let open = || Database::open(&medium, &OpenOptions::new()).expect("opens");
    let (held, other) = (open(), open());
    put("first").run(&held, false).expect("commits");
    put("second").run(&other, false).expect("commits");
    let fault =
        Fault { operation: Some(Operation::Store), nth, failure: Failure::Hold, lasts: false };
    held.process().fail(fault);
    thread::scope(|scope| {
        let call = scope.spawn(|| call.run(&held, true));
        let begun = Instant::now();
        while held.process().failures() == 0 {
            assert!(begun.elapsed() < PATIENCE, "the call never came to its store");
            thread::yield_now();
        }
        let (done, is_done) = channel();
        let others = [(&other, "beside"), (&held, "within")];
        for (database, key) in others {
            let done = done.clone();
            scope.spawn(move || done.send(put(key).run(database, true)));
        }
        let waited: Vec<_> = others.iter().map(|_| is_done.recv_timeout(PATIENCE)).collect();
        held.process().heal();
        for committed in waited {
            committed.expect("others need not wait").expect("commits");
        }
        call.join().expect("no panic").expect("commits once it goes on");
    });
    let mut expected = Model::default();
    for op in [put("first"), put("second"), put("beside"), put("within"), call.clone()] {
        op.apply(&mut expected);
    }
    for database in [&held, &other] {
        let read = Model::read(database).expect("reads");
        assert_eq!(read, expected, "{}", read.difference(&expected));
    }
}

#[test]
fn nobody_waits_for_a_large_value_that_is_stored() {
    let value = Value::Bytes(vec![7; (4 << 20) + 9]);
    others_go_on(&Op::Put("large".into(), value), RESERVING + 1);
}

#[test]
fn nobody_waits_for_a_batch_of_vectors_that_is_stored() {
    let dimensions = usize::from(DIMENSIONS[1]);
    let keys: Vec<String> = (0..600).map(|number| format!("row{number}")).collect();
    let rows = (0..keys.len() * dimensions).map(|n| n as f32).collect();
    others_go_on(&Op::Insert(1, keys, rows), RESERVING + 1);
}
