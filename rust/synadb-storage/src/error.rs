//! What can go wrong below the engine.

use std::io;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, StorageError>;

/// A failure of the file or of its content.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused; `action` says what was tried.
    Io {
        /// What was tried, for example "grow the log".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The medium is full; nothing was changed.
    DiskFull {
        /// What was tried.
        action: &'static str,
    },
    /// Bytes that were vouched for do not hold what was written.
    Corrupt {
        /// Where the damage begins, in bytes from the start of the file.
        offset: u64,
        /// What does not fit.
        reason: String,
    },
    /// The file is not a database of ours.
    NotADatabase {
        /// What its first bytes look like.
        reason: String,
    },
    /// The file is a database of the original's format.
    Legacy {
        /// Which of the original's formats.
        format: &'static str,
    },
    /// Another version of synadb wrote the file, a newer or an unreleased one.
    UnsupportedFormat {
        /// Which one, and what this version does not know.
        reason: String,
    },
    /// Another process has the file open, or writes and does not let go.
    Locked {
        /// Process id of the one that is waited for, 0 where unknown.
        pid: u32,
    },
    /// The caller asked to stop waiting.
    Interrupted,
    /// What was asked for cannot be had here.
    Unsupported {
        /// What, and why.
        what: String,
    },
    /// The commit does not fit into one frame.
    FrameTooLarge {
        /// Bytes of the frame that was asked for.
        bytes: u64,
    },
    /// The region cannot be written.
    ReadOnly,
}

impl StorageError {
    pub(crate) fn io(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::DiskFull { action },
            _ => Self::Io { action, source },
        }
    }

    pub(crate) fn errno(action: &'static str, errno: rustix::io::Errno) -> Self {
        Self::io(action, errno.into())
    }

    /// Damage at `offset`.
    pub fn corrupt(offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { offset, reason: reason.into() }
    }
}

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { action, source } => write!(f, "cannot {action}: {source}"),
            Self::DiskFull { action } => write!(f, "cannot {action}: no space left on the device"),
            Self::Corrupt { offset, reason } => {
                write!(f, "corruption at offset {offset}: {reason}")
            }
            Self::NotADatabase { reason } => write!(f, "not a synadb database: {reason}"),
            Self::Legacy { format } => write!(
                f,
                "a file of the original synadb ({format}); `synadb import-legacy`, which is to \
                 come, will read it"
            ),
            Self::UnsupportedFormat { reason } => write!(f, "unsupported format: {reason}"),
            Self::Locked { pid: 0 } => f.write_str("locked by a process that cannot be named"),
            Self::Locked { pid } => write!(f, "locked by process {pid}"),
            Self::FrameTooLarge { bytes } => {
                write!(f, "a commit of {bytes} bytes exceeds the limit of one frame")
            }
            Self::Interrupted => write!(f, "interrupted while waiting for another process"),
            Self::Unsupported { what } => write!(f, "{what}"),
            Self::ReadOnly => write!(f, "opened for reading only"),
        }
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
