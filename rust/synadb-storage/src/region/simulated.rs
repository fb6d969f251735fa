//! A region of a simulated file: every change is logged, may fail, and may be lost in a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Region, map::Map};
use crate::simulation::{Event, Image, Medium, Operation, PAGE_BYTES, Process, Verdict};
use crate::{Result, StorageError};

/// The largest simulated file: address space, of which only what is touched is taken.
const CAPACITY: u64 = 256 << 20;

/// What all who have the file open see.
pub(crate) struct SimulatedFile {
    map: Map,
    len: AtomicU64,
}

impl SimulatedFile {
    /// A file with that content.
    pub fn holding(image: &Image) -> Result<Self> {
        let map = Map::anonymous(CAPACITY).map_err(|e| StorageError::io("reserve memory", e))?;
        for (offset, page) in image.pages() {
            map.store(offset, page);
        }
        Ok(Self { map, len: AtomicU64::new(image.len) })
    }

    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn zero(&self, offset: u64, end: u64) {
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        let mut at = offset;
        while at < end {
            let step = (PAGE_BYTES as u64 - at % PAGE_BYTES as u64).min(end - at) as usize;
            let is_zero = self.map.slice(at, step).is_none_or(|page| page == &ZEROS[..step]);
            if !is_zero {
                self.map.store(at, &ZEROS[..step]);
            }
            at += step as u64;
        }
    }
}

/// A simulated file, opened by a process.
pub struct SimulatedRegion {
    medium: Arc<Medium>,
    process: Arc<Process>,
    file: Arc<SimulatedFile>,
    number: usize,
    write: bool,
    /// The length that this one knows of, as a map of a file has it.
    len: AtomicU64,
}

impl SimulatedRegion {
    pub(crate) fn open(
        medium: &Arc<Medium>,
        process: &Arc<Process>,
        number: usize,
        file: Arc<SimulatedFile>,
        write: bool,
    ) -> Self {
        let len = AtomicU64::new(file.len());
        let (medium, process) = (Arc::clone(medium), Arc::clone(process));
        Self { medium, process, file, number, write, len }
    }

    /// Asks whether a change may go on.
    fn attempt(&self, operation: Operation, action: &'static str) -> Result<Verdict> {
        if !self.write {
            return Err(StorageError::ReadOnly);
        }
        self.process.attempt(operation, action)
    }

    /// Whether the range lies in the space that is known of, and a disk would have it too.
    fn covers(&self, offset: u64, len: u64) -> bool {
        let Some(end) = offset.checked_add(len) else { return false };
        if end > self.len() {
            return false;
        }
        let exists = end <= self.file.len().next_multiple_of(PAGE_BYTES as u64);
        if !exists {
            self.medium.stray();
        }
        exists
    }

    fn outside(&self, offset: u64) -> StorageError {
        self.medium.stray();
        StorageError::corrupt(offset, "a store behind the allocated space")
    }
}

impl Region for SimulatedRegion {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.covers(offset, len as u64).then(|| self.file.map.slice(offset, len))?
    }

    fn load(&self, offset: u64) -> Option<u64> {
        self.covers(offset, 8).then(|| self.file.map.load(offset))?
    }

    fn store(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let verdict = self.attempt(Operation::Store, "write the log")?;
        let bytes = match verdict {
            Verdict::Go => bytes,
            Verdict::Short => &bytes[..bytes.len() / 2],
            Verdict::Lie => return Ok(()),
        };
        let mut state = self.medium.lock();
        if !self.covers(offset, bytes.len() as u64) || !self.file.map.store(offset, bytes) {
            return Err(self.outside(offset));
        }
        state.log_store(self.number, offset, bytes);
        if verdict == Verdict::Short {
            return Err(StorageError::DiskFull { action: "write the log" });
        }
        Ok(())
    }

    fn publish(&self, offset: u64, word: u64) -> Result<()> {
        if self.attempt(Operation::Publish, "publish in the log")? == Verdict::Lie {
            return Ok(());
        }
        let mut state = self.medium.lock();
        if !self.covers(offset, 8) || !self.file.map.publish(offset, word) {
            return Err(self.outside(offset));
        }
        state.log_store(self.number, offset, &word.to_le_bytes());
        Ok(())
    }

    fn hint(&self, offset: u64, word: u64) {
        if self.process.is_alive() && self.covers(offset, 8) {
            self.file.map.publish(offset, word);
        }
    }

    fn signal(&self, offset: u64) -> Option<&AtomicU32> {
        self.covers(offset, 8).then(|| self.file.map.signal(offset))?
    }

    fn allocate(&self, len: u64) -> Result<()> {
        let have = self.len();
        if len <= have && self.write {
            return Ok(());
        }
        let verdict = self.attempt(Operation::Allocate, "grow the log")?;
        if len > CAPACITY {
            return Err(StorageError::DiskFull { action: "grow the log" });
        }
        let half = have + (len - have) / 2;
        let reached = match verdict {
            Verdict::Go => len,
            Verdict::Short => half.next_multiple_of(PAGE_BYTES as u64).min(len),
            Verdict::Lie => return Ok(()),
        };
        let mut state = self.medium.lock();
        if reached > self.file.len() {
            self.file.len.store(reached, Ordering::Release);
            state.log.push(Event::Length { file: self.number, len: reached });
        }
        if verdict == Verdict::Short {
            return Err(StorageError::DiskFull { action: "grow the log" });
        }
        drop(state);
        self.process.attempt(Operation::Map, "map the log")?;
        self.len.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        if self.attempt(Operation::Zero, "zero what was cut")? == Verdict::Lie {
            return Ok(());
        }
        let mut state = self.medium.lock();
        if !self.covers(offset, len) {
            return Err(self.outside(offset));
        }
        self.file.zero(offset, offset + len);
        state.log.push(Event::Zero { file: self.number, offset, len });
        Ok(())
    }

    fn trim(&self, len: u64) -> Result<()> {
        if self.attempt(Operation::Trim, "trim the log")? == Verdict::Lie {
            return Ok(());
        }
        let mut state = self.medium.lock();
        self.file.zero(len, self.file.len().max(len));
        self.file.len.store(len, Ordering::Release);
        self.len.fetch_min(len, Ordering::AcqRel);
        state.log.push(Event::Length { file: self.number, len });
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        match self.process.attempt(Operation::Sync, "sync the log") {
            Ok(Verdict::Lie) => Ok(()),
            Ok(_) => {
                self.medium.lock().log.push(Event::Sync { file: self.number });
                Ok(())
            }
            Err(error) => {
                if self.process.is_alive() {
                    self.medium.lock().log.push(Event::SyncFailed { file: self.number });
                }
                Err(error)
            }
        }
    }

    fn refresh(&self) -> Result<u64> {
        let len = self.file.len();
        if len > self.len() {
            self.process.attempt(Operation::Map, "map the log")?;
        }
        self.len.store(len, Ordering::Release);
        Ok(len)
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }
}
