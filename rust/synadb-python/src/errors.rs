//! Errors of the engine as the classes of `synadb.errors`.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};
use synadb::Error;

static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// The Python exception for an error of the engine.
pub fn raised(error: Error) -> PyErr {
    if matches!(error, Error::Interrupted) {
        return interrupted();
    }
    built(error.code(), error.class(), error.to_string())
}

/// What the handler of the signal raised that ended a wait.
fn interrupted() -> PyErr {
    Python::attach(|py| PyErr::take(py).unwrap_or_else(|| PyKeyboardInterrupt::new_err(())))
}

/// An argument that no value of its type makes sense of.
pub fn invalid_argument(argument: &'static str, reason: String) -> PyErr {
    raised(Error::InvalidArgument { argument, reason })
}

/// A value of another type than the one that was asked for.
pub fn type_mismatch(key: &str, wanted: &'static str, stored: &'static str) -> PyErr {
    raised(Error::TypeMismatch { key: key.to_owned(), stored, wanted })
}

/// A key that has no value.
pub fn key_not_found(key: &str) -> PyErr {
    raised(Error::KeyNotFound { key: key.to_owned() })
}

/// Vectors of another width than the store's.
pub fn width(what: &'static str, got: usize, expected: usize) -> PyErr {
    raised(Error::Dimension { what, got, expected })
}

/// An array of another shape than the call takes.
pub fn dimension(message: String) -> PyErr {
    let error = Error::Dimension { what: "", got: 0, expected: 0 };
    built(error.code(), error.class(), message)
}

/// A table of another metric than the one asked for.
pub fn config_mismatch(table: &str, stored: &str, asked: &str) -> PyErr {
    let (stored, asked) = (format!("metric {stored}"), format!("metric {asked}"));
    raised(Error::ConfigMismatch { table: table.to_owned(), stored, asked })
}

/// A vector with a component that is not a finite number.
pub fn invalid_vector(what: String, reason: String) -> PyErr {
    raised(Error::InvalidVector { what, reason })
}

/// A call on a closed handle.
pub fn closed() -> PyErr {
    raised(Error::Closed)
}

fn built(code: i32, class: &str, message: String) -> PyErr {
    Python::attach(|py| {
        class_of(py, class)
            .and_then(|class| class.call1((code, message)))
            .map_or_else(|failure| failure, PyErr::from_value)
    })
}

fn class_of<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    let module =
        ERRORS.get_or_try_init(py, || PyModule::import(py, "synadb.errors").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(name)?.cast_into::<PyType>()?)
}
