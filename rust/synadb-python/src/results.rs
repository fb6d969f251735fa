//! `SearchResult`: one answer of a search.

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use crate::bulk::one_dimensional;
use crate::convert::Key;
use crate::errors::invalid_argument;
use crate::numpy::owned;

/// One vector found by a search.
#[pyclass(frozen, module = "synadb._native")]
pub struct SearchResult {
    key: String,
    score: f32,
    vector: Vec<f32>,
    array: PyOnceLock<Py<PyArray1<f32>>>,
}

/// What pickle rebuilds a result from.
type Reduced<'py> = (Bound<'py, PyType>, (String, f32, Bound<'py, PyArray1<f32>>));

impl SearchResult {
    /// A hit with the vector that it stands for.
    pub fn found(vector: Vec<f32>, hit: synadb::vector::Hit) -> Self {
        Self { key: hit.key, score: hit.score, vector, array: PyOnceLock::new() }
    }
}

impl From<synadb::vector::SearchResult> for SearchResult {
    fn from(found: synadb::vector::SearchResult) -> Self {
        let synadb::vector::SearchResult { key, score, vector, .. } = found;
        Self { key, score, vector, array: PyOnceLock::new() }
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
        Ok(Self { key: key.0.to_owned(), score: narrow, vector, array: PyOnceLock::new() })
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

    /// The stored vector, float32 of shape `(dimensions,)`.
    #[getter]
    fn vector<'py>(&self, py: Python<'py>) -> &Bound<'py, PyArray1<f32>> {
        self.array.get_or_init(py, || owned(py, self.vector.clone()).unbind()).bind(py)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.key == other.key && self.score == other.score && self.vector == other.vector
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> Reduced<'py> {
        let result = slf.get();
        let parts = (result.key.clone(), result.score, result.vector(slf.py()).clone());
        (slf.get_type(), parts)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let key = PyString::new(py, &self.key);
        Ok(format!("SearchResult(key={}, score={})", key.repr()?, self.score))
    }
}
