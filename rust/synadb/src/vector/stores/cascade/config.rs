//! How a [`CascadeIndex`](super::CascadeIndex) is built and searched.

use crate::distance::DistanceMetric;
use crate::error::{Error, Result};
use crate::vector::index::check_target;
use crate::vector::{CascadeParameters, IndexBackend, VectorConfig};

/// Configuration of a [`CascadeIndex`](super::CascadeIndex).
///
/// The presets say what recall@10 they are for on real embeddings.
///
/// ```
/// use synadb::cascade::CascadeConfig;
///
/// let config = CascadeConfig { ef_search: 400, ..CascadeConfig::preset_large(384) };
/// assert_eq!((config.dimensions, config.num_probes), (384, 24));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CascadeConfig {
    /// Components of a vector, 1 to 65,535; 0 takes what the file has.
    pub dimensions: u16,
    /// How distances are measured.
    pub metric: DistanceMetric,
    /// Hyperplanes of the signature of each table, 0 to 24.
    pub num_bits: usize,
    /// Tables, each with hyperplanes and buckets of its own, 1 to 64.
    pub num_tables: usize,
    /// Vectors above which a bucket is split.
    pub split_threshold: usize,
    /// Times that a bucket of the signature is split again at most, 0 to 16.
    pub max_bucket_depth: usize,
    /// Links that a vector chooses by itself at least; nothing but the original's default of
    /// `m_max` follows from it.
    pub m: usize,
    /// Links of every vector in the graph of neighbours, 1 to 128, rounded up to a multiple of 32.
    pub m_max: usize,
    /// Taken, and of no effect: links lead both ways where there is room.
    pub bidirectional: bool,
    /// Buckets that a search looks into when it is not told otherwise, over all tables.
    pub num_probes: usize,
    /// Vectors in the queue of a search that is not told otherwise: recall and time grow with it.
    pub ef_search: usize,
    /// As in [`VectorConfig`]: it goes before `num_probes` and `ef_search`.
    pub target_recall: Option<f64>,
}

impl Default for CascadeConfig {
    fn default() -> Self {
        Self::of(&CascadeParameters::default(), DIMENSIONS)
    }
}

/// Components of a vector where nobody says otherwise.
const DIMENSIONS: u16 = 768;

impl CascadeConfig {
    /// For less than 100,000 vectors: recall@10 of .95 and more.
    #[must_use]
    pub fn small() -> Self {
        Self::preset_small(DIMENSIONS)
    }

    /// For a million vectors and more: recall@10 of .95 and more.
    #[must_use]
    pub fn large() -> Self {
        Self::preset_large(DIMENSIONS)
    }

    /// Where every neighbour counts: recall@10 of .99 and more.
    #[must_use]
    pub fn high_recall() -> Self {
        Self::preset_high_recall(DIMENSIONS)
    }

    /// Where every microsecond counts: recall@10 of .90 and more.
    #[must_use]
    pub fn fast_search() -> Self {
        Self::preset_fast_search(DIMENSIONS)
    }

    /// As [`CascadeConfig::small`], for vectors of so many components.
    #[must_use]
    pub fn preset_small(dimensions: u16) -> Self {
        Self::of(&CascadeParameters::small(), dimensions)
    }

    /// As [`CascadeConfig::large`], for vectors of so many components.
    #[must_use]
    pub fn preset_large(dimensions: u16) -> Self {
        Self::of(&CascadeParameters::large(), dimensions)
    }

    /// As [`CascadeConfig::high_recall`], for vectors of so many components.
    #[must_use]
    pub fn preset_high_recall(dimensions: u16) -> Self {
        Self::of(&CascadeParameters::high_recall(), dimensions)
    }

    /// As [`CascadeConfig::fast_search`], for vectors of so many components.
    #[must_use]
    pub fn preset_fast_search(dimensions: u16) -> Self {
        Self::of(&CascadeParameters::fast_search(), dimensions)
    }

    /// The preset of a name, for vectors of so many components: `small`, `large`, `high_recall` or
    /// `fast_search`.
    #[must_use]
    pub fn preset(name: &str, dimensions: u16) -> Option<Self> {
        CascadeParameters::preset(name).map(|parameters| Self::of(&parameters, dimensions))
    }

    fn of(parameters: &CascadeParameters, dimensions: u16) -> Self {
        let config = Self {
            dimensions,
            metric: DistanceMetric::Cosine,
            num_bits: 0,
            num_tables: 0,
            split_threshold: 0,
            max_bucket_depth: 0,
            m: 0,
            m_max: 0,
            bidirectional: true,
            num_probes: 0,
            ef_search: 0,
            target_recall: None,
        };
        config.with(parameters)
    }

    /// The same dimensions and metric with other parameters.
    pub(super) fn with(&self, parameters: &CascadeParameters) -> Self {
        Self {
            num_bits: parameters.num_bits,
            num_tables: parameters.num_tables,
            split_threshold: parameters.split_threshold,
            max_bucket_depth: parameters.max_bucket_depth,
            m: parameters.m,
            m_max: parameters.m_max,
            num_probes: parameters.num_probes,
            ef_search: parameters.ef_search,
            ..self.clone()
        }
    }

    /// The table that this asks for.
    pub(in crate::vector) fn table(&self) -> VectorConfig {
        let backend = IndexBackend::Cascade(self.parameters());
        let (dimensions, metric, target_recall) =
            (self.dimensions, self.metric, self.target_recall);
        VectorConfig { dimensions, metric, backend, target_recall, ..VectorConfig::default() }
    }

    /// What the index of a store is built of.
    #[must_use]
    pub fn parameters(&self) -> CascadeParameters {
        CascadeParameters {
            num_bits: self.num_bits,
            num_tables: self.num_tables,
            split_threshold: self.split_threshold,
            max_bucket_depth: self.max_bucket_depth,
            m: self.m,
            m_max: self.m_max,
            num_probes: self.num_probes,
            ef_search: self.ef_search,
            ..CascadeParameters::default()
        }
    }

    pub(in crate::vector) fn check(&self) -> Result<()> {
        use CascadeParameters as Limits;
        let most = u32::MAX as usize;
        let numbers = [
            ("num_bits", self.num_bits, 0, Limits::BITS_MAX),
            ("num_tables", self.num_tables, 1, Limits::TABLES_MAX),
            ("split_threshold", self.split_threshold, 1, most),
            ("max_bucket_depth", self.max_bucket_depth, 0, Limits::DEPTH_MAX),
            ("m", self.m, 1, Limits::NEIGHBORS_MAX),
            ("m_max", self.m_max, 1, Limits::NEIGHBORS_MAX),
            ("num_probes", self.num_probes, 1, most),
            ("ef_search", self.ef_search, 1, most),
        ];
        let wrong = numbers.iter().find(|(_, number, least, most)| number < least || number > most);
        wrong.map_or_else(
            || check_target(self.target_recall),
            |&(argument, number, least, most)| Err(beyond(argument, number, (least, most))),
        )
    }
}

pub(super) fn beyond(argument: &'static str, got: usize, (least, most): (usize, usize)) -> Error {
    let reason = format!("it must be {least} to {most}, got {got}");
    Error::InvalidArgument { argument, reason }
}
