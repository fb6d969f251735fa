//! Arrays in without a copy where they fit, arrays out by moving the memory.
//!
//! numpy is loaded by the first call that needs an array, never by the import of the package.

use std::ops::Range;

use numpy::ndarray::{ArrayView2, ShapeBuilder};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods,
    PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyFloatingPointError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyModule, PyType};
use synadb::vector::{JoinedRows, MappedRows, Reader};

use crate::errors::{dimension, invalid_vector, width};

/// Kinds of numpy data that are no real numbers: complex, texts, bytes, dates, durations.
const KINDS_REFUSED: &[u8] = b"cUTSMm";
/// The bits of a float32 that are all set in an infinity and in a NaN.
const EXPONENT_BITS: u32 = 0x7f80_0000;
/// How many components are looked at before the first bad one ends the scan.
const SCAN_BLOCK: usize = 4096;

/// The memory as a one-dimensional array that owns it.
pub fn owned<T: Element>(py: Python<'_>, values: Vec<T>) -> Bound<'_, PyArray1<T>> {
    PyArray1::from_vec(py, values)
}

/// What an array of mapped rows holds on to: the file as it was, its map and all.
#[pyclass(frozen, module = "synadb._native")]
struct Mapped(Shown);

/// Rows over the mapped file.
pub enum Shown {
    /// A run of them where it lies.
    Run(Reader, Range<u32>),
    /// Several runs.
    Joined(JoinedRows),
}

impl Shown {
    fn rows(&self) -> Option<MappedRows<'_>> {
        match self {
            Self::Run(reader, run) => reader.block(run.clone()),
            Self::Joined(joined) => joined.rows(),
        }
    }
}

/// Rows as a read-only array over the mapped file; `None` for rows that are no run.
///
/// # Errors
/// Python could not allocate it.
pub fn mapped(py: Python<'_>, shown: Shown) -> PyResult<Option<Bound<'_, PyArray2<f32>>>> {
    let holder = Bound::new(py, Mapped(shown))?;
    let Some(rows) = holder.get().0.rows() else { return Ok(None) };
    let shape = (rows.rows, rows.dimensions).strides((rows.stride, 1));
    let shaped = ArrayView2::from_shape(shape, rows.data);
    let Ok(view) = shaped else { return Ok(None) };
    // SAFETY: the array keeps `holder`, which owns what `view` lies in: a reader that holds the
    // generation and with it the map, or memory of its own (docs/safety.md). The rows were committed,
    // so that nobody writes to them, and the array is made read-only before anybody else sees it.
    #[expect(unsafe_code, reason = "the array outlives the borrow, and holds its owner")]
    let array = unsafe { PyArray2::borrow_from_array(&view, holder.clone().into_any()) };
    let array = array.try_readwrite()?.make_nonwriteable();
    Ok(Some((*array).clone()))
}

/// A C-contiguous array of `T`: the object itself where it is one, else a converted copy.
///
/// # Errors
/// `TypeError` for what is no real number, `DimensionError` for rows of unequal length,
/// `InvalidVectorError` and `OverflowError` for numbers beyond `T`, each by the name of the argument.
pub fn float_array<'py, T: Element>(
    obj: &Bound<'py, PyAny>,
    argument: &str,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    refuse_masked(obj, argument)?;
    if let Ok(array) = obj.cast::<PyArrayDyn<T>>()
        && array.is_c_contiguous()
        && array.is_aligned()
    {
        return Ok(array.try_readonly()?);
    }
    let py = obj.py();
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("asarray", (obj,)).map_err(|error| {
        if error.get_type(py).is(py.get_type::<PyValueError>()) {
            return dimension(format!("{argument}: {}", error.value(py)));
        }
        error
    })?;
    check_numbers(&numpy, obj, &array, argument)?;
    let options = [("requirements", ["C", "A"])].into_py_dict(py)?;
    // Without this a number beyond the type becomes an infinity, and numpy only warns.
    let strict = [("over", "raise")].into_py_dict(py)?;
    let strict = numpy.call_method("errstate", (), Some(&strict))?;
    strict.call_method0("__enter__")?;
    let array = numpy.call_method("require", (array, dtype::<T>(py)), Some(&options));
    strict.call_method1("__exit__", (py.None(), py.None(), py.None()))?;
    let array = array.map_err(|error| beyond::<T>(py, argument, error))?;
    Ok(array.cast_into::<PyArrayDyn<T>>()?.try_readonly()?)
}

fn beyond<T>(py: Python<'_>, argument: &str, error: PyErr) -> PyErr {
    let is_beyond = error.is_instance_of::<PyOverflowError>(py)
        || error.is_instance_of::<PyFloatingPointError>(py);
    match size_of::<T>() {
        _ if !is_beyond => error,
        4 => invalid_vector(argument.to_owned(), "a number is beyond float32".to_owned()),
        _ => PyOverflowError::new_err(format!("{argument}: a number is beyond float64")),
    }
}

/// Refuses what numpy would turn into numbers that nobody wrote: text, times, `None`, records.
fn check_numbers(
    numpy: &Bound<'_, PyModule>,
    obj: &Bound<'_, PyAny>,
    array: &Bound<'_, PyAny>,
    argument: &str,
) -> PyResult<()> {
    let untyped = array.cast::<PyUntypedArray>()?;
    let kind = untyped.dtype().kind();
    if kind == b'O' {
        return check_objects(obj, untyped, argument);
    }
    let scalar = array.getattr("dtype")?.getattr("type")?;
    // Types of other packages, such as bfloat16, are void by their kind alone.
    let is_record =
        kind == b'V' && scalar.cast::<PyType>()?.is_subclass(&numpy.getattr("void")?)?;
    if KINDS_REFUSED.contains(&kind) || is_record {
        let name = array.getattr("dtype")?.str()?;
        let message = format!("{argument}: expected real numbers, got dtype {name}");
        return Err(PyTypeError::new_err(message));
    }
    Ok(())
}

/// Objects are numbers if Python converts each by itself: `Decimal`, `Fraction`, a huge `int`.
fn check_objects(
    obj: &Bound<'_, PyAny>,
    array: &Bound<'_, PyUntypedArray>,
    argument: &str,
) -> PyResult<()> {
    let refuse = |item: &Bound<'_, PyAny>, place: String| {
        let name = item.get_type().qualname()?;
        let message = format!("{argument}: expected real numbers, got '{name}'{place}");
        Err(PyTypeError::new_err(message))
    };
    if array.ndim() == 0 {
        return refuse(obj, String::new());
    }
    for (index, item) in array.getattr("flat")?.try_iter()?.enumerate() {
        let item = item?;
        if !item.hasattr("__float__")? && !item.hasattr("__index__")? {
            return refuse(&item, format!(" at position {index}"));
        }
    }
    Ok(())
}

/// Is it a date or a duration of numpy, or an array of them?
///
/// # Errors
/// What the object's attributes raise.
pub fn is_time(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(dtype) = obj.getattr_opt("dtype")? else { return Ok(false) };
    let Some(kind) = dtype.getattr_opt("kind")? else { return Ok(false) };
    Ok(kind.extract::<String>().is_ok_and(|kind| kind == "m" || kind == "M"))
}

/// Refuses an array of which a mask hides something: what lies below would be stored.
///
/// # Errors
/// `TypeError`.
pub fn refuse_masked(obj: &Bound<'_, PyAny>, argument: &str) -> PyResult<()> {
    let Ok(array) = obj.cast::<PyUntypedArray>() else { return Ok(()) };
    let py = obj.py();
    if array.get_type().is(PyUntypedArray::type_object(py)) || !array.hasattr("mask")? {
        return Ok(());
    }
    let masked = py.import("numpy.ma")?.call_method1("is_masked", (array,))?;
    if masked.is_truthy()? {
        let message = format!("{argument}: it has masked values; fill or compress it first");
        return Err(PyTypeError::new_err(message));
    }
    Ok(())
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
        [0] => return Ok((array, 0)),
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
