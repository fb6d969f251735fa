//! Compactions, and what is committed while one runs.

use super::database::Database;
use super::model::Model;
use super::trace::{Runner, Said, Vouched, unexpected};
use super::workload::Op;
use crate::config::Keep;
use crate::db::CompactOptions;
use crate::error::Result;

/// A compaction in which these calls are made, each with whether it is synced.
#[derive(Debug, Clone, Default)]
pub(super) struct Compaction {
    pub keep: Keep,
    pub among: Vec<(Op, bool)>,
}

impl Compaction {
    /// Compacts without a call among it.
    pub fn run(&self, database: &Database) -> Result<()> {
        let options = CompactOptions { keep: self.keep, skip_damaged: false };
        database.fast.compact_with(&options, &mut |_, _| true).map(|_| ())
    }

    /// Compacts the database of that number, while the next ones make the calls,
    /// and it too unless it is to die.
    ///
    /// Returns what the calls did, the model behind all, and where the last call had returned.
    pub fn run_among(
        &self,
        runner: &Runner<'_>,
        number: usize,
        dies: bool,
    ) -> std::result::Result<(Result<()>, Among), String> {
        let options = CompactOptions { keep: self.keep, skip_damaged: false };
        let databases = &runner.databases;
        let before = &runner.trace.entries[runner.trace.last()].model;
        let mut behind = before.clone();
        if self.keep == Keep::Newest {
            behind.compact();
        }
        let mut among = Among { said: Vec::new(), behind, begun: runner.trace.medium.position() };
        let (mut model, mut failed) = (before.clone(), None);
        let mut calls = self.among.iter().enumerate();
        let mut call = |at: usize, (op, synced): &(Op, bool)| {
            let begun = runner.trace.medium.position();
            // Of its own calls nobody could tell which one a process died in.
            let callers = databases.len() - usize::from(dies);
            let database = &databases[(number + 1 + at % callers) % databases.len()];
            op.run(database, *synced).map_err(|error| unexpected("call among", &error))?;
            let reached = database.reached().map_err(|error| unexpected("stats", &error))?;
            op.apply(&mut model);
            op.apply(&mut among.behind);
            let returned = runner.trace.medium.position();
            let vouched = Vouched::by(op, *synced);
            among.said.push(Said { model: model.clone(), begun, returned, reached, vouched });
            among.begun = returned;
            Ok(())
        };
        let result = databases[number].fast.compact_with(&options, &mut |done, all| {
            let most = if done == all { usize::MAX } else { 1 };
            for (at, next) in calls.by_ref().take(most) {
                if let Err(error) = call(at, next) {
                    failed = Some(error);
                    return false;
                }
            }
            true
        });
        match failed {
            Some(error) => Err(error),
            None => Ok((result.map(|_| ()), among)),
        }
    }
}

/// What happened during a compaction.
pub(super) struct Among {
    pub said: Vec<Said>,
    /// The model behind the compaction.
    pub behind: Model,
    /// Where in the medium's log its last step began.
    pub begun: usize,
}
