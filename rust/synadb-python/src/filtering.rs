//! `KeyFilter`: which keys a search may return.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use synadb::vector;

use crate::convert::{Key, names_of, tuple_of_any_keys};
use crate::errors::invalid_argument;

/// Keys that a search may return: `store.search(query, filter=KeyFilter(prefix="en:"))`.
///
/// One of `keys` (an iterable of `str`), `prefix` and `glob` (`*`, `?`, `[a-z]`, `[!a-z]`) says
/// which; with `exclude`, and of `~filter`, all others. `key in filter` tells of one. A filter is
/// made for no store in particular. The first search of a store finds the rows that it allows, in a
/// time in proportion to the keys, for a prefix or a glob to the rows of the store; later searches
/// look only at what came since, so keep a filter that is used again: indexes come to copy the codes of
/// its rows, too, and later searches look at these alone. It pickles.
///
/// Raises `InvalidArgumentError` unless exactly one of the three is given, `TypeError` for an item
/// that is no `str`.
///
/// >>> import synadb
/// >>> with synadb.VectorStore("filtered.db", dimensions=2) as store:
/// ...     _ = store.insert_batch(["en:sun", "de:sonne"], [[1.0, 0.0], [0.9, 0.1]])
/// ...     german = synadb.KeyFilter(prefix="de:")
/// ...     [hit.key for hit in store.search([1.0, 0.0], filter=german)]
/// ...     [hit.key for hit in store.search([1.0, 0.0], filter=~german)]
/// ['de:sonne']
/// ['en:sun']
#[pyclass(frozen, module = "synadb._native")]
pub struct KeyFilter {
    filter: Arc<vector::KeyFilter>,
    rule: Rule,
    exclude: bool,
}

/// What was asked for, to be shown and to be pickled; the filter has the keys.
#[derive(Clone)]
enum Rule {
    Keys,
    Prefix(String),
    Glob(String),
}

impl KeyFilter {
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.filter.keys().into_iter().flatten()
    }
}

/// A filter of the keys of an argument.
fn filter_of(keys: &Bound<'_, PyAny>, argument: &str) -> PyResult<vector::KeyFilter> {
    Ok(vector::KeyFilter::of_keys(names_of(&tuple_of_any_keys(keys, argument)?)?))
}

#[pymethods]
impl KeyFilter {
    #[new]
    #[pyo3(signature = (keys=None, *, prefix=None, glob=None, exclude=false))]
    fn new(
        keys: Option<&Bound<'_, PyAny>>,
        prefix: Option<String>,
        glob: Option<String>,
        exclude: bool,
    ) -> PyResult<Self> {
        let (rule, filter) = match (keys, prefix, glob) {
            (Some(keys), None, None) => (Rule::Keys, filter_of(keys, "keys")?),
            (None, Some(prefix), None) => {
                let filter = vector::KeyFilter::with_prefix(&prefix);
                (Rule::Prefix(prefix), filter)
            }
            (None, None, Some(glob)) => {
                let filter = vector::KeyFilter::matching(&glob);
                (Rule::Glob(glob), filter)
            }
            (keys, prefix, glob) => {
                let given = [keys.is_some(), prefix.is_some(), glob.is_some()];
                let count = given.iter().filter(|is_given| **is_given).count();
                let reason = format!("one of keys, prefix and glob must be given, got {count}");
                return Err(invalid_argument("keys", reason));
            }
        };
        let filter = Arc::new(if exclude { filter.except() } else { filter });
        Ok(Self { filter, rule, exclude })
    }

    fn __contains__(&self, key: Key<'_>) -> bool {
        self.filter.allows(key.0)
    }

    fn __invert__(&self) -> Self {
        let filter = Arc::new(self.filter.except());
        Self { filter, rule: self.rule.clone(), exclude: !self.exclude }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let rule = match &self.rule {
            Rule::Keys => format!("<{} keys>", self.keys().count()),
            Rule::Prefix(prefix) => format!("prefix={}", prefix.into_pyobject(py)?.repr()?),
            Rule::Glob(glob) => format!("glob={}", glob.into_pyobject(py)?.repr()?),
        };
        let exclude = if self.exclude { ", exclude=True" } else { "" };
        Ok(format!("KeyFilter({rule}{exclude})"))
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let options = PyDict::new(py);
        match &self.rule {
            Rule::Keys => {
                options.set_item("keys", PyList::new(py, self.keys().collect::<Vec<_>>())?)?
            }
            Rule::Prefix(prefix) => options.set_item("prefix", prefix)?,
            Rule::Glob(glob) => options.set_item("glob", glob)?,
        }
        options.set_item("exclude", self.exclude)?;
        Ok((PyTuple::empty(py), options))
    }
}

/// The filter of a search: one that was made before, or keys that only this search is for.
pub struct Filtering(pub Arc<vector::KeyFilter>);

impl<'a, 'py> FromPyObject<'a, 'py> for Filtering {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(filter) = given.cast::<KeyFilter>() {
            return Ok(Self(Arc::clone(&filter.get().filter)));
        }
        if given.try_iter().is_err() {
            let name = given.get_type().qualname()?;
            return Err(PyTypeError::new_err(format!(
                "filter must be a KeyFilter or an iterable of str, got '{name}'"
            )));
        }
        Ok(Self(Arc::new(filter_of(&given, "filter")?)))
    }
}
