//! What a long build reports, and how it is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::IndexError;

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
}
