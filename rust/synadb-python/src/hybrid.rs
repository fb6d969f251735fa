//! `HybridVectorStore`: new vectors in a hot table, those that stay in a cold one.

use std::ffi::OsString;

use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList};
use synadb::arch::{self, HybridConfig, HybridSearchResult, ResultSource};
use synadb::vector::SearchOptions;
use synadb::{CascadeConfig, GwiConfig, VectorStore};

use crate::arrays::{self, Block, Rows};
use crate::convert::{self, Count, Key, Recall, answered, count};
use crate::errors::{closed, key_not_found};
use crate::filtering::Filtering;
use crate::indexing::{self, Parameters, unknown_preset};
use crate::jobs::{self, Saved};
use crate::numpy::{owned, vector as one_vector};
use crate::opening::{self, Opening, Place};
use crate::searching::{self, Batch, Given, Source, nearest_count};
use crate::storing;

/// Two tables of vectors in one file.
#[pyclass(frozen, subclass, module = "synadb._native")]
pub struct HybridVectorStore {
    store: arch::HybridVectorStore,
    hot_path: OsString,
    cold_path: OsString,
    preset: Option<String>,
    saved: Saved,
}

/// Key, score and where it was found.
type Found = (String, f32, &'static str);

fn found_of(hit: HybridSearchResult) -> Found {
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

    fn table(&self, source: ResultSource) -> &VectorStore {
        match source {
            ResultSource::Hot => self.store.hot(),
            ResultSource::Cold => self.store.cold(),
        }
    }

    /// Every live row of both tables, each key once, or of one of them.
    fn rows_of(&self, py: Python<'_>, asked: Option<Source>) -> PyResult<Vec<Rows>> {
        self.open_check()?;
        let reader = answered(self.store.reader())?;
        let [hot, cold] = answered(py.detach(|| reader.runs()))?;
        let all = [
            (ResultSource::Hot, (reader.hot().clone(), hot)),
            (ResultSource::Cold, (reader.cold().clone(), cold)),
        ];
        let is_wanted = |source: ResultSource| asked.is_none_or(|Source(asked)| asked == source);
        Ok(all.into_iter().filter(|(at, _)| is_wanted(*at)).map(|(_, rows)| rows).collect())
    }
}

/// The tables that the arguments ask for.
fn configured(
    asked: &synadb::VectorConfig,
    preset: Option<&str>,
    target_recall: Option<Recall>,
) -> PyResult<HybridConfig> {
    let (dimensions, metric) = (asked.dimensions, asked.metric);
    let cold = match preset {
        None => CascadeConfig { dimensions, ..CascadeConfig::default() },
        Some(name) => CascadeConfig::preset(&name.to_ascii_lowercase(), dimensions)
            .ok_or_else(|| unknown_preset(name))?,
    };
    let target_recall = target_recall.map(|recall| recall.0);
    let hot = GwiConfig { dimensions, metric, target_recall, ..GwiConfig::default() };
    Ok(HybridConfig { hot, cold: CascadeConfig { metric, target_recall, ..cold } })
}

#[pymethods]
impl HybridVectorStore {
    #[new]
    #[pyo3(signature = (hot_path, cold_path, dimensions=None, *, metric=None, preset=None,
        sync_on_write=None, access="shared", lock_timeout=None, maintenance="thread",
        target_recall=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        hot_path: &Bound<'_, PyAny>,
        cold_path: &Bound<'_, PyAny>,
        dimensions: Option<Count>,
        metric: Option<&str>,
        preset: Option<String>,
        #[pyo3(from_py_with = convert::sync_wanted)] sync_on_write: Option<bool>,
        access: &str,
        lock_timeout: Option<convert::Seconds>,
        maintenance: &str,
        target_recall: Option<Recall>,
    ) -> PyResult<Self> {
        let has_timeout = lock_timeout.is_some();
        let syncs = sync_on_write.unwrap_or(false);
        let mut opening = Opening::new(access, lock_timeout, syncs)?;
        opening.maintain(maintenance)?;
        let asked = opening::configuration(dimensions, metric, syncs)?;
        let config = configured(&asked, preset.as_deref(), target_recall)?;
        let (store, [hot_path, cold_path]) = match Place::of(hot_path, cold_path)? {
            Place::In(database) => {
                let given = (access, has_timeout, maintenance);
                opening::refuse_own(&database, given, sync_on_write)?;
                let path = database.path().as_os_str().to_owned();
                let attach = || arch::HybridVectorStore::attach(&database, config);
                (answered(py.detach(attach))?, [path.clone(), path])
            }
            Place::Paths([hot, cold]) => {
                let paths = [hot.clone().into_os_string(), cold.clone().into_os_string()];
                let open =
                    move |options| arch::HybridVectorStore::open_with(&hot, &cold, config, options);
                (opening::open(py, opening, open)?, paths)
            }
        };
        let named = metric.map(|_| asked.metric);
        opening::check_metric(store.cold().name(), store.metric(), named)?;
        Ok(Self { store, hot_path, cold_path, preset, saved: Saved::default() })
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

    /// Keeps a sample for the centroids, and builds the inverted file where there are new vectors.
    fn initialize_hot(&self, py: Python<'_>, sample_vectors: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        let hot = self.store.hot();
        storing::keep_sample(hot, sample_vectors)?;
        if hot.is_empty() {
            return Ok(());
        }
        let backend = answered(py.detach(|| hot.gravity_backend(None, None)))?;
        indexing::build(py, (hot, &self.saved), backend, None, None).map(|_| ())
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
        storing::ingest_all(py, &self.store, keys, vectors)
    }

    /// Replaces the vector of a key, wherever it is; `KeyNotFoundError` if there is none.
    fn update(&self, py: Python<'_>, key: Key<'_>, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        let array = one_vector(vector, self.width(), "Vector")?;
        let values = array.as_slice()?;
        answered(py.detach(|| self.store.update(key.0, values)))
    }

    /// Key, score and source of the `k` nearest of each row of `queries`, or keys and scores of all.
    #[pyo3(signature = (queries, k=10, *, exact=false, ef_search=None, nprobe=None, candidates=None,
        num_probes=None, target_recall=None, filter=None, threads=None, as_arrays=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn _search_batch<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = count)] k: i64,
        exact: bool,
        ef_search: Option<Count>,
        nprobe: Option<Count>,
        candidates: Option<Count>,
        num_probes: Option<Count>,
        target_recall: Option<Recall>,
        filter: Option<Filtering>,
        threads: Option<Count>,
        as_arrays: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.open_check()?;
        let numbers = [ef_search, nprobe, candidates, num_probes];
        let given = Given { exact, numbers, target_recall, are_usual: false, filter };
        let asked = Batch { k, threads, as_arrays };
        let find = |queries: &[f32], k, options: &SearchOptions| {
            self.store.search_batch_with(queries, k, options)
        };
        let results = |found: Vec<Vec<_>>| {
            Ok(found.into_iter().map(|hits| hits.into_iter().map(found_of).collect()).collect())
        };
        searching::batch_with(py, (queries, self.width()), given, asked, (find, results, find))
    }

    /// Key, score and source of the `k` nearest of one query, in one of the tables or in both.
    #[pyo3(signature = (query, k=10, source=None, *, exact=false, ef_search=None, nprobe=None,
        candidates=None, num_probes=None, target_recall=None, filter=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn _search(
        &self,
        py: Python<'_>,
        query: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = count)] k: i64,
        source: Option<Source>,
        exact: bool,
        ef_search: Option<Count>,
        nprobe: Option<Count>,
        candidates: Option<Count>,
        num_probes: Option<Count>,
        target_recall: Option<Recall>,
        filter: Option<Filtering>,
    ) -> PyResult<Vec<Found>> {
        self.open_check()?;
        let numbers = [ef_search, nprobe, candidates, num_probes];
        let given = Given { exact, numbers, target_recall, are_usual: false, filter };
        let (k, options) = (nearest_count(k)?, given.options()?);
        let array = one_vector(query, self.width(), "Query")?;
        let query = array.as_slice()?;
        let hits = answered(py.detach(|| match source {
            Some(Source(layer)) => self.store.search_layer(layer, query, k, &options),
            None => self.store.search_with(query, k, &options),
        }))?;
        Ok(hits.into_iter().map(found_of).collect())
    }

    /// Moves the new vectors to those that stay, and returns how many moved.
    fn promote_to_cold(&self, py: Python<'_>) -> PyResult<usize> {
        self.open_check()?;
        storing::promote_all(py, &self.store)
    }

    /// Builds an index of that kind of one of the tables; returns whether the file has it.
    #[pyo3(signature = (source, kind, *, threads=None, progress=None, **parameters))]
    fn _build_index(
        &self,
        py: Python<'_>,
        source: Source,
        kind: &str,
        threads: Option<Count>,
        progress: Option<&Bound<'_, PyAny>>,
        parameters: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        self.open_check()?;
        let table = self.table(source.0);
        let backend = Parameters::of("build_index", parameters)?.backend(kind)?;
        indexing::build(py, (table, &self.saved), backend, threads, progress)
    }

    /// Whether the file has the index that this handle built last.
    #[getter]
    fn _saved(&self) -> Option<bool> {
        self.saved.get()
    }

    /// The vectors of keys as a new float32 array of shape `(len(keys), dimensions)`.
    #[pyo3(signature = (keys, default=None))]
    fn get_batch<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.open_check()?;
        let reader = answered(self.store.reader())?;
        arrays::get_batch(py, self.width(), keys, default, |keys, default, out| {
            reader.read(keys, default, out)
        })
    }

    /// Every vector in one read-only array, with the keys of its rows.
    #[pyo3(signature = (*, copy=None, source=None))]
    fn as_array<'py>(
        &self,
        py: Python<'py>,
        copy: Option<bool>,
        source: Option<Source>,
    ) -> PyResult<Block<'py>> {
        let rows = self.rows_of(py, source)?;
        let together = match source {
            None => "source='hot' and 'cold' those of one table, which compact() brings together",
            Some(_) => "compact() of the file brings them together",
        };
        arrays::matrix(py, &rows, self.width(), copy, together)
    }

    /// Every vector in read-only views of the mapped file, each with the keys of its rows.
    #[pyo3(signature = (*, source=None))]
    fn as_blocks<'py>(&self, py: Python<'py>, source: Option<Source>) -> PyResult<Vec<Block<'py>>> {
        arrays::blocks(py, &self.rows_of(py, source)?)
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

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let name = key.0;
        self.get(py, key)?.ok_or_else(|| key_not_found(name))
    }

    /// Deletes the key, wherever it is; `False` if there was none.
    fn delete(&self, py: Python<'_>, key: Key<'_>) -> PyResult<bool> {
        answered(py.detach(|| self.store.delete(key.0)))
    }

    fn __delitem__(&self, py: Python<'_>, key: Key<'_>) -> PyResult<()> {
        let name = key.0;
        if self.delete(py, key)? { Ok(()) } else { Err(key_not_found(name)) }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.keys(py)?)?.try_iter()
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
