//! Python objects to values of the engine and back.

use std::borrow::Cow;
use std::path::PathBuf;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyMemoryView, PyString};
use synadb::{Value, ValueRef};

use crate::errors::{invalid_argument, raised};
use crate::numpy::{float_array, is_float32_vector};

/// A `str` argument, borrowed as UTF-8.
pub struct Text<'a>(pub &'a str);

impl<'a, 'py> FromPyObject<'a, 'py> for Text<'a> {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let text = <&'a str as FromPyObject<'a, 'py>>::extract(obj);
        text.map(Text).map_err(|error| not_unicode(obj.py(), error))
    }
}

/// A `bytes` argument, borrowed; other buffers are copied.
pub struct Blob<'a>(pub Cow<'a, [u8]>);

impl<'a, 'py> FromPyObject<'a, 'py> for Blob<'a> {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if obj.is_instance_of::<PyBytes>() {
            let bytes = <&'a [u8] as FromPyObject<'a, 'py>>::extract(obj).map_err(PyErr::from)?;
            return Ok(Self(Cow::Borrowed(bytes)));
        }
        let bytes = buffer_bytes(&obj)?;
        Ok(Self(Cow::Owned(bytes.as_bytes().to_vec())))
    }
}

/// An `int` argument that fits 64 bits.
pub struct Integer(pub i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Integer {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let value = obj.extract::<i64>();
        value.map(Self).map_err(|error| {
            if !error.is_instance_of::<PyOverflowError>(obj.py()) {
                return error;
            }
            let bits = obj.call_method0("bit_length").and_then(|bits| bits.extract::<u64>());
            let got = bits.map_or_else(|_| "more".to_owned(), |bits| format!("one of {bits} bits"));
            PyOverflowError::new_err(format!(
                "expected an integer from {} to {}, got {got}",
                i64::MIN,
                i64::MAX
            ))
        })
    }
}

/// A value on its way in, which keeps what it borrows from Python alive.
pub enum Held {
    Null,
    Float(f64),
    Int(i64),
    Text(PyBackedStr),
    Bytes(PyBackedBytes),
    Vector(Vec<f32>),
}

impl Held {
    /// Takes the type of value that fits the Python object.
    ///
    /// # Errors
    /// `TypeError` for an object that no value holds, `OverflowError` beyond 64 bits,
    /// `InvalidArgumentError` for text with lone surrogates.
    pub fn from_object(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        if obj.is_none() {
            Ok(Self::Null)
        } else if obj.is_instance_of::<PyString>() {
            held_str(obj).map(Self::Text)
        } else if obj.is_instance_of::<PyFloat>() {
            Ok(Self::Float(obj.extract()?))
        } else if obj.is_instance_of::<PyBool>() {
            Ok(Self::Int(i64::from(obj.is_truthy()?)))
        } else if obj.is_instance_of::<PyInt>() {
            Ok(Self::Int(obj.extract::<Integer>()?.0))
        } else if obj.is_instance_of::<PyBytes>() || obj.is_instance_of::<PyByteArray>() {
            Ok(Self::Bytes(obj.extract()?))
        } else if obj.is_instance_of::<PyMemoryView>() {
            Ok(Self::Bytes(buffer_bytes(obj)?.into()))
        } else if obj.hasattr("ndim")? {
            from_array(obj)
        } else {
            Err(unstorable(obj)?)
        }
    }

    /// The same value as the engine takes it.
    pub fn as_value(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Float(value) => ValueRef::Float(*value),
            Self::Int(value) => ValueRef::Int(*value),
            Self::Text(value) => ValueRef::Text(Cow::Borrowed(value)),
            Self::Bytes(value) => ValueRef::Bytes(Cow::Borrowed(value)),
            Self::Vector(value) => ValueRef::Vector(Cow::Borrowed(value)),
        }
    }
}

/// A scalar or vector of numpy, or of a library that follows it.
fn from_array(obj: &Bound<'_, PyAny>) -> PyResult<Held> {
    if obj.getattr("ndim")?.extract::<usize>()? == 0 {
        let item = obj.call_method0("item")?;
        if !item.hasattr("ndim")? {
            return Held::from_object(&item);
        }
    } else if is_float32_vector(obj) {
        return Ok(Held::Vector(float_array::<f32>(obj, "value")?.as_slice()?.to_vec()));
    }
    Err(unstorable(obj)?)
}

fn unstorable(obj: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let name = obj.get_type().qualname()?;
    Ok(PyTypeError::new_err(format!(
        "cannot store a value of type '{name}': expected None, bool, int, float, str, bytes or a \
         1-D float32 array; other arrays go through put_numpy"
    )))
}

/// A `str` that stays alive while the GIL is released.
///
/// # Errors
/// `TypeError` for another type, `InvalidArgumentError` for lone surrogates.
pub fn held_str(obj: &Bound<'_, PyAny>) -> PyResult<PyBackedStr> {
    if !obj.is_instance_of::<PyString>() {
        let name = obj.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!("a key must be a str, got '{name}'")));
    }
    obj.extract().map_err(|error| not_unicode(obj.py(), error))
}

/// Every item of an iterable of `str`.
///
/// # Errors
/// As `held_str`; a single `str` is refused rather than read letter by letter.
pub fn held_keys(keys: &Bound<'_, PyAny>) -> PyResult<Vec<PyBackedStr>> {
    if keys.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("keys must be an iterable of str, not one str"));
    }
    let mut held = Vec::with_capacity(keys.len().unwrap_or(0));
    for key in keys.try_iter()? {
        held.push(held_str(&key?)?);
    }
    Ok(held)
}

fn not_unicode(py: Python<'_>, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyUnicodeEncodeError>(py) {
        invalid_argument("text", format!("it cannot be stored as UTF-8: {}", error.value(py)))
    } else {
        error
    }
}

fn buffer_bytes<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let view = PyMemoryView::from(obj)?;
    Ok(view.call_method0("tobytes")?.cast_into::<PyBytes>()?)
}

/// The value as the Python object of its type; a vector is a new float32 array.
///
/// # Errors
/// Python could not allocate it.
pub fn to_object<'py>(py: Python<'py>, value: &ValueRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        ValueRef::Null => py.None().into_bound(py),
        ValueRef::Float(value) => PyFloat::new(py, *value).into_any(),
        ValueRef::Int(value) => value.into_pyobject(py)?.into_any(),
        ValueRef::Text(value) => PyString::new(py, value).into_any(),
        ValueRef::Bytes(value) => PyBytes::new(py, value).into_any(),
        ValueRef::Vector(value) => crate::numpy::owned(py, value.to_vec()).into_any(),
    })
}

/// An owned value as the Python object of its type, a vector without a copy.
///
/// # Errors
/// Python could not allocate it.
pub fn into_object(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Float(value) => PyFloat::new(py, value).into_any(),
        Value::Int(value) => value.into_pyobject(py)?.into_any(),
        Value::Text(value) => PyString::new(py, &value).into_any(),
        Value::Bytes(value) => PyBytes::new(py, &value).into_any(),
        Value::Vector(value, _) => crate::numpy::owned(py, value).into_any(),
    })
}

/// A path argument (`str`, `bytes`, `os.PathLike`), made absolute once.
///
/// # Errors
/// `TypeError` for another type, `OSError` without a working directory.
pub fn absolute_path(path: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let decoded = path.py().import("os")?.call_method1("fsdecode", (path,))?;
    let path: PathBuf = decoded.extract()?;
    if path.as_os_str().is_empty() {
        return Err(invalid_argument("path", "it is empty".to_owned()));
    }
    Ok(std::path::absolute(path)?)
}

/// The answer of the engine, its error raised.
///
/// # Errors
/// The exception for the error of the engine.
pub fn answered<T>(result: synadb::Result<T>) -> PyResult<T> {
    result.map_err(raised)
}
