//! Syncs what commits have left unsynced: after a time, and behind so many bytes.
//!
//! The thread that does so is there while something is unsynced. It is none of the others: a sync
//! takes as long as the medium takes, and the maintenance thread has to be there when somebody wants
//! the write lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use synadb_storage::identity::FRAMES_START;

use super::Engine;
use super::engine::Commit;
use crate::config::{Maintenance, Terms, forever};

/// Behind so many bytes of log a sync begins, whatever the time: a second or two of writing.
const SYNC_BYTES: u64 = 1 << 30;
/// After a sync that could not be begun; one that failed poisons the file.
const RETRY: Duration = Duration::from_secs(1);

/// When what is not synced is to be; behind the commit mutex.
pub(super) struct Unsynced {
    due: Option<Instant>,
    /// The shortest wait that `due` has in view: who can wait as long changes nothing.
    within: Duration,
    /// A log of this length is synced whatever the time.
    at_bytes: u64,
    /// Whether a thread waits for it.
    is_attended: bool,
}

impl Unsynced {
    /// Nothing, in a log that ends at `tail`.
    pub fn nothing(tail: u64) -> Self {
        let mut unsynced =
            Self { due: None, within: Duration::MAX, at_bytes: 0, is_attended: false };
        unsynced.is_taken(tail);
        unsynced
    }

    /// What comes behind `tail` is due anew.
    fn is_taken(&mut self, tail: u64) {
        (self.due, self.within) = (None, Duration::MAX);
        self.at_bytes = tail.saturating_add(SYNC_BYTES);
    }

    fn is_due_within(&mut self, wait: Duration) {
        let due = Instant::now() + wait.min(forever());
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.within = self.within.min(wait);
        if wait.is_zero() {
            self.at_bytes = u64::MAX;
        }
    }
}

impl Commit {
    /// Goes on in the file that has taken the place of this one's.
    pub fn move_to(&mut self, fresh: Self) {
        let before = std::mem::replace(self, fresh).unsynced;
        let at_bytes = self.unsynced.at_bytes;
        self.unsynced = Unsynced { at_bytes, ..before };
    }
}

/// The thread, while something is unsynced.
#[derive(Default)]
pub(super) struct SyncTimer {
    thread: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

impl SyncTimer {
    /// Begins the thread; false where there can be none.
    fn begin(&self, engine: &Engine) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        let (engine, stopping) = (Weak::clone(&engine.weak), Arc::clone(&self.stopping));
        let spawned = std::thread::Builder::new()
            .name("synadb-sync".to_owned())
            .spawn(move || run(&engine, &stopping));
        // The one before has ended, or is about to: it has nothing left to do.
        *thread = spawned.ok();
        thread.is_some()
    }

    /// Has it look again when the next sync is due.
    fn wake(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.thread().unpark();
        }
    }

    /// Ends the thread and waits for it; none begins from then on.
    pub fn stop(&self) {
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            self.stopping.store(true, Ordering::Release);
            thread.take()
        };
        if let Some(thread) = thread {
            thread.thread().unpark();
            if thread.join().is_err() {
                // It panicked; closing syncs what it left.
            }
        }
    }
}

fn run(engine: &Weak<Engine>, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Acquire) {
        // Nobody's handle is kept from closing the file while this waits.
        let wait = engine.upgrade().and_then(|engine| engine.sync_what_is_due());
        let Some(wait) = wait else { return };
        std::thread::park_timeout(wait);
    }
}

impl Engine {
    /// Behind a commit that is not synced: sees to it that it will be, as the terms say.
    #[inline]
    pub(super) fn expect_sync(&self, commit: &mut Commit, terms: &Terms) {
        let Some(interval) = terms.sync_interval else { return };
        let is_long = commit.writer.tail >= commit.unsynced.at_bytes;
        if is_long || interval < commit.unsynced.within {
            self.sync_within(commit, if is_long { Duration::ZERO } else { interval });
        }
    }

    /// The same for what was found when the file was opened: its writer may have been killed.
    pub(super) fn expect_sync_of_what_is_left(&self, terms: &Terms) {
        let generation = self.applied();
        if !self.writes || generation.visible() <= generation.synced().max(FRAMES_START) {
            return;
        }
        if let Ok(mut commit) = self.lock_commit() {
            self.expect_sync(&mut commit, terms);
        }
    }

    #[cold]
    fn sync_within(&self, commit: &mut Commit, wait: Duration) {
        if self.maintenance == Maintenance::Off {
            return;
        }
        commit.unsynced.is_due_within(wait);
        if self.maintenance != Maintenance::Thread {
            return;
        }
        if commit.unsynced.is_attended {
            self.sync_timer.wake();
        } else {
            commit.unsynced.is_attended = self.sync_timer.begin(self);
        }
    }

    /// Whether the call that commits is to sync what is due, for no thread does.
    #[inline]
    pub(super) fn is_to_sync(&self, commit: &Commit) -> bool {
        let Unsynced { due, is_attended, .. } = commit.unsynced;
        !is_attended && due.is_some_and(|due| due <= Instant::now())
    }

    /// As `is_to_sync`; the caller does it once it holds no lock.
    pub(super) fn takes_sync(&self, commit: &mut Commit) -> bool {
        let takes = self.is_to_sync(commit);
        if takes {
            let tail = commit.writer.tail;
            commit.unsynced.is_taken(tail);
        }
        takes
    }

    /// Syncs if it is time, and says how long to wait before the next look; nothing, and the thread
    /// ends, where all is synced.
    fn sync_what_is_due(&self) -> Option<Duration> {
        {
            let mut commit = self.lock_commit().ok()?;
            let Some(due) = commit.unsynced.due else {
                commit.unsynced.is_attended = false;
                return None;
            };
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Some(wait);
            }
            // Before the sync begins: what is committed while it is under way is due anew.
            let tail = commit.writer.tail;
            commit.unsynced.is_taken(tail);
        }
        if self.sync_all().is_err() {
            self.lock_commit().ok()?.unsynced.is_due_within(RETRY);
        }
        Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, OpenOptions, Value};

    #[test]
    fn a_long_log_is_synced_though_its_time_has_not_come() {
        let folder = tempfile::tempdir().expect("a directory");
        let hour = Some(Duration::from_secs(3600));
        let options = OpenOptions::new().durability(Durability::Process).sync_interval(hour);
        let database = options.open(folder.path().join("a.db")).expect("opens");
        database.append("k", Value::Int(1)).expect("commits");
        let engine = database.handle().open().expect("open");
        for _ in 0..3 {
            let begins_at = {
                let mut commit = engine.lock_commit().expect("open");
                let tail = commit.writer.tail;
                assert!(engine.applied().synced() < tail, "the hour is not over");
                let due_at = &mut commit.unsynced.at_bytes;
                assert!(*due_at >= SYNC_BYTES && *due_at <= tail + SYNC_BYTES);
                *due_at = tail + 1000;
                tail + 1000
            };
            while engine.lock_commit().expect("open").writer.tail < begins_at {
                database.append("k", Value::Text("of twenty characters".into())).expect("commits");
            }
            let begun = Instant::now();
            while engine.applied().synced() < begins_at {
                assert!(begun.elapsed() < Duration::from_secs(60), "was not synced");
                std::thread::sleep(Duration::from_millis(1));
            }
            database.append("k", Value::Int(2)).expect("commits");
        }
    }
}
