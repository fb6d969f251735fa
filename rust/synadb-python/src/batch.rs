//! `Batch`: changes that become visible together, or not at all.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use synadb::{SynaDB, Value, WriteBatch};

use crate::bulk::one_dimensional;
use crate::convert::{Blob, Held, Integer, Key, Text, Unsigned, answered, held_keys, into_object};
use crate::errors::{closed, invalid_argument, key_not_found};
use crate::numpy::vector as one_vector;
use crate::vectors::VectorStore;

/// Changes gathered in memory until the block ends.
#[pyclass(frozen, subclass, module = "synadb._native")]
pub struct Batch {
    database: SynaDB,
    pending: Mutex<Pending>,
}

enum Pending {
    Batch(WriteBatch),
    Transaction(synadb::Transaction),
    Ended,
}

impl Batch {
    /// A batch on a handle that commits only if its keys, and `reads`, are as of commit `expect`.
    ///
    /// # Errors
    /// `InvalidArgumentError` for a commit that is to come, and for reads without one;
    /// `DatabaseClosedError`, `TypeError`.
    pub fn expecting(
        py: Python<'_>,
        database: &SynaDB,
        expect: Option<Unsigned>,
        reads: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        if database.is_closed() {
            return Err(closed());
        }
        let mut changes = WriteBatch::new();
        if let Some(Unsigned(sequence)) = &expect {
            let last = answered(py.detach(|| database.sequence()))?;
            if *sequence > last {
                let reason = format!("no commit is {sequence} yet, the last one is {last}");
                return Err(invalid_argument("expect", reason));
            }
            changes.expect_unchanged_since(*sequence);
        }
        let reads = reads.map(|reads| held_keys(reads, "reads")).transpose()?;
        for key in reads.unwrap_or_default() {
            if expect.is_none() {
                let reason = "it needs `expect`, the sequence number of the reading".to_owned();
                return Err(invalid_argument("reads", reason));
            }
            answered(changes.read(&key))?;
        }
        Ok(Self { database: database.clone(), pending: Mutex::new(Pending::Batch(changes)) })
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut WriteBatch) -> synadb::Result<()>) -> PyResult<()> {
        match &mut *self.lock() {
            Pending::Batch(changes) => answered(change(changes)),
            Pending::Transaction(transaction) => answered(change(transaction.batch())),
            Pending::Ended => Err(ended()),
        }
    }

    fn store(&self, key: &str, value: Value) -> PyResult<()> {
        self.change(|changes| changes.put(key, value))
    }

    fn end(&self) -> PyResult<Pending> {
        match mem::replace(&mut *self.lock(), Pending::Ended) {
            Pending::Ended => Err(ended()),
            pending => Ok(pending),
        }
    }

    fn has_ended(&self) -> bool {
        matches!(*self.lock(), Pending::Ended)
    }
}

fn ended() -> PyErr {
    invalid_argument("batch", "it has ended: it was committed or rolled back".to_owned())
}

#[pymethods]
impl Batch {
    /// Adds a value of the type that the Python object has; types as in `SynaDB.put`.
    fn put(&self, key: Key<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = Held::from_object(value)?.as_value().to_owned();
        self.store(key.0, value)
    }

    /// Adds a float64.
    fn put_float(&self, key: Key<'_>, value: f64) -> PyResult<()> {
        self.store(key.0, Value::Float(value))
    }

    /// Adds a signed 64-bit integer.
    fn put_int(&self, key: Key<'_>, value: Integer) -> PyResult<()> {
        self.store(key.0, Value::Int(value.0))
    }

    /// Adds a text.
    fn put_text(&self, key: Key<'_>, value: Text<'_>) -> PyResult<()> {
        self.store(key.0, Value::Text(value.0.to_owned()))
    }

    /// Adds bytes, from any buffer.
    fn put_bytes(&self, key: Key<'_>, value: Blob<'_>) -> PyResult<()> {
        self.store(key.0, Value::Bytes(value.0.into_owned()))
    }

    /// Adds the stored absence of a value.
    fn put_null(&self, key: Key<'_>) -> PyResult<()> {
        self.store(key.0, Value::Null)
    }

    /// Adds the numbers of a 1-D array to one history and returns how many.
    fn append_many(&self, key: Key<'_>, values: &Bound<'_, PyAny>) -> PyResult<usize> {
        let array = one_dimensional::<f64>(values, "values")?;
        let values = array.as_slice()?;
        self.change(|changes| changes.append_floats(key.0, values).map(|_| ()))?;
        Ok(values.len())
    }

    /// Adds the deletion of a key; that of an absent key changes nothing.
    fn delete(&self, key: Key<'_>) -> PyResult<()> {
        self.change(|changes| changes.delete(key.0))
    }

    fn __setitem__(&self, key: Key<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value)
    }

    fn __delitem__(&self, key: Key<'_>) -> PyResult<()> {
        self.delete(key)
    }

    /// Adds a float32 vector of shape `(dimensions,)` to a store in the same file.
    fn insert(
        &self,
        store: &Bound<'_, VectorStore>,
        key: Key<'_>,
        vector: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let store = store.get().engine();
        let array = one_vector(vector, usize::from(store.dimensions()), "Vector")?;
        let values = array.as_slice()?;
        self.change(|changes| store.insert_in(changes, key.0, values))
    }

    /// Adds the deletion of a vector; that of an absent key changes nothing.
    fn remove(&self, store: &Bound<'_, VectorStore>, key: Key<'_>) -> PyResult<()> {
        self.change(|changes| store.get().engine().remove_in(changes, key.0))
    }

    /// Commits only if the last change of `key` was the commit `version`, or, for `None`, if the
    /// key has no value; `ConflictError` otherwise. See `SynaDB.version`.
    fn expect(&self, key: Key<'_>, version: Option<Unsigned>) -> PyResult<()> {
        let version = version.map(|version| version.0);
        self.change(|changes| changes.expect(key.0, version))
    }

    fn __len__(&self) -> usize {
        match &mut *self.lock() {
            Pending::Batch(changes) => changes.len(),
            Pending::Transaction(transaction) => transaction.batch().len(),
            Pending::Ended => 0,
        }
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Makes the changes visible together and ends the batch; the commit's sequence number,
    /// `None` if nothing was to be written.
    fn commit(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let pending = self.end()?;
        answered(py.detach(|| match pending {
            Pending::Batch(changes) => self.database.commit(&changes),
            Pending::Transaction(transaction) => transaction.commit(),
            Pending::Ended => Ok(None),
        }))
    }

    /// Drops the changes and ends the batch.
    fn rollback(&self) -> PyResult<()> {
        self.end().map(|_| ())
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if slf.get().has_ended() { Err(ended()) } else { Ok(slf) }
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if self.has_ended() {
            Ok(())
        } else if exc_type.is_none() {
            self.commit(py).map(|_| ())
        } else {
            self.rollback()
        }
    }
}

/// A batch that holds the write lock from its beginning on: what it reads stays true.
#[pyclass(frozen, extends = Batch, module = "synadb._native")]
pub struct Transaction;

impl Transaction {
    /// Waits for the write lock.
    pub fn begin(py: Python<'_>, database: &SynaDB) -> PyResult<Py<Self>> {
        let transaction = answered(py.detach(|| database.transaction()))?;
        let pending = Mutex::new(Pending::Transaction(transaction));
        let batch = Batch { database: database.clone(), pending };
        Py::new(py, PyClassInitializer::from(batch).add_subclass(Self))
    }

    fn with<R>(
        slf: &Bound<'_, Self>,
        read: impl FnOnce(&synadb::Transaction) -> synadb::Result<R>,
    ) -> PyResult<R> {
        match &*slf.as_super().get().lock() {
            Pending::Transaction(transaction) => answered(read(transaction)),
            _ => Err(ended()),
        }
    }
}

#[pymethods]
impl Transaction {
    /// The newest value of a key, changes of this transaction included; `default` where absent.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        key: Key<'_>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        match Self::with(slf, |transaction| transaction.get(key.0))? {
            Some(value) => into_object(py, value),
            None => Ok(default.unwrap_or_else(|| py.None().into_bound(py))),
        }
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, key: Key<'_>) -> PyResult<Bound<'py, PyAny>> {
        let found = Self::with(slf, |transaction| transaction.get(key.0))?;
        into_object(slf.py(), found.ok_or_else(|| key_not_found(key.0))?)
    }

    fn __contains__(slf: &Bound<'_, Self>, key: Key<'_>) -> PyResult<bool> {
        Self::with(slf, |transaction| transaction.contains(key.0))
    }
}
