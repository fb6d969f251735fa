//! Compacting without being asked, once enough of the log is dead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::compact::CompactOptions;
use super::engine::Commit;
use super::{Engine, Usage};
use crate::config::{AutoCompact, Keep, Maintenance, Terms};
use crate::error::Result;

/// Smaller logs are left alone, and no log is looked at again before it has grown by this or has
/// lost its share of keys.
const LOG_BYTES_MIN: u64 = 4 << 20;
/// A look takes as long as some commits; so many bytes of log are worth one.
const LOG_BYTES_PER_COMMIT: u64 = 1 << 10;

/// When to look how much of the log is dead, and what to do then.
pub(super) struct Upkeep {
    wishes: Mutex<Wishes>,
    /// A log of this length is worth a look.
    look_at_bytes: AtomicU64,
    /// One of `LOG_BYTES_MIN` also with so few live keys, or with this sequence number: where values
    /// are replaced by smaller ones or deleted, the log hardly grows.
    look_at_keys: AtomicU64,
    look_at_sequence: AtomicU64,
}

/// The wishes of the handles that are open, the newest last.
#[derive(Default)]
struct Wishes {
    next: u64,
    of_handles: Vec<(u64, AutoCompact)>,
}

/// What to look at next.
struct Look {
    bytes: u64,
    keys: u64,
    sequence: u64,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            wishes: Mutex::default(),
            look_at_bytes: AtomicU64::new(u64::MAX),
            look_at_keys: AtomicU64::new(0),
            look_at_sequence: AtomicU64::new(u64::MAX),
        }
    }
}

impl Upkeep {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wish of a handle, and its number, to forget it by; that of the newest handle counts.
    pub fn want(&self, wish: AutoCompact) -> u64 {
        let mut wishes = self.wishes();
        wishes.next += 1;
        let number = wishes.next;
        wishes.of_handles.push((number, wish));
        self.look_at_bytes.store(LOG_BYTES_MIN, Ordering::Release);
        number
    }

    /// The handle was closed.
    pub fn forget(&self, number: u64) {
        let mut wishes = self.wishes();
        wishes.of_handles.retain(|(other, _)| *other != number);
        if wishes.of_handles.is_empty() {
            self.rest();
        } else {
            self.look_at_bytes.store(LOG_BYTES_MIN, Ordering::Release);
        }
    }

    fn wish(&self) -> Option<AutoCompact> {
        self.wishes().of_handles.last().map(|(_, wish)| *wish)
    }

    /// Looks at nothing until told otherwise.
    fn rest(&self) {
        self.look_at_bytes.store(u64::MAX, Ordering::Release);
        self.look_at_keys.store(0, Ordering::Release);
        self.look_at_sequence.store(u64::MAX, Ordering::Release);
    }

    fn look_next(&self, look: &Look) {
        let wishes = self.wishes();
        if wishes.of_handles.is_empty() {
            return self.rest();
        }
        self.look_at_keys.store(look.keys, Ordering::Release);
        self.look_at_sequence.store(look.sequence, Ordering::Release);
        self.look_at_bytes.store(look.bytes, Ordering::Release);
    }

    #[inline]
    pub fn is_due(&self, commit: &Commit) -> bool {
        let bytes = self.look_at_bytes.load(Ordering::Acquire);
        bytes != u64::MAX && (commit.writer.tail >= bytes || self.has_lost_much(commit))
    }

    fn has_lost_much(&self, commit: &Commit) -> bool {
        if commit.writer.tail < LOG_BYTES_MIN {
            return false;
        }
        let replaced = commit.writer.sequence >= self.look_at_sequence.load(Ordering::Acquire);
        replaced || live_keys(commit) < self.look_at_keys.load(Ordering::Acquire)
    }
}

fn live_keys(commit: &Commit) -> u64 {
    commit.views.values().map(|view| view.live()).sum()
}

/// Bytes of a log that a compaction would give back.
fn dead(usage: &Usage, keep: Keep) -> u64 {
    let total = usage.total();
    total.dead + if keep == Keep::Newest { total.history } else { 0 }
}

impl Look {
    /// When the dead share could be what is wished for, at the earliest where all values are of a
    /// size: by growth, by deletes, by values that replace others.
    fn next(wish: &AutoCompact, (bytes, dead): (u64, u64), keys: u64, sequence: u64) -> Self {
        let missing = (wish.share * bytes as f64 - dead as f64).max(LOG_BYTES_MIN as f64);
        let alive = bytes.saturating_sub(dead).max(1) as f64;
        let lost = (keys as f64 * (missing / alive).min(1.0)).ceil() as u64;
        Self {
            bytes: bytes + (missing / (1.0 - wish.share)) as u64,
            keys: (keys + 1).saturating_sub(lost),
            sequence: sequence + lost.max(bytes / LOG_BYTES_PER_COMMIT),
        }
    }

    /// After an attempt that failed.
    fn in_vain(bytes: u64) -> Self {
        Self { bytes: 2 * bytes.max(LOG_BYTES_MIN), keys: 0, sequence: u64::MAX }
    }
}

impl Engine {
    /// Behind a commit that made the log worth a look: has it looked at.
    ///
    /// True where the caller is to do so once it holds no lock.
    pub(super) fn ask_for_upkeep(&self, commit: &Commit) -> bool {
        if !self.upkeep.is_due(commit) || commit.reserved.is_some() {
            return false;
        }
        self.upkeep.rest();
        match self.maintenance {
            Maintenance::Thread => {
                if !self.maintainer.ask(self) {
                    self.upkeep.look_next(&Look::in_vain(commit.writer.tail));
                }
                false
            }
            Maintenance::Inline => true,
            Maintenance::Off => false,
        }
    }

    /// Looks how much of the log is dead, and compacts it if that is enough.
    ///
    /// What fails is left as it is: the log has it all, and the next attempt comes when it is twice
    /// as long. Damage is told to those who read it. Nobody waits for another compaction here.
    pub(super) fn keep_up(&self, terms: &Terms) {
        let Some(wish) = self.upkeep.wish() else { return };
        let next = self.look_and_compact(&wish, terms);
        let in_vain = || Look::in_vain(self.generation.load().visible());
        self.upkeep.look_next(&next.unwrap_or_else(|_| in_vain()));
    }

    fn look_and_compact(&self, wish: &AutoCompact, terms: &Terms) -> Result<Look> {
        let mut goes_on = |_: u64, _: u64| !terms.is_interrupted();
        let usage = self.usage(&mut goes_on)?;
        let (keys, sequence) = {
            let commit = self.lock_commit()?;
            (live_keys(&commit), commit.writer.sequence)
        };
        let dead = dead(&usage, wish.keep);
        let is_enough = dead as f64 >= wish.share * usage.bytes as f64;
        if usage.bytes < LOG_BYTES_MIN || !is_enough {
            return Ok(Look::next(wish, (usage.bytes, dead), keys, sequence));
        }
        let options = CompactOptions { keep: wish.keep, skip_damaged: false };
        let Some(turn) = self.try_turn(self.locks()?)? else {
            return Ok(Look::next(wish, (usage.bytes, 0), keys, sequence));
        };
        let report = self.compact_in_turn(&turn, terms, options, &mut goes_on)?;
        Ok(Look::next(wish, (report.bytes_after, 0), keys, sequence))
    }
}
