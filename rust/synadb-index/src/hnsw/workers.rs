//! Work divided among scoped threads, with progress and cancellation.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{IndexError, Job};

/// Progress is passed on when it has grown by this share of the whole.
const PROGRESS_STEP: f32 = 0.01;

/// The threads of one build, and how far it is.
pub(super) struct Workers<'a> {
    job: Job<'a>,
    /// Progress at the beginning and at the end of the stage that runs.
    stage: (f32, f32),
    /// Progress as it was told last: it never goes back.
    told: Cell<f32>,
}

impl<'a> Workers<'a> {
    pub(super) fn new(job: Job<'a>) -> Self {
        Self { job, stage: (0.0, 0.0), told: Cell::new(0.0) }
    }

    /// Begins the next stage, after which the share `end` of the build is done.
    pub(super) fn stage(&mut self, end: f32) {
        self.stage = (self.stage.1, end);
    }

    /// Tells progress within the stage.
    fn tell(&self, share: f32) {
        let (begin, end) = self.stage;
        let (done, told) = ((begin + share * (end - begin)).min(1.0), self.told.get());
        if let Some(progress) = self.job.progress
            && (done - told >= PROGRESS_STEP || (done >= 1.0 && told < 1.0))
        {
            self.told.set(done);
            progress(done);
        }
    }

    /// Calls `work` on pieces of `0..count` of `grain` items, in any order and on any thread, and
    /// returns what it made in the order of the pieces. Each thread has a scratch of its own;
    /// this one tells the progress.
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
        self.job.check()?;
        let next = AtomicUsize::new(0);
        let made = Mutex::new(Vec::with_capacity(count.div_ceil(grain)));
        let cancel = self.job.cancel;
        let run = |tell: &dyn Fn(f32)| {
            let mut scratch = scratch();
            loop {
                let start = next.fetch_add(grain, Ordering::Relaxed);
                let stopped = Job { cancel, ..Job::default() }.check().is_err();
                if start >= count || stopped {
                    return;
                }
                tell(start as f32 / count as f32);
                let piece = work(&mut scratch, start..count.min(start + grain));
                made.lock().expect("no worker panicked").push((start, piece));
            }
        };
        let threads = self.job.threads.clamp(1, count.div_ceil(grain).max(1));
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| run(&|_| ()));
            }
            run(&|share| self.tell(share));
        });
        self.tell(1.0);
        self.job.check()?;
        let mut made = made.into_inner().expect("no worker panicked");
        made.sort_unstable_by_key(|&(start, _)| start);
        Ok(made.into_iter().map(|(_, piece)| piece).collect())
    }
}
