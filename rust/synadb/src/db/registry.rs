//! One engine for each file that this process has open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use synadb_storage::directory::is_reserved;
use synadb_storage::fork;

use super::Engine;
use crate::error::{Error, Result};

/// A file's place in the registry: the engine that writes to it, which all writing handles share.
///
/// Who only reads has one of his own: it stands still until he moves it.
///
/// While it is locked the file is neither opened nor closed in this process; other files are.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<OfFile>);

#[derive(Default)]
struct OfFile {
    writer: Mutex<Weak<Engine>>,
    /// Handles of all engines, those of readers too.
    handles: AtomicUsize,
}

/// Places by resolved path.
type Places = HashMap<PathBuf, Place>;

/// The places of one process.
struct OfProcess {
    /// Forks between the first process and this one.
    epoch: u64,
    places: Mutex<Places>,
}

/// Those of this process, or of the one that forked it until the first file is opened here.
static PLACES: ArcSwapOption<OfProcess> = ArcSwapOption::const_empty();

/// The places of this process: a child may have been forked while another thread of its parent
/// held the parent's, so it begins anew, without a lock.
fn of_process() -> Arc<OfProcess> {
    let epoch = fork::epoch();
    loop {
        let found = PLACES.load_full();
        if let Some(ours) = found.as_ref().filter(|found| found.epoch == epoch) {
            return Arc::clone(ours);
        }
        // Never dropped: that thread may have left the parent's half changed.
        std::mem::forget(found.clone());
        let places = Mutex::default();
        PLACES.compare_and_swap(&found, Some(Arc::new(OfProcess { epoch, places })));
    }
}

impl Place {
    /// The place of a resolved path.
    pub fn of(path: &Path) -> Self {
        let process = of_process();
        let mut places = process.places.lock().unwrap_or_else(PoisonError::into_inner);
        // They are handed out under this lock alone: one that nobody has is nobody's.
        places.retain(|_, place| Arc::strong_count(&place.0) > 1);
        places.entry(path.to_owned()).or_default().clone()
    }

    pub fn lock(&self) -> MutexGuard<'_, Weak<Engine>> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Open handles of this process on the file.
    pub fn handles(&self) -> usize {
        self.0.handles.load(Ordering::Acquire)
    }

    /// One handle more.
    pub fn count(&self) {
        self.0.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// One handle less.
    pub fn count_down(&self) {
        self.0.handles.fetch_sub(1, Ordering::AcqRel);
    }
}

/// As [`resolve`], for a file that is, or is to be, a database.
///
/// # Errors
/// As `resolve`; `InvalidPath` for a name of the files beside a database, which come and go.
pub(crate) fn resolve_database(path: &Path) -> Result<PathBuf> {
    let resolved = resolve(path)?;
    if is_reserved(&resolved) {
        let reason = "names that end in '-ckpt', or in '-tmp-' and 16 hexadecimal digits, are kept \
                      for the files beside a database, which it replaces and removes";
        return Err(Error::InvalidPath { path: path.to_owned(), reason: reason.to_owned() });
    }
    Ok(resolved)
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
