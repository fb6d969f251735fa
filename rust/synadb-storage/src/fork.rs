//! Forked children: they notice, and hold none of their parent's locks.
//!
//! A lock belongs to an open file description, which a child shares: as long as the child has the
//! descriptor, the lock outlives its parent. So the child's first act is to put `/dev/null` in the
//! place of each such descriptor. See `docs/safety.md`, "Forked children".
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Files of one process that may be locked at the same time.
const DESCRIPTORS_MAX: usize = 4096;
const FREE: i32 = -1;

static EPOCH: AtomicU64 = AtomicU64::new(0);
static DESCRIPTORS: [AtomicI32; DESCRIPTORS_MAX] =
    [const { AtomicI32::new(FREE) }; DESCRIPTORS_MAX];
/// One more than the highest place of `DESCRIPTORS` ever used.
static USED: AtomicU64 = AtomicU64::new(0);
static NULL: AtomicI32 = AtomicI32::new(FREE);

/// Number of forks between the process that was started and this one.
#[inline]
#[must_use]
pub fn epoch() -> u64 {
    EPOCH.load(Ordering::Acquire)
}

/// A descriptor that children do not keep.
#[derive(Debug)]
pub(crate) struct ParentsOnly {
    place: Option<usize>,
    epoch: u64,
}

impl ParentsOnly {
    /// Registers a descriptor for as long as the value lives.
    pub(crate) fn new(descriptor: RawFd) -> Self {
        install();
        let place = DESCRIPTORS.iter().position(|slot| {
            slot.compare_exchange(FREE, descriptor, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        if let Some(place) = place {
            USED.fetch_max(place as u64 + 1, Ordering::AcqRel);
        }
        Self { place, epoch: epoch() }
    }
}

impl Drop for ParentsOnly {
    fn drop(&mut self) {
        // In a child the place was given back when it was forked.
        if let Some(place) = self.place.filter(|_| self.epoch == epoch()) {
            DESCRIPTORS[place].store(FREE, Ordering::Release);
        }
    }
}

fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        if let Ok(file) = std::fs::File::open("/dev/null") {
            // Kept open for the life of the process.
            NULL.store(file.as_raw_fd(), Ordering::Release);
            std::mem::forget(file);
        }
        // SAFETY: the handler is a function without captures that lives as long as the process.
        let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        debug_assert_eq!(status, 0, "no memory for a handler");
    });
}

/// Runs in the child before `fork` returns: atomics and `dup3` only, both async-signal-safe.
extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::AcqRel);
    let null = NULL.load(Ordering::Acquire);
    let used = usize::try_from(USED.load(Ordering::Acquire)).unwrap_or(DESCRIPTORS_MAX);
    for slot in &DESCRIPTORS[..used.min(DESCRIPTORS_MAX)] {
        let descriptor = slot.swap(FREE, Ordering::AcqRel);
        if descriptor != FREE && null != FREE {
            // SAFETY: both numbers are open descriptors of this process; that of the lock stays
            // open, as a harmless one, until its owner is dropped.
            unsafe { libc::dup3(null, descriptor, libc::O_CLOEXEC) };
        }
    }
}
