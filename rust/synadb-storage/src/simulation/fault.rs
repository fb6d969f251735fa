//! Operations that fail, and processes that die.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Result, StorageError};

/// What a process asks of its files; each kind is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of `Region` and `Directory`.
pub enum Operation {
    Store,
    Publish,
    Allocate,
    Map,
    Zero,
    Trim,
    Sync,
    Open,
    Create,
    Rename,
    Remove,
    SyncParent,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No space is left; nothing was done.
    DiskFull,
    /// An input/output error. After that of a sync some dirty pages are clean and not stored.
    Io,
    /// A store or growth got half way and then found the medium full.
    Short,
    /// The answer is that all is well, and nothing was done.
    Lie,
    /// The thread panics.
    Panic,
    /// The process dies before the operation.
    Kill,
    /// The operation waits until the process is healed, and is then done.
    Hold,
}

/// A failure in waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The kind that fails, `None` for any.
    pub operation: Option<Operation>,
    /// Which of them from now on fails; 1 is the next.
    pub nth: u64,
    /// How.
    pub failure: Failure,
    /// Whether all later ones fail as well.
    pub lasts: bool,
}

/// What an operation is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Short,
    Lie,
}

#[derive(Debug, Default)]
struct Faults {
    fault: Option<Fault>,
    seen: u64,
    failed: u64,
}

/// A process over a simulated medium: what it opened dies with it.
#[derive(Debug, Default)]
pub struct Process {
    dead: AtomicBool,
    faults: Mutex<Faults>,
    healed: Condvar,
}

impl Process {
    /// Ends the process: nothing it has open does anything any more, and its locks are free.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }

    /// From now on operations fail as `fault` says; it takes the place of the one before.
    pub fn fail(&self, fault: Fault) {
        *self.faults() = Faults { fault: Some(fault), ..Faults::default() };
    }

    /// Nothing fails any more; returns how often something did.
    pub fn heal(&self) -> u64 {
        let failed = std::mem::take(&mut *self.faults()).failed;
        self.healed.notify_all();
        failed
    }

    /// How often something failed, or is held, since the fault was set.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.faults().failed
    }

    fn wait_until_healed(&self) {
        let held = self.healed.wait_while(self.faults(), |faults| faults.fault.is_some());
        drop(held.unwrap_or_else(PoisonError::into_inner));
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before each operation.
    pub(crate) fn attempt(&self, operation: Operation, action: &'static str) -> Result<Verdict> {
        let Some(failure) = self.failure_of(operation) else {
            return if self.is_alive() { Ok(Verdict::Go) } else { Err(died(action)) };
        };
        match failure {
            Failure::DiskFull => Err(StorageError::DiskFull { action }),
            Failure::Io => Err(StorageError::io(action, std::io::Error::from_raw_os_error(5))),
            Failure::Short => Ok(Verdict::Short),
            Failure::Lie => Ok(Verdict::Lie),
            Failure::Panic => panic!("a simulated panic in {operation:?}"),
            Failure::Hold => {
                self.wait_until_healed();
                Ok(Verdict::Go)
            }
            Failure::Kill => {
                self.kill();
                Err(died(action))
            }
        }
    }

    fn failure_of(&self, operation: Operation) -> Option<Failure> {
        let mut faults = self.faults();
        let fault = faults.fault.filter(|f| f.operation.is_none_or(|kind| kind == operation))?;
        faults.seen += 1;
        let fails = faults.seen == fault.nth || (fault.lasts && faults.seen > fault.nth);
        faults.failed += u64::from(fails);
        (fails && self.is_alive()).then_some(fault.failure)
    }
}

fn died(action: &'static str) -> StorageError {
    StorageError::io(action, std::io::Error::other("the process was killed"))
}
