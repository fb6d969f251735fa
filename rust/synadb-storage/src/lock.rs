//! Open-file-description locks on byte ranges behind any log; see `docs/safety.md`, "Locks".
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::{Result, StorageError};

const BASE: i64 = 1 << 62;

/// What a lock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Held while a file is opened for writing, recovered or trimmed.
    Open,
    /// Held by every writing process as long as it has the file open.
    Registration,
    /// Held while a checkpoint is written.
    Checkpoint,
}

impl LockKind {
    fn start(self) -> i64 {
        BASE + match self {
            Self::Open => 2,
            Self::Registration => 3,
            Self::Checkpoint => 5,
        }
    }
}

/// Locks of one open file description, which must never be mapped: a map would pin them.
#[derive(Debug)]
pub struct LockFile {
    file: File,
}

impl LockFile {
    /// Locks through `file`, opened for this purpose alone.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// The descriptor, to compare its inode with the path's.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes a lock if nobody else holds it.
    ///
    /// # Errors
    /// `Io` where the file system has no such locks.
    pub fn try_exclusive(&self, kind: LockKind) -> Result<bool> {
        self.set(kind, libc::F_WRLCK)
    }

    /// Gives a lock back.
    ///
    /// # Errors
    /// `Io`.
    pub fn unlock(&self, kind: LockKind) -> Result<()> {
        self.set(kind, libc::F_UNLCK).map(|_| ())
    }

    /// Whether some other descriptor holds the lock.
    ///
    /// # Errors
    /// `Io`.
    pub fn is_held_elsewhere(&self, kind: LockKind) -> Result<bool> {
        let mut range = range(kind, libc::F_WRLCK);
        // SAFETY: `range` is a valid flock structure that outlives the call.
        let result = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_GETLK, &mut range) };
        if result == -1 {
            return Err(StorageError::io("ask for a lock", std::io::Error::last_os_error()));
        }
        Ok(i32::from(range.l_type) != libc::F_UNLCK)
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

fn range(kind: LockKind, lock_type: i32) -> libc::flock {
    libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: kind.start(),
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
        let open = || LockFile::new(file.reopen().expect("reopened"));
        let (first, second) = (open(), open());
        assert!(first.try_exclusive(LockKind::Registration).expect("locked"));
        assert!(!second.try_exclusive(LockKind::Registration).expect("asked"));
        assert!(second.is_held_elsewhere(LockKind::Registration).expect("asked"));
        assert!(second.try_exclusive(LockKind::Open).expect("another range"));
        drop(first);
        assert!(second.try_exclusive(LockKind::Registration).expect("free again"));
    }
}
