//! Rows of an array on their way into a vector store.

use pyo3::prelude::*;
use synadb::vector::VectorStore;

use crate::bulk::check_keys;
use crate::convert::{answered, names_of, tuple_of_keys};
use crate::errors::invalid_argument;
use crate::numpy::{check_finite, matrix};

/// Bytes of vectors of one commit of `insert_batch`.
const BATCH_BYTES: usize = 256 << 20;

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
    let held = tuple_of_keys(keys, "keys")?;
    let width = usize::from(store.dimensions());
    let (array, rows) = matrix(vectors, width, "Vectors")?;
    if held.len() != rows {
        let reason = format!("{} keys were given for {rows} vectors", held.len());
        return Err(invalid_argument("keys", reason));
    }
    let values = array.as_slice()?;
    let rows_per_commit = (BATCH_BYTES / (4 * width)).max(1);
    if rows <= rows_per_commit {
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
