//! What a long build reports, and how it is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{IndexError, Query, Scratch, TopK};

/// Progress is passed on this often at most, as a fraction of the whole.
const PROGRESS_STEP: f32 = 0.01;
/// Pieces that a thread gets at least, so that none waits long for the last.
const PIECES_A_THREAD: usize = 4;
/// Queries that a thread takes at once, at most.
const PIECE_QUERIES: usize = 64;

/// The conditions of a build: its threads, where it reports, and the sign to give up.
///
/// A build asks [`Job::check`] a few hundred times a second and leaves nothing behind when it is
/// told to stop.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Threads that the build uses; zero counts as one.
    pub threads: usize,
    /// Set by another thread to end the build.
    pub cancel: Option<&'a AtomicBool>,
    /// Called with the share of the work done, 0.0 to 1.0, never falling, by the thread that
    /// called the build.
    pub progress: Option<&'a dyn Fn(f32)>,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Job").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Default for Job<'_> {
    fn default() -> Self {
        Self { threads: 1, cancel: None, progress: None }
    }
}

impl Job<'_> {
    /// A job on so many threads that nobody watches.
    #[must_use]
    pub fn with_threads(threads: usize) -> Self {
        Self { threads, ..Self::default() }
    }

    /// Ends the build when that is wished.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] once the sign was given.
    pub fn check(&self) -> Result<(), IndexError> {
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => Err(IndexError::Cancelled),
            _ => Ok(()),
        }
    }

    pub(crate) fn crew(&self) -> Crew<'_> {
        Crew { threads: self.threads.max(1), cancel: self.cancel }
    }

    pub(crate) fn meter(&self) -> Meter<'_> {
        Meter { progress: self.progress, told: 0.0 }
    }
}

/// The part of a job that worker threads see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crew<'a> {
    threads: usize,
    cancel: Option<&'a AtomicBool>,
}

impl Crew<'_> {
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        Job { cancel: self.cancel, ..Job::default() }.check()
    }

    /// Items of a piece, so that every thread gets a few pieces of at most `most` items.
    pub(crate) fn piece_len(&self, items: usize, most: usize) -> usize {
        items.div_ceil(PIECES_A_THREAD * self.threads).clamp(1, most)
    }

    /// Searches for every query, with scratch space for each thread's piece of them.
    ///
    /// # Panics
    ///
    /// Panics when there are not as many results as queries.
    pub(crate) fn each_query(
        &self,
        queries: &[Query],
        outs: &mut [TopK],
        search: impl Fn(&Query, &mut Scratch, &mut TopK) -> Result<(), IndexError> + Sync,
    ) -> Result<(), IndexError> {
        assert_eq!(queries.len(), outs.len(), "every query has its own results");
        let len = self.piece_len(queries.len(), PIECE_QUERIES);
        let pieces = queries.chunks(len).zip(outs.chunks_mut(len)).collect();
        self.each(pieces, |(queries, outs): (&[Query], &mut [TopK])| {
            let mut scratch = Scratch::new();
            let mut pairs = queries.iter().zip(outs);
            pairs.try_for_each(|(query, out)| search(query, &mut scratch, out))
        })
    }

    /// Runs `work` on every piece, each once, on as many threads as the job has. The pieces do
    /// not depend on the number of threads, so neither does the result.
    pub(crate) fn each<T: Send>(
        &self,
        pieces: Vec<T>,
        work: impl Fn(T) -> Result<(), IndexError> + Sync,
    ) -> Result<(), IndexError> {
        let threads = self.threads.min(pieces.len());
        if threads <= 1 {
            return pieces.into_iter().try_for_each(|piece| {
                self.check()?;
                work(piece)
            });
        }
        let queue = std::sync::Mutex::new(pieces.into_iter());
        let run = || {
            loop {
                self.check()?;
                let next = queue.lock().expect("no thread panics while it takes a piece").next();
                let Some(piece) = next else {
                    return Ok(());
                };
                work(piece)?;
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
            let mut outcome = run();
            for other in others {
                match other.join() {
                    Ok(found) => outcome = outcome.and(found),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            outcome
        })
    }
}

/// Reports progress in steps.
pub(crate) struct Meter<'a> {
    progress: Option<&'a dyn Fn(f32)>,
    told: f32,
}

impl Meter<'_> {
    pub(crate) fn tell(&mut self, share: f32) {
        let share = share.clamp(self.told, 1.0);
        if let Some(progress) = self.progress
            && (share - self.told >= PROGRESS_STEP || (share >= 1.0 && self.told < 1.0))
        {
            progress(share);
            self.told = share;
        }
    }
}
