//! Compacting without being asked, once enough of the log is dead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::compact::CompactOptions;
use super::engine::Commit;
use super::{Engine, Usage};
use crate::config::{AutoCompact, Interrupt, Keep, Maintenance, Terms};

/// Smaller logs are left alone, and no log is looked at again before it has grown by this.
const LOG_BYTES_MIN: u64 = 4 << 20;

/// When to look how much of the log is dead, and what to do then.
pub(super) struct Upkeep {
    wish: Mutex<Option<AutoCompact>>,
    /// A log of this length is worth a look.
    look_at: AtomicU64,
}

impl Upkeep {
    pub fn new(wish: Option<AutoCompact>) -> Self {
        let upkeep = Self { wish: Mutex::new(None), look_at: AtomicU64::new(u64::MAX) };
        upkeep.want(wish);
        upkeep
    }

    /// The wish of a handle; that of the newest one counts.
    pub fn want(&self, wish: Option<AutoCompact>) {
        if wish.is_some() {
            *self.wish.lock().unwrap_or_else(PoisonError::into_inner) = wish;
            self.look_at.store(LOG_BYTES_MIN, Ordering::Release);
        }
    }

    #[inline]
    pub fn is_due(&self, commit: &Commit) -> bool {
        commit.writer.tail >= self.look_at.load(Ordering::Acquire)
    }
}

/// Bytes of a log that a compaction would give back.
fn dead(usage: &Usage, keep: Keep) -> u64 {
    let total = usage.total();
    total.dead + if keep == Keep::Newest { total.history } else { 0 }
}

/// Length of the log at which its dead share could be what is wished for, at the earliest.
fn next_look(wish: &AutoCompact, bytes: u64, dead: u64) -> u64 {
    let missing = (wish.share * bytes as f64 - dead as f64) / (1.0 - wish.share);
    bytes + (missing.max(0.0) as u64).max(LOG_BYTES_MIN)
}

impl Engine {
    /// Behind a commit that made the log long enough: has it looked at.
    ///
    /// True where the caller is to do so once it holds no lock.
    pub(super) fn ask_for_upkeep(&self, commit: &Commit) -> bool {
        if !self.upkeep.is_due(commit) || commit.reserved.is_some() {
            return false;
        }
        self.upkeep.look_at.store(u64::MAX, Ordering::Release);
        match self.maintenance {
            Maintenance::Thread => {
                if !self.maintainer.ask(self) {
                    self.upkeep.look_at.store(commit.writer.tail * 2, Ordering::Release);
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
    /// as long. Damage is told to those who read it.
    pub(super) fn keep_up(&self, stops: Interrupt) {
        let wish = *self.upkeep.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wish) = wish else { return };
        let terms = Terms::of_upkeep(Arc::clone(&stops));
        let done = self.usage(&mut |_, _| !stops()).and_then(|usage| {
            let dead = dead(&usage, wish.keep);
            let is_enough = dead as f64 >= wish.share * usage.bytes as f64;
            if usage.bytes < LOG_BYTES_MIN || !is_enough {
                return Ok(next_look(&wish, usage.bytes, dead));
            }
            let options = CompactOptions { keep: wish.keep, skip_damaged: false };
            let report = self.compact(&terms, options, &mut |_, _| !stops())?;
            Ok(next_look(&wish, report.bytes_after, 0))
        });
        let twice = || 2 * self.generation.load().visible().max(LOG_BYTES_MIN);
        self.upkeep.look_at.store(done.unwrap_or_else(|_| twice()), Ordering::Release);
    }
}
