//! A number that grows record by record, and is read as of a publish.
//!
//! One writer, any number of readers, nobody waits. The protocol is checked by loom, with
//! `make loom`, over all orders in which two threads' loads and stores can take place.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// A state that changes with records and is seen with commits.
#[derive(Debug)]
pub(super) struct Published {
    state: AtomicU64,
    /// Position of the first record that was added behind what was visible then, and the state
    /// before it: until that record is visible, nothing that was added since is.
    since: AtomicU64,
    before: AtomicU64,
}

impl Published {
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { state: zero(), since: zero(), before: zero() }
    }

    /// The state behind all records; for the writer.
    pub fn newest(&self) -> u64 {
        self.state.load(Ordering::Relaxed)
    }

    /// Says that a record at `position` follows, all before `visible` being published.
    pub fn begin(&self, position: u64, visible: u64) {
        if self.since.load(Ordering::Relaxed) < visible {
            self.before.store(self.newest(), Ordering::Relaxed);
            self.since.store(position, Ordering::Release);
        }
    }

    /// Sets the state behind that record; what it counts is in place.
    pub fn end(&self, state: u64) {
        self.state.store(state, Ordering::Release);
    }

    /// The state behind the commits before `visible`, of which the reader knows that they are
    /// published.
    ///
    /// Where the writer has published more meanwhile, that may be included: all of it, or nothing.
    pub fn at(&self, visible: u64) -> u64 {
        loop {
            let state = self.state.load(Ordering::Acquire);
            let since = self.since.load(Ordering::Acquire);
            let before = self.before.load(Ordering::Acquire);
            if state == self.state.load(Ordering::Acquire) {
                return if since >= visible { before } else { state };
            }
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::thread;

    use super::Published;

    /// Records of a commit.
    const RECORDS: u64 = 2;
    const COMMITS: u64 = 2;

    #[test]
    fn loom_a_reader_sees_whole_commits_and_none_less_than_were_published() {
        loom::model(|| {
            let states = Arc::new((Published::new(), AtomicU64::new(1)));
            let writes = Arc::clone(&states);
            let writer = thread::spawn(move || {
                let (published, visible) = &*writes;
                for commit in 0..COMMITS {
                    let first = 1 + commit * RECORDS;
                    for position in first..first + RECORDS {
                        published.begin(position, first);
                        published.end(published.newest() + 1);
                    }
                    visible.store(first + RECORDS, Ordering::Release);
                }
            });
            let (published, visible) = &*states;
            let seen = visible.load(Ordering::Acquire);
            let state = published.at(seen);
            assert_eq!(state % RECORDS, 0, "a part of a commit");
            assert!(state + 1 >= seen, "{state} records at position {seen}");
            writer.join().expect("no panic");
            assert_eq!(published.at(visible.load(Ordering::Acquire)), RECORDS * COMMITS);
        });
    }
}
