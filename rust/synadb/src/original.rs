//! Functions of the original's crate: a process-wide registry by path, and raw tensors.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::DbConfig;
use crate::error::{Error, Result};
use crate::kv::SynaDB;

static OPEN: Mutex<Option<HashMap<PathBuf, SynaDB>>> = Mutex::new(None);

/// Opens or creates a database; the README's `synadb::new`.
///
/// # Errors
/// As [`SynaDB::new`].
pub fn new<P: AsRef<Path>>(path: P) -> Result<SynaDB> {
    SynaDB::new(path)
}

/// Opens or creates a database; the README's `synadb::with_config`.
///
/// # Errors
/// As [`SynaDB::with_config`].
pub fn with_config<P: AsRef<Path>>(path: P, config: DbConfig) -> Result<SynaDB> {
    SynaDB::with_config(path, config)
}

/// As [`new`]; it exists so that the README's `use synadb::{synadb, ..}` resolves.
///
/// # Errors
/// As [`SynaDB::new`].
pub fn synadb<P: AsRef<Path>>(path: P) -> Result<SynaDB> {
    SynaDB::new(path)
}

/// Opens a database in the registry; one that is open there stays as it is.
///
/// # Errors
/// As [`SynaDB::new`].
pub fn open_db(path: &str) -> Result<()> {
    open_db_with_config(path, DbConfig::default())
}

/// As [`open_db`], with a configuration.
///
/// # Errors
/// As [`SynaDB::with_config`].
pub fn open_db_with_config(path: &str, config: DbConfig) -> Result<()> {
    let database = SynaDB::with_config(path, config)?;
    let key = database.path().to_owned();
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.get_or_insert_default().entry(key).or_insert(database);
    Ok(())
}

fn resolved(path: &str) -> PathBuf {
    Path::new(path).canonicalize().unwrap_or_else(|_| PathBuf::from(path))
}

/// Closes a database of the registry.
///
/// # Errors
/// `MissingDatabase` where it is not open there.
pub fn close_db(path: &str) -> Result<()> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let removed = open.get_or_insert_default().remove(&resolved(path));
    drop(open);
    removed.map_or_else(|| Err(Error::MissingDatabase { path: path.into() }), SynaDB::close)
}

/// Runs `act` with a database of the registry; nested calls are fine.
///
/// # Errors
/// `MissingDatabase` where it is not open there, and what `act` returns.
pub fn with_db<F, R>(path: &str, act: F) -> Result<R>
where
    F: FnOnce(&mut SynaDB) -> Result<R>,
{
    let found = {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.get_or_insert_default().get(&resolved(path)).cloned()
    };
    act(&mut found.ok_or_else(|| Error::MissingDatabase { path: path.into() })?)
}

impl SynaDB {
    /// The floats of a key as a raw array, to be freed by [`free_tensor`]; null where empty.
    ///
    /// # Errors
    /// As [`SynaDB::get_history_floats`].
    pub fn get_history_tensor(&self, key: &str) -> Result<(*mut f64, usize)> {
        let points = self.get_history_floats(key)?.into_boxed_slice();
        if points.is_empty() {
            return Ok((std::ptr::null_mut(), 0));
        }
        let len = points.len();
        Ok((Box::into_raw(points).cast::<f64>(), len))
    }
}

/// Frees an array of [`SynaDB::get_history_tensor`]; does nothing for null or length 0.
///
/// # Safety
/// `pointer` and `len` come from one call of `get_history_tensor` and are freed once.
pub unsafe fn free_tensor(pointer: *mut f64, len: usize) {
    if pointer.is_null() || len == 0 {
        return;
    }
    // SAFETY: the caller guarantees that this is the boxed slice that `get_history_tensor` leaked.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer, len)) });
}
