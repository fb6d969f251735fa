//! What the engine says of itself.

use std::ops::Range;
use std::time::Duration;

use arc_swap::Guard;
use synadb_storage::control;
use synadb_storage::identity::FRAMES_START;
use synadb_storage::log::{Damage, Recovery, verify};

use super::open::open_checkpoint;
use super::{Engine, Generation, path_of};
use crate::error::Result;
use crate::progress::Progress;

/// What opening the file found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Where the log ended, in bytes from the start of the file.
    pub tail: u64,
    /// Where replay began: behind the checkpoint, or at the first frame.
    pub replayed_from: u64,
    /// Commits that were replayed.
    pub commits_replayed: u64,
    /// Whether a torn tail was found.
    pub torn: bool,
    /// Whole commits behind the tear that were dropped.
    pub commits_dropped: u64,
    /// Bytes behind the tear that were dropped.
    pub bytes_dropped: u64,
    /// Whether the tear is still there, because the file was opened for reading only.
    pub needs_recovery: bool,
}

impl RecoveryReport {
    /// Offsets of the first byte that was dropped and of the first behind; equal where none was.
    #[must_use]
    pub fn dropped(&self) -> Range<u64> {
        self.tail..self.tail + self.bytes_dropped
    }

    pub(super) fn new(found: &Recovery, replayed_from: u64, writes: bool) -> Self {
        Self {
            tail: found.tail,
            replayed_from,
            commits_replayed: found.commits,
            torn: found.torn,
            commits_dropped: found.commits_dropped,
            bytes_dropped: found.bytes_dropped,
            needs_recovery: found.torn && !writes,
        }
    }
}

/// Sizes and states of an open database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the file, space in reserve included.
    pub file_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Sequence number of the last commit.
    pub sequence: u64,
    /// Compactions so far.
    pub generation: u64,
    /// Bytes of log behind the last checkpoint, whoever wrote it; all frames where there is none.
    pub tail_bytes: u64,
    /// Time since that checkpoint was written, by the clock that dates files.
    pub checkpoint_age: Option<Duration>,
    /// Position up to which everything is known to be on the medium.
    pub synced_bytes: u64,
    /// "shared", "exclusive" or "read_only".
    pub access: &'static str,
    /// "disk" or "memory".
    pub region: &'static str,
    /// Open handles of this process on the file: those that write, read and search.
    pub handles: usize,
    /// Memory of this process that keys of vectors take for filters: none until a second pattern or
    /// test has looked at all keys of a table.
    pub filter_bytes: u64,
    /// Tables by name.
    pub tables: Vec<TableStats>,
    /// What opening found.
    pub recovery: RecoveryReport,
}

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Its name.
    pub name: String,
    /// Keys that are alive.
    pub keys: u64,
}

/// What `verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Bytes of log that were checked: all, unless the caller ended it.
    pub bytes: u64,
    /// Offset and reason of each damaged place; empty for a good file.
    pub damage: Vec<(u64, String)>,
}

impl Engine {
    /// Sizes and states.
    pub fn stats(&self) -> Result<Stats> {
        let generation = self.current()?;
        if self.is_shared() {
            let (log, id) = (&generation.log, &generation.log.identity().database_id);
            generation.raise_synced(control::synced(log.region(), id));
        }
        let (tail, filter_bytes) = {
            let commit = self.lock_commit()?;
            (commit.writer.tail, commit.views.values().map(|view| view.filter_bytes()).sum())
        };
        let (checkpointed, checkpoint_age) = match self.checkpoint_beside(&generation) {
            Some((position, age)) => (position, age),
            None => (FRAMES_START, None),
        };
        let tables = generation
            .tables()
            .map(|table| TableStats { name: table.info.name.clone(), keys: table.live() });
        Ok(Stats {
            file_bytes: generation.log.region().len(),
            log_bytes: tail,
            sequence: generation.sequence(),
            generation: generation.log.identity().generation,
            tail_bytes: tail - checkpointed.min(tail),
            checkpoint_age,
            synced_bytes: generation.synced(),
            access: match (self.writes, self.is_shared()) {
                (false, _) => "read_only",
                (true, false) => "exclusive",
                (true, true) => "shared",
            },
            region: generation.log.region().kind(),
            handles: self.place.handles(),
            filter_bytes,
            tables: tables.collect(),
            recovery: self.recovery_report(),
        })
    }

    /// Position and age of the checkpoint that stands beside the file now.
    pub(super) fn checkpoint_beside(
        &self,
        generation: &Generation,
    ) -> Option<(u64, Option<Duration>)> {
        let checkpoint = open_checkpoint(&self.path, &*self.directory, &generation.log)?;
        let written = self.directory.modified(&path_of(&self.path)).ok().flatten();
        // A clock that went back since has made it no older.
        let age = written.map(|at| at.elapsed().unwrap_or_default());
        Some((checkpoint.start.position, age))
    }

    /// What opening the file found.
    pub fn recovery_report(&self) -> RecoveryReport {
        self.recovery.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Checks every byte up to what is visible now.
    pub fn verify(&self, progress: &mut Progress<'_>) -> Result<VerifyReport> {
        let generation = Guard::into_inner(self.current()?);
        let tail = generation.visible();
        let mut bytes = tail;
        let damage = verify(&generation.log, tail, &mut |reached| {
            let goes_on = progress(reached, tail);
            if !goes_on {
                bytes = reached;
            }
            goes_on
        });
        let damage = damage.into_iter().map(|Damage { offset, reason }| (offset, reason)).collect();
        if bytes == tail {
            progress(tail, tail);
        }
        Ok(VerifyReport { bytes, damage })
    }
}
