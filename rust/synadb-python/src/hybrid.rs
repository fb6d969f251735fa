//! `HybridVectorStore`: new vectors in a hot table, those that stay in a cold one.

use std::ffi::OsString;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use synadb::arch::{self, HybridConfig, HybridSearchResult, ResultSource};
use synadb::vector::IndexBackend;
use synadb::{CascadeConfig, GwiConfig};

use crate::bulk::check_keys;
use crate::convert::{
    self, Count, Key, Recall, absolute_path, answered, count, names_of, tuple_of_keys,
};
use crate::errors::{closed, config_mismatch, invalid_argument};
use crate::indexing::{self, unknown_preset};
use crate::jobs;
use crate::numpy::{check_finite, matrix, owned, vector as one_vector};
use crate::opening::{self, Opening};
use crate::searching::nearest_count;
use crate::storing;

/// Queries, keys and bytes of vectors between two looks at the signals.
const QUERIES_PER_LOOK: usize = 64;
const KEYS_PER_LOOK: usize = 1 << 14;
const BYTES_PER_LOOK: usize = 64 << 20;

/// Two tables of vectors in one file.
#[pyclass(frozen, subclass, module = "synadb._native")]
pub struct HybridVectorStore {
    store: arch::HybridVectorStore,
    hot_path: OsString,
    cold_path: OsString,
    preset: Option<String>,
}

/// Key, score and where it was found.
type Found = (String, f32, &'static str);

fn found(hit: HybridSearchResult) -> Found {
    let source = match hit.source {
        ResultSource::Hot => "hot",
        ResultSource::Cold => "cold",
    };
    (hit.key, hit.score, source)
}

/// Recall, `k`, and how many queries were tried.
type Measured = (f64, usize, usize);
/// Both paths and the dimensions.
type Arguments = (OsString, OsString, usize);

impl HybridVectorStore {
    fn width(&self) -> usize {
        usize::from(self.store.dimensions())
    }

    fn open_check(&self) -> PyResult<()> {
        if self.store.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// The new vectors, those that stay, or both.
    fn look(
        &self,
        layer: &str,
        query: &[f32],
        k: usize,
        target_recall: Option<Recall>,
    ) -> synadb::Result<Vec<Vec<Found>>> {
        let target = target_recall.map(|recall| recall.0);
        let answers = match layer {
            "hot" => vec![self.store.search_layer(ResultSource::Hot, query, k, target)?],
            "cold" => vec![self.store.search_layer(ResultSource::Cold, query, k, target)?],
            _ => self.store.search_batch_for_recall(query, k, target)?,
        };
        Ok(answers.into_iter().map(|hits| hits.into_iter().map(found).collect()).collect())
    }
}

#[pymethods]
impl HybridVectorStore {
    #[new]
    #[pyo3(signature = (hot_path, cold_path, dimensions=None, *, metric=None, preset=None,
        sync_on_write=false, access="shared", lock_timeout=None, maintenance="thread",
        target_recall=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        hot_path: &Bound<'_, PyAny>,
        cold_path: &Bound<'_, PyAny>,
        dimensions: Option<Count>,
        metric: Option<&str>,
        preset: Option<String>,
        #[pyo3(from_py_with = convert::sync_on_write)] sync_on_write: bool,
        access: &str,
        lock_timeout: Option<convert::Seconds>,
        maintenance: &str,
        target_recall: Option<Recall>,
    ) -> PyResult<Self> {
        let mut opening = Opening::new(access, lock_timeout, sync_on_write)?;
        opening.maintain(maintenance)?;
        let asked = opening::configuration(dimensions, metric, sync_on_write)?;
        let cold = match &preset {
            None => CascadeConfig { dimensions: asked.dimensions, ..CascadeConfig::default() },
            Some(name) => CascadeConfig::preset(&name.to_ascii_lowercase(), asked.dimensions)
                .ok_or_else(|| unknown_preset(name))?,
        };
        let of_hot = GwiConfig { dimensions: asked.dimensions, ..GwiConfig::default() };
        let target_recall = target_recall.map(|recall| recall.0);
        let config = HybridConfig {
            hot: GwiConfig { metric: asked.metric, target_recall, ..of_hot },
            cold: CascadeConfig { metric: asked.metric, target_recall, ..cold },
        };
        let hot = absolute_path(hot_path, "hot_path")?;
        let cold = absolute_path(cold_path, "cold_path")?;
        let (hot_path, cold_path) = (hot.clone().into_os_string(), cold.clone().into_os_string());
        let store = opening::open(py, opening, move |options| {
            arch::HybridVectorStore::open_with(&hot, &cold, config, options)
        })?;
        if metric.is_some() && store.metric() != asked.metric {
            let (stored, asked) = (store.metric().name(), asked.metric.name());
            return Err(config_mismatch(store.cold().name(), stored, asked));
        }
        Ok(Self { store, hot_path, cold_path, preset })
    }

    /// The absolute path of the file that is not made.
    #[getter]
    fn hot_path(&self) -> OsString {
        self.hot_path.clone()
    }

    /// The absolute path of the file.
    #[getter]
    fn cold_path(&self) -> OsString {
        self.cold_path.clone()
    }

    /// Whether the handle is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.store.is_closed()
    }

    /// Components of a vector.
    #[getter]
    fn dimensions(&self) -> usize {
        self.width()
    }

    /// The metric: `"cosine"`, `"euclidean"` or `"dot_product"`.
    #[getter]
    fn metric(&self) -> &'static str {
        self.store.metric().name()
    }

    /// Checks a sample, and builds the inverted file where there are new vectors.
    fn initialize_hot(&self, py: Python<'_>, sample_vectors: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        storing::check_sample(sample_vectors, self.width())?;
        let hot = self.store.hot();
        if hot.is_empty() {
            return Ok(());
        }
        let backend = answered(py.detach(|| hot.gravity_backend(None, None)))?;
        indexing::build(py, hot, backend, None, None)
    }

    /// Stores a float32 vector of shape `(dimensions,)` among the new ones.
    fn ingest(&self, py: Python<'_>, key: Key<'_>, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        let array = one_vector(vector, self.width(), "Vector")?;
        let values = array.as_slice()?;
        answered(py.detach(|| self.store.ingest(key.0, values)))
    }

    /// Stores the rows of an array of shape `(n, dimensions)` and returns how many keys are new.
    fn ingest_batch(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        self.open_check()?;
        let (held, width) = (tuple_of_keys(keys, "keys")?, self.width());
        let (array, rows) = matrix(vectors, width, "Vectors")?;
        if held.len() != rows {
            let reason = format!("{} keys were given for {rows} vectors", held.len());
            return Err(invalid_argument("keys", reason));
        }
        let (keys, values) = (names_of(&held)?, array.as_slice()?);
        check_keys(keys.iter().copied())?;
        py.detach(|| check_finite(values, width))?;
        let most = (BYTES_PER_LOOK / (4 * width)).clamp(1, KEYS_PER_LOOK);
        let mut new = 0;
        for (keys, values) in keys.chunks(most).zip(values.chunks(most * width)) {
            new += answered(py.detach(|| self.store.ingest_rows(keys, values)))?;
            py.check_signals()?;
        }
        Ok(new)
    }

    /// Key, score and source of the `k` nearest of each row of `queries`.
    #[pyo3(signature = (queries, k, target_recall=None))]
    fn _search(
        &self,
        py: Python<'_>,
        queries: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = count)] k: i64,
        target_recall: Option<Recall>,
    ) -> PyResult<Vec<Vec<Found>>> {
        self.open_check()?;
        let (k, width) = (nearest_count(k)?, self.width());
        let (array, _) = matrix(queries, width, "Queries")?;
        let values = array.as_slice()?;
        py.detach(|| check_finite(values, width))?;
        let mut answers = Vec::new();
        for queries in values.chunks(QUERIES_PER_LOOK * width) {
            answers.extend(answered(py.detach(|| self.look("both", queries, k, target_recall)))?);
            py.check_signals()?;
        }
        Ok(answers)
    }

    /// Key, score and source of the `k` nearest of one query, in one of the tables or in both.
    #[pyo3(signature = (query, k, layer, target_recall=None))]
    fn _search_one(
        &self,
        py: Python<'_>,
        query: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = count)] k: i64,
        layer: &str,
        target_recall: Option<Recall>,
    ) -> PyResult<Vec<Found>> {
        self.open_check()?;
        let k = nearest_count(k)?;
        let array = one_vector(query, self.width(), "Query")?;
        let query = array.as_slice()?;
        let answers = answered(py.detach(|| self.look(layer, query, k, target_recall)))?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Moves the new vectors to those that stay, and returns how many moved.
    fn promote_to_cold(&self, py: Python<'_>) -> PyResult<usize> {
        self.open_check()?;
        let all = synadb::Pattern::All;
        let keys = answered(py.detach(|| self.store.hot().keys_matching(&all)))?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        // Also for none, so that a handle that may not write says so.
        let mut moved = answered(py.detach(|| self.store.promote_keys(&[])))?;
        for keys in keys.chunks(KEYS_PER_LOOK) {
            moved += answered(py.detach(|| self.store.promote_keys(keys)))?;
            py.check_signals()?;
        }
        Ok(moved)
    }

    /// Builds the cascade of the vectors that stay.
    #[pyo3(signature = (*, target_recall=None, threads=None, progress=None))]
    fn build_cold(
        &self,
        py: Python<'_>,
        target_recall: Option<Recall>,
        threads: Option<Count>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.open_check()?;
        let plain = IndexBackend::Cascade(self.store.config().cold.parameters());
        let backend = match target_recall {
            Some(Recall(target_recall)) => {
                IndexBackend::Aimed { backend: Box::new(plain), target_recall }
            }
            None => plain,
        };
        indexing::build(py, self.store.cold(), backend, threads, progress)
    }

    /// Number of new vectors.
    fn hot_count(&self) -> PyResult<usize> {
        self.open_check()?;
        Ok(self.store.hot_count())
    }

    /// Number of those that stay.
    fn cold_count(&self) -> PyResult<usize> {
        self.open_check()?;
        Ok(self.store.cold_count())
    }

    /// The stored vector, bit for bit, as a new float32 array, or `None`.
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let vector = answered(py.detach(|| self.store.get(key.0)))?;
        Ok(vector.map(|vector| owned(py, vector)))
    }

    /// Deletes the key, wherever it is; `False` if there was none.
    fn delete(&self, py: Python<'_>, key: Key<'_>) -> PyResult<bool> {
        answered(py.detach(|| self.store.delete(key.0)))
    }

    /// The live keys, sorted.
    fn keys(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.open_check()?;
        Ok(py.detach(|| self.store.keys()))
    }

    fn __contains__(&self, py: Python<'_>, key: Key<'_>) -> PyResult<bool> {
        Ok(answered(py.detach(|| self.store.get(key.0)))?.is_some())
    }

    fn __len__(&self) -> PyResult<usize> {
        self.open_check()?;
        Ok(self.store.len())
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Returns once everything that was written is on the medium.
    fn flush_hot(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.store.flush_hot()))
    }

    /// As `flush_hot`, and saves a checkpoint beside the file, with the indexes.
    fn save_cold(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.store.save_cold()))
    }

    /// Moves a reader to the newest commit; whether there was one.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        self.open_check()?;
        answered(py.detach(|| self.store.database().refresh()))
    }

    /// What the index of the new vectors is and holds, and that of the others; each may be `None`.
    fn index_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, store) in [("hot", self.store.hot()), ("cold", self.store.cold())] {
            dict.set_item(name, indexing::index_stats(py, store)?)?;
        }
        Ok(dict)
    }

    /// Recall, `k` and queries of searches of the hot table, and of the cold one.
    fn _recall(&self, py: Python<'_>, k: usize, queries: usize) -> PyResult<Vec<Measured>> {
        self.open_check()?;
        let found = answered(py.detach(|| self.store.measure_recall(k, queries)))?;
        Ok(found.iter().map(|found| (found.recall, found.k, found.queries)).collect())
    }

    /// Sizes and counts of the file.
    #[pyo3(signature = (usage=true))]
    fn stats<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = convert::usage)] usage: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.open_check()?;
        jobs::stats(py, self.store.database(), usage)
    }

    /// Closes the handle; repeatable. Other handles on the file go on.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.store.close()))
    }

    /// A handle travels to another process as its paths, configuration and options.
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Arguments, Bound<'py, PyDict>)> {
        self.open_check()?;
        let keywords = opening::keywords(py, &self.store.database().settings())?;
        keywords.set_item("metric", self.metric())?;
        keywords.set_item("preset", &self.preset)?;
        keywords.set_item("target_recall", self.store.cold().target_recall())?;
        Ok(((self.hot_path.clone(), self.cold_path.clone(), self.width()), keywords))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().open_check()?;
        Ok(slf)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (name, this) = (slf.get_type().name()?, slf.get());
        let state = if this.store.is_closed() { ", closed" } else { "" };
        let (hot, cold, width) = (&this.hot_path, &this.cold_path, this.width());
        let metric = this.metric();
        Ok(format!("{name}({hot:?}, {cold:?}, dimensions={width}, metric='{metric}'{state})"))
    }
}
