//! A region in a file: small stores through a shared map, large ones by `pwrite`.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::{Errno, retry_on_intr};

use super::{Joined, Region, map::Map};
use crate::{Result, StorageError};

const MAP_BYTES_LEAST: u64 = 64 << 30;
/// Stores of this size and more go by `pwrite`, which beats faulting fresh pages of a map.
const PWRITE_BYTES_MIN: usize = 4096;
/// Each map is at least twice the one before: this many reach any file.
const MAPS_MAX: usize = 32;

/// A file, mapped with room to grow.
pub struct DiskRegion {
    file: File,
    write: bool,
    len: AtomicU64,
    /// Old maps stay until the region is dropped: slices of them may be in use.
    maps: [OnceLock<Map>; MAPS_MAX],
    newest_map: AtomicUsize,
}

impl DiskRegion {
    /// Maps `file`; `write` says whether it may be changed.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(file: File, write: bool) -> Result<Self> {
        let len = file.metadata().map_err(|e| StorageError::io("read the file's size", e))?.len();
        let region = Self {
            file,
            write,
            len: AtomicU64::new(len),
            maps: std::array::from_fn(|_| OnceLock::new()),
            newest_map: AtomicUsize::new(0),
        };
        let map = region.new_map(len.saturating_mul(4).max(MAP_BYTES_LEAST), len)?;
        let _ = region.maps[0].set(map);
        Ok(region)
    }

    fn new_map(&self, bytes: u64, least: u64) -> Result<Map> {
        let least = least.max(1 << 20);
        Map::of_file(&self.file, bytes, least, self.write)
            .map_err(|e| StorageError::io("map the log", e))
    }

    fn map(&self) -> &Map {
        self.maps[self.newest_map.load(Ordering::Acquire)]
            .get()
            .expect("the newest map was set before its number")
    }

    /// Announces a file length; the map covers it before the length is visible.
    fn announce(&self, len: u64) -> Result<()> {
        while self.map().len() < len {
            let number = self.newest_map.load(Ordering::Acquire) + 1;
            let slot = self.maps.get(number).ok_or(StorageError::DiskFull { action: "map" })?;
            let wanted = (self.map().len() * 2).max(len);
            let map = self.new_map(wanted, len)?;
            let _ = slot.set(map);
            self.newest_map.store(number, Ordering::Release);
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn writable(&self) -> Result<()> {
        if self.write { Ok(()) } else { Err(StorageError::ReadOnly) }
    }

    /// The file behind the region.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Region for DiskRegion {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    #[inline]
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (offset.checked_add(len as u64)? <= self.len()).then(|| self.map().slice(offset, len))?
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => super::beyond(offset),
            _ => StorageError::io("read the log", error),
        })
    }

    fn join(&self, ranges: &[Range<u64>]) -> Result<Option<Joined>> {
        if ranges.iter().any(|range| range.start > range.end || range.end > self.len()) {
            return Ok(None);
        }
        Joined::of(&self.file, ranges)
    }

    #[inline]
    fn load(&self, offset: u64) -> Option<u64> {
        (offset.checked_add(8)? <= self.len()).then(|| self.map().load(offset))?
    }

    fn store(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.writable()?;
        if bytes.len() < PWRITE_BYTES_MIN {
            if offset + bytes.len() as u64 <= self.len() && self.map().store(offset, bytes) {
                return Ok(());
            }
            return Err(StorageError::corrupt(offset, "a store behind the allocated space"));
        }
        self.file.write_all_at(bytes, offset).map_err(|e| StorageError::io("write the log", e))
    }

    fn publish(&self, offset: u64, word: u64) -> Result<()> {
        self.writable()?;
        if offset + 8 <= self.len() && self.map().publish(offset, word) {
            return Ok(());
        }
        Err(StorageError::corrupt(offset, "a word behind the allocated space"))
    }

    fn hint(&self, offset: u64, word: u64) {
        if offset + 8 <= self.len() {
            self.map().publish(offset, word);
        }
    }

    fn signal(&self, offset: u64) -> Option<&AtomicU32> {
        (offset.checked_add(8)? <= self.len()).then(|| self.map().signal(offset))?
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.writable()?;
        let have = self.len();
        if len <= have {
            return Ok(());
        }
        let grown =
            retry_on_intr(|| fallocate(&self.file, FallocateFlags::empty(), have, len - have));
        match grown {
            Ok(()) => self.announce(len),
            Err(Errno::OPNOTSUPP) => {
                // No real allocation here: written zeros are what comes nearest.
                self.write_zeros(have, len - have)?;
                self.announce(len)
            }
            // A failed call may have grown the file; the length announced stays as it was,
            // and the next attempt allocates from there again.
            Err(errno) => Err(StorageError::errno("grow the log", errno)),
        }
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        self.writable()?;
        let zeroed =
            retry_on_intr(|| fallocate(&self.file, FallocateFlags::ZERO_RANGE, offset, len));
        match zeroed {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => self.write_zeros(offset, len),
            Err(errno) => Err(StorageError::errno("zero what was cut", errno)),
        }
    }

    fn trim(&self, len: u64) -> Result<()> {
        self.writable()?;
        self.len.store(len.min(self.len()), Ordering::Release);
        self.file.set_len(len).map_err(|e| StorageError::io("trim the log", e))
    }

    fn sync(&self) -> Result<()> {
        // A signal is no failure of the medium, and must not poison the file.
        retry_on_intr(|| fdatasync(&self.file))
            .map_err(|errno| StorageError::errno("sync the log", errno))
    }

    fn refresh(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        let len = metadata.map_err(|e| StorageError::io("read the file's size", e))?.len();
        self.announce(len)?;
        Ok(len)
    }

    fn kind(&self) -> &'static str {
        "disk"
    }
}

impl DiskRegion {
    fn write_zeros(&self, offset: u64, len: u64) -> Result<()> {
        let zeros = vec![0; (1 << 20).min(len as usize)];
        let mut at = offset;
        while at < offset + len {
            let step = (offset + len - at).min(zeros.len() as u64) as usize;
            let written = self.file.write_all_at(&zeros[..step], at);
            written.map_err(|e| StorageError::io("zero the log", e))?;
            at += step as u64;
        }
        Ok(())
    }
}
