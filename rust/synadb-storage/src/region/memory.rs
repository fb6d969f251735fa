//! A region in anonymous memory, for tests and databases without a file.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Region, map::Map};
use crate::{Result, StorageError};

/// Anonymous memory of a fixed capacity; pages are taken as they are touched.
pub struct MemoryRegion {
    map: Map,
    len: AtomicU64,
}

impl MemoryRegion {
    /// A region that can grow to `capacity` bytes.
    ///
    /// # Errors
    /// `Io` where the system refuses the address space.
    pub fn with_capacity(capacity: u64) -> Result<Self> {
        let map = Map::anonymous(capacity).map_err(|e| StorageError::io("reserve memory", e))?;
        Ok(Self { map, len: AtomicU64::new(0) })
    }
}

impl Region for MemoryRegion {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        (offset.checked_add(len as u64)? <= self.len()).then(|| self.map.slice(offset, len))?
    }

    fn load(&self, offset: u64) -> Option<u64> {
        (offset.checked_add(8)? <= self.len()).then(|| self.map.load(offset))?
    }

    fn store(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if offset + bytes.len() as u64 > self.len() || !self.map.store(offset, bytes) {
            return Err(StorageError::DiskFull { action: "store in memory" });
        }
        Ok(())
    }

    fn publish(&self, offset: u64, word: u64) -> Result<()> {
        if self.map.publish(offset, word) {
            return Ok(());
        }
        Err(StorageError::corrupt(offset, "a word outside of the region"))
    }

    fn hint(&self, offset: u64, word: u64) {
        if offset + 8 <= self.len() {
            self.map.publish(offset, word);
        }
    }

    fn signal(&self, offset: u64) -> Option<&AtomicU32> {
        (offset.checked_add(8)? <= self.len()).then(|| self.map.signal(offset))?
    }

    fn allocate(&self, len: u64) -> Result<()> {
        if len > self.map.len() {
            return Err(StorageError::DiskFull { action: "grow the region in memory" });
        }
        self.len.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let zeros = [0; 4096];
        let end = (offset + len).min(self.len());
        let mut at = offset;
        while at < end {
            let step = (end - at).min(zeros.len() as u64);
            self.store(at, &zeros[..step as usize])?;
            at += step;
        }
        Ok(())
    }

    fn trim(&self, len: u64) -> Result<()> {
        self.len.fetch_min(len, Ordering::AcqRel);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn refresh(&self) -> Result<u64> {
        Ok(self.len())
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}
