//! One engine for each file that this process has open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use synadb_storage::fork;

use super::Engine;
use crate::error::{Error, Result};

/// Engines by resolved path and whether they may write.
pub(super) type Open = HashMap<(PathBuf, bool), Weak<Engine>>;

/// One for each fork between the first process and this one: a child may have been forked while
/// another thread of its parent held the parent's.
static OPEN: [Mutex<Option<Open>>; FORKS_MAX] = [const { Mutex::new(None) }; FORKS_MAX];
const FORKS_MAX: usize = 64;

/// The registry, locked: opening and the last close of a file exclude each other.
pub(super) struct Registry(MutexGuard<'static, Option<Open>>);

impl Registry {
    pub fn lock() -> Self {
        let forks = usize::try_from(fork::epoch()).unwrap_or(usize::MAX);
        Self(OPEN[forks.min(FORKS_MAX - 1)].lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn map(&mut self) -> &mut Open {
        self.0.get_or_insert_default()
    }
}

/// Resolves a path once, so that a later change of the working directory changes nothing.
///
/// # Errors
/// What is wrong with the path: no name, no directory, a directory.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let path_of = || path.to_owned();
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::InvalidPath { path: path_of(), reason: "it contains NUL".into() });
    }
    if path.is_dir() {
        return Err(Error::PathIsDirectory { path: path_of() });
    }
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    let Some(name) = path.file_name() else {
        return Err(Error::InvalidPath { path: path_of(), reason: "it names no file".into() });
    };
    // A link whose target is missing: the file is created where the link leads.
    if let Ok(target) = std::fs::read_link(path) {
        let base = path.parent().unwrap_or(Path::new("."));
        return resolve(&base.join(target));
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::MissingDirectory { path: path_of() },
        _ => Error::Io { path: path_of(), action: "open the directory", source },
    })?;
    if !parent.is_dir() {
        return Err(Error::MissingDirectory { path: path_of() });
    }
    Ok(parent.join(name))
}
