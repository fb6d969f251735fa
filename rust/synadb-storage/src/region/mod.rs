//! The one seam through which a log is changed: a body on disk, one in memory, one to crash.

mod disk;
mod joined;
mod map;
mod memory;
#[cfg(feature = "simulation")]
mod simulated;

pub use disk::DiskRegion;
pub use joined::Joined;
pub use memory::MemoryRegion;
#[cfg(feature = "simulation")]
pub(crate) use simulated::SimulatedFile;
#[cfg(feature = "simulation")]
pub use simulated::SimulatedRegion;

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::{ClockId, clock_gettime};

use crate::{Result, StorageError};

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

    /// Copies what is at `offset` into `out`; on disk also while somebody stores there.
    ///
    /// # Errors
    /// `Corrupt` beyond the file, `Io`.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let bytes = self.bytes(offset, out.len());
        out.copy_from_slice(bytes.ok_or_else(|| beyond(offset))?);
        Ok(())
    }

    /// Published ranges as memory that shows them one behind the other, at most an eighth of it a
    /// copy; `None` where that cannot be had.
    ///
    /// # Errors
    /// `Io`.
    fn join(&self, _ranges: &[Range<u64>]) -> Result<Option<Joined>> {
        Ok(None)
    }

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

    /// Stores a control word that any value of is true or harmless; it may never reach the medium.
    fn hint(&self, offset: u64, word: u64);

    /// A control word that processes wait on, `None` beyond the allocated space.
    fn signal(&self, offset: u64) -> Option<&AtomicU32>;

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

    /// "disk", "memory" or "simulated".
    fn kind(&self) -> &'static str;
}

fn beyond(offset: u64) -> StorageError {
    StorageError::corrupt(offset, "bytes behind the end of the file")
}

/// Waits until `word` is woken or no longer `seen`, at most `timeout`; may also return early.
pub(crate) fn wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    let timeout = futex::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    if futex::wait(word, futex::Flags::empty(), seen, Some(&timeout)).is_err() {
        // Woken, changed, timed out, interrupted: the caller looks again in any case.
    }
}

/// Which of those that share a word wait on it, or are woken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Among {
    /// Who is next.
    Next,
    /// Who waits to be next.
    Queue,
}

impl Among {
    fn bits(self) -> NonZeroU32 {
        match self {
            Self::Next => NonZeroU32::MIN,
            Self::Queue => NonZeroU32::MIN.saturating_add(1),
        }
    }
}

/// As `wait`, as one of some that are woken apart from the others.
pub(crate) fn wait_among(word: &AtomicU32, seen: u32, timeout: Duration, among: Among) {
    // The call takes a moment of the monotonic clock, not a span.
    let until = futex::Timespec::try_from(timeout)
        .ok()
        .and_then(|span| clock_gettime(ClockId::Monotonic).checked_add(span));
    let waited =
        futex::wait_bitset(word, futex::Flags::empty(), seen, until.as_ref(), among.bits());
    if waited.is_err() {
        // As for `wait`.
    }
}

/// Wakes at most `count` of some that wait on `word`, in any process.
pub(crate) fn wake_among(word: &AtomicU32, count: u32, among: Among) {
    if futex::wake_bitset(word, futex::Flags::empty(), count, among.bits()).is_err() {
        // As for `wake`.
    }
}

/// Wakes all that wait on `word`, in any process.
pub(crate) fn wake(word: &AtomicU32) {
    if futex::wake(word, futex::Flags::empty(), u32::MAX >> 1).is_err() {
        // Without futexes the waiters look again by themselves.
    }
}
