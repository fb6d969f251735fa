//! Arrays in without a copy where they fit, arrays out by moving the memory.
//!
//! numpy is loaded by the first call that needs an array, never by the import of the package.

use numpy::{
    Element, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn,
    PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;

use crate::errors::{dimension, invalid_vector, width};

/// Kinds of numpy data that are no real numbers: complex, text, bytes, dates, durations.
const KINDS_REFUSED: &[u8] = b"cUSMm";
/// The bits of a float32 that are all set in an infinity and in a NaN.
const EXPONENT_BITS: u32 = 0x7f80_0000;
/// How many components are looked at before the first bad one ends the scan.
const SCAN_BLOCK: usize = 4096;

/// The memory as a one-dimensional array that owns it.
pub fn owned<T: Element>(py: Python<'_>, values: Vec<T>) -> Bound<'_, PyArray1<T>> {
    PyArray1::from_vec(py, values)
}

/// A C-contiguous array of `T`: the object itself where it is one, else a converted copy.
///
/// # Errors
/// `TypeError` for what is no real number, by the name of the argument; `ValueError` for what
/// numpy cannot convert.
pub fn float_array<'py, T: Element>(
    obj: &Bound<'py, PyAny>,
    argument: &str,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    if let Ok(array) = obj.cast::<PyArrayDyn<T>>()
        && array.is_c_contiguous()
        && array.is_aligned()
    {
        return Ok(array.try_readonly()?);
    }
    let py = obj.py();
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("asarray", (obj,))?;
    let kind = array.cast::<PyUntypedArray>()?.dtype().kind();
    if KINDS_REFUSED.contains(&kind) {
        let name = array.getattr("dtype")?.str()?;
        let message = format!("{argument}: expected real numbers, got dtype {name}");
        return Err(PyTypeError::new_err(message));
    }
    let options = [("requirements", ["C", "A"])].into_py_dict(py)?;
    let array = numpy.call_method("require", (array, dtype::<T>(py)), Some(&options))?;
    Ok(array.cast_into::<PyArrayDyn<T>>()?.try_readonly()?)
}

/// Is it a one-dimensional numpy array of float32?
pub fn is_float32_vector(obj: &Bound<'_, PyAny>) -> bool {
    obj.cast::<PyArrayDyn<f32>>().is_ok_and(|array| array.ndim() == 1)
}

/// A vector argument of `dimensions` components; one row of shape `(1, dimensions)` is taken too.
///
/// # Errors
/// `DimensionError` for another length or shape; `subject` is `Vector` or `Query`.
pub fn vector<'py>(
    obj: &Bound<'py, PyAny>,
    dimensions: usize,
    subject: &'static str,
) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    let array = float_array::<f32>(obj, subject)?;
    match *array.shape() {
        [len] | [1, len] if len == dimensions => Ok(array),
        [len] | [1, len] => Err(width(subject, len, dimensions)),
        ref shape => {
            Err(dimension(format!("{subject} has shape {shape:?}, expected [{dimensions}]")))
        }
    }
}

/// A matrix argument with `dimensions` columns, and its number of rows; 1-D counts as one row.
///
/// # Errors
/// `DimensionError` for another width or shape; `subject` is `Vectors` or `Queries`.
pub fn matrix<'py>(
    obj: &Bound<'py, PyAny>,
    dimensions: usize,
    subject: &'static str,
) -> PyResult<(PyReadonlyArrayDyn<'py, f32>, usize)> {
    let array = float_array::<f32>(obj, subject)?;
    let (rows, columns) = match *array.shape() {
        [0] | [0, _] => return Ok((array, 0)),
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        ref shape => {
            return Err(dimension(format!(
                "{subject} have shape {shape:?}, expected [rows, {dimensions}]"
            )));
        }
    };
    if columns != dimensions {
        return Err(width(subject, columns, dimensions));
    }
    Ok((array, rows))
}

/// Refuses rows with a NaN or an infinity before the first of them is stored.
///
/// # Errors
/// `InvalidVectorError` with the row.
pub fn check_finite(rows: &[f32], dimensions: usize) -> PyResult<()> {
    for (block, values) in rows.chunks(SCAN_BLOCK).enumerate() {
        let bad = values.iter().fold(0u32, |bad, value| bad | u32::from(is_not_finite(*value)));
        if bad != 0 {
            let within = values.iter().position(|value| is_not_finite(*value)).unwrap_or(0);
            let place = block * SCAN_BLOCK + within;
            let (row, component) = (place / dimensions, place % dimensions);
            return Err(invalid_vector(
                format!("vector in row {row}"),
                format!("component {component} is not finite: {}", rows[place]),
            ));
        }
    }
    Ok(())
}

fn is_not_finite(value: f32) -> bool {
    value.to_bits() & EXPONENT_BITS == EXPONENT_BITS
}
