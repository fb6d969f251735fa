//! Python objects to values of the engine and back.

use std::borrow::Cow;
use std::path::PathBuf;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyIterator, PyMapping,
    PyMemoryView, PySet, PyString, PyTuple,
};
use synadb::{Value, ValueRef};

use crate::errors::{invalid_argument, raised};
use crate::numpy::{float_array, is_float32_vector, is_time, refuse_masked};

/// `str` arguments, borrowed as UTF-8; each knows the name that a caller reads.
macro_rules! text_arguments {
    ($($(#[$meta:meta])* $name:ident = $argument:literal),*) => {$(
        $(#[$meta])*
        pub struct $name<'a>(pub &'a str);

        impl<'a, 'py> FromPyObject<'a, 'py> for $name<'a> {
            type Error = PyErr;

            fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
                let text = <&'a str as FromPyObject<'a, 'py>>::extract(obj);
                text.map($name).map_err(|error| not_unicode(obj.py(), $argument, error))
            }
        }
    )*};
}

text_arguments! {
    /// A key.
    Key = "key",
    /// A value.
    Text = "value",
    /// A shell pattern.
    Glob = "pattern",
    /// What keys begin with.
    Prefix = "prefix",
    /// The name of a table.
    Name = "name"
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
        value.map(Self).map_err(|error| beyond(obj, i64::MIN.into(), i64::MAX.into(), error))
    }
}

/// A number of things: an `int`, and no `bool`, which would count as 0 or 1.
pub struct Count(pub i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Count {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        refuse_bool(obj)?;
        obj.extract::<Integer>().map(|value| Self(value.0))
    }
}

/// As `Count`, for arguments with a default.
///
/// # Errors
/// As for `Count`.
pub fn count(obj: &Bound<'_, PyAny>) -> PyResult<i64> {
    obj.extract::<Count>().map(|count| count.0)
}

/// A number of bytes or of a commit: as `Count`, and not negative.
pub struct Unsigned(pub u64);

impl<'a, 'py> FromPyObject<'a, 'py> for Unsigned {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        refuse_bool(obj)?;
        let value = obj.extract::<u64>();
        value.map(Self).map_err(|error| beyond(obj, 0, u64::MAX.into(), error))
    }
}

/// Arguments that are an `int` or a `float`, and no `bool`; each has the name that a caller reads.
macro_rules! number_arguments {
    ($($type:ident: $name:literal, $wanted:literal;)*) => {$(
        #[doc = concat!("The argument `", $name, "`: ", $wanted, ".")]
        #[derive(Clone, Copy)]
        pub struct $type(pub f64);

        impl<'a, 'py> FromPyObject<'a, 'py> for $type {
            type Error = PyErr;

            fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
                number(obj, $name, $wanted).map(Self)
            }
        }
    )*};
}

number_arguments! {
    Seconds: "lock_timeout", "a number of seconds";
    Interval: "sync_interval", "a number of seconds";
    Share: "auto_compact", "a share of the log, a number above 0 and below 1";
    Recall: "target_recall", "a number above 0 and at most 1";
}

/// A number, and no `bool`, for an argument that an error names.
fn number(obj: Borrowed<'_, '_, PyAny>, argument: &str, wanted: &str) -> PyResult<f64> {
    let py = obj.py();
    let refused = || wrong_type(&obj, argument, wanted);
    if is_bool(obj) {
        return Err(refused());
    }
    obj.extract().map_err(|error: PyErr| match error {
        error if error.is_instance_of::<PyTypeError>(py) => refused(),
        error if error.is_instance_of::<PyOverflowError>(py) => {
            PyOverflowError::new_err(format!("{argument} must be {wanted}: {}", error.value(py)))
        }
        error => error,
    })
}

/// An argument of another type than the one that is wanted.
pub fn wrong_type(obj: &Bound<'_, PyAny>, argument: &str, wanted: &str) -> PyErr {
    match obj.get_type().qualname() {
        Ok(name) => PyTypeError::new_err(format!("{argument} must be {wanted}, got '{name}'")),
        Err(error) => error,
    }
}

/// `bool` arguments, for `from_py_with`; each has the name that a caller reads.
macro_rules! flag_arguments {
    ($($name:ident),*) => {$(
        /// The argument of that name.
        ///
        /// # Errors
        /// `TypeError` for what is no `bool`.
        pub fn $name(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
            let flag = obj.extract::<bool>();
            flag.map_err(|_| wrong_type(obj, stringify!($name), "a bool"))
        }
    )*};
}

flag_arguments!(sync_on_write, create, auto_compact_history, skip_damaged, usage);

/// The argument `sync_on_write` of a store, which may be left to the database that it is opened on.
///
/// # Errors
/// `TypeError` for what is neither a `bool` nor `None`.
pub fn sync_wanted(obj: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    if obj.is_none() { Ok(None) } else { sync_on_write(obj).map(Some) }
}

fn refuse_bool(obj: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    if is_bool(obj) {
        return Err(PyTypeError::new_err("expected an integer, got 'bool'"));
    }
    Ok(())
}

/// Python's own, or that of numpy, which is no subclass of it.
fn is_bool(obj: Borrowed<'_, '_, PyAny>) -> bool {
    let name = |name: Bound<'_, PyString>| name == "bool" || name == "bool_";
    obj.is_instance_of::<PyBool>() || obj.get_type().name().is_ok_and(name)
}

/// Whether an answer is `False`, Python's or numpy's, and not just one that counts as false.
///
/// # Errors
/// What asking it raises.
pub fn is_false(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_bool(obj.as_borrowed()) && !obj.is_truthy()?)
}

/// An integer beyond what an argument takes; other errors stay as they are.
fn beyond(obj: Borrowed<'_, '_, PyAny>, from: i128, to: i128, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyOverflowError>(obj.py()) {
        return error;
    }
    let got = obj.call_method0("bit_length").and_then(|bits| bits.extract::<u64>());
    let got = match got {
        Ok(bits) if bits >= 64 => format!("one of {bits} bits"),
        _ => obj.str().map_or_else(|_| "another".to_owned(), |text| text.to_string()),
    };
    PyOverflowError::new_err(format!("expected an integer from {from} to {to}, got {got}"))
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
            held_str(obj, "value").map(Self::Text)
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
    refuse_masked(obj, "value")?;
    if is_time(obj)? {
        // As an item it may be a bare number of some unit.
        return Err(unstorable(obj)?);
    }
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
pub fn held_str(obj: &Bound<'_, PyAny>, argument: &'static str) -> PyResult<PyBackedStr> {
    check_str(obj, argument)?;
    obj.extract().map_err(|error| not_unicode(obj.py(), argument, error))
}

fn check_str(obj: &Bound<'_, PyAny>, argument: &'static str) -> PyResult<()> {
    if obj.is_instance_of::<PyString>() {
        return Ok(());
    }
    let name = obj.get_type().qualname()?;
    Err(PyTypeError::new_err(format!("a {argument} must be a str, got '{name}'")))
}

/// Every item of an iterable of `str`.
///
/// # Errors
/// As `held_str`; a single `str` is refused rather than read letter by letter.
pub fn held_keys(keys: &Bound<'_, PyAny>, argument: &str) -> PyResult<Vec<PyBackedStr>> {
    let mut held = Vec::with_capacity(keys.len().unwrap_or(0));
    for key in items_of(keys, argument, "str")? {
        held.push(held_str(&key?, "key")?);
    }
    Ok(held)
}

/// As `held_keys`, for keys that something else belongs to, one by one.
///
/// # Errors
/// `TypeError` also for a mapping, which has values of its own, and a set, which has no order.
pub fn ordered_keys(keys: &Bound<'_, PyAny>, argument: &str) -> PyResult<Vec<PyBackedStr>> {
    refuse_unordered(keys, argument, "str")?;
    held_keys(keys, argument)
}

/// As `ordered_keys`, all held by one tuple, which is faster for very many.
///
/// # Errors
/// As `ordered_keys`, but for what `names_of` refuses.
pub fn tuple_of_keys<'py>(
    keys: &Bound<'py, PyAny>,
    argument: &str,
) -> PyResult<Bound<'py, PyTuple>> {
    refuse_unordered(keys, argument, "str")?;
    tuple_of_any_keys(keys, argument)
}

/// As `held_keys`, all held by one tuple.
///
/// # Errors
/// As `held_keys`, but for what `names_of` refuses.
pub fn tuple_of_any_keys<'py>(
    keys: &Bound<'py, PyAny>,
    argument: &str,
) -> PyResult<Bound<'py, PyTuple>> {
    let items = items_of(keys, argument, "str")?;
    Ok(keys.py().get_type::<PyTuple>().call1((items,))?.cast_into()?)
}

/// The texts in a tuple, which keeps them alive while the GIL is released.
///
/// # Errors
/// As `held_str`.
pub fn names_of<'a, 'py>(keys: &'a Bound<'py, PyTuple>) -> PyResult<Vec<&'a str>> {
    let name_of = |key: Borrowed<'a, 'py, PyAny>| {
        check_str(&key, "key")?;
        <&'a str>::extract(key).map_err(|error| not_unicode(key.py(), "key", error))
    };
    keys.iter_borrowed().map(name_of).collect()
}

/// Refuses a mapping and a set, where the order of the items says what belongs together.
///
/// # Errors
/// `TypeError`.
pub fn refuse_unordered(items: &Bound<'_, PyAny>, argument: &str, of: &str) -> PyResult<()> {
    let is_set = items.is_instance_of::<PySet>() || items.is_instance_of::<PyFrozenSet>();
    if is_set || items.is_instance_of::<PyDict>() || items.cast::<PyMapping>().is_ok() {
        let name = items.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!(
            "{argument} must be an iterable of {of} in order, got '{name}'"
        )));
    }
    Ok(())
}

/// An iterator over an argument of many items; text and bytes are one item, not many.
///
/// # Errors
/// `TypeError` with the name of the argument.
pub fn items_of<'py>(
    items: &Bound<'py, PyAny>,
    argument: &str,
    of: &str,
) -> PyResult<Bound<'py, PyIterator>> {
    let is_one = items.is_instance_of::<PyString>()
        || items.is_instance_of::<PyBytes>()
        || items.is_instance_of::<PyByteArray>()
        || items.is_instance_of::<PyMemoryView>();
    let iterator = if is_one { None } else { items.try_iter().ok() };
    iterator.ok_or_else(|| match items.get_type().qualname() {
        Ok(name) => PyTypeError::new_err(format!(
            "{argument} must be an iterable of {of}, not one '{name}'"
        )),
        Err(error) => error,
    })
}

fn not_unicode(py: Python<'_>, argument: &'static str, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyUnicodeEncodeError>(py) {
        invalid_argument(argument, format!("it cannot be stored as UTF-8: {}", error.value(py)))
    } else {
        error
    }
}

fn buffer_bytes<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    refuse_masked(obj, "value")?;
    let name = obj.get_type().qualname()?;
    let refused = |why: &str| PyTypeError::new_err(format!("expected bytes, got '{name}'{why}"));
    let view = PyMemoryView::from(obj).map_err(|_| refused(""))?;
    if view.getattr("format")?.extract::<String>()?.contains('O') {
        return Err(refused(" of Python objects, whose bytes are addresses"));
    }
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
/// `TypeError` for another type, `InvalidArgumentError` where it is empty or no Unicode,
/// `OSError` without a working directory.
pub fn absolute_path(path: &Bound<'_, PyAny>, argument: &'static str) -> PyResult<PathBuf> {
    let py = path.py();
    let decoded = py.import("os")?.call_method1("fsdecode", (path,)).map_err(|error| {
        if error.get_type(py).is(py.get_type::<PyTypeError>()) {
            return PyTypeError::new_err(format!("{argument}: {}", error.value(py)));
        }
        error
    })?;
    let path: PathBuf = decoded.extract().map_err(|error| not_unicode(py, argument, error))?;
    if path.as_os_str().is_empty() {
        return Err(invalid_argument(argument, "it is empty".to_owned()));
    }
    let mut absolute = std::path::absolute(&path)?;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/.") {
        // The engine refuses what ends like a directory's; `absolute` would hide it.
        absolute.push("");
    }
    Ok(absolute)
}

/// The answer of the engine, its error raised.
///
/// # Errors
/// The exception for the error of the engine.
pub fn answered<T>(result: synadb::Result<T>) -> PyResult<T> {
    result.map_err(raised)
}
