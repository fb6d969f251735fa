//! Codes in memory of the index or in a mapped section: the same to whoever reads them.

use std::ops::Deref;
use std::sync::Arc;

use crate::SharedBytes;

/// Bytes that are never changed.
#[derive(Clone)]
pub(super) struct Bytes(SharedBytes);

impl Bytes {
    pub(super) fn shared(bytes: SharedBytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.len())
    }
}
