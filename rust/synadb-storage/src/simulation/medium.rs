//! Files, their names, and everything that was ever done to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Image, Process};
use crate::Result;
use crate::lock::LockKind;
use crate::region::SimulatedFile;

/// A change of a file or of the directory, in the order in which it was seen by everybody.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes of [`State::bytes`] from `start` on were stored.
    Store {
        file: usize,
        offset: u64,
        start: usize,
        len: usize,
    },
    Zero {
        file: usize,
        offset: u64,
        len: u64,
    },
    /// The file got that length; what was behind is zero.
    Length {
        file: usize,
        len: u64,
    },
    Sync {
        file: usize,
    },
    SyncFailed {
        file: usize,
    },
    Create {
        name: PathBuf,
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        name: PathBuf,
    },
    SyncParent,
}

/// A file, as everybody sees it now and as it was when the medium began.
pub(crate) struct File {
    pub live: Arc<SimulatedFile>,
    pub born: Image,
}

/// A lock that somebody took.
pub(crate) struct Held {
    pub file: usize,
    pub kind: LockKind,
    pub owner: u64,
    pub process: Arc<Process>,
    pub exclusive: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub files: Vec<File>,
    pub names: BTreeMap<PathBuf, usize>,
    pub born_names: BTreeMap<PathBuf, usize>,
    pub log: Vec<Event>,
    pub bytes: Vec<u8>,
    pub locks: Vec<Held>,
    /// Numbers drawn so far, for owners of locks and temporary names.
    pub numbers: u64,
}

impl State {
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Adds an empty file under a name.
    pub fn create(&mut self, name: PathBuf) -> Result<usize> {
        let file = self.add(Image::default())?;
        self.names.insert(name.clone(), file);
        self.log.push(Event::Create { name, file });
        Ok(file)
    }

    fn add(&mut self, born: Image) -> Result<usize> {
        let live = Arc::new(SimulatedFile::holding(&born)?);
        self.files.push(File { live, born });
        Ok(self.files.len() - 1)
    }

    pub fn log_store(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.log.push(Event::Store { file, offset, start, len: bytes.len() });
    }
}

/// A directory with its files, in memory.
#[derive(Default)]
pub struct Medium {
    state: Mutex<State>,
    strays: AtomicU64,
}

impl Medium {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// One that holds what a crash left.
    pub(crate) fn holding(files: Vec<Image>, names: BTreeMap<PathBuf, usize>) -> Result<Arc<Self>> {
        let mut state = State { born_names: names.clone(), names, ..State::default() };
        for image in files {
            state.add(image)?;
        }
        Ok(Arc::new(Self { state: Mutex::new(state), strays: AtomicU64::new(0) }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of changes so far: a place in the log.
    #[must_use]
    pub fn position(&self) -> usize {
        self.lock().log.len()
    }

    /// The files that there are now.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// Accesses so far that would have ended the process on a disk: behind the end of a file.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    pub(crate) fn stray(&self) {
        self.strays.fetch_add(1, Ordering::Relaxed);
    }
}
