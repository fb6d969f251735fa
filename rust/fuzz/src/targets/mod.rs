//! What is fuzzed.

mod checkpoint;
mod content;
mod log;
mod model;
mod value;

use std::path::Path;

use synadb::{Durability, Maintenance, OpenOptions};

pub use content::{Content, content};

/// A function over any bytes.
pub struct Target {
    /// Its name, and that of the folder of its inputs.
    pub name: &'static str,
    /// Runs an input in a folder of its own; the answer says which path it took.
    pub run: fn(&[u8], &Path) -> String,
    /// Bytes at the front of an input, behind its options, that mutation leaves alone.
    pub fixed: fn(&[u8]) -> usize,
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target { name: "log", run: log::run, fixed: |_| 0 },
    Target { name: "value", run: value::run, fixed: |_| 0 },
    Target { name: "checkpoint", run: checkpoint::run, fixed: checkpoint::fixed },
    Target { name: "model", run: model::run, fixed: |_| 0 },
];

/// Options for opening without waits for a medium and without threads.
#[must_use]
pub fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process).maintenance(Maintenance::Off)
}

/// What kind of error it is: its text without numbers and paths.
fn class(error: &synadb::Error) -> String {
    let text = error.to_string();
    let words = text.split_whitespace().filter(|word| !word.contains('/'));
    words.filter(|word| word.chars().all(|c| c.is_ascii_alphabetic())).collect()
}
