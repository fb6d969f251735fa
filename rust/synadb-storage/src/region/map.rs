//! Raw access to mapped memory; see `docs/safety.md`, "Mapped memory".
#![allow(unsafe_code)]

use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// A mapping of a file, or of anonymous memory, that may reach beyond the file's end.
pub(super) struct Map {
    raw: MmapRaw,
}

impl Map {
    /// Maps `len` bytes of `file`, halved until the system grants it, at least `least`.
    pub(super) fn of_file(file: &File, len: u64, least: u64, write: bool) -> std::io::Result<Self> {
        let mut len = len;
        loop {
            let mut options = MmapOptions::new();
            options.len(len as usize).no_reserve_swap();
            let mapped =
                if write { options.map_raw(file) } else { options.map_raw_read_only(file) };
            match mapped {
                Ok(raw) => return Ok(Self { raw }),
                Err(_) if len / 2 >= least => len /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Zeroed anonymous memory.
    pub(super) fn anonymous(len: u64) -> std::io::Result<Self> {
        let map = MmapOptions::new().len(len as usize).no_reserve_swap().map_anon()?;
        Ok(Self { raw: map.into() })
    }

    pub(super) fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// The caller guarantees that the range is inside the file and published: it never changes.
    pub(super) fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64)?;
        if end > self.len() {
            return None;
        }
        // SAFETY: the range was checked against the map's length above; the map lives as long as
        // `self`. Callers bound it by the allocated space, so the pages exist. Bytes below the
        // published tail are never stored to again (format.md, "Publishing"), and callers look at
        // bytes above it only through `load` or while they hold the write lock.
        Some(unsafe { std::slice::from_raw_parts(self.raw.as_ptr().add(offset as usize), len) })
    }

    pub(super) fn store(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(end) = offset.checked_add(bytes.len() as u64) else { return false };
        if end > self.len() {
            return false;
        }
        // SAFETY: the range was checked; the caller holds the write lock and bounds the range by
        // the allocated space; `bytes` is a Rust slice and can't overlap unpublished map space.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.raw.as_mut_ptr().add(offset as usize),
                bytes.len(),
            );
        }
        true
    }

    fn word(&self, offset: u64) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.len() {
            return None;
        }
        // SAFETY: in range and aligned (maps are page-aligned); the words accessed so are only
        // ever accessed atomically while they can change.
        Some(unsafe { &*self.raw.as_ptr().add(offset as usize).cast::<AtomicU64>() })
    }

    pub(super) fn load(&self, offset: u64) -> Option<u64> {
        self.word(offset).map(|word| u64::from_le(word.load(Ordering::Acquire)))
    }

    pub(super) fn publish(&self, offset: u64, value: u64) -> bool {
        self.word(offset).map(|word| word.store(value.to_le(), Ordering::Release)).is_some()
    }

    /// Half a word that is only ever accessed as this half.
    pub(super) fn signal(&self, offset: u64) -> Option<&AtomicU32> {
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.len() {
            return None;
        }
        // SAFETY: in range and aligned; the callers name control words that no other access of
        // this library touches but as a half (format.md, "Page 1").
        Some(unsafe { &*self.raw.as_ptr().add(offset as usize).cast::<AtomicU32>() })
    }
}
