//! The index of a vector store: what is built, and what it is.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use synadb::vector::{HnswConfig, IndexBackend, IvfConfig, IvfSearch, PackedConfig, VectorStore};

use crate::convert::{Count, Unsigned};
use crate::errors::invalid_argument;
use crate::jobs;

/// Parameters of a build that were given.
#[derive(Default)]
pub struct Parameters {
    pub m: Option<Count>,
    pub m_max: Option<Count>,
    pub ef_construction: Option<Count>,
    pub ef_search: Option<Count>,
    pub cells: Option<Count>,
    pub nprobe: Option<Count>,
    pub seed: Option<Unsigned>,
}

/// A number of at least one.
///
/// # Errors
/// `InvalidArgumentError` by the name of the argument.
pub fn positive(argument: &'static str, given: Option<Count>) -> PyResult<Option<usize>> {
    let Some(Count(given)) = given else { return Ok(None) };
    match usize::try_from(given) {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(invalid_argument(argument, format!("it must be 1 or more, got {given}"))),
    }
}

/// The index that a store is to have without being asked again, by the name of a backend.
///
/// # Errors
/// `InvalidArgumentError` for an unknown one.
pub fn wanted(backend: &str) -> PyResult<IndexBackend> {
    match backend {
        "auto" => Ok(IndexBackend::Auto),
        "hnsw" => Ok(IndexBackend::Hnsw(HnswConfig::default())),
        "flat" => Ok(IndexBackend::None),
        _ => {
            let reason = format!("'{backend}' is unknown; it must be one of: auto, flat, hnsw");
            Err(invalid_argument("backend", reason))
        }
    }
}

impl Parameters {
    /// The index of that name with these parameters.
    ///
    /// # Errors
    /// `InvalidArgumentError` for an unknown kind, a number out of range, and a parameter that the
    /// kind has not.
    pub fn backend(self, kind: &str) -> PyResult<IndexBackend> {
        let graph = ["m", "m_max", "ef_construction", "ef_search"];
        let cells = ["cells", "nprobe"];
        let kind = &*kind.to_ascii_lowercase();
        let known: &[&str] = match kind {
            "hnsw" => &graph,
            "gravity_well" => &cells,
            "flat" | "none" => &[],
            _ => {
                let reason = format!(
                    "'{kind}' is unknown; it must be one of: hnsw, gravity_well, flat, none"
                );
                return Err(invalid_argument("kind", reason));
            }
        };
        let seed = self.seed.map(|seed| seed.0);
        let given = [
            ("m", positive("m", self.m)?),
            ("m_max", positive("m_max", self.m_max)?),
            ("ef_construction", positive("ef_construction", self.ef_construction)?),
            ("ef_search", positive("ef_search", self.ef_search)?),
            ("cells", positive("cells", self.cells)?),
            ("nprobe", positive("nprobe", self.nprobe)?),
        ];
        let strange = given.iter().find(|(name, value)| value.is_some() && !known.contains(name));
        if let Some((name, _)) = strange {
            return Err(invalid_argument(name, format!("an index of kind '{kind}' has none")));
        }
        let [m, m_max, ef_construction, ef_search, cells, nprobe] = given.map(|(_, value)| value);
        Ok(match kind {
            "hnsw" => {
                let mut config = m.map_or_else(HnswConfig::default, HnswConfig::with_m);
                config.m_max = m_max.unwrap_or(config.m_max);
                config.ef_construction = ef_construction.unwrap_or(config.ef_construction);
                config.ef_search = ef_search.unwrap_or(config.ef_search);
                config.seed = seed.unwrap_or(config.seed);
                IndexBackend::Hnsw(config)
            }
            "gravity_well" => {
                let standard = IvfConfig::default();
                let nprobe = nprobe.unwrap_or(standard.search.nprobe);
                let search = IvfSearch { nprobe, ..standard.search };
                let seed = seed.unwrap_or(standard.seed);
                IndexBackend::GravityWell(IvfConfig { cells, seed, search, ..standard })
            }
            "flat" => {
                let standard = PackedConfig::default();
                let seed = seed.unwrap_or(standard.seed);
                IndexBackend::Flat(PackedConfig { seed, ..standard })
            }
            _ => IndexBackend::None,
        })
    }
}

/// Builds an index and saves it with the file.
///
/// # Errors
/// What the engine says; as `jobs::run`.
pub fn build(
    py: Python<'_>,
    store: &VectorStore,
    backend: IndexBackend,
    threads: Option<Count>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = positive("threads", threads)?.unwrap_or_else(all);
    jobs::build_index(py, store, backend, threads, progress)
}

/// What the index is and holds, as a dict.
///
/// # Errors
/// Python could not allocate it.
pub fn report<'py>(
    py: Python<'py>,
    stats: &synadb::vector::IndexStats,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("kind", stats.kind)?;
    dict.set_item("rows", stats.rows)?;
    dict.set_item("dead", stats.dead)?;
    dict.set_item("tail", stats.tail)?;
    dict.set_item("coded", stats.coded)?;
    dict.set_item("bytes", stats.bytes)?;
    Ok(dict)
}
