//! The crew of a build in stages, with the progress of all of them.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Mutex;

use crate::job::{Crew, Meter};
use crate::{IndexError, Job};

/// The threads of one build, and how far it is.
pub(super) struct Workers<'a> {
    crew: Crew<'a>,
    meter: RefCell<Meter<'a>>,
    /// Progress at the beginning and at the end of the stage that runs.
    stage: (f32, f32),
}

impl<'a> Workers<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Self {
        Self { crew: job.crew(), meter: RefCell::new(job.meter()), stage: (0.0, 0.0) }
    }

    /// Begins the next stage, after which the share `end` of the build is done.
    pub(super) fn stage(&mut self, end: f32) {
        self.stage = (self.stage.1, end);
    }

    /// Tells that the stage is done, where not all of its work was needed.
    pub(super) fn skip(&self) {
        self.meter.borrow_mut().tell(self.stage.1);
    }

    /// As [`Workers::map`] with a place of so many numbers for each item, that `work` fills.
    ///
    /// # Errors
    ///
    /// [`IndexError::Cancelled`] when the build is to stop.
    pub(super) fn fill<S, T: Send>(
        &self,
        (out, width): (&mut [T], usize),
        grain: usize,
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, Range<usize>, &mut [T]) + Sync,
    ) -> Result<(), IndexError> {
        let count = out.len() / width.max(1);
        assert_eq!(count * width, out.len(), "every item has a place");
        let places: Vec<_> = out.chunks_mut((grain * width).max(1)).map(Mutex::new).collect();
        self.map(count, grain, scratch, |scratch, range| {
            let mut place = places[range.start / grain].lock().expect("no worker panicked");
            work(scratch, range, &mut place);
        })?;
        Ok(())
    }

    /// As [`Crew::map`], with the progress within the stage.
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
        let (begin, end) = self.stage;
        let tell = |share| self.meter.borrow_mut().tell(begin + share * (end - begin));
        self.crew.map(count, grain, tell, scratch, work)
    }
}
