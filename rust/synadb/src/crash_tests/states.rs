//! Crash states: media as power cuts leave them, opened, compared, written to and cut again.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use synadb_storage::identity::PAGE_BYTES;
use synadb_storage::simulation::{Medium, Process, Random, Walk, seeded};

use super::database::{Database, PATH};
use super::model::Model;
use super::trace::{Entry, Runner, Trace, options};
use super::workload::Style;
use crate::config::{Access, OpenOptions};
use crate::error::Error;
use crate::vector::VectorStore;

/// Power cuts one after the other.
const DEPTH: usize = 4;
/// First power cuts of one trace.
const CUTS: usize = 20;
/// The clock when a process starts, the same each time: time is no help against a lost future.
const START_US: u64 = 1_700_000_000_000_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub name: &'static str,
    pub states: u64,
    /// States by the number of power cuts that lead to them.
    pub deep: [u64; DEPTH],
    /// States whose last frames were cut, and whole frames behind the cut.
    pub torn: u64,
    pub frames_dropped: u64,
    pub bytes_dropped: u64,
    /// States in which the file was not there, or had never been finished.
    pub unborn: u64,
    /// States that a reader opened first, and those of which every byte was verified.
    pub read_first: u64,
    pub verified: u64,
    /// Commits that were there behind a power cut although nothing had synced them.
    pub survivors: u64,
    /// States with an index of vectors that a checkpoint had saved.
    pub indexed: u64,
    /// What went wrong, with the seeds to see it again.
    pub failures: Vec<String>,
}

impl Report {
    /// One line for people.
    pub fn line(&self) -> String {
        let mut out = format!("{:8} {:6} states, by depth {:?}", self.name, self.states, self.deep);
        let _ = write!(
            out,
            "; {} torn, {} frames and {} KiB dropped; {} unborn; {} unsynced commits survived; \
             {} read first, {} verified, {} with indexes; {} failures",
            self.torn,
            self.frames_dropped,
            self.bytes_dropped >> 10,
            self.unborn,
            self.survivors,
            self.read_first,
            self.verified,
            self.indexed,
            self.failures.len()
        );
        out
    }

    /// Failures whose message begins so.
    pub fn count(&self, kind: &str) -> usize {
        self.failures.iter().filter(|failure| failure.contains(kind)).count()
    }
}

/// How the tests are run.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub style: &'a Style,
    pub seed: u64,
    pub states: u64,
    /// Engines that write to one file at once.
    pub engines: usize,
    /// Called with each process before it opens the database, to make it worse than it is.
    pub sabotage: fn(&Process),
}

/// Makes so many crash states and checks each.
pub(super) fn run(plan: &Plan<'_>) -> Report {
    let mut report = Report { name: plan.style.name, ..Report::default() };
    let mut number = 0;
    while report.states < plan.states {
        let seed = plan.seed ^ (number << 32);
        number += 1;
        let done = catch_unwind(AssertUnwindSafe(|| trace(plan, seed, &mut report)));
        let failure = match done {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => "FAILED: a panic".to_owned(),
        };
        report.failures.push(format!("{} {seed:#x}: {failure}", plan.style.name));
        // Every trace counts, or a broken engine would be tried for ever.
        report.states += 1;
    }
    seeded::set_clock(None);
    seeded::seed_ids(None);
    report
}

/// One trace, cut at several places, each cut followed by more work and more cuts.
fn trace(plan: &Plan<'_>, seed: u64, report: &mut Report) -> Result<(), String> {
    let mut random = Random::new(seed);
    seeded::seed_ids(Some(random.draw()));
    seeded::set_clock(Some(START_US));
    let mut runner = Runner::start(plan, Random::new(random.draw()))?;
    runner.run(random.below(plan.style.ops.0 + 1))?;
    let trace = runner.finish();
    let mut cuts: Vec<usize> =
        (0..CUTS).map(|_| random.index(trace.medium.position() + 1)).collect();
    cuts.sort_unstable();
    let mut walk = Walk::new(&trace.medium);
    for cut in cuts {
        if report.states >= plan.states {
            break;
        }
        walk.advance(cut);
        let chained = Random::new(random.draw());
        if let Err(failure) = chain(plan, &trace, &walk, cut, chained, report) {
            let name = plan.style.name;
            report.failures.push(format!("{name} {seed:#x}, cut at {cut}: {failure}"));
        }
    }
    Ok(())
}

/// A power cut, and then several times more work and another power cut.
fn chain(
    plan: &Plan<'_>,
    trace: &Trace,
    walk: &Walk,
    cut: usize,
    mut random: Random,
    report: &mut Report,
) -> Result<(), String> {
    let mut runner = power_cut(plan, trace, walk, cut, &mut random, report, 0)?;
    for depth in 1..DEPTH {
        runner
            .run(random.below(plan.style.ops.1 + 1))
            .map_err(|e| format!("depth {depth}: {e}"))?;
        let trace = runner.finish();
        let cut = random.index(trace.medium.position() + 1);
        let mut walk = Walk::new(&trace.medium);
        walk.advance(cut);
        let next = power_cut(plan, &trace, &walk, cut, &mut random, report, depth);
        runner = next.map_err(|failure| format!("depth {depth}, cut at {cut}: {failure}"))?;
    }
    runner.databases.into_iter().for_each(Database::kill);
    Ok(())
}

/// What the power cut left must open and hold what a part of the trace from the beginning made.
fn power_cut<'a>(
    plan: &Plan<'a>,
    trace: &Trace,
    walk: &Walk,
    cut: usize,
    random: &mut Random,
    report: &mut Report,
    depth: usize,
) -> Result<Runner<'a>, String> {
    report.states += 1;
    report.deep[depth] += 1;
    let medium = walk.state(random).map_err(|error| error.to_string())?;
    let start = if random.chance(70) { START_US } else { START_US + random.below(1 << 40) };
    seeded::set_clock(Some(start));
    let range = (trace.required(cut), trace.possible(cut));
    let options = options(plan.style, plan.engines, random);
    let reader = if random.chance(12) { read_first(&medium, &options, report)? } else { None };
    let opened = Database::open_as(&medium, &options, plan.sabotage);
    let database = opened.map_err(|error| format!("FAILED: open after a power cut: {error}"))?;
    let read = Model::read(&database)?;
    let reached = database.reached().map_err(|error| error.to_string())?;
    let found = trace.find(&read, reached, range)?;
    if reader.is_some_and(|reader| reader.digest() != read.digest()) {
        return Err("FOREIGN: a reader saw another state than the writer found".to_owned());
    }
    note(&database, report)?;
    report.survivors += (found - range.0) as u64;
    if random.chance(12) {
        verify(&database)?;
        report.verified += 1;
    }
    leftovers(&medium)?;
    let model = trace.entries[found].model.clone();
    let trace = Trace::new(medium, Entry::new(model, 0, reached));
    let (databases, random) = (vec![database], Random::new(random.draw()));
    let mut runner = Runner { plan: *plan, trace, databases, options, random };
    runner.join(plan.engines)?;
    Ok(runner)
}

fn note(database: &Database, report: &mut Report) -> Result<(), String> {
    let recovery = database.synced.recovery().map_err(|error| error.to_string())?;
    report.torn += u64::from(recovery.torn);
    report.frames_dropped += recovery.commits_dropped;
    report.bytes_dropped += recovery.bytes_dropped;
    let has_index = |(store, _): &(VectorStore, _)| store.has_index().is_ok_and(|has| has);
    report.indexed += u64::from(database.stores.iter().any(has_index));
    Ok(())
}

/// A reader sees the same, changes nothing, and does not refuse a file that nobody finished.
fn read_first(
    medium: &Arc<Medium>,
    options: &OpenOptions,
    report: &mut Report,
) -> Result<Option<Model>, String> {
    report.read_first += 1;
    let before = medium.position();
    let read = match Database::open(medium, &options.clone().access(Access::ReadOnly)) {
        Ok(database) => Model::read(&database).map(Some)?,
        Err(Error::MissingDatabase { .. }) => {
            report.unborn += 1;
            None
        }
        Err(error) => return Err(format!("FAILED: open for reading: {error}")),
    };
    if medium.position() != before {
        return Err("FAILED: a reader changed the medium".to_owned());
    }
    Ok(read)
}

pub(super) fn verify(database: &Database) -> Result<(), String> {
    let report = database.synced.verify().map_err(|error| error.to_string())?;
    match report.damage.first() {
        None => Ok(()),
        Some((offset, reason)) if *offset < PAGE_BYTES => {
            Err(format!("FAILED: verify finds the header damaged at {offset}: {reason}"))
        }
        Some((offset, reason)) => Err(format!("FAILED: verify finds {offset}: {reason}")),
    }
}

/// Whoever opens for writing removes what dead compactions left, and touches no missing space.
pub(super) fn leftovers(medium: &Medium) -> Result<(), String> {
    let names = medium.names();
    if let Some(name) = names.iter().find(|name| name.to_string_lossy().contains("-tmp-")) {
        return Err(format!("FAILED: {} is still there", name.display()));
    }
    if !names.iter().any(|name| name.as_os_str() == PATH) || medium.strays() > 0 {
        return Err(format!("FAILED: {} accesses behind the end of a file", medium.strays()));
    }
    Ok(())
}
