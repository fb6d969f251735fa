//! How a vector store is configured, and what of it the catalogue keeps.

use std::time::Duration;

use synadb_index::{CascadeConfig, HnswConfig, IvfConfig, PackedConfig};

use super::index::check_target;
use crate::config::{Durability, OpenOptions};
use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::value::DTYPE_F32;

/// Which index [`VectorStore::build_index`](super::VectorStore::build_index) builds.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum IndexBackend {
    /// What fits the number of vectors: codes below 500,000, an inverted file from there on, which
    /// is tuned to find 99 of 100 neighbours.
    #[default]
    Auto,
    /// A graph.
    Hnsw(HnswConfig),
    /// An inverted file.
    GravityWell(IvfConfig),
    /// A graph that is entered through buckets of hyperplanes.
    Cascade(CascadeConfig),
    /// A scan of compact codes: next to exact.
    Flat(PackedConfig),
    /// Exact search only.
    None,
    /// Any of them, whose searches reach a recall where they are not told otherwise: it is tuned on
    /// a sample of its rows when it is built, for ten neighbours, and for others when they are first
    /// asked for.
    Aimed {
        /// What is built.
        backend: Box<Self>,
        /// Above 0 and at most 1.
        target_recall: f64,
    },
}

/// Of 384 dimensions codes are scanned in 3 us for a thousand vectors, whatever their number. At 200,000
/// an inverted file that finds .98 takes as long as codes, which find all and are built in a fortieth of the
/// time; at 400,000 one that finds all takes a third longer (the part `choice` of the benchmark).
const CELLS_FROM: usize = 500_000;

impl IndexBackend {
    /// What is built of so many vectors.
    pub(super) fn for_rows(&self, rows: usize) -> Self {
        match self {
            Self::Auto if rows < CELLS_FROM => Self::Flat(PackedConfig::default()),
            Self::Auto => Self::GravityWell(IvfConfig::default()),
            Self::Aimed { backend, .. } => backend.for_rows(rows),
            other => other.clone(),
        }
    }

    /// What is built, and the recall that its searches are to reach.
    pub(super) fn parts(&self) -> (&Self, Option<f64>) {
        match self {
            Self::Aimed { backend, target_recall } => (backend.parts().0, Some(*target_recall)),
            other => (other, None),
        }
    }

    /// The same for a recall, unless it has one, or there is to be no index.
    pub(super) fn aimed_at(self, target_recall: Option<f64>) -> Self {
        match target_recall {
            Some(target_recall) if self != Self::None && self.parts().1.is_none() => {
                Self::Aimed { backend: Box::new(self), target_recall }
            }
            _ => self,
        }
    }
}

/// Configuration of a vector store.
#[derive(Debug, Clone)]
pub struct VectorConfig {
    /// Components of a vector, 1 to 65,535; 0 takes what the file has.
    pub dimensions: u16,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Names the table: `vector:<key_prefix>`.
    pub key_prefix: String,
    /// From so many vectors without an index on, one is built by a thread of its own, once searches
    /// have scanned them so often that it pays; not with 0 or [`IndexBackend::None`].
    pub index_threshold: usize,
    /// Which index, until another one is asked for.
    pub backend: IndexBackend,
    /// Recall, above 0 and at most 1, of searches that are not told otherwise; indexes are tuned to
    /// it. See [`SearchOptions::target_recall`](super::SearchOptions::target_recall).
    pub target_recall: Option<f64>,
    /// Whether a write returns only once it is on the medium, of a store that
    /// [`VectorStore::new`](super::VectorStore::new) opens; others do as their options or their
    /// database say.
    pub sync_on_write: bool,
    /// Seconds after which a sync begins for what was not synced, as
    /// [`OpenOptions::sync_interval`] says; 0 for never. Of a store that is opened on a path and
    /// without options.
    pub checkpoint_interval_secs: u64,
}

impl Default for VectorConfig {
    fn default() -> Self {
        Self {
            dimensions: 768,
            metric: DistanceMetric::Cosine,
            key_prefix: "vec/".to_owned(),
            index_threshold: 10_000,
            backend: IndexBackend::default(),
            target_recall: None,
            sync_on_write: true,
            checkpoint_interval_secs: 30,
        }
    }
}

impl VectorConfig {
    /// Refuses a recall that cannot be reached by anything.
    pub(super) fn check_recall(&self) -> Result<()> {
        check_target(self.target_recall)?;
        check_target(self.backend.parts().1)
    }

    /// How a store opens its file that is not told otherwise.
    pub(super) fn options(&self) -> OpenOptions {
        let durability = if self.sync_on_write { Durability::Sync } else { Durability::Process };
        let interval = Duration::from_secs(self.checkpoint_interval_secs);
        let interval = Some(interval).filter(|interval| !interval.is_zero());
        OpenOptions::new().durability(durability).sync_interval(interval)
    }

    /// Name of the table.
    pub(crate) fn table(&self) -> String {
        format!("vector:{}", self.key_prefix)
    }
}

/// What the catalogue keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredConfig {
    pub dimensions: u16,
    pub metric: DistanceMetric,
}

impl StoredConfig {
    pub fn row_bytes(self) -> u32 {
        4 * u32::from(self.dimensions)
    }

    pub fn encode(self) -> Vec<u8> {
        let [low, high] = self.dimensions.to_le_bytes();
        vec![low, high, self.metric.to_u8(), DTYPE_F32]
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [low, high, metric, dtype] = *<&[u8; 4]>::try_from(bytes).ok()?;
        let dimensions = u16::from_le_bytes([low, high]);
        if dimensions == 0 || metric > 2 || dtype != DTYPE_F32 {
            return None;
        }
        Some(Self { dimensions, metric: DistanceMetric::from_u8(metric) })
    }

    /// Refuses a configuration that differs, naming both values.
    pub fn check(self, table: &str, asked: Self) -> Result<()> {
        let mismatch = |stored: String, asked: String| Error::ConfigMismatch {
            table: table.to_owned(),
            stored,
            asked,
        };
        if asked.dimensions != self.dimensions {
            let dimensions = |n| format!("{n} dimensions");
            return Err(mismatch(dimensions(self.dimensions), dimensions(asked.dimensions)));
        }
        if asked.metric != self.metric {
            let metric = |m: DistanceMetric| format!("metric {}", m.name());
            return Err(mismatch(metric(self.metric), metric(asked.metric)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_builds_depends_on_how_many_vectors_it_has_unless_a_kind_is_asked_for() {
        for backend in [
            IndexBackend::Auto,
            IndexBackend::Aimed { backend: Box::new(IndexBackend::Auto), target_recall: 0.95 },
        ] {
            assert!(matches!(backend.for_rows(CELLS_FROM - 1), IndexBackend::Flat(_)));
            assert!(matches!(backend.for_rows(CELLS_FROM), IndexBackend::GravityWell(_)));
        }
        let asked = IndexBackend::Hnsw(HnswConfig::default());
        assert!(matches!(asked.for_rows(10 * CELLS_FROM), IndexBackend::Hnsw(_)));
    }
}
