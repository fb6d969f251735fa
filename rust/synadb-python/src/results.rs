//! `SearchResult`: one answer of a search.

use std::ops::Range;
use std::sync::Arc;

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use synadb::vector::Hit;

use crate::bulk::one_dimensional;
use crate::convert::Key;
use crate::errors::invalid_argument;
use crate::numpy::owned;

/// Results share the memory of their vectors up to so much: who keeps one of them keeps no more.
const SHARED_BYTES: usize = 64 << 10;

/// One vector found by a search.
#[pyclass(frozen, module = "synadb._native")]
pub struct SearchResult {
    key: String,
    score: f32,
    /// Those of all results of the search, or its own: to copy them at once takes less than one by
    /// one.
    vectors: Arc<Vec<f32>>,
    /// Where its own lies.
    own: Range<usize>,
    array: PyOnceLock<Py<PyArray1<f32>>>,
}

/// What pickle rebuilds a result from.
type Reduced<'py> = (Bound<'py, PyType>, (String, f32, Bound<'py, PyArray1<f32>>));

impl SearchResult {
    /// Hits with their vectors, which lie side by side.
    pub fn of_hits(hits: Vec<Hit>, vectors: Vec<f32>) -> Vec<Self> {
        let wide = vectors.len() / hits.len().max(1);
        let is_shared = size_of_val(&vectors[..]) <= SHARED_BYTES;
        let vectors = Arc::new(vectors);
        let result = |(index, hit): (usize, Hit)| {
            let own = index * wide..(index + 1) * wide;
            let (vectors, own) = match is_shared {
                true => (Arc::clone(&vectors), own),
                false => (Arc::new(vectors[own].to_vec()), 0..wide),
            };
            Self { key: hit.key, score: hit.score, vectors, own, array: PyOnceLock::new() }
        };
        hits.into_iter().enumerate().map(result).collect()
    }

    fn values(&self) -> &[f32] {
        &self.vectors[self.own.clone()]
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
        let own = 0..vector.len();
        let (key, vectors, array) = (key.0.to_owned(), Arc::new(vector), PyOnceLock::new());
        Ok(Self { key, score: narrow, vectors, own, array })
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
        self.array.get_or_init(py, || owned(py, self.values().to_vec()).unbind()).bind(py)
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.key == other.key && self.score == other.score && self.values() == other.values()
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
