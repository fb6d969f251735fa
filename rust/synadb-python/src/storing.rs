//! Rows of an array on their way into a vector store.

use numpy::PyReadonlyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use synadb::Pattern;
use synadb::arch::HybridVectorStore;
use synadb::vector::VectorStore;

use crate::bulk::check_keys;
use crate::convert::{answered, names_of, tuple_of_keys};
use crate::errors::invalid_argument;
use crate::numpy::{check_finite, matrix};

/// Bytes of vectors of one commit of `insert_batch`.
const BATCH_BYTES: usize = 256 << 20;
/// Keys and bytes of vectors of a hybrid store between two looks at the signals.
const KEYS_PER_LOOK: usize = 1 << 14;
const BYTES_PER_LOOK: usize = 64 << 20;

/// Stores the rows of an array and returns how many keys are new.
///
/// # Errors
/// Those of the arguments, `KeyboardInterrupt`, what the engine says.
pub fn insert_all(
    py: Python<'_>,
    store: &VectorStore,
    keys: &Bound<'_, PyAny>,
    vectors: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    let width = usize::from(store.dimensions());
    let (held, array) = paired(keys, vectors, width)?;
    let values = array.as_slice()?;
    let rows_per_commit = (BATCH_BYTES / (4 * width)).max(1);
    if held.len() <= rows_per_commit {
        // The rows are looked at while the keys are.
        return store.insert_rows_with(values, |pending| {
            let keys = names_of(&held)?;
            answered(py.detach(|| pending.insert(&keys)))
        });
    }
    let keys = names_of(&held)?;
    check_keys(keys.iter().copied())?;
    py.detach(|| check_finite(values, width))?;
    let mut new = 0;
    let pieces = keys.chunks(rows_per_commit).zip(values.chunks(rows_per_commit * width));
    for (piece, (keys, values)) in pieces.enumerate() {
        if piece > 0 {
            py.check_signals()?;
        }
        new += answered(py.detach(|| store.insert_rows(keys, values)))?;
    }
    Ok(new)
}

/// Keys, and rows of so many vectors.
fn paired<'py>(
    keys: &Bound<'py, PyAny>,
    vectors: &Bound<'py, PyAny>,
    width: usize,
) -> PyResult<(Bound<'py, PyTuple>, PyReadonlyArrayDyn<'py, f32>)> {
    let held = tuple_of_keys(keys, "keys")?;
    let (array, rows) = matrix(vectors, width, "Vectors")?;
    if held.len() != rows {
        let reason = format!("{} keys were given for {rows} vectors", held.len());
        return Err(invalid_argument("keys", reason));
    }
    Ok((held, array))
}

/// As `insert_all`, of a hybrid store, whose new vectors they become.
///
/// # Errors
/// As there.
pub fn ingest_all(
    py: Python<'_>,
    store: &HybridVectorStore,
    keys: &Bound<'_, PyAny>,
    vectors: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    let width = usize::from(store.dimensions());
    let (held, array) = paired(keys, vectors, width)?;
    let (keys, values) = (names_of(&held)?, array.as_slice()?);
    let most = (BYTES_PER_LOOK / (4 * width)).clamp(1, KEYS_PER_LOOK);
    if keys.len() > most {
        check_keys(keys.iter().copied())?;
        py.detach(|| check_finite(values, width))?;
    }
    let mut new = 0;
    for (keys, values) in keys.chunks(most).zip(values.chunks(most * width)) {
        new += answered(py.detach(|| store.ingest_rows(keys, values)))?;
        py.check_signals()?;
    }
    Ok(new)
}

/// Moves all new vectors of a hybrid store to those that stay, and returns how many moved.
///
/// # Errors
/// `KeyboardInterrupt`, what the engine says; what has moved stays.
pub fn promote_all(py: Python<'_>, store: &HybridVectorStore) -> PyResult<usize> {
    let keys = answered(py.detach(|| store.hot().keys_matching(&Pattern::All)))?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    // Also for none, so that a handle that may not write says so.
    let mut moved = answered(py.detach(|| store.promote_keys(&[])))?;
    for keys in keys.chunks(KEYS_PER_LOOK) {
        moved += answered(py.detach(|| store.promote_keys(keys)))?;
        py.check_signals()?;
    }
    Ok(moved)
}

/// Keeps a sample of vectors, in which inverted files find their centroids.
///
/// # Errors
/// `DimensionError`, `InvalidVectorError` with the row, `InvalidArgumentError` for no vector.
pub fn keep_sample(store: &VectorStore, sample_vectors: &Bound<'_, PyAny>) -> PyResult<()> {
    let width = usize::from(store.dimensions());
    let (array, rows) = matrix(sample_vectors, width, "Sample vectors")?;
    if rows == 0 {
        let reason = "it must have one vector or more, got 0".to_owned();
        return Err(invalid_argument("sample_vectors", reason));
    }
    check_finite(array.as_slice()?, width)?;
    store.keep_sample(array.as_slice()?.to_vec());
    Ok(())
}
