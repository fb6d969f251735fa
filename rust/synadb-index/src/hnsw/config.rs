//! Parameters of the graph.

use serde::{Deserialize, Serialize};

/// Largest degree of a node: links of one block of packed codes.
pub(crate) const DEGREE_MAX: usize = 128;
/// The degree is a multiple of this: neighbours whose codes are estimated at once.
pub(super) const DEGREE_ALIGN: usize = 32;

/// Parameters of the HNSW index.
///
/// The names are those of HNSW (Malkov and Yashunin 2018). The graph has one layer only, as
/// DiskANN's and SymphonyQG's, so they mean here. With serde those that are left out have their
/// defaults: what the original wrote is read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub struct HnswConfig {
    /// Links that a node chooses by itself at least, before those that lead back to it: a node
    /// of HNSW has as many on the upper layers. Here nothing but the default of `m_max` follows.
    pub m: usize,
    /// Links of every node: the degree, rounded up to a multiple of 32 and at most 128. In HNSW
    /// it is the largest degree on the lowest layer, twice `m`.
    pub m_max: usize,
    /// Effort of the build: half of it is the number of nearest rows that a node's links are
    /// chosen from (between the degree and 512). HNSW searches with a queue of this length.
    pub ef_construction: usize,
    /// Default length of the queue of a search: recall and time grow with it. At least `k`
    /// in use; [`HnswIndex::tune`](crate::HnswIndex::tune) finds it for a recall. A build
    /// searches for a sample of its rows with it (10 to 1,024), and makes entry points of groups that
    /// are missed.
    pub ef_search: usize,
    /// Level multiplier of HNSW, `1 / ln(m)`. There are no levels: it is of no effect, not saved,
    /// and makes no two configurations differ.
    pub ml: f64,
    /// Seed of the sampled leaders, entry points, and rows that a build searches for.
    pub seed: u64,
    /// Whether nodes hold codes: a byte a dimension, and one bit a dimension of each neighbour
    /// above 192 dimensions. Without, they hold their points in single precision: a walk takes several
    /// times as long, and the graph as much memory as the vectors once more. Up to 48 dimensions they
    /// do, whatever this says.
    pub quantized: bool,
}

impl Default for HnswConfig {
    fn default() -> Self {
        Self {
            m: 16,
            m_max: 32,
            ef_construction: 200,
            ef_search: 100,
            ml: level_multiplier(16),
            seed: 0x5EED,
            quantized: true,
        }
    }
}

impl PartialEq for HnswConfig {
    fn eq(&self, other: &Self) -> bool {
        let all = |config: &Self| {
            let Self { m, m_max, ef_construction, ef_search, ml: _, seed, quantized } = *config;
            (m, m_max, ef_construction, ef_search, seed, quantized)
        };
        all(self) == all(other)
    }
}

impl Eq for HnswConfig {}

/// What HNSW draws the level of a node with.
pub(super) fn level_multiplier(m: usize) -> f64 {
    1.0 / (m as f64).ln()
}

impl HnswConfig {
    /// The defaults with this `m`, and twice as many links at most.
    #[must_use]
    pub fn with_m(m: usize) -> Self {
        Self { m, m_max: m.saturating_mul(2), ml: level_multiplier(m), ..Self::default() }
    }

    /// Sets `m_max`, for a degree that `m` does not give.
    #[must_use]
    pub fn m_max(mut self, m_max: usize) -> Self {
        self.m_max = m_max;
        self
    }

    /// Sets `ef_construction`.
    #[must_use]
    pub fn ef_construction(mut self, ef_construction: usize) -> Self {
        self.ef_construction = ef_construction;
        self
    }

    /// Sets `ef_search`.
    #[must_use]
    pub fn ef_search(mut self, ef_search: usize) -> Self {
        self.ef_search = ef_search;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets whether nodes hold codes.
    #[must_use]
    pub fn quantized(mut self, quantized: bool) -> Self {
        self.quantized = quantized;
        self
    }

    /// Links of every node.
    pub(super) fn degree(&self) -> usize {
        self.m_max.clamp(1, DEGREE_MAX).next_multiple_of(DEGREE_ALIGN)
    }

    /// Nearest rows that the links of a node are chosen from.
    pub(super) fn candidates(&self) -> usize {
        (self.ef_construction / 2).clamp(self.degree(), 512)
    }
}
