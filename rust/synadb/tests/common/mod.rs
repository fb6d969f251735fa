//! Databases in scratch folders, a model of what they hold, and comparisons of the two.

#![allow(dead_code)] // Each test program uses a part of it.

pub mod compose;
pub mod frames;
pub mod hostile;
pub mod model;
pub mod reads;
pub mod scribe;

use std::path::{Path, PathBuf};

use synadb::{Access, Durability, OpenOptions, Result, SynaDB, VectorStore};
use synadb_storage::identity::{FRAMES_START, Identity};

use model::STORES;

/// A folder in memory where there is one: most tests here write thousands of files.
pub fn folder() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// The checkpoint's file beside a log.
pub fn checkpoint_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-ckpt");
    PathBuf::from(name)
}

/// Stores a log, and a checkpoint beside it or none.
pub fn store(path: &Path, log: &[u8], checkpoint: Option<&[u8]>) {
    std::fs::write(path, log).expect("the log is written");
    match checkpoint {
        Some(bytes) => std::fs::write(checkpoint_of(path), bytes).expect("it is written"),
        None => remove(&checkpoint_of(path)),
    }
}

/// Removes a file if it is there.
pub fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
}

/// The bytes of a log, and of the checkpoint beside it.
pub fn load(path: &Path) -> (Vec<u8>, Option<Vec<u8>>) {
    (std::fs::read(path).expect("the log is read"), std::fs::read(checkpoint_of(path)).ok())
}

/// A new file with a fixed id, so that keys hash alike in every run.
pub fn create(path: &Path) {
    let identity = Identity { database_id: *b"a fixed identity", ..Identity::UNNAMED };
    let mut bytes = identity.page();
    bytes.resize(FRAMES_START as usize + 4096, 0);
    store(path, &bytes, None);
}

/// Options without a sync for each write.
pub fn fast() -> OpenOptions {
    OpenOptions::new().durability(Durability::Process).create(false)
}

/// Options of a reader.
pub fn reading() -> OpenOptions {
    OpenOptions::new().access(Access::ReadOnly)
}

/// An open database with its vector stores.
pub struct Open {
    pub db: SynaDB,
    pub stores: Vec<VectorStore>,
}

impl Open {
    pub fn new(path: &Path, options: &OpenOptions) -> Result<Self> {
        let db = options.open(path)?;
        let stores = STORES.iter().map(|store| store.attach(&db)).collect::<Result<_>>()?;
        Ok(Self { db, stores })
    }

    /// Closes every handle, so that the file is closed cleanly.
    pub fn close(self) -> Result<()> {
        self.stores.iter().try_for_each(VectorStore::close_handle)?;
        self.db.close_handle()
    }
}

/// Says what a test was at when it panics, also where the panic comes from the library.
pub struct Note<F: Fn() -> String>(pub F);

impl<F: Fn() -> String> Drop for Note<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while at {}", (self.0)());
        }
    }
}

/// Numbers from a fixed seed: `SplitMix64`, by Steele, Lea and Flood (2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// So many bytes that do not compress.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() & 0xff) as u8).collect()
    }

    /// A vector of small components.
    pub fn vector(&mut self, dimensions: u16) -> Vec<f32> {
        (0..dimensions).map(|_| (self.below(2001) as f32 - 1000.0) / 64.0).collect()
    }
}
