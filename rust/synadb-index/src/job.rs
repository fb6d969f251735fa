//! What a long build reports, and how it is told to stop.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use crate::{IndexError, Query, Scratch, TopK};

/// Progress is passed on this often at most, as a fraction of the whole.
const PROGRESS_STEP: f32 = 0.01;
/// Pieces that a thread gets at least, so that none waits long for the last.
const PIECES_A_THREAD: usize = 4;
/// Queries that a thread takes at once, at most.
const PIECE_QUERIES: usize = 64;

/// A thread that rests works on for so long at least, and then sleeps for so long.
const STRETCH: Duration = Duration::from_millis(1);
const REST: Duration = Duration::from_micros(50);

/// The conditions of a build: its threads, where it reports, and the sign to give up.
///
/// A build asks [`Job::check`] every few milliseconds, of long vectors every few tens, and leaves
/// nothing behind when it is told to stop.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Threads that the build uses, zero counting as one: of more than there are processors as
    /// many as these, and fewer where no more can be had.
    pub threads: usize,
    /// Set by another thread to end the build.
    pub cancel: Option<&'a AtomicBool>,
    /// Called with the share of the work done, 0.0 to 1.0, never falling, by the thread that
    /// called the build.
    pub progress: Option<&'a dyn Fn(f32)>,
    /// Whether its threads stop for a moment between pieces of the work, after a millisecond or
    /// more, for others that wait for a processor: a kernel moves those to one that has nothing to
    /// do at once, and to one that is busy, with however low a priority, only when it next spreads
    /// the work.
    pub rests: bool,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Job").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Default for Job<'_> {
    fn default() -> Self {
        Self { threads: 1, cancel: None, progress: None, rests: false }
    }
}

impl<'a> Job<'a> {
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

    pub(crate) fn crew(&self) -> Crew<'a> {
        let all = || thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if self.threads > 1 { self.threads.min(all()) } else { 1 };
        Crew { threads, cancel: self.cancel, rests: self.rests, builder: Builder::new }
    }

    pub(crate) fn meter(&self) -> Meter<'_> {
        Meter { progress: self.progress, told: 0.0 }
    }

    pub(crate) fn rests(&self) -> Rests {
        Rests(self.rests.then(Instant::now))
    }
}

/// The part of a job that worker threads see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crew<'a> {
    threads: usize,
    cancel: Option<&'a AtomicBool>,
    rests: bool,
    /// What makes its threads.
    builder: fn() -> Builder,
}

impl Crew<'_> {
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        Job { cancel: self.cancel, ..Job::default() }.check()
    }

    pub(crate) fn rests(&self) -> Rests {
        Job { rests: self.rests, ..Job::default() }.rests()
    }

    /// Items of a piece, so that every thread gets a few pieces of at most `most` items.
    pub(crate) fn piece_len(&self, items: usize, most: usize) -> usize {
        items.div_ceil(PIECES_A_THREAD * self.threads).clamp(1, most)
    }

    /// Searches for every query, with scratch space for each thread.
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
        self.each_with(pieces, Scratch::new, |scratch, (queries, outs): (&[Query], &mut [TopK])| {
            let mut pairs = queries.iter().zip(outs);
            pairs.try_for_each(|(query, out)| search(query, scratch, out))
        })
    }

    /// Runs `work` on every piece, each once, on as many threads as the job has. The pieces do
    /// not depend on the number of threads, so neither does the result.
    pub(crate) fn each<T: Send>(
        &self,
        pieces: Vec<T>,
        work: impl Fn(T) -> Result<(), IndexError> + Sync,
    ) -> Result<(), IndexError> {
        self.each_with(pieces, || (), |(), piece| work(piece))
    }

    /// As [`Crew::each`], with a scratch of its own for each thread.
    fn each_with<S, T: Send>(
        &self,
        pieces: Vec<T>,
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, T) -> Result<(), IndexError> + Sync,
    ) -> Result<(), IndexError> {
        let threads = self.threads.min(pieces.len());
        let queue = Mutex::new(pieces.into_iter());
        let run = || {
            let (mut scratch, mut rests) = (scratch(), self.rests());
            loop {
                self.check()?;
                let next = queue.lock().expect("no thread panics while it takes a piece").next();
                let Some(piece) = next else {
                    return Ok(());
                };
                work(&mut scratch, piece)?;
                rests.take();
            }
        };
        self.together(threads, run, run).into_iter().collect()
    }

    /// Calls `work` on pieces of `0..count` of `grain` items, in any order and on any thread, and
    /// returns what it made in the order of the pieces. Each thread has a scratch of its own; this
    /// one tells the share of the pieces that were begun.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the build is to stop.
    pub(crate) fn map<S, T: Send>(
        &self,
        count: usize,
        grain: usize,
        tell: impl Fn(f32),
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, Range<usize>) -> T + Sync,
    ) -> Result<Vec<T>, IndexError> {
        self.check()?;
        let next = AtomicUsize::new(0);
        let made = Mutex::new(Vec::with_capacity(count.div_ceil(grain)));
        let run = |tell: &dyn Fn(f32)| {
            let (mut scratch, mut rests) = (scratch(), self.rests());
            loop {
                let start = next.fetch_add(grain, Ordering::Relaxed);
                if start >= count || self.check().is_err() {
                    return;
                }
                tell(start as f32 / count as f32);
                let piece = work(&mut scratch, start..count.min(start + grain));
                made.lock().expect("no worker panicked").push((start, piece));
                rests.take();
            }
        };
        let threads = self.threads.min(count.div_ceil(grain));
        self.together(threads, || run(&tell), || run(&|_| ()));
        tell(1.0);
        self.check()?;
        let mut made = made.into_inner().expect("no worker panicked");
        made.sort_unstable_by_key(|&(start, _)| start);
        Ok(made.into_iter().map(|(_, piece)| piece).collect())
    }

    /// Runs `own` on this thread and `other` on the rest of so many, or of as many as can be had:
    /// all of them take from one pile, so that the others do what is left.
    fn together<T: Send>(
        &self,
        threads: usize,
        own: impl FnOnce() -> T,
        other: impl Fn() -> T + Sync,
    ) -> Vec<T> {
        thread::scope(|scope| {
            let spawn = |_| (self.builder)().spawn_scoped(scope, &other).ok();
            let others: Vec<_> = (1..threads).map_while(spawn).collect();
            let mut made = vec![own()];
            for other in others {
                made.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            made
        })
    }
}

/// When a thread of a job last rested, where it does.
pub(crate) struct Rests(Option<Instant>);

impl Rests {
    /// Rests where it is time to.
    pub(crate) fn take(&mut self) {
        #[cfg(test)]
        ASKED.set(ASKED.get() + u32::from(self.0.is_some()));
        if let Some(since) = &mut self.0
            && since.elapsed() >= STRETCH
        {
            thread::sleep(REST);
            *since = Instant::now();
            #[cfg(test)]
            TAKEN.set(TAKEN.get() + 1);
        }
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

#[cfg(test)]
use tests::{ASKED, TAKEN};

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Rests that this thread took, and how often it could have.
        pub(crate) static TAKEN: Cell<u32> = const { Cell::new(0) };
        pub(crate) static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    /// A stack that no address space has room for: the thread can't be had.
    fn impossible() -> Builder {
        Builder::new().stack_size(1 << 60)
    }

    fn crews() -> [Crew<'static>; 3] {
        let crew = |threads, builder| Crew { threads, cancel: None, rests: true, builder };
        [crew(1, Builder::new), crew(4, Builder::new), crew(4, impossible)]
    }

    #[test]
    fn work_goes_on_with_the_threads_that_can_be_had() -> Result<(), IndexError> {
        assert!(impossible().spawn(|| ()).is_err(), "such a thread can be had");
        for crew in crews() {
            let double = |_: &mut (), range: Range<usize>| range.map(|at| 2 * at).sum::<usize>();
            let made = crew.map(10, 3, |_| (), || (), double)?;
            assert_eq!(made, [6, 24, 42, 18]);
            let mut slots = [0; 100];
            crew.each(slots.iter_mut().enumerate().collect(), |(at, slot)| {
                *slot = at;
                Ok(())
            })?;
            assert!(slots.iter().enumerate().all(|(at, &slot)| at == slot));
            assert!(crew.map(0, 3, |_| (), || (), double)?.is_empty());
        }
        Ok(())
    }

    #[test]
    fn the_first_error_is_the_outcome() {
        let problem = IndexError::Section { name: "a piece", problem: "is damaged" };
        for crew in crews() {
            let check = |at| if at == 30 { Err(problem.clone()) } else { Ok(()) };
            assert_eq!(crew.each((0..100).collect(), check), Err(problem.clone()));
        }
    }

    /// Works for longer than a thread goes on without a rest.
    fn work() {
        let begun = Instant::now();
        while begun.elapsed() < 2 * STRETCH {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_job_rests_between_pieces_where_it_is_to() -> Result<(), IndexError> {
        for (rests, wanted) in [(true, 3), (false, 0)] {
            let job = Job { rests, ..Job::default() };
            let taken = || TAKEN.replace(0);
            taken();
            job.crew().each(vec![(); 3], |()| {
                work();
                Ok(())
            })?;
            assert_eq!(taken(), wanted);
            job.crew().map(3, 1, |_| (), || (), |(), _| work())?;
            assert_eq!(taken(), wanted);
        }
        let mut rests = Job { rests: true, ..Job::default() }.rests();
        rests.0 = Some(Instant::now() + STRETCH);
        rests.take();
        assert_eq!(TAKEN.get(), 0, "it has not worked for long");
        Ok(())
    }

    #[test]
    fn there_are_no_more_threads_than_processors() {
        let all = thread::available_parallelism().map_or(1, NonZero::get);
        assert_eq!(Job::with_threads(usize::MAX).crew().threads, all);
        assert_eq!(Job::with_threads(0).crew().threads, 1);
    }
}
