//! `SearchResult`: one answer of a search.

use std::borrow::Cow;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use synadb::vector::{Hit, StoredVector};

use crate::bulk::one_dimensional;
use crate::convert::{Key, answered};
use crate::errors::invalid_argument;
use crate::numpy::owned;

/// One vector found by a search.
#[pyclass(frozen, module = "synadb._native")]
pub struct SearchResult {
    key: String,
    score: f32,
    values: Values,
    array: PyOnceLock<Py<PyArray1<f32>>>,
}

/// The vector of a result. That of a search is copied when it is asked for: most are not.
enum Values {
    Stored(StoredVector),
    Given(Vec<f32>),
}

/// What pickle rebuilds a result from.
type Reduced<'py> = (Bound<'py, PyType>, (String, f32, Bound<'py, PyArray1<f32>>));

impl From<Hit> for SearchResult {
    fn from(Hit { key, score, vector }: Hit) -> Self {
        Self { key, score, values: Values::Stored(vector), array: PyOnceLock::new() }
    }
}

impl SearchResult {
    fn values(&self) -> PyResult<Cow<'_, [f32]>> {
        match &self.values {
            Values::Stored(vector) => answered(vector.read()).map(Cow::Owned),
            Values::Given(values) => Ok(Cow::Borrowed(values)),
        }
    }
}

#[pymethods]
impl SearchResult {
    #[new]
    fn new(key: Key<'_>, score: f64, vector: &Bound<'_, PyAny>) -> PyResult<Self> {
        let narrow = score as f32;
        if narrow.is_infinite() && score.is_finite() {
            let reason = format!("it must fit a float32, got {score}");
            return Err(invalid_argument("score", reason));
        }
        let vector = one_dimensional::<f32>(vector, "vector")?.as_slice()?.to_vec();
        let (values, array) = (Values::Given(vector), PyOnceLock::new());
        Ok(Self { key: key.0.to_owned(), score: narrow, values, array })
    }

    /// The key under which the vector is stored.
    #[getter]
    fn key(&self) -> &str {
        &self.key
    }

    /// The distance to the query; smaller is nearer for every metric.
    #[getter]
    fn score(&self) -> f64 {
        f64::from(self.score)
    }

    /// The stored vector as it was found, float32 of shape `(dimensions,)`. O(dimensions) the first
    /// time, when it is read from the file and verified; raises `CorruptionError`.
    #[getter]
    fn vector<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyArray1<f32>>> {
        let read = || PyResult::Ok(owned(py, self.values()?.into_owned()).unbind());
        Ok(self.array.get_or_try_init(py, read)?.bind(py))
    }

    fn __eq__(&self, other: &Self) -> PyResult<bool> {
        let alike = self.key == other.key && self.score == other.score;
        Ok(alike && self.values()? == other.values()?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let result = slf.get();
        let parts = (result.key.clone(), result.score, result.vector(slf.py())?.clone());
        Ok((slf.get_type(), parts))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = PyString::new(py, &self.key);
        Ok(format!("SearchResult(key={}, score={})", key.repr()?, self.score))
    }
}
