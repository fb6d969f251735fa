//! The crash tests notice a medium and an engine that break the protocol.

use synadb_storage::simulation::{Failure, Fault, Operation, Process};

use super::parts::{VALUES, equal, several};
use super::states::{Plan, Report, run};
use super::workload::Style;

const SEED: u64 = 0x5eed_0002;
const STATES: u64 = 200;

fn fails_for_ever(process: &Process, operation: Operation) {
    let operation = Some(operation);
    process.fail(Fault { operation, nth: 1, failure: Failure::Lie, lasts: true });
}

fn lies_about_syncs(process: &Process) {
    fails_for_ever(process, Operation::Sync);
}

fn lies_about_names(process: &Process) {
    fails_for_ever(process, Operation::SyncParent);
}

fn leaves_what_was_cut(process: &Process) {
    fails_for_ever(process, Operation::Zero);
}

/// Kills would take the place of the sabotage.
fn without_kills(mut style: Style) -> Style {
    style.weights.kill_within = 0;
    style
}

fn report(style: Style, engines: usize, states: u64, sabotage: fn(&Process)) -> Report {
    let style = without_kills(style);
    run(&Plan { style: &style, seed: SEED, states, engines, sabotage })
}

#[test]
fn a_sync_that_lies_is_noticed() {
    let report = report(VALUES, 1, STATES, lies_about_syncs);
    assert!(report.count("LOST") > 5, "{}", report.line());
}

#[test]
fn a_sync_that_lies_to_several_writers_is_noticed() {
    let report = report(several(), 3, STATES, lies_about_syncs);
    assert!(report.count("LOST") > 5, "{}", report.line());
}

#[test]
fn a_name_that_is_not_made_durable_is_noticed() {
    let mut style = VALUES;
    style.weights.compact = 20;
    let report = report(style, 1, STATES, lies_about_names);
    assert!(report.count("LOST") > 0, "{}", report.line());
}

#[test]
fn a_cut_that_is_not_zeroed_is_noticed() {
    let report = report(equal(), 1, STATES, leaves_what_was_cut);
    assert!(report.count("corruption") > 0, "{}", report.line());
}
