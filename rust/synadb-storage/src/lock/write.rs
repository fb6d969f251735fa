//! The write lock, biased: kept between commits while nobody wants it.
//!
//! Whoever wants it says so in a control word, which the holder looks at after each commit and its
//! maintenance thread waits on. Control words are hints: with any values in them everybody still
//! gets the lock, by looking every [`TICK`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{LockKind, Locks};
use crate::control;
use crate::region::{self, Among, Region};
use crate::{Result, StorageError};

/// How often a waiter looks by itself: it covers holders that were killed.
const TICK: Duration = Duration::from_millis(2);
/// How often who is next applies what the holder has committed, so that little of it is left to do
/// when the lock is his.
const STEP: Duration = Duration::from_micros(150);
/// A holder that others wait for keeps the lock so long, to commit more than once for each turn.
const TURN: Duration = Duration::from_millis(1);
/// Who commits more rarely than this gives the lock back at once.
const COLD_US: u128 = 1000;

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
    /// `Interrupted`; `Locked` with the process that is waited for.
    fn check(&self, locks: &dyn Locks, region: &dyn Region, is_next: bool) -> Result<()> {
        if (self.interrupted)() {
            return Err(StorageError::Interrupted);
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let pid = match (locks.is_held_elsewhere(LockKind::Write)?, is_next) {
            (true, _) => control::holder(region),
            // Given back since it was asked for, and only who is next can take it.
            (false, true) => return Ok(()),
            // Who is next was stopped before it saw that the lock is free.
            (false, false) => control::next(region),
        };
        Err(StorageError::Locked { pid })
    }
}

/// Whether this process holds the write lock, and since when; guarded by its commit mutex.
#[derive(Debug, Default)]
pub struct WriteLock {
    since: Option<Instant>,
    /// Time of the last commit, in microseconds.
    last_commit_us: u64,
    /// How long the lock was waited for since.
    waited: Duration,
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
        if !try_named(locks, region, LockKind::Queue)? {
            return Ok(false);
        }
        let taken = try_named(locks, region, LockKind::Write)?;
        if taken {
            self.taken(region);
        }
        locks.unlock(LockKind::Queue)?;
        Ok(taken)
    }

    /// Takes the lock, waiting for whoever has it; `meanwhile` runs before each wait.
    ///
    /// # Errors
    /// `Locked` with the process id of the one that is waited for, `Interrupted`, `Io`; what `meanwhile` returns.
    pub fn acquire(
        &mut self,
        locks: &dyn Locks,
        region: &dyn Region,
        patience: Patience<'_>,
        meanwhile: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        if self.try_acquire(locks, region)? {
            return Ok(());
        }
        let asked = Instant::now();
        let mut waited = false;
        let mut wait_for = |kind| -> Result<()> {
            // Who met another at the queue by chance finds it free at the second look.
            let mut step = STEP;
            let is_next = kind == LockKind::Write;
            let among = if is_next { Among::Next } else { Among::Queue };
            loop {
                let released = region.signal(control::RELEASED);
                let seen = released.map_or(0, |word| word.load(Ordering::Acquire));
                if is_next {
                    want(region);
                }
                if try_named(locks, region, kind)? {
                    return Ok(());
                }
                patience.check(locks, region, is_next)?;
                meanwhile()?;
                waited = true;
                match released {
                    Some(word) => region::wait_among(word, seen, step, among),
                    None => std::thread::sleep(step),
                }
                if kind == LockKind::Queue {
                    step = TICK;
                }
            }
        };
        wait_for(LockKind::Queue)?;
        let written = wait_for(LockKind::Write);
        if written.is_ok() {
            self.taken(region);
            self.waited += asked.elapsed();
        }
        locks.unlock(LockKind::Queue)?;
        if waited {
            // One of those that queue is enough: who is woken in vain is in the way of the others.
            released(region, 1, Among::Queue);
        }
        written
    }

    fn taken(&mut self, region: &dyn Region) {
        self.since = Some(Instant::now());
        // As with names: a store that changes nothing would still dirty the page.
        if let Some(word) = region.signal(control::WANT)
            && word.load(Ordering::Acquire) != 0
        {
            word.store(0, Ordering::Release);
        }
    }

    /// After a commit at `time_us`: whether to keep the lock, for commits come one after the other
    /// and nobody wants it, or the turn is not over.
    #[inline]
    pub fn is_worth_keeping(&mut self, region: &dyn Region, time_us: u64) -> bool {
        // Who had to wait for others is not cold by that.
        let waited = std::mem::take(&mut self.waited).as_micros();
        let pause = u128::from(time_us.saturating_sub(self.last_commit_us));
        let cold = pause.saturating_sub(waited) > COLD_US;
        self.last_commit_us = time_us;
        !(cold || is_wanted(region) && self.turn_is_over())
    }

    /// Time of the last commit, to see whether there was one since.
    #[must_use]
    pub fn last_commit_us(&self) -> u64 {
        self.last_commit_us
    }

    /// The turn begins now: what had to be applied before the first commit is not part of it.
    ///
    /// Or who commits more would leave the next one less and less time.
    pub fn begin_turn(&mut self) {
        self.since = self.since.map(|_| Instant::now());
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
            released(region, u32::MAX >> 1, Among::Next);
        }
        Ok(())
    }
}

/// Takes the queue, or by whoever holds it the write lock, if nobody else has it.
///
/// The name is there before the lock is taken: who is stopped in between is whom the others wait
/// for, and not who had the lock before. The names of two that try the queue at once may be the
/// wrong way round until the one that has it stores its own again.
fn try_named(locks: &dyn Locks, region: &dyn Region, kind: LockKind) -> Result<bool> {
    let this = control::this_process();
    let word = if kind == LockKind::Queue { control::NEXT } else { control::HOLDER };
    // A store that changes nothing would still dirty the page, which each sync then writes.
    let is_named = || region.load(word) == Some(this);
    if !is_named() {
        if locks.is_held_elsewhere(kind)? {
            return Ok(false);
        }
        region.hint(word, this);
    }
    let taken = locks.try_exclusive(kind)?;
    if taken && !is_named() {
        region.hint(word, this);
    }
    Ok(taken)
}

/// Counts what was given back, and wakes some of those that wait for it.
fn released(region: &dyn Region, count: u32, among: Among) {
    if let Some(word) = region.signal(control::RELEASED) {
        word.fetch_add(1, Ordering::AcqRel);
        region::wake_among(word, count, among);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::region::MemoryRegion;

    #[test]
    fn who_waited_for_others_is_not_cold() {
        let region = MemoryRegion::with_capacity(1 << 16).expect("allocates");
        let waited = Duration::from_millis(5);
        let mut lock = WriteLock { since: Some(Instant::now()), last_commit_us: 1_000, waited };
        assert!(lock.is_worth_keeping(&region, 6_500), "5 ms of the pause were waiting");
        assert!(!lock.is_worth_keeping(&region, 9_000), "and none of this one");
        assert!(lock.is_worth_keeping(&region, 9_500));
    }

    /// Notes what the control words name when a lock is asked for.
    struct Watched<'a> {
        region: &'a MemoryRegion,
        /// The write lock, not the queue.
        held_elsewhere: bool,
        named: Mutex<Vec<(LockKind, Option<u64>)>>,
    }

    impl Locks for Watched<'_> {
        fn try_exclusive(&self, kind: LockKind) -> Result<bool> {
            let word = if kind == LockKind::Write { control::HOLDER } else { control::NEXT };
            self.named.lock().expect("no panic").push((kind, self.region.load(word)));
            Ok(kind != LockKind::Write || !self.held_elsewhere)
        }

        fn try_shared(&self, _: LockKind) -> Result<bool> {
            Ok(true)
        }

        fn unlock(&self, _: LockKind) -> Result<()> {
            Ok(())
        }

        fn is_held_elsewhere(&self, kind: LockKind) -> Result<bool> {
            Ok(kind == LockKind::Write && self.held_elsewhere)
        }
    }

    #[test]
    fn who_takes_the_lock_is_named_before_it_has_it() {
        let region = MemoryRegion::with_capacity(1 << 16).expect("allocates");
        region.allocate(1 << 16).expect("grows");
        let other = 7;
        region.hint(control::HOLDER, other);
        let mut locks = Watched { region: &region, held_elsewhere: true, named: Mutex::default() };
        let mut lock = WriteLock::default();
        assert!(!lock.try_acquire(&locks, &region).expect("asks"));
        assert_eq!(region.load(control::HOLDER), Some(other), "who has it stays named");
        locks.held_elsewhere = false;
        assert!(lock.try_acquire(&locks, &region).expect("takes"));
        let this = Some(control::this_process());
        let (queue, write) = ((LockKind::Queue, this), (LockKind::Write, this));
        assert_eq!(*locks.named.lock().expect("no panic"), [queue, queue, write]);
    }

    /// Larger than any process id.
    const HOLDER: u32 = 0x7fff_fff0;
    const NEXT: u32 = 0x7fff_fff1;

    #[test]
    fn who_was_next_is_named_where_the_lock_is_free() {
        let region = MemoryRegion::with_capacity(1 << 16).expect("allocates");
        region.allocate(1 << 16).expect("grows");
        let namespace = control::this_process() >> 32 << 32;
        region.hint(control::HOLDER, namespace | u64::from(HOLDER));
        region.hint(control::NEXT, namespace | u64::from(NEXT));
        let told = |held_elsewhere, is_next| {
            let locks = Watched { region: &region, held_elsewhere, named: Mutex::default() };
            let patience = Patience { deadline: Instant::now(), interrupted: &|| false };
            match patience.check(&locks, &region, is_next) {
                Err(StorageError::Locked { pid }) => Some(pid),
                Ok(()) => None,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(told(true, false), Some(HOLDER));
        assert_eq!(told(false, false), Some(NEXT));
        assert_eq!(told(true, true), Some(HOLDER));
        assert_eq!(told(false, true), None, "it is free for who is next");
        region.hint(control::NEXT, control::this_process());
        assert_eq!(told(false, false), Some(0), "who asks does not wait for itself");
    }
}
