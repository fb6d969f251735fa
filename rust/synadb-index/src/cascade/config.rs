//! Parameters of the cascade and the presets of them.

/// A bucket with so many times fewer rows than would split it is not divided by further bits of
/// the signature, so that long signatures do not scatter small stores (LSH Forest: Bawa et al.
/// 2005).
const FEW: usize = 8;
/// Half of this is the number of rows that the links of a row are chosen from.
const EF_CONSTRUCTION: usize = 200;

/// Parameters of a [`CascadeIndex`](crate::CascadeIndex).
///
/// Values beyond the limits named are taken for the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CascadeConfig {
    /// Hyperplanes of the signature of each table (`num_hyperplanes`): 0 to 24.
    pub num_bits: usize,
    /// Tables, each with hyperplanes and buckets of its own: 1 to 64.
    pub num_tables: usize,
    /// Rows above which a bucket is split (`bucket_capacity`); at least 1.
    pub split_threshold: usize,
    /// Times that a bucket of the signature is split again at most: 0 to 16.
    pub max_bucket_depth: usize,
    /// Links that a row chooses by itself at least; nothing but the default of `m_max` follows
    /// from it, see [`HnswConfig::m`](crate::HnswConfig::m).
    pub m: usize,
    /// Links of every row in the neighbour graph (`graph_neighbors`), rounded up to a multiple of
    /// 32 and at most 128. Links lead both ways where there is room.
    pub m_max: usize,
    /// Buckets that a search looks into (`nprobe`), over all tables: the query's own in each
    /// table, then those on the other sides of the hyperplanes that it is nearest to.
    pub num_probes: usize,
    /// Rows in the queue of the walk through the graph: recall and time grow with it.
    pub ef_search: usize,
    /// Seed of the hyperplanes and of the graph.
    pub seed: u64,
    /// Whether the graph holds codes, see [`HnswConfig::quantized`](crate::HnswConfig::quantized).
    pub quantized: bool,
}

impl Default for CascadeConfig {
    fn default() -> Self {
        Self {
            num_bits: 6,
            num_tables: 10,
            split_threshold: 400,
            max_bucket_depth: 4,
            m: 20,
            m_max: 40,
            num_probes: 16,
            ef_search: 80,
            seed: 0x5EED,
            quantized: true,
        }
    }
}

impl CascadeConfig {
    /// Hyperplanes of a signature at most.
    pub const BITS_MAX: usize = 24;
    /// Tables at most.
    pub const TABLES_MAX: usize = 64;
    /// Further splits of a bucket at most.
    pub const DEPTH_MAX: usize = 16;
    /// Links of a row at most.
    pub const NEIGHBORS_MAX: usize = crate::hnsw::DEGREE_MAX;

    /// For less than 100,000 vectors: recall@10 of .95 and more.
    #[must_use]
    pub fn small() -> Self {
        Self {
            num_bits: 5,
            num_tables: 8,
            split_threshold: 200,
            max_bucket_depth: 3,
            m: 16,
            m_max: 32,
            num_probes: 12,
            ef_search: 100,
            ..Self::default()
        }
    }

    /// For a million vectors and more: recall@10 of .95 and more.
    #[must_use]
    pub fn large() -> Self {
        Self {
            num_bits: 8,
            num_tables: 16,
            split_threshold: 1000,
            max_bucket_depth: 5,
            m: 32,
            m_max: 64,
            num_probes: 24,
            ef_search: 300,
            ..Self::default()
        }
    }

    /// Where every neighbour counts: recall@10 of .99 and more.
    #[must_use]
    pub fn high_recall() -> Self {
        Self {
            num_bits: 4,
            num_tables: 20,
            split_threshold: 2000,
            max_bucket_depth: 3,
            m: 48,
            m_max: 96,
            num_probes: 32,
            ef_search: 500,
            ..Self::default()
        }
    }

    /// Where every microsecond counts: recall@10 of .90 and more.
    #[must_use]
    pub fn fast_search() -> Self {
        Self {
            num_bits: 8,
            num_tables: 6,
            split_threshold: 300,
            max_bucket_depth: 5,
            m: 16,
            m_max: 32,
            num_probes: 8,
            ef_search: 50,
            ..Self::default()
        }
    }

    /// The preset of a name: `small`, `large`, `high_recall` or `fast_search`.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "small" => Some(Self::small()),
            "large" => Some(Self::large()),
            "high_recall" => Some(Self::high_recall()),
            "fast_search" => Some(Self::fast_search()),
            _ => None,
        }
    }

    /// How much a search looks at when it is not told otherwise.
    #[must_use]
    pub fn search(&self) -> CascadeSearch {
        CascadeSearch { num_probes: self.num_probes, ef_search: self.ef_search }
    }

    pub(super) fn shape(&self) -> Shape {
        let split_above = self.split_threshold.max(1);
        Shape {
            bits: self.num_bits.min(Self::BITS_MAX),
            tables: self.num_tables.clamp(1, Self::TABLES_MAX),
            depth: self.max_bucket_depth.min(Self::DEPTH_MAX),
            split_above,
            few: (split_above / FEW).max(1),
        }
    }

    pub(super) fn graph(&self) -> crate::HnswConfig {
        let config = crate::HnswConfig::with_m(self.m).m_max(self.m_max).seed(self.seed);
        let config = config.quantized(self.quantized);
        config.ef_construction(EF_CONSTRUCTION).ef_search(self.ef_search)
    }
}

/// How much of a cascade a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CascadeSearch {
    /// Buckets looked into, over all tables. With none a search begins at the entry points of the
    /// graph.
    pub num_probes: usize,
    /// Rows in the queue of the walk; at least twice `k` in use.
    pub ef_search: usize,
}

/// The parameters of the buckets, within their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) bits: usize,
    pub(super) tables: usize,
    pub(super) depth: usize,
    /// Rows above which a bucket is split.
    pub(super) split_above: usize,
    /// Rows up to which a bucket takes no further bit of the signature.
    pub(super) few: usize,
}

impl Shape {
    /// Hyperplanes of a table.
    pub(super) fn levels(&self) -> usize {
        self.bits + self.depth
    }

    /// Number of the hyperplane of a level of a table.
    pub(super) fn plane(&self, table: usize, level: usize) -> usize {
        level * self.tables + table
    }

    /// Hyperplanes of all tables.
    pub(super) fn planes(&self) -> usize {
        self.levels() * self.tables
    }
}
