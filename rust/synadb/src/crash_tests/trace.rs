//! A database at work: what it was told, what it answered, and where in the medium's log.

use std::sync::Arc;

use synadb_storage::simulation::{Failure, Fault, Medium, Random};

use super::database::Database;
use super::model::Model;
use super::states::Plan;
use super::workload::{Op, Step, Style};
use crate::config::{Access, OpenOptions};
use crate::error::Error;

/// What the database held behind some commit.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub model: Model,
    pub digest: u64,
    /// Where in the medium's log the call began that committed it.
    pub begun: usize,
    /// Generation and sequence behind it; the least that they can be where the call was killed.
    pub reached: (u64, u64),
    pub was_killed: bool,
}

impl Entry {
    pub fn new(model: Model, begun: usize, reached: (u64, u64)) -> Self {
        let digest = model.digest();
        Self { model, digest, begun, reached, was_killed: false }
    }
}

/// What a call that returned has put on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vouched {
    Nothing,
    Commit,
    All,
}

impl Vouched {
    pub fn by(op: &Op, synced: bool) -> Self {
        match synced {
            _ if op.syncs_all() => Self::All,
            true => Self::Commit,
            false => Self::Nothing,
        }
    }
}

/// A call that returned: from where to where in the medium's log, and the state behind it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub model: Model,
    pub begun: usize,
    pub returned: usize,
    pub reached: (u64, u64),
    pub vouched: Vouched,
}

/// The commits on a medium, in order, and what was said of them.
pub(super) struct Trace {
    pub medium: Arc<Medium>,
    pub entries: Vec<Entry>,
    /// Places in the log at which a call returned, and the entry that it vouched for as synced.
    acknowledged: Vec<(usize, usize)>,
}

impl Trace {
    pub fn new(medium: Arc<Medium>, first: Entry) -> Self {
        Self { medium, entries: vec![first], acknowledged: Vec::new() }
    }

    pub fn last(&self) -> usize {
        self.entries.len() - 1
    }

    pub fn acknowledge(&mut self) {
        self.acknowledge_at(self.medium.position());
    }

    /// A call that was killed before it did anything left the state as it was, which may have been
    /// vouched for before that call began.
    fn acknowledge_at(&mut self, position: usize) {
        let state = |entry: &Entry| (entry.digest, entry.reached);
        let last = state(&self.entries[self.last()]);
        let same = self.entries.iter().rev().take_while(|entry| state(entry) == last).count();
        self.acknowledged.push((position, self.entries.len() - same));
    }

    /// Takes down what a call did.
    fn hear(&mut self, said: Said) {
        let entry = Entry::new(said.model, said.begun, said.reached);
        let last = &self.entries[self.last()];
        let changed = entry.digest != last.digest || entry.reached != last.reached;
        if changed {
            self.entries.push(entry);
        }
        // A call that changed nothing vouches for nothing.
        if said.vouched == Vouched::All || said.vouched == Vouched::Commit && changed {
            self.acknowledge_at(said.returned);
        }
    }

    /// The least entry that a power cut at `position` must leave.
    pub fn required(&self, position: usize) -> usize {
        let before = self.acknowledged.iter().filter(|(at, _)| *at <= position);
        before.map(|(_, entry)| *entry).max().unwrap_or(0)
    }

    /// The last entry that can have been visible at `position`.
    pub fn possible(&self, position: usize) -> usize {
        let begun = self.entries.iter().rposition(|entry| entry.begun < position);
        begun.unwrap_or(0)
    }

    /// The entry from `least` to `most` that is what was read.
    pub fn find(
        &self,
        read: &Model,
        reached: (u64, u64),
        (least, most): (usize, usize),
    ) -> Result<usize, String> {
        let digest = read.digest();
        let fits = |at: &usize| {
            let entry = &self.entries[*at];
            // Of a call that was killed nobody knows whether it committed.
            let fits = entry.reached == reached || (entry.was_killed && entry.reached < reached);
            entry.digest == digest && fits
        };
        if let Some(at) = (least..=most).rev().find(fits) {
            return Ok(at);
        }
        let anywhere = (0..self.entries.len()).rev().find(fits);
        let expected = &self.entries[most];
        Err(match anywhere {
            Some(at) if at < least => format!("LOST: entry {at}, but {least} was synced"),
            Some(at) => format!("FOREIGN: entry {at}, but only {most} had begun"),
            None => format!(
                "FOREIGN: generation and sequence {reached:?} hold no state between {least} ({:?}) \
                 and {most} ({:?}): against the last, {}",
                self.entries[least].reached,
                expected.reached,
                read.difference(&expected.model)
            ),
        })
    }
}

/// Drives the databases of one medium: one now, several where access is shared.
pub(super) struct Runner<'a> {
    pub plan: Plan<'a>,
    pub trace: Trace,
    pub databases: Vec<Database>,
    pub options: OpenOptions,
    pub random: Random,
}

pub(super) fn unexpected(what: &str, error: &Error) -> String {
    format!("FAILED: {what}: {error}")
}

/// How the databases of a style are opened.
pub(super) fn options(style: &Style, engines: usize, random: &mut Random) -> OpenOptions {
    let bytes = style.checkpoint_bytes;
    let alone = engines == 1 && random.chance(50);
    let access = if alone { Access::Exclusive } else { Access::Shared };
    let options = OpenOptions::new().access(access);
    options.compression(random.chance(30)).checkpoint_bytes(bytes)
}

impl<'a> Runner<'a> {
    /// Opens a new database through so many engines.
    pub fn start(plan: &Plan<'a>, mut random: Random) -> Result<Self, String> {
        let options = options(plan.style, plan.engines, &mut random);
        let medium = Medium::new();
        let trace = Trace::new(medium, Entry::new(Model::default(), 0, (0, 0)));
        let mut runner = Self { plan: *plan, trace, databases: Vec::new(), options, random };
        for _ in 0..plan.engines {
            runner.open()?;
        }
        Ok(runner)
    }

    fn open(&mut self) -> Result<(), String> {
        let opened = Database::open_as(&self.trace.medium, &self.options, self.plan.sabotage);
        self.databases.push(opened.map_err(|error| unexpected("open", &error))?);
        Ok(())
    }

    /// Opens the database through more engines, until there are so many.
    pub fn join(&mut self, engines: usize) -> Result<(), String> {
        while self.databases.len() < engines {
            self.open()?;
            self.compare(self.databases.len() - 1)?;
        }
        Ok(())
    }

    /// Takes so many random steps.
    pub fn run(&mut self, steps: u64) -> Result<(), String> {
        (0..steps).try_for_each(|_| self.step())
    }

    /// Ends all processes; what is left is the medium and what happened on it.
    pub fn finish(self) -> Trace {
        self.databases.into_iter().for_each(Database::kill);
        self.trace
    }

    fn step(&mut self) -> Result<(), String> {
        let number = self.random.index(self.databases.len());
        let synced = self.random.chance(self.plan.style.synced);
        match self.plan.style.step(&mut self.random) {
            Step::Op(kind) => {
                let op = self.plan.style.op(kind, &mut self.random);
                self.perform(number, &op, synced)
            }
            Step::Reopen => {
                let all = self.random.chance(30);
                self.close(number)?;
                while all && !self.databases.is_empty() {
                    self.close(0)?;
                }
                self.reopen(self.trace.last())?;
                self.join(self.plan.engines)
            }
            Step::Kill => {
                self.databases.swap_remove(number).kill();
                self.reopen(self.trace.last())
            }
            Step::KillWithin(kind) => {
                let op = self.plan.style.op(kind, &mut self.random);
                self.kill_within(number, &op, synced)
            }
        }
    }

    /// Closes one of the databases; who closes the last one trims the file and vouches for it.
    fn close(&mut self, number: usize) -> Result<(), String> {
        let database = self.databases.swap_remove(number);
        // What others committed is its to sync once it has seen it, or if it is the last one.
        let is_last = self.databases.is_empty();
        let looks = !is_last && self.random.chance(50);
        if looks {
            database.reached().map_err(|error| unexpected("stats", &error))?;
        }
        database.close().map_err(|error| unexpected("close", &error))?;
        if looks || is_last {
            self.trace.acknowledge();
        }
        Ok(())
    }

    /// Makes a call, takes down what others committed within it, and returns the model behind it
    /// and where in the medium's log its commit began.
    fn call(
        &mut self,
        number: usize,
        op: &Op,
        synced: bool,
        dies: bool,
    ) -> Result<(crate::error::Result<()>, Model, usize), String> {
        if let Op::Compact(compaction) = op {
            let (result, among) = compaction.run_among(self, number, dies)?;
            among.said.into_iter().for_each(|said| self.trace.hear(said));
            return Ok((result, among.behind, among.begun));
        }
        let begun = self.trace.medium.position();
        let mut model = self.trace.entries[self.trace.last()].model.clone();
        op.apply(&mut model);
        Ok((op.run(&self.databases[number], synced), model, begun))
    }

    fn perform(&mut self, number: usize, op: &Op, synced: bool) -> Result<(), String> {
        let (result, model, begun) = self.call(number, op, synced, false)?;
        result.map_err(|error| unexpected("call", &error))?;
        self.committed(number, op, synced, (model, begun))?;
        if self.databases.len() > 1 {
            let number = self.random.index(self.databases.len());
            self.compare(number)?;
        }
        Ok(())
    }

    /// Takes down that a call returned.
    fn committed(
        &mut self,
        number: usize,
        op: &Op,
        synced: bool,
        (model, begun): (Model, usize),
    ) -> Result<(), String> {
        let reached = self.databases[number].reached();
        let reached = reached.map_err(|error| unexpected("stats", &error))?;
        let (returned, vouched) = (self.trace.medium.position(), Vouched::by(op, synced));
        self.trace.hear(Said { model, begun, returned, reached, vouched });
        Ok(())
    }

    /// Kills the process at some operation on its files, if the call comes so far.
    fn kill_within(&mut self, number: usize, op: &Op, synced: bool) -> Result<(), String> {
        let most = if self.random.chance(20) { 60 } else { 12 };
        let nth = 1 + self.random.below(most);
        let fault = Fault { operation: None, nth, failure: Failure::Kill, lasts: false };
        self.databases[number].process().fail(fault);
        let op = &if self.databases.len() == 1 { op.alone() } else { op.clone() };
        let (result, model, begun) = self.call(number, op, synced, true)?;
        let returned = result.is_ok();
        let lives = self.databases[number].process().is_alive();
        self.databases[number].process().heal();
        if returned && lives {
            return self.committed(number, op, synced, (model, begun));
        }
        let last = &self.trace.entries[self.trace.last()];
        let entry = Entry { was_killed: true, ..Entry::new(model, begun, last.reached) };
        let (mut least, changed) = (self.trace.last(), entry.digest != last.digest);
        self.trace.entries.push(entry);
        // It died behind the commit, in a checkpoint of which the call does not depend.
        if returned && (changed || op.syncs_all()) {
            least = self.trace.last();
            if synced || op.syncs_all() {
                self.trace.acknowledge();
            }
        }
        self.databases.swap_remove(number).kill();
        self.reopen(least)
    }

    /// Opens the database again: of what was visible before, at least `least` is there.
    fn reopen(&mut self, least: usize) -> Result<(), String> {
        self.open()?;
        let database = &self.databases[self.databases.len() - 1];
        let read = Model::read(database)?;
        let reached = database.reached().map_err(|error| unexpected("stats", &error))?;
        let found = self.trace.find(&read, reached, (least, self.trace.last()))?;
        self.trace.entries.truncate(found + 1);
        let entry = &mut self.trace.entries[found];
        if std::mem::take(&mut entry.was_killed) {
            entry.reached = reached;
        }
        (0..self.databases.len() - 1).try_for_each(|number| self.compare(number))
    }

    /// What a database shows is the last commit of any.
    pub fn compare(&self, number: usize) -> Result<(), String> {
        let read = Model::read(&self.databases[number])?;
        let last = &self.trace.entries[self.trace.last()];
        if read.digest() == last.digest {
            return Ok(());
        }
        Err(format!("FOREIGN: another engine sees {}", read.difference(&last.model)))
    }
}
