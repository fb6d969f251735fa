//! The one seam through which a log is changed: a body on disk and one in memory.

mod disk;
mod map;
mod memory;

pub use disk::DiskRegion;
pub use memory::MemoryRegion;

use crate::Result;

/// Bytes that a log lies in.
///
/// What lies below a published tail never changes, so slices of it may be handed out. Whoever
/// writes holds the write lock.
pub trait Region: Send + Sync {
    /// Bytes of really allocated space.
    fn len(&self) -> u64;

    /// Whether nothing is allocated.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes at `offset`, `None` beyond the allocated space.
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]>;

    /// The word at `offset` (a multiple of 8) with acquire order.
    fn load(&self, offset: u64) -> Option<u64>;

    /// Stores `bytes` at `offset`, inside the allocated space.
    ///
    /// # Errors
    /// `Io`, `DiskFull`, `ReadOnly`.
    fn store(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Stores a word at `offset` (a multiple of 8) with release order.
    ///
    /// # Errors
    /// `Io`, `ReadOnly`.
    fn publish(&self, offset: u64, word: u64) -> Result<()>;

    /// Makes sure that at least `len` bytes are allocated.
    ///
    /// # Errors
    /// `DiskFull` or `Io`; the space that was there stays usable.
    fn allocate(&self, len: u64) -> Result<()>;

    /// Zeroes a range without shrinking the file.
    ///
    /// # Errors
    /// `Io`, `ReadOnly`.
    fn zero(&self, offset: u64, len: u64) -> Result<()>;

    /// Gives back what lies behind `len`.
    ///
    /// # Errors
    /// `Io`, `ReadOnly`.
    fn trim(&self, len: u64) -> Result<()>;

    /// Returns once everything stored is on the medium.
    ///
    /// # Errors
    /// `Io`; after that nothing is known of what was stored since the last sync.
    fn sync(&self) -> Result<()>;

    /// Looks again how large the file is, for readers of a file that others grow.
    ///
    /// # Errors
    /// `Io`.
    fn refresh(&self) -> Result<u64>;

    /// "disk" or "memory".
    fn kind(&self) -> &'static str;
}
