//! `VectorStore`: search over a table of vectors.

use std::ffi::OsString;

use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList};
use synadb::{Pattern, vector};

use crate::arrays::{self, Block, Since};
use crate::convert::{self, Count, Key, Name, Recall, Seconds, absolute_path, answered, count};
use crate::database::Database;
use crate::errors::{closed, key_not_found};
use crate::filtering::Filtering;
use crate::indexing::{self, Parameters};
use crate::jobs::{self, Saved};
use crate::numpy::{owned, vector as one_vector};
use crate::opening::{self, Opening};
use crate::results::SearchResult;
use crate::searching::{self, Batch, Given};
use crate::storing;

/// The table that a path without a name means.
const DEFAULT_NAME: &str = "vector:vec/";

/// A table of vectors with one dimension and one metric.
#[pyclass(frozen, subclass, module = "synadb._native")]
pub struct VectorStore {
    store: vector::VectorStore,
    /// The file, through the handle of the store.
    database: synadb::SynaDB,
    path: OsString,
    saved: Saved,
}

impl VectorStore {
    fn over(store: vector::VectorStore, path: OsString) -> Self {
        Self { database: store.database(), store, path, saved: Saved::default() }
    }

    /// The engine's store.
    pub fn engine(&self) -> &vector::VectorStore {
        &self.store
    }

    fn width(&self) -> usize {
        usize::from(self.store.dimensions())
    }

    fn open_check(&self) -> PyResult<()> {
        if self.store.is_closed() { Err(closed()) } else { Ok(()) }
    }
}

/// Path, dimensions and metric.
type StoreArguments = (OsString, usize, &'static str);

#[pymethods]
impl VectorStore {
    #[new]
    #[pyo3(signature = (path, dimensions=None, metric=None, sync_on_write=None, *, name=None,
        access="shared", lock_timeout=None, maintenance="thread", backend="auto",
        index_threshold=None, target_recall=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        dimensions: Option<Count>,
        metric: Option<&str>,
        #[pyo3(from_py_with = convert::sync_wanted)] sync_on_write: Option<bool>,
        name: Option<Name<'_>>,
        access: &str,
        lock_timeout: Option<Seconds>,
        maintenance: &str,
        backend: &str,
        index_threshold: Option<Count>,
        target_recall: Option<Recall>,
    ) -> PyResult<Self> {
        let has_timeout = lock_timeout.is_some();
        let syncs = sync_on_write.unwrap_or(true);
        let mut opening = Opening::new(access, lock_timeout, syncs)?;
        opening.maintain(maintenance)?;
        let mut config = opening::configuration(dimensions, metric, syncs)?;
        config.backend = indexing::wanted(backend)?;
        let least = indexing::positive("index_threshold", index_threshold)?;
        config.index_threshold = least.unwrap_or(config.index_threshold);
        config.target_recall = target_recall.map(|recall| recall.0);
        let asked = metric.map(|_| config.metric);
        let name = name.map_or(DEFAULT_NAME, |name| name.0).to_owned();
        if let Ok(database) = path.cast::<Database>() {
            let (database, given) = (database.get().engine(), (access, has_timeout, maintenance));
            opening::refuse_own(database, given, sync_on_write)?;
            let open = || vector::VectorStore::attach(database, &name, config);
            let store = answered(py.detach(open))?;
            let path = database.path().as_os_str().to_owned();
            opening::check_metric(&name, store.metric(), asked)?;
            return Ok(Self::over(store, path));
        }
        let file = absolute_path(path, "path")?;
        let (path, table) = (file.clone().into_os_string(), name.clone());
        let store = opening::open(py, opening, move |options| {
            vector::VectorStore::open_named(&file, &table, config, options)
        })?;
        opening::check_metric(&name, store.metric(), asked)?;
        Ok(Self::over(store, path))
    }

    /// The absolute path of the file.
    #[getter]
    fn path(&self) -> OsString {
        self.path.clone()
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

    /// Stores a float32 vector of shape `(dimensions,)`; an existing key's is replaced.
    fn insert(&self, py: Python<'_>, key: Key<'_>, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        let array = one_vector(vector, self.width(), "Vector")?;
        let values = array.as_slice()?;
        answered(py.detach(|| self.store.insert(key.0, values)))
    }

    /// Stores the rows of an array of shape `(n, dimensions)` and returns how many keys are new.
    ///
    /// All rows are checked before the first is visible. More than about 14,000 rows are several
    /// commits, so that other writers get their turn: what an interrupt leaves is a prefix. For
    /// all or nothing see `Batch.insert`.
    fn insert_batch(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        self.open_check()?;
        storing::insert_all(py, &self.store, keys, vectors)
    }

    /// The same as `insert_batch`; every vector is found at once either way.
    fn insert_batch_fast(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        self.open_check()?;
        storing::insert_all(py, &self.store, keys, vectors)
    }

    /// Replaces the vector of a key; `KeyNotFoundError` if there is none.
    fn update(&self, py: Python<'_>, key: Key<'_>, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        let array = one_vector(vector, self.width(), "Vector")?;
        let values = array.as_slice()?;
        answered(py.detach(|| self.store.update(key.0, values)))
    }

    /// The `k` stored vectors nearest to `query`, nearest first: exactly without an index, and
    /// with `exact`; else nearly, `ef_search`, `nprobe`, `candidates` and `num_probes`, or in their
    /// place `target_recall`, saying how nearly. Only keys of `filter`, a `KeyFilter` or keys, are
    /// found.
    #[pyo3(signature = (query, k=10, *, exact=false, ef_search=None, nprobe=None, candidates=None,
        num_probes=None, target_recall=None, filter=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn search(
        &self,
        py: Python<'_>,
        query: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = count)] k: i64,
        exact: bool,
        ef_search: Option<Count>,
        nprobe: Option<Count>,
        candidates: Option<Count>,
        num_probes: Option<Count>,
        target_recall: Option<Recall>,
        filter: Option<Filtering>,
    ) -> PyResult<Vec<SearchResult>> {
        self.open_check()?;
        let numbers = [ef_search, nprobe, candidates, num_probes];
        let given = Given { exact, numbers, target_recall, are_usual: false, filter };
        searching::one(py, &self.store, query, k, given)
    }

    /// The answers of `search` to every row of `queries`, shape `(n, dimensions)`: lists of
    /// results, or with `as_arrays` keys and scores of shape `(n, k)`.
    #[pyo3(signature = (queries, k=10, *, exact=false, ef_search=None, nprobe=None, candidates=None,
        num_probes=None, target_recall=None, filter=None, threads=None, as_arrays=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn search_batch<'py>(
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
        searching::batch(py, &self.store, queries, given, asked)
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
    #[pyo3(signature = (*, copy=None))]
    fn as_array<'py>(&self, py: Python<'py>, copy: Option<bool>) -> PyResult<Block<'py>> {
        self.open_check()?;
        let rows = [arrays::rows_of(py, &self.store)?];
        arrays::matrix(py, &rows, self.width(), copy, "compact() brings them together")
    }

    /// Every vector in read-only views of the mapped file, each with the keys of its rows.
    fn as_blocks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Block<'py>>> {
        self.open_check()?;
        arrays::blocks(py, &[arrays::rows_of(py, &self.store)?])
    }

    /// What came and went since a mark; for what is kept beside the store.
    #[pyo3(signature = (since=None))]
    fn _changes<'py>(&self, py: Python<'py>, since: Option<&[u8]>) -> PyResult<Option<Since<'py>>> {
        self.open_check()?;
        arrays::changes(py, &self.store, since)
    }

    /// The number of the database, empty while the table has had no vector, and the table's name.
    fn _identity(&self) -> PyResult<(String, &str)> {
        Ok((arrays::number(&self.store)?, self.store.name()))
    }

    /// Builds an index of that kind, beside searches and writers; returns whether the file has it.
    #[pyo3(signature = (kind="hnsw", *, threads=None, progress=None, **parameters))]
    fn _build_index(
        &self,
        py: Python<'_>,
        kind: &str,
        threads: Option<Count>,
        progress: Option<&Bound<'_, PyAny>>,
        parameters: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        self.open_check()?;
        let backend = Parameters::of("build_index", parameters)?.backend(kind)?;
        indexing::build(py, (&self.store, &self.saved), backend, threads, progress)
    }

    /// Whether the file has the index that this handle built last.
    #[getter]
    fn _saved(&self) -> Option<bool> {
        self.saved.get()
    }

    /// Has such an index built where one is built without being asked for.
    #[pyo3(signature = (kind, **parameters))]
    fn _want(&self, kind: &str, parameters: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.store.want(Parameters::of("_want", parameters)?.backend(kind)?);
        Ok(())
    }

    /// What a cascade was built with, `None` for any other index.
    fn _cascade<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let built = answered(py.detach(|| self.store.cascade_parameters()))?;
        built.map(|built| indexing::cascade(py, &built)).transpose()
    }

    /// Keeps rows as `initialize` of a gravity well takes them, for the centroids of builds.
    fn _keep_sample(&self, sample_vectors: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open_check()?;
        storing::keep_sample(&self.store, sample_vectors)
    }

    /// Entries of each cell of an inverted file, `None` for any other index.
    fn _cell_sizes(&self, py: Python<'_>) -> PyResult<Option<Vec<usize>>> {
        answered(py.detach(|| self.store.cell_sizes()))
    }

    /// What the index is and holds, or `None`.
    fn index_stats<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        indexing::index_stats(py, &self.store)
    }

    /// The recall that a search is to reach that is told nothing.
    #[getter]
    fn _aim(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        answered(py.detach(|| self.store.aim()))
    }

    /// Recall, `k` and queries of searches with `ef_search`, `nprobe`, `candidates`, `num_probes`.
    fn _recall(
        &self,
        py: Python<'_>,
        k: usize,
        queries: usize,
        numbers: [Option<Count>; 4],
    ) -> PyResult<(f64, usize, usize)> {
        self.open_check()?;
        searching::recall(py, &self.store, (k, queries), numbers)
    }

    /// Whether an index is searched in place of the exact scan.
    #[getter]
    fn has_index(&self, py: Python<'_>) -> PyResult<bool> {
        answered(py.detach(|| self.store.has_index()))
    }

    /// The stored vector, bit for bit, as a new float32 array, or `None`.
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let vector = answered(self.store.get(key.0))?;
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

    /// Deletes the key; `False` if there was none.
    fn delete(&self, py: Python<'_>, key: Key<'_>) -> PyResult<bool> {
        answered(py.detach(|| self.store.remove(key.0)))
    }

    fn __delitem__(&self, py: Python<'_>, key: Key<'_>) -> PyResult<()> {
        let name = key.0;
        if self.delete(py, key)? { Ok(()) } else { Err(key_not_found(name)) }
    }

    fn __contains__(&self, key: Key<'_>) -> PyResult<bool> {
        answered(self.store.contains(key.0))
    }

    fn __len__(&self) -> PyResult<usize> {
        self.open_check()?;
        Ok(self.store.len())
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// The live keys, sorted.
    fn keys(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        answered(py.detach(|| self.store.keys_matching(&Pattern::All)))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(py, self.keys(py)?)?.try_iter()
    }

    /// Returns once everything that was written is on the medium.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.store.sync()))
    }

    /// As `flush`, and saves a checkpoint beside the file, from which it opens fast.
    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.store.checkpoint()))
    }

    /// Moves a reader to the newest commit; whether there was one.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        self.open_check()?;
        answered(py.detach(|| self.database.refresh()))
    }

    /// Sizes and counts of the file.
    #[pyo3(signature = (usage=true))]
    fn stats<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = convert::usage)] usage: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.open_check()?;
        jobs::stats(py, &self.database, usage)
    }

    /// Reads every byte of the file against its checksums and reports what is damaged.
    #[pyo3(signature = (progress=None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.open_check()?;
        jobs::verify(py, &self.database, progress)
    }

    /// Rewrites the whole file without what is dead.
    #[pyo3(signature = (skip_damaged=false, *, keep_history=None, progress=None))]
    fn compact<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = convert::skip_damaged)] skip_damaged: bool,
        keep_history: Option<&Bound<'py, PyAny>>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.open_check()?;
        jobs::compact(py, &self.database, (skip_damaged, keep_history), progress)
    }

    /// Copies the whole file, as of its newest commit, into a new file.
    #[pyo3(signature = (path, progress=None))]
    fn backup<'py>(
        &self,
        py: Python<'py>,
        path: &Bound<'py, PyAny>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.open_check()?;
        jobs::backup(py, &self.database, path, progress)
    }

    /// Closes the handle; repeatable. Other handles on the file go on.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.store.close_handle()))
    }

    /// A handle travels to another process as its path, configuration and options.
    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(StoreArguments, Bound<'py, PyDict>)> {
        self.open_check()?;
        let keywords = opening::keywords(py, &self.database.settings())?;
        keywords.set_item("name", self.store.name())?;
        keywords.set_item("index_threshold", self.store.index_threshold())?;
        keywords.set_item("target_recall", self.store.target_recall())?;
        Ok(((self.path.clone(), self.width(), self.metric()), keywords))
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
        let (path, width, metric) = (&this.path, this.width(), this.metric());
        Ok(format!("{name}({path:?}, dimensions={width}, metric='{metric}'{state})"))
    }
}
