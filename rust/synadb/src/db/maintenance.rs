//! The thread of an open file that gives the write lock back while the file is idle, and compacts.
//!
//! It starts when there is something to do, so that a program with one commit never pays for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use synadb_storage::lock::{is_wanted, wait_until_wanted, wake_all};
use synadb_storage::region::Region;

use super::Engine;
use crate::config::Terms;

/// How often the thread looks whether the file is idle.
const LOOK: Duration = Duration::from_millis(5);
/// What is left of a holder's turn is waited for in steps of this.
const STEP: Duration = Duration::from_micros(200);

/// The thread, once it was needed.
#[derive(Default)]
pub(super) struct Maintainer {
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether the write lock is kept, as far as the thread knows.
    watching: AtomicBool,
    stopping: AtomicBool,
    /// Whether somebody asked for upkeep, and whether it is under way.
    asked: AtomicBool,
    busy: AtomicBool,
}

impl Maintainer {
    /// Sees to it that the write lock, if it is kept, is given back; false where nobody can.
    #[inline]
    pub fn watch(&self, engine: &Engine) -> bool {
        self.shared.watching.load(Ordering::Acquire) || self.begin_to_watch(engine)
    }

    #[cold]
    fn begin_to_watch(&self, engine: &Engine) -> bool {
        if self.shared.busy.load(Ordering::Acquire) {
            return false;
        }
        self.shared.watching.store(true, Ordering::Release);
        let is_there = self.wake_up(engine);
        self.shared.watching.store(is_there, Ordering::Release);
        is_there
    }

    /// Has the thread do the upkeep; false where there is none.
    pub fn ask(&self, engine: &Engine) -> bool {
        self.shared.asked.store(true, Ordering::Release);
        self.wake_up(engine)
    }

    fn wake_up(&self, engine: &Engine) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.thread().unpark();
            return true;
        }
        let (shared, engine_of) = (Arc::clone(&self.shared), engine.weak.clone());
        let spawned = std::thread::Builder::new()
            .name("synadb-maintenance".to_owned())
            .spawn(move || shared.run(&engine_of));
        *thread = spawned.ok();
        thread.is_some()
    }

    /// Ends the thread and waits for it.
    pub fn stop(&self, region: &dyn Region) {
        self.shared.stopping.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            wake_all(region, synadb_storage::control::WANT);
            if thread.join().is_err() {
                // It panicked; what it does is a courtesy to others.
            }
        }
    }
}

impl Shared {
    fn run(self: &Arc<Self>, engine: &Weak<Engine>) {
        let mut seen = 0;
        while !self.stopping.load(Ordering::Acquire) {
            if self.asked.swap(false, Ordering::AcqRel) {
                let Some(engine) = engine.upgrade() else { return };
                self.keep_up(&engine);
                continue;
            }
            if !self.watching.load(Ordering::Acquire) {
                std::thread::park();
                continue;
            }
            let region = match engine.upgrade() {
                Some(engine) => engine.applied().log.shared_region(),
                None => return,
            };
            wait_until_wanted(&*region, LOOK);
            let Some(engine) = engine.upgrade() else { return };
            self.look(&engine, &mut seen);
        }
    }

    /// Does the upkeep; meanwhile nobody keeps the write lock, for nobody would give it back.
    fn keep_up(self: &Arc<Self>, engine: &Engine) {
        self.busy.store(true, Ordering::Release);
        self.watching.store(false, Ordering::Release);
        if let Ok(mut commit) = engine.commit.lock()
            && commit.reserved.is_none()
            && let Some(locks) = engine.locks.load_full()
            && commit.write.release(&*locks.0, engine.applied().log.region()).is_err()
        {
            // Who wants the lock gets it behind the next commit.
        }
        let shared = Arc::clone(self);
        let stops = move || shared.stopping.load(Ordering::Acquire);
        engine.keep_up(&Terms::of_upkeep(Arc::new(stops)));
        self.busy.store(false, Ordering::Release);
    }

    /// Gives the lock back to who wants it once the turn is over, or when nothing was committed
    /// since the last look.
    fn look(&self, engine: &Engine, seen: &mut u64) {
        let Ok(mut commit) = engine.commit.lock() else { return };
        let region = engine.applied().log.shared_region();
        let region = &*region;
        if !commit.write.is_held() {
            self.watching.store(false, Ordering::Release);
            return;
        }
        let last = commit.write.last_commit_us();
        let idle = std::mem::replace(seen, last) == last;
        let wanted = is_wanted(region);
        if !(idle || wanted) {
            return;
        }
        let is_reserved = commit.reserved.is_some();
        if is_reserved || wanted && !idle && !commit.write.turn_is_over() {
            // Without a pause here the thread would spin, for the word that says so stays set.
            drop(commit);
            std::thread::sleep(STEP);
            return;
        }
        if let Some(locks) = engine.locks.load_full()
            && commit.write.release(&*locks.0, region).is_ok()
        {
            self.watching.store(false, Ordering::Release);
        }
    }
}
