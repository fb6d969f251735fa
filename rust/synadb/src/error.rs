//! The one error type; each variant is one thing that the caller can do something about.

use std::fmt;
use std::path::PathBuf;

use synadb_storage::StorageError;
use synadb_types::limits::{FRAME_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
#[allow(missing_docs)] // The message of each variant says what its fields are.
pub enum Error {
    Closed,
    InvalidPath { path: PathBuf, reason: String },
    MissingDirectory { path: PathBuf },
    MissingDatabase { path: PathBuf },
    MissingAfterFork { path: PathBuf },
    PathIsDirectory { path: PathBuf },
    Exists { path: PathBuf },
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    DiskFull { path: PathBuf, action: &'static str },
    ReadOnly { path: PathBuf },
    NotADatabase { path: PathBuf, reason: String },
    Legacy { path: PathBuf, format: &'static str },
    UnsupportedFormat { path: PathBuf, reason: String },
    Corruption { path: PathBuf, offset: u64, key: Option<String>, reason: String },
    KeyNotFound { key: String },
    TypeMismatch { key: String, stored: &'static str, wanted: &'static str },
    EmptyKey,
    KeyTooLong { bytes: usize },
    ValueTooLarge { key: String, bytes: usize },
    BatchTooLarge { bytes: u64 },
    Locked { path: PathBuf, pid: u32 },
    Busy { path: PathBuf, what: &'static str },
    ConfigMismatch { table: String, stored: String, asked: String },
    Dimension { what: &'static str, got: usize, expected: usize },
    InvalidVector { what: String, reason: String },
    InvalidArgument { argument: &'static str, reason: String },
    Poisoned { path: PathBuf },
    Unsupported { what: String },
    Interrupted,
    Cancelled { what: &'static str },
    Conflict { key: String, expected: Option<u64>, now: Option<u64>, forgotten: Option<u64> },
}

impl Error {
    /// The stable code, as the original's error table has it where it has one.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.row().0
    }

    /// Name of the Python exception class.
    #[must_use]
    pub fn class(&self) -> &'static str {
        self.row().1
    }

    fn row(&self) -> (i32, &'static str) {
        match self {
            Self::Closed => (-1, "DatabaseClosedError"),
            Self::InvalidPath { .. } => (-2, "InvalidPathError"),
            Self::MissingDirectory { .. } => (-2, "MissingDirectoryError"),
            Self::MissingDatabase { .. } | Self::MissingAfterFork { .. } => {
                (-1, "DatabaseMissingError")
            }
            Self::PathIsDirectory { .. } => (-2, "PathIsDirectoryError"),
            Self::Exists { .. } => (-2, "DatabaseExistsError"),
            Self::Io { .. } => (-3, "StorageError"),
            Self::DiskFull { .. } => (-3, "DiskFullError"),
            Self::ReadOnly { .. } => (-3, "ReadOnlyError"),
            Self::NotADatabase { .. } => (-4, "NotADatabaseError"),
            Self::Legacy { .. } => (-4, "LegacyFormatError"),
            Self::UnsupportedFormat { .. } => (-4, "UnsupportedFormatError"),
            Self::Corruption { .. } => (-4, "CorruptionError"),
            Self::KeyNotFound { .. } => (-5, "KeyNotFoundError"),
            Self::TypeMismatch { .. } => (-6, "TypeMismatchError"),
            Self::EmptyKey => (-7, "EmptyKeyError"),
            Self::KeyTooLong { .. } => (-8, "KeyTooLongError"),
            Self::ValueTooLarge { .. } => (-9, "ValueTooLargeError"),
            Self::BatchTooLarge { .. } => (-9, "BatchTooLargeError"),
            Self::Locked { .. } | Self::Busy { .. } => (-10, "DatabaseLockedError"),
            Self::ConfigMismatch { .. } => (-11, "ConfigMismatchError"),
            Self::Dimension { .. } => (-12, "DimensionError"),
            Self::InvalidVector { .. } => (-13, "InvalidVectorError"),
            Self::InvalidArgument { .. } => (-14, "InvalidArgumentError"),
            Self::Poisoned { .. } => (-15, "PoisonedError"),
            Self::Unsupported { .. } => (-16, "UnsupportedError"),
            Self::Conflict { .. } => (-18, "ConflictError"),
            Self::Interrupted => (-17, "KeyboardInterrupt"),
            Self::Cancelled { .. } => (-19, "CancelledError"),
        }
    }

    /// Names the key of a damaged record.
    #[must_use]
    pub(crate) fn for_key(self, name: &[u8]) -> Self {
        match self {
            Self::Corruption { path, offset, key: None, reason } => {
                let key = Some(String::from_utf8_lossy(name).into_owned());
                Self::Corruption { path, offset, key, reason }
            }
            other => other,
        }
    }

    /// A failure of the file at `path`.
    pub(crate) fn storage(path: &std::path::Path, error: StorageError) -> Self {
        let path = path.to_owned();
        match error {
            StorageError::Io { action, source } => Self::Io { path, action, source },
            StorageError::DiskFull { action } => Self::DiskFull { path, action },
            StorageError::Corrupt { offset, reason } => {
                Self::Corruption { path, offset, key: None, reason }
            }
            StorageError::NotADatabase { reason } => Self::NotADatabase { path, reason },
            StorageError::Legacy { format } => Self::Legacy { path, format },
            StorageError::UnsupportedFormat { reason } => Self::UnsupportedFormat { path, reason },
            StorageError::Locked { pid } => Self::Locked { path, pid },
            StorageError::FrameTooLarge { bytes } => Self::BatchTooLarge { bytes },
            StorageError::ReadOnly => Self::ReadOnly { path },
            StorageError::Unsupported { what } => Self::Unsupported { what },
            StorageError::Interrupted => Self::Interrupted,
            other => Self::Unsupported { what: other.to_string() },
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "Database is closed"),
            Self::InvalidPath { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::MissingDirectory { path } => {
                write!(
                    f,
                    "Failed to open database: {}: its directory does not exist",
                    path.display()
                )
            }
            Self::MissingDatabase { path } => {
                write!(f, "Failed to open database: {}: there is no such file", path.display())
            }
            Self::MissingAfterFork { path } => write!(
                f,
                "{}: a forked child opens the file of its parent's handle anew by its path, and it \
                 is not there any more: it was moved, removed or replaced",
                path.display()
            ),
            Self::PathIsDirectory { path } => {
                write!(f, "Failed to open database: {}: it is a directory", path.display())
            }
            Self::Exists { path } => {
                write!(f, "{}: there is something already; nothing is overwritten", path.display())
            }
            Self::Io { path, action, source } => {
                write!(f, "{}: cannot {action}: {source}", path.display())
            }
            Self::DiskFull { path, action } => {
                write!(f, "{}: cannot {action}: no space left; nothing was changed", path.display())
            }
            Self::ReadOnly { path } => write!(f, "{}: opened for reading only", path.display()),
            Self::NotADatabase { path, reason } => {
                write!(f, "{}: not a synadb database: {reason}", path.display())
            }
            Self::Legacy { path, format } => write!(
                f,
                "{}: a file of the original synadb 1.x ({format}); the importer, `synadb \
                 import-legacy`, is to come",
                path.display()
            ),
            Self::UnsupportedFormat { path, reason } => {
                write!(f, "{}: this version cannot read the file: {reason}", path.display())
            }
            Self::Corruption { path, offset, key, reason } => {
                write!(f, "{}: corruption at offset {offset}", path.display())?;
                if let Some(key) = key {
                    write!(f, ", key {key:?}")?;
                }
                write!(f, ": {reason}")
            }
            other => other.explain_input(f),
        }
    }
}

impl Error {
    /// Messages about what the caller passed in, and about states of the handle.
    fn explain_input(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyNotFound { key } => write!(f, "Key not found: {key}"),
            Self::TypeMismatch { key, stored, wanted } => {
                write!(f, "Type mismatch: key {key:?} holds {stored}, not {wanted}")
            }
            Self::EmptyKey => {
                write!(f, "Empty key is not allowed: a key has 1 to {KEY_BYTES_MAX} bytes of UTF-8")
            }
            Self::KeyTooLong { bytes } => write!(
                f,
                "Key too long: it has {bytes} bytes of UTF-8, the limit is {KEY_BYTES_MAX}"
            ),
            Self::ValueTooLarge { key, bytes } => write!(
                f,
                "value of key {key:?} has {bytes} bytes, the limit is {}",
                VALUE_BYTES_MAX
            ),
            Self::BatchTooLarge { bytes } => write!(
                f,
                "the batch takes {bytes} bytes in the log, one commit holds at most {}",
                FRAME_BYTES_MAX
            ),
            Self::Locked { path, pid } if *pid == std::process::id() => write!(
                f,
                "{}: this process ({pid}) keeps the write lock, in a transaction that is still \
                 open or under another name of the file",
                path.display()
            ),
            Self::Locked { path, pid: 0 } => write!(
                f,
                "{}: opened for writing by a process that cannot be named from here",
                path.display()
            ),
            Self::Locked { path, pid } => {
                write!(f, "{}: opened for writing by process {pid}", path.display())
            }
            Self::Busy { path, what } => write!(f, "{}: being {what} already", path.display()),
            Self::ConfigMismatch { table, stored, asked } => {
                write!(f, "table {table:?} has {stored}, asked for {asked}")
            }
            Self::Dimension { what, got, expected } => {
                let verb = if what.ends_with('s') { "have" } else { "has" };
                write!(f, "{what} {verb} {got} dimensions, expected {expected}")
            }
            Self::InvalidVector { what, reason } => write!(f, "{what}: {reason}"),
            Self::InvalidArgument { argument, reason } => write!(f, "{argument}: {reason}"),
            Self::Poisoned { path } => write!(
                f,
                "{}: an earlier sync or commit failed; close every handle and open the file again",
                path.display()
            ),
            Self::Unsupported { what } => write!(f, "{what}"),
            Self::Conflict { key, forgotten: Some(forgotten), expected, .. } => write!(
                f,
                "key {key:?} has no value, and whether it was changed after commit {} is not \
                 known: what became of absent keys up to commit {forgotten} was compacted away",
                expected.unwrap_or(0)
            ),
            Self::Conflict { key, expected, now, .. } => conflict(f, key, *expected, *now),
            Self::Interrupted => write!(f, "interrupted while waiting for another process"),
            Self::Cancelled { what } => write!(f, "{what} was cancelled; it left nothing behind"),
            // The rest is explained in `fmt`.
            other => write!(f, "{}", other.class()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn conflict(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    expected: Option<u64>,
    now: Option<u64>,
) -> fmt::Result {
    match (expected, now) {
        (Some(expected), Some(now)) => {
            write!(f, "key {key:?} was changed by commit {now}, expected as of commit {expected}")
        }
        (Some(expected), None) => {
            write!(f, "key {key:?} has no value, expected the one of commit {expected}")
        }
        (None, now) => {
            write!(f, "key {key:?} has the value of commit {}, expected none", now.unwrap_or(0))
        }
    }
}
