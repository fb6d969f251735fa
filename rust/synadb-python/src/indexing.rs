//! The index of a vector store: what is built, and what it is.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use synadb::vector::{
    CascadeParameters, HnswConfig, IndexBackend, IvfCodes, IvfConfig, IvfSearch, PackedConfig,
    VectorStore,
};

use crate::convert::{Count, Recall, Unsigned, answered};
use crate::errors::invalid_argument;
use crate::jobs::{self, Saved};

/// Parameters that are numbers, with the least and the most that each may be.
const NUMBERS: [(&str, usize, usize); 12] = [
    ("m", 1, usize::MAX),
    ("m_max", 1, usize::MAX),
    ("ef_construction", 1, usize::MAX),
    ("ef_search", 1, usize::MAX),
    ("cells", 1, usize::MAX),
    ("nprobe", 1, usize::MAX),
    ("num_hyperplanes", 0, CascadeParameters::BITS_MAX),
    ("num_tables", 1, CascadeParameters::TABLES_MAX),
    ("bucket_capacity", 1, u32::MAX as usize),
    ("max_bucket_depth", 0, CascadeParameters::DEPTH_MAX),
    ("graph_neighbors", 1, CascadeParameters::NEIGHBORS_MAX),
    ("num_probes", 1, u32::MAX as usize),
];

/// Parameters of a build that were given.
#[derive(Default)]
pub struct Parameters {
    numbers: Vec<(&'static str, usize)>,
    preset: Option<String>,
    seed: Option<u64>,
    target_recall: Option<f64>,
    quantization: Quantization,
}

/// What an index keeps of each vector.
#[derive(Clone, Copy, Default, PartialEq)]
enum Quantization {
    /// The codes that are best for its kind.
    #[default]
    Auto,
    /// One bit a dimension.
    OneBit,
    /// None: full precision.
    Off,
}

impl Quantization {
    /// That of an argument.
    ///
    /// # Errors
    /// `TypeError` for another type, `InvalidArgumentError` for another name.
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if given.is_none() {
            return Ok(Self::Off);
        }
        match &*given.extract::<String>()? {
            "auto" => Ok(Self::Auto),
            "1bit" => Ok(Self::OneBit),
            other => {
                let reason = format!("'{other}' is unknown; it must be one of: auto, 1bit, None");
                Err(invalid_argument("quantization", reason))
            }
        }
    }

    /// Refuses what a kind has not.
    fn check(self, kind: &str) -> PyResult<()> {
        let problem = match (self, kind) {
            (Self::OneBit, "hnsw" | "cascade" | "flat") => "codes of one bit alone",
            (Self::OneBit, "none") => "codes",
            _ => return Ok(()),
        };
        let reason = format!("an index of kind '{kind}' has no {problem}");
        Err(invalid_argument("quantization", reason))
    }

    /// An inverted file with what its cells keep.
    fn of_cells(self) -> IvfConfig {
        let standard = IvfConfig::default();
        match self {
            Self::Auto => standard,
            Self::OneBit => IvfConfig { codes: IvfCodes::Bits, ..standard },
            // In a second cell a vector would be a second copy.
            Self::Off => IvfConfig { codes: IvfCodes::Full, second: false, ..standard },
        }
    }
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
    /// Those of a call by their names; what is `None` was not given.
    ///
    /// # Errors
    /// `TypeError` for an unknown name or another type, `InvalidArgumentError` beyond the limits.
    pub fn of(call: &str, given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut parameters = Self::default();
        let Some(given) = given else { return Ok(parameters) };
        for (name, value) in given {
            let name: String = name.extract()?;
            let known = NUMBERS.iter().find(|(known, ..)| *known == name);
            let others = ["seed", "preset", "target_recall", "quantization"];
            if known.is_none() && !others.contains(&&*name) {
                let problem = format!("{call}() got an unexpected keyword argument '{name}'");
                return Err(PyTypeError::new_err(problem));
            }
            if value.is_none() && name != "quantization" {
                continue;
            }
            let put = parameters.put(known, &name, &value);
            put.map_err(|error| named(given.py(), &name, error))?;
        }
        Ok(parameters)
    }

    fn put(
        &mut self,
        known: Option<&(&'static str, usize, usize)>,
        name: &str,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match known {
            Some(&(name, least, most)) => {
                let number = within((name, least, most), value.extract::<Count>()?.0)?;
                self.numbers.push((name, number));
            }
            None if name == "seed" => self.seed = Some(value.extract::<Unsigned>()?.0),
            None if name == "target_recall" => {
                self.target_recall = Some(value.extract::<Recall>()?.0);
            }
            None if name == "quantization" => self.quantization = Quantization::of(value)?,
            None => self.preset = Some(value.extract()?),
        }
        Ok(())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.numbers.iter().find(|(given, _)| *given == name).map(|(_, number)| *number)
    }

    /// The index of that name with these parameters.
    ///
    /// # Errors
    /// `InvalidArgumentError` for an unknown kind or preset, a parameter that the kind has not, and
    /// a recall for no index.
    pub fn backend(mut self, kind: &str) -> PyResult<IndexBackend> {
        let target = self.target_recall.take();
        let is_scan = kind.eq_ignore_ascii_case("flat");
        let backend = self.plain_backend(kind)?;
        match target {
            Some(_) if backend == IndexBackend::None => {
                let none = if is_scan { "without codes there is none" } else { "kind is \"none\"" };
                Err(invalid_argument("target_recall", format!("an index has one, and {none}")))
            }
            Some(target_recall) => {
                Ok(IndexBackend::Aimed { backend: Box::new(backend), target_recall })
            }
            None => Ok(backend),
        }
    }

    fn plain_backend(self, kind: &str) -> PyResult<IndexBackend> {
        let kind = &*kind.to_ascii_lowercase();
        let known: &[&str] = match kind {
            "hnsw" => &["m", "m_max", "ef_construction", "ef_search"],
            "gravity_well" => &["cells", "nprobe"],
            "cascade" => &CASCADE,
            "flat" | "none" => &[],
            _ => {
                let kinds = "hnsw, gravity_well, cascade, flat, none";
                let reason = format!("'{kind}' is unknown; it must be one of: {kinds}");
                return Err(invalid_argument("kind", reason));
            }
        };
        self.quantization.check(kind)?;
        let preset = self.preset.as_ref().map(|_| "preset");
        let mut names = self.numbers.iter().map(|(name, _)| *name).chain(preset);
        if let Some(name) = names.find(|name| !known.contains(name)) {
            return Err(invalid_argument(name, format!("an index of kind '{kind}' has none")));
        }
        Ok(match kind {
            "hnsw" => IndexBackend::Hnsw(self.graph()),
            "gravity_well" => {
                let standard = self.quantization.of_cells();
                let nprobe = self.number("nprobe").unwrap_or(standard.search.nprobe);
                let search = IvfSearch { nprobe, ..standard.search };
                let (cells, seed) = (self.number("cells"), self.seed.unwrap_or(standard.seed));
                IndexBackend::GravityWell(IvfConfig { cells, seed, search, ..standard })
            }
            "cascade" => IndexBackend::Cascade(self.cascade()?),
            // Without codes it is a scan of the vectors, which needs no index.
            "flat" if self.quantization == Quantization::Off => IndexBackend::None,
            "flat" => {
                let standard = PackedConfig::default();
                let seed = self.seed.unwrap_or(standard.seed);
                IndexBackend::Flat(PackedConfig { seed, ..standard })
            }
            _ => IndexBackend::None,
        })
    }

    fn graph(&self) -> HnswConfig {
        let mut config = self.number("m").map_or_else(HnswConfig::default, HnswConfig::with_m);
        config.m_max = self.number("m_max").unwrap_or(config.m_max);
        config.ef_construction = self.number("ef_construction").unwrap_or(config.ef_construction);
        config.ef_search = self.number("ef_search").unwrap_or(config.ef_search);
        config.seed = self.seed.unwrap_or(config.seed);
        config.quantized = self.quantization != Quantization::Off;
        config
    }

    /// A preset, or the default, with what was given beside it.
    fn cascade(&self) -> PyResult<CascadeParameters> {
        let mut config = match &self.preset {
            None => CascadeParameters::default(),
            Some(name) => {
                let preset = CascadeParameters::preset(&name.to_ascii_lowercase());
                preset.ok_or_else(|| unknown_preset(name))?
            }
        };
        let fields = [
            ("num_hyperplanes", &mut config.num_bits),
            ("num_tables", &mut config.num_tables),
            ("bucket_capacity", &mut config.split_threshold),
            ("max_bucket_depth", &mut config.max_bucket_depth),
            ("graph_neighbors", &mut config.m_max),
            ("num_probes", &mut config.num_probes),
            ("ef_search", &mut config.ef_search),
        ];
        for (name, field) in fields {
            *field = self.number(name).unwrap_or(*field);
        }
        config.seed = self.seed.unwrap_or(config.seed);
        config.quantized = self.quantization != Quantization::Off;
        Ok(config)
    }
}

pub fn unknown_preset(name: &str) -> PyErr {
    let presets = "small, large, high_recall, fast_search";
    let reason = format!("'{name}' is unknown; it must be one of: {presets}");
    invalid_argument("preset", reason)
}

/// Parameters of a cascade beside its seed.
const CASCADE: [&str; 8] = [
    "preset",
    "num_hyperplanes",
    "num_tables",
    "bucket_capacity",
    "max_bucket_depth",
    "graph_neighbors",
    "num_probes",
    "ef_search",
];

fn within((name, least, most): (&'static str, usize, usize), given: i64) -> PyResult<usize> {
    match usize::try_from(given) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let limits = if most == usize::MAX {
                format!("{least} or more")
            } else {
                format!("{least} to {most}")
            };
            Err(invalid_argument(name, format!("it must be {limits}, got {given}")))
        }
    }
}

/// The same error, by the name of the argument where it is about a type.
fn named(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(py) {
        return PyTypeError::new_err(format!("argument '{name}': {}", error.value(py)));
    }
    error
}

/// Builds an index and saves it with the file; returns whether that was done.
///
/// # Errors
/// What the engine says; as `jobs::run`.
pub fn build(
    py: Python<'_>,
    (store, saved): (&VectorStore, &Saved),
    backend: IndexBackend,
    threads: Option<Count>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = positive("threads", threads)?.unwrap_or_else(all);
    jobs::build_index(py, (store, saved), backend, threads, progress)
}

/// What the index of a store is and holds, and what it was tuned to, as a dict; `None` without one.
///
/// # Errors
/// What the engine says.
pub fn index_stats<'py>(
    py: Python<'py>,
    store: &VectorStore,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let found = || Ok((store.index_stats()?.zip(store.tuned_searches()?), store.seal_failure()?));
    let (found, seal_failure) = answered(py.detach(found))?;
    let Some((stats, (target, tuned))) = found else { return Ok(None) };
    let dict = report(py, &stats)?;
    dict.set_item("seal_failure", seal_failure)?;
    dict.set_item("target_recall", target)?;
    let list = PyList::empty(py);
    for search in tuned {
        let dict = PyDict::new(py);
        dict.set_item("target_recall", search.target_recall)?;
        dict.set_item("k", search.k)?;
        dict.set_item("recall", search.recall)?;
        let numbers = [
            ("ef_search", search.ef_search),
            ("nprobe", search.nprobe),
            ("candidates", search.candidates),
            ("num_probes", search.num_probes),
        ];
        for (name, number) in numbers {
            if number.is_some() {
                dict.set_item(name, number)?;
            }
        }
        list.append(dict)?;
    }
    dict.set_item("tuned", list)?;
    Ok(Some(dict))
}

/// What an index is and holds, as a dict.
fn report<'py>(
    py: Python<'py>,
    stats: &synadb::vector::IndexStats,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("kind", stats.kind)?;
    dict.set_item("rows", stats.rows)?;
    dict.set_item("dead", stats.dead)?;
    dict.set_item("tail", stats.tail)?;
    dict.set_item("coded", stats.coded)?;
    dict.set_item("pieces", stats.pieces)?;
    dict.set_item("bytes", stats.bytes)?;
    Ok(dict)
}

/// What a cascade is built with that is told so much; without anything, what it is by default.
#[pyfunction]
#[pyo3(signature = (**parameters))]
pub fn cascade_parameters<'py>(
    py: Python<'py>,
    parameters: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    match Parameters::of("cascade_parameters", parameters)?.backend("cascade")? {
        IndexBackend::Cascade(built) => cascade(py, &built),
        _ => Ok(PyDict::new(py)),
    }
}

/// What a cascade was built with, by the names of the parameters, as a dict.
///
/// # Errors
/// Python could not allocate it.
pub fn cascade<'py>(py: Python<'py>, built: &CascadeParameters) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("num_hyperplanes", built.num_bits)?;
    dict.set_item("num_tables", built.num_tables)?;
    dict.set_item("bucket_capacity", built.split_threshold)?;
    dict.set_item("max_bucket_depth", built.max_bucket_depth)?;
    dict.set_item("graph_neighbors", built.m_max)?;
    dict.set_item("num_probes", built.num_probes)?;
    dict.set_item("ef_search", built.ef_search)?;
    dict.set_item("seed", built.seed)?;
    dict.set_item("quantization", built.quantized.then_some("auto"))?;
    Ok(dict)
}
