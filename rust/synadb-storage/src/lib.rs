//! The log of synadb: identity, frames, records, extents, regions, locks and recovery.
//!
//! This crate knows bytes in a file and nothing of keys' meaning, vectors or documents. The layout
//! is specified in `docs/format.md`.

pub mod checksum;
pub mod control;
pub mod directory;
mod error;
pub mod extent;
pub mod fork;
pub mod frame;
pub mod identity;
pub mod lock;
pub mod log;
pub mod priority;
pub mod record;
pub mod region;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod varint;

pub use error::{Result, StorageError};
