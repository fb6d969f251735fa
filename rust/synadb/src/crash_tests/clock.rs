//! A clock that jumps: times stay in order, and nothing is poisoned.

use std::sync::Arc;

use synadb_storage::identity::FRAMES_START;
use synadb_storage::simulation::{Medium, Random, seeded};

use super::database::Database;
use crate::config::{Access, OpenOptions};
use crate::value::Value;

const YEAR_2023: u64 = 1_700_000_000_000_000;
const YEAR_US: u64 = 31_557_600_000_000;
/// Where the clock jumps to: far back and forth, to its ends, and a little.
const JUMPS: [u64; 9] = [
    YEAR_2023,
    0,
    YEAR_2023 + 100 * YEAR_US,
    YEAR_2023 - 50 * YEAR_US,
    1,
    u64::MAX,
    YEAR_2023 - 1,
    (1 << 63) - 1,
    YEAR_2023,
];

/// Times of all frames, in the order of the log.
fn times(database: &Database) -> Vec<u64> {
    let engine = Arc::clone(database.synced.handle().open().expect("is open"));
    let generation = engine.current().expect("follows");
    let (mut at, mut times) = (FRAMES_START, Vec::new());
    while at < generation.visible() {
        let head = generation.log.frame(at).expect("whole").expect("there");
        times.push(head.time);
        at = head.next();
    }
    times
}

fn put(database: &Database, count: &mut i64) {
    *count += 1;
    database.synced.append("k", Value::Int(*count)).expect("appends");
}

fn jump(access: Access, engines: usize) {
    let medium = Medium::new();
    let options = OpenOptions::new().access(access);
    let open = || Database::open(&medium, &options).expect("opens");
    let (mut random, mut count) = (Random::new(3), 0);
    let mut databases: Vec<_> = (0..engines).map(|_| open()).collect();
    for (round, time) in JUMPS.into_iter().chain(JUMPS.into_iter().rev()).enumerate() {
        seeded::set_clock(Some(time));
        for _ in 0..3 {
            let number = random.index(engines);
            put(&databases[number], &mut count);
        }
        match round % 4 {
            0 => drop(databases[0].synced.compact().expect("compacts")),
            1 => databases[0].synced.checkpoint().expect("saves"),
            2 => {
                let number = random.index(engines);
                databases.swap_remove(number).kill();
                databases.push(open());
            }
            _ => {}
        }
        for database in &databases {
            let times = times(database);
            assert!(times.is_sorted_by(|a, b| a < b), "after a jump to {time}: {times:?}");
            assert_eq!(database.synced.get("k").expect("reads"), Some(Value::Int(count)));
        }
    }
    databases.into_iter().for_each(|database| database.close().expect("closes"));
    let database = open();
    put(&database, &mut count);
    assert_eq!(database.synced.verify().expect("verifies").damage, []);
    seeded::set_clock(None);
}

#[test]
fn clock_jumps_under_who_has_the_file_alone() {
    jump(Access::Exclusive, 1);
}

#[test]
fn clock_jumps_under_several_writers() {
    jump(Access::Shared, 3);
}
