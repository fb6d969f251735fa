//! The write lock, biased: kept between commits while nobody wants it.
//!
//! Whoever wants it says so in a control word, which the holder looks at after each commit and its
//! maintenance thread waits on. Control words are hints: with any values in them everybody still
//! gets the lock, by looking every [`TICK`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{LockKind, Locks};
use crate::control;
use crate::region::{self, Region};
use crate::{Result, StorageError};

/// How often a waiter looks by itself: it covers holders that were killed.
const TICK: Duration = Duration::from_millis(2);
/// A holder that others wait for keeps the lock so long, to commit more than once for each turn.
const TURN: Duration = Duration::from_millis(1);
/// Who commits more rarely than this gives the lock back at once.
const COLD_US: u64 = 1000;

/// How long to wait for others, and whether to stop before.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// When to give up.
    pub deadline: Instant,
    /// Asked at each look; true gives up at once.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// Fails once the time is over or the caller wants to stop.
    ///
    /// # Errors
    /// `Interrupted`; `Locked` with the process that `region` names as the holder.
    pub fn check(&self, region: &dyn Region) -> Result<()> {
        if (self.interrupted)() {
            return Err(StorageError::Interrupted);
        }
        if Instant::now() >= self.deadline {
            return Err(StorageError::Locked { pid: control::holder(region) });
        }
        Ok(())
    }
}

/// Whether this process holds the write lock, and since when; guarded by its commit mutex.
#[derive(Debug, Default)]
pub struct WriteLock {
    since: Option<Instant>,
    /// Time of the last commit, in microseconds.
    last_commit_us: u64,
}

impl WriteLock {
    /// Whether the lock is held.
    #[inline]
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.since.is_some()
    }

    /// Takes the lock if nobody else has it or queues for it.
    ///
    /// # Errors
    /// `Io`.
    pub fn try_acquire(&mut self, locks: &dyn Locks, region: &dyn Region) -> Result<bool> {
        if self.is_held() {
            return Ok(true);
        }
        // Everybody passes the queue, or who releases the lock would win every race for it.
        if !locks.try_exclusive(LockKind::Queue)? {
            return Ok(false);
        }
        let taken = locks.try_exclusive(LockKind::Write)?;
        if taken {
            self.taken(region);
        }
        locks.unlock(LockKind::Queue)?;
        Ok(taken)
    }

    /// Takes the lock, waiting for whoever has it.
    ///
    /// # Errors
    /// `Locked` with the holder's process id, `Interrupted`, `Io`.
    pub fn acquire(
        &mut self,
        locks: &dyn Locks,
        region: &dyn Region,
        patience: Patience<'_>,
    ) -> Result<()> {
        if self.try_acquire(locks, region)? {
            return Ok(());
        }
        let mut waited = false;
        let mut wait_for = |kind| -> Result<()> {
            loop {
                let released = region.signal(control::RELEASED);
                let seen = released.map_or(0, |word| word.load(Ordering::Acquire));
                if kind == LockKind::Write {
                    want(region);
                }
                if locks.try_exclusive(kind)? {
                    return Ok(());
                }
                patience.check(region)?;
                waited = true;
                match released {
                    Some(word) => region::wait(word, seen, TICK),
                    None => std::thread::sleep(TICK),
                }
            }
        };
        wait_for(LockKind::Queue)?;
        let written = wait_for(LockKind::Write);
        if written.is_ok() {
            self.taken(region);
        }
        locks.unlock(LockKind::Queue)?;
        if waited && let Some(word) = region.signal(control::RELEASED) {
            region::wake(word);
        }
        written
    }

    fn taken(&mut self, region: &dyn Region) {
        self.since = Some(Instant::now());
        if let Some(word) = region.signal(control::WANT) {
            word.store(0, Ordering::Release);
        }
        let holder = control::holder_word();
        if region.load(control::HOLDER) != Some(holder) {
            region.hint(control::HOLDER, holder);
        }
    }

    /// After a commit at `time_us`: keeps the lock while nobody wants it, else releases in turn.
    ///
    /// `keeps` says whether a maintenance thread is there to give it back later.
    ///
    /// # Errors
    /// `Io`.
    #[inline]
    pub fn settle(
        &mut self,
        locks: &dyn Locks,
        region: &dyn Region,
        time_us: u64,
        keeps: bool,
    ) -> Result<()> {
        let cold = time_us.saturating_sub(self.last_commit_us) > COLD_US;
        self.last_commit_us = time_us;
        let turn_is_over = is_wanted(region) && self.turn_is_over();
        if cold || !keeps || turn_is_over {
            return self.release(locks, region);
        }
        Ok(())
    }

    /// Time of the last commit, to see whether there was one since.
    #[must_use]
    pub fn last_commit_us(&self) -> u64 {
        self.last_commit_us
    }

    /// Whether the lock was held long enough to be given to who wants it.
    #[must_use]
    pub fn turn_is_over(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= TURN)
    }

    /// Gives the lock back and wakes who wants it.
    ///
    /// # Errors
    /// `Io`.
    pub fn release(&mut self, locks: &dyn Locks, region: &dyn Region) -> Result<()> {
        if self.since.take().is_none() {
            return Ok(());
        }
        locks.unlock(LockKind::Write)?;
        if is_wanted(region) {
            super::wake_all(region, control::RELEASED);
        }
        Ok(())
    }
}

fn want(region: &dyn Region) {
    if let Some(word) = region.signal(control::WANT) {
        word.store(1, Ordering::Release);
        region::wake(word);
    }
}

/// Whether some process waits for the write lock.
#[inline]
#[must_use]
pub fn is_wanted(region: &dyn Region) -> bool {
    region.signal(control::WANT).is_some_and(|word| word.load(Ordering::Acquire) != 0)
}

/// Returns once somebody wants the lock, or after `timeout`; for the maintenance thread.
pub fn wait_until_wanted(region: &dyn Region, timeout: Duration) {
    super::wait_for_signal(region, control::WANT, 0, timeout);
}
