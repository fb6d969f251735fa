//! Searching a vector store: what is asked, and how it is answered.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyList;
use synadb::arch::ResultSource;
use synadb::vector::{Hit, SearchOptions, VectorStore};

use crate::arrays::{self, Answered, Asked};
use crate::convert::{Count, Recall, answered, wrong_type};
use crate::errors::invalid_argument;
use crate::filtering::Filtering;
use crate::indexing::positive;
use crate::numpy::{matrix, vector};
use crate::results::SearchResult;

/// Options of a search that were given.
pub struct Given {
    pub exact: bool,
    /// `ef_search`, `nprobe`, `candidates` and `num_probes`.
    pub numbers: [Option<Count>; 4],
    pub target_recall: Option<Recall>,
    /// Whether the numbers are those of the store's class, which a recall goes before.
    pub are_usual: bool,
    pub filter: Option<Filtering>,
}

impl Given {
    /// How the search is to be done.
    ///
    /// # Errors
    /// As `positive`.
    pub fn options(self) -> PyResult<SearchOptions> {
        let [ef_search, nprobe, candidates, num_probes] = self.numbers;
        Ok(SearchOptions {
            exact: self.exact,
            ef_search: positive("ef_search", ef_search)?,
            nprobe: positive("nprobe", nprobe)?,
            candidates: positive("candidates", candidates)?,
            num_probes: positive("num_probes", num_probes)?,
            target_recall: self.target_recall.map(|recall| recall.0),
            are_usual: self.are_usual,
            filter: self.filter.map(|filter| filter.0),
        })
    }
}

/// The argument `source`: one of the two tables of a hybrid store.
#[derive(Clone, Copy)]
pub struct Source(pub ResultSource);

impl<'a, 'py> FromPyObject<'a, 'py> for Source {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let wanted = "'hot' or 'cold'";
        match obj.extract::<&str>() {
            Ok("hot") => Ok(Self(ResultSource::Hot)),
            Ok("cold") => Ok(Self(ResultSource::Cold)),
            Ok(other) => {
                Err(invalid_argument("source", format!("it must be {wanted}, got '{other}'")))
            }
            Err(_) => Err(wrong_type(&obj, "source", wanted)),
        }
    }
}

/// The `k` stored vectors nearest to `query`, nearest first.
///
/// # Errors
/// What an argument is refused for; what the engine says.
pub fn one(
    py: Python<'_>,
    store: &VectorStore,
    query: &Bound<'_, PyAny>,
    k: i64,
    given: Given,
) -> PyResult<Vec<SearchResult>> {
    let k = nearest_count(k)?;
    let options = given.options()?;
    let array = vector(query, usize::from(store.dimensions()), "Query")?;
    let query = array.as_slice()?;
    let (hits, vectors) = answered(py.detach(|| store.search_side_by_side(query, k, &options)))?;
    Ok(SearchResult::of_hits(hits, vectors))
}

/// A batch: how many hits of each query are wanted, on how many threads, and whether as arrays.
pub struct Batch {
    pub k: i64,
    pub threads: Option<Count>,
    pub as_arrays: bool,
}

/// The answers to every row of `queries` on so many threads: lists of results, or arrays.
///
/// # Errors
/// As `one`; what the handler of a signal raises.
pub fn batch<'py>(
    py: Python<'py>,
    store: &VectorStore,
    queries: &Bound<'py, PyAny>,
    given: Given,
    asked: Batch,
) -> PyResult<Bound<'py, PyAny>> {
    let width = usize::from(store.dimensions());
    let find = |queries: &[f32], k, options: &_| store.search_hits(queries, k, options);
    let answer = |queries: &[f32], k, options: &_| store.search_answers(queries, k, options);
    let results = |found| with_vectors(store, found);
    batch_with(py, (queries, width), given, asked, (find, results, answer))
}

/// As `batch`: `find` finds the nearest of some queries, and `results` makes of them what is
/// returned where no arrays are; `answer` finds what becomes arrays.
///
/// # Errors
/// As `batch`.
pub fn batch_with<'py, H: Send, R: Send + IntoPyObject<'py>, A: Answered>(
    py: Python<'py>,
    (queries, width): (&Bound<'py, PyAny>, usize),
    given: Given,
    asked: Batch,
    (find, results, answer): (
        impl Fn(&[f32], usize, &SearchOptions) -> synadb::Result<Vec<Vec<H>>> + Sync,
        impl Fn(Vec<Vec<H>>) -> synadb::Result<Vec<Vec<R>>> + Sync,
        impl Fn(&[f32], usize, &SearchOptions) -> synadb::Result<A> + Sync,
    ),
) -> PyResult<Bound<'py, PyAny>> {
    let k = nearest_count(asked.k)?;
    let options = given.options()?;
    let threads = positive("threads", asked.threads)?;
    let (array, _) = matrix(queries, width, "Queries")?;
    let asked_of = Asked { queries: array.as_slice()?, width, threads };
    if asked.as_arrays {
        let answer = |queries: &[f32]| answer(queries, k, &options);
        return arrays::search_arrays(py, &asked_of, k, &answer)?.into_bound_py_any(py);
    }
    let find = |queries: &[f32]| find(queries, k, &options);
    let answers = PyList::empty(py);
    arrays::search(py, &asked_of, &find, |found| {
        for hits in answered(py.detach(|| results(found)))? {
            answers.append(PyList::new(py, hits)?)?;
        }
        Ok(())
    })?;
    Ok(answers.into_any())
}

/// What share of the `k` nearest a search finds that is not told how, but for the numbers of the
/// store's class: recall, `k`, and how many queries were tried.
///
/// # Errors
/// What the engine says.
pub fn recall(
    py: Python<'_>,
    store: &VectorStore,
    (k, queries): (usize, usize),
    numbers: [Option<Count>; 4],
) -> PyResult<(f64, usize, usize)> {
    let (exact, target_recall, are_usual, filter) = (false, None, true, None);
    let options = Given { exact, numbers, target_recall, are_usual, filter }.options()?;
    let found = answered(py.detach(|| store.measure_recall(k, queries, &options)))?;
    Ok((found.recall, found.k, found.queries))
}

/// Hits with the vectors that they found.
fn with_vectors(
    store: &VectorStore,
    found: Vec<Vec<Hit>>,
) -> synadb::Result<Vec<Vec<SearchResult>>> {
    let results = |hits: Vec<Hit>| {
        let vectors = store.vectors_of(&hits)?;
        Ok(SearchResult::of_hits(hits, vectors))
    };
    found.into_iter().map(results).collect()
}

/// How many hits are wanted.
///
/// # Errors
/// `InvalidArgumentError` for a negative number.
pub fn nearest_count(k: i64) -> PyResult<usize> {
    usize::try_from(k).map_err(|_| invalid_argument("k", format!("it must be 0 or more, got {k}")))
}
