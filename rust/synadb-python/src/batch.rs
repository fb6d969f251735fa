//! `Batch`: changes that become visible together, or not at all.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use synadb::{SynaDB, Value, WriteBatch};

use crate::bulk::one_dimensional;
use crate::convert::{Blob, Held, Text, answered};
use crate::errors::invalid_argument;
use crate::numpy::float_array;

/// Changes gathered in memory until the block ends.
#[pyclass(frozen, module = "synadb._native")]
pub struct Batch {
    database: SynaDB,
    pending: Mutex<Pending>,
}

struct Pending {
    changes: WriteBatch,
    ended: bool,
}

impl Batch {
    /// An empty batch on a handle.
    pub fn new(database: SynaDB) -> Self {
        let pending = Pending { changes: WriteBatch::new(), ended: false };
        Self { database, pending: Mutex::new(pending) }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut WriteBatch) -> synadb::Result<()>) -> PyResult<()> {
        let mut pending = self.lock();
        if pending.ended {
            return Err(ended());
        }
        answered(change(&mut pending.changes))
    }

    fn store(&self, key: &str, value: Value) -> PyResult<()> {
        self.change(|changes| changes.put(key, value))
    }

    fn end(&self) -> PyResult<WriteBatch> {
        let mut pending = self.lock();
        if mem::replace(&mut pending.ended, true) {
            return Err(ended());
        }
        Ok(mem::replace(&mut pending.changes, WriteBatch::new()))
    }
}

fn ended() -> PyErr {
    invalid_argument("batch", "it has ended: it was committed or rolled back".to_owned())
}

#[pymethods]
impl Batch {
    /// Adds a value of the type that the Python object has; types as in `SynaDB.put`.
    fn put(&self, key: Text<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = Held::from_object(value)?.as_value().to_owned();
        self.store(key.0, value)
    }

    /// Adds a float64.
    fn put_float(&self, key: Text<'_>, value: f64) -> PyResult<()> {
        self.store(key.0, Value::Float(value))
    }

    /// Adds a signed 64-bit integer.
    fn put_int(&self, key: Text<'_>, value: i64) -> PyResult<()> {
        self.store(key.0, Value::Int(value))
    }

    /// Adds a text.
    fn put_text(&self, key: Text<'_>, value: Text<'_>) -> PyResult<()> {
        self.store(key.0, Value::Text(value.0.to_owned()))
    }

    /// Adds bytes, from any buffer.
    fn put_bytes(&self, key: Text<'_>, value: Blob<'_>) -> PyResult<()> {
        self.store(key.0, Value::Bytes(value.0.into_owned()))
    }

    /// Adds the stored absence of a value.
    fn put_null(&self, key: Text<'_>) -> PyResult<()> {
        self.store(key.0, Value::Null)
    }

    /// Adds the numbers of a 1-D array to one history and returns how many.
    fn append_many(&self, key: Text<'_>, values: &Bound<'_, PyAny>) -> PyResult<usize> {
        let array = one_dimensional(float_array::<f64>(values)?)?;
        let values = array.as_slice()?;
        self.change(|changes| changes.append_floats(key.0, values).map(|_| ()))?;
        Ok(values.len())
    }

    /// Adds the deletion of a key; that of an absent key changes nothing.
    fn delete(&self, key: Text<'_>) -> PyResult<()> {
        self.change(|changes| changes.delete(key.0))
    }

    fn __setitem__(&self, key: Text<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value)
    }

    fn __delitem__(&self, key: Text<'_>) -> PyResult<()> {
        self.delete(key)
    }

    fn __len__(&self) -> usize {
        self.lock().changes.len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// Makes the changes visible together and ends the batch; the commit's sequence number,
    /// `None` if nothing was to be written.
    fn commit(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let changes = self.end()?;
        answered(py.detach(|| self.database.commit(&changes)))
    }

    /// Drops the changes and ends the batch.
    fn rollback(&self) -> PyResult<()> {
        self.end().map(|_| ())
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if slf.get().lock().ended { Err(ended()) } else { Ok(slf) }
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        _exc_value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let ended = self.lock().ended;
        if ended {
            Ok(())
        } else if exc_type.is_none() {
            self.commit(py).map(|_| ())
        } else {
            self.rollback()
        }
    }
}
