//! Many values in one call, in pieces between which Ctrl-C is heard.

use numpy::{PyArrayDescrMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyList};
use synadb::limits::VALUE_BYTES_MAX;
use synadb::{Error, SynaDB, ValueRef, WriteBatch};

use crate::convert::{
    Held, answered, held_keys, held_str, items_of, ordered_keys, refuse_unordered, to_object,
};
use crate::errors::{closed, dimension, invalid_argument, raised};
use crate::numpy::float_array;

/// Values between two looks at the signals; the engine makes several commits of them.
const FLOATS_PER_LOOK: usize = 1 << 20;
/// Values of one commit of `put_many`.
const VALUES_PER_COMMIT: usize = 1 << 16;
/// Values read between two looks at the signals.
const READS_PER_LOOK: usize = 1 << 12;

/// The argument as an array, refused unless it has one dimension.
///
/// # Errors
/// `DimensionError` with the shape, and as `float_array`.
pub fn one_dimensional<'py, T: numpy::Element>(
    values: &Bound<'py, PyAny>,
    argument: &str,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let array = float_array::<T>(values, argument)?;
    if array.ndim() == 1 {
        return Ok(array);
    }
    let shape = array.shape();
    Err(dimension(format!("{argument}: expected a 1-D array, got shape {shape:?}")))
}

/// Appends every number of a 1-D array to the history of one key.
///
/// # Errors
/// `DimensionError` for another shape, and what the engine says.
pub fn append_many(
    py: Python<'_>,
    database: &SynaDB,
    key: &str,
    values: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    let array = one_dimensional::<f64>(values, "values")?;
    let values = array.as_slice()?;
    let mut count = answered(
        py.detach(|| database.append_floats(key, &values[..values.len().min(FLOATS_PER_LOOK)])),
    )?;
    while count < values.len() {
        py.check_signals()?;
        let piece = &values[count..values.len().min(count + FLOATS_PER_LOOK)];
        count += answered(py.detach(|| database.append_floats(key, piece)))?;
    }
    Ok(count)
}

/// Stores the items of a mapping, or `values` under the keys of `items`.
///
/// Everything is converted before the first value is stored.
///
/// # Errors
/// As `Held::from_object` and `held_str`; `InvalidArgumentError` for unequal lengths.
pub fn put_many(
    py: Python<'_>,
    database: &SynaDB,
    items: &Bound<'_, PyAny>,
    values: Option<&Bound<'_, PyAny>>,
) -> PyResult<usize> {
    check_open(database)?;
    let held = match values {
        Some(values) => paired(ordered_keys(items, "items")?, values)?,
        None => mapped(items)?,
    };
    let pairs: Vec<(&str, ValueRef<'_>)> =
        held.iter().map(|(key, value)| (&**key, value.as_value())).collect();
    if pairs.len() > VALUES_PER_COMMIT {
        check_keys(pairs.iter().map(|(key, _)| *key))?;
        check_sizes(&pairs)?;
    }
    let mut count = 0;
    for piece in pairs.chunks(VALUES_PER_COMMIT) {
        if count > 0 {
            py.check_signals()?;
        }
        count += answered(py.detach(|| database.put_many(piece)))?;
    }
    Ok(count)
}

/// Refuses a closed handle, where no later call would because there is nothing to do.
fn check_open(database: &SynaDB) -> PyResult<()> {
    if database.is_closed() { Err(closed()) } else { Ok(()) }
}

/// Refuses a bad key before the first of several commits.
///
/// # Errors
/// `EmptyKeyError`, `KeyTooLongError`.
pub fn check_keys<'a>(keys: impl Iterator<Item = &'a str>) -> PyResult<()> {
    let mut checked = WriteBatch::new();
    for key in keys {
        answered(checked.delete(key))?;
        checked.clear();
    }
    Ok(())
}

/// Refuses a value beyond the limit before the first of several commits.
fn check_sizes(pairs: &[(&str, ValueRef<'_>)]) -> PyResult<()> {
    for (key, value) in pairs {
        let bytes = match value {
            ValueRef::Text(text) => text.len(),
            ValueRef::Bytes(bytes) => bytes.len(),
            ValueRef::Vector(components) => size_of_val(&**components),
            ValueRef::Null | ValueRef::Float(_) | ValueRef::Int(_) => 0,
        };
        if bytes > VALUE_BYTES_MAX {
            return Err(raised(Error::ValueTooLarge { key: (*key).to_owned(), bytes }));
        }
    }
    Ok(())
}

/// The newest value of each key, in the order of the keys.
///
/// # Errors
/// What the engine says.
pub fn get_many<'py>(
    py: Python<'py>,
    database: &SynaDB,
    keys: &Bound<'py, PyAny>,
    default: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    check_open(database)?;
    let default = default.unwrap_or_else(|| py.None().into_bound(py));
    let list = PyList::empty(py);
    for (count, key) in held_keys(keys, "keys")?.iter().enumerate() {
        if count % READS_PER_LOOK == READS_PER_LOOK - 1 {
            py.check_signals()?;
        }
        let read =
            database.get_with(key, |value| value.map(|value| to_object(py, &value)).transpose());
        match answered(read)?? {
            Some(value) => list.append(value)?,
            None => list.append(&default)?,
        }
    }
    Ok(list)
}

fn mapped(items: &Bound<'_, PyAny>) -> PyResult<Vec<(PyBackedStr, Held)>> {
    if let Ok(dict) = items.cast::<PyDict>() {
        return dict
            .iter()
            .map(|(key, value)| Ok((held_str(&key, "key")?, Held::from_object(&value)?)))
            .collect();
    }
    if !items.hasattr("items")? {
        let name = items.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!(
            "items must be a mapping, or keys with their values, got '{name}'"
        )));
    }
    let mut held = Vec::new();
    for item in items.call_method0("items")?.try_iter()? {
        let pair = item?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>();
        let no_pair = |_| PyTypeError::new_err("items: its items() must be pairs of key and value");
        let (key, value) = pair.map_err(no_pair)?;
        held.push((held_str(&key, "key")?, Held::from_object(&value)?));
    }
    Ok(held)
}

fn paired(keys: Vec<PyBackedStr>, values: &Bound<'_, PyAny>) -> PyResult<Vec<(PyBackedStr, Held)>> {
    let values = each(values)?;
    if keys.len() != values.len() {
        return Err(invalid_argument(
            "keys",
            format!("{} keys were given for {} values", keys.len(), values.len()),
        ));
    }
    Ok(keys.into_iter().zip(values).collect())
}

/// The values of an array or another iterable: the rows of a matrix are vectors.
fn each(values: &Bound<'_, PyAny>) -> PyResult<Vec<Held>> {
    refuse_unordered(values, "values", "values")?;
    if let Ok(array) = values.cast::<PyUntypedArray>()
        && array.ndim() > 0
    {
        if array.ndim() == 2 && array.dtype().kind() == b'f' {
            let matrix = float_array::<f32>(values, "values")?;
            let columns = matrix.shape()[1];
            let rows = matrix.shape()[0];
            let data = matrix.as_slice()?;
            let row = |row: usize| Held::Vector(data[row * columns..(row + 1) * columns].to_vec());
            return Ok((0..rows).map(row).collect());
        }
        if array.ndim() == 1 && array.dtype().kind() == b'f' {
            let floats = float_array::<f64>(values, "values")?;
            return Ok(floats.as_slice()?.iter().map(|value| Held::Float(*value)).collect());
        }
        if array.ndim() == 1 {
            return objects(&values.call_method0("tolist")?);
        }
        let shape = array.shape();
        return Err(dimension(format!("values: expected one value a key, got shape {shape:?}")));
    }
    objects(values)
}

fn objects(values: &Bound<'_, PyAny>) -> PyResult<Vec<Held>> {
    items_of(values, "values", "values")?.map(|value| Held::from_object(&value?)).collect()
}
