//! A medium in memory that power cuts, kills and failures can be tried on; for tests.
//!
//! A [`Medium`] holds files and a log of everything that was done to them. Each
//! [`SimulatedDirectory`](crate::directory::SimulatedDirectory) over it is one process: it can be
//! killed, and its operations can be made to fail. A [`Walk`] along the log makes, for any point
//! of it, media as a power cut there could leave them.

mod crash;
mod fault;
mod image;
mod medium;
mod random;
pub mod seeded;
#[cfg(test)]
mod tests;

pub use crash::Walk;
pub use fault::{Failure, Fault, Operation, Process};
pub use medium::Medium;
pub use random::{Random, mix};

pub(crate) use fault::Verdict;
pub(crate) use image::Image;
pub(crate) use medium::{Event, Held, State};

/// Bytes that reach the medium together or not at all, unless a word of them is torn off.
pub const PAGE_BYTES: usize = 4096;
