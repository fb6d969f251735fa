//! Locks of a simulated file.

use std::sync::Arc;

use super::{LockKind, Locks};
use crate::simulation::{Held, Medium, Process, State};
use crate::{Result, StorageError};

/// Locks of one opening of a simulated file; they go with it, and with its process.
pub struct SimulatedLocks {
    medium: Arc<Medium>,
    process: Arc<Process>,
    file: usize,
    owner: u64,
}

impl SimulatedLocks {
    pub(crate) fn new(
        medium: &Arc<Medium>,
        process: &Arc<Process>,
        file: usize,
        owner: u64,
    ) -> Self {
        Self { medium: Arc::clone(medium), process: Arc::clone(process), file, owner }
    }

    fn others<'a>(&self, state: &'a State, kind: LockKind) -> impl Iterator<Item = &'a Held> {
        let (file, owner) = (self.file, self.owner);
        let of_kind = move |held: &&Held| (held.file, held.kind) == (file, kind);
        let held = state.locks.iter().filter(of_kind);
        held.filter(move |held| held.owner != owner && held.process.is_alive())
    }

    fn set(&self, kind: LockKind, exclusive: bool) -> Result<bool> {
        if !self.process.is_alive() {
            return Err(StorageError::io("lock the file", std::io::Error::other("killed")));
        }
        let mut state = self.medium.lock();
        if self.others(&state, kind).any(|held| exclusive || held.exclusive) {
            return Ok(false);
        }
        let (file, owner, process) = (self.file, self.owner, Arc::clone(&self.process));
        state.locks.retain(|held| (held.file, held.kind, held.owner) != (file, kind, owner));
        state.locks.push(Held { file, kind, owner, process, exclusive });
        Ok(true)
    }
}

impl Locks for SimulatedLocks {
    fn try_exclusive(&self, kind: LockKind) -> Result<bool> {
        self.set(kind, true)
    }

    fn try_shared(&self, kind: LockKind) -> Result<bool> {
        self.set(kind, false)
    }

    fn unlock(&self, kind: LockKind) -> Result<()> {
        let (file, owner) = (self.file, self.owner);
        let mut state = self.medium.lock();
        state.locks.retain(|held| (held.file, held.kind, held.owner) != (file, kind, owner));
        Ok(())
    }

    fn is_held_elsewhere(&self, kind: LockKind) -> Result<bool> {
        Ok(self.others(&self.medium.lock(), kind).next().is_some())
    }
}

impl Drop for SimulatedLocks {
    fn drop(&mut self) {
        self.medium.lock().locks.retain(|held| held.owner != self.owner);
    }
}
