//! The threads of an open file that do what takes long and nobody waits for: they build indexes,
//! code the rows that come meanwhile, and seal what was coded.
//!
//! They give way to those that search and write, the more the longer their work takes: on a machine
//! with two processors one that inserts, one that searches and one that codes keep both busy.
//!
//! Apart from the maintenance thread, which has to be there when somebody wants the write lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use synadb_storage::lock::LockKind;
use synadb_storage::priority::give_way;

use super::Engine;
use super::engine::FileLocks;
use crate::config::{Maintenance, Terms};

/// What is done apart, each by a thread of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// An index is built, which takes minutes: of the processes that write to the file one at a
    /// time does so.
    Build,
    /// Rows are coded, some milliseconds each time, for the searches of this process.
    Code,
    /// Rows that were coded become a piece of their own, some hundred milliseconds each time; apart
    /// from the coding, for whose end searches wait with rows that they compare in full.
    Seal,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Build => "synadb-background",
            Self::Code => "synadb-coding",
            Self::Seal => "synadb-sealing",
        }
    }

    /// How far it gives way to others. A build saves what it has built, for which commits wait: that
    /// is done as by all others, and only the building [gives way](building).
    fn nice(self) -> u8 {
        match self {
            Self::Build => 0,
            Self::Code => 10,
            Self::Seal => 15,
        }
    }
}

/// How far the building of an index gives way to others.
const BUILDING_NICE: u8 = 19;

/// Has something that nobody waits for done by a thread that gives way to all others, and waits.
pub(crate) fn building<T: Send>(work: impl Fn() -> T + Sync) -> T {
    std::thread::scope(|scope| {
        let run = || {
            give_way(BUILDING_NICE);
            work()
        };
        let thread = std::thread::Builder::new().name("synadb-building".to_owned());
        match thread.spawn_scoped(scope, run) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => work(),
        }
    })
}

/// The threads, while there is work.
#[derive(Default)]
pub(super) struct Background {
    build: Worker,
    code: Worker,
    seal: Worker,
    stopping: Arc<AtomicBool>,
}

/// A thread that does one piece of work at a time.
#[derive(Default)]
struct Worker {
    thread: Mutex<Option<JoinHandle<()>>>,
    busy: Arc<AtomicBool>,
}

impl Background {
    fn worker(&self, work: Work) -> &Worker {
        match work {
            Work::Build => &self.build,
            Work::Code => &self.code,
            Work::Seal => &self.seal,
        }
    }

    /// Whether work would be turned away just now.
    #[inline]
    fn is_taken(&self, work: Work) -> bool {
        self.worker(work).busy.load(Ordering::Acquire) || self.stopping.load(Ordering::Acquire)
    }

    /// Has the work end, and waits for it; none is taken from then on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // Who codes may have somebody seal.
        for worker in [&self.build, &self.code, &self.seal] {
            let thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread
                && thread.join().is_err()
            {
                // It panicked; nobody waits for what it was to do.
            }
        }
    }
}

/// Sets the flag back when the work is over, a panic included.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Has work done by a thread of its own, which the last handle to be closed ends and waits for;
    /// false where that cannot be now. The terms tell when to stop.
    pub fn do_apart(&self, what: Work, work: impl FnOnce(&Self, &Terms) + Send + 'static) -> bool {
        let background = &self.background;
        if self.maintenance != Maintenance::Thread || background.is_taken(what) {
            return false;
        }
        let worker = background.worker(what);
        let mut thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if background.is_taken(what) {
            return false;
        }
        worker.busy.store(true, Ordering::Release);
        let busy = Busy(Arc::clone(&worker.busy));
        let (engine, stopping) = (self.weak.clone(), Arc::clone(&background.stopping));
        let run = move || {
            let _busy = busy;
            if what.nice() > 0 {
                give_way(what.nice());
            }
            let Some(engine) = engine.upgrade() else { return };
            let stops = move || stopping.load(Ordering::Acquire);
            let terms = Terms::of_upkeep(Arc::new(stops));
            match what {
                Work::Build => engine.alone(|engine| work(engine, &terms)),
                Work::Code | Work::Seal => work(&engine, &terms),
            }
        };
        let spawned = std::thread::Builder::new().name(what.name().to_owned()).spawn(run);
        // The one before has ended, or is about to: it has nothing left to do.
        *thread = spawned.ok();
        thread.is_some()
    }

    /// Does it unless another process does the like.
    fn alone(&self, work: impl FnOnce(&Self)) {
        let locks = if self.writes { self.locks.load_full() } else { None };
        let Some(locks) = locks else { return work(self) };
        if locks.0.try_exclusive(LockKind::Building).is_ok_and(|is_mine| is_mine) {
            let _building = Building(locks);
            work(self);
        }
    }
}

/// Gives the lock back that keeps others from building, a panic included: they would never build
/// again while the file is open here.
struct Building(Arc<FileLocks>);

impl Drop for Building {
    fn drop(&mut self) {
        if self.0.0.unlock(LockKind::Building).is_err() {
            // It goes when the file is closed.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value of this thread: the nineteenth field, the third follows its name.
    fn nice() -> i64 {
        let fields = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
        let behind = fields.rsplit(')').next().expect("a name");
        behind.split_whitespace().nth(16).expect("a field").parse().expect("a number")
    }

    #[test]
    fn a_build_gives_way_and_who_waits_for_it_does_not() {
        let before = nice();
        assert_eq!(building(nice), i64::from(BUILDING_NICE));
        assert_eq!(nice(), before);
    }
}
