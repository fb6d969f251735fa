//! Syncing: one for all who wait for it, threads and processes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use synadb_storage::control;
use synadb_storage::frame::published_end;
use synadb_storage::lock::{LockKind, wait_for_signal, wake_all};

use super::{Engine, Generation};
use crate::error::Result;

/// How often who waits for another's sync looks by himself.
const TICK: Duration = Duration::from_millis(2);

/// Whose turn it is among the threads of this process: one syncs for all who wait.
#[derive(Default)]
pub(super) struct Syncing {
    leads: Mutex<bool>,
    finished: Condvar,
}

/// The turn, given back however it ends.
struct Leader<'a>(&'a Syncing);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        *self.0.leads.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.finished.notify_all();
    }
}

impl Engine {
    /// Returns once everything before `end` is on the medium; concurrent callers share a sync.
    pub(super) fn sync_to(&self, generation: &Generation, end: u64) -> Result<()> {
        while generation.synced() < end {
            self.check_poison()?;
            let mut leads = self.syncing.leads.lock().unwrap_or_else(PoisonError::into_inner);
            if *leads {
                // Not one after the other through a mutex: all whom that sync covers go on at once.
                let woken = self.syncing.finished.wait_timeout(leads, TICK);
                drop(woken.unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            *leads = true;
            drop(leads);
            let _leader = Leader(&self.syncing);
            if self.is_shared() {
                self.sync_for_all(generation, end)?;
                continue;
            }
            let reached = generation.visible();
            if let Err(error) = generation.log.region().sync() {
                self.poison();
                return Err(self.failure(error));
            }
            generation.raise_synced(reached);
        }
        Ok(())
    }

    /// Returns once everything visible now is on the medium, whoever committed it.
    pub fn sync_all(&self) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        self.check_poison()?;
        let generation = Arc::clone(&*self.current()?);
        let mut end = generation.visible();
        if self.is_shared() {
            // A commit in progress keeps this process from applying what others have written.
            end = published_end(&generation.log, end);
        }
        self.sync_to(&generation, end)
    }

    /// Syncs under the lock that all processes share, or waits for one that covers `end`.
    fn sync_for_all(&self, generation: &Generation, end: u64) -> Result<()> {
        let region = generation.log.region();
        let id = generation.log.identity().database_id;
        let locks = self.locks()?;
        let fail = |error| self.failure(error);
        loop {
            self.check_poison_of_all(region)?;
            generation.raise_synced(control::synced(region, &id));
            if generation.synced() >= end {
                return Ok(());
            }
            let signal = region.signal(control::SYNC_GEN);
            let seen = signal.map_or(0, |word| word.load(Ordering::Acquire));
            if !locks.0.try_exclusive(LockKind::Sync).map_err(fail)? {
                // A leader is at work; the next one syncs for all who came meanwhile.
                wait_for_signal(region, control::SYNC_GEN, seen, TICK);
                continue;
            }
            let done = control::synced(region, &id) >= end;
            let result = if done { Ok(()) } else { self.lead_sync(generation, &*locks.0) };
            locks.0.unlock(LockKind::Sync).map_err(fail)?;
            result?;
        }
    }

    /// Syncs what all processes have published.
    fn lead_sync(
        &self,
        generation: &Generation,
        locks: &dyn synadb_storage::lock::Locks,
    ) -> Result<()> {
        let region = generation.log.region();
        let reached = published_end(&generation.log, generation.visible());
        if let Err(error) = region.sync() {
            self.poison();
            return Err(self.failure(error));
        }
        generation.raise_synced(reached);
        // A second dirty page would make the next sync of a lone writer slower.
        if locks.is_held_elsewhere(LockKind::Registration).map_err(|e| self.failure(e))? {
            let id = generation.log.identity().database_id;
            control::raise_synced(region, reached, &id).map_err(|e| self.failure(e))?;
            wake_all(region, control::SYNC_GEN);
        }
        Ok(())
    }
}
