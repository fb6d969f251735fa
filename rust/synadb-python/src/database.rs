//! `Database`: the key-value store, base class of `synadb.SynaDB`.

use std::borrow::Cow;
use std::ffi::OsString;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyBytes, PyDict, PyIterator, PyList, PyString};
use synadb::{Pattern, ValueRef};

use crate::batch::{Batch, Transaction};
use crate::bulk;
use crate::convert::{
    self, Blob, Glob, Held, Integer, Interval, Key, Prefix, Seconds, Share, Text, Unsigned,
    absolute_path, answered, into_object, to_object,
};
use crate::errors::{closed, key_not_found, type_mismatch};
use crate::interrupt::on_worker;
use crate::jobs;
use crate::numpy::owned;
use crate::opening::{self, Opening};
use crate::reports;

/// An argument as Python gave it.
type Given<'a, 'py> = &'a Bound<'py, PyAny>;

/// One handle on a database file.
#[pyclass(frozen, subclass, module = "synadb._native")]
pub struct Database {
    database: synadb::SynaDB,
    path: OsString,
}

impl Database {
    /// The engine's handle.
    pub fn engine(&self) -> &synadb::SynaDB {
        &self.database
    }

    /// Appends one value: at once where nothing blocks, else with the GIL released.
    fn store(&self, py: Python<'_>, key: &str, value: &ValueRef<'_>) -> PyResult<u64> {
        match answered(self.database.try_put(key, value))? {
            Some(offset) => Ok(offset),
            None => answered(py.detach(|| self.database.put(key, value))),
        }
    }

    /// The newest value through `take`, which answers `None` for a value of another type.
    fn typed<R>(
        &self,
        key: &str,
        expected: &'static str,
        take: impl FnOnce(&ValueRef<'_>) -> Option<R>,
    ) -> PyResult<Option<R>> {
        let found = answered(self.database.get_with(key, |value| match value {
            None => Ok(None),
            Some(value) => take(&value).map(Some).ok_or(value.type_name()),
        }))?;
        found.map_err(|found| type_mismatch(key, expected, found))
    }

    fn newest<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let read = self
            .database
            .get_with(key, |value| value.map(|value| to_object(py, &value)).transpose());
        answered(read)?
    }
}

#[pymethods]
impl Database {
    #[new]
    #[pyo3(signature = (path, sync_on_write=true, *, config=None, access="shared",
        lock_timeout=None, checkpoint_bytes=None, create=true, maintenance="thread", auto_compact=None,
        auto_compact_history=true, sync_interval=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = convert::sync_on_write)] sync_on_write: bool,
        config: Option<&Bound<'_, PyAny>>,
        access: &str,
        lock_timeout: Option<Seconds>,
        checkpoint_bytes: Option<Unsigned>,
        #[pyo3(from_py_with = convert::create)] create: bool,
        maintenance: &str,
        auto_compact: Option<Share>,
        #[pyo3(from_py_with = convert::auto_compact_history)] auto_compact_history: bool,
        sync_interval: Option<Interval>,
    ) -> PyResult<Self> {
        let mut opening = Opening::new(access, lock_timeout, sync_on_write)?;
        opening.maintain(maintenance)?;
        opening.sync_after(sync_interval)?;
        opening.compact_by_itself(auto_compact, auto_compact_history)?;
        opening.apply(config, checkpoint_bytes.map(|bytes| bytes.0), create)?;
        let file = absolute_path(path, "path")?;
        let path = file.clone().into_os_string();
        let database = opening::open(py, opening, move |options| options.open(&file))?;
        Ok(Self { database, path })
    }

    /// The absolute path of the file.
    #[getter]
    fn path(&self) -> OsString {
        self.path.clone()
    }

    /// Whether the handle is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.database.is_closed()
    }

    /// Appends a float64 to the history of `key` and returns the record's offset.
    fn put_float(&self, py: Python<'_>, key: Key<'_>, value: f64) -> PyResult<u64> {
        self.store(py, key.0, &ValueRef::Float(value))
    }

    /// Appends a signed 64-bit integer; `OverflowError` beyond, and nothing is written.
    fn put_int(&self, py: Python<'_>, key: Key<'_>, value: Integer) -> PyResult<u64> {
        self.store(py, key.0, &ValueRef::Int(value.0))
    }

    /// Appends a text, kept exactly, NUL included; lone surrogates are refused.
    fn put_text(&self, py: Python<'_>, key: Key<'_>, value: Text<'_>) -> PyResult<u64> {
        self.store(py, key.0, &ValueRef::Text(Cow::Borrowed(value.0)))
    }

    /// Appends bytes, from any buffer; empty ones too.
    fn put_bytes(&self, py: Python<'_>, key: Key<'_>, value: Blob<'_>) -> PyResult<u64> {
        self.store(py, key.0, &ValueRef::Bytes(value.0))
    }

    /// Appends the stored absence of a value, which the generic `get` reads as `None`.
    fn put_null(&self, py: Python<'_>, key: Key<'_>) -> PyResult<u64> {
        self.store(py, key.0, &ValueRef::Null)
    }

    /// Appends a float32 vector of shape `(n,)`, n at most 65,535.
    fn put_vector(&self, py: Python<'_>, key: Key<'_>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        let array = bulk::one_dimensional::<f32>(value, "value")?;
        self.store(py, key.0, &ValueRef::Vector(Cow::Borrowed(array.as_slice()?)))
    }

    /// Appends a value of the type that the Python object has and returns the record's offset.
    ///
    /// `None`, `bool` (as int), `int`, `float`, `str`, bytes-like, numpy scalars, and a 1-D float32
    /// array as a vector; anything else is a `TypeError`.
    fn put(&self, py: Python<'_>, key: Key<'_>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.store(py, key.0, &Held::from_object(value)?.as_value())
    }

    /// The same as `put`, under the name of the Rust crate.
    fn append(&self, py: Python<'_>, key: Key<'_>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.put(py, key, value)
    }

    /// The newest value, `None` for an absent key, `TypeMismatchError` if it is no float.
    fn get_float(&self, key: Key<'_>) -> PyResult<Option<f64>> {
        self.typed(key.0, "float", |value| match value {
            ValueRef::Float(value) => Some(*value),
            _ => None,
        })
    }

    /// The newest value, `None` for an absent key, `TypeMismatchError` if it is no int.
    fn get_int(&self, key: Key<'_>) -> PyResult<Option<i64>> {
        self.typed(key.0, "int", |value| match value {
            ValueRef::Int(value) => Some(*value),
            _ => None,
        })
    }

    /// The newest value, `None` for an absent key, `TypeMismatchError` if it is no text.
    fn get_text<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        self.typed(key.0, "text", |value| match value {
            ValueRef::Text(value) => Some(PyString::new(py, value)),
            _ => None,
        })
    }

    /// The newest value, `None` for an absent key, `TypeMismatchError` if it is no bytes.
    fn get_bytes<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.typed(key.0, "bytes", |value| match value {
            ValueRef::Bytes(value) => Some(PyBytes::new(py, value)),
            _ => None,
        })
    }

    /// The newest value as a new float32 array of shape `(n,)`, or as the other typed gets.
    fn get_vector<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let vector = self.typed(key.0, "vector", |value| match value {
            ValueRef::Vector(value) => Some(value.to_vec()),
            _ => None,
        })?;
        Ok(vector.map(|vector| owned(py, vector)))
    }

    /// The newest value in its Python type, or `default` for an absent key.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.newest(py, key.0)?.or(default))
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: Key<'_>) -> PyResult<Bound<'py, PyAny>> {
        self.newest(py, key.0)?.ok_or_else(|| key_not_found(key.0))
    }

    fn __setitem__(&self, py: Python<'_>, key: Key<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(py, key, value).map(|_| ())
    }

    fn __delitem__(&self, py: Python<'_>, key: Key<'_>) -> PyResult<()> {
        let name = key.0;
        if self.delete(py, key)? { Ok(()) } else { Err(key_not_found(name)) }
    }

    /// Deletes the key and its history; `False` if there was none, and then nothing is written.
    fn delete(&self, py: Python<'_>, key: Key<'_>) -> PyResult<bool> {
        answered(py.detach(|| self.database.remove(key.0)))
    }

    /// Whether the key has a value; the same as `key in db`.
    fn exists(&self, key: Key<'_>) -> PyResult<bool> {
        answered(self.database.contains(key.0))
    }

    fn __contains__(&self, key: Key<'_>) -> PyResult<bool> {
        answered(self.database.contains(key.0))
    }

    fn __len__(&self) -> PyResult<usize> {
        if self.database.is_closed() {
            return Err(closed());
        }
        Ok(self.database.len())
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let keys = answered(py.detach(|| self.database.keys_matching(&Pattern::All)))?;
        PyList::new(py, keys)?.try_iter()
    }

    /// The live keys, sorted; those that match a shell pattern (as `fnmatch`) or have a prefix.
    #[pyo3(signature = (pattern=None, *, prefix=None))]
    fn keys(
        &self,
        py: Python<'_>,
        pattern: Option<Glob<'_>>,
        prefix: Option<Prefix<'_>>,
    ) -> PyResult<Vec<String>> {
        let prefix = prefix.map(|prefix| prefix.0);
        let wanted = match (pattern, prefix) {
            (Some(pattern), _) => Pattern::Glob(pattern.0.into()),
            (None, Some(prefix)) => Pattern::Prefix(prefix.to_owned()),
            (None, None) => Pattern::All,
        };
        let mut keys = answered(py.detach(|| self.database.keys_matching(&wanted)))?;
        if let Some(prefix) = prefix {
            keys.retain(|key| key.starts_with(prefix));
        }
        Ok(keys)
    }

    /// The same as `append_many`.
    fn put_floats_batch(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        values: Given<'_, '_>,
    ) -> PyResult<usize> {
        self.append_many(py, key, values)
    }

    /// Appends the numbers of a 1-D array, as float64, to one history and returns how many.
    ///
    /// Each 262,144 are a commit; what an interrupt leaves is a prefix. All or nothing: `batch`.
    fn append_many(&self, py: Python<'_>, key: Key<'_>, values: Given<'_, '_>) -> PyResult<usize> {
        bulk::append_many(py, &self.database, key.0, values)
    }

    /// Stores a mapping's items, or `values` under the keys `items`, and returns how many.
    ///
    /// Everything is checked before anything is stored. A large call is several commits: what an
    /// interrupt leaves is a prefix. For all or nothing see `batch`.
    #[pyo3(signature = (items, values=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        values: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        bulk::put_many(py, &self.database, items, values)
    }

    /// The newest value of each key in the order of the keys, `default` for absent ones.
    #[pyo3(signature = (keys, default=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        bulk::get_many(py, &self.database, keys, default)
    }

    /// Every value of the key since its last deletion, oldest first, each in its own type.
    fn history<'py>(&self, py: Python<'py>, key: Key<'_>) -> PyResult<Bound<'py, PyList>> {
        let values = answered(py.detach(|| self.database.get_history(key.0)))?;
        let list = PyList::empty(py);
        for value in values {
            list.append(into_object(py, value)?)?;
        }
        Ok(list)
    }

    /// The floats of the key's history, oldest first, as a float64 array of shape `(n,)`.
    ///
    /// Values of other types are skipped; `history` gives all. The array owns its memory.
    fn get_history_tensor<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let values = answered(py.detach(|| self.database.get_history_floats(key.0)))?;
        Ok(owned(py, values))
    }

    /// A batch: `with db.batch() as b:` commits its changes together at the end of the block.
    ///
    /// With `expect`, a sequence number, it commits only if no key of the batch or of `reads` was
    /// changed after that commit; `ConflictError` otherwise, and nothing is written. So it is too
    /// where that is not known: a compaction that dropped histories (any but one with
    /// `keep_history=True`) forgets what became of keys that have no value by then.
    #[pyo3(signature = (*, expect=None, reads=None))]
    fn batch(
        &self,
        py: Python<'_>,
        expect: Option<Unsigned>,
        reads: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Batch> {
        Batch::expecting(py, &self.database, expect, reads)
    }

    /// A transaction: `with db.transaction() as t:` holds the write lock from here to the end of
    /// the block, so that what is read is still true when its changes are committed together.
    /// Other writers, threads and processes, wait for its end as long as their `lock_timeout`.
    fn transaction(&self, py: Python<'_>) -> PyResult<Py<Transaction>> {
        Transaction::begin(py, &self.database)
    }

    /// Sequence number of the last commit that this handle sees.
    #[getter]
    fn sequence(&self, py: Python<'_>) -> PyResult<u64> {
        answered(py.detach(|| self.database.sequence()))
    }

    /// Sequence number of the commit that gave `key` its newest value; `None` for an absent key.
    fn version(&self, py: Python<'_>, key: Key<'_>) -> PyResult<Option<u64>> {
        answered(py.detach(|| self.database.version(key.0)))
    }

    /// Rewrites the file without what is dead.
    #[pyo3(signature = (skip_damaged=false, *, keep_history=None, progress=None))]
    fn compact<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = convert::skip_damaged)] skip_damaged: bool,
        keep_history: Option<&Bound<'py, PyAny>>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        jobs::compact(py, &self.database, (skip_damaged, keep_history), progress)
    }

    /// Saves the key map, so that the next opening reads only what is written after it.
    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        let database = self.database.clone();
        answered(on_worker(py, move |_| database.checkpoint())?)
    }

    /// Returns once everything that was written is on the medium.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.database.sync()))
    }

    /// Moves a reader to the newest commit; whether there was one.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        answered(py.detach(|| self.database.refresh()))
    }

    /// Sizes and counts of the file.
    #[pyo3(signature = (usage=true))]
    fn stats<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = convert::usage)] usage: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        jobs::stats(py, &self.database, usage)
    }

    /// Reads every byte of the file against its checksums and reports what is damaged.
    #[pyo3(signature = (progress=None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        jobs::verify(py, &self.database, progress)
    }

    /// Copies the database, as of its newest commit, into a new file.
    #[pyo3(signature = (path, progress=None))]
    fn backup<'py>(
        &self,
        py: Python<'py>,
        path: &Bound<'py, PyAny>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        jobs::backup(py, &self.database, path, progress)
    }

    /// What opening the file found.
    ///
    /// A dict: `tail`, where the log ended; `replayed_from`, `commits_replayed`; `torn`, whether
    /// something behind was no whole commit, or followed what was none: `bytes_dropped` of it went,
    /// from `dropped_from` to `dropped_to`, with `commits_dropped` whole commits in them;
    /// `needs_recovery`, whether it is still there because the handle only reads.
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        reports::recovery(py, &answered(self.database.recovery())?)
    }

    /// Closes the handle; repeatable. Other handles on the file go on.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        answered(py.detach(|| self.database.close_handle()))
    }

    /// A handle travels to another process as its path and options.
    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<((OsString,), Bound<'py, PyDict>)> {
        if self.database.is_closed() {
            return Err(closed());
        }
        let keywords = opening::database_keywords(py, &self.database.settings())?;
        Ok(((self.path.clone(),), keywords))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if slf.get().database.is_closed() { Err(closed()) } else { Ok(slf) }
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

    fn __repr__(&self) -> String {
        let state = if self.database.is_closed() { ", closed" } else { "" };
        format!("SynaDB({:?}{state})", self.path)
    }
}
