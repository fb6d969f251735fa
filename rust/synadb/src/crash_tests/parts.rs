//! The parts of the crash tests: what is done before the power goes.

use synadb_storage::simulation::Process;

use super::states::{Plan, Report, run};
use super::workload::{Style, Weights};

/// Crash states of a normal run of the tests.
const STATES: u64 = 2000;
const SEED: u64 = 0x5eed_0001;

fn states() -> u64 {
    let asked = std::env::var("SYNADB_CRASH_STATES").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(STATES)
}

fn nothing(_: &Process) {}

const MIXED: Weights = Weights {
    put: 30,
    many: 4,
    batch: 8,
    floats: 8,
    remove: 6,
    insert: 0,
    insert_many: 0,
    remove_row: 0,
    build: 0,
    sync: 3,
    checkpoint: 2,
    compact: 1,
    reopen: 2,
    kill: 1,
    kill_within: 4,
};

pub(super) const VALUES: Style = Style {
    name: "values",
    share: 25,
    ops: (80, 20),
    keys: 40,
    larger: [15, 2, 0],
    equal: false,
    synced: 25,
    checkpoint_bytes: 256 << 20,
    weights: MIXED,
};

fn check(style: &Style) -> Report {
    check_with(style, 1)
}

fn check_with(style: &Style, engines: usize) -> Report {
    let states = (states() * style.share / 100).max(1);
    let plan = Plan { style, seed: SEED, states, engines, sabotage: nothing };
    let report = run(&plan);
    println!("{}", report.line());
    for failure in report.failures.iter().take(10) {
        println!("  {failure}");
    }
    assert_eq!(report.failures.len(), 0, "{}", report.line());
    report
}

#[test]
fn values_survive_power_cuts() {
    let report = check(&VALUES);
    assert!(report.torn > report.states / 20, "most crashes are torn ones: {}", report.line());
    assert!(report.frames_dropped > 0, "whole frames lie behind holes: {}", report.line());
}

#[test]
fn vectors_survive_power_cuts() {
    check(&Style {
        name: "vectors",
        share: 17,
        larger: [2, 0, 0],
        weights: Weights {
            put: 6,
            many: 1,
            batch: 1,
            floats: 1,
            remove: 1,
            insert: 25,
            insert_many: 8,
            remove_row: 6,
            ..MIXED
        },
        ..VALUES
    });
}

#[test]
fn indexes_survive_power_cuts() {
    let report = check(&INDEXES);
    assert!(report.indexed > report.states / 4, "few had an index: {}", report.line());
}

#[test]
fn indexes_of_several_writers_survive_power_cuts() {
    let report = check_with(&Style { name: "indexes of several", share: 30, ..INDEXES }, 3);
    assert!(report.indexed > report.states / 4, "few had an index: {}", report.line());
}

/// Two tables of vectors, with indexes of all kinds that checkpoints save.
const INDEXES: Style = Style {
    name: "indexes",
    share: 60,
    ops: (60, 16),
    keys: 150,
    larger: [2, 0, 0],
    checkpoint_bytes: 64 << 10,
    weights: Weights {
        put: 4,
        many: 0,
        batch: 3,
        floats: 0,
        remove: 1,
        insert: 12,
        insert_many: 20,
        remove_row: 8,
        build: 24,
        checkpoint: 4,
        reopen: 6,
        kill: 2,
        kill_within: 16,
        ..MIXED
    },
    ..VALUES
};

#[test]
fn commits_of_one_length_survive_power_cuts() {
    check(&equal());
}

/// Frames of one length: what a lost future left fits where the new one goes on.
pub(super) fn equal() -> Style {
    Style {
        name: "equal",
        share: 15,
        ops: (60, 20),
        keys: 8,
        equal: true,
        synced: 3,
        weights: Weights { put: 40, reopen: 1, kill: 1, kill_within: 2, ..Weights::default() },
        ..VALUES
    }
}

#[test]
fn checkpoints_and_compactions_survive_power_cuts() {
    check(&Style {
        name: "upkeep",
        share: 17,
        ops: (40, 12),
        keys: 12,
        checkpoint_bytes: 4 << 10,
        weights: Weights {
            insert: 6,
            insert_many: 2,
            remove_row: 2,
            checkpoint: 8,
            compact: 8,
            reopen: 8,
            kill: 3,
            kill_within: 20,
            ..MIXED
        },
        ..VALUES
    });
}

#[test]
fn new_databases_survive_power_cuts() {
    check(&Style {
        name: "births",
        share: 7,
        ops: (2, 2),
        weights: Weights { reopen: 4, kill: 4, kill_within: 30, ..MIXED },
        ..VALUES
    });
}

#[test]
fn several_writers_survive_power_cuts() {
    check_with(&several(), 3);
}

/// Three writers take turns.
pub(super) fn several() -> Style {
    Style {
        name: "several",
        share: 15,
        ops: (50, 16),
        checkpoint_bytes: 16 << 10,
        weights: Weights {
            insert: 12,
            insert_many: 3,
            remove_row: 3,
            compact: 3,
            reopen: 6,
            kill: 3,
            kill_within: 15,
            ..MIXED
        },
        ..VALUES
    }
}

#[test]
fn values_in_extents_survive_power_cuts() {
    check(&Style {
        name: "extents",
        share: 4,
        ops: (8, 4),
        keys: 5,
        larger: [10, 10, 25],
        ..VALUES
    });
}
