//! One engine for each file that this process has open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use synadb_storage::fork;

use super::Engine;
use crate::error::{Error, Result};

/// The engines that this process has of one file: the one that writes, the one that only reads.
#[derive(Default)]
pub(super) struct Engines {
    writer: Weak<Engine>,
    reader: Weak<Engine>,
}

impl Engines {
    /// The engine that writes, or the other.
    pub fn of(&mut self, writes: bool) -> &mut Weak<Engine> {
        if writes { &mut self.writer } else { &mut self.reader }
    }
}

/// A file's place in the registry, which its engines share.
///
/// While it is locked the file is neither opened nor closed in this process; other files are.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<Mutex<Engines>>);

/// Places by resolved path.
type Places = HashMap<PathBuf, Place>;

/// One for each fork between the first process and this one: a child may have been forked while
/// another thread of its parent held the parent's.
static PLACES: [Mutex<Option<Places>>; FORKS_MAX] = [const { Mutex::new(None) }; FORKS_MAX];
const FORKS_MAX: usize = 64;

impl Place {
    /// The place of a resolved path.
    pub fn of(path: &Path) -> Self {
        let forks = usize::try_from(fork::epoch()).unwrap_or(usize::MAX);
        let places = &PLACES[forks.min(FORKS_MAX - 1)];
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.get_or_insert_default();
        // They are handed out under this lock alone: one that nobody has is nobody's.
        places.retain(|_, place| Arc::strong_count(&place.0) > 1);
        places.entry(path.to_owned()).or_default().clone()
    }

    pub fn lock(&self) -> MutexGuard<'_, Engines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves a path once, so that a later change of the working directory changes nothing.
///
/// # Errors
/// What is wrong with the path: no name, no directory, a directory.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    let path_of = || path.to_owned();
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::InvalidPath { path: path_of(), reason: "it contains NUL".into() });
    }
    if path.is_dir() {
        return Err(Error::PathIsDirectory { path: path_of() });
    }
    // `Path` takes no notice of these, the system does: it means a directory.
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
        let reason = "it ends like a directory's, and a database is a file".into();
        return Err(Error::InvalidPath { path: path_of(), reason });
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
