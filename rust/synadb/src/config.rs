//! How a database is opened.

use std::time::Duration;

/// The original's configuration; its three fields never grow, everything else is an `OpenOptions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbConfig {
    /// LZ4 for text and bytes larger than 64 bytes, where it makes them smaller.
    pub enable_compression: bool,
    /// Accepted for the original's users; histories are read bit for bit either way.
    pub enable_delta: bool,
    /// Whether a write returns only once it is on the medium.
    pub sync_on_write: bool,
}

impl Default for DbConfig {
    fn default() -> Self {
        Self { enable_compression: false, enable_delta: false, sync_on_write: true }
    }
}

/// Who else may have the file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// One process writes; a second writer is refused with the holder's process id.
    #[default]
    Exclusive,
    /// Never locks, sees committed data, moves on at `refresh()`.
    ReadOnly,
}

/// What a returned write has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// It is on the medium; concurrent writers share one sync.
    #[default]
    Sync,
    /// It survives the death of the process, and of the machine after the next sync.
    Process,
}

/// Everything that can be said when a database is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    pub(crate) access: Access,
    pub(crate) durability: Durability,
    pub(crate) lock_timeout: Duration,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) compression: bool,
    pub(crate) create: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Exclusive, synced, created where missing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            access: Access::Exclusive,
            durability: Durability::Sync,
            lock_timeout: Duration::ZERO,
            checkpoint_bytes: 256 << 20,
            compression: false,
            create: true,
        }
    }

    /// Who else may have the file open.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// What a returned write has survived; belongs to the handle.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long to wait for another writer to close the file.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Bytes of frames after which a checkpoint is written, the least of all handles counting.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }

    /// LZ4 for text and bytes larger than 64 bytes, where it makes them smaller.
    #[must_use]
    pub fn compression(mut self, compression: bool) -> Self {
        self.compression = compression;
        self
    }

    /// Whether a missing file is created.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }
}

impl From<DbConfig> for OpenOptions {
    fn from(config: DbConfig) -> Self {
        let durability = if config.sync_on_write { Durability::Sync } else { Durability::Process };
        Self::new().durability(durability).compression(config.enable_compression)
    }
}
