//! Transactions that stay open: the write lock is kept for one of them, and the others wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use synadb_storage::fork;

use super::Engine;
use super::engine::Commit;
use crate::config::{Durability, Terms};
use crate::error::{Error, Result};

/// How often a thread that waits for a transaction looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(20);

/// Who keeps the write lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    number: u64,
    thread: ThreadId,
}

impl Owner {
    /// Fails on the thread that keeps the lock: it would wait for itself.
    fn check_thread(self) -> Result<()> {
        if self.thread != std::thread::current().id() {
            return Ok(());
        }
        let reason = "this thread has one open on the file: write through it, or end it".to_owned();
        Err(Error::InvalidArgument { argument: "transaction", reason })
    }
}

/// The write lock, kept from commit to commit until this is dropped.
pub(crate) struct Reserved {
    engine: Arc<Engine>,
    owner: Owner,
    /// Of the process that holds the lock: a forked child does not.
    epoch: u64,
}

impl Reserved {
    /// Whether this process keeps the lock of this engine.
    pub fn holds(&self, engine: &Arc<Engine>) -> bool {
        Arc::ptr_eq(&self.engine, engine) && self.epoch == fork::epoch()
    }
}

impl Engine {
    /// Takes the write lock and keeps it.
    pub fn reserve(self: &Arc<Self>, terms: &Terms) -> Result<Reserved> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let mut commit = self.lock_to_write(None, terms)?;
        self.enter(&mut commit, terms)?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let owner = Owner { number, thread: std::thread::current().id() };
        commit.reserved = Some(owner);
        Ok(Reserved { engine: Arc::clone(self), owner, epoch: fork::epoch() })
    }

    /// Fails where this thread has a transaction open on the file.
    pub fn check_no_own_transaction(&self) -> Result<()> {
        self.lock_commit()?.reserved.map_or(Ok(()), Owner::check_thread)
    }

    /// The commit mutex, once no transaction but the caller's own is open.
    pub(super) fn lock_to_write(
        &self,
        owner: Option<&Reserved>,
        terms: &Terms,
    ) -> Result<MutexGuard<'_, Commit>> {
        let mut deadline = None;
        loop {
            let commit = self.lock_commit()?;
            let Some(holder) = commit.reserved else { return Ok(commit) };
            if owner.is_some_and(|reserved| reserved.owner == holder) {
                return Ok(commit);
            }
            holder.check_thread()?;
            if Instant::now() >= *deadline.get_or_insert_with(|| terms.deadline()) {
                return Err(Error::Locked { path: self.path.clone(), pid: std::process::id() });
            }
            let waited = self.unreserved.wait_timeout(commit, LOOK);
            // The interrupt may need what another thread holds while it waits for the mutex.
            drop(waited.map_err(|_| self.poison())?);
            if terms.is_interrupted() {
                return Err(Error::Interrupted);
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let Ok(mut commit) = self.engine.commit.lock() else { return };
        if commit.reserved == Some(self.owner) {
            commit.reserved = None;
            if self.engine.leave(&mut commit, Durability::Sync).is_err() {
                // The lock goes with the file.
            }
        }
        drop(commit);
        self.engine.unreserved.notify_all();
    }
}
