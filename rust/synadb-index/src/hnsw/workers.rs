//! Work divided among scoped threads, with progress and cancellation.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::IndexError;

/// How a build runs: threads, progress, cancellation.
#[derive(Clone, Copy)]
pub struct BuildControl<'a> {
    /// Threads to use; 0 counts as 1. One thread and one seed give the same bytes every time.
    pub threads: usize,
    /// Called now and then, from any thread, with the share that is done, from 0 to 1; false
    /// stops the build.
    pub progress: &'a (dyn Fn(f64) -> bool + Sync),
}

impl Default for BuildControl<'_> {
    fn default() -> Self {
        Self { threads: 1, progress: &|_| true }
    }
}

impl std::fmt::Debug for BuildControl<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BuildControl").field("threads", &self.threads).finish()
    }
}

/// The threads of one build, and how far it is.
pub(super) struct Workers<'a> {
    control: BuildControl<'a>,
    cancelled: AtomicBool,
    /// Progress at the beginning and at the end of the stage that runs.
    stage: (f64, f64),
    /// Progress as it was reported last: it never goes back.
    reported: Mutex<f64>,
}

impl<'a> Workers<'a> {
    pub(super) fn new(control: BuildControl<'a>) -> Self {
        Self {
            control,
            cancelled: AtomicBool::new(false),
            stage: (0.0, 0.0),
            reported: Mutex::new(0.0),
        }
    }

    /// Begins the next stage, after which the share `end` of the build is done.
    pub(super) fn stage(&mut self, end: f64) {
        self.stage = (self.stage.1, end);
    }

    /// Reports progress within the stage.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the build is to stop.
    fn report(&self, share: f64) -> Result<(), IndexError> {
        let (begin, end) = self.stage;
        let mut reported = self.reported.lock().expect("the progress callback did not panic");
        *reported = reported.max(begin + share * (end - begin));
        if !(self.control.progress)(*reported) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        if self.cancelled.load(Ordering::Relaxed) { Err(IndexError::Cancelled) } else { Ok(()) }
    }

    /// Calls `work` on pieces of `0..count` of `grain` items, in any order and on any thread, and
    /// returns what it made in the order of the pieces. Each thread has a scratch of its own.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the build is to stop.
    pub(super) fn map<S, T: Send>(
        &self,
        count: usize,
        grain: usize,
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, Range<usize>) -> T + Sync,
    ) -> Result<Vec<T>, IndexError> {
        let next = AtomicUsize::new(0);
        let made = Mutex::new(Vec::with_capacity(count.div_ceil(grain)));
        let run = || {
            let mut scratch = scratch();
            loop {
                let start = next.fetch_add(grain, Ordering::Relaxed);
                if start >= count || self.report(start as f64 / count as f64).is_err() {
                    return;
                }
                let piece = work(&mut scratch, start..count.min(start + grain));
                made.lock().expect("no worker panicked").push((start, piece));
            }
        };
        let threads = self.control.threads.clamp(1, count.div_ceil(grain).max(1));
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(run);
            }
            run();
        });
        self.report(1.0)?;
        let mut made = made.into_inner().expect("no worker panicked");
        made.sort_unstable_by_key(|&(start, _)| start);
        Ok(made.into_iter().map(|(_, piece)| piece).collect())
    }
}
