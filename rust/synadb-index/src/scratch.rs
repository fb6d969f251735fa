//! Memory that searches reuse.

use std::ops::Range;

use crate::flat::PackedScratch;
use crate::hnsw::search::HnswScratch;

/// Memory that searches reuse, so that a warm search allocates nothing. One for each thread.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Fast keys of one block of rows.
    pub(crate) keys: Vec<f32>,
    /// Inverse norms of one block of rows.
    pub(crate) inverse_norms: Vec<f32>,
    /// Runs of rows that were prefetched together.
    pub(crate) runs: Vec<Range<u32>>,
    /// Memory of the inverted file.
    pub(crate) ivf: crate::ivf::IvfScratch,
    /// Memory of packed scans.
    pub(crate) packed: PackedScratch,
    /// Memory of the look into the buckets of a cascade.
    pub(crate) cascade: crate::cascade::CascadeScratch,
    /// State of a walk through a graph.
    pub(crate) hnsw: HnswScratch,
}

impl Scratch {
    /// Makes an empty scratch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
