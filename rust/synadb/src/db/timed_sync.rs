//! Syncs what commits have left unsynced: after a time, and behind so many bytes.
//!
//! The thread that does so is there from the first such commit on until nothing waits for a time any
//! more. It is none of the others: a sync takes as long as the medium takes, and the maintenance
//! thread has to be there when somebody wants the write lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use synadb_storage::identity::FRAMES_START;

use super::engine::Commit;
use super::{Engine, Generation};
use crate::config::{Maintenance, Terms, forever};
use crate::error::Result;

/// Behind so many bytes a sync begins, whatever the time: a second or two of writing.
const SYNC_BYTES: u64 = 1 << 30;
/// After a sync that could not be begun; one that failed poisons the file.
const RETRY: Duration = Duration::from_secs(1);
/// How often the thread tries to get the commit mutex from who has it.
const STEP: Duration = Duration::from_millis(1);

/// What is not synced, and when it is to be; behind the commit mutex.
pub(super) struct Unsynced {
    /// Of frames, and of what they vouch for in extents.
    bytes: u64,
    due: Option<Instant>,
    /// The shortest wait that `due` has in view: who can wait as long changes nothing.
    within: Duration,
    /// Whether a thread waits for it.
    is_attended: bool,
}

impl Default for Unsynced {
    fn default() -> Self {
        Self { bytes: 0, due: None, within: Duration::MAX, is_attended: false }
    }
}

impl Unsynced {
    /// So much more was committed.
    pub fn grow(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A sync of all that was committed so far is about to begin: what comes is due anew.
    pub fn is_taken(&mut self) {
        *self = Self { is_attended: self.is_attended, ..Self::default() };
    }

    fn is_due_within(&mut self, wait: Duration) {
        let due = Instant::now() + wait.min(forever());
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.within = self.within.min(wait);
    }
}

impl Commit {
    /// Takes what nobody vouches for, in a file that was opened while nobody else had it, for
    /// unsynced.
    pub fn find_unsynced(&mut self, generation: &Generation) {
        let synced = generation.synced().max(FRAMES_START);
        self.unsynced.grow(generation.visible().saturating_sub(synced));
    }

    /// Goes on in the file that has taken the place of this one's.
    pub fn move_to(&mut self, fresh: Self) {
        self.unsynced = std::mem::replace(self, fresh).unsynced;
    }
}

/// The thread, while something is unsynced.
#[derive(Default)]
pub(super) struct SyncTimer {
    thread: Mutex<Option<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

impl SyncTimer {
    /// Has the thread look when the next sync is due, and begins it unless it is there; false where
    /// there can be none.
    fn attend(&self, engine: &Engine, is_there: bool) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        match thread.take() {
            Some(waiting) if is_there => {
                waiting.thread().unpark();
                *thread = Some(waiting);
                return true;
            }
            // It has nothing left to do but to end.
            Some(ending) => drop(ending.join()),
            None => {}
        }
        let (engine, stopping) = (Weak::clone(&engine.weak), Arc::clone(&self.stopping));
        let spawned = std::thread::Builder::new()
            .name("synadb-sync".to_owned())
            .spawn(move || run(&engine, &stopping));
        *thread = spawned.ok();
        thread.is_some()
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

/// Has the next commit begin another thread where this one panics.
struct Attending<'a>(&'a Weak<Engine>);

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(engine) = self.0.upgrade()
            && let Ok(mut commit) = engine.lock_commit()
        {
            commit.unsynced.is_attended = false;
            commit.unsynced.within = Duration::MAX;
        }
    }
}

fn run(engine: &Weak<Engine>, stopping: &AtomicBool) {
    let _attending = Attending(engine);
    let mut due = None;
    while !stopping.load(Ordering::Acquire) {
        // Nobody's handle is kept from closing the file while this waits.
        due = engine.upgrade().and_then(|engine| engine.sync_what_is_due(due));
        let Some(due) = due else { return };
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
    }
}

impl Engine {
    /// Behind a commit that is not synced: sees to it that it will be, as the terms say.
    #[inline]
    pub(super) fn expect_sync(&self, commit: &mut Commit, terms: &Terms) {
        let Some(interval) = terms.sync_interval else { return };
        if self.maintenance == Maintenance::Off {
            return;
        }
        let is_much = commit.unsynced.bytes >= SYNC_BYTES;
        let wait = if is_much { Duration::ZERO } else { interval };
        if wait < commit.unsynced.within {
            self.sync_within(commit, wait);
        }
    }

    /// The same for what was found when the file was opened: its writer was killed.
    pub(super) fn expect_sync_of_what_is_left(&self, terms: &Terms) {
        let Some(interval) = terms.sync_interval else { return };
        if self.maintenance == Maintenance::Off {
            return;
        }
        if let Ok(mut commit) = self.lock_commit()
            && commit.unsynced.bytes > 0
        {
            self.sync_within(&mut commit, interval);
        }
    }

    #[cold]
    fn sync_within(&self, commit: &mut Commit, wait: Duration) {
        let unsynced = &mut commit.unsynced;
        unsynced.is_due_within(wait);
        if self.maintenance != Maintenance::Thread {
            return;
        }
        unsynced.is_attended = self.sync_timer.attend(self, unsynced.is_attended);
        if !unsynced.is_attended {
            // The next commit tries again, and one behind the time syncs by itself.
            unsynced.within = Duration::MAX;
        }
    }

    /// Whether the call that commits is to sync what is due, for no thread does.
    #[inline]
    pub(super) fn is_to_sync(&self, commit: &Commit) -> bool {
        let Unsynced { due, is_attended, .. } = commit.unsynced;
        !is_attended && due.is_some_and(|due| due <= Instant::now())
    }

    /// As `sync_to`, for a commit that has taken all that is unsynced upon itself.
    pub(super) fn sync_taken(&self, generation: &Generation, end: u64) -> Result<()> {
        let synced = self.sync_to(generation, end);
        if synced.is_err()
            && let Ok(mut commit) = self.lock_commit()
            && self.maintenance != Maintenance::Off
        {
            self.sync_within(&mut commit, RETRY);
        }
        synced
    }

    /// Bytes that were committed since the last sync that a commit or the time has brought.
    #[cfg(test)]
    pub fn unsynced_bytes(&self) -> u64 {
        self.lock_commit().expect("open").unsynced.bytes
    }

    /// Syncs what is due, and says when the next time is; none, and the thread ends, where all is
    /// synced. The thread has had `known` in view.
    fn sync_what_is_due(&self, mut known: Option<Instant>) -> Option<Instant> {
        loop {
            {
                let mut commit = self.commit_mutex_or_sync(known)?;
                let Some(due) = commit.unsynced.due else {
                    commit.unsynced.is_attended = false;
                    return None;
                };
                if due > Instant::now() {
                    return Some(due);
                }
                // Before the sync begins: what is committed while it is under way is due anew.
                commit.unsynced.is_taken();
            }
            if self.sync_all().is_err() {
                self.commit_mutex_or_sync(None)?.unsynced.is_due_within(RETRY);
            }
            known = None;
        }
    }

    /// The commit mutex; none where the file was closed or poisoned. Who has it may wait for another
    /// process for minutes: what is visible is synced meanwhile, from `known` on or soon.
    fn commit_mutex_or_sync(&self, known: Option<Instant>) -> Option<MutexGuard<'_, Commit>> {
        let soon = Instant::now() + RETRY;
        let mut due = known.map_or(soon, |known| known.min(soon));
        loop {
            match self.commit.try_lock() {
                Ok(commit) if commit.closed || self.check_poison().is_err() => return None,
                Ok(commit) => return Some(commit),
                Err(TryLockError::Poisoned(_)) => return None,
                Err(TryLockError::WouldBlock) => {}
            }
            if due <= Instant::now() {
                if self.sync_all().is_err() {
                    // Once more when the mutex is free.
                }
                due = Instant::now() + RETRY;
            }
            std::thread::sleep(STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread::ThreadId;

    use super::*;
    use crate::{Durability, OpenOptions, SynaDB, Value};

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    fn open(folder: &Path, maintenance: Maintenance) -> SynaDB {
        let options = OpenOptions::new().durability(Durability::Process).sync_interval(HOUR);
        options.maintenance(maintenance).open(folder.join("a.db")).expect("opens")
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_much_is_synced_though_its_time_has_not_come() {
        for maintenance in [Maintenance::Thread, Maintenance::Inline] {
            let folder = tempfile::tempdir().expect("a directory");
            let database = open(folder.path(), maintenance);
            let engine = database.handle().open().expect("open");
            for n in 0..3 {
                database.append("k", Value::Int(n)).expect("commits");
                assert!(engine.applied().synced() < engine.applied().visible(), "an hour to go");
                engine.lock_commit().expect("open").unsynced.bytes = SYNC_BYTES;
                database.append("k", Value::Int(n)).expect("commits");
                let end = engine.applied().visible();
                wait_until("for the sync", || engine.applied().synced() >= end);
                assert_eq!(engine.unsynced_bytes(), 0);
            }
        }
    }

    #[test]
    fn a_commit_that_is_synced_leaves_nothing_to_wait_for() {
        let folder = tempfile::tempdir().expect("a directory");
        let database = open(folder.path(), Maintenance::Thread);
        let synced = SynaDB::new(folder.path().join("a.db")).expect("opens");
        let engine = database.handle().open().expect("open");
        let is_due = || engine.lock_commit().expect("open").unsynced.due.is_some();
        database.append("k", Value::Int(1)).expect("commits");
        assert!(is_due());
        synced.append("k", Value::Int(2)).expect("commits");
        assert!(!is_due());
        synced.append("k", Value::Bytes(vec![0; 2 << 20])).expect("commits, in two pieces");
        assert!(!is_due());
    }

    #[test]
    fn one_thread_attends_to_it_whatever_file_takes_the_place() {
        let folder = tempfile::tempdir().expect("a directory");
        let database = open(folder.path(), Maintenance::Thread);
        let engine = database.handle().open().expect("open");
        let thread = || -> Option<ThreadId> {
            let thread = engine.sync_timer.thread.lock().expect("no panic");
            thread.as_ref().map(|thread| thread.thread().id())
        };
        assert_eq!(thread(), None);
        database.append("k", Value::Int(1)).expect("commits");
        let first = thread();
        assert!(first.is_some());
        for n in 0..5 {
            database.compact().expect("compacts");
            database.append("k", Value::Int(n)).expect("commits");
            assert_eq!(thread(), first);
        }
    }

    #[test]
    fn a_sync_does_not_wait_for_who_holds_the_commits_up() {
        let folder = tempfile::tempdir().expect("a directory");
        let database = open(folder.path(), Maintenance::Thread);
        let engine = database.handle().open().expect("open");
        database.append("k", Value::Int(1)).expect("commits");
        let mut held = engine.lock_commit().expect("open");
        let end = engine.applied().visible();
        engine.sync_within(&mut held, Duration::from_millis(10));
        // Whether or not the thread has that time in view by now.
        wait_until("for the sync", || engine.applied().synced() >= end);
        drop(held);
    }
}
