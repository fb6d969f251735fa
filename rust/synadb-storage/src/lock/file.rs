//! Open-file-description locks on byte ranges behind any log; see `docs/safety.md`, "Locks".
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use super::{LockKind, Locks};
use crate::fork::ParentsOnly;
use crate::{Result, StorageError};

const BASE: i64 = 1 << 62;

/// Bytes behind any log, one a lock.
fn place(kind: LockKind) -> i64 {
    BASE + match kind {
        LockKind::Write => 0,
        LockKind::Queue => 1,
        LockKind::Open => 2,
        LockKind::Registration => 3,
        LockKind::Sync => 4,
        LockKind::Checkpoint => 5,
        LockKind::Compaction => 6,
        LockKind::Building => 7,
    }
}

/// Locks of one open file description, which must never be mapped: a map would pin them.
#[derive(Debug)]
pub struct FileLocks {
    /// A child would keep the locks alive. Dropped before the descriptor that it names.
    _not_in_children: ParentsOnly,
    file: File,
}

impl FileLocks {
    /// Locks through `file`, opened for this purpose alone.
    #[must_use]
    pub fn new(file: File) -> Self {
        let _not_in_children = ParentsOnly::new(file.as_raw_fd());
        Self { _not_in_children, file }
    }

    /// The descriptor, to compare its inode with the path's.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    fn set(&self, kind: LockKind, lock_type: i32) -> Result<bool> {
        let range = range(kind, lock_type);
        loop {
            // SAFETY: `range` is a valid flock structure that outlives the call.
            let result = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_SETLK, &range) };
            if result != -1 {
                return Ok(true);
            }
            let error = std::io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::EACCES) => return Ok(false),
                _ => return Err(StorageError::io("lock the file", error)),
            }
        }
    }
}

impl Locks for FileLocks {
    fn try_exclusive(&self, kind: LockKind) -> Result<bool> {
        self.set(kind, libc::F_WRLCK)
    }

    fn try_shared(&self, kind: LockKind) -> Result<bool> {
        self.set(kind, libc::F_RDLCK)
    }

    fn unlock(&self, kind: LockKind) -> Result<()> {
        self.set(kind, libc::F_UNLCK).map(|_| ())
    }

    fn is_held_elsewhere(&self, kind: LockKind) -> Result<bool> {
        let mut range = range(kind, libc::F_WRLCK);
        // SAFETY: `range` is a valid flock structure that outlives the call.
        let result = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_GETLK, &mut range) };
        if result == -1 {
            return Err(StorageError::io("ask for a lock", std::io::Error::last_os_error()));
        }
        Ok(i32::from(range.l_type) != libc::F_UNLCK)
    }
}

fn range(kind: LockKind, lock_type: i32) -> libc::flock {
    libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place(kind),
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_description_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let open = || FileLocks::new(file.reopen().expect("reopened"));
        let (first, second) = (open(), open());
        assert!(first.try_exclusive(LockKind::Registration).expect("locked"));
        assert!(!second.try_exclusive(LockKind::Registration).expect("asked"));
        assert!(second.is_held_elsewhere(LockKind::Registration).expect("asked"));
        assert!(second.try_exclusive(LockKind::Open).expect("another range"));
        drop(first);
        assert!(second.try_exclusive(LockKind::Registration).expect("free again"));
    }

    #[test]
    fn shared_and_exclusive_turn_into_each_other() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let open = || FileLocks::new(file.reopen().expect("reopened"));
        let (first, second) = (open(), open());
        let kind = LockKind::Registration;
        assert!(first.try_exclusive(kind).expect("free"));
        assert!(!second.try_shared(kind).expect("asked"));
        assert!(first.try_shared(kind).expect("its own"));
        assert!(second.try_shared(kind).expect("beside"));
        assert!(!first.try_exclusive(kind).expect("asked"));
        assert!(first.is_held_elsewhere(kind).expect("asked"), "a refusal loses nothing");
        second.unlock(kind).expect("given back");
        assert!(first.try_exclusive(kind).expect("alone again"));
    }
}
