//! Functions of the original's crate: a process-wide registry by path, and raw tensors.
//!
//! The Rust blocks of the original's README on quick start, data types and configuration compile
//! and run as they stand:
//!
//! ```
//! use synadb::{synadb, Atom, Result};
//!
//! fn main() -> Result<()> {
//! #   let directory = tempfile::tempdir().expect("a directory");
//! #   std::env::set_current_dir(&directory).expect("enters it");
//!     // Open or create a database
//!     let mut db = synadb::new("my_data.db")?;
//!
//!     // Write different data types
//!     db.append("temperature", Atom::Float(23.5))?;
//!     db.append("count", Atom::Int(42))?;
//!     db.append("name", Atom::Text("sensor-1".to_string()))?;
//!     db.append("raw_data", Atom::Bytes(vec![0x01, 0x02, 0x03]))?;
//!
//!     // Read values back
//!     if let Some(temp) = db.get("temperature")? {
//!         println!("Temperature: {:?}", temp);
//!     }
//!
//!     // Append more values to build history
//!     db.append("temperature", Atom::Float(24.1))?;
//!     db.append("temperature", Atom::Float(24.8))?;
//!
//!     // Extract history as tensor for ML
//!     let history = db.get_history_floats("temperature")?;
//!     println!("Temperature history: {:?}", history); // [23.5, 24.1, 24.8]
//! #   assert_eq!(history, [23.5, 24.1, 24.8]);
//!
//!     // Delete a key
//!     db.delete("count")?;
//!     assert!(db.get("count")?.is_none());
//!
//!     // List all keys
//!     let keys = db.keys();
//!     println!("Keys: {:?}", keys);
//!
//!     // Compact to reclaim space
//!     db.compact()?;
//!
//!     // Close (optional - happens on drop)
//!     db.close()?;
//!
//!     Ok(())
//! }
//! ```
//!
//! Its table of data types:
//!
//! ```
//! # fn main() -> synadb::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let db = synadb::new(directory.path().join("types.db"))?;
//! use synadb::Atom;
//!
//! let values = [
//!     Atom::Null,
//!     Atom::Float(23.5),
//!     Atom::Int(42),
//!     Atom::Text("sensor-1".to_string()),
//!     Atom::Bytes(vec![0x01, 0x02, 0x03]),
//!     Atom::Vector(vec![0.25; 64], 64),
//! ];
//! for (number, value) in values.iter().enumerate() {
//!     db.append(&format!("key/{number}"), value.clone())?;
//!     assert_eq!(db.get(&format!("key/{number}"))?.as_ref(), Some(value));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! And its configuration:
//!
//! ```
//! # fn main() -> synadb::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # std::env::set_current_dir(&directory).expect("enters it");
//! use synadb::{synadb, DbConfig};
//!
//! let config = DbConfig {
//!     enable_compression: true,   // LZ4 compression for large values
//!     enable_delta: true,         // Delta encoding for float sequences
//!     sync_on_write: true,        // fsync after each write (safer but slower)
//! };
//!
//! let db = synadb::with_config("my_data.db", config)?;
//! # assert_eq!(db.settings().compression, true);
//! # Ok(())
//! # }
//! ```
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
