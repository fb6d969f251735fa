//! What the engine says of itself.

use std::ops::Range;

use arc_swap::Guard;
use synadb_storage::log::{Damage, Recovery, verify};

use super::Engine;
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
    /// Bytes of log behind the last checkpoint.
    pub tail_bytes: u64,
    /// Position up to which everything is known to be on the medium.
    pub synced_bytes: u64,
    /// "shared", "exclusive" or "read_only".
    pub access: &'static str,
    /// "disk" or "memory".
    pub region: &'static str,
    /// Handles of this process.
    pub handles: usize,
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
        let (checkpointed, tail) = {
            let commit = self.lock_commit()?;
            (commit.checkpointed, commit.writer.tail)
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
            synced_bytes: generation.synced(),
            access: match (self.writes, self.is_shared()) {
                (false, _) => "read_only",
                (true, false) => "exclusive",
                (true, true) => "shared",
            },
            region: generation.log.region().kind(),
            handles: self.handles.load(std::sync::atomic::Ordering::Acquire),
            tables: tables.collect(),
            recovery: self.recovery_report(),
        })
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
